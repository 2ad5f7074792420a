//! The thread: from the rings of all sources to the sockets of all subscribers.
//!
//! While events come it looks after them every millisecond, and while anybody is subscribed or listens every ten: nobody wakes it for what a
//! shard raises, because a bell for each would cost more than all the rest, the fence before it included. When nobody does
//! it sleeps until it is rung.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use binrush_net::{Consumer, Interest, Poller, ReadyList};

use super::bus::{Shared, lock};
use super::counts::{BusSnapshot, SubscriberSnapshot, SubscriptionFacts, Tally};
use super::listen::Listener;
use super::names::{EventId, Names};
use super::packed::{self, What};
use super::queue::{Sockets, Subscriber};
use super::records;
use super::subscriptions::{Subscription, Subscriptions};
use super::write::{WriteError, write};
use super::{Event, Form};
use crate::clock::{Clock as _, MonotonicClock, Timestamp};

/// What the thread has.
pub(super) struct Runner {
    shared: Arc<Shared>,
    consumers: Vec<Consumer>,
    poller: Poller,
}

/// Names, subscriptions and their queues. Locked by the thread for some hundred events at a time, and by who asks.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) names: Names,
    pub(super) subscriptions: Subscriptions,
    subscribers: Vec<Subscriber>,
    /// By event: how, and to whom.
    routes: Vec<Vec<Route>>,
    pub(super) listeners: Vec<Listener>,
    sockets: Sockets,
    /// Of those who want nothing any more.
    former: Tally,
    /// Events that were looked at.
    taken: u64,
    texts: Texts,
}

/// One event for one subscriber.
#[derive(Debug, Clone, Copy)]
struct Route {
    form: Form,
    /// Place among the subscribers.
    to: usize,
}

/// One event in each form that anybody wants it in.
#[derive(Debug, Default)]
struct Texts([Text; Form::ALL.len()]);

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// Of this event; `None`: nobody wanted it.
    written: Option<Result<(), WriteError>>,
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&shared.bell, 0, Interest::READ)?;
        Ok(Self {
            shared,
            consumers: Vec::new(),
            poller,
        })
    }

    /// Until it is told to stop, and the rings are empty, and so are the queues or their time is over.
    pub(super) fn run(mut self) {
        let mut ready = ReadyList::new(1);
        let (mut came_last, mut deadline) = (None::<Timestamp>, None);
        loop {
            // Asked before the rings are: what was raised before the stop is told.
            let is_stopping = self.shared.is_stopping();
            let now = MonotonicClock.now();
            let (came, due) = self.round(now);
            if came == ROUND_MAX {
                continue;
            }
            if came > 0 {
                came_last = Some(now);
            } else if is_stopping {
                let drain = || now.after(nanos(*lock(&self.shared.drain)));
                let deadline = *deadline.get_or_insert_with(drain);
                if due.is_none() || now >= deadline {
                    return;
                }
            }
            let is_busy = came_last.is_some_and(|last| now.nanos_since(last) < nanos(BUSY));
            if is_busy || is_stopping {
                std::thread::sleep(NAP);
            } else {
                self.sleep(&mut ready, now, due);
            }
        }
    }

    /// Some events of each ring to all who want them; how many of one ring there were at most, and when something is due that nobody
    /// rings for.
    fn round(&mut self, now: Timestamp) -> (usize, Option<Timestamp>) {
        let Self {
            shared, consumers, ..
        } = self;
        consumers.extend(shared.new_rings());
        let mut desk = lock(&shared.desk);
        desk.tend(now, shared);
        let mut most = 0;
        for consumer in consumers {
            let mut came = 0;
            while came < ROUND_MAX
                && let Some((stamp, bytes)) = consumer.peek()
            {
                desk.tell(now, stamp, bytes);
                consumer.pop();
                came += 1;
            }
            if came > 0 {
                consumer.free();
            }
            most = most.max(came);
        }
        (most, desk.due())
    }

    fn sleep(&mut self, ready: &mut ReadyList, now: Timestamp, due: Option<Timestamp>) {
        let is_heard = lock(&self.shared.desk).is_heard();
        let bell = &self.shared.bell;
        bell.arm();
        let is_empty = self.consumers.iter_mut().all(Consumer::is_empty);
        if is_empty && !self.shared.is_stopping() {
            let left = due.map(|due| Duration::from_nanos(due.nanos_since(now)));
            let longest = if is_heard { LOOK } else { WAIT };
            let most = left.unwrap_or(longest).clamp(NAP, longest);
            // Whatever fails, it looks again: a ring that is full says so in its counts.
            if self.poller.wait(ready, Some(most)).is_err() {
                std::thread::sleep(NAP);
            }
        }
        bell.disarm();
    }
}

impl Desk {
    /// Ends what is over, and tries what waits.
    fn tend(&mut self, now: Timestamp, shared: &Shared) {
        if self.subscriptions.expire(now) {
            self.settle(shared);
        }
        for subscriber in &mut self.subscribers {
            subscriber.flush(now, &mut self.sockets);
        }
    }

