//! Taking connections: one thread for all listeners, because a connection is rare and a packet is not.
//!
//! ```text
//!   listeners ─▶ accept ─▶ admission: access list, limit per source, limit in total ─▶ in clear ─┐
//!                  │            └▶ refused, by RST, under one reason   TLS ─▶ handshake ─────────┤
//!                  └ no descriptor left: turned away by the one in reserve        └▶ refused     ▼
//!                                                              the intake of the shard with the fewest connections
//! ```
//!
//! `arrived = handed + shaking + Σ refused`, at every moment. What is handed over takes its [`Seat`](seat::Seat) along, and gives
//! its place back when the shard drops that.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use binrush_net::{Bell, Interest, Poller, ReserveFd, TcpListener};

use crate::access::Access;
use crate::shard::desk::ListenerId;
use crate::stream::{AcceptCounts, StreamLimits};
use crate::tls::ServerTls;

/// Who may come in, and to which shard.
mod admission;
/// What is counted, and what refusals looked like.
mod counters;
/// One TLS handshake.
mod handshake;
/// The way to a shard.
pub(crate) mod intake;
/// One listening socket.
mod listening;
/// The place of a connection.
pub(crate) mod seat;
/// The handshakes under way.
mod shaking;
/// The thread.
mod worker;

pub(crate) use intake::Intake;

use counters::{Counters, Refusal};
use seat::Places;
use shaking::Shaking;
use worker::{Door, Worker};

/// The control thread's handle on the acceptor.
///
/// Stops it when dropped.
#[derive(Debug)]
pub(crate) struct Acceptor {
    orders: Sender<Order>,
    bell: Arc<Bell>,
    counters: Arc<Counters>,
    /// Taken when it is joined.
    thread: Option<JoinHandle<()>>,
}

/// Something for the acceptor to do between two looks at the kernel.
#[derive(Debug)]
enum Order {
    /// Accept here too.
    Open { listener: NewListener, reply: Reply },
    /// Accept no more there.
    Close { id: ListenerId, reply: Reply },
    /// Let these in from now on.
    Access { access: Access, reply: Reply },
    /// End; `leave`: who waits at the listeners is left to who has these sockets too.
    Stop { leave: bool, reply: Reply },
}

/// By which control hears that an order was obeyed, and how that went.
type Reply = SyncSender<io::Result<()>>;

/// A listening socket for the acceptor.
#[derive(Debug)]
struct NewListener {
    id: ListenerId,
    socket: TcpListener,
    tls: Option<Arc<ServerTls>>,
}

impl Acceptor {
    /// Starts the thread, with no listener yet. The intakes are those of the shards, in their order.
    ///
    /// # Errors
    /// No descriptor for what it waits with or for its reserve, or no thread.
    ///
    /// # Panics
    /// When there is no shard.
    pub(crate) fn start(
        shards: Vec<Arc<Intake>>,
        limits: &StreamLimits,
        access: Access,
    ) -> io::Result<Self> {
        let (orders_tx, orders) = mpsc::channel();
        let bell = Arc::new(Bell::new()?);
        let counters = Arc::new(Counters::default());
        let poller = Poller::new()?;
        poller.add(&*bell, BELL, Interest::READ)?;
        let worker = Worker {
            orders,
            bell: Arc::clone(&bell),
            poller,
            reserve: ReserveFd::new()?,
            listeners: Vec::new(),
            shaking: Shaking::new(limits),
            door: Door {
                access,
                places: Places::new(limits, shards.len()),
                shards,
                counters: Arc::clone(&counters),
            },
        };
        let builder = thread::Builder::new().name("acceptor".to_owned());
        let thread = builder.spawn(move || worker.run())?;
        Ok(Self {
            orders: orders_tx,
            bell,
            counters,
            thread: Some(thread),
        })
    }

    /// Accepts at `listener` too, with handshakes by `tls` or in clear. Connections have the options that `listener` was
    /// bound with. Returns when it is so.
    ///
    /// # Errors
    /// The listener is closed: the kernel cannot watch it, or the acceptor does not answer.
    pub(crate) fn open(
        &self,
        id: ListenerId,
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
    ) -> io::Result<()> {
        let listener = NewListener {
            id,
            socket: listener,
            tls,
        };
        self.order(|reply| Order::Open { listener, reply })
    }

    /// Accepts no more at this listener, and closes it: those who wait and those who shake hands there are refused.
    /// Connections that were handed over are the shards' to close. Returns when it is so.
    ///
    /// # Errors
    /// The acceptor does not answer.
    pub(crate) fn close(&self, id: ListenerId) -> io::Result<()> {
        self.order(|reply| Order::Close { id, reply })
    }

    /// Lets `access` in from the next connection on, and ends handshakes of others. Returns when it is so: what shards
    /// find in their intakes may have come before.
    ///
    /// # Errors
    /// The acceptor does not answer.
    pub(crate) fn set_access(&self, access: Access) -> io::Result<()> {
        self.order(|reply| Order::Access { access, reply })
    }

    /// What it did so far.
    pub(crate) fn counts(&self) -> AcceptCounts {
        self.counters.counts()
    }

    /// What was refused since the last call: one row for each reason, about the last connection it was said of.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        self.counters.take_refusals()
    }

    /// Listeners at which accepting fails now, for another reason than a shortage, and what the kernel says. They are
    /// tried again without end.
    pub(crate) fn failing(&self) -> Vec<(ListenerId, String)> {
        self.counters.failing()
    }

    /// Whether its thread is there.
    pub(crate) fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Closes all listeners, ends all handshakes and the thread; what it did in the end. What it handed over before is
    /// with the shards or in their intakes.
    pub(crate) fn stop(mut self) -> AcceptCounts {
        self.end(false);
        self.counts()
    }

    /// The same, but leaves those who wait to be accepted to whoever has the listening sockets too.
    pub(crate) fn leave(mut self) -> AcceptCounts {
        self.end(true);
        self.counts()
    }

    fn order(&self, order: impl FnOnce(Reply) -> Order) -> io::Result<()> {
        let (reply, answer) = mpsc::sync_channel(1);
        let ended = |_| io::Error::other("the acceptor's thread has ended: restart the engine");
        self.orders.send(order(reply)).map_err(|_| ended(()))?;
        self.bell.ring();
        match answer.recv_timeout(OBEY_MAX) {
            Ok(done) => done,
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(ended(())),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let why = format!("the acceptor's thread did not answer within {OBEY_MAX:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    }

    fn end(&mut self, leave: bool) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // One that does not answer is left alone: it keeps what it has until the process ends.
        let answer = self.order(|reply| Order::Stop { leave, reply });
        if !answer.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            let _ = thread.join();
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// Under which number the poller reports the bell: no listener's, and no handshake's.
const BELL: u64 = u64::MAX;

/// The longest that an order may take: a turn is some milliseconds.
const OBEY_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
