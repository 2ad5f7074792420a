//! What genuine nodes sent, as what it does to records: read by straight pops as the schema names it, and written again to the same
//! bytes.

use std::collections::BTreeMap;

use binrush_store::change::Change;
use binrush_store::read::{ReadError, Scratch, read, read_chunk};
use binrush_store::record::{Heard, Record};
use binrush_store::{Status, write};
use binrush_tests::captures;
use binrush_wire::schema::{self, Message};
use binrush_wire::{Chunk, Chunks, Packet, Release, Trailer};

#[path = "../../engine/store/tests/it/oracle.rs"]
mod oracle;

const NOW: i64 = 1_800_000_000;

const RELEASES: [(&str, Release); 4] = [
    ("1.11", Release::V1x),
    ("2.4", Release::V2_4),
    ("3.6", Release::V3_6),
    ("3.6-late", Release::V3_6),
];

const KINDS: [&str; 4] = ["aor", "contact", "dialog", "cached"];

#[test]
fn every_packet_is_read_as_the_schema_names_it() {
    for (capture, release) in RELEASES {
        each_packet(capture, |packet, message, at| {
            let expected = oracle::change(message, packet, NOW);
            let mut scratch = Scratch::default();
            for told in [None, Some(release)] {
                match (read(packet, told, NOW, &mut scratch), expected.clone()) {
                    (Ok(change), Some(expected)) => oracle::assert_same(&change, expected, at),
                    (Err(ReadError::NoRecord(name)), None) => assert_eq!(name, message.name),
                    (read, expected) => panic!("{at}: {read:?}, not {expected:?}"),
                }
            }
            assert_eq!(scratch.take_wrong(), None, "{at}");
        });
    }
}

#[test]
fn every_chunk_is_read_as_the_schema_names_it() {
    let mut read = BTreeMap::<_, usize>::new();
    for (capture, release) in RELEASES {
        each_packet(capture, |packet, message, at| {
            if message.name != "SYNC" {
                return;
            }
            let expected = oracle::chunk_changes(message, packet, NOW);
            let chunks = each_chunk(packet, message);
            assert_eq!(chunks.len(), expected.len(), "{at}");
            for ((name, version, chunk), expected) in chunks.into_iter().zip(expected) {
                let mut scratch = Scratch::default();
                let change = read_chunk(name, version, Some(release), &chunk, NOW, &mut scratch);
                oracle::assert_same(&change.unwrap(), expected.unwrap(), at);
                let change = read_chunk(name, version, None, &chunk, NOW, &mut scratch).unwrap();
                *read.entry((capture, kind(&change))).or_default() += 1;
            }
        });
    }
    // No sync of the 2.4 nodes has a dialog in it.
    let of = |capture| KINDS.map(|kind| read.get(&(capture, kind)).copied().unwrap_or(0));
    assert_eq!(of("2.4"), [440, 494, 0, 0]);
    assert_eq!(of("3.6"), [440, 494, 112, 0]);
    assert_eq!(of("3.6-late"), [144, 217, 159, 36]);
}

#[test]
fn a_record_written_for_its_release_is_the_packet_that_it_came_in() {
    let mut written = BTreeMap::<_, usize>::new();
    for (capture, release) in RELEASES {
        each_packet(capture, |packet, _, at| {
            let mut scratch = Scratch::default();
            let Ok(change) = read(packet, Some(release), NOW, &mut scratch) else {
                return;
            };
            let Some(record) = record_of(&change) else {
                return;
            };
            let mut flat = vec![];
            record.write(Status::default(), &mut flat);
            let (record, _) = Record::read(&flat).expect(at);
            let mut buffer = vec![0; 65_535];
            let mut again = write::packet(&record, release, 0, NOW, &mut buffer).expect(at);
            if release != Release::V1x {
                again.push_trailer(trailer(packet)).expect(at);
            }
            assert_eq!(again.seal(), packet.bytes(), "{at}");
            *written.entry((capture, kind(&change))).or_default() += 1;
        });
    }
    let of = |capture| KINDS.map(|kind| written.get(&(capture, kind)).copied().unwrap_or(0));
    assert_eq!(of("1.11"), [420, 462, 299, 0]);
    assert!(of("3.6-late").iter().all(|count| *count > 0), "{written:?}");
}

#[test]
fn a_record_written_as_a_chunk_for_its_release_is_the_chunk_that_it_came_in() {
    let mut written = 0;
    for (capture, release) in RELEASES {
        each_packet(capture, |packet, message, at| {
            for (name, version, chunk) in each_chunk(packet, message) {
                let mut scratch = Scratch::default();
                let change =
                    read_chunk(name, version, Some(release), &chunk, NOW, &mut scratch).expect(at);
                let record = record_of(&change).expect(at);
                let mut again = vec![];
                write::chunk(&record, release, NOW, &mut again).expect(at);
                assert_eq!(again, chunk.data, "{at}");
                assert_eq!(i32::from(write::version(record.kind(), release)), version);
                written += 1;
            }
        });
    }
    assert_eq!(written, 440 + 494 + 440 + 494 + 112 + 144 + 217 + 159 + 36);
}

fn each_packet(capture: &str, mut each: impl FnMut(&Packet<'_>, &'static Message, &str)) {
    for (n, frame) in captures::frames(capture).iter().enumerate() {
        let packet = Packet::parse(frame.generation, &frame.bytes).unwrap();
        let at = format!("{capture} packet {}", n + 1);
        each(&packet, schema::identify(&packet).expect(&at), &at);
    }
}

/// Capability, data version and chunks of a SYNC packet; nothing of any other.
fn each_chunk<'a>(packet: &Packet<'a>, message: &Message) -> Vec<(&'a [u8], i32, Chunk<'a>)> {
    if message.name != "SYNC" {
        return vec![];
    }
    let mut fields = packet.fields();
    fields.pop_trailer().unwrap();
    let (name, version) = (fields.pop_str().unwrap(), fields.pop_int().unwrap());
    Chunks::new(fields)
        .map(|chunk| (name, version, chunk.unwrap()))
        .collect()
}

fn trailer(packet: &Packet<'_>) -> Trailer {
    packet.fields().pop_trailer().unwrap()
}

/// What a change says whole, if it can be written again.
fn record_of<'a>(change: &Change<'a>) -> Option<Record<'a>> {
    Some(match change {
        Change::DialogCreated(dialog) => Record::Dialog(*dialog),
        Change::AorInserted(aor) => Record::Aor(*aor),
        Change::ContactInserted(contact, _) => Record::Contact(*contact),
        Change::CacheInserted(cached) => Record::Cached(*cached),
        Change::Profiles(counts) => match counts[..] {
            [count] => Record::Profile(count, Heard::default()),
            _ => return None,
        },
        Change::Pipes(counts) => match counts[..] {
            [count] => Record::Pipe(count, Heard::default()),
            _ => return None,
        },
        _ => return None,
    })
}

fn kind(change: &Change<'_>) -> &'static str {
    record_of(change).map_or("none", |record| record.kind().name())
}
