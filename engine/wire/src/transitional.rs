//! 2.2: packets on TCP, with a 16-bit total length. (OpenSIPS 2.2 `bin_interface.{c,h}`, `proto_bin.c`.)
//!
//! ```text
//!  0        4         6    8          10   12       16         16+L       20+L
//!  | P4CK   | len:u16 | ?? | ver: i16 | ?? | L: i32 | name ... | cmd: i32 | fields ...
//! ```
//!
//! A genuine sender never writes the bytes marked `??`, so they hold anything. Its length word also misses
//! the empty strings pushed *last*, 4 bytes each: they follow the declared end as zero bytes, and are counted
//! as part of the packet here.

use crate::error::{ErrorKind, Result, WireError};
use crate::generation::Generation;
use crate::packet::{Packet, check_head, split_name};

/// Length of the empty strings at the head of `bytes`, which a 2.2 sender leaves out of its length word.
pub(crate) fn uncounted_len(bytes: &[u8]) -> usize {
    let strings = bytes
        .chunks_exact(4)
        .take(UNCOUNTED_MAX)
        .take_while(|string| *string == [0; 4]);
    strings.count() * 4
}

/// Uncounted empty strings that are believed: no payload of 2.2 has as many strings.
const UNCOUNTED_MAX: usize = 32;

#[inline]
pub(crate) fn parse(frame: &[u8]) -> Result<Packet<'_>> {
    check_head(Generation::Transitional, frame)?;
    let (head, rest) = frame
        .split_first_chunk::<16>()
        .expect("longer than the header");
    let [_, _, _, _, l0, l1, _, _, v0, v1, _, _, n0, n1, n2, n3] = *head;
    let declared = usize::from(u16::from_le_bytes([l0, l1]));
    let uncounted = frame.get(declared..).unwrap_or_default();
    if declared > frame.len() || uncounted_len(uncounted) != uncounted.len() {
        return Err(WireError::new(
            ErrorKind::LengthMismatch,
            4,
            declared,
            frame.len(),
        ));
    }
    if declared < Generation::Transitional.min_packet_len() {
        let min = Generation::Transitional.min_packet_len();
        return Err(WireError::new(
            ErrorKind::LengthBelowMinimum,
            4,
            min,
            declared,
        ));
    }
    let name_len = i32::from_le_bytes([n0, n1, n2, n3]);
    let (name, command, body) = split_name(i64::from(name_len), rest, 12)?;
    Ok(Packet {
        bytes: frame,
        name,
        body,
        command,
        version: i16::from_le_bytes([v0, v1]),
        generation: Generation::Transitional,
    })
}

/// Stores the total length of a finished packet.
#[inline]
pub(crate) fn seal(packet: &mut [u8]) {
    let len = u16::try_from(packet.len()).expect("the builder keeps to 65535 bytes");
    packet[4..6].copy_from_slice(&len.to_le_bytes());
}
