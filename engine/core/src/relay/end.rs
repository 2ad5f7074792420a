//! A shard's part: a copy of each packet into the ring.

use std::net::IpAddr;
use std::sync::Arc;

use binrush_net::Producer;
use binrush_wire::schema::SYNC_CHUNK;
use binrush_wire::{Generation, Packet, Release};

use super::Shared;
use super::counts::RingCounts;
use crate::dispatch::handler::{Origin, ShardId};
use crate::dispatch::tap::Tap;

/// Between one shard and its ring.
pub(super) struct End {
    shard: ShardId,
    producer: Producer,
    shared: Arc<Shared>,
    /// Packets of this batch that are in the ring and not shown.
    unseen: u64,
}

/// Where a packet came from, as it stands in front of it in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) generation: Generation,
    /// Of its sender, where that is configured.
    pub(super) release: Option<Release>,
    /// The other side of its connection; `None`: a datagram.
    pub(super) peer: Option<IpAddr>,
}

impl End {
    pub(super) fn new(shard: ShardId, producer: Producer, shared: Arc<Shared>) -> Self {
        Self {
            shard,
            producer,
            shared,
            unseen: 0,
        }
    }

    fn counts(&self) -> &RingCounts {
        &self.shared.rings[self.shard.index()]
    }

    fn offer(&mut self, origin: &Origin, packet: &Packet<'_>) {
        // About no record, or about all of them: a target of ours asks for no sync.
        if packet.name().starts_with(CLUSTERER)
            || packet.generation() == Generation::Modern && packet.command() == SYNC_CHUNK
        {
            return;
        }
        let label = Label::of(origin);
        let (stamp, peer) = label.packed();
        match self.producer.push_parts(stamp, [&peer, packet.bytes()]) {
            true => {
                self.unseen += 1;
                RingCounts::add(&self.counts().taken, 1);
            }
            false => RingCounts::add(&self.counts().dropped, 1),
        }
    }
}

impl Tap for End {
    #[inline]
    fn accepted(&mut self, origin: &Origin, packet: &Packet<'_>) {
        self.offer(origin, packet);
    }

    fn stranger(&mut self, origin: &Origin, packet: &Packet<'_>) {
        self.offer(origin, packet);
    }

    #[inline]
    fn batch_done(&mut self) {
        if self.unseen > 0 {
            self.unseen = 0;
            self.producer.publish();
            self.shared.bell.ring_if_armed();
        }
    }
}

impl Label {
    fn of(origin: &Origin) -> Self {
        match *origin {
            Origin::Stream {
                ends,
                generation,
                release,
            } => Self {
                generation,
                release,
                peer: Some(ends.peer.ip()),
            },
            Origin::Datagram(_) | Origin::Process => Self {
                generation: origin.generation(),
                release: None,
                peer: None,
            },
        }
    }

    pub(super) fn packed(self) -> (u64, [u8; PEER_LEN]) {
        let generation = match self.generation {
            Generation::Legacy => 0,
            Generation::Transitional => 1,
            Generation::Modern => 2,
        };
        let release = self.release.map_or(0, |release| release as u64 + 1);
        let (has_peer, peer) = match self.peer {
            None => (0, [0; PEER_LEN]),
            Some(IpAddr::V4(ip)) => (1, ip.to_ipv6_mapped().octets()),
            Some(IpAddr::V6(ip)) => (1, ip.octets()),
        };
        (generation | release << 8 | has_peer << 16, peer)
    }

    /// What was packed, and the packet behind it; `None`: not by [`packed`](Self::packed).
    pub(super) fn unpack(stamp: u64, record: &[u8]) -> Option<(Self, &[u8])> {
        let (peer, packet) = record.split_first_chunk::<PEER_LEN>()?;
        let generation = match stamp & 0xFF {
            0 => Generation::Legacy,
            1 => Generation::Transitional,
            2 => Generation::Modern,
            _ => return None,
        };
        let release = usize::try_from(stamp >> 8 & 0xFF).ok()?;
        let release = release.checked_sub(1).map(|place| Release::ALL.get(place));
        let peer = (stamp >> 16 & 1 == 1).then(|| IpAddr::from(*peer).to_canonical());
        let label = Self {
            generation,
            release: release.flatten().copied(),
            peer,
        };
        Some((label, packet))
    }
}

const PEER_LEN: usize = 16;

/// What the names of clusters' own messages begin with.
const CLUSTERER: &[u8] = b"clusterer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_packet_came_from_is_read_as_it_was_packed() {
        let peers = ["192.0.2.1", "2001:db8::1"].map(|ip| Some(ip.parse().unwrap()));
        for generation in [
            Generation::Legacy,
            Generation::Transitional,
            Generation::Modern,
        ] {
            for release in Release::ALL.map(Some).into_iter().chain([None]) {
                for peer in peers.into_iter().chain([None]) {
                    let label = Label {
                        generation,
                        release,
                        peer,
                    };
                    let (stamp, front) = label.packed();
                    let record = [&front[..], b"packet"].concat();
                    assert_eq!(Label::unpack(stamp, &record), Some((label, &b"packet"[..])));
                }
            }
        }
        assert_eq!(Label::unpack(3, &[0; 20]), None);
        assert_eq!(Label::unpack(0, &[0; 15]), None);
    }
}
