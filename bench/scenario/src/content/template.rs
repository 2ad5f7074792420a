//! Packets of which only numbers and one length change.
//!
//! ```text
//!   bytes   | header | name command | field .. | len | text |               | field .. field | trailer |
//!                                                ^           ^ pad_at
//!   draft   | ...                              | len'| text | xxxxxxxxxxxx  | ...            | ...     |
//!                                                            '--- pad ---'
//! ```
//!
//! A template is built once along the layout that the wire's schema has for a release, so it is genuine by
//! construction. After that a packet costs two copies, the padding between them, and what is patched.

use std::ops::Range;

use binrush_probe::Stamp;
use binrush_wire::schema::{self, Item};
use binrush_wire::{
    Builder, ErrorKind, Generation, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0, Packet, Release, Trailer,
    WireError, crc32,
};

use crate::scenario::Form;

/// What all packets of a load have in common. Of a scenario that was checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    /// Whose layouts.
    pub(super) release: Release,
    trailer: Option<Trailer>,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// Of a string.
    Text(&'a str),
    /// Of an int or of a C object, of which it is the low bytes.
    Number(i64),
}

/// What goes into the fields, by name. One that is not named is empty or 0; a name that a layout does not have is not
/// needed in that release.
pub(super) type Wording<'a> = [(&'static str, Value<'a>)];

/// A packet to be copied and patched.
#[derive(Debug, Clone)]
pub(super) struct Template {
    bytes: Box<[u8]>,
    generation: Generation,
    max_len: usize,
    /// The bytes of each field's value, without the length of a string.
    fields: Box<[(&'static str, Range<usize>)]>,
    /// Where padding goes: behind the text of the field that takes it.
    pad_at: usize,
    pad_text_at: usize,
}

/// A place in a template, found once by the name of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot(usize);

/// A packet in the making, in the buffer of the sender.
#[derive(Debug)]
pub(super) struct Draft<'o> {
    packet: &'o mut [u8],
    generation: Generation,
    pad_at: usize,
    pad: usize,
}

impl Dialect {
    /// How packets of `form` are made.
    pub(super) const fn of(form: Form) -> Self {
        match form {
            Form::Datagrams => Self {
                release: Release::V1x,
                trailer: None,
            },
            Form::Frames {
                release,
                cluster,
                source,
                destination,
            } => Self {
                release,
                trailer: Some(Trailer::new(cluster, source, destination)),
            },
        }
    }

    /// The largest packet that a receiver takes, in bytes.
    fn max_len(self) -> usize {
        match self.release {
            Release::V4_0 => MAX_PACKET_LEN_4_0,
            release => release.generation().max_packet_len(),
        }
    }

    fn builder<'b>(
        self,
        buffer: &'b mut [u8],
        name: &str,
        command: i32,
        version: i16,
    ) -> Result<Builder<'b>, WireError> {
        let (generation, limit) = (self.release.generation(), self.max_len());
        Builder::with_limit(generation, buffer, name.as_bytes(), command, version, limit)
    }

    /// The packet, with its trailer if it has one.
    fn close(self, mut builder: Builder<'_>) -> Result<&mut [u8], WireError> {
        if let Some(trailer) = self.trailer {
            builder.push_trailer(trailer)?;
        }
        Ok(builder.finish())
    }
}

impl Template {
    /// The message that `command` of `name` is in the dialect's release, worded so; `padded` is the string that takes
    /// padding.
    ///
    /// # Panics
    /// When the release has no such message, it has no such string, or `version` is not one of the layout's: the tests
    /// go through all of them.
    pub(super) fn new(
        dialect: Dialect,
        (name, command, version): (&str, i32, i16),
        wording: &Wording<'_>,
        padded: &str,
    ) -> Self {
        let message = schema::find(dialect.release, name.as_bytes(), command)
            .expect("every release has the messages that scenarios send");
        assert!(message.takes(version), "{name} {command} version {version}");
        let mut buffer = vec![0; MAX_PACKET_LEN];
        let bytes = dialect
            .builder(&mut buffer, name, command, version)
            .and_then(|mut builder| {
                push(&mut builder, message.layout, wording, &mut 0)?;
                dialect.close(builder)
            })
            .expect("our own wording is short");
        let generation = dialect.release.generation();
        let mut fields = Vec::new();
        let packet = Packet::parse(generation, bytes).expect("it was just built");
        message
            .walk(&packet, |field| {
                let width = match field.value {
                    schema::Value::Int(_) | schema::Value::Raw(_) => 0,
                    schema::Value::Str(_) | schema::Value::Object(..) => generation.length_width(),
                };
                fields.push((field.name, field.at + width..field.end));
            })
            .expect("it was built along this layout");
        Self::with_fields(dialect, bytes, fields, padded)
    }

