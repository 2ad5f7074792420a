//! The command makes configurations of those that genuine nodes were run with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Scratch, json, run, run_with};

/// The configurations of the nodes whose traffic is in the captures.
fn genuine() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/config");
    let entries = fs::read_dir(&folder).expect("they are there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 9, "{paths:?}");
    paths
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of our own")
}

/// What `binrush check --json` says of `config`.
#[track_caller]
fn checked(name: &str, config: &str) -> Value {
    let folder = Scratch::new(name);
    let file = folder.file("binrush.cfg", config.as_bytes());
    let finished = run(&["check", "--json", &file]).ok();
    json(finished.text().trim_end())
}

#[test]
fn of_every_genuine_node_a_configuration_is_made_that_check_takes() {
    for path in genuine() {
        let original = fs::read_to_string(&path).expect("it is text");
        let imported = run(&["import", "--json", text(&path)]).ok().quiet();
        let imported = json(imported.text().trim_end());
        let config = imported["config"].as_str().expect("it is text");
        let meaning = checked("import-check", config);
        let name = path.file_name().expect("it has one").to_string_lossy();
        let is_old = name.contains("1.11");
        // What the node is there for is in it: its address, and what it replicates.
        let address = original.lines().find_map(|line| {
            let written = line.trim().trim_start_matches("socket=");
            let written = written.trim_start_matches("listen=");
            let written = written
                .strip_prefix("bin:")
                .or_else(|| written.strip_prefix("bin_listen="))?;
            Some(format!("bin:{written}"))
        });
        assert_eq!(
            meaning["listen"][0]["endpoint"],
            address.expect("it has one"),
            "{name}"
        );
        assert_eq!(
            meaning["clusters"].as_array().map(Vec::len),
            Some(usize::from(!is_old)),
            "{name}"
        );
        let parts = meaning["parts"].to_string();
        assert!(
            parts.contains("dialog") && parts.contains("usrloc"),
            "{name}: {parts}"
        );
        // Each line with a statement either comes back, or is told.
        let line_of = |each: &Value| each["line"].as_u64();
        let told = |list: &str| {
            let list = imported[list].as_array().expect("a list").iter();
            list.filter_map(line_of).collect::<Vec<_>>()
        };
        let (kept, left_out) = (told("kept"), told("left_out"));
        for (line, number) in original.lines().zip(1_u64..) {
            let begins = [
                "modparam",
                "loadmodule",
                "listen",
                "socket",
                "bin_",
                "route",
                "event_route",
            ];
            if begins.iter().any(|word| line.starts_with(word)) {
                assert!(
                    kept.contains(&number) || left_out.contains(&number),
                    "{name}:{number}: {line}"
                );
            }
        }
        let broken = ["broken", "unresolved", "unknown", "refused"];
        for each in imported["left_out"].as_array().expect("a list") {
            let reason = each["reason"].as_str().expect("a word");
            assert!(!broken.contains(&reason), "{name}: {each}");
        }
    }
}

#[test]
fn the_result_goes_where_it_is_asked_for_and_never_over_another() {
    let folder = Scratch::new("import-out");
    let from = &genuine()[0];
    let printed = run(&["import", text(from)]).ok();
    let out = folder.path("binrush.cfg");
    let said = run(&["import", text(from), "--out", &out]).ok();
    assert!(
        said.text()
            .contains("left out, routes about calls are not taken along"),
        "{}",
        said.text()
    );
    assert!(
        said.text()
            .contains("decide: Own address: bin:10.11.0.1:5566"),
        "{}",
        said.text()
    );
    assert!(
        printed.stderr.contains("decide: Own address"),
        "{}",
        printed.stderr
    );
    assert_eq!(fs::read(&out).expect("it is there"), printed.stdout);
    let mode = fs::metadata(&out)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
    run(&["import", text(from), "--out", &out])
        .exits(1)
        .says(&["is there already", "--out"]);
    let bytes = fs::read(from).expect("it is there");
    let piped = run_with(&["import", "-"], &bytes).ok();
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        lines(piped.text()),
        lines(printed.text()),
        "all but the name of the file"
    );
}

#[test]
fn the_examples_of_the_manuals_are_imported_as_they_are_written() {
    let (v3_6, v1_11) = (crate::verbatim::V3_6, crate::verbatim::V1_11);
    for (name, config, shards) in [
        ("import-3.6", v3_6, Value::Null),
        ("import-1.11", v1_11, 4.into()),
    ] {
        let imported = run_with(&["import", "-"], config.as_bytes()).ok();
        let meaning = checked(name, imported.text());
        assert_eq!(meaning["listen"][0]["endpoint"], "bin:10.0.0.150:5062");
        assert_eq!(meaning["shards"], shards, "{name}");
    }
}

#[test]
fn a_node_beside_genuine_ones_knows_all_of_them() {
    let from = genuine();
    let from = from
        .iter()
        .find(|path| text(path).ends_with("3.6-late.node2.cfg"));
    let from = text(from.expect("it is there"));
    let args = [
        "import",
        from,
        "--node",
        "9",
        "--listen",
        "bin:127.0.136.9:5577",
    ];
    let meaning = checked("import-beside", run(&args).ok().text());
    let cluster = &meaning["clusters"][0];
    assert_eq!(cluster["me"]["id"], 9, "{cluster}");
    let nodes = cluster["neighbours"].as_array().expect("a list").iter();
    let mut nodes: Vec<_> = nodes.map(|node| node["id"].as_i64()).collect();
    nodes.sort();
    assert_eq!(nodes, [Some(1), Some(2)], "{cluster}");
    run(&["import", from, "--node", "9"])
        .exits(1)
        .says(&["add `--listen bin:IP:PORT`"]);
}

#[test]
fn what_is_no_file_is_told() {
    run(&["import", "/nonexistent/opensips.cfg"])
        .exits(1)
        .says(&["/nonexistent/opensips.cfg cannot be read"]);
    run(&["import", "-", "--node", "0"])
        .exits(2)
        .says(&["--node"]);
}
