//! The checksum of 1.x datagrams.

/// CRC of `bytes` as a 1.x header carries it.
///
/// Reflected CRC-32 (polynomial 0xEDB88320, start 0xFFFFFFFF) *without* the final inversion, so it is the
/// complement of what zlib computes. A header holds it in the sender's byte order (little-endian here) over
/// everything after byte 8. (OpenSIPS 1.11 `bin_interface.c`.)
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    !crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_has_no_final_inversion() {
        assert_eq!(checksum(b"123456789"), 0x340B_C6D9);
    }

    #[test]
    fn of_nothing_is_the_start_value() {
        assert_eq!(checksum(b""), 0xFFFF_FFFF);
    }

    proptest::proptest! {
        #[test]
        fn equals_the_byte_at_a_time_definition(bytes: Vec<u8>) {
            let slow = bytes.iter().fold(0xFFFF_FFFF_u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
                })
            });
            assert_eq!(checksum(&bytes), slow);
        }
    }
}
