//! Scenarios as TOML.
//!
//! ```toml
//! name = "evening"                 # required; all others but [cluster] of TCP forms have defaults
//! description = "as on Sundays"
//! form = "3.6"                     # "1.x": UDP; "2.4", "3.0" to "3.6", "4.0": TCP
//! seed = 7
//! [cluster]                        # TCP forms only: ids in the trailer
//! id = 1
//! source = 1
//! destination = 2
//! [arrivals]
//! kind = "poisson"                 # or "constant"; "captured" with gaps = [...]; "steps" with steps = [...]
//! [contacts]                       # one or more of [miss], [contacts], [dialogs]; [[contacts]] to have several
//! population = 100_000
//! ```
//!
//! Everything that is wrong is told at once, each problem with its place; a key that nobody reads is a problem.

use binrush_wire::Release;

use crate::error::{PROBLEMS_MAX, ScenarioError};
use crate::limits;
use crate::scenario::{Arrivals, Form, Part, Scenario};

/// `[arrivals]`.
mod arrivals;
/// `[miss]`, `[contacts]`, `[dialogs]`.
mod parts;
/// Single values, and the problems found so far.
mod reader;
/// Values of several shapes: popularity, sizes, durations.
mod shapes;

use reader::{Fields, Reader};
pub(crate) use reader::{did_you_mean, quoted};

impl Scenario {
    /// Reads `text`; `origin` (a path, most often) is what problems name.
    ///
    /// # Errors
    /// [`ScenarioError::Text`]: all that is wrong with it, up to [`PROBLEMS_MAX`] problems. A text that is no TOML is
    /// told line by line, and its values are not looked at. [`ScenarioError::Unreadable`]: longer than [`TEXT_MAX`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, ScenarioError> {
        if text.len() > TEXT_MAX {
            return Err(ScenarioError::Unreadable {
                path: origin.into(),
                why: format!("it has more than {TEXT_MAX} bytes, so it is no scenario"),
            });
        }
        // Editors that put a byte order mark there do not show it: columns begin behind it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = Reader::new(text, origin);
        let scenario = reader
            .document(text)
            .and_then(|document| scenario(&mut reader, &Fields::root(&document)));
        let mut problems = reader.into_problems();
        match scenario {
            Some(scenario) if problems.is_empty() => Ok(scenario),
            _ => {
                problems.sort_by_key(|problem| (problem.place().line, problem.place().column));
                problems.truncate(PROBLEMS_MAX);
                Err(ScenarioError::Text(problems))
            }
        }
    }
}

/// `None` when a problem was found; then the reader has it. All of the text is looked at in any case.
fn scenario(reader: &mut Reader<'_>, root: &Fields<'_>) -> Option<Scenario> {
    reader.only(root, &ROOT);
    let name = match root.get("name") {
        Some(value) => reader.line(value, "name", &limits::NAME),
        None => reader.missing(root, "name", "a string such as \"evening\""),
    };
    let description = root.or("description", String::new(), |value| {
        reader.line(value, "description", &limits::DESCRIPTION)
    });
    let form = form(reader, root);
    let seed = root.or("seed", SEED, |value| {
        reader.integer(value, "seed", &limits::SEED)
    });
    let arrivals = root.or("arrivals", Arrivals::Constant, |value| {
        arrivals::arrivals(reader, value)
    });
    let parts = parts(reader, root);
    Some(Scenario {
        name: name?,
        description: description?,
        form: form?,
        seed: seed?,
        parts: parts?,
        arrivals: arrivals?,
    })
}

fn form(reader: &mut Reader<'_>, root: &Fields<'_>) -> Option<Form> {
    let release = root.or("form", Release::V1x, |value| {
        reader.one_of(value, "form", &FORMS)
    });
    let cluster = root
        .get("cluster")
        .map(|value| reader.table(value, "cluster"));
    match (release?, cluster) {
        (Release::V1x, None) => Some(Form::Datagrams),
        (Release::V1x, Some(fields)) => reader.refuse(
            fields?.span,
            "packets of form \"1.x\" have no trailer for these ids: a form from \"2.4\" to \"4.0\" expected with \
             [cluster], or no [cluster]",
        ),
        (_, None) => reader.missing(
            root,
            "[cluster]",
            "a table with id, source and destination for the trailer of each packet",
        ),
        (release, Some(fields)) => frames(reader, &fields?, release),
    }
}

fn frames(reader: &mut Reader<'_>, fields: &Fields<'_>, release: Release) -> Option<Form> {
    reader.only(fields, &["id", "source", "destination"]);
    let mut id = |name: &'static str| match fields.get(name) {
        Some(value) => reader
            .integer(value, name, &limits::ID)
            .and_then(|id| i32::try_from(id).ok()),
        None => reader.missing(fields, name, &format!("a number from {}", limits::ID)),
    };
    let (cluster, source, destination) = (id("id"), id("source"), id("destination"));
    let (cluster, source, destination) = (cluster?, source?, destination?);
    if source == destination {
        let span = fields.get("destination")?.span();
        let message = format!(
            "destination: the id of another node expected, not that of the source, {source}"
        );
        return reader.refuse(span, message);
    }
    Some(Form::Frames {
        release,
        cluster,
        source,
        destination,
    })
}

/// All parts, in the order in which they stand in the text, with shares that add up to 1.
fn parts(reader: &mut Reader<'_>, root: &Fields<'_>) -> Option<Vec<Part>> {
    let mut tables = Vec::new();
    for kind in parts::KINDS {
        if let Some(value) = root.get(kind) {
            tables.extend(reader.tables(value, kind)?);
        }
    }
    tables.sort_by_key(|table| table.span.start);
    if tables.is_empty() {
        let expected = "at least one of [miss], [contacts] and [dialogs]";
        return reader.missing(root, "what to send", expected);
    }
    if let Some(beyond) = tables.get(limits::PARTS_MAX) {
        let message = format!("one part too many: {} expected", limits::PARTS);
        return reader.refuse(beyond.span.clone(), message);
    }
    let parts: Vec<_> = tables
        .iter()
        .map(|table| parts::part(reader, table))
        .collect();
    let mut parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
    let sum: f64 = parts.iter().map(|part| part.share).sum();
    // Shares that add up already stay as they are to the last bit, so that a scenario read again is the same one.
    let scale = if limits::is_one(sum) { 1.0 } else { sum };
    for (part, table) in parts.iter_mut().zip(&tables) {
        part.share /= scale;
        if !limits::SHARE.allows(part.share) {
            let written = table.get("share").map(|share| share.span());
            let span = written.unwrap_or_else(|| table.span.clone());
            return reader.refuse(span, "share: a millionth of all packets or more expected");
        }
    }
    Some(parts)
}

/// The keys outside of all tables, and the tables.
const ROOT: [&str; 9] = [
    "name",
    "description",
    "form",
    "seed",
    "cluster",
    "arrivals",
    "miss",
    "contacts",
    "dialogs",
];

/// What `form` may be. 2.2 and 2.3 are not there: contents are made of the capabilities that came with 2.4.
pub(crate) const FORMS: [(&str, Release); 10] = [
    ("1.x", Release::V1x),
    ("2.4", Release::V2_4),
    ("3.0", Release::V3_0),
    ("3.1", Release::V3_1),
    ("3.2", Release::V3_2),
    ("3.3", Release::V3_3),
    ("3.4", Release::V3_4),
    ("3.5", Release::V3_5),
    ("3.6", Release::V3_6),
    ("4.0", Release::V4_0),
];

/// Of a scenario that does not say.
const SEED: u64 = 1;

/// Bytes: several times what the largest tables need.
pub const TEXT_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests;
