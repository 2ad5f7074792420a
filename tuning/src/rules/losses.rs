//! What was lost. Since boot it is a note: nobody knows who lost it, and when. During a run it may falsify the run.

use crate::counters::Counters;
use crate::demand::Demand;
use crate::facts::Facts;
use crate::finding::{Finding, Findings, Knob, Severity};

/// A counter of the kernel that should stand still.
pub(crate) struct Loss {
    knob: &'static Knob,
    /// Its value; `None` when the host does not count it.
    pub(crate) count: fn(&Counters) -> Option<u64>,
    /// How much it says against a run in which it grew.
    in_run: Severity,
    unit: &'static str,
    fix: &'static str,
}

impl Loss {
    /// What is to be said when it grew by `grown` during a run; nothing when it stood still.
    pub(crate) fn during_run(&self, grown: u64) -> Option<Finding> {
        let value = format!("{grown} {} during the run", self.unit);
        let finding = self
            .knob
            .finding(self.in_run, value, self.knob.path, self.fix.to_owned());
        (grown > 0).then_some(finding)
    }

    fn since_boot(&self, count: u64) -> Finding {
        let severity = if count > 0 {
            Severity::Note
        } else {
            Severity::Ok
        };
        let value = format!("{count} {} since boot", self.unit);
        self.knob
            .finding(severity, value, self.knob.path, self.fix.to_owned())
    }
}

/// All of them.
pub(super) fn since_boot(facts: &Facts, _: &Demand, findings: &mut Findings) {
    for loss in &LOSSES {
        let count = (loss.count)(&facts.counters);
        // Virtual machines do not count heat, and not every interface counts what it missed.
        if count.is_none() && loss.may_be_missing() {
            continue;
        }
        findings.judge(loss.knob, count, |count| loss.since_boot(count));
    }
}

impl Loss {
    fn may_be_missing(&self) -> bool {
        ["thermal", "interface_losses"].contains(&self.knob.id)
    }
}

/// From the wire to the socket, and out again.
pub(crate) static LOSSES: [Loss; 9] = [
    Loss {
        knob: &INTERFACE,
        count: |counters| {
            counters
                .interface_losses
                .values()
                .copied()
                .reduce(u64::saturating_add)
        },
        in_run: Severity::Matters,
        unit: "packets",
        fix: "ethtool -g INTERFACE; ethtool -G INTERFACE rx MAXIMUM",
    },
    Loss {
        knob: &BACKLOG,
        count: |counters| {
            let dropped = counters
                .softnet
                .values()
                .map(|core| u64::from(core.dropped));
            dropped.reduce(u64::saturating_add)
        },
        in_run: Severity::Matters,
        unit: "packets",
        fix: "sysctl net.core.netdev_max_backlog    # and set it to ten times that",
    },
    Loss {
        knob: &REASSEMBLY,
        count: Counters::reassembly,
        in_run: Severity::Matters,
        unit: "datagrams",
        fix: "sysctl net.ipv4.ipfrag_high_thresh net.ipv4.ipfrag_time    # and send packets that fit into the MTU",
    },
    Loss {
        knob: &CHECKSUM,
        count: |counters| counters.udp_of(|udp| udp.in_csum_errors),
        in_run: Severity::Matters,
        unit: "datagrams",
        fix: "ethtool -S INTERFACE | grep -i -e crc -e csum    # and look at cables and at what is in between",
    },
    Loss {
        knob: &NO_PORTS,
        count: |counters| counters.udp_of(|udp| udp.no_ports),
        in_run: Severity::Note,
        unit: "datagrams",
        fix: "ss -lun    # is the receiver where its peers think it is?",
    },
    Loss {
        knob: &RCVBUF,
        count: |counters| counters.udp_of(|udp| udp.rcvbuf_errors),
        // Those of the run's own sockets are in its ledger.
        in_run: Severity::Note,
        unit: "datagrams",
        fix: "ss -uanm    # d in skmem: drops of each socket",
    },
    Loss {
        knob: &MEMORY,
        count: |counters| counters.udp_of(|udp| udp.mem_errors),
        in_run: Severity::Matters,
        unit: "datagrams",
        fix: "sysctl net.ipv4.udp_mem; cat /proc/net/sockstat    # UDP: mem is what is in use, in pages",
    },
    Loss {
        knob: &SNDBUF,
        count: |counters| counters.udp_of(|udp| udp.sndbuf_errors),
        in_run: Severity::Note,
        unit: "sends",
        fix: "sysctl net.core.wmem_default    # and set it to four times that",
    },
    Loss {
        knob: &THERMAL,
        count: |counters| counters.thermal_throttles,
        in_run: Severity::Matters,
        unit: "times",
        fix: "sensors    # and look after cooling, and what else runs",
    },
];

