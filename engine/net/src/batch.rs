//! What one receive brought.
//!
//! ```text
//!   descriptors    │ frame 7, 200 B │ frame 3, 640 B in segments of 200 │ frame 9, 88 B │
//!   datagrams         200              200   200   200   40                88
//! ```
//!
//! A train is kept as the kernel gave it, one descriptor per frame, and cut while it is read. So a batch has a
//! size that no sender can change (a frame may hold 65 535 segments of one byte), and 64 datagrams of one
//! train cost one look-up of their frame.

use std::net::SocketAddr;

use crate::slab::{FrameId, Slab};

/// The datagrams of one receive, in the order of arrival, and the frames they lie in.
///
/// Made once for a fixed number of frames and used again for every receive: a backend [`push`](Self::push)es,
/// the caller reads [`datagrams`](Self::datagrams) and then [`release`](Self::release)s. Views end with the
/// borrow of the batch, so nobody can keep one past the release.
#[derive(Debug)]
pub struct Batch {
    descriptors: Vec<Descriptor>,
    /// Where each frame's datagrams came from; empty where nobody asked, and what was pushed without is at its end.
    sources: Vec<Option<SocketAddr>>,
    capacity: usize,
    /// Datagrams in all descriptors together.
    datagrams: usize,
}

/// What lies in a frame. Its source is not in it: most never ask for that, and their descriptors stay short.
#[derive(Debug)]
struct Descriptor {
    frame: FrameId,
    /// Bytes filled, from the start of the frame on.
    len: u32,
    /// Bytes of each datagram but the last, which may be shorter; 0 only when `len` is.
    segment_len: u32,
    truncated: bool,
}

/// One datagram, borrowed from its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The payload as the kernel delivered it.
    pub bytes: &'a [u8],
    /// The kernel had more than the frame could hold, and threw the rest away.
    pub truncated: bool,
    /// Where it came from, an IPv4 address as such; `None` where it was [not asked
    /// for](crate::RxQueue::ask_sources), or the kernel did not say. All datagrams of a train have one.
    pub source: Option<&'a SocketAddr>,
}

impl Batch {
    /// Room for the datagrams of `frames` frames.
    ///
    /// # Panics
    /// When `frames` is zero: such a batch could never say that something came.
    #[must_use]
    pub fn new(frames: usize) -> Self {
        assert!(frames > 0, "a batch of no frames");
        Self {
            descriptors: Vec::with_capacity(frames),
            sources: Vec::new(),
            capacity: frames,
            datagrams: 0,
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
        self.push_segments(frame, len, len, truncated);
    }

    /// Appends a train: the first `len` bytes of `frame` are datagrams of `segment_len` bytes each, the last one
    /// possibly shorter. A `segment_len` of 0 says that it is no train.
    ///
    /// For backends; `UDP_GRO` makes such trains. `truncated` belongs to the last datagram: what the kernel threw
    /// away was its end, and whole datagrams after it that nobody can count.
    ///
    /// # Panics
    /// When the batch is full; ask [`room`](Self::room) first.
    #[inline]
    pub fn push_segments(&mut self, frame: FrameId, len: u32, segment_len: u32, truncated: bool) {
        assert!(self.room() > 0, "batch is full");
        let (segment_len, datagrams) = if segment_len == 0 || segment_len >= len {
            (len, 1)
        } else {
            (segment_len, len.div_ceil(segment_len))
        };
        self.datagrams += datagrams as usize;
        self.descriptors.push(Descriptor {
            frame,
            len,
            segment_len,
            truncated,
        });
    }

    /// Says where what was pushed last came from; nobody could tell, for `None`. For backends that were asked, which
    /// say it of each frame or of none.
    ///
    /// Allocates the first time, room for all frames.
    #[inline]
    pub fn came_from(&mut self, source: Option<SocketAddr>) {
        if self.sources.capacity() == 0 {
            self.sources.reserve_exact(self.capacity);
        }
        self.sources.push(source);
        debug_assert_eq!(self.sources.len(), self.descriptors.len(), "said of each");
    }

    /// Gives all frames back to `slab` and empties the batch.
    ///
    /// # Panics
    /// When a frame belongs to another slab.
    #[inline]
    pub fn release(&mut self, slab: &mut Slab) {
        self.datagrams = 0;
        self.sources.clear();
        // In this order a backend that arms its slots from the last to the first finds every frame in the
        // slot it had before.
        for descriptor in self.descriptors.drain(..) {
            slab.release(descriptor.frame);
        }
    }

    /// The datagrams in the order of arrival, those of a train one by one.
    ///
    /// # Panics
    /// The iterator, when `slab` is not the one the frames came from, or when a backend pushed a length
    /// beyond the frame.
    #[inline]
    pub fn datagrams<'a>(&'a self, slab: &'a Slab) -> impl ExactSizeIterator<Item = Datagram<'a>> {
        Datagrams {
            descriptors: self.descriptors.iter(),
            sources: self.sources.iter(),
            slab,
            left: self.datagrams,
            rest: &[],
            segment_len: 0,
            truncated: false,
            source: None,
        }
    }

    /// How many datagrams are in it.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.datagrams
    }

    /// Whether nothing came.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// How many frames they lie in: what the kernel had queued as one, a datagram or a train.
    #[inline]
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.descriptors.len()
    }

    /// How many more frames fit.
    #[inline]
    #[must_use]
    pub const fn room(&self) -> usize {
        self.capacity - self.descriptors.len()
    }
}

