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

use std::env;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use binrush_net::{UdpOptions, UdpSocket, pin_current_thread};
use clap::ValueEnum;

use crate::drain::{self, Filling};
use crate::flow;
use crate::host::{Host, Watch};
use crate::packets::{self, Packets};
use crate::patience::Patience;
use crate::process::Process;
use crate::procfs;
use crate::receiver::{Kind, Receiver, Setup, TookAnother};
use crate::report::{Conditions, GSO, Identity, ONE_SHARD, PLAIN, Report, Row, SHARDS, Sample};

/// Measure the engine beside a raw receiver and a classic one, in turns.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each is measured.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Lengths of packets in bytes, 64 to 8192.
    #[arg(long, value_delimiter = ',', default_value = "64,200,512,1400", value_parser = size)]
    sizes: Vec<usize>,

    /// Packets to drain per measurement.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    packets: u32,

    /// What to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "plain,gso,shards"
    )]
    scenario: Vec<Scenario>,

    /// Whom to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "raw,engine,engine-io_uring,classic"
    )]
    receivers: Vec<Kind>,

    /// Whether trains may come whole in plain and shards; lone datagrams pay for it. Never with classic, always in gso.
    #[arg(long, value_enum, default_value = "off")]
    gro: Switch,

    /// The binrush to measure; the default is the one beside this program.
    #[arg(long, value_name = "PATH")]
    engine: Option<PathBuf>,

    /// Length of a flow, 0.1 to 60 seconds.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,

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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// The binrush to measure.
#[derive(Debug)]
struct Engine {
    path: PathBuf,
    /// In its own words.
    version: String,
}

