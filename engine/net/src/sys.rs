//! What the host tells and takes: one kernel concept per file.

/// Pinning a thread to a core.
pub mod affinity;
/// What the kernel counted at a socket.
pub mod meminfo;
