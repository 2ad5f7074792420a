//! Names and the makers of their handlers.

use std::fmt;
use std::sync::Arc;

use super::front::Front;
use super::handler::{Handler, ShardId};
use super::tap::Tap;
use super::{Handlers, NAMES_MAX, NameId, Table};

/// Makers of handlers by module name: what an engine starts with, and what it changes while it runs.
#[derive(Default)]
pub struct Registry {
    /// In the order of first registration; a name that was removed keeps its place.
    names: Vec<Registered>,
    /// The shard that handles all packets, of whatever name.
    home: Option<ShardId>,
    replaced: Vec<NameReplaced>,
    front: Option<Box<MakeFront>>,
    tap: Option<Box<MakeTap>>,
    beginnings: Vec<Arc<Begin>>,
    wants_sources: bool,
}

struct Registered {
    /// Of a [resident](Registry::resident), what it is called among people.
    name: Box<[u8]>,
    /// `None`: removed.
    make: Option<Box<Make>>,
    /// The shard that handles all of its packets.
    home: Option<ShardId>,
    /// No packet leads to it.
    is_resident: bool,
}

/// A shard's own handlers, and the table that leads to them.
#[derive(Debug)]
pub struct Dispatch {
    pub(crate) table: Arc<Table>,
    pub(crate) handlers: Handlers,
    pub(crate) names: Vec<(NameId, Box<[u8]>)>,
    pub(crate) beginnings: Beginnings,
    /// Whether datagrams are to say where they came from.
    pub(crate) wants_sources: bool,
}

/// What is done on a shard's own thread before it receives.
#[derive(Default)]
pub(crate) struct Beginnings(Vec<Arc<Begin>>);

/// Why a shard cannot begin: in words that name whose it is.
pub type NoBeginning = Box<dyn std::error::Error + Send + Sync>;

type Begin = dyn Fn(ShardId) -> Result<(), NoBeginning> + Send + Sync;

type MakeFront = dyn Fn(ShardId) -> Option<Box<dyn Front>> + Send + Sync;

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
            self.names[index].home = None;
            let before = self.names[index].make.replace(make);
            let replaced = NameReplaced {
                name: printable(name),
            };
            if before.is_some() && !self.replaced.contains(&replaced) {
                self.replaced.push(replaced);
            }
            return Ok(NameId::new(index));
        }
        self.add(Registered {
            name: name.into(),
            make: Some(make),
            home: None,
            is_resident: false,
        })
    }

    /// Makes what `make` returns a handler that no packet leads to: it has its [turns](Handler::turn) on every shard, and is
    /// [told](Handler::tell) messages by the number that this answers. `called` is for people, and may be the name of a
    /// packet.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn resident<H: Handler + 'static>(
        &mut self,
        called: &str,
        make: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<NameId, RegisterError> {
        self.add(Registered {
            name: called.as_bytes().into(),
            make: Some(Box::new(move |shard| Box::new(make(shard)))),
            home: None,
            is_resident: true,
        })
    }

    fn add(&mut self, entry: Registered) -> Result<NameId, RegisterError> {
        if self.names.len() == NAMES_MAX {
            let name = printable(&entry.name);
            return Err(RegisterError::TooManyNames { name });
        }
        self.names.push(entry);
        Ok(NameId::new(self.names.len() - 1))
    }

    /// Has all packets of `name` handled on `home`, by one thread and in the order in which they arrived there, whatever
    /// record they are about: datagrams, packets of connections, and what handlers made of others. `false`: nobody
    /// registered the name.
    ///
    /// The kernel goes on to steer by the record, so most come by mail. An engine without such a shard does not start.
    pub fn keep_on_one_shard(&mut self, name: &[u8], home: ShardId) -> bool {
        let index = self.position(name);
        index.is_some_and(|index| {
            self.names[index].home = Some(home);
            true
        })
    }

    /// The same of all packets, whoever they are for and whenever that one is registered, and of those that nobody is registered
    /// for: what stands in [front](Self::front) of handlers sees them on one thread.
    ///
    /// Also of names that are [local](crate::dispatch::Table::is_local) otherwise. Their handlers have no connection to answer on
    /// where a packet came by mail, so this is not for an engine with clusters, but where one shard does everything.
    pub fn keep_all_on_one_shard(&mut self, home: ShardId) {
        self.home = Some(home);
    }

    /// Has `begin` called on each shard's own thread, when all is ready and before anything is received by any of them; the
    /// readers' too, with numbers behind those of the owners. In the order in which they were given; shard after shard. When
    /// one fails, the engine does not start.
    pub fn at_beginning(
        &mut self,
        begin: impl Fn(ShardId) -> Result<(), NoBeginning> + Send + Sync + 'static,
    ) {
        self.beginnings.push(Arc::new(begin));
    }

    /// A name that is to be kept on a shard that is none of so many `owners`, and on which.
    pub(crate) fn homeless(&self, owners: u16) -> Option<(String, ShardId)> {
        if let Some(home) = self.home.filter(|home| home.0 >= owners) {
            return Some(("(of any name)".to_owned(), home));
        }
        let mut kept = self.names.iter().filter(|entry| entry.make.is_some());
        kept.find_map(|entry| {
            let home = entry.home.filter(|home| home.0 >= owners)?;
            Some((printable(&entry.name), home))
        })
    }

    /// Lets what `make` returns decide which packets of each shard come to their handlers. Otherwise as [`tap`](Self::tap).
    pub fn front(
        &mut self,
        make: impl Fn(ShardId) -> Option<Box<dyn Front>> + Send + Sync + 'static,
    ) {
        self.front = Some(Box::new(make));
    }

    /// Shows the packets of each shard to what `make` returns, behind their handlers. Set before the engine starts; the last one
    /// counts. Called as the makers of handlers are, also for readers.
    pub fn tap(&mut self, make: impl Fn(ShardId) -> Option<Box<dyn Tap>> + Send + Sync + 'static) {
        self.tap = Some(Box::new(make));
    }

    /// Has each datagram say where it came from ([`Origin::Datagram`](super::handler::Origin::Datagram)), on all shards; not to be
    /// undone. Set before the engine starts. The kernel then writes an address for each, which costs 60 ns and by io_uring 180, so it is for who needs it; what comes
    /// by connections says it anyway.
    pub const fn ask_sources(&mut self) {
        self.wants_sources = true;
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
        let residents = self.with_ids().filter(|(_, entry)| entry.is_resident);
        let residents = residents.fold(0, |all, (id, _)| all | 1 << id.index());
        Table::new(
            self.with_ids()
                .filter(|(_, entry)| entry.make.is_some() && !entry.is_resident)
                .map(|(id, entry)| (entry.name.clone(), id, entry.home)),
            self.home,
            residents,
        )
    }

    /// What a shard begins with, and dispatches by until it is told of a change.
    #[must_use]
    pub fn build(&self, shard: ShardId, table: &Arc<Table>) -> Dispatch {
        let mut handlers = Handlers::none();
        for (id, _) in self.with_ids() {
            handlers.put(id, self.make(id, shard));
        }
        handlers.set_front(self.front.as_ref().and_then(|make| make(shard)));
        handlers.set_tap(self.tap.as_ref().and_then(|make| make(shard)));
        Dispatch {
            table: Arc::clone(table),
            handlers,
            names: self
                .with_ids()
                .filter(|(_, entry)| !entry.is_resident)
                .map(|(id, entry)| (id, entry.name.clone()))
                .collect(),
            beginnings: Beginnings(self.beginnings.clone()),
            wants_sources: self.wants_sources,
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
        let is_it = |known: &Registered| !known.is_resident && *known.name == *name;
        self.names.iter().position(is_it)
    }
}

