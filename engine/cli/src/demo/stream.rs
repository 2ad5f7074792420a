//! The stream of a demo: packets of a genuine 3.6 node, on one connection.
//!
//! ```text
//!   Pace: what is due now ─▶ │ packet │ packet │ packet │ ─▶ write(2), again and again until the kernel has all of it
//! ```

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_replay::{Pace, Renumbered, Traffic, Ways};
use binrush_wire::Generation;

/// What was sent on a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Packets the schedule had.
    pub(super) planned: u64,
    /// Packets whose last byte the kernel took; exact, so that a receiver's ledger can be laid against it.
    pub(super) packets: u64,
    /// Bytes that the kernel took, those of a packet that it did not take whole included.
    pub(super) bytes: u64,
    /// Why it was not all, if the connection was the reason.
    pub(super) failed: Option<String>,
    /// How late the latest packet was handed over.
    pub(super) late_max: Duration,
}

/// What the busiest way of the capture that comes with the program has: what one 3.6 node told another about dialogs,
/// registrations, profiles and its cluster.
pub(super) fn sample() -> Traffic {
    let recorded = Traffic::record(SAMPLE, Some(Generation::Modern), Ways::Busiest);
    recorded.expect("the embedded capture is tested").traffic
}

/// A connection to send on.
pub(super) fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&to, CONNECT_MAX)
        .with_context(|| format!("cannot connect to the engine at tcp:{to}"))?;
    let prepared = socket
        .set_nodelay(true)
        .and_then(|()| socket.set_write_timeout(Some(WRITE_MAX)));
    prepared.context("cannot set up the connection to the engine")?;
    Ok(socket)
}

/// Sends `traffic` round after round on `socket` as `pace` says, then says that nothing more comes.
///
/// Blocks until the schedule is through, the connection fails, or `stop` is set. Then the packet that was begun is still
/// finished, if the other side takes it in bounded time. No packet is sent early; what is due goes together.
pub(super) fn send(traffic: &Traffic, pace: Pace, socket: TcpStream, stop: &AtomicBool) -> Sent {
    let mut outlet = Outlet {
        socket,
        buffer: Vec::with_capacity(2 * BATCH_LEN_MAX),
        ends: Vec::new(),
        sent: Sent {
            planned: pace.count(),
            ..Sent::default()
        },
    };
    let mut renumbered = Renumbered::new(traffic);
    let mut next = 0;
    let start = Instant::now();
    // Relaxed: the flag stands for itself.
    while next < pace.count() && !stop.load(Ordering::Relaxed) {
        thread::sleep(pace.due(next).saturating_sub(start.elapsed()));
        let now = start.elapsed();
        let late = now.saturating_sub(pace.due(next));
        outlet.sent.late_max = outlet.sent.late_max.max(late);
        while next < pace.count() && pace.due(next) <= now && outlet.has_room() {
            let (round, index) = (next / traffic.len() as u64, next % traffic.len() as u64);
            let index = usize::try_from(index).expect("below the length of a slice");
            match renumbered.packet(round, index) {
                Ok(packet) => outlet.push(packet),
                Err(error) => outlet.sent.failed = Some(error.to_string()),
            }
            next += 1;
        }
        if let Err(error) = outlet.flush(stop) {
            outlet.sent.failed = Some(error.to_string());
            break;
        }
    }
    // One that the other side has ended is ended already.
    let _ = outlet.socket.shutdown(Shutdown::Write);
    outlet.sent
}

/// A connection, and the packets that it has not taken yet.
#[derive(Debug)]
struct Outlet<S> {
    socket: S,
    buffer: Vec<u8>,
    /// Where each packet in the buffer ends.
    ends: Vec<usize>,
    sent: Sent,
}

impl<S: Write> Outlet<S> {
    fn has_room(&self) -> bool {
        self.buffer.len() < BATCH_LEN_MAX
    }

    fn push(&mut self, packet: &[u8]) {
        self.buffer.extend_from_slice(packet);
        self.ends.push(self.buffer.len());
    }

    /// Hands everything to the kernel; once `stop` is set no more than the packet that is begun, and not for long.
    fn flush(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut taken = 0;
        let mut stopped = None;
        let mut end = self.buffer.len();
        let mut failed = Ok(());
        while taken < end {
            match self.socket.write(&self.buffer[taken..end]) {
                Ok(0) => failed = Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => taken += len,
                Err(error) if is_passing(error.kind()) => {}
                Err(error) => failed = Err(error),
            }
            if failed.is_err() {
                break;
            }
            if stopped.is_none() && stop.load(Ordering::Relaxed) {
                stopped = Some(Instant::now());
                // None is begun where one has just ended.
                let begun = self.ends.partition_point(|end| *end < taken);
                end = self.ends.get(begun).map_or(end, |end| *end);
            }
            if stopped.is_some_and(|since| since.elapsed() > FINISH_MAX) {
                break;
            }
        }
        self.sent.packets += self.ends.partition_point(|end| *end <= taken) as u64;
        self.sent.bytes += taken as u64;
        self.buffer.clear();
        self.ends.clear();
        failed
    }
}

