//! Packets that wait for a shard that does not keep up: one line for each of them, so that none waits for another's.

use std::collections::VecDeque;

use crate::clock::Timestamp;
use crate::dispatch::handler::ShardId;

/// The packets of one connection that found no room in the mail, in order for each owner.
///
/// Empty, and without memory, as long as all shards keep up.
#[derive(Debug, Default)]
pub(super) struct Spill {
    lines: Vec<Line>,
    /// Bytes of all packets that wait.
    len: usize,
}

#[derive(Debug)]
struct Line {
    owner: ShardId,
    /// Arrival and length of each, in order.
    packets: VecDeque<(Timestamp, u32)>,
    /// Their bytes, one behind the other.
    bytes: Vec<u8>,
    /// Where the first that waits begins in `bytes`.
    at: usize,
}

impl Spill {
    /// Puts a packet behind those that wait for `owner`.
    #[cold]
    pub(super) fn push(&mut self, owner: ShardId, arrived: Timestamp, packet: &[u8]) {
        let line = match self.lines.iter_mut().position(|line| line.owner == owner) {
            Some(index) => &mut self.lines[index],
            None => {
                self.lines.push(Line::new(owner));
                self.lines.last_mut().expect("pushed right above")
            }
        };
        let len = u32::try_from(packet.len()).expect("a packet of a stream is below 64 KiB");
        line.packets.push_back((arrived, len));
        line.bytes.extend_from_slice(packet);
        self.len += packet.len();
    }

    /// Offers the packets of each line to `post`, `most` of them and until it refuses one of that line; whether it took
    /// any.
    pub(super) fn drain(
        &mut self,
        most: usize,
        mut post: impl FnMut(ShardId, Timestamp, &[u8]) -> bool,
    ) -> bool {
        let before = self.len;
        for line in &mut self.lines {
            for _ in 0..most {
                let Some(&(arrived, len)) = line.packets.front() else {
                    break;
                };
                let end = line.at + len as usize;
                if !post(line.owner, arrived, &line.bytes[line.at..end]) {
                    break;
                }
                line.packets.pop_front();
                line.at = end;
                self.len -= len as usize;
            }
            line.tidy();
        }
        self.len < before
    }

    /// Takes all that waits in `earlier`, in front of what waits here.
    pub(super) fn put_in_front(&mut self, earlier: &mut Self) {
        for line in &self.lines {
            for (arrived, packet) in line.packets() {
                earlier.push(line.owner, arrived, packet);
            }
        }
        *self = std::mem::take(earlier);
    }

    /// Whether packets wait for `owner`, so that later ones have to wait behind them.
    #[inline]
    pub(super) fn holds_for(&self, owner: ShardId) -> bool {
        self.len > 0 && self.has_line_of(owner)
    }

    fn has_line_of(&self, owner: ShardId) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.owner == owner && !line.packets.is_empty())
    }

    /// Gives back the memory that is not in use.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.lines = Vec::new();
        }
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that wait.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it has.
    #[inline]
    pub(super) fn memory(&self) -> usize {
        self.lines.iter().map(Line::memory).sum()
    }
}

impl Line {
    const fn new(owner: ShardId) -> Self {
        Self {
            owner,
            packets: VecDeque::new(),
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// What waits, in order.
    fn packets(&self) -> impl Iterator<Item = (Timestamp, &[u8])> {
        let mut rest = &self.bytes[self.at..];
        self.packets.iter().map(move |(arrived, len)| {
            let (packet, behind) = rest.split_at(*len as usize);
            rest = behind;
            (*arrived, packet)
        })
    }

    /// Takes the room of what is gone back into use: all of it costs nothing, half of it a copy of the other half.
    fn tidy(&mut self) {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        } else if self.at > self.bytes.len() / 2 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + self.packets.capacity() * size_of::<(Timestamp, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_nanos(7);

    #[test]
    fn one_owner_that_takes_nothing_does_not_hold_up_another() {
        let mut spill = Spill::default();
        for n in 0..3_u8 {
            spill.push(ShardId(1), NOW, &[n; 100]);
            spill.push(ShardId(2), NOW, &[n; 10]);
        }
        assert!(spill.holds_for(ShardId(1)) && !spill.holds_for(ShardId(0)));
        let mut seen = Vec::new();
        assert!(spill.drain(9, |owner, arrived, packet| {
            assert_eq!(arrived, NOW);
            seen.push((owner, packet[0]));
            owner == ShardId(2)
        }));
        let two = ShardId(2);
        assert_eq!(seen, [(ShardId(1), 0), (two, 0), (two, 1), (two, 2)]);
        assert!(!spill.holds_for(two) && spill.holds_for(ShardId(1)));
        assert_eq!(spill.len(), 300);
        assert!(!spill.drain(9, |_, _, _| false));
        assert!(spill.drain(9, |_, _, _| true));
        assert!(spill.is_empty() && spill.memory() > 0);
        spill.shrink();
        assert_eq!(spill.memory(), 0);
    }

    #[test]
    fn what_an_earlier_connection_left_goes_first() {
        let (mut earlier, mut spill) = (Spill::default(), Spill::default());
        for n in 0..3_u8 {
            earlier.push(ShardId(1), NOW, &[n; 4]);
            spill.push(ShardId(1), NOW, &[n + 10; 4]);
            spill.push(ShardId(2), NOW, &[n + 20; 4]);
        }
        assert!(earlier.drain(1, |_, _, _| true));
        spill.put_in_front(&mut earlier);
        assert!(earlier.is_empty());
        let mut seen = Vec::new();
        spill.drain(9, |owner, _, packet| {
            seen.push((owner.0, packet[0]));
            true
        });
        let expected = [1, 2, 10, 11, 12].map(|n| (1, n));
        assert_eq!(seen[..5], expected);
        assert_eq!(seen[5..], [(2, 20), (2, 21), (2, 22)]);
    }

    proptest! {
        /// Against a queue of vectors for each owner, with owners that take some packets and then no more.
        #[test]
        fn each_owner_gets_its_packets_in_order(
            steps in prop::collection::vec((0_u16..3, 1_usize..200, any::<u8>(), 0_usize..6), 0..100),
        ) {
            let mut spill = Spill::default();
            let mut model: Vec<VecDeque<Vec<u8>>> = vec![VecDeque::new(); 3];
            for (owner, len, fill, takes) in steps {
                spill.push(ShardId(owner), NOW, &vec![fill; len]);
                model[usize::from(owner)].push_back(vec![fill; len]);
                let mut room = [takes; 3];
                spill.drain(4, |owner, _, packet| {
                    let index = owner.index();
                    if room[index] == 0 {
                        return false;
                    }
                    room[index] -= 1;
                    let expected = model[index].pop_front();
                    assert_eq!(expected.as_deref(), Some(packet));
                    true
                });
                for (index, line) in (0..).zip(&model) {
                    let waits: usize = line.iter().map(Vec::len).sum();
                    prop_assert_eq!(waits > 0, spill.holds_for(ShardId(index)));
                }
                let waits: usize = model.iter().flatten().map(Vec::len).sum();
                prop_assert_eq!(spill.len(), waits);
            }
        }
    }
}
