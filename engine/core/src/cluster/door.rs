//! Who takes the cluster's own messages, where they are cut out of their connection: checked, decoded, for the seats.
//!
//! ```text
//!   clusterer-internal ─┬─ of a node that is known, or of one that may introduce himself ─▶ Inbox
//!                       └─ PING of a stranger who may ─▶ UNKNOWN_ID, on the same connection
//!   clusterer-extra ────┬─ messages ─▶ Inbox
//!                       └─ SYNC of a sync of ours ─▶ cut: one part for each owner ─▶ Gate
//!   clusterer (2.3) ────── refused, with a sentence
//! ```
//!
//! What is checked is what genuine nodes check (OpenSIPS 3.6 `clusterer.c`, `bin_rcv_cl_packets` and
//! `bin_rcv_cl_extra_packets`), for all releases as strictly as the latest ones do: the address a packet comes from has to be
//! one of the cluster's nodes.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use binrush_wire::{Packet, Release};

use super::inbox::{Body, Inbox, Incoming};
use super::message::{self, Internal, Routed, Writer};
use super::roster::{Board, Reader, RosterCluster, RosterNode};
use crate::config::Endpoint;
use crate::dispatch::handler::{Context, Handler, Origin, Refusal, Verdict};
use cut::Cutter;

/// SYNC packets to parts.
mod cut;

/// Names of the packets that a [`Door`] takes.
pub const NAMES: [&str; 3] = ["clusterer-internal", "clusterer-extra", "clusterer"];

/// The handler of [`NAMES`], on each shard that cuts streams.
pub struct Door {
    reader: Reader,
    inbox: Arc<dyn Inbox>,
    warnings: Arc<dyn Fn(String) + Send + Sync>,
    cutter: Cutter,
    /// Made when somebody has to be answered.
    writer: Option<Writer>,
    /// Who was warned of.
    warned: HashSet<IpAddr>,
}

