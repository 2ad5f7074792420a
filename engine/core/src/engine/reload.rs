//! Listeners that come and go, and an access list that changes, while the rest is not touched.

use std::net::SocketAddr;
use std::sync::Arc;

use binrush_net::UdpSocket;

use super::error::{ChangeError, StartError, Warning};
use super::listener::Listener;
use super::{Engine, LISTENERS_MAX, of_listeners};
use crate::access::Access;
use crate::engine::streams::StreamListener;
use crate::shard::desk::{Connections, ListenerId, Order};
use crate::tls::TlsFiles;

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Addresses that are received on now.
    pub opened: Vec<SocketAddr>,
    /// Addresses that are not any more.
    pub closed: Vec<SocketAddr>,
    /// Whether other sources are let in than before.
    pub access: bool,
    /// What the user should know about the new listeners.
    pub warnings: Vec<Warning>,
}

impl Engine {
    /// Listens on `listen` and lets in `access` from now on. A listener that is in both lists goes on
    /// untouched: its sockets, its queue, its counters.
    ///
    /// New addresses are bound before anything changes, so an address that cannot be had leaves all as it
    /// was. What is queued on a listener that goes is received first.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::changed_nothing`] says whether all is as it was. Otherwise the rest was done as
    /// far as it goes, and the same call again does what is left.
    pub fn reload(
        &mut self,
        listen: &[SocketAddr],
        access: Access,
    ) -> Result<Reloaded, ChangeError> {
        let mut new = Vec::new();
        for (index, addr) in listen.iter().enumerate() {
            if listen[..index].contains(addr) {
                let (addr, ours) = (*addr, *addr);
                return Err(StartError::OurOwn { addr, ours }.into());
            }
            if self.open_listeners().all(|each| each.asked != *addr) {
                new.push(*addr);
            }
        }
        // Those that go leave only after the new ones came.
        let none_left = listen.is_empty() && self.streams.listeners().is_empty();
        if self.open_listeners().count() + new.len() > self.listeners_max || none_left {
            let max = self.listeners_max;
            return Err(ChangeError::Listeners { max });
        }
        let bound = self.bind_all(&new, &access)?;
        let mut reloaded = Reloaded {
            access: access != self.access,
            warnings: of_listeners(&bound).into_iter().collect(),
            ..Reloaded::default()
        };
        if reloaded.access {
            self.let_in(access)?;
            self.streams.set_access(&self.access)?;
        }
        for listener in bound {
            reloaded.opened.push(listener.addr);
            self.add(listener)?;
        }
        let gone: Vec<ListenerId> = self
            .open_listeners()
            .filter(|listener| !listen.contains(&listener.asked))
            .map(|listener| listener.id)
            .collect();
        for id in gone {
            reloaded.closed.push(self.remove(id)?);
        }
        if reloaded.access {
            let access = &self.access;
            self.order(|_| Order::EndConnections(Connections::NotAllowedBy(access.clone())))?;
        }
        Ok(reloaded)
    }

    /// Accepts connections on `listen`, and inside TLS on `listen_tls`, from now on, by certificates that are read
    /// again. A listener that is in both lists goes on untouched, and so do its connections; those of one that goes
    /// are read to the end of what has come, and closed.
    ///
    /// # Errors
    /// As [`reload`](Self::reload). Certificates that cannot be used leave all as it was.
    pub fn reload_streams(
        &mut self,
        listen: &[SocketAddr],
        listen_tls: &[SocketAddr],
        tls: Option<&TlsFiles>,
    ) -> Result<Reloaded, ChangeError> {
        let wanted = listen.iter().map(|addr| (*addr, false));
        let wanted: Vec<_> = wanted
            .chain(listen_tls.iter().map(|addr| (*addr, true)))
            .collect();
        let open = self.streams.listeners();
        let is_open = |(addr, tls): &(SocketAddr, bool)| {
            open.iter()
                .any(|each| each.asked == *addr && each.tls == *tls)
        };
        let new: Vec<_> = wanted
            .iter()
            .filter(|each| !is_open(each))
            .copied()
            .collect();
        let gone = open
            .iter()
            .filter(|each| !wanted.contains(&(each.asked, each.tls)));
        let gone: Vec<ListenerId> = gone.map(|each| each.id).collect();
        if open.len() + new.len() > LISTENERS_MAX {
            return Err(ChangeError::Listeners { max: LISTENERS_MAX });
        }
        match tls {
            Some(files) if !listen_tls.is_empty() => self.streams.reload_tls(files)?,
            None if !listen_tls.is_empty() => return Err(StartError::NoCertificate.into()),
            _ => {}
        }
        let mut bound = Vec::with_capacity(new.len());
        for (addr, tls) in new {
            let id = ListenerId(self.next_listener);
            self.next_listener += 1;
            // Of a pair with port 0 the other half knows the port.
            let pair = self
                .open_listeners()
                .find(|each| !tls && each.asked == addr);
            let at = pair.map_or(addr, |pair| pair.addr);
            bound.push(StreamListener::bind(
                id,
                addr,
                at,
                tls,
                &self.streams.config,
            )?);
        }
        let mut reloaded = Reloaded {
            opened: bound.iter().map(|listener| listener.addr).collect(),
            warnings: self
                .streams
                .warnings()
                .into_iter()
                .map(Warning::Certificate)
                .collect(),
            ..Reloaded::default()
        };
        let access = self.access.clone();
        self.streams.open(bound, &access)?;
        for id in gone {
            reloaded.closed.extend(self.streams.close(id)?);
            self.order(|_| Order::EndConnections(Connections::OfListener(id)))?;
        }
        Ok(reloaded)
    }

