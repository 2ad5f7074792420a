//! Packets that wait, in order, in memory that was there from the start.
//!
//! ```text
//!   push ──▶ filling  │ packet │ packet │ packet │            behind the lock of the link
//!               ▲ swapped when the other is empty: no byte is moved
//!               ▼
//!            draining │ (taken) │ pac┆ket │ packet │           lent to who writes, outside of the lock
//!                               head ┘ a packet that was begun
//! ```
//!
//! Packets lie one behind the other without gaps, so many of them are one slice, and one system call. A ring would
//! need half of the memory, but whoever writes from it would have to keep others from adding to it meanwhile.

use std::collections::VecDeque;
use std::mem;

use crate::clock::Timestamp;

/// The packets of one kind that wait for one peer: bounded in bytes and in packets, first in, first out.
#[derive(Debug)]
pub(super) struct Queue {
    filling: Half,
    draining: Half,
    bytes_max: usize,
    packets_max: usize,
    /// Bytes in both halves, those lent included.
    bytes: usize,
    /// Packets in both halves that no byte, or not every byte, was taken of.
    packets: usize,
}

/// One of the two buffers of a [`Queue`].
#[derive(Debug, Default)]
pub(super) struct Half {
    bytes: Vec<u8>,
    /// Where the bytes begin that were not taken.
    head: usize,
    packets: VecDeque<Stamp>,
    /// Bytes of the first packet that were taken; it was begun when this is not 0.
    begun: usize,
}

#[derive(Debug, Clone, Copy)]
struct Stamp {
    len: u32,
    /// Since when it waits for the peer; the beginning of time for who was to be sent at once.
    at: Timestamp,
}

