//! `binrush bench` and `binrush tune`: programs of their own, reached as commands, as git and cargo do it.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::anyhow;

// What follows belongs to the other program, its `--help` included. The help of the command itself stands where it is
// listed.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What that program takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes `program`: the one beside this one, which was built with it, or else the one that a shell would find. Its
/// output, its exit code and the signals that it gets are its own.
///
/// # Errors
/// Why it could not be started; who is told returns at all only then.
pub(crate) fn become_program(program: &str, args: &Args) -> anyhow::Error {
    let beside = beside(program);
    let places = beside.iter().cloned().chain([PathBuf::from(program)]);
    for place in places {
        let error = Command::new(&place).args(&args.arguments).exec();
        // Only one that is not there is looked for elsewhere: another in its stead might be of another version.
        if error.kind() != io::ErrorKind::NotFound {
            return anyhow!("cannot start {}: {error}", place.display());
        }
    }
    let folder = beside.as_deref().and_then(|path| path.parent());
    let folder = folder.map_or_else(
        || "beside binrush".to_owned(),
        |folder| format!("in {}", folder.display()),
    );
    anyhow!(
        "{program} is neither {folder} nor in PATH\n  `cargo build --release --workspace` builds it; put it beside binrush"
    )
}

/// Where it would be in this program's directory; `None` when that is not known.
fn beside(program: &str) -> Option<PathBuf> {
    // The kernel's link: a name by which this program was called, or a link to it, would not do.
    let own = env::current_exe().ok()?;
    Some(own.with_file_name(program))
}
