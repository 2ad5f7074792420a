//! Records that come from a node of one release and go to one of another.

use super::*;
use binrush_store::model::VarValue;
use binrush_store::vars::{self, Scope};

const RELEASES: [Release; 9] = [
    Release::V2_4,
    Release::V3_0,
    Release::V3_1,
    Release::V3_2,
    Release::V3_3,
    Release::V3_4,
    Release::V3_5,
    Release::V3_6,
    Release::V4_0,
];

/// Values of a dialog, a number as that or as text; and profiles.
fn lists(number: VarValue<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut values, mut profiles) = (Vec::new(), Vec::new());
    vars::push_value(&mut values, b"plan", VarValue::Str(b"gold|#"));
    vars::push_value(&mut values, b"hops", number);
    vars::push_profile(&mut profiles, b"calls", Scope::Bin, b"alice");
    vars::push_profile(&mut profiles, b"trunk", Scope::Local, b"");
    (values, profiles)
}

/// With something in every field.
fn full<'a>(vars: &'a [u8], profiles: &'a [u8]) -> Dialog<'a> {
    Dialog {
        route_sets: [b"<sip:proxy;lr>", b"<sip:edge;lr>"],
        mangled: [b"sip:a@m", b"sip:b@m"],
        sdp: [b"v=0 1", b"v=0 2", b"v=0 3", b"v=0 4"],
        advertised: [b"sip:adv1", b"sip:adv2"],
        vars,
        profiles,
        user_flags: 1,
        module_flags: 2,
        flags: 4,
        last_cseqs: [11, 12],
        routes: [b"answered", b"timeout", b"hangup"],
        ..dialog("full")
    }
}

/// What is left of a dialog behind `release`: see the table in [`binrush_store::write`].
fn left_of_dialog<'a>(release: Release, before: Dialog<'a>, text_vars: &'a [u8]) -> Dialog<'a> {
    let mut after = before;
    if release < Release::V3_4 {
        after.vars = text_vars;
    }
    if release < Release::V3_1 {
        after.routes = [b""; 3];
    }
    if release < Release::V3_0 {
        after.advertised = [b""; 2];
        after.sdp = [b"", before.sdp[1], b"", before.sdp[3]];
    }
    after
}

/// Gives everything to another replica as nodes of `release` do in a sync.
fn passed_on(from: &mut TypedReplica, capability: &str, release: Release) -> TypedReplica {
    let mut to = new(capability);
    from.turn(seconds(20));
    let version = from.data_version(release).unwrap();
    let (chunks, left_out) = given(from, release);
    assert_eq!(left_out, 0);
    to.sync_begins(seconds(20));
    for data in &chunks {
        take(&mut to, release, 20, version, data).unwrap();
    }
    to
}

#[test]
fn a_dialog_reaches_a_node_of_any_release_but_for_what_that_has_no_field_for() {
    let (vars, profiles) = lists(VarValue::Int(70));
    let (text_vars, _) = lists(VarValue::Str(b"70"));
    let before = full(&vars, &profiles);
    let mut from = new(DIALOGS);
    tell(&mut from, 1, &Record::Dialog(before));
    assert_eq!(kept(&from), texts(&[Record::Dialog(before)]));
    for release in RELEASES {
        let to = passed_on(&mut from, DIALOGS, release);
        let after = left_of_dialog(release, before, &text_vars);
        assert_eq!(kept(&to), texts(&[Record::Dialog(after)]), "{release}");
    }
}

