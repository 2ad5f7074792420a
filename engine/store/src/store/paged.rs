//! A vector in pages: growing it moves nothing, so no packet waits while a million entries are copied.

use std::ops::{Index, IndexMut};

/// Entries by number. There are as many as were ever needed; who uses it says which of them are free.
pub(super) struct Paged<T> {
    pages: Vec<Box<[T]>>,
    len: u32,
}

impl<T: Default> Paged<T> {
    pub(super) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }

    /// One more than the highest number.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// The entry with this number, if there are so many.
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        (at < self.len).then(|| &self[at])
    }

    /// Makes room for all numbers below `len`.
    pub(super) fn grow(&mut self, len: u32) {
        while self.pages.len() < (len as usize).div_ceil(PAGE) {
            self.pages
                .push(std::iter::repeat_with(T::default).take(PAGE).collect());
        }
        self.len = self.len.max(len);
    }

    /// Bytes of its pages.
    pub(super) fn memory(&self) -> usize {
        self.pages.len() * PAGE * size_of::<T>() + self.pages.capacity() * size_of::<Box<[T]>>()
    }
}

impl<T> Index<u32> for Paged<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.pages[at as usize / PAGE][at as usize % PAGE]
    }
}

impl<T> IndexMut<u32> for Paged<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.pages[at as usize / PAGE][at as usize % PAGE]
    }
}

/// Entries of a page: a few tens of kilobytes.
const PAGE: usize = 1024;
