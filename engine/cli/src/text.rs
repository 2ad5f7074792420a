//! A packet in words: one line about it, one line per field.

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

use binrush_capture::Frame;
use binrush_wire::Trailer;
use binrush_wire::schema::{Object, Value};

use crate::line::{Reading, hex, time_text};

/// So many of a unit that takes an s for more than one: `1 packet`, `2 packets`.
pub(crate) fn counted(count: u64, unit: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{s}")
}

/// Writes the packet.
pub(crate) fn packet(
    out: &mut impl Write,
    n: u64,
    frame: &Frame<'_>,
    reading: &Reading<'_>,
) -> io::Result<()> {
    write!(
        out,
        "#{n}  {}  {} > {}  {} {}  ",
        time_text(frame.time),
        frame.src,
        frame.dst,
        frame.transport,
        frame.generation
    )?;
    if let Some(packet) = reading.packet {
        write!(out, "{} ", Escaped(packet.name()))?;
        match reading.type_name() {
            Some(name) => write!(out, "{name} ({})", packet.command())?,
            None => write!(out, "type {}", packet.command())?,
        }
        if let Some(version) = packet.version() {
            write!(out, " v{version}")?;
        }
    }
    write!(out, "  {} bytes", frame.bytes.len())?;
    match reading.crc_ok {
        Some(true) => write!(out, ", crc ok")?,
        Some(false) => write!(out, ", crc BAD")?,
        None => {}
    }
    writeln!(out)?;
    let mut width = 0;
    reading.fields(|field| width = width.max(field.to_string().len()));
    let mut written = Ok(());
    let trailer = reading.fields(|field| {
        if written.is_ok() {
            written = writeln!(
                out,
                "    {:<width$}  {}",
                field.to_string(),
                Shown(field.value)
            );
        }
    });
    written?;
    if let Some(Trailer {
        bridged_from,
        cluster,
        source,
        dest,
    }) = trailer
    {
        write!(out, "    cluster {cluster}, node {source} ")?;
        match bridged_from {
            Some(from) => writeln!(out, "of cluster {from}, over the bridge")?,
            None => writeln!(out, "to node {dest}")?,
        }
    }
    if reading.packet.is_none() {
        writeln!(out, "    {}", Shown(Value::Raw(frame.bytes)))?;
    }
    if let Some(error) = &reading.error {
        writeln!(out, "    ERROR {error}")?;
    }
    Ok(())
}

/// A value as people read it.
struct Shown<'a>(Value<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Int(int) => write!(f, "{int}"),
            Value::Str(bytes) => write!(f, "\"{}\"", Escaped(bytes)),
            Value::Object(object, bytes) => self::object(f, object, bytes),
            Value::Raw(bytes) => {
                let shown = &bytes[..bytes.len().min(RAW_SHOWN)];
                let more = if shown.len() < bytes.len() { "..." } else { "" };
                write!(
                    f,
                    "{}{more} ({} bytes) \"{}\"",
                    hex(shown),
                    bytes.len(),
                    Escaped(shown)
                )
            }
        }
    }
}

fn object(f: &mut fmt::Formatter<'_>, object: Object, bytes: &[u8]) -> fmt::Result {
    match (object, bytes) {
        (Object::Time, &[a, b, c, d, e, g, h, i]) => {
            let seconds = i64::from_le_bytes([a, b, c, d, e, g, h, i]);
            write!(f, "{seconds}")?;
            match u64::try_from(seconds) {
                Ok(seconds @ 1..=LAST_SECOND) => {
                    let time = UNIX_EPOCH + Duration::from_secs(seconds);
                    write!(f, " = {}", humantime::format_rfc3339_seconds(time))
                }
                _ => Ok(()),
            }
        }
        (Object::Int, &[a, b, c, d]) => write!(f, "{}", i32::from_le_bytes([a, b, c, d])),
        (Object::Id, &[a, b, c, d, e, g, h, i]) => {
            write!(f, "{:#018x}", u64::from_le_bytes([a, b, c, d, e, g, h, i]))
        }
        (Object::Address, bytes) => match (bytes.first(), bytes[8..].split_first_chunk::<4>()) {
            (Some(2), Some((v4, _))) => write!(f, "{}", Ipv4Addr::from(*v4)),
            (Some(10), _) => match <[u8; 16]>::try_from(&bytes[8..]) {
                Ok(v6) => write!(f, "{}", Ipv6Addr::from(v6)),
                Err(_) => f.write_str(&hex(bytes)),
            },
            _ => f.write_str(&hex(bytes)),
        },
        _ => f.write_str(&hex(bytes)),
    }
}

/// Bytes as text between quotes: what can be printed stays, everything else is escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\'' => f.write_str("'")?,
                    c => write!(f, "{}", c.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A message that quotes its input: no character in it can command a terminal.
pub(crate) struct Harmless<'a>(pub(crate) &'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\'' | '"' | '\\' => write!(f, "{c}"),
            c => write!(f, "{}", c.escape_debug()),
        })
    }
}

/// Bytes of an unexplained rest that are shown; JSON has them all.
const RAW_SHOWN: usize = 64;

/// The end of the year 9999: later times cannot be written as RFC 3339.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_readable_and_never_reaches_the_terminal_raw() {
        let shown = Shown(Value::Str("é\x1b[31m\"\n".as_bytes())).to_string();
        assert_eq!(shown, r#""é\u{1b}[31m\"\n""#);
        assert_eq!(
            Shown(Value::Str(b"o'a\xff\0")).to_string(),
            r#""o'a\xff\0""#
        );
        let turned = Shown(Value::Str("\u{202e}x\u{200b}\u{9b}".as_bytes())).to_string();
        assert_eq!(turned, r#""\u{202e}x\u{200b}\u{9b}""#);
    }

    #[test]
    fn objects_are_shown_by_what_they_are() {
        let time = 1_795_226_680_i64.to_le_bytes();
        let shown = Shown(Value::Object(Object::Time, &time)).to_string();
        assert_eq!(shown, "1795226680 = 2026-11-21T02:04:40Z");
        for extreme in [0, -1, i64::MIN, i64::MAX] {
            let time = extreme.to_le_bytes();
            let shown = Shown(Value::Object(Object::Time, &time)).to_string();
            assert_eq!(shown, extreme.to_string());
        }
        assert_eq!(
            Shown(Value::Object(Object::Int, &[255; 4])).to_string(),
            "-1"
        );
        let mut address = [0; 24];
        address[0] = 2;
        address[8..12].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(
            Shown(Value::Object(Object::Address, &address)).to_string(),
            "192.0.2.1"
        );
        address[0] = 10;
        assert_eq!(
            Shown(Value::Object(Object::Address, &address)).to_string(),
            "c000:201::"
        );
    }
}
