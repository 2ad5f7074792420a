//! One connection: what it sent so far, what is begun, what waits, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use binrush_net::{Close, Tx};

use super::answers::{Answers, Posted};
use super::incoming::NewConnection;
use super::spill::Spill;
use crate::clock::Timestamp;
use crate::dispatch::handler::{Ends, Origin};
use crate::shard::desk::ListenerId;
use crate::shard::floor::{Floor, Line, Way};
use crate::stream::{
    CloseReason, ConnectionCounts, Cut, Framer, PeerTable, StreamCounts, StreamLimits,
};
use crate::telemetry::streams::{PeerRow, StreamWriter};
use crate::tls::Session;

/// A connection of this shard, from the acceptor's hand to the last packet that waited.
pub(in crate::shard) struct Connection {
    /// Never used twice by an engine.
    number: u64,
    peer: SocketAddr,
    listener: ListenerId,
    origin: Origin,
    tls: Option<Box<Session>>,
    framer: Framer,
    spill: Spill,
    answers: Answers,
    /// When the packet that is held was begun.
    begun: Option<Timestamp>,
    /// When something came last.
    last: Timestamp,
    paused: bool,
    /// Why it is to go once what had come was read, and how much of that is left.
    dismissed: Option<(CloseReason, u64)>,
    state: State,
    /// The counts of this connection, and what of them is not in the book yet.
    counts: StreamCounts,
    news: StreamCounts,
    row: PeerRow,
    /// Gives its place back when it goes.
    seat: Option<Box<dyn Send>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its end was said and nobody has looked yet.
    Ending(CloseReason),
    /// Its end was said and is on its way.
    Ended(CloseReason),
    /// The socket is gone.
    Closed,
}

impl Connection {
    /// What the acceptor handed over, without its socket and what came with it.
    pub(super) fn new<K>(
        number: u64,
        now: Timestamp,
        new: NewConnection<K>,
        peers: &PeerTable,
        limits: &StreamLimits,
    ) -> (Box<Self>, K, Vec<u8>) {
        let settings = peers.of(new.peer.ip());
        let connection = Self {
            number,
            peer: new.peer,
            listener: ListenerId(new.listener),
            origin: Origin::Stream {
                ends: Ends::new(new.peer, new.local),
                generation: settings.generation,
                release: settings.release,
            },
            tls: new.tls,
            framer: Framer::new(settings.generation, settings.frame_len_max(), limits.pieces),
            spill: Spill::default(),
            answers: Answers::default(),
            begun: None,
            last: now,
            paused: false,
            dismissed: None,
            state: State::Open,
            counts: StreamCounts::default(),
            news: StreamCounts {
                opened: 1,
                open: 1,
                ..StreamCounts::default()
            },
            row: PeerRow::Others,
            seat: new.seat,
        };
        (Box::new(connection), new.socket, new.early)
    }

    /// Finds the row of its address.
    pub(super) fn open_in(&mut self, book: &mut StreamWriter) {
        self.row = book.row(self.peer.ip().to_canonical());
    }

    /// Takes the next bytes of the connection; how many packets were settled here, and how many bytes came, inside TLS
    /// where there is any.
    #[inline]
    pub(super) fn take_in<T: Tx>(
        &mut self,
        now: Timestamp,
        bytes: &[u8],
        floor: &mut Floor<T>,
    ) -> (usize, usize) {
        if let Some((_, left)) = &mut self.dismissed {
            *left = left.saturating_sub(bytes.len() as u64);
        }
        if self.tls.is_some() {
            return self.decrypt(now, bytes, floor);
        }
        self.last = now;
        (self.feed(now, bytes, floor), bytes.len())
    }

    /// Takes what came behind the handshake.
    pub(super) fn take_early<T: Tx>(&mut self, now: Timestamp, bytes: &[u8], floor: &mut Floor<T>) {
        if !bytes.is_empty() {
            self.feed(now, bytes, floor);
        }
    }

    #[cold]
    fn decrypt<T: Tx>(
        &mut self,
        now: Timestamp,
        bytes: &[u8],
        floor: &mut Floor<T>,
    ) -> (usize, usize) {
        let Some(mut tls) = self.tls.take() else {
            return (0, 0);
        };
        let (mut kept, mut len) = (0, 0);
        let received = tls.receive(bytes, |plain| {
            // Ciphertext alone is no sign of life: a record may be dribbled for ever.
            self.last = now;
            len += plain.len();
            kept += self.feed(now, plain, floor);
        });
        self.tls = Some(tls);
        match received {
            Ok(received) if received.closed => self.end(self.reason_of_end()),
            Ok(_) => {}
            Err(_) => self.end(CloseReason::Tls),
        }
        (kept, len)
    }

