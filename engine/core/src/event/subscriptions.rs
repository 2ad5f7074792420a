//! Who wants what, and how long. Pure: time is a parameter.
//!
//! The same event and socket again is the same subscription: its time and its form are those that were asked for last. (1.11 and 3.6
//! `evi/event_interface.c`, `evi_event_subscribe`. There a subscription that is asked for without an end keeps the one that it had, and
//! sockets are taken for the same whose names begin alike; neither is meant.)

use std::time::Duration;

use super::Form;
use super::names::EventId;
use super::socket::EventSocket;
use crate::clock::Timestamp;

/// How long a subscription lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expire {
    /// As long as the process: as scripts and configurations subscribe without a time.
    Never,
    /// So many seconds; 0 ends it at once, as by MI.
    After(u32),
}

/// One event for one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) event: EventId,
    pub(super) socket: EventSocket,
    pub(super) form: Form,
    pub(super) until: Option<Timestamp>,
}

/// What became of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Refreshed,
    /// It is over.
    Removed,
    /// It would be, if it were there.
    Nothing,
    TooMany,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(super) fn set(
        &mut self,
        now: Timestamp,
        event: EventId,
        socket: EventSocket,
        form: Form,
        expire: Expire,
    ) -> Change {
        let there = self
            .0
            .iter()
            .position(|each| each.event == event && each.socket == socket);
        let until = match expire {
            Expire::After(0) => {
                let Some(place) = there else {
                    return Change::Nothing;
                };
                self.0.remove(place);
                return Change::Removed;
            }
            Expire::After(seconds) => Some(now.after(u64::from(seconds) * NANOS)),
            Expire::Never => None,
        };
        let subscription = Subscription {
            event,
            socket,
            form,
            until,
        };
        match there {
            Some(place) => {
                self.0[place] = subscription;
                Change::Refreshed
            }
            None if self.0.len() >= SUBSCRIPTIONS_MAX => Change::TooMany,
            None => {
                self.0.push(subscription);
                Change::Added
            }
        }
    }

    /// Forgets those whose time is over; whether there were any.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.0.len();
        self.0
            .retain(|each| each.until.is_none_or(|until| until > now));
        self.0.len() < before
    }

    /// When the next one is over.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|each| each.until).min()
    }

    pub(super) fn all(&self) -> &[Subscription] {
        &self.0
    }
}

impl Subscription {
    /// Until its end; `None`: it has none.
    pub(super) fn left(&self, now: Timestamp) -> Option<Duration> {
        let left = |until: Timestamp| Duration::from_nanos(until.nanos_since(now));
        self.until.map(left)
    }
}

/// Subscriptions at the same time.
pub const SUBSCRIPTIONS_MAX: usize = 256;

/// Seconds, where nothing else is said by MI. (`evi/event_interface.h`, `DEFAULT_EXPIRE`.)
pub const EXPIRE_DEFAULT: u32 = 3600;

const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::super::names::{AOR_DELETE, AOR_INSERT};
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * NANOS)
    }

    fn socket(port: u16) -> EventSocket {
        EventSocket::Udp(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn the_same_pair_is_refreshed_and_others_are_others() {
        let mut all = Subscriptions::default();
        let mut set =
            |now, event, port, form, expire| all.set(at(now), event, socket(port), form, expire);
        let text = Form::Text;
        assert_eq!(
            set(0, AOR_INSERT, 1, text, Expire::After(10)),
            Change::Added
        );
        assert_eq!(
            set(0, AOR_DELETE, 1, text, Expire::After(10)),
            Change::Added
        );
        assert_eq!(
            set(0, AOR_INSERT, 11, text, Expire::After(10)),
            Change::Added
        );
        assert_eq!(
            set(5, AOR_INSERT, 1, Form::JsonRpc, Expire::After(10)),
            Change::Refreshed
        );
        assert_eq!(all.all().len(), 3);
        assert_eq!(all.all()[0].form, Form::JsonRpc);
        assert_eq!(all.next_end(), Some(at(10)));
        assert!(!all.expire(at(9)));
        assert!(all.expire(at(10)));
        assert_eq!(all.all().len(), 1, "the one that was refreshed");
        assert_eq!(all.all()[0].left(at(12)), Some(Duration::from_secs(3)));
        assert!(all.expire(at(15)) && all.all().is_empty());
    }

    #[test]
    fn none_is_an_end_at_once_and_never_is_none() {
        let mut all = Subscriptions::default();
        let mut set = |expire| all.set(at(1), AOR_INSERT, socket(1), Form::Text, expire);
        assert_eq!(set(Expire::After(0)), Change::Nothing);
        assert_eq!(set(Expire::Never), Change::Added);
        assert_eq!(set(Expire::Never), Change::Refreshed);
        all.expire(at(u64::from(u32::MAX)));
        assert_eq!(all.all().len(), 1);
        assert_eq!(all.next_end(), None);
        let gone = all.set(at(1), AOR_INSERT, socket(1), Form::Text, Expire::After(0));
        assert_eq!((gone, all.all().len()), (Change::Removed, 0));
    }

    #[test]
    fn there_is_an_end_of_them_and_those_that_are_there_are_refreshed_all_the_same() {
        let mut all = Subscriptions::default();
        for port in 1..=u16::try_from(SUBSCRIPTIONS_MAX).unwrap() {
            let set = all.set(at(0), AOR_INSERT, socket(port), Form::Text, Expire::Never);
            assert_eq!(set, Change::Added);
        }
        let mut set = |port| all.set(at(0), AOR_INSERT, socket(port), Form::Text, Expire::Never);
        assert_eq!(set(9999), Change::TooMany);
        assert_eq!(set(1), Change::Refreshed);
    }
}
