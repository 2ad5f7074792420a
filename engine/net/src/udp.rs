//! UDP sockets as a receiver needs them: a large buffer, exact counts, a way to stop without a hole.

use std::fmt;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::{membarrier, meminfo};

/// A bound UDP socket. Closed when dropped; what is queued then is lost without any kernel counter moving.
///
/// To stop and lose nothing unnamed: [`drop_all`](Self::drop_all), receive until a batch is empty and
/// [`queued_bytes`](Self::queued_bytes) is 0, read [`drops`](Self::drops), and only then let go.
#[derive(Debug)]
pub struct UdpSocket {
    socket: net::UdpSocket,
    warning: Option<RcvbufWarning>,
}

/// How to make a [`UdpSocket`]; the default is the system's receive buffer and a port of its own.
#[derive(Debug, Clone, Default)]
pub struct UdpOptions {
    /// Receive buffer to ask for, in bytes of kernel memory; a small datagram takes 768 of them and more.
    /// `None` leaves the system's default.
    pub rcvbuf: Option<usize>,
    /// `SO_REUSEPORT`: lets several sockets of this user share the address. Leave it off for a single
    /// socket, or a second process takes half of the traffic and nobody is told.
    pub reuse_port: bool,
}

/// The kernel granted a smaller receive buffer than was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RcvbufWarning {
    /// Bytes asked for.
    pub asked: usize,
    /// Bytes granted, in the same unit.
    pub granted: usize,
}

/// A socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {error}")]
pub struct UdpError {
    /// The system call that failed, with the option it was for.
    pub call: &'static str,
    /// What it said.
    pub error: io::Error,
}

impl UdpSocket {
    /// Opens a socket and binds it to `addr`; port 0 lets the kernel choose. IPv6 sockets take no IPv4 traffic.
    ///
    /// # Errors
    /// The call that failed and why. A receive buffer smaller than asked for is a
    /// [`warning`](Self::rcvbuf_warning), not an error.
    pub fn bind(addr: SocketAddr, options: &UdpOptions) -> Result<Self, UdpError> {
        let failed = |call| move |error| UdpError { call, error };
        let socket = open(addr).map_err(failed("socket"))?;
        if addr.is_ipv6() {
            set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)
                .map_err(failed("setsockopt(IPV6_V6ONLY)"))?;
        }
        if options.reuse_port {
            set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
                .map_err(failed("setsockopt(SO_REUSEPORT)"))?;
        }
        let warning = match options.rcvbuf {
            Some(bytes) => set_rcvbuf(&socket, bytes).map_err(failed("setsockopt(SO_RCVBUF)"))?,
            None => None,
        };
        bind(&socket, addr).map_err(failed("bind"))?;
        Ok(Self { socket, warning })
    }

    /// When this returns, the kernel drops every datagram that arrives; those already queued can still be
    /// received, and no more come to them.
    ///
    /// A classic BPF socket filter that returns 0. What it drops shows in [`drops`](Self::drops), so a stop
    /// loses nothing without a name. Takes some 10 ms: a processor that is just queueing a datagram went past
    /// the filter before it was there, and is waited for.
    ///
    /// # Errors
    /// What setsockopt(2) said, `ENOMEM` at worst.
    pub fn drop_all(&self) -> io::Result<()> {
        const RETURN: u16 = 0x06; // BPF_RET | BPF_K
        let mut program = [libc::sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: 0,
        }];
        let filter = libc::sock_fprog {
            len: 1,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: "The argument for SO_ATTACH_FILTER is a sock_fprog structure"; "A packet will be dropped
        // if the filter program returns zero" (socket(7)). The kernel copies `len` instructions from
        // `filter` during the call; both live on this stack frame.
        unsafe {
            set_option(
                &self.socket,
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                &filter,
            )
        }?;
        membarrier::settle();
        Ok(())
    }

    /// Datagrams that the kernel dropped at this socket since it was opened, modulo 2^32.
    ///
    /// Buffer full, no kernel memory, bad checksum, [filtered](Self::drop_all): the kernel keeps one count.
    /// Feed it to a [`DropCounter`](crate::DropCounter).
    ///
    /// # Errors
    /// What getsockopt(2) said.
    pub fn drops(&self) -> io::Result<u32> {
        Ok(meminfo::read(&self.socket)?.drops)
    }

    /// Memory of the kernel, in bytes, that queued datagrams take; 0 only if there are none.
    ///
    /// Nothing says how many they are: a small datagram takes 768 bytes and more.
    ///
    /// # Errors
    /// What getsockopt(2) said.
    pub fn queued_bytes(&self) -> io::Result<u64> {
        Ok(meminfo::read(&self.socket)?.rmem_alloc.into())
    }

    /// The receive buffer in bytes, in the unit it is asked for.
    ///
    /// The kernel answers twice the value it was given ("to allow space for bookkeeping overhead",
    /// socket(7)); this is half of that answer.
    ///
    /// # Errors
    /// What getsockopt(2) said.
    pub fn rcvbuf(&self) -> io::Result<usize> {
        rcvbuf(&self.socket)
    }

    /// What to tell the user about the receive buffer, if it is smaller than asked for.
    #[must_use]
    pub const fn rcvbuf_warning(&self) -> Option<RcvbufWarning> {
        self.warning
    }

    /// The address it is bound to, with the port that the kernel chose if none was given.
    ///
    /// # Errors
    /// What getsockname(2) said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl UdpError {
    /// Whether the kernel knows no addresses of this kind: IPv6 was left out of it, or switched off at boot.
    #[must_use]
    pub fn is_unknown_family(&self) -> bool {
        self.error.raw_os_error() == Some(libc::EAFNOSUPPORT)
    }
}

