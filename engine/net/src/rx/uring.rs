//! The io_uring backend: a batch of receives, all of which complete while they are submitted.
//!
//! ```text
//!   slot        0      1      2      3     ...  take-1
//!             ┌──────┬──────┬──────┬──────┬───┬──────┐
//!   requests  │ recv │ recv │ recv │ recv │   │ recv │──▶ io_uring_enter ──▶ as many completions, at once
//!             └──┬───┴──┬───┴──┬───┴──┬───┴───┴──┬───┘
//!              frame  frame  frame  frame      frame      one per slot, kept while nothing came into it
//! ```
//!
//! A request with `MSG_DONTWAIT` never waits, so nothing is in flight when [`recv`](RxQueue::recv) returns: no frame
//! outlives its queue, and datagrams are in the order of the requests. That leaves out what makes io_uring
//! receivers hard: no buffer ring that runs dry (`ENOBUFS`), no completion that finds no place (there are twice as
//! many places as requests), nothing to re-arm. A request that finds nothing is not free, so the number of them
//! follows what the last call brought.
//!
//! **One socket option decides the price.** Without `UDP_GRO`, and where no sources are asked for, a request names its frame and nothing else is copied:
//! 533 ns per 200-byte datagram, where [`RecvMmsg`](crate::RecvMmsg) takes 530. With it every request needs a
//! message header, to tell trains: 663 ns against 565 while datagrams come alone. (Multishot receives into a buffer
//! ring: 561 without, 637 with; in trains of 1400 bytes they are the slowest.) So leave it off here where senders
//! make no trains. Medians of 9 rounds taken in turns, 50 000 datagrams queued by the other core, thread CPU time of
//! the drain; Linux 6.18, 2 virtual cores of a Zen 3 EPYC.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, Probe, opcode, squeue, types};

use crate::address::{ADDRESS_LEN, Address};
use crate::batch::Batch;
use crate::bell::Bell;
use crate::cmsg::{CONTROL_LEN, Control};
use crate::rx::{
    OpenQueue, RxQueue, frames_max, is_about_something_sent, slots_in_range, wait_for,
};
use crate::slab::{FrameId, Slab};
use crate::udp::UdpSocket;

/// Receives datagrams of one [`UdpSocket`], by up to as many requests per system call as it has slots.
pub struct Uring {
    ring: IoUring,
    socket: Arc<UdpSocket>,
    /// The frame each slot's request receives into.
    frames: Vec<Option<FrameId>>,
    /// What requests with a message header point at, slot by slot: those of a socket with `UDP_GRO`, and those that ask
    /// for sources; empty for others. Does not grow once there are requests, so the addresses stay when `self` moves.
    /// Written through `as_mut_ptr` only, as the kernel does.
    messages: Vec<Message>,
    /// Where the kernel says where a datagram came from, slot by slot, with the same rules; empty unless that is asked
    /// for.
    names: Vec<Address>,
    /// How each slot's request ended, the last time it did: a length or a negated error.
    results: Vec<i32>,
    /// Slots whose requests are in the submission queue, and which the kernel has not taken yet.
    queued: Range<usize>,
    /// How many requests the next call makes.
    take: usize,
    /// Id of the slab the frames belong to.
    slab: Option<u64>,
    /// Bytes of each frame.
    frame_len: u32,
}

/// Everything that one `recvmsg` reads and writes beside the frame.
#[repr(C)]
struct Message {
    header: libc::msghdr,
    iovec: libc::iovec,
    control: Control,
}

