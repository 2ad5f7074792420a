//! `UDP_SEGMENT`: datagrams of equal length to one destination leave as one train, which the kernel cuts at the
//! end of its way, or its receiver takes whole.
//!
//! What a datagram costs the kernel, a train costs once. Measured on loopback (2 cores, Linux 6.18, 200 bytes,
//! batches of 1024, clock of the sending thread): 2550 ns for a datagram alone; in trains of 128, 370 ns to a plain
//! socket and 26 ns to one with [`gro`](crate::UdpOptions::gro).

use std::io;
use std::net;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, OnceLock};

use super::delivery::Delivery;
use super::messages::Messages;
use super::{Sent, Tx, TxBatch};
use crate::udp::UdpSocket;

/// Sends runs of datagrams of equal length to the same destination as trains, the last of which may be shorter, and
/// the rest as [`SendMmsg`](super::sendmmsg::SendMmsg) does. From any UDP socket, connected or not.
///
/// A train has at most [`segments_max`](Self::segments_max) datagrams and 65 507 bytes. One that the kernel
/// refuses as such goes as single datagrams, and so does everything after it when the way carries none.
#[derive(Debug)]
pub struct Gso<S = Arc<UdpSocket>> {
    socket: S,
    delivery: Delivery,
}

impl<S: AsRawFd> Gso<S> {
    /// Sends from `socket`, whose family must be that of the destinations.
    ///
    /// The first one of the process asks the kernel how long trains may be, by sending one to itself over
    /// 127.0.0.1.
    #[must_use]
    pub fn new(socket: S) -> Self {
        let segments_max = if knows_trains(socket.as_raw_fd()) {
            kernel_segments_max()
        } else {
            1
        };
        Self {
            socket,
            delivery: Delivery::new(segments_max),
        }
    }

    /// Datagrams per train, 128 or 64 by the kernel's version; 1 where it knows none, or once the way of one turned
    /// out to carry none.
    #[must_use]
    pub const fn segments_max(&self) -> usize {
        self.delivery.segments_max()
    }
}

impl<S: AsRawFd> Tx for Gso<S> {
    fn send(&mut self, batch: &mut TxBatch) -> Sent {
        self.delivery.send(self.socket.as_raw_fd(), batch)
    }
}

/// Whether the socket has the option at all. A kernel before 4.18 has not, and would overlook the control message:
/// a train would leave as one long datagram.
fn knows_trains(socket: RawFd) -> bool {
    let mut value: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of_val(&value)).expect("an int is small");
    // SAFETY: "optlen is a value-result argument, initially containing the size of the buffer pointed to by optval"
    // (getsockopt(2)): that of `value`. A socket that is not open is an error of the call.
    let done = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_UDP,
            libc::UDP_SEGMENT,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    done == 0
}

/// `UDP_MAX_SEGMENTS` of the running kernel: 128 since Linux 6.9, 64 before.
fn kernel_segments_max() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    *FOUND.get_or_init(|| match probe(SEGMENTS_MIN + 1) {
        Ok(()) => SEGMENTS_MAX,
        // Also where there is no loopback to ask over.
        Err(_) => SEGMENTS_MIN,
    })
}

/// Sends a train of `segments` bytes to itself, each a datagram.
fn probe(segments: usize) -> io::Result<()> {
    let socket = net::UdpSocket::bind(("127.0.0.1", 0))?;
    let to = socket.local_addr()?;
    let mut batch = TxBatch::new(segments, segments);
    while batch.push(to, b"?") {}
    let mut messages = Messages::new();
    let mut prepared = messages.prepare(&batch, 0, segments, 0);
    prepared.send(socket.as_raw_fd(), 0).map(|_| ())
}

