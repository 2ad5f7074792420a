//! What nodes before 2.4 say, and who hears it.

use super::*;
use crate::dispatch::handler::{Ends, Handler as _, Origin};
use crate::dispatch::scripted::Scripted;
use crate::store::legacy::{self, Legacy};

/// Who made a packet of counts: 2.2 writes the number of the machine before them, 2.3 the node's behind them.
fn counts(generation: Generation, node: i32, count: i32) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut packet = Builder::new(generation, &mut buffer, b"dialog", 4, 1).unwrap();
    if generation == Generation::Transitional {
        packet.push_int(node).unwrap();
    }
    packet.push_str(b"caller").unwrap();
    packet.push_int(1).unwrap();
    packet.push_str(b"alice").unwrap();
    packet.push_int(count).unwrap();
    if generation == Generation::Modern {
        packet.push_trailer(Trailer::new(1, node, 9)).unwrap();
    }
    packet.seal().to_vec()
}

/// A packet of texts.
fn plain(generation: Generation, name: &str, command: i32, texts: &[&str]) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut packet = Builder::new(generation, &mut buffer, name.as_bytes(), command, 1).unwrap();
    if generation == Generation::Transitional {
        packet.push_int(3).unwrap();
    }
    for text in texts {
        packet.push_str(text.as_bytes()).unwrap();
    }
    if generation == Generation::Modern {
        packet.push_trailer(Trailer::new(1, 3, 9)).unwrap();
    }
    packet.seal().to_vec()
}

fn origin(generation: Generation, release: Option<Release>) -> Origin {
    match generation {
        Generation::Legacy => Origin::Datagram(None),
        _ => Origin::Stream {
            ends: Ends::new(([127, 0, 0, 1], 40_000).into(), None),
            generation,
            release,
        },
    }
}

fn hear<E: Log + Send>(handler: &mut Legacy<E>, origin: Origin, bytes: &[u8]) -> Verdict {
    let packet = Packet::parse(origin.generation(), bytes).unwrap();
    let mut scripted = Scripted::new(1);
    let mut context = scripted.mailed(seconds(1), ShardId(0), origin);
    handler.handle(&mut context, &packet)
}

fn of_dialogs() -> Legacy {
    Legacy::new(new(legacy::DIALOGS), Some(new(legacy::PROFILES)))
}

#[test]
fn each_early_release_tells_of_aors_by_the_name_of_its_module() {
    for (generation, release) in [
        (Generation::Legacy, None),
        (Generation::Transitional, None),
        (Generation::Transitional, Some(Release::V2_2)),
        (Generation::Modern, None),
        (Generation::Modern, Some(Release::V2_3)),
        // Configured wrongly: what fits counts.
        (Generation::Modern, Some(Release::V3_6)),
    ] {
        let mut contacts = Legacy::new(new(legacy::CONTACTS), None);
        let from = origin(generation, release);
        for (command, verdict, len) in [
            (1, Verdict::Handled, 1),
            (2, Verdict::Handled, 0),
            // Of nobody who is here.
            (2, Verdict::Handled, 0),
            (99, Verdict::UnknownCommand, 0),
        ] {
            let told = plain(generation, "ul", command, &["location", "alice"]);
            assert_eq!(hear(&mut contacts, from, &told), verdict, "{from:?}");
            assert_eq!(contacts.records().len(), len, "{from:?}");
        }
        let broken = plain(generation, "ul", 1, &["location"]);
        let verdict = hear(&mut contacts, from, &broken);
        assert!(matches!(verdict, Verdict::Field(_)), "{verdict:?}");
    }
}

#[test]
fn counts_of_profiles_go_to_their_own_store_and_each_maker_has_his() {
    for generation in [Generation::Transitional, Generation::Modern] {
        let mut dialogs = of_dialogs();
        let from = origin(generation, None);
        for (node, count) in [(1, 5), (2, 7), (1, 6)] {
            let told = counts(generation, node, count);
            assert_eq!(hear(&mut dialogs, from, &told), Verdict::Handled);
        }
        let profiles = dialogs.profiles().unwrap();
        assert_eq!((dialogs.records().len(), profiles.len()), (0, 2));
        // Node 1 has none any more.
        let told = counts(generation, 1, 0);
        assert_eq!(hear(&mut dialogs, from, &told), Verdict::Handled);
        let left = kept(dialogs.profiles().unwrap());
        assert!(left.len() == 1 && left[0].contains("count: 7"), "{left:?}");
    }
}

