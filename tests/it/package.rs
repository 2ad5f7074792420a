//! What operators get: the Debian package, the unit that systemd runs, and the examples.
//!
//! Nothing of this machine is changed: packages are installed into a folder, whose package database is its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::{Scratch, binary, run, skip};

/// A file of `engine/cli`.
fn of_cli(path: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("tests/ is in the workspace");
    root.join("engine/cli").join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a program of this host says; `None`, and said, where it is not there.
fn program(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            let name = command.get_program().to_string_lossy();
            skip(&format!("no `{name}`: {error}"));
            None
        }
    }
}

#[track_caller]
fn must(output: &Output) -> String {
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}

#[test]
fn the_shipped_configurations_mean_what_they_say() {
    for (file, endpoint, access) in [
        (
            "systemd/binrush.cfg",
            "bin:127.0.0.1:5555 (udp, tcp)",
            "127.0.0.0/8, ::1/128",
        ),
        (
            "examples/beside-a-3.6-pair.cfg",
            "bin:10.0.0.9:5566 (udp, tcp)",
            "127.0.0.0/8, ::1/128, 10.0.0.9/32, 10.0.0.1/32, 10.0.0.2/32",
        ),
        (
            "examples/beside-a-1.11-pair.cfg",
            "bin:10.0.0.9:5566 (udp)",
            "127.0.0.0/8, 10.0.0.1/32, 10.0.0.2/32",
        ),
    ] {
        let path = of_cli(file);
        let meaning = run(&["check", path.to_str().expect("a path of our own")]).ok();
        for line in [
            format!("listen    {endpoint}"),
            format!("access    {access}"),
        ] {
            assert!(
                meaning.lines().contains(&&line[..]),
                "{file}: no {line} in {}",
                meaning.text()
            );
        }
        // The folders are those that the unit makes.
        let folders = "kept in /var/lib/binrush, rings of 32768 KiB in /run/binrush";
        assert!(
            meaning.text().contains(folders),
            "{file}: {}",
            meaning.text()
        );
        // Whatever is told besides is that SIP is not served here.
        let warnings = meaning.stderr.lines();
        let told: Vec<_> = warnings
            .filter(|line| !line.contains("SIP is not served"))
            .collect();
        assert!(told.is_empty(), "{file}: {told:?}");
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_exposes_little() {
    let unit = read(&of_cli("systemd/binrush.service"));
    let folder = Scratch::new("unit");
    let binary = binary().to_str().expect("a path of our own");
    let here = unit.replace("/usr/bin/binrush", binary);
    let path = folder.file("binrush.service", here.as_bytes());
    // It looks for the unit beside it, and asks no running systemd.
    let mut verify = Command::new("systemd-analyze");
    let Some(output) = program(verify.args(["verify", "--man=no", &path])) else {
        return;
    };
    let said = text(&output.stdout) + &text(&output.stderr);
    let about_it: Vec<_> = said
        .lines()
        .filter(|line| line.contains("binrush"))
        .collect();
    assert!(about_it.is_empty(), "{said}");
    let mut security = Command::new("systemd-analyze");
    let args = [
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold=15",
        &path,
    ];
    let output = security.args(args).output().expect("it was there");
    let said = text(&output.stdout) + &text(&output.stderr);
    if said.contains("unrecognized option") {
        return skip("this systemd-analyze knows no --offline");
    }
    assert!(said.contains("Overall exposure level"), "{said}");
    assert!(
        output.status.success(),
        "{}",
        said.lines().last().unwrap_or_default()
    );
}

#[test]
fn the_unit_gives_what_serve_and_the_configuration_expect() {
    let unit = read(&of_cli("systemd/binrush.service"));
    let lines: Vec<_> = unit.lines().collect();
    for line in [
        "Type=notify",
        "ExecStart=/usr/bin/binrush serve --config /etc/binrush/binrush.cfg",
        "StateDirectory=binrush",
        "RuntimeDirectory=binrush",
        "RuntimeDirectoryPreserve=yes",
        "RestartPreventExitStatus=2",
        "CapabilityBoundingSet=",
        "LimitCORE=0",
    ] {
        assert!(lines.contains(&line), "no {line}");
    }
    let stores = lines
        .iter()
        .find_map(|line| line.strip_prefix("FileDescriptorStoreMax="));
    assert!(stores.is_some_and(|max| max.parse::<u32>().is_ok_and(|max| max >= 64)));
    assert!(lines.iter().any(|line| line.starts_with("WatchdogSec=")));
    let sysusers = read(&of_cli("systemd/binrush.sysusers"));
    assert!(sysusers.contains("\nu binrush - ") && lines.contains(&"User=binrush"));
}

#[test]
fn the_manual_page_names_every_command() {
    let page = read(&of_cli("debian/binrush.1"));
    let help = run(&["--help"]).ok();
    let (_, commands) = help
        .text()
        .split_once("Commands:\n")
        .expect("they are listed");
    let (commands, _) = commands.split_once("\n\n").expect("options follow");
    let names = commands.lines().filter_map(|line| {
        let line = line.strip_prefix("  ")?;
        line.split(' ').next().filter(|name| !name.is_empty())
    });
    let names: Vec<_> = names.filter(|name| *name != "help").collect();
    assert!(names.contains(&"import"), "{names:?}");
    for name in names {
        let is_named = page.lines().any(|line| {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
            line.starts_with(".B") && words.any(|word| word == name)
        });
        assert!(is_named, "{name}");
    }
}

#[test]
fn keepalived_is_told_that_a_copy_is_verified_and_nothing_else() {
    let folder = Scratch::new("keepalived");
    let fake = folder.path("binrush");
    let script = of_cli("examples/keepalived/check-binrush");
    let path = std::env::var("PATH").unwrap_or_default();
    let own = Path::new(&fake)
        .parent()
        .expect("it is in a folder")
        .display()
        .to_string();
    let copy = |state: &str| {
        format!(r#"{{"tables":[{{"table":"1/x","copy":{{"state":"{state}"}},"trouble":null}}]}}"#)
    };
    for (answer, code, expected) in [
        (copy("verified"), 0, 0),
        (copy("suspect"), 0, 1),
        (copy("syncing"), 0, 1),
        (copy("unverified"), 0, 1),
        (
            r#"{"tables":[{"table":"dialog","copy":null,"trouble":null}]}"#.to_owned(),
            0,
            0,
        ),
        (
            r#"{"tables":[{"table":"dialog","copy":null,"trouble":"a shard hangs"}]}"#.to_owned(),
            0,
            1,
        ),
        (r#"{"tables":[]}"#.to_owned(), 0, 1),
        (copy("verified"), 1, 1),
        (String::new(), 0, 1),
    ] {
        let words = format!("#!/bin/sh\ncat <<'END'\n{answer}\nEND\nexit {code}\n");
        folder.file("binrush", words.as_bytes());
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let mut check = Command::new("sh");
        check.arg(&script).env("PATH", format!("{own}:{path}"));
        let output = check.output().expect("every host has a shell");
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{answer} {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn the_package_is_installed_and_removed() {
    let Some((deb, folder)) = package() else {
        return;
    };
    let listed = must(
        &Command::new("dpkg-deb")
            .args(["--contents", &deb])
            .output()
            .expect("it is there"),
    );
    for (mode, path) in FILES {
        let found = listed
            .lines()
            .find(|line| line.ends_with(&format!(" .{path}")));
        let found = found.unwrap_or_else(|| panic!("no {path} in\n{listed}"));
        // Whose name the number is depends on the host.
        let owner = found.split_whitespace().nth(1);
        let is_of_root = matches!(owner, Some("0/0" | "root/root"));
        assert!(found.starts_with(mode) && is_of_root, "{found}");
    }
    let field = |name: &str| {
        let output = Command::new("dpkg-deb")
            .args(["--field", &deb, name])
            .output();
        must(&output.expect("it is there")).trim().to_owned()
    };
    assert_eq!(field("Package"), "binrush");
    assert!(field("Depends").contains("libc6"), "{}", field("Depends"));
    let control = folder.path("control");
    must(
        &Command::new("dpkg-deb")
            .args(["--control", &deb, &control])
            .output()
            .expect("it is there"),
    );
    let conffiles = read(&Path::new(&control).join("conffiles"));
    assert_eq!(conffiles.trim(), "/etc/binrush/binrush.cfg");
    for script in ["postinst", "prerm", "postrm"] {
        let code = read(&Path::new(&control).join(script));
        assert!(
            code.starts_with("#!/bin/sh\n") && !code.contains("#DEBHELPER#"),
            "{script}: {code}"
        );
        must(
            &Command::new("sh")
                .args(["-n", &format!("{control}/{script}")])
                .output()
                .expect("every host has a shell"),
        );
    }
    let Some(root) = empty_root(&folder) else {
        return;
    };
    let dpkg = |args: &[&str]| {
        let mut command = Command::new("dpkg");
        command.args([
            &format!("--root={root}")[..],
            "--force-script-chrootless",
            "--force-depends",
        ]);
        must(&command.args(args).output().expect("it is there"))
    };
    dpkg(&["--install", &deb]);
    let at = |path: &str| PathBuf::from(format!("{root}{path}"));
    let config = at("/etc/binrush/binrush.cfg");
    run(&["check", config.to_str().expect("a path of our own")])
        .ok()
        .quiet();
    let mut installed = Command::new(at("/usr/bin/binrush"));
    assert!(must(&installed.arg("--version").output().expect("it runs")).starts_with("binrush "));
    let users = fs::read_to_string(at("/etc/passwd")).unwrap_or_default();
    assert!(
        users.contains("binrush:x:"),
        "the user is made in the root that was named: {users}"
    );
    fs::create_dir_all(at("/var/lib/binrush")).expect("it is ours");
    // An operator's own configuration outlives all but a purge.
    fs::write(&config, "listen = bin:127.0.0.1:5555\n").expect("it is ours");
    dpkg(&["--remove", "binrush"]);
    assert!(!at("/usr/bin/binrush").exists() && config.exists());
    assert!(at("/var/lib/binrush").exists());
    dpkg(&["--purge", "binrush"]);
    for path in [
        "/etc/binrush/binrush.cfg",
        "/var/lib/binrush",
        "/usr/lib/systemd/system/binrush.service",
    ] {
        assert!(!at(path).exists(), "{path}");
    }
}

/// The package of the binary that these tests run, and the folder it is in; `None`, and said, where it cannot be made.
fn package() -> Option<(String, Scratch)> {
    let folder = Scratch::new("package");
    let known = Command::new("cargo").args(["deb", "--version"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        skip("no cargo-deb: `cargo install cargo-deb` has it");
        return None;
    }
    program(Command::new("dpkg-deb").arg("--version"))?;
    let profile_dir = binary().parent().expect("cargo's layout");
    let target_dir = profile_dir.parent().expect("cargo's layout");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let deb = folder.path("binrush.deb");
    let mut make = Command::new("bash");
    make.arg(of_cli("debian/package"))
        .args(["--profile", profile]);
    // Neither small nor without what helps to find a fault: it is thrown away.
    make.args(["--fast", "--no-strip", "--output", &deb]);
    must(
        &make
            .env("CARGO_TARGET_DIR", target_dir)
            .output()
            .expect("every host here has bash"),
    );
    Some((deb, folder))
}

/// A root without anything but a package database of its own; `None`, and said, where none can be used.
fn empty_root(folder: &Scratch) -> Option<String> {
    let is_root = must(&program(Command::new("id").arg("-u"))?).trim() == "0";
    if !is_root {
        skip("not root, so that nothing can be installed; what is in the package was looked at");
        return None;
    }
    if Path::new("/run/systemd/system").exists() {
        skip(
            "systemd runs this host: scripts of packages would talk to it; what is in the package was looked at",
        );
        return None;
    }
    program(Command::new("dpkg").arg("--version"))?;
    let root = folder.path("root");
    for path in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "run"] {
        fs::create_dir_all(Path::new(&root).join(path)).expect("it is ours");
    }
    for path in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
        fs::write(Path::new(&root).join(path), "").expect("it is ours");
    }
    Some(root)
}

/// What is in the package, and with which mode.
const FILES: [(&str, &str); 12] = [
    ("-rwxr-xr-x", "/usr/bin/binrush"),
    ("-rw-r--r--", "/etc/binrush/binrush.cfg"),
    ("-rw-r--r--", "/usr/lib/systemd/system/binrush.service"),
    ("-rw-r--r--", "/usr/lib/sysusers.d/binrush.conf"),
    (
        "-rw-r--r--",
        "/usr/share/bash-completion/completions/binrush",
    ),
    ("-rw-r--r--", "/usr/share/zsh/vendor-completions/_binrush"),
    (
        "-rw-r--r--",
        "/usr/share/fish/vendor_completions.d/binrush.fish",
    ),
    (
        "-rw-r--r--",
        "/usr/share/doc/binrush/examples/beside-a-3.6-pair.cfg",
    ),
    (
        "-rw-r--r--",
        "/usr/share/doc/binrush/examples/beside-a-1.11-pair.cfg",
    ),
    (
        "-rwxr-xr-x",
        "/usr/share/doc/binrush/examples/keepalived/check-binrush",
    ),
    ("-rw-r--r--", "/usr/share/doc/binrush/copyright"),
    ("-rw-r--r--", "/usr/share/doc/binrush/LICENSE-APACHE"),
];
