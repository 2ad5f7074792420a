//! TCP sockets that do not block: where connections come in, and what connections can do.

use std::io::{self, IoSlice, Read as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::address::{self, Address};
use crate::sys::sockopt;
use option::State;

/// Where connections come in.
mod listener;
/// Options and states.
mod option;

pub use listener::{DEAD_MAX, ReserveFd, TcpListener};

/// A connection, or one that is being made; never blocks. When dropped it is closed: what was written goes out,
/// then a FIN, or an RST when something was not read; see [`part`](Self::part).
#[derive(Debug)]
pub struct TcpSocket {
    // Of the standard library's type for its addresses and reads.
    stream: TcpStream,
}

/// How to make listeners and connections; the default is the system's.
#[derive(Debug, Clone, Default)]
pub struct TcpOptions {
    /// Connections that the kernel keeps at a listener until they are accepted; 0 is as many as `net.core.somaxconn` lets
    /// there be, which also caps any other number. Says nothing to a connection.
    pub backlog: u32,
    /// Receive buffer to ask for, in bytes of kernel memory. `None` leaves it to the kernel, which adapts it to the peer;
    /// asking for one ends that.
    pub rcvbuf: Option<usize>,
    /// `TCP_USER_TIMEOUT`: how long what was sent may go unacknowledged, or unsent because the peer takes nothing, until
    /// the kernel gives the connection up with `ETIMEDOUT`. In milliseconds, rounded up. With it set, it counts for
    /// keepalives too, in place of their number (tcp(7)).
    pub user_timeout: Option<Duration>,
    /// When the kernel asks a silent peer whether it is there; `None` does not change what is set, which is never.
    pub keepalive: Option<TcpKeepalive>,
    /// `TCP_NODELAY`: what is written goes out at once, and does not wait for more while something is unacknowledged.
    /// `false` does not change what is set.
    pub nodelay: bool,
}

/// When the kernel asks a silent peer whether it is there; gives the connection up with `ETIMEDOUT` if not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// After so much silence; in seconds, rounded up, at most 32 767 (`TCP_KEEPIDLE`).
    pub idle: Duration,
    /// And then so often; in seconds as above (`TCP_KEEPINTVL`).
    pub interval: Duration,
    /// So many times, 1 to 127 (`TCP_KEEPCNT`).
    pub count: u32,
}

/// A listener or its options could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {error}")]
pub struct TcpError {
    /// The system call that failed, with the option it was for.
    pub call: &'static str,
    /// What it said.
    pub error: io::Error,
}

impl TcpSocket {
    /// Begins to connect to `to`, from the address `bind_to` if there is one; the kernel chooses the port.
    ///
    /// A link-local address (`fe80::/10`) is one of an interface: `to` has to name that by its scope id, and `bind_to`,
    /// which cannot, is taken to be of the same interface.
    ///
    /// Goes on by itself: the socket becomes writable when it is connected or has failed, and then
    /// [`finish_connect`](Self::finish_connect) says which. How long the kernel tries, `net.ipv4.tcp_syn_retries` says,
    /// some two minutes; who wants to wait less drops the socket.
    ///
    /// # Errors
    /// What is known at once: no descriptor, an address that is not ours, no route. `InvalidInput` when `bind_to` and `to` are
    /// of different families, or a link-local address has no scope id. `ECONNREFUSED` may come here, from the same host, or later.
    pub fn connect(
        to: SocketAddr,
        bind_to: Option<IpAddr>,
        options: &TcpOptions,
    ) -> io::Result<Self> {
        if let Some(from) = bind_to.filter(|from| from.is_ipv4() != to.is_ipv4()) {
            let error = format!("cannot connect from {from} to {to}: one is IPv4, the other IPv6");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let socket = address::open(to, SOCKET_KIND)?;
        option::set_all(&socket, options).map_err(|failed| failed.error)?;
        if let Some(from) = bind_to {
            // "Inform the kernel to not reserve an ephemeral port when using bind(2) with a port number of 0. The port will
            // later be automatically chosen at connect(2) time, in a way that allows sharing a source port as long as the
            // 4-tuple is unique" (ip(7)): reconnecting does not use the ports up.
            let name = libc::IP_BIND_ADDRESS_NO_PORT;
            sockopt::set_int(&socket, libc::IPPROTO_IP, name, 1)?;
            let mut own = SocketAddr::new(from, 0);
            // "sin6_scope_id [...] is an ID depending on the scope of the address. [...] Linux supports it only for link-local
            // addresses, in that case sin6_scope_id contains the interface index" (ipv6(7)); others pass it over.
            if let (SocketAddr::V6(own), SocketAddr::V6(to)) = (&mut own, to) {
                own.set_scope_id(to.scope_id());
            }
            address::bind(&socket, own)?;
        }
        let to = Address::of(to);
        // SAFETY: "The addrlen argument specifies the size of addr" (connect(2)): that of `to`, which the kernel reads
        // during the call.
        let done = unsafe { libc::connect(socket.as_raw_fd(), (&raw const to).cast(), to.len()) };
        if done != 0 {
            let error = io::Error::last_os_error();
            // "The socket is nonblocking and the connection cannot be completed immediately"; one that a signal
            // interrupted goes on as well (EINTR of connect(2) in POSIX).
            if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) {
                return Err(error);
            }
        }
        Ok(Self {
            stream: socket.into(),
        })
    }

