//! Cores: how many, how fast, whose.

use crate::counters::Ticks;
use crate::demand::Demand;
use crate::facts::{Facts, Frequency};
use crate::finding::{Finding, Findings, Knob, Severity};

/// Whether sender and receiver can run at the same time.
pub(super) fn cores(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let cpu = &facts.cpu;
    findings.judge(&CORES, cpu.allowed.as_ref(), |allowed| {
        let online = cpu
            .online
            .as_ref()
            .map_or_else(|| "?".to_owned(), ToString::to_string);
        let value = format!("{allowed} of {online}");
        match allowed.len() {
            0 | 1 => CORES.matters(
                value,
                "taskset -c 0-1 COMMAND    # or a cpuset, or a machine, with two cores",
            ),
            _ => CORES.ok(value),
        }
    });
}

/// Whether the scheduler spreads threads over the cores there are.
pub(super) fn isolated(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let (isolated, allowed) = (facts.cpu.isolated.as_ref(), facts.cpu.allowed.as_ref());
    findings.judge(&ISOLATED, isolated.zip(allowed), |(isolated, allowed)| {
        let is_all = allowed.len() > 1 && allowed.is_subset(isolated);
        let value = format!("{isolated} isolated, {allowed} allowed");
        if is_all {
            let fix = "taskset -c CORES COMMAND    # CORES: at least one that is not isolated; shards are pinned by modparam(\"binrush\", \"pin\", ...)";
            ISOLATED.matters(value, fix)
        } else {
            ISOLATED.ok(value)
        }
    });
}

/// Whether two cores are one.
pub(super) fn siblings(facts: &Facts, _: &Demand, findings: &mut Findings) {
    findings.judge(&SIBLINGS, facts.cpu.allowed.as_ref(), |allowed| {
        let shared = facts.cpu.siblings.iter().map(|group| group.and(allowed));
        let shared: Vec<_> = shared.filter(|group| group.len() > 1).collect();
        let physical = allowed.len() - shared.iter().map(|group| group.len() - 1).sum::<usize>();
        let told = |groups: usize| {
            let groups: Vec<String> = shared.iter().take(groups).map(|group| format!("{{{group}}}")).collect();
            groups.join(" ")
        };
        let more = if shared.len() > GROUPS_TOLD { " ..." } else { "" };
        let value = format!("{physical} physical cores; shared: {}{more}", told(GROUPS_TOLD));
        let fix = "taskset -c CORES COMMAND    # CORES: one of each group; for good: echo off > /sys/devices/system/cpu/smt/control";
        match (shared.is_empty(), physical) {
            (true, _) => SIBLINGS.ok("none among those allowed"),
            (false, 1) => SIBLINGS.matters(value, fix),
            (false, _) => SIBLINGS.note(value, fix),
        }
    });
}

/// How fast cores run.
pub(super) fn governor(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let groups = &facts.cpu.frequencies;
    if groups.is_empty() {
        match facts.virtualisation.evidence() {
            Some(_) => findings.add(GOVERNOR.ok("the host's business: this is a virtual machine")),
            None => findings.unknown(&GOVERNOR),
        }
    }
    for group in groups {
        let finding = of_frequency(group);
        findings.add(if groups.len() > 1 {
            finding.about(&format!("cores {}", group.cores))
        } else {
            finding
        });
    }
}

/// Whether a core that waits comes back at once.
pub(super) fn sleep(facts: &Facts, _: &Demand, findings: &mut Findings) {
    findings.judge(&SLEEP, facts.cpu.idle_driver.as_deref(), |driver| {
        let awake = facts.cpu.idle_states.iter().filter(|state| !state.disabled);
        let Some(deepest) = awake.max_by_key(|state| state.latency_us) else {
            return SLEEP.ok(format!("{driver}, no states"));
        };
        let value = format!(
            "{driver}, deepest {} with {} us to wake",
            deepest.name, deepest.latency_us
        );
        if deepest.latency_us > WAKE_MAX_US {
            SLEEP.note(value, format!("cpupower idle-set -D {WAKE_MAX_US}"))
        } else {
            SLEEP.ok(value)
        }
    });
}

/// What a look at the clock costs.
pub(super) fn clocksource(facts: &Facts, _: &Demand, findings: &mut Findings) {
    findings.judge(&CLOCKSOURCE, facts.cpu.clocksource.as_deref(), |source| {
        let available = &facts.cpu.clocksources_available;
        let better = CLOCKS_READ_IN_PLACE.iter().find(|fast| available.iter().any(|name| name == *fast));
        let fix = better.map_or_else(
            || "dmesg | grep -i -e clocksource -e tsc    # why there is no better one".to_owned(),
            |better| {
                format!("echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource")
            },
        );
        let value = format!("{source}, of {}", available.join(" "));
        if CLOCKS_READ_IN_PLACE.contains(&source) {
            CLOCKSOURCE.ok(value)
        } else if CLOCKS_SLOW.contains(&source) {
            CLOCKSOURCE.matters(value, fix)
        } else {
            CLOCKSOURCE.note(value, fix)
        }
    });
}

