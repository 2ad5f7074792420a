//! Where events go: to the queues and sockets of subscribers, and to who listens. Belongs to the thread.

use std::sync::Arc;

use super::counts::{Met, Report, Tally};
use super::desk::Desk;
use super::names::EventId;
use super::node::Node;
use super::packed::{self, What};
use super::queue::{Sockets, Subscriber};
use super::subscriptions::Subscription;
use super::write::write;
use super::{Event, Form, Listen, records};
use crate::clock::Timestamp;

/// Whom each event goes to, by what stood at the [`Desk`] when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Post {
    /// Of the desk.
    pub(super) generation: u64,
    /// By the number of the event.
    wanted: Vec<Wanted>,
    subscribers: Vec<Subscriber>,
    /// In whose place events are told.
    node: Arc<Node>,
    /// When the next subscription is over.
    pub(super) next_end: Option<Timestamp>,
    sockets: Sockets,
    /// Of those who want nothing any more.
    former: Tally,
    met: Met,
    texts: Texts,
}

/// Who wants one event.
#[derive(Debug, Default)]
struct Wanted {
    name: Arc<str>,
    routes: Vec<Route>,
    listeners: Vec<(Form, Arc<dyn Listen>)>,
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
    /// Whether it could be, of this event; `None`: nobody wanted it.
    is_written: Option<bool>,
}

impl Post {
    /// Goes by what stands at the desk now, whose number this is.
    pub(super) fn turn_to(&mut self, desk: &Desk, generation: u64) {
        self.generation = generation;
        self.node = Arc::clone(&desk.node);
        self.next_end = desk.subscriptions.next_end();
        let (all, former) = (desk.subscriptions.all(), &mut self.former);
        self.subscribers.retain(|each| {
            let is_there = all.iter().any(|wanted| wanted.socket == each.socket);
            if !is_there {
                former.add(&each.tally, each.queued());
            }
            is_there
        });
        self.wanted.clear();
        for each in all {
            let (form, to) = (each.form, self.place_of(each));
            let routes = &mut self.wanted(desk, each.event).routes;
            routes.push(Route { form, to });
        }
        for each in &desk.listeners {
            let listeners = &mut self.wanted(desk, each.event).listeners;
            listeners.push((each.form, Arc::clone(&each.hears)));
        }
    }

    fn place_of(&mut self, wanted: &Subscription) -> usize {
        let there = { self.subscribers.iter() }.position(|each| each.socket == wanted.socket);
        there.unwrap_or_else(|| {
            let subscriber = Subscriber::new(wanted.socket.clone());
            self.subscribers.push(subscriber);
            self.subscribers.len() - 1
        })
    }

    fn wanted(&mut self, desk: &Desk, event: EventId) -> &mut Wanted {
        let index = event.index();
        if self.wanted.len() <= index {
            self.wanted.resize_with(index + 1, Wanted::default);
        }
        let wanted = &mut self.wanted[index];
        if wanted.name.is_empty() {
            wanted.name = desk.names.shared(event);
        }
        wanted
    }

    /// Tries what waits.
    pub(super) fn flush(&mut self, now: Timestamp) {
        for subscriber in &mut self.subscribers {
            subscriber.flush(now, &mut self.sockets);
        }
    }

    /// What stands in a ring, to whoever wants it. To how many it went: to nobody, where those who wanted it when it was raised have left.
    pub(super) fn tell(&mut self, now: Timestamp, stamp: u64, bytes: &[u8]) -> usize {
        self.met.taken += 1;
        let count = self.pass_on(now, stamp, bytes);
        match count {
            0 => self.met.unclaimed += 1,
            _ => self.met.told += 1,
        }
        count
    }

    fn pass_on(&mut self, now: Timestamp, stamp: u64, bytes: &[u8]) -> usize {
        let Some((id, what)) = packed::unstamp(stamp) else {
            debug_assert!(false, "a source stamped it");
            return 0;
        };
        let Some(wanted) = self.wanted.get(id.index()) else {
            return 0;
        };
        let said = Said {
            id,
            name: &wanted.name,
            what,
            bytes,
            node: &self.node,
        };
        for (form, hears) in &wanted.listeners {
            if let Some(event) = said.event(*form) {
                hears.hear(&event);
            }
        }
        self.texts.begin();
        for route in &wanted.routes {
            let subscriber = &mut self.subscribers[route.to];
            match self.texts.get(route.form, said) {
                Some(text) => subscriber.offer(now, text, &mut self.sockets),
                None => subscriber.tally.cannot_be_written(),
            }
        }
        wanted.listeners.len() + wanted.routes.len()
    }

    /// Whether events may come that somebody wants.
    pub(super) fn is_heard(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// When a queue is tried again; `None`: all are empty.
    pub(super) fn next_try(&self) -> Option<Timestamp> {
        self.subscribers.iter().filter_map(Subscriber::due).min()
    }

    /// Writes down what became of events.
    pub(super) fn report(&self, to: &mut Report) {
        (to.met, to.former) = (self.met, self.former);
        to.subscribers.truncate(self.subscribers.len());
        for (place, each) in self.subscribers.iter().enumerate() {
            match to.subscribers.get_mut(place) {
                Some(standing) => each.stand(standing),
                None => to.subscribers.push(each.standing()),
            }
        }
    }
}

/// An event as it stands in a ring.
#[derive(Debug, Clone, Copy)]
struct Said<'b> {
    id: EventId,
    name: &'b str,
    what: What,
    bytes: &'b [u8],
    node: &'b Node,
}

impl<'b> Said<'b> {
    /// With the parameters of `form`; `None`: nobody can read it.
    fn event(self, form: Form) -> Option<Event<'b>> {
        match self.what {
            What::Params => Some(Event {
                params: packed::unpack(self.bytes)?,
                ..Event::new(self.name.as_bytes())
            }),
            What::Record => records::event(self.id, self.name, self.bytes, form, self.node),
        }
    }
}

impl Texts {
    /// Another event comes.
    fn begin(&mut self) {
        for text in &mut self.0 {
            text.is_written = None;
        }
    }

    /// The event in `form`; `None`: it cannot be written.
    fn get(&mut self, form: Form, said: Said<'_>) -> Option<&[u8]> {
        let Text { bytes, is_written } = &mut self.0[form as usize];
        let is_written = is_written.get_or_insert_with(|| {
            let event = said.event(form);
            event.is_some_and(|event| write(form, &event, bytes).is_ok())
        });
        is_written.then_some(&bytes[..])
    }
}
