//! What the sources themselves must keep to: floors, unsafe code, reasons, size.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::json;

/// Who may depend on whom, tests and benches included. A crate that is not here has no floor yet.
const FLOORS: [(&str, &[&str]); 15] = [
    ("binrush-wire", &[]),
    ("binrush-net", &[]),
    ("binrush-capture", &["binrush-wire"]),
    ("binrush-store", &["binrush-wire"]),
    // Memory that outlives the process is all that it takes of the socket floor.
    ("binrush-journal", &["binrush-net"]),
    (
        "binrush-engine",
        &[
            "binrush-wire",
            "binrush-net",
            "binrush-journal",
            "binrush-store",
        ],
    ),
    (
        "binrush-capi",
        &[
            "binrush-wire",
            "binrush-net",
            "binrush-capture",
            "binrush-store",
            "binrush-engine",
        ],
    ),
    (
        "binrush-replay",
        &["binrush-wire", "binrush-capture", "binrush-net"],
    ),
    ("binrush-probe", &["binrush-wire"]),
    ("binrush-proxy", &["binrush-wire"]),
    (
        "binrush-scenario",
        &["binrush-wire", "binrush-capture", "binrush-probe"],
    ),
    ("binrush-tune", &[]),
    // The meter shares nothing with what it measures but the format, the socket floor and the stamps that it sends.
    (
        "binrush-bench",
        &[
            "binrush-wire",
            "binrush-net",
            "binrush-capture",
            "binrush-probe",
            "binrush-proxy",
            "binrush-replay",
            "binrush-scenario",
            "binrush-tune",
        ],
    ),
    (
        "binrush",
        &[
            "binrush-wire",
            "binrush-net",
            "binrush-capi",
            "binrush-capture",
            "binrush-engine",
            "binrush-journal",
            "binrush-probe",
            "binrush-replay",
            "binrush-store",
        ],
    ),
    ("binrush-tests", &ALL),
];

const ALL: [&str; 13] = [
    "binrush-capi",
    "binrush-store",
    "binrush-wire",
    "binrush-net",
    "binrush-capture",
    "binrush-engine",
    "binrush-journal",
    "binrush-probe",
    "binrush-proxy",
    "binrush-replay",
    "binrush-scenario",
    "binrush-tune",
    "binrush",
];

/// Inside `engine/core`: what each part must not know.
const STRANGERS: [(&str, &[&str]); 13] = [
    ("access", &ABOVE),
    ("bin", &ABOVE),
    ("cluster", &ABOVE),
    ("config", &ABOVE),
    ("dispatch", &ABOVE),
    ("event", &["crate::shard", "crate::engine"]),
    ("script", &ABOVE),
    ("steering", &ABOVE),
    ("store", &ABOVE),
    ("stream", &ABOVE),
    ("telemetry", &ABOVE),
    ("tls", &ABOVE),
    ("shard", &["crate::engine"]),
];

/// What joins the parts, and the kernel.
const ABOVE: [&str; 3] = ["crate::shard", "crate::engine", "binrush_net"];

/// What a part may know of a stranger all the same: plain data.
const ACQUAINTANCES: [(&str, &str, &[&str]); 2] = [
    (
        "config",
        "use crate::engine::",
        &[
            "Backend",
            "EngineConfig",
            "Gro",
            "Pin",
            "StreamBackend",
            "StreamConfig",
            "BATCH_MAX",
            "LISTENERS_MAX",
            "SHARDS_MAX",
        ],
    ),
    (
        "steering",
        "use binrush_net::bpf::",
        &["Instruction", "Program", "INSTRUCTIONS_MAX"],
    ),
];

#[test]
fn crates_depend_on_their_floor_and_below() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| text(package, "name"))
        .collect();
    let floors = BTreeMap::from(FLOORS);
    for package in &packages {
        let name = text(package, "name");
        let allowed = floors
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no floor in tidy.rs"));
        for dependency in list(package, "dependencies") {
            let on = text(dependency, "name");
            assert!(
                !ours.contains(on) || allowed.contains(&on),
                "{name} must not depend on {on}"
            );
        }
    }
    assert_eq!(ours.len(), FLOORS.len(), "{ours:?}");
}

#[test]
fn parts_of_the_core_do_not_know_what_is_above_them() {
    for (part, strangers) in STRANGERS {
        let own = root().join("engine/core/src").join(part);
        let mut files = files_below(&own, "rs");
        files.push(own.with_extension("rs"));
        for (path, code) in files.iter().map(|path| (path, read(path))) {
            let lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in lines {
                let met = strangers.iter().find(|stranger| line.contains(*stranger));
                assert!(
                    met.is_none() || is_acquaintance(part, line),
                    "{}: {line}",
                    path.display()
                );
            }
        }
    }
}

