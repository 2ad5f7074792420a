//! The bodies of the fuzz targets. Each takes arbitrary bytes and panics when a promise is broken.

use arbitrary::{Arbitrary, Unstructured};
use binrush_wire::crc32::checksum;
use binrush_wire::schema::{self, Message, Value};
use binrush_wire::{
    Builder, Fields, Generation, Head, MAX_PACKET_LEN, Packet, Trailer, frame_len, next_marker,
};

/// A 1.x datagram: as it comes, and with marker and checksum put right, so that the fields are reached.
pub fn datagram(data: &[u8]) {
    if let Ok(packet) = Packet::parse(Generation::Legacy, data) {
        check_packet(&packet);
    }
    if data.len() >= 8 {
        let mut sealed = data.to_vec();
        sealed[..4].copy_from_slice(b"P4CK");
        let crc = checksum(&sealed[8..]);
        sealed[4..8].copy_from_slice(&crc.to_le_bytes());
        if let Ok(packet) = Packet::parse(Generation::Legacy, &sealed) {
            check_packet(&packet);
        }
    }
}

/// A stream, cut at arbitrary places: the frames must not depend on the cuts.
pub fn stream(data: &[u8]) {
    let Some((&[generation, cut_len], data)) = data.split_first_chunk() else {
        return;
    };
    let generation = if generation & 1 == 0 {
        Generation::Modern
    } else {
        Generation::Transitional
    };
    let cuts = &data[..usize::from(cut_len).min(data.len())];
    let whole = frames_in_pieces(generation, data, &[]);
    // A 2.2 sender's uncounted empty string belongs to its frame only when both come in one read.
    if generation == Generation::Modern {
        assert_eq!(whole, frames_in_pieces(generation, data, cuts));
    } else {
        frames_in_pieces(generation, data, cuts);
    }
    for (start, end) in whole {
        if let Ok(packet) = Packet::parse(generation, &data[start..end]) {
            check_packet(&packet);
        }
    }
}

/// A payload under a known name: whatever decodes is written back to the same bytes.
pub fn payload(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok((generation, capability, message, version)) = choose(&mut input) else {
        return;
    };
    let body = input.take_rest();
    let mut buffer = vec![0; MAX_PACKET_LEN];
    let name = capability.name.as_bytes();
    let Ok(mut builder) = Builder::new(generation, &mut buffer, name, message.command, version)
    else {
        return;
    };
    if builder.append(body).is_err() {
        return;
    }
    let bytes = builder.seal();
    if let Ok(packet) = Packet::parse(generation, bytes) {
        check_packet(&packet);
    }
}

/// Writing by arbitrary steps against a model, then reading it back.
pub fn build(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(plan) = Plan::arbitrary(&mut input) else {
        return;
    };
    plan.run();
}

/// Everything that must hold for a packet that was parsed, whatever its fields are.
fn check_packet(packet: &Packet<'_>) {
    check_pops(packet.fields());
    let key = schema::key(packet);
    let Ok(message) = schema::identify(packet) else {
        return;
    };
    let body_at = packet.bytes().len() - packet.body().len();
    let mut end = body_at;
    let mut buffer = vec![0; MAX_PACKET_LEN + 4];
    let (name, version) = (packet.name(), packet.version().unwrap_or(0));
    let mut builder = Builder::new(
        packet.generation(),
        &mut buffer,
        name,
        packet.command(),
        version,
    )
    .expect("it was read from a packet");
    let trailer = message
        .walk(packet, |field| {
            assert_eq!(field.at, end, "fields follow each other");
            assert!(field.end > field.at, "a field takes at least one byte");
            end = field.end;
            match field.value {
                Value::Str(bytes) | Value::Object(_, bytes) => builder.push_str(bytes),
                Value::Int(int) => builder.push_int(int),
                Value::Raw(bytes) => builder.append(bytes),
            }
            .expect("it was read from a packet");
        })
        .expect("identify walked it");
    if let Some(trailer) = trailer {
        builder
            .push_trailer(trailer)
            .expect("it was read from a packet");
    }
    let rebuilt = builder.seal();
    assert_eq!(&rebuilt[body_at..], packet.body(), "{}", message.name);
    if packet.generation() != Generation::Transitional {
        assert_eq!(rebuilt, packet.bytes());
    }
    // The key is the newest layout's; an older layout of the same name has it at the same place.
    if let (Some(_), Ok(key)) = (message.key, key) {
        assert_eq!(message.key(packet), Ok(key));
    }
}

