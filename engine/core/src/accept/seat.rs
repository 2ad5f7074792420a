//! The right of a connection to be there. Whoever drops it gives the place back, however the connection ended.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admission::{Room, Source};
use crate::access::Access;
use crate::stream::{RefuseReason, StreamLimits};

/// The places for connections, shared by who takes them and who gives them back.
///
/// Behind a lock that is taken when a connection comes, is handed on and goes, never for a packet.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Mutex<Room>>);

/// A place among all connections, among those of its source, and among those of its shard once it has one.
///
/// The place is given back when this is dropped, on whatever thread that is.
#[derive(Debug)]
pub(crate) struct Seat {
    /// `None` for one that counts nowhere.
    taken: Option<Taken>,
}

#[derive(Debug)]
struct Taken {
    places: Places,
    source: Source,
    shard: Option<usize>,
}

impl Places {
    /// All of them free.
    pub(super) fn new(limits: &StreamLimits, shards: usize) -> Self {
        Self(Arc::new(Mutex::new(Room::new(limits, shards))))
    }

    /// A place for a connection from `peer`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn admit(&self, access: &Access, peer: IpAddr) -> Result<Seat, RefuseReason> {
        let source = self.room().admit(access, peer)?;
        let taken = Taken {
            places: self.clone(),
            source,
            shard: None,
        };
        Ok(Seat { taken: Some(taken) })
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        // Each change is whole before anything in it could panic; a thread that did takes no places away.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// One that takes no place, for tests of who receives connections.
    #[cfg(test)]
    pub(crate) const fn free() -> Self {
        Self { taken: None }
    }

    /// The shard to hand the connection to, chosen at the first call: the one with the fewest then.
    pub(super) fn shard(&mut self) -> usize {
        let Some(taken) = &mut self.taken else {
            return 0;
        };
        let places = &taken.places;
        *taken.shard.get_or_insert_with(|| places.room().assign())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(taken) = &self.taken else {
            return;
        };
        let mut room = taken.places.room();
        room.leave(taken.source);
        if let Some(shard) = taken.shard {
            room.withdraw(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn places(connections: u32, per_source: u32, shards: usize) -> Places {
        let limits = StreamLimits {
            connections,
            per_source,
            ..StreamLimits::default()
        };
        Places::new(&limits, shards)
    }

    #[test]
    fn a_dropped_seat_gives_back_its_place_of_the_source_of_all_and_of_the_shard() {
        let places = places(2, 1, 2);
        let admit = |peer: &str| places.admit(&Access::any(), peer.parse().unwrap());
        let mut first = admit("10.0.0.1").unwrap();
        let mut second = admit("10.0.0.2").unwrap();
        assert_eq!((first.shard(), second.shard()), (0, 1));
        assert_eq!(first.shard(), 0, "once chosen, it stays");
        assert_eq!(admit("10.0.0.1").unwrap_err(), RefuseReason::PerSource);
        assert_eq!(admit("10.0.0.3").unwrap_err(), RefuseReason::Total);
        drop(second);
        let mut third = admit("10.0.0.2").unwrap();
        assert_eq!(third.shard(), 1, "the other has one already");
    }

    #[test]
    fn a_seat_without_a_shard_and_one_that_is_free_take_nothing_from_shards() {
        let places = places(8, 8, 2);
        let admit = || places.admit(&Access::any(), [10, 0, 0, 1].into()).unwrap();
        drop(admit());
        drop(Seat::free());
        let (mut first, mut second) = (admit(), admit());
        assert_eq!((first.shard(), second.shard()), (0, 1));
    }

    #[test]
    fn places_come_back_from_other_threads_to_the_last_one() {
        let places = places(64, 64, 3);
        let come_and_go = |n: u8| {
            let places = places.clone();
            move || {
                for _ in 0..200 {
                    let mut seat = places.admit(&Access::any(), [10, 0, 0, n].into()).unwrap();
                    seat.shard();
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|n| thread::spawn(come_and_go(n))).collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let all: Vec<_> = (0..64)
            .map(|_| places.admit(&Access::any(), [10, 0, 0, 9].into()))
            .collect();
        assert!(all.iter().all(Result::is_ok));
        let refused = places.admit(&Access::any(), [10, 0, 0, 8].into());
        assert_eq!(refused.unwrap_err(), RefuseReason::Total);
    }
}
