//! What `child_init` registered, shard by shard.
//!
//! A process of OpenSIPS has a table of its own, and so has a shard here: where a reentrant module registers one name on every shard,
//! each calls what its own `child_init` gave, with the attachment that it gave.

use std::collections::BTreeMap;

use binrush::bin::Registration;
use binrush::handler::{Care, ModuleHandler};
use binrush_engine::ShardId;

/// That of one module. It stays: shards that are started again have it from the start.
#[derive(Debug, Default)]
pub(super) struct Late {
    entries: Vec<Entry>,
    /// Names that the engine has otherwise, or not at all.
    news: Vec<Box<[u8]>>,
}

/// A name, and who takes its packets on which shard.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// That of the shard that registered it before the others, and of those that do not.
    first: Registration,
    first_on: ShardId,
    /// Those of the others.
    on: BTreeMap<u16, Registration>,
}

impl Late {
    /// Takes over what one `child_init` registered on `shard`, instead of what that had before: of two with one name the last.
    pub(super) fn add(&mut self, shard: ShardId, registered: Vec<Registration>) {
        for registration in registered {
            let name = &registration.name;
            if !self.news.contains(name) {
                self.news.push(name.clone());
            }
            match self
                .entries
                .iter_mut()
                .find(|each| each.first.name == *name)
            {
                Some(entry) if entry.first_on == shard => entry.first = registration,
                Some(entry) => drop(entry.on.insert(shard.0, registration)),
                None => self.entries.push(Entry::new(shard, registration)),
            }
        }
    }

    /// All of it, none of which is new any more.
    pub(super) fn all(&mut self) -> Vec<Entry> {
        self.news.clear();
        self.entries.clone()
    }

    /// What was registered since the last time.
    pub(super) fn news(&mut self) -> Vec<Entry> {
        let news = std::mem::take(&mut self.news);
        let new = self
            .entries
            .iter()
            .filter(|each| news.contains(&each.first.name));
        new.cloned().collect()
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = Vec<u8>> {
        self.entries.iter().map(|each| each.name().to_vec())
    }
}

impl Entry {
    /// Registered on `shard`, and for those that register nothing of that name.
    pub(super) fn new(shard: ShardId, registration: Registration) -> Self {
        Self {
            first: registration,
            first_on: shard,
            on: BTreeMap::new(),
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.first.name
    }

    /// What calls it on `shard`.
    pub(super) fn handler(&self, shard: ShardId, care: &Care) -> ModuleHandler {
        ModuleHandler::new(self.registration(shard), care)
    }

    fn registration(&self, shard: ShardId) -> &Registration {
        self.on.get(&shard.0).unwrap_or(&self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use binrush::bin::Callback;
    use binrush::bin::registrations::LegacyCall;
    use std::ffi::c_int;

    extern "C" fn one(_: c_int) {}
    extern "C" fn other(_: c_int) {}

    fn of(name: &str, call: LegacyCall) -> Registration {
        Registration {
            name: name.as_bytes().into(),
            callback: Callback::Legacy(call),
        }
    }

    /// Whether it is `other` that is called on these shards.
    fn is_other(entry: &Entry, shards: [u16; 3]) -> [bool; 3] {
        let other = format!("{:?}", of("", other).callback);
        shards.map(|shard| format!("{:?}", entry.registration(ShardId(shard)).callback) == other)
    }

    #[test]
    fn each_shard_has_the_last_of_its_own_and_others_the_first() {
        let mut late = Late::default();
        late.add(ShardId(1), vec![of("a", one)]);
        late.add(ShardId(0), vec![of("a", one), of("b", one), of("a", other)]);
        let news = late.news();
        let names: Vec<_> = news.iter().map(Entry::name).collect();
        assert_eq!(names, [b"a", b"b"]);
        assert_eq!(is_other(&news[0], [0, 1, 2]), [true, false, false]);
        assert!(late.news().is_empty());
        // Shards that are started again.
        late.add(ShardId(1), vec![of("a", other)]);
        let news = late.news();
        assert_eq!(news.len(), 1);
        assert_eq!(is_other(&news[0], [0, 1, 2]), [true; 3]);
        assert_eq!(late.all().len(), 2);
        assert!(late.news().is_empty());
    }

    #[test]
    fn of_two_with_one_name_in_one_child_init_the_last_is_called() {
        let mut late = Late::default();
        late.add(ShardId(0), vec![of("a", one), of("a", other)]);
        assert_eq!(is_other(&late.news()[0], [0, 0, 0]), [true; 3]);
    }
}
