//! Where events go: to the queues and sockets of subscribers, and to who listens. Belongs to the thread.

use std::collections::HashMap;
use std::sync::Arc;

use super::counts::{Met, Report, Tally};
use super::desk::Desk;
use super::names::EventId;
use super::node::Node;
use super::packed::{self, What};
use super::queue::{Sockets, Subscriber};
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
        // By map: others wait at the desk meanwhile.
        let mut places: HashMap<_, _> = all.iter().map(|each| (&each.socket, None)).collect();
        let mut kept = 0;
        self.subscribers.retain(|each| {
            let Some(place) = places.get_mut(&each.socket) else {
                former.add(&each.tally, each.queued());
                return false;
            };
            *place = Some(kept);
            kept += 1;
            true
        });
        self.wanted.clear();
        for each in all {
            let place = places.entry(&each.socket).or_default();
            let to = *place.get_or_insert_with(|| {
                self.subscribers.push(Subscriber::new(each.socket.clone()));
                self.subscribers.len() - 1
            });
            let routes = &mut self.wanted(desk, each.event).routes;
            routes.push(Route {
                form: each.form,
                to,
            });
        }
        for each in &desk.listeners {
            let listeners = &mut self.wanted(desk, each.event).listeners;
            listeners.push((each.form, Arc::clone(&each.hears)));
        }
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

#[cfg(test)]
mod tests {
    use super::super::names::AOR_INSERT;
    use super::super::socket::EventSocket;
    use super::super::subscriptions::Expire;
    use super::*;

    #[test]
    fn those_who_stay_keep_their_counts_while_others_leave_and_come() {
        let now = Timestamp::from_nanos(1);
        // Nobody is there, which a path says at once: what is for it waits.
        let socket = |number| EventSocket::Unix(format!("/binrush-nobody/{number}").into());
        let mut desk = Desk::default();
        let mut post = Post::default();
        let stamp = packed::stamp(AOR_INSERT, What::Params);
        let set = |desk: &mut Desk, number, expire| {
            let form = Form::Text;
            { &mut desk.subscriptions }.set(now, AOR_INSERT, socket(number), form, expire);
        };
        (0..8).for_each(|number| set(&mut desk, number, Expire::Never));
        post.turn_to(&desk, 1);
        assert_eq!(post.tell(now, stamp, b""), 8);
        for number in [0, 3, 4, 7] {
            set(&mut desk, number, Expire::After(0));
        }
        (8..10).for_each(|number| set(&mut desk, number, Expire::Never));
        // The order at the desk is another one than that of the post.
        set(&mut desk, 1, Expire::After(0));
        set(&mut desk, 1, Expire::Never);
        post.turn_to(&desk, 2);
        assert_eq!(post.tell(now, stamp, b""), 6);
        let mut report = Report::default();
        post.report(&mut report);
        let mut offered: Vec<_> = { report.subscribers.iter() }
            .map(|each| (each.socket.clone(), each.tally.offered))
            .collect();
        offered.sort();
        let expected = [(1, 2), (2, 2), (5, 2), (6, 2), (8, 1), (9, 1)];
        assert_eq!(
            offered,
            expected.map(|(number, count)| (socket(number), count))
        );
        assert_eq!((report.former.offered, report.former.dropped), (4, 4));
        assert_eq!(report.met.told, 2);
    }
}
