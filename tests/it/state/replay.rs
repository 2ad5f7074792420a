//! What the packets of a capture make of an empty node, beside what the genuine node held.

use std::collections::BTreeMap;

use binrush_tests::captures;
use serde_json::{Value, json};

use super::{counts, fields, reply, told};
use crate::process::{Finished, Scratch, run};

/// A receiver keeps the socket that the packet names; a genuine one shows its own of that name.
const SOCKETS: &str = "--ignore=socket,caller_socket,callee_socket";

/// A genuine receiver numbers the contacts of a sync anew (3.6 `modules/usrloc/ul_cluster.c`, `receive_ucontact_insert`).
const SOCKETS_AND_ID: &str = "--ignore=socket,contact_id,caller_socket,callee_socket";

fn capture(name: &str) -> String {
    let path = captures::path(&format!("captures/opensips-{name}"));
    path.to_string_lossy().into_owned()
}

/// The dump of one node, in a file that stays as long as `scratch`.
fn replay(scratch: &Scratch, name: &str, more: &[&str]) -> String {
    let from = capture(name);
    let dump = run(&[&["state", "dump", "--from", &from], more].concat());
    let dump = dump.ok().quiet();
    scratch.file(
        &format!("{}.jsonl", more.concat().replace('/', "-")),
        &dump.stdout,
    )
}

/// How many dialogs, AoRs and contacts there are, none of them provisional.
fn held(dump: &str) -> [u64; 3] {
    let summary = run(&["state", "summary", dump, "--json"])
        .ok()
        .quiet()
        .json();
    ["dialog", "aor", "contact"].map(|kind| {
        let kind = &summary[0]["kinds"][kind];
        assert_eq!(kind["provisional"], 0, "{kind}");
        kind["records"].as_u64().expect("a count")
    })
}

fn diff(dump: &str, theirs: &str, more: &[&str]) -> Finished {
    run(&[&["state", "diff", dump, &reply(theirs), "--json"], more].concat()).quiet()
}

/// Asserts that all records are there and equal.
#[track_caller]
fn same(dump: &str, theirs: &str, more: &[&str], wanted: &[(&str, u64)]) {
    let finished = diff(dump, theirs, more).ok();
    for (kind, count) in wanted {
        let all = [*count, *count, *count, 0, 0, 0];
        assert_eq!(counts(&finished, kind), all, "{theirs}: {kind}");
    }
    let last = finished.json().pop().expect("the last line");
    assert_eq!(last["times_not_compared"], 0, "{last}");
}

/// What each differing record has in `field` on one side more than on the other.
fn surplus(finished: &Finished, field: &str, side: &str, other: &str) -> Vec<Value> {
    let of = |line: &Value, side: &str| line["fields"][field][side].as_array().cloned();
    let lines = finished.json();
    let mut all = Vec::new();
    for line in lines
        .iter()
        .filter(|line| line["difference"] == "different")
    {
        let those = of(line, other).expect("a list");
        let these = of(line, side).expect("a list");
        all.extend(these.into_iter().filter(|item| !those.contains(item)));
    }
    all
}

#[test]
fn the_backup_of_1_11_is_replayed_from_its_datagrams() {
    let scratch = Scratch::new("replay-1.11");
    let dump = replay(&scratch, "1.11.pcap", &[]);
    assert_eq!(held(&dump), [60, 336, 378]);
    let exact = ["--b-at=1795226421", "--tolerance=0s"];
    let contacts = [("aor", 336), ("contact", 378)];
    same(&dump, "1.11.backup.ul_dump.txt", &exact, &contacts);
    // A genuine receiver counts lifetimes in ticks, so a second may be lost.
    let close = ["--ignore=vars", "--tolerance=1s"];
    same(
        &dump,
        "1.11.backup.dlg_list_ctx.txt",
        &close,
        &[("dialog", 60)],
    );

    // Variables: 1.11 forgets a replicated value that is empty (`dlg_db_handler.c`, `read_dialog_vars`), and nothing else.
    let backup = diff(&dump, "1.11.backup.dlg_list_ctx.txt", &[]).exits(1);
    assert_eq!(fields(&backup), told(&[("vars", 60)]));
    assert_eq!(
        surplus(&backup, "vars", "a", "b"),
        vec![json!(["empty", ""]); 60]
    );
    assert_eq!(surplus(&backup, "vars", "b", "a"), Vec::<Value>::new());
    // The active node has those, and what its script set behind the last packet of a dialog: no packet has it.
    let active = diff(&dump, "1.11.active.dlg_list_ctx.txt", &[]).exits(1);
    assert_eq!(fields(&active), told(&[("vars", 30)]));
    assert_eq!(surplus(&active, "vars", "a", "b"), Vec::<Value>::new());
    let more = surplus(&active, "vars", "b", "a");
    assert!(
        more.len() == 30 && more.iter().all(|item| item[0] == "reinv"),
        "{more:?}"
    );
    let packets = run(&["decode", "--json", &capture("1.11.pcap")]).ok();
    assert!(!packets.text().contains("reinv"));
}

