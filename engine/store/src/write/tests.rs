use super::*;
use crate::change::{Change, Named};
use crate::model::{Aor, Cached, Contact, Dialog, Matching, VarValue};
use crate::read::{ReadError, Scratch, read, read_chunk};
use crate::samples::pools;
use crate::vars::{self, Scope};
use binrush_wire::schema::{self, SchemaError};
use binrush_wire::{Chunk, ErrorKind, Packet, Trailer};
use proptest::prelude::*;

pub(crate) const NOW: i64 = 1_800_000_000;

/// What is left of a dialog that went through `release`: the table of the module's docs, in code. `lists` has room for its lists.
pub(crate) fn dialog_after<'a>(
    dialog: Dialog<'a>,
    release: Release,
    lists: &'a mut (Vec<u8>, Vec<u8>),
) -> Dialog<'a> {
    let since = |first| release >= first;
    for (name, value) in vars::values(dialog.vars) {
        match value {
            VarValue::Int(number) if !since(Release::V3_4) => {
                let text = number.to_string();
                vars::push_value(&mut lists.0, name, VarValue::Str(text.as_bytes()));
            }
            value => vars::push_value(&mut lists.0, name, value),
        }
    }
    for (name, scope, value) in vars::profiles(dialog.profiles) {
        let scope = match scope {
            Scope::Bin if !since(Release::V2_2) => Scope::Local,
            scope => scope,
        };
        vars::push_profile(&mut lists.1, name, scope, value);
    }
    Dialog {
        vars: &lists.0,
        profiles: &lists.1,
        module_flags: if since(Release::V2_2) {
            dialog.module_flags
        } else {
            0
        },
        flags: if since(Release::V2_4) {
            dialog.flags & !0x80
        } else {
            dialog.flags
        },
        sdp: match release {
            _ if since(Release::V3_0) => dialog.sdp,
            _ if since(Release::V2_4) => [b"", dialog.sdp[1], b"", dialog.sdp[3]],
            _ => [b""; 4],
        },
        advertised: if since(Release::V3_0) {
            dialog.advertised
        } else {
            [b""; 2]
        },
        routes: if since(Release::V3_1) {
            dialog.routes
        } else {
            [b""; 3]
        },
        ..dialog
    }
}

