//! The routes of a configuration: their text to a [`Script`].
//!
//! Blocks are taken one by one, wherever they stand. What depends on all of them (which routes there are, who calls whom) is found
//! out at the end. Other than statements outside of routes, what is wrong with one in a route does not hide what is wrong
//! with the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::{
    ConfigError, ConfigWarning, PROBLEMS_MAX, Problem, Topic, did_you_mean, quoted,
};
use super::lexer::{Lexer, Token};
use super::source::{Excerpt, Place, Source, Span};
use super::syntax::{Block, Parser as Statements, Statement, integer};
use crate::script::tree::{Callee, Route, Script};
use crate::script::{Kind, called_routes};

/// Conditions.
mod condition;
/// Tokens to statements.
mod parser;

use parser::Parser;

/// The blocks so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    routes: Vec<Route>,
    /// The first route of each kind and name.
    by_name: BTreeMap<(Kind, Option<String>), usize>,
    names: Names,
    warnings: Vec<(Place, String)>,
}

/// Names that are given numbers where they first occur.
#[derive(Debug, Default)]
struct Names {
    /// `$var`.
    slots: BTreeMap<String, u16>,
    /// Calls of routes: until all are known, the index of a call stands in the tree for that of its route.
    calls: Vec<(String, Excerpt)>,
}

/// All blocks together.
#[derive(Debug)]
pub(super) struct Whole {
    /// Without meaning when there are problems.
    pub(super) script: Script,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<(Place, String)>,
}

impl Script {
    /// Reads the text of a file that has routes and nothing else. What functions they call is not looked at.
    ///
    /// # Errors
    /// As for a configuration: what is wrong, where, and what was expected.
    pub fn read(path: &Path, bytes: Vec<u8>) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let mut draft = Draft::default();
        let mut problems = draft
            .file(path, bytes)
            .unwrap_or_else(|problem| vec![problem]);
        let whole = draft.whole();
        problems.extend(whole.problems);
        problems.truncate(PROBLEMS_MAX);
        if let Some(error) = ConfigError::of(problems) {
            return Err(error);
        }
        let warnings = whole.warnings.into_iter();
        let warning = |(place, message)| ConfigWarning::new(Topic::Other, Some(place), message);
        Ok((whole.script, warnings.map(warning).collect()))
    }
}

impl Draft {
    /// Takes the blocks of a file; what is wrong with them.
    fn file(&mut self, path: &Path, bytes: Vec<u8>) -> Result<Vec<Problem>, Problem> {
        let source = Source::new(path, bytes)?;
        let mut statements = Statements::new(Lexer::new(&source))?;
        let mut problems = Vec::new();
        while let Some(statement) = statements.statement()? {
            let block = match &statement.value {
                Statement::Route(block) => Kind::named(block.keyword).map(|kind| (kind, block)),
                _ => None,
            };
            let Some((kind, block)) = block else {
                let message = format!("{} expected", Kind::ALL.map(Kind::keyword).join(", "));
                problems.push(source.problem(statement.span, message));
                break;
            };
            let most = PROBLEMS_MAX.saturating_sub(problems.len());
            problems.extend(self.take(&source, kind, block, most));
        }
        Ok(problems)
    }

    /// Takes a block of `source`; what is wrong with it, `most` problems of that.
    pub(super) fn take(
        &mut self,
        source: &Source,
        kind: Kind,
        block: &Block<'_>,
        most: usize,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        let header = header(source, kind, block);
        let mut route = Route {
            kind,
            name: None,
            seconds: 0,
            excerpt: source.excerpt(block.title),
            body: Vec::new(),
        };
        match header {
            Ok((name, seconds)) => (route.name, route.seconds) = (name, seconds),
            Err(problem) => problems.push(problem),
        }
        let index = self.routes.len();
        let first = self.by_name.entry((kind, route.name.clone()));
        let first = *first.or_insert(index);
        // Timers may share a name, which nobody calls them by.
        if kind != Kind::Timer && problems.is_empty() && first != index {
            let (title, place) = (route.title(), &self.routes[first].excerpt.place);
            let message = format!("{title} is there already, in {place}: another name expected");
            problems.push(source.problem(block.title, message));
        }
        let lexer = Lexer::of_route(source, block.body);
        match Parser::new(lexer, &mut self.names, &mut self.warnings) {
            Ok(parser) => {
                let (body, wrong) = parser.body(most.saturating_sub(problems.len()));
                route.body = body;
                problems.extend(wrong);
            }
            Err(problem) => problems.push(problem),
        }
        self.routes.push(route);
        problems.truncate(most);
        problems
    }

