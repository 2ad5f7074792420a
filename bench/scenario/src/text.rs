//! The text of a scenario, and how a place in it is shown to a person.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named, or whatever the text came from.
    pub origin: Arc<str>,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1; a tab is one.
    pub column: usize,
}

/// One thing that is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: Place,
    message: String,
    /// The line, and below it a mark under the place; safe to print on a terminal.
    marked: String,
}

/// A text with its name.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    origin: Arc<str>,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Problem {
    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong, what was expected, and what to do.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: &'a str, origin: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            origin: origin.into(),
            text,
            lines: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// What is wrong with the bytes `span` of the text.
    pub(crate) fn problem(&self, span: Range<usize>, message: impl Into<String>) -> Problem {
        let start = self.boundary(span.start);
        // The first line begins at 0, so at least one begins at or before `start`.
        let line = self.lines.partition_point(|line| *line <= start);
        let line_start = self.lines[line - 1];
        let line_end = self
            .lines
            .get(line)
            .map_or(self.text.len(), |next| next - 1);
        let (before, rest) = (&self.text[line_start..start], &self.text[start..line_end]);
        let end = self.boundary(span.end).clamp(start, line_end);
        Problem {
            place: Place {
                origin: Arc::clone(&self.origin),
                line,
                column: before.chars().count() + 1,
            },
            message: message.into(),
            marked: marked(before, rest.trim_end_matches('\r'), end - start),
        }
    }

    /// The first place at or before `at` where a character begins.
    fn boundary(&self, at: usize) -> usize {
        self.text.floor_char_boundary(at)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n{}", self.place, self.message, self.marked)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.origin, self.line, self.column)
    }
}

/// A line with marks under `len` bytes of `rest`, cut around them when it is long.
fn marked(before: &str, rest: &str, len: usize) -> String {
    let is_long = before.chars().chain(rest.chars()).nth(SHOWN_MAX).is_some();
    let cut = before.char_indices().rev().nth(SHOWN_BEFORE - 1);
    let cut = cut.filter(|_| is_long).map_or(0, |(at, _)| at);
    let mut shown: String = if cut > 0 { CUT } else { "" }.into();
    shown.extend(before[cut..].chars().map(printable));
    let before = shown.chars().count();
    let room = SHOWN_MAX - before.min(SHOWN_MAX);
    let mut characters = rest.char_indices();
    let (mut visible, mut width) = (0, 0);
    for (at, c) in characters.by_ref().take(room) {
        shown.push(printable(c));
        visible += 1;
        width = if at < len { visible } else { width };
    }
    if characters.next().is_some() {
        shown.push_str(CUT);
    }
    format!("  {shown}\n  {:before$}{}", "", "^".repeat(width.max(1)))
}

/// One column wide, and nothing that a terminal obeys.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Characters of a line that are shown, and how many of them stand before the place.
const SHOWN_MAX: usize = 100;
const SHOWN_BEFORE: usize = 40;

/// Stands for what is not shown.
const CUT: &str = "...";

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, what: &str) -> Problem {
        let start = text.find(what).unwrap();
        Text::new(text, "a.toml").problem(start..start + what.len(), "wrong")
    }

    #[test]
    fn columns_are_counted_in_characters_from_one() {
        let told = problem("first\n\tä = ö\r\nlast", "ö").to_string();
        assert_eq!(told, "a.toml:2:6: wrong\n   ä = ö\n       ^");
    }

    #[test]
    fn the_end_of_the_text_is_a_place_too() {
        for start in [4, 5, usize::MAX] {
            let problem = Text::new("one\n", "a.toml").problem(start..start, "wrong");
            assert_eq!(problem.to_string(), "a.toml:2:1: wrong\n  \n  ^");
        }
    }

    #[test]
    fn a_span_that_cuts_characters_or_runs_backwards_is_shown_all_the_same() {
        let text = Text::new("äöü", "a.toml");
        let marks = |span| {
            let told = text.problem(span, "wrong").to_string();
            told.rsplit_once("\n  ").unwrap().1.to_owned()
        };
        assert_eq!(marks(1..3), "^");
        assert_eq!(marks(2..6), " ^^");
        assert_eq!(marks(Range { start: 4, end: 2 }), "  ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let told = problem(&line, "HERE").to_string();
        let [head, shown, mark] = told.lines().collect::<Vec<_>>()[..] else {
            panic!("{told}");
        };
        assert_eq!(head, "a.toml:1:501: wrong");
        assert_eq!(shown.len(), 2 + SHOWN_MAX + 3);
        assert_eq!(&shown[mark.find('^').unwrap()..][..4], "HERE");
        assert_eq!(mark.trim(), "^^^^");
    }

    #[test]
    fn a_span_over_several_lines_is_marked_up_to_the_end_of_its_first() {
        let told = problem("a [b\nc] d", "[b\nc]").to_string();
        assert_eq!(told, "a.toml:1:3: wrong\n  a [b\n    ^^");
    }

    #[test]
    fn a_terminal_is_told_nothing_by_a_line() {
        let told = problem("\x1b[2Jx", "x").to_string();
        assert!(told.ends_with("\n  \u{fffd}[2Jx\n      ^"), "{told}");
    }
}
