//! pcapng, link types, gzip.

use std::io::Write;

use binrush_capture::{Capture, Event, OpenError, Options, ProblemKind};
use binrush_wire::Generation;
use flate2::{Compression, write::GzEncoder};

use crate::build::{a, b, frame, pcap, read, udp};

/// Writes pcapng in one byte order.
pub(crate) struct Ng {
    pub(crate) file: Vec<u8>,
    big_endian: bool,
}

impl Ng {
    pub(crate) fn new() -> Self {
        Self {
            file: Vec::new(),
            big_endian: false,
        }
    }

    fn word(&self, word: u32) -> [u8; 4] {
        if self.big_endian {
            word.to_be_bytes()
        } else {
            word.to_le_bytes()
        }
    }

    fn half(&self, half: u16) -> [u8; 2] {
        if self.big_endian {
            half.to_be_bytes()
        } else {
            half.to_le_bytes()
        }
    }

    pub(crate) fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let len = self.word(u32::try_from(padded + 12).expect("small"));
        self.file.extend(self.word(kind));
        self.file.extend(len);
        self.file.extend(body);
        self.file.extend(vec![0; padded - body.len()]);
        self.file.extend(len);
        self
    }

    pub(crate) fn section(&mut self, big_endian: bool) -> &mut Self {
        self.big_endian = big_endian;
        let body = [
            &self.word(0x1a2b_3c4d)[..],
            &self.half(1),
            &self.half(0),
            &[0xff; 8],
        ]
        .concat();
        self.block(0x0a0d_0d0a, &body)
    }

    pub(crate) fn interface(
        &mut self,
        link: u16,
        snaplen: u32,
        options: &[(u16, &[u8])],
    ) -> &mut Self {
        let mut body = [&self.half(link)[..], &[0, 0], &self.word(snaplen)].concat();
        for (code, value) in options {
            body.extend(self.half(*code));
            body.extend(self.half(u16::try_from(value.len()).expect("small")));
            body.extend(*value);
            body.extend(vec![0; value.len().next_multiple_of(4) - value.len()]);
        }
        self.block(1, &body)
    }

    pub(crate) fn packet(&mut self, interface: u32, time: u64, packet: &[u8]) -> &mut Self {
        let len = u32::try_from(packet.len()).expect("small");
        let (high, low) = ((time >> 32) as u32, (time & 0xffff_ffff) as u32);
        let mut body = [interface, high, low, len, len]
            .map(|word| self.word(word))
            .concat();
        body.extend(packet);
        body.extend(vec![0; packet.len().next_multiple_of(4) - packet.len()]);
        body.extend(self.half(2)); // epb_flags
        body.extend(self.half(4));
        body.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        self.block(6, &body)
    }
}

fn legacy() -> Vec<u8> {
    frame(Generation::Legacy, "ul", 5)
}

fn packet() -> Vec<u8> {
    udp(a(), b(), &legacy())
}

#[test]
fn sections_of_both_byte_orders_with_their_own_clocks_are_read() {
    let mut ng = Ng::new();
    ng.section(false)
        .interface(101, 0, &[])
        .packet(0, 7_000_005, &packet())
        .interface(101, 0, &[(2, b"eth0"), (9, &[9]), (0, b"")])
        .packet(1, 7_000_000_005, &packet())
        .block(5, b"statistics")
        .section(true)
        .interface(228, 0, &[(9, &[0x80 | 10]), (14, &100_i64.to_be_bytes())])
        .packet(0, 3 * 1024 + 512, &packet())
        .interface(101, 0, &[(9, &[3]), (14, &(-1_i64).to_be_bytes())])
        .packet(1, 9000, &packet());
    let read = read(&ng.file, Options::default());
    let times: Vec<_> = read.frames.iter().map(|frame| frame.nanos).collect();
    assert_eq!(
        times,
        [7_000_005_000, 7_000_000_005, 103_500_000_000, 8_000_000_000]
    );
    assert_eq!((read.kinds, read.totals.other_blocks), (vec![], 1));
}

#[test]
fn simple_and_obsolete_packets_are_read() {
    let mut ng = Ng::new();
    ng.section(true).interface(101, 65_535, &[]);
    let len = u32::try_from(packet().len()).expect("small");
    let simple = [&len.to_be_bytes()[..], &packet()].concat();
    ng.block(3, &simple);
    let mut old = vec![0, 0, 0, 0];
    old.extend([0, 5, len, len].map(u32::to_be_bytes).concat());
    old.extend(packet());
    ng.block(2, &old);
    let read = read(&ng.file, Options::default());
    assert_eq!(read.bytes(), [legacy(), legacy()]);
    assert_eq!((read.frames[0].nanos, read.frames[1].nanos), (0, 5000));
}

