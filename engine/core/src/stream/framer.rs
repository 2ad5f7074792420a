//! Cutting packets out of one stream.
//!
//! ```text
//!   pieces    ──┤ P4CK ... │ P4CK ... │ P4CK .┆.. │ P4CK ... ├──
//!                 in place   in place   held ┆ + as many bytes as are missing: a packet of its own copy
//! ```
//!
//! A packet that lies within a piece is handed on where it lies. Of one that does not, the beginning is kept, and then
//! as many bytes as it lacks are copied behind it, from wherever they come: so a peer that dribbles costs no more than one
//! that does not. No system call, no clock: the same code runs under the simulator and the fuzzer.

use binrush_wire::{ErrorKind, Generation, Head, WireError, frame_len, next_marker};

use super::reason::CloseReason;

/// Cuts the packets out of the bytes of one connection.
#[derive(Debug)]
pub struct Framer {
    generation: Generation,
    frame_len_max: usize,
    pieces_max: u32,
    /// The beginning of a packet whose end has not come.
    held: Vec<u8>,
    /// Pieces that the packet in `held` has come in so far.
    pieces: u32,
    /// Bytes passed over since the last packet.
    skipped: usize,
    /// A connection that was given up is not read any more.
    given_up: bool,
}

/// What one piece, or several, came to.
///
/// `rx_bytes = frame_bytes + skipped_bytes + rejected_bytes + what was added to the bytes held`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Bytes taken in.
    pub rx_bytes: u64,
    /// Packets handed on.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Bytes passed over between packets (2.2 only).
    pub skipped_bytes: u64,
    /// Bytes that were given up together with the connection, held ones included.
    pub rejected_bytes: u64,
}

/// No packet can come of this stream any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// How the connection ends.
    pub reason: CloseReason,
    /// What was wrong, where that is about bytes.
    pub error: Option<WireError>,
}

impl Framer {
    /// For a sender of `generation`, none of whose packets is longer than `frame_len_max` bytes or comes in more than
    /// `pieces_max` pieces.
    ///
    /// # Panics
    /// For 1.x, which has no streams.
    #[must_use]
    pub fn new(generation: Generation, frame_len_max: usize, pieces_max: Option<u32>) -> Self {
        assert_ne!(generation, Generation::Legacy, "a stream of datagrams");
        Self {
            generation,
            frame_len_max,
            pieces_max: pieces_max.unwrap_or(u32::MAX),
            held: Vec::new(),
            pieces: 0,
            skipped: 0,
            given_up: false,
        }
    }

    /// Takes the next bytes of the stream, calls `frame` with each packet that is complete now, in order, and adds to
    /// `cut` what they came to.
    ///
    /// A stream of 2.3 or later ends at the first byte that is no packet, as it does for genuine nodes (`proto_bin`
    /// closes the connection). One of 2.2 goes on at the next marker, because its senders leave empty strings at the
    /// end out of the length (2.2 `bin_interface.c`), up to [`SKIP_MAX`] bytes.
    ///
    /// # Errors
    /// [`Broken`]: the rest was rejected, and so is all that comes later.
    #[inline]
    pub fn feed(
        &mut self,
        bytes: &[u8],
        cut: &mut Cut,
        mut frame: impl FnMut(&[u8]),
    ) -> Result<(), Broken> {
        cut.rx_bytes += bytes.len() as u64;
        if self.given_up {
            cut.rejected_bytes += bytes.len() as u64;
            return Ok(());
        }
        let mut rest = bytes;
        if !self.held.is_empty() && !rest.is_empty() {
            self.pieces = self.pieces.saturating_add(1);
            if self.pieces > self.pieces_max {
                return Err(self.give_up(CloseReason::TooManyPieces, None, rest, cut));
            }
            rest = self.complete(rest, cut, &mut frame)?;
        }
        while !rest.is_empty() {
            match frame_len(self.generation, rest, self.frame_len_max) {
                Head::Complete { len } => {
                    let (packet, behind) = rest.split_at(len);
                    frame(packet);
                    cut.frames += 1;
                    cut.frame_bytes += len as u64;
                    self.skipped = 0;
                    rest = behind;
                }
                Head::NeedMore { .. } => {
                    self.hold(rest);
                    self.pieces = 1;
                    break;
                }
                Head::Broken(error) => rest = self.pass_over(rest, error, cut)?,
            }
        }
        Ok(())
    }

