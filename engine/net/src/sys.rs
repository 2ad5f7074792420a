//! What the host tells and takes: one kernel concept per file.

/// Pinning a thread to a core.
pub mod affinity;
/// Sleeping until some of many descriptors are ready.
pub mod epoll;
/// Waiting for the kernel's receive path to see a change.
pub(crate) mod membarrier;
/// What the kernel counted at a socket.
pub mod meminfo;
/// What was lost before a socket was found for it.
pub mod netstat;
/// How many descriptors there may be.
pub mod nofile;
/// Sleeping until a descriptor has something.
pub(crate) mod poll;
/// Options of sockets.
pub(crate) mod sockopt;
