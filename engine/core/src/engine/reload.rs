//! Listeners that come and go, and an access list that changes, while the rest is not touched.

use std::net::SocketAddr;
use std::sync::Arc;

use binrush_net::UdpSocket;

use super::error::{ChangeError, StartError, Warning};
use super::listener::Listener;
use super::{Engine, LISTENERS_MAX, StreamConfig, of_listeners};
use crate::access::Access;
use crate::engine::streams::StreamListener;
use crate::shard::desk::{Connections, ListenerId, Order};

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Addresses that datagrams are received on now.
    pub opened: Vec<SocketAddr>,
    /// Addresses that are not any more.
    pub closed: Vec<SocketAddr>,
    /// Addresses that connections are accepted on now, and whether inside TLS.
    pub opened_streams: Vec<(SocketAddr, bool)>,
    /// Addresses at which none are any more.
    pub closed_streams: Vec<(SocketAddr, bool)>,
    /// Whether other sources are let in than before.
    pub access: bool,
    /// What the user should know about the new listeners.
    pub warnings: Vec<Warning>,
}

/// What a change needs, all of it got before anything changes.
struct Prepared {
    new: Vec<Listener>,
    gone: Vec<ListenerId>,
    new_streams: Vec<StreamListener>,
    gone_streams: Vec<ListenerId>,
}