/// Walks the descriptors, and within each its datagrams.
struct Datagrams<'a> {
    descriptors: std::slice::Iter<'a, Descriptor>,
    sources: std::slice::Iter<'a, Option<SocketAddr>>,
    slab: &'a Slab,
    /// Datagrams still to come.
    left: usize,
    /// What is left of the current frame, and how to cut it.
    rest: &'a [u8],
    segment_len: usize,
    truncated: bool,
    source: Option<&'a SocketAddr>,
}

impl<'a> Iterator for Datagrams<'a> {
    type Item = Datagram<'a>;

    #[inline]
    fn next(&mut self) -> Option<Datagram<'a>> {
        if self.rest.is_empty() {
            let descriptor = self.descriptors.next()?;
            self.rest = &self.slab.frame(&descriptor.frame)[..descriptor.len as usize];
            self.segment_len = descriptor.segment_len as usize;
            self.truncated = descriptor.truncated;
            self.source = self.sources.next().and_then(Option::as_ref);
        }
        // An empty datagram passes here as well: both lengths are 0.
        let (bytes, rest) = self.rest.split_at(self.segment_len.min(self.rest.len()));
        self.rest = rest;
        self.left -= 1;
        Some(Datagram {
            bytes,
            truncated: self.truncated && rest.is_empty(),
            source: self.source,
        })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Datagrams<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
                truncated: false,
                source: None
            }
        );
        assert!(seen[1].truncated);

        batch.release(&mut slab);
        assert!(batch.is_empty());
        assert_eq!((batch.len(), slab.free()), (0, 3));
        for start in starts.iter().rev() {
            let frame = slab.take().unwrap();
            assert_eq!(slab.frame(&frame).as_ptr(), *start);
        }
    }

    #[test]
    fn the_rest_of_a_truncated_train_is_marked_at_its_last_datagram_only() {
        let mut slab = Slab::with_frame_len(1, 64).unwrap();
        let mut batch = Batch::new(1);
        batch.push_segments(slab.take().unwrap(), 64, 30, true);
        let seen: Vec<_> = batch
            .datagrams(&slab)
            .map(|datagram| (datagram.bytes.len(), datagram.truncated))
            .collect();
        assert_eq!(seen, [(30, false), (30, false), (4, true)]);
    }

    #[test]
    fn a_source_is_that_of_all_datagrams_of_its_frame_and_goes_with_them() {
        let mut slab = Slab::with_frame_len(3, 64).unwrap();
        let mut batch = Batch::new(3);
        let [first, last] = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 7], port)));
        batch.push_segments(slab.take().unwrap(), 50, 20, false);
        batch.came_from(Some(first));
        batch.push(slab.take().unwrap(), 4, false);
        batch.came_from(None);
        batch.push(slab.take().unwrap(), 0, false);
        batch.came_from(Some(last));
        let sources = |batch: &Batch| -> Vec<_> {
            let datagrams = batch.datagrams(&slab);
            datagrams
                .map(|datagram| datagram.source.map(SocketAddr::port))
                .collect()
        };
        assert_eq!(sources(&batch), [Some(1), Some(1), Some(1), None, Some(2)]);

        batch.release(&mut slab);
        batch.push(slab.take().unwrap(), 4, false);
        let seen = batch.datagrams(&slab).next().unwrap();
        assert_eq!(
            seen.source, None,
            "what was said of another is not said of it"
        );
    }

    #[test]
    #[should_panic(expected = "batch is full")]
    fn a_full_batch_takes_no_more() {
        let mut slab = Slab::with_frame_len(2, 64).unwrap();
        let mut batch = Batch::new(1);
        batch.push(slab.take().unwrap(), 1, false);
        batch.push(slab.take().unwrap(), 1, false);
    }

    proptest! {
        /// Against cutting with `chunks`: any frames, any segment lengths, also those that make no sense.
        #[test]
        fn trains_are_cut_as_chunks_are(
            frames in prop::collection::vec((0_u32..=64, 0_u32..=70, any::<bool>()), 1..8),
        ) {
            let mut slab = Slab::with_frame_len(frames.len(), 64).unwrap();
            let mut batch = Batch::new(frames.len());
            let mut expected: Vec<(Vec<u8>, bool)> = Vec::new();
            for (index, &(len, segment_len, truncated)) in (0..).zip(&frames) {
                let bytes: Vec<u8> = (0..64).map(|at| at ^ (index << 6)).collect();
                let frame = slab.take().unwrap();
                slab.frame_mut(&frame).copy_from_slice(&bytes);
                let filled = &bytes[..len as usize];
                let cut = if segment_len == 0 { 64 } else { segment_len as usize };
                expected.extend(filled.chunks(cut).map(|chunk| (chunk.to_vec(), false)));
                if filled.is_empty() {
                    expected.push((Vec::new(), false));
                }
                expected.last_mut().unwrap().1 = truncated;
                batch.push_segments(frame, len, segment_len, truncated);
            }
            prop_assert_eq!(batch.len(), expected.len());
            prop_assert_eq!(batch.datagrams(&slab).len(), expected.len());
            let seen: Vec<(Vec<u8>, bool)> = batch
                .datagrams(&slab)
                .map(|datagram| (datagram.bytes.to_vec(), datagram.truncated))
                .collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
