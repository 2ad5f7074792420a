//! `binrush-bench self-test`: how fast and how late this machine generates.
//!
//! ```text
//!   for each way:  flat out ──────▶ everything is due at once: the highest rate, and what a packet costs the sender
//!                  at 50 000/s ─┐
//!                  at 80 % ─────┴─▶ on schedule: how late packets leave, how many do not, how many do not arrive
//! ```
//!
//! A sink of this program receives on another core and audits every packet, so the figures hold what stamps and
//! checksums cost on both ends. A load that needs more than this, or a latency below this lateness, is not to be
//! measured on this machine.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use binrush_probe::{Hist, Report as ProbeReport};
use binrush_scenario::{Content, Scenario, Schedule, Share, Source};
use clap::ValueEnum;
use serde_json::Value;

use crate::engine::granted;
use crate::exit::{End, EndsWith as _};
use crate::host::Host;
use crate::patience::Patience;
use crate::receiver::{Kind, LOOPBACK, Receiver, Setup};
use crate::result::{Doubt, FORMAT, RunResult, SelfTestRow, SenderResult};
use crate::sender::{self, Job, Live, Pacing, Way};
use flat_out::FlatOut;

/// Packets as fast as they go.
mod flat_out;

/// How fast and how late this machine generates, sending to a sink of its own that audits every packet.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    /// Seconds that each of the three measurements of a way takes, 0.01 to 4.
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "1")]
    seconds: Duration,

    /// Length of packets in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u16).range(128..=8192))]
    size: u16,

    /// Datagrams one by one, datagrams in trains, frames in a stream.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "plain,gso,tcp"
    )]
    ways: Vec<WayName>,

    /// Core to send from; the default is the first one. The sink takes the last one.
    #[arg(long)]
    core: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WayName {
    Plain,
    Gso,
    Tcp,
}

/// What is sent, and where from.
#[derive(Debug, Clone, Copy)]
struct Order<'a> {
    way: Way,
    size: u16,
    length: Duration,
    tx: usize,
    rx: usize,
    patience: &'a Patience,
}

/// One measurement.
#[derive(Debug)]
struct Phase {
    sender: SenderResult,
    /// Sent, and not in the sink's audit.
    lost: u64,
}

/// All measurements of one way.
#[derive(Debug)]
struct Measured {
    way: Way,
    size: u16,
    flat: Phase,
    paced: Vec<(f64, Phase)>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let started = now();
    let patience = Patience::until_signal()?;
    let host = Host::here();
    let mut rows = Vec::new();
    let mut doubts = Vec::new();
    for warning in host.warnings() {
        doubts.push(doubt("doubt", warning, None));
    }
    let mut told = String::from(HEAD);
    for name in &args.ways {
        let (tx, rx) = cores(&host.cores, args.core).ends_with(End::Usage)?;
        let order = Order {
            way: (*name).into(),
            size: args.size,
            length: args.seconds,
            tx,
            rx,
            patience: &patience,
        };
        let measured = order.measure()?;
        told.push_str(&measured.line());
        doubts.extend(measured.doubt());
        rows.extend(measured.rows());
    }
    for doubt in &doubts {
        let _ = writeln!(told, "{}: {}", doubt.severity, doubt.text);
    }
    let result = RunResult {
        format: FORMAT,
        command: "self-test".to_owned(),
        arguments: env::args().skip(1).collect(),
        started,
        finished: now(),
        complete: true,
        trouble: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: facts()?,
        doubts,
        self_test: rows,
        trials: Vec::new(),
        search: None,
        overload: None,
    };
    if args.json {
        told = serde_json::to_string(&result)?;
        told.push('\n');
    }
    print(&told)?;
    Ok(End::Done.into())
}

/// What the generator can do `way`, with packets of `size` bytes, from `core`: measured quickly before a load.
///
/// Call it on the first thread, to which the sink is tied.
pub(crate) fn before(
    way: Way,
    size: u16,
    core: Option<usize>,
    patience: &Patience,
) -> anyhow::Result<Vec<SelfTestRow>> {
    let (tx, rx) = cores(&Host::here().cores, core)?;
    let order = Order {
        way,
        size,
        length: BEFORE,
        tx,
        rx,
        patience,
    };
    let measured = order.measure().context("self-test")?;
    Ok(measured.rows().collect())
}

