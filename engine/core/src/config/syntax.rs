//! Tokens to statements.
//!
//! Recursive descent by hand. The language has four kinds of statement and one token of lookahead, but what a
//! token is depends on the statement (addresses without quotes, the bodies of routes); a parser library would
//! take more lines to be told that than stand here.

use std::{fmt, mem};

use super::error::{Problem, did_you_mean, quoted};
use super::globals::{self, Global};
use super::lexer::{Lexeme, Lexer, Token};
use super::limits::Limit;
use super::source::Span;

pub(super) use socket::Socket;

/// Addresses to listen on.
mod socket;

/// One statement of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement<'a> {
    /// `listen = ...`, `socket = ...`: one address or several.
    Listen(Vec<Socket<'a>>),
    /// `bin_listen = IP:PORT`.
    BinListen(Socket<'a>),
    /// `children = N` and its kin.
    Workers { name: &'a str, count: Spanned<i32> },
    /// `mpath = "..."`.
    Mpath(Spanned<String>),
    /// `tcp_max_connections = N` and its kin.
    Limit {
        name: &'a str,
        limit: Limit,
        value: Spanned<i32>,
    },
    /// A parameter of OpenSIPS that means nothing here.
    NoEffect { name: &'a str },
    /// `loadmodule "..."`.
    LoadModule(Spanned<String>),
    /// `modparam("...", "...", ...)`.
    ModParam {
        module: Spanned<String>,
        name: Spanned<String>,
        value: Spanned<Value>,
    },
    /// `include_file "..."`; `import_file "..."` when it may be missing.
    Include {
        path: Spanned<String>,
        may_miss: bool,
    },
    /// A block of the script, its body not looked at yet.
    Route(Block<'a>),
}

/// `keyword[header] { body }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub(super) keyword: &'a str,
    /// What is between the brackets, if there are any.
    pub(super) header: Option<Span>,
    /// Keyword and brackets.
    pub(super) title: Span,
    /// What is between the braces.
    pub(super) body: Span,
}

/// Something, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// The value of a parameter, in one of the two types that OpenSIPS has for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// `5`, `-1`, `0x1F`, `0666`, `yes`.
    Int(i32),
    /// `"five"`, or strings side by side, which are one.
    Text(String),
}

/// Reads statements of one file.
#[derive(Debug, Clone)]
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    next: Lexeme<'a>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(mut lexer: Lexer<'a>) -> Result<Self, Problem> {
        let next = lexer.next()?;
        Ok(Self { lexer, next })
    }

    /// Where the token begins that was not taken yet.
    pub(super) const fn position(&self) -> usize {
        self.next.span.start
    }

    /// The next statement and its place; `None` at the end.
    ///
    /// # Errors
    /// What is no statement. There is no way on from there: what follows might be anything.
    pub(super) fn statement(&mut self) -> Result<Option<Spanned<Statement<'a>>>, Problem> {
        let first = self.next.clone();
        let start = first.span;
        let statement = match first.token {
            Token::End => return Ok(None),
            Token::Word(name) => {
                self.take()?;
                self.named(name, start)?
            }
            _ => {
                return Err(
                    self.unexpected("a parameter, loadmodule, modparam, include_file or a route")
                );
            }
        };
        Ok(Some(Spanned {
            value: statement,
            span: start,
        }))
    }

    /// The statement that begins with `name`.
    fn named(&mut self, name: &'a str, start: Span) -> Result<Statement<'a>, Problem> {
        match name {
            "loadmodule" => Ok(Statement::LoadModule(
                self.string("the name of a module in quotes")?,
            )),
            "modparam" => self.modparam(),
            "include_file" | "import_file" => Ok(Statement::Include {
                path: self.string("the name of a file in quotes")?,
                may_miss: name == "import_file",
            }),
            name if ROUTES.contains(&name) => self.route(start),
            name => self.assignment(name, start),
        }
    }

    fn modparam(&mut self) -> Result<Statement<'a>, Problem> {
        self.sign('(')?;
        let module =
            self.string("the name of a module in quotes, or a regular expression for several")?;
        self.sign(',')?;
        let name = self.string("the name of a parameter in quotes")?;
        self.sign(',')?;
        let value = self.value()?;
        self.sign(')')?;
        Ok(Statement::ModParam {
            module,
            name,
            value,
        })
    }

    /// `NAME = VALUE`.
    fn assignment(&mut self, name: &'a str, start: Span) -> Result<Statement<'a>, Problem> {
        let Some(global) = globals::find(name) else {
            let near = did_you_mean(name, globals::names().chain(STATEMENTS).chain(ROUTES));
            let message = format!("unknown parameter {}{near}", quoted(name));
            return Err(self.lexer.source().problem(start, message));
        };
        self.sign('=')?;
        Ok(match global {
            Global::Listen => Statement::Listen(self.sockets()?),
            Global::BinListen => Statement::BinListen(self.bin_listen()?),
            Global::Workers => {
                let count = self.integer("a number")?;
                Statement::Workers { name, count }
            }
            Global::Mpath => Statement::Mpath(self.string("a folder in quotes")?),
            Global::Limit(limit) => {
                let value = self.integer("a number")?;
                Statement::Limit { name, limit, value }
            }
            Global::NoEffect => {
                self.any_value()?;
                Statement::NoEffect { name }
            }
        })
    }

    /// `[NAME...] { ... }` behind a keyword.
    fn route(&mut self, start: Span) -> Result<Statement<'a>, Problem> {
        let mut title = start;
        let mut header = None;
        if self.next.token == Token::Sign('[') {
            let open = self.take()?.span.end;
            while self.next.token != Token::Sign(']') {
                if self.next.token == Token::End {
                    return Err(self.unexpected("\"]\""));
                }
                self.take()?;
            }
            let close = self.take()?.span;
            let (start, end) = (open, close.start);
            header = Some(Span { start, end });
            title.end = close.end;
        }
        if self.next.token != Token::Sign('{') {
            return Err(self.unexpected("\"{\""));
        }
        // The lexer stands behind the brace: nothing of the body has been taken for a token.
        let open = self.next.span;
        self.lexer.skip_block(open)?;
        let body = Span {
            start: open.end,
            end: self.lexer.position() - 1,
        };
        self.next = self.lexer.next()?;
        Ok(Statement::Route(Block {
            keyword: &self.lexer.source().text[start.start..start.end],
            header,
            title,
            body,
        }))
    }

    /// Strings side by side, or a number.
    fn value(&mut self) -> Result<Spanned<Value>, Problem> {
        if !matches!(self.next.token, Token::Text(_)) {
            let Spanned { value, span } = self.integer("a number, or a string in quotes,")?;
            return Ok(Spanned {
                value: Value::Int(value),
                span,
            });
        }
        let mut text = String::new();
        let mut span = self.next.span;
        while let Token::Text(part) = &self.next.token {
            text.push_str(part);
            span.end = self.next.span.end;
            self.take()?;
        }
        Ok(Spanned {
            value: Value::Text(text),
            span,
        })
    }

    /// A value of whatever type.
    fn any_value(&mut self) -> Result<(), Problem> {
        let signed = matches!(self.next.token, Token::Sign('+' | '-'));
        match self.next.token {
            Token::Text(_) => drop(self.value()?),
            Token::Word(_) if self.is_number() => drop(self.integer("a number")?),
            _ if signed => drop(self.integer("a number")?),
            // An address: of SIP, so its port does not matter either.
            Token::Word(_) | Token::Sign('[' | '*') => drop(self.sockets()?),
            _ => return Err(self.unexpected("a value")),
        }
        Ok(())
    }

    /// Whether the next word is a number and nothing else.
    fn is_number(&self) -> bool {
        matches!(self.next.token, Token::Word(word) if integer(word).is_some())
    }

    /// A number: decimal, hexadecimal or octal, with a sign or without, or one of the words for 1 and 0.
    fn integer(&mut self, what: &str) -> Result<Spanned<i32>, Problem> {
        let mut span = self.next.span;
        if self.next.token == Token::Sign('+') {
            self.take()?;
            span.end = self.next.span.end;
        }
        let Token::Word(word) = self.next.token else {
            return Err(self.unexpected(what));
        };
        let Some(value) = integer(word) else {
            return Err(self.unexpected(what));
        };
        let Ok(value) = i32::try_from(value) else {
            let message =
                format!("{word} is out of range: a number of 32 bits with a sign expected");
            return Err(self.problem(message));
        };
        self.take()?;
        Ok(Spanned { value, span })
    }

    fn string(&mut self, what: &str) -> Result<Spanned<String>, Problem> {
        if !matches!(self.next.token, Token::Text(_)) {
            return Err(self.unexpected(what));
        }
        let Lexeme { token, span } = self.take()?;
        match token {
            Token::Text(value) => Ok(Spanned { value, span }),
            _ => unreachable!("it was looked at"),
        }
    }

    fn word(&mut self, what: &str) -> Result<Spanned<&'a str>, Problem> {
        let Token::Word(value) = self.next.token else {
            return Err(self.unexpected(what));
        };
        let span = self.take()?.span;
        Ok(Spanned { value, span })
    }

    fn sign(&mut self, sign: char) -> Result<(), Problem> {
        if self.next.token != Token::Sign(sign) {
            return Err(self.unexpected(&format!("\"{sign}\"")));
        }
        self.take().map(drop)
    }

    /// The token that is next; the one behind it will be.
    fn take(&mut self) -> Result<Lexeme<'a>, Problem> {
        let following = self.lexer.next()?;
        Ok(mem::replace(&mut self.next, following))
    }

    /// The token behind the next one.
    fn after_next(&self) -> Result<Token<'a>, Problem> {
        Ok(self.lexer.clone().next()?.token)
    }

    fn unexpected(&self, expected: &str) -> Problem {
        let found = match &self.next.token {
            Token::Word(word) => quoted(word),
            Token::Text(text) => format!("the string {}", quoted(text)),
            Token::Sign(';') => "\";\" (statements outside of routes end by themselves)".to_owned(),
            Token::Variable(name) => quoted(name),
            Token::Sign(sign) => quoted(&sign.to_string()),
            Token::End => "the end of the file".to_owned(),
        };
        self.problem(format!("{expected} expected, not {found}"))
    }

    /// What is wrong with the next token.
    fn problem(&self, message: impl Into<String>) -> Problem {
        self.lexer.source().problem(self.next.span, message)
    }
}

impl Value {
    /// As [`Display`](fmt::Display), but a long string is cut: for messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Int(value) => value.to_string(),
            Self::Text(text) => quoted(text),
        }
    }
}

impl fmt::Display for Value {
    /// As a configuration may have it; nothing in it is obeyed by a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "\"{}\"", text.escape_debug()),
        }
    }
}

/// What a word says as a number. `None`: no number at all. One too large for 64 bits is the largest of them.
pub(super) fn integer(word: &str) -> Option<i64> {
    match word {
        "yes" | "true" | "on" | "enable" => return Some(1),
        "no" | "false" | "off" | "disable" => return Some(0),
        _ => {}
    }
    let (sign, digits) = word
        .strip_prefix('-')
        .map_or((1, word), |digits| (-1, digits));
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(i64::from_str_radix(digits, radix).map_or(i64::MAX, |value| sign * value))
}

pub(super) const STATEMENTS: [&str; 4] = ["loadmodule", "modparam", "include_file", "import_file"];

pub(super) const ROUTES: [&str; 9] = [
    "route",
    "failure_route",
    "onreply_route",
    "branch_route",
    "error_route",
    "local_route",
    "startup_route",
    "timer_route",
    "event_route",
];
