//! Sending: what is to be sent, the trait that every backend fills, one file per backend.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// What to do when the kernel does not take a datagram.
mod delivery;
/// `UDP_SEGMENT`: many datagrams of equal length for the price of one.
pub mod gso;
/// What `sendmmsg(2)` is given.
mod messages;
/// A network that a test has for itself.
#[cfg(test)]
mod namespace;
/// `sendmmsg(2)`: many datagrams per system call; works everywhere, needs no privilege.
pub mod sendmmsg;

/// A way for datagrams to leave.
///
/// Used by one thread at a time.
pub trait Tx {
    /// Sends all datagrams of `batch` in order, and empties it.
    ///
    /// Waits for room only a bounded time, some milliseconds for the whole batch. What cannot be sent is counted and
    /// the next one tried, so `sent + failed` of the answer is what was in the batch.
    fn send(&mut self, batch: &mut TxBatch) -> Sent;
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that the kernel took. What it drops later, in a queue of the interface say, it does not tell here.
    pub sent: u64,
    /// Datagrams that it did not take.
    pub failed: u64,
    /// Why the first of those failed.
    pub error: Option<io::ErrorKind>,
}

/// Datagrams that are to be sent, each with its destination, in one piece of memory.
///
/// Made once for a fixed size, filled and sent again and again. Bytes and places are resident when
/// [`new`](Self::new) returns.
pub struct TxBatch {
    /// The bytes of all datagrams, one after the other: so a train is one piece. All of it can be written to; what lies
    /// behind the first `used` is left from before.
    bytes: Box<[u8]>,
    used: usize,
    outgoing: Vec<Outgoing>,
    datagrams_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Outgoing {
    to: SocketAddr,
    start: usize,
    len: usize,
}

impl TxBatch {
    /// Room for `datagrams` datagrams that have `bytes` bytes together.
    #[must_use]
    pub fn new(datagrams: usize, bytes: usize) -> Self {
        let nobody = Outgoing {
            to: SocketAddr::from(([0; 16], 0)),
            start: 0,
            len: 0,
        };
        // Written once, so that the first packet pays for no page.
        let mut batch = Self {
            bytes: vec![u8::MAX; bytes].into(),
            used: 0,
            outgoing: vec![nobody; datagrams],
            datagrams_max: datagrams,
        };
        batch.clear();
        batch
    }

    /// Copies `datagram`, which goes to `to`; `false` when there is no room: then nothing was taken.
    ///
    /// What is no datagram for its length or destination, its sending tells.
    #[inline]
    #[must_use = "a datagram that found no room is not in the batch"]
    pub fn push(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        if !self.has_room(datagram.len()) {
            return false;
        }
        self.bytes[self.used..][..datagram.len()].copy_from_slice(datagram);
        self.commit(to, datagram.len());
        true
    }

    /// Lets `write` make a datagram for `to` where it will be sent from, so that it is not copied: as
    /// [`push`](Self::push) does with one that there is already.
    ///
    /// `write` gets `len_max` bytes, in which is what was there before, and says how many of them are the datagram, from
    /// the first on. `Ok(false)` when there is no room for so many: then it was not asked.
    ///
    /// # Errors
    /// What `write` returned; nothing was taken then.
    ///
    /// # Panics
    /// When `write` says that the datagram is longer than `len_max`.
    #[inline]
    pub fn push_with<E>(
        &mut self,
        to: SocketAddr,
        len_max: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        if !self.has_room(len_max) {
            return Ok(false);
        }
        let len = write(&mut self.bytes[self.used..][..len_max])?;
        assert!(len <= len_max, "a datagram of {len} bytes in {len_max}");
        self.commit(to, len);
        Ok(true)
    }

    /// Whether one more datagram of `len` bytes has room.
    #[inline]
    #[must_use]
    pub const fn has_room(&self, len: usize) -> bool {
        self.outgoing.len() < self.datagrams_max && len <= self.bytes.len() - self.used
    }

    /// Forgets all datagrams.
    #[inline]
    pub fn clear(&mut self) {
        self.used = 0;
        self.outgoing.clear();
    }

    /// Takes the next `len` bytes, which have been written, for a datagram. There is a place for it: `has_room` said so,
    /// and so `outgoing` does not grow.
    #[inline]
    fn commit(&mut self, to: SocketAddr, len: usize) {
        let start = self.used;
        self.outgoing.push(Outgoing { to, start, len });
        self.used += len;
    }

    /// Destination and bytes of each datagram, in the order in which they were pushed.
    #[inline]
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = (SocketAddr, &[u8])> {
        let datagram = |at: &Outgoing| (at.to, &self.bytes[at.start..][..at.len]);
        self.outgoing.iter().map(datagram)
    }

    /// How many datagrams are in it.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.outgoing.len()
    }

    /// Whether nothing is in it.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// How many datagrams from `first` on can go as one train: to one destination, each as long as the first but for
    /// the last, which may be shorter, and at most `segments_max`. 1 for one that goes alone.
    fn train(&self, first: usize, segments_max: usize) -> usize {
        let head = &self.outgoing[first];
        let mut bytes = head.len;
        let mut count = 1;
        for next in self.outgoing[first + 1..].iter().take(segments_max - 1) {
            bytes += next.len;
            // A train cannot say that it ends in an empty datagram.
            let joins = next.to == head.to && (1..=head.len).contains(&next.len);
            if !joins || bytes > TRAIN_LEN_MAX {
                break;
            }
            count += 1;
            if next.len < head.len {
                break;
            }
        }
        count
    }
}

