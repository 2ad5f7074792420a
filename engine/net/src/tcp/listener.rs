//! Where connections come in, and what to do when there is no descriptor for one.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use super::{SOCKET_KIND, TcpError, TcpOptions, TcpSocket, option};
use crate::address;
use crate::sys::sockopt;
use crate::udp::Found;

/// A socket that connections come in at; does not block, and is closed when dropped. Who waits then is reset.
#[derive(Debug)]
pub struct TcpListener {
    // Of the standard library's type for its `local_addr`.
    listener: std::net::TcpListener,
}

impl TcpListener {
    /// Listens at `addr`; port 0 lets the kernel choose. IPv6 listeners take no IPv4 connections. An address whose old
    /// connections the kernel still remembers can be bound (`SO_REUSEADDR`), one where somebody listens cannot.
    ///
    /// Connections have the `options` from their first moment, because they inherit them: "the socket buffer size must
    /// be set prior to the listen(2) or connect(2) calls in order to have it take effect" (socket(7)); the other options
    /// are "inherited by the socket returned by accept(2)" (tcp(7)).
    ///
    /// # Errors
    /// The call that failed and why.
    pub fn bind(addr: SocketAddr, options: &TcpOptions) -> Result<Self, TcpError> {
        let socket = address::open(addr, SOCKET_KIND).map_err(TcpError::of("socket"))?;
        if addr.is_ipv6() {
            sockopt::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)
                .map_err(TcpError::of("setsockopt(IPV6_V6ONLY)"))?;
        }
        sockopt::set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)
            .map_err(TcpError::of("setsockopt(SO_REUSEADDR)"))?;
        option::set_all(&socket, options)?;
        address::bind(&socket, addr).map_err(TcpError::of("bind"))?;
        listen(&socket, options)?;
        Ok(Self {
            listener: socket.into(),
        })
    }

    /// A socket that listens already, which another process bound, with `options` from now on. Who waits there still does.
    ///
    /// # Errors
    /// The call that failed and why; it is closed then. `InvalidInput` for a descriptor that is no such socket.
    pub fn adopt(descriptor: OwnedFd, options: &TcpOptions) -> Result<Self, TcpError> {
        let found = Found::of(descriptor.as_fd());
        let found = found.map_err(TcpError::of("getsockopt(SO_TYPE)"))?;
        if !matches!(found, Found::Listener(_)) {
            return Err(TcpError::of("getsockopt(SO_TYPE)")(
                io::ErrorKind::InvalidInput.into(),
            ));
        }
        let listener = std::net::TcpListener::from(descriptor);
        listener
            .set_nonblocking(true)
            .map_err(TcpError::of("fcntl"))?;
        option::set_all(&listener, options)?;
        // Once more for a socket that listens changes its backlog (`__inet_listen_sk` of net/ipv4/af_inet.c).
        listen(&listener, options)?;
        Ok(Self { listener })
    }

    /// The connection that waits longest, and who it is from; `None` when nobody waits.
    ///
    /// One that died while it waited is passed over, up to [`DEAD_MAX`] in a row, so that no flood of them holds up the
    /// caller without end.
    ///
    /// # Errors
    /// What accept4(2) said of the process or the host, while the connection keeps waiting: `EMFILE`, `ENFILE`,
    /// `ENOBUFS`, `ENOMEM`. A poller tells of it again and again; [`turn_away`](Self::turn_away) is the way out. The last
    /// one's error after [`DEAD_MAX`] that died.
    pub fn accept(&self) -> io::Result<Option<(TcpSocket, SocketAddr)>> {
        let mut dead = 0;
        loop {
            let error = match self.accept_one() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(None),
                Some(libc::EINTR) => {}
                Some(errno) if died_waiting(errno) && dead < DEAD_MAX => dead += 1,
                _ => return Err(error),
            }
        }
    }

    /// When [`accept`](Self::accept) has no descriptor left (`EMFILE`, `ENFILE`): takes the connection that waits longest
    /// by the one in `reserve`, resets it, and says who it was from. `None` when nobody waits.
    ///
    /// Without this a connection that cannot be accepted waits for its peer to give up, and a poller that tells of it
    /// keeps its thread from sleep.
    ///
    /// # Errors
    /// What `accept` said, when another thread was faster to take the descriptor, or the reserve is gone. The reserve is
    /// kept up as well as it can be: each call tries to get it back first.
    pub fn turn_away(&self, reserve: &mut ReserveFd) -> io::Result<Option<SocketAddr>> {
        // It is gone when the last call could not take it again: then it may be possible now, and if not, the accept
        // below says why.
        let _ = reserve.retake();
        reserve.release();
        let turned_away = match self.accept() {
            Ok(Some((socket, peer))) => {
                socket.reset();
                Ok(Some(peer))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let _ = reserve.retake();
        turned_away
    }

    /// The address it listens at, with the port that the kernel chose if none was given.
    ///
    /// # Errors
    /// What getsockname(2) said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept_one(&self) -> io::Result<(TcpSocket, SocketAddr)> {
        let mut addr = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut len = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>())
            .expect("an address is short");
        // SAFETY: "the caller must initialize [addrlen] to contain the size (in bytes) of the structure pointed to by addr"
        // (accept(2)); "the flags [...] SOCK_NONBLOCK [...] SOCK_CLOEXEC" are for the new descriptor.
        let fd = unsafe {
            libc::accept4(
                self.as_raw_fd(),
                addr.as_mut_ptr().cast(),
                &raw mut len,
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was opened right above and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: it was zeroed, which is a value of these integers, and the kernel wrote an address over it.
        let addr = unsafe { addr.assume_init() };
        Ok((
            TcpSocket {
                stream: socket.into(),
            },
            address(&addr)?,
        ))
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// A descriptor kept for the moment when there is none left, to accept by it who would wait in vain.
#[derive(Debug)]
pub struct ReserveFd {
    /// `/dev/null`: open everywhere, and good for nothing.
    held: Option<File>,
}

impl ReserveFd {
    /// Takes a descriptor. Early, while there are some.
    ///
    /// # Errors
    /// What open(2) said: `EMFILE` when there is none already.
    pub fn new() -> io::Result<Self> {
        let mut reserve = Self { held: None };
        reserve.retake()?;
        Ok(reserve)
    }

    /// Gives the descriptor back to the process, for whoever opens something next; whether there was one.
    pub fn release(&mut self) -> bool {
        self.held.take().is_some()
    }

    /// Takes a descriptor again; nothing to do when it is held.
    ///
    /// # Errors
    /// What open(2) said. It is not held then.
    pub fn retake(&mut self) -> io::Result<()> {
        if self.held.is_none() {
            self.held = Some(File::open("/dev/null")?);
        }
        Ok(())
    }

    /// Whether the descriptor is held.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }
}

/// Lets peers connect.
fn listen(socket: &impl AsRawFd, options: &TcpOptions) -> Result<(), TcpError> {
    let backlog = match options.backlog {
        // "silently capped to [net.core.somaxconn]" (listen(2)).
        0 => libc::c_int::MAX,
        some => libc::c_int::try_from(some).unwrap_or(libc::c_int::MAX),
    };
    // SAFETY: takes two integers and no memory; the descriptor is open. (listen(2))
    if unsafe { libc::listen(socket.as_raw_fd(), backlog) } != 0 {
        return Err(TcpError::of("listen")(io::Error::last_os_error()));
    }
    Ok(())
}

/// Whether an accept failed because of the connection, which is gone then, and not because of us.
///
/// "Linux accept() passes already-pending network errors on the new socket as an error code from accept(). [...] For
/// reliable operation the application should detect the network errors defined for the protocol after accept() and treat
/// them like EAGAIN by retrying. In the case of TCP/IP, these are ENETDOWN, EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET,
/// EHOSTUNREACH, EOPNOTSUPP, and ENETUNREACH"; "ECONNABORTED: A connection has been aborted"; "EPERM: Firewall rules
/// forbid connection" (accept(2)).
fn died_waiting(errno: libc::c_int) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::EPERM
            | libc::ENETDOWN
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
    )
}

/// What the kernel wrote as an address.
fn address(addr: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    let start = std::ptr::from_ref(addr);
    match libc::c_int::from(addr.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a `sockaddr_in` (ip(7)); the storage is "large enough to hold" any address
            // "and aligned at an appropriate boundary" (sockaddr(3type)).
            let addr = unsafe { &*start.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr));
            Ok((ip, u16::from_be(addr.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, `sockaddr_in6` (ipv6(7)).
            let addr = unsafe { &*start.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
            let port = u16::from_be(addr.sin6_port);
            Ok(SocketAddrV6::new(ip, port, addr.sin6_flowinfo, addr.sin6_scope_id).into())
        }
        family => {
            let error = format!("a connection from an address of family {family}");
            Err(io::Error::new(io::ErrorKind::InvalidData, error))
        }
    }
}

/// So many connections that died while they waited are passed over by one call.
pub const DEAD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback;
    use crate::tcp::tests::accepted;
    use std::env;
    use std::io::{ErrorKind, Read as _};
    use std::net::{IpAddr, TcpStream};
    use std::process::Command;
    use std::thread;

    fn listener(ip: IpAddr, port: u16) -> Result<TcpListener, TcpError> {
        TcpListener::bind(SocketAddr::new(ip, port), &TcpOptions::default())
    }

    #[test]
    fn nobody_waits_until_somebody_comes_and_each_comes_once() {
        for ip in loopback::addresses() {
            let listener = listener(ip, 0).unwrap();
            assert!(listener.accept().unwrap().is_none());
            let peers: Vec<_> = (0..3)
                .map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap())
                .collect();
            for peer in &peers {
                assert_eq!(accepted(&listener).1, peer.local_addr().unwrap());
            }
            assert!(listener.accept().unwrap().is_none());
        }
    }

    #[test]
    fn who_waits_at_a_listener_that_is_passed_on_is_accepted_by_its_next_owner() {
        for ip in loopback::addresses() {
            let old = listener(ip, 0).unwrap();
            let peer = TcpStream::connect(old.local_addr().unwrap()).unwrap();
            let passed = old.as_fd().try_clone_to_owned().unwrap();
            drop(old);
            let new = TcpListener::adopt(passed, &TcpOptions::default()).unwrap();
            let next = TcpStream::connect(new.local_addr().unwrap()).unwrap();
            for peer in [peer, next] {
                assert_eq!(accepted(&new).1, peer.local_addr().unwrap());
            }
        }
        let (reader, _writer) = io::pipe().unwrap();
        let refused = TcpListener::adopt(reader.into(), &TcpOptions::default()).unwrap_err();
        assert_eq!(refused.error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_port_is_ours_alone_and_free_again_when_we_go() {
        // Of this test alone: no other takes the port in the moment in which nobody has it.
        let own = IpAddr::from([127, 31, 7, 2]);
        let first = listener(own, 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listener(own, port).unwrap_err();
        assert_eq!(
            (error.call, error.error.kind()),
            ("bind", ErrorKind::AddrInUse)
        );
        assert!(!error.is_unknown_family());
        assert!(error.to_string().starts_with("bind: "), "{error}");
        // Our end closes first, so the kernel remembers the connection for a minute.
        let mut peer = TcpStream::connect(first.local_addr().unwrap()).unwrap();
        drop(accepted(&first));
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
        drop((peer, first));
        listener(own, port).unwrap();
    }

    #[test]
    fn both_families_can_have_the_same_port() {
        if loopback::addresses().len() < 2 {
            return;
        }
        // Some other test may have the port in one family.
        let both = (0..10).find_map(|_| {
            let v6 = listener(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap();
            let port = v6.local_addr().unwrap().port();
            listener(Ipv4Addr::UNSPECIFIED.into(), port).ok()
        });
        assert!(both.is_some(), "an IPv6 listener takes IPv4's port");
    }

    #[test]
    fn connections_that_died_while_they_waited_do_not_hold_up_for_ever() {
        for errno in [libc::ECONNABORTED, libc::EMFILE] {
            let asked = thread::spawn(move || {
                let listener = listener(loopback::V4, 0).unwrap();
                loopback::forbid(libc::SYS_accept4, errno).map(|()| listener.accept().map(drop))
            });
            match asked.join().unwrap() {
                Ok(accepted) => assert_eq!(accepted.unwrap_err().raw_os_error(), Some(errno)),
                Err(error) => loopback::skip(&format!("seccomp: {error}")),
            }
        }
        assert!(died_waiting(libc::EPROTO) && died_waiting(libc::EPERM));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(!died_waiting(errno));
        }
    }

    #[test]
    fn without_a_descriptor_who_waits_is_turned_away_by_the_reserve() {
        const CHILD: &str = "BINRUSH_TEST_FEW_DESCRIPTORS";
        if env::var_os(CHILD).is_none() {
            // In a process of its own: the limit is one for all of its threads.
            let name = "tcp::listener::tests::without_a_descriptor_who_waits_is_turned_away_by_the_reserve";
            let run = Command::new("sh")
                .args(["-c", "ulimit -n 64 && exec \"$0\" --exact \"$1\""])
                .arg(env::current_exe().unwrap())
                .arg(name)
                .env(CHILD, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&run.stdout);
            assert!(run.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let listener = listener(loopback::V4, 0).unwrap();
        let mut reserve = ReserveFd::new().unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut peers = [connect(), connect(), connect()];
        let mut files: Vec<File> = Vec::new();
        let full = loop {
            match File::open("/dev/null") {
                Ok(file) => files.push(file),
                Err(error) => break error,
            }
        };
        assert_eq!(full.raw_os_error(), Some(libc::EMFILE));
        let no_descriptor = |error: io::Error| error.raw_os_error() == Some(libc::EMFILE);
        assert!(no_descriptor(listener.accept().unwrap_err()));
        for peer in &mut peers[..2] {
            let away = listener.turn_away(&mut reserve).unwrap();
            assert_eq!(away, Some(peer.local_addr().unwrap()));
            assert!(reserve.is_held());
            let reset = peer.read(&mut [0; 1]).unwrap_err();
            assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        }
        // Somebody else took the reserve: it is said, and nothing is lost.
        assert!(reserve.release() && !reserve.release());
        files.push(File::open("/dev/null").unwrap());
        assert!(no_descriptor(reserve.retake().unwrap_err()));
        assert!(no_descriptor(listener.turn_away(&mut reserve).unwrap_err()));
        files.truncate(1);
        assert_eq!(
            listener.accept().unwrap().unwrap().1,
            peers[2].local_addr().unwrap()
        );
        assert_eq!(listener.turn_away(&mut reserve).unwrap(), None);
        assert!(reserve.is_held());
    }
}
