//! Every order in which the steps of two threads can meet, within the memory model and a bound on preemptions: at
//! the byte ring, and where a thread goes to sleep.
//!
//! Ring and `Armed` are the very files of the library, made of the `sync` module below instead of the library's.

use std::cell::Cell;
use std::collections::VecDeque;

use loom::model::Builder;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

#[path = "../src/bell/armed.rs"]
mod armed;
#[path = "../src/spsc/ring.rs"]
#[expect(unreachable_pub, reason = "in the library it is public")]
#[allow(
    dead_code,
    reason = "the models take the steps that two threads meet at"
)]
mod ring;
use armed::Armed;
use ring::{Consumer, Producer, RING_LEN_MIN};
use sync::{FENCES, Fences};

loom::thread_local! {
    /// Whether the thread of the model is the one that sleeps.
    static IS_OWNER: Cell<bool> = Cell::new(false);
}

/// What the library's `sync` has, watched by the model.
mod sync {
    use std::cell::{Cell, UnsafeCell};

    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    thread_local! {
        /// Which fences there are. The threads of a model take turns on the one thread of its test.
        pub(crate) static FENCES: Cell<Fences> = const { Cell::new(Fences::All) };
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fences {
        /// As the library has it.
        All,
        /// The thread that began the model goes without: the owner of the bell.
        NotTheOwners,
        /// The others go without.
        NotTheOthers,
    }

    pub(crate) fn fence(ordering: Ordering) {
        let is_owner = super::IS_OWNER.with(|is_owner| is_owner.get());
        let missing = match FENCES.get() {
            Fences::All => false,
            Fences::NotTheOwners => is_owner,
            Fences::NotTheOthers => !is_owner,
        };
        if !missing {
            loom::sync::atomic::fence(ordering);
        }
    }

    /// A swap: the model does not know that nothing comes between the two halves of one. It would let that of another
    /// thread, which took the `true` of one sleep, count as later than a plain store of `true` for the next.
    pub(crate) fn store(flag: &AtomicBool, value: bool) {
        flag.swap(value, Ordering::Relaxed);
    }

    pub(crate) struct Words {
        memory: Box<[UnsafeCell<u64>]>,
        /// One for each word, because a watched cell cannot lie in memory as a word does.
        watched: Box<[loom::cell::UnsafeCell<()>]>,
    }

    impl Words {
        pub(crate) fn new(len: usize) -> Self {
            Self {
                memory: (0..len).map(|_| UnsafeCell::new(u64::MAX)).collect(),
                watched: (0..len).map(|_| loom::cell::UnsafeCell::new(())).collect(),
            }
        }

        /// Fails the model when another thread may be writing one of the words.
        pub(crate) fn for_reading(&self, first: usize, count: usize) -> *const u8 {
            for word in &self.watched[first..][..count] {
                word.with(|_| ());
            }
            self.memory[first..][..count].as_ptr().cast()
        }

        /// Fails the model when another thread may be reading or writing one of the words.
        pub(crate) fn for_writing(&self, first: usize, count: usize) -> *mut u8 {
            for word in &self.watched[first..][..count] {
                word.with_mut(|_| ());
            }
            let words = &raw const self.memory[first..][..count];
            UnsafeCell::raw_get(words.cast::<UnsafeCell<u64>>()).cast()
        }
    }

    // SAFETY: the model runs one of its threads at a time.
    unsafe impl Sync for Words {}
}

/// Bytes that tell records apart, of a length that makes the third one begin a new lap.
fn record(stamp: u64) -> [u8; 8] {
    (stamp * 0x0101_0101_0101_0101).to_ne_bytes()
}

fn push(producer: &mut Producer, stamp: u64) {
    while !producer.push(stamp, &record(stamp)) {
        thread::yield_now();
    }
}

/// Takes and checks what is there.
fn take(consumer: &mut Consumer, expected: &mut VecDeque<u64>) {
    while let Some((stamp, bytes)) = consumer.peek() {
        assert_eq!(Some(stamp), expected.pop_front());
        assert_eq!(bytes, record(stamp));
        consumer.pop();
    }
    consumer.free();
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    // Of the faults that two threads can have, nearly all need two switches at the wrong place.
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn a_record_is_read_as_it_was_pushed_and_its_room_is_not_written_before_it_is_free() {
    model(|| {
        let (mut producer, mut consumer) = ring::ring(RING_LEN_MIN);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            push(&mut producer, 2);
            producer.publish();
            // Needs room that the reader gives back, and a mark before it.
            push(&mut producer, 3);
            producer.publish();
        });
        let mut expected = VecDeque::from([1, 2, 3]);
        while !expected.is_empty() {
            take(&mut consumer, &mut expected);
            thread::yield_now();
        }
        writer.join().unwrap();
        assert!(consumer.is_empty());
    });
}

