//! A journal whose files and ring say anything.
//!
//! Nothing of chance has a right checksum, so those of files are put right, or else only the first check of each would ever be
//! made. The ring is one that a shard has filled, and damaged afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::{Arbitrary as _, Result, Unstructured};
use binrush_journal::vfs::sim::SimFolder;
use binrush_journal::{Identity, Options, Report, Ring, recover, start, verify};
use binrush_wire::crc32::checksum;

/// What stands where.
type Records = BTreeMap<(u8, u32), Vec<u8>>;

/// A folder, and a ring if it can be one.
type Left = (BTreeMap<String, Vec<u8>>, Option<Ring>);

/// Recovers from what `data` says, twice, and once more after a writer has gone on from there.
pub(super) fn recovers(data: &[u8]) {
    if let Ok((files, ring)) = left(&mut Unstructured::new(data)) {
        promises(&files, ring);
    }
}

fn promises(files: &BTreeMap<String, Vec<u8>>, ring: Option<Ring>) {
    let folder = SimFolder::with_files(files);
    let once = recovered(&folder, ring.as_ref());
    assert_eq!(recovered(&folder, ring.as_ref()), once);
    let verified = verify(&folder, IDENTITY);
    assert!(folder.files() == *files, "who reads changes nothing");
    let Ok((records, report)) = once else {
        return;
    };
    let verified = verified.expect("what can be recovered can be looked at");
    if report.refused.is_empty() {
        let refused = verified.iter().filter(|file| file.refused.is_some());
        // What recovery had no use for may be bad.
        assert!(
            refused.count() == 0 || report.snapshot.is_some(),
            "{verified:?}"
        );
    }
    let ring = ring.unwrap_or_else(|| {
        Ring::in_memory(IDENTITY, CAPACITY, report.lsn).expect("the smallest there is")
    });
    let Ok((appender, mut writer)) =
        start(folder.clone(), ring, IDENTITY, Options::default(), &report)
    else {
        return;
    };
    assert_eq!(
        appender.lsn(),
        report.lsn,
        "the next op has the next number"
    );
    writer.finish(Duration::ZERO).expect("no call fails");
    let (after, again) = recovered(&folder, Some(appender.ring())).expect("files of ours");
    assert_eq!(after, records, "before {report:?}\nafter {again:?}");
    assert_eq!(again.lsn, report.lsn, "{report:?}\n{again:?}");
}

/// What is recovered; an error as what it says.
fn recovered(
    folder: &SimFolder,
    ring: Option<&Ring>,
) -> std::result::Result<(Records, Report), String> {
    let mut records = Records::new();
    let report = recover(folder, IDENTITY, ring, &mut |table, place, record| {
        let before = records.insert((table, place), record.to_vec());
        assert_eq!(before, None, "shown twice: {table} {place}");
        assert!(!record.is_empty(), "a record of nothing: {table} {place}");
    });
    match report {
        Ok(report) => {
            assert_eq!(report.records, records.len() as u64);
            Ok((records, report))
        }
        Err(error) => {
            assert!(records.is_empty(), "half loaded: {error}");
            Err(error.to_string())
        }
    }
}

fn left(input: &mut Unstructured<'_>) -> Result<Left> {
    let options = u8::arbitrary(input)?;
    let ring = match options & HAS_RING {
        0 => None,
        _ => ring(input)?,
    };
    let mut files = BTreeMap::new();
    while !input.is_empty() && files.len() < FILES_MAX {
        let (name, bytes) = file(input, options & MEND != 0)?;
        files.insert(name, bytes);
    }
    Ok((files, ring))
}

/// A ring that a shard has filled, and where bytes were changed.
fn ring(input: &mut Unstructured<'_>) -> Result<Option<Ring>> {
    let ring = Ring::in_memory(IDENTITY, CAPACITY, 0).expect("the smallest there is");
    let folder = SimFolder::default();
    let started = start(
        folder,
        ring,
        IDENTITY,
        Options::default(),
        &Report::default(),
    );
    let (mut appender, _writer) = started.expect("nothing is there");
    for _ in 0..u8::arbitrary(input)? {
        let [place, len] = <[u8; 2]>::arbitrary(input)?;
        // Some are missed for want of room, as in life.
        match place {
            0xff => drop(appender.begin_snapshot()),
            0xfe => drop(appender.end_snapshot()),
            0xc0.. => drop(appender.snapshot_record(0, place.into(), &[place; 256][..len.into()])),
            _ => drop(appender.append(place / 64, (place % 64).into(), &[len; 256][..len.into()])),
        }
    }
    let mut bytes = appender.ring().bytes();
    for _ in 0..u8::arbitrary(input)? % DAMAGES_MAX {
        let (at, byte) = (u16::arbitrary(input)?, u8::arbitrary(input)?);
        let len = bytes.len();
        bytes[usize::from(at) % len] = byte;
    }
    // Somebody else's is refused before anything is recovered.
    let ring = Ring::of_bytes(&bytes).ok();
    Ok(ring.filter(|ring| ring.identity() == IDENTITY))
}

