//! Packets of an exact size: valid 1.x packets of `dialog`, each with a Call-ID of its own.

use anyhow::Context as _;
use binrush_wire::{Builder, Generation};

/// Some packets of equal length, one after the other in memory, to be sent round and round.
#[derive(Debug)]
pub(crate) struct Packets {
    bytes: Vec<u8>,
    size: usize,
}

impl Packets {
    /// `count` packets of `size` bytes each, [`SIZE_MIN`] to [`SIZE_MAX`], with as many Call-IDs.
    pub(crate) fn new(size: usize, count: usize) -> anyhow::Result<Self> {
        let mut bytes = vec![0; size * count];
        for (index, packet) in bytes.chunks_exact_mut(size).enumerate() {
            fill(packet, index).with_context(|| format!("cannot make a packet of {size} bytes"))?;
        }
        Ok(Self { bytes, size })
    }

    /// Length of each in bytes.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// The one that is sent as number `number`, as they come round again and again.
    pub(crate) fn at(&self, number: usize) -> &[u8] {
        let count = self.bytes.len() / self.size;
        &self.bytes[number % count * self.size..][..self.size]
    }

    /// All of them, again and again.
    pub(crate) fn cycle(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.size).cycle()
    }

    /// All of them in trains of at most `segments`, again and again.
    pub(crate) fn trains(&self, segments: usize) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.size * segments).cycle()
    }
}

/// Writes packet number `index`, which fills `packet` to its last byte: the Call-ID, and a string for the rest.
fn fill(packet: &mut [u8], index: usize) -> binrush_wire::Result<()> {
    let mut builder = Builder::new(Generation::Legacy, packet, b"dialog", UPDATED, 0)?;
    // Spread over the digits, as Call-IDs are, but of one length.
    let random = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    builder.push_str(format!("{:08x}-{index:06x}@10.0.0.1", random >> 32).as_bytes())?;
    let rest = builder.remaining().saturating_sub(STR_LEN_LEN);
    builder.push_str(&FILLER[..rest.min(FILLER.len())])?;
    builder.seal();
    Ok(())
}

/// The command of a changed dialog (OpenSIPS 1.11 `modules/dialog/dlg_replication.h`).
const UPDATED: i32 = 2;

/// What a string takes besides its bytes.
const STR_LEN_LEN: usize = 4;

/// Header, name, command, Call-ID and an empty string.
pub(crate) const SIZE_MIN: usize = 64;

/// Beyond it genuine senders do not go, and a train would be of few.
pub(crate) const SIZE_MAX: usize = 8192;

static FILLER: [u8; SIZE_MAX] = [b'x'; SIZE_MAX];

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::Packet;
    use std::collections::HashSet;

    #[test]
    fn packets_are_valid_exactly_as_long_as_asked_and_of_different_dialogs() {
        for size in [SIZE_MIN, 65, 200, 512, 1400, SIZE_MAX] {
            let packets = Packets::new(size, 1000).unwrap();
            let mut call_ids = HashSet::new();
            for bytes in packets.cycle().take(1000) {
                assert_eq!(bytes.len(), size);
                let packet = Packet::parse(Generation::Legacy, bytes).unwrap();
                assert_eq!((packet.name(), packet.command()), (&b"dialog"[..], UPDATED));
                let mut fields = packet.fields();
                call_ids.insert(fields.pop_str().unwrap().to_vec());
                fields.pop_str().unwrap();
                assert!(fields.pop_int().is_err(), "nothing is left over");
            }
            assert_eq!(call_ids.len(), 1000);
        }
    }

    #[test]
    fn packets_come_round_again() {
        let packets = Packets::new(64, 3).unwrap();
        let two_rounds: Vec<&[u8]> = packets.cycle().take(6).collect();
        assert_eq!(two_rounds[..3], two_rounds[3..]);
    }

    #[test]
    fn trains_are_of_whole_packets_in_the_same_order() {
        let packets = Packets::new(200, 10).unwrap();
        let trains: Vec<&[u8]> = packets.trains(4).take(3).collect();
        let lengths = trains.iter().map(|train| train.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [800, 800, 400]);
        assert_eq!(trains.concat(), packets.bytes);
    }

    #[test]
    fn a_size_too_small_for_a_call_id_is_an_error() {
        assert!(Packets::new(20, 1).is_err());
    }
}
