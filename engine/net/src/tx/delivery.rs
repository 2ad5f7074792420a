//! What to do when the kernel does not take a datagram. Everything ends up sent or counted as failed.

use std::io;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use super::messages::{Messages, Prepared};
use super::{Sent, TxBatch};
use crate::sys::poll;

/// Sends batches over a socket, datagrams in trains where that is allowed.
#[derive(Debug)]
pub(super) struct Delivery {
    messages: Messages,
    /// Datagrams per train; 1 when each goes alone.
    segments_max: usize,
    /// What a batch may wait for room altogether.
    patience: Duration,
}

/// What takes messages; a parameter, so that a test can say what the kernel says.
trait Link {
    /// Takes messages from `first` on, at least one. An error is about the message `first`.
    fn send(&mut self, messages: &mut Prepared<'_>, first: usize) -> io::Result<usize>;

    /// Returns when there may be room again, at the latest after `limit`; how long that was.
    fn wait(&mut self, full: Full, limit: Duration) -> Duration;
}

/// What there was no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    /// The socket's send buffer.
    Socket,
    /// A queue behind it, which tells nobody when it has room again.
    Beyond,
}

/// What to do about a message that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    Again,
    Wait(Full),
    /// Each datagram of the train goes alone.
    Split,
    /// As `Split`, and no train comes after it: this way does not carry them.
    NoTrains,
    GiveUp,
}

impl Delivery {
    pub(super) fn new(segments_max: usize) -> Self {
        Self {
            messages: Messages::new(),
            segments_max,
            patience: PATIENCE,
        }
    }

    /// Waits for room no longer than that for a batch.
    pub(super) const fn wait_at_most(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends and empties `batch`.
    pub(super) fn send(&mut self, socket: RawFd, batch: &mut TxBatch) -> Sent {
        let sent = self.send_over(&mut Socket(socket), batch);
        batch.clear();
        sent
    }

    pub(super) const fn segments_max(&self) -> usize {
        self.segments_max
    }

    fn send_over(&mut self, link: &mut impl Link, batch: &TxBatch) -> Sent {
        let mut sent = Sent::default();
        let mut attempts = Attempts::new(self.patience);
        let (mut next, mut alone_until) = (0, 0);
        while next < batch.len() {
            let mut messages = self
                .messages
                .prepare(batch, next, self.segments_max, alone_until);
            let mut first = 0;
            while first < messages.len() {
                let count = messages.count(first);
                let error = match link.send(&mut messages, first) {
                    Ok(taken) => {
                        let datagrams: usize =
                            (first..first + taken).map(|at| messages.count(at)).sum();
                        sent.sent += datagrams as u64;
                        next += datagrams;
                        first += taken;
                        attempts.begin();
                        continue;
                    }
                    Err(error) => error,
                };
                match attempts.remedy(&error, count) {
                    Remedy::Again => {}
                    Remedy::Wait(full) => attempts.waited(link.wait(full, attempts.patience)),
                    remedy @ (Remedy::Split | Remedy::NoTrains) => {
                        alone_until = next + count;
                        attempts.begin();
                        if remedy == Remedy::NoTrains {
                            self.segments_max = 1;
                        }
                        break;
                    }
                    Remedy::GiveUp => {
                        sent.failed += count as u64;
                        sent.error.get_or_insert_with(|| error.kind());
                        next += count;
                        first += 1;
                        attempts.begin();
                    }
                }
            }
        }
        sent
    }
}

/// How often and how long something was tried.
struct Attempts {
    /// What is left to wait for room, for all messages of the batch together.
    patience: Duration,
    /// The message was refused before, for a reason that may not have been its own.
    refused: bool,
}

impl Attempts {
    const fn new(patience: Duration) -> Self {
        Self {
            patience,
            refused: false,
        }
    }

    /// Another message comes first now, or only a part of what came first.
    const fn begin(&mut self) {
        self.refused = false;
    }

    const fn waited(&mut self, time: Duration) {
        self.patience = self.patience.saturating_sub(time);
    }