    /// What the blocks are together.
    pub(super) fn whole(mut self) -> Whole {
        let mut problems = Vec::new();
        let mut targets = Vec::new();
        for (name, excerpt) in &self.names.calls {
            let found = self.called(name);
            if found.is_none() && problems.len() < PROBLEMS_MAX {
                problems.push(Problem::at(excerpt.clone(), self.no_such_route(name)));
            }
            targets.push(found.unwrap_or_default());
        }
        for route in &mut self.routes {
            for statement in &mut route.body {
                statement.each_call(&mut |call| {
                    if let Callee::Route(index) = &mut call.callee {
                        *index = targets[*index];
                    }
                });
            }
        }
        if problems.is_empty() {
            self.tell_of_calls();
        }
        let Self {
            routes,
            names,
            mut warnings,
            ..
        } = self;
        warnings.truncate(WARNINGS_MAX);
        let slots = names.slots.len();
        Whole {
            script: Script { routes, slots },
            problems,
            warnings,
        }
    }

    /// The route that `route(name)` is.
    fn called(&self, name: &str) -> Option<usize> {
        let name = (name != REQUEST_ROUTE).then(|| name.to_owned());
        self.by_name.get(&(Kind::Request, name)).copied()
    }

    fn no_such_route(&self, name: &str) -> String {
        let routes = self.routes.iter();
        let names = routes.filter(|route| route.kind == Kind::Request);
        let near = did_you_mean(name, names.filter_map(|route| route.name.as_deref()));
        format!(
            "there is no route[{}]{near}",
            quoted(name).trim_matches('"')
        )
    }

    /// Tells of routes that call themselves, of those that nothing calls, and of calls that are dear or without an end where they
    /// stand.
    fn tell_of_calls(&mut self) {
        let calls = self.routes.iter().map(|route| called_routes(&route.body));
        let calls: Vec<_> = calls.collect();
        let entries = (0..self.routes.len()).filter(|index| self.routes[*index].is_entry());
        let used = reached(&calls, entries);
        let request = (0..self.routes.len()).filter(|index| {
            let route = &self.routes[*index];
            route.is_entry() && route.kind == Kind::Request
        });
        let by_packets = reached(&calls, request);
        let echoes = self.echoes(&calls);
        let mut warnings = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            // Each question costs a walk over all of them.
            let calls_itself = || {
                let direct = calls[index].iter().copied();
                index < ROUTES_LOOKED_AT && reached(&calls, direct)[index]
            };
            let message = if !used[index] {
                "nothing calls it"
            } else if calls_itself() {
                "it calls itself, directly or by way of others: calls in each other end at a depth of 99, and return -1"
            } else if echoes[index] {
                "it raises its own event, directly or by way of others: one follows the other without an end"
            } else {
                ""
            };
            if !message.is_empty() {
                let message = format!("{}: {message}", route.title());
                warnings.push((route.excerpt.place.clone(), message));
            }
            let mut inside = Vec::new();
            if by_packets[index] {
                route.body.iter().for_each(|each| each.calls(&mut inside));
            }
            for call in inside {
                if let Callee::Subscribe { .. } = &call.callee {
                    let message = "subscribe_event for each packet: it waits for a lock and makes texts, which a packet should not; \
                                   startup_route and timer_route are its place";
                    warnings.push((call.excerpt.place.clone(), message.to_owned()));
                }
            }
        }
        self.warnings.extend(warnings);
    }

    /// For each route whether it is an event route that may raise its own event, by way of other event routes too.
    fn echoes(&self, calls: &[BTreeSet<usize>]) -> Vec<bool> {
        let routes = self.routes.iter().enumerate();
        let entries = routes.filter(|(_, route)| route.kind == Kind::Event);
        let entries = entries.filter_map(|(index, route)| Some((route.name.as_deref()?, index)));
        let entries: BTreeMap<&str, usize> = entries.take(ROUTES_LOOKED_AT).collect();
        let mut following = calls.to_vec();
        for (route, following) in self.routes.iter().zip(&mut following) {
            let mut inside = Vec::new();
            route.body.iter().for_each(|each| each.calls(&mut inside));
            following.extend(inside.into_iter().filter_map(|call| match &call.callee {
                Callee::Raise { event, .. } => entries.get(&**event),
                _ => None,
            }));
        }
        let mut echoes = vec![false; self.routes.len()];
        for index in entries.into_values() {
            echoes[index] = reached(&following, following[index].iter().copied())[index];
        }
        echoes
    }
}

