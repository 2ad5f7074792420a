//! A network in memory: its time is its own, and everything that can go wrong on it comes from a seed.
//!
//! ```text
//!   SimTx ──▶ on the way, by time of arrival ──▶ steering ──▶ the queue of one receiver ──▶ SimQueue::recv
//!    sent       in_flight         lost           unreachable   queued     dropped_full       delivered
//!    duplicated                                                abandoned  dropped_shut
//! ```
//!
//! Whoever sends and receives by [`Tx`](crate::Tx) and [`RxQueue`](crate::RxQueue) runs on it unchanged. Nothing
//! happens by itself: time goes on only by [`advance`](crate::sim::Network::advance), and by a wait, which sleeps
//! nobody but moves the clock to the next arrival. Driven by one thread, the same seed and the same calls are the
//! same run, byte for byte.
//!
//! What becomes of a datagram depends on the seed and on its number, and on nothing that was drawn for another.
//! So taking away one step of a script leaves most of the others as they were.
//!
//! ```
//! use std::time::Duration;
//! use binrush_net::sim::{Faults, Network};
//! use binrush_net::{Batch, Bell, RxQueue, Slab, Tx, TxBatch};
//!
//! let delay = Duration::from_millis(5)..Duration::from_millis(9);
//! let network = Network::new(7, Faults { delay, ..Faults::default() });
//! let to = "192.0.2.1:5555".parse()?;
//! let mut queues = [network.bind(to)];
//! let mut tx = network.tx("192.0.2.2:5555".parse()?);
//!
//! let mut outgoing = TxBatch::new(1, 100);
//! assert!(outgoing.push(to, b"hello"));
//! tx.send(&mut outgoing);
//!
//! // An hour that ends with the arrival.
//! RxQueue::wait(&mut queues, None, &Bell::new()?, Duration::from_secs(3600))?;
//! assert!((5_000_000..9_000_000).contains(&network.now_ns()));
//!
//! let (mut slab, mut batch) = (Slab::new(1)?, Batch::new(1));
//! queues[0].recv(&mut slab, &mut batch)?;
//! assert_eq!(batch.datagrams(&slab).next().map(|datagram| datagram.bytes), Some(&b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use state::State;

/// Chance from a seed.
mod dice;
/// The receiving end.
mod queue;
/// What is on the way, and who waits for it.
mod state;
/// Connections: both ends, and what befalls them.
pub mod stream;
/// The sending end.
mod tx;

pub use queue::SimQueue;
pub use stream::{SimPeer, SimStream, SimStreams, StreamAccount, StreamFaults};
pub use tx::SimTx;

/// A handle to one network; clones are handles to the same.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

/// What goes wrong, each for every datagram by itself. Probabilities are from 0 to 1; the default is a network without
/// fault or delay.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// How long a datagram is on its way; its end is not reached. One of the same sender does not overtake another
    /// to the same address for that. An empty range is a delay that is always the same, its start.
    pub delay: Range<Duration>,
    /// It does not arrive.
    pub loss: f64,
    /// It is held back, longer than its delay by up to 1 ms or the width of `delay`, whichever is more, and others of
    /// the same sender overtake it.
    pub reorder: f64,
    /// It is sent twice. The second one has a fate of its own, but no third.
    pub duplicate: f64,
    /// It arrives cut somewhere before its end, and is marked as the kernel marks what does not fit. One without
    /// bytes cannot be cut.
    pub truncate: f64,
}

/// What became of every datagram. Exact at any time: see [`is_balanced`](Self::is_balanced).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Taken from a [`SimTx`].
    pub sent: u64,
    /// Sent a second time, by fault.
    pub duplicated: u64,
    /// Received by a [`SimQueue`].
    pub delivered: u64,
    /// Arrived, and not received yet.
    pub queued: u64,
    /// Not arrived yet.
    pub in_flight: u64,
    /// Gone on the way, by fault; or because there were [`IN_FLIGHT_MAX`] on it already.
    pub lost: u64,
    /// Found the queue of its receiver full.
    pub dropped_full: u64,
    /// Found the queue of its receiver [shut](SimQueue::shut).
    pub dropped_shut: u64,
    /// Found nobody at its address, or steering named a socket that is not there.
    pub unreachable: u64,
    /// In the queue of a receiver that went without receiving it.
    pub abandoned: u64,
    /// Of all these, how many were cut by fault.
    pub truncated: u64,
    /// Of all these, how many were held back by fault.
    pub reordered: u64,
}

