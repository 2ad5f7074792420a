//! Records as a store keeps them: as [`flat`](crate::flat) bytes, but that a string which stands in many records is the number
//! of its one copy.
//!
//! ```text
//!   | kind: u8 | status: u8 | field | field | ...
//!   string   varint length, bytes       number   varint of its zigzag form       repeated string   varint of its number
//! ```
//!
//! A packed record came from a flat one that was read, so its reader does not fail.

use std::convert::Infallible;

use super::interner::Interner;
use crate::flat::{
    Field, FlatError, Holds, Kind, Reader, Status, What, put_varint, take_varint, unzigzag,
};
use crate::record::{Pull, Record};

/// Appends the packed form of `flat` to `out`; every repeated string is referred to once more.
///
/// # Errors
/// Where `flat` is no record. Nothing is referred to then, but `out` may have been added to.
pub(super) fn pack(
    flat: &[u8],
    strings: &mut Interner,
    out: &mut Vec<u8>,
) -> Result<(), FlatError> {
    let reader = Reader::new(flat)?;
    let start = out.len();
    // What lies between two repeated strings is the same in both forms and copied at once.
    let mut copied = 0;
    let mut at = HEAD;
    for field in reader.kind.fields() {
        if at == flat.len() {
            break;
        }
        let end = match field_end(flat, at, field) {
            Ok(end) => end,
            Err(what) => {
                undo(&flat[..at], reader.kind, strings);
                return Err(FlatError { at, what });
            }
        };
        if field.repeats {
            out.extend_from_slice(&flat[copied..at]);
            let mut text = &flat[at..end];
            take_varint(&mut text).expect("its end was found by it");
            put_varint(out, strings.intern(text).into());
            copied = end;
        }
        at = end;
    }
    if at != flat.len() {
        undo(&flat[..at], reader.kind, strings);
        out.truncate(start);
        let what = What::Leftover;
        return Err(FlatError { at, what });
    }
    out.extend_from_slice(&flat[copied..]);
    Ok(())
}

/// Appends the flat form of `packed` to `out`.
pub(super) fn unpack(packed: &[u8], strings: &Interner, out: &mut Vec<u8>) {
    let mut fields = Packed::new(packed);
    let mut copied = 0;
    while let Some(field) = fields.table.get(fields.next) {
        let at = fields.at();
        if at == packed.len() {
            break;
        }
        if field.repeats {
            out.extend_from_slice(&packed[copied..at]);
            let text = strings.text(fields.id());
            put_varint(out, text.len() as u64);
            out.extend_from_slice(text);
            copied = fields.at();
        } else {
            fields.skip(1);
        }
    }
    out.extend_from_slice(&packed[copied..]);
}

/// Reads a packed record as it is.
///
/// # Panics
/// When there is none: its place is free.
pub(super) fn record<'a>(packed: &'a [u8], strings: &'a Interner) -> Record<'a> {
    let kind = kind(packed).expect("there is a record");
    let fields = Packed::new(packed);
    let Ok(record) = Record::pull(kind, &mut Unpacked { fields, strings });
    record
}

/// Lets go of the strings that `packed` refers to.
pub(super) fn release(packed: &[u8], strings: &mut Interner) {
    let mut fields = Packed::new(packed);
    for field in fields.table {
        if fields.rest.is_empty() {
            break;
        }
        let number = fields.pass(field);
        if field.repeats {
            strings.release(u32::try_from(number).unwrap_or_default());
        }
    }
}

/// The first `fields` fields of a packed record.
pub(super) fn key(packed: &[u8], fields: usize) -> &[u8] {
    let mut reader = Packed::new(packed);
    reader.skip(fields);
    &packed[HEAD..reader.at()]
}

/// A record from its first field on.
pub(super) fn behind_head(record: &[u8]) -> &[u8] {
    record.get(HEAD..).unwrap_or_default()
}

/// What the record is.
pub(super) fn kind(packed: &[u8]) -> Option<Kind> {
    Kind::of(*packed.first()?)
}

/// What is known of a record, packed or flat.
pub(super) fn status(record: &[u8]) -> Status {
    Status(record.get(1).copied().unwrap_or_default())
}

