//! One link without its socket: what waits, what is to be done next, and what became of every packet.
//!
//! ```text
//!          Open              Connected           Secured            Proven
//!   Waiting ───▶ Connecting ───▶ (Securing) ───▶ (Proving) ───▶ Up ── stop, all written ──▶ Finishing ─▶ Gone
//!      ▲            │ too late, refused │             │         │ │ the session is worn           │
//!      ├────────────┴───────────────────┴─────────────┘         │ └───────────────────────────────┤
//!      │◀────────────── back-off ───────────────────────────────┘ broken, ended, took nothing     │
//!      └◀────────────── at once ──────────────────────────────────────────────────────────────────┘ no stop
//! ```
//!
//! Pure: it is told the time and what happened ([`Event`]), and says what is to be done ([`Action`]); what was lent for
//! writing comes back with how much of it was taken. So whole days of links run in a test from a seed.

use std::time::Duration;

use binrush_wire::MAX_PACKET_LEN;

use super::backoff::Backoff;
use super::lane::{Amount, Queue};
use super::outgoing::{Follows, Outgoing, Written};
use super::{ENDED, Lane, LinkHealth, LinkLimits, Refused};
use crate::clock::Timestamp;
use crate::stream::LinkCounts;

/// A link to one peer, everything but its socket.
#[derive(Debug)]
pub(super) struct Machine {
    limits: LinkLimits,
    /// Whether a TLS handshake follows a connect.
    secure: bool,
    control: Queue,
    bulk: Queue,
    state: State,
    backoff: Backoff,
    /// Packets of which every byte was taken by TLS, and not every byte of that by the kernel; and bytes, those of
    /// packets that were begun included.
    in_flight: Amount,
    /// The session of this connection is to be replaced when the packet that was begun is through.
    worn: bool,
    /// Since when packets have to wait; means nothing while they are written at once.
    stopped: Timestamp,
    /// Until when to go on at a stop.
    stopping: Option<Timestamp>,
    /// Whether the driver knows already that there is something new.
    signalled: bool,
    /// Bytes that the peer sent here.
    rx_bytes: u64,
    /// The last connection broke, or the last attempt failed.
    failed: bool,
    /// Times that it came up or failed.
    changes: u64,
    /// When a back-off may be cut short again.
    nudge_from: Timestamp,
    counts: LinkCounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No connection, and none tried before `until`; then at once if `eager`, else when something is to be sent.
    Waiting { until: Timestamp, eager: bool },
    /// connect(2) is under way.
    Connecting { until: Timestamp },
    /// The TLS handshake is under way.
    Securing { since: Timestamp, until: Timestamp },
    /// Our part of it is over, and the peer may still refuse us.
    Proving { until: Timestamp },
    /// Packets can be written.
    Up { since: Timestamp, flow: Flow },
    /// All is written, or all that this connection may carry; the peer may acknowledge it.
    Finishing { until: Timestamp },
    /// Nothing will happen any more.
    Gone,
}

/// How well the peer takes what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Nothing was left over.
    Free,
    /// Something was left over, and since then there has always been something. Bytes were taken last at `progress`;
    /// there is no room for more until the driver says so. The kernel says so late, when a third of its buffer is free.
    Full { progress: Timestamp },
    /// As `Full`, but there is room again.
    Room { progress: Timestamp },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing, but time passed, or something was queued.
    Look,
    /// The connection that was asked for by [`Action::Open`] is there.
    Connected,
    /// Our part of its TLS handshake is over; in TLS 1.3 the peer looks at our certificate only after that.
    Secured,
    /// The peer has taken our part of it.
    Proven,
    /// There is room for more bytes.
    Writable,
    /// No connection came about, or it broke: why, in words.
    Failed(String),
    /// The peer ended the connection in order.
    Ended,
    /// Everything that was written was acknowledged.
    Acknowledged,
    /// Nothing more is to be queued; what waits may be written until then.
    Stop(Timestamp),
}

/// What is to be done now. Anything but [`Rest`](Self::Rest) is followed by another [`Machine::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing before the next event or [`Machine::deadline`].
    Rest,
    /// Begin to connect.
    Open,
    /// [`Lend`](Machine::lend), write, [`settle`](Machine::settle).
    Write,
    /// Say that nothing more follows: close_notify, FIN.
    Finish,
    /// Let the connection go, if there is one.
    Close,
    /// The same, and discard what the kernel holds of it: its peer does not take it.
    Reset,
}

