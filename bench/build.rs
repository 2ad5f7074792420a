//! Tells the program which commit it was built from, for the results that it writes.
#![forbid(unsafe_code)]

use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // Built from an archive there is none.
    let commit = git(&["describe", "--always", "--dirty"]).unwrap_or_default();
    println!("cargo::rustc-env=BINRUSH_COMMIT={commit}");
    // The log of HEAD grows with every commit and checkout.
    if let Some(log) = git(&[
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "logs/HEAD",
    ]) {
        println!("cargo::rerun-if-changed={log}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
