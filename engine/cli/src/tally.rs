//! A ledger in words and in JSON, as `serve` and `demo` print it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use binrush_engine::engine::ShardInfo;
use binrush_engine::{
    Counts, Engine, HostLosses, KernelDrops, NameCounts, Outcome, Snapshot, StopCause, StopError,
};
use binrush_wire::Release;
use binrush_wire::schema;
use serde_json::{Map, Value, json};

/// Connections.
pub(crate) mod streams;

/// Stops `engine`. There are totals in any case; with an error they are what is known.
pub(crate) fn of_stopped(engine: Engine) -> (Snapshot, Result<(), StopCause>) {
    match engine.stop() {
        Ok(totals) => (totals, Ok(())),
        Err(StopError { totals, cause, .. }) => (*totals, Err(cause)),
    }
}

/// Where the shards run, and the readers: `1 shard on core 1`, `4 shards on cores 0 1 2 3, 1 reader on core any`.
pub(crate) fn shards(engine: &Engine) -> String {
    let (readers, owners): (Vec<_>, Vec<_>) =
        engine.shards().partition(|each| each.reader.is_some());
    let mut text = on_cores("shard", &owners);
    if !readers.is_empty() {
        let _ = write!(text, ", {}", on_cores("reader", &readers));
    }
    text
}

fn on_cores(what: &str, shards: &[ShardInfo]) -> String {
    let core = |core: Option<usize>| core.map_or_else(|| "any".to_owned(), |core| core.to_string());
    let cores: Vec<String> = shards.iter().map(|shard| core(shard.core)).collect();
    match &cores[..] {
        [core] => format!("1 {what} on core {core}"),
        cores => format!("{} {what}s on cores {}", cores.len(), cores.join(" ")),
    }
}

/// What came, in one line: `dialog CREATED 12 UPDATED 30 | ul AOR_INSERT 4 | refused: bad_crc 1`.
pub(crate) fn line(counts: &Snapshot) -> String {
    let mut parts = vec![modules(&counts.total), refusals(&counts.total)];
    parts.retain(|part| !part.is_empty());
    if counts.kernel != KernelDrops::default() {
        parts.push(kernel(counts.kernel));
    }
    parts.join(" | ")
}

/// What was handled, by module and type: `dialog CREATED 12 UPDATED 30 | ul AOR_INSERT 4`.
pub(crate) fn modules(counts: &Counts) -> String {
    each_module(counts).collect::<Vec<_>>().join(" | ")
}

/// The same, one by one.
pub(crate) fn each_module(counts: &Counts) -> impl Iterator<Item = String> {
    counts.names.iter().filter_map(module_words)
}

/// What was refused, by name: `refused: bad_crc 1 unknown_name 2 (ratelimit 2)`; empty when nothing was.
pub(crate) fn refusals(counts: &Counts) -> String {
    let refused: Vec<String> = not_handled(counts)
        .filter(|(outcome, _)| outcome.is_refusal())
        .map(|(outcome, count)| format!("{outcome} {count}"))
        .collect();
    if refused.is_empty() {
        return String::new();
    }
    let mut text = format!("refused: {}", refused.join(" "));
    let names = counts.unknown_names.iter();
    let names: Vec<String> = names
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !names.is_empty() {
        let _ = write!(text, " ({})", names.join(" "));
    }
    text
}

/// The balance of what was received: `received 10 = handled 8 + bad_crc 2`; with a cluster also `received 10 + made 4 = ...`.
pub(crate) fn received_equation(totals: &Counts) -> String {
    let mut text = format!("received {}", totals.received);
    if totals.made > 0 {
        let _ = write!(text, " + made {}", totals.made);
    }
    let _ = write!(text, " = handled {}", totals.outcome(Outcome::Handled));
    for (outcome, count) in not_handled(totals) {
        let _ = write!(text, " + {outcome} {count}");
    }
    if totals.waiting > 0 {
        let _ = write!(text, " + waiting {}", totals.waiting);
    }
    text
}

/// What each shard received, and what it handed to others: `by shard: 0 received 10, mailed 0; 1 received ...`.
pub(crate) fn by_shard(totals: &Snapshot) -> String {
    let shards = totals.shards.iter().enumerate().map(|(index, shard)| {
        let (received, mailed) = (shard.received, shard.mailed_out);
        format!("{index} received {received}, mailed {mailed}")
    });
    format!("by shard: {}", shards.collect::<Vec<_>>().join("; "))
}