    /// Goes by the subscriptions as they are now.
    pub(super) fn settle(&mut self, shared: &Shared) {
        let Self {
            subscriptions,
            subscribers,
            former,
            routes,
            listeners,
            ..
        } = self;
        let all = subscriptions.all();
        subscribers.retain(|each| {
            let is_there = all.iter().any(|wanted| wanted.socket == each.socket);
            if !is_there {
                former.add(&each.tally, each.queued());
            }
            is_there
        });
        routes.clear();
        for wanted in all {
            let there = { subscribers.iter() }.position(|each| each.socket == wanted.socket);
            let to = there.unwrap_or_else(|| {
                subscribers.push(Subscriber::new(wanted.socket.clone()));
                subscribers.len() - 1
            });
            let index = wanted.event.index();
            if routes.len() <= index {
                routes.resize_with(index + 1, Vec::new);
            }
            let form = wanted.form;
            routes[index].push(Route { form, to });
        }
        shared.show_wanted(|index| {
            routes.get(index).is_some_and(|routes| !routes.is_empty())
                || listeners.iter().any(|each| each.event.index() == index)
        });
    }

    /// What stands in a ring, to whoever wants it now.
    fn tell(&mut self, now: Timestamp, stamp: u64, bytes: &[u8]) {
        self.taken += 1;
        let Some((id, what)) = packed::unstamp(stamp) else {
            return debug_assert!(false, "a source stamped it");
        };
        let name = self.names.name(id);
        for each in self.listeners.iter().filter(|each| each.event == id) {
            let event = event((id, name), what, bytes, each.form);
            each.hears.hear(&event);
        }
        let Some(routes) = self.routes.get(id.index()) else {
            return;
        };
        self.texts.begin();
        for route in routes {
            let subscriber = &mut self.subscribers[route.to];
            match self.texts.get(route.form, (id, name), what, bytes) {
                Some(text) => subscriber.offer(now, text, &mut self.sockets),
                None => {
                    subscriber.tally.offered += 1;
                    subscriber.tally.unwritable += 1;
                }
            }
        }
    }

    /// Whether events may come that somebody wants.
    fn is_heard(&self) -> bool {
        !self.subscribers.is_empty() || !self.listeners.is_empty()
    }

    /// When the next subscription ends, or a queue is tried again.
    fn due(&self) -> Option<Timestamp> {
        let queues = self.subscribers.iter().filter_map(Subscriber::due);
        queues.chain(self.subscriptions.next_end()).min()
    }

    pub(super) fn subscribers_of(&self, id: EventId) -> usize {
        self.routes.get(id.index()).map_or(0, Vec::len)
    }

    pub(super) fn facts(
        &self,
        now: Timestamp,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Vec<SubscriptionFacts> {
        let all = self.subscriptions.all().iter();
        let all = all.filter(|each| wanted(each) && each.until.is_none_or(|until| until > now));
        let facts = all.map(|each| SubscriptionFacts {
            event: self.names.name(each.event).to_owned(),
            socket: each.socket.to_string(),
            form: each.form,
            // As many as it was asked for, at its beginning.
            expires_in: each
                .left(now)
                .map(|left| left.as_nanos().div_ceil(1_000_000_000))
                .map(|seconds| u64::try_from(seconds).unwrap_or(u64::MAX)),
        });
        facts.collect()
    }

    /// All but what sources count.
    pub(super) fn snapshot(&self, now: Timestamp) -> BusSnapshot {
        let subscribers = self.subscribers.iter().map(|each| SubscriberSnapshot {
            subscriptions: self.facts(now, |wanted| wanted.socket == each.socket),
            ..each.snapshot()
        });
        BusSnapshot {
            taken: self.taken,
            subscribers: subscribers.collect(),
            former: SubscriberSnapshot::of(&self.former, 0),
            ..BusSnapshot::default()
        }
    }
}

impl Texts {
    /// Another event comes.
    fn begin(&mut self) {
        for text in &mut self.0 {
            text.written = None;
        }
    }

    /// The event in `form`; `None`: it cannot be written.
    fn get(
        &mut self,
        form: Form,
        (id, name): (EventId, &str),
        what: What,
        bytes: &[u8],
    ) -> Option<&[u8]> {
        let Text {
            bytes: out,
            written,
        } = &mut self.0[form as usize];
        let written = written.get_or_insert_with(|| {
            let event = event((id, name), what, bytes, form);
            write(form, &event, out)
        });
        written.is_ok().then_some(&out[..])
    }
}

/// What stands in a ring, with the parameters of `form`.
fn event<'b>((id, name): (EventId, &'b str), what: What, bytes: &'b [u8], form: Form) -> Event<'b> {
    let event = match what {
        What::Params => packed::unpack(bytes).map(|params| Event {
            params,
            ..Event::new(name.as_bytes())
        }),
        _ => records::event(id, name, what, bytes, form),
    };
    event.expect("a source packed it")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Events of one ring before those of the next, and before anybody else has the lock.
const ROUND_MAX: usize = 256;

/// Between two looks while events come.
const NAP: Duration = Duration::from_millis(1);

/// How long that goes on behind the last one.
const BUSY: Duration = Duration::from_millis(20);

/// Between two looks while nothing comes and somebody is subscribed.
const LOOK: Duration = Duration::from_millis(10);

/// The longest sleep.
const WAIT: Duration = Duration::from_secs(1);