#[test]
fn a_node_of_3_6_is_replayed_before_and_behind_its_sync() {
    let scratch = Scratch::new("replay-3.6");
    let joined = ["--to=127.0.36.2", "--until-packet-from=127.0.36.3"];
    let dump = replay(&scratch, "3.6.pcap.gz", &joined);
    assert_eq!(held(&dump), [36, 200, 225]);
    let at = |time: &'static str| [SOCKETS, "--tolerance=1s", time];
    let contacts = [("aor", 200), ("contact", 225)];
    same(
        &dump,
        "3.6.phase1-node2.ul_dump.json",
        &at("--b-at=1795226804"),
        &contacts,
    );
    same(
        &dump,
        "3.6.phase1-node2.dlg_list_ctx.json",
        &at("--b-at=0"),
        &[("dialog", 36)],
    );

    // Its last SYNC_END came at 02:06:46.355.
    let synced = ["--to=127.0.36.3", "--until=2026-11-21T02:06:46.4Z"];
    let dump = replay(&scratch, "3.6.pcap.gz", &synced);
    assert_eq!(held(&dump), [36, 200, 225]);
    let at = |time: &'static str| [SOCKETS_AND_ID, "--tolerance=1s", time];
    same(
        &dump,
        "3.6.aftersync-node3.ul_dump.json",
        &at("--b-at=1795226812"),
        &contacts,
    );
    same(
        &dump,
        "3.6.aftersync-node3.dlg_list_ctx.json",
        &at("--b-at=0"),
        &[("dialog", 36)],
    );
    let ids = diff(&dump, "3.6.aftersync-node3.ul_dump.json", &[SOCKETS]).exits(1);
    assert_eq!(fields(&ids), told(&[("contact_id", 225)]));

    let dump = replay(&scratch, "3.6.pcap.gz", &["--to=127.0.36.3"]);
    assert_eq!(held(&dump), [40, 240, 269]);
    let contacts = [("aor", 240), ("contact", 269)];
    same(
        &dump,
        "3.6.final-node3.ul_dump.json",
        &at("--b-at=1795226829"),
        &contacts,
    );
    same(
        &dump,
        "3.6.final-node3.dlg_list_ctx.json",
        &at("--b-at=0"),
        &[("dialog", 40)],
    );
}

#[test]
fn each_node_of_the_late_capture_is_replayed_from_what_it_heard_and_told() {
    let scratch = Scratch::new("replay-late");
    let until = "--until=2026-11-21T03:08:20Z";
    let dump_of = |to: &str, more: &[&str]| {
        replay(&scratch, "3.6-late.pcap.gz", &[&[to, until], more].concat())
    };
    // Each node has calls and registrations of its own, of which nobody tells it.
    let heard = dump_of("--to=127.0.136.3", &[]);
    assert_eq!(held(&heard), [53, 158, 241]);

    for (node, at) in [
        (1, "--b-at=1795230496"),
        (2, "--b-at=1795230498"),
        (3, "--b-at=1795230499"),
    ] {
        let dump = dump_of(&format!("--to=127.0.136.{node}"), &["--with-own"]);
        assert_eq!(held(&dump), [57, 178, 266], "node {node}");
        let theirs = format!("3.6-late.final-node{node}.ul_dump.json");
        let close = [SOCKETS_AND_ID, "--tolerance=1s", at];
        same(&dump, &theirs, &close, &[("aor", 178), ("contact", 266)]);
        assert_eq!(profiles(&dump), told(PROFILES), "node {node}");
        assert_eq!(cached(&dump), cached_by_oracle(), "node {node}");

        // What a script set in a dialog behind its last packet is known to its node alone, or comes with a sync that the genuine node
        // passes over for a dialog that it has: profiles, and one timeout. A genuine node begins a dialog with 0 for the caller's
        // CSeq (3.6 `modules/dialog/dlg_hash.c`, `dlg_add_leg`), whatever a sync says.
        let wanted: &[_] = match node {
            1 => &[("profiles", 9)],
            2 => &[("expires", 1), ("profiles", 9)],
            _ => &[("caller_cseq", 5), ("profiles", 1)],
        };
        let theirs = format!("3.6-late.final-node{node}.dlg_list_ctx.json");
        let finished = diff(&dump, &theirs, &[SOCKETS]).exits(1);
        assert_eq!(fields(&finished), told(wanted), "node {node}");
        let [a, b, .., only_a, only_b] = counts(&finished, "dialog");
        assert_eq!([a, b, only_a, only_b], [57, 57, 0, 0], "node {node}");
        let profiles = surplus_profiles(&finished);
        assert!(profiles.iter().all(|name| name == "acct"), "{profiles:?}");
    }
}

