//! Receiving for a program that only links the library: a plain socket, and its callbacks. (`include/binrush.h`)
//!
//! Of the 1.x generation, where a datagram is a packet. It is the engine's reading without the engine: the same checks, the same
//! delivery, one thread, no shards. Who needs more than what one thread takes runs `binrush` and writes a module.

use std::cell::RefCell;
use std::ffi::c_int;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use binrush_wire::{Generation, Packet};

use super::counts::{self, Count};
use super::delivery::{self, Delivered, Origin, Poison, deliver};
use super::legacy;
use super::registrations::{self, Table};
use crate::abi::base::SockaddrUnion;
use crate::border::border;

/// What a thread listens with.
#[derive(Debug)]
struct Listener {
    /// Also what this thread sends from.
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    buffer: Box<[u8]>,
}

/// Listens for datagrams of 1.x at `addr`, port 0 for one of the kernel's choice, on behalf of this thread, in place of where it
/// listened before; null to end it. What this thread sends to the same address family leaves from there. 0, or -1 with the reason
/// in `errno`: then it listens where it did.
///
/// # Safety
/// `addr` is null or an address as [`SockaddrUnion::read`] takes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_listen(addr: *const SockaddrUnion) -> c_int {
    border(-1, || {
        let addr = if addr.is_null() {
            None
        } else {
            // SAFETY: not null, so an address by this function's condition.
            match unsafe { SockaddrUnion::read(addr) } {
                None => return fail(libc::EAFNOSUPPORT),
                addr => addr,
            }
        };
        own(|own| {
            let Ok(mut own) = own.try_borrow_mut() else {
                return fail(libc::EBUSY);
            };
            if addr.is_some() && addr == own.as_ref().map(|own| own.local) {
                return 0;
            }
            *own = match addr.map(Listener::bind).transpose() {
                Ok(listener) => listener,
                Err(error) => return fail(error.raw_os_error().unwrap_or(libc::EIO)),
            };
            let socket = own.as_ref().map(|own| (own.local, Arc::clone(&own.socket)));
            legacy::send_from_own(socket);
            0
        })
    })
}

/// The descriptor of this thread's listener, for `poll` and `getsockname`; -1 without one, and in its callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn binrush_fd() -> c_int {
    border(-1, || {
        own(|own| {
            let own = own.try_borrow();
            let fd = own
                .ok()
                .and_then(|own| Some(own.as_ref()?.socket.as_raw_fd()));
            fd.unwrap_or(-1)
        })
    })
}

/// Waits up to `timeout_ms` for datagrams, for ever when it is negative, and runs the callbacks of those that are there, 64 at most.
/// How many datagrams it took, whatever they were; 0 after the time or a signal; -1 without a listener, in a callback, and where the
/// socket fails.
#[unsafe(no_mangle)]
pub extern "C" fn binrush_run_once(timeout_ms: c_int) -> c_int {
    border(-1, || {
        own(|own| {
            let Ok(mut own) = own.try_borrow_mut() else {
                return -1;
            };
            own.as_mut()
                .map_or(-1, |listener| listener.run_once(timeout_ms).unwrap_or(-1))
        })
    })
}

/// Whether what was popped is overwritten after each callback of a program's own listeners, to find pointers that were kept.
#[unsafe(no_mangle)]
pub extern "C" fn binrush_poison(on: c_int) {
    POISON.store(on != 0, Ordering::Relaxed);
}

/// What this thread listens with; -1 in its last moments, when that is gone.
fn own(f: impl FnOnce(&RefCell<Option<Listener>>) -> c_int) -> c_int {
    LISTENER.try_with(f).unwrap_or_else(|_| fail(libc::EBUSY))
}

/// -1, with `error` in `errno`.
#[cold]
fn fail(error: c_int) -> c_int {
    // SAFETY: the address of this thread's `errno`. (errno(3))
    unsafe { libc::__errno_location().write(error) };
    -1
}

impl Listener {
    fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            local: socket.local_addr()?,
            socket: Arc::new(socket),
            buffer: vec![0; DATAGRAM_MAX].into(),
        })
    }

    fn run_once(&mut self, timeout_ms: c_int) -> io::Result<c_int> {
        let mut poll = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one `struct pollfd`, which is there during the call. (poll(2))
        let ready = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(0)
            } else {
                Err(error)
            };
        }
        let table = registrations::table();
        let mut taken = 0;
        while ready > 0 && taken < BATCH_MAX {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((len, source)) => {
                    let fate = take(&table, &self.buffer[..len], source, self.local);
                    counts::add(Count::Received, 1);
                    counts::add(fate, 1);
                    taken += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}

/// One datagram, to whom it concerns.
fn take(table: &Table, frame: &[u8], source: SocketAddr, local: SocketAddr) -> Count {
    let packet = match Packet::parse(Generation::Legacy, frame) {
        Ok(packet) => packet,
        Err(error) => return counts::refusal(&error),
    };
    let Some(callback) = registrations::find(table, packet.name()) else {
        return Count::Nobody;
    };
    let origin = Origin {
        source: Some(source),
        local: Some(local),
        node: None,
    };
    let poison = if POISON.load(Ordering::Relaxed) {
        Poison::On
    } else {
        Poison::Off
    };
    fate(deliver(callback, &packet, &origin, poison))
}

/// Where a packet is counted for which somebody registered.
pub(crate) fn fate(delivered: Delivered) -> Count {
    match (delivered.ran, delivered.misread) {
        (false, _) if delivery::is_running() => Count::Nested,
        (false, _) => Count::Nobody,
        (true, true) => Count::Misread,
        (true, false) => Count::Handled,
    }
}

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

static POISON: AtomicBool = AtomicBool::new(false);

/// Datagrams of one call, so that a program under load comes back to its other work. (`BINRUSH_BATCH_MAX` of `include/binrush.h`)
const BATCH_MAX: c_int = 64;

/// More than any datagram has.
const DATAGRAM_MAX: usize = 65_536;