impl OpenQueue for Uring {
    /// Needs Linux 5.6. Where it is missing or forbidden, [`RecvMmsg`](crate::RecvMmsg) does the same.
    ///
    /// Keeps a reference of the kernel's to the socket until it is dropped.
    ///
    /// # Errors
    /// `InvalidInput` when `slots` is out of range; `Unsupported` when the kernel has no io_uring, or one that
    /// cannot receive; `PermissionDenied` when it is forbidden; what else setting it up met.
    fn open(socket: Arc<UdpSocket>, slots: usize) -> io::Result<Self> {
        slots_in_range(slots)?;
        let ring =
            IoUring::new(u32::try_from(slots).expect("at most SLOTS_MAX")).map_err(refused)?;
        can_receive(&ring)?;
        // A file that is registered is not looked up again by each request: 45 ns.
        ring.submitter()
            .register_files(&[socket.as_raw_fd()])
            .map_err(refused)?;
        let messages = if socket.gro() { slots } else { 0 };
        Ok(Self {
            ring,
            socket,
            frames: (0..slots).map(|_| None).collect(),
            messages: (0..messages).map(|_| Message::nowhere()).collect(),
            names: Vec::new(),
            results: vec![0; slots],
            queued: 0..0,
            take: slots,
            slab: None,
            frame_len: 0,
        })
    }
}

impl RxQueue for Uring {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        let known = *self.slab.get_or_insert_with(|| slab.id());
        assert_eq!(known, slab.id(), "a queue stays with its slab");
        debug_assert!(batch.is_empty(), "hand in a released batch");
        if batch.room() == 0 {
            return Ok(());
        }
        loop {
            // Requests may be left from a call in which the kernel had no memory to take them all.
            if self.queued.is_empty() {
                self.prepare(slab, batch.room())?;
            }
            let completed = self.submit(batch.room())?;
            if self.hand_over(completed, batch)? {
                return Ok(());
            }
        }
    }

    fn ask_sources(&mut self) {
        // A request that is written points at what is there now.
        assert!(
            self.queued.is_empty(),
            "sources are asked for before the first receive"
        );
        let slots = self.frames.len();
        self.messages.resize_with(slots, Message::nowhere);
        self.names.resize(slots, Address::NONE);
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    fn disarm(&mut self, slab: &mut Slab) {
        let queued = self.queued.clone();
        for (slot, frame) in self.frames.iter_mut().enumerate() {
            // A request that the kernel has not taken yet keeps its frame: it may still be filled.
            if !queued.contains(&slot)
                && let Some(frame) = frame.take()
            {
                slab.release(frame);
            }
        }
    }

    fn queued_bytes(&self) -> io::Result<u64> {
        self.socket.queued_bytes()
    }

    fn wait(
        queues: &mut [Self],
        also: Option<RawFd>,
        bell: &Bell,
        timeout: Duration,
    ) -> io::Result<()> {
        let sockets = queues.iter().map(|queue| &*queue.socket);
        wait_for(sockets, also, bell, timeout)
    }
}

