//! Who receives a load: a process of ours for the time of it, or one that was there before.
//!
//! ```text
//!   ours:   start ─▶ mark ─▶ ...load... ─▶ settle ─▶ finish: its totals, with the audit of all stamps
//!   other:           mark ─▶ ...load... ─▶ settle ─▶ finish: what the kernel and its own command tell, or an audit that
//!                                                            a `serve` with a probe is asked for
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use binrush_probe::Report as ProbeReport;
use serde_json::Value;

use crate::patience::{POLL, Patience};
use crate::procfs::{self, Thread, streams};
use crate::receiver::{Receiver, Setup};
use crate::result::{ReceiverResult, StreamResult};

/// What a receiver is sent by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// `--to`: `udp:IP:PORT` or `tcp:IP:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) transport: Transport,
    pub(crate) addr: SocketAddr,
}

/// A receiver that was there before.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    pub(crate) address: Address,
    /// The process whose clock is read, when it runs here.
    pub(crate) pid: Option<u32>,
    /// A command whose last number is how many packets it has received so far.
    pub(crate) count: Option<String>,
    /// Whether it is a `serve` with a probe that can be asked.
    pub(crate) asks: bool,
}

/// Who receives.
#[derive(Debug)]
pub(crate) enum Target {
    Ours(Box<Ours>),
    Other(Other, Option<Box<Mark>>),
}

#[derive(Debug)]
pub(crate) struct Ours {
    receiver: Receiver,
    name: String,
    setup: Setup,
    mark: Option<Mark>,
}

/// How things stood before the load.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    cpu_ns: Vec<u64>,
    drops: BTreeMap<u64, u32>,
    /// What the kernel says that processes of this network namespace took out of UDP sockets.
    taken: Option<u64>,
    count: Option<u64>,
    /// What a probe that can be asked had seen.
    probe: Option<ProbeReport>,
}

