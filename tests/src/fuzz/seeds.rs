//! The inputs that fuzzing starts from: captured packets of every kind, and one made for every branch of
//! every layout, since no capture has all releases.

use std::collections::{BTreeMap, BTreeSet};

use binrush_wire::schema::{self, Item, Message, SYNC_CHUNK, Value};
use binrush_wire::{Builder, Generation, MAX_PACKET_LEN, Packet, Trailer};

use super::plan::{Plan, SIZE_MAX, STEPS_MAX, Step};
use super::{ANY_VERSION, Choice, GENERATIONS, TRANSITIONAL, event, journal};
use crate::captures::{self, OwnedFrame};

/// Capture files.
mod files;

/// One input of one fuzz target.
#[derive(Debug)]
pub struct Seed {
    /// The fuzz target it is for.
    pub target: &'static str,
    /// What it was made from; unique within its target.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Every seed of every target. Always the same.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut frames = captured();
    let mut seeds = bursts();
    seeds.extend(files::all());
    seeds.extend(of_records());
    seeds.extend(event::seeds().map(|(name, bytes)| Seed {
        target: "event",
        name,
        bytes,
    }));
    frames.extend(made_up());
    for (name, generation, bytes) in &frames {
        let packet = Packet::parse(*generation, bytes).expect("it is whole");
        let mut seed = |target, bytes| {
            let name = name.clone();
            seeds.push(Seed {
                target,
                name,
                bytes,
            });
        };
        match generation {
            Generation::Legacy => seed("datagram", bytes.clone()),
            _ => {
                seed("stream", stream(*generation, &[], bytes));
                // Cut in the length word, in the header and in the body.
                seed("receiver", stream(*generation, &[5, 9, 40], bytes));
            }
        }
        // The target's inputs are short, and a SYNC cut off in the middle tells nothing.
        if packet.body().len() <= PAYLOAD_LEN_MAX {
            seed("payload", payload(&packet).expect("it was identified"));
        }
        seed("builder", plan(&packet).write());
    }
    seeds
}

type Frame = (String, Generation, Vec<u8>);

/// The shortest, the median and the longest packet of each kind in each capture.
fn captured() -> Vec<Frame> {
    let mut kinds = BTreeMap::<_, Vec<OwnedFrame>>::new();
    for capture in captures::ALL {
        for frame in captures::frames(capture) {
            let packet = Packet::parse(frame.generation, &frame.bytes).expect("it is genuine");
            let name = String::from_utf8_lossy(packet.name()).into_owned();
            let kind = (capture, name, packet.command());
            kinds.entry(kind).or_default().push(frame);
        }
    }
    let mut picked = vec![];
    for ((capture, name, command), mut frames) in kinds {
        frames.sort_by_key(|frame| frame.bytes.len());
        for at in BTreeSet::from([0, frames.len() / 2, frames.len() - 1]) {
            let frame = &frames[at];
            picked.push((
                format!("{capture}-{name}-{command}-{at}"),
                frame.generation,
                frame.bytes.clone(),
            ));
        }
    }
    picked
}

/// The first packets of each TCP capture as one stream, in pieces that cut headers and bodies.
fn bursts() -> Vec<Seed> {
    let mut seeds = vec![];
    for capture in captures::ALL {
        let frames = captures::frames(capture);
        if frames[0].generation == Generation::Modern {
            let frames = frames.into_iter().take(BURST);
            let bytes = frames.flat_map(|frame| frame.bytes).collect::<Vec<_>>();
            for target in ["stream", "receiver"] {
                seeds.push(Seed {
                    target,
                    name: format!("{capture}-burst"),
                    bytes: stream(Generation::Modern, &[3, 1, 60, 200, 7], &bytes),
                });
            }
            let limited = stream(Generation::Modern, &[100], &bytes);
            seeds.push(Seed {
                target: "receiver",
                name: format!("{capture}-burst-limited"),
                bytes: [&[limited[0] | 3 << 2], &limited[1..]].concat(),
            });
        }
    }
    seeds
}

