//! Whose code a thread is in.

use std::cell::Cell;

thread_local! {
    static MODULE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs `f`, code of `module`; the name is leaked once for each library that is loaded.
pub fn enter<R>(module: &'static str, f: impl FnOnce() -> R) -> R {
    /// Puts back what was there, also when `f` panics.
    struct Restore(Option<&'static str>);
    impl Drop for Restore {
        fn drop(&mut self) {
            MODULE.set(self.0);
        }
    }
    let _restore = Restore(MODULE.replace(Some(module)));
    f()
}

/// The module whose code this thread is in: the very text that was given to [`enter`].
pub fn current() -> Option<&'static str> {
    MODULE.get()
}
