//! A record as bytes: the same in memory, in the log, in snapshots and dumps.
//!
//! ```text
//!   | kind: u8 | status: u8 | field | field | ...        fields in the order of the kind's table, all of them
//!   string   varint length, bytes          number   varint of its zigzag form          (LEB128, at most 10 bytes)
//! ```
//!
//! Fields are added at the end of a table and never taken away or moved: a record with fewer fields than the table was written
//! before they were, and has none of them. One with more, or with a kind that is not known, was written by a newer binrush.

use std::fmt;

/// What a record is about. The numbers stand in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A call.
    Dialog = 1,
    /// An address of record.
    Aor = 2,
    /// Where somebody can be reached.
    Contact = 3,
    /// An entry of a key-value store.
    Cached = 4,
    /// The count of one node in one profile.
    Profile = 5,
    /// A rate-limit pipe of one node.
    Pipe = 6,
}

/// What is known of a record beside its fields: bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Status(pub u8);

/// One field of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name, that of the wire's layouts.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// It is the same in many records: kept once in memory.
    pub repeats: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Bytes.
    Str,
    /// A number.
    Int,
    /// Seconds since 1970; 0: never.
    Time,
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Bytes.
    Str(&'a [u8]),
    /// A number, or a time.
    Int(i64),
}

/// What is wrong with bytes that should be a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct FlatError {
    /// Offset in the record.
    pub at: usize,
    /// What is wrong there.
    pub what: What,
}

/// See [`FlatError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It ends inside a field, or before its status.
    EndsEarly,
    /// A kind of record that this version does not know.
    UnknownKind(u8),
    /// A number of more than 64 bits.
    TooLong,
    /// More fields than this version knows.
    Leftover,
}

/// Writes one record into `out`, behind what is there.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

/// Reads the fields of one record, in order.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    /// What the record is.
    pub kind: Kind,
    /// What is known of it.
    pub status: Status,
    bytes: &'a [u8],
    at: usize,
    next: usize,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Dialog,
        Self::Aor,
        Self::Contact,
        Self::Cached,
        Self::Profile,
        Self::Pipe,
    ];

    /// By its number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Dialog,
            2 => Self::Aor,
            3 => Self::Contact,
            4 => Self::Cached,
            5 => Self::Profile,
            6 => Self::Pipe,
            _ => return None,
        })
    }

    /// Its name, as `binrush state` says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dialog => "dialog",
            Self::Aor => "aor",
            Self::Contact => "contact",
            Self::Cached => "cached",
            Self::Profile => "profile",
            Self::Pipe => "pipe",
        }
    }

    /// Its fields. The first [`key_len`](Self::key_len) of them name the record.
    #[must_use]
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::Dialog => DIALOG,
            Self::Aor => AOR,
            Self::Contact => CONTACT,
            Self::Cached => CACHED,
            Self::Profile => PROFILE,
            Self::Pipe => PIPE,
        }
    }

    /// How many of its fields name it, for people: two records of one kind that agree in these are the same in a comparison.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Dialog => 3,
            Self::Contact => 4,
            Self::Aor | Self::Cached | Self::Profile => 2,
            Self::Pipe => 1,
        }
    }
}

impl Status {
    /// A dialog that was built from updates only: its CREATED replaces it whole, and it is not handed on.
    pub const PROVISIONAL: Self = Self(1);
    /// A genuine node would refuse it for want of a socket of this name.
    pub const NO_SOCKET: Self = Self(2);

    /// Whether all bits of `other` are in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the bits of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({:#04b})", self.0)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndsEarly => f.write_str("the record ends inside a field"),
            Self::UnknownKind(kind) => write!(
                f,
                "record kind {kind} is not known: a newer binrush wrote it"
            ),
            Self::TooLong => f.write_str("a number has more than 64 bits"),
            Self::Leftover => {
                f.write_str("more fields than are known: a newer binrush wrote the record")
            }
        }
    }
}

impl<'o> Writer<'o> {
    /// Begins a record; every field of its kind has to be put, in order.
    pub fn new(out: &'o mut Vec<u8>, kind: Kind, status: Status) -> Self {
        out.extend([kind as u8, status.0]);
        Self { out }
    }

    /// Puts a string.
    pub fn str(&mut self, bytes: &[u8]) -> &mut Self {
        put_varint(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self
    }

    /// Puts one string that is made of several.
    pub fn str_of(&mut self, parts: &[&[u8]]) -> &mut Self {
        put_varint(self.out, parts.iter().map(|part| part.len() as u64).sum());
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self
    }

    /// Puts a number.
    pub fn int(&mut self, number: impl Into<i64>) -> &mut Self {
        put_varint(self.out, zigzag(number.into()));
        self
    }
}

impl<'a> Reader<'a> {
    /// Begins to read a record.
    ///
    /// # Errors
    /// An unknown kind, or fewer than two bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FlatError> {
        let ends_early = FlatError {
            at: bytes.len(),
            what: What::EndsEarly,
        };
        let [kind, status, ..] = *bytes else {
            return Err(ends_early);
        };
        let unknown = FlatError {
            at: 0,
            what: What::UnknownKind(kind),
        };
        Ok(Self {
            kind: Kind::of(kind).ok_or(unknown)?,
            status: Status(status),
            bytes,
            at: 2,
            next: 0,
        })
    }

