use super::*;

/// Fails with `code`, says all of `words`, and printed nothing else.
#[track_caller]
fn refused(workshop: &Workshop, lines: &str, code: i32, words: &[&str]) {
    let refused = workshop.refused(lines).exits(code).says(words);
    assert_eq!(refused.text(), "", "it was never ready");
}

#[test]
fn a_module_that_cannot_be_used_is_named_with_its_line_and_nothing_starts() {
    let modules = ["wrong_version", "no_exports", "with_procs", "params"];
    let Some(workshop) = Workshop::new("modules-refused", &modules) else {
        return;
    };
    let config = workshop.config("");
    refused(
        &workshop,
        "loadmodule \"wrong_version.so\"",
        2,
        &[&format!("{config}:7:12: "), "wrong_version.so", "binrush"],
    );
    refused(&workshop, "loadmodule \"no_exports.so\"", 2, &["exports"]);
    refused(&workshop, "loadmodule \"with_procs.so\"", 2, &["process"]);
    refused(
        &workshop,
        "loadmodule \"nowhere.so\"",
        2,
        &[&format!("{config}:7:12: "), "nowhere.so"],
    );
    refused(
        &workshop,
        "loadmodule \"dialg.so\"",
        2,
        &["did you mean the built-in \"dialog\"?"],
    );
    let params = "loadmodule \"params.so\"\n";
    refused(
        &workshop,
        &format!("{params}modparam(\"params\", \"no_such_thing\", 1)"),
        2,
        &[&format!("{config}:8:10: "), "no_such_thing"],
    );
    refused(
        &workshop,
        &format!("{params}modparam(\"parms\", \"number\", 1)"),
        2,
        &[&format!("{config}:8:10: "), "parms"],
    );
    refused(
        &workshop,
        &format!("{params}modparam(\"binrush\", \"reentrant\", \"counter\")"),
        2,
        &["reentrant: no module \"counter\" is loaded"],
    );
}

#[test]
fn a_module_whose_start_fails_is_named_and_those_before_it_are_ended() {
    let modules = ["shards", "failing_init", "failing_child"];
    let Some(workshop) = Workshop::new("modules-failing", &modules) else {
        return;
    };
    let config = workshop.config("");
    for failing in ["failing_init", "failing_child"] {
        let lines = format!(
            "loadmodule \"shards.so\"\nmodparam(\"shards\", \"tells\", 1)\nloadmodule \"{failing}.so\""
        );
        refused(
            &workshop,
            &lines,
            1,
            &[
                &format!("{config}:9:12: module \"{failing}\" cannot start"),
                "shards: destroyed\n",
                "error: ",
            ],
        );
    }
}

#[test]
fn a_name_of_a_reentrant_module_and_of_another_one_is_refused() {
    let Some(workshop) = Workshop::new("modules-mixed", &["shards", "twice"]) else {
        return;
    };
    let both = "loadmodule \"twice.so\"\nloadmodule \"shards.so\"\n\
                modparam(\"binrush\", \"reentrant\", \"shards\")\n";
    let said = "packets named \"twice\" are registered by module shards, which is reentrant, and by module twice, which is not";
    for (name, code) in [("name", 2), ("late_name", 1)] {
        let lines = format!("{both}modparam(\"shards\", \"{name}\", \"twice\")\n");
        refused(&workshop, &lines, code, &[said]);
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_trusted_where_that_is_said_alone() {
    let Some(workshop) = Workshop::new("modules-trust", &["mi"]) else {
        return;
    };
    use std::os::unix::fs::PermissionsExt as _;
    let open = workshop.path("open");
    fs::create_dir(&open).expect("it is ours");
    fs::copy(workshop.path("mi.so"), format!("{open}/mi.so")).expect("it is ours");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let text = |trusted: &str| {
        format!("listen = bin:127.0.0.1:0\nmpath=\"{open}/\"\nloadmodule \"mi.so\"\n{trusted}")
    };
    let serve = |trusted: &str| {
        let config = workshop.scratch.file("open.cfg", text(trusted).as_bytes());
        workshop.args(&config)
    };
    let said = run(&serve("")).exits(2);
    assert!(said.stderr.contains("open.cfg:3:12: "), "{}", said.stderr);
    let server = Receiver::of(Running::start(&serve(&format!(
        "modparam(\"binrush\", \"trusted_dir\", \"{open}\")"
    ))));
    let warned = server.ready["warnings"].to_string();
    assert!(warned.contains("that is for development"), "{warned}");
    server.stop("TERM");
}
