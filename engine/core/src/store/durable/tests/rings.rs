use super::*;

/// A start with its rings in the folder `run`.
fn begin(ground: &Ground, run: &str) -> Life {
    let options = StateOptions {
        runtime_dir: ground.0.join(run),
        ..ground.options(1)
    };
    let mut state = State::open(&options).unwrap();
    let cache = cache(&mut state);
    let now = Duration::ZERO;
    Life { state, cache, now }
}

fn set(map: &mut BTreeMap<String, Vec<u8>>, life: &mut Life, key: &str, value: &[u8]) {
    life.set(key, value);
    map.insert(key.to_owned(), value.to_vec());
}

fn rings(ground: &Ground, run: &str) -> usize {
    fs::read_dir(ground.0.join(run)).map_or(0, Iterator::count)
}

fn is_told(life: &Life, is: fn(&Note) -> bool) -> bool {
    life.state.notes().iter().any(is)
}

#[test]
fn from_one_runtime_folder_to_another_and_back_there_is_one_history() {
    let ground = Ground::new();
    let mut map = BTreeMap::new();
    let mut life = begin(&ground, "a");
    set(&mut map, &mut life, "first", b"of a");
    set(&mut map, &mut life, "second", b"of a");
    let mut lsns = life.lsns();
    for (run, other) in [("b", "a"), ("a", "b"), ("b", "a")] {
        drop(life);
        life = begin(&ground, run);
        assert_eq!((life.values(), life.lsns()), (map.clone(), lsns), "{run}");
        assert_eq!((rings(&ground, run), rings(&ground, other)), (1, 0));
        assert!(!is_told(&life, |note| !matches!(
            note,
            Note::NotInMemory { .. }
        )));
        set(&mut map, &mut life, "second", run.as_bytes());
        set(&mut map, &mut life, run, b"new");
        lsns = life.lsns();
    }
}

#[test]
fn a_ring_of_an_earlier_life_is_put_aside_and_not_read() {
    let ground = Ground::new();
    let mut map = BTreeMap::new();
    let mut life = begin(&ground, "a");
    set(&mut map, &mut life, "first", b"of a");
    drop(life);
    let left = ground.0.join("left");
    fs::rename(ground.0.join("a"), &left).unwrap();
    // Its folder is gone, and what was in it, so this life has other changes of the same numbers.
    map.clear();
    let mut life = begin(&ground, "b");
    assert_eq!(life.values(), map);
    // Of nothing that was on the disk nobody can say that something is missing.
    set(&mut map, &mut life, "other", b"of b");
    drop(life);
    fs::rename(&left, ground.0.join("a")).unwrap();
    let life = begin(&ground, "a");
    assert_eq!(life.values(), map);
    assert!(is_told(&life, |note| matches!(
        note,
        Note::RingAside { .. }
    )));
    assert_eq!(rings(&ground, "a"), 2, "the new one and the one aside");
    // What is aside goes with the end in order of a life that it was told to.
    let (journals, _) = life.state.start().unwrap();
    drop(life.cache);
    journals.stop(true).unwrap();
    drop(begin(&ground, "a"));
    assert_eq!(rings(&ground, "a"), 1);
}

#[test]
fn the_rings_of_a_folder_that_is_gone_are_missed() {
    let ground = Ground::new();
    let mut map = BTreeMap::new();
    let mut life = begin(&ground, "a");
    set(&mut map, &mut life, "early", b"1");
    life.turn(300);
    life.set("late", b"2");
    drop(life);
    fs::remove_dir_all(ground.0.join("a")).unwrap();
    let life = begin(&ground, "b");
    assert_eq!(life.values(), map);
    let missing = life.state.notes().iter();
    let missing = missing.filter(|note| matches!(note, Note::RingMissing { .. }));
    assert_eq!(missing.count(), 1, "{:?}", life.state.notes());
}

