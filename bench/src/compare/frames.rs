//! Frames of an exact size, as a stream has them: packets of 2.4 and later that delete a dialog, with the ids that
//! clusterer routes by behind their fields.

use anyhow::Context as _;
use binrush_probe::{STAMP_LEN, Stamp};
use binrush_wire::{Builder, Generation, Packet, Trailer};

/// Some frames of equal length, one after the other in memory, to be sent round and round.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    size: usize,
}

impl Frames {
    /// `count` frames of `size` bytes each, [`SIZE_MIN`](super::packets::SIZE_MIN) or more, with as many Call-IDs.
    ///
    /// Those with room for a stamp have one, so that a receiver that audits has its work with them. When they come round
    /// again they are duplicates to it.
    pub(crate) fn new(size: usize, count: usize) -> anyhow::Result<Self> {
        let mut bytes = vec![0; size * count];
        for (index, frame) in bytes.chunks_exact_mut(size).enumerate() {
            fill(frame, index).with_context(|| format!("cannot make a frame of {size} bytes"))?;
            stamp(frame, index)?;
        }
        Ok(Self { bytes, size })
    }

    /// Length of each in bytes.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// All of them once.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes frame number `index`, which fills `frame` to its last byte: the Call-ID, the caller's tag as long as a stamp if
/// there is room, and the other tag for the rest.
fn fill(frame: &mut [u8], index: usize) -> binrush_wire::Result<()> {
    let mut builder = Builder::new(Generation::Modern, frame, NAME, DELETED, VERSION)?;
    builder.push_str(format!("{index:06x}@10.0.0.1").as_bytes())?;
    let tags = builder
        .remaining()
        .saturating_sub(TRAILER_LEN + 2 * STR_LEN_LEN);
    let tag = tags.min(STAMP_LEN);
    builder.push_str(&vec![b'x'; tag])?;
    builder.push_str(&vec![b'x'; tags - tag])?;
    builder.push_trailer(Trailer::new(1, 2, 1))?;
    builder.seal();
    Ok(())
}

/// Stamps frame number `index` where it has room for that.
fn stamp(frame: &mut [u8], index: usize) -> anyhow::Result<()> {
    let packet = Packet::parse(Generation::Modern, frame)?;
    let Some(place) = binrush_probe::place(&packet) else {
        return Ok(());
    };
    let stamp = Stamp {
        run: 1,
        stream: 0,
        sequence: index as u64,
        intended_ns: 0,
        late_ns: None,
    };
    binrush_probe::seal(frame, place.start, &stamp);
    Ok(())
}

const NAME: &[u8] = b"dialog-dlg-repl";

/// The command of a dialog that is over, and its first version (OpenSIPS 2.4 `modules/dialog/dlg_replication.h`).
const DELETED: i32 = 3;
const VERSION: i16 = 1;

/// What a string takes besides its bytes, and the ids of cluster, source and destination.
const STR_LEN_LEN: usize = 2;
const TRAILER_LEN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::packets::{SIZE_MAX, SIZE_MIN};
    use binrush_wire::{Head, frame_len, schema};
    use std::collections::HashSet;

    #[test]
    fn frames_are_valid_exactly_as_long_as_asked_and_of_different_dialogs() {
        for size in [SIZE_MIN, 65, 104, 105, 200, 1400, SIZE_MAX] {
            let frames = Frames::new(size, 500).unwrap();
            let mut call_ids = HashSet::new();
            for bytes in frames.bytes().chunks_exact(frames.size()) {
                let head = frame_len(Generation::Modern, bytes, SIZE_MAX);
                assert_eq!(head, Head::Complete { len: size });
                let packet = Packet::parse(Generation::Modern, bytes).unwrap();
                let message = schema::identify(&packet).expect("a message that nodes send");
                message.walk(&packet, |_| {}).expect("to its last byte");
                let mut fields = packet.fields();
                call_ids.insert(fields.pop_str().unwrap().to_vec());
            }
            assert_eq!(call_ids.len(), 500, "{size}");
        }
    }

    #[test]
    fn frames_with_room_have_a_stamp_each() {
        for (size, stamped) in [(SIZE_MIN, false), (104, false), (105, true), (1400, true)] {
            let frames = Frames::new(size, 3).unwrap();
            for (index, bytes) in frames.bytes().chunks_exact(size).enumerate() {
                let packet = Packet::parse(Generation::Modern, bytes).unwrap();
                let sequence = binrush_probe::read(&packet).map(|stamp| stamp.sequence);
                assert_eq!(sequence.ok(), stamped.then_some(index as u64), "{size}");
            }
        }
    }

    #[test]
    fn a_size_too_small_for_a_call_id_is_an_error() {
        assert!(Frames::new(30, 1).is_err());
    }
}
