//! What is counted, and how it adds up.

/// How long datagrams waited.
pub mod latency;
/// The counters of one shard.
pub mod ledger;
/// What can become of a datagram.
pub mod outcome;
/// What refused datagrams looked like.
pub mod samples;
/// The counters at one moment, and what they must add up to.
pub mod snapshot;
/// The counters of one shard's connections.
pub(crate) mod streams;
