//! The portable backend: `recv(2)` into frames, and at most one `epoll_wait(2)` per call for all connections together.
//!
//! ```text
//!                 readable                   full read: there may be more
//!   ┌─────────┐  ─────────▶  ┌───────────┐  ◀───────────────────────────┐
//!   │  epoll  │              │ 5 │ 9 │ 2 │ ─▶ its turn: recv into frames ─┤
//!   └─────────┘              └───────────┘    short read: nothing more   │
//!    idle: no cost              turns         ◀── back to epoll ─────────┘
//! ```
//!
//! A connection that always has bytes stays in the line of turns and is read without being asked about. Each gets one turn
//! of a few frames and then stands behind all others. When all have had their turn, one look at epoll finds who else has
//! something: so the look costs little however many are busy, and nobody waits for longer than one turn of everybody.
//!
//! A turn is a place in the line and no more than that: it may belong to a connection that was paused or closed meanwhile,
//! and is then skipped, or to the next one under its token, and is then one read for nothing.
//!
//! One `recv` per frame, and not one `readv` into several, which would save a system call per 64 KiB: receiving alone costs
//! 10.9, 10.5, 10.1 and 10.6 ns per 200 bytes with 1, 2, 4 and 8 frames per call, this queue 11.2 with turns of 4 (best of 15
//! rounds taken in turns, 8 MiB queued by the other core, thread CPU time of the drain; medians are 13 to 16, and others
//! worked meanwhile; Linux 6.18, 2 virtual cores of a Zen 3 EPYC).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;

use super::{Close, OpenStreams, StreamBatch, StreamQueue, Token};
use crate::slab::Slab;
use crate::sys::epoll::{Interest, Poller, ReadyList};
use crate::tcp::TcpSocket;

/// Receives from many TCP connections.
///
/// An idle connection costs the eight bytes of its place here, its turn's four, and what the kernel has of it. Holds no
/// frames between calls.
pub struct PollStreams {
    poller: Poller,
    ready: ReadyList,
    /// By token.
    places: Vec<Place>,
    /// Connections to read from, each token at most once.
    turns: VecDeque<Token>,
    /// How many of them, from the front, are had before the next look for others.
    round: usize,
    frames_per_read: usize,
    open: usize,
}

/// How to make [`PollStreams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// Connections at once; tokens are below this.
    pub connections_max: usize,
    /// Frames that one connection may fill before it is the next one's turn. With 1, a single busy
    /// connection has a look at epoll between any two frames: 1 to 2 ns of 14 per 200 bytes more than with 4.
    pub frames_per_read: usize,
}

/// Where a connection is kept, or none.
#[derive(Debug)]
struct Place {
    socket: Option<TcpSocket>,
    reading: Reading,
    /// Whether its token stands in the line.
    has_turn: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    On,
    Paused,
    /// Its end or failure has been told.
    Over,
}

/// What a turn came to.
enum Turn {
    /// There may be more: it has another.
    More,
    /// Nothing more for now, or for ever.
    Done,
    /// The slab has no free frame.
    NoFrame,
}

impl OpenStreams for PollStreams {
    /// Works everywhere and needs no privilege; may be used on any thread.
    fn open(connections_max: usize) -> io::Result<Self> {
        Self::with_options(StreamOptions {
            connections_max,
            frames_per_read: FRAMES_PER_READ,
        })
    }
}

impl PollStreams {
    /// As [`open`](OpenStreams::open), with everything to choose.
    ///
    /// # Errors
    /// `InvalidInput` for a zero or for more connections than tokens can name; what epoll_create1(2) said.
    pub fn with_options(options: StreamOptions) -> io::Result<Self> {
        let StreamOptions {
            connections_max,
            frames_per_read,
        } = options;
        if connections_max == 0 || u32::try_from(connections_max).is_err() || frames_per_read == 0 {
            let error = format!("no queue of streams has {options:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        Ok(Self {
            poller: Poller::new()?,
            ready: ReadyList::new(connections_max.min(READY_MAX)),
            places: (0..connections_max).map(|_| Place::EMPTY).collect(),
            turns: VecDeque::with_capacity(connections_max),
            round: 0,
            frames_per_read,
            open: 0,
        })
    }

