//! Dumps of every form, whole, cut and damaged; and what a comparison finds.

use std::fs;
use std::path::PathBuf;

use binrush_store::{Kind, Status};

use super::diff::{Counts, Difference, Outcome, Rules, Side};
use super::dump::{Dump, Item, ItemValue, Record, Value};
use super::own;

/// `ul_dump` of 1.11: flushed in the middle, with 8-bit bytes and a folded header.
const CONTACTS_TEXT: &[u8] = b"200 OK
Domain:: location table=512
\tAOR:: alice
\t\tContact:: sip:alice@10.0.0.1;x Q=1 Q=0.75
\t\t\tExpires:: 5457
\t\t\tCallid:: cid-1
\t\t\tCseq:: 2
\t\t\tUser-agent:: folded
 header
\t\t\tReceived:: sip:10.0.0.2:5070
\t\t\tState:: CS_NEW
\t\t\tFlags:: 0
\t\t\tCflags:: NAT BEHIND
\t\t\tSocket:: udp:10.0.0.9:5060
\t\t\tMethods:: 4294967295
\t\tContact:: sip:gone@10.0.0.1 Q=
\t\t\tExpires:: expired
\t\t\tCallid:: cid-2

\tAOR:: b\xe9b
\t\tContact:: sip:b\xe9b@10.0.0.3 Q=
\t\t\tExpires:: permanent
\t\t\tCallid:: cid-3
\t\t\tCseq:: 1
\t\t\tState:: CS_SYNC
\t\t\tFlags:: 1
\t\t\tCflags::\x20
\t\t\tMethods:: 13
\t\t\tAttr:: 8-bit \xff

";

/// The same, as 3.x says it.
const CONTACTS_JSON: &[u8] = br#"{"jsonrpc":"2.0","result":{"Domains":[
 {"name":"location","hash_size":512,"AORs":[
  {"AOR":"alice","Contacts":[
   {"Contact":"sip:alice@10.0.0.1;x Q=1","ContactID":"18446744073709551615","Expires":5457,"Q":"0.75","Callid":"cid-1","Cseq":2,
    "User-agent":"folded\n header","Received":"sip:10.0.0.2:5070","State":"CS_NEW","Flags":0,"Cflags":"BEHIND NAT",
    "Socket":"udp:10.0.0.9:5060","Methods":4294967295},
   {"Contact":"sip:gone@10.0.0.1","Expires":"deleted","Q":"","Callid":"cid-2"}]},
  {"AOR":"b\udce9b","Contacts":[
   {"Contact":"sip:b\udce9b@10.0.0.3","ContactID":"7","Expires":"permanent","Q":"","Callid":"cid-3","Cseq":1,"State":"CS_SYNC",
    "Flags":1,"Cflags":"","Methods":13,"Attr":"8-bit \udcff","KV-Store":"{\"k\":1}"}]}]}]},"id":1}"#;

/// `dlg_list_ctx` of 2.4: an SDP, a fork, escapes, an ended call.
const CALLS_TEXT: &[u8] = b"200 OK
dialog::  ID=95122259101
\tstate:: 4
\tuser_flags:: 0
\ttimestart:: 1795226419
\tdatestart:: 2026-11-21 02:00:19
\ttimeout:: 1795230019
\tdateout:: 2026-11-21 03:00:19
\tcallid:: call-1
\tfrom_uri:: sip:a@example.com
\tto_uri:: sip:b@example.com
\tcaller_tag:: f1
\tcaller_contact:: sip:a@10.0.0.1
\tcallee_cseq:: 7
\tcaller_route_set::\x20
\tcaller_bind_addr:: udp:10.0.0.9:5060
\tcaller_sdp:: v=0\r
m=audio 1:: 2\r