#[test]
fn counts_of_profiles_are_refused_where_nobody_keeps_them_and_of_1x() {
    let mut alone = Legacy::new(new(legacy::DIALOGS), None);
    let modern = origin(Generation::Modern, None);
    let told = counts(Generation::Modern, 1, 5);
    assert_eq!(hear(&mut alone, modern, &told), Verdict::UnknownCommand);
    let told = counts(Generation::Legacy, 1, 5);
    let verdict = hear(&mut of_dialogs(), Origin::Datagram(None), &told);
    assert_eq!(verdict, Verdict::UnknownCommand, "1.x has no such packet");
}

#[test]
fn rate_limits_are_kept_for_each_maker() {
    for generation in [Generation::Transitional, Generation::Modern] {
        let mut pipes = Legacy::new(new(legacy::PIPES), None);
        let from = origin(generation, None);
        for (node, counter) in [(1, 5), (2, 7), (1, 6)] {
            let mut buffer = [0; 256];
            let mut packet = Builder::new(generation, &mut buffer, b"ratelimit", 0, 1).unwrap();
            if generation == Generation::Transitional {
                packet.push_int(node).unwrap();
            }
            packet.push_str(b"gateway").unwrap();
            for field in [2, 100, counter] {
                packet.push_int(field).unwrap();
            }
            if generation == Generation::Modern {
                packet.push_trailer(Trailer::new(1, node, 9)).unwrap();
            }
            let told = packet.seal().to_vec();
            assert_eq!(hear(&mut pipes, from, &told), Verdict::Handled);
        }
        let kept = kept(pipes.records());
        assert_eq!(kept.len(), 2, "{generation:?}: {kept:?}");
        for counter in ["counter: 6", "counter: 7"] {
            assert!(kept.iter().any(|pipe| pipe.contains(counter)), "{kept:?}");
        }
    }
}

#[test]
fn no_packet_of_any_length_is_more_than_refused() {
    for generation in [
        Generation::Legacy,
        Generation::Transitional,
        Generation::Modern,
    ] {
        for name in [legacy::DIALOGS, legacy::CONTACTS] {
            for command in 0..8 {
                for fields in 0..4 {
                    let mut handler = match name {
                        legacy::DIALOGS => of_dialogs(),
                        _ => Legacy::new(new(name), None),
                    };
                    let mut buffer = [0; 256];
                    let name = name.as_bytes();
                    let packet = Builder::new(generation, &mut buffer, name, command, 1);
                    let mut packet = packet.unwrap();
                    for _ in 0..fields {
                        packet.push_int(0).unwrap();
                    }
                    let told = packet.seal().to_vec();
                    let _ = hear(&mut handler, origin(generation, None), &told);
                }
            }
        }
    }
}

#[test]
fn no_room_is_told_and_what_is_there_goes_on() {
    let limits = Limits {
        records: 1,
        ..Limits::default()
    };
    let store = Store::new(Family::Usrloc, limits);
    let replica = TypedReplica::over(legacy::CONTACTS, store, wall(), ());
    let mut contacts = Legacy::new(replica, None);
    let from = Origin::Datagram(None);
    let aor = |command, name| plain(Generation::Legacy, "ul", command, &["location", name]);
    assert_eq!(
        hear(&mut contacts, from, &aor(1, "alice")),
        Verdict::Handled
    );
    let refused = Verdict::Refused(Refusal::NoRoom);
    assert_eq!(hear(&mut contacts, from, &aor(1, "bob")), refused);
    assert_eq!(
        hear(&mut contacts, from, &aor(2, "alice")),
        Verdict::Handled
    );
    assert_eq!(hear(&mut contacts, from, &aor(1, "bob")), Verdict::Handled);
}

#[test]
fn records_expire_in_turns_in_each_store_in_its_own() {
    let mut dialogs = of_dialogs();
    let told = counts(Generation::Modern, 1, 5);
    let from = origin(Generation::Modern, None);
    assert_eq!(hear(&mut dialogs, from, &told), Verdict::Handled);
    assert!(dialogs.turn(seconds(5)), "the other store comes next");
    assert!(!dialogs.turn(seconds(5)), "nothing is due");
    assert_eq!(dialogs.profiles().unwrap().len(), 1);
    // A count that is not heard for some seconds is over.
    assert!(dialogs.turn(seconds(60)));
    assert_eq!(dialogs.profiles().unwrap().len(), 1, "not in this one");
    assert!(!dialogs.turn(seconds(60)));
    assert_eq!(dialogs.profiles().unwrap().len(), 0);

    // Without, there is one store, and one turn.
    let mut contacts = Legacy::new(new(legacy::CONTACTS), None);
    assert!(!contacts.turn(seconds(60)));
}