    /// How many connections there are.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.open
    }

    /// Gives a turn to those that have something to read, behind those that have one, and begins a round of all of them.
    ///
    /// Of more than [`READY_MAX`] the others come with the next look: the kernel tells those first that it told longest ago.
    fn look(&mut self) -> io::Result<()> {
        self.poller.wait(&mut self.ready, Some(Duration::ZERO))?;
        for ready in self.ready.iter() {
            let index = usize::try_from(ready.key).expect("keys are tokens");
            let place = &mut self.places[index];
            if place.reading == Reading::On && !place.has_turn {
                place.has_turn = true;
                let token = u32::try_from(ready.key).expect("keys are tokens");
                // Never grows: there is room for one of each place.
                self.turns.push_back(Token(token));
            }
        }
        self.round = self.turns.len();
        Ok(())
    }

    /// Reads until the connection has no more, its share is used up, or the batch is full.
    fn read(&mut self, token: Token, slab: &mut Slab, batch: &mut StreamBatch) -> Turn {
        let place = &mut self.places[token.0 as usize];
        let (Some(socket), Reading::On) = (&place.socket, place.reading) else {
            return Turn::Done;
        };
        let mut frames = self.frames_per_read.min(batch.room());
        while frames > 0 {
            let Some(frame) = slab.take() else {
                return Turn::NoFrame;
            };
            let bytes = slab.frame_mut(&frame);
            let room = bytes.len();
            let received = socket.recv(bytes);
            let over = match received {
                Ok(len @ 1..) => {
                    batch.push(token, frame, u32::try_from(len).expect("a frame is 64 KiB"));
                    if len < room {
                        // Nothing more is there, or a mark of urgent data, and then epoll says that there is more.
                        return Turn::Done;
                    }
                    frames -= 1;
                    continue;
                }
                Ok(0) => None,
                Err(error) => Some(error),
            };
            slab.release(frame);
            match over.as_ref().map(io::Error::kind) {
                Some(io::ErrorKind::WouldBlock) => return Turn::Done,
                Some(io::ErrorKind::Interrupted) => continue,
                _ => {}
            }
            match over {
                None => batch.push_end(token),
                Some(error) => batch.push_failed(token, error.raw_os_error().unwrap_or(libc::EIO)),
            }
            place.reading = Reading::Over;
            // It would be told as readable for as long as it is open. Cannot fail: it is in the set.
            let _ = self.poller.remove(socket);
            return Turn::Done;
        }
        Turn::More
    }

    fn socket(&self, token: Token) -> io::Result<&TcpSocket> {
        let place = self.places.get(token.0 as usize);
        place
            .and_then(|place| place.socket.as_ref())
            .ok_or_else(|| invalid(format!("no connection has the token {}", token.0)))
    }

    /// Asks something else about an open connection, if that makes a difference to it.
    fn ask(&mut self, token: Token, reading: Reading, interest: Interest) {
        let Some(place) = self.places.get_mut(token.0 as usize) else {
            return;
        };
        if let Some(socket) = &place.socket
            && place.reading != Reading::Over
            && place.reading != reading
        {
            place.reading = reading;
            // Cannot fail: it is in the set, and changing needs no memory.
            let _ = self.poller.modify(socket, token.0.into(), interest);
        }
    }
}

impl StreamQueue for PollStreams {
    type Socket = TcpSocket;

    fn add(&mut self, token: Token, socket: TcpSocket) -> Result<(), (TcpSocket, io::Error)> {
        let max = self.places.len();
        let Some(place) = self.places.get_mut(token.0 as usize) else {
            let error = format!("token {} of a queue of {max} connections", token.0);
            return Err((socket, invalid(error)));
        };
        if place.socket.is_some() {
            let error = format!("token {} has a connection", token.0);
            return Err((socket, invalid(error)));
        }
        if let Err(error) = self.poller.add(&socket, token.0.into(), Interest::READ) {
            return Err((socket, error));
        }
        place.socket = Some(socket);
        place.reading = Reading::On;
        self.open += 1;
        Ok(())
    }

    fn recv(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> io::Result<()> {
        debug_assert!(batch.is_empty(), "hand in a released batch");
        if batch.room() == 0 {
            return Ok(());
        }
        let mut looked = false;
        while batch.room() > 0 {
            if self.round == 0 {
                if looked {
                    break;
                }
                self.look()?;
                looked = true;
            }
            let Some(token) = self.turns.pop_front() else {
                break;
            };
            match self.read(token, slab, batch) {
                Turn::Done => self.places[token.0 as usize].has_turn = false,
                Turn::More => self.turns.push_back(token),
                Turn::NoFrame => {
                    self.turns.push_front(token);
                    if batch.is_empty() {
                        let error = "the slab has no free frame";
                        return Err(io::Error::new(io::ErrorKind::OutOfMemory, error));
                    }
                    break;
                }
            }
            self.round -= 1;
        }
        Ok(())
    }

    fn pause(&mut self, token: Token) {
        self.ask(token, Reading::Paused, Interest::NONE);
    }

    fn resume(&mut self, token: Token) {
        self.ask(token, Reading::On, Interest::READ);
    }

    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        self.socket(token)?.send_vectored(&[IoSlice::new(bytes)])
    }

