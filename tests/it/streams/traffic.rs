//! What peers send: the streams of captures, and packets made to be told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use binrush_tests::captures;
use binrush_wire::{Generation, Packet};

use crate::dice::Dice;
use crate::made::packet;

/// The captures that were taken of connections.
pub(super) const CAPTURES: [&str; 3] = ["2.4", "3.6", "3.6-late"];

/// What one node of a capture sent to one other over one connection, in order.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) packets: Vec<Vec<u8>>,
}

impl Flow {
    /// As the bytes of its connection.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.packets.concat()
    }
}

/// The connections of a capture.
pub(super) fn flows(capture: &str) -> Vec<Flow> {
    let mut flows = BTreeMap::<(SocketAddr, SocketAddr), Vec<Vec<u8>>>::new();
    for frame in captures::frames(capture) {
        let ends = (frame.src, frame.dst);
        flows.entry(ends).or_default().push(frame.bytes);
    }
    let flows = flows.into_values().map(|packets| Flow { packets });
    flows.collect()
}

/// The names of their packets, each once.
pub(super) fn names(flows: &[Flow]) -> Vec<Vec<u8>> {
    let packets = flows.iter().flat_map(|flow| &flow.packets);
    let names = packets.map(|packet| {
        let packet = Packet::parse(Generation::Modern, packet);
        packet.expect("it is genuine").name().to_vec()
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// `bytes` in pieces of 1 to `most` bytes.
pub(super) fn pieces<'a>(bytes: &'a [u8], most: usize, dice: &mut Dice) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (vec![], bytes);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + dice.below(most)).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// The event with this number of the call with that one, said by `peer`.
pub(super) fn event(peer: usize, call: usize, number: usize) -> Vec<u8> {
    let (call, mark) = (format!("call-{peer}-{call}"), format!("{number}"));
    let strings = [call.as_bytes(), mark.as_bytes()];
    packet(Generation::Modern, DIALOG, DELETED, &strings)
}

/// As [`event`], with so many bytes behind its fields, where no handler of these tests looks.
pub(super) fn event_of_len(peer: usize, call: usize, number: usize, filling: usize) -> Vec<u8> {
    let mut packet = event(peer, call, number);
    packet.resize(packet.len() + filling, b'x');
    let len = u32::try_from(packet.len()).expect("a packet");
    packet[4..8].copy_from_slice(&len.to_le_bytes());
    packet
}

/// The header of a packet of 2.3 or later that says it has `len` bytes.
pub(super) fn header(len: u32) -> Vec<u8> {
    [&b"P4CK"[..], &len.to_le_bytes()].concat()
}

/// The capability of [`event`]s.
pub(super) const DIALOG: &[u8] = b"dialog-dlg-repl";

const DELETED: i32 = 3;
