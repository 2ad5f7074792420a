//! What else modules call: messages, memory, statistics, commands, events.
//!
//! All of it is of the process, as the functions of C are: whose code calls is known by [`running`](crate::running). Memory
//! that goes over the border is that of malloc(3) and free(3) in both directions, which is what `pkg_malloc` and
//! `shm_malloc` of the headers are.

/// Time since the start.
pub mod clock;
/// Events that modules raise.
pub mod events;
/// Parameters of script functions.
pub mod fixups;
/// Functions and parameters that modules find in each other.
pub mod functions;
/// Lines for the log.
pub mod log;
/// Commands and their answers.
pub mod mi;
/// Statistics.
pub mod statistics;
/// Texts of C.
mod text;
/// Timers of modules.
pub mod timers;

pub(crate) use text::{Line, bytes, ended};
