//! Everything that crosses a crate, a process or a socket: one binary, many modules.
#![forbid(unsafe_code)]

/// All that tells counts tells the same.
mod agreement;
/// One packet, read by the fast decoder and by the slow one.
mod both;
/// The captures of genuine nodes, packet by packet.
mod captures;
/// A seat in a cluster.
mod cluster;
/// Receivers beside each other.
mod compare;
/// The command reads configurations.
mod config;
/// The command reads captures, and writes them again.
mod decode;
/// The command shows traffic arriving.
mod demo;
/// Choices from a seed.
mod dice;
/// A failover, rehearsed by the command.
mod drill;
/// What outlives the process.
mod durable;
/// `serve` tells what happens, in datagrams.
mod events;
/// What befalls packets on their way is told exactly.
mod faults;
/// Sockets that outlive the process.
mod handover;
/// The command is watched over HTTP.
mod http;
/// The command makes configurations of those of OpenSIPS.
mod import;
/// Scenarios are learned from captures.
mod learn;
/// Records of early releases, in an engine.
mod legacy;
/// How `serve` starts and ends.
mod lifecycle;
/// Loads, and both ends laid together.
mod load;
/// Packets and captures made for one test.
mod made;
/// Modules from shared libraries, in a server.
mod modules;
/// A slow, obvious decoder, written apart from the fast one.
mod oracle;
/// The Debian package, the unit and the examples.
mod package;
/// `serve` measures what was stamped.
mod probe;
/// The command as a process.
mod process;
/// Where the time goes.
mod profile;
/// What must hold for any bytes.
mod properties;
/// `serve` as a process.
mod receiver;
/// What genuine packets do to records, and records as genuine packets.
mod records;
/// What is not taken, and how that is told.
mod refusals;
/// `serve` sends on what it accepted.
mod relay;
/// `serve` is given another configuration.
mod reload;
/// Every row of the schema, against the slow decoder.
mod schemas;
/// The command runs routes.
mod script;
/// The command sends and receives.
mod send_serve;
/// The generator and its sinks.
mod sender;
/// Records spread over shards.
mod shards;
/// Whole engines in one thread, from a seed.
mod simulation;
/// The command shows and compares what nodes hold.
mod state;
/// The kernel's steering against that of user space.
mod steering;
/// Connections: streams as they come, and peers that misbehave.
mod streams;
/// Handlers that change under load.
mod swaps;
/// What the sources themselves must keep to.
mod tidy;
/// What genuine nodes sent, for nodes of other releases.
mod translate;
/// What is in the way of a run, and commands that are programs.
mod tune;
/// The golden packets.
mod vectors;
/// The examples of OpenSIPS's manuals, started as they are.
mod verbatim;
