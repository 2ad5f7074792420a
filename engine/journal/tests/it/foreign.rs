//! Files and rings that belong elsewhere, or to another time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use binrush_journal::vfs::sim::SimFolder;
use binrush_journal::{
    FileError, Folder, FolderError, Identity, Ring, RingError, Why, recover, start,
};

use crate::shard::{IDENTITY, OPTIONS, Shard, check, record, recovered};

fn life() -> Shard {
    let mut shard = Shard::new(1 << 16);
    for number in 0..80_u32 {
        let _ = shard.op(0, number % 8, &record(number.into(), 200));
        shard.slice(4);
        shard.turn(100);
    }
    shard.turn(250);
    shard
}

#[test]
fn files_of_another_shard_or_epoch_are_refused_and_nothing_is_loaded() {
    let shard = life();
    for wanted in [
        Identity {
            shard: 4,
            ..IDENTITY
        },
        Identity {
            epoch: 1,
            ..IDENTITY
        },
    ] {
        let mut shown = 0;
        let refused = recover(&shard.folder, wanted, None, &mut |_, _, _| shown += 1);
        let Err(FileError::Foreign { found, .. }) = &refused else {
            panic!("{refused:?}");
        };
        assert_eq!((*found, shown), (IDENTITY, 0));
        let said = refused.unwrap_err().to_string();
        assert!(
            said.contains("at byte 16: it belongs to shard 3 of epoch"),
            "{said}"
        );
    }
    assert_eq!(Identity::of_folder(&shard.folder).unwrap(), Some(IDENTITY));
    assert_eq!(Identity::of_folder(&SimFolder::default()).unwrap(), None);
}

#[test]
fn a_file_of_a_newer_binrush_is_refused_and_nothing_is_loaded() {
    let shard = life();
    let mut files = shard.folder.files();
    let (name, bytes) = files.iter_mut().next_back().unwrap();
    bytes[8] = 2;
    let crc = crc32(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
    let name = name.clone();
    let folder = SimFolder::with_files(&files);
    let refused = recover(&folder, IDENTITY, None, &mut |_, _, _| panic!("shown"));
    assert!(
        matches!(&refused, Err(FileError::Newer { file, found: 2 }) if *file == name),
        "{refused:?}"
    );
}

#[test]
fn a_file_under_the_name_of_another_one_is_refused() {
    let shard = life();
    let files = shard.folder.files();
    let logs: Vec<_> = files
        .keys()
        .filter(|name| name.starts_with("log-"))
        .collect();
    assert!(logs.len() >= 3, "{logs:?}");
    for (one, other) in logs.iter().zip(logs.iter().skip(1)) {
        let mut swapped = files.clone();
        swapped.insert((*one).clone(), files[*other].clone());
        let folder = SimFolder::with_files(&swapped);
        let (records, report) = recovered(&folder, None);
        check(&records, &report, &shard.history);
        let refused = &report.refused[0];
        assert_eq!(
            (&refused.file, refused.offset, refused.why),
            (*one, 32, Why::Misnamed)
        );
    }
}

#[test]
fn blocks_of_another_file_are_none_of_this_one() {
    let shard = life();
    let files = shard.folder.files();
    let mut logs = files.keys().filter(|name| name.starts_with("log-")).rev();
    let (last, before) = (logs.next().unwrap(), logs.next().unwrap());
    let mut mixed = files.clone();
    // What a file system that mixes up blocks gives back.
    let tail = files[before][4096..].to_vec();
    mixed.get_mut(last).unwrap().truncate(4096);
    mixed.get_mut(last).unwrap().extend(tail);
    let folder = SimFolder::with_files(&mixed);
    let (records, report) = recovered(&folder, None);
    check(&records, &report, &shard.history);
    let refused = &report.refused[0];
    assert_eq!(
        (&refused.file, refused.offset, refused.why),
        (last, 4096, Why::Checksum)
    );
}

#[test]
fn an_older_folder_does_not_go_together_with_a_newer_ring() {
    let mut shard = life();
    let older = shard.folder.files();
    for number in 0..20_u32 {
        let _ = shard.op(0, number % 8, &record(number.into(), 100));
        shard.turn(100);
    }
    let _ = shard.op(0, 1, b"the last one");
    let folder = SimFolder::with_files(&older);
    let (records, report) = recovered(&folder, Some(shard.appender.ring()));
    assert_eq!(report.lsn, 80);
    assert!(report.hole.is_some() && !report.is_whole(), "{report:?}");
    check(&records, &report, &shard.history);
}

#[test]
fn a_ring_is_opened_by_whose_it_is() {
    let scratch = Scratch::new("ring");
    let path = scratch.0.join("ring");
    drop(Ring::create(&path, IDENTITY, 4096, 7).unwrap());
    let other = Identity {
        shard: 9,
        ..IDENTITY
    };
    assert!(matches!(
        Ring::open(&path, other),
        Err(RingError::Foreign { .. })
    ));
    let ring = Ring::open(&path, IDENTITY).unwrap();
    assert_eq!((ring.lsn(), ring.missed()), (7, 0));
    let report = recover(&SimFolder::default(), IDENTITY, None, &mut |_, _, _| {}).unwrap();
    let started = start(SimFolder::default(), ring, other, OPTIONS, &report);
    assert!(started.is_err());

    fs::write(&path, [0; 8192]).unwrap();
    assert!(matches!(
        Ring::open(&path, IDENTITY),
        Err(RingError::Damaged { at: 0, .. })
    ));
    for capacity in [0, 4095, 5000, 1 << 33] {
        let refused = Ring::in_memory(IDENTITY, capacity, 0);
        assert!(matches!(refused, Err(RingError::Capacity(_))), "{capacity}");
    }
}

#[test]
fn a_folder_has_one_writer_who_is_its_owner() {
    let scratch = Scratch::new("folder");
    let path = scratch.0.join("state");
    let held = Folder::open(&path).unwrap();
    assert!(matches!(
        Folder::open(&path),
        Err(FolderError::InUse { .. })
    ));
    drop(held);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(
        Folder::open(&path),
        Err(FolderError::Exposed { mode: 0o777, .. })
    ));
}

/// A folder of the test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("binrush-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0 as &Path);
    }
}

/// CRC-32 as the format says, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
