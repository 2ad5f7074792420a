//! A receiver under measurement, whichever it is: parked, released, asked for its clock, and at the end for what it
//! received.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::patience::Patience;
use crate::process::Process;
use crate::procfs::{self, Queue, Thread};

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A loop that only receives, with the engine's socket options: what the kernel costs.
    Raw,
    /// The same with 100 ns of work per packet: shows that the meter sees it.
    Delayed,
    /// What a 1.x node does with a packet.
    Classic,
    /// `binrush serve`, by recvmmsg, callbacks empty.
    Engine,
    /// `binrush serve`, by `io_uring`, callbacks empty.
    #[value(name = "engine-io_uring")]
    EngineUring,
}

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
}

/// A running one.
#[derive(Debug)]
pub(crate) struct Receiver {
    process: Process,
    addr: SocketAddr,
    /// How many it has bound.
    sockets: usize,
    /// Those that receive.
    threads: Vec<Thread>,
    patience: Patience,
}

impl Kind {
    /// Its name on the command line and in reports.
    pub(crate) fn symbol(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }

    pub(crate) const fn is_engine(self) -> bool {
        matches!(self, Self::Engine | Self::EngineUring)
    }

    /// How it receives.
    pub(crate) const fn backend(self) -> &'static str {
        match self {
            Self::Raw | Self::Delayed | Self::Engine => "recvmmsg",
            Self::Classic => "recvfrom",
            Self::EngineUring => "io_uring",
        }
    }

    /// A 1.x node knows nothing of trains.
    pub(crate) const fn can_gro(self) -> bool {
        !matches!(self, Self::Classic)
    }
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
            Process::start(&name, engine, &config.args())?
        } else {
            let own = env::current_exe().context("cannot find binrush-bench itself")?;
            Process::start(&name, &own, &receive_args(setup))?
        };
        let mut receiver = Self {
            process,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            sockets: 0,
            threads: Vec::new(),
            patience: patience.clone(),
        };
        receiver.get_ready(setup)?;
        drop(config);
        Ok(receiver)
    }

    fn get_ready(&mut self, setup: &Setup) -> anyhow::Result<()> {
        let ready = self.process.event("ready")?;
        self.addr = addr_of(&ready)
            .with_context(|| format!("its ready line names no address of ours: {ready}"))?;
        let pid = self.process.id();
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
        self.sockets = self.count_sockets()?;
        self.wait_idle()
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops all of its threads where they are. Do it while it sleeps, so that none is in the middle of a batch.
    pub(crate) fn park(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGSTOP)?;
        let pid = self.process.id();
        self.patience.until("all threads to stop", ANSWER_MAX, || {
            let mut threads = procfs::threads(pid)?.into_iter();
            threads.try_fold(true, |all, thread| Ok(all && thread.state()? == 'T'))
        })
    }

    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Returns when its queues are empty and the threads that receive sleep.
    pub(crate) fn wait_idle(&self) -> anyhow::Result<()> {
        self.patience.until("the receiver to sleep", DRAIN_MAX, || {
            // In this order: what was queued is taken, and who took it is done with it.
            if self.queues()?.iter().any(|queue| queue.bytes > 0) {
                return Ok(false);
            }
            let mut threads = self.threads.iter();
            threads.try_fold(true, |all, thread| Ok(all && thread.state()? == 'S'))
        })
    }

    /// Returns when its queues are empty.
    pub(crate) fn wait_drained(&self) -> anyhow::Result<()> {
        self.patience
            .until("the queues to be empty", DRAIN_MAX, || {
                Ok(self.queues()?.iter().all(|queue| queue.bytes == 0))
            })
    }

    /// Nanoseconds that each of its receiving threads spent on a processor; exact while they sleep or are parked.
    pub(crate) fn cpu_ns(&self) -> anyhow::Result<Vec<u64>> {
        self.threads.iter().map(|thread| thread.cpu_ns()).collect()
    }

    /// The queues of its sockets, all of them.
    pub(crate) fn queues(&self) -> anyhow::Result<Vec<Queue>> {
        for _ in 0..LOOKS_MAX {
            let queues = procfs::queues(self.addr.port())?;
            if queues.len() == self.sockets {
                return Ok(queues);
            }
        }
        bail!("the receiver has closed its socket, or somebody else has bound its port")
    }

    /// How many sockets are bound to its port, the highest count of some.
    fn count_sockets(&self) -> anyhow::Result<usize> {
        let mut sockets = 0;
        for _ in 0..LOOKS_MIN {
            sockets = procfs::queues(self.addr.port())?.len().max(sockets);
        }
        Ok(sockets)
    }

    /// Ends it, and says how many packets it took for valid.
    pub(crate) fn finish(self) -> anyhow::Result<u64> {
        let total = self.process.finish()?;
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
}

/// The first address of a `ready` line, `{"listen":["bin:127.0.0.1:5566"]}`; ours are on loopback.
fn addr_of(ready: &Value) -> Option<SocketAddr> {
    let listen = ready["listen"].get(0)?.as_str()?;
    let addr: SocketAddr = listen.strip_prefix("bin:")?.parse().ok()?;
    (addr.is_ipv4() && addr.ip().is_loopback()).then_some(addr)
}

