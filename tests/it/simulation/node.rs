//! A whole engine in one thread: its shards take turns, its kernel is a [`Network`], and time passes when the
//! driver or a handler says so.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use binrush_engine::shard::mailbox::Mailbox;
use binrush_engine::shard::outbox::Outbox;
use binrush_engine::shard::streams::NoStreams;
use binrush_engine::shard::{Life, Parts, RECV_FAILURES_MAX};
use binrush_engine::{
    Clock, Context, Handler as _, Ledger, Registry, SchemaHandler, Shard, ShardId, Snapshot,
    Timestamp, Verdict,
};
use binrush_net::sim::{Network, SimQueue, SimTx};
use binrush_net::{Batch, Bell, RxQueue, Slab};
use binrush_wire::Packet;

use super::books::{Lane, SharedBook};
use super::plan::{Kernel, Plan};
use super::traffic;
use crate::dice::Dice;

type SimShard = Shard<Tap, SimTx, SimClock>;

/// The engine under test, and the ends of it that the test holds.
pub(super) struct Node {
    network: Network,
    shards: Vec<SimShard>,
    ledgers: Vec<Arc<Ledger>>,
    queues: Vec<Rc<RefCell<SimQueue>>>,
    life: Arc<Life>,
    /// Shards that have not begun to end; their clocks look here.
    ending: Rc<RefCell<Vec<SimShard>>>,
    /// One receive of so many fails.
    failing_one_in: Rc<Cell<Option<usize>>>,
    /// Datagrams that the kernel chose a socket for.
    steered: Arc<AtomicUsize>,
    /// As many of them have to be before the sockets take any.
    closed: Option<usize>,
    queue_max: usize,
}

/// A queue, watched; and failing now and then.
pub(super) struct Tap {
    lane: Lane,
    network: Network,
    queue: Rc<RefCell<SimQueue>>,
    /// Of the shard's slab.
    frames: usize,
    book: SharedBook,
    failing_one_in: Rc<Cell<Option<usize>>>,
    dice: Dice,
    failures: u32,
}

/// The network's time.
pub(super) struct SimClock {
    network: Network,
    life: Arc<Life>,
    ending: Rc<RefCell<Vec<SimShard>>>,
}

impl Node {
    /// Listens at `listeners`, all of different families; its handlers answer to `peers`.
    pub(super) fn new(
        plan: &Plan,
        network: &Network,
        listeners: &[SocketAddr],
        peers: &[SocketAddr],
        book: &SharedBook,
    ) -> Self {
        let mut node = Self {
            network: network.clone(),
            shards: Vec::new(),
            ledgers: Vec::new(),
            queues: Vec::new(),
            life: Life::new(plan.shards),
            ending: Rc::default(),
            failing_one_in: Rc::new(Cell::new(plan.failing_one_in)),
            steered: Arc::default(),
            closed: match plan.kernel {
                Kernel::Closed(strays) => Some(strays),
                _ => None,
            },
            queue_max: plan.queue_max,
        };
        let mut groups: Vec<_> = listeners
            .iter()
            .map(|addr| node.bind(plan, *addr).into_iter())
            .collect();
        let registry = registry(network, peers, book);
        let table = Arc::new(registry.table());
        let mesh = Mailbox::mesh(plan.shards).expect("eventfds can be had");
        for (id, mailbox) in (0..).map(ShardId).zip(mesh) {
            let taps = groups.iter_mut().enumerate().map(|(listener, group)| {
                let shard = id.index();
                let queue = group.next().expect("one for each shard");
                node.tap(plan, Lane { shard, listener }, queue, book)
            });
            let taps = taps.collect();
            let (shard, ledger) = Shard::new(Parts {
                id,
                queues: taps,
                open: Box::new(|_| Err(io::ErrorKind::Unsupported.into())),
                outbox: node.outbox(listeners),
                clock: node.clock(),
                slab: Slab::new(plan.frames).expect("there is memory"),
                batch: Batch::new(plan.batch),
                steering: plan.steering(),
                mailbox,
                dispatch: registry.build(id, &table),
                streams: NoStreams::parts(),
            });
            node.shards.push(shard);
            node.ledgers.push(ledger);
        }
        node.form();
        node
    }

