//! Names to functions, trees to instructions.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::functions::{FunctionId, Functions, Host, Unresolved};
use super::program::{Compare, Entry, Log, Op, Program, Raise, Subscribe};
use super::tree::{Call, Callee, Condition, Operand, Script, Statement};
use super::{Kind, Level};
use crate::config::{Excerpt, PROBLEMS_MAX, did_you_mean, quoted};

/// A script that cannot run with the functions there are: its first problems.
///
/// Displayed as those of a configuration are: `file:line:column: what is wrong`, with the line and a mark below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkError {
    /// At least one, at most [`PROBLEMS_MAX`].
    pub problems: Vec<Wrong>,
}

/// One call that is not possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Where.
    pub excerpt: Excerpt,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Program {
    /// Finds the functions of `script` and prepares its calls, in the order of the text.
    ///
    /// # Errors
    /// Calls of what is not there, or not in such a route, or not with so many parameters; and what a function says of its
    /// parameters. What was prepared by then is taken back.
    pub fn link(
        script: &Script,
        functions: Arc<dyn Functions>,
        host: Arc<dyn Host>,
    ) -> Result<Self, LinkError> {
        let found = script.resolve(&*functions);
        let resolved = found.map_err(|problems| LinkError { problems })?;
        let mut program = Linker::new(script, &resolved).program(functions, host);
        let mut problems = Vec::new();
        for (call, function) in &resolved {
            let Callee::Function { name, params } = &call.callee else {
                unreachable!("only functions were looked for")
            };
            match program.functions.prepare(*function, params) {
                Ok(prepared) => program.calls.push(prepared),
                Err(why) => problems.push(Wrong {
                    excerpt: call.excerpt.clone(),
                    message: format!("{name}: {why}"),
                }),
            }
            if problems.len() == PROBLEMS_MAX {
                break;
            }
        }
        match problems.is_empty() {
            true => Ok(program),
            // Dropping it takes back what was prepared.
            false => Err(LinkError { problems }),
        }
    }
}

impl Script {
    /// What is wrong with calls of functions when there are those of `functions`.
    #[must_use]
    pub fn check(&self, functions: &dyn Functions) -> Vec<Wrong> {
        self.resolve(functions).err().unwrap_or_default()
    }

    /// The calls of functions in the order of the text, each with its function.
    fn resolve(&self, functions: &dyn Functions) -> Result<Vec<(&Call, FunctionId)>, Vec<Wrong>> {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for route in &self.routes {
            let mut calls = Vec::new();
            route.body.iter().for_each(|each| each.calls(&mut calls));
            for call in calls {
                let Callee::Function { name, params } = &call.callee else {
                    continue;
                };
                match functions.resolve(name, params.len(), route.kind) {
                    Ok(function) => found.push((call, function)),
                    Err(why) => {
                        let is_first = problems.is_empty();
                        problems.push(Wrong {
                            excerpt: call.excerpt.clone(),
                            message: told(name, params.len(), route.kind, why, functions, is_first),
                        });
                    }
                }
                if problems.len() == PROBLEMS_MAX {
                    return Err(problems);
                }
            }
        }
        if problems.is_empty() {
            Ok(found)
        } else {
            Err(problems)
        }
    }
}

/// What to say of a call of `name` with `count` parameters that is not possible.
fn told(
    name: &str,
    count: usize,
    kind: Kind,
    why: Unresolved,
    functions: &dyn Functions,
    is_first: bool,
) -> String {
    let name = quoted(name);
    match why {
        Unresolved::Unknown => {
            let known = functions.names();
            let known = known.iter().map(|name| &**name).chain(BUILT_IN);
            let near = did_you_mean(name.trim_matches('"'), known);
            let what = match is_first {
                true => {
                    ": no module that is loaded has it (of a script for SIP, `binrush import` takes what is about BIN)"
                }
                false => "",
            };
            format!("there is no function {name}{what}{near}")
        }
        Unresolved::Count(counts) => {
            format!(
                "{name} takes {}, not {count}",
                counted(&counts, "parameter")
            )
        }
        Unresolved::Route(kinds) => {
            let kinds: Vec<_> = kinds.into_iter().map(Kind::keyword).collect();
            let kinds = match &kinds[..] {
                [] => "in no route that there is here".to_owned(),
                kinds => format!("only in {}", kinds.join(", ")),
            };
            format!("{name} may not be called in a {kind}: {kinds}")
        }
    }
}

/// `1 or 3 parameters`.
pub(crate) fn counted(counts: &[usize], what: &str) -> String {
    let all: Vec<_> = counts.iter().map(ToString::to_string).collect();
    let plural = if counts == [1] { "" } else { "s" };
    format!("{} {what}{plural}", all.join(" or "))
}