impl Order<'_> {
    fn measure(self) -> anyhow::Result<Measured> {
        let flat = self.phase(1, None)?;
        let highest_pps = flat.rate_pps();
        let mut paced = Vec::new();
        for (run, rate_pps) in (2..).zip([USUAL_PPS, PART * highest_pps]) {
            paced.push((rate_pps, self.phase(run, Some(rate_pps))?));
        }
        Ok(Measured {
            way: self.way,
            size: self.size,
            flat,
            paced,
        })
    }

    /// Sends to a sink at a rate, or flat out, and lays both counts together.
    fn phase(self, run: u16, rate_pps: Option<f64>) -> anyhow::Result<Phase> {
        self.patience.check()?;
        let setup = self.sink()?;
        let receiver = Receiver::start(&setup, None, self.patience)?;
        let job = Job {
            source: self.source(run, rate_pps)?,
            stream: 0,
            to: receiver.addr(),
            way: self.way,
            core: Some(self.tx),
            end_ns: u64::try_from(self.length.as_nanos()).context("it ends one day")?,
        };
        let pacing = match rate_pps {
            Some(_) => Pacing::default(),
            // There is no schedule that anything could be late for.
            None => Pacing {
                late_max_ns: u64::MAX,
                ..Pacing::default()
            },
        };
        let live = Live::new(1);
        let mut senders = sender::run(vec![job], pacing, &live, self.patience)?;
        self.patience.check()?;
        receiver.wait_idle()?;
        let sender = senders.pop().context("one job has one result")?;
        let arrived = arrived(&receiver.totals()?, run)?;
        Ok(Phase {
            lost: sender.sent.saturating_sub(arrived),
            sender,
        })
    }

    fn sink(self) -> anyhow::Result<Setup> {
        Ok(Setup {
            kind: match self.way {
                Way::Plain | Way::Gso => Kind::Sink,
                Way::Tcp => Kind::SinkTcp,
            },
            rcvbuf: granted(RCVBUF)?,
            cores: vec![self.rx],
            gro: self.way == Way::Gso,
            verify: true,
            probe: String::new(),
            tells: false,
            certificates: None,
            listen: LOOPBACK,
            more: String::new(),
        })
    }

    fn source(self, run: u16, rate_pps: Option<f64>) -> anyhow::Result<Box<dyn Source>> {
        let name = match self.way {
            Way::Plain | Way::Gso => "miss",
            Way::Tcp => "miss-tcp",
        };
        let scenario = Scenario::find(name)?.with_size(self.size);
        let share = Share {
            stream: 0,
            streams: 1,
        };
        let content = |rate_pps, length| {
            let schedule =
                Schedule::new(&scenario.arrivals, rate_pps, length, share, scenario.seed);
            Content::new(&scenario, run, share, schedule)
        };
        Ok(match rate_pps {
            Some(rate_pps) => Box::new(content(rate_pps, self.length)?),
            None => Box::new(FlatOut::new(content(BEYOND_PPS, self.length)?, self.length)),
        })
    }
}

impl Phase {
    fn rate_pps(&self) -> f64 {
        self.sender.sent as f64 / (self.sender.elapsed_ns.max(1) as f64 / 1e9)
    }

    fn ns_per_packet(&self) -> f64 {
        self.sender.cpu_ns as f64 / self.sender.sent.max(1) as f64
    }
}

impl Measured {
    /// A row for each rate at which the lateness was measured; what was found flat out is in all of them.
    fn rows(&self) -> impl Iterator<Item = SelfTestRow> {
        self.paced.iter().map(|(at_pps, phase)| SelfTestRow {
            way: self.way.symbol().to_owned(),
            size: usize::from(self.size),
            rate_pps: self.flat.rate_pps(),
            ns_per_packet: self.flat.ns_per_packet(),
            lateness: phase.sender.lateness.clone(),
            lateness_at_pps: *at_pps,
            unsent: phase.sender.unsent,
            lost: phase.lost,
        })
    }

    fn line(&self) -> String {
        let mut line = format!(
            "{:6}{:6}{:>12.0}{:>11.0}",
            self.way.symbol(),
            self.size,
            self.flat.rate_pps(),
            self.flat.ns_per_packet()
        );
        for (_, phase) in &self.paced {
            let SenderResult {
                planned,
                sent,
                lateness,
                ..
            } = &phase.sender;
            let missing = planned - sent + phase.lost;
            let _ = write!(line, "  {:>24}{missing:>9}", quantiles(lateness));
        }
        line.push('\n');
        line
    }

