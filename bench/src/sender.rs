//! Sending on schedule, open loop: a packet is due when the schedule says so, whatever became of those before it.
//!
//! ```text
//!   Source ── due? ──▶ Pace: waits, never early ── write ──▶ Outlet: datagrams │ trains │ stream ──▶ kernel
//!                        │                                      └─ taken, refused ──▶ Tally ──▶ SenderResult
//!                        └─ too late: skipped ─────────────────────────────────────▶ unsent  └▶ Live, for the view
//! ```
//!
//! One thread per job, each with a socket, a schedule and memory of its own: nothing is shared but the numbers that the
//! view reads.

use std::fmt;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, anyhow};
use binrush_net::{Gso, SendMmsg, Tx, allowed_cores, pin_current_thread};
use binrush_probe::monotonic_ns;
use binrush_scenario::Source;

use crate::patience::Patience;
use crate::result::SenderResult;
use clock::Monotonic;
use live::LiveSender;
use outlet::Outlet;
use pace::Pace;
use tally::Tally;

/// What time it is, and waiting for a moment.
mod clock;
/// What a view reads while senders send.
mod live;
/// What packets are handed to.
mod outlet;
/// When each packet goes, and which do not.
mod pace;
/// What became of packets.
mod tally;
/// Packets in a stream.
mod tcp;
/// Packets as datagrams, in trains or not.
mod udp;

/// Sources and clocks for tests.
#[cfg(test)]
mod fake;

pub(crate) use live::Live;

/// How packets leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Datagrams one by one.
    Plain,
    /// Datagrams of equal length that are due at nearly the same time as trains (`UDP_SEGMENT`).
    Gso,
    /// Frames in one stream.
    Tcp,
}

/// What one sender has to do.
pub(crate) struct Job {
    pub(crate) source: Box<dyn Source>,
    /// Number of the stream, as its packets say it.
    pub(crate) stream: u16,
    pub(crate) to: SocketAddr,
    pub(crate) way: Way,
    /// The core to stay on.
    pub(crate) core: Option<usize>,
    /// Length of the schedule, in ns.
    pub(crate) end_ns: u64,
}

/// How strict senders are with time. All in ns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pacing {
    /// Datagrams go together only if they are due within so long.
    pub(crate) window_ns: u64,
    /// What is later than that is not sent any more.
    pub(crate) late_max_ns: u64,
    /// So long after the end of the schedule, what is still waiting is not sent any more.
    pub(crate) grace_ns: u64,
    /// Begin with a second of the clock, up to a second later: then the seconds in which a receiver counts are those of the schedule.
    pub(crate) on_second: bool,
}

/// Whether to end before the schedule does.
#[derive(Debug, Clone, Copy)]
struct Halt<'a> {
    stop: &'a Patience,
    /// Another sender has failed, so there will be no result.
    failed: &'a AtomicBool,
}

/// An open way to the receiver.
#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// Sends what all `jobs` have, each in a thread of its own (`sender0`, ...), and returns when the last has ended: with
/// its schedule, or when `stop` is over. `live` has a place for each job.
///
/// All start at the same moment, [`START_AHEAD_NS`] from now or with the next second of the clock. The results are in the order of the jobs. In each,
/// `planned = sent + unsent + Σ errors`; what was not due yet when `stop` came is in none of these.
///
/// # Errors
/// Nothing could be sent: a core that may not be used, nobody there to connect to, a target that refused datagrams from
/// the first on. What goes wrong later is in the results, by name.
pub(crate) fn run(
    jobs: Vec<Job>,
    pacing: Pacing,
    live: &Live,
    stop: &Patience,
) -> anyhow::Result<Vec<SenderResult>> {
    let failed = AtomicBool::new(false);
    let halt = Halt {
        stop,
        failed: &failed,
    };
    let spin_ns = clock::spin_ns(allowed_cores().len());
    let open = |job: Job| Ok((Socket::open(job.way, job.to)?, job));
    let ready: Vec<_> = jobs.into_iter().map(open).collect::<anyhow::Result<_>>()?;
    let soonest_ns = monotonic_ns() + START_AHEAD_NS;
    let start_ns = match pacing.on_second {
        true => soonest_ns.next_multiple_of(1_000_000_000),
        false => soonest_ns,
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, (socket, job)) in ready.into_iter().enumerate() {
            let sender = Sender {
                job,
                pacing,
                start_ns,
                spin_ns,
                live: live.sender(index),
                halt,
            };
            let thread = thread::Builder::new()
                .name(format!("sender{index}"))
                .spawn_scoped(scope, move || sender.send(socket))
                .context("cannot start a thread");
            // Those that run already are to end, and be waited for.
            halt.failed.fetch_or(thread.is_err(), Ordering::Relaxed);
            threads.push(thread);
        }
        let results: Vec<_> = threads.into_iter().map(joined).collect();
        results.into_iter().collect()
    })
}

