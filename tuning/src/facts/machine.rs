//! Kernel, memory, and what the host runs on.

use serde::Serialize;

use super::value;
use crate::root::{Root, cut};

/// Whether the host is one, and whose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Virtualisation {
    /// Whether the processor says that a hypervisor is below it (`hypervisor` among the flags of `/proc/cpuinfo`; x86
    /// alone has it).
    pub hypervisor: Option<bool>,
    /// Who made the machine, by its firmware: `QEMU`, `Dell Inc.`.
    pub vendor: Option<String>,
    /// What it calls itself: `KVM`, `PowerEdge R6525`.
    pub product: Option<String>,
    /// The hypervisor's own word, where it has one: `xen`.
    pub kind: Option<String>,
    /// What kind of container this is, where it leaves a trace: `docker`, `podman`, or what systemd was told.
    pub container: Option<String>,
}

/// Memory of the host, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All of it.
    pub total: Option<u64>,
    /// What programs could have without swapping.
    pub available: Option<u64>,
    /// Swap that is in use.
    pub swapped: Option<u64>,
    /// The kernel's page.
    pub page: Option<u64>,
    /// When it makes huge pages of its own accord: `always`, `madvise`, `never`.
    pub transparent_hugepages: Option<String>,
}

impl Virtualisation {
    pub(super) fn read(root: &Root) -> Self {
        let cpuinfo = root.text("/proc/cpuinfo").unwrap_or_default();
        let flags = value(&cpuinfo, "flags");
        Self {
            hypervisor: flags
                .map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            vendor: root.line("/sys/class/dmi/id/sys_vendor"),
            product: root.line("/sys/class/dmi/id/product_name"),
            kind: root.line("/sys/hypervisor/type"),
            container: container(root),
        }
    }

    /// What speaks for a virtual machine; `None` where nothing does.
    pub fn evidence(&self) -> Option<String> {
        let named = |word: &Option<String>| word.clone().filter(|word| is_virtual(word));
        if let Some(kind) = &self.kind {
            return Some(kind.clone());
        }
        match (named(&self.vendor), named(&self.product)) {
            (Some(vendor), Some(product)) => Some(format!("{vendor} {product}")),
            (Some(one), None) | (None, Some(one)) => Some(one),
            (None, None) if self.hypervisor == Some(true) => Some("the flag hypervisor".to_owned()),
            (None, None) => None,
        }
    }
}

impl Memory {
    pub(super) fn read(root: &Root) -> Self {
        let meminfo = root.text("/proc/meminfo").unwrap_or_default();
        let bytes = |text: &str, key| {
            let kib = value(text, key)?.strip_suffix(" kB")?.trim();
            kib.parse::<u64>().ok()?.checked_mul(1024)
        };
        let swapped = bytes(&meminfo, "SwapTotal")
            .zip(bytes(&meminfo, "SwapFree"))
            .map(|(total, free)| total.saturating_sub(free));
        // The first mapping is enough, and the whole file would cost the kernel a walk over all of them.
        let mapping = root.head("/proc/self/smaps", 4096).unwrap_or_default();
        let huge = root.line("/sys/kernel/mm/transparent_hugepage/enabled");
        Self {
            total: bytes(&meminfo, "MemTotal"),
            available: bytes(&meminfo, "MemAvailable"),
            swapped,
            page: bytes(&mapping, "KernelPageSize").filter(|page| page.is_power_of_two()),
            transparent_hugepages: huge.and_then(|line| chosen(&line)),
        }
    }
}

/// Those options of the kernel's command line that measurements feel. The others are nobody's business in a report.
pub(super) fn boot_options(root: &Root) -> Vec<String> {
    let line = root.text("/proc/cmdline").unwrap_or_default();
    let words = line.split_whitespace();
    let felt = words.filter(|word| {
        let name = word.split('=').next();
        name.is_some_and(|name| BOOT_OPTIONS.contains(&name))
    });
    felt.take(BOOT_OPTIONS_MAX).map(cut).collect()
}

/// Processes that wanted to run in the last minute, on average.
pub(super) fn load(root: &Root) -> Option<f64> {
    let line = root.line("/proc/loadavg")?;
    let load: f64 = line.split_whitespace().next()?.parse().ok()?;
    load.is_finite().then_some(load)
}

