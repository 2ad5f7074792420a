//! Receiving: the trait that every backend fills, one file per backend.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::bell::Bell;
use crate::slab::Slab;
use crate::sys::poll;
use crate::udp::UdpSocket;

/// What every backend has to do, as tests.
#[cfg(test)]
pub(crate) mod conformance;

/// `recvmmsg(2)`: many datagrams per system call; works everywhere, needs no privilege.
pub mod recvmmsg;
/// Bytes of connections: the receive trait for streams.
pub mod stream;
/// io_uring: requests that complete while they are submitted.
pub mod uring;

/// A source of datagrams for one shard.
///
/// Used by one thread at a time, always with the same slab: a backend may hold frames of it between calls.
/// Receiving and waiting are apart, so that the caller decides how long to ask again before it sleeps, and
/// may serve more than one queue.
pub trait RxQueue {
    /// Fills `batch` with what is there, at most the frames it has room for, in the order of arrival. Never waits.
    ///
    /// **An empty batch means that nothing was there.** With new arrivals shut off, and
    /// [`queued_bytes`](Self::queued_bytes) at 0, it stays so.
    ///
    /// The datagrams belong to the caller until [`Batch::release`]; hand in a released batch.
    ///
    /// # Errors
    /// Only what another call cannot be expected to overcome by itself. Interruption by a signal and a pending
    /// ICMP error are no errors; a kernel short of memory is asked again a few times. On an error the batch is as it
    /// was, nothing that was queued is lost, and a later call goes on.
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()>;

    /// Has each datagram from now on say [where it came from](crate::Datagram::source); not to be undone.
    ///
    /// **Off unless asked**, because the kernel copies an address for each datagram or train then: 60 ns by
    /// [`RecvMmsg`](crate::RecvMmsg), 180 by [`Uring`](crate::Uring), which needs a message header for it
    /// (`cargo bench -p binrush-engine --bench datagrams`). Before the first [`recv`](Self::recv). Allocates. A queue whose
    /// datagrams come from nowhere has nothing to do.
    fn ask_sources(&mut self) {}

    /// Where its datagrams arrive, as its socket is bound: unspecified for one that takes those of all addresses of the
    /// host. `None`: nobody knows.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Memory of the kernel, in bytes, that datagrams not received yet take; 0 only if there are none, once
    /// [`drop_all`](UdpSocket::drop_all) has returned. Before that, one may be on its way into the queue.
    ///
    /// Each datagram, or train of them, takes at least [`QUEUED_LEN_MIN`]. May be more than there is while others
    /// receive or send.
    ///
    /// # Errors
    /// What asking the kernel met.
    fn queued_bytes(&self) -> io::Result<u64>;

    /// Gives back the frames that the queue holds between calls; for one that is about to go while its slab stays.
    ///
    /// What a later [`recv`](Self::recv) needs, it takes again. After a `recv` that failed a backend may keep those
    /// which the kernel was about to fill: a later `recv` fills them, and they are lost to the slab when the queue goes.
    fn disarm(&mut self, slab: &mut Slab);

    /// Returns when something may be there to receive from one of `queues`, when the descriptor `also` is readable or in
    /// error, when `bell` has rung, and after `timeout` in any case. May return early.
    ///
    /// Takes all queues of one shard, at most [`WAIT_QUEUES_MAX`], so that it sleeps once for all of them, and for its
    /// connections, which are behind one descriptor ([`StreamQueue::as_raw_fd`](stream::StreamQueue::as_raw_fd)). What
    /// the bell asks of its owner, [`Bell`] says.
    ///
    /// # Errors
    /// What waiting itself met; that nothing came is no error. `InvalidInput` for too many queues.
    fn wait(
        queues: &mut [Self],
        also: Option<RawFd>,
        bell: &Bell,
        timeout: Duration,
    ) -> io::Result<()>
    where
        Self: Sized;
}

/// A backend that receives from a socket.
pub trait OpenQueue: RxQueue + Sized {
    /// A queue that takes up to `slots` frames per call, 1 to [`SLOTS_MAX`]; 32 to 128 pay. It holds as many frames
    /// of the slab between calls.
    ///
    /// Call it on the thread that will receive: a backend may be tied to it.
    ///
    /// # Errors
    /// `InvalidInput` when `slots` is out of range; what making the queue met, when the kernel has no such
    /// backend or forbids it.
    fn open(socket: Arc<UdpSocket>, slots: usize) -> io::Result<Self>;
}

/// What a queued datagram or train takes at least, in bytes of kernel memory: the `struct sk_buff` alone is as
/// large. So [`RxQueue::queued_bytes`] bounds the frames that can be received, not the datagrams: a train has up to 128.
pub const QUEUED_LEN_MIN: u64 = 256;

/// The most slots a queue can have: `UIO_MAXIOV`, what `recvmmsg` takes per call.
pub const SLOTS_MAX: usize = 1024;

/// The most queues one thread can wait for.
pub const WAIT_QUEUES_MAX: usize = poll::FDS_MAX - 2;

/// For [`OpenQueue::open`].
fn slots_in_range(slots: usize) -> io::Result<()> {
    if (1..=SLOTS_MAX).contains(&slots) {
        return Ok(());
    }
    let error = format!("a receive queue has 1 to {SLOTS_MAX} slots, not {slots}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Whether the failure of a receive is about something that was sent before: an ICMP message about it came in. It is
/// told once and says nothing of what is queued, so ask again.
///
/// These are what ICMP becomes at a connected socket that asked for nothing more (`icmp_err_convert` of
/// `net/ipv4/icmp.c`, `__udp4_lib_err` of `net/ipv4/udp.c`), but for `EACCES`, which comes of IPv6 alone and is also a
/// security module's lasting answer.
fn is_about_something_sent(errno: libc::c_int) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EMSGSIZE
    )
}

/// How many frames the next call may fill, when the last one filled `frames` with so many datagrams.
fn frames_max(frames: usize, datagrams: usize, slots: usize) -> usize {
    if datagrams < frames * TRAIN_DATAGRAMS {
        slots
    } else {
        slots.min(TRAIN_FRAMES)
    }
}

/// Frames per call while trains come. From 4 to 64 the cost per datagram differs by less than 5 %; few keep a batch
/// short, 512 datagrams of trains of 64.
const TRAIN_FRAMES: usize = 8;

/// Datagrams per frame from which on it is trains that come. Below, the system calls would be felt.
const TRAIN_DATAGRAMS: usize = 4;

/// [`RxQueue::wait`] for backends that leave nothing behind between calls, so that their sockets tell all.
fn wait_for<'a>(
    sockets: impl Iterator<Item = &'a UdpSocket>,
    also: Option<RawFd>,
    bell: &Bell,
    timeout: Duration,
) -> io::Result<()> {
    let fds = sockets.map(AsRawFd::as_raw_fd);
    poll::readable(fds.chain(also).chain([bell.as_raw_fd()]), timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_icmp_says_of_something_sent_is_no_failure_and_what_may_last_is_one() {
        for errno in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::EPROTO] {
            assert!(is_about_something_sent(errno));
        }
        for errno in [0, libc::EAGAIN, libc::EACCES, libc::EBADF, libc::ENOMEM] {
            assert!(!is_about_something_sent(errno));
        }
    }
}
