//! The meter measures: what it says about receivers that are known to differ, and what it leaves behind.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

use binrush_wire::{Builder, Generation};
use serde_json::{Value, json};

use crate::process::{self, Scratch, skip, wait_until};

/// Events that are told.
mod events;
/// Programs of others, streams and rates.
mod more;
/// Records that are kept.
mod records;

#[test]
fn a_hundred_nanoseconds_more_per_packet_are_seen() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let report = report(&[
        "--rounds=5",
        "--packets=20000",
        "--sizes=200",
        "--scenario=plain",
        "--receivers=raw,delayed",
    ]);
    let (raw, delayed) = (&report["rows"][0], &report["rows"][1]);
    assert_eq!(
        (&raw["receiver"], &delayed["receiver"]),
        (&json!("raw"), &json!("delayed"))
    );
    assert_eq!(
        raw["ratio_to_raw"],
        json!({ "median": 1.0, "low": 1.0, "high": 1.0 })
    );
    let ratio = delayed["ratio_to_raw"]["median"]
        .as_f64()
        .expect("a number");
    assert!((1.08..3.0).contains(&ratio), "{report}");
    assert_eq!(
        (&raw["loss"], &delayed["loss"]),
        (&json!(0.0), &json!(0.0)),
        "{report}"
    );
}

#[test]
fn every_row_has_what_others_read() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let report = report(&[
        "--rounds=2",
        "--packets=2000",
        "--sizes=64,1400",
        "--scenario=plain,gso,shards",
        "--receivers=classic,raw",
        "--seconds=0.1",
    ]);
    for key in ["cores", "kernel", "cpu"] {
        assert!(!report["host"][key].is_null(), "{key}");
    }
    assert!(
        report["bench"].is_string() && report["error"].is_null(),
        "{report}"
    );
    // Without an engine there are no shards, and that is said.
    assert!(
        report["warnings"]
            .to_string()
            .contains("shards are not measured"),
        "{report}"
    );
    let rows = report["rows"].as_array().expect("rows");
    let of = |row: &Value| {
        [&row["scenario"], &row["size"], &row["receiver"]]
            .map(ToString::to_string)
            .join(" ")
    };
    let names: Vec<String> = rows.iter().map(of).collect();
    let expected = [
        r#""plain" 64 "classic""#,
        r#""plain" 64 "raw""#,
        r#""plain" 1400 "classic""#,
        r#""plain" 1400 "raw""#,
        r#""gso" 64 "classic""#,
        r#""gso" 64 "raw""#,
        r#""gso" 1400 "classic""#,
        r#""gso" 1400 "raw""#,
    ];
    assert_eq!(names, expected);
    for row in rows {
        assert!(
            row["pps"].as_f64() > Some(0.0) && row["loss"].is_f64(),
            "{row}"
        );
        // Trains come whole to whom it was asked for, and to a 1.x node never.
        let gro = row["scenario"] == "gso" && row["receiver"] == "raw";
        let backend = if row["receiver"] == "raw" {
            "recvmmsg"
        } else {
            "recvfrom"
        };
        assert_eq!(
            (&row["gro"], &row["backend"]),
            (&json!(gro), &json!(backend)),
            "{row}"
        );
        let mut spreads = vec![&row["ns_per_packet"]];
        // How fast senders are here is not ours to say, and so whether the flow was enough for raw.
        let mut others = rows.iter();
        let raw = others.find(|other| {
            other["receiver"] == "raw"
                && ["scenario", "size"]
                    .iter()
                    .all(|key| other[*key] == row[*key])
        });
        if row["receiver"] != "raw" && raw.is_some_and(|raw| raw["saturated"] == false) {
            assert!(row["ratio_to_raw"].is_null(), "{row}");
        } else {
            spreads.push(&row["ratio_to_raw"]);
        }
        for spread in spreads {
            let [low, median, high] =
                ["low", "median", "high"].map(|key| spread[key].as_f64().expect("a number"));
            assert!(0.0 < low && low <= median && median <= high, "{row}");
        }
    }
    // A checksum byte by byte: slower than touching nothing, and by far with much to sum up.
    assert!(
        rows[2]["ratio_to_raw"]["median"].as_f64() > Some(2.0),
        "{report}"
    );
}

