use super::*;

type Opened = (BTreeMap<String, Vec<u8>>, Vec<Note>);

fn open(ground: &Ground) -> Result<Opened, StateError> {
    let mut state = ground.open(1)?;
    let cache = state.table(
        CACHE,
        Family::Cache,
        Limits::default(),
        NOW,
        &Sockets::default(),
    )?;
    let now = Duration::ZERO;
    let life = Life { state, cache, now };
    Ok((life.values(), life.state.notes().to_vec()))
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    // As the state was made: nobody else may write it.
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let other = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &other),
            false => _ = fs::copy(&path, &other).unwrap(),
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_byte_anywhere_is_told_or_changes_nothing() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 1);
    life.state.writers[0][0].turn(Duration::ZERO);
    for number in 0..300 {
        let value = format!("{number:0>100}");
        life.set(&format!("key-{}", number % 20), value.as_bytes());
        if number % 7 == 0 {
            life.turn(100);
        }
    }
    let values = life.values();
    drop(life);
    let kinds = ["manifest", "log-", "snapshot-", ".ring"];
    let (mut told, mut met) = (0, [0; 4]);
    for file in files(&ground.0) {
        let name = file.strip_prefix(&ground.0).unwrap();
        let Some(kind) = kinds
            .iter()
            .position(|kind| name.to_string_lossy().contains(kind))
        else {
            continue;
        };
        met[kind] += 1;
        let len = fs::metadata(&file).unwrap().len();
        // Of the first bytes each, where headers are; then some.
        let step = (len / 40).max(1) | 1;
        let places = (0..48_u64.min(len)).chain((48..len).step_by(usize::try_from(step).unwrap()));
        for at in places {
            let other = Ground::new();
            copy(&ground.0, &other.0);
            let path = other.0.join(name);
            let mut bytes = fs::read(&path).unwrap();
            bytes[usize::try_from(at).unwrap()] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let options = other.options(1);
            let read = read(&options.state_dir, Some(&options.runtime_dir), &mut |_| {});
            let verified = verify(&options.state_dir, Some(&options.runtime_dir));
            match open(&other) {
                Err(error) => {
                    assert!(error.to_string().contains("byte"), "{name:?} {at}: {error}");
                    told += 1;
                }
                Ok((found, notes)) => {
                    let is_told = notes
                        .iter()
                        .any(|note| matches!(note, Note::Refused { .. }));
                    assert!(is_told || found == values, "{name:?} {at}");
                    assert!(read.is_ok() && verified.is_ok(), "{name:?} {at}");
                    told += u32::from(is_told);
                }
            }
        }
    }
    assert!(met.iter().all(|&met| met > 0), "{met:?}");
    assert!(told > 200, "{told}");
}

#[test]
fn what_is_missing_is_not_taken_for_empty() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 1);
    life.set("key", b"value");
    let epoch = life.state.paths.of_epoch(life.state.manifest.epoch);
    drop(life);
    let state_dir = ground.options(1).state_dir;
    let error = |ground: &Ground| open(ground).unwrap_err();

    fs::rename(epoch.join("t1-s0"), epoch.join("away")).unwrap();
    assert!(matches!(
        error(&ground),
        StateError::FolderGone { shard: 0, .. }
    ));
    let gone = read(&state_dir, None, &mut |_| {}).unwrap_err();
    assert!(matches!(gone, StateError::FolderGone { .. }), "{gone}");
    fs::rename(epoch.join("away"), epoch.join("t1-s0")).unwrap();

    fs::rename(state_dir.join("manifest"), state_dir.join("away")).unwrap();
    assert!(matches!(error(&ground), StateError::NoManifest { .. }));
    assert!(
        error(&ground).to_string().contains("manifest back"),
        "what to do"
    );
    let none = verify(&state_dir, None).unwrap_err();
    assert!(matches!(none, StateError::NoState { .. }), "{none}");

    fs::write(state_dir.join("manifest"), "binrush state 2\n").unwrap();
    assert!(matches!(error(&ground), StateError::Newer { at: 14, .. }));
    fs::rename(state_dir.join("away"), state_dir.join("manifest")).unwrap();
    assert_eq!(open(&ground).unwrap().0.len(), 1);
}

#[test]
fn files_of_another_table_are_foreign() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 2);
    for number in 0..10 {
        life.set(&format!("key-{number}"), b"value");
    }
    life.turn(300);
    let epoch = life.state.paths.of_epoch(life.state.manifest.epoch);
    drop(life);
    fs::rename(epoch.join("t1-s0"), epoch.join("away")).unwrap();
    fs::rename(epoch.join("t1-s1"), epoch.join("t1-s0")).unwrap();
    fs::rename(epoch.join("away"), epoch.join("t1-s1")).unwrap();
    let mut state = ground.open(2).unwrap();
    let error = state.table(
        CACHE,
        Family::Cache,
        Limits::default(),
        NOW,
        &Sockets::default(),
    );
    let error = error.unwrap_err();
    assert!(matches!(error, StateError::Journal { .. }), "{error}");
    assert!(error.to_string().contains("belongs to shard"), "{error}");
}

#[test]
fn what_cannot_be_is_refused_and_says_what_to_do() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 1);
    let limits = Limits::default();
    let mut refused = |name: &str, family| {
        let error = life
            .state
            .table(name, family, limits, NOW, &Sockets::default())
            .unwrap_err();
        error.to_string()
    };
    assert!(refused(CACHE, Family::Cache).contains("in use by another process"));
    assert!(refused(CACHE, Family::Usrloc).contains("has cache, not usrloc"));
    assert!(refused("two words", Family::Usrloc).contains("no name"));
    let busy = State::open(&ground.options(1)).unwrap_err().to_string();
    assert!(busy.contains("stop the binrush"), "{busy}");
    let ring_bytes = 5000;
    let options = ground.options(1);
    let odd = State::open(&StateOptions {
        ring_bytes,
        ..options
    })
    .unwrap_err();
    assert!(odd.to_string().contains("power of two"), "{odd}");

    let nowhere = Ground::new();
    fs::create_dir_all(&nowhere.0).unwrap();
    fs::write(nowhere.0.join("state"), "a file").unwrap();
    let error = State::open(&nowhere.options(1)).unwrap_err().to_string();
    assert!(
        error.lines().count() == 2 && error.contains("state"),
        "{error}"
    );
}

#[test]
fn a_folder_that_the_manifest_does_not_name_is_left_and_told() {
    let ground = Ground::new();
    drop(Life::begin(&ground, 1));
    let unknown = ground.options(1).state_dir.join("00000000deadbe00");
    fs::create_dir(&unknown).unwrap();
    let life = Life::begin(&ground, 1);
    let is_told = |note: &Note| matches!(note, Note::Unknown { path } if *path == unknown);
    assert!(life.state.notes().iter().any(is_told));
    assert!(unknown.is_dir());
}
