//! What the host is and how it is set, as its files say.

use std::path::Path;

use serde::Serialize;

use crate::counters::Counters;
use crate::root::Root;

/// What processes of this cgroup may use.
mod cgroup;
/// Cores, their speeds and their sleep.
mod cpu;
/// Kernel, memory, and what the host runs on.
mod machine;
/// Interfaces, their queues and their interrupts.
mod network;
/// Limits and rights of a process.
mod process;
/// Settings of the kernel.
mod sysctl;

pub(crate) use cgroup::directories as cgroup_directories;
pub use cgroup::{Cgroup, Quota};
pub use cpu::{Cpu, Frequency, IdleState};
pub use machine::{Memory, Virtualisation};
pub(crate) use network::interface_names;
pub use network::{Conntrack, Interface, Irq, Network};
pub use process::{Capabilities, Limit, Limits, Process};
pub use sysctl::Sysctl;

/// What a figure is worth nothing without. `None`, and `null` in JSON, is what the host does not tell.
///
/// As JSON one object, whose keys are the names of the fields here and below.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    /// Of the running kernel: `6.18.0`.
    pub kernel: Option<String>,
    /// Those options of the kernel's command line that measurements feel: isolation, sleep, mitigations.
    pub boot_options: Vec<String>,
    /// Processes that wanted to run in the last minute, on average.
    pub load: Option<f64>,
    /// What the host runs on.
    pub virtualisation: Virtualisation,
    /// Processors.
    pub cpu: Cpu,
    /// Memory of the host.
    pub memory: Memory,
    /// Limits and rights of the process that looked.
    pub process: Process,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Settings of the kernel.
    pub sysctl: Sysctl,
    /// Interfaces of this network namespace.
    pub network: Network,
    /// What had happened when it was looked at, since boot.
    pub counters: Counters,
}

impl Facts {
    /// Reads what lies below `root`; see [`check`](crate::check).
    pub fn read(root: &Path) -> Self {
        let root = Root::new(root);
        Self {
            kernel: root.line("/proc/sys/kernel/osrelease"),
            boot_options: machine::boot_options(&root),
            load: machine::load(&root),
            virtualisation: Virtualisation::read(&root),
            cpu: Cpu::read(&root),
            memory: Memory::read(&root),
            process: Process::read(&root),
            cgroup: Cgroup::read(&root),
            sysctl: Sysctl::read(&root),
            network: Network::read(&root),
            counters: Counters::below(&root),
        }
    }

    /// Whether there was nothing to read: then it was no host's `/proc` and `/sys`.
    pub fn is_empty(&self) -> bool {
        self.kernel.is_none()
            && self.cpu == Cpu::default()
            && self.memory == Memory::default()
            && self.sysctl == Sysctl::default()
            && self.counters == Counters::default()
            && self.network == Network::default()
    }

    /// The kernel's version as far as it can be compared: `(6, 18)`.
    pub(crate) fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut parts = self.kernel.as_deref()?.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// How many sockets receive: one for each core that may be used, unless it was said.
    pub(crate) fn sockets(&self, demand: &crate::Demand) -> u64 {
        let cores = self.cpu.allowed.as_ref().or(self.cpu.online.as_ref());
        let sockets = demand.sockets.or_else(|| cores.map(crate::CoreSet::len));
        sockets.unwrap_or(1).max(1) as u64
    }
}

/// The value behind `key` in lines of the form `key: value` or `key value`.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        // `Udp6InErrors` is not `Udp6In`.
        let is_whole = rest.starts_with([':', ' ', '\t']);
        is_whole.then(|| rest.trim_start_matches([':', ' ', '\t']).trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        let text = "MemTotalX: 1\nMemTotal:   24 kB\nnr_throttled 3\n";
        assert_eq!(value(text, "MemTotal"), Some("24 kB"));
        assert_eq!(value(text, "nr_throttled"), Some("3"));
        assert_eq!(value(text, "nr"), None);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let host = Fixture::fit();
        assert_eq!(Facts::read(host.path()).kernel_version(), Some((6, 12)));
        host.write("/proc/sys/kernel/osrelease", "5.4-rc1\n");
        assert_eq!(Facts::read(host.path()).kernel_version(), Some((5, 4)));
        host.write("/proc/sys/kernel/osrelease", "x\n");
        assert_eq!(Facts::read(host.path()).kernel_version(), None);
    }

    #[test]
    fn a_directory_of_something_else_is_empty() {
        assert!(Facts::read(Fixture::empty().path()).is_empty());
        assert!(!Facts::read(Fixture::fit().path()).is_empty());
    }
}
