//! SYNC packets cut into their chunks. (OpenSIPS 3.6 `modules/clusterer/sync.c`.)
//!
//! ```text
//!  | size: i32 | 0x06054AB5 | size bytes of module data | size: i32 | ...
//! ```

use core::iter::FusedIterator;

use crate::error::{ErrorKind, Result, WireError};
use crate::field::Fields;
use crate::generation::Generation;

/// The word between a chunk's size and its data: 101010101.
pub const CHUNK_MARKER: i32 = 0x0605_4AB5;

/// Bytes before a chunk's data.
pub const CHUNK_HEADER_LEN: usize = 8;

/// One chunk: what a module packs for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Module data, read as the fields of the capability's sync layout.
    pub data: &'a [u8],
    /// Offset of the data in the frame.
    pub at: usize,
}

impl<'a> Chunk<'a> {
    /// A cursor over the chunk's fields.
    #[must_use]
    pub const fn fields(&self) -> Fields<'a> {
        Fields::new(Generation::Modern, self.data, self.at)
    }
}

/// The chunks of a SYNC packet, in order.
///
/// Moves forward only. The first chunk that is not whole is returned as an error and ends the iteration
/// (rule R7); a genuine node stops there too and counts the sync as incomplete.
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    fields: Fields<'a>,
}

impl<'a> Chunks<'a> {
    /// The chunks from where `fields` stands to its end: after capability and data version, without trailer.
    #[must_use]
    pub const fn new(fields: Fields<'a>) -> Self {
        Self { fields }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.fields.is_empty() {
            return None;
        }
        let chunk = pop_chunk(&mut self.fields);
        if chunk.is_err() {
            self.fields.take_rest();
        }
        Some(chunk)
    }
}

impl FusedIterator for Chunks<'_> {}

/// Takes one chunk off the front; on error the cursor does not move.
///
/// # Errors
/// [`ErrorKind::ChunkSize`] or [`ErrorKind::ChunkMarker`].
pub fn pop_chunk<'a>(fields: &mut Fields<'a>) -> Result<Chunk<'a>> {
    let at = fields.offset();
    let left = fields.rest().len().saturating_sub(CHUNK_HEADER_LEN);
    let cut_short = |_| {
        WireError::new(
            ErrorKind::ChunkSize,
            at,
            CHUNK_HEADER_LEN,
            fields.rest().len(),
        )
    };
    let mut ahead = fields.clone();
    let size = ahead.pop_int().map_err(cut_short)?;
    let marker = ahead.pop_int().map_err(cut_short)?;
    if marker != CHUNK_MARKER {
        return Err(WireError {
            kind: ErrorKind::ChunkMarker,
            at: at + 4,
            need: i64::from(CHUNK_MARKER),
            have: i64::from(u32::from_le_bytes(marker.to_le_bytes())),
        });
    }
    let refused = WireError::claimed(ErrorKind::ChunkSize, at, i64::from(size), left);
    let size = usize::try_from(size)
        .ok()
        .filter(|&size| size > 0)
        .ok_or(refused)?;
    let chunk_at = ahead.offset();
    let data = ahead.take_bytes(size).map_err(|_| refused)?;
    *fields = ahead;
    Ok(Chunk { data, at: chunk_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(size: i32, marker: i32, data: &[u8]) -> Vec<u8> {
        [&size.to_le_bytes()[..], &marker.to_le_bytes(), data].concat()
    }

    fn kinds(bytes: &[u8]) -> Vec<core::result::Result<usize, ErrorKind>> {
        Chunks::new(Fields::new(Generation::Modern, bytes, 40))
            .map(|chunk| {
                chunk
                    .map(|chunk| chunk.data.len())
                    .map_err(|error| error.kind)
            })
            .collect()
    }

    #[test]
    fn chunks_come_in_order_with_their_offsets() {
        let bytes = [chunk(2, CHUNK_MARKER, b"ab"), chunk(1, CHUNK_MARKER, b"c")].concat();
        let chunks: Vec<_> = Chunks::new(Fields::new(Generation::Modern, &bytes, 40))
            .map(|chunk| chunk.unwrap())
            .collect();
        assert_eq!(
            chunks,
            [
                Chunk {
                    data: b"ab",
                    at: 48
                },
                Chunk { data: b"c", at: 58 }
            ]
        );
    }

    #[test]
    fn a_broken_chunk_is_told_once_and_ends_the_iteration() {
        let good = chunk(1, CHUNK_MARKER, b"a");
        let ends = |bad: Vec<u8>| kinds(&[good.clone(), bad, good.clone()].concat());
        assert_eq!(
            ends(chunk(1, CHUNK_MARKER + 1, b"b")),
            [Ok(1), Err(ErrorKind::ChunkMarker)]
        );
        assert_eq!(
            ends(chunk(0, CHUNK_MARKER, b"")),
            [Ok(1), Err(ErrorKind::ChunkSize)]
        );
        assert_eq!(
            ends(chunk(-9, CHUNK_MARKER, b"b")),
            [Ok(1), Err(ErrorKind::ChunkSize)]
        );
        assert_eq!(
            ends(chunk(99, CHUNK_MARKER, b"b")),
            [Ok(1), Err(ErrorKind::ChunkSize)]
        );
        assert_eq!(
            kinds(&[good.clone(), vec![1, 0, 0]].concat()),
            [Ok(1), Err(ErrorKind::ChunkSize)]
        );
    }
}
