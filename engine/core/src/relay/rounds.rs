//! Packets that come again and again.
//!
//! Three relays in a circle, each of which takes the stream of one and sends it to another, would send a packet round for ever, and
//! none of them can see that from its configuration: packets of 1.x do not say who made them, and in those of 2.2 and later each of
//! the three says that it did. But what a packet says of its record comes back as it was, whatever ids are around it. So the same
//! name, command and fields go on [`BURST_MAX`] times at once and then every [`EVERY_NS`], and no further. A packet in a circle is
//! one: the first time that it does not go on is its end. Nobody else says the same of a record that often: a phone that comes, goes
//! and comes again says another CSeq, another time to live or another Call-ID.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use crate::clock::Timestamp;

/// Which packets went on lately: their hashes, each in its place. Two that share a place forget one another, which lets a loop go on
/// for a round more.
pub(super) struct Rounds {
    keys: RandomState,
    places: Box<[Place]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    hash: u64,
    /// When it would have gone on last, had it come every [`EVERY_NS`].
    paced_ns: u64,
}

impl Rounds {
    pub(super) fn new() -> Self {
        Self {
            keys: RandomState::new(),
            places: vec![Place::default(); PLACES].into(),
        }
    }

    /// Whether what says `fields` by `command` under `name` may go on at `now`. Without the ids that stand around fields.
    pub(super) fn may_go_on(
        &mut self,
        name: &[u8],
        command: i32,
        fields: &[u8],
        now: Timestamp,
    ) -> bool {
        // 0 is the hash of no packet.
        let hash = self.keys.hash_one((name, command, fields)) | 1;
        let index = usize::try_from(hash >> 32).unwrap_or_default() % self.places.len();
        let (place, now_ns) = (&mut self.places[index], now.as_nanos());
        let paced_ns = match place.hash == hash {
            true => place.paced_ns.max(now_ns),
            false => now_ns,
        };
        if paced_ns - now_ns >= BURST_MAX * EVERY_NS {
            return false;
        }
        *place = Place {
            hash,
            paced_ns: paced_ns + EVERY_NS,
        };
        true
    }
}

/// Far more than anybody says the same for a reason, and few for a loop.
const BURST_MAX: u64 = 16;

/// Longer than a circle of machines takes, on however many continents they are.
const EVERY_NS: u64 = 500_000_000;

/// 1 MiB: the packets of some hundred milliseconds at least.
const PLACES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    /// How often the same goes on until it does not, `lap` ms after the last time each.
    fn laps(lap: u64) -> Option<usize> {
        let mut rounds = Rounds::new();
        (0..1000).position(|n| !rounds.may_go_on(b"ul", 3, b"fields", at(7 + n * lap)))
    }

    #[test]
    fn what_goes_round_ends_however_long_the_way_and_what_is_said_now_and_then_goes_on() {
        assert_eq!(laps(0), Some(16));
        assert!(laps(100).is_some_and(|laps| laps <= 20));
        assert!(laps(300).is_some_and(|laps| laps <= 40));
        assert_eq!(laps(500), None);
    }

    #[test]
    fn other_packets_are_not_held_up() {
        let mut rounds = Rounds::new();
        for _ in 0..BURST_MAX {
            assert!(rounds.may_go_on(b"ul", 3, b"fields", at(0)));
        }
        for (name, command, fields) in [
            (&b"dialog"[..], 3, &b"fields"[..]),
            (b"ul", 4, b"fields"),
            (b"ul", 3, b"others"),
        ] {
            assert!(rounds.may_go_on(name, command, fields, at(0)));
        }
        assert!(!rounds.may_go_on(b"ul", 3, b"fields", at(0)));
        // A pause makes up for it.
        assert!(rounds.may_go_on(b"ul", 3, b"fields", at(8000)));
    }
}