/// What the refusals among `totals` mean, a line each: `  bad_crc: checksum does not match: ...`.
pub(crate) fn meanings(totals: &Counts) -> impl Iterator<Item = String> {
    not_handled(totals).map(|(outcome, _)| format!("  {outcome}: {}", outcome.sentence()))
}

/// What never came out of the socket, by reason.
pub(crate) fn kernel(drops: KernelDrops) -> String {
    let mut text = format!(
        "kernel dropped {} (receive buffer or checksum {}, not allowed {}, before the start {}, during the stop {})",
        drops.total(),
        drops.buffer,
        drops.acl,
        drops.starting,
        drops.stopping,
    );
    if drops.maybe_trains > 0 {
        let count = drops.maybe_trains;
        let _ = write!(
            text,
            ", at least: {count} of them may be merged trains, each counted once (gro off counts each datagram)"
        );
    }
    if drops.left_in_queue_bytes > 0 {
        let _ = write!(
            text,
            ", left {} bytes in the queue",
            drops.left_in_queue_bytes
        );
    }
    text
}

/// How long datagrams took from their arrival at a shard: `p50 1.2 us, p99 ...`; `None` when none came.
pub(crate) fn latency(counts: &Counts) -> Option<String> {
    if counts.latency.count() == 0 {
        return None;
    }
    let micros = |percent| counts.latency.percentile(percent) as f64 / 1e3;
    let [p50, p99, p999] = PERCENTILES.map(|(_, percent)| micros(percent));
    Some(format!(
        "p50 {p50:.1} us, p99 {p99:.1} us, p99.9 {p999:.1} us"
    ))
}

/// What the host lost, whoever it was for; `None` when nothing.
pub(crate) fn host(losses: HostLosses) -> Option<String> {
    let lost = losses.by_name().into_iter().filter(|(_, count)| *count > 0);
    let lost: Vec<String> = lost
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if lost.is_empty() {
        return None;
    }
    let lost = lost.join(" ");
    Some(format!(
        "this host lost before any socket, for whomever: {lost}"
    ))
}

/// The counts with stable keys. Every outcome, name and type that is not in it is zero.
pub(crate) fn json(counts: &Snapshot) -> Map<String, Value> {
    let mut map = counts_json(&counts.total);
    let names: Map<String, Value> = counts.total.names.iter().map(module_json).collect();
    let unknown: Map<String, Value> = counts
        .total
        .unknown_names
        .iter()
        .map(|(name, count)| (name.clone(), (*count).into()))
        .collect();
    let shards = counts.shards.iter().map(counts_json).map(Value::Object);
    let listeners = counts.listeners.iter().map(|listener| {
        json!({
            "listen": format!("bin:{}", listener.addr),
            "open": listener.open,
            "kernel_drops": kernel_json(listener.kernel),
        })
    });
    let Value::Object(more) = json!({
        "names": names,
        "unknown_names": unknown,
        "kernel_drops": kernel_json(counts.kernel),
        // Of the whole host, whoever it was for.
        "host": counts.host.by_name().into_iter().collect::<BTreeMap<_, _>>(),
        // Not among the drops, which are datagrams and add up.
        "maybe_trains": counts.kernel.maybe_trains,
        "left_in_queue_bytes": counts.kernel.left_in_queue_bytes,
        "shards": shards.collect::<Vec<_>>(),
        "listeners": listeners.collect::<Vec<_>>(),
        "streams": streams::json(&counts.streams),
    }) else {
        unreachable!("written as an object right above")
    };
    map.extend(more);
    map
}

