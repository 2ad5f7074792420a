//! Connections on their way from the acceptor to a shard.
//!
//! ```text
//!   acceptor                                     shard, between two batches
//!   put: queue, waiting += 1, bell if it sleeps ──▶ is_waiting (one load) ─▶ take: queue, waiting −= 1
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use binrush_net::{Bell, TcpSocket};
use crossbeam_queue::SegQueue;

use super::seat::Seat;
use crate::shard::desk::ListenerId;
use crate::tls::Session;

/// A connection that is ready to be received from.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Does not block; the options of connections are set.
    pub(crate) socket: TcpSocket,
    /// Whose it is.
    pub(crate) peer: SocketAddr,
    /// Where it came in.
    pub(crate) listener: ListenerId,
    /// The session, its handshake done and everything of ours sent; `None` without TLS.
    pub(crate) tls: Option<Box<Session>>,
    /// The stream's first bytes, in clear, that came together with the end of the handshake; at most
    /// [`EARLY_LEN_MAX`](super::handshake::EARLY_LEN_MAX). They come before all that `tls` will yield.
    pub(crate) early: Vec<u8>,
    /// To be kept as long as the connection.
    pub(crate) seat: Seat,
}

/// Where a shard finds its new connections.
///
/// One acceptor puts, one shard takes. What can wait here is bounded by the places there are: each connection in it
/// has its [`Seat`].
pub(crate) struct Intake {
    queue: SegQueue<Accepted>,
    /// Connections in the queue, or one less while one is being put. The Release in `put` pairs with the Acquire in
    /// `is_waiting`: who sees the number finds the connection.
    waiting: AtomicUsize,
    bell: Arc<Bell>,
}

impl Intake {
    /// Empty; `bell` wakes the shard.
    pub(crate) fn new(bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self {
            queue: SegQueue::new(),
            waiting: AtomicUsize::new(0),
            bell,
        })
    }

    /// For the acceptor: hands a connection over, and wakes the shard if it sleeps.
    pub(crate) fn put(&self, accepted: Accepted) {
        self.queue.push(accepted);
        self.waiting.fetch_add(1, Ordering::Release);
        self.bell.ring_if_armed();
    }

    /// For the shard: whether a connection waits. One load; ask once more after arming the bell.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// For the shard: the next connection, in the order in which they were handed over.
    pub(crate) fn take(&self) -> Option<Accepted> {
        // Not the queue itself: one that is not counted yet would make the number go below zero.
        if !self.is_waiting() {
            return None;
        }
        let accepted = self.queue.pop()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(accepted)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_net::{TcpListener, TcpOptions};
    use std::thread;

    /// So many connections that nobody uses, each with its number as listener.
    fn connections(count: u32) -> Vec<Accepted> {
        let options = TcpOptions {
            backlog: 16,
            ..TcpOptions::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let addr = listener.local_addr().unwrap();
        let connection = |number| Accepted {
            socket: TcpSocket::connect(addr, None, &options).unwrap(),
            peer: addr,
            listener: ListenerId(number),
            tls: None,
            early: Vec::new(),
            seat: Seat::free(),
        };
        (0..count).map(connection).collect()
    }

    #[test]
    fn connections_come_out_in_the_order_in_which_they_went_in() {
        let intake = Intake::new(Arc::new(Bell::new().unwrap()));
        assert!(!intake.is_waiting() && intake.take().is_none());
        connections(3)
            .into_iter()
            .for_each(|accepted| intake.put(accepted));
        for number in 0..3 {
            assert!(intake.is_waiting());
            assert_eq!(intake.take().unwrap().listener, ListenerId(number));
        }
        assert!(!intake.is_waiting() && intake.take().is_none());
    }

    #[test]
    fn a_shard_that_takes_while_another_thread_puts_misses_none() {
        let intake = Intake::new(Arc::new(Bell::new().unwrap()));
        let connections = connections(16);
        let taken = thread::scope(|scope| {
            scope.spawn(|| {
                connections
                    .into_iter()
                    .for_each(|accepted| intake.put(accepted));
            });
            let mut taken = Vec::new();
            while taken.len() < 16 {
                match intake.take() {
                    Some(accepted) => taken.push(accepted.listener.0),
                    None => thread::yield_now(),
                }
            }
            taken
        });
        assert_eq!(taken, (0..16).collect::<Vec<_>>());
        assert!(!intake.is_waiting());
    }
}
