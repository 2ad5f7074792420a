//! UDP: which datagrams are BIN, and fragments.

use binrush_capture::{GenerationChoice, Options, ProblemKind};
use binrush_wire::Generation;

use crate::build::{Read, a, addr, b, frame, modern, pcap, push, read, read_raw, tcp, udp};

fn legacy(len: usize) -> Vec<u8> {
    frame(Generation::Legacy, "ul", len)
}

#[test]
fn a_datagram_without_marker_is_bin_only_where_bin_went_before() {
    let packets = [
        udp(a(), b(), b"OPTIONS sip:x SIP/2.0"),
        udp(a(), b(), &legacy(5)),
        udp(a(), b(), b"broken"),
        udp(a(), addr("10.0.0.2:53"), b"dns"),
    ];
    let read = read_raw(&packets, Options::default());
    assert_eq!(read.bytes(), [&legacy(5)[..], b"broken"]);
    assert_eq!(
        (read.frames[0].number, read.frames[0].nanos),
        (2, 2_000_000_000)
    );
    assert_eq!(
        (read.totals.not_bin_datagrams, read.totals.udp_datagrams),
        (2, 4)
    );
}

#[test]
fn a_fixed_generation_looks_at_its_transport_only() {
    let packets = [
        udp(a(), b(), &legacy(5)),
        tcp((a(), b()), 0, 1, 0, &modern("ul", 5)),
    ];
    for (generation, want) in [
        (Generation::Legacy, legacy(5)),
        (Generation::Modern, modern("ul", 5)),
    ] {
        let generation = GenerationChoice::Fixed(generation);
        let read = read_raw(
            &packets,
            Options {
                generation,
                ..Options::default()
            },
        );
        assert_eq!(read.bytes(), [&want[..]]);
        assert_eq!(read.totals.other_transport, 1);
    }
}

/// The packet cut into fragments of `size` bytes.
fn fragments(packet: &[u8], v6: bool, size: usize) -> Vec<Vec<u8>> {
    let header_len = if v6 { 40 } else { 20 };
    let (header, payload) = packet.split_at(header_len);
    let count = payload.len().div_ceil(size);
    let parts = payload.chunks(size).enumerate();
    let cut = |(index, part): (usize, &[u8])| {
        let mut bytes = header.to_vec();
        let place = u16::try_from(index * size / 8).expect("small");
        let more = index + 1 < count;
        if v6 {
            let len = u16::try_from(part.len() + 8).expect("small");
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
            let place = place << 3 | u16::from(more);
            let next = core::mem::replace(&mut bytes[6], 44);
            bytes.extend([next, 0]);
            bytes.extend(place.to_be_bytes());
            bytes.extend([0, 0, 0, 9]);
        } else {
            let len = u16::try_from(part.len() + 20).expect("small");
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[5] = 9;
            let place = place | u16::from(more) << 13;
            bytes[6..8].copy_from_slice(&place.to_be_bytes());
        }
        bytes.extend(part);
        bytes
    };
    parts.map(cut).collect()
}

#[test]
fn fragments_of_both_ip_versions_make_their_frame() {
    for (v6, src, dst) in [
        (false, a(), b()),
        (true, addr("[fc00::1]:7"), addr("[fc00::2]:8")),
    ] {
        let bytes = legacy(3000);
        let mut packets = fragments(&udp(src, dst, &bytes), v6, 1400);
        assert_eq!(packets.len(), 3);
        for _ in 0..2 {
            let read = read_raw(&packets, Options::default());
            assert_eq!(read.bytes(), [&bytes[..]]);
            let frame = &read.frames[0];
            assert_eq!((frame.number, frame.src, frame.dst), (3, src, dst));
            assert_eq!(read.totals.reassembled, 1);
            packets.reverse();
        }
        packets.remove(1);
        let read = read_raw(&packets, Options::default());
        assert_eq!(
            (read.bytes().len(), read.symbols()),
            (0, vec!["fragments_missing"])
        );
    }
}

#[test]
fn fragments_cut_by_the_snap_length_are_one_lost_datagram() {
    for v6 in [false, true] {
        let (src, dst) = match v6 {
            false => (a(), b()),
            true => (addr("[fc00::1]:7"), addr("[fc00::2]:8")),
        };
        let icmp = if v6 { 58 } else { 1 };
        for (protocol, generation, said) in [
            (17, GenerationChoice::Auto, true),
            (17, GenerationChoice::Fixed(Generation::Modern), false),
            (icmp, GenerationChoice::Auto, false),
        ] {
            let mut packet = udp(src, dst, &legacy(3000));
            packet[if v6 { 6 } else { 9 }] = protocol;
            let mut file = pcap::<&[u8]>(101, &[]);
            for part in fragments(&packet, v6, 1400) {
                push(&mut file, 1, &part[..100], part.len());
            }
            let options = Options {
                generation,
                ..Options::default()
            };
            let read = read(&file, options);
            assert_eq!((read.totals.fragments, read.totals.fragments_lost), (3, 1));
            let want = if said {
                vec!["fragments_missing"]
            } else {
                vec![]
            };
            assert_eq!(read.symbols(), want, "{protocol} {generation:?}");
        }
    }
}

#[test]
fn a_datagram_cut_by_the_snap_length_is_said_not_delivered() {
    let packet = udp(a(), b(), &legacy(100));
    let mut file = pcap::<&[u8]>(101, &[]);
    push(&mut file, 1, &packet[..60], packet.len());
    push(&mut file, 2, &packet, packet.len());
    let Read {
        frames,
        kinds,
        totals,
    } = read(&file, Options::default());
    assert_eq!((frames.len(), totals.truncated), (1, 1));
    let (need, have) = (legacy(100).len(), 60 - 28);
    assert_eq!(kinds, [ProblemKind::Truncated { need, have }]);
}

#[test]
fn broken_headers_are_said_and_the_rest_goes_on() {
    let mut short_udp = udp(a(), b(), b"abc");
    short_udp[24..26].copy_from_slice(&7_u16.to_be_bytes());
    let mut short_tcp = tcp((a(), b()), 0, 1, 0, b"abc");
    short_tcp[32] = 0xf0;
    let packets = [
        &short_udp[..],
        &short_tcp,
        b"\x45",
        b"",
        &udp(a(), b(), &legacy(5)),
    ];
    let read = read_raw(&packets, Options::default());
    assert_eq!(read.bytes(), [&legacy(5)[..]]);
    assert_eq!(
        (read.symbols(), read.totals.malformed),
        (vec!["bad_header"; 4], 4)
    );
}
