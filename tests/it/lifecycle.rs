//! How `serve` starts, with what it is given or refused, and how it ends under load.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::made::legacy;
use crate::process::{Running, Scratch, binary, run, skip};
use crate::receiver::{Receiver, count, dropped};

/// What a sender did until it was told to stop.
#[derive(Debug, Default)]
struct Sent {
    /// Datagrams that the kernel took.
    taken: u64,
    /// Nobody was there any more.
    refused: bool,
    seconds: f64,
}

#[test]
fn a_stop_at_full_load_leaves_no_datagram_without_a_counter() {
    let (mut exact, mut rates) = (0, Vec::new());
    // At different moments of the stop: before it is noticed, while arrivals are shut off, in the drain.
    for more in [0, 2, 5, 9, 14, 20, 0, 0, 0, 0].map(Duration::from_millis) {
        if exact >= EXACT_MIN && rates.len() >= 6 {
            break;
        }
        let (sent, is_exact, rate) = stop_at_full_load(more);
        exact += u32::from(is_exact);
        rates.push(rate);
        assert!(sent > 0);
    }
    assert!(exact >= EXACT_MIN, "{exact} of {}", rates.len());
    let slowest = rates.into_iter().fold(f64::INFINITY, f64::min);
    if slowest < RATE_PPS {
        skip(&format!(
            "{RATE_PPS} packets/s: this machine came to {slowest:.0}, and the ledger balanced at that"
        ));
    }
}

/// Stops a `serve` while it is sent to, and its senders `more` after that. How much was sent, whether the ledger could
/// be laid against all of it, and the rate.
fn stop_at_full_load(more: Duration) -> (u64, bool, f64) {
    let receiver = Receiver::start("127.0.0.1", &["--shards", "2", "--stats", "0"]);
    let (addr, stop) = (receiver.addr, AtomicBool::new(false));
    let (sent, is_running) = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| scope.spawn(|| send_until(&stop, addr)))
            .collect();
        thread::sleep(LOAD);
        receiver.process.signal("TERM");
        thread::sleep(more);
        stop.store(true, Ordering::Relaxed);
        let sent = senders
            .into_iter()
            .map(|sender| sender.join().expect("a sender does not panic"));
        let sent: Vec<Sent> = sent.collect();
        // The kernel's drops are read when the shards have ended. As long as one is there, what was sent until
        // now comes into the count; afterwards a socket may have been closed in between.
        let threads = receiver.process.threads();
        (sent, threads.iter().any(|name| name.starts_with("shard")))
    });
    let (_, total) = receiver.end();
    let taken: u64 = sent.iter().map(|sent| sent.taken).sum();
    let told = count(&total, "received") + dropped(&total);
    if is_running {
        assert!(sent.iter().all(|sent| !sent.refused), "{sent:?}");
        assert_eq!(taken, told, "{total}");
    }
    assert!(taken >= told, "{sent:?} {total}");
    assert_eq!(total["outcomes"], json!({ "handled": total["received"] }));
    let rate = sent.iter().map(|sent| sent.taken as f64 / sent.seconds);
    (taken, is_running, rate.sum())
}

