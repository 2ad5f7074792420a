use super::*;
use crate::dispatch::front::Front;
use crate::dispatch::handler::{Context, Handler, Origin, Refusal, Verdict};
use crate::dispatch::registry::Registry;
use crate::telemetry::snapshot::Counts;
use binrush_net::{QUEUED_LEN_MIN, Sent, TxBatch};
use binrush_wire::{Builder, ErrorKind, Generation, Packet, WireError, crc32};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Mutex;

/// One receive of a scripted queue.
enum Step {
    Batch(Vec<Vec<u8>>),
    Truncated(Vec<u8>),
    Empty,
    Fail,
}

/// Plays its script, then stays empty; asks for `stop` after so many receives.
struct Script<'s> {
    steps: VecDeque<Step>,
    stop_after: usize,
    life: &'s Life,
    /// How many receives there were before each wait.
    waits: Vec<usize>,
    receives: usize,
}

impl<'s> Script<'s> {
    fn new(steps: Vec<Step>, stop_after: usize, life: &'s Life) -> Self {
        Self {
            steps: steps.into(),
            stop_after,
            life,
            waits: Vec::new(),
            receives: 0,
        }
    }
}

impl RxQueue for Script<'_> {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        assert!(batch.is_empty(), "the shard hands in a released batch");
        self.receives += 1;
        if self.stop_after == 0 {
            self.life.stop();
        }
        self.stop_after = self.stop_after.saturating_sub(1);
        let (datagrams, truncated) = match self.steps.pop_front() {
            Some(Step::Batch(datagrams)) => (datagrams, false),
            Some(Step::Truncated(datagram)) => (vec![datagram], true),
            Some(Step::Empty) | None => (Vec::new(), false),
            Some(Step::Fail) => return Err(io::ErrorKind::OutOfMemory.into()),
        };
        for bytes in datagrams {
            let frame = slab.take().expect("the shard released the last batch");
            slab.frame_mut(&frame)[..bytes.len()].copy_from_slice(&bytes);
            batch.push(frame, u32::try_from(bytes.len()).unwrap(), truncated);
        }
        Ok(())
    }

    fn wait(queues: &mut [Self], _: Option<RawFd>, _: &Bell, _: Duration) -> io::Result<()> {
        for queue in queues {
            queue.waits.push(queue.receives);
        }
        Ok(())
    }

    fn disarm(&mut self, _: &mut Slab) {}

    fn queued_bytes(&self) -> io::Result<u64> {
        let datagrams = self.steps.iter().map(|step| match step {
            Step::Batch(datagrams) => datagrams.len() as u64,
            Step::Truncated(_) => 1,
            Step::Empty | Step::Fail => 0,
        });
        Ok(datagrams.sum::<u64>() * 768)
    }
}

/// 100 ns pass between any two reads, and a sleep takes as long as it says.
#[derive(Default)]
struct Ticking {
    now_ns: u64,
    slept: Vec<Duration>,
}

impl Clock for Ticking {
    fn now(&mut self) -> Timestamp {
        self.now_ns += 100;
        Timestamp::from_nanos(self.now_ns)
    }

    fn sleep(&mut self, duration: Duration) {
        self.now_ns += u64::try_from(duration.as_nanos()).unwrap();
        self.slept.push(duration);
    }
}

/// No shard of these tests sends anything.
pub(super) struct Nowhere;

impl Tx for Nowhere {
    fn send(&mut self, _: &mut TxBatch) -> Sent {
        unreachable!("nothing was posted")
    }
}

/// Refuses packets with this command, whatever they are called.
struct Drops(i32);

impl Front for Drops {
    fn admits(&mut self, origin: &Origin, packet: &Packet<'_>) -> bool {
        assert_eq!(*origin, Origin::Datagram(None));
        packet.command() != self.0
    }

    fn turn(&mut self, _: &mut dyn FnMut() -> Timestamp) -> bool {
        false
    }
}

fn stopped() -> Arc<Life> {
    let life = Life::new(1);
    life.stop();
    life
}

