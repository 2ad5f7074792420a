//! What a seat asks of the world around it: all that it does, it does through here.

use std::sync::Arc;

use binrush_wire::Release;

use super::config::NodeConfig;
use super::replica::{Cursor, Withheld};
use super::roster::RosterCluster;
use super::session::{Session, SyncEnd};
use crate::clock::Timestamp;
use crate::link::Lane;

/// What time it is, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; all that is waited for is counted by it.
    pub at: Timestamp,
    /// Seconds since 1970, for the stamps of our updates. May be set back or forward by who runs the machine.
    pub unix: i64,
}

/// What became of a packet that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// It waits for the link to take it, which will not be long. A PONG is queued also when there is no connection: who is
    /// answered has just sent something, so he is there, and it goes out as soon as he takes a connection. A few of them, and
    /// none that is older than what else a link keeps (`LinkLimits::age_max`).
    Queued,
    /// There is no connection, and the last attempt failed. Nothing was queued, but the next attempt is made now, at most
    /// every 100 ms.
    Unreachable,
    /// As much waits as may. Nothing was queued; who has bulk to send asks again later.
    Full,
}

/// The world around a [`Seat`](super::seat::Seat).
pub trait Outbox {
    /// Queues a whole packet for the direct link to `node`.
    fn send(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent;

    /// How many bytes of bulk wait for `node`: a donor stops asking for more slices above some amount.
    fn waiting_bytes(&mut self, node: i32) -> usize;

    /// Makes a link to a node that was learned, or described anew.
    fn connect(&mut self, node: &NodeConfig);

    /// Ends the link to a node that is forgotten.
    fn disconnect(&mut self, node: i32);

    /// Shows this to doors and gates from now on, in place of what was shown of the cluster before.
    fn publish(&mut self, roster: RosterCluster);

    /// Asks the gates of a capability on all shards.
    fn order(&mut self, capability: &str, order: GateOrder);

    /// Asks the gate of a capability on one shard for records.
    fn slice(&mut self, capability: &str, shard: u16, request: SliceRequest);

    /// Tells whoever listens.
    fn event(&mut self, event: Event);
}

/// What a gate is to do, between two batches of its shard.
#[derive(Debug, Clone)]
pub enum GateOrder {
    /// Hold back live packets, and take the parts of this session.
    Hold(Arc<Session>),
    /// Apply what is held, some at a time, and go on as usual. A gate that holds nothing of this session does nothing.
    Release(Arc<Session>, SyncEnd),
}

/// Records that are wanted of one shard's [`Replica`](super::replica::Replica).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceRequest {
    /// Cluster and donation that asked, to be given back with the answer.
    pub cluster: i32,
    /// See `cluster`.
    pub donation: u64,
    /// From where; the first one is `Cursor::default()`.
    pub from: Cursor,
    /// About how many bytes of chunks, 1 record at least.
    pub bytes: usize,
    /// Whom they are for.
    pub release: Release,
}

/// The answer to a [`SliceRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// As asked.
    pub cluster: i32,
    /// As asked.
    pub donation: u64,
    /// Whose records.
    pub shard: u16,
    /// Chunk headers and chunks, one behind the other, as they stand in a SYNC packet.
    pub chunks: Vec<u8>,
    /// The end of each chunk in `chunks`.
    pub ends: Vec<u32>,
    /// The version that a SYNC packet says of them; `None`: this release gets none of our records.
    pub data_version: Option<i32>,
    /// Records that are passed over, because no node of this release can read them as they are kept: more than none, and what
    /// is given is not all of this shard's. Those further on are counted in the first slice, as far as they are known then;
    /// slices that follow tell what came to them.
    pub left_out: u64,
    /// Records of this slice that whoever asks is better off without.
    pub withheld: Withheld,
    /// Where to go on; `None`: that was all.
    pub next: Option<Cursor>,
}

/// Something happened in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node can be reached now, or no more.
    Node {
        /// In which cluster.
        cluster: i32,
        /// Which node.
        node: i32,
        /// Whether it can be reached.
        up: bool,
    },
    /// A node that was not configured was learned.
    Learned {
        /// In which cluster.
        cluster: i32,
        /// Which node.
        node: i32,
    },
    /// A capability of ours changed its state.
    Capability {
        /// In which cluster.
        cluster: i32,
        /// Which one.
        capability: String,
        /// What it is now.
        state: super::facts::CopyState,
        /// Why, in words.
        why: String,
    },
    /// A sync came to its end.
    SyncDone {
        /// In which cluster.
        cluster: i32,
        /// Of what.
        capability: String,
        /// From whom.
        donor: i32,
        /// How.
        end: SyncEnd,
        /// Chunks that were applied.
        chunks: u64,
    },
    /// We gave a node our records.
    Donated {
        /// In which cluster.
        cluster: i32,
        /// Of what.
        capability: String,
        /// To whom.
        node: i32,
        /// Chunks that were sent.
        chunks: u64,
        /// Whether all of them were, with the SYNC_END.
        complete: bool,
        /// What was kept back of what was walked.
        withheld: Withheld,
    },
    /// Another node took a sharing tag.
    Tag {
        /// In which cluster.
        cluster: i32,
        /// Which tag.
        tag: String,
        /// Who has it now.
        node: i32,
    },
    /// A message from one node's script to another's (`cluster_send_req`, `cluster_send_rpl`).
    Generic {
        /// In which cluster.
        cluster: i32,
        /// From whom.
        node: i32,
        /// Whether it asks, or answers.
        is_request: bool,
        /// What ties the answer to the question.
        tag: Vec<u8>,
        /// What it says.
        message: Vec<u8>,
    },
    /// A command or removal that a node wanted us to execute. It is never executed.
    NotExecuted {
        /// In which cluster.
        cluster: i32,
        /// From whom.
        node: i32,
        /// What was wanted, in words.
        what: String,
    },
    /// Something an operator should know of.
    Warning {
        /// In which cluster.
        cluster: i32,
        /// What, in words.
        text: String,
    },
}
