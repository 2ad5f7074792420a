//! Whether a scenario that no text described is one.

use crate::error::ScenarioError;
use crate::limits;
use crate::parse::FORMS;
use crate::scenario::{Arrivals, Form, Kind, Part, Scenario};

impl Scenario {
    /// Whether everything in it is within [`limits`], as it is in one that [`Self::parse`] gave.
    ///
    /// # Errors
    /// [`ScenarioError::Value`]: the first thing that is not.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let Self {
            name,
            description,
            form,
            parts,
            arrivals,
            seed: _,
        } = self;
        for (text, limit) in [(name, limits::NAME), (description, limits::DESCRIPTION)] {
            if !limits::is_line(text, &limit) {
                return refuse(limit.what, format!("{limit}, without control characters"));
            }
        }
        check_form(*form)?;
        limits::PARTS.check(parts.len() as u64)?;
        for part in parts {
            check_part(part)?;
        }
        let sum: f64 = parts.iter().map(|part| part.share).sum();
        if !limits::is_one(sum) {
            return refuse("the sum of all shares", format!("1, not {sum}"));
        }
        check_arrivals(arrivals)
    }
}

fn check_form(form: Form) -> Result<(), ScenarioError> {
    let Form::Frames {
        release,
        cluster,
        source,
        destination,
    } = form
    else {
        return Ok(());
    };
    // 1.x has no frames; the rest of the list does.
    if !FORMS[1..].iter().any(|(_, known)| *known == release) {
        return refuse("the release of frames", "2.4 to 4.0".into());
    }
    for id in [cluster, source, destination] {
        limits::ID.check(u64::try_from(id).unwrap_or(0))?;
    }
    if source == destination {
        return refuse("the destination", "another node than the source".into());
    }
    Ok(())
}

fn check_part(part: &Part) -> Result<(), ScenarioError> {
    limits::SHARE.check(part.share)?;
    part.sizes.sampler()?;
    match &part.kind {
        Kind::Miss { name, keys } => {
            if !limits::is_unknown_name(name) {
                return refuse("the name of packets", limits::UNKNOWN_NAME.into());
            }
            keys.sampler().map(drop)
        }
        Kind::Contacts {
            keys,
            register,
            refresh,
            unregister,
        } => {
            let mut sum = 0.0;
            for weight in [register, refresh, unregister] {
                sum += limits::CHANCE.check(*weight)?;
            }
            if sum <= 0.0 {
                return refuse("a weight of contact packets", "above 0".into());
            }
            if register < unregister {
                return refuse(
                    "the weight of unregister",
                    format!(
                        "at most that of register, {register}: {}",
                        limits::WHO_LEAVES
                    ),
                );
            }
            keys.sampler().map(drop)
        }
        Kind::Dialogs { updates, duration } => {
            limits::UPDATES.check(*updates)?;
            duration.sampler().map(drop)
        }
    }
}

fn check_arrivals(arrivals: &Arrivals) -> Result<(), ScenarioError> {
    match arrivals {
        Arrivals::Constant | Arrivals::Poisson => Ok(()),
        Arrivals::Captured(gaps) => {
            limits::GAPS.check(gaps.len() as u64)?;
            let mut sum = 0.0;
            for gap in gaps {
                sum += limits::GAP.check(*gap)?;
            }
            if sum <= 0.0 {
                return refuse("a gap", "above 0".into());
            }
            Ok(())
        }
        Arrivals::Steps(steps) => {
            limits::STEPS.check(steps.len() as u64)?;
            let mut sum = 0.0;
            for step in steps {
                limits::duration_ns(step.duration)?;
                sum += limits::FACTOR.check(step.factor)?;
            }
            if sum <= 0.0 {
                return refuse("a factor of a step", "above 0".into());
            }
            Ok(())
        }
    }
}

