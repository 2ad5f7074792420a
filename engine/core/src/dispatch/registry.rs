//! Names and the makers of their handlers.

use std::fmt;
use std::sync::Arc;

use super::handler::{Handler, ShardId};
use super::tap::Tap;
use super::{Handlers, NAMES_MAX, NameId, Table};

/// Makers of handlers by module name: what an engine starts with, and what it changes while it runs.
#[derive(Default)]
pub struct Registry {
    /// In the order of first registration; a name that was removed keeps its place.
    names: Vec<Registered>,
    replaced: Vec<NameReplaced>,
    tap: Option<Box<MakeTap>>,
}

struct Registered {
    name: Box<[u8]>,
    /// `None`: removed.
    make: Option<Box<Make>>,
}

/// A shard's own handlers, and the table that leads to them.
#[derive(Debug)]
pub struct Dispatch {
    pub(crate) table: Arc<Table>,
    pub(crate) handlers: Handlers,
    pub(crate) names: Vec<(NameId, Box<[u8]>)>,
}

type MakeTap = dyn Fn(ShardId) -> Option<Box<dyn Tap>> + Send + Sync;

type Make = dyn Fn(ShardId) -> Box<dyn Handler> + Send + Sync;

/// A name was registered again, and its earlier handler will never be called.
///
/// As in OpenSIPS, whose list is walked from the last registration (`bin_register_cb`, 1.11
/// `bin_interface.c`); there it happens in silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameReplaced {
    /// The name, with other than printable ASCII escaped.
    pub name: String,
}

/// A name could not be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The table is full.
    #[error(
        "cannot register {name:?}: {NAMES_MAX} different names were registered already\n  \
         a name that was removed keeps its counters, so it counts; restart to forget those"
    )]
    TooManyNames {
        /// The name, with other than printable ASCII escaped.
        name: String,
    },
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes what `make` returns the receiver of packets named `name`, one for each shard. The last
    /// registration of a name wins; [`replaced`](Self::replaced) tells of the others.
    ///
    /// Readers get theirs too, with numbers behind those of the shards that own records; only those of
    /// [local](crate::dispatch::Table::is_local) names are ever called there.
    ///
    /// `make` is called on the thread that starts the engine or registers, never on a shard.
    ///
    /// # Errors
    /// [`RegisterError::TooManyNames`]; the registry is as before.
    pub fn register<H: Handler + 'static>(
        &mut self,
        name: &[u8],
        make: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<NameId, RegisterError> {
        let make: Box<Make> = Box::new(move |shard| Box::new(make(shard)));
        if let Some(index) = self.position(name) {
            let before = self.names[index].make.replace(make);
            let replaced = NameReplaced {
                name: printable(name),
            };
            if before.is_some() && !self.replaced.contains(&replaced) {
                self.replaced.push(replaced);
            }
            return Ok(NameId::new(index));
        }
        if self.names.len() == NAMES_MAX {
            let name = printable(name);
            return Err(RegisterError::TooManyNames { name });
        }
        self.names.push(Registered {
            name: name.into(),
            make: Some(make),
        });
        Ok(NameId::new(self.names.len() - 1))
    }

    /// Shows the packets of each shard to what `make` returns, behind their handlers. Set before the engine starts; the last one
    /// counts. Called as the makers of handlers are, also for readers.
    pub fn tap(&mut self, make: impl Fn(ShardId) -> Option<Box<dyn Tap>> + Send + Sync + 'static) {
        self.tap = Some(Box::new(make));
    }

    /// Takes `name` back; `None` when nobody is registered for it.
    pub fn remove(&mut self, name: &[u8]) -> Option<NameId> {
        let index = self.position(name)?;
        drop(self.names[index].make.take()?);
        Some(NameId::new(index))
    }

    /// The names that were registered more than once, each once, in order.
    #[must_use]
    pub fn replaced(&self) -> &[NameReplaced] {
        &self.replaced
    }

    /// The number of a name that was ever registered.
    #[must_use]
    pub fn id(&self, name: &[u8]) -> Option<NameId> {
        self.position(name).map(NameId::new)
    }

    /// The table of this moment.
    #[must_use]
    pub fn table(&self) -> Table {
        Table::new(
            self.with_ids()
                .filter(|(_, entry)| entry.make.is_some())
                .map(|(id, entry)| (entry.name.clone(), id)),
        )
    }

    /// What a shard begins with, and dispatches by until it is told of a change.
    #[must_use]
    pub fn build(&self, shard: ShardId, table: &Arc<Table>) -> Dispatch {
        let mut handlers = Handlers::none();
        for (id, _) in self.with_ids() {
            handlers.put(id, self.make(id, shard));
        }
        handlers.set_tap(self.tap.as_ref().and_then(|make| make(shard)));
        Dispatch {
            table: Arc::clone(table),
            handlers,
            names: self
                .with_ids()
                .map(|(id, entry)| (id, entry.name.clone()))
                .collect(),
        }
    }

    /// Makes the handler of `id` for `shard`; `None` for a name that was removed.
    pub(crate) fn make(&self, id: NameId, shard: ShardId) -> Option<Box<dyn Handler>> {
        let make = self.names.get(id.index())?.make.as_ref()?;
        Some(make(shard))
    }

    fn with_ids(&self) -> impl ExactSizeIterator<Item = (NameId, &Registered)> {
        let entries = self.names.iter().enumerate();
        entries.map(|(index, entry)| (NameId::new(index), entry))
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|known| *known.name == *name)
    }
}