    /// Flat out nobody waits for anybody: what a receive buffer then loses says which of the two was faster.
    fn doubt(&self) -> Option<Doubt> {
        let Phase { sender, lost } = &self.flat;
        let share = *lost as f64 / sender.sent.max(1) as f64;
        (*lost > 0).then(|| {
            let text = format!(
                "{}: flat out, {:.1} % of the packets found the sink's buffer full: the sender is faster than the sink",
                self.way.symbol(),
                share * 100.0
            );
            doubt("note", text, None)
        })
    }
}

/// Packets of `run` that the sink has seen at least once.
fn arrived(total: &Value, run: u16) -> anyhow::Result<u64> {
    let probe: ProbeReport = serde_json::from_value(total["probe"].clone())
        .with_context(|| format!("the sink's audit makes no sense: {total}"))?;
    Ok(probe.run(run).map_or(0, |run| run.total().unique))
}

/// Where to send from, and where to receive.
fn cores(allowed: &[usize], named: Option<usize>) -> anyhow::Result<(usize, usize)> {
    let known = "the kernel does not say which cores this process may use";
    let (first, last) = (
        allowed.first().context(known)?,
        allowed.last().context(known)?,
    );
    let tx = named.unwrap_or(*first);
    anyhow::ensure!(
        allowed.contains(&tx),
        "core {tx} is not among those that this process may use: {allowed:?}"
    );
    let rx = if tx == *last { *first } else { *last };
    Ok((tx, rx))
}

/// `0.1/12/130`: microseconds.
fn quantiles(lateness: &Hist) -> String {
    let us = |quantile| lateness.value_at(quantile) as f64 / 1e3;
    format!(
        "{:.1}/{:.1}/{:.0}",
        us(0.5),
        us(0.99),
        lateness.max() as f64 / 1e3
    )
}

/// What `load` and others tell of the host too.
fn facts() -> anyhow::Result<Value> {
    let checked = binrush_tune::check(Path::new("/"), &binrush_tune::Demand::default());
    Ok(serde_json::to_value(&checked.facts)?)
}

fn doubt(severity: &str, text: String, advice: Option<String>) -> Doubt {
    Doubt {
        severity: severity.to_owned(),
        text,
        advice,
    }
}

/// A reader that left has seen what it wanted.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told
            .context("cannot write the result to standard output")
            .ends_with(End::Unwritten),
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// A source is told in 32 bits how late it is, so flat out there are no longer tests than 4 s.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (0.01..=4.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("expected seconds from 0.01 to 4, not \"{text}\""))
}

impl From<WayName> for Way {
    fn from(name: WayName) -> Self {
        match name {
            WayName::Plain => Self::Plain,
            WayName::Gso => Self::Gso,
            WayName::Tcp => Self::Tcp,
        }
    }
}

const HEAD: &str = "\
way     size   packets/s  ns/packet  late at 50 000/s (us)  missing  late at 80 % (us)      missing
                                         p50/p99/max                  p50/p99/max
";

/// A rate that every machine must keep.
const USUAL_PPS: f64 = 50_000.0;

/// Of the highest rate: what may be asked of a generator.
const PART: f64 = 0.8;

/// More than any sender can; the schedule behind what is sent flat out.
const BEYOND_PPS: f64 = 1e8;

/// As much as loads ask for where trains come.
const RCVBUF: usize = 64 << 20;

/// Of each measurement before a load.
const BEFORE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_and_sink_have_a_core_each_where_there_are_two() {
        assert_eq!(cores(&[0, 1, 2], None).unwrap(), (0, 2));
        assert_eq!(cores(&[0, 1, 2], Some(2)).unwrap(), (2, 0));
        assert_eq!(cores(&[5], None).unwrap(), (5, 5));
        assert!(
            cores(&[0, 1], Some(7))
                .unwrap_err()
                .to_string()
                .contains("[0, 1]")
        );
        assert!(cores(&[], None).is_err());
    }

    #[test]
    fn a_test_that_would_outgrow_its_clock_is_refused() {
        assert_eq!(seconds("4"), Ok(Duration::from_secs(4)));
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["4.1", "0", "-1", "NaN", "inf", "", "1s"] {
            assert!(seconds(wrong).unwrap_err().contains("0.01 to 4"), "{wrong}");
        }
    }
}
