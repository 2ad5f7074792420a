//! Trains of datagrams as a flow: `UDP_SEGMENT` on one core, the receiver on another.
//!
//! One send carries up to 64 datagrams, so this sender is faster than any receiver that takes datagrams one by one,
//! and about as fast as one that takes trains whole. So its queue is looked at a hundred times a second: one that was
//! often empty was not saturated, its figure holds the time that it spun waiting, and is only an upper bound. Loss does
//! not tell: some comes whenever the receiver's core does something else for a moment.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::drain::connect;
use super::kernel::Mark;
use super::packets::Packets;
use crate::patience::Patience;
use crate::receiver::Receiver;

/// What a flow was, before the receiver has told its count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// How the kernel's counts stood before it.
    pub(super) mark: Mark,
    /// Packets in the flow, and before it to warm up; of the latter none was lost.
    pub(super) sent: u64,
    pub(super) warm: u64,
    pub(super) cpu_ns: u64,
    pub(super) wall: Duration,
    /// Share of the looks at the queue that found it behind.
    pub(super) backlog: f64,
}

/// Sends `packets` to `receiver` for `time`, as fast as it goes. Call it on the core of the sender. A queue of
/// `backlog_min` bytes or more is behind.
pub(super) fn run(
    receiver: &mut Receiver,
    packets: &Packets,
    time: Duration,
    backlog_min: u64,
    patience: &Patience,
) -> anyhow::Result<Flow> {
    let sender = connect(receiver.addr())?;
    let segment = i32::try_from(packets.size()).context("packets are small")?;
    setsockopt(&sender, sockopt::UdpGsoSegment, &segment)
        .context("this kernel sends no trains (UDP_SEGMENT, Linux 4.18)")?;
    let segments = (DATAGRAM_LEN_MAX / packets.size()).min(SEGMENTS_MAX);
    let mut trains = packets.trains(segments);
    let warm = send_train(&sender, &mut trains, packets.size())?;
    receiver.wait_idle()?;
    receiver.look_again()?;
    let mark = Mark::of(receiver)?;

    let cpu_before: u64 = receiver.cpu_ns()?.iter().sum();
    let start = Instant::now();
    let mut sent = 0;
    let (mut looks, mut behind) = (0_u32, 0_u32);
    while start.elapsed() < time {
        patience.check()?;
        if start.elapsed() >= LOOK_EVERY * (looks + 1) {
            looks += 1;
            behind += u32::from(
                receiver
                    .queues()?
                    .iter()
                    .any(|queue| queue.bytes >= backlog_min),
            );
        }
        for _ in 0..TRAINS_PER_LOOK {
            sent += send_train(&sender, &mut trains, packets.size())?;
        }
    }
    receiver.wait_idle()?;
    let wall = start.elapsed();
    let cpu_ns = receiver.cpu_ns()?.iter().sum::<u64>() - cpu_before;
    ensure!(cpu_ns > 0, "the receiver did nothing");
    Ok(Flow {
        mark,
        sent,
        warm,
        cpu_ns,
        wall,
        backlog: f64::from(behind) / f64::from(looks.max(1)),
    })
}

/// Sends the next train; says how many packets went out.
fn send_train<'a>(
    sender: &UdpSocket,
    trains: &mut impl Iterator<Item = &'a [u8]>,
    size: usize,
) -> anyhow::Result<u64> {
    let train = trains.next().expect("they come round again");
    loop {
        match sender.send(train) {
            Ok(len) => return Ok((len / size) as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot send a train"),
        }
    }
}

/// What one send can carry (IPv4), and the datagrams that every kernel with trains takes in one.
const DATAGRAM_LEN_MAX: usize = 65_507;
const SEGMENTS_MAX: usize = 64;

/// Between two looks at the queue.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Between two looks at the clock.
const TRAINS_PER_LOOK: usize = 16;
