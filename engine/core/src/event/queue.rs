//! A subscriber's queue, and the sockets that all are sent from.
//!
//! What can be sent at once is; what cannot waits, in order, as much as may. Who does not read is tried again soon, who cannot be
//! reached after a delay that doubles: each try costs as much as an event. Only what the kernel will never take, because it is too
//! long, is given up at once.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;

use super::counts::{Reach, Standing, Tally};
use super::socket::EventSocket;
use crate::clock::Timestamp;

/// One socket that events go to.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) socket: EventSocket,
    pub(super) tally: Tally,
    waiting: VecDeque<Box<[u8]>>,
    /// Of what waits.
    bytes: usize,
    reach: Reach,
    /// When it is tried again.
    again: Timestamp,
    /// After the next failure.
    delay: Duration,
    trouble: Arc<str>,
}

/// What events are sent from; each is opened when it is needed first.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    unix: Option<UnixDatagram>,
}

impl Subscriber {
    pub(super) fn new(socket: EventSocket) -> Self {
        Self {
            socket,
            tally: Tally::default(),
            waiting: VecDeque::new(),
            bytes: 0,
            reach: Reach::Up,
            again: Timestamp::from_nanos(0),
            delay: AWAY_MIN,
            trouble: Arc::default(),
        }
    }

    /// Sends `datagram` behind all that waits, or lets it wait, or drops it.
    pub(super) fn offer(&mut self, now: Timestamp, datagram: &[u8], sockets: &mut Sockets) {
        self.tally.offered += 1;
        if self.waiting.is_empty() && self.send(now, datagram, sockets) {
            return;
        }
        if self.waiting.len() >= QUEUE_EVENTS || self.bytes + datagram.len() > QUEUE_BYTES {
            self.tally.dropped += 1;
            return;
        }
        self.bytes += datagram.len();
        self.waiting.push_back(datagram.into());
    }

    /// Sends what waits, if it is time.
    pub(super) fn flush(&mut self, now: Timestamp, sockets: &mut Sockets) {
        while self.again <= now {
            let Some(datagram) = self.waiting.pop_front() else {
                return;
            };
            if !self.send(now, &datagram, sockets) {
                self.waiting.push_front(datagram);
                return;
            }
            self.bytes -= datagram.len();
        }
    }

    /// Whether nothing more is to be done with it: the kernel took it, or will never.
    fn send(&mut self, now: Timestamp, datagram: &[u8], sockets: &mut Sockets) -> bool {
        if self.again > now {
            return false;
        }
        let Err(error) = sockets.send(&self.socket, datagram) else {
            self.tally.sent += 1;
            (self.reach, self.delay) = (Reach::Up, AWAY_MIN);
            return true;
        };
        self.note(&error);
        let Some(reach) = lack(&self.socket, &error) else {
            self.tally.failed += 1;
            return true;
        };
        self.reach = reach;
        let pause = match reach {
            Reach::Blocked => BLOCKED,
            _ => {
                let delay = self.delay;
                self.delay = (delay * 2).min(AWAY_MAX);
                delay
            }
        };
        self.again = now.after(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        false
    }

    fn note(&mut self, error: &io::Error) {
        let words = error.to_string();
        // Each time the same words, where nothing has changed.
        if *self.trouble != *words {
            self.trouble = words.into();
        }
    }

    /// When it is to be tried again; `None`: nothing waits.
    pub(super) fn due(&self) -> Option<Timestamp> {
        (!self.waiting.is_empty()).then_some(self.again)
    }

    pub(super) fn queued(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// How it is.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            socket: self.socket.clone(),
            tally: self.tally,
            queued: self.queued(),
            reach: self.reach,
            trouble: Arc::clone(&self.trouble),
        }
    }

    /// The same, in place of how it or another one was.
    pub(super) fn stand(&self, standing: &mut Standing) {
        if standing.socket != self.socket {
            *standing = self.standing();
            return;
        }
        (standing.tally, standing.queued, standing.reach) = (self.tally, self.queued(), self.reach);
        if !Arc::ptr_eq(&standing.trouble, &self.trouble) {
            standing.trouble = Arc::clone(&self.trouble);
        }
    }
}

