//! What befalls packets on their way, a receiver with a probe reports exactly: what was lost, doubled, reordered and
//! damaged, by a way that is known to do just that.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fmt, io::Write as _, thread};

use binrush_probe::{Audit, Limits, Report, STAMP_LEN, Stamp, place, seal};
use binrush_proxy::{Counts, Damage, Faults, Odds, Plan};
use binrush_wire::{Builder, Generation, Packet, crc32};
use serde_json::Value;

use crate::compare;
use crate::process::{Running, Scratch, queued, wait_until};

/// The packets of one stream of a measured load, by their numbers.
struct Stream {
    generation: Generation,
    number: u16,
    packet: Vec<u8>,
    at: usize,
}

impl Stream {
    fn new(generation: Generation, number: u16, name: &str, command: i32, before: usize) -> Self {
        let mut buffer = [0; 512];
        let name = name.as_bytes();
        let mut builder = Builder::new(generation, &mut buffer, name, command, 4).expect("it fits");
        for _ in 0..before {
            builder.push_str(b"sip:of-no-interest").expect("it fits");
        }
        let stamp = format!("sip:{}@example.com", ".".repeat(STAMP_LEN));
        let has_scheme = name.starts_with(b"dialog") && command != 3;
        let stamp = if has_scheme { &stamp[..] } else { &stamp[4..] };
        builder.push_str(stamp.as_bytes()).expect("it fits");
        builder.push_int(7).expect("it fits");
        let packet = builder.seal().to_vec();
        let parsed = Packet::parse(generation, &packet).expect("it was just built");
        let at = place(&parsed).expect("room for a stamp").start;
        Self {
            generation,
            number,
            packet,
            at,
        }
    }

    /// Of a name that nobody knows.
    fn miss(generation: Generation, number: u16) -> Self {
        Self::new(generation, number, "binrush-miss", 1, 0)
    }

    /// The packet with this number.
    fn stamped(&mut self, sequence: u64) -> &[u8] {
        let stamp = Stamp {
            run: RUN,
            stream: self.number,
            sequence,
            intended_ns: sequence,
            late_ns: None,
        };
        seal(&mut self.packet, self.at, &stamp);
        if self.generation == Generation::Legacy {
            let crc = crc32::checksum(&self.packet[8..]);
            self.packet[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        &self.packet
    }
}

/// A receiver without a socket.
struct Receiver {
    generation: Generation,
    audit: Audit,
    invalid: u64,
}

impl Receiver {
    fn new(generation: Generation) -> Self {
        Self {
            generation,
            audit: Audit::new(Limits::default()),
            invalid: 0,
        }
    }

    fn see(&mut self, bytes: &[u8]) {
        match Packet::parse(self.generation, bytes) {
            Ok(packet) => {
                self.audit.see(1, &packet);
            }
            Err(_) => self.invalid += 1,
        }
    }
}

/// What a receiver reports of one stream, or of several together.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    unique: u64,
    duplicates: u64,
    reordered: u64,
    reorder_distance_max: u64,
    damaged: u64,
}

impl Told {
    fn by(report: &Report, invalid: u64) -> Self {
        let unaccounted = (report.foreign, report.beyond, report.evicted);
        assert_eq!(unaccounted, (0, 0, 0), "{report:?}");
        let [run] = &report.runs[..] else {
            panic!("one run: {report:?}");
        };
        let mut told = Self {
            unique: 0,
            duplicates: 0,
            reordered: 0,
            reorder_distance_max: 0,
            damaged: report.damaged_total() + invalid,
        };
        for stream in &run.streams {
            assert_eq!(stream.received, stream.unique + stream.duplicates);
            assert_eq!(stream.gaps, stream.last + 1 - stream.unique, "{stream:?}");
            told.unique += stream.unique;
            told.duplicates += stream.duplicates;
            told.reordered += stream.reordered;
            told.reorder_distance_max = told.reorder_distance_max.max(stream.reorder_distance_max);
        }
        told
    }

