//! What the control thread wants of a running shard, and how it hears that it was done.
//!
//! ```text
//!  control:  post(order) ── posted += 1, bell ──▶  shard, between two batches: one load; take, obey,
//!            wait until done >= number        ◀──  done = number;  what was replaced comes back to be dropped
//! ```
//!
//! So a table is swapped while traffic flows and no packet ever sees half a change; and what the shard no
//! longer uses (a handler, a socket) is dropped by the control thread, after the shard said that it let go.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use binrush_net::{Bell, UdpSocket};
use crossbeam_queue::SegQueue;

use crate::access::Access;
use crate::dispatch::handler::Handler;
use crate::dispatch::{NameId, Table};

/// Number of a listener, never used twice by an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ListenerId(pub(crate) u32);

/// Something for a shard to do between two batches.
pub(crate) enum Order {
    /// From now on dispatch by `table`, after `handler` (or none) took the place of `id`.
    Dispatch {
        table: Arc<Table>,
        id: NameId,
        handler: Option<Box<dyn Handler>>,
    },
    /// Receive from this socket too.
    Open(ListenerId, Arc<UdpSocket>),
    /// Receive what is queued and let go; arrivals were shut off before.
    Close(ListenerId),
    /// Read what is there of these connections and close them.
    EndConnections(Connections),
}

/// Some of a shard's connections.
pub(crate) enum Connections {
    /// Those that came to this listener.
    OfListener(ListenerId),
    /// Those of addresses that this does not allow.
    NotAllowedBy(Access),
}

/// What a shard gives back.
pub(crate) enum Returned {
    /// A handler that will not be called again.
    Handler(Box<dyn Handler>),
    /// What order of this number asked for did not go as it should.
    Failed(u64, io::Error),
}

/// The place between a shard and the control thread.
pub(crate) struct Desk {
    /// Orders posted so far. The Release store in `post` pairs with the Acquire load in `is_waiting`: who sees
    /// the number finds the order in the queue.
    posted: AtomicU64,
    /// Orders obeyed so far. The Release store in `done` pairs with the Acquire load in `wait`: who sees the
    /// number finds what was returned, and the shard has no reference any more to what was replaced.
    done: AtomicU64,
    orders: SegQueue<Order>,
    returned: SegQueue<Returned>,
    bell: Arc<Bell>,
}

impl Desk {
    pub(crate) fn new(bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self {
            posted: AtomicU64::new(0),
            done: AtomicU64::new(0),
            orders: SegQueue::new(),
            returned: SegQueue::new(),
            bell,
        })
    }

    /// For the one control thread: hands in an order and returns its number.
    pub(crate) fn post(&self, order: Order) -> u64 {
        self.orders.push(order);
        let number = self.posted.load(Ordering::Relaxed) + 1;
        self.posted.store(number, Ordering::Release);
        self.bell.ring();
        number
    }

    /// For the control thread: gets the shard to look around.
    pub(crate) fn wake(&self) {
        self.bell.ring();
    }

    /// For the control thread: waits until order `number` was obeyed; `false` when it was not by `deadline`.
    pub(crate) fn wait(&self, number: u64, deadline: Instant, running: impl Fn() -> bool) -> bool {
        while self.done.load(Ordering::Acquire) < number {
            if Instant::now() >= deadline || !running() {
                return self.done.load(Ordering::Acquire) >= number;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// What the shard gave back since the last time.
    pub(crate) fn returned(&self) -> impl Iterator<Item = Returned> {
        std::iter::from_fn(|| self.returned.pop())
    }

    /// For the shard: whether there is something to do. One load.
    #[inline]
    pub(crate) fn is_waiting(&self, obeyed: u64) -> bool {
        self.posted.load(Ordering::Acquire) != obeyed
    }

    /// For the shard: the next order.
    pub(crate) fn take(&self) -> Option<Order> {
        self.orders.pop()
    }

    /// For the shard: `obeyed` orders are done.
    pub(crate) fn done(&self, obeyed: u64) {
        self.done.store(obeyed, Ordering::Release);
    }

    /// For the shard: gives something back to the control thread.
    pub(crate) fn give_back(&self, returned: Returned) {
        self.returned.push(returned);
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("posted", &self.posted)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

/// The longest a shard may take to get to an order: a batch is done in milliseconds.
pub(crate) const OBEY_MAX: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_micros(200);
