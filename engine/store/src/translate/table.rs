//! What becomes of every message that is known, between all releases: computed by the rule that packets go by.

use std::fmt::Write as _;

use binrush_wire::Release;
use binrush_wire::schema::{CAPABILITIES, Capability, Message};

use super::plan::{self, Plan, Refusal};
use crate::change::ChangeKind;
use crate::write;

/// What becomes of a message of one release at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Module (to 2.3) or capability.
    pub module: &'static str,
    /// What OpenSIPS calls the message.
    pub message: &'static str,
    /// The release of its sender.
    pub from: Release,
    /// What becomes of it, each at the place of the receiver's release in [`Release::ALL`].
    pub verdicts: [Verdict; Release::ALL.len()],
}

/// What becomes of a message, unless its content alone forbids it ([`Refusal::Unreadable`], [`TooLong`](Refusal::TooLong),
/// [`NoSocket`](Refusal::NoSocket)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Passed as it is.
    Opaque,
    /// Written anew.
    Translated,
    /// Refused.
    Refused(Refusal),
}

/// A row for each message and each release that sends it, as the last point release of its branch does.
#[must_use]
pub fn rows() -> Vec<Row> {
    let messages = CAPABILITIES.iter().flat_map(|capability| {
        let names = names(capability).into_iter();
        names.map(move |name| (*capability, name))
    });
    let of_releases = messages.flat_map(|(capability, name)| {
        let releases = Release::ALL.into_iter();
        releases.filter_map(move |from| row(capability, name, from))
    });
    of_releases.collect()
}

/// The text of `engine/store/TRANSLATION.md`.
#[must_use]
pub fn table() -> String {
    let mut text = HEAD.to_owned();
    let rows = rows();
    for capability in CAPABILITIES {
        let of_it: Vec<_> = rows
            .iter()
            .filter(|row| row.module == capability.name)
            .collect();
        section(capability.name, &of_it, &mut text);
    }
    text.push_str(LOSSES_HEAD);
    text.push_str(include_str!("../write/losses.md"));
    text
}

/// The names of its messages, each once, in the order of their numbers as far as releases agree on those.
fn names(capability: &'static Capability) -> Vec<&'static str> {
    let mut messages: Vec<&Message> = capability.messages.iter().collect();
    messages.sort_by_key(|message| message.command);
    let mut names: Vec<&str> = Vec::new();
    for message in messages {
        if !names.contains(&message.name) {
            names.push(message.name);
        }
    }
    names
}

fn row(capability: &'static Capability, name: &'static str, from: Release) -> Option<Row> {
    let module = capability.name;
    let message = capability
        .messages
        .iter()
        .find(|message| message.name == name && message.spoken_by(from))?;
    let version = match ChangeKind::of_message(module.as_bytes(), name) {
        Some(kind) => Some(write::version(kind.record(), from)),
        None => message.versions.map(|(_, newest)| newest),
    };
    let verdict = |to| match plan::of(module.as_bytes(), message, version, Some(from), to) {
        Plan::Pass => Verdict::Opaque,
        Plan::WriteAnew => Verdict::Translated,
        Plan::Refuse(why) => Verdict::Refused(why),
    };
    Some(Row {
        module,
        message: name,
        from,
        verdicts: Release::ALL.map(verdict),
    })
}

/// One table, or a sentence where all is refused for one reason.
fn section(module: &str, rows: &[&Row], text: &mut String) {
    let refused = Verdict::Refused(Refusal::Cluster);
    let mut out = |line: &str| writeln!(text, "{line}").expect("a String takes all");
    out(&format!("\n## `{module}`\n"));
    if rows.iter().all(|row| row.verdicts == [refused; _]) {
        return out("All messages, to every release: refused (`cluster`).");
    }
    let releases = Release::ALL.map(Release::as_str);
    out(&format!("| message | from | {} |", releases.join(" | ")));
    out(&format!("|---|---|{}", "---|".repeat(releases.len())));
    let alike = |a: &&Row, b: &&Row| a.message == b.message && a.verdicts == b.verdicts;
    for group in rows.chunk_by(alike) {
        let (first, last) = (group[0], group[group.len() - 1]);
        let from = match first.from == last.from {
            true => first.from.to_string(),
            false => format!("{}-{}", first.from, last.from),
        };
        let marks = first.verdicts.map(mark);
        out(&format!(
            "| {} | {from} | {} |",
            first.message,
            marks.join(" | ")
        ));
    }
}

const fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Opaque => "=",
        Verdict::Translated => "x",
        Verdict::Refused(Refusal::NoMessage) => "-",
        Verdict::Refused(Refusal::OtherLayout) => "o",
        Verdict::Refused(Refusal::Cluster) => "c",
        Verdict::Refused(_) => "!",
    }
}

const HEAD: &str = "\
# What becomes of each message between releases

Made from the code that translates (`src/translate`), by `cargo run -p binrush-store --example translation_table`; a test compares.

| | |
|---|---|
| = | opaque: the target's own layout, passed as it is, but for the ids that clusterer puts around it |
| x | translated: read, and written anew; what the target has no field for is lost, see the end |
| - | refused (`no_message`): the target's release has no message that says it |
| o | refused (`other_layout`): about no record that is known here, and the target lays it out otherwise or does not have it |
| c | refused (`cluster`): about the nodes of its own cluster |

Besides, whatever the releases: a packet that is not what its name says is refused (`unreadable`), as is one that would be longer
than the target takes (`too_long`; lists of counts are cut into several packets instead), and to 1.x a contact or a new dialog with
an empty socket (`no_socket`). A packet whose name is not known is passed among 1.x, among 2.2, and among 2.3 to 4.0, and refused
between those (`unknown_name`). 1.10 has no `ul`. Without its sender's release, a packet of 2.3 or later is what its fields leave
possible, and a dialog of 3.1 or later is always written anew. Records in a sync are no messages of their own, and syncs stay in
their cluster.
";

const LOSSES_HEAD: &str = "
## What is lost on the way

";
