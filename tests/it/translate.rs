//! What genuine nodes sent, for nodes of other releases.

use std::collections::BTreeMap;

use binrush_store::change::{Change, ChangeKind};
use binrush_store::model::VarValue;
use binrush_store::read::{Scratch, read};
use binrush_store::translate::{Ids, Outcome, Refusal, Translator, Verdict, rows};
use binrush_tests::{captures, fuzz};
use binrush_wire::schema::{self, Message};
use binrush_wire::{Generation, Packet, Release, Trailer};

use crate::dice::Dice;

/// Damaged copies of each payload.
const DAMAGED: usize = 200;

const NOW: i64 = 1_800_000_000;

const RELEASES: [(&str, Release); 4] = [
    ("1.11", Release::V1x),
    ("2.4", Release::V2_4),
    ("3.6", Release::V3_6),
    ("3.6-late", Release::V3_6),
];

const OURS: Ids = Ids {
    machine: 9,
    trailer: Trailer::new(4, 5, 6),
};

#[test]
fn every_change_that_a_genuine_node_told_is_written_for_its_release_to_the_same_bytes() {
    let mut written = BTreeMap::<ChangeKind, usize>::new();
    each_packet(|release, packet, _, at| {
        let mut scratch = Scratch::default();
        let Ok(change) = read(packet, Some(release), NOW, &mut scratch) else {
            return;
        };
        if is_gone_without_saying_so(packet, &change) {
            return;
        }
        let mut out = Vec::new();
        let theirs = Ids {
            machine: 0,
            trailer: trailer(release, packet),
        };
        let count = Translator::new(release, theirs).write(&change, NOW, &mut out);
        assert_eq!(count, Ok(1), "{at}");
        assert_eq!(out, packet.bytes(), "{at}");
        *written.entry(change.kind()).or_default() += 1;
    });
    for kind in ChangeKind::ALL {
        assert!(written.contains_key(&kind), "no {kind:?}: {written:?}");
    }
}

#[test]
fn what_a_genuine_node_sent_goes_to_its_own_release_as_it_is_unless_it_is_about_the_cluster() {
    let mut counts = BTreeMap::<_, usize>::new();
    each_packet(|release, packet, message, at| {
        let mut out = Vec::new();
        let outcome =
            Translator::new(release, OURS).translate(packet, Some(release), NOW, &mut out);
        let name = packet.name();
        let is_of_cluster = name.starts_with(b"clusterer") || message.name == "SHTAG_ACTIVE";
        let expected = match is_of_cluster {
            true => Outcome::Refused(Refusal::Cluster),
            false => Outcome::Opaque,
        };
        assert_eq!(outcome, expected, "{at}: {}", message.name);
        assert!(out.is_empty());
        *counts.entry(is_of_cluster).or_default() += 1;
    });
    assert!(counts.values().all(|count| *count > 500), "{counts:?}");
}

#[test]
fn what_a_genuine_node_sent_arrives_at_every_release_that_can_say_it_and_nothing_more_is_lost_there_and_back()
 {
    let verdicts: BTreeMap<_, _> = rows()
        .into_iter()
        .map(|row| ((row.module, row.message, row.from), row.verdicts))
        .collect();
    let mut translators: Vec<_> = Release::ALL
        .into_iter()
        .map(|to| Translator::new(to, OURS))
        .collect();
    each_packet(|from, packet, message, at| {
        let module = str::from_utf8(packet.name()).expect(at);
        let verdicts = verdicts[&(module, message.name, from)];
        for (to, verdict) in Release::ALL.into_iter().zip(verdicts) {
            let mut there = Vec::new();
            let translator = &mut translators[to as usize];
            match translator.translate(packet, Some(from), NOW, &mut there) {
                Outcome::Opaque => assert_eq!(verdict, Verdict::Opaque, "{at} to {to}"),
                Outcome::Refused(Refusal::NoSocket) => assert_eq!(to, Release::V1x, "{at}"),
                Outcome::Refused(why) => {
                    assert_eq!(verdict, Verdict::Refused(why), "{at} to {to}");
                }
                Outcome::Translated { packets } => {
                    assert_eq!((verdict, packets), (Verdict::Translated, 1), "{at} to {to}");
                    let there = parse(to, &there, at);
                    let found = schema::identify_from(to, &there).expect(at);
                    assert_eq!(found.walk(&there, |_| {}).err(), None, "{at} to {to}");
                    assert_eq!(schema::key(&there), schema::key(packet), "{at} to {to}");
                    let back = translated(&mut translators[from as usize], &there, to, at);
                    let back = parse(from, &back, at);
                    let again = translated(&mut translators[to as usize], &back, from, at);
                    assert_eq!(again, there.bytes(), "{at} by {to}");
                }
            }
        }
        for translator in &mut translators {
            assert_eq!(translator.take_wrong(), None, "{at}");
        }
    });
}

#[test]
fn a_packet_that_is_damaged_breaks_no_promise_on_its_way_to_another_release() {
    let mut dice = Dice::new(5);
    let seeds = fuzz::seeds::all().into_iter();
    let payloads: Vec<_> = seeds.filter(|seed| seed.target == "payload").collect();
    assert!(payloads.len() > 20);
    for seed in payloads {
        for _ in 0..DAMAGED {
            let mut bytes = seed.bytes.clone();
            // Also the fourth byte, which chooses the version, and with the others the target.
            for _ in 0..=dice.below(2) {
                let at = 3 + dice.below(bytes.len() - 3);
                bytes[at] = dice.bytes(1)[0];
            }
            fuzz::payload(&bytes);
        }
    }
}

fn translated(
    translator: &mut Translator,
    packet: &Packet<'_>,
    from: Release,
    at: &str,
) -> Vec<u8> {
    let mut out = Vec::new();
    let outcome = translator.translate(packet, Some(from), NOW, &mut out);
    assert_eq!(outcome, Outcome::Translated { packets: 1 }, "{at}");
    out
}

/// A sender whose value was NULL says that it is a text and then nothing. Written is that it is none, which means the same.
fn is_gone_without_saying_so(packet: &Packet<'_>, change: &Change<'_>) -> bool {
    let Change::DialogValue {
        dialog,
        name,
        value: VarValue::Gone,
    } = change
    else {
        return false;
    };
    let mut fields = packet.fields();
    fields.skip_str(1).expect("a Call-ID");
    assert_eq!(fields.pop_int().ok(), dialog.h_id);
    assert_eq!(fields.pop_str(), Ok(*name));
    fields.pop_int() != Ok(0)
}

fn trailer(release: Release, packet: &Packet<'_>) -> Trailer {
    match release.generation() {
        Generation::Modern => packet.fields().pop_trailer().expect("it is routed"),
        Generation::Legacy | Generation::Transitional => Trailer::new(0, 0, 0),
    }
}

fn parse<'a>(release: Release, bytes: &'a [u8], at: &str) -> Packet<'a> {
    Packet::parse(release.generation(), bytes).expect(at)
}

fn each_packet(mut test: impl FnMut(Release, &Packet<'_>, &'static Message, &str)) {
    for (capture, release) in RELEASES {
        for (n, frame) in captures::frames(capture).iter().enumerate() {
            let at = format!("{capture} packet {}", n + 1);
            let packet = Packet::parse(frame.generation, &frame.bytes).expect(&at);
            let message = schema::identify_from(release, &packet).expect(&at);
            test(release, &packet, message, &at);
        }
    }
}
