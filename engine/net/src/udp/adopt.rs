//! Sockets that were bound before this process began.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::{DROP_ALL, Hook, UdpError, UdpOptions, UdpSocket, option};
use crate::address;
use crate::sys::{membarrier, sockopt};

impl UdpSocket {
    /// A [group](Self::bind_group) that another process bound, in the order of its program's answers: with its queues, its
    /// filters and its [drops](Self::drops), and with `options` from now on.
    ///
    /// # Errors
    /// The call that failed and why; all of them are closed then, which loses nothing as long as the other process has
    /// them too. `InvalidInput` for one that is no socket for datagrams, or bound to another address than the first.
    pub fn adopt_group(
        descriptors: Vec<OwnedFd>,
        options: &UdpOptions,
    ) -> Result<Vec<Self>, UdpError> {
        let adopt = |descriptor| Self::adopt(descriptor, options);
        let group: Vec<_> = descriptors
            .into_iter()
            .map(adopt)
            .collect::<Result<_, _>>()?;
        let mut addrs = group.iter().map(|socket| socket.local_addr().ok());
        let first = addrs.next().flatten();
        if first.is_none() || addrs.any(|addr| addr != first) {
            return Err(UdpError::of("getsockname")(
                io::ErrorKind::InvalidInput.into(),
            ));
        }
        Ok(group)
    }

    /// A group of `count` sockets around one that somebody else bound, such as a service manager: it is the first. All of
    /// them drop what arrives, as those of [`bind_group`](Self::bind_group) do.
    ///
    /// Who its queued datagrams are from was never looked at, so they are thrown away; how many they were is the other
    /// value. To hold back what comes before anybody knows from whom to take it is what a group is for.
    ///
    /// # Errors
    /// As `adopt_group`; and `bind` when somebody holds the address beside that socket.
    ///
    /// # Panics
    /// When `count` is zero.
    pub fn group_around(
        descriptor: OwnedFd,
        count: usize,
        options: &UdpOptions,
    ) -> Result<(Vec<Self>, u64), UdpError> {
        assert!(count > 0, "a group of no sockets");
        let first = Self::adopt(descriptor, options)?;
        let addr = first.local_addr().map_err(UdpError::of("getsockname"))?;
        option::attach(&first.socket, Hook::Filter, &DROP_ALL)
            .map_err(UdpError::of("setsockopt(SO_ATTACH_FILTER)"))?;
        membarrier::settle();
        let discarded = first.discard().map_err(UdpError::of("recv"))?;
        first.share()?;
        let mut group = vec![first];
        for _ in 1..count {
            let next = Self::closed(addr, options)?;
            next.share()?;
            address::bind(&next.socket, addr).map_err(UdpError::of("bind"))?;
            group.push(next);
        }
        Ok((group, discarded))
    }

    /// Drops what arrives from now on, as [`drop_all`](Self::drop_all), without waiting for what is on its way.
    ///
    /// # Errors
    /// What setsockopt(2) said.
    pub fn keep_shut(&self) -> io::Result<()> {
        option::attach(&self.socket, Hook::Filter, &DROP_ALL)
    }

    fn adopt(descriptor: OwnedFd, options: &UdpOptions) -> Result<Self, UdpError> {
        let kind = Found::of(descriptor.as_fd()).map_err(UdpError::of("getsockopt(SO_TYPE)"))?;
        if !matches!(kind, Found::Datagrams(_)) {
            return Err(UdpError::of("getsockopt(SO_TYPE)")(
                io::ErrorKind::InvalidInput.into(),
            ));
        }
        let socket = net::UdpSocket::from(descriptor);
        let mut adopted = Self {
            socket,
            warning: None,
            gro: false,
        };
        adopted
            .set_gro(options.gro)
            .map_err(UdpError::of("setsockopt(UDP_GRO)"))?;
        let has = option::rcvbuf(&adopted.socket);
        let has = has.map_err(UdpError::of("getsockopt(SO_RCVBUF)"))?;
        // Who made it may have been allowed more than we are: what is there is not given back.
        if options.rcvbuf.is_some_and(|asked| has < asked) {
            adopted.grant(options)?;
        }
        Ok(adopted)
    }

