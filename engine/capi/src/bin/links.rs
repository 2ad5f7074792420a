//! How packets of the 3.x API leave a program that is in no cluster: by TCP, on a connection for each destination that is kept.
//!
//! In OpenSIPS clusterer sends them. A genuine node takes what comes from a configured address, so this is enough to send to one.
//! Every wait has its end: a connection that cannot be had or does not take a packet in time is closed, and the packet failed. A child
//! of fork(2) has connections of its own: two writers in one stream are garbage.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use super::forks::Process;

/// The connections of one thread.
#[derive(Debug)]
pub(crate) struct StreamLinks {
    /// The one used last at the end.
    links: Vec<(SocketAddr, TcpStream)>,
    /// Whose they are; nobody's before the first one.
    owner: Option<Process>,
}

impl StreamLinks {
    pub(crate) const fn new() -> Self {
        Self {
            links: Vec::new(),
            owner: None,
        }
    }

    /// Sends `packet` to `to`, on the connection of the packet before if its peer has not closed it.
    ///
    /// # Errors
    /// The kernel's. After one the connection is closed: half a packet may have gone, and what follows would be garbage.
    pub(crate) fn send(&mut self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        if !self.owner.is_some_and(Process::is_this) {
            // Closed, which in a child ends nothing for the parent.
            self.links.clear();
            self.owner = Some(Process::this());
        }
        let kept = self.links.iter().position(|(addr, _)| *addr == to);
        let kept = kept.map(|at| self.links.remove(at).1).filter(is_open);
        let stream = match kept {
            Some(stream) => stream,
            None => connect(to)?,
        };
        write(&stream, packet)?;
        if self.links.len() == LINKS_MAX {
            self.links.remove(0);
        }
        self.links.push((to, stream));
        Ok(())
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// All of `packet`, within the time for one.
fn write(mut stream: &TcpStream, packet: &[u8]) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut rest = packet;
    while !rest.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => rest = &rest[len..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the peer is still there as far as is known: what it closed is at its end, and a packet would be lost on it unnoticed. What
/// it sent is dropped; genuine nodes answer on connections of their own. Who says more than can be dropped at once is no such node,
/// and its connection is closed.
fn is_open(stream: &TcpStream) -> bool {
    let mut bytes = [0_u8; 4096];
    for _ in 0..READS_MAX {
        // SAFETY: so many writable bytes. The flag is the call's alone, where O_NONBLOCK would be that of all who share the
        // connection. (recv(2))
        let len = unsafe {
            libc::recv(
                stream.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT,
            )
        };
        match len {
            0 => return false,
            1.. => {}
            _ => match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => {}
                kind => return kind == io::ErrorKind::WouldBlock,
            },
        }
    }
    false
}

/// For a connection and for a packet. (3.6 `modules/proto_bin/proto_bin.c`, `bin_send_timeout`)
const PATIENCE: Duration = Duration::from_millis(100);

/// Of 4 KiB each: more than a receive buffer has by default.
const READS_MAX: usize = 64;

/// As many nodes as a cluster has in sensible cases; of more, the one that was used longest ago is closed.
const LINKS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    fn accept(listener: &TcpListener) -> TcpStream {
        let (stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    fn expect(mut stream: &TcpStream, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    #[test]
    fn a_connection_is_kept_and_made_anew_where_its_peer_closed_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut links = StreamLinks::new();
        links.send(b"one", to).unwrap();
        links.send(b"two", to).unwrap();
        let first = accept(&listener);
        expect(&first, b"onetwo");
        // It says something, which nobody reads, and goes.
        (&first).write_all(b"UNKNOWN_ID").unwrap();
        drop(first);
        // What it closed takes a moment to arrive: until then packets go to the old connection and are lost there.
        let end = Instant::now() + Duration::from_secs(10);
        listener.set_nonblocking(true).unwrap();
        loop {
            links.send(b"three", to).ok();
            match listener.accept() {
                Ok((second, _)) => {
                    second.set_nonblocking(false).unwrap();
                    expect(&second, b"three");
                    return;
                }
                Err(_) => assert!(Instant::now() < end, "no second connection"),
            }
        }
    }

    #[test]
    fn no_more_connections_are_kept_than_may() {
        let mut links = StreamLinks::new();
        let listeners: Vec<_> = (0..=LINKS_MAX)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        for listener in &listeners {
            links.send(b"x", listener.local_addr().unwrap()).unwrap();
        }
        assert_eq!(links.links.len(), LINKS_MAX);
        let mut first = accept(&listeners[0]);
        let mut bytes = vec![];
        first.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"x");
    }

    #[test]
    fn a_peer_that_takes_nothing_costs_a_bounded_time_and_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut links = StreamLinks::new();
        let packet = vec![7; 65_535];
        let begin = Instant::now();
        let error = (0..10_000).find_map(|_| links.send(&packet, to).err());
        assert!(error.is_some(), "its buffers have an end");
        assert!(links.links.is_empty());
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_peer_that_never_stops_talking_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let stream = TcpStream::connect(to).unwrap();
        let mut peer = accept(&listener);
        peer.set_nonblocking(true).unwrap();
        assert!(is_open(&stream));
        let end = Instant::now() + Duration::from_secs(30);
        // As much as its buffers take, again and again: at some time it is more than what is dropped at once.
        while is_open(&stream) {
            assert!(Instant::now() < end, "it reads for ever, or never enough");
            while peer.write(&[7; 1 << 16]).is_ok() {}
        }
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        drop(listener);
        assert!(StreamLinks::new().send(b"x", to).is_err());
    }
}
