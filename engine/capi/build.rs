//! Gives the shared library its name for loaders: who is linked with it finds this major version at run time, and no other.
use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let major = env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo tells it");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libbinrush.so.{major}");
}