impl Target {
    /// Starts a receiver of ours. Call it on the first thread, to which the process is tied.
    pub(crate) fn start(
        setup: &Setup,
        engine: Option<&Path>,
        version: &str,
        patience: &Patience,
    ) -> anyhow::Result<Self> {
        let receiver = Receiver::start(setup, engine, patience)?;
        let (kind, shards) = (setup.kind, setup.cores.len());
        let name = if kind.is_engine() {
            let plural = if shards == 1 { "" } else { "s" };
            format!("{version} ({}, {shards} shard{plural})", kind.backend())
        } else {
            format!("{} of this program", kind.symbol())
        };
        Ok(Self::Ours(Box::new(Ours {
            receiver,
            name,
            setup: setup.clone(),
            mark: None,
        })))
    }

    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Ours(ours) => Address {
                transport: ours.setup.kind.transport(),
                addr: ours.receiver.addr(),
            },
            Self::Other(other, _) => other.address,
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Ours(ours) => ours.name.clone(),
            Self::Other(other, _) => match other.pid {
                Some(pid) => format!("process {pid} at {}", other.address),
                None => other.address.to_string(),
            },
        }
    }

    /// Whether stamps are audited, so that there will be latencies.
    pub(crate) fn is_probed(&self) -> bool {
        match self {
            Self::Ours(ours) => !ours.setup.probe.is_empty() || ours.setup.kind.is_sink(),
            Self::Other(other, _) => other.asks,
        }
    }

    /// How many datagrams one drop of the kernel may stand for, when trains of at most `sent_max` are sent; 1 for none.
    pub(crate) fn train_max(&self, sent_max: u64) -> u64 {
        let takes_trains = match self {
            Self::Ours(ours) => ours.setup.gro,
            // Nobody tells; a drop of single datagrams is explained all the same.
            Self::Other(..) => true,
        };
        if takes_trains { sent_max.max(1) } else { 1 }
    }

    /// Remembers how things stand before `run`.
    pub(crate) fn mark(&mut self, run: u16, patience: &Patience) -> anyhow::Result<()> {
        match self {
            Self::Ours(ours) => {
                ours.mark = Some(Mark {
                    cpu_ns: ours.receiver.cpu_ns()?,
                    drops: drops_of(ours.receiver.queues()?),
                    taken: None,
                    count: None,
                    probe: None,
                });
            }
            Self::Other(other, mark) => {
                let mut now = other.mark_now()?;
                if other.asks {
                    now.probe = Some(other.ask(run, patience)?);
                }
                *mark = Some(Box::new(now));
            }
        }
        Ok(())
    }

    /// The threads whose processor time is counted; none where the process is not known.
    pub(crate) fn threads(&self) -> anyhow::Result<Vec<Thread>> {
        match self {
            Self::Ours(ours) => Ok(ours.receiver.threads().to_vec()),
            Self::Other(other, _) => other.pid.map_or_else(|| Ok(Vec::new()), procfs::threads),
        }
    }

    /// Bytes that wait in its fullest receive queue, or on their way in streams to it; `None` when that cannot be seen
    /// from here.
    pub(crate) fn queued(&self) -> Option<u64> {
        if self.address().transport == Transport::Tcp {
            let is_here = self.address().addr.ip().is_loopback();
            let port = self.address().addr.port();
            return is_here.then(|| streams::bytes_to(port).ok()).flatten();
        }
        let queues = match self {
            Self::Ours(ours) => ours.receiver.queues().ok()?,
            Self::Other(other, _) => other.queues().ok()?,
        };
        queues.iter().map(|queue| queue.bytes).max()
    }

    /// Interval lines that it has told since the last call.
    pub(crate) fn told(&mut self) -> Vec<Value> {
        match self {
            Self::Ours(ours) => ours.receiver.told(),
            Self::Other(..) => Vec::new(),
        }
    }

    /// An error when it has ended.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Ours(ours) => ours.receiver.check_alive(),
            Self::Other(other, _) => other.check_alive(),
        }
    }

    /// Returns when it has taken what was queued for it.
    pub(crate) fn settle(&self, patience: &Patience) -> anyhow::Result<()> {
        match self {
            Self::Ours(ours) => ours.receiver.wait_idle(),
            Self::Other(..) => {
                // One that cannot be looked into, on another host say, is given that time and no more.
                thread::sleep(OTHER_SETTLES);
                let what = "the receiver to take what is queued for it";
                patience.until(what, SETTLE_MAX, || {
                    Ok(self.queued().is_none_or(|bytes| bytes == 0))
                })
            }
        }
    }

    /// What it received, ending it if it is ours. The result holds what is known also when there is an error.
    ///
    /// `active` is how long packets were sent.
    pub(crate) fn finish(
        self,
        run: u16,
        active: Duration,
        patience: &Patience,
    ) -> (ReceiverResult, anyhow::Result<()>) {
        let mut result = ReceiverResult {
            name: self.name(),
            ..ReceiverResult::default()
        };
        let done = match self {
            Self::Ours(ours) => ours.finish(active, &mut result),
            Self::Other(other, Some(mark)) => {
                other.finish(&mark, (run, active), &mut result, patience)
            }
            Self::Other(_, None) => Err(anyhow!("nothing was sent to it")),
        };
        (result, done)
    }
}

