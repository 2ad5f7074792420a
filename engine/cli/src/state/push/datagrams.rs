//! Datagrams to a 1.x node, and what the kernel tells of those that nobody took.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::sender::{Ended, STALL};
use crate::send::stream::REFUSAL_WAIT;

/// A connected socket. That nobody listens comes back for a datagram that was sent already, and the kernel tells it by the next call
/// instead of what that was to do (udp(7): "You may get an error for an earlier packet that was sent on the same socket"). So behind a
/// refusal two datagrams have to go again: the last one, and the one that was not taken.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
    /// The last one that was sent, of which a refusal tells; empty before the first.
    last: Vec<u8>,
    is_last_lost: bool,
    has_failed: bool,
    refusals: u64,
    patience: Duration,
}

impl Datagrams {
    /// Those that go by `socket`, which is connected to the node `to`.
    pub(super) const fn new(socket: UdpSocket, to: SocketAddr) -> Self {
        Self {
            socket,
            to,
            last: Vec::new(),
            is_last_lost: false,
            has_failed: false,
            refusals: 0,
            patience: STALL,
        }
    }

    /// As [`new`](Self::new), with less patience.
    #[cfg(test)]
    pub(super) fn impatient(socket: UdpSocket, to: SocketAddr) -> Self {
        Self {
            patience: Duration::ZERO,
            ..Self::new(socket, to)
        }
    }

    /// Sends one. Where the first is refused nobody listens; later the node may be restarting, and is given time to come back.
    ///
    /// # Errors
    /// It was not sent, and nothing behind it can be.
    pub(super) fn put(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        let sent = match self.last.is_empty() {
            true => self.send_alone(packet),
            false => self.send(packet),
        };
        self.has_failed = sent.is_err();
        sent.with_context(|| self.unheard())?;
        self.last.clear();
        self.last.extend_from_slice(packet);
        Ok(())
    }

    /// Waits for what the kernel may still say of the last one.
    pub(super) fn finish(mut self) -> Ended {
        let mut trouble = None;
        if !self.has_failed {
            thread::sleep(REFUSAL_WAIT);
            let told = match self.socket.take_error() {
                Ok(Some(error)) if is_refusal(&error) => self.again(Instant::now()).err(),
                Ok(error) => error,
                Err(error) => Some(error),
            };
            self.is_last_lost = told.is_some() && !self.last.is_empty();
            trouble = told.map(|error| anyhow!(error).context(self.unheard()));
        }
        Ended {
            lost: self.is_last_lost.into(),
            refusals: self.refusals,
            trouble,
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            match self.socket.send(packet) {
                Err(error) if is_refusal(&error) => self.again(begun)?,
                sent => return sent.map(drop),
            }
        }
    }

    /// Sends the last one until nobody refuses it.
    fn again(&mut self, begun: Instant) -> io::Result<()> {
        loop {
            self.refusals += 1;
            thread::sleep(PAUSE);
            match self.send_alone(&self.last) {
                Err(error) if is_refusal(&error) && begun.elapsed() < self.patience => {}
                sent => {
                    self.is_last_lost = sent.is_err();
                    return sent;
                }
            }
        }
    }

    /// Sends one, and waits as long as a refusal takes from this or a near machine.
    fn send_alone(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send(packet)?;
        thread::sleep(REFUSAL_WAIT);
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    fn unheard(&self) -> String {
        let to = self.to;
        format!("nobody listens on udp:{to}, or it cannot be reached")
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> (UdpSocket, UdpSocket, SocketAddr) {
        let node = UdpSocket::bind("127.62.0.1:0").unwrap();
        node.set_read_timeout(Some(STALL)).unwrap();
        let to = node.local_addr().unwrap();
        let ours = UdpSocket::bind("127.62.0.2:0").unwrap();
        ours.connect(to).unwrap();
        (node, ours, to)
    }

    fn heard(node: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 100];
        let len = node.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    #[test]
    fn nothing_counts_as_sent_where_nobody_listens() {
        let (node, ours, to) = nodes();
        drop(node);
        let mut datagrams = Datagrams::new(ours, to);
        let begun = Instant::now();
        let told = datagrams.put(b"first").unwrap_err().to_string();
        assert!(told.contains("nobody listens"), "{told}");
        assert!(begun.elapsed() < STALL);
        let ended = datagrams.finish();
        assert_eq!((ended.lost, ended.refusals), (0, 0));
    }

    #[test]
    fn a_node_that_stays_away_has_not_got_the_last_one_that_was_sent() {
        let (node, ours, to) = nodes();
        let mut datagrams = Datagrams::impatient(ours, to);
        datagrams.put(b"first").unwrap();
        assert_eq!(heard(&node), b"first");
        drop(node);
        datagrams.put(b"second").unwrap();
        datagrams.put(b"third").unwrap_err();
        let ended = datagrams.finish();
        assert_eq!((ended.lost, ended.refusals), (1, 1));
        assert!(ended.trouble.is_none(), "it was told already");
    }

    #[test]
    fn a_node_that_comes_back_gets_what_it_refused() {
        let (node, ours, to) = nodes();
        let mut datagrams = Datagrams::new(ours, to);
        datagrams.put(b"first").unwrap();
        drop(node);
        datagrams.put(b"second").unwrap();
        let node = thread::spawn(move || {
            thread::sleep(PAUSE * 3 / 2);
            UdpSocket::bind(to).unwrap()
        });
        datagrams.put(b"third").unwrap();
        let node = node.join().unwrap();
        node.set_read_timeout(Some(STALL)).unwrap();
        assert_eq!(heard(&node), b"second");
        assert_eq!(heard(&node), b"third");
        let ended = datagrams.finish();
        assert!(ended.refusals >= 1 && ended.lost == 0 && ended.trouble.is_none());
    }
}
