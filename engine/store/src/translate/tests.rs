use std::collections::BTreeMap;
use std::fs;

use binrush_wire::{Head, frame_len};
use proptest::prelude::*;

use super::*;
use crate::change::Named;
use crate::labels::labelled;
use crate::model::{Aor, Dialog, PipeCount};
use crate::record::Record;
use crate::samples::pools;
use crate::write::tests::{NOW, change_after, since, told};

const OURS: Ids = Ids {
    machine: 9,
    trailer: Trailer::new(4, 5, 6),
};

fn parse(release: Release, bytes: &[u8]) -> Packet<'_> {
    Packet::parse(release.generation(), bytes).unwrap()
}

/// What `bytes` of `release` tell, after `look` had a look at it.
fn read_as<T>(release: Release, bytes: &[u8], look: impl FnOnce(&Change<'_>) -> T) -> T {
    let mut scratch = Scratch::default();
    let change = read(&parse(release, bytes), Some(release), NOW, &mut scratch);
    look(&change.unwrap())
}

/// The table, by module, message and sender.
fn verdicts() -> BTreeMap<(&'static str, &'static str, Release), [Verdict; 12]> {
    let rows = rows().into_iter();
    rows.map(|row| ((row.module, row.message, row.from), row.verdicts))
        .collect()
}

/// With sockets where 1.x insists on them.
fn with_sockets(change: Change<'_>) -> Change<'_> {
    match change {
        Change::DialogCreated(dialog) => Change::DialogCreated(Dialog {
            sockets: [b"udp:10.0.0.1:5060"; 2],
            ..dialog
        }),
        Change::ContactInserted(contact, matching) => Change::ContactInserted(
            Contact {
                socket: b"udp:10.0.0.1:5060",
                ..contact
            },
            matching,
        ),
        Change::ContactUpdated(contact, matching) => Change::ContactUpdated(
            Contact {
                socket: b"udp:10.0.0.1:5060",
                ..contact
            },
            matching,
        ),
        change => change,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_change_of_any_release_says_the_same_at_any_other_as_far_as_both_carry_it(pool in pools()) {
        let verdicts = verdicts();
        for from in Release::ALL {
            for change in pool.changes().map(with_sockets) {
                let Some(bytes) = told(&change, from) else { continue };
                let packet = parse(from, &bytes);
                let module = str::from_utf8(packet.name()).unwrap();
                let row = |&(of, message, release): &(&str, &str, Release)|
                    of == module && message == change.kind().message() && release == from;
                let (_, row) = verdicts.iter().find(|(key, _)| row(key)).unwrap();
                for (to, verdict) in Release::ALL.into_iter().zip(row) {
                    for told in [Some(from), None] {
                        one_way(&change, &packet, (from, told), to, *verdict)?;
                    }
                }
            }
        }
    }

    #[test]
    fn there_and_back_is_what_one_way_left(pool in pools()) {
        for (there, back) in [(Release::V1x, Release::V3_6), (Release::V3_6, Release::V2_2), (Release::V2_4, Release::V4_0)] {
            for change in pool.changes().map(with_sockets) {
                let both = [there, back].map(|release| release >= since(change.kind()));
                if both != [true; 2] {
                    continue;
                }
                let first = told(&change, there).unwrap();
                let middle = anywhere(&parse(there, &first), Some(there), back);
                let last = anywhere(&parse(back, &middle), Some(back), there);
                let (mut a, mut b) = Default::default();
                let left = change_after(&change, there, &mut a);
                let left = change_after(&labelled_for(left, back), back, &mut b);
                let mut c = Default::default();
                let left = change_after(&labelled_for(left, there), there, &mut c);
                let is_left = read_as(there, &last, |read| *read == left);
                prop_assert!(is_left, "{there} by {back}: {:?}", change.kind());
            }
        }
    }
}

/// `change` as it is written anew for `to`: with labels where that has them.
fn labelled_for(change: Change<'_>, to: Release) -> Change<'_> {
    match to >= Release::V2_4 {
        true => labels::labelled_change(&change).unwrap_or(change),
        false => change,
    }
}

/// The packet of `to` that says the same, written anew or with our ids.
fn anywhere(packet: &Packet<'_>, from: Option<Release>, to: Release) -> Vec<u8> {
    let mut translator = Translator::new(to, OURS);
    let mut out = Vec::new();
    match translator.translate(packet, from, NOW, &mut out) {
        Outcome::Translated { packets: 1 } => {}
        Outcome::Opaque => translator.readdress(packet, &mut out).unwrap(),
        other => panic!("{other:?}"),
    }
    out
}

fn one_way(
    change: &Change<'_>,
    packet: &Packet<'_>,
    (from, told): (Release, Option<Release>),
    to: Release,
    verdict: Verdict,
) -> Result<(), TestCaseError> {
    let mut translator = Translator::new(to, OURS);
    let mut out = b"before".to_vec();
    let outcome = translator.translate(packet, told, NOW, &mut out);
    let bytes = &out[6..];
    match outcome {
        Outcome::Refused(why) => {
            prop_assert_eq!(Verdict::Refused(why), verdict);
            prop_assert!(to < since(change.kind()) && bytes.is_empty());
            return Ok(());
        }
        Outcome::Opaque => {
            prop_assert_eq!(verdict, Verdict::Opaque);
            prop_assert!(bytes.is_empty());
            translator.readdress(packet, &mut out).unwrap();
        }
        Outcome::Translated { packets } => {
            // Who does not say what it speaks, or sends as the first 3.1 did, may be written anew where that was not needed.
            let by_tags = packet.version() == Some(3) && from >= Release::V3_1;
            let is_needless = verdict == Verdict::Opaque && (told.is_none() || by_tags);
            prop_assert!(verdict == Verdict::Translated || is_needless);
            prop_assert_eq!((packets, translator.ends()), (1, &[out.len()][..]));
        }
    }
    let written = parse(to, &out[6..]);
    prop_assert!(schema::identify_from(to, &written).is_ok());
    let mut fields = written.fields();
    match to.generation() {
        Generation::Legacy => {}
        Generation::Transitional => prop_assert_eq!(fields.pop_int(), Ok(OURS.machine)),
        Generation::Modern => prop_assert_eq!(fields.pop_trailer(), Ok(OURS.trailer)),
    }
    let (mut first, mut second) = Default::default();
    let left = change_after(change, from, &mut first);
    let left = match outcome {
        Outcome::Translated { .. } => labelled_for(left, to),
        _ => left,
    };
    let left = change_after(&left, to, &mut second);
    read_as(to, &out[6..], |read| {
        prop_assert_eq!(read, &left, "{} to {}", from, to);
        Ok(())
    })
}

#[test]
fn a_list_that_becomes_longer_than_a_packet_is_sent_in_several() {
    let pipe = PipeCount {
        pipe: b"p",
        flags: 0,
        algorithm: 1,
        limit: 2,
        counter: 3,
    };
    let change = Change::Pipes(vec![pipe; 4000]);
    let mut first = Vec::new();
    let mut earlier = Translator::new(Release::V3_2, OURS);
    assert_eq!(earlier.write(&change, NOW, &mut first), Ok(1));
    let mut out = b"before".to_vec();
    let mut later = Translator::new(Release::V3_3, OURS);
    let packet = parse(Release::V3_2, &first);
    let outcome = later.translate(&packet, Some(Release::V3_2), NOW, &mut out);
    assert_eq!(outcome, Outcome::Translated { packets: 2 });
    assert_eq!(later.ends().last(), Some(&out.len()));
    let (mut at, mut counts) = (6, 0);
    for end in later.ends() {
        let head = frame_len(Generation::Modern, &out[at..], MAX_PACKET_LEN);
        assert_eq!(head, Head::Complete { len: end - at });
        counts += read_as(Release::V3_3, &out[at..*end], |change| match change {
            Change::Pipes(counts) => counts.len(),
            other => panic!("{other:?}"),
        });
        at = *end;
    }
    assert_eq!(counts, 4000);
}

#[test]
fn what_is_too_long_for_4_0_is_cut_if_it_is_a_list_and_refused_if_it_is_none() {
    let mut translator = Translator::new(Release::V4_0, OURS);
    let long = vec![b'x'; 65_460];
    let named = |name: &[u8]| {
        let mut buffer = vec![0; MAX_PACKET_LEN];
        let mut packet = Builder::new(Generation::Modern, &mut buffer, name, 1, 1).unwrap();
        packet.push_str(&long).unwrap();
        packet.push_str(b"0123456789").unwrap();
        packet.push_trailer(Trailer::new(1, 2, 3)).unwrap();
        packet.seal().to_vec()
    };
    let bytes = named(b"private-module");
    assert!(bytes.len() > write::longest_packet(Release::V4_0));
    let packet = parse(Release::V3_6, &bytes);
    let outcome = translator.translate(&packet, Some(Release::V3_6), NOW, &mut vec![]);
    assert_eq!(outcome, Outcome::Refused(Refusal::TooLong));
    assert_eq!(
        translator.readdress(&packet, &mut vec![]),
        Err(Refusal::TooLong)
    );

    let pipe = PipeCount {
        pipe: b"p",
        flags: 0,
        algorithm: 1,
        limit: 2,
        counter: 3,
    };
    let mut list = Vec::new();
    let mut before = Translator::new(Release::V3_6, OURS);
    let change = Change::Pipes(vec![pipe; 3446]);
    assert_eq!(before.write(&change, NOW, &mut list), Ok(1));
    assert!(list.len() > write::longest_packet(Release::V4_0));
    let packet = parse(Release::V3_6, &list);
    let outcome = translator.translate(&packet, Some(Release::V3_6), NOW, &mut vec![]);
    assert_eq!(outcome, Outcome::Translated { packets: 2 });
}

#[test]
fn one_entry_longer_than_a_packet_is_refused_and_leaves_nothing() {
    let long = vec![b'x'; 65_500];
    let change = Change::CacheRemoved(&long, b"k");
    let mut out = b"before".to_vec();
    let mut translator = Translator::new(Release::V3_6, OURS);
    let written = translator.write(&change, NOW, &mut out);
    assert_eq!(written, Err(Refusal::TooLong));
    assert_eq!((&out[..], translator.ends()), (&b"before"[..], &[][..]));
}

#[test]
fn a_module_that_nobody_knows_is_passed_within_one_generation_only() {
    let outcome = |from: Release, to| {
        let mut buffer = [0; 200];
        let mut packet = Builder::new(from.generation(), &mut buffer, b"mine", 77, 3).unwrap();
        packet.push_trailer(Trailer::new(1, 2, 3)).unwrap();
        let bytes = packet.seal();
        Translator::new(to, OURS).translate(&parse(from, bytes), Some(from), NOW, &mut vec![])
    };
    for from in Release::ALL {
        for to in Release::ALL {
            let expected = match from.generation() == to.generation() {
                true => Outcome::Opaque,
                false => Outcome::Refused(Refusal::UnknownName),
            };
            assert_eq!(outcome(from, to), expected, "{from} to {to}");
        }
    }
}

#[test]
fn what_a_cluster_tells_its_nodes_goes_nowhere_and_a_sharing_tag_least_of_all() {
    let cases: [(&[u8], i32, Release); 4] = [
        (b"clusterer-extra", 13, Release::V3_6),
        (b"clusterer-extra", 12, Release::V3_0),
        (b"dialog-dlg-repl", 4, Release::V2_4),
        (b"presence", 10_001, Release::V2_4),
    ];
    for (name, command, release) in cases {
        let mut buffer = [0; 200];
        let mut packet = Builder::new(Generation::Modern, &mut buffer, name, command, 1).unwrap();
        packet.push_str(b"vip").unwrap();
        packet.push_trailer(Trailer::new(1, 2, 3)).unwrap();
        let bytes = packet.seal();
        for to in Release::ALL {
            let mut translator = Translator::new(to, OURS);
            let packet = parse(release, bytes);
            let outcome = translator.translate(&packet, Some(release), NOW, &mut vec![]);
            assert_eq!(outcome, Outcome::Refused(Refusal::Cluster), "to {to}");
        }
    }
}

#[test]
fn a_broken_packet_is_not_passed_on_even_where_its_bytes_would_be() {
    let change = Change::DialogDeleted(Named {
        callid: b"call",
        tags: Some([b"a", b"b"]),
        h_id: Some(1),
    });
    let mut bytes = told(&change, Release::V3_6).unwrap();
    // The Call-ID's length, behind header, name and type.
    let at = 10 + 2 + "dialog-dlg-repl".len() + 4;
    bytes[at] = 200;
    let mut translator = Translator::new(Release::V3_6, OURS);
    let packet = parse(Release::V3_6, &bytes);
    let outcome = translator.translate(&packet, Some(Release::V3_6), NOW, &mut vec![]);
    let Outcome::Refused(why @ Refusal::Unreadable(_)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(why.to_string().contains("past_end"), "{why}");
}

#[test]
fn a_1_x_target_gets_no_contact_and_no_call_without_a_socket_but_their_ends() {
    let mut translator = Translator::new(Release::V1x, OURS);
    let mut outcome = |change: &Change<'_>| translator.write(change, NOW, &mut vec![]);
    let contact = Contact::default();
    let dialog = Dialog {
        sockets: [b"udp:10.0.0.1:5060", b""],
        ..Dialog::default()
    };
    for change in [
        Change::ContactInserted(contact, Default::default()),
        Change::ContactUpdated(contact, Default::default()),
        Change::DialogCreated(dialog),
    ] {
        assert_eq!(outcome(&change), Err(Refusal::NoSocket));
    }
    // An update finds its call by other fields.
    for change in [
        Change::DialogUpdated(dialog),
        Change::DialogDeleted(Named::default()),
    ] {
        assert_eq!(outcome(&change), Ok(1));
    }
}

#[test]
fn contacts_of_1_x_get_an_id_each_where_there_are_ids_and_the_one_that_a_sync_gives_them() {
    let contact = Contact {
        domain: b"location",
        aor: b"alice0",
        uri: b"sip:alice@198.51.100.7",
        callid: b"reg-1",
        socket: b"udp:10.0.0.1:5060",
        ..Contact::default()
    };
    let aor = Aor {
        domain: contact.domain,
        aor: contact.aor,
        ..Aor::default()
    };
    let Record::Contact(Contact { id, .. }) = labelled(&Record::Contact(contact)) else {
        unreachable!("it was one");
    };
    let Record::Aor(Aor { labels, .. }) = labelled(&Record::Aor(aor)) else {
        unreachable!("it was one");
    };
    assert!(id.is_some() && labels.is_some_and(|(label, _)| label > 0));
    for to in Release::ALL {
        let has_ids = to >= Release::V2_4;
        for change in [
            Change::AorInserted(aor),
            Change::ContactInserted(contact, Default::default()),
            Change::ContactUpdated(contact, Default::default()),
        ] {
            let bytes = told(&change, Release::V1x).unwrap();
            let bytes = anywhere(&parse(Release::V1x, &bytes), Some(Release::V1x), to);
            read_as(to, &bytes, |read| match read {
                Change::AorInserted(aor) => assert_eq!(aor.labels, labels.filter(|_| has_ids)),
                Change::ContactInserted(contact, _) | Change::ContactUpdated(contact, _) => {
                    assert_eq!(contact.id, id.filter(|_| has_ids), "{to}");
                }
                other => panic!("{other:?}"),
            });
        }
    }
}

#[test]
fn an_opaque_packet_gets_our_ids_in_place_of_those_of_its_sender_bridged_or_not() {
    let bridged = Trailer {
        bridged_from: Some(7),
        ..Trailer::new(1, 2, Trailer::BRIDGE)
    };
    for theirs in [Trailer::new(1, 2, 3), bridged] {
        let with = |ids: Trailer| {
            let mut buffer = [0; 200];
            let mut packet = Builder::new(Generation::Modern, &mut buffer, b"mine", 1, 2).unwrap();
            packet.push_str(b"text").unwrap();
            packet.push_trailer(ids).unwrap();
            packet.seal().to_vec()
        };
        let mut out = Vec::new();
        let mut translator = Translator::new(Release::V4_0, OURS);
        let bytes = with(theirs);
        let packet = parse(Release::V4_0, &bytes);
        translator.readdress(&packet, &mut out).unwrap();
        assert_eq!(out, with(OURS.trailer));
    }
}

#[test]
fn what_was_wrong_in_the_text_of_a_dialogs_values_is_told() {
    // Of 3.1, with a text of values that is none: CREATED has 17 strings and ints before it.
    let change = Change::DialogUpdated(Dialog::default());
    let bytes = told(&change, Release::V3_1).unwrap();
    let mut buffer = [0; 400];
    let packet = parse(Release::V3_1, &bytes);
    let mut copy = Builder::new(Generation::Modern, &mut buffer, packet.name(), 2, 4).unwrap();
    let message = schema::identify(&packet).unwrap();
    message
        .walk(&packet, |field| {
            match (field.name, field.value) {
                ("vars", _) => copy.push_str(b"good#1|bad|"),
                (_, schema::Value::Str(bytes)) => copy.push_str(bytes),
                (_, schema::Value::Int(number)) => copy.push_int(number),
                (name, other) => panic!("{name}: {other:?}"),
            }
            .unwrap();
        })
        .unwrap();
    copy.push_trailer(Trailer::new(1, 2, 3)).unwrap();
    let mut translator = Translator::new(Release::V3_6, OURS);
    let packet = parse(Release::V3_1, copy.seal());
    let outcome = translator.translate(&packet, Some(Release::V3_1), NOW, &mut vec![]);
    assert_eq!(outcome, Outcome::Translated { packets: 1 });
    assert_eq!(translator.take_wrong().map(|wrong| wrong.item), Some(1));
    assert_eq!(translator.take_wrong(), None);
}

#[test]
fn each_refusal_is_named_by_the_first_word_of_its_sentence() {
    let unreadable = Refusal::Unreadable(SchemaError::UnknownVersion);
    let all = [
        unreadable,
        Refusal::UnknownName,
        Refusal::Cluster,
        Refusal::NoMessage,
        Refusal::OtherLayout,
        Refusal::TooLong,
        Refusal::NoSocket,
    ];
    assert_eq!(all.map(Refusal::name), Refusal::NAMES);
    for (place, why) in all.into_iter().enumerate() {
        assert_eq!(why.place(), place);
        assert!(why.to_string().starts_with(&format!("{}: ", why.name())));
    }
}

#[test]
fn the_table_in_the_docs_is_the_one_that_the_code_makes() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/TRANSLATION.md");
    let written = fs::read_to_string(file).unwrap_or_default();
    assert!(
        written == table(),
        "{file} is not what the code does any more: \
         cargo run -p binrush-store --example translation_table"
    );
}

#[test]
fn the_table_has_every_message_of_every_release_that_sends_it() {
    let verdicts = verdicts();
    let mut count = 0;
    for capability in schema::CAPABILITIES {
        for message in capability.messages {
            for release in Release::ALL {
                if message.spoken_by(release) {
                    assert!(verdicts.contains_key(&(capability.name, message.name, release)));
                    count += 1;
                }
            }
        }
    }
    assert!(count >= verdicts.len());
}
