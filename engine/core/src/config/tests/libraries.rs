//! Modules that are not built in.

use super::*;
use crate::config::{Libraries, LibraryStatement, Placed};
use std::time::Duration;

fn libraries(text: &str) -> Libraries {
    config(&with_listener(text)).libraries
}

#[test]
fn what_is_not_built_in_is_a_library_with_the_path_of_its_line() {
    let found = libraries(
        "loadmodule \"/opt/counter.so\"\nmpath=\"/usr/lib/a/\"\nloadmodule \"quota.so\"\nloadmodule \"dialog.so\"\n",
    );
    let loads = found.statements.iter().map(|each| match each {
        LibraryStatement::Load {
            mpath,
            written,
            near,
            at,
        } => (mpath.as_deref(), &written[..], *near, at.place.line),
        LibraryStatement::Param { .. } => panic!("{each:?}"),
    });
    let expected = [
        (None, "/opt/counter.so", None, 2),
        (Some("/usr/lib/a/"), "quota.so", None, 4),
    ];
    assert_eq!(loads.collect::<Vec<_>>(), expected);
    assert!(libraries("loadmodule \"dialog.so\"").is_empty());
    refused(
        &with_listener("loadmodule \"\""),
        "a.cfg:2:12: the name of a module expected",
    );
}

#[test]
fn a_library_that_is_called_almost_like_a_part_is_asked_about() {
    warned(
        &with_listener("loadmodule \"dialg.so\""),
        "a.cfg:2:12: \"dialg.so\" is not built in, so it is loaded as a shared library; did you mean \"dialog\"?",
    );
}

#[test]
fn a_parameter_goes_to_all_whose_names_it_matches() {
    let params = |text: &str| {
        let found = config(&with_listener(text));
        let of_libraries = found.libraries.statements.iter();
        let of_libraries = of_libraries.filter_map(|each| match each {
            LibraryStatement::Param {
                pattern,
                name,
                is_theirs,
                ..
            } => Some((pattern.clone(), name.clone(), *is_theirs)),
            LibraryStatement::Load { .. } => None,
        });
        (of_libraries.collect::<Vec<_>>(), found.parameters)
    };
    let loaded = "loadmodule \"dialog.so\"\nloadmodule \"my_dialog.so\"\n";
    let timeout =
        |pattern: &str| format!("{loaded}modparam(\"{pattern}\", \"default_timeout\", 7)");
    let said =
        |pattern: &str, is_theirs| [(pattern.to_owned(), "default_timeout".to_owned(), is_theirs)];
    // To both.
    let (of_libraries, of_parts) = params(&timeout(".*dialog"));
    assert_eq!(of_libraries, said(".*dialog", true));
    assert_eq!(of_parts.int(Part::Dialog, "default_timeout"), Some(7));
    // What it says of itself may be anything, so this may be for it.
    let (of_libraries, of_parts) = params(&timeout("dialog"));
    assert_eq!(of_libraries, said("dialog", false));
    assert_eq!(of_parts.int(Part::Dialog, "default_timeout"), Some(7));
    // Whoever loads it says whether it is called like this.
    let (of_libraries, of_parts) = params(&timeout("counter"));
    assert_eq!(of_libraries, said("counter", true));
    assert_eq!(of_parts.iter().len(), 0);
    // A module of ours that is on without a loadmodule.
    let (of_libraries, of_parts) =
        params("loadmodule \"x.so\"\nmodparam(\"usrloc\", \"nat_bflag\", \"NAT\")");
    assert!(!of_libraries[0].2);
    assert_eq!(
        of_parts.text(Part::Usrloc, "nat_bflag").as_deref(),
        Some("NAT")
    );
}

#[test]
fn without_any_library_a_parameter_of_nobody_is_an_error() {
    let error = refused(
        &with_listener("modparam(\"counter\", \"x\", 1)\nloadmodule \"counter.so\""),
        "a.cfg:2:10: there is no module \"counter\": binrush, one that is loaded above, or one of proto_bin, ",
    );
    assert_eq!(error.matches("a.cfg:").count(), 1, "{error}");
}

#[test]
fn what_is_set_about_libraries_is_kept_with_its_place() {
    let text = r#"
        modparam("binrush", "override", "dialog, ul")
        modparam("binrush", "override", "ul,greeting")
        modparam("binrush", "reentrant", "counter")
        modparam("binrush", "poison", "on")
        modparam("binrush", "module_reads", "/etc/quota")
        modparam("binrush", "module_reads", "/etc/quota.conf")
        modparam("binrush", "module_reads", "/etc/quota")
        modparam("binrush", "module_writes", "/var/lib/quota")
        modparam("binrush", "callback_budget", 250)
    "#;
    let found = libraries(text);
    let overrides = found.overrides.iter();
    let overrides: Vec<_> = overrides
        .map(|each| (&each.name[..], each.at.place.line))
        .collect();
    assert_eq!(overrides, [("dialog", 3), ("ul", 3), ("greeting", 4)]);
    assert_eq!(found.reentrant[0].name, "counter");
    let paths = |placed: &[Placed]| -> Vec<_> {
        let each = placed.iter();
        each.map(|each| (each.path.display().to_string(), each.at.place.line))
            .collect()
    };
    let reads = [
        ("/etc/quota".to_owned(), 7),
        ("/etc/quota.conf".to_owned(), 8),
    ];
    assert_eq!(paths(&found.reads), reads);
    assert_eq!(paths(&found.writes), [("/var/lib/quota".to_owned(), 10)]);
    assert!(found.poison);
    assert_eq!(found.callback_budget, Some(Duration::from_micros(250)));
    let told = found.overrides[2].at.problem("nobody registers it");
    let told = told.to_string();
    assert!(
        told.starts_with("a.cfg:4:41: nobody registers it\n  "),
        "{told}"
    );
    refused(
        &with_listener("modparam(\"binrush\", \"reentrant\", 1)"),
        "a.cfg:2:34: reentrant: names of modules such as \"counter,quota\" expected, not 1",
    );
    refused(
        &with_listener("modparam(\"binrush\", \"poison\", 1)"),
        "a.cfg:2:31: poison: one of \"on\", \"off\" expected, not 1",
    );
}

#[test]
fn a_path_that_depends_on_who_starts_the_process_is_refused() {
    for name in ["module_reads", "module_writes"] {
        let error = refused(
            &with_listener(&format!("modparam(\"binrush\", \"{name}\", \"etc\")")),
            "a.cfg:2:",
        );
        let expected = format!(
            "{name}: the absolute path of a file or a folder such as \"/etc/quota\", expected, not \"etc\""
        );
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn libraries_say_the_same_wherever_it_stands_and_something_else_with_another_path() {
    let of = |line: &str| libraries(&format!("loadmodule \"counter.so\"\n{line}"));
    let one = of("modparam(\"binrush\", \"module_reads\", \"/a\")");
    assert!(one.says_the_same(&of("\n\nmodparam(\"binrush\", \"module_reads\", \"/a\")")));
    for other in ["reads\", \"/b", "writes\", \"/a"] {
        let other = of(&format!("modparam(\"binrush\", \"module_{other}\")"));
        assert!(!one.says_the_same(&other));
    }
}

#[test]
fn so_many_statements_are_kept_and_no_more() {
    let many = "loadmodule \"a.so\"\n".repeat(1000);
    assert_eq!(libraries(&many).loads().count(), 1000);
    let error = refused(
        &with_listener(&format!("{many}loadmodule \"b.so\"")),
        "a.cfg:1002:12: at most 1000 statements about shared libraries expected",
    );
    assert_eq!(error.lines().count(), 3, "{error}");
}