/// Whether a counter of the processor is taken, and a tick with it.
pub(super) fn watchdog(facts: &Facts, _: &Demand, findings: &mut Findings) {
    findings.judge(&WATCHDOG, facts.sysctl.nmi_watchdog, |on| match on {
        0 => WATCHDOG.ok("0"),
        on => WATCHDOG.note(on, "sysctl -w kernel.nmi_watchdog=0"),
    });
}

/// Whether pages wander between memories.
pub(super) fn numa_balancing(facts: &Facts, _: &Demand, findings: &mut Findings) {
    // A kernel without the setting does not do it.
    let Some(on) = facts.sysctl.numa_balancing else {
        return;
    };
    let nodes = facts.cpu.nodes.len();
    let value = format!("{on}, with {nodes} memory nodes");
    findings.add(if on != 0 && nodes > 1 {
        NUMA_BALANCING.note(value, "sysctl -w kernel.numa_balancing=0")
    } else {
        NUMA_BALANCING.ok(value)
    });
}

/// Whether there is a host below this one.
pub(super) fn virtual_machine(facts: &Facts, _: &Demand, findings: &mut Findings) {
    let machine = &facts.virtualisation;
    let known = machine.hypervisor.is_some() || machine.product.is_some() || machine.kind.is_some();
    findings.judge(&VIRTUAL, known.then_some(()), |()| {
        match machine.evidence() {
            Some(evidence) => VIRTUAL.note(
                evidence,
                "binrush-bench compare    # figures of one run on one machine beside each other",
            ),
            None => VIRTUAL.ok("none seen"),
        }
    });
}

/// What a hypervisor gave to others since boot: a note at most, because that may be long ago. During a run its growth is
/// judged ([`delta`](crate::delta())).
pub(super) fn steal(facts: &Facts, _: &Demand, findings: &mut Findings) {
    findings.judge(&STEAL, facts.counters.ticks, |Ticks { all, stolen }| {
        let when = "of the processors' time since boot";
        let value = format!("{:.2} % {when}", percent(stolen, all));
        if stolen_share(stolen, all, when).is_some() {
            STEAL.note(value, STEAL_FIX)
        } else {
            STEAL.ok(value)
        }
    });
}

/// That so much of a time was stolen; `None` when it is too little to be told.
pub(crate) fn stolen_share(stolen: u64, all: u64, when: &str) -> Option<Finding> {
    let percent = percent(stolen, all);
    let value = format!("{percent:.2} % {when}");
    if percent > STEAL_MATTERS_PERCENT {
        Some(STEAL.matters(value, STEAL_FIX))
    } else if percent > STEAL_NOTE_PERCENT {
        Some(STEAL.note(value, STEAL_FIX))
    } else {
        None
    }
}

fn percent(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64 * 100.0
}

fn of_frequency(frequency: &Frequency) -> Finding {
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "?".to_owned());
    let (driver, governor) = (word(&frequency.driver), word(&frequency.governor));
    let preference = frequency
        .preference
        .as_ref()
        .map(|preference| format!(", preference {preference}"));
    let value = format!("{governor} by {driver}{}", preference.unwrap_or_default());
    let severity = match governor.as_str() {
        "performance" => Severity::Ok,
        // With these two drivers that name means that the processor itself decides; with others, the lowest frequency.
        "powersave" if !SELF_GOVERNED.contains(&driver.as_str()) => Severity::Matters,
        _ => Severity::Note,
    };
    GOVERNOR.finding(
        severity,
        value,
        GOVERNOR.path,
        "cpupower frequency-set -g performance".to_owned(),
    )
}

static CORES: Knob = Knob {
    id: "cores",
    subject: "cores allowed",
    path: "/proc/self/status, Cpus_allowed_list",
    why: "on one core sender and receiver take turns, and what is measured is the scheduler",
    risk: "other programs on those cores get less of them",
};

static ISOLATED: Knob = Knob {
    id: "isolated",
    subject: "isolated cores",
    path: "/sys/devices/system/cpu/isolated",
    why: "the scheduler moves nothing between isolated cores: threads that are not pinned stay together on the one where they began",
    risk: "threads that are not pinned may disturb those that are",
};

