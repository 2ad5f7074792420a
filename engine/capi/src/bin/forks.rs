//! Whether this process is still the one that opened a connection or filled a queue.
//!
//! A child of fork(2) has a copy of both, and what it sends would go out twice or in between the parent's bytes. Asking the kernel
//! who we are costs a system call for each packet; a number that the child changes costs a load.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who took part in what: equal as long as no fork came in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// This one. From the first call on forks are noticed, those by fork(3) at least, which is what runs handlers.
    pub(crate) fn this() -> Self {
        WATCH.call_once(|| {
            // SAFETY: a function that only writes an atomic, which a child may do. Without memory it is not registered, and a
            // child is not told from its parent. (pthread_atfork(3))
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether no fork came in between.
    #[inline]
    pub(crate) fn is_this(self) -> bool {
        self.0 == GENERATION.load(Ordering::Relaxed)
    }
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

static WATCH: Once = Once::new();
static GENERATION: AtomicU32 = AtomicU32::new(0);
