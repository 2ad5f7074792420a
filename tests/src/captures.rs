//! Traffic recorded from genuine OpenSIPS nodes, and what others made of it. See `captures/README.md`.
//!
//! Everything here panics on trouble: the files belong to the tests.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;

use binrush_capture::{Capture, Event, Options};
use binrush_wire::Generation;
use flate2::read::GzDecoder;
use serde_json::Value;

/// The captures, by the release that made them.
pub const ALL: [&str; 4] = ["1.11", "2.4", "3.6", "3.6-late"];

/// One BIN frame of a capture.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedFrame {
    /// Seconds since the epoch.
    pub time: f64,
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// The generation its transport and header speak for.
    pub generation: Generation,
    /// The packet, header included.
    pub bytes: Vec<u8>,
}

/// One line of a `*.decoded.jsonl.gz`: the packet as an independent program framed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Framed {
    /// Seconds since the epoch.
    pub time: f64,
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// Length of the packet, header included.
    pub len: usize,
    /// Module or capability.
    pub name: String,
    /// Command.
    pub command: i32,
    /// Header version; none in 1.x.
    pub version: Option<i16>,
    /// Everything after the command.
    pub body: Vec<u8>,
}

/// Path of a file below `tests/`.
#[must_use]
pub fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Path of a capture.
#[must_use]
pub fn pcap_path(capture: &str) -> PathBuf {
    let suffix = if capture == "1.11" { "" } else { ".gz" };
    path(&format!("captures/opensips-{capture}.pcap{suffix}"))
}

/// Every frame of a capture, in order; panics on any problem the reader reports.
#[must_use]
pub fn frames(capture: &str) -> Vec<OwnedFrame> {
    let file = File::open(pcap_path(capture)).expect("the capture is there");
    let mut reader = Capture::new(file, Options::default()).expect("it is a capture");
    let mut frames = vec![];
    while let Some(event) = reader.next() {
        match event {
            Event::Frame(frame) => frames.push(OwnedFrame {
                time: frame.time.as_nanos() as f64 / 1e9,
                src: frame.src,
                dst: frame.dst,
                generation: frame.generation,
                bytes: frame.bytes.to_vec(),
            }),
            Event::Problem(problem) => panic!("{capture}: {problem}"),
        }
    }
    frames
}

/// The independent framing of a capture.
#[must_use]
pub fn framed(capture: &str) -> Vec<Framed> {
    lines(&format!("captures/opensips-{capture}.decoded.jsonl.gz"))
        .map(|line| {
            let text = |key: &str| line[key].as_str().expect("a string").to_owned();
            let number = |key: &str| line[key].as_i64().expect("an integer");
            Framed {
                time: line["ts"].as_f64().expect("a number"),
                src: text("src").parse().expect("an address"),
                dst: text("dst").parse().expect("an address"),
                len: usize::try_from(number("len")).expect("a length"),
                name: text("name"),
                command: i32::try_from(number("type")).expect("a command"),
                version: line["ver"]
                    .as_i64()
                    .map(|version| i16::try_from(version).expect("a version")),
                body: unhex(&text("body")),
            }
        })
        .collect()
}

/// What the genuine 1.11 backup popped from each packet of its capture: the lengths of its strings, in order.
///
/// Its log prints strings up to the first NUL and splits lines at a newline in them, so the text is of no use.
#[must_use]
pub fn popped() -> Vec<Popped> {
    lines("captures/opensips-1.11.popped.jsonl.gz")
        .map(|line| Popped {
            name: line["name"].as_str().expect("a name").to_owned(),
            command: i32::try_from(line["type"].as_i64().expect("a type")).expect("a type"),
            string_lens: line["popped"]
                .as_array()
                .expect("pops")
                .iter()
                .map(|pop| usize::try_from(pop[1].as_u64().expect("a length")).expect("a length"))
                .collect(),
        })
        .collect()
}

/// See [`popped`].
#[derive(Debug)]
pub struct Popped {
    /// Module.
    pub name: String,
    /// Command.
    pub command: i32,
    /// Length of each string it popped before it was content or gave up.
    pub string_lens: Vec<usize>,
}

/// Bytes from hex digits.
#[must_use]
pub fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| text[at..=at].chars().next().and_then(|c| c.to_digit(16));
    (0..text.len())
        .step_by(2)
        .map(|at| match (digit(at), digit(at + 1)) {
            (Some(high), Some(low)) => u8::try_from(high * 16 + low).expect("two digits"),
            _ => panic!("not hex: {text}"),
        })
        .collect()
}

fn lines(file: &str) -> impl Iterator<Item = Value> {
    let mut text = vec![];
    let file = File::open(path(file)).expect("the file is there");
    GzDecoder::new(BufReader::new(file))
        .read_to_end(&mut text)
        .expect("it is gzip");
    let lines: Vec<_> = text.lines().map(|line| line.expect("it is text")).collect();
    lines
        .into_iter()
        .map(|line| serde_json::from_str(&line).expect("it is JSON"))
}
