//! What a demo shows: a table for people, or JSON lines.

use std::io;
use std::time::Duration;

use binrush_engine::{Engine, Snapshot};
use binrush_replay::Traffic;
use binrush_wire::schema::{Capability, Message};
use serde_json::{Map, Value, json};

use super::{Args, Run};
use crate::modules;
use crate::output::{Output, event};
use crate::tally::{self, grouped};

/// Where the demo is told. The rows add up to the last line.
pub(super) struct Screen {
    output: Output,
    json: bool,
    /// Seconds that have passed.
    seconds: u64,
    /// The counters up to the last row that was taken.
    told: Snapshot,
}

impl Screen {
    /// Begins with what is about to happen.
    ///
    /// # Errors
    /// What reading the counters said.
    pub(super) fn open(
        output: Output,
        args: &Args,
        engine: &mut Engine,
        traffic: &Traffic,
    ) -> io::Result<Self> {
        output.print(opening(args, engine, traffic));
        Ok(Self {
            output,
            json: args.json,
            seconds: 0,
            told: engine.snapshot()?,
        })
    }

    /// A second has passed, and `counts` are the counters now.
    pub(super) fn second(&mut self, counts: Snapshot) {
        self.seconds += 1;
        // A row that is not taken is told with the next one.
        if self.output.print(self.row(self.seconds, &counts)) {
            self.told = counts;
        }
    }

    /// Ends with the sums.
    ///
    /// # Errors
    /// What [`Output::finish`] says.
    pub(super) fn close(self, run: &Run) -> io::Result<()> {
        let mut lines = Vec::new();
        let rest = run.totals.since(&self.told);
        if rest.received + rest.kernel.total() > 0 {
            lines.push(self.row(self.seconds + 1, &run.totals));
        }
        lines.push(if self.json {
            event("total", tally::json(&run.totals), closing_json(run))
        } else {
            format!("{}\n\n{}", row("all", &run.totals), closing(run))
        });
        self.output.finish(lines.join("\n"))
    }

    /// What came since the last row.
    fn row(&self, second: u64, counts: &Snapshot) -> String {
        let counts = counts.since(&self.told);
        if self.json {
            return event(
                "interval",
                tally::json(&counts),
                json!({ "second": second }),
            );
        }
        row(&format!("{second} s"), &counts)
    }
}

fn opening(args: &Args, engine: &Engine, traffic: &Traffic) -> String {
    let warnings: Vec<String> = engine.warnings().iter().map(ToString::to_string).collect();
    if args.json {
        let more = json!({
            "listen": format!("bin:{}", engine.local_addr()),
            "rcvbuf": engine.rcvbuf(),
            "rate_pps": args.rate,
            "seconds": args.seconds,
            "packets_per_round": traffic.len(),
            "warnings": warnings,
        });
        return event("ready", Map::new(), more);
    }
    let mut text = format!(
        "Two SIP servers, one telling the other what it knows: {} packets of a genuine OpenSIPS 1.11 node\n\
         about 300 calls and 420 registered phones, sent again and again, each round with fresh names.\n\n  \
         sender  {} packets/s for {} s, in this process\n  \
         engine  bin:{}, one thread on {}, receive buffer {} bytes\n",
        grouped(traffic.len() as u64),
        grouped(args.rate),
        args.seconds,
        engine.local_addr(),
        tally::core(engine),
        grouped(engine.rcvbuf() as u64),
    );
    for warning in warnings {
        text.push_str("  note    ");
        text.push_str(&warning);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&heading());
    text
}

/// Three lines above the table: module, and type in two words.
fn heading() -> String {
    let mut lines = [("", "", ""), ("", "", ""), ("time", "packets", "MB")]
        .map(|(time, packets, bytes)| format!("{time:>5} {packets:>9} {bytes:>6}"));
    for module in modules::all() {
        let types: Vec<&Message> = modules::messages(module).collect();
        let width = types.len() * (COLUMN + 1) - 1;
        lines[0].push_str(&format!("   {:─^width$}", format!(" {} ", title(module))));
        lines[1].push_str("  ");
        lines[2].push_str("  ");
        for message in types {
            let (above, below) = message.name.split_once('_').unwrap_or(("", message.name));
            lines[1].push_str(&format!(" {above:>COLUMN$}"));
            lines[2].push_str(&format!(" {below:>COLUMN$}"));
        }
    }
    lines.map(|line| line.trim_end().to_owned()).join("\n")
}

