//! A search from its first trial to its last, and what they come to.

use std::time::Duration;

use super::binding::{self, GENERATOR, NONE, UNKNOWN};
use super::grid::Load;
use super::progress::{GoalRow, Progress, TRIALS_SHOWN, TrialRow};
use super::selector::Selector;
use super::standing::{Standing, Stop, by_rate, exit};
use super::trials::{Bounds, Seen, Trials, conditional_throughput};
use super::{Found, Measured, Plan, Sut};
use crate::result::{Binding, GoalResult, SearchResult};
use crate::view::units::pps;

/// Chooses trials, and knows what they said.
pub(super) struct Controller<'a, S> {
    sut: &'a mut S,
    plan: &'a Plan,
    show: &'a mut dyn FnMut(&Progress),
    selectors: Vec<Selector>,
    trials: Trials,
    /// Of each trial of the search, by its number.
    evidence: Vec<Evidence>,
    rows: Vec<TrialRow>,
    spent: Duration,
    /// The most that a trial took besides its load.
    overhead: Duration,
}

/// What a trial said about what limits.
#[derive(Debug, Clone)]
struct Evidence {
    binding: Option<Binding>,
    worthless: Option<String>,
}

impl<'a, S: Sut> Controller<'a, S> {
    pub(super) fn new(sut: &'a mut S, plan: &'a Plan, show: &'a mut dyn FnMut(&Progress)) -> Self {
        Self {
            selectors: selectors(plan, Bounds::default()),
            sut,
            plan,
            show,
            trials: Trials::default(),
            evidence: Vec::new(),
            rows: Vec::new(),
            spent: Duration::ZERO,
            overhead: Duration::ZERO,
        }
    }

    pub(super) fn run(mut self) -> Found {
        let mut stop = self.search().err();
        let standings: Vec<Standing> = (0..self.plan.goals.len())
            .map(|goal| self.standing(goal, stop.as_ref()))
            .collect();
        let limiting = (0..standings.len())
            .min_by(|a, b| by_rate(&standings[*a], &standings[*b]))
            .unwrap_or(0);
        let bounds = standings[limiting].bounds;
        let result = &standings[limiting].result;
        let (lower_pps, upper_pps) = (result.lower_pps, result.upper_pps);
        let rate_pps = lower_pps.unwrap_or(0.0);
        let (binding, worthless) = self.just_above(limiting, bounds);
        let mut at_percent = Vec::new();
        // Whoever interrupted the search, or the receiver that died, ends this too.
        if rate_pps > 0.0 && !stop.as_ref().is_some_and(Stop::is_trouble) {
            let late = self.latencies(rate_pps, &mut at_percent).err();
            stop = stop.or(late);
        }
        Found {
            result: SearchResult {
                rate_pps,
                lower_pps,
                upper_pps,
                binding,
                at_percent,
                goals: standings
                    .into_iter()
                    .map(|standing| standing.result)
                    .collect(),
            },
            trouble: stop.map(Stop::into_error),
            worthless,
        }
    }

    /// Measures until all goals are reached, or cannot be.
    fn search(&mut self) -> Result<(), Stop> {
        let hints = self.first_trials()?;
        self.selectors = selectors(self.plan, hints);
        loop {
            let (trials, grid) = (&self.trials, &self.plan.grid);
            let candidates = self.selectors.iter_mut();
            let wanted = candidates.filter_map(|selector| selector.nominate(trials, grid));
            let Some(next) = wanted.min() else {
                return Ok(());
            };
            self.measure(next.load, next.trial)?;
        }
    }

    /// Where to begin: the highest rate, the rate that came through there, and what came through then or a little more.
    ///
    /// A receiver that is overloaded far beyond its limit often takes less than at the limit, so this is a hint, not a bound.
    fn first_trials(&mut self) -> Result<Bounds, Stop> {
        let grid = self.plan.grid;
        let goals = &self.plan.goals;
        let coarsest = self
            .selectors
            .iter()
            .map(|selector| selector.coarsest().width);
        let width = coarsest.max().unwrap_or(1);
        let trial = goals
            .iter()
            .map(|goal| goal.initial_trial)
            .max()
            .unwrap_or_default();
        let loss = goals.iter().map(|goal| goal.loss_ratio).fold(1.0, f64::min);
        let at = |lower, upper| Bounds {
            lower: Some(lower),
            upper: Some(upper),
        };
        let top = grid.highest();
        let second = self.came_through(top, trial, loss)?;
        if top.above(second) < width {
            return Ok(at(top, top));
        }
        let third = self.came_through(second, trial, loss)?;
        if third >= second {
            let above = grid.within(second.up(width));
            self.measure(above, trial)?;
            return Ok(at(second, above));
        }
        if second.above(third) >= width {
            self.measure(third, trial)?;
            return Ok(at(third, second));
        }
        Ok(at(second, second))
    }

