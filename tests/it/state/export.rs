//! What a state is exported as, read back by others.

use rusqlite::Connection;

use super::live::Engine;
use super::push::{OURS, dump, file};
use crate::process::{Finished, Scratch, run, wait_until};

/// How many rows a table of a database has.
fn rows(database: &str, table: &str) -> u64 {
    let connection = Connection::open(database).expect("a database");
    let ask = format!("SELECT count(*) FROM {table}");
    let count = connection.query_row(&ask, [], |row| row.get::<_, i64>(0));
    count.expect("a number").cast_unsigned()
}

#[test]
fn what_is_exported_and_imported_is_what_the_next_engine_serves() {
    let engine = Engine::start("export-json");
    engine.told(60, 150);
    let counts = |side: &str| ["dialog", "aor", "contact"].map(|kind| Engine::count(side, kind));
    wait_until("all records", || counts(&engine.control) == [60, 150, 150]);
    let scratch = Scratch::new("export-json-dump");
    let dump = scratch.path("dump.jsonl");
    let exported = run(&[
        "state",
        "export",
        &engine.control,
        "--format=json",
        "--out",
        &dump,
    ]);
    exported.ok().quiet();
    engine.process.stop("TERM").ok();

    let next = Scratch::new("import-json");
    let [state, rings] = ["state", "rings"].map(|name| next.path(name));
    let import = |more: &[&str]| {
        let words = [
            "state",
            "import",
            &dump,
            "--into",
            &state,
            "--into-runtime",
            &rings,
        ];
        run(&[&words, more].concat())
    };
    import(&[]).exits(2).says(&["no state is there: --create"]);
    import(&["--create"])
        .ok()
        .says(&["60 records, 0 before: 60 new", "300 records, 0 before"]);
    let engine = Engine::start_in(next);
    assert_eq!(counts(&engine.control), [60, 150, 150]);
    run(&["state", "diff", &dump, &engine.control]).ok().quiet();
    engine.process.stop("TERM").ok();
}

#[test]
fn a_database_has_a_row_of_each_record_but_those_that_are_told_as_left_out() {
    let scratch = Scratch::new("export-sqlite");
    let database = scratch.path("opensips.db");
    let export = |side: &str| -> Finished {
        run(&[
            "state",
            "export",
            side,
            "--format=sqlite",
            "--release=3.6",
            "--force",
            "--out",
            &database,
        ])
    };
    let counts = || ["location", "dialog", "version"].map(|table| rows(&database, table));
    let mut lines = dump(120, OURS);
    let all = file(&scratch, "all.jsonl", &lines);
    export(&all)
        .ok()
        .says(&["location: 120 rows", "dialog: 120 rows"]);
    assert_eq!(counts(), [120, 120, 2]);
    lines[1]["state"] = 2.into();
    let ringing = file(&scratch, "ringing.jsonl", &lines);
    export(&ringing)
        .exits(1)
        .says(&["left out: 1 record: nobody has answered it", "call-0"]);
    assert_eq!(counts(), [120, 119, 2]);
    export("/nowhere/dump").exits(2).says(&["/nowhere/dump"]);
    assert_eq!(counts(), [120, 119, 2], "as it was");
}
