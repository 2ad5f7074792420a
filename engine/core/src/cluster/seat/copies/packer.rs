//! Records, packed into SYNC packets.
//!
//! A packet ends before the chunk that would make it longer than it should be; genuine donors guess that from the length of
//! the chunk before (OpenSIPS 3.6 `sync.c`, `cl_sync_chunk_start`), so theirs are a little longer now and then. A chunk
//! that is too long for that goes alone, as long as any packet can hold it.

use std::collections::VecDeque;

/// What waits to be sent of one donation: at most one slice of each shard, and one packet.
#[derive(Debug)]
pub(super) struct Packer {
    /// Bytes of chunks that a packet should have, and that it can have.
    room: usize,
    room_max: usize,
    /// The chunks of the packet that is filled, and how many they are.
    body: Vec<u8>,
    chunks: u32,
    waiting: VecDeque<Waiting>,
}

/// What is left of a slice.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    /// Where each chunk ends.
    ends: Vec<u32>,
    /// Chunks that were packed, and their bytes.
    packed: usize,
    from: usize,
}

/// What became of the packet that is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// The next chunk does not fit: it is as full as it gets.
    Full,
    /// There are no more chunks, for now.
    Partly,
    /// A chunk of so many bytes fits into no packet at all, or its slice says nonsense of it.
    Never(usize),
}

impl Packer {
    /// Packets of about `packet_len` bytes, at most `packet_max`, of which `overhead` are not chunks.
    pub(super) fn new(packet_len: usize, packet_max: usize, overhead: usize) -> Self {
        Self {
            room: packet_len.min(packet_max).saturating_sub(overhead),
            room_max: packet_max.saturating_sub(overhead),
            body: Vec::new(),
            chunks: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Adds the chunks of a slice behind all that there are.
    pub(super) fn add(&mut self, bytes: Vec<u8>, ends: Vec<u32>) {
        if !ends.is_empty() {
            self.waiting.push_back(Waiting {
                bytes,
                ends,
                packed: 0,
                from: 0,
            });
        }
    }

    /// Moves chunks into the packet until it is full or none are left.
    pub(super) fn fill(&mut self) -> Filled {
        while let Some(slice) = self.waiting.front_mut() {
            let Some(chunk) = slice.next() else {
                return Filled::Never(0);
            };
            if chunk.len() > self.room_max {
                return Filled::Never(chunk.len());
            }
            if !self.body.is_empty() && self.body.len() + chunk.len() > self.room {
                return Filled::Full;
            }
            self.body.extend_from_slice(chunk);
            self.chunks += 1;
            if slice.pack() {
                self.waiting.pop_front();
            }
        }
        Filled::Partly
    }

    /// The chunks of the packet, one behind the other.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The packet was sent; how many chunks it had.
    pub(super) fn sent(&mut self) -> u32 {
        self.body.clear();
        std::mem::take(&mut self.chunks)
    }
}

impl Waiting {
    fn next(&self) -> Option<&[u8]> {
        let end = usize::try_from(*self.ends.get(self.packed)?).ok()?;
        let chunk = self.bytes.get(self.from..end)?;
        (!chunk.is_empty()).then_some(chunk)
    }

    /// The next one is packed; whether it was the last.
    fn pack(&mut self) -> bool {
        let packed = self.next().map_or(0, <[u8]>::len);
        self.from += packed;
        self.packed += 1;
        self.packed == self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice of chunks of these lengths.
    fn slice(lengths: &[usize]) -> (Vec<u8>, Vec<u32>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (number, &len) in (1_u8..).zip(lengths) {
            bytes.resize(bytes.len() + len, number);
            ends.push(u32::try_from(bytes.len()).unwrap());
        }
        (bytes, ends)
    }

    fn packer(lengths: &[usize]) -> Packer {
        let mut packer = Packer::new(110, 210, 10);
        let (bytes, ends) = slice(lengths);
        packer.add(bytes, ends);
        packer
    }

    /// Lengths and chunks of all packets.
    fn packets(packer: &mut Packer) -> Vec<(usize, u32)> {
        let mut packets = Vec::new();
        while packer.fill() == Filled::Full {
            packets.push((packer.body().len(), packer.sent()));
        }
        packets.push((packer.body().len(), packer.sent()));
        packets
    }

    #[test]
    fn a_packet_ends_before_the_chunk_that_does_not_fit() {
        // 100 bytes of chunks fit: 40 + 60 do to the byte, and 61 does not.
        let mut exact = packer(&[40, 60, 40, 61]);
        assert_eq!(packets(&mut exact), [(100, 2), (40, 1), (61, 1)]);
    }

    #[test]
    fn a_long_chunk_goes_alone_and_nothing_is_put_behind_it() {
        let mut long = packer(&[40, 150, 40]);
        assert_eq!(packets(&mut long), [(40, 1), (150, 1), (40, 1)]);
        let mut longest = packer(&[200]);
        assert_eq!(packets(&mut longest), [(200, 1)]);
    }

    #[test]
    fn a_chunk_that_no_packet_holds_is_told_of_and_not_skipped() {
        let mut hopeless = packer(&[40, 201]);
        assert_eq!(hopeless.fill(), Filled::Never(201));
        assert_eq!(hopeless.fill(), Filled::Never(201));
    }

    #[test]
    fn a_packet_goes_on_with_the_next_slice() {
        let mut packer = packer(&[40]);
        assert_eq!(packer.fill(), Filled::Partly);
        let (bytes, ends) = slice(&[60, 1]);
        packer.add(bytes, ends);
        assert_eq!(packer.fill(), Filled::Full);
        assert_eq!(packer.body().len(), 100);
        assert_eq!((packer.body()[39], packer.body()[40]), (1, 1));
        assert_eq!(packer.sent(), 2);
        assert_eq!(packer.fill(), Filled::Partly);
        assert_eq!(packer.body(), [2]);
    }

    #[test]
    fn a_slice_that_contradicts_itself_is_not_sent() {
        let mut backwards = Packer::new(110, 210, 10);
        backwards.add(vec![1; 20], vec![10, 5]);
        assert_eq!(backwards.fill(), Filled::Never(0));
        let mut beyond = Packer::new(110, 210, 10);
        beyond.add(vec![1; 20], vec![21]);
        assert_eq!(beyond.fill(), Filled::Never(0));
        let mut empty = Packer::new(110, 210, 10);
        empty.add(vec![1; 20], vec![0, 20]);
        assert_eq!(empty.fill(), Filled::Never(0));
    }
}
