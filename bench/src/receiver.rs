//! A receiver under measurement, whichever it is: parked, released, asked for its clock, and at the end for what it
//! received.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::patience::Patience;
use crate::process::Process;
use crate::procfs::{self, Queue, Thread, streams};
use crate::target::Transport;
use config::{ConfigFile, engine_config};

/// How an engine is told what to be.
mod config;
/// Those that there are.
mod kind;
/// Programs of others.
pub(crate) mod stranger;

pub(crate) use kind::Kind;

/// How to start one.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    /// Receive buffer to ask for, in bytes.
    pub(crate) rcvbuf: usize,
    /// The cores to receive on, one for each shard.
    pub(crate) cores: Vec<usize>,
    /// Whether trains may come whole (`UDP_GRO`).
    pub(crate) gro: bool,
    /// Whether an engine reads every packet to its last byte. Otherwise its callbacks are empty: what is measured is the
    /// way to them.
    pub(crate) verify: bool,
    /// Names whose stamps an engine audits, with commas between them; empty: none.
    pub(crate) probe: String,
    /// Whether an engine tells every second what came.
    pub(crate) tells: bool,
    /// The folder of [`Certificates`](crate::certificates::Certificates), of those whose streams are inside TLS.
    pub(crate) certificates: Option<PathBuf>,
    /// Where it listens, on loopback; port 0 is a free one.
    pub(crate) listen: SocketAddr,
    /// Further lines of an engine's configuration.
    pub(crate) more: String,
}

/// A running one.
#[derive(Debug)]
pub(crate) struct Receiver {
    body: Body,
    addr: SocketAddr,
    /// Where it tells its counts, if it does.
    http: Option<SocketAddr>,
    transport: Transport,
    /// Where the kernel lists its sockets, and how many it has bound; none when it takes streams.
    table: &'static str,
    sockets: usize,
    /// Those that receive; of a stranger all that there are, as nobody tells which of them do.
    threads: Vec<Thread>,
    /// Whether its threads sleep when there is nothing to do, as those of ours do.
    sleeps: bool,
    patience: Patience,
}

/// What there is of a process.
#[derive(Debug)]
enum Body {
    /// Speaks as `binrush serve --json` does.
    Ours(Process),
    /// Says nothing that we could understand.
    Stranger(Process),
    /// Was there before, and stays.
    There { pid: u32, may_stop: bool },
}

impl Receiver {
    /// Starts it and waits until it is ready. `engine` is the `binrush` to run, where one is needed.
    pub(crate) fn start(
        setup: &Setup,
        engine: Option<&Path>,
        patience: &Patience,
    ) -> anyhow::Result<Self> {
        let name = setup.kind.symbol();
        // Read by the time the receiver is ready, so that nothing is left behind whatever comes later.
        let mut config = None;
        let process = if setup.kind.is_engine() {
            let engine = engine.context("no binrush was named")?;
            let config = config.insert(ConfigFile::write(&engine_config(setup))?);
            Process::start(&name, engine, &config.args(setup.tells))?
        } else {
            let own = env::current_exe().context("cannot find binrush-bench itself")?;
            Process::start(&name, &own, &receive_args(setup))?
        };
        let mut receiver = Self::of(Body::Ours(process), setup.kind.transport(), patience);
        receiver.get_ready(setup)?;
        drop(config);
        Ok(receiver)
    }

    fn of(body: Body, transport: Transport, patience: &Patience) -> Self {
        Self {
            body,
            addr: LOOPBACK,
            http: None,
            transport,
            table: procfs::UDP_TABLES[0],
            sockets: 0,
            threads: Vec::new(),
            sleeps: true,
            patience: patience.clone(),
        }
    }

    fn get_ready(&mut self, setup: &Setup) -> anyhow::Result<()> {
        let pid = self.id();
        let Body::Ours(process) = &mut self.body else {
            bail!("only ours say when they are ready");
        };
        let ready = process.event("ready")?;
        let scheme = if setup.kind.is_tls() { "bins" } else { "bin" };
        self.addr = addr_of(&ready, scheme)
            .with_context(|| format!("its ready line names no address of ours: {ready}"))?;
        self.http = ready["http"].as_str().and_then(|http| http.parse().ok());
        if setup.kind.is_engine() {
            check_took(&ready, setup)?;
            // A thread names itself when it begins to run, which may be a little later.
            let shards = setup.cores.len();
            let what = format_args!("{shards} threads named shard0, shard1, ...");
            self.patience.until(what, ANSWER_MAX, || {
                self.threads = procfs::threads_named(pid, "shard")?;
                Ok(self.threads.len() == shards)
            })?;
        } else {
            self.threads = vec![Thread::main_of(pid)];
        }
        if !setup.kind.is_stream() {
            self.sockets = self.count_sockets()?;
        }
        self.wait_idle()
    }

