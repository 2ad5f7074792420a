//! Chunks of a donor for one owner: what a door makes of a SYNC packet for each gate.
//!
//! ```text
//!   header: capability, SYNC_PACKET, data version | session id, low and high int | chunks as in SYNC | trailer
//! ```
//!
//! The id is known to this process alone, so a packet of this kind from the wire belongs to no session.

use binrush_wire::{Builder, Chunks, Fields, Generation, Packet, Result as Wire, Trailer};

use crate::cluster::replica::SYNC_PACKET;

/// A part, read.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct Part<'a> {
    /// The session that it claims.
    pub(in crate::cluster) session: u64,
    /// Its chunks.
    pub(in crate::cluster) chunks: Chunks<'a>,
}

impl<'a> Part<'a> {
    /// The part that `packet` is.
    ///
    /// # Errors
    /// That the ids are missing. What is wrong with a chunk is met when it is cut.
    pub(in crate::cluster) fn read(packet: &Packet<'a>) -> Wire<Self> {
        let mut fields: Fields<'a> = packet.fields();
        fields.pop_trailer()?;
        let low = u64::from(fields.pop_int()?.cast_unsigned());
        let high = u64::from(fields.pop_int()?.cast_unsigned());
        Ok(Self {
            session: high << 32 | low,
            chunks: Chunks::new(fields),
        })
    }

    /// Begins a part in `buffer`; chunks with their headers are [appended](Builder::append), and the trailer behind them.
    ///
    /// # Errors
    /// As [`Builder::new`].
    pub(in crate::cluster) fn begin<'b>(
        buffer: &'b mut [u8],
        capability: &[u8],
        data_version: i16,
        session: u64,
    ) -> Wire<Builder<'b>> {
        let mut builder = Builder::new(
            Generation::Modern,
            buffer,
            capability,
            SYNC_PACKET,
            data_version,
        )?;
        let [low, high] = halves(session);
        builder.push_int(low)?;
        builder.push_int(high)?;
        Ok(builder)
    }

    /// Ends it.
    ///
    /// # Errors
    /// That the trailer does not fit.
    pub(in crate::cluster) fn end<'b>(
        mut builder: Builder<'b>,
        trailer: Trailer,
    ) -> Wire<&'b mut [u8]> {
        builder.push_trailer(trailer)?;
        Ok(builder.finish())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the halves of an id are what is meant"
)]
const fn halves(session: u64) -> [i32; 2] {
    [session as i32, (session >> 32) as i32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_which_session_it_is_of_and_has_its_chunks() {
        for session in [0, 1, u64::MAX, 0x8000_0000_7FFF_FFFF, 0x7FFF_FFFF_8000_0000] {
            let mut buffer = [0; 128];
            let mut builder = Part::begin(&mut buffer, b"cap", 4, session).unwrap();
            builder.push_chunk(b"one").unwrap();
            builder.push_chunk(b"another").unwrap();
            let bytes = Part::end(builder, Trailer::new(1, 2, 3)).unwrap();
            let packet = Packet::parse(Generation::Modern, bytes).unwrap();
            assert_eq!((packet.command(), packet.version()), (SYNC_PACKET, Some(4)));
            let part = Part::read(&packet).unwrap();
            assert_eq!(part.session, session);
            let chunks: Vec<_> = part.chunks.map(|chunk| chunk.unwrap().data).collect();
            assert_eq!(chunks, [&b"one"[..], b"another"]);
        }
    }
}