#[test]
fn the_engine_is_measured_as_its_users_start_it() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    // The one that stands beside the meter. Other programs on the same cores may make two shards slower than one for a moment.
    let measure = || {
        report(&[
            "--rounds=1",
            "--packets=2000",
            "--sizes=200",
            "--receivers=raw,engine",
            "--seconds=0.1",
        ])
    };
    let is_faster = |report: &Value| {
        let speedup = &report["rows"][5]["speedup_by_clock"]["median"];
        speedup.as_f64() > Some(1.0)
    };
    let mut reports = (0..5).map(|_| measure());
    let report = reports.find(is_faster);
    // That both shards received, each half of it, is what makes it faster; how much, a test cannot ask for.
    let report = report.expect("two shards are faster than one in one of five runs");
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["scenario"], row["receiver"]))
        .collect();
    let expected = [
        r#""plain" "raw""#,
        r#""plain" "engine""#,
        r#""gso" "raw""#,
        r#""gso" "engine""#,
        r#""shards" "engine-1-shard""#,
        r#""shards" "engine-2-shards""#,
    ];
    assert_eq!(names, expected);
    for row in [0, 1, 4, 5] {
        assert_eq!(rows[row]["loss"], 0.0, "{report}");
    }
    // Both were told the same of trains, and who the engine was is told.
    let gro: Vec<&Value> = rows.iter().map(|row| &row["gro"]).collect();
    assert_eq!(gro, [false, false, true, true, false, false], "{report}");
    let (path, version) = (&rows[1]["path"], &rows[1]["version"]);
    assert!(
        path.as_str().is_some_and(|path| path.ends_with("/binrush"))
            && version
                .as_str()
                .is_some_and(|said| said.starts_with("binrush ")),
        "{report}"
    );
    assert!(rows[0]["path"].is_null(), "{report}");
}

#[test]
fn an_engine_that_cannot_have_its_backend_is_left_out_and_the_others_are_measured() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    for (scenario, missing, others, instead) in [
        ("plain", "engine-io_uring", ["raw", "engine"], "recvmmsg"),
        (
            "tcp",
            "engine-tcp-io_uring",
            ["raw-tcp", "engine-tcp"],
            "recv",
        ),
    ] {
        // What the kernel would have it do that forbids io_uring.
        let engine = Stand::new(
            &format!("left-out-{scenario}"),
            &format!("sed -i s/io_uring/{instead}/ \"$config\""),
        );
        let report = report(&[
            "--rounds=1",
            "--packets=1000",
            "--sizes=64",
            "--seconds=0.2",
            "--receivers=raw,engine-io_uring,engine",
            &format!("--scenario={scenario}"),
            &engine.argument(),
        ]);
        let rows = report["rows"].as_array().expect("rows");
        let names: Vec<&Value> = rows.iter().map(|row| &row["receiver"]).collect();
        assert_eq!(names, others);
        let warnings = report["warnings"].to_string();
        for words in [
            &format!("{missing} left out")[..],
            &format!("it took {instead} where io_uring was asked for"),
        ] {
            assert!(warnings.contains(words), "no \"{words}\" in {warnings}");
        }
    }
}