    /// Cuts packets out of bytes and brings each on its way; how many were settled here.
    #[inline]
    fn feed<T: Tx>(&mut self, now: Timestamp, bytes: &[u8], floor: &mut Floor<T>) -> usize {
        let Self {
            number,
            origin,
            framer,
            spill,
            answers,
            news,
            ..
        } = self;
        let (mut kept, mut cut) = (0, Cut::default());
        let (held, number) = (framer.held(), *number);
        let fed = framer.feed(bytes, &mut cut, |packet| {
            let line = Line { number, answers };
            match floor.stream_packet(now, origin, packet, line, |owner| spill.holds_for(owner)) {
                Way::Settled => {
                    kept += 1;
                    if floor.has_made() {
                        hand_on(now, origin, spill, news, floor);
                    }
                }
                Way::Mailed => {}
                Way::Full(owner) => {
                    spill.push(owner, now, packet);
                    news.spilled += 1;
                }
            }
        });
        news.rx_bytes += cut.rx_bytes;
        news.frames += cut.frames;
        news.frame_bytes += cut.frame_bytes;
        news.skipped_bytes += cut.skipped_bytes;
        news.rejected_bytes += cut.rejected_bytes;
        let holds = framer.held();
        news.held_bytes = news
            .held_bytes
            .wrapping_add(holds as u64)
            .wrapping_sub(held as u64);
        if holds == 0 {
            self.begun = None;
        } else if cut.frames > 0 || self.begun.is_none() {
            self.begun = Some(now);
        }
        if let Err(broken) = fed {
            self.end(broken.reason);
        }
        kept
    }