    /// The process; of several the first.
    pub(crate) fn id(&self) -> u32 {
        match &self.body {
            Body::Ours(process) | Body::Stranger(process) => process.id(),
            Body::There { pid, .. } => *pid,
        }
    }

    /// The threads that receive.
    pub(crate) fn threads(&self) -> &[Thread] {
        &self.threads
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where its `/metrics` are.
    pub(crate) const fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Stops all of its threads where they are. Do it while it sleeps, so that none is in the middle of a batch.
    pub(crate) fn park(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        self.patience.until("all threads to stop", ANSWER_MAX, || {
            let threads = match &self.body {
                Body::Ours(process) => procfs::threads(process.id())?,
                Body::Stranger(_) | Body::There { .. } => self.threads.clone(),
            };
            all_are(&threads, 'T')
        })
    }

    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match &self.body {
            Body::Ours(process) | Body::Stranger(process) => process.signal(signal),
            Body::There { pid, .. } => {
                let whom = i32::try_from(*pid).map(Pid::from_raw)?;
                kill(whom, signal).with_context(|| format!("cannot send {signal} to process {pid}"))
            }
        }
    }

    /// Why it cannot be measured by filling its queue while it is parked, if that is so.
    pub(crate) const fn unparkable(&self) -> Option<&'static str> {
        match self.body {
            Body::There {
                may_stop: false, ..
            } => Some("it would be stopped by SIGSTOP, which --may-stop allows"),
            _ if !self.sleeps => {
                Some("its threads never sleep, so that nobody could tell work from waiting")
            }
            _ => None,
        }
    }

    /// Looks which threads a stranger has by now, that may have begun some when the first packets came.
    pub(crate) fn look_again(&mut self) -> anyhow::Result<()> {
        if !self.is_ours() {
            self.threads = stranger::threads_of(self.id())?;
        }
        Ok(())
    }

    /// Returns when its queues are empty and the threads that receive sleep.
    pub(crate) fn wait_idle(&self) -> anyhow::Result<()> {
        self.patience.until("the receiver to sleep", DRAIN_MAX, || {
            // In this order: what was queued is taken, and who took it is done with it.
            Ok(self.is_drained()? && (!self.sleeps || all_are(&self.threads, 'S')?))
        })
    }

    /// Returns when its queues are empty.
    pub(crate) fn wait_drained(&self) -> anyhow::Result<()> {
        self.patience
            .until("the queues to be empty", DRAIN_MAX, || self.is_drained())
    }

    /// Returns when the threads that receive sleep, and still do a moment later: nothing is left for them then. The
    /// answer is when they were first seen to. Sees that much sooner than [`wait_idle`](Self::wait_idle), which reads the kernel's list of streams for it; that may
    /// take ten milliseconds.
    pub(crate) fn wait_asleep(&self) -> anyhow::Result<Instant> {
        self.wait_asleep_with(&[])
    }

    /// As [`wait_asleep`](Self::wait_asleep), of `others` beside them.
    pub(crate) fn wait_asleep_with(&self, others: &[Thread]) -> anyhow::Result<Instant> {
        let start = Instant::now();
        let mut asleep = None;
        loop {
            self.patience.check()?;
            ensure!(
                start.elapsed() < DRAIN_MAX,
                "waited {DRAIN_MAX:?} for the receiver to sleep in vain"
            );
            let now = Instant::now();
            let all_sleep = all_are(&self.threads, 'S')? && all_are(others, 'S')?;
            match (all_sleep, asleep) {
                (true, Some(since)) => return Ok(since),
                (true, None) => asleep = Some(now),
                (false, _) => asleep = None,
            }
            thread::sleep(ASLEEP_LOOK_EVERY);
        }
    }

    fn is_drained(&self) -> anyhow::Result<bool> {
        match self.transport {
            Transport::Udp => Ok(self.queues()?.iter().all(|queue| queue.bytes == 0)),
            Transport::Tcp => Ok(streams::bytes_to(self.addr.port())? == 0),
        }
    }

    /// Nanoseconds that each of its receiving threads spent on a processor; exact while they sleep or are parked.
    pub(crate) fn cpu_ns(&self) -> anyhow::Result<Vec<u64>> {
        self.threads.iter().map(|thread| thread.cpu_ns()).collect()
    }

    /// The queues of its sockets, all of them; none when it takes streams.
    pub(crate) fn queues(&self) -> anyhow::Result<Vec<Queue>> {
        if self.sockets == 0 {
            return Ok(Vec::new());
        }
        for _ in 0..LOOKS_MAX {
            let queues = procfs::queues_of(self.table, self.addr.port())?;
            if queues.len() == self.sockets {
                return Ok(queues);
            }
        }
        bail!("the receiver has closed its socket, or somebody else has bound its port")
    }

    /// Datagrams that were dropped at its sockets so far, modulo 2^32.
    pub(crate) fn drops(&self) -> anyhow::Result<u32> {
        let queues = self.queues()?;
        let drops = queues.iter().map(|queue| queue.drops);
        Ok(drops.fold(0, u32::wrapping_add))
    }

    /// Whether it can tell what it received.
    pub(crate) const fn is_ours(&self) -> bool {
        matches!(self.body, Body::Ours(_))
    }

    /// How many sockets are bound to its port, the highest count of some.
    fn count_sockets(&self) -> anyhow::Result<usize> {
        let mut sockets = 0;
        for _ in 0..LOOKS_MIN {
            let queues = procfs::queues_of(self.table, self.addr.port())?;
            sockets = queues.len().max(sockets);
        }
        Ok(sockets)
    }

    /// What it has told by itself since the last call, the newest last.
    pub(crate) fn told(&mut self) -> Vec<Value> {
        match &mut self.body {
            Body::Ours(process) => process.told(),
            Body::Stranger(_) | Body::There { .. } => Vec::new(),
        }
    }

    /// Whether it is still there; if not, its last words.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match &mut self.body {
            Body::Ours(process) | Body::Stranger(process) => process.check_alive(),
            Body::There { pid, .. } => procfs::threads(*pid)
                .map(|_| ())
                .with_context(|| format!("process {pid}, which --pid names, has ended")),
        }
    }

    /// Ends it, and returns its totals as it tells them; a stranger tells none.
    pub(crate) fn totals(self) -> anyhow::Result<Value> {
        match self.body {
            Body::Ours(process) => process.finish(),
            Body::Stranger(process) => process.end(END_MAX).map(|()| Value::Null),
            Body::There { .. } => Ok(Value::Null),
        }
    }

    /// Ends it, and says how many packets of `packet_len` bytes it took for valid; `None` of a stranger.
    pub(crate) fn count(mut self, packet_len: usize) -> anyhow::Result<Option<u64>> {
        if !self.is_ours() {
            self.check_alive()?;
            self.totals()?;
            return Ok(None);
        }
        let transport = self.transport;
        let total = self.totals()?;
        // Raw does not know where the frames of a stream end.
        if let Some(bytes) = total["bytes"].as_u64()
            && total["received"].is_null()
        {
            return Ok(Some(bytes / packet_len as u64));
        }
        let count = count_in(&total)?;
        // Two counters that know nothing of each other, in one that cuts streams.
        let bytes = &total["streams"]["total"]["rx_bytes"];
        if let Some(bytes) = bytes.as_u64().filter(|_| transport == Transport::Tcp) {
            ensure!(
                bytes == count * packet_len as u64,
                "it received {bytes} bytes, which are not {count} packets of {packet_len}: {total}"
            );
        }
        Ok(Some(count))
    }

    /// Ends it, and says how many packets it took for valid.
    pub(crate) fn finish(self) -> anyhow::Result<u64> {
        count_in(&self.totals()?)
    }
}

