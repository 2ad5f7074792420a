//! Trees to instructions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Level;
use super::functions::{FunctionId, Functions};
use super::program::{Compare, Entry, Log, Op, Program, Raise, Subscribe, Told};
use super::resolve::{LinkError, Wrong};
use super::tree::{Call, Callee, Condition, Operand, Said, Script, Statement};
use crate::config::PROBLEMS_MAX;

impl Program {
    /// Finds the functions of `script` and prepares its calls, in the order of the text.
    ///
    /// # Errors
    /// Calls of what is not there, or not in such a route, or not with so many parameters; and what a function says of its
    /// parameters. What was prepared by then is taken back.
    pub fn link(script: &Script, functions: Arc<dyn Functions>) -> Result<Self, LinkError> {
        let found = script.resolve(&*functions);
        let resolved = found.map_err(|problems| LinkError { problems })?;
        let mut program = Linker::new(script, &resolved).program(functions);
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
    /// Where each of them is: a long script has many.
    known: HashMap<Operand, u32>,
    compares: Vec<Compare>,
    logs: Vec<Log>,
    raises: Vec<Raise>,
    /// The events of these, and where each is.
    raised: Vec<String>,
    numbered: HashMap<&'a str, u32>,
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
            known: HashMap::new(),
            compares: Vec::new(),
            logs: Vec::new(),
            raises: Vec::new(),
            raised: Vec::new(),
            numbered: HashMap::new(),
            subscribes: Vec::new(),
            // The first labels are those of the routes, so that calls need not know yet where these are.
            labels: vec![0; script.routes.len()],
        }
    }

    fn program(mut self, functions: Arc<dyn Functions>) -> Program {
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
            raised: self.raised.into(),
            subscribes: self.subscribes.into(),
            calls: Vec::with_capacity(self.resolved.len()),
            called: called.collect(),
            routes: routes.into(),
            slots: self.script.slots,
            functions,
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
                let raise = self.raise(event, params);
                self.raises.push(raise);
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

    fn raise(&mut self, event: &'a str, params: &'a [(Option<String>, Said)]) -> Raise {
        let params = params.iter().map(|(name, said)| {
            let told = match said {
                Said::Value(operand) => Told::Operand(self.operand(operand)),
                Said::Bytes(format) => Told::Bytes(format.clone()),
            };
            (name.clone(), told)
        });
        let params = params.collect();
        let next = number(self.raised.len());
        let event = *self.numbered.entry(event).or_insert_with(|| {
            self.raised.push(event.to_owned());
            next
        });
        Raise { event, params }
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
        if let Some(index) = self.known.get(operand) {
            return *index;
        }
        let index = number(self.operands.len());
        self.operands.push(operand.clone());
        self.known.insert(operand.clone(), index);
        index
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
