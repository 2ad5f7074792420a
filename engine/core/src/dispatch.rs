//! Which handler a module name leads to, and how that changes while packets come.
//!
//! ```text
//!  Registry (control thread) ──▶ Table, immutable ──▶ every shard takes it over between two batches
//!            └──▶ one handler per shard ────────────▶ the shard's Handlers, by NameId
//! ```
//!
//! A [`Table`](crate::dispatch::Table) never changes once built: a registration makes a new one. The handlers
//! stand beside it because they do change: they are the shard's own state, and outlive a table that other
//! names made necessary.

use std::fmt;

use front::Front;
use handler::{Handler, ShardId};
use tap::Tap;

/// Who sees packets in front of their handlers.
pub mod front;
/// What is called with a packet, and what it answers.
pub mod handler;
/// Names and the makers of their handlers.
pub mod registry;
/// A handler that checks packets against the known layouts.
pub mod schema_handler;
/// Contexts for the tests of handlers.
#[cfg(test)]
pub(crate) mod scripted;
/// Who sees packets behind their handlers.
pub mod tap;

/// A name's number, the same on every shard and for as long as the engine lives.
///
/// Registering a name again, after a removal too, gives it the number it had: its counters go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NameId(u16);

/// Module names to numbers, immutable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    names: Box<[(Box<[u8]>, NameId)]>,
    /// The names whose packets are handled where they are cut: a bit for each [`NameId`].
    local: u64,
    /// Those that no packet leads to, likewise.
    residents: u64,
    /// The names whose packets are all handled on one shard, and on which.
    homes: Box<[(NameId, ShardId)]>,
    /// The shard that handles all packets of all names, of those that nobody is registered for too.
    of_all: Option<ShardId>,
}

/// The handlers of one shard, by [`NameId`].
pub struct Handlers {
    by_name: [Option<Box<dyn Handler>>; NAMES_MAX],
    front: Option<Box<dyn Front>>,
    tap: Option<Box<dyn Tap>>,
}

impl NameId {
    pub(crate) fn new(index: usize) -> Self {
        Self(u16::try_from(index).expect("at most NAMES_MAX names"))
    }

    /// Position among all names that were ever registered.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Table {
    pub(crate) fn new(
        names: impl IntoIterator<Item = (Box<[u8]>, NameId, Option<ShardId>)>,
        of_all: Option<ShardId>,
        residents: u64,
    ) -> Self {
        let (mut known, mut homes, mut local) = (Vec::new(), Vec::new(), 0);
        for (name, id, home) in names {
            match of_all.or(home) {
                Some(home) => homes.push((id, home)),
                // Who has to be called on one shard is called there, wherever its packets are cut.
                None if LOCAL_NAMES.contains(&&*name) => local |= 1 << id.index(),
                None => {}
            }
            known.push((name, id));
        }
        Self {
            names: known.into(),
            local,
            residents,
            homes: homes.into(),
            of_all,
        }
    }

    /// Whether packets of this name are handled by the shard that cuts them out of a stream, so that they wait for
    /// no other shard. They are about no record: `clusterer-internal`, `clusterer-extra` and `clusterer`.
    #[inline]
    #[must_use]
    pub const fn is_local(&self, id: NameId) -> bool {
        self.local >> id.0 & 1 == 1
    }

    /// The shard that handles all packets of this name, whatever they are about; `None`: the owner of each one's record does.
    #[inline]
    #[must_use]
    pub fn home(&self, id: NameId) -> Option<ShardId> {
        let home = self.homes.iter().find(|(known, _)| *known == id);
        home.map(|(_, home)| *home)
    }

    /// The same of a name as it is written in a packet.
    #[inline]
    pub(crate) fn home_of(&self, name: &[u8]) -> Option<ShardId> {
        self.of_all.or_else(|| self.home(self.lookup(name)?))
    }

    /// The shard that handles the packets of all names, of strangers too.
    #[inline]
    pub(crate) const fn home_of_all(&self) -> Option<ShardId> {
        self.of_all
    }

    /// Whether there is any such name: without one nobody has to look at names before packets are where they belong.
    #[inline]
    pub(crate) const fn has_homes(&self) -> bool {
        !self.homes.is_empty() || self.of_all.is_some()
    }

    /// Whose handlers have something to do on shards that own nothing, a bit for each [`NameId`]: those of local names and residents.
    pub(crate) const fn everywhere(&self) -> u64 {
        self.local | self.residents
    }

    /// The number of `name`, compared byte by byte as OpenSIPS does; `None` when nobody is registered for it.
    ///
    /// Walks the names: one server registers a handful, and most differ in their length already.
    #[inline]
    #[must_use]
    pub fn lookup(&self, name: &[u8]) -> Option<NameId> {
        self.names
            .iter()
            .find(|(known, _)| **known == *name)
            .map(|(_, id)| *id)
    }

    /// The names that lead somewhere, in the order of their first registration.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.names.iter().map(|(name, _)| &**name)
    }
}

impl Handlers {
    /// No handlers.
    #[must_use]
    pub fn none() -> Self {
        Self {
            by_name: [const { None }; NAMES_MAX],
            front: None,
            tap: None,
        }
    }

    /// The handler of `id`; `None` for a name that no table of this moment leads to.
    #[inline]
    pub(crate) fn of(&mut self, id: NameId) -> Option<&mut (dyn Handler + 'static)> {
        self.by_name[id.index()].as_deref_mut()
    }

    /// Puts `handler` in the place of `id`; the one that was there comes back.
    pub(crate) fn put(
        &mut self,
        id: NameId,
        handler: Option<Box<dyn Handler>>,
    ) -> Option<Box<dyn Handler>> {
        std::mem::replace(&mut self.by_name[id.index()], handler)
    }

    /// Who sees packets in front of them, if anybody does.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<&mut (dyn Front + 'static)> {
        self.front.as_deref_mut()
    }

    /// Lets `front` decide which packets come to them.
    pub(crate) fn set_front(&mut self, front: Option<Box<dyn Front>>) {
        self.front = front;
    }

    /// Who sees packets behind them, if anybody does.
    #[inline]
    pub(crate) fn tap(&mut self) -> Option<&mut (dyn Tap + 'static)> {
        self.tap.as_deref_mut()
    }

    /// Shows packets to `tap`, too.
    pub(crate) fn set_tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.tap = tap;
    }

    /// Those that are there, a bit for each [`NameId`].
    pub(crate) fn present(&self) -> u64 {
        let places = self.by_name.iter().enumerate();
        let there = places.filter(|(_, handler)| handler.is_some());
        there.fold(0, |set, (index, _)| set | 1 << index)
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handlers({})", self.by_name.iter().flatten().count())
    }
}

/// What a cluster's nodes tell each other: about their links, where a PONG that waits behind bulk makes a node look dead,
/// and to any node, syncs included (OpenSIPS 2.4 and later, `clusterer.c`; 2.3 has one name for both).
const LOCAL_NAMES: [&[u8]; 3] = [b"clusterer-internal", b"clusterer-extra", b"clusterer"];

/// Names that an engine may meet registrations for in its life; more than OpenSIPS has capabilities.
pub const NAMES_MAX: usize = 64;

const _: () = assert!(
    NAMES_MAX <= 64,
    "a bit for each in `Table::local` and `Handlers::present`"
);
