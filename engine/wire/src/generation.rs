//! The three wire generations, and the OpenSIPS releases that speak them.

use core::fmt;

/// How packets are framed. Nothing on the wire says which one a sender uses.
///
/// ```text
/// Legacy        marker crc32 | name_len:i32 name | command:i32 | fields (str: i32 length)
/// Transitional  marker len:u16 ?? version:i16 ?? | name_len:i32 name | command:i32 | fields (str: i32 length)
/// Modern        marker len:u32 version:i16 | name_len:u16 name | type:i32 | fields (str: u16 length) [trailer]
/// ```
///
/// All integers are little-endian (BIN is host order on the wire; only little-endian hosts interoperate).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// 1.10, 1.11 and 2.1: one packet per UDP datagram, CRC, no version.
    Legacy,
    /// 2.2: TCP, 16-bit total length, 32-bit string lengths.
    Transitional,
    /// 2.3 to 4.0: TCP or TLS, 32-bit total length, 16-bit string lengths.
    Modern,
}

/// A released OpenSIPS branch whose payloads differ from its neighbours'.
///
/// Payload layouts and message numbers changed within a generation, mostly without a version bump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "the variants are the release numbers themselves"
)]
pub enum Release {
    /// 1.10, 1.11 and 2.1: no byte on the wire differs between them.
    V1x,
    V2_2,
    V2_3,
    V2_4,
    V3_0,
    V3_1,
    V3_2,
    V3_3,
    V3_4,
    V3_5,
    V3_6,
    V4_0,
}

/// The first four bytes of every packet of every generation.
pub const MARKER: [u8; 4] = *b"P4CK";

/// Largest packet of 2.2 to 3.6, and the receive buffer of 1.x, in bytes.
pub const MAX_PACKET_LEN: usize = 65_535;

/// Largest packet of 4.0: five ints stay free for the trailer and bridge ids.
pub const MAX_PACKET_LEN_4_0: usize = 65_515;

/// Largest payload of a UDP datagram over IPv4, in bytes.
pub const MAX_DATAGRAM_LEN: usize = 65_507;

impl Generation {
    /// Bytes before the name length field.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Legacy => 8,
            Self::Transitional => 12,
            Self::Modern => 10,
        }
    }

    /// Bytes of a string or name length field.
    #[inline]
    #[must_use]
    pub const fn length_width(self) -> usize {
        match self {
            Self::Legacy | Self::Transitional => 4,
            Self::Modern => 2,
        }
    }

    /// Smallest packet, in bytes: what a genuine receiver processes (1.x: 18, with the name and fields
    /// counted; 2.3+: 17, `MIN_BIN_PACKET_SIZE` of 3.6 `bin_interface.h`; 2.2: header, empty name, command).
    #[inline]
    #[must_use]
    pub const fn min_packet_len(self) -> usize {
        match self {
            Self::Legacy => 18,
            Self::Transitional => 20,
            Self::Modern => 17,
        }
    }

    /// Largest packet a sender may write, in bytes (R9). Toward a 4.0 peer use [`MAX_PACKET_LEN_4_0`].
    #[inline]
    #[must_use]
    pub const fn max_packet_len(self) -> usize {
        match self {
            Self::Legacy => MAX_DATAGRAM_LEN,
            Self::Transitional | Self::Modern => MAX_PACKET_LEN,
        }
    }

    /// The spelling that command lines and JSON use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "1.x",
            Self::Transitional => "2.2",
            Self::Modern => "2.3+",
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl core::str::FromStr for Generation {
    type Err = UnknownGeneration;

    fn from_str(text: &str) -> Result<Self, UnknownGeneration> {
        match text {
            "1.x" => Ok(Self::Legacy),
            "2.2" => Ok(Self::Transitional),
            "2.3+" => Ok(Self::Modern),
            _ => Err(UnknownGeneration),
        }
    }
}

/// A text that names no generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownGeneration;

impl fmt::Display for UnknownGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a generation is 1.x, 2.2 or 2.3+")
    }
}

impl core::error::Error for UnknownGeneration {}

impl Release {
    /// Every release, oldest first: each stands at the place of its number.
    pub const ALL: [Self; 12] = [
        Self::V1x,
        Self::V2_2,
        Self::V2_3,
        Self::V2_4,
        Self::V3_0,
        Self::V3_1,
        Self::V3_2,
        Self::V3_3,
        Self::V3_4,
        Self::V3_5,
        Self::V3_6,
        Self::V4_0,
    ];

    /// The framing this release speaks.
    #[must_use]
    pub const fn generation(self) -> Generation {
        match self {
            Self::V1x => Generation::Legacy,
            Self::V2_2 => Generation::Transitional,
            _ => Generation::Modern,
        }
    }

    /// The release number as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1x => "1.x",
            Self::V2_2 => "2.2",
            Self::V2_3 => "2.3",
            Self::V2_4 => "2.4",
            Self::V3_0 => "3.0",
            Self::V3_1 => "3.1",
            Self::V3_2 => "3.2",
            Self::V3_3 => "3.3",
            Self::V3_4 => "3.4",
            Self::V3_5 => "3.5",
            Self::V3_6 => "3.6",
            Self::V4_0 => "4.0",
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_stands_at_the_place_of_its_number_and_before_all_later_ones() {
        for (place, release) in Release::ALL.into_iter().enumerate() {
            assert_eq!(release as usize, place);
        }
        assert!(Release::ALL.is_sorted());
    }
}
