//! `struct sockaddr_in` and `struct sockaddr_in6`, written and read byte by byte.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

/// An address as a system call reads it, of whichever family.
///
/// ```text
///          0        2        4              8                         24         28
///   IPv4   │ family │ port   │ address      │ zero        │ 16
///   IPv6   │ family │ port   │ flow info    │ address                 │ scope id │
/// ```
///
/// Port and addresses in network order, the others in the host's. (ip(7), ipv6(7))
#[derive(Debug, Clone, Copy)]
#[repr(C, align(4))]
pub(crate) struct Address {
    bytes: [u8; V6_LEN],
    len: u8,
}

impl Address {
    /// Nobody's; for places that are not filled yet.
    pub(crate) const NONE: Self = Self {
        bytes: [0; V6_LEN],
        len: 0,
    };

    pub(crate) fn of(addr: SocketAddr) -> Self {
        let mut bytes = [0; V6_LEN];
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        let (family, len) = match addr {
            SocketAddr::V4(addr) => {
                bytes[4..8].copy_from_slice(&addr.ip().octets());
                (libc::AF_INET, V4_LEN)
            }
            SocketAddr::V6(addr) => {
                bytes[4..8].copy_from_slice(&addr.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&addr.ip().octets());
                bytes[24..].copy_from_slice(&addr.scope_id().to_ne_bytes());
                (libc::AF_INET6, V6_LEN)
            }
        };
        let family = libc::sa_family_t::try_from(family).expect("address families are small");
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        let len = u8::try_from(len).expect("addresses are short");
        Self { bytes, len }
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.len.into()
    }

    /// What a system call wrote here, which says that it has `len` bytes; one of IPv4 inside IPv6 as such. `None`: none, or
    /// of no family that we know, or too short for it.
    #[inline]
    pub(crate) fn written(&self, len: libc::socklen_t) -> Option<SocketAddr> {
        // A kernel that has more to say than there is room for answers with the length that it has.
        let len = usize::try_from(len).ok()?.min(V6_LEN);
        let written = &self.bytes[..len];
        let (family, rest) = written.split_first_chunk::<2>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let port = u16::from_be_bytes(*port);
        match libc::c_int::from(libc::sa_family_t::from_ne_bytes(*family)) {
            libc::AF_INET if len >= V4_LEN => {
                let (ip, _) = rest.split_first_chunk::<4>()?;
                Some(SocketAddr::new(Ipv4Addr::from(*ip).into(), port))
            }
            libc::AF_INET6 => {
                let (flow, rest) = rest.split_first_chunk::<4>()?;
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                let (scope, _) = rest.split_first_chunk::<4>()?;
                let ip = Ipv6Addr::from(*ip);
                Some(match ip.to_canonical() {
                    IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
                    IpAddr::V6(ip) => {
                        let [flow, scope] = [flow, scope].map(|word| u32::from_ne_bytes(*word));
                        SocketAddrV6::new(ip, port, flow, scope).into()
                    }
                })
            }
            _ => None,
        }
    }
}

/// A socket of the family of `addr` and this `kind` (`SOCK_STREAM` and flags, say), bound to nothing yet.
pub(crate) fn open(addr: SocketAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: takes three integers and no memory. (socket(2))
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was opened right above and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn bind(socket: &impl AsFd, addr: SocketAddr) -> io::Result<()> {
    let addr = Address::of(addr);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: "addrlen specifies the size, in bytes, of the address structure pointed to by addr" (bind(2)): those of
    // `addr`, which the kernel reads during the call.
    let done = unsafe { libc::bind(fd, (&raw const addr).cast(), addr.len()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

const V4_LEN: usize = size_of::<libc::sockaddr_in>();
const V6_LEN: usize = size_of::<libc::sockaddr_in6>();

/// Room for an address of either family, as a system call that writes one is told.
#[expect(clippy::cast_possible_truncation, reason = "28 bytes")]
pub(crate) const ADDRESS_LEN: libc::socklen_t = V6_LEN as libc::socklen_t;

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_layout_is_that_of_the_c_library() {
        use libc::{sockaddr_in, sockaddr_in6};
        assert_eq!((V4_LEN, V6_LEN), (16, 28));
        assert_eq!(align_of::<Address>(), align_of::<sockaddr_in6>());
        assert_eq!(offset_of!(Address, bytes), 0);
        assert_eq!(offset_of!(sockaddr_in, sin_port), 2);
        assert_eq!(offset_of!(sockaddr_in, sin_addr), 4);
        assert_eq!(offset_of!(sockaddr_in6, sin6_port), 2);
        assert_eq!(offset_of!(sockaddr_in6, sin6_flowinfo), 4);
        assert_eq!(offset_of!(sockaddr_in6, sin6_addr), 8);
        assert_eq!(offset_of!(sockaddr_in6, sin6_scope_id), 24);
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let scoped = SocketAddrV6::new("fe80::9".parse().unwrap(), 0x1234, 5, 6);
        for addr in [
            SocketAddr::from(([192, 0, 2, 7], 0x1234)),
            scoped.into(),
            "[2001:db8::7]:65535".parse().unwrap(),
        ] {
            let address = Address::of(addr);
            assert_eq!(address.written(address.len()), Some(addr));
            for short in 0..address.len() {
                assert_eq!(address.written(short), None);
            }
        }
        // More than there was room for: what there was room for is read.
        assert_eq!(Address::of(scoped.into()).written(128), Some(scoped.into()));
        let mapped = Address::of("[::ffff:192.0.2.7]:9".parse().unwrap());
        assert_eq!(mapped.written(28), Some(([192, 0, 2, 7], 9).into()));
        let mut other = Address::of(scoped.into());
        other.bytes[..2].copy_from_slice(&1_u16.to_ne_bytes());
        assert_eq!(other.written(28), None, "AF_UNIX");
        assert_eq!(Address::NONE.written(28), None);
    }

    #[test]
    fn an_address_is_written_in_the_orders_of_its_parts() {
        let v4 = Address::of(SocketAddr::from(([192, 0, 2, 7], 0x1234)));
        assert_eq!(v4.len(), 16);
        assert_eq!(v4.bytes[..2], 2_u16.to_ne_bytes());
        assert_eq!(v4.bytes[2..8], [0x12, 0x34, 192, 0, 2, 7]);
        assert_eq!(v4.bytes[8..], [0; 20]);

        let v6 = SocketAddrV6::new("fe80::9".parse().unwrap(), 0x1234, 5, 6);
        let v6 = Address::of(v6.into());
        assert_eq!(v6.len(), 28);
        assert_eq!(v6.bytes[..2], 10_u16.to_ne_bytes());
        assert_eq!(v6.bytes[2..4], [0x12, 0x34]);
        assert_eq!(v6.bytes[4..8], 5_u32.to_ne_bytes());
        assert_eq!(v6.bytes[8..10], [0xfe, 0x80]);
        assert_eq!(v6.bytes[23], 9);
        assert_eq!(v6.bytes[24..], 6_u32.to_ne_bytes());
    }
}
