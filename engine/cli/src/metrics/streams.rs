//! The families about connections.
//!
//! Peers are labels up to the limit that the rows of a snapshot have, and then one more, `other`. A connection is never
//! one: each has a port of its own, and a scraper would remember all that there ever were.

use std::collections::BTreeMap;

use binrush_engine::stream::counts::PEER_ROWS_MAX;
use binrush_engine::stream::{CloseReason, LinkCounts, RefuseReason, StreamCounts, StreamSnapshot};
use prometheus::proto::{Metric, MetricFamily};

use super::family::{counter, counters, gauge, gauges};
use crate::tally::streams::{OTHER, Row, rows};

/// Name, meaning and value.
type ByPeer = (&'static str, &'static str, fn(&StreamCounts) -> u64);

/// The same of links.
type ByLink = (&'static str, &'static str, fn(&LinkCounts) -> u64);

/// All of them; those without a value are for the caller to leave out.
pub(super) fn families(streams: &StreamSnapshot) -> Vec<MetricFamily> {
    let rows = rows(streams);
    let mut families = Vec::from(accepting(streams));
    families.extend(COUNTERS_BY_PEER.map(|(name, help, value)| {
        let each = rows.iter();
        counters(
            name,
            help,
            each.map(|row| counter(&peer(row), value(&row.counts) as f64)),
        )
    }));
    families.extend(GAUGES_BY_PEER.map(|(name, help, value)| {
        let each = rows.iter();
        gauges(
            name,
            help,
            each.map(|row| gauge(&peer(row), value(&row.counts) as f64)),
        )
    }));
    families.push(counters(
        "binrush_stream_bytes_total",
        "Bytes received on connections by what became of them; those of packets that are begun are in none yet.",
        rows.iter().flat_map(fates),
    ));
    families.push(gauges(
        "binrush_stream_peer_info",
        "Always 1; the labels say what the configuration calls a peer.",
        rows.iter().filter_map(|row| {
            let labels = [("peer", row.label.as_str()), ("name", row.name.as_deref()?)];
            Some(gauge(&labels, 1.0))
        }),
    ));
    families.extend(links(&streams.links));
    families
}

fn accepting(streams: &StreamSnapshot) -> [MetricFamily; 5] {
    let accept = &streams.accept;
    let (arrived, starved) = (accept.arrived as f64, accept.starved as f64);
    [
        counters(
            "binrush_stream_arrived_connections_total",
            "Connections that came to a listener; each is handed to a shard or refused.",
            [counter(&[], arrived)],
        ),
        counters(
            "binrush_stream_refused_connections_total",
            "Connections that were not taken, by reason.",
            // Also those that are zero: a rate needs the value before the first one.
            RefuseReason::ALL.map(|reason| {
                let count = accept.refused_for(reason) as f64;
                counter(&[("reason", reason.symbol())], count)
            }),
        ),
        counters(
            "binrush_stream_closed_connections_total",
            "Connections that a shard had and let go, by reason.",
            CloseReason::ALL.map(|reason| {
                let count = streams.total.closed_for(reason) as f64;
                counter(&[("reason", reason.symbol())], count)
            }),
        ),
        counters(
            "binrush_stream_accept_pauses_total",
            "Times that accepting paused because there was no file descriptor or no memory.",
            [counter(&[], starved)],
        ),
        gauges(
            "binrush_stream_handshakes",
            "TLS handshakes under way.",
            [gauge(&[], accept.shaking as f64)],
        ),
    ]
}

fn peer(row: &Row) -> [(&str, &str); 1] {
    [("peer", &row.label)]
}

fn fates(row: &Row) -> [Metric; 4] {
    let counts = &row.counts;
    [
        ("packet", counts.frame_bytes),
        ("skipped", counts.skipped_bytes),
        ("partial", counts.partial_bytes),
        ("rejected", counts.rejected_bytes),
    ]
    .map(|(fate, count)| counter(&[("peer", &row.label), ("fate", fate)], count as f64))
}

