//! `binrush serve` as a process on loopback, and a socket to send to it from.

use std::net::{SocketAddr, UdpSocket};

use serde_json::{Value, json};

use crate::process::{Finished, Running, queued, wait_until};

/// A `serve` that is ready, told in JSON lines.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) process: Running,
    /// What it said when it was.
    pub(crate) ready: Value,
    /// The first address it listens on.
    pub(crate) addr: SocketAddr,
    peer: UdpSocket,
}

impl Receiver {
    /// Listens on a free port of `ip`, with `more` arguments.
    #[track_caller]
    pub(crate) fn start(ip: &str, more: &[&str]) -> Self {
        let listen = format!("bin:{ip}:0");
        let args = [&["serve", "--json", "--listen", &listen], more].concat();
        Self::of(Running::start(&args))
    }

    /// A `serve --json` that was just started.
    #[track_caller]
    pub(crate) fn of(mut process: Running) -> Self {
        let ready = process.event("ready");
        let addr = addresses(&ready)[0];
        let peer = UdpSocket::bind((addr.ip(), 0)).expect("loopback");
        Self {
            process,
            ready,
            addr,
            peer,
        }
    }

    /// On loopback a datagram is in the receiver's queue, or dropped, when this returns.
    #[track_caller]
    pub(crate) fn send(&self, datagram: &[u8]) {
        let sent = self.peer.send_to(datagram, self.addr).expect("loopback");
        assert_eq!(sent, datagram.len());
    }

    /// Sends so many at a time that none finds the receive buffer full.
    #[track_caller]
    pub(crate) fn send_all<D: AsRef<[u8]>>(&self, datagrams: impl IntoIterator<Item = D>) {
        let rcvbuf = count(&self.ready, "rcvbuf");
        let at_once = (rcvbuf / DATAGRAM_MEMORY_MAX).max(1);
        for (datagram, n) in datagrams.into_iter().zip(1_u64..) {
            self.send(datagram.as_ref());
            if n % at_once == 0 {
                self.wait_until_read();
            }
        }
    }

    /// Waits until everything that was sent was taken from the sockets.
    #[track_caller]
    pub(crate) fn wait_until_read(&self) {
        wait_until("an empty receive queue", || queued(self.addr) == 0);
    }

    /// Ends it with `signal`; returns its totals. They must balance, and nothing may be on standard error.
    #[track_caller]
    pub(crate) fn stop(self, signal: &str) -> Value {
        self.stop_after(signal).1
    }

    /// As [`stop`](Self::stop), with the events before the totals that were not read yet.
    #[track_caller]
    pub(crate) fn stop_after(self, signal: &str) -> (Vec<Value>, Value) {
        self.process.signal(signal);
        self.end()
    }

    /// As [`stop_after`](Self::stop_after), for one that was sent its signal.
    #[track_caller]
    pub(crate) fn end(self) -> (Vec<Value>, Value) {
        let rest: Finished = self.process.finish().ok().quiet();
        let mut events = rest.json();
        let total = events.pop().expect("a last line");
        assert_eq!(total["event"], "total", "{total}");
        assert_eq!(total["balanced"], true, "{total}");
        (events, total)
    }
}

/// The addresses of a `ready` event.
#[track_caller]
pub(crate) fn addresses(ready: &Value) -> Vec<SocketAddr> {
    let listen = ready["listen"].as_array().expect("a list");
    let addrs = listen.iter().map(|listen| {
        let addr = listen
            .as_str()
            .and_then(|listen| listen.strip_prefix("bin:"));
        addr.expect("bin:IP:PORT").parse().expect("an address")
    });
    let addrs: Vec<_> = addrs.collect();
    assert!(!addrs.is_empty(), "{ready}");
    addrs
}

/// The number under `key`.
#[track_caller]
pub(crate) fn count(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number under \"{key}\" in {value}"))
}

/// All that the kernel dropped, by the totals' account.
#[track_caller]
pub(crate) fn dropped(total: &Value) -> u64 {
    let drops = &total["kernel_drops"];
    let reasons = ["buffer", "acl", "starting", "stopping"];
    reasons.into_iter().map(|reason| count(drops, reason)).sum()
}

/// The kernel's drops when there are none.
pub(crate) fn no_drops() -> Value {
    json!({ "buffer": 0, "acl": 0, "starting": 0, "stopping": 0 })
}

/// Kernel memory that a datagram of up to 1500 bytes takes at most, in bytes; twice what was measured.
const DATAGRAM_MEMORY_MAX: u64 = 4608;
