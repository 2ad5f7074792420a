//! Cutting frames out of the bytes of one TCP direction, in order.

use core::ops::Range;

use binrush_wire::{ErrorKind, Generation, Head, WireError, frame_len, next_marker};

use crate::options::{GenerationChoice, Options};

/// What was found in the bytes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A frame.
    Frame(Range<usize>, Generation),
    /// Skipped bytes end here, before a frame.
    Skipped { at: usize, skipped: Skipped },
    /// No frame can begin here.
    Broken { at: usize, error: WireError },
}

/// A run of bytes that belong to no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Skipped {
    pub(crate) bytes: u64,
    /// Markers among them at which no frame could begin.
    pub(crate) markers: u64,
}

/// Where the cutting of one direction stands.
#[derive(Debug)]
pub(crate) struct Framing {
    generation: Option<Generation>,
    /// At least one frame was found: this direction is BIN, and what is wrong with it is worth saying.
    is_bin: bool,
    /// Since the last frame, or the start.
    skipped: Skipped,
    /// Nothing was found in a long stretch: bytes are not looked at any more.
    given_up: bool,
}

impl Framing {
    pub(crate) fn new(choice: GenerationChoice) -> Self {
        Self {
            generation: match choice {
                GenerationChoice::Auto => None,
                GenerationChoice::Fixed(generation) => Some(generation),
            },
            is_bin: false,
            skipped: Skipped::default(),
            given_up: false,
        }
    }

    pub(crate) fn is_bin(&self) -> bool {
        self.is_bin
    }

    pub(crate) fn given_up(&self) -> bool {
        self.given_up
    }

    /// What was skipped since the last frame, if anything; the count begins anew.
    pub(crate) fn take_skipped(&mut self) -> Skipped {
        core::mem::take(&mut self.skipped)
    }

    /// Cuts all complete frames out of `bytes`. Returns how many bytes are done with; the rest is the beginning
    /// of a frame, to be given again with more behind it.
    #[inline]
    pub(crate) fn cut(
        &mut self,
        bytes: &[u8],
        options: &Options,
        mut found: impl FnMut(Cut),
    ) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.given_up {
            let rest = &bytes[at..];
            let (generation, head) = match self.generation {
                Some(generation) => (generation, frame_len(generation, rest, options.max_len)),
                None => guess(rest, options.max_len),
            };
            match head {
                Head::Complete { len } => {
                    if self.skipped.bytes > 0 {
                        let skipped = self.take_skipped();
                        found(Cut::Skipped { at, skipped });
                    }
                    self.generation = Some(generation);
                    self.is_bin = true;
                    found(Cut::Frame(at..at + len, generation));
                    at += len;
                }
                Head::NeedMore { .. } => break,
                Head::Broken(error) => {
                    // Said once where garbage begins, and once where a marker's header lies; then counted,
                    // or bytes that are nothing but markers would fill memory with their problems.
                    let marked = error.kind != ErrorKind::Marker;
                    let new = match marked {
                        true => self.skipped.markers == 0,
                        false => self.skipped.bytes == 0 && self.is_bin,
                    };
                    if new {
                        found(Cut::Broken { at, error });
                    }
                    let step = next_marker(rest);
                    self.skipped.markers += u64::from(marked);
                    self.skipped.bytes += step as u64;
                    at += step;
                    self.given_up =
                        !self.is_bin && self.skipped.bytes >= options.limits.search_bytes;
                }
            }
        }
        if self.given_up { bytes.len() } else { at }
    }
}

/// Takes the head of a stream for 2.3+ or 2.2, whichever is plausible; 2.3+ when both are.
///
/// A length field of 2.2 is followed by two bytes its sender never writes, which are the upper half of the
/// length in 2.3+. What decides is the name: read with the other layout, a name length takes characters of the
/// name (2.3+ read as 2.2), or undefined bytes with the name length for a name (2.2 read as 2.3+).
fn guess(bytes: &[u8], max_len: usize) -> (Generation, Head) {
    let modern = frame_len(Generation::Modern, bytes, max_len);
    let (generation, fit) = match fits_modern(bytes, max_len) {
        Fit::No => (Generation::Transitional, fits_transitional(bytes, max_len)),
        fit => (Generation::Modern, fit),
    };
    let head = match fit {
        Fit::Yes => frame_len(generation, bytes, max_len),
        Fit::NeedMore => match modern {
            Head::Broken(error) if error.kind == ErrorKind::Marker => modern,
            _ => Head::NeedMore { missing: 1 },
        },
        Fit::No => match modern {
            Head::Broken(_) => modern,
            _ => Head::Broken(WireError::new(ErrorKind::NameLength, 10, 1, 0)),
        },
    };
    (generation, head)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    NeedMore,
}

fn fits_modern(bytes: &[u8], max_len: usize) -> Fit {
    let Some(total) = bytes.get(4..8) else {
        return Fit::NeedMore;
    };
    let total = u32::from_le_bytes([total[0], total[1], total[2], total[3]]) as usize;
    if !(Generation::Modern.min_packet_len()..=max_len).contains(&total) {
        return Fit::No;
    }
    match bytes.get(10..12) {
        Some(len) => {
            let len = usize::from(u16::from_le_bytes([len[0], len[1]]));
            fits_name(bytes, 12, len, total)
        }
        None => Fit::NeedMore,
    }
}