#[test]
fn broken_blocks_are_said_and_reading_goes_on() {
    let mut ng = Ng::new();
    ng.section(false).interface(101, 0, &[]);
    ng.block(6, b"short").packet(3, 0, &packet());
    ng.block(77, &vec![0; TOO_LONG])
        .block(6, &vec![0; TOO_LONG]);
    let lying = ng.file.len() + 20;
    ng.packet(0, 0, &packet());
    ng.file[lying] = 0xff;
    ng.packet(0, 0, &packet());
    let end = ng.file.len() - 4;
    ng.file[end] = 0xff;
    ng.packet(0, 0, &packet());
    let stop = ng.file.len();
    ng.packet(0, 0, &packet());
    ng.file[stop + 4] = 7;
    let read = read(&ng.file, Options::default());
    assert_eq!(read.frames.len(), 2);
    let want = [
        "block_fields",
        "unknown_interface",
        "block_too_long",
        "block_fields",
        "block_end",
        "block_length",
    ];
    assert_eq!(read.symbols(), want);
}

/// A block of the type that claims, and has, more bytes than are buffered for one.
const TOO_LONG: usize = 3 << 20;

#[test]
fn an_interface_that_cannot_be_read_keeps_its_number() {
    for broken in [4, TOO_LONG] {
        let mut ng = Ng::new();
        ng.section(false)
            .block(1, &vec![0; broken])
            .interface(101, 0, &[])
            .interface(147, 0, &[]);
        ng.packet(1, 0, &packet())
            .packet(0, 0, &packet())
            .packet(2, 0, b"?");
        let read = read(&ng.file, Options::default());
        assert_eq!(read.bytes(), [legacy()]);
        assert_eq!(
            read.kinds[1..],
            [
                ProblemKind::UnknownInterface { interface: 0 },
                ProblemKind::UnknownLink { link: 147 }
            ]
        );
    }
}

#[test]
fn a_section_that_cannot_be_read_ends_the_one_before() {
    for broken in [4, TOO_LONG] {
        let mut ng = Ng::new();
        ng.section(false).interface(147, 0, &[]);
        let mark = 0x1a2b_3c4d_u32.to_le_bytes();
        ng.block(0x0a0d_0d0a, &[&mark[..], &vec![0; broken]].concat())
            .packet(0, 0, &packet())
            .interface(101, 0, &[])
            .packet(0, 0, &packet());
        let read = read(&ng.file, Options::default());
        assert_eq!(read.bytes(), [legacy()]);
        assert_eq!(
            read.kinds[1..],
            [ProblemKind::UnknownInterface { interface: 0 }]
        );
    }
}

#[test]
fn a_section_of_unknown_version_is_stepped_over() {
    let mut ng = Ng::new();
    for (major, big_endian) in [(1, false), (2, true), (1, true)] {
        let at = ng.file.len() + 12;
        ng.section(big_endian)
            .interface(101, 0, &[])
            .packet(0, 0, &packet())
            .block(6, b"short");
        ng.file[at + usize::from(big_endian)] = major;
    }
    let read = read(&ng.file, Options::default());
    assert_eq!(read.bytes(), [legacy(), legacy()]);
    let version = ProblemKind::SectionVersion { major: 2, minor: 0 };
    let short = ProblemKind::BlockFields { block: 6 };
    assert_eq!(read.kinds, [short.clone(), version, short]);
    assert_eq!(read.totals.other_blocks, 3);

    // It ends with the next one, readable or not.
    let end = ng.file.len();
    ng.section(false).file[end + 12] = 3;
    ng.block(0x0a0d_0d0a, &0x1a2b_3c4d_u32.to_le_bytes())
        .interface(101, 0, &[])
        .packet(0, 0, &packet());
    let read = self::read(&ng.file, Options::default());
    assert_eq!(read.frames.len(), 3);

    ng.file[12] = 0;
    let error = Capture::new(&ng.file[..], Options::default()).expect_err("a version unknown");
    assert_eq!(error.to_string(), "pcapng version 0.0 is not known");
}

