//! Single values, and the problems found so far.
//!
//! Each function gives `None` when it has added a problem, so that a caller reads all it can before it gives up.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::PROBLEMS_MAX;
use crate::limits::{self, Limit};
use crate::text::{Problem, Text};

/// A value with its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// A text, and what is wrong with it.
pub(super) struct Reader<'a> {
    text: Text<'a>,
    problems: Vec<Problem>,
}

/// A table.
pub(super) struct Fields<'t> {
    /// Its header, or all of it where it is written inline.
    pub(super) span: Range<usize>,
    /// For messages; empty for the whole text.
    pub(super) name: &'static str,
    table: &'t DeTable<'t>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, origin: &str) -> Self {
        Self {
            text: Text::new(text, origin),
            problems: Vec::new(),
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Adds a problem. Gives nothing, as whatever was to be read there.
    pub(super) fn refuse<T>(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Option<T> {
        // A text of some other kind would have thousands. They are shown by place: what is found late may come first.
        if self.problems.len() < 16 * PROBLEMS_MAX {
            self.problems.push(self.text.problem(span, message));
        }
        None
    }

    /// That `name` is not in `fields`, where it has no default.
    pub(super) fn missing<T>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        expected: &str,
    ) -> Option<T> {
        let message = format!("{name} is missing: {expected} expected");
        self.refuse(fields.span.clone(), message)
    }

    /// That `value` of `name` is something else than `expected`.
    pub(super) fn unexpected<T>(
        &mut self,
        value: &Value<'_>,
        name: &str,
        expected: &str,
    ) -> Option<T> {
        let found = described(value.get_ref());
        self.refuse(
            value.span(),
            format!("{name}: {expected} expected, not {found}"),
        )
    }

    /// The text as TOML.
    pub(super) fn document<'t>(&mut self, text: &'t str) -> Option<DeTable<'t>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut line_before = 0;
        for error in &errors {
            let problem = self
                .text
                .problem(error.span().unwrap_or_default(), error.message());
            // What follows in a line most often follows from the first error in it.
            let line = problem.place().line;
            if line != line_before && self.problems.len() < PROBLEMS_MAX {
                self.problems.push(problem);
            }
            line_before = line;
        }
        errors.is_empty().then(|| document.into_inner())
    }

    /// Refuses the keys of `fields` that are not `known`.
    pub(super) fn only(&mut self, fields: &Fields<'_>, known: &[&str]) {
        for key in fields.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let within = match fields.name {
                "" => String::new(),
                table => format!(" in {table}"),
            };
            let is_outer = !fields.name.is_empty() && super::ROOT.contains(&name);
            let advice = match did_you_mean(name, known) {
                _ if is_outer => "; it belongs before the first [table]".to_owned(),
                Some(near) => near,
                None => format!(": {} expected", listed(known)),
            };
            let message = format!("unknown key {}{within}{advice}", quoted(name));
            self.refuse::<()>(key.span(), message);
        }
    }

    pub(super) fn table<'t>(
        &mut self,
        value: &'t Value<'t>,
        name: &'static str,
    ) -> Option<Fields<'t>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Fields {
                span: value.span(),
                name,
                table,
            }),
            _ => self.unexpected(value, name, "a table"),
        }
    }

    /// `[name]`, or each `[[name]]`.
    pub(super) fn tables<'t>(
        &mut self,
        value: &'t Value<'t>,
        name: &'static str,
    ) -> Option<Vec<Fields<'t>>> {
        match value.get_ref() {
            DeValue::Array(array) => {
                let tables: Vec<_> = array.iter().map(|value| self.table(value, name)).collect();
                tables.into_iter().collect()
            }
            _ => self.table(value, name).map(|table| vec![table]),
        }
    }

    /// An array with as many elements as `limit` allows, each as `read` makes it.
    pub(super) fn array<'t, T>(
        &mut self,
        value: &'t Value<'t>,
        name: &str,
        limit: &Limit<u64>,
        mut read: impl FnMut(&mut Self, &'t Value<'t>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(array) = value.get_ref() else {
            return self.unexpected(value, name, "an array");
        };
        if !limit.allows(array.len() as u64) {
            let message = format!("{name}: {limit} expected, not {}", array.len());
            return self.refuse(value.span(), message);
        }
        let elements: Vec<_> = array.iter().map(|element| read(self, element)).collect();
        elements.into_iter().collect()
    }

    pub(super) fn integer(
        &mut self,
        value: &Value<'_>,
        name: &str,
        limit: &Limit<u64>,
    ) -> Option<u64> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| limit.allows(*number));
        number.or_else(|| self.unexpected(value, name, &format!("a whole number from {limit}")))
    }

    pub(super) fn number(
        &mut self,
        value: &Value<'_>,
        name: &str,
        limit: &Limit<f64>,
    ) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(|number| number as f64),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| limit.allows(*number));
        number.or_else(|| self.unexpected(value, name, &format!("a number from {limit}")))
    }

    /// A string of one line, as long in characters as `limit` allows.
    pub(super) fn line(
        &mut self,
        value: &Value<'_>,
        name: &str,
        limit: &Limit<u64>,
    ) -> Option<String> {
        let text = value.get_ref().as_str();
        let text = text.filter(|text| limits::is_line(text, limit));
        let expected = format!("a string of {limit} without control characters");
        text.map(str::to_owned)
            .or_else(|| self.unexpected(value, name, &expected))
    }

    /// One of the words that `choices` name.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        value: &Value<'_>,
        name: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let word = value.get_ref().as_str();
        let chosen = choices.iter().find(|(known, _)| Some(*known) == word);
        if let Some((_, choice)) = chosen {
            return Some(*choice);
        }
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        let near = word.and_then(|word| did_you_mean(word, &known));
        let quoted: Vec<String> = known.iter().map(|known| format!("\"{known}\"")).collect();
        let found = described(value.get_ref());
        let message = format!(
            "{name}: {} expected, not {found}{}",
            listed(&quoted),
            near.unwrap_or_default()
        );
        self.refuse(value.span(), message)
    }

    /// A string such as "250ms".
    pub(super) fn duration(&mut self, value: &Value<'_>, name: &str) -> Option<Duration> {
        let text = value.get_ref().as_str();
        // What is longer is no duration, and need not be looked at.
        let text = text.filter(|text| text.len() <= QUOTED_MAX);
        let duration = text.and_then(|text| humantime::parse_duration(text).ok());
        let duration = duration.filter(|duration| limits::duration_ns(*duration).is_ok());
        let expected = format!(
            "a duration from {} such as \"250ms\" or \"1m 30s\"",
            limits::DURATION_RANGE
        );
        duration.or_else(|| self.unexpected(value, name, &expected))
    }
}

