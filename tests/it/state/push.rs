//! Records that are sent to engines, as nodes of all generations send them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::OnceLock;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use binrush_store::change::{Change, Named};
use binrush_store::model::Matching;
use binrush_store::write;
use binrush_wire::{MAX_PACKET_LEN, Release};
use serde_json::{Value, json};

use super::live::Engine;
use crate::process::{Finished, Running, Scratch, run, wait_until};

pub(super) const OURS: &str = "udp:10.0.0.1:5060";
const THEIRS: &str = "udp:10.0.0.9:5060";

/// A dump of as many answered calls and AoRs with a contact each, all on `socket`, and of this moment: it is the same all the time.
pub(super) fn dump(count: usize, socket: &str) -> Vec<Value> {
    static NOW: OnceLock<u64> = OnceLock::new();
    let now = *NOW.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("after 1970").as_secs()
    });
    let mut lines = vec![json!({
        "binrush_dump": 1, "at": null, "kinds": ["dialog", "aor", "contact"],
    })];
    for n in 0..count {
        lines.push(json!({
            "kind": "dialog", "callid": format!("call-{n}"), "caller_tag": "from", "callee_tag": "to",
            "from_uri": "sip:alice@a", "to_uri": "sip:bob@b", "h_id": 7 + n, "start_ts": now, "state": 4,
            "caller_socket": socket, "callee_socket": socket, "caller_cseq": "1", "callee_cseq": "2",
            "vars": [["name", "a|b#c"]], "profiles": [], "user_flags": 3, "expires": now + 3600,
        }));
        lines.push(json!({"kind": "aor", "domain": "location", "aor": format!("user-{n}")}));
        lines.push(json!({
            "kind": "contact", "domain": "location", "aor": format!("user-{n}"), "contact": "sip:phone@192.0.2.1",
            "callid": format!("register-{n}"), "user_agent": "a phone", "expires": now + 3600, "q": 500,
            "socket": socket, "cseq": 4, "methods": 0x1fff, "last_modified": now,
        }));
    }
    lines.push(json!({"end": 3 * count}));
    lines
}

pub(super) fn file(scratch: &Scratch, name: &str, lines: &[Value]) -> String {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    scratch.file(name, text.as_bytes())
}

fn push(side: &str, to: SocketAddr, words: &[&str]) -> Finished {
    let to = format!("bin:{to}");
    run(&[&["state", "push", side, "--to", &to, "--json"], words].concat())
}

/// What a push says at the end: read, sent, left out, not sent.
fn sums(finished: &Finished) -> [u64; 4] {
    let line = finished.json().pop().expect("a line");
    ["read", "sent", "left_out", "not_sent"].map(|key| line[key].as_u64().expect("a number"))
}

/// An engine that is node 9 of cluster 1, beside a node 2 that speaks `release`.
struct Seat {
    process: Running,
    addr: SocketAddr,
    other: Ipv4Addr,
    control: String,
    _scratch: Scratch,
}

impl Seat {
    fn start(name: &str, release: &str) -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        // Those of clusters of processes begin at 64.
        let node = |id| Ipv4Addr::new(127, 41 + high % 8, low, id);
        let (me, other) = (node(9), node(2));
        let addr = free_addr(me);
        let scratch = Scratch::new(name);
        let control = scratch.path("control.sock");
        let config = scratch.file(
            "serve.cfg",
            format!(
                "listen = bin:{addr}\nloadmodule \"clusterer.so\"\nloadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\n\
                 modparam(\"clusterer\", \"db_mode\", 0)\n\
                 modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, node_id=9, url=bin:{addr}, flags=seed\")\n\
                 modparam(\"clusterer\", \"neighbor_node_info\", \"cluster_id=1, node_id=2, url=bin:{other}:5555\")\n\
                 modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n\
                 modparam(\"usrloc\", \"location_cluster\", 1)\n\
                 modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")\n\
                 modparam(\"binrush\", \"cluster_release\", \"{release}\")\n\
                 modparam(\"binrush\", \"shards\", 2)\nmodparam(\"binrush\", \"pin\", \"off\")\n\
                 modparam(\"binrush\", \"control\", \"{control}\")\n"
            )
            .as_bytes(),
        );
        let mut process = Running::start(&["serve", "--json", "--stats", "0", "--config", &config]);
        process.event("ready");
        Self {
            process,
            addr,
            other,
            control,
            _scratch: scratch,
        }
    }
}

