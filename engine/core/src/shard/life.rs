//! How the shards of an engine come to their end together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::dispatch::handler::ShardId;

/// What the shards of an engine have in common about their end.
#[derive(Debug)]
pub struct Life {
    stop: AtomicBool,
    /// What is queued is left to others.
    leaves: AtomicBool,
    /// Shards that may still post mail.
    receiving: AtomicUsize,
    /// Whether each of them posts no mail any more.
    left: Box<[AtomicBool]>,
}

impl Life {
    /// For an engine of so many shards.
    #[must_use]
    pub fn new(shards: u16) -> Arc<Self> {
        Arc::new(Self {
            stop: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            receiving: AtomicUsize::new(shards.into()),
            left: (0..shards).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// Asks all shards to end. Who does shuts off new arrivals first: what comes later than the drain would be
    /// received by nobody.
    ///
    /// Release: pairs with the Acquire load in [`is_stopping`](Self::is_stopping), so whoever sees the flag also
    /// sees that arrivals were shut off, and what is queued then is all there will be.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Asks all shards to end as [`stop`](Self::stop) does, and to leave what is queued to who has the sockets too.
    pub fn leave(&self) {
        // Seen by whoever sees the other flag, which is stored by Release.
        self.leaves.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Whether queues are left as they are at the end.
    pub(super) fn leaves_queues(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// So many shards were never started, and will post no mail.
    pub(crate) fn abandon(&self, shards: usize) {
        self.receiving.fetch_sub(shards, Ordering::Release);
    }

    /// A shard posts no mail any more. Release: what it published before is seen by who sees the count.
    fn received_all(&self, shard: ShardId) {
        if let Some(left) = self.left.get(shard.index()) {
            left.store(true, Ordering::Relaxed);
        }
        self.receiving.fetch_sub(1, Ordering::Release);
    }

    /// Whether `shard` has done its own, and waits at most for the mail of others.
    pub(crate) fn has_left(&self, shard: ShardId) -> bool {
        self.left
            .get(shard.index())
            .is_some_and(|left| left.load(Ordering::Relaxed))
    }

    pub(super) fn is_mail_over(&self) -> bool {
        self.receiving.load(Ordering::Acquire) == 0
    }
}

/// Tells the others when a shard posts no more mail, also when it ends by an error or a panic.
pub(super) struct Leaving<'a>(pub(super) &'a Life, pub(super) ShardId);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.received_all(self.1);
    }
}
