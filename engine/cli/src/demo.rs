//! `binrush demo`: genuine replication traffic, sent to an engine in this process and told in words.

use std::io;
use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_engine::{Engine, EngineConfig, Outcome, Snapshot};
use binrush_replay::{Pace, Progress, Report, Traffic, replay};

use crate::arguments::{self, Shards};
use crate::output::Output;
use crate::{modules, signal, tally};
use screen::Screen;

/// What is shown, as a table or as JSON lines.
mod screen;

/// See replication traffic arrive: packets of a genuine OpenSIPS node, sent to an engine in this process
///
/// Needs no root, no files and no network but loopback. Exits 0 only if every packet sent is accounted for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to send.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Packets per second to send.
    #[arg(long, value_name = "PPS", default_value_t = 40_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,

    /// Receiving threads, each with a socket of its own; auto is one for each core.
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = arguments::shards)]
    shards: Shards,

    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

/// How a demo went.
#[derive(Debug)]
struct Run {
    totals: Snapshot,
    report: Report,
    end: End,
}

/// Why the sender ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The schedule was through.
    Done,
    /// A signal came.
    Signal,
    /// It fell too far behind the schedule.
    Late,
    /// The counters could not be read.
    Failed,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = signal::stop_flag()?;
    show(&args, &stop, Output::start(io::stdout())?)
}

