//! Who is connected, and to whom we are, in tables.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::table::{Head, Table};
use crate::tally::grouped;
use crate::tally::streams::OTHER;

/// What [`tally::streams::json`](crate::tally::streams::json) writes, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Peers {
    peers: Vec<Peer>,
    others: Peer,
    links: Vec<Link>,
}

/// Connections of one address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Peer {
    addr: String,
    name: Option<String>,
    open: u64,
    opened: u64,
    frames: u64,
    rx_bytes: u64,
    spilled_bytes: u64,
    pauses: u64,
    closed: Map<String, Value>,
}

/// A connection of ours to another node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Link {
    to: String,
    up: bool,
    connects: u64,
    connect_failures: u64,
    breaks: u64,
    sent: u64,
    sent_bytes: u64,
    lost: u64,
    refused: u64,
    waiting: u64,
    last_failure: String,
}

/// Both, below each other.
///
/// # Errors
/// It has another shape.
pub(super) fn text(peers: Value) -> serde_json::Result<String> {
    // A server that has just started has counted nothing yet.
    let peers: Option<Peers> = serde_json::from_value(peers)?;
    let peers = peers.unwrap_or_default();
    let mut lines = vec!["connections from others".to_owned()];
    lines.extend(connections(peers.peers, peers.others));
    lines.push("our links to others".to_owned());
    lines.extend(links(&peers.links));
    Ok(lines.join("\n"))
}

fn connections(mut rows: Vec<Peer>, others: Peer) -> Vec<String> {
    let mut table = Table::new([
        Head::Left("from"),
        Head::Left("name"),
        Head::Right("open"),
        Head::Right("opened"),
        Head::Right("packets"),
        Head::Right("bytes"),
        Head::Right("bytes waiting"),
        Head::Right("pauses"),
        Head::Left("closed"),
    ]);
    if others.opened > 0 {
        rows.push(Peer {
            addr: OTHER.to_owned(),
            ..others
        });
    }
    for row in rows {
        let closed = row.closed.iter();
        let closed: Vec<String> = closed
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        table.row([
            row.addr,
            row.name.unwrap_or_default(),
            grouped(row.open),
            grouped(row.opened),
            grouped(row.frames),
            grouped(row.rx_bytes),
            grouped(row.spilled_bytes),
            grouped(row.pauses),
            closed.join(", "),
        ]);
    }
    table.lines()
}

fn links(links: &[Link]) -> Vec<String> {
    let mut table = Table::new([
        Head::Left("to"),
        Head::Left("state"),
        Head::Right("sent"),
        Head::Right("bytes"),
        Head::Right("waiting"),
        Head::Right("lost"),
        Head::Right("refused"),
        Head::Right("connects"),
        Head::Right("breaks"),
        Head::Right("failures"),
        Head::Left("last failure"),
    ]);
    for link in links {
        table.row([
            link.to.clone(),
            if link.up { "up" } else { "down" }.to_owned(),
            grouped(link.sent),
            grouped(link.sent_bytes),
            grouped(link.waiting),
            grouped(link.lost),
            grouped(link.refused),
            grouped(link.connects),
            grouped(link.breaks),
            grouped(link.connect_failures),
            link.last_failure.clone(),
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::streams::json;
    use binrush_engine::stream::{CloseReason, LinkCounts, StreamSnapshot};
    use serde_json::json;

    #[test]
    fn what_the_server_counts_is_what_is_shown() {
        let mut streams = StreamSnapshot::default();
        streams.others.opened = 3;
        streams.others.open = 1;
        streams.others.frames = 1_234_567;
        streams.others.rx_bytes = 200_000_000;
        streams.others.closed[CloseReason::Peer as usize] = 2;
        let mut link = LinkCounts::default();
        link.to = "bin:10.0.0.7:5566".into();
        (link.connects, link.breaks, link.lost) = (2, 1, 5);
        link.last_failure = "connection reset".into();
        streams.links.push(link);
        // One with an address has the same counts.
        let mut value = json(&streams);
        let mut peer = value["others"].clone();
        peer["addr"] = "10.0.0.7".into();
        peer["name"] = "sip1".into();
        value["peers"] = json!([peer]);
        let text = text(value).unwrap();
        let expected = [
            "connections from others",
            "  from      name  open  opened    packets        bytes  bytes waiting  pauses  closed",
            "  10.0.0.7  sip1     1       3  1 234 567  200 000 000              0       0  peer 2",
            "  other     -        1       3  1 234 567  200 000 000              0       0  peer 2",
            "our links to others",
            "  to                 state  sent  bytes  waiting  lost  refused  connects  breaks  failures  \
             last failure",
            "  bin:10.0.0.7:5566  down      0      0        0     5        0         2       1         0  \
             connection reset",
        ];
        assert_eq!(text, expected.join("\n"), "\n{text}");
    }

    #[test]
    fn nobody_and_another_shape_are_told() {
        for nobody in [json(&StreamSnapshot::default()), Value::Null] {
            assert_eq!(
                text(nobody).unwrap(),
                "connections from others\n  none\nour links to others\n  none"
            );
        }
        assert!(text(json!({ "links": 3 })).is_err());
    }
}
