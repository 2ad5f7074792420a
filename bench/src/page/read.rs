//! A result, read back: whole and of a format that this program knows, or a reason in words.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::error::Category;

use crate::result::{FORMAT, RunResult};

/// # Errors
/// The file cannot be read, is no result, is cut off, or was written by a newer program: each with what to do.
pub(super) fn result(path: &Path) -> anyhow::Result<RunResult> {
    parse(&text(path)?).with_context(|| format!("cannot use {}", path.display()))
}

fn text(path: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(context)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(context)?;
    if bytes.len() as u64 > BYTES_MAX {
        bail!(
            "{} is larger than {} MiB: results are not\n  give it the file that --out of a run named",
            path.display(),
            BYTES_MAX >> 20
        );
    }
    Ok(bytes)
}

/// Asks for the format first: a newer one may have anything else in other shapes.
fn parse(bytes: &[u8]) -> anyhow::Result<RunResult> {
    #[derive(Deserialize)]
    struct Head {
        format: Option<u32>,
    }
    if bytes.trim_ascii().is_empty() {
        bail!(
            "it is empty\n  what was measured before the run ended may be in the file with .partial behind its name"
        );
    }
    let head: Head = serde_json::from_slice(bytes).map_err(told)?;
    match head.format {
        Some(FORMAT) => serde_json::from_slice(bytes).map_err(told),
        Some(format) if format > FORMAT => bail!(
            "it has format {format}, and this program knows {FORMAT} and below\n  use the binrush-bench that wrote it, or a newer one"
        ),
        _ => bail!(
            "it is JSON, but no result of this program (no \"format\" of {FORMAT})\n  give it the file that --out of a load, search, replay or self-test named"
        ),
    }
}

fn told(error: serde_json::Error) -> anyhow::Error {
    let advice = match error.classify() {
        Category::Eof => {
            "it is cut off\n  was the disk full? what was measured before may be in the file with .partial behind its name"
        }
        Category::Syntax => {
            "it is no JSON\n  give it the file that --out of a load, search, replay or self-test named"
        }
        Category::Data => "it is no whole result of this program: was it changed?",
        Category::Io => "it cannot be read",
    };
    anyhow::anyhow!("{error}: {advice}")
}

/// Hours of intervals. Read into memory, histograms take some forty times what they take as text.
const BYTES_MAX: u64 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::fixture;

    #[test]
    fn what_is_wrong_with_a_result_is_told() {
        let text = serde_json::to_string(&fixture::load()).unwrap();
        assert!(parse(text.as_bytes()).is_ok());
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        let changed = text.replacen("\"offered_pps\":", "\"offered\":", 1);
        for (bytes, expected) in [
            ("", "is empty"),
            (" \n", "is empty"),
            (&text[..text.len() / 2], "cut off"),
            (&newer[..], "format 2"),
            (&changed[..], "missing field `offered_pps`"),
            ("{}", "no result of this program"),
            ("{\"format\":0}", "no result of this program"),
            ("{\"format\":\"1\"}", "no whole result"),
            ("<html>", "no JSON"),
            ("[1]", "no whole result"),
        ] {
            let error = parse(bytes.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
        let missing = result(Path::new("/nowhere/run.json")).unwrap_err();
        assert!(format!("{missing:#}").contains("cannot read /nowhere/run.json"));
    }

    #[test]
    fn a_result_cut_anywhere_is_refused() {
        let text = serde_json::to_string(&fixture::empty()).unwrap();
        for length in 0..text.len() {
            assert!(parse(&text.as_bytes()[..length]).is_err(), "{length} bytes");
        }
    }
}
