//! Which faults, and how often.

use std::fmt;
use std::str::FromStr;

/// What befalls packets. The same plan does the same to the same packets, always.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Packets that do not arrive.
    pub lose: Odds,
    /// Packets that arrive twice, the second time right after the first.
    pub duplicate: Odds,
    /// Packets that are held back while [`distance`](Self::distance) later ones of their flow pass.
    pub reorder: Odds,
    /// In packets, from 1 to [`DISTANCE_MAX`].
    pub distance: u32,
    /// Packets of which one byte is changed.
    pub corrupt: Odds,
    /// Whether their checksum goes with it.
    pub damage: Damage,
    /// All choices come from it.
    pub seed: u64,
}

/// How often a fault befalls a packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Odds {
    /// Not at all.
    Never,
    /// Each packet with this probability, above 0 and at most 1, whatever befalls the others.
    Chance(f64),
    /// Exactly one of the first so many packets, exactly one of the next so many, and so on: which one, the seed says.
    OneIn(u64),
}

/// What a changed byte does to the checksum of a 1.x datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Damage {
    /// It stays, so that every receiver sees that it is wrong.
    #[default]
    Bytes,
    /// It is computed anew, so that only a check within the packet can tell. Frames of 2.3+ have no checksum: for them
    /// both are the same.
    Repaired,
}

/// What befalls one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It does not arrive.
    Lose,
    /// It arrives twice.
    Duplicate,
    /// It is held back.
    Reorder,
    /// One of its bytes is changed.
    Corrupt,
}

/// A plan that cannot be kept to.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No probability.
    #[error("{0} is no probability: say one from 0 to 1, or 1/N for exactly one packet in N")]
    Chance(f64),
    /// More than every packet would have a fault, and each has one at most.
    #[error("the probabilities add up to {0}, and a packet has one fault at most: ask for less")]
    Sum(f64),
    /// `OneIn` leaves no room for the other kinds.
    #[error(
        "1/{n} leaves no packet for the other faults that are asked for as 1/N: N must be at least {least}"
    )]
    OneIn {
        /// Asked for.
        n: u64,
        /// As many as there are kinds of fault asked for in this way.
        least: u64,
    },
    /// No distance.
    #[error("a packet is held back while 1 to {DISTANCE_MAX} others pass, not {0}")]
    Distance(u32),
}

impl Plan {
    /// The odds of each fault.
    #[must_use]
    pub const fn odds(&self) -> [(Fault, Odds); 4] {
        [
            (Fault::Lose, self.lose),
            (Fault::Duplicate, self.duplicate),
            (Fault::Reorder, self.reorder),
            (Fault::Corrupt, self.corrupt),
        ]
    }

    /// Whether the plan can be kept to.
    ///
    /// # Errors
    /// [`PlanError`] says which part cannot.
    pub fn check(&self) -> Result<(), PlanError> {
        let mut sum = 0.0;
        let mut exact = 0;
        for (_, odds) in self.odds() {
            match odds {
                Odds::Never => {}
                Odds::Chance(chance) if chance > 0.0 && chance <= 1.0 => sum += chance,
                Odds::Chance(chance) => return Err(PlanError::Chance(chance)),
                Odds::OneIn(_) => exact += 1,
            }
        }
        // Four chances of 0.25 may add up to a bit more than 1.
        if sum > 1.0 + 1e-9 {
            return Err(PlanError::Sum(sum));
        }
        for (_, odds) in self.odds() {
            match odds {
                Odds::OneIn(n) if n < exact => return Err(PlanError::OneIn { n, least: exact }),
                _ => {}
            }
        }
        if !(1..=DISTANCE_MAX).contains(&self.distance) {
            return Err(PlanError::Distance(self.distance));
        }
        Ok(())
    }
}

impl Default for Plan {
    /// Without faults.
    fn default() -> Self {
        Self {
            lose: Odds::Never,
            duplicate: Odds::Never,
            reorder: Odds::Never,
            distance: 3,
            corrupt: Odds::Never,
            damage: Damage::default(),
            seed: 1,
        }
    }
}

impl FromStr for Odds {
    type Err = OddsError;

    /// `0`, a probability such as `0.001`, or `1/1000` for exactly one in 1000.
    fn from_str(text: &str) -> Result<Self, OddsError> {
        if let Some(n) = text.strip_prefix("1/") {
            return match n.parse() {
                Ok(0) | Err(_) => Err(OddsError),
                Ok(n) => Ok(Self::OneIn(n)),
            };
        }
        match text.parse::<f64>() {
            Ok(0.0) => Ok(Self::Never),
            Ok(chance) if chance > 0.0 && chance <= 1.0 => Ok(Self::Chance(chance)),
            _ => Err(OddsError),
        }
    }
}

impl fmt::Display for Odds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("0"),
            Self::Chance(chance) => chance.fmt(f),
            Self::OneIn(n) => write!(f, "1/{n}"),
        }
    }
}

/// A text that says no odds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a probability from 0 to 1, or 1/N for exactly one packet in N")]
pub struct OddsError;

/// The furthest that a packet is held back, in packets: with it the memory of a flow is bounded.
pub const DISTANCE_MAX: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_written_as_people_say_them_and_read_back() {
        for (text, odds) in [
            ("0", Odds::Never),
            ("0.25", Odds::Chance(0.25)),
            ("1", Odds::Chance(1.0)),
            ("1/1000000", Odds::OneIn(1_000_000)),
        ] {
            assert_eq!(text.parse(), Ok(odds));
            assert_eq!(odds.to_string(), text);
        }
        for text in [
            "", "-0.1", "1.5", "NaN", "inf", "1/0", "1/x", "2/3", "often",
        ] {
            assert_eq!(text.parse::<Odds>(), Err(OddsError), "{text}");
        }
    }

    #[test]
    fn a_plan_that_cannot_be_kept_to_is_refused() {
        let half = Odds::Chance(0.5);
        let plan = Plan {
            lose: half,
            reorder: half,
            ..Plan::default()
        };
        assert_eq!(plan.check(), Ok(()));
        let over = Plan {
            corrupt: Odds::Chance(0.1),
            ..plan
        };
        assert!(matches!(over.check(), Err(PlanError::Sum(_))));
        let nan = Plan {
            lose: Odds::Chance(f64::NAN),
            ..Plan::default()
        };
        assert!(matches!(nan.check(), Err(PlanError::Chance(_))));
        let crowded = Plan {
            lose: Odds::OneIn(1000),
            duplicate: Odds::OneIn(3),
            corrupt: Odds::OneIn(2),
            ..Plan::default()
        };
        assert_eq!(crowded.check(), Err(PlanError::OneIn { n: 2, least: 3 }));
        for distance in [0, DISTANCE_MAX + 1] {
            let far = Plan {
                distance,
                ..Plan::default()
            };
            assert_eq!(far.check(), Err(PlanError::Distance(distance)));
        }
    }
}
