//! Turning of packets into work: queues of the kernel between interface and socket, and doors into it.

use crate::counters::Counters;
use crate::demand::Demand;
use crate::facts::Facts;
use crate::finding::{Finding, Findings, Knob};

/// What waits for a core.
pub(super) fn backlog(facts: &Facts, demand: &Demand, findings: &mut Findings) {
    findings.judge(&BACKLOG, facts.sysctl.netdev_max_backlog, |max| {
        let ms = max as f64 / demand.rate_pps.max(1.0) * 1000.0;
        let value = format!(
            "{max} packets, {ms:.1} ms at {:.0} packets/s",
            demand.rate_pps
        );
        if max >= BACKLOG_DEFAULT && ms >= BACKLOG_MS_MIN {
            return BACKLOG.ok(value);
        }
        let wanted =
            (demand.rate_pps.min(RATE_MAX) / 1000.0 * BACKLOG_MS_MIN).max(BACKLOG_DEFAULT as f64);
        BACKLOG.note(
            value,
            format!("sysctl -w net.core.netdev_max_backlog={wanted:.0}"),
        )
    });
}

/// Whether cores stop in the midst of their work.
pub(super) fn squeezes(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let (processed, squeezed) = totals(&facts.counters);
    let known = (!facts.counters.softnet.is_empty()).then_some(());
    findings.judge(&SQUEEZES, known, |()| {
        let told = |number: Option<u64>| {
            number.map_or_else(|| "?".to_owned(), |number| number.to_string())
        };
        let value = format!(
            "{squeezed} times at {processed} packets, with netdev_budget {} and {} us",
            told(facts.sysctl.netdev_budget),
            told(facts.sysctl.netdev_budget_usecs)
        );
        if squeezed.saturating_mul(PACKETS_PER_SQUEEZE) <= processed {
            return SQUEEZES.ok(value);
        }
        SQUEEZES.note(value, MORE_BUDGET)
    });
}

/// Whether sockets turn to their interface while they wait.
pub(super) fn busy_poll(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let sysctl = &facts.sysctl;
    findings.judge(
        &BUSY_POLL,
        sysctl.busy_poll.zip(sysctl.busy_read),
        |polls| match polls {
            (0, 0) => BUSY_POLL.ok("off"),
            (poll, read) => BUSY_POLL.note(
                format!("poll {poll} us, read {read} us"),
                "sysctl -w net.core.busy_poll=0 net.core.busy_read=0",
            ),
        },
    );
}

/// Who gives the memory of a packet back.
pub(super) fn skb_defer_max(facts: &Facts, demand: &Demand, findings: &mut Findings) {
    let is_single = facts.sockets(demand) < 2;
    // Older than Linux 5.19: there is nothing to set, and nothing deferred.
    let Some(max) = facts.sysctl.skb_defer_max else {
        return;
    };
    findings.add(if max == 0 || is_single {
        SKB_DEFER_MAX.ok(max)
    } else {
        SKB_DEFER_MAX.note(max, "sysctl -w net.core.skb_defer_max=0")
    });
}

/// Whether filters are machine code.
pub(super) fn bpf_jit(facts: &Facts, _: &Demand, findings: &mut Findings) {
    findings.judge(
        &BPF_JIT,
        facts.sysctl.bpf_jit_enable,
        |enabled| match enabled {
            0 => BPF_JIT.matters("0", "sysctl -w net.core.bpf_jit_enable=1"),
            // 2 writes each program into the kernel's log.
            2 => BPF_JIT.note("2, for debugging", "sysctl -w net.core.bpf_jit_enable=1"),
            other => BPF_JIT.ok(other),
        },
    );
}