impl Door {
    /// A door that shows messages to `inbox`, by what hangs on `board`; `warnings` is told, in a sentence, of what an operator
    /// should know.
    pub fn new(
        board: Arc<Board>,
        inbox: Arc<dyn Inbox>,
        warnings: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Self {
        Self {
            reader: Reader::new(board),
            inbox,
            warnings,
            cutter: Cutter::default(),
            writer: None,
            warned: HashSet::new(),
        }
    }

    fn internal(
        &mut self,
        context: &mut Context<'_>,
        ip: IpAddr,
        packet: &Packet<'_>,
    ) -> Result<(), Verdict> {
        let (id, source, message) = message::internal(packet)?;
        let cluster = self.reader.roster().cluster(id);
        let cluster = cluster.ok_or(Verdict::Refused(Refusal::UnknownCluster))?;
        match cluster.sender(source, ip) {
            Ok(node) => {
                if is_neighbours(&message, node, ip) {
                    cluster.heard.hear(node.slot, context.now());
                }
            }
            Err(Refusal::UnknownNode) => match message {
                Internal::Ping { .. } if cluster.may_learn(ip) => {
                    let me = cluster.me;
                    return self.answer_stranger(context, id, me);
                }
                Internal::Description { .. } if may_introduce(cluster, &message, ip) => {}
                _ => return Err(Verdict::Refused(Refusal::UnknownNode)),
            },
            Err(refusal) => return Err(Verdict::Refused(refusal)),
        }
        self.hand_in(Incoming {
            at: context.now(),
            ip,
            connection: context.connection().unwrap_or_default(),
            cluster: id,
            source,
            shown: message.shown_releases(packet),
            body: Body::Internal(message),
        })
    }

    fn extra(
        &mut self,
        context: &mut Context<'_>,
        ip: IpAddr,
        packet: &Packet<'_>,
    ) -> Result<(), Verdict> {
        let trailer = packet.fields().pop_trailer().map_err(Verdict::Field)?;
        let cluster = self.reader.roster().cluster(trailer.cluster);
        let cluster = cluster.ok_or(Verdict::Refused(Refusal::UnknownCluster))?;
        let sender = cluster.sender(trailer.source, ip);
        let node = sender.map_err(Verdict::Refused)?;
        if trailer.dest != cluster.me {
            return Err(Verdict::Refused(Refusal::NotForUs));
        }
        if node.ip == ip {
            cluster.heard.hear(node.slot, context.now());
        }
        let (_, routed) = message::extra(packet, Some(node.release))?;
        let message = match routed {
            Routed::Sync(sync) => {
                return self.cutter.cut(context, cluster, trailer, &sync, packet);
            }
            Routed::Message(message) => message,
        };
        self.hand_in(Incoming {
            at: context.now(),
            ip,
            connection: context.connection().unwrap_or_default(),
            cluster: trailer.cluster,
            source: trailer.source,
            shown: message.shown_releases(packet),
            body: Body::Extra(message),
        })
    }

    fn hand_in(&self, message: Incoming) -> Result<(), Verdict> {
        if self.inbox.message(message) {
            Ok(())
        } else {
            Err(Verdict::Refused(Refusal::Busy))
        }
    }

    /// Tells a stranger who may introduce himself to do so: the one message that goes back by the connection it answers.
    #[cold]
    fn answer_stranger(
        &mut self,
        context: &mut Context<'_>,
        cluster: i32,
        me: i32,
    ) -> Result<(), Verdict> {
        let writer = self.writer.get_or_insert_with(Writer::new);
        // All releases have it alike.
        let answer = writer.internal(Release::V3_6, cluster, me, &Internal::UnknownId);
        if context.answer(answer.map_err(Verdict::Field)?) {
            Ok(())
        } else {
            Err(Verdict::Refused(Refusal::Busy))
        }
    }

    /// 2.3 joins by a handshake of its own, and knows neither capabilities nor syncs.
    #[cold]
    fn warn_of_2_3(&mut self, ip: IpAddr) {
        if self.warned.len() < WARNED_MAX && self.warned.insert(ip) {
            (self.warnings)(format!(
                "{ip} speaks the cluster protocol of OpenSIPS 2.3, which ends with that release: its packets are refused; \
                 upgrade that node to 2.4 or later, or take it out of the cluster"
            ));
        }
    }
}

impl Handler for Door {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        // Clusters came with connections; whoever sends a datagram says himself where it comes from.
        let Origin::Stream { ends, .. } = context.origin() else {
            return Verdict::Refused(Refusal::ForeignAddress);
        };
        let peer = ends.peer.ip();
        let taken = match packet.name() {
            b"clusterer-internal" => self.internal(context, peer, packet),
            b"clusterer-extra" => self.extra(context, peer, packet),
            _ => {
                self.warn_of_2_3(peer);
                return Verdict::UnknownVersion;
            }
        };
        match taken {
            Ok(()) => Verdict::Handled,
            Err(verdict) => verdict,
        }
    }
}

/// Whether this message shows that the link from `node` to us works: it came from its address and not through another node,
/// and is no PONG, which shall not excuse itself for being late.
fn is_neighbours(message: &Internal, node: &RosterNode, ip: IpAddr) -> bool {
    let is_first_hand = match message {
        Internal::Pong { .. } => false,
        Internal::Ping { .. } | Internal::UnknownId => true,
        Internal::LinkUpdate { path, .. }
        | Internal::FullTopology { path, .. }
        | Internal::Description { path, .. }
        | Internal::Capabilities { path, .. } => path.last().is_none_or(|last| *last == node.id),
    };
    is_first_hand && node.ip == ip
}

/// Whether a stranger's description is shown to the seat: brought by a node that is known, or by himself, from the address
/// that he describes, and from where strangers may come. In both cases he lives where strangers may.
fn may_introduce(cluster: &RosterCluster, message: &Internal, ip: IpAddr) -> bool {
    let Internal::Description { description, .. } = message else {
        return false;
    };
    let url = std::str::from_utf8(&description.url);
    let endpoint = url.ok().and_then(|url| url.parse::<Endpoint>().ok());
    endpoint.is_some_and(|endpoint| {
        let described = endpoint.addr.ip();
        cluster.may_learn(described) && (described == ip || cluster.has_address(ip))
    })
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("reader", &self.reader)
            .field("warned", &self.warned)
            .finish_non_exhaustive()
    }
}

/// Addresses that are warned of, at most, by one door.
const WARNED_MAX: usize = 64;

#[cfg(test)]
mod tests;