    /// One socket for each shard, and the kernel's choice among them.
    fn bind(&mut self, plan: &Plan, addr: SocketAddr) -> Vec<Rc<RefCell<SimQueue>>> {
        let steered = Arc::clone(&self.steered);
        let chosen = plan.clone();
        let steer = move |datagram: &[u8]| {
            let number = steered.fetch_add(1, Ordering::Relaxed);
            chosen.socket(number, datagram)
        };
        let group = self.network.bind_group(addr, plan.shards.into(), steer);
        let group: Vec<_> = group
            .into_iter()
            .map(|mut queue| {
                queue.set_capacity(0);
                Rc::new(RefCell::new(queue))
            })
            .collect();
        self.queues.extend(group.iter().cloned());
        group
    }

    fn tap(&self, plan: &Plan, lane: Lane, queue: Rc<RefCell<SimQueue>>, book: &SharedBook) -> Tap {
        let number = u64::try_from(lane.shard * 2 + lane.listener).expect("a few");
        Tap {
            lane,
            network: self.network.clone(),
            queue,
            frames: plan.frames,
            book: Arc::clone(book),
            failing_one_in: Rc::clone(&self.failing_one_in),
            dice: Dice::new(!plan.seed ^ number),
            failures: 0,
        }
    }

    fn outbox(&self, listeners: &[SocketAddr]) -> Outbox<SimTx> {
        let tx = |is_ipv6| {
            let own = listeners.iter().find(|addr| addr.is_ipv6() == is_ipv6)?;
            Some(self.network.tx(*own))
        };
        Outbox::new(tx(false), tx(true))
    }

    fn clock(&self) -> SimClock {
        SimClock {
            network: self.network.clone(),
            life: Arc::clone(&self.life),
            ending: Rc::clone(&self.ending),
        }
    }

    /// Lets the sockets take datagrams as soon as the group of them is formed.
    pub(super) fn form(&mut self) {
        let steered = self.steered.load(Ordering::Relaxed);
        if self.closed.is_none_or(|strays| steered >= strays) {
            self.closed = None;
            for queue in &self.queues {
                queue.borrow_mut().set_capacity(self.queue_max);
            }
        }
    }

    /// One round of one shard; whether anything came.
    pub(super) fn turn(&mut self, shard: usize) -> bool {
        let turned = self.shards[shard].turn();
        turned.expect("no queue fails that often in a row")
    }

    /// Each shard's books are balanced; what is not settled yet is in the rings.
    pub(super) fn check_between_turns(&self) {
        assert!(self.unread_mail() >= 0);
        for ledger in &self.ledgers {
            let counts = ledger.counts();
            assert!(counts.is_balanced(), "{counts:?}");
        }
    }

    /// Whether no socket holds anything and all mail was read.
    pub(super) fn is_idle(&self) -> bool {
        let mut queues = self
            .queues
            .iter()
            .map(|queue| queue.borrow().queued_bytes());
        self.unread_mail() == 0 && queues.all(|bytes| matches!(bytes, Ok(0)))
    }

    fn unread_mail(&self) -> i64 {
        let counts = self.ledgers.iter().map(|ledger| ledger.counts());
        let unread =
            counts.map(|counts| counts.mailed_out.cast_signed() - counts.mailed_in.cast_signed());
        unread.sum()
    }

    /// All counters.
    pub(super) fn snapshot(&self) -> Snapshot {
        let shards = self.ledgers.iter().map(|ledger| ledger.counts());
        Snapshot::of(shards.collect(), vec![])
    }

    /// Datagrams that its sockets dropped.
    pub(super) fn drops(&self) -> u64 {
        let queues = self.queues.iter();
        queues.map(|queue| queue.borrow().drops()).sum()
    }

    /// Ends as an engine does: shuts its sockets, lets every shard drain and read the last mail, in an order from
    /// `dice`.
    ///
    /// In one thread a shard that waits for the others' mail would wait for ever. So its clock runs the next one
    /// instead of sleeping, that one's clock the next, and all of them end in the reverse order.
    pub(super) fn end(&mut self, dice: &mut Dice) {
        // Who pauses after a failure would hold up the others: it has not left yet.
        self.failing_one_in.set(None);
        for queue in &self.queues {
            queue.borrow().shut();
        }
        self.life.stop();
        while !self.shards.is_empty() {
            let next = dice.below(self.shards.len());
            self.ending.borrow_mut().push(self.shards.swap_remove(next));
        }
        self.clock().run_next();
        assert!(self.ending.borrow().is_empty(), "each waited for the next");
    }
}

