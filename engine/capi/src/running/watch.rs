//! Who does not come back: looked for from another thread, now and then.

use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{KNOWN, SLOTS, THREADS_MAX};

/// Looks at the threads that run code of modules. Belongs to one thread, which [looks](Self::look) each second or so.
#[derive(Debug)]
pub struct Watch {
    seen: Vec<Seen>,
}

/// A call that does not return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hanging {
    /// Whose code it is: of nested calls that of the inner one.
    pub module: &'static str,
    /// The file that it came from, where that was told.
    pub file: &'static str,
    /// The thread that is in it.
    pub thread: String,
    /// For how long at least: since a look saw it there first.
    pub lasted: Duration,
}

/// What a slot was like at the last look at which it had changed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    changes: u64,
    since: Instant,
}

impl Watch {
    /// From `now` on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let seen = Seen {
            changes: u64::MAX,
            since: now,
        };
        Self {
            seen: vec![seen; THREADS_MAX],
        }
    }

    /// The calls that were under way at an earlier look, at least `least` before `now`, and are still: in the order of their
    /// threads, each with the module that is inside now, which another one may have called. Of modules whose file was [told](super::comes_from).
    pub fn look(&mut self, now: Instant, least: Duration) -> Vec<Hanging> {
        let slots = SLOTS.iter().zip(&mut self.seen);
        let hanging = slots.filter_map(|(slot, seen)| {
            let changes = slot.changes.load(Ordering::Relaxed);
            let module = slot.module.load(Ordering::Relaxed);
            if module.is_null() || changes != seen.changes {
                *seen = Seen {
                    changes,
                    since: now,
                };
                return None;
            }
            let lasted = now.saturating_duration_since(seen.since);
            let mut known = KNOWN.iter().map_while(|place| place.get());
            let known = known.find(|known| ptr::eq(known.module.as_ptr(), module))?;
            let thread = slot.thread.lock().unwrap_or_else(PoisonError::into_inner);
            (lasted >= least).then(|| Hanging {
                module: known.module,
                file: &known.file,
                thread: thread.clone(),
                lasted,
            })
        });
        hanging.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::{comes_from, enter};
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_call_that_does_not_return_is_told_while_it_lasts_and_one_that_does_is_not() {
        let (begun_tx, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        // One text: two that are alike may lie in two places.
        let name = "sleeper";
        comes_from(name, "/x/sleeper.so");
        let builder = thread::Builder::new().name("shard7".into());
        let sleeper = builder.spawn(move || {
            for _ in 0..3 {
                enter(name, || ());
            }
            enter(name, || {
                begun_tx.send(()).unwrap();
                let _ = ended.recv();
            });
            begun_tx.send(()).unwrap();
            let _ = ended.recv();
        });
        begun.recv().unwrap();
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let second = Duration::from_secs(1);
        let ours = |hanging: Vec<Hanging>| {
            let mut ours = hanging.into_iter().filter(|each| each.module == "sleeper");
            ours.next()
        };
        assert_eq!(ours(watch.look(start, Duration::ZERO)), None, "seen first");
        assert_eq!(ours(watch.look(start + second, 2 * second)), None);
        let told = ours(watch.look(start + 2 * second, 2 * second)).unwrap();
        let expected = Hanging {
            module: "sleeper",
            file: "/x/sleeper.so",
            thread: "shard7".into(),
            lasted: 2 * second,
        };
        assert_eq!(told, expected);
        end.send(()).unwrap();
        begun.recv().unwrap();
        assert_eq!(ours(watch.look(start + 9 * second, Duration::ZERO)), None);
        drop(end);
        sleeper.unwrap().join().unwrap();
    }

    #[test]
    fn of_nested_calls_the_one_that_is_inside_is_told() {
        let (begun_tx, begun) = mpsc::channel();
        let (step_tx, step) = mpsc::channel::<()>();
        let (outer, inner) = ("is-patient", "is-stuck");
        comes_from(outer, "/x/is-patient.so");
        comes_from(inner, "/x/is-stuck.so");
        let wait = move || {
            begun_tx.send(()).unwrap();
            step.recv().unwrap();
        };
        let caller = thread::spawn(move || {
            enter(outer, || {
                enter(inner, &wait);
                wait();
            });
        });
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let mut look = |seconds| -> Vec<_> {
            let hanging = watch.look(start + Duration::from_secs(seconds), Duration::from_secs(2));
            let modules = hanging.iter().map(|each| each.module);
            modules.filter(|module| module.starts_with("is-")).collect()
        };
        begun.recv().unwrap();
        assert_eq!([0, 2].map(&mut look), [vec![], vec![inner]]);
        // It returned, and who called it does not: since when both do not.
        step_tx.send(()).unwrap();
        begun.recv().unwrap();
        assert_eq!(look(3), [outer]);
        step_tx.send(()).unwrap();
        caller.join().unwrap();
        assert_eq!(look(9), [""; 0]);
    }

    #[test]
    fn a_call_that_goes_round_for_ever_and_calls_others_is_told() {
        let (step_tx, step) = mpsc::channel::<()>();
        let (done_tx, done) = mpsc::channel();
        let (name, other) = ("goes-round", "is-asked");
        comes_from(name, "/x/goes-round.so");
        let caller = thread::spawn(move || {
            enter(name, || {
                while step.recv().is_ok() {
                    enter(other, || ());
                    done_tx.send(()).unwrap();
                }
            });
        });
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let mut look = |seconds| {
            step_tx.send(()).unwrap();
            done.recv().unwrap();
            let hanging = watch.look(start + Duration::from_secs(seconds), Duration::from_secs(2));
            hanging.into_iter().any(|each| each.module == "goes-round")
        };
        assert_eq!([0, 1, 2, 3].map(&mut look), [false, false, true, true]);
        drop(step_tx);
        caller.join().unwrap();
    }
}
