//! What events cost a shard: contacts of 1.11 are refreshed, with nobody who tells of it, with nobody who wants to know, and with
//! 100 000 events in a second to one subscriber over UDP.
//!
//! ```text
//!   shard   [datagrams ─▶ recvmmsg ─▶ Packet::parse ─▶ TypedReplica ─▶ Store ─▶ Records ─▶ a copy into the ring]
//!   thread  "events": ring ─▶ text ─▶ sendto
//! ```
//!
//! A program of its own: time is that of the processor for the shard's thread, kernel included, and the variants take turns, so that
//! what befalls the machine befalls all of them. The subscriber is a socket that nobody reads from: what it cannot take, the kernel
//! drops, as behind a network it would be somewhere else. Each event has to have been taken by the kernel. Prints a table.

use std::env;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use binrush_engine::cluster::replica::{Replica as _, Source};
use binrush_engine::event::{Bus, Expire, Form, Records};
use binrush_engine::store::TypedReplica;
use binrush_engine::{Clock as _, MonotonicClock, ShardId, Verdict, WallClock};
use binrush_net::{Batch, OpenQueue as _, RecvMmsg, RxQueue as _, Slab, UdpOptions};
use binrush_store::model::Contact;
use binrush_store::{Family, Limits, Record, Store, write};
use binrush_wire::{Generation, Packet, Release};
use nix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let is_trial = env::args().any(|argument| argument == "--test");
    let (contacts, turns) = if is_trial { (256, 2) } else { (100_000, 40) };
    let mut variants = [
        Variant::new("no events", Told::No, contacts),
        Variant::new("nobody subscribed", Told::Nobody, contacts),
        Variant::new("one subscriber, text", Told::One(Form::Text), contacts),
        Variant::new(
            "one subscriber, JSON-RPC",
            Told::One(Form::JsonRpc),
            contacts,
        ),
    ];
    let mut shard = Shard::new();
    for turn in 0..turns {
        for variant in &mut variants {
            let ns = shard.turn(variant, turn, contacts);
            variant.samples.push(ns);
        }
    }
    println!(
        "{:<26} {:>16} {:>9} {:>12} {:>12}",
        "", "ns/packet (med.)", "growth", "events sent", "dropped"
    );
    let base = median(&mut variants[0].samples);
    for mut variant in variants {
        let ns = median(&mut variant.samples);
        let (sent, dropped) = variant.ends();
        println!(
            "{:<26} {ns:>16.1} {:>8.1}% {sent:>12} {dropped:>12}",
            variant.label,
            (ns / base - 1.0) * 100.0
        );
    }
}

/// Who tells of changes, and to whom.
#[derive(Debug, Clone, Copy)]
enum Told {
    No,
    Nobody,
    One(Form),
}

/// A store of its own, and who tells of it.
struct Variant {
    label: &'static str,
    replica: TypedReplica<Option<Records>>,
    bus: Option<Bus>,
    _subscriber: UdpSocket,
    /// Nanoseconds of a packet, by turn.
    samples: Vec<f64>,
    packets: u64,
}

/// Where datagrams come in.
struct Shard {
    queue: RecvMmsg,
    slab: Slab,
    batch: Batch,
    to: std::net::SocketAddr,
    sender: UdpSocket,
}

impl Variant {
    fn new(label: &'static str, told: Told, contacts: u32) -> Self {
        let subscriber = UdpSocket::bind("127.42.8.3:0").expect("loopback");
        let bus = match told {
            Told::No => None,
            Told::Nobody | Told::One(_) => Some(Bus::new(Form::Text).expect("a bell")),
        };
        if let (Some(bus), Told::One(form)) = (&bus, told) {
            let socket = format!("udp:{}", subscriber.local_addr().expect("bound"));
            bus.subscribe("E_UL_CONTACT_UPDATE", &socket, Expire::Never, Some(form))
                .expect("it is known");
        }
        if let Some(bus) = &bus {
            bus.start().expect("a thread");
        }
        let records = bus.as_ref().map(|bus| Records::new(bus.source()));
        let store = Store::new(Family::Usrloc, Limits::default());
        let wall = Arc::new(WallClock::system());
        let mut variant = Self {
            label,
            replica: TypedReplica::over("usrloc-contact-repl", store, wall, records),
            bus,
            _subscriber: subscriber,
            samples: Vec::new(),
            packets: 0,
        };
        for number in 0..contacts {
            variant.apply(&packet(number, 0));
        }
        variant.packets = 0;
        variant
    }

