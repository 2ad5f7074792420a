//! When packets are due.
//!
//! ```text
//!   packets of the load   0   1   2   3   4   5   6 ...     each has a moment, whoever sends it
//!   stream 0 of 3         0           3           6         constant, captured, steps: every third one
//!   stream 1 of 3             1           4
//!   stream 2 of 3                 2           5
//! ```
//!
//! A moment is computed from the start and not from the packet before, so rounding never adds up, and being late once
//! makes no later packet late. Poisson arrivals are the exception, since each depends on the one before: there each
//! stream is a process of its own, and the processes together are one of the whole rate.

use std::time::Duration;

use crate::scenario::Arrivals;
use crate::source::Share;

/// Arrivals as recorded.
mod captured;
/// Arrivals that are independent of each other.
mod poisson;
/// A rate that changes.
mod steps;

use captured::Captured;
use poisson::Poisson;
use steps::Steps;

/// The moments at which the packets of one stream are due: nanoseconds after the start, none before the one that came
/// before it, all before the end.
///
/// A pure function of what it was made from. The number of packets is known from the start: that of all streams is the
/// rate times the duration, rounded up (with steps: what their factors make of it), and streams differ by one packet at
/// most. That holds for Poisson arrivals, which then lie as if their number had happened to be this, and for captured
/// gaps, which are scaled so that this many fill the duration. So what a trial offers is what was asked for, even when
/// the trial is short.
///
/// ```
/// use std::time::Duration;
/// use binrush_scenario::{Arrivals, Schedule, Share};
///
/// let share = Share { stream: 1, streams: 2 };
/// let schedule = Schedule::new(&Arrivals::Constant, 4_000.0, Duration::from_millis(1), share, 1);
/// assert_eq!(schedule.collect::<Vec<_>>(), [250_000, 750_000]);
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    shape: Shape,
    share: Share,
    ns_per_packet: f64,
    /// Of this stream, counted from 0: the next packet.
    next: u64,
    /// Packets of this stream.
    count: u64,
    /// When the packet before was due.
    last_ns: u64,
    /// When the schedule ends; above 0 when there are packets.
    end_ns: u64,
}

/// What a moment is computed from.
#[derive(Debug, Clone)]
enum Shape {
    Constant,
    Poisson(Poisson),
    Captured(Captured),
    Steps(Steps),
}

impl Schedule {
    /// The stream `share` of a load of `rate_pps` packets per second (all streams together) for `duration`.
    ///
    /// A load without packets has an empty schedule: a rate or gaps or steps that never come to one packet, numbers
    /// that are none, a stream that there is not. At most 2^53 packets and 584 years.
    #[must_use]
    pub fn new(
        arrivals: &Arrivals,
        rate_pps: f64,
        duration: Duration,
        share: Share,
        seed: u64,
    ) -> Self {
        let end_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let is_possible = rate_pps > 0.0 && rate_pps.is_finite() && share.stream < share.streams;
        let rate_pps = if is_possible { rate_pps } else { 0.0 };
        let mut ns_per_packet = 1e9 / rate_pps;
        let expected = rate_pps * (end_ns as f64 / 1e9);
        let (shape, all) = match arrivals {
            _ if !is_possible => (Shape::Constant, 0),
            Arrivals::Constant => (Shape::Constant, rounded_up(expected)),
            Arrivals::Poisson => {
                let all = rounded_up(expected);
                let poisson = Poisson::new(of_stream(all, share), end_ns, share.stream, seed);
                (Shape::Poisson(poisson), all)
            }
            Arrivals::Captured(gaps) => match Captured::new(gaps) {
                Some(captured) => {
                    let all = rounded_up(expected);
                    // Gaps are not of one length: those of a part of the recording take longer or shorter than the
                    // mean says. Where they take no time at all, nothing is there to be scaled.
                    let place = captured.place(all);
                    if place > 0.0 {
                        ns_per_packet = end_ns as f64 / place;
                    }
                    (Shape::Captured(captured), all)
                }
                None => (Shape::Constant, 0),
            },
            Arrivals::Steps(steps) => match Steps::new(steps, rate_pps) {
                Some(steps) => {
                    let all = rounded_up(steps.before(end_ns as f64));
                    (Shape::Steps(steps), all)
                }
                None => (Shape::Constant, 0),
            },
        };
        Self {
            shape,
            share,
            ns_per_packet,
            next: 0,
            count: of_stream(all.min(PACKETS_MAX), share),
            last_ns: 0,
            end_ns,
        }
    }

    /// How many packets are still to come.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.count - self.next
    }

    /// When the load ends, in nanoseconds after the start.
    #[must_use]
    pub const fn end_ns(&self) -> u64 {
        self.end_ns
    }
}

impl Iterator for Schedule {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        if self.next == self.count {
            return None;
        }
        // Below 2^53, the count of all streams.
        let packet = self.next * u64::from(self.share.streams) + u64::from(self.share.stream);
        self.next += 1;
        let due = match &mut self.shape {
            Shape::Constant => packet as f64 * self.ns_per_packet,
            Shape::Captured(captured) => captured.place(packet) * self.ns_per_packet,
            Shape::Steps(steps) => steps.due_ns(packet),
            Shape::Poisson(poisson) => poisson.next_ns(),
        };
        // Where rounding puts a moment outside, the moment beside it is as good.
        self.last_ns = whole(due + ROUNDING).clamp(self.last_ns, self.end_ns - 1);
        Some(self.last_ns)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = usize::try_from(self.remaining());
        (remaining.unwrap_or(usize::MAX), remaining.ok())
    }
}

/// Packets of one stream when all streams have `all`.
fn of_stream(all: u64, share: Share) -> u64 {
    all.saturating_sub(share.stream.into())
        .div_ceil(u64::from(share.streams).max(1))
}

/// The next whole number, but a number that rounding put beside a whole one is that one.
fn rounded_up(number: f64) -> u64 {
    let nearest = number.round();
    let is_whole = (number - nearest).abs() < FUZZ;
    whole(if is_whole { nearest } else { number.ceil() }).min(PACKETS_MAX)
}

/// Without its fraction; 0 for what is below or no number, at most 2^53.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast from a float saturates, and the fraction is to go"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Nanoseconds: more than what rounding takes away from a whole number in hours.
const ROUNDING: f64 = 1e-3;

/// Packets: what is nearer than this to a boundary lies on it.
const FUZZ: f64 = 1e-6;

/// Up to here a float counts without holes.
const PACKETS_MAX: u64 = 1 << 53;

#[cfg(test)]
mod tests;
