//! How datagrams of a thread leave: one socket for each address family, chosen when it is first needed, and anew when the host gives
//! others.
//!
//! That is what the thread itself listens with; or else the first of that family that the host gave, so that packets come from where
//! it listens, as those of `bin_listen` do; or else one of the kernel's defaults and of a port of its choice. A socket of the host's is
//! held while something is sent and no longer: a thread that never sends again keeps no listener open. Nothing waits for room: a
//! shard may be sending. A queue is made when something is first queued: it takes 64 packets or 256 KiB of them, whichever is less,
//! and is sent when it is full. A child of fork(2) drops what its parent queued.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use binrush_net::{SendMmsg, Tx, TxBatch};

use super::counts::{self, Count};
use super::forks::Process;
use crate::abi::base::SockaddrUnion;

/// What a thread sends from.
#[derive(Debug)]
pub(crate) struct Outbox {
    v4: Option<Way>,
    v6: Option<Way>,
    /// What the thread listens with, and where.
    own: Option<Source>,
}

/// A socket to send from, and where it is bound.
pub(crate) type Source = (SocketAddr, Arc<UdpSocket>);

/// One address family.
#[derive(Debug)]
struct Way {
    /// Where a socket of the kernel's choice is bound.
    any: SocketAddr,
    socket: Socket,
    /// Which of the host's gifts it was chosen from.
    generation: u64,
    queue: Option<Queue>,
}

#[derive(Debug)]
enum Socket {
    /// The host's, which may close it at any time.
    Given(Weak<UdpSocket>),
    /// This thread's.
    Own(Arc<UdpSocket>),
}