    fn queued_bytes(&self, token: Token) -> io::Result<u64> {
        self.socket(token)?.queued_bytes()
    }

    fn close(&mut self, token: Token, how: Close) {
        let Some(place) = self.places.get_mut(token.0 as usize) else {
            return;
        };
        let Some(socket) = place.socket.take() else {
            return;
        };
        self.open -= 1;
        // Before it is closed: whoever else holds the descriptor would keep it in the set. It is not there after its end.
        let _ = self.poller.remove(&socket);
        match how {
            Close::Orderly => socket.part(),
            Close::Reset => socket.reset(),
        }
    }

    /// Nothing to give back.
    fn disarm(&mut self, _slab: &mut Slab) {}

    fn as_raw_fd(&self) -> Option<RawFd> {
        Some(self.poller.as_raw_fd())
    }

    /// Whether somebody has a turn.
    fn is_ready(&mut self) -> bool {
        while let Some(&token) = self.turns.front() {
            let place = &mut self.places[token.0 as usize];
            if place.socket.is_some() && place.reading == Reading::On {
                return true;
            }
            place.has_turn = false;
            self.turns.pop_front();
            self.round = self.round.saturating_sub(1);
        }
        false
    }
}

impl Place {
    const EMPTY: Self = Self {
        socket: None,
        reading: Reading::Over,
        has_turn: false,
    };
}

impl Drop for PollStreams {
    /// Ends the connections that are left in order.
    fn drop(&mut self) {
        let sockets = self.places.iter().filter_map(|place| place.socket.as_ref());
        sockets.for_each(TcpSocket::part);
    }
}

impl fmt::Debug for PollStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollStreams")
            .field("connections", &self.open)
            .field("connections_max", &self.places.len())
            .field("turns", &self.turns.len())
            .finish_non_exhaustive()
    }
}

