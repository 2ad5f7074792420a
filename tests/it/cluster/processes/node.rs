//! Nodes of one cluster, each a `serve`, on addresses of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Running, Scratch, binary, run};

/// Who is in a cluster, and where.
#[derive(Debug)]
pub(super) struct Members {
    folder: Scratch,
    addresses: Vec<SocketAddr>,
    /// More lines of each configuration.
    more: String,
}

/// A node that runs. Dropping it kills it, as `kill -9` does.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: i32,
    pub(super) process: Running,
    /// What it said when it was ready.
    pub(super) ready: Value,
    control: String,
}

impl Members {
    /// As many nodes, with ids from 1, each on an address of this host that nobody else has.
    pub(super) fn on_loopback(name: &str, count: u8) -> Self {
        // Tests of one process, and processes beside each other, are told apart by the two bytes in the middle.
        static TESTS: AtomicU8 = AtomicU8::new(0);
        let test = TESTS.fetch_add(1, Ordering::Relaxed);
        let [.., high, low] = std::process::id().to_be_bytes();
        let addresses = (1..=count).map(|node| {
            let ip = Ipv4Addr::new(127, 64 | (high & 0x3f), low, test * NODES_OF_TEST + node);
            SocketAddr::new(IpAddr::V4(ip), free_port(ip))
        });
        Self::new(name, addresses.collect())
    }

    /// Nodes at these addresses, with ids from 1.
    pub(super) fn new(name: &str, addresses: Vec<SocketAddr>) -> Self {
        Self {
            folder: Scratch::new(name),
            addresses,
            more: String::new(),
        }
    }

    /// With these lines at the end of each configuration.
    pub(super) fn with(mut self, lines: &str) -> Self {
        self.more = lines.to_owned();
        self
    }

    /// Where the node with this id is.
    pub(super) fn at(&self, id: i32) -> SocketAddr {
        self.addresses[usize::try_from(id).expect("ids begin with 1") - 1]
    }

    /// The ids of all.
    pub(super) fn ids(&self) -> impl Iterator<Item = i32> {
        (1..).take(self.addresses.len())
    }

    /// Starts the node with this id; the first one is the seed.
    pub(super) fn start(&self, id: i32) -> Node {
        self.start_under(id, &["env"])
    }

    /// As [`start`](Self::start), by the command `before` and its arguments.
    pub(super) fn start_under(&self, id: i32, before: &[&str]) -> Node {
        let control = self.folder.path(&format!("{id}.sock"));
        let text = self.config(id, &control);
        let file = self.folder.file(&format!("{id}.cfg"), text.as_bytes());
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).arg(binary());
        command.args(["serve", "--json", "--stats", "0", "--config", &file]);
        let mut process = Running::start_command(command);
        let ready = process.event("ready");
        Node {
            id,
            ready,
            process,
            control,
        }
    }

    fn config(&self, me: i32, control: &str) -> String {
        let listen = self.at(me);
        let nodes = self.ids().map(|id| {
            let (parameter, seed) = match id == me {
                true => ("my_node_info", if id == 1 { ", flags=seed" } else { "" }),
                false => ("neighbor_node_info", ""),
            };
            format!(
                "modparam(\"clusterer\", \"{parameter}\", \"cluster_id={CLUSTER}, node_id={id}, url=bin:{}{seed}\")\n",
                self.at(id)
            )
        });
        format!(
            "listen = bin:{listen}\nloadmodule \"clusterer.so\"\nloadmodule \"cachedb_local.so\"\n{}{TIMERS}\
             modparam(\"binrush\", \"control\", \"{control}\")\n{}",
            nodes.collect::<String>(),
            self.more
        )
    }
}

