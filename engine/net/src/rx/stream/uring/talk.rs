//! One talk with the kernel: requests in, completions out.

use std::io;
use std::os::fd::AsRawFd as _;

use io_uring::{EnterFlags, cqueue, opcode, squeue, types};

use super::UringStreams;
use super::buffers::GROUP;
use super::came::{Came, Held};
use super::place::Key;
use crate::rx::stream::{StreamBatch, Token};
use crate::slab::Slab;

impl UringStreams {
    /// Asks the kernel until something is in the batch, or nothing is there.
    pub(super) fn ask(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> io::Result<()> {
        for _ in 0..ROUNDS_MAX {
            self.start()?;
            self.buffers.lend(slab, self.share.min(batch.room()));
            if self.buffers.lent() == 0 {
                let error = "the slab has no free frame";
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, error));
            }
            self.request();
            let entered = self.enter();
            let news = self.harvest(slab, batch);
            if self.has_dropped() {
                self.fail_armed(batch);
                self.take_back(slab);
            }
            let memory = self.check_memory();
            // Frames that go round in turns fall out of the cache when they are many. So the kernel has as many as those that
            // had or wanted something can use, and no more.
            let wanted = FRAMES_EACH * (self.served + self.hungry.len());
            self.share = wanted.max(FRAMES_MIN).min(self.options.frames);
            // The kernel does some of its work per call and keeps the rest without saying so by its flag.
            self.ask = news || entered.is_err();
            let overflow = self.ring.submission().cq_overflow();
            if !batch.is_empty() && !overflow {
                return Ok(());
            }
            entered?;
            memory?;
            if !self.must_ask() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes requests: those that end others, then those to receive, as far as there is room.
    pub(super) fn request(&mut self) {
        let mut queue = self.ring.submission();
        while !queue.is_full() {
            let Some(key) = self.cancels.pop() else {
                break;
            };
            let connection = self.places[key.token().0 as usize].of(key);
            if connection.is_some_and(|open| !(open.armed && open.cancelled)) {
                // It has ended meanwhile.
                continue;
            }
            let cancel = opcode::AsyncCancel::new(key.user_data()).build();
            push(&mut queue, cancel.user_data(key.for_cancel().user_data()));
        }
        while !queue.is_full() {
            let next = self.hungry.pop_front().or_else(|| self.fed.pop_front());
            let Some(token) = next else {
                break;
            };
            let place = &mut self.places[token.0 as usize];
            place.in_line = false;
            let key = place.key(token);
            let Some(connection) = &mut place.connection else {
                continue;
            };
            if connection.wants_request() {
                connection.armed = true;
                connection.fed = false;
                let fd = types::Fd(connection.socket.as_raw_fd());
                let receive = if self.options.bundles {
                    opcode::RecvMultiBundle::new(fd, GROUP).build()
                } else {
                    opcode::RecvMulti::new(fd, GROUP).build()
                };
                push(&mut queue, receive.user_data(key.user_data()));
            }
        }
    }

    /// Submits what is written, and lets the kernel do what it has put off.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let mut tries = SUBMIT_TRIES;
        while tries > 0 {
            let count = self.ring.submission().len();
            let asked = u32::try_from(count).expect("at most REQUESTS_MAX");
            let flags = EnterFlags::GETEVENTS.bits();
            // SAFETY: takes no argument structure. What requests and ring point at are frames of the slab that `recv` or
            // `disarm` was given and of no other, so the kernel writes to them, here, while nobody else has them. It waits for
            // no completion.
            let entered = unsafe { self.ring.submitter().enter::<()>(asked, 0, flags, None) };
            match entered.map_err(|error| (error.raw_os_error(), error)) {
                Ok(taken) if taken == count => {
                    // Whatever names a descriptor has its file now.
                    self.parting.clear();
                    return Ok(());
                }
                Ok(1..) | Err((Some(libc::EINTR), _)) => {}
                // "The kernel was unable to allocate memory for the request, or otherwise ran out of resources to handle
                // it" (io_uring_enter(2), EAGAIN). EBADR says once that completions were dropped, which are counted as well;
                // see `has_dropped`.
                Ok(_) | Err((Some(libc::EAGAIN | libc::EBUSY | libc::EBADR), _)) => tries -= 1,
                Err((_, error)) => return Err(error),
            }
        }
        Err(short_of_memory())
    }

