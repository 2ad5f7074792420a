use super::*;
use binrush_wire::{Builder, MAX_PACKET_LEN};
use proptest::prelude::*;

fn packet(generation: Generation, command: i32, strings: &[&[u8]]) -> Vec<u8> {
    let mut buffer = vec![0; MAX_PACKET_LEN];
    let mut builder = Builder::new(generation, &mut buffer, b"ul", command, 1).unwrap();
    for string in strings {
        builder.push_str(string).unwrap();
    }
    builder.seal().to_vec()
}

fn framer(generation: Generation) -> Framer {
    Framer::new(generation, MAX_PACKET_LEN, None)
}

/// All that came of `stream`, given in pieces that end at `ends`.
fn cut_in_pieces(
    framer: &mut Framer,
    stream: &[u8],
    ends: impl IntoIterator<Item = usize>,
) -> (Vec<Vec<u8>>, Cut, Option<Broken>) {
    let (mut frames, mut cut, mut broken) = (Vec::new(), Cut::default(), None);
    let mut at = 0;
    for end in ends.into_iter().chain([stream.len()]) {
        let piece = &stream[at..end.max(at)];
        at = end.max(at);
        let held = framer.held();
        let mut piece_cut = Cut::default();
        let fed = framer.feed(piece, &mut piece_cut, |frame| frames.push(frame.to_vec()));
        // What came in went somewhere, after each piece.
        let out = piece_cut.frame_bytes + piece_cut.skipped_bytes + piece_cut.rejected_bytes;
        assert_eq!(held as u64 + piece_cut.rx_bytes, out + framer.held() as u64);
        cut.rx_bytes += piece_cut.rx_bytes;
        cut.frames += piece_cut.frames;
        cut.frame_bytes += piece_cut.frame_bytes;
        cut.skipped_bytes += piece_cut.skipped_bytes;
        cut.rejected_bytes += piece_cut.rejected_bytes;
        broken = broken.or_else(|| fed.err());
    }
    assert_eq!(cut.frames, frames.len() as u64);
    (frames, cut, broken)
}

#[test]
fn packets_come_whole_wherever_the_stream_is_cut_in_two() {
    for generation in [Generation::Modern, Generation::Transitional] {
        let packets = [
            packet(generation, 1, &[b"location", b"alice"]),
            packet(generation, 2, &[b"P4CK inside", b"P4CK\0\0\0\0"]),
            packet(generation, 3, &[]),
        ];
        let stream = packets.concat();
        for first in 0..=stream.len() {
            let mut framer = framer(generation);
            let (frames, cut, broken) = cut_in_pieces(&mut framer, &stream, [first]);
            assert_eq!((frames, broken), (packets.to_vec(), None), "{first}");
            assert_eq!((cut.frame_bytes, framer.held()), (stream.len() as u64, 0));
        }
        // And byte by byte.
        let mut framer = framer(generation);
        let (frames, _, broken) = cut_in_pieces(&mut framer, &stream, 0..stream.len());
        assert_eq!((frames, broken), (packets.to_vec(), None));
    }
}

#[test]
fn what_is_no_packet_ends_a_stream_of_2_3_and_all_behind_it_is_rejected() {
    let good = packet(Generation::Modern, 1, &[b"location"]);
    for (bad, reason) in [
        (&b"GET / HTTP/1.1\r\n"[..], CloseReason::BadMarker),
        (b"P4CK\0\0\0\0", CloseReason::BadLength),
        (b"P4CK\x10\0\0\0", CloseReason::BadLength),
        (b"P4CK\0\0\x01\0", CloseReason::BadLength),
        (b"P4CK\xFF\xFF\xFF\xFF", CloseReason::BadLength),
    ] {
        let stream = [&good[..], bad, &good].concat();
        for first in 0..=stream.len() {
            let mut framer = framer(Generation::Modern);
            let (frames, cut, broken) = cut_in_pieces(&mut framer, &stream, [first]);
            assert_eq!(frames, std::slice::from_ref(&good), "{first}");
            assert_eq!(broken.map(|broken| broken.reason), Some(reason));
            assert_eq!(
                cut.rejected_bytes,
                (bad.len() + good.len()) as u64,
                "{first}"
            );
        }
    }
}

#[test]
fn a_stream_of_2_2_goes_on_at_the_next_marker_up_to_a_limit() {
    let good = packet(Generation::Transitional, 1, &[b"location"]);
    let stream = [&good[..], b"\0\0what is this?", &good, b"P4CK\x01\0", &good].concat();
    for first in 0..=stream.len() {
        let mut framer = framer(Generation::Transitional);
        let (frames, cut, broken) = cut_in_pieces(&mut framer, &stream, [first]);
        assert_eq!((frames, broken), (vec![good.clone(); 3], None), "{first}");
        assert_eq!(cut.skipped_bytes, 15 + 6, "{first}");
    }
    let garbage = vec![b'x'; SKIP_MAX + 1];
    let mut framer = framer(Generation::Transitional);
    let (_, cut, broken) = cut_in_pieces(&mut framer, &garbage, (0..garbage.len()).step_by(1000));
    assert_eq!(
        broken.map(|broken| broken.reason),
        Some(CloseReason::BadMarker)
    );
    assert!(cut.skipped_bytes <= SKIP_MAX as u64 && cut.rejected_bytes > 0);
}

