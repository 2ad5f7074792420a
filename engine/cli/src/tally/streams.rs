//! Connections in words and in JSON.
//!
//! ```text
//!   120 packets, ... | 3 connections open, 1 new, closed: half_frame 1        one line per interval,
//!     10.0.0.7 (sip1): 2 open, 90 packets, 18000 bytes                        and one for each peer,
//!     10.0.0.8: 1 open, 30 packets, 6012 bytes, half packets 12 bytes         the busiest ones
//! ```

use std::collections::VecDeque;
use std::fmt::Write as _;

use binrush_engine::stream::counts::{CONNECTIONS_TOLD_MAX, PEER_ROWS_MAX};
use binrush_engine::stream::{
    AcceptCounts, CloseReason, ConnectionCounts, LinkCounts, RefuseReason, StreamCounts,
    StreamSnapshot,
};
use serde_json::{Map, Value, json};

use crate::text::{Harmless, counted};

/// One source address, or all those together that have no row of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The address, or [`OTHER`].
    pub(crate) label: String,
    /// What the configuration calls it.
    pub(crate) name: Option<String>,
    /// What was counted.
    pub(crate) counts: StreamCounts,
}

/// Connections that were closed and are in no line of counts yet. A snapshot tells each once, and there is one each
/// second, however long the interval between two lines is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closed {
    /// In the order in which they were told, at most [`CONNECTIONS_TOLD_MAX`].
    connections: VecDeque<ConnectionCounts>,
}

impl Closed {
    /// Takes those of a snapshot; of too many the oldest are forgotten, as the engine forgets them.
    pub(crate) fn gather(&mut self, streams: &StreamSnapshot) {
        let closed = streams.connections.iter();
        for connection in closed.filter(|each| each.closed.is_some()) {
            if self.connections.len() == CONNECTIONS_TOLD_MAX {
                self.connections.pop_front();
            }
            self.connections.push_back(connection.clone());
        }
    }

    /// Puts them in the place of those that `streams` has, its open ones before them.
    pub(crate) fn put_into(&self, streams: &mut StreamSnapshot) {
        streams.connections.retain(|each| each.closed.is_none());
        streams.connections.extend(self.connections.iter().cloned());
    }

    /// A line has told them.
    pub(crate) fn forget(&mut self) {
        self.connections.clear();
    }
}

/// By source address, at most [`PEER_ROWS_MAX`] in the order in which they first came; then the others as one row, if
/// there are any.
pub(crate) fn rows(streams: &StreamSnapshot) -> Vec<Row> {
    let mut others = streams.others;
    let mut rows: Vec<Row> = Vec::with_capacity(streams.peers.len() + 1);
    for peer in &streams.peers {
        if rows.len() == PEER_ROWS_MAX {
            others.add(&peer.counts);
            continue;
        }
        rows.push(Row {
            label: peer.addr.to_string(),
            name: peer.name.clone(),
            counts: peer.counts,
        });
    }
    if others != StreamCounts::default() {
        rows.push(Row {
            label: OTHER.to_owned(),
            name: None,
            counts: others,
        });
    }
    rows
}