impl Uring {
    /// Writes a request for each slot from the first on, as many as the last call suggests, `room` and `slab` allow.
    fn prepare(&mut self, slab: &mut Slab, room: usize) -> io::Result<()> {
        self.frame_len = u32::try_from(slab.frame_len()).expect("a frame is 64 KiB");
        let mut count = self.take.min(room);
        for slot in 0..count {
            if self.frames[slot].is_none() {
                self.frames[slot] = slab.take();
            }
            let Some(frame) = &self.frames[slot] else {
                count = slot;
                break;
            };
            let (start, len) = (slab.frame_ptr(frame), self.frame_len);
            let request = if self.messages.is_empty() {
                recv(start, len)
            } else {
                // SAFETY: `slot` is below `messages.len()`: there are as many as frames.
                let message = unsafe { self.messages.as_mut_ptr().add(slot) };
                let name = match self.names.is_empty() {
                    true => ptr::null_mut(),
                    // There are as many of them.
                    false => self.names.as_mut_ptr().wrapping_add(slot),
                };
                // SAFETY: the message is ours to write: its last request has completed (`submit`), and the next
                // one is not written yet.
                unsafe { recvmsg(message, name, start, len) }
            };
            // SAFETY: what the request points at is valid until it completes: it does so in `submit` before this
            // method is called again, so before the frame, `messages`, `names` or, as `recv` has it, the slab can go.
            // Dropping the queue in between drops the request too: the kernel reads the submission queue only in
            // io_uring_enter(2).
            let pushed = unsafe { self.ring.submission().push(&request.user_data(slot as u64)) };
            pushed.expect("the submission queue has room for all slots, and was empty");
        }
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the slab has no free frame",
            ));
        }
        self.queued = 0..count;
        Ok(())
    }

    /// Lets the kernel take up to `count` of the queued requests, and returns when all that it took have completed;
    /// says which. The others stay queued: there is an error only when it took none.
    fn submit(&mut self, count: usize) -> io::Result<Range<usize>> {
        let start = self.queued.start;
        let end = self.queued.end.min(start + count);
        let (mut failure, mut tries) = (None, SUBMIT_TRIES);
        while self.queued.start < end && tries > 0 {
            let left = u32::try_from(end - self.queued.start).expect("at most SLOTS_MAX");
            // SAFETY: takes no argument structure; what the requests point at was promised in `prepare`. Without
            // IORING_ENTER_GETEVENTS it does not wait.
            let entered = unsafe { self.ring.submitter().enter::<()>(left, 0, 0, None) };
            match entered.map_err(|error| (error.raw_os_error(), error)) {
                // Less than asked for when one request was refused: it has its completion, and we go on behind it.
                Ok(taken @ 1..) => self.queued.start += taken,
                Err((Some(libc::EINTR), _)) => {}
                // "The kernel was unable to allocate memory for the request, or otherwise ran out of resources to
                // handle it" (io_uring_enter(2), EAGAIN).
                Ok(_) | Err((Some(libc::EAGAIN | libc::EBUSY), _)) => tries -= 1,
                Err((_, error)) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let taken = start..self.queued.start;
        self.complete(taken.len());
        if taken.is_empty() {
            return Err(failure.unwrap_or_else(no_memory));
        }
        // What was taken comes first; the failure comes again if it lasts.
        Ok(taken)
    }

    /// Takes `count` completions out of their queue.
    fn complete(&mut self, count: usize) {
        let mut missing = count;
        loop {
            for entry in self.ring.completion() {
                let slot = usize::try_from(entry.user_data()).expect("a slot");
                self.results[slot] = entry.result();
                missing -= 1;
            }
            if missing == 0 {
                return;
            }
            // Does not happen on the kernels we know: MSG_DONTWAIT makes a request REQ_F_NOWAIT (`io_recvmsg_prep` in
            // io_uring/net.c), which is neither polled for nor given to a worker thread (`io_queue_async` in
            // io_uring/io_uring.c). But were it so, the kernel would still write to our memory, and nothing else
            // may be done until that has ended.
            let (flags, missing) = (EnterFlags::GETEVENTS.bits(), u32::try_from(missing));
            // SAFETY: takes no argument structure and submits nothing.
            let waited = unsafe {
                let missing = missing.expect("at most SLOTS_MAX");
                self.ring.submitter().enter::<()>(0, missing, flags, None)
            };
            if waited.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
                // There is no safe way on: the caller could free the slab under the kernel's hand.
                std::process::abort();
            }
        }
    }

    /// Moves the frames of the completed slots to the batch, in their order. Says whether the socket has been found
    /// empty or something came; if neither, it has to be asked again.
    fn hand_over(&mut self, completed: Range<usize>, batch: &mut Batch) -> io::Result<bool> {
        let asked = completed.len();
        let before = (batch.frames(), batch.len());
        let (mut empty, mut failure) = (false, None);
        for slot in completed {
            let result = self.results[slot];
            if let Ok(len) = u32::try_from(result) {
                self.hand_over_one(slot, len, batch);
                continue;
            }
            match -result {
                libc::EAGAIN => empty = true,
                // A signal came: that does not say that the socket is empty.
                libc::EINTR => empty = false,
                errno if is_about_something_sent(errno) => empty = false,
                errno => failure = Some(io::Error::from_raw_os_error(errno)),
            }
        }
        let (frames, datagrams) = (batch.frames() - before.0, batch.len() - before.1);
        self.take = if frames < asked {
            frames.max(1)
        } else {
            (asked * GROWTH).min(frames_max(frames, datagrams, self.frames.len()))
        };
        match failure {
            // What came is handed over; the failure comes again if it lasts.
            Some(error) if frames == 0 => Err(error),
            _ => Ok(frames > 0 || empty),
        }
    }

    #[inline]
    fn hand_over_one(&mut self, slot: usize, len: u32, batch: &mut Batch) {
        let frame = self.frames[slot].take().expect("requests have a frame");
        if self.messages.is_empty() {
            // MSG_TRUNC asks for the true length, also of what did not fit.
            let fitted = len.min(self.frame_len);
            batch.push(frame, fitted, fitted < len);
            return;
        }
        // SAFETY: `slot` is below `messages.len()`, the request has completed, and nobody has a `&mut` to it.
        let message = unsafe { &*self.messages.as_ptr().add(slot) };
        let segment_len = message
            .control
            .segment_len(message.header.msg_controllen as _);
        // As in `RecvMmsg`: a train whose segment length is missing must not pass for one whole datagram.
        let incomplete = message.header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        batch.push_segments(frame, len, segment_len.unwrap_or(len), incomplete);
        if slot < self.names.len() {
            // SAFETY: as for the message.
            let name = unsafe { &*self.names.as_ptr().add(slot) };
            batch.came_from(name.written(message.header.msg_namelen));
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel takes a ring apart some time after it is closed, and would keep the socket, and its port,
        // for as long. An error leaves it to that.
        let _ = self.ring.submitter().unregister_files();
    }
}

// SAFETY: the raw pointers are in `messages`, to frames, to `names` and into `messages` itself, which the queue owns and
// which move with it; they are used only in `recv` together with the slab, on whatever thread has both. The ring is
// not made for a single thread (no IORING_SETUP_SINGLE_ISSUER).
unsafe impl Send for Uring {}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring")
            .field("socket", &self.socket)
            .field("slots", &self.frames.len())
            .field("take", &self.take)
            .finish_non_exhaustive()
    }
}

