//! Events as the bytes of a ring.
//!
//! ```text
//!   stamp    event: 16 bits | what: 16 bits
//!   Params   | named: u8 | name: u16, bytes | kind: u8 | number: i64, or text: u16, bytes | ...
//!   Record   the record as the store has it, or had it
//! ```
//!
//! A record is taken along as it is, because copying some hundred bytes is the least that a shard can do; what is said of it is
//! found out by the thread that tells it.

use std::borrow::Cow;

use super::names::EventId;
use super::{Param, Value};

/// What stands in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Parameters.
    Params,
    /// A record.
    Record,
}

pub(super) fn stamp(event: EventId, what: What) -> u64 {
    let what = match what {
        What::Params => 0,
        What::Record => 1,
    };
    u64::from(event.0) | what << 16
}

/// What [`stamp`] made; `None`: it did not.
pub(super) fn unstamp(stamp: u64) -> Option<(EventId, What)> {
    let bytes = stamp.to_le_bytes();
    let what = match bytes[2] {
        0 => What::Params,
        1 => What::Record,
        _ => return None,
    };
    Some((EventId(bytes[0]), what))
}

/// Writes `params` into `out`, in place of what is there; `false`: names and texts are longer than [`TEXTS_LEN_MAX`].
pub(super) fn pack(params: &[Param<'_>], out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut left = TEXTS_LEN_MAX;
    params.iter().all(|param| {
        out.push(u8::from(param.name.is_some()));
        let name = param.name.as_deref();
        if !name.is_none_or(|name| put(name, &mut left, out)) {
            return false;
        }
        match &param.value {
            Value::Null => out.push(NULL),
            Value::Int(number) => {
                out.push(INT);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Value::Str(text) => {
                out.push(STR);
                return put(text, &mut left, out);
            }
        }
        true
    })
}

/// Writes `text` behind its length, if no more than `left` bytes.
fn put(text: &[u8], left: &mut u16, out: &mut Vec<u8>) -> bool {
    let len = u16::try_from(text.len()).ok();
    let rest = len.and_then(|len| Some((len, left.checked_sub(len)?)));
    let Some((len, rest)) = rest else {
        return false;
    };
    *left = rest;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text);
    true
}

/// What [`pack`] wrote; `None`: it did not.
pub(super) fn unpack(mut bytes: &[u8]) -> Option<Vec<Param<'_>>> {
    let mut params = Vec::new();
    while let Some(named) = bytes.split_off_first() {
        let name = match named {
            0 => None,
            _ => Some(text(&mut bytes)?),
        };
        let value = match *bytes.split_off_first()? {
            INT => Value::Int(i64::from_le_bytes(take(&mut bytes)?)),
            STR => Value::Str(Cow::Borrowed(text(&mut bytes)?)),
            _ => Value::Null,
        };
        let name = name.map(Cow::Borrowed);
        params.push(Param { name, value });
    }
    Some(params)
}

/// What [`put`] wrote.
fn text<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let len = u16::from_le_bytes(take(bytes)?);
    bytes.split_off(..usize::from(len))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
}

/// Bytes of all names and texts of the parameters of one event: what is longer goes into no datagram, in whatever form.
pub const TEXTS_LEN_MAX: u16 = u16::MAX;

const NULL: u8 = 0;
const INT: u8 = 1;
const STR: u8 = 2;

#[cfg(test)]
mod tests {
    use super::super::names::{CONTACT_DELETE, EVENTS_MAX};
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let params = [
            Param::str("text", b"a\0b"),
            Param::int("number", i64::MIN),
            Param::str("", b""),
            Param::unnamed(Value::Null),
            Param::unnamed(Value::Str(vec![b'x'; 60_000].into())),
        ];
        let mut out = b"what was there".to_vec();
        assert!(pack(&params, &mut out));
        assert_eq!(unpack(&out).as_deref(), Some(&params[..]));
        assert_eq!(unpack(b"").as_deref(), Some(&[][..]));
        assert_eq!(unpack(&out[..out.len() - 1]), None);
    }

    #[test]
    fn names_and_texts_have_so_many_bytes_together_and_not_one_more() {
        let mut out = Vec::new();
        let max = usize::from(TEXTS_LEN_MAX);
        for (name_len, text_len) in [(0, max), (max, 0), (max / 2, max - max / 2)] {
            let name = "n".repeat(name_len);
            for (more, fits) in [(0, true), (1, false)] {
                let text = vec![b'x'; text_len + more];
                let params = [Param::int("", 5), Param::str(&name, &text)];
                assert_eq!(pack(&params, &mut out), fits, "{name_len} {more}");
                let read = unpack(&out);
                assert_eq!(read.as_deref() == Some(&params[..]), fits);
            }
        }
        let long = "n".repeat(max + 1);
        assert!(!pack(&[Param::int(&long, 1)], &mut out));
    }

    #[test]
    fn a_stamp_tells_the_event_and_what_stands_behind_it() {
        let last = EventId::of_index(EVENTS_MAX - 1).unwrap();
        for event in [CONTACT_DELETE, last] {
            for what in [What::Params, What::Record] {
                assert_eq!(unstamp(stamp(event, what)), Some((event, what)));
            }
        }
        assert_eq!(unstamp(2 << 16), None);
    }
}