\tCALLEES::\x20
\t\tcallee::\x20
\t\t\tcallee_tag:: t1
\t\t\tcallee_contact:: sip:b@10.0.0.2
\t\t\tcaller_cseq:: 281
\t\t\tcallee_route_set:: <sip:r;lr>
\t\t\tcallee_bind_addr:: udp:10.0.0.9:5060
\t\t\tcallee_sdp::\x20
\t\tcallee::\x20
\t\t\tcallee_tag:: t2
\t\t\tcallee_contact:: sip:c@10.0.0.2
\t\t\tcaller_cseq:: 281
\t\t\tcallee_route_set::\x20
\t\t\tcallee_bind_addr::\x20
\t\t\tcallee_sdp::\x20
\tcontext::\x20
\t\tvalues::\x20
\t\t\tname:: Zo\\xc3\\xab\\n \\x41
\t\t\tempty::\x20
\t\tprofiles::\x20
\t\t\ttrunk:: tr\xe4nk
\t\t\tinbound::\x20
dialog::  ID=1
\tstate:: 5

";

const CALLS_JSON: &[u8] = br#"{"Dialogs":[{"ID":"22.5daf7f25","db_id":"95122259101","state":3,"user_flags":"","timestart":1795226419,
 "timeout":1795230021,"callid":"call-1","from_uri":"sip:a@example.com","to_uri":"sip:b@example.com","caller_tag":"f1",
 "caller_contact":"sip:a@10.0.0.1","callee_cseq":"7","caller_route_set":"","caller_bind_addr":"udp:10.0.0.9:5060",
 "caller_sent_sdp":"v=0\r\nm=audio 1:: 2\r\n","CALLEES":[{"callee_tag":"t2","callee_contact":"sip:c@10.0.0.2","caller_cseq":"281",
 "callee_route_set":"","callee_bind_addr":null}],"context":{"values":[{"empty":""},{"name":"Zo\\xc3\\xab\\n \\x41"}],
 "profiles":[{"inbound":""},{"trunk":"tr\udce4nk"}]}}]}"#;

#[track_caller]
fn read(bytes: &[u8]) -> Dump {
    Dump::read(bytes, None).unwrap()
}

#[track_caller]
fn refused(bytes: &[u8]) -> String {
    format!("{:#}", Dump::read(bytes, None).unwrap_err())
}

/// The dump as our own file.
fn own(dump: &Dump) -> Vec<u8> {
    let mut bytes = Vec::new();
    own::write(&mut bytes, dump, &dump.records).unwrap();
    bytes
}

fn compare(a: &Dump, b: &Dump) -> Outcome {
    let rules = Rules {
        tolerance: 5,
        ..Rules::default()
    };
    Outcome::of(a.clone(), b.clone(), &rules)
}

/// The names of the fields that differ in the one record that does.
#[track_caller]
fn fields(outcome: &Outcome) -> Vec<&'static str> {
    let [Difference::Fields(_, fields)] = &outcome.differences[..] else {
        panic!("{outcome:?}");
    };
    fields.iter().map(|field| field.name).collect()
}

fn item(name: &str, value: &[u8]) -> Item {
    Item::new(name, ItemValue::Text(value.to_vec()))
}

/// The replies that genuine nodes gave.
fn captured() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures/state");
    let files = fs::read_dir(folder).unwrap().map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    });
    files.collect()
}

#[test]
fn text_and_json_of_the_same_contacts_say_the_same() {
    let (text, json) = (read(CONTACTS_TEXT), read(CONTACTS_JSON));
    for dump in [&text, &json] {
        assert_eq!(dump.kinds, [Kind::Aor, Kind::Contact]);
        assert_eq!((dump.count(Kind::Aor), dump.count(Kind::Contact)), (2, 2));
        assert_eq!(dump.over, 1, "the expired one");
        let [alice, bob] = &dump.of(Kind::Contact).collect::<Vec<_>>()[..] else {
            panic!("{dump:?}");
        };
        assert_eq!(
            alice.get("contact"),
            Some(&Value::text("sip:alice@10.0.0.1;x Q=1"))
        );
        assert_eq!(alice.get("q"), Some(&Value::Int(750)));
        assert_eq!(alice.get("expires"), Some(&Value::Left(5457)));
        assert_eq!(
            alice.get("user_agent"),
            Some(&Value::text("folded\n header"))
        );
        assert_eq!(alice.get("cflag_names"), Some(&Value::text("BEHIND NAT")));
        assert_eq!(alice.get("cflags"), None, "the mask is not known");
        assert_eq!(alice.get("methods"), Some(&Value::Int(0xffff_ffff)));
        assert_eq!(bob.get("aor"), Some(&Value::text(*b"b\xe9b")));
        assert_eq!(bob.get("attr"), Some(&Value::text(*b"8-bit \xff")));
        assert_eq!(bob.get("expires"), Some(&Value::Int(0)));
        assert_eq!(bob.get("q"), Some(&Value::Int(-1)));
        assert_eq!(bob.get("cflags"), Some(&Value::Int(0)));
        assert_eq!(bob.get("socket"), None, "it is not the node's own");
    }
    let id = json
        .of(Kind::Contact)
        .next()
        .and_then(|alice| alice.get("contact_id"));
    assert_eq!(id, Some(&Value::Id(u64::MAX)));
    assert!(compare(&text, &json).equal());
}