    /// What is to be told of packets that this was done to.
    fn of(counts: &Counts) -> Self {
        Self {
            unique: counts.received - counts.lost - counts.corrupted,
            duplicates: counts.duplicated,
            reordered: counts.reordered,
            reorder_distance_max: counts.reorder_distance_max,
            damaged: counts.corrupted,
        }
    }
}

/// Sends so many packets of `stream` through faults to a receiver.
fn through(plan: &Plan, stream: &mut Stream, packets: u64) -> (Counts, Told) {
    let mut faults = Faults::new(plan, 0).expect("a plan that can be kept to");
    let mut receiver = Receiver::new(stream.generation);
    for sequence in 0..packets {
        faults.pass(stream.stamped(sequence), |bytes| receiver.see(bytes));
    }
    faults.finish(|bytes| receiver.see(bytes));
    let report = receiver.audit.report();
    assert_eq!(report.runs[0].run, RUN);
    let told = Told::by(&report, receiver.invalid);
    (*faults.counts(), told)
}

#[test]
fn one_fault_of_each_kind_in_a_million_packets_is_seen() {
    let rare = Odds::OneIn(1_000_000);
    let plan = Plan {
        lose: rare,
        duplicate: rare,
        reorder: rare,
        corrupt: rare,
        distance: 5,
        damage: Damage::Repaired,
        seed: 4,
    };
    let (counts, told) = through(&plan, &mut Stream::miss(Generation::Legacy, 0), 2_000_000);
    assert_eq!(
        (counts.lost, counts.duplicated, counts.corrupted),
        (2, 2, 2)
    );
    let expected = Told {
        unique: 1_999_996,
        duplicates: 2,
        reordered: 2,
        reorder_distance_max: 5,
        damaged: 2,
    };
    assert_eq!(told, expected);
}

#[test]
fn any_faults_on_any_kind_of_packet_are_counted_as_they_were_made() {
    for (generation, [dialog, contact]) in [
        (Generation::Legacy, ["dialog", "ul"]),
        (
            Generation::Modern,
            ["dialog-dlg-repl", "usrloc-contact-repl"],
        ),
    ] {
        let streams = [
            Stream::miss(generation, 3),
            Stream::new(generation, 3, dialog, 1, 3),
            Stream::new(generation, 3, dialog, 3, 1),
            Stream::new(generation, 3, contact, 4, 3),
            Stream::new(generation, 3, contact, 5, 3),
        ];
        for (mut stream, seed) in streams.into_iter().zip(0..) {
            for damage in [Damage::Bytes, Damage::Repaired] {
                let plan = Plan {
                    lose: Odds::Chance(0.02),
                    duplicate: Odds::Chance(0.03),
                    reorder: Odds::Chance(0.04),
                    corrupt: Odds::Chance(0.05),
                    distance: 17,
                    damage,
                    seed,
                };
                let (counts, told) = through(&plan, &mut stream, 20_000);
                assert!(
                    counts.corrupted > 800 && counts.reordered > 600,
                    "{counts:?}"
                );
                assert_eq!(told, Told::of(&counts), "{generation} {damage:?} {seed}");
            }
        }
    }
}

/// What stands between: UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// A `binrush-bench` that is ready, and its address.
fn bench(args: &[&str]) -> (Running, SocketAddr) {
    let mut command = Command::new(compare::binary());
    command.args(args);
    let mut process = Running::start_command(command);
    let addr = listens(&process.event("ready"));
    (process, addr)
}

/// Where who is ready listens.
fn listens(ready: &Value) -> SocketAddr {
    let addr = ready["listen"][0].as_str().expect("an address");
    let addr = addr.strip_prefix("bin:").expect("of BIN");
    addr.parse().expect("an address")
}

/// A receiver that audits, and a proxy before it with `faults`.
fn chain(transport: Transport, faults: &[&str]) -> [(Running, SocketAddr); 2] {
    let mut sink = vec!["receive", "probe", "--rcvbuf", "67108864"];
    if transport == Transport::Tcp {
        sink.push("--tcp");
    }
    let sink = bench(&sink);
    let (listen, to) = (
        format!("{transport}:127.0.0.1:0"),
        format!("{transport}:{}", sink.1),
    );
    let proxy = ["proxy", "--json", "--listen", &listen, "--to", &to];
    let proxy = bench(&[&proxy[..], faults].concat());
    [sink, proxy]
}

fn stop(mut process: Running) -> Value {
    process.signal("TERM");
    let total = process.event("total");
    process.finish().ok().quiet();
    total
}

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key}: {value}"))
}

fn counts(total: &Value) -> Counts {
    assert_eq!(total["balanced"], true, "{total}");
    Counts {
        received: number(total, "received"),
        received_bytes: number(total, "received_bytes"),
        forwarded: number(total, "forwarded"),
        forwarded_bytes: number(total, "forwarded_bytes"),
        lost: number(total, "lost"),
        duplicated: number(total, "duplicated"),
        reordered: number(total, "reordered"),
        reorder_distance_max: number(total, "reorder_distance_max"),
        corrupted: number(total, "corrupted"),
    }
}

