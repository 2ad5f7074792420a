//! UDP sockets as a receiver needs them: a large buffer, exact counts, a way to stop without a hole.

use std::fmt;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::address;
use crate::bpf::{Instruction, Program};
use crate::sys::{membarrier, meminfo, sockopt};
use option::Hook;

/// Sockets that were bound before this process began.
mod adopt;
/// Several sockets on one address, and steering.
mod group;
/// Options, filters, buffers.
mod option;

pub use adopt::Found;

/// A bound UDP socket. Closed when dropped; what is queued then is lost without any kernel counter moving.
///
/// To stop and lose nothing unnamed: [`drop_all`](Self::drop_all), receive until a batch is empty and
/// [`queued_bytes`](Self::queued_bytes) is 0, read [`drops`](Self::drops), and only then let go.
#[derive(Debug)]
pub struct UdpSocket {
    socket: net::UdpSocket,
    warning: Option<RcvbufWarning>,
    gro: bool,
}

/// How to make a [`UdpSocket`]; the default is the system's receive buffer, and datagrams one by one.
#[derive(Debug, Clone, Default)]
pub struct UdpOptions {
    /// Receive buffer to ask for, in bytes of kernel memory; a small datagram takes 768 of them and more.
    /// `None` leaves the system's default.
    pub rcvbuf: Option<usize>,
    /// `UDP_GRO`: datagrams of equal length that arrive together may come as one train in one frame, which is
    /// cut again while a batch is read. 25 times cheaper where trains come: from senders on the same host with
    /// `UDP_SEGMENT`. Over a network it depends on the driver whether the kernel merges what comes together, and was
    /// not measured. Where no trains come, a datagram costs 10 to 40 ns more, and 100 to 130 with
    /// [`Uring`](crate::Uring). What one [drop](UdpSocket::drops) means, changes.
    ///
    /// All sockets of a [group](UdpSocket::bind_group) must agree, or the kernel merges by chance.
    pub gro: bool,
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
    /// Opens a socket and binds it to `addr`, for itself alone; port 0 lets the kernel choose. IPv6 sockets take
    /// no IPv4 traffic. [`bind_group`](Self::bind_group) is the way to share an address.
    ///
    /// # Errors
    /// The call that failed and why. A receive buffer smaller than asked for is a
    /// [`warning`](Self::rcvbuf_warning), not an error.
    pub fn bind(addr: SocketAddr, options: &UdpOptions) -> Result<Self, UdpError> {
        let socket = Self::open(addr, options)?;
        address::bind(&socket.socket, addr).map_err(UdpError::of("bind"))?;
        Ok(socket)
    }

    /// Asks `program` about every datagram from now on, in place of the filter before: what it answers is how many
    /// bytes to keep, the 8 of the UDP header included. So 0 drops it, and `u32::MAX` keeps it whole.
    ///
    /// Byte 0 of what the program loads is the first of the UDP header; the IP header is at `SKF_NET_OFF`. A load
    /// beyond the end drops. A train is asked about once, as one long datagram. What is dropped shows in
    /// [`drops`](Self::drops). A datagram that is in the kernel's receive path just then may still have
    /// passed the filter before.
    ///
    /// # Errors
    /// What setsockopt(2) said: `InvalidInput` for a program that is no good, `ENOMEM` for one longer than
    /// `net.core.optmem_max` allows. The kernel charges the new program to the socket while the one before still counts
    /// (`sk_attach_filter` of `net/core/filter.c`), so two may be too much where each fits alone: at a limit of 20 480
    /// bytes 1500 instructions are taken once and then refused in their own place.
    /// [Detach](Self::detach_filter) first where that matters. A refused program changes nothing.
    pub fn attach_filter(&self, program: &Program) -> io::Result<()> {
        option::attach(&self.socket, Hook::Filter, program.instructions())
    }