impl Machine {
    /// A link that is about to connect. All memory of its queue is allocated here.
    pub(super) fn new(
        to: String,
        limits: LinkLimits,
        secure: bool,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let (control, bulk) = limits.lanes();
        Self {
            secure,
            control: Queue::new(control.0, control.1),
            bulk: Queue::new(bulk.0, bulk.1),
            state: State::Waiting {
                until: now,
                eager: true,
            },
            backoff: Backoff::new(limits.backoff_min, limits.backoff_max, seed),
            in_flight: Amount::default(),
            worn: false,
            stopped: now,
            stopping: None,
            signalled: false,
            rx_bytes: 0,
            failed: false,
            changes: 0,
            nudge_from: now,
            counts: LinkCounts {
                to,
                ..LinkCounts::default()
            },
            limits,
        }
    }

    /// Queues one packet; whether the driver is to be told. `now` is asked for only when the packet has to wait.
    ///
    /// # Errors
    /// [`Refused`]: counted, and nothing was queued.
    pub(super) fn push(
        &mut self,
        lane: Lane,
        packet: &[u8],
        now: impl FnOnce() -> Timestamp,
    ) -> Result<bool, Refused> {
        let refused = self.refusal(lane, packet);
        if let Some(refused) = refused {
            self.counts.refused += 1;
            return Err(refused);
        }
        let was_empty = self.is_empty();
        let flows = self.flows();
        let at = if flows {
            Timestamp::default()
        } else {
            self.counts.postponed += 1;
            now()
        };
        self.queue_mut(lane).push(packet, at);
        self.counts.queued += 1;
        // Who waits for the peer has to be woken for the first packet only, to begin to count its age.
        let tell = !self.signalled && (flows || was_empty);
        self.signalled |= tell;
        Ok(tell)
    }

    /// Does not wait for the rest of a back-off; whether the driver is to be told. The next delay is what it would have been.
    pub(super) fn nudge(&mut self, now: Timestamp) -> bool {
        let waits = matches!(self.state, State::Waiting { until, eager } if !eager || until > now);
        if !waits || now < self.nudge_from || self.stopping.is_some() {
            return false;
        }
        self.nudge_from = after(now, NUDGE_STEP);
        let (until, eager) = (now, true);
        self.state = State::Waiting { until, eager };
        true
    }

    /// Takes note of what happened, and says what is to be done.
    pub(super) fn step(&mut self, now: Timestamp, event: Event) -> Action {
        self.signalled = false;
        let lost = match event {
            Event::Look => None,
            Event::Stop(until) => {
                self.stop(now, until);
                None
            }
            Event::Connected => {
                self.connected(now);
                None
            }
            Event::Secured => {
                self.secured(now);
                None
            }
            Event::Proven => {
                self.proven(now);
                None
            }
            Event::Writable => {
                self.room();
                None
            }
            Event::Acknowledged => self.finished(now),
            Event::Ended => self.ended(now),
            Event::Failed(why) => Some(self.fail(now, why, true)),
        };
        lost.unwrap_or_else(|| self.next(now))
    }

