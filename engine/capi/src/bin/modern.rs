//! The 3.x API, as C calls it. (3.6 `bin_interface.{c,h}`; the symbols are `binrush_3_*`, which `include/bin_interface.h` makes of
//! the names that users write.)
//!
//! Nothing here needs a thread, a callback or the engine: a packet is a struct of the caller's.
//!
//! # Safety
//! Of all of them: `packet` is null, or points to a struct that `binrush_3_init` or `binrush_3_init_buffer` filled or a callback
//! was given, whose bytes nobody else uses meanwhile; a `str` is null, or its `s` is null or points to `len` bytes.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_short, c_void};
use std::{ptr, slice};

use binrush_wire::{Generation, Head, MAX_PACKET_LEN, Packet, frame_len};

use super::counts::{self, Count};
use super::cursor::CURSOR;
use super::delivery::{self, Origin, Poison};
use super::links::StreamLinks;
use super::packet::{self, NoField, View};
use super::program;
use super::registrations::{self, Attachment, Callback, ModernCall, Registration};
use crate::abi::base::{BinPacket, ReceiveInfo, SockaddrUnion, Str};
use crate::border::border;

/// `_bin_init`: starts a packet with `length` bytes of memory, which grows; 0 takes the maximum. 0, or -1: nothing is started, as for
/// a capability that is null or empty, for which nobody can register.
///
/// # Safety
/// As the module says, but that the struct may be uninitialised; what it holds is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_init(
    packet: *mut BinPacket,
    capability: *const Str,
    packet_type: c_int,
    version: c_short,
    length: c_int,
    use_sysmalloc: c_int,
) -> c_int {
    border(-1, || {
        let flags = if use_sysmalloc == 0 {
            0
        } else {
            packet::SYSTEM_MEMORY
        };
        // SAFETY: the module's condition.
        let is_made = !packet.is_null()
            && unsafe {
                Str::bytes(capability).is_some_and(|name| {
                    !name.is_empty() && {
                        packet::init(packet, name, packet_type, version, length, flags)
                    }
                })
            };
        if is_made { 0 } else { -1 }
    })
}

/// `bin_init_buffer`: shows the packet that is in `buffer`, which stays the caller's: it is not freed with the packet, and copied
/// when the packet grows. But what `packet` itself has memory of its own for stays its own, and popping begins anew. What is no packet leaves one of no bytes, with which every other function answers -1.
///
/// # Safety
/// As the module says, but that the struct may be uninitialised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_init_buffer(
    packet: *mut BinPacket,
    buffer: *mut c_char,
    length: c_int,
) {
    border((), || {
        if !packet.is_null() {
            // SAFETY: the module's condition.
            unsafe { packet::wrap(packet, buffer.cast(), length) };
        }
    });
}

/// `bin_push_str`: appends a string; null is an empty one. The new length, or -1: it does not fit and the packet is as it was.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_push_str(packet: *mut BinPacket, info: *const Str) -> c_int {
    border(-1, || {
        // SAFETY: the module's condition.
        let Some(span) = (unsafe { Str::span(info) }) else {
            return -1;
        };
        let Ok(len) = u16::try_from(span.1) else {
            return -1;
        };
        // SAFETY: the module's condition.
        unsafe { packet::append(packet, &len.to_le_bytes(), span) }.unwrap_or(-1)
    })
}

/// `bin_push_int`: appends an int; answers as [`binrush_3_push_str`].
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_push_int(packet: *mut BinPacket, info: c_int) -> c_int {
    border(-1, || {
        // SAFETY: the module's condition.
        unsafe { packet::append(packet, &info.to_le_bytes(), NOTHING) }.unwrap_or(-1)
    })
}

/// `bin_append_buffer`: appends fields that are encoded already; answers as [`binrush_3_push_str`].
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_append_buffer(packet: *mut BinPacket, buf: *const Str) -> c_int {
    border(-1, || {
        // SAFETY: the module's condition.
        let span = unsafe { Str::span(buf) }.filter(|_| !buf.is_null());
        // SAFETY: the module's condition.
        span.and_then(|span| unsafe { packet::append(packet, &[], span) })
            .unwrap_or(-1)
    })
}

