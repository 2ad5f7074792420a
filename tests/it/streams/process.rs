//! `serve` as a process: limits that only a process has, and peers that vanish with their network.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use binrush_engine::stream::CloseReason;
use serde_json::Value;

use super::node::{connect, finish, is_turned_away, wait_for_end};
use super::traffic::event;
use crate::process::{Running, Scratch, binary, json, skip, wait_until};
use crate::receiver::{Receiver, count};

/// A number under these keys; what is not told is zero.
fn at(value: &Value, keys: &[&str]) -> u64 {
    let value = keys.iter().fold(value, |value, key| &value[*key]);
    if value.is_null() {
        return 0;
    }
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number at {keys:?}"))
}

/// A `serve` of this configuration, started by `before` and its arguments.
fn serve(folder: &Scratch, config: &str, before: &[&str]) -> Receiver {
    Receiver::of(start(folder, config, before))
}

fn start(folder: &Scratch, config: &str, before: &[&str]) -> Running {
    let file = folder.file("binrush.cfg", config.as_bytes());
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(binary());
    command.args(["serve", "--json", "--stats", "1", "--config", &file]);
    Running::start_command(command)
}

#[test]
fn without_descriptors_it_turns_away_goes_on_and_recovers() {
    let folder = Scratch::new("streams-emfile");
    let config = "listen = bin:127.0.0.1:0\nmodparam(\"binrush\", \"shards\", 1)\n\
                  modparam(\"binrush\", \"connections_per_source\", 1000)\n";
    if Command::new("prlimit")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        return skip("no prlimit(1)");
    }
    let process = start(&folder, config, &["env"]);
    let pid = process.id().to_string();
    let receiver = Receiver::of(process);
    // At its start it would take no more connections than there are descriptors for. They are taken away later: enough
    // are left for its own files, and for some dozens of connections.
    let prlimit = Command::new("prlimit")
        .args(["--pid", &pid, "--nofile=64:64"])
        .status();
    assert!(prlimit.is_ok_and(|status| status.success()));
    let mut first = connect(receiver.addr);
    let mut held: Vec<TcpStream> = (0..200)
        .filter_map(|_| try_connect(receiver.addr))
        .collect();
    // Those that were turned away see their end; who was let in does not.
    wait_until("connections to be turned away", || {
        held.retain(is_let_in);
        held.len() <= 100
    });
    assert!(!held.is_empty(), "some were let in");
    first.write_all(&event(1, 1, 1)).expect("it is read");
    held.clear();
    // With descriptors again, everybody is let in again.
    let mut last = None;
    wait_until("a connection to be let in", || {
        last = try_connect(receiver.addr);
        // Long enough to be turned away.
        thread::sleep(Duration::from_millis(50));
        last.as_ref().is_some_and(is_let_in)
    });
    let mut last = last.expect("it was let in");
    last.set_nonblocking(false).expect("a socket");
    last.write_all(&event(2, 1, 1)).expect("it is read");
    finish(first);
    finish(last);
    let total = receiver.stop("TERM");
    let accept = &total["streams"]["accept"];
    assert!(at(accept, &["refused", "no_descriptor"]) >= 100, "{accept}");
    assert!(at(accept, &["starved"]) > 0, "{accept}");
    assert_eq!(count(&total, "received"), 2, "{total}");
}

#[test]
fn ten_thousand_that_dribble_do_not_hold_up_one_that_does_not() {
    let count_wanted = 10_000;
    let most = descriptors().saturating_sub(500);
    let dribblers = most.min(count_wanted);
    if dribblers < count_wanted {
        skip(&format!(
            "{count_wanted} connections: {dribblers}, as descriptors allow"
        ));
    }
    let folder = Scratch::new("streams-loris");
    let config = "listen = bin:127.0.0.1:0\nmodparam(\"binrush\", \"shards\", 1)\n\
                  modparam(\"binrush\", \"connections_per_source\", 20000)\n\
                  tcp_max_connections = 20000\ntcp_max_msg_time = 3\n";
    let receiver = serve(&folder, config, &["env"]);
    let mut streams: Vec<TcpStream> = (0..dribblers).map(|_| connect(receiver.addr)).collect();
    let (mut good, packet) = (connect(receiver.addr), event(1, 1, 1));
    let mut sent = 0;
    let mut memory = 0;
    let start = Instant::now();
    for byte in packet.iter().cycle() {
        // As many as are left; one whose end is on its way still takes a byte.
        streams.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
        for _ in 0..10 {
            good.write_all(&event(1, sent % 10, sent))
                .expect("it is read");
            sent += 1;
        }
        memory = memory.max(receiver.process.resident_kib());
        if streams.is_empty() {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{} are left",
            streams.len()
        );
        thread::sleep(Duration::from_millis(200));
    }
    finish(good);
    let total = receiver.stop("TERM");
    let closed = &total["streams"]["total"]["closed"];
    assert_eq!(
        at(closed, &["frame_deadline"]),
        dribblers as u64,
        "{closed}"
    );
    assert_eq!(at(closed, &["peer"]), 1, "{closed}");
    assert_eq!(count(&total, "received"), sent as u64, "{total}");
    // 10 000 connections of a few bytes each, the shard's slab, and what a process has anyway.
    assert!(memory < MEMORY_MAX_KIB, "{memory} KiB");
}

