//! The io_uring backend: one lasting request per connection, all receiving into one ring of frames.
//!
//! ```text
//!   connection 1: multishot recv ─┐                     ┌─▶ completion: 2, frames b c, 65 700 bytes
//!   connection 2: multishot recv ─┼─▶ │ b │ c │ d │ e │ ┼─▶ completion: 3, frame d, 200 bytes
//!   connection 3: multishot recv ─┘     frames lent     └─▶ completion: 1, ended: no frame was left ──▶ armed again
//! ```
//!
//! A request stays until the connection ends, it is cancelled, or the kernel found no frame (`ENOBUFS`) or no place for a
//! completion; then it is made again. An idle connection costs no system call, and no frame: a frame is taken when bytes are
//! there. A receive may also fill several frames and say so once, which is a bundle.
//!
//! **The kernel works for us only inside `recv` and `disarm`.** The ring is of the kind that leaves all work to its one
//! thread, for when it enters the kernel and asks for completions (`IORING_SETUP_DEFER_TASKRUN`). So frames are written to
//! only while the slab is in our hands, and nothing changes between two calls: also a connection that was closed, whose peer
//! has seen its end, stays in the kernel's memory until the next receive. What the kernel has to do shows in a flag in shared
//! memory: a receive that finds nothing is no system call.
//!
//! **Who got nothing is armed first.** A flooding connection takes all frames, and then neither it nor the others find
//! one. Those that came away empty-handed stand in a line of their own, before those that had something.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::atomic::{Ordering, fence};

use io_uring::IoUring;

use super::{Close, OpenStreams, StreamBatch, StreamQueue, Token};
use crate::bell::Bell;
use crate::rx::uring::refused;
use crate::slab::Slab;
use crate::tcp::TcpSocket;
use buffers::{Buffers, POSITIONS_MAX};
use came::{Came, Held};
use place::{Connection, Key, Place};

/// The ring of frames.
mod buffers;
/// Calls on descriptors.
mod call;
/// What came, on its way to a batch.
mod came;
/// Where a connection is kept, and how a completion finds it.
mod place;
/// One talk with the kernel.
mod talk;

/// Receives from many TCP connections by io_uring. Holds up to [`frames`](UringOptions::frames) frames between calls.
///
/// Belongs to the thread that receives first; on another, `recv` is an error.
pub struct UringStreams {
    // Before the ring of frames: the kernel is through with that when it is told to be.
    ring: IoUring,
    buffers: Buffers,
    /// By token.
    places: Vec<Place>,
    /// To be armed: those that found no frame since they were armed last, and then those that did.
    hungry: VecDeque<Token>,
    fed: VecDeque<Token>,
    /// Requests that are to end.
    cancels: Vec<Key>,
    /// What came and had no room in the batch. Empty whenever the kernel is asked for more.
    came: VecDeque<Came>,
    /// Closed while requests that name their descriptors wait to be submitted: until then nobody else may get those.
    parting: Vec<TcpSocket>,
    options: UringOptions,
    /// Frames that the kernel is to have; see `ask`.
    share: usize,
    /// Connections that brought bytes in this round, which is one call of the kernel.
    served: usize,
    round: u32,
    /// Rung by the kernel when it has something to do, while `listening`.
    bell: Bell,
    listening: bool,
    /// The kernel may have more to do than its flag says.
    ask: bool,
    /// Completions that the kernel has counted as dropped, for want of memory.
    dropped: u32,
    /// In this round the kernel had no memory for some request; and rounds in a row in which that was so.
    short: bool,
    short_rounds: u32,
    /// Id of the slab the frames belong to.
    slab: Option<u64>,
    enabled: bool,
    registered: bool,
    open: usize,
}

/// How to make [`UringStreams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UringOptions {
    /// Connections at once; tokens are below this.
    pub connections_max: usize,
    /// Frames that the kernel has to fill, at most; as many connections can bring something in one call.
    pub frames: usize,
    /// Whether one receive may fill several frames, where the kernel can do that (Linux 6.10).
    ///
    /// **Not to be trusted on every kernel that has it**: users of liburing reported in 2025 that kernels from 6.13.11 on
    /// mixed up the frames of a bundle, and no completion tells. It passes the tests on 6.18. Off unless asked for: what it
    /// saves is within what measurements differ by (`benches/streams.rs`).
    pub bundles: bool,
}

