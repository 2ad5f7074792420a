//! The portable backend: one `recvmmsg(2)` per batch.
//!
//! ```text
//!   slot        0      1      2      3      4     ...  slots-1
//!             ┌──────┬──────┬──────┬──────┬──────┬───┬──────┐
//!   headers   │      │      │  ●   │  ●   │  ●   │   │  ●   │   ● = iovec points at an armed frame
//!             └──────┴──────┴──┬───┴──────┴──────┴───┴──────┘
//!                              └ first = slots - armed.len(): the kernel fills from here on
//! ```
//!
//! Frames that were filled leave with the batch, from the front; before the next call the gap is armed
//! again from the back to the front. So only as many slots are rewritten as datagrams came.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::rx::RxQueue;
use crate::slab::{FrameId, Slab};
use crate::udp::UdpSocket;

/// Receives datagrams of one [`UdpSocket`].
///
/// Asks for no source address: that costs 90 ns per datagram, as much as all work of the engine on it.
pub struct RecvMmsg {
    socket: Arc<UdpSocket>,
    headers: Vec<libc::mmsghdr>,
    /// What `headers` point at, slot by slot. Neither vector ever grows, so the addresses stay when `self`
    /// moves. Written through `as_mut_ptr` only: a `&mut` to one of them would end the headers' right to it.
    iovecs: Vec<libc::iovec>,
    /// The frames of the slots `slots - armed.len()..`, last slot first.
    armed: Vec<FrameId>,
    /// Id of the slab the armed frames belong to.
    slab: Option<u64>,
}

impl RecvMmsg {
    /// A queue that takes up to `slots` datagrams per system call; 32 to 128 pay, the kernel's limit is 1024.
    ///
    /// # Panics
    /// When `slots` is zero or above 1024: the kernel would cut it silently (`UIO_MAXIOV`).
    #[must_use]
    pub fn new(socket: Arc<UdpSocket>, slots: usize) -> Self {
        assert!(
            (1..=SLOTS_MAX).contains(&slots),
            "1 to {SLOTS_MAX} slots, not {slots}"
        );
        let nowhere = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        let mut iovecs = vec![nowhere; slots];
        let base = iovecs.as_mut_ptr();
        Self {
            socket,
            headers: (0..slots)
                .map(|slot| header(base.wrapping_add(slot)))
                .collect(),
            iovecs,
            armed: Vec::with_capacity(slots),
            slab: None,
        }
    }

    /// Points every empty slot at a frame of `slab`, as far as there are free ones.
    fn arm(&mut self, slab: &mut Slab) -> io::Result<()> {
        // The iovecs keep addresses between calls: they are good only for the mapping they came from.
        let known = *self.slab.get_or_insert_with(|| slab.id());
        assert_eq!(known, slab.id(), "a queue stays with its slab");
        while self.armed.len() < self.iovecs.len() {
            let Some(frame) = slab.take() else { break };
            let slot = self.iovecs.len() - self.armed.len() - 1;
            let iovec = libc::iovec {
                iov_base: slab.frame_ptr(&frame).cast(),
                iov_len: slab.frame_len(),
            };
            // SAFETY: `slot` is below `iovecs.len()`, and nobody has a reference to an iovec. The pointer has
            // the origin of those in `headers` ("does not materialize a reference", `Vec::as_mut_ptr`), so
            // those stay good.
            unsafe { self.iovecs.as_mut_ptr().add(slot).write(iovec) };
            self.armed.push(frame);
        }
        if self.armed.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the slab has no free frame",
            ));
        }
        Ok(())
    }

    /// Fills slots from `first` on, at most `count`; says how many.
    fn receive(&mut self, first: usize, count: usize) -> io::Result<usize> {
        let headers = &mut self.headers[first..][..count];
        // SAFETY:
        // - `sockfd`: open, since `self.socket` is.
        // - "The msgvec argument is a pointer to an array of mmsghdr structures. The size of this array is
        //   specified in vlen": a slice of ours, at most 1024 long. Each header names no address and no
        //   control buffer, and one iovec in `self.iovecs`, which lives as long as `self`.
        // - Each iovec from `first` on was set in `arm`, to a frame whose `FrameId` is in `self.armed`: the
        //   mapping is there (`recv` has the slab, `arm` compared its id) and nobody else may touch it.
        // - "MSG_DONTWAIT: Enables nonblocking operation" (recv(2)); "The timeout argument does not work as
        //   intended", so it is null. (recvmmsg(2))
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                u32::try_from(headers.len()).expect("at most SLOTS_MAX"),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }
}

