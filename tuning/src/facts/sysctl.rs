//! Settings of the kernel (`/proc/sys`).

use std::str::FromStr;

use serde::Serialize;

use crate::root::Root;

/// Settings by their names, without `net.core.`, `net.ipv4.` or `kernel.`; in the kernel's own units. In a network
/// namespace of its own a process sees few of those of `net.core`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "each is the kernel's setting of that name, in Documentation/admin-guide/sysctl"
)]
pub struct Sysctl {
    pub rmem_max: Option<u64>,
    pub rmem_default: Option<u64>,
    pub wmem_max: Option<u64>,
    pub wmem_default: Option<u64>,
    pub optmem_max: Option<u64>,
    /// In pages: below the first nobody is hindered, from the third on datagrams are dropped.
    pub udp_mem: Option<[u64; 3]>,
    pub netdev_max_backlog: Option<u64>,
    pub netdev_budget: Option<u64>,
    pub netdev_budget_usecs: Option<u64>,
    pub busy_poll: Option<u64>,
    pub busy_read: Option<u64>,
    pub skb_defer_max: Option<u64>,
    pub rps_sock_flow_entries: Option<u64>,
    pub bpf_jit_enable: Option<u64>,
    pub unprivileged_bpf_disabled: Option<u64>,
    pub io_uring_disabled: Option<u64>,
    /// Whose members io_uring is for when it is disabled with 1; below 0 nobody's.
    pub io_uring_group: Option<i64>,
    pub perf_event_paranoid: Option<i64>,
    pub numa_balancing: Option<u64>,
    pub timer_migration: Option<u64>,
    pub nmi_watchdog: Option<u64>,
}

impl Sysctl {
    pub(super) fn read(root: &Root) -> Self {
        let core = Folder(root, "/proc/sys/net/core");
        let kernel = Folder(root, "/proc/sys/kernel");
        Self {
            rmem_max: core.number("rmem_max"),
            rmem_default: core.number("rmem_default"),
            wmem_max: core.number("wmem_max"),
            wmem_default: core.number("wmem_default"),
            optmem_max: core.number("optmem_max"),
            udp_mem: root
                .line("/proc/sys/net/ipv4/udp_mem")
                .and_then(|line| three(&line)),
            netdev_max_backlog: core.number("netdev_max_backlog"),
            netdev_budget: core.number("netdev_budget"),
            netdev_budget_usecs: core.number("netdev_budget_usecs"),
            busy_poll: core.number("busy_poll"),
            busy_read: core.number("busy_read"),
            skb_defer_max: core.number("skb_defer_max"),
            rps_sock_flow_entries: core.number("rps_sock_flow_entries"),
            bpf_jit_enable: core.number("bpf_jit_enable"),
            unprivileged_bpf_disabled: kernel.number("unprivileged_bpf_disabled"),
            io_uring_disabled: kernel.number("io_uring_disabled"),
            io_uring_group: kernel.number("io_uring_group"),
            perf_event_paranoid: kernel.number("perf_event_paranoid"),
            numa_balancing: kernel.number("numa_balancing"),
            timer_migration: kernel.number("timer_migration"),
            nmi_watchdog: kernel.number("nmi_watchdog"),
        }
    }
}

/// A folder of settings.
struct Folder<'a>(&'a Root, &'static str);

impl Folder<'_> {
    fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.0.number(&format!("{}/{name}", self.1))
    }
}

fn three(line: &str) -> Option<[u64; 3]> {
    let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use crate::Facts;
    use crate::fixture::Fixture;

    #[test]
    fn settings_are_read_by_their_names() {
        let host = Fixture::fit();
        host.write("/proc/sys/kernel/perf_event_paranoid", "-1\n");
        let sysctl = Facts::read(host.path()).sysctl;
        assert_eq!(sysctl.rmem_max, Some(16_777_216));
        assert_eq!(sysctl.udp_mem, Some([381_927, 509_238, 763_854]));
        assert_eq!(sysctl.perf_event_paranoid, Some(-1));
    }

    #[test]
    fn what_is_no_number_is_not_known() {
        let host = Fixture::fit();
        host.write("/proc/sys/net/core/rmem_max", "many\n");
        host.write("/proc/sys/net/ipv4/udp_mem", "1 2\n");
        let sysctl = Facts::read(host.path()).sysctl;
        assert_eq!((sysctl.rmem_max, sysctl.udp_mem), (None, None));
    }
}