/// One line of the table; what was refused or dropped stands behind it in words.
fn row(time: &str, counts: &Snapshot) -> String {
    let mut line = format!(
        "{time:>5} {:>9} {:>6.2}",
        grouped(counts.received),
        counts.bytes as f64 / 1e6
    );
    for (module, names) in modules::all().zip(&counts.names) {
        line.push_str("  ");
        for message in modules::messages(module) {
            line.push_str(&format!(
                " {:>COLUMN$}",
                grouped(names.command(message.command))
            ));
        }
    }
    if counts.kernel.total() > 0 {
        line.push_str("   ");
        line.push_str(&tally::kernel(counts.kernel));
    }
    line
}

fn closing(run: &Run) -> String {
    let Run { totals, report, .. } = run;
    let mut text = format!(
        "  sent {} = received {} + dropped at the receive buffer {} + dropped during the stop {}\n  {}\n\n  \
         Each packet was read to its last byte in {} ns on average ({:.1} packets per batch).\n  \
         The sender was {:.1} ms late on average, {:.1} ms at most.\n",
        report.sent,
        totals.received,
        totals.kernel.buffer,
        totals.kernel.stopping,
        tally::received_equation(totals),
        totals.busy_ns / totals.received.max(1),
        totals.received as f64 / totals.batches.max(1) as f64,
        report.late_mean.as_secs_f64() * 1e3,
        report.late_max.as_secs_f64() * 1e3,
    );
    for (reason, count) in report.errors.iter() {
        text.push_str(&format!("  not sent: {count}, {reason}\n"));
    }
    text.push_str(&match run.verdict() {
        Ok(()) => "\nEvery packet sent is in exactly one counter, and everything that arrived was understood.".into(),
        Err(problem) => format!("\nSomething is wrong: {problem}."),
    });
    if let Some(why) = run.cut_short() {
        let [sent, planned] = [report.sent, report.planned].map(grouped);
        text.push_str(&format!(
            "\nOnly {sent} of {planned} packets were sent: {why}."
        ));
    }
    text
}

/// What only the end knows, beside the counters.
fn closing_json(run: &Run) -> Value {
    let Run {
        totals,
        report,
        end,
    } = run;
    let errors: Map<String, Value> = report
        .errors
        .iter()
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect();
    json!({
        "end": end.symbol(),
        "planned": report.planned,
        "sent": report.sent,
        "send_errors": errors,
        "late_mean_us": micros(report.late_mean),
        "late_max_us": micros(report.late_max),
        // Negative when more arrived than were sent; far from what 64 bits hold either way.
        "unaccounted": i64::try_from(totals.unaccounted(report.sent)).ok(),
        "balanced": totals.is_balanced(),
        "problem": run.verdict().err(),
    })
}

/// A module for people who do not know its name.
fn title(module: &Capability) -> &'static str {
    match module.name {
        "dialog" => "dialog (calls)",
        "ul" => "ul (registered phones)",
        other => other,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Width of a type in the table; the longest half of a type's name has seven letters.
const COLUMN: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::ListenConfig;

    #[test]
    fn heading_and_rows_have_the_same_columns() {
        let heading = heading();
        let widths: Vec<usize> = heading.lines().map(|line| line.chars().count()).collect();
        let mut engine = Engine::start(
            ListenConfig::new(([127, 0, 0, 1], 0).into()),
            modules::registry().unwrap(),
        )
        .unwrap();
        let row = row("1 s", &engine.snapshot().unwrap());
        assert_eq!(widths, [row.len(); 3], "{heading}\n{row}");
        for word in ["CREATED", "CONTACT", "DELETE", "calls"] {
            assert!(heading.contains(word), "{heading}");
        }
    }
}
