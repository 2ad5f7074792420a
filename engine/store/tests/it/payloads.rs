//! What is read by straight pops is what the schema names, whoever sent it.

use binrush_store::read::{ReadError, Scratch, read, read_chunk};
use binrush_wire::schema::{self, Capability, Message, SchemaError};
use binrush_wire::{Chunk, Chunks, Packet, Release};
use proptest::prelude::*;

use crate::made::{self, Dice};
use crate::oracle;

const NOW: i64 = 1_800_000_000;

/// Names of what is about records.
const KEPT: [&str; 8] = [
    "dialog",
    "dialog-dlg-repl",
    "dialog-prof-repl",
    "ul",
    "usrloc-contact-repl",
    "ratelimit",
    "ratelimit-pipe-repl",
    "cachedb-local-repl",
];

fn kept() -> impl Iterator<Item = &'static Capability> {
    let known = schema::CAPABILITIES.iter().copied();
    known.filter(|capability| KEPT.contains(&capability.name))
}

/// Every row of the schema with every release and version that it is for.
fn each_layout(mut each: impl FnMut(&'static str, &'static Message, Release, i16)) {
    for capability in kept() {
        for message in capability.messages {
            let (low, high) = message.versions.unwrap_or((0, 1));
            let spoken = |release: &Release| message.spoken_by(*release);
            for release in Release::ALL.into_iter().filter(spoken) {
                (low..=high).for_each(|version| each(capability.name, message, release, version));
            }
        }
    }
}

/// `packet` is read as the schema says, and refused as it says.
fn check(packet: &Packet<'_>, release: Option<Release>, at: &str) -> bool {
    let known = match release {
        Some(release) => schema::identify_from(release, packet),
        None => schema::identify(packet),
    };
    let expected = known.map(|message| (message.name, oracle::change(message, packet, NOW)));
    let mut scratch = Scratch::default();
    match (read(packet, release, NOW, &mut scratch), expected) {
        (Ok(change), Ok((_, Some(expected)))) => {
            oracle::assert_same(&change, expected, at);
            return true;
        }
        (Err(ReadError::NoRecord(name)), Ok((expected, None))) => assert_eq!(name, expected),
        (Err(ReadError::Schema(error)), Err(expected)) => assert_eq!(error, expected, "{at}"),
        (read, expected) => panic!("{at}: {read:?}, not {expected:?}"),
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_layout_of_every_release_is_read_as_the_schema_names_it(seed: u64) {
        let mut dice = Dice(seed);
        let mut read = 0;
        each_layout(|name, message, release, version| {
            let bytes = made::packet(name, message, release, version, &mut dice);
            let packet = Packet::parse(release.generation(), &bytes).unwrap();
            let at = format!("{name} {} of {release}, version {version}", message.name);
            read += usize::from(check(&packet, Some(release), &at));
            check(&packet, None, &at);
        });
        assert!(read > 150, "{read}");
    }

    #[test]
    fn what_is_broken_is_refused_as_the_schema_refuses_it(seed: u64) {
        let mut dice = Dice(seed);
        each_layout(|name, message, release, version| {
            let bytes = made::packet(name, message, release, version, &mut dice);
            let packet = Packet::parse(release.generation(), &bytes).unwrap();
            let bytes = made::damaged(&packet, &mut dice);
            let Ok(packet) = Packet::parse(release.generation(), &bytes) else {
                return;
            };
            let at = format!("{name} {} of {release}: {bytes:?}", message.name);
            check(&packet, Some(release), &at);
            check(&packet, None, &at);
        });
    }

    #[test]
    fn a_chunk_that_is_broken_is_refused_as_the_schema_refuses_it(seed: u64) {
        let mut dice = Dice(seed);
        for capability in kept() {
            for message in capability.chunks {
                let version = message.versions.map_or(1, |(_, high)| high);
                check_damaged_chunk(capability.name, message, version.into(), &mut dice);
            }
        }
    }

    #[test]
    fn every_chunk_is_read_as_the_schema_names_it(seed: u64) {
        let mut dice = Dice(seed);
        for capability in kept() {
            for message in capability.chunks {
                let (low, high) = message.versions.unwrap_or((0, 1));
                for version in low..=high {
                    check_chunk(capability.name, message, version.into(), &mut dice);
                }
            }
        }
    }
}

fn check_chunk(name: &str, message: &Message, version: i32, dice: &mut Dice) {
    let release = message.releases.1;
    let mut data = vec![];
    dice.fields(message.layout, release.generation(), &mut data);
    let bytes = made::sync(name, version, &data);
    let packet = Packet::parse(release.generation(), &bytes).unwrap();
    let sync = schema::identify(&packet).unwrap();
    let expected = oracle::chunk_changes(sync, &packet, NOW);
    let chunk = only_chunk(&packet);
    let mut scratch = Scratch::default();
    let read_as = |release, scratch| {
        read_chunk(name.as_bytes(), version, release, &chunk, NOW, scratch).unwrap()
    };
    let at = format!("{name} chunk of {release}: {data:?}");
    let [Some(expected)] = &expected[..] else {
        panic!("{at}: {expected:?}")
    };
    let unknown = read_as(None, &mut scratch);
    oracle::assert_same(&unknown, expected.clone(), &at);
    let mut scratch = Scratch::default();
    let told = read_as(Some(release), &mut scratch);
    assert_eq!(told, unknown, "{at}");
}

/// Any one byte another, or the end cut off.
fn check_damaged_chunk(name: &str, message: &Message, version: i32, dice: &mut Dice) {
    let generation = message.releases.1.generation();
    let mut data = vec![];
    dice.fields(message.layout, generation, &mut data);
    let at = dice.below(data.len());
    match dice.below(3) {
        0 => data.truncate(at.max(1)),
        1 => data.push(0),
        _ => data[at] = dice.bytes(1)[0],
    }
    let bytes = made::sync(name, version, &data);
    let packet = Packet::parse(generation, &bytes).unwrap();
    let expected = schema::identify(&packet);
    let mut scratch = Scratch::default();
    let chunk = only_chunk(&packet);
    let read = read_chunk(name.as_bytes(), version, None, &chunk, NOW, &mut scratch);
    match (read, expected) {
        (Ok(_), Ok(_)) => {}
        (Err(ReadError::Schema(error)), Err(expected)) => assert_eq!(error, expected),
        (read, expected) => panic!("{name}: {data:?}: {read:?}, not {expected:?}"),
    }
}

fn only_chunk<'a>(sync: &Packet<'a>) -> Chunk<'a> {
    let mut fields = sync.fields();
    fields.pop_trailer().unwrap();
    fields.skip_str(1).unwrap();
    fields.skip_int(1).unwrap();
    Chunks::new(fields).next().unwrap().unwrap()
}

