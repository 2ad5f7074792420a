//! Every row of the schema and every row of the slow decoder: a packet made from a row of the one is read by
//! the other, since no capture has all releases.

use std::collections::BTreeSet;

use binrush_wire::schema::{self, CAPABILITIES, Item, Message};
use binrush_wire::{Chunks, Generation, Packet, Release};

use crate::both::{self, DIFFERENCES, Difference};
use crate::dice::Dice;
use crate::oracle::made::one_of_each_row;
use crate::oracle::{Decoded, Gen, Value};
use made::Made;

/// A packet from a row of the schema.
mod made;

#[test]
fn what_a_row_lays_out_is_read_by_it() {
    let mut taken = BTreeSet::new();
    of_every_row(|capability, row, made| {
        let packet = Packet::parse(made.generation, &made.bytes).unwrap();
        let found = schema::identify(&packet)
            .unwrap_or_else(|error| panic!("{}: {error}\n{made:02x?}", label(row)));
        let key = Ok(found.key(&packet).unwrap());
        assert_eq!(schema::key(&packet), key);
        let read = both::walked(found, &packet);
        if std::ptr::eq(found, row) {
            assert_eq!(read, made.read);
            assert_eq!(key, Ok(row.key.map(|at| string(&made.read.fields[at]))));
        } else {
            assert_same_bytes(made, &read);
            taken.insert((capability, label(row), label(found)));
        }
    });
    let taken: Vec<_> = taken
        .iter()
        .map(|(capability, row, found)| (*capability, &row[..], &found[..]))
        .collect();
    let expected = TAKEN_FOR_ANOTHER.map(|(capability, row, found, _)| (capability, row, found));
    assert_eq!(taken, expected);
}

#[test]
fn a_known_release_finds_a_row_of_its_own() {
    of_every_row(|_, row, made| {
        let packet = Packet::parse(made.generation, &made.bytes).unwrap();
        let speaks =
            |release: &Release| row.spoken_by(*release) && release.generation() == made.generation;
        for release in Release::ALL.into_iter().filter(speaks) {
            let found = schema::identify_from(release, &packet)
                .unwrap_or_else(|error| panic!("{} of {release}: {error}", label(row)));
            assert!(found.spoken_by(release), "{} of {release}", label(found));
            let read = both::walked(found, &packet);
            if std::ptr::eq(found, row) {
                assert_eq!(read, made.read);
            } else {
                assert_same_bytes(made, &read);
            }
        }
    });
}

#[test]
fn sync_chunks_are_read_by_their_rows() {
    of_every_chunk_row(|row, made, chunks| {
        let packet = Packet::parse(made.generation, &made.bytes).unwrap();
        let read = both::fast(&packet)
            .unwrap_or_else(|error| panic!("{}: {error}\n{made:02x?}", label(row)));
        assert_eq!(read, made.read, "{}", label(row));

        let mut fields = packet.fields();
        fields.pop_trailer().unwrap();
        let capability = fields.pop_str().unwrap();
        let data_version = fields.pop_int().unwrap();
        let read: Vec<_> = Chunks::new(fields).map(Result::unwrap).collect();
        assert_eq!(read.len(), chunks.len());
        for (read, chunk) in read.iter().zip(chunks) {
            assert_eq!(read.data, made::encoded(Generation::Modern, chunk));
            assert_eq!(
                schema::chunk_key(capability, data_version, read),
                Ok(row.key.map(|at| string(&chunk[at])))
            );
        }
    });
}

#[test]
fn the_slow_decoder_agrees_on_every_row_of_either() {
    let mut differences: Vec<&Difference> = vec![];
    let mut compare = |generation, bytes: &[u8]| {
        let packet = Packet::parse(generation, bytes).unwrap();
        if let Some(difference) = both::compare(&packet)
            && !differences.contains(&difference)
        {
            differences.push(difference);
        }
    };
    of_every_row(|_, _, made| compare(made.generation, &made.bytes));
    of_every_chunk_row(|_, made, _| compare(made.generation, &made.bytes));
    let mut dice = Dice::new(SEED);
    for capability in CAPABILITIES.iter().filter(|known| !known.chunks.is_empty()) {
        let chunk = vec![Value::Raw(dice.bytes(20))];
        let made = sync(&mut dice, capability.name, UNKNOWN_VERSION, &[chunk]);
        compare(made.generation, &made.bytes);
    }
    for _ in 0..ROUNDS {
        for made in one_of_each_row(&mut dice) {
            let generation = match made.era {
                Gen::V1 => Generation::Legacy,
                Gen::V22 => Generation::Transitional,
                Gen::V23 => Generation::Modern,
            };
            let slow = crate::oracle::decode(made.era, &made.bytes);
            assert!(slow.is_ok(), "{}: {slow:?}", made.row);
            compare(generation, &made.bytes);
        }
    }
    for difference in &DIFFERENCES {
        assert!(
            differences.contains(&difference),
            "{difference:?} no longer"
        );
    }
}