/// Which routes are come to from `first`, themselves among them.
fn reached(calls: &[BTreeSet<usize>], first: impl IntoIterator<Item = usize>) -> Vec<bool> {
    let mut reached = vec![false; calls.len()];
    let mut open: Vec<_> = first.into_iter().collect();
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut reached[index], true) {
            open.extend(&calls[index]);
        }
    }
    reached
}

/// The name in the brackets of a block, and the seconds of a timer.
fn header(
    source: &Source,
    kind: Kind,
    block: &Block<'_>,
) -> Result<(Option<String>, u32), Problem> {
    let keyword = kind.keyword();
    let wrong = |span: Span, expected: &str| {
        let message = format!("{keyword}: {expected} expected");
        source.problem(span, message)
    };
    let Some(header) = block.header else {
        return match kind {
            Kind::Request | Kind::Startup => Ok((None, 0)),
            Kind::Timer => Err(wrong(block.title, "a name and seconds, such as [gc, 60],")),
            Kind::Event => Err(wrong(
                block.title,
                "the name of an event, such as [E_NAME],",
            )),
        };
    };
    let mut lexer = Lexer::of_route(source, header);
    let name = lexer.next()?;
    let name_text = match name.token {
        Token::Word(word) => word.to_owned(),
        Token::Text(text) if !text.is_empty() => text,
        _ => return Err(wrong(header, "a name between the brackets")),
    };
    let mut seconds = 0;
    match kind {
        Kind::Startup => return Err(wrong(header, "no name")),
        Kind::Timer => {
            let comma = lexer.next()?;
            if comma.token != Token::Sign(',') {
                return Err(wrong(comma.span, "\",\" and seconds behind the name"));
            }
            let number = lexer.next()?;
            let value = match number.token {
                Token::Word(word) => integer(word).and_then(|value| u32::try_from(value).ok()),
                _ => None,
            };
            let value = value.filter(|value| (1..=SECONDS_MAX).contains(value));
            seconds = value.ok_or_else(|| wrong(number.span, "seconds from 1 to a year"))?;
        }
        Kind::Request | Kind::Event => {}
    }
    let behind = lexer.next()?;
    if behind.token != Token::End {
        return Err(wrong(behind.span, "\"]\""));
    }
    let is_main = kind == Kind::Request && name_text == REQUEST_ROUTE;
    Ok(((!is_main).then_some(name_text), seconds))
}

/// `route[0]` is `route` (1.11 `cfg.y`, `route_stm`).
const REQUEST_ROUTE: &str = "0";

/// A year.
const SECONDS_MAX: u32 = 365 * 24 * 3600;

/// Warnings about one script.
const WARNINGS_MAX: usize = 50;

/// A script with more routes than this was made by a program.
const ROUTES_LOOKED_AT: usize = 1000;
