//! One load at one rate: receiver, senders, and both ends laid together.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use binrush_scenario::Source;
use binrush_tune::Demand;

use super::matter::Matter;
use super::options::{Common, Switch};
use crate::engine::{Engine, granted};
use crate::exit::{End, EndsWith as _};
use crate::ledger::Terms;
use crate::patience::Patience;
use crate::procfs::Thread;
use crate::receiver::{Kind, LOOPBACK, Setup};
use crate::result::{Ledger, SenderResult, Trial};
use crate::sender::{self, Job, Live, Pacing, Way};
use crate::target::{LOOK_EVERY, Target};
use cores::cores;
use laid::refused;
use progress::{Heard, Watch, Watched};

/// Who receives.
mod choice;
/// Where senders and receivers run.
mod cores;
/// Both ends of a trial as one.
mod laid;
/// How a trial stands.
mod progress;

pub(crate) use progress::Progress;

/// What all trials of a run have in common.
#[derive(Debug)]
pub(crate) struct Bench {
    common: Common,
    matter: Matter,
    engine: Option<Engine>,
    /// `None`: one that is there already.
    kind: Option<Kind>,
    /// Names whose stamps are audited.
    probed: Vec<String>,
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
    /// Begin with a second of the clock.
    on_second: bool,
}

/// A trial, and what went wrong in it if anything did.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) trial: Trial,
    pub(crate) trouble: Option<anyhow::Error>,
}

impl Bench {
    pub(crate) fn new(
        common: &Common,
        matter: Matter,
        allowed: &[usize],
        patience: &Patience,
    ) -> anyhow::Result<Self> {
        let kind = choice::kind(common, &matter)?;
        let streams = matter.is_stream();
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
            probed: choice::probed(common, streams),
            matter,
            engine,
            kind,
            tx,
            rx,
            patience: patience.clone(),
            run: first_run(),
            steady: false,
            on_second: false,
        })
    }

    /// What a run of it at `rate_pps` asks of the host.
    pub(crate) fn demand(&self, rate_pps: f64) -> Demand {
        Demand {
            rcvbuf: self.asked_rcvbuf as u64,
            sockets: self.kind.map(|_| self.rx.len()),
            rate_pps,
            io_uring: self.kind.is_some_and(|kind| kind.backend() == "io_uring"),
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

    /// From now on, trials begin with a second of the clock.
    pub(crate) fn begin_on_seconds(&mut self) {
        self.on_second = true;
    }

    /// The first sender's.
    pub(crate) fn sender_core(&self) -> usize {
        self.tx[0]
    }

    /// How long packets are that the generator is tried with.
    pub(crate) fn self_test_size(&self) -> u16 {
        self.common.size.unwrap_or(SELF_TEST_SIZE)
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
            on_second: self.on_second,
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
            return Ok(Target::Other(choice::other(&self.common, address), None));
        };
        let trains = self.common.trains == Switch::On && self.common.gro == Switch::On;
        let probe = if kind.is_engine() {
            self.probed.join(",")
        } else {
            String::new()
        };
        let setup = Setup {
            kind,
            rcvbuf: self.rcvbuf,
            cores: self.rx.clone(),
            gro: trains && self.rx.len() == 1 && kind.can_gro(),
            verify: !self.common.no_verify,
            probe,
            tells: true,
            certificates: None,
            listen: LOOPBACK,
            more: String::new(),
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
        self.probed.iter().any(|probed| probed == name)
    }
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
