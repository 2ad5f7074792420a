//! A backup of usrloc in C beside the store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use binrush_capture::{Capture, Event, Options};
use binrush_store::read::{self, Scratch};
use binrush_store::{Applied, Family, Limits, Now, Record, Store};
use binrush_wire::{Generation, Packet, Release};

use crate::cc;

#[test]
fn a_usrloc_callback_in_c_does_with_the_captured_stream_what_the_store_does() {
    let packets = captured();
    assert_eq!(packets.len(), 1302);
    let Some(program) = cc::compile("ul-receiver", "ul_receiver.c", &[]) else {
        return;
    };
    let mut input = String::new();
    for (_, bytes) in &packets {
        for byte in bytes {
            write!(input, "{byte:02x}").unwrap();
        }
        input.push('\n');
    }
    assert_eq!(cc::said(&program, &[], &input), stored(&packets));
}

/// What the store makes of them, as the program tells it.
fn stored(packets: &[(i64, Vec<u8>)]) -> String {
    let mut store = Store::new(Family::Usrloc, Limits::default());
    let mut scratch = Scratch::default();
    let mut applied: BTreeMap<i32, [u32; 4]> = BTreeMap::new();
    for (unix, bytes) in packets {
        let packet = Packet::parse(Generation::Legacy, bytes).unwrap();
        let change = read::read(&packet, Some(Release::V1x), *unix, &mut scratch).unwrap();
        let now = Now {
            unix: *unix,
            tick: 1,
        };
        let counts = applied.entry(packet.command()).or_default();
        counts[match store.apply(now, &change, 1, &mut ()) {
            Applied::Created => 0,
            Applied::Updated => 1,
            Applied::Removed => 2,
            Applied::Nothing(_) => 3,
            Applied::Refused(why) => panic!("{why:?}"),
        }] += 1;
    }
    let mut text = String::new();
    for (command, [created, updated, removed, nothing]) in applied {
        writeln!(
            text,
            "{command}: created {created} updated {updated} removed {removed} nothing {nothing}"
        )
        .unwrap();
    }
    let (mut aors, mut contacts) = (0, 0);
    let mut from = Some(0);
    while let Some(at) = from {
        from = store.walk_records(at, usize::MAX, &mut |record, _| {
            match record {
                Record::Aor(_) => aors += 1,
                Record::Contact(_) => contacts += 1,
                _ => panic!("{record:?}"),
            }
            0
        });
    }
    writeln!(text, "failed 0\naors {aors}\ncontacts {contacts}").unwrap();
    text
}

/// The packets of `ul` between two genuine nodes of 1.11, with their seconds.
fn captured() -> Vec<(i64, Vec<u8>)> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures/opensips-1.11.pcap");
    let mut capture = Capture::new(File::open(path).unwrap(), Options::default()).unwrap();
    let mut packets = vec![];
    while let Some(event) = capture.next() {
        let Event::Frame(frame) = event else {
            panic!("{event:?}");
        };
        if Packet::parse(frame.generation, frame.bytes).unwrap().name() == b"ul" {
            let seconds = frame.time.as_nanos() / 1_000_000_000;
            packets.push((i64::try_from(seconds).unwrap(), frame.bytes.to_vec()));
        }
    }
    packets
}
