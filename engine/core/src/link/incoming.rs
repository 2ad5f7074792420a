//! What a peer sends on the connection that we opened: packets for whoever wants them, as far as they are short.

use binrush_wire::{Generation, MAX_PACKET_LEN};

use super::OnPacket;
use crate::stream::{Cut, Framer};

/// Cuts the bytes of one connection, and hands on short packets.
///
/// After the first byte that is no packet nothing is handed on any more: what follows could be anything.
#[derive(Debug)]
pub(super) struct Incoming {
    framer: Framer,
}

impl Incoming {
    /// For a connection that was just opened.
    pub(super) fn new() -> Self {
        Self {
            framer: Framer::new(Generation::Modern, MAX_PACKET_LEN, None),
        }
    }

    /// Takes the next bytes, in clear.
    pub(super) fn feed(&mut self, bytes: &[u8], on_packet: &OnPacket) {
        // Counted as bytes by who read them; a stream that broke stays broken, and so is no news.
        let _ = self.framer.feed(bytes, &mut Cut::default(), |packet| {
            if packet.len() <= PACKET_MAX {
                on_packet(packet);
            }
        });
    }
}

/// The longest packet that is handed on: an UNKNOWN_ID, which is all that genuine nodes send here, has 46 bytes.
const PACKET_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::Builder;
    use std::sync::{Arc, Mutex};

    fn packet(filling: usize) -> Vec<u8> {
        let mut buffer = vec![0; 1024];
        let name = b"clusterer-internal";
        let mut builder = Builder::new(Generation::Modern, &mut buffer, name, 5, 1).unwrap();
        builder.push_str(&vec![b'x'; filling]).unwrap();
        builder.seal().to_vec()
    }

    #[test]
    fn short_packets_are_handed_on_however_they_come_and_nothing_behind_a_broken_one() {
        let (short, long) = (packet(10), packet(PACKET_MAX));
        let bytes = [&short[..], &long, &short, b"garbage?", &short].concat();
        for piece in [1, 7, bytes.len()] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let sink = Arc::clone(&seen);
            let on_packet: OnPacket =
                Arc::new(move |packet: &[u8]| sink.lock().unwrap().push(packet.to_vec()));
            let mut incoming = Incoming::new();
            bytes
                .chunks(piece)
                .for_each(|piece| incoming.feed(piece, &on_packet));
            assert_eq!(*seen.lock().unwrap(), [short.clone(), short.clone()]);
        }
    }
}
