//! Opening and binding, apart: options that must be there before the first datagram come between.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

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
    match addr {
        SocketAddr::V4(addr) => bind_to(
            socket,
            &libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: addr.port().to_be(),
                // `octets` are in network order already; so they are in memory what `s_addr` must be.
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(addr.ip().octets()),
                },
                sin_zero: [0; 8],
            },
        ),
        SocketAddr::V6(addr) => bind_to(
            socket,
            &libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: addr.port().to_be(),
                sin6_flowinfo: addr.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: addr.ip().octets(),
                },
                sin6_scope_id: addr.scope_id(),
            },
        ),
    }
}

/// `A` is `sockaddr_in` or `sockaddr_in6`.
fn bind_to<A>(socket: &net::UdpSocket, addr: &A) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<A>()).expect("address types are small");
    // SAFETY: "addrlen specifies the size, in bytes, of the address structure pointed to by addr" (bind(2));
    // the kernel reads that many bytes during the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(addr).cast(), len) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn family(family: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("address families are small")
}