/// `bin_remove_int_buffer_end`: takes `count` ints off the end. 0, or -1: the fields are shorter.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_remove_int_buffer_end(
    packet: *mut BinPacket,
    count: c_int,
) -> c_int {
    // SAFETY: the module's condition.
    done(|| unsafe { packet::remove_ints(packet, count) })
}

/// `bin_skip_int_packet_end`: puts `count` ints back that were taken off the end. 0, or -1: there were not as many.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_skip_int_packet_end(
    packet: *mut BinPacket,
    count: c_int,
) -> c_int {
    // SAFETY: the module's condition.
    done(|| unsafe { packet::restore_ints(packet, count) })
}

/// `bin_pop_str`: takes a string from the front. 0; 1 where nothing is left; -1 past the end: then nothing moves.
///
/// # Safety
/// See the module; `info` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_pop_str(packet: *mut BinPacket, info: *mut Str) -> c_int {
    border(-1, || {
        if info.is_null() {
            return -1;
        }
        // SAFETY: the module's condition.
        let popped = unsafe { packet::pop_str(packet) };
        // SAFETY: `info` is writable by this function's condition.
        answer(packet, popped, |value| unsafe {
            info.write_unaligned(value)
        })
    })
}

/// `bin_pop_int`: takes an int from the front; answers as [`binrush_3_pop_str`].
///
/// # Safety
/// See the module; `info` is null or four writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_pop_int(packet: *mut BinPacket, info: *mut c_void) -> c_int {
    border(-1, || {
        if info.is_null() {
            return -1;
        }
        // SAFETY: the module's condition.
        let popped = unsafe { packet::pop_int(packet) };
        // SAFETY: `info` is writable by this function's condition.
        answer(packet, popped, |value| unsafe {
            info.cast::<[u8; 4]>().write(value)
        })
    })
}

/// `bin_pop_back_int`: takes an int from the end. 0, or -1: the fields are shorter.
///
/// # Safety
/// See the module; `info` is null or four writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_pop_back_int(
    packet: *mut BinPacket,
    info: *mut c_void,
) -> c_int {
    border(-1, || {
        if info.is_null() {
            return -1;
        }
        // SAFETY: the module's condition.
        let popped = unsafe { packet::pop_int_back(packet) };
        // SAFETY: `info` is writable by this function's condition.
        answer(packet, popped, |value| unsafe {
            info.cast::<[u8; 4]>().write(value)
        })
    })
}

/// `bin_skip_int`: steps over `count` ints. 0, or -1: there are not as many, and nothing moves.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_skip_int(packet: *mut BinPacket, count: c_int) -> c_int {
    // SAFETY: the module's condition.
    skipped(packet, || unsafe { packet::skip_int(packet, count) })
}

/// `bin_skip_str`: steps over `count` strings; answers as [`binrush_3_skip_int`], and 0 for a `count` below 1.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_skip_str(packet: *mut BinPacket, count: c_int) -> c_int {
    // SAFETY: the module's condition.
    skipped(packet, || unsafe { packet::skip_str(packet, count) })
}

/// `bin_get_buffer`: the whole packet. 1, or -1.
///
/// # Safety
/// See the module; `buffer` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_get_buffer(packet: *mut BinPacket, buffer: *mut Str) -> c_int {
    border(-1, || {
        // SAFETY: this function's condition.
        unsafe { show(buffer, View::of(packet).map(View::whole)) }.map_or(-1, |_| 1)
    })
}

/// `bin_get_content_start`: the fields, popped or not. Their length, or -1.
///
/// # Safety
/// See the module; `buf` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_get_content_start(
    packet: *mut BinPacket,
    buf: *mut Str,
) -> c_int {
    border(-1, || {
        // SAFETY: this function's condition.
        unsafe { show(buf, View::of(packet).map(View::fields)) }.unwrap_or(-1)
    })
}

