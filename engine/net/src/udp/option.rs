//! Options of a socket that the standard library does not know.

use std::io;
use std::net;
use std::os::fd::AsRawFd as _;

use crate::bpf::Instruction;

/// An option whose value is an int.
pub(crate) fn set_int(
    socket: &net::UdpSocket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: "Most socket-level options utilize an int argument for optval" (setsockopt(2)); each caller
    // names one of those: IPV6_V6ONLY, SO_REUSEPORT, SO_RCVBUF, SO_RCVBUFFORCE, SO_DETACH_FILTER, UDP_GRO; in
    // tests SO_SNDBUF, SO_NO_CHECK, UDP_SEGMENT.
    unsafe { set(socket, level, name, &value) }
}

/// Which socket option takes the program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hook {
    /// Asked for each arriving datagram (or train): how much of it to keep.
    Filter,
    /// Asked for each arriving datagram (or train) of a group: which socket gets it.
    Steering,
}

/// Attaches a program, in place of the one that was there.
pub(super) fn attach(
    socket: &net::UdpSocket,
    hook: Hook,
    program: &[Instruction],
) -> io::Result<()> {
    let name = match hook {
        Hook::Filter => libc::SO_ATTACH_FILTER,
        Hook::Steering => libc::SO_ATTACH_REUSEPORT_CBPF,
    };
    let mut instructions: Vec<libc::sock_filter> = program
        .iter()
        .map(|&Instruction { code, jt, jf, k }| libc::sock_filter { code, jt, jf, k })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).expect("a program has at most 4096 instructions"),
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: "The argument for SO_ATTACH_FILTER is a sock_fprog structure", and SO_ATTACH_REUSEPORT_CBPF takes
    // "the same argument type" (socket(7)). The kernel copies `len` instructions from `filter` during the
    // call; `instructions` has as many and lives until its end.
    unsafe { set(socket, libc::SOL_SOCKET, name, &program) }
}

/// Asks for `asked` bytes past `rmem_max` if we may, up to it if not.
pub(super) fn set_rcvbuf(socket: &net::UdpSocket, asked: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(asked.min(RCVBUF_MAX)).expect("half of an int at most");
    // "a privileged (CAP_NET_ADMIN) process can perform the same task as SO_RCVBUF, but the rmem_max limit
    // can be overridden" (socket(7)).
    if set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value).is_err() {
        set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, value)?;
    }
    Ok(())
}

/// Half of what the kernel answers, that is in the unit it is asked in.
pub(super) fn rcvbuf(socket: &net::UdpSocket) -> io::Result<usize> {
    let mut value: libc::c_int = 0;
    let mut len = socklen_of::<libc::c_int>();
    // SAFETY: SO_RCVBUF answers an int; `value` is one and `len` says its size. (socket(7), getsockopt(2))
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(value).unwrap_or(0) / 2)
}

/// # Safety
/// `T` must be the type that the option `name` of `level` takes; what it points to must be valid for reads.
unsafe fn set<T>(
    socket: &net::UdpSocket,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the kernel reads `optlen` bytes at `optval` during the call, the size and place of `value`;
    // that they are what the option takes is the caller's promise.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
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

/// The largest receive buffer to ask for, in bytes: the kernel doubles it in an int, and cuts what is more.
pub(super) const RCVBUF_MAX: usize = (libc::c_int::MAX / 2) as usize;

fn socklen_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("option types are small")
}
