//! `binrush demo`: genuine replication traffic, sent to an engine in this process and told in words.

use std::io;
use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use binrush_engine::{Engine, EngineConfig, StreamConfig};
use binrush_replay::{Pace, Progress, Traffic, replay};

use crate::arguments::{self, Shards};
use crate::output::Output;
use crate::{modules, signal, tally};
use run::{End, Run};
use screen::Screen;

/// How it went.
mod run;
/// What is shown, as a table or as JSON lines.
mod screen;
/// Packets on a connection.
mod stream;

/// See replication traffic arrive: packets of genuine OpenSIPS nodes, sent to an engine in this process
///
/// Those of a 1.11 node go over UDP, those of a 3.6 one over TCP. Needs no root, no files and no network but loopback.
/// Exits 0 only if every packet sent is accounted for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to send.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Packets per second to send, over each of the two.
    #[arg(long, value_name = "PPS", default_value_t = 40_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,

    /// Receiving threads, each with a socket of its own; auto is one for each core.
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = arguments::shards)]
    shards: Shards,

    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

/// What is sent, again and again.
struct Traffics {
    /// In datagrams.
    datagrams: Traffic,
    /// On one connection.
    stream: Traffic,
}

/// How both senders are told to stop.
#[derive(Debug, Default)]
struct Stops {
    datagrams: Progress,
    stream: AtomicBool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = signal::stop_flag()?;
    show(&args, &stop, Output::start(io::stdout())?)
}

/// Sends and receives until all is sent or `stop` is set, and tells on `output`.
fn show(args: &Args, stop: &AtomicBool, output: Output) -> anyhow::Result<ExitCode> {
    let traffics = Traffics {
        datagrams: Traffic::sample(),
        stream: stream::sample(),
    };
    let length = Duration::from_secs(args.seconds);
    let pace = Pace::new(args.rate, length).context("--rate must be above zero")?;
    let mut engine = start(args)?;
    let listener = engine.listeners().next().context("nothing to send to")?;
    ensure!(listener.tcp, "the engine accepts no connections");
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot open a socket to send from")?;
    socket
        .connect(listener.addr)
        .context("cannot connect to the engine's socket")?;
    let connection = stream::connect(listener.addr)?;

    let mut screen = Screen::open(output, args, &mut engine, &traffics)?;
    let stops = Stops::default();
    let (watched, report, stream) = thread::scope(|scope| {
        let Traffics { datagrams, stream } = &traffics;
        let datagrams = scope.spawn(|| replay(datagrams, pace, &socket, &stops.datagrams));
        let stream = scope.spawn(|| stream::send(stream, pace, connection, &stops.stream));
        let done = || datagrams.is_finished() && stream.is_finished();
        let watched = watch(&mut screen, &mut engine, &stops, stop, length, done);
        stops.set();
        let report = datagrams.join().expect("the sender does not panic");
        let stream = stream.join().expect("the sender does not panic");
        (watched, report, stream)
    });
    let watched = watched.and_then(|end| await_end(&mut engine, stream.packets).map(|()| end));
    let (totals, stopped) = tally::of_stopped(engine);
    let (end, watched) = match watched {
        Ok(end) => (end, Ok(())),
        Err(error) => (End::Failed, Err(error)),
    };
    let run = Run {
        totals,
        report,
        stream,
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

/// An engine on one free port of loopback, for datagrams and connections, that reads whatever any release sends.
fn start(args: &Args) -> anyhow::Result<Engine> {
    let addr = ([127, 0, 0, 1], 0).into();
    let config = EngineConfig {
        shards: args.shards.0,
        streams: StreamConfig {
            // The port that the datagrams' listener gets.
            listen: vec![addr],
            ..StreamConfig::default()
        },
        ..EngineConfig::new(addr)
    };
    Ok(Engine::start(config, modules::registry(|_| true, true)?)?)
}

/// Tells what came, second by second, until the senders are done, stopped by a signal or by their delay.
fn watch(
    screen: &mut Screen,
    engine: &mut Engine,
    stops: &Stops,
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
                stops.set();
            } else if start.elapsed() > length.saturating_add(GRACE) {
                // A sender that cannot keep the rate would go on until all is sent.
                end = End::Late;
                stops.set();
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

/// Waits until the connection's end was read, with the `sent` packets before it, or for so long that it will not be.
///
/// A stop leaves the sender's last bytes on their way, and a demo would call a loss what is only not there yet.
fn await_end(engine: &mut Engine, sent: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    while start.elapsed() < GRACE {
        let total = engine.snapshot()?.streams.total;
        if total.frames >= sent && total.open == 0 && total.opened > 0 {
            break;
        }
        thread::sleep(TICK);
    }
    Ok(())
}

impl Stops {
    fn set(&self) {
        self.datagrams.stop();
        self.stream.store(true, Ordering::Relaxed);
    }
}

/// What the senders may take longer than they should before they are stopped, and the last bytes before they are missed.
const GRACE: Duration = Duration::from_secs(1);

/// How late the end of a second or a signal is noticed at most.
const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

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
        assert_eq!(total["received"], 1000);
        assert_eq!(total["tcp"]["received"], 500);
        assert!(rows.iter().all(|row| row["event"] == "interval"), "{lines}");
        for key in [
            "/received",
            "/bytes",
            "/names/ul/received",
            "/streams/total/frames",
        ] {
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
