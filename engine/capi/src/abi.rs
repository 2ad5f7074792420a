//! The layouts that C sees.

/// Strings, addresses, packets.
pub mod base;
/// What a module exports.
pub mod module;
