//! Who may come in, and to which shard: limits in total and per source, and who has the fewest connections.
//!
//! Pure: no socket, no lock, no clock. [`seat`](crate::accept::seat) shares one of these between the acceptor, which
//! takes places, and the shards, which give them back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};

use crate::access::Access;
use crate::stream::{RefuseReason, StreamLimits};

/// The places there are, and who has how many of them.
#[derive(Debug)]
pub(crate) struct Room {
    connections_max: u32,
    per_source_max: u32,
    /// Places taken: connections of shards, and those that shake hands.
    taken: u32,
    /// Places taken by source; one that has none has no row. So there are at most as many rows as places, and who
    /// comes from ever new addresses makes it no larger.
    sources: HashMap<Source, u32>,
    /// Connections of each shard.
    shards: Box<[u32]>,
    /// The shard whose turn it is among those with equally few.
    next: usize,
}

/// Who counts as one: an IPv4 address, or an IPv6 network of 64 bits.
///
/// A host has all of its /64 to choose addresses from (RFC 4291 2.5.4, RFC 8981), so a limit per IPv6 address would
/// be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl Room {
    /// Nobody is in it yet.
    ///
    /// # Panics
    /// When there is no shard.
    pub(crate) fn new(limits: &StreamLimits, shards: usize) -> Self {
        assert!(shards > 0, "connections for nobody");
        Self {
            connections_max: limits.connections,
            per_source_max: limits.per_source,
            taken: 0,
            sources: HashMap::new(),
            shards: vec![0; shards].into(),
            next: 0,
        }
    }

    /// Takes a place for a connection from `peer`.
    ///
    /// # Errors
    /// Why there is none. The limit per source is asked before the one in total: where both are reached, it names
    /// who is to blame, and `total` then tells of those who suffer.
    pub(crate) fn admit(&mut self, access: &Access, peer: IpAddr) -> Result<Source, RefuseReason> {
        if !access.allows(peer) {
            return Err(RefuseReason::Acl);
        }
        let source = Source::of(peer);
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        if of_source >= self.per_source_max {
            return Err(RefuseReason::PerSource);
        }
        if self.taken >= self.connections_max {
            return Err(RefuseReason::Total);
        }
        self.taken += 1;
        self.sources.insert(source, of_source + 1);
        Ok(source)
    }

    /// Gives back a place that [`admit`](Self::admit) took.
    pub(crate) fn leave(&mut self, source: Source) {
        self.taken -= 1;
        if let Entry::Occupied(mut row) = self.sources.entry(source) {
            *row.get_mut() -= 1;
            if *row.get() == 0 {
                row.remove();
            }
        }
    }

    /// The shard for the next connection, which counts as one of its from now on: the one with the fewest, and of
    /// several such the one that waited longest for its turn.
    pub(crate) fn assign(&mut self) -> usize {
        let count = self.shards.len();
        let turns = (self.next..count).chain(0..self.next);
        let shard = turns
            .min_by_key(|shard| self.shards[*shard])
            .expect("there is at least one shard");
        self.shards[shard] += 1;
        self.next = (shard + 1) % count;
        shard
    }

    /// A connection of `shard` is gone.
    pub(crate) fn withdraw(&mut self, shard: usize) {
        self.shards[shard] -= 1;
    }
}

impl Source {
    /// Which source an address belongs to. An IPv4-mapped IPv6 address counts as the IPv4 one.
    pub(crate) fn of(peer: IpAddr) -> Self {
        Self(match peer.to_canonical() {
            IpAddr::V6(peer) => Ipv6Addr::from_bits(peer.to_bits() & NETWORK_BITS).into(),
            peer => peer,
        })
    }
}

