//! One connection: a thread for the way there, which has the faults, and one for the way back.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::over::{Over, Phase};
use super::{close, stream};
use crate::counts::Counts;
use crate::faults::Faults;
use crate::udp::is_nothing_there;
use crate::way::{Exit, Way};

/// A sender's connection and the one to the receiver that was made for it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: TcpStream,
    receiver: TcpStream,
    stream: stream::Stream,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) counts: Counts,
    pub(super) connected: bool,
    pub(super) cut: bool,
    pub(super) kept_back: u64,
    pub(super) partial_bytes: u64,
    pub(super) not_bin_bytes: u64,
    pub(super) error: Option<String>,
}

impl Ended {
    pub(super) fn before_it_began(error: &io::Error) -> Self {
        Self {
            error: Some(error.to_string()),
            ..Self::default()
        }
    }
}

/// The receiver's end.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    over: Arc<Over>,
}

impl Stream {
    pub(super) fn of(receiver: &TcpStream, over: &Arc<Over>) -> io::Result<Self> {
        Ok(Self {
            socket: receiver.try_clone()?,
            over: Arc::clone(over),
        })
    }
}

impl Exit for Stream {
    /// Waits for a receiver that does not read, but at the end not for ever.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let late = || self.over.phase() >= Phase::Late;
        if self.over.phase() == Phase::Last {
            return Err(not_read());
        }
        write(&self.socket, bytes, late)?
            .then_some(())
            .ok_or_else(not_read)
    }
}

impl Connection {
    pub(super) fn new(
        sender: TcpStream,
        receiver: TcpStream,
        faults: Faults,
        cut_after: Option<u64>,
    ) -> Self {
        Self {
            sender,
            receiver,
            stream: stream::Stream::new(faults, cut_after),
        }
    }

    /// Until both directions have ended, the cut is reached, or it is `over`.
    pub(super) fn run(
        mut self,
        mut way: Way<Stream>,
        over: &Over,
        reset: fn(&TcpStream) -> io::Result<()>,
    ) -> Ended {
        let closed = AtomicBool::new(false);
        let ways = (&self.sender, &self.receiver, &mut self.stream);
        let (partial_bytes, error) = thread::scope(|scope| {
            let (sender, receiver, stream) = ways;
            let answers = thread::Builder::new().name("answers".to_owned());
            let read = answers
                .spawn_scoped(scope, || back(receiver, sender, &closed, over))
                .and_then(|_| there(sender, stream, &mut way, over));
            let mut rest = Vec::new();
            let partial_bytes = stream.finish(&mut rest);
            let sent = if rest.is_empty() {
                Ok(())
            } else {
                way.send(&rest)
            };
            let (exit, left) = way.finish();
            drop(exit);
            close(receiver, Shutdown::Write);
            if read.is_err() || stream.is_cut() {
                closed.store(true, Ordering::Relaxed);
            }
            // What made the exit fail says more than that it had failed.
            (partial_bytes, left.and(sent).and(read).err())
        });
        let cut = self.stream.is_cut();
        let unset = if cut { reset(&self.sender).err() } else { None };
        Ended {
            counts: *self.stream.faults().counts(),
            connected: true,
            cut,
            kept_back: self.stream.kept_back,
            partial_bytes,
            not_bin_bytes: self.stream.not_bin_bytes,
            error: error.or(unset).map(|error| error.to_string()),
        }
    }
}

/// From the sender to the receiver, until the sender has ended, the cut is reached, or it is `over` and nothing more has
/// come.
fn there(
    mut sender: &TcpStream,
    stream: &mut stream::Stream,
    way: &mut Way<Stream>,
    over: &Over,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_LEN];
    let mut out = Vec::new();
    while !stream.is_cut() {
        // Asked before the read, so that what came before the stop is not left behind.
        let phase = over.phase();
        if phase >= Phase::Late {
            break;
        }
        match sender.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                out.clear();
                stream.take(&buffer[..len], &mut out);
                if !out.is_empty() {
                    way.send(&out)?;
                }
            }
            Err(error) if is_nothing_there(&error) && phase > Phase::Running => break,
            Err(error) if is_nothing_there(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// From the receiver to the sender, as it is, until one of them has ended, or it is no use any more.
fn back(mut receiver: &TcpStream, sender: &TcpStream, closed: &AtomicBool, over: &Over) {
    let no_use = || closed.load(Ordering::Relaxed) || over.phase() > Phase::Running;
    let mut buffer = vec![0; READ_LEN];
    while over.phase() < Phase::Late {
        match receiver.read(&mut buffer) {
            Ok(len) if len > 0 => {
                // A sender that does not read its answers is not waited for at the end.
                if !write(sender, &buffer[..len], no_use).unwrap_or(false) {
                    break;
                }
            }
            Err(error) if is_nothing_there(&error) => {
                if no_use() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The end of its answers, or of the connection.
            Ok(_) | Err(_) => break,
        }
    }
    close(sender, Shutdown::Write);
}

/// Writes all of `bytes`, unless there was no room for a while and `gives_up` says that this is enough; whether it did.
fn write(mut to: &TcpStream, mut bytes: &[u8], gives_up: impl Fn() -> bool) -> io::Result<bool> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => bytes = &bytes[len..],
            Err(error) if is_nothing_there(&error) && gives_up() => return Ok(false),
            Err(error) if is_nothing_there(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn not_read() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the receiver does not read")
}

/// Some frames of the usual length, or one of the largest.
const READ_LEN: usize = 64 << 10;