#[test]
fn a_full_ring_refuses_or_takes_and_nothing_in_between() {
    model(|| {
        let (mut producer, mut consumer) = ring::ring(RING_LEN_MIN);
        let writer = thread::spawn(move || {
            let mut taken = VecDeque::new();
            for stamp in 1..=4 {
                if producer.push(stamp, &record(stamp)) {
                    taken.push_back(stamp);
                }
                producer.publish();
            }
            taken
        });
        let mut seen = Vec::new();
        for _ in 0..3 {
            // The room of the first is given back while the second may be there and is not read yet.
            if let Some((stamp, bytes)) = consumer.peek() {
                assert_eq!(bytes, record(stamp));
                seen.push(stamp);
                consumer.pop();
                consumer.free();
            }
        }
        let mut taken = writer.join().unwrap();
        taken
            .drain(..seen.len())
            .zip(seen)
            .for_each(|(pushed, seen)| assert_eq!(pushed, seen));
        take(&mut consumer, &mut taken);
        assert!(taken.is_empty());
    });
}

/// The library's `Bell`, with a flag in place of the eventfd.
struct Bell {
    rung: Mutex<bool>,
    rings: Condvar,
    armed: Armed,
}

impl Bell {
    fn new() -> Self {
        Self {
            rung: Mutex::new(false),
            rings: Condvar::new(),
            armed: Armed::new(),
        }
    }

    /// A wait without limit: who is not rung for, never wakes, and the model says so.
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.rings.wait(rung).unwrap();
        }
    }

    fn disarm(&self) {
        self.armed.disarm();
        *self.rung.lock().unwrap() = false;
    }

    fn ring_if_armed(&self) {
        if self.armed.take() {
            *self.rung.lock().unwrap() = true;
            self.rings.notify_one();
        }
    }
}

/// One thread sleeps whenever the ring is empty, the other fills it and rings.
fn sleep_and_ring(fences: Fences) {
    FENCES.set(fences);
    model(|| {
        IS_OWNER.with(|is_owner| is_owner.set(true));
        let (mut producer, mut consumer) = ring::ring(RING_LEN_MIN);
        let bell = Arc::new(Bell::new());
        let others = Arc::clone(&bell);
        let writer = thread::spawn(move || {
            for stamp in 1..=2 {
                push(&mut producer, stamp);
                producer.publish();
                others.ring_if_armed();
            }
        });
        let mut expected = VecDeque::from([1, 2]);
        loop {
            take(&mut consumer, &mut expected);
            if expected.is_empty() {
                break;
            }
            bell.armed.arm();
            if consumer.is_empty() {
                bell.wait();
            }
            bell.disarm();
        }
        writer.join().unwrap();
    });
}

#[test]
fn who_sleeps_is_rung_for_whatever_was_published() {
    sleep_and_ring(Fences::All);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fence_of_who_sleeps_the_model_finds_the_lost_ring() {
    sleep_and_ring(Fences::NotTheOwners);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fence_of_who_rings_the_model_finds_the_lost_ring() {
    sleep_and_ring(Fences::NotTheOthers);
}
