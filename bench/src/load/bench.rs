//! One load at one rate: receiver, senders, and both ends laid together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use binrush_probe::Hist;
use binrush_scenario::Source;
use binrush_tune::Demand;
use serde_json::Value;

use super::matter::Matter;
use super::options::{Common, Switch};
use crate::engine::{Engine, granted};
use crate::exit::{End, EndsWith as _};
use crate::ledger::Terms;
use crate::patience::Patience;
use crate::procfs;
use crate::procfs::Thread;
use crate::receiver::{Kind, Setup};
use crate::result::{Doubt, IntervalRow, Ledger, ReceiverResult, SenderResult, Trial};
use crate::sender::{self, Job, Live, Pacing, Way};
use crate::target::{Address, LOOK_EVERY, Other, Target, Transport};
use crate::view::Snapshot;

/// What all trials of a run have in common.
#[derive(Debug)]
pub(crate) struct Bench {
    common: Common,
    matter: Matter,
    engine: Option<Engine>,
    /// `None`: one that is there already.
    kind: Option<Kind>,
    tx: Vec<usize>,
    rx: Vec<usize>,
    /// As granted, and as asked for.
    rcvbuf: usize,
    asked_rcvbuf: usize,
    patience: Patience,
    /// Of the next trial.
    run: u16,
    /// Whether loads have the mix of a long run from the first packet on. Only for receivers that keep nothing: they
    /// hear of calls that began before.
    steady: bool,
}

/// A trial, and what went wrong in it if anything did.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) trial: Trial,
    pub(crate) trouble: Option<anyhow::Error>,
}

/// How a trial stands, some fifty times a second.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    pub(crate) name: &'a str,
    pub(crate) rate_pps: f64,
    pub(crate) length: Duration,
    pub(crate) elapsed: Duration,
    pub(crate) live: &'a Live,
    heard: &'a Heard,
}

/// What the receiver has told by itself so far.
#[derive(Debug, Default)]
struct Heard {
    received: Option<u64>,
    drops: BTreeMap<String, u64>,
}

impl Bench {
    pub(crate) fn new(
        common: &Common,
        matter: Matter,
        allowed: &[usize],
        patience: &Patience,
    ) -> anyhow::Result<Self> {
        let streams = matter.is_stream();
        let kind = match (common.to, common.receiver) {
            (Some(address), _) => {
                check_way(&address, streams)?;
                check_other(common, &matter, address).ends_with(End::Usage)?;
                None
            }
            (None, Some(kind)) => Some(kind),
            (None, None) if streams => Some(Kind::SinkTcp),
            (None, None) => Some(Kind::Engine),
        };
        if let Some(kind) = kind
            && kind.is_tcp() != streams
        {
            let (takes, sends) = if streams {
                ("datagrams", "a stream")
            } else {
                ("a stream", "datagrams")
            };
            Err(anyhow!(
                "{} takes {takes} and the load is {sends}: choose another with --receiver",
                kind.symbol()
            ))
            .ends_with(End::Usage)?;
        }
        if kind == Some(Kind::RawTcp) {
            Err(anyhow!(
                "raw-tcp counts bytes and not packets: choose sink-tcp or classic-tcp"
            ))
            .ends_with(End::Usage)?;
        }
        let wanted = kind.is_some_and(Kind::is_engine);
        let engine = wanted.then(|| Engine::find(common.engine.as_deref()));
        let engine = engine.transpose().ends_with(End::Usage)?;
        let (tx, rx) = cores(common, allowed).ends_with(End::Usage)?;
        let trains = common.trains == Switch::On && common.gro == Switch::On && !streams;
        let asked = common
            .rcvbuf
            .map_or(if trains { RCVBUF_TRAINS } else { RCVBUF }, |bytes| {
                bytes as usize
            });
        Ok(Self {
            rcvbuf: granted(asked)?,
            asked_rcvbuf: asked,
            common: common.clone(),
            matter,
            engine,
            kind,
            tx,
            rx,
            patience: patience.clone(),
            run: first_run(),
            steady: false,
        })
    }

    /// What a run of it at `rate_pps` asks of the host.
    pub(crate) fn demand(&self, rate_pps: f64) -> Demand {
        Demand {
            rcvbuf: self.asked_rcvbuf as u64,
            sockets: self.kind.map(|_| self.rx.len()),
            rate_pps,
            io_uring: self.kind == Some(Kind::EngineUring),
            trains: self.way() == Way::Gso,
        }
    }

