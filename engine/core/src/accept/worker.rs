//! The acceptor's thread: what the kernel reports and what control orders, one after another.
//!
//! ```text
//!   wait ─▶ orders ─▶ each listener that is ready: a bounded burst ─▶ admission ─▶ clear: a shard
//!    ▲                each handshake that is ready: one read ──────────────────┐    └▶ TLS: a handshake begins
//!    │                those that are late: refused                             └▶ done: a shard; failed: refused
//!    └───────────────────────────────────────────── pauses that are over
//! ```

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use binrush_net::{Bell, Poller, ReadyList, ReserveFd, TcpSocket};

use super::counters::{Counters, Refused};
use super::handshake::Handshake;
use super::intake::{Accepted, Intake};
use super::listening::{Listening, Shortage};
use super::seat::Places;
use super::shaking::{self, Guest, Newcomer, Shaking};
use super::{NewListener, Order, Reply};
use crate::access::Access;
use crate::clock::{Clock as _, MonotonicClock, Timestamp};
use crate::shard::desk::ListenerId;
use crate::stream::RefuseReason;

/// What the thread has.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) orders: Receiver<Order>,
    pub(super) bell: Arc<Bell>,
    pub(super) poller: Poller,
    pub(super) reserve: ReserveFd,
    pub(super) listeners: Vec<Listening>,
    pub(super) shaking: Shaking,
    pub(super) door: Door,
}

/// Where connections go: to a shard, or away.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) access: Access,
    pub(super) places: Places,
    pub(super) shards: Vec<Arc<Intake>>,
    pub(super) counters: Arc<Counters>,
}

impl Worker {
    /// Until it is told to stop, or control is gone, or the kernel refuses to wait. Whatever it has then is closed and
    /// counted.
    pub(super) fn run(mut self) {
        let mut ready = ReadyList::new(READY_MAX);
        let end = loop {
            let timeout = self.timeout(MonotonicClock.now());
            if self.poller.wait(&mut ready, timeout).is_err() {
                break None;
            }
            if let ControlFlow::Break(end) = self.obey() {
                break end;
            }
            let now = MonotonicClock.now();
            for event in ready.iter() {
                self.attend(event.key, now);
            }
            self.end_late(now);
            for listening in &mut self.listeners {
                listening.resume(now, &self.poller);
            }
        };
        let leave = end.as_ref().is_some_and(|(leave, _)| *leave);
        self.close_all(leave);
        if let Some((_, reply)) = end {
            let _ = reply.send(Ok(()));
        }
    }

    /// How long nothing needs to be done unless something happens.
    fn timeout(&self, now: Timestamp) -> Option<Duration> {
        let pauses = self.listeners.iter().filter_map(Listening::paused_until);
        let next = pauses.chain(self.shaking.deadline()).min()?;
        Some(Duration::from_nanos(next.nanos_since(now)))
    }

    /// Does what control wants; the break is the end, and whether who waits is left to others.
    fn obey(&mut self) -> ControlFlow<Option<(bool, Reply)>> {
        // Before the orders: one that comes after this look has its own ring.
        self.bell.disarm();
        loop {
            let (reply, done) = match self.orders.try_recv() {
                Ok(Order::Open { listener, reply }) => {
                    let id = listener.id;
                    let done = self.open(listener);
                    if reply.send(done).is_err() {
                        // Who gave up waiting was told that nothing is open.
                        self.close(id, false, "its listener was closed");
                    }
                    continue;
                }
                Ok(Order::Close { id, reply }) => {
                    self.close(id, false, "its listener was closed");
                    (reply, Ok(()))
                }
                Ok(Order::Access { access, reply }) => {
                    self.set_access(access);
                    (reply, Ok(()))
                }
                Ok(Order::Stop { leave, reply }) => {
                    return ControlFlow::Break(Some((leave, reply)));
                }
                Err(TryRecvError::Empty) => return ControlFlow::Continue(()),
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(None),
            };
            // Nobody listens to it who gave up waiting.
            let _ = reply.send(done);
        }
    }

