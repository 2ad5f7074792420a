//! Packets that wait, one behind the other in one piece of memory.
//!
//! ```text
//!   | len u32 | node i32 | arrived u64 | release u8 | packet | len ...
//! ```

use binrush_wire::Release;

use crate::clock::Timestamp;
use crate::cluster::replica::Source;

/// Whole packets and where they came from, first in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: Vec<u8>,
    /// Where the first one begins; before it lie some that are gone.
    head: usize,
    packets: u64,
    /// Of the packets that wait, without what is written beside them.
    bytes: u64,
}

/// A packet that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held<'a> {
    pub(super) arrived: Timestamp,
    pub(super) node: i32,
    pub(super) release: Release,
    pub(super) packet: &'a [u8],
}

impl Queue {
    /// Puts a packet behind all others; `false`: with it the queue would take more than `limit` bytes.
    pub(super) fn push(&mut self, source: &Source, packet: &[u8], limit: usize) -> bool {
        let frame = HEAD_LEN + packet.len();
        let Ok(len) = u32::try_from(packet.len()) else {
            return false;
        };
        if self.frames.len() - self.head + frame > limit {
            return false;
        }
        self.make_room(frame, limit);
        self.frames.extend_from_slice(&len.to_le_bytes());
        self.frames.extend_from_slice(&source.node.to_le_bytes());
        let arrived = source.now.as_nanos().to_le_bytes();
        self.frames.extend_from_slice(&arrived);
        self.frames.push(source.release as u8);
        self.frames.extend_from_slice(packet);
        self.packets += 1;
        self.bytes += u64::from(len);
        true
    }

    /// The first packet.
    pub(super) fn front(&self) -> Option<Held<'_>> {
        let rest = &self.frames[self.head..];
        let (len, rest) = rest.split_first_chunk()?;
        let (node, rest) = rest.split_first_chunk()?;
        let (arrived, rest) = rest.split_first_chunk()?;
        let (release, rest) = rest.split_first()?;
        Some(Held {
            arrived: Timestamp::from_nanos(u64::from_le_bytes(*arrived)),
            node: i32::from_le_bytes(*node),
            release: Release::ALL[usize::from(*release)],
            packet: &rest[..u32::from_le_bytes(*len) as usize],
        })
    }

    /// Removes the first packet. The last one takes the memory with it.
    pub(super) fn pop(&mut self) {
        let Some(held) = self.front() else {
            return;
        };
        let len = held.packet.len();
        self.head += HEAD_LEN + len;
        self.packets -= 1;
        self.bytes -= len as u64;
        if self.packets == 0 {
            *self = Self::default();
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// How many wait.
    pub(super) const fn packets(&self) -> u64 {
        self.packets
    }

    /// What they take together, as packets.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) const fn memory(&self) -> usize {
        self.frames.capacity()
    }

    /// Grows to no more than `limit`, and not at all where those that are gone left room enough.
    fn make_room(&mut self, frame: usize, limit: usize) {
        if self.frames.capacity() - self.frames.len() >= frame {
            return;
        }
        // Each byte is moved once for each that was read before it: at most once, on average. At the limit it may be more
        // often, but there some hundred packets are taken out for each that comes.
        let is_at_limit = self.frames.len() + frame > limit;
        if is_at_limit || self.head >= self.frames.len() / 2 {
            self.frames.drain(..self.head);
            self.head = 0;
        }
        let need = self.frames.len() + frame;
        if need > self.frames.capacity() {
            let wanted = (self.frames.capacity() * 2)
                .max(LEN_MIN)
                .clamp(need, limit.max(need));
            self.frames.reserve_exact(wanted - self.frames.len());
        }
    }
}

/// Of a frame, before its packet.
const HEAD_LEN: usize = 4 + 4 + 8 + 1;

/// The first memory that is taken.
const LEN_MIN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::handler::ShardId;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn source(n: u64) -> Source {
        Source {
            now: Timestamp::from_nanos(n),
            shard: ShardId(0),
            cluster: 1,
            node: i32::try_from(n % 100).unwrap() - 50,
            release: Release::ALL[usize::try_from(n % 12).unwrap()],
        }
    }

    #[test]
    fn the_last_packet_takes_the_memory_with_it() {
        let mut queue = Queue::default();
        assert!(queue.push(&source(1), &[7; 1000], 1 << 20));
        assert!(queue.memory() > 0);
        queue.pop();
        assert_eq!((queue.memory(), queue.front()), (0, None));
    }

    #[test]
    fn a_queue_takes_no_more_memory_than_its_limit() {
        let limit = 100_000;
        let mut queue = Queue::default();
        let mut taken = 0;
        while queue.push(&source(1), &[7; 350], limit) {
            taken += 1;
            assert!(queue.memory() <= limit, "{taken}");
        }
        assert_eq!(taken, limit / (HEAD_LEN + 350));
        // Nor where some are taken out, fewer than half.
        for _ in 0..taken / 3 {
            queue.pop();
        }
        while queue.push(&source(1), &[7; 350], limit) {
            assert!(queue.memory() <= limit);
        }
        assert_eq!(queue.packets(), taken as u64);
    }

    proptest! {
        /// Compared with a queue of vectors. `None` takes one out.
        #[test]
        fn what_goes_in_comes_out_in_order(
            steps in proptest::collection::vec(proptest::option::weighted(0.6, 0..3000_usize), 0..200),
            limit in 1..60_000_usize,
        ) {
            let (mut queue, mut model) = (Queue::default(), VecDeque::new());
            for (n, step) in (0..).zip(steps) {
                match step {
                    Some(len) => {
                        let packet = vec![u8::try_from(n % 251).unwrap(); len];
                        let taken = model.iter().map(|(_, packet): &(_, Vec<u8>)| HEAD_LEN + packet.len()).sum::<usize>();
                        let has_room = taken + HEAD_LEN + len <= limit;
                        prop_assert_eq!(queue.push(&source(n), &packet, limit), has_room);
                        if has_room {
                            model.push_back((source(n), packet));
                        }
                    }
                    None => {
                        let front = queue.front().map(|held| (held.arrived, held.node, held.release, held.packet.to_vec()));
                        let expected = model.pop_front().map(|(source, packet)| (source.now, source.node, source.release, packet));
                        prop_assert_eq!(front, expected);
                        queue.pop();
                    }
                }
                prop_assert_eq!(queue.packets(), model.len() as u64);
                prop_assert_eq!(queue.bytes(), model.iter().map(|(_, packet)| packet.len() as u64).sum::<u64>());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert!(queue.memory() <= limit);
            }
        }
    }
}
