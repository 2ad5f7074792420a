//! Values and profiles of a dialog: the texts that releases send, and the one list that records keep.
//!
//! ```text
//!   up to 3.3   name#value|name#value|        profile#value|    profile/s#value|    profile/b#|
//!   from 3.4    name#1#text|name#2#-7|        profile#1#value|  profile/s#1#value|  profile/b#1#|
//!   list        | length, name | tag: u8 | length, text  or  zigzag number |  ...        lengths and numbers: varints
//!               tag of a value: 1 text, 2 number; of a profile: 0 local, 1 /s, 2 /b
//! ```
//!
//! In the texts `|`, `#` and `\` inside names and values stand behind a `\`. So an item has one bare `#` up to 3.3 and two from
//! 3.4 on, and says itself which it is: header versions do not (both sides send 4). (OpenSIPS 1.11, 2.4, 3.6
//! `modules/dialog/dlg_db_handler.c`, `write_pair`, `read_pair`.) The order of a text is kept; it means nothing to OpenSIPS.
//!
//! A list is read as far as it is whole: what writes lists writes whole ones, and files have checksums.

use std::iter::FusedIterator;

use binrush_wire::Release;

use crate::flat::{put_varint, take_varint, unzigzag, zigzag};
use crate::model::VarValue;

/// Who shares the counts of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// The node itself.
    Local = 0,
    /// Those that use the same key-value store: `/s`.
    Cachedb = 1,
    /// The nodes of the cluster: `/b`, 2.2 on.
    Bin = 2,
}

/// What is wrong with a text of values or profiles. What else it holds was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("item {item} at byte {at} is neither name#value| nor name#type#value|")]
pub struct TextError {
    /// Number of the first item that was left out, from 0.
    pub item: usize,
    /// Where it begins.
    pub at: usize,
}

/// The values in a list.
#[must_use]
pub const fn values(list: &[u8]) -> Values<'_> {
    Values { rest: list }
}

/// The profiles in a list.
#[must_use]
pub const fn profiles(list: &[u8]) -> Profiles<'_> {
    Profiles { rest: list }
}

/// Appends a value to a list; one that is gone appends nothing.
pub fn push_value(list: &mut Vec<u8>, name: &[u8], value: VarValue<'_>) {
    match value {
        VarValue::Gone => {}
        VarValue::Str(text) => {
            put_str(list, name);
            list.push(TEXT);
            put_str(list, text);
        }
        VarValue::Int(number) => {
            put_str(list, name);
            list.push(NUMBER);
            put_varint(list, zigzag(number.into()));
        }
    }
}

/// Appends a profile to a list; `value` is empty where the profile has none.
pub fn push_profile(list: &mut Vec<u8>, name: &[u8], scope: Scope, value: &[u8]) {
    put_str(list, name);
    list.push(scope as u8);
    put_str(list, value);
}

/// Appends `list` to `out` with the variable `name` set to `value`: where it stood, or at the end if it is new; without it, if it
/// is [`Gone`](VarValue::Gone). Says whether that is another list.
pub fn set(list: &[u8], name: &[u8], value: VarValue<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut value = Some(value);
    for (known, old) in values(list) {
        if known != name {
            push_value(out, known, old);
        } else if let Some(new) = value.take() {
            push_value(out, name, new);
        }
    }
    if let Some(new) = value {
        push_value(out, name, new);
    }
    out[start..] != *list
}

/// Appends `list` to `out` without the variable `name`; says whether it was there.
pub fn remove(list: &[u8], name: &[u8], out: &mut Vec<u8>) -> bool {
    set(list, name, VarValue::Gone, out)
}

