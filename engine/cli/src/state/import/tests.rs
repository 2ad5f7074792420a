use std::fs;
use std::path::Path;

use binrush_store::Status;
use clap::Parser as _;

use super::*;
use crate::control::tests::Folder;
use crate::state::diff::{Outcome, Rules};
use crate::state::dump::Value;

/// The command line of one import.
#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: ImportArgs,
}

/// Later than any test, in as many bits as dialogs have.
const LATER: i64 = 2_000_000_000;

fn contact(aor: &str, cseq: i64) -> Record {
    let mut record = Record::new(Kind::Contact);
    for (field, text) in [
        ("domain", "location"),
        ("aor", aor),
        ("contact", "sip:here@10.0.0.2"),
        ("callid", "reg-1"),
    ] {
        record.set(field, Value::text(text));
    }
    record.set("expires", Value::Int(LATER));
    record.set("cseq", Value::Int(cseq));
    record.complete()
}

fn aor(name: &str) -> Record {
    let mut record = Record::new(Kind::Aor);
    record.set("domain", Value::text("location"));
    record.set("aor", Value::text(name));
    record.complete()
}

fn dialog(callid: &str, state: i64) -> Record {
    let mut record = Record::new(Kind::Dialog);
    for (field, text) in [("callid", callid), ("caller_tag", "a"), ("callee_tag", "b")] {
        record.set(field, Value::text(text));
    }
    record.set("state", Value::Int(state));
    record.set("expires", Value::Int(LATER));
    record.complete()
}

/// Writes a dump of an engine with two tables.
fn dump(folder: &Folder, dialogs: &[Record], contacts: &[Record]) {
    let mut dump = Dump::default();
    dump.add_table("1/dialog-dlg-repl", vec![Kind::Dialog]);
    dump.add_table("1/usrloc-contact-repl", vec![Kind::Aor, Kind::Contact]);
    for (table, records) in dump.tables.clone().iter().zip([dialogs, contacts]) {
        dump.records
            .extend(records.iter().cloned().map(|mut record| {
                record.table = Some(table.name.clone());
                record
            }));
    }
    let mut bytes = Vec::new();
    own::write(&mut bytes, &dump, &dump.records).unwrap();
    fs::write(folder.path().join("dump"), bytes).unwrap();
}

/// Imports the dump in a folder into a state directory there, which is made if it is not there.
fn import(folder: &Folder, more: &str) -> anyhow::Result<ExitCode> {
    import_into(folder, &format!("--create {more}"))
}

fn import_into(folder: &Folder, more: &str) -> anyhow::Result<ExitCode> {
    let [dump, state, runtime] =
        ["dump", "state", "runtime"].map(|name| folder.path().join(name).display().to_string());
    let mut words = vec![
        "import",
        &dump,
        "--into",
        &state,
        "--into-runtime",
        &runtime,
    ];
    words.extend(more.split_whitespace());
    Command::try_parse_from(words)?.args.run()
}

fn read(path: &Path) -> Dump {
    let side = Side::Path(path.to_owned());
    let search = Search::default();
    let terms = crate::state::side::Terms {
        at: None,
        tables: &[],
        is_lenient: false,
        runtime: None,
        search: &search,
    };
    side.read(&terms).unwrap()
}

/// What the two disagree on, of everything.
fn differences(folder: &Folder) -> Vec<String> {
    let [a, b] = ["dump", "state"].map(|name| read(&folder.path().join(name)));
    let outcome = Outcome::of(a, b, &Rules::default());
    assert!(!outcome.counts.is_empty());
    let shown = outcome.differences.iter();
    shown.map(crate::state::words::difference).collect()
}

fn states(folder: &Folder) -> Vec<(String, i64)> {
    let dump = read(&folder.path().join("state"));
    let dialogs = dump.of(Kind::Dialog).map(|record| {
        let Some(Value::Int(state)) = record.get("state") else {
            panic!("{record:?}")
        };
        let callid = record.get("callid").and_then(Value::bytes).unwrap();
        (String::from_utf8(callid.to_vec()).unwrap(), *state)
    });
    let mut dialogs: Vec<_> = dialogs.collect();
    dialogs.sort();
    dialogs
}

#[test]
fn what_is_imported_is_what_was_exported_on_any_number_of_shards() {
    let mut provisional = dialog("updates only", 3);
    provisional.status = Status::PROVISIONAL;
    let dialogs: Vec<_> = (0..50).map(|n| dialog(&format!("call-{n}"), 4)).collect();
    let contacts = (0..50).flat_map(|n| {
        let name = format!("user{n}");
        [aor(&name), contact(&name, n)]
    });
    let contacts: Vec<_> = contacts.collect();
    for shards in ["1", "3"] {
        let folder = Folder::new();
        dump(
            &folder,
            &[&dialogs[..], &[provisional.clone()]].concat(),
            &contacts,
        );
        let code = import(&folder, &format!("--shards {shards}")).unwrap();
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(differences(&folder), [""; 0], "{shards} shards");
        let state = read(&folder.path().join("state"));
        let is_provisional = |record: &&Record| record.status == Status::PROVISIONAL;
        assert_eq!(state.records.iter().filter(is_provisional).count(), 1);
        let standing = durable::standing(&folder.path().join("state"))
            .unwrap()
            .unwrap();
        assert_eq!(standing.shards.to_string(), shards);
        // Once more: nothing changes, and nothing is there twice.
        import(&folder, "").unwrap();
        assert_eq!(differences(&folder), [""; 0], "{shards} shards");
    }
}