/// What all measurements have in common.
#[derive(Debug)]
struct Bench<'a> {
    args: &'a Args,
    /// Those of the arguments that can be had here.
    receivers: Vec<Kind>,
    engine: Option<Engine>,
    patience: Patience,
    /// The sender's core and the receiver's; the same where there is only one.
    tx: usize,
    rx: usize,
    /// Receive buffer that is granted here when [`RCVBUF_DRAIN`] is asked for.
    rcvbuf: usize,
    rows: Vec<Row>,
    warnings: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let patience = Patience::until_signal()?;
    let mut host = Host::here();
    let watch = Watch::start();
    let mut bench = Bench::new(args, &host, patience)?;
    bench.probe()?;
    let outcome = bench.measure();
    if bench.rows.is_empty() {
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
        let wanted = args.receivers.iter().any(|kind| kind.is_engine());
        let (Some(&tx), Some(&rx)) = (host.cores.first(), host.cores.last()) else {
            bail!("the kernel does not say which cores this process may use");
        };
        let rcvbuf = granted(RCVBUF_DRAIN)?;
        let siblings = procfs::siblings(rx).unwrap_or_default();
        Ok(Self {
            args,
            receivers: args.receivers.clone(),
            engine: wanted
                .then(|| Engine::find(args.engine.as_deref()))
                .transpose()?,
            patience,
            tx,
            rx,
            rcvbuf,
            rows: Vec::new(),
            warnings: warnings(args.rounds, [tx, rx], &siblings, rcvbuf),
        })
    }

    /// Starts every engine once, and leaves out those that this kernel does not let run as they should.
    fn probe(&mut self) -> anyhow::Result<()> {
        for kind in self.args.receivers.iter().filter(|kind| kind.is_engine()) {
            let started = self.start(&self.setup(*kind, RCVBUF_FLOW, self.gro()));
            let Err(error) = started.and_then(Receiver::finish) else {
                continue;
            };
            let name = kind.symbol();
            let took = error
                .downcast::<TookAnother>()
                .map_err(|error| error.context(name.clone()))?;
            self.receivers.retain(|other| other != kind);
            self.leave_out(&format!("{name} left out: {took}"));
        }
        ensure!(
            !self.receivers.is_empty(),
            "nobody is left to measure: {}",
            self.warnings.join("; ")
        );
        Ok(())
    }

    /// Everything that was asked for, in that order.
    fn measure(&mut self) -> anyhow::Result<()> {
        for scenario in &self.args.scenario {
            for &size in &self.args.sizes {
                match scenario {
                    Scenario::Plain => self.plain(size)?,
                    Scenario::Gso => self.gso(size)?,
                    Scenario::Shards => self.shards(size)?,
                }
            }
        }
        Ok(())
    }

    fn plain(&mut self, size: usize) -> anyhow::Result<()> {
        let packets = Packets::new(size, CALL_IDS)?;
        let contenders = self.contenders(RCVBUF_DRAIN, self.gro());
        self.in_turns(PLAIN, size, &contenders, |bench, setup| {
            bench.drain(setup, bench.filling(&packets, 1, &[bench.tx]))
        })
    }

    /// The same packets for one shard and for two.
    fn shards(&mut self, size: usize) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        if !self.receivers.contains(&Kind::Engine) {
            self.leave_out("shards are not measured: `engine` is not among the receivers");
            return Ok(());
        }
        let packets = Packets::new(size, CALL_IDS)?;
        let setup = |cores: &[usize]| Setup {
            cores: cores.to_vec(),
            ..self.setup(Kind::Engine, RCVBUF_DRAIN, self.gro())
        };
        let contenders = [
            (ONE_SHARD.to_owned(), setup(&[self.rx])),
            ("engine-2-shards".to_owned(), setup(&[self.tx, self.rx])),
        ];
        self.in_turns(SHARDS, size, &contenders, |bench, setup| {
            // Sent from both cores, as network cards have a queue on each: or one would free the memory of all.
            let cores = [bench.tx, bench.rx];
            bench.drain(
                setup,
                bench.filling(&packets, SHARDS_PACKETS_FACTOR, &cores),
            )
        })
    }

    fn gso(&mut self, size: usize) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        let packets = Packets::new(size, CALL_IDS)?;
        let contenders = self.contenders(RCVBUF_FLOW, true);
        self.in_turns(GSO, size, &contenders, |bench, setup| {
            bench.flow(setup, &packets)
        })
    }

    /// Measures every contender once per round, and keeps the rows.
    fn in_turns(
        &mut self,
        scenario: &'static str,
        size: usize,
        contenders: &[(String, Setup)],
        mut measure: impl FnMut(&Self, &Setup) -> anyhow::Result<Sample>,
    ) -> anyhow::Result<()> {
        let rounds = usize::from(self.args.rounds);
        // Only to pass the time: with nobody to read it, the measurement goes on.
        let _ = writeln!(
            io::stderr(),
            "{scenario}, {size} bytes: {rounds} rounds of {}",
            contenders.len()
        );
        let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
        for round in 0..rounds {
            for turn in 0..contenders.len() {
                let index = (round + turn) % contenders.len();
                let (name, setup) = &contenders[index];
                self.patience.check()?;
                let sample = measure(self, setup).with_context(|| {
                    format!("{name}, {scenario}, {size} bytes, round {}", round + 1)
                })?;
                samples[index].push(sample);
            }
        }
        for ((receiver, setup), samples) in contenders.iter().zip(samples) {
            self.rows.push(Row {
                scenario,
                size,
                receiver: receiver.clone(),
                identity: self.identity(setup),
                samples,
            });
        }
        Ok(())
    }

    fn start(&self, setup: &Setup) -> anyhow::Result<Receiver> {
        let engine = self.engine.as_ref().map(|engine| engine.path.as_path());
        Receiver::start(setup, engine, &self.patience)
    }

    fn drain(&self, setup: &Setup, filling: Filling<'_>) -> anyhow::Result<Sample> {
        let mut receiver = self.start(setup)?;
        let sample = on_core(self.tx, || drain::measure(&mut receiver, filling))?;
        let received = receiver.finish()?;
        let through = sample.sent - sample.lost;
        // Figures of a receiver that lost or made up packets mean nothing.
        ensure!(
            received == through,
            "it received {received} packets where {through} came through its socket"
        );
        Ok(sample)
    }

    fn flow(&self, setup: &Setup, packets: &Packets) -> anyhow::Result<Sample> {
        let mut receiver = self.start(setup)?;
        let (time, patience) = (self.args.seconds, &self.patience);
        let flow = on_core(self.tx, || {
            flow::run(&mut receiver, packets, time, BACKLOG_MIN, patience)
        })?;
        let received = receiver.finish()?.checked_sub(flow.warm);
        let received = received.filter(|received| (1..=flow.sent).contains(received));
        let received = received.context("it received none of the flow, or more than was sent")?;
        Ok(Sample {
            ns_per_packet: flow.cpu_ns as f64 / received as f64,
            pps: received as f64 / flow.wall.as_secs_f64(),
            pps_by_clock: received as f64 / (flow.cpu_ns as f64 / 1e9),
            sent: flow.sent,
            lost: flow.sent - received,
            fills: 0,
            idle: 0.0,
            backlog: flow.backlog,
        })
    }

    /// All receivers, with one setting for all that have it.
    fn contenders(&self, rcvbuf: usize, gro: bool) -> Vec<(String, Setup)> {
        let kinds = self.receivers.iter();
        kinds
            .map(|kind| (kind.symbol(), self.setup(*kind, rcvbuf, gro)))
            .collect()
    }

    fn setup(&self, kind: Kind, rcvbuf: usize, gro: bool) -> Setup {
        Setup {
            kind,
            rcvbuf,
            cores: vec![self.rx],
            gro: gro && kind.can_gro(),
        }
    }

    fn gro(&self) -> bool {
        self.args.gro == Switch::On
    }

    /// What `setup` is in a report. Backend and gro are what was asked for: a receiver that took anything else has not
    /// been measured.
    fn identity(&self, setup: &Setup) -> Identity {
        let engine = self.engine.as_ref().filter(|_| setup.kind.is_engine());
        Identity {
            path: engine.map(|engine| engine.path.display().to_string()),
            version: engine.map(|engine| engine.version.clone()),
            backend: setup.kind.backend(),
            gro: setup.gro,
        }
    }

    fn filling<'b>(&self, packets: &'b Packets, factor: u32, cores: &'b [usize]) -> Filling<'b> {
        Filling {
            packets,
            count: (self.args.packets * factor).into(),
            rcvbuf: self.rcvbuf,
            cores,
        }
    }

    fn leave_out(&mut self, why: &str) {
        if !self.warnings.iter().any(|warning| warning == why) {
            self.warnings.push(why.to_owned());
        }
    }

    /// The rows there are; `error` is why they are not all.
    fn report(self, host: Host, error: Option<&anyhow::Error>) -> Report {
        let gro = self.gro();
        let mut warnings = self.warnings;
        warnings.extend(host.warnings());
        for row in self
            .rows
            .iter()
            .filter(|row| row.scenario != GSO && row.loss() > 0.0)
        {
            let Row {
                scenario,
                size,
                receiver,
                ..
            } = row;
            warnings.push(format!(
                "{receiver}, {scenario}, {size} bytes: packets were lost, which must not be"
            ));
        }
        let conditions = Conditions {
            rounds: self.args.rounds,
            packets: self.args.packets,
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
        }
    }
}

