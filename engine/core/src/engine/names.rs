//! Names and their handlers, of an engine that runs or is about to.

use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::error::{ChangeError, StartError, Warning};
use crate::dispatch::handler::{Handler, ShardId};
use crate::dispatch::{NameId, Table};
use crate::shard::desk::Order;

impl Engine {
    /// Makes what `make` returns the receiver of packets named `name`, on every shard, while traffic flows.
    ///
    /// When this returns, every shard calls the new handler; a replaced one was dropped, on this thread. As
    /// `bin_register_cb` of OpenSIPS's `bin_interface.c`, which knows it at the start only.
    ///
    /// # Errors
    /// [`ChangeError`]. After [`ChangeError::NoAnswer`] the registration stands: a shard that is late takes it over
    /// when it goes on. After any other nothing has changed.
    pub fn register<H: Handler + 'static>(
        &mut self,
        name: &[u8],
        make: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<(), ChangeError> {
        let id = self.enter(name, make)?;
        self.publish(id, Some(name))
    }

    /// Registers without telling the shards.
    pub(super) fn enter<H: Handler + 'static>(
        &mut self,
        name: &[u8],
        make: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<NameId, ChangeError> {
        let replaced = self.registry.replaced().len();
        let id = self.registry.register(name, make)?;
        // Each name is told once, so this does not grow without end.
        let news = self.registry.replaced()[replaced..].iter().cloned();
        self.warnings.extend(news.map(Warning::NameReplaced));
        Ok(id)
    }

    /// The same, with all packets of `name` handled on `home`: see [`Registry::keep_on_one_shard`](crate::Registry::keep_on_one_shard).
    ///
    /// # Errors
    /// As [`register`](Self::register); and [`StartError::NoHome`], when there is no such shard.
    pub fn register_on<H: Handler + 'static>(
        &mut self,
        name: &[u8],
        home: ShardId,
        make: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<(), ChangeError> {
        let id = self.enter_on(name, home, make)?;
        self.publish(id, Some(name))
    }

    /// Registers on `home` without telling the shards.
    pub(super) fn enter_on<H: Handler + 'static>(
        &mut self,
        name: &[u8],
        home: ShardId,
        make: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<NameId, ChangeError> {
        let owners = self.steering.shards();
        if home.0 >= owners {
            let name = name.escape_ascii().to_string();
            return Err(StartError::NoHome { name, home, owners }.into());
        }
        let id = self.enter(name, make)?;
        self.registry.keep_on_one_shard(name, home);
        Ok(id)
    }

    /// Takes the handler of `name` back; `false` when there is none. When this returns, no shard calls it any
    /// more and it was dropped, on this thread: what it needed, such as a shared library, may go.
    ///
    /// # Errors
    /// [`ChangeError`]: a shard does not answer, and may still call the handler.
    pub fn unregister(&mut self, name: &[u8]) -> Result<bool, ChangeError> {
        match self.registry.remove(name) {
            Some(id) => self.publish(id, None).map(|()| true),
            None => Ok(false),
        }
    }

    /// Publishes the registry's table, in which the handler of `id` has changed.
    fn publish(&mut self, id: NameId, name: Option<&[u8]>) -> Result<(), ChangeError> {
        // The old one is dropped here, after every shard let go of it; or kept, if one did not answer.
        let old = self.renew_table(id, name);
        let done = self.order(|shard| self.dispatch_of(id, shard));
        if done.is_ok() {
            // Orders are obeyed in turn, so who was late has let go of those by now as well.
            self.late_tables.clear();
        } else {
            self.late_tables.push(old);
        }
        done
    }

    /// Makes the registry's table, in which the handler of `id` has changed, that of this engine; the one before.
    fn renew_table(&mut self, id: NameId, name: Option<&[u8]>) -> Arc<Table> {
        for shard in &self.shards {
            if let Some(name) = name {
                // Before any shard can count for it.
                shard.handle.ledger.name(id, name);
            }
        }
        let table = Arc::new(self.registry.table());
        std::mem::replace(&mut self.table, table)
    }

    fn dispatch_of(&self, id: NameId, shard: ShardId) -> Order {
        Order::Dispatch {
            table: Arc::clone(&self.table),
            id,
            handler: self.registry.make(id, shard),
        }
    }

    /// Publishes the handler of `id` to shards that wait at the gate: each obeys before it receives. The number of the order.
    pub(super) fn post_early(&mut self, id: NameId, name: &[u8]) -> u64 {
        let old = self.renew_table(id, Some(name));
        self.late_tables.push(old);
        let posted = self
            .shards
            .iter()
            .map(|shard| shard.handle.desk.post(self.dispatch_of(id, shard.id)));
        posted.max().unwrap_or(0)
    }

    /// Drops what was replaced before the gate, once all shards have let go of it.
    pub(super) fn hear_early(&mut self, posted: u64, deadline: Instant) {
        let mut all = true;
        for shard in &self.shards {
            let desk = &shard.handle.desk;
            all &= desk.wait(posted, deadline, || shard.is_running());
            // Nothing else was ordered, and such an order does not fail.
            desk.returned().for_each(drop);
        }
        if all {
            self.late_tables.clear();
        }
    }
}
