//! What shards know of the clusters: immutable, shown by the seats, read once per packet at the price of one load.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use binrush_wire::Release;

use super::session::Session;
use crate::access::Cidr;
use crate::clock::Timestamp;
use crate::dispatch::handler::Refusal;

/// All clusters.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// In no particular order.
    pub clusters: Vec<RosterCluster>,
}

/// One cluster.
#[derive(Debug, Clone)]
pub struct RosterCluster {
    /// Its id.
    pub id: i32,
    /// Our id in it.
    pub me: i32,
    /// The others.
    pub nodes: Vec<RosterNode>,
    /// Capabilities of ours in it that are enabled.
    pub capabilities: Vec<String>,
    /// Syncs that are under way.
    pub sessions: Vec<Arc<Session>>,
    /// Who may introduce himself.
    pub learn: Vec<Cidr>,
    /// When which node was heard last.
    pub heard: Arc<Heard>,
}

/// Another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RosterNode {
    /// Its id.
    pub id: i32,
    /// Its address.
    pub ip: IpAddr,
    /// Whether its packets are taken.
    pub enabled: bool,
    /// Its release, as far as that is known.
    pub release: Release,
    /// Its place in [`Heard`], below [`NODES_MAX`](super::config::NODES_MAX).
    pub slot: u8,
}

/// When something came last, of each node: written by all shards, read by the seat.
#[derive(Debug)]
pub struct Heard(Box<[AtomicU64]>);

/// Where the roster of this moment hangs.
#[derive(Debug, Default)]
pub struct Board {
    generation: AtomicU64,
    roster: Mutex<Arc<Roster>>,
}

/// One shard's look at the [`Board`].
#[derive(Debug, Clone)]
pub struct Reader {
    board: Arc<Board>,
    seen: u64,
    roster: Arc<Roster>,
}

impl Roster {
    /// The cluster of this id, if this process is a node of it.
    #[inline]
    #[must_use]
    pub fn cluster(&self, id: i32) -> Option<&RosterCluster> {
        self.clusters.iter().find(|cluster| cluster.id == id)
    }
}

impl RosterCluster {
    /// The other node of this id.
    #[inline]
    #[must_use]
    pub fn node(&self, id: i32) -> Option<&RosterNode> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Whether any of the other nodes has this address. Ports are not compared, as genuine nodes do not (OpenSIPS 3.6
    /// `clusterer.c`, `ip_check`).
    #[must_use]
    pub fn has_address(&self, ip: IpAddr) -> bool {
        self.nodes.iter().any(|node| node.ip == ip)
    }

    /// The node `id`, if a packet that it made may come from `ip`: that is its address, or that of another node, which
    /// forwarded it or whose host is the same.
    ///
    /// # Errors
    /// [`Refusal::OwnId`], [`Refusal::UnknownNode`], [`Refusal::ForeignAddress`], [`Refusal::Disabled`], the first that is
    /// the case.
    pub fn sender(&self, id: i32, ip: IpAddr) -> Result<&RosterNode, Refusal> {
        if id == self.me {
            return Err(Refusal::OwnId);
        }
        let node = self.node(id).ok_or(Refusal::UnknownNode)?;
        self.check(node, ip).map(|()| node)
    }

    /// What [`sender`](Self::sender) looks at behind the id, for who has found the node already.
    #[inline]
    pub(super) fn check(&self, node: &RosterNode, ip: IpAddr) -> Result<(), Refusal> {
        if node.ip != ip && !self.has_address(ip) {
            Err(Refusal::ForeignAddress)
        } else if !node.enabled {
            Err(Refusal::Disabled)
        } else {
            Ok(())
        }
    }

    /// Whether somebody from this address may introduce himself.
    #[must_use]
    pub fn may_learn(&self, ip: IpAddr) -> bool {
        self.learn.iter().any(|network| network.contains(ip))
    }

    /// Whether this capability of ours is enabled here.
    #[must_use]
    pub fn has_capability(&self, name: &[u8]) -> bool {
        let mut names = self.capabilities.iter();
        names.any(|capability| capability.as_bytes() == name)
    }
}

impl Board {
    /// Shows `cluster` in place of what was shown of it.
    pub fn show(&self, cluster: RosterCluster) {
        let mut shown = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
        let mut roster = Roster::clone(&shown);
        roster.clusters.retain(|other| other.id != cluster.id);
        roster.clusters.push(cluster);
        *shown = Arc::new(roster);
        // Release: who sees the number finds this roster, or a later one, behind the lock.
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Reader {
    /// A look at `board`.
    #[must_use]
    pub fn new(board: Arc<Board>) -> Self {
        let mut reader = Self {
            board,
            seen: u64::MAX,
            roster: Arc::default(),
        };
        reader.roster();
        reader
    }

    /// The roster of this moment. One load, unless it changed.
    #[inline]
    pub fn roster(&mut self) -> &Roster {
        let generation = self.board.generation.load(Ordering::Acquire);
        if generation != self.seen {
            self.look(generation);
        }
        &self.roster
    }

    /// What [`roster`](Self::roster) gave last.
    #[inline]
    #[must_use]
    pub fn seen(&self) -> &Roster {
        &self.roster
    }

    /// The number of what [`roster`](Self::roster) gave last. It changes with the roster, so what was worked out of one need
    /// not be worked out again.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.seen
    }

    #[cold]
    fn look(&mut self, generation: u64) {
        let shown = self
            .board
            .roster
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.roster = Arc::clone(&shown);
        self.seen = generation;
    }
}

impl Heard {
    /// Nobody was heard yet.
    #[must_use]
    pub fn new() -> Self {
        Self(
            (0..super::config::NODES_MAX)
                .map(|_| AtomicU64::new(0))
                .collect(),
        )
    }

