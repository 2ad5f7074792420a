//! One packet to one callback of C.
//!
//! The callback gets a copy: code written for OpenSIPS writes into what it popped (it terminates strings in place, say), and a
//! received frame is not ours to write. It costs some nanoseconds for a packet of 200 bytes. Behind the copy are zeros, so that who
//! reads one byte past a string finds its end.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::net::SocketAddr;
use std::ptr;

use binrush_wire::{Generation, MAX_PACKET_LEN, Packet};

use super::cursor::{CURSOR, Cursor, Delivering};
use super::packet::{self, WORDS_LEN};
use super::registrations::{Attachment, Callback, ModernCall};
use crate::abi::base::{BinPacket, ReceiveInfo, Str};

/// Where a packet came from, as far as anybody asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin {
    /// The sender.
    pub source: Option<SocketAddr>,
    /// Ours.
    pub local: Option<SocketAddr>,
    /// The node that made it, `src_id` of the 3.x API; 0 is told where it is not known.
    pub node: Option<i32>,
}

/// What becomes of the bytes after the callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Poison {
    /// They stay until the thread's next packet.
    #[default]
    Off,
    /// They are overwritten with 0xA5, so that who kept a popped pointer finds out.
    On,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Delivered {
    /// The callback was called. Not from inside of another one on the same thread, and not one of the 3.x API with a packet that is
    /// framed otherwise.
    pub ran: bool,
    /// A pop answered an error: past the end, or a negative length.
    pub misread: bool,
    /// Pops and skips that answered a value.
    pub popped: u32,
}

/// Calls `callback` with the pops of this thread reading `packet`; afterwards those of the 1.x API answer -2 again.
///
/// Popped pointers are good until it returns. Never unwinds. Allocates once in a thread's life, but for packets that the callback
/// makes longer. On a thread in its last moments, whose memory for copies is gone, nothing is called.
pub fn deliver(
    callback: &Callback,
    packet: &Packet<'_>,
    origin: &Origin,
    poison: Poison,
) -> Delivered {
    CURSOR.with(|cursor| {
        let Some(delivering) = cursor.deliver() else {
            return Delivered::default();
        };
        let delivered = SCRATCH.try_with(|scratch| {
            // Nobody else has it: `cursor` lets nobody else come this far.
            let scratch = &mut *scratch.borrow_mut();
            let copy = scratch.fill(packet.bytes());
            let ran = match callback {
                Callback::Legacy(call) => {
                    let body = packet.bytes().len() - packet.body().len();
                    // SAFETY: the copy, of which the body is the end, lies in `scratch` until it is overwritten after the callback.
                    unsafe {
                        let at = copy.add(body);
                        delivering.read(packet.generation(), at, packet.body().len());
                        call(packet.command());
                    }
                    true
                }
                Callback::Modern { call, att } => {
                    // Its callers look at the header themselves, so it has to be the one that they know.
                    let is_known = packet.generation() == Generation::Modern;
                    if is_known {
                        modern(&delivering, (*call, att.as_ref()), packet, copy, origin);
                    }
                    is_known
                }
            };
            if poison == Poison::On {
                scratch.overwrite(packet.bytes().len());
            }
            let (misread, popped) = delivering.outcome();
            Delivered {
                ran,
                misread,
                popped,
            }
        });
        delivered.unwrap_or_default()
    })
}

/// Whether this thread is in a callback.
pub(crate) fn is_running() -> bool {
    CURSOR.with(Cursor::is_delivering)
}

/// Calls one of the 3.x API with the packet at `copy`, which has room for some ints more.
fn modern(
    delivering: &Delivering<'_>,
    (call, att): (ModernCall, Option<&Attachment>),
    packet: &Packet<'_>,
    copy: *mut u8,
    origin: &Origin,
) {
    let len = packet.bytes().len();
    let size = len + SPARE_LEN;
    // SAFETY: so many bytes are there until the callback has returned, and the words behind them.
    let flags = unsafe { packet::lend(copy, len, size) };
    let int = |len: usize| c_int::try_from(len).expect("packets are below 64 KiB");
    let mut told = BinPacket {
        buffer: Str {
            s: copy.cast(),
            len: int(len),
        },
        front_pointer: copy.wrapping_add(len - packet.body().len()).cast(),
        next: ptr::null_mut(),
        size: int(size),
        type_: packet.command(),
        flags,
        src_id: origin.node.unwrap_or_default(),
    };
    let mut info = ReceiveInfo::new(origin.source, origin.local, PROTO_BIN);
    let att = att.map_or(ptr::null_mut::<c_void>(), Attachment::as_ptr);
    let told: *mut BinPacket = &raw mut told;
    delivering.watch(told);
    // SAFETY: packet and addresses are there until it returns; C was told that they are not any longer.
    unsafe {
        call(told, packet.command(), &raw mut info, att);
        // It may have made the packet longer than there was room for here.
        packet::free(told);
    }
}

/// Where copies lie.
struct Scratch {
    bytes: Vec<u8>,
}

impl Scratch {
    /// Copies `packet`, zeros behind it.
    #[inline]
    fn fill(&mut self, packet: &[u8]) -> *mut u8 {
        if self.bytes.len() < packet.len() + SPARE_LEN + WORDS_LEN {
            self.grow(packet.len());
        }
        self.bytes[..packet.len()].copy_from_slice(packet);
        self.bytes[packet.len()..][..SPARE_LEN].fill(0);
        // Of all of it: behind the zeros are the words of what is lent to C.
        self.bytes.as_mut_ptr()
    }

    /// Once, and for who cut a packet that no transport carries.
    #[cold]
    fn grow(&mut self, len: usize) {
        let len = len.max(MAX_PACKET_LEN) + SPARE_LEN + WORDS_LEN;
        self.bytes.resize(len, 0);
    }

    /// With what nobody takes for data of his.
    #[cold]
    fn overwrite(&mut self, len: usize) {
        self.bytes[..len + SPARE_LEN].fill(POISON);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { bytes: Vec::new() }) };
}

/// Room behind a packet, so that a callback which puts a trailer back needs no other memory. (3.6 `bin_interface.c`,
/// `call_callbacks`: 50.)
const SPARE_LEN: usize = 64;

/// What a poisoned byte is.
const POISON: u8 = 0xA5;

/// The transport of BIN in 3.6's numbers. (3.6 `ip_addr.h`)
pub(crate) const PROTO_BIN: c_int = 8;

#[cfg(test)]
mod tests;
