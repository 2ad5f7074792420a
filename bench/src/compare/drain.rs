//! Filling queues while nobody reads, then measuring how they are drained.
//!
//! ```text
//!   receiver  asleep ── SIGSTOP ─┐                         ┌─ SIGCONT ── drains ── spins a little ── asleep
//!   sender                       └─ fills the queue, ends ─┘
//!   clock of the receiving thread                         read                                       read
//! ```
//!
//! So the sender takes nothing from the receiver while it is measured, and a sender that is slower than the receiver
//! (each plain datagram costs it 3 us) does not measure itself. What waking up, the spinning at the end and going to
//! sleep cost, is measured apart, by drains of one packet, and their median is taken off: a single one can be off by the
//! length of an interrupt, and would be multiplied by the number of fills.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::packets::Packets;
use super::report::Sample;
use crate::receiver::Receiver;

/// What to fill queues with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filling<'a> {
    pub(super) packets: &'a Packets,
    /// How many of them to drain, at least.
    pub(super) count: u64,
    /// What the receiver's buffer was granted, in bytes as they are asked for.
    pub(super) rcvbuf: usize,
    /// The cores to send from, in turns; the first is also where the end is waited for. A packet's memory belongs to
    /// the core that sent it, and goes back there when it was received on another: that core pays for it.
    pub(super) cores: &'a [usize],
}

/// One drain, or several together.
#[derive(Debug, Clone, Copy, Default)]
struct Drained {
    drains: u64,
    sent: u64,
    lost: u64,
    /// Of all receiving threads, and of the one that took most.
    cpu_ns: u64,
    busiest_ns: u64,
    wall: Duration,
}

/// Lets `receiver` drain what `filling` says: what fits into its queues at a time, as often as it takes.
///
/// Call it in a thread of its own, which is pinned. The counts of the sample are of everything that was sent, also to
/// warm up.
pub(super) fn measure(receiver: &mut Receiver, filling: Filling<'_>) -> anyhow::Result<Sample> {
    let sender = connect(receiver.addr())?;
    let mut stream = filling.packets.cycle();
    let limit = if receiver.is_ours() {
        queue_limit(filling.rcvbuf)
    } else {
        room(receiver, &sender, &mut stream, filling)?
    };
    let warm_up = filling.count.min(WARM_UP);
    let mut drain = |receiver: &Receiver, count| {
        once(
            receiver,
            &sender,
            &mut stream,
            limit,
            Filling { count, ..filling },
        )
    };
    let first = drain(receiver, warm_up)?;
    receiver.look_again()?;
    let mut drain = |count| drain(receiver, count);
    let mut alone = Drained::default();
    let mut alone_ns = [0; SINGLES];
    for cpu_ns in &mut alone_ns {
        let one = drain(1)?;
        *cpu_ns = one.cpu_ns;
        alone.add(one);
    }
    alone_ns.sort_unstable();
    let mut all = Drained::default();
    while all.sent - all.lost < filling.count {
        let one = drain(filling.count - (all.sent - all.lost))?;
        ensure!(one.sent > one.lost, "nothing came through");
        all.add(one);
    }
    let received = all.sent - all.lost;
    // As many packets as drains are taken off with what waking up for one cost.
    let idle_ns = all.drains * alone_ns[SINGLES / 2];
    let work_ns = all.cpu_ns.saturating_sub(idle_ns);
    let counted = received.saturating_sub(all.drains);
    ensure!(
        counted > 0 && work_ns > 0,
        "too few packets fit into the queue to measure anything"
    );
    Ok(Sample {
        ns_per_packet: work_ns as f64 / counted as f64,
        pps: received as f64 / all.wall.as_secs_f64(),
        pps_by_clock: received as f64 / (all.busiest_ns as f64 / 1e9),
        sent: first.sent + alone.sent + all.sent,
        lost: first.lost + alone.lost + all.lost,
        fills: all.drains,
        idle: idle_ns as f64 / all.cpu_ns as f64,
        backlog: 1.0,
        ..Sample::default()
    })
}

impl Drained {
    fn add(&mut self, other: Self) {
        self.drains += other.drains;
        self.sent += other.sent;
        self.lost += other.lost;
        self.cpu_ns += other.cpu_ns;
        self.busiest_ns += other.busiest_ns;
        self.wall += other.wall;
    }
}

/// Parks, fills, releases, waits for the end.
fn once<'a>(
    receiver: &Receiver,
    sender: &UdpSocket,
    stream: &mut impl Iterator<Item = &'a [u8]>,
    limit: u64,
    filling: Filling<'_>,
) -> anyhow::Result<Drained> {
    receiver.park()?;
    let drops_before = receiver.drops()?;
    let sent = fill(receiver, sender, stream, limit, filling)?;
    let lost = receiver.drops()?.wrapping_sub(drops_before);
    let cpu_before = receiver.cpu_ns()?;
    let start = Instant::now();
    receiver.resume()?;
    // One of the shards may have to share its core with who waits: no looking before it can be over.
    thread::sleep(SOONEST.mul_f64(sent as f64));
    receiver.wait_drained()?;
    let wall = start.elapsed();
    receiver.wait_idle()?;
    let cpu_after = receiver.cpu_ns()?;
    let spent = || {
        cpu_after
            .iter()
            .zip(&cpu_before)
            .map(|(after, before)| after - before)
    };
    Ok(Drained {
        drains: 1,
        sent,
        lost: lost.into(),
        cpu_ns: spent().sum(),
        busiest_ns: spent().max().unwrap_or(0),
        wall,
    })
}

