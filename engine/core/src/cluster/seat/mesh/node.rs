//! What we know of one other node.

use std::net::IpAddr;

use binrush_wire::Release;

use super::link::{Link, Terms};
use super::stamp::Counter;
use crate::clock::Timestamp;
use crate::cluster::config::{NodeConfig, Timers};
use crate::cluster::message::{Description, Stamp};

/// Another node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: NodeConfig,
    /// How it became known, if it was not configured.
    pub(super) learned: Option<Learned>,
    pub(super) link: Link,
    pub(super) terms: Terms,
    /// What it is taken to speak, unless the configuration tells.
    assumed: Release,
    /// It wrote something that not all releases write so.
    pub(super) has_shown: bool,
    /// Its CAP_UPDATEs have no stamp although others of its release have one (3.1.0 to 3.1.6, 3.2.0 to 3.2.3).
    pub(super) is_unstamped: bool,
    /// The connection that its last message came by, of those that it made to us; forgotten when we lose it.
    pub(super) connection: Option<u64>,
    /// Our own connection to it broke; forgotten as soon as there is another sign that it was away.
    pub(super) broken: Option<Broken>,
    /// Nodes that it says it has a link to, one bit for each place; [`ME`] for us.
    pub(super) links: u128,
    /// The last LS_UPDATE.
    pub(super) link_updates: Counter,
    /// The last FULL_TOP_UPDATE.
    pub(super) topologies: Counter,
    /// The last CAP_UPDATE.
    pub(super) updates: Counter,
    /// Which of the three have shown that it restarted: the others will show the same restart.
    restart_shown: u8,
    /// Of which of our updates it had number 0.
    pub(super) firsts: Firsts,
    /// A CAP_UPDATE of ours found no room at its link: it is to be told again what we have.
    pub(super) untold: Option<Untold>,
    pub(super) capabilities: Vec<Told>,
    /// It told its capabilities since we lost it last.
    pub(super) has_told: bool,
    /// When its link came up last, and how often it came up and went.
    pub(super) up_at: Timestamp,
    pub(super) ups: u64,
    pub(super) downs: u64,
}

/// How a node became known that was not configured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Learned {
    /// When it was described first, or a neighbour of ours saw it last.
    pub(super) seen: Timestamp,
    /// The address of who described it.
    pub(super) by: IpAddr,
}

/// What a node was not told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Untold {
    /// When to try again.
    pub(super) due: Timestamp,
    /// It was to answer with what it has.
    pub(super) require_reply: bool,
}

/// Our connection to a node that broke while its link was up. What it sends us itself comes by another one, which may have
/// lost nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken {
    pub(super) at: Timestamp,
    /// The one that it sent by.
    pub(super) connection: u64,
}

/// What is known of a capability of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) synced: bool,
    /// It said so himself, since we lost it last. What others say of it may be long past.
    pub(super) is_fresh: bool,
}

/// Of which of our updates a node had number 0.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Firsts(u8);

/// The updates that are counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counted {
    Links = 1,
    Topology = 2,
    Capabilities = 4,
}

impl Node {
    pub(super) fn new(
        config: NodeConfig,
        learned: Option<Learned>,
        timers: &Timers,
        release: Release,
    ) -> Self {
        Self {
            terms: Terms::new(timers, config.retries),
            config,
            learned,
            link: Link::default(),
            assumed: release,
            has_shown: false,
            is_unstamped: false,
            connection: None,
            broken: None,
            links: 0,
            link_updates: Counter::default(),
            topologies: Counter::default(),
            updates: Counter::default(),
            restart_shown: 0,
            firsts: Firsts::default(),
            untold: None,
            capabilities: Vec::new(),
            has_told: false,
            up_at: Timestamp::default(),
            ups: 0,
            downs: 0,
        }
    }

    pub(super) const fn id(&self) -> i32 {
        self.config.id
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.config.url.addr.ip().to_canonical()
    }

    /// What it speaks.
    pub(super) fn release(&self) -> Release {
        self.config.release.unwrap_or(self.assumed)
    }

    /// It wrote something that only these releases write so, first and last; whether that tells us something new.
    pub(super) fn show(&mut self, (first, last): (Release, Release)) -> bool {
        let before = self.release();
        self.has_shown = true;
        self.assumed = self.assumed.clamp(first, last);
        self.release() != before
    }

    /// Whether it is configured with a release that would have written otherwise.
    pub(super) fn contradicts(&self, (first, last): (Release, Release)) -> bool {
        let told = self.config.release;
        told.is_some_and(|told| !(first..=last).contains(&told))
    }

    /// Who it is, for others.
    pub(super) fn description(&self) -> Description {
        describe(&self.config)
    }

    /// One of its updates began to count anew; whether that is a restart which no other one has shown yet.
    pub(super) fn shows_restart(&mut self, by: Counted) -> bool {
        let bit = by as u8;
        let is_first = self.restart_shown == 0 || self.restart_shown & bit != 0;
        self.restart_shown = if is_first {
            bit
        } else {
            self.restart_shown | bit
        };
        if is_first {
            self.forget();
        }
        is_first
    }

    /// Whether it had number 0 of these updates of ours.
    pub(super) const fn has_first(&self, of: Counted) -> bool {
        self.firsts.0 & of as u8 != 0
    }

    /// It got it.
    pub(super) const fn give_first(&mut self, of: Counted) {
        self.firsts.0 |= of as u8;
    }

    /// We lost it, or it restarted: what it told may not be true any more.
    pub(super) fn forget(&mut self) {
        self.has_told = false;
        for told in &mut self.capabilities {
            told.is_fresh = false;
        }
    }

    /// What it told of `capability` since we lost it last.
    pub(super) fn synced(&self, capability: &str) -> Option<bool> {
        let mut fresh = self.capabilities.iter().filter(|told| told.is_fresh);
        fresh
            .find(|told| told.name == capability)
            .map(|told| told.synced)
    }

    /// The stamp of its last LS_UPDATE.
    pub(super) const fn link_stamp(&self) -> Stamp {
        self.link_updates.stamp()
    }
}

/// Who a node is, for others.
pub(super) fn describe(config: &NodeConfig) -> Description {
    Description {
        url: config.url_text.clone().into_bytes(),
        sip_addr: config.sip_addr.clone().into_bytes(),
        priority: config.priority,
        retries: config.retries,
    }
}

/// Our own bit in [`Node::links`]: no other node has this place.
pub(super) const ME: u128 = 1 << 127;
