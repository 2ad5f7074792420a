//! The machine, and whether it is fit to measure on.

use binrush_net::allowed_cores;
use serde::Serialize;

use crate::procfs;

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
}

/// The processors' time while something is measured.
#[derive(Debug)]
pub(crate) struct Watch(Option<(u64, u64)>);

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
        warnings
    }
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self(procfs::ticks().ok())
    }

    /// The share of the time since the start that was stolen.
    pub(crate) fn steal(&self) -> Option<f64> {
        let (all_before, stolen_before) = self.0?;
        let (all, stolen) = procfs::ticks().ok()?;
        share(
            stolen.checked_sub(stolen_before)?,
            all.checked_sub(all_before)?,
        )
    }
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
        (host.load, host.steal) = (0.0, Some(0.0));
        let quiet = host.warnings().len();
        (host.load, host.steal) = (3.0, Some(0.05));
        let warnings = host.warnings();
        assert_eq!(warnings.len(), quiet + 2);
        assert!(warnings.iter().any(|warning| warning.contains("5.0 %")));
        assert_eq!(share(1, 0), None);
    }
}
