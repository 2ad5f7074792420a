//! The slots of a schedule: when each is due, whose it is, and what it is booked for.
//!
//! ```text
//!   schedule ─▶ | slot n+H | ... | n+3 delete 7 | n+2 free | n+1 update 4 | n free |  ─▶ the next packet
//!                ^ part drawn here                                           ^ written here
//!                '----------------------- ahead, at most HORIZON ----------'
//! ```
//!
//! A slot gets its part by a draw as it comes into sight, so the parts keep their shares whatever is booked. Bookings
//! are made ahead: a call that begins knows in which slots it will be updated and deleted, and thereby when, and
//! under which number.

use std::collections::VecDeque;

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::schedule::Schedule;

/// The slots from the next one on, as far as can be seen.
#[derive(Debug)]
pub(super) struct Slots {
    schedule: Schedule,
    ahead: VecDeque<Slot>,
    /// Number of the first of them: its place in the schedule.
    next: u64,
    /// Up to where each part reaches when all shares are laid side by side from 0 to 1.
    reach: Box<[f64]>,
    draws: Pcg64Mcg,
}

/// Room for one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// When it is due, in nanoseconds after the start.
    pub(super) due_ns: u64,
    /// What it is booked for.
    pub(super) booking: Booking,
    /// Whose it is: the number of a part.
    pub(super) part: u8,
    /// Which dialog it is booked for, by its place in the part's table.
    pub(super) dialog: u32,
}

/// What a slot is booked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Booking {
    /// Nothing yet.
    Free,
    /// The update of a dialog.
    Update,
    /// The end of a dialog.
    Delete,
}

/// A slot by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Booked {
    /// Its place in the schedule, from 0.
    pub(super) sequence: u64,
    /// When it is due, in nanoseconds after the start.
    pub(super) due_ns: u64,
}

impl Slots {
    /// The slots of `schedule`, given out to parts by `shares`, which add up to 1. `horizon` of them are seen at a time,
    /// at least 1.
    pub(super) fn new(
        schedule: Schedule,
        shares: impl Iterator<Item = f64>,
        horizon: usize,
        draws: Pcg64Mcg,
    ) -> Self {
        let reach = shares.scan(0.0, |reach, share| {
            *reach += share;
            Some(*reach)
        });
        let horizon = usize::try_from(schedule.remaining()).map_or(horizon, |all| all.min(horizon));
        let mut slots = Self {
            schedule,
            ahead: VecDeque::with_capacity(horizon),
            next: 0,
            reach: reach.collect(),
            draws,
        };
        for _ in 0..horizon {
            slots.look_further();
        }
        slots
    }

    /// When the next one is due; `None` at the end of the schedule.
    #[inline]
    pub(super) fn due(&self) -> Option<u64> {
        self.ahead.front().map(|slot| slot.due_ns)
    }

    /// How many are in sight.
    pub(super) fn len(&self) -> usize {
        self.ahead.len()
    }

    /// How many slots of `part` there are for each nanosecond, on average over all that is in sight.
    pub(super) fn density(&self, part: u8) -> f64 {
        let span_ns = match (self.ahead.front(), self.ahead.back()) {
            (Some(first), Some(last)) => last.due_ns - first.due_ns,
            _ => 0,
        };
        self.of(part).count() as f64 / (span_ns as f64).max(1.0)
    }

    /// How many slots of `part` are still to come, give or take what is left to the draws.
    pub(super) fn expected(&self, part: u8) -> u64 {
        let own = self.of(part).count() as u64;
        let beyond = self.schedule.remaining() as f64 * own as f64;
        own.saturating_add(whole(beyond / (self.ahead.len() as f64).max(1.0)))
    }

    /// When the slot of `part` is due that comes after the next `count` of them. Out of sight, it is as far as they
    /// are dense.
    pub(super) fn due_after(&self, part: u8, count: u64) -> u64 {
        let own = usize::try_from(count).ok();
        match own.and_then(|count| self.of(part).nth(count)) {
            Some(slot) => slot.due_ns,
            None => whole(count as f64 / self.density(part)),
        }
    }

    fn of(&self, part: u8) -> impl Iterator<Item = &Slot> {
        self.ahead.iter().filter(move |slot| slot.part == part)
    }

    /// The next one, with its number.
    #[inline]
    pub(super) fn take(&mut self) -> Option<(u64, Slot)> {
        let slot = self.ahead.pop_front()?;
        let sequence = self.next;
        self.next += 1;
        self.look_further();
        Some((sequence, slot))
    }

