//! TCP between hosts, in memory: each host opens one connection to each other one that it sends to.
//!
//! ```text
//!   send ─▶ control │ bulk ─▶ flight: what the kernels have ─▶ Arrival at the other host, in order
//!                             ◀─ backward: what is answered on the same connection
//! ```
//!
//! A connection that breaks loses what is in flight, in both directions, and what waits. Nothing is reordered, doubled or
//! damaged on its way: TCP sees to that. Where a way is blocked, packets stand still until it is open again, or until the
//! sender's kernel gives up.

use std::collections::{BTreeSet, VecDeque};

use super::dice::Dice;
use crate::cluster::outbox::Sent;
use crate::link::Lane;

/// Nanoseconds since the world began.
pub(super) type Time = u64;

pub(super) const MS: Time = 1_000_000;
pub(super) const SECOND: Time = 1000 * MS;
pub(super) const NEVER: Time = Time::MAX;

/// Something that a host has to know.
#[derive(Debug)]
pub(super) enum News {
    /// A packet came.
    Arrival {
        /// Who sent it, and who gets it.
        from: usize,
        to: usize,
        /// The number of the connection, never used twice.
        connection: u64,
        /// It came on the connection that `to` had opened.
        backward: bool,
        packet: Vec<u8>,
    },
    /// The connection that `from` had, or tried to get, is no more.
    Broken {
        from: usize,
        to: usize,
        was_open: bool,
    },
}

pub(super) struct Network {
    hosts: usize,
    lines: Vec<Line>,
    /// Which line wants to be looked at when.
    wakes: BTreeSet<(Time, usize)>,
    /// Ways that lead nowhere at the moment: `from * hosts + to`.
    blocked: Vec<u32>,
    down: Vec<bool>,
    /// Hosts that do not read: their kernels take what fits into a window, and no more.
    stopped: Vec<bool>,
    /// The least time between two packets that a host reads of one connection.
    read_gap: Vec<Time>,
    connections: u64,
    dice: Dice,
    news: Vec<News>,
    /// Packets that were lost with their connection.
    pub(super) lost: u64,
}

/// What one host has for another.
struct Line {
    phase: Phase,
    /// The last attempt failed.
    failed: bool,
    failures: u32,
    delay: Time,
    control: VecDeque<Vec<u8>>,
    bulk: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    bulk_bytes: usize,
    forward: VecDeque<(Time, Vec<u8>)>,
    backward: VecDeque<(Time, Vec<u8>)>,
    flight_bytes: usize,
    read_after: Time,
    /// Since when nothing was acknowledged, while something should have been.
    stuck_since: Option<Time>,
    wake: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Tries again then.
    Waiting(Time),
    Opening {
        done: Time,
        succeeds: bool,
    },
    Open(u64),
}

impl Network {
    pub(super) fn new(hosts: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let lines = (0..hosts * hosts).map(|_| Line::new(dice.within(MS / 10, 8 * MS)));
        Self {
            lines: lines.collect(),
            hosts,
            wakes: BTreeSet::new(),
            blocked: vec![0; hosts * hosts],
            down: vec![true; hosts],
            stopped: vec![false; hosts],
            read_gap: vec![0; hosts],
            connections: 0,
            dice,
            news: Vec::new(),
            lost: 0,
        }
    }

    /// Queues a packet, and opens a connection if there is none.
    pub(super) fn send(
        &mut self,
        now: Time,
        (from, to): (usize, usize),
        lane: Lane,
        packet: &[u8],
    ) -> Sent {
        assert!(!self.down[from], "the dead do not speak");
        let line = &mut self.lines[from * self.hosts + to];
        if line.phase == Phase::Idle {
            line.phase = Phase::Waiting(now);
            self.wake(from, to, now);
        }
        let line = &mut self.lines[from * self.hosts + to];
        if line.failed {
            return Sent::Unreachable;
        }
        if line.waiting_bytes + packet.len() > QUEUE_BYTES
            || (lane == Lane::Bulk && line.bulk_bytes + packet.len() > BULK_BYTES)
        {
            return Sent::Full;
        }
        line.waiting_bytes += packet.len();
        if lane == Lane::Bulk {
            line.bulk_bytes += packet.len();
            line.bulk.push_back(packet.to_vec());
        } else {
            line.control.push_back(packet.to_vec());
        }
        self.wake(from, to, now);
        Sent::Queued
    }

