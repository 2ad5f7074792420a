//! One file of a configuration: its text, and how a place in it is shown to a person.

use std::cell::OnceCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Problem;
use super::password::password;

/// Where the text of configuration files comes from, so that reading them needs no disk in a test.
pub trait ReadFile {
    /// The bytes of the file at `path`, but no more than `most` of them.
    ///
    /// # Errors
    /// What hinders reading; the message goes to the person who wrote the configuration.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>>;
}

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

/// A place in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named: on the command line, or by the including file.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1; a tab is one.
    pub column: u32,
}

/// A place, and what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Where it begins.
    pub place: Place,
    /// The line, or the part of a long one around the place; safe to print on a terminal.
    shown: String,
    /// Characters of `shown` before the place.
    before: usize,
    /// Characters that the place covers, at least 1.
    width: usize,
}

/// Bytes of a [`Source`], from `start` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Where each line begins.
    lines: Vec<usize>,
    /// Where the password of each line is. Looked for once: a script may have all its calls in one line.
    secrets: OnceCell<Vec<Option<Range<usize>>>>,
}

impl Source {
    /// Takes the bytes of the file at `path`.
    ///
    /// # Errors
    /// Bytes that are no UTF-8, with their place.
    pub(super) fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, Problem> {
        let (source, broken) = Self::lossy(path, bytes);
        match broken {
            None => Ok(source),
            Some(at) => Err(source.problem(
                at,
                "this is no UTF-8: save the file as UTF-8, or keep to ASCII",
            )),
        }
    }

    /// Takes the bytes of the file at `path`; what is no UTF-8 becomes U+FFFD, and the first such place is told.
    pub(super) fn lossy(path: &Path, bytes: Vec<u8>) -> (Self, Option<Span>) {
        let (text, broken) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                // What comes before the first broken byte is the same in both texts, so its offset fits the lossy one too.
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                (text, Some(Span { start: at, end: at }))
            }
        };
        (Self::of(path, text), broken)
    }

    /// Takes a text that stands for the file at `path`.
    pub(super) fn of(path: &Path, text: String) -> Self {
        let name: Arc<str> = path.display().to_string().into();
        let path = path.to_path_buf();
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self {
            name,
            path,
            text,
            lines,
            secrets: OnceCell::new(),
        }
    }

    /// Where the line with this number begins, counted from 1; the end of the text where there is none.
    pub(super) fn line_start(&self, number: u32) -> usize {
        let index = usize::try_from(number).map_or(usize::MAX, |number| number.saturating_sub(1));
        self.lines.get(index).copied().unwrap_or(self.text.len())
    }

    /// What is wrong with the text at `span`.
    pub(super) fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem::at(self.excerpt(span), message)
    }

    pub(super) fn excerpt(&self, span: Span) -> Excerpt {
        let start = span.start.min(self.text.len());
        // The first line begins at 0, so at least one begins at or before `start`.
        let line = self.lines.partition_point(|line| *line <= start);
        let Range {
            start: line_start,
            end: line_end,
        } = self.line(line - 1);
        let (before, rest) = (&self.text[line_start..start], &self.text[start..line_end]);
        let place = Place {
            file: Arc::clone(&self.name),
            line: number(line),
            column: number(before.chars().count() + 1),
        };
        let width = rest[..span.end.clamp(start, line_end) - start]
            .chars()
            .count();
        let secrets = self.secrets.get_or_init(|| {
            let lines = (0..self.lines.len()).map(|index| &self.text[self.line(index)]);
            lines.map(password).collect()
        });
        let secret = secrets[line - 1].clone().unwrap_or_default();
        let line = self.text[line_start..line_end].trim_end_matches('\r');
        Excerpt::new(place, line, (before.len(), width), &secret)
    }

    /// Where the line is that `lines` has at `index`, without its end.
    fn line(&self, index: usize) -> Range<usize> {
        let next = self.lines.get(index + 1);
        self.lines[index]..next.map_or(self.text.len(), |next| next - 1)
    }
}