fn invalid(error: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// Connections that one look finds to be readable.
const READY_MAX: usize = 256;

/// Frames of one connection's turn: 256 KiB, half of a core's second-level cache here.
const FRAMES_PER_READ: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::What;
    use super::*;
    use crate::rx::stream::conformance::conformance;
    use crate::sys::poll;
    use crate::tcp::tests::pair;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::Instant;

    conformance!(PollStreams);

    /// Frames of 16 bytes, so that few bytes are many frames.
    struct Reader {
        queue: PollStreams,
        slab: Slab,
        batch: StreamBatch,
    }

    impl Reader {
        fn new(frames_per_read: usize, pieces: usize) -> Self {
            let options = StreamOptions {
                connections_max: 4,
                frames_per_read,
            };
            Self {
                queue: PollStreams::with_options(options).unwrap(),
                slab: Slab::with_frame_len(8, 16).unwrap(),
                batch: StreamBatch::new(pieces),
            }
        }

        fn add(&mut self, token: u32) -> TcpStream {
            let (peer, socket) = pair();
            self.queue.add(Token(token), socket).unwrap();
            peer
        }

        /// One receive: whose piece, and how many bytes of what; `None` for an end.
        fn recv(&mut self) -> Vec<(u32, Option<usize>)> {
            self.queue.recv(&mut self.slab, &mut self.batch).unwrap();
            let pieces = self.batch.arrivals(&self.slab);
            let pieces = pieces.map(|arrival| match arrival.what {
                What::Bytes(bytes) => (arrival.token.0, Some(bytes.len())),
                What::End | What::Failed(_) => (arrival.token.0, None),
            });
            let pieces = pieces.collect();
            self.batch.release(&mut self.slab);
            assert_eq!(self.slab.free(), 8, "frames are not held between calls");
            pieces
        }

        /// Sleeps on the queue's descriptor; whether it was woken.
        fn is_woken(&self, timeout: Duration) -> bool {
            let start = Instant::now();
            poll::readable(self.queue.as_raw_fd(), timeout).unwrap();
            start.elapsed() < timeout
        }

        fn arrived(&self, token: u32, bytes: u64) {
            let deadline = Instant::now() + FOREVER;
            while self.queue.queued_bytes(Token(token)).unwrap() < bytes {
                assert!(Instant::now() < deadline, "{bytes} bytes never came");
                std::thread::yield_now();
            }
        }
    }

    /// Far longer than a test takes.
    const FOREVER: Duration = Duration::from_secs(20);
    const SOON: Duration = Duration::from_millis(5);

    #[test]
    fn a_turn_is_a_few_frames_and_then_it_is_the_others() {
        let mut reader = Reader::new(2, 5);
        let mut peers = [reader.add(0), reader.add(1), reader.add(2)];
        for (token, len) in [(0, 100), (1, 100), (2, 20)] {
            peers[token as usize].write_all(&vec![7; len]).unwrap();
            reader.arrived(token, len as u64);
        }
        let full = |token| (token, Some(16));
        let both = [full(0), full(0), full(1), full(1)];
        // The third connection, which has little, comes to its turn although the two others could fill every batch.
        assert_eq!(reader.recv(), [&both[..], &[full(2)]].concat());
        assert_eq!(reader.recv(), [&both[..], &[(2, Some(4))]].concat());
        assert_eq!(reader.recv(), both);
        assert!(reader.queue.is_ready());
        assert_eq!(reader.recv(), [0, 1].map(|token| (token, Some(4))));
        assert!(!reader.queue.is_ready());
    }

    #[test]
    fn who_finds_no_room_in_a_batch_comes_first_in_the_next() {
        let mut reader = Reader::new(1, 1);
        let mut peers = [reader.add(0), reader.add(1), reader.add(2), reader.add(3)];
        for (token, peer) in (0..).zip(&mut peers) {
            peer.write_all(&[7; 80]).unwrap();
            reader.arrived(token, 80);
        }
        let mut taken = Vec::new();
        while reader.queue.is_ready() || taken.is_empty() {
            taken.extend(reader.recv().iter().map(|piece| piece.0));
            // Nobody is ahead of anybody by more than the turn that is under way.
            let of = |token| taken.iter().filter(|&&whose| whose == token).count();
            let most = (0..4).map(of).max().unwrap();
            assert!((0..4).all(|token| of(token) + 2 >= most), "{taken:?}");
        }
        assert_eq!(taken.len(), 20);
    }

    #[test]
    fn who_has_a_turn_must_not_sleep_and_who_has_none_is_woken() {
        let mut reader = Reader::new(1, 4);
        let mut peer = reader.add(3);
        assert!(!reader.queue.is_ready() && !reader.is_woken(SOON));
        peer.write_all(&[1; 20]).unwrap();
        reader.arrived(3, 20);
        assert!(reader.is_woken(FOREVER));
        assert_eq!(reader.recv(), [(3, Some(16))]);
        assert!(reader.queue.is_ready(), "a full read has another turn");
        assert_eq!(reader.recv(), [(3, Some(4))]);
        assert!(!reader.queue.is_ready(), "a short read has none");
        assert_eq!(reader.recv(), []);
        assert!(!reader.is_woken(SOON));
    }

    #[test]
    fn an_end_is_told_once_and_does_not_keep_from_sleep() {
        let mut reader = Reader::new(2, 4);
        let mut peer = reader.add(0);
        peer.write_all(&[1; 16]).unwrap();
        drop(peer);
        let mut pieces = Vec::new();
        while pieces.last() != Some(&(0, None)) {
            assert!(reader.queue.is_ready() || reader.is_woken(FOREVER));
            pieces.extend(reader.recv());
        }
        assert_eq!(pieces, [(0, Some(16)), (0, None)]);
        assert_eq!(reader.recv(), []);
        assert!(!reader.queue.is_ready() && !reader.is_woken(SOON));
        // Nothing of it comes back.
        reader.queue.pause(Token(0));
        reader.queue.resume(Token(0));
        assert_eq!(reader.recv(), []);
        reader.queue.close(Token(0), Close::Orderly);
        assert_eq!(reader.queue.connections(), 0);
    }

    #[test]
    fn a_turn_of_who_was_paused_or_closed_is_skipped() {
        let mut reader = Reader::new(1, 4);
        let mut peers = [reader.add(0), reader.add(1)];
        for (token, peer) in (0..).zip(&mut peers) {
            peer.write_all(&[1; 40]).unwrap();
            reader.arrived(token, 40);
        }
        assert_eq!(reader.recv().len(), 2);
        reader.queue.pause(Token(0));
        reader.queue.close(Token(1), Close::Reset);
        assert!(!reader.queue.is_ready(), "neither of them is read");
        assert_eq!(reader.recv(), []);
        assert!(!reader.is_woken(SOON), "bytes that are held up wake nobody");
        assert_eq!(reader.queue.queued_bytes(Token(0)).unwrap(), 24);
        reader.queue.resume(Token(0));
        assert!(reader.is_woken(FOREVER));
        assert_eq!(reader.recv(), [(0, Some(16))]);
        assert_eq!(reader.recv(), [(0, Some(8))]);
    }

    #[test]
    fn a_turn_left_over_is_one_look_at_who_comes_under_its_token() {
        let mut reader = Reader::new(1, 4);
        let mut before = reader.add(0);
        before.write_all(&[1; 40]).unwrap();
        reader.arrived(0, 40);
        assert_eq!(reader.recv(), [(0, Some(16))]);
        reader.queue.close(Token(0), Close::Reset);
        let mut after = reader.add(0);
        assert_eq!(reader.recv(), []);
        assert!(!reader.queue.is_ready());
        after.write_all(&[2; 3]).unwrap();
        assert!(reader.is_woken(FOREVER));
        assert_eq!(reader.recv(), [(0, Some(3))]);
    }

    #[test]
    fn a_broken_connection_that_is_paused_keeps_nobody_awake() {
        let mut reader = Reader::new(1, 4);
        let peer = reader.add(0);
        reader.queue.pause(Token(0));
        TcpSocket::from_stream(peer).unwrap().reset();
        // It may be told once.
        reader.is_woken(SOON);
        assert_eq!(reader.recv(), []);
        assert!(!reader.queue.is_ready() && !reader.is_woken(SOON));
        reader.queue.resume(Token(0));
        assert!(reader.is_woken(FOREVER));
        assert_eq!(reader.recv(), [(0, None)]);
    }

    #[test]
    fn without_a_frame_nothing_is_lost() {
        let mut reader = Reader::new(2, 4);
        let mut peer = reader.add(0);
        peer.write_all(&[1; 20]).unwrap();
        reader.arrived(0, 20);
        let held: Vec<_> = std::iter::from_fn(|| reader.slab.take()).collect();
        let Reader { queue, slab, batch } = &mut reader;
        let error = queue.recv(slab, batch).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(queue.is_ready());
        let mut held = held.into_iter();
        slab.release(held.next().unwrap());
        queue.recv(slab, batch).unwrap();
        assert_eq!((batch.len(), batch.bytes()), (1, 16));
        batch.release(slab);
        held.for_each(|frame| slab.release(frame));
        assert_eq!(reader.recv(), [(0, Some(4))]);
    }

    #[test]
    fn tokens_out_of_range_and_tokens_in_use_are_refused_with_the_connection_back() {
        let mut reader = Reader::new(1, 4);
        let mut peer = reader.add(3);
        for token in [3, 4, u32::MAX] {
            let (mut other, socket) = pair();
            let (socket, error) = reader.queue.add(Token(token), socket).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&token.to_string()), "{error}");
            assert_eq!(socket.send_vectored(&[IoSlice::new(b"alive")]).unwrap(), 5);
            other.read_exact(&mut [0; 5]).unwrap();
        }
        assert_eq!(reader.queue.connections(), 1);
        for token in [Token(0), Token(4)] {
            assert!(reader.queue.write(token, b"nobody").is_err());
            assert!(reader.queue.queued_bytes(token).is_err());
            reader.queue.pause(token);
            reader.queue.resume(token);
            reader.queue.close(token, Close::Reset);
        }
        assert_eq!(reader.queue.write(Token(3), b"hello").unwrap(), 5);
        peer.read_exact(&mut [0; 5]).unwrap();
    }

    #[test]
    fn an_orderly_close_is_one_though_bytes_were_not_read() {
        let mut reader = Reader::new(1, 4);
        let mut peer = reader.add(0);
        peer.write_all(&[1; 100]).unwrap();
        reader.arrived(0, 100);
        assert_eq!(reader.queue.write(Token(0), b"last").unwrap(), 4);
        reader.queue.close(Token(0), Close::Orderly);
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"last");
    }

    #[test]
    fn options_of_nothing_are_refused_and_places_are_small() {
        for (connections_max, frames_per_read) in [(0, 1), (1, 0), (usize::MAX, 1)] {
            let options = StreamOptions {
                connections_max,
                frames_per_read,
            };
            let error = PollStreams::with_options(options).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(size_of::<Place>(), 8, "bytes for an idle connection");
    }
}