/// An engine that took something else than it was told to is not the one that was to be measured.
fn check_took(ready: &Value, setup: &Setup) -> anyhow::Result<()> {
    let (backend, gro) = (setup.kind.backend(), setup.gro);
    if ready["backend"] != backend {
        bail!(TookAnother {
            asked: backend,
            took: ready["backend"].as_str().unwrap_or("nothing").to_owned(),
            why: ready["backend_reason"]
                .as_str()
                .unwrap_or("no reason given")
                .to_owned(),
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
        Kind::Classic => ("classic", 0),
        Kind::Delayed => ("raw", DELAY_NS),
        Kind::Raw | Kind::Engine | Kind::EngineUring => ("raw", 0),
    };
    let mut args = vec!["receive".to_owned(), what.to_owned()];
    args.push(format!("--rcvbuf={}", setup.rcvbuf));
    args.push(format!("--add-ns={add_ns}"));
    if setup.gro {
        args.push("--gro".to_owned());
    }
    args.extend(setup.cores.first().map(|core| format!("--core={core}")));
    args.into_iter().map(OsString::from).collect()
}

/// As a user would write it. `verify` off leaves the callbacks empty: what is measured is the way to them.
fn engine_config(setup: &Setup) -> String {
    let backend = setup.kind.backend();
    let gro = if setup.gro { "on" } else { "off" };
    let cores: Vec<String> = setup.cores.iter().map(ToString::to_string).collect();
    let (shards, cores, rcvbuf) = (setup.cores.len(), cores.join(","), setup.rcvbuf);
    format!(
        "listen = bin:127.0.0.1:0\n\
         loadmodule \"proto_bin.so\"\n\
         loadmodule \"dialog.so\"\n\
         modparam(\"binrush\", \"allow\", \"127.0.0.0/8\")\n\
         modparam(\"binrush\", \"shards\", {shards})\n\
         modparam(\"binrush\", \"pin\", \"{cores}\")\n\
         modparam(\"binrush\", \"backend\", \"{backend}\")\n\
         modparam(\"binrush\", \"rcvbuf\", {rcvbuf})\n\
         modparam(\"binrush\", \"gro\", \"{gro}\")\n\
         modparam(\"binrush\", \"verify\", 0)\n"
    )
}

/// A configuration on disk, until dropped.
#[derive(Debug)]
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn write(text: &str) -> anyhow::Result<Self> {
        // One receiver runs at a time, so the process is name enough. Made anew, so that no link of another user
        // is followed.
        let path = env::temp_dir().join(format!("binrush-bench-{}.cfg", std::process::id()));
        let _ = fs::remove_file(&path);
        let context = || format!("cannot write {}", path.display());
        let mut file = fs::File::create_new(&path).with_context(context)?;
        let file_guard = Self(path.clone());
        file.write_all(text.as_bytes()).with_context(context)?;
        Ok(file_guard)
    }

    /// The arguments of `binrush` to run by it.
    fn args(&self) -> Vec<OsString> {
        let options = ["serve", "--json", "--stats", "0", "--config"];
        let mut args: Vec<OsString> = options.map(OsString::from).into();
        args.push(self.0.clone().into_os_string());
        args
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What [`Kind::Delayed`] adds per packet.
const DELAY_NS: u32 = 100;

/// How often the kernel's list is read to know how many sockets there are, and until all of them are in it.
const LOOKS_MIN: usize = 5;
const LOOKS_MAX: usize = 100;

/// A signal is obeyed in microseconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The longest drain: a million packets of the slowest receiver take some five seconds.
const DRAIN_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_an_ipv4_loopback_address_is_taken_for_ours() {
        let addr = |listen: &str| addr_of(&json!({ "listen": [listen] }));
        let ours = SocketAddr::from(([127, 0, 0, 1], 5566));
        assert_eq!(addr("bin:127.0.0.1:5566"), Some(ours));
        for other in ["bin:[::1]:5566", "bin:10.0.0.1:5566", "127.0.0.1:5566", ""] {
            assert_eq!(addr(other), None, "{other}");
        }
        assert_eq!(addr_of(&json!({ "listen": [] })), None);
    }

    #[test]
    fn an_engine_is_told_everything_by_its_configuration() {
        let text = |kind, gro| {
            engine_config(&Setup {
                kind,
                rcvbuf: 4096,
                cores: vec![0, 1],
                gro,
            })
        };
        let uring = text(Kind::EngineUring, true);
        for setting in [
            "\"shards\", 2)",
            "\"pin\", \"0,1\")",
            "\"backend\", \"io_uring\")",
            "\"rcvbuf\", 4096)",
            "\"gro\", \"on\")",
            "\"verify\", 0)",
        ] {
            assert!(uring.contains(setting), "{setting} in {uring}");
        }
        for kind in [Kind::Engine, Kind::EngineUring] {
            let trains = |gro| text(kind, gro).contains("\"gro\", \"on\")");
            assert_eq!((trains(true), trains(false)), (true, false));
        }
    }

    #[test]
    fn an_engine_that_took_something_else_is_not_measured() {
        let ready = json!({
            "backend": "recvmmsg", "backend_reason": "io_uring is forbidden here", "gro": false,
        });
        let took = |kind, gro| {
            check_took(
                &ready,
                &Setup {
                    kind,
                    rcvbuf: 4096,
                    cores: vec![0],
                    gro,
                },
            )
        };
        assert!(took(Kind::Engine, false).is_ok());
        let error = took(Kind::EngineUring, false).unwrap_err();
        assert!(error.is::<TookAnother>());
        assert_eq!(
            error.to_string(),
            "it took recvmmsg where io_uring was asked for: io_uring is forbidden here"
        );
        let error = took(Kind::Engine, true).unwrap_err();
        assert!(!error.is::<TookAnother>() && error.to_string().contains("gro"));
    }

    #[test]
    fn a_configuration_does_not_stay_on_disk() {
        let config = ConfigFile::write("# nothing").unwrap();
        let path = config.0.clone();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# nothing");
        drop(config);
        assert!(!path.exists());
    }
}
