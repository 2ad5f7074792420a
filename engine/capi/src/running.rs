//! Whose code a thread is in: for log lines, for reports of crashes, and for who looks after callbacks that do not return.
//!
//! ```text
//!  enter(module) ─▶ this thread's word ─▶ crash: "module X (FILE) crashed"
//!        └────────▶ this thread's slot ◀── Watch::look, each second: the same entry as before? it hangs
//! ```
//!
//! It costs a few stores per call and no clock: how long somebody is inside is measured by who looks.

use std::cell::{Cell, OnceCell};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, compiler_fence};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{ptr, thread};

/// Signals that end the process.
mod crash;
/// Looking at the threads.
mod watch;

pub use crash::{ending, tell_of_crashes};
pub use watch::{Hanging, Watch};

/// Runs `f`, code of `module`; the name is leaked once for each library that is loaded. Calls may be nested.
#[inline]
pub fn enter<R>(module: &'static str, f: impl FnOnce() -> R) -> R {
    // Dropped in the reverse order: the word never points at a name that is gone.
    let name = module;
    let _inside = Inside::begin(&name);
    f()
}

/// The module whose code this thread is in: the very text that was given to [`enter`].
#[must_use]
pub fn current() -> Option<&'static str> {
    // SAFETY: `Inside` points it at a name for as long as that is there.
    unsafe { MODULE.get().as_ref() }.copied()
}

/// Says where the code and the variables of a module are. Behind the first [`MODULES_MAX`] modules they are not known.
pub(crate) fn lies_in(module: &'static str, addresses: Range<usize>) {
    let entry = || (module, addresses.clone());
    let is_own = |place: &&OnceLock<Placed>| {
        let (found, at) = place.get_or_init(entry);
        ptr::eq(*found, module) && *at == addresses
    };
    let _ = PLACED.iter().find(is_own);
}

/// The module that has code or a variable at `address`. Waits for nobody, so a signal handler may ask.
pub(crate) fn module_at(address: usize) -> Option<&'static str> {
    let placed = PLACED.iter().map_while(OnceLock::get);
    let mut found = placed.filter(|(_, addresses)| addresses.contains(&address));
    found.next().map(|(module, _)| *module)
}

/// The module whose code this thread is in, or, on a thread that a module started, the one that `address` is of.
pub(crate) fn current_or_at(address: usize) -> Option<&'static str> {
    current().or_else(|| module_at(address))
}

/// The module whose code this thread is in, or, on a thread that a module started, the one that calls. Not for signal handlers.
pub(crate) fn current_or_caller() -> Option<&'static str> {
    current().or_else(crash::caller)
}

/// Says which file a module came from, by the text that [`enter`] is given; a library that has no name yet is called by its file. One
/// that is not told is reported without its file when it crashes, and not at all when it hangs; and so are those behind the first
/// [`MODULES_MAX`].
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
struct Inside<'a> {
    before: *const &'static str,
    name: PhantomData<&'a &'static str>,
}

impl<'a> Inside<'a> {
    #[inline]
    fn begin(name: &'a &'static str) -> Self {
        // One word, so that a signal never finds half of it; and not before the name is where it says.
        compiler_fence(Ordering::Release);
        let before = MODULE.replace(name);
        Slot::of_this_thread(|slot| slot.note(Some(name), before.is_null()));
        Self {
            before,
            name: PhantomData,
        }
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        MODULE.set(self.before);
        // Whoever called goes on.
        Slot::of_this_thread(|slot| slot.note(current(), self.before.is_null()));
    }
}

/// What other threads see of one.
struct Slot {
    is_taken: AtomicBool,
    /// Changes with each beginning and each end, but for those inside of another call: who goes round for ever and calls others
    /// on the way does not return either. Written by its thread alone.
    changes: AtomicU64,
    /// Where the name of the module begins that is inside, of several the last; null: none. It changes within one call, and not by one
    /// store with `changes`: who reads both may name who was just left.
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
    fn note(&self, module: Option<&'static str>, is_outermost: bool) {
        let name = module.map_or(ptr::null_mut(), |name| name.as_ptr().cast_mut());
        self.module.store(name, Ordering::Relaxed);
        if is_outermost {
            let changes = self.changes.load(Ordering::Relaxed);
            self.changes.store(changes + 1, Ordering::Relaxed);
        }
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
            slot.note(None, true);
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
    /// Where the name of the module is, on the stack of [`enter`]; null: none.
    static MODULE: Cell<*const &'static str> = const { Cell::new(ptr::null()) };
    static CLAIM: OnceCell<Claim> = const { OnceCell::new() };
}

static SLOTS: [Slot; THREADS_MAX] = [const { Slot::new() }; THREADS_MAX];

/// A module, and where its library is in memory.
type Placed = (&'static str, Range<usize>);

static PLACED: [OnceLock<Placed>; MODULES_MAX] = [const { OnceLock::new() }; MODULES_MAX];

/// Each is there twice: by its file while it is opened, and by its name.
static KNOWN: [OnceLock<Known>; 2 * MODULES_MAX] = [const { OnceLock::new() }; 2 * MODULES_MAX];

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
    fn a_module_is_found_by_the_addresses_of_its_library() {
        lies_in("low", 16..32);
        lies_in("high", 32..40);
        let found = [15, 16, 31, 32, 40].map(module_at);
        let (low, high) = (Some("low"), Some("high"));
        assert_eq!(found, [None, low, low, high, None]);
        assert_eq!(current_or_at(16), low);
        assert_eq!(enter("inner", || current_or_at(16)), Some("inner"));
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