    /// The next field and its value; `None` at the end of the record.
    ///
    /// # Errors
    /// Where the record is wrong; the reader does not move.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(&'static Field, Value<'a>)>, FlatError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let Some(field) = self.kind.fields().get(self.next) else {
            return Err(self.wrong(What::Leftover));
        };
        let value = match field.holds {
            Holds::Str => Value::Str(self.take_str()?),
            Holds::Int | Holds::Time => Value::Int(self.take_int()?),
        };
        self.next += 1;
        Ok(Some((field, value)))
    }

    /// The next field, a string; empty behind the last one.
    ///
    /// # Errors
    /// Where the record is wrong.
    #[inline]
    pub fn str(&mut self) -> Result<&'a [u8], FlatError> {
        match self.field()? {
            Some((_, Value::Str(bytes))) => Ok(bytes),
            Some((_, Value::Int(_))) => unreachable!("who reads a kind knows its table"),
            None => Ok(b""),
        }
    }

    /// The next field, a number; 0 behind the last one.
    ///
    /// # Errors
    /// Where the record is wrong.
    #[inline]
    pub fn int(&mut self) -> Result<i64, FlatError> {
        match self.field()? {
            Some((_, Value::Int(number))) => Ok(number),
            Some((_, Value::Str(_))) => unreachable!("who reads a kind knows its table"),
            None => Ok(0),
        }
    }

    #[inline]
    fn take_str(&mut self) -> Result<&'a [u8], FlatError> {
        let mut rest = &self.bytes[self.at..];
        let len = take_varint(&mut rest).map_err(|what| self.wrong(what))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some((bytes, rest)) = rest.split_at_checked(len) else {
            return Err(self.wrong(What::EndsEarly));
        };
        self.at = self.bytes.len() - rest.len();
        Ok(bytes)
    }

    #[inline]
    fn take_int(&mut self) -> Result<i64, FlatError> {
        let mut rest = &self.bytes[self.at..];
        let number = take_varint(&mut rest).map_err(|what| self.wrong(what))?;
        self.at = self.bytes.len() - rest.len();
        Ok(unzigzag(number))
    }

    const fn wrong(&self, what: What) -> FlatError {
        FlatError { at: self.at, what }
    }
}

/// Appends a number in groups of 7 bits, the lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Takes a number off the front of `bytes`.
///
/// # Errors
/// [`What::EndsEarly`] or [`What::TooLong`]; `bytes` is then as it was.
#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> Result<u64, What> {
    // Nearly all lengths and most numbers.
    if let [short @ ..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return Ok(u64::from(*short));
    }
    take_long_varint(bytes)
}

fn take_long_varint(bytes: &mut &[u8]) -> Result<u64, What> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index;
        if shift > 63 || bits << shift >> shift != bits {
            return Err(What::TooLong);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(number);
        }
    }
    Err(What::EndsEarly)
}

/// Small numbers of either sign become small ones.
#[must_use]
pub const fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

/// The number that [`zigzag`] was given.
#[must_use]
pub const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

const fn str(name: &'static str) -> Field {
    Field {
        name,
        holds: Holds::Str,
        repeats: false,
    }
}

const fn repeated(name: &'static str) -> Field {
    Field {
        repeats: true,
        ..str(name)
    }
}

const fn int(name: &'static str) -> Field {
    Field {
        holds: Holds::Int,
        ..str(name)
    }
}

const fn time(name: &'static str) -> Field {
    Field {
        holds: Holds::Time,
        ..str(name)
    }
}

const DIALOG: &[Field] = &[
    str("callid"),
    str("caller_tag"),
    str("callee_tag"),
    str("from_uri"),
    str("to_uri"),
    int("h_id"),
    time("start_ts"),
    int("state"),
    repeated("caller_socket"),
    repeated("callee_socket"),
    str("caller_cseq"),
    str("callee_cseq"),
    repeated("caller_route_set"),
    repeated("callee_route_set"),
    str("caller_contact"),
    str("callee_contact"),
    str("mangled_from_uri"),
    str("mangled_to_uri"),
    str("caller_sdp_in"),
    str("caller_sdp_out"),
    str("callee_sdp_in"),
    str("callee_sdp_out"),
    str("caller_adv_contact"),
    str("callee_adv_contact"),
    str("vars"),
    repeated("profiles"),
    int("user_flags"),
    int("module_flags"),
    int("flags"),
    time("expires"),
    int("caller_last_cseq"),
    int("callee_last_cseq"),
    repeated("on_answer"),
    repeated("on_timeout"),
    repeated("on_hangup"),
];

