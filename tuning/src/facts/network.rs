//! Interfaces, their queues and their interrupts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cores::{CORES_MAX, CoreSet};
use crate::root::{Root, cut};

/// What belongs to the network namespace of the process that looked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// By name; of very many the first.
    pub interfaces: BTreeMap<String, Interface>,
    /// Interfaces beyond the limit.
    pub interfaces_left_out: usize,
    /// The firewall's table of connections; `None` when it is not loaded.
    pub conntrack: Option<Conntrack>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// `up`, `down`, `unknown` (loopback always).
    pub state: Option<String>,
    /// Of the device behind it; `None` for those that the kernel made up: loopback, veth, bridges.
    pub driver: Option<String>,
    /// Largest IP packet in bytes.
    pub mtu: Option<u64>,
    /// Memory node of the device; -1 where there is but one.
    pub numa_node: Option<i32>,
    /// For each receive queue the cores to which the kernel spreads its packets (RPS); empty: where they arrive.
    pub rx_queues: Vec<CoreSet>,
    /// For each transmit queue the cores that use it (XPS); empty: any.
    pub tx_queues: Vec<CoreSet>,
    /// Of the device.
    pub irqs: Vec<Irq>,
    /// How often an interrupt is put off when there is still work.
    pub napi_defer_hard_irqs: Option<u64>,
    /// Nanoseconds that packets wait to be merged with others.
    pub gro_flush_timeout: Option<u64>,
    /// Whether threads do the work that interrupts did.
    pub threaded: Option<bool>,
}

/// An interrupt of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Irq {
    /// Its number.
    pub number: u32,
    /// What the driver calls it: `eth0-TxRx-0`.
    pub name: String,
    /// How often it came, on all cores together.
    pub count: u64,
    /// Where it comes: effective affinity, or what is asked for where that is not told.
    pub cores: Option<CoreSet>,
}

/// Connections that the firewall keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Conntrack {
    /// Now.
    pub count: u64,
    /// At most: packets of others are dropped.
    pub max: Option<u64>,
}

impl Network {
    pub(super) fn read(root: &Root) -> Self {
        let mut names = root.names(INTERFACES);
        let interfaces_left_out = names.len().saturating_sub(INTERFACES_MAX);
        names.truncate(INTERFACES_MAX);
        let interrupts = Interrupts::read(root);
        let interfaces = names.into_iter().map(|name| {
            let interface = Interface::read(root, &name, &interrupts);
            (name, interface)
        });
        let conntrack =
            |file: &str| root.number(&format!("/proc/sys/net/netfilter/nf_conntrack_{file}"));
        Self {
            interfaces: interfaces.collect(),
            interfaces_left_out,
            conntrack: conntrack("count").map(|count| Conntrack {
                count,
                max: conntrack("max"),
            }),
        }
    }
}

impl Interface {
    fn read(root: &Root, name: &str, interrupts: &Interrupts) -> Self {
        let path = |file: &str| format!("{INTERFACES}/{name}/{file}");
        let device = root.text(&path("device/uevent")).unwrap_or_default();
        let driver = device
            .lines()
            .find_map(|line| line.strip_prefix("DRIVER="))
            .map(cut);
        Self {
            state: root.line(&path("operstate")),
            mtu: root.number(&path("mtu")),
            numa_node: root.number(&path("device/numa_node")),
            rx_queues: queues(root, name, "rx-", "rps_cpus"),
            tx_queues: queues(root, name, "tx-", "xps_cpus"),
            irqs: irqs(root, name, driver.as_deref(), interrupts),
            napi_defer_hard_irqs: root.number(&path("napi_defer_hard_irqs")),
            gro_flush_timeout: root.number(&path("gro_flush_timeout")),
            threaded: root
                .number::<u8>(&path("threaded"))
                .map(|threaded| threaded != 0),
            driver,
        }
    }

    /// Whether there is a device behind it and a cable in it, as far as the kernel knows.
    pub(crate) fn is_in_use(&self) -> bool {
        self.driver.is_some() && self.state.as_deref() == Some("up")
    }
}

/// The names of the interfaces whose counters are kept.
pub(crate) fn interface_names(root: &Root) -> Vec<String> {
    let mut names = root.names(INTERFACES);
    names.truncate(INTERFACES_MAX);
    names
}

/// For each queue what its file of cores says; a file that says nothing is the empty set.
fn queues(root: &Root, interface: &str, prefix: &str, file: &str) -> Vec<CoreSet> {
    let folder = format!("{INTERFACES}/{interface}/queues");
    let mut queues: Vec<(u32, CoreSet)> = root
        .names(&folder)
        .iter()
        .filter_map(|name| {
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            let mask = root.text(&format!("{folder}/{name}/{file}"));
            let cores = mask.and_then(|mask| CoreSet::from_mask(&mask));
            Some((number, cores.unwrap_or_default()))
        })
        .collect();
    queues.sort_unstable_by_key(|(number, _)| *number);
    queues.into_iter().map(|(_, cores)| cores).collect()
}

