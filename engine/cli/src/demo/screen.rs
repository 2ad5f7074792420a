//! What a demo shows: a live table for a terminal, lines for everything else, or JSON lines.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use binrush_engine::{Counts, Engine, Snapshot};
use serde_json::{Map, Value, json};

use super::run::{Run, received};
use super::{Args, Traffics};
use crate::output::{Output, event};
use crate::tally::{self, grouped};

/// Where the demo is told. What the rows say adds up to the last line.
pub(super) struct Screen {
    output: Output,
    form: Form,
    /// Seconds that have passed.
    seconds: u64,
    /// The counters up to the last row that was taken.
    told: Snapshot,
    cores: Vec<Option<usize>>,
}

/// How seconds are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    /// A line each.
    Lines,
    /// A table that each second overwrites; it has so many lines on the screen.
    Live(usize),
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
        traffics: &Traffics,
    ) -> io::Result<Self> {
        output.print(opening(args, engine, traffics));
        let form = match (args.json, io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Live(0),
            (false, false) => Form::Lines,
        };
        Ok(Self {
            output,
            form,
            seconds: 0,
            told: engine.snapshot()?,
            cores: engine.shards().map(|shard| shard.core).collect(),
        })
    }

    /// A second has passed, and `counts` are the counters now.
    pub(super) fn second(&mut self, counts: Snapshot) {
        self.seconds += 1;
        let news = counts.since(&self.told);
        let (text, form) = match self.form {
            Form::Json => (json_row(self.seconds, &news), Form::Json),
            Form::Lines => (line(self.seconds, &news), Form::Lines),
            Form::Live(lines) => {
                let table = table(self.seconds, &self.cores, &news, &counts);
                (over(lines, &table), Form::Live(table.lines().count()))
            }
        };
        // A row that is not taken is told with the next one.
        if self.output.print(text) {
            (self.told, self.form) = (counts, form);
        }
    }

    /// Ends with the sums.
    ///
    /// # Errors
    /// What [`Output::finish`] says.
    pub(super) fn close(self, run: &Run) -> io::Result<()> {
        let rest = run.totals.since(&self.told);
        let came = rest.total.received + rest.kernel.total() > 0;
        let mut lines = Vec::new();
        match self.form {
            Form::Json => {
                if came {
                    lines.push(json_row(self.seconds + 1, &rest));
                }
                let counts = tally::json(&run.totals);
                lines.push(event("total", counts, closing_json(run)));
            }
            Form::Lines => {
                if came {
                    lines.push(line(self.seconds + 1, &rest));
                }
                lines.push(format!("\n{}", closing(run)));
            }
            Form::Live(drawn) => {
                let table = table(self.seconds + 1, &self.cores, &rest, &run.totals);
                lines.push(over(drawn, &table));
                lines.push(format!("\n{}", closing(run)));
            }
        }
        self.output.finish(lines.join("\n"))
    }
}

fn opening(args: &Args, engine: &Engine, traffics: &Traffics) -> String {
    let warnings: Vec<String> = engine.warnings().iter().map(ToString::to_string).collect();
    let listener = engine.listeners().next();
    let listen = listener.map_or_else(String::new, |each| format!("bin:{}", each.addr));
    let rcvbuf = listener.and_then(|each| each.rcvbuf).unwrap_or(0);
    let [datagrams, stream] = [&traffics.datagrams, &traffics.stream].map(|each| each.len() as u64);
    if args.json {
        let shards = engine.shards().map(|shard| json!({ "core": shard.core }));
        // As `serve` tells it.
        let more = json!({
            "listen": [listen],
            "transport": ["udp", "tcp"],
            "shards": shards.collect::<Vec<_>>(),
            "rcvbuf": rcvbuf,
            "rate_pps": args.rate,
            "seconds": args.seconds,
            "packets_per_round": { "udp": datagrams, "tcp": stream },
            "warnings": warnings,
        });
        return event("ready", Map::new(), more);
    }
    let rate = format!("{:>7} packets/s for {} s", grouped(args.rate), args.seconds);
    let mut text = format!(
        "SIP servers, one telling another what it knows: {} packets of a genuine OpenSIPS 1.11 node about\n\
         300 calls and 420 registered phones, and {} of a genuine 3.6 node about calls, phones and its cluster,\n\
         sent again and again, each round with fresh names.\n\n  \
         udp     {rate}, 1.11, in this process, from one address\n  \
         tcp     {rate}, 3.6, in this process, on one connection\n  \
         engine  {listen} (udp, tcp), {}, receive buffer {} bytes each\n",
        grouped(datagrams),
        grouped(stream),
        tally::shards(engine),
        grouped(rcvbuf as u64),
    );
    for warning in warnings {
        text.push_str("  note    ");
        text.push_str(&warning);
        text.push('\n');
    }
    text.push_str("\n  A record stays on the shard that its Call-ID or AoR leads to; times are from arrival at the shard to done.\n");
    text
}