/// A pop moves forward and stays inside, or fails and stays put.
fn check_pops(mut fields: Fields<'_>) {
    let end = fields.offset() + fields.rest().len();
    let mut back = fields.clone();
    while back.pop_int_back().is_ok() {
        assert!(back.rest().len() < fields.rest().len());
    }
    let mut step = 0;
    loop {
        let before = fields.offset();
        let ok = match step % 3 {
            0 => fields.pop_str().is_ok(),
            1 => fields.pop_int().is_ok(),
            _ => fields.clone().pop_object::<8>().is_ok() && fields.skip_str(1).is_ok(),
        };
        if ok {
            assert!(fields.offset() > before);
        } else {
            assert_eq!(fields.offset(), before);
        }
        assert_eq!(fields.offset() + fields.rest().len(), end);
        step = if ok { 0 } else { step + 1 };
        if step == 3 {
            return;
        }
    }
}

/// Start and end of each frame when `data` arrives in pieces of the given sizes (then all at once).
fn frames_in_pieces(generation: Generation, data: &[u8], pieces: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = vec![];
    let (mut start, mut have) = (0, 0);
    let mut pieces = pieces
        .iter()
        .map(|&piece| usize::from(piece).max(1))
        .chain([data.len()]);
    while let Some(piece) = pieces.next() {
        have = data.len().min(have + piece);
        while start < have {
            match frame_len(generation, &data[start..have], MAX_PACKET_LEN) {
                Head::NeedMore { missing } => {
                    assert!(missing > 0);
                    break;
                }
                Head::Complete { len } => {
                    assert!(len >= generation.min_packet_len() && len <= have - start);
                    frames.push((start, start + len));
                    start += len;
                }
                Head::Broken(_) => {
                    let skip = next_marker(&data[start..have]);
                    assert!(skip > 0 && skip <= have - start);
                    start += skip;
                }
            }
        }
    }
    frames
}

type Choice = (
    Generation,
    &'static schema::Capability,
    &'static Message,
    i16,
);

fn choose(input: &mut Unstructured<'_>) -> arbitrary::Result<Choice> {
    let capability = *input.choose(schema::CAPABILITIES)?;
    let message = input.choose(capability.messages)?;
    let generation = *input.choose(&[
        Generation::Legacy,
        Generation::Transitional,
        Generation::Modern,
        Generation::Modern,
    ])?;
    let (low, high) = message.versions.unwrap_or((0, 5));
    Ok((
        generation,
        capability,
        message,
        input.int_in_range(low..=high)?,
    ))
}

/// A packet to build: where, and by which steps.
#[derive(Debug)]
struct Plan {
    generation: Generation,
    room: usize,
    name: Vec<u8>,
    command: i32,
    version: i16,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Str(Vec<u8>),
    LongStr(u32),
    Int(i32),
    Append(Vec<u8>),
    Chunk(Vec<u8>),
    Trailer(i32, i32, i32),
    RemoveInts(u8),
    Retype(i32),
    Version(i16),
    Clear,
}

