//! A script as it was written, with all names but those of functions resolved.

use std::collections::BTreeSet;

use super::format::Format;
use super::variable::Variable;
use super::{Kind, Level};
use crate::config::Excerpt;

/// The routes of a configuration: known to be well formed, and to call no route that is not there.
///
/// ```text
/// script    := { route }
/// route     := ( "route" [ "[" name "]" ] | "startup_route" | "timer_route" "[" name "," seconds "]" | "event_route" "[" event "]" ) block
/// block     := "{" { statement } "}"
/// statement := call ";" | "$var(" name ") =" value ";" | if | "return" [ "(" [ value ] ")" ] ";" | "exit" ";" | "drop" ";" | ";"
/// if        := "if" condition ( block | statement ) [ "else" ( block | statement ) ]
/// condition := term { ( "&&" | "||" ) term }                              from left to right
/// term      := "!" term | "(" condition ")" | call | value [ comparison value ]
/// call      := name "(" [ parameter { "," parameter } ] ")"               six parameters at most
/// value     := number | string | variable | "null"
/// ```
///
/// Plain data. Two are equal that do the same, wherever it stands: a comment makes no other script. Which functions there are is known where modules are loaded: [`Program::link`](super::Program::link) asks for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// In the order of the text. A call of a route is an index into these.
    pub(crate) routes: Vec<Route>,
    /// How many different `$var` there are.
    pub(crate) slots: usize,
}

/// A block. Where it stands makes no difference between two.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) kind: Kind,
    /// What stands between its brackets; `None`: the request route, or the startup route.
    pub(crate) name: Option<String>,
    /// Of a timer route, how often it runs; at least 1.
    pub(crate) seconds: u32,
    /// Its keyword and brackets.
    pub(crate) excerpt: Excerpt,
    pub(crate) body: Vec<Statement>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    Call(Call),
    /// The first whose condition holds, or else the rest.
    If {
        branches: Vec<(Condition, Vec<Self>)>,
        otherwise: Vec<Self>,
    },
    /// `$var(name) = value;`
    Set {
        slot: u16,
        value: Operand,
    },
    /// `return;` is `return(1);`
    Return(Operand),
    Exit,
    Drop,
}

/// A call, and where it stands, which makes no difference between two.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) callee: Callee,
    pub(crate) excerpt: Excerpt,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Callee {
    /// By its index.
    Route(usize),
    Log {
        level: Level,
        text: Format,
    },
    Raise {
        event: String,
        params: Vec<(Option<String>, Said)>,
    },
    Subscribe {
        event: String,
        socket: String,
        expire: Option<u32>,
    },
    /// What a module exports.
    Function {
        name: String,
        params: Vec<String>,
    },
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// What something is worth, as it is.
    Value(Operand),
    /// What stands side by side, as bytes.
    Bytes(Format),
}

