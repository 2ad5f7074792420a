//! What other threads want of a running shard, and how the control thread hears that it was done.
//!
//! ```text
//!  control:  post(order) ── posted += 1, bell ──▶  shard, between two batches: one load; take, obey,
//!            wait until done >= number        ◀──  done = number;  what was replaced comes back to be dropped
//!  others:   tell(name, message), the same way ──▶  the handler of that name; one in each turn
//! ```
//!
//! So a table is swapped while traffic flows and no packet ever sees half a change; and what the shard no
//! longer uses (a handler, a socket) is dropped by the control thread, after the shard said that it let go.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use binrush_net::{Bell, UdpSocket};
use crossbeam_queue::SegQueue;

use crate::access::Access;
use crate::dispatch::handler::{Handler, Told};
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
    /// Give this to the handler of that name.
    Tell(NameId, Box<dyn Any + Send>),
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

/// The place between a shard and other threads.
pub(crate) struct Desk {
    /// Orders posted so far. The Release store in `push` pairs with the Acquire load in `is_waiting`: who sees
    /// the number finds the order in the queue.
    posted: AtomicU64,
    /// Held while an order goes into the queue, so that it gets the number of its place there. Orders are rare: some
    /// thousand in a second at most.
    door: Mutex<Door>,
    /// Orders obeyed so far. The Release store in `done` pairs with the Acquire load in `wait`: who sees the
    /// number finds what was returned, and the shard has no reference any more to what was replaced.
    done: AtomicU64,
    orders: SegQueue<Order>,
    returned: SegQueue<Returned>,
    bell: Arc<Bell>,
}

/// Who may post.
#[derive(Debug, Default)]
struct Door {
    /// The shard hears nobody any more.
    closed: bool,
}

impl Desk {
    pub(crate) fn new(bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self {
            posted: AtomicU64::new(0),
            door: Mutex::default(),
            done: AtomicU64::new(0),
            orders: SegQueue::new(),
            returned: SegQueue::new(),
            bell,
        })
    }

    /// For the one control thread: hands in an order and returns its number.
    pub(crate) fn post(&self, order: Order) -> u64 {
        let door = self.door();
        let number = self.push(&door, order);
        drop(door);
        self.bell.ring();
        number
    }

    /// For any thread: hands in a message for the handler of `name`, as long as fewer than [`TOLD_MAX`] orders wait. Waits
    /// for nothing but others who post.
    ///
    /// What was taken is told, unless the shard ends by an error.
    pub(crate) fn tell(&self, name: NameId, message: Box<dyn Any + Send>) -> Told {
        let door = self.door();
        if door.closed {
            return Told::Ended;
        }
        let waiting = self.posted.load(Ordering::Relaxed) - self.done.load(Ordering::Relaxed);
        if waiting >= TOLD_MAX {
            return Told::Full;
        }
        self.push(&door, Order::Tell(name, message));
        drop(door);
        self.bell.ring_if_armed();
        Told::Taken
    }

    fn push(&self, _door: &MutexGuard<'_, Door>, order: Order) -> u64 {
        self.orders.push(order);
        let number = self.posted.load(Ordering::Relaxed) + 1;
        self.posted.store(number, Ordering::Release);
        number
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        // Nobody panics behind it.
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// For the shard: takes no message any more. What was taken before is in the queue.
    pub(crate) fn close(&self) {
        self.door().closed = true;
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

/// Closes a desk also when its shard ends by an error or a panic; who posted gets his messages dropped then.
pub(super) struct Closing<'a>(pub(super) &'a Desk);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        while self.0.take().is_some() {}
    }
}

/// Messages that may wait for one shard. Who tells waits for answers, so more of them are a shard that hangs.
pub(crate) const TOLD_MAX: u64 = 1024;

/// The longest a shard may take to get to an order: a batch is done in milliseconds.
pub(crate) const OBEY_MAX: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_micros(200);