impl RxQueue for RecvMmsg {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        self.arm(slab)?;
        let first = self.iovecs.len() - self.armed.len();
        let count = self.armed.len().min(batch.room());
        if count == 0 {
            return Ok(());
        }
        let received = loop {
            match self.receive(first, count) {
                Ok(received) => break received,
                Err(error) => match error.raw_os_error() {
                    // A signal came, or an ICMP message about something we sent: neither says that the
                    // queue is empty, so ask again.
                    Some(libc::EINTR | libc::ECONNREFUSED) => {}
                    // "The socket is marked nonblocking and the receive operation would block"
                    Some(libc::EAGAIN) => return Ok(()),
                    _ => return Err(error),
                },
            }
        };
        for header in &self.headers[first..][..received] {
            let frame = self
                .armed
                .pop()
                .expect("no more filled slots than armed ones");
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            batch.push(frame, header.msg_len, truncated);
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let mut queue = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // Rounded up, so that a short wait does not become none.
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
        // SAFETY: "The caller should specify the number of items in the fds array in nfds" (poll(2)): one, on
        // this stack frame.
        if unsafe { libc::poll(&raw mut queue, 1, millis) } >= 0 {
            // Also for an error of the socket: `recv` hears of it.
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        }
    }

    fn queued_bytes(&self) -> io::Result<u64> {
        self.socket.queued_bytes()
    }
}

// SAFETY: the raw pointers are `headers` to `iovecs`, which the queue owns and which moves with it, and
// `iovecs` to frames, which are used only in `recv` together with the slab, on whatever thread has both.
unsafe impl Send for RecvMmsg {}

impl fmt::Debug for RecvMmsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvMmsg")
            .field("socket", &self.socket)
            .field("slots", &self.iovecs.len())
            .field("armed", &self.armed.len())
            .finish_non_exhaustive()
    }
}