    fn open(&mut self, listener: NewListener) -> io::Result<()> {
        let NewListener { id, socket, tls } = listener;
        let listening = Listening::open(id, socket, tls, &self.poller)?;
        self.listeners.push(listening);
        Ok(())
    }

    /// Closes a listener here and refuses who shakes hands; who waits there too, unless they are left to others.
    fn close(&mut self, id: ListenerId, leave: bool, why: &'static str) {
        let closed = self
            .listeners
            .extract_if(.., |listening| listening.id == id);
        for listening in closed {
            listening.forget(&self.poller);
            if !leave {
                self.door.clear_out(&listening, why);
            }
        }
        for guest in self.shaking.take(|newcomer| newcomer.listener == id) {
            let refused = Refused::because(RefuseReason::Closing, &why);
            self.door.give_up(guest, refused);
        }
        self.door.counters.works(id);
    }

    fn close_all(&mut self, leave: bool) {
        while let Some(listening) = self.listeners.first() {
            self.close(listening.id, leave, "the engine stops");
        }
    }

    fn set_access(&mut self, access: Access) {
        let now_out = |newcomer: &Newcomer| !access.allows(newcomer.peer.ip());
        for guest in self.shaking.take(now_out) {
            self.door.give_up(guest, Refused::plain(RefuseReason::Acl));
        }
        self.door.access = access;
    }

    /// Something may be done about what the poller knows as `key`.
    fn attend(&mut self, key: u64, now: Timestamp) {
        if key >= shaking::FIRST {
            if let Some((guest, end)) = self.shaking.proceed(key, &self.poller) {
                match end {
                    Ok(()) => self.door.hand_shaken(guest),
                    Err(refused) => self.door.give_up(guest, refused),
                }
            }
            return;
        }
        // None for the bell, and for a listener that an order of this turn closed.
        let at = |listening: &Listening| u64::from(listening.id.0) == key;
        if let Some(index) = self.listeners.iter().position(at) {
            self.accept_burst(index, now);
        }
    }

    /// Accepts some of those who wait; the kernel reports the others again.
    fn accept_burst(&mut self, index: usize, now: Timestamp) {
        for _ in 0..BURST {
            match self.listeners[index].accept() {
                Ok(None) => break,
                Ok(Some((socket, peer))) => self.receive(index, socket, peer, now),
                Err(error) => return self.cope(index, &error, now),
            }
        }
        self.door.counters.works(self.listeners[index].id);
    }

    /// A connection came.
    fn receive(&mut self, index: usize, socket: TcpSocket, peer: SocketAddr, now: Timestamp) {
        let listening = &self.listeners[index];
        let seat = match self.door.places.admit(&self.door.access, peer.ip()) {
            Ok(seat) => seat,
            Err(reason) => return self.door.refuse(socket, peer, Refused::plain(reason)),
        };
        let newcomer = Newcomer {
            socket,
            peer,
            listener: listening.id,
            seat,
        };
        let Some(tls) = &listening.tls else {
            return self.door.hand(newcomer);
        };
        match self.shaking.begin(newcomer, tls, &self.poller, now) {
            Ok(()) => self.door.counters.shaking(),
            Err((newcomer, refused)) => {
                drop(newcomer.seat);
                self.door.refuse(newcomer.socket, peer, refused);
            }
        }
    }

    /// Accepting failed at this listener: those who wait are turned away if that is possible, and it pauses. The others
    /// go on, and find out themselves whether they are concerned.
    fn cope(&mut self, index: usize, error: &io::Error, now: Timestamp) {
        let listening = &mut self.listeners[index];
        match Shortage::of(error) {
            Shortage::Descriptors => {
                if self.door.turn_away(listening, &mut self.reserve) == Some(0) {
                    // The last descriptor went to the last one who waited: that is no shortage yet.
                    return;
                }
                self.door.counters.starved();
            }
            Shortage::Memory => self.door.counters.starved(),
            Shortage::Other => self.door.counters.fails(listening.id, error),
        }
        listening.pause(after(now, BACK_OFF), &self.poller);
    }