/// Packets, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Queue {
    /// Room for that much, allocated here and nowhere else.
    pub(super) fn new(bytes_max: usize, packets_max: usize) -> Self {
        let half = || Half {
            bytes: Vec::with_capacity(bytes_max),
            packets: VecDeque::with_capacity(packets_max),
            ..Half::default()
        };
        Self {
            filling: half(),
            draining: half(),
            bytes_max,
            packets_max,
            bytes: 0,
            packets: 0,
        }
    }

    pub(super) fn has_room(&self, packet_len: usize) -> bool {
        self.bytes + packet_len <= self.bytes_max && self.packets < self.packets_max
    }

    /// Adds a packet that there [is room](Self::has_room) for, and that is not empty.
    pub(super) fn push(&mut self, packet: &[u8], at: Timestamp) {
        let len = u32::try_from(packet.len()).expect("no packet is that long");
        self.filling.bytes.extend_from_slice(packet);
        self.filling.packets.push_back(Stamp { len, at });
        self.bytes += packet.len();
        self.packets += 1;
    }

    /// The packets that are to be written next. None can be taken or given up until they are
    /// [given back](Self::give_back).
    pub(super) fn lend(&mut self) -> Half {
        self.refill();
        mem::take(&mut self.draining)
    }

    /// What was lent, and how much of it was taken since.
    pub(super) fn give_back(&mut self, half: Half, taken: Amount) {
        self.draining = half;
        self.forget(taken);
    }

    /// Gives up the packet that was begun; its bytes that were not taken will not be.
    pub(super) fn abandon_begun(&mut self) -> Amount {
        if self.draining.begun == 0 {
            return Amount::default();
        }
        let gone = self.draining.pop();
        self.forget(gone);
        gone
    }

    /// Gives up all packets that wait for `age_ns` at `now`, where those that were to be sent at once wait since
    /// `stopped`. Not the one that was begun, nor those behind it.
    pub(super) fn expire(&mut self, now: Timestamp, age_ns: u64, stopped: Timestamp) -> Amount {
        let mut gone = Amount::default();
        while self
            .expirable_since(stopped)
            .is_some_and(|since| now >= since.after(age_ns))
        {
            self.refill();
            gone += self.draining.pop();
        }
        self.forget(gone);
        gone
    }

    /// Gives up everything.
    pub(super) fn clear(&mut self) -> Amount {
        let packets = self.filling.packets.len() + self.draining.packets.len();
        let bytes = self.filling.left() + self.draining.left();
        let gone = Amount {
            packets: packets as u64,
            bytes: bytes as u64,
        };
        self.filling.clear();
        self.draining.clear();
        self.forget(gone);
        gone
    }

    /// Since when the first packet waits; see [`expire`](Self::expire).
    pub(super) fn since(&self, stopped: Timestamp) -> Option<Timestamp> {
        let first = self.front_half().packets.front()?;
        Some(first.at.max(stopped))
    }

    /// Whether a part of a packet was taken. Not while it is lent.
    pub(super) const fn is_begun(&self) -> bool {
        self.draining.begun > 0
    }

    /// Whether packets came since the last [`lend`](Self::lend) that could not be lent with the others.
    pub(super) fn has_more(&self) -> bool {
        !self.filling.packets.is_empty()
    }

    /// As [`since`](Self::since), but `None` when the first packet was begun, so that none can expire.
    pub(super) fn expirable_since(&self, stopped: Timestamp) -> Option<Timestamp> {
        self.since(stopped).filter(|_| self.front_half().begun == 0)
    }

    /// What waits, that is lent included.
    pub(super) const fn amount(&self) -> Amount {
        Amount {
            packets: self.packets as u64,
            bytes: self.bytes as u64,
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> [usize; 4] {
        let halves = [&self.filling, &self.draining];
        let [a, b] = halves.map(|half| (half.bytes.capacity(), half.packets.capacity()));
        [a.0, a.1, b.0, b.1]
    }

    fn front_half(&self) -> &Half {
        if self.draining.packets.is_empty() {
            &self.filling
        } else {
            &self.draining
        }
    }

    fn refill(&mut self) {
        if self.draining.packets.is_empty() {
            self.draining.clear();
            mem::swap(&mut self.filling, &mut self.draining);
        }
    }

    fn forget(&mut self, gone: Amount) {
        let index = |count| usize::try_from(count).expect("was counted in a usize");
        self.bytes -= index(gone.bytes);
        self.packets -= index(gone.packets);
    }
}

impl Half {
    /// The bytes that were not taken: the rest of a packet that was begun, then whole packets.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    /// How many of them belong to a packet that was begun.
    pub(super) fn begun_left(&self) -> usize {
        match self.packets.front() {
            Some(first) if self.begun > 0 => first.len as usize - self.begun,
            _ => 0,
        }
    }

    /// Takes `count` bytes from the front; the packets whose last byte was among them.
    pub(super) fn take(&mut self, count: usize) -> Amount {
        debug_assert!(count <= self.left());
        self.head += count;
        self.begun += count;
        let mut packets = 0;
        while let Some(first) = self.packets.front()
            && self.begun >= first.len as usize
        {
            self.begun -= first.len as usize;
            self.packets.pop_front();
            packets += 1;
        }
        Amount {
            packets,
            bytes: count as u64,
        }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.head
    }

    /// Drops the first packet, or what is left of it.
    fn pop(&mut self) -> Amount {
        let Some(first) = self.packets.pop_front() else {
            return Amount::default();
        };
        let left = first.len as usize - mem::take(&mut self.begun);
        self.head += left;
        Amount {
            packets: 1,
            bytes: left as u64,
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
        self.head = 0;
        self.begun = 0;
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AGO: Timestamp = Timestamp::from_nanos(0);

    fn at(ns: u64) -> Timestamp {
        Timestamp::from_nanos(ns)
    }

    #[test]
    fn packets_come_out_as_they_went_in_and_the_memory_stays_what_it_was() {
        let mut queue = Queue::new(64, 8);
        let before = queue.capacity();
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for round in 0..100_u8 {
            let packet = [round; 13];
            while queue.has_room(packet.len()) {
                queue.push(&packet, LONG_AGO);
                went.extend_from_slice(&packet);
            }
            let mut half = queue.lend();
            let count = half.rest().len().min(usize::from(round % 40));
            came.extend_from_slice(&half.rest()[..count]);
            let taken = half.take(count);
            queue.give_back(half, taken);
        }
        assert!(came.len() > 1000 && went.starts_with(&came));
        let mut capacity = queue.capacity();
        // Halves change places.
        if capacity[..2] != before[..2] {
            capacity.rotate_left(2);
        }
        assert_eq!(capacity, before);
    }

    #[test]
    fn large_packets_that_come_while_others_are_written_allocate_nothing() {
        let mut queue = Queue::new(512 << 10, 64);
        let before: usize = queue.capacity().iter().sum();
        let packet = [7; 32 << 10];
        for _ in 0..50 {
            let mut half = queue.lend();
            while queue.has_room(packet.len()) {
                queue.push(&packet, LONG_AGO);
            }
            let taken = half.take(half.rest().len() / 3);
            queue.give_back(half, taken);
        }
        assert_eq!(queue.capacity().iter().sum::<usize>(), before);
    }

    #[test]
    fn a_queue_is_full_at_its_bytes_and_at_its_packets() {
        let mut queue = Queue::new(10, 3);
        assert!(queue.has_room(10) && !queue.has_room(11));
        (0..3).for_each(|_| queue.push(b"x", LONG_AGO));
        assert!(!queue.has_room(1));
        let mut half = queue.lend();
        assert!(!queue.has_room(1), "what is lent is still in it");
        let taken = half.take(1);
        queue.give_back(half, taken);
        assert!(queue.has_room(8) && !queue.has_room(9));
    }

    #[test]
    fn a_packet_that_was_begun_is_given_up_alone_and_does_not_expire() {
        let mut queue = Queue::new(64, 8);
        (1..=3).for_each(|fill| queue.push(&[fill; 10], LONG_AGO));
        let mut half = queue.lend();
        let taken = half.take(14);
        assert_eq!((taken.packets, half.begun_left()), (1, 6));
        queue.give_back(half, taken);
        assert_eq!(queue.expire(at(5), 1, at(1)), Amount::default());
        let gone = queue.abandon_begun();
        assert_eq!((gone.packets, gone.bytes), (1, 6));
        assert_eq!(queue.abandon_begun(), Amount::default());
        assert_eq!(queue.lend().rest(), [3; 10]);
    }

    #[test]
    fn packets_expire_in_both_halves_from_the_moment_at_which_they_began_to_wait() {
        let mut queue = Queue::new(64, 8);
        queue.push(b"sent at once", LONG_AGO);
        queue.push(b"waits since 7", at(7));
        let half = queue.lend();
        queue.give_back(half, Amount::default());
        queue.push(b"since 9", at(9));
        assert_eq!(queue.since(at(5)), Some(at(5)));
        assert_eq!(queue.expire(at(14), 10, at(5)).packets, 0);
        assert_eq!(queue.expire(at(15), 10, at(5)).packets, 1);
        assert_eq!(queue.expire(at(18), 10, at(5)).packets, 1);
        assert_eq!(queue.since(at(5)), Some(at(9)));
        assert_eq!(queue.clear().bytes, 7);
        assert_eq!(
            (queue.since(at(5)), queue.bytes, queue.packets),
            (None, 0, 0)
        );
    }
}
