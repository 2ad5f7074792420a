//! Frames of TCP streams between senders and one receiver.
//!
//! Each connection of a sender becomes one to the receiver. What the sender sends is cut into frames, and the faults
//! befall these: a frame is lost or damaged as a whole, so that the stream around it stays readable. What the receiver
//! answers comes back as it is.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::counts::Counts;
use crate::faults::Faults;
use crate::plan::{Plan, PlanError};
use crate::way::{ROOM_MAX, Room, Way};
use connection::{Connection, Ended};
use over::Over;

/// One connection.
mod connection;
/// When it is time to end.
mod over;
/// A stream cut into frames, faults applied.
mod stream;

/// A proxy of streams, ready to run.
#[derive(Debug)]
pub struct Tcp {
    /// Where senders connect to.
    pub listen: TcpListener,
    /// The receiver.
    pub to: SocketAddr,
    /// What befalls the frames of each connection.
    pub plan: Plan,
    /// How long each takes longer than it would.
    pub delay: Duration,
    /// Bytes of each connection after which it is cut, mostly in the middle of a frame: exactly so many reach the
    /// receiver, which then sees the end of the stream. The sender sees a reset, if [`reset`](Self::reset) can make one.
    pub cut_after: Option<u64>,
    /// Prepares a socket so that closing it resets the connection (`SO_LINGER` of 0), which the standard library cannot.
    pub reset: fn(&TcpStream) -> io::Result<()>,
}

/// What became of all streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpTotals {
    /// What was done to their frames, all connections together.
    pub counts: Counts,
    /// Connections that were forwarded.
    pub connections: u64,
    /// Those that were cut after the bytes asked for.
    pub cut: u64,
    /// Frames that count as forwarded and that a cut, or the end of a connection, kept back in whole or in part.
    pub kept_back: u64,
    /// Bytes of the beginning of a frame whose rest did not come; they were forwarded.
    pub partial_bytes: u64,
    /// Bytes from the place on where a stream was no BIN any more; they were forwarded without faults.
    pub not_bin_bytes: u64,
    /// Connections that were not, or not wholly, forwarded, by what the kernel said.
    pub failed: BTreeMap<String, u64>,
    /// Connections closed at once, because there were [`CONNECTIONS_MAX`] already.
    pub turned_away: u64,
}

/// A proxy that did not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TcpFailed {
    /// It did not begin.
    #[error(transparent)]
    Plan(PlanError),
    /// The listening socket failed.
    #[error("cannot accept connections: {error}")]
    Io {
        /// What the kernel said.
        error: io::Error,
        /// Until then.
        totals: Box<TcpTotals>,
    },
}

impl Tcp {
    /// Forwards until `stop` is set; then what has come, and what was held back. Connections are closed then; one whose
    /// receiver does not read holds it up for some seconds, and is among those that failed.
    ///
    /// # Errors
    /// [`TcpFailed`]. What befalls one connection is counted and does not end the others.
    pub fn run(self, stop: &AtomicBool) -> Result<TcpTotals, TcpFailed> {
        self.run_and_drain(stop, DRAIN_MAX)
    }

    fn run_and_drain(self, stop: &AtomicBool, drain_max: Duration) -> Result<TcpTotals, TcpFailed> {
        self.plan.check().map_err(TcpFailed::Plan)?;
        let totals = Mutex::new(TcpTotals::default());
        // Of all connections, also when the listening socket fails.
        let over = Over::new(drain_max);
        let room = Room::new(ROOM_MAX);
        let accepted = thread::scope(|scope| {
            let accepted = self.accept(scope, stop, (&over, &room), &totals);
            over.set();
            accepted
        });
        let totals = totals.into_inner().expect("no connection panics");
        match accepted {
            Ok(()) => Ok(totals),
            Err(error) => Err(TcpFailed::Io {
                error,
                totals: Box::new(totals),
            }),
        }
    }

