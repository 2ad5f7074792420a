//! What another thread asks of the records of one shard.
//!
//! ```text
//!   asker ── Inquiry { wanted, empty slice, where to ─┐ } ──▶ mailbox of the shard ──▶ Replica::ask ──▶ walk, at most 64 KiB
//!     ▲                                               │                                               │
//!     └──────────── the slice, filled ◀── channel of one ◀────────────────── try_send ────────────────┘
//! ```
//!
//! The asker brings the memory and asks again for more, and the shard waits for nobody: packets have their turn between two
//! slices, and who does not fetch his slice does without.

use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

use binrush_store::{RECORD_BYTES_MAX, Store};

use crate::dispatch::handler::Told;

/// A question to the keeper of one name's records on one shard, by [`Teller::tell`](crate::Teller::tell).
#[derive(Debug)]
pub struct Inquiry {
    wanted: Wanted,
    slice: Slice,
    answer: SyncSender<Slice>,
}

/// Which records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// None: only how many there are.
    Counts,
    /// All, from this place on; 0 at first. A contact may come before its AoR.
    From(u32),
    /// The AoRs of this name in all domains, and their contacts: from here on, 0 at first.
    Aor(Box<[u8]>, u32),
    /// The dialogs with this Call-ID: from here on, 0 at first.
    Callid(Box<[u8]>, u32),
}

/// Some records of one shard.
#[derive(Debug, Default)]
pub struct Slice {
    flat: Vec<u8>,
    /// Of each record where to ask for it again, and where it ends.
    ends: Vec<(u32, usize)>,
    /// What to put into the next question; `None`: that was all.
    pub next: Option<u32>,
    /// Records on this shard.
    pub len: usize,
    /// Bytes that they take there.
    pub bytes: usize,
}

/// Why there is no slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It hangs, or has more to do than it can.
    #[error("shard {0} does not answer: it hangs, or has too much to do")]
    Busy(u16),
    /// It has ended.
    #[error("shard {0} has ended")]
    Ended(u16),
    /// Whoever has this name keeps no typed records.
    #[error("its records are kept as they came, and nobody reads them")]
    Unread,
}

impl Inquiry {
    /// A question, and where its answer comes. `slice`: the memory for it, which this makes as large as the answer can be.
    #[must_use]
    pub fn new(wanted: Wanted, mut slice: Slice) -> (Self, mpsc::Receiver<Slice>) {
        slice.clear();
        if wanted != Wanted::Counts {
            slice.flat.reserve(SLICE_BYTES + RECORD_BYTES_MAX);
            slice.ends.reserve(SLICE_RECORDS);
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let inquiry = Self {
            wanted,
            slice,
            answer,
        };
        (inquiry, answered)
    }

    /// Asks `shard`, to which `tell` is the way, and waits at most for `patience`; never on a shard's own thread. `slice` is the
    /// one before, whose memory is used again.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn ask(
        shard: u16,
        wanted: Wanted,
        slice: Slice,
        patience: Duration,
        tell: impl FnOnce(Self) -> Told,
    ) -> Result<Slice, AskError> {
        let (inquiry, answered) = Self::new(wanted, slice);
        match tell(inquiry) {
            Told::Taken => {}
            Told::Full => return Err(AskError::Busy(shard)),
            Told::Ended => return Err(AskError::Ended(shard)),
        }
        answered
            .recv_timeout(patience)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => AskError::Busy(shard),
                // A shard that ends drops it, too; then nobody has time for the difference.
                RecvTimeoutError::Disconnected => AskError::Unread,
            })
    }

    /// Fills the slice out of `store`, which is that of the name on this shard, and sends it. Takes about 100 µs at the most.
    pub fn answer(self, store: &Store) {
        let Self {
            wanted,
            mut slice,
            answer,
        } = self;
        slice.fill(&wanted, store);
        // Who has gone meanwhile does not want it any more.
        let _ = answer.try_send(slice);
    }
}

impl Slice {
    /// Each record as flat bytes, and what to ask for to get it again, and what comes behind it.
    pub fn records(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let begins = self.ends.iter().map(|(_, end)| *end);
        let begins = std::iter::once(0).chain(begins);
        let records = self.ends.iter().zip(begins);
        records.map(|(&(at, end), begin)| (at, &self.flat[begin..end]))
    }

    fn clear(&mut self) {
        self.flat.clear();
        self.ends.clear();
    }

    fn fill(&mut self, wanted: &Wanted, store: &Store) {
        self.clear();
        let Self { flat, ends, .. } = self;
        let mut keep = |at: u32, bytes: &[u8]| {
            let has_room = flat.len() < SLICE_BYTES && ends.len() < SLICE_RECORDS;
            if has_room {
                flat.extend_from_slice(bytes);
                ends.push((at, flat.len()));
            }
            has_room
        };
        self.next = match wanted {
            Wanted::Counts => None,
            Wanted::From(from) => store.walk_while(*from, &mut keep),
            Wanted::Aor(aor, from) => store.find_aor(aor, *from, &mut keep),
            Wanted::Callid(callid, from) => store.find_callid(callid, *from, &mut keep),
        };
        (self.len, self.bytes) = (store.len(), store.bytes());
    }
}

/// Records after which it is: the tables of strings and places that are looked through in one call have as many.
const SLICE_RECORDS: usize = 4096;

/// Bytes after which a slice is enough: at 150 ns for each of some hundred records, less than 100 µs.
const SLICE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
