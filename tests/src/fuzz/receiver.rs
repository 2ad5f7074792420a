//! The receiver of one stream, with its limits, next to a model that waits for the end before it looks.

use std::ops::Range;

use binrush_engine::stream::CloseReason;
use binrush_engine::stream::framer::{Broken, Cut, Framer, SKIP_MAX};
use binrush_wire::{
    ErrorKind, Generation, Head, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0, frame_len, next_marker,
};

use super::{LIMIT_4_0, TRANSITIONAL, check};

/// How a stream is received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    generation: Generation,
    frame_len_max: usize,
    pieces_max: Option<u32>,
}

/// What a receiver made of a stream.
#[derive(Debug)]
struct Received {
    frames: Vec<Vec<u8>>,
    cut: Cut,
    held: usize,
    broken: Option<Broken>,
}

/// Receives `data` at once and in `pieces`, over and over, and checks both against the model and each other.
pub(super) fn both_ways(options: u8, pieces: &[u8], data: &[u8]) {
    let setup = Setup::of(options);
    let whole = receive(setup, data, &[]);
    let cut = receive(setup, data, pieces);
    let (expected, reason) = model(setup, data);
    let frames: Vec<&[u8]> = expected.iter().map(|range| &data[range.clone()]).collect();
    if setup.generation == Generation::Modern {
        assert_eq!(whole.frames, frames);
        assert_eq!(whole.broken.map(|broken| broken.reason), reason);
    }
    let too_many = cut.broken.map(|broken| broken.reason) == Some(CloseReason::TooManyPieces);
    assert!(!too_many || setup.pieces_max.is_some());
    for (index, frame) in cut.frames.iter().enumerate() {
        same(setup.generation, frame, frames[index]);
    }
    // What is not there was cut too often; or it is of 2.2, where a piece decides what is passed over at once.
    if !too_many && setup.generation == Generation::Modern {
        assert_eq!(cut.frames.len(), frames.len());
        assert_eq!(cut.broken.map(|broken| broken.reason), reason);
    }
}

/// Feeds `data` in pieces of the given sizes, all at once when there are none, and checks the books after each.
fn receive(setup: Setup, data: &[u8], pieces: &[u8]) -> Received {
    let mut framer = Framer::new(setup.generation, setup.frame_len_max, setup.pieces_max);
    let mut received = Received {
        frames: vec![],
        cut: Cut::default(),
        held: 0,
        broken: None,
    };
    let mut rest = data;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let len = pieces
            .next()
            .map_or(rest.len(), |&size| usize::from(size).max(1));
        let (piece, behind) = rest.split_at(len.min(rest.len()));
        rest = behind;
        let before = received.frames.len();
        let frames = &mut received.frames;
        let fed = framer.feed(piece, &mut received.cut, |frame| {
            frames.push(frame.to_vec())
        });
        if let Err(broken) = fed {
            assert_eq!(received.broken, None, "it breaks once");
            assert!(OF_BYTES.contains(&broken.reason), "{broken:?}");
            received.broken = Some(broken);
        } else if received.broken.is_some() {
            assert_eq!(received.frames.len(), before, "it is not read any more");
        }
        received.held = framer.held();
        books(setup, &framer, &received);
    }
    for frame in &received.frames {
        if let Err(error) = check::frame(setup.generation, frame) {
            // The framing has checked all the rest.
            assert_eq!(error.kind, ErrorKind::NameLength, "{error}");
        }
    }
    received
}

/// Every byte is in one place, and memory follows what was sent, within the limit.
fn books(setup: Setup, framer: &Framer, received: &Received) {
    let Received { frames, cut, .. } = received;
    let told = cut.frame_bytes + cut.skipped_bytes + cut.rejected_bytes + framer.held() as u64;
    assert_eq!(cut.rx_bytes, told, "{cut:?}, {} held", framer.held());
    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert_eq!(
        (cut.frames, cut.frame_bytes),
        (frames.len() as u64, bytes as u64)
    );
    assert!(
        framer.held() <= setup.frame_len_max,
        "{} held",
        framer.held()
    );
    // A vector that grows doubles.
    assert!(
        framer.memory() <= 2 * setup.frame_len_max,
        "{}",
        framer.memory()
    );
    if setup.generation == Generation::Modern {
        assert_eq!(cut.skipped_bytes, 0);
    }
    if received.broken.is_some() {
        assert_eq!(framer.held(), 0);
    }
}

/// The packets of the whole stream, and why it ends before its last byte.
fn model(setup: Setup, data: &[u8]) -> (Vec<Range<usize>>, Option<CloseReason>) {
    let (mut frames, mut at, mut skipped) = (vec![], 0, 0);
    loop {
        match frame_len(setup.generation, &data[at..], setup.frame_len_max) {
            Head::NeedMore { .. } => return (frames, None),
            Head::Complete { len } => {
                frames.push(at..at + len);
                at += len;
                skipped = 0;
            }
            Head::Broken(error) => {
                let step = next_marker(&data[at..]);
                skipped += step;
                if setup.generation == Generation::Modern || skipped > SKIP_MAX {
                    let reason = match error.kind {
                        ErrorKind::Marker => CloseReason::BadMarker,
                        _ => CloseReason::BadLength,
                    };
                    return (frames, Some(reason));
                }
                at += step;
            }
        }
    }
}

/// A 2.2 sender's uncounted empty strings are their packet's only as far as they came in time.
fn same(generation: Generation, received: &[u8], expected: &[u8]) {
    let uncounted = expected.strip_prefix(received);
    let all_zero = uncounted.is_some_and(|tail| tail.iter().all(|byte| *byte == 0));
    assert!(
        received == expected || generation == Generation::Transitional && all_zero,
        "{received:?} {expected:?}"
    );
}

impl Setup {
    fn of(options: u8) -> Self {
        let generation = match options & TRANSITIONAL {
            0 => Generation::Modern,
            _ => Generation::Transitional,
        };
        let frame_len_max = match options & LIMIT_4_0 {
            0 => MAX_PACKET_LEN,
            _ => MAX_PACKET_LEN_4_0,
        };
        // A limit of pieces from 1 to 32, or none.
        let pieces_max = match options >> 2 {
            0 => None,
            few => Some(u32::from(few)),
        };
        Self {
            generation,
            frame_len_max,
            pieces_max,
        }
    }
}

/// How a stream can end for what stands in it.
const OF_BYTES: [CloseReason; 3] = [
    CloseReason::BadMarker,
    CloseReason::BadLength,
    CloseReason::TooManyPieces,
];
