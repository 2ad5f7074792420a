//! Measurements, and how they are told as JSON.

use serde::Serialize;
use serde_json::{Value, json};

use super::{events, records};
use crate::host::Host;
use crate::statistics::Spread;

/// One receiver in one round.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sample {
    /// Processor time of the receiving threads, per packet received.
    pub(super) ns_per_packet: f64,
    /// Packets received per second on the wall.
    pub(super) pps: f64,
    /// The same by the processor time of the thread that took most: what it would have been with nobody else on the
    /// cores.
    pub(super) pps_by_clock: f64,
    /// Everything that was sent to it, and what of it never came out of its socket.
    pub(super) sent: u64,
    pub(super) lost: u64,
    /// How often its queue was filled; 0 of a flow.
    pub(super) fills: u64,
    /// Share of waking up and spinning in the time of the drains; taken off already.
    pub(super) idle: f64,
    /// Share of the time in which the receiver had more to do than it could; of a stream, in which its thread ran.
    pub(super) backlog: f64,
    /// Processor time of the sending thread, and of all processors with their interrupts, per packet; where that is
    /// measured.
    pub(super) sender_ns: Option<f64>,
    pub(super) cpus_ns: Option<f64>,
    /// Packets that were due and were not sent, for want of time.
    pub(super) unsent: u64,
}

/// What it was that received.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Identity {
    /// An engine's program, and what that says of its version; of the receivers of this program neither. The command of
    /// a stranger.
    pub(super) path: Option<String>,
    pub(super) version: Option<String>,
    pub(super) backend: &'static str,
    /// Of a stranger that is not known.
    pub(super) gro: Option<bool>,
}

/// One receiver in all rounds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) scenario: &'static str,
    pub(super) size: usize,
    /// Packets per second, where they are paced.
    pub(super) rate: Option<f64>,
    pub(super) receiver: String,
    pub(super) identity: Identity,
    /// One per round, in the order of the rounds.
    pub(super) samples: Vec<Sample>,
}

/// How everything was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Conditions {
    pub(super) rounds: u16,
    /// Packets per drain of one shard.
    pub(super) packets: u32,
    /// Length of a flow.
    pub(super) seconds: f64,
    /// Whether trains may come whole where none are sent; where they are, they always may.
    pub(super) gro: bool,
    pub(super) sender_core: usize,
    pub(super) receiver_core: usize,
    /// Receive buffers in bytes, as granted and as asked for.
    pub(super) rcvbuf_drain: usize,
    pub(super) rcvbuf_flow: usize,
}

/// Everything that was measured, with its conditions.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) host: Host,
    pub(super) conditions: Conditions,
    pub(super) warnings: Vec<String>,
    /// Why the rows are not all that were asked for.
    pub(super) error: Option<String>,
    pub(super) rows: Vec<Row>,
    pub(super) kept: Vec<records::Row>,
    pub(super) told: Vec<events::Row>,
}

impl Report {
    pub(super) fn json(&self) -> Value {
        let mut rows: Vec<Value> = self.rows.iter().map(|row| self.row_json(row)).collect();
        rows.extend(records::json(&self.kept));
        rows.extend(events::json(&self.told));
        json!({
            "bench": env!("CARGO_PKG_VERSION"),
            "host": self.host,
            "conditions": self.conditions,
            "warnings": self.warnings,
            "error": self.error,
            "rows": rows,
        })
    }

    fn row_json(&self, row: &Row) -> Value {
        let pps = Spread::of(row.each(|sample| sample.pps));
        json!({
            "scenario": row.scenario,
            "size": row.size,
            "rate_pps": row.rate,
            "receiver": row.receiver,
            "path": row.identity.path,
            "version": row.identity.version,
            "backend": row.identity.backend,
            "gro": row.identity.gro,
            "ns_per_packet": row.ns_per_packet().map(|ns| ns.rounded(1)),
            "sender_ns_per_packet": row.sender_ns().map(|ns| ns.rounded(1)),
            "cpus_ns_per_packet": row.cpus_ns().map(|ns| ns.rounded(1)),
            "pps": pps.map(|pps| pps.rounded(0).median),
            "loss": row.loss(),
            "ratio_to_raw": self.ratio_to_raw(row).map(|ratio| ratio.rounded(3)),
            "speedup_to_one_shard": self.speedup(row, |sample| sample.pps).map(|ratio| ratio.rounded(3)),
            "speedup_by_clock": self.speedup(row, |sample| sample.pps_by_clock).map(|ratio| ratio.rounded(3)),
            "saturated": row.saturated(),
            "backlog": Spread::of(row.each(|sample| sample.backlog)).map(|share| share.rounded(2)),
            "rounds": row.samples.len(),
            "sent": row.sum(|sample| sample.sent),
            "lost": row.sum(|sample| sample.lost),
            "unsent": row.sum(|sample| sample.unsent),
            "fills": row.sum(|sample| sample.fills),
            "idle_share": Spread::of(row.each(|sample| sample.idle)).map(|idle| idle.rounded(4)),
        })
    }