    /// Brings the packet that is held to its end, as far as `rest` goes; what is left of `rest`.
    #[cold]
    fn complete<'a>(
        &mut self,
        mut rest: &'a [u8],
        cut: &mut Cut,
        frame: &mut impl FnMut(&[u8]),
    ) -> Result<&'a [u8], Broken> {
        while !self.held.is_empty() {
            match frame_len(self.generation, &self.held, self.frame_len_max) {
                Head::NeedMore { missing } => {
                    let Some((some, behind)) = split_first(rest, missing) else {
                        break;
                    };
                    self.hold(some);
                    rest = behind;
                }
                Head::Complete { .. } => {
                    rest = self.hold_empty_strings(rest);
                    frame(&self.held);
                    cut.frames += 1;
                    cut.frame_bytes += self.held.len() as u64;
                    self.skipped = 0;
                    self.held.clear();
                }
                Head::Broken(error) => {
                    // A few bytes, because a length is looked at as soon as it is there.
                    let held = std::mem::take(&mut self.held);
                    let behind = self.pass_over(&held, error, cut);
                    match behind {
                        Ok(behind) => self.held = behind.to_vec(),
                        Err(broken) => {
                            cut.rejected_bytes += rest.len() as u64;
                            return Err(broken);
                        }
                    }
                }
            }
        }
        Ok(rest)
    }

    /// A 2.2 sender leaves empty strings at the end of a packet out of its length; four zero bytes each, and no packet
    /// begins with them.
    fn hold_empty_strings<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        if self.generation != Generation::Transitional {
            return rest;
        }
        while let Some((string, behind)) = rest.split_first_chunk() {
            self.hold(string);
            let fits = frame_len(self.generation, &self.held, self.frame_len_max);
            let all = self.held.len();
            if *string != [0; 4] || fits != (Head::Complete { len: all }) {
                self.held.truncate(all - string.len());
                break;
            }
            rest = behind;
        }
        rest
    }

    /// Passes over bytes at the head of `rest` at which no packet can begin: only in a stream of 2.2.
    #[cold]
    fn pass_over<'a>(
        &mut self,
        rest: &'a [u8],
        error: WireError,
        cut: &mut Cut,
    ) -> Result<&'a [u8], Broken> {
        let reason = match error.kind {
            ErrorKind::Marker => CloseReason::BadMarker,
            _ => CloseReason::BadLength,
        };
        let step = next_marker(rest);
        if self.generation != Generation::Transitional || self.skipped + step > SKIP_MAX {
            return Err(self.give_up(reason, Some(error), rest, cut));
        }
        self.skipped += step;
        cut.skipped_bytes += step as u64;
        Ok(&rest[step..])
    }

    #[cold]
    fn give_up(
        &mut self,
        reason: CloseReason,
        error: Option<WireError>,
        rest: &[u8],
        cut: &mut Cut,
    ) -> Broken {
        cut.rejected_bytes += (self.held.len() + rest.len()) as u64;
        self.held = Vec::new();
        self.given_up = true;
        Broken { reason, error }
    }

    /// Grows with what has come and not with what a header promises: memory has to be sent before it is taken.
    fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Bytes of the packet that is begun.
    #[inline]
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held.len()
    }

    /// Bytes of memory that the framer has for it.
    #[inline]
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.held.capacity()
    }

    /// Forgets the packet that is begun, and its memory; for a connection that ends.
    pub fn forget(&mut self) {
        self.held = Vec::new();
        self.given_up = true;
    }

    /// Gives back the memory that is not in use; for a connection that has gone quiet.
    pub fn shrink(&mut self) {
        self.held.shrink_to_fit();
    }
}

/// The first `len` bytes, or all there are, and the rest; `None` when there are none.
fn split_first(bytes: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    (!bytes.is_empty()).then(|| bytes.split_at(len.min(bytes.len())))
}

/// Bytes that are passed over in search of the next packet of a 2.2 stream: as much as one packet may have.
pub const SKIP_MAX: usize = 65_535;

#[cfg(test)]
mod tests;