impl Ours {
    fn finish(self, active: Duration, result: &mut ReceiverResult) -> anyhow::Result<()> {
        result.rcvbuf = Some(self.setup.rcvbuf as u64);
        if let (Some(mark), Ok(cpu_ns)) = (&self.mark, self.receiver.cpu_ns()) {
            mark.spent(&cpu_ns, active, result);
        }
        let is_engine = self.setup.kind.is_engine();
        if !is_engine
            && let (Some(mark), Ok(queues)) = (&self.mark, self.receiver.queues())
            && !queues.is_empty()
        {
            let drops = mark.dropped(&drops_of(queues));
            result.kernel_drops.insert("buffer".to_owned(), drops);
        }
        let total = self.receiver.totals()?;
        result.received = total["received"].as_u64();
        result.outcomes = counts(&total["outcomes"]);
        if is_engine {
            result.kernel_drops = counts(&total["kernel_drops"]);
            result.kernel_drops.remove("maybe_trains");
        }
        if is_engine && self.setup.kind.is_stream() {
            result.streams = Some(streams_of(&total["streams"])?);
        }
        if total["probe"].is_object() {
            let probe = serde_json::from_value(total["probe"].clone());
            result.probe = Some(probe.context("its audit makes no sense")?);
        }
        Ok(())
    }
}

impl Other {
    fn mark_now(&self) -> anyhow::Result<Mark> {
        Ok(Mark {
            cpu_ns: self.cpu_ns()?,
            drops: drops_of(self.queues()?),
            taken: self.taken(),
            count: self.counted()?,
            probe: None,
        })
    }

    fn finish(
        &self,
        mark: &Mark,
        (run, active): (u16, Duration),
        result: &mut ReceiverResult,
        patience: &Patience,
    ) -> anyhow::Result<()> {
        let now = self.mark_now();
        if self.asks {
            let mut probe = self.ask(run, patience)?;
            // It follows a bounded number of runs. One that it does not forget now, it will when others come.
            let _ = binrush_probe::forget(self.address.addr, run, ASK_MAX);
            let before = mark.probe.as_ref();
            // These it counts from its start on, over all runs.
            for (count, of) in [
                (
                    &mut probe.damaged,
                    (|report| report.damaged) as fn(&ProbeReport) -> u64,
                ),
                (&mut probe.foreign, |report| report.foreign),
                (&mut probe.beyond, |report| report.beyond),
            ] {
                *count = count.saturating_sub(before.map_or(0, of));
            }
            result.probe = Some(probe);
        }
        let now = now?;
        mark.spent(&now.cpu_ns, active, result);
        if !now.drops.is_empty() {
            // Filters of its own among them: only its full buffers would be "buffer".
            let drops = mark.dropped(&now.drops);
            result.kernel_drops.insert("socket".to_owned(), drops);
        }
        let difference = |of: fn(&Mark) -> Option<u64>| of(&now)?.checked_sub(of(mark)?);
        result.received = difference(|mark| mark.count).or_else(|| difference(|mark| mark.taken));
        Ok(())
    }

    fn ask(&self, run: u16, patience: &Patience) -> anyhow::Result<ProbeReport> {
        patience.check()?;
        binrush_probe::ask(self.address.addr, run, ASK_MAX).with_context(|| {
            format!(
                "{} does not tell what it saw\n  it must be a `binrush serve` with modparam(\"binrush\", \"probe\", \
                 \"dialog,ul\") that allows this host",
                self.address
            )
        })
    }

    /// Its sockets, as far as they are on this host.
    fn queues(&self) -> anyhow::Result<Vec<procfs::Queue>> {
        if self.address.transport == Transport::Tcp || self.pid.is_none() && !self.is_here() {
            return Ok(Vec::new());
        }
        let table = if self.address.addr.is_ipv4() {
            "/proc/net/udp"
        } else {
            "/proc/net/udp6"
        };
        procfs::queues_of(table, self.address.addr.port())
    }

    fn is_here(&self) -> bool {
        self.address.addr.ip().is_loopback()
    }

    fn cpu_ns(&self) -> anyhow::Result<Vec<u64>> {
        let Some(pid) = self.pid else {
            return Ok(Vec::new());
        };
        let threads = procfs::threads(pid)
            .with_context(|| format!("process {pid}, which --pid names, cannot be looked at"))?;
        threads.into_iter().map(Thread::cpu_ns).collect()
    }

