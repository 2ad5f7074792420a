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
mod tests;