/// One end of a cable of its own: its network is taken away under an open connection.
#[test]
fn a_peer_whose_network_is_gone_is_let_go_by_keepalives() {
    let folder = Scratch::new("streams-vanish");
    let config = "listen = bin:10.0.0.150:5062\nmodparam(\"binrush\", \"shards\", 1)\n\
                  modparam(\"binrush\", \"allow\", \"10.0.0.0/24\")\n\
                  tcp_keepalive = 1\ntcp_keepidle = 1\ntcp_keepinterval = 1\n\
                  modparam(\"binrush\", \"tcp_user_timeout\", 3)\n";
    let prepare = "ip link set lo up && ip link add near type veth peer name far && \
                   ip addr add 10.0.0.150/24 dev near && ip link set near up";
    let tried = Command::new("unshare")
        .args(["--net", "sh", "-c", prepare])
        .output();
    match tried {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            return skip(&format!(
                "no network namespace with a cable: {}",
                said.trim()
            ));
        }
        Err(error) => return skip(&format!("no `unshare`: {error}")),
    }
    let script = format!("{prepare} && exec \"$@\"");
    let mut server = start(
        &folder,
        config,
        &["unshare", "--net", "sh", "-c", &script, "sh"],
    );
    server.event("ready");
    let near = server.id().to_string();
    // The other host: it connects when its end of the cable is plugged in, says one packet, and stays.
    let packet = folder.file("packet", &event(1, 1, 1));
    let script =
        "read -r _ && exec 3<>/dev/tcp/10.0.0.150/5062 && cat \"$1\" >&3 && echo sent && read -r _";
    let mut host = Command::new("unshare");
    host.args(["--net", "bash", "-c", script, "bash", &packet]);
    let mut host = Running::start_command(host);
    let far = host.id().to_string();
    // `unshare` may not have entered its namespace yet.
    wait_until("a namespace of its own", || {
        namespace(&far) != namespace("self")
    });
    inside(&near, &["ip", "link", "set", "far", "netns", &far]);
    inside(&far, &["ip", "addr", "add", "10.0.0.151/24", "dev", "far"]);
    inside(&far, &["ip", "link", "set", "far", "up"]);
    host.feed(b"go\n", 1);
    assert_eq!(host.line(), "sent");
    let mut open = 0;
    wait_until("its packet", || {
        let interval = next(&mut server, "interval");
        open = at(&interval, &["streams", "total", "open"]);
        open == 1
    });
    inside(&far, &["ip", "link", "set", "far", "down"]);

    wait_until("the connection to be given up", || {
        let interval = next(&mut server, "interval");
        let now = at(&interval, &["streams", "total", "open"]);
        let before = std::mem::replace(&mut open, now);
        before == 1 && now == 0
    });
    let total = server.stop("TERM").ok().json().pop().expect("a last line");
    assert_eq!(total["balanced"], true, "{total}");
    let streams = &total["streams"]["total"];
    assert_eq!(at(streams, &["closed", "timed_out"]), 1, "{streams}");
    assert_eq!(
        (at(streams, &["opened"]), at(streams, &["frames"])),
        (1, 1),
        "{streams}"
    );
}

#[test]
fn a_connection_that_is_refused_or_ended_badly_is_told_with_its_peer_and_its_reason() {
    let folder = Scratch::new("streams-told");
    let config = "listen = bin:127.0.0.1:0\nmodparam(\"binrush\", \"shards\", 1)\n\
                  modparam(\"binrush\", \"connections_per_source\", 1)\n";
    let mut receiver = serve(&folder, config, &["env"]);
    let mut bad = connect(receiver.addr);
    let from = bad.local_addr().expect("bound").to_string();
    // Taken before the next one comes.
    wait_until("its connection to be taken", || {
        let interval = next(&mut receiver.process, "interval");
        at(&interval, &["streams", "total", "open"]) == 1
    });
    is_turned_away(receiver.addr);
    let told = next(&mut receiver.process, "refused");
    assert_eq!(told["reason"], "per_source", "{told}");
    bad.write_all(b"REGISTER sip:example.org SIP/2.0")
        .expect("it is read");
    wait_for_end(&mut bad);
    let told = next(&mut receiver.process, "lost");
    assert_eq!(told["reason"], "bad_marker", "{told}");
    let words = told["text"].as_str().expect("a text");
    for word in [from.as_str(), CloseReason::BadMarker.sentence()] {
        assert!(words.contains(word), "no \"{word}\" in {words}");
    }
    receiver.stop("TERM");
}

/// A connection, unless it is turned away before it is one.
fn try_connect(addr: SocketAddr) -> Option<TcpStream> {
    match TcpStream::connect(addr) {
        Ok(stream) => Some(stream),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            None
        }
    }
}

/// Whether its end has not come.
fn is_let_in(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// The next line with this event, whatever comes before.
fn next(process: &mut Running, event: &str) -> Value {
    loop {
        let value = json(&process.line());
        if value["event"] == event {
            return value;
        }
    }
}

/// The network namespace of a process.
fn namespace(pid: &str) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("it is running")
}

/// Runs a command in the network namespace of a process.
#[track_caller]
fn inside(pid: &str, command: &[&str]) {
    let done = Command::new("nsenter")
        .args(["--target", pid, "--net"])
        .args(command)
        .output()
        .expect("nsenter is where unshare is");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
}

/// How many files this process, and those it starts, may have open.
fn descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the kernel tells them");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}

const MEMORY_MAX_KIB: u64 = 200 << 10;
