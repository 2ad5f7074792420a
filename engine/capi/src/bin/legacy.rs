//! The 1.x API, as C calls it. (1.11 `bin_interface.{c,h}`)
//!
//! Each function says in its own words what `include/bin_interface.h` says to users. They answer 0 or more for success and never
//! panic into C.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr};

use super::cursor::{CURSOR, NoPop};
use super::draft::Draft;
use super::outbox::{self, Outbox, Source};
use super::registrations::{Callback, LegacyCall, Registration, register};
use crate::abi::base::{SockaddrUnion, SocketInfo, Str};
use crate::border::border;

/// Names who takes the packets of `mod_name`, which is copied. 0; -1 without name or callback, for an empty name, and in a module
/// whose `mod_init` or `child_init` has returned.
///
/// Of two with the same name the last one is called.
///
/// # Safety
/// `mod_name` is null or a terminated string; `cb` may be called until the process ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_register_cb(mod_name: *mut c_char, cb: Option<LegacyCall>) -> c_int {
    border(-1, || {
        let (false, Some(call)) = (mod_name.is_null(), cb) else {
            return -1;
        };
        // SAFETY: not null, so a terminated string by this function's condition.
        let name = unsafe { CStr::from_ptr(mod_name) };
        if name.is_empty() {
            return -1;
        }
        truth(register(Registration {
            name: name.to_bytes().into(),
            callback: Callback::Legacy(call),
        }))
    })
}

/// Begins a packet of the module `mod_name`; the one that this thread made before is gone. 0; -1 with a null, empty or negative name,
/// which nobody can register for, with one that does not fit, without memory: then there is no packet, and pushes and sends answer -1.
///
/// # Safety
/// `mod_name` is null or a `str` whose `s` is null or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_init(mod_name: *const Str, packet_type: c_int) -> c_int {
    // SAFETY: this function's condition.
    let name = (!mod_name.is_null()).then(|| unsafe { Str::bytes(mod_name) });
    making(|making| match name.flatten() {
        Some(name) if !name.is_empty() => truth(making.draft.begin(name, packet_type)),
        _ => {
            making.draft.discard();
            -1
        }
    })
}

/// Appends a string to the packet that this thread makes; null, an empty one and one without bytes are the same. 0, or -1: there is
/// no packet, or it would be longer than a datagram, 65507 bytes, or the length is negative; then it is as it was.
///
/// # Safety
/// `info` is null or a `str` whose `s` is null or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_push_str(info: *const Str) -> c_int {
    // SAFETY: this function's condition.
    let Some(value) = (unsafe { Str::bytes(info) }) else {
        return -1;
    };
    making(|making| truth(making.draft.push_str(value)))
}

/// Appends an int; answers as [`bin_push_str`].
#[unsafe(no_mangle)]
pub extern "C" fn bin_push_int(info: c_int) -> c_int {
    making(|making| truth(making.draft.push_int(info)))
}

/// Sends the packet that this thread made to `dest`. Its length; 0 for null; -1 where there is no packet, or one below the smallest
/// that receivers take, 18 bytes, no socket, an address that is neither IPv4 nor IPv6, or the kernel refuses, as it does when it has
/// no room: nothing waits here.
///
/// The packet stays, to be sent to others too. It leaves from where the thread listens by `binrush_listen`, or else from what the
/// host gave to [`send_from`], or else from a port of the kernel's choice: 1.x does not look at where a packet comes from.
///
/// # Safety
/// `dest` is null or an address as [`SockaddrUnion::read`] takes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_send(dest: *const SockaddrUnion) -> c_int {
    if dest.is_null() {
        return 0;
    }
    // SAFETY: this function's condition.
    let to = unsafe { SockaddrUnion::read(dest) };
    making(|making| {
        let (Some(to), Some(packet)) = (to, making.draft.seal()) else {
            return -1;
        };
        let sent = making.outbox.send(packet, to);
        sent.map_or(-1, length)
    })
}