/// What one shard, or all of them, counted.
fn counts_json(counts: &Counts) -> Map<String, Value> {
    let outcomes: Map<String, Value> = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome.symbol(), counts.outcome(outcome)))
        .filter(|(_, count)| *count > 0)
        .map(|(symbol, count)| (symbol.to_owned(), count.into()))
        .collect();
    let latency: Map<String, Value> = PERCENTILES
        .into_iter()
        .map(|(key, percent)| (key.to_owned(), counts.latency.percentile(percent).into()))
        .chain([("max".to_owned(), counts.latency.max().into())])
        .collect();
    let Value::Object(map) = json!({
        "received": counts.received,
        // Of these, packets that came by connections; and those that are on their way to the shard of their record.
        "frames": counts.frames,
        "waiting": counts.waiting,
        "bytes": counts.bytes,
        "batches": counts.batches,
        "busy_ns": counts.busy_ns,
        "receive_failures": counts.receive_failures,
        "mailed_out": counts.mailed_out,
        "mailed_in": counts.mailed_in,
        "made": counts.made,
        "sent": counts.sent,
        "send_failures": counts.send_failures,
        "send_refused": counts.send_refused,
        "outcomes": outcomes,
        "latency_ns": latency,
    }) else {
        unreachable!("written as an object right above")
    };
    map
}

fn kernel_json(drops: KernelDrops) -> Value {
    json!({
        "buffer": drops.buffer,
        "acl": drops.acl,
        "starting": drops.starting,
        "stopping": drops.stopping,
    })
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

/// What became of all that no handler took: refused, or held back.
fn not_handled(counts: &Counts) -> impl Iterator<Item = (Outcome, u64)> {
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
pub(crate) fn labelled(counts: &NameCounts) -> impl Iterator<Item = (String, u64)> {
    let label = |command| type_name(&counts.name, command).unwrap_or_else(|| command.to_string());
    let other = (counts.other_commands > 0).then(|| ("other".to_owned(), counts.other_commands));
    counts
        .commands
        .iter()
        .map(move |(command, count)| (label(*command), *count))
        .chain(other)
}

/// What a command is called in 1.x, where that sends it; else what later releases call it, the newest first where they
/// do not agree: in 3.2 clusterer's numbers moved by one, and a count does not know who sent the packets.
fn type_name(module: &[u8], command: i32) -> Option<String> {
    if let Some(message) = schema::find(Release::V1x, module, command) {
        return Some(message.name.to_owned());
    }
    let known = schema::capability(module).map_or(&[][..], |capability| capability.messages);
    let mut names: Vec<&str> = Vec::new();
    for message in known.iter().filter(|message| message.command == command) {
        if !names.contains(&message.name) {
            names.push(message.name);
        }
    }
    (!names.is_empty()).then(|| names.join("/"))
}

/// The percentiles that are told, with their keys in JSON.
const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("p99_9", 99.9)];

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
        counts.total.received = 10;
        counts.total.outcomes = outcomes;
        counts.total.names = vec![name(b"dialog", &[(1, 2), (3, 5)]), name(b"ul", &[])];
        counts.total.unknown_names = vec![("ratelimit".into(), 2)];
        counts.kernel.buffer = 4;
        counts.kernel.stopping = 1;
        counts
    }

    #[test]
    fn one_line_says_what_came_and_what_was_wrong() {
        assert_eq!(
            line(&counts()),
            "dialog CREATED 2 DELETED 5 | refused: bad_crc 1 unknown_name 2 (ratelimit 2) | \
             kernel dropped 5 (receive buffer or checksum 4, not allowed 0, before the start 0, during the stop 1)"
        );
        assert_eq!(
            received_equation(&counts().total),
            "received 10 = handled 7 + bad_crc 1 + unknown_name 2"
        );
        let meanings: Vec<String> = meanings(&counts().total).collect();
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
        assert_eq!(
            map["kernel_drops"],
            json!({ "buffer": 4, "acl": 0, "starting": 0, "stopping": 1 })
        );
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
        assert_eq!(
            map["kernel_drops"],
            json!({ "buffer": 4, "acl": 0, "starting": 0, "stopping": 1 })
        );
    }

    #[test]
    fn a_type_has_every_name_that_some_release_gives_it() {
        for (module, command, name) in [
            (&b"dialog"[..], 1, Some("CREATED")),
            (b"usrloc-contact-repl", 1, Some("AOR_INSERT")),
            (b"usrloc-contact-repl", 99, None),
            (b"mine", 1, None),
            (b"clusterer-extra", 8, Some("MI_CMD")),
            (b"clusterer-extra", 11, Some("SYNC/SYNC_END")),
        ] {
            assert_eq!(type_name(module, command).as_deref(), name, "{command}");
        }
    }

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 999, 1000, 20_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1 000", "20 000", "1 234 567"]);
    }
}
