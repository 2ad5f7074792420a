//! TCP streams: order, holes, beginnings and ends.

use binrush_capture::{Cause, GenerationChoice, Limits, Options, ProblemKind};
use binrush_wire::Generation;

use crate::build::{
    FIN, RST, Read, SYN, a, addr, b, frame, modern, pcap, push, read, read_raw, tcp,
};

/// Segments from A to B; flags, sequence number, bytes.
fn a_to_b(segments: &[(u8, u32, &[u8])]) -> Read {
    let segments: Vec<_> = segments
        .iter()
        .map(|(flags, seq, bytes)| tcp((a(), b()), *flags, *seq, 0, bytes))
        .collect();
    read_raw(&segments, Options::default())
}

fn three() -> (Vec<u8>, Vec<Vec<u8>>) {
    let frames = vec![
        modern("ul", 5),
        modern("dialog-dlg-repl", 30),
        modern("ratelimit", 0),
    ];
    (frames.concat(), frames)
}

fn at(base: u32, offset: usize) -> u32 {
    base.wrapping_add(u32::try_from(offset).expect("small"))
}

#[test]
fn a_stream_split_anywhere_gives_its_frames_even_where_sequence_numbers_wrap() {
    for generation in [Generation::Modern, Generation::Transitional] {
        let frames = [frame(generation, "ul", 5), frame(generation, "dialog", 30)];
        let bytes = frames.concat();
        for first in [1000, u32::MAX - 20] {
            for cut in 0..=bytes.len() {
                let (left, right) = bytes.split_at(cut);
                let read = a_to_b(&[
                    (SYN, first - 1, b""),
                    (0, first, left),
                    (0, at(first, cut), right),
                ]);
                assert_eq!(read.bytes(), frames, "{generation} cut at {cut}");
                assert!(
                    read.frames
                        .iter()
                        .all(|frame| frame.generation == generation)
                );
                assert_eq!(read.kinds, []);
            }
        }
    }
}

#[test]
fn every_order_of_segments_gives_the_same_frames() {
    let (bytes, frames) = three();
    for cut in 1..bytes.len() - 1 {
        let middle = cut + (bytes.len() - cut) / 2;
        let parts = [
            (0, &bytes[..cut]),
            (cut, &bytes[cut..middle]),
            (middle, &bytes[middle..]),
        ];
        for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut segments = vec![(SYN, 99, &b""[..])];
            segments.extend(order.map(|part| (0, at(100, parts[part].0), parts[part].1)));
            let read = a_to_b(&segments);
            assert_eq!(
                (read.bytes(), read.kinds.len()),
                (frames.iter().map(|f| &f[..]).collect(), 0)
            );
            assert!(read.totals.out_of_order > 0);
        }
    }
}

#[test]
fn retransmissions_and_overlaps_are_trimmed() {
    let (bytes, frames) = three();
    let read = a_to_b(&[
        (SYN, 99, b""),
        (SYN, 99, b""),
        (0, 100, &bytes[..40]),
        (0, 100, &bytes[..40]),
        (0, 130, &bytes[30..50]),
        (0, 160, &bytes[60..]),
        (0, 160, &bytes[60..]),
        (0, 140, &bytes[40..70]),
        (FIN, at(100, bytes.len()), b""),
        (0, 100, &bytes),
    ]);
    assert_eq!(read.bytes(), frames);
    assert_eq!(read.kinds, []);
    assert_eq!(read.totals.retransmitted, 2);
}

/// Frames of one size; segments from A to B at `seconds`, and B's acknowledgement of `n` frames.
struct Reordered {
    one: Vec<u8>,
    file: Vec<u8>,
}

impl Reordered {
    fn new() -> Self {
        let one = modern("ul", 100);
        let file = pcap(101, &[tcp((a(), b()), SYN, 99, 0, b"")]);
        Self { one, file }
    }

    fn segment(&mut self, second: u32, index: usize) -> &mut Self {
        let seq = at(100, index * self.one.len());
        self.push(second, &tcp((a(), b()), 0, seq, 0, &self.one))
    }

    fn ack(&mut self, second: u32, count: usize) -> &mut Self {
        let ack = at(100, count * self.one.len());
        self.push(second, &tcp((b(), a()), 0, 1, ack, b""))
    }

    fn push(&mut self, second: u32, packet: &[u8]) -> &mut Self {
        push(&mut self.file, second, packet, packet.len());
        self
    }

    fn read(&self) -> Read {
        read(&self.file, Options::default())
    }

    /// A hole of one segment.
    fn gap(&self) -> ProblemKind {
        ProblemKind::Gap {
            bytes: self.one.len() as u64,
            dropped: 0,
            cause: Cause::Acknowledged,
        }
    }
}

