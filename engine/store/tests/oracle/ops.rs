use binrush_store::change::{Change, Named};
use binrush_store::model::{
    Aor, Cached, Contact, Dialog, Matching, PipeCount, ProfileCount, VarValue,
};
use binrush_store::{Family, vars};
use proptest::prelude::*;
use proptest::sample::select;

use super::pair::Op;

pub(crate) fn op(family: Family) -> BoxedStrategy<Op> {
    let change = match family {
        Family::Dialogs => dialogs().boxed(),
        Family::Usrloc => usrloc().boxed(),
        Family::Cache => cache().boxed(),
        Family::Profiles => prop::collection::vec(profile(), 0..4)
            .prop_map(Change::Profiles)
            .boxed(),
        Family::Pipes => prop::collection::vec(pipe(), 0..4)
            .prop_map(Change::Pipes)
            .boxed(),
    };
    let late = prop_oneof![3 => Just(0), 1 => 0..200_u32];
    let apply = (
        change,
        prop::bool::weighted(0.2),
        0..3,
        late,
        prop::bool::weighted(0.1),
    );
    prop_oneof![
        40 => apply.prop_map(|(change, is_chunk, node, late, no_socket)| Op::Apply {
            change: Box::new(change), is_chunk, node, late, no_socket
        }),
        4 => (prop_oneof![0..4_i64, 0..90_i64, 200..400_i64, 0..5000_i64], 1..9_usize)
            .prop_map(|(seconds, budget)| Op::Pass { seconds, budget }),
        1 => Just(Op::SyncBegins),
        1 => Just(Op::SyncEnds),
        1 => Just(Op::Restart),
    ]
    .boxed()
}

/// Around the time of the tests, which begin at 1.8e9.
fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        1 => Just(0),
        4 => (-5..100_i64).prop_map(|after| 1_800_000_000 + after),
        2 => (0..9000_i64).prop_map(|after| 1_800_000_000 + after),
    ]
}

fn text(of: &'static [&'static str]) -> impl Strategy<Value = &'static [u8]> + Clone {
    select(of).prop_map(str::as_bytes)
}

fn list() -> impl Strategy<Value = &'static [u8]> {
    let item = (text(&["a", "b"]), value());
    prop::collection::vec(item, 0..3).prop_map(|items| {
        let mut list = Vec::new();
        let mut names = Vec::new();
        for (name, value) in items {
            if !names.contains(&name) {
                names.push(name);
                vars::push_value(&mut list, name, value);
            }
        }
        &*list.leak()
    })
}

fn value() -> impl Strategy<Value = VarValue<'static>> {
    prop_oneof![
        6 => Just(VarValue::Gone),
        6 => text(&["", "x", "yy"]).prop_map(VarValue::Str),
        // Two of them are too long for one record.
        1 => Just(VarValue::Str(&LONG[..40_000])),
        6 => (-3..3).prop_map(VarValue::Int),
    ]
}

const LONG: &[u8] = &[b'z'; 65_536];

const CALLIDS: &[&str] = &["c1", "c2", ""];
const TAGS: &[&str] = &["f", "t", ""];
const SOCKETS: &[&str] = &["udp:10.0.0.1:5060", "udp:10.0.0.2:5060", ""];
const URIS: &[&str] = &[
    "sip:a@h;line=1",
    "sip:a@h;line=2",
    "sip:a@i;line=1",
    "sip:b@h",
];

fn dialogs() -> impl Strategy<Value = Change<'static>> {
    let tags = || [text(TAGS), text(TAGS)];
    let named = (
        text(CALLIDS),
        prop::option::weighted(0.7, tags()),
        prop::option::of(1..4),
    )
        .prop_map(|(callid, tags, h_id)| Named { callid, tags, h_id });
    prop_oneof![
        3 => dialog().prop_map(Change::DialogCreated),
        3 => dialog().prop_map(Change::DialogUpdated),
        2 => named.clone().prop_map(Change::DialogDeleted),
        2 => (named.clone(), 0..4).prop_map(|(dialog, cseq)| Change::DialogCseq { dialog, cseq }),
        2 => (named, text(&["a", "c"]), value()).prop_map(|(dialog, name, value)| {
            Change::DialogValue { dialog, name, value }
        }),
    ]
}

