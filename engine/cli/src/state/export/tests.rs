use std::collections::BTreeSet;
use std::fs;

use binrush_store::{Kind, Status};
use clap::Parser as _;
use rusqlite::Connection;
use rusqlite::types::{Value as Sql, ValueRef};

use super::layout::{ALL, Column};
use super::rows::{Cell, Lost};
use super::*;
use crate::control::tests::Folder;
use crate::state::dump::{Item, ItemValue, USER_FLAG_NAMES};

/// The command line of one export.
#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: ExportArgs,
}

/// Later than any test.
const LATER: i64 = 4_000_000_000;

fn contact(aor: &str, uri: &str) -> Record {
    let mut record = Record::new(Kind::Contact);
    for (field, text) in [
        ("domain", "location"),
        ("aor", aor),
        ("contact", uri),
        ("callid", "reg-1"),
        ("user_agent", "it's \"quoted\", with \\ and\nlines"),
        ("received", ""),
        ("socket", "udp:10.0.0.1:5060"),
        ("attr", "8-bit"),
        ("kv", "{\"k\":1}"),
    ] {
        record.set(field, Value::text(text));
    }
    for (field, number) in [
        ("expires", LATER),
        ("q", 570),
        ("cseq", -1),
        ("flags", 2),
        ("cflags", 0b101),
        ("methods", 0xffff_ffff),
        ("last_modified", 1_795_230_500),
    ] {
        record.set(field, Value::Int(number));
    }
    record.complete()
}

fn dialog(callid: &str) -> Record {
    let mut record = Record::new(Kind::Dialog);
    for (field, text) in [
        ("callid", callid),
        ("caller_tag", "a"),
        ("callee_tag", "b"),
        ("from_uri", "sip:a@x"),
        ("to_uri", "sip:b@x"),
        ("caller_cseq", "1"),
        ("callee_cseq", "0"),
        ("caller_socket", "udp:10.0.0.1:5060"),
        ("callee_socket", "udp:10.0.0.1:5060"),
        ("on_answer", "answered"),
        ("caller_sdp_out", "v=0"),
    ] {
        record.set(field, Value::text(text));
    }
    for (field, number) in [
        ("h_id", 77),
        ("state", 4),
        ("start_ts", 1_795_230_500),
        ("expires", LATER),
        ("user_flags", 0b10),
        ("module_flags", 3),
        // All that are about a process, and one that is about the dialog.
        ("flags", 0x8_0383 | 1 << 5),
        ("caller_last_cseq", 9),
    ] {
        record.set(field, Value::Int(number));
    }
    let vars = [
        ("n", ItemValue::Number(-5)),
        ("a|b", ItemValue::Text(b"x#y".to_vec())),
    ];
    let vars = vars.map(|(name, value)| Item::new(name, value)).to_vec();
    record.set("vars", Value::Items(vars));
    let shared = Item {
        scope: binrush_store::vars::Scope::Bin,
        ..Item::new("calls", ItemValue::Text(b"x".to_vec()))
    };
    record.set("profiles", Value::Items(vec![shared]));
    record.complete()
}

/// A folder with a dump of these records.
fn dumped(records: &[Record]) -> Folder {
    let folder = Folder::new();
    let head = Dump {
        kinds: vec![Kind::Dialog, Kind::Aor, Kind::Contact],
        ..Dump::default()
    };
    let mut bytes = Vec::new();
    own::write(&mut bytes, &head, records).unwrap();
    fs::write(folder.path().join("dump"), bytes).unwrap();
    folder
}

/// Exports the dump in a folder, and gives what went to standard output.
fn export(folder: &Folder, args: &str) -> anyhow::Result<String> {
    Ok(export_code(folder, args)?.1)
}

/// Likewise, and the exit code.
fn export_code(folder: &Folder, args: &str) -> anyhow::Result<(ExitCode, String)> {
    let path = folder.path();
    let dump = path.join("dump");
    let mut words = vec!["export".to_owned(), dump.display().to_string()];
    let args = args.replace("HERE", &path.display().to_string());
    words.extend(args.split(' ').map(str::to_owned));
    let mut out = Vec::new();
    let code = Command::try_parse_from(words)?.args.run(&mut out)?;
    Ok((code, String::from_utf8_lossy(&out).into_owned()))
}

