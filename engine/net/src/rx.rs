//! Receiving: the trait that every backend fills, one file per backend.

use std::io;

use crate::batch::Batch;
use crate::slab::Slab;

/// `recvmmsg(2)`: many datagrams per system call; works everywhere, needs no privilege.
pub mod recvmmsg;

/// A source of datagrams for one shard.
///
/// Used by one thread at a time, always with the same slab: a backend may hold frames of it between calls.
pub trait RxQueue {
    /// Fills `batch` with what is there, at most what it has room for, in the order of arrival.
    ///
    /// When nothing is there, waits a bounded time for the first datagram and never for a second one.
    /// **An empty batch means that nothing came within that time**; the caller looks at its stop flag and
    /// calls again. After an empty batch the queue was empty: with new arrivals shut off, it stays so.
    ///
    /// The datagrams belong to the caller until [`Batch::release`]; hand in a released batch.
    ///
    /// # Errors
    /// Only what another call cannot be expected to overcome by itself. Interruption by a signal, a pending
    /// ICMP error and the end of the wait are no errors. On an error the batch is as it was.
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()>;
}
