//! Events that scripts hear of.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use super::functions::Params;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Such as `E_UL_CONTACT_INSERT`.
    pub name: String,
    /// What it says, in order: values with names or without.
    pub params: Vec<(Option<String>, String)>,
}

/// Events on their way to `event_route`: from whoever raises them to the shard that runs the routes.
///
/// Takes only those that have a route, and no more than [`EVENTS_MAX`] at a time; others are dropped, and counted.
pub struct Events {
    routes: BTreeSet<String>,
    queue: ArrayQueue<Event>,
    /// Written by whoever raises, and read for counts: nothing else depends on it.
    dropped: AtomicU64,
}

impl Event {
    /// One with these parameters.
    #[must_use]
    pub fn new(name: &str, params: &Params<'_>) -> Self {
        let owned = |(name, value): &(Option<&str>, &str)| {
            (name.map(ToOwned::to_owned), (*value).to_owned())
        };
        Self {
            name: name.to_owned(),
            params: params.iter().map(owned).collect(),
        }
    }

    /// What it says under `name`.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let mut params = self.params.iter();
        let found = params.find(|(known, _)| known.as_deref() == Some(name));
        found.map(|(_, value)| &**value)
    }
}

impl Events {
    /// For the routes of these events.
    #[must_use]
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            routes: routes.into_iter().map(ToOwned::to_owned).collect(),
            queue: ArrayQueue::new(EVENTS_MAX),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether `event` has a route.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        self.routes.contains(event)
    }

    /// Brings an event on its way, from any thread; whether it has a route and found room. Does not block.
    pub fn offer(&self, event: &str, params: &Params<'_>) -> bool {
        if !self.wants(event) {
            return false;
        }
        let taken = self.queue.push(Event::new(event, params)).is_ok();
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// The one that waits longest.
    pub(super) fn take(&self) -> Option<Event> {
        self.queue.pop()
    }

    /// How many found no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("routes", &self.routes)
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

/// Events that may wait for their routes.
pub const EVENTS_MAX: usize = 1024;
