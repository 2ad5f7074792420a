//! A ledger in words and in JSON, as `serve` and `demo` print it.

use std::fmt::Write as _;

use binrush_engine::{Engine, KernelDrops, NameCounts, Outcome, Snapshot, StopCause, StopError};
use binrush_wire::Release;
use binrush_wire::schema;
use serde_json::{Map, Value, json};

/// Stops `engine`. There are totals in any case; with an error they are what is known.
pub(crate) fn of_stopped(engine: Engine) -> (Snapshot, Result<(), StopCause>) {
    match engine.stop() {
        Ok(totals) => (totals, Ok(())),
        Err(StopError { totals, cause, .. }) => (*totals, Err(cause)),
    }
}

/// Where the shard runs: `core 1`.
pub(crate) fn core(engine: &Engine) -> String {
    engine
        .core()
        .map_or_else(|| "any core".to_owned(), |core| format!("core {core}"))
}

/// What came, in one line: `dialog CREATED 12 UPDATED 30 | ul AOR_INSERT 4 | refused: bad_crc 1`.
pub(crate) fn line(counts: &Snapshot) -> String {
    let mut parts: Vec<String> = counts.names.iter().filter_map(module_words).collect();
    let refused: Vec<String> = refused(counts)
        .map(|(outcome, count)| format!("{outcome} {count}"))
        .collect();
    if !refused.is_empty() {
        let mut text = format!("refused: {}", refused.join(" "));
        let names: Vec<String> = counts
            .unknown_names
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if !names.is_empty() {
            let _ = write!(text, " ({})", names.join(" "));
        }
        parts.push(text);
    }
    if counts.kernel != KernelDrops::default() {
        parts.push(kernel(counts.kernel));
    }
    parts.join(" | ")
}

/// The balance of what was received: `received 10 = handled 8 + bad_crc 2`.
pub(crate) fn received_equation(totals: &Snapshot) -> String {
    let mut text = format!(
        "received {} = handled {}",
        totals.received,
        totals.outcome(Outcome::Handled)
    );
    for (outcome, count) in refused(totals) {
        let _ = write!(text, " + {outcome} {count}");
    }
    text
}

/// What the refusals among `totals` mean, a line each: `  bad_crc: checksum does not match: ...`.
pub(crate) fn meanings(totals: &Snapshot) -> impl Iterator<Item = String> {
    refused(totals).map(|(outcome, _)| format!("  {outcome}: {}", outcome.sentence()))
}

/// What never came out of the socket, by reason.
pub(crate) fn kernel(drops: KernelDrops) -> String {
    let mut text = format!(
        "kernel dropped {} (receive buffer or checksum {}, during the stop {})",
        drops.total(),
        drops.buffer,
        drops.stopping,
    );
    if drops.left_in_queue_bytes > 0 {
        let _ = write!(
            text,
            ", left {} bytes in the queue",
            drops.left_in_queue_bytes
        );
    }
    text
}

/// The counts with stable keys. Every outcome, name and type that is not in it is zero.
pub(crate) fn json(counts: &Snapshot) -> Map<String, Value> {
    let names: Map<String, Value> = counts.names.iter().map(module_json).collect();
    let outcomes: Map<String, Value> = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome.symbol(), counts.outcome(outcome)))
        .filter(|(_, count)| *count > 0)
        .map(|(symbol, count)| (symbol.to_owned(), count.into()))
        .collect();
    let unknown: Map<String, Value> = counts
        .unknown_names
        .iter()
        .map(|(name, count)| (name.clone(), (*count).into()))
        .collect();
    let Value::Object(map) = json!({
        "received": counts.received,
        "bytes": counts.bytes,
        "batches": counts.batches,
        "busy_ns": counts.busy_ns,
        "receive_failures": counts.receive_failures,
        "outcomes": outcomes,
        "names": names,
        "unknown_names": unknown,
        "kernel_drops": { "buffer": counts.kernel.buffer, "stopping": counts.kernel.stopping },
        // Not among the drops, which are datagrams.
        "left_in_queue_bytes": counts.kernel.left_in_queue_bytes,
    }) else {
        unreachable!("written as an object right above")
    };
    map
}

