//! `binrush-bench load` and `replay` as processes: both ends laid together, and what becomes of a run that goes wrong.

use std::env;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::compare::{Stand, binary};
use crate::process::{Running, Scratch, json as parsed, skip};

#[test]
fn every_packet_of_a_load_is_accounted_for_and_its_latency_known() {
    for scenario in ["contacts", "dialogs", "mixed"] {
        let result = result(&["load", scenario, "--rate=4k", "--seconds=0.5"]);
        let trial = &result["trials"][0];
        let planned = trial["ledger"]["planned"].as_u64().expect("a count");
        assert_eq!(
            (&result["complete"], planned),
            (&json!(true), 2000),
            "{result}"
        );
        assert_eq!(trial["ledger"]["remainder"], 0, "{result}");
        let streams = trial["receiver"]["probe"]["runs"][0]["streams"].as_array();
        let seen: Vec<u64> = streams
            .expect("streams")
            .iter()
            .map(|stream| stream["unique"].as_u64().expect("a count"))
            .collect();
        // What a busy machine did not send in time is in the ledger too; `mixed` has misses, which are counted only.
        let arrived = term(trial, "arrived once");
        let others = term(trial, "received, not audited") + term(trial, "unsent");
        assert_eq!(arrived + others, planned, "{result}");
        assert_eq!(seen.iter().sum::<u64>(), arrived);
    }
}

#[test]
fn a_miss_is_counted_as_such_and_has_no_latency_unless_its_name_is_probed() {
    let miss = ["load", "miss", "--rate=2k", "--seconds=0.5", "--trains=off"];
    let counted = result(&miss);
    let trial = &counted["trials"][0];
    assert_eq!(trial["ledger"]["remainder"], 0, "{counted}");
    let unknown = trial["receiver"]["outcomes"]["unknown_name"].as_u64();
    assert_eq!(unknown, Some(term(trial, "received, not audited")));

    let probed = result(&[&miss[..], &["--probe=binrush-miss"]].concat());
    let trial = &probed["trials"][0];
    assert_eq!(trial["ledger"]["remainder"], 0, "{probed}");
    let stream = &trial["receiver"]["probe"]["runs"][0]["streams"][0];
    assert_eq!(stream["unique"], term(trial, "arrived once"), "{probed}");
}

#[test]
fn a_stream_of_frames_is_accounted_for_to_the_byte() {
    for scenario in ["contacts-tcp", "dialogs-tcp", "miss-tcp", "mixed-tcp"] {
        let result = result(&["load", scenario, "--rate=4k", "--seconds=0.5"]);
        let trial = &result["trials"][0];
        assert_eq!(trial["ledger"]["remainder"], 0, "{result}");
        assert_eq!(
            (&result["complete"], &trial["transport"]),
            (&json!(true), &json!("tcp"))
        );
        let name = trial["receiver"]["name"].as_str().expect("a name");
        assert!(
            name.contains("binrush") && name.contains("(recv, 1 shard)"),
            "{name}"
        );
        let arrived = term(trial, "arrived once") + term(trial, "received, not audited");
        assert!(
            arrived > 0 && arrived + term(trial, "unsent") == 2000,
            "{result}"
        );
        // Both ends have counted bytes, and the engine knows where each of them went.
        let (bytes, streams) = (&trial["ledger"]["bytes"], &trial["receiver"]["streams"]);
        assert_eq!(bytes["sent"], trial["senders"][0]["bytes"], "{result}");
        assert_eq!(
            (&bytes["received"], &bytes["lost"], &bytes["remainder"]),
            (&streams["frame_bytes"], &json!(0), &json!(0)),
            "{result}"
        );
        assert_eq!(
            (&streams["frames"], &streams["rx_bytes"]),
            (&trial["senders"][0]["sent"], &bytes["sent"]),
            "{result}"
        );
        // Misses are known by their number only, all others by their stamps.
        let has_latencies = trial["intended"] != trial["actual"];
        assert_eq!(has_latencies, scenario != "miss-tcp", "{result}");
    }
}