/// What happened to connections, as a part of a line: `3 connections open, 1 new, closed: peer 1, refused: acl 2`;
/// empty when there are none and nothing happened.
pub(crate) fn part(streams: &StreamSnapshot) -> String {
    let (accept, total) = (&streams.accept, &streams.total);
    if accept.arrived == 0 && accept.shaking == 0 && !is_alive(total) {
        return String::new();
    }
    let mut text = format!("{} open", counted(total.open, "connection"));
    for (count, what) in [
        (total.opened, "new"),
        (accept.shaking, "shaking hands"),
        (
            total.pauses,
            if total.pauses == 1 {
                "pause of reading"
            } else {
                "pauses of reading"
            },
        ),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    append_reasons(&mut text, "closed", closed(total));
    append_reasons(&mut text, "refused", refused(accept));
    text
}

/// A line for each peer of which something is to be told, the busiest `max` of them, and one for the rest together.
pub(crate) fn peers(rows: Vec<Row>, max: usize) -> Vec<String> {
    let mut rows: Vec<Row> = rows
        .into_iter()
        .filter(|row| is_alive(&row.counts))
        .collect();
    // Stable: of equals the one that came first. The others come last, however much they sent together.
    rows.sort_by_key(|row| (row.label == OTHER, u64::MAX - row.counts.rx_bytes));
    let rest = rows.split_off(max.min(rows.len()));
    let mut lines: Vec<String> = rows.iter().map(Row::line).collect();
    if !rest.is_empty() {
        let mut sum = StreamCounts::default();
        rest.iter().for_each(|row| sum.add(&row.counts));
        lines.push(format!("  and {} more: {}", rest.len(), words(&sum)));
    }
    lines
}

/// A line for each connection to another node, at most `max`, and one that says how many there are beyond.
pub(crate) fn links(links: &[LinkCounts], max: usize) -> Vec<String> {
    let mut lines: Vec<String> = links.iter().take(max).map(link).collect();
    if links.len() > max {
        let more = links.len() - max;
        let s = if more == 1 { "" } else { "s" };
        lines.push(format!("  and {more} more link{s}"));
    }
    lines
}

/// The end of the story: where each connection and each byte went; empty when nobody ever connected and no link was
/// asked for.
pub(crate) fn closing(streams: &StreamSnapshot) -> Vec<String> {
    let (accept, total) = (&streams.accept, &streams.total);
    let mut lines = Vec::new();
    lines.extend(accept_equation(accept));
    lines.extend(closed_equation(total));
    lines.extend(bytes_equation(total));
    lines.extend(peers(rows(streams), PEER_ROWS_MAX + 1));
    lines.extend(links(&streams.links, PEER_ROWS_MAX));
    let of_closed = closed(total).map(|(reason, _)| (reason.symbol(), reason.sentence()));
    let of_refused = refused(accept).map(|(reason, _)| (reason.symbol(), reason.sentence()));
    let meaning = |what: &str, (symbol, sentence)| format!("  {what} {symbol}: {sentence}");
    lines.extend(of_closed.map(|each| meaning("closed", each)));
    lines.extend(of_refused.map(|each| meaning("refused", each)));
    if accept.starved > 0 {
        lines.push(format!(
            "  accepting paused {}: no file descriptor or no memory was left",
            counted(accept.starved, "time")
        ));
    }
    lines
}

/// The counts with stable keys. Every reason that is not in it is zero.
pub(crate) fn json(streams: &StreamSnapshot) -> Value {
    let accept = &streams.accept;
    let peers = streams.peers.iter().map(|peer| {
        let mut map = counts_json(&peer.counts);
        map.insert("addr".into(), peer.addr.to_string().into());
        map.insert("name".into(), peer.name.clone().into());
        Value::Object(map)
    });
    json!({
        "accept": {
            "arrived": accept.arrived,
            "handed": accept.handed,
            "shaking": accept.shaking,
            "refused": by_symbol(refused(accept).map(|(reason, count)| (reason.symbol(), count))),
            "starved": accept.starved,
        },
        "total": counts_json(&streams.total),
        "peers": peers.collect::<Vec<_>>(),
        "others": counts_json(&streams.others),
        "connections": streams.connections.iter().map(connection_json).collect::<Vec<_>>(),
        "links": streams.links.iter().map(link_json).collect::<Vec<_>>(),
    })
}

/// The reasons for which connections were closed, with their counts.
pub(crate) fn closed(counts: &StreamCounts) -> impl Iterator<Item = (CloseReason, u64)> {
    let all = CloseReason::ALL.into_iter();
    all.map(|reason| (reason, counts.closed_for(reason)))
        .filter(|(_, count)| *count > 0)
}

/// The reasons for which connections were refused, with their counts.
pub(crate) fn refused(counts: &AcceptCounts) -> impl Iterator<Item = (RefuseReason, u64)> {
    let all = RefuseReason::ALL.into_iter();
    all.map(|reason| (reason, counts.refused_for(reason)))
        .filter(|(_, count)| *count > 0)
}

impl Row {
    fn line(&self) -> String {
        let name = self
            .name
            .as_deref()
            .map_or_else(String::new, |name| format!(" ({})", Harmless(name)));
        format!("  {}{name}: {}", self.label, words(&self.counts))
    }
}

/// Whether there is something to tell: connections are open, or were opened, closed or read.
fn is_alive(counts: &StreamCounts) -> bool {
    *counts != StreamCounts::default()
}

/// `2 open, 90 packets, 18000 bytes`, and whatever else is not zero.
fn words(counts: &StreamCounts) -> String {
    let mut text = format!(
        "{} open, {}, {}",
        counts.open,
        counted(counts.frames, "packet"),
        counted(counts.rx_bytes, "byte")
    );
    for (what, count, unit) in [
        ("passed over", counts.skipped_bytes, "byte"),
        ("half packets", counts.partial_bytes, "byte"),
        ("not read any more", counts.rejected_bytes, "byte"),
        ("begun", counts.held_bytes, "byte"),
        ("waited for a shard", counts.spilled, "packet"),
        ("waiting for a shard", counts.spilled_bytes, "byte"),
        ("reading paused", counts.pauses, "time"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {what} {}", counted(count, unit));
        }
    }
    append_reasons(&mut text, "closed", closed(counts));
    text
}

fn link(link: &LinkCounts) -> String {
    let state = if link.up { "up" } else { "down" };
    let mut text = format!(
        "  to {}: {state}, sent {}, {}",
        Harmless(&link.to),
        counted(link.sent, "packet"),
        counted(link.sent_bytes, "byte")
    );
    for (what, count) in [
        ("lost", link.lost),
        ("refused", link.refused),
        ("waiting", link.waiting),
        ("postponed", link.postponed),
        ("failed to connect", link.connect_failures),
        ("broke", link.breaks),
    ] {
        if count > 0 {
            let _ = write!(text, ", {what} {count}");
        }
    }
    if !link.last_failure.is_empty() {
        let _ = write!(text, ", last failure: {}", Harmless(&link.last_failure));
    }
    text
}

/// `connections 7 = taken 5 + acl 2`.
fn accept_equation(accept: &AcceptCounts) -> Option<String> {
    let refused = refused(accept).map(|(reason, count)| (reason.symbol(), count));
    let taken = [("taken", accept.handed), ("shaking hands", accept.shaking)];
    equation(
        "connections",
        accept.arrived,
        taken.into_iter().chain(refused),
    )
}

/// `taken 5 = peer 4 + half_frame 1`: what shards took over, and how it ended.
fn closed_equation(total: &StreamCounts) -> Option<String> {
    let closed = closed(total).map(|(reason, count)| (reason.symbol(), count));
    let open = [("open", total.open)].into_iter();
    equation("taken", total.opened, open.chain(closed))
}

/// `stream bytes 12345 = in 60 packets 12000 + half packets 300 + not read any more 45`.
fn bytes_equation(total: &StreamCounts) -> Option<String> {
    let packets = format!("in {}", counted(total.frames, "packet"));
    let parts = [
        (packets.as_str(), total.frame_bytes),
        ("passed over", total.skipped_bytes),
        ("half packets", total.partial_bytes),
        ("not read any more", total.rejected_bytes),
        ("begun", total.held_bytes),
    ];
    equation("stream bytes", total.rx_bytes, parts.into_iter())
}

/// `what sum = part + part`, of the parts what is not zero; `None` when nothing is.
fn equation<'a>(
    what: &str,
    sum: u64,
    parts: impl Iterator<Item = (&'a str, u64)>,
) -> Option<String> {
    let parts = parts.filter(|(_, count)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(part, count)| format!("{part} {count}"))
        .collect();
    match (sum, parts.is_empty()) {
        (0, true) => None,
        // Then something is wrong, and is to be seen.
        (_, true) => Some(format!("{what} {sum} = 0")),
        _ => Some(format!("{what} {sum} = {}", parts.join(" + "))),
    }
}

fn append_reasons<R: std::fmt::Display>(
    text: &mut String,
    what: &str,
    reasons: impl Iterator<Item = (R, u64)>,
) {
    for (index, (reason, count)) in reasons.enumerate() {
        let _ = match index {
            0 => write!(text, ", {what}: {reason} {count}"),
            _ => write!(text, " {reason} {count}"),
        };
    }
}

fn counts_json(counts: &StreamCounts) -> Map<String, Value> {
    let mut map = bytes_json(counts);
    let closed = closed(counts).map(|(reason, count)| (reason.symbol(), count));
    map.insert("opened".into(), counts.opened.into());
    map.insert("open".into(), counts.open.into());
    map.insert("closed".into(), by_symbol(closed));
    map
}

/// What there is to count of one connection as well as of many.
fn bytes_json(counts: &StreamCounts) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "rx_bytes": counts.rx_bytes,
        "frames": counts.frames,
        "frame_bytes": counts.frame_bytes,
        "skipped_bytes": counts.skipped_bytes,
        "partial_bytes": counts.partial_bytes,
        "rejected_bytes": counts.rejected_bytes,
        "held_bytes": counts.held_bytes,
        "spilled": counts.spilled,
        "spilled_bytes": counts.spilled_bytes,
        "pauses": counts.pauses,
    }) else {
        unreachable!("written as an object right above")
    };
    map
}

