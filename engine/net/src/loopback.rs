//! Addresses of this machine, as the tests find them. A check that cannot be made is said, not failed.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;

use crate::sys::sockopt::set_int;

/// The address every machine has.
pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The loopback addresses there are: IPv6 may be switched off.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    match UdpSocket::bind((v6, 0)) {
        Ok(_) => vec![V4, v6],
        Err(error)
            if error.kind() == io::ErrorKind::AddrNotAvailable
                || error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            skip("no IPv6 loopback");
            vec![V4]
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

/// A link-local address of this machine, and the index of its interface, which is up.
pub(crate) fn link_local() -> Option<(Ipv6Addr, u32)> {
    // Address, index, prefix length, scope, flags, name: all but the last in hexadecimal.
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let found = table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [address, index, _, _, flags, _] = columns[..] else {
            return None;
        };
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
        // Not one that is tried out, or was found to be another's (IFA_F_TENTATIVE, IFA_F_DADFAILED).
        let usable = u32::from_str_radix(flags, 16).ok()? & 0x48 == 0;
        let index = u32::from_str_radix(index, 16).ok()?;
        (address.is_unicast_link_local() && usable).then_some((address, index))
    });
    if found.is_none() {
        skip("no link-local address");
    }
    found
}

/// A socket connected to `to` whose every send is a train: datagrams of `segment_len` bytes, the last may be
/// shorter.
pub(crate) fn train_sender(to: SocketAddr, segment_len: u16) -> UdpSocket {
    let sender = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
    sender.connect(to).unwrap();
    set_int(
        &sender,
        libc::SOL_UDP,
        libc::UDP_SEGMENT,
        segment_len.into(),
    )
    .unwrap();
    sender
}

/// Connects a socket and sends from it; when nobody is at `to`, the kernel tells it so by a pending error.
pub(crate) fn connect_and_send(socket: &impl AsRawFd, to: SocketAddr, bytes: &[u8]) {
    // SAFETY: the descriptor is open while `socket` is borrowed, and the clone is closed by its owner alone.
    let borrowed = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    let clone = UdpSocket::from(borrowed.try_clone_to_owned().unwrap());
    clone.connect(to).unwrap();
    clone.send(bytes).unwrap();
}

/// Makes a system call fail with `errno` on the calling thread, for as long as it lives.
pub(crate) fn forbid(syscall: libc::c_long, errno: libc::c_int) -> io::Result<()> {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, at 0 the number of the call (struct seccomp_data)
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let fail = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    let mut program = [
        instruction(LOAD_WORD, 0, 0),
        instruction(JUMP_IF_EQUAL, 1, u32::try_from(syscall).unwrap()),
        instruction(RETURN, 0, fail),
        instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: takes integers. "the thread must already have the no_new_privs bit set" (seccomp(2)).
    let privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: "This argument is a pointer to a struct sock_fprog" (seccomp(2)), which is copied during the call.
    let filtered = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    if privileges == 0 && filtered == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Straight to standard error: the runner keeps what a passing test prints to itself. On a line of its own,
/// because the runner may have begun one.
pub(crate) fn skip(reason: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("?");
    let line = format!("\nSKIPPED {test}: {reason}\n");
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
