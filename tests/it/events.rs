//! `serve` tells what happens, to whoever subscribed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use binrush_engine::event::names::KNOWN;
use binrush_engine::event::read::{read, read_as};
use binrush_engine::event::{Event, Form, Value as Told};
use binrush_store::labels::core_hash;
use binrush_store::model::Dialog;
use binrush_store::read::{Scratch as Reading, read as read_change};
use binrush_store::translate::{Ids, Translator};
use binrush_store::{Applied, Change, Family, Limits, Now, Record, Store, write};
use binrush_tests::captures;
use binrush_wire::{Generation, Packet, Release, Trailer};
use serde_json::{Value, json};

use crate::made::legacy;
use crate::process::{Running, Scratch, run, wait_until};
use crate::receiver::{Receiver, count};

/// Routes that raise events, subscribe to them and hear of them.
mod routes;
/// Those who are told.
mod subscribers;

/// A `serve` at `ip` that tells events, with `more` in its configuration.
fn telling(folder: &Scratch, ip: &str, more: &str) -> Receiver {
    let control = folder.path("control.sock");
    let text = format!(
        "listen = bin:{ip}:0\nloadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\nloadmodule \"event_datagram.so\"\n\
         modparam(\"binrush\", \"allow\", \"{ip}\")\nmodparam(\"binrush\", \"shards\", 2)\n\
         modparam(\"binrush\", \"control\", \"{control}\")\n{more}"
    );
    let file = folder.file("events.cfg", text.as_bytes());
    let args = ["serve", "--json", "--stats", "0", "--config", &file];
    Receiver::of(Running::start(&args))
}

/// A subscriber that reads all that there is, and its socket in words.
fn reader() -> (UdpSocket, String) {
    let reader = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    reader
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    let socket = format!("udp:{}", reader.local_addr().expect("bound"));
    (reader, socket)
}

fn subscribe(event: &str, socket: &str) -> String {
    format!("modparam(\"binrush\", \"subscribe_event\", \"{event} {socket}\")\n")
}

/// The names of the events about each contact, by AoR and URI, in their order.
type Heard = BTreeMap<(Vec<u8>, Vec<u8>), Vec<String>>;

fn text_of<'e>(event: &'e Event<'_>, name: &str) -> &'e [u8] {
    let mut params = event.params.iter();
    let param = params.find(|param| param.name.as_deref() == Some(name.as_bytes()));
    match param.map(|param| &param.value) {
        Some(Told::Str(text)) => text,
        other => panic!("no {name}: {other:?}"),
    }
}

/// What the packets of 1.11 do to contacts, by a store of this test's own: each change that is applied, of the contacts of each AoR.
fn applied(frames: &[Vec<u8>]) -> Heard {
    let mut store = Store::new(Family::Usrloc, Limits::default());
    let (mut heard, mut there) = (Heard::new(), BTreeSet::new());
    let unix = now();
    for frame in frames {
        let packet = Packet::parse(Generation::Legacy, frame).expect("it is genuine");
        let mut scratch = Reading::default();
        let Ok(change) = read_change(&packet, Some(Release::V1x), unix, &mut scratch) else {
            continue;
        };
        let became = store.apply(Now { unix, tick: 1 }, &change, 0, &mut ());
        let mut tell = |key: (Vec<u8>, Vec<u8>), event: &str| {
            heard.entry(key).or_default().push(event.to_owned());
        };
        let (aor, uri) = match &change {
            Change::ContactInserted(contact, _) | Change::ContactUpdated(contact, _) => {
                (contact.aor, contact.uri)
            }
            Change::ContactDeleted { aor, uri, .. } => (*aor, *uri),
            Change::AorDeleted(_, aor) => {
                // All its contacts go with it.
                for key in there.extract_if(.., |key: &(Vec<u8>, Vec<u8>)| key.0 == *aor) {
                    tell(key, "E_UL_CONTACT_DELETE");
                }
                continue;
            }
            _ => continue,
        };
        let key = (aor.to_vec(), uri.to_vec());
        match became {
            Applied::Created => {
                there.insert(key.clone());
                tell(key, "E_UL_CONTACT_INSERT");
            }
            Applied::Updated => tell(key, "E_UL_CONTACT_UPDATE"),
            Applied::Removed => {
                there.remove(&key);
                tell(key, "E_UL_CONTACT_DELETE");
            }
            Applied::Nothing(_) | Applied::Refused(_) => {}
        }
    }
    heard
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("later than 1970");
    i64::try_from(since.as_secs()).expect("not that late")
}