#[test]
fn an_acknowledgement_captured_before_its_data_loses_nothing() {
    for order in [
        [0, 4, 2, 1, 3],
        [0, 4, 1, 2, 3],
        [4, 0, 2, 3, 1],
        [0, 2, 4, 3, 1],
    ] {
        let mut capture = Reordered::new();
        for index in order {
            match index {
                4 => capture.ack(1, 4),
                _ => capture.segment(1, index),
            };
        }
        let read = capture.read();
        assert_eq!((read.frames.len(), read.kinds), (4, vec![]), "{order:?}");
    }
}

#[test]
fn a_hole_the_receiver_acknowledged_is_a_gap_when_its_bytes_are_late() {
    // Time passes, or segments do.
    let mut slow = Reordered::new();
    slow.segment(1, 0).segment(1, 2).ack(1, 3).segment(2, 3);
    let mut early = Reordered::new();
    early.segment(1, 0).ack(1, 3).segment(1, 2).segment(2, 3);
    let mut busy = Reordered::new();
    busy.segment(1, 0).segment(1, 2).ack(1, 3);
    for _ in 0..65 {
        busy.ack(1, 3);
    }
    for (capture, number, frames) in [(slow, 5, 3), (early, 5, 3), (busy, 69, 2)] {
        let mut read = capture.read();
        assert_eq!((read.frames.len(), read.frames[1].number), (frames, number));
        assert_eq!(read.kinds, [capture.gap()]);
        // What comes later still is not missed, but late.
        let mut late = capture;
        read = late.segment(3, 1).read();
        assert_eq!((read.frames.len(), read.totals.retransmitted), (frames, 1));
    }
}

#[test]
fn an_acknowledged_hole_is_known_for_one_at_the_end() {
    let (bytes, frames) = three();
    let first = frames[0].len();
    let second = first + frames[1].len();
    let packets = [
        tcp((a(), b()), SYN, 99, 0, b""),
        tcp((a(), b()), 0, 100, 0, &bytes[..first + 4]),
        tcp((a(), b()), 0, at(100, second), 0, &bytes[second..]),
        tcp((b(), a()), 0, 1, at(100, bytes.len()), b""),
    ];
    let read = read_raw(&packets, Options::default());
    assert_eq!(read.bytes(), [&frames[0][..], &frames[2]]);
    assert_eq!(read.frames[1].number, 4);
    let gap = ProblemKind::Gap {
        bytes: frames[1].len() as u64 - 4,
        dropped: 4,
        cause: Cause::Acknowledged,
    };
    assert_eq!(read.kinds, [gap]);
    assert_eq!(
        (read.totals.gaps, read.totals.lost_bytes),
        (1, frames[1].len() as u64)
    );
}

#[test]
fn a_hole_without_evidence_waits_for_the_end_or_the_limit() {
    let one = modern("ul", 100);
    let step = one.len();
    let segments: Vec<_> = [0, 2, 3, 4]
        .map(|index| tcp((a(), b()), 0, at(100, index * step), 0, &one))
        .to_vec();
    for (held_segments, number, cause) in [(1024, 4, Cause::End), (1, 3, Cause::Limit)] {
        let limits = Limits {
            held_segments,
            ..Limits::default()
        };
        let read = read_raw(
            &segments,
            Options {
                limits,
                ..Options::default()
            },
        );
        assert_eq!(read.frames.len(), 4);
        assert_eq!(read.frames[1].number, number);
        let bytes = step as u64;
        assert_eq!(
            read.kinds,
            [ProblemKind::Gap {
                bytes,
                dropped: 0,
                cause
            }]
        );
    }
}

#[test]
fn a_tail_the_receiver_has_and_the_capture_has_not_is_a_gap() {
    let one = modern("ul", 100);
    let end = at(100, one.len());
    let packets = [
        tcp((a(), b()), 0, 100, 0, &one),
        tcp((b(), a()), 0, 1, at(end, 500), b""),
    ];
    let read = read_raw(&packets, Options::default());
    assert_eq!(
        read.kinds,
        [ProblemKind::Gap {
            bytes: 500,
            dropped: 0,
            cause: Cause::Acknowledged
        }]
    );
    let packets = [packets[0].clone(), tcp((b(), a()), 0, 1, at(end, 1), b"")];
    assert_eq!(
        read_raw(&packets, Options::default()).kinds,
        [],
        "it may be the FIN"
    );
}

#[test]
fn a_start_in_the_middle_resynchronises_on_the_marker() {
    let (bytes, frames) = three();
    for cut in 1..frames[0].len() {
        let read = a_to_b(&[(0, 100, &bytes[cut..])]);
        assert_eq!(read.bytes(), frames[1..]);
        let bytes = (frames[0].len() - cut) as u64;
        assert_eq!(read.kinds, [ProblemKind::Skipped { bytes, markers: 0 }]);
    }
}