impl Sockets {
    fn send(&mut self, to: &EventSocket, datagram: &[u8]) -> io::Result<()> {
        let sent = match to {
            EventSocket::Unix(path) => match &mut self.unix {
                Some(socket) => socket.send_to(datagram, path)?,
                none => none.insert(local()?).send_to(datagram, path)?,
            },
            EventSocket::Udp(addr) => {
                let slot = match addr {
                    SocketAddr::V4(_) => &mut self.v4,
                    SocketAddr::V6(_) => &mut self.v6,
                };
                match slot {
                    Some(socket) => socket.send_to(datagram, addr)?,
                    none => none.insert(udp(*addr)?).send_to(datagram, addr)?,
                }
            }
        };
        debug_assert_eq!(sent, datagram.len(), "a datagram is sent whole");
        Ok(())
    }
}

fn local() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What `error` says of who is at `socket`; `None`: of the datagram alone, which is longer than any that the kernel takes.
///
/// Whatever else it says holds for the next one too. That nobody is at a port is not told: such an answer comes later, and no socket
/// of ours is connected. (unix(7), udp(7).)
fn lack(socket: &EventSocket, error: &io::Error) -> Option<Reach> {
    let is_path = socket.path().is_some();
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => None,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => Some(Reach::Blocked),
        Some(libc::EACCES | libc::EPERM) if is_path => Some(Reach::Denied),
        // Nothing, a file, a stream, or what somebody left behind.
        Some(
            libc::ENOENT
            | libc::ENOTDIR
            | libc::ELOOP
            | libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::ENOTSOCK
            | libc::EPROTOTYPE,
        ) if is_path => Some(Reach::Gone),
        _ => Some(Reach::Failing),
    }
}

/// Events that wait for one subscriber.
pub(super) const QUEUE_EVENTS: usize = 4096;

/// Their bytes: sixteen of the longest.
const QUEUE_BYTES: usize = 1 << 20;

/// Until a reader that is too slow is tried again.
const BLOCKED: Duration = Duration::from_millis(5);