/// Those that are about records, and need no capture.
#[must_use]
pub fn of_records() -> Vec<Seed> {
    let mut seeds = journals();
    seeds.extend(stores());
    seeds
}

/// What shards left behind: some ops, many, and a ring that has more than the files.
fn journals() -> Vec<Seed> {
    let ops: Vec<_> = (0..40).map(|op| [op * 5, op]).collect();
    let seed = |(number, len, in_ring)| Seed {
        target: "journal",
        name: format!("{number}-ops-of-{len}-{in_ring}"),
        bytes: journal::input(&journal::files(number, len), &ops[..in_ring]),
    };
    [(5, 10, 0), (30, 9, 40), (60, 30, 8), (100, 40, 40)]
        .map(seed)
        .into()
}

/// Steps by chance, for each family.
fn stores() -> Vec<Seed> {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let mut seeds = vec![];
    for family in 0..5 {
        for number in 0..4 {
            let mut bytes = vec![family, byte(), byte()];
            bytes.extend((0..400).map(|_| byte()));
            seeds.push(Seed {
                target: "store",
                name: format!("made-{family}-{number}"),
                bytes,
            });
        }
    }
    seeds
}

/// A packet for every message, generation and branch that the schema knows, and a SYNC for every chunk.
fn made_up() -> Vec<Frame> {
    let mut frames = vec![];
    for capability in schema::CAPABILITIES {
        for (at, message) in capability.messages.iter().enumerate() {
            for generation in GENERATIONS {
                if !message.spoken_in(generation) {
                    continue;
                }
                for variant in 0..VARIANTS {
                    let mut body = Payload::new(generation, variant);
                    if message.routed && generation == Generation::Transitional {
                        body.int(1);
                    }
                    body.items(message.layout);
                    frames.push((
                        format!("made-{}-{at}-{generation}-{variant}", capability.name),
                        generation,
                        packet(generation, capability.name, message, &body.bytes),
                    ));
                }
            }
        }
        for (at, message) in capability.chunks.iter().enumerate() {
            for variant in 0..VARIANTS {
                frames.push((
                    format!("made-{}-{SYNC_CHUNK}-{at}-{variant}", capability.name),
                    Generation::Modern,
                    sync(capability.name, message, variant),
                ));
            }
        }
    }
    frames
}

/// A SYNC of 3.3 and later with two chunks, both as `message` lays them out.
fn sync(capability: &str, message: &Message, variant: i32) -> Vec<u8> {
    let mut body = Payload::new(Generation::Modern, variant);
    body.str(capability.as_bytes());
    body.int(i32::from(message.versions.unwrap_or(ANY_VERSION).1));
    for variant in [variant, variant + 1] {
        let mut chunk = Payload::new(Generation::Modern, variant);
        chunk.items(message.layout);
        body.chunk(&chunk.bytes);
    }
    let sync = schema::find(binrush_wire::Release::V3_6, b"clusterer-extra", 11);
    let sync = sync.expect("3.6 sends it");
    packet(Generation::Modern, "clusterer-extra", sync, &body.bytes)
}

fn packet(generation: Generation, name: &str, message: &Message, body: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; MAX_PACKET_LEN];
    let version = message.versions.unwrap_or(ANY_VERSION).0;
    let mut builder = Builder::new(
        generation,
        &mut buffer,
        name.as_bytes(),
        message.command,
        version,
    )
    .expect("the header fits");
    builder.append(body).expect("a made body is short");
    if message.routed && generation == Generation::Modern {
        let trailer = Trailer::new(1, 2, 3);
        builder.push_trailer(trailer).expect("it fits");
    }
    builder.seal().to_vec()
}

/// A payload in the making.
struct Payload {
    generation: Generation,
    /// Chooses at every branch and is every count.
    variant: i32,
    last_int_at: usize,
    bytes: Vec<u8>,
}