/// Sends and receives until all is sent or `stop` is set, and tells on `output`.
fn show(args: &Args, stop: &AtomicBool, output: Output) -> anyhow::Result<ExitCode> {
    let traffic = Traffic::sample();
    let length = Duration::from_secs(args.seconds);
    let pace = Pace::new(args.rate, length).context("--rate must be above zero")?;
    let config = EngineConfig {
        shards: args.shards.0,
        ..EngineConfig::new(([127, 0, 0, 1], 0).into())
    };
    let mut engine = Engine::start(config, modules::registry(|_| true, true)?)?;
    let listener = engine.listeners().next().context("nothing to send to")?;
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot open a socket to send from")?;
    socket
        .connect(listener.addr)
        .context("cannot connect to the engine's socket")?;

    let mut screen = Screen::open(output, args, &mut engine, &traffic)?;
    let progress = Progress::default();
    let (watched, report) = thread::scope(|scope| {
        let sender = scope.spawn(|| replay(&traffic, pace, &socket, &progress));
        let watched = watch(&mut screen, &mut engine, &progress, stop, length, || {
            sender.is_finished()
        });
        progress.stop();
        (watched, sender.join().expect("the sender does not panic"))
    });
    let (totals, stopped) = tally::of_stopped(engine);
    let (end, watched) = match watched {
        Ok(end) => (end, Ok(())),
        Err(error) => (End::Failed, Err(error)),
    };
    let run = Run {
        totals,
        report,
        end,
    };
    // Whatever went wrong, the totals are told first.
    let written = screen.close(&run);
    watched?;
    stopped?;
    match written {
        // Whoever saw enough may leave: the exit code still says how it went.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ if run.verdict().is_ok() => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// Tells what came, second by second, until the sender is done, stopped by a signal or by its delay.
fn watch(
    screen: &mut Screen,
    engine: &mut Engine,
    progress: &Progress,
    stop: &AtomicBool,
    length: Duration,
    done: impl Fn() -> bool,
) -> anyhow::Result<End> {
    let start = Instant::now();
    let mut end = End::Done;
    let mut next = Duration::from_secs(1);
    while !done() {
        if end == End::Done {
            if stop.load(Ordering::Relaxed) {
                end = End::Signal;
                progress.stop();
            } else if start.elapsed() > length.saturating_add(GRACE) {
                // A sender that cannot keep the rate would go on until all is sent.
                end = End::Late;
                progress.stop();
            }
        }
        thread::sleep(TICK);
        if start.elapsed() >= next {
            screen.second(engine.snapshot()?);
            next += Duration::from_secs(1);
        }
    }
    Ok(end)
}

impl Run {
    /// What is wrong, if anything: the ledger must balance, and all that arrived must have been understood.
    fn verdict(&self) -> Result<(), String> {
        let totals = &self.totals;
        match totals.unaccounted(self.report.sent) {
            0 => {}
            lost @ 1.. => return Err(format!("{lost} packets are in no counter")),
            more => {
                return Err(format!(
                    "{} packets more than were sent arrived: somebody else sends to this port",
                    more.unsigned_abs()
                ));
            }
        }
        if !totals.is_balanced() {
            return Err("the outcomes do not add up to what was received".into());
        }
        match totals.total.received - totals.total.outcome(Outcome::Handled) {
            0 if totals.total.received == 0 => Err("nothing arrived".into()),
            0 => Ok(()),
            refused => Err(format!("{refused} packets arrived and were not understood")),
        }
    }

    /// Why less was sent than planned, if so.
    fn cut_short(&self) -> Option<&'static str> {
        let why = match self.end {
            End::Done => "the others could not be sent",
            End::Signal => "a signal came",
            End::Late => "this machine does not keep the rate",
            End::Failed => "the counters could not be read",
        };
        (self.report.sent < self.report.planned).then_some(why)
    }
}

impl End {
    const fn symbol(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Signal => "signal",
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

/// What the sender may take longer than it should before it is stopped.
const GRACE: Duration = Duration::from_secs(1);

/// How late the end of a second or a signal is noticed at most.
const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::Counts;
    use binrush_replay::SendErrors;
    use serde_json::Value;

    fn run_of(planned: u64, sent: u64, received: u64) -> Run {
        let mut counts = Counts::default();
        counts.received = received;
        counts.outcomes[Outcome::Malformed as usize] = received;
        let totals = Snapshot::of(vec![counts], Vec::new());
        let report = Report {
            planned,
            sent,
            bytes: 0,
            errors: SendErrors::default(),
            elapsed: Duration::ZERO,
            late_max: Duration::ZERO,
            late_mean: Duration::ZERO,
        };
        Run {
            totals,
            report,
            end: End::Late,
        }
    }

    #[test]
    fn the_verdict_tells_lost_packets_from_strange_ones() {
        for (sent, received, words) in [
            (5, 2, "3 packets are in no counter"),
            (2, 5, "3 packets more than were sent arrived"),
            (2, 2, "2 packets arrived and were not understood"),
            (0, 0, "nothing arrived"),
        ] {
            let problem = run_of(9, sent, received).verdict().unwrap_err();
            assert!(problem.starts_with(words), "{problem}");
        }
    }

    #[test]
    fn a_sender_that_was_stopped_does_not_pass_for_one_that_was_done() {
        let cut = run_of(9, 5, 5).cut_short();
        assert_eq!(cut, Some("this machine does not keep the rate"));
        assert_eq!(run_of(5, 5, 5).cut_short(), None);
    }

    fn short() -> Args {
        Args {
            seconds: 1,
            rate: 500,
            shards: Shards(None),
            json: true,
        }
    }

    #[test]
    fn the_rows_add_up_to_the_last_line() {
        let (reader, writer) = io::pipe().unwrap();
        let output = Output::start(writer).unwrap();
        let code = show(&short(), &AtomicBool::new(false), output).unwrap();
        assert_eq!(code, ExitCode::SUCCESS);

        let lines = io::read_to_string(reader).unwrap();
        let events: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let [ready, rows @ .., total] = &events[..] else {
            panic!("{lines}")
        };
        assert_eq!(ready["event"], "ready");
        assert_eq!(
            (&total["event"], &total["end"]),
            (&"total".into(), &"done".into())
        );
        assert_eq!(total["received"], 500);
        assert!(rows.iter().all(|row| row["event"] == "interval"), "{lines}");
        for key in ["/received", "/bytes", "/names/ul/received"] {
            let count = |value: &Value| value.pointer(key).and_then(Value::as_u64).unwrap();
            let sum: u64 = rows.iter().map(count).sum();
            assert_eq!(sum, count(total), "{key} {lines}");
        }
    }

    #[test]
    fn a_reader_that_left_changes_nothing_about_the_verdict() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = Output::start(writer).unwrap();
        let code = show(&short(), &AtomicBool::new(false), output).unwrap();
        assert_eq!(code, ExitCode::SUCCESS);
    }
}
