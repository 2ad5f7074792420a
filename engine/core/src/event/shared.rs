//! What sources, the thread and who asks have in common.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use binrush_net::Bell;
use crossbeam_utils::CachePadded;

use super::counts::{Report, SourceCounts, Sources};
use super::desk::Desk;
use super::names::{EVENTS_MAX, EventId};
use super::sender::Ring;
use super::wanted::Wanted;

/// What sources, the thread and who asks have in common.
pub(super) struct Shared {
    pub(super) bell: Bell,
    pub(super) wanted: Wanted<{ EVENTS_MAX / 64 }>,
    stop: AtomicBool,
    /// Nobody looks at the rings any more, and what the thread counted is all there is. Its `Release` store, behind the last report, pairs
    /// with the load of [`has_ended`](Self::has_ended).
    ended: AtomicBool,
    /// How long what waits may take to leave, once it is to stop.
    pub(super) drain: Mutex<Duration>,
    /// What is wanted. Held for microseconds: nothing is sent, and nobody waited for, meanwhile.
    pub(super) desk: Mutex<Desk>,
    /// What became of events. Held no longer: whoever asks copies it.
    pub(super) report: Mutex<Report>,
    /// Rings that the thread has not seen.
    pub(super) rings: Mutex<Vec<Ring>>,
    pub(super) sources: Mutex<Sources>,
}

impl Shared {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bell: Bell::new()?,
            wanted: Wanted::new(),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            drain: Mutex::default(),
            desk: Mutex::default(),
            report: Mutex::default(),
            rings: Mutex::default(),
            sources: Mutex::default(),
        }))
    }

    /// The rings that were made since the last call.
    pub(super) fn new_rings(&self) -> Vec<Ring> {
        std::mem::take(&mut lock(&self.rings))
    }

    /// The ring of these is no more: nobody raises by it, and it is empty.
    pub(super) fn forget(&self, counts: &Arc<CachePadded<SourceCounts>>) {
        lock(&self.sources).forget(counts);
    }

    /// Has the thread end, as far as what waits allows; `drain`: how long that may take.
    pub(super) fn stop(&self, drain: Duration) {
        *lock(&self.drain) = drain;
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// There is no thread any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn wants(&self, event: EventId) -> bool {
        self.wanted.has(event.index())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
