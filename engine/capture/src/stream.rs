//! One direction of a TCP connection: segments into order, order into frames.
//!
//! ```text
//!            next                      held
//!  delivered  |   hole   [segment]  hole  [segment][segment]
//!  -----------+---------------------------------------------> stream offset
//! ```
//!
//! A hole closes when its bytes come, or is given up as a gap: some time after the receiver acknowledged past it
//! (it has the bytes, so the capture missed them), when what is held reaches its limit, or when the stream ends.
//! Not at once: a capture of several queues or interfaces can have the acknowledgement before the bytes.

use core::time::Duration;
use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::event::Transport;
use crate::framing::{Cut, Framing, Skipped};
use crate::options::Options;
use crate::outbox::{Found, Home, Outbox};
use crate::problem::{Cause, Place, ProblemKind};
use crate::time::Timestamp;

/// Sender and receiver: the name of one direction.
pub(crate) type Direction = (SocketAddr, SocketAddr);

/// The data of one segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data<'a> {
    /// Sequence number of the first byte.
    pub(crate) seq: u32,
    pub(crate) bytes: &'a [u8],
    /// Bytes behind them that were sent, but not captured.
    pub(crate) missing: usize,
    /// Where `bytes` lie, and from which offset on.
    pub(crate) home: Home,
    pub(crate) at: usize,
}

/// What is remembered of one direction.
#[derive(Debug)]
pub(crate) struct Stream {
    direction: Direction,
    /// What the outbox calls `buffer`.
    home: Home,
    /// Sequence number of stream offset 0.
    pub(crate) origin: u32,
    /// The next byte in order: its sequence number and stream offset.
    next_seq: u32,
    next: u64,
    /// Stream offset up to which the receiver acknowledged.
    acked: u64,
    /// Stream offset of the FIN.
    fin: Option<u64>,
    /// Segments of the connection so far, both ways.
    segments: u64,
    /// Segments behind a hole, by offset.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// In-order bytes from stream offset `next - buffer.len()` on; those before `used` are done with, but
    /// frames that wait in the outbox may lie there.
    buffer: Vec<u8>,
    used: usize,
    framing: Framing,
}

#[derive(Debug)]
struct Held {
    offset: u64,
    bytes: Box<[u8]>,
    missing: usize,
    /// Since when it is known that the receiver has what comes before.
    acked: Option<Moment>,
}

/// A point in the life of a connection.
#[derive(Debug, Clone, Copy)]
struct Moment {
    segments: u64,
    time: Timestamp,
}

impl Stream {
    /// A direction whose first byte has sequence number `origin`.
    pub(crate) fn new(direction: Direction, origin: u32, options: &Options) -> Self {
        Self {
            direction,
            home: Home::Leaving,
            origin,
            next_seq: origin,
            next: 0,
            acked: 0,
            fin: None,
            segments: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            buffer: Vec::new(),
            used: 0,
            framing: Framing::new(options.generation),
        }
    }

    /// Tells the stream where it lives; not while frames in its buffer wait to be taken.
    pub(crate) fn move_to(&mut self, home: Home) {
        self.home = home;
    }

    /// Bytes of memory behind this stream.
    pub(crate) fn footprint(&self) -> usize {
        self.buffer.capacity() + self.held_bytes + self.held.capacity() * size_of::<Held>()
    }

    /// Takes the data of a segment.
    pub(crate) fn data(&mut self, mut data: Data<'_>, options: &Options, out: &mut Outbox) {
        self.segments += 1;
        let len = (data.bytes.len() + data.missing) as u64;
        if len == 0 {
            return;
        }
        let distance = i64::from(data.seq.wrapping_sub(self.next_seq).cast_signed());
        if distance.unsigned_abs() > MAX_JUMP {
            self.jump(data.seq, options, out);
        } else if distance < 0 {
            let old = distance.unsigned_abs();
            if old > self.next && self.framing.is_bin() {
                let bytes = (old - self.next).min(len);
                out.problem(self.place(0), ProblemKind::BeforeStart { bytes });
            }
            if old >= len {
                out.totals.retransmitted += 1;
                return;
            }
            data.trim(usize::try_from(old).unwrap_or(usize::MAX));
        } else if distance > 0 {
            out.totals.out_of_order += 1;
            self.hold(self.next + distance.unsigned_abs(), &data, out.time);
            self.release(options, out);
            return;
        }
        self.deliver(data, options, out);
        self.release(options, out);
    }

    /// Notes what the receiver acknowledged; may show that it has what the capture has not.
    pub(crate) fn acknowledged(&mut self, ack: u32, options: &Options, out: &mut Outbox) {
        self.segments += 1;
        let distance = i64::from(ack.wrapping_sub(self.next_seq).cast_signed());
        if distance > 0 && distance.unsigned_abs() <= MAX_JUMP {
            self.acked = self.acked.max(self.next + distance.unsigned_abs());
            if !self.held.is_empty() {
                let (now, acked) = (self.now(out.time), self.acked);
                let known = self.held.partition_point(|held| held.acked.is_some());
                let later = self.held.range_mut(known..);
                later
                    .take_while(|held| held.offset <= acked)
                    .for_each(|held| held.acked = Some(now));
                self.release(options, out);
            }
        }
    }