fn joined(
    thread: anyhow::Result<thread::ScopedJoinHandle<'_, anyhow::Result<SenderResult>>>,
) -> anyhow::Result<SenderResult> {
    match thread?.join() {
        Ok(result) => result,
        Err(payload) => panic::resume_unwind(payload),
    }
}

/// A job in its own thread.
struct Sender<'a> {
    job: Job,
    pacing: Pacing,
    start_ns: u64,
    spin_ns: u64,
    live: &'a LiveSender,
    halt: Halt<'a>,
}

impl Sender<'_> {
    fn send(self, socket: Socket) -> anyhow::Result<SenderResult> {
        let failed = self.halt.failed;
        let result = self.send_by(socket);
        failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    }

    fn send_by(self, socket: Socket) -> anyhow::Result<SenderResult> {
        // Before any memory is touched, so that it is that core's.
        if let Some(core) = self.job.core {
            pin_current_thread(core).with_context(|| format!("stream {}", self.job.stream))?;
        }
        clock::sleep_exactly();
        let to = self.job.to;
        match (self.job.way, socket) {
            (Way::Plain, Socket::Udp(socket)) => {
                let tx = SendMmsg::new(socket.try_clone()?);
                self.send_datagrams(udp::Datagrams::new(socket, tx, to, udp::PLAIN_MAX))
            }
            (_, Socket::Udp(socket)) => {
                let tx = Gso::new(socket.try_clone()?);
                // One that knows no trains sends datagrams one by one.
                let count = tx.segments_max().max(udp::PLAIN_MAX);
                self.send_datagrams(udp::Datagrams::new(socket, tx, to, count))
            }
            (_, Socket::Tcp(stream)) => {
                let outlet = tcp::Stream::new(stream, to);
                // A stream has no datagrams that could be kept apart.
                self.pace(outlet, u64::MAX)
            }
        }
    }

    fn send_datagrams<T: Tx>(self, outlet: udp::Datagrams<T>) -> anyhow::Result<SenderResult> {
        let window_ns = self.pacing.window_ns;
        self.pace(outlet, window_ns)
    }

    fn pace(self, outlet: impl Outlet, window_ns: u64) -> anyhow::Result<SenderResult> {
        let Job {
            source,
            stream,
            core,
            way,
            end_ns,
            ..
        } = self.job;
        let pacing = Pacing {
            window_ns,
            ..self.pacing
        };
        let tally = Tally::new(self.start_ns, self.live);
        let clock = Monotonic::new(self.spin_ns);
        let pace = Pace::new(source, outlet, clock, (pacing, end_ns), tally);
        let result = pace.run(self.halt)?;
        Ok(SenderResult {
            stream,
            core,
            way: way.symbol().to_owned(),
            ..result
        })
    }
}

impl Socket {
    /// Connected in both cases. A stream must be; a UDP socket is because the kernel tells only a connected one that
    /// nobody listens (ECONNREFUSED, udp(7)), and costs nothing.
    fn open(way: Way, to: SocketAddr) -> anyhow::Result<Self> {
        match way {
            Way::Plain | Way::Gso => udp::open(to).map(Self::Udp),
            Way::Tcp => tcp::open(to).map(Self::Tcp),
        }
    }
}

impl Halt<'_> {
    fn is_asked(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.stop.is_over()
    }
}

impl Way {
    /// Its name in results.
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gso => "gso",
            Self::Tcp => "tcp",
        }
    }
}

/// Trains of what is due within 50 us; give up after 100 ms, and 10 ms after the end.
impl Default for Pacing {
    fn default() -> Self {
        Self {
            window_ns: 50_000,
            late_max_ns: 100_000_000,
            grace_ns: 10_000_000,
            on_second: false,
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("stream", &self.stream)
            .field("to", &self.to)
            .field("way", &self.way)
            .field("core", &self.core)
            .field("end_ns", &self.end_ns)
            .finish_non_exhaustive()
    }
}

/// That nobody is at `to`, and what to do.
fn nobody_there(to: SocketAddr, transport: &str, why: impl fmt::Display) -> anyhow::Error {
    anyhow!(
        "nothing listens on {transport}:{to}: {why}\n  start the receiver first, and see that it listens on that \
         address, port and transport"
    )
}

/// Time for threads to start, go to their cores and get their memory.
const START_AHEAD_NS: u64 = 50_000_000;