    /// Writes what handlers and TLS have to say, through `write`; what is not taken now waits for the next time. What
    /// became of answers.
    #[inline]
    pub(super) fn answer(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> Posted {
        let tls = self.tls.as_deref_mut();
        if self.answers.is_idle() && !tls.is_some_and(|tls| tls.wants_write()) {
            return Posted::default();
        }
        self.write_out(write)
    }

    #[cold]
    fn write_out(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> Posted {
        self.answers.write_out(self.tls.as_deref_mut(), write);
        self.answers.take_news()
    }

    /// Says that no more will be written, where the protocol has a word for it.
    pub(super) fn say_goodbye(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
        if !self.answers.is_idle() {
            self.answers.write_out(self.tls.as_deref_mut(), &mut write);
        }
        if let Some(tls) = &mut self.tls {
            tls.close();
            transmit(tls, write);
        }
    }

    /// The connection ends for `reason`, unless it does already.
    pub(super) fn end(&mut self, reason: CloseReason) {
        if self.state == State::Open {
            self.state = State::Ending(reason);
        }
    }

    /// Whether its end was said since this was asked last.
    #[inline]
    pub(super) fn just_ended(&mut self) -> bool {
        let State::Ending(reason) = self.state else {
            return false;
        };
        self.state = State::Ended(reason);
        true
    }

    /// What the end of its stream says of it.
    pub(super) fn reason_of_end(&self) -> CloseReason {
        match self.framer.held() {
            0 => CloseReason::Peer,
            _ => CloseReason::HalfFrame,
        }
    }

    /// Whether its time is over, and why; one that is quiet gives its memory back.
    pub(super) fn look_at_the_clock(
        &mut self,
        now: Timestamp,
        limits: &StreamLimits,
    ) -> Option<CloseReason> {
        let is_over = |since: Timestamp, limit: Duration| {
            u128::from(now.nanos_since(since)) > limit.as_nanos()
        };
        if self.paused || self.state != State::Open {
            // It is we who keep it waiting.
            return None;
        }
        let mut begun = self.begun.iter();
        if begun.any(|begun| is_over(*begun, limits.frame_deadline)) {
            return Some(CloseReason::FrameDeadline);
        }
        if is_over(self.last, limits.idle) {
            return Some(CloseReason::Idle);
        }
        if is_over(self.last, QUIET) {
            self.framer.shrink();
            self.spill.shrink();
        }
        None
    }

    /// It is to go for `reason` once `queued` bytes were read, and what follows on their heels.
    pub(super) fn dismiss(&mut self, reason: CloseReason, queued: u64) {
        self.dismissed = Some((reason, queued.saturating_mul(2)));
    }

    /// Whether it is to go, and not all of what had come was read.
    pub(super) fn is_to_be_read(&self) -> bool {
        self.state == State::Open && self.dismissed.is_some_and(|(_, left)| left > 0)
    }

    /// Says its end, if it was to go; whether it was.
    pub(super) fn end_dismissed(&mut self) -> bool {
        let Some((reason, _)) = self.dismissed else {
            return false;
        };
        self.end(reason);
        true
    }

    /// Takes over what waits of an earlier connection of this peer, in front of all that will.
    pub(super) fn inherit(&mut self, orphan: &mut Self) {
        self.spill.put_in_front(&mut orphan.spill);
    }

    /// Settles the books of a connection whose end was said, and lets go of what it had; how its socket goes.
    /// `unread` bytes are still with the kernel.
    pub(super) fn close(&mut self, unread: u64, book: &mut StreamWriter) -> Close {
        let (State::Ending(reason) | State::Ended(reason)) = self.state else {
            unreachable!("closed once, after its end was said");
        };
        self.state = State::Closed;
        let held = self.framer.held() as u64;
        self.news.partial_bytes += held;
        self.news.unread_bytes += unread;
        self.news.held_bytes = self.news.held_bytes.wrapping_sub(held);
        self.news.open = self.news.open.wrapping_sub(1);
        self.news.closed[reason as usize] += 1;
        self.report(book);
        book.tell_closed(self.told(Some(reason), book.shard()));
        self.framer.forget();
        (self.tls, self.begun) = (None, None);
        if !self.is_spilling() {
            // What waits still takes the place of a connection, so that nobody gets more of them by connecting anew.
            self.seat = None;
        }
        match reason {
            CloseReason::Peer
            | CloseReason::HalfFrame
            | CloseReason::NotAllowed
            | CloseReason::ListenerClosed
            | CloseReason::Stopping => Close::Orderly,
            _ => Close::Reset,
        }
    }

    /// Counts what its peer has not taken of answers as lost; what became of those since the last time.
    pub(super) fn give_up_answers(&mut self) -> Posted {
        self.answers.give_up();
        self.answers.take_news()
    }

    /// Posts what waits, as far as there is room; whether any could be.
    pub(super) fn drain_spill<T: Tx>(&mut self, floor: &mut Floor<T>) -> bool {
        let origin = &self.origin;
        let moved = self.spill.drain(DRAIN_MAX, |owner, arrived, packet| {
            floor.post_again(owner, arrived, origin, packet)
        });
        if self.state == State::Closed && !self.is_spilling() {
            self.seat = None;
        }
        moved
    }

    /// Counts what waits as lost: its owners take nothing any more.
    pub(super) fn give_up_spill<T: Tx>(&mut self, floor: &mut Floor<T>) {
        self.spill.drain(usize::MAX, |_, _, packet| {
            floor.lose(packet);
            true
        });
    }

    /// Brings what is new into the book.
    #[inline]
    pub(super) fn report(&mut self, book: &mut StreamWriter) {
        let waits = self.spill.len() as u64;
        let told = self.counts.spilled_bytes;
        self.news.spilled_bytes = waits.wrapping_sub(told);
        book.add(self.row, &self.news);
        self.counts.add(&self.news);
        self.news = StreamCounts::default();
    }

    /// Whether it has to pause, because it holds more than `limit` bytes, or anything while `is_full` says that all
    /// together hold too much; said once.
    #[inline]
    pub(super) fn wants_pause(&mut self, limit: usize, is_full: bool) -> bool {
        let holds_too_much = self.spill.len() + self.framer.held() > limit || is_full;
        let wants =
            self.is_spilling() && holds_too_much && !self.paused && self.state == State::Open;
        if wants {
            self.paused = true;
            self.news.pauses += 1;
        }
        wants
    }

    /// Whether it was paused and holds little enough to go on; said once. What it owes is due from `now` on.
    pub(super) fn may_resume(&mut self, now: Timestamp, limit: usize, is_full: bool) -> bool {
        let holds_little = self.spill.is_empty() || (self.spill.len() <= limit / 2 && !is_full);
        let may = self.paused && holds_little && self.state == State::Open;
        if may {
            self.paused = false;
            self.last = now;
            self.begun = self.begun.map(|_| now);
        }
        may
    }

    /// As it is told.
    pub(super) fn told(&self, closed: Option<CloseReason>, shard: u16) -> ConnectionCounts {
        ConnectionCounts {
            peer: self.peer,
            shard,
            tls: self.tls.is_some(),
            closed,
            counts: self.counts,
        }
    }

    /// Whether packets of it wait for another shard.
    #[inline]
    pub(super) fn is_spilling(&self) -> bool {
        !self.spill.is_empty()
    }

    /// Whether its socket is there.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Bytes of memory that it has for what it holds.
    #[inline]
    pub(super) fn memory(&self) -> usize {
        self.framer.memory() + self.spill.memory()
    }

    pub(in crate::shard) const fn listener(&self) -> ListenerId {
        self.listener
    }

    pub(in crate::shard) const fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// Brings what the handler of the last packet made to its owners, behind what waits for them already.
#[cold]
fn hand_on<T: Tx>(
    now: Timestamp,
    origin: &Origin,
    spill: &mut Spill,
    news: &mut StreamCounts,
    floor: &mut Floor<T>,
) {
    let made = floor.take_made();
    for (owner, packet) in made.packets() {
        let waits_for = |owner| spill.holds_for(owner);
        if let Way::Full(owner) = floor.made_packet(now, origin, owner, packet, waits_for) {
            spill.push(owner, now, packet);
            news.spilled += 1;
        }
    }
    floor.put_back(made);
}

/// Writes what a session has ready, until it is out or nothing more is taken.
pub(super) fn transmit(tls: &mut Session, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
    // A failure shows in the next receive, with its reason.
    let _ = tls.transmit(
        |slices| match slices.iter().find(|slice| !slice.is_empty()) {
            Some(slice) => write(slice),
            None => Ok(0),
        },
    );
}

/// Packets of one connection that one round hands to one owner, so that others have their turn.
const DRAIN_MAX: usize = 64;

/// After so much silence a connection gives its memory back.
const QUIET: Duration = Duration::from_secs(1);