/// All rows of a table, by the names of columns.
fn rows(connection: &Connection, table: &str) -> Vec<Vec<(String, Sql)>> {
    let mut statement = connection
        .prepare(&format!("SELECT * FROM {table}"))
        .unwrap();
    let names: Vec<_> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| {
        let values = names.iter().enumerate().map(|(at, name)| {
            let value = match row.get_ref(at)? {
                // What is no UTF-8 is none to rusqlite either.
                ValueRef::Text(bytes) if str::from_utf8(bytes).is_err() => {
                    Sql::Text(bytes.escape_ascii().to_string())
                }
                value => value.try_into().unwrap(),
            };
            Ok((name.clone(), value))
        });
        values.collect::<rusqlite::Result<Vec<_>>>()
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn value<'r>(row: &'r [(String, Sql)], name: &str) -> &'r Sql {
    let found = row.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("no column {name}")).1
}

fn of(text: &str) -> Sql {
    Sql::Text(text.to_owned())
}

#[test]
fn tables_of_each_release_have_its_columns_and_its_versions() {
    let wanted = [
        ("1.10", 1009, 18, 8, 25),
        ("1.11", 1009, 18, 9, 25),
        ("2.1", 1009, 18, 10, 26),
        ("2.2", 1011, 18, 10, 26),
        ("2.3", 1011, 18, 10, 26),
        ("2.4", 1013, 19, 10, 26),
        ("3.0", 1013, 19, 10, 26),
        ("3.1", 1013, 19, 11, 29),
        ("3.2", 1013, 19, 11, 29),
        ("3.3", 1013, 19, 11, 29),
        ("3.4", 1013, 19, 12, 29),
        ("3.5", 1013, 19, 12, 29),
        ("3.6", 1013, 19, 12, 29),
        ("4.0", 1013, 19, 12, 29),
    ];
    assert_eq!(
        ALL.map(|schema| schema.to_string()),
        wanted.map(|row| row.0)
    );
    for (release, location, contact_columns, dialog, dialog_columns) in wanted {
        let schema: Schema = release.parse().unwrap();
        for (table, version, count) in [
            (Table::Location, location, contact_columns),
            (Table::Dialog, dialog, dialog_columns),
        ] {
            assert_eq!(table.version(schema), version, "{release}");
            let names: Vec<_> = table.columns(schema).map(|column| column.name).collect();
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(
                (names.len(), unique.len()),
                (count, count),
                "{release} {names:?}"
            );
        }
        let names: Vec<_> = Table::Location.columns(schema).map(|it| it.name).collect();
        assert_eq!(names.contains(&"kv_store"), location == 1013, "{release}");
        assert_eq!(names[0] == "contact_id", location > 1009, "{release}");
    }
    assert!("1.9".parse::<Schema>().is_err());
    assert!("3.7".parse::<Schema>().is_err());
}

#[test]
fn each_database_has_types_of_its_own() {
    let schema: Schema = "3.6".parse().unwrap();
    let of = |dialect| Table::Dialog.create("dialog", schema, dialect);
    let mysql = of(Dialect::Mysql);
    for line in [
        "    dlg_id BIGINT(10) UNSIGNED PRIMARY KEY NOT NULL,\n",
        "    caller_ping_cseq INT(11) UNSIGNED NOT NULL,\n",
        "    caller_route_set TEXT(512),\n",
        "    vars BLOB(4096) DEFAULT NULL,\n",
        "    rt_on_hangup CHAR(64) DEFAULT NULL\n) ENGINE=InnoDB;\n",
    ] {
        assert!(mysql.contains(line), "{line}{mysql}");
    }
    let postgres = of(Dialect::Postgres);
    for line in [
        "    dlg_id BIGINT PRIMARY KEY NOT NULL,\n",
        "    callid VARCHAR(255) NOT NULL,\n",
        "    vars BYTEA DEFAULT NULL,\n",
    ] {
        assert!(postgres.contains(line), "{line}{postgres}");
    }
}

