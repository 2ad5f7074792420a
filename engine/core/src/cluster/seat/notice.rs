//! What the two halves of a seat tell each other: the mesh notices, the copies look.

use binrush_wire::Release;

/// Something that the mesh noticed and the copies have to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// The link to a node came up. Said again, without a [`NodeDown`](Self::NodeDown) between, when the node's own link to us
    /// comes up: it sent us nothing until then. What it has, and told since we lost it last, is said behind it.
    NodeUp(i32),
    /// It went down. If that was but a moment in which only we could not send, no [`NodeUp`](Self::NodeUp) follows: nothing
    /// that it sent was lost.
    NodeDown(i32),
    /// A node told what it has; said for each capability of each update, whether it changed or not.
    Capability {
        /// Which node.
        node: i32,
        /// Which capability.
        capability: String,
        /// Whether its records are complete there.
        synced: bool,
    },
    /// A node began anew: its records are what it is given from now on, and what it asked for is void. Said before the
    /// capabilities of the message that shows it.
    Restarted(i32),
    /// A node wants all records of a capability.
    SyncRequest {
        /// Which node.
        node: i32,
        /// Which capability.
        capability: String,
    },
    /// A node says that it gave all records of a capability.
    SyncEnd {
        /// Which node.
        node: i32,
        /// The number of the connection that it came by.
        connection: u64,
        /// Which capability.
        capability: String,
        /// How many chunks there were (3.3 and later).
        total: Option<u32>,
    },
}

/// What the copies may ask about the cluster.
pub(super) trait View {
    /// Its id.
    fn cluster(&self) -> i32;

    /// Our id in it.
    fn me(&self) -> i32;

    /// Whether we may call ourselves synced when there is nobody to sync from.
    fn is_seed(&self) -> bool;

    /// Whether our link to `node` is up.
    fn is_up(&self, node: i32) -> bool;

    /// All nodes that our links are up to, by id.
    fn up_nodes(&self) -> Vec<i32>;

    /// What `node` told of `capability` since we lost it last, or it restarted: whether it is synced there. `None`: nothing.
    fn synced_at(&self, node: i32, capability: &str) -> Option<bool>;

    /// What `node` speaks.
    fn release(&self, node: i32) -> Release;

    /// Lower goes first.
    fn priority(&self, node: i32) -> i32;

    /// Whether `node` says that it has a link to `other`.
    fn sees(&self, node: i32, other: i32) -> bool;

    /// The number of the connection that the last message came by that `node` sent us itself. `None`: not known.
    fn connection(&self, node: i32) -> Option<u64> {
        let _ = node;
        None
    }

    /// Whether nothing more is to be expected of the nodes that are known: each one is down, or is up and told what it has.
    fn is_settled(&self) -> bool;
}
