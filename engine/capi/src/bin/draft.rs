//! The packet of the 1.x API that a thread makes.

use binrush_wire::crc32::checksum;
use binrush_wire::{Generation, MARKER, MAX_DATAGRAM_LEN};

/// A packet under construction, in memory that is taken once and kept.
///
/// What does not fit into a datagram is refused when it is pushed, and leaves the packet as it was (R9): so every packet can be
/// sent. The genuine limit is 65535, of which the last 28 bytes never leave a host. (1.11 `bin_interface.c`, `BUF_SIZE`)
pub(crate) struct Draft {
    bytes: Box<[u8; MAX_DATAGRAM_LEN]>,
    /// 0: there is no packet.
    len: usize,
}

impl Draft {
    /// `None` without memory.
    pub(crate) fn new() -> Option<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(MAX_DATAGRAM_LEN).ok()?;
        bytes.resize(MAX_DATAGRAM_LEN, 0);
        bytes[..4].copy_from_slice(&MARKER);
        let bytes = bytes.into_boxed_slice().try_into().ok()?;
        Some(Self { bytes, len: 0 })
    }

    /// Begins a packet; the one before is gone. `false`: the name does not fit, and no packet is begun, so that who overlooks it sends
    /// nothing.
    #[inline]
    pub(crate) fn begin(&mut self, name: &[u8], command: i32) -> bool {
        self.len = HEADER_LEN;
        let is_begun = self.push_str(name) && self.push_int(command);
        if !is_begun {
            self.discard();
        }
        is_begun
    }

    /// There is no packet any more.
    #[cold]
    pub(crate) fn discard(&mut self) {
        self.len = 0;
    }

    /// Appends a string. `false`: no packet, or it does not fit.
    #[inline]
    pub(crate) fn push_str(&mut self, value: &[u8]) -> bool {
        let Some((len, body)) = self.rest().split_first_chunk_mut::<4>() else {
            return false;
        };
        let (Ok(value_len), Some(body)) = (u32::try_from(value.len()), body.get_mut(..value.len()))
        else {
            return false;
        };
        *len = value_len.to_le_bytes();
        body.copy_from_slice(value);
        self.len += 4 + value.len();
        true
    }

    /// Appends an int. `false`: as for strings.
    #[inline]
    pub(crate) fn push_int(&mut self, value: i32) -> bool {
        let Some(int) = self.rest().first_chunk_mut::<4>() else {
            return false;
        };
        *int = value.to_le_bytes();
        self.len += 4;
        true
    }

    /// The packet as it goes on the wire, with the checksum of what is in it now; `None` when there is none, or one below what a
    /// receiver takes: that of a name of one letter without fields. More can be pushed afterwards, and it can be sealed again.
    #[inline]
    pub(crate) fn seal(&mut self) -> Option<&[u8]> {
        let packet = &mut self.bytes[..self.len];
        if packet.len() < Generation::Legacy.min_packet_len() {
            return None;
        }
        let crc = checksum(packet.get(HEADER_LEN..)?);
        packet[4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        Some(packet)
    }

    /// Where the next field goes: nowhere, when there is no packet.
    #[inline]
    fn rest(&mut self) -> &mut [u8] {
        let from = if self.len == 0 {
            MAX_DATAGRAM_LEN
        } else {
            self.len
        };
        &mut self.bytes[from..]
    }
}

/// Marker and checksum.
const HEADER_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::Builder;

    #[test]
    fn packets_are_those_of_the_builder_whatever_is_pushed() {
        let mut draft = Draft::new().unwrap();
        assert_eq!(draft.seal(), None);
        assert!(!draft.push_int(1) && !draft.push_str(b"before any packet"));
        for round in 0..3 {
            let mut buffer = [0; 512];
            let mut builder =
                Builder::new(Generation::Legacy, &mut buffer, b"dialog", round, 0).unwrap();
            assert!(draft.begin(b"dialog", round));
            for (text, int) in [(&b"alice"[..], -1), (b"", i32::MAX), (&[0xFF; 300], 0)] {
                builder.push_str(text).unwrap();
                builder.push_int(int).unwrap();
                assert!(draft.push_str(text) && draft.push_int(int));
                // Sent now and then: the checksum is that of what is there.
                assert_eq!(draft.seal(), Some(builder.seal()));
            }
        }
    }

    #[test]
    fn what_does_not_fit_a_datagram_is_refused_and_leaves_the_packet_as_it_was() {
        let mut draft = Draft::new().unwrap();
        assert!(draft.begin(b"ul", 1));
        assert!(draft.push_str(&vec![7; MAX_DATAGRAM_LEN - 18 - 4 - 5]));
        let before = draft.seal().unwrap().to_vec();
        assert!(!draft.push_str(b"xx"));
        assert_eq!(draft.seal().unwrap(), before);
        assert!(draft.push_str(b"x") && !draft.push_int(0) && !draft.push_str(b""));
        assert_eq!(draft.seal().unwrap().len(), MAX_DATAGRAM_LEN);
    }

    #[test]
    fn what_every_receiver_refuses_is_not_sealed() {
        let mut draft = Draft::new().unwrap();
        assert!(draft.begin(b"u", 1));
        assert_eq!(draft.seal(), None);
        assert!(draft.push_str(b""));
        assert_eq!(draft.seal().unwrap().len(), 21);
        assert!(draft.begin(b"ul", 1));
        assert_eq!(draft.seal().unwrap().len(), 18);
    }

    #[test]
    fn a_name_that_does_not_fit_begins_nothing() {
        let mut draft = Draft::new().unwrap();
        assert!(draft.begin(b"ul", 1));
        assert!(!draft.begin(&vec![b'n'; MAX_DATAGRAM_LEN - 15], 1));
        assert_eq!(draft.seal(), None);
        assert!(draft.begin(&vec![b'n'; MAX_DATAGRAM_LEN - 16], 1));
        assert_eq!(draft.seal().unwrap().len(), MAX_DATAGRAM_LEN);
    }
}