    fn check_alive(&self) -> anyhow::Result<()> {
        if let Some(pid) = self.pid
            && procfs::threads(pid).is_err()
        {
            bail!("process {pid}, which --pid names, has ended");
        }
        if !self.is_here() {
            return Ok(());
        }
        // A socket may be missing from the kernel's list once in a while, and not several times.
        for _ in 0..LOOKS_MAX {
            let listens = match self.address.transport {
                Transport::Udp => !self.queues()?.is_empty(),
                Transport::Tcp => streams::is_listening(self.address.addr.port())?,
            };
            if listens {
                return Ok(());
            }
        }
        bail!("nothing listens on {} any more", self.address)
    }

    /// Datagrams that processes of this network namespace took, whoever they are.
    fn taken(&self) -> Option<u64> {
        if !self.is_here() || self.address.transport == Transport::Tcp {
            return None;
        }
        if self.address.addr.is_ipv4() {
            procfs::udp_in_datagrams(&procfs::read("/proc/net/snmp").ok()?)
        } else {
            procfs::udp6_in_datagrams(&procfs::read("/proc/net/snmp6").ok()?)
        }
    }

    /// What has to be said of it before anything is measured, `trains` being whether any are sent.
    ///
    /// # Errors
    /// Nobody could say what arrived.
    pub(crate) fn doubt(&self, trains: bool) -> anyhow::Result<Option<&'static str>> {
        if self.asks || self.count.is_some() {
            return Ok(None);
        }
        let can_count = self.taken().is_some();
        ensure!(
            can_count && !trains,
            "nobody could say what arrived at {}\n  a `binrush serve` with a probe is asked with --ask; of any other \
             receiver a command can print the count (--count 'COMMAND'){}",
            self.address,
            if can_count {
                "; datagrams without trains (--trains off) the kernel counts"
            } else {
                ""
            }
        );
        Ok(Some(
            "what arrived is the kernel's count of datagrams that all processes of this network namespace took: nobody \
             else may receive any meanwhile",
        ))
    }

    /// What its own command says.
    fn counted(&self) -> anyhow::Result<Option<u64>> {
        let Some(command) = &self.count else {
            return Ok(None);
        };
        let output = answer_of(command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = last_number(&text).with_context(|| {
            format!(
                "\"{command}\", which --count names, printed no number: {}",
                text.trim_end()
            )
        })?;
        Ok(Some(number))
    }
}

impl Mark {
    /// Processor time since then; threads that came or went meanwhile are left out.
    fn spent(&self, now: &[u64], active: Duration, result: &mut ReceiverResult) {
        if now.is_empty() || now.len() != self.cpu_ns.len() {
            return;
        }
        let spent: Vec<u64> = now
            .iter()
            .zip(&self.cpu_ns)
            .map(|(now, then)| now.saturating_sub(*then))
            .collect();
        result.cpu_ns = Some(spent.iter().sum());
        let busiest = spent.iter().max().copied().unwrap_or(0);
        let active_ns = active.as_nanos().max(1) as f64;
        result.busy = Some((busiest as f64 / active_ns).min(1.0));
    }

    /// Drops since then at sockets that were there, and all of those that are new.
    fn dropped(&self, now: &BTreeMap<u64, u32>) -> u64 {
        now.iter()
            .map(|(inode, drops)| {
                let then = self.drops.get(inode).copied().unwrap_or(0);
                u64::from(drops.wrapping_sub(then))
            })
            .sum()
    }
}

fn drops_of(queues: Vec<procfs::Queue>) -> BTreeMap<u64, u32> {
    let queues = queues.into_iter();
    queues.map(|queue| (queue.inode, queue.drops)).collect()
}

/// What a command of the user's prints, within [`COUNT_MAX`].
fn answer_of(command: &str) -> anyhow::Result<Output> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run \"{command}\""))?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > COUNT_MAX {
            let _ = child.kill();
            let _ = child.wait();
            bail!("\"{command}\", which --count names, does not end within {COUNT_MAX:?}");
        }
        thread::sleep(POLL);
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "\"{command}\", which --count names, failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(output)
}