/// Up to where the queue of a stranger can be filled, which tells nothing of its buffer: until it drops.
fn room<'a>(
    receiver: &Receiver,
    sender: &UdpSocket,
    stream: &mut impl Iterator<Item = &'a [u8]>,
    filling: Filling<'_>,
) -> anyhow::Result<u64> {
    let most = queue_limit(filling.rcvbuf);
    receiver.park()?;
    let drops_before = receiver.drops()?;
    let mut bytes = 0;
    while bytes < most && receiver.drops()? == drops_before {
        for packet in stream.by_ref().take(ROOM_CHUNK) {
            sender.send(packet).context("cannot send")?;
        }
        let queues = receiver.queues()?;
        bytes = queues.iter().map(|queue| queue.bytes).max().unwrap_or(0);
        ensure!(
            bytes > 0,
            "nothing is queued for it: it does not receive on loopback"
        );
    }
    receiver.resume()?;
    receiver.wait_idle()?;
    Ok(bytes.min(most) / 10 * 9)
}

/// Sends until all are out or a queue is as full as `limit`, in bytes of the kernel; says how many that were.
fn fill<'a>(
    receiver: &Receiver,
    sender: &UdpSocket,
    stream: &mut impl Iterator<Item = &'a [u8]>,
    limit: u64,
    filling: Filling<'_>,
) -> anyhow::Result<u64> {
    // Between two looks at the queue a hundredth of the limit may come, or one packet.
    let each = (TRUESIZE_MAX_FACTOR * filling.packets.size() + TRUESIZE_OVERHEAD) as u64;
    let chunk = (limit / 100 / each).clamp(1, CHUNK_MAX);
    let mut cores = filling.cores.iter().cycle();
    let mut sent = 0;
    while sent < filling.count {
        let fullest = receiver.queues()?.iter().map(|queue| queue.bytes).max();
        if fullest.unwrap_or(0) >= limit {
            break;
        }
        cores.next().map_or(Ok(()), |core| run_on(*core))?;
        for packet in stream
            .by_ref()
            .take(chunk.min(filling.count - sent) as usize)
        {
            sender.send(packet).context("cannot send")?;
            sent += 1;
        }
    }
    filling.cores.first().map_or(Ok(()), |core| run_on(*core))?;
    Ok(sent)
}

/// Moves the calling thread to `core`, as often as one likes.
fn run_on(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores
        .set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores))
        .with_context(|| format!("cannot send from core {core}"))
}

/// A socket of its own source port: all packets of one measurement come from one address.
pub(super) fn connect(to: SocketAddr) -> anyhow::Result<UdpSocket> {
    let sender = UdpSocket::bind("127.0.0.1:0").context("cannot open a socket to send")?;
    sender
        .connect(to)
        .context("cannot connect to the receiver")?;
    Ok(sender)
}

/// Up to where a queue is filled: the kernel charges twice what is asked for (socket(7)), and drops from there on.
pub(super) fn queue_limit(rcvbuf: usize) -> u64 {
    2 * rcvbuf as u64 / 100 * 95
}

/// Packets before anything is measured: code and tables are in the cache then.
const WARM_UP: u64 = 1000;

/// Drains of one packet; the median of so many is not moved by two that were disturbed.
const SINGLES: usize = 5;

/// What a datagram of `size` bytes takes in a queue at most: its memory is rounded up to a power of two.
const TRUESIZE_MAX_FACTOR: usize = 2;
const TRUESIZE_OVERHEAD: usize = 1280;

const CHUNK_MAX: u64 = 500;

/// The smallest buffer that the kernel gives holds more, and looking each time takes no longer than a second.
const ROOM_CHUNK: usize = 4;

/// What a packet takes at least, with two shards at work: no receiver of lone datagrams is as fast.
const SOONEST: Duration = Duration::from_nanos(150);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_thousand_datagrams_of_any_usual_size_fit_into_64_mib() {
        // What each takes on Linux 6.18.
        for truesize in [768, 1280, 2304] {
            assert!(50_000 * truesize < queue_limit(64 << 20), "{truesize}");
        }
    }

    #[test]
    fn the_limit_leaves_room_for_what_comes_between_two_looks() {
        for rcvbuf in [106_496, 4 << 20, 64 << 20] {
            let limit = queue_limit(rcvbuf);
            let look = limit / 100 + (TRUESIZE_MAX_FACTOR * 1400 + TRUESIZE_OVERHEAD) as u64;
            assert!(limit + look < 2 * rcvbuf as u64);
        }
    }
}
