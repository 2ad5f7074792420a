//! A bounded window that moves over the file, unpacking gzip on the way.

use core::fmt;
use std::io::{self, Chain, Cursor, Read, Take};

use flate2::read::MultiGzDecoder;

/// The bytes of a capture from [`offset`](Self::offset) on, as many as were asked for.
///
/// ```text
///  buffer  | consumed | bytes() ............ | room to read into |
///                     ^ start                ^ end
/// ```
pub(crate) struct Window<R> {
    stream: Stream<R>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
}

/// The reader with the bytes looked at for the gzip magic put back in front.
type Whole<R> = Chain<Take<Cursor<[u8; 2]>>, R>;

enum Stream<R> {
    Plain(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
}

impl<R: Read> Window<R> {
    /// Looks at the first two bytes of `reader` and unpacks what follows if they are gzip's.
    pub(crate) fn new(mut reader: R) -> io::Result<Self> {
        let mut head = [0; 2];
        let mut have = 0;
        while have < head.len() {
            match reader.read(&mut head[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let whole = Cursor::new(head).take(have as u64).chain(reader);
        Ok(Self {
            stream: if have == head.len() && head == GZIP_MAGIC {
                Stream::Gzip(Box::new(MultiGzDecoder::new(whole)))
            } else {
                Stream::Plain(whole)
            },
            buffer: vec![0; FIRST_LEN],
            start: 0,
            end: 0,
            offset: 0,
        })
    }

    /// Reads until `need` bytes are in the window; `false` when the file ends before.
    ///
    /// `need` is at most [`MAX_LEN`]: callers check what the file claims.
    #[inline]
    pub(crate) fn fill(&mut self, need: usize) -> io::Result<bool> {
        if self.end - self.start >= need {
            return Ok(true);
        }
        self.refill(need)
    }

    #[cold]
    fn refill(&mut self, need: usize) -> io::Result<bool> {
        debug_assert!(
            need <= MAX_LEN,
            "a record was not checked against its limit"
        );
        // Never moves more than was consumed since the last time, so that looking ahead time and again stays
        // cheap; with room for twice the need, what must not move yet has room behind it.
        if self.start >= self.end - self.start {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.start + need {
            self.buffer.resize(2 * need, 0);
        }
        while self.end < self.start + need {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(n) => self.end += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves on by `len` bytes that are in the window.
    #[inline]
    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
        self.offset += len as u64;
    }

    /// Moves on by `len` bytes, in the window or not; `Err(Ok(n))` says that the file ended after `n`.
    pub(crate) fn skip(&mut self, len: u64) -> Result<(), io::Result<u64>> {
        let mut skipped = 0;
        while skipped < len {
            let wanted = usize::try_from(len - skipped).unwrap_or(usize::MAX);
            let step = wanted.min(FIRST_LEN);
            let ended = !self.fill(step).map_err(Err)?;
            let step = step.min(self.bytes().len());
            self.consume(step);
            skipped += step as u64;
            if ended {
                return Err(Ok(skipped));
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// What is in the window.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Offset in the (unpacked) file of the first byte in the window.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Gzip(stream) => stream.read(buffer),
        }
    }
}

impl<R> fmt::Debug for Window<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("gzip", &matches!(self.stream, Stream::Gzip(_)))
            .field("offset", &self.offset)
            .field("buffered", &(self.end - self.start))
            .finish_non_exhaustive()
    }
}

/// Window at the start, in bytes: large enough for few reads, small enough for the second-level cache.
const FIRST_LEN: usize = 128 << 10;

/// Largest record with its header, in bytes. libpcap's largest snap length is 256 KiB.
pub(crate) const MAX_LEN: usize = 1 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, with interruptions between.
    struct Trickle<'a>(&'a [u8], bool);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn a_trickling_reader_gives_every_byte_once() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut window = Window::new(Trickle(&bytes, false)).expect("readable");
        for byte in &bytes {
            assert!(window.fill(1).expect("readable"));
            assert_eq!(window.bytes()[0], *byte);
            window.consume(1);
        }
        assert!(!window.fill(1).expect("readable"));
        assert_eq!(window.offset(), 256);
    }

    #[test]
    fn skipping_past_the_end_says_how_far_it_came() {
        let bytes = vec![7; 3 * FIRST_LEN + 5];
        let mut window = Window::new(&bytes[..]).expect("readable");
        window.skip(2 * FIRST_LEN as u64 + 1).expect("inside");
        assert_eq!(window.offset(), 2 * FIRST_LEN as u64 + 1);
        let rest = FIRST_LEN as u64 + 4;
        assert!(matches!(window.skip(1 << 40), Err(Ok(n)) if n == rest));
    }

    #[test]
    fn looking_ahead_after_every_step_moves_each_byte_once_at_most() {
        let bytes: Vec<u8> = (0..=255).cycle().take(4 * FIRST_LEN).collect();
        let mut window = Window::new(Trickle(&bytes, false)).expect("readable");
        let (mut moved, mut start) = (0, 0);
        for step in 0..2 * FIRST_LEN {
            assert!(window.fill(2 * FIRST_LEN).expect("readable"));
            assert_eq!(usize::from(window.bytes()[0]), step % 256);
            if window.start < start {
                moved += window.bytes().len();
            }
            window.consume(1);
            start = window.start;
        }
        assert!(moved <= bytes.len(), "{moved} bytes were moved");
        assert!(window.capacity() <= 4 * FIRST_LEN);
    }

    #[test]
    fn a_record_larger_than_the_window_makes_it_grow() {
        let bytes = vec![7; 2 * FIRST_LEN];
        let mut window = Window::new(&bytes[..]).expect("readable");
        assert!(window.fill(2 * FIRST_LEN).expect("readable"));
        assert_eq!(window.bytes().len(), 2 * FIRST_LEN);
    }
}
