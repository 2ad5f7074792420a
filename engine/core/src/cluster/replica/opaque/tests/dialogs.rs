use super::Fill::{Number, Text};
use super::*;
use binrush_wire::Fields;

fn new() -> OpaqueReplica {
    OpaqueReplica::new(DIALOGS)
}

/// Of a confirmed dialog.
fn dialog<'a>(callid: &'a str, h_id: i32) -> Vec<(&'a str, Fill<'a>)> {
    vec![
        ("callid", Text(callid)),
        ("h_id", Number(h_id)),
        ("state", Number(4)),
    ]
}

fn body_of(packet: &[u8]) -> Vec<u8> {
    body(&Packet::parse(Generation::Modern, packet).unwrap())
        .unwrap()
        .to_vec()
}

#[test]
fn a_dialog_that_was_created_or_updated_is_given_as_its_sender_would_give_it() {
    for (release, version) in [
        (Release::V2_4, 1),
        (Release::V3_0, 2),
        (Release::V3_1, 4),
        (Release::V3_6, 4),
        (Release::V4_0, 4),
    ] {
        let mut replica = new();
        let created = packet(DIALOGS, release, "CREATED", version, &dialog("c1", 5));
        assert_eq!(apply(&mut replica, release, &created), Verdict::Handled);
        let expected = chunk(DIALOGS, release, &dialog("c1", 5));
        assert_eq!(given(&replica, release), [expected], "{release}");
        let mut fill = dialog("c1", 5);
        fill.push(("caller_contact", Text("sip:moved@h")));
        let updated = packet(DIALOGS, release, "UPDATED", version, &fill);
        assert_eq!(apply(&mut replica, release, &updated), Verdict::Handled);
        assert_eq!(given(&replica, release), [body_of(&updated)]);
        assert_eq!(
            (replica.len(), replica.data_version(release)),
            (1, Some(version.into()))
        );
    }
}

#[test]
fn dialogs_of_one_call_id_are_told_apart_and_deleted_one_by_one() {
    let mut replica = new();
    let release = Release::V3_6;
    for h_id in 1..4 {
        let created = packet(DIALOGS, release, "CREATED", 4, &dialog("spiral", h_id));
        assert_eq!(apply(&mut replica, release, &created), Verdict::Handled);
    }
    let other = packet(DIALOGS, release, "CREATED", 4, &dialog("other", 1));
    assert_eq!(apply(&mut replica, release, &other), Verdict::Handled);
    assert_eq!(replica.len(), 4);
    let deleted = packet(DIALOGS, release, "DELETED", 4, &dialog("spiral", 2));
    for _ in 0..2 {
        assert_eq!(apply(&mut replica, release, &deleted), Verdict::Handled);
        assert_eq!(replica.len(), 3);
    }
    let left = given(&replica, release);
    assert!(!left.contains(&chunk(DIALOGS, release, &dialog("spiral", 2))));
    assert!(left.contains(&chunk(DIALOGS, release, &dialog("spiral", 3))));
}

#[test]
fn before_3_1_a_dialog_is_found_by_its_tags() {
    let mut replica = new();
    let release = Release::V2_4;
    let with_tag = |tag| {
        let mut fill = dialog("c1", 5);
        fill.push(("callee_tag", Text(tag)));
        fill
    };
    for tag in ["t1", "t2"] {
        let created = packet(DIALOGS, release, "CREATED", 1, &with_tag(tag));
        assert_eq!(apply(&mut replica, release, &created), Verdict::Handled);
    }
    assert_eq!(replica.len(), 2);
    let deleted = packet(DIALOGS, release, "DELETED", 1, &with_tag("t1"));
    assert_eq!(apply(&mut replica, release, &deleted), Verdict::Handled);
    assert_eq!(
        given(&replica, release),
        [chunk(DIALOGS, release, &with_tag("t2"))]
    );
}

#[test]
fn a_cseq_is_written_into_the_leg_that_it_is_of() {
    for (release, version) in [(Release::V2_4, 1), (Release::V3_0, 2), (Release::V3_6, 4)] {
        for (tag, field) in [
            ("callee_tag", "callee_last_cseq"),
            ("caller_tag", "caller_last_cseq"),
        ] {
            let mut replica = new();
            let created = packet(DIALOGS, release, "CREATED", version, &dialog("c1", 5));
            assert_eq!(apply(&mut replica, release, &created), Verdict::Handled);
            let mut fill = dialog("c1", 5);
            fill.extend([("tag", Text(tag)), ("cseq", Number(1234))]);
            let cseq = packet(DIALOGS, release, "CSEQ", version, &fill);
            assert_eq!(apply(&mut replica, release, &cseq), Verdict::Handled);
            let mut fill = dialog("c1", 5);
            fill.push((field, Number(1234)));
            assert_eq!(
                given(&replica, release),
                [chunk(DIALOGS, release, &fill)],
                "{release} {tag}"
            );
            assert_eq!(tally(&replica), (0, 0, 0));
        }
    }
}