#[test]
fn empty_strings_that_2_2_does_not_count_belong_to_their_packet_also_when_it_was_held() {
    // Its length word misses the two at the end.
    let whole = packet(Generation::Transitional, 1, &[b"location", b"", b""]);
    let mut sent = whole.clone();
    let declared = u16::try_from(whole.len() - 8).unwrap();
    sent[4..6].copy_from_slice(&declared.to_le_bytes());
    let next = packet(Generation::Transitional, 2, &[b"next"]);
    let stream = [&sent[..], &next].concat();
    for first in 0..=sent.len() - 8 {
        let mut framer = framer(Generation::Transitional);
        let (frames, cut, broken) = cut_in_pieces(&mut framer, &stream, [first]);
        if first < sent.len() - 8 {
            assert_eq!(frames, [sent.clone(), next.clone()], "{first}");
            assert_eq!((cut.skipped_bytes, broken), (0, None));
        } else {
            // Cut right where the length says that the packet ends, nobody can know that more belongs to it.
            assert_eq!(frames, [sent[..first].to_vec(), next.clone()]);
            assert_eq!((cut.skipped_bytes, broken), (8, None));
        }
    }
}

#[test]
fn a_packet_in_too_many_pieces_is_given_up() {
    let stream = packet(Generation::Modern, 1, &[&[b'a'; 100]]);
    let pieces = |max| {
        let mut framer = Framer::new(Generation::Modern, MAX_PACKET_LEN, max);
        cut_in_pieces(&mut framer, &stream, (0..stream.len()).step_by(10))
    };
    // The first "piece" of each run is empty, and counts as none.
    let many = u32::try_from(stream.len().div_ceil(10)).unwrap();
    assert_eq!(pieces(None).0.len(), 1);
    assert_eq!(pieces(Some(many)).0.len(), 1);
    let (frames, cut, broken) = pieces(Some(many - 1));
    assert!(frames.is_empty());
    assert_eq!(
        broken.map(|broken| broken.reason),
        Some(CloseReason::TooManyPieces)
    );
    assert_eq!(cut.rejected_bytes, stream.len() as u64);
}

#[test]
fn a_header_that_promises_much_takes_no_memory_for_it() {
    let mut framer = framer(Generation::Modern);
    let mut cut = Cut::default();
    framer
        .feed(b"P4CK\xFF\xFF\0\0", &mut cut, |_| panic!("no packet"))
        .unwrap();
    assert!(framer.memory() < 100, "{}", framer.memory());
    assert_eq!((framer.held(), cut.rejected_bytes), (8, 0));
}

#[test]
fn a_packet_longer_than_this_sender_may_send_is_given_up() {
    let max = binrush_wire::MAX_PACKET_LEN_4_0;
    let long = packet(Generation::Modern, 1, &[&vec![b'a'; max - 17]]);
    assert!(long.len() > max);
    let mut framer = Framer::new(Generation::Modern, max, None);
    let (frames, _, broken) = cut_in_pieces(&mut framer, &long, []);
    assert!(frames.is_empty());
    assert_eq!(
        broken.map(|broken| broken.reason),
        Some(CloseReason::BadLength)
    );
}

/// What the framer should find: whole streams, one `frame_len` after the other, nothing held.
fn oracle(generation: Generation, stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut at, mut skipped) = (Vec::new(), 0, 0);
    while at < stream.len() {
        match frame_len(generation, &stream[at..], MAX_PACKET_LEN) {
            Head::Complete { len } => {
                frames.push(stream[at..at + len].to_vec());
                (at, skipped) = (at + len, 0);
            }
            Head::NeedMore { .. } => break,
            Head::Broken(_) => {
                let step = next_marker(&stream[at..]);
                skipped += step;
                if generation == Generation::Modern || skipped > SKIP_MAX {
                    break;
                }
                at += step;
            }
        }
    }
    frames
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (1_i32..9, prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4))
            .prop_map(|(command, strings)| {
                let strings: Vec<&[u8]> = strings.iter().map(|string| &string[..]).collect();
                packet(Generation::Modern, command, &strings)
            }),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(b"P4CK".to_vec()),
    ]
}

proptest! {
    #[test]
    fn pieces_of_any_size_come_to_the_same_packets(
        parts in prop::collection::vec(part(), 0..20),
        mut ends in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let stream = parts.concat();
        let mut ends: Vec<usize> = ends.drain(..).map(|end| end.index(stream.len() + 1)).collect();
        ends.sort_unstable();
        let mut framer = framer(Generation::Modern);
        let (frames, cut, _) = cut_in_pieces(&mut framer, &stream, ends);
        prop_assert_eq!(frames, oracle(Generation::Modern, &stream));
        prop_assert_eq!(cut.rx_bytes, stream.len() as u64);
    }
}
