//! Events that scripts hear of.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::event::{Event, Listen, Param, Value};

/// Events on their way to `event_route`: from whoever raises them to the shard that runs the routes.
///
/// Takes only those that have a route, and no more than [`EVENTS_MAX`] and [`EVENT_BYTES_MAX`] at a time; others are dropped, and
/// counted. Of those that were offered `offered = run + dropped + left`: how many were run, [`Scripts`](super::Scripts) counts, and what
/// is left waits.
pub struct Events {
    routes: BTreeSet<String>,
    /// Each with its bytes.
    queue: ArrayQueue<(Event<'static>, usize)>,
    /// Of what is in the queue, or on its way into it. Only a bound: nothing else depends on it.
    bytes: AtomicUsize,
    /// Both are written by whoever raises, and read for counts: nothing else depends on them.
    offered: AtomicU64,
    dropped: AtomicU64,
}

impl Events {
    /// For the routes of these events.
    #[must_use]
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            routes: routes.into_iter().map(ToOwned::to_owned).collect(),
            queue: ArrayQueue::new(EVENTS_MAX),
            bytes: AtomicUsize::new(0),
            offered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether `event` has a route.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        self.routes.contains(event)
    }

    /// Brings an event on its way, from any thread; whether it has a route and found room. Does not block.
    pub fn offer(&self, event: &Event<'_>) -> bool {
        let has_route = str::from_utf8(&event.name).is_ok_and(|name| self.wants(name));
        if !has_route {
            return false;
        }
        self.offered.fetch_add(1, Ordering::Relaxed);
        let len = len_of(event);
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        // Nothing is copied for a queue that is full. It may be full nevertheless, if others offer, too.
        let has_room = before + len <= EVENT_BYTES_MAX && !self.queue.is_full();
        let taken = has_room && self.queue.push((kept(event), len)).is_ok();
        if !taken {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// The one that waits longest.
    pub(super) fn take(&self) -> Option<Event<'static>> {
        let (event, len) = self.queue.pop()?;
        self.bytes.fetch_sub(len, Ordering::Relaxed);
        Some(event)
    }

    /// Whether any waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many came that have a route.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    /// How many wait.
    #[must_use]
    pub fn left(&self) -> usize {
        self.queue.len()
    }

    /// How many found no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Listen for Events {
    /// One that finds no room is counted.
    fn hear(&self, event: &Event<'_>) {
        self.offer(event);
    }
}

/// Bytes of its name, and of names and values; a number counts as its longest.
fn len_of(event: &Event<'_>) -> usize {
    let of_param = |param: &Param<'_>| {
        let value = match &param.value {
            Value::Int(_) => INT_LEN,
            Value::Str(text) => text.len(),
            Value::Null => 0,
        };
        param.name.as_ref().map_or(0, |name| name.len()) + value
    };
    event.name.len() + event.params.iter().map(of_param).sum::<usize>()
}

/// A copy, in which numbers are such as scripts can count with; longer ones are texts.
fn kept(event: &Event<'_>) -> Event<'static> {
    let value = |value: &Value<'_>| match value {
        Value::Int(number) if i32::try_from(*number).is_err() => {
            Value::Str(number.to_string().into_bytes().into())
        }
        Value::Int(number) => Value::Int(*number),
        Value::Str(text) => Value::Str(text.to_vec().into()),
        Value::Null => Value::Null,
    };
    let param = |param: &Param<'_>| Param {
        name: param.name.as_ref().map(|name| name.to_vec().into()),
        value: value(&param.value),
    };
    Event {
        name: event.name.to_vec().into(),
        params: event.params.iter().map(param).collect(),
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

/// Events that may wait for their routes: what a tenth of a second brings to a shard that was idle, at 40 000 a second.
pub const EVENTS_MAX: usize = 4096;

/// Their bytes: of names, and of parameters.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

/// Bytes of a number in digits, at most.
const INT_LEN: usize = 20;