    /// Notes a FIN behind the data that ends at sequence number `end`; ends the stream once all came.
    pub(crate) fn fin(&mut self, end: u32, options: &Options, out: &mut Outbox) {
        let distance = i64::from(end.wrapping_sub(self.next_seq).cast_signed());
        if distance >= 0 && distance.unsigned_abs() <= MAX_JUMP {
            self.fin = Some(self.next + distance.unsigned_abs());
            self.release(options, out);
        }
    }

    /// Gives up all holes and the incomplete frame at the end. The stream keeps its place, so that a
    /// retransmission after the end is still known for one.
    pub(crate) fn end(&mut self, cause: Cause, options: &Options, out: &mut Outbox) {
        while let Some(first) = self.held.front() {
            let cause = first.acked.map_or(cause, |_| Cause::Acknowledged);
            self.gap(first.offset - self.next, cause, out);
            self.release(options, out);
        }
        // One byte more may be the acknowledged FIN.
        if self.acked > self.next + 1 {
            self.gap(self.acked - self.next, Cause::Acknowledged, out);
        }
        let bytes = self.drop_partial();
        if bytes > 0 && self.framing.is_bin() {
            out.totals.lost_bytes += bytes as u64;
            out.problem(
                self.place(self.next - bytes as u64),
                ProblemKind::Unfinished { bytes, cause },
            );
        }
        let Skipped { bytes, markers } = self.framing.take_skipped();
        if bytes > 0 && self.framing.is_bin() {
            out.totals.skipped_bytes += bytes;
            let kind = ProblemKind::Skipped { bytes, markers };
            out.problem(self.place(self.next), kind);
        }
    }

    /// The last word on a stream that leaves the table.
    pub(crate) fn leave(&mut self, cause: Cause, options: &Options, out: &mut Outbox) {
        self.end(cause, options, out);
        if !self.framing.is_bin() && self.next > 0 {
            out.totals.not_bin_streams += 1;
        }
    }

    /// Lets go of bytes that were taken; only between records.
    pub(crate) fn tidy(&mut self) {
        if self.used == self.buffer.len() {
            self.buffer.clear();
            if self.buffer.capacity() > KEPT_LEN {
                self.buffer = Vec::new();
            }
        } else {
            self.buffer.drain(..self.used);
        }
        self.used = 0;
    }

    pub(crate) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes in-order data; frames are cut out of the segment itself when no beginning of one waits.
    #[inline]
    fn deliver(&mut self, data: Data<'_>, options: &Options, out: &mut Outbox) {
        let base = self.next;
        self.next += data.bytes.len() as u64;
        self.next_seq = self.next_seq.wrapping_add(wrapped(data.bytes.len() as u64));
        let in_place = self.used == self.buffer.len() && data.home != self.home;
        if self.framing.given_up() {
            // Not BIN: its bytes are not kept.
        } else if in_place {
            let used = self.cut(data.bytes, data.home, data.at, base, options, out);
            self.buffer.extend_from_slice(&data.bytes[used..]);
        } else {
            self.buffer.extend_from_slice(data.bytes);
            let buffer = core::mem::take(&mut self.buffer);
            let from = self.used;
            let base = self.next - (buffer.len() - from) as u64;
            self.used += self.cut(&buffer[from..], self.home, from, base, options, out);
            self.buffer = buffer;
        }
        if data.missing > 0 {
            self.gap(data.missing as u64, Cause::SnapLength, out);
        }
    }

    /// Cuts frames out of `bytes`, which lie at `at` of `home` and at `base` of the stream.
    #[inline]
    fn cut(
        &mut self,
        bytes: &[u8],
        home: Home,
        at: usize,
        base: u64,
        options: &Options,
        out: &mut Outbox,
    ) -> usize {
        let (src, dst) = self.direction;
        let place = |offset: usize| Place::Stream {
            src,
            dst,
            offset: base + offset as u64,
        };
        self.framing.cut(bytes, options, |cut| match cut {
            Cut::Frame(range, generation) => out.frame(Found {
                home,
                range: at + range.start..at + range.end,
                src,
                dst,
                transport: Transport::Tcp,
                generation,
            }),
            Cut::Skipped { at, skipped } => {
                let Skipped { bytes, markers } = skipped;
                out.totals.skipped_bytes += bytes;
                out.problem(place(at), ProblemKind::Skipped { bytes, markers });
            }
            Cut::Broken { at, error } => out.problem(place(at), ProblemKind::BrokenFrame(error)),
        })
    }