    /// Sends on a connection that `host` accepted; `false` when it is no more.
    pub(super) fn answer(
        &mut self,
        now: Time,
        host: usize,
        connection: u64,
        packet: &[u8],
    ) -> bool {
        let hosts = self.hosts;
        let to_host = (0..hosts).map(|from| (from, from * hosts + host));
        let mut open = to_host.filter(|(_, at)| self.lines[*at].phase == Phase::Open(connection));
        let Some((from, at)) = open.next() else {
            return false;
        };
        let line = &mut self.lines[at];
        let at = line
            .backward
            .back()
            .map_or(0, |(at, _)| *at)
            .max(now + line.delay);
        line.backward.push_back((at, packet.to_vec()));
        self.wake(from, host, now);
        true
    }

    /// Wants a connection, without anything to send.
    pub(super) fn connect(&mut self, now: Time, from: usize, to: usize) {
        let line = &mut self.lines[from * self.hosts + to];
        if line.phase == Phase::Idle {
            line.phase = Phase::Waiting(now);
            self.wake(from, to, now);
        }
    }

    /// Closes the connection, with all that waits for it.
    pub(super) fn disconnect(&mut self, from: usize, to: usize) {
        let line = &mut self.lines[from * self.hosts + to];
        self.lost += line.clear();
        (line.phase, line.failed) = (Phase::Idle, false);
    }

    /// Bytes of bulk that the kernel did not take yet.
    pub(super) fn waiting_bytes(&self, from: usize, to: usize) -> usize {
        self.lines[from * self.hosts + to].bulk_bytes
    }

    /// When [`turn`](Self::turn) is wanted.
    pub(super) fn next(&self) -> Time {
        self.wakes.first().map_or(NEVER, |(at, _)| *at)
    }

    /// Lets happen what is due.
    pub(super) fn turn(&mut self, now: Time) -> Vec<News> {
        while let Some(&(at, index)) = self.wakes.first()
            && at <= now
        {
            self.wakes.remove(&(at, index));
            self.lines[index].wake = NEVER;
            let (from, to) = (index / self.hosts, index % self.hosts);
            let next = self.turn_line(now, from, to);
            self.wake(from, to, next);
        }
        std::mem::take(&mut self.news)
    }

    /// A way leads nowhere, or one reason less for that. Reasons add up.
    pub(super) fn block(&mut self, now: Time, from: usize, to: usize, on: bool) {
        let reasons = &mut self.blocked[from * self.hosts + to];
        *reasons = if on { *reasons + 1 } else { *reasons - 1 };
        if *reasons == 0 {
            // What was lost meanwhile is sent again some time later.
            let again = now + self.dice.within(MS, 400 * MS);
            for (line, forward) in [
                (from * self.hosts + to, true),
                (to * self.hosts + from, false),
            ] {
                let line = &mut self.lines[line];
                let flight = if forward {
                    &mut line.forward
                } else {
                    &mut line.backward
                };
                for (at, _) in flight {
                    *at = (*at).max(again);
                }
            }
        }
        self.wake(from, to, now);
        self.wake(to, from, now);
    }

    /// Breaks the connection that `from` has to `to`, if there is one: what is in flight is lost.
    pub(super) fn reset(&mut self, now: Time, from: usize, to: usize) -> bool {
        let index = from * self.hosts + to;
        let was_open = matches!(self.lines[index].phase, Phase::Open(_));
        if was_open {
            self.lose(now, index);
        }
        was_open
    }

