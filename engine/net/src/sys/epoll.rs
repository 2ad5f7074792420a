//! Sleeping until some of many descriptors are ready: `epoll(7)`, level-triggered.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// A set of descriptors, each under a key of the caller's, and the question which of them are ready.
///
/// Level-triggered: what is ready is told by every wait until it is not any more, or not asked for any more. So
/// nothing is missed by who does less than everything at once. One call asks about all, at a price that follows how
/// many are ready and not how many there are.
///
/// May be shared: a wait of one thread sees what another adds. A descriptor leaves the set by
/// [`remove`](Self::remove), or when the last reference to what is open behind it is closed (epoll(7)).
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

/// What is asked about one descriptor.
///
/// That a connection broke, [`Ready::hup`], is told unasked: again and again to who asks for anything at all, and once to
/// who asks for [nothing](Self::NONE), so that leaving a broken connection alone for a while does not keep a thread
/// from its sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Something to read, an end, or somebody to accept.
    pub read: bool,
    /// Room to write, or the end of connecting.
    pub write: bool,
}

/// One descriptor that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// What it was added under.
    pub key: u64,
    /// A read would not block: bytes, an end or an error.
    pub readable: bool,
    /// A write would not block, were it only to fail.
    pub writable: bool,
    /// The connection is over in both directions, or failed; reading and writing say more.
    pub hup: bool,
}

/// Where a wait puts its answer: room for so many, made once.
pub struct ReadyList {
    events: Vec<libc::epoll_event>,
    len: usize,
}

impl Poller {
    /// A set of nothing.
    ///
    /// # Errors
    /// What epoll_create1(2) said: mostly `EMFILE`, too many open files.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes an integer and no memory. (epoll_create1(2))
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was opened right above and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll })
    }

    /// Asks about `fd` from now on, under `key`; keys need not differ.
    ///
    /// # Errors
    /// What epoll_ctl(2) said: `EEXIST` when it is in the set, `ENOSPC` beyond
    /// `/proc/sys/fs/epoll/max_user_watches`, `EPERM` for a file that is always ready.
    pub fn add(&self, fd: &impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, Some(event(key, interest)))
    }

    /// Asks something else about `fd`, under `key` from now on.
    ///
    /// # Errors
    /// What epoll_ctl(2) said: `ENOENT` when it is not in the set. Needs no memory.
    pub fn modify(&self, fd: &impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, Some(event(key, interest)))
    }

    /// Asks about `fd` no more.
    ///
    /// # Errors
    /// What epoll_ctl(2) said: `ENOENT` when it is not in the set.
    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, None)
    }

    /// Returns when something is ready, a signal came or `timeout` is over; puts into `ready` what is, as much as
    /// fits. What did not fit comes first the next time.
    ///
    /// `None` waits without end, zero not at all; anything between is rounded up to milliseconds, so that a short wait
    /// does not become none.
    ///
    /// # Errors
    /// What epoll_wait(2) said; none is known of a set that is used as here. `ready` is empty then.
    pub fn wait(&self, ready: &mut ReadyList, timeout: Option<Duration>) -> io::Result<()> {
        ready.len = 0;
        // SAFETY: "The buffer pointed to by events is used to return information [...]. Up to maxevents are returned"
        // (epoll_wait(2)): as many as the list has.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                ready.events.as_mut_ptr(),
                libc::c_int::try_from(ready.events.len()).unwrap_or(libc::c_int::MAX),
                timeout.map_or(-1, millis),
            )
        };
        if let Ok(count) = usize::try_from(count) {
            ready.len = count;
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        }
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: &impl AsFd,
        event: Option<libc::epoll_event>,
    ) -> io::Result<()> {
        let mut event = event;
        let event = event.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        // SAFETY: both descriptors are open while they are borrowed. `event` is read during the call, and "the event
        // argument is ignored and can be NULL" for EPOLL_CTL_DEL. (epoll_ctl(2))
        let done = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                operation,
                fd.as_fd().as_raw_fd(),
                event,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Readable while something in the set is ready: a set may be part of another, or of a poll(2).
impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Interest {
    /// Something to read.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };
    /// Room to write.
    pub const WRITE: Self = Self {
        read: false,
        write: true,
    };
    /// Either.
    pub const BOTH: Self = Self {
        read: true,
        write: true,
    };
    /// Neither, for now: the descriptor stays in the set, and asking again cannot fail for want of memory.
    pub const NONE: Self = Self {
        read: false,
        write: false,
    };
}

impl ReadyList {
    /// Room for `capacity` of them, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity.max(1)],
            len: 0,
        }
    }

    /// What the last wait found, each descriptor once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Ready> {
        // By value: on some processors the fields of an event are not aligned.
        self.events[..self.len].iter().map(|&event| {
            let (events, key) = (event.events, event.u64);
            let has = |any: libc::c_int| events & any.cast_unsigned() != 0;
            // An error makes a descriptor neither readable nor writable by itself, but both calls return at once.
            let hup = has(libc::EPOLLHUP | libc::EPOLLERR);
            Ready {
                key,
                readable: hup || has(libc::EPOLLIN | libc::EPOLLRDHUP),
                writable: hup || has(libc::EPOLLOUT),
                hup,
            }
        })
    }

    /// How many the last wait found.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the last wait found nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for ReadyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn event(key: u64, interest: Interest) -> libc::epoll_event {
    let mut events = 0;
    if interest.read {
        events |= libc::EPOLLIN;
    }
    if interest.write {
        events |= libc::EPOLLOUT;
    }
    if interest == Interest::NONE {
        // "epoll_wait(2) will always wait for [EPOLLERR and EPOLLHUP]; it is not necessary to set [them]" (epoll_ctl(2)):
        // of a broken connection that nobody asks about they would be told without end, were it not for the edge.
        events |= libc::EPOLLET;
    }
    libc::epoll_event {
        events: events.cast_unsigned(),
        u64: key,
    }
}

