//! What the values of a scenario may be.

use std::fmt;
use std::time::Duration;

use crate::error::ScenarioError;

/// Values that are allowed, from the least to the largest, and what they are of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit<T> {
    /// Words for a message.
    pub what: &'static str,
    /// The least one.
    pub min: T,
    /// The largest one.
    pub max: T,
    /// Stands behind a number, with its space; empty for a mere count.
    pub unit: &'static str,
}

impl<T: PartialOrd + Copy + fmt::Display> Limit<T> {
    const fn new(what: &'static str, min: T, max: T, unit: &'static str) -> Self {
        Self {
            what,
            min,
            max,
            unit,
        }
    }

    /// Whether `value` is among them; what is no number is not.
    #[must_use]
    pub fn allows(&self, value: T) -> bool {
        self.min <= value && value <= self.max
    }

    /// # Errors
    /// [`ScenarioError::Value`]: it is not among them.
    pub fn check(&self, value: T) -> Result<T, ScenarioError> {
        self.allows(value)
            .then_some(value)
            .ok_or_else(|| self.error(value))
    }

    /// That `value` is not among them.
    pub(crate) fn error(&self, value: T) -> ScenarioError {
        ScenarioError::Value {
            what: self.what,
            expected: format!("{self}, not {value}"),
        }
    }
}

/// As `1 to 16777216` or `64 to 65000 bytes`.
impl<T: fmt::Display> fmt::Display for Limit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}{}", self.min, self.max, self.unit)
    }
}

/// `bytes`, when a packet may be that long.
///
/// # Errors
/// [`ScenarioError::Value`]: shorter or longer than [`SIZE`] allows.
pub fn size(bytes: u16) -> Result<u16, ScenarioError> {
    SIZE.check(bytes.into()).map(|_| bytes)
}

/// `duration` in nanoseconds, when a call or a step may be that long.
///
/// # Errors
/// [`ScenarioError::Value`]: shorter than [`DURATION_MIN`] or longer than [`DURATION_MAX`].
pub fn duration_ns(duration: Duration) -> Result<u64, ScenarioError> {
    let allowed = DURATION_MIN <= duration && duration <= DURATION_MAX;
    let ns = u64::try_from(duration.as_nanos()).ok();
    ns.filter(|_| allowed).ok_or_else(|| ScenarioError::Value {
        what: "a duration",
        expected: format!("{DURATION_RANGE}, not {duration:?}"),
    })
}

/// Whether `text` is one line of as many characters as `limit` allows, with nothing that a terminal obeys.
pub(crate) fn is_line(text: &str, limit: &Limit<u64>) -> bool {
    limit.allows(text.chars().count() as u64) && !text.contains(char::is_control)
}

/// Whether packets may have this name in order to have one that nobody knows: [`UNKNOWN_NAME`].
pub(crate) fn is_unknown_name(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic());
    (1..=64).contains(&name.len()) && is_plain && !KNOWN_NAMES.contains(&name)
}

/// Whether shares that add up to `sum` need no scaling.
pub(crate) fn is_one(sum: f64) -> bool {
    (sum - 1.0).abs() <= ONE_FUZZ
}

/// Records: each needs a bit of memory for each sender, and more must not be asked for by mistake.
pub const POPULATION: Limit<u64> = Limit::new("the population", 1, 1 << 24, " records");

/// Of Zipf popularity; beyond 10 the first record has all the traffic.
pub const EXPONENT: Limit<f64> = Limit::new("the exponent", 0.01, 10.0, "");

/// Whole packets: below, a stamp has no room; above, headers of IP and UDP and the trailer might not.
pub const SIZE: Limit<u64> = Limit::new("a size", 64, 65_000, " bytes");

/// Of parts, and of rows of tables, against each other.
pub const WEIGHT: Limit<f64> = Limit::new("a weight", 1e-9, 1e9, "");

/// Of kinds of contact packets, against each other; 0 is never.
pub const CHANCE: Limit<f64> = Limit::new("a weight", 0.0, 1e9, "");

/// Of a part, when the shares of all parts add up to 1.
pub const SHARE: Limit<f64> = Limit::new("a share", 1e-6, 1.0 + ONE_FUZZ, "");

/// Rows of a table of sizes or durations.
pub const TABLE: Limit<u64> = Limit::new("the number of a table's rows", 1, 4_096, " rows");

/// Standard deviation of the logarithm of durations.
pub const SIGMA: Limit<f64> = Limit::new("sigma", 0.01, 5.0, "");

/// Updates of one dialog, on average.
pub const UPDATES: Limit<f64> = Limit::new("updates", 0.0, 1_000.0, " per dialog");

/// Parts of one scenario.
pub const PARTS: Limit<u64> = Limit::new("the number of parts", 1, PARTS_MAX as u64, "");

/// [`PARTS`], to index with.
pub const PARTS_MAX: usize = 16;

/// Captured gaps.
pub const GAPS: Limit<u64> = Limit::new("the number of gaps", 1, 65_536, " gaps");

/// One gap, against the others.
pub const GAP: Limit<f64> = Limit::new("a gap", 0.0, 1e9, "");

/// Steps of the rate.
pub const STEPS: Limit<u64> = Limit::new("the number of steps", 1, 1_000, " steps");

/// Length of a step.
pub const SECONDS: Limit<f64> = Limit::new("seconds", 0.001, 86_400.0, "");

/// Of a step, against the rate that is asked for; 0 is silence.
pub const FACTOR: Limit<f64> = Limit::new("a factor", 0.0, 1_000.0, "");

/// Ids of clusters and nodes (3.6, `clusterer`: above 0).
pub const ID: Limit<u64> = Limit::new("an id", 1, i32::MAX as u64, "");

/// Any number will do.
pub const SEED: Limit<u64> = Limit::new("the seed", 0, u64::MAX, "");

/// Length of a scenario's name.
pub const NAME: Limit<u64> = Limit::new("the length of the name", 1, 64, " characters");

/// Length of a scenario's description.
pub const DESCRIPTION: Limit<u64> =
    Limit::new("the length of the description", 0, 1_000, " characters");

/// Shortest call and step.
pub const DURATION_MIN: Duration = Duration::from_millis(1);

/// Longest call and step.
pub const DURATION_MAX: Duration = Duration::from_hours(24);

/// [`DURATION_MAX`] in nanoseconds.
pub const DURATION_MAX_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// For messages.
pub const DURATION_RANGE: &str = "1ms to 24h";

/// What [`is_unknown_name`] asks for, for messages.
pub(crate) const UNKNOWN_NAME: &str = "1 to 64 printable ASCII characters without spaces, and none of the names whose \
     packets have layouts of their own (dialog, ul, dialog-dlg-repl, usrloc-contact-repl, binrush-probe)";

/// Why contacts are not to be unregistered more often than registered, for messages.
pub(crate) const WHO_LEAVES: &str = "only who registered can unregister";

/// Where the stamp of a packet lies, and whether it is ours, goes by these names.
const KNOWN_NAMES: [&str; 5] = [
    "dialog",
    "ul",
    "dialog-dlg-repl",
    "usrloc-contact-repl",
    "binrush-probe",
];

/// What rounding may leave between a sum of shares and 1.
const ONE_FUZZ: f64 = 1e-9;