#[test]
fn a_contact_is_in_the_table_as_its_node_would_have_written_it() {
    let mut gone = contact("alice", "sip:gone@10.0.0.3");
    gone.set("expires", Value::Int(1_000_000));
    let folder = dumped(&[contact("alice@example.com", "sip:alice@10.0.0.2"), gone]);
    export(
        &folder,
        "--format sqlite --release 3.6 --out HERE/db --branch-flags NAT,X,LAN",
    )
    .unwrap();
    let connection = Connection::open(folder.path().join("db")).unwrap();
    let found = rows(&connection, "location");
    assert_eq!(found.len(), 1, "what has expired is left out");
    let row = &found[0];
    let hash = i64::from(ids::core_hash(b"alice@example.com") & 0xffff);
    for (name, wanted) in [
        ("contact_id", Sql::Integer(hash << 46 | 1 << 14)),
        ("username", of("alice")),
        ("domain", of("example.com")),
        ("contact", of("sip:alice@10.0.0.2")),
        ("received", Sql::Null),
        ("path", Sql::Null),
        ("expires", Sql::Integer(LATER)),
        ("callid", of("reg-1")),
        ("cseq", Sql::Integer(-1)),
        ("flags", Sql::Integer(2)),
        ("cflags", of("NAT LAN")),
        ("user_agent", of("it's \"quoted\", with \\ and\nlines")),
        ("socket", of("udp:10.0.0.1:5060")),
        ("methods", Sql::Null),
        ("sip_instance", Sql::Null),
        ("kv_store", of("{\"k\":1}")),
        ("attr", of("8-bit")),
    ] {
        assert_eq!(value(row, name), &wanted, "{name}");
    }
    let Sql::Real(q) = value(row, "q") else {
        panic!("{row:?}")
    };
    #[expect(clippy::cast_possible_truncation, reason = "as a node reads it")]
    let read = (q * 1000.0) as i32;
    assert_eq!(read, 570);
    let ask = "SELECT unixepoch(last_modified, 'utc') FROM location";
    let modified: i64 = connection.query_row(ask, [], |row| row.get(0)).unwrap();
    assert_eq!(
        modified, 1_795_230_500,
        "a time of day in the zone of this host"
    );
    let versions = rows(&connection, "version");
    let names: Vec<_> = versions
        .iter()
        .map(|row| value(row, "table_name").clone())
        .collect();
    assert_eq!(names, [of("location"), of("dialog")]);
    assert_eq!(value(&versions[0], "table_version"), &Sql::Integer(1013));
    assert_eq!(rows(&connection, "dialog").len(), 0, "there, and empty");
}

#[test]
fn a_contact_of_older_releases_expires_at_a_time_of_day_and_has_no_id_of_its_own() {
    let folder = dumped(&[contact("alice@example.com", "sip:alice@10.0.0.2")]);
    export(
        &folder,
        "--format sqlite --release 1.11 --out HERE/db --use-domain no",
    )
    .unwrap();
    let connection = Connection::open(folder.path().join("db")).unwrap();
    let row = &rows(&connection, "location")[0];
    assert_eq!(value(row, "id"), &Sql::Integer(1));
    assert_eq!(value(row, "username"), &of("alice@example.com"));
    assert_eq!(value(row, "domain"), &of(""));
    assert_eq!(value(row, "cflags"), &Sql::Null, "nobody named those bits");
    let ask = "SELECT unixepoch(expires, 'utc') FROM location";
    let expires: i64 = connection.query_row(ask, [], |row| row.get(0)).unwrap();
    assert_eq!(expires, LATER);
}

