//! What the lock-free parts are made of, in one place: a test that tries every order of two threads' steps puts
//! its own in its stead (`tests/loom.rs`).

use std::cell::UnsafeCell;

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// A store that orders nothing. By this name, because the model needs another operation in its place.
#[inline]
pub(crate) fn store(flag: &AtomicBool, value: bool) {
    flag.store(value, Ordering::Relaxed);
}

/// Memory that two threads use in turns: a fixed number of 8-byte words.
///
/// It hands out pointers only. Whose turn it is, the owner of the protocol says, and answers for.
pub(crate) struct Words(Box<[UnsafeCell<u64>]>);

// SAFETY: plain memory without a tie to a thread; every access is an unsafe block of the owner of the protocol.
unsafe impl Sync for Words {}

impl Words {
    /// `len` words, each of them written, so that the memory is resident: the first touch of a page costs
    /// 3 µs.
    pub(crate) fn new(len: usize) -> Self {
        // Not zero, which an allocator may hand out as pages that are not there yet.
        Self((0..len).map(|_| UnsafeCell::new(u64::MAX)).collect())
    }

    /// Where words `first..first + count` lie, to read them.
    #[inline]
    pub(crate) fn for_reading(&self, first: usize, count: usize) -> *const u8 {
        self.for_writing(first, count).cast_const()
    }

    /// Where words `first..first + count` lie, to write them.
    ///
    /// # Panics
    /// When there are no such words.
    #[inline]
    pub(crate) fn for_writing(&self, first: usize, count: usize) -> *mut u8 {
        let words = &raw const self.0[first..][..count];
        // The one cast that `UnsafeCell` permits: from a shared reference to what is inside.
        UnsafeCell::raw_get(words.cast::<UnsafeCell<u64>>()).cast()
    }
}