    /// Of the processor time, to that of the raw receiver in the same round.
    ///
    /// None to a raw receiver that was not saturated: its figure is too high by the time it spun, so every ratio to it
    /// would flatter.
    pub(super) fn ratio_to_raw(&self, row: &Row) -> Option<Spread> {
        let raw = match row.scenario {
            TCP => RAW_TCP,
            TLS => RAW_TLS,
            _ => RAW,
        };
        let raw = self.sibling(row, raw)?;
        if raw.saturated() == Some(false) && row.receiver != raw.receiver {
            return None;
        }
        let ns = |row: &Row| row.each(|sample| sample.ns_per_packet).collect::<Vec<_>>();
        Spread::of_ratios(&ns(row), &ns(raw))
    }

    /// Of the packets per second by one clock or the other, to those of one shard in the same round.
    pub(super) fn speedup(&self, row: &Row, pps: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let one = self.sibling(row, ONE_SHARD)?;
        let each = |row: &Row| row.samples.iter().map(&pps).collect::<Vec<_>>();
        Spread::of_ratios(&each(row), &each(one))
    }

    /// The row of `receiver` beside `row`.
    fn sibling(&self, row: &Row, receiver: &str) -> Option<&Row> {
        self.rows.iter().find(|other| {
            (other.scenario, other.size) == (row.scenario, row.size)
                && (other.rate, &other.receiver[..]) == (row.rate, receiver)
        })
    }
}

impl Row {
    pub(super) fn each(&self, value: impl Fn(&Sample) -> f64) -> impl Iterator<Item = f64> {
        self.samples.iter().map(value)
    }

    pub(super) fn sum(&self, value: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(value).sum()
    }

    pub(super) fn ns_per_packet(&self) -> Option<Spread> {
        Spread::of(self.each(|sample| sample.ns_per_packet))
    }

    pub(super) fn sender_ns(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| sample.sender_ns))
    }

    pub(super) fn cpus_ns(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| sample.cpus_ns))
    }

    /// Lost packets per packet sent.
    pub(super) fn loss(&self) -> f64 {
        let sent = self.sum(|sample| sample.sent);
        self.sum(|sample| sample.lost) as f64 / sent.max(1) as f64
    }

    /// Whether a flow was more than it could take, in every round; of a drain, and of a given rate, there is no question.
    pub(super) fn saturated(&self) -> Option<bool> {
        let behind = |sample: &Sample| sample.backlog >= BACKLOG_SATURATED;
        [GSO, TCP, TLS]
            .contains(&self.scenario)
            .then(|| self.samples.iter().all(behind))
    }

    /// Why its figures are not to be trusted.
    pub(super) fn warning(&self) -> Option<String> {
        let Self {
            scenario,
            size,
            receiver,
            ..
        } = self;
        let unsent = self.sum(|sample| sample.unsent);
        let why = if unsent > 0 {
            format!("{unsent} packets were not sent in time: the sender cannot keep the rate")
        } else if ![GSO, PACED].contains(scenario) && self.loss() > 0.0 {
            "packets were lost, which must not be".to_owned()
        } else {
            return None;
        };
        let rate = self
            .rate
            .map_or(String::new(), |rate| format!(", {rate}/s"));
        Some(format!("{receiver}, {scenario}, {size} bytes{rate}: {why}"))
    }
}

/// The scenarios by name.
pub(super) const PLAIN: &str = "plain";
pub(super) const GSO: &str = "gso";
pub(super) const SHARDS: &str = "shards";
pub(super) const PACED: &str = "paced";
pub(super) const TCP: &str = "tcp";
pub(super) const TLS: &str = "tls";

/// What others are compared with.
const RAW: &str = "raw";
const RAW_TCP: &str = "raw-tcp";
const RAW_TLS: &str = "raw-tls";

/// What more shards are compared with.
pub(super) const ONE_SHARD: &str = "engine-1-shard";

