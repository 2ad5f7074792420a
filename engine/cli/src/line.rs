//! The JSON line of a packet: what `decode --json` writes and `encode` reads.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use binrush_capture::{Frame, Timestamp, Transport};
use binrush_wire::schema::{self, Field, Message, SchemaError, Value};
use binrush_wire::{
    Builder, ErrorKind, Generation, MAX_PACKET_LEN, Packet, Trailer, WireError, crc32,
};
use serde::{Deserialize, Serialize};

/// One packet. Keys are always there, but for `name_hex` and `bytes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line<'a> {
    /// Number of the packet, from 1.
    #[serde(default)]
    pub(crate) n: u64,
    /// Number of the capture record that completed it.
    #[serde(default)]
    pub(crate) record: u64,
    /// RFC 3339, UTC.
    #[serde(default = "epoch")]
    pub(crate) time: String,
    #[serde(default = "one_node")]
    pub(crate) src: SocketAddr,
    #[serde(default = "another_node")]
    pub(crate) dst: SocketAddr,
    /// Says nothing that the generation does not; ignored when read.
    #[serde(default)]
    pub(crate) transport: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) generation: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    /// The name when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name_hex: Option<String>,
    /// Command; null when the packet could not be read that far.
    #[serde(rename = "type")]
    pub(crate) command: Option<i32>,
    #[serde(default)]
    pub(crate) type_name: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) version: Option<i16>,
    #[serde(default)]
    pub(crate) length: usize,
    /// `ok` or `bad`; null where the generation has none.
    #[serde(default)]
    pub(crate) crc: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(crate) fields: Vec<FieldLine<'a>>,
    #[serde(default)]
    pub(crate) trailer: Option<TrailerLine>,
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// The whole packet in hex, when header or checksum is broken and the rest of the line cannot give it
    /// back. When it is there, nothing else is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<String>,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FieldLine<'a> {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(flatten, borrow)]
    pub(crate) value: ValueLine<'a>,
}

/// A value by its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "lowercase")]
pub(crate) enum ValueLine<'a> {
    /// A string that is text.
    Str(#[serde(borrow)] Cow<'a, str>),
    Int(i32),
    /// A string that is not text, or a C object: in hex.
    Bin(String),
    /// Bytes without a length of their own, in hex: what no layout explains.
    Raw(String),
}

/// The ids that clusterer routes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrailerLine {
    /// Only in packets between clusters (4.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) src_cluster: Option<i32>,
    pub(crate) cluster: i32,
    pub(crate) source: i32,
    pub(crate) dest: i32,
}

/// A frame, read as far as it goes.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    /// The header; `None` when it is broken.
    pub(crate) packet: Option<Packet<'a>>,
    /// The layout, or the one that got furthest.
    pub(crate) message: Option<&'static Message>,
    /// What is wrong with header or fields. An unknown name is not an error.
    pub(crate) error: Option<SchemaError>,
    /// Whether the checksum of a 1.x datagram is right.
    pub(crate) crc_ok: Option<bool>,
}

impl<'a> Reading<'a> {
    /// Reads header and layout of `frame`. A datagram with a wrong checksum is read in `scratch` as if it
    /// were right: mostly one field is damaged and the others tell which packet it was.
    pub(crate) fn of(frame: &Frame<'a>, scratch: &'a mut Vec<u8>) -> Self {
        let parsed = Packet::parse(frame.generation, frame.bytes);
        let legacy = frame.generation == Generation::Legacy;
        match parsed {
            Ok(packet) => Self::of_packet(packet, legacy.then_some(true), None),
            Err(error) if error.kind == ErrorKind::Checksum => {
                scratch.clear();
                scratch.extend_from_slice(frame.bytes);
                let crc = crc32::checksum(&scratch[8..]);
                scratch[4..8].copy_from_slice(&crc.to_le_bytes());
                match Packet::parse(frame.generation, scratch) {
                    Ok(packet) => Self::of_packet(packet, Some(false), Some(error.into())),
                    Err(_) => Self::broken(error, Some(false)),
                }
            }
            Err(error) => Self::broken(error, None),
        }
    }