impl OpenStreams for UringStreams {
    const FRAMES_HELD: usize = FRAMES;

    /// Needs Linux 6.1. Where it is missing or forbidden, [`PollStreams`](super::poll::PollStreams) does the same.
    ///
    /// # Errors
    /// `InvalidInput` for no connections, or more than tokens can name; `Unsupported` when the kernel has no io_uring, or
    /// an older one; `PermissionDenied` when it is forbidden; what else setting it up met.
    fn open(connections_max: usize) -> io::Result<Self> {
        Self::with_options(UringOptions {
            connections_max,
            frames: FRAMES,
            bundles: BUNDLES,
        })
    }
}

impl UringStreams {
    /// As [`open`](OpenStreams::open), with everything to choose.
    ///
    /// # Errors
    /// As [`open`](OpenStreams::open); `InvalidInput` also for no frames, or more than 32 768.
    pub fn with_options(options: UringOptions) -> io::Result<Self> {
        // Each connection may end, and each request be cancelled, in one call; then nothing overflows.
        let completions = options.connections_max.saturating_mul(3);
        Self::with_completions(options, completions.saturating_add(options.frames))
    }

    /// With room for so many completions, or as many as the kernel allows.
    fn with_completions(mut options: UringOptions, completions: usize) -> io::Result<Self> {
        let UringOptions {
            connections_max,
            frames,
            bundles,
        } = options;
        let named = connections_max > 0 && u32::try_from(connections_max).is_ok();
        if !named || !(1..=POSITIONS_MAX).contains(&frames) {
            return Err(invalid(format!("no queue of streams has {options:?}")));
        }
        let requests = connections_max.min(REQUESTS_MAX);
        let requests = u32::try_from(requests).expect("at most REQUESTS_MAX");
        let completions = completions.clamp(requests as usize, COMPLETIONS_MAX);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            // Its thread is the one that enables it, which is the one that receives first.
            .setup_r_disabled()
            // A request that is refused does not keep those behind it back.
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(u32::try_from(completions).expect("at most COMPLETIONS_MAX"))
            .build(requests)
            .map_err(too_old)?;
        options.bundles = bundles && ring.params().is_feature_recvsend_bundle();
        let bell = Bell::new()?;
        let submitter = ring.submitter();
        submitter
            .register_eventfd(bell.as_raw_fd())
            .map_err(too_old)?;
        let mut buffers = Buffers::new(frames)?;
        buffers.register(&submitter).map_err(too_old)?;
        Ok(Self {
            ring,
            buffers,
            places: (0..connections_max).map(|_| Place::default()).collect(),
            hungry: VecDeque::with_capacity(connections_max),
            fed: VecDeque::with_capacity(connections_max),
            cancels: Vec::with_capacity(connections_max),
            came: VecDeque::with_capacity(frames + connections_max),
            parting: Vec::with_capacity(requests as usize),
            options,
            share: frames,
            served: 0,
            round: 0,
            bell,
            listening: true,
            ask: true,
            dropped: 0,
            short: false,
            short_rounds: 0,
            slab: None,
            enabled: false,
            registered: true,
            open: 0,
        })
    }

