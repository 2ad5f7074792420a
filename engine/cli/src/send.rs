//! `binrush send`: one packet onto the wire.

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;

use anyhow::{Context as _, bail};
use binrush_wire::schema::{self, Message};
use binrush_wire::{Builder, Generation, MAX_PACKET_LEN, Packet, Trailer};

use crate::line::{unhex, usual_version};
use stream::{REFUSAL_WAIT, Receiver, Terms};

/// Packets over a connection.
pub(crate) mod stream;

/// Send one packet: over UDP as 1.x nodes do, over TCP or TLS as later ones do
///
/// Example: binrush send --to udp:127.0.0.1:5566 ul 1 str:location str:alice
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Receiver; IPv6 in brackets.
    #[arg(long, value_name = "udp:IP:PORT|tcp:IP:PORT|tls:IP:PORT")]
    to: Target,

    #[command(flatten)]
    terms: Terms,

    /// What the receiver speaks [default: 1.x over UDP, 2.3+ over TCP and TLS].
    #[arg(long, value_name = "1.x|2.2|2.3+")]
    generation: Option<Generation>,

    /// Version in the packet's header (2.2 and later) [default: the newest of the known type, else 1].
    #[arg(long, allow_negative_numbers = true)]
    version: Option<i16>,

    /// Cluster, source and destination id at the end of the packet (2.3+).
    #[arg(long, value_name = "C,S,D", value_parser = trailer, allow_hyphen_values = true)]
    trailer: Option<Trailer>,

    /// Module or capability.
    name: String,

    /// Type (command), by number or by the name of a known one (CREATED).
    #[arg(value_name = "TYPE", allow_negative_numbers = true)]
    kind: String,

    /// Fields in order: str:TEXT, int:NUMBER, hex:DIGITS (a string of those bytes).
    #[arg(value_name = "str:..|int:..|hex:..")]
    fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Udp(SocketAddr),
    Stream(Receiver),
}

#[derive(Debug, Clone)]
enum Field {
    Str(Vec<u8>),
    Int(i32),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut buffer = vec![0; MAX_PACKET_LEN];
    let packet = build(args, &mut buffer)?;
    match args.to {
        Target::Udp(to) => {
            args.terms.check(false)?;
            send_udp(to, args.terms.bind, packet)?;
        }
        Target::Stream(to) => {
            args.terms.check(to.tls)?;
            stream::send(to, &args.terms, packet)?;
        }
    }
    writeln!(io::stdout(), "sent {} bytes to {}", packet.len(), args.to)?;
    Ok(ExitCode::SUCCESS)
}

fn build<'b>(args: &Args, buffer: &'b mut [u8]) -> anyhow::Result<&'b [u8]> {
    let generation = match (args.to, args.generation) {
        (Target::Udp(_), None | Some(Generation::Legacy)) => Generation::Legacy,
        (Target::Udp(_), Some(other)) => bail!("{other} goes over TCP: --to tcp:IP:PORT"),
        (Target::Stream(_), Some(Generation::Legacy)) => {
            bail!("1.x goes over UDP: --to udp:IP:PORT")
        }
        (Target::Stream(_), generation) => generation.unwrap_or(Generation::Modern),
    };
    let name = args.name.as_bytes();
    let command = command(generation, name, &args.kind)?;
    if generation == Generation::Legacy && args.version.is_some() {
        bail!("packets of 1.x have no version: drop --version");
    }
    let version = args
        .version
        .unwrap_or_else(|| usual_version(generation, name, command));
    let mut builder = Builder::new(generation, buffer, name, command, version)?;
    for (i, field) in args.fields.iter().enumerate() {
        match field {
            Field::Str(bytes) => builder.push_str(bytes),
            Field::Int(int) => builder.push_int(*int),
        }
        .with_context(|| format!("field {}", i + 1))?;
    }
    match args.trailer {
        Some(_) if generation != Generation::Modern => {
            bail!("only packets of 2.3 and later have a trailer: drop --trailer")
        }
        Some(trailer) => builder.push_trailer(trailer)?,
        None => {}
    }
    let packet = builder.finish();
    if let Err(error) = Packet::parse(generation, packet) {
        bail!("no node would take this packet: {error}");
    }
    Ok(packet)
}

