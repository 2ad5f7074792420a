//! The packets of both sides: 1.x datagrams of the name `binrush-probe`.
//!
//! | command | fields |
//! |---|---|
//! | 1 report, 2 forget | int run, string address to answer to (`IP:PORT`), string salt, int part |
//! | 101 reported, 102 forgotten | int run, string salt, int part, int of how many parts, int check, string |
//!
//! A salt is 16 hexadecimal digits. The strings of all parts together are the JSON of a [`Report`](crate::Report) of that
//! run; of 102 it is empty. The check is the CRC-32 (of zlib) of all of them together, as a signed number: parts with
//! different ones are of different answers.

use std::net::SocketAddr;

use binrush_wire::{Builder, ErrorKind, Fields, Generation, Packet, WireError};

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// What is wanted.
    pub wish: Wish,
    /// Of which run.
    pub run: u16,
    /// Where the answer is to go.
    pub reply_to: SocketAddr,
    /// Drawn by the asker: an answer to another salt is none to this question.
    pub salt: u64,
    /// Which part of the answer, from 0.
    pub part: u16,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// What was seen of the run.
    Report,
    /// That it is forgotten.
    Forget,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// What was wanted.
    pub wish: Wish,
    /// Of which run.
    pub run: u16,
    /// Of the question.
    pub salt: u64,
    /// Which part this is, from 0.
    pub part: u16,
    /// Of how many, at least 1.
    pub parts: u16,
    /// CRC-32 of the text of all parts together: [`check_of`].
    pub check: u32,
    /// At most [`PART_LEN_MAX`] bytes.
    pub text: &'a [u8],
}

impl Ask {
    /// Reads a packet named [`NAME`].
    ///
    /// # Errors
    /// `None`: it is no question. `Some`: the field that cannot be read, or has no such value.
    pub fn read(packet: &Packet<'_>) -> Result<Self, Option<WireError>> {
        let wish = Wish::of(packet, 0)?;
        let mut fields = packet.fields();
        Ok(Self {
            wish,
            run: small(&mut fields)?,
            reply_to: parsed(&mut fields, |text| text.parse().ok())?,
            salt: parsed(&mut fields, hexadecimal)?,
            part: small(&mut fields)?,
        })
    }

    /// Writes it into `buffer` and returns the datagram.
    pub fn write<'b>(&self, buffer: &'b mut [u8; ASK_LEN_MAX]) -> &'b [u8] {
        let reply_to = self.reply_to.to_string();
        let command = self.wish.command();
        let built =
            Builder::new(Generation::Legacy, buffer, NAME, command, 0).and_then(|mut builder| {
                builder.push_int(self.run.into())?;
                builder.push_str(reply_to.as_bytes())?;
                builder.push_str(salt_text(self.salt).as_bytes())?;
                builder.push_int(self.part.into())?;
                Ok(builder.finish())
            });
        built.expect("the buffer has room for the longest address")
    }
}

impl<'a> Answer<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// As [`Ask::read`].
    pub fn read(packet: &Packet<'a>) -> Result<Self, Option<WireError>> {
        let wish = Wish::of(packet, ANSWER)?;
        let mut fields = packet.fields();
        Ok(Self {
            wish,
            run: small(&mut fields)?,
            salt: parsed(&mut fields, hexadecimal)?,
            part: small(&mut fields)?,
            parts: small(&mut fields)?,
            check: fields.pop_int()?.cast_unsigned(),
            text: fields.pop_str()?,
        })
    }

    /// Whether it is what `ask` asked for.
    #[must_use]
    pub fn answers(&self, ask: &Ask) -> bool {
        (self.wish, self.run, self.salt, self.part) == (ask.wish, ask.run, ask.salt, ask.part)
            && self.part < self.parts
    }

    /// The datagram: at most 1280 bytes with UDP and IPv6 headers, the least that every IPv6 path takes (RFC 8200).
    ///
    /// # Panics
    /// When `text` is longer than [`PART_LEN_MAX`].
    #[must_use]
    pub fn to_datagram(&self) -> Vec<u8> {
        assert!(
            self.text.len() <= PART_LEN_MAX,
            "a part fits into a datagram"
        );
        let mut buffer = vec![0; ASK_LEN_MAX + self.text.len()];
        let command = ANSWER + self.wish.command();
        let built = Builder::new(Generation::Legacy, &mut buffer, NAME, command, 0).and_then(
            |mut builder| {
                builder.push_int(self.run.into())?;
                builder.push_str(salt_text(self.salt).as_bytes())?;
                builder.push_int(self.part.into())?;
                builder.push_int(self.parts.into())?;
                builder.push_int(self.check.cast_signed())?;
                builder.push_str(self.text)?;
                builder.seal();
                Ok(builder.len())
            },
        );
        buffer.truncate(built.expect("the buffer has room for it"));
        buffer
    }
}

impl Wish {
    const fn command(self) -> i32 {
        match self {
            Self::Report => 1,
            Self::Forget => 2,
        }
    }

    /// What `packet` is about, whose commands begin behind `base`.
    fn of(packet: &Packet<'_>, base: i32) -> Result<Self, Option<WireError>> {
        let wishes = [Self::Report, Self::Forget];
        let mut wishes = wishes.into_iter();
        let named = packet.name() == NAME;
        wishes
            .find(|wish| named && packet.command() == base + wish.command())
            .ok_or(None)
    }
}