#[test]
fn text_and_json_of_the_same_call_say_the_same() {
    let (text, json) = (read(CALLS_TEXT), read(CALLS_JSON));
    assert_eq!(
        (text.records.len(), text.over),
        (1, 1),
        "the ended one is left out"
    );
    let call = &text.records[0];
    assert_eq!(call.get("h_id"), Some(&Value::Int(632_978_589)));
    assert_eq!(call.get("caller_cseq"), Some(&Value::text("7")));
    assert_eq!(call.get("callee_cseq"), Some(&Value::text("281")));
    assert_eq!(
        call.get("caller_sdp_out"),
        Some(&Value::text("v=0\r\nm=audio 1:: 2\r\n"))
    );
    assert_eq!(call.get("caller_sdp_in"), None, "2.4 does not know it");
    let vars = vec![item("empty", b""), item("name", "Zoë\n \\x41".as_bytes())];
    assert_eq!(call.get("vars"), Some(&Value::Items(vars)));
    let profiles = vec![item("inbound", b""), item("trunk", b"tr\xe4nk")];
    assert_eq!(call.get("profiles"), Some(&Value::Items(profiles)));
    // The callee that A has second is the one that B has; 3 and 4 are both answered; 2 s are within the tolerance.
    for (a, b) in [(&text, &json), (&json, &text)] {
        let outcome = compare(a, b);
        assert!(outcome.equal(), "{outcome:?}");
    }
}

#[test]
fn every_reply_of_a_genuine_node_equals_itself_and_its_own_dump() {
    let captured = captured();
    assert_eq!(captured.len(), 28);
    for (name, bytes) in captured {
        let dump =
            Dump::read(&bytes, Some(1_795_230_500)).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(compare(&dump, &dump).equal(), "{name}");
        let mut again = read(&own(&dump));
        for (record, read) in dump.records.iter().zip(&mut again.records) {
            // What a fork might have been is not written.
            read.other_legs.clone_from(&record.other_legs);
        }
        assert_eq!(again, dump, "{name}");
    }
}

#[test]
fn a_changed_field_is_found_whichever_it_is() {
    for dump in [CONTACTS_JSON, CALLS_JSON, CONTACTS_TEXT, CALLS_TEXT].map(read) {
        for (index, record) in dump.records.iter().enumerate() {
            for (place, value) in record.fields.iter().enumerate() {
                let Some(value) = value else { continue };
                let mut changed = dump.clone();
                changed.records[index].other_legs.clear();
                let mut plain = dump.clone();
                plain.records[index].other_legs.clear();
                changed.records[index].fields[place] = Some(match value {
                    Value::Bytes(bytes) => Value::Bytes([bytes, &b"x"[..]].concat()),
                    Value::Int(number) => Value::Int(number + 6),
                    Value::Left(number) => Value::Left(number - 6),
                    Value::Id(number) => Value::Id(number ^ 1),
                    Value::Items(items) => Value::Items(items[1..].to_vec()),
                });
                let outcome = compare(&plain, &changed);
                assert!(!outcome.equal(), "field {place} of {record:?}");
            }
        }
    }
}

