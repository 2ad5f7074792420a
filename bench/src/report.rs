//! Measurements as a table for people and as JSON.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use crate::host::Host;
use crate::statistics::Spread;

/// One receiver in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Processor time of the receiving threads, per packet received.
    pub(crate) ns_per_packet: f64,
    /// Packets received per second on the wall.
    pub(crate) pps: f64,
    /// The same by the processor time of the thread that took most: what it would have been with nobody else on the
    /// cores.
    pub(crate) pps_by_clock: f64,
    /// Everything that was sent to it, and what of it never came out of its socket.
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    /// How often its queue was filled; 0 of a flow.
    pub(crate) fills: u64,
    /// Share of waking up and spinning in the time of the drains; taken off already.
    pub(crate) idle: f64,
    /// Share of the time in which the receiver had more to do than it could.
    pub(crate) backlog: f64,
}

/// What it was that received.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Identity {
    /// An engine's program, and what that says of its version; of the receivers of this program neither.
    pub(crate) path: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) backend: &'static str,
    pub(crate) gro: bool,
}

/// One receiver in all rounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) size: usize,
    pub(crate) receiver: String,
    pub(crate) identity: Identity,
    /// One per round, in the order of the rounds.
    pub(crate) samples: Vec<Sample>,
}

/// How everything was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Conditions {
    pub(crate) rounds: u16,
    /// Packets per drain of one shard.
    pub(crate) packets: u32,
    /// Length of a flow.
    pub(crate) seconds: f64,
    /// Whether trains may come whole where none are sent; where they are, they always may.
    pub(crate) gro: bool,
    pub(crate) sender_core: usize,
    pub(crate) receiver_core: usize,
    /// Receive buffers in bytes, as granted and as asked for.
    pub(crate) rcvbuf_drain: usize,
    pub(crate) rcvbuf_flow: usize,
}

/// Everything that was measured, with its conditions.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) host: Host,
    pub(crate) conditions: Conditions,
    pub(crate) warnings: Vec<String>,
    /// Why the rows are not all that were asked for.
    pub(crate) error: Option<String>,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_json(row)).collect();
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
            "receiver": row.receiver,
            "path": row.identity.path,
            "version": row.identity.version,
            "backend": row.identity.backend,
            "gro": row.identity.gro,
            "ns_per_packet": row.ns_per_packet().map(|ns| ns.rounded(1)),
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
            "fills": row.sum(|sample| sample.fills),
            "idle_share": Spread::of(row.each(|sample| sample.idle)).map(|idle| idle.rounded(4)),
        })
    }

    /// A table for each scenario, with what one has to know about its figures.
    pub(crate) fn text(&self) -> String {
        let Host {
            cores, kernel, cpu, ..
        } = &self.host;
        let mut text = format!("host: {} x {cpu}, Linux {kernel}\n", cores.len());
        let _ = writeln!(text, "{}", self.conditions);
        let mut told = "";
        for row in &self.rows {
            if row.scenario != told {
                told = row.scenario;
                let gro = if told == GSO || self.conditions.gro {
                    "on"
                } else {
                    "off"
                };
                let _ = write!(
                    text,
                    "\n{told}, gro {gro}: {}\n{}\n",
                    meaning(told),
                    heading(told)
                );
            }
            text.push_str(&self.line(row));
            text.push('\n');
        }
        for warning in &self.warnings {
            let _ = write!(text, "\nwarning: {warning}");
        }
        if let Some(error) = &self.error {
            let _ = write!(text, "\nnot all was measured: {error}");
        }
        text
    }

    fn line(&self, row: &Row) -> String {
        let pps = Spread::of(row.each(|sample| sample.pps)).map_or(0.0, |pps| pps.median);
        let ratio = if row.scenario == SHARDS {
            self.speedup(row, |sample| sample.pps)
        } else {
            self.ratio_to_raw(row)
        };
        let mut line = format!(
            "{:>5}  {:<16}{}{}{:>9.0}  {}",
            row.size,
            row.receiver,
            cell(row.ns_per_packet(), 0),
            cell(ratio, 3),
            pps / 1000.0,
            percent(row.loss()),
        );
        if row.saturated() == Some(false) {
            line.push_str("  not saturated: an upper bound");
        }
        if let Some(by_clock) = self.speedup(row, |sample| sample.pps_by_clock) {
            let _ = write!(line, "  by clock {:.2}", by_clock.median);
        }
        let (fills, rounds) = (row.sum(|sample| sample.fills), row.samples.len() as u64);
        if fills > rounds {
            let _ = write!(line, "  in {fills} fills: the queue holds no more");
        }
        if let Some(idle) = Spread::of(row.each(|sample| sample.idle))
            && idle.median > IDLE_MAX
        {
            let _ = write!(line, "  {} idle taken off", percent(idle.median));
        }
        line.trim_end().to_owned()
    }

    /// Of the processor time, to that of the raw receiver in the same round.
    ///
    /// None to a raw receiver that was not saturated: its figure is too high by the time it spun, so every ratio to it
    /// would flatter.
    fn ratio_to_raw(&self, row: &Row) -> Option<Spread> {
        let raw = self.sibling(row, "raw")?;
        if raw.saturated() == Some(false) && row.receiver != raw.receiver {
            return None;
        }
        let ns = |row: &Row| row.each(|sample| sample.ns_per_packet).collect::<Vec<_>>();
        Spread::of_ratios(&ns(row), &ns(raw))
    }

    /// Of the packets per second by one clock or the other, to those of one shard in the same round.
    fn speedup(&self, row: &Row, pps: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let one = self.sibling(row, ONE_SHARD)?;
        let each = |row: &Row| row.samples.iter().map(&pps).collect::<Vec<_>>();
        Spread::of_ratios(&each(row), &each(one))
    }

    /// The row of `receiver` beside `row`.
    fn sibling(&self, row: &Row, receiver: &str) -> Option<&Row> {
        self.rows.iter().find(|other| {
            (other.scenario, other.size) == (row.scenario, row.size) && other.receiver == receiver
        })
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rounds,
            packets,
            seconds,
            // In the heading of each scenario.
            gro: _,
            sender_core,
            receiver_core,
            rcvbuf_drain,
            rcvbuf_flow,
        } = self;
        let mib = |bytes: &usize| *bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{rounds} rounds in turns, each receiver a fresh process on core {receiver_core}, the sender on core \
             {sender_core};\n{packets} packets drained from a buffer of {:.1} MiB, flows of {seconds} s into one of {:.1} MiB",
            mib(rcvbuf_drain),
            mib(rcvbuf_flow),
        )
    }
}

