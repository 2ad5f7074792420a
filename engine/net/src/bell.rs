//! Waking a thread that sleeps in [`RxQueue::wait`](crate::RxQueue::wait), and only then.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Whether the owner sleeps.
mod armed;
use armed::Armed;

/// What other threads wake one sleeper with, an `eventfd(2)`.
///
/// A wakeup costs some microseconds, so whoever hands something over rings only if the owner has said that it
/// is about to sleep:
///
/// ```text
///   owner                                  others
///   bell.arm()                             hand something over
///   look once more at everything ──▶ go on bell.ring_if_armed()
///   wait(queues, bell, timeout)
///   bell.disarm()
///   look at everything
/// ```
///
/// Nothing is missed. `arm` stores `armed`, then the owner loads what was handed over; another thread stores what
/// it hands over, then `ring_if_armed` loads `armed`. Each has a sequentially consistent fence between its store
/// and its load, and one of two such fences comes first: if it is the owner's, the other thread's load sees
/// `armed` and rings; if it is the other thread's, the owner's load sees what was handed over and does not sleep.
///
/// A ring stays until [`disarm`](Self::disarm) takes it: one that comes between `arm` and the wait ends the
/// wait at once.
#[derive(Debug)]
pub struct Bell {
    eventfd: File,
    armed: Armed,
}

impl Bell {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// What eventfd(2) said: mostly `EMFILE`, too many open files.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes two integers and no memory. (eventfd(2))
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was opened right above and nobody else knows it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            eventfd: owned.into(),
            armed: Armed::new(),
        })
    }

    /// Wakes the owner, or keeps it from its next sleep. A system call; for what happens rarely, a stop say.
    ///
    /// Store what the owner shall see before, with [`Release`](std::sync::atomic::Ordering::Release) or stronger.
    pub fn ring(&self) {
        // "A write(2) call adds the 8-byte integer value supplied in its buffer to the counter" (eventfd(2)). It
        // can fail only with EAGAIN, when the counter is at its maximum: then the bell rings already.
        let _ = (&self.eventfd).write(&1_u64.to_ne_bytes());
    }

    /// Rings if the owner sleeps or is about to. A fence and a load otherwise: once per batch, not per packet.
    ///
    /// Call it after handing something over.
    #[inline]
    pub fn ring_if_armed(&self) {
        if self.armed.take() {
            self.ring();
        }
    }

    /// The owner says that it is about to sleep. It must look at everything once more before it does.
    #[inline]
    pub fn arm(&self) {
        self.armed.arm();
    }

    /// The owner is awake. Takes the rings so far; what they were for is looked at afterwards, not before.
    #[inline]
    pub fn disarm(&self) {
        self.armed.disarm();
        // EAGAIN when nobody rang.
        let _ = (&self.eventfd).read(&mut [0; 8]);
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    /// Far longer than it takes: who sleeps for all of it was not woken.
    const FOREVER: Duration = Duration::from_secs(20);

    /// Whether the bell ended the wait, and not the time.
    fn rang_within(bell: &Bell, timeout: Duration) -> bool {
        let start = Instant::now();
        poll::readable([bell.as_raw_fd()], timeout).unwrap();
        start.elapsed() < timeout
    }

    #[test]
    fn a_ring_wakes_a_sleeping_thread() {
        let bell = Bell::new().unwrap();
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                bell.arm();
                let rang = rang_within(&bell, FOREVER);
                bell.disarm();
                rang
            });
            while !sleeper.is_finished() {
                thread::sleep(Duration::from_millis(5));
                bell.ring_if_armed();
            }
            assert!(sleeper.join().unwrap());
        });
    }

    #[test]
    fn a_ring_between_arm_and_wait_is_not_lost() {
        let bell = Bell::new().unwrap();
        bell.arm();
        bell.ring_if_armed();
        assert!(rang_within(&bell, FOREVER));
        bell.disarm();
        assert!(!rang_within(&bell, Duration::from_millis(5)), "rang twice");
    }

    #[test]
    fn who_is_awake_is_not_rung_for_but_can_be() {
        let bell = Bell::new().unwrap();
        bell.ring_if_armed();
        assert!(!rang_within(&bell, Duration::from_millis(5)));
        bell.ring();
        bell.ring();
        assert!(rang_within(&bell, FOREVER));
        bell.disarm();
        assert!(!rang_within(&bell, Duration::from_millis(5)));
    }

    /// Both threads leave it at the same moment, as near as two cores can.
    fn meet(mine: &AtomicU32, other: &AtomicU32, round: u32) {
        mine.store(round, Ordering::Release);
        let mut turns = 0_u32;
        while other.load(Ordering::Acquire) < round {
            turns += 1;
            if turns.is_multiple_of(1000) {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    #[test]
    fn what_is_handed_over_is_seen_or_rung_for() {
        // Arming against handing over, at the same moment, again and again: a round that has neither is one in which
        // the owner would have slept. What this has and the model of `tests/loom.rs` has not is the eventfd; that the
        // fences are needed is for the model to show. A round is a microsecond on two cores, and up to some
        // milliseconds where both threads have to share one.
        const ROUNDS: u32 = 2_000;
        let deadline = Instant::now() + Duration::from_secs(1);
        let over = AtomicBool::new(false);
        let bell = Bell::new().unwrap();
        let handed_over = AtomicU32::new(0);
        let (owner, other) = (AtomicU32::new(0), AtomicU32::new(0));
        let missed = thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    meet(&other, &owner, 2 * round);
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    handed_over.store(round, Ordering::Release);
                    bell.ring_if_armed();
                    meet(&other, &owner, 2 * round + 1);
                }
            });
            let mut missed = 0;
            for round in 1..=ROUNDS {
                over.store(Instant::now() >= deadline, Ordering::Relaxed);
                meet(&owner, &other, 2 * round);
                if over.load(Ordering::Relaxed) {
                    break;
                }
                bell.arm();
                let seen = handed_over.load(Ordering::Acquire) == round;
                meet(&owner, &other, 2 * round + 1);
                let rung = (&bell.eventfd).read(&mut [0; 8]).is_ok();
                missed += u32::from(!seen && !rung);
                bell.disarm();
            }
            missed
        });
        assert_eq!(missed, 0, "of up to {ROUNDS} rounds");
    }

    #[test]
    fn two_threads_wake_each_other_without_end() {
        const TURNS: u32 = 5_000;
        let turn = AtomicU32::new(0);
        let bells = [Bell::new().unwrap(), Bell::new().unwrap()];
        let play = |mine: u32| {
            let (own, other) = (&bells[mine as usize], &bells[1 - mine as usize]);
            loop {
                let seen = turn.load(Ordering::Acquire);
                if seen >= TURNS {
                    return;
                }
                if seen % 2 == mine {
                    turn.store(seen + 1, Ordering::Release);
                    other.ring_if_armed();
                    continue;
                }
                own.arm();
                if turn.load(Ordering::Acquire) == seen {
                    assert!(rang_within(own, FOREVER), "turn {seen} was slept through");
                }
                own.disarm();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| play(0));
            scope.spawn(|| play(1));
        });
        assert_eq!(turn.load(Ordering::Relaxed), TURNS);
    }
}
