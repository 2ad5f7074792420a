//! Messages to handlers, from any thread.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::cluster::driver::Orders;
use crate::dispatch::NameId;
use crate::dispatch::handler::Told;
use crate::shard::desk::Desk;

/// A way to a running engine's handlers: [`Engine::teller`](super::Engine::teller). A handle: clones lead to the same ones,
/// from any thread, also when the engine has stopped.
#[derive(Clone)]
pub struct Teller {
    /// Of all shards, owners first.
    desks: Arc<[Arc<Desk>]>,
    owners: u16,
}

impl Teller {
    pub(super) fn new(desks: impl Iterator<Item = Arc<Desk>>, owners: u16) -> Self {
        Self {
            desks: desks.collect(),
            owners,
        }
    }

    /// Gives `message` to the handler of `name` on that shard, by [`Handler::tell`](crate::Handler::tell): between two
    /// batches, one in each turn, in the order in which it was told. It is dropped there when nobody is registered for the
    /// name by then.
    ///
    /// Never waits for the shard. [`Told::Full`] when 1024 messages wait for it already, so that it hangs. What was taken is
    /// told before the shard ends, unless it ends by an error.
    pub fn tell(&self, shard: u16, name: NameId, message: Box<dyn Any + Send>) -> Told {
        let desk = self.desks.get(usize::from(shard));
        desk.map_or(Told::Ended, |desk| desk.tell(name, message))
    }

    /// How many shards own records; their numbers are those below.
    #[must_use]
    pub const fn owners(&self) -> u16 {
        self.owners
    }
}

impl Orders for Teller {
    fn owners(&self) -> u16 {
        self.owners()
    }

    fn tell(&self, shard: u16, name: NameId, message: Box<dyn Any + Send>) -> Told {
        self.tell(shard, name, message)
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller")
            .field("shards", &self.desks.len())
            .field("owners", &self.owners)
            .finish()
    }
}
