//! The portable backend: `sendmmsg(2)`, 64 datagrams per call.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::delivery::Delivery;
use super::{Sent, Tx, TxBatch};
use crate::udp::UdpSocket;

/// Sends each datagram as it is, from any UDP socket: one of ours or the standard library's, connected or not.
///
/// A connected socket sends to the destination of each datagram too, not to its peer.
///
/// - No room: waits for it, 10 ms altogether for a batch; then each of the rest is tried once more.
/// - An error that may be an earlier datagram's (`ECONNREFUSED` at a connected socket): tried a second time.
/// - Refused for good (`EMSGSIZE`, `EPERM`, no route, ...): counted, and on with the next.
#[derive(Debug)]
pub struct SendMmsg<S = Arc<UdpSocket>> {
    socket: S,
    delivery: Delivery,
}

impl<S: AsRawFd> SendMmsg<S> {
    /// Sends from `socket`, whose family must be that of the destinations.
    #[must_use]
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            delivery: Delivery::new(1),
        }
    }

    /// The same, that waits for room no longer than `patience` altogether for a batch. For who has other things to send.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.delivery.wait_at_most(patience);
        self
    }

    /// Sends from `socket` from now on, as from the one before.
    pub fn change_socket(&mut self, socket: S) {
        self.socket = socket;
    }
}

