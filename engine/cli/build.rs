//! Has the executable export what modules from shared libraries call: what the library for C exports, and nothing else.
//!
//! Rust keeps such functions in an executable, also through link-time optimisation; the linker has to be told that whoever is loaded
//! later may find them (`--dynamic-list`, ld(1)).
#![forbid(unsafe_code)]

use std::env;
use std::path::Path;

fn main() {
    let own = env::var("CARGO_MANIFEST_DIR").expect("cargo tells it");
    let list = Path::new(&own).join("../capi/exports.list");
    println!("cargo::rerun-if-changed={}", list.display());
    println!(
        "cargo::rustc-link-arg-bins=-Wl,--dynamic-list={}",
        list.display()
    );
}