impl Network {
    /// A network at time 0 with nobody on it.
    ///
    /// # Panics
    /// When a probability is not from 0 to 1, or `delay` ends before it begins.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let state = State::new(seed, faults.checked());
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A receiver at `addr`, with a queue of [`QUEUE_MAX`] datagrams.
    ///
    /// # Panics
    /// When somebody is there, or the port is 0.
    #[must_use]
    pub fn bind(&self, addr: SocketAddr) -> SimQueue {
        let mut alone = self.bind_group(addr, 1, |_| 0);
        alone.pop().expect("one was asked for")
    }

    /// Several receivers at `addr`, each with a queue of [`QUEUE_MAX`] datagrams. For each datagram that arrives,
    /// `steer` answers from its bytes which of them gets it; one beyond the last loses it as unreachable.
    ///
    /// `steer` must not use this network.
    ///
    /// # Panics
    /// When somebody is there, the port is 0, or `count` is.
    #[must_use]
    pub fn bind_group(
        &self,
        addr: SocketAddr,
        count: usize,
        steer: impl Fn(&[u8]) -> usize + Send + 'static,
    ) -> Vec<SimQueue> {
        self.lock().bind(addr, count, Box::new(steer));
        (0..count)
            .map(|index| SimQueue::new(self.clone(), addr, index))
            .collect()
    }

    /// A sender whose datagrams come from `from`. Nobody needs to be bound there.
    #[must_use]
    pub fn tx(&self, from: SocketAddr) -> SimTx {
        SimTx::new(self.clone(), from)
    }

    /// Nanoseconds since the network began.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.lock().now()
    }

    /// Lets `ns` nanoseconds pass; what arrives meanwhile is queued, in the order of arrival.
    pub fn advance(&self, ns: u64) {
        let mut state = self.lock();
        let then = state.now().saturating_add(ns);
        state.advance_to(then);
    }

    /// When the next datagram, or something of a connection, arrives, in nanoseconds since the network began; `None`
    /// when nothing is on the way.
    #[must_use]
    pub fn next_arrival_ns(&self) -> Option<u64> {
        self.lock().next_arrival()
    }

    /// What goes wrong from now on; with what is on the way already, what should go wrong has.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn set_faults(&self, faults: Faults) {
        self.lock().set_faults(faults.checked());
    }

    /// What became of every datagram so far.
    #[must_use]
    pub fn account(&self) -> Account {
        self.lock().account()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("steering does not panic")
    }
}

impl Account {
    /// Whether every datagram is in exactly one place: `sent + duplicated` is the sum of the others, without the two
    /// that count again what is in them.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        let kept = self.delivered + self.queued + self.in_flight;
        let dropped = self.dropped_full + self.dropped_shut;
        let gone = self.lost + dropped + self.unreachable + self.abandoned;
        self.sent + self.duplicated == kept + gone
    }
}

impl Faults {
    fn checked(self) -> Self {
        for probability in [self.loss, self.reorder, self.duplicate, self.truncate] {
            assert!(
                (0.0..=1.0).contains(&probability),
                "a probability is from 0 to 1, not {probability}"
            );
        }
        let Range { start, end } = self.delay;
        assert!(start <= end, "a delay from {start:?} to {end:?} ends first");
        self
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Network")
            .field("now_ns", &state.now())
            .field("account", &state.account())
            .finish_non_exhaustive()
    }
}

/// Datagrams that one receiver's queue holds, unless it was told otherwise.
pub const QUEUE_MAX: usize = 4096;

/// Datagrams on the way at a time; what comes in addition is lost.
pub const IN_FLIGHT_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests;
