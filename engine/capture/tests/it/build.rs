//! Captures by hand, and what comes out of them.

use std::net::SocketAddr;

use binrush_capture::{Capture, Event, Options, ProblemKind, Totals};
use binrush_wire::{Builder, Generation};
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;

/// A frame named `name` with one string of `len` bytes.
pub(crate) fn frame(generation: Generation, name: &str, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len + 64];
    let mut builder = Builder::new(generation, &mut buffer, name.as_bytes(), 1, 1).expect("fits");
    builder.push_str(&vec![b'x'; len]).expect("fits");
    builder.seal().to_vec()
}

pub(crate) fn modern(name: &str, len: usize) -> Vec<u8> {
    frame(Generation::Modern, name, len)
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Sender A and receiver B of most tests.
pub(crate) fn a() -> SocketAddr {
    addr("10.0.0.1:40000")
}

pub(crate) fn b() -> SocketAddr {
    addr("10.0.0.2:5566")
}

fn ip(src: SocketAddr, dst: SocketAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    match (src, dst) {
        (SocketAddr::V4(src), SocketAddr::V4(dst)) => {
            let (src, dst) = (src.ip().octets(), dst.ip().octets());
            let header = Ipv4Header::new(0, 64, IpNumber::UDP, src, dst).expect("fits");
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        }
        (SocketAddr::V6(src), SocketAddr::V6(dst)) => {
            let header = Ipv6Header {
                source: src.ip().octets(),
                destination: dst.ip().octets(),
                ..Default::default()
            };
            PacketBuilder::ip(etherparse::IpHeaders::Ipv6(header, Default::default()))
        }
        _ => panic!("one IP version"),
    }
}

pub(crate) fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = ip(src, dst).udp(src.port(), dst.port());
    builder.write_to_vec(&mut packet, payload).expect("fits");
    packet
}

/// A segment from `src` to `dst`; `ack` 0 for none.
pub(crate) fn tcp(
    (src, dst): (SocketAddr, SocketAddr),
    flags: u8,
    seq: u32,
    ack: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut builder = ip(src, dst).tcp(src.port(), dst.port(), seq, 65_535);
    if flags & FIN != 0 {
        builder = builder.fin();
    }
    if flags & SYN != 0 {
        builder = builder.syn();
    }
    if flags & RST != 0 {
        builder = builder.rst();
    }
    if ack != 0 {
        builder = builder.ack(ack);
    }
    let mut packet = Vec::new();
    builder.write_to_vec(&mut packet, payload).expect("fits");
    packet
}

/// A little-endian microsecond pcap; record n is captured at n seconds.
pub(crate) fn pcap<P: AsRef<[u8]>>(link: u32, packets: &[P]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link]
        .map(u32::to_le_bytes)
        .concat();
    for (packet, second) in packets.iter().zip(1..) {
        push(&mut file, second, packet.as_ref(), packet.as_ref().len());
    }
    file
}

/// Appends a record of which `original` bytes were sent.
pub(crate) fn push(file: &mut Vec<u8>, second: u32, packet: &[u8], original: usize) {
    let len = u32::try_from(packet.len()).expect("small");
    let original = u32::try_from(original).expect("small");
    file.extend([second, 0, len, original].map(u32::to_le_bytes).concat());
    file.extend(packet);
}

/// A raw IP capture of `packets`, read.
pub(crate) fn read_raw<P: AsRef<[u8]>>(packets: &[P], options: Options) -> Read {
    read(&pcap(101, packets), options)
}

/// All that came out of a capture.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) frames: Vec<Owned>,
    pub(crate) kinds: Vec<ProblemKind>,
    pub(crate) totals: Totals,
}

/// A frame that outlives its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) number: u64,
    pub(crate) nanos: u64,
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) generation: Generation,
    pub(crate) bytes: Vec<u8>,
}

impl Read {
    pub(crate) fn bytes(&self) -> Vec<&[u8]> {
        self.frames.iter().map(|frame| &frame.bytes[..]).collect()
    }

    pub(crate) fn symbols(&self) -> Vec<&'static str> {
        self.kinds.iter().map(ProblemKind::symbol).collect()
    }
}

pub(crate) fn read(file: &[u8], options: Options) -> Read {
    let mut capture = Capture::new(file, options).expect("a capture");
    let mut read = Read::default();
    while let Some(event) = capture.next() {
        match event {
            Event::Frame(frame) => read.frames.push(Owned {
                number: frame.number,
                nanos: frame.time.as_nanos(),
                src: frame.src,
                dst: frame.dst,
                generation: frame.generation,
                bytes: frame.bytes.to_vec(),
            }),
            Event::Problem(problem) => {
                assert!(!problem.to_string().is_empty());
                read.kinds.push(problem.kind);
            }
        }
    }
    read.totals = capture.totals();
    assert_eq!(read.totals.frames, read.frames.len() as u64);
    assert_eq!(read.totals.problems, read.kinds.len() as u64);
    read
}