impl fmt::Debug for TxBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxBatch")
            .field("datagrams", &self.outgoing.len())
            .field("datagrams_max", &self.datagrams_max)
            .field("bytes", &self.used)
            .field("bytes_max", &self.bytes.len())
            .finish()
    }
}

/// The most bytes of a train: the largest payload of an IPv4 packet. One of IPv6 takes 20 more, which no train needs.
const TRAIN_LEN_MAX: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn port(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_batch_without_room_takes_nothing_of_a_datagram_and_keeps_the_others() {
        let mut batch = TxBatch::new(3, 10);
        assert!(batch.push(port(1), b"12345"));
        assert!(!batch.push(port(2), b"123456"), "no room for its bytes");
        assert!(batch.push(port(3), b""));
        assert!(batch.push(port(4), b"67890"));
        assert!(!batch.push(port(5), b""), "no place");
        let expected = [(1, &b"12345"[..]), (3, b""), (4, b"67890")];
        let seen: Vec<_> = batch
            .datagrams()
            .map(|(to, bytes)| (to.port(), bytes))
            .collect();
        assert_eq!(seen, expected);
        assert_eq!((batch.len(), batch.datagrams().len()), (3, 3));

        batch.clear();
        assert!(batch.is_empty() && batch.datagrams().next().is_none());
        assert!(batch.push(port(1), b"1234567890"));
    }

    #[test]
    fn a_datagram_written_in_its_place_is_one_like_those_that_were_copied() {
        let mut batch = TxBatch::new(3, 10);
        assert!(batch.push(port(1), b"12"));
        let three = |bytes: &mut [u8]| {
            assert_eq!(bytes.len(), 5);
            bytes[..3].copy_from_slice(b"345");
            Ok::<_, &str>(3)
        };
        assert_eq!(batch.push_with(port(2), 5, three), Ok(true));
        assert_eq!(
            batch.push_with(port(3), 5, |_| Err("not made")),
            Err("not made")
        );
        let never = |_: &mut [u8]| -> Result<usize, &str> { panic!("there is no room") };
        assert_eq!(batch.push_with(port(4), 6, never), Ok(false));
        assert!(
            batch.push(port(5), b"67890"),
            "what was not made took no room"
        );
        assert_eq!(batch.push_with(port(6), 0, never), Ok(false), "no place");
        let expected = [(1, &b"12"[..]), (2, b"345"), (5, b"67890")];
        let seen: Vec<_> = batch
            .datagrams()
            .map(|(to, bytes)| (to.port(), bytes))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    #[should_panic(expected = "a datagram of 4 bytes in 3")]
    fn a_datagram_longer_than_its_room_is_a_bug() {
        let _ = TxBatch::new(1, 10).push_with(port(1), 3, |_| Ok::<_, ()>(4));
    }

    #[test]
    fn a_batch_never_allocates_after_it_was_made() {
        let mut batch = TxBatch::new(64, 4096);
        let before = (batch.bytes.as_ptr(), batch.outgoing.as_ptr());
        for _ in 0..3 {
            while batch.push(port(1), &[7; 100]) {}
            assert_eq!(batch.len(), 40);
            batch.clear();
        }
        assert_eq!(before, (batch.bytes.as_ptr(), batch.outgoing.as_ptr()));
    }

    #[test]
    fn a_train_ends_before_it_is_too_long_for_a_packet() {
        let mut batch = TxBatch::new(200, 200 << 10);
        for _ in 0..100 {
            assert!(batch.push(port(1), &[1; 1400]));
        }
        // 46 of them are 64 400 bytes.
        assert_eq!(batch.train(0, 128), 46);
        assert_eq!(batch.train(90, 128), 10);
        assert_eq!(batch.train(0, 5), 5);
        assert_eq!(batch.train(0, 1), 1);
    }

    proptest! {
        /// Trains one after the other are all datagrams, and each is what the kernel takes for one.
        #[test]
        fn trains_are_what_the_kernel_takes(
            datagrams in prop::collection::vec((0_u16..3, 0_usize..4), 1..200),
            segments_max in 1_usize..20,
        ) {
            let mut batch = TxBatch::new(200, 1000);
            for &(to, len) in &datagrams {
                prop_assert!(batch.push(port(to), &[0; 4][..len]));
            }
            let mut first = 0;
            while first < datagrams.len() {
                let count = batch.train(first, segments_max);
                prop_assert!((1..=segments_max).contains(&count));
                let (to, len) = datagrams[first];
                if count > 1 {
                    let (last, whole) = datagrams[first..][..count].split_last().unwrap();
                    prop_assert!(whole.iter().all(|datagram| *datagram == (to, len)));
                    prop_assert!(last.0 == to && last.1 <= len && last.1 > 0);
                }
                // It ended for a reason: the limit, its last one, or one that does not belong to it.
                if count < segments_max && let Some(next) = datagrams.get(first + count) {
                    let last = datagrams[first + count - 1];
                    prop_assert!(last.1 < len || next.0 != to || next.1 > len || next.1 == 0);
                }
                first += count;
            }
            prop_assert_eq!(first, datagrams.len());
        }
    }
}
