//! A row in the table of `flamegraphs/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};

use super::Cost;

/// Whether a row can be put into the table of `folder`; asked before anything is measured.
pub(crate) fn check(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(README);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "there is no {}, into which --record puts a row",
            path.display()
        )
    })?;
    with_row(&text, "").with_context(|| path.display().to_string())?;
    Ok(())
}

/// A row to be.
#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    /// What was sent to whom.
    pub(crate) what: String,
    pub(crate) files: &'a [PathBuf],
    pub(crate) cost: Cost<'a>,
}

/// Puts `row` below the others.
pub(crate) fn append(folder: &Path, row: &Row<'_>) -> anyhow::Result<()> {
    let path = folder.join(README);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = with_row(&text, &line(folder, row))?;
    // Beside it first: what people have written in it is whole at any moment.
    let new = folder.join("README.md.new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn line(folder: &Path, row: &Row<'_>) -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = now.split('T').next().unwrap_or_default();
    let files = row.files.iter();
    let files = files.filter_map(|file| file.file_name()?.to_str());
    let files: Vec<String> = files.map(|file| format!("[{file}]({file})")).collect();
    format!(
        "| {date} | {} | {} | {} | {} | |\n",
        commit(folder),
        row.what,
        files.join(", "),
        row.cost.cell(),
    )
}

/// `text` with `row` below the last one of its table.
fn with_row(text: &str, row: &str) -> anyhow::Result<String> {
    let mut end = None;
    let mut at = 0;
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        at += line.len();
        inside |= line.starts_with(TABLE);
        inside &= line.starts_with('|');
        if inside {
            end = Some(at);
        }
    }
    let end = end.with_context(|| format!("it has no table that begins with \"{TABLE}\""))?;
    ensure!(text[..end].ends_with('\n'), "its table has no end");
    Ok(format!("{}{row}{}", &text[..end], &text[end..]))
}

/// The commit that `folder` is of, with a plus when it has been changed since.
pub(crate) fn commit(folder: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(args)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    // What this very run has written is no change of what was measured.
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        ":/",
        ":(exclude).",
    ]);
    let plus = if changed.is_some_and(|files| files.is_empty()) {
        ""
    } else {
        "+"
    };
    format!("{commit}{plus}")
}

const README: &str = "README.md";

/// How the table begins.
const TABLE: &str = "| date | commit | scenario | files |";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_below_those_before_it_and_above_what_follows() {
        let text = "# t\n\n| date | commit | scenario | files | a |\n|---|---|\n| 1 | 2 |\n\nLinux.\n| other |\n";
        let with = with_row(text, "| new |\n").unwrap();
        let expected = text.replace("| 1 | 2 |\n", "| 1 | 2 |\n| new |\n");
        assert_eq!(with, expected);
        assert!(with_row("no table\n", "| new |\n").is_err());
        assert!(with_row("| date | commit | scenario | files |", "x").is_err());
    }

    #[test]
    fn the_table_of_this_repository_takes_rows() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../flamegraphs");
        check(&folder).unwrap();
        let error = check(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("--record"), "{error}");
    }
}
