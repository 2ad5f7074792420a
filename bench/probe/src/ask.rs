//! Asking a `binrush serve` elsewhere what its probe saw.
//!
//! ```text
//!   asker                                  serve
//!     │── ask: run, reply to, salt, part 0 ──▶│  a shard takes it; the control thread puts together what the shards saw
//!     │── the same, every 30 ms ─────────────▶│
//!     │◀── answer: part 0 of 3 ───────────────│  from the address that it listens on
//!     │── ask: part 1 ───────────────────────▶│
//! ```
//!
//! One ask is answered by one datagram at most, so whoever asks sets the pace, and what is lost is asked for again. Each
//! part says what the whole is to come to: parts of different reports are not taken for one, but asked for anew.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use binrush_wire::{Generation, Packet};

use crate::Report;
use message::{Answer, Ask, Wish};

/// The packets of both sides.
pub mod message;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No socket to ask from.
    #[error("cannot ask {addr}: {error}")]
    Socket {
        /// Who was to be asked.
        addr: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// Nobody answered, or not all of it.
    #[error(
        "{addr} does not answer what its probe saw, asked {asked} times from {from} in {patience:?}\n  \
         it must be a `binrush serve` with modparam(\"binrush\", \"probe\", ...) that lets in {from}{unsent}"
    )]
    Silent {
        /// Who was asked.
        addr: SocketAddr,
        /// Where the answer was to go.
        from: SocketAddr,
        /// How often it was asked for the part that is missing.
        asked: u32,
        /// For how long.
        patience: Duration,
        /// Why the last question could not be sent, if so.
        unsent: Unsent,
    },
    /// It answers with parts of different reports, or lets go of a report before all of it was asked for.
    #[error(
        "{addr} never answered one report from end to end, asked {attempts} times\n  \
         do others ask it what its probe saw at the same time?"
    )]
    Torn {
        /// Who was asked.
        addr: SocketAddr,
        /// For how many reports.
        attempts: u32,
    },
    /// The answer is no report.
    #[error("{addr} answered what is no report: {error}\n  both ends must be of the same version")]
    Answer {
        /// Who was asked.
        addr: SocketAddr,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

/// What the kernel said to a question that could not be sent, if it said something.
#[derive(Debug, Default)]
pub struct Unsent(pub Option<io::Error>);

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => Ok(()),
            Some(error) => write!(f, "; the last question could not be sent: {error}"),
        }
    }
}

/// What the probe of the `binrush serve` that listens on `addr` saw of `run`, all of its shards together. Waits at most
/// `patience` for each part of the answer; there is one for each 1160 bytes.
///
/// May be asked at any time, also during a run. [`Report::damaged`], `foreign`, `beyond` and `evicted` count from the start
/// of the server, over all runs.
///
/// # Errors
/// [`AskError`].
pub fn ask(addr: SocketAddr, run: u16, patience: Duration) -> Result<Report, AskError> {
    let mut asker = Asker::new(addr, run, patience)?;
    for _ in 0..ATTEMPTS {
        if let Some(text) = asker.whole()? {
            return serde_json::from_slice(&text).map_err(|error| AskError::Answer { addr, error });
        }
        asker.salt = new_salt();
    }
    Err(AskError::Torn {
        addr,
        attempts: ATTEMPTS,
    })
}

/// Lets the probe of the server at `addr` forget `run`, to make room for others. Waits at most `patience`.
///
/// # Errors
/// [`AskError`]; then it may have forgotten nevertheless.
pub fn forget(addr: SocketAddr, run: u16, patience: Duration) -> Result<(), AskError> {
    let mut asker = Asker::new(addr, run, patience)?;
    asker.part(Wish::Forget, 0, patience).map(|_| ())
}

/// One question.
struct Asker {
    addr: SocketAddr,
    socket: UdpSocket,
    from: SocketAddr,
    run: u16,
    salt: u64,
    patience: Duration,
    /// For whatever comes.
    datagram: Vec<u8>,
}

/// A part of an answer, apart from the datagram that it came in.
struct Part {
    parts: u16,
    check: u32,
    text: Vec<u8>,
}

impl Asker {
    fn new(addr: SocketAddr, run: u16, patience: Duration) -> Result<Self, AskError> {
        let (socket, from) =
            socket_towards(addr).map_err(|error| AskError::Socket { addr, error })?;
        Ok(Self {
            addr,
            socket,
            from,
            run,
            salt: new_salt(),
            patience,
            datagram: vec![0; usize::from(u16::MAX)],
        })
    }