pub(super) fn parts<Q, C>(queue: Q, clock: C, registry: &Registry) -> Parts<Q, Nowhere, C> {
    let mut mesh = Mailbox::mesh(1).unwrap();
    Parts {
        id: ShardId(0),
        queues: vec![queue],
        open: Box::new(|_| Err(io::ErrorKind::Unsupported.into())),
        outbox: Outbox::new(None, None),
        clock,
        slab: Slab::new(4).unwrap(),
        batch: Batch::new(4),
        steering: Steering::new(1, 0),
        mailbox: mesh.remove(0),
        dispatch: registry.build(ShardId(0), &Arc::new(registry.table())),
        streams: NoStreams::parts(),
    }
}

fn shard<Q: RxQueue>(queue: Q, registry: Registry) -> (Shard<Q, Nowhere, Ticking>, Arc<Ledger>) {
    Shard::new(parts(queue, Ticking::default(), &registry))
}

fn run(steps: Vec<Step>, registry: Registry) -> (io::Result<()>, Counts) {
    let life = Life::new(1);
    let receives = steps.len();
    let (mut shard, ledger) = shard(Script::new(steps, receives, &life), registry);
    let result = shard.run(&life);
    assert_eq!(shard.slab.free(), 4, "every frame came back");
    (result, ledger.counts())
}

pub(super) fn packet(name: &[u8], command: i32) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, name, command, 0).unwrap();
    builder.push_str(b"field").unwrap();
    builder.seal().to_vec()
}

/// A handler that says the same of every packet.
struct Always(Verdict);

impl Handler for Always {
    fn handle(&mut self, _: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
        self.0
    }
}

fn always(verdict: Verdict) -> impl Fn(ShardId) -> Always + Send + Sync {
    move |_| Always(verdict)
}

