//! Strings, addresses, packets.
//!
//! ```text
//!   Str          16   s │ len │ pad                                  str.h, 1.11 to 4.0
//!   IpAddr       24   af │ len │ 16 bytes                            ip_addr.h, 1.11 to 4.0
//!   ReceiveInfo 104   src_ip │ dst_ip │ ports │ proto, 2 ints │ src_su: 28, pad 4 │ bind_address
//!   BinPacket    48   buffer │ front │ next │ size │ type │ flags │ src_id      bin_interface.h, 3.6
//! ```
//!
//! LP64. Numbers are asserted below, and for C in `ctest/layout.c`.

use std::ffi::{c_char, c_int, c_uint, c_ushort};
use std::mem::{align_of, offset_of, size_of};
use std::net::{IpAddr as StdIpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{fmt, ptr, slice};

/// Bytes with their length, not terminated: `str`. (1.11 `str.h`)
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Str {
    /// The first byte; may be null where `len` is 0.
    pub s: *mut c_char,
    /// How many; never negative where C keeps its word.
    pub len: c_int,
}

/// An address without a port: `struct ip_addr`. (1.11 `ip_addr.h`)
///
/// The union of C holds the bytes as words too, which is where its alignment comes from.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, Default)]
pub struct IpAddr {
    /// `AF_INET` or `AF_INET6`; 0: unknown.
    pub af: c_uint,
    /// 4 or 16.
    pub len: c_uint,
    /// In network order, from the first byte.
    pub u: [u8; 16],
}

/// An address with a port, as sockets take it: `union sockaddr_union`. (1.11 `ip_addr.h`, built with `USE_IPV6` as releases are)
#[repr(C)]
#[derive(Clone, Copy)]
pub union SockaddrUnion {
    /// Whose family tells which of the others is meant.
    pub s: libc::sockaddr,
    /// IPv4.
    pub sin: libc::sockaddr_in,
    /// IPv6.
    pub sin6: libc::sockaddr_in6,
}

/// A listener, `struct socket_info`; we have none to show, so callbacks see a null pointer.
#[repr(C)]
#[derive(Debug)]
pub struct SocketInfo {
    opaque: [u8; 0],
}

/// Where a packet came from and to: `struct receive_info`. (1.11 `ip_addr.h`; 3.6 differs in signs of ints only)
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ReceiveInfo {
    /// The sender.
    pub src_ip: IpAddr,
    /// Ours.
    pub dst_ip: IpAddr,
    /// In host order; 0: unknown.
    pub src_port: c_ushort,
    /// In host order.
    pub dst_port: c_ushort,
    /// `PROTO_UDP` and the like, whose numbers differ between releases.
    pub proto: c_int,
    /// The connection's id in OpenSIPS; 0 here.
    pub proto_reserved1: c_int,
    /// 0.
    pub proto_reserved2: c_int,
    /// The sender once more.
    pub src_su: SockaddrUnion,
    /// Null.
    pub bind_address: *mut SocketInfo,
}

/// A packet of the 3.x API: `bin_packet_t`. (3.6 `bin_interface.h`)
#[repr(C)]
#[derive(Debug)]
pub struct BinPacket {
    /// Header to last field; `len` is the whole packet's.
    pub buffer: Str,
    /// The next field to pop.
    pub front_pointer: *mut c_char,
    /// The caller's, for lists of packets.
    pub next: *mut Self,
    /// Bytes allocated at `buffer.s`.
    pub size: c_int,
    /// What the packet is about within its capability.
    pub type_: c_int,
    /// Who owns the bytes.
    pub flags: c_uint,
    /// The node that made it, where somebody knows.
    pub src_id: c_int,
}

impl Str {
    /// Nothing: null and 0.
    pub const EMPTY: Self = Self {
        s: ptr::null_mut(),
        len: 0,
    };

    /// The bytes that C means. Null, or a null pointer in it, is an empty string, as for genuine pushes. `None`: its length is
    /// negative.
    ///
    /// # Safety
    /// `at` is null, or points to a `str` whose `s` is null or points to `len` readable bytes, which nobody writes for `'a`.
    #[inline]
    #[must_use]
    pub unsafe fn bytes<'a>(at: *const Self) -> Option<&'a [u8]> {
        // SAFETY: this function's condition.
        let (s, len) = unsafe { Self::span(at) }?;
        if len == 0 {
            return Some(&[]);
        }
        // SAFETY: `len` readable bytes by this function's condition; an int's worth is below `isize::MAX`.
        Some(unsafe { slice::from_raw_parts(s, len) })
    }

    /// Where the bytes are that C means, and how many: as [`bytes`](Self::bytes), for who may write where they are.
    ///
    /// # Safety
    /// `at` is null, or points to a readable `str`.
    #[inline]
    #[must_use]
    pub unsafe fn span(at: *const Self) -> Option<(*const u8, usize)> {
        if at.is_null() {
            return Some((ptr::null(), 0));
        }
        // SAFETY: not null, so a readable `str` by this function's condition; it need not be aligned.
        let Self { s, len } = unsafe { at.read_unaligned() };
        let len = usize::try_from(len).ok()?;
        Some((s.cast_const().cast(), if s.is_null() { 0 } else { len }))
    }
}

impl IpAddr {
    /// As C has it.
    #[must_use]
    pub fn of(addr: StdIpAddr) -> Self {
        let mut u = [0; 16];
        let (family, len) = match addr {
            StdIpAddr::V4(addr) => {
                u[..4].copy_from_slice(&addr.octets());
                (libc::AF_INET, 4)
            }
            StdIpAddr::V6(addr) => {
                u = addr.octets();
                (libc::AF_INET6, 16)
            }
        };
        Self {
            af: family.unsigned_abs(),
            len,
            u,
        }
    }
}

impl SockaddrUnion {
    /// Zeros: of no family.
    #[must_use]
    pub const fn none() -> Self {
        // SAFETY: integers and arrays of integers, for which zeros are a value.
        unsafe { std::mem::zeroed() }
    }

    /// As C has it.
    #[must_use]
    pub fn of(addr: SocketAddr) -> Self {
        let mut own = Self::none();
        match addr {
            SocketAddr::V4(addr) => {
                own.sin = libc::sockaddr_in {
                    sin_family: V4,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(addr.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
            }
            SocketAddr::V6(addr) => {
                own.sin6 = libc::sockaddr_in6 {
                    sin6_family: V6,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: addr.ip().octets(),
                    },
                    sin6_scope_id: addr.scope_id(),
                };
            }
        }
        own
    }

    /// The address that C means; `None` of another family than IPv4's and IPv6's.
    ///
    /// Of an IPv4 address only the 16 bytes are read that `struct sockaddr_in` has: callers cast those.
    ///
    /// # Safety
    /// `at` points to a readable `struct sockaddr_in` or `struct sockaddr_in6`, or at least to a family that is neither.
    #[inline]
    #[must_use]
    pub unsafe fn read(at: *const Self) -> Option<SocketAddr> {
        // SAFETY: every kind begins with its family.
        match unsafe { at.cast::<libc::sa_family_t>().read_unaligned() } {
            V4 => {
                // SAFETY: the family says which it is.
                let sin = unsafe { at.cast::<libc::sockaddr_in>().read_unaligned() };
                let ip = Ipv4Addr::from(sin.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(sin.sin_port)).into())
            }
            V6 => {
                // SAFETY: the family says which it is.
                let sin6 = unsafe { at.cast::<libc::sockaddr_in6>().read_unaligned() };
                let ip = Ipv6Addr::from(sin6.sin6_addr.s6_addr);
                let port = u16::from_be(sin6.sin6_port);
                Some(SocketAddrV6::new(ip, port, sin6.sin6_flowinfo, sin6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

impl ReceiveInfo {
    /// From `source` to `local`, as far as they are known, by `proto`.
    #[must_use]
    pub fn new(source: Option<SocketAddr>, local: Option<SocketAddr>, proto: c_int) -> Self {
        let ip = |addr: Option<SocketAddr>| {
            addr.map_or_else(IpAddr::default, |addr| IpAddr::of(addr.ip()))
        };
        Self {
            src_ip: ip(source),
            dst_ip: ip(local),
            src_port: source.map_or(0, |addr| addr.port()),
            dst_port: local.map_or(0, |addr| addr.port()),
            proto,
            proto_reserved1: 0,
            proto_reserved2: 0,
            src_su: source.map_or_else(SockaddrUnion::none, SockaddrUnion::of),
            bind_address: ptr::null_mut(),
        }
    }
}

impl fmt::Debug for SockaddrUnion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: all of the union is there, and all of its bytes are initialised in every way of making one.
        match unsafe { Self::read(self) } {
            Some(addr) => fmt::Debug::fmt(&addr, f),
            None => f.write_str("no address"),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "address families are small"
)]
const V4: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
#[expect(
    clippy::cast_possible_truncation,
    reason = "address families are small"
)]
const V6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;

// What C was told: 1.11 and 3.6 on LP64.
const _: () = {
    assert!(size_of::<Str>() == 16 && align_of::<Str>() == 8);
    assert!(offset_of!(Str, s) == 0 && offset_of!(Str, len) == 8);
    assert!(size_of::<IpAddr>() == 24 && align_of::<IpAddr>() == 8);
    assert!(offset_of!(IpAddr, len) == 4 && offset_of!(IpAddr, u) == 8);
    assert!(size_of::<SockaddrUnion>() == 28 && align_of::<SockaddrUnion>() == 4);
    assert!(size_of::<ReceiveInfo>() == 104 && align_of::<ReceiveInfo>() == 8);
    assert!(offset_of!(ReceiveInfo, dst_ip) == 24);
    assert!(offset_of!(ReceiveInfo, src_port) == 48);
    assert!(offset_of!(ReceiveInfo, dst_port) == 50);
    assert!(offset_of!(ReceiveInfo, proto) == 52);
    assert!(offset_of!(ReceiveInfo, proto_reserved1) == 56);
    assert!(offset_of!(ReceiveInfo, proto_reserved2) == 60);
    assert!(offset_of!(ReceiveInfo, src_su) == 64);
    assert!(offset_of!(ReceiveInfo, bind_address) == 96);
    assert!(size_of::<BinPacket>() == 48 && align_of::<BinPacket>() == 8);
    assert!(offset_of!(BinPacket, front_pointer) == 16);
    assert!(offset_of!(BinPacket, next) == 24);
    assert!(offset_of!(BinPacket, size) == 32);
    assert!(offset_of!(BinPacket, type_) == 36);
    assert!(offset_of!(BinPacket, flags) == 40);
    assert!(offset_of!(BinPacket, src_id) == 44);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went_in() {
        for text in ["192.0.2.7:5566", "[2001:db8::1%3]:5566"] {
            let addr: SocketAddr = text.parse().unwrap();
            let own = SockaddrUnion::of(addr);
            // SAFETY: it was made right above.
            assert_eq!(unsafe { SockaddrUnion::read(&own) }, Some(addr));
            assert_eq!(format!("{own:?}"), text);
        }
        // SAFETY: zeros have a family, which is none.
        assert_eq!(unsafe { SockaddrUnion::read(&SockaddrUnion::none()) }, None);
    }

    #[test]
    fn an_ipv4_address_is_read_from_no_more_than_its_sixteen_bytes() {
        let bytes: Box<[u8]> = Box::new([2, 0, 0x15, 0xBE, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        // SAFETY: those are a `struct sockaddr_in`, at whatever alignment.
        let addr = unsafe { SockaddrUnion::read(bytes.as_ptr().cast()) };
        assert_eq!(addr, Some("192.0.2.7:5566".parse().unwrap()));
    }

    #[test]
    fn strings_of_c_are_bytes_or_nothing_or_refused() {
        let mut text = *b"alice";
        let mut own = Str {
            s: text.as_mut_ptr().cast(),
            len: 5,
        };
        // SAFETY: null, and a `str` of five bytes, of none, and of a length that is looked at first.
        unsafe {
            assert_eq!(Str::bytes(&own), Some(&b"alice"[..]));
            assert_eq!(Str::bytes(ptr::null()), Some(&[][..]));
            own.len = -1;
            assert_eq!(Str::bytes(&own), None);
            own.len = 5;
            own.s = ptr::null_mut();
            assert_eq!(Str::bytes(&own), Some(&[][..]));
        }
    }

    #[test]
    fn receive_info_says_who_and_leaves_out_what_nobody_knows() {
        let source = "192.0.2.7:5566".parse().unwrap();
        let info = ReceiveInfo::new(Some(source), None, 1);
        assert_eq!((info.src_ip.af, info.src_ip.len), (2, 4));
        assert_eq!(info.src_ip.u[..4], [192, 0, 2, 7]);
        assert_eq!((info.src_port, info.dst_ip.af, info.dst_port), (5566, 0, 0));
        assert!(info.bind_address.is_null());
    }
}