/// Until one that cannot be reached is, first and at last.
const AWAY_MIN: Duration = Duration::from_millis(100);
const AWAY_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::counts::SubscriberSnapshot;
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    impl Subscriber {
        fn snapshot(&self) -> SubscriberSnapshot {
            SubscriberSnapshot::from(&self.standing())
        }
    }

    /// A path of one test's own.
    fn path(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("binrush-queue-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_reader_that_is_not_there_is_tried_again_later_and_later_and_gets_what_waits() {
        let path = path("gone");
        let mut sockets = Sockets::default();
        let mut subscriber = Subscriber::new(EventSocket::Unix(path.clone()));
        subscriber.offer(at(0), b"one", &mut sockets);
        assert_eq!(subscriber.due(), Some(at(100)));
        assert_eq!(subscriber.snapshot().reach, Reach::Gone);
        // Nobody looks for it before.
        let reader = UnixDatagram::bind(&path).unwrap();
        subscriber.offer(at(99), b"two", &mut sockets);
        subscriber.flush(at(99), &mut sockets);
        assert_eq!(subscriber.queued(), 2);
        drop(reader);
        // What is left behind of it refuses.
        subscriber.flush(at(100), &mut sockets);
        assert_eq!(subscriber.due(), Some(at(300)));
        fs::remove_file(&path).unwrap();
        let reader = UnixDatagram::bind(&path).unwrap();
        subscriber.flush(at(300), &mut sockets);
        let mut buffer = [0; 16];
        for expected in [b"one", b"two"] {
            let len = reader.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected);
        }
        let snapshot = subscriber.snapshot();
        assert_eq!((snapshot.sent, snapshot.queued), (2, 0));
        assert_eq!((snapshot.reach, subscriber.due()), (Reach::Up, None));
        assert!(snapshot.is_balanced() && !snapshot.trouble.is_empty());
        fs::remove_file(&path).unwrap();
        // It begins anew with the shortest delay, and ends with the longest.
        let mut now = at(1000);
        for delay in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            match subscriber.queued() {
                0 => subscriber.offer(now, b"three", &mut sockets),
                _ => subscriber.flush(now, &mut sockets),
            }
            now = now.after(delay * 1_000_000);
            assert_eq!(subscriber.due(), Some(now));
        }
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_nobody_and_loses_what_has_no_room_in_its_queue() {
        let path = path("blocked");
        let reader = UnixDatagram::bind(&path).unwrap();
        let mut sockets = Sockets::default();
        let mut subscriber = Subscriber::new(EventSocket::Unix(path.clone()));
        let events = 3 * QUEUE_EVENTS as u64;
        for n in 0..events {
            subscriber.offer(at(0), format!("{n}").as_bytes(), &mut sockets);
        }
        let snapshot = subscriber.snapshot();
        assert_eq!(snapshot.reach, Reach::Blocked);
        assert_eq!(snapshot.queued, QUEUE_EVENTS as u64);
        assert!(snapshot.sent > 0 && snapshot.dropped > 0 && snapshot.is_balanced());
        // In order, and the first ones.
        let kept = snapshot.sent + snapshot.queued;
        let mut buffer = [0; 16];
        for n in 0..kept {
            subscriber.flush(at(10 * (n + 1)), &mut sockets);
            let len = reader.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], format!("{n}").as_bytes());
        }
        assert_eq!(subscriber.snapshot().sent, kept);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_the_kernel_will_never_take_is_counted_and_the_next_is_sent() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sockets = Sockets::default();
        let to = receiver.local_addr().unwrap();
        let mut subscriber = Subscriber::new(EventSocket::Udp(to));
        // Longer than a datagram of IPv4.
        subscriber.offer(at(0), &vec![b'x'; 65_508], &mut sockets);
        subscriber.offer(at(0), b"short", &mut sockets);
        let mut buffer = [0; 16];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 5);
        let snapshot = subscriber.snapshot();
        assert_eq!((snapshot.failed, snapshot.sent), (1, 1));
        assert!(snapshot.is_balanced());
    }

    #[test]
    fn who_cannot_be_reached_over_udp_is_tried_again_later_and_later_and_nothing_is_lost_before_there_is_no_room()
     {
        let mut sockets = Sockets::default();
        // A socket that did not ask for it may not send there. (socket(7), `SO_BROADCAST`.)
        let mut subscriber = Subscriber::new("udp:255.255.255.255:9".parse().unwrap());
        let mut now = at(0);
        for delay in [100, 200, 400] {
            for _ in 0..10 {
                subscriber.offer(now, b"event", &mut sockets);
                subscriber.flush(now, &mut sockets);
            }
            now = now.after(delay * 1_000_000);
            assert_eq!(subscriber.due(), Some(now), "tried once");
        }
        let snapshot = subscriber.snapshot();
        assert_eq!(snapshot.reach, Reach::Failing);
        assert_eq!(
            (snapshot.queued, snapshot.failed, snapshot.sent),
            (30, 0, 0)
        );
        assert!(snapshot.is_balanced() && snapshot.trouble.contains("ermission denied"));
    }

    #[test]
    fn nobody_at_a_port_is_no_trouble_as_nobody_says_so() {
        let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut subscriber = Subscriber::new(EventSocket::Udp(reader.local_addr().unwrap()));
        drop(reader);
        let mut sockets = Sockets::default();
        for _ in 0..5 {
            subscriber.offer(at(0), b"event", &mut sockets);
        }
        let snapshot = subscriber.snapshot();
        assert_eq!((snapshot.sent, snapshot.reach), (5, Reach::Up));
    }

    #[test]
    fn what_the_kernel_says_is_told_apart() {
        let path = EventSocket::Unix("/run/e.sock".into());
        let port: EventSocket = "udp:127.0.0.1:9".parse().unwrap();
        let says = |socket, code| lack(socket, &io::Error::from_raw_os_error(code));
        for (code, at_path, at_port) in [
            (libc::EMSGSIZE, None, None),
            (libc::EAGAIN, Some(Reach::Blocked), Some(Reach::Blocked)),
            (libc::ENOENT, Some(Reach::Gone), Some(Reach::Failing)),
            (libc::ECONNREFUSED, Some(Reach::Gone), Some(Reach::Failing)),
            (libc::EACCES, Some(Reach::Denied), Some(Reach::Failing)),
            (libc::EPERM, Some(Reach::Denied), Some(Reach::Failing)),
            (
                libc::ENETUNREACH,
                Some(Reach::Failing),
                Some(Reach::Failing),
            ),
            (libc::EMFILE, Some(Reach::Failing), Some(Reach::Failing)),
        ] {
            let told = (says(&path, code), says(&port, code));
            assert_eq!(told, (at_path, at_port), "{code}");
        }
    }

    #[test]
    fn ipv6_is_sent_from_a_socket_of_its_own() {
        let Ok(receiver) = UdpSocket::bind("[::1]:0") else {
            return eprintln!("SKIPPED ipv6_is_sent_from_a_socket_of_its_own: no IPv6 here");
        };
        let to = receiver.local_addr().unwrap();
        let mut subscriber = Subscriber::new(EventSocket::Udp(to));
        subscriber.offer(at(0), b"six", &mut Sockets::default());
        assert_eq!(receiver.recv(&mut [0; 16]).unwrap(), 3);
    }
}