impl Node {
    /// What it answers to `binrush cluster` with these arguments; `None`: nothing, for now.
    pub(super) fn ask(&self, what: &[&str]) -> Option<Value> {
        let mut args = vec!["cluster"];
        args.extend(what);
        args.extend(["--json", "--control", &self.control]);
        let finished = run(&args);
        let answered = finished.status.success();
        answered.then(|| serde_json::from_str(finished.text()).expect("it answers in JSON"))
    }

    /// The state of its link to `other`, as OpenSIPS calls it.
    pub(super) fn link(&self, other: i32) -> Option<String> {
        let node = self.node(other)?;
        Some(node["link"].as_str().expect("a state").to_owned())
    }

    /// What it knows of `other`.
    pub(super) fn node(&self, other: i32) -> Option<Value> {
        let answer = self.ask(&["nodes"])?;
        let mut nodes = answer["clusters"][0]["nodes"].as_array()?.iter();
        nodes.find(|node| node["id"] == other).cloned()
    }

    /// What it knows of its own copy of [`RECORDS`].
    pub(super) fn copy(&self) -> Option<Value> {
        let answer = self.ask(&["sync"])?;
        let mut known = answer["clusters"][0]["capabilities"].as_array()?.iter();
        known.find(|known| known["name"] == RECORDS).cloned()
    }

    /// Whether its copy is in this state.
    pub(super) fn copy_is(&self, state: &str) -> bool {
        self.copy().is_some_and(|copy| copy["state"] == state)
    }

    /// Ends it in order; its books have to be balanced.
    pub(super) fn stop(self) {
        let lines = self.process.stop("TERM").ok().json();
        let total = lines.last().expect("a last line");
        assert_eq!(total["balanced"], true, "{total}");
    }
}

/// Waits until every node sees every other one, and those that are only known, `up`.
#[track_caller]
pub(super) fn wait_for_all_up(nodes: &[&Node], others: &[i32]) {
    let ids = || {
        nodes
            .iter()
            .map(|node| node.id)
            .chain(others.iter().copied())
    };
    for node in nodes {
        for other in ids().filter(|other| *other != node.id) {
            wait_for_link(node, other, "up");
        }
    }
}

/// Waits until `node` has its link to `other` in this state.
#[track_caller]
pub(super) fn wait_for_link(node: &Node, other: i32, state: &str) {
    let what = format!("node {} to see {other} {state}", node.id);
    eventually(&what, || node.link(other).as_deref() == Some(state));
}

/// Waits until `done`, which may take some time itself; fails with `what` was waited for.
#[track_caller]
pub(super) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(POLL);
    }
}

/// A port of this address that is free for datagrams and connections.
fn free_port(ip: Ipv4Addr) -> u16 {
    loop {
        let stream = TcpListener::bind((ip, 0)).expect("an address of this host");
        let port = stream.local_addr().expect("bound").port();
        if UdpSocket::bind((ip, port)).is_ok() {
            return port;
        }
    }
}

/// The cluster of all tests here.
pub(super) const CLUSTER: i32 = 1;

/// What they replicate.
pub(super) const RECORDS: &str = "cachedb-local-repl";

/// Short ones: a node that is gone is down within about two seconds.
const TIMERS: &str = "modparam(\"clusterer\", \"db_mode\", 0)\n\
    modparam(\"clusterer\", \"ping_interval\", 1)\n\
    modparam(\"clusterer\", \"ping_timeout\", 300)\n\
    modparam(\"clusterer\", \"node_timeout\", 1)\n\
    modparam(\"clusterer\", \"seed_fallback_interval\", 1)\n\
    modparam(\"clusterer\", \"sync_timeout\", 3)\n\
    modparam(\"cachedb_local\", \"cluster_id\", 1)\n\
    modparam(\"binrush\", \"shards\", 2)\n\
    modparam(\"binrush\", \"pin\", \"off\")\n";

const NODES_OF_TEST: u8 = 8;

/// Far more than anything here takes, on a machine that does something else besides.
const LIMIT: Duration = Duration::from_secs(40);

const POLL: Duration = Duration::from_millis(50);