/// Reads a packed record, field by field; behind its last field, empty strings and zeros.
pub(super) struct Packed<'a> {
    packed: &'a [u8],
    rest: &'a [u8],
    table: &'static [Field],
    next: usize,
}

impl<'a> Packed<'a> {
    pub(super) fn new(packed: &'a [u8]) -> Self {
        Self {
            packed,
            rest: behind_head(packed),
            table: kind(packed).map_or(&[], Kind::fields),
            next: 0,
        }
    }

    /// A string that is not repeated.
    pub(super) fn str(&mut self) -> &'a [u8] {
        debug_assert!(self.is(Holds::Str, false));
        self.next += 1;
        take_str(&mut self.rest).unwrap_or_default()
    }

    /// The number of a repeated string.
    pub(super) fn id(&mut self) -> u32 {
        debug_assert!(self.is(Holds::Str, true));
        u32::try_from(self.varint()).unwrap_or_default()
    }

    /// A number, or a time.
    pub(super) fn int(&mut self) -> i64 {
        debug_assert!(!self.is(Holds::Str, false) && !self.is(Holds::Str, true));
        unzigzag(self.varint())
    }

    /// Passes over some fields.
    pub(super) fn skip(&mut self, fields: usize) {
        let behind = (self.next + fields).min(self.table.len());
        for field in self.table.get(self.next..behind).unwrap_or_default() {
            self.pass(field);
        }
    }

    /// Passes over the next field, which is this one; says what stands before its bytes, or is all of it.
    #[inline]
    fn pass(&mut self, field: &Field) -> u64 {
        let number = self.varint();
        if field.holds == Holds::Str && !field.repeats {
            let len = usize::try_from(number).unwrap_or(usize::MAX);
            self.rest = self.rest.get(len..).unwrap_or_default();
        }
        number
    }

    #[inline]
    fn varint(&mut self) -> u64 {
        self.next += 1;
        take_varint(&mut self.rest).unwrap_or_default()
    }

    const fn at(&self) -> usize {
        self.packed.len() - self.rest.len()
    }

    fn is(&self, holds: Holds, repeats: bool) -> bool {
        self.table
            .get(self.next)
            .is_none_or(|field| field.holds == holds && field.repeats == repeats)
    }
}

/// The fields of a packed record, with the strings that they refer to.
struct Unpacked<'a> {
    fields: Packed<'a>,
    strings: &'a Interner,
}

impl<'a> Pull<'a> for Unpacked<'a> {
    type Error = Infallible;

    #[inline]
    fn str(&mut self) -> Result<&'a [u8], Infallible> {
        Ok(self.fields.str())
    }

    #[inline]
    fn repeated(&mut self) -> Result<&'a [u8], Infallible> {
        Ok(match self.fields.id() {
            // Most of them are empty: no look at the copies.
            0 => b"",
            id => self.strings.text(id),
        })
    }

    #[inline]
    fn int(&mut self) -> Result<i64, Infallible> {
        Ok(self.fields.int())
    }
}

fn undo(flat: &[u8], kind: Kind, strings: &mut Interner) {
    let mut at = HEAD;
    for field in kind.fields() {
        let Ok(end) = field_end(flat, at, field) else {
            return;
        };
        if field.repeats {
            let mut rest = &flat[at..end];
            let text = take_str(&mut rest).unwrap_or_default();
            let id = strings.find(text).expect("it was referred to");
            strings.release(id);
        }
        at = end;
    }
}

/// Where the field that begins at `at` ends.
#[inline]
fn field_end(flat: &[u8], at: usize, field: &Field) -> Result<usize, What> {
    let mut rest = &flat[at..];
    match field.holds {
        Holds::Str => _ = take_str(&mut rest)?,
        Holds::Int | Holds::Time => _ = take_varint(&mut rest)?,
    }
    Ok(flat.len() - rest.len())
}

fn take_str<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], What> {
    let len = usize::try_from(take_varint(rest)?).unwrap_or(usize::MAX);
    let (text, behind) = rest.split_at_checked(len).ok_or(What::EndsEarly)?;
    *rest = behind;
    Ok(text)
}