/// Whether the same call may succeed next: a signal came, or the timeout of a call did.
const fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

static SAMPLE: &[u8] = include_bytes!("../../../../tests/captures/opensips-3.6.pcap.gz");

/// Bytes that are handed over together, about: what a socket's send buffer has room for.
const BATCH_LEN_MAX: usize = 64 << 10;

/// The engine is in this process.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long one write may block, and so how late a stop is noticed.
const WRITE_MAX: Duration = Duration::from_millis(100);

/// How long the rest of one packet is tried for after a stop.
const FINISH_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::{Packet, schema};
    use std::io::Read as _;
    use std::net::TcpListener;

    /// Takes so many bytes of each call, and none any more after so many in all.
    struct Slow<'a> {
        at_once: usize,
        left: usize,
        stop: &'a AtomicBool,
        taken: Vec<u8>,
    }

    impl Write for Slow<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.at_once).min(self.left);
            if len == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.left -= len;
            self.taken.extend(&bytes[..len]);
            if self.left < 100 {
                self.stop.store(true, Ordering::Relaxed);
            }
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outlet(at_once: usize, left: usize, stop: &AtomicBool) -> Outlet<Slow<'_>> {
        Outlet {
            socket: Slow {
                at_once,
                left,
                stop,
                taken: Vec::new(),
            },
            buffer: Vec::new(),
            ends: Vec::new(),
            sent: Sent::default(),
        }
    }

    #[test]
    fn the_sample_is_what_one_node_told_another() {
        let traffic = sample();
        assert_eq!(traffic.generation(), Generation::Modern);
        assert_eq!(traffic.len(), 2050);
        let mut renumbered = Renumbered::new(&traffic);
        for (round, index) in (0..2).flat_map(|round| (0..traffic.len()).map(move |n| (round, n))) {
            let packet = renumbered.packet(round, index).unwrap();
            let packet = Packet::parse(Generation::Modern, packet).unwrap();
            // As the demo's handlers see it.
            assert!(schema::identify(&packet).is_ok(), "{round} {index}");
        }
    }

    #[test]
    fn every_packet_is_sent_once_and_whole_and_the_end_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let traffic = sample();
        // More than one round, and more than the socket buffers hold.
        let pace = Pace::new(1_000_000, Duration::from_millis(5)).unwrap();
        let (sent, received) = thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut bytes = Vec::new();
                accepted.read_to_end(&mut bytes).map(|_| bytes)
            });
            let sent = send(&traffic, pace, socket, &AtomicBool::new(false));
            (sent, reader.join().unwrap().unwrap())
        });
        let mut expected = Vec::<u8>::new();
        let mut renumbered = Renumbered::new(&traffic);
        for n in 0..5000_usize {
            let round = (n / traffic.len()) as u64;
            expected.extend(renumbered.packet(round, n % traffic.len()).unwrap());
        }
        assert!(received == expected, "{} bytes", received.len());
        assert_eq!(
            (sent.planned, sent.packets, sent.bytes, &sent.failed),
            (5000, 5000, expected.len() as u64, &None)
        );
    }

    #[test]
    fn a_connection_that_fails_leaves_an_exact_count() {
        let never = AtomicBool::new(false);
        let unheard = AtomicBool::new(false);
        let mut outlet = outlet(7, 250, &unheard);
        (0..10).for_each(|_| outlet.push(&[1; 40]));
        outlet.flush(&never).unwrap_err();
        assert_eq!((outlet.sent.packets, outlet.sent.bytes), (6, 250));
        assert!(outlet.buffer.is_empty() && outlet.ends.is_empty());
    }

    #[test]
    fn after_a_stop_the_packet_that_is_begun_is_finished_and_no_other() {
        let stop = AtomicBool::new(false);
        let mut outlet = outlet(7, 300, &stop);
        (0..10).for_each(|_| outlet.push(&[1; 40]));
        outlet.flush(&stop).unwrap();
        // Set when 203 bytes were taken.
        assert_eq!((outlet.sent.packets, outlet.sent.bytes), (6, 240));
        assert_eq!(outlet.socket.taken.len(), 240);
    }

    #[test]
    fn nobody_there_is_an_error_that_says_where() {
        let free = TcpListener::bind("127.77.3.3:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let error = connect(addr).unwrap_err().to_string();
        assert!(error.contains(&format!("tcp:{addr}")), "{error}");
    }
}