    /// A connection that the standard library made, or that was inherited; it does not block from now on.
    ///
    /// # Errors
    /// What ioctl(2) said.
    pub fn from_stream(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream })
    }

    /// Whether it is connected by now; `false` while it still tries.
    ///
    /// # Errors
    /// Why it is not: `ECONNREFUSED`, `ETIMEDOUT`, `EHOSTUNREACH`; the kernel tells that once, so it is `NotConnected` when
    /// asked again.
    pub fn finish_connect(&self) -> io::Result<bool> {
        // In this order: whatever happens between the two, the error says it.
        let state = option::state(&self.stream)?;
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match state {
            State::Connecting => Ok(false),
            State::Connected => Ok(true),
            State::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sets what `options` has, whether connected or not. A connection that was accepted has its listener's already.
    ///
    /// # Errors
    /// The call that failed and why; what came before it is set.
    pub fn set_options(&self, options: &TcpOptions) -> Result<(), TcpError> {
        option::set_all(&self.stream, options)
    }

    /// Receives into `bytes` what is there, as much as fits; 0 means that the peer will send no more. Fewer bytes than there is
    /// room for mean that there were no more, and that the next call will say `WouldBlock` or 0, if nothing comes meanwhile.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; otherwise the connection's failure, told once.
    #[inline]
    pub fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(bytes)
    }

    /// Sends of `parts`, one after the other, what the socket buffer takes at once; how many bytes that was. Of more than
    /// 1024 parts only so many are looked at (`UIO_MAXIOV`).
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now; otherwise the connection's failure. `EPIPE` raises no signal.
    pub fn send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        // SAFETY: integers and pointers, for which zero is a value: no address, no control data. (It has private padding on
        // some C libraries, so it cannot be written out.)
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len().min(PARTS_MAX) as _;
        // SAFETY: "The fields msg_iov and msg_iovlen [...] specify scatter-gather locations, as discussed in readv(2)"
        // (sendmsg(2)), which are only read. An `IoSlice` "is guaranteed to be ABI compatible with the iovec type".
        let sent = unsafe {
            let fd = self.stream.as_raw_fd();
            libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Takes what has arrived, at most `max` bytes, and throws it away; how much that was. Copies nothing, never waits.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn discard(&self, max: usize) -> io::Result<usize> {
        // SAFETY: "MSG_TRUNC [...] causes the received bytes of data to be discarded, rather than passed back in a
        // caller-supplied buffer" (tcp(7)): nothing is written to the address.
        let taken = unsafe {
            libc::recv(
                self.stream.as_raw_fd(),
                std::ptr::null_mut(),
                max,
                libc::MSG_TRUNC | libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }

    /// The other end.
    ///
    /// # Errors
    /// What getpeername(2) said: `NotConnected` also when the connection has broken.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// This end.
    ///
    /// # Errors
    /// What getsockname(2) said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Bytes that have arrived and were not received (`FIONREAD`).
    ///
    /// # Errors
    /// What ioctl(2) said.
    pub fn queued_bytes(&self) -> io::Result<u64> {
        option::ioctl_int(&self.stream, libc::FIONREAD)
    }

    /// Bytes that were written and that the peer has not acknowledged (`SIOCOUTQ`).
    ///
    /// # Errors
    /// What ioctl(2) said.
    pub fn unsent_bytes(&self) -> io::Result<u64> {
        // By its other name: the request number is the same (tcp(7), include/uapi/linux/sockios.h).
        option::ioctl_int(&self.stream, libc::TIOCOUTQ)
    }

    /// What was written goes out, then a FIN; receiving goes on.
    ///
    /// # Errors
    /// What shutdown(2) said: `NotConnected` when the connection is over.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends the connection in order before it is dropped, also while something else holds its file: what was written goes
    /// out, then a FIN, and nothing more is received.
    ///
    /// What was not read would turn the FIN of the drop into an RST, at which the peer may throw away what was written to
    /// it before (RFC 1122, 4.2.2.13). So that is thrown away here, up to 64 MiB, more than a receive buffer holds. What the
    /// peer sends after this is answered by RST all the same.
    pub fn part(&self) {
        // One that is over already says so, and that is well.
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.discard(DISCARD_MAX);
    }

    /// Ends the connection at once by RST; what is queued in either direction is lost, and the kernel keeps nothing of it.
    pub fn reset(self) {
        // A socket that does not take this option has no connection to reset.
        let _ = option::set_reset_on_close(&self.stream);
    }
}

impl AsRawFd for TcpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl TcpError {
    /// Whether the kernel knows no addresses of this kind: IPv6 was left out of it, or switched off at boot.
    #[must_use]
    pub fn is_unknown_family(&self) -> bool {
        self.error.raw_os_error() == Some(libc::EAFNOSUPPORT)
    }

    /// For `map_err`: the error of this call.
    fn of(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { call, error }
    }
}

/// What all sockets here are opened as.
const SOCKET_KIND: libc::c_int = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;

/// `UIO_MAXIOV` of include/uapi/linux/uio.h: beyond, sendmsg(2) refuses with `EMSGSIZE`.
const PARTS_MAX: usize = 1024;

/// What of a connection is thrown away at most, when it is ended in order while bytes are there.
const DISCARD_MAX: usize = 64 << 20;

#[cfg(test)]
pub(crate) mod tests;