impl Message {
    /// One that points at nothing and receives nothing.
    fn nowhere() -> Self {
        // SAFETY: integers, pointers and an array of bytes, for which zero is a value.
        unsafe { std::mem::zeroed() }
    }
}

/// A request for a datagram without anything around it.
fn recv(start: *mut u8, len: u32) -> squeue::Entry {
    opcode::Recv::new(SOCKET, start, len)
        .flags(libc::MSG_DONTWAIT | libc::MSG_TRUNC)
        .build()
}

/// A request for a datagram or train, how to cut it, and into `name`, unless it is null, where it came from.
///
/// # Safety
/// `message` must be valid for writes, and no request with it may be on its way.
unsafe fn recvmsg(
    message: *mut Message,
    name: *mut Address,
    start: *mut u8,
    len: u32,
) -> squeue::Entry {
    let mut fresh = Message::nowhere();
    fresh.iovec.iov_base = start.cast();
    fresh.iovec.iov_len = len as usize;
    fresh.header.msg_iovlen = 1;
    fresh.header.msg_controllen = CONTROL_LEN as _;
    if !name.is_null() {
        fresh.header.msg_name = name.cast();
        fresh.header.msg_namelen = ADDRESS_LEN;
    }
    // SAFETY: valid for writes, says the caller; so are its fields, whose addresses are taken without a reference.
    let header = unsafe {
        fresh.header.msg_iov = &raw mut (*message).iovec;
        fresh.header.msg_control = (&raw mut (*message).control).cast();
        message.write(fresh);
        &raw mut (*message).header
    };
    opcode::RecvMsg::new(SOCKET, header)
        .flags(libc::MSG_DONTWAIT.cast_unsigned())
        .build()
}

