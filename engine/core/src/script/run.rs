//! The interpreter: one run of a route, from its first instruction to its end.

use std::fmt;
use std::sync::Arc;

use super::format::{Format, Piece};
use super::functions::Host;
use super::program::{Compare, Op, Program, Told};
use super::scene::Scene;
use super::tree::Operand;
use super::value::{Short, Value};
use super::variable::Variable;
use crate::event::{self, Param};

/// What runs a program's routes, one at a time, on one thread: its registers, which are used again.
pub(super) struct Runner {
    program: Arc<Program>,
    /// `$var`, by number.
    slots: Box<[Slot]>,
    /// Where routes go back to.
    stack: Box<[u32; DEPTH_MAX]>,
    host: Arc<dyn Host>,
    paper: Paper,
}

/// What is told is written here first.
struct Paper {
    /// A line.
    text: String,
    /// Values of an event that stand side by side.
    bytes: Vec<u8>,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct End {
    /// It ended by `drop`.
    pub(super) dropped: bool,
    /// It was ended after [`STEPS_MAX`] instructions.
    pub(super) endless: bool,
    /// Calls of routes that were too deep, and returned -1.
    pub(super) too_deep: u32,
    /// Comparisons of a text with a number, which made their conditions false.
    pub(super) incomparable: u32,
    /// Events whose values were longer than any event may be, and which were not raised.
    pub(super) overlong: u32,
}

impl End {
    /// The same of a run for no packet, where `drop` is `exit` (1.11 `action.c`: who runs timer and event routes does not ask).
    pub(super) const fn without_packet(self) -> Self {
        Self {
            dropped: false,
            ..self
        }
    }
}

/// What a `$var` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Null,
    Int(i32),
    /// An operand that stays the same for the whole run: a text of the script, or what the packet or the event says.
    Operand(u32),
}

impl Runner {
    /// All its memory is taken here.
    #[must_use]
    pub(super) fn new(program: Arc<Program>, host: Arc<dyn Host>) -> Self {
        let values = program.raises.iter().flat_map(|raise| &raise.params);
        let mut bytes = values.filter(|(_, told)| matches!(told, Told::Bytes(_)));
        let has_bytes = bytes.next().is_some();
        let has_lines = !program.logs.is_empty();
        Self {
            slots: vec![Slot::Null; program.slots].into(),
            stack: Box::new([0; DEPTH_MAX]),
            host,
            paper: Paper {
                text: String::with_capacity(if has_lines { TEXT_MAX } else { 0 }),
                bytes: Vec::with_capacity(if has_bytes { VALUES_MAX } else { 0 }),
            },
            program,
        }
    }

    /// Runs from the instruction `at` to the end of the script.
    #[inline]
    pub(super) fn run(&mut self, at: u32, scene: &Scene<'_>) -> End {
        let mut end = End::default();
        let Self {
            program,
            slots,
            stack,
            host,
            paper,
            ..
        } = self;
        let program = &**program;
        slots.fill(Slot::Null);
        let (mut at, mut depth, mut code) = (at as usize, 0, 1);
        for _ in 0..STEPS_MAX {
            let op = program.ops[at];
            at += 1;
            match op {
                Op::Function(call) => {
                    code = program.calls[call as usize].call(scene);
                    if code == 0 {
                        return end;
                    }
                }
                Op::Enter(target) => match stack.get_mut(depth) {
                    Some(back) => {
                        *back = u32::try_from(at).unwrap_or(u32::MAX);
                        depth += 1;
                        at = target as usize;
                    }
                    None => {
                        end.too_deep += 1;
                        code = -1;
                    }
                },
                Op::Leave => {
                    if depth == 0 || code == 0 {
                        return end;
                    }
                    depth -= 1;
                    at = stack[depth] as usize;
                }
                Op::Set { slot, operand } => {
                    slots[usize::from(slot)] = match &program.operands[operand as usize] {
                        Operand::Null => Slot::Null,
                        Operand::Int(value) => Slot::Int(*value),
                        Operand::Variable(Variable::Slot(other)) => slots[usize::from(*other)],
                        Operand::Variable(Variable::ReturnCode) => Slot::Int(code),
                        Operand::Text(_) | Operand::Variable(_) => Slot::Operand(operand),
                    };
                    code = 1;
                }
                Op::Truth { operand, yes, no } => {
                    let frame = Frame::new(program, slots, code, scene);
                    let is_true = frame.operand(operand).is_true();
                    at = if is_true { yes } else { no } as usize;
                }
                Op::Compare(index) => {
                    let compare = &program.compares[index as usize];
                    let frame = Frame::new(program, slots, code, scene);
                    let Compare { yes, no, wrong, .. } = *compare;
                    at = match frame.compare(compare) {
                        Some(true) => yes,
                        Some(false) => no,
                        None => {
                            end.incomparable += 1;
                            wrong
                        }
                    } as usize;
                }
                Op::Branch { yes, no } => at = if code > 0 { yes } else { no } as usize,
                Op::Jump(target) => at = target as usize,
                Op::Code(value) => code = value,
                Op::CodeOf(operand) => {
                    let frame = Frame::new(program, slots, code, scene);
                    code = frame.operand(operand).as_code();
                }
                Op::Exit => return end,
                Op::Drop => {
                    end.dropped = true;
                    return end;
                }
                // Whoever wants to hear of packets pays for it: out of the way of the rest.
                Op::Log(_) | Op::Raise(_) | Op::Subscribe(_) => {
                    let frame = Frame::new(program, slots, code, scene);
                    code = frame.tell(op, &**host, paper, &mut end);
                    if code == 0 {
                        return end;
                    }
                }
            }
        }
        end.endless = true;
        end
    }
}

