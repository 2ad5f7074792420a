//! Findings as a table for people: what matters first and in full, what is fine in a line each.

use std::fmt::Write as _;

use binrush_tune::{Checked, Demand, Facts, Finding, Severity};

/// All that is to be said of the host below `root`.
pub(crate) fn table(root: &str, demand: &Demand, checked: &Checked) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", host(root, &checked.facts));
    let _ = writeln!(text, "{}\n", wanted(demand));
    let of = |severity| {
        checked
            .findings
            .iter()
            .filter(move |finding| finding.severity == severity)
    };
    for finding in of(Severity::Matters).chain(of(Severity::Note)) {
        in_full(&mut text, finding);
    }
    let width = of(Severity::Ok)
        .map(|finding| finding.subject.chars().count())
        .max()
        .unwrap_or(0);
    for finding in of(Severity::Ok) {
        let _ = writeln!(
            text,
            "fine     {:width$}  {}",
            finding.subject, finding.value
        );
    }
    for unknown in &checked.unknown {
        let _ = writeln!(text, "unknown  {unknown}");
    }
    let _ = writeln!(
        text,
        "\n{} matter, {} to note, {} fine, {} not known",
        of(Severity::Matters).count(),
        of(Severity::Note).count(),
        of(Severity::Ok).count(),
        checked.unknown.len()
    );
    harmless(&text)
}

/// Whom it is about.
fn host(root: &str, facts: &Facts) -> String {
    let known = |word: &Option<String>| word.clone().unwrap_or_else(|| "unknown".to_owned());
    let cores = facts.cpu.allowed.as_ref().or(facts.cpu.online.as_ref());
    let mut text = format!(
        "host below {root}: Linux {}, {}",
        known(&facts.kernel),
        known(&facts.cpu.name)
    );
    if let (Some(family), Some(model)) = (facts.cpu.family, facts.cpu.model) {
        let _ = write!(text, " (family {family}, model {model})");
    }
    if let Some(cores) = cores {
        let _ = write!(text, ", cores {cores}");
    }
    if let Some(total) = facts.memory.total {
        let _ = write!(text, ", {} MiB", total >> 20);
    }
    text
}

fn wanted(demand: &Demand) -> String {
    let mut text = format!(
        "wanted: receive buffers of {} bytes, {} packets/s",
        demand.rcvbuf, demand.rate_pps
    );
    if let Some(sockets) = demand.sockets {
        let _ = write!(text, ", {sockets} sockets");
    }
    for (is_wanted, what) in [(demand.io_uring, "io_uring"), (demand.trains, "trains")] {
        if is_wanted {
            let _ = write!(text, ", {what}");
        }
    }
    text
}

fn in_full(text: &mut String, finding: &Finding) {
    let severity = if finding.matters() { "MATTERS" } else { "note" };
    let _ = writeln!(text, "{severity:8} {}: {}", finding.subject, finding.value);
    let _ = writeln!(text, "{:9}why  {}", "", wrapped(finding.why));
    // In one line: it is there to be copied.
    let _ = writeln!(text, "{:9}fix  {}", "", finding.fix);
    let _ = writeln!(text, "{:9}risk {}", "", wrapped(finding.risk));
    text.push('\n');
}

/// In lines of at most [`WIDTH`] characters, all but the first indented.
fn wrapped(words: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in words.split(' ') {
        let len = word.chars().count();
        if width > 0 && width + 1 + len > WIDTH {
            let _ = write!(text, "\n{:14}", "");
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += len;
    }
    text
}

/// What a terminal would obey is shown instead: the files may be somebody else's.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Of sentences, so that with what stands before them they fit into a narrow window.
const WIDTH: usize = 84;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(
            harmless("a\u{1b}[2J\nb\t\u{9b}"),
            "a\\u{1b}[2J\nb\\t\\u{9b}"
        );
    }

    #[test]
    fn sentences_are_wrapped_between_words() {
        let words = ["word"; 40].join(" ");
        let text = wrapped(&words);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        assert_eq!(lines.join(" "), words);
        assert_eq!(
            lines.iter().map(|line| line.len()).collect::<Vec<_>>(),
            [84, 84, 29]
        );
        assert_eq!(wrapped(""), "");
    }

    #[test]
    fn the_last_line_counts_what_was_told_above() {
        let demand = Demand {
            sockets: Some(3),
            io_uring: true,
            trains: true,
            ..Demand::default()
        };
        let checked = binrush_tune::check(Path::new("/"), &demand);
        let table = table("/", &demand, &checked);
        let lines = |word: &str| table.lines().filter(|line| line.starts_with(word)).count();
        let counts = format!(
            "{} matter, {} to note, {} fine, {} not known",
            lines("MATTERS "),
            lines("note "),
            lines("fine "),
            lines("unknown ")
        );
        assert_eq!(table.lines().last(), Some(counts.as_str()), "{table}");
        assert!(table.contains("wanted: receive buffers of 4194304 bytes, 50000 packets/s, 3 sockets, io_uring, trains\n"));
        assert_eq!(lines("unknown "), checked.unknown.len());
    }
}
