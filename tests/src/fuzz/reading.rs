//! What must hold while a capture is read, whatever the file.

use std::io::{self, Read};
use std::time::Duration;

use binrush_capture::{
    Capture, Event, Frame, GenerationChoice, Limits, Options, Totals, Transport,
};

use super::GENERATIONS;

/// Reads a file twice, the second time in small pieces: the same comes out, and adds up.
pub(super) fn twice(file: &[u8], options: Options) {
    // How far a damaged gzip unpacks depends on how it is read.
    let packed = file.starts_with(GZIP_MAGIC);
    let size = if packed { usize::MAX } else { 3 };
    let whole = Capture::new(file, options);
    let in_pieces = Capture::new(Pieces { file, size }, options);
    let (mut whole, mut in_pieces) = match (whole, in_pieces) {
        (Ok(whole), Ok(in_pieces)) => (whole, in_pieces),
        (whole, in_pieces) => {
            let error = |capture: Result<(), _>| capture.map_err(|error| format!("{error}"));
            assert_eq!(error(whole.map(drop)), error(in_pieces.map(drop)));
            return;
        }
    };
    let mut counted = Totals::default();
    let mut number = 0;
    while let Some(event) = whole.next() {
        assert_eq!(Some(&event), in_pieces.next().as_ref());
        let at = match event {
            Event::Frame(frame) => {
                check(&frame, &options);
                counted.frames += 1;
                counted.frame_bytes += frame.bytes.len() as u64;
                frame.number
            }
            Event::Problem(problem) => {
                counted.problems += 1;
                assert!(!problem.to_string().is_empty());
                problem.number
            }
        };
        // The problem of a block that has no number says the next record's.
        assert!(at + 1 >= number, "record {at} after {number}");
        number = at;
    }
    assert_eq!(in_pieces.next(), None);
    assert_eq!(whole.next(), None);
    let totals = whole.totals();
    assert_eq!(totals, in_pieces.totals());
    assert_eq!(
        (totals.frames, totals.frame_bytes, totals.problems),
        (counted.frames, counted.frame_bytes, counted.problems)
    );
    // No byte leads to more than one event: what waits to be taken is bounded by what was read.
    if !packed {
        assert!(totals.frames + totals.problems <= file.len() as u64);
        assert!(totals.bytes <= file.len() as u64);
    }
}

/// The options that a byte stands for: a generation, and limits that are soon reached or those of real use.
pub(super) fn options(choice: u8) -> Options {
    let generation = match usize::from(choice) % 4 {
        0 => GenerationChoice::Auto,
        n => GenerationChoice::Fixed(GENERATIONS[n - 1]),
    };
    let limits = match choice & LARGE_LIMITS {
        0 => Limits {
            streams: 4,
            stream_bytes: 4096,
            held_bytes: 512,
            held_segments: 3,
            search_bytes: 256,
            datagrams: 2,
            datagram_bytes: 2048,
            fragment_timeout: Duration::from_secs(1),
            udp_destinations: 2,
        },
        _ => Limits::default(),
    };
    Options {
        generation,
        limits,
        ..Options::default()
    }
}

fn check(frame: &Frame<'_>, options: &Options) {
    if let GenerationChoice::Fixed(generation) = options.generation {
        assert_eq!(frame.generation, generation);
    }
    // A datagram is delivered whatever its length: the decoder says what is wrong with it.
    if frame.transport == Transport::Tcp {
        let len = frame.bytes.len();
        assert!(
            (frame.generation.min_packet_len()..=options.max_len).contains(&len),
            "a {} frame of {len} bytes",
            frame.generation
        );
    }
}

/// Gives so many bytes at a time.
struct Pieces<'a> {
    file: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.size);
        self.file.read(&mut buffer[..len])
    }
}

const LARGE_LIMITS: u8 = 4;
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";