static SIBLINGS: Knob = Knob {
    id: "smt",
    subject: "cores that share a physical one",
    path: "/sys/devices/system/cpu/cpu*/topology/thread_siblings_list",
    why: "two threads on one physical core slow each other down, by how much depends on what each does",
    risk: "without the siblings the host can do less altogether",
};

static GOVERNOR: Knob = Knob {
    id: "governor",
    subject: "frequency governor",
    path: "/sys/devices/system/cpu/cpu*/cpufreq",
    why: "nanoseconds per packet depend on the frequency, and a core that was slow while it waited begins its next burst slowly",
    risk: "more power is used, and heat made, also when nothing is to be done",
};

static SLEEP: Knob = Knob {
    id: "cpuidle",
    subject: "sleep of cores",
    path: "/sys/devices/system/cpu/cpuidle, cpu*/cpuidle",
    why: "the first packet after a pause waits until the core is awake",
    risk: "more power is used when nothing is to be done, and other cores may have less left for their highest frequency",
};

static CLOCKSOURCE: Knob = Knob {
    id: "clocksource",
    subject: "clock",
    path: "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    why: "a clock that only the kernel can read costs a microsecond or more each time, and is read for each packet that a generator stamps",
    risk: "a clock that the kernel had turned away from may run differently on each core",
};

static WATCHDOG: Knob = Knob {
    id: "nmi_watchdog",
    subject: "kernel.nmi_watchdog",
    path: "/proc/sys/kernel/nmi_watchdog",
    why: "it takes one of the processor's counters away from profiles, and interrupts each core now and then",
    risk: "a core that hangs with interrupts off is not found out",
};

static NUMA_BALANCING: Knob = Knob {
    id: "numa_balancing",
    subject: "kernel.numa_balancing",
    path: "/proc/sys/kernel/numa_balancing",
    why: "pages are taken away to see who uses them, which stalls threads that are pinned where they should be",
    risk: "programs that are not pinned may work on memory of the other node",
};

static VIRTUAL: Knob = Knob {
    id: "virtual_machine",
    subject: "virtual machine",
    path: "/proc/cpuinfo, /sys/class/dmi/id, /sys/hypervisor",
    why: "system calls, interrupts and waking cost more than on metal, and differently on each host: figures are comparable within this machine alone",
    risk: "none: it changes nothing",
};

static STEAL: Knob = Knob {
    id: "steal",
    subject: "stolen time",
    path: "/proc/stat, cpu, eighth column",
    why: "the hypervisor ran others while this machine wanted to run: pauses of milliseconds that no program here can see or help",
    risk: "none: it changes nothing",
};

const STEAL_FIX: &str =
    "vmstat 1    # column st: measure when it is 0, or on a host with cores of its own";

/// The processor chooses its frequency; `powersave` only lets it.
const SELF_GOVERNED: [&str; 3] = ["intel_pstate", "amd-pstate-epp", "amd_pstate_epp"];

/// Read by programs themselves, without a system call (vDSO).
const CLOCKS_READ_IN_PLACE: [&str; 7] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "riscv_clocksource",
    "timebase",
    "tod",
];

/// Each look is a system call and a walk to a device.
const CLOCKS_SLOW: [&str; 5] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];

/// About what waking a thread on another core of a virtual machine costs anyway.
const WAKE_MAX_US: u64 = 50;

const GROUPS_TOLD: usize = 4;

const STEAL_MATTERS_PERCENT: f64 = 1.0;
const STEAL_NOTE_PERCENT: f64 = 0.1;

#[cfg(test)]
mod tests {
    use crate::Severity::{Matters, Note, Ok};
    use crate::fixture::Fixture;

    #[test]
    fn one_core_is_not_enough() {
        let host = Fixture::fit();
        host.expect("cores", Ok, "0-1 of 0-1");
        host.write("/proc/self/status", "Cpus_allowed_list:\t1\n");
        host.expect("cores", Matters, "1 of 0-1");
    }

    #[test]
    fn isolated_cores_matter_when_there_are_no_others() {
        let host = Fixture::fit();
        host.write("/sys/devices/system/cpu/isolated", "1\n");
        host.expect("isolated", Ok, "1 isolated, 0-1 allowed");
        host.write("/sys/devices/system/cpu/isolated", "0-1\n");
        host.expect("isolated", Matters, "0-1 isolated");
    }