fn dialog() -> impl Strategy<Value = Dialog<'static>> {
    let names = (text(CALLIDS), text(TAGS), text(TAGS), 1..4);
    let texts = (
        text(&["sip:a", "sip:b"]),
        text(SOCKETS),
        text(SOCKETS),
        text(&["1", "2"]),
        text(URIS),
        text(&["", "answer"]),
    );
    let numbers = (1..6, 0..3, 0..2, time(), 0..3);
    (names, texts, numbers, list(), list()).prop_map(|(names, texts, numbers, vars, profiles)| {
        let (callid, caller, callee, h_id) = names;
        let (uri, first, second, cseq, contact, route) = texts;
        let (state, start, flags, expires, last) = numbers;
        Dialog {
            callid,
            tags: [caller, callee],
            uris: [uri, b"sip:to"],
            h_id,
            start,
            state,
            sockets: [first, second],
            cseqs: [cseq, b"7"],
            route_sets: [route, uri],
            contacts: [contact, uri],
            mangled: [uri, route],
            sdp: [uri, cseq, b"", contact],
            advertised: [contact, b""],
            vars,
            profiles,
            user_flags: flags,
            module_flags: flags,
            flags: start,
            expires: i32::try_from(expires).unwrap(),
            last_cseqs: [last, flags],
            routes: [route, b"", b"hangup"],
        }
    })
}

fn matching() -> impl Strategy<Value = Matching<'static>> {
    prop_oneof![
        1 => Just(Matching::Uri),
        3 => Just(Matching::UriAndCallid),
        1 => Just(Matching::Params(vec![b"line"])),
    ]
}

const DOMAINS: &[&str] = &["location", "other"];
const AORS: &[&str] = &["alice", "bob", "alice", "bob", "carol", ""];

fn usrloc() -> impl Strategy<Value = Change<'static>> {
    let names = || (text(DOMAINS), text(AORS));
    let labels = prop::option::of((0..3, 0..3));
    let aor = (names(), labels, text(&["", "{}"])).prop_map(|((domain, aor), labels, kv)| Aor {
        domain,
        aor,
        labels,
        kv,
    });
    let delete = (names(), text(URIS), text(CALLIDS), 0..4, matching());
    prop_oneof![
        1 => aor.prop_map(Change::AorInserted),
        1 => names().prop_map(|(domain, aor)| Change::AorDeleted(domain, aor)),
        4 => (contact(), matching()).prop_map(|(contact, by)| Change::ContactInserted(contact, by)),
        4 => (contact(), matching()).prop_map(|(contact, by)| Change::ContactUpdated(contact, by)),
        3 => delete.prop_map(|((domain, aor), uri, callid, cseq, matching)| {
            Change::ContactDeleted { domain, aor, uri, callid, cseq, matching }
        }),
    ]
}

fn contact() -> impl Strategy<Value = Contact<'static>> {
    let names = (text(DOMAINS), text(AORS), text(URIS), text(CALLIDS));
    let texts = (
        text(&["", "Phone/1", "Phone/2"]),
        text(SOCKETS),
        text(&["", "<urn:1>", "<urn:2>"]),
        text(&["", "{}", "{\"a\":1}"]),
    );
    let id = prop::option::of(0..0x1_0000_0000_u64);
    (names, texts, id, time(), 0..4, 0..3_i64).prop_map(
        |(names, texts, id, expires, cseq, modified)| {
            let (domain, aor, uri, callid) = names;
            let (user_agent, socket, instance, kv) = texts;
            Contact {
                domain,
                aor,
                uri,
                id,
                callid,
                user_agent,
                socket,
                instance,
                expires,
                q: -1,
                cseq,
                cflag_names: (cseq > 1).then_some(b"NAT"),
                modified,
                kv,
                ..Contact::default()
            }
        },
    )
}

fn cache() -> impl Strategy<Value = Change<'static>> {
    let names = || (text(&["local", "other"]), text(&["k1", "k2", ""]));
    let cached =
        (names(), text(&["", "v", "w"]), time()).prop_map(|((collection, key), value, expires)| {
            Cached {
                collection,
                key,
                value,
                expires,
            }
        });
    prop_oneof![
        3 => cached.prop_map(Change::CacheInserted),
        1 => names().prop_map(|(collection, key)| Change::CacheRemoved(collection, key)),
    ]
}

fn profile() -> impl Strategy<Value = ProfileCount<'static>> {
    let value = prop::option::of(text(&["", "v"]));
    (text(&["p", "q"]), value, 0..3).prop_map(|(profile, value, count)| ProfileCount {
        profile,
        value,
        count,
    })
}

fn pipe() -> impl Strategy<Value = PipeCount<'static>> {
    (text(&["p", "q", ""]), 0..2, 0..3).prop_map(|(pipe, limit, counter)| PipeCount {
        pipe,
        flags: 0,
        algorithm: 1,
        limit,
        counter,
    })
}
