//! The socket of a link, inside TLS or not.

use std::fmt;
use std::io;
use std::sync::Arc;

use binrush_net::{Interest, Poller, Ready, TcpKeepalive, TcpOptions, TcpSocket};

use super::incoming::Incoming;
use super::machine::Event;
use super::outgoing::{Outgoing, Written};
use super::turn::Transport;
use super::{LinkConfig, LinkLimits, OnPacket};
use crate::config::Protocol;
use crate::tls::{ClientTls, Session, TlsVersion};

/// The connection to one peer, while there is one.
#[derive(Debug)]
pub(super) struct Wire {
    config: Arc<LinkConfig>,
    options: TcpOptions,
    poller: Arc<Poller>,
    /// What the poller calls it.
    key: u64,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: TcpSocket,
    stage: Stage,
    /// What the poller was asked for.
    interest: Interest,
    /// The kernel took bytes since the last write.
    progressed: bool,
    /// What it held that the peer had not acknowledged, when it had no room.
    held: u64,
    /// The peer has taken our part of the TLS handshake.
    proven: bool,
    /// What it sends, where somebody wants it.
    ears: Option<Ears>,
}

/// Who hears what a peer sends on our connection.
struct Ears {
    incoming: Incoming,
    on_packet: OnPacket,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    Securing(Box<Session>),
    Plain,
    Secure(Box<Session>),
}

/// What reading came to.
enum Arrived {
    /// Nothing for now.
    Nothing,
    /// Something, and no more for now.
    Something,
    /// There will be no more.
    End,
}

impl Arrived {
    const fn what(came: bool) -> Self {
        match came {
            true => Self::Something,
            false => Self::Nothing,
        }
    }
}

impl Wire {
    pub(super) fn new(config: Arc<LinkConfig>, poller: Arc<Poller>, key: u64) -> Self {
        Self {
            options: options(&config.limits),
            config,
            poller,
            key,
            connection: None,
        }
    }

    /// What it means that the socket is ready. Bytes that the peer sent are taken, and handed on if somebody wants them; how
    /// many is added to `rx_bytes`.
    pub(super) fn ready(&mut self, ready: Ready, scratch: &mut [u8], rx_bytes: &mut u64) -> Event {
        let Some(connection) = &mut self.connection else {
            return Event::Look;
        };
        let event = match connection.stage {
            Stage::Connecting => connection.connected(&self.config),
            Stage::Securing(_) => connection.secured(scratch, rx_bytes),
            Stage::Plain | Stage::Secure(_) => connection.moved(ready, scratch, rx_bytes),
        };
        event.unwrap_or_else(Event::Failed)
    }

    /// Asks the poller for what is of interest now: reading always, so that an end is seen at once, and writing while
    /// it has something for which there was no room.
    pub(super) fn ask(&mut self, full: bool) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let interest = match &connection.stage {
            Stage::Connecting => Interest::BOTH,
            Stage::Securing(session) | Stage::Secure(session) if session.wants_write() => {
                Interest::BOTH
            }
            _ if full => Interest::BOTH,
            _ => Interest::READ,
        };
        // A socket that is in the set can be asked about: that needs no memory.
        if interest != connection.interest
            && self
                .poller
                .modify(&connection.socket, self.key, interest)
                .is_ok()
        {
            connection.interest = interest;
        }
    }

    /// Tells whoever wants to know that the link came up, or failed.
    pub(super) fn tell(&self, up: bool) {
        if let Some(on_change) = &self.config.on_change {
            on_change(up);
        }
    }

    /// Whether the peer has taken something of what the kernel holds, since the kernel had no room or since this was asked.
    pub(super) fn is_draining(&mut self) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let held = connection.socket.unsent_bytes().unwrap_or(connection.held);
        held < std::mem::replace(&mut connection.held, held)
    }

    /// Whether the peer has acknowledged everything; also when there is no connection any more.
    pub(super) fn is_acknowledged(&self) -> bool {
        let unsent = self
            .connection
            .as_ref()
            .map(|connection| connection.socket.unsent_bytes());
        !matches!(unsent, Some(Ok(1..)))
    }
}

impl Ears {
    fn new(on_packet: OnPacket) -> Self {
        Self {
            incoming: Incoming::new(),
            on_packet,
        }
    }
}

impl fmt::Debug for Ears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.incoming.fmt(f)
    }
}

impl Transport for Wire {
    fn open(&mut self) -> Result<(), String> {
        let to = self.config.to.addr;
        let opened = TcpSocket::connect(to, self.config.bind, &self.options).and_then(|socket| {
            self.poller.add(&socket, self.key, Interest::BOTH)?;
            Ok(socket)
        });
        let socket = opened.map_err(|error| format!("connect: {error}"))?;
        self.connection = Some(Connection {
            socket,
            stage: Stage::Connecting,
            interest: Interest::BOTH,
            progressed: false,
            held: 0,
            proven: false,
            ears: self.config.on_packet.clone().map(Ears::new),
        });
        Ok(())
    }