    /// Books the first free slot of `part` that is due at or after `due_ns`; `None` when there is none in sight.
    pub(super) fn book(
        &mut self,
        (part, dialog): (u8, u32),
        booking: Booking,
        due_ns: u64,
    ) -> Option<Booked> {
        let from = self.first_due(due_ns);
        let is_open = |slot: &Slot| slot.part == part && slot.booking == Booking::Free;
        let found = self.ahead.range(from..).position(is_open)? + from;
        let slot = &mut self.ahead[found];
        (slot.booking, slot.dialog) = (booking, dialog);
        Some(Booked {
            sequence: self.next + found as u64,
            due_ns: slot.due_ns,
        })
    }

    /// The first slot in sight that is due at or after `due_ns`, counted from the next one; their number when there is
    /// none.
    ///
    /// Looks where it would be if they were evenly spread, then further and further away from there: halving all that is
    /// in sight would touch ten times as much memory.
    fn first_due(&self, due_ns: u64) -> usize {
        let due_at = |at: usize| self.ahead[at].due_ns;
        let Some(last) = self.ahead.len().checked_sub(1) else {
            return 0;
        };
        if due_ns <= due_at(0) {
            return 0;
        }
        if due_at(last) < due_ns {
            return last + 1;
        }
        let span_ns = due_at(last) - due_at(0);
        let share = (due_ns - due_at(0)) as f64 / span_ns as f64;
        let guess = usize::try_from(whole(share * last as f64)).map_or(last, |at| at.min(last));
        // What is at `before` is due before, what is at `behind` is not.
        let (mut before, mut behind, mut step) = (0, last, STEP);
        if due_at(guess) < due_ns {
            before = guess;
            while behind - before > step && due_at(before + step) < due_ns {
                before += step;
                step *= 2;
            }
            behind = behind.min(before + step);
        } else {
            behind = guess;
            while behind - before > step && due_at(behind - step) >= due_ns {
                behind -= step;
                step *= 2;
            }
            before = before.max(behind.saturating_sub(step));
        }
        while behind - before > 1 {
            let middle = before.midpoint(behind);
            if due_at(middle) < due_ns {
                before = middle;
            } else {
                behind = middle;
            }
        }
        behind
    }

    #[inline]
    fn look_further(&mut self) {
        if let Some(due_ns) = self.schedule.next() {
            let part = self.part();
            self.ahead.push_back(Slot {
                due_ns,
                booking: Booking::Free,
                part,
                dialog: 0,
            });
        }
    }

    #[inline]
    fn part(&mut self) -> u8 {
        if self.reach.len() < 2 {
            return 0;
        }
        let drawn: f64 = self.draws.random();
        let part = self
            .reach
            .iter()
            .take_while(|reach| **reach <= drawn)
            .count();
        // Rounding may leave the last reach a little below 1.
        u8::try_from(part.min(self.reach.len() - 1)).unwrap_or(0)
    }
}

/// Without its fraction; 0 for what is below or no number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast from a float saturates, and the fraction is to go"
)]
pub(super) fn whole(number: f64) -> u64 {
    number as u64
}

/// How far from the guess the search for a moment looks first.
const STEP: usize = 8;

