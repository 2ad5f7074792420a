//! The C interfaces of OpenSIPS: the BIN functions, and modules that are loaded from shared libraries.
//!
//! ```text
//!  program ─▶ libbinrush.so ─▶ bin: bin_init ─ bin_push_* ─ bin_send ─▶ UDP
//!  module.so ◀─ loader: exports ─ modparam ─ init ─▶ bin: bin_register_cb ─▶ handler of a shard ─▶ callback ─▶ bin_pop_*
//! ```

/// The layouts that C sees.
pub mod abi;
/// The BIN functions: packets that are made, sent, received.
pub mod bin;
/// Where C calls in.
mod border;
/// Callbacks of modules as handlers of the engine.
pub mod handler;
/// Modules from shared libraries.
pub mod loader;
/// Whose code a thread is in.
pub mod running;
/// Functions of modules in routing scripts.
pub mod script;
/// What else modules call: messages, memory, statistics, commands, events.
pub mod support;
