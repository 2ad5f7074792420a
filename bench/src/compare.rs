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
use crate::receiver::{Kind, Receiver, Setup};
use crate::report::{Conditions, GSO, ONE_SHARD, PLAIN, Report, Row, SHARDS, Sample};

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

/// What all measurements have in common.
#[derive(Debug)]
struct Bench<'a> {
    args: &'a Args,
    engine: Option<PathBuf>,
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
    for scenario in &args.scenario {
        for &size in &args.sizes {
            match scenario {
                Scenario::Plain => bench.plain(size)?,
                Scenario::Gso => bench.gso(size)?,
                Scenario::Shards => bench.shards(size)?,
            }
        }
    }
    host.steal = watch.steal();
    let report = bench.report(host);
    if args.json {
        println!("{}", report.json());
    } else {
        println!("{}", report.text());
    }
    Ok(())
}

impl<'a> Bench<'a> {
    fn new(args: &'a Args, host: &Host, patience: Patience) -> anyhow::Result<Self> {
        let wanted = args.receivers.iter().any(|kind| kind.is_engine());
        let (Some(&tx), Some(&rx)) = (host.cores.first(), host.cores.last()) else {
            bail!("the kernel does not say which cores this process may use");
        };
        let mut warnings = Vec::new();
        if tx == rx {
            warnings.push(
                "there is one core only: no flow and no second shard can be measured".to_owned(),
            );
        }
        let rcvbuf = granted(RCVBUF_DRAIN)?;
        if rcvbuf < RCVBUF_DRAIN {
            warnings.push(format!(
                "receive buffers are {rcvbuf} bytes, not {RCVBUF_DRAIN}: queues are filled more often with less; run \
                 as root, or `sysctl -w net.core.rmem_max={RCVBUF_DRAIN}`"
            ));
        }
        Ok(Self {
            args,
            engine: wanted.then(|| engine(args.engine.as_deref())).transpose()?,
            patience,
            tx,
            rx,
            rcvbuf,
            rows: Vec::new(),
            warnings,
        })
    }

    fn plain(&mut self, size: usize) -> anyhow::Result<()> {
        let packets = Packets::new(size, CALL_IDS)?;
        let contenders: Vec<(String, Setup)> = self
            .args
            .receivers
            .iter()
            .map(|kind| (kind.symbol(), self.setup(*kind, RCVBUF_DRAIN)))
            .collect();
        self.in_turns(PLAIN, size, &contenders, |bench, setup| {
            bench.drain(setup, bench.filling(&packets, 1, &[bench.tx]))
        })
    }

    /// The same packets for one shard and for two, with no trains allowed for either.
    fn shards(&mut self, size: usize) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        if !self.args.receivers.contains(&Kind::Engine) {
            return self.leave_out("shards are not measured: `engine` is not among the receivers");
        }
        let packets = Packets::new(size, CALL_IDS)?;
        let setup = |cores: &[usize]| Setup {
            gro: false,
            cores: cores.to_vec(),
            ..self.setup(Kind::Engine, RCVBUF_DRAIN)
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
        let contenders: Vec<(String, Setup)> = self
            .args
            .receivers
            .iter()
            .map(|kind| (kind.symbol(), self.setup(*kind, RCVBUF_FLOW)))
            .collect();
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
        eprintln!(
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
        let names = contenders.iter().map(|(name, _)| name.clone());
        self.rows
            .extend(names.zip(samples).map(|(receiver, samples)| Row {
                scenario,
                size,
                receiver,
                samples,
            }));
        Ok(())
    }

    fn drain(&self, setup: &Setup, filling: Filling<'_>) -> anyhow::Result<Sample> {
        let mut receiver = Receiver::start(setup, self.engine.as_deref(), &self.patience)?;
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
        let mut receiver = Receiver::start(setup, self.engine.as_deref(), &self.patience)?;
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

    fn setup(&self, kind: Kind, rcvbuf: usize) -> Setup {
        Setup {
            kind,
            rcvbuf,
            cores: vec![self.rx],
            gro: true,
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

    fn leave_out(&mut self, why: &str) -> anyhow::Result<()> {
        if !self.warnings.iter().any(|warning| warning == why) {
            self.warnings.push(why.to_owned());
        }
        Ok(())
    }

    fn report(self, host: Host) -> Report {
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
            sender_core: self.tx,
            receiver_core: self.rx,
            rcvbuf_drain: self.rcvbuf,
            rcvbuf_flow: RCVBUF_FLOW,
        };
        Report {
            host,
            conditions,
            warnings,
            rows: self.rows,
        }
    }
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

/// The `binrush` to measure: the one named, or the one beside this program.
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