    /// What to do about a message of `count` datagrams that was refused.
    fn remedy(&mut self, error: &io::Error, count: usize) -> Remedy {
        let train = count > 1;
        let full = match error.raw_os_error() {
            Some(libc::EINTR) => return Remedy::Again,
            Some(libc::EAGAIN) => Full::Socket,
            Some(libc::ENOBUFS) => Full::Beyond,
            // IPsec on the way, or no checksum offload before Linux 6.11 (`udp_send_skb`); no UDP_SEGMENT at all.
            Some(libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP) if train => {
                return Remedy::NoTrains;
            }
            // Datagrams too long for a packet of this way, which go in fragments when they go alone; too many of them;
            // or checksums switched off (ibidem).
            Some(libc::EINVAL | libc::EMSGSIZE) if train => return Remedy::Split,
            // A connected socket tells with the next send what became of an earlier datagram (ECONNREFUSED:
            // "A remote host refused to allow the network connection", recv(2)), and then has nothing against
            // this one. Which of the two it was, the second attempt says.
            _ if !self.refused => {
                self.refused = true;
                return Remedy::Again;
            }
            // Of a train one datagram may be to blame, or its length as a whole: each has its own answer.
            _ if train => return Remedy::Split,
            _ => return Remedy::GiveUp,
        };
        if self.patience.is_zero() {
            Remedy::GiveUp
        } else {
            Remedy::Wait(full)
        }
    }
}

/// A socket of the kernel.
struct Socket(RawFd);

impl Link for Socket {
    fn send(&mut self, messages: &mut Prepared<'_>, first: usize) -> io::Result<usize> {
        messages.send(self.0, first)
    }

    #[cold]
    fn wait(&mut self, full: Full, limit: Duration) -> Duration {
        let start = Instant::now();
        match full {
            // ENOMEM: a pause does not depend on it.
            Full::Socket if poll::writable(self.0, limit).is_ok() => {}
            Full::Socket | Full::Beyond => thread::sleep(limit.min(PAUSE)),
        }
        start.elapsed()
    }
}

/// Unless another one is asked for. A thread that waits does not receive: longer than this, and a
/// receive buffer of usual size overflows.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long to leave a full queue alone.
const PAUSE: Duration = Duration::from_micros(500);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    /// What the kernel answers to one call.
    #[derive(Debug, Clone, Copy)]
    enum Answer {
        /// Takes that many messages, or all there are.
        Take(usize),
        Refuse(i32),
    }

    /// A kernel that answers as it is told, and then takes everything.
    struct Script {
        answers: std::vec::IntoIter<Answer>,
        calls: usize,
        waited: Vec<Full>,
        /// How long a wait for room is.
        wait: Duration,
        /// Datagrams of each message taken.
        taken: Vec<usize>,
    }

    impl Script {
        fn new(answers: Vec<Answer>, wait: Duration) -> Self {
            Self {
                answers: answers.into_iter(),
                calls: 0,
                waited: Vec::new(),
                wait,
                taken: Vec::new(),
            }
        }
    }

    impl Link for Script {
        fn send(&mut self, messages: &mut Prepared<'_>, first: usize) -> io::Result<usize> {
            self.calls += 1;
            let left = messages.len() - first;
            match self.answers.next().unwrap_or(Answer::Take(usize::MAX)) {
                Answer::Refuse(errno) => Err(io::Error::from_raw_os_error(errno)),
                Answer::Take(count) => {
                    let count = count.clamp(1, left);
                    self.taken
                        .extend((first..first + count).map(|at| messages.count(at)));
                    Ok(count)
                }
            }
        }

        fn wait(&mut self, full: Full, limit: Duration) -> Duration {
            assert!(!limit.is_zero());
            self.waited.push(full);
            self.wait
        }
    }

    fn batch(datagrams: usize) -> TxBatch {
        let mut batch = TxBatch::new(datagrams, datagrams * 4);
        for _ in 0..datagrams {
            assert!(batch.push(SocketAddr::from(([127, 0, 0, 1], 9)), b"four"));
        }
        batch
    }

    fn run(datagrams: usize, segments_max: usize, answers: Vec<Answer>) -> (Sent, Script) {
        let mut script = Script::new(answers, Duration::from_millis(1));
        let sent = Delivery::new(segments_max).send_over(&mut script, &batch(datagrams));
        (sent, script)
    }

    fn sent(sent: u64) -> Sent {
        Sent {
            sent,
            ..Sent::default()
        }
    }

    #[test]
    fn what_the_kernel_takes_in_parts_is_sent_whole() {
        use Answer::Take;
        let (done, script) = run(200, 1, vec![Take(3), Take(60), Take(1), Take(63)]);
        assert_eq!(done, sent(200));
        // 64 + 64 + 64 + 8 messages, the first two calls' worth in parts.
        assert_eq!(script.calls, 3 + 2 + 2);
    }

    #[test]
    fn an_error_of_an_earlier_datagram_costs_none() {
        use Answer::{Refuse, Take};
        let refused = Refuse(libc::ECONNREFUSED);
        let (done, script) = run(3, 1, vec![refused, Take(1), refused, Take(1), refused]);
        assert_eq!(done, sent(3));
        assert_eq!(script.calls, 6);
    }

    #[test]
    fn a_signal_is_no_error_however_often_it_comes() {
        let (done, _) = run(2, 1, vec![Answer::Refuse(libc::EINTR); 10]);
        assert_eq!(done, sent(2));
    }

