//! Options of sockets that the standard library does not know: setsockopt(2) and getsockopt(2) with a type.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// An option whose value is an int.
pub(crate) fn set_int(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: "Most socket-level options utilize an int argument for optval" (setsockopt(2)); each caller names one of
    // those: SO_REUSEADDR, SO_REUSEPORT, SO_RCVBUF, SO_RCVBUFFORCE, SO_KEEPALIVE, SO_DETACH_FILTER, IPV6_V6ONLY,
    // IP_BIND_ADDRESS_NO_PORT, UDP_GRO, TCP_USER_TIMEOUT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_NODELAY; in
    // tests SO_SNDBUF, SO_NO_CHECK, UDP_SEGMENT.
    unsafe { set(socket, level, name, &value) }
}

/// What the kernel says of an option whose value is an int.
pub(crate) fn get_int(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    // SAFETY: as in `set_int`; the callers ask for options of ints alone.
    unsafe { get(socket, level, name, &mut value)? };
    Ok(value)
}

/// Asks for `asked` bytes of receive buffer past `rmem_max` if we may, up to it if not.
pub(crate) fn set_rcvbuf(socket: &impl AsFd, asked: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(asked.min(RCVBUF_MAX)).expect("half of an int at most");
    // "a privileged (CAP_NET_ADMIN) process can perform the same task as SO_RCVBUF, but the rmem_max limit
    // can be overridden" (socket(7)).
    if set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value).is_err() {
        set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, value)?;
    }
    Ok(())
}

/// # Safety
/// `T` must be the type that the option `name` of `level` takes; what it points to must be valid for reads.
pub(crate) unsafe fn set<T>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the kernel reads `optlen` bytes at `optval` during the call, the size and place of `value`;
    // that they are what the option takes is the caller's promise.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            socklen_of::<T>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// # Safety
/// What the option `name` of `level` answers, or the first bytes of it, must be a value of `T`.
pub(crate) unsafe fn get<T>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut len = socklen_of::<T>();
    // SAFETY: "optlen is a value-result argument, initially containing the size of the buffer pointed to by optval"
    // (getsockopt(2)): that of `value`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut len,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn socklen_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("option types are small")
}

/// The largest receive buffer to ask for, in bytes: the kernel doubles it in an int, and cuts what is more.
pub(crate) const RCVBUF_MAX: usize = (libc::c_int::MAX / 2) as usize;
