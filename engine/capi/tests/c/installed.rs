//! What is installed, and that it is all that is needed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::cc;

const SAID: &str = "sent 39 bytes\nul 1: alice in location\nreceived 1, handled 1\n";

#[test]
fn a_program_needs_no_more_than_what_pkg_config_says() {
    let Some(flags) = pkg_config(&["--cflags", "--libs"]) else {
        return;
    };
    let program = cc::folder("alone").join("alone");
    let mut command = cc::compiler(&[]);
    command
        .arg(cc::sources().join("alone.c"))
        .arg("-o")
        .arg(&program);
    cc::succeeded(&cc::run(command.args(words(&flags)), ""));
    let mut command = Command::new(&program);
    command.env("LD_LIBRARY_PATH", cc::prefix().join("lib"));
    let done = cc::run(&mut command, "");
    cc::succeeded(&done);
    assert_eq!(String::from_utf8_lossy(&done.stdout), SAID);
    // It asks for the major version that it was linked with.
    assert!(
        fs::read(&program)
            .unwrap()
            .windows(15)
            .any(|name| name == b"libbinrush.so.0")
    );
}

#[test]
fn a_folder_of_any_name_is_told_as_it_is_and_everybody_may_look() {
    let folder = cc::folder("any&name|of \\folder");
    let built = std::env::current_exe().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 077 && exec \"$0\" \"$@\""])
        .arg(script)
        .arg(&folder)
        .arg(built.parent().unwrap());
    cc::succeeded(&cc::run(&mut command, ""));
    let text = fs::read_to_string(folder.join("lib/pkgconfig/binrush.pc")).unwrap();
    assert_eq!(
        text.lines().next().unwrap(),
        format!("prefix={}", folder.display())
    );
    let modes = [
        "include/binrush",
        "lib/pkgconfig",
        "lib/pkgconfig/binrush.pc",
    ]
    .map(|path| {
        fs::metadata(folder.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    });
    assert_eq!(modes, [0o755, 0o755, 0o644]);
}

#[test]
fn a_program_linked_statically_needs_nothing_at_run_time() {
    let Some(flags) = pkg_config(&["--cflags", "--libs", "--static"]) else {
        return;
    };
    let program = cc::folder("alone-static").join("alone");
    let mut command = cc::compiler(&[]);
    command
        .arg(cc::sources().join("alone.c"))
        .arg("-o")
        .arg(&program);
    let archive = cc::prefix().join("lib/libbinrush.a");
    for word in words(&flags) {
        if word == "-lbinrush" {
            command.arg(&archive);
        } else {
            command.arg(word);
        }
    }
    cc::succeeded(&cc::run(&mut command, ""));
    assert_eq!(cc::said(&program, &[], ""), SAID);
}

#[test]
fn sources_of_modules_find_the_headers_two_folders_above_them() {
    let Some(flags) = pkg_config(&["--cflags"]) else {
        return;
    };
    let folder = cc::folder("relative").join("modules/mine");
    fs::create_dir_all(&folder).unwrap();
    let source = folder.join("mine.c");
    let code = "#include \"../../bin_interface.h\"\n#include \"../../ip_addr.h\"\n\
                int mine(str *name);\nint mine(str *name) { return bin_init(name, 1); }\n";
    fs::write(&source, code).unwrap();
    let mut command = cc::compiler(&["-c", "-fPIC", "-o"]);
    command.arg(folder.join("mine.o")).arg(&source);
    cc::succeeded(&cc::run(command.args(words(&flags)), ""));
}

#[test]
fn the_library_exports_what_is_documented_and_nothing_else() {
    if !cc::is_there("nm") {
        return;
    }
    let library = cc::prefix().join("lib/libbinrush.so");
    let mut command = Command::new("nm");
    let done = cc::run(command.args(["-D", "--defined-only"]).arg(library), "");
    cc::succeeded(&done);
    let text = String::from_utf8(done.stdout).unwrap();
    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(own.join("exports.list")).unwrap();
    let listed: BTreeSet<&str> = list
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter(|name| *name != "}")
        .collect();
    assert_eq!(exported, listed);
    let headers = headers(&own.join("include"));
    for name in listed {
        // Those of the 3.x API have the end of their symbol in the header.
        let declared = match name.strip_prefix("binrush_3_") {
            Some(end) => headers.contains(&format!("BINRUSH_3({end})")),
            None => headers.contains(&format!("{name}(")) || headers.contains(&format!("{name};")),
        };
        assert!(declared, "{name} is in no header");
    }
}

/// All headers below `folder`, one after the other.
fn headers(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &headers(&path);
        } else {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

/// What pkg-config says about the installed library; `None` without it or a compiler.
fn pkg_config(args: &[&str]) -> Option<String> {
    if !cc::is_there("cc") || !cc::is_there("pkg-config") {
        return None;
    }
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", cc::prefix().join("lib/pkgconfig"));
    let done = cc::run(command.args(args).arg("binrush"), "");
    cc::succeeded(&done);
    Some(String::from_utf8(done.stdout).expect("it is text"))
}

fn words(flags: &str) -> impl Iterator<Item = &str> {
    flags.split_whitespace()
}