/// Whether io_uring may be had by those who want it.
pub(super) fn io_uring(facts: &Facts, demand: &Demand, findings: &mut Findings) {
    let Some(disabled) = facts.sysctl.io_uring_disabled else {
        // The setting came with Linux 6.6; io_uring with 5.1, and its receiving in earnest with 5.6.
        match facts.kernel_version() {
            Some(version) if version < (5, 6) => findings.add(absent_ring(demand)),
            Some(version) if version < (6, 6) => {
                findings.add(IO_URING.ok("there, and nobody can switch it off"))
            }
            _ => findings.unknown(&IO_URING),
        }
        return;
    };
    let may = facts.process.capabilities.is_some_and(|may| may.sys_admin);
    let group = facts
        .sysctl
        .io_uring_group
        .and_then(|group| u64::try_from(group).ok());
    let is_member = group.is_some_and(|group| facts.process.groups.contains(&group));
    // Documentation/admin-guide/sysctl/kernel.rst: 1 leaves it to CAP_SYS_ADMIN and the members of io_uring_group.
    let is_closed = disabled >= 2 || disabled == 1 && !may && !is_member;
    findings.add(if is_closed && demand.io_uring {
        let fix = if disabled == 1 {
            "sysctl -w kernel.io_uring_group=GID    # a group of the receiver; or kernel.io_uring_disabled=0"
        } else {
            "sysctl -w kernel.io_uring_disabled=0"
        };
        IO_URING.matters(disabled, fix)
    } else if is_closed {
        IO_URING.ok(format!("{disabled}, and it is not wanted"))
    } else if facts.process.seccomp == Some(true) && demand.io_uring {
        let value =
            format!("{disabled}, but a system call filter is there (Seccomp in /proc/self/status)");
        IO_URING.note(
            value,
            "binrush-bench compare --receivers raw,engine-io_uring",
        )
    } else {
        IO_URING.ok(disabled)
    });
}

/// Whether a profile shows the kernel.
pub(super) fn perf(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let may = facts
        .process
        .capabilities
        .is_some_and(|may| may.perfmon || may.sys_admin);
    findings.judge(&PERF, facts.sysctl.perf_event_paranoid, |paranoid| {
        if paranoid <= 1 {
            PERF.ok(paranoid)
        } else if may {
            PERF.ok(format!("{paranoid}, and a capability stands above it"))
        } else {
            PERF.note(paranoid, "sysctl -w kernel.perf_event_paranoid=1")
        }
    });
}

fn absent_ring(demand: &Demand) -> Finding {
    if demand.io_uring {
        IO_URING.matters(
            "not in this kernel",
            "binrush serve with modparam(\"binrush\", \"backend\", \"recvmmsg\")",
        )
    } else {
        IO_URING.ok("not in this kernel, and it is not wanted")
    }
}

/// Packets and squeezes of all cores.
fn totals(counters: &Counters) -> (u64, u64) {
    counters
        .softnet
        .values()
        .fold((0, 0), |(processed, squeezed), core| {
            (
                processed + u64::from(core.processed),
                squeezed + u64::from(core.time_squeeze),
            )
        })
}

static BACKLOG: Knob = Knob {
    id: "netdev_max_backlog",
    subject: "net.core.netdev_max_backlog",
    path: "/proc/sys/net/core/netdev_max_backlog",
    why: "so many packets of loopback, or spread by RPS, may wait for a core; further ones are lost before any socket is found",
    risk: "packets may wait longer instead of being lost",
};

pub(crate) static SQUEEZES: Knob = Knob {
    id: "netdev_budget",
    subject: "net.core.netdev_budget",
    path: "/proc/net/softnet_stat, third column",
    why: "a core that stops receiving with work left over lets packets wait in the interface until its next turn",
    risk: "programs on that core wait longer while packets are taken in",
};

static BUSY_POLL: Knob = Knob {
    id: "busy_poll",
    subject: "net.core.busy_poll",
    path: "/proc/sys/net/core/busy_poll, busy_read",
    why: "every waiting socket polls its interface: less latency for more processor time, and over veth a receiver that takes the \
          sender's turn has lost 98 % of a flood",
    risk: "on a real interface a packet after a pause comes some microseconds later",
};

static SKB_DEFER_MAX: Knob = Knob {
    id: "skb_defer_max",
    subject: "net.core.skb_defer_max",
    path: "/proc/sys/net/core/skb_defer_max",
    why: "where another core took a packet in, its memory goes back there by interrupts: two shards have drained 1.5 times as fast as one with \
          this, and 1.9 times without",
    risk: "the core that reads a packet pays for giving its memory back; measure both",
};