    fn apply(&mut self, datagram: &[u8]) {
        let source = Source {
            cluster: 1,
            node: 0,
            shard: ShardId(0),
            release: Release::V1x,
            now: MonotonicClock.now(),
        };
        self.packets += 1;
        let packet = Packet::parse(Generation::Legacy, datagram).expect("a packet");
        assert_eq!(self.replica.apply(&source, &packet), Verdict::Handled);
    }

    /// Events that the kernel took, and those for which there was no room.
    fn ends(&self) -> (u64, u64) {
        let Some(bus) = &self.bus else {
            return (0, 0);
        };
        let end = bus.stop(Duration::from_secs(5));
        assert!(end.is_balanced(), "{end:?}");
        let sent = end.subscribers.iter().map(|each| each.sent).sum();
        if !end.subscribers.is_empty() {
            assert_eq!(
                sent + end.dropped,
                self.packets,
                "one event for each packet"
            );
        }
        (sent, end.dropped)
    }
}

impl Shard {
    fn new() -> Self {
        let to = "127.42.8.2:0".parse().expect("an address");
        let socket = binrush_net::UdpSocket::bind(to, &UdpOptions::default()).expect("loopback");
        let to = socket.local_addr().expect("bound");
        Self {
            queue: RecvMmsg::open(Arc::new(socket), usize::from(BATCH)).expect("recvmmsg"),
            slab: Slab::new(usize::from(BATCH) * 2).expect("memory"),
            batch: Batch::new(usize::from(BATCH)),
            to,
            sender: UdpSocket::bind("127.42.8.1:0").expect("loopback"),
        }
    }

    /// Each packet of a turn once, at a steady rate; nanoseconds of the processor for each.
    fn turn(&mut self, variant: &mut Variant, turn: u32, contacts: u32) -> f64 {
        let (mut spent, mut came) = (Duration::ZERO, 0_u32);
        let begin = Instant::now();
        let packets = PACKETS.min(contacts);
        // Contacts far from each other, as subscribers are.
        let number = |n: u32| n.wrapping_mul(7919).wrapping_add(turn * PACKETS) % contacts;
        while came < packets {
            for n in came..(came + u32::from(BATCH)).min(packets) {
                let packet = packet(number(n), turn + 1);
                self.sender.send_to(&packet, self.to).expect("loopback");
            }
            let due = begin + Duration::from_nanos(u64::from(came) * 1_000_000_000 / RATE);
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let before = thread_time();
            self.queue
                .recv(&mut self.slab, &mut self.batch)
                .expect("it is ours");
            for datagram in self.batch.datagrams(&self.slab) {
                variant.apply(datagram.bytes);
                came += 1;
            }
            self.batch.release(&mut self.slab);
            spent += thread_time() - before;
        }
        spent.as_nanos() as f64 / f64::from(packets)
    }
}

/// A refresh of a contact, as 1.11 tells it.
fn packet(number: u32, turn: u32) -> Vec<u8> {
    let aor = format!("subscriber-{number:08}");
    let uri = format!(
        "sip:{aor}@10.{}.{}.7:5060;transport=udp",
        number >> 8 & 255,
        number & 255
    );
    let callid = format!("{number:08x}-5b2c-4f1e@10.0.0.7");
    let record = Record::Contact(Contact {
        domain: b"location",
        aor: aor.as_bytes(),
        uri: uri.as_bytes(),
        callid: callid.as_bytes(),
        user_agent: b"Some phone of some maker 1.2.3",
        socket: b"udp:192.0.2.1:5060",
        expires: 4_000_000_000,
        cseq: i32::try_from(turn).expect("few turns"),
        ..Contact::default()
    });
    let mut buffer = [0; 1024];
    let mut packet = write::packet(&record, Release::V1x, 0, 0, &mut buffer).expect("it fits");
    packet.seal().to_vec()
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux");
    now.into()
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Packets of a turn.
const PACKETS: u32 = 10_000;

/// Of one receive.
const BATCH: u8 = 64;

/// Packets in a second, each of which is an event.
const RATE: u64 = 100_000;