    /// How packets leave.
    pub(crate) fn way(&self) -> Way {
        match (self.matter.is_stream(), self.common.trains) {
            (true, _) => Way::Tcp,
            (false, Switch::On) => Way::Gso,
            (false, Switch::Off) => Way::Plain,
        }
    }

    /// From now on with the mix of a long run from the first packet on, if the receiver is one of ours: short trials would
    /// be all about calls that begin.
    pub(crate) fn make_steady(&mut self) {
        self.steady = self.kind.is_some();
    }

    /// The first sender's.
    pub(crate) fn sender_core(&self) -> usize {
        self.tx[0]
    }

    /// How long packets are that the generator is tried with.
    pub(crate) fn self_test_size(&self) -> u16 {
        self.common.size.unwrap_or(SELF_TEST_SIZE)
    }

    /// What speaks against measuring like this.
    pub(crate) fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        let mut add = |text: String, advice: &str| {
            doubts.push(Doubt {
                severity: "doubt".to_owned(),
                text,
                advice: Some(advice.to_owned()),
            });
        };
        if let Some(core) = self.rx.iter().find(|core| self.tx.contains(core)) {
            add(
                format!(
                    "a sender and a receiver share core {core}: each is measured with the other"
                ),
                "choose others with --sender-cores and --receiver-cores, or a machine with more",
            );
        }
        for rx in &self.rx {
            let siblings = procfs::siblings(*rx).unwrap_or_default();
            if let Some(tx) = siblings
                .iter()
                .find(|core| *core != rx && self.tx.contains(core))
            {
                add(
                    format!(
                        "cores {tx} and {rx} are threads of one (SMT), so sender and receiver slow each other down"
                    ),
                    "choose others with --sender-cores and --receiver-cores",
                );
            }
        }
        let told = self
            .common
            .to
            .map(|address| other(&self.common, address).doubt(false));
        if let Some(Ok(Some(text))) = told {
            add(text.to_owned(), "--ask, or --count");
        }
        if self.kind.is_some() && self.rcvbuf < self.asked_rcvbuf {
            add(
                format!(
                    "receive buffers are {} bytes where {} were asked for",
                    self.rcvbuf, self.asked_rcvbuf
                ),
                "run as root, or raise net.core.rmem_max",
            );
        }
        doubts
    }

    /// Whether there will be latencies.
    pub(crate) fn is_probed(&self) -> bool {
        match self.kind {
            None => self.common.ask,
            Some(kind) if kind.is_engine() => {
                let names = self.matter.names();
                names.iter().any(|name| self.probes(name))
            }
            Some(kind) => kind.is_sink(),
        }
    }

    /// Sends at `rate_pps` for `length`, to a receiver of its own unless it was there before.
    ///
    /// An error is one before anything was sent. What goes wrong later is told beside what was measured.
    pub(crate) fn trial(
        &mut self,
        name: &str,
        rate_pps: f64,
        length: Duration,
        show: &mut dyn FnMut(&Progress<'_>),
    ) -> anyhow::Result<Measured> {
        self.trial_when(name, rate_pps, length, &mut |_| Ok(()), show)
    }

    /// A [`trial`](Self::trial) that begins when `ready` has returned, which is given the receiver's threads: those whose
    /// processor time is counted, and none where the process is not known.
    pub(crate) fn trial_when(
        &mut self,
        name: &str,
        rate_pps: f64,
        length: Duration,
        ready: &mut dyn FnMut(&[Thread]) -> anyhow::Result<()>,
        show: &mut dyn FnMut(&Progress<'_>),
    ) -> anyhow::Result<Measured> {
        self.patience.check()?;
        let run = self.run;
        self.run = self.run.checked_add(1).unwrap_or(1);
        let mut target = self.target()?;
        let jobs = self.jobs(run, rate_pps, length, target.address().addr)?;
        ready(&target.threads()?)?;
        target.mark(run, &self.patience)?;
        let watch = Watch {
            name,
            rate_pps,
            length,
        };
        let (sent, watched) = self.send(jobs, &mut target, &watch, show);
        let mut trouble = watched.trouble;
        let senders = sent.unwrap_or_else(|error| {
            trouble.get_or_insert(error);
            Vec::new()
        });
        if trouble.is_none() {
            trouble = refused(&senders, self.matter.is_stream());
        }
        if trouble.is_none()
            && let Err(error) = target.settle(&self.patience)
        {
            trouble = Some(error);
        }
        let sent_max = match self.way() {
            Way::Gso => senders.iter().map(|sender| sender.batch_max).max(),
            Way::Plain | Way::Tcp => None,
        };
        let train_max = target.train_max(sent_max.unwrap_or(1));
        let active_ns = senders.iter().map(|sender| sender.elapsed_ns).max();
        let active = Duration::from_nanos(active_ns.unwrap_or(0));
        let probed = target.is_probed();
        let (mut receiver, finished) = target.finish(run, active, &self.patience);
        receiver.backlog = watched.backlog;
        if let Err(error) = finished {
            trouble.get_or_insert(error);
        }
        let terms = Terms {
            run,
            senders: &senders,
            receiver: &receiver,
            train_max,
            stamped: !matches!(self.matter, Matter::Capture(_)),
            expected: self.expected(),
        };
        let ledger = Ledger::of(terms);
        let trial = self.laid_together(run, &watch, senders, receiver, ledger, probed);
        Ok(Measured { trial, trouble })
    }

    /// Runs the senders, and looks after both ends meanwhile.
    fn send(
        &self,
        jobs: Vec<Job>,
        target: &mut Target,
        watch: &Watch<'_>,
        show: &mut dyn FnMut(&Progress<'_>),
    ) -> (anyhow::Result<Vec<SenderResult>>, Watched) {
        let late_max_ns = u64::try_from(self.common.late_max.as_nanos()).unwrap_or(u64::MAX);
        let pacing = Pacing {
            late_max_ns,
            // What is due at the end is given as much time as what was due before.
            grace_ns: late_max_ns,
            ..Pacing::default()
        };
        let live = Live::new(jobs.len());
        let stop = self.patience.part();
        let behind_min = self.kind.map(|_| self.rcvbuf as u64 / BEHIND_PART);
        let mut watched = Watched::default();
        let mut heard = Heard::default();
        let (mut looks, mut behind) = (0_u32, 0_u32);
        let start = Instant::now();
        let sent = thread::scope(|scope| {
            let sending = scope.spawn(|| sender::run(jobs, pacing, &live, &stop));
            while !sending.is_finished() {
                thread::sleep(LOOK_EVERY);
                // Of a receiver of somebody else's nobody knows how much its buffer holds.
                if let (Some(bytes), Some(behind_min)) = (target.queued(), behind_min) {
                    looks += 1;
                    behind += u32::from(bytes >= behind_min);
                }
                target.told().iter().for_each(|line| heard.add(line));
                show(&Progress {
                    name: watch.name,
                    rate_pps: watch.rate_pps,
                    length: watch.length,
                    elapsed: start.elapsed(),
                    live: &live,
                    heard: &heard,
                });
                if watched.trouble.is_none()
                    && let Err(error) = target.check_alive()
                {
                    stop.stop();
                    watched.trouble = Some(error.context("the receiver died during the load"));
                }
            }
            sending
                .join()
                .unwrap_or_else(|_| bail!("a sender panicked"))
        });
        watched.backlog = (looks > 0).then(|| f64::from(behind) / f64::from(looks));
        if let Err(error) = self.patience.check() {
            watched.trouble.get_or_insert(error);
        }
        (sent, watched)
    }

    fn target(&self) -> anyhow::Result<Target> {
        let Some(kind) = self.kind else {
            let address = self.common.to.context("--to was checked")?;
            return Ok(Target::Other(other(&self.common, address), None));
        };
        let trains = self.common.trains == Switch::On && self.common.gro == Switch::On;
        let probe = match &self.common.probe[..] {
            _ if !kind.is_engine() => "",
            "off" => "",
            names => names,
        };
        let setup = Setup {
            kind,
            rcvbuf: self.rcvbuf,
            cores: self.rx.clone(),
            gro: trains && self.rx.len() == 1 && kind.can_gro(),
            verify: !self.common.no_verify,
            probe: probe.to_owned(),
            tells: true,
        };
        let (path, version) = match &self.engine {
            Some(engine) => (Some(engine.path.as_path()), &engine.version[..]),
            None => (None, ""),
        };
        Target::start(&setup, path, version, &self.patience)
    }

    fn jobs(
        &self,
        run: u16,
        rate_pps: f64,
        length: Duration,
        to: SocketAddr,
    ) -> anyhow::Result<Vec<Job>> {
        let way = self.way();
        let sources =
            self.matter
                .sources(run, rate_pps, length, self.common.senders, self.steady)?;
        let end_ns = u64::try_from(length.as_nanos()).context("a run ends one day")?;
        let job = |(stream, source): (u16, Box<dyn Source>)| Job {
            source,
            stream,
            to,
            way,
            core: Some(self.tx[usize::from(stream) % self.tx.len()]),
            end_ns,
        };
        Ok((0..).zip(sources).map(job).collect())
    }

    fn laid_together(
        &self,
        run: u16,
        watch: &Watch<'_>,
        senders: Vec<SenderResult>,
        mut receiver: ReceiverResult,
        ledger: Ledger,
        probed: bool,
    ) -> Trial {
        let audited = receiver.probe.as_ref().filter(|_| probed);
        let audited = audited.and_then(|probe| probe.runs.iter().find(|audit| audit.run == run));
        let intervals = intervals(&senders, audited);
        let intended = audited.map(|audit| audit.intended.clone());
        let actual = audited.map(|audit| audit.actual.clone());
        // They stand in the trial's own rows now.
        for run in receiver.probe.iter_mut().flat_map(|probe| &mut probe.runs) {
            run.intervals.clear();
            (run.intended, run.actual) = (Hist::new(), Hist::new());
        }
        Trial {
            name: watch.name.to_owned(),
            scenario: self.matter.name().to_owned(),
            transport: if self.matter.is_stream() {
                "tcp"
            } else {
                "udp"
            }
            .to_owned(),
            arrivals: self.matter.arrivals().to_owned(),
            seed: self.matter.seed(),
            run,
            offered_pps: watch.rate_pps,
            seconds: watch.length.as_secs_f64(),
            intended: intended.unwrap_or_default(),
            actual: actual.unwrap_or_default(),
            intervals,
            senders,
            receiver,
            ledger,
            binding: None,
        }
    }

    /// Outcomes besides `handled` that mean that a packet arrived as it should: misses are meant to be unknown.
    fn expected(&self) -> &'static [&'static str] {
        let misses = self.matter.misses();
        if misses.iter().any(|name| !self.probes(name)) {
            &["unknown_name"]
        } else {
            &[]
        }
    }

    fn probes(&self, name: &str) -> bool {
        self.common
            .probe
            .split(',')
            .any(|probed| probed.trim() == name)
    }
}

impl Progress<'_> {
    /// As a view shows it.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let sent = self.live.total();
        let drops = self.heard.drops.iter();
        Snapshot {
            name: self.name.to_owned(),
            elapsed: self.elapsed,
            length: self.length,
            offered_pps: self.rate_pps,
            sent: sent.sent,
            unsent: sent.unsent + sent.errors,
            received: self.heard.received,
            lateness: vec![("mean", sent.late_mean_ns), ("max", sent.late_max_ns)],
            latency: Vec::new(),
            drops: drops.map(|(name, count)| (name.clone(), *count)).collect(),
        }
    }
}

