//! What OpenSIPS nodes replicate, as typed records: dialogs, AoRs and contacts, profiles, rate limits, cached values.
//!
//! ```text
//!   packet, chunk ──read──▶ Change ──▶ Store: one kind of record on one shard ──▶ Effects: what changed, as flat bytes
//!    of any release                       │  rules of part D, expiry, syncs              (log, listeners)
//!                                         └─ walk ──▶ Record ──write──▶ chunk, packet of any release
//! ```
//!
//! A pure state machine: no clock, no file, no socket, no thread. Time is a parameter, in seconds since 1970, because records
//! say when they expire that way. Allocation only where a record grows or the table does.
#![forbid(unsafe_code)]

/// What a packet does to records.
pub mod change;
/// What a store tells of its changes.
pub mod effects;
/// A record as bytes: in memory, in the log, in snapshots and dumps.
pub mod flat;
/// Labels and ids of records whose makers have none.
pub mod labels;
/// What records say, borrowed from a packet or from flat bytes.
pub mod model;
/// Packets and sync chunks of every release, as what they do to records.
pub mod read;
/// One record of any kind, between its typed form and its bytes.
pub mod record;
/// The sockets of one node, as those of another.
pub mod sockets;
/// The records of one family on one shard.
pub mod store;
/// Packets of one release as packets of another.
pub mod translate;
/// Values and profiles of a dialog: the texts of all releases, and one list.
pub mod vars;
/// Records as any release sends them: chunks and live packets.
pub mod write;

pub use change::Change;
pub use effects::{Effects, News};
#[cfg(test)]
mod samples;

pub use flat::{Kind, Status};
pub use record::Record;
pub use store::{Applied, Family, Limits, Now, RECORD_BYTES_MAX, Store, Why};