/// Those that the device's directory lists, or, where there is none, those that have the interface's name in theirs.
fn irqs(root: &Root, interface: &str, driver: Option<&str>, interrupts: &Interrupts) -> Vec<Irq> {
    let listed = |folder: &str| {
        let names = root.names(&format!("{INTERFACES}/{interface}/{folder}"));
        names.iter().filter_map(|name| name.parse().ok()).collect()
    };
    let mut numbers: Vec<u32> = listed("device/msi_irqs");
    if numbers.is_empty() && driver == Some("virtio_net") {
        // A virtio device borrows the interrupts of the PCI device above it. Above others is a bridge with its own.
        numbers = listed("device/../msi_irqs");
    }
    if numbers.is_empty() {
        let ours = |name: &str| {
            let rest = name.strip_prefix(interface);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ':', '@']))
        };
        let named = interrupts.0.iter().filter(|(_, row)| ours(&row.name));
        numbers = named.map(|(number, _)| *number).collect();
    }
    numbers.truncate(CORES_MAX as usize);
    let whole = numbers.into_iter().map(|number| {
        let row = interrupts.0.get(&number).cloned().unwrap_or_default();
        let cores =
            |file: &str| CoreSet::from_list(&root.line(&format!("/proc/irq/{number}/{file}"))?);
        Irq {
            number,
            // A kernel without the effective one, or a device that has none, answers with nothing.
            cores: cores("effective_affinity_list").or_else(|| cores("smp_affinity_list")),
            ..row
        }
    });
    whole.collect()
}

/// The numbered rows of `/proc/interrupts`.
struct Interrupts(BTreeMap<u32, Irq>);

impl Interrupts {
    fn read(root: &Root) -> Self {
        let text = root.text("/proc/interrupts").unwrap_or_default();
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let cores = header
            .split_whitespace()
            .filter(|word| word.starts_with("CPU"))
            .count();
        let rows = lines.filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let number = number.trim().parse().ok()?;
            let counts = rest.split_whitespace().take(cores);
            let count = counts.filter_map(|word| word.parse::<u64>().ok());
            let count = count.fold(0, u64::saturating_add);
            let name = rest
                .split_whitespace()
                .skip(cores)
                .last()
                .map(cut)
                .unwrap_or_default();
            Some((
                number,
                Irq {
                    number,
                    name,
                    count,
                    cores: None,
                },
            ))
        });
        Self(rows.collect())
    }
}

const INTERFACES: &str = "/sys/class/net";

/// A host of containers has thousands, and nobody reads on.
const INTERFACES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Facts;
    use crate::fixture::Fixture;

    fn eth0(host: &Fixture) -> Interface {
        Facts::read(host.path()).network.interfaces["eth0"].clone()
    }

    #[test]
    fn interrupts_are_found_by_the_name_of_the_interface() {
        let host = Fixture::fit();
        let irqs = eth0(&host).irqs;
        let told: Vec<_> = irqs
            .iter()
            .map(|irq| {
                (
                    irq.number,
                    irq.name.as_str(),
                    irq.count,
                    irq.cores.clone().unwrap().to_string(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (41, "eth0-TxRx-0", 100, "1".into()),
                (42, "eth0-TxRx-1", 80, "0".into())
            ]
        );
    }

    #[test]
    fn the_device_knows_its_interrupts_better() {
        let host = Fixture::fit();
        host.write("/sys/class/net/eth0/device/msi_irqs/42", "msix\n");
        host.remove("/proc/irq/42/effective_affinity_list");
        host.write("/proc/irq/42/smp_affinity_list", "0-1\n");
        let irqs = eth0(&host).irqs;
        assert_eq!(irqs.len(), 1);
        assert_eq!(irqs[0].cores.as_ref().unwrap().to_string(), "0-1");
    }

    #[test]
    fn a_virtio_device_has_those_of_the_device_above_it() {
        let host = Fixture::fit();
        host.write("/sys/class/net/eth0/device/uevent", "DRIVER=virtio_net\n");
        host.write("/sys/class/net/eth0/msi_irqs/41", "msix\n");
        assert_eq!(eth0(&host).irqs.len(), 1);
        assert_eq!(eth0(&host).driver.as_deref(), Some("virtio_net"));
    }

    #[test]
    fn queues_come_in_the_order_of_their_numbers() {
        let host = Fixture::fit();
        host.write(
            "/sys/class/net/eth0/queues/rx-10/rps_cpus",
            "00000000,00000002\n",
        );
        host.write("/sys/class/net/eth0/queues/rx-2/rps_cpus", "garbage\n");
        let queues: Vec<String> = eth0(&host)
            .rx_queues
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(queues, ["none", "none", "none", "1"]);
    }

    #[test]
    fn of_very_many_interfaces_the_first_are_told_and_the_others_counted() {
        let host = Fixture::fit();
        for number in 0..70 {
            host.write(&format!("/sys/class/net/veth{number}/mtu"), "1500\n");
        }
        let network = Facts::read(host.path()).network;
        assert_eq!(
            (network.interfaces.len(), network.interfaces_left_out),
            (64, 7)
        );
    }

    #[test]
    fn conntrack_is_known_by_its_count() {
        let host = Fixture::fit();
        assert_eq!(Facts::read(host.path()).network.conntrack, None);
        host.write("/proc/sys/net/netfilter/nf_conntrack_count", "7\n");
        let conntrack = Facts::read(host.path()).network.conntrack;
        assert_eq!(
            conntrack,
            Some(Conntrack {
                count: 7,
                max: None
            })
        );
    }

    #[test]
    fn a_value_of_a_device_is_cut() {
        let host = Fixture::fit();
        host.write(
            "/sys/class/net/eth0/device/uevent",
            format!("DRIVER={}\n", "x".repeat(9999)),
        );
        assert!(eth0(&host).driver.unwrap().len() < 1000);
    }
}
