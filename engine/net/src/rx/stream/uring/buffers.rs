//! The ring of frames that the kernel fills, of whichever connection has bytes.

use std::fmt;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::slab::{FrameId, Slab};

/// Frames lent to the kernel, which takes them in the order in which they were lent.
///
/// ```text
///              taken by the kernel ──▶        ◀── lent
///   position   │  0  │  1  │  2  │  3  │  4  │  5  │  6  │  7  │
///   frame      │  -  │  a  │  b  │  c  │  d  │  -  │  -  │  -  │
/// ```
///
/// A buffer's number is its position, so the buffers of one bundle, which are neighbours in the ring, have numbers that
/// count up and begin again at 0.
pub(super) struct Buffers {
    memory: NonNull<BufRingEntry>,
    memory_len: usize,
    /// By position, those that the kernel may fill or has filled.
    frames: Vec<Option<FrameId>>,
    /// Where the next frame goes, counted without end: the kernel looks at it modulo the ring.
    tail: u16,
    lent: usize,
    frame_len: u32,
}

impl Buffers {
    /// A ring of this many positions, rounded up to a power of two as the kernel wants it; at most [`POSITIONS_MAX`].
    pub(super) fn new(positions: usize) -> io::Result<Self> {
        let positions = positions.next_power_of_two().min(POSITIONS_MAX);
        let memory_len = positions * size_of::<BufRingEntry>();
        Ok(Self {
            memory: map(memory_len)?,
            memory_len,
            frames: (0..positions).map(|_| None).collect(),
            tail: 0,
            lent: 0,
            frame_len: 0,
        })
    }

    /// Tells the kernel of the ring, which has no frames then.
    pub(super) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        assert_eq!(self.lent, 0, "the kernel begins at position 0");
        self.tail = 0;
        self.publish();
        let positions = u16::try_from(self.frames.len()).expect("at most POSITIONS_MAX");
        let memory = self.memory.as_ptr() as u64;
        // SAFETY: "The ring_addr field must contain the address to the memory allocated to fit this ring. The memory must
        // be page aligned" (io_uring_register(2)): a mapping of so many entries, of which nobody has a reference. It stays
        // until `self` is dropped, and the kernel holds its pages itself.
        unsafe { submitter.register_buf_ring_with_flags(memory, positions, GROUP, 0) }
    }

    /// Takes all frames back; the kernel fills none any more, and forgets the ring.
    pub(super) fn withdraw(
        &mut self,
        submitter: &Submitter<'_>,
        slab: &mut Slab,
    ) -> io::Result<()> {
        submitter.unregister_buf_ring(GROUP)?;
        let lent = self.frames.iter_mut().filter_map(Option::take);
        lent.for_each(|frame| slab.release(frame));
        self.lent = 0;
        Ok(())
    }

    /// Lends frames of `slab` until there are `count`, as far as it has any.
    pub(super) fn lend(&mut self, slab: &mut Slab, count: usize) {
        let count = count.min(self.frames.len());
        if self.lent >= count {
            return;
        }
        self.frame_len = u32::try_from(slab.frame_len()).expect("a frame is 64 KiB");
        while self.lent < count {
            let position = self.position(self.tail);
            // Occupied when a completion of the kernel's is still to come for the frame that is there.
            if self.frames[position].is_some() {
                break;
            }
            let Some(frame) = slab.take() else {
                break;
            };
            // SAFETY: `position` is below the number of entries of the mapping.
            let entry = unsafe { self.memory.as_ptr().add(position) };
            // SAFETY: the kernel neither reads nor writes this entry: it is at or past the tail that was published.
            // The tail itself lies in a field of the first entry that is not written here.
            let entry = unsafe { &mut *entry };
            entry.set_addr(slab.frame_ptr(&frame) as u64);
            entry.set_len(self.frame_len);
            entry.set_bid(u16::try_from(position).expect("at most POSITIONS_MAX"));
            self.frames[position] = Some(frame);
            self.tail = self.tail.wrapping_add(1);
            self.lent += 1;
        }
        self.publish();
    }

    /// The frame of a buffer that the kernel has filled; `None` when it has none, and the kernel speaks of what was
    /// taken back.
    pub(super) fn take(&mut self, buffer: u16) -> Option<FrameId> {
        let position = self.position(buffer);
        let frame = self.frames[position].take();
        self.lent -= usize::from(frame.is_some());
        frame
    }

    /// Frames that the kernel has.
    pub(super) const fn lent(&self) -> usize {
        self.lent
    }

    /// Bytes of each of them.
    pub(super) const fn frame_len(&self) -> u32 {
        self.frame_len
    }

    fn position(&self, number: u16) -> usize {
        usize::from(number) & (self.frames.len() - 1)
    }

    /// Lets the kernel see what was written before.
    fn publish(&self) {
        // SAFETY: the first entry is mapped, and initialized: by zeros at first.
        let tail = unsafe { BufRingEntry::tail(self.memory.as_ptr()) };
        // SAFETY: aligned as a field, valid as long as the mapping, and only the kernel accesses it beside us, as an
        // atomic. Release pairs with its `smp_load_acquire` of the tail (`io_ring_head_to_buf` of io_uring/kbuf.c): who
        // sees the tail sees the entries before it.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: `memory` and `memory_len` are those of the one mmap in `map`, and nothing borrows from it. The kernel
        // does not go by the mapping: it holds the pages.
        let done = unsafe { libc::munmap(self.memory.as_ptr().cast(), self.memory_len) };
        debug_assert_eq!(done, 0, "munmap of our own mapping");
    }
}

