//! What every backend has to do, written once. `conformance!(Backend)` makes a test of each for one of them.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Close, OpenStreams, StreamBatch, StreamQueue, Token, What};
use crate::loopback;
use crate::slab::Slab;
use crate::sys::poll;
use crate::tcp::{TcpListener, TcpOptions, TcpSocket};

/// Connections that come, are refused, end, break and are closed.
mod ends;
/// Bytes on their way: order, fairness, pauses, frames, waiting.
mod flow;

pub(crate) use ends::*;
pub(crate) use flow::*;

/// One `#[test]` per behaviour, for one backend.
macro_rules! conformance {
    ($backend:ty) => {
        $crate::rx::stream::conformance::conformance!($backend:
            the_bytes_of_many_connections_come_in_order
            a_long_stream_comes_whole_through_few_frames
            a_flooding_connection_does_not_keep_others_from_their_turn
            a_connection_full_of_bytes_leaves_frames_for_others
            many_floods_share_the_frames
            the_end_comes_after_the_bytes_once_and_writing_goes_on
            a_reset_is_told_once_by_its_errno
            a_paused_connection_holds_its_sender_up_and_loses_nothing
            a_paused_connection_that_breaks_wakes_nobody_for_ever
            pausing_and_resuming_between_receives_loses_nothing
            nothing_of_a_closed_connection_comes_under_its_token_again
            what_is_closed_in_order_ends_with_a_fin_at_once
            what_is_reset_ends_with_an_rst_at_once
            closing_what_still_sends_lets_the_others_go_on
            every_frame_comes_back_and_a_disarmed_queue_receives_again
            thousands_of_idle_connections_are_in_nobodys_way
            what_is_too_much_is_refused_and_given_back
            a_full_socket_takes_no_more_and_does_not_block
            a_token_without_a_connection_is_an_error_or_nothing
            queued_bytes_are_those_that_did_not_come_yet
            a_receive_never_waits_and_a_wait_ends_when_something_comes
            the_descriptor_is_quiet_when_the_last_connection_is_gone
            a_slab_without_a_free_frame_is_an_error_and_heals
            a_queue_that_is_dropped_ends_its_connections
        );
    };
    ($backend:ty: $($behaviour:ident)+) => {
        $(
            #[test]
            fn $behaviour() {
                $crate::rx::stream::conformance::$behaviour::<$backend>();
            }
        )+
    };
}
pub(crate) use conformance;

/// Something that came, as a test keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Bytes(Vec<u8>),
    End,
    Failed(i32),
}

/// A queue with what it receives into, and where its connections come from.
pub(crate) struct Receiver<Q> {
    pub(crate) queue: Q,
    pub(crate) slab: Slab,
    pub(crate) batch: StreamBatch,
    listener: TcpListener,
    to: SocketAddr,
}

impl<Q: OpenStreams> Receiver<Q> {
    /// `None` where the kernel has no such backend, which is said.
    pub(crate) fn new(connections_max: usize, frames: usize, pieces: usize) -> Option<Self> {
        match Q::open(connections_max) {
            Ok(queue) => Some(Self::with(queue, frames, pieces)),
            Err(error) => {
                loopback::skip(&format!("{}: {error}", std::any::type_name::<Q>()));
                None
            }
        }
    }

    pub(crate) fn with(queue: Q, frames: usize, pieces: usize) -> Self {
        let free = "127.0.0.1:0".parse().unwrap();
        let listener = TcpListener::bind(free, &TcpOptions::default()).unwrap();
        Self {
            queue,
            slab: Slab::new(frames).unwrap(),
            batch: StreamBatch::new(pieces),
            to: listener.local_addr().unwrap(),
            listener,
        }
    }

    /// Connections from now on have receive buffers of this size, which hold about half as many bytes.
    fn set_rcvbuf(&mut self, rcvbuf: usize) {
        let options = TcpOptions {
            rcvbuf: Some(rcvbuf),
            ..TcpOptions::default()
        };
        let free = "127.0.0.1:0".parse().unwrap();
        self.listener = TcpListener::bind(free, &options).unwrap();
        self.to = self.listener.local_addr().unwrap();
    }

