//! Which rate a goal wants to see next.
//!
//! ```text
//!   targets of a goal:   wide, few short trials ─▶ half as wide, more ─▶ the goal itself
//!                               │ bounds                  │ bounds
//!                               └──▶ hints of ────────────┴──▶ hints of
//!
//!   towards a target:    middle of the hints? lower hint? upper hint?     what is known from coarser targets, confirmed
//!                        no lower bound: further and further down         external search, until both bounds are there
//!                        no upper bound: further and further up
//!                        both: the middle, until they are close enough    internal search
//! ```
//!
//! The ideas are those of FD.io CSIT's library MLRsearch, which draft-ietf-bmwg-mlrsearch (section 4.9.2) leaves to
//! implementations; the code is not.

use std::time::Duration;

use super::goal::Goal;
use super::grid::{Grid, Load};
use super::trials::{Bounds, Target, Trials};

/// What a goal would have measured next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// First, because short trials are cheap, and what they say may spare others the long ones.
    pub(crate) trial: Duration,
    pub(crate) load: Load,
}

/// Searches for one goal.
#[derive(Debug)]
pub(crate) struct Selector {
    /// The coarsest first; the last one is the goal itself.
    targets: Vec<Target>,
    current: usize,
    /// Where the bounds of the current target are thought to be. Kept, because those of the target before may be moved by
    /// trials for other goals.
    hints: Bounds,
    /// How far the next step of an external search goes.
    stride: u32,
    /// The last step of an external search: if it became a bound on the wrong side, the next one is longer.
    strode_to: Option<Load>,
}

impl Selector {
    /// Of the goal at `place`; bounds are thought to be near `hints`.
    pub(crate) fn new(place: usize, goal: &Goal, grid: &Grid, hints: Bounds) -> Self {
        let mut selector = Self {
            targets: targets(place, goal, grid),
            current: 0,
            hints,
            stride: 0,
            strode_to: None,
        };
        selector.aim(hints);
        selector
    }

    /// The next trial, or `None` when the goal is reached or cannot be.
    ///
    /// Each trial that is asked for is a full-length one of the current target at a rate that it has not decided; so for
    /// each target there are finitely many, whatever they say.
    pub(crate) fn nominate(&mut self, trials: &Trials, grid: &Grid) -> Option<Candidate> {
        loop {
            let target = *self.current();
            let bounds = trials.bounds(&target);
            if let Some(load) = self.towards(&target, bounds, grid) {
                return Some(Candidate {
                    trial: target.trial,
                    load,
                });
            }
            if self.current + 1 == self.targets.len() {
                return None;
            }
            self.current += 1;
            self.aim(bounds);
        }
    }

    /// The goal itself, as a target.
    pub(crate) fn goal(&self) -> &Target {
        &self.targets[self.targets.len() - 1]
    }

    /// What is known of the bounds: those of the current target, and where it has none yet, those of the one before.
    pub(crate) fn known(&self, trials: &Trials) -> Bounds {
        let bounds = trials.bounds(self.current());
        if self.current == 0 {
            return bounds;
        }
        let Bounds { lower, upper } = self.hints;
        let lower = lower.filter(|lower| bounds.is_worth(*lower));
        let upper = upper.filter(|upper| bounds.is_worth(*upper));
        Bounds {
            lower: bounds.lower.or(lower),
            upper: bounds.upper.or(upper),
        }
    }

    /// The target at present.
    fn current(&self) -> &Target {
        &self.targets[self.current]
    }

    /// The first target on the way to it.
    pub(crate) fn coarsest(&self) -> &Target {
        &self.targets[0]
    }

    fn aim(&mut self, hints: Bounds) {
        self.hints = hints;
        self.strode_to = None;
        let apart = match (hints.lower, hints.upper) {
            (Some(lower), Some(upper)) => upper.above(lower),
            _ => 0,
        };
        self.stride = apart.max(self.targets[self.current].width);
    }

    fn towards(&mut self, target: &Target, bounds: Bounds, grid: &Grid) -> Option<Load> {
        if let Some(load) = self.hinted(target.width, bounds) {
            return Some(load);
        }
        match (bounds.lower, bounds.upper) {
            (Some(lower), Some(upper)) if upper.above(lower) <= target.width => None,
            (Some(lower), Some(upper)) => Some(lower.middle(upper)),
            (None, Some(upper)) if upper > grid.lowest() => {
                Some(self.down_from(upper, target.width, grid))
            }
            (Some(lower), None) if lower < grid.highest() => {
                Some(self.up_from(lower, target.width, grid))
            }
            // Even the lowest rate exceeds, or even the highest keeps to all limits.
            (None, Some(_)) | (Some(_), None) => None,
            // Hints are confirmed before, so there is a bound unless there were no hints.
            (None, None) => Some(grid.highest()),
        }
    }

