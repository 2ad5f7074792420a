//! `binrush-tune` as a process, and the commands that are programs of their own.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::process::{self, Scratch, command, json, skip};

#[test]
fn what_matters_is_told_first_with_value_reason_and_remedy() {
    let host = Host::new("matters", "212992");
    let told = tune(&["check", "--root", &host.root()]);
    let table = text(&told.stdout);
    assert_eq!(told.status.code(), Some(1), "{table}{}", text(&told.stderr));
    let (_, findings) = table.split_once("\n\n").expect("a head, then findings");
    let mut rest = findings;
    for words in [
        "MATTERS  net.core.rmem_max: 212992, 4194304 wanted, without CAP_NET_ADMIN (/proc/sys/net/core/rmem_max)\n",
        "why  a receive buffer is cut",
        "fix  sysctl -w net.core.rmem_max=4194304\n",
        "risk each socket",
    ] {
        let (before, after) = rest
            .split_once(words)
            .unwrap_or_else(|| panic!("no {words:?} in {rest}"));
        assert!(!before.contains(": "), "{before:?} before {words:?}");
        rest = after;
    }
    assert!(table.contains("\nfine     cores allowed"), "{table}");
    assert!(table.contains("\nunknown  clock (/sys/devices/"), "{table}");
    // A run that wants less has enough.
    let modest = tune(&["check", "--rcvbuf", "212992", "--root", &host.root()]);
    assert_eq!(modest.status.code(), Some(0), "{}", text(&modest.stdout));
}

#[test]
fn tools_are_told_the_same_in_one_object() {
    let host = Host::new("object", "212992");
    let told = tune(&["check", "--json", "--root", &host.root()]);
    assert_eq!(told.status.code(), Some(1));
    let told = json(&text(&told.stdout));
    assert_eq!(told["matters"], true);
    assert_eq!(told["demand"]["rcvbuf"], 4_194_304);
    assert_eq!(told["facts"]["cpu"]["allowed"], "0-1");
    assert_eq!(told["facts"]["sysctl"]["wmem_max"], Value::Null);
    let first = &told["findings"][0];
    assert_eq!(
        (&first["id"], &first["severity"]),
        (&"rmem_max".into(), &"matters".into())
    );
    for key in ["subject", "value", "why", "fix", "risk"] {
        assert!(
            first[key].as_str().is_some_and(|words| !words.is_empty()),
            "{key} of {first}"
        );
    }
    let unknown = told["unknown"].as_array().expect("a list");
    assert!(unknown.len() > 5, "{told}");
}

#[test]
fn this_very_host_is_checked_by_anybody() {
    // A copy, where nobody can get at it; made by another process: a file that some thread here has open for writing
    // when another starts a program cannot be executed for a moment (ETXTBSY).
    let copy = env::temp_dir().join(format!("binrush-tune-it-{}", std::process::id()));
    let copied = Command::new("cp").arg(built()).arg(&copy).status();
    assert!(
        copied.expect("there is cp").success(),
        "the temporary directory is writable"
    );
    let mut command = Command::new(&copy);
    command.args(["check", "--json"]).stdin(Stdio::null());
    let is_root = fs::metadata("/proc/self").expect("it is mounted").uid() == 0;
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let told = command.output();
    let _ = fs::remove_file(&copy);
    let told = told.expect("it was just built");
    let result = json(&text(&told.stdout));
    assert_eq!(
        told.status.code(),
        Some(i32::from(result["matters"] == true)),
        "{result}"
    );
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("it is Linux");
    assert_eq!(result["facts"]["kernel"], kernel.trim());
    assert_eq!(
        result["facts"]["process"]["capabilities"]["net_admin"],
        false
    );
}

#[test]
fn what_cannot_be_checked_is_said_and_has_a_code_of_its_own() {
    let scratch = Scratch::new("tune-nothing");
    let (empty, file) = (scratch.path(""), scratch.file("file", b""));
    for (args, words) in [
        (
            &["check", "--root", "/nonesuch"][..],
            "cannot look at /nonesuch",
        ),
        (&["check", "--root", &file], "is no directory"),
        (&["check", "--root", &empty], "nothing of proc and sys"),
        (&["check", "--rate", "0"], "packets per second"),
        (&["check", "--sockets", "0"], "--sockets"),
        (&["chekc"], "check"),
        (&["completions", "nosh"], "bash"),
    ] {
        let told = tune(args);
        let said = text(&told.stderr);
        assert_eq!(told.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "no {words:?}: {said}");
    }
}

#[test]
fn a_reader_that_leaves_changes_nothing() {
    let host = Host::new("leaves", "212992");
    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    let told = Command::new(built())
        .args(["check", "--root", &host.root()])
        .stdout(writer)
        .output()
        .expect("it was just built");
    assert_eq!(
        (told.status.code(), text(&told.stderr)),
        (Some(1), String::new())
    );
}

#[test]
fn tune_and_bench_are_commands_of_binrush() {
    // Those that stand beside it.
    built();
    let host = Host::new("command", "212992");
    let told = process::run(&["tune", "check", "--json", "--root", &host.root()])
        .exits(1)
        .quiet();
    assert_eq!(told.json()[0]["findings"][0]["id"], "rmem_max");
    // What follows is the program's own business, however it looks.
    let version = process::run(&["tune", "--version"]).ok();
    assert!(
        version.text().starts_with("binrush-tune "),
        "{}",
        version.text()
    );
    process::run(&["tune", "check", "--help"]).ok().quiet();
    process::run(&["tune", "check", "--root", "/nonesuch"])
        .exits(2)
        .says(&["/nonesuch"]);
    let help = process::run(&["--help"]).ok();
    for words in ["bench ", "tune ", "binrush-bench", "binrush-tune"] {
        assert!(help.text().contains(words), "no {words:?}: {}", help.text());
    }
}

