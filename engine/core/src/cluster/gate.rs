//! What stands in front of a replica, on each shard: who may say something of its records, and when.
//!
//! ```text
//!   packet ─▶ admitted? ─▶ live ─┬─ open ─────────────────────────────▶ Replica::apply
//!                │               └─ holding ─▶ Queue ─┐ in order         ▲
//!                │                                    └── release ───────┘
//!                └───────▶ part of a sync ─ ours? ─▶ chunks ───────────▶ Replica::apply_chunk
//!   SliceRequest ────────────────────────────────────────────────────── Replica::walk ─▶ Inbox
//! ```
//!
//! While a donor gives us his records, live packets are held back: they are newer than any record that the donor packed
//! before, and go behind all of them. The order of the packets of a record never changes: as long as anything is held, what
//! comes goes behind it.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use binrush_wire::chunk::{CHUNK_HEADER_LEN, CHUNK_MARKER};
use binrush_wire::{Generation, Packet, Trailer};

use super::inbox::Inbox;
use super::outbox::{GateOrder, Slice, SliceRequest};
use super::replica::{Replica, SYNC_PACKET, Source, Walked};
use super::roster::{Board, Reader, Roster};
use super::session::Session;
use crate::clock::Timestamp;
use crate::dispatch::handler::{Context, Handler, Origin, Refusal, ShardId, Verdict};
use hold::{Hold, Phase};
use part::Part;

/// Live packets, while a sync is under way.
mod hold;
/// Chunks of a donor, as the door sends them on.
pub(super) mod part;
/// Packets that wait.
mod queue;

/// The handler of one capability on one shard, in front of its replica.
pub struct Gate<R> {
    shard: ShardId,
    cluster: i32,
    capability: Box<str>,
    reader: Reader,
    place: Place,
    inbox: Arc<dyn Inbox>,
    replica: R,
    hold: Option<Hold>,
    hold_bytes: usize,
    /// That a record was missed is not told again before this.
    quiet_until: Timestamp,
}

/// Where we stand in the roster of one generation.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    generation: u64,
    /// Of our cluster among all; `None`: we are no node of it.
    cluster: Option<usize>,
    is_enabled: bool,
    /// Of the node that was found last: packets of one come in a row.
    node: usize,
}

impl<R: Replica> Gate<R> {
    /// In front of `replica`, which has the records of `capability` in `cluster` that `shard` owns. Live packets that wait
    /// for a sync take `hold_bytes` at most.
    pub fn new(
        shard: ShardId,
        cluster: i32,
        capability: &str,
        board: Arc<Board>,
        inbox: Arc<dyn Inbox>,
        hold_bytes: usize,
        replica: R,
    ) -> Self {
        let mut gate = Self {
            shard,
            cluster,
            capability: capability.into(),
            reader: Reader::new(board),
            place: Place::default(),
            inbox,
            replica,
            hold: None,
            hold_bytes,
            quiet_until: Timestamp::default(),
        };
        gate.find_place();
        gate
    }

    /// What it stands in front of.
    #[must_use]
    pub const fn replica(&self) -> &R {
        &self.replica
    }

    /// Who made this packet, if it is for us and comes from where he is. (OpenSIPS 3.6 `clusterer.c`, `bin_rcv_mod_packets`.)
    #[inline]
    fn admit(&mut self, context: &Context<'_>, packet: &Packet<'_>) -> Result<Source, Verdict> {
        let Origin::Stream { ends, .. } = context.origin() else {
            // Capabilities came with 2.4, and datagrams went with 2.2.
            return Err(Verdict::Refused(Refusal::UnknownCluster));
        };
        if packet.generation() != Generation::Modern {
            return Err(Verdict::Refused(Refusal::UnknownCluster));
        }
        let trailer = packet.fields().pop_trailer().map_err(Verdict::Field)?;
        self.reader.roster();
        if self.reader.generation() != self.place.generation {
            self.find_place();
        }
        self.sender(context.now(), trailer, ends.peer.ip())
            .map_err(Verdict::Refused)
    }