fn free_addr(ip: Ipv4Addr) -> SocketAddr {
    loop {
        let stream = TcpListener::bind((ip, 0)).expect("an address of this host");
        let addr = stream.local_addr().expect("bound");
        if UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// That an engine has what the dump says, with `socket` for its sockets.
#[track_caller]
fn assert_has(control: &str, scratch: &Scratch, count: usize, socket: &str) {
    wait_until("all records", || {
        ["dialog", "contact"].map(|kind| Engine::count(control, kind)) == [count as u64; 2]
    });
    let expected = file(scratch, "expected.jsonl", &dump(count, socket));
    let same = run(&["state", "diff", &expected, control]);
    same.ok();
}

#[test]
fn what_is_pushed_to_a_1_x_node_is_what_it_holds() {
    let engine = Engine::start("push-1x");
    let scratch = Scratch::new("push-1x-dump");
    let side = file(&scratch, "dump.jsonl", &dump(120, OURS));
    let dry = push(&side, engine.addr, &["--generation=1.11", "--dry-run"]).ok();
    assert_eq!(sums(&dry), [360, 360, 0, 0]);
    let map = format!("--socket-map={OURS}={THEIRS}");
    let sockets = format!("--target-socket={THEIRS}");
    let pushed = push(&side, engine.addr, &["--generation=1.11", &map, &sockets]);
    assert_eq!(sums(&pushed.ok()), [360, 360, 0, 0]);
    assert_has(&engine.control, &scratch, 120, THEIRS);
    engine.process.stop("TERM").ok();
}

#[test]
fn what_is_pushed_by_tcp_to_a_node_before_clusters_had_capabilities_is_what_it_holds() {
    let engine = Engine::start("push-2-3");
    let scratch = Scratch::new("push-2-3-dump");
    let side = file(&scratch, "dump.jsonl", &dump(120, OURS));
    let words = ["--generation=2.3", "--cluster=1", "--node=2", "--to-node=9"];
    let pushed = push(&side, engine.addr, &words).ok().quiet();
    assert_eq!(sums(&pushed), [360, 360, 0, 0]);
    assert_has(&engine.control, &scratch, 120, OURS);
    engine.process.stop("TERM").ok();
}

#[test]
fn what_is_pushed_to_nodes_of_a_cluster_is_what_they_hold() {
    for release in ["2.4", "3.6"] {
        let seat = Seat::start(&format!("push-{release}"), release);
        let scratch = Scratch::new(&format!("push-{release}-dump"));
        let side = file(&scratch, "dump.jsonl", &dump(300, OURS));
        let generation = format!("--generation={release}");
        let bind = format!("--bind={}", seat.other);
        let words = [
            &*generation,
            "--cluster=1",
            "--node=2",
            "--to-node=9",
            &bind,
        ];
        let pushed = push(&side, seat.addr, &words).ok();
        assert_eq!(sums(&pushed), [900, 900, 0, 0], "{release}");
        assert_has(&seat.control, &scratch, 300, OURS);
        seat.process.stop("TERM").ok();
    }
}

#[test]
fn what_ends_at_a_running_engine_while_it_is_pushed_does_not_stay_at_the_node() {
    let [from, to] = ["push-ends-from", "push-ends-to"].map(Engine::start);
    let scratch = Scratch::new("push-ends-dump");
    let side = file(&scratch, "dump.jsonl", &dump(10, OURS));
    push(&side, from.addr, &["--generation=1.11"]).ok();
    wait_until("all records", || {
        ["dialog", "contact"].map(|kind| Engine::count(&from.control, kind)) == [10; 2]
    });
    // 3 s for 30 packets.
    let words = ["--generation=1.11", "--rate=10"];
    let pushed = thread::scope(|scope| {
        let pushed = scope.spawn(|| push(&from.control, to.addr, &words));
        wait_until("the first", || Engine::count(&to.control, "aor") > 0);
        let ends = [
            Change::DialogDeleted(Named {
                callid: b"call-3",
                tags: Some([b"from", b"to"]),
                h_id: None,
            }),
            Change::ContactDeleted {
                domain: b"location",
                aor: b"user-4",
                uri: b"sip:phone@192.0.2.1",
                callid: b"register-4",
                cseq: 4,
                matching: Matching::Uri,
            },
        ];
        let node = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        for end in ends {
            let mut buffer = vec![0; MAX_PACKET_LEN];
            let mut packet = write::change(&end, Release::V1x, 0, 0, &mut buffer).expect("1.11");
            node.send_to(packet.seal(), from.addr).expect("loopback");
        }
        pushed.join().expect("no panic").ok()
    });
    assert_eq!(sums(&pushed), [30, 30, 0, 0]);
    assert_eq!(pushed.json().pop().expect("a line")["withdrawn"], 2);
    wait_until("the ends", || {
        ["dialog", "contact"].map(|kind| Engine::count(&to.control, kind)) == [9; 2]
    });
    for engine in [from, to] {
        engine.process.stop("TERM").ok();
    }
}

#[test]
fn what_is_left_out_is_told_by_reason_and_by_the_exit_code() {
    let engine = Engine::start("push-left-out");
    let scratch = Scratch::new("push-left-out-dump");
    let mut lines = dump(3, OURS);
    lines[1]["state"] = 2.into();
    lines[4]["callee_socket"] = "udp:10.0.0.77:5060".into();
    lines[6]["expires"] = 1.into();
    let side = file(&scratch, "dump.jsonl", &lines);
    let sockets = format!("--target-socket={OURS}");
    let words = ["--generation=1.11", &*sockets];
    let pushed = push(&side, engine.addr, &words).exits(1).quiet();
    assert_eq!(sums(&pushed), [9, 6, 3, 0]);
    let told = pushed.json().pop().expect("a line");
    for reason in ["unanswered", "socket", "expired"] {
        assert_eq!(told["reasons"][reason]["count"], 1, "{told}");
    }
    let such_as = told["reasons"]["socket"]["such_as"].as_str();
    assert!(such_as.is_some_and(|text| text.contains("call-1") && text.contains("10.0.0.77")));
    wait_until("the others", || {
        ["dialog", "aor", "contact"].map(|kind| Engine::count(&engine.control, kind)) == [1, 3, 2]
    });
    let words = run(&[
        "state",
        "push",
        &side,
        "--to",
        &format!("udp:{}", engine.addr),
        "--generation=1.11",
        "--kind=aor",
    ]);
    let words = words.ok();
    assert!(
        words.text().contains("3 read = 3 sent + 0 left out"),
        "{}",
        words.text()
    );
    assert!(
        words.text().contains("acknowledges nothing"),
        "{}",
        words.text()
    );
    engine.process.stop("TERM").ok();
}

#[test]
fn a_node_that_is_not_there_is_trouble_and_nothing_counts_as_sent_to_it() {
    let scratch = Scratch::new("push-nobody");
    let side = file(&scratch, "dump.jsonl", &dump(2, OURS));
    let nobody = free_addr(Ipv4Addr::LOCALHOST);
    let words = ["--generation=3.6", "--cluster=1", "--node=2", "--to-node=9"];
    let pushed = push(&side, nobody, &words)
        .exits(2)
        .says(&["cannot connect"]);
    let [read, sent, left_out, not_sent] = sums(&pushed);
    assert_eq!([read, sent, left_out, not_sent], [6, 0, 0, 6]);
    let pushed = push(&side, nobody, &["--generation=1.x"]).exits(2);
    assert_eq!(sums(&pushed.says(&["nobody listens"])), [6, 0, 0, 6]);
    push(&side, nobody, &["--generation=3.6"])
        .exits(2)
        .says(&["--cluster N is missing"]);
}