    /// Measures at `load`; the answer is the rate at which so much would just be lost as may be, if no more than came through
    /// now ever does.
    fn came_through(&mut self, load: Load, trial: Duration, loss: f64) -> Result<Load, Stop> {
        let lost = self.measure(load, trial)?;
        if lost <= loss {
            return Ok(load);
        }
        let forwarded = self.rate_pps(load) * (1.0 - lost) / (1.0 - loss);
        Ok(self.plan.grid.at_most(forwarded).min(load))
    }

    /// One trial of the search; the answer is its loss ratio.
    fn measure(&mut self, load: Load, asked: Duration) -> Result<f64, Stop> {
        // The first is always there: a plan without time for it is none.
        if !self.evidence.is_empty() && !self.fits(asked, self.reserve()) {
            return Err(Stop::Budget(self.plan.budget));
        }
        if self.evidence.len() >= TRIALS_MAX {
            return Err(Stop::Trials(TRIALS_MAX));
        }
        let name = format!("trial {}", self.evidence.len() + 1);
        let rate_pps = self.rate_pps(load);
        let measured = self.trial(&name, rate_pps, asked).map_err(Stop::Trouble)?;
        let lost_all = measured.loss_ratio >= 1.0;
        if measured.latency.is_empty() && !lost_all && self.needs_latencies() {
            return Err(Stop::Trouble(anyhow::anyhow!(
                "{name} says nothing of latencies, and a goal limits them: is the receiver's probe on for these packets?"
            )));
        }
        let words = self.exceeded(&measured);
        let loss_ratio = measured.loss_ratio;
        self.trials.add(Seen {
            load,
            asked,
            effective: measured.duration.max(asked),
            loss_ratio,
            exceeds: words.iter().map(Option::is_some).collect(),
            trial: self.evidence.len(),
        });
        self.keep_row(name, &measured, words);
        self.evidence.push(Evidence {
            binding: measured.binding,
            worthless: measured.worthless,
        });
        self.tell(None);
        Ok(loss_ratio)
    }

    /// Sends, and accounts for the time.
    fn trial(&mut self, name: &str, rate_pps: f64, asked: Duration) -> anyhow::Result<Measured> {
        self.tell(Some((name.to_owned(), rate_pps)));
        let measured = self.sut.measure(name, rate_pps, asked)?;
        let took = measured.took.max(asked);
        self.spent += took;
        self.overhead = self.overhead.max(took - asked);
        Ok(measured)
    }

    /// The latencies well below the rate found, as FD.io CSIT takes them.
    fn latencies(&mut self, rate_pps: f64, done: &mut Vec<(u8, usize)>) -> Result<(), Stop> {
        let length = self.latency_trial();
        for percent in PERCENT {
            if !self.fits(length, Duration::ZERO) {
                return Err(Stop::Latencies);
            }
            let name = format!("at {percent} %");
            let rate_pps = rate_pps * f64::from(percent) / 100.0;
            let measured = self.trial(&name, rate_pps, length).map_err(Stop::Trouble)?;
            done.push((percent, measured.trial));
            let words = self.exceeded(&measured);
            self.keep_row(name, &measured, words);
            self.tell(None);
        }
        Ok(())
    }

    /// For each goal, what the trial exceeds of it.
    fn exceeded(&self, measured: &Measured) -> Vec<Option<String>> {
        if let Some(why) = &measured.worthless {
            return vec![Some(format!("worthless: {why}")); self.plan.goals.len()];
        }
        let goals = self.plan.goals.iter();
        goals
            .map(|goal| goal.exceeded_by(measured.loss_ratio, &measured.latency))
            .collect()
    }

    fn keep_row(&mut self, name: String, measured: &Measured, exceeded: Vec<Option<String>>) {
        if self.rows.len() == TRIALS_SHOWN {
            self.rows.remove(0);
        }
        let latency = &measured.latency;
        self.rows.push(TrialRow {
            name,
            rate_pps: measured.intended_rate,
            loss_ratio: measured.loss_ratio,
            p99_ns: (!latency.is_empty()).then(|| latency.value_at(0.99)),
            exceeded: exceeded.into_iter().flatten().next(),
        });
    }

    fn tell(&mut self, current: Option<(String, f64)>) {
        let goals = (0..self.plan.goals.len()).map(|goal| {
            let bounds = self.selectors[goal].known(&self.trials);
            GoalRow {
                goal: self.plan.goals[goal].to_string(),
                lower_pps: bounds.lower.map(|load| self.rate_pps(load)),
                upper_pps: bounds.upper.map(|load| self.rate_pps(load)),
            }
        });
        let progress = Progress {
            current,
            goals: goals.collect(),
            trials: self.rows.clone(),
            spent: self.spent,
            budget: self.plan.budget,
        };
        (self.show)(&progress);
    }