/// Sends genuine-looking packets on schedule until `stop`, or until nobody is there.
fn send_until(stop: &AtomicBool, addr: SocketAddr) -> Sent {
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    // Connected, so that the kernel tells when the port is closed.
    peer.connect(addr).expect("loopback");
    let packets: Vec<Vec<u8>> = (0..500)
        .map(|n| {
            let call = format!("call-{n}@192.0.2.10");
            legacy(b"dialog", 3, &[call.as_bytes(), b"from-tag", b"to-tag"])
        })
        .collect();
    let each = Duration::from_secs_f64(SENDERS as f64 / RATE_ASKED_PPS);
    let (start, mut sent) = (Instant::now(), Sent::default());
    for (packet, n) in packets.iter().cycle().zip(0..) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let late = (each * n).saturating_sub(start.elapsed());
        if late > SLEEP_MIN {
            thread::sleep(late);
        }
        match peer.send(packet) {
            Ok(_) => sent.taken += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                sent.refused = true;
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    sent.seconds = start.elapsed().as_secs_f64();
    sent
}

#[test]
fn without_privileges_it_serves_and_says_how_to_get_the_buffer_it_wanted() {
    let max = fs::read_to_string("/proc/sys/net/core/rmem_max").expect("the kernel tells it");
    let max: u64 = max.trim().parse().expect("a number");
    if max >= RCVBUF_MAX {
        return skip("net.core.rmem_max lets everybody have any buffer");
    }
    let wanted = RCVBUF_MAX.to_string();
    let args = ["--json", "--shards", "2", "--rcvbuf", &wanted];
    let args = [&["serve", "--listen", "bin:127.0.0.1:0"], &args[..]].concat();
    let is_root = fs::metadata("/proc/self").expect("it is mounted").uid() == 0;
    let copy = PublicCopy::new();
    let mut unprivileged = Command::new(&copy.0);
    unprivileged.args(&args);
    if is_root {
        unprivileged.uid(NOBODY).gid(NOBODY);
    }
    let receiver = Receiver::of(Running::start_command(unprivileged));
    let granted = count(&receiver.ready, "rcvbuf");
    assert!((1..=2 * max).contains(&granted), "{}", receiver.ready);
    let warnings = receiver.ready["warnings"].as_array().expect("a list");
    let [warning] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    let warning = warning.as_str().expect("a text");
    for word in ["net.core.rmem_max", &wanted] {
        assert!(warning.contains(word), "no {word} in {warning}");
    }
    receiver.send(&legacy(b"ul", 1, &[b"location", b"alice"]));
    let total = receiver.stop("TERM");
    assert_eq!(total["outcomes"], json!({ "handled": 1 }));

    // And it reaches for no port that is not for everybody.
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first.is_ok_and(|port| port.trim() == "0") {
        return skip("each port is for everybody");
    }
    let mut reserved = Command::new(&copy.0);
    reserved.args(["serve", "--listen", "bin:127.0.0.1:1"]);
    if is_root {
        reserved.uid(NOBODY).gid(NOBODY);
    }
    let refused = Running::start_command(reserved).finish().exits(1);
    refused.says(&["not permitted", "ip_unprivileged_port_start"]);
}

#[test]
fn the_backend_is_named_with_the_reason_for_it() {
    for (asked, why) in [
        ("recvmmsg", "as asked for"),
        ("auto", "io_uring costs as much or more"),
    ] {
        let receiver = Receiver::start("127.0.0.1", &["--backend", asked]);
        let ready = &receiver.ready;
        assert_eq!(ready["backend"], "recvmmsg");
        let reason = ready["backend_reason"].as_str().expect("a text");
        assert!(reason.contains(why), "{ready}");
        receiver.stop("TERM");
    }
}

#[test]
fn io_uring_serves_as_recvmmsg_does() {
    let args = ["--backend", "io_uring", "--shards", "2"];
    let receiver = Receiver::start("127.0.0.1", &args);
    if receiver.ready["backend"] != "io_uring" {
        skip(&receiver.ready["backend_reason"].to_string());
        receiver.stop("TERM");
        return;
    }
    assert_eq!(receiver.ready["backend_reason"], "as asked for");
    let calls = (0..2000).map(|n| {
        let call = format!("call-{n}");
        legacy(b"dialog", 3, &[call.as_bytes(), b"from", b"to"])
    });
    receiver.send_all(calls);
    receiver.send(b"garbage");
    let total = receiver.stop("TERM");
    assert_eq!(
        total["outcomes"],
        json!({ "handled": 2000, "too_short": 1 })
    );
    assert_eq!(dropped(&total), 0);
    let shards = total["shards"].as_array().expect("a list");
    let share = shards.iter().map(|shard| count(shard, "received"));
    assert!(share.clone().all(|share| share > 500), "{total}");
}

#[test]
fn where_io_uring_is_forbidden_that_is_said_and_recvmmsg_is_used() {
    // Only something between it and the kernel can take one call away from one process.
    let inject = "--inject=io_uring_setup:error=ENOSYS";
    let trace = "--trace=io_uring_setup";
    let strace = ["-D", "-f", "-qq", "--seccomp-bpf", trace, inject];
    let mut probe = Command::new("strace");
    probe.args(strace).args(["-o", "/dev/null", "true"]);
    let probed = probe.stderr(Stdio::null()).status();
    if !probed.is_ok_and(|status| status.success()) {
        return skip("no strace that may trace, to take io_uring away from a process");
    }
    let args = ["serve", "--listen", "bin:127.0.0.1:0", "--json"];
    let mut traced = Command::new("strace");
    traced
        .args(strace)
        .args(["-o", "/dev/null"])
        .arg(binary())
        .args(args)
        .args(["--backend", "io_uring", "--shards", "1"]);
    let receiver = Receiver::of(Running::start_command(traced));
    let ready = &receiver.ready;
    assert_eq!(ready["backend"], "recvmmsg");
    for text in [&ready["backend_reason"], &ready["warnings"][0]] {
        let text = text.as_str().expect("a text");
        for word in ["io_uring cannot be used", "this kernel has no io_uring"] {
            assert!(text.contains(word), "no \"{word}\" in {ready}");
        }
    }
    receiver.send(&legacy(b"ul", 1, &[b"location", b"alice"]));
    let total = receiver.stop("TERM");
    assert_eq!(total["outcomes"], json!({ "handled": 1 }));
}

#[test]
fn a_wrong_configuration_is_told_with_its_place_and_nothing_is_opened() {
    let folder = Scratch::new("serve-wrong");
    let file = folder.path("binrush.cfg");
    for (text, place, line) in [
        (
            "listen = bin:127.0.0.1:5566\nmodparam(\"binrush\", \"shards\", \"two\")\n",
            ":2:31: ",
            "modparam(\"binrush\", \"shards\", \"two\")",
        ),
        (
            "listen = bin:127.0.0.1:99999\n",
            ":1:24: ",
            "listen = bin:127.0.0.1:99999",
        ),
        (
            "listen = bin:127.0.0.1:5566\nloadmodule \"tm.so\"\n",
            ":2:12: ",
            "loadmodule \"tm.so\"",
        ),
    ] {
        folder.file("binrush.cfg", text.as_bytes());
        let refused = run(&["serve", "--config", &file]);
        let refused = refused.exits(2).says(&[&format!("{file}{place}"), line]);
        assert_eq!(refused.text(), "");
    }
    let absent = folder.path("absent.cfg");
    let refused = run(&["serve", "--config", &absent]);
    refused.exits(2).says(&["absent.cfg: cannot be read: "]);
}

/// The command where everybody may run it: a target folder may be its owner's alone.
struct PublicCopy(PathBuf);

impl PublicCopy {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("binrush-it-{}", std::process::id()));
        fs::copy(binary(), &path).expect("there is room for temporary files");
        Self(path)
    }
}

impl Drop for PublicCopy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Rounds of which the whole ledger is checked.
const EXACT_MIN: u32 = 3;

/// Packets per second that the stop is to be seen at, and what is asked for to get there.
const RATE_PPS: f64 = 100_000.0;
const RATE_ASKED_PPS: f64 = 110_000.0;

const SENDERS: u32 = 2;

/// How long it is loaded before the stop.
const LOAD: Duration = Duration::from_millis(250);

/// Shorter sleeps take longer than they should.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// The most that `--rcvbuf` takes.
const RCVBUF_MAX: u64 = 1 << 30;

const NOBODY: u32 = 65_534;

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let receiver = Receiver::start("127.0.0.1", &["--shards", "2"]);
    let packets = vec![vec![0; 100]; 50];
    receiver.send_all(packets.iter().map(|bytes| &bytes[..]));
    receiver.process.signal("TERM");
    let total = receiver.stop("TERM");
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(count(&total, "received"), 50);
}
