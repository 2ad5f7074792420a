//! What only ever grows while the host is up: stolen time, throttling, losses.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::facts::{cgroup_directories, interface_names, value};
use crate::root::Root;

/// Counters since boot, of this network namespace where they are the network's. `None` is what the host does not
/// count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Of all processors together.
    pub ticks: Option<Ticks>,
    /// By directory of the cgroup: of the process that looked, and of those around it.
    pub throttling: BTreeMap<String, Throttling>,
    /// By core.
    pub softnet: BTreeMap<u32, Softnet>,
    /// IPv4.
    pub udp: Udp,
    /// IPv6.
    pub udp6: Udp,
    /// Datagrams whose fragments did not come together, IPv4.
    pub reassembly_failures: Option<u64>,
    /// And IPv6.
    pub reassembly_failures6: Option<u64>,
    /// Packets that interfaces had no room for (`rx_missed_errors`, `rx_fifo_errors`), by name.
    pub interface_losses: BTreeMap<String, u64>,
    /// How often a core was slowed down because it was hot, all cores together.
    pub thermal_throttles: Option<u64>,
}

/// Time of processors in the kernel's ticks (`/proc/stat`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ticks {
    /// All of it.
    pub all: u64,
    /// What a hypervisor gave to others while this machine wanted it.
    pub stolen: u64,
}

/// How a limit of processor time was felt (`cpu.stat`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Throttling {
    /// Periods in which something ran.
    pub periods: u64,
    /// Those in which it was stopped.
    pub throttled: u64,
    /// For how long, in microseconds.
    pub throttled_us: u64,
}

/// What a core did for the network (`/proc/net/softnet_stat`). The kernel counts modulo 2^32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Softnet {
    /// Packets taken in.
    pub processed: u32,
    /// Packets for which its queue (`netdev_max_backlog`) had no room.
    pub dropped: u32,
    /// How often it stopped with work left over (`netdev_budget`).
    pub time_squeeze: u32,
}

/// What UDP counts (`/proc/net/snmp`, `snmp6`), of all sockets together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Udp {
    /// Datagrams to a port where nobody listened.
    pub no_ports: Option<u64>,
    /// Datagrams for which a receive buffer had no room; also counted among those of a bad checksum and others.
    pub rcvbuf_errors: Option<u64>,
    /// Sends for which there was no room.
    pub sndbuf_errors: Option<u64>,
    /// Datagrams with a wrong checksum.
    pub in_csum_errors: Option<u64>,
    /// Datagrams for which all sockets together had no memory left (`udp_mem`).
    pub mem_errors: Option<u64>,
}

impl Counters {
    /// Reads those of the host whose `/proc` and `/sys` lie below `root`; `/` is this one. Takes well below a
    /// millisecond for each core.
    pub fn read(root: &Path) -> Self {
        Self::below(&Root::new(root))
    }

    pub(crate) fn below(root: &Root) -> Self {
        let snmp = root.text("/proc/net/snmp").unwrap_or_default();
        let snmp6 = root.text("/proc/net/snmp6").unwrap_or_default();
        let number6 = |name: &str| value(&snmp6, name)?.parse().ok();
        Self {
            ticks: ticks(&root.text("/proc/stat").unwrap_or_default()),
            throttling: throttling(root),
            softnet: softnet(&root.text("/proc/net/softnet_stat").unwrap_or_default()),
            udp: Udp::of(|name| in_table(&snmp, "Udp: ", name)),
            udp6: Udp::of(|name| number6(&format!("Udp6{name}"))),
            reassembly_failures: in_table(&snmp, "Ip: ", "ReasmFails"),
            reassembly_failures6: number6("Ip6ReasmFails"),
            interface_losses: interface_losses(root),
            thermal_throttles: thermal_throttles(root),
        }
    }

    /// The sum of one counter over both versions of IP; `None` when neither is told.
    pub(crate) fn udp_of(&self, counter: impl Fn(&Udp) -> Option<u64>) -> Option<u64> {
        sum([counter(&self.udp), counter(&self.udp6)])
    }