    /// Takes the frames back from the kernel, which is told of them again by the next receive.
    ///
    /// First takes everything that it has to say, into the line of what waits. What it said of a buffer afterwards would be
    /// believed of the frame that is lent under the same number by then. Where it cannot be asked, on another thread than
    /// ours, the frames stay.
    pub(super) fn take_back(&mut self, slab: &mut Slab) {
        let mut full = StreamBatch::without_room();
        let mut rounds = ROUNDS_MAX;
        self.harvest(slab, &mut full);
        while self.ring.submission().cq_overflow() {
            rounds -= 1;
            if rounds == 0 || self.enter().is_err() {
                return;
            }
            self.harvest(slab, &mut full);
        }
        if self.registered {
            let withdrawn = self.buffers.withdraw(&self.ring.submitter(), slab);
            self.registered = withdrawn.is_err();
        }
    }

    /// Whether completions were dropped since this was asked last.
    ///
    /// One that finds no place in the queue waits in memory of the kernel's, and when there is none either it is dropped and
    /// counted (`io_cqring_event_overflow` of io_uring/io_uring.c).
    fn has_dropped(&mut self) -> bool {
        let dropped = self.ring.completion().overflow();
        std::mem::replace(&mut self.dropped, dropped) != dropped
    }

    /// Some completion was dropped, of which connection is not known: bytes of any that has a request may be missing. So
    /// they have all failed.
    fn fail_armed(&mut self, batch: &mut StreamBatch) {
        for token in (0..self.places.len()).filter_map(|index| u32::try_from(index).ok()) {
            let place = &mut self.places[token as usize];
            let key = place.key(Token(token));
            if let Some(connection) = &mut place.connection
                && connection.armed
                && !connection.over
            {
                connection.over = true;
                self.bring(key, Held::Failed(libc::ECONNABORTED), batch);
            }
        }
    }

    /// # Errors
    /// `OutOfMemory` when the kernel had none for requests in several rounds one after the other, this one being the last.
    /// They stand in line again.
    pub(super) fn check_memory(&mut self) -> io::Result<()> {
        let short = std::mem::take(&mut self.short);
        self.short_rounds = if short { self.short_rounds + 1 } else { 0 };
        if self.short_rounds < SUBMIT_TRIES {
            return Ok(());
        }
        self.short_rounds = 0;
        Err(short_of_memory())
    }

