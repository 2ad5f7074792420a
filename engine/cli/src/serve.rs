//! `binrush serve`: receive BIN datagrams and say what came.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_engine::{Engine, ListenConfig, Pin, Snapshot};
use serde_json::{Value, json};

use crate::tally;

/// Receive BIN packets of 1.x nodes over UDP until SIGTERM or SIGINT, and say what came.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; IPv6 in brackets, port 0 takes a free one.
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
    let stop = tally::stop_on_signal()?;
    let config = ListenConfig {
        pin: args.core,
        rcvbuf: args.rcvbuf as usize,
        ..ListenConfig::new(args.listen.0)
    };
    let mut engine = Engine::start(config, tally::registry()?)?;
    print(&ready(&engine, &args))?;

    watch(&mut engine, &args, &stop)?;
    let totals = engine.stop()?;
    print(&last(&totals, args.json))?;
    Ok(if totals.is_balanced() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints a line per interval until `stop` is set or the shard ends by itself.
fn watch(engine: &mut Engine, args: &Args, stop: &AtomicBool) -> anyhow::Result<()> {
    let every = Duration::from_secs(args.stats);
    let (mut then, mut earlier) = (Instant::now(), engine.snapshot()?);
    while !stop.load(Ordering::Relaxed) && engine.is_running() {
        thread::sleep(STOP_LATENCY);
        let elapsed = then.elapsed();
        if every.is_zero() || elapsed < every {
            continue;
        }
        let now = engine.snapshot()?;
        print(&interval(&now.since(&earlier), elapsed, args.json))?;
        (then, earlier) = (then + elapsed, now);
    }
    Ok(())
}

fn ready(engine: &Engine, args: &Args) -> String {
    let addr = engine.local_addr();
    let handlers: Vec<&str> = tally::modules().map(|module| module.name).collect();
    let mut warnings: Vec<String> = engine.warnings().iter().map(ToString::to_string).collect();
    if !addr.ip().is_loopback() {
        warnings.push(format!(
            "there is no source filter yet: whoever can reach bin:{addr} is heard, and BIN over UDP has no authentication"
        ));
    }
    if args.json {
        return json!({
            "event": "ready",
            "listen": format!("bin:{addr}"),
            "transport": "udp",
            "core": engine.core(),
            "rcvbuf": engine.rcvbuf(),
            "handlers": handlers,
            "warnings": warnings,
        })
        .to_string();
    }
    let core = engine
        .core()
        .map_or_else(|| "any".to_owned(), |core| core.to_string());
    let mut text = format!(
        "ready: bin:{addr} (udp), core {core}, receive buffer {} bytes, handlers {}",
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
        return event("interval", counts, json!({ "seconds": seconds }));
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
        return event("total", totals, json!({ "balanced": balanced }));
    }
    let verdict = if balanced {
        "balanced"
    } else {
        "NOT BALANCED: please report this"
    };
    let words = tally::line(totals);
    let separator = if words.is_empty() { "" } else { " | " };
    format!(
        "total: {} packets, {} bytes{separator}{words}\n{}\n{}\n{verdict}",
        totals.received,
        totals.bytes,
        tally::received_equation(totals),
        tally::kernel(totals.kernel),
    )
}

fn event(event: &str, counts: &Snapshot, more: Value) -> String {
    let mut map = tally::json(counts);
    map.insert("event".into(), event.into());
    if let Value::Object(more) = more {
        map.extend(more);
    }
    Value::Object(map).to_string()
}

fn print(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}").context("cannot write to standard output")
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

/// How late a signal is noticed at most.
const STOP_LATENCY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_opensips_does() {
        let parse = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string());
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
}