#[test]
fn each_applied_change_of_a_contact_of_the_1_11_capture_is_one_event() {
    let folder = Scratch::new("events-1.11");
    let (reader, socket) = reader();
    let contacts = [
        "E_UL_CONTACT_INSERT",
        "E_UL_CONTACT_UPDATE",
        "E_UL_CONTACT_DELETE",
    ];
    let path = folder.path("e.sock");
    let local = UnixDatagram::bind(&path).expect("a path of ours");
    local
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    let sockets = [socket, format!("unix:{path}")];
    let to = |socket: &String| contacts.map(|event| subscribe(event, socket)).concat();
    let wanted: String = sockets.iter().map(to).collect();
    let server = telling(&folder, "127.43.1.1", &wanted);
    assert_eq!(server.ready["events"], json!(sockets));
    let frames = captures::frames("1.11").into_iter();
    let frames: Vec<_> = frames.map(|frame| later(&frame.bytes)).collect();
    let expected = applied(&frames);
    let all = expected.values().map(Vec::len).sum::<usize>();
    assert!(all > 400, "{all}");
    // Somebody reads while they come, as the kernel keeps some hundred for him at most.
    let hears = [
        thread::spawn(move || hear(|buffer| reader.recv(buffer), all)),
        thread::spawn(move || hear(|buffer| local.recv(buffer), all)),
    ];
    for some in frames.chunks(50) {
        some.iter().for_each(|frame| server.send(frame));
        server.wait_until_read();
    }
    for hears in hears {
        assert_eq!(hears.join().expect("all events came"), expected);
    }
    // The server's own store has what the events tell of.
    let control = folder.path("control.sock");
    let summary = &run(&["state", "summary", &control, "--json"]).ok().json()[0];
    let told = |event: &str| {
        let events = expected.values().flatten();
        events.filter(|name| *name == event).count() as u64
    };
    let there = told("E_UL_CONTACT_INSERT") - told("E_UL_CONTACT_DELETE");
    let mut tables = summary["tables"].as_array().expect("tables").iter();
    let held = tables.find_map(|table| table["kinds"]["contact"]["records"].as_u64());
    assert_eq!(held, Some(there), "{summary}");
    let (_, total) = server.stop_after("TERM");
    let events = &total["events"];
    assert_eq!(events["balanced"], true, "{events}");
    assert_eq!(count(events, "raised"), all as u64, "{events}");
    for place in 0..sockets.len() {
        assert_eq!(count(&events["subscribers"][place], "sent"), all as u64);
    }
}

/// The next `count` events about contacts, each with the documented parameters.
fn hear(recv: impl Fn(&mut [u8]) -> io::Result<usize>, count: usize) -> Heard {
    let (mut heard, mut buffer) = (Heard::new(), vec![0; 70_000]);
    for n in 0..count {
        let len = recv(&mut buffer);
        let len = len.unwrap_or_else(|error| panic!("event {n} of {count}: {error}"));
        let event = read(&buffer[..len]).expect("an event");
        let known = KNOWN
            .iter()
            .find(|known| known.name.as_bytes() == &*event.name);
        assert!(known.is_some_and(|known| known.has(false, &event.params)));
        let name = String::from_utf8(event.name.to_vec()).expect("ASCII");
        let key = (
            text_of(&event, "aor").to_vec(),
            text_of(&event, "uri").to_vec(),
        );
        heard.entry(key).or_default().push(name);
    }
    heard
}

/// The packet, but what it says of a contact holds for another hour: the capture's have expired long ago, and would go whenever
/// their shard finds the time.
fn later(bytes: &[u8]) -> Vec<u8> {
    let packet = Packet::parse(Generation::Legacy, bytes).expect("it is genuine");
    let mut scratch = Reading::default();
    let unix = now();
    let Ok(mut change) = read_change(&packet, Some(Release::V1x), unix, &mut scratch) else {
        return bytes.to_vec();
    };
    match &mut change {
        Change::ContactInserted(contact, _) | Change::ContactUpdated(contact, _) => {
            contact.expires = unix + 3600;
        }
        _ => return bytes.to_vec(),
    }
    let ids = Ids {
        machine: 0,
        trailer: Trailer::new(0, 0, 0),
    };
    let mut out = Vec::new();
    let written = Translator::new(Release::V1x, ids).write(&change, unix, &mut out);
    written.expect("it came from there");
    out
}