/// How many packets were received, all of which have to be handled.
pub(crate) fn count_in(total: &Value) -> anyhow::Result<u64> {
    let received = total["received"].as_u64();
    let received = received.with_context(|| format!("no count in {total}"))?;
    // A receiver that refused them was not measured doing its work. Raw has no opinion.
    if let Some(handled) = total.get("outcomes").map(|outcomes| &outcomes["handled"]) {
        ensure!(
            handled.as_u64().unwrap_or(0) == received,
            "it should have dispatched all packets, but: {total}"
        );
    }
    Ok(received)
}

/// Whether each of `threads` is in a state, or has ended.
fn all_are(threads: &[Thread], state: char) -> anyhow::Result<bool> {
    for thread in threads {
        let now = thread.state()?;
        if now != state && now != 'Z' {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first address of `scheme` in a `ready` line, `{"listen":["bin:127.0.0.1:5566"]}`; ours are on loopback.
fn addr_of(ready: &Value, scheme: &str) -> Option<SocketAddr> {
    let listen = ready["listen"].as_array()?.iter();
    let mut of_scheme = listen.filter_map(|listen| {
        let (given, addr) = listen.as_str()?.split_once(':')?;
        (given == scheme).then_some(addr)
    });
    let addr: SocketAddr = of_scheme.next()?.parse().ok()?;
    (addr.is_ipv4() && addr.ip().is_loopback()).then_some(addr)
}

/// An engine that took something else than it was told to is not the one that was to be measured.
fn check_took(ready: &Value, setup: &Setup) -> anyhow::Result<()> {
    let (backend, gro) = (setup.kind.backend(), setup.gro);
    let [took, why] = if setup.kind.is_stream() {
        ["stream_backend", "stream_backend_reason"]
    } else {
        ["backend", "backend_reason"]
    };
    if ready[took] != backend {
        bail!(TookAnother {
            asked: backend,
            took: ready[took].as_str().unwrap_or("nothing").to_owned(),
            why: ready[why].as_str().unwrap_or("no reason given").to_owned(),
        });
    }
    ensure!(
        ready["gro"] == gro,
        "it took gro {} where {gro} was asked for: {ready}",
        ready["gro"]
    );
    Ok(())
}

/// An engine has taken another backend than it was told to, as it does where the kernel forbids that one.
#[derive(Debug)]
pub(crate) struct TookAnother {
    asked: &'static str,
    took: String,
    why: String,
}

impl fmt::Display for TookAnother {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, took, why } = self;
        write!(f, "it took {took} where {asked} was asked for: {why}")
    }
}

impl Error for TookAnother {}

/// For those that are part of this program.
fn receive_args(setup: &Setup) -> Vec<OsString> {
    let (what, add_ns) = match setup.kind {
        Kind::Classic | Kind::ClassicTcp => ("classic", 0),
        Kind::Delayed => ("raw", DELAY_NS),
        Kind::Sink | Kind::SinkTcp => ("probe", 0),
        _ => ("raw", 0),
    };
    let mut args = vec!["receive".to_owned(), what.to_owned()];
    args.push(format!("--listen={}", setup.listen));
    args.push(format!("--rcvbuf={}", setup.rcvbuf));
    args.push(format!("--add-ns={add_ns}"));
    if setup.kind.is_stream() {
        args.push("--tcp".to_owned());
    }
    if setup.gro {
        args.push("--gro".to_owned());
    }
    args.extend(setup.cores.first().map(|core| format!("--core={core}")));
    let mut args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
    if let Some(folder) = setup.certificates.as_ref().filter(|_| setup.kind.is_tls()) {
        args.extend(["--tls".into(), folder.into()]);
    }
    args
}

/// A free port where nobody else can send to.
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What [`Kind::Delayed`] adds per packet.
const DELAY_NS: u32 = 100;

/// How often the kernel's list is read to know how many sockets there are, and until all of them are in it.
const LOOKS_MIN: usize = 5;
const LOOKS_MAX: usize = 100;

/// A signal is obeyed in microseconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long a stranger may take to end when it is asked to.
const END_MAX: Duration = Duration::from_secs(3);

/// How often it is looked whether a receiver sleeps.
const ASLEEP_LOOK_EVERY: Duration = Duration::from_micros(50);

/// The longest drain: a million packets of the slowest receiver take some five seconds.
const DRAIN_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_an_ipv4_loopback_address_is_taken_for_ours() {
        let addr = |listen: &str| addr_of(&json!({ "listen": [listen] }), "bin");
        let ours = SocketAddr::from(([127, 0, 0, 1], 5566));
        assert_eq!(addr("bin:127.0.0.1:5566"), Some(ours));
        for other in ["bin:[::1]:5566", "bin:10.0.0.1:5566", "127.0.0.1:5566", ""] {
            assert_eq!(addr(other), None, "{other}");
        }
        assert_eq!(addr_of(&json!({ "listen": [] }), "bin"), None);
        let both = json!({ "listen": ["bin:127.0.0.1:5566", "bins:127.0.0.1:5567"] });
        let ports = ["bin", "bins"].map(|scheme| addr_of(&both, scheme).unwrap().port());
        assert_eq!(ports, [5566, 5567]);
    }

    #[test]
    fn an_engine_that_took_something_else_is_not_measured() {
        let ready = json!({
            "backend": "recvmmsg", "backend_reason": "io_uring is forbidden here", "gro": false,
            "stream_backend": "recv", "stream_backend_reason": "no multishot receives",
        });
        let took = |kind, gro| {
            check_took(
                &ready,
                &Setup {
                    kind,
                    rcvbuf: 4096,
                    cores: vec![0],
                    gro,
                    verify: false,
                    probe: String::new(),
                    tells: false,
                    certificates: None,
                    listen: LOOPBACK,
                    more: String::new(),
                },
            )
        };
        assert!(took(Kind::Engine, false).is_ok() && took(Kind::EngineTcp, false).is_ok());
        let error = took(Kind::EngineUring, false).unwrap_err();
        assert!(error.is::<TookAnother>());
        assert_eq!(
            error.to_string(),
            "it took recvmmsg where io_uring was asked for: io_uring is forbidden here"
        );
        let error = took(Kind::EngineTcpUring, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it took recv where io_uring was asked for: no multishot receives"
        );
        let error = took(Kind::Engine, true).unwrap_err();
        assert!(!error.is::<TookAnother>() && error.to_string().contains("gro"));
    }
}