#[test]
fn a_new_connection_on_the_same_ports_begins_afresh() {
    let (bytes, frames) = three();
    let read = a_to_b(&[
        (SYN, 99, b""),
        (0, 100, &bytes[..10]),
        (SYN, 5, b""),
        (0, 6, &bytes),
    ]);
    assert_eq!(read.bytes(), frames);
    let read = a_to_b(&[
        (SYN, 99, b""),
        (0, 100, &bytes),
        (0, at(100, bytes.len()), &bytes[..10]),
        (0, at(100, bytes.len() + 20), &frames[2]),
        (SYN, 5, b""),
        (0, 6, &bytes),
    ]);
    assert_eq!(
        read.bytes(),
        [&frames[..], &frames[2..], &frames[..]].concat()
    );
    assert_eq!(
        read.kinds,
        [ProblemKind::Gap {
            bytes: 10,
            dropped: 10,
            cause: Cause::Closed
        }]
    );
}

#[test]
fn numbers_that_jump_begin_a_new_stream() {
    let one = modern("ul", 5);
    let far = 3_000_000_000;
    let read = a_to_b(&[
        (0, 100, &one),
        (0, far, &one),
        (0, at(far, one.len()), &one),
    ]);
    assert_eq!(
        (read.frames.len(), read.kinds),
        (3, vec![ProblemKind::Jump])
    );
}

#[test]
fn an_end_inside_a_frame_is_said_with_its_cause() {
    let one = modern("ul", 5);
    let all = [&one[..], &one[..9]].concat();
    let unfinished = |cause| ProblemKind::Unfinished { bytes: 9, cause };
    for (flags, cause) in [(FIN, Cause::Closed), (RST, Cause::Closed), (0, Cause::End)] {
        let read = a_to_b(&[(0, 100, &all), (flags, at(100, all.len()), b"")]);
        assert_eq!(
            (read.frames.len(), read.kinds),
            (1, vec![unfinished(cause)])
        );
        assert_eq!(read.totals.lost_bytes, 9);
    }
}

#[test]
fn a_segment_cut_by_the_snap_length_is_a_gap() {
    let one = modern("ul", 100);
    let mut file = pcap::<&[u8]>(101, &[]);
    for index in 0..3_u8 {
        let packet = tcp(
            (a(), b()),
            0,
            at(100, usize::from(index) * one.len()),
            0,
            &one,
        );
        let kept = if index == 1 { 50 } else { packet.len() };
        push(&mut file, 1, &packet[..kept], packet.len());
    }
    let read = read(&file, Options::default());
    assert_eq!(read.bytes(), [&one[..], &one]);
    let bytes = one.len() as u64 - 10;
    let cause = Cause::SnapLength;
    assert_eq!(
        read.kinds,
        [ProblemKind::Gap {
            bytes,
            dropped: 10,
            cause
        }]
    );
}

#[test]
fn a_direction_that_is_not_bin_is_counted_and_not_kept() {
    let line = vec![b'x'; 1400];
    let segments: Vec<_> = (0..100)
        .map(|index| (0, at(1, index * 1400), &line[..]))
        .collect();
    let read = a_to_b(&segments);
    assert_eq!((read.frames.len(), read.kinds.len()), (0, 0));
    assert_eq!(read.totals.not_bin_streams, 1);
}

#[test]
fn a_2_2_empty_string_at_the_end_belongs_to_its_frame() {
    let mut one = frame(Generation::Transitional, "dialog", 0);
    let declared = u16::try_from(one.len() - 4).expect("small");
    one[4..6].copy_from_slice(&declared.to_le_bytes());
    let generation = GenerationChoice::Fixed(Generation::Transitional);
    let packets = [tcp((a(), b()), 0, 100, 0, &[&one[..], &one].concat())];
    let read = read_raw(
        &packets,
        Options {
            generation,
            ..Options::default()
        },
    );
    assert_eq!(read.bytes(), [&one[..], &one]);
}

#[test]
fn floods_keep_to_their_limits_and_are_counted() {
    let limits = Limits {
        streams: 64,
        stream_bytes: 1 << 20,
        held_bytes: 64 << 10,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let one = modern("ul", 1000);
    let half = modern("ul", 30_000);
    let mut packets = Vec::new();
    for index in 0..500_u32 {
        let src = addr(&format!("10.0.{}.{}:4000", index / 250, index % 250));
        packets.push(tcp(
            (src, b()),
            0,
            100,
            0,
            &[&one[..], &half[..20_000]].concat(),
        ));
    }
    let read = read_raw(&packets, options);
    assert_eq!(read.frames.len(), 500);
    // 1 MiB holds fewer than 64 streams with 20 000 bytes each.
    assert!(read.totals.evicted_streams > 500 - 64);
    assert_eq!(read.symbols(), vec!["unfinished"; 500]);

    let segments: Vec<_> = (0..500)
        .map(|index| tcp((a(), b()), 0, at(100, index * 2 * one.len()), 0, &one))
        .collect();
    let read = read_raw(&segments, options);
    assert_eq!((read.frames.len(), read.totals.gaps), (500, 499));
    let waited = read
        .frames
        .windows(2)
        .map(|pair| pair[1].number - pair[0].number)
        .max();
    assert!(
        waited <= Some(70),
        "64 KiB are 64 segments of 1 000 bytes: {waited:?}"
    );
}