    /// How many connections there are.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.open
    }

    /// Whether one receive may fill several frames: it was asked for, and the kernel can.
    #[must_use]
    pub const fn bundles(&self) -> bool {
        self.options.bundles
    }

    /// Whether entering the kernel may bring something.
    fn must_ask(&mut self) -> bool {
        if self.ask || !self.hungry.is_empty() || !self.fed.is_empty() || !self.cancels.is_empty() {
            return true;
        }
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow() || !queue.is_empty()
    }

    /// Lets the kernel ring.
    fn listen(&mut self) {
        if !self.listening {
            self.listening = true;
            self.ring.completion().enable_eventfd();
        }
        // Either we see in what follows what the kernel has to do, or it sees that it is to ring: it puts its work into the
        // list by a full barrier before it looks (`io_req_local_work_add` of io_uring/io_uring.c).
        fence(Ordering::SeqCst);
    }

    /// Whoever is awake needs no ring, and each costs the sender.
    fn stop_listening(&mut self) {
        if self.listening {
            self.listening = false;
            self.ring.completion().disable_eventfd();
            self.bell.disarm();
            self.ask = true;
        }
    }

    /// Makes the ring this thread's, and the frames known to it, where that is still to be done.
    fn start(&mut self) -> io::Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        if !self.registered {
            self.buffers.register(&self.ring.submitter())?;
            self.registered = true;
        }
        Ok(())
    }

    /// What waited, as far as there is room; what was of a connection that is gone goes nowhere.
    fn hand_over(&mut self, slab: &mut Slab, batch: &mut StreamBatch) {
        while batch.room() > 0
            && let Some(Came { key, what }) = self.came.pop_front()
        {
            if self.places[key.token().0 as usize].of(key).is_some() {
                what.push(key.token(), batch);
            } else if let Held::Bytes { frame, .. } = what {
                slab.release(frame);
            }
        }
    }

    /// Puts a connection that wants a request into the line that it belongs to.
    fn line_up(&mut self, token: Token, found_no_frame: bool) {
        let place = &mut self.places[token.0 as usize];
        let Some(connection) = &place.connection else {
            return;
        };
        if place.in_line || !connection.wants_request() {
            return;
        }
        place.in_line = true;
        // Neither grows: a token stands in one line, once.
        if found_no_frame && !connection.fed {
            self.hungry.push_back(token);
        } else {
            self.fed.push_back(token);
        }
    }

    /// Something that waited is not handed over. Whoever lost bytes has failed, and is told so once.
    fn forget(&mut self, key: Key, what: Held, slab: &mut Slab) {
        let lost = if let Held::Bytes { frame, .. } = what {
            slab.release(frame);
            None
        } else {
            Some(what)
        };
        let Some(connection) = self.places[key.token().0 as usize].of(key) else {
            return;
        };
        if connection.robbed {
            return;
        }
        connection.robbed = lost.is_none();
        connection.over = true;
        let what = lost.unwrap_or(Held::Failed(libc::ECONNABORTED));
        self.came.push_back(Came { key, what });
    }

    fn socket(&self, token: Token) -> io::Result<&TcpSocket> {
        let place = self.places.get(token.0 as usize);
        let connection = place.and_then(|place| place.connection.as_ref());
        let error = || invalid(format!("no connection has the token {}", token.0));
        connection.map(|open| &open.socket).ok_or_else(error)
    }
}

impl StreamQueue for UringStreams {
    type Socket = TcpSocket;

    /// Until it is closed, `socket` blocks for others that have its descriptor: a request to a socket that does not block
    /// would end as soon as there is nothing.
    fn add(&mut self, token: Token, socket: TcpSocket) -> Result<(), (TcpSocket, io::Error)> {
        let max = self.places.len();
        let Some(place) = self.places.get_mut(token.0 as usize) else {
            let error = format!("token {} of a queue of {max} connections", token.0);
            return Err((socket, invalid(error)));
        };
        if place.connection.is_some() {
            let error = format!("token {} has a connection", token.0);
            return Err((socket, invalid(error)));
        }
        if let Err(error) = call::set_blocking(&socket, true) {
            return Err((socket, error));
        }
        place.open(socket);
        self.open += 1;
        self.line_up(token, false);
        Ok(())
    }

    /// # Errors
    /// As the trait has it: on another thread than the first, `EEXIST`; `OutOfMemory` when the slab has no frame to lend,
    /// or the kernel has no memory for requests, of which none is lost.
    fn recv(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> io::Result<()> {
        let known = *self.slab.get_or_insert_with(|| slab.id());
        assert_eq!(known, slab.id(), "a queue stays with its slab");
        debug_assert!(batch.is_empty(), "hand in a released batch");
        self.stop_listening();
        self.hand_over(slab, batch);
        if batch.room() == 0 || !self.must_ask() {
            return Ok(());
        }
        match self.ask(slab, batch) {
            // What waited is handed over; the error comes again if it lasts.
            Err(_) if !batch.is_empty() => Ok(()),
            asked => asked,
        }
    }

    fn pause(&mut self, token: Token) {
        let Some(place) = self.places.get_mut(token.0 as usize) else {
            return;
        };
        let key = place.key(token);
        let Some(connection) = &mut place.connection else {
            return;
        };
        connection.paused = true;
        if connection.armed && !connection.cancelled {
            connection.cancelled = true;
            // Submitted by the next receive, before the kernel does anything else: until then it takes nothing.
            // Never grows: a request is cancelled once, and there is one for each connection.
            self.cancels.push(key);
        }
    }

    fn resume(&mut self, token: Token) {
        let place = self.places.get_mut(token.0 as usize);
        if let Some(connection) = place.and_then(|place| place.connection.as_mut()) {
            connection.paused = false;
            // One whose request is still about to end is lined up when it has.
            self.line_up(token, false);
        }
    }

    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        call::send_now(self.socket(token)?, bytes)
    }

