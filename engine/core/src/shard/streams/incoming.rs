//! Connections that are handed to a shard.

use std::fmt;
use std::net::SocketAddr;

use crossbeam_queue::SegQueue;

use crate::tls::Session;

/// A connection that was let in, on its way to the shard that will read it.
pub struct NewConnection<K> {
    /// Its socket, which does not block.
    pub socket: K,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Where it arrived; `None`: nobody knows.
    pub local: Option<SocketAddr>,
    /// Number of the listener that it came to.
    pub listener: u32,
    /// The session, once hands were shaken; `None`: not inside TLS.
    pub tls: Option<Box<Session>>,
    /// What it sent already, inside TLS where there is any.
    pub early: Vec<u8>,
    /// Dropped when its socket is closed, for who counts them.
    pub seat: Option<Box<dyn Send>>,
}

/// Where a shard gets its new connections from.
pub trait Incoming<K>: Send + Sync {
    /// Whether there is one. Asked in each turn, so no more than a load.
    fn is_waiting(&self) -> bool;

    /// The next one.
    fn take(&self) -> Option<NewConnection<K>>;
}

/// A plain queue, for who has no acceptor.
impl<K: Send> Incoming<K> for SegQueue<NewConnection<K>> {
    fn is_waiting(&self) -> bool {
        !self.is_empty()
    }

    fn take(&self) -> Option<NewConnection<K>> {
        self.pop()
    }
}

impl<K> fmt::Debug for NewConnection<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewConnection")
            .field("peer", &self.peer)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
