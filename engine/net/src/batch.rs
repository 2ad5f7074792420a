//! What one receive brought.

use crate::slab::{FrameId, Slab};

/// The datagrams of one receive, in the order of arrival, and the frames they lie in.
///
/// Made once with a fixed capacity and used again for every receive: a backend [`push`](Self::push)es, the
/// caller reads [`datagrams`](Self::datagrams) and then [`release`](Self::release)s. Views end with the
/// borrow of the batch, so nobody can keep one past the release.
#[derive(Debug)]
pub struct Batch {
    descriptors: Vec<Descriptor>,
    frames: Vec<FrameId>,
    capacity: usize,
}

/// Where a datagram lies. The peer is not in it: no backend asks for the source address, which would cost
/// more than everything else that is done per datagram above the kernel.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    /// Index into `frames` of the batch.
    frame: u32,
    /// First byte in the frame.
    offset: u32,
    len: u32,
    truncated: bool,
}

/// One datagram, borrowed from its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The payload as the kernel delivered it.
    pub bytes: &'a [u8],
    /// The kernel had more than the frame could hold, and threw the rest away.
    pub truncated: bool,
}

impl Batch {
    /// Room for `capacity` datagrams.
    ///
    /// # Panics
    /// When `capacity` is zero: such a batch could never say that something came.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a batch of no datagrams");
        Self {
            descriptors: Vec::with_capacity(capacity),
            frames: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// Appends the datagram in the first `len` bytes of `frame`, which the batch keeps until its release.
    ///
    /// For backends. `truncated` says that the kernel had more than fitted.
    ///
    /// # Panics
    /// When the batch is full; ask [`room`](Self::room) first.
    #[inline]
    pub fn push(&mut self, frame: FrameId, len: u32, truncated: bool) {
        assert!(self.room() > 0, "batch is full");
        let index = u32::try_from(self.frames.len()).expect("fewer frames than u32 counts");
        self.frames.push(frame);
        self.descriptors.push(Descriptor {
            frame: index,
            offset: 0,
            len,
            truncated,
        });
    }

    /// Gives all frames back to `slab` and empties the batch.
    ///
    /// # Panics
    /// When a frame belongs to another slab.
    #[inline]
    pub fn release(&mut self, slab: &mut Slab) {
        self.descriptors.clear();
        // In this order a backend that arms its slots from the last to the first finds every frame in the
        // slot it had before.
        for frame in self.frames.drain(..) {
            slab.release(frame);
        }
    }

    /// The datagrams in the order of arrival.
    ///
    /// # Panics
    /// The iterator, when `slab` is not the one the frames came from, or when a backend pushed a length
    /// beyond the frame.
    #[inline]
    pub fn datagrams<'a>(&'a self, slab: &'a Slab) -> impl ExactSizeIterator<Item = Datagram<'a>> {
        self.descriptors.iter().map(move |descriptor| {
            let start = descriptor.offset as usize;
            let frame = slab.frame(&self.frames[descriptor.frame as usize]);
            Datagram {
                bytes: &frame[start..start + descriptor.len as usize],
                truncated: descriptor.truncated,
            }
        })
    }

    /// How many datagrams are in it.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// Whether nothing came.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// How many more datagrams fit.
    #[inline]
    #[must_use]
    pub const fn room(&self) -> usize {
        self.capacity - self.descriptors.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_frames_can_be_taken_again_in_the_same_order() {
        let mut slab = Slab::with_frame_len(3, 64).unwrap();
        let mut batch = Batch::new(3);
        let starts: Vec<*const u8> = (0..3)
            .map(|fill| {
                let frame = slab.take().unwrap();
                slab.frame_mut(&frame)[..4].fill(fill);
                let start = slab.frame(&frame).as_ptr();
                batch.push(frame, 4, fill == 1);
                start
            })
            .collect();
        assert_eq!((batch.len(), batch.room(), slab.free()), (3, 0, 0));
        let seen: Vec<_> = batch.datagrams(&slab).collect();
        assert_eq!(
            seen[2],
            Datagram {
                bytes: &[2; 4],
                truncated: false
            }
        );
        assert!(seen[1].truncated);

        batch.release(&mut slab);
        assert!(batch.is_empty());
        assert_eq!(slab.free(), 3);
        for start in starts.iter().rev() {
            let frame = slab.take().unwrap();
            assert_eq!(slab.frame(&frame).as_ptr(), *start);
        }
    }

    #[test]
    #[should_panic(expected = "batch is full")]
    fn a_full_batch_takes_no_more() {
        let mut slab = Slab::with_frame_len(2, 64).unwrap();
        let mut batch = Batch::new(1);
        batch.push(slab.take().unwrap(), 1, false);
        batch.push(slab.take().unwrap(), 1, false);
    }
}
