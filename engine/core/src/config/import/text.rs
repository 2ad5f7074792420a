//! The result, as it is written: what is to be decided, the statements, and what was left out, each in comments where it is no
//! statement.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::decide::decisions;
use super::draft::{Draft, harmless};
use super::{ImportError, ImportOptions, Imported, Kept, LeftOut, Reason};
use crate::config::error::Problem;
use crate::config::listener::Protocol;
use crate::config::modules::Part;
use crate::config::peers::{self, Peer};
use crate::config::source::Place;
use crate::config::syntax::Value;
use crate::config::{Config, Loaded};

/// Writes `draft`. `path` is the file that everything began with.
///
/// # Errors
/// [`ImportError::Impossible`]: not even without all that is refused.
pub(super) fn write(
    path: &Path,
    mut draft: Draft,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    leave_unused_tls(&mut draft);
    let shards_are_of_sip = keep_one_count_of_workers(&mut draft);
    let mut kept = statements(&draft);
    let loaded = loop {
        match check(&kept) {
            Ok(loaded) => break loaded,
            Err(problems) => drop_refused(&mut kept, &mut draft, problems)?,
        }
    };
    let decide = decisions(&draft, options, &kept, &loaded, shards_are_of_sip);
    draft.left_out.sort_by(|a, b| a.place.cmp(&b.place));
    let config = text(path, &kept, &decide, &draft);
    Ok(Imported {
        config,
        kept,
        left_out: draft.left_out,
        left_out_more: draft.left_out_more,
        decide,
    })
}

/// Certificates are for `bins:`; in most files they are those of SIP over TLS.
fn leave_unused_tls(draft: &mut Draft) {
    let is_bins = |value: &Value| matches!(value, Value::Text(text) if text.contains("bins:"));
    let listens = draft
        .listeners
        .iter()
        .any(|listener| listener.protocol == Protocol::Bins);
    let connects = draft
        .parameters
        .iter()
        .any(|each| each.part == Part::Clusterer && is_bins(&each.value));
    if listens || connects {
        return;
    }
    let is_tls = |part: Part| matches!(part, Part::TlsMgm | Part::ProtoBins);
    let (tls, parameters) = std::mem::take(&mut draft.parameters)
        .into_iter()
        .partition(|each| is_tls(each.part));
    draft.parameters = parameters;
    let detail = "no address of BIN is inside TLS (bins:)";
    let tls: Vec<_> = tls;
    for each in tls {
        let what = format!("modparam(\"{}\", \"{}\", ...)", each.part, each.name);
        if let Some(place) = each.place {
            draft.leave_as(place, &what, Reason::Parameter, Some(detail));
        }
    }
    draft.loaded.retain(|(part, _)| !is_tls(*part));
}

/// Of the numbers of processes the one that says most about BIN counts. Whether it is one of SIP.
fn keep_one_count_of_workers(draft: &mut Draft) -> bool {
    let workers = std::mem::take(&mut draft.workers);
    let mut is_of_sip = false;
    let mut is_found = false;
    for (rank, slot) in workers.into_iter().enumerate() {
        let Some((name, count, place)) = slot else {
            continue;
        };
        if count > 0 && !is_found {
            is_found = true;
            is_of_sip = rank > 0;
            draft.workers[rank] = Some((name, count, place));
            continue;
        }
        let detail = match count {
            0 => "it says nothing about BIN",
            _ => "another number of processes says more about BIN",
        };
        draft.leave_as(
            place,
            &format!("{name} = {count}"),
            Reason::Replaced,
            Some(detail),
        );
    }
    is_of_sip
}

/// The statements, each on one line.
fn statements(draft: &Draft) -> Vec<Kept> {
    let mut kept = Vec::new();
    let mut keep = |text: String, place: Option<Place>| kept.push(Kept { text, place });
    for listener in &draft.listeners {
        keep(listener.text(), listener.place.clone());
    }
    for (text, place) in &draft.sockets {
        keep(text.clone(), Some(place.clone()));
    }
    for (name, count, place) in draft.workers.iter().flatten() {
        keep(format!("{name} = {count}"), Some(place.clone()));
    }
    for (name, (value, place)) in &draft.limits {
        keep(format!("{name} = {value}"), Some(place.clone()));
    }
    for (part, place) in &draft.loaded {
        keep(format!("loadmodule \"{part}.so\""), place.clone());
    }
    for each in &draft.parameters {
        let value = match &each.value {
            Value::Int(value) => value.to_string(),
            Value::Text(text) => string(text),
        };
        let text = format!("modparam(\"{}\", \"{}\", {value})", each.part, each.name);
        keep(text, each.place.clone());
    }
    for range in allowed(draft) {
        keep(
            format!("modparam(\"binrush\", \"allow\", \"{range}\")"),
            None,
        );
    }
    kept
}

/// Who may send where the file cannot say it: with `allow` nobody else may, this host and the destinations included.
fn allowed(draft: &Draft) -> Vec<String> {
    if draft.allow.is_empty() {
        return vec![];
    }
    let mut ranges = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
    let known = draft.allow.iter().map(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.to_owned()
    });
    let destinations = draft.parameters.iter().filter_map(|each| {
        match peers::peer(each.part, each.name, &each.value).ok()?? {
            Peer::Address(ip) => Some(ip.to_string()),
            Peer::Name(_) => None,
        }
    });
    for range in known.chain(destinations) {
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    ranges
}