impl Heard {
    /// Adds an interval line.
    fn add(&mut self, line: &Value) {
        if line["event"] != "interval" {
            return;
        }
        *self.received.get_or_insert(0) += line["received"].as_u64().unwrap_or(0);
        for (name, count) in line["kernel_drops"].as_object().into_iter().flatten() {
            let count = count.as_u64().unwrap_or(0);
            if count > 0 && name != "maybe_trains" {
                *self.drops.entry(name.clone()).or_default() += count;
            }
        }
    }
}

/// What is asked for in a trial.
#[derive(Debug, Clone, Copy)]
struct Watch<'a> {
    name: &'a str,
    rate_pps: f64,
    length: Duration,
}

/// What was seen of the receiver during a trial.
#[derive(Debug, Default)]
struct Watched {
    trouble: Option<anyhow::Error>,
    /// Share of the looks at its queue that found it behind.
    backlog: Option<f64>,
}

/// When so much was refused that the run has failed: of datagrams one in a hundred, of a stream anything, because it is
/// over then.
fn refused(senders: &[SenderResult], is_stream: bool) -> Option<anyhow::Error> {
    let errors = senders.iter().flat_map(|sender| &sender.errors);
    let (error, _) = errors.clone().max_by_key(|(_, count)| **count)?;
    let count: u64 = errors.map(|(_, count)| count).sum();
    let planned: u64 = senders.iter().map(|sender| sender.planned).sum();
    let is_too_much = is_stream || count.saturating_mul(REFUSED_PART) > planned;
    is_too_much.then(|| anyhow!("{count} of {planned} packets could not be sent: {error}"))
}

