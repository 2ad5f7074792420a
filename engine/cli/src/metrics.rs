//! The counters as Prometheus reads them: text exposition format 0.0.4.
//!
//! The text is written by `prometheus`, without its registry and without its protobuf: the counters live in the
//! shards, and what it is given here are the values of one snapshot. (`prometheus-client` writes OpenMetrics
//! only, which older scrapers do not read.) Values are doubles there, so a count is exact up to 2^53.
//!
//! The number of series is bounded: shards, listeners, peers, names and types have limits, and a name that nobody
//! registered is one more `unknown_name`, never a label.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use binrush_engine::event::BusSnapshot;
use binrush_engine::relay::TargetSnapshot;
use binrush_engine::{Counts, Engine, KernelDrops, NameCounts, Outcome, Snapshot};
use prometheus::TextEncoder;
use prometheus::proto::{Metric, MetricFamily};

use crate::serve::script;
use crate::tally;
pub(crate) use cluster::Clusters;
use family::{counter, counters, gauge, gauges, histogram, histograms, seconds};
pub(crate) use modules::{Module, Modules};
pub(crate) use records::{Kept, Tables};

/// The families about clusters.
mod cluster;
/// The families about events.
mod events;
/// A strict reader of the format.
#[cfg(test)]
mod exposition;
/// Values in the shapes that the writer of the format takes.
mod family;
/// The families about modules from shared libraries.
mod modules;
/// The families about records.
mod records;
/// The families about the relay.
mod relay;
/// The families about routes.
mod routes;
/// The families about connections.
mod streams;

/// What an engine looked like at one moment, and what it was asked for besides its counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// The counters.
    pub(crate) counts: Snapshot,
    /// Where it takes or took datagrams, each address once.
    pub(crate) listeners: BTreeMap<SocketAddr, Listener>,
    /// The clusters that it is a node of.
    pub(crate) clusters: Clusters,
    /// The records that it keeps.
    pub(crate) tables: Tables,
    /// Who gets the live stream on.
    pub(crate) relay: Vec<TargetSnapshot>,
    /// What became of events; `None`: nobody can be told of any.
    pub(crate) events: Option<BusSnapshot>,
    /// Modules from shared libraries.
    pub(crate) modules: Modules,
    /// What routes did, if there are any.
    pub(crate) script: Option<script::Counts>,
    /// How long it had been running.
    pub(crate) uptime: Duration,
    /// Why it does not receive, or is no node of its clusters any more, if so.
    pub(crate) trouble: Option<String>,
}

/// What there is to say about one address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Receive buffer that the kernel granted each of its sockets, in bytes; none when it was closed.
    pub(crate) rcvbuf: Option<usize>,
    /// What the kernel dropped there.
    pub(crate) kernel: KernelDrops,
}

impl Status {
    /// `counts` were just taken from `engine`, which has been running for `uptime`.
    pub(crate) fn of(engine: &Engine, counts: Snapshot, uptime: Duration) -> Self {
        let mut listeners = BTreeMap::<_, Listener>::new();
        // An address that was closed and opened again has two counts, and one series.
        for each in &counts.listeners {
            let of_addr = listeners.entry(each.addr).or_default();
            of_addr.kernel.add(each.kernel);
        }
        // Of connections the kernel drops nothing, and TLS may have the same port.
        for each in engine.listeners().filter(|each| each.rcvbuf.is_some()) {
            listeners.entry(each.addr).or_default().rcvbuf = each.rcvbuf;
        }
        let trouble = engine.trouble().map(|trouble| trouble.to_string());
        Self {
            counts,
            listeners,
            clusters: Clusters::default(),
            tables: Tables::default(),
            relay: Vec::new(),
            events: None,
            modules: Modules::default(),
            script: None,
            uptime,
            trouble,
        }
    }

    /// The same with what is known of the clusters and the records; what is wrong with the engine comes before what is wrong
    /// with the clusters.
    pub(crate) fn with(self, clusters: Clusters, tables: Tables) -> Self {
        let trouble = self.trouble.or_else(|| clusters.trouble.clone());
        Self {
            clusters,
            tables,
            trouble,
            ..self
        }
    }

