//! Raising and subscribing, from any thread.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binrush_net::{Bell, Producer, ring};
use crossbeam_utils::CachePadded;

use super::counts::{BusSnapshot, EventFacts, Report, SourceCounts, Sources, SubscriptionFacts};
use super::desk::Desk;
use super::listen::Listener;
use super::names::{EVENTS_MAX, EventId, PublishError, nearest};
use super::node::Node;
use super::packed::{self, What};
use super::sender::{Ring, Runner};
use super::socket::{EventSocket, SocketError};
use super::subscriptions::{Change, Expire, SUBSCRIPTIONS_MAX};
use super::{Form, Param};
use crate::clock::{Clock as _, MonotonicClock};

/// All events of a process. A handle: clones lead to the same; the last one to go ends its thread at once.
///
/// ```
/// use std::net::UdpSocket;
/// use std::time::Duration;
///
/// use binrush_engine::event::{Bus, Expire, Form, Param};
///
/// let reader = UdpSocket::bind("127.0.0.1:0")?;
/// let bus = Bus::new(Form::Text)?;
/// bus.start()?;
/// let blocked = bus.publish("E_PIKE_BLOCKED")?;
/// let socket = format!("udp:{}", reader.local_addr()?);
/// bus.subscribe("E_PIKE_BLOCKED", &socket, Expire::After(60), None)?;
/// bus.raise(blocked, &[Param::str("ip", b"192.168.2.11")]);
///
/// let mut buffer = [0; 64];
/// let len = reader.recv(&mut buffer)?;
/// assert_eq!(&buffer[..len], b"E_PIKE_BLOCKED\nip::192.168.2.11\n\n");
/// assert!(bus.stop(Duration::from_secs(1)).is_balanced());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bus(Arc<Owner>);

/// Its end is that of the thread.
struct Owner {
    shared: Arc<Shared>,
    /// For who raises rarely.
    common: Mutex<Source>,
    thread: Mutex<Thread>,
    form: Form,
}

/// The life of the thread.
enum Thread {
    /// It will have these.
    ToStart(Box<Runner>),
    Running(JoinHandle<()>),
    Ended,
}

/// What sources, the thread and who asks have in common.
pub(super) struct Shared {
    pub(super) bell: Bell,
    /// On lines of its own: shards read it with each packet, and the thread writes what stands beside it with each event.
    wanted: CachePadded<[AtomicU64; EVENTS_MAX / 64]>,
    stop: AtomicBool,
    /// How long what waits may take to leave, once it is to stop.
    pub(super) drain: Mutex<Duration>,
    /// What is wanted. Held for microseconds: nothing is sent, and nobody waited for, meanwhile.
    pub(super) desk: Mutex<Desk>,
    /// Goes up with each change of the desk, under its lock. The `Release` of the change pairs with the `Acquire` of the thread, which
    /// looks for each event behind its look at the ring.
    generation: AtomicU64,
    /// What became of events. Held no longer; behind `desk`, where both are.
    pub(super) report: Mutex<Report>,
    /// Rings that the thread has not seen.
    rings: Mutex<Vec<Ring>>,
    sources: Mutex<Sources>,
}

/// Where one thread raises events: lock-free, and without memory of its own once it raised its longest. It rings for nobody, as that
/// costs more than all the rest: what it raises is told within some milliseconds.
pub struct Source {
    shared: Arc<Shared>,
    producer: Producer,
    counts: Arc<CachePadded<SourceCounts>>,
    scratch: Vec<u8>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// Nobody wants it.
    Unwanted,
    /// It is on its way.
    Taken,
    /// There was no room for it. It is counted.
    Dropped,
}

/// What became of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// It is new.
    Added,
    /// It was there, and goes on as it was asked for now.
    Refreshed,
    /// It is over; or it was not there, and is not.
    Removed,
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// Nobody raises it.
    #[error("there is no event {name:?}{near}: `binrush events list` has all")]
    UnknownEvent {
        /// Its name.
        name: String,
        /// What may be meant, in words.
        near: String,
    },
    /// Nobody can be there.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// There are enough.
    #[error(
        "there are {SUBSCRIPTIONS_MAX} subscriptions, and no more may be: end one (an expiry of 0), or wait until one expires"
    )]
    TooMany,
}

impl Bus {
    /// One that knows all events of [`KNOWN`](super::names::KNOWN), nobody wants any of, and whose thread has not started; `form` is that of
    /// subscriptions that say nothing of it.
    ///
    /// # Errors
    /// No descriptors for the bell and what waits for it.
    pub fn new(form: Form) -> io::Result<Self> {
        let shared = Shared::new()?;
        let runner = Runner::new(Arc::clone(&shared))?;
        Ok(Self(Arc::new(Owner {
            common: Mutex::new(shared.source()),
            thread: Mutex::new(Thread::ToStart(Box::new(runner))),
            shared,
            form,
        })))
    }

    /// From now on events are told as in the place of `node`.
    pub fn stand_for(&self, node: Node) {
        let mut desk = self.desk();
        desk.node = Arc::new(node);
        desk.settle(&self.0.shared);
    }