/// Both ends by seconds, the first of which is the one in which the senders began.
fn intervals(
    senders: &[SenderResult],
    audited: Option<&binrush_probe::RunReport>,
) -> Vec<IntervalRow> {
    let start_ns = senders
        .iter()
        .map(|sender| sender.start_ns)
        .min()
        .unwrap_or(0);
    let first = start_ns / NS_PER_SECOND;
    let mut rows: Vec<IntervalRow> = Vec::new();
    let mut row = |second: u64, change: &mut dyn FnMut(&mut IntervalRow)| {
        let index = usize::try_from(second).unwrap_or(usize::MAX);
        if index >= SECONDS_MAX {
            return;
        }
        while rows.len() <= index {
            let second = rows.len() as u64;
            rows.push(IntervalRow {
                second,
                ..IntervalRow::default()
            });
        }
        change(&mut rows[index]);
    };
    for sender in senders {
        for (second, (sent, due)) in (0..).zip(sender.by_second.iter().zip(&sender.due_by_second)) {
            row(second, &mut |row| {
                row.sent += sent;
                row.offered += due;
            });
        }
    }
    for interval in audited.into_iter().flat_map(|audit| &audit.intervals) {
        row(interval.second.saturating_sub(first), &mut |row| {
            *row.received.get_or_insert(0) += interval.received;
            row.latency.merge(&interval.latency);
        });
    }
    rows
}