impl Payload {
    fn new(generation: Generation, variant: i32) -> Self {
        Self {
            generation,
            variant,
            last_int_at: 0,
            bytes: vec![],
        }
    }

    fn items(&mut self, items: &[Item]) {
        items.iter().for_each(|item| self.item(item));
    }

    fn item(&mut self, item: &Item) {
        match *item {
            Item::Str(_) => self.str(b"x"),
            Item::Int(_) => self.int(self.variant),
            Item::Object(_, object) => self.str(&vec![0; object.size()]),
            Item::Include(items) => self.items(items),
            Item::Counted { items, .. } => {
                self.int(self.variant);
                self.repeat(items);
            }
            Item::ToEnd(_, items) => self.repeat(items),
            Item::Case(cases) => {
                let (value, items) = cases[self.variant as usize % cases.len()];
                let at = self.last_int_at;
                self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                self.items(items);
            }
            Item::IfNonZero(_, items) => {
                self.int(self.variant);
                self.items(if self.variant == 0 { &[] } else { items });
            }
            Item::IfNotEmpty(_, items) => {
                self.str(&b"x"[..usize::from(self.variant != 0)]);
                self.items(if self.variant == 0 { &[] } else { items });
            }
            // Not in the first round of cases, so that each case comes both ways.
            Item::IfMore(items) => self.items(if self.variant < 3 { &[] } else { items }),
            Item::Chunks(_) => (0..self.variant).for_each(|_| self.chunk(b"opaque")),
            Item::Rest(_) => self.bytes.extend(&b"rest"[..self.variant.min(4) as usize]),
        }
    }

    fn repeat(&mut self, items: &[Item]) {
        (0..self.variant).for_each(|_| self.items(items));
    }

    fn chunk(&mut self, data: &[u8]) {
        // A chunk is never empty.
        self.int(i32::try_from(data.len()).expect("a made chunk is short"));
        self.int(binrush_wire::chunk::CHUNK_MARKER);
        self.bytes.extend(data);
    }

    fn str(&mut self, value: &[u8]) {
        let len = value.len().to_le_bytes();
        self.bytes.extend(&len[..self.generation.length_width()]);
        self.bytes.extend(value);
    }

    fn int(&mut self, value: i32) {
        self.last_int_at = self.bytes.len();
        self.bytes.extend(value.to_le_bytes());
    }
}

fn stream(generation: Generation, pieces: &[u8], bytes: &[u8]) -> Vec<u8> {
    let options = match generation {
        Generation::Transitional => TRANSITIONAL,
        _ => 0,
    };
    let piece_count = u8::try_from(pieces.len()).expect("a few");
    [&[options, piece_count], pieces, bytes].concat()
}

/// The choice that leads to the packet's layout, found by trying them, and the packet's body.
fn payload(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let wanted = schema::identify(packet).ok()?;
    let version = packet.version().unwrap_or(0);
    let byte = |at| u8::try_from(at).expect("tables are short");
    for (c, capability) in schema::CAPABILITIES.iter().enumerate() {
        for m in 0..capability.messages.len() {
            for g in 0..3 {
                for v in 0..8 {
                    let bytes = [byte(c), byte(m), g, v];
                    let choice = Choice::new(bytes);
                    if std::ptr::eq(choice.message, wanted)
                        && choice.generation == packet.generation()
                        && (choice.version == version || packet.version().is_none())
                    {
                        return Some([&bytes, packet.body()].concat());
                    }
                }
            }
        }
    }
    None
}

