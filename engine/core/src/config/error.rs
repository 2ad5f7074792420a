//! What is wrong with a configuration, told so that it can be put right.

use std::fmt;
use std::sync::Arc;

use super::password::without_password;
use super::source::{Excerpt, Place};

/// A configuration that cannot be used: its first problems, those of single statements before those of the whole.
///
/// Displayed, each problem is `file:line:column: what is wrong, and what was expected`, with the line and a mark
/// below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    problems: Vec<Problem>,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    file: Arc<str>,
    /// `None`: the file as a whole.
    excerpt: Option<Excerpt>,
    message: String,
}

/// Something in a configuration that works otherwise than its author may think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigWarning {
    topic: Topic,
    place: Option<Place>,
    message: String,
}

/// What a warning is about: whoever puts something else in its place is not to be warned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Topic {
    /// Addresses to listen on.
    Listener,
    /// Who may send.
    Access,
    /// A listener, and that nobody but this host may send to it.
    Reach,
    /// The number of shards, and what does not go with it.
    Shards,
    /// The number of shards, and that of the cores for them.
    Pin,
    /// Anything else.
    Other,
}

impl ConfigError {
    /// `None` when there are no `problems`.
    pub(super) fn of(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self { problems })
    }

    /// What is wrong, at least one problem and at most [`PROBLEMS_MAX`].
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    pub(super) fn at(excerpt: Excerpt, message: impl Into<String>) -> Self {
        Self {
            file: Arc::clone(&excerpt.place.file),
            excerpt: Some(excerpt),
            message: message.into(),
        }
    }

    pub(super) fn in_file(file: Arc<str>, message: impl Into<String>) -> Self {
        Self {
            file,
            excerpt: None,
            message: message.into(),
        }
    }

    /// The file it is in, as it was named.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where in the file; `None` when it is about the file as a whole.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.excerpt.as_ref().map(|excerpt| &excerpt.place)
    }

    /// What is wrong, what was expected, and what to do.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl ConfigWarning {
    pub(super) fn new(topic: Topic, place: Option<Place>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            topic,
            place,
            message,
        }
    }

    /// What it is about.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        self.topic
    }

    /// Where in the configuration; `None` when it is about the whole.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// What the author may not expect, and what to do.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.problems.len() == PROBLEMS_MAX {
            write!(f, "\nthere may be more: these are the first {PROBLEMS_MAX}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.excerpt {
            Some(excerpt) => {
                let marked = excerpt.marked();
                write!(f, "{}: {}\n{marked}", excerpt.place, self.message)
            }
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// `; did you mean "..."?` with the one of `known` that is most like `name`, or nothing when none is.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(name, known);
    near.map_or_else(String::new, |known| format!("; did you mean \"{known}\"?"))
}

/// The one of `known` that is so like `name` that it may be meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > QUOTED_MAX {
        // No name is that long, and comparing takes time with the product of the lengths.
        return None;
    }
    let name = name.to_ascii_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(&name, &known.to_ascii_lowercase());
    let nearest = known
        .into_iter()
        .map(|known| (likeness(known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let (likeness, known) = nearest?;
    (likeness >= LIKE).then_some(known)
}

/// A word of the configuration within a message: bounded, without its password, and nothing that a terminal obeys.
pub(crate) fn quoted(text: &str) -> String {
    let text = without_password(text);
    let shown: String = text.chars().take(QUOTED_MAX).collect();
    let cut = if shown.len() < text.len() { "..." } else { "" };
    format!("\"{}{cut}\"", shown.escape_debug())
}

/// A file with more problems than this is of another kind, or begins with the wrong line.
pub const PROBLEMS_MAX: usize = 20;

/// Found by trying misspelt names: from here on the two look alike.
const LIKE: f64 = 0.85;

/// Characters of a word that a message repeats.
const QUOTED_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let known = ["bin_listen", "bin_children", "listen", "log_level"];
        for (name, near) in [
            ("bin_lisen", "bin_listen"),
            ("BIN_LISTEN", "bin_listen"),
            ("loglevel", "log_level"),
            ("listne", "listen"),
        ] {
            let expected = format!("; did you mean \"{near}\"?");
            assert_eq!(did_you_mean(name, known), expected, "{name}");
        }
        assert_eq!(did_you_mean("xyz", known), "");
        assert_eq!(did_you_mean("anything", []), "");
        assert_eq!(did_you_mean(&"listen".repeat(100_000), known), "");
    }

    #[test]
    fn a_message_repeats_a_bounded_part_of_what_it_is_about() {
        assert_eq!(quoted("a\x1b\"b"), r#""a\u{1b}\"b""#);
        assert_eq!(quoted(&"ä".repeat(1000)).chars().count(), 60 + 3 + 2);
    }
}
