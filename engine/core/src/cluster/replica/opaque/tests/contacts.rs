use super::Fill::{Number, Text};
use super::*;

fn new() -> OpaqueReplica {
    OpaqueReplica::new(CONTACTS)
}

/// Of a contact: its AoR, URI, Call-ID and CSEQ, found by URI and Call-ID.
fn contact<'a>(aor: &'a str, uri: &'a str, callid: &'a str, cseq: i32) -> Vec<(&'a str, Fill<'a>)> {
    vec![
        ("kind", Number(1)),
        ("aor", Text(aor)),
        ("contact", Text(uri)),
        ("callid", Text(callid)),
        ("cseq", Number(cseq)),
        ("match_mode", Number(1)),
    ]
}

fn aor(name: &str) -> [(&str, Fill<'_>); 2] {
    [("kind", Number(0)), ("aor", Text(name))]
}

/// With another way to be found.
fn found_by<'a>(mut fill: Vec<(&'a str, Fill<'a>)>, mode: i32) -> Vec<(&'a str, Fill<'a>)> {
    fill.retain(|(name, _)| *name != "match_mode");
    fill.extend([("match_mode", Number(mode)), ("", Text("line"))]);
    fill
}

const RELEASES: [(Release, i16); 5] = [
    (Release::V2_4, 2),
    (Release::V3_0, 2),
    (Release::V3_1, 3),
    (Release::V3_6, 5),
    (Release::V4_0, 5),
];

#[test]
fn inserts_and_updates_are_given_as_their_sender_would_give_them() {
    for (release, version) in RELEASES {
        let mut replica = new();
        let insert = packet(CONTACTS, release, "AOR_INSERT", version, &aor("alice"));
        assert_eq!(apply(&mut replica, release, &insert), Verdict::Handled);
        for (message, cseq) in [("CONTACT_INSERT", 1), ("CONTACT_UPDATE", 2)] {
            let fill = contact("alice", "sip:a@h", "c1", cseq);
            let bytes = packet(CONTACTS, release, message, version, &fill);
            assert_eq!(
                apply(&mut replica, release, &bytes),
                Verdict::Handled,
                "{release} {message}"
            );
            let expected = [
                chunk(CONTACTS, release, &aor("alice")),
                chunk(CONTACTS, release, &fill),
            ];
            assert_eq!(given(&replica, release), expected, "{release} {message}");
        }
        assert_eq!((replica.len(), tally(&replica)), (2, (0, 0, 0)));
        assert_eq!(replica.data_version(release), Some(version.into()));
    }
}

#[test]
fn an_update_of_a_contact_that_is_not_here_makes_it() {
    let mut replica = new();
    let release = Release::V3_6;
    let fill = contact("alice", "sip:a@h", "c1", 3);
    let update = packet(CONTACTS, release, "CONTACT_UPDATE", 5, &fill);
    assert_eq!(apply(&mut replica, release, &update), Verdict::Handled);
    assert_eq!(given(&replica, release), [chunk(CONTACTS, release, &fill)]);
}

#[test]
fn an_aor_is_given_before_its_contacts_and_goes_with_them() {
    let mut replica = new();
    let release = Release::V3_6;
    for n in 0..5 {
        let uri = format!("sip:a@h{n}");
        let fill = contact("alice", &uri, "c1", 1);
        let insert = packet(CONTACTS, release, "CONTACT_INSERT", 5, &fill);
        assert_eq!(apply(&mut replica, release, &insert), Verdict::Handled);
    }
    let insert = packet(CONTACTS, release, "AOR_INSERT", 5, &aor("alice"));
    assert_eq!(apply(&mut replica, release, &insert), Verdict::Handled);
    let bob = packet(CONTACTS, release, "AOR_INSERT", 5, &aor("bob"));
    assert_eq!(apply(&mut replica, release, &bob), Verdict::Handled);
    let all = given(&replica, release);
    assert_eq!(
        (all.len(), &all[0]),
        (7, &chunk(CONTACTS, release, &aor("alice")))
    );
    let delete = packet(CONTACTS, release, "AOR_DELETE", 5, &aor("alice"));
    assert_eq!(apply(&mut replica, release, &delete), Verdict::Handled);
    assert_eq!(
        given(&replica, release),
        [chunk(CONTACTS, release, &aor("bob"))]
    );
}

