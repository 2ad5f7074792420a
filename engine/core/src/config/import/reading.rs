//! Files to statements. Where the strict parser stops at what it does not know, this reader tells it and goes on behind it.
//!
//! Statements outside of routes end by themselves, so the end of an unknown one has to be guessed: it is where a later line
//! begins with what can begin a statement, outside of brackets. After a string, a comment or a block without an end the only
//! sure ground is a line that begins with a keyword at its first character.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::draft::{Draft, harmless};
use super::{ImportError, LeftOut, Reason};
use crate::config::error::Problem;
use crate::config::globals;
use crate::config::lexer::{Lexeme, Lexer, Token};
use crate::config::load::plain;
use crate::config::source::{Place, ReadFile, Source, Span};
use crate::config::syntax::{Parser, ROUTES, STATEMENTS, Statement};

/// Reads the file at `path` and all that it includes into `draft`.
///
/// # Errors
/// The first file is not there, or too large.
pub(super) fn read(
    path: &Path,
    files: &dyn ReadFile,
    draft: &mut Draft,
) -> Result<(), ImportError> {
    let file = path.display().to_string();
    let bytes = files
        .read(path, FILE_MAX + 1)
        .map_err(|error| ImportError::Unreadable {
            file: file.clone(),
            error: error.to_string(),
        })?;
    if bytes.len() as u64 > FILE_MAX {
        let max = FILE_MAX;
        return Err(ImportError::TooLarge { file, max });
    }
    let mut reading = Reading {
        files,
        draft,
        open: vec![],
        bytes_left: TOTAL_MAX.saturating_sub(bytes.len()),
        statements_left: STATEMENTS_MAX,
        troubles_left: TROUBLES_MAX,
    };
    reading.take(path, bytes);
    Ok(())
}

/// A configuration while its files are read.
struct Reading<'f, 'd> {
    files: &'f dyn ReadFile,
    draft: &'d mut Draft,
    /// The files from the first to the one that is read now, each including the next.
    open: Vec<PathBuf>,
    bytes_left: usize,
    statements_left: usize,
    troubles_left: usize,
}

impl Reading<'_, '_> {
    /// Takes all statements of one file.
    fn take(&mut self, path: &Path, bytes: Vec<u8>) {
        let source = self.source(path, bytes);
        self.tell_of_preprocessors(&source);
        self.open.push(plain(path));
        let mut at = 0;
        while let Some(next) = self.step(&source, at) {
            debug_assert!(next > at, "each step takes at least one byte");
            at = next;
        }
        self.open.pop();
    }

