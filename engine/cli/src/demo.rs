//! `binrush demo`: genuine replication traffic, sent to an engine in this process and told in words.

use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_engine::{Engine, ListenConfig, Outcome, Snapshot};
use binrush_replay::{Pace, Progress, Report, Traffic, replay};
use binrush_wire::schema::{Capability, Message};
use serde_json::{Map, Value, json};

use crate::tally::{self, grouped};

/// See replication traffic arrive: packets of a genuine OpenSIPS node, replayed to an engine in this process.
/// Needs no root, no files and no network but loopback.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to send.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Packets per second to send.
    #[arg(long, value_name = "PPS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,

    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = tally::stop_on_signal()?;
    let traffic = Traffic::sample();
    let length = Duration::from_secs(args.seconds);
    let pace = Pace::new(args.rate, length).context("--rate must be above zero")?;
    let mut engine = Engine::start(
        ListenConfig::new(([127, 0, 0, 1], 0).into()),
        tally::registry()?,
    )?;
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot open a socket to send from")?;
    socket
        .connect(engine.local_addr())
        .context("cannot connect to the engine's socket")?;

    let screen = Screen { json: args.json };
    screen.opening(&args, &engine, &traffic)?;
    let progress = Progress::default();
    let report = thread::scope(|scope| {
        let sender = scope.spawn(|| replay(&traffic, pace, &socket, &progress));
        let watched = watch(&screen, &mut engine, &progress, &stop, length, || {
            sender.is_finished()
        });
        // Also when the screen is gone: the sender must not go on for nobody.
        progress.stop();
        let report = sender.join().expect("the sender does not panic");
        watched.map(|()| report)
    })?;
    let totals = engine.stop()?;
    screen.ending(&totals, &report)?;
    Ok(if verdict(&totals, &report).is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Tells what came, second by second, until the sender is done or a signal came.
fn watch(
    screen: &Screen,
    engine: &mut Engine,
    progress: &Progress,
    stop: &AtomicBool,
    length: Duration,
    done: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut earlier = engine.snapshot()?;
    let mut second = 1;
    while !done() {
        // A sender that cannot keep the rate would go on until all is sent.
        if stop.load(Ordering::Relaxed) || start.elapsed() > length.saturating_add(GRACE) {
            progress.stop();
        }
        thread::sleep(TICK);
        if start.elapsed() >= Duration::from_secs(second) {
            let now = engine.snapshot()?;
            screen.second(second, &now.since(&earlier))?;
            earlier = now;
            second += 1;
        }
    }
    Ok(())
}

/// What is wrong, if anything: the ledger must balance, and all that arrived must have been understood.
fn verdict(totals: &Snapshot, report: &Report) -> Result<(), String> {
    let lost = totals.unaccounted(report.sent);
    if lost != 0 {
        return Err(format!("{lost} packets are in no counter"));
    }
    if !totals.is_balanced() {
        return Err("the outcomes do not add up to what was received".into());
    }
    match totals.received - totals.outcome(Outcome::Handled) {
        0 if totals.received == 0 => Err("nothing arrived".into()),
        0 => Ok(()),
        refused => Err(format!("{refused} packets arrived and were not understood")),
    }
}

/// Where the demo is told: text for people, or JSON lines.
struct Screen {
    json: bool,
}

impl Screen {
    fn opening(&self, args: &Args, engine: &Engine, traffic: &Traffic) -> anyhow::Result<()> {
        let warnings: Vec<String> = engine.warnings().iter().map(ToString::to_string).collect();
        if self.json {
            return self.event(
                "ready",
                Map::new(),
                json!({
                    "listen": format!("bin:{}", engine.local_addr()),
                    "rcvbuf": engine.rcvbuf(),
                    "rate_pps": args.rate,
                    "seconds": args.seconds,
                    "packets_per_round": traffic.len(),
                    "warnings": warnings,
                }),
            );
        }
        let core = engine
            .core()
            .map_or_else(|| "any".to_owned(), |core| core.to_string());
        let mut text = format!(
            "Two SIP servers, one telling the other what it knows: {} packets of a genuine OpenSIPS 1.11 node\n\
             about 300 calls and 420 registered phones, sent again and again, each round with fresh names.\n\n  \
             sender  {} packets/s for {} s, in this process\n  \
             engine  bin:{}, one thread on core {core}, receive buffer {} bytes\n",
            grouped(traffic.len() as u64),
            grouped(args.rate),
            args.seconds,
            engine.local_addr(),
            grouped(engine.rcvbuf() as u64),
        );
        for warning in warnings {
            text.push_str("  note    ");
            text.push_str(&warning);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&heading());
        self.print(&text)
    }

    fn second(&self, second: u64, counts: &Snapshot) -> anyhow::Result<()> {
        if self.json {
            return self.event("interval", tally::json(counts), json!({ "second": second }));
        }
        self.print(&row(&format!("{second} s"), counts))
    }

    fn ending(&self, totals: &Snapshot, report: &Report) -> anyhow::Result<()> {
        let verdict = verdict(totals, report);
        if self.json {
            let errors: Map<String, Value> = report
                .errors
                .iter()
                .map(|(reason, count)| (reason.to_owned(), count.into()))
                .collect();
            return self.event("total", tally::json(totals), json!({
                "sent": report.sent,
                "send_errors": errors,
                "late_mean_us": micros(report.late_mean),
                "late_max_us": micros(report.late_max),
                "unaccounted": i64::try_from(totals.unaccounted(report.sent)).unwrap_or(i64::MAX),
                "balanced": verdict.is_ok(),
            }));
        }
        self.print(&format!(
            "{}\n\n{}",
            row("all", totals),
            closing(totals, report, &verdict)
        ))
    }

    fn event(&self, event: &str, mut map: Map<String, Value>, more: Value) -> anyhow::Result<()> {
        map.insert("event".into(), event.into());
        if let Value::Object(more) = more {
            map.extend(more);
        }
        self.print(&Value::Object(map).to_string())
    }

    fn print(&self, text: &str) -> anyhow::Result<()> {
        writeln!(io::stdout(), "{text}").context("cannot write to standard output")
    }
}

/// Three lines above the table: module, and type in two words.
fn heading() -> String {
    let mut lines = [("", "", ""), ("", "", ""), ("time", "packets", "MB")]
        .map(|(time, packets, bytes)| format!("{time:>5} {packets:>9} {bytes:>6}"));
    for module in tally::modules() {
        let types: Vec<&Message> = tally::messages(module).collect();
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
    for (module, names) in tally::modules().zip(&counts.names) {
        line.push_str("  ");
        for message in tally::messages(module) {
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

fn closing(totals: &Snapshot, report: &Report, verdict: &Result<(), String>) -> String {
    let mut text = format!(
        "  sent {} = received {} + dropped in a full receive buffer {} + dropped during the stop {}\n  {}\n\n  \
         Each packet was read to its last byte in {} ns on average ({:.1} packets per receive call).\n  \
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
    let tried = report.sent + report.errors.total();
    if tried < report.planned {
        text.push_str(&format!(
            "  It was stopped after {tried} of {} packets.\n",
            report.planned
        ));
    }
    for (reason, count) in report.errors.iter() {
        text.push_str(&format!("  not sent: {count}, {reason}\n"));
    }
    text.push_str(&match verdict {
        Ok(()) => "\nEvery packet sent is in exactly one counter, and everything that arrived was understood.".into(),
        Err(problem) => format!("\nSomething is wrong: {problem}."),
    });
    text
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

/// What the sender may take longer than it should before it is stopped.
const GRACE: Duration = Duration::from_secs(1);

/// How late the end of a second or a signal is noticed at most.
const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heading_and_rows_have_the_same_columns() {
        let heading = heading();
        let widths: Vec<usize> = heading.lines().map(|line| line.chars().count()).collect();
        let mut engine = Engine::start(
            ListenConfig::new(([127, 0, 0, 1], 0).into()),
            tally::registry().unwrap(),
        )
        .unwrap();
        let row = row("1 s", &engine.snapshot().unwrap());
        assert_eq!(widths, [row.len(); 3], "{heading}\n{row}");
        for word in ["CREATED", "CONTACT", "DELETE", "calls"] {
            assert!(heading.contains(word), "{heading}");
        }
    }

    #[test]
    fn a_short_demo_balances() {
        let args = Args {
            seconds: 1,
            rate: 500,
            json: true,
        };
        assert_eq!(run(args).unwrap(), ExitCode::SUCCESS);
    }
}
