//! The captures of genuine nodes against what was decoded from them independently.

use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;

use binrush_capture::{Capture, Event, Options, Totals};
use binrush_wire::Packet;
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::build::{Owned, read};

fn open(name: &str) -> File {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/captures");
    let path = PathBuf::from(folder).join(name);
    File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// Compares every frame, in order, with the line that describes it.
fn agrees(capture: &str, decoded: &str, frames: u64) -> Totals {
    let mut lines = BufReader::new(GzDecoder::new(open(decoded))).lines();
    let mut capture = Capture::new(open(capture), Options::default()).expect("a capture");
    while let Some(event) = capture.next() {
        let frame = match event {
            Event::Frame(frame) => frame,
            Event::Problem(problem) => panic!("{problem}"),
        };
        let line = lines.next().expect("a line per frame").expect("readable");
        let want: Value = serde_json::from_str(&line).expect("JSON");
        let packet = Packet::parse(frame.generation, frame.bytes).expect("a genuine packet");
        let micros = want["ts"].as_f64().expect("a number") * 1e6;
        let got = frame.time.as_nanos() as f64 / 1e3;
        assert!(
            (micros - got).abs() < 1.0,
            "record {}: {micros} {got}",
            frame.number
        );
        assert_eq!(want["src"], frame.src.to_string());
        assert_eq!(want["dst"], frame.dst.to_string());
        assert_eq!(want["proto"], frame.transport.as_str());
        assert_eq!(want["len"], frame.bytes.len());
        assert_eq!(
            want["name"].as_str().map(str::as_bytes),
            Some(packet.name())
        );
        assert_eq!(want["type"], packet.command());
        assert_eq!(
            want["body"],
            hex(&frame.bytes[frame.bytes.len() - packet.body().len()..])
                [..want["body"].as_str().expect("text").len()]
        );
    }
    assert!(lines.next().is_none(), "frames are missing");
    let totals = capture.totals();
    assert_eq!((totals.frames, totals.problems), (frames, 0));
    totals
}

#[test]
fn capture_of_1_11_gives_its_2591_frames() {
    let totals = agrees("opensips-1.11.pcap", "opensips-1.11.decoded.jsonl.gz", 2591);
    assert_eq!(totals.udp_datagrams - totals.not_bin_datagrams, 2591);
}

#[test]
fn capture_of_2_4_gives_its_3579_frames() {
    agrees(
        "opensips-2.4.pcap.gz",
        "opensips-2.4.decoded.jsonl.gz",
        3579,
    );
}

#[test]
fn capture_of_3_6_gives_its_2995_frames() {
    agrees(
        "opensips-3.6.pcap.gz",
        "opensips-3.6.decoded.jsonl.gz",
        2995,
    );
}

#[test]
fn late_capture_of_3_6_gives_its_3516_frames() {
    agrees(
        "opensips-3.6-late.pcap.gz",
        "opensips-3.6-late.decoded.jsonl.gz",
        3516,
    );
}

/// `file` without every `nth` record that carries more than TCP headers do.
fn thinned(file: &[u8], nth: usize) -> Vec<u8> {
    let (head, mut rest) = file.split_at(24);
    let mut thinned = head.to_vec();
    let mut count = 0;
    while let Some(len) = rest.get(8..).and_then(<[u8]>::first_chunk) {
        let (record, after) = rest.split_at(16 + u32::from_le_bytes(*len) as usize);
        count += usize::from(record.len() > 120);
        if record.len() <= 120 || count % nth != 0 {
            thinned.extend(record);
        }
        rest = after;
    }
    thinned
}

#[test]
fn a_capture_that_missed_records_loses_only_the_frames_in_them() {
    let mut file = Vec::new();
    let mut gzip = GzDecoder::new(open("opensips-3.6.pcap.gz"));
    gzip.read_to_end(&mut file).expect("gzip");
    let whole = read(&file, Options::default());
    for nth in [7, 50, 400] {
        let thin = read(&thinned(&file, nth), Options::default());
        let gaps = thin
            .symbols()
            .iter()
            .filter(|symbol| **symbol == "gap")
            .count();
        assert!(
            gaps > 0 && thin.totals.gaps == gaps as u64,
            "every {nth}th: {gaps} gaps"
        );
        // Of each direction, what came is what was sent, in order, with frames missing between.
        let mut directions: Vec<_> = whole.frames.iter().map(direction).collect();
        directions.sort_unstable();
        directions.dedup();
        for way in directions {
            let mut sent = whole.frames.iter().filter(|frame| direction(frame) == way);
            for frame in thin.frames.iter().filter(|frame| direction(frame) == way) {
                let known = sent.any(|original| original.bytes == frame.bytes);
                assert!(
                    known,
                    "every {nth}th: a frame that was not sent, record {}",
                    frame.number
                );
            }
        }
        let lost = whole.totals.frame_bytes - thin.totals.frame_bytes;
        let counted = thin.totals.lost_bytes + thin.totals.skipped_bytes;
        assert_eq!(lost, counted, "every {nth}th: bytes lost and bytes counted");
    }
}

fn direction(frame: &Owned) -> (std::net::SocketAddr, std::net::SocketAddr) {
    (frame.src, frame.dst)
}
