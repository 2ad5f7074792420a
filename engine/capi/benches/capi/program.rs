//! A program in C that is linked with the shared library, as users link it: it measures itself.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The program, compiled.
pub(crate) struct Program(PathBuf);

impl Program {
    /// `None` without a compiler.
    pub(crate) fn compile() -> Option<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-program");
        fs::create_dir_all(&folder).expect("folders can be made in the target folder");
        // The library lies beside the bench that was built with it, without its version.
        let bench = env::current_exe().expect("it runs");
        let built = bench.parent().expect("it is in a folder");
        for name in [
            "libbinrush.so",
            concat!("libbinrush.so.", env!("CARGO_PKG_VERSION_MAJOR")),
        ] {
            let link = folder.join(name);
            let _absent = fs::remove_file(&link);
            symlink(built.join("libbinrush.so"), &link).expect("links can be made there");
        }
        let program = folder.join("program");
        let done = Command::new("cc")
            .args(["-O2", "-I"])
            .arg(own.join("include"))
            .arg(own.join("benches/program.c"))
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(&folder)
            .arg("-lbinrush")
            .arg(format!("-Wl,-rpath,{}", folder.display()))
            .status()
            .ok()?;
        assert!(done.success(), "{done}");
        Some(Self(program))
    }

    /// What `times` packets to `port` took, sent by `what`.
    pub(crate) fn time(&self, what: &str, port: u16, times: u64) -> Duration {
        let done = Command::new(&self.0)
            .args([what, &port.to_string(), &times.to_string()])
            .output()
            .expect("it was compiled");
        assert!(done.status.success(), "{}", done.status);
        let text = String::from_utf8(done.stdout).expect("it is a number");
        Duration::from_nanos(text.trim().parse().expect("it is a number"))
    }
}