/// One second in one line.
fn line(second: u64, news: &Snapshot) -> String {
    let mut text = format!("{second:>3} s {:>9} packets", grouped(news.total.received));
    for (transport, count) in received(news) {
        text.push_str(&format!("  {transport} {:>7}", grouped(count)));
    }
    for (index, shard) in news.shards.iter().enumerate() {
        text.push_str(&format!("  shard{index} {:>7}", grouped(shard.settled())));
    }
    if let Some(latency) = tally::latency(&news.total) {
        text.push_str("  ");
        text.push_str(&latency);
    }
    text.push_str("  ");
    text.push_str(&losses(news));
    text
}

/// One second as a table, a row for each shard and each transport, with what came since the start beside it.
fn table(second: u64, cores: &[Option<usize>], news: &Snapshot, all: &Snapshot) -> String {
    let mut lines = vec![format!(
        "  {:>5}  {:>4}  {:>9}  {:>11}  {:>8}  {:>8}  {:>8}",
        format!("{second} s"),
        "core",
        "packets/s",
        "packets",
        "p50 us",
        "p99 us",
        "p99.9 us"
    )];
    for (index, (news, all)) in news.shards.iter().zip(&all.shards).enumerate() {
        let core = cores.get(index).copied().flatten();
        let core = core.map_or_else(|| "any".to_owned(), |core| core.to_string());
        lines.push(table_row(&format!("{index}"), &core, news, all));
    }
    lines.push(table_row("all", "", &news.total, &all.total));
    for ((transport, news), (_, all)) in received(news).into_iter().zip(received(all)) {
        let (news, all) = (grouped(news), grouped(all));
        lines.push(format!("  {transport:>5}  {:>4}  {news:>9}  {all:>11}", ""));
    }
    lines.push(format!("  {}", losses(all)));
    // A line each: one that a narrow terminal breaks would not be overwritten whole.
    lines.extend(tally::each_module(&all.total).map(|module| format!("  {module}")));
    lines.join("\n")
}

fn table_row(name: &str, core: &str, news: &Counts, all: &Counts) -> String {
    let micros = |percent| news.latency.percentile(percent) as f64 / 1e3;
    format!(
        "  {name:>5}  {core:>4}  {:>9}  {:>11}  {:>8.1}  {:>8.1}  {:>8.1}",
        // What it was the owner of; a connection is read by one shard for all.
        grouped(news.settled()),
        grouped(all.settled()),
        micros(50.0),
        micros(99.0),
        micros(99.9)
    )
}

/// `text` in place of the `drawn` lines above: each line is cleared before it is written.
fn over(drawn: usize, text: &str) -> String {
    let up = if drawn == 0 {
        String::new()
    } else {
        format!("\x1b[{drawn}A")
    };
    let lines: Vec<String> = text.lines().map(|line| format!("\x1b[2K{line}")).collect();
    format!("{up}{}", lines.join("\n"))
}

/// What was not handled, by name.
fn losses(counts: &Snapshot) -> String {
    let refused = tally::refusals(&counts.total);
    match (counts.kernel.total(), refused.is_empty()) {
        (0, true) => "dropped 0".to_owned(),
        (_, true) => tally::kernel(counts.kernel),
        (0, false) => refused,
        (_, false) => format!("{refused} | {}", tally::kernel(counts.kernel)),
    }
}

fn json_row(second: u64, news: &Snapshot) -> String {
    event("interval", tally::json(news), json!({ "second": second }))
}

