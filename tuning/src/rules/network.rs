//! Interfaces and what stands before them. None of it is in the way of a run over loopback, so nothing here matters to
//! one, but the firewall's table when it is about to run over.

use crate::cores::CoreSet;
use crate::demand::Demand;
use crate::facts::{Facts, Interface};
use crate::finding::{Findings, Knob, Severity};

/// Whether the firewall keeps a record of each peer.
pub(super) fn conntrack(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let Some(table) = facts.network.conntrack else {
        // Not loaded; or nothing of the network was to be read, which other rules tell.
        if !facts.network.interfaces.is_empty() {
            findings.add(CONNTRACK.ok("not loaded"));
        }
        return;
    };
    let max = table
        .max
        .map_or_else(|| "?".to_owned(), |max| max.to_string());
    let value = format!("{} of {max} connections", table.count);
    let is_nearly_full = table.max.is_some_and(|max| table.count > max / 5 * 4);
    let fix = "nft add table inet binrush; \
               nft add chain inet binrush raw '{ type filter hook prerouting priority raw; }'; \
               nft add rule inet binrush raw udp dport 5566 notrack";
    findings.add(match (table.count, is_nearly_full) {
        // Loaded, but no rule asks for it.
        (0, _) => CONNTRACK.ok(value),
        (_, false) => CONNTRACK.note(value, fix),
        (_, true) => CONNTRACK.matters(value, fix),
    });
}

/// Whether all packets of an interface come to one core.
pub(super) fn queues(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let online = facts.cpu.online.clone().unwrap_or_default();
    for (name, interface) in in_use(facts) {
        let path = format!("/sys/class/net/{name}/queues/rx-*/rps_cpus");
        let spread = interface
            .rx_queues
            .iter()
            .filter(|cores| !cores.is_empty())
            .count();
        let queues = interface.rx_queues.len();
        let value = format!(
            "{queues} receive queues, {spread} of them spread, {} cores online",
            online.len()
        );
        let is_bound = queues == 1 && spread == 0 && online.len() > 1;
        let severity = if is_bound {
            Severity::Note
        } else {
            Severity::Ok
        };
        let fix = format!(
            "echo {} > /sys/class/net/{name}/queues/rx-0/rps_cpus",
            online.to_mask()
        );
        findings.add(QUEUES.finding(severity, value, &path, fix).about(name));
    }
}

/// Whether the interrupts of several queues come to one core.
pub(super) fn interrupts(facts: &Facts, _: &Demand, findings: &mut Findings) {
    for (name, interface) in in_use(facts) {
        let seen = interface.irqs.iter().filter(|irq| irq.count > 0);
        let seen: Vec<_> = seen
            .filter_map(|irq| Some((irq.number, irq.cores.as_ref()?)))
            .collect();
        let Some((number, first)) = seen.first() else {
            continue;
        };
        let cores: CoreSet = seen.iter().flat_map(|(_, cores)| cores.iter()).collect();
        let is_one =
            seen.len() > 1 && first.len() == 1 && seen.iter().all(|(_, cores)| cores == first);
        let several = interface.rx_queues.len() > 1;
        let value = format!("{} in use, on cores {cores}", seen.len());
        let severity = if is_one && several {
            Severity::Note
        } else {
            Severity::Ok
        };
        let fix = format!(
            "systemctl start irqbalance    # or by hand: echo CORE > /proc/irq/{number}/smp_affinity_list"
        );
        findings.add(
            INTERRUPTS
                .finding(severity, value, "/proc/interrupts, /proc/irq", fix)
                .about(name),
        );
    }
}

/// Whether packets land in the memory of the cores that read them.
pub(super) fn memory_nodes(facts: &Facts, _: &Demand, findings: &mut Findings) {
    if facts.cpu.nodes.len() < 2 {
        return;
    }
    let allowed = facts.cpu.allowed.clone().unwrap_or_default();
    for (name, interface) in in_use(facts) {
        // -1: it belongs to none.
        let node = interface
            .numa_node
            .and_then(|node| u32::try_from(node).ok());
        let Some((node, near)) = node.and_then(|node| Some((node, facts.cpu.nodes.get(&node)?)))
        else {
            continue;
        };
        let value = format!("node {node} with cores {near}, {allowed} allowed");
        let is_far = allowed.and(near).is_empty();
        let severity = if is_far { Severity::Note } else { Severity::Ok };
        let path = format!("/sys/class/net/{name}/device/numa_node");
        let fix = format!("taskset -c {near} COMMAND");
        findings.add(
            MEMORY_NODES
                .finding(severity, value, &path, fix)
                .about(name),
        );
    }
}

/// Who takes in what goes over loopback.
pub(super) fn loopback(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let Some(loopback) = facts.network.interfaces.get("lo") else {
        return;
    };
    let cores: CoreSet = loopback.rx_queues.iter().flat_map(CoreSet::iter).collect();
    findings.add(if cores.is_empty() {
        LOOPBACK.ok("where the sender runs")
    } else {
        LOOPBACK.note(
            format!("cores {cores}"),
            "echo 0 > /sys/class/net/lo/queues/rx-0/rps_cpus",
        )
    });
}