/// Packets of each row in each generation and header version it has.
fn of_every_row(mut test: impl FnMut(&'static str, &'static Message, &Made)) {
    let mut dice = Dice::new(SEED);
    for capability in CAPABILITIES {
        for row in capability.messages {
            for generation in GENERATIONS.into_iter().filter(|g| row.spoken_in(*g)) {
                for version in versions(row) {
                    for _ in 0..ROUNDS {
                        let fields = made::values(&mut dice, row.layout);
                        let name = capability.name;
                        let made = made::packet(&mut dice, generation, name, row, version, fields);
                        test(name, row, &made);
                    }
                }
            }
        }
    }
}

/// SYNC packets with one to three chunks of one row; the test also gets the values of each chunk.
fn of_every_chunk_row(mut test: impl FnMut(&'static Message, &Made, &[Vec<Value>])) {
    let mut dice = Dice::new(SEED);
    for capability in CAPABILITIES {
        for row in capability.chunks {
            for version in versions(row) {
                for _ in 0..ROUNDS {
                    let chunks: Vec<_> = (0..=dice.below(3))
                        .map(|_| made::values(&mut dice, row.layout))
                        .collect();
                    let made = sync(&mut dice, capability.name, version, &chunks);
                    test(row, &made, &chunks);
                }
            }
        }
    }
}

/// Sent by any of the releases that give chunks a size.
fn sync(dice: &mut Dice, capability: &str, data_version: i16, chunks: &[Vec<Value>]) -> Made {
    let extra = schema::capability(b"clusterer-extra").unwrap();
    let has_chunks = |sync: &&Message| sync.layout.iter().any(|i| matches!(i, Item::Chunks(_)));
    let syncs: Vec<_> = extra.messages.iter().filter(has_chunks).collect();
    assert_eq!(syncs.len(), 3);
    let sync = dice.one_of(&syncs);
    let (version, _) = sync.versions.unwrap();
    let mut fields = vec![
        Value::Str(capability.as_bytes().to_vec()),
        Value::Int(i32::from(data_version)),
    ];
    fields.extend(made::chunks(chunks));
    made::packet(dice, Generation::Modern, extra.name, sync, version, fields)
}

/// What no receiver looks at may be anything.
fn versions(row: &Message) -> Vec<i16> {
    row.versions
        .map_or_else(|| vec![1, 0, 7, -1], |(low, high)| (low..=high).collect())
}

fn label(row: &Message) -> String {
    format!("{} {}-{}", row.name, row.releases.0, row.releases.1)
}

/// Read as other fields, but all of them and nothing else.
fn assert_same_bytes(made: &Made, read: &Decoded) {
    let around = |decoded: &Decoded| (decoded.leading_machine_id, decoded.trailer.clone());
    assert_eq!(around(read), around(&made.read));
    let encoded = |decoded: &Decoded| made::encoded(made.generation, &decoded.fields);
    assert_eq!(encoded(read), encoded(&made.read));
}

fn string(value: &Value) -> &[u8] {
    match value {
        Value::Str(bytes) => bytes,
        other => panic!("a key is a string: {other:?}"),
    }
}

/// Packets of one row that a newer one uses up as well: capability, row, the row found, why.
const TAKEN_FOR_ANOTHER: [(&str, &str, &str, &str); 7] = [
    (
        "clusterer-extra",
        "SYNC 2.4-3.0",
        "SYNC_REQ 3.2-4.0",
        "a SYNC without chunks is a capability and nothing else",
    ),
    (
        "clusterer-internal",
        "CAP_UPDATE 2.4-3.1",
        "CAP_UPDATE 3.1-3.1",
        "one node without capabilities: count, node and count are read as stamp and empty list",
    ),
    (
        "clusterer-internal",
        "CAP_UPDATE 3.2-3.2",
        "CAP_UPDATE 3.2-4.0",
        "as between 2.4 and 3.1",
    ),
    (
        "dialog-dlg-repl",
        "CSEQ 3.0-3.2",
        "CSEQ 3.3-4.0",
        "the same fields, as version 3, which later releases still take",
    ),
    (
        "dialog-dlg-repl",
        "DELETED 2.4-2.4",
        "DELETED 3.0-3.2",
        "the same fields under the same version",
    ),
    (
        "dialog-dlg-repl",
        "DELETED 3.0-3.2",
        "DELETED 3.3-4.0",
        "as CSEQ",
    ),
    (
        "ratelimit-pipe-repl",
        "PIPES 2.4-3.2",
        "PIPES 3.3-4.0",
        "an empty list is empty with flags and without",
    ),
];

const GENERATIONS: [Generation; 3] = [
    Generation::Legacy,
    Generation::Transitional,
    Generation::Modern,
];

/// Packets of each row: every branch of every layout is among them.
const ROUNDS: usize = 48;
const SEED: u64 = 1;

/// A data version that no chunk row has.
const UNKNOWN_VERSION: i16 = 99;