#[test]
fn a_contact_is_deleted_as_the_packet_says_how_to_find_it() {
    let release = Release::V3_6;
    let kept = contact("alice", "sip:a@h;line=1", "c1", 5);
    for (fill, mode, is_gone) in [
        (contact("alice", "sip:a@h;line=1", "c1", 5), 1, true),
        (contact("alice", "sip:a@h;line=1", "c2", 5), 1, false),
        (contact("alice", "sip:a@h;line=1", "c2", 1), 0, true),
        (contact("alice", "sip:a@h;line=2", "c1", 9), 0, false),
        (contact("alice", "sip:a@moved;line=1", "c2", 1), 2, true),
        (contact("alice", "sip:a@moved;line=2", "c1", 9), 2, false),
        (contact("alice", "sip:a@h;line=1", "c1", 4), 1, false),
        (contact("bob", "sip:a@h;line=1", "c1", 5), 1, false),
        (contact("alice", "sip:a@h;line=1", "c2", 5), -1, true),
        (contact("alice", "sip:a@h;line=2", "c1", 5), -1, false),
    ] {
        let mut replica = new();
        let insert = packet(CONTACTS, release, "CONTACT_INSERT", 5, &kept);
        assert_eq!(apply(&mut replica, release, &insert), Verdict::Handled);
        let fill = found_by(fill, mode);
        let delete = packet(CONTACTS, release, "CONTACT_DELETE", 5, &fill);
        assert_eq!(apply(&mut replica, release, &delete), Verdict::Handled);
        assert_eq!(replica.is_empty(), is_gone, "{fill:?}");
    }
}

#[test]
fn before_3_1_a_contact_is_found_by_its_uri() {
    let (mut replica, release) = (new(), Release::V2_4);
    for (uri, callid) in [("sip:a@h", "c1"), ("sip:a@h", "c2"), ("sip:a@i", "c2")] {
        let fill = contact("alice", uri, callid, 5);
        let insert = packet(CONTACTS, release, "CONTACT_INSERT", 2, &fill);
        assert_eq!(apply(&mut replica, release, &insert), Verdict::Handled);
    }
    assert_eq!(replica.len(), 2);
    let fill = contact("alice", "sip:a@h", "c9", 6);
    let delete = packet(CONTACTS, release, "CONTACT_DELETE", 2, &fill);
    assert_eq!(apply(&mut replica, release, &delete), Verdict::Handled);
    let left = contact("alice", "sip:a@i", "c2", 5);
    assert_eq!(given(&replica, release), [chunk(CONTACTS, release, &left)]);
}

#[test]
fn how_a_packet_finds_its_contact_stays_out_of_the_chunk() {
    for mode in [-1, 0, 1, 2] {
        for message in ["CONTACT_INSERT", "CONTACT_UPDATE"] {
            let (mut replica, release) = (new(), Release::V3_6);
            let fill = contact("alice", "sip:a@h;line=1", "c1", 5);
            let bytes = packet(CONTACTS, release, message, 5, &found_by(fill.clone(), mode));
            assert_eq!(apply(&mut replica, release, &bytes), Verdict::Handled);
            let expected = [chunk(CONTACTS, release, &fill)];
            assert_eq!(given(&replica, release), expected, "{message} {mode}");
        }
    }
}

