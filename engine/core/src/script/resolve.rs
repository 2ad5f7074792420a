//! Names to functions.

use std::fmt;

use super::Kind;
use super::functions::{FunctionId, Functions, Unresolved};
use super::link::called;
use super::tree::{Call, Callee, Route, Script};
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

impl Script {
    /// What is wrong with calls of functions when there are those of `functions`.
    #[must_use]
    pub fn check(&self, functions: &dyn Functions) -> Vec<Wrong> {
        self.resolve(functions).err().unwrap_or_default()
    }

    /// The calls of functions in the order of the text, each with its function.
    pub(super) fn resolve(
        &self,
        functions: &dyn Functions,
    ) -> Result<Vec<(&Call, FunctionId)>, Vec<Wrong>> {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        let callers = self.callers();
        for (route, callers) in self.routes.iter().zip(&callers) {
            let mut calls = Vec::new();
            route.body.iter().for_each(|each| each.calls(&mut calls));
            for call in calls {
                let Callee::Function { name, params } = &call.callee else {
                    continue;
                };
                let wanted = Wanted {
                    name,
                    count: params.len(),
                    functions,
                };
                match wanted.find(route, callers, problems.is_empty()) {
                    Ok(function) => found.push((call, function)),
                    Err(message) => problems.push(Wrong {
                        excerpt: call.excerpt.clone(),
                        message,
                    }),
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

    /// For each route, whence it is called, directly or by way of others: of each kind of route that runs by itself the first.
    fn callers(&self) -> Vec<Vec<&Route>> {
        let mut callers = vec![Vec::new(); self.routes.len()];
        let calls: Vec<_> = self.routes.iter().map(|each| called(&each.body)).collect();
        for kind in Kind::ALL {
            let mut seen = vec![false; self.routes.len()];
            for entry in self.entries(kind) {
                let mut open = vec![entry];
                while let Some(index) = open.pop() {
                    if !std::mem::replace(&mut seen[index], true) {
                        callers[index].push(&self.routes[entry]);
                        open.extend(&calls[index]);
                    }
                }
            }
        }
        callers
    }
}

/// A function that is called.
struct Wanted<'a> {
    name: &'a str,
    count: usize,
    functions: &'a dyn Functions,
}

impl Wanted<'_> {
    /// The function in a statement of `route`; or what is wrong, `is_first` of all.
    ///
    /// It has to be one of the route that it stands in, as in OpenSIPS (1.11 `sr_module.c`, `find_cmd_export_t`, asked by the block).
    /// Other than there, it has to be one of all `callers` too: a function that was made for requests is not shown a message that is
    /// none.
    fn find(
        &self,
        route: &Route,
        callers: &[&Route],
        is_first: bool,
    ) -> Result<FunctionId, String> {
        let Self {
            name,
            count,
            functions,
        } = self;
        let told = |kind, why| told(name, *count, kind, why, *functions, is_first);
        let found = functions.resolve(name, *count, route.kind);
        let found = found.map_err(|why| told(route.kind, why))?;
        for caller in callers.iter().filter(|caller| caller.kind != route.kind) {
            let kind = caller.kind;
            let wrong = match functions.resolve(name, *count, kind) {
                Ok(function) if function == found => continue,
                Ok(_) => format!("{} is another function in a {kind}", quoted(name)),
                Err(why) => told(kind, why),
            };
            let (title, by, place) = (route.title(), caller.title(), &caller.excerpt.place);
            return Err(format!("{wrong}; {title} is called from {by}, in {place}"));
        }
        Ok(found)
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