/// The word in brackets: `always [madvise] never`.
fn chosen(line: &str) -> Option<String> {
    let (_, after) = line.split_once('[')?;
    after.split_once(']').map(|(word, _)| word.to_owned())
}

fn container(root: &Root) -> Option<String> {
    if let Some(kind) = root.line("/run/systemd/container") {
        return Some(kind);
    }
    let traces = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    let trace = traces.into_iter().find(|(path, _)| root.has(path));
    trace.map(|(_, kind)| kind.to_owned())
}

/// Of vendors and products of virtual machines. Not `Microsoft` or `Google` alone, who make metal too.
fn is_virtual(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "qemu",
        "kvm",
        "vmware",
        "virtualbox",
        "innotek",
        "xen",
        "bochs",
        "parallels",
        "bhyve",
        "virtual machine",
        "amazon ec2",
        "compute engine",
        "openstack",
    ];
    let name = name.to_lowercase();
    // Metal of the same cloud: its products end in that.
    !name.contains("metal") && NAMES.iter().any(|virtual_| name.contains(virtual_))
}

const BOOT_OPTIONS: [&str; 14] = [
    "isolcpus",
    "nohz",
    "nohz_full",
    "rcu_nocbs",
    "irqaffinity",
    "mitigations",
    "idle",
    "intel_idle.max_cstate",
    "processor.max_cstate",
    "intel_pstate",
    "amd_pstate",
    "tsc",
    "clocksource",
    "skew_tick",
];

const BOOT_OPTIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Facts;
    use crate::fixture::Fixture;

    #[test]
    fn a_virtual_machine_is_known_by_its_flag_or_by_its_maker() {
        let host = Fixture::fit();
        let evidence = || Facts::read(host.path()).virtualisation.evidence();
        assert_eq!(evidence(), None);
        host.edit("/proc/cpuinfo", "fpu", "fpu hypervisor");
        assert_eq!(evidence().as_deref(), Some("the flag hypervisor"));
        host.write("/sys/class/dmi/id/sys_vendor", "QEMU\n");
        assert_eq!(evidence().as_deref(), Some("QEMU"));
        host.write("/sys/hypervisor/type", "xen\n");
        assert_eq!(evidence().as_deref(), Some("xen"));
    }

    #[test]
    fn metal_of_a_cloud_is_metal() {
        assert!(is_virtual("Amazon EC2"));
        assert!(!is_virtual("Amazon EC2 c6gn.metal"));
        assert!(!is_virtual("Microsoft Corporation"));
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let host = Fixture::fit();
        let memory = Facts::read(host.path()).memory;
        assert_eq!(memory.available, Some(12_000_000 * 1024));
        assert_eq!(memory.page, Some(4096));
        assert_eq!(memory.transparent_hugepages.as_deref(), Some("madvise"));
        assert_eq!(memory.swapped, None);
        host.write(
            "/proc/meminfo",
            "MemTotal: 99999999999999999999 kB\nSwapTotal: 9 kB\nSwapFree: 4 kB\n",
        );
        let memory = Facts::read(host.path()).memory;
        assert_eq!((memory.total, memory.swapped), (None, Some(5 * 1024)));
    }

    #[test]
    fn of_the_boot_options_only_those_are_kept_that_measurements_feel() {
        let host = Fixture::fit();
        host.write(
            "/proc/cmdline",
            "root=UUID=secret quiet isolcpus=1 mitigations=off\n",
        );
        assert_eq!(
            Facts::read(host.path()).boot_options,
            ["isolcpus=1", "mitigations=off"]
        );
    }

    #[test]
    fn a_container_leaves_a_trace() {
        let host = Fixture::fit();
        let kind = || Facts::read(host.path()).virtualisation.container;
        assert_eq!(kind(), None);
        host.write("/.dockerenv", "");
        assert_eq!(kind().as_deref(), Some("docker"));
        host.write("/run/systemd/container", "lxc\n");
        assert_eq!(kind().as_deref(), Some("lxc"));
    }
}
