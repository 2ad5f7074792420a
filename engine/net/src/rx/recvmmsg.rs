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
//! again from the back to the front. So only as many slots are rewritten as frames were filled.
//!
//! Where trains come (`UDP_GRO`), one call takes fewer frames: 64 trains would be 4000 datagrams between two looks at
//! the clock, and the first would be read when they have left the cache. The slots behind the first few stay armed
//! and unused until datagrams come alone again.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use crate::address::{ADDRESS_LEN, Address};
use crate::batch::Batch;
use crate::bell::Bell;
use crate::cmsg::{CONTROL_LEN, Control};
use crate::rx::{
    OpenQueue, RxQueue, frames_max, is_about_something_sent, slots_in_range, wait_for,
};
use crate::slab::{FrameId, Slab};
use crate::udp::UdpSocket;

/// Receives datagrams of one [`UdpSocket`], by up to as many per system call as it has slots.
///
/// Unless [asked](RxQueue::ask_sources), it asks for no source address.
pub struct RecvMmsg {
    socket: Arc<UdpSocket>,
    headers: Vec<libc::mmsghdr>,
    /// What `headers` point at, slot by slot. Neither vector ever grows, so the addresses stay when `self`
    /// moves. Written through `as_mut_ptr` only: a `&mut` to one of them would end the headers' right to it.
    iovecs: Vec<libc::iovec>,
    /// Where the kernel says how a train is to be cut, slot by slot, with the same rules; empty when the socket
    /// has no `UDP_GRO`.
    controls: Vec<Control>,
    /// Where the kernel says where a datagram came from, slot by slot, with the same rules; empty unless that is asked
    /// for.
    names: Vec<Address>,
    /// How many frames the next call may fill.
    take: usize,
    /// The frames of the slots `slots - armed.len()..`, last slot first.
    armed: Vec<FrameId>,
    /// Id of the slab the armed frames belong to.
    slab: Option<u64>,
}

impl OpenQueue for RecvMmsg {
    /// Works everywhere and needs no privilege.
    fn open(socket: Arc<UdpSocket>, slots: usize) -> io::Result<Self> {
        slots_in_range(slots)?;
        let nowhere = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        let mut iovecs = vec![nowhere; slots];
        let mut controls = vec![Control::EMPTY; if socket.gro() { slots } else { 0 }];
        let (iovec, control) = (iovecs.as_mut_ptr(), controls.as_mut_ptr());
        let control_of = |slot| match socket.gro() {
            true => control.wrapping_add(slot),
            false => ptr::null_mut(),
        };
        Ok(Self {
            headers: (0..slots)
                .map(|slot| header(iovec.wrapping_add(slot), control_of(slot)))
                .collect(),
            socket,
            iovecs,
            controls,
            names: Vec::new(),
            take: slots,
            armed: Vec::with_capacity(slots),
            slab: None,
        })
    }
}

impl RecvMmsg {
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
            // "upon return from a successful call it will contain the length of the control message sequence"
            // (recvmsg(2)), so it has to be told anew.
            if !self.controls.is_empty() {
                self.headers[slot].msg_hdr.msg_controllen = CONTROL_LEN as _;
            }
            // Likewise: "value-result", the length of the address.
            if !self.names.is_empty() {
                self.headers[slot].msg_hdr.msg_namelen = ADDRESS_LEN;
            }
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
        //   specified in vlen": a slice of ours, at most 1024 long. Each header names one iovec in `self.iovecs`
        //   and, if `msg_controllen` is not 0, a control buffer in `self.controls`; and an address in `self.names`
        //   or none. All live as long as `self`.
        // - Each iovec from `first` on was set in `arm`, to a frame whose `FrameId` is in `self.armed`: the
        //   mapping is there (`recv` has the slab, `arm` compared its id) and nobody else may touch it.
        // - "MSG_DONTWAIT: Enables nonblocking operation" (recv(2)); "The timeout argument does not work as
        //   intended", so it is null. (recvmmsg(2))
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                u32::try_from(headers.len()).expect("at most SLOTS_MAX"),
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Moves the frame of a filled slot to the batch.
    #[inline]
    fn hand_over(&mut self, slot: usize, batch: &mut Batch) {
        // MSG_CTRUNC: the kernel had more control data than we have room for, so a segment length may be missing.
        // It writes no other message unasked, but a train taken for one datagram must not pass as whole.
        const INCOMPLETE: libc::c_int = libc::MSG_TRUNC | libc::MSG_CTRUNC;
        let frame = self.armed.pop().expect("only armed slots are filled");
        let header = &self.headers[slot];
        let incomplete = header.msg_hdr.msg_flags & INCOMPLETE != 0;
        let segment_len = match self.controls.get(slot) {
            None => None,
            Some(control) => control.segment_len(header.msg_hdr.msg_controllen as _),
        };
        let len = header.msg_len;
        batch.push_segments(frame, len, segment_len.unwrap_or(len), incomplete);
        if slot < self.names.len() {
            // SAFETY: `slot` is in range, the kernel is done with it, and nobody has a `&mut` to it.
            let name = unsafe { &*self.names.as_ptr().add(slot) };
            batch.came_from(name.written(header.msg_hdr.msg_namelen));
        }
    }
}