#[derive(Debug)]
struct Queue {
    /// Told its socket each time.
    tx: SendMmsg<RawFd>,
    batch: TxBatch,
    /// Who filled it.
    owner: Process,
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self {
            v4: None,
            v6: None,
            own: None,
        }
    }

    /// Sends from `own`, where its family is that of a destination; what is queued goes out before.
    pub(crate) fn send_from_own(&mut self, own: Option<Source>) {
        self.flush();
        (self.v4, self.v6, self.own) = (None, None, own);
    }

    /// Sends `packet` to `to` now, behind all that is queued.
    ///
    /// # Errors
    /// No socket, or the kernel's, also that there is no room; the packet is counted as failed.
    #[inline]
    pub(crate) fn send(&mut self, packet: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.flush();
        let sent = self
            .way(to)
            .and_then(|(way, own)| way.send(own, packet, to));
        counts::add(
            if sent.is_ok() {
                Count::Sent
            } else {
                Count::Failed
            },
            1,
        );
        sent
    }

    /// Queues `packet` for `to`; sends the queue first if it is full. What becomes of it is known when it is sent.
    ///
    /// # Errors
    /// No socket; the packet is counted as failed.
    #[inline]
    pub(crate) fn queue(&mut self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        match self.way(to) {
            Ok((way, own)) => {
                way.queue(own, packet, to);
                Ok(())
            }
            Err(error) => {
                counts::add(Count::Failed, 1);
                Err(error)
            }
        }
    }

    /// Sends what is queued; how many packets the kernel took, and how many it did not.
    pub(crate) fn flush(&mut self) -> (u64, u64) {
        [&mut self.v4, &mut self.v6]
            .into_iter()
            .flatten()
            .map(|way| way.flush(self.own.as_ref()))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// The one to `to`, and what it may send from besides.
    #[inline]
    fn way(&mut self, to: SocketAddr) -> io::Result<(&mut Way, Option<&Source>)> {
        let (way, any) = match to {
            SocketAddr::V4(_) => (&mut self.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&mut self.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        let own = self.own.as_ref();
        match way {
            Some(way) => Ok((way, own)),
            None => Ok((way.insert(Way::open(any, own)?), own)),
        }
    }
}

impl Way {
    #[cold]
    fn open(any: SocketAddr, own: Option<&Source>) -> io::Result<Self> {
        let (socket, generation) = Socket::choose(any, own)?;
        Ok(Self {
            any,
            socket,
            generation,
            queue: None,
        })
    }

    /// What to send from now: another one where the host gave others, or took back what it gave.
    #[inline]
    fn socket(&mut self, own: Option<&Source>) -> io::Result<Arc<UdpSocket>> {
        if self.generation == GENERATION.load(Ordering::Relaxed)
            && let Some(socket) = self.socket.hold()
        {
            return Ok(socket);
        }
        self.choose_again(own)
    }

    #[cold]
    fn choose_again(&mut self, own: Option<&Source>) -> io::Result<Arc<UdpSocket>> {
        loop {
            (self.socket, self.generation) = Socket::choose(self.any, own)?;
            // Nothing: it was taken back a moment ago, so there are others now.
            if let Some(socket) = self.socket.hold() {
                return Ok(socket);
            }
        }
    }

    #[inline]
    fn send(&mut self, own: Option<&Source>, packet: &[u8], to: SocketAddr) -> io::Result<usize> {
        let socket = self.socket(own)?;
        let len = address_len(to);
        let to = SockaddrUnion::of(to);
        loop {
            // SAFETY: so many bytes, and an address of that length. (sendto(2))
            let sent = unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    packet.as_ptr().cast(),
                    packet.len(),
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                    (&raw const to).cast(),
                    len,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                return Ok(sent);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    #[inline]
    fn queue(&mut self, own: Option<&Source>, packet: &[u8], to: SocketAddr) {
        let queue = self.queue.get_or_insert_with(Queue::new);
        queue.leave_to_parent();
        if !queue.batch.push(to, packet) {
            self.flush(own);
            let queue = self.queue.get_or_insert_with(Queue::new);
            let is_queued = queue.batch.push(to, packet);
            assert!(is_queued, "a datagram has room in an empty queue");
        }
        if self.queued() == QUEUE_LEN {
            self.flush(own);
        }
    }

    #[inline]
    fn flush(&mut self, own: Option<&Source>) -> (u64, u64) {
        if self.queued() == 0 {
            return (0, 0);
        }
        let socket = self.socket(own);
        let queue = self.queue.as_mut();
        queue.map_or((0, 0), |queue| queue.send(socket.ok().as_deref()))
    }

    fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.batch.len())
    }
}

impl Socket {
    /// What `own` or the host has for packets that leave from `any`, or a new one; and the generation of what the host has.
    fn choose(any: SocketAddr, own: Option<&Source>) -> io::Result<(Self, u64)> {
        let is_of_family = |(local, _): &&Source| local.is_ipv4() == any.is_ipv4();
        let given = GIVEN.read().unwrap_or_else(PoisonError::into_inner);
        // It changes with the lock alone.
        let generation = GENERATION.load(Ordering::Relaxed);
        let given = given.iter().find(is_of_family);
        let socket = match (own.filter(is_of_family), given) {
            (Some((_, own)), _) => Self::Own(Arc::clone(own)),
            (None, Some((_, given))) => Self::Given(Arc::downgrade(given)),
            (None, None) => Self::Own(Arc::new(UdpSocket::bind(any)?)),
        };
        Ok((socket, generation))
    }

    /// Open for as long as somebody has it. `None`: the host took it back.
    #[inline]
    fn hold(&self) -> Option<Arc<UdpSocket>> {
        match self {
            Self::Given(socket) => socket.upgrade(),
            Self::Own(socket) => Some(Arc::clone(socket)),
        }
    }
}

impl Queue {
    #[cold]
    fn new() -> Self {
        Self {
            tx: SendMmsg::new(NOWHERE).with_patience(PATIENCE),
            batch: TxBatch::new(QUEUE_LEN, QUEUE_BYTES),
            owner: Process::this(),
        }
    }

    /// In a child, drops what the parent sends.
    #[inline]
    fn leave_to_parent(&mut self) {
        if !self.owner.is_this() {
            self.batch.clear();
            self.owner = Process::this();
        }
    }

    /// Empties it; without a socket all of it has failed.
    fn send(&mut self, socket: Option<&UdpSocket>) -> (u64, u64) {
        self.leave_to_parent();
        let (sent, failed) = match socket {
            Some(socket) => {
                self.tx.change_socket(socket.as_raw_fd());
                let sent = self.tx.send(&mut self.batch);
                // Somebody else's may have that number behind it.
                self.tx.change_socket(NOWHERE);
                (sent.sent, sent.failed)
            }
            None => {
                let failed = self.batch.len() as u64;
                self.batch.clear();
                (0, failed)
            }
        };
        counts::add(Count::Sent, sent);
        counts::add(Count::Failed, failed);
        (sent, failed)
    }
}

/// What a thread leaves behind goes out when it ends.
impl Drop for Outbox {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Gives what threads send from that do not listen themselves, instead of what was given before: sockets with the addresses that they
/// are bound to. The first one of a destination's family is used, whichever others there are. (1.11 `bin_interface.c`: of the one of
/// `bin_listen`) What was given before is closed when this returns, but where a thread is sending from it at that moment.
pub(crate) fn send_from(sockets: Vec<(SocketAddr, OwnedFd)>) {
    let sockets = sockets
        .into_iter()
        .map(|(local, fd)| (local, Arc::new(UdpSocket::from(fd))))
        .collect();
    let mut given = GIVEN.write().unwrap_or_else(PoisonError::into_inner);
    let before = mem::replace(&mut *given, sockets);
    GENERATION.fetch_add(1, Ordering::Relaxed);
    drop(given);
    // Closed here, and without the lock.
    drop(before);
}

/// Goes on with those of the sockets given before that are bound to one of `open`, and with `more`, in the order of `open`; the others
/// are closed as by [`send_from`].
pub(crate) fn send_from_open(open: &[SocketAddr], more: Vec<(SocketAddr, OwnedFd)>) {
    let more = more.into_iter();
    let mut sockets: Vec<_> = more
        .map(|(local, fd)| (local, Arc::new(UdpSocket::from(fd))))
        .collect();
    let mut given = GIVEN.write().unwrap_or_else(PoisonError::into_inner);
    let before = mem::take(&mut *given);
    sockets.extend(before.iter().cloned());
    let place = |(local, _): &Source| open.iter().position(|open| open == local);
    sockets.retain(|each| place(each).is_some());
    sockets.sort_by_key(place);
    *given = sockets;
    GENERATION.fetch_add(1, Ordering::Relaxed);
    drop(given);
    // Closed here, and without the lock.
    drop(before);
}

/// Whether there is one among those given that is bound to `local`.
pub(crate) fn is_given(local: SocketAddr) -> bool {
    let given = GIVEN.read().unwrap_or_else(PoisonError::into_inner);
    given.iter().any(|(addr, _)| *addr == local)
}

#[expect(clippy::cast_possible_truncation, reason = "16 and 28")]
fn address_len(to: SocketAddr) -> libc::socklen_t {
    let len = match to {
        SocketAddr::V4(_) => size_of::<libc::sockaddr_in>(),
        SocketAddr::V6(_) => size_of::<libc::sockaddr_in6>(),
    };
    len as libc::socklen_t
}

static GIVEN: RwLock<Vec<Source>> = RwLock::new(Vec::new());

/// How often it changed, so that who has chosen asks for no lock.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// No descriptor.
const NOWHERE: RawFd = -1;

/// For room, of a whole queue: no longer than a shard may take for something that is not a packet.
const PATIENCE: Duration = Duration::from_millis(1);

/// As many as one system call takes. (`BINRUSH_BATCH_MAX` of `include/binrush.h`)
const QUEUE_LEN: usize = 64;

/// 64 packets of 4 KiB; at least one datagram of the largest size.
const QUEUE_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn receiver(ip: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let addr = socket.local_addr().unwrap();
        (socket, addr)
    }

    fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let len = socket.recv(&mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    fn nothing_waits(socket: &UdpSocket) -> bool {
        socket.set_nonblocking(true).unwrap();
        let nothing = socket.recv(&mut [0; 1]).is_err();
        socket.set_nonblocking(false).unwrap();
        nothing
    }

    #[test]
    fn what_is_queued_waits_for_the_flush_and_keeps_its_order_with_what_is_sent() {
        let (socket, to) = receiver("127.0.0.1");
        let mut outbox = Outbox::new();
        outbox.queue(b"one", to).unwrap();
        outbox.queue(b"two", to).unwrap();
        assert!(nothing_waits(&socket));
        assert_eq!(outbox.send(b"three", to).unwrap(), 5);
        outbox.queue(b"four", to).unwrap();
        assert_eq!(outbox.flush(), (1, 0));
        assert_eq!(outbox.flush(), (0, 0));
        for expected in ["one", "two", "three", "four"] {
            assert_eq!(receive(&socket), expected.as_bytes());
        }
    }

    #[test]
    fn a_full_queue_goes_out_by_itself_by_number_and_by_size() {
        let (socket, to) = receiver("127.0.0.1");
        let mut outbox = Outbox::new();
        for n in 0..QUEUE_LEN {
            assert!(nothing_waits(&socket));
            outbox.queue(&[u8::try_from(n).unwrap()], to).unwrap();
        }
        for n in 0..QUEUE_LEN {
            assert_eq!(receive(&socket), [u8::try_from(n).unwrap()]);
        }
        let large = vec![9; 60_000];
        for _ in 0..5 {
            outbox.queue(&large, to).unwrap();
        }
        // Four fit; the fifth waits.
        assert_eq!(receive(&socket), large);
        assert_eq!(outbox.flush(), (1, 0));
    }

    #[test]
    fn what_waits_when_the_thread_ends_is_sent() {
        let (socket, to) = receiver("127.0.0.1");
        Outbox::new().queue(b"last words", to).unwrap();
        assert_eq!(receive(&socket), b"last words");
    }

    #[test]
    fn what_the_kernel_refuses_is_told_and_the_rest_goes() {
        let (socket, to) = receiver("127.0.0.1");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut outbox = Outbox::new();
        assert!(outbox.send(b"x", nowhere).is_err());
        for to in [nowhere, to] {
            outbox.queue(b"x", to).unwrap();
        }
        assert_eq!(outbox.flush(), (1, 1));
        assert_eq!(receive(&socket), b"x");
    }

    #[test]
    fn packets_leave_from_what_the_host_gave_and_rather_from_what_the_thread_listens_with() {
        let (socket, to) = receiver("127.0.0.1");
        let source = || {
            let (_, source) = socket.recv_from(&mut [0; 16]).unwrap();
            source
        };
        let (given, given_addr) = receiver("127.0.0.1");
        let (own, own_addr) = receiver("127.0.0.1");
        let mut before = Outbox::new();
        before.send(b"before", to).unwrap();
        assert_ne!(source(), given_addr);
        send_from(vec![(given_addr, given.into())]);
        let mut outbox = Outbox::new();
        outbox.send(b"sent", to).unwrap();
        assert_eq!(source(), given_addr);
        outbox.queue(b"queued", to).unwrap();
        outbox.send_from_own(Some((own_addr, Arc::new(own))));
        assert_eq!(source(), given_addr);
        outbox.send(b"own", to).unwrap();
        assert_eq!(source(), own_addr);
        // Who has sent already, too.
        before.send(b"after", to).unwrap();
        assert_eq!(source(), given_addr);
        before.queue(b"waits", to).unwrap();
        let (other, other_addr) = receiver("127.0.0.1");
        send_from(vec![(other_addr, other.into())]);
        // Whoever has sent from it, and does not send any more.
        drop(UdpSocket::bind(given_addr).expect("the address is free again"));
        assert_eq!(before.flush(), (1, 0));
        assert_eq!(source(), other_addr);
        // One of them closes, and another one comes in front of what stays.
        let (third, third_addr) = receiver("127.0.0.1");
        let (front, front_addr) = receiver("127.0.0.1");
        assert!(is_given(other_addr) && !is_given(third_addr));
        send_from_open(&[other_addr, third_addr], vec![(third_addr, third.into())]);
        before.send(b"as before", to).unwrap();
        assert_eq!(source(), other_addr);
        send_from_open(&[front_addr, third_addr], vec![(front_addr, front.into())]);
        before.send(b"in front", to).unwrap();
        assert_eq!(source(), front_addr);
        drop(UdpSocket::bind(other_addr).expect("the address is free again"));
        // What nobody could be given a reference to costs none of those that stay.
        send_from_open(&[other_addr, third_addr], Vec::new());
        before.send(b"stays", to).unwrap();
        assert_eq!(source(), third_addr);
        send_from(Vec::new());
        outbox.send_from_own(None);
        outbox.send(b"neither", to).unwrap();
        assert!(![given_addr, own_addr, other_addr].contains(&source()));
    }

    #[test]
    fn ipv6_has_a_socket_of_its_own() {
        let Ok(socket) = UdpSocket::bind("[::1]:0") else {
            println!("\nSKIPPED ipv6_has_a_socket_of_its_own: no IPv6 here\n");
            return;
        };
        let mut outbox = Outbox::new();
        let to = socket.local_addr().unwrap();
        outbox.queue(b"six", to).unwrap();
        outbox.flush();
        assert_eq!(receive(&socket), b"six");
    }
}
