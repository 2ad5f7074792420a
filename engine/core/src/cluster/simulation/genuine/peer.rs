//! One other node, as a genuine one knows it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::network::Time;
use super::super::speech::Who;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) who: Who,
    pub(super) host: usize,
    pub(super) link: Link,
    pub(super) last_ping: Time,
    pub(super) ping_was_sent: bool,
    pub(super) last_pong: Time,
    pub(super) last_recv: Time,
    pub(super) last_sent: Time,
    pub(super) retries_left: i32,
    pub(super) links: Stamps,
    pub(super) topology: Stamps,
    pub(super) caps: Stamps,
    pub(super) neighbours: BTreeSet<i32>,
    pub(super) capabilities: BTreeMap<String, Theirs>,
    /// There was a way to it when events were last looked at.
    pub(super) was_reachable: bool,
    /// When the connection to it broke, unless something was sent since.
    pub(super) broken_at: Option<Time>,
}

/// The states of BIN.md C.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Down,
    RetrySendFail,
    RestartPinging,
    Restarted,
    Retrying,
}

/// A capability of another node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Theirs {
    pub(super) is_ok: bool,
    pub(super) wants_sync: bool,
}

/// Orders the updates of one node (BIN.md C.3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamps {
    seq: i32,
    timestamp: i32,
}

impl Peer {
    pub(super) fn new(who: Who, host: usize) -> Self {
        Self {
            retries_left: who.retries,
            who,
            host,
            link: Link::RestartPinging,
            last_ping: 0,
            ping_was_sent: false,
            last_pong: 0,
            last_recv: 0,
            last_sent: 0,
            links: Stamps::new(),
            topology: Stamps::new(),
            caps: Stamps::new(),
            neighbours: BTreeSet::new(),
            capabilities: BTreeMap::new(),
            was_reachable: false,
            broken_at: None,
        }
    }
}

impl Stamps {
    pub(super) const fn new() -> Self {
        Self {
            seq: -1,
            timestamp: -1,
        }
    }

    /// The next of one's own.
    pub(super) fn count(&mut self, unix: i32) -> (i32, i32) {
        self.seq += 1;
        self.timestamp = unix;
        self.now()
    }

    pub(super) const fn now(self) -> (i32, i32) {
        (self.seq, self.timestamp)
    }

    /// Takes what is newer, and a restart.
    pub(super) fn accept(&mut self, (seq, timestamp): (i32, i32)) -> bool {
        let is_new = if seq == 0 {
            !(self.seq == 0 && timestamp <= self.timestamp)
        } else {
            seq > self.seq
        };
        if is_new {
            (self.seq, self.timestamp) = (seq, timestamp);
        }
        is_new
    }
}
