//! PING and PONG of a genuine node (BIN.md C.5).

use std::time::Duration;

use binrush_wire::Release;

use super::super::network::{Network, Time};
use super::super::speech::Word;
use super::Genuine;
use super::peer::Link;

impl Genuine {
    /// The greatest common divisor of the intervals: how often links are looked at.
    pub(super) fn tick_length(&self) -> Time {
        let timers = self.settings.timers;
        let of = |time| gcd(nanos(time), nanos(timers.ping_timeout));
        gcd(of(timers.ping_interval), of(timers.node_timeout))
    }

    pub(super) fn beat(&mut self, now: Time, network: &mut Network) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.beat_one(now, id, network);
        }
    }

    fn beat_one(&mut self, now: Time, id: i32, network: &mut Network) {
        let timers = self.settings.timers;
        let timeout = nanos(timers.ping_timeout);
        let peer = self.peers.get(&id).expect("known");
        let pinged = now - peer.last_ping;
        let sent = now - peer.last_sent;
        let missing =
            peer.last_pong <= peer.last_ping || peer.last_pong - peer.last_ping >= timeout;
        let lenient = self.settings.release >= Release::V3_4;
        match peer.link {
            Link::RestartPinging => self.restart(now, id, network),
            Link::RetrySendFail if pinged >= timeout => self.retry_send(now, id, network),
            Link::Up | Link::Restarted
                if missing
                    && pinged >= timeout
                    && (!lenient || peer.link == Link::Restarted || sent >= timeout) =>
            {
                self.retry_first(now, id, network);
            }
            Link::Retrying if missing && pinged >= timeout => self.retry_again(now, id, network),
            Link::Down if pinged >= nanos(timers.node_timeout) => {
                if self.ping(now, id, true, network) {
                    self.set_link(now, id, Link::Restarted, network);
                } else if self.retries(id) != 0 {
                    self.fail_to_send(now, id, network);
                }
            }
            Link::Up
                if pinged >= nanos(timers.ping_interval)
                    && (!lenient || sent >= nanos(timers.ping_interval)) =>
            {
                self.heartbeat(now, id, network);
            }
            _ => {}
        }
    }

    fn heartbeat(&mut self, now: Time, id: i32, network: &mut Network) {
        if !self.ping(now, id, false, network) {
            self.fail_to_send(now, id, network);
        }
    }

    fn restart(&mut self, now: Time, id: i32, network: &mut Network) {
        if self.ping(now, id, true, network) {
            self.set_link(now, id, Link::Restarted, network);
        } else {
            self.fail_to_send(now, id, network);
        }
    }

    fn retry_send(&mut self, now: Time, id: i32, network: &mut Network) {
        let left = self.use_retry(id);
        if self.ping(now, id, true, network) {
            self.set_link(now, id, Link::Retrying, network);
        } else if left <= 0 {
            self.set_link(now, id, Link::Down, network);
        }
    }

    fn retry_first(&mut self, now: Time, id: i32, network: &mut Network) {
        if self.retries(id) == 0 {
            self.set_link(now, id, Link::Down, network);
        } else if self.ping(now, id, true, network) {
            self.set_link(now, id, Link::Retrying, network);
            let retries = self.retries(id);
            self.peers.get_mut(&id).expect("known").retries_left = retries - 1;
        } else {
            self.fail_to_send(now, id, network);
        }
    }

    fn retry_again(&mut self, now: Time, id: i32, network: &mut Network) {
        if self.peers[&id].retries_left <= 0 {
            self.set_link(now, id, Link::Down, network);
        } else if self.ping(now, id, true, network) {
            self.use_retry(id);
        } else {
            self.set_link(now, id, Link::RetrySendFail, network);
        }
    }

    /// A PING could not be sent.
    fn fail_to_send(&mut self, now: Time, id: i32, network: &mut Network) {
        let retries = self.retries(id);
        self.peers.get_mut(&id).expect("known").retries_left = retries;
        let next = if retries == 0 {
            Link::Down
        } else {
            Link::RetrySendFail
        };
        self.set_link(now, id, next, network);
    }

    fn retries(&self, id: i32) -> i32 {
        self.peers[&id].who.retries
    }

    fn use_retry(&mut self, id: i32) -> i32 {
        let peer = self.peers.get_mut(&id).expect("known");
        peer.retries_left -= 1;
        peer.retries_left
    }

    fn ping(&mut self, now: Time, id: i32, list: bool, network: &mut Network) -> bool {
        let sent = self.send_to(now, id, &Word::Ping { list }, network);
        let peer = self.peers.get_mut(&id).expect("known");
        (peer.last_ping, peer.ping_was_sent) = (now, sent);
        sent
    }

    pub(super) fn hear_ping(&mut self, now: Time, id: i32, list: bool, network: &mut Network) {
        let others = self.peers.keys().copied().filter(|other| *other != id);
        let nodes = if list { others.collect() } else { Vec::new() };
        let sent = self.send_to(now, id, &Word::Pong { nodes }, network);
        match self.peers[&id].link {
            Link::Up if !sent => self.set_link(now, id, Link::RestartPinging, network),
            Link::Down if !sent => self.set_link(now, id, Link::RestartPinging, network),
            Link::Down => self.restart(now, id, network),
            _ => {}
        }
    }

    pub(super) fn hear_pong(
        &mut self,
        now: Time,
        id: i32,
        heard_before: Time,
        nodes: &[i32],
        network: &mut Network,
    ) {
        let timeout = nanos(self.settings.timers.ping_timeout);
        let lenient = self.settings.release >= Release::V3_4;
        let peer = self.peers.get_mut(&id).expect("known");
        peer.last_pong = now;
        let waited = now - peer.last_ping;
        let expected = match peer.link {
            Link::Restarted | Link::Retrying => true,
            Link::RestartPinging | Link::RetrySendFail | Link::Down => {
                peer.ping_was_sent && waited < timeout
            }
            Link::Up => false,
        };
        let in_time = (waited > 0 && waited < timeout) || (lenient && now - heard_before < timeout);
        if expected && in_time {
            self.link_up(now, id, nodes, network);
        }
    }

    /// Going up, in the order of BIN.md C.5.
    fn link_up(&mut self, now: Time, id: i32, nodes: &[i32], network: &mut Network) {
        self.peers.get_mut(&id).expect("known").link = Link::Up;
        self.tell_link(now, id, false, network);
        self.tell_topology(now, id, nodes, network);
        self.tell_caps(now, id, true, network);
    }

    /// Another state; leaving UP is told to the others.
    pub(super) fn set_link(&mut self, now: Time, id: i32, next: Link, network: &mut Network) {
        let peer = self.peers.get_mut(&id).expect("known");
        let was_up = peer.link == Link::Up;
        peer.link = next;
        if was_up && next != Link::Up {
            self.tell_link(now, id, true, network);
        }
    }
}

pub(super) fn nanos(duration: Duration) -> Time {
    Time::try_from(duration.as_nanos()).expect("a timer of some minutes")
}

fn gcd(a: Time, b: Time) -> Time {
    if b == 0 { a } else { gcd(b, a % b) }
}
