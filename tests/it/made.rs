//! Packets and captures made for one test.

use std::net::SocketAddr;

use binrush_capture::{Timestamp, Transport, Writer};
use binrush_wire::{Builder, Generation, Trailer, crc32};

/// A packet of strings; one of 2.3+ comes from node 1 of cluster 1, to node 2.
pub(crate) fn packet(
    generation: Generation,
    name: &[u8],
    command: i32,
    strings: &[&[u8]],
) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let mut builder = Builder::new(generation, &mut buffer, name, command, 1).expect("it fits");
    for string in strings {
        builder.push_str(string).expect("it fits");
    }
    if generation == Generation::Modern {
        builder
            .push_trailer(Trailer::new(1, 1, 2))
            .expect("it fits");
    }
    builder.seal().to_vec()
}

/// A 1.x packet of strings.
pub(crate) fn legacy(name: &[u8], command: i32, strings: &[&[u8]]) -> Vec<u8> {
    packet(Generation::Legacy, name, command, strings)
}

/// The 1.x packet after `change`, with its checksum put right again.
pub(crate) fn changed(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    let crc = crc32::checksum(&packet[8..]);
    packet[4..8].copy_from_slice(&crc.to_le_bytes());
    packet
}

/// A pcap of `frames`, from one node to another, a second apart.
pub(crate) fn capture<F: AsRef<[u8]>>(transport: Transport, frames: &[F]) -> Vec<u8> {
    let (src, dst) = nodes();
    let mut writer = Writer::new(Vec::new()).expect("memory takes it");
    for (frame, second) in frames.iter().zip(1..) {
        let time = Timestamp::from_nanos(second * 1_000_000_000);
        let written = writer.write(time, src, dst, transport, frame.as_ref());
        written.expect("memory takes it");
    }
    writer.finish().expect("memory takes it")
}

/// The record offsets of a pcap, its end included.
pub(crate) fn record_offsets(pcap: &[u8]) -> Vec<usize> {
    let mut offsets = vec![PCAP_HEADER_LEN];
    let mut at = PCAP_HEADER_LEN;
    while let Some(len) = pcap.get(at + 8..at + 12) {
        let len = u32::from_le_bytes(len.try_into().expect("four bytes"));
        at += RECORD_HEADER_LEN + usize::try_from(len).expect("it was read");
        offsets.push(at);
    }
    assert_eq!(at, pcap.len(), "a whole little-endian pcap");
    offsets
}

/// The IP packets of `pcap` in a pcapng of two interfaces: raw IP, and each packet once more on one whose link
/// type (147, for private use) nobody knows.
pub(crate) fn with_unknown_link(pcap: &[u8]) -> Vec<u8> {
    let mut file = block(
        0x0a0d_0d0a,
        &[&[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0], &[0xff; 8][..]].concat(),
    );
    for link in [101_u32, 147] {
        file.extend(block(1, &[link, 0].map(u32::to_le_bytes).concat()));
    }
    for offsets in record_offsets(pcap).windows(2) {
        let packet = &pcap[offsets[0] + RECORD_HEADER_LEN..offsets[1]];
        let len = u32::try_from(packet.len()).expect("small");
        for interface in [1, 0] {
            let mut body = [interface, 0, 0, len, len].map(u32::to_le_bytes).concat();
            body.extend(packet);
            body.resize(body.len().next_multiple_of(4), 0);
            file.extend(block(6, &body));
        }
    }
    file
}

/// A pcapng block.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 12).expect("small").to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}

/// Sender and receiver of what is made here.
pub(crate) fn nodes() -> (SocketAddr, SocketAddr) {
    let node = |number| SocketAddr::from(([10, 0, 0, number], 5566));
    (node(1), node(2))
}

pub(crate) const PCAP_HEADER_LEN: usize = 24;
pub(crate) const RECORD_HEADER_LEN: usize = 16;
