use super::*;
use binrush_store::model::{Aor, Cached, Contact, Dialog};
use binrush_store::{Applied, Change, Effects, Now, Record};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes that are not what was written.
mod damage;
/// Records from elsewhere.
mod import;
/// Kills, losses, ends.
mod lives;
/// Other runtime folders, and rings of other lives.
mod rings;
/// Other numbers of shards.
mod shards;
/// Snapshots in slices.
mod slices;

/// Seconds since 1970.
const NOW: i64 = 1_800_000_000;

const CACHE: &str = "1/cachedb-local-repl";
const CONTACTS: &str = "1/usrloc-contact-repl";
const DIALOGS: &str = "dialog";

/// A folder that goes with it.
struct Ground(PathBuf);

impl Ground {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("binrush-state-{}-{number}", std::process::id());
        // A sync costs nothing in memory.
        let memory = Path::new("/dev/shm");
        let path = match memory.is_dir() {
            true => memory.join(name),
            false => std::env::temp_dir().join(name),
        };
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn options(&self, shards: u16) -> StateOptions {
        StateOptions {
            state_dir: self.0.join("state"),
            runtime_dir: self.0.join("run"),
            fsync_interval: Duration::from_millis(200),
            ring_bytes: 1 << 16,
            shards,
        }
    }

    fn open(&self, shards: u16) -> Result<State, StateError> {
        let mut state = State::open(&self.options(shards))?;
        // Many snapshots.
        state.options.snapshot_after = 20_000;
        state.options.log_len = 16 << 10;
        Ok(state)
    }

    /// The whole of what a tool reads, by table and record, and what it is owned by.
    fn read(&self) -> BTreeMap<(String, String), u16> {
        let StateOptions {
            state_dir,
            runtime_dir,
            ..
        } = self.options(1);
        let mut rows = BTreeMap::new();
        let reading = read(&state_dir, Some(&runtime_dir), &mut |row| {
            let key = (row.table.to_owned(), text(row.flat));
            let before = rows.insert(key, row.shard);
            assert_eq!(before, None, "a record is there once");
        });
        let read: u64 = reading
            .unwrap()
            .journals
            .iter()
            .map(|journal| journal.recovered.records)
            .sum();
        assert_eq!(read, rows.len() as u64);
        rows
    }

    fn manifest(&self) -> Manifest {
        let state_dir = self.options(1).state_dir;
        let manifest = Manifest::load(&Folder::to_read(&state_dir), &state_dir);
        manifest.unwrap().unwrap()
    }

    fn verify(&self) -> Verified {
        let options = self.options(1);
        verify(&options.state_dir, Some(&options.runtime_dir)).unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A start that nobody began to write for: threads would have their own time.
struct Life {
    state: State,
    cache: Vec<(Store, Journaled)>,
    now: Duration,
}

impl Life {
    fn begin(ground: &Ground, shards: u16) -> Self {
        let mut state = ground.open(shards).unwrap();
        let cache = cache(&mut state);
        Self {
            state,
            cache,
            now: Duration::ZERO,
        }
    }

    fn set(&mut self, key: &str, value: &[u8]) {
        let change = Change::CacheInserted(cached(key, value));
        assert!(matches!(
            self.apply(key, &change),
            Applied::Created | Applied::Updated | Applied::Nothing(_)
        ));
    }

    fn remove(&mut self, key: &str) {
        self.apply(key, &Change::CacheRemoved(b"local", key.as_bytes()));
    }

    fn apply(&mut self, key: &str, change: &Change<'_>) -> Applied {
        let owner = self.state.steering().owner_of_key(key.as_bytes());
        let (store, journaled) = &mut self.cache[usize::from(owner)];
        let now = Now { unix: NOW, tick: 1 };
        store.apply(now, change, 1, journaled)
    }

    /// Each writer has a turn, and each shard.
    fn turn(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for writers in &mut self.state.writers {
            for writer in writers {
                writer.turn(self.now);
            }
        }
        for (store, journaled) in &mut self.cache {
            journaled.turn(store);
        }
    }

    /// Values by key.
    fn values(&self) -> BTreeMap<String, Vec<u8>> {
        let mut values = BTreeMap::new();
        for (store, _) in &self.cache {
            each(store, &mut |_, flat| {
                let Record::Cached(cached) = Record::read(flat).unwrap().0 else {
                    panic!("a cached entry");
                };
                let key = String::from_utf8(cached.key.into()).unwrap();
                assert_eq!(values.insert(key, cached.value.to_vec()), None);
            });
        }
        values
    }

    fn lsns(&self) -> Vec<u64> {
        let each = self.cache.iter();
        each.map(|(_, journaled)| journaled.lsn()).collect()
    }
}

fn cache(state: &mut State) -> Vec<(Store, Journaled)> {
    state
        .table(
            CACHE,
            Family::Cache,
            Limits::default(),
            NOW,
            &Sockets::default(),
        )
        .unwrap()
}

fn cached<'a>(key: &'a str, value: &'a [u8]) -> Cached<'a> {
    Cached {
        collection: b"local",
        key: key.as_bytes(),
        value,
        expires: 0,
    }
}

/// All records of a store, with their places.
fn each(store: &Store, each: &mut dyn FnMut(u32, &[u8])) {
    let mut from = Some(0);
    while let Some(place) = from {
        from = store.walk(place, 1 << 20, each);
    }
}

fn text(flat: &[u8]) -> String {
    match Record::read(flat) {
        Ok((record, _)) => format!("{record:?}"),
        Err(error) => format!("{error}: {flat:?}"),
    }
}

/// A generator whose draws of a seed are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
