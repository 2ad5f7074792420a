//! Return values at their edges, watched by tools that look for misuse of memory.

use std::process::Command;

use crate::cc;

const EDGES: [(&str, &str); 2] = [("edges-1x", "edges_1x.c"), ("edges-3x", "edges_3x.c")];

#[test]
fn layouts_are_those_that_modules_were_compiled_with() {
    for (name, api) in [
        ("layout-1", "-DBINRUSH_API=1"),
        ("layout-3", "-DBINRUSH_API=3"),
    ] {
        if let Some(program) = cc::compile(name, "layout.c", &[api]) {
            cc::said(&program, &[], "");
        }
    }
}

#[test]
fn the_functions_answer_at_their_edges_what_the_headers_say() {
    for (name, source) in EDGES {
        if let Some(program) = cc::compile(name, source, &[]) {
            cc::said(&program, &[], "");
        }
    }
}

#[test]
fn destinations_hashes_and_strings_are_those_of_either_api() {
    for (name, api) in [
        ("destinations-1", "-DBINRUSH_API=1"),
        ("destinations-3", "-DBINRUSH_API=3"),
    ] {
        // The macros of 3.x are expressions with statements in them, which is GNU C.
        if let Some(program) = cc::compile(name, "destinations.c", &[api, "-std=gnu11"]) {
            cc::said(&program, &[], "");
        }
    }
}

#[test]
fn programs_in_cpp_link_with_either_api() {
    if !cc::is_there("c++") {
        return;
    }
    for api in ["1", "3"] {
        let program = cc::folder(&format!("cplusplus-{api}")).join("cplusplus");
        let lib = cc::prefix().join("lib");
        let mut command = Command::new("c++");
        command
            .args(["-Wall", "-Wextra", "-Werror"])
            .arg(format!("-DBINRUSH_API={api}"))
            .arg("-I")
            .arg(cc::prefix().join("include/binrush"))
            .arg(cc::sources().join("cplusplus.cpp"))
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(&lib)
            .arg("-lbinrush")
            .arg(format!("-Wl,-rpath,{}", lib.display()));
        cc::succeeded(&cc::run(&mut command, ""));
        cc::said(&program, &[], "");
    }
}

#[test]
fn what_is_called_in_a_threads_last_moments_answers_and_ends_nothing() {
    let Some(program) = cc::compile("last-moments", "last_moments.c", &["-pthread"]) else {
        return;
    };
    let done = cc::run(&mut Command::new(program), "");
    cc::succeeded(&done);
    // A panic that a debug build survives would be told there.
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "thread\nexit\n");
}

#[test]
fn a_child_sends_neither_what_its_parent_queued_nor_in_between_on_its_connections() {
    for (name, api) in [
        ("forks-1", "-DBINRUSH_API=1"),
        ("forks-3", "-DBINRUSH_API=3"),
    ] {
        if let Some(program) = cc::compile(name, "forks.c", &[api]) {
            cc::said(&program, &[], "");
        }
    }
}

#[test]
fn address_sanitizer_finds_nothing_and_would_find_a_leak() {
    let flags = ["-fsanitize=address", "-fno-omit-frame-pointer"];
    if !has_sanitizer(flags[0]) {
        return;
    }
    for (name, source) in EDGES {
        let name = format!("{name}-asan");
        let Some(program) = cc::compile(&name, source, &flags) else {
            return;
        };
        cc::said(&program, &[], "");
        if source == "edges_1x.c" {
            let done = cc::run(Command::new(&program).arg("leak"), "");
            let text = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(
                !done.status.success() && text.contains("1234 byte"),
                "{text}"
            );
        }
    }
}

#[test]
fn valgrind_finds_nothing_and_would_find_a_leak() {
    if !cc::is_there("valgrind") {
        return;
    }
    for (name, source) in EDGES {
        let name = format!("{name}-valgrind");
        let Some(program) = cc::compile(&name, source, &[]) else {
            return;
        };
        let watched = |args: &[&str]| {
            let mut command = Command::new("valgrind");
            command
                .args(["-q", "--error-exitcode=99", "--leak-check=full"])
                .arg("--errors-for-leak-kinds=definite,indirect,possible")
                .arg(&program)
                .args(args);
            cc::run(&mut command, "")
        };
        cc::succeeded(&watched(&[]));
        if source == "edges_1x.c" {
            assert_eq!(watched(&["leak"]).status.code(), Some(99));
        }
    }
}

/// Whether the compiler can link with it; its library is a package of its own.
fn has_sanitizer(flag: &str) -> bool {
    if !cc::is_there("cc") {
        return false;
    }
    let empty = cc::folder("asan-probe").join("empty");
    let mut command = cc::compiler(&[flag, "-x", "c", "-", "-o"]);
    let done = cc::run(command.arg(empty), "int main(void) { return 0; }\n");
    if !done.status.success() {
        cc::skip("the compiler has no AddressSanitizer");
    }
    done.status.success()
}