impl RxQueue for RecvMmsg {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        debug_assert!(batch.is_empty(), "hand in a released batch");
        self.arm(slab)?;
        let first = self.iovecs.len() - self.armed.len();
        let count = self.armed.len().min(batch.room()).min(self.take);
        if count == 0 {
            return Ok(());
        }
        let received = loop {
            match self.receive(first, count) {
                Ok(received) => break received,
                Err(error) => match error.raw_os_error() {
                    // A signal came: that does not say that the queue is empty, so ask again.
                    Some(libc::EINTR) => {}
                    Some(errno) if is_about_something_sent(errno) => {}
                    // "The socket is marked nonblocking and the receive operation would block"
                    Some(libc::EAGAIN) => return Ok(()),
                    _ => return Err(error),
                },
            }
        };
        let before = batch.len();
        for slot in first..first + received {
            self.hand_over(slot, batch);
        }
        let datagrams = batch.len() - before;
        self.take = frames_max(received, datagrams, self.iovecs.len());
        Ok(())
    }

    fn ask_sources(&mut self) {
        if !self.names.is_empty() {
            return;
        }
        self.names = vec![Address::NONE; self.headers.len()];
        let names = self.names.as_mut_ptr();
        for (slot, header) in self.headers.iter_mut().enumerate() {
            header.msg_hdr.msg_name = names.wrapping_add(slot).cast();
            header.msg_hdr.msg_namelen = ADDRESS_LEN;
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    fn disarm(&mut self, slab: &mut Slab) {
        // The slots are pointed at frames again before the kernel is asked to fill them.
        self.armed.drain(..).for_each(|frame| slab.release(frame));
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

    fn queued_bytes(&self) -> io::Result<u64> {
        self.socket.queued_bytes()
    }
}

// SAFETY: the raw pointers are `headers` to `iovecs`, `controls` and `names`, which the queue owns and which move
// with it, and `iovecs` to frames, which are used only in `recv` together with the slab, on whatever thread has both.
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

/// A header that asks for no address yet, with `iovec` as its one buffer, and with a place for control data unless
/// `control` is null.
fn header(iovec: *mut libc::iovec, control: *mut Control) -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is plain integers and pointers, for which zero is a value. (It has private padding
    // on some C libraries, so it cannot be written out.)
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = iovec;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control.cast();
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rx::TRAIN_FRAMES;
    use crate::rx::conformance::{Source, conformance};

    conformance!(RecvMmsg);

    #[test]
    fn trains_are_taken_by_few_frames_and_datagrams_by_all_slots() {
        let source = Source::trains();
        let mut receiver = source
            .receiver::<RecvMmsg>(32)
            .expect("needs nothing special");
        let frames_per_call = |receiver: &mut crate::rx::conformance::Receiver<RecvMmsg>| {
            receiver.receive_raw();
            let frames = receiver.batch.frames();
            receiver.batch.release(&mut receiver.slab);
            frames
        };
        (0..40).for_each(|_| source.send_train(&[1; 1000], 100));
        assert_eq!(frames_per_call(&mut receiver), 32);
        assert_eq!(frames_per_call(&mut receiver), TRAIN_FRAMES);
        assert_eq!(frames_per_call(&mut receiver), 0);
        (0..80).for_each(|_| source.send(b"alone"));
        assert_eq!(frames_per_call(&mut receiver), TRAIN_FRAMES);
        assert_eq!(frames_per_call(&mut receiver), 32);
    }
}