/// A file: `name: u8 | number: u8 | more: u8 | len: u16 | bytes behind the first page`.
fn file(input: &mut Unstructured<'_>, mend: bool) -> Result<(String, Vec<u8>)> {
    let [name, number, more] = <[u8; 3]>::arbitrary(input)?;
    let len = usize::from(u16::arbitrary(input)?).min(input.len());
    let body = input.bytes(len)?;
    let is_log = name & 1 == 0;
    // Small ones, and those at which numbers end.
    let number = match number {
        0xf0.. => u64::MAX - u64::from(0xff - number),
        _ => number.into(),
    };
    let kind = if is_log { "log" } else { "snapshot" };
    let suffix = match name >> 1 {
        0 => ".new",
        1 => ".refused",
        _ => "",
    };
    let mut bytes = page(is_log, number, PAGE_LEN + body.len() + usize::from(more));
    let salt = u32::from_le_bytes([4, 3, 2, 1].map(|back| bytes[PAGE_LEN - back]));
    bytes.extend_from_slice(body);
    if mend {
        mend_blocks(&mut bytes[PAGE_LEN..], salt);
    } else if let Some(at) = name.checked_sub(0x80) {
        // A first page that is not as it was.
        bytes[usize::from(at)] ^= more;
    }
    Ok((format!("{kind}-{number:020}{suffix}"), bytes))
}

/// The first page of a file of ours, by what stands in the documentation of the journal.
fn page(is_log: bool, number: u64, reserved: usize) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE_LEN);
    page.extend(if is_log { b"BINRLOG\n" } else { b"BINRSNP\n" });
    page.extend(1_u32.to_le_bytes());
    page.extend([0; 4]);
    page.extend(IDENTITY.epoch.to_le_bytes());
    page.extend(IDENTITY.shard.to_le_bytes());
    page.extend([0; 4]);
    page.extend(number.to_le_bytes());
    page.extend((reserved as u64).to_le_bytes());
    page.resize(PAGE_LEN - 4, 0);
    page.extend(checksum(&page).to_le_bytes());
    page
}

/// Puts the checksums of blocks right, as far as lengths lead from one to the next.
fn mend_blocks(mut rest: &mut [u8], salt: u32) {
    while let Some(len) = rest.first_chunk::<4>() {
        let len = BLOCK_HEADER_LEN + u32::from_le_bytes(*len) as usize;
        if len == BLOCK_HEADER_LEN || len > rest.len() {
            return;
        }
        let (block, behind) = rest.split_at_mut(len);
        let crc = checksum(&[&salt.to_le_bytes(), &block[..4], &block[8..]].concat());
        block[4..8].copy_from_slice(&crc.to_le_bytes());
        rest = behind;
    }
}

/// The input that has these files, with right checksums, and a ring with some ops.
pub(super) fn input(files: &BTreeMap<String, Vec<u8>>, ops: &[[u8; 2]]) -> Vec<u8> {
    let mut input = vec![HAS_RING | MEND];
    input.push(u8::try_from(ops.len()).expect("a few"));
    input.extend(ops.as_flattened());
    input.push(0);
    for (name, bytes) in files {
        let Some((kind, number)) = name.split_once('-') else {
            continue;
        };
        let used = bytes.iter().rposition(|byte| *byte != 0);
        let body = &bytes[PAGE_LEN..used.map_or(0, |last| last + 1).max(PAGE_LEN)];
        let number: u8 = number.parse().expect("a small one, and complete");
        input.extend([4 | u8::from(kind == "snapshot"), number, 64]);
        input.extend(
            u16::try_from(body.len())
                .expect("a short one")
                .to_le_bytes(),
        );
        input.extend(body);
    }
    input
}

/// The files of a shard that did so many ops, with snapshots in between.
pub(super) fn files(ops: u8, len: usize) -> BTreeMap<String, Vec<u8>> {
    let ring = Ring::in_memory(IDENTITY, 8 * CAPACITY, 0).expect("a small one");
    let options = Options {
        log_len: 1024 + PAGE_LEN as u64,
        ..Options::default()
    };
    let folder = SimFolder::default();
    let started = start(folder.clone(), ring, IDENTITY, options, &Report::default());
    let (mut appender, mut writer) = started.expect("nothing is there");
    let mut now = Duration::ZERO;
    for op in 0..ops {
        let record = vec![op; if op % 5 == 4 { 0 } else { len }];
        let _ = appender.append(op % 2, (op % 7).into(), &record);
        if op % 20 == 19 {
            let _ = appender.begin_snapshot();
            let _ = appender.append(0, 3, b"meanwhile");
            let _ = appender.snapshot_record(0, 3, b"meanwhile");
            let _ = appender.end_snapshot();
        }
        if op % 3 == 0 {
            now += Duration::from_millis(250);
            let _ = writer.turn(now);
        }
    }
    writer.finish(now).expect("no call fails");
    folder.files()
}

const IDENTITY: Identity = Identity {
    epoch: 0x1122_3344_5566_7788,
    shard: 3,
};

const CAPACITY: usize = binrush_journal::ring::CAPACITY_MIN;

const PAGE_LEN: usize = 4096;

const BLOCK_HEADER_LEN: usize = 24;

const FILES_MAX: usize = 12;

const DAMAGES_MAX: u8 = 16;

// Options.
const MEND: u8 = 1;
const HAS_RING: u8 = 2;