    /// Takes the filter away, so that everything is kept; nothing to do where there is none.
    ///
    /// # Errors
    /// What setsockopt(2) said.
    pub fn detach_filter(&self) -> io::Result<()> {
        let unused = 0;
        match sockopt::set_int(
            &self.socket,
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            unused,
        ) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            done => done,
        }
    }

    /// When this returns, the kernel drops every datagram that arrives; those already queued can still be
    /// received, and no more come to them.
    ///
    /// A filter that answers 0, in place of the one before. What it drops shows in [`drops`](Self::drops), so a
    /// stop loses nothing without a name. Takes some 10 ms: a processor that is just queueing a datagram went past
    /// the filter before it was there, and is waited for.
    ///
    /// # Errors
    /// What setsockopt(2) said, `ENOMEM` at worst: when the filter before leaves less of `net.core.optmem_max` than one
    /// instruction needs, some 100 bytes.
    pub fn drop_all(&self) -> io::Result<()> {
        Self::drop_all_of([self])
    }

    /// As [`drop_all`](Self::drop_all) for many sockets at once, in the time that one takes.
    ///
    /// # Errors
    /// What setsockopt(2) said for the first that failed; all the others drop nevertheless.
    pub fn drop_all_of<'a>(sockets: impl IntoIterator<Item = &'a Self>) -> io::Result<()> {
        let attach = |socket: &Self| option::attach(&socket.socket, Hook::Filter, &DROP_ALL);
        let attached = sockets.into_iter().map(attach);
        let done = attached.fold(Ok(()), io::Result::and);
        membarrier::settle();
        done
    }

    /// When every socket of the address has left and [`drop_all_of`](Self::drop_all_of) returned after that, the kernel
    /// finds none of them for a datagram any more, and tells senders that nobody listens. So their
    /// [`drops`](Self::drops) stand still, and can be read for the last time before the sockets are closed.
    ///
    /// Connects the socket to its own address: it then takes datagrams of that one peer, which is itself. What is queued
    /// stays.
    ///
    /// # Errors
    /// What connect(2) said.
    pub fn leave(&self) -> io::Result<()> {
        let mut own = self.socket.local_addr()?;
        if own.ip().is_unspecified() {
            own.set_ip(match own {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        self.socket.connect(own)
    }

    /// Asks for trains, or for them no more: see [`UdpOptions::gro`]. Before queues are made of the socket.
    ///
    /// **All sockets of a group must agree.** Whether the kernel merges a flow, it asks one socket of the group, chosen
    /// by a hash of the addresses (`udp_gro_receive` of `net/ipv4/udp_offload.c`) and not by the steering program.
    /// Where they differ, it merges some flows and others not, by chance: of 40 flows over a `veth` to a group of which
    /// one socket went without, 16 were merged. Never wrongly: a train that comes to a socket without the option is cut
    /// on its way.
    ///
    /// # Errors
    /// What setsockopt(2) said.
    pub fn set_gro(&mut self, gro: bool) -> io::Result<()> {
        sockopt::set_int(&self.socket, libc::IPPROTO_UDP, libc::UDP_GRO, gro.into())?;
        self.gro = gro;
        Ok(())
    }

    /// What the kernel dropped at this socket since it was opened, modulo 2^32: datagrams, but **a whole train
    /// counts 1** at a socket with [`gro`](UdpOptions::gro).
    ///
    /// Buffer full, no kernel memory, bad checksum, [filtered](Self::attach_filter): the kernel keeps one count,
    /// and adds one to it for each buffer it throws away (`udp_queue_rcv_one_skb`, and
    /// `__udp_enqueue_schedule_skb`, of Linux 6.18, and the test below). Without `gro` a train is cut before it
    /// comes to the socket, so the count is of datagrams. With it, and a sender that makes trains, a number above 0
    /// says that at least so many datagrams are missing. Feed it to a [`DropCounter`](crate::DropCounter).
    ///
    /// # Errors
    /// What getsockopt(2) said.
    pub fn drops(&self) -> io::Result<u32> {
        Ok(meminfo::read(&self.socket)?.drops)
    }

    /// Memory of the kernel, in bytes, that queued datagrams take; 0 only if there are none, once
    /// [`drop_all`](Self::drop_all) has returned. Before that, one may be on its way into the queue.
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
        option::rcvbuf(&self.socket)
    }

    /// What to tell the user about the receive buffer, if it is smaller than asked for.
    #[must_use]
    pub const fn rcvbuf_warning(&self) -> Option<RcvbufWarning> {
        self.warning
    }

    /// Whether datagrams may come as trains.
    #[must_use]
    pub const fn gro(&self) -> bool {
        self.gro
    }

    /// The address it is bound to, with the port that the kernel chose if none was given.
    ///
    /// # Errors
    /// What getsockname(2) said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// A socket with its options, bound to nothing yet.
    fn open(addr: SocketAddr, options: &UdpOptions) -> Result<Self, UdpError> {
        let socket = address::open(addr, libc::SOCK_DGRAM).map_err(UdpError::of("socket"))?;
        let socket = net::UdpSocket::from(socket);
        if addr.is_ipv6() {
            sockopt::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)
                .map_err(UdpError::of("setsockopt(IPV6_V6ONLY)"))?;
        }
        if options.gro {
            sockopt::set_int(&socket, libc::IPPROTO_UDP, libc::UDP_GRO, 1)
                .map_err(UdpError::of("setsockopt(UDP_GRO)"))?;
        }
        let mut opened = Self {
            socket,
            warning: None,
            gro: options.gro,
        };
        opened.grant(options)?;
        Ok(opened)
    }

    /// Asks for the receive buffer of `options`.
    fn grant(&mut self, options: &UdpOptions) -> Result<(), UdpError> {
        let Some(asked) = options.rcvbuf else {
            return Ok(());
        };
        sockopt::set_rcvbuf(&self.socket, asked).map_err(UdpError::of("setsockopt(SO_RCVBUF)"))?;
        let granted = option::rcvbuf(&self.socket);
        let granted = granted.map_err(UdpError::of("getsockopt(SO_RCVBUF)"))?;
        self.warning = (granted < asked).then_some(RcvbufWarning { asked, granted });
        Ok(())
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl UdpError {
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

impl fmt::Display for RcvbufWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, granted } = *self;
        // More than this no kernel grants, with whatever sysctl and privilege.
        let possible = asked.min(sockopt::RCVBUF_MAX);
        write!(f, "receive buffer is {granted} bytes, not {asked}: ")?;
        if granted < possible {
            write!(
                f,
                "raise it with `sysctl -w net.core.rmem_max={possible}` or run with CAP_NET_ADMIN"
            )?;
        } else {
            write!(f, "a kernel grants no more, ask for less")?;
        }
        Ok(())
    }
}