/// A type by number, or by the name it has in the newest release of the generation that sends it.
fn command(generation: Generation, name: &[u8], kind: &str) -> anyhow::Result<i32> {
    if let Ok(command) = kind.parse::<i64>() {
        return i32::try_from(command)
            .with_context(|| format!("type {command} is not a 32-bit number"));
    }
    let known = schema::capability(name).map_or(&[][..], |capability| capability.messages);
    let spoken = |message: &&Message| message.spoken_in(generation);
    let messages: Vec<_> = known.iter().filter(spoken).collect();
    match messages
        .iter()
        .find(|message| message.name.eq_ignore_ascii_case(kind))
    {
        Some(message) => Ok(message.command),
        None if messages.is_empty() => {
            bail!("type \"{kind}\": give its number, the name is not a known one")
        }
        None => {
            let mut names: Vec<_> = messages.iter().map(|message| message.name).collect();
            names.sort_unstable();
            names.dedup();
            bail!(
                "type \"{kind}\" is not known; there are {}",
                names.join(", ")
            )
        }
    }
}

fn send_udp(to: SocketAddr, from: Option<IpAddr>, packet: &[u8]) -> anyhow::Result<()> {
    let from = from.unwrap_or_else(|| match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    });
    let socket = UdpSocket::bind((from, 0)).with_context(|| format!("cannot send from {from}"))?;
    socket
        .connect(to)
        .with_context(|| format!("cannot reach udp:{to}"))?;
    socket
        .send(packet)
        .with_context(|| format!("cannot send to udp:{to}"))?;
    // UDP has no answer, but the kernel tells when nobody listens on this or a near machine.
    thread::sleep(REFUSAL_WAIT);
    match socket.take_error()? {
        Some(error) => Err(error).with_context(|| format!("nobody listens on udp:{to}")),
        None => Ok(()),
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.split_once(':') {
            Some(("udp", addr)) => addr.parse().map(Self::Udp).ok(),
            Some((transport @ ("tcp" | "tls"), addr)) => {
                let tls = transport == "tls";
                let to = |addr| Self::Stream(Receiver { tls, addr });
                addr.parse().map(to).ok()
            }
            _ => None,
        };
        parsed.ok_or_else(|| {
            "udp:IP:PORT or tcp:IP:PORT, such as udp:127.0.0.1:5566; tls:IP:PORT for bins"
                .to_owned()
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(to) => write!(f, "udp:{to}"),
            Self::Stream(to) => to.fmt(f),
        }
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("str", value)) => Ok(Self::Str(value.into())),
            Some(("int", value)) => value
                .parse()
                .map(Self::Int)
                .map_err(|error| format!("\"{value}\": {error}")),
            Some(("hex", value)) => unhex(value)
                .map(Self::Str)
                .map_err(|error| error.to_string()),
            _ => Err("a field is str:TEXT, int:NUMBER or hex:DIGITS".to_owned()),
        }
    }
}

fn trailer(text: &str) -> Result<Trailer, String> {
    let ids: Result<Vec<i32>, _> = text.split(',').map(|id| id.trim().parse()).collect();
    match ids.as_deref() {
        Ok(&[cluster, source, dest]) => Ok(Trailer::new(cluster, source, dest)),
        _ => Err("three numbers: cluster,source,destination".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_by_number_or_name() {
        let (legacy, modern) = (Generation::Legacy, Generation::Modern);
        assert_eq!(command(legacy, b"dialog", "updated").unwrap(), 2);
        assert_eq!(command(modern, b"clusterer-extra", "SYNC").unwrap(), 11);
        assert_eq!(command(modern, b"mine", "-7").unwrap(), -7);
        let error = command(legacy, b"ul", "CREATED").unwrap_err().to_string();
        assert!(error.contains("AOR_INSERT"), "{error}");
        let error = command(legacy, b"dialog", "PROFILES")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("UPDATED") && !error.contains("PROFILES,"),
            "{error}"
        );
        let error = command(legacy, b"ul", "99999999999")
            .unwrap_err()
            .to_string();
        assert!(error.contains("32-bit"), "{error}");
    }

    #[test]
    fn fields_and_trailers_say_their_form() {
        assert!("text".parse::<Field>().unwrap_err().contains("str:TEXT"));
        assert!("int:x".parse::<Field>().unwrap_err().contains('x'));
        assert!(
            trailer("1,2")
                .unwrap_err()
                .contains("cluster,source,destination")
        );
        assert_eq!(trailer("1, 2,-1"), Ok(Trailer::new(1, 2, -1)));
    }
}
