//! Options and states of TCP sockets that the standard library does not know.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use super::{TcpError, TcpOptions};
use crate::sys::sockopt::{get, set, set_int, set_rcvbuf};

/// Sets what `options` names, for a listener so that its connections inherit it.
pub(super) fn set_all(socket: &impl AsFd, options: &TcpOptions) -> Result<(), TcpError> {
    let set =
        |level, name, value, call| set_int(socket, level, name, value).map_err(TcpError::of(call));
    if let Some(asked) = options.rcvbuf {
        set_rcvbuf(socket, asked).map_err(TcpError::of("setsockopt(SO_RCVBUF)"))?;
    }
    if let Some(timeout) = options.user_timeout {
        let millis = whole(timeout, Duration::from_millis(1), libc::c_int::MAX);
        let call = "setsockopt(TCP_USER_TIMEOUT)";
        set(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, millis, call)?;
    }
    if let Some(keepalive) = options.keepalive {
        let seconds = |time| whole(time, Duration::from_secs(1), KEEPALIVE_SECONDS_MAX);
        let (idle, interval) = (seconds(keepalive.idle), seconds(keepalive.interval));
        let count = libc::c_int::try_from(keepalive.count).unwrap_or(libc::c_int::MAX);
        let count = count.clamp(1, KEEPALIVE_COUNT_MAX);
        let tcp = libc::IPPROTO_TCP;
        set(tcp, libc::TCP_KEEPIDLE, idle, "setsockopt(TCP_KEEPIDLE)")?;
        set(
            tcp,
            libc::TCP_KEEPINTVL,
            interval,
            "setsockopt(TCP_KEEPINTVL)",
        )?;
        set(tcp, libc::TCP_KEEPCNT, count, "setsockopt(TCP_KEEPCNT)")?;
        let call = "setsockopt(SO_KEEPALIVE)";
        set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1, call)?;
    }
    if options.nodelay {
        let call = "setsockopt(TCP_NODELAY)";
        set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1, call)?;
    }
    Ok(())
}

/// What close(2) does from now on: at once, by RST, and what is queued in either direction is thrown away.
pub(super) fn set_reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: "The argument is a linger structure" (socket(7), SO_LINGER).
    unsafe { set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger) }
}

/// Whether the socket is just connecting, connected or being closed, or nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Connected,
    Closed,
}

pub(super) fn state(socket: &impl AsFd) -> io::Result<State> {
    // "TCP_INFO: Used to collect information about this socket. The kernel returns a struct tcp_info" (tcp(7)), as much of
    // it as there is room for (`do_tcp_getsockopt` of net/ipv4/tcp.c). Its first byte is the state.
    let mut state = 0_u8;
    // SAFETY: any byte is a u8, and the kernel writes no more than the one there is room for.
    unsafe { get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state)? };
    Ok(match state {
        TCP_SYN_SENT => State::Connecting,
        TCP_CLOSE => State::Closed,
        _ => State::Connected,
    })
}

/// What a request that answers with an int says, `FIONREAD` and its kin: never less than zero.
pub(super) fn ioctl_int(socket: &impl AsFd, request: libc::c_ulong) -> io::Result<u64> {
    let mut value: libc::c_int = 0;
    // SAFETY: "int value; error = ioctl(tcp_socket, ioctltype, &value)" (tcp(7)), for SIOCINQ, which FIONREAD is, and
    // SIOCOUTQ: the callers name no other.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request as _, &raw mut value) };
    if done == 0 {
        Ok(u64::try_from(value).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `time` in whole `unit`s, rounded up: 0 would mean the system's default, and a little more than none is no default.
fn whole(time: Duration, unit: Duration, max: libc::c_int) -> libc::c_int {
    let units = time.as_nanos().div_ceil(unit.as_nanos());
    libc::c_int::try_from(units).unwrap_or(max).clamp(1, max)
}

/// The largest that the kernel takes (`MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` of include/net/tcp.h), in seconds.
const KEEPALIVE_SECONDS_MAX: libc::c_int = 32_767;
/// As above, `MAX_TCP_KEEPCNT`.
const KEEPALIVE_COUNT_MAX: libc::c_int = 127;

/// Of `include/net/tcp_states.h`; part of what tcp_info shows to user space.
const TCP_SYN_SENT: u8 = 2;
const TCP_CLOSE: u8 = 7;