fn refuse(what: &'static str, expected: String) -> Result<(), ScenarioError> {
    Err(ScenarioError::Value { what, expected })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use binrush_wire::Release;

    use super::*;
    use crate::scenario::{Durations, Keys, Popularity, Sizes, Step};

    /// Asserts that `change` makes the scenario `name` one that is refused with `told`.
    #[track_caller]
    fn refused(name: &str, told: &str, change: impl FnOnce(&mut Scenario)) {
        let mut scenario = Scenario::find(name).unwrap();
        change(&mut scenario);
        let error = scenario.check().expect_err(told).to_string();
        assert!(error.starts_with(told), "{error}");
    }

    fn keys(population: u64, exponent: f64) -> Keys {
        let popularity = Popularity::Zipf { exponent };
        Keys {
            population,
            popularity,
        }
    }

    #[test]
    fn a_scenario_that_cannot_be_is_refused_with_its_range() {
        refused(
            "miss",
            "the length of the name must be 1 to 64 characters",
            |s| {
                s.name.clear();
            },
        );
        refused("miss", "the length of the description must be", |s| {
            s.description = "\x1b[2J".into();
        });
        refused("miss", "the number of parts must be 1 to 16, not 0", |s| {
            s.parts.clear()
        });
        refused("mixed", "the sum of all shares must be 1, not 0.4", |s| {
            s.parts.truncate(1);
            s.parts[0].share = 0.4;
        });
        refused("mixed", "a share must be", |s| s.parts[0].share = f64::NAN);
        refused("miss", "a size must be 64 to 65000 bytes, not 63", |s| {
            *s = s.clone().with_size(63);
        });
        refused(
            "miss",
            "the shortest size must be at most the longest one, 70 bytes",
            |s| {
                s.parts[0].sizes = Sizes::Uniform { min: 80, max: 70 };
            },
        );
        refused(
            "miss",
            "the number of a table's rows must be 1 to 4096 rows, not 0",
            |s| {
                s.parts[0].sizes = Sizes::Table(vec![]);
            },
        );
        refused("miss", "the name of packets must be", |s| {
            let keys = keys(1, 1.0);
            s.parts[0].kind = Kind::Miss {
                name: "ul".into(),
                keys,
            };
        });
        refused(
            "miss",
            "the population must be 1 to 16777216 records, not 0",
            |s| {
                let keys = keys(0, 1.0);
                s.parts[0].kind = Kind::Miss {
                    name: "x".into(),
                    keys,
                };
            },
        );
    }

    #[test]
    fn kinds_ids_and_arrivals_that_cannot_be_are_refused_too() {
        let contacts = |register, exponent| Kind::Contacts {
            keys: keys(10, exponent),
            register,
            refresh: 0.0,
            unregister: 0.0,
        };
        refused(
            "contacts",
            "the weight of unregister must be at most that of register, 1: only who registered can unregister",
            |s| {
                s.parts[0].kind = Kind::Contacts {
                    keys: keys(10, 1.0),
                    register: 1.0,
                    refresh: 7.0,
                    unregister: 1.5,
                };
            },
        );
        refused(
            "contacts",
            "a weight of contact packets must be above 0",
            |s| {
                s.parts[0].kind = contacts(0.0, 1.0);
            },
        );
        refused(
            "contacts",
            "a weight must be 0 to 1000000000, not -1",
            |s| {
                s.parts[0].kind = contacts(-1.0, 1.0);
            },
        );
        refused(
            "contacts",
            "the exponent must be 0.01 to 10, not inf",
            |s| {
                s.parts[0].kind = contacts(1.0, f64::INFINITY);
            },
        );
        refused("dialogs", "a duration must be 1ms to 24h, not 0ns", |s| {
            let duration = Durations::Fixed(Duration::ZERO);
            s.parts[0].kind = Kind::Dialogs {
                updates: 1.0,
                duration,
            };
        });
        let frames = |release, source, destination| Form::Frames {
            release,
            cluster: 1,
            source,
            destination,
        };
        refused(
            "miss-tcp",
            "the release of frames must be 2.4 to 4.0",
            |s| {
                s.form = frames(Release::V2_2, 1, 2);
            },
        );
        refused("miss-tcp", "an id must be 1 to 2147483647, not 0", |s| {
            s.form = frames(Release::V3_6, -1, 2);
        });
        refused("miss-tcp", "the destination must be another node", |s| {
            s.form = frames(Release::V3_6, 2, 2);
        });
        refused("miss", "a gap must be above 0", |s| {
            s.arrivals = Arrivals::Captured(vec![0.0])
        });
        refused("miss", "a gap must be 0 to 1000000000, not NaN", |s| {
            s.arrivals = Arrivals::Captured(vec![f64::NAN]);
        });
        refused("miss", "a factor of a step must be above 0", |s| {
            let duration = Duration::from_secs(1);
            s.arrivals = Arrivals::Steps(vec![Step {
                duration,
                factor: 0.0,
            }]);
        });
    }
}