    fn write(&mut self, outgoing: &mut Outgoing) -> Result<Written, String> {
        let Some(connection) = &mut self.connection else {
            return Err("there is no connection".to_owned());
        };
        let written = match &mut connection.stage {
            Stage::Secure(session) => write_secure(&connection.socket, session, outgoing),
            Stage::Plain => write_plain(&connection.socket, outgoing),
            Stage::Connecting | Stage::Securing(_) => {
                return Err("the connection is not ready".to_owned());
            }
        };
        let mut written = written.map_err(|error| format!("send: {error}"))?;
        written.moved |= std::mem::take(&mut connection.progressed);
        if written.full {
            connection.held = connection.socket.unsent_bytes().unwrap_or(0);
        }
        Ok(written)
    }

    fn finish(&mut self) {
        if let Some(connection) = &mut self.connection {
            if let Stage::Secure(session) = &mut connection.stage {
                session.close();
                // A peer that takes no more does not take this either.
                let _ = transmit(&connection.socket, session);
            }
            // The only failure is that the connection is over already.
            let _ = connection.socket.shutdown_write();
        }
    }

    fn close(&mut self, reset: bool) {
        if let Some(connection) = self.connection.take()
            && reset
        {
            connection.socket.reset();
        }
    }
}

impl Connection {
    fn connected(&mut self, config: &LinkConfig) -> Result<Event, String> {
        let connected = self.socket.finish_connect();
        if !connected.map_err(|error| format!("connect: {error}"))? {
            return Ok(Event::Look);
        }
        match secure(config) {
            Some(tls) => {
                let session = tls.connect(config.to.addr, config.server_name.as_deref());
                let mut session = session.map_err(|failure| format!("TLS: {failure}"))?;
                transmit(&self.socket, &mut session).map_err(|error| format!("send: {error}"))?;
                self.stage = Stage::Securing(Box::new(session));
            }
            None => self.stage = Stage::Plain,
        }
        Ok(Event::Connected)
    }

    fn secured(&mut self, scratch: &mut [u8], rx_bytes: &mut u64) -> Result<Event, String> {
        let Stage::Securing(session) = &mut self.stage else {
            return Ok(Event::Look);
        };
        let hear = |plain: &[u8]| {
            *rx_bytes += plain.len() as u64;
            hear(&mut self.ears, plain);
        };
        let arrived = read_secure(&self.socket, session, scratch, hear)?;
        transmit(&self.socket, session).map_err(|error| format!("send: {error}"))?;
        if session.is_handshaking() {
            return match arrived {
                Arrived::Nothing | Arrived::Something => Ok(Event::Look),
                Arrived::End => Err("the peer went away during the TLS handshake".to_owned()),
            };
        }
        // The last word of a handshake is the client's in 1.3, and the server's before.
        self.proven = session.version() != Some(TlsVersion::V1_3);
        let stage = std::mem::replace(&mut self.stage, Stage::Plain);
        if let Stage::Securing(session) = stage {
            self.stage = Stage::Secure(session);
        }
        // An end that came with the handshake's last bytes is seen again: the socket stays readable.
        Ok(match self.proven {
            true => Event::Proven,
            false => Event::Secured,
        })
    }

    fn moved(
        &mut self,
        ready: Ready,
        scratch: &mut [u8],
        rx_bytes: &mut u64,
    ) -> Result<Event, String> {
        if ready.readable {
            let (socket, ears) = (&self.socket, &mut self.ears);
            let is_heard = ears.is_some();
            let hear = |plain: &[u8]| {
                *rx_bytes += plain.len() as u64;
                hear(ears, plain);
            };
            let arrived = match &mut self.stage {
                Stage::Secure(session) => read_secure(socket, session, scratch, hear)?,
                _ if is_heard => read_plain(socket, scratch, hear)?,
                _ => discard(socket, rx_bytes)?,
            };
            match arrived {
                Arrived::End => return Ok(Event::Ended),
                // Who refuses us says that first. Room is told of again.
                Arrived::Something if !self.proven => {
                    self.proven = true;
                    return Ok(Event::Proven);
                }
                Arrived::Nothing | Arrived::Something => {}
            }
        }
        // Answers of TLS itself, such as to a key update.
        if let Stage::Secure(session) = &mut self.stage {
            let moved = transmit(&self.socket, session);
            self.progressed |= moved.map_err(|error| format!("send: {error}"))?;
        }
        if ready.writable {
            return Ok(Event::Writable);
        }
        Ok(Event::Look)
    }
}

