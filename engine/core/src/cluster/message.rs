//! What nodes of a cluster tell each other: `clusterer-internal` between neighbours, `clusterer-extra` to any node.
//!
//! The numbers of the messages, and some layouts, depend on the release: 3.2 moved all behind 5 up by one. (OpenSIPS
//! `modules/clusterer/{clusterer,topology,sync,node_info,sharing_tags}.c` of 2.4, 3.0, 3.1, 3.2, 3.6, 4.0.)
//!
//! ```text
//!   Packet ─▶ internal / extra ─▶ Internal, Extra, Sync ─▶ Writer (the receiver's release) ─▶ bytes
//!             to the last byte, every count bounded       refuses what the receiver would not take
//! ```

use binrush_wire::Chunks;

/// Packets to messages.
mod decode;
/// Messages to packets.
mod encode;
/// How releases number and lay out what they say.
mod numbers;
#[cfg(test)]
mod tests;

pub use decode::{Routed, extra, internal};
pub use encode::Writer;
pub use numbers::sync_version;

/// Between neighbours. All carry the cluster and the node that made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Internal {
    /// Are you there?
    Ping {
        /// The answer is to list the nodes that are known.
        list: bool,
    },
    /// Yes.
    Pong {
        /// Nodes that are known, if that was asked for.
        nodes: Vec<i32>,
    },
    /// The link to a neighbour came up or went down. Flooded.
    LinkUpdate {
        /// Orders the updates of one node.
        stamp: Stamp,
        /// The other end.
        neighbour: i32,
        /// Whether it is up.
        up: bool,
        /// Nodes that it went through.
        path: Vec<i32>,
    },
    /// Everything that the sender knows of links. Flooded.
    FullTopology {
        /// Orders the updates of one node.
        stamp: Stamp,
        /// The sender first.
        nodes: Vec<TopologyNode>,
        /// Nodes that it went through.
        path: Vec<i32>,
    },
    /// I do not know you.
    UnknownId,
    /// This is who I am. Flooded.
    Description {
        /// Who.
        description: Description,
        /// Nodes that it went through.
        path: Vec<i32>,
    },
    /// Who has which capability, and whether it is synced. Flooded.
    Capabilities {
        /// Orders the updates of one node; `None` up to 3.0, and in early point releases of 3.1 and 3.2.
        stamp: Option<Stamp>,
        /// What each node has.
        nodes: Vec<NodeCapabilities>,
        /// The receiver is to tell of his own.
        require_reply: bool,
        /// Nodes that it went through.
        path: Vec<i32>,
    },
}

/// To one node, whether it is a neighbour or not. All carry cluster, source and destination in their trailer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// Remove a node from the cluster (3.2 and later).
    RemoveNode {
        /// Which one.
        node: i32,
    },
    /// From one script to another.
    Generic {
        /// Whether it asks, or answers.
        is_request: bool,
        /// What ties the answer to the question.
        tag: Vec<u8>,
        /// What it says.
        message: Vec<u8>,
    },
    /// Execute a management command.
    MiCommand {
        /// Its name.
        command: Vec<u8>,
        /// Its parameters.
        parameters: Vec<Vec<u8>>,
    },
    /// Give me all records of a capability.
    SyncRequest {
        /// Which one.
        capability: Vec<u8>,
    },
    /// These were all records.
    SyncEnd {
        /// Of which capability.
        capability: Vec<u8>,
        /// How many chunks there were (3.3 and later).
        total: Option<u32>,
    },
    /// A sharing tag is active at the sender now (3.0 and later).
    TagActive {
        /// Which one.
        tag: Vec<u8>,
    },
}

/// Records of a capability, in the packet that they came in.
#[derive(Debug, Clone)]
pub struct Sync<'a> {
    /// Which capability.
    pub capability: &'a [u8],
    /// The version that the capability's own code gave them.
    pub data_version: i32,
    /// The records.
    pub chunks: Chunks<'a>,
}

/// Orders the updates of one node: 0 means that it restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Counts up from 0.
    pub seq: i32,
    /// Seconds since 1970 at the sender, as an int.
    pub timestamp: i32,
}

