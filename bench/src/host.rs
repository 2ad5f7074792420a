//! The machine, and whether it is fit to measure on.

use binrush_net::allowed_cores;
use serde::Serialize;

use crate::procfs::{self, Split, Ticks};

/// What a figure is worth nothing without.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Host {
    /// Those this process may use.
    pub(crate) cores: Vec<usize>,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    /// Processes that wanted to run in the last minute, on average, before anything was measured.
    pub(crate) load: f64,
    /// Share of the measuring time that the hypervisor took away.
    pub(crate) steal: Option<f64>,
    /// Share of the processors' busy time, while measuring, that was neither this process's nor its receivers'.
    pub(crate) others: Option<f64>,
}

/// The processors' time while something is measured.
#[derive(Debug)]
pub(crate) struct Watch(Option<Mark>);

/// What the clocks say at one moment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    ticks: Ticks,
    own: Split,
}

impl Host {
    /// What is not told is left empty: it is no reason not to measure.
    pub(crate) fn here() -> Self {
        let text = |path| procfs::read(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        let load = text("/proc/loadavg");
        let load = load
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        Self {
            cores: allowed_cores(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: cpu_name(&cpuinfo),
            load: load.unwrap_or(0.0),
            steal: None,
            others: None,
        }
    }

    /// Why figures from here are not to be trusted.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if cfg!(debug_assertions) {
            warnings
                .push("this is a debug build: use `cargo build --release --workspace`".to_owned());
        }
        if self.load > LOAD_MAX {
            let load = self.load;
            warnings.push(format!(
                "the machine was busy before: load {load}, wait until it is below {LOAD_MAX}"
            ));
        }
        if let Some(steal) = self.steal.filter(|steal| *steal > STEAL_MAX) {
            warnings.push(format!(
                "the hypervisor took {:.1} % of the time: measure when its other guests are quiet",
                steal * 100.0
            ));
        }
        if let Some(others) = self.others.filter(|others| *others > OTHERS_MAX) {
            warnings.push(format!(
                "{:.0} % of the busy time was other programs': measure again when they are quiet",
                others * 100.0
            ));
        }
        warnings
    }
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Mark::now())
    }

    /// Tells `host` what became of the time since the start. Call it when all receivers have ended: the kernel
    /// counts the time of children from then on.
    pub(crate) fn tell(&self, host: &mut Host) {
        let Some((start, end)) = self.0.zip(Mark::now()) else {
            return;
        };
        host.steal = stolen(start, end);
        host.others = others(start, end);
    }
}

impl Mark {
    fn now() -> Option<Self> {
        let (ticks, own) = (procfs::ticks().ok()?, procfs::own_ticks().ok()?);
        Some(Self { ticks, own })
    }
}

fn stolen(start: Mark, end: Mark) -> Option<f64> {
    share(
        end.ticks.stolen.checked_sub(start.ticks.stolen)?,
        end.ticks.all.checked_sub(start.ticks.all)?,
    )
}

/// The share of the busy time between the two that was not ours, or a little less.
///
/// On loopback a datagram's way through the kernel is a soft interrupt, which most kernels count twice: as such, and as
/// system time of the process that it interrupted. So there may seem to be less system time than we had, and that
/// must not hide the user time of others: each is compared by itself.
fn others(start: Mark, end: Mark) -> Option<f64> {
    let busy = end.ticks.busy.checked_sub(start.ticks.busy)?;
    let more = |of: fn(Split) -> u64| {
        let all = of(end.ticks.processes).saturating_sub(of(start.ticks.processes));
        let own = of(end.own).saturating_sub(of(start.own));
        all.saturating_sub(own)
    };
    let others = more(|split| split.user) + more(|split| split.system);
    share(others, busy).filter(|_| busy >= BUSY_TICKS_MIN)
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// The model with its family: of a virtual processor the name alone may say little.
fn cpu_name(cpuinfo: &str) -> String {
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim())
    };
    let name = value("model name").unwrap_or("unknown");
    match value("cpu family").zip(value("model\t")) {
        Some((family, model)) => format!("{name} (family {family}, model {model})"),
        None => name.to_owned(),
    }
}

/// More than this machine's own idle daemons.
const LOAD_MAX: f64 = 0.7;

const STEAL_MAX: f64 = 0.01;

/// More than the noise of the ticks.
const OTHERS_MAX: f64 = 0.05;

/// A share of less than about a second is noise.
const BUSY_TICKS_MIN: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_with_its_family() {
        let cpuinfo = "cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n";
        assert_eq!(cpu_name(cpuinfo), "AMD EPYC (family 26, model 2)");
        assert_eq!(cpu_name("model name\t: X\n"), "X");
        assert_eq!(cpu_name(""), "unknown");
    }

    #[test]
    fn a_busy_machine_is_warned_of() {
        let mut host = Host::here();
        (host.load, host.steal, host.others) = (0.0, Some(0.0), Some(0.05));
        let quiet = host.warnings().len();
        (host.load, host.steal, host.others) = (3.0, Some(0.05), Some(0.06));
        let warnings = host.warnings();
        assert_eq!(warnings.len(), quiet + 3);
        for share in ["5.0 %", "6 % of the busy time"] {
            assert!(warnings.iter().any(|warning| warning.contains(share)));
        }
        assert_eq!(share(1, 0), None);
    }

    #[test]
    fn busy_time_that_is_not_ours_is_that_of_others() {
        let mark = |busy, [user, system]: [u64; 2], [own_user, own_system]: [u64; 2]| Mark {
            ticks: Ticks {
                all: 10_000,
                busy,
                processes: Split { user, system },
                stolen: 0,
            },
            own: Split {
                user: own_user,
                system: own_system,
            },
        };
        let start = mark(500, [200, 250], [10, 20]);
        let share = |end| others(start, end);
        assert_eq!(share(mark(1500, [250, 1000], [60, 770])), Some(0.0));
        // Ours holds 200 ticks of interrupts: what others had in user time is seen all the same.
        assert_eq!(share(mark(1500, [300, 1000], [60, 970])), Some(0.05));
        assert_eq!(share(mark(1500, [250, 1000], [60, 720])), Some(0.05));
        // Next to no time at all.
        assert_eq!(share(mark(590, [290, 250], [10, 20])), None);
        assert_eq!(stolen(start, start), None);
    }
}