impl<S: AsRawFd> Tx for SendMmsg<S> {
    fn send(&mut self, batch: &mut TxBatch) -> Sent {
        self.delivery.send(self.socket.as_raw_fd(), batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::{self, V4};
    use crate::tx::namespace;
    use std::io;
    use std::net::{self, IpAddr, SocketAddr};
    use std::time::Instant;

    fn bind(ip: IpAddr) -> net::UdpSocket {
        let socket = net::UdpSocket::bind((ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn drain(socket: &net::UdpSocket) -> Vec<Vec<u8>> {
        let mut bytes = vec![0; 1 << 16];
        let mut seen = Vec::new();
        while let Ok(len) = socket.recv(&mut bytes) {
            seen.push(bytes[..len].to_vec());
        }
        seen
    }

    fn batch_of<'a>(datagrams: impl IntoIterator<Item = (SocketAddr, &'a [u8])>) -> TxBatch {
        let mut batch = TxBatch::new(300, 300_000);
        for (to, bytes) in datagrams {
            assert!(batch.push(to, bytes));
        }
        batch
    }

    fn all_sent(count: u64) -> Sent {
        Sent {
            sent: count,
            ..Sent::default()
        }
    }

    #[test]
    fn datagrams_arrive_as_they_are_where_they_should_and_in_order() {
        for ip in loopback::addresses() {
            let receivers = [bind(ip), bind(ip)];
            let to = receivers
                .each_ref()
                .map(|socket| socket.local_addr().unwrap());
            // More than one system call takes, now to one and now to the other.
            let payloads: Vec<[u8; 2]> = (0..150_u16).map(u16::to_le_bytes).collect();
            let mut batch = batch_of(payloads.iter().enumerate().map(|(n, bytes)| {
                let len = if n == 7 { 0 } else { 2 };
                (to[usize::from(n % 3 == 0)], &bytes[..len])
            }));
            let mut expected = [Vec::new(), Vec::new()];
            for (addr, bytes) in batch.datagrams() {
                expected[usize::from(addr == to[1])].push(bytes.to_vec());
            }
            let mut tx = SendMmsg::new(bind(ip));
            assert_eq!(tx.send(&mut batch), all_sent(150));
            assert!(batch.is_empty());
            assert_eq!(receivers.each_ref().map(drain), expected);
            assert_eq!(tx.send(&mut batch), Sent::default());
        }
    }

    #[test]
    fn our_own_socket_sends_too_and_the_largest_datagram_goes() {
        let ours = UdpSocket::bind((V4, 0).into(), &crate::UdpOptions::default()).unwrap();
        let receiver = bind(V4);
        let largest = vec![0xA5; 65_507];
        let mut batch = batch_of([(receiver.local_addr().unwrap(), &largest[..])]);
        assert_eq!(SendMmsg::new(Arc::new(ours)).send(&mut batch), all_sent(1));
        assert!(drain(&receiver) == [largest]);
    }

    #[test]
    fn a_connected_socket_sends_to_the_destination_and_not_to_its_peer() {
        let (peer, other) = (bind(V4), bind(V4));
        let sender = bind(V4);
        sender.connect(peer.local_addr().unwrap()).unwrap();
        let mut batch = batch_of([
            (other.local_addr().unwrap(), &b"other"[..]),
            (peer.local_addr().unwrap(), b"peer"),
        ]);
        assert_eq!(SendMmsg::new(sender).send(&mut batch), all_sent(2));
        assert_eq!(drain(&other), [b"other"]);
        assert_eq!(drain(&peer), [b"peer"]);
    }

    #[test]
    fn a_peer_that_refuses_costs_the_next_datagram_nothing() {
        let (closed, open) = (bind(V4), bind(V4));
        let to = closed.local_addr().unwrap();
        let sender = bind(V4);
        sender.connect(to).unwrap();
        drop(closed);
        // Each one to the closed port makes an error for the next.
        let mut batch = batch_of((0..20).map(|n: u8| {
            let to = if n.is_multiple_of(2) {
                to
            } else {
                open.local_addr().unwrap()
            };
            (to, &b"knock"[..])
        }));
        assert_eq!(SendMmsg::new(sender).send(&mut batch), all_sent(20));
        assert_eq!(drain(&open).len(), 10);
    }

    #[test]
    fn what_the_kernel_refuses_fails_alone_and_is_named() {
        let receiver = bind(V4);
        let to = receiver.local_addr().unwrap();
        let too_long = vec![0; 65_508];
        // Loopback's broadcast address needs SO_BROADCAST, which nobody set.
        let broadcast = SocketAddr::from(([127, 255, 255, 255], 9));
        let other_family = SocketAddr::from((net::Ipv6Addr::LOCALHOST, 9));
        let mut batch = batch_of([
            (to, &b"one"[..]),
            (broadcast, b"all"),
            (to, b"two"),
            (to, &too_long),
            (other_family, b"v6"),
            (to, b"three"),
        ]);
        let expected = Sent {
            sent: 3,
            failed: 3,
            error: Some(io::ErrorKind::PermissionDenied),
        };
        assert_eq!(SendMmsg::new(bind(V4)).send(&mut batch), expected);
        assert_eq!(drain(&receiver), [&b"one"[..], b"two", b"three"]);
    }

    #[test]
    fn a_slow_way_is_waited_for_and_loses_nothing() {
        // 100 Mbit/s, behind a send buffer for a few datagrams: what does not wait, fails. 10 of 1000 bytes need
        // less than 1 ms of the 10 that a batch may wait.
        let slow = "tc qdisc add dev lo root tbf rate 100mbit burst 5kb latency 10s";
        namespace::within(&["ip link set lo up", slow], || {
            let (receiver, sender) = (bind(V4), bind(V4));
            namespace::set_sndbuf(&sender, 1);
            let mut tx = SendMmsg::new(sender);
            let mut received = 0;
            for _ in 0..10 {
                let to = receiver.local_addr().unwrap();
                let mut batch = batch_of((0..10).map(|_| (to, &[7; 1000][..])));
                assert_eq!(tx.send(&mut batch), all_sent(10));
                received += drain(&receiver).len();
            }
            // The last ones are still on their way.
            let start = Instant::now();
            while received < 100 && start.elapsed() < Duration::from_secs(10) {
                received += drain(&receiver).len();
            }
            assert_eq!(received, 100);
        });
    }

    #[test]
    fn a_way_that_is_shut_is_not_waited_for_long_and_everything_is_counted() {
        // 8 kbit/s: a datagram in a second.
        let shut = "tc qdisc add dev lo root tbf rate 8kbit burst 2kb latency 100s";
        namespace::within(&["ip link set lo up", shut], || {
            let (receiver, sender) = (bind(V4), bind(V4));
            namespace::set_sndbuf(&sender, 1);
            let to = receiver.local_addr().unwrap();
            let mut batch = batch_of((0..200).map(|_| (to, &[7; 1000][..])));
            let start = Instant::now();
            let sent = SendMmsg::new(sender).send(&mut batch);
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{:?}",
                start.elapsed()
            );
            assert_eq!(sent.sent + sent.failed, 200);
            assert!(sent.sent >= 1 && sent.failed >= 100, "{sent:?}");
            assert_eq!(sent.error, Some(io::ErrorKind::WouldBlock));
            // Nothing has left meanwhile, and nobody waits.
            let mut tx = SendMmsg::new(bind(V4)).with_patience(Duration::ZERO);
            namespace::set_sndbuf(&tx.socket, 1);
            let batches = || batch_of((0..200).map(|_| (to, &[7; 1000][..])));
            tx.send(&mut batches());
            let start = Instant::now();
            let failed: u64 = (0..100).map(|_| tx.send(&mut batches()).failed).sum();
            assert!(failed >= 100 * 199, "{failed}");
            assert!(
                start.elapsed() < Duration::from_millis(800),
                "{:?}",
                start.elapsed()
            );
        });
    }
}
