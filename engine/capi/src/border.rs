//! Where C calls in: a panic ends here.

use std::panic::{self, AssertUnwindSafe};

/// Answers `body`, or `on_panic` where it panics: nothing unwinds into C, which is built without tables for it.
///
/// Every function that C calls goes through here once. Costs nothing where `body` cannot panic. Releases abort at the panic itself and
/// come no further than that, so this is for builds that unwind: what C can bring about, also in a thread's last moments, must not
/// panic in the first place. (The Rust reference, "Panic": unwinding out of `extern "C"` aborts.)
#[inline]
pub(crate) fn border<R>(on_panic: R, body: impl FnOnce() -> R) -> R {
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        // What is thrown may panic again when it is dropped: that would be the unwinding that this function exists against.
        std::mem::forget(payload);
        on_panic
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Spiteful;

    impl Drop for Spiteful {
        fn drop(&mut self) {
            panic!("once more");
        }
    }

    #[test]
    fn a_panic_ends_at_the_border_and_answers_minus_one() {
        assert_eq!(border(-1, || 7), 7);
        assert_eq!(border(-1, || panic!("a bug")), -1);
        assert_eq!(border(-1, || panic::panic_any(Spiteful)), -1);
    }
}
