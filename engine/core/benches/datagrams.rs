//! What a datagram costs a shard, from the kernel's queue to its counter, and what it costs more to ask where it came from.
//!
//! ```text
//!   cargo bench -p binrush-engine --bench datagrams          all ways in turns, some seconds
//!   cargo bench -p binrush-engine --bench datagrams -- 31    so many rounds
//! ```
//!
//! 20 000 packets of 200 bytes are queued, then one shard receives, parses, handles and counts them: processor time of its thread.
//! *Memory* is a queue without a kernel, which shows the shard alone. Each way takes its turn in each round, so that what drifts
//! drifts for all.

use std::io;
use std::net::{SocketAddr, UdpSocket as Peer};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use binrush_engine::shard::mailbox::Mailbox;
use binrush_engine::shard::outbox::Outbox;
use binrush_engine::shard::streams::NoStreams;
use binrush_engine::shard::{Parts, Shard};
use binrush_engine::{Context, MonotonicClock, Outcome, Registry, ShardId, Steering, Verdict};
use binrush_net::{
    Batch, Bell, OpenQueue, RecvMmsg, RxQueue, SendMmsg, Slab, UdpOptions, UdpSocket, Uring,
};
use binrush_wire::{Builder, Generation, Packet};
use nix::time::{ClockId, clock_gettime};

/// One way to bring a burst to a shard: nanoseconds that it took for each datagram.
type Run = fn(&[u8], Ask) -> io::Result<f64>;

/// Whether sources are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    No,
    Yes,
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(11);
    let packet = packet();
    let ways: [(&str, Run); 4] = [
        ("memory", by_memory),
        ("recvmmsg", |packet, ask| {
            by_kernel::<RecvMmsg>(packet, ask, false)
        }),
        ("recvmmsg, UDP_GRO", |packet, ask| {
            by_kernel::<RecvMmsg>(packet, ask, true)
        }),
        ("io_uring", |packet, ask| {
            by_kernel::<Uring>(packet, ask, false)
        }),
    ];
    let ways = ways.map(|(name, run)| [Ask::No, Ask::Yes].map(|ask| (name, run, ask)));
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); ways.as_flattened().len()];
    for _ in 0..rounds {
        for ((_, run, ask), figures) in ways.as_flattened().iter().zip(&mut figures) {
            figures.push(run(&packet, *ask)?);
        }
    }
    println!(
        "{:<20} {:>8} {:>8} {:>8}   ns of processor time per datagram",
        "", "least", "median", "most"
    );
    for ((name, _, ask), figures) in ways.as_flattened().iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        let name = match ask {
            Ask::No => (*name).to_owned(),
            Ask::Yes => "  with sources".to_owned(),
        };
        let [least, median, most] = [0, figures.len() / 2, figures.len() - 1].map(|at| figures[at]);
        println!("{name:<20} {least:>8.1} {median:>8.1} {most:>8.1}");
    }
    Ok(())
}

/// Through a socket on loopback.
fn by_kernel<Q: OpenQueue>(packet: &[u8], ask: Ask, gro: bool) -> io::Result<f64> {
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let rcvbuf = Some(64 << 20);
    let socket = UdpSocket::bind(here, &UdpOptions { rcvbuf, gro }).map_err(io::Error::other)?;
    let socket = Arc::new(socket);
    let peer = Peer::bind(here)?;
    peer.connect(socket.local_addr()?)?;
    let queue = Q::open(Arc::clone(&socket), BATCH)?;
    timed(queue, ask, || {
        (0..COUNT).try_for_each(|_| peer.send(packet).map(drop))?;
        match socket.drops()? {
            0 => Ok(()),
            drops => {
                let error =
                    format!("{drops} datagrams found no room: net.core.rmem_max is too small");
                Err(io::Error::other(error))
            }
        }
    })
}

/// Copied into frames, as the kernel does, with a source where one was asked for.
struct Memory<'p> {
    packet: &'p [u8],
    left: usize,
    source: Option<SocketAddr>,
}

fn by_memory(packet: &[u8], ask: Ask) -> io::Result<f64> {
    let queue = Memory {
        packet,
        left: COUNT,
        source: None,
    };
    timed(queue, ask, || Ok(()))
}

impl RxQueue for Memory<'_> {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        for _ in 0..self.left.min(batch.room()) {
            let Some(frame) = slab.take() else { break };
            slab.frame_mut(&frame)[..self.packet.len()].copy_from_slice(self.packet);
            let len = u32::try_from(self.packet.len()).map_err(io::Error::other)?;
            batch.push(frame, len, false);
            if self.source.is_some() {
                batch.came_from(self.source);
            }
            self.left -= 1;
        }
        Ok(())
    }

    fn ask_sources(&mut self) {
        self.source = Some(([192, 0, 2, 7], 40_000).into());
    }

    fn queued_bytes(&self) -> io::Result<u64> {
        Ok(self.left as u64)
    }

    fn disarm(&mut self, _: &mut Slab) {}

    fn wait(_: &mut [Self], _: Option<RawFd>, _: &Bell, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// Has `fill` queue a burst, and a shard take all of it.
fn timed<Q: RxQueue>(queue: Q, ask: Ask, fill: impl Fn() -> io::Result<()>) -> io::Result<f64> {
    let mut registry = Registry::new();
    let handled = |_: &mut Context<'_>, _: &Packet<'_>| Verdict::Handled;
    let registered = registry.register(b"dialog", move |_| handled);
    registered.map_err(io::Error::other)?;
    if ask == Ask::Yes {
        registry.ask_sources();
    }
    let table = Arc::new(registry.table());
    let (mut shard, ledger) = Shard::new(Parts {
        id: ShardId(0),
        queues: vec![queue],
        open: Box::new(|_| Err(io::ErrorKind::Unsupported.into())),
        outbox: Outbox::<SendMmsg>::new(None, None),
        clock: MonotonicClock,
        slab: Slab::new(2 * BATCH)?,
        batch: Batch::new(BATCH),
        steering: Steering::new(1, 7),
        mailbox: Mailbox::mesh(1)?.remove(0),
        dispatch: registry.build(ShardId(0), &table),
        streams: NoStreams::parts(),
    });
    // What is made at the first receive is made.
    shard.turn()?;
    let before_fill = ledger.counts().received;
    fill()?;
    let before = thread_time()?;
    while shard.turn()? {}
    let took = thread_time()? - before;
    let counts = ledger.counts();
    assert_eq!(counts.outcome(Outcome::Handled), COUNT as u64);
    Ok(took.as_nanos() as f64 / (counts.received - before_fill) as f64)
}

/// Processor time of this thread so far.
fn thread_time() -> io::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.into())
}

fn packet() -> Vec<u8> {
    let mut buffer = [0; 256];
    let builder = Builder::new(Generation::Legacy, &mut buffer, b"dialog", 2, 0);
    let mut builder = builder.expect("it fits");
    builder.push_str(b"4f1c-77@192.0.2.10").expect("it fits");
    builder.push_str(&[b'x'; 150]).expect("it fits");
    builder.seal().to_vec()
}

/// Datagrams of a burst.
const COUNT: usize = 20_000;

/// Datagrams per receive.
const BATCH: usize = 64;
