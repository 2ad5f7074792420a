//! The `binrush` that is measured: a program, as users run it.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use binrush_net::{UdpOptions, UdpSocket};

use crate::process::Process;

/// The binrush to measure.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) path: PathBuf,
    /// In its own words.
    pub(crate) version: String,
}

impl Engine {
    /// The one named, or the one beside this program.
    pub(crate) fn find(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = engine(named)?;
        let mut process = Process::start("binrush --version", &path, &["--version".into()])?;
        let version = process.line()?;
        Ok(Self { path, version })
    }
}

/// Where the `binrush` to measure is.
fn engine(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => env::current_exe()
            .context("cannot find binrush-bench itself")?
            .with_file_name("binrush"),
    };
    ensure!(
        path.is_file(),
        "there is no binrush at {}\n  build both with `cargo build --release --workspace`, or name it with `--engine \
         PATH`, or measure without one",
        path.display()
    );
    // With a slash, so that it is not looked for elsewhere.
    std::path::absolute(&path).context("cannot tell where binrush is")
}

/// What the kernel grants who asks for `asked` bytes of receive buffer. It is the same for our children.
pub(crate) fn granted(asked: usize) -> anyhow::Result<usize> {
    let options = UdpOptions {
        rcvbuf: Some(asked),
        ..UdpOptions::default()
    };
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket =
        UdpSocket::bind(free, &options).context("cannot open a UDP socket on 127.0.0.1")?;
    Ok(socket.rcvbuf()?.min(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_engine_is_told_with_what_to_do() {
        let error = engine(Some(Path::new("/nonexistent/binrush"))).unwrap_err();
        let text = error.to_string();
        for word in [
            "/nonexistent/binrush",
            "cargo build --release --workspace",
            "--engine",
        ] {
            assert!(text.contains(word), "{text}");
        }
    }
}
