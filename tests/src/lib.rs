//! What the test binary (`it/`) and the fuzz targets (`fuzz/`) share.
#![forbid(unsafe_code)]

/// Traffic recorded from genuine OpenSIPS nodes, and what others made of it.
pub mod captures;
/// The bodies of the fuzz targets, so that plain tests run them too.
pub mod fuzz;
