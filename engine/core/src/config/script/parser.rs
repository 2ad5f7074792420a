//! Tokens to statements: recursive descent by hand, as outside of routes.

use std::mem;

use super::Names;
use crate::config::error::{Problem, did_you_mean, quoted};
use crate::config::lexer::{Lexeme, Lexer, Token};
use crate::config::source::{Place, Source, Span};
use crate::config::syntax::integer;
use crate::script::format::{Format, Piece};
use crate::script::tree::{Call, Callee, Operand, Said, Statement};
use crate::script::variable::{Pseudo, VARIABLES, Variable};
use crate::script::{BUILT_IN, Level, RAISE_PARAMS_MAX, counted};

/// Reads the statements of one block.
#[derive(Debug)]
pub(super) struct Parser<'a, 'n> {
    lexer: Lexer<'a>,
    pub(super) next: Lexeme<'a>,
    names: &'n mut Names,
    warnings: &'n mut Vec<(Place, String)>,
    problems: Vec<Problem>,
    /// Problems that may still be found.
    left: usize,
    /// Blocks around the statement that is read, and parentheses around a condition.
    depth: usize,
}

/// A parameter of a call, and where it stands.
struct Param {
    text: String,
    span: Span,
}

impl<'a, 'n> Parser<'a, 'n> {
    pub(super) fn new(
        mut lexer: Lexer<'a>,
        names: &'n mut Names,
        warnings: &'n mut Vec<(Place, String)>,
    ) -> Result<Self, Problem> {
        let next = lexer.next()?;
        Ok(Self {
            lexer,
            next,
            names,
            warnings,
            problems: Vec::new(),
            left: 0,
            depth: 0,
        })
    }

    /// All statements, and what is wrong with them, `most` problems of that.
    pub(super) fn body(mut self, most: usize) -> (Vec<Statement>, Vec<Problem>) {
        self.left = most;
        let body = match self.statements() {
            Ok(body) => body,
            Err(problem) => {
                self.problems.push(problem);
                Vec::new()
            }
        };
        (body, self.problems)
    }

    /// Statements up to the `}` of their block, or the end.
    ///
    /// # Errors
    /// What cannot be gone on behind. Others are kept, and the next statement is read.
    fn statements(&mut self) -> Result<Vec<Statement>, Problem> {
        let mut statements: Vec<Statement> = Vec::new();
        let (mut is_told, depth) = (false, self.depth);
        loop {
            let start = self.next.span;
            match self.next.token {
                Token::End => return Ok(statements),
                Token::Sign('}') if self.depth > 0 => return Ok(statements),
                Token::Sign('}') => {
                    // The lexer of blocks took it for a part of a variable's name.
                    return Err(self.unexpected("a statement"));
                }
                Token::Sign(';') => {
                    self.take()?;
                    continue;
                }
                _ => {}
            }
            if !is_told && statements.last().is_some_and(Statement::ends) {
                is_told = true;
                let message = "nothing comes here: what stands above it always ends the route";
                self.warn(start, message);
            }
            match self.statement() {
                Ok(statement) => statements.push(statement),
                Err(problem) => {
                    self.depth = depth;
                    self.problems.push(problem);
                    self.left = self.left.saturating_sub(1);
                    if self.left == 0 {
                        self.skip_all()?;
                        return Ok(statements);
                    }
                    self.skip_statement()?;
                }
            }
        }
    }

    fn statement(&mut self) -> Result<Statement, Problem> {
        match self.next.token {
            Token::Variable(name) => self.assignment(name),
            Token::Word("if") => self.branches(),
            Token::Word("exit") => self.bare(Statement::Exit),
            Token::Word("drop") => self.bare(Statement::Drop),
            Token::Word("return") => self.return_code(),
            Token::Word("else") => Err(self.unexpected("an \"if\" in front of")),
            Token::Word(word) if OTHERS.contains(&word) => {
                let message = format!(
                    "\"{word}\" is no part of this language: if, route(name), return, exit, drop, assignments and calls expected"
                );
                Err(self.problem(message))
            }
            Token::Word(word) if !is_number(word) => {
                let call = self.call()?;
                self.semicolon()?;
                Ok(Statement::Call(call))
            }
            _ => Err(self.unexpected("a statement")),
        }
    }