/// What a configuration of these statements means.
///
/// # Errors
/// What is wrong with it; the line of a place is the index of its statement and one.
fn check(kept: &[Kept]) -> Result<Loaded, Vec<Problem>> {
    let lines: Vec<&str> = kept.iter().map(|each| &each.text[..]).collect();
    let mut text = lines.join("\n");
    if !kept.iter().any(listens) {
        text.push('\n');
        text.push_str(FALLBACK);
    }
    let path = PathBuf::from(CHECKED);
    let files = HashMap::from([(path.clone(), text.into_bytes())]);
    Config::read(&path, &files).map_err(|error| error.problems().to_vec())
}

/// Leaves out what `problems` are about.
fn drop_refused(
    kept: &mut Vec<Kept>,
    draft: &mut Draft,
    problems: Vec<Problem>,
) -> Result<(), ImportError> {
    let mut refused = Vec::<(usize, String)>::new();
    for problem in &problems {
        let line = problem.place().map(|place| place.line);
        let index = line.and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
        let index = index.filter(|index| *index < kept.len());
        if let Some(index) = index
            && refused.iter().all(|(known, _)| *known != index)
        {
            refused.push((index, problem.message().to_owned()));
        }
    }
    refused.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
    if refused.is_empty() {
        let first = problems.first().map(ToString::to_string);
        return Err(ImportError::Impossible(first.unwrap_or_default()));
    }
    for (index, message) in refused {
        let Kept { text, place } = kept.remove(index);
        // What the command line says is not given up in silence.
        let Some(place) = place else {
            return Err(ImportError::Impossible(format!("{text}: {message}")));
        };
        draft.leave(LeftOut {
            place,
            what: harmless(&text),
            reason: Reason::Refused,
            detail: Some(message),
        });
    }
    Ok(())
}

/// Whether a statement says where to listen for BIN.
pub(super) fn listens(kept: &Kept) -> bool {
    ["bin_listen = ", "socket = bin:", "socket = bins:"]
        .iter()
        .any(|begins| kept.text.starts_with(begins))
}

/// The file, comments and all.
fn text(path: &Path, kept: &[Kept], decide: &[String], draft: &Draft) -> String {
    let main = path.display().to_string();
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    line(&format!(
        "# Made of {} by `binrush import`.",
        harmless(&main)
    ));
    line("#");
    line("# To be decided or looked at:");
    for each in decide {
        for (index, words) in wrapped(each).into_iter().enumerate() {
            let bullet = if index == 0 { "-" } else { " " };
            line(&format!("#  {bullet} {words}"));
        }
    }
    let mut kind = "";
    for each in kept {
        let next = each.text.split([' ', '(']).next().unwrap_or_default();
        if next != kind {
            line("");
            kind = next;
        }
        let from = each.place.as_ref().map(|place| shown(place, &main));
        match from {
            Some(from) => line(&format!("{:<72} # {from}", each.text)),
            None => line(&each.text),
        }
    }
    if !kept.iter().any(listens) {
        line("");
        line(FALLBACK);
    }
    line("");
    for suggestion in SUGGESTED {
        line(&format!("# {suggestion}"));
    }
    left_out(&mut text, draft, &main);
    text
}

fn left_out(text: &mut String, draft: &Draft, main: &str) {
    let count = draft.left_out.len() + draft.left_out_more;
    let mut line = |words: String| writeln!(text, "{words}").expect("a string takes all");
    line(format!("\n# Left out: {count}"));
    for reason in Reason::ALL {
        let mut of_reason = draft.left_out.iter().filter(|each| each.reason == reason);
        let Some(first) = of_reason.next() else {
            continue;
        };
        line(format!("#   {} ({}):", reason.sentence(), reason.symbol()));
        for each in std::iter::once(first).chain(of_reason) {
            let detail = each.detail.as_ref().map_or_else(String::new, |detail| {
                let visible = detail.replace(char::is_control, " ");
                format!(": {visible}")
            });
            let (at, what) = (shown(&each.place, main), &each.what);
            line(format!("#     {at}  {what}{detail}"));
        }
    }
    if draft.left_out_more > 0 {
        line(format!("#   and {} more", draft.left_out_more));
    }
}

/// A place, without the name of the file where it is the first one.
fn shown(place: &Place, main: &str) -> String {
    match &*place.file == main {
        true => format!("line {}", place.line),
        false => format!("{}:{}", harmless(&place.file), place.line),
    }
}

/// `sentence` in lines that a terminal has room for.
fn wrapped(sentence: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        let last = lines.last_mut().expect("there is one");
        if !last.is_empty() && last.len() + word.len() >= COLUMNS {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// `text` as a string of the language: the lexer makes the same of it.
pub(super) fn string(text: &str) -> String {
    let mut string = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => string.push_str("\\\""),
            '\\' => string.push_str("\\\\"),
            '\n' => string.push_str("\\n"),
            '\r' => string.push_str("\\r"),
            '\t' => string.push_str("\\t"),
            c if c.is_ascii_control() => {
                write!(string, "\\x{:02x}", u32::from(c)).expect("a string takes all");
            }
            c => string.push(c),
        }
    }
    string + "\""
}

/// Where to listen when nothing says it.
const FALLBACK: &str = "listen = bin:127.0.0.1:5555";

/// What a service wants besides.
const SUGGESTED: [&str; 5] = [
    "What outlives the process, and how it is watched; as the service has it:",
    "modparam(\"binrush\", \"state_dir\", \"/var/lib/binrush\")",
    "modparam(\"binrush\", \"runtime_dir\", \"/run/binrush\")",
    "modparam(\"binrush\", \"control\", \"/run/binrush/control.sock\")",
    "modparam(\"binrush\", \"http\", \"127.0.0.1:9101\")",
];

/// The name of the result while it is checked.
const CHECKED: &str = "the result";

/// Characters of a line of a comment.
const COLUMNS: usize = 110;
