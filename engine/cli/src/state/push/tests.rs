use clap::Parser as _;
use serde_json::Value as Json;

use super::writer::LeftOut;
use super::*;
use crate::state::dump::Value;
use binrush_store::Status;
use binrush_store::translate::Refusal;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: PushArgs,
}

fn args(words: &[&str]) -> PushArgs {
    let line = [&["push", "live", "--to", "bin:127.0.0.1:5566"], words].concat();
    Line::try_parse_from(line).unwrap().args
}

const NOW: i64 = 1_800_000_000;

fn writer(release: Release, sockets: &[&str]) -> Writer {
    let ids = Ids {
        machine: 1,
        trailer: Trailer::new(1, 2, 9),
    };
    let mut set = SocketSet::default();
    for socket in sockets {
        set.insert(&socket.parse().unwrap());
    }
    let map = SocketMap::parse("udp:10.0.0.1:5060=udp:10.0.0.9:5060").unwrap();
    let target = Target::new(map, Some(set));
    Writer::new(Translator::new(release, ids), target, NOW)
}

fn record(kind: Kind, fields: &[(&str, Value)]) -> Record {
    let mut record = Record::new(kind);
    for (name, value) in fields {
        record.set(name, value.clone());
    }
    record.complete()
}

fn dialog(state: i64, callee_socket: &str) -> Record {
    record(
        Kind::Dialog,
        &[
            ("callid", Value::text("call")),
            ("state", Value::Int(state)),
            ("caller_socket", Value::text("udp:10.0.0.1:5060")),
            ("callee_socket", Value::text(callee_socket)),
            ("expires", Value::Int(NOW + 60)),
        ],
    )
}

fn contact(expires: Option<Value>, socket: &str) -> Record {
    let mut contact = record(
        Kind::Contact,
        &[
            ("aor", Value::text("alice")),
            ("contact", Value::text("sip:phone@192.0.2.1")),
            ("socket", Value::text(socket)),
        ],
    );
    if let Some(expires) = expires {
        contact.set("expires", expires);
    }
    contact
}

fn told(writer: &mut Writer, record: &Record) -> Result<bool, LeftOut> {
    let mut out = Vec::new();
    let written = writer.write(record, &mut out);
    assert_eq!(written.is_err(), out.is_empty());
    written
}

#[test]
fn a_door_is_what_the_release_listens_on() {
    let door = |text: &str, release| {
        let door = Door::parse(text, release);
        door.map_or_else(|error| error.to_string(), |door| door.to_string())
    };
    assert_eq!(door("bin:[::1]:5566", Release::V1x), "udp:[::1]:5566");
    assert_eq!(
        door("bin:10.0.0.9:5566", Release::V2_2),
        "tcp:10.0.0.9:5566"
    );
    assert_eq!(
        door("tls:10.0.0.9:5556", Release::V3_2),
        "tls:10.0.0.9:5556"
    );
    assert!(door("udp:10.0.0.9:5566", Release::V2_3).contains("--to tcp:10.0.0.9:5566"));
    assert!(door("tcp:10.0.0.9:5566", Release::V1x).contains("--to udp:10.0.0.9:5566"));
    assert!(door("tls:10.0.0.9:5566", Release::V3_1).contains("3.2"));
    for wrong in ["10.0.0.9:5566", "bin:10.0.0.9", "sctp:10.0.0.9:5566"] {
        assert!(door(wrong, Release::V3_6).contains("bin:IP:PORT expected"));
    }
}

#[test]
fn packets_say_whose_they_are_where_their_release_does_and_nowhere_else() {
    let ids = |words: &[&str]| args(words).ids().map_err(|error| error.to_string());
    let all = ["--generation=3.6", "--cluster=1", "--node=2", "--to-node=9"];
    let trailer = ids(&all).unwrap().trailer;
    assert_eq!(trailer, Trailer::new(1, 2, 9));
    assert!(
        ids(&all[..3])
            .unwrap_err()
            .contains("--to-node N is missing")
    );
    assert_eq!(ids(&["--generation=2.2", "--node=7"]).unwrap().machine, 7);
    assert!(ids(&["--generation=1.11"]).is_ok());
    let told = ids(&["--generation=2.1", "--node=7"]).unwrap_err();
    assert!(told.contains("drop --node"), "{told}");
}

