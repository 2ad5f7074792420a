//! Receiving from many connections of one shard.
//!
//! ```text
//!   connections ──▶ StreamQueue::recv ──▶ StreamBatch:  │ 3: 64 KiB │ 3: 900 B │ 8: end │ 5: 200 B │
//!                                                         frame 7     frame 2             frame 9
//! ```
//!
//! A stream has no boundaries, so a descriptor is a piece of one connection's bytes, in a frame of the slab, or the
//! word that there will be no more. Who receives cuts packets out of the pieces where they lie, and gives the frames
//! back with the batch. Opening, refusing and waiting are not here: connections come ready-made, from a thread that
//! accepts, and end when the caller says so.

use std::io;
use std::os::fd::RawFd;

use crate::slab::{FrameId, Slab};
use crate::tcp::TcpSocket;

/// What every backend has to do, as tests.
#[cfg(test)]
pub(crate) mod conformance;

/// One `recv(2)` per frame, told by `epoll(7)` where.
pub mod poll;
/// io_uring: one request per connection that lasts, into one ring of frames.
pub mod uring;

/// Number that the caller gives to a connection of one queue: an index into what it knows of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);

/// The connections of one shard, to receive from.
///
/// Used by one thread at a time, always with the same slab. Level-triggered in what it promises: bytes that are there
/// come with one of the next calls, unless their connection is paused.
///
/// A token that no open connection has is nobody's: [`pause`](Self::pause), [`resume`](Self::resume) and
/// [`close`](Self::close) do nothing then, [`write`](Self::write) and [`queued_bytes`](Self::queued_bytes) are
/// `InvalidInput`. Who acts on what came may find that it closed the connection a moment ago.
pub trait StreamQueue {
    /// An open connection that does not block.
    type Socket;

    /// Receives from `socket` too, under `token`, which no open connection of this queue has.
    ///
    /// # Errors
    /// The connection back, with what the kernel said: it is not received from.
    fn add(&mut self, token: Token, socket: Self::Socket) -> Result<(), (Self::Socket, io::Error)>;

    /// Fills `batch` with what is there, at most the pieces it has room for, each connection's in order. Never waits.
    ///
    /// Fair: a connection that always has bytes does not keep others from their turn, in the same call or the next.
    /// An empty batch means that nothing was there. After [`What::End`] or [`What::Failed`] nothing more comes of that
    /// connection, which stays until [`close`](Self::close). Hand in a released batch.
    ///
    /// # Errors
    /// What concerns the queue as a whole. What is wrong with one connection is [`What::Failed`].
    fn recv(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> io::Result<()>;

    /// Takes nothing more from the kernel for this connection, so that its sender is held up in the end.
    ///
    /// What a backend had taken already still comes: some pieces at most.
    fn pause(&mut self, token: Token);

    /// Receives from a paused connection again.
    fn resume(&mut self, token: Token);

    /// Writes to the connection what its socket buffer takes, at once; how much that was.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now; `InvalidInput` when the token is nobody's; otherwise the connection's
    /// failure.
    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize>;

    /// Bytes that the kernel holds of this connection and [`recv`](Self::recv) has not brought.
    ///
    /// # Errors
    /// `InvalidInput` when the token is nobody's; what asking the kernel met.
    fn queued_bytes(&self, token: Token) -> io::Result<u64>;

    /// Lets the connection go: `token` is free, and nothing comes of it any more, also not what was in the backend.
    ///
    /// The peer sees the end at once. The kernel's memory of it may stay until the next [`recv`](Self::recv).
    fn close(&mut self, token: Token, how: Close);

    /// Gives back the frames that the queue holds between calls; for one that is about to go while its slab stays.
    fn disarm(&mut self, slab: &mut Slab);

    /// What becomes readable when something is there to receive; `None` when there is no such thing, in a simulation.
    ///
    /// Counts only straight after an [`is_ready`](Self::is_ready) that said no: before, and after any other call, it may be
    /// readable for nothing, or not readable although something is there. Who sleeps on it asks `is_ready` before each
    /// sleep, and calls [`recv`](Self::recv) when it has become readable, which alone makes it unreadable again. It does not
    /// stay readable for connections that are gone: when the last one is closed it is not readable.
    fn as_raw_fd(&self) -> Option<RawFd>;

    /// The caller is about to sleep until [`as_raw_fd`](Self::as_raw_fd) becomes readable: whether it must not,
    /// because something is there that will not make it so.
    fn is_ready(&mut self) -> bool;
}

/// A backend that receives from TCP connections.
pub trait OpenStreams: StreamQueue<Socket = TcpSocket> + Sized {
    /// Frames of the slab that the queue holds between calls, at most.
    const FRAMES_HELD: usize = 0;

    /// A queue of up to `connections_max` connections, under tokens below that number. What they need is taken here, so
    /// that adding one later allocates nothing.
    ///
    /// [`add`](StreamQueue::add) refuses a token beyond, and one that is in use, as `InvalidInput`. Call it on the thread
    /// that will receive: a backend may be tied to it.
    ///
    /// # Errors
    /// `InvalidInput` for no connections, or more than tokens can name; what making the queue met, when the kernel has no
    /// such backend or forbids it.
    fn open(connections_max: usize) -> io::Result<Self>;
}

/// How a connection is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// In order: what was written goes out, then a FIN.
    Orderly,
    /// At once, by RST: for who does not keep the rules, so that no memory of the kernel is spent on them.
    Reset,
}

