//! Variables: those of a script, and what a packet or an event says.

/// A variable, its name resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Variable {
    /// `$var(name)`, by its number.
    Slot(u16),
    /// `$rc`, `$retcode`: what the last call returned.
    ReturnCode,
    /// `$param(name)`: what the event says under this name.
    Param(String),
    /// `$param(1)`, counted from 0 here.
    ParamAt(usize),
    /// What the packet says.
    Packet(Pseudo),
}

/// What a packet says of itself, and what is known of where it came from.
///
/// | written | as in OpenSIPS | value |
/// |---|---|---|
/// | `$si`, `$src_ip` | yes | source address, text |
/// | `$sp` | yes | source port, a number; written `$src_port` too, which OpenSIPS does not know |
/// | `$Ri` | yes | the address it arrived at, text; null for datagrams to a listener of all addresses of the host |
/// | `$Rp` | yes | the port it arrived at, a number |
/// | `$pr`, `$proto` | yes | `udp` for datagrams, `bin` for connections |
/// | `$ml` | yes | length of the packet in bytes, a number |
/// | `$mb` | yes | the packet itself, text; `xlog` shows what is not printable as `\xNN` |
/// | `$bin(name)` | no | name of its module or capability, text |
/// | `$bin(type)` | no | its command, a number |
/// | `$bin(version)` | no | version of its payload, a number; null in packets before 2.4, which have none |
/// | `$bin(node)` | no | the node that made it, a number; null in packets before 2.3, which do not say |
/// | `$bin(cluster)` | no | the cluster it is of, a number; likewise |
///
/// All are null where there is no packet: in startup, timer and event routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Pseudo {
    Source,
    SourcePort,
    Local,
    LocalPort,
    Protocol,
    Length,
    Bytes,
    Name,
    Command,
    Version,
    Node,
    Cluster,
}

impl Pseudo {
    /// The one that is written `$name`, or `$name(inner)`.
    pub(crate) fn named(name: &str, inner: Option<&str>) -> Option<Self> {
        Some(match (name, inner) {
            ("si" | "src_ip", None) => Self::Source,
            ("sp" | "src_port", None) => Self::SourcePort,
            ("Ri", None) => Self::Local,
            ("Rp", None) => Self::LocalPort,
            ("pr" | "proto", None) => Self::Protocol,
            ("ml", None) => Self::Length,
            ("mb", None) => Self::Bytes,
            ("bin", Some("name")) => Self::Name,
            ("bin", Some("type")) => Self::Command,
            ("bin", Some("version")) => Self::Version,
            ("bin", Some("node")) => Self::Node,
            ("bin", Some("cluster")) => Self::Cluster,
            _ => return None,
        })
    }

    /// Whether its value is a number where it has one.
    pub(crate) const fn is_number(self) -> bool {
        match self {
            Self::Source | Self::Local | Self::Protocol | Self::Bytes | Self::Name => false,
            Self::SourcePort
            | Self::LocalPort
            | Self::Length
            | Self::Command
            | Self::Version
            | Self::Node
            | Self::Cluster => true,
        }
    }

    /// Whether it is about where the packet came from or arrived.
    const fn is_of_ends(self) -> bool {
        matches!(
            self,
            Self::Source | Self::SourcePort | Self::Local | Self::LocalPort
        )
    }
}

impl Variable {
    /// Whether it can only ever be text.
    pub(crate) const fn is_text(&self) -> bool {
        matches!(self, Self::Packet(pseudo) if !pseudo.is_number())
    }

    /// Whether it is about where the packet came from or arrived.
    pub(super) const fn is_of_ends(&self) -> bool {
        matches!(self, Self::Packet(pseudo) if pseudo.is_of_ends())
    }
}

/// All that may be written behind `$`, for suggestions.
pub(crate) const VARIABLES: [&str; 19] = [
    "$var(",
    "$param(",
    "$rc",
    "$retcode",
    "$si",
    "$src_ip",
    "$sp",
    "$src_port",
    "$Ri",
    "$Rp",
    "$pr",
    "$proto",
    "$ml",
    "$mb",
    "$bin(name)",
    "$bin(type)",
    "$bin(version)",
    "$bin(node)",
    "$bin(cluster)",
];
