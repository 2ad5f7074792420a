//! What packets of a measured flow say about themselves, and what a receiver makes of it.
//!
//! A sender writes a [`Stamp`] into a field of each packet ([`place`](crate::place()) says which) and [seals](seal) it.
//! A receiver shows its packets to an [`Audit`], which counts what came once, twice, late, out of order or damaged,
//! and how long it took. A [`Report`] is what the audit found; [`ask`](crate::ask()) fetches one from a running
//! `binrush serve`.
//!
//! ```text
//!   sender:    Stamp ─▶ seal ─▶ packet ~~~ network ~~~▶ packet ─▶ read ─▶ Audit ─▶ Report    receiver
//!                        at place(packet)                  └── damaged, foreign ──┘
//! ```
//!
//! Times are nanoseconds of CLOCK_MONOTONIC, so both ends must be on one host: clocks of two hosts have nothing to do
//! with each other. Counts are right wherever the ends are.
#![forbid(unsafe_code)]

/// Asking a server elsewhere what its probe saw.
pub mod ask;
/// What one receiver makes of its packets.
pub mod audit;
/// The time that all processes of a host share.
pub mod clock;
/// Latencies as histograms.
pub mod hist;
/// Where a packet carries its stamp.
pub mod place;
/// What receivers make of the stamps they saw.
pub mod report;
/// What a packet says about itself.
pub mod stamp;

/// Packets for tests.
#[cfg(test)]
mod made;

pub use ask::{AskError, ask, forget};
pub use audit::{Audit, Limits, Seen};
pub use clock::monotonic_ns;
pub use hist::Hist;
pub use place::place;
pub use report::{Interval, Report, RunReport, StreamReport};
pub use stamp::{NoStamp, STAMP_LEN, Stamp, read, seal};