    #[inline]
    fn sender(&mut self, now: Timestamp, trailer: Trailer, ip: IpAddr) -> Result<Source, Refusal> {
        let ours = self
            .place
            .cluster
            .filter(|_| trailer.cluster == self.cluster);
        let cluster = ours.map(|at| &self.reader.seen().clusters[at]);
        let cluster = cluster.ok_or(Refusal::UnknownCluster)?;
        if trailer.source == cluster.me {
            return Err(Refusal::OwnId);
        }
        // A packet from another cluster (4.0) names a node of that one: we know no bridges.
        if trailer.dest == Trailer::BRIDGE {
            return Err(Refusal::NotForUs);
        }
        let nodes = &cluster.nodes;
        let last = nodes.get(self.place.node);
        let node = match last.filter(|node| node.id == trailer.source) {
            Some(node) => node,
            None => {
                let found = nodes.iter().position(|node| node.id == trailer.source);
                self.place.node = found.ok_or(Refusal::UnknownNode)?;
                &nodes[self.place.node]
            }
        };
        cluster.check(node, ip)?;
        if !self.place.is_enabled {
            return Err(Refusal::Disabled);
        }
        if trailer.dest != cluster.me {
            return Err(Refusal::NotForUs);
        }
        // What another node forwarded says nothing about our link to its maker.
        if node.ip == ip {
            cluster.heard.hear(node.slot, now);
        }
        Ok(Source {
            now,
            shard: self.shard,
            cluster: self.cluster,
            node: node.id,
            release: node.release,
        })
    }

