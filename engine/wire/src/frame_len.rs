//! Where the frame at the head of a stream ends (2.2 and later; a 1.x datagram is one frame).

use crate::error::{ErrorKind, Result, WireError};
use crate::generation::{Generation, MARKER};
use crate::packet::check_marker;
use crate::transitional::uncounted_len;

/// What stands at the head of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// At least `missing` more bytes are needed before the frame, or its length, is known.
    NeedMore {
        /// Bytes still to come; never zero.
        missing: usize,
    },
    /// The first `len` bytes are one frame.
    Complete {
        /// Length in bytes, header included; never below the generation's smallest packet.
        len: usize,
    },
    /// No frame can begin here. A genuine node closes the connection; a reader of captures goes on at
    /// [`next_marker`].
    Broken(WireError),
}

/// Length of the frame at the head of `bytes`; longer ones than `max_len` are refused before they are read.
///
/// `max_len` is [`MAX_PACKET_LEN`](crate::MAX_PACKET_LEN) up to 3.6, [`MAX_PACKET_LEN_4_0`](crate::MAX_PACKET_LEN_4_0)
/// from 4.0. Each complete frame is at least [`Generation::min_packet_len`] long, so a loop over a stream
/// always advances (rule R2). The marker is checked in 2.2 as well, where the genuine reader does not.
///
/// A 2.2 sender's length word misses the empty strings at the end, four zero bytes each. They are counted in
/// when they are already in `bytes` (the sender writes them with the rest), and met as
/// [`ErrorKind::Marker`] when they come later: the frame was given without them, go on at [`next_marker`].
#[must_use]
pub fn frame_len(generation: Generation, bytes: &[u8], max_len: usize) -> Head {
    match head(generation, bytes, max_len) {
        Ok(head) => head,
        Err(error) => Head::Broken(error),
    }
}

fn head(generation: Generation, bytes: &[u8], max_len: usize) -> Result<Head> {
    check_marker(bytes)?;
    let declared = match generation {
        Generation::Legacy => bytes.len(),
        Generation::Transitional => match bytes.get(4..6) {
            Some(len) => usize::from(u16::from_le_bytes([len[0], len[1]])),
            None => {
                return Ok(Head::NeedMore {
                    missing: 6 - bytes.len(),
                });
            }
        },
        Generation::Modern => match bytes.get(4..8) {
            Some(len) => u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize,
            None => {
                return Ok(Head::NeedMore {
                    missing: 8 - bytes.len(),
                });
            }
        },
    };
    let min_len = generation.min_packet_len();
    if declared < min_len {
        return Err(WireError::new(
            ErrorKind::LengthBelowMinimum,
            4,
            min_len,
            declared,
        ));
    }
    if declared > max_len {
        return Err(WireError::new(
            ErrorKind::LengthAboveMaximum,
            4,
            max_len,
            declared,
        ));
    }
    if bytes.len() < declared {
        return Ok(Head::NeedMore {
            missing: declared - bytes.len(),
        });
    }
    let uncounted = match generation {
        Generation::Transitional => {
            let room = bytes.len().min(max_len) - declared;
            uncounted_len(&bytes[declared..][..room])
        }
        Generation::Legacy | Generation::Modern => 0,
    };
    Ok(Head::Complete {
        len: declared + uncounted,
    })
}

/// Bytes to skip from the head of `bytes` to the next place where a frame may begin.
///
/// At least 1 when `bytes` is not empty. Stops at a marker, or at the beginning of one that the end cuts off.
#[must_use]
pub fn next_marker(bytes: &[u8]) -> usize {
    (1..bytes.len())
        .find(|&at| {
            let tail = &bytes[at..];
            tail[0] == MARKER[0] && MARKER.starts_with(&tail[..tail.len().min(MARKER.len())])
        })
        .unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::MAX_PACKET_LEN;

    fn modern(bytes: &[u8]) -> Head {
        frame_len(Generation::Modern, bytes, MAX_PACKET_LEN)
    }

    #[test]
    fn a_wrong_first_byte_is_known_at_once() {
        assert!(matches!(
            modern(b"X"),
            Head::Broken(WireError {
                kind: ErrorKind::Marker,
                ..
            })
        ));
        assert_eq!(modern(b"P4"), Head::NeedMore { missing: 6 });
        assert_eq!(modern(b""), Head::NeedMore { missing: 8 });
    }

    #[test]
    fn a_length_of_zero_never_loops() {
        let error = WireError::new(ErrorKind::LengthBelowMinimum, 4, 17, 0);
        assert_eq!(modern(b"P4CK\0\0\0\0"), Head::Broken(error));
    }

    #[test]
    fn a_2_2_empty_string_at_the_end_belongs_to_its_packet() {
        let mut stream = b"P4CK\x18\0??\x01\0??\x02\0\0\0ul\x01\0\0\0??".to_vec();
        assert_eq!(
            frame_len(Generation::Transitional, &stream, MAX_PACKET_LEN),
            Head::Complete { len: 24 }
        );
        stream.extend([0; 4]);
        assert_eq!(
            frame_len(Generation::Transitional, &stream, MAX_PACKET_LEN),
            Head::Complete { len: 28 }
        );
    }

    #[test]
    fn several_of_them_too_up_to_the_next_marker() {
        let mut stream = b"P4CK\x18\0??\x01\0??\x02\0\0\0ul\x01\0\0\0??".to_vec();
        stream.extend([0; 12]);
        stream.extend(b"P4CK");
        let head = frame_len(Generation::Transitional, &stream, MAX_PACKET_LEN);
        assert_eq!(head, Head::Complete { len: 36 });
        let packet = crate::Packet::parse(Generation::Transitional, &stream[..36]).unwrap();
        assert_eq!(packet.body().len(), 14);
        assert!(crate::Packet::parse(Generation::Transitional, &stream[..35]).is_err());
    }

    #[test]
    fn no_frame_is_longer_than_the_limit_with_them() {
        let mut stream = b"P4CK\x18\0??\x01\0??\x02\0\0\0ul\x01\0\0\0??".to_vec();
        stream.extend([0; 12]);
        assert_eq!(
            frame_len(Generation::Transitional, &stream, 30),
            Head::Complete { len: 28 }
        );
    }

    #[test]
    fn the_next_marker_may_be_cut_off_by_the_end() {
        assert_eq!(next_marker(b"xxP4CK"), 2);
        assert_eq!(next_marker(b"P4CKxP4"), 5);
        assert_eq!(next_marker(b"xPx"), 3);
        assert_eq!(next_marker(b"P"), 1);
    }
}
