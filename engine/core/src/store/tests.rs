use super::*;
use binrush_store::model::{Aor, Cached, Contact, Dialog, PipeCount, ProfileCount};
use binrush_wire::{Builder, Generation, Trailer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nodes before 2.4.
mod legacy;
/// From one release to another.
mod releases;
/// Syncs, expiry, limits.
mod rules;
/// What is kept back, and what others have in its place.
mod withheld;

const DIALOGS: &str = "dialog-dlg-repl";
const CONTACTS: &str = "usrloc-contact-repl";
const CACHE: &str = "cachedb-local-repl";

/// Seconds since 1970 at second 0 of the other clock.
const EPOCH: i64 = 1_800_000_000;

const LIVE: Release = Release::V4_0;

fn wall() -> Arc<WallClock> {
    let wall = WallClock::default();
    wall.set(
        Timestamp::default(),
        Duration::from_secs(EPOCH.unsigned_abs()),
    );
    wall.into()
}

fn new(capability: &str) -> TypedReplica {
    TypedReplica::new(capability, wall()).unwrap()
}

fn seconds(s: u64) -> Timestamp {
    Timestamp::from_nanos(s * 1_000_000_000)
}

fn source(release: Release, second: u64) -> Source {
    Source {
        now: seconds(second),
        shard: ShardId(0),
        cluster: 1,
        node: 2,
        release,
    }
}

/// The packet by which a node tells a new record at `second`.
fn told(record: &Record<'_>, release: Release, second: i64) -> Vec<u8> {
    let mut buffer = vec![0; binrush_wire::MAX_PACKET_LEN];
    let mut packet = write::packet(record, release, 0, EPOCH + second, &mut buffer).unwrap();
    packet.push_trailer(Trailer::new(1, 2, 1)).unwrap();
    packet.seal().to_vec()
}

/// A packet of 4.0 with these texts, and numbers behind them.
fn packet(capability: &str, command: i32, texts: &[&str], numbers: &[i32]) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let name = capability.as_bytes();
    let version = write::version(family(capability).map_or(Kind::Cached, kind), LIVE);
    let mut builder =
        Builder::new(Generation::Modern, &mut buffer, name, command, version).unwrap();
    for text in texts {
        builder.push_str(text.as_bytes()).unwrap();
    }
    for number in numbers {
        builder.push_int(*number).unwrap();
    }
    builder.push_trailer(Trailer::new(1, 2, 1)).unwrap();
    builder.seal().to_vec()
}

const fn kind(family: Family) -> Kind {
    match family {
        Family::Dialogs => Kind::Dialog,
        Family::Usrloc => Kind::Contact,
        Family::Cache => Kind::Cached,
        Family::Profiles => Kind::Profile,
        Family::Pipes => Kind::Pipe,
    }
}

fn apply<E: Log + Send>(
    replica: &mut TypedReplica<E>,
    release: Release,
    second: u64,
    bytes: &[u8],
) -> Verdict {
    let packet = Packet::parse(Generation::Modern, bytes).unwrap();
    replica.apply(&source(release, second), &packet)
}

/// A 4.0 node tells a new record.
fn tell(replica: &mut TypedReplica, second: u64, record: &Record<'_>) {
    let told = told(record, LIVE, second.cast_signed());
    assert_eq!(apply(replica, LIVE, second, &told), Verdict::Handled);
}

fn take(
    replica: &mut TypedReplica,
    release: Release,
    second: u64,
    version: i32,
    data: &[u8],
) -> Result<(), WireError> {
    let chunk = Chunk { data, at: 40 };
    replica.apply_chunk(&source(release, second), version, &chunk)
}

/// All that a node of `release` gets, in slices of a few bytes, and how many records it does not get.
fn given(replica: &TypedReplica, release: Release) -> (Vec<Vec<u8>>, u64) {
    let (mut all, mut left_out, mut from) = (Vec::new(), 0, Some(Cursor::default()));
    while let Some(cursor) = from {
        let walked = replica.walk(cursor, release, 1, &mut |data| all.push(data.to_vec()));
        left_out += walked.left_out;
        from = walked.next;
    }
    (all, left_out)
}

/// What it keeps, record by record.
fn kept(replica: &TypedReplica) -> Vec<String> {
    let mut all = Vec::new();
    let mut from = Some(0);
    while let Some(place) = from {
        from = replica.store().walk(place, 1 << 20, &mut |_, flat| {
            all.push(format!("{:?}", Record::read(flat).unwrap().0));
        });
    }
    all.sort();
    all
}

fn texts(records: &[Record<'_>]) -> Vec<String> {
    let mut all: Vec<_> = records.iter().map(|record| format!("{record:?}")).collect();
    all.sort();
    all
}

fn count<E: Log + Send>(replica: &TypedReplica<E>, of: fn(&Tally) -> &AtomicU64) -> u64 {
    of(&replica.tally().unwrap()).load(Ordering::Relaxed)
}

/// An answered call.
fn dialog(callid: &str) -> Dialog<'_> {
    Dialog {
        callid: callid.as_bytes(),
        tags: [b"from", b"to"],
        uris: [b"sip:alice@a.example", b"sip:bob@b.example"],
        h_id: 7,
        start: 1_799_999_000,
        state: 4,
        sockets: [b"udp:198.51.100.1:5060"; 2],
        cseqs: [b"1", b"2"],
        contacts: [b"sip:alice@198.51.100.7", b"sip:bob@198.51.100.8"],
        expires: 1_800_003_600,
        ..Dialog::default()
    }
}

const AOR: Aor<'_> = Aor {
    domain: b"location",
    aor: b"alice",
    labels: Some((5, 9)),
    kv: b"{}",
};

/// Of [`AOR`].
fn contact(uri: &str, expires: i64) -> Contact<'_> {
    Contact {
        domain: b"location",
        aor: b"alice",
        uri: uri.as_bytes(),
        id: Some(0x1234_5678),
        callid: b"register-1",
        user_agent: b"phone",
        received: b"sip:203.0.113.9:5060",
        expires: EPOCH + expires,
        q: -1,
        socket: b"udp:198.51.100.1:5060",
        cseq: 3,
        cflag_names: Some(b"NAT PUSH"),
        methods: 0x1fff,
        modified: EPOCH,
        kv: b"{\"a\":1}",
        ..Contact::default()
    }
}

fn cached(key: &str, expires: i64) -> Cached<'_> {
    Cached {
        collection: b"default",
        key: key.as_bytes(),
        value: b"value",
        expires: EPOCH + expires,
    }
}
