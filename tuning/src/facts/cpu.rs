//! Cores, their speeds and their sleep.

use std::collections::BTreeMap;

use serde::Serialize;

use super::value;
use crate::cores::CoreSet;
use crate::root::{Root, cut};

/// The processors.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// By name: of a virtual processor it may say little.
    pub name: Option<String>,
    /// Family and model, which tell virtual processors apart.
    pub family: Option<u32>,
    /// See there.
    pub model: Option<u32>,
    /// Cores that are there.
    pub online: Option<CoreSet>,
    /// Those of them that the process that looked may use.
    pub allowed: Option<CoreSet>,
    /// Those to which the scheduler puts nothing of its own accord (`isolcpus`, isolated cpusets).
    pub isolated: Option<CoreSet>,
    /// Those without a tick while one thread runs (`nohz_full`).
    pub nohz_full: Option<CoreSet>,
    /// Cores that share the execution units of one physical core; those that stand alone are left out.
    pub siblings: Vec<CoreSet>,
    /// Cores by memory node.
    pub nodes: BTreeMap<u32, CoreSet>,
    /// How fast cores run, equal ones together. Empty where nobody can set it, as in most virtual machines.
    pub frequencies: Vec<Frequency>,
    /// Who puts cores to sleep: `intel_idle`, `haltpoll`, `none`.
    pub idle_driver: Option<String>,
    /// How deep the first core that is there may sleep, and how long it takes to wake.
    pub idle_states: Vec<IdleState>,
    /// Where time comes from: `tsc`.
    pub clocksource: Option<String>,
    /// Where else it could come from.
    pub clocksources_available: Vec<String>,
}

/// How fast some cores run.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Frequency {
    /// `intel_pstate`, `amd-pstate-epp`, `acpi-cpufreq`.
    pub driver: Option<String>,
    /// `performance`, `powersave`, `schedutil`.
    pub governor: Option<String>,
    /// What the processor's own control is told to prefer, where it has one.
    pub preference: Option<String>,
    /// Of which cores.
    pub cores: CoreSet,
}

/// A depth of sleep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdleState {
    /// `POLL`, `C1`, `C6`.
    pub name: String,
    /// Microseconds until it is awake again.
    pub latency_us: u64,
    /// Whether it is switched off.
    pub disabled: bool,
}

impl Cpu {
    pub(super) fn read(root: &Root) -> Self {
        let cpuinfo = root.text("/proc/cpuinfo").unwrap_or_default();
        let status = root.text("/proc/self/status").unwrap_or_default();
        let set = |file: &str| CoreSet::from_list(&root.text(&format!("{CPUS}/{file}"))?);
        let online = set("online");
        let cores = online.clone().unwrap_or_default();
        let clock = |file: &str| root.line(&format!("{CLOCK}/{file}"));
        let clocks = clock("available_clocksource").unwrap_or_default();
        Self {
            name: value(&cpuinfo, "model name").map(cut),
            family: value(&cpuinfo, "cpu family").and_then(|text| text.parse().ok()),
            model: value(&cpuinfo, "model").and_then(|text| text.parse().ok()),
            allowed: value(&status, "Cpus_allowed_list").and_then(CoreSet::from_list),
            isolated: set("isolated"),
            nohz_full: set("nohz_full"),
            siblings: siblings(root, &cores),
            nodes: nodes(root),
            frequencies: frequencies(root, &cores),
            idle_driver: root.line(&format!("{CPUS}/cpuidle/current_driver")),
            idle_states: idle_states(root, cores.first().unwrap_or(0)),
            clocksource: clock("current_clocksource"),
            clocksources_available: clocks.split_whitespace().map(cut).collect(),
            online,
        }
    }
}

