//! One thread at a time in the code of a module, and always the same one.
//!
//! ```text
//!  mod_init ─▶ home: that thread ── first child_init ─▶ home: its thread, for good
//!     pass ─▶ is somebody else inside, or is home elsewhere? Elsewhere : Pass ── dropped ─▶ nobody inside
//! ```
//!
//! Modules of OpenSIPS have variables without locks, so a second thread is turned away, not kept waiting: it would be as wrong a
//! moment later. A module that is said to be reentrant lets in everybody.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of one module. It stays as long as its library.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// The [mark] of the thread that is inside; 0: nobody.
    inside: AtomicUsize,
    /// The mark of the thread that may go in; 0: any.
    home: AtomicUsize,
    /// Whether home is where `child_init` ran.
    is_settled: AtomicBool,
    is_reentrant: AtomicBool,
    /// How far the module is: [`LOADED`], [`INITIALISED`], or [`OVER`].
    pub(super) stage: AtomicU8,
}

pub(super) const LOADED: u8 = 0;
pub(super) const INITIALISED: u8 = 1;
pub(super) const OVER: u8 = 2;

/// The module runs on another thread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere;

/// The right to run the module's code on this thread, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Pass<'a> {
    /// Where it is to be given back. `None` inside of another one, and with a reentrant module.
    gate: Option<&'a Gate>,
}

/// Those of all modules, by the text that [`crate::running::enter`] is given.
static GATES: Mutex<Vec<(&'static str, &'static Gate)>> = Mutex::new(Vec::new());

fn gates() -> MutexGuard<'static, Vec<(&'static str, &'static Gate)>> {
    GATES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The gate of a module that is there.
pub(crate) fn of(module: &'static str) -> Option<&'static Gate> {
    let gates = gates();
    let mut found = gates.iter().filter(|(name, _)| ptr::eq(*name, module));
    found.next().map(|(_, gate)| *gate)
}

/// One for a module that is new.
pub(crate) fn add(module: &'static str) -> &'static Gate {
    let gate = Box::leak(Box::default());
    gates().push((module, gate));
    gate
}

/// Forgets that of a module that is gone; who has it keeps it.
pub(crate) fn remove(module: &'static str) {
    gates().retain(|(name, _)| !ptr::eq(*name, module));
}

impl Gate {
    /// Lets this thread in, if it is at home here. May be nested.
    pub(crate) fn pass(&self) -> Result<Pass<'_>, Elsewhere> {
        self.pass_if(Self::is_home)
    }

    /// Lets this thread in where `may` says so: before, since one that may not and is inside for a moment would turn away who may;
    /// and behind, where home stays until the pass is given back.
    fn pass_if(&self, may: impl Fn(&Self) -> bool) -> Result<Pass<'_>, Elsewhere> {
        if !may(self) {
            return Err(Elsewhere);
        }
        let pass = self.pass_from_anywhere()?;
        if may(self) { Ok(pass) } else { Err(Elsewhere) }
    }

    /// Lets this thread in, wherever home is, if nobody else is inside.
    pub(super) fn pass_from_anywhere(&self) -> Result<Pass<'_>, Elsewhere> {
        if self.is_reentrant.load(Ordering::Relaxed) {
            return Ok(Pass { gate: None });
        }
        let own = mark();
        // With what the last one inside did there.
        let found = self
            .inside
            .compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed);
        match found {
            Ok(_) => Ok(Pass { gate: Some(self) }),
            Err(found) if found == own => Ok(Pass { gate: None }),
            Err(_) => Err(Elsewhere),
        }
    }

    /// Lets this thread in, and makes it home: for mod_init.
    pub(super) fn move_in(&self) -> Result<Pass<'_>, Elsewhere> {
        let pass = self.pass_from_anywhere()?;
        self.home.store(mark(), Ordering::Relaxed);
        Ok(pass)
    }

    /// The same for good: for child_init. Later ones are for who is at home.
    pub(crate) fn settle(&self) -> Result<Pass<'_>, Elsewhere> {
        let pass =
            self.pass_if(|gate| !gate.is_settled.load(Ordering::Relaxed) || gate.is_home())?;
        self.home.store(mark(), Ordering::Relaxed);
        self.is_settled.store(true, Ordering::Relaxed);
        Ok(pass)
    }

    /// Whether the module's end was reached: none of its code is to run any more.
    pub(crate) fn is_over(&self) -> bool {
        self.stage.load(Ordering::Acquire) == OVER
    }

    /// Whether this thread may go in.
    pub(super) fn is_home(&self) -> bool {
        let home = self.home.load(Ordering::Relaxed);
        home == 0 || home == mark() || self.is_reentrant.load(Ordering::Relaxed)
    }

    /// Whether several threads may be inside at once.
    pub(crate) fn is_reentrant(&self) -> bool {
        self.is_reentrant.load(Ordering::Relaxed)
    }

    pub(super) fn make_reentrant(&self) {
        self.is_reentrant.store(true, Ordering::Relaxed);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.gate {
            gate.inside.store(0, Ordering::Release);
        }
    }
}

/// A number of this thread, which no other has while it lives.
fn mark() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| ptr::from_ref(here).addr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| scope.spawn(f).join().unwrap())
    }

    #[test]
    fn a_second_thread_is_turned_away_while_one_is_inside_and_behind_it() {
        let gate = Gate::default();
        let outer = gate.move_in().unwrap();
        let inner = gate.pass().unwrap();
        drop(inner);
        assert!(elsewhere(|| gate.settle().is_err()), "somebody is inside");
        drop(outer);
        assert!(elsewhere(|| gate.pass().is_err()), "it is not home");
        assert!(elsewhere(|| gate.pass_from_anywhere().is_ok()));
        assert!(gate.pass().is_ok());
    }

    #[test]
    fn who_is_not_at_home_does_not_turn_away_who_is() {
        let gate = Gate::default();
        drop(gate.settle().unwrap());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let (begun_tx, begun) = mpsc::channel();
            let (gate, is_over) = (&gate, &is_over);
            scope.spawn(move || {
                let mut asked = 0_u64;
                while !is_over.load(Ordering::Relaxed) {
                    assert!(gate.pass().is_err() && gate.settle().is_err());
                    if asked == 0 {
                        begun_tx.send(()).unwrap();
                    }
                    asked += 1;
                }
            });
            begun.recv().unwrap();
            let turned_away = (0..1_000_000).filter(|_| gate.pass().is_err()).count();
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(turned_away, 0);
        });
    }

    #[test]
    fn home_moves_once_with_the_first_child() {
        let gate = Gate::default();
        drop(gate.move_in());
        elsewhere(|| {
            drop(gate.settle().unwrap());
            drop(gate.settle().unwrap());
            assert!(gate.pass().is_ok());
            assert!(elsewhere(|| gate.settle().is_err()));
        });
    }

    #[test]
    fn a_reentrant_module_lets_in_everybody_at_once() {
        let gate = Gate::default();
        gate.make_reentrant();
        let _inside = gate.settle().unwrap();
        assert!(elsewhere(|| gate.settle().is_ok() && gate.pass().is_ok()));
    }
}
