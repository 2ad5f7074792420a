//! Scenarios: which packets, how large, about which records.

use std::time::Duration;

use binrush_wire::Release;

/// A load, but for its rate and its length.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What it is called in results.
    pub name: String,
    /// For people.
    pub description: String,
    /// How packets look and what they travel by.
    pub form: Form,
    /// All draws come from it.
    pub seed: u64,
    /// At least one.
    pub parts: Vec<Part>,
    /// How packets are spread over time.
    pub arrivals: Arrivals,
}

impl Scenario {
    /// The same load with packets of `bytes` bytes each, whatever sizes its parts had.
    ///
    /// A size that [`crate::limits::SIZE`] does not allow is told by [`Self::check`] and by whatever draws sizes.
    #[must_use]
    pub fn with_size(mut self, bytes: u16) -> Self {
        for part in &mut self.parts {
            part.sizes = Sizes::Fixed(bytes);
        }
        self
    }
}

/// How packets look and what they travel by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 1.x: one packet per UDP datagram.
    Datagrams,
    /// 2.4 and later: packets one after the other in a TCP stream.
    Frames {
        /// Whose layouts.
        release: Release,
        /// Trailer: the cluster's id.
        cluster: i32,
        /// Trailer: the id of the node that sends.
        source: i32,
        /// Trailer: the id of the node that receives.
        destination: i32,
    },
}

/// Packets of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Of all packets; the shares of all parts add up to 1.
    pub share: f64,
    /// How long packets are.
    pub sizes: Sizes,
    /// What they say.
    pub kind: Kind,
}

/// What packets say.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Packets of a name that nobody has registered.
    Miss {
        /// That name.
        name: String,
        /// Their first field.
        keys: Keys,
    },
    /// Registrations.
    Contacts {
        /// Addresses of record.
        keys: Keys,
        /// Weight of a registration, against the other two: in the long run packets come in these proportions. What is
        /// above that of unregistrations is of contacts that expire, of which no packet tells.
        register: f64,
        /// Weight of a refresh.
        refresh: f64,
        /// Weight of an unregistration: at most that of a registration, as only who registered can unregister.
        unregister: f64,
    },
    /// Calls.
    Dialogs {
        /// Updates in the life of a dialog, on average.
        updates: f64,
        /// From create to delete.
        duration: Durations,
    },
}

/// Records that packets are about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keys {
    /// How many there are.
    pub population: u64,
    /// How often each is spoken of.
    pub popularity: Popularity,
}

/// How often each record is spoken of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// The n-th most popular one in proportion to `n` to the power of minus `exponent`.
    Zipf {
        /// Above 0.
        exponent: f64,
    },
}

/// How long packets are, in bytes, headers of BIN included. One whose fields need more is longer.
#[derive(Debug, Clone, PartialEq)]
pub enum Sizes {
    /// As genuine nodes send them.
    Natural,
    /// All alike.
    Fixed(u16),
    /// Any length between the two, both included.
    Uniform {
        /// Shortest.
        min: u16,
        /// Longest.
        max: u16,
    },
    /// Lengths with their weights: those of packets that a node sends while a record is there. Deletes are of natural
    /// length, or for a call as much longer as its other packets are.
    Table(Vec<(u16, f64)>),
}

/// How long calls last.
#[derive(Debug, Clone, PartialEq)]
pub enum Durations {
    /// All alike.
    Fixed(Duration),
    /// Memoryless.
    Exponential {
        /// On average.
        mean: Duration,
    },
    /// Many short ones, some very long.
    LogNormal {
        /// Half of them are shorter.
        median: Duration,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Durations with their weights.
    Table(Vec<(Duration, f64)>),
}

/// How packets are spread over time.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrivals {
    /// At equal distances.
    Constant,
    /// Each independent of all others.
    Poisson,
    /// Gaps as recorded, again and again; the rate scales them, so only their proportions count.
    Captured(Vec<f64>),
    /// A rate that changes, again and again.
    Steps(Vec<Step>),
}

/// A time at one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// How long.
    pub duration: Duration,
    /// Of the rate that is asked for.
    pub factor: f64,
}
