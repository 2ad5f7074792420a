//! Who sees packets in front of their handlers, and may refuse them.

use binrush_wire::Packet;

use super::handler::Origin;
use crate::clock::Timestamp;

/// Decides which of a shard's packets come to their handlers. Called by the shard's thread only, as a
/// [`Handler`](super::handler::Handler) is: it must not block and has to return soon.
pub trait Front: Send {
    /// Whether a packet goes on: to its handler, or to where those without one are counted. Otherwise it comes to
    /// [`Outcome::DroppedByScript`](crate::Outcome::DroppedByScript).
    ///
    /// Each packet is shown once, on the shard that handles it; what handlers make of one for others (parts of a sync) as well.
    fn admits(&mut self, origin: &Origin, packet: &Packet<'_>) -> bool;

    /// Time has passed: does what is due without a packet. `true`: there is more to do, or may be soon.
    ///
    /// Called ten times a second, and about a millisecond after it answered `true`; later where batches take longer, and not any more
    /// once the shard ends. On shards that own nothing, too. Packets wait meanwhile, for 200 us and no longer: who runs code of others,
    /// of which nobody knows how long it takes, looks at the shard's `clock` behind each piece.
    fn turn(&mut self, clock: &mut dyn FnMut() -> Timestamp) -> bool;
}
