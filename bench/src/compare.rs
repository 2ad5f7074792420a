//! `binrush-bench compare`: receivers side by side, each a process, in turns.
//!
//! ```text
//!   for each size
//!     for each round     raw │ engine │ classic     every one a fresh process on the same core;
//!                        engine │ classic │ raw     the order turns by one from round to round
//! ```
//!
//! A machine is never equally fast twice. So receivers take turns, a round is compared with itself, and what is
//! reported is the median of the rounds with both ends.

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use binrush_net::pin_current_thread;
use clap::ValueEnum;

use crate::certificates::Certificates;
use crate::engine::{Engine, granted};
use crate::exit::{End, EndsWith as _};
use crate::host::{Host, Watch};
use crate::load::options::rate;
use crate::patience::Patience;
use crate::procfs;
use crate::profile::{perf, record};
use crate::receiver::stranger::{Named, Stranger, Where};
use crate::receiver::{Kind, Receiver};
use contenders::{Contender, Strange};
use records::{Keeper, Way};
use report::{Conditions, Report, Row, Sample};

/// Who takes part in what.
mod contenders;
/// Filling queues while nobody reads, then measuring how they are drained.
mod drain;
/// What telling events costs.
mod events;
/// Trains of datagrams as a flow, while it lasts.
mod flow;
/// Frames of an exact size.
pub(crate) mod frames;
/// Trains of datagrams as a flow.
mod gso;
/// What the kernel counts beside a receiver.
mod kernel;
/// Lone datagrams at a rate.
mod paced;
/// Packets of an exact size.
pub(crate) mod packets;
/// Queued and drained.
mod plain;
/// What keeping records costs.
mod records;
/// Measurements, and how they are told as JSON.
mod report;
/// Measurements as a table.
mod table;
/// A stream as fast as it goes.
mod tcp;
/// A stream inside TLS.
mod tls;

/// Measure the engine beside a raw receiver and a classic one, and beside programs of others, in turns.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each is measured.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Lengths of packets in bytes, 64 to 8192.
    #[arg(long, value_delimiter = ',', default_value = "64,200,512,1400", value_parser = size)]
    sizes: Vec<usize>,

    /// Packets to drain per measurement, contacts in events, and contacts in records; the default is 50000, and 1000000 contacts in
    /// records.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    packets: Option<u32>,

    /// What to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "plain,gso,shards"
    )]
    scenario: Vec<Scenario>,

    /// Whom of this program, and the engine; in streams, inside TLS or not, each by its counterpart. The default is
    /// raw,engine,engine-io_uring,classic.
    #[arg(long, value_enum, value_delimiter = ',')]
    receivers: Vec<Kind>,

    /// And whom of others: a command, in which {port} and {core} are replaced, in the foreground; or nothing after the
    /// `=`, with --port and --pid, for a process that is there already.
    #[arg(long, value_name = "NAME=COMMAND")]
    receiver: Vec<Named>,

    /// Where commands without {port} receive, and the process that --pid names.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// The process that is there already; it is measured by the clocks of its threads.
    #[arg(long, requires = "port")]
    pid: Option<u32>,

    /// Stop and continue that process by signals, for plain.
    #[arg(long, requires = "pid")]
    may_stop: bool,

    /// Whether trains may come whole in plain, shards and paced; lone datagrams pay for it. Never with classic, always
    /// in gso.
    #[arg(long, value_enum, default_value = "off")]
    gro: Switch,

    /// The binrush to measure; the default is the one beside this program.
    #[arg(long, value_name = "PATH")]
    engine: Option<PathBuf>,

    /// Length of a flow, and of what is drained in events at their rate, 0.1 to 60 seconds.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,

    /// Packets per second in paced.
    #[arg(long, value_name = "PPS,PPS...", value_delimiter = ',', default_value = "20k,100k", value_parser = rate)]
    rates: Vec<f64>,

    /// Events per second in events, on average: drains follow each other with pauses.
    #[arg(long, value_name = "PER-SECOND", default_value = "100k", value_parser = rate)]
    events: f64,

    /// One packet of so many is an event in events, each number by itself.
    #[arg(long, value_name = "N,N...", value_delimiter = ',', default_value = "1,5,10", value_parser = clap::value_parser!(u32).range(1..=100))]
    every: Vec<u32>,

    /// How much more than is counted the engine of row control drains in events, 1 to 1000 percent: the growth that has to show there.
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = percent)]
    control: f64,

    /// How engines keep what they are sent in records.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "counts,memory,log-tmpfs,log-disk"
    )]
    keepers: Vec<Keeper>,

    /// With how many threads beside the shard engines read connections in records, each number by itself.
    #[arg(long, value_name = "N,N...", value_delimiter = ',', default_value = "0,1", value_parser = clap::value_parser!(u16).range(..=16))]
    readers: Vec<u16>,

    /// Where log-disk keeps its files while it is measured; the default is the folder for temporary files.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// Sample the shard of each engine of records once more, and put where its time goes in each phase into DIR, as
    /// `profile --record` does: needs perf, and a README.md with the table.
    #[arg(long, value_name = "DIR")]
    flamegraphs: Option<PathBuf>,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Queued while the receiver is parked, then drained.
    Plain,
    /// Trains of datagrams as a flow.
    Gso,
    /// One shard and two, queued and drained.
    Shards,
    /// Lone datagrams at equal distances, at each of --rates.
    Paced,
    /// A stream of frames as fast as it goes.
    Tcp,
    /// The same inside TLS, encrypted ahead.
    Tls,
    /// Contacts that come, are refreshed and go in a stream, and what becomes of them.
    Records,
    /// The same in datagrams.
    RecordsUdp,
    /// Contacts that are refreshed in datagrams, queued and drained, each an event for a subscriber; and what that costs who receives them.
    Events,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// What is measured of all contenders before the next.