    /// Starts the thread. What was raised before waits as far as there is room.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&self) -> io::Result<()> {
        let mut thread = lock(&self.0.thread);
        if let Thread::ToStart(runner) = std::mem::replace(&mut *thread, Thread::Ended) {
            let builder = thread::Builder::new().name("events".to_owned());
            *thread = Thread::Running(builder.spawn(|| runner.run())?);
        }
        Ok(())
    }

    /// A source for one thread; its ring is the thread's own.
    #[must_use]
    pub fn source(&self) -> Source {
        self.0.shared.source()
    }

    /// Whether `source` is of this bus.
    pub(super) fn is_of(&self, source: &Source) -> bool {
        Arc::ptr_eq(&self.0.shared, &source.shared)
    }

    pub(super) fn form(&self) -> Form {
        self.0.form
    }

    pub(super) fn attach(&self, listener: Listener) {
        let mut desk = self.desk();
        desk.listeners.push(listener);
        desk.settle(&self.0.shared);
        drop(desk);
        // It goes by that, and from now on it looks more often.
        self.0.shared.bell.ring_if_armed();
    }

    /// The number of the event `name`; `None`: nobody raises one of that name.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<EventId> {
        self.desk().names.find(name)
    }

    /// The number of the event `name`, which somebody will raise. That of a name stays the same.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish(&self, name: &str) -> Result<EventId, PublishError> {
        self.desk().names.publish(name)
    }

    /// Whether anybody wants `event` now. One relaxed load.
    #[inline]
    #[must_use]
    pub fn wants(&self, event: EventId) -> bool {
        self.0.shared.wants(event)
    }

    /// Raises `event`, from any thread. For who raises often: [`Bus::source`].
    pub fn raise(&self, event: EventId, params: &[Param<'_>]) -> Raised {
        if !self.wants(event) {
            return Raised::Unwanted;
        }
        let raised = lock(&self.0.common).raise(event, params);
        self.0.shared.bell.ring_if_armed();
        raised
    }

    /// Has each `event` told to `socket` from now on; `form`: as of [`Bus::new`]. The same pair again begins its time anew.
    ///
    /// Takes a lock that is held for some microseconds at a time, also while events are told.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn subscribe(
        &self,
        event: &str,
        socket: &str,
        expire: Expire,
        form: Option<Form>,
    ) -> Result<Subscribed, SubscribeError> {
        let socket: EventSocket = socket.parse()?;
        let mut desk = self.desk();
        let Some(id) = desk.names.find(event) else {
            return Err(unknown(event, &desk));
        };
        let now = MonotonicClock.now();
        let form = form.unwrap_or(self.0.form);
        let change = desk.subscriptions.set(now, id, socket, form, expire);
        desk.settle(&self.0.shared);
        drop(desk);
        // It knows now when the next one ends.
        self.0.shared.bell.ring_if_armed();
        match change {
            Change::Added => Ok(Subscribed::Added),
            Change::Refreshed => Ok(Subscribed::Refreshed),
            Change::Removed | Change::Nothing => Ok(Subscribed::Removed),
            Change::TooMany => Err(SubscribeError::TooMany),
        }
    }

    /// All events that can be subscribed to, by number.
    #[must_use]
    pub fn events(&self) -> Vec<EventFacts> {
        let view = self.desk().view();
        view.events()
    }

    /// All subscriptions, or those of one event and of one socket, in the order in which they came.
    ///
    /// # Errors
    /// [`SubscribeError`]: there is no such event, or there can be no such socket.
    pub fn subscriptions(
        &self,
        event: Option<&str>,
        socket: Option<&str>,
    ) -> Result<Vec<SubscriptionFacts>, SubscribeError> {
        let socket = socket.map(str::parse::<EventSocket>).transpose()?;
        let desk = self.desk();
        let event = match event {
            Some(name) => Some(desk.names.find(name).ok_or_else(|| unknown(name, &desk))?),
            None => None,
        };
        let view = desk.view();
        drop(desk);
        let facts = view.facts(MonotonicClock.now(), |each| {
            event.is_none_or(|event| each.event == event)
                && socket.as_ref().is_none_or(|socket| each.socket == *socket)
        });
        Ok(facts)
    }

    /// What became of events so far.
    #[must_use]
    pub fn snapshot(&self) -> BusSnapshot {
        let shared = &self.0.shared;
        let view = self.desk().view();
        let mut snapshot = view.snapshot(MonotonicClock.now(), &lock(&shared.report));
        // Behind what the thread counted: so no event is seen at its end and not yet at its beginning.
        let given = lock(&shared.sources).given();
        snapshot.dropped += given.dropped;
        snapshot.raised = given.taken + given.dropped;
        snapshot.waiting = given.taken.saturating_sub(snapshot.taken);
        if matches!(*lock(&self.0.thread), Thread::Ended) {
            snapshot.close();
        }
        snapshot
    }

    /// Ends the thread, once it has told what was raised before; what subscribers do not take within `drain` is dropped, and
    /// counted.
    pub fn stop(&self, drain: Duration) -> BusSnapshot {
        self.0.end(drain);
        self.snapshot()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.0.shared.desk)
    }
}

