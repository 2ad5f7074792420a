//! Which places are due: a hierarchical timer wheel, in seconds.
//!
//! ```text
//!   level 0   64 lists, of one second each        what is due within this minute (of 64 s)
//!   level 1   64 lists, of 64 s each              within this hour, about
//!    ...                                          when its turn comes, a list is spread over the levels below, entry by entry
//!   level 5   4 lists, of 34 years each
//! ```
//!
//! A deadline that moves later stays in its list, and is put right when that comes up: a refreshed contact costs one store.
//! The lists go through the entries themselves, so nothing is allocated and every entry can be taken out.
//!
//! Time goes on only. After a clock was set back all lists are given up, and every step sorts one place in again: that takes as many
//! steps as there are places, and until then nothing is due.

/// Deadlines of places.
pub(super) struct Wheel {
    /// First place of each list, and the list of what is due.
    heads: [u32; LISTS],
    /// Which lists of a level have entries.
    occupied: [u64; LEVELS],
    /// All lists before this second are empty.
    at: u32,
    /// The list that is being emptied.
    open: Option<usize>,
    len: usize,
    /// Places from this one on are in no list, whatever their timers say: they come in one by one. [`NONE`]: all are sorted in.
    unsorted: u32,
}

/// What the wheel knows of a place.
#[derive(Default, Clone, Copy)]
pub(super) struct Timer {
    prev: u32,
    next: u32,
    /// When the place is due.
    pub(super) deadline: u32,
    /// One more than the number of its list; 0: in none.
    list: u32,
}

/// Where the timers are: beside the records, so that one access to memory gets both.
pub(super) trait Timers {
    fn timer(&self, place: u32) -> &Timer;

    fn timer_mut(&mut self, place: u32) -> &mut Timer;
}

/// What came of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This place is due. It is in no list any more.
    Due(u32),
    /// Something was moved nearer.
    Moved,
    /// This place is not in its list yet, since time went back: it may get another deadline, and is to be
    /// [linked](Wheel::link_noted) then.
    Unsorted(u32),
    /// Nothing is due at this time.
    Done,
}

impl Wheel {
    pub(super) const fn new() -> Self {
        Self {
            heads: [NONE; LISTS],
            occupied: [0; LEVELS],
            at: 0,
            open: None,
            len: 0,
            unsorted: NONE,
        }
    }

    /// `place` is due at second `deadline`; [`NEVER`]: it is not.
    pub(super) fn set(&mut self, of: &mut impl Timers, place: u32, deadline: u32) {
        let timer = of.timer_mut(place);
        let is_sooner = deadline < timer.deadline || timer.deadline == NEVER;
        timer.deadline = deadline;
        if place >= self.unsorted {
            return;
        }
        let is_listed = timer.list != 0;
        if deadline == NEVER || (is_listed && !is_sooner) {
            return;
        }
        if is_listed {
            self.unlink(of, place);
        }
        self.link(of, place);
    }

    /// It is `now`: what is not in the wheel yet need not come all the way from 1970.
    pub(super) fn start(&mut self, now: u32) {
        if self.len == 0 {
            self.at = self.at.max(now);
        }
    }

    /// It is `now` again: sorts everything in anew.
    pub(super) const fn go_back(&mut self, now: u32) {
        *self = Self::new();
        self.at = now;
        self.unsorted = 0;
    }

    /// The time that it came to.
    pub(super) const fn at(&self) -> u32 {
        self.at
    }

    /// A deadline that was set beside the wheel counts.
    pub(super) fn link_noted(&mut self, of: &mut impl Timers, place: u32) {
        let timer = of.timer(place);
        if place < self.unsorted && timer.list == 0 && timer.deadline != NEVER {
            self.link(of, place);
        }
    }

    /// `place` is free.
    pub(super) fn clear(&mut self, of: &mut impl Timers, place: u32) {
        if place < self.unsorted && of.timer(place).list != 0 {
            self.unlink(of, place);
        }
        *of.timer_mut(place) = Timer::default();
    }