#[test]
fn a_value_is_written_into_the_variables() {
    let mut replica = new();
    let release = Release::V3_6;
    let with_vars = |vars| {
        let mut fill = dialog("c1", 5);
        fill.push(("vars", Text(vars)));
        fill
    };
    let created = packet(DIALOGS, release, "CREATED", 4, &with_vars("a#1#x|"));
    assert_eq!(apply(&mut replica, release, &created), Verdict::Handled);
    for (name, kind, value, expected) in [
        ("b", 1, Text("y|z"), "b#1#y\\|z|a#1#x|"),
        ("a", 2, Number(-3), "b#1#y\\|z|a#2#-3|"),
        ("b", 0, Number(0), "a#2#-3|"),
    ] {
        let mut fill = dialog("c1", 5);
        fill.extend([
            ("name", Text(name)),
            ("type", Number(kind)),
            ("value", value),
        ]);
        let change = packet(DIALOGS, release, "VALUE", 4, &fill);
        assert_eq!(apply(&mut replica, release, &change), Verdict::Handled);
        assert_eq!(
            given(&replica, release),
            [chunk(DIALOGS, release, &with_vars(expected))]
        );
    }
}

#[test]
fn a_change_of_a_dialog_that_is_not_here_is_counted() {
    let mut replica = new();
    let release = Release::V3_6;
    let created = packet(DIALOGS, release, "CREATED", 4, &dialog("c1", 5));
    assert_eq!(apply(&mut replica, release, &created), Verdict::Handled);
    for (callid, h_id, tag) in [
        ("c2", 5, "caller_tag"),
        ("c1", 6, "caller_tag"),
        ("c1", 5, "nobody's"),
    ] {
        let mut fill = dialog(callid, h_id);
        fill.push(("tag", Text(tag)));
        let cseq = packet(DIALOGS, release, "CSEQ", 4, &fill);
        assert_eq!(apply(&mut replica, release, &cseq), Verdict::Handled);
    }
    assert_eq!((tally(&replica), replica.len()), ((0, 3, 0), 1));
    assert_eq!(given(&replica, release), [body_of(&created)]);
}

#[test]
fn a_call_that_is_not_answered_yet_is_kept_and_not_given() {
    let mut replica = new();
    let release = Release::V3_6;
    for state in [1, 2, 5, 3, 4] {
        let mut fill = dialog("c1", 5);
        fill.retain(|(name, _)| *name != "state");
        fill.push(("state", Number(state)));
        let updated = packet(DIALOGS, release, "UPDATED", 4, &fill);
        assert_eq!(apply(&mut replica, release, &updated), Verdict::Handled);
        let expected = usize::from(matches!(state, 3 | 4));
        assert_eq!(
            (replica.len(), given(&replica, release).len()),
            (1, expected),
            "{state}"
        );
    }
}

#[test]
fn what_early_2_4_sends_is_kept_as_incomplete_until_a_donor_gives_it() {
    let mut replica = new();
    let release = Release::V2_4;
    let known = schema::capability(DIALOGS.as_bytes()).unwrap();
    let early = known
        .messages
        .iter()
        .rfind(|row| row.name == "CREATED")
        .unwrap();
    let created = packet_of(DIALOGS, early, 1, &dialog("c1", 5));
    assert_eq!(apply(&mut replica, release, &created), Verdict::Handled);
    assert_eq!((replica.len(), tally(&replica).0), (1, 1));
    assert_eq!(given(&replica, release), Vec::<Vec<u8>>::new());
    let whole = chunk(DIALOGS, release, &dialog("c1", 5));
    assert_eq!(take(&mut replica, release, 1, &whole), Ok(()));
    assert_eq!((replica.len(), given(&replica, release)), (1, vec![whole]));
}