    /// A packet that no schema knows: `name`, command and version 1, one string `text` that takes padding.
    pub(super) fn unknown(dialect: Dialect, name: &str, text: &str) -> Self {
        let mut buffer = vec![0; MAX_PACKET_LEN];
        let mut end = 0;
        let bytes = dialect
            .builder(&mut buffer, name, 1, 1)
            .and_then(|mut builder| {
                builder.push_str(text.as_bytes())?;
                end = builder.len();
                dialect.close(builder)
            })
            .expect("a scenario's names are short");
        let fields = vec![(TEXT, end - text.len()..end)];
        Self::with_fields(dialect, bytes, fields, TEXT)
    }

    fn with_fields(
        dialect: Dialect,
        bytes: &[u8],
        fields: Vec<(&'static str, Range<usize>)>,
        padded: &str,
    ) -> Self {
        let mut template = Self {
            bytes: bytes.into(),
            generation: dialect.release.generation(),
            max_len: dialect.max_len(),
            fields: fields.into(),
            pad_at: 0,
            pad_text_at: 0,
        };
        let text = template.find(padded).expect("the layout has that string");
        (template.pad_text_at, template.pad_at) = (text.start, text.end);
        template
    }

    /// Bytes without padding: no packet of this template is shorter.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How much padding makes it `len` bytes long: none when it is longer, and never more than a receiver takes.
    #[inline]
    pub(super) fn pad_to(&self, len: usize) -> usize {
        len.min(self.max_len).saturating_sub(self.bytes.len())
    }

    /// `offset` bytes into the value of `field`; `None` where the release has no such field.
    pub(super) fn spot(&self, field: &str, offset: usize) -> Option<Spot> {
        self.find(field).map(|range| Spot(range.start + offset))
    }

    fn find(&self, field: &str) -> Option<Range<usize>> {
        let found = self.fields.iter().find(|(name, _)| *name == field);
        found.map(|(_, range)| range.clone())
    }

    /// A copy at the beginning of `out`, with `pad` bytes of padding.
    ///
    /// # Errors
    /// [`ErrorKind::DoesNotFit`]: `out` is shorter than the packet.
    #[inline]
    pub(super) fn draft<'o>(&self, out: &'o mut [u8], pad: usize) -> Result<Draft<'o>, WireError> {
        let (len, have) = (self.bytes.len() + pad, out.len());
        let Some(packet) = out.get_mut(..len) else {
            return Err(WireError::new(ErrorKind::DoesNotFit, 0, len, have));
        };
        let (head, rest) = packet.split_at_mut(self.pad_at);
        let (padding, tail) = rest.split_at_mut(pad);
        head.copy_from_slice(&self.bytes[..self.pad_at]);
        padding.fill(PADDING);
        tail.copy_from_slice(&self.bytes[self.pad_at..]);
        let mut draft = Draft {
            packet,
            generation: self.generation,
            pad_at: self.pad_at,
            pad,
        };
        draft.lengthen(self.pad_text_at, self.pad_at + pad);
        Ok(draft)
    }
}

