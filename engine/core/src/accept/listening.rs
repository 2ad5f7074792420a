//! One listening socket, and what to do when the kernel has no descriptor for who waits there.
//!
//! Linux takes a descriptor before it looks who waits (`__sys_accept4_file` of net/socket.c), so with none left nobody
//! can be accepted, and epoll reports the same waiting connection at once again: a server that does nothing about it
//! spins, and its peers wait without an answer. So those who wait are turned away by the descriptor that is kept in
//! reserve, and then nobody is asked for a while, so that the process has the time to get some back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use binrush_net::{Interest, Poller, ReserveFd, TcpListener, TcpSocket};
use nix::errno::Errno;

use crate::clock::Timestamp;
use crate::shard::desk::ListenerId;
use crate::tls::ServerTls;

/// A listening socket of the acceptor.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) id: ListenerId,
    /// `None`: what comes here is in clear.
    pub(super) tls: Option<Arc<ServerTls>>,
    listener: TcpListener,
    /// Nobody is asked for until then.
    paused_until: Option<Timestamp>,
}

/// What an accept that failed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// Of descriptors, of the process or of the machine: the reserve helps to turn others away.
    Descriptors,
    /// Of memory: nothing helps but time.
    Memory,
    /// Something is wrong with this socket.
    Other,
}

impl Listening {
    /// Begins to watch.
    ///
    /// # Errors
    /// What epoll_ctl(2) said: mostly `ENOMEM`, or `ENOSPC` beyond `/proc/sys/fs/epoll/max_user_watches`.
    pub(super) fn open(
        id: ListenerId,
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
        poller: &Poller,
    ) -> io::Result<Self> {
        poller.add(&listener, key(id), Interest::READ)?;
        Ok(Self {
            id,
            tls,
            listener,
            paused_until: None,
        })
    }

    /// The next connection; `None` when nobody waits.
    ///
    /// # Errors
    /// That no connection can be had here now; see [`Shortage::of`].
    pub(super) fn accept(&self) -> io::Result<Option<(TcpSocket, SocketAddr)>> {
        self.listener.accept()
    }

    /// Resets one of those who wait by the descriptor in `reserve`; whose it was, or `None` when nobody waits.
    ///
    /// # Errors
    /// Somebody may wait, and cannot even be turned away: the reserve was lost to another thread of the process, or the
    /// machine has no descriptor.
    pub(super) fn turn_away(&self, reserve: &mut ReserveFd) -> io::Result<Option<SocketAddr>> {
        self.listener.turn_away(reserve)
    }

    /// Nobody is accepted here until `until`.
    pub(super) fn pause(&mut self, until: Timestamp, poller: &Poller) {
        // It is watched, so this cannot fail; if it did, it would be asked more often than wanted.
        let _ = poller.modify(&self.listener, key(self.id), Interest::NONE);
        self.paused_until = Some(until);
    }

    /// Accepts again if its pause is over.
    pub(super) fn resume(&mut self, now: Timestamp, poller: &Poller) {
        if self.paused_until.is_some_and(|until| until <= now) {
            // Kept paused if this failed, and tried again: a listener is not forgotten.
            let watched = poller.modify(&self.listener, key(self.id), Interest::READ);
            self.paused_until = self.paused_until.filter(|_| watched.is_err());
        }
    }

    /// Watches it no more. Closing alone would not do where somebody else has a reference to the same socket, such as who
    /// keeps it for the next start: the kernel would go on to report it (epoll(7)).
    pub(super) fn forget(&self, poller: &Poller) {
        // It is watched, so this cannot fail.
        let _ = poller.remove(&self.listener);
    }

    /// When its pause is over.
    pub(super) fn paused_until(&self) -> Option<Timestamp> {
        self.paused_until
    }
}

impl Shortage {
    /// What `error` of accept(2) says.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE | Errno::ENFILE) => Self::Descriptors,
            Some(Errno::ENOBUFS | Errno::ENOMEM) => Self::Memory,
            _ => Self::Other,
        }
    }
}

/// Under which number the poller reports it.
fn key(id: ListenerId) -> u64 {
    id.0.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_net::{ReadyList, TcpOptions};
    use std::net::TcpStream;
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    const ID: ListenerId = ListenerId(7);

    /// A listener that is watched, and somebody who waits at it.
    fn waited_at(poller: &Poller) -> (Listening, TcpStream) {
        let addr = "127.0.0.1:0".parse().unwrap();
        let socket = TcpListener::bind(addr, &TcpOptions::default()).unwrap();
        let peer = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        (Listening::open(ID, socket, None, poller).unwrap(), peer)
    }

    /// Whether the kernel reports the listener now.
    fn is_reported(poller: &Poller) -> bool {
        let mut ready = ReadyList::new(4);
        let short = Duration::from_millis(5);
        poller.wait(&mut ready, Some(short)).unwrap();
        ready.iter().any(|event| event.key == 7 && event.readable)
    }

    #[test]
    fn one_that_pauses_is_not_reported_until_its_pause_is_over() {
        let poller = Poller::new().unwrap();
        let (mut listening, _peer) = waited_at(&poller);
        assert!(is_reported(&poller) && is_reported(&poller));
        let at = Timestamp::from_nanos;
        listening.pause(at(100), &poller);
        assert!(!is_reported(&poller));
        listening.resume(at(99), &poller);
        assert_eq!(listening.paused_until(), Some(at(100)));
        assert!(!is_reported(&poller));
        listening.resume(at(100), &poller);
        assert_eq!(listening.paused_until(), None);
        assert!(is_reported(&poller));
        assert!(listening.accept().unwrap().is_some());
    }

    #[test]
    fn one_that_is_closed_is_not_reported_although_somebody_else_keeps_the_socket() {
        let poller = Poller::new().unwrap();
        let (listening, _peer) = waited_at(&poller);
        let kept = listening.listener.as_fd().try_clone_to_owned().unwrap();
        listening.forget(&poller);
        drop(listening);
        assert!(!is_reported(&poller));
        drop(kept);
    }

    #[test]
    fn a_shortage_is_told_from_a_broken_listener() {
        let of = |errno| Shortage::of(&io::Error::from(errno));
        assert_eq!(of(Errno::EMFILE), Shortage::Descriptors);
        assert_eq!(of(Errno::ENFILE), Shortage::Descriptors);
        assert_eq!(of(Errno::ENOBUFS), Shortage::Memory);
        assert_eq!(of(Errno::ENOMEM), Shortage::Memory);
        assert_eq!(of(Errno::EINVAL), Shortage::Other);
        assert_eq!(Shortage::of(&io::Error::other("?")), Shortage::Other);
    }
}