    /// The same with what became of packets for the targets of the relay.
    pub(crate) fn relaying(self, relay: Vec<TargetSnapshot>) -> Self {
        Self { relay, ..self }
    }

    /// The same with what became of events.
    pub(crate) fn telling(self, events: Option<BusSnapshot>) -> Self {
        Self { events, ..self }
    }

    /// The same with what routes did.
    pub(crate) fn scripted(self, script: Option<script::Counts>) -> Self {
        Self { script, ..self }
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> String {
        let mut families = Vec::from(self.process());
        families.extend(self.shards());
        families.extend(self.modules());
        families.extend(self.kernel());
        families.extend(streams::families(&self.counts.streams));
        families.extend(cluster::families(&self.clusters));
        families.extend(records::families(&self.tables));
        families.extend(relay::families(&self.relay));
        families.extend(events::families(self.events.as_ref()));
        families.extend(modules::families(&self.modules));
        families.extend(self.script.iter().flat_map(routes::families));
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new()
            .encode_to_string(&families)
            .expect("every family that is left has a name and a value")
    }

    fn process(&self) -> [MetricFamily; 3] {
        let version = env!("CARGO_PKG_VERSION");
        let healthy = f64::from(u8::from(self.trouble.is_none()));
        [
            gauges(
                "binrush_build_info",
                "Always 1; the label says which version runs.",
                [gauge(&[("version", version)], 1.0)],
            ),
            gauges(
                "binrush_uptime_seconds",
                "How long the engine had been running when these counters were read.",
                [gauge(&[], self.uptime.as_secs_f64())],
            ),
            gauges(
                "binrush_healthy",
                "1 while all shards receive and the clusters' threads answer, else 0.",
                [gauge(&[], healthy)],
            ),
        ]
    }

    fn shards(&self) -> Vec<MetricFamily> {
        let shards: Vec<(String, &Counts)> = (0..)
            .map(|shard: usize| shard.to_string())
            .zip(&self.counts.shards)
            .collect();
        let mut families: Vec<MetricFamily> = BY_SHARD
            .iter()
            .map(|(name, help, value)| {
                let each = shards.iter();
                let metrics =
                    each.map(|(shard, counts)| counter(&[("shard", shard)], value(counts)));
                counters(name, help, metrics)
            })
            .collect();
        families.extend([
            counters(
                "binrush_datagrams_total",
                "Datagrams, and packets of connections, by what became of them; each comes to exactly one outcome.",
                shards
                    .iter()
                    .flat_map(|(shard, counts)| outcomes(shard, counts)),
            ),
            counters(
                "binrush_mailed_datagrams_total",
                "Datagrams and packets of connections handed to (out) and taken from (in) the shard that owns their record.",
                shards
                    .iter()
                    .flat_map(|(shard, counts)| mailed(shard, counts)),
            ),
            counters(
                "binrush_sent_packets_total",
                "Packets of handlers: sent, failed in the kernel, or refused for want of room.",
                shards
                    .iter()
                    .flat_map(|(shard, counts)| sent(shard, counts)),
            ),
            histograms(
                "binrush_settle_seconds",
                "From the arrival of a packet's batch in the process to the end of its handling.",
                shards.iter().map(|(shard, counts)| latency(shard, counts)),
            ),
        ]);
        families
    }

    /// Over all shards: which of them a record lies on says nothing about a module.
    fn modules(&self) -> [MetricFamily; 2] {
        let names = &self.counts.total.names;
        [
            counters(
                "binrush_module_packets_total",
                "Packets that the handler of a module was called with.",
                names.iter().map(|name| {
                    let module = name.name.escape_ascii().to_string();
                    counter(&[("module", &module)], name.received as f64)
                }),
            ),
            counters(
                "binrush_module_handled_total",
                "Packets that the handler of a module took, by type.",
                names.iter().flat_map(handled),
            ),
        ]
    }

    fn kernel(&self) -> [MetricFamily; 3] {
        let listeners: Vec<(String, &Listener)> = self
            .listeners
            .iter()
            .map(|(addr, listener)| (format!("bin:{addr}"), listener))
            .collect();
        let granted = listeners
            .iter()
            .filter_map(|(addr, listener)| Some((addr, listener.rcvbuf?)));
        [
            counters(
                "binrush_kernel_dropped_datagrams_total",
                "Datagrams that reached a listener and never came out of its sockets, by reason.",
                listeners
                    .iter()
                    .flat_map(|(addr, each)| drops(addr, each.kernel)),
            ),
            gauges(
                "binrush_receive_buffer_bytes",
                "Receive buffer that the kernel granted each socket of a listener.",
                granted.map(|(addr, bytes)| gauge(&[("listener", addr)], bytes as f64)),
            ),
            counters(
                "binrush_host_lost_total",
                "What this host lost since the start before a socket was found for it, whoever it was for.",
                self.counts
                    .host
                    .by_name()
                    .map(|(reason, count)| counter(&[("reason", reason)], count as f64)),
            ),
        ]
    }
}

/// Name, meaning and value.
type ByShard = (&'static str, &'static str, fn(&Counts) -> f64);

fn outcomes(shard: &str, counts: &Counts) -> impl Iterator<Item = Metric> {
    // Also those that are zero: a rate needs the value before the first one.
    Outcome::ALL.into_iter().map(move |outcome| {
        let labels = [("shard", shard), ("outcome", outcome.symbol())];
        counter(&labels, counts.outcome(outcome) as f64)
    })
}

fn mailed(shard: &str, counts: &Counts) -> [Metric; 2] {
    [("in", counts.mailed_in), ("out", counts.mailed_out)]
        .map(|(way, count)| counter(&[("shard", shard), ("direction", way)], count as f64))
}

fn sent(shard: &str, counts: &Counts) -> [Metric; 3] {
    [
        ("sent", counts.sent),
        ("failed", counts.send_failures),
        ("refused", counts.send_refused),
    ]
    .map(|(result, count)| counter(&[("shard", shard), ("result", result)], count as f64))
}

fn latency(shard: &str, counts: &Counts) -> Metric {
    let latency = &counts.latency;
    // Exact, but for a value that is the bound to the nanosecond: that one counts as above it.
    let buckets = LATENCY_POWERS.map(|power| (1 << power, latency.count_below(1 << power)));
    histogram(
        &[("shard", shard)],
        buckets,
        latency.nanos(),
        latency.count(),
    )
}

/// By what OpenSIPS calls the types; one that it does not know is a number.
fn handled(name: &NameCounts) -> impl Iterator<Item = Metric> {
    let module = name.name.escape_ascii().to_string();
    tally::labelled(name)
        .map(move |(kind, count)| counter(&[("module", &module), ("type", &kind)], count as f64))
}

fn drops(addr: &str, kernel: KernelDrops) -> [Metric; 4] {
    [
        ("buffer", kernel.buffer),
        ("acl", kernel.acl),
        ("starting", kernel.starting),
        ("stopping", kernel.stopping),
    ]
    .map(|(reason, count)| counter(&[("listener", addr), ("reason", reason)], count as f64))
}

/// Counters that each shard has once.
const BY_SHARD: [ByShard; 7] = [
    (
        "binrush_received_datagrams_total",
        "Datagrams that came out of the sockets of a shard.",
        // A snapshot reads one counter after the other.
        |counts| counts.received.saturating_sub(counts.frames) as f64,
    ),
    (
        "binrush_received_stream_packets_total",
        "Packets that were cut out of the connections of a shard.",
        |counts| counts.frames as f64,
    ),
    (
        "binrush_made_packets_total",
        "Packets that handlers of a shard made of others: the parts of a sync packet, one for each owner of its records.",
        |counts| counts.made as f64,
    ),
    (
        "binrush_received_bytes_total",
        "Bytes of the datagrams that came out of the sockets of a shard, and of the packets of its connections.",
        |counts| counts.bytes as f64,
    ),
    (
        "binrush_receive_batches_total",
        "Receives that brought something.",
        |counts| counts.batches as f64,
    ),
    (
        "binrush_receive_failures_total",
        "Receives and waits that failed.",
        |counts| counts.receive_failures as f64,
    ),
    (
        "binrush_busy_seconds_total",
        "Time spent on parsing and handlers, without system calls.",
        |counts| seconds(counts.busy_ns),
    ),
];

/// Upper bounds of the latency's buckets, as powers of two in nanoseconds: 1 microsecond to 1.07 seconds. The
/// shards' own buckets have an edge at each, so none is split by guessing.
const LATENCY_POWERS: std::ops::RangeInclusive<u32> = 10..=30;

#[cfg(test)]
mod tests {
    use super::exposition::Exposition;
    use super::*;
    use binrush_engine::telemetry::latency::Latency;

