//! What `child_init` registered, shard by shard.
//!
//! A process of OpenSIPS has a table of its own, and so has a shard here: where a reentrant module registers one name on every shard,
//! each calls what its own `child_init` gave, with the attachment that it gave; and one whose `child_init` gave nothing calls nothing.

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
    name: Box<[u8]>,
    /// What `mod_init` registered, before there were shards: for those whose `child_init` did not.
    everywhere: Option<Registration>,
    /// What each `child_init` did, for its own shard.
    on: BTreeMap<u16, Registration>,
}

impl Late {
    /// Takes over what one `child_init` registered on `shard`: of two with one name the last. What that had before is of a thread that
    /// has ended, with what it may have had of its own.
    pub(super) fn add(&mut self, shard: ShardId, registered: Vec<Registration>) {
        for entry in &mut self.entries {
            if entry.on.remove(&shard.0).is_some() {
                note(&mut self.news, &entry.name);
            }
        }
        for registration in registered {
            let name = &registration.name;
            note(&mut self.news, name);
            let is_it = |each: &&mut Entry| each.name == *name;
            match self.entries.iter_mut().find(is_it) {
                Some(entry) => drop(entry.on.insert(shard.0, registration)),
                None => self.entries.push(Entry::on(shard, registration)),
            }
        }
    }

    /// All of it, none of which is new any more.
    pub(super) fn all(&mut self) -> Vec<Entry> {
        self.news.clear();
        self.entries.clone()
    }

    /// What changed since the last time.
    pub(super) fn news(&mut self) -> Vec<Entry> {
        let news = std::mem::take(&mut self.news);
        let new = self.entries.iter().filter(|each| news.contains(&each.name));
        new.cloned().collect()
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = Vec<u8>> {
        self.entries.iter().map(|each| each.name().to_vec())
    }
}

impl Entry {
    /// Registered for all shards.
    pub(super) fn everywhere(registration: Registration) -> Self {
        Self {
            name: registration.name.clone(),
            everywhere: Some(registration),
            on: BTreeMap::new(),
        }
    }

    /// With what `mod_init` registered, of which there may be one of this name.
    pub(super) fn behind(mut self, initial: &[Registration]) -> Self {
        let mut same = initial.iter().filter(|each| each.name == self.name);
        self.everywhere = same.next_back().cloned();
        self
    }

    fn on(shard: ShardId, registration: Registration) -> Self {
        Self {
            name: registration.name.clone(),
            everywhere: None,
            on: BTreeMap::from([(shard.0, registration)]),
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// What calls it on `shard`; or counts what it does not call there.
    pub(super) fn handler(&self, shard: ShardId, care: &Care) -> ModuleHandler {
        match self.registration(shard) {
            Some(registration) => ModuleHandler::new(registration, care),
            None => ModuleHandler::without_callback(care),
        }
    }

    fn registration(&self, shard: ShardId) -> Option<&Registration> {
        self.on.get(&shard.0).or(self.everywhere.as_ref())
    }
}

fn note(news: &mut Vec<Box<[u8]>>, name: &[u8]) {
    if !news.iter().any(|each| **each == *name) {
        news.push(name.into());
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

    /// Whether it is `other` that is called on these shards; `None`: nothing is.
    fn is_other(entry: &Entry, shards: [u16; 3]) -> [Option<bool>; 3] {
        let other = format!("{:?}", of("", other).callback);
        shards.map(|shard| {
            let registration = entry.registration(ShardId(shard))?;
            Some(format!("{:?}", registration.callback) == other)
        })
    }

    #[test]
    fn each_shard_has_the_last_of_its_own_and_no_other_ones() {
        let mut late = Late::default();
        late.add(ShardId(1), vec![of("a", one)]);
        late.add(ShardId(0), vec![of("a", one), of("b", one), of("a", other)]);
        let news = late.news();
        let names: Vec<_> = news.iter().map(Entry::name).collect();
        assert_eq!(names, [b"a", b"b"]);
        let (is_one, is_other_one) = (Some(false), Some(true));
        assert_eq!(is_other(&news[0], [0, 1, 2]), [is_other_one, is_one, None]);
        assert_eq!(is_other(&news[1], [0, 1, 2]), [is_one, None, None]);
        assert!(late.news().is_empty());
    }

    #[test]
    fn a_shard_that_is_started_again_has_what_it_registers_then_and_nothing_of_before() {
        let mut late = Late::default();
        for shard in [0, 1] {
            late.add(ShardId(shard), vec![of("a", one), of("b", one)]);
        }
        assert_eq!(late.all().len(), 2);
        assert!(late.news().is_empty());
        late.add(ShardId(1), vec![of("b", other)]);
        let news = late.news();
        assert_eq!(news.len(), 2, "one that is gone is news, too");
        assert_eq!(is_other(&news[0], [0, 1, 2]), [Some(false), None, None]);
        assert_eq!(
            is_other(&news[1], [0, 1, 2]),
            [Some(false), Some(true), None]
        );
        late.add(ShardId(0), Vec::new());
        assert_eq!(is_other(&late.all()[0], [0, 1, 2]), [None; 3]);
        assert_eq!(late.names().count(), 2, "its packets still have a counter");
    }

    #[test]
    fn what_mod_init_registered_is_called_on_all_shards() {
        let entry = Entry::everywhere(of("a", other));
        assert_eq!(is_other(&entry, [0, 1, 2]), [Some(true); 3]);
        let initial = [of("a", one), of("a", other), of("b", one)];
        let entry = Entry::on(ShardId(1), of("a", one)).behind(&initial);
        let called = [Some(true), Some(false), Some(true)];
        assert_eq!(
            is_other(&entry, [0, 1, 2]),
            called,
            "but where child_init did"
        );
    }

    #[test]
    fn of_two_with_one_name_in_one_child_init_the_last_is_called() {
        let mut late = Late::default();
        late.add(ShardId(0), vec![of("a", one), of("a", other)]);
        assert_eq!(is_other(&late.news()[0], [0, 0, 0]), [Some(true); 3]);
    }
}
