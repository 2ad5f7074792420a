//! BIN over TCP and TLS: what genuine nodes sent arrives packet by packet however it is cut, and peers that misbehave
//! hurt nobody but themselves.
//!
//! Every test lays three things together: what peers sent, what handlers saw, and what the engine counted. Nobody's
//! packets may be missing, every connection is closed or refused under the one reason that its peer earned, and the
//! books balance to the byte.

/// What `decode` reads in a capture is what `serve` counts of it.
mod agreement;
/// The captures' streams, cut anywhere.
mod framing;
/// Peers that do what they should not.
mod hostile;
/// What connections may cost.
mod limits;
/// What we send, and peers that do not take it.
mod links;
/// An engine on loopback that takes connections.
mod node;
/// `serve` as a process, and peers that only a process or a namespace can have.
mod process;
/// Whole engines in one thread, on connections in memory.
mod simulated;
/// Certificates, and who is let in with which.
mod tls;
/// What peers send.
mod traffic;
