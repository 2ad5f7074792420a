//! What a load consists of: scenarios in TOML, when packets are due, and what is in them.
#![forbid(unsafe_code)]

/// The scenarios that are part of the program.
pub mod builtin;
/// What is in the packets.
pub mod content;
/// What is wrong with a scenario.
pub mod error;
/// A scenario from a capture.
pub mod learn;
/// What the values of a scenario may be.
pub mod limits;
/// Scenarios as TOML.
pub mod parse;
/// Draws: which record, how long, how large.
pub mod sample;
/// Scenarios: which packets, how large, about which records.
pub mod scenario;
/// When packets are due.
pub mod schedule;
/// What a sender takes packets from.
pub mod source;

/// Whether a scenario that no text described is one.
mod check;
/// The text of a scenario, and how a place in it is shown to a person.
mod text;
/// Scenarios back to TOML.
mod write;

pub use builtin::BUILTIN;
pub use content::Content;
pub use error::ScenarioError;
pub use learn::{LearnError, Learned, learn};
pub use sample::{DurationSampler, KeySampler, SizeSampler, draws};
pub use scenario::{
    Arrivals, Durations, Form, Keys, Kind, Part, Popularity, Scenario, Sizes, Step,
};
pub use schedule::Schedule;
pub use source::{ContentError, Share, Source};