    fn of_packet(packet: Packet<'a>, crc_ok: Option<bool>, error: Option<SchemaError>) -> Self {
        let (message, layout_error) = match schema::best_fit(&packet) {
            Ok((message, error)) => (Some(message), error.map(SchemaError::Field)),
            Err(SchemaError::UnknownName) => (None, None),
            Err(unknown) => (None, Some(unknown)),
        };
        Self {
            packet: Some(packet),
            message,
            error: error.or(layout_error),
            crc_ok,
        }
    }

    fn broken(error: WireError, crc_ok: Option<bool>) -> Self {
        Self {
            packet: None,
            message: None,
            error: Some(error.into()),
            crc_ok,
        }
    }

    pub(crate) fn type_name(&self) -> Option<&'static str> {
        self.message.map(|message| message.name)
    }

    /// Shows every field to `visit`, what no layout explains as one raw value at the end.
    pub(crate) fn fields(&self, mut visit: impl FnMut(&Field<'_, 'a>)) -> Option<Trailer> {
        let packet = self.packet.as_ref()?;
        let mut rest = packet.fields();
        let trailer = if routed(packet, self.message) {
            rest.pop_trailer().ok()
        } else {
            None
        };
        let mut end = rest.offset();
        if let Some(message) = self.message {
            let _ = message.walk(packet, |field| {
                end = field.end;
                visit(field);
            });
        }
        let unread = &rest.rest()[end - rest.offset()..];
        if !unread.is_empty() {
            let value = Value::Raw(unread);
            let end_of_rest = end + unread.len();
            visit(&Field {
                path: &[],
                name: "unread",
                value,
                at: end,
                end: end_of_rest,
            });
        }
        trailer
    }
}

/// Whether the packet ends with the ids. An unknown capability is taken for a module's: those have them.
fn routed(packet: &Packet<'_>, message: Option<&Message>) -> bool {
    packet.generation() == Generation::Modern
        && message.map_or_else(
            || schema::capability(packet.name()).is_none_or(|known| known.messages[0].routed),
            |message| message.routed,
        )
}

impl<'a> Line<'a> {
    /// The line of `frame`, the `n`th packet.
    pub(crate) fn new(n: u64, frame: &Frame<'a>, reading: &Reading<'a>) -> Self {
        let mut fields = vec![];
        let trailer = reading.fields(|field| {
            fields.push(FieldLine {
                name: field.to_string(),
                value: ValueLine::new(field.value),
            });
        });
        let name = reading.packet.map_or(&b""[..], |packet| packet.name());
        let text = str::from_utf8(name);
        let crc = |ok| Cow::Borrowed(if ok { "ok" } else { "bad" });
        let verbatim = reading.packet.is_none() || reading.crc_ok == Some(false);
        Self {
            n,
            record: frame.number,
            time: time_text(frame.time),
            src: frame.src,
            dst: frame.dst,
            transport: frame.transport.as_str().into(),
            generation: frame.generation.as_str().into(),
            name: text.map_or_else(|_| String::from_utf8_lossy(name), Cow::Borrowed),
            name_hex: text.is_err().then(|| hex(name)),
            command: reading.packet.map(|packet| packet.command()),
            type_name: reading.type_name().map(Cow::Borrowed),
            version: reading.packet.and_then(|packet| packet.version()),
            length: frame.bytes.len(),
            crc: reading.crc_ok.map(crc),
            fields,
            trailer: trailer.map(TrailerLine::from),
            error: reading.error.map(|error| error.to_string()),
            bytes: verbatim.then(|| hex(frame.bytes)),
        }
    }