/// Since it was opened, also in a line about an interval.
fn connection_json(connection: &ConnectionCounts) -> Value {
    let mut map = bytes_json(&connection.counts);
    map.insert("peer".into(), connection.peer.to_string().into());
    map.insert("shard".into(), connection.shard.into());
    map.insert("tls".into(), connection.tls.into());
    let closed = connection.closed.map(CloseReason::symbol);
    map.insert("closed".into(), closed.into());
    Value::Object(map)
}

fn link_json(link: &LinkCounts) -> Value {
    json!({
        "to": link.to,
        "up": link.up,
        "connects": link.connects,
        "connect_failures": link.connect_failures,
        "breaks": link.breaks,
        "queued": link.queued,
        "sent": link.sent,
        "sent_bytes": link.sent_bytes,
        "lost": link.lost,
        "waiting": link.waiting,
        "waiting_bytes": link.waiting_bytes,
        "postponed": link.postponed,
        "refused": link.refused,
        "last_failure": link.last_failure,
    })
}

fn by_symbol(counts: impl Iterator<Item = (&'static str, u64)>) -> Value {
    counts
        .map(|(symbol, count)| (symbol.to_owned(), Value::from(count)))
        .collect::<Map<_, _>>()
        .into()
}

/// The label of all addresses together that have no row of their own.
pub(crate) const OTHER: &str = "other";

/// Peers and links with a line of their own in a line about an interval.
pub(crate) const LINES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(open: u64, frames: u64) -> StreamCounts {
        let mut counts = StreamCounts::default();
        counts.opened = open + 1;
        counts.open = open;
        counts.closed[CloseReason::HalfFrame as usize] = 1;
        counts.frames = frames;
        counts.frame_bytes = 200 * frames;
        counts.partial_bytes = 12;
        counts.rx_bytes = 200 * frames + 12;
        counts
    }

    fn row(label: &str, counts: StreamCounts) -> Row {
        Row {
            label: label.into(),
            name: None,
            counts,
        }
    }

    fn streams() -> StreamSnapshot {
        let mut streams = StreamSnapshot::default();
        streams.accept.arrived = 7;
        streams.accept.handed = 3;
        streams.accept.refused[RefuseReason::Acl as usize] = 4;
        streams.total = counts(2, 60);
        streams.others = counts(2, 60);
        streams
    }

    #[test]
    fn a_line_tells_what_happened_to_connections_and_nothing_where_there_are_none() {
        assert_eq!(part(&StreamSnapshot::default()), "");
        assert_eq!(closing(&StreamSnapshot::default()), [""; 0]);
        assert_eq!(
            part(&streams()),
            "2 connections open, 3 new, closed: half_frame 1, refused: acl 4"
        );
        // Who was refused only is told as well.
        let mut refused = StreamSnapshot::default();
        refused.accept = streams().accept;
        assert_eq!(part(&refused), "0 connections open, refused: acl 4");
    }

    #[test]
    fn one_of_anything_is_called_one() {
        let mut streams = StreamSnapshot::default();
        streams.accept.starved = 1;
        let one = &mut streams.total;
        (one.opened, one.open, one.pauses) = (1, 1, 1);
        (one.frames, one.frame_bytes, one.held_bytes, one.rx_bytes) = (1, 36, 1, 37);
        (one.spilled, one.spilled_bytes) = (1, 36);
        streams.others = streams.total;
        assert_eq!(
            part(&streams),
            "1 connection open, 1 new, 1 pause of reading"
        );
        assert_eq!(
            closing(&streams),
            [
                "taken 1 = open 1",
                "stream bytes 37 = in 1 packet 36 + begun 1",
                "  other: 1 open, 1 packet, 37 bytes, begun 1 byte, waited for a shard 1 packet, waiting for a shard 36 \
                 bytes, reading paused 1 time",
                "  accepting paused 1 time: no file descriptor or no memory was left",
            ]
        );
    }

    #[test]
    fn the_end_says_where_each_connection_and_each_byte_went() {
        let streams = streams();
        assert!(streams.is_balanced());
        assert_eq!(
            closing(&streams),
            [
                "connections 7 = taken 3 + acl 4",
                "taken 3 = open 2 + half_frame 1",
                "stream bytes 12012 = in 60 packets 12000 + half packets 12",
                "  other: 2 open, 60 packets, 12012 bytes, half packets 12 bytes, closed: half_frame 1",
                "  closed half_frame: the peer ended it within a packet",
                "  refused acl: its address is not allowed",
            ]
        );
    }

    #[test]
    fn the_busiest_peers_have_lines_and_the_rest_one_together() {
        let mut named = row("10.0.0.2", counts(1, 9));
        named.name = Some("sip\x1b1".into());
        let rows = vec![
            row("10.0.0.1", counts(0, 5)),
            row("10.0.0.3", StreamCounts::default()),
            named,
            row(OTHER, counts(3, 1000)),
        ];
        let lines = peers(rows.clone(), 1);
        assert_eq!(
            lines,
            [
                r"  10.0.0.2 (sip\u{1b}1): 1 open, 9 packets, 1812 bytes, half packets 12 bytes, closed: half_frame 1",
                "  and 2 more: 3 open, 1005 packets, 201024 bytes, half packets 24 bytes, closed: half_frame 2",
            ]
        );
        let lines = peers(rows, LINES_MAX);
        assert_eq!(lines.len(), 3, "one has nothing to tell: {lines:?}");
        assert!(lines[2].starts_with("  other: "), "{lines:?}");
    }

    #[test]
    fn a_link_is_told_with_what_went_wrong() {
        let mut up = LinkCounts::default();
        up.to = "bin:10.0.0.2:5555".into();
        up.up = true;
        (up.queued, up.sent, up.sent_bytes) = (3, 3, 600);
        let mut down = LinkCounts::default();
        down.to = "bin:10.0.0.3:5555".into();
        (down.queued, down.lost, down.waiting) = (5, 1, 4);
        down.connect_failures = 2;
        down.last_failure = "connection refused".into();
        let both = [up, down];
        assert_eq!(
            links(&both, 2),
            [
                "  to bin:10.0.0.2:5555: up, sent 3 packets, 600 bytes",
                "  to bin:10.0.0.3:5555: down, sent 0 packets, 0 bytes, lost 1, waiting 4, failed to connect 2, last \
                 failure: connection refused",
            ]
        );
        assert_eq!(links(&both, 1)[1], "  and 1 more link");
    }

    #[test]
    fn json_names_counters_by_their_symbols() {
        let map = json(&streams());
        assert_eq!(
            map["accept"],
            json!({ "arrived": 7, "handed": 3, "shaking": 0, "refused": { "acl": 4 }, "starved": 0 })
        );
        assert_eq!(
            map["total"],
            json!({
                "opened": 3, "open": 2, "closed": { "half_frame": 1 }, "rx_bytes": 12012, "frames": 60,
                "frame_bytes": 12000, "skipped_bytes": 0, "partial_bytes": 12, "rejected_bytes": 0, "held_bytes": 0,
                "spilled": 0, "spilled_bytes": 0, "pauses": 0,
            })
        );
        assert_eq!(map["others"], map["total"]);
        for list in ["peers", "connections", "links"] {
            assert_eq!(map[list], json!([]), "{list}");
        }
    }
}
