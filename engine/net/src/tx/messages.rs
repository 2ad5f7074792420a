//! What `sendmmsg(2)` is given: a header for each datagram or train, and what the headers point at.
//!
//! ```text
//!   headers   │ name, iovec, control │ name, iovec, - │ ...     one system call
//!                │      │       └──▶ UDP_SEGMENT = 200
//!                │      └──────────▶ 640 bytes of the batch: datagrams of 200, 200, 200 and 40
//!                └─────────────────▶ 192.0.2.7:5555
//! ```

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::ptr;

use super::TxBatch;
use crate::address::Address;
use crate::cmsg::{CONTROL_LEN, Control};

/// Places for the messages of one system call; used again for every call.
pub(super) struct Messages {
    slots: Box<[Slot; MESSAGES_MAX]>,
    headers: Vec<libc::mmsghdr>,
}

/// What the header of the same place points at.
#[derive(Clone, Copy)]
struct Slot {
    name: Address,
    control: Control,
    iovec: libc::iovec,
    /// Datagrams in the message.
    count: usize,
}

/// Messages that point into a batch, which therefore stays as it is until they are gone.
pub(super) struct Prepared<'a> {
    messages: &'a mut Messages,
    /// The iovecs point into it.
    batch: PhantomData<&'a TxBatch>,
}

impl Messages {
    pub(super) fn new() -> Self {
        let empty = Slot {
            name: Address::NONE,
            control: Control::EMPTY,
            iovec: libc::iovec {
                iov_base: ptr::null_mut(),
                iov_len: 0,
            },
            count: 0,
        };
        Self {
            slots: Box::new([empty; MESSAGES_MAX]),
            headers: Vec::with_capacity(MESSAGES_MAX),
        }
    }

    /// Messages for the datagrams of `batch` from `first` on, as many as there are places for. Trains have up to
    /// `segments_max` datagrams; those before `alone_until` go alone.
    pub(super) fn prepare<'a>(
        &'a mut self,
        batch: &'a TxBatch,
        mut first: usize,
        segments_max: usize,
        alone_until: usize,
    ) -> Prepared<'a> {
        let mut used = 0;
        while first < batch.len() && used < MESSAGES_MAX {
            let segments_max = if first < alone_until { 1 } else { segments_max };
            let count = batch.train(first, segments_max);
            self.slots[used] = Slot::of(batch, first, count);
            used += 1;
            first += count;
        }
        // Only now: writing to a slot afterwards would end the right of a pointer to it.
        let base = self.slots.as_mut_ptr();
        self.headers.clear();
        self.headers
            .extend((0..used).map(|slot| header(base.wrapping_add(slot))));
        Prepared {
            messages: self,
            batch: PhantomData,
        }
    }
}

impl Prepared<'_> {
    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.messages.headers.len()
    }

    /// How many datagrams are in a message.
    pub(super) fn count(&self, message: usize) -> usize {
        self.messages.slots[message].count
    }

    /// Hands the messages from `first` on to the kernel, without waiting; how many it took, at least one. An error
    /// is about the message `first`.
    pub(super) fn send(&mut self, socket: RawFd, first: usize) -> io::Result<usize> {
        let headers = &mut self.messages.headers[first..];
        // SAFETY:
        // - `sockfd`: one that is not open, or no socket, is an error of the call.
        // - "The msgvec argument is a pointer to an array of mmsghdr structures. The size of this array is
        //   specified in vlen" (sendmmsg(2)): a slice of ours, at most `MESSAGES_MAX` long.
        // - Each header points at a slot of `self.messages`, which `prepare` filled and which nobody can change
        //   while `self` has it: an address and a control message with their lengths, and one iovec. The iovec names
        //   bytes of the batch, borrowed for as long; the kernel reads them and no more.
        // - "MSG_DONTWAIT: Enables nonblocking operation" (send(2)).
        let taken = unsafe {
            libc::sendmmsg(
                socket,
                headers.as_mut_ptr(),
                u32::try_from(headers.len()).expect("at most MESSAGES_MAX"),
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        match usize::try_from(taken) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => Ok(taken),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl Slot {
    /// `count` datagrams of `batch` from `first` on, as one message.
    fn of(batch: &TxBatch, first: usize, count: usize) -> Self {
        let train = &batch.outgoing[first..][..count];
        let bytes = &batch.bytes[train[0].start..][..train.iter().map(|at| at.len).sum()];
        Self {
            name: Address::of(train[0].to),
            control: if count > 1 {
                Control::of_train(train[0].len)
            } else {
                Control::EMPTY
            },
            iovec: libc::iovec {
                // "msg_iov: scatter/gather array": not written to by a send, though the type would permit it.
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            },
            count,
        }
    }
}

/// A header that points at `slot`, whose parts stay where they are while it is used.
fn header(slot: *mut Slot) -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is plain integers and pointers, for which zero is a value. (It has private padding
    // on some C libraries, so it cannot be written out.)
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    // SAFETY: `slot` is a filled slot of `Messages`: `prepare` is the only caller. Takes addresses of its parts, and
    // reads two lengths; makes no reference.
    unsafe {
        header.msg_hdr.msg_name = (&raw mut (*slot).name).cast();
        header.msg_hdr.msg_namelen = (*slot).name.len();
        header.msg_hdr.msg_iov = &raw mut (*slot).iovec;
        header.msg_hdr.msg_iovlen = 1;
        if (*slot).count > 1 {
            header.msg_hdr.msg_control = (&raw mut (*slot).control).cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN as _;
        }
    }
    header
}

// SAFETY: the raw pointers are `headers` to `slots`, which the messages own, and iovecs to a batch; they are made anew
// by `prepare`, and used only by what that returns, which borrows both.
unsafe impl Send for Messages {}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

/// Messages per system call: what the call itself costs, shared by so many, is small beside the 2 µs of each.
pub(super) const MESSAGES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn what_goes_alone_has_no_control_message_and_a_train_has_its_segment_length() {
        let mut batch = TxBatch::new(10, 1000);
        let (here, there) = (SocketAddr::from(([1; 4], 1)), SocketAddr::from(([2; 4], 2)));
        for (to, len) in [
            (here, 3),
            (here, 9),
            (here, 9),
            (here, 5),
            (there, 5),
            (there, 0),
        ] {
            assert!(batch.push(to, &[0; 9][..len]));
        }
        let mut messages = Messages::new();
        let prepared = messages.prepare(&batch, 0, 64, 0);
        let counts = |prepared: &Prepared<'_>| {
            (0..prepared.len())
                .map(|at| prepared.count(at))
                .collect::<Vec<_>>()
        };
        assert_eq!(counts(&prepared), [1, 3, 1, 1]);
        let of = |at: usize| prepared.messages.headers[at].msg_hdr;
        assert_eq!((of(0).msg_controllen, of(2).msg_controllen), (0, 0));
        assert_eq!(of(1).msg_controllen, CONTROL_LEN as _);
        assert_eq!(prepared.messages.slots[1].iovec.iov_len, 23);
        assert_eq!(prepared.messages.slots[1].control, Control::of_train(9));

        assert_eq!(counts(&messages.prepare(&batch, 0, 64, 2)), [1, 1, 2, 1, 1]);
        assert_eq!(counts(&messages.prepare(&batch, 3, 1, 0)), [1, 1, 1]);
    }
}
