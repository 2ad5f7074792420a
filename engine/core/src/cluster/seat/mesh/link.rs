//! The state of the link to one node: pings, answers, and what follows from them.
//!
//! ```text
//!                       PONG in time                       PONG missing
//!   RESTART_PINGING ──▶ RESTARTED ─────────────▶ UP ─────────────────────▶ RETRYING ──▶ no PINGs left ──▶ DOWN
//!         ▲    │                                  ▲ └─ heartbeats           │    ▲                         │
//!         │    └─ PING not sent ─▶ RETRY_SEND_FAIL┼────── PING sent ────────┼────┘                         │
//!         │                                       └────── PONG in time ─────┘                              │
//!         └── a packet could not be sent, UNKNOWN_ID, or something came from a node that is DOWN ◀─────────┘
//! ```
//!
//! This is the machine of OpenSIPS 3.6 (`topology.c`: `heartbeats_timer`, `handle_ping`, `handle_pong`), which 2.4 has as
//! well, with two differences. Genuine nodes look at their timers every so often; here each step has its exact moment. And
//! their leniency (3.4 and later) holds toward all releases: a node whose other packets arrive is alive, and its PONG stands
//! in a queue behind them. Should such a node not hear *us*, it calls us down and stops sending, which is noticed here.

use crate::clock::Timestamp;
use crate::cluster::config::Timers;
use crate::cluster::facts::LinkState;

/// Our link to one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    state: LinkState,
    /// PINGs that may go without an answer.
    retries_left: i32,
    /// The last PING, and whether it could be sent.
    pinged: Option<(Timestamp, bool)>,
    /// Nanoseconds that the PONG took, once it is there.
    answer: Option<u64>,
    /// When something of this node came last, PONGs included.
    heard: Timestamp,
    /// When it was seen to be down, or was looked after last since then.
    looked: Timestamp,
}

/// What a link goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    ping_interval: u64,
    ping_timeout: u64,
    node_timeout: u64,
    /// PINGs more until a silent node is down.
    retries: i32,
}

impl Terms {
    pub(super) fn new(timers: &Timers, retries: i32) -> Self {
        Self {
            ping_interval: nanos(timers.ping_interval),
            ping_timeout: nanos(timers.ping_timeout),
            node_timeout: nanos(timers.node_timeout),
            retries,
        }
    }
}

impl Link {
    /// Does the one step that is due at `now`, if any. `ping` sends a PING, with or without the request for a list, and
    /// answers whether it could be sent.
    pub(super) fn tick(&mut self, now: Timestamp, terms: Terms, ping: impl FnOnce(bool) -> bool) {
        if self.due(terms) > now {
            return;
        }
        match self.state {
            LinkState::RestartPinging => self.begin(now, terms, ping),
            LinkState::RetrySendFail => self.send_again(now, ping),
            LinkState::Restarted => self.miss(now, terms, ping),
            LinkState::Up if self.silence_ends(terms).is_some_and(|at| at <= now) => {
                self.miss(now, terms, ping);
            }
            LinkState::Up => self.beat(now, terms, ping),
            LinkState::Retrying => self.retry(now, ping),
            LinkState::Down if self.heard > self.looked => self.restart(),
            LinkState::Down if self.since_ping(now) >= terms.node_timeout => {
                self.revive(now, terms, ping);
            }
            LinkState::Down => self.looked = now,
            LinkState::Temporary => self.restart(),
        }
    }

    /// When something is to be done next, unless something comes.
    pub(super) fn due(&self, terms: Terms) -> Timestamp {
        let Some((pinged, _)) = self.pinged else {
            return Timestamp::default();
        };
        let answer_due = pinged.after(terms.ping_timeout);
        match self.state {
            // Who cannot be reached is asked once in a while, however often a connection breaks meanwhile.
            LinkState::RestartPinging => pinged.after(terms.ping_timeout.min(terms.ping_interval)),
            LinkState::RetrySendFail | LinkState::Restarted | LinkState::Retrying => answer_due,
            LinkState::Up => {
                let beat = pinged.after(terms.ping_interval);
                self.silence_ends(terms).map_or(beat, |at| at.min(beat))
            }
            LinkState::Down if self.heard > self.looked => Timestamp::default(),
            LinkState::Down => {
                let look = self.looked.after(terms.ping_timeout);
                look.min(pinged.after(terms.node_timeout))
            }
            LinkState::Temporary => Timestamp::default(),
        }
    }

    /// Its PONG, which arrived at `at`.
    pub(super) fn pong(&mut self, at: Timestamp, terms: Terms) {
        // What else came excuses a late PONG; an earlier PONG is something else, this one is not.
        let heard_lately =
            at.nanos_since(self.heard) < terms.ping_timeout && self.heard != Timestamp::default();
        self.heard = self.heard.max(at);
        let Some((pinged, was_sent)) = self.pinged else {
            return;
        };
        // One that arrived before our last PING left answers an earlier one.
        let took = (at >= pinged).then(|| at.nanos_since(pinged));
        self.answer = took.or(self.answer);
        let in_time = took.is_some_and(|took| took < terms.ping_timeout);
        match self.state {
            // The answer was faster than the news of what became of the PING.
            LinkState::RestartPinging | LinkState::RetrySendFail | LinkState::Down
                if was_sent && in_time =>
            {
                self.state = LinkState::Up;
            }
            LinkState::Restarted | LinkState::Retrying if in_time || heard_lately => {
                self.state = LinkState::Up;
            }
            _ => {}
        }
    }

