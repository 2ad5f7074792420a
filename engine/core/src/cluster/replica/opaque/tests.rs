use super::*;
use crate::dispatch::handler::ShardId;
use binrush_wire::schema::{Item, Object};
use binrush_wire::{Builder, Generation, Trailer};
use std::sync::atomic::{AtomicU64, Ordering};

/// Contacts and AoRs.
mod contacts;
/// Dialogs.
mod dialogs;
/// Any other records, syncs and walks.
mod plain;

const DIALOGS: &str = "dialog-dlg-repl";
const CONTACTS: &str = "usrloc-contact-repl";

/// What a field of a packet under construction is to hold.
#[derive(Debug, Clone, Copy)]
enum Fill<'a> {
    Text(&'a str),
    Number(i32),
}

/// Writes the fields of a layout: those that `fill` names with what it says, texts with their own name, numbers with 7.
fn write(builder: &mut Builder<'_>, items: &[Item], fill: &[(&str, Fill<'_>)]) {
    let mut last = 0;
    for item in items {
        last = write_one(builder, item, fill, last);
    }
}

fn write_one(builder: &mut Builder<'_>, item: &Item, fill: &[(&str, Fill<'_>)], last: i32) -> i32 {
    let said = |name: &str| {
        fill.iter()
            .find(|(of, _)| *of == name)
            .map(|(_, fill)| *fill)
    };
    let number = |name: &str| match said(name) {
        Some(Fill::Number(number)) => number,
        _ => 7,
    };
    match *item {
        Item::Str(name) => {
            let text = match said(name) {
                Some(Fill::Text(text)) => text,
                _ => name,
            };
            builder.push_str(text.as_bytes()).unwrap();
        }
        Item::Int(name) => {
            builder.push_int(number(name)).unwrap();
            return number(name);
        }
        Item::Object(name, object) => {
            let bytes = i64::from(number(name)).to_le_bytes();
            let len = if object == Object::Int { 4 } else { 8 };
            builder.push_str(&bytes[..len]).unwrap();
        }
        Item::Include(items) => write(builder, items, fill),
        Item::Case(cases) => {
            let chosen = cases.iter().find(|(case, _)| *case == last);
            write(builder, chosen.expect("a case for it").1, fill);
        }
        Item::IfMore(items) => write(builder, items, fill),
        Item::Counted { items, .. } => {
            builder.push_int(1).unwrap();
            write(builder, items, fill);
        }
        _ => unreachable!("no such field in these layouts"),
    }
    last
}

/// A packet of the message `name` as the first of its layouts that `release` speaks has it.
fn packet(
    capability: &str,
    release: Release,
    name: &str,
    version: i16,
    fill: &[(&str, Fill<'_>)],
) -> Vec<u8> {
    let known = schema::capability(capability.as_bytes()).unwrap();
    let mut rows = known.messages.iter();
    let row = rows
        .find(|row| row.name == name && row.spoken_by(release) && row.takes(version))
        .unwrap_or_else(|| panic!("{name} of {release}"));
    packet_of(capability, row, version, fill)
}

fn packet_of(capability: &str, row: &Message, version: i16, fill: &[(&str, Fill<'_>)]) -> Vec<u8> {
    let mut buffer = [0; 8192];
    let name = capability.as_bytes();
    let generation = Generation::Modern;
    let mut builder = Builder::new(generation, &mut buffer, name, row.command, version).unwrap();
    write(&mut builder, row.layout, fill);
    builder.push_trailer(Trailer::new(1, 2, 1)).unwrap();
    builder.seal().to_vec()
}

/// A chunk as `release` writes it.
fn chunk(capability: &str, release: Release, fill: &[(&str, Fill<'_>)]) -> Vec<u8> {
    let known = schema::capability(capability.as_bytes()).unwrap();
    let mut rows = known.chunks.iter();
    let row = rows.find(|row| row.spoken_by(release)).unwrap();
    let packet = packet_of(capability, row, 0, fill);
    let packet = Packet::parse(Generation::Modern, &packet).unwrap();
    body(&packet).unwrap().to_vec()
}

fn source(release: Release, now: Timestamp) -> Source {
    Source {
        now,
        shard: ShardId(0),
        cluster: 1,
        node: 2,
        release,
    }
}

fn seconds(s: u64) -> Timestamp {
    Timestamp::from_nanos(s * 1_000_000_000)
}

fn apply(replica: &mut OpaqueReplica, release: Release, bytes: &[u8]) -> Verdict {
    apply_at(replica, release, seconds(100), bytes)
}

fn apply_at(
    replica: &mut OpaqueReplica,
    release: Release,
    now: Timestamp,
    bytes: &[u8],
) -> Verdict {
    let packet = Packet::parse(Generation::Modern, bytes).unwrap();
    replica.apply(&source(release, now), &packet)
}

fn take(
    replica: &mut OpaqueReplica,
    release: Release,
    version: i32,
    data: &[u8],
) -> Result<(), WireError> {
    let chunk = Chunk { data, at: 0 };
    replica.apply_chunk(&source(release, seconds(100)), version, &chunk)
}

/// Ends a sync, all pieces of that; how many records were removed.
fn ended(replica: &mut OpaqueReplica, now: Timestamp, end: SyncEnd) -> u64 {
    let (mut all, mut from) = (0, Some(Cursor::default()));
    while let Some(cursor) = from {
        let ended = replica.sync_ends(now, end, cursor);
        (all, from) = (all + ended.removed, ended.next);
    }
    all
}

/// All that a node of `release` gets, in slices of a few bytes.
fn given(replica: &OpaqueReplica, release: Release) -> Vec<Vec<u8>> {
    let (mut all, mut from) = (Vec::new(), Some(Cursor::default()));
    while let Some(cursor) = from {
        let walked = replica.walk(cursor, release, 1, &mut |data| all.push(data.to_vec()));
        from = walked.next;
    }
    all
}

fn tally(replica: &OpaqueReplica) -> (u64, u64, u64) {
    let tally = replica.tally().unwrap();
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    (
        read(&tally.incomplete),
        read(&tally.astray),
        read(&tally.full),
    )
}