/// Labels are one more than on the wire; 0: there are none.
const AOR: &[Field] = &[
    repeated("domain"),
    str("aor"),
    int("record_label"),
    int("next_contact_label"),
    str("kv"),
];

/// `contact_id` is one more than on the wire, as an unsigned number; 0: there is none. `cflag_names` begins with a space; empty:
/// only `cflags` is known.
const CONTACT: &[Field] = &[
    repeated("domain"),
    str("aor"),
    str("contact"),
    str("callid"),
    int("contact_id"),
    repeated("user_agent"),
    repeated("path"),
    str("attr"),
    str("received"),
    str("instance"),
    time("expires"),
    int("q"),
    repeated("socket"),
    int("cseq"),
    int("flags"),
    int("cflags"),
    repeated("cflag_names"),
    int("methods"),
    time("last_modified"),
    str("kv"),
];

const CACHED: &[Field] = &[
    repeated("collection"),
    str("key"),
    str("value"),
    time("expires"),
];

/// `node` is the node that counted; `has_value`: the profile has values.
const PROFILE: &[Field] = &[
    repeated("profile"),
    str("value"),
    int("has_value"),
    int("node"),
    int("count"),
    time("heard"),
];

const PIPE: &[Field] = &[
    str("pipe"),
    int("node"),
    int("flags"),
    int("algorithm"),
    int("limit"),
    int("counter"),
    time("heard"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back_and_small_ones_are_short(number: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, zigzag(number));
            let mut rest = &bytes[..];
            prop_assert_eq!(take_varint(&mut rest).map(unzigzag), Ok(number));
            prop_assert!(rest.is_empty());
            prop_assert_eq!(bytes.len() == 1, (-64..64).contains(&number));
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(bytes: Vec<u8>) {
            let Ok(mut reader) = Reader::new(&bytes) else {
                return Ok(());
            };
            while let Ok(Some((field, _))) = reader.field() {
                prop_assert!(!field.name.is_empty());
            }
        }
    }

    #[test]
    fn a_record_comes_back_and_one_cut_short_is_refused_at_every_byte_inside_a_field() {
        let mut bytes = Vec::new();
        let status = Status::PROVISIONAL.with(Status::NO_SOCKET);
        let mut writer = Writer::new(&mut bytes, Kind::Cached, status);
        writer.str(b"local").str(b"key").str(&[7; 200]).int(-1);
        let mut reader = Reader::new(&bytes).unwrap();
        assert_eq!((reader.kind, reader.status), (Kind::Cached, status));
        let named: Vec<_> = std::iter::from_fn(|| reader.field().unwrap())
            .map(|(field, value)| (field.name, value))
            .collect();
        assert_eq!(
            named,
            [
                ("collection", Value::Str(b"local")),
                ("key", Value::Str(b"key")),
                ("value", Value::Str(&[7; 200])),
                ("expires", Value::Int(-1)),
            ]
        );
        // Between two fields it is an older record, which lacks the later ones.
        let ends = [2, 8, 12, 214, 215];
        for len in 0..=bytes.len() {
            let read = Reader::new(&bytes[..len]).and_then(|mut reader| {
                while reader.field()?.is_some() {}
                Ok(())
            });
            assert_eq!(read.is_ok(), ends.contains(&len), "{len} bytes");
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused_by_name() {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, Kind::Cached, Status::default())
            .str(b"")
            .str(b"")
            .str(b"")
            .int(0)
            .int(9);
        let mut reader = Reader::new(&bytes).unwrap();
        for _ in 0..4 {
            reader.field().unwrap();
        }
        assert_eq!(
            reader.field().unwrap_err(),
            FlatError {
                at: 6,
                what: What::Leftover
            }
        );
        let unknown = Reader::new(&[9, 0]).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "byte 0: record kind 9 is not known: a newer binrush wrote it"
        );
        let mut long = &[0xff; 11][..];
        assert_eq!(take_varint(&mut long), Err(What::TooLong));
    }

    #[test]
    fn what_names_a_record_stands_first_in_its_table() {
        for kind in Kind::ALL {
            assert!(kind.key_len() <= kind.fields().len());
            assert_eq!(Kind::of(kind as u8), Some(kind));
        }
        let names = |kind: Kind| {
            kind.fields()[..kind.key_len()]
                .iter()
                .map(|f| f.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Kind::Contact), ["domain", "aor", "contact", "callid"]);
        assert_eq!(names(Kind::Dialog), ["callid", "caller_tag", "callee_tag"]);
    }
}
