//! Listeners that come and go, and an access list that changes, while the rest is not touched.

use std::net::SocketAddr;
use std::sync::Arc;

use binrush_net::UdpSocket;

use super::Engine;
use super::error::ChangeError;
use super::listener::Listener;
use crate::access::Access;
use crate::shard::desk::{ListenerId, Order};

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Addresses that are received on now.
    pub opened: Vec<SocketAddr>,
    /// Addresses that are not any more.
    pub closed: Vec<SocketAddr>,
    /// Whether other sources are let in than before.
    pub access: bool,
}

impl Engine {
    /// Listens on `listen` and lets in `access` from now on. A listener that is in both lists goes on
    /// untouched: its sockets, its queue, its counters.
    ///
    /// New addresses are bound before anything changes, so an address that cannot be had leaves all as it
    /// was. What is queued on a listener that goes is received first.
    ///
    /// # Errors
    /// [`ChangeError`]; with [`ChangeError::Start`] nothing has changed.
    pub fn reload(
        &mut self,
        listen: &[SocketAddr],
        access: Access,
    ) -> Result<Reloaded, ChangeError> {
        let is_open = |asked| self.open_listeners().any(|each| each.asked == asked);
        let new: Vec<SocketAddr> = listen.iter().copied().filter(|a| !is_open(*a)).collect();
        let wanted = listen.len().max(new.len());
        // Those that go leave only after the new ones came.
        if self.open_listeners().count() + new.len() > self.listeners_max || wanted == 0 {
            let max = self.listeners_max;
            return Err(ChangeError::Listeners { max });
        }
        let bound = self.bind_all(&new, &access)?;
        let mut reloaded = Reloaded {
            access: access != self.access,
            ..Reloaded::default()
        };
        if reloaded.access {
            for listener in self.listeners.iter().filter(|each| each.is_open()) {
                listener.steer(&self.steering, &access)?;
                listener.admit(&access)?;
            }
            self.access = access;
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
        Ok(reloaded)
    }

    fn open_listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|each| each.is_open())
    }

    fn bind_all(
        &mut self,
        new: &[SocketAddr],
        access: &Access,
    ) -> Result<Vec<Listener>, ChangeError> {
        let mut bound = Vec::with_capacity(new.len());
        for addr in new {
            let id = ListenerId(self.next_listener);
            self.next_listener += 1;
            let listener = Listener::bind(id, *addr, self.options, &self.steering, access)?;
            bound.push(listener);
        }
        Ok(bound)
    }

    fn add(&mut self, mut listener: Listener) -> Result<(), ChangeError> {
        let sockets: Vec<Arc<UdpSocket>> = listener.sockets().cloned().collect();
        let id = listener.id;
        self.order(|shard| Order::Open(id, Arc::clone(&sockets[shard.index()])))?;
        listener.open(&self.access)?;
        self.listeners.push(listener);
        Ok(())
    }

    fn remove(&mut self, id: ListenerId) -> Result<SocketAddr, ChangeError> {
        let index = self.listeners.iter().position(|each| each.id == id);
        let index = index.expect("an id of a listener that is open");
        self.listeners[index].read().map_err(ChangeError::Kernel)?;
        let sockets = self.listeners[index].sockets().map(|socket| &**socket);
        UdpSocket::drop_all_of(sockets).map_err(ChangeError::Kernel)?;
        self.order(|_| Order::Close(id))?;
        let mut listener = self.listeners.remove(index);
        listener.read_stopped().map_err(ChangeError::Kernel)?;
        let left = listener.queued_bytes().map_err(ChangeError::Kernel)?;
        listener.close(left);
        let addr = listener.addr;
        // Its counters are part of the ledger to the end; those of earlier ones of the address are added.
        self.retire(listener);
        Ok(addr)
    }

    /// Keeps what the kernel dropped at a listener that was closed; bounded by the number of addresses.
    fn retire(&mut self, listener: Listener) {
        let mut closed = self.listeners.iter_mut().filter(|each| !each.is_open());
        match closed.find(|each| each.addr == listener.addr) {
            Some(known) => known.absorb(&listener),
            None => self.listeners.push(listener),
        }
    }
}
