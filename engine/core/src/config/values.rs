//! Values that the command line takes too, so that a word means the same in both places.

use std::fmt;
use std::str::FromStr;

use crate::access::{Cidr, CidrError};
use crate::engine::{Pin, SHARDS_MAX};

/// Whom one `allow` lets in: `any`, or a range.
///
/// ```
/// use binrush_engine::config::Allowed;
///
/// assert_eq!("any".parse(), Ok(Allowed::Any));
/// assert_eq!("10.0.0.0/8".parse(), Ok(Allowed::Range("10.0.0.0/8".parse()?)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Everybody.
    Any,
    /// These.
    Range(Cidr),
}

/// A text that lets nobody in: why it is no range, since it is not `any` either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; or any")]
pub struct AllowedError(pub CidrError);

/// A text that pins no shard. Displayed, it says what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// Neither a word that is known nor numbers.
    #[error("auto, off, or numbers of cores such as 0,1")]
    Text,
    /// More cores than there can be shards.
    #[error("at most {SHARDS_MAX} numbers of cores")]
    TooMany,
    /// Two shards on one core are slower than one shard, so this is a slip of the pen.
    #[error("each core once ({core} is there twice)")]
    Twice {
        /// The core.
        core: usize,
    },
}

impl FromStr for Allowed {
    type Err = AllowedError;

    fn from_str(text: &str) -> Result<Self, AllowedError> {
        match text {
            "any" => Ok(Self::Any),
            text => text.parse().map(Self::Range).map_err(AllowedError),
        }
    }
}

impl FromStr for Pin {
    type Err = PinError;

    /// `auto`, `off`, or numbers of cores with commas between, each core once.
    fn from_str(text: &str) -> Result<Self, PinError> {
        match text {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let mut cores = Vec::new();
        for core in text.split(',') {
            let core = core.trim().parse().map_err(|_| PinError::Text)?;
            if cores.contains(&core) {
                return Err(PinError::Twice { core });
            }
            if cores.len() == usize::from(SHARDS_MAX) {
                return Err(PinError::TooMany);
            }
            cores.push(core);
        }
        Ok(Self::Cores(cores))
    }
}

/// As it is written.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Cores(cores) => {
                let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
                f.write_str(&cores.join(","))
            }
        }
    }
}

/// A GiB, the largest receive buffer in bytes: the kernel counts twice the bytes in an `int`.
pub const RCVBUF_MAX: u32 = 1 << 30;

/// A day, the longest time between two lines of counts, in seconds.
pub const STATS_MAX: u32 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_written() {
        for text in ["auto", "off", "3", "2,0,1"] {
            assert_eq!(text.parse::<Pin>().unwrap().to_string(), text);
        }
        assert_eq!(" 1, 0 ".parse(), Ok(Pin::Cores(vec![1, 0])));
    }

    #[test]
    fn a_pin_names_each_core_once_and_no_more_than_there_are_shards() {
        for text in ["", "last", "0,,1", "-1", "Auto"] {
            assert_eq!(text.parse::<Pin>(), Err(PinError::Text), "{text}");
        }
        assert_eq!("1,0,1".parse::<Pin>(), Err(PinError::Twice { core: 1 }));
        let cores = |count: u16| {
            let cores: Vec<String> = (0..count).map(|core| core.to_string()).collect();
            cores.join(",").parse::<Pin>()
        };
        assert!(cores(SHARDS_MAX).is_ok());
        assert_eq!(cores(SHARDS_MAX + 1), Err(PinError::TooMany));
    }

    #[test]
    fn who_is_allowed_is_everybody_or_a_range() {
        assert_eq!("any".parse(), Ok(Allowed::Any));
        let range = Allowed::Range("10.0.0.0/8".parse().unwrap());
        assert_eq!("10.0.0.0/8".parse(), Ok(range));
        for (text, told) in [("10.0.0.1/8", "10.0.0.0/8"), ("Any", "; or any")] {
            let error = text.parse::<Allowed>().unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