/// The steps that write the packet again; of a long string only its length.
fn plan(packet: &Packet<'_>) -> Plan {
    let mut steps = vec![];
    let message = schema::identify(packet).expect("it was identified");
    let trailer = message.walk(packet, |field| {
        steps.push(match field.value {
            Value::Str(bytes) | Value::Object(_, bytes) if bytes.len() > 255 => {
                Step::LongStr(bytes.len())
            }
            Value::Str(bytes) | Value::Object(_, bytes) => Step::Str(bytes.to_vec()),
            Value::Int(int) => Step::Int(int),
            Value::Raw(bytes) => Step::Append(bytes[..bytes.len().min(255)].to_vec()),
        });
    });
    steps.truncate(STEPS_MAX - 4);
    steps.push(Step::Seal);
    let trailer = trailer.expect("identify walked it");
    steps.extend(trailer.map(Step::Trailer));
    // As a sender does that goes on to the next peer.
    steps.extend([Step::RemoveInts(1), Step::Int(4)]);
    Plan {
        generation: packet.generation(),
        room: SIZE_MAX,
        limit: SIZE_MAX,
        name: packet.name().to_vec(),
        command: packet.command(),
        version: packet.version().unwrap_or(0),
        steps,
    }
}

/// What `run` gives the target.
const PAYLOAD_LEN_MAX: usize = 4096 - 4;

/// Two of each kind of branch, and every case.
const VARIANTS: i32 = 6;

/// Packets in a burst.
const BURST: usize = 40;

#[cfg(test)]
mod tests {
    use arbitrary::Unstructured;

    use super::*;

    #[test]
    fn every_layout_takes_what_was_made_for_it() {
        let mut names = BTreeSet::new();
        for (name, generation, bytes) in made_up() {
            let packet = Packet::parse(generation, &bytes).unwrap();
            let message = schema::identify(&packet).unwrap_or_else(|e| panic!("{name}: {e}"));
            names.insert((packet.name().to_vec(), message.name));
        }
        assert!(names.len() > 60, "{}", names.len());
    }

    #[test]
    fn every_seed_keeps_the_promises() {
        let mut seen = BTreeSet::new();
        for Seed {
            target,
            name,
            bytes,
        } in all()
        {
            match target {
                "datagram" => super::super::datagram(&bytes),
                "stream" => super::super::stream(&bytes),
                "payload" => super::super::payload(&bytes),
                "builder" => super::super::build(&bytes),
                "capture" => super::super::capture(&bytes),
                "receiver" => super::super::receiver(&bytes),
                "journal" => journal(&bytes),
                "store" => super::super::store(&bytes),
                "event" => event(&bytes),
                _ => panic!("{target} is no target"),
            }
            assert!(seen.insert((target, name)));
        }
    }

    #[test]
    fn a_payload_seed_chooses_its_packet_again() {
        for (name, generation, bytes) in captured() {
            let packet = Packet::parse(generation, &bytes).unwrap();
            let seed = payload(&packet).unwrap();
            let (choice, body) = seed.split_first_chunk().unwrap();
            let choice = Choice::new(*choice);
            assert_eq!(choice.generation, generation, "{name}");
            assert_eq!(choice.name.as_bytes(), packet.name());
            assert_eq!(choice.message.command, packet.command());
            assert_eq!(body, packet.body());
        }
    }

    #[test]
    fn a_plan_reads_as_it_was_written() {
        let short = packet(
            Generation::Modern,
            "ul",
            schema::find(binrush_wire::Release::V2_3, b"ul", 1).unwrap(),
            b"\x01\0x\0\0",
        );
        let mut plan = plan(&Packet::parse(Generation::Modern, &short).unwrap());
        plan.steps.extend([
            Step::LongStr(SIZE_MAX),
            Step::Append(vec![1; 255]),
            Step::Chunk(vec![]),
            Step::Trailer(Trailer {
                bridged_from: Some(5),
                ..Trailer::new(6, 7, Trailer::BRIDGE)
            }),
            Step::Retype(-1),
            Step::SetVersion(-2),
            Step::Clear,
            Step::Seal,
        ]);
        let bytes = plan.write();
        assert_eq!(Plan::read(&mut Unstructured::new(&bytes)), Ok(plan));
    }
}