    /// `$var(name) = value;`
    fn assignment(&mut self, name: &str) -> Result<Statement, Problem> {
        let span = self.next.span;
        let Variable::Slot(slot) = self.variable(name, span)? else {
            let message = format!("{} cannot be set: $var(name) expected", quoted(name));
            return Err(self.problem(message));
        };
        self.take()?;
        self.sign('=')?;
        let value = self.operand("a number, a string in quotes, a variable or null")?;
        self.semicolon()?;
        Ok(Statement::Set { slot, value })
    }

    /// `if (...) ... else if (...) ... else ...`
    fn branches(&mut self) -> Result<Statement, Problem> {
        let mut branches = Vec::new();
        loop {
            self.take()?;
            let condition = self.condition()?;
            branches.push((condition, self.block()?));
            if self.next.token != Token::Word("else") {
                let otherwise = Vec::new();
                return Ok(Statement::If {
                    branches,
                    otherwise,
                });
            }
            self.take()?;
            if self.next.token != Token::Word("if") {
                let otherwise = self.block()?;
                return Ok(Statement::If {
                    branches,
                    otherwise,
                });
            }
        }
    }

    /// Statements in braces, or one without.
    fn block(&mut self) -> Result<Vec<Statement>, Problem> {
        self.deeper()?;
        let block = if self.next.token == Token::Sign('{') {
            self.take()?;
            let statements = self.statements()?;
            self.sign('}')?;
            statements
        } else if self.next.token == Token::Sign(';') {
            self.take()?;
            Vec::new()
        } else {
            vec![self.statement()?]
        };
        self.depth -= 1;
        Ok(block)
    }

    /// `exit;`, or `exit();`
    fn bare(&mut self, statement: Statement) -> Result<Statement, Problem> {
        self.take()?;
        if self.next.token == Token::Sign('(') {
            self.take()?;
            self.sign(')')?;
        }
        self.semicolon()?;
        Ok(statement)
    }

    /// `return;`, `return();`, `return(1);`, `return($var(x));`
    fn return_code(&mut self) -> Result<Statement, Problem> {
        self.take()?;
        let mut code = Operand::Int(1);
        if self.next.token == Token::Sign('(') {
            self.take()?;
            if self.next.token != Token::Sign(')') {
                code = self.operand("a number or a variable")?;
            }
            self.sign(')')?;
        }
        self.semicolon()?;
        Ok(Statement::Return(code))
    }

    /// `name("a", "b")`, `route(name)`.
    pub(super) fn call(&mut self) -> Result<Call, Problem> {
        let Token::Word(name) = self.next.token else {
            return Err(self.unexpected("the name of a function"));
        };
        let mut span = self.take()?.span;
        if self.next.token != Token::Sign('(') {
            let near = did_you_mean(name, BUILT_IN);
            let what = format!("\"(\" behind {}", quoted(name));
            let mut problem = self.unexpected(&what);
            if !near.is_empty() {
                let message = format!("{}{near}", problem.message());
                problem = self.source().problem(span, message);
            }
            return Err(problem);
        }
        self.take()?;
        let mut params = Vec::new();
        while self.next.token != Token::Sign(')') {
            if !params.is_empty() {
                self.sign(',')?;
            }
            params.push(self.param()?);
        }
        let end = self.take()?.span.end;
        let callee = self.callee(name, span, params)?;
        // The mark is below the whole call.
        span.end = end;
        let excerpt = self.source().excerpt(span);
        Ok(Call { callee, excerpt })
    }