    fn shard(received: u64) -> Counts {
        let mut counts = Counts::default();
        counts.received = received;
        counts.frames = received / 4;
        counts.bytes = 200 * received;
        counts.busy_ns = 1_500_000_000;
        counts.mailed_in = 3;
        counts.outcomes[Outcome::Handled as usize] = received;
        counts.outcomes[Outcome::BadCrc as usize] = 3;
        counts.names = vec![NameCounts {
            name: b"dialog".as_slice().into(),
            received,
            commands: vec![(1, 4), (3, 5), (77, 6)],
            other_commands: 2,
        }];
        counts.unknown_names = vec![("ratelimit".into(), 2)];
        let (latency, mut writer) = Latency::new();
        writer.record(1023, 2);
        writer.record(1024, 1);
        writer.record(u64::MAX, 1);
        counts.latency = latency.counts();
        counts
    }

    fn listener(rcvbuf: Option<usize>, buffer: u64, acl: u64) -> Listener {
        let mut kernel = KernelDrops::default();
        kernel.buffer = buffer;
        kernel.acl = acl;
        Listener { rcvbuf, kernel }
    }

    fn status() -> Status {
        let listeners = [
            ("127.0.0.1:5566", listener(Some(4096), 9, 1)),
            ("[::1]:5566", listener(None, 1, 0)),
        ];
        Status {
            counts: Snapshot::of(vec![shard(10), shard(20)], Vec::new()),
            listeners: listeners
                .map(|(addr, listener)| (addr.parse().unwrap(), listener))
                .into(),
            clusters: Clusters::default(),
            tables: Tables::default(),
            relay: Vec::new(),
            events: None,
            modules: Modules::default(),
            script: None,
            uptime: Duration::from_millis(1250),
            trouble: None,
        }
    }