    fn accept<'scope, 'env>(
        &'env self,
        scope: &'scope thread::Scope<'scope, 'env>,
        stop: &AtomicBool,
        shared: (&'env Arc<Over>, &'env Arc<Room>),
        totals: &'env Mutex<TcpTotals>,
    ) -> io::Result<()> {
        self.listen.set_nonblocking(true)?;
        let live = Arc::new(AtomicUsize::new(0));
        let mut number = 0;
        loop {
            // Asked before the queue is looked at, so that whoever connected before the stop is still let in.
            let is_last = stop.load(Ordering::Relaxed);
            let sender = match self.listen.accept() {
                Ok((sender, _)) => sender,
                Err(error) if is_passing(&error) && is_last => return Ok(()),
                // Nobody there, gone again, or no descriptor free: the next may be luckier.
                Err(error) if is_passing(&error) => {
                    thread::sleep(POLL);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if live.load(Ordering::Relaxed) == CONNECTIONS_MAX {
                lock(totals).turned_away += 1;
                continue;
            }
            live.fetch_add(1, Ordering::Relaxed);
            let (flow, ending) = (number, Arc::clone(&live));
            number += 1;
            let connection = move || {
                let ended = self.connection(sender, flow, shared);
                lock(totals).add(ended);
                ending.fetch_sub(1, Ordering::Relaxed);
            };
            let thread = thread::Builder::new().name("connection".to_owned());
            if let Err(error) = thread.spawn_scoped(scope, connection) {
                live.fetch_sub(1, Ordering::Relaxed);
                lock(totals).add(Ended::before_it_began(&error));
            }
        }
    }

    fn connection(
        &self,
        sender: TcpStream,
        flow: u64,
        (over, room): (&Arc<Over>, &Arc<Room>),
    ) -> Ended {
        let connect = || {
            sender.set_nonblocking(false)?;
            let receiver = TcpStream::connect_timeout(&self.to, CONNECT_MAX)?;
            for stream in [&sender, &receiver] {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(WAIT))?;
                stream.set_write_timeout(Some(WAIT))?;
            }
            let exit = connection::Stream::of(&receiver, over)?;
            let way = Way::new(exit, self.delay, room)?;
            Ok((receiver, way))
        };
        let (receiver, way) = match connect() {
            Ok(connected) => connected,
            Err(error) => return Ended::before_it_began(&error),
        };
        let faults = Faults::new(&self.plan, flow).expect("the plan was checked");
        let connection = Connection::new(sender, receiver, faults, self.cut_after);
        connection.run(way, over, self.reset)
    }
}

impl TcpTotals {
    fn add(&mut self, ended: Ended) {
        self.counts.merge(&ended.counts);
        self.connections += u64::from(ended.connected);
        self.cut += u64::from(ended.cut);
        self.kept_back += ended.kept_back;
        self.partial_bytes += ended.partial_bytes;
        self.not_bin_bytes += ended.not_bin_bytes;
        if let Some(error) = ended.error {
            // The kernel's words are as many as it has error numbers.
            *self.failed.entry(error).or_default() += 1;
        }
    }
}

fn lock(totals: &Mutex<TcpTotals>) -> MutexGuard<'_, TcpTotals> {
    totals.lock().expect("no connection panics")
}

fn is_passing(error: &io::Error) -> bool {
    /// "The per-process limit on the number of open file descriptors has been reached", and that of the system; accept(2).
    const DESCRIPTORS: [i32; 2] = [24, 23];
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    ) || error
        .raw_os_error()
        .is_some_and(|code| DESCRIPTORS.contains(&code))
}

/// Ends one direction, or both; that the other side has done so is no error.
fn close(stream: &TcpStream, how: Shutdown) {
    let _ = stream.shutdown(how);
}

/// Connections that are forwarded at the same time.
pub const CONNECTIONS_MAX: usize = 64;

/// How long the receiver may take to accept.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long it goes on reading, and waiting for those that do not read, after it was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long a read or a write waits before it looks whether it is time to end.
const WAIT: Duration = Duration::from_millis(20);

/// How often it looks for a new connection.
const POLL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests;
