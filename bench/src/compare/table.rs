//! Measurements as a table for people.

use std::fmt::{self, Write as _};

use super::report::{Conditions, GSO, PACED, PLAIN, Report, Row, SHARDS, TCP, TLS};
use super::{events, records};
use crate::host::Host;
use crate::statistics::Spread;

impl Report {
    /// A table for each scenario, with what one has to know about its figures.
    pub(super) fn text(&self) -> String {
        let Host {
            cores, kernel, cpu, ..
        } = &self.host;
        let mut text = format!("host: {} x {cpu}, Linux {kernel}\n", cores.len());
        let _ = writeln!(text, "{}", self.conditions);
        let mut told = "";
        for row in &self.rows {
            if row.scenario != told {
                told = row.scenario;
                let gro = match told {
                    TCP | TLS => "",
                    GSO => ", gro on",
                    _ if self.conditions.gro => ", gro on",
                    _ => ", gro off",
                };
                let _ = write!(
                    text,
                    "\n{told}{gro}: {}\n{}\n",
                    meaning(told),
                    heading(told)
                );
            }
            text.push_str(&self.line(row));
            text.push('\n');
        }
        text.push_str(&records::text(&self.kept));
        text.push_str(&events::text(&self.told));
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
        let rate = row
            .rate
            .map_or_else(String::new, |rate| format!("{rate:>RATE_LEN$}"));
        let mut line = format!(
            "{:>5}{rate}  {:<20}{}{}{}{:>9.0}  {}",
            row.size,
            row.receiver,
            cell(row.ns_per_packet(), 0),
            cell(ratio, 3),
            both_ends(row),
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
        PACED => {
            "lone datagrams at equal distances from another core; all processor time of the receiving thread per \
             packet it received, waking up and idle polls included; sender: that of the sending thread, which spins \
             from one packet to the next at short distances; cpus: the time in which any processor was not idle, soft \
             interrupts included, in steps of 10 ms; kpps: those received; loss: what was dropped at its socket"
        }
        TCP => {
            "a stream of frames (2.4 and later) as fast as it goes from another core; all processor time of the \
             receiving thread per message; sender: that of the sending thread; cpus: the time in which any processor \
             was not idle, soft interrupts included, in steps of 10 ms; not saturated: it was not on a processor all \
             the time, so waking up is in its figure; compared with raw-tcp only where that was saturated"
        }
        TLS => {
            "a stream of frames (2.4 and later) inside TLS 1.3, encrypted ahead and written in bursts of 8 MiB from \
             another core; all processor time of the receiving thread per message, handshake not included; kpps: while \
             there was something to receive; sender, cpus: the encrypting included; not saturated: it was not on a \
             processor for all of the bursts; compared with raw-tls only where that was saturated"
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
    let rate = if scenario == PACED {
        format!("{:>RATE_LEN$}", "rate")
    } else {
        String::new()
    };
    let both_ends = if [PACED, TCP, TLS].contains(&scenario) {
        format!("{:>END_LEN$}{:>END_LEN$}", "sender", "cpus")
    } else {
        String::new()
    };
    format!(
        " size{rate}  {:<20}{:>CELL_LEN$}{ratio:>CELL_LEN$}{both_ends}{:>9}  loss",
        "receiver", "ns/packet [low high]", "kpps"
    )
}

/// What sending cost, and everything together, where that is measured.
fn both_ends(row: &Row) -> String {
    let ends = [row.sender_ns(), row.cpus_ns()].into_iter().flatten();
    let cells = ends.map(|ns| format!("{:>END_LEN$.0}", ns.median));
    cells.collect()
}

/// `580 [566 612]` in a column.
pub(super) fn cell(spread: Option<Spread>, digits: usize) -> String {
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

/// More than this was taken off for waking up and idle polls: the figure is as good as that was measured.
const IDLE_MAX: f64 = 0.05;

/// Wide enough for a rate, and for the time of one packet at a slow one.
const RATE_LEN: usize = 9;
const END_LEN: usize = 9;

/// Wide enough for two ends of five digits.
pub(super) const CELL_LEN: usize = 25;