fn links(links: &[LinkCounts]) -> Vec<MetricFamily> {
    let groups = by_label(links);
    let mut families = Vec::with_capacity(LINK_GAUGES.len() + LINK_COUNTERS.len() + 1);
    families.extend(LINK_GAUGES.map(|(name, help, value)| {
        let each = groups.iter();
        gauges(
            name,
            help,
            each.map(|(to, links)| gauge(&[("to", to)], sum(links, value))),
        )
    }));
    families.extend(LINK_COUNTERS.map(|(name, help, value)| {
        let each = groups.iter();
        counters(
            name,
            help,
            each.map(|(to, links)| counter(&[("to", to)], sum(links, value))),
        )
    }));
    families.push(counters(
        "binrush_link_packets_total",
        "Packets for another node: handed to the kernel, given up, or refused because the queue was full.",
        groups.iter().flat_map(|(to, links)| {
            LINK_RESULTS.map(|(result, value)| {
                counter(&[("to", to), ("result", result)], sum(links, value))
            })
        }),
    ));
    families
}

/// By where they lead: several may lead to one address, and are one series. Beyond as many as there are rows for peers,
/// those to further addresses are [`OTHER`].
fn by_label(links: &[LinkCounts]) -> BTreeMap<&str, Vec<&LinkCounts>> {
    let mut groups = BTreeMap::<&str, Vec<&LinkCounts>>::new();
    for link in links {
        let has_room = groups.len() < PEER_ROWS_MAX || groups.contains_key(&*link.to);
        let label = if has_room { &link.to } else { OTHER };
        groups.entry(label).or_default().push(link);
    }
    groups
}

fn sum(links: &[&LinkCounts], value: fn(&LinkCounts) -> u64) -> f64 {
    links.iter().map(|link| value(link)).sum::<u64>() as f64
}

/// Counters that each peer has once.
const COUNTERS_BY_PEER: [ByPeer; 5] = [
    (
        "binrush_stream_opened_connections_total",
        "Connections that shards took over.",
        |counts| counts.opened,
    ),
    (
        "binrush_stream_received_bytes_total",
        "Bytes received on connections, inside TLS where there is any.",
        |counts| counts.rx_bytes,
    ),
    (
        "binrush_stream_packets_total",
        "Packets cut out of connections.",
        |counts| counts.frames,
    ),
    (
        "binrush_stream_spilled_packets_total",
        "Packets that had to wait for a shard that did not keep up.",
        |counts| counts.spilled,
    ),
    (
        "binrush_stream_pauses_total",
        "Times that reading a connection paused because it held all it may.",
        |counts| counts.pauses,
    ),
];

/// What each peer has now.
const GAUGES_BY_PEER: [ByPeer; 3] = [
    (
        "binrush_stream_open_connections",
        "Connections that are open.",
        |counts| counts.open,
    ),
    (
        "binrush_stream_held_bytes",
        "Bytes of packets that are begun and not whole yet.",
        |counts| counts.held_bytes,
    ),
    (
        "binrush_stream_spilled_bytes",
        "Bytes of packets that wait for a shard that does not keep up.",
        |counts| counts.spilled_bytes,
    ),
];

const LINK_GAUGES: [ByLink; 3] = [
    (
        "binrush_link_up",
        "Connections to another node that are up.",
        |link| u64::from(link.up),
    ),
    (
        "binrush_link_waiting_packets",
        "Packets that wait for another node.",
        |link| link.waiting,
    ),
    (
        "binrush_link_waiting_bytes",
        "Bytes of the packets that wait for another node.",
        |link| link.waiting_bytes,
    ),
];

const LINK_COUNTERS: [ByLink; 4] = [
    (
        "binrush_link_connects_total",
        "Times that a connection to another node came up.",
        |link| link.connects,
    ),
    (
        "binrush_link_connect_failures_total",
        "Attempts to connect to another node that failed.",
        |link| link.connect_failures,
    ),
    (
        "binrush_link_breaks_total",
        "Connections to another node that broke.",
        |link| link.breaks,
    ),
    (
        "binrush_link_sent_bytes_total",
        "Bytes handed to the kernel for another node, inside TLS where there is any.",
        |link| link.sent_bytes,
    ),
];