impl SimClock {
    fn run_next(&self) {
        // Taken out before it runs: it will look here, too.
        let next = self.ending.borrow_mut().pop();
        if let Some(mut shard) = next {
            shard.run(&self.life).expect("a shut queue can be drained");
        }
    }
}

impl Clock for SimClock {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.network.now_ns())
    }

    fn sleep(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).expect("a short sleep");
        self.network.advance(ns);
        self.run_next();
    }
}

impl Tap {
    fn fails(&mut self) -> bool {
        let fails = self.failures < FAILURES_MAX
            && (self.failing_one_in.get()).is_some_and(|count| self.dice.below(count) == 0);
        self.failures = if fails { self.failures + 1 } else { 0 };
        fails
    }
}

impl RxQueue for Tap {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        assert!(batch.is_empty(), "the shard hands in a released batch");
        assert_eq!(slab.free(), self.frames, "every frame came back");
        let now_ns = self.network.now_ns();
        if self.fails() {
            self.book.lock().unwrap().failed(now_ns, self.lane);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.queue.borrow_mut().recv(slab, batch)?;
        let mut book = self.book.lock().unwrap();
        book.arrived(now_ns, self.lane, batch.datagrams(slab));
        Ok(())
    }

    fn queued_bytes(&self) -> io::Result<u64> {
        self.queue.borrow().queued_bytes()
    }

    fn disarm(&mut self, _: &mut Slab) {
        unreachable!("no listener is closed while its shard goes on")
    }

    fn wait(_: &mut [Self], _: Option<RawFd>, _: &Bell, _: Duration) -> io::Result<()> {
        unreachable!("a turn does not wait, and what a shut queue holds can be received")
    }
}

/// The built-in handler for what releases send, one of our own for the rest; each writes down what it takes.
fn registry(network: &Network, peers: &[SocketAddr], book: &SharedBook) -> Registry {
    let mut registry = Registry::new();
    for name in [traffic::DIALOG, traffic::CONTACT, traffic::OWN] {
        let (network, peers, book) = (network.clone(), peers.to_vec(), Arc::clone(book));
        let registered = registry.register(name, move |_shard| {
            let (network, peers, book) = (network.clone(), peers.clone(), Arc::clone(&book));
            move |context: &mut Context<'_>, packet: &Packet<'_>| {
                let verdict = match packet.name() {
                    traffic::OWN if packet.command() != traffic::OWN_EVENT => {
                        Verdict::UnknownCommand
                    }
                    traffic::OWN => Verdict::Handled,
                    _ => SchemaHandler.handle(context, packet),
                };
                if verdict == Verdict::Handled {
                    take(&network, &peers, &book, context, packet);
                }
                verdict
            }
        });
        registered.expect("three names are not too many");
    }
    registry
}

/// Works for a while and answers, both as the packet says.
fn take(
    network: &Network,
    peers: &[SocketAddr],
    book: &SharedBook,
    context: &mut Context<'_>,
    packet: &Packet<'_>,
) {
    let (record, mark) = traffic::read(packet).expect("its layout was checked");
    let answer = format!("{record} {mark}").into_bytes();
    let work_ns = u64::from(mark.number % 5) * 300;
    let arrived_ns = context.now().as_nanos();
    let event = (record, mark);
    let mut book = book.lock().unwrap();
    book.handled(
        network.now_ns(),
        arrived_ns,
        context.shard(),
        event,
        work_ns,
    );
    network.advance(work_ns);

    let mut send = |to, bytes: Vec<u8>| {
        let taken = context.send(to, &bytes);
        book.posted(to, bytes, taken);
    };
    if packet.command() == traffic::DIALOG_CREATED {
        send(peers[mark.peer], answer);
    }
    // And now and then what cannot go: too much for one batch, to no port, to a family that may have no listener.
    match mark.number % 16 {
        5 => send(NO_PORT.parse().expect("an address"), vec![1]),
        6 => send(NOBODY_V6.parse().expect("an address"), vec![2]),
        7 => (0..6).for_each(|_| send(peers[mark.peer], vec![0; 60_000])),
        _ => {}
    }
}

const NO_PORT: &str = "192.0.2.99:0";
const NOBODY_V6: &str = "[2001:db8::99]:5555";

/// Failures of one queue in a row: one more, and its shard may give up.
const FAILURES_MAX: u32 = RECV_FAILURES_MAX - 1;