    /// Keeps a segment that came before its predecessor.
    fn hold(&mut self, offset: u64, data: &Data<'_>, time: Timestamp) {
        // What is not looked at need not be kept; the place in the stream still matters.
        let bytes = if self.framing.given_up() {
            &[]
        } else {
            data.bytes
        };
        let missing = data.missing + data.bytes.len() - bytes.len();
        let at = self.held.partition_point(|held| held.offset < offset);
        let len = bytes.len() + missing;
        if self
            .held
            .get(at)
            .is_some_and(|held| held.offset == offset && held.len() >= len)
        {
            return;
        }
        self.held_bytes += bytes.len();
        let held = Held {
            offset,
            bytes: bytes.into(),
            missing,
            acked: (offset <= self.acked).then(|| self.now(time)),
        };
        self.held.insert(at, held);
    }

    /// Delivers what is held and now in order; gives up holes for which there is reason.
    fn release(&mut self, options: &Options, out: &mut Outbox) {
        while let Some(first) = self.held.front() {
            if first.offset > self.next {
                let limits = &options.limits;
                let full =
                    self.held_bytes > limits.held_bytes || self.held.len() > limits.held_segments;
                let late = first
                    .acked
                    .is_some_and(|since| self.is_late(since, out.time));
                if !(full || late) {
                    return;
                }
                let cause = first.acked.map_or(Cause::Limit, |_| Cause::Acknowledged);
                self.gap(first.offset - self.next, cause, out);
                continue;
            }
            let held = self.held.pop_front().expect("it was just there");
            self.held_bytes -= held.bytes.len();
            let old = self.next - held.offset;
            if old >= held.len() as u64 {
                out.totals.retransmitted += 1;
                continue;
            }
            let mut data = Data {
                seq: self.next_seq,
                bytes: &held.bytes,
                missing: held.missing,
                home: self.home,
                at: 0,
            };
            data.trim(usize::try_from(old).unwrap_or(usize::MAX));
            self.deliver(data, options, out);
        }
        if self.fin.is_some_and(|fin| self.next >= fin) {
            self.fin = None;
            self.end(Cause::Closed, options, out);
        }
    }

    /// Goes on behind `bytes` that will not come; the frame they belong to is dropped.
    fn gap(&mut self, bytes: u64, cause: Cause, out: &mut Outbox) {
        let offset = self.next;
        let dropped = self.drop_partial();
        self.next += bytes;
        self.next_seq = self.next_seq.wrapping_add(wrapped(bytes));
        if self.framing.is_bin() {
            out.totals.gaps += 1;
            out.totals.lost_bytes += bytes + dropped as u64;
            let kind = ProblemKind::Gap {
                bytes,
                dropped,
                cause,
            };
            out.problem(self.place(offset), kind);
        }
    }

    /// Begins anew at `seq` in the middle of the stream.
    fn jump(&mut self, seq: u32, options: &Options, out: &mut Outbox) {
        self.end(Cause::Closed, options, out);
        if self.framing.is_bin() {
            out.problem(self.place(self.next), ProblemKind::Jump);
        }
        self.origin = seq;
        self.next_seq = seq;
        self.next = 0;
        self.acked = 0;
        self.fin = None;
    }

    fn now(&self, time: Timestamp) -> Moment {
        let segments = self.segments;
        Moment { segments, time }
    }

    /// Whether bytes acknowledged at `since` would have come by now, if the capture had them.
    fn is_late(&self, since: Moment, now: Timestamp) -> bool {
        self.segments - since.segments > LATE_SEGMENTS || now.since(since.time) > LATE_TIME
    }

    /// Drops the beginning of a frame; returns its length. Bytes of frames in the outbox stay.
    fn drop_partial(&mut self) -> usize {
        let dropped = self.buffer.len() - self.used;
        self.used = self.buffer.len();
        dropped
    }

    fn place(&self, offset: u64) -> Place {
        let (src, dst) = self.direction;
        Place::Stream { src, dst, offset }
    }
}

impl Held {
    fn len(&self) -> usize {
        self.bytes.len() + self.missing
    }
}

impl Data<'_> {
    /// Drops the first `len` bytes, captured or not.
    fn trim(&mut self, len: usize) {
        let there = len.min(self.bytes.len());
        self.bytes = &self.bytes[there..];
        self.at += there;
        self.missing -= (len - there).min(self.missing);
    }
}

/// A distance in the stream as one of sequence numbers, which wrap.
#[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
const fn wrapped(bytes: u64) -> u32 {
    bytes as u32
}

/// A distance that no hole reaches: what is further away belongs to another connection, in bytes.
const MAX_JUMP: u64 = 1 << 26;

/// How long after its acknowledgement a segment may stand in the capture: segments of the connection in between
/// (a receive queue is emptied 64 packets at a time while another one waits), and time.
const LATE_SEGMENTS: u64 = 64;
const LATE_TIME: Duration = Duration::from_millis(20);

/// Buffer that an idle stream keeps, in bytes.
const KEPT_LEN: usize = 4096;
