//! What processes of this kind may have.

use crate::counters::Throttling;
use crate::demand::Demand;
use crate::facts::{Facts, Quota};
use crate::finding::{Finding, Findings, Knob, Severity};

/// Processor time of the cgroup.
pub(super) fn quota(facts: &Facts, _: &Demand, findings: &mut Findings) {
    if facts.cgroup.version.is_none() {
        return findings.unknown(&QUOTA);
    }
    if facts.cgroup.quotas.is_empty() {
        findings.add(QUOTA.ok("no limit"));
    }
    for quota in &facts.cgroup.quotas {
        let throttling = facts.counters.throttling.get(&quota.path);
        findings.add(of_quota(quota, throttling.copied().unwrap_or_default()));
    }
}

/// A note, felt or not: what was felt since boot says nothing of a run to come, and during a run its growth is judged
/// ([`delta`](crate::delta())).
fn of_quota(quota: &Quota, felt: Throttling) -> Finding {
    let value = format!(
        "{} of {} us, {:.2} cores; stopped in {} of {} periods since it was set up, for {} ms",
        quota.quota_us,
        quota.period_us,
        quota.cores(),
        felt.throttled,
        felt.periods,
        felt.throttled_us / 1000
    );
    quota_finding(Severity::Note, value, &quota.path)
}

/// What is said of a limit set in the cgroup of directory `path`.
pub(crate) fn quota_finding(severity: Severity, value: String, path: &str) -> Finding {
    let fix = "systemctl set-property UNIT CPUQuota=    # or start the container without a limit of processor time";
    QUOTA.finding(severity, value, &format!("{path}/cpu.stat"), fix.to_owned())
}

/// Memory that may not be swapped.
pub(super) fn memlock(facts: &Facts, demand: &Demand, findings: &mut Findings) {
    let may = facts.process.capabilities.is_some_and(|may| may.ipc_lock);
    let is_counted = facts
        .kernel_version()
        .is_none_or(|version| version < RINGS_NOT_COUNTED);
    findings.judge(&MEMLOCK, facts.process.limits.memlock, |limit| {
        if !is_counted {
            MEMLOCK.ok(format!("{limit}, and rings are not counted against it"))
        } else if limit.allows(MEMLOCK_MIN) || may || !demand.io_uring {
            MEMLOCK.ok(limit)
        } else {
            MEMLOCK.matters(limit, "ulimit -l 8192    # in a unit: LimitMEMLOCK=8M")
        }
    });
}

/// Descriptors.
pub(super) fn nofile(facts: &Facts, _: &Demand, findings: &mut Findings) {
    findings.judge(&NOFILE, facts.process.limits.nofile, |limit| {
        if limit.allows(NOFILE_MIN) {
            NOFILE.ok(limit)
        } else {
            NOFILE.note(limit, "ulimit -n 4096    # in a unit: LimitNOFILE=4096")
        }
    });
}

/// Room for what is wanted.
pub(super) fn memory(facts: &Facts, demand: &Demand, findings: &mut Findings) {
    let buffers = demand
        .rcvbuf
        .saturating_mul(2)
        .saturating_mul(facts.sockets(demand));
    let wanted = buffers.saturating_add(MEMORY_MIN);
    findings.judge(&MEMORY, facts.memory.available, |available| {
        let value = format!("{} MiB available", available >> 20);
        if available < wanted {
            let value = format!("{value}, {} MiB wanted", wanted >> 20);
            return MEMORY.matters(
                value,
                "ps -eo rss,pid,comm --sort=-rss | head    # and end what is not needed",
            );
        }
        match facts.memory.swapped {
            Some(swapped) if swapped > SWAPPED_MAX => {
                let value = format!("{value}, but {} MiB are swapped out", swapped >> 20);
                MEMORY.note(value, "swapoff -a")
            }
            _ => MEMORY.ok(value),
        }
    });
    huge_pages(facts, findings);
}

