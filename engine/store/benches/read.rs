//! What it costs to know what a packet does: contact inserts and new dialogs of 1.x, 2.4 and 3.6, from the checked packet to a
//! `Change`; and from there to the bytes of a record.
//!
//! Each benchmark checks its answer before it is timed.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use binrush_store::change::Change;
use binrush_store::model::{Contact, Dialog};
use binrush_store::read::{Scratch, read};
use binrush_store::{Record, Status, vars, write};
use binrush_wire::{Packet, Release, Trailer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const NOW: i64 = 1_800_000_000;

fn contact() -> Contact<'static> {
    Contact {
        domain: b"location",
        aor: b"alice.4711@sip.example.org",
        uri: b"sip:alice.4711@192.0.2.77:5062;transport=udp",
        id: Some(0x1234_5678_9abc),
        callid: b"3848276298220188511@192.0.2.77",
        user_agent: b"Phone 7/2.11.4",
        received: b"sip:198.51.100.9:40312",
        instance: b"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>",
        expires: NOW + 3600,
        q: -1,
        socket: b"udp:10.0.0.1:5060",
        cseq: 27,
        cflag_names: Some(b"NAT"),
        methods: 0x1fff,
        modified: NOW,
        ..Contact::default()
    }
}

fn dialog(lists: &[Vec<u8>; 2]) -> Dialog<'_> {
    Dialog {
        callid: b"4f1c-77aa02@192.0.2.10",
        tags: [b"f1-77", b"tt-9a"],
        uris: [b"sip:alice@sip.example.org", b"sip:bob@sip.example.org"],
        h_id: 4242,
        start: 1_799_999_000,
        state: 4,
        sockets: [b"udp:10.0.0.1:5060"; 2],
        cseqs: [b"1", b"0"],
        contacts: [b"sip:alice@192.0.2.77:5062", b"sip:bob@192.0.2.78:5062"],
        vars: &lists[0],
        profiles: &lists[1],
        expires: 1_800_003_600,
        ..Dialog::default()
    }
}

fn packet(record: &Record<'_>, release: Release) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let mut packet = write::packet(record, release, 1, NOW, &mut buffer).unwrap();
    if release >= Release::V2_3 {
        packet.push_trailer(Trailer::new(1, 2, 3)).unwrap();
    }
    packet.seal().to_vec()
}

fn benches(criterion: &mut Criterion) {
    let mut lists = [vec![], vec![]];
    vars::read_values(b"owner#1#alice|count#2#3|", &mut lists[0]).unwrap();
    vars::read_profiles(b"trunk/b#1#north|", &mut lists[1]).unwrap();
    let records = [
        ("contact insert", Record::Contact(contact())),
        ("dialog created", Record::Dialog(dialog(&lists))),
    ];
    for (what, record) in &records {
        for release in [Release::V1x, Release::V2_4, Release::V3_6] {
            bench_read(criterion, what, record, release);
        }
        bench_flat(criterion, what, record);
    }
}

fn bench_read(criterion: &mut Criterion, what: &str, record: &Record<'_>, release: Release) {
    let bytes = packet(record, release);
    let packet = Packet::parse(release.generation(), &bytes).unwrap();
    let mut scratch = Scratch::default();
    match (read(&packet, None, NOW, &mut scratch).unwrap(), record) {
        (Change::ContactInserted(read, _), Record::Contact(contact)) => {
            assert_eq!((read.uri, read.modified), (contact.uri, contact.modified));
        }
        (Change::DialogCreated(read), Record::Dialog(dialog)) => {
            assert_eq!((read.callid, read.expires), (dialog.callid, dialog.expires));
        }
        (change, _) => panic!("{change:?}"),
    }
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for (known, told) in [("unknown", None), ("told", Some(release))] {
        group.bench_function(format!("{what} of {release}, release {known}"), |bencher| {
            bencher.iter(|| {
                let change = read(black_box(&packet), told, NOW, &mut scratch);
                black_box(&change).is_ok()
            });
        });
    }
    group.finish();
}

fn bench_flat(criterion: &mut Criterion, what: &str, record: &Record<'_>) {
    let mut bytes = Vec::new();
    record.write(Status::default(), &mut bytes);
    assert_eq!(Record::read(&bytes).unwrap().0, *record);
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut out = Vec::new();
    group.bench_function(format!("{what} to bytes"), |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(record).write(Status::default(), &mut out);
            out.len()
        });
    });
    group.bench_function(format!("{what} from bytes"), |bencher| {
        bencher.iter(|| black_box(Record::read(black_box(&bytes))).is_ok());
    });
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