    /// The text of a file, without what no configuration has.
    fn source(&mut self, path: &Path, bytes: Vec<u8>) -> Source {
        let (source, broken) = Source::lossy(path, bytes);
        if let Some(at) = broken {
            let place = source.excerpt(at).place;
            let what = "bytes that are no UTF-8".to_owned();
            let detail = "in a comment they do no harm; a statement that has them is left out, too";
            self.leave(place, what, Reason::Broken, Some(detail.to_owned()));
        }
        if source.text.lines().all(|line| line.len() <= LINE_MAX) {
            return source;
        }
        // Each message about a place looks through its line, so that a line of megabytes would cost minutes.
        let mut text = String::with_capacity(source.text.len().min(FILE_MAX_BYTES));
        for (line, number) in source.text.split('\n').zip(1_u32..) {
            if line.len() > LINE_MAX {
                let start = source.line_start(number);
                let place = source.excerpt(Span { start, end: start }).place;
                let what = long_line(line);
                let detail = format!(
                    "a line of {} bytes: at most {LINE_MAX} expected",
                    line.len()
                );
                self.leave(place, what, Reason::Broken, Some(detail));
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        Source::of(path, text)
    }

    /// What other programs make of a file before OpenSIPS reads it is not done here.
    fn tell_of_preprocessors(&mut self, source: &Source) {
        let mut m4_is_told = false;
        for (line, number) in source.text.lines().zip(1_u32..) {
            let line = line.trim_start();
            let is_directive = line.starts_with("#!") && !line.starts_with("#!/");
            let is_m4 = M4.iter().any(|word| line.starts_with(word));
            if !is_directive && (!is_m4 || m4_is_told) {
                continue;
            }
            m4_is_told |= is_m4;
            if self.draft.is_full() {
                self.draft.left_out_more += 1;
                continue;
            }
            let detail = match is_m4 {
                true => {
                    "a macro of m4: macros are not expanded here, so all of them is missing; let m4 do it first: `m4 FILE | \
                     binrush import -`"
                }
                false => {
                    "a line for a preprocessor: OpenSIPS takes it for a comment, and so it is here; both sides of a condition \
                     are read"
                }
            };
            let start = source.line_start(number);
            let place = source.excerpt(Span { start, end: start }).place;
            let what = directive(line);
            self.leave(place, what, Reason::Unresolved, Some(detail.to_owned()));
        }
    }

    /// Takes what begins at or after `at`. `Some`: the byte behind it, from which to go on.
    fn step(&mut self, source: &Source, at: usize) -> Option<usize> {
        let mut lexer = Lexer::at(source, at);
        let first = match lexer.next() {
            Ok(first) => first,
            Err(problem) => return self.trouble(source, None, &problem),
        };
        if first.token == Token::End {
            return None;
        }
        let Some(left) = self.statements_left.checked_sub(1) else {
            let place = source.excerpt(first.span).place;
            let what = "the rest of the file".to_owned();
            let detail =
                format!("more than {STATEMENTS_MAX} statements: no configuration has so many");
            self.leave(place, what, Reason::Broken, Some(detail));
            return None;
        };
        self.statements_left = left;
        let refused = match first.token {
            Token::Word(word) if is_known(word) => match self.statement(source, &first) {
                Ok(next) => return next,
                Err(problem) => Some(problem),
            },
            _ => None,
        };
        match statement_end(source, first.span.start) {
            Ok(end) => {
                if let Some(problem) = swallowing(source, first.span.start, end) {
                    return self.trouble(source, Some(first.span), &problem);
                }
                self.unknown(source, &first, end, refused.as_ref());
                Some(end)
            }
            Err(problem) => self.trouble(source, Some(first.span), &problem),
        }
    }

    /// Takes the statement that begins with `first` as the strict parser does. `Some`: the byte from which to go on.
    ///
    /// # Errors
    /// What it refuses.
    fn statement(&mut self, source: &Source, first: &Lexeme<'_>) -> Result<Option<usize>, Problem> {
        let start = first.span.start;
        let mut parser = Parser::new(Lexer::at(source, start))?;
        let Some(statement) = parser.statement()? else {
            return Ok(None);
        };
        let is_route = matches!(statement.value, Statement::Route(_));
        if !is_route && let Some(problem) = swallowing(source, start, parser.position()) {
            return Ok(self.trouble(source, Some(first.span), &problem));
        }
        match &statement.value {
            Statement::Include { path, .. } => self.include(source, &path.value, path.span),
            _ => self.draft.statement(source, statement),
        }
        Ok(Some(parser.position()))
    }

    /// Tells of a statement from `first` up to `end` that is none, or none of those that are known.
    fn unknown(
        &mut self,
        source: &Source,
        first: &Lexeme<'_>,
        end: usize,
        refused: Option<&Problem>,
    ) {
        let place = source.excerpt(first.span).place;
        let text = &source.text[first.span.start..end];
        if let Some(module) = foreign_module(source, first) {
            let what = format!("modparam({}, ...)", module);
            return self.leave(place, what, Reason::Module, None);
        }
        let line = text.lines().next().unwrap_or_default();
        let shown = without_values(source, first.span.start);
        let what = shown.split(['(', '{']).next().unwrap_or_default().trim();
        let what = what.to_owned();
        match refused {
            Some(problem) => self.leave(place, what, Reason::Broken, Some(told(problem))),
            None if text.trim_end().ends_with('}') && !line.contains('=') => {
                self.leave(place, what, Reason::Route, None);
            }
            None => self.leave(place, what, Reason::Unknown, None),
        }
    }

    /// A string, a comment or a block in the statement that begins at `first` has no end, or what stands where a statement
    /// may begin. Goes on at the next line that begins with a keyword, if there is one.
    fn trouble(
        &mut self,
        source: &Source,
        first: Option<Span>,
        problem: &Problem,
    ) -> Option<usize> {
        let at = problem.place()?;
        // Where the end is missed is often far behind the statement that is lost, and in one that is not.
        let place = first.map_or_else(|| at.clone(), |first| source.excerpt(first).place);
        let line = place.line;
        let mut next = line + 1;
        let mut lines = source.text[source.line_start(next)..].lines();
        while lines.next().is_some_and(|line| !begins_with_keyword(line)) {
            next += 1;
        }
        let resume = source.line_start(next);
        let is_end = resume == source.text.len() || self.troubles_left == 0;
        self.troubles_left = self.troubles_left.saturating_sub(1);
        let until = match is_end {
            true => format!("what is from line {line} on is not read"),
            false => format!("what is from line {line} to {} is not read", next - 1),
        };
        let detail = format!("{}; {until}", told(problem));
        let start = first.map_or_else(|| source.line_start(line), |first| first.start);
        let what = without_values(source, start);
        self.leave(place, what, Reason::Broken, Some(detail));
        (!is_end).then_some(resume)
    }

    /// The file that the statement at `span` of `source` includes.
    fn include(&mut self, source: &Source, path: &str, span: Span) {
        let full = source.path.with_file_name(path);
        let why = if path.is_empty() {
            "the name of a file expected".to_owned()
        } else if self.open.contains(&plain(&full)) {
            "it includes itself".to_owned()
        } else if self.open.len() == DEPTH_MAX {
            format!("more than {DEPTH_MAX} files in each other")
        } else {
            match self.files.read(&full, FILE_MAX + 1) {
                Ok(bytes) => match self.bytes_left.checked_sub(bytes.len()) {
                    Some(left) => {
                        self.bytes_left = left;
                        return self.take(&full, bytes);
                    }
                    None => format!("all files together are larger than {TOTAL_MAX} bytes"),
                },
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    "it is not there, so what it says is missing".to_owned()
                }
                Err(error) => format!("it cannot be read, so what it says is missing: {error}"),
            }
        };
        let place = source.excerpt(span).place;
        let what = format!("include_file \"{}\"", harmless(&full.display().to_string()));
        self.leave(place, what, Reason::Unresolved, Some(why));
    }

    fn leave(&mut self, place: Place, what: String, reason: Reason, detail: Option<String>) {
        self.draft.leave(LeftOut {
            place,
            what,
            reason,
            detail,
        });
    }
}

/// Where the statement at `start` ends, of which nothing is known.
///
/// # Errors
/// Something in it has no end.
fn statement_end(source: &Source, start: usize) -> Result<usize, Problem> {
    let mut lexer = Lexer::at(source, start);
    let mut end = start;
    let mut depth = 0_usize;
    loop {
        let lexeme = lexer.next()?;
        let Span { start: from, .. } = lexeme.span;
        let is_first = from == start;
        let is_new_line = source.text[end..from].contains('\n');
        if !is_first && is_new_line && begins_statement(&lexeme, &lexer, depth) {
            return Ok(from);
        }
        match lexeme.token {
            Token::End => return Ok(from),
            Token::Sign('{') => {
                lexer.skip_block(lexeme.span)?;
                let behind = lexer.clone().next();
                // One that goes on has a comma; anything else is the next statement.
                let goes_on = behind.is_ok_and(|behind| behind.token == Token::Sign(','));
                if depth == 0 && !goes_on {
                    return Ok(lexer.position());
                }
            }
            Token::Sign('(' | '[') => depth += 1,
            Token::Sign(')' | ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        end = lexer.position();
    }
}

/// What is wrong with a statement, if one of its strings goes over a line that looks like a statement: the string was not
/// closed, and what closes it opens the next one.
fn swallowing(source: &Source, start: usize, end: usize) -> Option<Problem> {
    let mut lexer = Lexer::at(source, start);
    while lexer.position() < end {
        let Lexeme { token, span } = lexer.next().ok()?;
        let mut later = source.text[span.start..span.end].lines().skip(1);
        match token {
            Token::End => break,
            Token::Text(_) if later.any(begins_with_keyword) => {
                let message = "this string has no end: a statement begins within it";
                return Some(source.problem(span, message));
            }
            _ => {}
        }
    }
    None
}

/// Whether `lexeme`, the first of a line, begins a statement; `behind` is what follows it, and `depth` how many brackets are
/// open.
fn begins_statement(lexeme: &Lexeme<'_>, behind: &Lexer<'_>, depth: usize) -> bool {
    let Token::Word(word) = lexeme.token else {
        return false;
    };
    if STATEMENTS.contains(&word) || ROUTES.contains(&word) {
        return true;
    }
    let next = behind.clone().next();
    depth == 0 && next.is_ok_and(|next| matches!(next.token, Token::Sign('=' | '{' | '[' | '(')))
}

/// The name in quotes, when `first` begins a `modparam` of modules of which none is a part of ours.
fn foreign_module(source: &Source, first: &Lexeme<'_>) -> Option<String> {
    if first.token != Token::Word("modparam") {
        return None;
    }
    let mut lexer = Lexer::at(source, first.span.end);
    if lexer.next().ok()?.token != Token::Sign('(') {
        return None;
    }
    match lexer.next().ok()?.token {
        Token::Text(name) => Draft::is_foreign(&name).then(|| format!("\"{}\"", harmless(&name))),
        _ => None,
    }
}

/// The place of `problem` and what it is, but for what was found there: behind a quote that is missing or one too many any
/// word may be of a password.
fn told(problem: &Problem) -> String {
    let at = problem.place();
    let at = at.map_or_else(String::new, |at| format!("{}:{}: ", at.line, at.column));
    let message = problem.message();
    let expected = message.split_once(", not ");
    format!("{at}{}", expected.map_or(message, |(expected, _)| expected))
}

/// The beginning of the statement at `start`, on its line: what stands in front of the first quote, `=` or comment. Behind
/// those may be a password.
fn without_values(source: &Source, start: usize) -> String {
    let line_start = source.text[..start].rfind('\n').map_or(0, |at| at + 1);
    // Behind a string with a wrong end even the first word may be one of a string.
    let is_doubtful = source.text[line_start..start].contains(QUOTES);
    let from = if is_doubtful { line_start } else { start };
    let line = source.text[from..].lines().next().unwrap_or_default();
    let line = line.trim();
    let value = line.find(|c| c == '=' || QUOTES.contains(&c));
    let comment = ["/*", "//", "#"]
        .iter()
        .filter_map(|begin| line.find(begin));
    match comment.chain(value).min() {
        None => harmless(line),
        // No statement begins with these; so that there is something to be seen.
        Some(0) => format!("{}...", line.chars().take(1).collect::<String>()),
        Some(end) => harmless(line[..end].trim()),
    }
}

/// The first word of a `line` for a preprocessor, and the macro that it is about. What the macro means may be a password.
fn directive(line: &str) -> String {
    let (mark, rest) = line
        .strip_prefix("#!")
        .map_or(("", line), |rest| ("#!", rest));
    let (name, rest) = word(rest);
    let (argument, rest) = match name {
        "define" | "undef" | "ifdef" | "ifndef" => {
            word(rest.trim_start_matches([' ', '\t', '(', '`']))
        }
        _ => ("", rest),
    };
    let mut what = format!("{mark}{name}");
    for more in [argument, if rest.trim().is_empty() { "" } else { "..." }] {
        if !more.is_empty() {
            what.push(' ');
            what.push_str(more);
        }
    }
    harmless(&what)
}

/// What there is to say of a `line` that is not read, which may begin within a string.
fn long_line(line: &str) -> String {
    let (name, _) = word(line.trim_start());
    match is_known(name) {
        true => name.to_owned(),
        false => "a line".to_owned(),
    }
}

/// The letters, digits and underscores that `text` begins with, and the rest.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len()))
}

fn is_known(word: &str) -> bool {
    STATEMENTS.contains(&word) || ROUTES.contains(&word) || globals::find(word).is_some()
}

/// Whether `line` begins, at its first character, with a keyword and what follows it: nothing else looks like that.
fn begins_with_keyword(line: &str) -> bool {
    let (word, behind) = word(line);
    let follows: &[char] = match word {
        "modparam" => &['('],
        word if STATEMENTS.contains(&word) => &['"', '\''],
        word if ROUTES.contains(&word) => &['{', '['],
        _ => return false,
    };
    behind.trim_start().starts_with(follows)
}

/// Bytes of one file. The largest that are known have some hundreds of KiB.
const FILE_MAX: u64 = 16 << 20;
const FILE_MAX_BYTES: usize = 16 << 20;

/// Bytes of all files together.
const TOTAL_MAX: usize = 32 << 20;

/// Bytes of one line.
const LINE_MAX: usize = 64 << 10;

/// Statements of all files together, a route being one.
const STATEMENTS_MAX: usize = 20_000;

/// How often reading goes on behind something without an end: each costs a look at the whole rest.
const TROUBLES_MAX: usize = 4;

/// What values stand in, those of m4 included.
const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Files that include each other.
const DEPTH_MAX: usize = 16;

/// How the lines begin that only m4 understands (`opensips -p m4`; OpenSIPS has templates in `examples/templates/`).
const M4: [&str; 7] = [
    "define(`",
    "divert(",
    "ifelse(",
    "ifdef(`",
    "include(`",
    "changequote(",
    "dnl",
];