// SAFETY: owns its mapping as a `Vec` owns its buffer; nothing in it is tied to a thread.
unsafe impl Send for Buffers {}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers")
            .field("positions", &self.frames.len())
            .field("lent", &self.lent)
            .finish_non_exhaustive()
    }
}

/// Memory that begins with a page, of zeros.
fn map(len: usize) -> io::Result<NonNull<BufRingEntry>> {
    // SAFETY: a null address lets the kernel choose, so no existing mapping is replaced. "MAP_ANONYMOUS: The mapping is
    // not backed by any file; its contents are initialized to zero" (mmap(2)).
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(
        NonNull::new(memory.cast())
            .expect("a mapping of the kernel's choice is never at address 0"),
    )
}

/// Number of the one ring of frames among those that an io_uring may have.
pub(super) const GROUP: u16 = 0;

/// "The maximum size allowed is 2^15 (32768)" (io_uring_register(2), `IORING_REGISTER_PBUF_RING`).
pub(super) const POSITIONS_MAX: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_lent_up_to_the_count_and_numbers_begin_again() {
        let mut slab = Slab::with_frame_len(6, 64).unwrap();
        let mut buffers = Buffers::new(3).unwrap();
        buffers.lend(&mut slab, 99);
        assert_eq!((buffers.lent(), slab.free()), (4, 2), "four positions");
        for number in [0, 1] {
            slab.release(buffers.take(number).unwrap());
            assert!(buffers.take(number).is_none(), "it is gone");
        }
        buffers.lend(&mut slab, 3);
        assert_eq!(buffers.lent(), 3);
        buffers.lend(&mut slab, 4);
        let numbers: Vec<u16> = (2..6)
            .map(|number| {
                let frame = buffers.take(number).unwrap();
                slab.release(frame);
                number % 4
            })
            .collect();
        assert_eq!(numbers, [2, 3, 0, 1]);
        assert_eq!((buffers.lent(), slab.free()), (0, 6));
    }

    #[test]
    fn nothing_is_lent_over_a_frame_that_the_kernel_still_has() {
        let mut slab = Slab::with_frame_len(8, 64).unwrap();
        let mut buffers = Buffers::new(4).unwrap();
        buffers.lend(&mut slab, 4);
        // Out of order, as no kernel does it: the next position is still taken.
        slab.release(buffers.take(2).unwrap());
        buffers.lend(&mut slab, 4);
        assert_eq!(buffers.lent(), 3);
        for number in [0, 1, 3] {
            slab.release(buffers.take(number).unwrap());
        }
        buffers.lend(&mut slab, 4);
        assert_eq!((buffers.lent(), slab.free()), (4, 4));
    }

    #[test]
    fn an_empty_slab_lends_what_it_has() {
        let mut slab = Slab::with_frame_len(1, 64).unwrap();
        let mut buffers = Buffers::new(8).unwrap();
        buffers.lend(&mut slab, 8);
        assert_eq!((buffers.lent(), slab.free()), (1, 0));
    }
}