#[test]
fn a_dialog_is_in_the_table_as_its_node_would_have_written_it() {
    let mut provisional = dialog("updates only");
    provisional.status = Status::PROVISIONAL;
    provisional.set("callee_socket", Value::text(""));
    let folder = dumped(&[dialog("call"), provisional]);
    let bucket = i64::from(ids::core_hash(b"call") & 4095);
    for (release, flags, script_flags, vars, profiles) in [
        (
            "1.11",
            0x8_00a0,
            Sql::Integer(2),
            "a\\|b#x\\#y|n#-5|",
            "calls#x|",
        ),
        (
            "2.4",
            0x8_0020,
            Sql::Integer(2),
            "a\\|b#x\\#y|n#-5|",
            "calls/b#x|",
        ),
        (
            "3.6",
            0x20,
            of("LOUD"),
            "a\\|b#1#x\\#y|n#2#-5|aCSDP#1#v=0|Cct#1#|cct#1#|",
            "calls/b#1#x|",
        ),
    ] {
        let args = "--format sqlite --release RELEASE --out HERE/db --force --dialog-flags X,LOUD";
        export(&folder, &args.replace("RELEASE", release)).unwrap();
        let connection = Connection::open(folder.path().join("db")).unwrap();
        let found = rows(&connection, "dialog");
        assert_eq!(found.len(), 1, "the other one is not known as a whole");
        for (name, wanted) in [
            ("dlg_id", Sql::Integer(bucket << 32 | 77)),
            ("callid", of("call")),
            ("from_tag", of("a")),
            ("to_tag", of("b")),
            ("mangled_from_uri", Sql::Null),
            ("caller_sock", of("udp:10.0.0.1:5060")),
            ("state", Sql::Integer(4)),
            ("timeout", Sql::Integer(LATER)),
            ("caller_ping_cseq", Sql::Integer(9)),
            ("callee_ping_cseq", Sql::Integer(0)),
            ("vars", Sql::Blob(vars.into())),
            ("profiles", of(profiles)),
            ("flags", Sql::Integer(flags)),
            ("script_flags", script_flags),
        ] {
            assert_eq!(value(&found[0], name), &wanted, "{name} of {release}");
        }
    }
}

#[test]
fn statements_make_the_same_tables_as_the_file() {
    let mut bytes = contact("b\u{f6}b", "sip:b@10.0.0.4");
    bytes.set("user_agent", Value::Bytes(b"8-bit \xff".to_vec()));
    let many = (0..250).map(|number| contact(&format!("user{number}"), "sip:u@10.0.0.5"));
    let mut records: Vec<_> = many.collect();
    records.extend([dialog("call"), bytes]);
    let folder = dumped(&records);
    for release in ["1.11", "3.6"] {
        let file = format!("--format sqlite --release {release} --out HERE/db --force");
        export(&folder, &file).unwrap();
        let sql = format!("--format sql --sql-dialect sqlite --release {release} --empty-tables");
        let statements = export(&folder, &sql).unwrap();
        let file = Connection::open(folder.path().join("db")).unwrap();
        let database = Connection::open_in_memory().unwrap();
        // Twice: what is there goes first.
        database.execute_batch(&statements).unwrap();
        database.execute_batch(&statements).unwrap();
        for table in ["location", "dialog", "version"] {
            let without_row = |rows: Vec<Vec<(String, Sql)>>| -> Vec<Vec<_>> {
                let rows = rows.into_iter();
                rows.map(|row| row.into_iter().filter(|(name, _)| name != "id").collect())
                    .collect()
            };
            let [a, b] = [&file, &database].map(|it| without_row(rows(it, table)));
            assert_eq!(a, b, "{table} of {release}");
        }
    }
}

#[test]
fn without_emptying_statements_fail_as_a_whole_where_a_row_is_there() {
    let folder = dumped(&[contact("alice", "sip:a@10.0.0.2"), dialog("call")]);
    let args = "--format sql --sql-dialect sqlite --release 3.6";
    let statements = export(&folder, args).unwrap();
    let database = Connection::open_in_memory().unwrap();
    database.execute_batch(&statements).unwrap();
    assert!(database.execute_batch(&statements).is_err());
    database.execute_batch("ROLLBACK").unwrap();
    assert_eq!(rows(&database, "location").len(), 1);
}

#[test]
fn strings_are_safe_from_the_modes_of_a_server() {
    let folder = dumped(&[contact("alice", "sip:a@10.0.0.2"), dialog("call")]);
    let mysql = export(&folder, "--format sql --release 3.6").unwrap();
    let quoted = crate::line::hex(b"it's \"quoted\", with \\ and\nlines");
    assert!(mysql.contains(&format!("X'{quoted}'")), "{mysql}");
    assert!(
        mysql.contains("SELECT 'location', 1013 FROM DUAL WHERE"),
        "{mysql}"
    );
    let postgres = export(&folder, "--format sql --release 3.6 --sql-dialect postgres").unwrap();
    assert!(
        postgres.contains("E'it''s \"quoted\", with \\\\ and\nlines'"),
        "{postgres}"
    );
    assert!(postgres.contains("decode('"), "{postgres}");
}

