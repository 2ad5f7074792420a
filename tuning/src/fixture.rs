//! Trees of files in the form of `/proc` and `/sys`, for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process};

use crate::{Checked, Demand, Finding, Severity, check};

/// A host in a directory of its own, removed when dropped.
#[derive(Debug)]
pub(crate) struct Fixture(PathBuf);

impl Fixture {
    pub(crate) fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("binrush-tune-{}-{next}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A small server of metal that is fit for everything: two cores, no quota, nothing lost so far.
    pub(crate) fn fit() -> Self {
        let host = Self::empty();
        for (path, text) in FIT {
            host.write(path, text);
        }
        for core in ["cpu0", "cpu1"] {
            let of = |file: &str| format!("/sys/devices/system/cpu/{core}/{file}");
            host.write(&of("cpufreq/scaling_driver"), "acpi-cpufreq\n");
            host.write(&of("cpufreq/scaling_governor"), "performance\n");
            host.write(
                &of("topology/thread_siblings_list"),
                format!("{}\n", &core[3..]),
            );
            host.write(&of("thermal_throttle/core_throttle_count"), "0\n");
        }
        for queue in [
            "rx-0/rps_cpus",
            "rx-1/rps_cpus",
            "tx-0/xps_cpus",
            "tx-1/xps_cpus",
        ] {
            host.write(&format!("/sys/class/net/eth0/queues/{queue}"), "0\n");
        }
        host
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, its directories included.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Some file systems wait for the disk when what was cut to nothing is closed, but not for a new file.
        let _ = fs::remove_file(&path);
        fs::write(path, text).unwrap();
    }

    /// Replaces `old` in a file, which has to hold it.
    pub(crate) fn edit(&self, path: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.0.join(path.trim_start_matches('/'))).unwrap();
        assert!(text.contains(old), "no {old:?} in {path}");
        self.write(path, text.replace(old, new));
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.0.join(path.trim_start_matches('/'))).unwrap();
    }

    pub(crate) fn check(&self) -> Checked {
        self.check_for(&Demand::default())
    }

    pub(crate) fn check_for(&self, demand: &Demand) -> Checked {
        check(&self.0, demand)
    }

    /// The only finding with `id`.
    #[track_caller]
    pub(crate) fn finding(&self, id: &str) -> Finding {
        only(self.check(), id)
    }

    #[track_caller]
    pub(crate) fn finding_for(&self, demand: &Demand, id: &str) -> Finding {
        only(self.check_for(demand), id)
    }

    /// Asserts what is found with `id`, and that the value holds `words`.
    #[track_caller]
    pub(crate) fn expect(&self, id: &str, severity: Severity, words: &str) -> Finding {
        let finding = self.finding(id);
        assert_eq!(finding.severity, severity, "{finding:?}");
        assert!(finding.value.contains(words), "no {words:?}: {finding:?}");
        finding
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn only(checked: Checked, id: &str) -> Finding {
    let unknown = checked.unknown;
    let mut found = checked
        .findings
        .into_iter()
        .filter(|finding| finding.id == id);
    let finding = found.next();
    let finding = finding.unwrap_or_else(|| panic!("no {id}; not known: {unknown:?}"));
    assert_eq!(found.next(), None);
    finding
}

/// The files of [`Fixture::fit`] that are not there once for each core.
pub(crate) const FIT: [(&str, &str); 61] = [
    ("/proc/sys/kernel/osrelease", "6.12.0-test\n"),
    (
        "/proc/cmdline",
        "BOOT_IMAGE=/vmlinuz root=/dev/sda1 mitigations=auto\n",
    ),
    (
        "/proc/cpuinfo",
        "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: Test CPU\nflags\t\t: fpu tsc\n",
    ),
    (
        "/proc/meminfo",
        "MemTotal:       16000000 kB\nMemAvailable:   12000000 kB\nSwapTotal: 0 kB\n",
    ),
    ("/proc/loadavg", "0.10 0.20 0.30 1/100 1\n"),
    (
        "/proc/stat",
        "cpu  1000 0 1000 98000 0 0 0 0 0 0\ncpu0 500 0 500 49000 0 0 0 0 0 0\n",
    ),
    (
        "/proc/self/status",
        "Name:\tx\nCapEff:\t0000000000000000\nSeccomp:\t0\nCpus_allowed_list:\t0-1\n",
    ),
    (
        "/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units\n\
         Max open files            20000                unlimited            files\n\
         Max locked memory         8388608              unlimited            bytes\n",
    ),
    (
        "/proc/self/smaps",
        "0-1 r--p 0 0:0 0\nKernelPageSize:        4 kB\n",
    ),
    ("/proc/self/cgroup", "0::/run\n"),
    (
        "/proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
    ),
    ("/sys/fs/cgroup/run/cpu.max", "max 100000\n"),
    (
        "/sys/fs/cgroup/run/cpu.stat",
        "usage_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
    ),
    ("/proc/sys/net/core/rmem_max", "16777216\n"),
    ("/proc/sys/net/core/rmem_default", "212992\n"),
    ("/proc/sys/net/core/wmem_max", "4194304\n"),
    ("/proc/sys/net/core/wmem_default", "212992\n"),
    ("/proc/sys/net/core/optmem_max", "131072\n"),
    ("/proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("/proc/sys/net/core/netdev_budget", "300\n"),
    ("/proc/sys/net/core/netdev_budget_usecs", "8000\n"),
    ("/proc/sys/net/core/busy_poll", "0\n"),
    ("/proc/sys/net/core/busy_read", "0\n"),
    ("/proc/sys/net/core/skb_defer_max", "0\n"),
    ("/proc/sys/net/core/bpf_jit_enable", "1\n"),
    ("/proc/sys/net/core/rps_sock_flow_entries", "0\n"),
    ("/proc/sys/net/ipv4/udp_mem", "381927\t509238\t763854\n"),
    ("/proc/sys/kernel/io_uring_disabled", "0\n"),
    ("/proc/sys/kernel/perf_event_paranoid", "1\n"),
    ("/proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
    ("/proc/sys/kernel/numa_balancing", "1\n"),
    ("/proc/sys/kernel/timer_migration", "1\n"),
    ("/proc/sys/kernel/nmi_watchdog", "0\n"),
    (
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never\n",
    ),
    ("/sys/devices/system/cpu/online", "0-1\n"),
    ("/sys/devices/system/cpu/isolated", "\n"),
    ("/sys/devices/system/cpu/nohz_full", "\n"),
    ("/sys/devices/system/cpu/smt/active", "0\n"),
    (
        "/sys/devices/system/cpu/cpuidle/current_driver",
        "intel_idle\n",
    ),
    ("/sys/devices/system/cpu/cpu0/cpuidle/state0/name", "POLL\n"),
    ("/sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "0\n"),
    ("/sys/devices/system/cpu/cpu0/cpuidle/state0/disable", "0\n"),
    ("/sys/devices/system/cpu/cpu0/cpuidle/state1/name", "C1\n"),
    ("/sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "2\n"),
    ("/sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "0\n"),
    ("/sys/devices/system/node/node0/cpulist", "0-1\n"),
    (
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    (
        "/sys/devices/system/clocksource/clocksource0/available_clocksource",
        "tsc hpet acpi_pm\n",
    ),
    ("/sys/class/dmi/id/product_name", "PowerEdge\n"),
    ("/sys/class/dmi/id/sys_vendor", "Dell\n"),
    (
        "/proc/net/softnet_stat",
        "000f4240 00000000 00000000 0 0 0 0 0 0 0 0 0 00000000\n\
         000f4240 00000000 00000000 0 0 0 0 0 0 0 0 0 00000001\n",
    ),
    (
        "/proc/net/snmp",
        "Ip: Forwarding ReasmFails\nIp: 1 0\n\
         Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n\
         Udp: 1000 0 0 1000 0 0 0 0 0\n",
    ),
    (
        "/proc/net/snmp6",
        "Ip6ReasmFails 0\nUdp6NoPorts 0\nUdp6RcvbufErrors 0\nUdp6InCsumErrors 0\n",
    ),
    (
        "/proc/interrupts",
        "           CPU0       CPU1\n 41:  10  90  PCI-MSI 1-edge  eth0-TxRx-0\n 42:  80  0  PCI-MSI 2-edge  eth0-TxRx-1\n",
    ),
    ("/proc/irq/41/smp_affinity_list", "0-1\n"),
    ("/proc/irq/41/effective_affinity_list", "1\n"),
    ("/proc/irq/42/effective_affinity_list", "0\n"),
    ("/sys/class/net/eth0/operstate", "up\n"),
    (
        "/sys/class/net/eth0/device/uevent",
        "DRIVER=ixgbe\nPCI_CLASS=20000\n",
    ),
    ("/sys/class/net/eth0/statistics/rx_missed_errors", "0\n"),
    ("/sys/class/net/eth0/mtu", "1500\n"),
];