impl Engine {
    /// The one named, or the one beside this program.
    fn find(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = engine(named)?;
        let mut process = Process::start("binrush --version", &path, &["--version".into()])?;
        let version = process.line()?;
        Ok(Self { path, version })
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

/// What the kernel grants who asks for `asked` bytes of receive buffer. It is the same for our children.
fn granted(asked: usize) -> anyhow::Result<usize> {
    let options = UdpOptions {
        rcvbuf: Some(asked),
        ..UdpOptions::default()
    };
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket =
        UdpSocket::bind(free, &options).context("cannot open a UDP socket on 127.0.0.1")?;
    Ok(socket.rcvbuf()?.min(asked))
}

/// Where the `binrush` to measure is.
fn engine(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => env::current_exe()
            .context("cannot find binrush-bench itself")?
            .with_file_name("binrush"),
    };
    ensure!(
        path.is_file(),
        "there is no binrush at {}\n  build both with `cargo build --release --workspace`, or name it with `--engine \
         PATH`, or leave it out with `--receivers raw,classic`",
        path.display()
    );
    // With a slash, so that it is not looked for elsewhere.
    std::path::absolute(&path).context("cannot tell where binrush is")
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

/// One round in which something else happened does not move the median of so many, nor do two or three.
const ROUNDS_MIN: u16 = 9;

/// Fifty thousand datagrams of any usual size fit into it.
const RCVBUF_DRAIN: usize = 64 << 20;

/// As the engine asks for when it is told nothing. A larger one would be full as well, with memory that has left the
/// caches.
const RCVBUF_FLOW: usize = 4 << 20;

/// A queue that holds a tenth of it is behind. (The kernel would take twice what is asked for.)
const BACKLOG_MIN: u64 = RCVBUF_FLOW as u64 / 5;

/// Different Call-IDs among the packets.
const CALL_IDS: usize = 4096;

/// More packets for two shards: they are through sooner, and the end is seen a millisecond late.
const SHARDS_PACKETS_FACTOR: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_engine_is_told_with_what_to_do() {
        let error = engine(Some(Path::new("/nonexistent/binrush"))).unwrap_err();
        let text = error.to_string();
        for word in [
            "/nonexistent/binrush",
            "cargo build --release --workspace",
            "--engine",
        ] {
            assert!(text.contains(word), "{text}");
        }
    }

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
