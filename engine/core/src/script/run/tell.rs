//! What scripts say, raise and subscribe to.

use super::End;
use super::frame::Frame;
use crate::event::{self, Param};
use crate::script::format::{Format, Piece};
use crate::script::functions::Host;
use crate::script::program::{Op, Told};
use crate::script::value::{Short, Value};

/// What is told is written here first.
pub(super) struct Paper {
    /// A line.
    text: String,
    /// Values of an event that stand side by side.
    bytes: Vec<u8>,
}

impl Paper {
    /// With all the memory that it will need.
    pub(super) fn new(has_lines: bool, has_bytes: bool) -> Self {
        Self {
            text: String::with_capacity(if has_lines { TEXT_MAX } else { 0 }),
            bytes: Vec::with_capacity(if has_bytes { VALUES_MAX } else { 0 }),
        }
    }
}

/// An event's values are longer than any event may be.
struct Overlong;

impl<'r> Frame<'r> {
    /// What the process does for scripts.
    #[inline(never)]
    pub(super) fn tell(&self, op: Op, host: &dyn Host, paper: &mut Paper, end: &mut End) -> i32 {
        match op {
            Op::Log(index) => {
                let log = &self.program.logs[index as usize];
                if host.wants(log.level) {
                    paper.text.clear();
                    self.write(&log.text, &mut paper.text);
                    // Scripts end their lines themselves, and so does whoever prints them.
                    host.log(log.level, paper.text.trim_end_matches(['\n', '\r']));
                }
                1
            }
            Op::Raise(index) => {
                paper.bytes.clear();
                self.raise(index, host, &mut paper.bytes)
                    .unwrap_or_else(|Overlong| {
                        end.overlong += 1;
                        -1
                    })
            }
            Op::Subscribe(index) => {
                let subscribe = &self.program.subscribes[index as usize];
                let (event, socket) = (&subscribe.event, &subscribe.socket);
                host.subscribe(event, socket, subscribe.expire)
            }
            _ => unreachable!("whoever calls looked at it"),
        }
    }

    /// Raises an event that says what its values are: numbers as such, and bytes as they are.
    fn raise(&self, index: u32, host: &dyn Host, bytes: &mut Vec<u8>) -> Result<i32, Overlong> {
        let raise = &self.program.raises[index as usize];
        let mut ends = [0; RAISE_PARAMS_MAX];
        for ((_, told), end) in raise.params.iter().zip(&mut ends) {
            if let Told::Bytes(format) = told {
                self.join(format, bytes)?;
            }
            *end = bytes.len();
        }
        let mut params = [const { Param::unnamed(event::Value::Null) }; RAISE_PARAMS_MAX];
        let mut from = 0;
        for (((name, told), end), param) in raise.params.iter().zip(ends).zip(&mut params) {
            param.name = name.as_ref().map(|name| name.as_bytes().into());
            param.value = match told {
                Told::Bytes(_) => event::Value::Str(bytes[from..end].into()),
                Told::Operand(operand) => match self.operand(*operand) {
                    Value::Null => event::Value::Null,
                    Value::Int(value) => event::Value::Int(value.into()),
                    Value::Text(text) => event::Value::Str(text.into()),
                },
            };
            from = end;
        }
        let params = &params[..raise.params.len().min(RAISE_PARAMS_MAX)];
        let event = raise.event as usize;
        Ok(host.raise(event, &self.program.raised[event], params))
    }

    /// Adds what `format` is worth to `bytes`, side by side.
    fn join(&self, format: &'r Format, bytes: &mut Vec<u8>) -> Result<(), Overlong> {
        for piece in &format.pieces {
            let number;
            let more = match piece {
                Piece::Text(plain) => plain.as_bytes(),
                Piece::Variable(variable) => match self.variable(variable) {
                    Value::Null => NULL.as_bytes(),
                    Value::Int(value) => {
                        number = Short::of(value);
                        number.as_bytes()
                    }
                    Value::Text(text) => text,
                },
            };
            if bytes.len() + more.len() > VALUES_MAX {
                return Err(Overlong);
            }
            bytes.extend_from_slice(more);
        }
        Ok(())
    }

    /// Writes what `format` is worth as a line, which is cut between characters where it gets too long. What comes from the wire is
    /// escaped where it is not printable.
    fn write(&self, format: &'r Format, line: &mut String) {
        for piece in &format.pieces {
            let had_room = match piece {
                Piece::Text(plain) => push(line, plain.chars()),
                Piece::Variable(variable) => match self.variable(variable) {
                    Value::Null => push(line, NULL.chars()),
                    Value::Int(value) => {
                        let value = Short::of(value);
                        push(line, value.as_bytes().iter().copied().map(char::from))
                    }
                    Value::Text(bytes) => match str::from_utf8(bytes) {
                        Ok(known) => push(line, known.chars().flat_map(shown)),
                        Err(_) => push(line, bytes.escape_ascii().map(char::from)),
                    },
                },
            };
            if !had_room {
                return;
            }
        }
    }
}

/// Adds characters while there is room for them; whether there was for all.
fn push(line: &mut String, mut characters: impl Iterator<Item = char>) -> bool {
    characters.all(|c| {
        let has_room = line.len() + c.len_utf8() <= TEXT_MAX;
        if has_room {
            line.push(c);
        }
        has_room
    })
}

/// A character as a line may have it.
fn shown(c: char) -> impl Iterator<Item = char> {
    let byte = u8::try_from(c).ok().filter(|_| c.is_control());
    let escaped = byte.into_iter().flat_map(std::ascii::escape_default);
    let plain = byte.is_none().then_some(c);
    plain.into_iter().chain(escaped.map(char::from))
}

/// Bytes of a line, as the default of OpenSIPS (`xlog_buf_size`).
const TEXT_MAX: usize = 4096;

/// Bytes of all values of an event that are put together: more than the longest event has that can be sent.
const VALUES_MAX: usize = 64 << 10;

/// Parameters of an event that a script raises.
pub const RAISE_PARAMS_MAX: usize = 5;

/// As OpenSIPS shows what has no value.
const NULL: &str = "<null>";