impl<'t> Fields<'t> {
    pub(super) const fn root(table: &'t DeTable<'t>) -> Self {
        Self {
            span: 0..0,
            name: "",
            table,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'t Value<'t>> {
        self.table.get(name)
    }

    /// What `read` makes of the value of `name`, or `default` when it is not there.
    pub(super) fn or<T>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&'t Value<'t>) -> Option<T>,
    ) -> Option<T> {
        self.get(name).map_or(Some(default), read)
    }
}

/// `; did you mean "..."?` with the one of `known` that is most like `name`.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    if name.len() > QUOTED_MAX {
        // No name is that long, and comparing takes time with the product of the lengths.
        return None;
    }
    let name = name.to_ascii_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(&name, known);
    let (likeness, nearest) = known
        .iter()
        .map(|known| (likeness(known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likeness >= LIKE).then(|| format!("; did you mean \"{nearest}\"?"))
}

/// `a, b or c`, or what there is of them.
fn listed<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => words.concat(),
    }
}

/// What stands there, for a message.
fn described(value: &DeValue<'_>) -> Cow<'static, str> {
    match value {
        DeValue::String(text) => quoted(text).into(),
        DeValue::Integer(number) => shortened(&number.to_string()).into(),
        DeValue::Float(number) => shortened(number.as_str()).into(),
        DeValue::Boolean(value) => value.to_string().into(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// A word of the text within a message: bounded, and nothing that a terminal obeys.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", shortened(text))
}

fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(QUOTED_MAX).collect();
    let cut = if shown.len() < text.len() { "..." } else { "" };
    format!("{}{cut}", shown.escape_debug())
}

/// Found by trying misspelt names: from here on the two look alike.
const LIKE: f64 = 0.85;

/// Characters of a word that a message repeats.
const QUOTED_MAX: usize = 60;
