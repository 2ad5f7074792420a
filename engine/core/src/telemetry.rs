//! What is counted, and how it adds up.

/// The counters of one shard.
pub mod ledger;
/// What can become of a datagram.
pub mod outcome;
/// The counters at one moment, and what they must add up to.
pub mod snapshot;