/// Appends to `list` the values in a text of any release.
///
/// # Errors
/// The first item that is none; all others are in the list.
pub fn read_values(text: &[u8], list: &mut Vec<u8>) -> Result<(), TextError> {
    each_item(text, |item| {
        if item.tag == TEXT {
            put_unescaped(list, item.name);
            list.push(TEXT);
            put_unescaped(list, item.value);
            return true;
        }
        let number = str::from_utf8(item.value)
            .ok()
            .and_then(|text| text.parse::<i32>().ok());
        if let Some(number) = number {
            put_unescaped(list, item.name);
            list.push(NUMBER);
            put_varint(list, zigzag(number.into()));
        }
        number.is_some()
    })
}

/// Appends to `list` the profiles in a text of any release.
///
/// # Errors
/// The first item that is none; all others are in the list.
pub fn read_profiles(text: &[u8], list: &mut Vec<u8>) -> Result<(), TextError> {
    each_item(text, |item| {
        let (name, scope) = match item.name {
            [name @ .., b'/', b's'] => (name, Scope::Cachedb),
            [name @ .., b'/', b'b'] => (name, Scope::Bin),
            name => (name, Scope::Local),
        };
        // A profile is never in a number.
        if item.tag != TEXT || name.is_empty() {
            return false;
        }
        put_unescaped(list, name);
        list.push(scope as u8);
        put_unescaped(list, item.value);
        true
    })
}

/// Appends to `text` what `release` sends for a list of values. Up to 3.3 a number is its decimal text.
pub fn write_values(list: &[u8], release: Release, text: &mut Vec<u8>) {
    for (name, value) in values(list) {
        put_escaped(text, name);
        let typed = release >= Release::V3_4;
        match value {
            VarValue::Gone => unreachable!("no list has one"),
            VarValue::Str(value) => {
                text.extend_from_slice(if typed { b"#1#" } else { b"#" });
                put_escaped(text, value);
            }
            VarValue::Int(number) => {
                text.extend_from_slice(if typed { b"#2#" } else { b"#" });
                put_decimal(text, number);
            }
        }
        text.push(b'|');
    }
}

/// Appends to `text` what `release` sends for a list of profiles. 1.x knows no `/b`.
pub fn write_profiles(list: &[u8], release: Release, text: &mut Vec<u8>) {
    for (name, scope, value) in profiles(list) {
        put_escaped(text, name);
        text.extend_from_slice(match scope {
            Scope::Cachedb => b"/s",
            Scope::Bin if release > Release::V1x => b"/b",
            Scope::Bin | Scope::Local => b"",
        });
        let typed = release >= Release::V3_4;
        text.extend_from_slice(if typed { b"#1#" } else { b"#" });
        put_escaped(text, value);
        text.push(b'|');
    }
}

/// See [`values`]: name and value, in order, never [`VarValue::Gone`].
#[derive(Debug, Clone)]
pub struct Values<'a> {
    rest: &'a [u8],
}

/// See [`profiles`]: name, who shares it, value.
#[derive(Debug, Clone)]
pub struct Profiles<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = (&'a [u8], VarValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = std::mem::take(&mut self.rest);
        let name = take_str(&mut rest)?;
        let value = match take_tag(&mut rest)? {
            TEXT => VarValue::Str(take_str(&mut rest)?),
            NUMBER => {
                let number = unzigzag(take_varint(&mut rest).ok()?);
                VarValue::Int(i32::try_from(number).ok()?)
            }
            _ => return None,
        };
        self.rest = rest;
        Some((name, value))
    }
}

impl<'a> Iterator for Profiles<'a> {
    type Item = (&'a [u8], Scope, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = std::mem::take(&mut self.rest);
        let name = take_str(&mut rest)?;
        let tag = take_tag(&mut rest)?;
        let scope = [Scope::Local, Scope::Cachedb, Scope::Bin]
            .into_iter()
            .find(|scope| *scope as u8 == tag)?;
        let value = take_str(&mut rest)?;
        self.rest = rest;
        Some((name, scope, value))
    }
}

impl FusedIterator for Values<'_> {}
impl FusedIterator for Profiles<'_> {}

/// One item of a text, still escaped.
struct Item<'a> {
    name: &'a [u8],
    tag: u8,
    value: &'a [u8],
}