#[test]
fn releases_are_named_as_people_name_them() {
    for early in ["1.x", "1.10", "1.11", "2.1"] {
        assert_eq!(release(early), Ok(Release::V1x));
    }
    assert_eq!(release("4.0"), Ok(Release::V4_0));
    let told = release("3.7").unwrap_err();
    assert!(told.contains("2.1, 2.2") && told.ends_with("4.0"), "{told}");
}

#[test]
fn what_no_node_should_get_is_left_out_by_its_reason() {
    let mut writer = writer(Release::V3_6, &["udp:10.0.0.9:5060"]);
    let ours = "udp:10.0.0.1:5060";
    assert_eq!(told(&mut writer, &dialog(4, ours)), Ok(false));
    assert_eq!(
        told(&mut writer, &dialog(2, ours)),
        Err(LeftOut::Unanswered)
    );
    let mut half = dialog(4, "");
    half.status = Status::PROVISIONAL;
    assert_eq!(told(&mut writer, &half), Err(LeftOut::Provisional));
    let foreign = LeftOut::Socket("udp:10.0.0.3:5060".to_owned());
    let elsewhere = dialog(4, "udp:10.0.0.3:5060");
    assert_eq!(told(&mut writer, &elsewhere), Err(foreign));
    let mut over = dialog(4, ours);
    over.set("expires", Value::Int(NOW));
    assert_eq!(told(&mut writer, &over), Err(LeftOut::Expired));

    let mut contact_of = |expires, socket| told(&mut writer, &contact(expires, socket));
    assert_eq!(contact_of(Some(Value::Int(0)), ours), Ok(false));
    assert_eq!(
        contact_of(Some(Value::Int(NOW + 1)), "udp:10.0.0.3:5060"),
        Ok(true)
    );
    assert_eq!(
        contact_of(Some(Value::Int(NOW - 1)), ours),
        Err(LeftOut::Expired)
    );
    assert_eq!(
        contact_of(Some(Value::Left(60)), ours),
        Err(LeftOut::NoTime)
    );
    assert_eq!(contact_of(None, ours), Err(LeftOut::NoTime));

    let pipe = record(Kind::Pipe, &[("pipe", Value::text("p"))]);
    assert_eq!(told(&mut writer, &pipe), Err(LeftOut::Count));
    let mut wrong = contact(Some(Value::Int(0)), ours);
    wrong.set("cseq", Value::Int(1 << 40));
    assert!(matches!(
        told(&mut writer, &wrong),
        Err(LeftOut::Senseless(_))
    ));
    let cached = record(Kind::Cached, &[("expires", Value::Int(0))]);
    let mut early = self::writer(Release::V2_4, &[]);
    let none = Err(LeftOut::Refused(Refusal::NoMessage));
    assert_eq!(told(&mut early, &cached), none);
}

#[test]
fn a_1_x_node_gets_the_address_of_a_socket_that_it_lacks_as_it_takes_no_contact_without() {
    let mut writer = writer(Release::V1x, &["udp:10.0.0.9:5060"]);
    let expires = || Some(Value::Int(0));
    assert_eq!(
        told(&mut writer, &contact(expires(), "udp:10.0.0.3:5060")),
        Ok(true)
    );
    let none = Err(LeftOut::Refused(Refusal::NoSocket));
    assert_eq!(told(&mut writer, &contact(expires(), "vip")), none);
    assert_eq!(told(&mut writer, &contact(expires(), "")), none);
}

#[test]
fn what_was_read_is_the_sum_of_all_that_became_of_it() {
    let args = args(&["--generation=1.11"]);
    let door = Door::parse(&args.to, args.generation).unwrap();
    let mut score = Score::new(&door, &args);
    for _ in 0..3 {
        score.read(Kind::Aor);
        score.sent(Kind::Aor, 40, false);
    }
    let left_out = contact(None, "");
    score.read(Kind::Contact);
    score.leave_out(&LeftOut::NoTime, &left_out);
    for _ in 0..2 {
        score.read(Kind::Contact);
        score.sent(Kind::Contact, 200, true);
    }
    score.read(Kind::Dialog);
    score.not_sent(Kind::Dialog);
    // Of six that were handed over, the last three did not leave: both contacts, and an AoR.
    score.undo(3);
    score.untold = vec![(Kind::Contact, vec!["methods"])];
    let json = score.json();
    let count = |of: &Json| ["read", "sent", "left_out", "not_sent"].map(|key| of[key].as_u64());
    assert_eq!(count(&json), [7, 2, 1, 4].map(Some));
    assert_eq!(count(&json["kinds"]["aor"]), [3, 2, 0, 1].map(Some));
    assert_eq!(count(&json["kinds"]["contact"]), [3, 0, 1, 2].map(Some));
    // What did not leave counts nowhere as sent.
    assert_eq!(json["bytes"], 80);
    assert_eq!(json["without_socket"], 0);
    assert_eq!(json["reasons"]["no_time"]["count"], 1);
    let words = score.words();
    for said in [
        "pushed, live to udp:127.0.0.1:5566 as 1.x",
        "1 left out, no_time",
        "such as contact",
        "alice",
        "contacts without methods",
        "7 read = 2 sent + 1 left out + 4 not sent",
        "1.x acknowledges nothing",
    ] {
        assert!(words.contains(said), "no {said:?} in\n{words}");
    }
}