    fn open_listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|each| each.is_open())
    }

    fn bind_all(
        &mut self,
        new: &[SocketAddr],
        access: &Access,
    ) -> Result<Vec<Listener>, StartError> {
        let mut bound = Vec::with_capacity(new.len());
        for addr in new {
            let id = ListenerId(self.next_listener);
            self.next_listener += 1;
            let listener = Listener::bind(id, *addr, self.options, &self.steering, access);
            bound.push(listener.map_err(|error| self.of_our_own(error))?);
        }
        Ok(bound)
    }

    /// `error`, unless it is we who have the port.
    fn of_our_own(&self, error: StartError) -> StartError {
        let StartError::PortInUse { addr } = error else {
            return error;
        };
        let covers = |ours: &&Listener| {
            let same_family = ours.addr.is_ipv4() == addr.is_ipv4();
            let either_any = ours.addr.ip().is_unspecified() || addr.ip().is_unspecified();
            same_family && ours.addr.port() == addr.port() && (either_any || ours.addr == addr)
        };
        match self.open_listeners().find(covers) {
            Some(ours) => StartError::OurOwn {
                addr,
                ours: ours.addr,
            },
            None => error,
        }
    }

    /// Lets in `access` on every listener, or on none.
    fn let_in(&mut self, access: Access) -> Result<(), StartError> {
        let apply = |access: &Access| {
            self.open_listeners().try_for_each(|listener| {
                listener.steer(&self.steering, access)?;
                listener.admit(access)
            })
        };
        if let Err(error) = apply(&access) {
            // What was in place fitted, so it fits again.
            apply(&self.access)?;
            return Err(error);
        }
        self.access = access;
        Ok(())
    }

    /// Receives from a listener that was bound.
    fn add(&mut self, mut listener: Listener) -> Result<(), ChangeError> {
        let sockets: Vec<Arc<UdpSocket>> = listener.sockets().cloned().collect();
        let id = listener.id;
        let opened = self
            .order(|shard| Order::Open(id, Arc::clone(&sockets[shard.index()])))
            .and_then(|()| Ok(listener.open(&self.access)?));
        if let Err(error) = opened {
            // Orders are obeyed in turn: also a shard that is late lets go of it again.
            let _ = self.order(|_| Order::Close(id));
            return Err(error);
        }
        self.listeners.push(listener);
        Ok(())
    }

    /// Stops receiving from a listener: whatever goes wrong, it is closed in the end.
    fn remove(&mut self, id: ListenerId) -> Result<SocketAddr, ChangeError> {
        let index = self.listeners.iter().position(|each| each.id == id);
        let index = index.expect("an id of a listener that is open");
        let before = self.listeners[index].read();
        let shut = {
            let sockets = self.listeners[index].sockets();
            UdpSocket::drop_all_of(sockets.map(|socket| &**socket))
        };
        let closed = self.order(|_| Order::Close(id));
        let mut listener = self.listeners.remove(index);
        let addr = listener.addr;
        // Closed whatever was said before.
        let closing = Self::close(&mut listener);
        let counted = before.and(shut).and(closing);
        if let Err(ChangeError::NoAnswer { .. }) = closed {
            // The late shard has the socket too, and receives what is queued when it goes on.
            listener.leave_queue_to_shards();
        }
        self.retire(listener);
        closed?;
        counted.map_err(ChangeError::Kernel)?;
        Ok(addr)
    }

    /// Takes the last counts of a listener whose shards have let go, and closes it.
    pub(super) fn close(listener: &mut Listener) -> std::io::Result<u64> {
        // No datagram finds it from here on, so its counts stand still when they are read.
        let left_tables = listener.leave();
        let settled = UdpSocket::drop_all_of(listener.sockets().map(|socket| &**socket));
        let read = listener.read_stopped();
        let left = listener.queued_bytes();
        listener.close(left.as_ref().map_or(0, |bytes| *bytes));
        left_tables.and(settled).and(read).and(left)
    }

    /// Keeps what the kernel dropped at a listener that was closed: its counters are part of the ledger to the end.
    fn retire(&mut self, listener: Listener) {
        self.listeners.push(listener);
        let mut closed = self.listeners.iter().enumerate();
        let mut closed = closed.by_ref().filter(|(_, each)| !each.is_open());
        if let (Some((oldest, _)), Some((next, _))) = (closed.next(), closed.next())
            && closed.count() + 2 > CLOSED_MAX
        {
            let next = self.listeners.remove(next);
            self.listeners[oldest].absorb(&next);
        }
    }
}

/// Closed listeners whose counts are kept apart.
const CLOSED_MAX: usize = 32;
