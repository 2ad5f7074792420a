//! From whom to whom.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use binrush_capture::Frame;
use binrush_wire::{Generation, Packet, Trailer, schema};

use super::tally::Tally;

/// A sender and a receiver, as their packets say it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// 1.x: the port of a sender may be any.
    Datagrams { from: IpAddr, to: SocketAddr },
    /// 2.3 and later: a packet to three nodes goes three ways, whatever connections carry it.
    Nodes {
        cluster: i32,
        source: i32,
        destination: i32,
    },
    /// A stream whose packets do not say it.
    Stream { from: IpAddr, to: IpAddr },
}

/// What came each way.
#[derive(Debug, Default)]
pub(super) struct Ways {
    tallies: HashMap<Way, Tally>,
    /// Packets of ways beyond [`WAYS_MAX`].
    others: u64,
    /// Keys and times that are kept, all ways together.
    kept: usize,
}

impl Ways {
    /// Counts a frame where it belongs.
    pub(super) fn add(&mut self, frame: &Frame<'_>) {
        let packet = Packet::parse(frame.generation, frame.bytes);
        let way = match &packet {
            Ok(packet) => Way::of(frame, packet),
            Err(_) => Way::of_broken(frame),
        };
        if self.tallies.len() >= WAYS_MAX && !self.tallies.contains_key(&way) {
            self.others += 1;
            return;
        }
        let tally = self.tallies.entry(way).or_default();
        match packet {
            Ok(packet) => tally.add(frame.time, &packet, &mut self.kept),
            Err(error) => tally.leave_out(format!("broken ({})", error.kind.symbol())),
        }
    }

    /// The way with the most packets that a scenario can have, and how many such packets went others; `None` when no
    /// way has any.
    pub(super) fn busiest(self) -> Option<(Way, Tally, u64)> {
        let all: u64 = self.tallies.values().map(Tally::packets).sum();
        // Of two that are alike the same one always.
        let busiest = self
            .tallies
            .into_iter()
            .max_by_key(|(way, tally)| (tally.packets(), std::cmp::Reverse(way.to_string())));
        let (way, tally) = busiest.filter(|(_, tally)| tally.packets() > 0)?;
        let elsewhere = all - tally.packets() + self.others;
        Some((way, tally, elsewhere))
    }
}

impl Way {
    fn of(frame: &Frame<'_>, packet: &Packet<'_>) -> Self {
        if packet.generation() != Generation::Modern {
            return Self::of_broken(frame);
        }
        // What is known tells by its layout whether there is a trailer; of others the end of the packet may be one.
        let trailer = match schema::identify(packet) {
            Ok(message) => message.walk(packet, |_| {}).ok().flatten(),
            Err(_) => packet.fields().pop_trailer().ok(),
        };
        match trailer.filter(is_likely) {
            Some(Trailer {
                cluster,
                source,
                dest,
                ..
            }) => Self::Nodes {
                cluster,
                source,
                destination: dest,
            },
            None => Self::of_broken(frame),
        }
    }

    /// By the addresses alone.
    fn of_broken(frame: &Frame<'_>) -> Self {
        let from = frame.src.ip();
        match frame.generation {
            Generation::Legacy => Self::Datagrams {
                from,
                to: frame.dst,
            },
            Generation::Transitional | Generation::Modern => Self::Stream {
                from,
                to: frame.dst.ip(),
            },
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datagrams { from, to } => write!(f, "from {from} to {to}"),
            Self::Stream { from, to } => write!(f, "from {from} to {to}"),
            Self::Nodes {
                cluster,
                source,
                destination,
            } => write!(
                f,
                "of cluster {cluster} from node {source} to node {destination}"
            ),
        }
    }
}

/// Whether this is the trailer of a cluster. The last bytes of a packet that has none read as one too: as huge numbers
/// or none, where text was.
fn is_likely(trailer: &Trailer) -> bool {
    [trailer.cluster, trailer.source, trailer.dest]
        .iter()
        .all(|id| (1..ID_END).contains(id))
}

/// Ids of clusters and nodes are small, for people write them into configurations.
const ID_END: i32 = 1 << 16;

/// Ways that are told apart.
const WAYS_MAX: usize = 256;
