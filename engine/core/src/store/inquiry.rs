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

use binrush_store::store::Key;
use binrush_store::{Kind, Store};

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
    /// All, from this place on; 0 at first. An AoR comes before its contacts, and with them.
    From(u32),
    /// The AoRs of this name in all domains from this one on, 0 at first, and their contacts.
    Aor(Box<[u8]>, u32),
    /// The dialogs with this Call-ID.
    Callid(Box<[u8]>),
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
    /// A question, and where its answer comes. `slice`: the memory for it.
    #[must_use]
    pub fn new(wanted: Wanted, slice: Slice) -> (Self, mpsc::Receiver<Slice>) {
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

    /// Fills the slice out of `store`, which is that of the name on this shard, and sends it. Takes about 100 µs at the most,
    /// but for an AoR with very many contacts, which are never torn apart.
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
    /// Each record as flat bytes, and what to ask for to get it again: a place for [`Wanted::From`], a domain for
    /// [`Wanted::Aor`], 0 else. Records that go together have the same.
    pub fn records(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let begins = self.ends.iter().map(|(_, end)| *end);
        let begins = std::iter::once(0).chain(begins);
        let records = self.ends.iter().zip(begins);
        records.map(|(&(at, end), begin)| (at, &self.flat[begin..end]))
    }

    fn fill(&mut self, wanted: &Wanted, store: &Store) {
        let Self { flat, ends, .. } = self;
        flat.clear();
        ends.clear();
        let mut at = 0;
        let mut keep = |at: u32, bytes: &[u8]| {
            flat.extend_from_slice(bytes);
            ends.push((at, flat.len()));
        };
        self.next = match wanted {
            Wanted::Counts => None,
            Wanted::From(from) => store.walk(*from, SLICE_BYTES, &mut |place, bytes| {
                // Contacts go with the AoR before them.
                if bytes.first() != Some(&(Kind::Contact as u8)) {
                    at = place;
                }
                keep(at, bytes);
            }),
            Wanted::Aor(aor, from) => {
                store.find_aor(aor, *from, SLICE_BYTES, &mut |domain, bytes| {
                    keep(domain, bytes);
                })
            }
            Wanted::Callid(callid) => {
                store.find(&Key::Dialog(callid), &mut |_, bytes| keep(0, bytes));
                None
            }
        };
        (self.len, self.bytes) = (store.len(), store.bytes());
    }
}

/// Bytes after which a slice is enough: at 150 ns for each of some hundred records, less than 100 µs.
const SLICE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