    /// Takes all completions out of their queue; whether there were any.
    fn harvest(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> bool {
        let mut news = false;
        self.served = 0;
        self.round = self.round.wrapping_add(1);
        while let Some(entry) = { self.ring.completion().next() } {
            news = true;
            let key = Key::from_user_data(entry.user_data());
            if key.is_cancel() {
                self.note_cancel(key.of_cancelled(), entry.result());
            } else {
                self.complete(key, &entry, slab, batch);
            }
        }
        news
    }

    /// What the kernel says of a cancellation. How one went that found its request is told by the request.
    ///
    /// One that found none came too late, as a rule. But a request can also be where none is looked for, or past being ended
    /// ("ENOENT: The request identified by user_data could not be located", "EALREADY: The execution state of the request has
    /// progressed far enough that cancelation is no longer possible", io_uring_enter(2)), and one that lasts goes on after
    /// that. Then its connection would be paused in name only, so it is cancelled again.
    pub(super) fn note_cancel(&mut self, key: Key, result: i32) {
        if !matches!(-result, libc::ENOENT | libc::EALREADY) {
            return;
        }
        let connection = self.places[key.token().0 as usize].of(key);
        let Some(connection) = connection.filter(|open| open.armed && open.cancelled) else {
            return;
        };
        if connection.paused {
            // Took its place in this list before.
            self.cancels.push(key);
        } else {
            connection.cancelled = false;
        }
    }

    fn complete(
        &mut self,
        key: Key,
        entry: &cqueue::Entry,
        slab: &mut Slab,
        batch: &mut StreamBatch,
    ) {
        let (result, last) = (entry.result(), !cqueue::more(entry.flags()));
        let connection = self.places[key.token().0 as usize].of(key);
        let live = connection.as_ref().is_some_and(|found| !found.over);
        if let Some(connection) = connection
            && last
        {
            connection.armed = false;
            connection.cancelled = false;
        }
        let mut whole = true;
        if let Some(first) = cqueue::buffer_select(entry.flags()) {
            let len = u32::try_from(result).unwrap_or(0);
            whole = self.take_frames(key, first, len, live, slab, batch);
        }
        if live {
            let result = if whole { result } else { -libc::ECONNABORTED };
            self.note(key, result, batch);
        }
        if last {
            self.line_up(key.token(), result == -libc::ENOBUFS);
        }
    }

    /// Hands over `len` bytes in the frames from buffer `first` on, which lie one behind the other in the ring: each is
    /// full but for the last. To nobody, when the connection is no longer there. Whether the frames were.
    fn take_frames(
        &mut self,
        key: Key,
        first: u16,
        len: u32,
        live: bool,
        slab: &mut Slab,
        batch: &mut StreamBatch,
    ) -> bool {
        let (mut number, mut left) = (first, len);
        loop {
            let Some(frame) = self.buffers.take(number) else {
                return false;
            };
            let here = left.min(self.buffers.frame_len());
            if live && here > 0 {
                self.bring(key, Held::Bytes { frame, len: here }, batch);
            } else {
                // Also one that came with the end.
                slab.release(frame);
            }
            left -= here;
            number = number.wrapping_add(1);
            if left == 0 {
                return true;
            }
        }
    }

    /// What a completion says of its connection, which is there and not over.
    pub(super) fn note(&mut self, key: Key, result: i32, batch: &mut StreamBatch) {
        let place = &mut self.places[key.token().0 as usize];
        let connection = place.of(key).expect("it is there");
        let ended = match result {
            1.. => {
                connection.fed = true;
                self.served += usize::from(connection.served_in != self.round);
                connection.served_in = self.round;
                return;
            }
            0 => Held::End,
            // Not about the connection, which is armed again.
            _ if is_passing(-result) => {
                self.short |= result == -libc::ENOMEM;
                return;
            }
            _ => Held::Failed(-result),
        };
        connection.over = true;
        self.bring(key, ended, batch);
    }

    /// Into the batch, or behind what waits for it.
    fn bring(&mut self, key: Key, what: Held, batch: &mut StreamBatch) {
        if self.came.is_empty() && batch.room() > 0 {
            what.push(key.token(), batch);
        } else {
            self.came.push_back(Came { key, what });
        }
    }
}

fn push(queue: &mut squeue::SubmissionQueue<'_>, request: squeue::Entry) {
    // SAFETY: a request to receive names a descriptor, which stays open until it is submitted (`parting`), and no memory:
    // that is chosen from the ring of frames, which the kernel holds itself. One to cancel names another request.
    let pushed = unsafe { queue.push(&request) };
    pushed.expect("there was room");
}

/// Whether a request ended for a reason that says nothing about its connection: no frame was left, it was cancelled, a
/// signal came, or the kernel had no memory for it.
const fn is_passing(errno: libc::c_int) -> bool {
    matches!(
        errno,
        libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN | libc::ENOMEM
    )
}

fn short_of_memory() -> io::Error {
    let error = "io_uring took no request: the kernel is short of memory";
    io::Error::new(io::ErrorKind::OutOfMemory, error)
}

/// Frames that the kernel has for each connection that brings bytes.
const FRAMES_EACH: usize = 2;

/// Frames that it has in any case. One busy connection costs about a third more with 32 than with 4, which stay in the
/// second-level cache: 61 to 70 ns per 200-byte packet against 50 (the steady load of `benches/streams.rs`, with this set
/// to either; medians of 5 rounds on a machine that others used).
const FRAMES_MIN: usize = 4;

/// How often in a row a kernel short of memory is asked to take requests, before the caller hears of it.
const SUBMIT_TRIES: u32 = 4;

/// Calls of the kernel that one receive makes at most before it says that nothing was there: enough to arm as many
/// connections as have descriptors.
const ROUNDS_MAX: usize = 1024;
