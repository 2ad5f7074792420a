//! Which handler a module name leads to.
//!
//! A [`Table`](crate::dispatch::Table) never changes once built, and a shard has one for its whole life. The handlers stand beside it
//! because they do change: they are the shard's own state.

use std::fmt;
use std::ops::{Index, IndexMut};

use handler::Handler;

/// What is called with a packet, and what it answers.
pub mod handler;
/// Collecting handlers before the start.
pub mod registry;
/// A handler that checks packets against the known layouts.
pub mod schema_handler;

/// Module names to entries, immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    names: Box<[Box<[u8]>]>,
}

/// A place in the [`Table`] it came from, and in the [`Handlers`] built with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(usize);

/// The handlers of one shard, one per entry of its [`Table`].
pub struct Handlers(Box<[Box<dyn Handler>]>);

impl Table {
    /// The entry for `name`, compared byte by byte as OpenSIPS does; `None` when nobody registered it.
    ///
    /// Walks the names: one server registers a handful, and most differ in their length already.
    #[inline]
    #[must_use]
    pub fn lookup(&self, name: &[u8]) -> Option<Entry> {
        self.names
            .iter()
            .position(|known| **known == *name)
            .map(Entry)
    }

    /// The names, in the order of their entries.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.names.iter().map(|name| &**name)
    }
}

impl Entry {
    /// Position among the table's [`names`](Table::names).
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

impl Index<Entry> for Handlers {
    type Output = dyn Handler;

    fn index(&self, entry: Entry) -> &Self::Output {
        &*self.0[entry.0]
    }
}

impl IndexMut<Entry> for Handlers {
    #[inline]
    fn index_mut(&mut self, entry: Entry) -> &mut Self::Output {
        &mut *self.0[entry.0]
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handlers({})", self.0.len())
    }
}

/// Names that a table may hold; more than OpenSIPS has capabilities.
pub const NAMES_MAX: usize = 64;
