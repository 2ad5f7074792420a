//! A stream of frames inside TLS: encrypted ahead, a burst at a time.
//!
//! ```text
//!   sender    ── encrypts a burst ──┬─ writes it ─┬── encrypts the next ──┬─ writes it ─┬──
//!   receiver        asleep          └── drains ───┘       asleep          └── drains ───┘
//! ```
//!
//! Encrypting costs as much as decrypting: a sender that did both at a time would be as slow as the receiver, which
//! would wait then, and pay for that. So the receiver sleeps while there is nothing, and its time is that of draining.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustls::ClientConnection;

use super::frames::Frames;
use super::report::TLS;
use super::tcp::{Clocks, Stream, connect};
use super::{Bench, CALL_IDS, Case};
use crate::certificates::Certificates;
use crate::patience::Patience;
use crate::receiver::Receiver;

/// The sending end of a session that is up.
#[derive(Debug)]
struct Session {
    stream: TcpStream,
    tls: ClientConnection,
    ciphertext: Vec<u8>,
}

impl Bench<'_> {
    pub(super) fn tls(&mut self, size: usize) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        let frames = Frames::new(size, CALL_IDS)?;
        let contenders = self.tls_receivers();
        // Without them nobody of those could have been started.
        let certificates = self.certificates.take().context("there are certificates")?;
        let case = Case {
            scenario: TLS,
            size,
            rate: None,
        };
        let measured = self.in_turns(case, &contenders, |bench, contender| {
            let (time, patience) = (bench.args.seconds, &bench.patience);
            bench.stream(contender, &frames, |receiver| {
                let session = Session::open(receiver, &certificates)?;
                session.send(receiver, &frames, time, patience)
            })
        });
        self.certificates = Some(certificates);
        measured
    }
}

impl Session {
    fn open(receiver: &Receiver, certificates: &Certificates) -> anyhow::Result<Self> {
        let mut stream = connect(receiver)?;
        stream.set_read_timeout(Some(HANDSHAKE_MAX))?;
        let mut tls = certificates.connect()?;
        // What waits to be written is what was asked for, however much that is.
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)
                .context("the TLS handshake with it failed")?;
        }
        Ok(Self {
            stream,
            tls,
            ciphertext: Vec::new(),
        })
    }

    /// Sends `frames` for `time`, the encrypting included. Call it on the core of the sender.
    fn send(
        mut self,
        receiver: &mut Receiver,
        frames: &Frames,
        time: Duration,
        patience: &Patience,
    ) -> anyhow::Result<Stream> {
        let warm = self.encrypt(frames, WARM_UP_LEN)?;
        self.write(receiver)?;
        receiver.wait_idle()?;
        receiver.look_again()?;

        let clocks = Clocks::start(receiver)?;
        let start = Instant::now();
        let (mut sent, mut wall) = (0, Duration::ZERO);
        while start.elapsed() < time {
            patience.check()?;
            sent += self.encrypt(frames, BURST_LEN)?;
            wall += self.write(receiver)?;
        }
        let stream = clocks.stop(receiver, (sent, warm), wall)?;
        // A stream that ends without this word may have been cut short by somebody else.
        self.tls.send_close_notify();
        self.tls.write_tls(&mut self.stream)?;
        Ok(stream)
    }

    /// Makes records of at least `len` bytes of frames, in whole frames; says how many.
    fn encrypt(&mut self, frames: &Frames, len: usize) -> anyhow::Result<u64> {
        self.ciphertext.clear();
        let mut sent = 0;
        for part in frames
            .bytes()
            .chunks(RECORDS_LEN / frames.size() * frames.size())
            .cycle()
        {
            self.tls.writer().write_all(part)?;
            while self.tls.wants_write() {
                self.tls.write_tls(&mut self.ciphertext)?;
            }
            sent += part.len();
            if sent >= len {
                break;
            }
        }
        Ok((sent / frames.size()) as u64)
    }

    /// Sends the records, and returns when `receiver` has taken them; how long that took.
    fn write(&mut self, receiver: &Receiver) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.stream
            .write_all(&self.ciphertext)
            .context("it takes no more of the stream")?;
        Ok(receiver.wait_asleep()?.duration_since(start))
    }
}

/// Bytes of frames in a burst. From memory that has left the caches a sender is slower than a receiver, and that a shorter
/// one is over would be seen too late: some tenths of a millisecond are little of the time that these take.
const BURST_LEN: usize = 8 << 20;

/// Code and tables are in the cache then.
const WARM_UP_LEN: usize = 256 << 10;

/// Bytes of frames that become records at a time: 16 of the largest, and a shorter one.
const RECORDS_LEN: usize = 256 << 10;

/// On one host it takes milliseconds.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
