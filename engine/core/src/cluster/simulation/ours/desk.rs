//! The inbox of a simulated process.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cluster::inbox::{Inbox, Incoming};
use crate::cluster::outbox::Slice;

/// What waits for the driver.
#[derive(Debug, Default)]
pub(super) struct Desk(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Incoming>,
    slices: VecDeque<Slice>,
    moved: bool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.messages.is_empty() && waiting.slices.is_empty() && !waiting.moved
    }

    pub(super) fn take_message(&self) -> Option<Incoming> {
        self.lock().messages.pop_front()
    }

    pub(super) fn take_slice(&self) -> Option<Slice> {
        self.lock().slices.pop_front()
    }

    pub(super) fn take_moved(&self) -> bool {
        std::mem::take(&mut self.lock().moved)
    }
}

impl Inbox for Desk {
    fn message(&self, message: Incoming) -> bool {
        self.lock().messages.push_back(message);
        true
    }

    fn slice(&self, slice: Slice) {
        self.lock().slices.push_back(slice);
    }

    fn session_moved(&self) {
        self.lock().moved = true;
    }

    fn record_missed(&self, _: i32, _: &str) {
        unreachable!("replicas have room for everything here")
    }
}
