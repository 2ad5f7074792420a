//! Writing a packet by arbitrary steps, next to a model that is only a vector of bytes.
//!
//! ```text
//! plan  | generation: u8 | room: u32 | limit: u32 | name: bytes | command: i32 | version: i16 | steps ...
//! step  | what: u8 | its arguments |            bytes  | length: u8 | ... |
//! ```
//!
//! Little-endian; an input that ends early is read on as zeros.

use std::ops::Range;

use arbitrary::{Result, Unstructured};
use binrush_wire::chunk::pop_chunk;
use binrush_wire::{Builder, Fields, Generation, Packet, Trailer, WireError};

use super::{GENERATIONS, check, pick};

/// A packet to build: where, and by which steps.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) generation: Generation,
    /// Bytes of the buffer.
    pub(super) room: usize,
    /// The largest packet asked for.
    pub(super) limit: usize,
    pub(super) name: Vec<u8>,
    pub(super) command: i32,
    pub(super) version: i16,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Str(Vec<u8>),
    /// A string of that many `x`: what does not fit is long.
    LongStr(usize),
    Int(i32),
    Append(Vec<u8>),
    Chunk(Vec<u8>),
    Trailer(Trailer),
    RemoveInts(u8),
    Retype(i32),
    SetVersion(i16),
    Clear,
    Seal,
}

impl Plan {
    pub(super) fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let mut plan = Self {
            generation: *pick(&GENERATIONS, input.arbitrary()?),
            room: read_size(input)?,
            limit: read_size(input)?,
            name: read_bytes(input)?,
            command: input.arbitrary()?,
            version: input.arbitrary()?,
            steps: vec![],
        };
        while !input.is_empty() && plan.steps.len() < STEPS_MAX {
            plan.steps.push(Step::read(input)?);
        }
        Ok(plan)
    }

    /// The input that [`read`](Self::read)s as this plan.
    pub(super) fn write(&self) -> Vec<u8> {
        let generation = GENERATIONS
            .iter()
            .position(|&generation| generation == self.generation);
        let mut out = vec![small(generation.expect("it is one of them"))];
        write_size(&mut out, self.room);
        write_size(&mut out, self.limit);
        write_bytes(&mut out, &self.name);
        out.extend(self.command.to_le_bytes());
        out.extend(self.version.to_le_bytes());
        self.steps.iter().for_each(|step| step.write(&mut out));
        out
    }

    pub(super) fn run(&self) {
        let mut buffer = vec![UNTOUCHED; self.room];
        let limit = self
            .limit
            .min(self.room)
            .min(self.generation.max_packet_len());
        let builder = Builder::with_limit(
            self.generation,
            &mut buffer,
            &self.name,
            self.command,
            self.version,
            self.limit,
        );
        let head_len = self.generation.header_len() + self.width() + self.name.len() + 4;
        assert_eq!(builder.is_ok(), head_len <= limit, "{builder:?}");
        match builder {
            Ok(builder) => self.follow(builder, head_len, limit),
            Err(error) => check::error(&error, limit),
        }
        let mut beyond = buffer[limit..].iter().take(64);
        assert!(
            beyond.all(|&byte| byte == UNTOUCHED),
            "written past the limit"
        );
    }

    /// Does what fits and is refused what does not; a refused step changes nothing.
    fn follow(&self, mut builder: Builder<'_>, head_len: usize, limit: usize) {
        let mut model = Model {
            plan: self,
            body: vec![],
            fields: vec![],
            command: self.command,
            version: self.version,
        };
        for step in &self.steps {
            let bytes = step.bytes(self.width());
            let fits = head_len + model.body.len() + bytes.len() <= limit;
            let valid = match step {
                Step::Chunk(data) => !data.is_empty(),
                Step::RemoveInts(count) => usize::from(*count) * 4 <= model.body.len(),
                _ => true,
            };
            let done = step.take(&mut builder);
            assert_eq!(done.is_ok(), fits && valid, "{step:?} {done:?}");
            match done {
                Ok(()) => model.take(step, &bytes),
                Err(error) => check::error(&error, limit),
            }
            assert_eq!(builder.len(), head_len + model.body.len());
            assert_eq!(builder.remaining(), limit - builder.len());
            if *step == Step::Seal {
                model.check(builder.seal());
            }
        }
        let packet = builder.finish();
        model.check(packet);
        let _ = check::frame(self.generation, packet);
    }

    fn width(&self) -> usize {
        self.generation.length_width()
    }
}