/// Gives each item of `text` to `take`, which says whether it could be used.
fn each_item(text: &[u8], mut take: impl FnMut(Item<'_>) -> bool) -> Result<(), TextError> {
    let mut wrong = None;
    let mut at = 0;
    let mut number = 0;
    while at < text.len() {
        let (item, len) = item(&text[at..]);
        if !item.is_some_and(&mut take) {
            wrong = wrong.or(Some(TextError { item: number, at }));
        }
        at += len;
        number += 1;
    }
    wrong.map_or(Ok(()), Err)
}

/// The item at the head of `text`, if it is one, and its length, `|` included.
fn item(text: &[u8]) -> (Option<Item<'_>>, usize) {
    let mut marks = [0; 2];
    let mut found = 0;
    let mut at = 0;
    loop {
        at += plain(text.get(at..).unwrap_or_default());
        match text.get(at) {
            None => return (None, text.len()),
            Some(b'|') => break,
            Some(b'#') => {
                if let Some(mark) = marks.get_mut(found) {
                    *mark = at;
                }
                found += 1;
                at += 1;
            }
            Some(_) => at += 2,
        }
    }
    let (tag, value) = match (found, &text[marks[0]..at]) {
        (1, [_, value @ ..]) => (TEXT, value),
        (2, [_, b'1', b'#', value @ ..]) => (TEXT, value),
        (2, [_, b'2', b'#', value @ ..]) => (NUMBER, value),
        _ => return (None, at + 1),
    };
    let name = &text[..marks[0]];
    let item = Item { name, tag, value };
    ((!name.is_empty()).then_some(item), at + 1)
}

fn put_str(list: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(list, bytes.len() as u64);
    list.extend_from_slice(bytes);
}

fn put_unescaped(list: &mut Vec<u8>, escaped: &[u8]) {
    if !escaped.contains(&b'\\') {
        return put_str(list, escaped);
    }
    put_varint(list, unescaped(escaped).count() as u64);
    list.extend(unescaped(escaped));
}

/// A `\` goes where it stands before one of the three that are escaped; elsewhere it is itself.
fn unescaped(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        if let [b'\\', b'\\' | b'#' | b'|', ..] = rest {
            rest = &rest[1..];
        }
        let (first, behind) = rest.split_first()?;
        rest = behind;
        Some(*first)
    })
}

fn put_escaped(text: &mut Vec<u8>, mut bytes: &[u8]) {
    loop {
        let (copied, rest) = bytes.split_at(plain(bytes));
        text.extend_from_slice(copied);
        let Some((mark, rest)) = rest.split_first() else {
            return;
        };
        text.extend([b'\\', *mark]);
        bytes = rest;
    }
}

/// How many bytes there are before the first that is escaped.
fn plain(text: &[u8]) -> usize {
    let is_mark = |byte: &u8| matches!(byte, b'|' | b'#' | b'\\');
    // All of a chunk are looked at: that takes few instructions for all of them together.
    let chunks = text.chunks_exact(16);
    let clean =
        chunks.take_while(|chunk| !chunk.iter().fold(false, |any, byte| any | is_mark(byte)));
    let at = 16 * clean.count();
    let rest = &text[at..];
    at + rest.iter().position(is_mark).unwrap_or(rest.len())
}

fn put_decimal(text: &mut Vec<u8>, number: i32) {
    use std::io::Write as _;
    write!(text, "{number}").expect("a Vec takes all");
}

fn take_str<'a>(list: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_varint(list).ok()?;
    let (bytes, rest) = list.split_at_checked(usize::try_from(len).ok()?)?;
    *list = rest;
    Some(bytes)
}

fn take_tag(list: &mut &[u8]) -> Option<u8> {
    let (tag, rest) = list.split_first()?;
    *list = rest;
    Some(*tag)
}

const TEXT: u8 = 1;
const NUMBER: u8 = 2;

#[cfg(test)]
mod tests;