/// What a sink told at its end.
fn told(total: &Value) -> Told {
    let report: Report = serde_json::from_value(total["probe"].clone()).expect("a report");
    let outcomes = total["outcomes"].as_object().expect("counts by kind");
    let invalid = outcomes.iter().filter(|(kind, _)| *kind != "handled");
    let invalid = invalid.map(|(_, count)| count.as_u64().expect("a count"));
    Told::by(&report, invalid.sum())
}

#[test]
fn faults_between_processes_are_reported_as_the_proxy_counted_them() {
    let faults = [
        "--loss=1/1000",
        "--duplicate=1/2000",
        "--reorder=1/500",
        "--distance=9",
        "--corrupt=1/5000",
        "--damage=repaired",
        "--seed=7",
    ];
    let [(sink, to), (proxy, addr)] = chain(Transport::Udp, &faults);
    // Each sender is a flow with faults of its own.
    let mut streams = [0, 1].map(|number| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        (socket, Stream::miss(Generation::Legacy, number))
    });
    for sequence in 0..50_000 {
        for (socket, stream) in &mut streams {
            socket
                .send_to(stream.stamped(sequence), addr)
                .expect("loopback");
        }
        // Whatever the limits of buffers are here, none is ever full.
        if sequence % AT_ONCE == 0 {
            wait_until("empty receive queues", || {
                queued(addr) == 0 && queued(to) == 0
            });
        }
    }
    let total = stop(proxy);
    assert_eq!(
        (number(&total, "dropped"), number(&total, "refused")),
        (0, 0),
        "{total}"
    );
    assert_eq!(number(&total, "flows"), 2);
    wait_until("an empty receive queue", || queued(to) == 0);
    let counts = counts(&total);
    assert_eq!(
        (counts.received, counts.lost, counts.duplicated),
        (100_000, 100, 50)
    );
    assert_eq!(
        (
            counts.reordered,
            counts.reorder_distance_max,
            counts.corrupted
        ),
        (200, 9, 20)
    );
    assert_eq!(told(&stop(sink)), Told::of(&counts));
}

#[test]
fn faults_on_frames_of_a_stream_are_reported_as_the_proxy_counted_them() {
    let faults = [
        "--loss=0.001",
        "--duplicate=0.002",
        "--reorder=0.003",
        "--corrupt=0.004",
        "--delay=5",
    ];
    let [(sink, _), (proxy, addr)] = chain(Transport::Tcp, &faults);
    let mut stream = Stream::miss(Generation::Modern, 0);
    let mut socket = TcpStream::connect(addr).expect("loopback");
    let mut bytes = Vec::new();
    for sequence in 0..100_000 {
        bytes.extend_from_slice(stream.stamped(sequence));
        if bytes.len() > 60_000 {
            socket.write_all(&bytes).expect("the proxy reads on");
            bytes.clear();
        }
    }
    socket.write_all(&bytes).expect("the proxy reads on");
    drop(socket);
    let total = stop(proxy);
    let counts = counts(&total);
    assert_eq!(
        (counts.received, number(&total, "kept_back")),
        (100_000, 0),
        "{total}"
    );
    assert!(counts.lost > 50 && counts.corrupted > 300, "{total}");
    let total = stop(sink);
    assert_eq!(number(&total, "partial"), 0, "{total}");
    assert_eq!(told(&total), Told::of(&counts));
}

#[test]
fn a_stream_cut_in_a_frame_ends_there_for_both() {
    let mut stream = Stream::miss(Generation::Modern, 0);
    let frame_len = stream.stamped(0).len();
    let cut_after = format!("--reset-after={}", 1000 * frame_len + 10);
    let [(sink, _), (proxy, addr)] = chain(Transport::Tcp, &[&cut_after]);
    let mut socket = TcpStream::connect(addr).expect("loopback");
    // It ends with an error as soon as the reset is here, or its write never finds room again.
    let sent = (0..1_000_000).try_for_each(|sequence| socket.write_all(stream.stamped(sequence)));
    let error = sent.expect_err("it was cut");
    let kinds = [
        std::io::ErrorKind::ConnectionReset,
        std::io::ErrorKind::BrokenPipe,
    ];
    assert!(kinds.contains(&error.kind()), "{error}");
    let total = stop(proxy);
    assert_eq!(
        (number(&total, "cut"), number(&total, "kept_back")),
        (1, 1),
        "{total}"
    );
    let total = stop(sink);
    let told = told(&total);
    assert_eq!((told.unique, told.damaged), (1000, 0), "{total}");
    assert_eq!(number(&total, "partial"), 1, "{total}");
}