static BPF_JIT: Knob = Knob {
    id: "bpf_jit_enable",
    subject: "net.core.bpf_jit_enable",
    path: "/proc/sys/net/core/bpf_jit_enable",
    why: "the programs that choose a shard and refuse strangers run once for each packet, and are interpreted when this is 0",
    risk: "none that is known: it is the default nearly everywhere",
};

static IO_URING: Knob = Knob {
    id: "io_uring",
    subject: "kernel.io_uring_disabled",
    path: "/proc/sys/kernel/io_uring_disabled",
    why: "a receiver that was told to use io_uring is refused, or takes another way and is measured as what it is not",
    risk: "io_uring has had more holes than other doors into the kernel; recvmmsg costs no more for datagrams",
};

static PERF: Knob = Knob {
    id: "perf_event_paranoid",
    subject: "kernel.perf_event_paranoid",
    path: "/proc/sys/kernel/perf_event_paranoid",
    why: "above 1 a profile of this user lacks the kernel's frames, which are most of what a packet costs",
    risk: "any user may see what the kernel is doing, and at which addresses",
};

/// Not a number: whoever reads on may have set more than any that stood here.
pub(crate) const MORE_BUDGET: &str =
    "sysctl net.core.netdev_budget net.core.netdev_budget_usecs    # and set both to twice that";

/// What kernels come with.
const BACKLOG_DEFAULT: u64 = 1000;

/// A core that is busy with other interrupts comes back within that.
const BACKLOG_MS_MIN: f64 = 1.0;

/// No rate for which anybody would set up a host; bounds what is advised.
const RATE_MAX: f64 = 1e8;

/// More often than that is more than a burst now and then.
const PACKETS_PER_SQUEEZE: u64 = 10_000;

#[cfg(test)]
mod tests {
    use crate::Demand;
    use crate::Severity::{Matters, Note, Ok};
    use crate::fixture::Fixture;

    #[test]
    fn a_backlog_has_to_last_for_a_millisecond() {
        let host = Fixture::fit();
        host.expect(
            "netdev_max_backlog",
            Ok,
            "1000 packets, 20.0 ms at 50000 packets/s",
        );
        let fast = Demand {
            rate_pps: 4e6,
            ..Demand::default()
        };
        let finding = host.finding_for(&fast, "netdev_max_backlog");
        assert_eq!(finding.severity, Note);
        assert_eq!(finding.fix, "sysctl -w net.core.netdev_max_backlog=4000");
        host.write("/proc/sys/net/core/netdev_max_backlog", "300\n");
        let finding = host.expect("netdev_max_backlog", Note, "300 packets");
        assert_eq!(finding.fix, "sysctl -w net.core.netdev_max_backlog=1000");
    }

    #[test]
    fn squeezes_are_judged_by_the_packets_beside_them() {
        let host = Fixture::fit();
        host.expect(
            "netdev_budget",
            Ok,
            "0 times at 2000000 packets, with netdev_budget 300 and 8000 us",
        );
        host.edit(
            "/proc/net/softnet_stat",
            "00000000 00000000 0 0",
            "00000000 00000064 0 0",
        );
        host.expect("netdev_budget", Ok, "200 times");
        host.edit("/proc/net/softnet_stat", "00000064", "00000065");
        host.expect("netdev_budget", Note, "202 times");
    }

    #[test]
    fn busy_polling_is_noted() {
        let host = Fixture::fit();
        host.write("/proc/sys/net/core/busy_read", "50\n");
        host.expect("busy_poll", Note, "poll 0 us, read 50 us");
    }

    #[test]
    fn memory_that_goes_back_by_interrupts_is_noted_where_several_shards_receive() {
        let host = Fixture::fit();
        host.expect("skb_defer_max", Ok, "0");
        host.write("/proc/sys/net/core/skb_defer_max", "64\n");
        host.expect("skb_defer_max", Note, "64");
        let single = Demand {
            sockets: Some(1),
            ..Demand::default()
        };
        assert_eq!(host.finding_for(&single, "skb_defer_max").severity, Ok);
        // There are kernels without it.
        host.remove("/proc/sys/net/core/skb_defer_max");
        let checked = host.check();
        assert!(checked.unknown.is_empty(), "{:?}", checked.unknown);
    }