    fn callee(&mut self, name: &str, span: Span, params: Vec<Param>) -> Result<Callee, Problem> {
        let takes = |counts: &[usize]| {
            let is_so = counts.contains(&params.len());
            is_so.then_some(()).ok_or_else(|| {
                let counts = counted(counts, "parameter");
                let message = format!("{name} takes {counts}, not {}", params.len());
                self.lexer.source().problem(span, message)
            })
        };
        match name {
            "route" => {
                takes(&[1])?;
                let [Param { text, span }] = <[_; 1]>::try_from(params).unwrap_or_else(|_| {
                    unreachable!("they were counted");
                });
                let excerpt = self.source().excerpt(span);
                self.names.calls.push((text, excerpt));
                Ok(Callee::Route(self.names.calls.len() - 1))
            }
            "xlog" => {
                takes(&[1, 2])?;
                let (text, level) = (&params[params.len() - 1], params.len() == 2);
                let level = match level {
                    true => self.level(&params[0])?,
                    false => Level::Error,
                };
                let text = self.format(text)?;
                Ok(Callee::Log { level, text })
            }
            "raise_event" => {
                takes(&[1, 2, 3, 4, 5, 6])?;
                let event = self.event(&params[0])?;
                let values = params[1..].iter().map(|param| self.named(param));
                let values: Vec<_> = values.collect::<Result<_, _>>()?;
                debug_assert!(values.len() <= RAISE_PARAMS_MAX, "as many as it takes");
                Ok(Callee::Raise {
                    event,
                    params: values,
                })
            }
            "subscribe_event" => {
                takes(&[2, 3])?;
                Ok(Callee::Subscribe {
                    event: self.event(&params[0])?,
                    expire: params.get(2).map(|each| self.seconds(each)).transpose()?,
                    socket: params[1].text.clone(),
                })
            }
            _ if params.len() > FUNCTION_PARAMS_MAX => {
                let message = format!(
                    "{name}: at most {FUNCTION_PARAMS_MAX} parameters expected, not {}",
                    params.len()
                );
                Err(self.source().problem(span, message))
            }
            _ => Ok(Callee::Function {
                name: name.to_owned(),
                params: params.into_iter().map(|param| param.text).collect(),
            }),
        }
    }

    fn param(&mut self) -> Result<Param, Problem> {
        let text = match &self.next.token {
            Token::Text(text) => text.clone(),
            Token::Word(word) => (*word).to_owned(),
            Token::Variable(name) => (*name).to_owned(),
            Token::Sign(_) | Token::End => {
                return Err(
                    self.unexpected("a parameter: a string in quotes, a number or a variable,")
                );
            }
        };
        let span = self.take()?.span;
        Ok(Param { text, span })
    }

    fn level(&self, param: &Param) -> Result<Level, Problem> {
        Level::named(&param.text).ok_or_else(|| {
            let known = Level::ALL.map(Level::name);
            let near = did_you_mean(&param.text, known);
            let message = format!("xlog: one of {} expected{near}", known.join(", "));
            self.source().problem(param.span, message)
        })
    }

