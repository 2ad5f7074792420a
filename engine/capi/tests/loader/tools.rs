//! The other tests of this program once more, under tools that see what a test does not.

use std::env;
use std::process::Command;

use crate::workshop::{CFLAGS, Workshop, run, skip};

/// This program with the tests of `modules`, started by `command`.
fn again(mut command: Command, modules: &[&str]) {
    command.args(modules.iter().map(|module| format!("{module}::")));
    let said = run(&mut command);
    assert!(said.contains("test result: ok. "), "{said}");
    assert!(!said.contains(" 0 passed"), "{said}");
}

#[test]
fn valgrind_finds_no_error_in_what_modules_and_loader_do_to_each_other() {
    if Workshop::open().is_none() {
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        skip("there is no valgrind");
        return;
    }
    let mut valgrind = Command::new("valgrind");
    // What was leaked is not looked at: libraries and what C has the address of stay until the process ends.
    valgrind
        .args(["--quiet", "--error-exitcode=9", "--leak-check=no"])
        .arg(env::current_exe().expect("it runs"));
    again(
        valgrind,
        &["life", "parameters", "script", "support", "template"],
    );
}

#[test]
fn modules_with_address_and_undefined_behaviour_sanitizers_find_no_error() {
    if Workshop::open().is_none() {
        return;
    }
    let runtime = |name: &str| {
        let mut cc = Command::new("cc");
        run(cc.arg(format!("-print-file-name=lib{name}.so")))
    };
    let [asan, ubsan] = ["asan", "ubsan"].map(runtime);
    // A compiler that does not know the file says the name alone.
    if !asan.starts_with('/') || !ubsan.starts_with('/') {
        skip("the compiler has no sanitizers");
        return;
    }
    let mut own = Command::new(env::current_exe().expect("it runs"));
    own.env(
        CFLAGS,
        "-fsanitize=address,undefined -fno-sanitize-recover=all",
    )
    .env("LD_PRELOAD", format!("{} {}", asan.trim(), ubsan.trim()))
    // Each module has a variable "exports". Leaks: as above. The compiler is started with the same environment.
    .env(
        "ASAN_OPTIONS",
        "detect_odr_violation=0:detect_leaks=0:verify_asan_link_order=0",
    );
    again(own, &["life", "script", "support"]);
}