fn siblings(root: &Root, cores: &CoreSet) -> Vec<CoreSet> {
    let of = |core| {
        let path = format!("{CPUS}/cpu{core}/topology/thread_siblings_list");
        CoreSet::from_list(&root.line(&path)?)
    };
    let mut groups: Vec<CoreSet> = cores
        .iter()
        .filter_map(of)
        .filter(|group| group.len() > 1)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn nodes(root: &Root) -> BTreeMap<u32, CoreSet> {
    let names = root.names(NODES);
    let numbered = names.iter().filter_map(|name| {
        let number: u32 = name.strip_prefix("node")?.parse().ok()?;
        let list = root.text(&format!("{NODES}/{name}/cpulist"))?;
        Some((number, CoreSet::from_list(&list)?))
    });
    numbered.collect()
}

fn frequencies(root: &Root, cores: &CoreSet) -> Vec<Frequency> {
    let mut groups: BTreeMap<Frequency, CoreSet> = BTreeMap::new();
    for core in cores.iter() {
        let of = |file: &str| root.line(&format!("{CPUS}/cpu{core}/cpufreq/{file}"));
        let frequency = Frequency {
            driver: of("scaling_driver"),
            governor: of("scaling_governor"),
            preference: of("energy_performance_preference"),
            cores: CoreSet::default(),
        };
        if frequency != Frequency::default() {
            groups.entry(frequency).or_default().extend([core]);
        }
    }
    let whole = groups
        .into_iter()
        .map(|(frequency, cores)| Frequency { cores, ..frequency });
    whole.collect()
}

fn idle_states(root: &Root, core: u32) -> Vec<IdleState> {
    let folder = format!("{CPUS}/cpu{core}/cpuidle");
    let mut states: Vec<(u32, IdleState)> = root
        .names(&folder)
        .iter()
        .filter_map(|name| {
            let number = name.strip_prefix("state")?.parse().ok()?;
            let of = |file: &str| format!("{folder}/{name}/{file}");
            let state = IdleState {
                name: root.line(&of("name"))?,
                latency_us: root.number(&of("latency"))?,
                disabled: root.number::<u64>(&of("disable")) == Some(1),
            };
            Some((number, state))
        })
        .collect();
    states.sort_unstable_by_key(|(number, _)| *number);
    states.into_iter().map(|(_, state)| state).collect()
}

const CPUS: &str = "/sys/devices/system/cpu";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
const NODES: &str = "/sys/devices/system/node";

#[cfg(test)]
mod tests {
    use crate::Facts;
    use crate::fixture::Fixture;

    #[test]
    fn equal_cores_are_told_together() {
        let host = Fixture::fit();
        let frequencies = Facts::read(host.path()).cpu.frequencies;
        assert_eq!(frequencies.len(), 1);
        assert_eq!(frequencies[0].cores.to_string(), "0-1");
        host.write(
            "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "powersave\n",
        );
        let frequencies = Facts::read(host.path()).cpu.frequencies;
        let told: Vec<_> = frequencies
            .iter()
            .map(|frequency| (frequency.governor.as_deref(), frequency.cores.to_string()))
            .collect();
        assert_eq!(
            told,
            [
                (Some("performance"), "0".into()),
                (Some("powersave"), "1".into())
            ]
        );
    }

    #[test]
    fn siblings_and_nodes_are_read() {
        let host = Fixture::fit();
        assert!(Facts::read(host.path()).cpu.siblings.is_empty());
        for core in ["cpu0", "cpu1"] {
            let path = format!("/sys/devices/system/cpu/{core}/topology/thread_siblings_list");
            host.write(&path, "0-1\n");
        }
        let cpu = Facts::read(host.path()).cpu;
        assert_eq!(cpu.siblings.len(), 1);
        assert_eq!(cpu.nodes[&0].to_string(), "0-1");
        assert_eq!((cpu.family, cpu.model), (Some(25), Some(1)));
        assert_eq!(cpu.name.as_deref(), Some("Test CPU"));
    }

    #[test]
    fn states_of_sleep_come_in_the_order_of_their_depth() {
        let host = Fixture::fit();
        for (number, latency) in [(10, 300), (2, 40)] {
            let of =
                |file: &str| format!("/sys/devices/system/cpu/cpu0/cpuidle/state{number}/{file}");
            host.write(&of("name"), "deep\n");
            host.write(&of("latency"), format!("{latency}\n"));
            host.write(&of("disable"), "1\n");
        }
        let states = Facts::read(host.path()).cpu.idle_states;
        let latencies: Vec<u64> = states.iter().map(|state| state.latency_us).collect();
        assert_eq!(latencies, [0, 2, 40, 300]);
        assert!(states[3].disabled && !states[1].disabled);
    }
}