/// Kind and status.
const HEAD: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flat::Writer;
    use crate::samples::pools;
    use proptest::prelude::*;

    fn contact(domain: &[u8], agent: &[u8], kv: &[u8]) -> Vec<u8> {
        let mut flat = Vec::new();
        let mut to = Writer::new(&mut flat, Kind::Contact, Status::NO_SOCKET);
        to.str(domain)
            .str(b"alice")
            .str(b"sip:a@h")
            .str(b"c1")
            .int(77);
        to.str(agent).str(b"").str(b"").str(b"").str(b"");
        to.int(1_700_000_000)
            .int(-1)
            .str(b"udp:10.0.0.1:5060")
            .int(3)
            .int(0);
        to.int(0).str(b" NAT").int(0).int(1_700_000_000).str(kv);
        flat
    }

    #[test]
    fn a_record_comes_back_and_its_repeats_are_kept_once() {
        let mut strings = Interner::new();
        let flat = contact(b"location", b"Phone/1.0", b"{}");
        let mut packed = Vec::new();
        pack(&flat, &mut strings, &mut packed).unwrap();
        let mut second = Vec::new();
        pack(&flat, &mut strings, &mut second).unwrap();
        assert_eq!(packed, second);
        // A number here is as long as the length it stands for; the texts are what is saved.
        assert_eq!(packed.len() + 8 + 9 + 17 + 4, flat.len());
        assert_eq!(strings.len(), 4);
        let mut back = Vec::new();
        unpack(&packed, &strings, &mut back);
        assert_eq!(back, flat);
        let mut fields = Packed::new(&packed);
        assert_eq!(strings.text(fields.id()), b"location");
        assert_eq!(fields.str(), b"alice");
        fields.skip(2);
        assert_eq!(fields.int(), 77);
        release(&packed, &mut strings);
        release(&second, &mut strings);
        assert_eq!(strings.len(), 0);
    }

    #[test]
    fn the_key_is_the_same_whatever_else_a_record_says() {
        let mut strings = Interner::new();
        let keys = [&b"x"[..], b"yy"].map(|agent| {
            let mut packed = Vec::new();
            pack(&contact(b"location", agent, b""), &mut strings, &mut packed).unwrap();
            key(&packed, 2).to_vec()
        });
        assert_eq!(keys[0], keys[1]);
    }

    proptest! {
        #[test]
        fn a_packed_record_says_what_its_flat_bytes_say(pool in pools()) {
            let mut strings = Interner::new();
            for said in pool.records() {
                let (mut flat, mut packed) = (Vec::new(), Vec::new());
                said.write(Status::default(), &mut flat);
                pack(&flat, &mut strings, &mut packed).unwrap();
                prop_assert_eq!(record(&packed, &strings), said);
            }
        }

        #[test]
        fn any_bytes_are_packed_and_come_back_or_leave_no_string(bytes: Vec<u8>, kind in 0..8_u8) {
            let flat: Vec<u8> = [kind].into_iter().chain(bytes).collect();
            let (mut strings, mut packed) = (Interner::new(), Vec::new());
            let is_record = Record::read(&flat).is_ok();
            prop_assert_eq!(pack(&flat, &mut strings, &mut packed).is_ok(), is_record);
            if is_record {
                let mut back = Vec::new();
                unpack(&packed, &strings, &mut back);
                prop_assert_eq!(Record::read(&back), Record::read(&flat));
                let there = Record::read(&flat).map(|(record, _)| record);
                prop_assert_eq!(Ok(record(&packed, &strings)), there);
                release(&packed, &mut strings);
            }
            prop_assert_eq!(strings.len(), 0);
        }

        #[test]
        fn a_record_cut_short_leaves_no_string(len in 0..140_usize) {
            let flat = contact(b"location", b"Phone", b"");
            let (mut strings, mut packed) = (Interner::new(), Vec::new());
            if pack(&flat[..len.min(flat.len())], &mut strings, &mut packed).is_ok() {
                release(&packed, &mut strings);
            }
            prop_assert_eq!(strings.len(), 0);
        }
    }
}