    fn standing(&self, goal: usize, stop: Option<&Stop>) -> Standing {
        let bounds = self.bounds(goal);
        let (lower_pps, upper_pps) = (
            bounds.lower.map(|load| self.rate_pps(load)),
            bounds.upper.map(|load| self.rate_pps(load)),
        );
        let target = self.selectors[goal].goal();
        let throughput_pps = bounds
            .lower
            .map(|load| conditional_throughput(self.trials.at(load), target, self.rate_pps(load)));
        Standing {
            bounds,
            result: GoalResult {
                goal: self.plan.goals[goal].to_string(),
                lower_pps,
                upper_pps,
                throughput_pps,
                exit: exit(bounds, target.width, &self.plan.grid, stop),
            },
        }
    }

    /// What the trials that exceed `goal` at its upper bound say limits there, and why they are worthless if most of them are.
    ///
    /// A search that was stopped may know no upper bound although trials exceeded the goal: then the lowest rate at which one
    /// did stands for it, and the evidence says so.
    fn just_above(&self, goal: usize, bounds: Bounds) -> (Binding, Option<String>) {
        let Some(upper) = bounds.upper else {
            if bounds.lower == Some(self.plan.grid.highest()) {
                return (self.highest_kept(), None);
            }
            let Some(load) = self.trials.lowest_exceeding(goal) else {
                return (not_finished(), None);
            };
            let (mut binding, worthless) = self.exceeding(goal, load);
            let at = pps(self.rate_pps(load));
            binding.evidence = format!(
                "not finished; of a trial at {at}/s, the lowest rate that exceeded the goal: {}",
                binding.evidence
            );
            return (binding, worthless);
        };
        self.exceeding(goal, upper)
    }

    /// What binds when even the highest rate keeps to the goals.
    fn highest_kept(&self) -> Binding {
        let max = pps(self.rate_pps(self.plan.grid.highest()));
        let (resource, evidence) = if self.plan.is_top_the_generators {
            let what = "the highest rate that this generator can send was kept to";
            (GENERATOR, format!("{what}, {max}/s"))
        } else {
            let what = "the highest rate that was to be tried was kept to";
            (NONE, format!("{what}, {max}/s"))
        };
        Binding {
            resource: resource.to_owned(),
            evidence,
        }
    }

    /// What the trials at `upper` that exceed `goal` say.
    fn exceeding(&self, goal: usize, upper: Load) -> (Binding, Option<String>) {
        let exceeding = self
            .trials
            .at(upper)
            .iter()
            .filter(|seen| seen.exceeds[goal]);
        let evidence: Vec<&Evidence> = exceeding.map(|seen| &self.evidence[seen.trial]).collect();
        let bindings = evidence
            .iter()
            .filter_map(|evidence| evidence.binding.as_ref());
        let binding = binding::most_named(bindings).unwrap_or_else(|| Binding {
            resource: UNKNOWN.to_owned(),
            evidence: "the trials just above the rate found do not tell".to_owned(),
        });
        let worthless: Vec<&String> = evidence
            .iter()
            .filter_map(|evidence| evidence.worthless.as_ref())
            .collect();
        let most = 2 * worthless.len() > evidence.len();
        (
            binding,
            worthless.first().filter(|_| most).map(|why| (*why).clone()),
        )
    }

    fn bounds(&self, goal: usize) -> Bounds {
        self.trials.bounds(self.selectors[goal].goal())
    }

    fn rate_pps(&self, load: Load) -> f64 {
        self.plan.grid.rate_pps(load)
    }

    fn needs_latencies(&self) -> bool {
        self.plan.goals.iter().any(|goal| !goal.latency.is_empty())
    }

    /// Whether a trial of that length ends within the budget, less `reserve`.
    fn fits(&self, trial: Duration, reserve: Duration) -> bool {
        self.spent + trial + self.overhead + reserve <= self.plan.budget
    }

    /// For the latencies at the end, unless the budget is hardly more than that.
    fn reserve(&self) -> Duration {
        let trials = u32::try_from(PERCENT.len()).unwrap_or(u32::MAX);
        let wanted = (self.latency_trial() + self.overhead) * trials;
        wanted.min(self.plan.budget / 4)
    }

    fn latency_trial(&self) -> Duration {
        let goals = self.plan.goals.iter();
        goals.map(|goal| goal.final_trial).max().unwrap_or_default()
    }
}

fn selectors(plan: &Plan, hints: Bounds) -> Vec<Selector> {
    let goals = plan.goals.iter().enumerate();
    goals
        .map(|(place, goal)| Selector::new(place, goal, &plan.grid, hints))
        .collect()
}

fn not_finished() -> Binding {
    Binding {
        resource: UNKNOWN.to_owned(),
        evidence: "not finished; no rate that was tried so far exceeds the goals".to_owned(),
    }
}

/// Of the rate found.
const PERCENT: [u8; 3] = [10, 50, 90];

/// Some hours of the shortest trials that make sense; a bound on memory.
const TRIALS_MAX: usize = 10_000;