const SEGMENTS_MIN: usize = 64;
const SEGMENTS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::{self, V4};
    use crate::tx::namespace;
    use crate::{Batch, OpenQueue as _, RecvMmsg, RxQueue as _, Slab, UdpOptions};
    use std::net::{IpAddr, SocketAddr};

    /// What arrived, in order, and in how many frames.
    fn drain(socket: &Arc<UdpSocket>) -> (Vec<Vec<u8>>, usize) {
        let (mut slab, mut batch) = (Slab::new(32).unwrap(), Batch::new(16));
        let mut queue = RecvMmsg::open(Arc::clone(socket), 16).unwrap();
        let (mut seen, mut frames) = (Vec::new(), 0);
        loop {
            queue.recv(&mut slab, &mut batch).unwrap();
            if batch.is_empty() {
                return (seen, frames);
            }
            frames += 16 - batch.room();
            seen.extend(
                batch
                    .datagrams(&slab)
                    .map(|datagram| datagram.bytes.to_vec()),
            );
            batch.release(&mut slab);
        }
    }

    fn receiver(ip: IpAddr, gro: bool) -> (Arc<UdpSocket>, SocketAddr) {
        let options = UdpOptions {
            gro,
            rcvbuf: Some(4 << 20),
        };
        let socket = UdpSocket::bind((ip, 0).into(), &options).unwrap();
        let addr = socket.local_addr().unwrap();
        (Arc::new(socket), addr)
    }

    fn sender(ip: IpAddr) -> net::UdpSocket {
        net::UdpSocket::bind((ip, 0)).unwrap()
    }

    /// Datagrams of these lengths, each of bytes of its own, to one destination.
    fn batch_of(to: SocketAddr, lens: &[usize]) -> TxBatch {
        let mut batch = TxBatch::new(lens.len(), lens.iter().sum());
        for (fill, len) in (0..=u8::MAX).cycle().zip(lens) {
            assert!(batch.push(to, &vec![fill; *len]));
        }
        batch
    }

    fn payloads(batch: &TxBatch) -> Vec<Vec<u8>> {
        batch.datagrams().map(|(_, bytes)| bytes.to_vec()).collect()
    }

    fn all_sent(count: usize) -> Sent {
        Sent {
            sent: count as u64,
            ..Sent::default()
        }
    }

    #[test]
    fn trains_arrive_as_the_datagrams_they_were_made_of() {
        let mixed = [
            3, 200, 200, 200, 40, 40, 0, 0, 41, 40, 1400, 1400, 1, 65_507, 9, 9,
        ];
        let long = [[200; 300].as_slice(), &[199]].concat();
        let large = [1400; 150];
        for ip in loopback::addresses() {
            for (gro, lens) in [false, true]
                .into_iter()
                .flat_map(|gro| [&mixed[..], &long, &large].map(|lens| (gro, lens)))
            {
                let (socket, to) = receiver(ip, gro);
                let mut batch = batch_of(to, lens);
                let expected = payloads(&batch);
                assert_eq!(Gso::new(sender(ip)).send(&mut batch), all_sent(lens.len()));
                assert!(batch.is_empty());
                assert!(
                    drain(&socket).0 == expected,
                    "{ip}, gro {gro}, {} datagrams",
                    lens.len()
                );
            }
        }
    }

    #[test]
    fn a_receiver_of_trains_gets_them_whole_and_as_long_as_the_kernel_makes_them() {
        let (socket, to) = receiver(V4, true);
        let mut tx = Gso::new(sender(V4));
        assert!([SEGMENTS_MIN, SEGMENTS_MAX].contains(&tx.segments_max()));
        let mut batch = batch_of(to, &vec![200; 2 * tx.segments_max() + 1]);
        assert_eq!(tx.send(&mut batch).failed, 0);
        let (seen, frames) = drain(&socket);
        assert_eq!((seen.len(), frames), (2 * tx.segments_max() + 1, 3));
    }

    #[test]
    fn destinations_that_take_turns_make_no_trains_and_lose_nothing() {
        let receivers = [receiver(V4, true), receiver(V4, true)];
        let mut batch = TxBatch::new(60, 6000);
        for n in 0..60_u8 {
            assert!(batch.push(receivers[usize::from(n % 2)].1, &[n; 100]));
        }
        assert_eq!(Gso::new(sender(V4)).send(&mut batch), all_sent(60));
        for (first, (socket, _)) in (0..).zip(&receivers) {
            let expected: Vec<_> = (first..60_u8).step_by(2).map(|n| vec![n; 100]).collect();
            assert_eq!(drain(socket), (expected, 30));
        }
    }

    #[test]
    fn a_train_that_the_kernel_refuses_goes_as_datagrams() {
        let (socket, to) = receiver(V4, true);
        let sender = sender(V4);
        // "udp_send_skb": no trains from a socket without checksums.
        namespace::set_no_check(&sender);
        let mut batch = batch_of(to, &[100; 200]);
        let expected = payloads(&batch);
        assert_eq!(Gso::new(sender).send(&mut batch), all_sent(200));
        assert_eq!(drain(&socket), (expected, 200));
    }

    #[test]
    fn a_train_with_a_datagram_that_cannot_be_sent_loses_that_one_alone() {
        let (socket, to) = receiver(V4, false);
        let mut batch = batch_of(to, &[65_508, 65_508, 8, 8, 8]);
        let expected = payloads(&batch).split_off(2);
        let sent = Gso::new(sender(V4)).send(&mut batch);
        assert_eq!((sent.sent, sent.failed), (3, 2));
        assert_eq!(drain(&socket).0, expected);
    }

    #[test]
    fn a_peer_that_refuses_costs_the_next_train_nothing() {
        let (socket, to) = receiver(V4, false);
        let sender = sender(V4);
        sender.connect(to).unwrap();
        let mut tx = Gso::new(sender);
        drop(socket);
        assert_eq!(tx.send(&mut batch_of(to, &[100; 50])), all_sent(50));
        assert_eq!(tx.send(&mut batch_of(to, &[100; 50])), all_sent(50));
    }

    #[test]
    fn datagrams_longer_than_the_ways_packets_go_in_fragments() {
        let narrow = "ip link set lo mtu 1500 up";
        namespace::within(&[narrow], || {
            let (socket, to) = receiver(V4, true);
            let mut tx = Gso::new(sender(V4));
            let mut batch = batch_of(to, &[2000; 10]);
            let expected = payloads(&batch);
            assert_eq!(tx.send(&mut batch), all_sent(10));
            assert_eq!(drain(&socket), (expected, 10));
            // Shorter ones still make trains.
            assert_eq!(tx.send(&mut batch_of(to, &[1000; 10])), all_sent(10));
            assert_eq!(drain(&socket).1, 1);
        });
    }

    #[test]
    fn a_socket_that_knows_no_trains_sends_without_them() {
        // Not open: the kernel says nothing good about it.
        assert!(!knows_trains(-1));
        assert!(knows_trains(sender(V4).as_raw_fd()));
    }
}