    /// Both ends of a new connection.
    fn pair(&self) -> (TcpStream, TcpSocket) {
        let peer = TcpStream::connect(self.to).unwrap();
        peer.set_nodelay(true).unwrap();
        let from = peer.local_addr().unwrap();
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < FOREVER, "nobody came in");
            match self.listener.accept().unwrap() {
                Some((socket, addr)) if addr == from => return (peer, socket),
                _ => thread::yield_now(),
            }
        }
    }

    /// The other end of a new connection of the queue.
    pub(crate) fn connect(&mut self, token: u32) -> TcpStream {
        let (peer, socket) = self.pair();
        self.add(token, socket);
        peer
    }

    fn add(&mut self, token: u32, socket: TcpSocket) {
        let added = self.queue.add(Token(token), socket);
        added.map_err(|(_, error)| error).unwrap();
    }

    /// One receive.
    pub(crate) fn receive(&mut self) -> Vec<(u32, Seen)> {
        self.queue.recv(&mut self.slab, &mut self.batch).unwrap();
        let seen = self.batch.arrivals(&self.slab).map(|arrival| {
            let what = match arrival.what {
                What::Bytes(bytes) => Seen::Bytes(bytes.to_vec()),
                What::End => Seen::End,
                What::Failed(errno) => Seen::Failed(errno),
            };
            (arrival.token.0, what)
        });
        let seen = seen.collect();
        self.batch.release(&mut self.slab);
        seen
    }

    /// Receives until all that came is `enough`.
    pub(crate) fn receive_until(
        &mut self,
        mut enough: impl FnMut(&[(u32, Seen)]) -> bool,
    ) -> Vec<(u32, Seen)> {
        let (start, mut all) = (Instant::now(), Vec::new());
        while !enough(&all) {
            let seen = self.receive();
            if seen.is_empty() {
                assert!(start.elapsed() < FOREVER, "{} pieces came", all.len());
                thread::yield_now();
            }
            all.extend(seen);
        }
        all
    }

    /// Receives so many bytes, of all connections together.
    pub(crate) fn receive_bytes(&mut self, count: usize) -> Vec<(u32, Seen)> {
        let mut counted = (0, 0);
        self.receive_until(|all| {
            let new = &all[counted.0..];
            counted = (all.len(), counted.1 + new.iter().map(len).sum::<usize>());
            counted.1 >= count
        })
    }

    /// Receives for a while, and returns what came.
    pub(crate) fn receive_for(&mut self, time: Duration) -> Vec<(u32, Seen)> {
        let start = Instant::now();
        self.receive_until(|_| start.elapsed() >= time)
    }

    /// Whether the queue would let its owner sleep: nothing is ready, and nothing becomes readable for a while.
    fn lets_sleep(&mut self) -> bool {
        !self.queue.is_ready() && !self.readable_within(Duration::from_millis(30))
    }

    fn readable_within(&self, timeout: Duration) -> bool {
        let fd = self.queue.as_raw_fd().expect("a backend of the kernel");
        let start = Instant::now();
        poll::readable([fd], timeout).unwrap();
        start.elapsed() < timeout
    }
}

fn len(seen: &(u32, Seen)) -> usize {
    match &seen.1 {
        Seen::Bytes(bytes) => bytes.len(),
        Seen::End | Seen::Failed(_) => 0,
    }
}

/// What came of one connection: its bytes, and what ended it.
fn of(token: u32, all: &[(u32, Seen)]) -> (Vec<u8>, Vec<Seen>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for (_, seen) in all.iter().filter(|(of, _)| *of == token) {
        match seen {
            Seen::Bytes(piece) => {
                assert!(ends.is_empty(), "bytes after the end");
                assert!(!piece.is_empty(), "a piece of no bytes");
                bytes.extend_from_slice(piece);
            }
            end => ends.push(end.clone()),
        }
    }
    (bytes, ends)
}

/// Bytes in which each place is its own: what is lost, doubled or swapped shows.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // An xorshift generator: any would do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_ne_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Compared without printing megabytes when they differ.
fn assert_same(came: &[u8], sent: &[u8]) {
    let differ = came.iter().zip(sent).position(|(came, sent)| came != sent);
    assert_eq!((came.len(), differ), (sent.len(), None));
}

/// Writes until the kernel takes no more for a while; how much it took. Leaves the stream blocking.
fn fill(peer: &mut TcpStream, bytes: &[u8]) -> usize {
    peer.set_nonblocking(true).unwrap();
    let (mut taken, mut last) = (0, Instant::now());
    while taken < bytes.len() && last.elapsed() < Duration::from_millis(200) {
        match peer.write(&bytes[taken..]) {
            Ok(some) => (taken, last) = (taken + some, Instant::now()),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    peer.set_nonblocking(false).unwrap();
    taken
}

/// Closes `peer` by RST.
fn reset(peer: TcpStream) {
    TcpSocket::from_stream(peer).unwrap().reset();
}

/// What reading `peer` to its end met, waiting for it for a bounded time.
fn read_to_end(peer: &mut TcpStream) -> io::Result<Vec<u8>> {
    peer.set_read_timeout(Some(FOREVER)).unwrap();
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).map(|_| bytes)
}

fn is_end(seen: &(u32, Seen)) -> bool {
    seen.1 == Seen::End
}

/// Writes what is taken at once, if anything is.
fn fill_some(peer: &mut TcpStream, bytes: &[u8]) {
    peer.set_nonblocking(true).unwrap();
    let _ = peer.write(bytes);
    peer.set_nonblocking(false).unwrap();
}

/// Far longer than anything takes: who waits for all of it has missed something.
const FOREVER: Duration = Duration::from_secs(20);

/// In which something comes that is about to.
const SHORT: Duration = Duration::from_millis(20);
