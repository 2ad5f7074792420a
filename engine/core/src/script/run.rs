//! The interpreter: one run of a route, from its first instruction to its end.

use std::fmt;
use std::sync::Arc;

use super::functions::Host;
use super::program::{Compare, Op, Program, Told};
use super::scene::Scene;
use super::tree::Operand;
use super::variable::Variable;
use frame::Frame;
use tell::Paper;

/// What operands are worth.
mod frame;
/// What is said, raised and subscribed to.
mod tell;

pub use tell::RAISE_PARAMS_MAX;

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
            paper: Paper::new(has_lines, has_bytes),
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

/// Instructions of one run: 16 us of calls of routes, 33 of comparisons (`cargo bench -p binrush-engine --bench script`, two cores of an
/// EPYC), and as long as it takes what they call: a line is a quarter of a microsecond each time.
pub const STEPS_MAX: usize = 10_000;