/// A whole number with its thousands apart: `20 000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn refused(counts: &Snapshot) -> impl Iterator<Item = (Outcome, u64)> {
    Outcome::ALL
        .into_iter()
        .filter(|outcome| *outcome != Outcome::Handled)
        .map(|outcome| (outcome, counts.outcome(outcome)))
        .filter(|(_, count)| *count > 0)
}

fn module_words(counts: &NameCounts) -> Option<String> {
    if counts.handled() == 0 {
        return None;
    }
    let mut text = counts.name.escape_ascii().to_string();
    for (label, count) in labelled(counts) {
        let _ = write!(text, " {label} {count}");
    }
    Some(text)
}

fn module_json(counts: &NameCounts) -> (String, Value) {
    let types: Map<String, Value> = labelled(counts)
        .map(|(label, count)| (label, count.into()))
        .collect();
    let value = json!({ "received": counts.received, "handled": counts.handled(), "types": types });
    (counts.name.escape_ascii().to_string(), value)
}

/// The counts of a module by what OpenSIPS calls them.
fn labelled(counts: &NameCounts) -> impl Iterator<Item = (String, u64)> {
    let label = |command: i32| match schema::find(Release::V1x, &counts.name, command) {
        Some(message) => message.name.to_owned(),
        None => command.to_string(),
    };
    let other = (counts.other_commands > 0).then(|| ("other".to_owned(), counts.other_commands));
    counts
        .commands
        .iter()
        .map(move |(command, count)| (label(*command), *count))
        .chain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Snapshot {
        let mut outcomes = [0; Outcome::COUNT];
        outcomes[Outcome::Handled as usize] = 7;
        outcomes[Outcome::BadCrc as usize] = 1;
        outcomes[Outcome::UnknownName as usize] = 2;
        let name = |name: &[u8], commands: &[(i32, u64)]| NameCounts {
            name: name.into(),
            received: commands.iter().map(|(_, count)| count).sum(),
            commands: commands.to_vec(),
            other_commands: 0,
        };
        let mut counts = Snapshot::default();
        counts.received = 10;
        counts.outcomes = outcomes;
        counts.names = vec![name(b"dialog", &[(1, 2), (3, 5)]), name(b"ul", &[])];
        counts.unknown_names = vec![("ratelimit".into(), 2)];
        counts.kernel.buffer = 4;
        counts.kernel.stopping = 1;
        counts
    }

    #[test]
    fn one_line_says_what_came_and_what_was_wrong() {
        assert_eq!(
            line(&counts()),
            "dialog CREATED 2 DELETED 5 | refused: bad_crc 1 unknown_name 2 (ratelimit 2) | \
             kernel dropped 5 (receive buffer or checksum 4, during the stop 1)"
        );
        assert_eq!(
            received_equation(&counts()),
            "received 10 = handled 7 + bad_crc 1 + unknown_name 2"
        );
        let meanings: Vec<String> = meanings(&counts()).collect();
        assert_eq!(
            meanings[1],
            "  unknown_name: no handler is registered for its module name"
        );
        assert_eq!(meanings.len(), 2);
    }

    #[test]
    fn what_was_left_in_the_queue_is_told_and_is_no_drop() {
        let mut counts = counts();
        counts.kernel.left_in_queue_bytes = 1536;
        assert!(kernel(counts.kernel).ends_with("stop 1), left 1536 bytes in the queue"));
        let map = Value::Object(json(&counts));
        assert_eq!(map["left_in_queue_bytes"], 1536);
        assert_eq!(map["kernel_drops"], json!({ "buffer": 4, "stopping": 1 }));
    }

    #[test]
    fn json_has_the_same_numbers_under_stable_keys() {
        let map = Value::Object(json(&counts()));
        assert_eq!(map["received"], 10);
        assert_eq!(map["names"]["dialog"]["types"]["DELETED"], 5);
        assert_eq!(map["names"]["ul"]["received"], 0);
        assert_eq!(
            map["outcomes"],
            json!({ "handled": 7, "bad_crc": 1, "unknown_name": 2 })
        );
        assert_eq!(map["unknown_names"]["ratelimit"], 2);
        assert_eq!(map["kernel_drops"], json!({ "buffer": 4, "stopping": 1 }));
    }

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 999, 1000, 20_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1 000", "20 000", "1 234 567"]);
    }
}
