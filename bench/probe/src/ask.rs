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
//! One ask is answered by one datagram at most, so whoever asks sets the pace, and what is lost is asked for again. All
//! parts of the answers to one salt are of one report.

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
         it must be a `binrush serve` with modparam(\"binrush\", \"probe\", ...) that lets in {from}"
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

/// What the probe of the `binrush serve` that listens on `addr` saw of `run`, all of its shards together. Waits at most
/// `patience` for each part of the answer; there is one for each 1160 bytes.
///
/// Asking during a run is exact but for one thing: a packet that overtook others while this was asked for is not seen
/// as such. [`Report::damaged`], `foreign` and `beyond` count from the start of the server, over all runs.
///
/// # Errors
/// [`AskError`].
pub fn ask(addr: SocketAddr, run: u16, patience: Duration) -> Result<Report, AskError> {
    let mut asker = Asker::new(addr, run, patience)?;
    let (mut text, mut part) = (Vec::new(), 0);
    loop {
        let parts = asker.part(Wish::Report, part, &mut text)?;
        part += 1;
        if part >= parts {
            break;
        }
    }
    serde_json::from_slice(&text).map_err(|error| AskError::Answer { addr, error })
}

/// Lets the probe of the server at `addr` forget `run`, to make room for others. Waits at most `patience`.
///
/// # Errors
/// [`AskError`]; then it may have forgotten nevertheless.
pub fn forget(addr: SocketAddr, run: u16, patience: Duration) -> Result<(), AskError> {
    let mut asker = Asker::new(addr, run, patience)?;
    asker.part(Wish::Forget, 0, &mut Vec::new()).map(|_| ())
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

impl Asker {
    fn new(addr: SocketAddr, run: u16, patience: Duration) -> Result<Self, AskError> {
        let (socket, from) =
            socket_towards(addr).map_err(|error| AskError::Socket { addr, error })?;
        Ok(Self {
            addr,
            socket,
            from,
            run,
            // Whoever cannot see the question cannot answer it.
            salt: RandomState::new().hash_one(addr),
            patience,
            datagram: vec![0; usize::from(u16::MAX)],
        })
    }

    /// Asks until `part` is there, appends it to `text` and says how many parts there are.
    fn part(&mut self, wish: Wish, part: u16, text: &mut Vec<u8>) -> Result<u16, AskError> {
        let ask = Ask {
            wish,
            run: self.run,
            reply_to: self.from,
            salt: self.salt,
            part,
        };
        let mut buffer = [0; message::ASK_LEN_MAX];
        let ask_packet = ask.write(&mut buffer);
        let deadline = Instant::now() + self.patience;
        let mut asked = 0;
        while asked == 0 || Instant::now() < deadline {
            asked += 1;
            // What cannot be sent now (a full buffer, a server that is not there yet) is asked again.
            let _ = self.socket.send_to(ask_packet, self.addr);
            let until = deadline.min(Instant::now() + AGAIN);
            while let Some(answer) = self.receive(until) {
                if answer.answers(&ask) {
                    text.extend_from_slice(answer.text);
                    return Ok(answer.parts);
                }
            }
        }
        Err(AskError::Silent {
            addr: self.addr,
            from: self.from,
            asked,
            patience: self.patience,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RunReport, StreamReport};
    use std::thread;

    /// Answers `asks` times as `reply` says; it may answer with nothing.
    fn server(
        asks: usize,
        mut reply: impl FnMut(usize, &Ask) -> Vec<Vec<u8>> + Send + 'static,
    ) -> (SocketAddr, thread::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let addr = socket.local_addr().unwrap();
        let serve = move || {
            let mut datagram = [0; 512];
            for index in 0..asks {
                let (len, _) = socket.recv_from(&mut datagram).unwrap();
                let packet = Packet::parse(Generation::Legacy, &datagram[..len]).unwrap();
                let ask = Ask::read(&packet).unwrap();
                for answer in reply(index, &ask) {
                    socket.send_to(&answer, ask.reply_to).unwrap();
                }
            }
        };
        (addr, thread::spawn(serve))
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
        let (addr, server) = server(6, move |index, ask| {
            let (half, parts) = (text.len() / 2, 2);
            let of = |part: u16, salt| {
                let text = [&text[..half], &text[half..]][usize::from(part)];
                Answer {
                    wish: ask.wish,
                    run: ask.run,
                    salt,
                    part,
                    parts,
                    text,
                }
                .to_datagram()
            };
            let right = of(ask.part, ask.salt);
            match index {
                // Nothing; what is no packet; the answer to another question; to another part; and so on.
                0 => vec![],
                1 => vec![b"P4CK".to_vec()],
                2 => vec![of(ask.part, !ask.salt)],
                3 => vec![of(1 - ask.part, ask.salt), right.clone(), right],
                4 => vec![],
                _ => vec![right],
            }
        });
        assert_eq!(ask(addr, 9, Duration::from_secs(10)).unwrap(), report());
        server.join().unwrap();
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
        let (addr, server) = server(1, |_, ask| {
            let answer = Answer {
                wish: ask.wish,
                run: ask.run,
                salt: ask.salt,
                part: 0,
                parts: 1,
                text: b"{\"runs\":7}",
            };
            vec![answer.to_datagram()]
        });
        let error = ask(addr, 1, Duration::from_secs(10))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no report") && error.contains("version"),
            "{error}"
        );
        server.join().unwrap();
    }
}