    /// Fragments that did not come together, of both versions of IP.
    pub(crate) fn reassembly(&self) -> Option<u64> {
        sum([self.reassembly_failures, self.reassembly_failures6])
    }
}

impl Udp {
    fn of(number: impl Fn(&str) -> Option<u64>) -> Self {
        Self {
            no_ports: number("NoPorts"),
            rcvbuf_errors: number("RcvbufErrors"),
            sndbuf_errors: number("SndbufErrors"),
            in_csum_errors: number("InCsumErrors"),
            mem_errors: number("MemErrors"),
        }
    }
}

/// Of those that are known.
fn sum<const N: usize>(parts: [Option<u64>; N]) -> Option<u64> {
    parts.into_iter().flatten().reduce(u64::saturating_add)
}

/// Of the first line: `cpu user nice system idle iowait irq softirq steal ...`. What guests of this host had is in
/// user and nice already.
fn ticks(stat: &str) -> Option<Ticks> {
    let words = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Option<Vec<u64>> = words
        .split_whitespace()
        .take(8)
        .map(|word| word.parse().ok())
        .collect();
    let ticks = ticks.filter(|ticks| ticks.len() == 8)?;
    Some(Ticks {
        all: ticks.iter().fold(0, |all, part| all.saturating_add(*part)),
        stolen: ticks[7],
    })
}

fn throttling(root: &Root) -> BTreeMap<String, Throttling> {
    let directories = cgroup_directories(root).into_iter();
    let known = directories.filter_map(|directory| {
        let stat = root.text(&format!("{}/cpu.stat", directory.path))?;
        let number = |name: &str| value(&stat, name)?.parse::<u64>().ok();
        // The first version of cgroups counts nanoseconds, under another name.
        let throttled_us =
            number("throttled_usec").or_else(|| Some(number("throttled_time")? / 1000));
        let throttling = Throttling {
            periods: number("nr_periods")?,
            throttled: number("nr_throttled")?,
            throttled_us: throttled_us.unwrap_or(0),
        };
        Some((directory.path, throttling))
    });
    known.collect()
}

/// A row for each core, in hexadecimal: processed, dropped, time_squeeze, ..., and the core's number as the thirteenth
/// since Linux 5.10. Before that rows of cores that are off are left out, and who is meant is a guess.
fn softnet(table: &str) -> BTreeMap<u32, Softnet> {
    let rows = (0..).zip(table.lines()).filter_map(|(index, line)| {
        let words: Option<Vec<u32>> = line
            .split_whitespace()
            .map(|word| u32::from_str_radix(word, 16).ok())
            .collect();
        let words = words?;
        let [processed, dropped, time_squeeze, ..] = words[..] else {
            return None;
        };
        let core = words.get(12).copied().unwrap_or(index);
        Some((
            core,
            Softnet {
                processed,
                dropped,
                time_squeeze,
            },
        ))
    });
    rows.collect()
}

/// Of pairs of lines that begin alike: names, then numbers.
fn in_table(table: &str, prefix: &str, name: &str) -> Option<u64> {
    let mut rows = table.lines().filter_map(|line| line.strip_prefix(prefix));
    let (names, numbers) = (rows.next()?, rows.next()?);
    let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
    let (_, number) = pairs.find(|(found, _)| *found == name)?;
    number.parse().ok()
}

fn interface_losses(root: &Root) -> BTreeMap<String, u64> {
    let names = interface_names(root).into_iter();
    let known = names.filter_map(|name| {
        let of = |file: &str| root.number(&format!("/sys/class/net/{name}/statistics/{file}"));
        let losses = sum([of("rx_missed_errors"), of("rx_fifo_errors")])?;
        Some((name, losses))
    });
    known.collect()
}