/// The numbers of a JSON object, by name.
fn counts(value: &Value) -> BTreeMap<String, u64> {
    let Some(object) = value.as_object() else {
        return BTreeMap::new();
    };
    let numbers = object.iter();
    numbers
        .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
        .collect()
}

/// What an engine says of its connections.
fn streams_of(told: &Value) -> anyhow::Result<StreamResult> {
    let total: StreamResult = serde_json::from_value(told["total"].clone())
        .context("it does not tell what it counted of connections")?;
    Ok(StreamResult {
        refused: counts(&told["accept"]["refused"]),
        ..total
    })
}

/// The last whole number in a text, `rcvd: 1200 packets` say.
fn last_number(text: &str) -> Option<u64> {
    text.split(|c: char| !c.is_ascii_digit())
        .rfind(|word| !word.is_empty())?
        .parse()
        .ok()
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected udp:IP:PORT or tcp:IP:PORT, not \"{text}\"");
        let (transport, addr) = text.split_once(':').ok_or_else(expected)?;
        let transport = match transport {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            _ => return Err(expected()),
        };
        let addr: SocketAddr = addr.parse().map_err(|_| expected())?;
        if addr.port() == 0 {
            return Err(format!("port 0 is nobody's: {text}"));
        }
        Ok(Self { transport, addr })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.transport.symbol(), self.addr)
    }
}

impl Transport {
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// How long a receiver that cannot be looked into is given.
const OTHER_SETTLES: Duration = Duration::from_millis(200);

/// A question to a node's management interface takes far less.
const COUNT_MAX: Duration = Duration::from_secs(10);

/// How often a socket is looked for before it is gone.
const LOOKS_MAX: usize = 5;

const SETTLE_MAX: Duration = Duration::from_secs(60);

/// A `serve` answers in a batch's time; asking several shards takes some tries.
const ASK_MAX: Duration = Duration::from_secs(5);

/// [`POLL`] is also how often a load looks at its receiver.
pub(crate) const LOOK_EVERY: Duration = POLL.saturating_mul(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["udp:127.0.0.1:5566", "tcp:[::1]:5555"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in [
            "127.0.0.1:5566",
            "udp:localhost:1",
            "tls:1.2.3.4:5",
            "udp:1.2.3.4:0",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn the_count_of_a_command_is_its_last_number() {
        assert_eq!(last_number("rcvd: 1200 packets\n"), Some(1200));
        assert_eq!(last_number("2026-11-21 7"), Some(7));
        assert_eq!(last_number("none"), None);
        assert_eq!(last_number("99999999999999999999"), None);
    }

    #[test]
    fn what_an_engine_counted_of_connections_is_read_by_its_names() {
        let told = serde_json::json!({
            "accept": { "arrived": 3, "refused": { "acl": 1 } },
            "total": { "rx_bytes": 120, "frames": 2, "frame_bytes": 100, "closed": { "peer": 2 }, "held_bytes": 20 },
        });
        let streams = streams_of(&told).unwrap();
        assert_eq!(
            (streams.rx_bytes, streams.frames, streams.frame_bytes),
            (120, 2, 100)
        );
        assert_eq!((streams.closed["peer"], streams.refused["acl"]), (2, 1));
        assert!(streams_of(&Value::Null).is_err());
    }

    #[test]
    fn drops_count_from_the_mark_on_and_come_round() {
        let mark = Mark {
            cpu_ns: vec![],
            drops: BTreeMap::from([(1, u32::MAX), (2, 5)]),
            taken: None,
            count: None,
            probe: None,
        };
        assert_eq!(mark.dropped(&BTreeMap::from([(1, 1), (2, 5), (3, 4)])), 6);
    }
}
