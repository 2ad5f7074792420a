//! Writes anew what becomes of each message between releases: `cargo run -p binrush-store --example translation_table`.
#![forbid(unsafe_code)]

use std::{fs, io};

use binrush_store::translate;

fn main() -> io::Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/TRANSLATION.md");
    fs::write(file, translate::table())?;
    println!("{file} is written");
    Ok(())
}
