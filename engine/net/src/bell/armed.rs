//! Whether somebody sleeps, without the means to wake him. Reads `crate::sync` for what it is made of, and nothing
//! else of this crate: `tests/loom.rs` takes this file as it is.

use crate::sync::{AtomicBool, Ordering, fence, store};

/// What the owner of a [`Bell`](crate::Bell) says of itself: it sleeps, or is about to.
///
/// Two fences make it sound, one at each side between a store and a load; [`Bell`](crate::Bell) has the proof.
#[derive(Debug)]
pub(crate) struct Armed(AtomicBool);

impl Armed {
    /// The owner is awake.
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The owner is about to sleep, and looks at everything once more before it does.
    #[inline]
    pub(crate) fn arm(&self) {
        store(&self.0, true);
        // Between the store of `armed` and the caller's loads of what was handed over; pairs with the one in `take`.
        fence(Ordering::SeqCst);
    }

    /// The owner is awake.
    #[inline]
    pub(crate) fn disarm(&self) {
        store(&self.0, false);
    }

    /// For the others, after handing something over: whether the caller has to wake the owner.
    ///
    /// One ring per sleep is enough: of several that see `armed`, the first is told to. The others' hand-over is seen
    /// nevertheless, because the owner looks again between its next `arm` and its sleep.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        // Between the caller's store of what it hands over and the load of `armed`; pairs with the one in `arm`.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.take_first()
    }

    #[cold]
    fn take_first(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}