    /// The text of one report; `None` when the server has let go of it before all of it was here.
    fn whole(&mut self) -> Result<Option<Vec<u8>>, AskError> {
        let first = self.part(Wish::Report, 0, self.patience)?;
        let mut text = first.text;
        for part in 1..first.parts {
            // The first one came, so somebody is there: silence means that the answer is gone.
            let next = match self.part(Wish::Report, part, self.patience.min(GONE)) {
                Ok(next) => next,
                Err(AskError::Silent { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            if (next.parts, next.check) != (first.parts, first.check) {
                return Ok(None);
            }
            text.extend_from_slice(&next.text);
        }
        Ok((message::check_of(&text) == first.check).then_some(text))
    }

    /// Asks until `part` is there.
    fn part(&mut self, wish: Wish, part: u16, patience: Duration) -> Result<Part, AskError> {
        let ask = Ask {
            wish,
            run: self.run,
            reply_to: self.from,
            salt: self.salt,
            part,
        };
        let mut buffer = [0; message::ASK_LEN_MAX];
        let ask_packet = ask.write(&mut buffer);
        let deadline = Instant::now() + patience;
        let (mut asked, mut unsent) = (0, None);
        while asked == 0 || Instant::now() < deadline {
            asked += 1;
            // What cannot be sent now (a full buffer, a server that is not there yet) is asked again.
            unsent = self.socket.send_to(ask_packet, self.addr).err();
            let until = deadline.min(Instant::now() + AGAIN);
            while let Some(answer) = self.receive(until) {
                if answer.answers(&ask) {
                    return Ok(Part {
                        parts: answer.parts,
                        check: answer.check,
                        text: answer.text.to_vec(),
                    });
                }
            }
            // Where nothing is sent, nothing comes: no need to be quick.
            if unsent.is_some() {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
        }
        Err(AskError::Silent {
            addr: self.addr,
            from: self.from,
            asked,
            patience,
            unsent: Unsent(unsent),
        })
    }

    /// The next answer to anything, until `until`.
    fn receive(&mut self, until: Instant) -> Option<Answer<'_>> {
        let left = until.saturating_duration_since(Instant::now());
        // Zero would be for ever.
        let left = left.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).ok()?;
        // It may come from another of the server's addresses than the one that was asked.
        let (len, _) = self.socket.recv_from(&mut self.datagram).ok()?;
        let packet = Packet::parse(Generation::Legacy, &self.datagram[..len]);
        // What is no answer ends this wait, and so is asked again a little sooner.
        Answer::read(&packet.ok()?).ok()
    }
}

/// Whoever cannot see the question cannot answer it.
fn new_salt() -> u64 {
    // Two states of one process have the same keys but for a count, so none repeats.
    RandomState::new().hash_one(0_u8)
}

/// A socket that `addr` can answer to, and its address.
fn socket_towards(addr: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let any: SocketAddr = if addr.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    // Connecting a datagram socket sends nothing: it asks the kernel for the way, and so for our address on it.
    let scout = UdpSocket::bind(any)?;
    scout.connect(addr)?;
    let socket = UdpSocket::bind((scout.local_addr()?.ip(), 0))?;
    let from = socket.local_addr()?;
    Ok((socket, from))
}

/// How long an answer may take before the question is asked again: the control thread looks every 20 ms.
const AGAIN: Duration = Duration::from_millis(30);

/// How long a server may be silent about the next part of an answer that it has begun, before it is asked anew.
const GONE: Duration = Duration::from_secs(1);

/// How many answers are begun before the server is given up.
const ATTEMPTS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RunReport, StreamReport};
    use std::thread;

    /// Answers as `reply` says, which is told how often it was asked before, until it is dropped.
    struct Server {
        addr: SocketAddr,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Server {
        fn new(mut reply: impl FnMut(usize, &Ask) -> Vec<Vec<u8>> + Send + 'static) -> Self {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let addr = socket.local_addr().unwrap();
            let serve = move || {
                let mut datagram = [0; 512];
                for index in 0.. {
                    let (len, _) = socket.recv_from(&mut datagram).unwrap();
                    if len == 0 {
                        return;
                    }
                    let packet = Packet::parse(Generation::Legacy, &datagram[..len]).unwrap();
                    let ask = Ask::read(&packet).unwrap();
                    for answer in reply(index, &ask) {
                        socket.send_to(&answer, ask.reply_to).unwrap();
                    }
                }
            };
            Self {
                addr,
                thread: Some(thread::spawn(serve)),
            }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(&[], self.addr).unwrap();
            if let Some(Err(panic)) = self.thread.take().map(thread::JoinHandle::join)
                && !thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// The half of `text` that `part` is, of two, as an answer to `ask`.
    fn half<'a>(text: &'a [u8], part: u16, ask: &Ask) -> Answer<'a> {
        let (first, second) = text.split_at(text.len() / 2);
        Answer {
            wish: ask.wish,
            run: ask.run,
            salt: ask.salt,
            part,
            parts: 2,
            check: message::check_of(text),
            text: [first, second][usize::from(part)],
        }
    }