impl Engine {
    /// Listens for datagrams on `listen`, for connections as before, and lets in `access` from now on. A listener that
    /// is in both lists goes on untouched: its sockets, its queue, its counters.
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
        self.change(listen, access, None)
    }

    /// [`reload`](Self::reload), and accepts connections where `streams` says, by certificates that are read again. The
    /// connections of a listener that goes are read to the end of what has come, and closed, and so are those of
    /// addresses that are not allowed any more; sessions that are up stay. Of `streams` the rest takes effect at a start
    /// only.
    ///
    /// # Errors
    /// As `reload`. Certificates that cannot be used leave all as it was.
    pub fn reload_with(
        &mut self,
        listen: &[SocketAddr],
        access: Access,
        streams: &StreamConfig,
    ) -> Result<Reloaded, ChangeError> {
        self.change(listen, access, Some(streams))
    }

    fn change(
        &mut self,
        listen: &[SocketAddr],
        access: Access,
        streams: Option<&StreamConfig>,
    ) -> Result<Reloaded, ChangeError> {
        let prepared = self.prepare(listen, &access, streams)?;
        let applied = self.apply(prepared, access, streams.is_some());
        applied.map_err(|error| match error {
            // From here on it is not so that nothing has changed.
            ChangeError::Start(error) => ChangeError::InPart(error),
            other => other,
        })
    }

    /// Closes listeners of another engine's that it went on with and has no use for: what is queued is received first.
    ///
    /// To be called once it is sure that the other engine has ended for good: such a socket takes nothing any more, whoever
    /// has it.
    ///
    /// # Errors
    /// [`StartError`]: some of them are open still.
    pub fn settle(&mut self) -> Result<(), StartError> {
        let (datagrams, streams) = std::mem::take(&mut self.rest);
        let cause = |error| match error {
            ChangeError::Start(error) | ChangeError::InPart(error) => error,
            other => StartError::GivingUp(other.to_string()),
        };
        for id in datagrams {
            self.remove(id).map_err(cause)?;
        }
        for id in streams {
            self.streams.close(id).map_err(cause)?;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        prepared: Prepared,
        access: Access,
        with_streams: bool,
    ) -> Result<Reloaded, ChangeError> {
        let Prepared {
            new,
            gone,
            new_streams,
            gone_streams,
        } = prepared;
        let mut reloaded = Reloaded {
            access: access != self.access,
            warnings: of_listeners(&new).into_iter().collect(),
            ..Reloaded::default()
        };
        if with_streams {
            let told = self.streams.warnings().into_iter();
            reloaded.warnings.extend(told.map(Warning::Certificate));
        }
        if reloaded.access {
            self.let_in(access)?;
            self.access_unsettled = true;
        }
        if self.access_unsettled {
            self.streams.set_access(&self.access)?;
        }
        for listener in new {
            reloaded.opened.push(listener.addr);
            self.add(listener)?;
        }
        let opened = new_streams.iter().map(|each| (each.addr, each.tls));
        reloaded.opened_streams.extend(opened);
        self.streams.open(new_streams, &self.access)?;
        for id in gone {
            reloaded.closed.push(self.remove(id)?);
        }
        for id in gone_streams {
            reloaded.closed_streams.extend(self.streams.close(id)?);
            self.order(|_| Order::EndConnections(Connections::OfListener(id)))?;
        }
        if self.access_unsettled {
            let access = &self.access;
            self.order(|_| Order::EndConnections(Connections::NotAllowedBy(access.clone())))?;
            self.access_unsettled = false;
        }
        Ok(reloaded)
    }

    /// Binds what is new and reads the certificates; whatever fails, nothing has changed.
    fn prepare(
        &mut self,
        listen: &[SocketAddr],
        access: &Access,
        streams: Option<&StreamConfig>,
    ) -> Result<Prepared, ChangeError> {
        let mut new = Vec::new();
        for (index, addr) in listen.iter().enumerate() {
            // Port 0 is another port each time.
            if addr.port() != 0 && listen[..index].contains(addr) {
                let (addr, ours) = (*addr, *addr);
                return Err(StartError::OurOwn { addr, ours }.into());
            }
            if self.open_listeners().all(|each| each.asked != *addr) {
                new.push(*addr);
            }
        }
        let gone = self.open_listeners();
        let gone = gone.filter(|listener| !listen.contains(&listener.asked));
        let gone = gone.map(|listener| listener.id).collect();
        let open = self.streams.listeners();
        let wanted: Vec<_> = match streams {
            Some(streams) => streams.addresses().collect(),
            None => open.iter().map(|each| (each.asked, each.tls)).collect(),
        };
        let is_open = |(addr, tls): &(SocketAddr, bool)| {
            let mut open = open.iter();
            open.any(|each| each.asked == *addr && each.tls == *tls)
        };
        let new_streams: Vec<_> = wanted.iter().filter(|each| !is_open(each)).collect();
        let gone_streams = open.iter();
        let gone_streams = gone_streams.filter(|each| !wanted.contains(&(each.asked, each.tls)));
        let gone_streams = gone_streams.map(|each| each.id).collect();
        // Those that go leave only after the new ones came.
        if self.open_listeners().count() + new.len() > self.listeners_max
            || (listen.is_empty() && wanted.is_empty())
        {
            let max = self.listeners_max;
            return Err(ChangeError::Listeners { max });
        }
        if open.len() + new_streams.len() > LISTENERS_MAX {
            return Err(ChangeError::Listeners { max: LISTENERS_MAX });
        }
        let new_streams: Vec<_> = new_streams.into_iter().copied().collect();
        let new = self.bind_all(&new, access)?;
        let new_streams = self.bind_streams(new_streams, &new)?;
        // The last that can fail: from here on handshakes are by the new ones.
        if let Some(streams) = streams.filter(|streams| !streams.listen_tls.is_empty()) {
            let files = streams.tls.as_ref().ok_or(StartError::NoCertificate)?;
            self.streams.reload_tls(files)?;
        }
        Ok(Prepared {
            new,
            gone,
            new_streams,
            gone_streams,
        })
    }

    fn bind_streams(
        &mut self,
        new: Vec<(SocketAddr, bool)>,
        beside: &[Listener],
    ) -> Result<Vec<StreamListener>, StartError> {
        let mut bound = Vec::with_capacity(new.len());
        for (addr, tls) in new {
            let id = ListenerId(self.next_listener);
            self.next_listener += 1;
            // Of a pair with port 0 the other half knows the port.
            let mut datagrams = self.open_listeners().chain(beside);
            let pair = datagrams.find(|each| !tls && each.asked == addr);
            let at = pair.map_or(addr, |pair| pair.addr);
            let config = &self.streams.config;
            let listener = StreamListener::bind(id, addr, at, tls, config);
            bound.push(listener.map_err(|error| self.streams.of_our_own(error))?);
        }
        Ok(bound)
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
        let mut ours = self.open_listeners();
        match ours.find(|ours| covers(ours.addr, addr)) {
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
            .order_owners(|shard| Order::Open(id, Arc::clone(&sockets[shard.index()])))
            .and_then(|()| Ok(listener.open(&self.access)?));
        if let Err(error) = opened {
            // Orders are obeyed in turn: also a shard that is late lets go of it again.
            let _ = self.order_owners(|_| Order::Close(id));
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
        let closed = self.order_owners(|_| Order::Close(id));
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

/// Whether a socket at `ours` keeps another one from being bound to `addr`.
pub(super) fn covers(ours: SocketAddr, addr: SocketAddr) -> bool {
    let same_family = ours.is_ipv4() == addr.is_ipv4();
    let either_any = ours.ip().is_unspecified() || addr.ip().is_unspecified();
    same_family && ours.port() == addr.port() && (either_any || ours == addr)
}

/// Closed listeners whose counts are kept apart.
const CLOSED_MAX: usize = 32;