/// What one receive brought of all connections, in the order of arrival within each.
///
/// Made once for a fixed number of pieces and used again for every receive.
#[derive(Debug)]
pub struct StreamBatch {
    pieces: Vec<Piece>,
    capacity: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    token: Token,
    what: Held,
}

#[derive(Debug)]
enum Held {
    Bytes { frame: FrameId, len: u32 },
    End,
    Failed(i32),
}

/// Something that came of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// Which connection.
    pub token: Token,
    /// What came.
    pub what: What<'a>,
}

/// What can come of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// The next bytes of its stream; never empty.
    Bytes(&'a [u8]),
    /// The other side will send nothing more (FIN).
    End,
    /// The connection is broken; the `errno(3)` that the kernel gave, such as `ECONNRESET` or `ETIMEDOUT`.
    Failed(i32),
}

impl StreamBatch {
    /// Room for so many pieces.
    ///
    /// # Panics
    /// When `pieces` is zero: such a batch could never say that something came.
    #[must_use]
    pub fn new(pieces: usize) -> Self {
        assert!(pieces > 0, "a batch of no pieces");
        Self {
            pieces: Vec::with_capacity(pieces),
            capacity: pieces,
            bytes: 0,
        }
    }

    /// For backends: room for nothing, so that all that comes has to wait.
    pub(crate) const fn without_room() -> Self {
        Self {
            pieces: Vec::new(),
            capacity: 0,
            bytes: 0,
        }
    }

    /// For backends: appends the first `len` bytes of `frame`, which the batch keeps until its release.
    ///
    /// # Panics
    /// When the batch is full, or `len` is 0: the end of a stream is told by [`push_end`](Self::push_end).
    #[inline]
    pub fn push(&mut self, token: Token, frame: FrameId, len: u32) {
        assert!(len > 0, "a piece of no bytes");
        self.bytes += len as usize;
        self.push_piece(token, Held::Bytes { frame, len });
    }

    /// For backends: the other side will send nothing more.
    ///
    /// # Panics
    /// When the batch is full.
    pub fn push_end(&mut self, token: Token) {
        self.push_piece(token, Held::End);
    }

    /// For backends: the connection failed with this `errno`.
    ///
    /// # Panics
    /// When the batch is full.
    pub fn push_failed(&mut self, token: Token, errno: i32) {
        self.push_piece(token, Held::Failed(errno));
    }

    #[inline]
    fn push_piece(&mut self, token: Token, what: Held) {
        assert!(self.room() > 0, "batch is full");
        self.pieces.push(Piece { token, what });
    }

    /// The pieces in order.
    ///
    /// # Panics
    /// The iterator, when `slab` is not the one the frames came from, or a backend pushed a length beyond the frame.
    #[inline]
    pub fn arrivals<'a>(&'a self, slab: &'a Slab) -> impl ExactSizeIterator<Item = Arrival<'a>> {
        self.pieces.iter().map(|piece| Arrival {
            token: piece.token,
            what: match &piece.what {
                Held::Bytes { frame, len } => What::Bytes(&slab.frame(frame)[..*len as usize]),
                Held::End => What::End,
                Held::Failed(errno) => What::Failed(*errno),
            },
        })
    }

    /// Gives all frames back to `slab` and empties the batch.
    ///
    /// # Panics
    /// When a frame belongs to another slab.
    #[inline]
    pub fn release(&mut self, slab: &mut Slab) {
        self.bytes = 0;
        for piece in self.pieces.drain(..) {
            if let Held::Bytes { frame, .. } = piece.what {
                slab.release(frame);
            }
        }
    }

    /// How many pieces are in it, ends and failures included.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether nothing came.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes in all pieces together.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many more pieces fit.
    #[inline]
    #[must_use]
    pub const fn room(&self) -> usize {
        self.capacity - self.pieces.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_and_their_frames_go_back() {
        let mut slab = Slab::with_frame_len(2, 64).unwrap();
        let mut batch = StreamBatch::new(4);
        for (token, fill) in [(3, 7), (5, 9)] {
            let frame = slab.take().unwrap();
            slab.frame_mut(&frame)[..5].fill(fill);
            batch.push(Token(token), frame, 5);
        }
        batch.push_end(Token(3));
        batch.push_failed(Token(5), libc::ECONNRESET);
        assert_eq!((batch.len(), batch.bytes(), batch.room()), (4, 10, 0));
        let seen: Vec<_> = batch.arrivals(&slab).collect();
        let what = [
            What::Bytes(&[7; 5]),
            What::Bytes(&[9; 5]),
            What::End,
            What::Failed(libc::ECONNRESET),
        ];
        let expected = [3, 5, 3, 5].into_iter().zip(what);
        let expected = expected.map(|(token, what)| Arrival {
            token: Token(token),
            what,
        });
        assert_eq!(seen, expected.collect::<Vec<_>>());
        batch.release(&mut slab);
        assert!(batch.is_empty());
        assert_eq!((batch.bytes(), slab.free()), (0, 2));
    }

    #[test]
    #[should_panic(expected = "batch is full")]
    fn a_full_batch_takes_no_more() {
        let mut batch = StreamBatch::new(1);
        batch.push_end(Token(1));
        batch.push_end(Token(2));
    }

    #[test]
    #[should_panic(expected = "a piece of no bytes")]
    fn no_bytes_are_no_piece() {
        let mut slab = Slab::with_frame_len(1, 64).unwrap();
        let frame = slab.take().unwrap();
        StreamBatch::new(1).push(Token(1), frame, 0);
    }
}
