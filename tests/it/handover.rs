//! Sockets that outlive the process: they go from one `serve` to the next, come from a service manager, and are kept by it.
//!
//! `BINRUSH_RESTARTS` says how often a server is followed by another under load; 10 without it. `BINRUSH_RESTART_RATE` says how
//! many packets are sent in a second meanwhile; 2000 without it.

use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binrush_engine::store::durable;
use binrush_store::Record;
use binrush_wire::Release;
use serde_json::Value;

use crate::durable::traffic::{Deed, Plain, apply, known};
use crate::process::{Running, Scratch, command, skip};
use crate::receiver::{addresses, count, dropped};

/// Heirs that do not come to be ready.
mod broken;
/// What a server gives up after its start.
mod confined;
/// A service manager, as a test plays it.
mod manager;

/// Where servers follow each other.
struct House {
    scratch: Scratch,
    config: String,
    shards: &'static str,
}

/// Who sends contacts at a pace, numbered.
struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// What the lives of several servers came to.
#[derive(Debug, Default)]
struct Sums {
    received: u64,
    dropped: u64,
    lives: u64,
}

impl House {
    /// With these lines behind those that all have. Its folders are the test's own.
    fn new(name: &str, shards: &'static str, more: &str) -> Self {
        let scratch = Scratch::new(name);
        let text = format!(
            "listen = bin:{HOST}:0\n\
             loadmodule \"dialog.so\"\n\
             loadmodule \"usrloc.so\"\n\
             modparam(\"binrush\", \"allow\", \"127.0.0.0/8\")\n\
             modparam(\"binrush\", \"rcvbuf\", 16777216)\n\
             modparam(\"binrush\", \"ring_bytes\", 4194304)\n\
             modparam(\"binrush\", \"state_dir\", \"{}\")\n\
             modparam(\"binrush\", \"runtime_dir\", \"{}\")\n\
             modparam(\"binrush\", \"control\", \"{}\")\n{more}",
            scratch.path("state"),
            scratch.path("run"),
            scratch.path("control.sock"),
        );
        let config = scratch.file("binrush.cfg", text.as_bytes());
        Self {
            scratch,
            config,
            shards,
        }
    }

    fn args(&self) -> Vec<&str> {
        let config = ["serve", "--config", &self.config, "--stats", "0", "--json"];
        [&config[..], &["--shards", self.shards]].concat()
    }

    fn start(&self, more: &[&str]) -> Running {
        Running::start_command(command(&[&self.args()[..], more].concat()))
    }

    /// A server that has nobody before it.
    fn first(&self) -> (Running, Value) {
        let mut server = self.start(&[]);
        let ready = server.event("ready");
        (server, ready)
    }

    /// The latest number of each contact, as it is on the disk.
    fn records(&self) -> Plain {
        let mut plain = Plain::new();
        let (state, run) = (self.scratch.path("state"), self.scratch.path("run"));
        let read = durable::read(state.as_ref(), Some(run.as_ref()), &mut |row| {
            let (record, status) = Record::read(row.flat).expect("a record");
            let (key, value) = known(&record, status);
            plain.insert(key, value);
        });
        read.unwrap_or_else(|error| panic!("{error}"));
        plain
    }
}

impl Sender {
    /// Sends to `addr` until it is stopped, `rate` packets in a second.
    fn start(addr: SocketAddr, rate: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stops, counts) = (Arc::clone(&stop), Arc::clone(&sent));
        let send = move || {
            let socket = UdpSocket::bind((HOST, 0)).expect("a port is free");
            socket.connect(addr).expect("a way to loopback");
            let begun = Instant::now();
            let mut number = 0;
            while !stops.load(Ordering::Relaxed) {
                let due = u64::try_from(begun.elapsed().as_micros()).expect("not that long");
                let due = due * rate / 1_000_000;
                while number < due {
                    number += 1;
                    let packet = deed(number).packet(Release::V1x);
                    socket.send(&packet).expect("somebody has the socket");
                }
                counts.store(number, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(500));
            }
            counts.store(number, Ordering::Relaxed);
        };
        Self {
            stop,
            sent,
            thread: thread::spawn(send),
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many it sent in all.
    #[track_caller]
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every packet was taken");
        self.sent.load(Ordering::Relaxed)
    }
}

impl Sums {
    /// Adds the totals of a life.
    #[track_caller]
    fn add(&mut self, total: &Value) {
        assert_eq!(total["balanced"], true, "{total}");
        self.received += count(total, "received");
        self.dropped += dropped(total);
        self.lives += 1;
    }

    /// Waits for the end of a server and adds what it came to.
    #[track_caller]
    fn ends(&mut self, server: Running) -> Value {
        let lines = server.finish().ok().quiet().json();
        let total = lines.iter().rfind(|line| line["event"] == "total");
        let total = total.expect("totals").clone();
        self.add(&total);
        total
    }
}

/// What the packet of this number says: each of some contacts in turn.
fn deed(number: u64) -> Deed {
    let aor = u32::try_from(number % CONTACTS).expect("a few");
    Deed::ContactInsert(aor, 0, i32::try_from(number).expect("a test is short"))
}

/// What there is after so many packets.
fn after(sent: u64) -> Plain {
    let mut plain = Plain::new();
    (1..=sent).for_each(|number| apply(&mut plain, deed(number)));
    plain
}

fn number_of(variable: &str, default: u64) -> u64 {
    let text = env::var(variable);
    text.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn sockets_go_from_process_to_process_under_load_and_nothing_is_lost() {
    let restarts = number_of("BINRUSH_RESTARTS", 10);
    let rate = number_of("BINRUSH_RESTART_RATE", 2000);
    let house = House::new("handover-load", "2", "");
    let (mut server, ready) = house.first();
    let addr = addresses(&ready)[0];
    let sender = Sender::start(addr, rate);
    let mut sums = Sums::default();
    let mut took = Vec::new();
    for restart in 0..restarts {
        thread::sleep(Duration::from_millis(100 + restart * 37 % 150));
        let mut heir = house.start(&["--handover"]);
        let ready = heir.event("ready");
        let about = &ready["handover"];
        assert_eq!(about["from"], "giver", "{ready}");
        assert_eq!(about["about"]["pid"], server.id(), "{ready}");
        // Two shards and a quarantine, and a socket that listens.
        assert_eq!(count(about, "sockets"), 4, "{ready}");
        assert_eq!(
            addresses(&ready)[0],
            addr,
            "the port was chosen by the kernel once"
        );
        took.push(count(&about["about"], "ms"));
        let total = sums.ends(server);
        assert_eq!(total["handed_over"], true, "{total}");
        let before = &about["before"];
        assert_eq!(count(before, "lives"), sums.lives);
        assert_eq!(count(before, "received"), sums.received);
        assert_eq!(count(before, "dropped"), sums.dropped);
        server = heir;
    }
    let sent = sender.stop();
    server.signal("TERM");
    sums.ends(server);
    assert_eq!(sums.received + sums.dropped, sent, "{sums:?}");
    took.sort_unstable();
    eprintln!("{restarts} restarts at {rate}/s, {sent} sent: {sums:?}, took ms {took:?}");
    if count(&ready, "rcvbuf") < 16 << 20 {
        return skip("net.core.rmem_max is too small for what comes during a restart");
    }
    assert_eq!(sums.dropped, 0, "{sums:?}");
    assert!(sent > 0 && house.records() == after(sent));
}

/// Some more than one shard has in work.
const CONTACTS: u64 = 500;

const HOST: &str = "127.44.1.1";