    pub(crate) fn generation(&self) -> anyhow::Result<Generation> {
        Generation::from_str(&self.generation)
            .with_context(|| format!("\"generation\": \"{}\"", self.generation))
    }

    /// The packet's bytes: built from name, type and fields, or as they stand in `bytes`.
    pub(crate) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(bytes) = &self.bytes {
            return match unhex(bytes).context("\"bytes\"")? {
                bytes if bytes.is_empty() => bail!("\"bytes\" is empty"),
                bytes => Ok(bytes),
            };
        }
        let generation = self.generation()?;
        let Some(command) = self.command else {
            bail!("\"type\" is missing")
        };
        let name = match &self.name_hex {
            Some(name) => unhex(name).context("\"name_hex\"")?,
            None => self.name.as_bytes().to_vec(),
        };
        let mut buffer = vec![0; MAX_PACKET_LEN];
        let version = self
            .version
            .unwrap_or_else(|| usual_version(generation, &name, command));
        let mut builder =
            Builder::new(generation, &mut buffer, &name, command, version).context("\"name\"")?;
        for (i, field) in self.fields.iter().enumerate() {
            field
                .value
                .push(&mut builder)
                .with_context(|| format!("field {} \"{}\"", i + 1, field.name))?;
        }
        match self.trailer {
            Some(_) if generation != Generation::Modern => {
                bail!("\"trailer\": only packets of 2.3 and later have one")
            }
            Some(trailer) => builder
                .push_trailer(trailer.into())
                .context("\"trailer\"")?,
            None => {}
        }
        let packet = builder.seal();
        Packet::parse(generation, packet).context("no node would take this packet")?;
        Ok(packet.to_vec())
    }

    pub(crate) fn timestamp(&self) -> anyhow::Result<Timestamp> {
        let time = humantime::parse_rfc3339(&self.time)
            .with_context(|| format!("\"time\": \"{}\"", self.time))?;
        let nanos = time
            .duration_since(UNIX_EPOCH)
            .context("\"time\" is before 1970")?
            .as_nanos();
        Ok(Timestamp::from_nanos(
            u64::try_from(nanos).context("\"time\" is too late")?,
        ))
    }
}

impl<'a> ValueLine<'a> {
    fn new(value: Value<'a>) -> Self {
        match value {
            Value::Str(bytes) => match str::from_utf8(bytes) {
                Ok(text) => Self::Str(text.into()),
                Err(_) => Self::Bin(hex(bytes)),
            },
            Value::Int(int) => Self::Int(int),
            Value::Object(_, bytes) => Self::Bin(hex(bytes)),
            Value::Raw(bytes) => Self::Raw(hex(bytes)),
        }
    }

    /// Appends the value to a packet.
    pub(crate) fn push(&self, builder: &mut Builder<'_>) -> anyhow::Result<()> {
        match self {
            Self::Str(text) => builder.push_str(text.as_bytes())?,
            Self::Int(int) => builder.push_int(*int)?,
            Self::Bin(digits) => builder.push_str(&unhex(digits)?)?,
            Self::Raw(digits) => builder.append(&unhex(digits)?)?,
        }
        Ok(())
    }
}

impl From<Trailer> for TrailerLine {
    fn from(trailer: Trailer) -> Self {
        let Trailer {
            bridged_from: src_cluster,
            cluster,
            source,
            dest,
        } = trailer;
        Self {
            src_cluster,
            cluster,
            source,
            dest,
        }
    }
}

impl From<TrailerLine> for Trailer {
    fn from(line: TrailerLine) -> Self {
        let TrailerLine {
            src_cluster: bridged_from,
            cluster,
            source,
            dest,
        } = line;
        Self {
            bridged_from,
            cluster,
            source,
            dest,
        }
    }
}

