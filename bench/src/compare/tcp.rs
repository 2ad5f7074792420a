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
pub(super) struct Stream {
    /// Frames in it, and before it to warm up.
    sent: u64,
    warm: u64,
    /// Of all receiving threads, of the one that took most, and of the sending one.
    cpu_ns: u64,
    busiest_ns: u64,
    sender_ns: u64,
    /// Of all processors.
    cpus_ns: f64,
    /// The time in which the receiver had something to do.
    wall: Duration,
}

/// How clocks stood before a stream.
#[derive(Debug)]
pub(super) struct Clocks {
    receiver_ns: Vec<u64>,
    processors: Processors,
    sender_ns: u64,
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
            let (time, patience) = (bench.args.seconds, &bench.patience);
            bench.stream(contender, &frames, |receiver| {
                send(receiver, &frames, time, patience)
            })
        })
    }

    /// Has `send` send `frames` to `contender`, and compares what was sent with what it says that came.
    pub(super) fn stream(
        &self,
        contender: &Contender,
        frames: &Frames,
        send: impl FnOnce(&mut Receiver) -> anyhow::Result<Stream> + Send,
    ) -> anyhow::Result<Sample> {
        let mut receiver = self.start(contender)?;
        let stream = on_core(self.tx, || send(&mut receiver))?;
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

impl Clocks {
    /// Call it in the thread that sends, while `receiver` sleeps.
    pub(super) fn start(receiver: &Receiver) -> anyhow::Result<Self> {
        Ok(Self {
            receiver_ns: receiver.cpu_ns()?,
            processors: Processors::start()?,
            sender_ns: thread_ns()?,
        })
    }

    /// What a stream of `sent` frames was, `warm` before that, which kept `receiver` busy for `wall`. Waits until it
    /// sleeps again.
    pub(super) fn stop(
        self,
        receiver: &Receiver,
        (sent, warm): (u64, u64),
        wall: Duration,
    ) -> anyhow::Result<Stream> {
        let sender_ns = thread_ns()? - self.sender_ns;
        let cpus_ns = self.processors.busy_ns()?;
        receiver.wait_idle()?;
        let after = receiver.cpu_ns()?;
        let spent = || {
            let each = after.iter().zip(&self.receiver_ns);
            each.map(|(after, before)| after - before)
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
}

/// A connection to `receiver` that sends at once what it is given.
pub(super) fn connect(receiver: &Receiver) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(receiver.addr()).context("cannot connect to it")?;
    stream.set_nodelay(true)?;
    // A receiver that stands still, or that ends without closing, must not stop us for ever.
    stream.set_write_timeout(Some(WRITE_MAX))?;
    Ok(stream)
}

/// Sends `frames` to `receiver` for `time`. Call it on the core of the sender.
fn send(
    receiver: &mut Receiver,
    frames: &Frames,
    time: Duration,
    patience: &Patience,
) -> anyhow::Result<Stream> {
    let mut stream = connect(receiver)?;
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

    let clocks = Clocks::start(receiver)?;
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < time {
        patience.check()?;
        sent += write(&mut stream)?;
    }
    receiver.wait_drained()?;
    let wall = start.elapsed();
    clocks.stop(receiver, (sent, warm), wall)
}

/// Nanoseconds that the calling thread has spent on a processor.
pub(super) fn thread_ns() -> anyhow::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("cannot read the clock of this thread")?;
    let ns = Duration::from(time).as_nanos();
    u64::try_from(ns).context("nobody runs for centuries")
}

/// Bytes per write: system calls cost nothing then.
const WRITE_LEN: usize = 256 << 10;

/// A write that waits so long for room will wait for ever.
pub(super) const WRITE_MAX: Duration = Duration::from_secs(10);
