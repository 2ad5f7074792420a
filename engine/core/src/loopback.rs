//! Addresses of this machine, as the tests find them. A check that cannot be made is said, not failed.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::thread;

/// The loopback addresses there are: IPv6 may be switched off.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let (v4, v6) = (
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    );
    match UdpSocket::bind((v6, 0)) {
        Ok(_) => vec![v4, v6],
        Err(error)
            if error.kind() == io::ErrorKind::AddrNotAvailable
                || error.raw_os_error() == Some(EAFNOSUPPORT) =>
        {
            skip("no IPv6 loopback");
            vec![v4]
        }
        Err(error) => panic!("{v6}: {error}"),
    }
}

/// One of TEST-NET-1, which is assigned to nobody (RFC 5737); `None` where any address can be bound.
pub(crate) fn address_of_another_host() -> Option<IpAddr> {
    let any = fs::read_to_string("/proc/sys/net/ipv4/ip_nonlocal_bind");
    if any.is_ok_and(|value| value.trim() != "0") {
        skip("net.ipv4.ip_nonlocal_bind lets any address be bound");
        return None;
    }
    Some(Ipv4Addr::new(192, 0, 2, 1).into())
}

/// Straight to standard error: the runner keeps what a passing test prints to itself. On a line of its own,
/// because the runner may have begun one.
pub(crate) fn skip(reason: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("?");
    let line = format!("\nSKIPPED {test}: {reason}\n");
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// The kernel has no IPv6 at all; std has no name for it.
const EAFNOSUPPORT: i32 = 97;