#[test]
fn the_end_of_an_answered_call_is_told_with_its_place_in_a_table_of_the_configured_size() {
    let folder = Scratch::new("events-dialogs");
    let (reader, socket) = reader();
    let more = "modparam(\"dialog\", \"hash_size\", 65536)\n\
                modparam(\"event_datagram\", \"compat\", \"1.11\")\n"
        .to_owned()
        + &subscribe("E_DLG_STATE_CHANGED", &socket);
    let server = telling(&folder, "127.43.5.1", &more);
    let call = |callid: &'static [u8], state| {
        Record::Dialog(Dialog {
            callid,
            tags: [b"a", b"b"],
            h_id: 7,
            state,
            expires: 2_000_000_000,
            ..Dialog::default()
        })
    };
    let ended = |callid| legacy(b"dialog", DIALOG_DELETED, &[callid, b"a", b"b"]);
    let calls: [(&[u8], _); 2] = [(b"never-answered", 2), (b"call-1@192.0.2.1", 4)];
    for (callid, state) in calls {
        let mut buffer = [0; 1024];
        let packet = write::packet(&call(callid, state), Release::V1x, 0, now(), &mut buffer);
        server.send(packet.expect("it fits").seal());
        server.send(&ended(callid));
    }
    let mut buffer = [0; 256];
    let len = reader.recv(&mut buffer).expect("an event");
    let entry = core_hash(b"call-1@192.0.2.1") & 65_535;
    assert!(entry > 4095, "one that a table of 4096 has not");
    let expected = format!(
        "E_DLG_STATE_CHANGED\nhash_entry::{entry}\nhash_id::7\nold_state::4\nnew_state::5\n\n"
    );
    assert_eq!(String::from_utf8_lossy(&buffer[..len]), expected);
    let (_, total) = server.stop_after("TERM");
    assert_eq!(count(&total["events"], "raised"), 1, "{total}");
    assert_eq!(total["outcomes"]["handled"], 4, "{total}");
}

/// (1.11 `modules/dialog/dlg_replication.h`, `REPLICATION_DLG_DELETED`.)
const DIALOG_DELETED: i32 = 3;

