//! What shards did to their records, kept over the death of the process and over power loss.
//!
//! ```text
//!   shard ──append──▶ ring, in memory that outlives the process ──turn──▶ writer ──▶ log-… │ log-… │ log-…
//!     │ no lock, no call, no allocation                                     └──────▶ snapshot-… (two of them)
//!     └─ walk, when a snapshot is wanted ──▶ the same ring
//!
//!   start: recover(folder, ring) ──▶ records as they were ──▶ start(…) goes on with the same folder and ring
//! ```
//!
//! It knows nothing of what records say: an [`Op`] puts bytes at a place of a table, or takes away what is there. Ops have
//! numbers, the first one 1 (*lsn*). A **snapshot** is a walk over all places while ops go on: with the ops since its
//! beginning applied to it, it is what the shard had. [`recover`](recover()) reads the newest that is whole.
//!
//! What it promises: after `kill -9`, every op that was [`Logged`](Appended::Logged); after power loss, every op up to
//! [`Status::durable`], which follows within [`Options::fsync_interval`]. When the ring is full, ops are counted and not
//! logged ([`Status::is_lagging`]), until a snapshot makes it good: until then a crash leads back to before the gap. A
//! write or a sync that fails loses its file, which is never tried again; the next one is another file, and a snapshot is
//! asked for.
//!
//! # Files
//!
//! A folder belongs to one shard and one epoch ([`Identity`]). All numbers have their lowest byte first, whatever the
//! machine; only the ring, which never leaves it, has the machine's order (see [`ring`]).
//!
//! | name | what | until |
//! |---|---|---|
//! | `log-<first op>` | ops from this number on | it is older than both snapshots |
//! | `snapshot-<op>` | all records, after this op or a later one | two newer ones are there |
//! | `….new` | a file that is not complete | it is, and gets its name |
//! | `….refused` | a file that recovery could not use, put aside by [`start`] | the next snapshot is complete |
//! | `lock` | locked while somebody writes the folder | |
//!
//! ```text
//!   0        4096
//!   │ header │ block │ block │ … │ zeros (logs are made longer than they are yet)
//! ```
//!
//! | header: offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `BINRLOG\n` or `BINRSNP\n`: else [`Why::NotOurs`] |
//! | 8 | 4 | version, 1: a higher one is [`FileError::Newer`], and nothing is read |
//! | 16 | 8 | epoch; another one is [`FileError::Foreign`], and nothing is read |
//! | 24 | 4 | shard; as the epoch |
//! | 32 | 8 | the number of the name: else [`Why::Misnamed`] |
//! | 40 | 8 | the length that the file has had since it was made: a shorter one is [`Why::EndsEarly`], read as far as it goes |
//! | 4092 | 4 | CRC-32 (IEEE) of the bytes before: else [`Why::Checksum`]. The rest are zeros |
//!
//! | block: offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | length of the ops, never 0: zeros are the end. More than a block has is [`Why::BlockLen`], more than the file has is [`Why::EndsEarly`] |
//! | 4 | 4 | CRC-32 of the header's CRC and of the block without these four bytes: else [`Why::Checksum`] |
//! | 8 | 8 | number of the first op; in snapshots, how many records are before it. One that does not follow is a [`Why::Jump`] |
//! | 16 | 4 | how many ops |
//! | 20 | 4 | 1: ops, 2: records of a snapshot, 3: end of a snapshot. Anything else is [`Why::Nonsense`] |
//! | 24 | | ops: `kind: u8` (0 put, 1 gone), `table: u8`, two zeros, `place: u32`, `len: u32`, `len` bytes. At the end of a snapshot: `u64`, the last op that may be in it; a snapshot without is [`Why::Incomplete`], one whose last op the log does not reach is [`Why::AheadOfLog`] |
//!
//! A file appears whole: written under another name, synced, renamed, the folder synced. A snapshot gets its name after the
//! log up to its end is synced, and is the reason for a new file of the log, so that what is older can go.
#![forbid(unsafe_code)]

/// Blocks of files.
mod block;
/// Names and first pages of files.
mod file;
/// What a shard had, out of its folder and its ring.
pub mod recover;
/// The ring between a shard and its writer.
pub mod ring;
/// How a journal is doing.
pub mod status;
/// Turns, by the clock.
pub mod thread;
/// What a journal wants of a folder.
pub mod vfs;
/// From the ring to the disk.
pub mod writer;

pub use block::Op;
pub use file::{FileError, Identity, Refused, What, Why};
pub use recover::{FileReport, Report, recover, verify};
pub use ring::append::{Appended, Appender, Step};
pub use ring::{Ring, RingError};
pub use status::Status;
pub use thread::{WriterThread, spawn};
pub use vfs::{Folder, FolderError, Vfs, VfsFile};
pub use writer::{Options, StartError, Turn, Writer, start};

/// Where a row of ops breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The last op before it.
    pub after: u64,
    /// The next one that is known, or would be.
    pub next: u64,
}

/// Bytes of the longest record; small rings take shorter ones only ([`Ring::record_len_max`]).
pub const RECORD_LEN_MAX: usize = 1 << 20;