#[test]
fn streams_may_come_by_io_uring_to_two_shards_and_to_a_sink() {
    let load = [
        "load",
        "contacts-tcp",
        "--rate=4k",
        "--seconds=0.5",
        "--senders=3",
    ];
    let is_single_core = thread::available_parallelism().is_ok_and(|cores| cores.get() < 2);
    for (receiver, name) in [
        ("--receiver=engine-io_uring", "(io_uring, 1 shard)"),
        ("--receiver-cores=0,1", "(recv, 2 shards)"),
        ("--receiver=sink-tcp", "sink-tcp of this program"),
    ] {
        if is_single_core && receiver.contains("0,1") {
            skip("two shards need a core each");
            continue;
        }
        let args = [&load[..], &[receiver, "--skip-self-test", "--json"]].concat();
        let output = run(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("where io_uring was asked for") {
            skip("the kernel has no io_uring for streams");
            continue;
        }
        assert!(matches!(output.status.code(), Some(0 | 3)), "{stderr}");
        let result = parsed(str::from_utf8(&output.stdout).expect("it is text"));
        let trial = &result["trials"][0];
        let told = trial["receiver"]["name"].as_str().expect("a name");
        assert!(told.contains(name), "{told}");
        assert_eq!(trial["ledger"]["remainder"], 0, "{result}");
        assert_eq!(
            term(trial, "arrived once") + term(trial, "unsent"),
            2000,
            "{result}"
        );
    }
}

#[test]
fn a_connection_that_is_refused_is_told_by_its_reason_and_the_others_are_accounted_for() {
    let engine = Stand::new(
        "load-refused",
        "echo 'modparam(\"binrush\", \"connections_per_source\", 1)' >> \"$config\"",
    );
    let output = run(&[
        "load",
        "contacts-tcp",
        "--rate=2k",
        "--seconds=0.5",
        "--senders=2",
        "--skip-self-test",
        "--json",
        &engine.argument(),
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let result = parsed(str::from_utf8(&output.stdout).expect("it is text"));
    let trial = &result["trials"][0];
    assert_eq!(trial["ledger"]["remainder"], 0, "{result}");
    assert_eq!(trial["ledger"]["bytes"]["remainder"], 0, "{result}");
    let streams = &trial["receiver"]["streams"];
    assert_eq!(streams["refused"], json!({ "per_source": 1 }), "{result}");
    assert_eq!(streams["frames"], term(trial, "arrived once"), "{result}");
    assert!(streams["frames"].as_u64() > Some(0), "{result}");
    let (trouble, doubts) = (&result["trouble"], result["doubts"].to_string());
    assert!(
        trouble
            .as_str()
            .is_some_and(|why| why.contains("could not be sent"))
            && doubts.contains("did not end in order, by what the receiver says: per_source 1"),
        "{result}"
    );
}

#[test]
fn several_senders_share_the_rate_and_no_record() {
    let result = result(&[
        "load",
        "contacts",
        "--rate=4k",
        "--seconds=0.5",
        "--senders=3",
    ]);
    let trial = &result["trials"][0];
    let senders = trial["senders"].as_array().expect("senders");
    let planned: Vec<&Value> = senders.iter().map(|sender| &sender["planned"]).collect();
    assert_eq!(planned.len(), 3);
    assert_eq!(trial["ledger"]["planned"], 2000, "{result}");
    assert_eq!(trial["ledger"]["remainder"], 0, "{result}");
}

#[test]
fn a_receiver_that_stands_still_for_a_moment_shows_in_the_latencies_of_the_intended_time() {
    let scratch = Scratch::new("load-stopped");
    let out = scratch.path("result.json");
    let load = start(&[
        "load",
        "contacts",
        "--rate=10k",
        "--seconds=3",
        "--skip-self-test",
        "--out",
        &out,
    ]);
    let engine = child_named(load.id(), "binrush");
    thread::sleep(Duration::from_millis(1500));
    signal(engine, "STOP");
    thread::sleep(Duration::from_millis(100));
    signal(engine, "CONT");
    let output = load.wait_with_output().expect("it is our child");
    let result = read(&out);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(result["trials"][0]["ledger"]["remainder"], 0, "{text}");
    // 1000 of 30 000 packets waited, up to 100 ms: one in a thousand waited almost all of it.
    let hist = result["trials"][0]["intended"]
        .as_str()
        .expect("a histogram");
    let hist = binrush_probe::Hist::from_base64(hist).expect("a histogram");
    assert!(hist.value_at(0.999) > 90_000_000, "{hist:?}");
}

#[test]
fn a_server_that_was_there_before_is_asked_again_and_again() {
    let mut server = Running::start(&[
        "serve",
        "--config",
        &probing("load-asked"),
        "--json",
        "--stats",
        "0",
    ]);
    let ready = server.event("ready");
    let listen = ready["listen"][0].as_str().expect("an address");
    let to = format!(
        "--to=udp:{}",
        listen.strip_prefix("bin:").expect("as OpenSIPS writes it")
    );
    let load = [
        "load",
        "contacts",
        "--rate=2k",
        "--seconds=0.1",
        "--trains=off",
        &to,
    ];
    // More runs than it follows at once.
    for _ in 0..18 {
        let result = result(&[&load[..], &["--ask"]].concat());
        let trial = &result["trials"][0];
        assert_eq!(trial["ledger"]["remainder"], 0, "{result}");
        assert_eq!(
            term(trial, "arrived once") + term(trial, "unsent"),
            200,
            "{result}"
        );
    }
    // Of streams to the same address and port as well.
    let tcp = to.replace("udp:", "tcp:");
    let by_tcp = result(&[
        "load",
        "contacts-tcp",
        "--rate=2k",
        "--seconds=0.1",
        &tcp,
        "--ask",
    ]);
    let trial = &by_tcp["trials"][0];
    assert_eq!(trial["ledger"]["remainder"], 0, "{by_tcp}");
    assert_eq!(
        term(trial, "arrived once") + term(trial, "unsent"),
        200,
        "{by_tcp}"
    );
    // By a count that does not change while packets come.
    let count = [
        &load[..],
        &["--count=echo received 100 of 7", "--skip-self-test"],
    ]
    .concat();
    let output = run(&count);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("received 0 + UNEXPLAINED 200"), "{told}");
    server.stop("TERM").ok();
}

#[test]
fn who_cannot_say_what_arrived_is_not_loaded() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let to = format!("--to=udp:{}", socket.local_addr().expect("bound"));
    for (args, words) in [
        (&["load", "contacts", &to][..], "--trains off"),
        (&["load", "contacts-tcp", "--to=tcp:127.0.0.1:1"], "--count"),
        (&["load", "mixed", "--ask", &to], "binrush-miss"),
    ] {
        let output = run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_capture_is_sent_again_with_copies_that_share_no_record() {
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/opensips-1.11.pcap");
    let result = result(&["replay", capture, "--speed=100", "--copies=3"]);
    let trial = &result["trials"][0];
    let planned = trial["ledger"]["planned"].as_u64().expect("a count");
    assert!((3 * 2591 - 10..=3 * 2591).contains(&planned), "{result}");
    assert_eq!(trial["ledger"]["remainder"], 0, "{result}");
    let handled = trial["receiver"]["outcomes"]["handled"].as_u64();
    assert_eq!(handled, Some(term(trial, "received")));
}

#[test]
fn a_capture_of_streams_is_sent_again_to_the_engine_and_to_a_sink() {
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/opensips-3.6.pcap.gz");
    let received = ["engine", "sink-tcp"].map(|receiver| {
        let receiver = format!("--receiver={receiver}");
        let result = result(&["replay", capture, "--speed=50", &receiver]);
        let trial = &result["trials"][0];
        assert_eq!(trial["ledger"]["remainder"], 0, "{result}");
        assert_eq!(
            (&trial["transport"], &trial["ledger"]["foreign"]),
            (&json!("tcp"), &json!(0))
        );
        // Each is of a kind that the engine knows, and was read to its last byte.
        let handled = trial["receiver"]["outcomes"]["handled"].as_u64();
        assert_eq!(handled, Some(term(trial, "received")), "{result}");
        term(trial, "received") + term(trial, "unsent")
    });
    assert!(
        received[0] > 1000 && received[0] == received[1],
        "{received:?}"
    );
}

#[test]
fn a_cut_off_capture_is_used_as_far_as_it_goes_and_said_so() {
    let scratch = Scratch::new("replay-cut");
    let whole = fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/captures/opensips-1.11.pcap"
    ));
    let cut = scratch.file("cut.pcap", &whole.expect("a capture")[..100_001]);
    let result = result(&["replay", &cut, "--speed=100"]);
    let doubts = result["doubts"].to_string();
    assert!(doubts.contains("cut.pcap"), "{doubts}");
    assert_eq!(result["trials"][0]["ledger"]["remainder"], 0, "{result}");
}

#[test]
fn wrong_input_ends_with_2_and_says_what_was_expected() {
    let scratch = Scratch::new("load-wrong");
    let broken = scratch.file(
        "broken.toml",
        b"form = \"1.x\"\n[contacts]\npopulation = -3\n",
    );
    let empty = scratch.file("empty.pcap", b"");
    let cases: [(&[&str], &[&str]); 9] = [
        (&["load", "contcts"], &["contcts", "contacts"]),
        (&["load", &broken], &["broken.toml:3", "population"]),
        (
            &["load", "contacts", "--to=tcp:127.0.0.1:5566"],
            &["--to", "udp"],
        ),
        (
            &["load", "contacts", "--receiver=sink-tcp"],
            &["--receiver"],
        ),
        (
            &["load", "contacts-tcp", "--receiver=classic"],
            &["classic takes datagrams", "--receiver"],
        ),
        (
            &["load", "contacts-tcp", "--receiver=raw-tcp"],
            &["counts bytes", "--receiver"],
        ),
        (
            &["load", "contacts-tcp", "--receiver=engine-tls"],
            &["inside TLS", "--receiver"],
        ),
        (&["replay", &empty], &["empty.pcap"]),
        (&["load", "contacts", "--sender-cores=8191"], &["core 8191"]),
    ];
    for (args, words) in cases {
        let output = run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{args:?}: no \"{word}\" in {stderr}");
        }
    }
}

