//! Stamps of updates: which are news, which are old, and which tell that their maker began anew.

use crate::cluster::message::Stamp;

/// The last update of one kind that a node made.
///
/// What its maker sent us himself and what others pass on are counted apart: everybody can write a path and a number, and one
/// high number made up by somebody else would make all that the maker says from then on look old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counter {
    /// The last of all.
    stamp: Stamp,
    /// The last one that its maker sent us himself.
    direct: Stamp,
    /// The connection that it came by.
    connection: Option<u64>,
    /// The seconds in the first one of the life that its maker is in, if he began anew before our eyes: what was made before
    /// is of an earlier life, whatever its number.
    life: Option<i32>,
}

/// What an update is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It came before, or something newer did.
    Old,
    /// Its maker says himself what others passed on before: to be taken, but it is everywhere already.
    Repeated,
    /// It is news.
    News,
    /// It is news, and its maker has counted from 0 again.
    Restart,
}

/// The stamps of our own updates of one kind.
///
/// A genuine node that knew us in an earlier life takes nothing of us until it sees number 0, or a number above the last one
/// of that life. So the first update that each neighbour gets is number 0 of our start; the later ones count up for all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamper {
    seq: i32,
    /// When we started.
    began: i32,
}

impl Counter {
    /// Looks at an update with `stamp`; `direct`: the connection that it came by, if its maker sent it himself.
    ///
    /// Genuine nodes take a higher number, or 0 (OpenSIPS 3.6 `node_info.h`, `validate_update`): a node that restarts tells
    /// one neighbour 0 and the next one 1, who goes on believing what was before. So a lower number is taken as well when
    /// its maker sent it himself and either clock or connection is another one. In one connection, numbers only go up.
    pub(super) fn look(&mut self, stamp: Stamp, direct: Option<u64>) -> Worth {
        match direct {
            Some(connection) => self.look_at_direct(stamp, connection),
            None => self.look_at_flooded(stamp),
        }
    }

    /// Takes a stamp without a look at it, as genuine nodes do with what a node says of its own links.
    pub(super) fn set(&mut self, stamp: Stamp, is_direct: bool) {
        self.stamp = stamp;
        if is_direct {
            self.direct = stamp;
        }
    }

    /// The last one; -1 before the first.
    pub(super) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Only what its maker said himself speaks against it.
    fn look_at_direct(&mut self, stamp: Stamp, connection: u64) -> Worth {
        let last = self.direct;
        let is_again = (0..=last.seq).contains(&stamp.seq);
        let began_anew = is_again
            && stamp != last
            && (stamp.timestamp > last.timestamp || self.connection != Some(connection));
        if !is_higher(stamp, last) && !began_anew {
            return Worth::Old;
        }
        let is_repeated = stamp == self.stamp;
        self.stamp = stamp;
        self.direct = stamp;
        self.connection = Some(connection);
        if is_again {
            self.life = Some(stamp.timestamp);
            return Worth::Restart;
        }
        // With its clock set back in the middle of a life, what it makes from then on is no older.
        self.life = self.life.map(|life| life.min(stamp.timestamp));
        if is_repeated {
            Worth::Repeated
        } else {
            Worth::News
        }
    }

    fn look_at_flooded(&mut self, stamp: Stamp) -> Worth {
        let is_of_earlier_life = self.life.is_some_and(|life| stamp.timestamp < life);
        if is_of_earlier_life || !is_higher(stamp, self.stamp) {
            return Worth::Old;
        }
        self.stamp = stamp;
        Worth::News
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            stamp: BEFORE_ALL,
            direct: BEFORE_ALL,
            connection: None,
            life: None,
        }
    }
}

impl Stamper {
    /// Of a process that started at `unix` seconds since 1970.
    pub(super) fn new(unix: i64) -> Self {
        Self {
            seq: 0,
            began: seconds(unix),
        }
    }

    /// The one of the first update that a neighbour gets, the same for each.
    pub(super) const fn first(&self) -> Stamp {
        Stamp {
            seq: 0,
            timestamp: self.began,
        }
    }

    /// The next one, at `unix` seconds since 1970.
    pub(super) fn next(&mut self, unix: i64) -> Stamp {
        // After 2^31 updates: 0 again, which is taken as a restart; anything else would never be taken.
        self.seq = self.seq.checked_add(1).unwrap_or(0);
        Stamp {
            seq: self.seq,
            timestamp: seconds(unix),
        }
    }
}

/// Whether genuine nodes take `stamp` for newer than `last`.
const fn is_higher(stamp: Stamp, last: Stamp) -> bool {
    if stamp.seq == 0 {
        !(last.seq == 0 && stamp.timestamp <= last.timestamp)
    } else {
        stamp.seq > last.seq
    }
}

fn seconds(unix: i64) -> i32 {
    i32::try_from(unix.max(0)).unwrap_or(i32::MAX)
}