/// `dlg_profile_values`, or `dlg_profile_size`, as each of the nodes said at the end.
const PROFILES: &[(&str, u64)] = &[
    ("acct re-INVITE", 37),
    ("inbound ", 45),
    ("trunk c;d=e", 9),
    ("trunk carrier B", 6),
    ("trunk carrierA", 11),
    (
        "trunk zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        14,
    ),
    ("trunk 경로", 5),
];

/// Over all nodes.
fn profiles(dump: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for record in records(dump, "profile") {
        let [profile, value] =
            ["profile", "value"].map(|name| record[name].as_str().expect("text"));
        let count = record["count"].as_u64().expect("a count");
        *sums.entry(format!("{profile} {value}")).or_default() += count;
    }
    sums
}

/// Names of the profiles that one side has once more than the other.
fn surplus_profiles(finished: &Finished) -> Vec<String> {
    let mut names = Vec::new();
    for line in finished.json() {
        let sides = ["a", "b"].map(|side| line["fields"]["profiles"][side].as_array().cloned());
        // Name and value: who shares it stands behind them, where a side tells that.
        let named = |items: Vec<Value>| {
            items
                .into_iter()
                .map(|item| [item[0].clone(), item[1].clone()])
        };
        let [Some(a), Some(b)] = sides else {
            continue;
        };
        let (mut a, b): (Vec<_>, Vec<_>) = (named(a).collect(), named(b).collect());
        for item in b {
            match a.iter().position(|other| *other == item) {
                Some(place) => _ = a.remove(place),
                None => names.push(item[0].to_string()),
            }
        }
        names.extend(a.iter().map(|item| item[0].to_string()));
    }
    names
        .iter()
        .map(|name| name.trim_matches('"').to_owned())
        .collect()
}

fn cached(dump: &str) -> BTreeMap<String, String> {
    let pair = |record: Value| (record["key"].to_string(), record["value"].to_string());
    records(dump, "cached").into_iter().map(pair).collect()
}

/// The packets of all nodes in a plain map; none of the entries expired in that minute.
fn cached_by_oracle() -> BTreeMap<String, String> {
    let from = capture("3.6-late.pcap.gz");
    let packets = run(&["decode", "--json", "--name", "cachedb-local-repl", &from]).ok();
    let mut map = BTreeMap::new();
    for packet in packets.json() {
        let field = |name: &str| {
            let mut fields = packet["fields"].as_array().expect("fields").iter();
            fields
                .find(|field| field["name"] == name)
                .map(|field| field["value"].to_string())
        };
        let key = field("key").expect("a key");
        match field("value") {
            Some(value) => _ = map.insert(key, value),
            None => _ = map.remove(&key),
        }
    }
    map
}

fn records(dump: &str, kind: &str) -> Vec<Value> {
    let shown = run(&["state", "show", dump, "--kind", kind, "--json"])
        .ok()
        .quiet();
    shown
        .json()
        .into_iter()
        .filter(|line| line["kind"] == kind)
        .collect()
}