#[test]
fn a_missing_record_is_found_on_the_side_that_has_it() {
    for whole in [CONTACTS_JSON, CALLS_TEXT].map(read) {
        for index in 0..whole.records.len() {
            let mut less = whole.clone();
            let missing = less.records.remove(index);
            for (a, b, side) in [(&whole, &less, Side::A), (&less, &whole, Side::B)] {
                let outcome = compare(a, b);
                let [Difference::OnlyIn(found, record)] = &outcome.differences[..] else {
                    panic!("{outcome:?}");
                };
                assert_eq!((*found, &record.fields), (side, &missing.fields));
                let counts = outcome.counts[&missing.kind];
                assert_eq!(
                    (counts.only_a, counts.only_b),
                    match side {
                        Side::A => (1, 0),
                        Side::B => (0, 1),
                    }
                );
            }
        }
    }
}

#[test]
fn clocks_may_be_apart_as_far_as_the_tolerance_and_no_further() {
    let whole = read(CALLS_JSON);
    for (by, equal) in [(-5, true), (5, true), (6, false), (-6, false)] {
        let mut later = whole.clone();
        later.records[0].set("expires", Value::Int(1_795_230_021 + by));
        assert_eq!(compare(&whole, &later).equal(), equal, "{by}");
    }
    // Never is no clock.
    let mut never = whole.clone();
    never.records[0].set("expires", Value::Int(0));
    let mut soon = whole.clone();
    soon.records[0].set("expires", Value::Int(3));
    assert_eq!(fields(&compare(&never, &soon)), ["expires"]);
    // When a call began is replicated as it is.
    let mut began = whole.clone();
    began.records[0].set("start_ts", Value::Int(1_795_226_420));
    assert_eq!(fields(&compare(&whole, &began)), ["start_ts"]);
}

#[test]
fn seconds_left_are_a_time_only_where_the_time_of_the_dump_is_known() {
    let left = read(CONTACTS_TEXT);
    let at = Dump::read(CONTACTS_TEXT, Some(1000)).unwrap();
    let alice = at.of(Kind::Contact).next().unwrap();
    assert_eq!(alice.get("expires"), Some(&Value::Int(6457)));
    let outcome = compare(&left, &at);
    assert!(outcome.equal());
    assert_eq!(outcome.clocks_apart, 1);
}

#[test]
fn a_name_that_changed_in_its_last_part_is_one_record_with_a_changed_field() {
    let (contacts, calls) = (read(CONTACTS_JSON), read(CALLS_JSON));
    for (whole, index, name) in [(contacts, 1, "callid"), (calls, 0, "callee_tag")] {
        let mut changed = whole.clone();
        changed.records[index].set(name, Value::text("another"));
        assert_eq!(fields(&compare(&whole, &changed)), [name]);
        // Where there are two of them, nobody can say which became which.
        let mut twice = changed.clone();
        let mut third = twice.records[index].clone();
        third.set(name, Value::text("a third"));
        twice.records.push(third);
        let outcome = compare(&whole, &twice);
        let counts = outcome.counts[&whole.records[index].kind];
        assert_eq!((counts.only_a, counts.only_b), (1, 2));
    }
}

#[test]
fn records_of_one_name_are_paired_with_their_equals() {
    let mut a = Dump {
        kinds: vec![Kind::Profile],
        ..Dump::default()
    };
    for node in [1, 2, 3] {
        let mut record = Record::new(Kind::Profile);
        record.set("profile", Value::text("trunk"));
        record.set("value", Value::text("x"));
        record.set("node", Value::Int(node));
        a.records.push(record);
    }
    let mut b = a.clone();
    b.records.reverse();
    assert!(compare(&a, &b).equal());
    b.records.pop();
    let counts = compare(&a, &b).counts[&Kind::Profile];
    let wanted = Counts {
        a: 3,
        b: 2,
        equal: 2,
        only_a: 1,
        ..Counts::default()
    };
    assert_eq!(counts, wanted);
}

