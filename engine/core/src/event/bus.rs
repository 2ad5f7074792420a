//! Raising, subscribing and asking, from any thread.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::counts::{BusSnapshot, EventFacts, SubscriptionFacts};
use super::desk::Desk;
use super::listen::Listener;
use super::names::{EventId, PublishError, nearest};
use super::node::Node;
use super::sender::Runner;
use super::shared::{Shared, lock};
use super::socket::{EventSocket, SocketError};
use super::source::{Raised, Source};
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
    /// Somebody has asked it to end, or there is none.
    Left,
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
            common: Mutex::new(Source::new(&shared)),
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
        *thread = match std::mem::replace(&mut *thread, Thread::Left) {
            Thread::ToStart(runner) => {
                let ending = Ending(Arc::clone(&self.0.shared));
                let builder = thread::Builder::new().name("events".to_owned());
                // Where there is no thread, its end is the end of this closure.
                Thread::Running(builder.spawn(move || {
                    let _ending = ending;
                    runner.run();
                })?)
            }
            as_it_was => as_it_was,
        };
        Ok(())
    }

    /// A source for one thread; its ring is the thread's own.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::new(&self.0.shared)
    }

    /// Whether `source` is of this bus.
    pub(super) fn is_of(&self, source: &Source) -> bool {
        source.is_of(&self.0.shared)
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

    /// Whether anybody wants `event` now. One load.
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
        // Before what it counted: that is all, then.
        let has_ended = shared.has_ended();
        // A copy: the thread wants to go on writing into it.
        let report = lock(&shared.report).clone();
        let mut snapshot = view.snapshot(MonotonicClock.now(), &report);
        // Behind what the thread counted: so no event is seen at its end and not yet at its beginning.
        let given = lock(&shared.sources).given();
        snapshot.dropped += given.dropped;
        snapshot.too_long = given.too_long;
        snapshot.raised = given.taken + given.dropped + given.too_long;
        snapshot.waiting = given.taken.saturating_sub(snapshot.taken);
        if has_ended {
            snapshot.close();
        }
        snapshot
    }

    /// Ends the thread, once it has told what was raised before, and subscribers have taken it; what is not told or taken within `drain` is
    /// dropped, and counted, and so is what is raised from now on. Some events are told even if that is no time at all.
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
        // Its lock is for this line alone: who asks meanwhile does not wait for the end.
        let thread = std::mem::replace(&mut *lock(&self.thread), Thread::Left);
        let running = match thread {
            Thread::ToStart(_) => return self.shared.end(),
            Thread::Running(running) => {
                self.shared.stop(drain);
                Some(running)
            }
            // Whoever asked first says how long it takes; others wait for it as long as they would have.
            Thread::Left => None,
        };
        let deadline = Instant::now() + drain + STOP_MIN;
        while !self.shared.has_ended() && Instant::now() < deadline {
            thread::sleep(STOP_POLL);
        }
        if let Some(running) = running
            && self.shared.has_ended()
        {
            // If it panicked, it has said so.
            let _ = running.join();
        }
    }
}

/// Says that the thread has ended, however it did.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
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

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").finish_non_exhaustive()
    }
}

/// How long the thread may take to end at least: it waits for nobody, but there may be no core for it.
const STOP_MIN: Duration = Duration::from_millis(50);
const STOP_POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