#[test]
fn a_program_beside_binrush_is_taken_before_one_in_the_path() {
    let (here, there) = (Scratch::new("tune-here"), Scratch::new("tune-there"));
    let binrush = here.path("binrush");
    place(process::binary(), &binrush);
    // Any program that says who it is will do.
    let shell = shell();
    symlink(&shell, there.path("binrush-bench")).expect("it is empty");
    let run = |path: &str| {
        let mut command = Command::new(&binrush);
        command.args(["bench", "-c", "echo \"$0\" \"$1\"", "there", "--flag"]);
        command
            .env("PATH", path)
            .output()
            .expect("it was just placed")
    };
    let found = run(&there.path(""));
    assert_eq!(
        text(&found.stdout),
        "there --flag\n",
        "{}",
        text(&found.stderr)
    );

    place(process::binary(), &here.path("binrush-bench"));
    let refused = run(&there.path(""));
    // It is binrush by another name, and knows no `-c`.
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stdout));

    fs::remove_file(here.path("binrush-bench")).expect("it is there");
    let missing = run(&here.path("nowhere"));
    let said = text(&missing.stderr);
    assert_eq!(missing.status.code(), Some(1), "{said}");
    let folder = fs::canonicalize(here.path("")).expect("it is there");
    for words in [
        "error: binrush-bench is neither in ",
        &folder.display().to_string(),
        "nor in PATH",
        "cargo build --release --workspace",
    ] {
        assert!(said.contains(words), "no {words:?}: {said}");
    }

    // One that is there and cannot be started is not passed over.
    here.file("binrush-bench", b"no program");
    let said = text(&run(&there.path("")).stderr);
    assert!(
        said.contains("cannot start ") && said.contains("ermission denied"),
        "{said}"
    );
}

#[test]
fn what_shells_are_given_to_complete_is_what_they_understand() {
    for shell in ["bash", "zsh", "fish"] {
        let scripts = [
            process::run(&["completions", shell]).ok().quiet().stdout,
            tune(&["completions", shell]).stdout,
        ];
        if Command::new(shell).arg("--version").output().is_err() {
            skip(&format!("{shell} is not there to check its syntax"));
        }
        for (script, name) in scripts.iter().zip(["binrush", "binrush-tune"]) {
            let script = text(script);
            for command in ["completions", "check", name] {
                assert!(
                    script.contains(command),
                    "{shell}: no {command} in that of {name}"
                );
            }
            let scratch = Scratch::new(&format!("tune-{shell}-{name}"));
            let file = scratch.file("script", script.as_bytes());
            if let Ok(checked) = Command::new(shell).args(["-n", &file]).output() {
                assert!(
                    checked.status.success(),
                    "{shell}: {}",
                    text(&checked.stderr)
                );
            }
        }
    }
    // For a reader that has seen enough.
    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    let mut command = command(&["completions", "bash"]);
    let told = command.stdout(writer).output().expect("it was just built");
    assert_eq!(
        (told.status.code(), text(&told.stderr)),
        (Some(0), String::new())
    );
}

/// The files of a host of two cores.
struct Host(Scratch);

impl Host {
    fn new(name: &str, rmem_max: &str) -> Self {
        let scratch = Scratch::new(&format!("tune-{name}"));
        let status = "Cpus_allowed_list:\t0-1\nCapEff:\t0000000000000000\n";
        for (file, words) in [
            ("proc/sys/net/core/rmem_max", rmem_max),
            ("proc/sys/kernel/osrelease", "6.12.0"),
            ("proc/self/status", status),
            ("sys/devices/system/cpu/online", "0-1"),
        ] {
            let path = PathBuf::from(scratch.path(file));
            let folder = path.parent().expect("it is in the scratch directory");
            fs::create_dir_all(folder).expect("the target directory is writable");
            fs::write(path, words).expect("the target directory is writable");
        }
        Self(scratch)
    }

    fn root(&self) -> String {
        self.0.path("")
    }
}

/// Runs `binrush-tune` with `args` to its end.
fn tune<S: AsRef<OsStr>>(args: &[S]) -> Output {
    let mut command = Command::new(built());
    command.args(args).stdin(Stdio::null());
    command.output().expect("it was just built")
}

/// Where `binrush-tune` is, beside `binrush`; both are built first, as this test was.
fn built() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let beside = process::binary().with_file_name("binrush-tune");
        let profile_dir = beside.parent().expect("it is in one");
        crate::compare::build("binrush-tune", profile_dir);
        beside
    })
}

/// Puts a program at a second place, without writing it: one that is being written cannot be started.
fn place(program: &Path, at: &str) {
    fs::hard_link(program, at).expect("both are in the target directory");
}

/// A shell by its full path.
fn shell() -> PathBuf {
    let path = PathBuf::from("/bin/sh");
    fs::canonicalize(&path).unwrap_or(path)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const NOBODY: u32 = 65_534;
