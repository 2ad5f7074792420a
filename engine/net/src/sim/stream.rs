//! Connections in memory: cut anywhere, late, broken, half closed, all from the network's seed.
//!
//! ```text
//!   SimPeer ──send──▶ segments on the way, by time of arrival ──▶ what has arrived ──recv, in pieces──▶ SimStreams
//!           window     in_flight            lost                  queued   abandoned        delivered
//!           ◀─────────────────────────────── take_received ◀───────────────────────────── write ──────
//! ```
//!
//! Who receives by [`StreamQueue`](crate::StreamQueue) runs on it unchanged. A test holds the other end, a
//! [`SimPeer`](crate::sim::SimPeer), and time is that of the [`Network`](crate::sim::Network): what is sent is there
//! when the clock has come that far.
//!
//! ```
//! use binrush_net::sim::{Faults, Network, StreamFaults};
//! use binrush_net::{Slab, StreamBatch, StreamQueue, Token, What};
//!
//! let network = Network::new(7, Faults::default());
//! network.set_stream_faults(StreamFaults { piece_max: 3, ..StreamFaults::default() });
//! let (mut peer, stream) = network.connect("192.0.2.2:40000".parse()?);
//! let mut queue = network.streams();
//! queue.add(Token(1), stream).map_err(|(_, error)| error)?;
//! peer.send(b"hello");
//!
//! let (mut slab, mut batch, mut came) = (Slab::new(4)?, StreamBatch::new(4), Vec::new());
//! while came.len() < 5 {
//!     queue.recv(&mut slab, &mut batch)?;
//!     for arrival in batch.arrivals(&slab) {
//!         let What::Bytes(bytes) = arrival.what else { unreachable!("it goes on") };
//!         assert!(bytes.len() <= 3);
//!         came.extend_from_slice(bytes);
//!     }
//!     batch.release(&mut slab);
//! }
//! assert_eq!(came, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::Duration;

use super::Network;
use crate::rx::stream::{Close, StreamBatch, StreamQueue, Token};
use crate::slab::Slab;
use lines::{Came, LineId, QueueId};

/// What is on the way, and what has arrived.
pub(super) mod lines;

/// What goes wrong with connections. Probabilities are from 0 to 1; the default cuts nothing, delays nothing and breaks
/// nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamFaults {
    /// How long a segment is on its way; its end is not reached. One of the same connection does not overtake another.
    /// An empty range is a delay that is always the same, its start.
    pub delay: Range<Duration>,
    /// Bytes of a segment, and of a piece that a receive brings: from 1 to so many, each by chance.
    pub piece_max: usize,
    /// The connection is reset when a segment is sent: the reset may overtake what is on its way, which is lost.
    pub reset: f64,
    /// A connection is refused by [`add`](StreamQueue::add), as by a kernel without memory.
    pub refuse: f64,
    /// Pieces that may come of a connection after it was paused: from 0 to so many, as of a backend that has taken
    /// them from the kernel already.
    pub late_pieces_max: u32,
}

/// What became of every byte that peers sent. Exact at any time: see [`is_balanced`](Self::is_balanced).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamAccount {
    /// Connections that there were.
    pub connections: u64,
    /// Bytes taken from a [`SimPeer`].
    pub sent: u64,
    /// Bytes received by a [`SimStreams`].
    pub delivered: u64,
    /// Arrived, and not received yet.
    pub queued: u64,
    /// Not arrived yet.
    pub in_flight: u64,
    /// On the way when a reset overtook them.
    pub lost: u64,
    /// Of connections that their receiver let go: what it had not received.
    pub abandoned: u64,
}

/// The connection's end that receives, before a queue has it. Dropping it closes the connection in order.
#[derive(Debug)]
pub struct SimStream {
    network: Network,
    line: LineId,
    peer: SocketAddr,
    how: Close,
}

/// The connection's end that a test holds. Dropping it ends the connection as [`finish`](Self::finish) does.
#[derive(Debug)]
pub struct SimPeer {
    network: Network,
    line: LineId,
    addr: SocketAddr,
}

/// The connections of one receiver; see [`StreamQueue`]. Dropping it closes them in order.
#[derive(Debug)]
pub struct SimStreams {
    network: Network,
    id: QueueId,
    streams: BTreeMap<Token, SimStream>,
}

impl Network {
    /// A connection from `from`, whose receiving end no queue has yet.
    #[must_use]
    pub fn connect(&self, from: SocketAddr) -> (SimPeer, SimStream) {
        let line = self.lock().lines.open();
        let peer = SimPeer {
            network: self.clone(),
            line,
            addr: from,
        };
        let stream = SimStream {
            network: self.clone(),
            line,
            peer: from,
            how: Close::Orderly,
        };
        (peer, stream)
    }

    /// A queue without connections.
    #[must_use]
    pub fn streams(&self) -> SimStreams {
        SimStreams {
            network: self.clone(),
            id: self.lock().lines.new_queue(),
            streams: BTreeMap::new(),
        }
    }

    /// What goes wrong with connections from now on.
    ///
    /// # Panics
    /// When a probability is not from 0 to 1, `delay` ends before it begins, or pieces may have no bytes.
    pub fn set_stream_faults(&self, faults: StreamFaults) {
        self.lock().lines.set_faults(faults.checked());
    }

    /// What became of every byte so far.
    #[must_use]
    pub fn stream_account(&self) -> StreamAccount {
        self.lock().lines.account()
    }
}