impl Excerpt {
    /// Cuts `line` around its place, which begins at byte `at` and has `width` characters. Stars take the place of the
    /// password at `secret`, one for each character, so that the mark stays where it belongs.
    fn new(place: Place, line: &str, (at, width): (usize, usize), secret: &Range<usize>) -> Self {
        let at = at.min(line.len());
        let (before, rest) = line.split_at(at);
        let visible = |at: usize, c: char| match secret.contains(&at) {
            true => '*',
            false => printable(c),
        };
        let is_long = line.chars().nth(SHOWN_MAX).is_some();
        let cut = before
            .char_indices()
            .rev()
            .nth(SHOWN_BEFORE - 1)
            .map_or(0, |(at, _)| at);
        let cut = if is_long { cut } else { 0 };
        let mut shown: String = if cut > 0 { CUT } else { "" }.into();
        let kept = before[cut..].char_indices();
        shown.extend(kept.map(|(from, c)| visible(cut + from, c)));
        let before = shown.chars().count();
        let room = SHOWN_MAX - before.min(SHOWN_MAX);
        let behind = rest.char_indices();
        let mut characters = behind.map(|(from, c)| visible(at + from, c));
        shown.extend(characters.by_ref().take(room));
        let width = width.min(shown.chars().count() - before).max(1);
        if characters.next().is_some() {
            shown.push_str(CUT);
        }
        Self {
            place,
            shown,
            before,
            width,
        }
    }

    /// The line, and below it a mark under the place.
    #[must_use]
    pub fn marked(&self) -> String {
        let Self {
            shown,
            before,
            width,
            ..
        } = self;
        format!("  {shown}\n  {:before$}{}", "", "^".repeat(*width))
    }
}

impl ReadFile for Disk {
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One column wide, and nothing that a terminal obeys.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// A file has far fewer lines and columns than this type has values.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Characters of a line that are shown, and how many of them stand before the place.
const SHOWN_MAX: usize = 100;
const SHOWN_BEFORE: usize = 40;

/// Stands for what is not shown.
const CUT: &str = "...";

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, what: &str) -> Excerpt {
        let source = Source::new(Path::new("a.cfg"), text.into()).unwrap();
        let start = text.find(what).unwrap();
        let end = start + what.len();
        source.excerpt(Span { start, end })
    }

    #[test]
    fn columns_are_counted_in_characters_from_one() {
        let found = excerpt("first\n\tä = ö\r\nlast", "ö");
        assert_eq!(found.place.to_string(), "a.cfg:2:6");
        assert_eq!(found.marked(), "   ä = ö\n       ^");
    }

    #[test]
    fn the_end_of_the_file_is_a_place_too() {
        let source = Source::new(Path::new("a.cfg"), b"one\n".to_vec()).unwrap();
        for start in [4, 5, usize::MAX] {
            let found = source.excerpt(Span { start, end: start });
            assert_eq!(found.place.to_string(), "a.cfg:2:1");
            assert_eq!(found.marked(), "  \n  ^");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let found = excerpt(&line, "HERE");
        assert_eq!(found.place.column, 501);
        let marked = found.marked();
        let (shown, mark) = marked.split_once('\n').unwrap();
        assert_eq!(shown.len(), 2 + SHOWN_MAX + 3);
        assert_eq!(&shown[mark.find('^').unwrap()..][..4], "HERE");
        assert_eq!(mark.trim(), "^^^^");
    }

    #[test]
    fn a_span_over_several_lines_is_marked_up_to_the_end_of_its_first() {
        assert_eq!(
            excerpt("a \"b\nc\" d", "\"b\nc\"").marked(),
            "  a \"b\n    ^^"
        );
    }

    #[test]
    fn a_terminal_is_told_nothing_by_a_line() {
        assert_eq!(excerpt("\x1b[2Jx", "x").marked(), "  \u{fffd}[2Jx\n      ^");
    }

    #[test]
    fn a_line_is_shown_without_its_password_and_the_mark_stays_in_place() {
        let line = "set(\"db\", \"mysql://u:pä55@h\", 1x)";
        let expected = format!("  set(\"db\", \"mysql://u:****@h\", 1x)\n{:>34}", "^^");
        assert_eq!(excerpt(line, "1x").marked(), expected);
        // Also where the line is cut in the middle of it.
        let long = format!("a://u:{}@h HERE {}", "s".repeat(60), "b".repeat(100));
        assert!(!excerpt(&long, "HERE").marked().contains('s'));
    }

    #[test]
    fn bytes_that_are_no_text_are_told_with_their_place() {
        let bytes = b"debug = 3\n\xc3\xa4 \xff".to_vec();
        let problem = Source::new(Path::new("a.cfg"), bytes).unwrap_err();
        let text = problem.to_string();
        assert!(text.starts_with("a.cfg:2:3: this is no UTF-8"), "{text}");
    }
}
