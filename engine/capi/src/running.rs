//! Whose code a thread is in: for log lines, for reports of crashes, and for who looks after callbacks that do not return.
//!
//! ```text
//!  enter(module) ─▶ this thread's word ─▶ crash: "module X (FILE) crashed"
//!        └────────▶ this thread's slot ◀── Watch::look, each second: the same entry as before? it hangs
//! ```
//!
//! It costs a few stores per call and no clock: how long somebody is inside is measured by who looks.

use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{ptr, thread};

/// Signals that end the process.
mod crash;
/// Looking at the threads.
mod watch;

pub use crash::tell_of_crashes;
pub use watch::{Hanging, Watch};

/// Runs `f`, code of `module`; the name is leaked once for each library that is loaded. Calls may be nested.
#[inline]
pub fn enter<R>(module: &'static str, f: impl FnOnce() -> R) -> R {
    let _inside = Inside::begin(module);
    f()
}

/// The module whose code this thread is in: the very text that was given to [`enter`].
#[must_use]
pub fn current() -> Option<&'static str> {
    MODULE.get()
}

/// Says which file a module came from, by the text that [`enter`] is given. One that is not told is reported without its file;
/// and so are those behind the first [`MODULES_MAX`].
pub fn comes_from(module: &'static str, file: &str) {
    let entry = || Known {
        module,
        file: file.to_owned(),
    };
    // Who finds a place taken goes on to the next one, unless it is his.
    let _ = KNOWN
        .iter()
        .find(|place| ptr::eq(place.get_or_init(entry).module, module));
}

/// The file of a module, as [`comes_from`] was told it. Waits for nobody, so a signal handler may ask.
fn file_of(module: &str) -> Option<&'static str> {
    let known = KNOWN.iter().map_while(OnceLock::get);
    let mut found = known.filter(|known| ptr::eq(known.module, module));
    found.next().map(|known| &known.file[..])
}

/// Between the beginning of a call and its end, also when it panics.
struct Inside {
    before: Option<&'static str>,
}

impl Inside {
    #[inline]
    fn begin(module: &'static str) -> Self {
        let before = MODULE.replace(Some(module));
        Slot::of_this_thread(|slot| slot.note(Some(module)));
        Self { before }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        MODULE.set(self.before);
        Slot::of_this_thread(|slot| slot.note(self.before));
    }
}

/// What other threads see of one.
struct Slot {
    is_taken: AtomicBool,
    /// Changes with each beginning and each end. Written by its thread alone.
    changes: AtomicU64,
    /// Where the name of the module begins; null: none. With `changes` it is read by who can do with an answer that is not of one
    /// moment: what has not changed for a second is of one.
    module: AtomicPtr<u8>,
    /// What its thread is called.
    thread: Mutex<String>,
}

/// A thread's right to its slot.
struct Claim(Option<&'static Slot>);

impl Slot {
    const fn new() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            module: AtomicPtr::new(ptr::null_mut()),
            thread: Mutex::new(String::new()),
        }
    }

    /// None where all are taken, or the thread is at its end: nobody looks after it then.
    #[inline]
    fn of_this_thread(f: impl FnOnce(&'static Self)) {
        let slot = CLAIM.try_with(|claim| claim.get_or_init(Claim::new).0);
        if let Ok(Some(slot)) = slot {
            f(slot);
        }
    }

    #[inline]
    fn note(&self, module: Option<&'static str>) {
        let name = module.map_or(ptr::null_mut(), |name| name.as_ptr().cast_mut());
        self.module.store(name, Ordering::Relaxed);
        let changes = self.changes.load(Ordering::Relaxed);
        self.changes.store(changes + 1, Ordering::Relaxed);
    }
}

impl Claim {
    fn new() -> Self {
        let take = |slot: &&Slot| !slot.is_taken.swap(true, Ordering::AcqRel);
        let slot = SLOTS.iter().find(take);
        if let Some(slot) = slot {
            let name = thread::current().name().unwrap_or("unnamed").to_owned();
            *slot.thread.lock().unwrap_or_else(PoisonError::into_inner) = name;
        }
        Self(slot)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.note(None);
            slot.is_taken.store(false, Ordering::Release);
        }
    }
}

/// A module, and where it came from.
struct Known {
    module: &'static str,
    file: String,
}

thread_local! {
    static MODULE: Cell<Option<&'static str>> = const { Cell::new(None) };
    static CLAIM: OnceCell<Claim> = const { OnceCell::new() };
}

static SLOTS: [Slot; THREADS_MAX] = [const { Slot::new() }; THREADS_MAX];

static KNOWN: [OnceLock<Known>; MODULES_MAX] = [const { OnceLock::new() }; MODULES_MAX];

/// Threads that are looked after: every shard there can be, readers, and those beside them.
const THREADS_MAX: usize = 128;

/// Modules whose file is told.
pub const MODULES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_in_the_module_that_it_entered_last_and_did_not_leave() {
        assert_eq!(current(), None);
        let seen = enter("outer", || {
            let inner = enter("inner", current);
            (inner, current())
        });
        assert_eq!(seen, (Some("inner"), Some("outer")));
        assert_eq!(current(), None);
        let panicked = std::panic::catch_unwind(|| enter("outer", || panic!("in C")));
        assert!(panicked.is_err());
        assert_eq!(current(), None);
    }

    #[test]
    fn a_file_is_found_by_the_very_text_of_its_module() {
        let [one, other] =
            ["twin", "twin"].map(|name| &*Box::leak(name.to_owned().into_boxed_str()));
        comes_from(one, "/a/twin.so");
        comes_from(one, "/b/twin.so");
        comes_from(other, "/c/twin.so");
        assert_eq!(file_of(one), Some("/a/twin.so"));
        assert_eq!(file_of(other), Some("/c/twin.so"));
        assert_eq!(file_of("stranger"), None);
    }

    #[test]
    fn threads_that_end_leave_their_places_to_others() {
        for _ in 0..3 * THREADS_MAX {
            let thread = thread::spawn(|| {
                enter("short", || ());
                CLAIM.with(|claim| claim.get().is_some_and(|claim| claim.0.is_some()))
            });
            assert!(thread.join().unwrap());
        }
    }
}