    #[track_caller]
    fn read(status: &Status) -> Exposition {
        let text = status.text();
        Exposition::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn every_counter_of_a_snapshot_is_there_under_its_labels() {
        let page = read(&status());
        let value = |name: &str, labels: &[(&str, &str)]| page.value(name, labels);
        let shard = [("shard", "1")];
        assert_eq!(
            value("binrush_received_datagrams_total", &shard),
            Some(15.0)
        );
        assert_eq!(
            value("binrush_received_stream_packets_total", &shard),
            Some(5.0)
        );
        assert_eq!(value("binrush_received_bytes_total", &shard), Some(4000.0));
        assert_eq!(value("binrush_busy_seconds_total", &shard), Some(1.5));
        assert_eq!(
            value(
                "binrush_mailed_datagrams_total",
                &[("shard", "0"), ("direction", "in")]
            ),
            Some(3.0)
        );
        for outcome in Outcome::ALL {
            let labels = [("shard", "0"), ("outcome", outcome.symbol())];
            let count = status().counts.shards[0].outcome(outcome) as f64;
            assert_eq!(value("binrush_datagrams_total", &labels), Some(count));
        }
        assert_eq!(
            value("binrush_module_packets_total", &[("module", "dialog")]),
            Some(30.0)
        );
        for (kind, count) in [
            ("CREATED", 8.0),
            ("DELETED", 10.0),
            ("77", 12.0),
            ("other", 4.0),
        ] {
            let labels = [("module", "dialog"), ("type", kind)];
            assert_eq!(
                value("binrush_module_handled_total", &labels),
                Some(count),
                "{kind}"
            );
        }
        assert_eq!(page.sum("binrush_datagrams_total", &shard), 23.0);
        assert_eq!(value("binrush_uptime_seconds", &[]), Some(1.25));
        assert_eq!(value("binrush_healthy", &[]), Some(1.0));
    }

    #[test]
    fn what_routes_did_is_there_when_there_are_routes() {
        let text = status().text();
        assert!(!text.contains("binrush_script"), "{text}");
        let mut counts = script::Counts::default();
        (counts.routes.runs, counts.routes.dropped) = (9, 4);
        (counts.routes.too_deep, counts.lines_dropped) = (2, 3);
        (counts.routes.events_offered, counts.routes.events_run) = (6, 5);
        let page = read(&status().scripted(Some(counts)));
        for (name, labels, value) in [
            ("binrush_script_runs_total", &[][..], 9.0),
            ("binrush_script_dropped_packets_total", &[], 4.0),
            ("binrush_script_faults_total", &[("why", "too_deep")], 2.0),
            ("binrush_script_faults_total", &[("why", "endless")], 0.0),
            ("binrush_script_events_offered_total", &[], 6.0),
            ("binrush_script_events_run_total", &[], 5.0),
            ("binrush_script_events_dropped_total", &[], 0.0),
            ("binrush_script_lines_dropped_total", &[], 3.0),
        ] {
            assert_eq!(page.value(name, labels), Some(value), "{name}");
        }
    }

    #[test]
    fn drops_are_told_by_listener_and_reason_and_buffers_of_open_ones() {
        let page = read(&status());
        for (addr, reason, count) in [
            ("bin:127.0.0.1:5566", "buffer", 9.0),
            ("bin:127.0.0.1:5566", "acl", 1.0),
            ("bin:127.0.0.1:5566", "stopping", 0.0),
            ("bin:[::1]:5566", "buffer", 1.0),
        ] {
            let labels = [("listener", addr), ("reason", reason)];
            let name = "binrush_kernel_dropped_datagrams_total";
            assert_eq!(page.value(name, &labels), Some(count), "{addr} {reason}");
        }
        let buffer = |addr| page.value("binrush_receive_buffer_bytes", &[("listener", addr)]);
        assert_eq!(buffer("bin:127.0.0.1:5566"), Some(4096.0));
        assert_eq!(buffer("bin:[::1]:5566"), None);
    }

    #[test]
    fn latencies_are_a_histogram_with_bounds_in_seconds() {
        let page = read(&status());
        let bucket = |le| {
            page.value(
                "binrush_settle_seconds_bucket",
                &[("shard", "0"), ("le", le)],
            )
        };
        assert_eq!(bucket("0.000001024"), Some(2.0));
        assert_eq!(bucket("0.000002048"), Some(3.0));
        assert_eq!(bucket("1.073741824"), Some(3.0));
        assert_eq!(bucket("+Inf"), Some(4.0));
        let count = page.value("binrush_settle_seconds_count", &[("shard", "0")]);
        assert_eq!(count, Some(4.0));
    }

    #[test]
    fn names_from_outside_are_escaped_or_left_out() {
        let mut counts = shard(1);
        counts.names[0].name = b"a\"b\\c\n\xFF}".as_slice().into();
        let status = Status {
            counts: Snapshot::of(vec![counts], Vec::new()),
            ..status()
        };
        let labels = [("module", r#"a\"b\\c\n\xff}"#)];
        let value = read(&status).value("binrush_module_packets_total", &labels);
        assert_eq!(value, Some(1.0));
        assert!(
            !status.text().contains("ratelimit"),
            "an unknown name is no label"
        );
    }

    #[test]
    fn an_engine_without_traffic_and_one_in_trouble_are_told_too() {
        let status = Status {
            trouble: Some("a shard has ended".into()),
            ..Status::default()
        };
        let page = read(&status);
        assert_eq!(page.value("binrush_healthy", &[]), Some(0.0));
        assert_eq!(
            page.value("binrush_received_datagrams_total", &[("shard", "0")]),
            None
        );
    }

    #[test]
    fn the_largest_engine_stays_a_page_of_bounded_size() {
        let status = Status {
            counts: Snapshot::of(vec![shard(u64::MAX / 100_000); 64], Vec::new()),
            ..status()
        };
        read(&status);
        assert!(status.text().len() < 1 << 20, "{}", status.text().len());
    }
}