impl Owner {
    fn end(&self, drain: Duration) {
        let mut thread = lock(&self.thread);
        if let Thread::Running(running) = std::mem::replace(&mut *thread, Thread::Ended) {
            *lock(&self.shared.drain) = drain;
            self.shared.stop.store(true, Ordering::Release);
            self.shared.bell.ring();
            let deadline = Instant::now() + drain + STOP_MIN;
            while !running.is_finished() && Instant::now() < deadline {
                thread::sleep(STOP_POLL);
            }
            if running.is_finished() {
                // If it panicked, it has said so.
                let _ = running.join();
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl Shared {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bell: Bell::new()?,
            wanted: CachePadded::new([const { AtomicU64::new(0) }; EVENTS_MAX / 64]),
            stop: AtomicBool::new(false),
            drain: Mutex::default(),
            desk: Mutex::default(),
            generation: AtomicU64::new(0),
            report: Mutex::default(),
            rings: Mutex::default(),
            sources: Mutex::default(),
        }))
    }

    fn source(self: &Arc<Self>) -> Source {
        let (producer, consumer) = ring(RING_LEN);
        let counts = lock(&self.sources).begin();
        lock(&self.rings).push(Ring {
            consumer,
            counts: Arc::clone(&counts),
        });
        Source {
            shared: Arc::clone(self),
            producer,
            counts,
            scratch: Vec::new(),
        }
    }

    /// The rings that were made since the last call.
    pub(super) fn new_rings(&self) -> Vec<Ring> {
        std::mem::take(&mut lock(&self.rings))
    }

    /// The ring of these is no more: nobody raises by it, and it is empty.
    pub(super) fn forget(&self, counts: &Arc<CachePadded<SourceCounts>>) {
        lock(&self.sources).forget(counts);
    }

    /// Of the desk.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    #[inline]
    fn wants(&self, event: EventId) -> bool {
        let word = self.wanted[event.index() / 64].load(Ordering::Relaxed);
        word >> (event.index() % 64) & 1 == 1
    }

    /// From now on these are wanted, and no others. For who has the desk. Who raises one meanwhile sees it or does not: nobody was told
    /// that a subscription is there before it is.
    pub(super) fn show_wanted(&self, events: impl Iterator<Item = EventId>) {
        let mut words = [0_u64; EVENTS_MAX / 64];
        for event in events {
            words[event.index() / 64] |= 1 << (event.index() % 64);
        }
        // Before: the thread has to know by then whom it tells.
        self.generation.fetch_add(1, Ordering::Release);
        for (word, bits) in self.wanted.iter().zip(words) {
            word.store(bits, Ordering::Relaxed);
        }
    }
}

impl Source {
    /// Whether anybody wants `event` now. One relaxed load.
    #[inline]
    #[must_use]
    pub fn wants(&self, event: EventId) -> bool {
        self.shared.wants(event)
    }

    /// Whether anybody wants one of `events`, which are among the first 64.
    #[inline]
    pub(super) fn wants_any_of(&self, events: &[EventId]) -> bool {
        let mask = events
            .iter()
            .fold(0_u64, |mask, event| mask | 1 << event.index());
        self.shared.wanted[0].load(Ordering::Relaxed) & mask != 0
    }

    /// Raises `event`, if anybody wants it.
    pub fn raise(&mut self, event: EventId, params: &[Param<'_>]) -> Raised {
        if !self.wants(event) {
            return Raised::Unwanted;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let is_packed = packed::pack(params, &mut scratch);
        let raised = match is_packed {
            true => self.push(packed::stamp(event, What::Params), &scratch),
            false => self.no_room(),
        };
        self.scratch = scratch;
        raised
    }

    /// As [`raise`](Self::raise), of a record as its store has it.
    #[inline]
    pub(super) fn raise_record(&mut self, event: EventId, flat: &[u8]) -> Raised {
        self.push(packed::stamp(event, What::Record), flat)
    }

    #[inline]
    fn push(&mut self, stamp: u64, bytes: &[u8]) -> Raised {
        if !self.producer.push(stamp, bytes) {
            return self.no_room();
        }
        SourceCounts::add(&self.counts.taken);
        self.producer.publish();
        Raised::Taken
    }

    #[cold]
    fn no_room(&self) -> Raised {
        SourceCounts::add(&self.counts.dropped);
        Raised::Dropped
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.counts.end();
    }
}

fn unknown(name: &str, desk: &Desk) -> SubscribeError {
    let all = desk.names.all().map(|(_, name)| name);
    let near = nearest(name, all);
    SubscribeError::UnknownEvent {
        name: name.chars().take(100).collect(),
        near: near.map_or_else(String::new, |near| format!(" (did you mean {near:?}?)")),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// Of each source: some thousand records, ten milliseconds and more of them; eight of the longest events.
const RING_LEN: usize = 1 << 20;

/// How long the thread may take to end at least: it waits for nobody, but there may be no core for it.
const STOP_MIN: Duration = Duration::from_millis(50);
const STOP_POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
