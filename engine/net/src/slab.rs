//! The frames that the kernel writes into: one mapped region, touched before the first packet.
//!
//! ```text
//!   base                      base + stride              base + 2 * stride
//!   │ frame 0, 64 KiB │ skew │ frame 1, 64 KiB │ skew │ frame 2 ...
//! ```
//!
//! A frame is 64 KiB because the largest datagram must fit; a shorter buffer truncates. Were the stride a
//! power of two as well, the first lines of all frames, the only ones that a 200-byte datagram touches,
//! would fall into the same few cache sets. The skew is an odd number of lines, so that consecutive frames
//! begin in different sets and all sets are used.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Usable bytes of a frame: more than any UDP payload (65 507 over IPv4, 65 527 over IPv6).
pub const FRAME_LEN: usize = 64 * 1024;

/// A fixed number of frames in one anonymous mapping, and the list of those nobody holds.
///
/// Belongs to one shard, that is to one thread; the memory is resident when [`new`](Self::new) returns. The
/// frame released last is taken first, because its lines are still in cache.
#[derive(Debug)]
pub struct Slab {
    base: NonNull<u8>,
    mapped_len: usize,
    frame_len: usize,
    stride: usize,
    /// Distinguishes this slab from all others of the process, so that a frame never meets the wrong one.
    id: u64,
    free: Vec<FrameId>,
}

/// The right to one frame of one slab.
///
/// Neither `Copy` nor `Clone` and made by [`Slab::new`] only, one per frame: whoever has it is alone with
/// the frame, so a frame cannot be released twice or read while the kernel fills it. Dropping one instead
/// of giving it to [`Slab::release`] loses the frame until the slab goes.
#[derive(Debug)]
#[must_use = "a frame that is not released is lost to its slab"]
pub struct FrameId {
    index: u32,
    slab: u64,
}

impl Slab {
    /// Maps and touches `frames` frames of [`FRAME_LEN`] bytes, 64-byte aligned.
    ///
    /// # Errors
    /// What mmap(2) or madvise(2) said: mostly `ENOMEM`. `InvalidInput` for zero frames or a size that does
    /// not fit into memory at all.
    pub fn new(frames: usize) -> io::Result<Self> {
        Self::with_frame_len(frames, FRAME_LEN)
    }

    pub(crate) fn with_frame_len(frames: usize, frame_len: usize) -> io::Result<Self> {
        let stride = frame_len.next_multiple_of(LINE_LEN) + SKEW_LEN;
        let (Some(mapped_len), Ok(count)) = (stride.checked_mul(frames), u32::try_from(frames))
        else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "slab too large",
            ));
        };
        if frames == 0 || frame_len == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "slab of no frames",
            ));
        }
        // Taken once per slab; no other memory is published by it, so relaxed is enough.
        let id = NEXT_SLAB.fetch_add(1, Ordering::Relaxed);
        let slab = Self {
            base: map(mapped_len)?,
            mapped_len,
            frame_len,
            stride,
            id,
            free: (0..count)
                .rev()
                .map(|index| FrameId { index, slab: id })
                .collect(),
        };
        slab.populate()?;
        Ok(slab)
    }

    /// Takes the frame that was released last; `None` when all are held.
    #[inline]
    pub fn take(&mut self) -> Option<FrameId> {
        self.free.pop()
    }

    /// Gives a frame back.
    ///
    /// # Panics
    /// When `frame` belongs to another slab: a bug of the caller.
    #[inline]
    pub fn release(&mut self, frame: FrameId) {
        self.check(&frame);
        // Never grows: there are no more `FrameId`s of this slab than the list was made for.
        self.free.push(frame);
    }

    /// The bytes of a frame, all of them; what a receive filled is told by its descriptor.
    ///
    /// # Panics
    /// When `frame` belongs to another slab: a bug of the caller.
    #[inline]
    #[must_use]
    pub fn frame(&self, frame: &FrameId) -> &[u8] {
        let start = self.frame_ptr(frame);
        // SAFETY: `frame_ptr` is the start of `frame_len` mapped, initialized bytes. The kernel does not
        // write them: a backend that lends a frame to the kernel keeps its `FrameId` for as long. No
        // `&mut` exists: `frame_mut` would need `&mut self`.
        unsafe { std::slice::from_raw_parts(start, self.frame_len) }
    }

    /// The bytes of a frame, to write them.
    ///
    /// # Panics
    /// When `frame` belongs to another slab: a bug of the caller.
    #[inline]
    #[must_use]
    pub fn frame_mut(&mut self, frame: &FrameId) -> &mut [u8] {
        let start = self.frame_ptr(frame);
        // SAFETY: as in `frame`; `&mut self` excludes every other reference into the mapping.
        unsafe { std::slice::from_raw_parts_mut(start, self.frame_len) }
    }

    /// Start of a frame for the kernel to write to; valid for [`frame_len`](Self::frame_len) bytes until the
    /// slab is dropped.
    #[inline]
    pub(crate) fn frame_ptr(&self, frame: &FrameId) -> *mut u8 {
        self.check(frame);
        // SAFETY: `index` is below the number of frames (only `with_frame_len` makes a `FrameId`, `check` says it was
        // ours), so the offset is inside the one mapping, which has `stride` bytes for each.
        unsafe { self.base.as_ptr().add(frame.index as usize * self.stride) }
    }

    /// Usable bytes of each frame.
    #[inline]
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// How many frames nobody holds.
    #[inline]
    #[must_use]
    pub const fn free(&self) -> usize {
        self.free.len()
    }

    /// The number that the `FrameId`s of this slab carry; no other slab of the process has or had it.
    #[inline]
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    #[inline]
    fn check(&self, frame: &FrameId) {
        assert_eq!(frame.slab, self.id, "a frame of another slab");
    }

    /// Makes every page resident: a first touch costs about 3 us, a packet must not pay it.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: the range is exactly our mapping. "Populate (prefault) page tables writable, faulting in
        // all pages in the range just as if manually writing to each page" (madvise(2)): contents stay.
        let done = unsafe {
            libc::madvise(
                self.base.as_ptr().cast(),
                self.mapped_len,
                libc::MADV_POPULATE_WRITE,
            )
        };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // Kernels before 5.14 do not know the advice; anything else (ENOMEM) is real.
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        self.touch();
        Ok(())
    }

    fn touch(&self) {
        for offset in (0..self.mapped_len).step_by(PAGE_LEN_MIN) {
            // SAFETY: `offset` is below `mapped_len`, and the mapping is ours alone: called before any frame
            // was taken. Volatile, so that the write of a zero over a zero is not removed.
            unsafe { self.base.as_ptr().add(offset).write_volatile(0) }
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: `base` and `mapped_len` are those of the one mmap in `map`. References from `frame` end
        // with the borrow of the slab; pointers from `frame_ptr` are used only together with it.
        let done = unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped_len) };
        debug_assert_eq!(done, 0, "munmap of our own mapping");
    }
}