    #[test]
    fn interpreted_programs_matter() {
        let host = Fixture::fit();
        host.write("/proc/sys/net/core/bpf_jit_enable", "0\n");
        host.expect("bpf_jit_enable", Matters, "0");
        host.write("/proc/sys/net/core/bpf_jit_enable", "2\n");
        host.expect("bpf_jit_enable", Note, "debugging");
    }

    #[test]
    fn io_uring_matters_to_those_who_want_it() {
        let host = Fixture::fit();
        let wants = Demand {
            io_uring: true,
            ..Demand::default()
        };
        let severity = || {
            (
                host.finding("io_uring").severity,
                host.finding_for(&wants, "io_uring").severity,
            )
        };
        assert_eq!(severity(), (Ok, Ok));
        host.write("/proc/sys/kernel/io_uring_disabled", "2\n");
        assert_eq!(severity(), (Ok, Matters));
        host.write("/proc/sys/kernel/io_uring_disabled", "1\n");
        assert_eq!(severity(), (Ok, Matters));
        host.write(
            "/proc/self/status",
            "CapEff:\t0000000000200000\nSeccomp:\t2\n",
        );
        assert_eq!(severity(), (Ok, Note));
    }

    #[test]
    fn io_uring_for_the_few_is_open_to_members_of_its_group() {
        let host = Fixture::fit();
        let wants = Demand {
            io_uring: true,
            ..Demand::default()
        };
        let severity = || host.finding_for(&wants, "io_uring").severity;
        host.write("/proc/sys/kernel/io_uring_disabled", "1\n");
        host.write("/proc/sys/kernel/io_uring_group", "998\n");
        host.write("/proc/self/status", "Gid:\t7\t7\t7\t7\nGroups:\t27 998\n");
        assert_eq!(severity(), Ok);
        host.write("/proc/self/status", "Gid:\t7\t7\t7\t998\nGroups:\t\n");
        assert_eq!(severity(), Ok);
        host.write("/proc/self/status", "Gid:\t998\t7\t7\t7\nGroups:\t27\n");
        assert_eq!(severity(), Matters);
        host.write("/proc/sys/kernel/io_uring_group", "-1\n");
        assert_eq!(severity(), Matters);
        // 2 makes no exceptions.
        host.write("/proc/sys/kernel/io_uring_group", "27\n");
        assert_eq!(severity(), Ok);
        host.write("/proc/sys/kernel/io_uring_disabled", "2\n");
        assert_eq!(severity(), Matters);
    }

    #[test]
    fn kernels_without_the_setting_have_io_uring_or_they_do_not() {
        let host = Fixture::fit();
        let wants = Demand {
            io_uring: true,
            ..Demand::default()
        };
        host.remove("/proc/sys/kernel/io_uring_disabled");
        // A newer kernel that does not tell.
        assert_eq!(
            host.check().unknown,
            ["kernel.io_uring_disabled (/proc/sys/kernel/io_uring_disabled)"]
        );
        host.write("/proc/sys/kernel/osrelease", "5.15.0-91-generic\n");
        assert_eq!(host.finding_for(&wants, "io_uring").severity, Ok);
        host.write("/proc/sys/kernel/osrelease", "4.18.0\n");
        assert_eq!(host.finding_for(&wants, "io_uring").severity, Matters);
        host.expect("io_uring", Ok, "not in this kernel");
    }

    #[test]
    fn a_profile_without_the_kernel_is_noted() {
        let host = Fixture::fit();
        host.write("/proc/sys/kernel/perf_event_paranoid", "2\n");
        host.expect("perf_event_paranoid", Note, "2");
        host.write("/proc/self/status", "CapEff:\t0000004000000000\n");
        host.expect("perf_event_paranoid", Ok, "2, and a capability");
    }
}
