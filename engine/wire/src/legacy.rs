//! 1.10, 1.11 and 2.1: one packet per UDP datagram. (OpenSIPS 1.11 `bin_interface.{c,h}`.)
//!
//! ```text
//!  0        4        8        12         12+L       16+L
//!  | P4CK   | crc    | L: i32 | name ... | cmd: i32 | fields ...
//!                    '------ crc covers ---------------------->
//! ```

use crate::crc32::checksum;
use crate::error::{ErrorKind, Result, WireError};
use crate::generation::Generation;
use crate::packet::{Packet, check_head, split_name};

#[inline]
pub(crate) fn parse(frame: &[u8]) -> Result<Packet<'_>> {
    check_head(Generation::Legacy, frame)?;
    // `check_head` saw at least 18 bytes.
    let (head, rest) = frame
        .split_first_chunk::<12>()
        .expect("longer than the header");
    let [_, _, _, _, c0, c1, c2, c3, n0, n1, n2, n3] = *head;
    let stored = u32::from_le_bytes([c0, c1, c2, c3]);
    let computed = checksum(&frame[8..]);
    if stored != computed {
        return Err(WireError {
            kind: ErrorKind::Checksum,
            at: 4,
            need: i64::from(computed),
            have: i64::from(stored),
        });
    }
    let name_len = i32::from_le_bytes([n0, n1, n2, n3]);
    let (name, command, body) = split_name(i64::from(name_len), rest, 8)?;
    Ok(Packet {
        bytes: frame,
        name,
        body,
        command,
        version: 0,
        generation: Generation::Legacy,
    })
}

/// Stores the checksum of a finished packet.
#[inline]
pub(crate) fn seal(packet: &mut [u8]) {
    let crc = checksum(&packet[8..]);
    packet[4..8].copy_from_slice(&crc.to_le_bytes());
}
