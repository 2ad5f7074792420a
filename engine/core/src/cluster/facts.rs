//! What a seat knows, for people: plain data that the control socket and `/metrics` show.

use super::replica::Withheld;
use super::session::SyncEnd;

/// One cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterFacts {
    /// Its id.
    pub cluster: i32,
    /// Our id in it.
    pub me: i32,
    /// All nodes that are known, ours first, then by id.
    pub nodes: Vec<NodeFacts>,
    /// Our capabilities, in the order of the configuration.
    pub capabilities: Vec<CapabilityFacts>,
    /// Sharing tags.
    pub tags: Vec<TagFacts>,
    /// Messages of the cluster's own, by kind: how many came and went.
    pub messages: Vec<MessageFacts>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// Its id.
    pub id: i32,
    /// Where it listens, as it is written.
    pub url: String,
    /// Its SIP address; may be empty.
    pub sip_addr: String,
    /// Its release in words, `3.6`, and whether it was told or found out.
    pub release: String,
    /// Whether it is ourselves.
    pub is_me: bool,
    /// Whether it was learned.
    pub learned: bool,
    /// The state of our link to it: `up`, `probing`, `down`, and in detail as OpenSIPS calls it.
    pub link: LinkState,
    /// Nodes that it has a link to, as it says.
    pub neighbours: Vec<i32>,
    /// The next node on the way to it; `None`: no way.
    pub next_hop: Option<i32>,
    /// Capabilities that it tells of, and whether it is synced.
    pub capabilities: Vec<(String, bool)>,
    /// Milliseconds since something came from it; `None`: nothing ever did.
    pub heard_ms: Option<u64>,
    /// Milliseconds that its last PONG took.
    pub pong_ms: Option<u64>,
    /// Times that its link came up, and went down.
    pub ups: u64,
    /// See `ups`.
    pub downs: u64,
}

/// The state of a link (OpenSIPS 3.6 `clusterer.h`: `clusterer_link_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// It answers.
    Up,
    /// It does not.
    Down,
    /// A PING could not be sent.
    RetrySendFail,
    /// A PING is to be sent.
    #[default]
    RestartPinging,
    /// A PING was sent.
    Restarted,
    /// One more PING was sent, because an answer is missing.
    Retrying,
    /// An answer came that was not waited for any more.
    Temporary,
}

/// One of our capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapabilityFacts {
    /// Its name.
    pub name: String,
    /// What our copy is worth.
    pub state: CopyState,
    /// Why, in words.
    pub why: String,
    /// What it is worth by the nodes that told us, all but ours, by id.
    pub peers: Vec<PeerFacts>,
    /// Whether others are told that they can sync from us.
    pub advertised: bool,
    /// The sync under way.
    pub sync: Option<SyncFacts>,
    /// The last one that ended: from whom, how, chunks, milliseconds it took.
    pub last_sync: Option<(i32, SyncEnd, u64, u64)>,
    /// Syncs that completed, and that were given up.
    pub completed: u64,
    /// See `completed`.
    pub abandoned: u64,
    /// Syncs that we gave to others, and chunks in them.
    pub donated: u64,
    /// See `donated`.
    pub donated_chunks: u64,
    /// What was kept back in those, and examples of the last one.
    pub withheld: Withheld,
    /// Donations under way: to whom, chunks sent.
    pub donations: Vec<(i32, u64)>,
    /// Requests that were not answered, because our copy is not verified.
    pub requests_waiting: Vec<i32>,
    /// What is kept of it on all shards; `None`: its replica does not say.
    pub kept: Option<KeptFacts>,
}

/// What we have of what one node told of a capability.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerFacts {
    /// The node's id.
    pub node: i32,
    /// [`Verified`](CopyState::Verified): everything since the last sync. [`Syncing`](CopyState::Syncing): a donor gives us
    /// everything. [`Suspect`](CopyState::Suspect): something was missed.
    pub state: CopyState,
    /// Why, in words; empty where nothing was missed.
    pub why: String,
}

/// What the replicas of a capability keep, and what became of the rest, over all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptFacts {
    /// Records that are there.
    pub records: u64,
    /// Bytes of memory that they count.
    pub bytes: u64,
    /// See [`Tally::incomplete`](super::replica::Tally::incomplete).
    pub incomplete: u64,
    /// See [`Tally::astray`](super::replica::Tally::astray).
    pub astray: u64,
    /// See [`Tally::full`](super::replica::Tally::full).
    pub full: u64,
    /// See [`Tally::passed_over`](super::replica::Tally::passed_over).
    pub passed_over: u64,
    /// See [`Tally::senseless`](super::replica::Tally::senseless).
    pub senseless: u64,
    /// See [`Tally::expired`](super::replica::Tally::expired).
    pub expired: u64,
}

/// What our copy of a capability's records is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyState {
    /// Nobody gave us his records yet.
    #[default]
    Unverified,
    /// A donor gives them to us.
    Syncing,
    /// It is complete, as far as anybody can know.
    Verified,
    /// Something was missed.
    Suspect,
}

/// A sync under way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncFacts {
    /// From whom.
    pub donor: i32,
    /// SYNC packets that came.
    pub packets: u64,
    /// Chunks that were applied.
    pub applied: u64,
    /// Chunks that the donor says there are, once it has said so.
    pub total: Option<u64>,
    /// Live packets that are held back.
    pub held: u64,
    /// Their bytes.
    pub held_bytes: u64,
    /// Milliseconds since it was asked for.
    pub since_ms: u64,
}

/// A sharing tag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagFacts {
    /// Its name.
    pub name: String,
    /// The node that took it last, as far as we heard; `None`: nobody did.
    pub active: Option<i32>,
}

/// Messages of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageFacts {
    /// `ping`, `pong`, `ls_update`, ...
    pub kind: &'static str,
    /// That came and were taken.
    pub received: u64,
    /// That came and were ignored: old, from a stranger, of no use.
    pub ignored: u64,
    /// That were sent.
    pub sent: u64,
}

impl LinkState {
    /// Its name.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::RetrySendFail => "retry_send_fail",
            Self::RestartPinging => "restart_pinging",
            Self::Restarted => "restarted",
            Self::Retrying => "retrying",
            Self::Temporary => "temporary",
        }
    }
}

impl CopyState {
    /// Its name.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Syncing => "syncing",
            Self::Verified => "verified",
            Self::Suspect => "suspect",
        }
    }
}
