//! How a search ended, for each goal and as a whole.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use super::grid::Grid;
use super::trials::Bounds;
use crate::result::{GoalResult, NOT_FINISHED};

/// Why a search ends before everything was measured.
#[derive(Debug)]
pub(super) enum Stop {
    /// All of it is spent.
    Budget(Duration),
    /// The goals are reached, and the rest of the budget is too short for what follows.
    Latencies,
    /// So many, which is a bound on memory.
    Trials(usize),
    /// A receiver that died, or a signal.
    Trouble(anyhow::Error),
}

/// What is known of one goal.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) bounds: Bounds,
    pub(super) result: GoalResult,
}

impl Stop {
    /// Whether nothing can be measured any more.
    pub(super) const fn is_trouble(&self) -> bool {
        matches!(self, Self::Trouble(_))
    }

    /// With all that is known about it.
    pub(super) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Trouble(error) => error,
            other => anyhow::anyhow!("{other}"),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(budget) => {
                let budget = humantime::format_duration(*budget);
                write!(
                    f,
                    "the budget of {budget} is spent: allow more (--budget), or a wider --width"
                )
            }
            Self::Latencies => f.write_str(
                "no time is left for the latencies below the rate found: allow more (--budget)",
            ),
            Self::Trials(count) => {
                write!(
                    f,
                    "{count} trials were not enough: allow a wider --width, or a shorter --sum"
                )
            }
            Self::Trouble(error) => write!(f, "{error:#}"),
        }
    }
}

/// How the search for a goal with that width in steps ended (draft-ietf-bmwg-mlrsearch, section 4.8.4).
pub(super) fn exit(bounds: Bounds, width: u32, grid: &Grid, stop: Option<&Stop>) -> String {
    match (bounds.lower, bounds.upper) {
        (Some(lower), Some(upper)) if upper.above(lower) <= width => "regular".to_owned(),
        (None, Some(upper)) if upper == grid.lowest() => {
            let min = grid.rate_pps(upper).round();
            format!("irregular: even the lowest rate, {min}/s, exceeds it")
        }
        (Some(lower), None) if lower == grid.highest() => {
            let max = grid.rate_pps(lower).round();
            format!("irregular: even the highest rate, {max}/s, keeps to it")
        }
        _ => {
            let why =
                stop.map_or_else(|| "it was not searched for".to_owned(), ToString::to_string);
            format!("{NOT_FINISHED}{why}")
        }
    }
}

/// The goal that allows least comes first: by lower bounds, of which none is the least, then by upper ones, of which none is
/// the most.
pub(super) fn by_rate(a: &Standing, b: &Standing) -> Ordering {
    let key = |standing: &Standing| {
        let Bounds { lower, upper } = standing.bounds;
        (lower, upper.is_none(), upper)
    };
    key(a).cmp(&key(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_regular_only_when_the_bounds_are_close_enough() {
        let grid = Grid::new(1e3, 1e6, 0.005).unwrap();
        let (low, high) = (grid.lowest(), grid.highest());
        let spent = Stop::Budget(Duration::from_secs(20));
        let exit = |lower, upper| exit(Bounds { lower, upper }, 4, &grid, Some(&spent));
        assert_eq!(exit(Some(low.up(7)), Some(low.up(11))), "regular");
        assert!(
            exit(Some(low.up(7)), Some(low.up(12))).starts_with("not finished: the budget of 20s")
        );
        assert_eq!(
            exit(None, Some(low)),
            "irregular: even the lowest rate, 1000/s, exceeds it"
        );
        assert!(exit(None, Some(low.up(1))).starts_with("not finished"));
        assert_eq!(
            exit(Some(high), None),
            "irregular: even the highest rate, 1000000/s, keeps to it"
        );
        assert!(exit(Some(high.down(1)), None).starts_with("not finished"));
        assert!(exit(None, None).starts_with("not finished"));
    }

    #[test]
    fn the_goal_that_allows_least_comes_first() {
        let grid = Grid::new(1e3, 1e6, 0.005).unwrap();
        let standing = |lower: Option<u32>, upper: Option<u32>| Standing {
            bounds: Bounds {
                lower: lower.map(|steps| grid.lowest().up(steps)),
                upper: upper.map(|steps| grid.lowest().up(steps)),
            },
            result: GoalResult {
                goal: String::new(),
                lower_pps: None,
                upper_pps: None,
                throughput_pps: None,
                exit: String::new(),
            },
        };
        let ordered = [
            standing(None, Some(1)),
            standing(None, None),
            standing(Some(5), Some(6)),
            standing(Some(5), Some(9)),
            standing(Some(5), None),
            standing(Some(6), Some(7)),
        ];
        for pair in ordered.windows(2) {
            assert_eq!(by_rate(&pair[0], &pair[1]), Ordering::Less, "{pair:?}");
        }
    }
}
