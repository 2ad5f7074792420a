//! Writes the seeds of the fuzz targets: `seed DIRECTORY` fills `DIRECTORY/<target>/`.
//!
//! Here and not among the fuzz targets, so that it needs neither nightly nor libFuzzer and cannot rot unseen.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::{env, fs, io};

use binrush_tests::fuzz::seeds;

fn main() -> io::Result<()> {
    let Some(corpus) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: seed DIRECTORY"));
    };
    for seed in seeds::all() {
        let directory = corpus.join(seed.target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(seed.name), seed.bytes)?;
    }
    Ok(())
}
