//! The shard's side: every change of a store to a ring, and snapshots in slices.

use binrush_journal::{Appender, Step};
use binrush_store::{Effects, Store};

/// Who hears of the changes of a store, and has its own turns beside.
pub trait Log: Effects {
    /// Does a part of what it wants of the whole store, in at most 200 µs; `true`: there is more to do, in about a
    /// millisecond.
    fn turn(&mut self, store: &Store) -> bool {
        let _ = store;
        false
    }
}

/// Nobody listens.
impl Log for () {}

/// Somebody does, or nobody.
impl<L: Log> Log for Option<L> {
    fn turn(&mut self, store: &Store) -> bool {
        self.as_mut().is_some_and(|log| log.turn(store))
    }
}

/// Two do, one after the other.
impl<A: Log, B: Log> Log for (A, B) {
    fn turn(&mut self, store: &Store) -> bool {
        // Both, whatever the first one says.
        let more = self.0.turn(store);
        self.1.turn(store) || more
    }
}

/// Logs the changes of one store, and gives its journal snapshots. Belongs to the shard's thread.
#[derive(Debug)]
pub struct Journaled {
    appender: Appender,
    snapshot: Option<Cursor>,
}

/// How far a snapshot came.
#[derive(Debug, Clone, Copy)]
enum Cursor {
    /// The next slice begins at this place.
    At(u32),
    /// All records are given; its end is not.
    End,
}

/// Why a slice ended before its time.
#[derive(Debug, Clone, Copy)]
enum Halt {
    /// There is no room for the record that comes at the next place.
    NoRoom,
    Abandoned,
}

impl Journaled {
    pub(super) const fn new(appender: Appender) -> Self {
        Self {
            appender,
            snapshot: None,
        }
    }

    /// The number of the last change: how many there were, those of earlier processes included.
    #[must_use]
    pub const fn lsn(&self) -> u64 {
        self.appender.lsn()
    }

    /// Whether a change with a record of `len` bytes would be logged now: for who can wait.
    #[must_use]
    pub fn has_room(&mut self, len: usize) -> bool {
        self.appender.has_room(len)
    }

    /// Logs that what stood at place `from` stands at `to` now, both or nothing of it: then a snapshot is wanted.
    pub(super) fn moved(&mut self, from: u32, to: u32, flat: &[u8]) {
        // First where it goes: whoever is killed in between finds it twice, and not never.
        let _ = self.appender.append_all(TABLE, &[(to, flat), (from, &[])]);
    }

    /// Gives records from place `from` on; says where to go on, and why it did not.
    fn slice(&mut self, store: &Store, from: u32) -> (Option<u32>, Option<Halt>) {
        let (mut halt, mut given) = (None, 0);
        let next = store.walk_while(from, &mut |place, flat| {
            if given >= SLICE_BYTES {
                return false;
            }
            given += flat.len();
            halt = match self.appender.snapshot_record(TABLE, place, flat) {
                Step::Taken => None,
                Step::NoRoom => Some(Halt::NoRoom),
                Step::Abandoned => Some(Halt::Abandoned),
            };
            halt.is_none()
        });
        (next, halt)
    }
}

impl Effects for Journaled {
    #[inline]
    fn put(&mut self, place: u32, flat: &[u8]) {
        // What the ring has no room for is counted there, and made good by a snapshot.
        let _ = self.appender.append(TABLE, place, flat);
    }

    #[inline]
    fn gone(&mut self, place: u32) {
        let _ = self.appender.append(TABLE, place, &[]);
    }
}

impl Log for Journaled {
    fn turn(&mut self, store: &Store) -> bool {
        let cursor = match self.snapshot {
            Some(cursor) => cursor,
            None if !self.appender.snapshot_wanted() => return false,
            None => match self.appender.begin_snapshot() {
                Step::Taken => Cursor::At(0),
                Step::NoRoom | Step::Abandoned => return false,
            },
        };
        let (next, more) = match cursor {
            Cursor::At(from) => {
                let (next, halt) = self.slice(store, from);
                let next = next.map_or(Cursor::End, Cursor::At);
                match halt {
                    None => (Some(next), true),
                    // While the disk takes nothing there is no use in asking a thousand times a second.
                    Some(Halt::NoRoom) => (Some(next), false),
                    Some(Halt::Abandoned) => (None, true),
                }
            }
            Cursor::End => match self.appender.end_snapshot() {
                Step::Taken => (None, false),
                Step::NoRoom => (Some(Cursor::End), false),
                Step::Abandoned => (None, true),
            },
        };
        self.snapshot = next;
        more
    }
}

/// Each table has a journal of its own, in which it is this one.
pub(super) const TABLE: u8 = 0;

/// Bytes of records in a slice, and one record more: some hundred contacts, of which each takes 0.2 µs.
const SLICE_BYTES: usize = 96 << 10;