    #[test]
    fn what_is_refused_twice_has_failed_and_the_next_one_is_tried() {
        use Answer::{Refuse, Take};
        let denied = Refuse(libc::EPERM);
        let answers = vec![
            Take(1),
            denied,
            denied,
            Take(1),
            Refuse(libc::EMSGSIZE),
            denied,
        ];
        let (done, script) = run(5, 1, answers);
        let expected = Sent {
            sent: 3,
            failed: 2,
            error: Some(io::ErrorKind::PermissionDenied),
        };
        assert_eq!(done, expected);
        assert_eq!(script.taken, [1, 1, 1]);
    }

    #[test]
    fn room_is_waited_for_and_then_everything_goes() {
        use Answer::{Refuse, Take};
        let answers = vec![Refuse(libc::EAGAIN), Take(1), Refuse(libc::ENOBUFS)];
        let (done, script) = run(3, 1, answers);
        assert_eq!(done, sent(3));
        assert_eq!(script.waited, [Full::Socket, Full::Beyond]);
    }

    #[test]
    fn room_that_never_comes_is_waited_for_once_and_not_by_every_datagram() {
        let (done, script) = run(5, 1, vec![Answer::Refuse(libc::EAGAIN); 1000]);
        let expected = Sent {
            sent: 0,
            failed: 5,
            error: Some(io::ErrorKind::WouldBlock),
        };
        assert_eq!(done, expected);
        assert_eq!(script.waited.len(), 10, "milliseconds");
        assert_eq!(script.calls, 10 + 5);
    }

    #[test]
    fn a_train_that_is_refused_as_one_goes_in_parts_and_the_next_one_whole() {
        for errno in [libc::EINVAL, libc::EMSGSIZE] {
            let (done, script) = run(10, 4, vec![Answer::Take(1), Answer::Refuse(errno)]);
            assert_eq!(done, sent(10));
            assert_eq!(script.taken, [4, 1, 1, 1, 1, 2]);
        }
    }

    #[test]
    fn a_way_that_carries_no_trains_is_asked_once() {
        for errno in [libc::EIO, libc::ENOPROTOOPT, libc::EOPNOTSUPP] {
            let mut delivery = Delivery::new(4);
            let mut script = Script::new(vec![Answer::Refuse(errno)], Duration::ZERO);
            assert_eq!(delivery.send_over(&mut script, &batch(10)), sent(10));
            assert_eq!(delivery.send_over(&mut script, &batch(10)), sent(10));
            assert_eq!(script.taken, [1; 20]);
            assert_eq!(script.calls, 3);
        }
    }

    #[test]
    fn a_datagram_that_is_refused_within_a_split_train_fails_alone() {
        use Answer::{Refuse, Take};
        let long = Refuse(libc::EMSGSIZE);
        let (done, script) = run(4, 4, vec![long, Take(2), long, long]);
        assert_eq!((done.sent, done.failed), (3, 1));
        assert_eq!(script.taken, [1, 1, 1]);
    }

    #[test]
    fn a_datagram_of_a_split_train_is_refused_twice_before_it_has_failed() {
        use Answer::Refuse;
        let earlier = Refuse(libc::ECONNREFUSED);
        let (done, script) = run(4, 4, vec![earlier, Refuse(libc::EMSGSIZE), earlier]);
        assert_eq!(done, sent(4));
        assert_eq!(script.taken, [1; 4]);
    }

    #[test]
    fn a_train_that_is_refused_for_good_takes_none_of_its_datagrams_with_it() {
        use Answer::{Refuse, Take};
        let denied = Refuse(libc::EPERM);
        let answers = vec![denied, denied, Take(1), denied, denied];
        let (done, script) = run(8, 4, answers);
        let expected = Sent {
            sent: 7,
            failed: 1,
            error: Some(io::ErrorKind::PermissionDenied),
        };
        assert_eq!(done, expected);
        assert_eq!(script.taken, [1, 1, 1, 4]);
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let errnos = [
            libc::EINTR,
            libc::EAGAIN,
            libc::ENOBUFS,
            libc::ECONNREFUSED,
            libc::EMSGSIZE,
            libc::EPERM,
            libc::EINVAL,
            libc::EIO,
            libc::ENOPROTOOPT,
            libc::ENETUNREACH,
        ];
        prop_oneof![
            (0_usize..70).prop_map(Answer::Take),
            prop::sample::select(errnos.to_vec()).prop_map(Answer::Refuse),
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_says_each_datagram_is_sent_once_or_has_failed(
            answers in prop::collection::vec(answer(), 0..100),
            datagrams in 0_usize..150,
            segments_max in 1_usize..10,
        ) {
            let (done, script) = run(datagrams, segments_max, answers);
            prop_assert_eq!(done.sent + done.failed, datagrams as u64);
            prop_assert_eq!(script.taken.iter().sum::<usize>() as u64, done.sent);
            prop_assert_eq!(done.failed > 0, done.error.is_some());
            prop_assert!(script.waited.len() <= 10);
        }
    }
}
