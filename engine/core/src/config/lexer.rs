//! Text to tokens, by the lexical rules of OpenSIPS (`cfg.lex`, 1.10 to 4.0), and over the bodies of routes.
//!
//! Two rules are our own: `//` begins a comment as `#` does (in OpenSIPS it is an error), and a string holds
//! UTF-8.

use super::error::Problem;
use super::source::{Source, Span};

/// What a statement is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name, a number, an IPv4 address, a part of a host name: letters, digits, `_`, `.` and `-`.
    Word(&'a str),
    /// A string without its quotes, its escapes resolved.
    Text(String),
    /// A variable of a script, from its `$` to the end of its name or parentheses; outside of routes there are none.
    Variable(&'a str),
    /// Any other character.
    Sign(char),
    /// The end of the file; it comes again and again.
    End,
}

/// A token, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lexeme<'a> {
    pub(super) token: Token<'a>,
    pub(super) span: Span,
}

/// Walks over a text once. A clone is a bookmark.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    source: &'a Source,
    at: usize,
    /// The byte behind the last one.
    end: usize,
    /// Whether the rules are those of routes: `$` begins a variable, and `//` no comment.
    in_route: bool,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(source: &'a Source) -> Self {
        Self::at(source, 0)
    }

    /// A lexer that begins at the byte `at`, which is the first of a character.
    pub(super) const fn at(source: &'a Source, at: usize) -> Self {
        let end = source.text.len();
        Self {
            source,
            at,
            end,
            in_route: false,
        }
    }

    /// A lexer of what a route has between its braces.
    pub(super) const fn of_route(source: &'a Source, body: Span) -> Self {
        Self {
            source,
            at: body.start,
            end: body.end,
            in_route: true,
        }
    }

    /// The byte behind the last token.
    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) const fn source(&self) -> &'a Source {
        self.source
    }

    /// The next token.
    ///
    /// # Errors
    /// A string or a comment without an end, an escape that makes no text.
    pub(super) fn next(&mut self) -> Result<Lexeme<'a>, Problem> {
        self.skip_blank()?;
        let start = self.at;
        let token = match self.peek() {
            None => Token::End,
            Some('"') => Token::Text(self.text()?),
            Some('\'') => Token::Text(self.plain_text()?.to_owned()),
            Some('$') if self.in_route => {
                self.skip_variable();
                Token::Variable(&self.source.text[start..self.at])
            }
            Some(c) if is_word(c) => {
                let len = self
                    .rest()
                    .find(|c| !is_word(c))
                    .unwrap_or_else(|| self.rest().len());
                self.at += len;
                Token::Word(&self.source.text[start..self.at])
            }
            Some(c) => {
                self.bump(c);
                Token::Sign(c)
            }
        };
        let span = self.span(start);
        Ok(Lexeme { token, span })
    }

    /// Goes behind the `}` that belongs to the `{` at `open`, which was the last token.
    ///
    /// What is in between follows the rules of routes: strings, comments and variables may hold braces, and `//` is
    /// no comment (it occurs in transformations).
    ///
    /// # Errors
    /// The end of the file comes first.
    pub(super) fn skip_block(&mut self, open: Span) -> Result<(), Problem> {
        let mut depth = 1_usize;
        while let Some(c) = self.peek() {
            match c {
                '"' => drop(self.quoted()?),
                '\'' => drop(self.plain_text()?),
                '#' => self.skip_line(),
                '$' => self.skip_variable(),
                '/' if self.rest().starts_with("/*") => self.skip_comment()?,
                _ => self.bump(c),
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        let message =
            format!("this block has no end: {depth} more \"}}\" expected at the end of the file");
        Err(self.source.problem(open, message))
    }

    /// Goes over white space and comments.
    fn skip_blank(&mut self) -> Result<(), Problem> {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | '\x08' => self.bump(c),
                // An editor's mark in front of UTF-8 says nothing.
                '\u{feff}' if self.at == 0 => self.bump(c),
                '#' => self.skip_line(),
                '/' if !self.in_route && self.rest().starts_with("//") => self.skip_line(),
                '/' if self.rest().starts_with("/*") => self.skip_comment()?,
                '\\' if self.rest()[1..].trim_start_matches('\r').starts_with('\n') => self.bump(c),
                _ => break,
            }
        }
        Ok(())
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or_else(|| self.rest().len());
    }

    /// Comments nest, so that one can be put around another.
    fn skip_comment(&mut self) -> Result<(), Problem> {
        let start = self.at;
        let mut depth = 0_usize;
        while !self.rest().is_empty() {
            let ends = self.rest().starts_with("*/");
            if ends || self.rest().starts_with("/*") {
                self.at += 2;
                depth = if ends { depth - 1 } else { depth + 1 };
                if depth == 0 {
                    return Ok(());
                }
            } else {
                self.at += self.rest().chars().next().map_or(0, char::len_utf8);
            }
        }
        let opening = Span {
            start,
            end: start + 2,
        };
        let message =
            format!("this comment has no end: {depth} more \"*/\" expected (comments nest)");
        Err(self.source.problem(opening, message))
    }

    /// Goes over a variable of a script: to the end of its first parentheses, or of its bare name.
    fn skip_variable(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.peek() {
            match c {
                '(' => depth += 1,
                ')' if depth > 1 => depth -= 1,
                ')' => {
                    self.at += depth;
                    return;
                }
                c if depth == 0 && (c.is_ascii_whitespace() || ENDS_VARIABLE.contains(c)) => return,
                _ => {}
            }
            self.bump(c);
        }
    }

    /// A string between double quotes, which may go over several lines, with its escapes resolved.
    fn text(&mut self) -> Result<String, Problem> {
        let start = self.at + 1;
        let raw = self.quoted()?;
        let mut text = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((before, escaped)) = rest.split_once('\\') {
            text.push_str(before);
            let at = start + (raw.len() - escaped.len()) - 1;
            let (meant, used) = self.escape(escaped, at)?;
            text.extend(meant);
            rest = &escaped[used..];
        }
        text.push_str(rest);
        Ok(text)
    }

    /// What the escape at `at` means, whose `\` is followed by `rest`, and how many bytes of `rest` it takes.
    fn escape(&self, rest: &str, at: usize) -> Result<(Option<char>, usize), Problem> {
        let digits = |from: usize, most: usize, radix: u32| {
            let digits = rest[from..]
                .chars()
                .take(most)
                .take_while(|c| c.is_digit(radix))
                .count();
            (
                u32::from_str_radix(&rest[from..from + digits], radix).unwrap_or(0),
                from + digits,
            )
        };
        let (code, used) = match rest.as_bytes() {
            [b'n', ..] => return Ok((Some('\n'), 1)),
            [b'r', ..] => return Ok((Some('\r'), 1)),
            [b't', ..] => return Ok((Some('\t'), 1)),
            [b'a', ..] => return Ok((Some('\x07'), 1)),
            [b'"', ..] => return Ok((Some('"'), 1)),
            [b'\\', ..] => return Ok((Some('\\'), 1)),
            // A line that goes on.
            [b'\n', ..] => return Ok((None, 1)),
            [b'\r', b'\n', ..] => return Ok((None, 2)),
            [b'x', digit, ..] if digit.is_ascii_hexdigit() => digits(1, 2, 16),
            [b'0'..=b'7', b'0'..=b'7', ..] => digits(0, 3, 8),
            // Anything else means itself, backslash included: regular expressions live of that.
            _ => return Ok((Some('\\'), 0)),
        };
        match u8::try_from(code) {
            Ok(code @ 1..=0x7f) => Ok((Some(char::from(code)), used)),
            _ => {
                let span = Span {
                    start: at,
                    end: at + 1 + used,
                };
                let message = "this escape makes no text: \\x01 to \\x7f expected; write other characters as UTF-8";
                Err(self.source.problem(span, message))
            }
        }
    }

    /// What stands between double quotes, escapes and all.
    fn quoted(&mut self) -> Result<&'a str, Problem> {
        let inner = &self.rest()[1..];
        let mut escaped = false;
        let end = inner.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        self.until(end, "\"")
    }

    /// What stands between single quotes; there are no escapes.
    fn plain_text(&mut self) -> Result<&'a str, Problem> {
        let end = self.rest()[1..].find('\'');
        self.until(end, "'")
    }

    /// Takes the string whose quote is next, and that has `end` bytes.
    fn until(&mut self, end: Option<usize>, quote: &str) -> Result<&'a str, Problem> {
        let start = self.at + 1;
        let Some(len) = end else {
            let message = format!("this string has no end: {quote} expected");
            return Err(self.source.problem(
                Span {
                    start: self.at,
                    end: start,
                },
                message,
            ));
        };
        self.at = start + len + 1;
        Ok(&self.source.text[start..start + len])
    }

    fn bump(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        &self.source.text[self.at..self.end]
    }

    const fn span(&self, start: usize) -> Span {
        Span {
            start,
            end: self.at,
        }
    }
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// What ends the bare name of a variable, besides white space: operators and the like.
const ENDS_VARIABLE: &str = ";,=+-*/%&|^~!<>";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn source(text: &str) -> Source {
        Source::new(Path::new("a.cfg"), text.into()).unwrap()
    }

    fn tokens(text: &str) -> Vec<String> {
        let source = source(text);
        let mut lexer = Lexer::new(&source);
        let mut found = vec![];
        loop {
            match lexer.next().unwrap().token {
                Token::Word(word) => found.push(word.to_owned()),
                Token::Text(text) => found.push(format!("{text:?}")),
                Token::Sign(sign) => found.push(sign.to_string()),
                Token::Variable(name) => found.push(name.to_owned()),
                Token::End => return found,
            }
        }
    }

    fn refused(text: &str) -> String {
        let source = source(text);
        let mut lexer = Lexer::new(&source);
        loop {
            match lexer.next() {
                Ok(Lexeme {
                    token: Token::End, ..
                }) => panic!("{text:?} is taken"),
                Ok(_) => {}
                Err(problem) => return problem.to_string(),
            }
        }
    }

    /// What is left after the block that begins at the first `{`.
    fn behind_block(text: &str) -> Result<String, Problem> {
        let source = source(text);
        let mut lexer = Lexer::new(&source);
        loop {
            let lexeme = lexer.next()?;
            if lexeme.token == Token::Sign('{') {
                lexer.skip_block(lexeme.span)?;
                return Ok(lexer.rest().to_owned());
            }
        }
    }

    #[test]
    fn words_signs_and_strings_stand_side_by_side() {
        let text = "listen=bin:10.0.0.1:5555 mem-group x[1]\"a\"'b'";
        let expected = "listen = bin : 10.0.0.1 : 5555 mem-group x [ 1 ] \"a\" \"b\"";
        assert_eq!(tokens(text).join(" "), expected);
    }

    #[test]
    fn comments_and_line_ends_are_blank() {
        let text = "\u{feff}a # b\r\n// c\nd/* e /* f */ g */h \\\n i#";
        assert_eq!(tokens(text), ["a", "d", "h", "i"]);
    }

    #[test]
    fn a_comment_begins_within_no_string() {
        assert_eq!(
            tokens(r#""local://" '#' "/*""#),
            [r#""local://""#, r##""#""##, r#""/*""#]
        );
    }

    #[test]
    fn escapes_are_resolved_between_double_quotes_only() {
        assert_eq!(
            tokens(r#""\n\r\t\a\"\\\x41\x4g\101\78""#),
            [r#""\n\r\t\u{7}\"\\A\u{4}gA\\78""#]
        );
        assert_eq!(tokens("\"a\\\nb\nc\\d\\1\""), ["\"ab\\nc\\\\d\\\\1\""]);
        assert_eq!(tokens(r"'a\n\'"), [r#""a\\n\\""#]);
    }

    #[test]
    fn what_has_no_end_is_told_at_its_beginning() {
        assert!(refused("a\n \"b").starts_with("a.cfg:2:2: this string has no end"));
        assert!(refused("'").starts_with("a.cfg:1:1: this string has no end"));
        assert!(refused(r#""\"#).starts_with("a.cfg:1:1: this string has no end"));
        assert!(refused("a /* /* */").starts_with("a.cfg:1:3: this comment has no end: 1 more"));
    }

    #[test]
    fn an_escape_that_makes_no_text_is_refused_at_its_place() {
        for escape in [r"\x00", r"\xff", r"\200", r"\777", r"\00"] {
            let told = refused(&format!("\"ä{escape}\""));
            assert!(
                told.starts_with("a.cfg:1:3: this escape makes no text"),
                "{told}"
            );
            assert!(
                told.ends_with(&format!("\n    {}", "^".repeat(escape.len()))),
                "{told}"
            );
        }
    }

    #[test]
    fn a_block_ends_at_its_own_brace() {
        for body in [
            "{}",
            "{ if (x) { y; } }",
            r#"{ "}" '}' # }
            }"#,
            "{ /* } /* } */ } */ }",
            "{ $(ru{re.subst,/}//g}) }",
            "{ $avp(a) = $(hdr(X-}){s.len}); }",
            "{ $hdr(X-#) }",
            "{ $ru; }",
            "{ $x}; }",
            r#"{ "\"}" }"#,
            "{ if ($ru) {} }",
        ] {
            let left = behind_block(&format!("route {body}rest"));
            assert_eq!(left.as_deref(), Ok("rest"), "{body}");
        }
    }

    #[test]
    fn a_block_without_end_is_told_at_its_brace() {
        let told = behind_block("a\nroute {{ $x( } }").unwrap_err().to_string();
        assert!(
            told.starts_with("a.cfg:2:7: this block has no end: 2 more"),
            "{told}"
        );
        let told = behind_block("route { \"} ").unwrap_err().to_string();
        assert!(
            told.starts_with("a.cfg:1:9: this string has no end"),
            "{told}"
        );
    }
}
