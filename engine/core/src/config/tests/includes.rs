//! Files that include files.

use super::*;

/// The configuration of `files`, the first of which is the main one.
fn read_files(files: &[(&str, &str)]) -> Result<Loaded, String> {
    let main = Path::new(files[0].0);
    let files: HashMap<PathBuf, Vec<u8>> = files
        .iter()
        .map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec()))
        .collect();
    Config::read(main, &files).map_err(|error| error.to_string())
}

#[track_caller]
fn refused_files(files: &[(&str, &str)], told: &str) {
    let error = read_files(files).expect_err(told);
    assert!(error.starts_with(told), "{error}");
}

#[test]
fn a_name_counts_from_the_folder_of_the_including_file() {
    let loaded = read_files(&[
        (
            "etc/a.cfg",
            "include_file \"bin/b.cfg\"\nlisten = bin:10.0.0.1",
        ),
        (
            "etc/bin/b.cfg",
            "include_file './c.cfg'\nlisten = bin:10.0.0.2\ninclude_file \"/d.cfg\"",
        ),
        ("etc/bin/./c.cfg", "listen = bin:10.0.0.3"),
        ("/d.cfg", "listen = bin:10.0.0.4"),
    ]);
    let listeners = loaded.unwrap().config.listeners;
    let found: Vec<String> = listeners
        .iter()
        .map(|listener| format!("{} {}", listener.place, listener.endpoint.addr.ip()))
        .collect();
    let expected = [
        "etc/bin/./c.cfg:1:10 10.0.0.3",
        "etc/bin/b.cfg:2:10 10.0.0.2",
        "/d.cfg:1:10 10.0.0.4",
        "etc/a.cfg:2:10 10.0.0.1",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_an_included_file_loads_is_loaded_for_what_follows() {
    let main =
        "include_file \"b.cfg\"\nmodparam(\"dialog\", \"db_mode\", 0)\nlisten = bin:127.0.0.1";
    let loaded = read_files(&[("a.cfg", main), ("b.cfg", "loadmodule \"dialog.so\"")]).unwrap();
    assert!(
        loaded
            .warnings
            .iter()
            .all(|warning| !warning.message().contains("not loaded anywhere"))
    );
}

#[test]
fn an_error_names_the_file_that_it_is_in() {
    let main = ("etc/a.cfg", "include_file \"b.cfg\"");
    refused_files(
        &[main, ("etc/b.cfg", "\n foo = 1")],
        "etc/b.cfg:2:2: unknown parameter \"foo\"",
    );
    refused_files(
        &[main, ("etc/b.cfg", "\"")],
        "etc/b.cfg:1:1: this string has no end",
    );
}

#[test]
fn a_missing_file_is_an_error_at_the_include_and_a_warning_at_an_import() {
    refused_files(
        &[("a.cfg", "\n include_file \"b.cfg\"")],
        "a.cfg:2:15: \"b.cfg\" cannot be read: ",
    );
    refused_files(
        &[("a.cfg", "include_file \"\"")],
        "a.cfg:1:14: the name of a file expected",
    );
    refused_files(
        &[("a.cfg", "include_file b.cfg")],
        "a.cfg:1:14: the name of a file in quotes expected",
    );
    let main = with_listener("import_file \"b.cfg\"");
    let loaded = read_files(&[("a.cfg", &main)]).unwrap();
    let told = "a.cfg:2:13: \"b.cfg\" is not there, so nothing is imported";
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.to_string() == told),
        "{:?}",
        loaded.warnings
    );
    let error = Config::read(Path::new("x.cfg"), &HashMap::new()).unwrap_err();
    assert!(
        error.to_string().starts_with("x.cfg: cannot be read: "),
        "{error}"
    );
    assert_eq!(error.problems()[0].place(), None);
}

#[test]
fn a_circle_is_told_where_it_closes() {
    refused_files(
        &[("a.cfg", "include_file \"./a.cfg\"")],
        "a.cfg:1:14: \"./a.cfg\" includes itself",
    );
    let files = [
        ("e/a.cfg", "include_file \"f/b.cfg\""),
        ("e/f/b.cfg", "\ninclude_file \"../a.cfg\""),
    ];
    refused_files(&files, "e/f/b.cfg:2:14: \"e/f/../a.cfg\" includes itself");
    // Side by side is no circle.
    let text = with_listener("include_file \"b.cfg\"\ninclude_file \"b.cfg\"");
    assert!(read_files(&[("a.cfg", &text), ("b.cfg", "debug = 3")]).is_ok());
}

#[test]
fn sixteen_files_may_include_each_other_and_no_more() {
    let files: Vec<(String, String)> = (0..17)
        .map(|n| {
            (
                format!("{n}.cfg"),
                with_listener(&format!("include_file \"{}.cfg\"", n + 1)).replace("5555", "0"),
            )
        })
        .collect();
    let mut files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    refused_files(
        &files,
        "15.cfg:2:14: \"16.cfg\" is included too deeply: at most 16 files",
    );
    files[15].1 = "listen = bin:127.0.0.1:0";
    assert_eq!(read_files(&files).unwrap().config.listeners.len(), 16);
}

#[test]
fn the_amount_of_text_and_statements_is_bounded() {
    let large = format!("#{}", " ".repeat(1 << 20));
    refused_files(&[("a.cfg", &large)], "a.cfg: is larger than 1048576 bytes");
    refused_files(
        &[("a.cfg", "include_file \"b.cfg\""), ("b.cfg", &large)],
        "a.cfg:1:14: \"b.cfg\" is larger",
    );
    let includes = "include_file \"b.cfg\"\n".repeat(5);
    let told = "a.cfg:4:14: \"b.cfg\" makes the files of this configuration larger than 4194304 bytes together";
    refused_files(&[("a.cfg", &includes), ("b.cfg", &large[..1 << 20])], told);
    let many = "debug = 3\n".repeat(10_001);
    refused_files(
        &[("a.cfg", &many)],
        "a.cfg:10001:1: one statement too many: at most 10000",
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_in_an_included_file_too() {
    let files: HashMap<PathBuf, Vec<u8>> = [
        ("a.cfg".into(), b"include_file \"b.cfg\"".to_vec()),
        ("b.cfg".into(), b"#\n# \xe9".to_vec()),
    ]
    .into();
    let error = Config::read(Path::new("a.cfg"), &files).unwrap_err();
    assert!(
        error.to_string().starts_with("b.cfg:2:3: this is no UTF-8"),
        "{error}"
    );
}
