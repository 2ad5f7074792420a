//! What other threads ask of the seats.

use std::sync::mpsc::SyncSender;

use crate::cluster::facts::ClusterFacts;
use crate::cluster::outbox::Event;

/// Asked of the thread of the seats, which answers where an answer is waited for.
#[derive(Debug)]
pub(super) enum Command {
    /// What is known of all clusters.
    Facts(SyncSender<Vec<ClusterFacts>>),
    /// Sync a capability now.
    Sync {
        cluster: i32,
        capability: String,
        answer: SyncSender<Result<(), String>>,
    },
    /// A message for the script of one node, or of all.
    Generic {
        cluster: i32,
        to: Option<i32>,
        is_request: bool,
        tag: Vec<u8>,
        message: Vec<u8>,
        /// To how many it was sent.
        answer: SyncSender<usize>,
    },
    /// Something of a capability, or of all, may have been missed.
    Suspect {
        cluster: Option<i32>,
        capability: Option<String>,
        why: String,
    },
    /// Tell of events here, as long as somebody listens.
    Listen(SyncSender<Event>),
    /// A connection broke, or an attempt to have one failed.
    LinkFailed { cluster: i32, node: i32 },
    /// Come to an end.
    Stop,
}