/// What became of a packet for another node, and how many did.
type LinkResult = (&'static str, fn(&LinkCounts) -> u64);

const LINK_RESULTS: [LinkResult; 3] = [
    ("sent", |link| link.sent),
    ("lost", |link| link.lost),
    ("refused", |link| link.refused),
];

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::exposition::Exposition;
    use super::*;

    #[track_caller]
    fn page(streams: StreamSnapshot) -> Exposition {
        let mut status = Status::default();
        status.counts.streams = streams;
        let text = status.text();
        Exposition::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn connections_are_told_by_reason_and_bytes_by_what_became_of_them() {
        let mut streams = StreamSnapshot::default();
        streams.accept.arrived = 5;
        streams.accept.shaking = 1;
        streams.accept.refused[RefuseReason::PerSource as usize] = 2;
        streams.total.closed[CloseReason::BadMarker as usize] = 3;
        let others = &mut streams.others;
        (others.opened, others.open, others.frames) = (4, 1, 60);
        (others.rx_bytes, others.frame_bytes, others.rejected_bytes) = (12_300, 12_000, 300);
        let page = page(streams);
        let other = ("peer", "other");
        for (name, labels, value) in [
            ("binrush_stream_arrived_connections_total", &[][..], 5.0),
            ("binrush_stream_handshakes", &[], 1.0),
            (
                "binrush_stream_refused_connections_total",
                &[("reason", "per_source")],
                2.0,
            ),
            (
                "binrush_stream_refused_connections_total",
                &[("reason", "acl")],
                0.0,
            ),
            (
                "binrush_stream_closed_connections_total",
                &[("reason", "bad_marker")],
                3.0,
            ),
            ("binrush_stream_open_connections", &[other], 1.0),
            ("binrush_stream_packets_total", &[other], 60.0),
            (
                "binrush_stream_bytes_total",
                &[other, ("fate", "rejected")],
                300.0,
            ),
        ] {
            assert_eq!(page.value(name, labels), Some(value), "{name} {labels:?}");
        }
        let received = page.sum("binrush_stream_received_bytes_total", &[]);
        assert_eq!(page.sum("binrush_stream_bytes_total", &[]), received);
    }

    #[test]
    fn however_many_links_there_are_the_labels_are_bounded_and_nothing_is_left_out() {
        let count = 3 * PEER_ROWS_MAX;
        let link = |index: usize| {
            let mut link = LinkCounts::default();
            link.to = format!("bin:10.0.0.{index}:5555");
            link.up = true;
            (link.queued, link.sent) = (2, 2);
            link
        };
        let mut streams = StreamSnapshot::default();
        streams.links = (0..count).map(link).collect();
        // One address twice, such as from two addresses of ours.
        streams.links.push(link(0));
        let page = page(streams);
        let up = |to: &str| page.value("binrush_link_up", &[("to", to)]);
        assert_eq!(up("bin:10.0.0.0:5555"), Some(2.0));
        assert_eq!(up("other"), Some((count - PEER_ROWS_MAX) as f64));
        let sent = page.sum("binrush_link_packets_total", &[("result", "sent")]);
        assert_eq!(sent, 2.0 * (count as f64 + 1.0));
    }

    #[test]
    fn without_connections_there_are_only_the_zeros_that_rates_need() {
        let page = page(StreamSnapshot::default());
        assert_eq!(
            page.value("binrush_stream_arrived_connections_total", &[]),
            Some(0.0)
        );
        assert_eq!(
            page.sum("binrush_stream_closed_connections_total", &[]),
            0.0
        );
        assert_eq!(page.value("binrush_link_up", &[("to", "other")]), None);
    }
}