pub(crate) fn aor_after(aor: Aor<'_>, release: Release) -> Aor<'_> {
    Aor {
        labels: (release >= Release::V2_4).then(|| aor.labels.unwrap_or((0, 0))),
        kv: if release >= Release::V3_6 {
            aor.kv
        } else {
            b""
        },
        ..aor
    }
}

pub(crate) fn contact_after(contact: Contact<'_>, release: Release) -> Contact<'_> {
    let names = release >= Release::V3_6;
    Contact {
        id: if release >= Release::V2_4 {
            contact.id
        } else {
            None
        },
        kv: if release >= Release::V3_0 {
            contact.kv
        } else {
            b""
        },
        cflags: if names { 0 } else { contact.cflags },
        cflag_names: names.then(|| contact.cflag_names.unwrap_or(b"")),
        ..contact
    }
}

pub(crate) fn cached_after(cached: Cached<'_>) -> Cached<'_> {
    let left = (cached.expires - NOW).clamp(1, i32::MAX.into());
    Cached {
        expires: if cached.expires == 0 { 0 } else { NOW + left },
        ..cached
    }
}

/// Whether `change` tells of `record`, as far as `release` can.
fn tells_of(change: &Change<'_>, record: &Record<'_>, release: Release, synced: bool) {
    match (change, *record) {
        (Change::DialogCreated(read), Record::Dialog(dialog)) => {
            let mut lists = (vec![], vec![]);
            assert_eq!(
                *read,
                dialog_after(dialog, release, &mut lists),
                "{release}"
            );
        }
        (Change::AorInserted(read), Record::Aor(aor)) => {
            assert_eq!(*read, aor_after(aor, release), "{release}");
        }
        (Change::ContactInserted(read, matching), Record::Contact(contact)) => {
            assert_eq!(*read, contact_after(contact, release), "{release}");
            let by_callid = synced && release >= Release::V3_1;
            assert_eq!(*matching == Matching::UriAndCallid, by_callid, "{release}");
        }
        (Change::CacheInserted(read), Record::Cached(cached)) => {
            assert_eq!(*read, cached_after(cached), "{release}");
        }
        (Change::Profiles(read), Record::Profile(count, _)) => assert_eq!(*read, [count]),
        (Change::Pipes(read), Record::Pipe(mut count, _)) => {
            if release < Release::V3_3 {
                count.flags = 0;
            }
            assert_eq!(*read, [count], "{release}");
        }
        (change, record) => panic!("{release}: {change:?} of {record:?}"),
    }
}

/// Who sends what live, and who in syncs.
fn spoken(kind: Kind, release: Release) -> (bool, bool) {
    let syncs = release >= Release::V2_4;
    match kind {
        Kind::Dialog | Kind::Aor | Kind::Contact => (true, syncs),
        Kind::Cached => (release >= Release::V3_0, release >= Release::V3_0),
        Kind::Profile | Kind::Pipe => (release >= Release::V2_2, false),
    }
}

fn live(record: &Record<'_>, release: Release) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    match packet(record, release, 7, NOW, &mut buffer) {
        Ok(mut packet) => {
            if release >= Release::V2_3 {
                packet.push_trailer(Trailer::new(1, 2, 3)).unwrap();
            }
            Some(packet.seal().to_vec())
        }
        Err(Unfit::NotSpoken { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn synced(record: &Record<'_>, release: Release) -> Option<Vec<u8>> {
    let mut data = b"before".to_vec();
    match chunk(record, release, NOW, &mut data) {
        Ok(()) => Some(data.split_off(6)),
        Err(Unfit::NotSpoken { .. }) => {
            assert_eq!(data, b"before");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What is left of `change` when it went through `release`, which has a message for it: the tables of the module's docs, in code.
pub(crate) fn change_after<'a>(
    change: &Change<'a>,
    release: Release,
    lists: &'a mut (Vec<u8>, Vec<u8>),
) -> Change<'a> {
    let names_ids = release >= Release::V3_1;
    let named = |dialog: Named<'a>| Named {
        h_id: dialog.h_id.filter(|_| names_ids),
        ..dialog
    };
    let matching = |matching: Matching<'a>| match names_ids {
        true => matching,
        false => Matching::Uri,
    };
    match change.clone() {
        Change::DialogCreated(dialog) => {
            Change::DialogCreated(dialog_after(dialog, release, lists))
        }
        Change::DialogUpdated(dialog) => {
            Change::DialogUpdated(dialog_after(dialog, release, lists))
        }
        Change::DialogDeleted(dialog) => Change::DialogDeleted(named(dialog)),
        Change::DialogCseq { dialog, cseq } => Change::DialogCseq {
            dialog: named(dialog),
            cseq,
        },
        Change::AorInserted(aor) => Change::AorInserted(aor_after(aor, release)),
        Change::ContactInserted(contact, how) => {
            Change::ContactInserted(contact_after(contact, release), matching(how))
        }
        Change::ContactUpdated(contact, how) => {
            let kv = match release {
                // Its inserts have none.
                Release::V2_4 => contact.kv,
                release => contact_after(contact, release).kv,
            };
            let contact = Contact {
                kv,
                ..contact_after(contact, release)
            };
            Change::ContactUpdated(contact, matching(how))
        }
        Change::ContactDeleted {
            domain,
            aor,
            uri,
            callid,
            cseq,
            matching: how,
        } => Change::ContactDeleted {
            domain,
            aor,
            uri,
            callid,
            cseq,
            matching: matching(how),
        },
        Change::Pipes(mut counts) => {
            if release < Release::V3_3 {
                counts.iter_mut().for_each(|count| count.flags = 0);
            }
            Change::Pipes(counts)
        }
        Change::CacheInserted(cached) => Change::CacheInserted(cached_after(cached)),
        same @ (Change::DialogValue { .. }
        | Change::AorDeleted(..)
        | Change::Profiles(_)
        | Change::CacheRemoved(..)) => same,
    }
}

/// Since when releases have a message for it.
pub(crate) const fn since(kind: ChangeKind) -> Release {
    match kind {
        ChangeKind::DialogCseq => Release::V2_4,
        ChangeKind::DialogValue => Release::V3_5,
        ChangeKind::Profiles | ChangeKind::Pipes => Release::V2_2,
        ChangeKind::CacheInserted | ChangeKind::CacheRemoved => Release::V3_0,
        _ => Release::V1x,
    }
}

/// The live packet that tells `change`, of node 2 of cluster 1, to node 3.
pub(crate) fn told(change: &Change<'_>, release: Release) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    match super::change(change, release, 7, NOW, &mut buffer) {
        Ok(mut packet) => {
            if release >= Release::V2_3 {
                packet.push_trailer(Trailer::new(1, 2, 3)).unwrap();
            }
            Some(packet.seal().to_vec())
        }
        Err(Unfit::NoMessage { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_change_comes_back_from_a_packet_of_every_release_as_far_as_that_carries_it(pool in pools()) {
        let mut scratch = Scratch::default();
        for release in Release::ALL {
            for change in pool.changes() {
                let bytes = told(&change, release);
                prop_assert_eq!(bytes.is_some(), release >= since(change.kind()), "{:?}", change.kind());
                let Some(bytes) = bytes else { continue };
                let packet = Packet::parse(release.generation(), &bytes).unwrap();
                let message = schema::identify_from(release, &packet).unwrap();
                prop_assert_eq!(message.walk(&packet, |_| {}).err(), None);
                prop_assert_eq!(ChangeKind::of_message(packet.name(), message.name), Some(change.kind()));
                let mut lists = (vec![], vec![]);
                let expected = change_after(&change, release, &mut lists);
                for told in [Some(release), None] {
                    let read = read(&packet, told, NOW, &mut scratch).unwrap();
                    prop_assert_eq!(&read, &expected, "{}", release);
                }
                prop_assert!(scratch.take_wrong().is_none());
            }
        }
    }

    #[test]
    fn a_new_record_and_the_change_that_tells_it_are_one_packet(pool in pools()) {
        for release in Release::ALL {
            for record in pool.records() {
                let change = match record {
                    Record::Dialog(dialog) => Change::DialogCreated(dialog),
                    Record::Aor(aor) => Change::AorInserted(aor),
                    Record::Contact(contact) => Change::ContactInserted(contact, Matching::Uri),
                    Record::Cached(cached) => Change::CacheInserted(cached),
                    Record::Profile(count, _) => Change::Profiles(vec![count]),
                    Record::Pipe(count, _) => Change::Pipes(vec![count]),
                };
                prop_assert_eq!(live(&record, release), told(&change, release));
            }
        }
    }

    #[test]
    fn a_record_comes_back_from_a_packet_of_every_release_as_far_as_that_carries_it(pool in pools()) {
        let mut scratch = Scratch::default();
        for release in Release::ALL {
            for record in pool.records() {
                let bytes = live(&record, release);
                prop_assert_eq!(bytes.is_some(), spoken(record.kind(), release).0);
                let Some(bytes) = bytes else { continue };
                let packet = Packet::parse(release.generation(), &bytes).unwrap();
                for told in [Some(release), None] {
                    let change = read(&packet, told, NOW, &mut scratch).unwrap();
                    tells_of(&change, &record, release, false);
                }
                prop_assert!(scratch.take_wrong().is_none());
            }
        }
    }

    #[test]
    fn a_record_comes_back_from_a_chunk_of_every_release_as_far_as_that_carries_it(pool in pools()) {
        let mut scratch = Scratch::default();
        for release in Release::ALL {
            for record in pool.records() {
                let data = synced(&record, release);
                prop_assert_eq!(data.is_some(), spoken(record.kind(), release).1);
                let Some(data) = data else { continue };
                let (name, _) = sent_as(ChangeKind::of_new(record.kind()), release).unwrap();
                let version = version(record.kind(), release).into();
                let data = Chunk { data: &data, at: 40 };
                for told in [Some(release), None] {
                    let change = read_chunk(name.as_bytes(), version, told, &data, NOW, &mut scratch).unwrap();
                    tells_of(&change, &record, release, true);
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_what_the_schema_finds_for_its_release(pool in pools()) {
        for release in Release::ALL {
            for record in pool.records() {
                let Some(bytes) = live(&record, release) else { continue };
                let packet = Packet::parse(release.generation(), &bytes).unwrap();
                let message = schema::find(release, packet.name(), packet.command()).unwrap();
                prop_assert_eq!(message.walk(&packet, |_| {}).err(), None);
                prop_assert!(packet.version().is_none_or(|version| message.takes(version)));
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let long = vec![b'x'; 65_536];
    let contact = Record::Contact(Contact {
        attr: &long,
        ..Contact::default()
    });
    let mut out = b"before".to_vec();
    let error = chunk(&contact, Release::V3_6, NOW, &mut out).unwrap_err();
    assert_eq!(
        error,
        Unfit::TooLong {
            len: 65_536,
            max: 65_535
        }
    );
    assert_eq!(out, b"before");
    let mut buffer = vec![0; 100];
    let contact = Record::Contact(Contact {
        attr: &long[..1000],
        ..Contact::default()
    });
    let error = packet(&contact, Release::V1x, 0, NOW, &mut buffer).unwrap_err();
    assert!(matches!(error, Unfit::Wire(error) if error.kind == ErrorKind::DoesNotFit));
}

#[test]
fn who_does_not_send_it_is_said() {
    let cached = Record::Cached(Cached::default());
    let error = chunk(&cached, Release::V2_4, NOW, &mut vec![]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2.4 sends no records of kind cached this way"
    );
}

#[test]
fn an_entry_that_is_over_is_sent_with_a_second_and_not_for_ever() {
    let at = |expires| {
        let cached = Record::Cached(Cached {
            expires,
            ..Cached::default()
        });
        let mut data = vec![];
        chunk(&cached, Release::V3_6, NOW, &mut data).unwrap();
        i32::from_le_bytes(data[6..].try_into().unwrap())
    };
    assert_eq!(
        [0, NOW - 5, NOW, NOW + 60, i64::MAX].map(at),
        [0, 1, 1, 60, i32::MAX]
    );
}

#[test]
fn a_packet_of_another_release_is_refused_where_the_release_is_told() {
    let dialog = Record::Dialog(Dialog::default());
    let bytes = live(&dialog, Release::V2_4).unwrap();
    let packet = Packet::parse(Release::V2_4.generation(), &bytes).unwrap();
    let error = read(&packet, Some(Release::V3_6), NOW, &mut Scratch::default()).unwrap_err();
    assert_eq!(error, ReadError::Schema(SchemaError::UnknownVersion));
}

#[test]
fn a_dialog_is_given_when_it_was_answered_and_the_whole_is_known() {
    let whole = Dialog {
        state: 4,
        sockets: [b"udp:192.0.2.1:5060", b"main"],
        ..Dialog::default()
    };
    let half = Dialog {
        sockets: [b"udp:192.0.2.1:5060", b""],
        ..whole
    };
    let provisional = Status::default().with(Status::PROVISIONAL);
    let given = |dialog, status| is_given(&Record::Dialog(dialog), status);
    assert!(given(whole, Status::default()));
    assert!(given(half, Status::default()), "as its maker said");
    assert!(given(whole, provisional), "by updates only");
    assert!(!given(half, provisional));
    for state in [1, 2, 5] {
        assert!(!given(Dialog { state, ..whole }, Status::default()));
    }
    assert!(is_given(&Record::Aor(Aor::default()), provisional));
}

#[test]
fn kinds_of_changes_stand_at_the_places_of_their_numbers_and_are_found_by_their_messages() {
    for (place, kind) in ChangeKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, place);
        for release in Release::ALL {
            let Some((module, command)) = sent_as(kind, release) else {
                assert!(release < since(kind));
                continue;
            };
            let message = schema::find(release, module.as_bytes(), command).unwrap();
            let found = ChangeKind::of_message(module.as_bytes(), message.name);
            assert_eq!(found, Some(kind), "{release}");
        }
    }
}

#[test]
fn a_dialog_that_is_named_by_tags_alone_is_told_later_nodes_under_the_version_that_has_no_id() {
    let dialog = Named {
        callid: b"c",
        tags: Some([b"a", b"b"]),
        h_id: None,
    };
    for release in [Release::V3_1, Release::V3_6, Release::V4_0] {
        let bytes = told(&Change::DialogDeleted(dialog), release).unwrap();
        let packet = Packet::parse(release.generation(), &bytes).unwrap();
        assert_eq!(packet.version(), Some(3));
        assert_eq!(packet.fields().rest().len(), 9 + 12);
    }
}

#[test]
fn a_value_without_the_id_of_its_dialog_is_refused() {
    let change = Change::DialogValue {
        dialog: Named::default(),
        name: b"n",
        value: VarValue::Gone,
    };
    let error = super::change(&change, Release::V3_6, 0, NOW, &mut [0; 200]).unwrap_err();
    assert_eq!(error.to_string(), "3.6 has no VALUE about dialog");
}

#[test]
fn the_flag_that_meant_another_thing_until_2_4_stays_behind() {
    let change = Change::DialogUpdated(Dialog {
        flags: 0x84,
        ..Dialog::default()
    });
    let flags = |release: Release| {
        let bytes = told(&change, release).unwrap();
        let packet = Packet::parse(release.generation(), &bytes).unwrap();
        match read(&packet, None, NOW, &mut Scratch::default()).unwrap() {
            Change::DialogUpdated(dialog) => dialog.flags,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([Release::V1x, Release::V2_3].map(flags), [0x84; 2]);
    assert_eq!([Release::V2_4, Release::V4_0].map(flags), [4; 2]);
}