    /// Something else of this node arrived at `at`, by its own connection.
    pub(super) fn hear(&mut self, at: Timestamp) {
        self.heard = self.heard.max(at);
    }

    /// A PING of a node that we call down was answered: it is asked in turn, at once.
    pub(super) fn called(&mut self, now: Timestamp, terms: Terms, ping: impl FnOnce(bool) -> bool) {
        if self.state == LinkState::Down {
            self.begin(now, terms, ping);
        }
    }

    /// A packet that is no PING could not be sent, or there is another reason to begin anew.
    pub(super) fn restart(&mut self) {
        self.state = LinkState::RestartPinging;
    }

    /// The connection broke, or could not be made. A PING that waits for its answer counts as not sent.
    pub(super) fn fail(&mut self, now: Timestamp, terms: Terms) {
        match self.state {
            LinkState::Up | LinkState::Temporary => self.restart(),
            LinkState::Restarted => self.not_sent(now, terms),
            LinkState::Retrying if self.retries_left <= 0 => self.give_up(now),
            LinkState::Retrying => self.state = LinkState::RetrySendFail,
            LinkState::Down | LinkState::RetrySendFail | LinkState::RestartPinging => {}
        }
    }

    pub(super) const fn state(&self) -> LinkState {
        self.state
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == LinkState::Up
    }

    /// When something of it came last; the beginning of time: never.
    pub(super) const fn heard(&self) -> Timestamp {
        self.heard
    }

    /// Nanoseconds that its last PONG took, if the last PING was answered.
    pub(super) const fn answer(&self) -> Option<u64> {
        self.answer
    }

    /// Out of RESTART_PINGING, or out of DOWN when it calls.
    fn begin(&mut self, now: Timestamp, terms: Terms, ping: impl FnOnce(bool) -> bool) {
        if self.ping(now, true, ping) {
            self.state = LinkState::Restarted;
        } else {
            self.not_sent(now, terms);
        }
    }

    /// The PING that could not be sent, again.
    fn send_again(&mut self, now: Timestamp, ping: impl FnOnce(bool) -> bool) {
        self.retries_left -= 1;
        if self.ping(now, true, ping) {
            self.state = LinkState::Retrying;
        } else if self.retries_left <= 0 {
            self.give_up(now);
        }
    }

    /// The first PONG that is missing.
    fn miss(&mut self, now: Timestamp, terms: Terms, ping: impl FnOnce(bool) -> bool) {
        if terms.retries <= 0 {
            self.give_up(now);
        } else if self.ping(now, true, ping) {
            self.retries_left = terms.retries - 1;
            self.state = LinkState::Retrying;
        } else {
            self.not_sent(now, terms);
        }
    }

    /// One more PONG that is missing.
    fn retry(&mut self, now: Timestamp, ping: impl FnOnce(bool) -> bool) {
        if self.retries_left <= 0 {
            self.give_up(now);
        } else if self.ping(now, true, ping) {
            self.retries_left -= 1;
        } else {
            self.state = LinkState::RetrySendFail;
        }
    }

    /// A node that is down, once in a while.
    fn revive(&mut self, now: Timestamp, terms: Terms, ping: impl FnOnce(bool) -> bool) {
        if self.ping(now, true, ping) {
            self.state = LinkState::Restarted;
        } else if terms.retries > 0 {
            self.not_sent(now, terms);
        }
    }

    /// The heartbeat.
    fn beat(&mut self, now: Timestamp, terms: Terms, ping: impl FnOnce(bool) -> bool) {
        if !self.ping(now, false, ping) {
            self.not_sent(now, terms);
        }
    }

    fn not_sent(&mut self, now: Timestamp, terms: Terms) {
        if terms.retries <= 0 {
            self.give_up(now);
        } else {
            self.retries_left = terms.retries;
            self.state = LinkState::RetrySendFail;
        }
    }

    fn give_up(&mut self, now: Timestamp) {
        self.state = LinkState::Down;
        self.looked = now;
    }

    fn ping(&mut self, now: Timestamp, list: bool, ping: impl FnOnce(bool) -> bool) -> bool {
        let was_sent = ping(list);
        self.pinged = Some((now, was_sent));
        self.answer = None;
        was_sent
    }

    fn since_ping(&self, now: Timestamp) -> u64 {
        self.pinged.map_or(u64::MAX, |(at, _)| now.nanos_since(at))
    }

    /// Until when a link that is up may wait for its PONG, if that is missing: a while after the PING, and a while after
    /// anything else that came.
    fn silence_ends(&self, terms: Terms) -> Option<Timestamp> {
        let (pinged, _) = self.pinged?;
        let is_missing = self.answer.is_none_or(|took| took >= terms.ping_timeout);
        is_missing.then(|| pinged.max(self.heard).after(terms.ping_timeout))
    }
}

pub(super) fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