fn millis(timeout: Duration) -> libc::c_int {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll;
    use crate::tcp::tests::pair;
    use std::io::Write as _;
    use std::time::Instant;

    /// Far longer than a test takes.
    const FOREVER: Duration = Duration::from_secs(20);
    /// Short, and not nothing: what is there on this host has come by then.
    const SOON: Duration = Duration::from_millis(5);

    fn found(poller: &Poller, timeout: Duration) -> Vec<Ready> {
        let mut ready = ReadyList::new(4);
        poller.wait(&mut ready, Some(timeout)).unwrap();
        assert_eq!(ready.is_empty(), ready.iter().len() == 0);
        ready.iter().collect()
    }

    const fn ready(key: u64, readable: bool, writable: bool, hup: bool) -> Ready {
        Ready {
            key,
            readable,
            writable,
            hup,
        }
    }

    #[test]
    fn what_is_ready_is_told_until_it_is_not() {
        let poller = Poller::new().unwrap();
        let (mut peer, socket) = pair();
        poller.add(&socket, u64::MAX, Interest::READ).unwrap();
        assert_eq!(found(&poller, SOON), []);
        peer.write_all(b"12").unwrap();
        for _ in 0..2 {
            assert_eq!(
                found(&poller, FOREVER),
                [ready(u64::MAX, true, false, false)]
            );
            assert_eq!(socket.recv(&mut [0]).unwrap(), 1);
        }
        assert_eq!(found(&poller, SOON), []);
        drop(peer);
        assert!(found(&poller, FOREVER)[0].readable, "an end is read");
    }

    #[test]
    fn what_is_asked_can_be_changed_and_ended() {
        let poller = Poller::new().unwrap();
        let (mut peer, socket) = pair();
        peer.write_all(b"1").unwrap();
        poller.add(&socket, 1, Interest::WRITE).unwrap();
        assert_eq!(found(&poller, FOREVER), [ready(1, false, true, false)]);
        let again = poller.add(&socket, 1, Interest::READ).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
        poller.modify(&socket, 2, Interest::READ).unwrap();
        assert_eq!(found(&poller, FOREVER), [ready(2, true, false, false)]);
        poller.modify(&socket, 3, Interest::BOTH).unwrap();
        assert_eq!(found(&poller, FOREVER), [ready(3, true, true, false)]);
        poller.modify(&socket, 4, Interest::NONE).unwrap();
        assert_eq!(found(&poller, SOON), []);
        poller.modify(&socket, 5, Interest::READ).unwrap();
        assert_eq!(found(&poller, FOREVER), [ready(5, true, false, false)]);
        poller.remove(&socket).unwrap();
        assert_eq!(found(&poller, SOON), []);
        let gone = poller.modify(&socket, 6, Interest::READ).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
        let gone = poller.remove(&socket).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn a_broken_connection_is_told_on_and_on_or_once_to_who_asks_for_nothing() {
        let poller = Poller::new().unwrap();
        let (peer, socket) = pair();
        poller.add(&socket, 1, Interest::READ).unwrap();
        crate::TcpSocket::from_stream(peer).unwrap().reset();
        let broken = [ready(1, true, true, true)];
        assert_eq!(found(&poller, FOREVER), broken);
        assert_eq!(found(&poller, FOREVER), broken);
        poller.modify(&socket, 1, Interest::NONE).unwrap();
        assert_eq!(found(&poller, FOREVER), broken);
        assert_eq!(found(&poller, SOON), []);
        let start = Instant::now();
        poll::readable([poller.as_raw_fd()], SOON).unwrap();
        assert!(
            start.elapsed() >= SOON,
            "the set itself is not ready either"
        );
    }

    #[test]
    fn what_does_not_fit_comes_next() {
        let poller = Poller::new().unwrap();
        let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
        for (key, (_, socket)) in (0..).zip(&pairs) {
            poller.add(socket, key, Interest::WRITE).unwrap();
        }
        let mut list = ReadyList::new(2);
        let mut seen: Vec<u64> = Vec::new();
        for _ in 0..5 {
            poller.wait(&mut list, None).unwrap();
            assert_eq!(list.len(), 2);
            seen.extend(list.iter().map(|ready| ready.key));
        }
        for key in 0..5 {
            let times = seen.iter().filter(|&&told| told == key).count();
            assert_eq!(times, 2, "{key} of {seen:?}");
        }
    }

    #[test]
    fn a_wait_takes_its_time_and_a_list_of_no_room_has_some() {
        let poller = Poller::new().unwrap();
        let mut list = ReadyList::new(0);
        let start = Instant::now();
        let timeout = Duration::from_nanos(1);
        poller.wait(&mut list, Some(timeout)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(1));
        assert!(list.is_empty());
        let (_peer, socket) = pair();
        poller.add(&socket, 7, Interest::BOTH).unwrap();
        poller.wait(&mut list, Some(Duration::MAX)).unwrap();
        assert_eq!(format!("{list:?}").matches("key: 7").count(), 1);
    }
}