/// From here on it was the receiver that could not do more, and next to nothing of its time was spent waiting.
const BACKLOG_SATURATED: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ns_per_packet: f64, pps: f64, lost: u64) -> Sample {
        Sample {
            ns_per_packet,
            pps,
            pps_by_clock: 1e9 / ns_per_packet,
            sent: 1000,
            lost,
            fills: 1,
            idle: 0.0,
            backlog: if lost > 10 { 1.0 } else { 0.5 },
            ..Sample::default()
        }
    }

    fn row(scenario: &'static str, receiver: &str, samples: &[Sample]) -> Row {
        Row {
            scenario,
            size: 200,
            rate: None,
            receiver: receiver.to_owned(),
            identity: Identity {
                path: None,
                version: None,
                backend: "recvmmsg",
                gro: Some(scenario == GSO),
            },
            samples: samples.to_vec(),
        }
    }

    fn report(rows: Vec<Row>) -> Report {
        Report {
            host: Host::here(),
            conditions: Conditions {
                rounds: 2,
                packets: 1000,
                seconds: 1.0,
                gro: false,
                sender_core: 0,
                receiver_core: 1,
                rcvbuf_drain: 64 << 20,
                rcvbuf_flow: 4 << 20,
            },
            warnings: vec!["something".to_owned()],
            error: None,
            rows,
            kept: Vec::new(),
            told: Vec::new(),
        }
    }

    #[test]
    fn the_ratio_is_to_raw_of_the_same_round_size_and_scenario() {
        let report = report(vec![
            row(
                PLAIN,
                "raw",
                &[sample(100.0, 1.0, 0), sample(200.0, 1.0, 0)],
            ),
            row(
                PLAIN,
                "engine",
                &[sample(110.0, 1.0, 0), sample(240.0, 1.0, 0)],
            ),
            row(
                GSO,
                "engine",
                &[sample(110.0, 1.0, 5), sample(240.0, 1.0, 5)],
            ),
        ]);
        let json = report.json();
        let ratio = json!({ "median": 1.15, "low": 1.1, "high": 1.2 });
        assert_eq!(json["rows"][1]["ratio_to_raw"], ratio);
        assert_eq!(json["rows"][2]["ratio_to_raw"], Value::Null);
        let ns = json!({ "median": 150.0, "low": 100.0, "high": 200.0 });
        assert_eq!(json["rows"][0]["ns_per_packet"], ns);
        assert_eq!(json["rows"][0]["loss"], 0.0);
        assert_eq!(json["rows"][2]["loss"], 0.005);
        assert!(json["host"]["cores"].is_array() && json["host"]["kernel"].is_string());
    }

    #[test]
    fn a_flow_that_left_time_to_wait_is_marked_as_an_upper_bound() {
        let report = report(vec![
            row(GSO, "raw", &[sample(50.0, 1.0, 500), sample(50.0, 1.0, 3)]),
            row(
                GSO,
                "engine",
                &[sample(100.0, 1.0, 50), sample(100.0, 1.0, 60)],
            ),
            row(PLAIN, "raw", &[sample(500.0, 1.0, 0)]),
        ]);
        let saturated = |index: usize| report.json()["rows"][index]["saturated"].clone();
        assert_eq!(
            [saturated(0), saturated(1), saturated(2)],
            [false.into(), true.into(), Value::Null]
        );
        let text = report.text();
        let marked: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("upper bound"))
            .collect();
        assert!(
            matches!(marked[..], [line] if line.contains("raw")),
            "{text}"
        );
    }

    #[test]
    fn to_a_raw_that_was_not_saturated_there_is_no_ratio() {
        let ratios = |raw_lost| {
            let report = report(vec![
                row(GSO, "raw", &[sample(50.0, 1.0, raw_lost)]),
                row(GSO, "engine", &[sample(100.0, 1.0, 50)]),
            ]);
            let ratio = |row: usize| report.json()["rows"][row]["ratio_to_raw"]["median"].clone();
            ([ratio(0), ratio(1)], report.text())
        };
        assert_eq!(ratios(500).0, [json!(1.0), json!(2.0)]);
        let (ratios, text) = ratios(3);
        assert_eq!(ratios, [json!(1.0), Value::Null]);
        let engine = text.lines().find(|line| line.contains("  engine "));
        assert!(
            engine.is_some_and(|line| line.contains(" - ")) && !text.contains("2.000"),
            "{text}"
        );
    }

    #[test]
    fn what_was_taken_off_is_told_where_it_is_much() {
        let idle = |idle| {
            let sample = Sample {
                idle,
                ..sample(500.0, 1.0, 0)
            };
            report(vec![row(PLAIN, "raw", &[sample])]).text()
        };
        assert!(!idle(0.05).contains("idle taken off"));
        assert!(idle(0.0625).contains("6.25 % idle taken off"));
    }

    #[test]
    fn a_row_says_what_it_was_that_received() {
        let engine = Identity {
            path: Some("/a/binrush".to_owned()),
            version: Some("binrush 1".to_owned()),
            backend: "io_uring",
            gro: Some(true),
        };
        let mut report = report(vec![
            row(PLAIN, "raw", &[sample(500.0, 1.0, 0)]),
            Row {
                identity: engine,
                ..row(GSO, "engine-io_uring", &[sample(500.0, 1.0, 0)])
            },
        ]);
        report.error = Some("the lights went out".to_owned());
        let json = report.json();
        let identity = |row: usize| {
            ["path", "version", "backend", "gro"].map(|key| json["rows"][row][key].clone())
        };
        assert_eq!(json!(identity(0)), json!([null, null, "recvmmsg", false]));
        assert_eq!(
            json!(identity(1)),
            json!(["/a/binrush", "binrush 1", "io_uring", true])
        );
        assert_eq!(json["error"], "the lights went out");
        assert_eq!(json["bench"], env!("CARGO_PKG_VERSION"));
        let text = report.text();
        for words in ["plain, gro off: ", "gso, gro on: ", "the lights went out"] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }

    #[test]
    fn shards_are_compared_by_packets_per_second() {
        let report = report(vec![
            row(
                SHARDS,
                ONE_SHARD,
                &[sample(700.0, 1e6, 0), sample(700.0, 2e6, 0)],
            ),
            row(
                SHARDS,
                "engine-2-shards",
                &[sample(350.0, 1.7e6, 0), sample(350.0, 3.4e6, 0)],
            ),
        ]);
        let row = &report.json()["rows"][1];
        assert_eq!(row["speedup_to_one_shard"]["median"], 1.7);
        assert_eq!(row["speedup_by_clock"]["median"], 2.0);
        let text = report.text();
        assert!(
            text.contains("1.700 [1.700 1.700]") && text.contains("by clock 2.00"),
            "{text}"
        );
    }

    #[test]
    fn both_ends_of_a_paced_row_are_told_and_each_rate_has_its_own_raw() {
        let paced = |receiver, rate, ns| Row {
            rate: Some(rate),
            ..row(
                PACED,
                receiver,
                &[Sample {
                    sender_ns: Some(10_000.0),
                    cpus_ns: Some(54_321.0),
                    ..sample(ns, rate, 0)
                }],
            )
        };
        let report = report(vec![
            paced("raw", 20_000.0, 1000.0),
            paced("raw", 100_000.0, 500.0),
            paced("engine", 20_000.0, 1500.0),
            paced("engine", 100_000.0, 1000.0),
        ]);
        let rows = &report.json()["rows"];
        let ratio = |index: usize| &rows[index]["ratio_to_raw"]["median"];
        assert_eq!((ratio(2), ratio(3)), (&json!(1.5), &json!(2.0)));
        assert_eq!(rows[0]["cpus_ns_per_packet"]["median"], 54_321.0);
        assert_eq!(rows[1]["rate_pps"], 100_000.0);
        let text = report.text();
        let table: Vec<&str> = text.lines().filter(|line| line.contains("] ")).collect();
        assert!(
            table[0].contains(" rate ") && table[0].contains("sender     cpus"),
            "{text}"
        );
        assert!(
            table[1].contains("20000  raw") && table[1].contains("54321"),
            "{text}"
        );
        let ends: Vec<_> = table.iter().map(|line| line.len()).collect();
        assert!(ends[1..].iter().all(|end| *end == ends[1]), "{text}");
    }

    #[test]
    fn a_row_that_says_nothing_of_its_receiver_is_warned_of() {
        let lost = |scenario| row(scenario, "raw", &[sample(500.0, 1.0, 5)]).warning();
        assert!(lost(PLAIN).is_some_and(|why| why.contains("packets were lost")));
        assert_eq!((lost(GSO), lost(PACED)), (None, None));
        let unsent = Sample {
            unsent: 7,
            ..sample(500.0, 1.0, 0)
        };
        let unsent = Row {
            rate: Some(2e6),
            ..row(PACED, "raw", &[unsent])
        };
        let why = unsent.warning().unwrap();
        assert!(
            why.contains("2000000/s") && why.contains("7 packets were not sent"),
            "{why}"
        );
    }

    #[test]
    fn the_table_has_a_line_for_each_row_and_columns_that_line_up() {
        let rows = ["raw", "engine-io_uring"].map(|receiver| {
            row(
                PLAIN,
                receiver,
                &[sample(580.0, 1.5e6, 0), sample(12345.0, 2e5, 1)],
            )
        });
        let text = report(rows.to_vec()).text();
        let table: Vec<&str> = text.lines().filter(|line| line.contains("] ")).collect();
        let ends = |line: &&str| line.find("]").expect("a spread");
        assert_eq!(table.len(), 3, "{text}");
        assert_eq!(ends(&table[1]), ends(&table[2]), "{text}");
        assert!(
            text.contains("warning: something") && text.contains("64.0 MiB"),
            "{text}"
        );
    }
}