#[test]
fn a_dialog_goes_to_nodes_that_read_its_layout_and_to_no_others() {
    let mut replica = new();
    for (callid, release, version) in [
        ("a", Release::V2_4, 1),
        ("b", Release::V3_0, 2),
        ("c", Release::V3_1, 4),
    ] {
        let created = packet(DIALOGS, release, "CREATED", version, &dialog(callid, 1));
        assert_eq!(apply(&mut replica, release, &created), Verdict::Handled);
    }
    for (release, callid, version) in [
        (Release::V2_4, "a", 1),
        (Release::V3_0, "b", 2),
        (Release::V3_1, "c", 4),
        (Release::V3_6, "c", 4),
        (Release::V4_0, "c", 4),
    ] {
        let all = given(&replica, release);
        let callids: Vec<_> = all
            .iter()
            .map(|data| Fields::new(Generation::Modern, data, 0).pop_str().unwrap())
            .collect();
        assert_eq!(callids, [callid.as_bytes()], "{release}");
        assert_eq!(replica.data_version(release), Some(version));
    }
    assert_eq!(replica.data_version(Release::V2_3), None);
    let passed_over = replica.tally().unwrap().passed_over.load(Ordering::Relaxed);
    assert_eq!(passed_over, 10, "two in each of five walks");
}

#[test]
fn what_cannot_be_told_to_a_release_is_told_of_before_the_first_record() {
    let mut replica = new();
    let put = |replica: &mut OpaqueReplica, release, callid: &str, state| {
        let version = if release == Release::V3_6 { 4 } else { 1 };
        let mut fill = dialog(callid, 1);
        fill.push(("state", Number(state)));
        let created = packet(DIALOGS, release, "CREATED", version, &fill);
        assert_eq!(apply(replica, release, &created), Verdict::Handled);
    };
    let step = |replica: &OpaqueReplica, from| {
        let mut given = 0;
        let walked = replica.walk(from, Release::V3_6, 1, &mut |_| given += 1);
        (given, walked.left_out, walked.next)
    };
    for callid in ["a", "b", "c"] {
        put(&mut replica, Release::V3_6, callid, 4);
    }
    let (given, left_out, next) = step(&replica, Cursor::default());
    assert_eq!((given, left_out), (1, 0));
    // The last ones, in places far behind the first step.
    put(&mut replica, Release::V2_4, "d", 4);
    put(&mut replica, Release::V2_4, "e", 4);
    assert_eq!(step(&replica, Cursor::default()).1, 2);
    // Each is counted once in a walk; also one that came to it meanwhile.
    let (_, left_out, next) = step(&replica, next.unwrap());
    assert_eq!(left_out, 2);
    put(&mut replica, Release::V2_4, "c", 4);
    let (given, left_out, next) = step(&replica, next.unwrap());
    assert_eq!((given, left_out), (0, 1));
    assert_eq!(next, None, "nothing was left to be given");
    // What changes its layout back, or goes, is left out no more.
    put(&mut replica, Release::V3_6, "c", 4);
    for callid in ["d", "e"] {
        let deleted = packet(DIALOGS, Release::V2_4, "DELETED", 1, &dialog(callid, 1));
        assert_eq!(
            apply(&mut replica, Release::V2_4, &deleted),
            Verdict::Handled
        );
    }
    assert_eq!(step(&replica, Cursor::default()).1, 0);
}

#[test]
fn packets_and_chunks_that_are_no_dialogs_are_refused_with_their_place() {
    let mut replica = new();
    let release = Release::V3_6;
    let created = packet(DIALOGS, release, "CREATED", 4, &dialog("c1", 5));
    let (head, trailer) = (10 + 2 + DIALOGS.len() + 4, 12);
    for len in head + trailer..created.len() {
        let mut cut = [
            &created[..len - trailer],
            &created[created.len() - trailer..],
        ]
        .concat();
        cut[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        let verdict = apply(&mut replica, release, &cut);
        assert!(
            matches!(verdict, Verdict::Field(error) if error.at < len),
            "{len}: {verdict:?}"
        );
    }
    let whole = chunk(DIALOGS, release, &dialog("c1", 5));
    for len in 1..whole.len() {
        let error = take(&mut replica, release, 4, &whole[..len]).unwrap_err();
        assert!(error.at <= len, "{error:?}");
    }
    let error = take(&mut replica, release, 99, &whole).unwrap_err();
    assert_eq!((error.kind, error.have), (ErrorKind::Variant, 99));
    let strange = packet_of(
        DIALOGS,
        &Message {
            command: 77,
            ..*row(release)
        },
        4,
        &dialog("c1", 5),
    );
    assert_eq!(
        apply(&mut replica, release, &strange),
        Verdict::UnknownCommand
    );
    let strange = packet_of(DIALOGS, row(release), 50, &dialog("c1", 5));
    assert_eq!(
        apply(&mut replica, release, &strange),
        Verdict::UnknownVersion
    );
    assert!(replica.is_empty());
}

fn row(release: Release) -> &'static Message {
    schema::find(release, DIALOGS.as_bytes(), 1).unwrap()
}