/// As [`bin_send`], but that the packet only joins this thread's queue, which goes out by [`bin_flush`], when it has 64 packets or
/// 256 KiB, before the next [`bin_send`], when the thread ends, and in a module at the shard's next turn, within a tenth of a second.
/// What the kernel refuses then is counted.
///
/// # Safety
/// As for [`bin_send`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_send_batch(dest: *const SockaddrUnion) -> c_int {
    if dest.is_null() {
        return 0;
    }
    // SAFETY: this function's condition.
    let to = unsafe { SockaddrUnion::read(dest) };
    making(|making| {
        let (Some(to), Some(packet)) = (to, making.draft.seal()) else {
            return -1;
        };
        let queued = making.outbox.queue(packet, to);
        queued.map_or(-1, |()| length(packet.len()))
    })
}

/// Sends what this thread queued. How many packets the kernel took; -1 where it refused any: the others went.
#[unsafe(no_mangle)]
pub extern "C" fn bin_flush() -> c_int {
    making(|making| match making.outbox.flush() {
        (sent, 0) => c_int::try_from(sent).unwrap_or(c_int::MAX),
        _ => -1,
    })
}

/// Takes a string of the packet whose callback runs. 0; -1 where there is none left, or its length lies: then nothing moves and
/// `info` is as it was; -2 outside of callbacks.
///
/// The bytes are good until the callback returns. An empty string has a null pointer.
///
/// # Safety
/// `info` is null or a writable `str`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_pop_str(info: *mut Str) -> c_int {
    border(-1, || {
        if info.is_null() {
            return without_place();
        }
        match CURSOR.with(|cursor| cursor.pop_str()) {
            Ok((at, len)) => {
                // Lengths that fit are not above an int: the wire's are ints.
                let len = c_int::try_from(len).unwrap_or(c_int::MAX);
                let popped = match len {
                    0 => Str::EMPTY,
                    _ => Str {
                        s: at.cast_mut().cast(),
                        len,
                    },
                };
                // SAFETY: a writable `str` by this function's condition.
                unsafe { info.write_unaligned(popped) };
                0
            }
            Err(no) => no.code(),
        }
    })
}

/// Takes an int of the packet whose callback runs; answers as [`bin_pop_str`].
///
/// # Safety
/// `info` is null or four writable bytes, at whatever alignment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_pop_int(info: *mut c_void) -> c_int {
    border(-1, || {
        if info.is_null() {
            return without_place();
        }
        match CURSOR.with(|cursor| cursor.pop_int()) {
            Ok(int) => {
                // SAFETY: four writable bytes by this function's condition.
                unsafe { info.cast::<[u8; 4]>().write(int) };
                0
            }
            Err(no) => no.code(),
        }
    })
}

/// Steps over `count` strings, all or none; none for a `count` below 1. Answers as [`bin_pop_str`].
#[unsafe(no_mangle)]
pub extern "C" fn bin_skip_str(count: c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    border(-1, || {
        CURSOR
            .with(|cursor| cursor.skip_str(count))
            .map_or_else(NoPop::code, |()| 0)
    })
}

/// Steps over `count` ints, all or none; none for a `count` below 1. Answers as [`bin_pop_str`].
#[unsafe(no_mangle)]
pub extern "C" fn bin_skip_int(count: c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    border(-1, || {
        CURSOR
            .with(|cursor| cursor.skip_int(count))
            .map_or_else(NoPop::code, |()| 0)
    })
}

/// Sends what C queued on this thread and did not flush. For who runs callbacks: costs a load where C never made a packet.
#[inline]
pub fn flush() {
    if !MAKING.get().is_null() {
        bin_flush();
    }
}

/// Gives sockets that `bin_send` leaves from, each with the address that it is bound to, such as duplicates of what the host receives
/// BIN by. The first one of a destination's family is used.
///
/// For all threads that do not listen themselves, from their next packet on. A second call replaces what the first one gave, which is
/// closed when it returns: a thread that sends at that moment holds it until it has.
pub fn send_from(sockets: Vec<(SocketAddr, OwnedFd)>) {
    outbox::send_from(sockets);
}