impl Row {
    fn each(&self, value: impl Fn(&Sample) -> f64) -> impl Iterator<Item = f64> {
        self.samples.iter().map(value)
    }

    fn sum(&self, value: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(value).sum()
    }

    fn ns_per_packet(&self) -> Option<Spread> {
        Spread::of(self.each(|sample| sample.ns_per_packet))
    }

    /// Lost packets per packet sent.
    pub(crate) fn loss(&self) -> f64 {
        let sent = self.sum(|sample| sample.sent);
        self.sum(|sample| sample.lost) as f64 / sent.max(1) as f64
    }

    /// Whether a flow was more than it could take, in every round; of a drain there is no question.
    fn saturated(&self) -> Option<bool> {
        let behind = |sample: &Sample| sample.backlog >= BACKLOG_SATURATED;
        (self.scenario == GSO).then(|| self.samples.iter().all(behind))
    }
}

/// What the figures of a scenario are.
fn meaning(scenario: &str) -> &'static str {
    match scenario {
        PLAIN => {
            "datagrams queued while the receiver was parked, then drained; processor time of the receiving \
             thread without waking up and idle polls"
        }
        GSO => {
            "trains of datagrams (UDP_SEGMENT) as a flow from another core; all processor time of the receiving \
             thread, and packets per second it received; loss is what was more than it could take; compared with raw \
             only where raw was saturated"
        }
        _ => {
            "datagrams of many Call-IDs from one address, queued while the receiver was parked, then drained by all \
             its shards; processor time of the shards together, and packets per second until the queues were empty, \
             compared with one shard; by clock: by the processor time of the shard that took most, as if nobody else \
             had been on the cores"
        }
    }
}

fn heading(scenario: &str) -> String {
    let ratio = if scenario == SHARDS {
        "to one shard [low high]"
    } else {
        "to raw [low high]"
    };
    format!(
        " size  {:<16}{:>CELL_LEN$}{ratio:>CELL_LEN$}{:>9}  loss",
        "receiver", "ns/packet [low high]", "kpps"
    )
}

/// `580 [566 612]` in a column.
fn cell(spread: Option<Spread>, digits: usize) -> String {
    let words = spread.map_or_else(
        || "-".to_owned(),
        |Spread { median, low, high }| {
            format!("{median:.digits$} [{low:.digits$} {high:.digits$}]")
        },
    );
    format!("{words:>CELL_LEN$}")
}

fn percent(ratio: f64) -> String {
    if ratio == 0.0 {
        "0".to_owned()
    } else {
        format!("{:.2} %", ratio * 100.0)
    }
}

/// The scenarios by name.
pub(crate) const PLAIN: &str = "plain";
pub(crate) const GSO: &str = "gso";
pub(crate) const SHARDS: &str = "shards";

/// What others are compared with in the last of them.
pub(crate) const ONE_SHARD: &str = "engine-1-shard";

/// From here on it was the receiver that could not do more, and next to nothing of its time was spent waiting.
const BACKLOG_SATURATED: f64 = 0.9;

/// More than this was taken off for waking up and idle polls: the figure is as good as that was measured.
const IDLE_MAX: f64 = 0.05;

/// Wide enough for two ends of five digits.
const CELL_LEN: usize = 25;

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
        }
    }

    fn row(scenario: &'static str, receiver: &str, samples: &[Sample]) -> Row {
        Row {
            scenario,
            size: 200,
            receiver: receiver.to_owned(),
            identity: Identity {
                path: None,
                version: None,
                backend: "recvmmsg",
                gro: scenario == GSO,
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
            gro: true,
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