fn check_way(address: &Address, streams: bool) -> anyhow::Result<()> {
    let (form, wants) = if streams {
        ("2.3 and later", Transport::Tcp)
    } else {
        ("1.x", Transport::Udp)
    };
    let right = address.transport == wants;
    let wrong = || {
        anyhow!(
            "the load is of {form}, which goes by {}, and --to is {address}",
            wants.symbol()
        )
    };
    right.then_some(()).ok_or_else(wrong).ends_with(End::Usage)
}

fn other(common: &Common, address: Address) -> Other {
    Other {
        address,
        pid: common.pid,
        count: common.count.clone(),
        asks: common.ask,
    }
}

/// Whether a receiver that was there before can say what arrived.
fn check_other(common: &Common, matter: &Matter, address: Address) -> anyhow::Result<()> {
    other(common, address).doubt(common.trains == Switch::On && !matter.is_stream())?;
    let probed = |name: &String| common.probe.split(',').any(|probed| probed.trim() == name);
    let names = matter.names();
    let unknown = names.iter().find(|name| !probed(name));
    if let (true, Some(name)) = (common.ask, unknown) {
        bail!(
            "who is asked must have audited every packet, and the load has some of {name}\n  name it in the server's \
             modparam(\"binrush\", \"probe\", ...) and in --probe"
        );
    }
    ensure!(
        !common.ask || !names.is_empty(),
        "captured packets carry no stamps, so nothing about them can be asked: use --count"
    );
    Ok(())
}

/// The senders' cores and the receiver's: what was said, else the last one for the receiver and the others for senders.
fn cores(common: &Common, allowed: &[usize]) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
    for core in common.sender_cores.iter().chain(&common.receiver_cores) {
        ensure!(
            allowed.contains(core),
            "core {core} is not among those that this process may use: {allowed:?}"
        );
    }
    let last = *allowed
        .last()
        .context("the kernel does not say which cores this process may use")?;
    let rx = match &common.receiver_cores[..] {
        [] => vec![last],
        cores => cores.to_vec(),
    };
    let tx = match &common.sender_cores[..] {
        [] => {
            let others: Vec<usize> = allowed
                .iter()
                .copied()
                .filter(|core| !rx.contains(core))
                .collect();
            if others.is_empty() {
                vec![allowed[0]]
            } else {
                others
            }
        }
        cores => cores.to_vec(),
    };
    Ok((tx, rx))
}

/// Runs that follow each other at one receiver are told apart by their numbers, so they begin anywhere.
fn first_run() -> u16 {
    let ns = binrush_probe::monotonic_ns();
    let mixed = (ns ^ (u64::from(std::process::id()) << 20)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u16::try_from(mixed >> 48).unwrap_or(1).max(1)
}

/// As the engine asks for when it is told nothing.
const RCVBUF: usize = 4 << 20;

/// The kernel counts a train's memory whole.
const RCVBUF_TRAINS: usize = 64 << 20;

/// About what a registration takes.
const SELF_TEST_SIZE: u16 = 300;

/// A queue that holds so large a part of its buffer is behind.
const BEHIND_PART: u64 = 5;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// One packet in so many may be refused before a run has failed.
const REFUSED_PART: u64 = 100;

/// A day; longer runs are shown without their later seconds.
const SECONDS_MAX: usize = 86_400;