/// Who makes huge pages, and when.
fn huge_pages(facts: &Facts, findings: &mut Findings) {
    findings.judge(
        &HUGE_PAGES,
        facts.memory.transparent_hugepages.as_deref(),
        |when| match when {
            "always" => HUGE_PAGES.note(
                when,
                "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            ),
            other => HUGE_PAGES.ok(other),
        },
    );
}

static QUOTA: Knob = Knob {
    id: "cpu_quota",
    subject: "processor quota of the cgroup",
    path: "/proc/self/cgroup",
    why: "once the quota of a period is used up all threads stand still until the next, which is tens of milliseconds in latencies and lost packets in buffers",
    risk: "the group may take processor time from its neighbours",
};

static MEMLOCK: Knob = Knob {
    id: "memlock",
    subject: "limit of locked memory",
    path: "/proc/self/limits, Max locked memory",
    why: "before Linux 5.12, the rings of io_uring are counted against it: a receiver that was told to use io_uring does not start",
    risk: "a program may keep that much memory from being swapped",
};

static NOFILE: Knob = Knob {
    id: "nofile",
    subject: "limit of open files",
    path: "/proc/self/limits, Max open files",
    why: "each peer over TCP, and each shard's socket, is one",
    risk: "none worth naming",
};

static MEMORY: Knob = Knob {
    id: "memory",
    subject: "memory",
    path: "/proc/meminfo",
    why: "what was swapped out takes milliseconds to come back, and without memory the kernel drops packets",
    risk: "ending programs ends what they do; swapoff needs room for what is swapped out",
};

static HUGE_PAGES: Knob = Knob {
    id: "transparent_hugepages",
    subject: "transparent huge pages",
    path: "/sys/kernel/mm/transparent_hugepage/enabled",
    why: "the kernel moves memory together whenever it likes, which shows as pauses in the highest percentiles",
    risk: "programs that had huge pages without asking run a little slower",
};

/// Since then the rings are counted with the memory of the cgroup, and against this limit only buffers that a program
/// registers for good (liburing's README, "ulimit settings"), which the receiver does not.
const RINGS_NOT_COUNTED: (u32, u32) = (5, 12);

/// The smallest that rings have been run with.
const MEMLOCK_MIN: u64 = 512 << 10;

/// What login sessions have had for decades.
const NOFILE_MIN: u64 = 1024;

/// For generator and receiver besides their sockets.
const MEMORY_MIN: u64 = 256 << 20;

/// Old pages that nobody misses.
const SWAPPED_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use crate::Demand;
    use crate::Severity::{Matters, Note, Ok};
    use crate::fixture::Fixture;

    #[test]
    fn a_quota_is_noted_whether_or_not_it_was_felt_since_boot() {
        let host = Fixture::fit();
        host.expect("cpu_quota", Ok, "no limit");
        host.write("/sys/fs/cgroup/run/cpu.max", "150000 100000\n");
        host.expect(
            "cpu_quota",
            Note,
            "150000 of 100000 us, 1.50 cores; stopped in 0 of 0 periods since it was set up",
        );
        let stat = "/sys/fs/cgroup/run/cpu.stat";
        host.write(
            stat,
            "nr_periods 400\nnr_throttled 12\nthrottled_usec 340000\n",
        );
        host.expect(
            "cpu_quota",
            Note,
            "stopped in 12 of 400 periods since it was set up, for 340 ms (/sys/fs/cgroup/run/cpu.stat)",
        );
        // A limit of nothing at all, as no kernel would take it.
        host.write("/sys/fs/cgroup/run/cpu.max", "0 0\n");
        host.expect("cpu_quota", Note, "0.00 cores");
    }

    #[test]
    fn locked_memory_matters_to_io_uring_before_it_was_counted_elsewhere() {
        let host = Fixture::fit();
        let wants = Demand {
            io_uring: true,
            ..Demand::default()
        };
        host.edit("/proc/self/limits", "8388608 ", "65536 ");
        assert_eq!(host.finding_for(&wants, "memlock").severity, Ok);
        host.write("/proc/sys/kernel/osrelease", "5.12.0\n");
        assert_eq!(host.finding_for(&wants, "memlock").severity, Ok);
        host.write("/proc/sys/kernel/osrelease", "5.11.22\n");
        host.expect("memlock", Ok, "65536");
        assert_eq!(host.finding_for(&wants, "memlock").severity, Matters);
        host.write("/proc/self/status", "CapEff:\t0000000000004000\n");
        assert_eq!(host.finding_for(&wants, "memlock").severity, Ok);
    }

    #[test]
    fn few_descriptors_are_noted() {
        let host = Fixture::fit();
        host.edit("/proc/self/limits", "20000 ", "256 ");
        host.expect("nofile", Note, "256");
    }

    #[test]
    fn too_little_memory_matters_and_swapped_memory_is_noted() {
        let host = Fixture::fit();
        host.write("/proc/meminfo", "MemAvailable: 200000 kB\n");
        host.expect("memory", Matters, "195 MiB available, 272 MiB wanted");
        host.write(
            "/proc/meminfo",
            "MemAvailable: 900000 kB\nSwapTotal: 900000 kB\nSwapFree: 100000 kB\n",
        );
        host.expect("memory", Note, "781 MiB are swapped out");
    }

    #[test]
    fn huge_pages_that_come_unasked_are_noted() {
        let host = Fixture::fit();
        host.expect("transparent_hugepages", Ok, "madvise");
        host.write(
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never\n",
        );
        host.expect("transparent_hugepages", Note, "always");
    }
}
