//! Who sees packets behind their handlers.

use binrush_wire::Packet;

use super::handler::Origin;

/// Sees what a shard's handlers took, and what nobody here is registered for. Called by the shard's thread only, as a
/// [`Handler`](super::handler::Handler) is: it must not block and copies what it wants to keep.
///
/// It counts for nothing in the shard's ledger: each packet has its outcome already, or gets it right behind.
pub trait Tap: Send {
    /// A packet that was handled, or waits for the end of a sync.
    fn accepted(&mut self, origin: &Origin, packet: &Packet<'_>);

    /// One whose name has no handler. It came from where packets may come from, and is a packet by its frame; that is all that is
    /// known of it.
    fn stranger(&mut self, origin: &Origin, packet: &Packet<'_>);

    /// The batch that these came in is over.
    fn batch_done(&mut self);
}