#[test]
fn what_is_there_stays_unless_the_other_one_is_newer() {
    let folder = Folder::new();
    dump(
        &folder,
        &[dialog("kept", 4), dialog("changed", 4)],
        &[contact("alice", 7), contact("bob", 7)],
    );
    import(&folder, "--shards 2").unwrap();
    dump(
        &folder,
        &[dialog("changed", 3), dialog("new", 3)],
        &[
            aor("alice"),
            aor("bob"),
            contact("alice", 8),
            contact("bob", 6),
        ],
    );
    import(&folder, "").unwrap();
    let wanted = [("changed", 4), ("kept", 4), ("new", 3)];
    assert_eq!(
        states(&folder),
        wanted.map(|(callid, state)| (callid.to_owned(), state))
    );
    let state = read(&folder.path().join("state"));
    let mut cseqs: Vec<_> = state
        .of(Kind::Contact)
        .map(|record| format!("{:?}", record.get("cseq")))
        .collect();
    cseqs.sort();
    assert_eq!(cseqs, ["Some(Int(7))", "Some(Int(8))"], "bob's is older");
    import(&folder, "--replace").unwrap();
    assert_eq!(differences(&folder), [""; 0]);
}

#[test]
fn tables_that_a_dump_does_not_name_stay_as_they_are() {
    let folder = Folder::new();
    dump(&folder, &[dialog("call", 4)], &[contact("alice", 1)]);
    import(&folder, "").unwrap();
    dump(&folder, &[dialog("other", 4)], &[]);
    import(&folder, "--replace --as dialog=2/dialog-dlg-repl").unwrap();
    let state = read(&folder.path().join("state"));
    assert_eq!(states(&folder).len(), 2);
    assert_eq!(state.count(Kind::Contact), 1);
    assert_eq!(state.tables.len(), 3);
    let said = import(&folder, "--as dialog=1/usrloc-contact-repl").unwrap_err();
    assert!(
        format!("{said:#}").contains("1/usrloc-contact-repl"),
        "{said:#}"
    );
    assert_eq!(states(&folder).len(), 2, "and nothing has changed");
}

#[test]
fn a_state_that_somebody_serves_from_is_left_alone() {
    let folder = Folder::new();
    dump(&folder, &[dialog("call", 4)], &[]);
    import(&folder, "").unwrap();
    let options = StateOptions {
        state_dir: folder.path().join("state"),
        runtime_dir: folder.path().join("runtime"),
        fsync_interval: Duration::from_secs(1),
        ring_bytes: CAPACITY_MIN,
        shards: 1,
    };
    let serving = State::open(&options).unwrap();
    import(&folder, "").unwrap_err();
    drop(serving);
    import(&folder, "").unwrap();
}

#[test]
fn what_is_no_record_is_left_out_and_what_has_no_table_is_asked_for() {
    let folder = Folder::new();
    let mut wrong = contact("alice", 1);
    wrong.set("cseq", Value::Int(1 << 40));
    dump(&folder, &[], &[wrong, contact("bob", 1)]);
    assert_eq!(import(&folder, "").unwrap(), ExitCode::from(1));
    let state = read(&folder.path().join("state"));
    assert_eq!(state.count(Kind::Contact), 1, "the other one is there");
    let line = "{\"binrush_dump\":1,\"at\":null,\"kinds\":[\"dialog\"]}\n\
        {\"kind\":\"dialog\",\"callid\":\"c\",\"caller_tag\":\"a\",\"callee_tag\":\"b\"}\n{\"end\":1}\n";
    fs::write(folder.path().join("dump"), line).unwrap();
    let said = format!("{:#}", import(&folder, "").unwrap_err());
    assert!(said.ends_with("--as dialog=TABLE"), "{said}");
    import(&folder, "--as dialog=dialog").unwrap();
    let genuine = b"200 OK\nDomain:: location table=512\n\tAOR:: alice\n\n";
    fs::write(folder.path().join("dump"), genuine).unwrap();
    let said = format!("{:#}", import(&folder, "").unwrap_err());
    assert!(said.contains("genuine node"), "{said}");
}

#[test]
fn a_state_begins_only_where_that_is_said_and_never_in_a_directory_of_somebody_else() {
    let folder = Folder::new();
    dump(&folder, &[dialog("call", 4)], &[]);
    let state = folder.path().join("state");
    let said = format!("{:#}", import_into(&folder, "").unwrap_err());
    assert!(said.contains("--create"), "{said}");
    assert!(!state.exists(), "nothing was made");
    fs::create_dir(&state).unwrap();
    let said = format!("{:#}", import_into(&folder, "").unwrap_err());
    assert!(said.contains("--create"), "{said}");
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    import_into(&folder, "--create").unwrap();
    import_into(&folder, "").unwrap();
    if let Err(error) = std::os::unix::fs::chown(&state, Some(4321), None) {
        eprintln!("SKIPPED a directory of somebody else: {error}");
        return;
    }
    let said = format!("{:#}", import_into(&folder, "").unwrap_err());
    assert!(said.ends_with("run this as 4321"), "{said}");
}
