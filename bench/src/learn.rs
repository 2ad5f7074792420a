//! `binrush-bench learn`: a scenario from a capture.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::exit::{End, EndsWith as _};

/// Derive a scenario from captured traffic: mix, sizes, arrivals, records and how long calls last.
///
/// The scenario goes to standard output; comments at its head say what it is of and what was left out. Ends with 0, also
/// when the capture is cut off or broken in places: then the rest is used, and both outputs say so. Ends with 2 when there
/// is nothing to learn from.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// pcap or pcapng, plain or gzipped: UDP of 1.x nodes or TCP of later ones.
    #[arg(value_name = "FILE.pcap")]
    capture: PathBuf,

    /// What the scenario is called; the default is the file's name.
    #[arg(long)]
    name: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shown = args.capture.display();
    let file = File::open(&args.capture)
        .with_context(|| format!("cannot open {shown}"))
        .ends_with(End::Usage)?;
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.capture));
    let learned = binrush_scenario::learn(file, &name)
        .with_context(|| shown.to_string())
        .ends_with(End::Usage)?;
    let mut stderr = io::stderr().lock();
    for problem in &learned.problems {
        // Whom it cannot be told to, the comments tell.
        let _ = writeln!(stderr, "{shown}: {problem}");
    }
    if learned.problem_count > 0 {
        let _ = writeln!(
            stderr,
            "warning: problems in {shown}: {}; the scenario is of what could be read",
            learned.problem_count
        );
    }
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(learned.to_toml().as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output")
        .ends_with(End::Unwritten)?;
    Ok(End::Done.into())
}

/// The file's name, without what says its format.
fn name_of(capture: &Path) -> String {
    let name = capture.file_name().unwrap_or_default().to_string_lossy();
    let mut name = &*name;
    for format in [".gz", ".pcap", ".pcapng", ".cap"] {
        name = name.strip_suffix(format).unwrap_or(name);
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_called_after_its_capture() {
        for (path, name) in [
            ("tests/captures/opensips-3.6.pcap.gz", "opensips-3.6"),
            ("evening.pcapng", "evening"),
            ("traffic", "traffic"),
        ] {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