/// `bin_get_content_pos`: the fields that were not popped yet. Their length, or -1.
///
/// # Safety
/// See the module; `buf` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_get_content_pos(packet: *mut BinPacket, buf: *mut Str) -> c_int {
    border(-1, || {
        // SAFETY: this function's condition.
        unsafe { show(buf, View::of(packet).and_then(|view| view.rest(packet))) }.unwrap_or(-1)
    })
}

/// `bin_get_capability`: the name, or null and 0 of what is no packet.
///
/// # Safety
/// See the module; `capability` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_get_capability(packet: *mut BinPacket, capability: *mut Str) {
    border((), || {
        // SAFETY: this function's condition.
        unsafe {
            let name = View::of(packet).map_or(Str::EMPTY, View::capability);
            show(capability, Some(name));
        }
    });
}

/// `bin_reset_back_pointer`: takes all fields away, so that the packet can be filled anew. 0, or -1.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_reset_back_pointer(packet: *mut BinPacket) -> c_int {
    // SAFETY: the module's condition.
    done(|| unsafe { packet::clear_fields(packet) })
}

/// `bin_set_packet_type` of 4.0: writes the type again.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_set_packet_type(packet: *mut BinPacket, packet_type: c_int) {
    border((), || {
        // SAFETY: the module's condition.
        unsafe { packet::retype(packet, packet_type) };
    });
}

/// `bin_free_packet`: lets go of the memory; a second time does nothing.
///
/// # Safety
/// See the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_free_packet(packet: *mut BinPacket) {
    // SAFETY: the module's condition.
    border((), || unsafe { packet::free(packet) });
}

/// `bin_register_cb`: names who takes the packets of `cap`, which is copied, as are `att_len` bytes of `att`. 0; -1 without name or
/// callback, with a negative length, without memory, and in a module whose `mod_init` or `child_init` has returned.
///
/// # Safety
/// See the module; `att` is null or has `att_len` bytes; `cb` may be called until the process ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_register_cb(
    cap: *const Str,
    cb: Option<ModernCall>,
    att: *const c_void,
    att_len: c_int,
) -> c_int {
    border(-1, || {
        // SAFETY: the module's condition.
        let name = unsafe { Str::bytes(cap) }.filter(|name| !name.is_empty());
        let (Some(name), Some(call), Ok(len)) = (name, cb, usize::try_from(att_len)) else {
            return -1;
        };
        let att = if att.is_null() {
            None
        } else {
            // SAFETY: `att_len` bytes by this function's condition.
            let bytes = unsafe { slice::from_raw_parts(att.cast(), len) };
            let Some(copy) = Attachment::copy_of(bytes) else {
                return -1;
            };
            Some(copy)
        };
        let is_taken = registrations::register(Registration {
            name: name.into(),
            callback: Callback::Modern { call, att },
        });
        if is_taken { 0 } else { -1 }
    })
}

/// `call_callbacks`: hands the packet at `buffer` to whoever the process registered for its capability. What is no packet, nobody's,
/// or comes from inside of a callback is dropped, and counted as that.
///
/// # Safety
/// `buffer` is null or has as many bytes as the packet's header says, or at least 10; `rcv` is null or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_3_call_callbacks(buffer: *const c_char, rcv: *const ReceiveInfo) {
    border((), || {
        if buffer.is_null() {
            return;
        }
        counts::add(Count::Received, 1);
        // SAFETY: this function's condition.
        let fate = unsafe { take(buffer.cast(), rcv) };
        counts::add(fate, 1);
    });
}