/// What all parts of the answer `text` say of the whole.
#[must_use]
pub fn check_of(text: &[u8]) -> u32 {
    crc32fast::hash(text)
}

/// An integer that is a number of 16 bits.
fn small(fields: &mut Fields<'_>) -> Result<u16, WireError> {
    let at = fields.offset();
    let number = fields.pop_int()?;
    u16::try_from(number)
        .map_err(|_| WireError::claimed(ErrorKind::Variant, at, i64::from(u16::MAX), 0))
}

/// A string that `parse` understands.
fn parsed<T>(
    fields: &mut Fields<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, WireError> {
    let at = fields.offset();
    let text = fields.pop_str()?;
    let value = str::from_utf8(text).ok().and_then(parse);
    value.ok_or_else(|| WireError::new(ErrorKind::Variant, at, 0, text.len()))
}

fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if text.len() != SALT_LEN || !digits {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

fn salt_text(salt: u64) -> String {
    format!("{salt:0SALT_LEN$x}")
}

/// The name of the packets; `serve` has a handler for it when its probe is on.
pub const NAME: &[u8] = b"binrush-probe";

/// Bytes of the longest question: an IPv6 address with a scope has 62 characters.
pub const ASK_LEN_MAX: usize = 192;

/// Bytes of an answer's text: its datagram passes any path without fragments, and is no more than twenty times as long as
/// the question, so that nobody gains much by asking in another's name.
pub const PART_LEN_MAX: usize = 1_160;

/// What the command of an answer has more than that of its question.
const ANSWER: i32 = 100;

const SALT_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(bytes: &[u8]) -> Packet<'_> {
        Packet::parse(Generation::Legacy, bytes).unwrap()
    }

    fn wishes() -> impl Strategy<Value = Wish> {
        prop::sample::select(&[Wish::Report, Wish::Forget][..])
    }

    proptest! {
        #[test]
        fn a_question_reads_as_it_was_written(
            (run, salt, part) in any::<(u16, u64, u16)>(), wish in wishes(), reply_to: SocketAddr
        ) {
            let ask = Ask { wish, run, reply_to, salt, part };
            let mut buffer = [0; ASK_LEN_MAX];
            let read = Ask::read(&packet(ask.write(&mut buffer))).unwrap();
            // A flow label is no part of the text.
            prop_assert_eq!(read.reply_to.to_string(), reply_to.to_string());
            prop_assert_eq!(Ask { reply_to, ..read }, ask);
        }

        #[test]
        fn an_answer_reads_as_it_was_written(
            (run, salt, part, parts, check) in any::<(u16, u64, u16, u16, u32)>(), wish in wishes(), text: Vec<u8>
        ) {
            let answer = Answer { wish, run, salt, part, parts, check, text: &text };
            let datagram = answer.to_datagram();
            prop_assert_eq!(Answer::read(&packet(&datagram)), Ok(answer));
            prop_assert_eq!(Ask::read(&packet(&datagram)), Err(None));
        }
    }

    #[test]
    fn the_longest_answer_passes_any_path() {
        let text = vec![b'x'; PART_LEN_MAX];
        let answer = Answer {
            wish: Wish::Report,
            run: 1,
            salt: u64::MAX,
            part: 0,
            parts: 1,
            check: check_of(&text),
            text: &text,
        };
        let (udp, ipv6) = (8, 40);
        assert!(answer.to_datagram().len() + udp + ipv6 <= 1_280);
    }

    #[test]
    fn what_is_no_question_is_told_with_its_place() {
        let built = |name: &[u8], command, fields: [&[u8]; 2], part| {
            let mut buffer = [0; 256];
            let mut builder =
                Builder::new(Generation::Legacy, &mut buffer, name, command, 0).unwrap();
            builder.push_int(7).unwrap();
            builder.push_str(fields[0]).unwrap();
            builder.push_str(fields[1]).unwrap();
            builder.push_int(part).unwrap();
            Ask::read(&packet(builder.seal()))
        };
        let (addr, salt) = (&b"127.0.0.1:9"[..], &b"00000000000000ff"[..]);
        let good = built(NAME, 1, [addr, salt], 0).unwrap();
        assert_eq!((good.salt, good.run), (255, 7));
        for (name, command) in [(&b"binrush-prob"[..], 1), (NAME, 0), (NAME, 3), (NAME, 101)] {
            assert_eq!(built(name, command, [addr, salt], 0), Err(None));
        }
        for (fields, part, at) in [
            ([&b"127.0.0.1"[..], salt], 0, 33),
            ([b"host:9", salt], 0, 33),
            ([b"\xff", salt], 0, 33),
            ([addr, b"ff"], 0, 48),
            ([addr, b"+0000000000000ff"], 0, 48),
            ([addr, salt], -1, 68),
        ] {
            let error = built(NAME, 1, fields, part).unwrap_err().unwrap();
            assert_eq!(
                (error.kind, error.at),
                (ErrorKind::Variant, at),
                "{fields:?}"
            );
        }
    }
}