impl fmt::Display for RcvbufWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, granted } = self;
        write!(
            f,
            "receive buffer is {granted} bytes, not {asked}: raise it with `sysctl -w net.core.rmem_max={asked}` \
             or run with CAP_NET_ADMIN"
        )
    }
}

fn open(addr: SocketAddr) -> io::Result<net::UdpSocket> {
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

fn bind(socket: &net::UdpSocket, addr: SocketAddr) -> io::Result<()> {
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
    // SAFETY: "addrlen specifies the size, in bytes, of the address structure pointed to by addr" (bind(2));
    // the kernel reads that many bytes during the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), ptr_of(addr).cast(), socklen_of::<A>()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks for `asked` bytes past `rmem_max` if we may, up to it if not.
fn set_rcvbuf(socket: &net::UdpSocket, asked: usize) -> io::Result<Option<RcvbufWarning>> {
    // The kernel doubles the value in an int; more than this is cut by every kernel anyway.
    let value = libc::c_int::try_from(asked)
        .unwrap_or(libc::c_int::MAX)
        .min(libc::c_int::MAX / 2);
    // "a privileged (CAP_NET_ADMIN) process can perform the same task as SO_RCVBUF, but the rmem_max limit
    // can be overridden" (socket(7)).
    if set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value).is_err() {
        set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, value)?;
    }
    let granted = rcvbuf(socket)?;
    Ok((granted < asked).then_some(RcvbufWarning { asked, granted }))
}

