use super::*;

/// What the module said of its two files; `None`, and said so: this kernel keeps nobody from any.
fn said(workshop: &Workshop, lines: &str) -> Option<Vec<String>> {
    let server = workshop.serve(&format!("loadmodule \"opens.so\"\n{lines}"));
    let is_kept = server.ready["confined"]["done"].to_string();
    let ended = server.process.stop("TERM").ok();
    if !is_kept.contains("landlock") {
        skip("this kernel has no Landlock");
        return None;
    }
    let told = ended.stderr.lines();
    Some(
        told.filter(|line| line.starts_with("opens: "))
            .map(str::to_owned)
            .collect(),
    )
}

#[test]
fn a_confined_module_opens_in_child_init_what_the_configuration_says_and_nothing_else() {
    let Some(workshop) = Workshop::new("modules-opens", &["opens"]) else {
        return;
    };
    let elsewhere = Scratch::new("modules-opens-elsewhere");
    let own = elsewhere.path("own");
    fs::create_dir(&own).expect("it is not there yet");
    let reads = elsewhere.file("quota", b"7");
    let writes = format!("{own}/journal");
    let paths = format!(
        "modparam(\"opens\", \"reads\", \"{reads}\")\nmodparam(\"opens\", \"writes\", \"{writes}\")\n"
    );
    let Some(told) = said(&workshop, &paths) else {
        return;
    };
    let refused = ["reads", "writes"].map(|how| format!("opens: {how} Permission denied"));
    assert_eq!(told, refused);
    assert!(!Path::new(&writes).exists());
    let open = |setting: &str, path: &str| {
        format!("modparam(\"binrush\", \"module_{setting}\", \"{path}\")\n")
    };
    let (may_read, may_write) = (open("reads", &reads), open("writes", &own));
    let told = said(&workshop, &format!("{paths}{may_read}{may_write}"));
    assert_eq!(
        told.expect("as before"),
        ["opens: reads well", "opens: writes well"]
    );
    assert!(Path::new(&writes).exists());
    // What is read cannot be written to, and the other way round it can.
    let swapped = format!(
        "modparam(\"opens\", \"writes\", \"{reads}\")\nmodparam(\"opens\", \"reads\", \"{writes}\")\n"
    );
    let told = said(&workshop, &format!("{swapped}{may_read}{may_write}"));
    let expected = ["opens: reads well", "opens: writes Permission denied"];
    assert_eq!(told.expect("as before"), expected);
    // A reload leaves it as it is, and says so.
    let server = workshop.serve(&format!("loadmodule \"opens.so\"\n{may_read}"));
    let folder = Path::new(&reads).parent().expect("it lies in one");
    let files = &server.ready["module_files"];
    assert_eq!(files["reads"], serde_json::json!([folder]), "{files}");
    assert_eq!(files["writes"], serde_json::json!([]), "{files}");
    let checked = run(&["check", &workshop.path("binrush.cfg")]).ok();
    let expected = format!("modules: {reads} (with all in {})\n", folder.display());
    assert!(checked.text().contains(&expected), "{}", checked.text());
    // Its control socket is beside its configuration.
    let doubt = "modules have its rights: they could replace what the next start goes by";
    let warnings = server.ready["warnings"].to_string();
    assert!(warnings.contains(doubt), "{warnings}");
    let mut process = server.process;
    workshop.config(&format!("loadmodule \"opens.so\"\n{may_read}{may_write}"));
    process.signal("HUP");
    let told = process.event("reload");
    assert!(
        told.to_string()
            .contains("what is said of modules from shared libraries"),
        "{told}"
    );
    process.stop("TERM").ok();
}

#[test]
fn what_modules_cannot_be_given_is_refused_before_they_run_and_shown_by_a_check() {
    let Some(workshop) = Workshop::new("modules-opens-refused", &["opens"]) else {
        return;
    };
    let folder = workshop.config("");
    let folder = Path::new(&folder).parent().expect("it lies in one");
    let folder = folder.to_str().expect("our paths are text");
    for (setting, path, words) in [
        ("reads", "/nowhere/at/all", "No such file or directory"),
        ("writes", "/", "could replace what the next start goes by"),
        (
            "writes",
            folder,
            "could replace what the next start goes by",
        ),
    ] {
        let lines = format!(
            "loadmodule \"opens.so\"\nmodparam(\"binrush\", \"module_{setting}\", \"{path}\")\n"
        );
        let refused = workshop.refused(&lines).exits(2);
        refused.says(&[
            &format!("binrush.cfg:8:{}: ", 30 + setting.len() + 2),
            words,
        ]);
        let checked = run(&["check", &workshop.config(&lines)]).ok();
        let text = checked.text();
        assert!(text.contains(&format!("modules: {path}\n")), "{text}");
    }
}