    /// Goes on to second `now` by one entry. There are `places` of them, and all places before that have timers.
    pub(super) fn step(&mut self, of: &mut impl Timers, places: u32, now: u32) -> Step {
        if self.unsorted != NONE {
            if self.unsorted < places {
                let place = self.unsorted;
                self.unsorted += 1;
                of.timer_mut(place).list = 0;
                return Step::Unsorted(place);
            }
            self.unsorted = NONE;
        }
        let list = match self.open {
            Some(list) if self.heads[list] != NONE => list,
            _ => match self.next_list(now) {
                Some(list) => list,
                None => return Step::Done,
            },
        };
        self.open = Some(list);
        let place = self.heads[list];
        self.unlink(of, place);
        match of.timer(place).deadline {
            NEVER => Step::Moved,
            deadline if deadline <= now.max(self.at) => Step::Due(place),
            _ => {
                self.link(of, place);
                Step::Moved
            }
        }
    }

    /// The first list with entries whose time begins at `now` or before; time goes on to there.
    fn next_list(&mut self, now: u32) -> Option<usize> {
        self.open = None;
        if self.heads[DUE] != NONE {
            return Some(DUE);
        }
        // What a level has is later than all that lower ones have.
        for (level, occupied) in self.occupied.iter().enumerate() {
            if *occupied == 0 {
                continue;
            }
            let shift = BITS * level;
            let digit = occupied.trailing_zeros();
            let above = u64::from(self.at) >> (shift + BITS) << (shift + BITS);
            let begins = u32::try_from(above | u64::from(digit) << shift).unwrap_or(u32::MAX);
            if begins > now {
                break;
            }
            self.at = begins;
            return Some(level * SLOTS + digit as usize);
        }
        self.at = self.at.max(now);
        None
    }

    fn link(&mut self, of: &mut impl Timers, place: u32) {
        let list = self.list_of(of.timer(place).deadline);
        let next = std::mem::replace(&mut self.heads[list], place);
        if next != NONE {
            of.timer_mut(next).prev = place;
        }
        let timer = of.timer_mut(place);
        (timer.prev, timer.next) = (NONE, next);
        timer.list = u32::try_from(list).expect("some hundred lists") + 1;
        if list != DUE {
            self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
        }
        self.len += 1;
    }

    fn unlink(&mut self, of: &mut impl Timers, place: u32) {
        let timer = *of.timer(place);
        let list = timer.list as usize - 1;
        of.timer_mut(place).list = 0;
        if timer.next != NONE {
            of.timer_mut(timer.next).prev = timer.prev;
        }
        if timer.prev == NONE {
            self.heads[list] = timer.next;
        } else {
            of.timer_mut(timer.prev).next = timer.next;
        }
        if self.heads[list] == NONE && list != DUE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
        self.len -= 1;
    }

    /// The list for a deadline: the level of the highest digit in which it differs from now.
    fn list_of(&self, deadline: u32) -> usize {
        if deadline <= self.at {
            return DUE;
        }
        let highest = (deadline ^ self.at).ilog2() as usize;
        let level = highest / BITS;
        level * SLOTS + (deadline >> (BITS * level)) as usize % SLOTS
    }
}

/// A deadline that does not come.
pub(super) const NEVER: u32 = 0;

