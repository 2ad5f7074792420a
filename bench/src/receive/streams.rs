//! Several streams in one thread, the one whose clock is read.
//!
//! poll(2) comes before each read, which costs next to nothing where there is much to read at a time.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Args, Stop, WAIT, say_ready_for};

/// What becomes of one stream.
pub(super) trait Reader {
    /// Does what comes before the first read, with a stream that blocks.
    fn open(&mut self, _: &mut TcpStream) -> io::Result<()> {
        Ok(())
    }

    /// Reads once from `stream`, and does with it what is to be done. Says whether there may be more: not when the
    /// stream has ended, or cannot be gone on with.
    fn read(&mut self, stream: &mut impl Read) -> io::Result<bool>;
}

/// Says that it is ready, then accepts and reads streams until `stop`. `new` makes the reader of each, and `done` gets
/// it when the stream is over.
pub(super) fn serve<R: Reader>(
    args: &Args,
    stop: &Stop,
    mut new: impl FnMut() -> R,
    mut done: impl FnMut(R),
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    listener.set_nonblocking(true)?;
    let transport = if args.tls.is_some() { "tls" } else { "tcp" };
    say_ready_for(listener.local_addr()?, transport)?;
    let mut streams: Vec<(TcpStream, R)> = Vec::new();
    while !stop.is_asked() {
        let (accepts, readable) = wait(&listener, &streams)?;
        if accepts && let Some(mut stream) = accept(&listener)? {
            let mut reader = new();
            match reader.open(&mut stream) {
                Ok(()) => streams.push((stream, reader)),
                // Of no use to whoever connected, and no reason to end.
                Err(_) => done(reader),
            }
        }
        // From the end, so that one that is taken out moves none that is still to be looked at.
        for index in readable.into_iter().rev() {
            let (stream, reader) = &mut streams[index];
            if !goes_on(reader.read(stream))? {
                done(streams.swap_remove(index).1);
            }
        }
    }
    streams.into_iter().for_each(|(_, reader)| done(reader));
    Ok(())
}

/// Whether somebody wants to connect, and which streams can be read.
fn wait<R>(
    listener: &TcpListener,
    streams: &[(TcpStream, R)],
) -> anyhow::Result<(bool, Vec<usize>)> {
    let room = if streams.len() < STREAMS_MAX {
        PollFlags::POLLIN
    } else {
        PollFlags::empty()
    };
    let mut polled = vec![PollFd::new(listener.as_fd(), room)];
    let streams = streams.iter();
    polled.extend(streams.map(|(stream, _)| PollFd::new(stream.as_fd(), PollFlags::POLLIN)));
    let limit = PollTimeout::try_from(WAIT).context("a wait is short")?;
    match poll(&mut polled, limit) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok((false, Vec::new())),
        Err(error) => return Err(error).context("cannot wait for streams"),
    }
    // A stream with an error is read too: that tells which.
    let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
    let readable = (0..ready.len() - 1).filter(|index| ready[index + 1]);
    Ok((ready[0], readable.collect()))
}

/// `None` when whoever wanted to connect has thought better of it.
fn accept(listener: &TcpListener) -> anyhow::Result<Option<TcpStream>> {
    match listener.accept() {
        // Blocking: it is read when poll(2) says that there is something.
        Ok((stream, _)) => {
            stream.set_nonblocking(false)?;
            Ok(Some(stream))
        }
        Err(error) if is_passing(&error) => Ok(None),
        Err(error) => Err(error).context("cannot accept a stream"),
    }
}

/// Whether a stream goes on after a read that ended like this.
fn goes_on(read: io::Result<bool>) -> anyhow::Result<bool> {
    match read {
        Ok(more) => Ok(more),
        Err(error) if is_passing(&error) => Ok(error.kind() != io::ErrorKind::ConnectionAborted),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error).context("cannot read a stream"),
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted)
}

/// Who opens more waits until another stream has ended.
const STREAMS_MAX: usize = 256;