/// Whether `line` of `part` imports what it may know, and nothing else.
fn is_acquaintance(part: &str, line: &str) -> bool {
    ACQUAINTANCES.iter().any(|(who, from, names)| {
        let imported = line.trim_start().strip_prefix(from);
        let known = |imported: &str| {
            let words = imported.split(|c: char| !c.is_alphanumeric() && c != '_');
            words
                .filter(|word| !word.is_empty())
                .all(|word| names.contains(&word))
        };
        *who == part && imported.is_some_and(known)
    })
}

#[test]
fn unsafe_code_is_where_the_kernel_and_c_are() {
    let mut roots = 0;
    for package in packages() {
        for target in list(&package, "targets") {
            // Benches and tests ship nowhere; what is in them is looked at below.
            let kinds = target["kind"].to_string();
            if kinds.contains("bench") || kinds.contains("test") {
                continue;
            }
            let path = text(target, "src_path");
            let forbidden = read(Path::new(path)).contains("\n#![forbid(unsafe_code)]\n");
            let is_border = ["binrush-net", "binrush-capi"].contains(&text(&package, "name"));
            assert_ne!(
                forbidden, is_border,
                "{path}: unsafe code forbidden is {forbidden}"
            );
            roots += 1;
        }
    }
    assert!(roots >= FLOORS.len(), "{roots}");
    // In two halves, or this file would find itself.
    let beginnings = [
        concat!("unsa", "fe {"),
        concat!("unsa", "fe fn "),
        concat!("unsa", "fe impl "),
        concat!("unsa", "fe extern "),
    ];
    // An allocator that counts cannot be made otherwise.
    let may = ["engine/net", "engine/capi", "tests/alloc.rs"].map(|path| root().join(path));
    for path in sources() {
        if may.iter().any(|may| path.starts_with(may)) {
            continue;
        }
        for (line, number) in read(&path).lines().zip(1..) {
            let met = beginnings.iter().find(|words| line.contains(*words));
            assert!(met.is_none(), "{}:{number}: {line}", path.display());
        }
    }
}

#[test]
fn each_dependency_stands_once_with_its_reason() {
    let manifest = read(&root().join("Cargo.toml"));
    let (_, table) = manifest
        .split_once("[workspace.dependencies]\n")
        .expect("it has one");
    let (table, _) = table.split_once("\n[").expect("other tables follow");
    let mut names = BTreeSet::new();
    for line in table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (name, value) = line.split_once(" = ").expect("a dependency a line");
        assert!(names.insert(name), "{name} stands twice");
        // What our own crates are for stands in their manifests.
        let reason = value
            .split_once(" # ")
            .is_some_and(|(_, reason)| !reason.trim().is_empty());
        assert!(reason || value.contains("path = "), "no reason: {line}");
    }
    for package in packages() {
        let manifest = text(&package, "manifest_path");
        let inherited = read(Path::new(manifest));
        for dependency in list(&package, "dependencies") {
            let name = text(dependency, "name");
            assert!(
                names.contains(name),
                "{manifest}: {name} is not in the workspace's table"
            );
            assert!(
                inherited.contains(&format!("\n{name}.workspace = true")),
                "{manifest}: {name}"
            );
        }
    }
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_left_out() {
    // In two halves, or this file would find itself.
    let unfinished = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ig", "nore"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
    ];
    for path in sources() {
        for (line, number) in read(&path).lines().zip(1..) {
            let met = unfinished.iter().find(|word| line.contains(*word));
            assert!(met.is_none(), "{}:{number}: {line}", path.display());
        }
    }
}

#[test]
fn a_lint_is_set_aside_only_with_a_reason() {
    for path in sources() {
        let code = read(&path);
        for marker in [
            concat!("#[all", "ow("),
            concat!("#[exp", "ect("),
            concat!("#![all", "ow("),
        ] {
            for (at, _) in code.match_indices(marker) {
                let (attribute, _) = code[at..].split_once(")]").expect("it ends");
                assert!(
                    attribute.contains("reason = "),
                    "{}: {attribute}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    for folder in ["engine", "bench", "tests"] {
        for path in files_below(&root().join(folder), "rs") {
            let lines = read(&path).lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        }
    }
}

/// The packages of the workspace, as cargo reads their manifests.
fn packages() -> Vec<Value> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata = json(str::from_utf8(&output.stdout).expect("it is text"));
    list(&metadata, "packages").to_vec()
}

/// Every Rust file of the workspace.
fn sources() -> Vec<PathBuf> {
    let folders = ["engine", "bench", "tests"];
    let files: Vec<_> = folders
        .iter()
        .flat_map(|folder| files_below(&root().join(folder), "rs"))
        .collect();
    assert!(files.len() > 50, "{files:?}");
    files
}

/// Files with `extension` below `folder`, none when it is not there.
fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            // The fuzz workspace builds inside itself.
            if !path.ends_with("target") {
                files.extend(files_below(&path, extension));
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests/ is in the workspace")
        .to_path_buf()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("\"{key}\" of {value}"))
}

#[track_caller]
fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("\"{key}\" of {value}"))
}

/// Near 300 is comfortable; from here on a file holds a second concept.
const LINES_MAX: usize = 700;
