//! Everything that crosses a crate, a process or a socket: one binary, many modules.
#![forbid(unsafe_code)]

/// One packet, read by the fast decoder and by the slow one.
mod both;
/// The captures of genuine nodes, packet by packet.
mod captures;
/// The command reads captures, and writes them again.
mod decode;
/// The command shows traffic arriving.
mod demo;
/// Choices from a seed.
mod dice;
/// Packets and captures made for one test.
mod made;
/// A slow, obvious decoder, written apart from the fast one.
mod oracle;
/// The command as a process.
mod process;
/// What must hold for any bytes.
mod properties;
/// Every row of the schema, against the slow decoder.
mod schemas;
/// The command sends and receives.
mod send_serve;
/// What the sources themselves must keep to.
mod tidy;
/// The golden packets.
mod vectors;
