//! What ends the process: seen from outside of it.

use std::env;
use std::process::{Command, ExitStatus};

use binrush::loader::Loader;
use binrush::running;
use binrush::support::timers;

use crate::workshop::{Workshop, text};

/// Runs the test `name` of this file once more, in a process of its own: how that ended, and what it wrote to standard error.
fn outcome(name: &str) -> (ExitStatus, String) {
    let program = env::current_exe().expect("it runs");
    let mut again = Command::new(program);
    again
        .args(["--exact", "--nocapture", &format!("ends::{name}")])
        .env(INSIDE, "1");
    let output = again.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status, said)
}

fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Does what ends the process.
fn command(name: &str, params: &[&str]) {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    running::tell_of_crashes().expect("it can be told");
    running::tell_of_crashes().expect("it is done");
    timers::serve();
    let modules = workshop.modules(&["own_thread"]);
    let answer = modules.run_command(name, params);
    panic!("it goes on: {answer:?}");
}

#[test]
fn a_crash_on_a_thread_that_a_module_started_names_the_module() {
    if is_inside() {
        return command("own_start", &["crash"]);
    }
    if Workshop::open().is_none() {
        return;
    }
    let (status, said) = outcome("a_crash_on_a_thread_that_a_module_started_names_the_module");
    assert!(!status.success());
    assert!(said.contains("own_thread: error: run: a line\n"), "{said}");
    assert!(
        said.contains("module own_thread crashed: SIGSEGV at 0x0 on thread "),
        "{said}"
    );
}

#[test]
fn a_module_that_calls_exit_is_named_and_its_status_is_not_taken() {
    if is_inside() {
        return command("own_exit", &[]);
    }
    if Workshop::open().is_none() {
        return;
    }
    let (status, said) = outcome("a_module_that_calls_exit_is_named_and_its_status_is_not_taken");
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(
        said.contains("module own_thread called exit on thread "),
        "{said}"
    );
}

#[test]
fn a_crash_by_a_table_that_is_nowhere_names_the_file() {
    if is_inside() {
        let Some(workshop) = Workshop::open() else {
            return;
        };
        running::tell_of_crashes().expect("it can be told");
        let library = workshop.module("garbage");
        let outcome = Loader::new(workshop.options()).load(None, text(&library));
        panic!("it goes on: {outcome:?}");
    }
    if Workshop::open().is_none() {
        return;
    }
    let (status, said) = outcome("a_crash_by_a_table_that_is_nowhere_names_the_file");
    assert!(!status.success());
    assert!(
        said.contains("/garbage.so crashed: SIGSEGV at 0x10 on thread "),
        "{said}"
    );
}

/// Set in the inner process.
const INSIDE: &str = "LOADER_TESTS_END";
