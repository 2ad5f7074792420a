//! Everything that crosses a crate, a process or a socket: one binary, many modules.
#![forbid(unsafe_code)]

/// The captures of genuine nodes, packet by packet.
mod captures;
/// A slow, obvious decoder, written apart from the fast one.
mod oracle;
/// What must hold for any bytes.
mod properties;
/// The golden packets.
mod vectors;