#[derive(Debug, Clone, Copy)]
struct Case {
    scenario: &'static str,
    size: usize,
    /// Packets per second, where they are paced.
    rate: Option<f64>,
}

/// What all measurements have in common.
#[derive(Debug)]
struct Bench<'a> {
    args: &'a Args,
    engine: Option<Engine>,
    /// Those of ours that cannot be had here.
    missing: Vec<Kind>,
    strange: Vec<Strange>,
    /// Of those that take streams inside TLS.
    certificates: Option<Certificates>,
    patience: Patience,
    /// The sender's core and the receiver's; the same where there is only one.
    tx: usize,
    rx: usize,
    /// Receive buffer that is granted here when [`RCVBUF_DRAIN`] is asked for.
    rcvbuf: usize,
    rows: Vec<Row>,
    kept: Vec<records::Row>,
    told: Vec<events::Row>,
    warnings: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let patience = Patience::until_signal()?;
    let mut host = Host::here();
    if let Some(folder) = &args.flamegraphs {
        perf::check().ends_with(End::Usage)?;
        record::check(folder).ends_with(End::Usage)?;
    }
    let watch = Watch::start();
    let mut bench = Bench::new(args, &host, patience)?;
    bench.probe()?;
    let outcome = bench.measure();
    if bench.rows.is_empty() && bench.kept.is_empty() && bench.told.is_empty() {
        return outcome;
    }
    watch.tell(&mut host);
    let report = bench.report(host, outcome.as_ref().err());
    let told = tell(&if args.json {
        report.json().to_string()
    } else {
        report.text()
    });
    outcome.and(told)
}

/// Puts the report out. A reader that left has seen what it wanted: then the exit code is about what was measured.
fn tell(report: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{report}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told.context("cannot write the report to standard output"),
    }
}

impl<'a> Bench<'a> {
    fn new(args: &'a Args, host: &Host, patience: Patience) -> anyhow::Result<Self> {
        let (Some(&tx), Some(&rx)) = (host.cores.first(), host.cores.last()) else {
            bail!("the kernel does not say which cores this process may use");
        };
        let at = Where {
            port: args.port,
            pid: args.pid,
            may_stop: args.may_stop,
        };
        let strangers = Stranger::all(&args.receiver, at).ends_with(End::Usage)?;
        let rcvbuf = granted(RCVBUF_DRAIN)?;
        let siblings = procfs::siblings(rx).unwrap_or_default();
        let engine = contenders::wants_engine(args);
        let wants_tls = args.scenario.contains(&Scenario::Tls);
        Ok(Self {
            args,
            engine: engine
                .then(|| Engine::find(args.engine.as_deref()))
                .transpose()?,
            missing: Vec::new(),
            strange: strangers.into_iter().map(Strange::from).collect(),
            certificates: wants_tls.then(Certificates::make).transpose()?,
            patience,
            tx,
            rx,
            rcvbuf,
            rows: Vec::new(),
            kept: Vec::new(),
            told: Vec::new(),
            warnings: warnings(args.rounds, [tx, rx], &siblings, rcvbuf),
        })
    }