fn in_use(facts: &Facts) -> impl Iterator<Item = (&str, &Interface)> {
    let interfaces = facts.network.interfaces.iter();
    interfaces
        .filter(|(_, interface)| interface.is_in_use())
        .map(|(name, interface)| (name.as_str(), interface))
}

static CONNTRACK: Knob = Knob {
    id: "conntrack",
    subject: "connection tracking",
    path: "/proc/sys/net/netfilter/nf_conntrack_count, nf_conntrack_max",
    why: "the firewall looks each packet up in a table, and drops those of new peers when it is full",
    risk: "rules that ask for the state of a connection no longer see these packets; the port is an example",
};

static QUEUES: Knob = Knob {
    id: "receive_queues",
    subject: "receive queues",
    path: "/sys/class/net/*/queues",
    why: "one core takes in all that comes by this interface, and is the limit of what the host can receive",
    risk: "packets cross from core to core, which costs an interrupt each time the other one sleeps",
};

static INTERRUPTS: Knob = Knob {
    id: "interrupts",
    subject: "interrupts",
    path: "/proc/interrupts, /proc/irq",
    why: "several queues are of no use when one core serves them all",
    risk: "cores that were kept free of interrupts may get some",
};

static MEMORY_NODES: Knob = Knob {
    id: "memory_node",
    subject: "memory node",
    path: "/sys/class/net/*/device/numa_node",
    why: "packets land in the memory of the interface's node, and cores of the other read them from afar",
    risk: "all that runs there shares the cores of that node",
};

static LOOPBACK: Knob = Knob {
    id: "loopback_rps",
    subject: "cores for loopback",
    path: "/sys/class/net/lo/queues/rx-*/rps_cpus",
    why: "these cores, and not the sender's, carry packets from loopback to the socket: other figures for both sides than on a host without the setting",
    risk: "none: it is the default",
};

#[cfg(test)]
mod tests {
    use crate::Severity::{Matters, Note, Ok};
    use crate::fixture::Fixture;

    #[test]
    fn a_firewall_that_keeps_records_is_noted_and_matters_when_it_runs_full() {
        let host = Fixture::fit();
        host.expect("conntrack", Ok, "not loaded");
        host.write("/proc/sys/net/netfilter/nf_conntrack_max", "1000\n");
        for (count, severity) in [("0", Ok), ("800", Note), ("801", Matters)] {
            host.write("/proc/sys/net/netfilter/nf_conntrack_count", count);
            host.expect("conntrack", severity, &format!("{count} of 1000"));
        }
    }

    #[test]
    fn a_single_queue_that_nobody_spreads_is_noted() {
        let host = Fixture::fit();
        host.expect("receive_queues", Ok, "2 receive queues");
        host.remove("/sys/class/net/eth0/queues/rx-1/rps_cpus");
        std::fs::remove_dir(host.path().join("sys/class/net/eth0/queues/rx-1")).unwrap();
        let finding = host.expect(
            "receive_queues",
            Note,
            "1 receive queues, 0 of them spread, 2 cores online",
        );
        assert_eq!(
            finding.fix,
            "echo 3 > /sys/class/net/eth0/queues/rx-0/rps_cpus"
        );
        assert_eq!(finding.subject, "receive queues of eth0");
        host.write("/sys/class/net/eth0/queues/rx-0/rps_cpus", "3\n");
        host.expect("receive_queues", Ok, "1 of them spread");
    }

    #[test]
    fn interrupts_of_several_queues_on_one_core_are_noted() {
        let host = Fixture::fit();
        host.expect("interrupts", Ok, "2 in use, on cores 0-1");
        host.write("/proc/irq/41/effective_affinity_list", "0\n");
        let finding = host.expect("interrupts", Note, "2 in use, on cores 0");
        assert!(finding.fix.contains("/proc/irq/41/"), "{finding:?}");
    }

    #[test]
    fn an_interface_that_is_down_or_made_up_is_nobodys_business() {
        let host = Fixture::fit();
        host.write("/sys/class/net/eth0/operstate", "down\n");
        assert!(
            host.check()
                .findings
                .iter()
                .all(|finding| finding.id != "receive_queues")
        );
    }

    #[test]
    fn memory_of_another_node_is_noted() {
        let host = Fixture::fit();
        host.write("/sys/devices/system/node/node1/cpulist", "2-3\n");
        host.write("/sys/class/net/eth0/device/numa_node", "0\n");
        host.expect("memory_node", Ok, "node 0 with cores 0-1");
        host.write("/sys/class/net/eth0/device/numa_node", "1\n");
        host.expect("memory_node", Note, "node 1 with cores 2-3, 0-1 allowed");
        for nowhere in ["-1", "7"] {
            host.write("/sys/class/net/eth0/device/numa_node", nowhere);
            assert!(
                host.check()
                    .findings
                    .iter()
                    .all(|finding| finding.id != "memory_node")
            );
        }
    }

    #[test]
    fn loopback_that_is_spread_is_noted() {
        let host = Fixture::fit();
        host.write("/sys/class/net/lo/queues/rx-0/rps_cpus", "0\n");
        host.expect("loopback_rps", Ok, "where the sender runs");
        host.write("/sys/class/net/lo/queues/rx-0/rps_cpus", "2\n");
        host.expect("loopback_rps", Note, "cores 1");
    }
}