#[test]
fn what_is_about_no_record_is_told_by_name() {
    let shtag = made::framed(
        "dialog-dlg-repl",
        4,
        Release::V2_4.generation(),
        1,
        b"\x03\0vip",
    );
    let packet = Packet::parse(Release::V2_4.generation(), &shtag).unwrap();
    let mut scratch = Scratch::default();
    for release in [None, Some(Release::V2_4)] {
        let read = read(&packet, release, NOW, &mut scratch);
        assert_eq!(read, Err(ReadError::NoRecord("SHTAG_ACTIVE")));
    }
    let private = made::framed("private", 1, Release::V2_4.generation(), 1, b"");
    let packet = Packet::parse(Release::V2_4.generation(), &private).unwrap();
    assert_eq!(
        read(&packet, None, NOW, &mut scratch),
        Err(SchemaError::UnknownName.into())
    );
}

#[test]
fn a_chunk_that_is_not_whole_is_refused_and_says_where() {
    let refused = |name: &[u8], version, data| {
        let chunk = Chunk { data, at: 40 };
        let mut scratch = Scratch::default();
        read_chunk(name, version, None, &chunk, NOW, &mut scratch).unwrap_err()
    };
    let ReadError::Schema(SchemaError::Field(error)) =
        refused(b"usrloc-contact-repl", 5, b"\x02\0\0\0")
    else {
        panic!("a field was wrong")
    };
    assert_eq!((error.at, error.have), (40, 2));
    for (name, version, expected) in [
        (&b"usrloc-contact-repl"[..], 9, SchemaError::UnknownVersion),
        (b"dialog-dlg-repl", 40_000, SchemaError::UnknownVersion),
        (b"private", 1, SchemaError::UnknownName),
    ] {
        assert_eq!(refused(name, version, b"x"), expected.into());
    }
    let presence = refused(
        b"dispatcher-status-repl",
        1,
        b"\x01\0a\x01\0\0\0\x01\0b\x01\0\0\0",
    );
    assert_eq!(presence, ReadError::NoRecord("SYNC_CHUNK"));
}