fn closing(run: &Run) -> String {
    let Run {
        totals,
        report,
        stream,
        ..
    } = run;
    let total = &totals.total;
    let [(_, datagrams), (_, frames)] = received(totals);
    let mut text = String::new();
    for module in tally::each_module(total) {
        text.push_str(&format!("  {module}\n"));
    }
    text.push_str(&format!(
        "\n  udp: sent {} = received {datagrams} + {}\n  tcp: sent {} = received {frames}\n  {}\n",
        report.sent,
        tally::kernel(totals.kernel),
        stream.packets,
        tally::received_equation(total),
    ));
    for line in tally::streams::closing(&totals.streams) {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&format!(
        "\n  Each packet was read to its last byte in {} ns on average ({:.1} packets per batch).\n  \
         The sender over udp was {:.1} ms late on average, {:.1} ms at most, the one over tcp {:.1} ms at most.\n",
        total.busy_ns / total.received.max(1),
        total.received as f64 / total.batches.max(1) as f64,
        report.late_mean.as_secs_f64() * 1e3,
        report.late_max.as_secs_f64() * 1e3,
        stream.late_max.as_secs_f64() * 1e3,
    ));
    if let Some(latency) = tally::latency(total) {
        text.push_str(&format!(
            "  From arrival at the shard to done: {latency}.\n"
        ));
    }
    for (reason, count) in report.errors.iter() {
        text.push_str(&format!("  not sent: {count}, {reason}\n"));
    }
    text.push_str(&match run.verdict() {
        Ok(()) => "\nEvery packet sent is in exactly one counter, and everything that arrived was understood.".into(),
        Err(problem) => format!("\nSomething is wrong: {problem}."),
    });
    if let Some(why) = run.cut_short() {
        let [sent, planned] = [run.sent(), run.planned()].map(grouped);
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
        stream,
        end,
    } = run;
    let errors: Map<String, Value> = report
        .errors
        .iter()
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect();
    // Negative when more arrived than were sent; far from what 64 bits hold either way.
    let unaccounted = run.unaccounted();
    let [udp, tcp] = unaccounted.map(|(_, count)| i64::try_from(count).ok());
    let sum = unaccounted
        .into_iter()
        .map(|(_, count)| count)
        .sum::<i128>();
    let [(_, datagrams), (_, frames)] = received(totals);
    json!({
        "end": end.symbol(),
        "planned": run.planned(),
        "sent": run.sent(),
        "udp": {
            "planned": report.planned,
            "sent": report.sent,
            "received": datagrams,
            "unaccounted": udp,
        },
        "tcp": {
            "planned": stream.planned,
            "sent": stream.packets,
            "sent_bytes": stream.bytes,
            "received": frames,
            "unaccounted": tcp,
            "failed": stream.failed,
            "late_max_us": micros(stream.late_max),
        },
        "send_errors": errors,
        "late_mean_us": micros(report.late_mean),
        "late_max_us": micros(report.late_max),
        "unaccounted": i64::try_from(sum).ok(),
        "balanced": totals.is_balanced(),
        "problem": run.verdict().err(),
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::Outcome;

    #[test]
    fn the_columns_of_the_table_stand_below_their_headings() {
        let mut one = Counts::default();
        (one.received, one.frames) = (1500, 300);
        one.outcomes[Outcome::Handled as usize] = 1500;
        let mut counts = Snapshot::of(vec![one, Counts::default()], Vec::new());
        counts.streams.total.frames = 300;
        let table = table(7, &[Some(0), None], &counts, &counts);
        let lines: Vec<&str> = table.lines().collect();
        let widths: Vec<usize> = lines.iter().take(4).map(|line| line.len()).collect();
        assert_eq!(widths, [widths[0]; 4], "{table}");
        let packets = lines[0].find("packets  ").unwrap() + "packets".len();
        for (row, count) in [(3, " 1 500"), (4, " 1 200"), (5, " 300")] {
            assert!(lines[row][..packets].ends_with(count), "{table}");
        }
        for word in ["7 s", "any", "all", "  udp  ", "  tcp  ", "dropped 0"] {
            assert!(table.contains(word), "{table}");
        }
    }

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        assert_eq!(over(0, "a\nb"), "\x1b[2Ka\n\x1b[2Kb");
        assert_eq!(over(2, "c\nd"), "\x1b[2A\x1b[2Kc\n\x1b[2Kd");
    }
}