    /// Throws away what is queued; how many datagrams. Arrivals are shut off.
    fn discard(&self) -> io::Result<u64> {
        self.socket.set_nonblocking(true)?;
        let mut discarded = 0;
        loop {
            match self.socket.recv(&mut [0]) {
                Ok(_) => discarded += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // As the sockets that we make are: a queue asks with MSG_DONTWAIT.
                    self.socket.set_nonblocking(false)?;
                    return Ok(discarded);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // About something that was sent by it; the next call says the next thing.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a descriptor is that came from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A UDP socket, bound to this address.
    Datagrams(SocketAddr),
    /// A UDP socket that is bound to this address and hears one sender only: of all others it takes nothing. One that was
    /// [left](UdpSocket::leave) is connected to itself.
    Connected(SocketAddr),
    /// A TCP socket that listens at this address.
    Listener(SocketAddr),
    /// A UDP or TCP socket for all of IPv6 that takes IPv4 too, by addresses that are neither: its sources cannot be
    /// checked.
    BothFamilies(SocketAddr),
    /// Anything else.
    Other,
}

impl Found {
    /// Looks at `descriptor`.
    ///
    /// # Errors
    /// What getsockopt(2) or getsockname(2) said of a socket; that it is none is [`Other`](Self::Other).
    pub fn of(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let ask = |level, name| sockopt::get_int(&descriptor, level, name);
        let domain = match ask(libc::SOL_SOCKET, libc::SO_DOMAIN) {
            Ok(domain) => domain,
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => return Ok(Self::Other),
            Err(error) => return Err(error),
        };
        if ![libc::AF_INET, libc::AF_INET6].contains(&domain) {
            return Ok(Self::Other);
        }
        // Whatever the socket is: the call behind it is getsockname(2).
        let socket = net::UdpSocket::from(descriptor.try_clone_to_owned()?);
        let addr = socket.local_addr()?;
        let kind = ask(libc::SOL_SOCKET, libc::SO_TYPE)?;
        let protocol = ask(libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
        let listens = ask(libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 1;
        let found = match (kind, protocol) {
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP) if socket.peer_addr().is_ok() => {
                return Ok(Self::Connected(addr));
            }
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP) => Self::Datagrams(addr),
            (libc::SOCK_STREAM, libc::IPPROTO_TCP) if listens => Self::Listener(addr),
            _ => return Ok(Self::Other),
        };
        let is_any = addr.is_ipv6() && addr.ip().is_unspecified();
        if is_any && ask(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)? == 0 {
            return Ok(Self::BothFamilies(addr));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback;
    use crate::udp::tests::drain;
    use std::net::UdpSocket as Peer;
    use std::sync::Arc;

    fn group(addr: SocketAddr, count: usize) -> Vec<UdpSocket> {
        UdpSocket::bind_group(addr, count, &UdpOptions::default()).unwrap()
    }

    /// References to the same sockets, as another process would get them.
    fn passed(group: &[UdpSocket]) -> Vec<OwnedFd> {
        let passed = group
            .iter()
            .map(|socket| socket.as_fd().try_clone_to_owned());
        passed.collect::<io::Result<_>>().unwrap()
    }

    fn peer_of(socket: &UdpSocket) -> Peer {
        let to = socket.local_addr().unwrap();
        let peer = Peer::bind(SocketAddr::new(to.ip(), 0)).unwrap();
        peer.connect(to).unwrap();
        peer
    }

    #[test]
    fn what_waits_in_an_adopted_group_is_received_and_its_filters_and_counts_stay() {
        for addr in loopback::addresses() {
            let old = group(SocketAddr::new(addr, 0), 2);
            let peer = peer_of(&old[0]);
            // The second one stays shut, as a quarantine.
            old[0].detach_filter().unwrap();
            let sent = 40;
            (0..sent).for_each(|_| assert_eq!(peer.send(b"before").unwrap(), 6));
            let descriptors = passed(&old);
            drop(old);
            (0..sent).for_each(|_| assert_eq!(peer.send(b"between").unwrap(), 7));
            let new = UdpSocket::adopt_group(descriptors, &UdpOptions::default()).unwrap();
            let drops: u32 = new.iter().map(|socket| socket.drops().unwrap()).sum();
            let received: u32 = new.into_iter().map(|each| drain(&Arc::new(each))).sum();
            assert_eq!(received + drops, 2 * sent);
        }
    }

    #[test]
    fn sockets_of_two_addresses_are_no_group() {
        let (one, other) = (
            group(FREE.parse().unwrap(), 1),
            group(FREE.parse().unwrap(), 1),
        );
        let mixed = [passed(&one), passed(&other)]
            .into_iter()
            .flatten()
            .collect();
        let refused = UdpSocket::adopt_group(mixed, &UdpOptions::default()).unwrap_err();
        assert_eq!(refused.error.kind(), io::ErrorKind::InvalidInput);
        let listener = net::TcpListener::bind(FREE).unwrap();
        let refused = UdpSocket::adopt_group(vec![listener.into()], &UdpOptions::default());
        assert_eq!(
            refused.unwrap_err().error.kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn a_group_around_a_socket_takes_nothing_that_came_before() {
        let theirs = Peer::bind(FREE).unwrap();
        let peer = Peer::bind(FREE).unwrap();
        peer.connect(theirs.local_addr().unwrap()).unwrap();
        (0..7).for_each(|_| assert_eq!(peer.send(b"stranger").unwrap(), 8));
        let (group, discarded) =
            UdpSocket::group_around(theirs.into(), 3, &UdpOptions::default()).unwrap();
        assert_eq!((group.len(), discarded), (3, 7));
        peer.send(b"early").unwrap();
        let drops: u32 = group.iter().map(|socket| socket.drops().unwrap()).sum();
        assert_eq!(drops, 1);
        let received: u32 = group.into_iter().map(|each| drain(&Arc::new(each))).sum();
        assert_eq!(received, 0);
    }

    #[test]
    fn a_descriptor_is_told_for_what_it_is() {
        let of = |descriptor: OwnedFd| Found::of(descriptor.as_fd()).unwrap();
        let datagrams = Peer::bind(FREE).unwrap();
        let addr = datagrams.local_addr().unwrap();
        assert_eq!(of(datagrams.into()), Found::Datagrams(addr));
        let left = group(FREE.parse().unwrap(), 1).pop().unwrap();
        left.leave().unwrap();
        let addr = left.local_addr().unwrap();
        assert_eq!(Found::of(left.as_fd()).unwrap(), Found::Connected(addr));
        let listener = net::TcpListener::bind(FREE).unwrap();
        let addr = listener.local_addr().unwrap();
        let connected = net::TcpStream::connect(addr).unwrap();
        assert_eq!(of(connected.into()), Found::Other);
        assert_eq!(of(listener.into()), Found::Listener(addr));
        assert_eq!(of(io::pipe().unwrap().0.into()), Found::Other);
        let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert_eq!(of(unix.into()), Found::Other);
        if let Ok(both) = Peer::bind("[::]:0") {
            let addr = both.local_addr().unwrap();
            assert_eq!(of(both.into()), Found::BothFamilies(addr));
        }
    }

    const FREE: &str = "127.0.0.1:0";
}