/// Says what a failure to set up io_uring means.
pub(in crate::rx) fn refused(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel has no io_uring, or a seccomp filter hides it",
        ),
        // EPERM is also what /proc/sys/kernel/io_uring_disabled answers: at 2 to everybody, at 1 to whoever has not
        // CAP_SYS_ADMIN and is not in the group that is let in (io_uring_setup(2)).
        Some(libc::EPERM | libc::EACCES) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "io_uring is forbidden here, by the sysctl kernel.io_uring_disabled or a seccomp filter",
        ),
        _ => io::Error::new(error.kind(), format!("io_uring: {error}")),
    }
}

/// What is said when the kernel took no request, however often it was asked.
#[cold]
fn no_memory() -> io::Error {
    let error = "io_uring took no request: the kernel is short of memory";
    io::Error::new(io::ErrorKind::OutOfMemory, error)
}

/// Whether the kernel knows the requests that are made here.
fn can_receive(ring: &IoUring) -> io::Result<()> {
    let cannot = || {
        let error = "the io_uring of this kernel cannot receive, which needs Linux 5.6";
        io::Error::new(io::ErrorKind::Unsupported, error)
    };
    let mut probe = Probe::new();
    match ring.submitter().register_probe(&mut probe) {
        Ok(()) => {}
        // "opcode ... is invalid" (io_uring_register(2)): the probe came with Linux 5.6, as did receiving.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Err(cannot()),
        Err(error) => return Err(refused(error)),
    }
    let known = [opcode::Recv::CODE, opcode::RecvMsg::CODE];
    let known = known.iter().all(|code| probe.is_supported(*code));
    known.then_some(()).ok_or_else(cannot)
}

/// Index of the socket among the registered files.
const SOCKET: types::Fixed = types::Fixed(0);

/// How often a kernel short of memory is asked to take requests, before the caller hears of it.
const SUBMIT_TRIES: u32 = 4;

