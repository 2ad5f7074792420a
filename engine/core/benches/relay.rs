//! What a relay costs a shard for each packet, and the relay's thread for each packet and target.
//!
//! ```text
//!   shard   handler took it ─▶ [Tap: a copy into the ring]                   however many targets
//!   thread  ring ─▶ [looked at ─▶ as it is, or written anew ─▶ sendmmsg]     for each target
//! ```
//!
//! A program of its own: the processor time of the relay's thread counts, and that of the kernel behind `sendmmsg(2)` is most of
//! it. The targets are sockets of loopback that nobody reads from, so what they cannot take is dropped by the kernel, as behind a
//! network it would be somewhere else; each packet that the relay made was taken by the kernel. Prints a table.

use std::env;
use std::fs;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use binrush_engine::relay::{Planned, TargetConfig};
use binrush_engine::{Ends, Origin, ShardId, WallClock};
use binrush_store::model::Contact;
use binrush_store::{Record, write};
use binrush_wire::{Generation, Packet, Release, Trailer};

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let is_trial = env::args().any(|argument| argument == "--test");
    let packets = if is_trial { 2_000 } else { 100_000 };
    println!(
        "{:<14} {:>7} {:>9} {:>18} {:>26} {:>8}",
        "packets", "targets", "bytes", "shard ns/packet", "thread ns/packet/target", "dropped"
    );
    for (label, from) in [
        ("as they are", Release::V1x),
        ("written anew", Release::V3_6),
    ] {
        for targets in [1, 3] {
            relay(label, from, targets, packets);
        }
    }
}

fn relay(label: &str, from: Release, targets: usize, packets: usize) {
    let sockets: Vec<_> = (0..targets)
        .map(|_| UdpSocket::bind("127.42.8.2:0").expect("loopback"))
        .collect();
    let configs = sockets.iter().map(|socket| TargetConfig {
        to: format!("bin:{}", socket.local_addr().expect("bound"))
            .parse()
            .expect("an endpoint"),
        release: Release::V1x,
        ids: Trailer::new(0, 0, 0),
        queue_bytes: 1 << 20,
        from_cluster: None,
        bind: None,
        sockets: Arc::default(),
    });
    let planned = Planned::new(configs.collect(), 1).expect("a bell");
    let mut tap = planned.taps()(ShardId(0)).expect("the first to ask");
    let wall = Arc::new(WallClock::system());
    let relay = planned.start(&[], None, wall);
    // Each once: of 1.x, what comes again and again is taken for a loop.
    let made: Vec<_> = (0..packets).map(|n| contact(n, from)).collect();
    let origin = match from.generation() {
        Generation::Legacy => Origin::Datagram(None),
        generation => Origin::Stream {
            ends: Ends::new(([127, 42, 8, 1], 40_000).into(), None),
            generation,
            release: Some(from),
        },
    };
    let before = begun_thread_ns();
    let mut on_shard = Duration::ZERO;
    for some in (0..packets).collect::<Vec<_>>().chunks(64) {
        let began = Instant::now();
        for n in some {
            let bytes = &made[*n];
            let packet = Packet::parse(origin.generation(), bytes).expect("a packet");
            tap.accepted(&origin, &packet);
        }
        tap.batch_done();
        on_shard += began.elapsed();
        // As fast as the thread goes: what is measured is its work, not its overflow.
        while relay.snapshot()[0].waiting > 1024 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    while relay.snapshot()[0].waiting > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let busy = thread_ns().expect("it was there") - before;
    let ends = relay.stop(Duration::from_secs(1));
    assert!(
        ends.iter().all(|end| end.is_balanced() && end.waiting == 0),
        "{ends:?}"
    );
    let gone: u64 = ends.iter().map(|end| end.sent).sum();
    assert_eq!(ends[0].accepted, packets as u64);
    println!(
        "{label:<14} {targets:>7} {:>9} {:>18} {:>26} {:>8}",
        made[0].len(),
        on_shard.as_nanos() / packets as u128,
        u128::from(busy) / u128::from(gone.max(1)),
        ends[0].dropped
    );
    assert!(gone > 0, "{ends:?}");
}

/// A contact as a node of that release tells it.
fn contact(n: usize, release: Release) -> Vec<u8> {
    let aor = format!("subscriber-{n}@example.org");
    let uri = format!("sip:{aor};transport=udp;ob");
    let record = Record::Contact(Contact {
        domain: b"location",
        aor: aor.as_bytes(),
        uri: uri.as_bytes(),
        id: Some((n as u64) << 14),
        callid: uri.as_bytes(),
        user_agent: b"Some phone of some maker 1.2.3",
        socket: b"udp:192.0.2.1:5060",
        expires: 4_000_000_000,
        ..Contact::default()
    });
    let mut buffer = [0; 1024];
    let mut packet = write::packet(&record, release, 0, 0, &mut buffer).expect("it fits");
    if release.generation() == Generation::Modern {
        packet.push_trailer(Trailer::new(1, 3, 1)).expect("it fits");
    }
    packet.seal().to_vec()
}

/// As [`thread_ns`], of a thread that was just started: it gives itself its name, once it runs.
fn begun_thread_ns() -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match thread_ns() {
            Some(ns) => return ns,
            None => assert!(Instant::now() < deadline, "no thread called relay"),
        }
        std::thread::yield_now();
    }
}

/// Processor time of the relay's thread so far, in nanoseconds; the first field of its schedstat (Linux
/// `Documentation/scheduler/sched-stats.rst`). `None`: there is no thread of that name.
fn thread_ns() -> Option<u64> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let of_relay = |path: &std::path::Path| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        (name.trim() == "relay").then(|| fs::read_to_string(path.join("schedstat")).ok())?
    };
    let stat = tasks.flatten().find_map(|task| of_relay(&task.path()))?;
    let first = stat.split(' ').next().expect("three fields");
    Some(first.parse().expect("a number"))
}