fn rcvbuf(socket: &net::UdpSocket) -> io::Result<usize> {
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

fn set_int(
    socket: &net::UdpSocket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: "Most socket-level options utilize an int argument for optval" (setsockopt(2)); each caller
    // names one of those: IPV6_V6ONLY, SO_REUSEPORT, SO_RCVBUF, SO_RCVBUFFORCE.
    unsafe { set_option(socket, level, name, &value) }
}

/// # Safety
/// `T` must be the type that the option `name` of `level` takes; what it points to must be valid for reads.
unsafe fn set_option<T>(
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
            ptr_of(value).cast(),
            socklen_of::<T>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

const fn ptr_of<T>(value: &T) -> *const T {
    value
}

fn socklen_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("option and address types are small")
}

fn family(family: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("address families are small")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback;
    use crate::rx::QUEUED_LEN_MIN;
    use crate::{Batch, RecvMmsg, RxQueue, Slab};
    use std::net::{IpAddr, UdpSocket as Peer};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    fn bound(addr: &str, options: &UdpOptions) -> UdpSocket {
        UdpSocket::bind(addr.parse().unwrap(), options).unwrap()
    }

    #[test]
    fn a_port_is_ours_alone_unless_shared_on_purpose() {
        let options = UdpOptions::default();
        let first = bound("127.0.0.1:0", &options);
        let error = UdpSocket::bind(first.local_addr().unwrap(), &options).unwrap_err();
        assert_eq!(error.call, "bind");
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);

        let shared = UdpOptions {
            reuse_port: true,
            ..UdpOptions::default()
        };
        let first = bound("127.0.0.1:0", &shared);
        assert!(UdpSocket::bind(first.local_addr().unwrap(), &shared).is_ok());
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        let Some(elsewhere) = loopback::address_of_another_host() else {
            return;
        };
        let error =
            UdpSocket::bind(SocketAddr::new(elsewhere, 0), &UdpOptions::default()).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn v4_and_v6_of_one_port_can_be_bound_together() {
        if !loopback::addresses().iter().any(IpAddr::is_ipv6) {
            return;
        }
        // Another process may hold the port in IPv4, so more than one is tried.
        let together = (0..16).any(|_| {
            let v6 = bound("[::]:0", &UdpOptions::default());
            let v4 = SocketAddr::from(([0, 0, 0, 0], v6.local_addr().unwrap().port()));
            UdpSocket::bind(v4, &UdpOptions::default()).is_ok()
        });
        assert!(together, "IPv6 takes IPv4's port");
    }

    #[test]
    fn the_granted_buffer_is_what_was_asked_for_or_there_is_a_warning() {
        let asked = 64 << 20;
        let socket = bound(
            "127.0.0.1:0",
            &UdpOptions {
                rcvbuf: Some(asked),
                ..UdpOptions::default()
            },
        );
        let granted = socket.rcvbuf().unwrap();
        match socket.rcvbuf_warning() {
            None => assert!(granted >= asked),
            Some(warning) => {
                assert_eq!(warning, RcvbufWarning { asked, granted });
                assert!(warning.to_string().contains("net.core.rmem_max=67108864"));
            }
        }
        // More than an int holds is refused by no kernel, only cut.
        let huge = bound(
            "127.0.0.1:0",
            &UdpOptions {
                rcvbuf: Some(usize::MAX),
                ..UdpOptions::default()
            },
        );
        assert_eq!(
            huge.rcvbuf_warning().map(|warning| warning.asked),
            Some(usize::MAX)
        );
    }

    #[test]
    fn a_full_buffer_drops_and_the_kernel_counts_every_one() {
        let options = UdpOptions {
            rcvbuf: Some(4096),
            ..UdpOptions::default()
        };
        let socket = Arc::new(bound("127.0.0.1:0", &options));
        let peer = Peer::bind("127.0.0.1:0").unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        (0..200).for_each(|_| assert_eq!(peer.send(&[1; 100]).unwrap(), 100));

        let received = drain(&socket);
        assert!(received > 0 && received < 200, "{received}");
        assert_eq!(received + socket.drops().unwrap(), 200);
    }

    #[test]
    fn after_drop_all_the_queue_drains_and_late_arrivals_are_counted() {
        for addr in loopback::addresses() {
            let free = SocketAddr::new(addr, 0);
            let socket = UdpSocket::bind(free, &UdpOptions::default()).unwrap();
            let socket = Arc::new(socket);
            let peer = Peer::bind(free).unwrap();
            peer.connect(socket.local_addr().unwrap()).unwrap();
            (0..5).for_each(|_| assert_eq!(peer.send(b"before").unwrap(), 6));
            socket.drop_all().unwrap();
            (0..3).for_each(|_| assert_eq!(peer.send(b"late").unwrap(), 4));
            assert!(socket.queued_bytes().unwrap() >= 5 * QUEUED_LEN_MIN);
            assert_eq!(drain(&socket), 5);
            assert_eq!(socket.drops().unwrap(), 3);
            assert_eq!(socket.queued_bytes().unwrap(), 0);
        }
    }

    #[test]
    fn nothing_is_queued_any_more_once_drop_all_returned() {
        // Senders on other cores, in the middle of a send when the filter is attached.
        for _ in 0..5 {
            let socket = Arc::new(bound("127.0.0.1:0", &UdpOptions::default()));
            let to = socket.local_addr().unwrap();
            let stop = AtomicBool::new(false);
            let (sent, received) = thread::scope(|scope| {
                let send = || {
                    let peer = Peer::bind("127.0.0.1:0").unwrap();
                    peer.connect(to).unwrap();
                    let mut sent = 0;
                    while !stop.load(Ordering::Relaxed) {
                        sent += u32::from(peer.send(b"on and on").is_ok());
                    }
                    sent
                };
                let senders = [scope.spawn(send), scope.spawn(send)];
                thread::sleep(Duration::from_millis(5));
                socket.drop_all().unwrap();
                let received = drain(&socket);
                // The senders go on: nothing of theirs may be in the queue now or later.
                assert_eq!(socket.queued_bytes().unwrap(), 0);
                thread::sleep(Duration::from_millis(5));
                assert_eq!(socket.queued_bytes().unwrap(), 0);
                stop.store(true, Ordering::Relaxed);
                let sent: u32 = senders.map(|sender| sender.join().unwrap()).iter().sum();
                (sent, received)
            });
            assert_eq!(received + socket.drops().unwrap(), sent);
        }
    }

    fn drain(socket: &Arc<UdpSocket>) -> u32 {
        let (mut slab, mut batch) = (Slab::new(8).unwrap(), Batch::new(8));
        let mut queue = RecvMmsg::new(Arc::clone(socket), 8);
        let mut received = 0;
        loop {
            queue.recv(&mut slab, &mut batch).unwrap();
            if batch.is_empty() {
                return received;
            }
            received += u32::try_from(batch.len()).unwrap();
            batch.release(&mut slab);
        }
    }
}