/// A header that asks for no address and no control data, with `iovec` as its one buffer.
fn header(iovec: *mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is plain integers and pointers, for which zero is a value. (It has private padding
    // on some C libraries, so it cannot be written out.)
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = iovec;
    header.msg_hdr.msg_iovlen = 1;
    header
}

/// `UIO_MAXIOV`: the kernel takes no more per call.
const SLOTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::{self, V4};
    use crate::udp::UdpOptions;
    use std::net::{IpAddr, SocketAddr, UdpSocket as Peer};
    use std::time::Instant;

    fn pair(listen: IpAddr) -> (Arc<UdpSocket>, Peer) {
        let free = SocketAddr::new(listen, 0);
        let socket = UdpSocket::bind(free, &UdpOptions::default()).unwrap();
        let peer = Peer::bind(free).unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        (Arc::new(socket), peer)
    }

    fn collect(queue: &mut RecvMmsg, slab: &mut Slab, batch: &mut Batch) -> Vec<Vec<u8>> {
        queue.recv(slab, batch).unwrap();
        let seen = batch
            .datagrams(slab)
            .map(|datagram| datagram.bytes.to_vec())
            .collect();
        batch.release(slab);
        seen
    }

    #[test]
    fn datagrams_come_in_order_over_many_batches_and_every_frame_comes_back() {
        for listen in loopback::addresses() {
            let (socket, peer) = pair(listen);
            let (mut slab, mut batch) = (Slab::new(7).unwrap(), Batch::new(4));
            let mut queue = RecvMmsg::new(socket, 5);
            for round in 0_u16..40 {
                // Bursts of every size from one to more than batch, slots and slab hold.
                let sent: Vec<Vec<u8>> = (0..=round % 9)
                    .map(|n| [round.to_le_bytes(), n.to_le_bytes()].concat())
                    .collect();
                sent.iter()
                    .for_each(|bytes| assert_eq!(peer.send(bytes).unwrap(), 4));
                let mut seen = Vec::new();
                while seen.len() < sent.len() {
                    seen.extend(collect(&mut queue, &mut slab, &mut batch));
                }
                assert_eq!(seen, sent);
                assert_eq!(slab.free() + queue.armed.len(), 7);
            }
            assert!(collect(&mut queue, &mut slab, &mut batch).is_empty());
        }
    }

    #[test]
    fn an_empty_datagram_is_a_datagram() {
        let (socket, peer) = pair(V4);
        let (mut slab, mut batch) = (Slab::new(4).unwrap(), Batch::new(4));
        peer.send(b"").unwrap();
        let seen = collect(&mut RecvMmsg::new(socket, 4), &mut slab, &mut batch);
        assert_eq!(seen, [b""]);
    }

    #[test]
    fn the_largest_datagram_fits_into_a_frame() {
        let (socket, peer) = pair(V4);
        let (mut slab, mut batch) = (Slab::new(1).unwrap(), Batch::new(1));
        let largest = vec![0xA5; 65_507];
        peer.send(&largest).unwrap();
        let seen = collect(&mut RecvMmsg::new(socket, 1), &mut slab, &mut batch);
        assert!(seen == [largest]);
    }

    #[test]
    fn what_does_not_fit_is_marked_and_the_next_one_is_whole() {
        let (socket, peer) = pair(V4);
        let (mut slab, mut batch) = (Slab::with_frame_len(4, 100).unwrap(), Batch::new(4));
        let mut queue = RecvMmsg::new(socket, 4);
        for len in [100, 101, 8] {
            peer.send(&vec![7; len]).unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() < 3 {
            queue.recv(&mut slab, &mut batch).unwrap();
            seen.extend(
                batch
                    .datagrams(&slab)
                    .map(|datagram| (datagram.bytes.len(), datagram.truncated)),
            );
            batch.release(&mut slab);
        }
        assert_eq!(seen, [(100, false), (100, true), (8, false)]);
    }

    #[test]
    fn a_slab_without_a_free_frame_is_an_error_and_heals() {
        let (socket, peer) = pair(V4);
        let (mut slab, mut batch) = (Slab::new(1).unwrap(), Batch::new(1));
        let mut queue = RecvMmsg::new(socket, 1);
        let held = slab.take().unwrap();
        peer.send(b"later").unwrap();
        let error = queue.recv(&mut slab, &mut batch).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        slab.release(held);
        assert_eq!(collect(&mut queue, &mut slab, &mut batch), [b"later"]);
    }

    #[test]
    fn a_receive_never_waits_and_a_wait_ends_when_something_comes() {
        let (socket, peer) = pair(V4);
        let (mut slab, mut batch) = (Slab::new(1).unwrap(), Batch::new(1));
        let mut queue = RecvMmsg::new(socket, 1);
        assert!(collect(&mut queue, &mut slab, &mut batch).is_empty());
        let start = Instant::now();
        queue.wait(Duration::from_millis(20)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(queue.queued_bytes().unwrap(), 0);

        peer.send(b"now").unwrap();
        // Far longer than the test may take: the datagram ends it.
        queue.wait(Duration::from_secs(3600)).unwrap();
        assert!(queue.queued_bytes().unwrap() >= crate::rx::QUEUED_LEN_MIN);
        assert_eq!(collect(&mut queue, &mut slab, &mut batch), [b"now"]);
        assert_eq!(queue.queued_bytes().unwrap(), 0);
    }

    #[test]
    #[should_panic(expected = "a queue stays with its slab")]
    fn a_queue_refuses_a_second_slab() {
        let (socket, _peer) = pair(V4);
        let (mut one, mut two) = (Slab::new(2).unwrap(), Slab::new(2).unwrap());
        let mut queue = RecvMmsg::new(socket, 1);
        queue.recv(&mut one, &mut Batch::new(1)).unwrap();
        let _ = queue.recv(&mut two, &mut Batch::new(1));
    }
}
