//! What on this host falsifies or limits a measurement, and how to mend it.
//!
//! ```text
//!  /proc, /sys below a root ─▶ Facts ─┐
//!                                     ├─▶ rules ─▶ Finding: value, why, fix, risk
//!  what a run asks of the host: Demand ┘
//!  Counters before and after a run ─▶ delta ─▶ Finding
//! ```
//!
//! Nothing is changed, nothing needs root, and what the host does not tell is "not known": no reason to fail. A knob
//! matters only when it limits what was demanded, or when figures taken on this host would be wrong. That it could
//! be set otherwise is a note at most.
#![forbid(unsafe_code)]

use std::path::Path;

use serde::Serialize;

/// Sets of cores, as the kernel writes them.
mod cores;
/// What only ever grows while the host is up.
mod counters;
/// What grew during a run.
mod delta;
/// What a run asks of the host.
mod demand;
/// What the host is and how it is set.
mod facts;
/// What is to be said of a knob.
mod finding;
/// Trees of files in the form of `/proc` and `/sys`, for tests.
#[cfg(test)]
mod fixture;
/// Files below a directory, read with bounds.
mod root;
/// What makes a fact a finding.
mod rules;

pub use cores::CoreSet;
pub use counters::{Counters, Softnet, Throttling, Ticks, Udp};
pub use delta::delta;
pub use demand::Demand;
pub use facts::{
    Capabilities, Cgroup, Conntrack, Cpu, Facts, Frequency, IdleState, Interface, Irq, Limit,
    Limits, Memory, Network, Process, Quota, Sysctl, Virtualisation,
};
pub use finding::{Finding, Severity};

/// What was looked at, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// The host as it is.
    pub facts: Facts,
    /// What matters comes first; within a severity in the order of the rules.
    pub findings: Vec<Finding>,
    /// What could not be judged, since the host does not tell it: subject and where it would stand.
    pub unknown: Vec<String>,
}

/// Looks at the host whose `/proc` and `/sys` lie below `root`, and says what is in the way of `demand`.
///
/// `root` is `/` for this very host, whose facts about a process (limits, capabilities, cgroup, cores allowed) are
/// then those of the caller. For a copy of another host's files they are whatever was copied. Never panics, whatever
/// the files hold, and reads regular files below `root` alone, each to a bound.
pub fn check(root: &Path, demand: &Demand) -> Checked {
    let facts = Facts::read(root);
    let findings = rules::judge(&facts, demand);
    let (findings, unknown) = findings.sorted();
    Checked {
        facts,
        findings,
        unknown,
    }
}

impl Checked {
    /// Whether anything falsifies or limits what was demanded.
    pub fn matters(&self) -> bool {
        self.findings.iter().any(Finding::matters)
    }
}
