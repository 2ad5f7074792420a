//! Stacks as a picture: drawn by the crate `inferno` where this program was built with the feature `profile`, else by
//! `inferno-flamegraph` where that is installed.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Whether there is a picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Picture {
    Drawn,
    /// Nobody here can draw; how that is changed.
    NoPainter(String),
}

/// Draws `stacks`, in picoseconds, to `path`: a flame graph in nanoseconds per packet. With two numbers behind each stack
/// it is a differential one, red where more is spent than before.
pub(super) fn draw(path: &Path, title: &str, stacks: &str) -> anyhow::Result<Picture> {
    match painted(title, stacks)? {
        Ok(svg) => {
            fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Picture::Drawn)
        }
        Err(why) => Ok(Picture::NoPainter(why)),
    }
}

#[cfg(feature = "profile")]
fn painted(title: &str, stacks: &str) -> anyhow::Result<Result<Vec<u8>, String>> {
    let mut options = inferno::flamegraph::Options::default();
    title.clone_into(&mut options.title);
    UNIT.clone_into(&mut options.count_name);
    options.factor = NS_PER_PICO;
    let mut svg = Vec::new();
    inferno::flamegraph::from_reader(&mut options, stacks.as_bytes(), &mut svg)
        .context("cannot draw the stacks")?;
    Ok(Ok(svg))
}

#[cfg(not(feature = "profile"))]
fn painted(title: &str, stacks: &str) -> anyhow::Result<Result<Vec<u8>, String>> {
    use std::io::{ErrorKind, Write as _};
    use std::process::{Command, Stdio};
    use std::thread;

    let painter = Command::new(PAINTER)
        .args(["--title", title, "--countname", UNIT])
        .args(["--factor", &NS_PER_PICO.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut painter = match painter {
        Ok(painter) => painter,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Err(format!(
                "no picture, as there is no {PAINTER}\n  `cargo install inferno`, or build binrush-bench with `--features \
                 profile`; the stacks are written all the same"
            )));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot start {PAINTER}")),
    };
    let mut stdin = painter.stdin.take().context("it is piped")?;
    let output = thread::scope(|scope| {
        // One that does not read to the end says why.
        scope.spawn(move || stdin.write_all(stacks.as_bytes()));
        painter.wait_with_output()
    })?;
    anyhow::ensure!(
        output.status.success(),
        "{PAINTER} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(Ok(output.stdout))
}

#[cfg(not(feature = "profile"))]
const PAINTER: &str = "inferno-flamegraph";

const UNIT: &str = "ns per packet";

/// Stacks have whole numbers, and the picture has nanoseconds.
const NS_PER_PICO: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_holds_every_frame_and_its_nanoseconds() {
        let svg = painted("a & b", "shard;turn;recv_[k] 1234567\nshard;turn 2000000\n").unwrap();
        let Ok(svg) = svg else {
            // Nobody here can draw: that was said in a sentence.
            assert!(svg.unwrap_err().contains("cargo install inferno"));
            return;
        };
        let svg = String::from_utf8(svg).unwrap();
        for words in ["<svg", "a &amp; b", "recv (1,235 ns per packet"] {
            assert!(svg.contains(words), "no {words} in {svg}");
        }
    }
}