#[test]
fn nodes_of_2_4_are_replayed_and_keep_what_genuine_ones_refuse() {
    let scratch = Scratch::new("replay-2.4");
    for (node, at) in [
        (1, "--b-at=1795226913"),
        (2, "--b-at=1795226913"),
        (3, "--b-at=1795226914"),
    ] {
        let to = format!("--to=127.0.24.{node}");
        let dump = replay(&scratch, "2.4.pcap.gz", &[&to, "--with-own"]);
        let theirs = format!("2.4.final-node{node}.ul_dump.txt");
        let close = [SOCKETS_AND_ID, "--tolerance=1s", at];
        same(&dump, &theirs, &close, &[("aor", 240), ("contact", 269)]);
    }
    // Dialogs: genuine 2.4 refuses those whose sockets are not its own, all of them here. We have what node 1 had, but for what a
    // re-INVITE changed without a packet.
    let joined = ["--to=127.0.24.2", "--until-packet-from=127.0.24.3"];
    let dump = replay(&scratch, "2.4.pcap.gz", &joined);
    assert_eq!(held(&dump), [36, 200, 225]);
    let finished = diff(&dump, "2.4.final-node1.dlg_list_ctx.txt", &[]).exits(1);
    assert_eq!(
        fields(&finished),
        told(&[("callee_contact", 18), ("vars", 18)])
    );
    assert_eq!(counts(&finished, "dialog"), [36, 36, 18, 18, 0, 0]);
    // Then node 2 asks node 3 for its dialogs. That has none, so no donor confirms what is there, and it goes.
    let dump = replay(&scratch, "2.4.pcap.gz", &["--to=127.0.24.2"]);
    assert_eq!(held(&dump)[0], 0);
    // Node 3 was given none, and heard of the four that node 2 made.
    let dump = replay(&scratch, "2.4.pcap.gz", &["--to=127.0.24.3"]);
    assert_eq!(held(&dump)[0], 4);
    let finished = diff(&dump, "2.4.final-node2.dlg_list_ctx.txt", &[]).exits(1);
    assert_eq!(
        fields(&finished),
        told(&[("callee_contact", 2), ("vars", 2)])
    );
    assert_eq!(counts(&finished, "dialog"), [4, 4, 2, 2, 0, 0]);
}

#[test]
fn a_dump_goes_to_a_file_and_what_is_asked_for_wrongly_is_said() {
    let scratch = Scratch::new("replay-asked");
    let (late, old) = (capture("3.6-late.pcap.gz"), capture("1.11.pcap"));
    let dump = |args: &[&str]| run(&[&["state", "dump"], args].concat());

    let out = scratch.file("out.jsonl", b"");
    let written = dump(&["--from", &old, "--to", "10.11.0.2", "--out", &out])
        .ok()
        .quiet();
    assert_eq!(written.text(), "");
    assert_eq!(held(&out), [60, 336, 378]);
    let sent = dump(&[
        "--from",
        &old,
        "--from-node",
        "10.11.0.1",
        "--from-node",
        "10.9.9.9",
    ])
    .ok();
    assert_eq!(sent.stdout, std::fs::read(&out).expect("it was written"));
    // By then some contacts have expired.
    let later = [
        "--from",
        &old,
        "--until",
        "2026-11-21T02:30:00Z",
        "--out",
        &out,
    ];
    dump(&later).ok().quiet();
    assert!(held(&out)[2] < 378);

    dump(&["--from", &late]).exits(1).says(&[
        "packets went to 127.0.136.1, 127.0.136.2, 127.0.136.3: --to says which of these nodes is meant",
    ]);
    dump(&["--from", &old, "--to", "10.11.0.1"])
        .exits(1)
        .says(&["no packet to 10.11.0.1 is about records"]);
    dump(&["--from", "/nowhere/capture"])
        .exits(1)
        .says(&["cannot open /nowhere/capture"]);
    dump(&["--from", &old, "--out", "/nowhere/dump"])
        .exits(1)
        .says(&["cannot write /nowhere/dump"]);
    dump(&["--from", &old, "--until", "noon"])
        .exits(2)
        .says(&["seconds since 1970"]);
    dump(&["--from", &old, "--with-own"])
        .exits(2)
        .says(&["--to <IP>"]);

    let whole = std::fs::read(&old).expect("the capture");
    let cut = scratch.file("cut.pcap", &whole[..whole.len() / 2]);
    let half = dump(&["--from", &cut]).ok().says(&["warning: "]);
    assert!(half.text().contains("{\"end\":"), "what was there is told");
}
