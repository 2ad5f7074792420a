//! What is sent: a scenario, or captured traffic again.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use binrush_scenario::{Arrivals, Content, Form, Kind, Scenario, Schedule, Share, Source};

use super::options::Common;
use crate::replay::Tape;

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) enum Matter {
    Scenario(Scenario),
    Capture(Tape),
}

impl Matter {
    /// The scenario, as far as the options leave it as it is.
    ///
    /// # Errors
    /// Options that contradict it.
    pub(crate) fn of_scenario(mut scenario: Scenario, common: &Common) -> anyhow::Result<Self> {
        if let Some(spread) = common.arrivals {
            scenario.arrivals = spread.into();
        }
        if let Some(seed) = common.seed {
            scenario.seed = seed;
        }
        if let Some(size) = common.size {
            scenario = scenario.with_size(size);
        }
        scenario.check()?;
        Ok(Self::Scenario(scenario))
    }

    /// Whether a rate means the same in a short trial as in a long one.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check_searchable(&self) -> anyhow::Result<()> {
        let steps = matches!(self, Self::Scenario(scenario) if matches!(scenario.arrivals, Arrivals::Steps(_)));
        ensure!(
            !steps,
            "the scenario's rate changes in steps, so no trial has the rate that is searched for\n  give others: \
             --arrivals constant, or poisson"
        );
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Scenario(scenario) => &scenario.name,
            Self::Capture(tape) => tape.name(),
        }
    }

    pub(crate) const fn seed(&self) -> u64 {
        match self {
            Self::Scenario(scenario) => scenario.seed,
            Self::Capture(_) => 0,
        }
    }

    pub(crate) const fn arrivals(&self) -> &'static str {
        match self {
            Self::Scenario(scenario) => match scenario.arrivals {
                Arrivals::Constant => "constant",
                Arrivals::Poisson => "poisson",
                Arrivals::Captured(_) => "captured",
                Arrivals::Steps(_) => "steps",
            },
            Self::Capture(_) => "captured",
        }
    }

    /// Whether it goes by TCP.
    pub(crate) fn is_stream(&self) -> bool {
        match self {
            Self::Scenario(scenario) => matches!(scenario.form, Form::Frames { .. }),
            Self::Capture(tape) => tape.is_stream(),
        }
    }

    /// The module names of its packets that carry stamps.
    pub(crate) fn names(&self) -> Vec<String> {
        let Self::Scenario(scenario) = self else {
            return Vec::new();
        };
        let [contacts, dialogs] = match scenario.form {
            Form::Datagrams => ["ul", "dialog"],
            Form::Frames { .. } => ["usrloc-contact-repl", "dialog-dlg-repl"],
        };
        let names = scenario.parts.iter().map(|part| match &part.kind {
            Kind::Miss { name, .. } => name.clone(),
            Kind::Contacts { .. } => contacts.to_owned(),
            Kind::Dialogs { .. } => dialogs.to_owned(),
        });
        names.collect()
    }

    /// Those of its names that no receiver is meant to know.
    pub(crate) fn misses(&self) -> Vec<&str> {
        let Self::Scenario(scenario) = self else {
            return Vec::new();
        };
        let names = scenario.parts.iter().filter_map(|part| match &part.kind {
            Kind::Miss { name, .. } => Some(&name[..]),
            Kind::Contacts { .. } | Kind::Dialogs { .. } => None,
        });
        names.collect()
    }

    /// One source for each sender. `steady`: with the mix of a long run from the first packet on.
    pub(crate) fn sources(
        &self,
        run: u16,
        rate_pps: f64,
        length: Duration,
        streams: u16,
        steady: bool,
    ) -> anyhow::Result<Vec<Box<dyn Source>>> {
        let source = |stream| -> anyhow::Result<Box<dyn Source>> {
            let share = Share { stream, streams };
            Ok(match self {
                Self::Scenario(scenario) => {
                    let schedule =
                        Schedule::new(&scenario.arrivals, rate_pps, length, share, scenario.seed);
                    let content = if steady {
                        Content::steady(scenario, run, share, schedule)
                    } else {
                        Content::new(scenario, run, share, schedule)
                    };
                    Box::new(content.context("the scenario cannot be sent")?)
                }
                Self::Capture(tape) => Box::new(tape.source(rate_pps, length, share)),
            })
        };
        (0..streams).map(source).collect()
    }
}
