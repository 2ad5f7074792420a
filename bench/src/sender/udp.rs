//! Packets as datagrams, in trains or not.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;
use binrush_net::{Sent, Tx, TxBatch};
use binrush_scenario::{ContentError, Source};
use binrush_wire::MAX_PACKET_LEN;

use super::nobody_there;
use super::outlet::{Finished, Handed, Looked, Outlet};

/// A batch of datagrams, and what sends it.
#[derive(Debug)]
pub(super) struct Datagrams<T> {
    /// To ask what became of them.
    socket: UdpSocket,
    tx: T,
    batch: TxBatch,
    to: SocketAddr,
}

/// A socket that is connected to `to`.
pub(super) fn open(to: SocketAddr) -> anyhow::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).context("cannot open a UDP socket")?;
    socket
        .connect(to)
        .with_context(|| format!("there is no way to udp:{to}"))?;
    Ok(socket)
}

impl<T: Tx> Datagrams<T> {
    /// Hands over at most `count` at a time by `tx`, which sends from `socket`, connected to `to`.
    pub(super) fn new(socket: UdpSocket, tx: T, to: SocketAddr, count: usize) -> Self {
        Self {
            socket,
            tx,
            // As much as a train can hold, and room for the longest packet behind it.
            batch: TxBatch::new(count, 2 * MAX_PACKET_LEN),
            to,
        }
    }
}

impl<T: Tx> Outlet for Datagrams<T> {
    #[inline]
    fn has_room(&self) -> bool {
        self.batch.has_room(MAX_PACKET_LEN)
    }

    #[inline]
    fn write(
        &mut self,
        source: &mut dyn Source,
        start_ns: u64,
        late_ns: u32,
    ) -> Result<(), ContentError> {
        let write = |out: &mut [u8]| source.write(start_ns, late_ns, out);
        let taken = self.batch.push_with(self.to, MAX_PACKET_LEN, write)?;
        assert!(taken, "a packet is written where there is room");
        Ok(())
    }

    fn hand_over(&mut self) -> Handed {
        let bytes = |batch: &TxBatch| batch.datagrams().map(|(_, bytes)| bytes.len() as u64).sum();
        let bytes: u64 = bytes(&self.batch);
        let Sent {
            sent,
            failed,
            error,
        } = self.tx.send(&mut self.batch);
        Handed {
            taken: sent,
            failed,
            error,
            // Which ones were refused is not told; on average they are as long as the others.
            bytes: if failed == 0 {
                bytes
            } else {
                bytes * sent / (sent + failed)
            },
            calls: 1,
            is_closed: false,
        }
    }

    /// The sending itself waits, so there is always room.
    fn wait_for_room(&mut self, _: Duration) {}

    fn look(&mut self) -> Looked {
        // "SO_ERROR: Get and clear the pending socket error" (socket(7)): what ICMP said of the datagrams since the last
        // send. On loopback it is there when the send returns.
        match self.socket.take_error() {
            Ok(Some(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Looked::Refused,
            _ => Looked::Fine,
        }
    }

    fn finish(&mut self) -> Finished {
        self.batch.clear();
        Finished::Whole
    }

    fn nobody_there(&self) -> anyhow::Error {
        nobody_there(self.to, "udp", "every datagram was refused (ECONNREFUSED)")
    }
}

/// Datagrams of one system call when each goes alone: some 50 us of the kernel's time. So few that the moment before
/// the call, which their stamps tell, is that of all of them.
pub(super) const PLAIN_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::Patience;
    use crate::result::SenderResult;
    use crate::sender::fake::Moments;
    use crate::sender::{self, Job, Live, Pacing, Way};

    fn job(to: SocketAddr, way: Way, source: Moments) -> Job {
        Job {
            source: Box::new(source),
            stream: 3,
            to,
            way,
            core: None,
            end_ns: 20_000_000,
        }
    }

    fn send(jobs: Vec<Job>) -> anyhow::Result<Vec<SenderResult>> {
        let live = Live::new(jobs.len());
        // A test may be kept from its processor for a while.
        let pacing = Pacing {
            late_max_ns: u64::MAX,
            grace_ns: 10_000_000_000,
            ..Pacing::default()
        };
        sender::run(jobs, pacing, &live, &Patience::default())
    }

    #[test]
    fn datagrams_arrive_once_each_in_order_one_by_one_and_in_trains() {
        for way in [Way::Plain, Way::Gso] {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = receiver.local_addr().unwrap();
            // 300 at once and 20 at a distance.
            let due = std::iter::repeat_n(0, 100).chain((1..20).map(|n| n * 500_000));
            let result = send(vec![job(to, way, Moments::new(due, 80))]).unwrap();
            let [result] = &result[..] else {
                panic!("one job")
            };
            assert_eq!(
                (result.planned, result.sent, result.bytes),
                (119, 119, 119 * 80)
            );
            assert_eq!((result.stream, &result.way[..]), (3, way.symbol()));
            let expected = if way == Way::Plain { 16 } else { 64 };
            assert!(result.batch_max >= expected, "{}", result.batch_max);
            let mut bytes = [0; 100];
            for number in 0..119_u64 {
                assert_eq!(receiver.recv(&mut bytes).unwrap(), 80);
                assert_eq!(bytes[..8], number.to_le_bytes());
            }
        }
    }

    #[test]
    fn two_senders_start_at_the_same_moment() {
        let receivers = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let jobs = receivers.each_ref().map(|receiver| {
            let to = receiver.local_addr().unwrap();
            job(to, Way::Plain, Moments::new([0, 1_000_000], 80))
        });
        let results = send(jobs.into()).unwrap();
        assert_eq!(results[0].start_ns, results[1].start_ns);
        assert!(results.iter().all(|result| result.sent == 2));
    }

    #[test]
    fn a_port_where_nobody_listens_is_an_error_that_says_so() {
        // An address that nobody else uses, so that nobody else is given the port when it is free again.
        let receiver = UdpSocket::bind("127.77.3.5:0").unwrap();
        let to = receiver.local_addr().unwrap();
        drop(receiver);
        for way in [Way::Plain, Way::Gso] {
            let due = (0..10).map(|n| n * 1_000_000);
            let error = send(vec![job(to, way, Moments::new(due, 80))]).unwrap_err();
            let text = error.to_string();
            for word in [
                "nothing listens on udp:127.77.3.5:",
                "ECONNREFUSED",
                "start the receiver",
            ] {
                assert!(text.contains(word), "{text}");
            }
        }
    }

    #[test]
    fn a_packet_longer_than_a_datagram_fails_alone() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let result = send(vec![job(to, Way::Plain, Moments::new([0, 1], 65_508))]).unwrap();
        assert_eq!(
            (result[0].sent, result[0].errors.values().sum::<u64>()),
            (0, 2)
        );
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error_before_anything_is_sent() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let wrong = Job {
            core: Some(usize::MAX),
            ..job(to, Way::Plain, Moments::new([0], 80))
        };
        let other = job(to, Way::Plain, Moments::new([0], 80));
        let error = send(vec![other, wrong]).unwrap_err();
        assert!(format!("{error:#}").contains("stream 3"), "{error:#}");
    }
}
