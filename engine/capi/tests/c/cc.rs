//! Compiling and running.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

/// Of every program: also what it does with the headers has to be clean.
const FLAGS: [&str; 7] = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-g",
    "-O1",
];

/// The folder of the sources.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ctest")
}

/// A folder of this test alone, empty.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("what an earlier run left can be removed");
    }
    fs::create_dir_all(&folder).expect("folders can be made in the target folder");
    folder
}

/// Where library and headers are installed, once for all tests.
pub(crate) fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = folder("prefix");
        // The library lies beside the tests that were built with it.
        let built = env::current_exe().expect("it runs");
        let built = built.parent().expect("it is in a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
        let done = run(Command::new(script).arg(&prefix).arg(built), "");
        succeeded(&done);
        prefix
    })
}

/// Whether there is such a program; says that the test is left out when there is none.
pub(crate) fn is_there(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_there = found.is_ok_and(|status| status.success());
    if !is_there {
        skip(&format!("there is no {tool}"));
    }
    is_there
}

/// Says that a check was left out, past the test runner, which keeps what a passing test prints to itself.
pub(crate) fn skip(reason: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("?");
    let line = format!("\nSKIPPED {test}: {reason}\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Compiles `source` of `ctest/` with `flags` to a program `name`, linked with the installed library. `None` without a compiler.
#[track_caller]
pub(crate) fn compile(name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    if !is_there("cc") {
        return None;
    }
    let program = folder(name).join(name);
    let (include, lib) = (prefix().join("include/binrush"), prefix().join("lib"));
    let done = run(
        compiler(flags)
            .arg("-I")
            .arg(include)
            .arg(sources().join(source))
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(&lib)
            .arg("-lbinrush")
            .arg(format!("-Wl,-rpath,{}", lib.display())),
        "",
    );
    succeeded(&done);
    Some(program)
}

/// The compiler with what all programs are compiled with.
pub(crate) fn compiler(flags: &[&str]) -> Command {
    let mut command = Command::new("cc");
    command.args(FLAGS).args(flags);
    command
}

/// Runs `program` to its end, which all of ours find by themselves, and answers what it said.
#[track_caller]
pub(crate) fn said(program: &Path, args: &[&str], input: &str) -> String {
    let done = run(Command::new(program).args(args), input);
    succeeded(&done);
    String::from_utf8(done.stdout).expect("they write text")
}

/// Runs `command` with `input`.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", name(command.get_program())));
    let mut stdin = child.stdin.take().expect("it was asked for");
    thread::scope(|scope| {
        scope.spawn(move || {
            // Who has failed reads no more; how it ended says why.
            let _ = stdin.write_all(input.as_bytes());
        });
        child.wait_with_output().expect("it can be waited for")
    })
}

#[track_caller]
pub(crate) fn succeeded(done: &Output) {
    assert!(
        done.status.success(),
        "{}\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn name(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}