#[test]
fn a_load_through_faults_arrives_as_the_proxy_counted_it() {
    let scratch = Scratch::new("faults-load");
    let config = "listen = bin:127.0.0.1:0\nloadmodule \"usrloc.so\"\nmodparam(\"binrush\", \"allow\", \"127.0.0.0/8\")\n\
                  modparam(\"binrush\", \"probe\", \"ul\")\n";
    let config = scratch.file("probe.cfg", config.as_bytes());
    // On several shards, none of which sees all numbers, who overtook whom would be known only in part.
    let args = [
        "serve",
        "--config",
        &config,
        "--shards=1",
        "--json",
        "--stats=0",
    ];
    let mut server = Running::start(&args);
    let to = format!("udp:{}", listens(&server.event("ready")));
    let faults = [
        "--loss=1/400",
        "--duplicate=1/300",
        "--reorder=1/200",
        "--corrupt=1/100",
        "--damage=repaired",
        "--seed=11",
    ];
    let proxy = ["proxy", "--json", "--to", &to];
    let (proxy, addr) = bench(&[&proxy[..], &faults].concat());

    // Nobody answers through the proxy, so what the load itself would call its loss says nothing: the count stands still.
    let mut load = Command::new(compare::binary());
    load.args(["load", "contacts", "--rate=5k", "--seconds=4"])
        .arg(format!("--to=udp:{addr}"))
        .args([
            "--count=echo 0",
            "--senders=2",
            "--skip-self-test",
            "--json",
        ]);
    let load = Running::start_command(load).finish().exits(1);
    let result = serde_json::from_slice::<Value>(&load.stdout).expect("a result");
    let trial = &result["trials"][0];
    let senders = trial["senders"].as_array().expect("senders");
    let sent: u64 = senders.iter().map(|sender| number(sender, "sent")).sum();
    assert!(sent > 10_000, "{result}");

    let total = stop(proxy);
    assert_eq!(number(&total, "dropped"), 0, "{total}");
    assert_eq!(number(&total, "flows"), 2);
    let counts = counts(&total);
    assert_eq!(counts.received, sent);
    // Exact, but for what is begun of a sender's last so many.
    let per = |n: u64| (sent / n).saturating_sub(2)..=sent / n + 2;
    assert!(per(400).contains(&counts.lost), "{total}");
    assert!(per(300).contains(&counts.duplicated), "{total}");
    assert!(per(100).contains(&counts.corrupted), "{total}");
    let total = stop(server);
    assert_eq!(told(&total), Told::of(&counts), "{total}");
    // Some damage hits the name, or a length, and some the stamp only.
    let report: Report = serde_json::from_value(total["probe"].clone()).expect("a report");
    let damaged = report.damaged_total();
    let unknown = number(&total["outcomes"], "unknown_name");
    assert!(
        damaged > 0 && unknown > 0 && damaged + unknown <= counts.corrupted,
        "{total}"
    );
}

#[test]
fn datagrams_that_nobody_received_make_the_counts_worthless() {
    // An address that nobody else uses, so that nobody else is given the port when it is free again.
    let receiver = UdpSocket::bind("127.77.4.2:0").expect("loopback");
    let to = format!("udp:{}", receiver.local_addr().expect("bound"));
    drop(receiver);
    let (mut proxy, addr) = bench(&["proxy", "--json", "--to", &to]);
    let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for _ in 0..10 {
        sender.send_to(&[0; 20], addr).expect("loopback");
    }
    proxy.signal("TERM");
    let total = proxy.event("total");
    assert_eq!(counts(&total).forwarded, 10);
    assert!(number(&total, "refused") > 0, "{total}");
    proxy.finish().exits(3);
}

#[test]
fn who_asks_twice_does_not_wait_for_a_receiver_that_does_not_read() {
    let receiver = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let to = format!("tcp:{}", receiver.local_addr().expect("bound"));
    let (proxy, addr) = bench(&["proxy", "--json", "--listen=tcp:127.0.0.1:0", "--to", &to]);
    let mut sender = TcpStream::connect(addr).expect("loopback");
    let _unread = receiver.accept().expect("the proxy connects");
    let limit = Some(Duration::from_millis(300));
    sender.set_write_timeout(limit).expect("above zero");
    let mut stream = Stream::miss(Generation::Modern, 0);
    let frames = stream.stamped(0).repeat(500);
    while sender.write_all(&frames).is_ok() {}

    let start = Instant::now();
    proxy.signal("TERM");
    thread::sleep(Duration::from_millis(1500));
    proxy.signal("TERM");
    let finished = proxy.finish().exits(3);
    // Asked once, it waits for ten seconds.
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(finished.text(), "");
}

const RUN: u16 = 12;

/// Packets of each of two senders that are under way at the same time: fewer than the smallest buffer has room for.
const AT_ONCE: u64 = 64;
