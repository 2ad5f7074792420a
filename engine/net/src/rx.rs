//! Receiving: the trait that every backend fills, one file per backend.

use std::io;
use std::time::Duration;

use crate::batch::Batch;
use crate::slab::Slab;

/// `recvmmsg(2)`: many datagrams per system call; works everywhere, needs no privilege.
pub mod recvmmsg;

/// A source of datagrams for one shard.
///
/// Used by one thread at a time, always with the same slab: a backend may hold frames of it between calls.
/// Receiving and waiting are apart, so that the caller decides how long to ask again before it sleeps, and
/// may serve more than one queue.
pub trait RxQueue {
    /// Fills `batch` with what is there, at most what it has room for, in the order of arrival. Never waits.
    ///
    /// **An empty batch means that nothing was there.** With new arrivals shut off, and
    /// [`queued_bytes`](Self::queued_bytes) at 0, it stays so.
    ///
    /// The datagrams belong to the caller until [`Batch::release`]; hand in a released batch.
    ///
    /// # Errors
    /// Only what another call cannot be expected to overcome by itself. Interruption by a signal and a pending
    /// ICMP error are no errors. On an error the batch is as it was.
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()>;

    /// Returns when something may be there to receive, and after `timeout` in any case. May return early.
    ///
    /// # Errors
    /// What waiting itself met; that nothing came is no error.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;

    /// Memory of the kernel, in bytes, that datagrams not received yet take; 0 only if there are none.
    ///
    /// Each of them takes at least [`QUEUED_LEN_MIN`]. May be more than there is while others receive or send.
    ///
    /// # Errors
    /// What asking the kernel met.
    fn queued_bytes(&self) -> io::Result<u64>;
}

/// What a queued datagram takes at least, in bytes of kernel memory: the `struct sk_buff` alone is as large.
pub const QUEUED_LEN_MIN: u64 = 256;