impl Step {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.arbitrary::<u8>()? % 12 {
            0 => Self::Str(read_bytes(input)?),
            1 => Self::LongStr(read_size(input)?),
            2 => Self::Int(input.arbitrary()?),
            3 => Self::Append(read_bytes(input)?),
            4 => Self::Chunk(read_bytes(input)?),
            5 => Self::Trailer(Trailer::new(
                input.arbitrary()?,
                input.arbitrary()?,
                input.arbitrary()?,
            )),
            6 => Self::Trailer(Trailer {
                bridged_from: Some(input.arbitrary()?),
                ..Trailer::new(input.arbitrary()?, input.arbitrary()?, Trailer::BRIDGE)
            }),
            7 => Self::RemoveInts(input.arbitrary()?),
            8 => Self::Retype(input.arbitrary()?),
            9 => Self::SetVersion(input.arbitrary()?),
            10 => Self::Clear,
            _ => Self::Seal,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.push(0);
        out[at] = match self {
            Self::Str(bytes) | Self::Append(bytes) | Self::Chunk(bytes) => {
                write_bytes(out, bytes);
                match self {
                    Self::Str(_) => 0,
                    Self::Append(_) => 3,
                    _ => 4,
                }
            }
            Self::LongStr(len) => {
                write_size(out, *len);
                1
            }
            Self::Int(int) | Self::Retype(int) => {
                out.extend(int.to_le_bytes());
                if matches!(self, Self::Int(_)) { 2 } else { 8 }
            }
            Self::Trailer(trailer) => {
                let ints = trailer.ints().flat_map(i32::to_le_bytes);
                match trailer.bridged_from {
                    None => {
                        out.extend(ints);
                        5
                    }
                    Some(_) => {
                        out.extend(ints.take(12));
                        6
                    }
                }
            }
            Self::RemoveInts(count) => {
                out.push(*count);
                7
            }
            Self::SetVersion(version) => {
                out.extend(version.to_le_bytes());
                9
            }
            Self::Clear => 10,
            Self::Seal => 11,
        };
    }

    fn take(&self, builder: &mut Builder<'_>) -> std::result::Result<(), WireError> {
        match self {
            Self::Str(value) => builder.push_str(value),
            Self::LongStr(len) => builder.push_str(&vec![b'x'; *len]),
            Self::Int(int) => builder.push_int(*int),
            Self::Append(bytes) => builder.append(bytes),
            Self::Chunk(data) => builder.push_chunk(data),
            Self::Trailer(trailer) => builder.push_trailer(*trailer),
            Self::RemoveInts(count) => builder.remove_int_back(usize::from(*count)),
            Self::Retype(command) => {
                builder.retype(*command);
                Ok(())
            }
            Self::SetVersion(version) => {
                builder.set_version(*version);
                Ok(())
            }
            Self::Clear => {
                builder.clear_fields();
                Ok(())
            }
            Self::Seal => Ok(()),
        }
    }

    /// What the step writes, spelled out byte by byte.
    fn bytes(&self, width: usize) -> Vec<u8> {
        let string = |value: &[u8]| [&value.len().to_le_bytes()[..width], value].concat();
        match self {
            Self::Str(value) => string(value),
            Self::LongStr(len) => string(&vec![b'x'; *len]),
            Self::Int(int) => int.to_le_bytes().to_vec(),
            Self::Append(bytes) => bytes.clone(),
            Self::Chunk(data) => {
                let size = &data.len().to_le_bytes()[..4];
                [size, &0x0605_4AB5_u32.to_le_bytes(), data].concat()
            }
            Self::Trailer(trailer) => trailer.ints().flat_map(i32::to_le_bytes).collect(),
            _ => vec![],
        }
    }