    /// A host starts, or dies with all its connections.
    pub(super) fn power(&mut self, now: Time, host: usize, on: bool) {
        self.down[host] = !on;
        self.stopped[host] = false;
        self.read_gap[host] = 0;
        if on {
            return;
        }
        for other in 0..self.hosts {
            self.disconnect(host, other);
            let theirs = other * self.hosts + host;
            if matches!(self.lines[theirs].phase, Phase::Open(_)) {
                self.lose(now, theirs);
            }
        }
    }

    /// A host stops reading, or goes on.
    pub(super) fn stop(&mut self, now: Time, host: usize, on: bool) {
        self.stopped[host] = on;
        self.wake_readers(now, host);
    }

    /// A host reads slowly: one packet of each connection in `gap`.
    pub(super) fn slow_down(&mut self, now: Time, host: usize, gap: Time) {
        self.read_gap[host] = gap;
        self.wake_readers(now, host);
    }

    fn wake_readers(&mut self, now: Time, host: usize) {
        for other in 0..self.hosts {
            self.wake(other, host, now);
            self.wake(host, other, now);
        }
    }

    fn wake(&mut self, from: usize, to: usize, at: Time) {
        let index = from * self.hosts + to;
        let line = &mut self.lines[index];
        if at < line.wake {
            self.wakes.remove(&(line.wake, index));
            line.wake = at;
            self.wakes.insert((at, index));
        }
    }

    /// One line goes on; when it wants to be asked again.
    fn turn_line(&mut self, now: Time, from: usize, to: usize) -> Time {
        let index = from * self.hosts + to;
        match self.lines[index].phase {
            Phase::Idle => NEVER,
            Phase::Waiting(at) if now < at => at,
            Phase::Waiting(_) => self.open(now, from, to),
            Phase::Opening { done, .. } if now < done => done,
            Phase::Opening { succeeds, .. } => {
                if succeeds && !self.down[to] && !self.is_cut(from, to) {
                    self.connections += 1;
                    let line = &mut self.lines[index];
                    line.phase = Phase::Open(self.connections);
                    (line.failed, line.failures) = (false, 0);
                    return now;
                }
                self.lose(now, index);
                self.lines[index].wake_after_loss()
            }
            Phase::Open(number) => self.carry(now, from, to, number),
        }
    }

    fn open(&mut self, now: Time, from: usize, to: usize) -> Time {
        let cut = self.is_cut(from, to);
        let line = &mut self.lines[from * self.hosts + to];
        let done = now + if cut { CONNECT_TIMEOUT } else { 2 * line.delay };
        line.phase = Phase::Opening {
            done,
            succeeds: !cut && !self.down[to],
        };
        done
    }

    /// Moves packets of an open connection.
    fn carry(&mut self, now: Time, from: usize, to: usize, number: u64) -> Time {
        let index = from * self.hosts + to;
        let open_way = self.blocked[index] == 0;
        let open_back = self.blocked[to * self.hosts + from] == 0;
        let mut next = NEVER;
        while open_way && !self.stopped[to] {
            self.lines[index].pump(now);
            let line = &mut self.lines[index];
            let Some((at, _)) = line.forward.front() else {
                break;
            };
            let at = (*at).max(line.read_after);
            if at > now {
                next = next.min(at);
                break;
            }
            let (_, packet) = line.forward.pop_front().expect("just seen");
            line.flight_bytes -= packet.len();
            line.read_after = now + self.read_gap[to];
            self.news.push(News::Arrival {
                from,
                to,
                connection: number,
                backward: false,
                packet,
            });
        }
        self.lines[index].pump(now);
        while open_back && !self.stopped[from] {
            let line = &mut self.lines[index];
            let Some((at, _)) = line.backward.front().filter(|(at, _)| *at <= now) else {
                next = next.min(line.backward.front().map_or(NEVER, |(at, _)| *at));
                break;
            };
            debug_assert!(*at <= now);
            let (_, packet) = line.backward.pop_front().expect("just seen");
            self.news.push(News::Arrival {
                from: to,
                to: from,
                connection: number,
                backward: true,
                packet,
            });
        }
        self.look_whether_stuck(now, index, !(open_way && open_back))
            .min(next)
    }

