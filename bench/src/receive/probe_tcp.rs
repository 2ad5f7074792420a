//! A receiver of streams that does nothing but audit: frames of 2.3 and later, cut, parsed, their stamps checked.
//!
//! ```text
//!   stream   │ frame │ frame │ no frame │ frame │ frame, damaged │ frame │ beginning of a fra
//!               frames          rejected   frames                            partial
//! ```
//!
//! Every byte is in one of the three counts. A genuine node closes the connection where no frame can begin; this one
//! goes on at the next marker, so that what was valid behind it is counted too. Behind a frame whose check says that
//! it was damaged it also goes on at the next marker: its length may be what was changed.

use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_probe::monotonic_ns;
use binrush_wire::{
    ErrorKind, Generation, Head, MARKER, MAX_PACKET_LEN, Packet, frame_len, next_marker,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use super::probe::Counts;
use super::{Args, Stop, WAIT, say_ready_for};

/// What came of all streams.
#[derive(Debug)]
struct Streams {
    counts: Counts,
    connections: u64,
    /// Connections that ended with an error instead of an end.
    broken: u64,
    bytes: u64,
    /// Bytes of frames, of what was none, and of frames whose end did not come.
    frames_bytes: u64,
    rejected_bytes: u64,
    partial_bytes: u64,
    /// Frames whose end did not come.
    partial: u64,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    head: usize,
    tail: usize,
    /// What comes is no frame, and has been counted as that.
    is_lost: bool,
}

/// Counts frames of all connections until `stop`, and then those that are on their way.
pub(crate) fn receive(args: &Args, stop: &Stop) -> anyhow::Result<Value> {
    let listener = TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    listener.set_nonblocking(true)?;
    let mut streams = Streams::new(Counts::new(args));
    let mut connections: Vec<Connection> = Vec::new();
    say_ready_for(listener.local_addr()?, "tcp")?;
    let mut idle = SPIN_ROUNDS;
    let mut rounds = 0_u32;
    let mut ending = None;
    loop {
        let is_idle = idle >= SPIN_ROUNDS;
        if is_idle {
            wait(&listener, &connections)?;
        }
        rounds = rounds.wrapping_add(1);
        if is_idle || rounds.is_multiple_of(ACCEPT_EVERY) {
            accept(&listener, &mut connections, &mut streams)?;
        }
        idle = match streams.read_all(&mut connections) {
            true => 0,
            false => idle.saturating_add(1),
        };
        if stop.is_asked() {
            // Senders that have ended have closed, and what they sent is before that. Others are read from as long as
            // they go on, within a bound.
            let (start, last) = ending.get_or_insert_with(|| (Instant::now(), Instant::now()));
            if idle == 0 {
                *last = Instant::now();
            }
            let is_over = last.elapsed() > PAUSE_MAX || start.elapsed() > END_MAX;
            if connections.is_empty() && is_idle || is_over {
                break;
            }
        }
    }
    for connection in &mut connections {
        streams.end(connection);
    }
    Ok(streams.totals())
}

/// Returns when there is something to read or to accept, or after a while.
fn wait(listener: &TcpListener, connections: &[Connection]) -> anyhow::Result<()> {
    let of = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let streams = connections
        .iter()
        .map(|connection| of(connection.stream.as_fd()));
    let has_room = connections.len() < CONNECTIONS_MAX;
    let listener = has_room.then(|| of(listener.as_fd()));
    let mut fds: Vec<_> = streams.chain(listener).collect();
    let limit = PollTimeout::try_from(WAIT).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, limit) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for streams"),
    }
}

fn accept(
    listener: &TcpListener,
    connections: &mut Vec<Connection>,
    streams: &mut Streams,
) -> anyhow::Result<()> {
    while connections.len() < CONNECTIONS_MAX {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                connections.push(Connection::new(stream));
                streams.connections += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody, or one that has gone again.
            Err(_) => break,
        }
    }
    Ok(())
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Some,
    Nothing,
    End,
}

impl Streams {
    const fn new(counts: Counts) -> Self {
        Self {
            counts,
            connections: 0,
            broken: 0,
            bytes: 0,
            frames_bytes: 0,
            rejected_bytes: 0,
            partial_bytes: 0,
            partial: 0,
        }
    }