impl Plan {
    fn arbitrary(input: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let generation = *input.choose(&[
            Generation::Legacy,
            Generation::Transitional,
            Generation::Modern,
        ])?;
        let mut plan = Self {
            generation,
            room: input.int_in_range(0..=70_000)?,
            name: Vec::arbitrary(input)?,
            command: i32::arbitrary(input)?,
            version: i16::arbitrary(input)?,
            steps: vec![],
        };
        while !input.is_empty() && plan.steps.len() < 64 {
            plan.steps.push(match input.int_in_range(0..=9)? {
                0 => Step::Str(Vec::arbitrary(input)?),
                1 => Step::LongStr(input.int_in_range(0..=70_000)?),
                2 => Step::Int(i32::arbitrary(input)?),
                3 => Step::Append(Vec::arbitrary(input)?),
                4 => Step::Chunk(Vec::arbitrary(input)?),
                5 => Step::Trailer(1, i32::arbitrary(input)?, i32::arbitrary(input)?),
                6 => Step::RemoveInts(u8::arbitrary(input)?),
                7 => Step::Retype(i32::arbitrary(input)?),
                8 => Step::Version(i16::arbitrary(input)?),
                _ => Step::Clear,
            });
        }
        Ok(plan)
    }

    /// The model is the body alone, as a vector; a refused step must not change it.
    fn run(self) {
        let width = self.generation.length_width();
        let mut buffer = vec![0xEE; self.room];
        let limit = self.room.min(self.generation.max_packet_len());
        let head_len = self.generation.header_len() + width + self.name.len() + 4;
        let built = Builder::new(
            self.generation,
            &mut buffer,
            &self.name,
            self.command,
            self.version,
        );
        assert_eq!(
            built.is_ok(),
            head_len <= limit,
            "the header fits or it does not"
        );
        let Ok(mut builder) = built else { return };
        let (mut body, mut command, mut version) = (vec![], self.command, self.version);
        for step in &self.steps {
            let mut longer = body.clone();
            let done = match step {
                Step::Str(value) => {
                    longer.extend(length(width, value.len()));
                    longer.extend(value);
                    builder.push_str(value)
                }
                Step::LongStr(len) => {
                    let value = vec![b'x'; *len as usize];
                    longer.extend(length(width, value.len()));
                    longer.extend(&value);
                    builder.push_str(&value)
                }
                Step::Int(int) => {
                    longer.extend(int.to_le_bytes());
                    builder.push_int(*int)
                }
                Step::Append(bytes) => {
                    longer.extend(bytes);
                    builder.append(bytes)
                }
                Step::Chunk(data) => {
                    longer.extend(length(4, data.len()));
                    longer.extend(0x0605_4AB5_u32.to_le_bytes());
                    longer.extend(data);
                    builder.push_chunk(data)
                }
                Step::Trailer(cluster, source, dest) => {
                    longer.extend(
                        [cluster, source, dest]
                            .iter()
                            .flat_map(|id| id.to_le_bytes()),
                    );
                    builder.push_trailer(Trailer::new(*cluster, *source, *dest))
                }
                Step::RemoveInts(count) => {
                    longer.truncate(longer.len().saturating_sub(usize::from(*count) * 4));
                    builder.remove_int_back(usize::from(*count))
                }
                Step::Retype(new) => {
                    command = *new;
                    builder.retype(*new);
                    Ok(())
                }
                Step::Version(new) => {
                    version = *new;
                    builder.set_version(*new);
                    Ok(())
                }
                Step::Clear => {
                    longer.clear();
                    builder.clear_fields();
                    Ok(())
                }
            };
            match done {
                Ok(()) => body = longer,
                Err(error) => assert!(
                    head_len + longer.len() > limit
                        || matches!(step, Step::Chunk(data) if data.is_empty())
                        || matches!(step, Step::RemoveInts(n) if usize::from(*n) * 4 > body.len())
                        || error.kind == binrush_wire::ErrorKind::StringTooLong,
                    "refused without need: {step:?} {error}"
                ),
            }
            assert_eq!(builder.len(), head_len + body.len());
        }
        let bytes = builder.seal();
        let Ok(packet) = Packet::parse(self.generation, bytes) else {
            assert!(
                bytes.len() < self.generation.min_packet_len(),
                "only too short a packet"
            );
            return;
        };
        assert_eq!((packet.name(), packet.command()), (&self.name[..], command));
        assert!(packet.version().is_none_or(|read| read == version));
        assert_eq!(packet.body(), body);
    }
}

fn length(width: usize, len: usize) -> impl Iterator<Item = u8> {
    len.to_le_bytes().into_iter().take(width)
}