    /// Everything that was asked for, in that order.
    fn measure(&mut self) -> anyhow::Result<()> {
        for scenario in &self.args.scenario {
            // Contacts are as long as genuine ones, whatever was asked for.
            let sizes = match scenario {
                Scenario::Records | Scenario::RecordsUdp | Scenario::Events => {
                    &self.args.sizes[..1]
                }
                _ => &self.args.sizes[..],
            };
            for &size in sizes {
                match scenario {
                    Scenario::Plain => self.plain(size)?,
                    Scenario::Gso => self.gso(size)?,
                    Scenario::Shards => self.shards(size)?,
                    Scenario::Paced => self.paced(size)?,
                    Scenario::Tcp => self.tcp(size)?,
                    Scenario::Tls => self.tls(size)?,
                    Scenario::Records => self.records(Way::Stream)?,
                    Scenario::RecordsUdp => self.records(Way::Datagrams)?,
                    Scenario::Events => self.events()?,
                }
            }
        }
        Ok(())
    }

    /// Measures every contender once per round, and keeps the rows.
    fn in_turns(
        &mut self,
        case: Case,
        contenders: &[Contender],
        mut measure: impl FnMut(&Self, &Contender) -> anyhow::Result<Sample>,
    ) -> anyhow::Result<()> {
        if contenders.is_empty() {
            return Ok(());
        }
        let samples = self.turns(&case, contenders.len(), |bench, index| {
            let contender = &contenders[index];
            measure(bench, contender).with_context(|| contender.name.clone())
        })?;
        for (contender, samples) in contenders.iter().zip(samples) {
            self.rows.push(Row {
                scenario: case.scenario,
                size: case.size,
                rate: case.rate,
                receiver: contender.name.clone(),
                identity: contender.identity(self.engine.as_ref()),
                samples,
            });
        }
        Ok(())
    }

    /// Has each of `count` measured once per round, by its number; the answer is what each gave, in the order of the
    /// rounds.
    fn turns<S>(
        &self,
        case: &dyn fmt::Display,
        count: usize,
        mut measure: impl FnMut(&Self, usize) -> anyhow::Result<S>,
    ) -> anyhow::Result<Vec<Vec<S>>> {
        let rounds = usize::from(self.args.rounds);
        // Only to pass the time: with nobody to read it, the measurement goes on.
        let _ = writeln!(io::stderr(), "{case}: {rounds} rounds of {count}");
        let mut samples: Vec<Vec<S>> = (0..count).map(|_| Vec::with_capacity(rounds)).collect();
        for round in 0..rounds {
            for turn in 0..count {
                let index = (round + turn) % count;
                self.patience.check()?;
                let sample = measure(self, index);
                let sample = sample.with_context(|| format!("{case}, round {}", round + 1))?;
                samples[index].push(sample);
            }
        }
        Ok(samples)
    }

    /// Packets of a drain.
    fn packets(&self) -> u32 {
        self.args.packets.unwrap_or(PACKETS)
    }

    fn start(&self, contender: &Contender) -> anyhow::Result<Receiver> {
        let engine = self.engine.as_ref().map(|engine| engine.path.as_path());
        contender.start(engine, self.rx, &self.patience)
    }

    fn gro(&self) -> bool {
        self.args.gro == Switch::On
    }

    fn leave_out(&mut self, why: &str) {
        if !self.warnings.iter().any(|warning| warning == why) {
            self.warnings.push(why.to_owned());
        }
    }