impl Beginnings {
    /// Calls them for `shard`, on whose thread this is.
    pub(crate) fn run(&self, shard: ShardId) -> Result<(), NoBeginning> {
        self.0.iter().try_for_each(|begin| begin(shard))
    }
}

impl fmt::Debug for Beginnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Beginnings({})", self.0.len())
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
    fn a_resident_has_a_number_and_no_packet_leads_to_it() {
        let mut registry = Registry::new();
        let resident = registry.resident("ul", |_| handled).unwrap();
        assert_eq!(registry.id(b"ul"), None);
        let ul = registry.register(b"ul", |_| handled).unwrap();
        assert_ne!(resident, ul);
        let table = Arc::new(registry.table());
        assert_eq!(table.lookup(b"ul"), Some(ul));
        let mut dispatch = registry.build(ShardId(0), &table);
        assert!(dispatch.handlers.of(resident).is_some());
        // It counts no packets, so it is in no ledger.
        let named: Vec<_> = dispatch.names.iter().map(|(id, _)| *id).collect();
        assert_eq!(named, [ul]);
        assert!(registry.replaced().is_empty());
    }

    #[test]
    fn a_name_that_is_kept_on_one_shard_is_local_nowhere() {
        let mut registry = Registry::new();
        let names = [&b"clusterer-internal"[..], b"clusterer-extra", b"greeting"];
        let [kept, local, free] = names.map(|name| registry.register(name, |_| handled).unwrap());
        assert!(registry.keep_on_one_shard(names[0], ShardId(1)));
        assert!(!registry.keep_on_one_shard(b"stranger", ShardId(1)));
        let table = registry.table();
        assert!(table.has_homes() && !Registry::new().table().has_homes());
        assert_eq!(
            [kept, local, free].map(|id| table.home(id)),
            [Some(ShardId(1)), None, None]
        );
        assert_eq!(
            [kept, local, free].map(|id| table.is_local(id)),
            [false, true, false]
        );
        assert_eq!(table.home_of(names[0]), Some(ShardId(1)));
        assert_eq!(table.home_of(b"stranger"), None);
        assert_eq!(registry.homeless(2), None);
        let told = ("clusterer-internal".to_owned(), ShardId(1));
        assert_eq!(registry.homeless(1), Some(told));
    }

    #[test]
    fn all_packets_may_be_kept_on_one_shard_strangers_among_them() {
        let mut registry = Registry::new();
        let names = [&b"clusterer-internal"[..], b"greeting"];
        let [internal, greeting] = names.map(|name| registry.register(name, |_| handled).unwrap());
        assert!(registry.keep_on_one_shard(names[1], ShardId(1)));
        assert_eq!(registry.table().home_of_all(), None);
        registry.keep_all_on_one_shard(ShardId(2));
        let table = registry.table();
        assert_eq!(
            [internal, greeting].map(|id| table.home(id)),
            [Some(ShardId(2)); 2]
        );
        assert!(!table.is_local(internal) && table.has_homes());
        assert_eq!(table.home_of(b"stranger"), Some(ShardId(2)));
        let told = ("(of any name)".to_owned(), ShardId(2));
        assert_eq!(registry.homeless(2), Some(told));
        assert_eq!(registry.homeless(3), None);
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