    /// Notes by which way the packet came that was just held.
    #[cold]
    fn note_way(&self, origin: &Origin) {
        let cluster = self
            .place
            .cluster
            .map(|at| &self.reader.seen().clusters[at]);
        let maker = cluster.and_then(|cluster| cluster.nodes.get(self.place.node));
        if let (Origin::Stream { ends, .. }, Some(maker), Some(hold)) = (origin, maker, &self.hold)
            && maker.ip != ends.peer.ip()
        {
            let passed_on = &hold.words(self.shard).passed_on;
            passed_on.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn find_place(&mut self) {
        let of = self.cluster;
        let roster: &Roster = self.reader.roster();
        let cluster = roster.clusters.iter().position(|cluster| cluster.id == of);
        let is_enabled = cluster
            .is_some_and(|at| roster.clusters[at].has_capability(self.capability.as_bytes()));
        self.place = Place {
            cluster,
            is_enabled,
            node: 0,
            generation: self.reader.generation(),
        };
    }

    /// Gives the replica a live packet now.
    #[inline]
    fn apply(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        let verdict = self.replica.apply(source, packet);
        if let Verdict::Refused(_) = verdict {
            self.miss(source.now);
        }
        verdict
    }

    /// The replica refused a record for want of room: a copy that lacks it must not be offered. The sync under way says so
    /// in its words; without one the seat is told, at most once a second, because what follows is a sync of everything,
    /// before which nothing more can be missed that it does not bring.
    #[cold]
    fn miss(&mut self, now: Timestamp) {
        if let Some(hold) = &self.hold {
            let refused = &hold.words(self.shard).refused;
            refused.fetch_add(1, Ordering::Relaxed);
        } else if now >= self.quiet_until {
            self.quiet_until = now.after(QUIET_NS);
            self.inbox.record_missed(self.cluster, &self.capability);
        }
    }

    /// Chunks of the donor that the door cut out for us.
    #[cold]
    fn part(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        let part = match Part::read(packet) {
            Ok(part) => part,
            Err(error) => return Verdict::Field(error),
        };
        let ours = self.hold.as_ref().filter(|hold| {
            hold.phase == Phase::Holding
                && hold.session.id == part.session
                && hold.session.donor == source.node
        });
        let Some(hold) = ours else {
            return Verdict::Refused(Refusal::UnexpectedSync);
        };
        let (mut applied, mut failed) = (0, 0);
        let mut verdict = Verdict::Handled;
        for chunk in part.chunks {
            let data_version = packet.version().map_or(0, i32::from);
            let took =
                chunk.and_then(|chunk| self.replica.apply_chunk(source, data_version, &chunk));
            match took {
                Ok(()) => applied += 1,
                Err(error) => {
                    failed += 1;
                    verdict = Verdict::Field(error);
                }
            }
        }
        let words = hold.words(self.shard);
        words.applied.fetch_add(applied, Ordering::Release);
        words.failed.fetch_add(failed, Ordering::Release);
        self.inbox.session_moved();
        verdict
    }

    fn obey(&mut self, now: Timestamp, order: GateOrder) {
        match order {
            GateOrder::Hold(session) if self.is_ours(&session) => self.begin(now, session),
            GateOrder::Release(session, end) if self.is_ours(&session) => {
                self.release(now, &session, end);
            }
            GateOrder::Hold(_) | GateOrder::Release(..) => {}
        }
    }

    fn is_ours(&self, session: &Session) -> bool {
        session.cluster == self.cluster
            && *session.capability == *self.capability
            && self.shard.index() < session.shards.len()
    }

    fn give(&mut self, now: Timestamp, request: &SliceRequest) {
        self.replica.walk_comes(now);
        let data_version = self.replica.data_version(request.release);
        let (mut chunks, mut ends) = (Vec::new(), Vec::new());
        let mut unfit = 0;
        let walked = if data_version.is_some() {
            chunks.reserve(request.bytes.min(SLICE_MAX));
            self.replica.walk(
                request.from,
                request.release,
                request.bytes.min(SLICE_MAX),
                &mut |data| unfit += u64::from(!push_chunk(&mut chunks, &mut ends, data)),
            )
        } else {
            Walked {
                left_out: self.replica.len() as u64,
                ..Walked::default()
            }
        };
        self.inbox.slice(Slice {
            cluster: request.cluster,
            donation: request.donation,
            shard: self.shard.0,
            chunks,
            ends,
            data_version,
            left_out: walked.left_out + unfit,
            withheld: walked.withheld,
            next: walked.next,
        });
    }
}

impl<R: Replica> Handler for Gate<R> {
    #[inline]
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let source = match self.admit(context, packet) {
            Ok(source) => source,
            Err(verdict) => return verdict,
        };
        if packet.command() == SYNC_PACKET {
            self.part(&source, packet)
        } else if self.hold.is_some() {
            let verdict = self.hold(&source, packet);
            if verdict == Verdict::Held {
                self.note_way(context.origin());
            }
            verdict
        } else {
            self.apply(&source, packet)
        }
    }

    /// Takes a [`GateOrder`] or a [`SliceRequest`]; anything else is for the replica.
    fn tell(&mut self, context: &mut Context<'_>, message: Box<dyn Any + Send>) {
        let now = context.now();
        match message.downcast::<GateOrder>() {
            Ok(order) => self.obey(now, *order),
            Err(message) => match message.downcast::<SliceRequest>() {
                Ok(request) => self.give(now, &request),
                Err(message) => self.replica.ask(now, message),
            },
        }
    }

    fn turn(&mut self, now: Timestamp) -> bool {
        self.replica.turn(now)
    }
}

impl<R: fmt::Debug> fmt::Debug for Gate<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("shard", &self.shard)
            .field("cluster", &self.cluster)
            .field("capability", &self.capability)
            .field("hold", &self.hold)
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}

/// Writes a chunk as it stands in a SYNC packet; whether it can stand there. One that is empty would end the receiver's
/// reading (rule R7).
fn push_chunk(chunks: &mut Vec<u8>, ends: &mut Vec<u32>, data: &[u8]) -> bool {
    let end = chunks.len() + CHUNK_HEADER_LEN + data.len();
    if let (Ok(size), Ok(end)) = (i32::try_from(data.len()), u32::try_from(end))
        && size > 0
    {
        chunks.extend_from_slice(&size.to_le_bytes());
        chunks.extend_from_slice(&CHUNK_MARKER.to_le_bytes());
        chunks.extend_from_slice(data);
        ends.push(end);
        return true;
    }
    false
}

/// Between two words about records that were missed.
const QUIET_NS: u64 = 1_000_000_000;

/// Bytes of chunks that one answer has, about, whatever was asked for.
const SLICE_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