    /// The rows there are; `error` is why they are not all.
    fn report(self, host: Host, error: Option<&anyhow::Error>) -> Report {
        let (gro, packets) = (self.gro(), self.packets());
        let mut warnings = self.warnings;
        warnings.extend(host.warnings());
        warnings.extend(self.rows.iter().filter_map(Row::warning));
        warnings.extend(records::warnings(&self.kept));
        warnings.extend(events::warnings(&self.told));
        let conditions = Conditions {
            rounds: self.args.rounds,
            packets,
            seconds: self.args.seconds.as_secs_f64(),
            gro,
            sender_core: self.tx,
            receiver_core: self.rx,
            rcvbuf_drain: self.rcvbuf,
            rcvbuf_flow: RCVBUF_FLOW,
        };
        Report {
            host,
            conditions,
            warnings,
            error: error.map(|error| format!("{error:#}")),
            rows: self.rows,
            kept: self.kept,
            told: self.told,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes", self.scenario, self.size)?;
        match self.rate {
            Some(rate) => write!(f, ", {rate}/s"),
            None => Ok(()),
        }
    }
}

/// Why figures measured like this are not to be trusted. `siblings` are the cores that are one with the receiver's.
fn warnings(rounds: u16, [tx, rx]: [usize; 2], siblings: &[usize], rcvbuf: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if rounds < ROUNDS_MIN {
        warnings.push(format!(
            "a median of {rounds} rounds is easily moved: measure {ROUNDS_MIN} or more"
        ));
    }
    if tx == rx {
        warnings
            .push("there is one core only: no flow and no second shard can be measured".to_owned());
    } else if siblings.contains(&tx) {
        warnings.push(format!(
            "cores {tx} and {rx} are threads of one (SMT), so sender and receiver slow each other down: choose others \
             with `taskset`"
        ));
    }
    if rcvbuf < RCVBUF_DRAIN {
        warnings.push(format!(
            "receive buffers are {rcvbuf} bytes, not {RCVBUF_DRAIN}: queues are filled more often with less; run as \
             root, or `sysctl -w net.core.rmem_max={RCVBUF_DRAIN}`"
        ));
    }
    warnings
}

/// Runs `work` in a thread kept on `core`. Only that thread: children inherit where they may run, and receivers are
/// started by the first.
fn on_core<R: Send>(
    core: usize,
    work: impl FnOnce() -> anyhow::Result<R> + Send,
) -> anyhow::Result<R> {
    let pinned = move || {
        pin_current_thread(core)?;
        work()
    };
    thread::scope(|scope| {
        let worker = scope.spawn(pinned);
        worker
            .join()
            .unwrap_or_else(|_| bail!("the sender panicked"))
    })
}

fn size(text: &str) -> Result<usize, String> {
    let range = packets::SIZE_MIN..=packets::SIZE_MAX;
    let size = text.parse().ok().filter(|size| range.contains(size));
    size.ok_or_else(|| format!("a length in bytes, {} to {}", range.start(), range.end()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "a number of seconds, 0.1 to 60".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok();
    percent
        .filter(|percent| (1.0..=1000.0).contains(percent))
        .ok_or_else(|| "a number of percent, 1 to 1000".to_owned())
}

/// One round in which something else happened does not move the median of so many, nor do two or three.
const ROUNDS_MIN: u16 = 9;

/// In a drain, when nobody says.
const PACKETS: u32 = 50_000;

/// Fifty thousand datagrams of any usual size fit into it.
const RCVBUF_DRAIN: usize = 64 << 20;

/// As the engine asks for when it is told nothing. A larger one would be full as well, with memory that has left the
/// caches.
const RCVBUF_FLOW: usize = 4 << 20;

/// Different Call-IDs among the packets.
const CALL_IDS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_that_cannot_be_trusted_is_warned_of() {
        let none: [String; 0] = [];
        assert_eq!(warnings(9, [0, 1], &[1], RCVBUF_DRAIN), none);
        let each = [
            (warnings(8, [0, 1], &[1], RCVBUF_DRAIN), "8 rounds"),
            (warnings(9, [0, 1], &[0, 1], RCVBUF_DRAIN), "SMT"),
            (warnings(9, [0, 0], &[0], RCVBUF_DRAIN), "one core only"),
            (warnings(9, [0, 1], &[1], 4096), "4096 bytes"),
        ];
        for (warnings, words) in each {
            assert!(
                matches!(&warnings[..], [only] if only.contains(words)),
                "{words} in {warnings:?}"
            );
        }
    }

    #[test]
    fn sizes_and_times_have_bounds() {
        assert_eq!((size("64"), size("8192")), (Ok(64), Ok(8192)));
        for wrong in ["63", "8193", "-1", "x", ""] {
            assert!(size(wrong).unwrap_err().contains("64 to 8192"));
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "61", "NaN", "inf", "x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!((percent("2"), percent("1000")), (Ok(2.0), Ok(1000.0)));
        for wrong in ["0", "1001", "NaN", "x"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn work_on_a_core_leaves_the_caller_where_it_was() {
        let before = binrush_net::allowed_cores();
        let core = before[0];
        let seen = on_core(core, || Ok(binrush_net::allowed_cores())).unwrap();
        assert_eq!((seen, binrush_net::allowed_cores()), (vec![core], before));
        assert!(on_core(usize::MAX, || Ok(())).is_err());
    }
}
