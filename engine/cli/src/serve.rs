//! `binrush serve`: receive BIN datagrams and say what came.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use binrush_engine::{Engine, ListenConfig, Pin, Snapshot, StartError};
use serde_json::{Map, json};

use crate::output::{Output, event};
use crate::{modules, signal, tally};

/// Receive BIN packets of 1.x nodes over UDP until SIGTERM or SIGINT, and say what came.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; IPv6 in brackets, and then no IPv4; port 0 takes a free one.
    #[arg(long, value_name = "bin:IP:PORT")]
    listen: Listen,

    /// Core to keep the receiving thread on, counted from 0; auto takes the last one.
    #[arg(long, value_name = "auto|off|CORE", default_value = "auto", value_parser = pin)]
    core: Pin,

    /// Receive buffer to ask the kernel for, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    rcvbuf: u32,

    /// Seconds between two lines of counts; 0 prints none but the last.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    stats: u64,

    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

/// An address as OpenSIPS writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listen(SocketAddr);

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Before the start, so that a signal from the first moment on leads to a clean stop.
    let stop = signal::stop_flag()?;
    receive(&args, &stop, Output::start(io::stdout())?)
}

/// Receives until `stop` is set, and tells on `output`.
fn receive(args: &Args, stop: &AtomicBool, output: Output) -> anyhow::Result<ExitCode> {
    let config = ListenConfig {
        pin: args.core,
        rcvbuf: args.rcvbuf as usize,
        ..ListenConfig::new(args.listen.0)
    };
    let mut engine = Engine::start(config, modules::registry()?).map_err(explained)?;
    output.print(ready(&engine, args));

    let watched = watch(&mut engine, args, stop, &output);
    // Whatever went wrong, and whoever reads the output or does not: first the queue is drained, then the
    // totals are told, then the rest.
    let (totals, stopped) = tally::of_stopped(engine);
    let text = last(&totals, args.json);
    let written = output.finish(text.clone());
    watched?;
    stopped?;
    written.map_err(|error| anyhow!("cannot write to standard output: {error}\n{text}"))?;
    Ok(if totals.is_balanced() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints a line per interval until `stop` is set or the shard ends by itself. A line that is not taken is
/// told with the next one.
fn watch(
    engine: &mut Engine,
    args: &Args,
    stop: &AtomicBool,
    output: &Output,
) -> anyhow::Result<()> {
    let every = Duration::from_secs(args.stats);
    // Nothing was told yet: what came before this line belongs to the first interval.
    let (mut then, mut told) = (Instant::now(), None::<Snapshot>);
    let mut sampled = then;
    while !stop.load(Ordering::Relaxed) && engine.is_running() {
        thread::sleep(STOP_LATENCY);
        if sampled.elapsed() < SAMPLE {
            continue;
        }
        // Also when nothing is printed: the kernel's count of drops must not come round unseen.
        let now = engine.snapshot()?;
        sampled = Instant::now();
        let elapsed = sampled - then;
        if every.is_zero() || elapsed < every {
            continue;
        }
        let news = told
            .as_ref()
            .map_or_else(|| now.clone(), |told| now.since(told));
        if output.print(interval(&news, elapsed, args.json)) {
            (then, told) = (sampled, Some(now));
        }
    }
    Ok(())
}

/// What to do about it in terms of this command.
fn explained(error: StartError) -> anyhow::Error {
    match error {
        StartError::Pin(_) => anyhow!("{error}\n  name another one, or use `--core off`"),
        error => error.into(),
    }
}

fn ready(engine: &Engine, args: &Args) -> String {
    let addr = engine.local_addr();
    let handlers: Vec<&str> = modules::all().map(|module| module.name).collect();
    let mut warnings: Vec<String> = engine.warnings().iter().map(ToString::to_string).collect();
    if !addr.ip().is_loopback() {
        warnings.push(format!(
            "there is no source filter yet: whoever can reach bin:{addr} is heard, and BIN over UDP has no authentication"
        ));
    }
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        warnings.push(format!(
            "bin:{addr} takes no IPv4: for that, run another one on bin:0.0.0.0:{}",
            addr.port()
        ));
    }
    if args.json {
        let more = json!({
            "listen": format!("bin:{addr}"),
            "transport": "udp",
            "core": engine.core(),
            "rcvbuf": engine.rcvbuf(),
            "handlers": handlers,
            "warnings": warnings,
        });
        return event("ready", Map::new(), more);
    }
    let mut text = format!(
        "ready: bin:{addr} (udp), {}, receive buffer {} bytes, handlers {}",
        tally::core(engine),
        engine.rcvbuf(),
        handlers.join(" ")
    );
    for warning in warnings {
        text.push_str("\nwarning: ");
        text.push_str(&warning);
    }
    text
}

fn interval(counts: &Snapshot, elapsed: Duration, json: bool) -> String {
    let seconds = elapsed.as_secs_f64();
    if json {
        let more = json!({ "seconds": seconds });
        return event("interval", tally::json(counts), more);
    }
    let words = tally::line(counts);
    let separator = if words.is_empty() { "" } else { " | " };
    format!(
        "{} packets, {} bytes, {:.0}/s{separator}{words}",
        counts.received,
        counts.bytes,
        counts.received as f64 / seconds
    )
}

fn last(totals: &Snapshot, json: bool) -> String {
    let balanced = totals.is_balanced();
    if json {
        return event(
            "total",
            tally::json(totals),
            json!({ "balanced": balanced }),
        );
    }
    let words = tally::line(totals);
    let separator = if words.is_empty() { "" } else { " | " };
    let mut lines = vec![
        format!(
            "total: {} packets, {} bytes{separator}{words}",
            totals.received, totals.bytes
        ),
        tally::received_equation(totals),
    ];
    lines.extend(tally::meanings(totals));
    lines.push(tally::kernel(totals.kernel));
    let verdict = if balanced {
        "balanced"
    } else {
        "NOT BALANCED: please report this"
    };
    lines.push(verdict.to_owned());
    lines.join("\n")
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let addr = text.strip_prefix("bin:").and_then(|addr| addr.parse().ok());
        addr.map(Self).ok_or_else(|| {
            "an address is bin:IP:PORT, such as bin:127.0.0.1:5566 or bin:[::1]:5566".to_owned()
        })
    }
}

