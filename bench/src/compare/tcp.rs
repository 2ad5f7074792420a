//! A stream of frames as fast as it goes: the sender on one core, the receiver on another.
//!
//! Nothing is lost, so what was sent is what was received; and a receiver of ours sleeps when there is nothing, so the
//! share of the time in which it did not is how close it was to being the limit.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::time::{ClockId, clock_gettime};

use super::contenders::Contender;
use super::frames::Frames;
use super::kernel::Processors;
use super::report::{Sample, TCP};
use super::{Bench, CALL_IDS, Case, on_core};
use crate::patience::Patience;
use crate::receiver::Receiver;

/// What a stream was, before the receiver has told its count.
#[derive(Debug, Clone, Copy)]
struct Stream {
    /// Frames in it, and before it to warm up.
    sent: u64,
    warm: u64,
    /// Of all receiving threads, of the one that took most, and of the sending one.
    cpu_ns: u64,
    busiest_ns: u64,
    sender_ns: u64,
    /// Of all processors.
    cpus_ns: f64,
    wall: Duration,
}

impl Bench<'_> {
    pub(super) fn tcp(&mut self, size: usize) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        let frames = Frames::new(size, CALL_IDS)?;
        let contenders = self.stream_receivers();
        let case = Case {
            scenario: TCP,
            size,
            rate: None,
        };
        self.in_turns(case, &contenders, |bench, contender| {
            bench.stream(contender, &frames)
        })
    }

    fn stream(&self, contender: &Contender, frames: &Frames) -> anyhow::Result<Sample> {
        let mut receiver = self.start(contender)?;
        let (time, patience) = (self.args.seconds, &self.patience);
        let stream = on_core(self.tx, || send(&mut receiver, frames, time, patience))?;
        let through = stream.warm + stream.sent;
        let received = receiver.count(frames.size())?.unwrap_or(through);
        ensure!(
            received == through,
            "it received {received} messages where {through} were sent, and nothing is lost on a stream"
        );
        let sent = stream.sent as f64;
        let wall_ns = stream.wall.as_nanos() as f64;
        Ok(Sample {
            ns_per_packet: stream.cpu_ns as f64 / sent,
            pps: sent / stream.wall.as_secs_f64(),
            pps_by_clock: sent / (stream.busiest_ns as f64 / 1e9),
            sent: stream.sent,
            backlog: (stream.busiest_ns as f64 / wall_ns).min(1.0),
            sender_ns: Some(stream.sender_ns as f64 / sent),
            cpus_ns: Some(stream.cpus_ns / sent),
            ..Sample::default()
        })
    }
}

/// Sends `frames` to `receiver` for `time`. Call it on the core of the sender.
fn send(
    receiver: &mut Receiver,
    frames: &Frames,
    time: Duration,
    patience: &Patience,
) -> anyhow::Result<Stream> {
    let mut stream = TcpStream::connect(receiver.addr()).context("cannot connect to it")?;
    stream.set_nodelay(true)?;
    // A receiver that stands still, or that ends without closing, must not stop us for ever.
    stream.set_write_timeout(Some(WRITE_MAX))?;
    let per_write = (WRITE_LEN / frames.size()).max(1) * frames.size();
    let mut writes = frames.bytes().chunks(per_write).cycle();
    let mut write = |stream: &mut TcpStream| -> anyhow::Result<u64> {
        let frames_bytes = writes.next().expect("they come round again");
        stream
            .write_all(frames_bytes)
            .context("it takes no more of the stream")?;
        Ok((frames_bytes.len() / frames.size()) as u64)
    };
    let warm = write(&mut stream)?;
    receiver.wait_idle()?;
    receiver.look_again()?;

    let before = receiver.cpu_ns()?;
    let processors = Processors::start()?;
    let sender_before = thread_ns()?;
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < time {
        patience.check()?;
        sent += write(&mut stream)?;
    }
    let sender_ns = thread_ns()? - sender_before;
    receiver.wait_drained()?;
    let wall = start.elapsed();
    let cpus_ns = processors.busy_ns()?;
    receiver.wait_idle()?;
    let after = receiver.cpu_ns()?;
    let spent = || {
        after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before)
    };
    let cpu_ns = spent().sum();
    ensure!(cpu_ns > 0, "the receiver did nothing");
    Ok(Stream {
        sent,
        warm,
        cpu_ns,
        busiest_ns: spent().max().unwrap_or(0),
        sender_ns,
        cpus_ns,
        wall,
    })
}

/// Nanoseconds that the calling thread has spent on a processor.
fn thread_ns() -> anyhow::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("cannot read the clock of this thread")?;
    let ns = Duration::from(time).as_nanos();
    u64::try_from(ns).context("nobody runs for centuries")
}

/// Bytes per write: system calls cost nothing then.
const WRITE_LEN: usize = 256 << 10;

/// A write that waits so long for room will wait for ever.
const WRITE_MAX: Duration = Duration::from_secs(10);
