//! A subscriber's queue, and the sockets that all are sent from.
//!
//! What can be sent at once is; what cannot waits, in order, as much as may. Who does not read is tried again soon, who is not there
//! after a delay that doubles: a file that is looked for costs as much as some events.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::libc;

use super::counts::{Reach, SubscriberSnapshot, Tally};
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
    trouble: String,
}

/// What events are sent from; each is opened when it is needed first.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    unix: Option<UnixDatagram>,
}

impl Subscriber {
    pub(super) const fn new(socket: EventSocket) -> Self {
        Self {
            socket,
            tally: Tally {
                offered: 0,
                sent: 0,
                dropped: 0,
                failed: 0,
                unwritable: 0,
            },
            waiting: VecDeque::new(),
            bytes: 0,
            reach: Reach::Up,
            again: Timestamp::from_nanos(0),
            delay: GONE_MIN,
            trouble: String::new(),
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
            (self.reach, self.delay) = (Reach::Up, GONE_MIN);
            return true;
        };
        let is_unix = matches!(self.socket, EventSocket::Unix(_));
        let pause = if is_blocked(&error) {
            self.reach = Reach::Blocked;
            BLOCKED
        } else if is_unix && is_gone(&error) {
            self.reach = Reach::Gone;
            let delay = self.delay;
            self.delay = (delay * 2).min(GONE_MAX);
            delay
        } else {
            self.tally.failed += 1;
            Duration::ZERO
        };
        // Each time the same words, where nothing has changed.
        let words = error.to_string();
        if self.trouble != words {
            self.trouble = words;
        }
        self.again = now.after(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        pause.is_zero()
    }

    /// When it is to be tried again; `None`: nothing waits.
    pub(super) fn due(&self) -> Option<Timestamp> {
        (!self.waiting.is_empty()).then_some(self.again)
    }

    pub(super) fn queued(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub(super) fn snapshot(&self) -> SubscriberSnapshot {
        SubscriberSnapshot {
            socket: self.socket.to_string(),
            reach: self.reach,
            trouble: self.trouble.clone(),
            ..SubscriberSnapshot::of(&self.tally, self.queued())
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

/// It may be taken soon.
fn is_blocked(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == ErrorKind::WouldBlock
        || matches!(code, Some(libc::ENOBUFS | libc::ENOMEM | libc::EINTR))
}

/// Nobody is at the path, or nobody who takes datagrams of us. (unix(7).)
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() != Some(libc::EMSGSIZE)
}

/// Events that wait for one subscriber.
pub(super) const QUEUE_EVENTS: usize = 4096;

/// Their bytes: sixteen of the longest.
const QUEUE_BYTES: usize = 1 << 20;

/// Until a reader that is too slow is tried again.
const BLOCKED: Duration = Duration::from_millis(5);

/// Until one that is not there is, first and at last.
const GONE_MIN: Duration = Duration::from_millis(100);
const GONE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

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
