//! What a module exports.