/// The upper 64 bits of an IPv6 address.
const NETWORK_BITS: u128 = !(u64::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn room(connections: u32, per_source: u32, shards: usize) -> Room {
        let limits = StreamLimits {
            connections,
            per_source,
            ..StreamLimits::default()
        };
        Room::new(&limits, shards)
    }

    #[test]
    fn an_ipv4_address_is_a_source_and_so_is_an_ipv6_network_of_64_bits() {
        let same = |a, b| Source::of(ip(a)) == Source::of(ip(b));
        assert!(!same("10.0.0.1", "10.0.0.2"));
        assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(!same("::ffff:10.0.0.1", "::ffff:10.0.0.2"));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
    }

    #[test]
    fn each_limit_has_its_own_word() {
        let mut room = room(3, 2, 1);
        let mut access = Access::nobody();
        access.allow("10.0.0.0/8".parse().unwrap()).unwrap();
        let mut admit = |peer| room.admit(&access, ip(peer)).map(drop);
        assert_eq!(admit("192.0.2.1"), Err(RefuseReason::Acl));
        assert_eq!(admit("10.0.0.1"), Ok(()));
        assert_eq!(admit("10.0.0.1"), Ok(()));
        assert_eq!(admit("10.0.0.1"), Err(RefuseReason::PerSource));
        assert_eq!(admit("10.0.0.2"), Ok(()));
        assert_eq!(admit("10.0.0.2"), Err(RefuseReason::Total));
        // Both are reached: the word is for the one who took more than his share.
        assert_eq!(admit("10.0.0.1"), Err(RefuseReason::PerSource));
        room.leave(Source::of(ip("10.0.0.1")));
        assert_eq!(room.admit(&access, ip("10.0.0.2")).map(drop), Ok(()));
    }

    #[test]
    fn limits_of_zero_let_nobody_in() {
        let any = Access::any();
        let refused = |mut room: Room| room.admit(&any, ip("10.0.0.1")).unwrap_err();
        assert_eq!(refused(room(0, 1, 1)), RefuseReason::Total);
        assert_eq!(refused(room(1, 0, 1)), RefuseReason::PerSource);
    }

    #[test]
    fn equal_shards_take_turns_and_the_emptiest_comes_first() {
        let mut room = room(100, 100, 3);
        let turns: Vec<_> = (0..6).map(|_| room.assign()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        room.withdraw(1);
        room.withdraw(1);
        let turns: Vec<_> = (0..4).map(|_| room.assign()).collect();
        assert_eq!(turns, [1, 1, 2, 0]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Come(u8),
        /// The connection at this place of those that are in, counted round.
        Go(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..24_u8).prop_map(Step::Come),
            2 => any::<usize>().prop_map(Step::Go),
        ];
        proptest::collection::vec(step, 0..200)
    }

    /// Addresses of which some are one source and a quarter are not allowed.
    fn address(n: u8) -> IpAddr {
        match n % 4 {
            0 => ip(&format!("10.0.0.{}", n / 8)),
            1 => ip(&format!("::ffff:10.0.0.{}", n / 8)),
            2 => ip(&format!("2001:db8:0:{}::{n}", n / 8)),
            _ => ip(&format!("192.0.2.{n}")),
        }
    }

    /// The name by which the model knows a source: computed from the number, not from the address.
    fn name(n: u8) -> (bool, u8) {
        (n % 4 == 2, n / 8)
    }

    proptest! {
        #[test]
        fn a_plain_list_of_who_is_in_agrees(
            steps in steps(), total in 0..12_u32, per_source in 0..4_u32, shards in 1..5_usize,
        ) {
            let mut room = room(total, per_source, shards);
            let mut access = Access::nobody();
            access.allow("10.0.0.0/8".parse().unwrap()).unwrap();
            access.allow("2001:db8::/32".parse().unwrap()).unwrap();
            // Everybody who is in: a name, what the room calls it, and a shard.
            let mut inside: Vec<((bool, u8), Source, usize)> = Vec::new();
            let load = |inside: &[((bool, u8), Source, usize)], shard| inside.iter().filter(|row| row.2 == shard).count();
            for step in steps {
                match step {
                    Step::Come(n) => {
                        let of_source = inside.iter().filter(|row| row.0 == name(n)).count();
                        let expected = if n % 4 == 3 {
                            Err(RefuseReason::Acl)
                        } else if of_source >= per_source as usize {
                            Err(RefuseReason::PerSource)
                        } else if inside.len() >= total as usize {
                            Err(RefuseReason::Total)
                        } else {
                            Ok(())
                        };
                        let admitted = room.admit(&access, address(n));
                        prop_assert_eq!(admitted.map(drop), expected);
                        if let Ok(source) = admitted {
                            let fewest = (0..shards).map(|shard| load(&inside, shard)).min().unwrap();
                            let shard = room.assign();
                            prop_assert_eq!(load(&inside, shard), fewest);
                            inside.push((name(n), source, shard));
                        }
                    }
                    Step::Go(at) if !inside.is_empty() => {
                        let (_, source, shard) = inside.swap_remove(at % inside.len());
                        room.leave(source);
                        room.withdraw(shard);
                    }
                    Step::Go(_) => {}
                }
                let names: std::collections::HashSet<_> = inside.iter().map(|row| row.0).collect();
                prop_assert_eq!(room.sources.len(), names.len());
                prop_assert_eq!(room.taken as usize, inside.len());
            }
        }
    }
}