#[test]
fn a_csv_file_of_each_table_stands_in_a_folder() {
    let folder = dumped(&[contact("alice", "sip:a@10.0.0.2"), dialog("call")]);
    export(&folder, "--format csv --release 2.4 --out HERE/csv").unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join("csv").join(name)).unwrap();
    let contacts = read("location.csv");
    let (head, row) = contacts.split_once("\r\n").unwrap();
    assert!(
        head.starts_with("contact_id,username,domain,contact,"),
        "{head}"
    );
    assert!(head.ends_with(",kv_store,attr"), "{head}");
    assert!(row.contains(",alice,,sip:a@10.0.0.2,,,"), "{row}");
    assert!(
        row.contains(",\"it's \"\"quoted\"\", with \\ and\nlines\","),
        "{row}"
    );
    assert_eq!(
        read("version.csv"),
        "table_name,table_version\r\nlocation,1013\r\ndialog,10\r\n"
    );
    assert!(read("dialog.csv").contains(",\"\",") || read("dialog.csv").contains(",b,"));
    let said = export(&folder, "--format csv --release 2.4 --out HERE/csv").unwrap_err();
    assert!(format!("{said:#}").contains("--force"), "{said:#}");
    export(&folder, "--format csv --release 2.4 --out HERE/csv --force").unwrap();
    assert_eq!(fs::read_dir(folder.path().join("csv")).unwrap().count(), 3);
    let one = export(&folder, "--format csv --release 2.4 --kind dialog").unwrap();
    assert_eq!(one, read("dialog.csv"));
    let torn = "--format csv --release 2.4 --out HERE/none --use-domain yes --kind cached";
    export(&folder, torn).unwrap_err();
    assert!(!folder.path().join("none").exists(), "nothing is left over");
    let both = export(&folder, "--format csv --release 2.4").unwrap_err();
    assert!(format!("{both:#}").contains("only one table"), "{both:#}");
}

#[test]
fn a_file_that_is_there_stays_unless_force_says_otherwise() {
    let folder = dumped(&[contact("alice", "sip:a@10.0.0.2")]);
    let db = folder.path().join("db");
    fs::write(&db, "mine").unwrap();
    for args in [
        "--format sqlite --release 3.6",
        "--format sql --release 3.6",
        "--format json",
    ] {
        let said = export(&folder, &format!("{args} --out HERE/db")).unwrap_err();
        assert!(format!("{said:#}").contains("is there already"), "{said:#}");
    }
    assert_eq!(fs::read(&db).unwrap(), b"mine");
    let torn = fs::read(folder.path().join("dump")).unwrap();
    fs::write(folder.path().join("dump"), &torn[..torn.len() - 5]).unwrap();
    let force = "--format sqlite --release 3.6 --out HERE/db --force";
    export(&folder, force).unwrap_err();
    assert_eq!(fs::read(&db).unwrap(), b"mine", "nothing took its place");
    fs::write(folder.path().join("dump"), torn).unwrap();
    export(&folder, force).unwrap();
    assert!(fs::read(&db).unwrap().starts_with(b"SQLite format 3\0"));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "and nothing else"
    );
}