fn pin(text: &str) -> Result<Pin, String> {
    match text {
        "auto" => Ok(Pin::Auto),
        "off" => Ok(Pin::Off),
        core => core
            .parse()
            .map(Pin::Core)
            .map_err(|_| "auto, off or a number".to_owned()),
    }
}

/// How often the counters are read, printed or not.
const SAMPLE: Duration = Duration::from_secs(1);

/// How late a signal is noticed at most.
const STOP_LATENCY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_opensips_does() {
        let parse = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string());
        let scoped = "[fe80::1%2]:5566";
        assert_eq!(parse(&format!("bin:{scoped}")).as_deref(), Ok(scoped));
        assert_eq!(parse("bin:127.0.0.1:5566").as_deref(), Ok("127.0.0.1:5566"));
        assert_eq!(parse("bin:[::1]:0").as_deref(), Ok("[::1]:0"));
        for wrong in [
            "127.0.0.1:5566",
            "bin:127.0.0.1",
            "udp:127.0.0.1:5566",
            "bin:::1:5",
            "bin:host:1",
        ] {
            assert!(
                parse(wrong).unwrap_err().contains("bin:[::1]:5566"),
                "{wrong}"
            );
        }
    }

    fn stopped_at_once(output: Output) -> anyhow::Result<ExitCode> {
        let args = Args {
            listen: Listen(([127, 0, 0, 1], 0).into()),
            core: Pin::Off,
            rcvbuf: 4096,
            stats: 0,
            json: false,
        };
        receive(&args, &AtomicBool::new(true), output)
    }

    #[test]
    fn totals_that_could_not_be_printed_are_told_with_the_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let error = stopped_at_once(Output::start(writer).unwrap()).unwrap_err();
        let text = error.to_string();
        for word in ["Broken pipe", "\ntotal: 0 packets", "\nbalanced"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_stuck_reader_does_not_keep_it_from_stopping() {
        let (_reader, writer) = io::pipe().unwrap();
        let output = Output::start(writer).unwrap();
        // More than the pipe has room for, so that nothing after it is written.
        while output.print("x".repeat(1 << 20)) {}
        let error = stopped_at_once(output).unwrap_err();
        assert!(error.to_string().contains("nobody reads it\ntotal: "));
    }
}
