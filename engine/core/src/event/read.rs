//! Datagrams as events: those of all [`Form`](crate::event::Form)s, whoever sent them.
//!
//! What begins with `{` is a JSON-RPC notification, all else is text: a name, lines, an empty line. The two texts differ in
//! backslashes before quotes alone, which nothing on the wire tells; so [`read_as`](crate::event::read::read_as) is told, and [`read`](crate::event::read::read()) takes [`Form::Text`](crate::event::Form::Text).
//!
//! Text says neither whether a value is a number nor whether it is empty or not there: all are [`Value::Str`](crate::event::Value::Str).
//!
//! Whatever comes, reading takes time and memory in proportion to it.

use std::borrow::Cow;

use super::write::SEPARATOR;
use super::{Event, Form, Param, Value};

/// JSON.
mod json;

/// Why a datagram is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It does not begin with the name of an event.
    #[error("the name of an event expected as the first line")]
    NoName,
    /// Its end is missing: it was cut, or it is something else.
    #[error("the event has no end: an empty line expected as the last one")]
    NoEnd,
    /// It is no JSON-RPC notification.
    #[error("byte {at}: {expected} expected")]
    Json {
        /// Offset in the datagram.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
}

/// Reads a datagram in any form; a text as [`Form::Text`].
///
/// # Errors
/// [`ReadError`].
pub fn read(datagram: &[u8]) -> Result<Event<'_>, ReadError> {
    read_as(Form::Text, datagram)
}

/// Reads a datagram in any form; a text as one of `form`, if that is a text.
///
/// # Errors
/// [`ReadError`].
pub fn read_as(form: Form, datagram: &[u8]) -> Result<Event<'_>, ReadError> {
    if datagram.starts_with(b"{") {
        return json::event(datagram);
    }
    let name_len = datagram.iter().position(|byte| *byte == b'\n');
    let name_len = name_len.filter(|len| *len > 0).ok_or(ReadError::NoName)?;
    let (name, rest) = datagram.split_at(name_len);
    if !rest.ends_with(b"\n\n") {
        return Err(ReadError::NoEnd);
    }
    let mut event = Event::new(name);
    let mut lines = &rest[1..rest.len() - 1];
    while !lines.is_empty() {
        let (param, len) = param(form, lines);
        event.params.push(param);
        lines = &lines[len..];
    }
    Ok(event)
}

/// The members of a JSON object, whose values are numbers, texts and null; `None`: it is none.
pub(super) fn members(object: &[u8]) -> Option<Vec<Param<'_>>> {
    json::members(object).ok()
}

/// The parameter that `lines` begin with, which end with a line feed; and its length, that included.
fn param(form: Form, lines: &[u8]) -> (Param<'_>, usize) {
    let line_len = lines.iter().position(|byte| *byte == b'\n');
    let line = &lines[..line_len.unwrap_or(lines.len())];
    let name_len = match line.first() {
        Some(b'"') => None,
        _ => { line.windows(SEPARATOR.len()) }.position(|two| two == SEPARATOR),
    };
    let name_len = name_len.filter(|len| *len > 0);
    let at = name_len.map_or(0, |len| len + SEPARATOR.len());
    let name = name_len.map(|len| Cow::Borrowed(&line[..len]));
    let (value, len) = match quoted(form, &lines[at..]) {
        Some((value, len)) => (value, at + len),
        // It only looks so: 1.11 quotes for line feeds alone.
        None => (Cow::Borrowed(&line[at..]), line.len()),
    };
    let value = Value::Str(value);
    (Param { name, value }, len + 1)
}

/// The text in quotes that `bytes` begin with, and its length with both of them; `None`: they begin with none that a line feed
/// follows.
///
/// The first quote that no backslash makes a part of the text ends it, either way. So what is looked at in vain is looked at once
/// more, and no more often.
fn quoted(form: Form, bytes: &[u8]) -> Option<(Cow<'_, [u8]>, usize)> {
    let inner = bytes.strip_prefix(b"\"")?;
    let mut text = Vec::new();
    // Up to here it is in `text`; and backslashes right before.
    let (mut taken, mut backslashes) = (0, 0);
    for (at, byte) in inner.iter().enumerate() {
        match byte {
            b'\\' => backslashes += 1,
            b'"' => {
                // Of those before a quote each stands for itself twice, or, in the old form, all but the last for themselves.
                let (kept, is_part) = match form {
                    Form::V1_11 => (backslashes - backslashes.min(1), backslashes > 0),
                    Form::Text | Form::JsonRpc => (backslashes / 2, backslashes % 2 == 1),
                };
                let end = at - backslashes + kept;
                if !is_part {
                    let has_end = inner.get(at + 1) == Some(&b'\n');
                    let text = match taken {
                        0 => Cow::Borrowed(&inner[..end]),
                        _ => {
                            text.extend_from_slice(&inner[taken..end]);
                            Cow::Owned(text)
                        }
                    };
                    return has_end.then_some((text, at + 2));
                }
                text.extend_from_slice(&inner[taken..end]);
                // It comes with what follows it.
                (taken, backslashes) = (at, 0);
            }
            _ => backslashes = 0,
        }
    }
    None
}

#[cfg(test)]
mod tests;