/// One packet, to whom it concerns.
///
/// # Safety
/// As for [`binrush_3_call_callbacks`], and `buffer` is not null.
unsafe fn take(buffer: *const u8, rcv: *const ReceiveInfo) -> Count {
    // SAFETY: ten bytes are a header, which says how many there are.
    let frame: &[u8] = unsafe {
        let header = slice::from_raw_parts(buffer, 10);
        let len = match frame_len(Generation::Modern, header, MAX_PACKET_LEN) {
            Head::NeedMore { missing } => 10 + missing,
            Head::Complete { .. } => return Count::TooShort,
            Head::Broken(error) => return counts::refusal(&error),
        };
        slice::from_raw_parts(buffer, len)
    };
    let packet = match Packet::parse(Generation::Modern, frame) {
        Ok(packet) => packet,
        Err(error) => return counts::refusal(&error),
    };
    let source = if rcv.is_null() {
        None
    } else {
        // SAFETY: readable by the caller's condition.
        unsafe { SockaddrUnion::read(&raw const (*rcv).src_su) }
    };
    let origin = Origin {
        source,
        ..Origin::default()
    };
    let table = registrations::table();
    match registrations::find(&table, packet.name()) {
        Some(callback) => program::fate(delivery::deliver(callback, &packet, &origin, Poison::Off)),
        None => Count::Nobody,
    }
}

/// Own: sends the packet to `to` by TCP, on a connection that is kept for this thread's next ones. Its length; 0 for null; -1 where it
/// is no packet, `to` is no address, or it was not taken within 100 ms, and as much for a connection that has to be made.
///
/// # Safety
/// See the module; `to` is null or an address as [`SockaddrUnion::read`] takes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_packet_send(
    packet: *mut BinPacket,
    to: *const SockaddrUnion,
) -> c_int {
    border(-1, || {
        if to.is_null() {
            return 0;
        }
        // SAFETY: this function's condition.
        let (to, view) = unsafe { (SockaddrUnion::read(to), packet::seal(packet)) };
        let (Some(to), Some(bytes)) = (to, view) else {
            return -1;
        };
        // SAFETY: the bytes are there as long as the caller leaves the packet alone.
        let bytes = unsafe { Str::bytes(&bytes) }.unwrap_or_default();
        let is_sent = LINKS.try_with(|links| links.borrow_mut().send(bytes, to).is_ok());
        let is_sent = is_sent.unwrap_or(false);
        counts::add(if is_sent { Count::Sent } else { Count::Failed }, 1);
        if is_sent {
            c_int::try_from(bytes.len()).unwrap_or(c_int::MAX)
        } else {
            -1
        }
    })
}

/// No second part.
const NOTHING: (*const u8, usize) = (ptr::null(), 0);

/// 0 or -1.
fn done(f: impl FnOnce() -> Option<()>) -> c_int {
    border(-1, || f().map_or(-1, |()| 0))
}

/// 0 or -1, which is a misread.
fn skipped(packet: *const BinPacket, f: impl FnOnce() -> Option<()>) -> c_int {
    border(-1, || {
        CURSOR.with(|cursor| {
            if f().is_some() {
                cursor.popped_from(packet);
                0
            } else {
                cursor.misread_in(packet);
                -1
            }
        })
    })
}

/// What C is told of a pop.
#[inline]
fn answer<T>(packet: *const BinPacket, popped: Result<T, NoField>, put: impl FnOnce(T)) -> c_int {
    CURSOR.with(|cursor| match popped {
        Ok(value) => {
            put(value);
            cursor.popped_from(packet);
            0
        }
        Err(NoField::End) => 1,
        Err(NoField::Misread) => {
            cursor.misread_in(packet);
            -1
        }
    })
}

/// Writes `what` to `to`; its length, or `None`: nothing was written.
unsafe fn show(to: *mut Str, what: Option<Str>) -> Option<c_int> {
    let what = what.filter(|_| !to.is_null())?;
    // SAFETY: writable by the callers' condition.
    unsafe { to.write_unaligned(what) };
    Some(what.len)
}

thread_local! {
    static LINKS: RefCell<StreamLinks> = const { RefCell::new(StreamLinks::new()) };
}
