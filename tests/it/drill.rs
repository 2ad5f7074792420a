//! Failovers, rehearsed by the command in its small form: nodes that die, stand still and lose each other, and what is left of them.
//!
//! Each drill starts processes of its own at addresses that no other one has, so they run beside each other.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Running, Scratch, binary, json, run, skip, wait_until};

#[test]
fn a_fresh_node_gets_everything_from_the_engine_after_the_active_one_was_killed() {
    let Some(score) = rehearse("D1", &[]) else {
        return;
    };
    holds(&score, "the active got everything from the engine");
    let fresh = node(&score, "active");
    for time in ["ready_ms", "first_sync_ms", "verified_ms"] {
        assert!(fresh[time].as_u64().is_some_and(|ms| ms > 0), "{fresh}");
    }
}

#[test]
fn an_engine_that_is_killed_under_load_has_on_the_disk_what_was_seen_in_it() {
    if let Some(score) = rehearse("D2", &["--loopback"]) {
        holds(
            &score,
            "what was seen in the engine before it was killed is on the disk",
        );
        holds(&score, "the next start finds what was on the disk");
    }
}

#[test]
fn who_gives_a_sync_and_who_gets_one_may_be_killed_in_the_middle_of_it() {
    if let Some(score) = rehearse("D3", &["--loopback"]) {
        let happened = score["events"].to_string();
        for what in ["is killed while it gives", "is killed in its sync"] {
            assert!(happened.contains(what), "{happened}");
        }
    }
}

#[test]
fn nodes_that_stood_still_catch_up_when_they_go_on() {
    if let Some(score) = rehearse("D4", &["--loopback"]) {
        let happened = score["events"].to_string();
        assert!(happened.contains("is stopped in its sync"), "{happened}");
    }
}

#[test]
fn an_engine_whose_cable_was_pulled_has_all_when_it_is_back() {
    if let Some(score) = rehearse("D5", &[]) {
        let engine = node(&score, "engine");
        assert!(engine["stale_apart_ms"].as_u64() > Some(1000), "{engine}");
    }
}

#[test]
fn what_is_lost_one_way_is_made_good() {
    rehearse("D6", &[]);
}

#[test]
fn ways_that_are_cut_and_restored_in_any_order_leave_equal_copies() {
    rehearse("D7", &[]);
}