    fn end_late(&mut self, now: Timestamp) {
        while let Some(guest) = self.shaking.take_late(now) {
            let refused = guest.handshake.late();
            self.door.give_up(guest, refused);
        }
    }
}

impl Door {
    /// Hands a connection in clear to a shard.
    fn hand(&self, newcomer: Newcomer) {
        // Counted first: no shard has a connection that is not in the counts.
        self.counters.handed();
        self.put(newcomer, None);
    }

    /// Hands one that shook hands to a shard.
    fn hand_shaken(&self, guest: Guest) {
        self.counters.shaken();
        self.put(guest.newcomer, Some(guest.handshake));
    }

    fn put(&self, newcomer: Newcomer, handshake: Option<Handshake>) {
        let Newcomer {
            socket,
            peer,
            listener,
            mut seat,
        } = newcomer;
        let (tls, early) = match handshake.map(Handshake::finish) {
            Some((session, early)) => (Some(session), early),
            None => (None, Vec::new()),
        };
        self.shards[seat.shard()].put(Accepted {
            socket,
            peer,
            listener,
            tls,
            early,
            seat,
        });
    }

    /// Refuses one that just came.
    ///
    /// By RST, here and below: nothing of it stays in the kernel, where an orderly end would keep it for a minute
    /// (TIME_WAIT). Counted first, so that a peer that knows of it finds it counted.
    fn refuse(&self, socket: TcpSocket, peer: SocketAddr, refused: Refused) {
        self.counters.refused(peer, refused);
        socket.reset();
    }

    /// Refuses one that shakes hands. Its place is free when it hears of that.
    fn give_up(&self, guest: Guest, refused: Refused) {
        let Newcomer {
            socket, peer, seat, ..
        } = guest.newcomer;
        drop(seat);
        self.counters.given_up(peer, refused);
        socket.reset();
    }

    /// Refuses those who wait at a listener for want of a descriptor, in one turn as many as are accepted in one. How
    /// many they were, if nobody is left; `None` when somebody may be.
    fn turn_away(&self, listening: &Listening, reserve: &mut ReserveFd) -> Option<usize> {
        for turned_away in 0..BURST {
            let Some(peer) = listening.turn_away(reserve).ok()? else {
                return Some(turned_away);
            };
            let refused = Refused::plain(RefuseReason::NoDescriptor);
            self.counters.refused(peer, refused);
        }
        None
    }

    /// Refuses those who wait at a listener that is about to be closed: the kernel would reset them too, and nobody
    /// would know.
    fn clear_out(&self, listening: &Listening, why: &'static str) {
        for _ in 0..WAITING_MAX {
            let Ok(Some((socket, peer))) = listening.accept() else {
                return;
            };
            self.refuse(socket, peer, Refused::because(RefuseReason::Closing, &why));
        }
    }
}

fn after(now: Timestamp, duration: Duration) -> Timestamp {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Timestamp::from_nanos(now.as_nanos().saturating_add(nanos))
}

/// Connections that one listener may take in one turn: a burst is accepted in a millisecond, and then handshakes and
/// orders have their turn.
const BURST: usize = 64;

/// Reports of the kernel that one turn deals with; the others come first in the next one.
const READY_MAX: usize = 64;

/// Connections that are refused one by one when their listener is closed: as many as wait there on any system as it comes
/// (`net.core.somaxconn` is 4096), and an end to it under a flood.
const WAITING_MAX: usize = 8192;

/// How long nobody is accepted where accepting failed: short for a peer that connects, and ten times a second costs
/// nothing.
const BACK_OFF: Duration = Duration::from_millis(100);