#[test]
fn the_command_subscribes_lists_raises_and_listens() {
    let folder = Scratch::new("events-cli");
    let route = "event_route[E_HEARD] { xlog(\"L_NOTICE\", \"heard\"); }\n";
    let mut server = telling(&folder, "127.43.2.1", route);
    let control = folder.path("control.sock");
    let events = |args: &[&str]| {
        let all = [&["events"], args, &["--control", &control]].concat();
        run(&all)
    };
    let unix = format!("unix:{}", folder.path("e.sock"));
    let mut listener = Running::start(&[
        "events",
        "listen",
        &unix,
        "--event",
        "E_UL_AOR_INSERT",
        "--form",
        "jsonrpc",
        "--json",
        "--count",
        "2",
        "--control",
        &control,
    ]);
    wait_until("the subscription", || {
        events(&["list"]).ok().text().contains(&unix)
    });
    let raised = events(&["raise", "E_PIKE_BLOCKED", "ip=192.168.2.11", "n=-5"]).ok();
    assert_eq!(raised.text(), "E_PIKE_BLOCKED: nobody wants it\n");
    let heard = events(&["raise", "E_HEARD"]).ok();
    assert_eq!(heard.text(), "E_HEARD: told to 0 subscribers and a route\n");
    assert_eq!(server.process.event("xlog")["text"], "heard");
    let subscribed = events(&[
        "subscribe",
        "E_PIKE_BLOCKED",
        &unix,
        "--expire",
        "60",
        "--form",
        "text",
    ])
    .ok();
    assert_eq!(
        subscribed.text(),
        format!("E_PIKE_BLOCKED is told to {unix} for 60 s\n")
    );
    let raised = events(&["raise", "E_PIKE_BLOCKED", "ip=192.168.2.11", "n=-5"]).ok();
    assert_eq!(raised.text(), "E_PIKE_BLOCKED: told to 1 subscriber\n");
    assert_eq!(
        listener.event("E_PIKE_BLOCKED"),
        json!({
            "event": "E_PIKE_BLOCKED", "form": "text", "bytes": 39,
            "params": [{ "name": "ip", "value": "192.168.2.11" }, { "name": "n", "value": "-5" }],
        })
    );
    let listed = &events(&["list", "--json"]).ok().json()[0];
    let names: Vec<&Value> = listed["events"]
        .as_array()
        .expect("all")
        .iter()
        .map(|each| &each["name"])
        .collect();
    assert_eq!(names.len(), KNOWN.len() + 2);
    assert_eq!(listed["subscribers"][0]["sent"], 1);
    server.send(&legacy(b"ul", 1, &[b"location", b"alice"]));
    assert_eq!(
        listener.event("E_UL_AOR_INSERT")["params"],
        json!([{ "name": "domain", "value": "location" }, { "name": "aor", "value": "alice" }])
    );
    let ended = listener.finish().ok();
    assert!(ended.stderr.contains("listening at"), "{}", ended.stderr);
    // It ends its own subscriptions, and takes its path along.
    assert!(!std::path::Path::new(&folder.path("e.sock")).exists());
    let left = &events(&["list", "E_UL_AOR_INSERT", "--json"]).ok().json()[0];
    assert_eq!(left["subscribers"], json!([]));
    let gone = events(&["subscribe", "E_PIKE_BLOCKED", &unix, "--expire", "0"]).ok();
    assert!(gone.text().contains("is not told to"), "{}", gone.text());
    events(&["subscribe", "E_NONE", &unix])
        .exits(1)
        .says(&["there is no event \"E_NONE\""]);
    events(&["subscribe", "E_UL_AOR_INSERT", "tcp:127.0.0.1:1"])
        .exits(1)
        .says(&["is no socket of a subscriber"]);
    let known = run(&["events", "list", "--known"]).ok();
    assert!(known.text().contains("E_BINRUSH_DROPS"), "{}", known.text());
    server.stop("TERM");
}

#[test]
fn compat_writes_as_1_11_did_and_a_reader_that_comes_late_gets_what_was_raised_before() {
    let folder = Scratch::new("events-compat");
    let path = folder.path("e.sock");
    let more = "modparam(\"event_datagram\", \"compat\", \"1.11\")\n".to_owned()
        + &subscribe("E_UL_AOR_INSERT", &format!("unix:{path}"));
    let mut server = telling(&folder, "127.43.3.1", &more);
    server.send(&legacy(b"ul", 1, &[b"location", b"it's \"a\", b"]));
    let told = server.process.event("events");
    assert_eq!(told["state"], "gone", "{told}");
    let reader = UnixDatagram::bind(&path).expect("a path of ours");
    reader
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    let mut buffer = [0; 256];
    let len = reader.recv(&mut buffer).expect("an event");
    assert_eq!(&buffer[..len], b"E_UL_AOR_INSERT\naor::it's \"a\", b\n\n");
    let event = read_as(Form::V1_11, &buffer[..len]).expect("an event");
    assert_eq!(text_of(&event, "aor"), b"it's \"a\", b");
    let (_, total) = server.stop_after("TERM");
    assert_eq!(count(&total["events"]["subscribers"][0], "sent"), 1);
}

#[test]
fn who_asks_a_server_without_event_datagram_is_told_what_is_missing() {
    let folder = Scratch::new("events-none");
    let control = folder.path("control.sock");
    let text = format!(
        "listen = bin:127.43.4.1:0\nloadmodule \"usrloc.so\"\nmodparam(\"binrush\", \"control\", \"{control}\")\n"
    );
    let file = folder.file("none.cfg", text.as_bytes());
    let server = Receiver::of(Running::start(&["serve", "--json", "--config", &file]));
    assert_eq!(server.ready["events"], Value::Null);
    run(&["events", "list", "--control", &control])
        .exits(1)
        .says(&["loadmodule \"event_datagram.so\""]);
    let (_, total) = server.stop_after("TERM");
    assert_eq!(total.get("events"), None);
}