/// How many slots are seen at a time where bookings are made, at most: 64 MiB, and 20 s of a stream with 200 000 packets
/// per second. What would have to be booked further ahead is not booked.
pub(super) const HORIZON: usize = 1 << 22;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::draws;
    use crate::scenario::{Arrivals, Step};
    use crate::source::Share;
    use std::time::Duration;

    fn slots(shares: &[f64], packets: u64, horizon: usize) -> Slots {
        slots_at(&Arrivals::Constant, shares, packets, horizon)
    }

    fn slots_at(arrivals: &Arrivals, shares: &[f64], packets: u64, horizon: usize) -> Slots {
        let share = Share {
            stream: 0,
            streams: 1,
        };
        let duration = Duration::from_micros(packets);
        let schedule = Schedule::new(arrivals, 1e6, duration, share, 1);
        Slots::new(schedule, shares.iter().copied(), horizon, draws(1, 0, 0))
    }

    #[test]
    fn every_slot_comes_once_in_order_at_its_moment() {
        for horizon in [1, 7, 1_000, 5_000] {
            let mut slots = slots(&[1.0], 1_000, horizon);
            for n in 0..1_000 {
                assert_eq!(slots.due(), Some(n * 1_000));
                let (sequence, slot) = slots.take().unwrap();
                assert_eq!((sequence, slot.due_ns), (n, n * 1_000));
            }
            assert_eq!((slots.due(), slots.take()), (None, None));
        }
    }

    #[test]
    fn parts_get_their_shares() {
        let mut slots = slots(&[0.5, 0.3, 0.2], 100_000, 1);
        let mut counts = [0_i32; 3];
        while let Some((_, slot)) = slots.take() {
            counts[usize::from(slot.part)] += 1;
        }
        for (count, expected) in counts.iter().zip([50_000, 30_000, 20_000]) {
            // The standard deviation is below 160.
            assert!((count - expected).abs() < 800, "{counts:?}");
        }
    }

    #[test]
    fn a_booking_is_the_first_free_slot_of_its_part_from_a_moment_on() {
        let mut slots = slots(&[0.5, 0.5], 1_000, 1_000);
        slots.take();
        let mut expected: Vec<(u64, Slot)> = (1..).zip(slots.ahead.iter().copied()).collect();
        for (dialog, due_ns) in [(10, 0), (11, 50_500), (12, 50_500), (13, 0), (14, 700_000)] {
            let got = slots.book((1, dialog), Booking::Update, due_ns);
            let is_open = |slot: &Slot| slot.part == 1 && slot.booking == Booking::Free;
            let first = expected
                .iter_mut()
                .find(|(_, slot)| slot.due_ns >= due_ns && is_open(slot));
            let (sequence, slot) = first.unwrap();
            (slot.booking, slot.dialog) = (Booking::Update, dialog);
            let (sequence, due_ns) = (*sequence, slot.due_ns);
            assert_eq!(got, Some(Booked { sequence, due_ns }));
        }
        for (sequence, slot) in expected {
            assert_eq!(slots.take(), Some((sequence, slot)));
        }
    }

    #[test]
    fn a_moment_is_found_as_by_looking_at_every_slot() {
        let step = |ms, factor| Step {
            duration: Duration::from_millis(ms),
            factor,
        };
        for arrivals in [
            Arrivals::Constant,
            Arrivals::Poisson,
            Arrivals::Captured(vec![0.0, 0.0, 0.0, 50.0]),
            Arrivals::Steps(vec![step(1, 0.01), step(1, 3.0), step(2, 0.0)]),
        ] {
            for horizon in [1, 2, 9, 600] {
                let mut slots = slots_at(&arrivals, &[1.0], 5_000, horizon);
                slots.take();
                let end_ns = slots.ahead.back().map_or(0, |slot| slot.due_ns) + 2;
                let own = slots.ahead.iter().map(|slot| slot.due_ns);
                let moments = own.flat_map(|due_ns| [due_ns.saturating_sub(1), due_ns, due_ns + 1]);
                for due_ns in moments.chain([0, end_ns, u64::MAX]) {
                    let slow = slots
                        .ahead
                        .iter()
                        .filter(|slot| slot.due_ns < due_ns)
                        .count();
                    assert_eq!(
                        slots.first_due(due_ns),
                        slow,
                        "{arrivals:?} {horizon} {due_ns}"
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_is_booked_out_of_sight() {
        let mut slots = slots(&[1.0], 1_000, 100);
        let whom = (0, 0);
        assert_eq!(slots.book(whom, Booking::Delete, 99_001), None);
        assert_eq!(slots.book(whom, Booking::Delete, u64::MAX), None);
        let last = slots.book(whom, Booking::Delete, 99_000).unwrap();
        assert_eq!(last.sequence, 99);
        assert_eq!(slots.book(whom, Booking::Delete, 99_000), None);
        slots.take();
        let next = slots.book(whom, Booking::Delete, 99_000).unwrap();
        assert_eq!(next.sequence, 100, "it came into sight");
    }

    #[test]
    fn what_is_out_of_sight_is_as_what_is_in_sight() {
        let slots = slots(&[0.5, 0.5], 10_000, 1_000);
        assert!((slots.density(1) * 2_000.0 - 1.0).abs() < 0.1);
        assert!((4_500..5_500).contains(&slots.expected(1)));
        assert!((9_000..11_000).contains(&(slots.expected(0) + slots.expected(1))));
        let second = slots.of(1).nth(1).map(|slot| slot.due_ns);
        assert_eq!(Some(slots.due_after(1, 1)), second);
        assert!((3_600_000..4_400_000).contains(&slots.due_after(1, 2_000)));
    }

    #[test]
    fn an_empty_schedule_has_no_slot() {
        let mut slots = slots(&[1.0], 0, HORIZON);
        assert_eq!((slots.due(), slots.take(), slots.len()), (None, None, 0));
        assert_eq!((slots.expected(0), slots.due_after(0, 0)), (0, 0));
        assert!(slots.density(0) < f64::EPSILON);
    }

    #[test]
    fn a_slot_is_small_for_there_are_millions_of_them() {
        assert_eq!(size_of::<Slot>(), 16);
    }
}
