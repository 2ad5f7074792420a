//! Captures that are cut off or damaged: never a panic, and what was whole is delivered.

use binrush_capture::{Capture, Options, ProblemKind};
use binrush_wire::Generation;
use proptest::prelude::*;

use crate::build::{SYN, a, b, frame, modern, pcap, read, tcp, udp};
use crate::formats::Ng;

fn small() -> Vec<u8> {
    let legacy = frame(Generation::Legacy, "ul", 5);
    let one = modern("ul", 50);
    let next = 100 + u32::try_from(one.len()).expect("small");
    pcap(
        101,
        &[
            udp(a(), b(), &legacy),
            tcp((a(), b()), SYN, 99, 0, b""),
            tcp((a(), b()), 0, 100, 0, &one),
            tcp((a(), b()), 0, next, 0, &one[..20]),
            tcp((a(), b()), 0, next + 20, 0, &one[20..]),
            udp(a(), b(), &legacy),
        ],
    )
}

/// The same packets as pcapng, of both byte orders.
fn small_ng() -> Vec<u8> {
    let mut ng = Ng::new();
    for big_endian in [false, true] {
        ng.section(big_endian)
            .interface(101, 0, &[(9, &[9]), (14, &[0; 8])]);
        let pcap = small();
        let mut rest = &pcap[24..];
        while let Some(len) = rest.get(8..).and_then(<[u8]>::first_chunk) {
            let (record, after) = rest.split_at(16 + u32::from_le_bytes(*len) as usize);
            ng.packet(0, 1, &record[16..]);
            rest = after;
        }
    }
    ng.file
}

#[test]
fn a_file_cut_off_anywhere_delivers_the_records_before() {
    let file = small();
    let whole = read(&file, Options::default());
    assert_eq!((whole.frames.len(), whole.kinds.len()), (4, 0));
    let mut ends = vec![24];
    while let Some(&end) = ends.last().filter(|&&end| end < file.len()) {
        let len = u32::from_le_bytes(*file[end + 8..].first_chunk().expect("a header"));
        ends.push(end + 16 + len as usize);
    }
    for cut in 24..file.len() {
        let read = read(&file[..cut], Options::default());
        let records = ends.iter().filter(|&&end| end <= cut).count() - 1;
        assert_eq!(read.totals.records, records as u64, "cut at {cut}");
        let want: Vec<_> = whole
            .frames
            .iter()
            .filter(|frame| frame.number <= records as u64)
            .cloned()
            .collect();
        assert_eq!(read.frames, want, "cut at {cut}");
        let inside = !ends.contains(&cut);
        let have = (cut - ends[records]) as u64;
        let said =
            matches!(read.kinds.first(), Some(ProblemKind::CutOff { have: n, .. }) if *n == have);
        assert_eq!(said, inside, "cut at {cut}");
    }
    let ng = small_ng();
    let whole = read(&ng, Options::default());
    // The second section repeats the TCP stream, so only its UDP frames are new.
    assert_eq!((whole.frames.len(), whole.kinds.len()), (6, 0));
    for cut in 28..ng.len() {
        let read = read(&ng[..cut], Options::default());
        assert!(whole.frames.starts_with(&read.frames), "cut at {cut}");
    }
    for cut in 0..24 {
        assert!(Capture::new(&file[..cut], Options::default()).is_err());
    }
}

proptest! {
    #[test]
    fn flipped_bytes_never_panic(
        ng in any::<bool>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)
    ) {
        let mut file = if ng { small_ng() } else { small() };
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] ^= byte;
        }
        if let Ok(mut capture) = Capture::new(&file[..], Options::default()) {
            while capture.next().is_some() {}
        }
    }

    #[test]
    fn garbage_after_a_magic_never_panics(
        ng in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..600)
    ) {
        let head: &[u8] = if ng {
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0"
        } else {
            &small()[..24]
        };
        let file = [head, &bytes].concat();
        let mut capture = Capture::new(&file[..], Options::default()).expect("a head");
        while capture.next().is_some() {}
    }

    /// Segments of a stream in any order, with repetitions: what comes out is a part of what was sent, and
    /// all of it when nothing is missing and the beginning is known.
    #[test]
    fn shuffled_and_repeated_segments_give_the_stream(
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 1..12),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        origin in any::<u32>(),
    ) {
        let frames: Vec<_> = (0..6).map(|len| modern("dialog-dlg-repl", len * 7)).collect();
        let bytes = frames.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut parts: Vec<_> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        for (at, index) in order.iter().enumerate() {
            let other = index.index(parts.len());
            let at = at % parts.len();
            parts.swap(at, other);
            parts.push(parts[other]);
        }
        let mut packets = vec![tcp((a(), b()), SYN, origin.wrapping_sub(1), 0, b"")];
        packets.extend(parts.iter().map(|&(begin, end)| {
            let seq = origin.wrapping_add(u32::try_from(begin).expect("small"));
            tcp((a(), b()), 0, seq, 0, &bytes[begin..end])
        }));
        let read = read(&pcap(101, &packets), Options::default());
        prop_assert_eq!(read.bytes(), frames);
        prop_assert_eq!(read.kinds, vec![]);
    }
}
