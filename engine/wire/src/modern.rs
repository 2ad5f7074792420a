//! 2.3 to 4.0: packets on TCP or TLS. (OpenSIPS 3.6 `bin_interface.{c,h}`, `modules/proto_bin/bin_common.h`.)
//!
//! ```text
//!  0        4         8          10       12               12+C        16+C
//!  | P4CK   | len:u32 | ver: i16 | C: u16 | capability ... | type: i32 | fields ... [cluster source dest]
//! ```

use crate::error::{ErrorKind, Result, WireError};
use crate::generation::{Generation, MAX_PACKET_LEN};
use crate::packet::{Packet, check_head, split_name};

#[inline]
pub(crate) fn parse(frame: &[u8]) -> Result<Packet<'_>> {
    check_head(Generation::Modern, frame)?;
    let (head, rest) = frame
        .split_first_chunk::<12>()
        .expect("longer than the header");
    let [_, _, _, _, l0, l1, l2, l3, v0, v1, n0, n1] = *head;
    let declared = u32::from_le_bytes([l0, l1, l2, l3]);
    if declared as usize != frame.len() {
        return Err(WireError::new(
            ErrorKind::LengthMismatch,
            4,
            declared as usize,
            frame.len(),
        ));
    }
    if frame.len() > MAX_PACKET_LEN {
        return Err(WireError::new(
            ErrorKind::LengthAboveMaximum,
            4,
            MAX_PACKET_LEN,
            frame.len(),
        ));
    }
    let name_len = u16::from_le_bytes([n0, n1]);
    let (name, command, body) = split_name(i64::from(name_len), rest, 10)?;
    Ok(Packet {
        bytes: frame,
        name,
        body,
        command,
        version: i16::from_le_bytes([v0, v1]),
        generation: Generation::Modern,
    })
}

/// Stores the total length of a finished packet.
#[inline]
pub(crate) fn seal(packet: &mut [u8]) {
    let len = u32::try_from(packet.len()).expect("the builder keeps to 65535 bytes");
    packet[4..8].copy_from_slice(&len.to_le_bytes());
}
