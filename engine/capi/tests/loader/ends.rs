//! What ends the process: seen from outside of it.

use std::ffi::c_long;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use binrush::loader::{Loader, Value};
use binrush::running;
use binrush::support::timers;

use crate::workshop::{Workshop, text};

/// The test `name` of this file once more, in a process of its own.
fn again(name: &str) -> Command {
    let program = env::current_exe().expect("it runs");
    let mut again = Command::new(program);
    again
        .args(["--exact", "--nocapture", &format!("ends::{name}")])
        .env(INSIDE, "1");
    again
}

/// Runs it: how that ended, and what it wrote to standard error.
fn outcome(name: &str) -> (ExitStatus, String) {
    let output = again(name).output().expect("it can be started");
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
        said.contains("/own_thread.so) crashed: SIGSEGV at 0x0 on thread "),
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
        said.contains("/own_thread.so) called exit on thread "),
        "{said}"
    );
}

#[test]
fn a_thread_of_a_module_that_calls_exit_is_told_like_the_module_itself() {
    if is_inside() {
        return command("own_leave", &[]);
    }
    if Workshop::open().is_none() {
        return;
    }
    let (status, said) =
        outcome("a_thread_of_a_module_that_calls_exit_is_told_like_the_module_itself");
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(
        said.contains("/own_thread.so) called exit on thread "),
        "{said}"
    );
}

#[test]
fn who_calls_exit_is_told_unless_the_process_is_ending() {
    if let Some(inside) = env::var_os(INSIDE) {
        running::tell_of_crashes().expect("it can be told");
        if inside == "ending" {
            running::ending();
        }
        // SAFETY: as C calls it; what runs at the end is the runner's and ours.
        unsafe { libc::exit(7) };
    }
    let name = "who_calls_exit_is_told_unless_the_process_is_ending";
    let (status, said) = outcome(name);
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("exit was called on thread "), "{said}");
    let ending = again(name).env(INSIDE, "ending").output();
    let ending = ending.expect("it can be started");
    assert_eq!(ending.status.code(), Some(7));
    assert!(!String::from_utf8_lossy(&ending.stderr).contains("exit was called"));
}

#[test]
fn two_crashes_at_the_same_time_are_one_line_and_one_death() {
    if is_inside() {
        return command("own_twice", &[]);
    }
    if Workshop::open().is_none() {
        return;
    }
    for _ in 0..20 {
        let (status, said) = outcome("two_crashes_at_the_same_time_are_one_line_and_one_death");
        let signal = status.signal();
        assert!([Some(SIGSEGV), Some(SIGFPE)].contains(&signal), "{status}");
        assert_eq!(said.matches("crashed: SIG").count(), 1, "{said}");
        assert!(said.contains("module own_thread (/"), "{said}");
    }
}

#[test]
fn a_reader_of_the_line_that_is_stuck_keeps_nobody_from_ending() {
    if is_inside() {
        return command("own_exit", &[]);
    }
    if Workshop::open().is_none() {
        return;
    }
    let (_reader, mut writer) = io::pipe().expect("there are descriptors");
    // As much as it takes before it blocks (pipe(7)).
    writer.write_all(&[b'x'; 65536]).expect("there is room");
    let mut again = again("a_reader_of_the_line_that_is_stuck_keeps_nobody_from_ending");
    again.stdout(Stdio::null()).stderr(writer);
    let status = again.status().expect("it can be started");
    assert_eq!(status.code(), Some(70));
}

#[test]
fn a_signal_of_another_process_is_not_told_as_a_crash() {
    let place = env::var_os(INSIDE).filter(|inside| inside != "1");
    if let Some(mark) = place {
        let Some(workshop) = Workshop::open() else {
            return;
        };
        running::tell_of_crashes().expect("it can be told");
        let mut loader = workshop.loader(&["stays"]);
        for (name, value) in [("where", "mod_init"), ("mark", text(Path::new(&mark)))] {
            let value = Value::Text(value.as_bytes().to_vec());
            loader.modparam("stays", name, &value).expect("it is one");
        }
        let outcome = loader.finish().init();
        panic!("it goes on: {outcome:?}");
    }
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let mark = workshop.path("mark");
    let mut again = again("a_signal_of_another_process_is_not_told_as_a_crash");
    again
        .env(INSIDE, &mark)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let stays = again.spawn().expect("it can be started");
    let limit = Instant::now() + Duration::from_secs(60);
    while !mark.exists() {
        assert!(Instant::now() < limit, "it is not where it stays");
        thread::sleep(Duration::from_millis(1));
    }
    // The runner's first thread is in nobody's code; the other one is the test's.
    let of_process = stays.id().to_string();
    let tasks = fs::read_dir(format!("/proc/{of_process}/task")).expect("it is there");
    let mut others = tasks
        .map(|task| task.expect("it is there").file_name())
        .filter(|task| *task != *of_process);
    let other = others.next().expect("the test's");
    let number = |text: &str| text.parse::<c_long>().expect("a number");
    let (process, thread) = (number(&of_process), number(&other.to_string_lossy()));
    // SAFETY: three numbers (tgkill(2)).
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, c_long::from(SIGABRT)) };
    assert_eq!(sent, 0);
    let ended = stays.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{said}");
    assert!(
        said.contains("this process was ended by SIGABRT from process ")
            && said.contains(" while in module stays (/"),
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

const SIGABRT: i32 = 6;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

/// Set in the inner process.
const INSIDE: &str = "LOADER_TESTS_END";
