//! Packets for a function, and no records.

use std::fmt;

use binrush_wire::{Chunk, ErrorKind, Packet, Release, WireError};

use super::{Cursor, Ended, Replica, Source, Walked};
use crate::clock::Timestamp;
use crate::cluster::session::SyncEnd;
use crate::dispatch::handler::Verdict;

/// Gives the packets of a capability to a function: `FnMut(&Source, &Packet<'_>) -> Verdict`. Called by the shard's thread
/// only; it must return as soon as a [`Handler`](crate::dispatch::handler::Handler).
///
/// For capabilities that are not synced: it keeps no records, gives none, and refuses those of a donor.
pub struct Callback<F>(pub F);

impl<F> Replica for Callback<F>
where
    F: FnMut(&Source, &Packet<'_>) -> Verdict + Send,
{
    #[inline]
    fn apply(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        (self.0)(source, packet)
    }

    /// # Errors
    /// Always: what is thrown away must not count as synced.
    fn apply_chunk(&mut self, _: &Source, _: i32, chunk: &Chunk<'_>) -> Result<(), WireError> {
        Err(WireError::new(
            ErrorKind::Leftover,
            chunk.at,
            0,
            chunk.data.len(),
        ))
    }

    fn sync_begins(&mut self, _: Timestamp) {}

    fn sync_ends(&mut self, _: Timestamp, _: SyncEnd, _: Cursor) -> Ended {
        Ended::default()
    }

    fn walk(&self, _: Cursor, _: Release, _: usize, _: &mut dyn FnMut(&[u8])) -> Walked {
        Walked::default()
    }

    fn data_version(&self, _: Release) -> Option<i32> {
        None
    }

    fn len(&self) -> usize {
        0
    }
}

impl<F> fmt::Debug for Callback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::handler::ShardId;
    use binrush_wire::{Builder, Generation};

    #[test]
    fn packets_reach_the_function_and_records_are_refused() {
        let mut seen = Vec::new();
        let mut callback = Callback(|source: &Source, packet: &Packet<'_>| {
            seen.push((source.node, packet.command()));
            Verdict::Handled
        });
        let source = Source {
            now: Timestamp::default(),
            shard: ShardId(0),
            cluster: 1,
            node: 2,
            release: Release::V3_6,
        };
        let mut buffer = [0; 64];
        let mut builder = Builder::new(Generation::Modern, &mut buffer, b"tm-repl", 7, 1).unwrap();
        let packet = Packet::parse(Generation::Modern, builder.seal()).unwrap();
        assert_eq!(callback.apply(&source, &packet), Verdict::Handled);
        let chunk = Chunk { data: b"x", at: 40 };
        assert!(callback.apply_chunk(&source, 1, &chunk).is_err());
        assert!(callback.is_empty() && callback.data_version(Release::V3_6).is_none());
        let none = callback.walk(Cursor::default(), Release::V3_6, 1, &mut |_| panic!("none"));
        assert_eq!((none.next, none.left_out), (None, 0));
        assert_eq!(seen, [(2, 7)]);
    }
}
