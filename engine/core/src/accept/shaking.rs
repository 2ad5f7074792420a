//! The TLS handshakes that are under way, and their sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use binrush_net::{Interest, Poller, TcpSocket};

use super::admission::Source;
use super::counters::Refused;
use super::handshake::{Handshake, READ_LEN_MAX};
use super::seat::Seat;
use crate::clock::Timestamp;
use crate::shard::desk::ListenerId;
use crate::stream::{RefuseReason, StreamLimits};
use crate::tls::ServerTls;

/// Connections that shake hands, at most so many as the limits say.
#[derive(Debug)]
pub(super) struct Shaking {
    /// By number, in the order in which they came. All have the same time, so the first is the first to be late.
    under_way: BTreeMap<u64, Guest>,
    /// Number of the next; none is used twice, so what the kernel says of one that is gone concerns nobody.
    next: u64,
    handshakes_max: usize,
    /// Of one source: so that one that begins handshakes and does not end them takes a part of the places and not all.
    per_source_max: usize,
    limit: Duration,
    buffer: Box<[u8]>,
}

/// A connection that was let in, and is nobody's yet.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) socket: TcpSocket,
    pub(super) peer: SocketAddr,
    pub(super) listener: ListenerId,
    pub(super) seat: Seat,
}

/// One that shakes hands.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) newcomer: Newcomer,
    pub(super) handshake: Handshake,
    interest: Interest,
}

impl Shaking {
    /// None yet.
    pub(super) fn new(limits: &StreamLimits) -> Self {
        Self {
            under_way: BTreeMap::new(),
            next: FIRST,
            handshakes_max: limits.handshakes as usize,
            per_source_max: (limits.handshakes as usize / SOURCES_MIN).max(1),
            limit: limits.handshake,
            buffer: vec![0; READ_LEN_MAX].into(),
        }
    }

    /// Begins a handshake. The oldest have precedence: who comes when all places are taken is refused, because the
    /// others are nearer to their end.
    ///
    /// # Errors
    /// The connection back, and why.
    pub(super) fn begin(
        &mut self,
        newcomer: Newcomer,
        tls: &ServerTls,
        poller: &Poller,
        now: Timestamp,
    ) -> Result<(), (Newcomer, Refused)> {
        let handshake = match self.session(&newcomer, tls, poller, now) {
            Ok(handshake) => handshake,
            Err(refused) => return Err((newcomer, refused)),
        };
        let guest = Guest {
            newcomer,
            handshake,
            interest: Interest::READ,
        };
        self.under_way.insert(self.next, guest);
        self.next += 1;
        Ok(())
    }

    fn session(
        &self,
        newcomer: &Newcomer,
        tls: &ServerTls,
        poller: &Poller,
        now: Timestamp,
    ) -> Result<Handshake, Refused> {
        // Asked first: where both are reached, it names who is to blame.
        if self.of_source(newcomer.peer.ip()) >= self.per_source_max {
            let most = self.per_source_max;
            let why = format!("{most} handshakes of its address were under way, as many as may be");
            return Err(Refused::because(RefuseReason::Handshakes, &why));
        }
        if self.under_way.len() >= self.handshakes_max {
            return Err(Refused::plain(RefuseReason::Handshakes));
        }
        let failed = |error: io::Error| Refused::because(RefuseReason::Failed, &error);
        // Not the listener's, which may be the wildcard: which certificate is shown depends on it.
        let local = newcomer.socket.local_addr().map_err(failed)?;
        let session = tls
            .accept(local)
            .map_err(|failure| Refused::because(failure.reason(), &failure))?;
        poller
            .add(&newcomer.socket, self.next, Interest::READ)
            .map_err(failed)?;
        Ok(Handshake::new(session, now, self.limit))
    }

    /// Handshakes of the source that `peer` belongs to. They are few, and a look at each is nothing beside one of them.
    fn of_source(&self, peer: IpAddr) -> usize {
        let source = Source::of(peer);
        let guests = self.under_way.values();
        guests
            .filter(|guest| Source::of(guest.newcomer.peer.ip()) == source)
            .count()
    }

    /// Number `key` may have something to read, or room to write. The connection, if its handshake came to an end:
    /// done, or refused. It is not watched any more then.
    pub(super) fn proceed(
        &mut self,
        key: u64,
        poller: &Poller,
    ) -> Option<(Guest, Result<(), Refused>)> {
        let guest = self.under_way.get_mut(&key)?;
        let end = match guest.proceed(&mut self.buffer) {
            Ok(true) => Ok(()),
            Ok(false) => match guest.watch(key, poller) {
                Ok(()) => return None,
                Err(error) => Err(Refused::because(RefuseReason::Failed, &error)),
            },
            Err(refused) => Err(refused),
        };
        let guest = self.under_way.remove(&key)?;
        // One that is refused is closed, which ends the watch too.
        let unwatched = match &end {
            Ok(()) => poller.remove(&guest.newcomer.socket),
            Err(_) => Ok(()),
        };
        let unwatched = unwatched.map_err(|error| Refused::because(RefuseReason::Failed, &error));
        Some((guest, end.and(unwatched)))
    }

    /// The next one whose time is over.
    pub(super) fn take_late(&mut self, now: Timestamp) -> Option<Guest> {
        let first = self.under_way.first_entry()?;
        let is_late = first.get().handshake.deadline() <= now;
        is_late.then(|| first.remove())
    }

    /// All that `which` names, in the order in which they came.
    pub(super) fn take(
        &mut self,
        which: impl Fn(&Newcomer) -> bool,
    ) -> impl Iterator<Item = Guest> {
        let named = move |_: &u64, guest: &mut Guest| which(&guest.newcomer);
        self.under_way.extract_if(.., named).map(|(_, guest)| guest)
    }

    /// When the first of them will be late.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let (_, first) = self.under_way.first_key_value()?;
        Some(first.handshake.deadline())
    }
}

impl Guest {
    /// Reads once and writes what there is to say; whether the handshake is done.
    ///
    /// Once, because the kernel reports what is left again: so one that sends much takes no more turns than others.
    fn proceed(&mut self, buffer: &mut [u8]) -> Result<bool, Refused> {
        if self.handshake.wants_read() {
            let received = match self.newcomer.socket.recv(buffer) {
                Ok(0) => return Err(self.handshake.gone(None)),
                Ok(len) => self.handshake.receive(&buffer[..len]),
                Err(error) if is_passing(&error) => Ok(()),
                Err(error) => return Err(self.handshake.gone(Some(&error))),
            };
            if let Err(refused) = received {
                // The alert that says why, if the socket takes it; the reason stays what it is if not.
                let _ = self.transmit();
                return Err(refused);
            }
        }
        self.transmit()?;
        Ok(self.handshake.is_done())
    }

    fn transmit(&mut self) -> Result<(), Refused> {
        let socket = &self.newcomer.socket;
        self.handshake
            .transmit(|slices| socket.send_vectored(slices))
    }

    /// Has the kernel report what the handshake waits for now.
    fn watch(&mut self, key: u64, poller: &Poller) -> io::Result<()> {
        let wanted = Interest {
            read: self.handshake.wants_read(),
            write: self.handshake.wants_write(),
        };
        if wanted != self.interest {
            poller.modify(&self.newcomer.socket, key, wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }
}

/// Whether it says nothing about the connection.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Number of the first handshake: beyond those of listeners.
pub(super) const FIRST: u64 = 1 << 32;

/// Sources that are needed to take all handshakes. A genuine node opens one or two connections.
const SOURCES_MIN: usize = 8;