impl SimPeer {
    /// Sends the beginning of `bytes`, as much as the window takes: what is on the way or arrived and not received
    /// is at most [`WINDOW`] bytes. How much that was; 0 also after the end of the connection, by whomever.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        let mut state = self.network.lock();
        let now = state.now();
        let taken = state.lines.send(now, self.line, bytes);
        state.settle();
        taken
    }

    /// Sends nothing more (FIN): the receiver is told so after the last byte.
    pub fn finish(&mut self) {
        let mut state = self.network.lock();
        let now = state.now();
        state.lines.finish(now, self.line);
        state.settle();
    }

    /// Breaks the connection (RST): the receiver sees `ECONNRESET`, and what the reset overtakes is lost.
    pub fn reset(&mut self) {
        self.fail(libc::ECONNRESET);
    }

    /// The connection breaks, and the receiver's kernel says `errno`: `ETIMEDOUT` for a peer that vanished.
    pub fn fail(&mut self, errno: i32) {
        let mut state = self.network.lock();
        let now = state.now();
        state.lines.fail(now, self.line, errno);
        state.settle();
    }

    /// Takes what the receiver wrote: its room is free again.
    pub fn take_received(&mut self) -> Vec<u8> {
        self.network.lock().lines.take_written(self.line)
    }

    /// How the receiver let the connection go, if it did.
    #[must_use]
    pub fn closed(&self) -> Option<Close> {
        self.network.lock().lines.closed(self.line)
    }

    /// Bytes that [`send`](Self::send) would take now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.network.lock().lines.room(self.line)
    }

    /// Where it connects from.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl SimStream {
    /// Where the other end is.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl SimStreams {
    /// Connections that it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    fn line(&self, token: Token) -> io::Result<LineId> {
        let error = || invalid(format!("no connection has the token {}", token.0));
        let stream = self.streams.get(&token);
        stream.map(|stream| stream.line).ok_or_else(error)
    }
}

impl StreamQueue for SimStreams {
    type Socket = SimStream;

    fn add(&mut self, token: Token, socket: SimStream) -> Result<(), (SimStream, io::Error)> {
        if self.streams.contains_key(&token) {
            let error = format!("token {} has a connection", token.0);
            return Err((socket, invalid(error)));
        }
        let mut state = self.network.lock();
        let attached = state.lines.attach(socket.line, self.id, token);
        drop(state);
        if !attached {
            return Err((socket, io::Error::from_raw_os_error(libc::ENOMEM)));
        }
        self.streams.insert(token, socket);
        Ok(())
    }

    fn recv(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> io::Result<()> {
        debug_assert!(batch.is_empty(), "hand in a released batch");
        let mut state = self.network.lock();
        let lines = &mut state.lines;
        while batch.room() > 0 && lines.is_ready(self.id) {
            let Some(frame) = slab.take() else {
                if batch.is_empty() {
                    let error = "the slab has no free frame";
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, error));
                }
                return Ok(());
            };
            let (token, came) = lines.receive(self.id, slab.frame_mut(&frame));
            if let Came::Bytes(len) = came {
                batch.push(token, frame, len);
                continue;
            }
            slab.release(frame);
            match came {
                Came::Failed(errno) => batch.push_failed(token, errno),
                _ => batch.push_end(token),
            }
        }
        Ok(())
    }

    fn pause(&mut self, token: Token) {
        if let Ok(line) = self.line(token) {
            self.network.lock().lines.pause(line);
        }
    }

    fn resume(&mut self, token: Token) {
        if let Ok(line) = self.line(token) {
            self.network.lock().lines.resume(line);
        }
    }

    /// Into a buffer of [`WINDOW`] bytes that [`SimPeer::take_received`] empties.
    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        let line = self.line(token)?;
        self.network.lock().lines.write(line, bytes)
    }

    fn queued_bytes(&self, token: Token) -> io::Result<u64> {
        let line = self.line(token)?;
        Ok(self.network.lock().lines.queued_bytes(line))
    }

    fn close(&mut self, token: Token, how: Close) {
        if let Some(mut stream) = self.streams.remove(&token) {
            stream.how = how;
        }
    }

    /// Nothing to give back: it takes frames when it has something for them.
    fn disarm(&mut self, _slab: &mut Slab) {}

    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn is_ready(&mut self) -> bool {
        self.network.lock().lines.is_ready(self.id)
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        // Also while a panic is on its way, of a steering function say: one is enough.
        if let Ok(mut state) = self.network.state.lock() {
            state.lines.close(self.line, self.how);
        }
    }
}

impl Drop for SimPeer {
    fn drop(&mut self) {
        if let Ok(mut state) = self.network.state.lock() {
            let now = state.now();
            state.lines.leave(now, self.line);
            state.settle();
        }
    }
}

impl StreamAccount {
    /// Whether every byte is in exactly one place.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        let kept = self.delivered + self.queued + self.in_flight;
        self.sent == kept + self.lost + self.abandoned
    }
}

impl StreamFaults {
    fn checked(self) -> Self {
        for probability in [self.reset, self.refuse] {
            assert!(
                (0.0..=1.0).contains(&probability),
                "a probability is from 0 to 1, not {probability}"
            );
        }
        let Range { start, end } = self.delay;
        assert!(start <= end, "a delay from {start:?} to {end:?} ends first");
        assert!(self.piece_max > 0, "pieces of no bytes");
        self
    }
}

impl Default for StreamFaults {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO..Duration::ZERO,
            piece_max: WINDOW,
            reset: 0.0,
            refuse: 0.0,
            late_pieces_max: 0,
        }
    }
}

fn invalid(error: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// Bytes of a connection that are on the way or wait for their receiver, at most; and likewise the other way.
pub const WINDOW: usize = 1 << 20;

#[cfg(test)]
mod tests;