#[test]
fn only_fields_and_kinds_that_both_sides_tell_of_are_compared() {
    let genuine = read(CALLS_JSON);
    let mut engine = genuine.clone();
    engine.kinds = Kind::ALL.to_vec();
    engine.vars_guessed = false;
    engine.records[0].status = Status::NO_SOCKET;
    engine.records[0].set("on_answer", Value::text("route"));
    engine.records.push(read(CONTACTS_JSON).records[0].clone());
    // What the escape stands for cannot be told: both are shown as `\n` by the node.
    engine.records[0].set(
        "vars",
        Value::Items(vec![
            item("empty", b""),
            item("name", "Zoë\\n \\x41".as_bytes()),
        ]),
    );
    let outcome = compare(&genuine, &engine);
    assert!(outcome.equal(), "{outcome:?}");
    assert_eq!(outcome.counts.keys().collect::<Vec<_>>(), [&Kind::Dialog]);
    // Between engines it is told.
    let mut other = engine.clone();
    other.records[0].set("vars", genuine.records[0].get("vars").unwrap().clone());
    assert_eq!(fields(&compare(&engine, &other)), ["vars"]);
}

#[test]
fn a_record_of_the_store_says_what_a_genuine_node_shows_of_it() {
    use binrush_store::flat::Writer;
    use binrush_store::model::VarValue;
    use binrush_store::vars::{Scope, push_profile, push_value};

    let genuine = Dump::read(CONTACTS_JSON, Some(1000)).unwrap();
    let mut flat = Vec::new();
    let mut writer = Writer::new(&mut flat, Kind::Contact, Status::NO_SOCKET);
    for text in ["location", "alice", "sip:alice@10.0.0.1;x Q=1", "cid-1"] {
        writer.str(text.as_bytes());
    }
    // One more than its id.
    writer.int(8).str(b"folded\n header").str(b"").str(b"");
    writer.str(b"sip:10.0.0.2:5070").str(b"").int(6457).int(750);
    writer.str(b"udp:10.0.0.9:5060").int(2).int(0).int(0);
    writer.str(b" NAT BEHIND").int(-1).int(900).str(b"");
    let mut ours = genuine.clone();
    ours.records[1] = Record::of_flat(&flat).unwrap();
    assert_eq!(ours.records[1].status, Status::NO_SOCKET);
    assert_eq!(fields(&compare(&genuine, &ours)), ["contact_id"]);
    assert_eq!(ours.records[1].get("contact_id"), Some(&Value::Id(7)));

    let (mut vars, mut profiles) = (Vec::new(), Vec::new());
    push_value(&mut vars, b"name", VarValue::Str(b"x"));
    push_value(&mut vars, b"count", VarValue::Int(-7));
    push_profile(&mut profiles, b"trunk", Scope::Bin, b"v");
    let mut flat = Vec::new();
    let mut writer = Writer::new(&mut flat, Kind::Dialog, Status::PROVISIONAL);
    for field in Kind::Dialog.fields() {
        match (field.name, field.holds) {
            ("vars", _) => writer.str(&vars),
            ("profiles", _) => writer.str(&profiles),
            (_, binrush_store::flat::Holds::Str) => writer.str(b"s"),
            _ => writer.int(-1),
        };
    }
    let call = Record::of_flat(&flat).unwrap();
    assert_eq!(call.get("h_id"), Some(&Value::Int(0xffff_ffff)));
    let count = Item::new("count", ItemValue::Number(-7));
    let wanted = vec![count, item("name", b"x")];
    assert_eq!(call.get("vars"), Some(&Value::Items(wanted)));
    assert_eq!(
        call.get("profiles"),
        Some(&Value::Items(vec![item("trunk", b"v")]))
    );
    assert!(
        Record::of_flat(&flat[..flat.len() - 2]).is_ok(),
        "an older record has fewer fields"
    );
    assert!(Record::of_flat(&flat[..3]).is_err());
}

#[test]
fn flags_by_number_and_by_name_meet_where_none_is_set() {
    let by_name = read(CALLS_JSON);
    let text = String::from_utf8_lossy(CALLS_TEXT).replace("user_flags:: 0", "user_flags:: 4");
    assert_eq!(
        fields(&compare(&by_name, &read(text.as_bytes()))),
        ["profiles", "user_flags"]
    );
}

