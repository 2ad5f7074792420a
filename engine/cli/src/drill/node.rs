//! A binrush node that a drill starts, hurts and asks.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::catalog::Who;
use super::site::Site;
use super::traffic::{DIALOGS, USRLOC};
use crate::control::client::ask;
use crate::control::facts::Cluster;
use crate::control::message::Request;
use crate::control::records::Table;
use crate::state::{self, Dump, Search};

/// A node that runs. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) who: Who,
    child: Child,
    control: PathBuf,
    lines: Receiver<String>,
    /// From the start of the process until it accepted packets.
    pub(super) ready_ms: u64,
    /// When it was started.
    pub(super) started: Instant,
    /// Records that it found in its state directory.
    pub(super) recovered: Option<u64>,
    is_frozen: bool,
}

/// What its last line says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ledger {
    pub(super) received: u64,
    pub(super) handled: u64,
    pub(super) is_balanced: bool,
}

impl Node {
    /// Starts it, and waits until it is ready. `under` are words before the command, for those who break its system calls.
    ///
    /// # Errors
    /// It does not start, with what it said.
    pub(super) fn start(site: &Site, who: Who, under: &[&str]) -> anyhow::Result<Self> {
        let control = site.path(&format!("{}.sock", who.name()));
        let config = site.path(&format!("{}.cfg", who.name()));
        fs::write(&config, text(site, who, &control))?;
        let log = site.path(&format!("{}.log", who.name()));
        let errors = fs::File::create(&log)?;
        let exe = std::env::current_exe().context("this program has no path")?;
        let before = site.before(who);
        let mut words = before
            .iter()
            .map(String::as_str)
            .chain(under.iter().copied());
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(exe);
                command
            }
            None => Command::new(exe),
        };
        command.args(["serve", "--json", "--stats", "0", "--config"]);
        command.arg(&config).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(errors);
        // A Ctrl-C is ours to answer.
        let started = Instant::now();
        let mut child = command.process_group(0).spawn()?;
        let lines = lines_of(&mut child);
        let mut node = Self {
            who,
            child,
            control,
            lines,
            ready_ms: 0,
            started,
            recovered: None,
            is_frozen: false,
        };
        let Some(ready) = node.event("ready", START_MAX) else {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("the {} does not start: {}", who.name(), said.trim());
        };
        node.ready_ms = millis(started.elapsed());
        node.recovered = ready["state"]["records"].as_u64();
        Ok(node)
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) {
        self.end();
    }

    /// Stops all of its threads where they are.
    pub(super) fn freeze(&mut self) -> anyhow::Result<()> {
        self.is_frozen = true;
        self.signal(Signal::SIGSTOP)
    }

    /// Lets them go on.
    pub(super) fn thaw(&mut self) -> anyhow::Result<()> {
        self.is_frozen = false;
        self.signal(Signal::SIGCONT)
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It does not end, or without its totals.
    pub(super) fn stop(mut self) -> anyhow::Result<Ledger> {
        self.signal(Signal::SIGTERM)?;
        let name = self.who.name();
        let total = self.event("total", STOP_MAX);
        let total = total.with_context(|| format!("the {name} ended without its totals"))?;
        let count = |key: &str| total[key].as_u64().unwrap_or_default();
        Ok(Ledger {
            received: count("received"),
            handled: count("handled"),
            is_balanced: total["balanced"] == true,
        })
    }

    /// What it knows of its cluster.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        let clusters: Vec<Cluster> = self.ask(&Request::Clusters { cluster: None }, "clusters")?;
        clusters.into_iter().next()
    }

    /// Whether both of its copies are complete, as far as it knows.
    pub(super) fn is_verified(&self) -> bool {
        self.cluster().is_some_and(|cluster| {
            [DIALOGS, USRLOC].iter().all(|name| {
                let mut known = cluster.capabilities.iter();
                known.any(|known| known.name == *name && known.state == "verified")
            })
        })
    }

    /// What it has written down, table by table.
    pub(super) fn tables(&self) -> Option<Vec<Table>> {
        self.ask(&Request::Tables {}, "tables")
    }

    /// All of its records.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn dump(&self) -> anyhow::Result<Dump> {
        state::of_engine(&self.control, &Search::default())
    }

    /// Where it is asked.
    pub(super) fn control(&self) -> &Path {
        &self.control
    }

    fn ask<T: DeserializeOwned>(&self, request: &Request, key: &str) -> Option<T> {
        if self.is_frozen {
            return None;
        }
        let mut answer = ask(&self.control, request).ok()?;
        serde_json::from_value(answer.remove(key)?).ok()
    }

    /// The next line of this kind, within a time.
    fn event(&mut self, event: &str, within: Duration) -> Option<Value> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            };
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["event"] == event {
                return Some(value);
            }
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal}"))
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lines of its standard output, read by a thread that ends with it.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (tx, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        let reader = BufReader::new(stdout.take(STDOUT_MAX));
        thread::spawn(move || {
            let read = reader.lines().map_while(Result::ok);
            for line in read {
                if tx.send(line).is_err() {
                    return;
                }
            }
        });
    }
    lines
}

/// The configuration of a node: those of a cluster of genuine nodes, with short timers.
fn text(site: &Site, me: Who, control: &Path) -> String {
    let mut text = format!(
        "listen = bin:{}\nloadmodule \"clusterer.so\"\nloadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\n",
        site.at(me)
    );
    for who in Who::ALL {
        let (parameter, seed) = match who == me {
            true if who == Who::Active => ("my_node_info", ", flags=seed"),
            true => ("my_node_info", ""),
            false => ("neighbor_node_info", ""),
        };
        let (id, at) = (who.id(), site.at(who));
        // Whoever can give records is to be asked before the callers.
        let priority = if who == Who::Callers { 50 } else { 3 };
        let _ = writeln!(
            text,
            "modparam(\"clusterer\", \"{parameter}\", \"cluster_id={CLUSTER}, node_id={id}, url=bin:{at}, priority={priority}{seed}\")"
        );
    }
    text.push_str(COMMON);
    let _ = writeln!(
        text,
        "modparam(\"binrush\", \"control\", \"{}\")",
        control.display()
    );
    if me == Who::Engine {
        let runtime = site.path("run");
        let _ = writeln!(
            text,
            "modparam(\"binrush\", \"state_dir\", \"{}\")\nmodparam(\"binrush\", \"runtime_dir\", \"{}\")\n\
             modparam(\"binrush\", \"ring_bytes\", {RING_BYTES})",
            site.state_dir(me).display(),
            runtime.display()
        );
    }
    text
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The cluster of every drill.
pub(super) const CLUSTER: i32 = 1;

/// A node that is gone is missed within about two seconds. One shard: what it has of one connection is a beginning of what was sent.
const COMMON: &str = "modparam(\"clusterer\", \"db_mode\", 0)\n\
    modparam(\"clusterer\", \"ping_interval\", 1)\n\
    modparam(\"clusterer\", \"ping_timeout\", 300)\n\
    modparam(\"clusterer\", \"node_timeout\", 1)\n\
    modparam(\"clusterer\", \"seed_fallback_interval\", 1)\n\
    modparam(\"clusterer\", \"sync_timeout\", 3)\n\
    modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n\
    modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")\n\
    modparam(\"usrloc\", \"location_cluster\", 1)\n\
    modparam(\"binrush\", \"shards\", 1)\n\
    modparam(\"binrush\", \"pin\", \"off\")\n";

const RING_BYTES: usize = 1 << 20;

const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(20);

/// More than a node ever says in a drill.
const STDOUT_MAX: u64 = 64 << 20;
