//! What others ask for and change: which events there are, who wants them, and what became of them.
//!
//! Its lock is held for some microseconds, by whoever it is: events are told without it, by what the thread copied of it
//! ([`Post`](super::post::Post)). So whoever subscribes or asks never waits for a subscriber.

use std::collections::HashMap;
use std::sync::Arc;

use super::counts::{BusSnapshot, EventFacts, Report, SubscriberSnapshot, SubscriptionFacts};
use super::listen::Listener;
use super::names::{EventId, Names};
use super::node::Node;
use super::shared::Shared;
use super::subscriptions::{Subscription, Subscriptions};
use crate::clock::Timestamp;

/// Names, subscriptions, and who listens.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) names: Names,
    pub(super) subscriptions: Subscriptions,
    pub(super) listeners: Vec<Listener>,
    /// In whose place events are told.
    pub(super) node: Arc<Node>,
}

/// A copy for who has something to tell of it, which takes longer than the lock may be held.
#[derive(Debug)]
pub(super) struct View {
    names: Names,
    subscriptions: Vec<Subscription>,
    /// The number of its event, of each who listens.
    heard: Vec<usize>,
}

impl Desk {
    /// Has subscriptions and listeners hold from now on, as they are.
    pub(super) fn settle(&self, shared: &Shared) {
        let subscribed = self.subscriptions.all().iter().map(|each| each.event);
        let heard = self.listeners.iter().map(|each| each.event);
        let events = subscribed.chain(heard).map(EventId::index);
        shared.wanted.show(events);
    }

    pub(super) fn view(&self) -> View {
        View {
            names: self.names.clone(),
            subscriptions: self.subscriptions.all().to_vec(),
            heard: { self.listeners.iter() }
                .map(|each| each.event.index())
                .collect(),
        }
    }
}

impl View {
    pub(super) fn events(&self) -> Vec<EventFacts> {
        let all = self.names.all().map(|(id, name)| EventFacts {
            id: id.index(),
            name: name.to_owned(),
            subscribers: { self.subscriptions.iter() }
                .filter(|each| each.event == id)
                .count(),
            listeners: { self.heard.iter() }
                .filter(|index| **index == id.index())
                .count(),
        });
        all.collect()
    }

    pub(super) fn facts(
        &self,
        now: Timestamp,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Vec<SubscriptionFacts> {
        let wanted = self.subscriptions.iter().filter(|each| wanted(each));
        wanted.filter_map(|each| self.fact(now, each)).collect()
    }

    /// `None`: it is over.
    fn fact(&self, now: Timestamp, each: &Subscription) -> Option<SubscriptionFacts> {
        let is_over = each.until.is_some_and(|until| until <= now);
        (!is_over).then(|| SubscriptionFacts {
            event: self.names.name(each.event).to_owned(),
            socket: each.socket.to_string(),
            form: each.form,
            // As many as it was asked for, at its beginning.
            expires_in: each
                .left(now)
                .map(|left| left.as_nanos().div_ceil(1_000_000_000))
                .map(|seconds| u64::try_from(seconds).unwrap_or(u64::MAX)),
        })
    }

    /// All but what sources count. Who subscribed since the thread looked is there with nothing; who left meanwhile is among the
    /// former, with what waits for it.
    pub(super) fn snapshot(&self, now: Timestamp, report: &Report) -> BusSnapshot {
        let mut snapshot = BusSnapshot {
            taken: report.met.taken,
            told: report.met.told,
            unclaimed: report.met.unclaimed,
            former: SubscriberSnapshot::of(&report.former, 0),
            ..BusSnapshot::default()
        };
        let mut standings: HashMap<_, _> = { report.subscribers.iter() }
            .map(|each| (&each.socket, each))
            .collect();
        let mut places = HashMap::new();
        for each in &self.subscriptions {
            let place = *places.entry(&each.socket).or_insert_with(|| {
                let standing = standings.remove(&each.socket);
                snapshot.subscribers.push(SubscriberSnapshot {
                    socket: each.socket.to_string(),
                    ..standing.map_or_else(SubscriberSnapshot::default, SubscriberSnapshot::from)
                });
                snapshot.subscribers.len() - 1
            });
            let facts = self.fact(now, each);
            snapshot.subscribers[place].subscriptions.extend(facts);
        }
        for left in standings.into_values() {
            snapshot.former.add(&SubscriberSnapshot::from(left));
        }
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::super::Form;
    use super::super::counts::{Standing, Tally};
    use super::super::names::{AOR_DELETE, AOR_INSERT};
    use super::super::queue::Subscriber;
    use super::super::socket::EventSocket;
    use super::super::subscriptions::Expire;
    use super::*;

    #[test]
    fn each_subscriber_has_what_was_counted_for_its_socket_wherever_it_stands() {
        let socket = |port: u16| EventSocket::Udp(([127, 0, 0, 1], port).into());
        let standing = |port: u16| Standing {
            tally: Tally {
                offered: port.into(),
                sent: port.into(),
                ..Tally::default()
            },
            ..Subscriber::new(socket(port)).standing()
        };
        // Two of these have left, and one has come that nothing is counted for.
        let report = Report {
            subscribers: [5, 1, 3, 2, 4].map(standing).into(),
            ..Report::default()
        };
        let now = Timestamp::from_nanos(1);
        let mut desk = Desk::default();
        for (event, port, expire) in [
            (AOR_INSERT, 1, Expire::Never),
            (AOR_INSERT, 2, Expire::Never),
            (AOR_DELETE, 1, Expire::Never),
            (AOR_INSERT, 9, Expire::Never),
            (AOR_INSERT, 3, Expire::After(60)),
            (AOR_DELETE, 2, Expire::After(60)),
        ] {
            { &mut desk.subscriptions }.set(now, event, socket(port), Form::Text, expire);
        }
        let later = now.after(60_000_000_000);
        let snapshot = desk.view().snapshot(later, &report);
        let all = snapshot.subscribers.iter();
        let all: Vec<_> = all
            .map(|each| {
                let wants = each.subscriptions.iter().map(|each| &each.event[..]);
                (&each.socket[..], each.offered, wants.collect::<Vec<_>>())
            })
            .collect();
        let (insert, delete) = ("E_UL_AOR_INSERT", "E_UL_AOR_DELETE");
        assert_eq!(
            all,
            [
                ("udp:127.0.0.1:1", 1, vec![insert, delete]),
                ("udp:127.0.0.1:2", 2, vec![insert]),
                ("udp:127.0.0.1:9", 0, vec![insert]),
                ("udp:127.0.0.1:3", 3, vec![]),
            ]
        );
        assert_eq!((snapshot.former.offered, snapshot.former.sent), (9, 9));
    }
}