fn fits_transitional(bytes: &[u8], max_len: usize) -> Fit {
    let Some(total) = bytes.get(4..6) else {
        return Fit::NeedMore;
    };
    let total = usize::from(u16::from_le_bytes([total[0], total[1]]));
    if !(Generation::Transitional.min_packet_len()..=max_len).contains(&total) {
        return Fit::No;
    }
    match bytes.get(12..16) {
        Some(len) => {
            let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
            fits_name(bytes, 16, len, total)
        }
        None => Fit::NeedMore,
    }
}

/// Whether a name of `len` bytes at `at` leaves room for the command, and is text as far as it is there.
fn fits_name(bytes: &[u8], at: usize, len: usize, total: usize) -> Fit {
    if len == 0 || len > MAX_NAME_LEN || at + len + 4 > total {
        return Fit::No;
    }
    let name = &bytes[at.min(bytes.len())..bytes.len().min(at + len)];
    if !name.iter().all(u8::is_ascii_graphic) {
        Fit::No
    } else if name.len() < len {
        Fit::NeedMore
    } else {
        Fit::Yes
    }
}

/// Longest name taken for one while guessing; the longest of OpenSIPS has 24 bytes.
const MAX_NAME_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::Builder;

    fn frame(generation: Generation, name: &[u8], undefined: u8) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut builder = Builder::new(generation, &mut buffer, name, 3, 1).expect("fits");
        builder.push_str(b"alice").expect("fits");
        let mut bytes = builder.seal().to_vec();
        if generation == Generation::Transitional {
            for at in [6, 7, 10, 11] {
                bytes[at] = undefined;
            }
        }
        bytes
    }

    fn cuts(choice: GenerationChoice, bytes: &[u8]) -> (Vec<Cut>, usize, Framing) {
        let mut framing = Framing::new(choice);
        let options = Options {
            generation: choice,
            ..Options::default()
        };
        let mut found = Vec::new();
        let used = framing.cut(bytes, &options, |cut| found.push(cut));
        (found, used, framing)
    }

    #[test]
    fn the_generation_is_guessed_whatever_the_undefined_bytes_hold() {
        for name in [&b"ul"[..], b"dialog", b"clusterer-internal"] {
            let modern = frame(Generation::Modern, name, 0);
            let (found, ..) = cuts(GenerationChoice::Auto, &modern);
            assert_eq!(found, [Cut::Frame(0..modern.len(), Generation::Modern)]);
            for undefined in 0..=255 {
                let old = frame(Generation::Transitional, name, undefined);
                let (found, ..) = cuts(GenerationChoice::Auto, &old);
                assert_eq!(found, [Cut::Frame(0..old.len(), Generation::Transitional)]);
            }
        }
    }

    #[test]
    fn an_incomplete_head_is_kept_until_it_can_be_told() {
        for generation in [Generation::Modern, Generation::Transitional] {
            let bytes = frame(generation, b"dialog", 0);
            for cut in 1..bytes.len() {
                let (found, used, _) = cuts(GenerationChoice::Auto, &bytes[..cut]);
                assert_eq!((found, used), (vec![], 0), "{generation} cut at {cut}");
            }
        }
    }

    #[test]
    fn garbage_between_frames_is_said_once_and_counted() {
        let one = frame(Generation::Modern, b"ul", 0);
        let bytes = [&one[..], b"garbage P and more", &one].concat();
        let (found, used, _) = cuts(GenerationChoice::Auto, &bytes);
        assert_eq!(used, bytes.len());
        let second = one.len() + 18;
        assert!(matches!(found[1], Cut::Broken { at, .. } if at == one.len()));
        assert_eq!(
            found[2],
            Cut::Skipped {
                at: second,
                skipped: Skipped {
                    bytes: 18,
                    markers: 0
                }
            }
        );
        assert_eq!(
            found[3],
            Cut::Frame(second..bytes.len(), Generation::Modern)
        );
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn a_length_that_lies_is_named() {
        let mut bytes = frame(Generation::Modern, b"ul", 0);
        bytes[7] = 0x7f;
        let (found, ..) = cuts(GenerationChoice::Fixed(Generation::Modern), &bytes);
        assert!(
            matches!(&found[..], [Cut::Broken { at: 0, error }] if error.kind == ErrorKind::LengthAboveMaximum)
        );
    }

    #[test]
    fn false_markers_after_the_first_are_counted() {
        let one = frame(Generation::Modern, b"ul", 0);
        let bytes = [&one[..], b"garbage", &b"P4CK".repeat(1000), &one].concat();
        let (found, used, _) = cuts(GenerationChoice::Auto, &bytes);
        assert_eq!(used, bytes.len());
        let garbage = one.len();
        let second = garbage + 7 + 4000;
        let skipped = Skipped {
            bytes: 4007,
            markers: 1000,
        };
        assert!(matches!(found[1], Cut::Broken { at, .. } if at == garbage));
        assert!(matches!(found[2], Cut::Broken { at, .. } if at == garbage + 7));
        assert_eq!(
            found[3..],
            [
                Cut::Skipped {
                    at: second,
                    skipped
                },
                Cut::Frame(second..bytes.len(), Generation::Modern)
            ]
        );
    }

    #[test]
    fn a_direction_without_frames_is_given_up() {
        let bytes = vec![b'x'; 70_000];
        let (found, used, framing) = cuts(GenerationChoice::Auto, &bytes);
        assert_eq!((found, used), (vec![], bytes.len()));
        assert!(framing.given_up() && !framing.is_bin());
    }
}