    /// One of the rates that are known from before, while it could still move a bound.
    fn hinted(&self, width: u32, bounds: Bounds) -> Option<Load> {
        let Bounds { lower, upper } = self.hints;
        let middle = match (lower, upper) {
            // The target before was twice as wide: its middle is as far as this one has to go.
            (Some(lower), Some(upper)) if (width + 1..=2 * width).contains(&upper.above(lower)) => {
                Some(lower.middle(upper))
            }
            _ => None,
        };
        let hints = [middle, lower, upper].into_iter().flatten();
        hints.into_iter().find(|load| bounds.is_worth(*load))
    }

    fn down_from(&mut self, upper: Load, width: u32, grid: &Grid) -> Load {
        self.lengthen_stride(upper);
        let mut load = upper.down(self.stride);
        if load.above(grid.lowest()) < width {
            load = grid.lowest();
        }
        self.strode_to = Some(load);
        load
    }

    fn up_from(&mut self, lower: Load, width: u32, grid: &Grid) -> Load {
        self.lengthen_stride(lower);
        let mut load = grid.within(lower.up(self.stride));
        if grid.highest().above(load) < width {
            load = grid.highest();
        }
        self.strode_to = Some(load);
        load
    }

    fn lengthen_stride(&mut self, bound: Load) {
        if self.strode_to.take() == Some(bound) {
            self.stride = self.stride.saturating_mul(2);
        }
    }
}

/// The goal, and coarser ones before it: each twice as wide as the next, and with so much less trial time at a rate that the
/// first is content with one initial trial.
fn targets(place: usize, goal: &Goal, grid: &Grid) -> Vec<Target> {
    let width = grid.steps_of(goal.width);
    let sum = goal.duration_sum.as_secs_f64();
    let factor = (goal.initial_trial.as_secs_f64() / sum).powf(1.0 / f64::from(COARSER));
    let target = |coarser: u32| {
        let duration_sum = match coarser {
            0 => goal.duration_sum,
            COARSER => goal.initial_trial,
            _ => Duration::from_secs_f64(sum * factor.powf(f64::from(coarser))),
        };
        Target {
            goal: place,
            exceed_ratio: goal.exceed_ratio,
            width: width.saturating_mul(1 << coarser),
            trial: goal.final_trial.min(duration_sum),
            duration_sum,
        }
    };
    (0..=COARSER).rev().map(target).collect()
}

/// Targets before the goal itself, as CSIT has them.
const COARSER: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid::new(1e3, 1e6, 0.005).unwrap()
    }

    #[test]
    fn targets_become_narrower_and_longer_up_to_the_goal() {
        let goal = Goal::default().with(&"initial=500ms,trial=2s,sum=20s".parse().unwrap());
        let targets = targets(3, &goal, &grid());
        assert_eq!(targets.len(), 3);
        let last = targets[2];
        assert_eq!(
            (last.goal, last.trial, last.duration_sum),
            (3, goal.final_trial, goal.duration_sum)
        );
        assert_eq!(targets[0].duration_sum, goal.initial_trial);
        assert_eq!(targets[0].trial, goal.initial_trial);
        for pair in targets.windows(2) {
            assert_eq!(pair[0].width, 2 * pair[1].width);
            assert!(pair[0].duration_sum < pair[1].duration_sum && pair[0].trial <= pair[1].trial);
        }
    }

    #[test]
    fn cheap_trials_come_before_long_ones() {
        let seconds = |trial, load| Candidate {
            trial: Duration::from_secs(trial),
            load,
        };
        let (low, high) = (grid().lowest(), grid().highest());
        assert!(seconds(1, high) < seconds(2, low));
        assert!(seconds(1, low) < seconds(1, high));
    }

    #[test]
    fn steps_without_a_bound_become_longer_until_the_end_of_the_grid() {
        use super::super::trials::Seen;
        let (grid, goal) = (grid(), Goal::default());
        let top = Bounds {
            lower: Some(grid.highest()),
            upper: Some(grid.highest()),
        };
        let mut selector = Selector::new(0, &goal, &grid, top);
        let mut trials = Trials::default();
        let mut asked = Vec::new();
        // Nothing is slow enough.
        while let Some(candidate) = selector.nominate(&trials, &grid) {
            asked.push(candidate.load);
            trials.add(Seen {
                load: candidate.load,
                asked: candidate.trial,
                effective: candidate.trial,
                loss_ratio: 1.0,
                exceeds: vec![true],
                trial: asked.len(),
            });
        }
        asked.dedup();
        let lowest = asked
            .iter()
            .position(|load| *load == grid.lowest())
            .unwrap();
        let steps: Vec<u32> = asked[..lowest]
            .windows(2)
            .map(|pair| pair[0].above(pair[1]))
            .collect();
        assert!(steps.len() > 4, "{steps:?}");
        assert!(
            steps.windows(2).all(|pair| pair[1] == 2 * pair[0]),
            "{steps:?}"
        );
        // The lowest rate is tried again for the finer targets, and nothing else.
        assert!(asked[lowest..].iter().all(|load| *load == grid.lowest()));
    }
}