/// By how much the number of requests grows when all of the last ones brought something.
const GROWTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback;
    use crate::rx::TRAIN_FRAMES;
    use crate::rx::conformance::{Receiver, Source, conformance};
    use crate::udp::UdpOptions;
    use std::thread;

    conformance!(Uring);

    #[test]
    fn the_number_of_requests_follows_what_comes() {
        let source = Source::trains();
        let Some(mut receiver) = source.receiver::<Uring>(64) else {
            return;
        };
        let mut frames_and_next = || {
            receiver.receive_raw();
            let frames = receiver.batch.frames();
            receiver.batch.release(&mut receiver.slab);
            (frames, receiver.queue.take)
        };
        assert_eq!(frames_and_next(), (0, 1), "an idle socket is asked once");
        (0..100).for_each(|_| source.send(b"alone"));
        let grown: Vec<_> = (0..5).map(|_| frames_and_next()).collect();
        assert_eq!(grown, [(1, 4), (4, 16), (16, 64), (64, 64), (15, 15)]);
        (0..30).for_each(|_| source.send_train(&[1; 1000], 100));
        assert_eq!(frames_and_next(), (15, TRAIN_FRAMES));
        assert_eq!(frames_and_next(), (TRAIN_FRAMES, TRAIN_FRAMES));
    }

    #[test]
    fn requests_that_the_kernel_did_not_take_come_first_next_time() {
        for source in [Source::plain(), Source::trains()] {
            let Some(mut receiver) = source.receiver::<Uring>(8) else {
                return;
            };
            (0_u8..12).for_each(|number| source.send(&[number]));
            // As a kernel short of memory leaves it: eight requests written, three taken.
            receiver.queue.slab = Some(receiver.slab.id());
            receiver.queue.prepare(&mut receiver.slab, 8).unwrap();
            receiver.queue.disarm(&mut receiver.slab);
            assert_eq!(receiver.slab.free(), 8, "of 16: a request has its frame");
            receiver.batch = Batch::new(3);
            let mut seen = Vec::new();
            loop {
                receiver.receive_raw();
                if receiver.batch.is_empty() {
                    break;
                }
                let datagrams = receiver.batch.datagrams(&receiver.slab);
                seen.extend(datagrams.map(|datagram| datagram.bytes[0]));
                receiver.batch.release(&mut receiver.slab);
            }
            assert_eq!(seen, Vec::from_iter(0..12));
        }
    }

    #[test]
    fn a_kernel_short_of_memory_is_told_of_and_loses_nothing() {
        for errno in [libc::EAGAIN, libc::EBUSY] {
            let source = Source::plain();
            let Some(mut receiver) = source.receiver::<Uring>(8) else {
                return;
            };
            (0_u8..12).for_each(|number| source.send(&[number]));
            // On a thread of its own: a seccomp filter is there for its life.
            let short = thread::spawn(move || {
                let forbidden = loopback::forbid(libc::SYS_io_uring_enter, errno);
                let Receiver { queue, slab, batch } = &mut receiver;
                let received = forbidden.map(|()| queue.recv(slab, batch));
                (receiver, received)
            });
            let (mut receiver, received) = short.join().unwrap();
            match received {
                Err(error) => return loopback::skip(&format!("no seccomp filter: {error}")),
                Ok(received) => {
                    assert_eq!(received.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
                }
            }
            assert!(receiver.batch.is_empty());
            let seen: Vec<u8> = receiver.receive_all().into_iter().flatten().collect();
            assert_eq!(seen, Vec::from_iter(0..12));
        }
    }

    #[test]
    fn the_port_is_free_as_soon_as_queue_and_socket_are_gone() {
        let mut addr = "127.0.0.1:0".parse().unwrap();
        for _ in 0..50 {
            let socket = Arc::new(UdpSocket::bind(addr, &UdpOptions::default()).unwrap());
            addr = socket.local_addr().unwrap();
            let Ok(mut queue) = Uring::open(socket, 4) else {
                loopback::skip("io_uring cannot be opened");
                return;
            };
            queue
                .recv(&mut Slab::new(4).unwrap(), &mut Batch::new(4))
                .unwrap();
        }
    }

    #[test]
    fn a_queue_works_on_another_thread_than_the_one_that_opened_it() {
        let source = Source::plain();
        let Some(mut receiver) = source.receiver::<Uring>(4) else {
            return;
        };
        source.send(b"first");
        receiver.receive_raw();
        receiver.batch.release(&mut receiver.slab);
        source.send(b"second");
        let received = thread::spawn(move || {
            receiver.receive_raw();
            receiver.batch.len()
        });
        assert_eq!(received.join().unwrap(), 1);
    }

    #[test]
    fn where_io_uring_is_missing_or_forbidden_opening_says_so() {
        use libc::{SYS_io_uring_register as REGISTER, SYS_io_uring_setup as SETUP};
        for (call, errno, kind, words) in [
            (
                SETUP,
                libc::ENOSYS,
                io::ErrorKind::Unsupported,
                "has no io_uring",
            ),
            (
                SETUP,
                libc::EPERM,
                io::ErrorKind::PermissionDenied,
                "kernel.io_uring_disabled",
            ),
            (
                SETUP,
                libc::ENOMEM,
                io::ErrorKind::OutOfMemory,
                "io_uring: ",
            ),
            (
                REGISTER,
                libc::EACCES,
                io::ErrorKind::PermissionDenied,
                "kernel.io_uring_disabled",
            ),
            (
                REGISTER,
                libc::EINVAL,
                io::ErrorKind::Unsupported,
                "cannot receive",
            ),
        ] {
            // On a thread of its own: a seccomp filter is there for its life.
            let opened = thread::spawn(move || {
                loopback::forbid(call, errno).map(|()| {
                    let socket =
                        UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &UdpOptions::default());
                    Uring::open(Arc::new(socket.unwrap()), 4)
                })
            });
            match opened.join().unwrap() {
                Err(error) => loopback::skip(&format!("no seccomp filter: {error}")),
                Ok(opened) => {
                    let error = opened.unwrap_err();
                    assert_eq!(error.kind(), kind);
                    assert!(error.to_string().contains(words), "{error}");
                }
            }
        }
    }
}