/// The filter that keeps nothing.
const DROP_ALL: [Instruction; 1] = [Instruction {
    code: 0x06, // BPF_RET | BPF_K
    jt: 0,
    jf: 0,
    k: 0,
}];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback;
    use crate::rx::QUEUED_LEN_MIN;
    use crate::{Batch, OpenQueue, RecvMmsg, RxQueue, Slab};
    use std::net::{IpAddr, UdpSocket as Peer};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    fn bound(addr: &str, options: &UdpOptions) -> UdpSocket {
        UdpSocket::bind(addr.parse().unwrap(), options).unwrap()
    }

    #[test]
    fn a_port_is_ours_alone() {
        let options = UdpOptions::default();
        let first = bound("127.0.0.1:0", &options);
        let error = UdpSocket::bind(first.local_addr().unwrap(), &options).unwrap_err();
        assert_eq!(error.call, "bind");
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
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
        let warning = huge.rcvbuf_warning().unwrap();
        assert_eq!(warning.asked, usize::MAX);
        let advice = warning.to_string();
        if warning.granted == sockopt::RCVBUF_MAX {
            assert!(advice.ends_with("ask for less"), "{advice}");
        } else {
            assert!(advice.contains("net.core.rmem_max=1073741823`"), "{advice}");
        }
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
    fn a_train_that_is_dropped_counts_one_with_gro_and_its_datagrams_without() {
        const TRAINS: u32 = 20;
        for gro in [false, true] {
            let options = UdpOptions {
                rcvbuf: Some(4096),
                gro,
            };
            let socket = Arc::new(bound("127.0.0.1:0", &options));
            assert_eq!(socket.gro(), gro);
            let peer = loopback::train_sender(socket.local_addr().unwrap(), 100);
            (0..TRAINS).for_each(|_| assert_eq!(peer.send(&[1; 1000]).unwrap(), 1000));
            let received = drain(&socket);
            let dropped = socket.drops().unwrap();
            assert!(received > 0 && dropped > 0);
            if gro {
                assert_eq!((received / 10 + dropped, received % 10), (TRAINS, 0));
            } else {
                assert_eq!(received + dropped, TRAINS * 10);
            }
        }
    }

    #[test]
    fn a_filter_keeps_what_its_answer_says_until_it_is_detached() {
        // Drops what begins with 'd' (after the 8 bytes of the header), keeps 2 bytes of 's', all of the rest.
        let program = [
            (0x30, 0, 0, 8),               // load the byte
            (0x15, 2, 0, u32::from(b'd')), // 'd': to the return of 0
            (0x15, 2, 0, u32::from(b's')), // 's': to the return of 10
            (0x06, 0, 0, u32::MAX),
            (0x06, 0, 0, 0),
            (0x06, 0, 0, 10),
        ]
        .map(|(code, jt, jf, k)| Instruction { code, jt, jf, k });
        let program = Program::new(program.to_vec()).unwrap();
        for addr in loopback::addresses() {
            let free = SocketAddr::new(addr, 0);
            let socket = Arc::new(UdpSocket::bind(free, &UdpOptions::default()).unwrap());
            let peer = Peer::bind(free).unwrap();
            peer.connect(socket.local_addr().unwrap()).unwrap();
            let send = || {
                for text in ["drop", "short", "keep", ""] {
                    peer.send(text.as_bytes()).unwrap();
                }
            };
            socket.detach_filter().unwrap();
            socket.attach_filter(&program).unwrap();
            send();
            let seen = received(&socket);
            assert_eq!(seen, [&b"sh"[..], &b"keep"[..]]);
            // "drop", and the one too short to be asked about.
            assert_eq!(socket.drops().unwrap(), 2);

            socket.detach_filter().unwrap();
            send();
            assert_eq!(drain(&socket), 4);
            assert_eq!(socket.drops().unwrap(), 2);
        }
    }

    #[test]
    fn a_program_that_is_no_good_is_refused() {
        let socket = bound("127.0.0.1:0", &UdpOptions::default());
        let endless = Instruction {
            code: 0x00,
            jt: 0,
            jf: 0,
            k: 0,
        };
        let program = Program::new(vec![endless]).unwrap();
        let refused = socket.attach_filter(&program).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
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
    fn who_has_left_is_found_by_no_datagram_and_counts_no_more_drops() {
        for addr in loopback::addresses() {
            let any = match addr {
                IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            for bind_to in [addr, any] {
                let bind_to = SocketAddr::new(bind_to, 0);
                let group = UdpSocket::bind_group(bind_to, 3, &UdpOptions::default()).unwrap();
                let port = group[0].local_addr().unwrap().port();
                let peer = Peer::bind(SocketAddr::new(addr, 0)).unwrap();
                peer.connect(SocketAddr::new(addr, port)).unwrap();
                peer.send(b"dropped").unwrap();
                for socket in &group {
                    socket.leave().unwrap();
                }
                UdpSocket::drop_all_of(&group).unwrap();
                let drops = || {
                    group
                        .iter()
                        .map(|socket| socket.drops().unwrap())
                        .sum::<u32>()
                };
                assert_eq!(drops(), 1);
                let refused = (0..10).filter(|_| peer.send(b"nobody").is_err()).count();
                assert!(refused > 0, "the kernel tells that nobody listens");
                assert_eq!(drops(), 1);
            }
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

    fn received(socket: &Arc<UdpSocket>) -> Vec<Vec<u8>> {
        let (mut slab, mut batch) = (Slab::new(8).unwrap(), Batch::new(8));
        let mut queue = RecvMmsg::open(Arc::clone(socket), 8).unwrap();
        queue.recv(&mut slab, &mut batch).unwrap();
        let datagrams = batch.datagrams(&slab);
        datagrams.map(|datagram| datagram.bytes.to_vec()).collect()
    }

    pub(super) fn drain(socket: &Arc<UdpSocket>) -> u32 {
        let (mut slab, mut batch) = (Slab::new(8).unwrap(), Batch::new(8));
        let mut queue = RecvMmsg::open(Arc::clone(socket), 8).unwrap();
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