    /// What waits for room in a batch included.
    fn queued_bytes(&self, token: Token) -> io::Result<u64> {
        let queued = self.socket(token)?.queued_bytes()?;
        let key = self.places[token.0 as usize].key(token);
        let waiting = self.came.iter().filter(|came| came.key == key);
        Ok(queued + waiting.map(|came| came.what.len()).sum::<u64>())
    }

    fn close(&mut self, token: Token, how: Close) {
        let place = self.places.get_mut(token.0 as usize);
        let Some(Connection { socket, .. }) = place.and_then(Place::close) else {
            return;
        };
        self.open -= 1;
        match how {
            Close::Orderly => socket.part(),
            Close::Reset => call::disconnect(&socket),
        }
        if self.open == 0 {
            // Its request has ended, for which the kernel has rung. But nobody receives who has no connections, and the bell
            // would keep its owner awake.
            self.stop_listening();
        }
        if !self.ring.submission().is_empty() {
            self.parting.push(socket);
        }
    }

    /// Bytes that waited for room in a batch are lost; a connection that had some fails with `ECONNABORTED`, so that
    /// nobody takes what follows for what comes next. There are none when the last `recv` left room in its batch.
    ///
    /// On another thread than the one that receives nothing is given back.
    fn disarm(&mut self, slab: &mut Slab) {
        let same = self.slab.is_none_or(|known| known == slab.id());
        assert!(same, "a queue stays with its slab");
        self.take_back(slab);
        for _ in 0..self.came.len() {
            let Some(Came { key, what }) = self.came.pop_front() else {
                break;
            };
            self.forget(key, what, slab);
        }
    }

    /// A descriptor that the kernel makes readable when it has something to do, from an [`is_ready`](Self::is_ready) that
    /// said no to the next receive.
    fn as_raw_fd(&self) -> Option<RawFd> {
        Some(self.bell.as_raw_fd())
    }

    fn is_ready(&mut self) -> bool {
        let ours = !self.came.is_empty() || !self.hungry.is_empty() || !self.fed.is_empty();
        if ours || !self.ring.submission().is_empty() {
            return true;
        }
        self.listen();
        // The kernel rings for the first thing that it has to do, and not for what it had before. Its flag does not say all
        // of that; asked about the ring, it does (`io_has_work` of io_uring/io_uring.h).
        let ready = call::is_readable(self.ring.as_raw_fd());
        self.ask |= ready;
        ready
    }
}

impl Drop for UringStreams {
    fn drop(&mut self) {
        // The kernel takes a ring apart some time after it is closed, and keeps the connections open for as long.
        let connections = self.places.iter_mut().filter_map(Place::close);
        connections.for_each(|connection| connection.socket.part());
    }
}

impl fmt::Debug for UringStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringStreams")
            .field("options", &self.options)
            .field("connections", &self.open)
            .field("buffers", &self.buffers)
            .field("waiting", &self.came.len())
            .finish_non_exhaustive()
    }
}

/// What is said when the kernel refuses to make such a ring.
fn too_old(error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::EINVAL) {
        return refused(error);
    }
    let error = "the io_uring of this kernel cannot receive streams, which needs Linux 6.1";
    io::Error::new(io::ErrorKind::Unsupported, error)
}

fn invalid(error: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// Frames that the kernel has to fill: more than the 20 connections that it serves per call (`IO_LOCAL_TW_DEFAULT_MAX` of
/// io_uring/io_uring.h), so that these all find one.
const FRAMES: usize = 32;

/// Whether one receive fills several frames, unless told otherwise: see [`UringOptions::bundles`].
const BUNDLES: bool = false;

/// Requests that are submitted at once, at most.
const REQUESTS_MAX: usize = 1024;

/// `IORING_MAX_CQ_ENTRIES` of io_uring/io_uring.c. What finds no place in the queue waits in the kernel's memory.
const COMPLETIONS_MAX: usize = 2 * 32_768;

#[cfg(test)]
mod tests;