#[test]
fn skipped_packets_take_a_number_and_other_blocks_none() {
    let mut ng = Ng::new();
    ng.section(false).interface(101, 0, &[]);
    ng.packet(0, 0, &packet()) // 1
        .block(6, b"short") // 2
        .block(3, b"") // 3
        .packet(9, 0, &packet()) // 4
        .block(6, &vec![0; TOO_LONG]) // 5
        .block(1, b"")
        .block(5, b"");
    for _ in [6, 7] {
        let ends = ng.packet(0, 0, &packet()).file.len() - 4;
        ng.file[ends] ^= 0x40;
    }
    ng.packet(0, 0, &packet()); // 8
    let mut capture = Capture::new(&ng.file[..], Options::default()).expect("a capture");
    let mut frames = vec![];
    let mut problems = vec![];
    while let Some(event) = capture.next() {
        match event {
            Event::Frame(frame) => frames.push(frame.number),
            Event::Problem(problem) => problems.push((problem.number, problem.kind.symbol())),
        }
    }
    assert_eq!(frames, [1, 6, 7, 8]);
    assert_eq!(
        problems,
        [
            (2, "block_fields"),
            (3, "block_fields"),
            (4, "unknown_interface"),
            (5, "block_too_long"),
            (6, "block_fields"),
            (6, "block_end"),
            (7, "block_end"),
        ]
    );
}

#[test]
fn an_unknown_link_type_is_said_once_for_each_interface() {
    let mut ng = Ng::new();
    ng.section(false)
        .interface(147, 0, &[])
        .interface(101, 0, &[])
        .interface(147, 0, &[]);
    ng.packet(0, 0, b"?")
        .packet(0, 0, b"?")
        .packet(1, 0, &packet())
        .packet(2, 0, b"?");
    let read = read(&ng.file, Options::default());
    assert_eq!(read.kinds, vec![ProblemKind::UnknownLink { link: 147 }; 2]);
    assert_eq!((read.frames.len(), read.totals.unknown_link), (1, 3));
}

#[test]
fn link_headers_lead_to_the_frame() {
    let cases: [(u32, &[u8]); 8] = [
        (0, &[2, 0, 0, 0]),
        (1, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]),
        (
            1,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 9, 8, 0],
        ),
        (12, &[]),
        (101, &[]),
        (108, &[0, 0, 0, 2]),
        (113, &[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]),
        (
            276,
            &[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
    ];
    for (link, header) in cases {
        // Padding behind the IP packet, as short Ethernet frames have it.
        let file = pcap(link, &[[header, &packet(), &[0; 20]].concat()]);
        assert_eq!(
            read(&file, Options::default()).bytes(),
            [legacy()],
            "link type {link}"
        );
    }
}

#[test]
fn gzip_is_unpacked_and_its_damage_said() {
    let file = pcap(101, &vec![packet(); 50]);
    let mut packed = Vec::new();
    for half in [&file[..file.len() / 2], &file[file.len() / 2..]] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(half).expect("memory");
        packed.extend(encoder.finish().expect("memory"));
    }
    assert_eq!(read(&packed, Options::default()).frames.len(), 50);
    let cut = read(&packed[..packed.len() - 9], Options::default());
    assert!(cut.frames.len() >= 25);
    assert_eq!(cut.symbols(), ["unreadable"]);
    let error = Capture::new(&packed[..5], Options::default()).expect_err("no header");
    assert!(matches!(error, OpenError::Io(_)), "{error}");
}

#[test]
fn a_record_larger_than_any_window_is_skipped_not_allocated() {
    let mut file = pcap(101, &vec![packet(); 8]);
    let third = 24 + 2 * (16 + packet().len());
    let len = 0x7fff_ffff_u32;
    file[third + 8..third + 12].copy_from_slice(&len.to_le_bytes());
    let read = read(&file, Options::default());
    let numbers: Vec<_> = read.frames.iter().map(|frame| frame.number).collect();
    assert_eq!(numbers, [1, 2, 4, 5, 6, 7, 8]);
    let skipped = 16 + packet().len() as u64;
    let len = u64::from(len);
    assert_eq!(read.kinds, [ProblemKind::BrokenRecord { len, skipped }]);
}

#[test]
fn a_length_that_is_wrong_but_possible_costs_what_it_covers() {
    let file = pcap(101, &vec![packet(); 8]);
    let size = 16 + packet().len();
    for claim in [
        packet().len() - 7,
        packet().len() + 7,
        packet().len() + 2 * size - 9,
    ] {
        let mut file = file.clone();
        let at = 24 + 2 * size + 8;
        let claim_word = u32::try_from(claim).expect("small");
        file[at..at + 4].copy_from_slice(&claim_word.to_le_bytes());
        let read = read(&file, Options::default());
        let last = read.frames.iter().rev().take(3).map(|frame| frame.nanos);
        assert_eq!(
            last.collect::<Vec<_>>(),
            [8, 7, 6].map(|s| s * 1_000_000_000)
        );
        assert!(read.symbols().contains(&"broken_record"), "claims {claim}");
    }
}
