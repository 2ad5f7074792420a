//! Packets in a stream.
//!
//! ```text
//!   buffer   │ taken by the kernel │ rest of a frame │ frame │ frame │ room for more │
//!                                  └ head                            └ tail
//! ```

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use binrush_scenario::{ContentError, Source};
use binrush_wire::MAX_PACKET_LEN;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, socket};

use super::nobody_there;
use super::outlet::{Finished, Handed, Looked, Outlet};

/// A connection, and the frames that it has not taken yet.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    to: SocketAddr,
    buffer: Box<[u8]>,
    head: usize,
    tail: usize,
    /// Where each frame that is not wholly taken ends, counted in bytes of the stream.
    ends: VecDeque<u64>,
    /// Bytes of the stream that the kernel took.
    taken: u64,
    /// Where the last frame ended that it took wholly.
    whole: u64,
    is_closed: bool,
    /// Since when the kernel takes nothing.
    refused_since: Option<Instant>,
    /// For how long it took nothing before that.
    blocked: Duration,
}

/// A connection to `to` that never blocks, and sends at once what it is given (TCP_NODELAY).
///
/// One that was taken and ended at once is a connection as well: what is sent by it says so, wherever its end came first.
pub(super) fn open(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = connect(to).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => nobody_there(to, "tcp", &error),
        io::ErrorKind::TimedOut => anyhow!(
            "tcp:{to} does not answer within {CONNECT_MAX:?}\n  see that the address is right and no firewall in between"
        ),
        _ => anyhow::Error::new(error).context(format!("cannot connect to tcp:{to}")),
    })?;
    let prepared = socket.set_nodelay(true);
    prepared.with_context(|| format!("cannot set up the connection to tcp:{to}"))?;
    Ok(socket)
}

/// `TcpStream::connect_timeout` gives no connection where the other side took it and reset it before we looked.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = TcpStream::from(socket(family, SockType::Stream, flags, None)?);
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => return Ok(socket),
        Err(Errno::EINPROGRESS | Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let most = PollTimeout::try_from(CONNECT_MAX).map_err(io::Error::other)?;
    if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], most)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    match socket.take_error()? {
        Some(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(socket),
    }
}

impl Stream {
    /// Sends by `socket`, which never blocks.
    pub(super) fn new(socket: TcpStream, to: SocketAddr) -> Self {
        Self {
            socket,
            to,
            // Written once, so that the first packet pays for no page.
            buffer: vec![u8::MAX; WRITE_MAX + MAX_PACKET_LEN].into(),
            head: 0,
            tail: 0,
            ends: VecDeque::with_capacity(WRITE_MAX / FRAME_LEN_USUAL),
            taken: 0,
            whole: 0,
            is_closed: false,
            refused_since: None,
            blocked: Duration::ZERO,
        }
    }

    /// Frames that are wholly taken now leave.
    fn settle(&mut self) -> u64 {
        let mut frames = 0;
        while let Some(end) = self.ends.front().filter(|end| **end <= self.taken) {
            self.whole = *end;
            self.ends.pop_front();
            frames += 1;
        }
        frames
    }

    /// Makes room behind what waits, by moving that to the front.
    fn compact(&mut self) {
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
    }

    /// Reads what the other end says, so that it never waits for us to hear it, and forgets it.
    fn listen(&mut self) {
        let mut said = [0; 4096];
        // Bounded: who says more than this between two looks, waits.
        for _ in 0..64 {
            match self.socket.read(&mut said) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }
}

impl Outlet for Stream {
    #[inline]
    fn has_room(&self) -> bool {
        self.tail - self.head < WRITE_MAX
    }

    #[inline]
    fn write(
        &mut self,
        source: &mut dyn Source,
        start_ns: u64,
        late_ns: u32,
    ) -> Result<(), ContentError> {
        if self.buffer.len() - self.tail < MAX_PACKET_LEN {
            self.compact();
        }
        let room = &mut self.buffer[self.tail..][..MAX_PACKET_LEN];
        let len = source.write(start_ns, late_ns, room)?;
        self.tail += len;
        let waiting = (self.tail - self.head) as u64;
        self.ends.push_back(self.taken + waiting);
        Ok(())
    }

    fn hand_over(&mut self) -> Handed {
        let mut handed = Handed::default();
        while self.head < self.tail && handed.error.is_none() {
            handed.calls += 1;
            match self.socket.write(&self.buffer[self.head..self.tail]) {
                Ok(len) => {
                    if let Some(since) = self.refused_since.take() {
                        self.blocked += since.elapsed();
                    }
                    self.head += len;
                    self.taken += len as u64;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        self.refused_since.get_or_insert_with(Instant::now);
                        break;
                    }
                    kind => handed.error = Some(kind),
                },
            }
        }
        if self.head == self.tail {
            (self.head, self.tail) = (0, 0);
        }
        let before = self.whole;
        handed.taken = self.settle();
        handed.bytes = self.whole - before;
        if handed.error.is_some() {
            // What the kernel has not taken now, it never will.
            handed.failed = self.ends.len() as u64;
            handed.is_closed = true;
            self.ends.clear();
            self.is_closed = true;
        }
        handed
    }

    fn wait_for_room(&mut self, limit: Duration) {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
        // However it ends, the next write tells.
        let _ = poll(&mut fds, limit);
    }

    fn look(&mut self) -> Looked {
        self.listen();
        // Whoever refuses a stream, refuses the connection.
        Looked::Fine
    }

    fn blocked_ns(&self) -> u64 {
        let now = self
            .refused_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        u64::try_from((self.blocked + now).as_nanos()).unwrap_or(u64::MAX)
    }

    fn finish(&mut self) -> Finished {
        let cut = self.taken - self.whole;
        let Some(end) = self.ends.front().copied().filter(|_| cut > 0) else {
            self.end();
            return Finished::Whole;
        };
        let missing = usize::try_from(end - self.taken).unwrap_or(usize::MAX);
        // It and nothing behind it.
        self.tail = self.tail.min(self.head.saturating_add(missing));
        let start = Instant::now();
        while self.head < self.tail && !self.is_closed && start.elapsed() < FINISH_MAX {
            let handed = self.hand_over();
            if handed.taken > 0 {
                self.end();
                return Finished::Completed {
                    bytes: handed.bytes,
                };
            }
            self.wait_for_room(FINISH_MAX / 10);
        }
        self.end();
        Finished::Cut
    }

    fn nobody_there(&self) -> anyhow::Error {
        nobody_there(self.to, "tcp", "the connection was refused")
    }
}

impl Stream {
    /// Says that nothing more comes; what the kernel has, it still delivers.
    fn end(&mut self) {
        // Closing a socket with unread bytes resets the connection, and with it what is on its way.
        self.listen();
        // One that the other end has reset is ended already.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

/// The most bytes that are given to the kernel in one call: what it has room for in its send buffer when it is not
/// behind. More would only make the lateness of the first frames that of the last.
const WRITE_MAX: usize = 256 << 10;

/// Of the packets that there are, few are shorter; for those the list of frames grows.
const FRAME_LEN_USUAL: usize = 64;

/// Far more than a network that is worth measuring over takes.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long the rest of one frame is tried for at the end.
const FINISH_MAX: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
