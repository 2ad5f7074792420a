//! What others ask for and change: which events there are, who wants them, and what became of them.
//!
//! Its lock is held for some microseconds, by whoever it is: events are told without it, by what the thread copied of it
//! ([`Post`](super::post::Post)). So whoever subscribes or asks never waits for a subscriber.

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
        let all = self.subscriptions.iter();
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
        let mut sockets: Vec<_> = Vec::new();
        for each in &self.subscriptions {
            if sockets.contains(&&each.socket) {
                continue;
            }
            sockets.push(&each.socket);
            let standing = report.of(&each.socket);
            snapshot.subscribers.push(SubscriberSnapshot {
                socket: each.socket.to_string(),
                subscriptions: self.facts(now, |wanted| wanted.socket == each.socket),
                ..standing.map_or_else(SubscriberSnapshot::default, SubscriberSnapshot::from)
            });
        }
        for left in &report.subscribers {
            if !sockets.contains(&&left.socket) {
                snapshot.former.add(&SubscriberSnapshot::from(left));
            }
        }
        snapshot
    }
}