/// Goes on with those given to [`send_from`] whose address is in `open`, and with `more`, in the order of `open`: for a host that closed
/// and opened some of what it receives by. Those it has [already](is_given) need not be given again.
pub fn send_from_open(open: &[SocketAddr], more: Vec<(SocketAddr, OwnedFd)>) {
    outbox::send_from_open(open, more);
}

/// Whether `bin_send` has a socket that is bound to `local`.
#[must_use]
pub fn is_given(local: SocketAddr) -> bool {
    outbox::is_given(local)
}

/// This thread sends from `own` where its family is that of a destination. In its last moments it sends no more.
pub(crate) fn send_from_own(own: Option<Source>) {
    making(|making| {
        making.outbox.send_from_own(own);
        0
    });
}

/// What a thread makes and sends from.
struct Making {
    draft: Draft,
    outbox: Outbox,
}

/// Frees what `MAKING` points to when the thread ends.
struct Owner(Cell<*mut Making>);

/// Runs `f` with it; -1 without memory, and where the thread has let go of it already, in its last moments. `f` calls nothing that
/// comes back here.
#[inline]
fn making(f: impl FnOnce(&mut Making) -> c_int) -> c_int {
    border(-1, || {
        let at = match MAKING.get() {
            at if at.is_null() => take_memory(),
            at => at,
        };
        if at.is_null() {
            return -1;
        }
        // SAFETY: it is there as long as `MAKING` points to it, known to this thread alone, and `f` does not come back here.
        f(unsafe { &mut *at })
    })
}

/// For the first packet of the thread.
#[cold]
fn take_memory() -> *mut Making {
    let owned = OWNER.try_with(|owner| {
        let draft = Draft::new()?;
        let outbox = Outbox::new();
        let at = Box::into_raw(Box::new(Making { draft, outbox }));
        owner.0.set(at);
        MAKING.set(at);
        Some(at)
    });
    owned.ok().flatten().unwrap_or(ptr::null_mut())
}

impl Drop for Owner {
    fn drop(&mut self) {
        MAKING.set(ptr::null_mut());
        let at = self.0.get();
        if !at.is_null() {
            // SAFETY: from `Box::into_raw`, and nobody knows it any more.
            drop(unsafe { Box::from_raw(at) });
        }
    }
}

#[inline]
fn truth(is_done: bool) -> c_int {
    if is_done { 0 } else { -1 }
}

/// Of a datagram, which is below 64 KiB.
#[inline]
fn length(len: usize) -> c_int {
    c_int::try_from(len).unwrap_or(c_int::MAX)
}

/// A pop that has nowhere to put what it takes takes nothing.
#[cold]
fn without_place() -> c_int {
    CURSOR
        .with(|cursor| cursor.skip_int(0))
        .map_or_else(NoPop::code, |()| -1)
}

impl NoPop {
    /// What C is told. (1.11 `bin_interface.c`)
    #[cold]
    fn code(self) -> c_int {
        match self {
            Self::Misread => -1,
            Self::Outside => -2,
        }
    }
}

/// `bin` of 1.x, which modules ask whether there is somewhere to send from: there always is. (1.11 `bin_interface.h`; `usrloc` and
/// `dialog` end without) C may write it; nothing here reads it.
#[unsafe(export_name = "bin")]
pub static BIN: AtomicPtr<SocketInfo> =
    AtomicPtr::new(ptr::addr_of!(NO_LISTENER).cast_mut().cast());

/// `bin_children` of 1.x: how many processes take packets.
#[unsafe(export_name = "bin_children")]
pub static BIN_CHILDREN: AtomicI32 = AtomicI32::new(1);

/// Longer than a `struct socket_info` of 1.11, so that who looks into it finds nothing.
static NO_LISTENER: [u64; 64] = [0; 64];

thread_local! {
    /// What `OWNER` owns. Without a destructor, so that a push costs no look at whether the thread is ending.
    static MAKING: Cell<*mut Making> = const { Cell::new(ptr::null_mut()) };
    static OWNER: Owner = const { Owner(Cell::new(ptr::null_mut())) };
}
