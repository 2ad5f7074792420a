//! The bodies of the fuzz targets. Each takes arbitrary bytes and panics when a promise is broken.
//!
//! ```text
//! datagram  | the datagram ...
//! stream    | options: u8 | n: u8 | n piece sizes: u8 each | the stream ...
//! payload   | capability: u8 | message: u8 | generation: u8 | version: u8 | body, trailer included ...
//! builder   | generation: u8 | room: u32 | limit: u32 | name | command | version | steps ... (plan.rs)
//! capture   | options: u8 | the file ...
//! receiver  | options: u8 | n: u8 | n piece sizes: u8 each | the stream ...
//! seat      | options: u8 | steps ... (seat.rs)
//! journal   | options: u8 | n: u8 | n ops: u8, u8 each | m: u8 | m damages: u16, u8 each | files ... (journal.rs)
//! store     | family: u8 | records: u8 | per key: u8 | steps ... (store.rs)
//! event     | the datagram ...
//! script    | options: u8 | the text, or a word of it for each byte ... (script.rs)
//! ```
//!
//! A byte that chooses from a list is taken modulo the list's length, so no input is wasted on a bad choice.

use arbitrary::Unstructured;
use binrush_wire::crc32::checksum;
use binrush_wire::schema::{self, Message};
use binrush_wire::{
    Builder, ErrorKind, Generation, Head, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0, Release, frame_len,
    next_marker,
};

/// What must hold for a packet, or for the error in its place.
mod check;
/// Events in datagrams.
mod event;
/// A journal's files and ring.
mod journal;
/// Writing a packet by arbitrary steps, next to a model.
mod plan;
/// What must hold while a capture is read.
mod reading;
/// Receiving a stream within limits, next to a model.
mod receiver;
/// A script, and what it does to a packet.
mod script;
/// A seat in a cluster.
mod seat;
/// The inputs that fuzzing starts from.
pub mod seeds;
/// A store of records, next to a model.
mod store;
/// A packet on its way to a node of another release.
mod translated;

use plan::Plan;

/// A 1.x datagram: as it comes, and with marker and checksum put right, so that the fields are reached.
pub fn datagram(data: &[u8]) {
    let _ = check::frame(Generation::Legacy, data);
    if data.len() >= 8 {
        let mut sealed = data.to_vec();
        sealed[..4].copy_from_slice(b"P4CK");
        let crc = checksum(&sealed[8..]);
        sealed[4..8].copy_from_slice(&crc.to_le_bytes());
        if sealed != data {
            let _ = check::frame(Generation::Legacy, &sealed);
        }
    }
}

/// A stream, cut at arbitrary places: the frames must not depend on the cuts.
pub fn stream(data: &[u8]) {
    let Some((&[options, piece_count], data)) = data.split_first_chunk() else {
        return;
    };
    let (pieces, data) = data.split_at(usize::from(piece_count).min(data.len()));
    let generation = match options & TRANSITIONAL {
        0 => Generation::Modern,
        _ => Generation::Transitional,
    };
    let max_len = match options & LIMIT_4_0 {
        0 => MAX_PACKET_LEN,
        _ => MAX_PACKET_LEN_4_0,
    };
    let whole = frames_in_pieces(generation, max_len, data, &[]);
    let in_pieces = frames_in_pieces(generation, max_len, data, pieces);
    assert_eq!(whole.len(), in_pieces.len(), "{whole:?} {in_pieces:?}");
    for (&(start, end), &(cut_start, cut_end)) in whole.iter().zip(&in_pieces) {
        // A 2.2 sender's uncounted empty strings are their frame's only when both come in one read.
        let uncounted = |tail: &[u8]| {
            generation == Generation::Transitional
                && tail.len().is_multiple_of(4)
                && tail.iter().all(|byte| *byte == 0)
        };
        assert!(
            start == cut_start
                && (end == cut_end || cut_end < end && uncounted(&data[cut_end..end])),
            "{start}..{end}, in pieces {cut_start}..{cut_end}"
        );
        if let Err(error) = check::frame(generation, &data[start..end]) {
            // The framing has checked all the rest.
            assert_eq!(error.kind, ErrorKind::NameLength, "{error}");
        }
    }
}

/// A payload under a known name, in a generation and version that have it: read, and for a node of another release.
pub fn payload(data: &[u8]) {
    let Some((choice, body)) = data.split_first_chunk() else {
        return;
    };
    let Choice {
        name,
        message,
        generation,
        version,
    } = Choice::new(*choice);
    let mut buffer = vec![0; generation.header_len() + 4 + name.len() + 4 + body.len()];
    let mut builder = Builder::new(
        generation,
        &mut buffer,
        name.as_bytes(),
        message.command,
        version,
    )
    .expect("there is room for the header");
    // Refused when a datagram cannot carry it.
    if builder.append(body).is_ok() {
        let frame = builder.seal();
        let _ = check::frame(generation, frame);
        let to = pick(&Release::ALL, choice.iter().fold(0, |all, byte| all ^ byte));
        translated::to(*to, generation, frame);
    }
}