    /// Reads from each connection, and lets go of those that have ended; whether anything came.
    fn read_all(&mut self, connections: &mut Vec<Connection>) -> bool {
        let mut came = false;
        connections.retain_mut(|connection| {
            let read = self.read(connection);
            came |= read != Read::Nothing;
            if read == Read::End {
                self.end(connection);
            }
            read != Read::End
        });
        came
    }

    /// Reads what is there, once, and counts its frames.
    fn read(&mut self, connection: &mut Connection) -> Read {
        match connection.fill() {
            Ok(0) => Read::End,
            Ok(len) => {
                self.bytes += len as u64;
                self.cut(connection, monotonic_ns());
                Read::Some
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Read::Nothing,
                _ => {
                    self.broken += 1;
                    Read::End
                }
            },
        }
    }

    /// Counts the whole frames at the head of a connection.
    fn cut(&mut self, connection: &mut Connection, now: u64) {
        let Connection {
            buffer,
            head,
            tail,
            is_lost,
            ..
        } = connection;
        while *head < *tail {
            let bytes = &buffer[*head..*tail];
            match frame_len(Generation::Modern, bytes, MAX_PACKET_LEN) {
                Head::Complete { len } => {
                    let parsed = Packet::parse(Generation::Modern, &bytes[..len]);
                    let whole = self.counts.see(now, parsed);
                    // Where its length was changed, what comes next is still it.
                    *is_lost = !whole;
                    let len = if whole { len } else { next_marker(bytes) };
                    self.frames_bytes += len as u64;
                    *head += len;
                }
                Head::NeedMore { .. } => return,
                Head::Broken(error) => {
                    // However long it goes on, it is one place where something was wrong.
                    if !*is_lost {
                        self.counts.refuse(error.kind);
                    }
                    *is_lost = true;
                    let len = next_marker(bytes);
                    self.rejected_bytes += len as u64;
                    *head += len;
                }
            }
        }
    }

    /// Counts what is left of a connection that has ended.
    fn end(&mut self, connection: &mut Connection) {
        let now = monotonic_ns();
        while connection.head < connection.tail {
            // A length that was changed may claim frames that are whole: those behind the next marker are counted.
            let rest = &connection.buffer[connection.head..connection.tail];
            let next = next_marker(rest);
            if rest[next..].starts_with(&MARKER) {
                self.counts.refuse(ErrorKind::LengthMismatch);
                self.rejected_bytes += next as u64;
                connection.head += next;
            } else {
                self.partial += 1;
                self.partial_bytes += rest.len() as u64;
                connection.head = connection.tail;
            }
            self.cut(connection, now);
        }
    }

    /// `bytes = frames_bytes + partial_bytes + rejected_bytes`.
    fn totals(&self) -> Value {
        let mut totals = self.counts.totals();
        totals["connections"] = self.connections.into();
        totals["broken_connections"] = self.broken.into();
        totals["frames"] = self.counts.handled().into();
        totals["bytes"] = self.bytes.into();
        totals["frames_bytes"] = self.frames_bytes.into();
        totals["partial"] = self.partial.into();
        totals["partial_bytes"] = self.partial_bytes.into();
        totals["rejected"] = self.rejected_bytes.into();
        totals
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER_LEN].into(),
            head: 0,
            tail: 0,
            is_lost: false,
        }
    }

    /// Reads behind what is left of a frame; that is shorter than one, so there is room.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.copy_within(self.head..self.tail, 0);
        self.tail -= self.head;
        self.head = 0;
        let len = self.stream.read(&mut self.buffer[self.tail..])?;
        self.tail += len;
        Ok(len)
    }
}

/// What is read at once. Half of the second cache of common processors: the bytes are read again, by the audit.
const BUFFER_LEN: usize = 256 << 10;

/// More than the senders that a load may have.
const CONNECTIONS_MAX: usize = 300;

/// Rounds in which nothing came before it sleeps: about as long as a wakeup takes.
const SPIN_ROUNDS: u32 = 128;

/// How many rounds of a sink that is never idle until it looks for new connections.
const ACCEPT_EVERY: u32 = 64;

/// How long connections that are still open when it shall end are read from, with and without a pause.
const END_MAX: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests;