static INTERFACE: Knob = Knob {
    id: "interface_losses",
    subject: "losses of interfaces",
    path: "/sys/class/net/*/statistics/rx_missed_errors, rx_fifo_errors",
    why: "an interface had no room for packets, which no counter of a socket shows",
    risk: "larger rings cost cache and latency",
};

static BACKLOG: Knob = Knob {
    id: "backlog_drops",
    subject: "drops of the backlog",
    path: "/proc/net/softnet_stat, second column",
    why: "a core's queue was full, and packets were lost before any socket was found: no receiver can count them",
    risk: "packets may wait longer instead of being lost",
};

static REASSEMBLY: Knob = Knob {
    id: "reassembly",
    subject: "fragments not put together",
    path: "/proc/net/snmp, Ip ReasmFails; /proc/net/snmp6, Ip6ReasmFails",
    why: "a packet larger than the MTU travels in fragments, and is lost as a whole with any of them",
    risk: "fragments that are kept longer take memory, also those of people who mean harm",
};

static CHECKSUM: Knob = Knob {
    id: "udp_checksums",
    subject: "wrong UDP checksums",
    path: "/proc/net/snmp, Udp InCsumErrors; /proc/net/snmp6",
    why: "something on the way changes packets; those that it changes twice come through",
    risk: "none: it changes nothing",
};

static NO_PORTS: Knob = Knob {
    id: "udp_no_ports",
    subject: "datagrams to nobody",
    path: "/proc/net/snmp, Udp NoPorts; /proc/net/snmp6",
    why: "a sender goes on while its receiver is gone, or is mistaken about the port",
    risk: "none: it changes nothing",
};

static RCVBUF: Knob = Knob {
    id: "udp_receive_buffers",
    subject: "full receive buffers",
    path: "/proc/net/snmp, Udp RcvbufErrors; /proc/net/snmp6",
    why: "a receiver came too late for its buffer; all sockets of the network namespace are counted, filters of theirs included",
    risk: "none: it changes nothing",
};

static MEMORY: Knob = Knob {
    id: "udp_memory",
    subject: "UDP out of memory",
    path: "/proc/net/snmp, Udp MemErrors",
    why: "all sockets together had used up net.ipv4.udp_mem, and datagrams were dropped although their own socket had room",
    risk: "none: it changes nothing",
};

static SNDBUF: Knob = Knob {
    id: "udp_send_buffers",
    subject: "full send buffers",
    path: "/proc/net/snmp, Udp SndbufErrors; /proc/net/snmp6",
    why: "a sender was refused since what it had sent before was still here",
    risk: "each sending socket may take that much of the kernel's memory",
};

static THERMAL: Knob = Knob {
    id: "thermal",
    subject: "slowed down by heat",
    path: "/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count",
    why: "a core that is too hot runs slower than before, and figures drift",
    risk: "none: it changes nothing",
};

#[cfg(test)]
mod tests {
    use crate::Severity::{Note, Ok};
    use crate::fixture::Fixture;

    #[test]
    fn what_was_lost_since_boot_is_a_note_with_its_value() {
        let host = Fixture::fit();
        host.edit(
            "/proc/net/snmp",
            "1000 0 0 1000 0 0 0 0 0",
            "1000 1 9 1000 2 3 4 0 5",
        );
        host.edit("/proc/net/snmp", "Ip: 1 0", "Ip: 1 6");
        host.edit(
            "/proc/net/snmp6",
            "Udp6RcvbufErrors 0",
            "Udp6RcvbufErrors 40",
        );
        host.edit(
            "/proc/net/softnet_stat",
            "000f4240 00000000 ",
            "000f4240 0000000a ",
        );
        host.write("/sys/class/net/eth0/statistics/rx_missed_errors", "7\n");
        host.write(
            "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
            "8\n",
        );
        for (id, value) in [
            ("udp_no_ports", "1 datagrams"),
            (
                "udp_receive_buffers",
                "42 datagrams since boot (/proc/net/snmp, Udp RcvbufErrors",
            ),
            ("udp_send_buffers", "3 sends"),
            ("udp_checksums", "4 datagrams"),
            ("udp_memory", "5 datagrams"),
            ("reassembly", "6 datagrams"),
            ("backlog_drops", "20 packets"),
            ("interface_losses", "7 packets"),
            ("thermal", "8 times"),
        ] {
            host.expect(id, Note, value);
        }
        assert!(!host.check().matters());
    }

    #[test]
    fn a_host_that_does_not_count_heat_is_not_asked_for_it() {
        let host = Fixture::fit();
        host.expect("thermal", Ok, "0 times");
        for core in ["cpu0", "cpu1"] {
            host.remove(&format!(
                "/sys/devices/system/cpu/{core}/thermal_throttle/core_throttle_count"
            ));
        }
        assert!(host.check().unknown.is_empty());
    }
}