#[test]
fn a_copy_leaves_the_rings_of_its_original_alone() {
    let ground = Ground::new();
    let mut map = BTreeMap::new();
    let mut life = begin(&ground, "a");
    set(&mut map, &mut life, "early", b"1");
    life.turn(300);
    let early = map.clone();
    set(&mut map, &mut life, "late", b"2");
    drop(life);
    let copy = Ground::new();
    damage::copy(&ground.0, &copy.0);
    fs::remove_dir_all(copy.0.join("a")).unwrap();
    assert_eq!(begin(&copy, "b").values(), early);
    assert_eq!(begin(&ground, "a").values(), map);
}

#[test]
fn a_runtime_folder_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let ground = Ground::new();
    let options = ground.options(1);
    fs::create_dir_all(&options.runtime_dir).unwrap();
    fs::set_permissions(&options.runtime_dir, fs::Permissions::from_mode(0o770)).unwrap();
    let error = ground.open(1).unwrap_err().to_string();
    assert!(
        error.contains("mode 770") && error.contains("chmod 700"),
        "{error}"
    );
    fs::set_permissions(&options.runtime_dir, fs::Permissions::from_mode(0o700)).unwrap();
    ground.open(1).unwrap();
}

#[test]
fn rings_that_cannot_be_used_are_kept_beside_each_other_and_are_few() {
    let ground = Ground::new();
    let mut life = begin(&ground, "a");
    life.set("key", b"value");
    drop(life);
    for broken in 0..8 {
        let names = fs::read_dir(ground.0.join("a")).unwrap();
        let paths = names.map(|entry| entry.unwrap().path());
        let ring = paths
            .into_iter()
            .find(|path| path.extension().is_some_and(|is| is == "ring"));
        fs::write(ring.unwrap(), [broken; 4096]).unwrap();
        let life = begin(&ground, "a");
        assert!(is_told(&life, |note| matches!(note, Note::Refused { .. })));
        assert_eq!(rings(&ground, "a"), 1 + usize::from(broken + 1).min(4));
    }
}

#[test]
fn rings_that_have_no_room_are_refused_before_any_is_made() {
    let ground = Ground::new();
    let state = ground.open(3).unwrap();
    state.check_room(&[CACHE, DIALOGS]).unwrap();
    drop(state);
    let options = StateOptions {
        ring_bytes: binrush_journal::ring::CAPACITY_MAX,
        ..ground.options(u16::MAX)
    };
    let mut state = State::open(&options).unwrap();
    let (limits, sockets) = (Limits::default(), Sockets::default());
    let error = state
        .table(CACHE, Family::Cache, limits, NOW, &sockets)
        .unwrap_err();
    let need = u64::from(u16::MAX) * ((1 << 32) + 4096);
    assert!(
        matches!(error, StateError::NoRoom { rings: 65_535, need: found, .. } if found == need),
        "{error}"
    );
    assert!(error.to_string().contains("has to have room for rings"));
    assert_eq!(rings(&ground, "run"), 0);
}

#[test]
fn a_start_that_failed_leaves_no_empty_rings() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 2);
    life.set("key", b"value");
    let (journals, _) = life.state.start().unwrap();
    drop(life.cache);
    journals.stop(true).unwrap();
    fs::remove_dir_all(ground.0.join("run")).unwrap();
    let epoch = ground.manifest().epoch;
    let mut state = ground.open(2).unwrap();
    let folder = state.paths.of_journal(epoch, 1, 1);
    fs::rename(&folder, ground.0.join("away")).unwrap();
    let (limits, sockets) = (Limits::default(), Sockets::default());
    state
        .table(DIALOGS, Family::Dialogs, limits, NOW, &sockets)
        .unwrap();
    assert_eq!(rings(&ground, "run"), 2);
    let error = state
        .table(CACHE, Family::Cache, limits, NOW, &sockets)
        .unwrap_err();
    assert!(matches!(error, StateError::FolderGone { .. }), "{error}");
    assert_eq!(rings(&ground, "run"), 0);
    assert!(ground.manifest().ended, "nobody is to miss them");
    drop(state);
    fs::rename(ground.0.join("away"), folder).unwrap();
    let life = Life::begin(&ground, 2);
    assert_eq!(life.values().len(), 1);
    assert!(!is_told(&life, |note| matches!(
        note,
        Note::RingMissing { .. }
    )));
}