    /// Something of this node arrived at `now`. Several shards may say so: the last one wins, which is as good.
    #[inline]
    pub fn hear(&self, slot: u8, now: Timestamp) {
        if let Some(word) = self.0.get(usize::from(slot))
            && word.load(Ordering::Relaxed) + HEARD_STEP < now.as_nanos()
        {
            word.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// When this node was heard last, to a few milliseconds; the beginning of time: never.
    #[must_use]
    pub fn last(&self, slot: u8) -> Timestamp {
        let word = self.0.get(usize::from(slot));
        Timestamp::from_nanos(word.map_or(0, |word| word.load(Ordering::Relaxed)))
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self::new()
    }
}

/// Who is heard all the time is not written down all the time.
const HEARD_STEP: u64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: i32, ip: [u8; 4]) -> RosterNode {
        RosterNode {
            id,
            ip: ip.into(),
            enabled: id != 4,
            release: Release::V3_6,
            slot: 0,
        }
    }

    fn cluster(id: i32) -> RosterCluster {
        RosterCluster {
            id,
            me: 1,
            nodes: vec![
                node(2, [10, 0, 0, 2]),
                node(3, [10, 0, 0, 3]),
                node(4, [10, 0, 0, 4]),
            ],
            capabilities: vec!["dialog-dlg-repl".into()],
            sessions: Vec::new(),
            learn: vec![Cidr::new([10, 0, 9, 0].into(), 24).unwrap()],
            heard: Arc::default(),
        }
    }

    #[test]
    fn a_sender_is_known_comes_from_an_address_of_the_cluster_and_is_enabled() {
        let cluster = cluster(1);
        let sender = |id, ip: [u8; 4]| cluster.sender(id, ip.into()).map(|node| node.id);
        assert_eq!(sender(2, [10, 0, 0, 2]), Ok(2));
        assert_eq!(sender(2, [10, 0, 0, 3]), Ok(2), "another node forwarded it");
        assert_eq!(sender(1, [10, 0, 0, 2]), Err(Refusal::OwnId));
        assert_eq!(sender(9, [10, 0, 0, 2]), Err(Refusal::UnknownNode));
        assert_eq!(sender(2, [10, 0, 0, 9]), Err(Refusal::ForeignAddress));
        assert_eq!(sender(4, [10, 0, 0, 4]), Err(Refusal::Disabled));
    }

    #[test]
    fn who_may_introduce_himself_and_what_is_enabled_is_as_it_is_told() {
        let cluster = cluster(1);
        assert!(cluster.may_learn([10, 0, 9, 200].into()));
        assert!(!cluster.may_learn([10, 0, 0, 2].into()));
        assert!(cluster.has_capability(b"dialog-dlg-repl"));
        assert!(!cluster.has_capability(b"dialog-dlg-rep"));
    }

    #[test]
    fn a_reader_sees_the_last_roster_and_that_it_is_another_one() {
        let board = Arc::new(Board::default());
        let mut reader = Reader::new(Arc::clone(&board));
        assert!(reader.roster().cluster(1).is_none());
        let before = reader.generation();
        board.show(cluster(1));
        board.show(cluster(2));
        assert!(reader.roster().cluster(1).is_some() && reader.roster().cluster(2).is_some());
        assert_ne!(reader.generation(), before);
        board.show(RosterCluster {
            me: 7,
            ..cluster(1)
        });
        let me = |reader: &mut Reader, id| reader.roster().cluster(id).map(|cluster| cluster.me);
        assert_eq!((me(&mut reader, 1), me(&mut reader, 2)), (Some(7), Some(1)));
    }

    #[test]
    fn who_is_heard_all_the_time_is_written_down_now_and_then() {
        let heard = Heard::new();
        let at = Timestamp::from_nanos;
        assert_eq!(heard.last(3), at(0));
        heard.hear(3, at(1_000_000_000));
        heard.hear(3, at(1_004_000_000));
        assert_eq!(heard.last(3), at(1_000_000_000));
        heard.hear(3, at(1_006_000_000));
        assert_eq!(heard.last(3), at(1_006_000_000));
        heard.hear(255, at(1));
        assert_eq!(heard.last(255), at(0), "there is no such place");
    }
}
