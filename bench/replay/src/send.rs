//! Sending on schedule.

use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::pace::Pace;
use crate::traffic::{Renumbered, Traffic};

/// What another thread may watch and ask for while a replay runs.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    stop: AtomicBool,
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Packets the schedule had.
    pub planned: u64,
    /// Packets the kernel took; exact, so that a receiver's ledger can be laid against it.
    pub sent: u64,
    /// Bytes of payload in them.
    pub bytes: u64,
    /// Packets the kernel did not take, by reason.
    pub errors: SendErrors,
    /// From the first packet's moment to the end.
    pub elapsed: Duration,
    /// How late the latest packet was.
    pub late_max: Duration,
    /// How late packets were on average.
    pub late_mean: Duration,
}

/// Counts of failed sends, by the text of the system's error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendErrors(BTreeMap<String, u64>);

impl Progress {
    /// Packets the kernel took so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the replay before its next packet.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl SendErrors {
    /// Each reason with its count, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .map(|(reason, count)| (reason.as_str(), *count))
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn count(&mut self, reason: String) {
        // Bounded: by the errors that send(2) and the builder know.
        *self.0.entry(reason).or_default() += 1;
    }
}

/// Sends `traffic` round after round on `socket`, which is connected, as `pace` says.
///
/// Blocks until the schedule is through or [`Progress::stop`] was called. A packet is never sent early, never
/// left out for being late, and never sent twice: a failed one is counted by its error.
pub fn replay(traffic: &Traffic, pace: Pace, socket: &UdpSocket, progress: &Progress) -> Report {
    let mut renumbered = Renumbered::new(traffic);
    let mut errors = SendErrors::default();
    let (mut sent, mut bytes) = (0, 0);
    let (mut late_max, mut late_sum) = (Duration::ZERO, Duration::ZERO);
    let mut tried = 0;
    let start = Instant::now();
    // Relaxed: the flag and the count stand for themselves, nothing is read because of them.
    while tried < pace.count() && !progress.stop.load(Ordering::Relaxed) {
        let late = wait_until(start + pace.due(tried));
        late_max = late_max.max(late);
        late_sum += late;
        let (round, index) = (tried / traffic.len() as u64, tried % traffic.len() as u64);
        let index = usize::try_from(index).expect("below the length of a slice");
        match renumbered.packet(round, index) {
            Ok(packet) => match send(socket, packet) {
                Ok(len) => {
                    sent += 1;
                    bytes += len as u64;
                    progress.sent.store(sent, Ordering::Relaxed);
                }
                Err(error) => errors.count(error.to_string()),
            },
            Err(error) => errors.count(error.kind.symbol().to_owned()),
        }
        tried += 1;
    }
    let mean_ns = late_sum.as_nanos() / u128::from(tried.max(1));
    Report {
        planned: pace.count(),
        sent,
        bytes,
        errors,
        elapsed: start.elapsed(),
        late_max,
        late_mean: Duration::from_nanos(u64::try_from(mean_ns).unwrap_or(u64::MAX)),
    }
}

fn send(socket: &UdpSocket, packet: &[u8]) -> io::Result<usize> {
    loop {
        match socket.send(packet) {
            // A signal came before anything was sent.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Sleeps until `moment`; says how long ago that was.
fn wait_until(moment: Instant) -> Duration {
    loop {
        let now = Instant::now();
        match moment.checked_duration_since(now) {
            None | Some(Duration::ZERO) => return now - moment,
            Some(left) => thread::sleep(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(receiver.local_addr().unwrap()).unwrap();
        (receiver, socket)
    }

    fn pace(rate_pps: u64, millis: u64) -> Pace {
        Pace::new(rate_pps, Duration::from_millis(millis)).unwrap()
    }

    #[test]
    fn sends_every_packet_once_and_in_order() {
        let (receiver, socket) = pair();
        let traffic = Traffic::sample();
        let progress = Progress::default();
        let report = replay(&traffic, pace(10_000, 10), &socket, &progress);
        assert_eq!(
            (report.planned, report.sent, progress.sent()),
            (100, 100, 100)
        );
        assert!(report.elapsed >= pace(10_000, 10).due(99));
        assert!(report.late_mean <= report.late_max);

        let mut expected = Renumbered::new(&traffic);
        let mut buffer = [0; 2048];
        let mut bytes = 0;
        for index in 0..100 {
            let len = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected.packet(0, index).unwrap());
            bytes += len as u64;
        }
        assert_eq!(bytes, report.bytes);
    }

    #[test]
    fn goes_on_with_the_next_round_when_one_is_through() {
        let (receiver, socket) = pair();
        let sample = Traffic::sample();
        let first: Vec<Vec<u8>> = (0..3)
            .map(|index| Renumbered::new(&sample).packet(0, index).unwrap().to_vec())
            .collect();
        let traffic = Traffic::from_datagrams(first.iter().map(|bytes| &bytes[..])).unwrap();
        replay(&traffic, pace(1000, 8), &socket, &Progress::default());
        let mut expected = Renumbered::new(&traffic);
        let mut buffer = [0; 2048];
        for n in 0..8 {
            let len = receiver.recv(&mut buffer).unwrap();
            let (round, index) = (n / 3, usize::try_from(n % 3).unwrap());
            assert_eq!(&buffer[..len], expected.packet(round, index).unwrap());
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_counted_by_name() {
        // An address that nobody else uses, so that nobody else is given the port when it is free again.
        let receiver = UdpSocket::bind("127.77.3.2:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(receiver.local_addr().unwrap()).unwrap();
        drop(receiver);
        let report = replay(
            &Traffic::sample(),
            pace(1000, 20),
            &socket,
            &Progress::default(),
        );
        assert_eq!(report.sent + report.errors.total(), 20);
        assert!(
            report
                .errors
                .iter()
                .all(|(reason, _)| reason.contains("refused")),
            "{report:?}"
        );
        assert!(report.errors.total() > 0);
    }

    #[test]
    fn a_stop_ends_it_early_with_an_exact_count() {
        let (receiver, socket) = pair();
        let progress = Progress::default();
        let report = thread::scope(|scope| {
            let run = scope.spawn(|| {
                replay(
                    &Traffic::sample(),
                    pace(1000, 3_600_000),
                    &socket,
                    &progress,
                )
            });
            receiver.recv(&mut [0; 2048]).unwrap();
            progress.stop();
            run.join().unwrap()
        });
        assert!(report.sent >= 1 && report.sent < report.planned);
        receiver.set_nonblocking(true).unwrap();
        let rest = std::iter::from_fn(|| receiver.recv(&mut [0; 2048]).ok()).count();
        assert_eq!(rest as u64 + 1, report.sent);
    }
}