    fn event(&self, param: &Param) -> Result<String, Problem> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !param.text.is_empty() && param.text.chars().all(is_name) {
            return Ok(param.text.clone());
        }
        let message = "the name of an event expected, such as E_NAME";
        Err(self.source().problem(param.span, message))
    }

    fn seconds(&self, param: &Param) -> Result<u32, Problem> {
        let value = integer(&param.text).and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| {
            let message = "subscribe_event: seconds expected, 0 for ever";
            self.source().problem(param.span, message)
        })
    }

    /// `name=text`, or a text without a name.
    fn named(&mut self, param: &Param) -> Result<(Option<String>, Said), Problem> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = param.text.split_once('=');
        let named = named.filter(|(name, _)| !name.is_empty() && name.chars().all(is_name));
        let (name, text) = match named {
            Some((name, text)) => (Some(name.to_owned()), text),
            None => (None, &param.text[..]),
        };
        let format = Format::read(text, |name| self.variable(name, param.span))?;
        // What stands alone says what it is.
        let said = match <[_; 1]>::try_from(format.pieces) {
            Ok([Piece::Variable(variable)]) => Said::Value(Operand::Variable(variable)),
            Ok([Piece::Text(text)]) => Said::Value(constant(text)),
            Err(pieces) => Said::Bytes(Format { pieces }),
        };
        Ok((name, said))
    }

    fn format(&mut self, param: &Param) -> Result<Format, Problem> {
        Format::read(&param.text, |name| self.variable(name, param.span))
    }

    /// A constant, or a variable.
    pub(super) fn operand(&mut self, what: &str) -> Result<Operand, Problem> {
        let span = self.next.span;
        let operand = match &self.next.token {
            Token::Text(text) => Operand::Text(text.clone()),
            Token::Word("null" | "NULL") => Operand::Null,
            Token::Word(word) if is_number(word) => match integer(word).map(i32::try_from) {
                Some(Ok(value)) => Operand::Int(value),
                _ => {
                    let message =
                        format!("{}: a number of 32 bits with a sign expected", quoted(word));
                    return Err(self.problem(message));
                }
            },
            Token::Word(word) => {
                let message = format!("{what} expected, not {}: a text needs quotes", quoted(word));
                return Err(self.problem(message));
            }
            Token::Variable(name) => Operand::Variable(self.variable(name, span)?),
            Token::Sign(_) | Token::End => return Err(self.unexpected(what)),
        };
        self.take()?;
        Ok(operand)
    }

    /// The variable that is written as `text`, from its `$` on.
    fn variable(&mut self, text: &str, span: Span) -> Result<Variable, Problem> {
        let name = &text[1..];
        let (name, inner) = match name.split_once('(') {
            Some((name, inner)) => (name, inner.strip_suffix(')')),
            None => (name, None),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let inner = inner.map(str::trim);
        let inner = inner.filter(|inner| !inner.is_empty() && inner.chars().all(is_name));
        match (name, inner) {
            ("var", Some(inner)) => return self.slot(inner, span),
            ("rc" | "retcode", None) if !text.contains('(') => return Ok(Variable::ReturnCode),
            ("param", Some(inner)) => {
                let index = inner.parse::<usize>();
                return Ok(match index.ok().and_then(|index| index.checked_sub(1)) {
                    Some(index) => Variable::ParamAt(index),
                    None => Variable::Param(inner.to_owned()),
                });
            }
            _ => {}
        }
        if let Some(pseudo) = Pseudo::named(name, inner)
            && inner.is_some() == text.contains('(')
        {
            return Ok(Variable::Packet(pseudo));
        }
        let near = did_you_mean(text, VARIABLES);
        let what = match text {
            "$" => ": in a text $$ stands for the sign",
            _ if text.contains('{') => ": there are no transformations here",
            _ => "",
        };
        let message = format!("unknown variable {}{what}{near}", quoted(text));
        Err(self.source().problem(span, message))
    }

    fn slot(&mut self, name: &str, span: Span) -> Result<Variable, Problem> {
        let slots = &mut self.names.slots;
        if let Some(slot) = slots.get(name) {
            return Ok(Variable::Slot(*slot));
        }
        match u16::try_from(slots.len()) {
            Ok(slot) if usize::from(slot) < SLOTS_MAX => {
                slots.insert(name.to_owned(), slot);
                Ok(Variable::Slot(slot))
            }
            _ => {
                let message = format!("one $var too many: at most {SLOTS_MAX} expected");
                Err(self.source().problem(span, message))
            }
        }
    }

    /// Behind what stands where a statement was expected: the next `;`, or the `}` of the block.
    fn skip_statement(&mut self) -> Result<(), Problem> {
        let mut depth = 0_usize;
        loop {
            match self.next.token {
                Token::End => return Ok(()),
                Token::Sign('}') if depth == 0 => return Ok(()),
                Token::Sign('}') => {
                    depth -= 1;
                    self.take()?;
                    // Whatever it was, its block is over; `else` belongs to it.
                    if depth == 0 && self.next.token != Token::Word("else") {
                        return Ok(());
                    }
                    continue;
                }
                Token::Sign('{') => depth += 1,
                Token::Sign(';') if depth == 0 => return self.take().map(drop),
                _ => {}
            }
            self.take()?;
        }
    }

    /// To the end: enough was found.
    fn skip_all(&mut self) -> Result<(), Problem> {
        while self.next.token != Token::End {
            self.take()?;
        }
        Ok(())
    }

    pub(super) fn deeper(&mut self) -> Result<(), Problem> {
        if self.depth == DEPTH_MAX {
            let message =
                format!("too deep: at most {DEPTH_MAX} blocks and parentheses in each other");
            return Err(self.problem(message));
        }
        self.depth += 1;
        Ok(())
    }

    pub(super) const fn shallower(&mut self) {
        self.depth -= 1;
    }

    fn semicolon(&mut self) -> Result<(), Problem> {
        match self.next.token {
            Token::Sign(';') => self.take().map(drop),
            Token::Sign('+' | '-' | '*' | '/' | '%') => {
                Err(self.problem("\";\" expected: there is no arithmetic here"))
            }
            _ => Err(self.unexpected("\";\"")),
        }
    }

    pub(super) fn sign(&mut self, sign: char) -> Result<(), Problem> {
        if self.next.token != Token::Sign(sign) {
            return Err(self.unexpected(&format!("\"{sign}\"")));
        }
        self.take().map(drop)
    }

    /// The token that is next; the one behind it will be.
    pub(super) fn take(&mut self) -> Result<Lexeme<'a>, Problem> {
        let following = self.lexer.next()?;
        Ok(mem::replace(&mut self.next, following))
    }

    /// Whether the token behind the next one is `sign`, right behind it.
    pub(super) fn is_followed_by(&self, sign: char) -> bool {
        let behind = self.lexer.clone().next();
        behind.is_ok_and(|behind| {
            behind.token == Token::Sign(sign) && behind.span.start == self.next.span.end
        })
    }

    pub(super) fn warn(&mut self, span: Span, message: impl Into<String>) {
        if self.warnings.len() < super::WARNINGS_MAX {
            let place = self.source().excerpt(span).place;
            self.warnings.push((place, message.into()));
        }
    }

    pub(super) const fn source(&self) -> &'a Source {
        self.lexer.source()
    }

    pub(super) fn unexpected(&self, expected: &str) -> Problem {
        let found = match &self.next.token {
            Token::Word(word) => quoted(word),
            Token::Text(text) => format!("the string {}", quoted(text)),
            Token::Variable(name) => quoted(name),
            Token::Sign(sign) => quoted(&sign.to_string()),
            Token::End => "the end of the route".to_owned(),
        };
        self.problem(format!("{expected} expected, not {found}"))
    }

    /// What is wrong with the next token.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        self.source().problem(self.next.span, message)
    }
}

/// Whether a word is meant as a number.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

/// A number that is written as numbers are, or a text.
fn constant(text: String) -> Operand {
    match text.parse::<i32>() {
        Ok(value) if value.to_string() == text => Operand::Int(value),
        _ => Operand::Text(text),
    }
}

/// Statements that OpenSIPS has besides.
const OTHERS: [&str; 8] = [
    "while", "for", "switch", "case", "default", "break", "async", "launch",
];

/// As OpenSIPS hands to a function of a module (1.11 `sr_module.h`, `cmd_function`).
const FUNCTION_PARAMS_MAX: usize = 6;

/// Different `$var`.
const SLOTS_MAX: usize = 256;

/// Blocks and parentheses in each other.
const DEPTH_MAX: usize = 32;
