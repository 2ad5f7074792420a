//! A stream cut into frames, faults applied.

use binrush_wire::{Generation, Head, MAX_PACKET_LEN, frame_len};

use crate::faults::Faults;

/// The bytes of one direction on their way: bytes in, bytes out.
///
/// A stream that is no BIN (any more) goes on as it is from there: no place in it would be a frame's end.
#[derive(Debug)]
pub(super) struct Stream {
    faults: Faults,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    not_bin: bool,
    /// Bytes that still may go out before the cut.
    room: u64,
    pub(super) kept_back: u64,
    pub(super) not_bin_bytes: u64,
}

impl Stream {
    /// Cut after `cut_after` bytes went out.
    pub(super) fn new(faults: Faults, cut_after: Option<u64>) -> Self {
        Self {
            faults,
            partial: Vec::new(),
            not_bin: false,
            room: cut_after.unwrap_or(u64::MAX),
            kept_back: 0,
            not_bin_bytes: 0,
        }
    }

    /// Takes the next bytes, and appends to `out` what goes on now.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.partial.is_empty() {
            let used = self.cut(bytes, out);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut partial = core::mem::take(&mut self.partial);
            partial.extend_from_slice(bytes);
            let used = self.cut(&partial, out);
            partial.drain(..used);
            self.partial = partial;
        }
    }

    /// Appends to `out` what was held back; how many bytes of an unfinished frame were among it. Nothing comes after it.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> u64 {
        let (room, kept_back) = (&mut self.room, &mut self.kept_back);
        self.faults.finish(|frame| {
            *kept_back += u64::from(!append(frame, room, out));
        });
        append(&self.partial, room, out);
        self.partial.len() as u64
    }

    /// Whether the bytes that may go out have gone.
    pub(super) const fn is_cut(&self) -> bool {
        self.room == 0
    }

    pub(super) const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Works off the whole frames at the head of `bytes`; how many bytes these are.
    fn cut(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.is_cut() {
            let rest = &bytes[at..];
            let head = match self.not_bin {
                true => None,
                false => Some(frame_len(Generation::Modern, rest, MAX_PACKET_LEN)),
            };
            match head {
                Some(Head::NeedMore { .. }) => break,
                Some(Head::Complete { len }) => {
                    let (room, kept_back) = (&mut self.room, &mut self.kept_back);
                    self.faults.pass(&rest[..len], |frame| {
                        *kept_back += u64::from(!append(frame, room, out));
                    });
                    at += len;
                }
                Some(Head::Broken(_)) | None => {
                    self.not_bin = true;
                    self.not_bin_bytes += rest.len() as u64;
                    append(rest, &mut self.room, out);
                    at = bytes.len();
                }
            }
        }
        at
    }
}

/// Appends as much of `bytes` as there is room for; whether that is all.
fn append(bytes: &[u8], room: &mut u64, out: &mut Vec<u8>) -> bool {
    let len = usize::try_from(*room).map_or(bytes.len(), |room| room.min(bytes.len()));
    out.extend_from_slice(&bytes[..len]);
    *room -= len as u64;
    len == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Odds, Plan};
    use binrush_wire::{Builder, Packet};

    fn frame(number: i32, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; 2000];
        let mut builder =
            Builder::new(Generation::Modern, &mut buffer, b"mine", number, 1).unwrap();
        builder.push_str(&vec![b'x'; len]).unwrap();
        builder.seal().to_vec()
    }

    fn stream(plan: &Plan, cut_after: Option<u64>) -> Stream {
        Stream::new(Faults::new(plan, 0).unwrap(), cut_after)
    }

    fn numbers(mut bytes: &[u8]) -> Vec<i32> {
        let mut numbers = Vec::new();
        while let Head::Complete { len } = frame_len(Generation::Modern, bytes, MAX_PACKET_LEN) {
            let packet = Packet::parse(Generation::Modern, &bytes[..len]).unwrap();
            numbers.push(packet.command());
            bytes = &bytes[len..];
        }
        assert!(bytes.is_empty());
        numbers
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let sent: Vec<u8> = (0..100)
            .flat_map(|n| frame(n, (n as usize * 37) % 900))
            .collect();
        let plan = Plan {
            lose: Odds::OneIn(10),
            reorder: Odds::OneIn(20),
            ..Plan::default()
        };
        let through = |piece: usize| {
            let mut stream = stream(&plan, None);
            let mut out = Vec::new();
            for bytes in sent.chunks(piece) {
                stream.take(bytes, &mut out);
            }
            assert_eq!(stream.finish(&mut out), 0);
            assert_eq!(stream.faults().counts().lost, 10);
            assert_eq!(stream.faults().counts().reordered, 5);
            out
        };
        let whole = through(sent.len());
        assert_eq!(numbers(&whole).len(), 90);
        for piece in [1, 7, 8, 100, 4096] {
            assert!(through(piece) == whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn the_cut_is_to_the_byte_and_says_which_frames_it_kept_back() {
        let sent: Vec<u8> = (0..10).flat_map(|n| frame(n, 83)).collect();
        let len = sent.len() as u64 / 10;
        // In the middle of the fifth; right behind the fourth.
        for (cut_after, frames, kept_back) in [(4 * len + 1, 5, 1), (4 * len, 4, 0)] {
            let mut stream = stream(&Plan::default(), Some(cut_after));
            let mut out = Vec::new();
            stream.take(&sent, &mut out);
            assert!(stream.is_cut());
            stream.finish(&mut out);
            assert!(out == sent[..usize::try_from(cut_after).unwrap()]);
            assert_eq!(
                (stream.faults().counts().forwarded, stream.kept_back),
                (frames, kept_back)
            );
        }
    }

    #[test]
    fn a_stream_that_is_no_bin_goes_on_as_it_is() {
        let plan = Plan {
            lose: Odds::Chance(1.0),
            ..Plan::default()
        };
        let mut stream = stream(&plan, None);
        let mut out = Vec::new();
        stream.take(&frame(1, 10), &mut out);
        stream.take(b"GET / HTTP/1.1\r\n", &mut out);
        stream.take(&frame(2, 10), &mut out);
        let expected = [&b"GET / HTTP/1.1\r\n"[..], &frame(2, 10)].concat();
        assert!(out == expected);
        assert_eq!(stream.not_bin_bytes, expected.len() as u64);
        assert_eq!(stream.faults().counts().lost, 1);
    }

    #[test]
    fn an_unfinished_frame_goes_on_at_the_end() {
        let mut stream = stream(&Plan::default(), None);
        let (whole, mut out) = (frame(1, 100), Vec::new());
        stream.take(&whole[..60], &mut out);
        assert!(out.is_empty());
        assert_eq!(stream.finish(&mut out), 60);
        assert!(out == whole[..60]);
    }
}