/// The stamp of what was never told.
pub(super) const BEFORE_ALL: Stamp = Stamp {
    seq: -1,
    timestamp: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seq: i32, timestamp: i32) -> Stamp {
        Stamp { seq, timestamp }
    }

    fn after(stamps: &[Stamp]) -> Counter {
        let mut counter = Counter::default();
        for stamp in stamps {
            counter.set(*stamp, false);
        }
        counter
    }

    #[test]
    fn flooded_updates_are_taken_as_genuine_nodes_take_them() {
        for (last, next, is_taken) in [
            (at(-1, 0), at(0, 0), true),
            (at(-1, 0), at(7, 100), true),
            (at(-1, 0), at(-1, 100), false),
            (at(5, 100), at(5, 100), false),
            (at(5, 100), at(5, 200), false),
            (at(5, 100), at(4, 200), false),
            (at(5, 100), at(6, 50), true),
            (at(5, 100), at(0, 50), true),
            (at(0, 100), at(0, 100), false),
            (at(0, 100), at(0, 99), false),
            (at(0, 100), at(0, 101), true),
            (at(5, 100), at(i32::MIN, 200), false),
        ] {
            let mut counter = after(&[last]);
            let worth = counter.look(next, None);
            assert_eq!(worth == Worth::News, is_taken, "{last:?} {next:?}");
            assert_eq!(counter.stamp(), if is_taken { next } else { last });
        }
    }

    #[test]
    fn a_node_that_restarted_and_told_another_one_first_is_believed() {
        let mut counter = Counter::default();
        assert_eq!(counter.look(at(57, 100), Some(1)), Worth::News);
        assert_eq!(counter.look(at(1, 130), Some(2)), Worth::Restart);
        // What the other one floods of it later: taken as genuine nodes take it, and no restart again.
        assert_eq!(counter.look(at(0, 130), None), Worth::News);
        assert_eq!(counter.look(at(2, 131), Some(2)), Worth::News);
    }

    #[test]
    fn a_restart_with_the_clock_set_back_shows_by_its_connection() {
        let mut counter = Counter::default();
        assert_eq!(counter.look(at(57, 1_000_000), Some(1)), Worth::News);
        assert_eq!(counter.look(at(3, 5), Some(1)), Worth::Old);
        assert_eq!(counter.look(at(3, 5), Some(2)), Worth::Restart);
    }

    #[test]
    fn who_only_connects_again_did_not_restart() {
        let mut counter = Counter::default();
        assert_eq!(counter.look(at(4, 100), Some(1)), Worth::News);
        assert_eq!(counter.look(at(5, 101), Some(2)), Worth::News);
        // Another node's copy of it was faster.
        assert_eq!(counter.look(at(6, 102), None), Worth::News);
        assert_eq!(counter.look(at(6, 102), Some(3)), Worth::Repeated);
        assert_eq!(counter.look(at(6, 102), Some(4)), Worth::Old);
    }

    #[test]
    fn what_others_make_up_does_not_make_what_the_maker_says_old() {
        let mut counter = Counter::default();
        assert_eq!(counter.look(at(4, 100), Some(1)), Worth::News);
        let made_up = at(i32::MAX, i32::MAX);
        assert_eq!(counter.look(made_up, None), Worth::News);
        assert_eq!(counter.look(at(5, 101), Some(1)), Worth::News);
        // What is passed on counts from there again.
        assert_eq!(counter.look(at(5, 101), None), Worth::Old);
        assert_eq!(counter.look(at(6, 102), None), Worth::News);
    }

    #[test]
    fn what_is_passed_on_of_an_earlier_life_is_old_whatever_its_number() {
        let mut counter = Counter::default();
        assert_eq!(counter.look(at(5, 100), Some(1)), Worth::News);
        assert_eq!(counter.look(at(0, 200), Some(2)), Worth::Restart);
        assert_eq!(counter.look(at(6, 190), None), Worth::Old);
        assert_eq!(counter.look(at(1, 200), None), Worth::News);
        // Its clock is set back: its word for it is enough.
        assert_eq!(counter.look(at(2, 50), None), Worth::Old);
        assert_eq!(counter.look(at(2, 50), Some(2)), Worth::News);
        assert_eq!(counter.look(at(3, 51), None), Worth::News);
    }

    #[test]
    fn our_own_numbers_begin_at_0_and_never_stop() {
        let mut stamper = Stamper::new(1_700_000_000);
        assert_eq!(stamper.first(), at(0, 1_700_000_000));
        assert_eq!(stamper.next(-5), at(1, 0));
        assert_eq!(stamper.next(i64::MAX), at(2, i32::MAX));
        stamper.seq = i32::MAX;
        assert_eq!(stamper.next(7), at(0, 7));
        assert_eq!(stamper.first(), at(0, 1_700_000_000));
    }
}