#[test]
fn the_end_of_a_record_that_does_not_leave_is_not_withdrawn() {
    let args = args(&["--generation=1.11"]);
    let door = Door::parse(&args.to, args.generation).unwrap();
    let mut score = Score::new(&door, &args);
    score.read(Kind::Contact);
    score.sent(Kind::Contact, 200, false);
    score.withdrawn(90);
    score.withdrawn(90);
    score.undo(1);
    let json = score.json();
    assert_eq!(
        ["sent", "withdrawn", "bytes"].map(|key| json[key].as_u64()),
        [1, 1, 290].map(Some)
    );
    assert!(score.words().contains("1 record withdrawn"));
}

#[test]
fn what_ends_while_others_are_sent_is_left_out_from_then_on() {
    let mut writer = writer(Release::V1x, &[]);
    let contact = contact(Some(Value::Int(NOW + 60)), "udp:10.0.0.1:5060");
    assert_eq!(told(&mut writer, &contact), Ok(false));
    writer.at(NOW + 60);
    assert_eq!(told(&mut writer, &contact), Err(LeftOut::Expired));
}

#[test]
fn gone_is_what_a_later_look_has_no_longer_and_a_phone_with_another_call_is_there() {
    let named = |mut record: Record, field, value| {
        record.set(field, Value::text(value));
        record
    };
    let contact = |aor, callid| {
        let contact = contact(Some(Value::Int(0)), "");
        named(named(contact, "aor", aor), "callid", callid)
    };
    let aor = |aor| record(Kind::Aor, &[("aor", Value::text(aor))]);
    let told = [
        dialog(4, ""),
        named(dialog(4, ""), "callid", "over"),
        aor("alice"),
        contact("alice", "1"),
        contact("bob", "1"),
        record(Kind::Cached, &[("key", Value::text("k"))]),
    ];
    let told: Vec<_> = told.iter().collect();
    // Of key-value stores it tells nothing.
    let later = Dump {
        kinds: vec![Kind::Dialog, Kind::Aor, Kind::Contact],
        records: vec![dialog(4, ""), contact("alice", "2")],
        ..Dump::default()
    };
    assert_eq!(gone(&told, &later), [told[1], told[2], told[4]]);
}

#[test]
fn an_end_is_told_of_what_has_one_unless_its_time_ends_it() {
    for release in [Release::V1x, Release::V2_4, Release::V3_6] {
        let mut writer = writer(release, &[]);
        let mut has_end = |record: &Record| {
            let mut out = Vec::new();
            let has = writer.write_end(record, &mut out);
            assert_eq!(has, !out.is_empty());
            has
        };
        assert!(has_end(&dialog(4, "")));
        assert!(has_end(&contact(Some(Value::Int(0)), "")));
        assert!(has_end(&contact(Some(Value::Int(NOW + 1)), "")));
        assert!(!has_end(&contact(Some(Value::Int(NOW)), "")));
        assert!(!has_end(&record(Kind::Aor, &[])));
        let cached = record(Kind::Cached, &[("expires", Value::Int(0))]);
        assert_eq!(has_end(&cached), release >= Release::V3_0);
    }
}

#[test]
fn only_fields_that_each_release_has_are_missed_when_a_side_does_not_tell_of_them() {
    let mut dump = Dump::default();
    dump.records.push(contact(Some(Value::Int(0)), ""));
    let untold = untold(&dump);
    assert_eq!(untold.len(), 1);
    let (kind, fields) = &untold[0];
    assert_eq!(*kind, Kind::Contact);
    assert!(fields.contains(&"methods") && fields.contains(&"callid"));
    assert!(!fields.contains(&"expires") && !fields.contains(&"contact_id"));
}