/// Hands on what came, if somebody wants it.
fn hear(ears: &mut Option<Ears>, plain: &[u8]) {
    if let Some(ears) = ears {
        ears.incoming.feed(plain, &ears.on_packet);
    }
}

/// One system call: the kernel takes what it has room for.
fn write_plain(socket: &TcpSocket, outgoing: &mut Outgoing) -> io::Result<Written> {
    let slices = outgoing.slices();
    let offered: usize = slices.iter().map(|slice| slice.len()).sum();
    let taken = match socket.send_vectored(&slices) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        taken => taken?,
    };
    outgoing.take(taken);
    Ok(Written {
        moved: taken > 0,
        drained: true,
        flushed: true,
        full: taken < offered,
        worn: false,
    })
}

/// Some records of TLS, and these written: no more is given to the session before the kernel has them all, because what it
/// has of packets is lost when the connection breaks.
fn write_secure(
    socket: &TcpSocket,
    session: &mut Session,
    outgoing: &mut Outgoing,
) -> io::Result<Written> {
    let mut moved = transmit(socket, session)?;
    let drained = !session.wants_write();
    if drained {
        let mut taken = 0;
        for slice in &outgoing.slices() {
            let part = &slice[..slice.len().min(SECURE_MAX - taken)];
            let count = session.send(part);
            taken += count;
            if count < slice.len() {
                break;
            }
        }
        outgoing.take(taken);
        moved |= transmit(socket, session)?;
    }
    let full = session.wants_write();
    Ok(Written {
        moved,
        drained,
        flushed: !full,
        full,
        worn: session.is_worn(),
    })
}

/// Writes what the session has, until it has no more or there is no room; whether the kernel took anything.
fn transmit(socket: &TcpSocket, session: &mut Session) -> io::Result<bool> {
    let mut moved = false;
    session.transmit(|slices| {
        let taken = socket.send_vectored(slices)?;
        moved |= taken > 0;
        Ok(taken)
    })?;
    Ok(moved)
}

/// For a peer that nobody listens to: genuine nodes send on connections of their own.
fn discard(socket: &TcpSocket, rx_bytes: &mut u64) -> Result<Arrived, String> {
    read(DISCARD_MAX, || {
        let count = socket.discard(DISCARD_MAX)?;
        *rx_bytes += count as u64;
        Ok(count)
    })
}

fn read_plain(
    socket: &TcpSocket,
    scratch: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<Arrived, String> {
    read(scratch.len(), || {
        let count = socket.recv(scratch)?;
        each(&scratch[..count]);
        Ok(count)
    })
}

/// Receives until there is no more for now; `receive` brings up to `most` bytes.
fn read(most: usize, mut receive: impl FnMut() -> io::Result<usize>) -> Result<Arrived, String> {
    let mut came = false;
    for _ in 0..READS_MAX {
        match receive() {
            Ok(0) => return Ok(Arrived::End),
            Ok(count) => {
                came = true;
                if count < most {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(broken(&error)),
        }
    }
    Ok(Arrived::what(came))
}

fn read_secure(
    socket: &TcpSocket,
    session: &mut Session,
    scratch: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<Arrived, String> {
    let mut came = false;
    for _ in 0..READS_MAX {
        match socket.recv(scratch) {
            Ok(0) => return Ok(Arrived::End),
            Ok(count) => {
                let received = session.receive(&scratch[..count], &mut each);
                let received = received.map_err(|failure| {
                    // The peer is told why, if it listens.
                    let _ = transmit(socket, session);
                    format!("TLS: {failure}")
                })?;
                came = true;
                if received.closed {
                    return Ok(Arrived::End);
                }
                if count < scratch.len() {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(broken(&error)),
        }
    }
    Ok(Arrived::what(came))
}

fn broken(error: &io::Error) -> String {
    format!("the connection broke: {error}")
}

/// The TLS of a link that has any.
fn secure(config: &LinkConfig) -> Option<&ClientTls> {
    match config.to.protocol {
        Protocol::Bin => None,
        Protocol::Bins => config.tls.as_deref(),
    }
}

fn options(limits: &LinkLimits) -> TcpOptions {
    TcpOptions {
        user_timeout: Some(limits.user_timeout),
        keepalive: limits.keepalive.map(|keepalive| TcpKeepalive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            count: keepalive.count,
        }),
        // Packets that come together leave together; the kernel need not wait for more.
        nodelay: true,
        ..TcpOptions::default()
    }
}

/// Bytes of packets that are given to a session at a time: four records of the largest size (RFC 8446 5.1).
const SECURE_MAX: usize = 64 << 10;

/// Reads of one link before the next link's turn.
const READS_MAX: u32 = 4;

/// Bytes that are thrown away at a time.
const DISCARD_MAX: usize = 1 << 20;