    /// Pops what the step wrote.
    fn read_back(&self, fields: &mut Fields<'_>) {
        match self {
            Self::Str(value) => assert_eq!(fields.pop_str(), Ok(&value[..])),
            Self::LongStr(len) => assert_eq!(fields.pop_str().map(<[u8]>::len), Ok(*len)),
            Self::Int(int) => assert_eq!(fields.pop_int(), Ok(*int)),
            Self::Append(bytes) => assert_eq!(fields.take_bytes(bytes.len()), Ok(&bytes[..])),
            Self::Chunk(data) => {
                assert_eq!(pop_chunk(fields).map(|chunk| chunk.data), Ok(&data[..]));
            }
            Self::Trailer(trailer) => {
                for int in trailer.ints() {
                    assert_eq!(fields.pop_int(), Ok(int));
                }
            }
            _ => unreachable!("it writes nothing"),
        }
    }
}

/// What the builder should hold.
struct Model<'p> {
    plan: &'p Plan,
    body: Vec<u8>,
    /// Where the fields lie in `body` that are still whole, and the steps that wrote them.
    fields: Vec<(Range<usize>, &'p Step)>,
    command: i32,
    version: i16,
}

impl<'p> Model<'p> {
    fn take(&mut self, step: &'p Step, bytes: &[u8]) {
        match step {
            Step::RemoveInts(count) => self.cut(self.body.len() - usize::from(*count) * 4),
            Step::Clear => self.cut(0),
            Step::Retype(command) => self.command = *command,
            Step::SetVersion(version) => self.version = *version,
            Step::Seal => {}
            _ => {
                let start = self.body.len();
                self.body.extend(bytes);
                self.fields.push((start..self.body.len(), step));
            }
        }
    }

    fn cut(&mut self, len: usize) {
        self.body.truncate(len);
        self.fields.retain(|(range, _)| range.end <= len);
    }

    fn check(&self, bytes: &[u8]) {
        let Ok(packet) = Packet::parse(self.plan.generation, bytes) else {
            assert!(
                bytes.len() < self.plan.generation.min_packet_len(),
                "a sealed packet is refused only when it is too short for any receiver"
            );
            return;
        };
        assert_eq!(packet.name(), self.plan.name);
        assert_eq!(packet.command(), self.command);
        assert!(packet.version().is_none_or(|read| read == self.version));
        assert_eq!(packet.body(), self.body);
        let mut fields = packet.fields();
        let body_at = fields.offset();
        for (range, step) in &self.fields {
            // Steps over what is left of a field whose end was removed.
            let gap = body_at + range.start - fields.offset();
            fields.take_bytes(gap).expect("it lies in the body");
            step.read_back(&mut fields);
            assert_eq!(fields.offset(), body_at + range.end);
        }
    }
}

fn read_bytes(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = usize::from(input.arbitrary::<u8>()?);
    Ok(input.bytes(len.min(input.len()))?.to_vec())
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(small(bytes.len()));
    out.extend(bytes);
}

fn read_size(input: &mut Unstructured<'_>) -> Result<usize> {
    Ok(input.arbitrary::<u32>()? as usize % (SIZE_MAX + 1))
}

fn write_size(out: &mut Vec<u8>, size: usize) {
    out.extend(u32::try_from(size).expect("a size").to_le_bytes());
}

fn small(number: usize) -> u8 {
    u8::try_from(number).expect("seeds keep to one byte")
}

/// Beyond every limit of the format.
pub(super) const SIZE_MAX: usize = 70_000;

/// Keeps one run short.
pub(super) const STEPS_MAX: usize = 64;

const UNTOUCHED: u8 = 0xEE;