/// Writing by arbitrary steps against a model, then reading it back.
pub fn build(data: &[u8]) {
    let mut input = Unstructured::new(data);
    if let Ok(plan) = Plan::read(&mut input) {
        plan.run();
    }
}

/// A capture file, read at once and in small pieces.
pub fn capture(data: &[u8]) {
    if let Some((&choice, file)) = data.split_first() {
        reading::twice(file, reading::options(choice));
    }
}

/// A connection's bytes, as the engine receives them, within its limits: the packets must not depend on the cuts, every
/// byte is in one place, and memory follows what was sent.
pub fn receiver(data: &[u8]) {
    let Some((&[options, piece_count], data)) = data.split_first_chunk() else {
        return;
    };
    let (pieces, data) = data.split_at(usize::from(piece_count).min(data.len()));
    receiver::both_ways(options, pieces, data);
}

/// A seat in a cluster whose nodes say whatever they like: it never boasts of a copy that it does not have, what it sends can be
/// read by its receiver, and what it does about a message is bounded.
pub fn seat(data: &[u8]) {
    seat::whatever_they_say(data);
}

/// A journal that was left behind by anybody: nothing panics, what is recovered once is recovered again, also by who comes after
/// a writer that went on from there, and what is refused is not half loaded.
pub fn journal(data: &[u8]) {
    journal::recovers(data);
}

/// Changes of records, expiry, syncs and restarts: the store has what a plain list has that follows the rules, and tells the
/// log so.
pub fn store(data: &[u8]) {
    store::as_the_rules_say(data);
}

/// A datagram of an event, in any form: an event or an error, and what was read is the same when it is told on.
pub fn event(data: &[u8]) {
    event::reads(data);
}

/// The text of a script: it is refused with places and reasons, or runs for a packet and comes to an end.
pub fn script(data: &[u8]) {
    script::ends(data);
}

/// Start and end of each frame when `data` arrives in pieces of the given sizes, over and over; all at
/// once when there are none.
fn frames_in_pieces(
    generation: Generation,
    max_len: usize,
    data: &[u8],
    pieces: &[u8],
) -> Vec<(usize, usize)> {
    let mut frames = vec![];
    let (mut start, mut have) = (0, 0);
    let mut pieces = pieces.iter().cycle();
    while have < data.len() {
        let piece = pieces
            .next()
            .map_or(data.len(), |&size| usize::from(size).max(1));
        have = data.len().min(have + piece);
        while start < have {
            match frame_len(generation, &data[start..have], max_len) {
                Head::NeedMore { missing } => {
                    assert!(missing > 0 && have - start + missing <= max_len);
                    break;
                }
                Head::Complete { len } => {
                    assert!(len >= generation.min_packet_len() && len <= have - start);
                    frames.push((start, start + len));
                    start += len;
                }
                Head::Broken(error) => {
                    check::error(&error, have - start);
                    let skip = next_marker(&data[start..have]);
                    assert!(skip > 0 && skip <= have - start);
                    start += skip;
                }
            }
        }
    }
    frames
}

/// What a payload is read as.
#[derive(Debug)]
struct Choice {
    name: &'static str,
    message: &'static Message,
    generation: Generation,
    version: i16,
}

impl Choice {
    fn new([capability, message, generation, version]: [u8; 4]) -> Self {
        let capability = pick(schema::CAPABILITIES, capability);
        let message = pick(capability.messages, message);
        let (low, high) = message.versions.unwrap_or(ANY_VERSION);
        Self {
            name: capability.name,
            message,
            generation: GENERATIONS
                .into_iter()
                .filter(|&generation| message.spoken_in(generation))
                .cycle()
                .nth(usize::from(generation))
                .expect("some release sends it"),
            version: low + i16::from(version) % (high - low + 1),
        }
    }
}

fn pick<T>(list: &[T], choice: u8) -> &T {
    &list[usize::from(choice) % list.len()]
}

/// All of them, newest last.
const GENERATIONS: [Generation; 3] = [
    Generation::Legacy,
    Generation::Transitional,
    Generation::Modern,
];

/// Tried where no receiver looks at the version.
const ANY_VERSION: (i16, i16) = (0, 5);

/// Options of a stream; for `receiver`, the six bits above them are the pieces that a packet may come in, 0 any number.
const TRANSITIONAL: u8 = 1;
const LIMIT_4_0: u8 = 2;