impl Draft<'_> {
    /// The lengths that padding changes: of the packet and of the string from `start` to `end`.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the packet is at most 65 535 bytes long, or `pad_to` was not asked"
    )]
    fn lengthen(&mut self, start: usize, end: usize) {
        let len = end - start;
        match self.generation {
            Generation::Modern => {
                let whole = self.packet.len() as u32;
                self.packet[4..8].copy_from_slice(&whole.to_le_bytes());
                self.packet[start - 2..start].copy_from_slice(&(len as u16).to_le_bytes());
            }
            Generation::Legacy | Generation::Transitional => {
                self.packet[start - 4..start].copy_from_slice(&(len as u32).to_le_bytes());
            }
        }
    }

    /// Writes `value` over what the template has at `spot`.
    #[inline]
    pub(super) fn put<const N: usize>(&mut self, spot: Spot, value: &[u8; N]) {
        let at = self.at(spot);
        self.packet[at..at + N].copy_from_slice(value);
    }

    /// The bytes at `spot`.
    #[inline]
    pub(super) fn text<const N: usize>(&self, spot: Spot) -> [u8; N] {
        let at = self.at(spot);
        let mut text = [0; N];
        text.copy_from_slice(&self.packet[at..at + N]);
        text
    }

    /// Writes `stamp` at `spot` and the checksum of 1.x; the packet is final then.
    #[inline]
    pub(super) fn seal(&mut self, spot: Spot, stamp: &Stamp) {
        self.stamp(spot, stamp);
        self.finish();
    }

    /// Writes `stamp` at `spot`. All else but the checksum of 1.x is final.
    #[inline]
    pub(super) fn stamp(&mut self, spot: Spot, stamp: &Stamp) {
        let at = self.at(spot);
        binrush_probe::seal(self.packet, at, stamp);
    }

    /// Writes the checksum of 1.x; the packet is final then.
    #[inline]
    pub(super) fn finish(&mut self) {
        if self.generation == Generation::Legacy {
            let crc = crc32::checksum(&self.packet[8..]);
            self.packet[4..8].copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Bytes of the packet.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.packet.len()
    }

    /// Where a place of the template is in this packet.
    #[inline]
    fn at(&self, Spot(at): Spot) -> usize {
        // Nothing is ever patched in the middle of the padding: a spot before its end is in the text before it.
        if at < self.pad_at { at } else { at + self.pad }
    }
}

/// Appends fields along a layout, in its shortest form: what is there only under a condition is left out.
fn push(
    builder: &mut Builder<'_>,
    items: &[Item],
    wording: &Wording<'_>,
    last_int: &mut i32,
) -> Result<(), WireError> {
    let value = |name| {
        let found = wording.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| *value)
    };
    let text = |name| match value(name) {
        Some(Value::Text(text)) => text,
        Some(Value::Number(_)) | None => "",
    };
    let number = |name| match value(name) {
        Some(Value::Number(number)) => number,
        Some(Value::Text(_)) | None => 0,
    };
    for item in items {
        match *item {
            Item::Str(name) => builder.push_str(text(name).as_bytes())?,
            Item::Int(name) => {
                *last_int = i32::try_from(number(name)).expect("our own numbers are ints");
                builder.push_int(*last_int)?;
            }
            Item::Object(name, object) => {
                let mut bytes = [0; 24];
                bytes[..8].copy_from_slice(&number(name).to_le_bytes());
                builder.push_str(&bytes[..object.size()])?;
            }
            Item::Include(items) => push(builder, items, wording, last_int)?,
            Item::Case(cases) => {
                if let Some((_, items)) = cases.iter().find(|(case, _)| case == last_int) {
                    push(builder, items, wording, last_int)?;
                }
            }
            Item::Counted { .. } | Item::IfNonZero(..) => builder.push_int(0)?,
            Item::IfNotEmpty(..) => builder.push_str(b"")?,
            Item::ToEnd(..) | Item::IfMore(_) | Item::Chunks(_) | Item::Rest(_) => {}
        }
    }
    Ok(())
}

/// The low `N` hexadecimal digits of `number`, at most 16.
#[inline]
pub(super) fn hex<const N: usize>(number: u64) -> [u8; N] {
    let high = nibbles((number >> 32) as u32);
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let low = nibbles(number as u32);
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&high);
    digits[8..].copy_from_slice(&low);
    let mut wanted = [0; N];
    wanted.copy_from_slice(&digits[16 - N..]);
    wanted
}