#[test]
fn every_datagram_ends_in_exactly_one_counter() {
    let mut wrong_marker = packet(b"ul", 1);
    wrong_marker[0] = b'X';
    let mut wrong_crc = packet(b"ul", 1);
    wrong_crc[4] ^= 1;
    let mut wrong_name = packet(b"ul", 1);
    wrong_name[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
    let crc = crc32::checksum(&wrong_name[8..]);
    wrong_name[4..8].copy_from_slice(&crc.to_le_bytes());

    let at_wire = [
        (b"P4CK".to_vec(), Outcome::TooShort),
        (Vec::new(), Outcome::TooShort),
        (wrong_marker, Outcome::BadMarker),
        (wrong_crc, Outcome::BadCrc),
        (wrong_name, Outcome::BadNameLength),
        (packet(b"nobody", 1), Outcome::UnknownName),
    ];
    // What a handler may say, each under a name of its own.
    let kinds = ErrorKind::ALL.map(|kind| Verdict::Field(WireError::new(kind, 18, 4, 0)));
    let verdicts = [
        Verdict::Handled,
        Verdict::UnknownCommand,
        Verdict::UnknownVersion,
        Verdict::Held,
        Verdict::Refused(Refusal::UnknownCluster),
        Verdict::Refused(Refusal::OwnId),
        Verdict::Refused(Refusal::UnknownNode),
        Verdict::Refused(Refusal::ForeignAddress),
        Verdict::Refused(Refusal::Disabled),
        Verdict::Refused(Refusal::NotForUs),
        Verdict::Refused(Refusal::UnexpectedSync),
        Verdict::Refused(Refusal::NoRoom),
        Verdict::Refused(Refusal::Busy),
    ];
    let mut registry = Registry::new();
    let mut at_handler = Vec::new();
    for (i, verdict) in verdicts.into_iter().chain(kinds).enumerate() {
        let name = format!("handler{i}");
        registry.register(name.as_bytes(), always(verdict)).unwrap();
        at_handler.push((packet(name.as_bytes(), 7), Outcome::from(verdict)));
    }

    let mut expected = [0; Outcome::COUNT];
    expected[Outcome::Truncated as usize] = 1;
    let mut steps = vec![Step::Truncated(packet(b"handler0", 7))];
    registry.front(|_| Some(Box::new(Drops(99))));
    for name in [&b"handler0"[..], b"nobody"] {
        expected[Outcome::DroppedByScript as usize] += 1;
        steps.push(Step::Batch(vec![packet(name, 99)]));
    }
    for (bytes, outcome) in at_wire.into_iter().chain(at_handler) {
        expected[outcome as usize] += 1;
        steps.push(Step::Batch(vec![bytes]));
    }
    let (result, totals) = run(steps, registry);
    result.unwrap();
    assert_eq!(totals.outcomes, expected);
    // The one that needs a second shard.
    expected[Outcome::MailboxFull as usize] = 1;
    assert!(
        expected.iter().all(|count| *count > 0),
        "no outcome without a way to it"
    );
    assert!(totals.is_balanced());
}

#[test]
fn batches_are_handled_in_order_with_one_time_each() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let mut registry = Registry::new();
    registry
        .register(b"ul", move |_| {
            let log = Arc::clone(&log);
            move |context: &mut Context<'_>, packet: &Packet<'_>| {
                let now = context.now().as_nanos();
                log.lock().unwrap().push((now, packet.command()));
                Verdict::Handled
            }
        })
        .unwrap();
    let batch = |commands: &[i32]| {
        Step::Batch(
            commands
                .iter()
                .map(|command| packet(b"ul", *command))
                .collect(),
        )
    };
    let (result, totals) = run(
        vec![batch(&[1, 2, 3]), Step::Empty, batch(&[4]), batch(&[1, 1])],
        registry,
    );
    result.unwrap();
    let expected = [(100, 1), (100, 2), (100, 3), (300, 4), (500, 1), (500, 1)];
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(
        (totals.received, totals.batches, totals.busy_ns),
        (6, 3, 300)
    );
    assert_eq!(totals.bytes, 6 * packet(b"ul", 1).len() as u64);
    assert_eq!(totals.names[0].commands, [(1, 3), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn after_the_stop_the_queue_is_drained_first() {
    let mut registry = Registry::new();
    registry.register(b"ul", always(Verdict::Handled)).unwrap();
    let life = Life::new(1);
    life.stop();
    // An empty batch is not the end as long as the kernel holds something.
    let some = || Step::Batch(vec![packet(b"ul", 1)]);
    let steps = vec![some(), some(), Step::Empty, some()];
    let (mut shard, ledger) = shard(Script::new(steps, 0, &life), registry);
    shard.run(&life).unwrap();
    assert_eq!(ledger.counts().outcome(Outcome::Handled), 3);
}

#[test]
fn an_idle_shard_asks_a_while_and_then_sleeps() {
    let life = Life::new(1);
    let spin = SPIN_RECEIVES;
    let mut steps: Vec<Step> = (0..spin).map(|_| Step::Empty).collect();
    steps.push(Step::Batch(vec![packet(b"ul", 1)]));
    let queue = Script::new(steps, 2 * spin + 3, &life);
    let (mut shard, _ledger) = shard(queue, Registry::new());
    shard.run(&life).unwrap();
    // What came in time cost no sleep; then each sleep is followed by one look, and none follows the stop.
    let first = 2 * spin + 2;
    assert_eq!(shard.queues[0].waits, [first, first + 1]);
}

#[test]
fn a_queue_that_heals_costs_nothing_and_one_that_does_not_ends_the_shard() {
    let failing = |count: u32| (0..count).map(|_| Step::Fail);
    let mut steps: Vec<Step> = failing(RECV_FAILURES_MAX - 1).collect();
    steps.push(Step::Batch(vec![packet(b"ul", 1)]));
    steps.extend(failing(RECV_FAILURES_MAX - 1));
    let (result, totals) = run(steps, Registry::new());
    result.unwrap();
    assert_eq!(
        totals.receive_failures,
        2 * u64::from(RECV_FAILURES_MAX - 1)
    );
    assert_eq!(totals.outcome(Outcome::UnknownName), 1);

    let (result, totals) = run(failing(RECV_FAILURES_MAX + 5).collect(), Registry::new());
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    assert_eq!(totals.receive_failures, u64::from(RECV_FAILURES_MAX));
}

#[test]
fn each_failure_in_a_row_pauses_longer_up_to_a_bound() {
    let life = Life::new(1);
    let fail = |count: u32| (0..count).map(|_| Step::Fail);
    let steps: Vec<Step> = fail(8).chain([Step::Empty]).chain(fail(1)).collect();
    let queue = Script::new(steps, 10, &life);
    let (mut shard, _ledger) = shard(queue, Registry::new());
    shard.run(&life).unwrap();
    let millis: Vec<u128> = shard.clock.slept.iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [1, 2, 4, 8, 16, 32, 32, 32, 1]);
    assert!(shard.clock.slept.iter().all(|pause| *pause < WAIT));
}

#[test]
fn a_drain_that_finds_more_than_was_queued_is_cut_and_said() {
    /// Two datagrams are queued when it is asked, and there is always one more.
    struct Endless;
    impl RxQueue for Endless {
        fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
            batch.push(slab.take().expect("released"), 0, false);
            Ok(())
        }

        fn wait(_: &mut [Self], _: Option<RawFd>, _: &Bell, _: Duration) -> io::Result<()> {
            unreachable!("there is always something")
        }

        fn disarm(&mut self, _: &mut Slab) {}

        fn queued_bytes(&self) -> io::Result<u64> {
            Ok(2 * QUEUED_LEN_MIN)
        }
    }
    let (mut shard, ledger) = shard(Endless, Registry::new());
    let error = shard.run(&stopped()).unwrap_err();
    assert!(error.to_string().contains("keep arriving"), "{error}");
    // Also the one too many is in a counter.
    let totals = ledger.counts();
    assert_eq!(totals.outcome(Outcome::TooShort), 3);
    assert!(totals.is_balanced());
}

#[test]
fn a_drain_does_not_wait_forever_for_memory_that_is_not_given_back() {
    struct Held;
    impl RxQueue for Held {
        fn recv(&mut self, _: &mut Slab, _: &mut Batch) -> io::Result<()> {
            Ok(())
        }

        fn wait(_: &mut [Self], _: Option<RawFd>, _: &Bell, _: Duration) -> io::Result<()> {
            Ok(())
        }

        fn disarm(&mut self, _: &mut Slab) {}

        fn queued_bytes(&self) -> io::Result<u64> {
            Ok(768)
        }
    }
    let (mut shard, _ledger) = shard(Held, Registry::new());
    shard.run(&stopped()).unwrap();
}

/// Bound to IPv4 inside IPv6, which brings one packet and says from where.
struct Mapped(Option<Vec<u8>>);

impl RxQueue for Mapped {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        if let Some(bytes) = self.0.take() {
            let frame = slab.take().expect("all are free");
            slab.frame_mut(&frame)[..bytes.len()].copy_from_slice(&bytes);
            batch.push(frame, u32::try_from(bytes.len()).unwrap(), false);
            batch.came_from(Some(([192, 0, 2, 9], 40_000).into()));
        }
        Ok(())
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some("[::ffff:192.0.2.1]:5555".parse().unwrap())
    }

    fn wait(_: &mut [Self], _: Option<RawFd>, _: &Bell, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn disarm(&mut self, _: &mut Slab) {}

    fn queued_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn a_datagram_that_arrived_at_ipv4_inside_ipv6_arrived_at_ipv4_as_if_it_had_been_mailed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let mut registry = Registry::new();
    registry.ask_sources();
    registry
        .register(b"ul", move |_| {
            let log = Arc::clone(&log);
            move |context: &mut Context<'_>, _: &Packet<'_>| {
                log.lock().unwrap().push(*context.origin());
                Verdict::Handled
            }
        })
        .unwrap();
    let (mut shard, _ledger) = shard(Mapped(Some(packet(b"ul", 1))), registry);
    assert!(shard.turn().unwrap());
    let ends = Ends {
        peer: ([192, 0, 2, 9], 40_000).into(),
        local: Some(([192, 0, 2, 1], 5555).into()),
    };
    assert_eq!(*seen.lock().unwrap(), [Origin::Datagram(Some(ends))]);
}
