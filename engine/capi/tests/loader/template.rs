//! The template that is shipped.

use std::fs;
use std::path::Path;
use std::process::Command;

use binrush::abi::module::PROC_BIN;
use binrush::bin::delivery::{Origin, Poison, deliver};
use binrush::loader::{Loader, Message, Modules, Value};
use binrush_wire::{Builder, Generation, Packet};

use crate::workshop::{Workshop, copy, id, root, run, text};

/// Makes `folder`/dialog_count.so with the template's own Makefile.
fn make(folder: &Path, headers: &Path) {
    run(Command::new("make")
        .arg("-C")
        .arg(folder)
        .arg(format!("BINRUSH={}", text(headers)))
        .arg("CFLAGS=-std=gnu11 -O2 -g -Wall -Wextra -Werror"));
}

fn dialog(command: i32, callid: Option<&str>) -> Vec<u8> {
    let mut room = [0; 256];
    let mut builder =
        Builder::new(Generation::Legacy, &mut room, b"dialog", command, 0).expect("the name fits");
    if let Some(callid) = callid {
        builder.push_str(callid.as_bytes()).expect("it fits");
    }
    builder.finish().to_vec()
}

fn statistics(modules: &Modules) -> Vec<(String, u64)> {
    let statistics = modules.statistics().into_iter();
    statistics.map(|one| (one.name, one.value)).collect()
}

#[test]
fn the_template_counts_dialogs_and_answers_by_script_and_by_command() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let folder = workshop.folder("dialog_count");
    for file in ["dialog_count.c", "Makefile"] {
        copy(&root().join("example").join(file), &folder.join(file));
    }
    make(&folder, &root().join("include"));
    let mut loader = Loader::new(workshop.options());
    let mpath = text(workshop.root());
    loader
        .load(Some(mpath), "dialog_count.so")
        .unwrap_or_else(|error| panic!("{error}"));
    let domain = Value::Text(b"example.org".to_vec());
    loader
        .modparam("dialog_count", "domain", &domain)
        .expect("it has one");
    let modules = loader.finish();
    let registered = modules.init().expect("it can start");
    let [(module, registrations)] = &registered[..] else {
        panic!("one module");
    };
    modules.child_init(*module, PROC_BIN).expect("it can start");
    let [registration] = &registrations[..] else {
        panic!("one registration");
    };
    assert_eq!(&*registration.name, b"dialog");

    let origin = Origin::default();
    for (command, callid) in [
        (1, Some("a@example.org")),
        (1, Some("b@example.org")),
        (1, Some("c@example.com")),
        (1, Some("example.org")),
        (2, Some("a@example.org")),
        (3, Some("a@example.org")),
        (9, Some("a@example.org")),
        (1, None),
    ] {
        let bytes = dialog(command, callid);
        let packet = Packet::parse(Generation::Legacy, &bytes).expect("it is one");
        let delivered = deliver(&registration.callback, &packet, &origin, Poison::On);
        assert_eq!(delivered.misread, callid.is_none());
    }
    let counted = [
        ("created_dialogs", 2),
        ("deleted_dialogs", 1),
        ("skipped_packets", 2),
        ("unreadable_packets", 1),
        ("active_dialogs", 1),
    ];
    assert_eq!(
        statistics(&modules),
        counted.map(|(name, value)| (name.to_owned(), value))
    );

    let function = &modules.functions()[0];
    for (limit, answer) in [("0", 1), ("1", -1)] {
        let call = modules.prepare(function.id, &[limit.as_bytes()]);
        let call = call.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(call.run(&mut Message::new()), answer);
    }
    let reply = modules
        .run_command("dialog_count", &[])
        .expect("it answers");
    assert_eq!(reply.to_string(), "200 OK\nactive:: 1 created=2\n");
    let reply = modules
        .run_command("dialog_count", &["x"])
        .expect("it answers");
    assert_eq!(reply.code, 400);
    modules.destroy();
}

#[test]
fn the_template_compiles_two_folders_below_the_headers_as_modules_of_opensips_do() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    // As the sources of OpenSIPS lie: headers at the root, modules in folders of their own.
    let tree = workshop.folder("tree");
    run(Command::new("cp")
        .arg("-R")
        .arg(root().join("include/."))
        .arg(&tree));
    let folder = tree.join("modules/dialog_count");
    fs::create_dir_all(&folder).expect("the folder is ours");
    copy(
        &root().join("example/dialog_count.c"),
        &folder.join("dialog_count.c"),
    );
    // No folder is named: what the source says is where the headers are.
    run(Command::new("cc")
        .current_dir(&folder)
        .args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
        .args(["-o", "dialog_count.so", "dialog_count.c"]));
}

#[test]
fn a_wrong_parameter_stops_the_template_with_a_line_that_says_why() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let folder = workshop.folder("dialog_count");
    for file in ["dialog_count.c", "Makefile"] {
        copy(&root().join("example").join(file), &folder.join(file));
    }
    make(&folder, &root().join("include"));
    let lines = crate::support::lines();
    let mut loader = Loader::new(workshop.options());
    let file = folder.join("dialog_count.so");
    loader.load(None, text(&file)).expect("it is one");
    let domain = Value::Text(b"@example.org".to_vec());
    loader
        .modparam("dialog_count", "domain", &domain)
        .expect("it has one");
    let modules = loader.finish();
    modules.init().map(drop).expect_err("it cannot start");
    assert_eq!(modules.name(id(&modules, "dialog_count")), "dialog_count");
    assert_eq!(
        lines(),
        [
            "dialog_count: error: mod_init: \"domain\" is what stands behind the @, not \"@example.org\""
        ]
    );
}
