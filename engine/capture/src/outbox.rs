//! What one record led to, waiting to be taken.
//!
//! A segment can complete thousands of frames, and an event lends its bytes. So a record is worked off whole:
//! frames are noted by where their bytes lie, and the bytes stay there until the last one was taken.

use core::ops::Range;
use std::collections::VecDeque;
use std::net::SocketAddr;

use binrush_wire::Generation;

use crate::event::Transport;
use crate::problem::{Place, Problem, ProblemKind};
use crate::time::Timestamp;
use crate::totals::Totals;

/// Where bytes lie while their frame waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// The record.
    Record,
    /// The datagram put together last.
    Datagram,
    /// The buffer of a TCP direction, by its slot in the table.
    Stream(usize),
    /// The buffer of the TCP direction that left the table in this record.
    Leaving,
}

/// A frame, by where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) home: Home,
    pub(crate) range: Range<usize>,
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) generation: Generation,
}

#[derive(Debug)]
pub(crate) enum Item {
    Found(Found),
    Problem(Problem),
}

/// The queue of what was found, with the counters and the record it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) queue: VecDeque<Item>,
    pub(crate) totals: Totals,
    /// Number and time of the record being worked off.
    pub(crate) number: u64,
    pub(crate) time: Timestamp,
}

impl Outbox {
    /// Lets go of the room that one large record took; only when all of it was taken.
    #[inline]
    pub(crate) fn tidy(&mut self) {
        if self.queue.capacity() > KEPT_LEN {
            self.queue = VecDeque::new();
        }
    }

    #[inline]
    pub(crate) fn frame(&mut self, found: Found) {
        self.totals.frames += 1;
        self.totals.frame_bytes += found.range.len() as u64;
        self.queue.push_back(Item::Found(found));
    }

    pub(crate) fn problem(&mut self, place: Place, kind: ProblemKind) {
        self.totals.problems += 1;
        self.queue.push_back(Item::Problem(Problem {
            number: self.number,
            place,
            kind,
        }));
    }
}

/// Items that an empty queue keeps room for.
const KEPT_LEN: usize = 1024;