fn thermal_throttles(root: &Root) -> Option<u64> {
    let cpus = "/sys/devices/system/cpu";
    let names = root.names(cpus);
    let cores = names.iter().filter(|name| {
        let number = name.strip_prefix("cpu");
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    let counts = cores.filter_map(|core| {
        root.number::<u64>(&format!(
            "{cpus}/{core}/thermal_throttle/core_throttle_count"
        ))
    });
    counts.reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn read(host: &Fixture) -> Counters {
        Counters::read(host.path())
    }

    #[test]
    fn stolen_time_is_the_eighth() {
        let host = Fixture::fit();
        host.write("/proc/stat", "cpu  1 2 3 4 5 6 7 8 9 9\ncpu0 1\n");
        assert_eq!(read(&host).ticks, Some(Ticks { all: 36, stolen: 8 }));
        for wrong in [
            "cpu  1 2 3\n",
            "cpu0 1 2 3 4 5 6 7 8\n",
            "cpu  1 2 3 4 5 6 7 x\n",
            "",
        ] {
            host.write("/proc/stat", wrong);
            assert_eq!(read(&host).ticks, None, "{wrong}");
        }
        let most = u64::MAX;
        host.write("/proc/stat", format!("cpu  {most} {most} 3 4 5 6 7 8\n"));
        assert_eq!(
            read(&host).ticks,
            Some(Ticks {
                all: most,
                stolen: 8
            })
        );
    }

    #[test]
    fn throttling_is_told_by_both_versions_of_cgroups() {
        let host = Fixture::fit();
        let stat = "/sys/fs/cgroup/run/cpu.stat";
        host.write(
            stat,
            "usage_usec 9\nnr_periods 10\nnr_throttled 2\nthrottled_usec 77\n",
        );
        let told = |throttled_us| Throttling {
            periods: 10,
            throttled: 2,
            throttled_us,
        };
        assert_eq!(read(&host).throttling["/sys/fs/cgroup/run"], told(77));
        host.write(
            stat,
            "nr_periods 10\nnr_throttled 2\nthrottled_time 77000\n",
        );
        assert_eq!(read(&host).throttling["/sys/fs/cgroup/run"], told(77));
        // A group without a limit of its own tells no periods.
        host.write(stat, "usage_usec 9\n");
        assert!(read(&host).throttling.is_empty());
    }

    #[test]
    fn a_row_of_softnet_belongs_to_the_core_it_names() {
        let host = Fixture::fit();
        host.write(
            "/proc/net/softnet_stat",
            "0000000a 00000001 00000002 0 0 0 0 0 0 0 0 0 00000005 0 0\nff 0 3\nzz 0 0\n",
        );
        let softnet = read(&host).softnet;
        let row = |processed, dropped, time_squeeze| Softnet {
            processed,
            dropped,
            time_squeeze,
        };
        assert_eq!(
            softnet,
            BTreeMap::from([(5, row(10, 1, 2)), (1, row(255, 0, 3))])
        );
    }

    #[test]
    fn udp_is_counted_over_both_versions_of_ip() {
        let host = Fixture::fit();
        host.write(
            "/proc/net/snmp",
            "Udp: RcvbufErrors NoPorts\nUdp: 3 4\nUdpLite: RcvbufErrors\nUdpLite: 9\n",
        );
        host.write(
            "/proc/net/snmp6",
            "Udp6RcvbufErrors   \t 5\nUdp6InErrors 6\n",
        );
        let counters = read(&host);
        assert_eq!(counters.udp_of(|udp| udp.rcvbuf_errors), Some(8));
        assert_eq!(counters.udp_of(|udp| udp.no_ports), Some(4));
        assert_eq!(counters.udp_of(|udp| udp.mem_errors), None);
        assert_eq!(counters.reassembly(), None);
    }

    #[test]
    fn losses_of_interfaces_and_heat_are_summed() {
        let host = Fixture::fit();
        host.write("/sys/class/net/eth0/statistics/rx_missed_errors", "3\n");
        host.write("/sys/class/net/eth0/statistics/rx_fifo_errors", "4\n");
        host.write(
            "/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count",
            "5\n",
        );
        let counters = read(&host);
        assert_eq!(
            counters.interface_losses,
            BTreeMap::from([("eth0".to_owned(), 7)])
        );
        assert_eq!(counters.thermal_throttles, Some(5));
    }

    #[test]
    fn this_very_host_counts_its_ticks() {
        let ticks = Counters::read(Path::new("/")).ticks.unwrap();
        assert!(ticks.all > 0 && ticks.stolen <= ticks.all);
    }
}