/// A node as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyNode {
    /// Its id.
    pub id: i32,
    /// Who it is, for a receiver that did not list it.
    pub description: Option<Description>,
    /// The stamp of its last link update.
    pub stamp: Stamp,
    /// Nodes that it has a link to.
    pub neighbours: Vec<i32>,
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Where it listens: `bin:10.0.0.2:5555`.
    pub url: Vec<u8>,
    /// Its SIP address; may be empty.
    pub sip_addr: Vec<u8>,
    /// Lower goes first where two ways are as long.
    pub priority: i32,
    /// PINGs more until it is down.
    pub retries: i32,
}

/// The capabilities of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCapabilities {
    /// Its id.
    pub id: i32,
    /// Name of each, and whether it is synced.
    pub capabilities: Vec<(Vec<u8>, bool)>,
}

/// What kind of message it is, for counters and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the messages")]
pub enum Kind {
    Ping,
    Pong,
    LinkUpdate,
    FullTopology,
    UnknownId,
    Description,
    Capabilities,
    RemoveNode,
    Generic,
    MiCommand,
    SyncRequest,
    Sync,
    SyncEnd,
    TagActive,
}

impl Internal {
    /// What kind of message it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ping { .. } => Kind::Ping,
            Self::Pong { .. } => Kind::Pong,
            Self::LinkUpdate { .. } => Kind::LinkUpdate,
            Self::FullTopology { .. } => Kind::FullTopology,
            Self::UnknownId => Kind::UnknownId,
            Self::Description { .. } => Kind::Description,
            Self::Capabilities { .. } => Kind::Capabilities,
        }
    }
}

impl Extra {
    /// What kind of message it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::RemoveNode { .. } => Kind::RemoveNode,
            Self::Generic { .. } => Kind::Generic,
            Self::MiCommand { .. } => Kind::MiCommand,
            Self::SyncRequest { .. } => Kind::SyncRequest,
            Self::SyncEnd { .. } => Kind::SyncEnd,
            Self::TagActive { .. } => Kind::TagActive,
        }
    }
}

impl Kind {
    /// Every kind, in the order of [`index`](Self::index), for tables of counters.
    pub const ALL: [Self; 14] = [
        Self::Ping,
        Self::Pong,
        Self::LinkUpdate,
        Self::FullTopology,
        Self::UnknownId,
        Self::Description,
        Self::Capabilities,
        Self::RemoveNode,
        Self::Generic,
        Self::MiCommand,
        Self::SyncRequest,
        Self::Sync,
        Self::SyncEnd,
        Self::TagActive,
    ];

    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name that OpenSIPS has for it, in small letters, for counters and logs.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::LinkUpdate => "ls_update",
            Self::FullTopology => "full_top_update",
            Self::UnknownId => "unknown_id",
            Self::Description => "node_description",
            Self::Capabilities => "cap_update",
            Self::RemoveNode => "remove_node",
            Self::Generic => "generic_msg",
            Self::MiCommand => "mi_cmd",
            Self::SyncRequest => "sync_req",
            Self::Sync => "sync",
            Self::SyncEnd => "sync_end",
            Self::TagActive => "shtag_active",
        }
    }
}

/// The name of the packets between neighbours. Their first two fields are cluster and source.
pub const INTERNAL: &str = "clusterer-internal";

/// The name of the packets to one node. Their trailer is cluster, source and destination.
pub const EXTRA: &str = "clusterer-extra";

/// Nodes in a path at most: who gets one of 25 still adds itself, and who gets that sends it no further
/// (`UPDATE_MAX_PATH_LEN`, `flood_message` of OpenSIPS 3.6 `topology.c`).
pub const PATH_MAX: usize = 26;

/// Capabilities of one node at most. OpenSIPS sets no limit; all its modules together register a dozen.
pub const CAPABILITIES_MAX: usize = 64;

/// Parameters of a management command at most: receivers take 15 up to 3.5, 10 in 3.6 and 20 in 4.0.
pub const PARAMETERS_MAX: usize = 20;