impl std::error::Error for LinkError {}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Wrong { excerpt, message } = problem;
            write!(f, "{}: {message}\n{}", excerpt.place, excerpt.marked())?;
        }
        if self.problems.len() == PROBLEMS_MAX {
            write!(f, "\nthere may be more: these are the first {PROBLEMS_MAX}")?;
        }
        Ok(())
    }
}

/// A place in the instructions that is not known yet: an index of [`Linker::labels`].
type Label = u32;

/// Makes instructions. While it works, their targets are labels.
struct Linker<'a> {
    script: &'a Script,
    /// Functions of the calls, in the order of the text, and how many were taken.
    resolved: &'a [(&'a Call, FunctionId)],
    taken: usize,
    ops: Vec<Op>,
    operands: Vec<Operand>,
    compares: Vec<Compare>,
    logs: Vec<Log>,
    raises: Vec<Raise>,
    subscribes: Vec<Subscribe>,
    labels: Vec<u32>,
}

impl<'a> Linker<'a> {
    fn new(script: &'a Script, resolved: &'a [(&'a Call, FunctionId)]) -> Self {
        Self {
            script,
            resolved,
            taken: 0,
            ops: Vec::new(),
            operands: Vec::new(),
            compares: Vec::new(),
            logs: Vec::new(),
            raises: Vec::new(),
            subscribes: Vec::new(),
            // The first labels are those of the routes, so that calls need not know yet where these are.
            labels: vec![0; script.routes.len()],
        }
    }

    fn program(mut self, functions: Arc<dyn Functions>, host: Arc<dyn Host>) -> Program {
        let mut routes = Vec::new();
        for (index, route) in self.script.routes.iter().enumerate() {
            let first = self.taken;
            self.place(number(index));
            self.block(&route.body);
            self.ops.push(Op::Leave);
            routes.push(Entry {
                kind: route.kind,
                name: route.name.clone(),
                title: route.title(),
                seconds: route.seconds,
                is_entry: route.is_entry(),
                at: self.labels[index],
                calls: called(&route.body).into_iter().collect(),
                functions: first..self.taken,
            });
        }
        self.settle();
        let called = self.resolved.iter().map(|(_, function)| *function);
        Program {
            ops: self.ops.into(),
            operands: self.operands.into(),
            compares: self.compares.into(),
            logs: self.logs.into(),
            raises: self.raises.into(),
            subscribes: self.subscribes.into(),
            calls: Vec::with_capacity(self.resolved.len()),
            called: called.collect(),
            routes: routes.into(),
            slots: self.script.slots,
            functions,
            host,
        }
    }

    /// Statements one behind the other; the code behind them is what the last one returns.
    fn block(&mut self, statements: &'a [Statement]) {
        let Some((last, others)) = statements.split_last() else {
            return self.ops.push(Op::Code(1));
        };
        others.iter().for_each(|each| self.statement(each, false));
        self.statement(last, true);
    }

    /// `is_last`: of its block, so that what it returns counts.
    fn statement(&mut self, statement: &'a Statement, is_last: bool) {
        match statement {
            Statement::Call(call) => self.call(call),
            Statement::If {
                branches,
                otherwise,
            } => self.branches(branches, otherwise, is_last),
            Statement::Set { slot, value } => {
                let (slot, operand) = (*slot, self.operand(value));
                self.ops.push(Op::Set { slot, operand });
            }
            Statement::Return(Operand::Int(code)) => {
                self.ops.extend([Op::Code(*code), Op::Leave]);
            }
            Statement::Return(value) => {
                let operand = self.operand(value);
                self.ops.extend([Op::CodeOf(operand), Op::Leave]);
            }
            Statement::Exit => self.ops.push(Op::Exit),
            Statement::Drop => self.ops.push(Op::Drop),
        }
    }

    /// An `if` with all that `else if` adds.
    ///
    /// Where it does something, the code behind it is what that returned last. Where it does nothing, its block would go on with 1 (it is
    /// true that it was done), while `$rc` is what the condition was: 1, 0, or -1 of one without an answer. An `else if` is a block of
    /// its own, whose last statement it is. (1.11 `action.c`, IF_T: `ret` and `return_code`.)
    fn branches(
        &mut self,
        branches: &'a [(Condition, Vec<Statement>)],
        otherwise: &'a [Statement],
        is_last: bool,
    ) {
        let end = self.label();
        let tells = !is_last && branches.len() == 1 && otherwise.is_empty();
        for (condition, then) in branches {
            let [yes, no] = [(); 2].map(|()| self.label());
            let wrong = if tells { self.label() } else { no };
            let compares = self.compares.len();
            self.condition(condition, [yes, no, wrong]);
            self.place(yes);
            self.block(then);
            self.ops.push(Op::Jump(end));
            if tells && self.compares.len() > compares {
                self.place(wrong);
                self.ops.extend([Op::Code(-1), Op::Jump(end)]);
            }
            self.place(no);
        }
        match tells {
            true => self.ops.push(Op::Code(0)),
            false => self.block(otherwise),
        }
        self.place(end);
    }

    fn call(&mut self, call: &'a Call) {
        let op = match &call.callee {
            Callee::Route(index) => Op::Enter(number(*index)),
            Callee::Log { level, text } => {
                let (level, text): (Level, _) = (*level, text.clone());
                self.logs.push(Log { level, text });
                Op::Log(number(self.logs.len() - 1))
            }
            Callee::Raise { event, params } => {
                let (event, params) = (event.clone(), params.clone());
                self.raises.push(Raise { event, params });
                Op::Raise(number(self.raises.len() - 1))
            }
            Callee::Subscribe {
                event,
                socket,
                expire,
            } => {
                self.subscribes.push(Subscribe {
                    event: event.clone(),
                    socket: socket.clone(),
                    expire: *expire,
                });
                Op::Subscribe(number(self.subscribes.len() - 1))
            }
            Callee::Function { .. } => {
                self.taken += 1;
                Op::Function(number(self.taken - 1))
            }
        };
        self.ops.push(op);
    }

    /// Goes on at one of `yes`, `no`, and where the condition has no answer: what cannot be compared makes the whole of it
    /// false, whatever stands around it (1.11 `route.c`, `eval_expr`).
    fn condition(&mut self, condition: &'a Condition, to: [Label; 3]) {
        let [yes, no, wrong] = to;
        match condition {
            Condition::Call(call) => {
                self.call(call);
                self.ops.push(Op::Branch { yes, no });
            }
            Condition::Operand(operand) => {
                let operand = self.operand(operand);
                self.ops.push(Op::Truth { operand, yes, no });
            }
            Condition::Compare { left, how, right } => {
                let (left, right) = (self.operand(left), self.operand(right));
                self.compares.push(Compare {
                    left,
                    how: *how,
                    right,
                    yes,
                    no,
                    wrong,
                });
                self.ops.push(Op::Compare(number(self.compares.len() - 1)));
            }
            Condition::Not(inner) => self.condition(inner, [no, yes, wrong]),
            Condition::And(left, right) => {
                let both = self.label();
                self.condition(left, [both, no, wrong]);
                self.place(both);
                self.condition(right, to);
            }
            Condition::Or(left, right) => {
                let other = self.label();
                self.condition(left, [yes, other, wrong]);
                self.place(other);
                self.condition(right, to);
            }
        }
    }

    fn operand(&mut self, operand: &Operand) -> u32 {
        let known = self.operands.iter().position(|known| known == operand);
        let index = known.unwrap_or_else(|| {
            self.operands.push(operand.clone());
            self.operands.len() - 1
        });
        number(index)
    }

    fn label(&mut self) -> Label {
        self.labels.push(0);
        number(self.labels.len() - 1)
    }

    /// It is here.
    fn place(&mut self, label: Label) {
        self.labels[label as usize] = number(self.ops.len());
    }

    /// Puts the places of labels into the instructions.
    fn settle(&mut self) {
        let labels = &self.labels;
        let settle = |target: &mut u32| *target = labels[*target as usize];
        for op in &mut self.ops {
            match op {
                Op::Enter(target) | Op::Jump(target) => settle(target),
                Op::Branch { yes, no } | Op::Truth { yes, no, .. } => {
                    settle(yes);
                    settle(no);
                }
                _ => {}
            }
        }
        for compare in &mut self.compares {
            let Compare { yes, no, wrong, .. } = compare;
            [yes, no, wrong].into_iter().for_each(settle);
        }
    }
}

/// The routes that are called in `body`.
pub(crate) fn called(body: &[Statement]) -> BTreeSet<usize> {
    let mut calls = Vec::new();
    body.iter().for_each(|each| each.calls(&mut calls));
    let routes = calls.iter().filter_map(|call| match call.callee {
        Callee::Route(index) => Some(index),
        _ => None,
    });
    routes.collect()
}

/// A configuration has 4 MiB at most, so a script has fewer parts than this type has values.
fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a configuration is bounded")
}

/// What needs no module.
pub(crate) const BUILT_IN: [&str; 9] = [
    "xlog",
    "raise_event",
    "subscribe_event",
    "route",
    "if",
    "else",
    "return",
    "exit",
    "drop",
];