    fn report() -> Report {
        let streams = (0..8).map(|stream| StreamReport {
            stream,
            unique: 7,
            ..StreamReport::default()
        });
        let run = RunReport {
            run: 9,
            streams: streams.collect(),
            ..RunReport::default()
        };
        Report {
            runs: vec![run],
            damaged: 3,
            ..Report::default()
        }
    }

    #[test]
    fn what_is_lost_copied_or_of_another_question_does_not_matter() {
        let text = serde_json::to_vec(&report()).unwrap();
        let server = Server::new(move |index, ask| {
            let right = half(&text, ask.part, ask);
            let salt = !ask.salt;
            match index {
                // Nothing; what is no packet; the answer to another question; to another part; and so on.
                0 => vec![],
                1 => vec![b"P4CK".to_vec()],
                2 => vec![Answer { salt, ..right }.to_datagram()],
                3 => vec![
                    half(&text, 1 - ask.part, ask).to_datagram(),
                    right.to_datagram(),
                    right.to_datagram(),
                ],
                4 => vec![],
                _ => vec![right.to_datagram()],
            }
        });
        assert_eq!(ask(server.addr, 9, PATIENCE).unwrap(), report());
    }

    #[test]
    fn parts_of_different_reports_are_asked_for_anew() {
        let [old, new] = [3, 4].map(|damaged| {
            let report = Report {
                damaged,
                ..report()
            };
            serde_json::to_vec(&report).unwrap()
        });
        assert_eq!(old.len(), new.len());
        let mut salts = Vec::new();
        let server = Server::new(move |_, ask| {
            if !salts.contains(&ask.salt) {
                salts.push(ask.salt);
            }
            let text = match (salts.len(), ask.part) {
                (1, 0) => &old,
                // The server has let go of it.
                (2, 1) => return vec![],
                _ => &new,
            };
            vec![half(text, ask.part, ask).to_datagram()]
        });
        assert_eq!(ask(server.addr, 9, PATIENCE).unwrap().damaged, 4);
    }

    #[test]
    fn a_server_that_never_answers_one_report_is_given_up() {
        let text = serde_json::to_vec(&report()).unwrap();
        let server = Server::new(move |index, ask| {
            let check = u32::try_from(index).unwrap();
            let right = half(&text, ask.part, ask);
            vec![Answer { check, ..right }.to_datagram()]
        });
        let error = ask(server.addr, 9, PATIENCE).unwrap_err().to_string();
        assert!(
            error.contains("one report from end to end, asked 5 times"),
            "{error}"
        );
    }

    #[test]
    fn why_a_question_could_not_be_sent_is_told() {
        // Without the permission to broadcast, the kernel sends nothing there.
        let addr = ([255, 255, 255, 255], 9).into();
        let error = ask(addr, 1, Duration::ZERO).unwrap_err().to_string();
        let told = ["could not be sent", "cannot ask"];
        assert!(told.iter().any(|told| error.contains(told)), "{error}");
        assert!(error.contains("os error"), "{error}");
    }

    #[test]
    fn a_silent_server_is_told_with_what_to_do() {
        let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = mute.local_addr().unwrap();
        let error = ask(addr, 1, Duration::from_millis(70))
            .unwrap_err()
            .to_string();
        for told in ["does not answer", "\"probe\"", "that lets in 127.0.0.1:"] {
            assert!(error.contains(told), "{error}");
        }
        assert!(forget(addr, 1, Duration::ZERO).is_err());
    }

    #[test]
    fn an_answer_that_is_no_report_is_told() {
        let text = b"{\"runs\":7}";
        let server = Server::new(|_, ask| {
            let answer = Answer {
                wish: ask.wish,
                run: ask.run,
                salt: ask.salt,
                part: 0,
                parts: 1,
                check: message::check_of(text),
                text,
            };
            vec![answer.to_datagram()]
        });
        let error = ask(server.addr, 1, PATIENCE).unwrap_err().to_string();
        assert!(
            error.contains("no report") && error.contains("version"),
            "{error}"
        );
    }

    /// Longer than any computer is busy with something else.
    const PATIENCE: Duration = Duration::from_secs(20);
}