#[test]
fn an_older_register_does_not_undo_a_newer_one() {
    let (mut replica, release) = (new(), Release::V3_6);
    let newer = contact("alice", "sip:a@h", "c1", 9);
    let insert = packet(CONTACTS, release, "CONTACT_INSERT", 5, &newer);
    assert_eq!(apply(&mut replica, release, &insert), Verdict::Handled);
    replica.sync_begins(seconds(200));
    let older = chunk(CONTACTS, release, &contact("alice", "sip:a@h", "c1", 8));
    assert_eq!(take(&mut replica, release, 5, &older), Ok(()));
    // It is confirmed all the same.
    let end = SyncEnd::Completed {
        remove_unconfirmed: true,
    };
    assert_eq!(ended(&mut replica, seconds(201), end), 0);
    let expected = [chunk(CONTACTS, release, &newer)];
    assert_eq!(given(&replica, release), expected);
    // Another call of the device begins to count anew.
    let other = contact("alice", "sip:a@h", "c2", 1);
    let update = packet(
        CONTACTS,
        release,
        "CONTACT_UPDATE",
        5,
        &found_by(other.clone(), 0),
    );
    assert_eq!(apply(&mut replica, release, &update), Verdict::Handled);
    assert_eq!(given(&replica, release), [chunk(CONTACTS, release, &other)]);
}

#[test]
fn what_early_2_4_sends_is_kept_as_incomplete_and_found_again() {
    let (mut replica, release) = (new(), Release::V2_4);
    let known = schema::capability(CONTACTS.as_bytes()).unwrap();
    let early = |name: &str| known.messages.iter().rfind(|row| row.name == name).unwrap();
    let insert = packet_of(CONTACTS, early("AOR_INSERT"), 1, &aor("alice"));
    assert_eq!(apply(&mut replica, release, &insert), Verdict::Handled);
    for (message, cseq) in [("CONTACT_INSERT", 1), ("CONTACT_UPDATE", 2)] {
        let fill = contact("alice", "sip:a@h", "8 bytes!", cseq);
        let bytes = packet_of(CONTACTS, early(message), 1, &fill);
        assert_eq!(apply(&mut replica, release, &bytes), Verdict::Handled);
        assert_eq!(replica.len(), 2, "{message}");
    }
    assert_eq!(given(&replica, release), Vec::<Vec<u8>>::new());
    assert_eq!(tally(&replica).0, 3);
    let whole = chunk(
        CONTACTS,
        release,
        &contact("alice", "sip:a@h", "8 bytes!", 2),
    );
    assert_eq!(take(&mut replica, release, 2, &whole), Ok(()));
    assert_eq!((replica.len(), given(&replica, release)), (2, vec![whole]));
    let fill = contact("alice", "sip:a@h", "8 bytes!", 2);
    let delete = packet(CONTACTS, release, "CONTACT_DELETE", 1, &fill);
    assert_eq!(apply(&mut replica, release, &delete), Verdict::Handled);
    assert_eq!(replica.len(), 1);
}

#[test]
fn contacts_go_to_nodes_that_read_their_layout_and_to_no_others() {
    let mut replica = new();
    for (n, (release, version)) in (0..).zip(RELEASES) {
        let uri = format!("sip:a@h{n}");
        let fill = contact("alice", &uri, "c1", 1);
        let insert = packet(CONTACTS, release, "CONTACT_INSERT", version, &fill);
        assert_eq!(apply(&mut replica, release, &insert), Verdict::Handled);
        let expected = if release == Release::V4_0 { 2 } else { 1 };
        assert_eq!(given(&replica, release).len(), expected, "{release}");
        let walked = replica.walk(Cursor::default(), release, 1 << 20, &mut |_| {});
        assert_eq!(walked.next, None);
        assert_eq!(
            walked.left_out,
            replica.len() as u64 - expected as u64,
            "{release}"
        );
    }
    assert_eq!(replica.len(), 5);
}

#[test]
fn an_aor_has_room_for_so_many_contacts_and_no_more() {
    let (mut replica, release) = (new(), Release::V3_6);
    for n in 0..=PARTS_MAX {
        let uri = format!("sip:a@h{n}");
        let fill = contact("alice", &uri, "c1", 1);
        let insert = packet(CONTACTS, release, "CONTACT_INSERT", 5, &fill);
        let expected = match n {
            PARTS_MAX => Verdict::Refused(Refusal::NoRoom),
            _ => Verdict::Handled,
        };
        assert_eq!(apply(&mut replica, release, &insert), expected, "{n}");
    }
    assert_eq!((replica.len(), tally(&replica).2), (PARTS_MAX, 1));
}