#[test]
fn a_target_that_does_not_listen_is_told_from_a_lossy_one() {
    // An address that nobody else uses, so that nobody else is given the port when it is free again.
    let socket = UdpSocket::bind("127.77.4.1:0").expect("loopback");
    let udp = format!("--to=udp:{}", socket.local_addr().expect("bound"));
    drop(socket);
    let listener = std::net::TcpListener::bind("127.77.4.2:0").expect("loopback");
    let tcp = format!("--to=tcp:{}", listener.local_addr().expect("bound"));
    drop(listener);
    for (scenario, to) in [("contacts", udp), ("contacts-tcp", tcp)] {
        let output = run(&[
            "load",
            scenario,
            "--count=echo 0",
            "--skip-self-test",
            "--rate=2k",
            "--seconds=3",
            &to,
        ]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!((stderr + stdout).contains("nothing listens on"), "{to}");
    }
}

#[test]
fn a_receiver_that_dies_leaves_a_result_that_says_so() {
    let scratch = Scratch::new("load-died");
    let out = scratch.path("result.json");
    let load = start(&[
        "load",
        "contacts",
        "--rate=2k",
        "--seconds=60",
        "--skip-self-test",
        "--out",
        &out,
    ]);
    let engine = child_named(load.id(), "binrush");
    thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    signal(engine, "KILL");
    let output = load.wait_with_output().expect("it is our child");
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(output.status.code(), Some(1));
    let result = read(&out);
    assert_eq!(result["complete"], false);
    let trouble = result["trouble"].as_str().expect("why");
    assert!(trouble.contains("the receiver died"), "{trouble}");
    assert!(result["trials"][0]["senders"][0]["sent"].as_u64() > Some(0));
}

#[test]
fn an_interrupted_run_keeps_what_was_measured() {
    let scratch = Scratch::new("load-interrupted");
    let out = scratch.path("result.json");
    let load = start(&[
        "load",
        "contacts",
        "--rate=2k",
        "--seconds=60",
        "--skip-self-test",
        "--out",
        &out,
    ]);
    child_named(load.id(), "binrush");
    thread::sleep(Duration::from_millis(500));
    signal(load.id(), "INT");
    let output = load.wait_with_output().expect("it is our child");
    assert_eq!(output.status.code(), Some(1));
    let result = read(&out);
    assert_eq!(result["complete"], false);
    assert_eq!(result["trouble"], "interrupted by a signal");
    assert_eq!(result["trials"][0]["ledger"]["remainder"], 0, "{result}");
}

#[test]
fn a_result_that_finds_no_room_ends_with_4_and_the_words_are_told_all_the_same() {
    let missing = run(&["load", "miss", "--out=/nonexistent/folder/result.json"]);
    assert_eq!(missing.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent/folder"));

    // A file system of a few pages: there is room for the beginning of a run, and not for its result.
    let scratch = Scratch::new("load-full");
    let script = "mount -t tmpfs -o size=16k tmpfs \"$1\" && head -c 12288 /dev/zero > \"$1/ballast\" && \
                  \"$2\" load contacts --rate=1k --seconds=2 --skip-self-test --out \"$1/result.json\"; \
                  code=$?; ls \"$1\"; exit $code";
    let folder = scratch.path("full");
    fs::create_dir(&folder).expect("a folder");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", &folder])
        .arg(binary())
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return skip("unshare(1) is not there");
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("unshare") || stderr.contains("mount:") {
        return skip("a mount namespace needs privileges");
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{stderr}{stdout}");
    assert!(
        stderr.contains("cannot write") && stderr.contains("No space left"),
        "{stderr}"
    );
    assert!(stdout.contains("ledger    planned 2000"), "{stdout}");
    assert!(stdout.contains("result.json.partial"), "{stdout}");
}

/// The configuration of a server that audits contacts, in a folder of `name`.
fn probing(name: &str) -> String {
    let text = "listen = bin:127.0.0.1:0\nloadmodule \"usrloc.so\"\nmodparam(\"binrush\", \"allow\", \"127.0.0.0/8\")\n\
                modparam(\"binrush\", \"probe\", \"ul,usrloc-contact-repl\")\n";
    let path = env::temp_dir().join(format!("binrush-{}-{name}.cfg", std::process::id()));
    fs::write(&path, text).expect("a configuration");
    path.to_string_lossy().into_owned()
}

/// A term of a trial's ledger; 0 when it is not there.
fn term(trial: &Value, name: &str) -> u64 {
    let terms = trial["ledger"]["terms"].as_array().expect("terms");
    let term = terms.iter().find(|term| term[0] == name);
    term.map_or(0, |term| term[1].as_u64().expect("a count"))
}

/// What a run that explains every packet prints as JSON. On a machine that others use, it may call its own figures
/// worthless.
#[track_caller]
fn result(args: &[&str]) -> Value {
    let output = run(&[args, &["--skip-self-test", "--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = str::from_utf8(&output.stdout).expect("it is text");
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{stderr}{stdout}"
    );
    parsed(stdout)
}

fn run(args: &[&str]) -> Output {
    start(args).wait_with_output().expect("it is our child")
}

fn start(args: &[&str]) -> Child {
    Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was just built")
}

fn read(path: &str) -> Value {
    parsed(&fs::read_to_string(Path::new(path)).expect("a result"))
}

/// The child of `parent` that runs `program`, once its senders run too.
#[track_caller]
fn child_named(parent: u32, program: &str) -> u32 {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(30) {
        let sends = threads(parent)
            .iter()
            .any(|name| name.starts_with("sender"));
        let child = children(parent).into_iter().find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == program
        });
        if let Some(child) = child.filter(|_| sends) {
            return child;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{program} was not started");
}

fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .collect()
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(status.expect("there is a kill").success());
}