    #[test]
    fn cores_that_share_a_physical_one_are_noted_and_matter_when_there_is_only_one() {
        let host = Fixture::fit();
        let share = |list: &str| {
            for core in ["cpu0", "cpu1"] {
                host.write(
                    &format!("/sys/devices/system/cpu/{core}/topology/thread_siblings_list"),
                    list,
                );
            }
        };
        share("0-1\n");
        host.expect("smt", Matters, "1 physical cores; shared: {0-1}");
        host.write("/proc/self/status", "Cpus_allowed_list:\t0-2\n");
        host.expect("smt", Note, "2 physical cores");
        share("0,4\n");
        host.expect("smt", Ok, "none");
    }

    #[test]
    fn governors_are_judged_by_their_drivers() {
        let host = Fixture::fit();
        let set = |file: &str, word: &str| {
            for core in ["cpu0", "cpu1"] {
                host.write(
                    &format!("/sys/devices/system/cpu/{core}/cpufreq/{file}"),
                    word,
                );
            }
        };
        host.expect("governor", Ok, "performance by acpi-cpufreq");
        set("scaling_governor", "schedutil\n");
        host.expect("governor", Note, "schedutil");
        set("scaling_governor", "powersave\n");
        host.expect("governor", Matters, "powersave by acpi-cpufreq");
        set("scaling_driver", "intel_pstate\n");
        set("energy_performance_preference", "balance_performance\n");
        host.expect(
            "governor",
            Note,
            "powersave by intel_pstate, preference balance_performance",
        );
    }

    #[test]
    fn cores_of_different_speed_are_told_apart() {
        let host = Fixture::fit();
        host.write(
            "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "ondemand\n",
        );
        let checked = host.check();
        let told: Vec<_> = checked
            .findings
            .iter()
            .filter(|finding| finding.id == "governor")
            .map(|finding| (finding.severity, finding.subject.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (Note, "frequency governor of cores 1"),
                (Ok, "frequency governor of cores 0")
            ]
        );
    }

    #[test]
    fn a_virtual_machine_is_not_asked_for_its_governor() {
        let host = Fixture::fit();
        for core in ["cpu0", "cpu1"] {
            for file in ["scaling_governor", "scaling_driver"] {
                host.remove(&format!("/sys/devices/system/cpu/{core}/cpufreq/{file}"));
            }
        }
        assert_eq!(
            host.check().unknown,
            ["frequency governor (/sys/devices/system/cpu/cpu*/cpufreq)"]
        );
        host.write("/sys/class/dmi/id/product_name", "KVM\n");
        host.expect("governor", Ok, "virtual machine");
        host.expect("virtual_machine", Note, "KVM");
    }

    #[test]
    fn deep_sleep_is_noted_unless_it_is_off() {
        let host = Fixture::fit();
        host.expect("cpuidle", Ok, "intel_idle, deepest C1 with 2 us to wake");
        let of = |file: &str| format!("/sys/devices/system/cpu/cpu0/cpuidle/state2/{file}");
        host.write(&of("name"), "C6\n");
        host.write(&of("latency"), "170\n");
        host.write(&of("disable"), "0\n");
        host.expect("cpuidle", Note, "deepest C6 with 170 us");
        host.write(&of("disable"), "1\n");
        host.expect("cpuidle", Ok, "C1");
    }

    #[test]
    fn a_clock_that_only_the_kernel_can_read_matters() {
        let host = Fixture::fit();
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        host.write(path, "hpet\n");
        let finding = host.expect("clocksource", Matters, "hpet, of tsc hpet acpi_pm");
        assert!(finding.fix.starts_with("echo tsc > "), "{finding:?}");
        host.write(path, "xen\n");
        host.expect("clocksource", Note, "xen");
        host.write(path, "kvm-clock\n");
        host.expect("clocksource", Ok, "kvm-clock");
    }

    #[test]
    fn the_watchdog_and_wandering_pages_are_noted() {
        let host = Fixture::fit();
        host.write("/proc/sys/kernel/nmi_watchdog", "1\n");
        host.expect("nmi_watchdog", Note, "1");
        host.expect("numa_balancing", Ok, "1, with 1 memory nodes");
        host.write("/sys/devices/system/node/node1/cpulist", "2-3\n");
        host.expect("numa_balancing", Note, "1, with 2 memory nodes");
    }

    #[test]
    fn time_that_was_stolen_since_boot_is_noted() {
        let host = Fixture::fit();
        let steal = |stolen: u64| {
            host.write(
                "/proc/stat",
                format!("cpu  0 0 0 {} 0 0 0 {stolen} 0 0\n", 10_000 - stolen),
            )
        };
        steal(10);
        host.expect("steal", Ok, "0.10 %");
        steal(100);
        host.expect("steal", Note, "1.00 %");
        steal(5000);
        host.expect("steal", Note, "50.00 % of the processors' time since boot");
    }
}