    /// When [`step`](Self::step) is to be called if nothing happens before; `None`: not before something does.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let own = match self.state {
            State::Waiting { until, eager } => (eager || !self.is_empty()).then_some(until),
            State::Connecting { until }
            | State::Securing { until, .. }
            | State::Proving { until }
            | State::Finishing { until } => Some(until),
            // Where there is room, the next write tells whether it is taken.
            State::Up {
                flow: Flow::Full { progress },
                ..
            } => Some(after(progress, self.limits.write_deadline)),
            State::Up { .. } | State::Gone => None,
        };
        let oldest = self.expirable_since();
        let expiry = oldest.map(|since| after(since, self.limits.age_max));
        let stop = self.stopping.filter(|_| self.state != State::Gone);
        [own, expiry, stop].into_iter().flatten().min()
    }

    /// The packets to be written next. To be given back before the next step.
    pub(super) fn lend(&mut self) -> Outgoing {
        let (control, bulk) = (self.control.lend(), self.bulk.lend());
        let follows = match (self.worn, self.control.has_more()) {
            (true, _) => Follows::Nothing,
            (false, true) => Follows::Control,
            (false, false) => Follows::All,
        };
        Outgoing::new(control, bulk, follows)
    }

    /// Takes back what was lent. A transport that failed is told by [`Event::Failed`] afterwards.
    pub(super) fn settle(&mut self, now: Timestamp, outgoing: Outgoing, written: Written) {
        let (control, bulk) = outgoing.give_back();
        if written.drained {
            self.flushed();
        }
        for (queue, (half, taken)) in [(&mut self.control, control), (&mut self.bulk, bulk)] {
            queue.give_back(half, taken);
            self.in_flight += taken;
        }
        if written.flushed {
            self.flushed();
        }
        self.worn |= written.worn;
        let State::Up { flow, .. } = &mut self.state else {
            return;
        };
        let progress = match *flow {
            Flow::Full { progress } | Flow::Room { progress } if !written.moved => progress,
            _ => now,
        };
        let was_free = *flow == Flow::Free;
        *flow = match (written.full, was_free) {
            (true, _) => Flow::Full { progress },
            (false, true) => Flow::Free,
            (false, false) => Flow::Room { progress },
        };
        if self.is_empty() && !written.full {
            self.set_flow(Flow::Free);
        } else if was_free && written.full {
            self.stopped = now;
        }
    }

    /// The peer took something of what the kernel holds, which has no room for more yet.
    pub(super) fn progressed(&mut self, now: Timestamp) {
        if self.is_full() {
            self.set_flow(Flow::Full { progress: now });
        }
    }

    /// The counts so far.
    pub(super) fn counts(&self) -> LinkCounts {
        let waiting = self.waiting();
        LinkCounts {
            up: matches!(self.state, State::Up { .. }),
            waiting: waiting.packets,
            waiting_bytes: waiting.bytes,
            ..self.counts.clone()
        }
    }

    /// How it is.
    pub(super) const fn health(&self) -> LinkHealth {
        match self.state {
            State::Up { .. } => LinkHealth::Up,
            _ if self.failed => LinkHealth::Failed,
            _ => LinkHealth::Connecting,
        }
    }

    /// A number that is another one each time that it came up or failed.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Bytes that wait, those included that TLS has and the kernel has not.
    pub(super) fn waiting_bytes(&self) -> usize {
        usize::try_from(self.waiting().bytes).expect("what waits is in memory")
    }

    /// The peer sent so many bytes more.
    pub(super) const fn received(&mut self, bytes: u64) {
        self.rx_bytes += bytes;
    }

    /// Bytes that the peer sent.
    pub(super) const fn rx_bytes(&self) -> u64 {
        self.rx_bytes
    }

    /// Whether nothing will happen any more: all that was queued was sent or lost.
    pub(super) const fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Whether it only waits for the peer to acknowledge the last bytes.
    pub(super) const fn is_finishing(&self) -> bool {
        matches!(self.state, State::Finishing { .. })
    }

    /// Whether the transport had no room, so that its having some is news.
    pub(super) const fn is_full(&self) -> bool {
        matches!(
            self.state,
            State::Up {
                flow: Flow::Full { .. },
                ..
            }
        )
    }

    /// Whether the peer had its time to refuse us at `now`.
    #[cfg(test)]
    pub(super) fn is_proven(&self, now: Timestamp) -> bool {
        let stops = self
            .stopping
            .is_some_and(|until| now >= until || self.is_empty());
        matches!(self.state, State::Proving { until } if now >= until) && !stops
    }

    /// Packets of one lane that were not taken to their last byte.
    #[cfg(test)]
    pub(super) const fn queued(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Control => self.control.amount().packets,
            Lane::Bulk => self.bulk.amount().packets,
        }
    }

    fn refusal(&self, lane: Lane, packet: &[u8]) -> Option<Refused> {
        let queue = match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
        };
        if self.stopping.is_some() || self.is_gone() {
            Some(Refused::Stopped)
        } else if packet.is_empty() || packet.len() > MAX_PACKET_LEN {
            Some(Refused::Length { len: packet.len() })
        } else if !queue.has_room(packet.len()) {
            Some(Refused::Full)
        } else {
            None
        }
    }

    /// What is to be done when nothing new happened.
    fn next(&mut self, now: Timestamp) -> Action {
        self.expire(now);
        if !self.is_gone() && self.stopping.is_some_and(|until| now >= until) {
            return self.give_up();
        }
        if let State::Proving { until } = self.state
            && now >= until
        {
            self.up(now);
        }
        match self.state {
            // At a stop, nobody connects for nothing.
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Securing { .. }
            | State::Proving { .. }
                if self.stopping.is_some() && self.is_empty() =>
            {
                self.give_up()
            }
            State::Waiting { until, eager } if now >= until && (eager || !self.is_empty()) => {
                let until = after(now, self.limits.connect_timeout);
                self.state = State::Connecting { until };
                Action::Open
            }
            State::Connecting { until } if now >= until => {
                self.too_late(now, "no answer to connect", self.limits.connect_timeout)
            }
            State::Securing { until, .. } if now >= until => self.too_late(
                now,
                "no end of the TLS handshake",
                self.limits.connect_timeout,
            ),
            State::Up {
                flow: Flow::Full { progress },
                ..
            } if now >= after(progress, self.limits.write_deadline) => {
                self.too_late(now, "the peer took nothing", self.limits.write_deadline)
            }
            State::Up { flow, .. } if self.worn && self.is_between() => self.renew(now, flow),
            State::Finishing { until } if now >= until => self.finish(now),
            State::Up { flow, .. } if !self.is_empty() => match flow {
                Flow::Full { .. } => Action::Rest,
                Flow::Free | Flow::Room { .. } => Action::Write,
            },
            State::Up { .. } => self.stopping.map_or(Action::Rest, |until| {
                self.state = State::Finishing { until };
                Action::Finish
            }),
            _ => Action::Rest,
        }
    }

    fn connected(&mut self, now: Timestamp) {
        match self.state {
            State::Connecting { until } if self.secure => {
                self.state = State::Securing { since: now, until };
            }
            State::Connecting { .. } => self.up(now),
            _ => {}
        }
    }

    /// Packets are held back for as long as the handshake took until now, which is the round trip and the peer's
    /// arithmetic: a refusal that comes in that time costs none of them.
    fn secured(&mut self, now: Timestamp) {
        if let State::Securing { since, .. } = self.state {
            let took = Duration::from_nanos(now.nanos_since(since));
            let until = after(now, took.clamp(PROVING_MIN, PROVING_MAX));
            self.state = State::Proving { until };
        }
    }

    fn proven(&mut self, now: Timestamp) {
        if let State::Securing { .. } | State::Proving { .. } = self.state {
            self.up(now);
        }
    }

    fn up(&mut self, now: Timestamp) {
        if matches!(
            self.state,
            State::Connecting { .. } | State::Securing { .. } | State::Proving { .. }
        ) {
            self.counts.connects += 1;
            (self.failed, self.changes) = (false, self.changes + 1);
            self.worn = false;
            // What waited is older than what comes from now on: it is written first, and keeps its age.
            let flow = if self.is_empty() {
                Flow::Free
            } else {
                Flow::Room { progress: now }
            };
            self.state = State::Up { since: now, flow };
        }
    }

    fn room(&mut self) {
        if let State::Up {
            flow: Flow::Full { progress },
            ..
        } = self.state
        {
            self.set_flow(Flow::Room { progress });
        }
    }

    fn set_flow(&mut self, to: Flow) {
        if let State::Up { flow, .. } = &mut self.state {
            *flow = to;
        }
    }

    fn stop(&mut self, now: Timestamp, until: Timestamp) {
        self.stopping = Some(self.stopping.map_or(until, |before| before.min(until)));
        // One more attempt, now: a stop does not wait out a back-off.
        if let State::Waiting { .. } = self.state {
            self.state = State::Waiting {
                until: now,
                eager: false,
            };
        }
    }

    fn ended(&mut self, now: Timestamp) -> Option<Action> {
        if self.is_finishing() {
            return self.finished(now);
        }
        // Genuine nodes close what was idle for 120 s (`tcp_connection_lifetime`): no reason to connect again before
        // there is something to send.
        let eager = !matches!(self.state, State::Up { .. });
        Some(self.fail(now, ENDED.to_owned(), eager))
    }

    fn finished(&mut self, now: Timestamp) -> Option<Action> {
        self.is_finishing().then(|| self.finish(now))
    }

    /// The connection has done what it was for. At a stop nothing is left to be written, unless it was being replaced.
    fn finish(&mut self, now: Timestamp) -> Action {
        if self.stopping.is_some() && self.is_empty() {
            return self.give_up();
        }
        let (until, eager) = (now, true);
        self.state = State::Waiting { until, eager };
        Action::Close
    }

    /// Ends a connection whose session is worn, in order, so that another one takes its place. Packets wait meanwhile.
    fn renew(&mut self, now: Timestamp, flow: Flow) -> Action {
        if flow == Flow::Free {
            self.stopped = now;
        }
        let until = after(now, self.limits.write_deadline);
        self.state = State::Finishing { until };
        Action::Finish
    }

    fn too_late(&mut self, now: Timestamp, what: &str, limit: Duration) -> Action {
        self.fail(now, format!("{what} for {limit:?}"), true);
        Action::Reset
    }

    /// The connection is no more, or did not come about; it is not `eager` to connect again when that is in order.
    fn fail(&mut self, now: Timestamp, why: String, eager: bool) -> Action {
        match self.state {
            State::Waiting { .. } | State::Gone => return Action::Rest,
            State::Finishing { .. } => return self.finish(now),
            State::Connecting { .. } | State::Securing { .. } | State::Proving { .. } => {
                self.counts.connect_failures += 1;
            }
            State::Up { since, flow } => {
                self.counts.breaks += 1;
                // A peer that takes connections and drops them is not well, however often it does so.
                if now >= after(since, self.limits.backoff_max) {
                    self.backoff.reset();
                }
                if flow == Flow::Free {
                    self.stopped = now;
                }
            }
        }
        self.counts.last_failure = why;
        if eager {
            (self.failed, self.changes) = (true, self.changes + 1);
        }
        self.lose_begun();
        let until = after(now, self.backoff.next());
        self.state = State::Waiting { until, eager };
        if self.stopping.is_some() {
            return self.give_up();
        }
        Action::Close
    }

    /// The kernel has all that was taken.
    fn flushed(&mut self) {
        let gone = std::mem::take(&mut self.in_flight);
        self.counts.sent += gone.packets;
        self.counts.sent_bytes += gone.bytes;
    }

    /// What the peer has a part of, or may have, is not sent again: it would see half a packet, or one twice.
    fn lose_begun(&mut self) {
        let gone = [&mut self.control, &mut self.bulk].map(Queue::abandon_begun);
        self.counts.lost += self.in_flight.packets + gone[0].packets + gone[1].packets;
        self.in_flight = Amount::default();
    }

    fn give_up(&mut self) -> Action {
        self.lose_begun();
        let gone = [&mut self.control, &mut self.bulk].map(Queue::clear);
        self.counts.lost += gone[0].packets + gone[1].packets;
        self.state = State::Gone;
        Action::Close
    }

    fn expire(&mut self, now: Timestamp) {
        if self.flows() {
            return;
        }
        let age_ns = nanos(self.limits.age_max);
        for queue in [&mut self.control, &mut self.bulk] {
            self.counts.lost += queue.expire(now, age_ns, self.stopped).packets;
        }
    }

    /// Since when the oldest packet waits that may be given up for its age; none may be while all are written at once.
    fn expirable_since(&self) -> Option<Timestamp> {
        let since = [&self.control, &self.bulk].map(|queue| queue.expirable_since(self.stopped));
        since.into_iter().flatten().min().filter(|_| !self.flows())
    }

    /// Whether packets are written as they come.
    const fn flows(&self) -> bool {
        matches!(
            self.state,
            State::Up {
                flow: Flow::Free,
                ..
            }
        )
    }

    fn waiting(&self) -> Amount {
        let left = [&self.control, &self.bulk].map(Queue::amount);
        let mut waiting = self.in_flight;
        left.into_iter().for_each(|amount| waiting += amount);
        waiting
    }

    /// Whether every packet was sent or lost.
    fn is_empty(&self) -> bool {
        let nothing = Amount::default();
        self.in_flight == nothing
            && self.control.amount() == nothing
            && self.bulk.amount() == nothing
    }

    /// Whether the kernel has every byte of every packet that was begun.
    fn is_between(&self) -> bool {
        let begun = self.control.is_begun() || self.bulk.is_begun();
        !begun && self.in_flight == Amount::default()
    }

    const fn queue_mut(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Control => &mut self.control,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

pub(super) fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.after(nanos(duration))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The least time that a peer gets to refuse us after our part of the handshake; its thread may have to be woken.
const PROVING_MIN: Duration = Duration::from_millis(20);

/// Between two attempts that were asked for: who asks for one with each packet asks often.
const NUDGE_STEP: Duration = Duration::from_millis(100);

/// The most: a handshake that was held up says nothing about how long a refusal takes.
const PROVING_MAX: Duration = Duration::from_millis(500);

mod bulk;
#[cfg(test)]
mod tests;
