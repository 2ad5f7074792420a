//! Opening and binding, apart: options that must be there before the first datagram come between.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::address::Address;

/// A socket of the family of `addr`, bound to nothing yet.
pub(super) fn open(addr: SocketAddr) -> io::Result<net::UdpSocket> {
    let family = if addr.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: takes three integers and no memory.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was opened right above and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

pub(super) fn bind(socket: &net::UdpSocket, addr: SocketAddr) -> io::Result<()> {
    let addr = Address::of(addr);
    // SAFETY: "addrlen specifies the size, in bytes, of the address structure pointed to by addr" (bind(2)): those of
    // `addr`, which the kernel reads during the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), addr.len()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