/// One of `choices`, always the same for a `number`.
#[inline]
pub(super) fn one_of<T>(choices: &[T], number: u64) -> &T {
    let index = usize::try_from(number % choices.len() as u64);
    &choices[index.unwrap_or(0)]
}

/// Eight hexadecimal digits at once: the nibbles are spread over the bytes of a word, then made characters.
#[inline]
fn nibbles(number: u32) -> [u8; 8] {
    let mut spread = u64::from(number);
    spread = (spread | spread << 16) & 0x0000_FFFF_0000_FFFF;
    spread = (spread | spread << 8) & 0x00FF_00FF_00FF_00FF;
    spread = (spread | spread << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    // 1 in each byte whose nibble is a letter: those are 39 further on than the digits go.
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (spread + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

/// Legal wherever padding goes: in a Call-ID, a tag, an attribute.
const PADDING: u8 = b'x';

/// The only field of a packet that no schema knows.
pub(super) const TEXT: &str = "text";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_those_of_the_standard_library() {
        for number in [
            0,
            9,
            10,
            15,
            16,
            0xDEAD_BEEF,
            0x1234_5678_9ABC_DEF0,
            u64::MAX,
        ] {
            assert_eq!(hex::<16>(number), format!("{number:016x}").as_bytes());
            assert_eq!(
                hex::<6>(number),
                format!("{:06x}", number & 0xFF_FFFF).as_bytes()
            );
        }
    }

    #[test]
    fn padding_moves_what_is_behind_it_and_nothing_else() {
        for (form, release) in [
            (Form::Datagrams, Release::V1x),
            (
                Form::Frames {
                    release: Release::V3_6,
                    cluster: 1,
                    source: 2,
                    destination: 3,
                },
                Release::V3_6,
            ),
        ] {
            let dialect = Dialect::of(form);
            let wording = [
                ("callid", Value::Text("c")),
                ("caller_tag", Value::Text("from")),
                ("callee_tag", Value::Text("to")),
            ];
            let (name, version) = match release {
                Release::V1x => ("dialog", 1),
                _ => ("dialog-dlg-repl", 4),
            };
            let template = Template::new(dialect, (name, 3, version), &wording, "caller_tag");
            let behind = template.spot("callee_tag", 0).unwrap();
            let mut out = [0; 256];
            for pad in [0, 1, 57] {
                let mut draft = template.draft(&mut out, pad).unwrap();
                draft.put(behind, b"TO");
                let packet = &*draft.packet;
                let mut values = vec![];
                let bytes = match release.generation() {
                    Generation::Legacy => {
                        let mut bytes = packet.to_vec();
                        let crc = crc32::checksum(&bytes[8..]);
                        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
                        bytes
                    }
                    _ => packet.to_vec(),
                };
                let packet = Packet::parse(release.generation(), &bytes).unwrap();
                let message = schema::identify_from(release, &packet).unwrap();
                message
                    .walk(&packet, |field| {
                        if let schema::Value::Str(text) = field.value {
                            values.push(String::from_utf8_lossy(text).into_owned());
                        }
                    })
                    .unwrap();
                assert_eq!(values, ["c", &format!("from{}", "x".repeat(pad)), "TO"]);
                assert_eq!(bytes.len(), template.len() + pad);
            }
        }
    }

    #[test]
    fn a_buffer_that_is_too_short_is_an_error() {
        let dialect = Dialect::of(Form::Datagrams);
        let template = Template::unknown(dialect, "nobody", "text");
        let need = template.len();
        let error = template.draft(&mut vec![0; need - 1], 0).unwrap_err();
        assert_eq!(
            error,
            WireError::new(ErrorKind::DoesNotFit, 0, need, need - 1)
        );
    }

    #[test]
    fn padding_ends_where_a_receiver_does() {
        for (release, max) in [(Release::V3_6, 65_535), (Release::V4_0, 65_515)] {
            let dialect = Dialect::of(Form::Frames {
                release,
                cluster: 1,
                source: 2,
                destination: 3,
            });
            let template = Template::unknown(dialect, "nobody", "text");
            assert_eq!(template.len() + template.pad_to(usize::MAX), max);
        }
    }
}