    /// A kernel that hears no acknowledgement gives up after a while.
    fn look_whether_stuck(&mut self, now: Time, index: usize, cut: bool) -> Time {
        let line = &mut self.lines[index];
        if !cut || (line.forward.is_empty() && line.stuck_since.is_none()) {
            line.stuck_since = None;
            return NEVER;
        }
        let since = *line.stuck_since.get_or_insert(now);
        if now >= since + USER_TIMEOUT {
            self.lose(now, index);
            return self.lines[index].wake_after_loss();
        }
        since + USER_TIMEOUT
    }

    /// The connection, or the attempt, is over.
    fn lose(&mut self, now: Time, index: usize) {
        let wait = self.dice.within(20 * MS, 80 * MS);
        let line = &mut self.lines[index];
        self.lost += line.clear();
        line.failures += 1;
        // The first attempt after a good time follows at once, as links do.
        let was_open = matches!(line.phase, Phase::Open(_));
        line.failed = !was_open;
        let wait = (wait << line.failures.min(5)).min(SECOND);
        line.phase = Phase::Waiting(now + wait);
        let (from, to) = (index / self.hosts, index % self.hosts);
        self.wake(from, to, now + wait);
        self.news.push(News::Broken { from, to, was_open });
        // Whoever reads the news has to be asked now.
        self.wake(from, to, now);
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.blocked[from * self.hosts + to] > 0 || self.blocked[to * self.hosts + from] > 0
    }
}

impl Line {
    fn new(delay: Time) -> Self {
        Self {
            phase: Phase::Idle,
            failed: false,
            failures: 0,
            delay,
            control: VecDeque::new(),
            bulk: VecDeque::new(),
            waiting_bytes: 0,
            bulk_bytes: 0,
            forward: VecDeque::new(),
            backward: VecDeque::new(),
            flight_bytes: 0,
            read_after: 0,
            stuck_since: None,
            wake: NEVER,
        }
    }

    /// Gives the kernel what it has room for, control first.
    fn pump(&mut self, now: Time) {
        while self.flight_bytes < WINDOW {
            let bulk = self.control.is_empty();
            let queue = if bulk {
                &mut self.bulk
            } else {
                &mut self.control
            };
            let Some(packet) = queue.pop_front() else {
                return;
            };
            self.waiting_bytes -= packet.len();
            if bulk {
                self.bulk_bytes -= packet.len();
            }
            self.flight_bytes += packet.len();
            let earliest = self.forward.back().map_or(0, |(at, _)| *at);
            let at = (now + self.delay).max(earliest) + packet.len() as u64 * NANOS_PER_BYTE;
            self.forward.push_back((at, packet));
        }
    }

    /// Forgets all packets; how many there were.
    fn clear(&mut self) -> u64 {
        let packets = self.control.len() + self.bulk.len() + self.forward.len();
        self.control.clear();
        self.bulk.clear();
        self.forward.clear();
        self.backward.clear();
        (self.waiting_bytes, self.bulk_bytes, self.flight_bytes) = (0, 0, 0);
        (self.stuck_since, self.read_after) = (None, 0);
        packets as u64
    }

    fn wake_after_loss(&self) -> Time {
        match self.phase {
            Phase::Waiting(at) => at,
            _ => NEVER,
        }
    }
}

/// What the kernels of both sides hold of one connection.
const WINDOW: usize = 64 << 10;

/// What may wait for the kernel.
const QUEUE_BYTES: usize = 2 << 20;

/// What of that may be bulk.
const BULK_BYTES: usize = 512 << 10;

/// 800 Mbit/s.
const NANOS_PER_BYTE: Time = 10;

const CONNECT_TIMEOUT: Time = 2 * SECOND;

/// How long a kernel sends the same again.
const USER_TIMEOUT: Time = 5 * SECOND;