impl fmt::Display for NameReplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} was registered more than once; the last handler gets its packets",
            self.name
        )
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names.iter().map(|entry| printable(&entry.name));
        f.debug_list().entries(names).finish()
    }
}

fn printable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::handler::{Context, Verdict};
    use binrush_wire::Packet;

    fn handled(_: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
        Verdict::Handled
    }

    #[test]
    fn names_are_compared_whole_and_as_bytes() {
        let mut registry = Registry::new();
        for name in [&b"dialog"[..], b"\xFFdialog"] {
            registry.register(name, |_| handled).unwrap();
        }
        let table = registry.table();
        assert_eq!(table.lookup(b"dialog").map(NameId::index), Some(0));
        assert_eq!(table.lookup(b"\xFFdialog").map(NameId::index), Some(1));
        for stranger in [&b"dialog2"[..], b"dialo", b"DIALOG", b"dialog\0"] {
            assert_eq!(table.lookup(stranger), None);
        }
    }

    #[test]
    fn the_last_registration_of_a_name_wins_and_is_told() {
        let mut registry = Registry::new();
        for name in [&b"ul"[..], b"dialog", b"ul"] {
            registry.register(name, |_| handled).unwrap();
        }
        let warning = registry.replaced()[0].to_string();
        assert_eq!(
            warning,
            "\"ul\" was registered more than once; the last handler gets its packets"
        );
        let table = registry.table();
        assert_eq!(table.names().collect::<Vec<_>>(), [&b"ul"[..], b"dialog"]);
    }

    #[test]
    fn a_removed_name_leads_nowhere_and_comes_back_under_its_number() {
        let mut registry = Registry::new();
        let ul = registry.register(b"ul", |_| handled).unwrap();
        registry.register(b"dialog", |_| handled).unwrap();
        assert_eq!(registry.remove(b"ul"), Some(ul));
        assert_eq!(
            (registry.remove(b"ul"), registry.remove(b"tm")),
            (None, None)
        );
        assert_eq!(registry.table().lookup(b"ul"), None);
        assert!(registry.make(ul, ShardId(0)).is_none());

        let again = registry.register(b"ul", |_| handled).unwrap();
        assert_eq!((again, registry.replaced().len()), (ul, 0));
        assert_eq!(registry.table().lookup(b"ul"), Some(ul));
    }

    #[test]
    fn a_full_table_takes_no_new_name_but_still_replaces() {
        let mut registry = Registry::new();
        for i in 0..NAMES_MAX {
            registry
                .register(i.to_string().as_bytes(), |_| handled)
                .unwrap();
        }
        let error = registry.register(b"one more", |_| handled).unwrap_err();
        let name = "one more".into();
        assert_eq!(error, RegisterError::TooManyNames { name });
        assert!(registry.register(b"0", |_| handled).is_ok());
        assert_eq!(registry.table().names().len(), NAMES_MAX);
    }
}