const NONE: u32 = u32::MAX;
const BITS: usize = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 6;
/// What is due already.
const DUE: usize = LEVELS * SLOTS;
const LISTS: usize = DUE + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::paged::Paged;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Timers for Paged<Timer> {
        fn timer(&self, place: u32) -> &Timer {
            &self[place]
        }

        fn timer_mut(&mut self, place: u32) -> &mut Timer {
            &mut self[place]
        }
    }

    fn timers() -> Paged<Timer> {
        let mut timers = Paged::new();
        timers.grow(32);
        timers
    }

    #[derive(Debug, Clone)]
    enum Op {
        Set(u32, u32),
        Never(u32),
        Clear(u32),
        Pass(u32, usize),
        Back(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        let after = prop_oneof![0..3_u32, 0..200_u32, 0..100_000_u32, any::<u32>()];
        prop_oneof![
            4 => (0..32_u32, after.clone()).prop_map(|(place, after)| Op::Set(place, after)),
            1 => (0..32_u32).prop_map(Op::Never),
            1 => (0..32_u32).prop_map(Op::Clear),
            1 => after.clone().prop_map(Op::Back),
            3 => (after, 0..60_usize).prop_map(|(by, steps)| Op::Pass(by, steps)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_due_comes_once_not_early_and_at_the_latest_when_it_is_asked_for(
            start: u32,
            ops in prop::collection::vec(op(), 1..200),
        ) {
            let (mut wheel, mut model) = (Wheel::new(), BTreeMap::new());
            let (mut now, mut timers) = (start, timers());
            wheel.start(start / 2);
            for op in ops {
                match op {
                    Op::Set(place, after) => {
                        let deadline = now.saturating_add(after).max(1);
                        wheel.set(&mut timers, place, deadline);
                        model.insert(place, deadline);
                    }
                    Op::Never(place) => {
                        wheel.set(&mut timers, place, NEVER);
                        model.remove(&place);
                    }
                    Op::Clear(place) => {
                        wheel.clear(&mut timers, place);
                        model.remove(&place);
                    }
                    Op::Back(by) => {
                        now = now.saturating_sub(by);
                        wheel.go_back(now);
                    }
                    Op::Pass(by, steps) => {
                        now = now.saturating_add(by);
                        let mut is_done = false;
                        for _ in 0..steps {
                            match wheel.step(&mut timers, 32, now) {
                                Step::Due(place) => {
                                    let deadline = model.remove(&place);
                                    prop_assert!(deadline.is_some_and(|at| at <= now));
                                    wheel.clear(&mut timers, place);
                                }
                                Step::Moved => {}
                                Step::Unsorted(place) => wheel.link_noted(&mut timers, place),
                                Step::Done => {
                                    is_done = true;
                                    break;
                                }
                            }
                        }
                        if is_done {
                            prop_assert!(model.values().all(|deadline| *deadline > now));
                        }
                    }
                }
            }
            // An entry moves at most once per level, and once for having been moved later.
            for _ in 0..32 * (LEVELS + 3) * 2 {
                match wheel.step(&mut timers, 32, u32::MAX) {
                    Step::Due(place) => {
                        prop_assert!(model.remove(&place).is_some());
                        wheel.clear(&mut timers, place);
                    }
                    Step::Unsorted(place) => wheel.link_noted(&mut timers, place),
                    Step::Moved | Step::Done => {}
                }
            }
            prop_assert!(model.is_empty());
            prop_assert_eq!(wheel.step(&mut timers, 32, u32::MAX), Step::Done);
            prop_assert_eq!(wheel.len, 0);
        }
    }

    #[test]
    fn after_time_went_back_all_that_was_there_is_due_when_it_says_and_not_before() {
        let (mut wheel, mut timers) = (Wheel::new(), timers());
        wheel.set(&mut timers, 1, 5000);
        wheel.set(&mut timers, 2, 1001);
        while wheel.step(&mut timers, 32, 1000) != Step::Done {}
        wheel.set(&mut timers, 3, 1000);
        assert_eq!(wheel.at(), 1000);
        wheel.go_back(500);
        wheel.set(&mut timers, 4, 501);
        wheel.clear(&mut timers, 2);
        let mut due = Vec::new();
        for now in [500, 501, 999, 1000, 1001, 5000] {
            loop {
                match wheel.step(&mut timers, 32, now) {
                    Step::Due(place) => due.push((now, place)),
                    Step::Unsorted(place) => wheel.link_noted(&mut timers, place),
                    Step::Moved => {}
                    Step::Done => break,
                }
            }
        }
        assert_eq!(due, [(501, 4), (1000, 3), (5000, 1)]);
    }

    #[test]
    fn time_that_is_a_little_behind_brings_nothing_twice() {
        let (mut wheel, mut timers) = (Wheel::new(), timers());
        wheel.set(&mut timers, 1, 1000);
        while wheel.step(&mut timers, 32, 2000) != Step::Done {}
        wheel.set(&mut timers, 2, 1500);
        assert_eq!(wheel.step(&mut timers, 32, 1000), Step::Due(2));
        assert_eq!(wheel.step(&mut timers, 32, 1000), Step::Done);
    }
}