#[test]
fn what_is_no_file_is_written_to_and_not_replaced() {
    let folder = dumped(&[contact("alice", "sip:a@10.0.0.2")]);
    for args in ["--format json", "--format sql --release 3.6"] {
        export(&folder, &format!("{args} --out /dev/null --force")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let said = export(&folder, &format!("{args} --out /dev/full")).unwrap_err();
        assert!(format!("{said:#}").contains("/dev/full"), "{said:#}");
    }
    let said = export(&folder, "--format sqlite --release 3.6 --out /dev/null").unwrap_err();
    assert!(format!("{said:#}").contains("is no file"), "{said:#}");
}

#[test]
fn a_database_is_not_replaced_while_its_changes_lie_beside_it() {
    let folder = dumped(&[contact("alice", "sip:a@10.0.0.2")]);
    let args = "--format sqlite --release 3.6 --out HERE/db --force";
    export(&folder, args).unwrap();
    for suffix in ["-wal", "-journal"] {
        let beside = folder.path().join(format!("db{suffix}"));
        fs::write(&beside, "").unwrap();
        let said = export(&folder, args).unwrap_err();
        assert!(format!("{said:#}").contains(suffix), "{said:#}");
        fs::remove_file(beside).unwrap();
    }
    export(&folder, args).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn the_exit_code_tells_whether_anything_was_left_out() {
    let mut ringing = dialog("ringing");
    ringing.set("state", Value::Int(2));
    let folder = dumped(&[dialog("call"), ringing]);
    for (args, code) in [
        ("--format sql --release 3.6", 1),
        ("--format sql --release 3.6 --kind contact", 0),
        ("--format json", 0),
    ] {
        let (found, _) = export_code(&folder, args).unwrap();
        assert_eq!(found, ExitCode::from(code), "{args}");
    }
}

#[test]
fn a_dump_goes_out_with_its_sockets_mapped_and_otherwise_as_it_was() {
    let folder = dumped(&[contact("alice", "sip:a@10.0.0.2"), dialog("call")]);
    let out = export(&folder, "--format json").unwrap();
    assert_eq!(
        out.into_bytes(),
        fs::read(folder.path().join("dump")).unwrap()
    );
    let map = "--socket-map udp:10.0.0.1:5060=udp:10.0.0.9:5080";
    let out = export(&folder, &format!("--format json {map}")).unwrap();
    assert_eq!(out.matches("udp:10.0.0.9:5080").count(), 3, "{out}");
    assert!(!out.contains("10.0.0.1"), "{out}");
    let some = export(&folder, "--format json --kind dialog").unwrap();
    assert!(
        some.contains("\"kinds\":[\"dialog\"]}\n") && some.ends_with("{\"end\":1}\n"),
        "{some}"
    );
}

/// Rows of a node of this release, which listens at one socket.
fn rows_for(release: &str, strict: Option<Dialect>) -> Rows {
    let mut sockets = SocketSet::default();
    sockets.insert(&"udp:10.0.0.1:5060".parse().unwrap());
    let terms = Terms {
        schema: release.parse().unwrap(),
        strict,
        use_domain: None,
        sockets: Some(sockets),
        branch_flags: Vec::new(),
        dialog_flags: Vec::new(),
        now: 1_800_000_000,
    };
    Rows::new(terms, 4096)
}

#[test]
fn what_a_node_would_not_load_is_left_out_and_named() {
    let with = |mut record: Record, field: &str, value: Value| {
        record.set(field, value);
        record
    };
    let text = |text: &str| Value::text(text);
    let alice = || contact("alice", "sip:a@10.0.0.2");
    let call = || dialog("call");
    let mut whole = call();
    whole.status = Status::PROVISIONAL;
    let told = rows_for("3.6", None).row(&whole).map(|(table, _)| table);
    assert_eq!(told, Some(Table::Dialog), "updates that tell the whole do");
    for (record, wanted) in [
        (with(whole, "callee_socket", text("")), Why::Provisional),
        (with(call(), "state", Value::Int(1)), Why::Unanswered),
        (with(call(), "state", Value::Int(2)), Why::Unanswered),
        (with(call(), "state", Value::Int(5)), Why::Over),
        (
            with(call(), "expires", Value::Int(1_800_000_000)),
            Why::Expired,
        ),
        (
            with(alice(), "expires", Value::Int(1_799_999_999)),
            Why::Expired,
        ),
        (with(call(), "callee_socket", text("")), Why::NoSocket),
        (
            with(call(), "caller_socket", text("udp:10.0.0.2:5060")),
            Why::OtherSocket,
        ),
        (with(call(), "callid", text("")), Why::NoCallid),
        (with(alice(), "callid", text("")), Why::NoCallid),
        (with(alice(), "contact", text("")), Why::NoContact),
        (with(alice(), "aor", text("")), Why::NoAor),
        (with(alice(), "aor", text("@example.com")), Why::NoUser),
        (
            with(alice(), "domain", text("location; DROP")),
            Why::TableName,
        ),
        (with(alice(), "domain", text("Dialog")), Why::TableName),
        (with(alice(), "path", text("a\0b")), Why::Nul),
        (Record::new(Kind::Cached), Why::NoTable(Kind::Cached)),
    ] {
        let mut rows = rows_for("3.6", None);
        assert_eq!(rows.row(&record), None, "{wanted:?}");
        let told: Vec<_> = rows
            .left_out()
            .map(|(why, left)| (why, left.count))
            .collect();
        assert_eq!(told, [(wanted, 1)]);
        assert!(!wanted.to_string().is_empty());
    }
    let long = with(alice(), "user_agent", text(&"\u{e4}".repeat(256)));
    let bytes = with(alice(), "user_agent", Value::Bytes(b"\xff".to_vec()));
    for (record, strict, wanted) in [
        (&long, None, None),
        (
            &long,
            Some(Dialect::Mysql),
            Some(Why::TooLong("user_agent")),
        ),
        (&bytes, Some(Dialect::Mysql), None),
        (&bytes, Some(Dialect::Postgres), Some(Why::NotUtf8)),
    ] {
        let mut rows = rows_for("3.6", strict);
        assert_eq!(rows.row(record).is_none(), wanted.is_some());
        assert_eq!(rows.left_out().map(|(why, _)| why).next(), wanted);
    }
}

#[test]
fn what_a_row_cannot_say_is_told() {
    let mut rows = rows_for("3.6", None);
    let mut elsewhere = contact("alice", "sip:a@10.0.0.2");
    elsewhere.set("socket", Value::text("udp:10.9.9.9:5060"));
    assert!(
        rows.row(&elsewhere).is_some(),
        "a node loads it, without its socket"
    );
    assert!(rows.row(&dialog("call")).is_some());
    let mut aor = Record::new(Kind::Aor);
    aor.set("kv", Value::text("{}"));
    assert!(rows.row(&aor).is_none());
    let lost: Vec<_> = rows.lost().collect();
    let wanted = [
        Lost::ContactSocket,
        Lost::BranchFlags,
        Lost::DialogFlags,
        Lost::AorStore,
    ];
    assert_eq!(lost, wanted.map(|lost| (lost, 1)));
    assert_eq!(rows.left_out().count(), 0);
    let mut named = dialog("named");
    let mask = crate::state::dump::place(Kind::Dialog, "user_flags").unwrap();
    named.fields[mask] = None;
    named.set(USER_FLAG_NAMES, Value::text("LOUD"));
    let cell = |row: Option<(Table, Vec<Cell<'_>>)>, schema: &str| {
        let (table, cells) = row.unwrap();
        let columns: Vec<&Column> = table.columns(schema.parse().unwrap()).collect();
        let at = columns.iter().position(|it| it.name == "script_flags");
        format!("{:?}", cells[at.unwrap()])
    };
    assert!(
        cell(rows.row(&named), "3.6").contains("Text"),
        "the name is all it needs"
    );
    let mut older = rows_for("2.4", None);
    assert_eq!(cell(older.row(&named), "2.4"), "Number(0)");
    assert_eq!(older.lost().collect::<Vec<_>>(), [(Lost::DialogFlags, 1)]);
}

#[test]
fn a_dump_without_a_time_is_refused_and_so_is_one_without_records_of_a_table() {
    let mut left = contact("alice", "sip:a@10.0.0.2");
    left.set("expires", Value::Left(60));
    let folder = dumped(&[left]);
    let said = export(&folder, "--format sql --release 3.6").unwrap_err();
    assert!(format!("{said:#}").contains("--at"), "{said:#}");
    let said = export(&folder, "--format sql --release 3.6 --kind cached").unwrap_err();
    assert!(
        format!("{said:#}").contains("no contacts or dialogs"),
        "{said:#}"
    );
    assert!(export(&folder, "--format sql").is_err(), "which release?");
}
