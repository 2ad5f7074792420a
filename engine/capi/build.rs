//! Gives the shared library its name for loaders: who is linked with it finds this major version at run time, and no other. Tests
//! export the functions of C.
use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Modules that a test loads find our functions in the test's executable, as they find them in the server's.
    println!("cargo::rustc-link-arg-tests=-rdynamic");
    let major = env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo tells it");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libbinrush.so.{major}");
}