#[test]
fn the_clock_of_a_node_with_traffic_may_jump_and_no_record_goes() {
    rehearse("D8", &["--loopback"]);
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_once_it_has_room() {
    if let Some(score) = rehearse("D9", &[]) {
        holds(&score, "trouble with the disk is told");
        holds(&score, "it serves while its disk is in trouble");
        holds(&score, "it is well by itself when there is room");
    }
}

#[test]
fn a_sync_of_the_disk_that_fails_once_costs_nothing() {
    if let Some(score) = rehearse("D10", &["--loopback"]) {
        holds(&score, "fdatasync failed");
        holds(&score, "all records are on the disk");
    }
}

#[test]
fn the_list_names_all_drills_and_what_is_none_is_refused() {
    let list = run(&["drill", "list", "--json"]).ok().quiet();
    let names = list.json();
    let names: Vec<_> = names.iter().map(|drill| drill["drill"].as_str()).collect();
    assert_eq!(names.len(), 10);
    assert_eq!((names[0], names[9]), (Some("D1"), Some("D10")));
    let none = run(&["drill", "D11"]).exits(2);
    none.says(&["there is no drill D11", "binrush drill list"]);
    run(&["drill", "D1", "--contacts", "1"]).exits(2);
    // Before anything is rehearsed.
    let nowhere = run(&["drill", "D1", "--json", "--html", "/proc/page.html"]).exits(2);
    let nowhere = nowhere.says(&["cannot write /proc/page.html"]);
    assert_eq!(nowhere.stdout, b"");
}

#[test]
fn a_drill_that_is_interrupted_says_so_and_leaves_nothing() {
    for signal in ["TERM", "KILL"] {
        let mut args = vec!["drill", "D1", "--loopback", "--json"];
        args.extend(FEW);
        let drill = Running::start(&args);
        let folder = format!("binrush-drill-{}-", drill.id());
        wait_until("two nodes", || started(&folder).len() == 2);
        // In the middle of whatever it does then.
        thread::sleep(Duration::from_millis(200));
        drill.signal(signal);
        let end = drill.finish();
        wait_until("all nodes to be gone", || started(&folder).is_empty());
        if signal == "TERM" {
            let said = end.exits(2).json();
            assert_eq!(said[0]["why"], "interrupted", "{}", said[0]);
            assert!(folders(&folder).is_empty());
        } else {
            // Nobody is left to remove them.
            for left in folders(&folder) {
                fs::remove_dir_all(left).expect("it is ours");
            }
        }
    }
}

#[test]
fn nodes_that_are_there_are_compared_before_and_after_and_killed_by_commands() {
    let scratch = Scratch::new("drill-real");
    let standby = Standing::start(&scratch, "standby");
    // The fresh node's lists are files here, and its port is one that somebody listens at.
    let fresh = TcpListener::bind((HOST, 0)).expect("loopback");
    let all = scratch.path("all.jsonl");
    for (lists, code, verdict) in [("all", 0, "passed"), ("part", 1, "failed")] {
        let active = Standing::start(&scratch, "active");
        for aor in ["alice", "bob"] {
            active.tell(aor);
            standby.tell(aor);
        }
        let dump = run(&["state", "dump", &active.control]).ok();
        fs::write(&all, &dump.stdout).expect("it is ours");
        let part = dump.text().lines().filter(|line| !line.contains("bob"));
        let part = part
            .collect::<Vec<_>>()
            .join("\n")
            .replace("{\"end\":2}", "{\"end\":1}");
        scratch.file("part.jsonl", part.as_bytes());
        let (id, fresh) = (active.process.id(), fresh.local_addr().expect("bound"));
        let (binary, control) = (binary(), &active.control);
        let args = [
            "drill",
            "--json",
            "--patience",
            "2s",
            "--real",
            &format!(
                "active={},standby={},fresh={fresh}",
                active.bin, standby.control
            ),
            "--list-command",
            &format!("active={} state dump {control}", binary.display()),
            "--list-command",
            &format!("fresh=cat {}", scratch.path(&format!("{lists}.jsonl"))),
            "--kill-command",
            &format!("kill -9 {id}"),
            "--start-command",
            "true",
        ];
        let done = run(&args).exits(code);
        let score = &done.json()[0];
        assert_eq!(score["verdict"], verdict, "{score}");
        holds(score, "the standby has what the active node shows");
        let missing = &node(score, "fresh")["missing"];
        assert_eq!(*missing, u64::from(lists == "part"), "{score}");
    }
}

#[test]
fn a_standby_that_lost_all_with_the_active_node_does_not_excuse_that_nothing_comes_back() {
    let scratch = Scratch::new("drill-real-lost");
    let (active, standby) = (
        Standing::start(&scratch, "active"),
        Standing::start(&scratch, "standby"),
    );
    for node in [&active, &standby] {
        node.tell("alice");
    }
    // Both are killed, and the command returns when the standby runs again.
    let (killed, go_on) = (scratch.path("killed"), scratch.path("go-on"));
    let (one, other) = (active.process.id(), standby.process.id());
    let kill =
        format!("kill -9 {one} {other}; touch {killed}; until [ -e {go_on} ]; do sleep 0.05; done");
    let fresh = TcpListener::bind((HOST, 0)).expect("loopback");
    let fresh = fresh.local_addr().expect("bound");
    let (at, control, binary) = (&active.bin, &standby.control, binary());
    let binary = binary.display();
    let drill = Running::start(&[
        "drill",
        "--json",
        "--patience",
        "8s",
        "--real",
        &format!("active={at},standby={control},fresh={fresh}"),
        "--list-command",
        &format!("active={binary} state dump {}", active.control),
        // As empty as the standby is then.
        "--list-command",
        &format!("fresh={binary} state dump {control}"),
        "--kill-command",
        &kill,
        "--start-command",
        "true",
    ]);
    wait_until("both to be killed", || fs::exists(&killed).expect("ours"));
    let _anew = Standing::start(&scratch, "standby");
    scratch.file("go-on", b"");
    let done = drill.finish().exits(1);
    let score = &done.json()[0];
    assert_eq!(score["verdict"], "failed", "{score}");
    holds(score, "the standby has what the active node shows");
    let rules = score["rules"].as_array().expect("rules");
    let broken: Vec<_> = rules.iter().filter(|rule| rule["holds"] == false).collect();
    assert_eq!(broken.len(), 3, "{score}");
    assert_eq!(broken[0]["detail"], "it was started anew", "{score}");
}

/// A `serve` that keeps contacts, as a node that is there.
struct Standing {
    process: Running,
    bin: String,
    control: String,
}

impl Standing {
    fn start(scratch: &Scratch, name: &str) -> Self {
        let control = scratch.path(&format!("{name}.sock"));
        let text = format!(
            "listen = bin:{HOST}:0\nloadmodule \"usrloc.so\"\nmodparam(\"binrush\", \"control\", \"{control}\")\n"
        );
        let config = scratch.file(&format!("{name}.cfg"), text.as_bytes());
        let args = [
            "serve", "--json", "--stats", "0", "--shards", "1", "--config", &config,
        ];
        let mut process = Running::start(&args);
        let ready = process.event("ready");
        let listen = ready["listen"][0].as_str().expect("an address");
        let bin = listen.strip_prefix("bin:").expect("for BIN").to_owned();
        Self {
            process,
            bin,
            control,
        }
    }

    fn tell(&self, aor: &str) {
        let (to, aor) = (format!("udp:{}", self.bin), format!("str:{aor}"));
        run(&[
            "send",
            "--to",
            &to,
            "ul",
            "AOR_INSERT",
            "str:location",
            &aor,
        ])
        .ok();
        wait_until("the AoR", || {
            let shown = run(&["state", "show", &self.control, "--aor", &aor[4..]]);
            shown.status.success()
        });
    }
}

/// Carries out a drill, which has to pass; `None`, and told so, where this machine lacks what it needs.
#[track_caller]
fn rehearse(name: &str, more: &[&str]) -> Option<Value> {
    let scratch = Scratch::new(&format!("drill-{name}"));
    let page = scratch.path("page.html");
    let mut args = vec![
        "drill", name, "--small", "--seed", "7", "--json", "--html", &page,
    ];
    args.extend(FEW);
    args.extend(more);
    let finished = run(&args);
    let line = finished.lines().first().copied().map(json);
    let score = line.unwrap_or_else(|| panic!("it says nothing: {}", finished.stderr));
    let (verdict, why) = (&score["verdict"], &score["why"]);
    if verdict == "skipped" {
        skip(why.as_str().expect("a reason"));
        finished.ok();
        return None;
    }
    let rules = score["rules"].as_array().expect("rules");
    let broken: Vec<_> = rules.iter().filter(|rule| rule["holds"] != true).collect();
    let (nodes, events) = (&score["nodes"], &score["events"]);
    assert!(
        verdict == "passed" && broken.is_empty() && !rules.is_empty(),
        "{name} with seed 7: {verdict} {why} {broken:?}\n{nodes}\n{events}"
    );
    finished.ok();
    // Of what the verdict is made: each node that was there in the end had every record, and was not empty.
    for node in nodes.as_array().expect("nodes") {
        let count = |key: &str| node[key].as_u64();
        assert_eq!(count("records"), score["records"].as_u64(), "{node}");
        assert!(count("records") > Some(100), "{node}");
        assert_eq!(node["ledger"]["balanced"], true, "{node}");
    }
    assert!(
        score["changes"].as_u64() > score["records"].as_u64(),
        "{score}"
    );
    let page = fs::read_to_string(page).expect("it was written");
    assert!(page.contains("1 drill passed"), "{page}");
    Some(score)
}

#[track_caller]
fn holds(score: &Value, rule: &str) {
    let mut rules = score["rules"].as_array().expect("rules").iter();
    assert!(
        rules.any(|known| known["rule"] == rule && known["holds"] == true),
        "no rule \"{rule}\" in {}",
        score["rules"]
    );
}

#[track_caller]
fn node<'s>(score: &'s Value, name: &str) -> &'s Value {
    let mut nodes = score["nodes"].as_array().expect("nodes").iter();
    nodes
        .find(|node| node["node"] == name)
        .expect("it was there")
}

/// The processes whose command lines have `text` in them.
fn started(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("every Linux has it").flatten();
    let lines = processes.filter_map(|process| {
        // Most are no processes, and some have gone by now.
        let line = fs::read_to_string(process.path().join("cmdline")).ok()?;
        line.contains(text).then_some(line)
    });
    lines.collect()
}

fn folders(begin: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir())
        .expect("it is there")
        .flatten();
    let paths = entries.map(|entry| entry.path());
    let is_one = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(begin))
    };
    paths.filter(is_one).collect()
}

/// For builds that are not optimised, several at a time.
const FEW: [&str; 6] = ["--contacts", "300", "--dialogs", "80", "--rate", "300"];

const HOST: &str = "127.46.0.1";