/// What may stand behind `if`. An operand by itself is true unless it is null, 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Call(Call),
    Operand(Operand),
    Compare {
        left: Operand,
        how: Comparison,
        right: Operand,
    },
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    Null,
    Int(i32),
    Text(String),
    Variable(Variable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Differs,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

impl Script {
    /// Whether there is nothing to run.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Whether received packets go through a script.
    #[must_use]
    pub fn has_request_route(&self) -> bool {
        self.entries(Kind::Request).next().is_some()
    }

    /// Its routes as they are named, such as `timer_route[gw, 60]`, in the order of the text.
    pub fn names(&self) -> impl ExactSizeIterator<Item = String> {
        self.routes.iter().map(Route::title)
    }

    /// The events that have a route.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        let routes = self.routes.iter();
        let routes = routes.filter(|route| route.kind == Kind::Event);
        routes.filter_map(|route| route.name.as_deref())
    }

    /// The functions that it calls, each once, in the order of the text. Whether modules have them, [`check`](Self::check) finds out.
    #[must_use]
    pub fn functions(&self) -> Vec<&str> {
        let (mut calls, mut seen) = (Vec::new(), BTreeSet::new());
        let statements = self.routes.iter().flat_map(|route| &route.body);
        statements.for_each(|each| each.calls(&mut calls));
        let names = calls.into_iter().filter_map(|call| match &call.callee {
            Callee::Function { name, .. } => Some(&**name),
            _ => None,
        });
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// The events that it raises.
    pub fn raised(&self) -> impl Iterator<Item = &str> {
        let mut calls = Vec::new();
        let statements = self.routes.iter().flat_map(|route| &route.body);
        statements.for_each(|each| each.calls(&mut calls));
        calls.into_iter().filter_map(|call| match &call.callee {
            Callee::Raise { event, .. } => Some(&**event),
            _ => None,
        })
    }

    /// Where routes of this kind begin that run without being called, by index.
    pub(crate) fn entries(&self, kind: Kind) -> impl Iterator<Item = usize> {
        let routes = self.routes.iter().enumerate();
        let entries = routes.filter(move |(_, route)| route.kind == kind && route.is_entry());
        entries.map(|(index, _)| index)
    }
}

impl Route {
    /// Whether it runs without being called.
    pub(crate) const fn is_entry(&self) -> bool {
        !matches!(self.kind, Kind::Request) || self.name.is_none()
    }

    /// As it is written.
    pub(crate) fn title(&self) -> String {
        let keyword = self.kind.keyword();
        match (&self.name, self.kind) {
            (None, _) => keyword.to_owned(),
            (Some(name), Kind::Timer) => format!("{keyword}[{name}, {}]", self.seconds),
            (Some(name), _) => format!("{keyword}[{name}]"),
        }
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        // Each by name, so that a part that is new cannot be forgotten here.
        let Self {
            kind,
            name,
            seconds,
            excerpt: _,
            body,
        } = self;
        (kind, name, seconds, body) == (&other.kind, &other.name, &other.seconds, &other.body)
    }
}

impl Eq for Route {}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        let Self { callee, excerpt: _ } = self;
        *callee == other.callee
    }
}

impl Eq for Call {}

impl Statement {
    /// The calls in it and in what it encloses, in the order of the text.
    pub(crate) fn calls<'a>(&'a self, found: &mut Vec<&'a Call>) {
        match self {
            Self::Call(call) => found.push(call),
            Self::If {
                branches,
                otherwise,
            } => {
                for (condition, then) in branches {
                    condition.calls(found);
                    then.iter().for_each(|each| each.calls(found));
                }
                otherwise.iter().for_each(|each| each.calls(found));
            }
            Self::Set { .. } | Self::Return(_) | Self::Exit | Self::Drop => {}
        }
    }
}

impl Statement {
    /// [`calls`](Self::calls), to be changed.
    pub(crate) fn each_call(&mut self, change: &mut impl FnMut(&mut Call)) {
        match self {
            Self::Call(call) => change(call),
            Self::If {
                branches,
                otherwise,
            } => {
                for (condition, then) in branches {
                    condition.each_call(change);
                    then.iter_mut().for_each(|each| each.each_call(change));
                }
                otherwise.iter_mut().for_each(|each| each.each_call(change));
            }
            Self::Set { .. } | Self::Return(_) | Self::Exit | Self::Drop => {}
        }
    }

    /// Whether nothing behind it is ever reached.
    pub(crate) fn ends(&self) -> bool {
        let ends = |block: &[Self]| block.iter().any(Self::ends);
        match self {
            Self::Return(_) | Self::Exit | Self::Drop => true,
            Self::If {
                branches,
                otherwise,
            } => ends(otherwise) && branches.iter().all(|(_, then)| ends(then)),
            Self::Call(_) | Self::Set { .. } => false,
        }
    }
}

impl Condition {
    fn each_call(&mut self, change: &mut impl FnMut(&mut Call)) {
        match self {
            Self::Call(call) => change(call),
            Self::Operand(_) | Self::Compare { .. } => {}
            Self::Not(inner) => inner.each_call(change),
            Self::And(left, right) | Self::Or(left, right) => {
                left.each_call(change);
                right.each_call(change);
            }
        }
    }

    fn calls<'a>(&'a self, found: &mut Vec<&'a Call>) {
        match self {
            Self::Call(call) => found.push(call),
            Self::Operand(_) | Self::Compare { .. } => {}
            Self::Not(inner) => inner.calls(found),
            Self::And(left, right) | Self::Or(left, right) => {
                left.calls(found);
                right.calls(found);
            }
        }
    }
}

impl Comparison {
    /// Whether it holds for two values that compare as `order`.
    pub(crate) const fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Differs => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::Greater => order.is_gt(),
            Self::LessOrEqual => order.is_le(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}