/// The version that goes with a payload when none is given: the highest that its newest layout takes.
pub(crate) fn usual_version(generation: Generation, name: &[u8], command: i32) -> i16 {
    schema::capability(name)
        .and_then(|capability| {
            let sent =
                |message: &&Message| message.command == command && message.spoken_in(generation);
            capability.messages.iter().find(sent)?.versions
        })
        .map_or(1, |(_, highest)| highest)
}

/// The transport that carries a generation.
pub(crate) fn transport(generation: Generation) -> Transport {
    match generation {
        Generation::Legacy => Transport::Udp,
        Generation::Transitional | Generation::Modern => Transport::Tcp,
    }
}

/// RFC 3339 in UTC; microseconds unless there are nanoseconds.
pub(crate) fn time_text(time: Timestamp) -> String {
    let time_of_day = system_time(time);
    match time.subsec_nanos() % 1000 {
        0 => humantime::format_rfc3339_micros(time_of_day).to_string(),
        _ => humantime::format_rfc3339_nanos(time_of_day).to_string(),
    }
}

/// Writes `value` as a line of JSON in which no character can command a terminal.
pub(crate) fn write(out: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Harmless);
    value.serialize(&mut serializer).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

/// JSON escapes what is below 0x20; terminals also obey DEL and U+0080 to U+009F.
struct Harmless;

impl serde_json::ser::Formatter for Harmless {
    fn write_string_fragment<W>(&mut self, out: &mut W, fragment: &str) -> io::Result<()>
    where
        W: io::Write + ?Sized,
    {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| c.is_control()) {
            out.write_all(&rest.as_bytes()[..at])?;
            write!(out, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(time.as_nanos())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

pub(crate) fn unhex(digits: &str) -> anyhow::Result<Vec<u8>> {
    let digit = |c: u8| match char::from(c).to_digit(16) {
        Some(digit) => u8::try_from(digit).context("a hex digit"),
        None => bail!("'{}' is not a hex digit", c.escape_ascii()),
    };
    if !digits.len().is_multiple_of(2) {
        bail!("an odd number of hex digits");
    }
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|two| Ok(digit(two[0])? << 4 | digit(two[1])?))
        .collect()
}

fn epoch() -> String {
    time_text(Timestamp::EPOCH)
}

/// Lines written by hand need not say who talks to whom.
fn one_node() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 5566))
}

fn another_node() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 2], 5566))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_both_ways_and_says_what_is_not() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex("009fFF").unwrap(), [0, 0x9f, 0xff]);
        assert!(unhex("0").unwrap_err().to_string().contains("odd"));
        assert!(unhex("0g").unwrap_err().to_string().contains("'g'"));
        assert!(unhex("é").is_err());
    }

    #[test]
    fn a_line_by_hand_needs_only_generation_name_type_and_fields() {
        let text = r#"{"generation":"1.x","name":"ul","type":1,
            "fields":[{"kind":"str","value":"location"},{"kind":"bin","value":"616c696365"}]}"#;
        let line: Line<'_> = serde_json::from_str(text).unwrap();
        let bytes = line.to_bytes().unwrap();
        let packet = Packet::parse(Generation::Legacy, &bytes).unwrap();
        assert_eq!(schema::key(&packet), Ok(Some(&b"alice"[..])));
        assert_eq!(line.timestamp().unwrap(), Timestamp::EPOCH);
    }

    #[test]
    fn what_a_line_gets_wrong_is_named() {
        let error = |text: &str| {
            let line: Line<'_> = serde_json::from_str(text).unwrap();
            format!("{:#}", line.to_bytes().unwrap_err())
        };
        assert!(error(r#"{"generation":"9","name":"ul","type":1}"#).contains("1.x, 2.2 or 2.3+"));
        assert!(error(r#"{"generation":"1.x","name":"ul","type":null}"#).contains("type"));
        let bad_field = r#"{"generation":"1.x","name":"ul","type":1,
            "fields":[{"name":"aor","kind":"bin","value":"x0"}]}"#;
        assert!(error(bad_field).contains("field 1 \"aor\""));
    }
}
