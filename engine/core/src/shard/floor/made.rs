//! Packets that a handler made while it was called, until it has returned.

use crate::dispatch::handler::ShardId;

/// Copies of packets, one behind the other, in memory that is used again.
#[derive(Debug, Default)]
pub(in crate::shard) struct Made {
    /// Owner and length of each, in order.
    packets: Vec<(ShardId, usize)>,
    bytes: Vec<u8>,
}

impl Made {
    /// Adds a packet, if there is room for it.
    pub(super) fn push(&mut self, owner: ShardId, packet: &[u8]) -> bool {
        let has_room = packet.len() <= BYTES_MAX - self.bytes.len();
        if has_room {
            self.packets.push((owner, packet.len()));
            self.bytes.extend_from_slice(packet);
        }
        has_room
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// What was added, in order.
    pub(in crate::shard) fn packets(&self) -> impl Iterator<Item = (ShardId, &[u8])> {
        let mut rest = &self.bytes[..];
        self.packets.iter().map(move |(owner, len)| {
            let (packet, behind) = rest.split_at(*len);
            rest = behind;
            (*owner, packet)
        })
    }

    /// Forgets all, and keeps as much memory as a usual call needs.
    pub(super) fn clear(&mut self) {
        self.packets.clear();
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT);
    }
}

/// Bytes that one call may make: the longest packet for each of as many owners as there can be.
const BYTES_MAX: usize = 4 << 20;

/// What parts of a packet of the longest kind need, with their headers.
const BYTES_KEPT: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_in_order_and_what_is_too_much_is_not_taken() {
        let mut made = Made::default();
        assert!(made.is_empty());
        let owners = [2, 0, 2].map(ShardId);
        for (fill, owner) in (1..).zip(owners) {
            assert!(made.push(owner, &vec![fill; usize::from(fill) * 10]));
        }
        let seen: Vec<_> = made
            .packets()
            .map(|(owner, packet)| (owner, packet.len()))
            .collect();
        assert_eq!(seen, [(owners[0], 10), (owners[1], 20), (owners[2], 30)]);
        assert!(
            made.packets()
                .all(|(_, packet)| packet.len() == usize::from(packet[0]) * 10)
        );
        assert!(!made.push(ShardId(0), &vec![9; BYTES_MAX - 59]));
        assert!(made.push(ShardId(0), &vec![9; BYTES_MAX - 60]));
        assert!(!made.push(ShardId(0), b"x"));
        made.clear();
        assert!(made.is_empty() && made.bytes.capacity() <= BYTES_KEPT);
    }
}