#[test]
fn a_reply_cut_short_anywhere_is_refused_by_its_line() {
    for whole in [
        CONTACTS_TEXT,
        CALLS_TEXT,
        CONTACTS_JSON,
        CALLS_JSON,
        &own(&read(CALLS_TEXT)),
    ] {
        for len in 0..whole.len() {
            let Err(error) = Dump::read(&whole[..len], None) else {
                let flushed = whole[..len].ends_with(b"\n\n");
                let end = whole[len..].trim_ascii().is_empty() || whole[..len] == b"200 OK\n\n"[..];
                assert!(flushed || end, "{}", whole[..len].escape_ascii());
                continue;
            };
            let error = format!("{error:#}");
            let placed = error.contains("line ") || whole[..len].trim_ascii().is_empty();
            let counted = error.starts_with("it ends after ");
            assert!(placed || counted, "{len} bytes: {error}");
        }
    }
}

#[test]
fn no_byte_changed_and_no_captured_reply_cut_makes_it_panic() {
    for whole in [
        CONTACTS_TEXT,
        CALLS_TEXT,
        CONTACTS_JSON,
        CALLS_JSON,
        &own(&read(CALLS_TEXT)),
    ] {
        for at in 0..whole.len() {
            for byte in [b'\t', b'\n', b'"', b'\\', 0xff] {
                let mut damaged = whole.to_vec();
                damaged[at] = byte;
                if let Ok(dump) = Dump::read(&damaged, Some(i64::MAX)) {
                    assert!(Outcome::of(dump.clone(), dump, &Rules::default()).equal());
                }
            }
        }
    }
    for (_, bytes) in captured() {
        for len in (0..bytes.len()).step_by(bytes.len() / 3 + 1) {
            assert!(Dump::read(&bytes[..len], None).is_err());
        }
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let contacts = String::from_utf8_lossy(CONTACTS_TEXT).into_owned();
    for (from, to, words) in [
        (
            "200 OK",
            "404 Table not found",
            "line 1: the node refused: 404 Table not found",
        ),
        (
            "Domain::",
            "Realm::",
            "line 2: neither a dump of binrush nor",
        ),
        (
            "Cseq:: 2",
            "Cseq:: two",
            "contact at line 4: Cseq \"two\" is not a number that fits",
        ),
        (
            "Q=0.75",
            "Q=7.5",
            "contact at line 4: Q \"7.5\" is not between 0 and 1",
        ),
        (
            "\t\t\tCallid:: cid-1\n",
            "",
            "contact at line 4: it has no Callid",
        ),
        (
            "\tAOR:: alice",
            "\tAOR:: alice\n\t\t\t\tdeep:: x",
            "line 4 stands 4 tabs deep, and 2 is the most here",
        ),
    ] {
        let error = refused(contacts.replacen(from, to, 1).as_bytes());
        assert!(error.contains(words), "{error}");
    }
    for (json, words) in [
        (
            r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":1}"#,
            "the node refused: -32601 Method not found",
        ),
        (
            r#"{"Processes":[]}"#,
            "line 1: there are neither Domains nor Dialogs",
        ),
        (
            "{\"Dialogs\":[\n{]}",
            "line 2, column 2: key must be a string",
        ),
        (r#"{"Dialogs":[{"state":4}]}"#, "dialog 1: it has no callid"),
        (
            r#"{"Domains":[{"name":"location","AORs":[{"AOR":"a","Contacts":[{}]}]}]}"#,
            "contact 1 of a: it has no Contact",
        ),
        ("", "there is nothing in it"),
        ("hello\n", "line 1: neither a dump"),
    ] {
        let error = refused(json.as_bytes());
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_is_wrong_in_a_dump_of_ours_is_named_with_its_line() {
    const HEAD: &str = r#"{"binrush_dump":1,"at":null,"kinds":["aor"]}"#;
    let aor = r#"{"kind":"aor","domain":"location","aor":"a"}"#;
    assert_eq!(
        read(format!("{HEAD}\n{aor}\n{{\"end\":1}}\n").as_bytes())
            .records
            .len(),
        1
    );
    for (lines, words) in [
        (
            r#"{"binrush_dump":2,"kinds":[]}"#,
            "line 1: version 2 of the format",
        ),
        (
            r#"{"binrush_dump":1,"kinds":["call"]}"#,
            "line 1: \"call\" is no kind of record",
        ),
        (
            &format!("{HEAD}\n{aor}\n"),
            "it ends after 1 record without its last line",
        ),
        (
            &format!("{HEAD}\n{aor}\n{{\"end\":2}}\n"),
            "line 3: 1 record before it, and it says 2",
        ),
        (
            &format!("{HEAD}\n{{\"kind\":\"dialog\"}}"),
            "line 2: dialogs are not among the kinds",
        ),
        (
            &format!("{HEAD}\n{{\"kind\":\"aor\",\"aor\":\"a\"}}"),
            "line 2: the aor has no domain",
        ),
        (
            &format!("{HEAD}\n{{\"kind\":\"aor\",\"shoe\":9}}"),
            "line 2: \"shoe\" is no field",
        ),
        (
            &format!("{HEAD}\n{{\"kind\":\"aor\",\"aor\":9}}"),
            "line 2: aor: 9: neither a string nor",
        ),
        (
            &format!("{HEAD}\n{{\"kind\":\"aor\",\"aor\":{{\"hex\":\"zz\"}}}}"),
            "'z' is not a hex digit",
        ),
        (
            &format!("{HEAD}\n{{\"kind\":\"aor\",\"status\":[\"odd\"]}}"),
            "line 2: \"odd\" is no status",
        ),
        (
            &format!("{HEAD}\nnonsense"),
            "line 2: column 2: expected ident",
        ),
    ] {
        let error = refused(lines.as_bytes());
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn records_of_several_tables_keep_their_tables_and_one_table_needs_no_names() {
    const TWO: &str =
        r#"{"binrush_dump":1,"at":7,"kinds":["aor"],"tables":{"1/x":["aor"],"ul":["aor"]}}"#;
    const ONE: &str = r#"{"binrush_dump":1,"at":7,"kinds":["aor"],"tables":{"ul":["aor"]}}"#;
    let aor = |more: &str| format!(r#"{{"kind":"aor","domain":"location","aor":"a"{more}}}"#);
    let (bare, x) = (aor(""), aor(r#","table":"1/x""#));
    let ul = aor(r#","table":"ul""#);
    let two = read(format!("{TWO}\n{x}\n{ul}\n{{\"end\":2}}\n").as_bytes());
    let tables: Vec<_> = two.records.iter().map(|r| r.table.as_deref()).collect();
    assert_eq!(tables, [Some("1/x"), Some("ul")]);
    assert_eq!(read(&own(&two)), two);
    let one = read(format!("{ONE}\n{bare}\n{{\"end\":1}}\n").as_bytes());
    assert_eq!(one.records[0].table.as_deref(), Some("ul"));
    assert_eq!(read(&own(&one)), one);
    assert!(!String::from_utf8(own(&one)).unwrap().contains("\"table\""));
    for wrong in [bare, aor(r#","table":"2/x""#), aor(r#","table":7"#)] {
        let error = refused(format!("{TWO}\n{wrong}\n{{\"end\":1}}\n").as_bytes());
        assert!(error.contains("line 2: it has no \"table\""), "{error}");
    }
    // Of what a genuine node has, one of the two is meant.
    let several = super::one_table(&two, "A", Kind::Aor)
        .unwrap_err()
        .to_string();
    assert!(
        several
            .contains("A has aors in several tables: 1/x, ul\n  say which one is meant: --table"),
        "{several}"
    );
    let mut chosen = two.clone();
    chosen.keep_tables(&["2/x".to_owned()]);
    assert_eq!(chosen, two, "it has none of them");
    chosen.keep_tables(&["2/x".to_owned(), "ul".to_owned()]);
    assert_eq!((chosen.records.len(), chosen.tables.len()), (1, 1));
    assert!(super::one_table(&chosen, "A", Kind::Aor).is_ok());
}