#[test]
fn with_nobody_left_to_measure_it_says_why() {
    let engine = Stand::new("nobody-left", "sed -i s/io_uring/recvmmsg/ \"$config\"");
    let output = compare(&["--receivers=engine-io_uring", &engine.argument()]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("nobody is left to measure") && stderr.contains("engine-io_uring left out"),
        "{stderr}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn what_was_measured_before_an_error_is_reported_with_it() {
    // Once to see whether it starts, once for the first size.
    let engine = Stand::new(
        "out-of-luck",
        "echo >> \"$0.starts\"; [ $(wc -l < \"$0.starts\") -le 2 ] || { echo out of luck >&2; exit 3; }",
    );
    let output = compare(&[
        "--rounds=1",
        "--packets=1000",
        "--sizes=64,200",
        "--scenario=plain",
        "--receivers=engine",
        "--json",
        &engine.argument(),
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let report = process::json(str::from_utf8(&output.stdout).expect("it is text"));
    let rows = report["rows"].as_array().expect("rows");
    let sizes: Vec<&Value> = rows.iter().map(|row| &row["size"]).collect();
    assert_eq!(sizes, [64]);
    let error = report["error"].as_str().expect("an error");
    for words in ["200 bytes, round 1", "out of luck"] {
        assert!(error.contains(words) && stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_and_a_reader_that_left_is_none() {
    let (pipe, gone) = std::io::pipe().map(|(gone, pipe)| (pipe, gone)).unwrap();
    drop(gone);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    for (stdout, code) in [(Stdio::from(pipe), 0), (Stdio::from(full), 1)] {
        let output = Command::new(binary())
            .args(["compare", "--rounds=1", "--packets=1000", "--sizes=64"])
            .args(["--scenario=plain", "--receivers=raw"])
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(Child::wait_with_output)
            .expect("it was just built");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        let told = stderr.contains("cannot write the report");
        assert_eq!(told, code == 1, "{stderr}");
    }
}

#[test]
fn a_missing_engine_is_an_error_that_says_what_to_do() {
    let output = compare(&["--receivers=raw,engine", "--engine=/nonexistent/binrush"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    for word in [
        "/nonexistent/binrush",
        "cargo build --release --workspace",
        "--engine",
    ] {
        assert!(stderr.contains(word), "no \"{word}\" in: {stderr}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn an_engine_that_does_not_start_is_told_with_its_own_words() {
    // Any program that is no engine.
    let output = compare(&["--receivers=engine", "--scenario=plain", "--engine=/bin/ls"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("engine ended by itself") && stderr.contains("ls: "),
        "{stderr}"
    );
}

#[test]
fn the_classic_receiver_counts_each_refusal_under_its_name() {
    let mut receiver = Running::start(&["receive", "classic"]);
    let ready = receiver.line();
    let listen = ready["listen"][0].as_str().expect("an address");
    let to = listen.strip_prefix("bin:").expect("as OpenSIPS writes it");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |bytes: &[u8]| assert_eq!(sender.send_to(bytes, to).unwrap(), bytes.len());

    let (good, unknown) = (packet("dialog"), packet("nobody"));
    let mut bad_crc = good.clone();
    bad_crc[30] ^= 1;
    let mut bad_marker = good.clone();
    bad_marker[0] = b'p';
    (0..2).for_each(|_| send(&good[..17]));
    (0..3).for_each(|_| send(&bad_marker));
    (0..4).for_each(|_| send(&bad_crc));
    (0..5).for_each(|_| send(&unknown));
    (0..6).for_each(|_| send(&good));
    let to = to.parse().unwrap();
    wait_until("the packets to be read", || process::queued(to) == 0);

    receiver.signal("TERM");
    let total = receiver.line();
    let outcomes = json!({
        "too_short": 2, "bad_marker": 3, "bad_crc": 4, "unknown_name": 5, "handled": 6,
    });
    assert_eq!(
        (&total["event"], &total["received"]),
        (&json!("total"), &json!(20))
    );
    assert_eq!(total["outcomes"], outcomes);
}

#[test]
fn a_killed_meter_leaves_no_receiver_behind() {
    for signal in ["KILL", "INT"] {
        let mut meter = Running::start(&[
            "compare",
            "--rounds=1000",
            "--receivers=raw",
            "--scenario=plain",
        ]);
        let mut receivers = Vec::new();
        wait_until("a receiver to be parked", || {
            receivers = children(meter.0.id());
            receivers.iter().any(|pid| state(*pid) == Some('T'))
        });
        meter.signal(signal);
        wait_until("the meter to end", || {
            meter.0.try_wait().expect("it is our child").is_some()
        });
        let status = meter
            .0
            .try_wait()
            .expect("it is our child")
            .expect("it ended");
        assert_eq!(status.code(), if signal == "KILL" { None } else { Some(1) });
        wait_until("the receiver to end", || {
            receivers.iter().all(|pid| is_gone(*pid))
        });
    }
}

/// What `compare` reports as JSON.
#[track_caller]
fn report(args: &[&str]) -> Value {
    let output = compare(&[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    process::json(str::from_utf8(&output.stdout).expect("it is text"))
}

fn compare(args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("compare").args(args).stdin(Stdio::null());
    command.output().expect("it was just built")
}

/// A valid 1.x packet.
fn packet(name: &str) -> Vec<u8> {
    let mut buffer = [0; 64];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, name.as_bytes(), 1, 0).unwrap();
    builder.push_str(b"a value").unwrap();
    builder.seal().to_vec()
}

/// A `binrush` that does something else first: a script, which becomes the genuine one.
pub(crate) struct Stand(Scratch);

impl Stand {
    /// `name` is the test's own; `first` is for the shell, and finds the configuration to serve by in `$config`.
    pub(crate) fn new(name: &str, first: &str) -> Self {
        let stand = Self(Scratch::new(name));
        let genuine = binary().with_file_name("binrush");
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = serve ]; then\nfor config; do :; done\n{first}\nfi\nexec '{}' \"$@\"\n",
            genuine.display()
        );
        // By another process: a file that some thread here has open for writing when another starts a program cannot
        // be executed for a moment (ETXTBSY).
        let mut shell = Command::new("sh");
        shell.args(["-c", "printf %s \"$1\" > \"$0\" && chmod +x \"$0\""]);
        shell.arg(stand.path()).arg(script);
        assert!(shell.status().expect("there is a shell").success());
        stand
    }

    fn path(&self) -> String {
        self.0.path("binrush")
    }

    pub(crate) fn argument(&self) -> String {
        format!("--engine={}", self.path())
    }
}

/// `binrush-bench` while the test does something else. Dropping it kills it.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("it was just built");
        let stdout = child.stdout.take().expect("it is piped");
        Self(child, BufReader::new(stdout))
    }

    /// Its next line, JSON.
    #[track_caller]
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("it is text");
        process::json(&line)
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid]);
        assert!(shell.status().expect("there is a shell").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Neither fails but for a child that is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processes that `parent` has started and not buried yet.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("it is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, ppid)| ppid == parent))
        .collect()
}

fn state(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// Ended, whether or not somebody has taken note of it.
fn is_gone(pid: u32) -> bool {
    state(pid).is_none_or(|state| state == 'Z')
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = text.rsplit_once(") ")?;
    let mut words = after.split(' ');
    let state = words.next()?.chars().next()?;
    Some((state, words.next()?.parse().ok()?))
}

fn is_single_core() -> bool {
    thread::available_parallelism().is_ok_and(|cores| cores.get() < 2)
}

/// Builds `binrush-bench`, and the `binrush` that it measures, as this test was built. Cargo builds the binaries of a
/// package for its own tests only.
pub(crate) fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = env::current_exe().expect("the test knows itself");
        // target/PROFILE/deps/it-HASH
        let profile_dir = test.ancestors().nth(2).expect("cargo's layout");
        // One by one: together their dependencies may have other features, and `binrush`, which other tests are
        // using just then, would be built anew.
        for package in ["binrush", "binrush-bench"] {
            build(package, profile_dir);
        }
        profile_dir.join("binrush-bench")
    })
}

pub(crate) fn build(package: &str, profile_dir: &Path) {
    let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .args(["build", "--package", package, "--profile", profile])
        .arg("--target-dir")
        .arg(profile_dir.parent().expect("cargo's layout"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .expect("cargo can be started");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(
        built.status.success(),
        "these tests need {package}, and building it failed:\n{said}"
    );
}