// SAFETY: the slab owns its mapping as a `Vec` owns its buffer; nothing in it is tied to a thread.
unsafe impl Send for Slab {}

fn map(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a null address lets the kernel choose, so no existing mapping is replaced. "MAP_ANONYMOUS:
    // The mapping is not backed by any file; its contents are initialized to zero. The fd argument is
    // ignored; however, some implementations require fd to be -1" (mmap(2)).
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(base.cast()).expect("a mapping of the kernel's choice is never at address 0"))
}

/// One more than the highest slab id given out; 64 bits do not come round again.
static NEXT_SLAB: AtomicU64 = AtomicU64::new(0);

/// A cache line; frames begin on one.
const LINE_LEN: usize = 64;

/// Distance from the end of a frame to the next one: an odd number of lines, and more than the lines that a
/// datagram of usual size touches.
const SKEW_LEN: usize = 9 * LINE_LEN;

/// Touching at this distance touches every page, whatever the page size is.
const PAGE_LEN_MIN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn frames_are_aligned_apart_and_spread_over_the_cache_sets() {
        let slab = Slab::new(128).unwrap();
        let starts: Vec<usize> = slab
            .free
            .iter()
            .map(|id| slab.frame_ptr(id) as usize)
            .collect();
        assert!(starts.iter().all(|start| start % LINE_LEN == 0));
        let mut sorted = starts.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= FRAME_LEN));
        // 64 sets of 64-byte lines: the first-level cache of every machine in reach.
        let sets: HashSet<usize> = starts.iter().map(|start| start / LINE_LEN % 64).collect();
        assert_eq!(sets.len(), 64);
    }

    #[test]
    fn every_byte_of_a_frame_is_ours_and_of_no_other() {
        let mut slab = Slab::with_frame_len(3, 200).unwrap();
        let held: Vec<FrameId> = std::iter::from_fn(|| slab.take()).collect();
        for (fill, id) in (1..).zip(&held) {
            assert!(slab.frame(id).iter().all(|byte| *byte == 0));
            slab.frame_mut(id).fill(fill);
        }
        for (fill, id) in (1..).zip(&held) {
            assert_eq!(slab.frame(id), [fill; 200]);
        }
        held.into_iter().for_each(|id| slab.release(id));
        assert_eq!(slab.free(), 3);
    }

    #[test]
    #[should_panic(expected = "a frame of another slab")]
    fn a_frame_of_another_slab_is_refused() {
        let mut ours = Slab::with_frame_len(1, 64).unwrap();
        let mut theirs = Slab::with_frame_len(1, 64).unwrap();
        ours.release(theirs.take().unwrap());
    }

    #[test]
    fn touching_by_hand_leaves_the_slab_as_new() {
        let mut slab = Slab::with_frame_len(4, 5000).unwrap();
        slab.touch();
        let id = slab.take().unwrap();
        assert!(slab.frame(&id).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert_eq!(
            Slab::new(0).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            Slab::new(usize::MAX).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert!(Slab::new(u32::MAX as usize).is_err(), "256 TiB");
    }

    proptest! {
        /// Against a plain stack of indices: same frames in the same order, contents kept while held.
        #[test]
        fn behaves_as_a_stack_of_frames(takes in prop::collection::vec(any::<Option<u8>>(), 0..200)) {
            let mut slab = Slab::with_frame_len(8, 128).unwrap();
            let mut model: Vec<u32> = (0..8).rev().collect();
            let mut held: Vec<(FrameId, u8)> = Vec::new();
            for (fill, step) in (0_u8..).zip(takes) {
                match step {
                    None => {
                        let id = slab.take();
                        prop_assert_eq!(id.as_ref().map(|id| id.index), model.pop());
                        if let Some(id) = id {
                            slab.frame_mut(&id).fill(fill);
                            held.push((id, fill));
                        }
                    }
                    Some(which) if !held.is_empty() => {
                        let (id, fill) = held.swap_remove(usize::from(which) % held.len());
                        prop_assert!(slab.frame(&id).iter().all(|byte| *byte == fill));
                        model.push(id.index);
                        slab.release(id);
                    }
                    Some(_) => {}
                }
                prop_assert_eq!(slab.free(), model.len());
                prop_assert_eq!(slab.free() + held.len(), 8);
            }
        }
    }
}
