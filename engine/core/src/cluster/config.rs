//! What a seat is told at the start.

use std::time::Duration;

use binrush_wire::Release;

use crate::access::Cidr;
use crate::config::Endpoint;

/// One cluster that this process is a node of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its id, from 1.
    pub id: i32,
    /// This node. Its URL is one that the process listens on.
    pub me: NodeConfig,
    /// The others that are known from the start, at most [`NODES_MAX`] - 1; no id twice, and never ours.
    pub neighbours: Vec<NodeConfig>,
    /// When what is done.
    pub timers: Timers,
    /// What a node speaks whose release is not told and that did not show it yet.
    pub release: Release,
    /// Where nodes may come from that are not among the neighbours; empty: nobody is learned.
    pub learn: Vec<Cidr>,
    /// What is replicated here.
    pub capabilities: Vec<CapabilityConfig>,
    /// Sharing tags that are known from the start, all as backup: this node takes none by itself.
    pub tags: Vec<String>,
    /// What a sync may cost.
    pub sync: SyncLimits,
}

/// A node, as `my_node_info` and `neighbor_node_info` say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its id, from 1.
    pub id: i32,
    /// Where it listens.
    pub url: Endpoint,
    /// The same as it is written, which is what other nodes are told: `bin:10.0.0.2:5555`.
    pub url_text: String,
    /// Its SIP address; may be empty.
    pub sip_addr: String,
    /// Lower goes first where two ways are as long.
    pub priority: i32,
    /// PINGs more until a silent node is down (`no_ping_retries`).
    pub retries: i32,
    /// Whether it may declare itself synced when there is nobody to sync from (`flags=seed`).
    pub is_seed: bool,
    /// Its release, where that is told.
    pub release: Option<Release>,
}

/// When what is done; the defaults are OpenSIPS's. (`clusterer_mod.c`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Between two heartbeats.
    pub ping_interval: Duration,
    /// How long a PONG may take.
    pub ping_timeout: Duration,
    /// Between two attempts to reach a node that is down.
    pub node_timeout: Duration,
    /// How long a seed waits for a donor; 0: not at all.
    pub seed_fallback: Duration,
    /// How long a donor may be silent in the middle of a sync.
    pub sync_timeout: Duration,
}

/// A capability of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityConfig {
    /// Its name: `dialog-dlg-repl`.
    pub name: String,
    /// Whether its records are asked for at the start, and given to others. Without, the others are told that it is synced
    /// from the start if no release of OpenSIPS syncs it, and else that it is not: they would ask us for it.
    pub sync: bool,
}

/// What a sync may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncLimits {
    /// Bytes of live packets that one shard holds back for one capability while it syncs. When they are used up, all that
    /// is held is applied and the sync starts again later: no packet is lost, and the copy is not verified.
    pub hold_bytes: usize,
    /// Bytes of a SYNC packet that we send (`sync_packet_size`).
    pub packet_len: usize,
    /// The least time between two requests for the same capability.
    pub retry_min: Duration,
    /// The least time between two syncs that one node gets of one capability.
    pub donate_min: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(4),
            ping_timeout: Duration::from_secs(1),
            node_timeout: Duration::from_secs(60),
            seed_fallback: Duration::from_secs(5),
            sync_timeout: Duration::from_secs(15),
        }
    }
}

impl Default for SyncLimits {
    fn default() -> Self {
        Self {
            hold_bytes: 64 << 20,
            packet_len: 32_768,
            retry_min: Duration::from_secs(5),
            donate_min: Duration::from_secs(1),
        }
    }
}

/// Nodes of a cluster, ours included (`MAX_NO_NODES` of OpenSIPS 3.6 `clusterer.h`).
pub const NODES_MAX: usize = 128;

/// Clusters that one process is a node of (`MAX_NO_CLUSTERS`).
pub const CLUSTERS_MAX: usize = 64;