/// An event's values are longer than any event may be.
struct Overlong;

/// What operands are worth at one moment of a run.
struct Frame<'r> {
    program: &'r Program,
    slots: &'r [Slot],
    code: i32,
    scene: &'r Scene<'r>,
}

impl<'r> Frame<'r> {
    #[inline]
    const fn new(program: &'r Program, slots: &'r [Slot], code: i32, scene: &'r Scene<'r>) -> Self {
        Self {
            program,
            slots,
            code,
            scene,
        }
    }

    #[inline]
    fn operand(&self, index: u32) -> Value<'r> {
        match &self.program.operands[index as usize] {
            Operand::Null => Value::Null,
            Operand::Int(value) => Value::Int(*value),
            Operand::Text(text) => Value::Text(text.as_bytes()),
            Operand::Variable(variable) => self.variable(variable),
        }
    }

    #[inline]
    fn variable(&self, variable: &'r Variable) -> Value<'r> {
        match variable {
            Variable::Packet(pseudo) => self.scene.value(*pseudo),
            Variable::Slot(slot) => match self.slots[usize::from(*slot)] {
                Slot::Null => Value::Null,
                Slot::Int(value) => Value::Int(value),
                // It is no slot: those are copied.
                Slot::Operand(index) => self.operand(index),
            },
            Variable::ReturnCode => Value::Int(self.code),
            Variable::Param(name) => {
                let event = self.scene.event();
                let mut params = event.into_iter().flat_map(|event| &event.params);
                value(params.find(|param| param.name.as_deref() == Some(name.as_bytes())))
            }
            Variable::ParamAt(index) => {
                let event = self.scene.event();
                value(event.and_then(|event| event.params.get(*index)))
            }
        }
    }

    fn compare(&self, compare: &Compare) -> Option<bool> {
        let (left, right) = (self.operand(compare.left), self.operand(compare.right));
        let right_is = &self.program.operands[compare.right as usize];
        let is_constant = matches!(right_is, Operand::Int(_));
        left.compare(compare.how, right, is_constant).ok()
    }

    /// What the process does for scripts.
    #[inline(never)]
    fn tell(&self, op: Op, host: &dyn Host, paper: &mut Paper, end: &mut End) -> i32 {
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

/// What an event says there. A number that is none for scripts was made a text on its way.
fn value<'r>(param: Option<&'r Param<'_>>) -> Value<'r> {
    match param.map(|param| &param.value) {
        None | Some(event::Value::Null) => Value::Null,
        Some(event::Value::Int(number)) => i32::try_from(*number).map_or(Value::Null, Value::Int),
        Some(event::Value::Str(text)) => Value::Text(text),
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// Calls of routes in each other, as in OpenSIPS: `ROUTE_MAX_REC_LEV` (1.11 `config.h`) is 100, and the route that calls first is one of
/// them (`action.c`, `run_actions`). One more returns -1.
pub const DEPTH_MAX: usize = 99;

/// Instructions of one run: some ten microseconds, or as long as the functions take that it calls.
pub const STEPS_MAX: usize = 10_000;

/// Bytes of a line, as the default of OpenSIPS (`xlog_buf_size`).
const TEXT_MAX: usize = 4096;

/// Bytes of all values of an event that are put together: more than the longest event has that can be sent.
const VALUES_MAX: usize = 64 << 10;

/// Parameters of an event that a script raises.
pub const RAISE_PARAMS_MAX: usize = 5;

/// As OpenSIPS shows what has no value.
const NULL: &str = "<null>";
