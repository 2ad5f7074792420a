//! What doors and gates hand to the seats.

use std::net::IpAddr;

use binrush_wire::Release;

use super::message::{Extra, Internal};
use super::outbox::Slice;
use crate::clock::Timestamp;

/// Where doors and gates put what the seats have to hear. Bounded, never blocks, from any thread.
pub trait Inbox: Send + Sync {
    /// A message of the cluster's own; `false`: there is no room, and it was not taken.
    fn message(&self, message: Incoming) -> bool;

    /// Records that a seat asked for. There is always room for what was asked for.
    fn slice(&self, slice: Slice);

    /// A shard's words of a session changed.
    fn session_moved(&self);

    /// A record of live packets found no room on some shard, and no sync under way will tell of it: our copy lacks it.
    fn record_missed(&self, cluster: i32, capability: &str);
}

/// A message of the cluster's own, of a node that is known or may introduce himself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// When it arrived.
    pub at: Timestamp,
    /// The address it came from.
    pub ip: IpAddr,
    /// The number of the connection it came by, from 1; 0: it came by one that we opened.
    pub connection: u64,
    /// The cluster it is about.
    pub cluster: i32,
    /// The node that made it.
    pub source: i32,
    /// The releases that write such a packet, first and last; `None`: it shows nothing of its maker. What is assumed of
    /// the node is brought into this range by `Release::clamp`.
    pub shown: Option<(Release, Release)>,
    /// What it says.
    pub body: Body,
}

/// What an [`Incoming`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Between neighbours.
    Internal(Internal),
    /// To us.
    Extra(Extra),
}