#[test]
fn contacts_reach_a_node_of_any_release_but_for_what_that_has_no_field_for() {
    let named = contact("sip:alice@198.51.100.7", 3600);
    let mut from = new(CONTACTS);
    tell(&mut from, 1, &Record::Aor(AOR));
    tell(&mut from, 1, &Record::Contact(named));
    // One that is known from an older node has a mask.
    let masked = Contact {
        uri: b"sip:alice@198.51.100.9",
        callid: b"register-2",
        cflags: 5,
        cflag_names: None,
        ..named
    };
    let bytes = told(&Record::Contact(masked), Release::V3_3, 2);
    assert_eq!(apply(&mut from, Release::V3_3, 2, &bytes), Verdict::Handled);
    let all = [
        Record::Aor(AOR),
        Record::Contact(named),
        Record::Contact(masked),
    ];
    assert_eq!(kept(&from), texts(&all));
    for release in RELEASES {
        let to = passed_on(&mut from, CONTACTS, release);
        let has_names = release >= Release::V3_6;
        let kv = |kv: &'static [u8], since| if release < since { &b""[..] } else { kv };
        let contact = |contact: Contact<'static>| {
            Record::Contact(Contact {
                kv: kv(contact.kv, Release::V3_0),
                cflags: if has_names { 0 } else { contact.cflags },
                cflag_names: has_names.then(|| contact.cflag_names.unwrap_or_default()),
                ..contact
            })
        };
        let aor = Aor {
            kv: kv(AOR.kv, Release::V3_6),
            ..AOR
        };
        let after = [Record::Aor(aor), contact(named), contact(masked)];
        assert_eq!(kept(&to), texts(&after), "{release}");
    }
}

#[test]
fn entries_reach_nodes_from_3_0_on_with_the_seconds_that_they_have_left() {
    let mut from = new(CACHE);
    tell(&mut from, 10, &Record::Cached(cached("lasts", 600)));
    let for_ever = Cached {
        expires: 0,
        ..cached("for ever", 0)
    };
    tell(&mut from, 10, &Record::Cached(for_ever));
    let all = [
        Record::Cached(cached("lasts", 600)),
        Record::Cached(for_ever),
    ];
    assert_eq!(kept(&from), texts(&all));
    for release in RELEASES.into_iter().filter(|of| *of >= Release::V3_0) {
        let to = passed_on(&mut from, CACHE, release);
        assert_eq!(kept(&to), texts(&all), "{release}");
    }
    // Others have none, and whoever asks for it is told that it is not everything.
    assert_eq!(from.data_version(Release::V2_4), None);
    assert_eq!(given(&from, Release::V2_4), (vec![], 2));
    assert_eq!(count(&from, |tally| &tally.passed_over), 2);
}

#[test]
fn data_versions_are_those_of_genuine_nodes() {
    let versions = |capability| RELEASES.map(|release| new(capability).data_version(release));
    let some = |versions: [i32; 9]| versions.map(Some);
    assert_eq!(versions(DIALOGS), some([1, 2, 4, 4, 4, 4, 4, 4, 4]));
    assert_eq!(versions(CONTACTS), some([2, 2, 3, 3, 3, 3, 3, 5, 5]));
    assert_eq!(versions(CACHE)[1..], some([1; 9])[1..]);
    for of_counts in ["dialog-prof-repl", "ratelimit-pipe-repl"] {
        assert_eq!(versions(of_counts), [None; 9]);
    }
    for capability in [DIALOGS, CONTACTS, CACHE] {
        let opaque = OpaqueReplica::new(capability);
        let theirs = RELEASES.map(|release| opaque.data_version(release));
        assert_eq!(versions(capability), theirs, "{capability}");
        assert_eq!(new(capability).data_version(Release::V2_3), None);
    }
}

#[test]
fn a_text_that_a_release_has_no_length_for_is_left_out_and_counted() {
    // Types make values longer on their way to 3.4: two bytes for each.
    let mut values = Vec::new();
    for _ in 0..7_300 {
        vars::push_value(&mut values, b"n", VarValue::Str(b"text"));
    }
    let long = Dialog {
        vars: &values,
        ..dialog("long")
    };
    let mut from = new(DIALOGS);
    let mut bytes = Vec::new();
    write::chunk(&Record::Dialog(long), Release::V2_4, EPOCH, &mut bytes).unwrap();
    take(&mut from, Release::V2_4, 1, 1, &bytes).unwrap();
    tell(&mut from, 2, &Record::Dialog(dialog("short")));
    assert_eq!(given(&from, Release::V3_3).0.len(), 2);
    let (chunks, left_out) = given(&from, Release::V3_4);
    assert_eq!((chunks.len(), left_out), (1, 1));
    assert_eq!(count(&from, |tally| &tally.passed_over), 1);
}
