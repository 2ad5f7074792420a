//! The receivers that are ours to start.

use clap::ValueEnum;

use crate::target::Transport;

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A loop that only receives, with the engine's socket options: what the kernel costs.
    Raw,
    /// The same with 100 ns of work per packet: shows that the meter sees it.
    Delayed,
    /// What a 1.x node does with a packet.
    Classic,
    /// `binrush serve`, by recvmmsg, callbacks empty.
    Engine,
    /// `binrush serve`, by `io_uring`, callbacks empty.
    #[value(name = "engine-io_uring")]
    EngineUring,
    /// Receives, and audits the stamps of every packet.
    Sink,
    /// The same for a stream.
    #[value(name = "sink-tcp")]
    SinkTcp,
    /// A loop that only reads a stream: what the kernel costs.
    #[value(name = "raw-tcp")]
    RawTcp,
    /// What a 3.x node does with a stream.
    #[value(name = "classic-tcp")]
    ClassicTcp,
    /// `binrush serve`, streams by recv, callbacks empty.
    #[value(name = "engine-tcp")]
    EngineTcp,
    /// `binrush serve`, streams by `io_uring`, callbacks empty.
    #[value(name = "engine-tcp-io_uring")]
    EngineTcpUring,
    /// A loop that only reads a stream inside TLS: what the kernel and rustls cost.
    #[value(name = "raw-tls")]
    RawTls,
    /// `binrush serve`, streams inside TLS by recv, callbacks empty.
    #[value(name = "engine-tls")]
    EngineTls,
    /// `binrush serve`, streams inside TLS by `io_uring`, callbacks empty.
    #[value(name = "engine-tls-io_uring")]
    EngineTlsUring,
}

impl Kind {
    /// Its name on the command line and in reports.
    pub(crate) fn symbol(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }

    /// Whether it is a `binrush serve`.
    pub(crate) const fn is_engine(self) -> bool {
        match self {
            Self::Engine
            | Self::EngineUring
            | Self::EngineTcp
            | Self::EngineTcpUring
            | Self::EngineTls
            | Self::EngineTlsUring => true,
            Self::Raw | Self::Delayed | Self::Classic | Self::Sink => false,
            Self::SinkTcp | Self::RawTcp | Self::ClassicTcp | Self::RawTls => false,
        }
    }

    /// How it receives.
    pub(crate) const fn backend(self) -> &'static str {
        match self {
            Self::Raw | Self::Delayed | Self::Engine | Self::Sink => "recvmmsg",
            Self::Classic => "recvfrom",
            Self::EngineUring | Self::EngineTcpUring | Self::EngineTlsUring => "io_uring",
            Self::SinkTcp | Self::RawTcp | Self::ClassicTcp | Self::RawTls => "recv",
            Self::EngineTcp | Self::EngineTls => "recv",
        }
    }

    /// Whether all it does is to audit stamps.
    pub(crate) const fn is_sink(self) -> bool {
        matches!(self, Self::Sink | Self::SinkTcp)
    }

    /// Whether it is measured by streams and not by datagrams.
    pub(crate) const fn is_stream(self) -> bool {
        match self {
            Self::SinkTcp | Self::RawTcp | Self::ClassicTcp => true,
            Self::EngineTcp | Self::EngineTcpUring => true,
            Self::Raw | Self::Delayed | Self::Classic | Self::Sink => false,
            Self::Engine | Self::EngineUring => false,
            Self::RawTls | Self::EngineTls | Self::EngineTlsUring => true,
        }
    }

    /// Whether its streams are inside TLS.
    pub(crate) const fn is_tls(self) -> bool {
        matches!(self, Self::RawTls | Self::EngineTls | Self::EngineTlsUring)
    }

    /// The one that does the same with streams; `None` where there is none.
    pub(crate) const fn for_streams(self) -> Option<Self> {
        match self {
            Self::Raw | Self::RawTcp | Self::RawTls => Some(Self::RawTcp),
            Self::Classic | Self::ClassicTcp => Some(Self::ClassicTcp),
            Self::Sink | Self::SinkTcp => Some(Self::SinkTcp),
            Self::Engine | Self::EngineTcp | Self::EngineTls => Some(Self::EngineTcp),
            Self::EngineUring | Self::EngineTcpUring | Self::EngineTlsUring => {
                Some(Self::EngineTcpUring)
            }
            Self::Delayed => None,
        }
    }

    /// The one that does the same with streams inside TLS; `None` where there is none.
    pub(crate) const fn for_tls(self) -> Option<Self> {
        match self.for_streams() {
            Some(Self::RawTcp) => Some(Self::RawTls),
            Some(Self::EngineTcp) => Some(Self::EngineTls),
            Some(Self::EngineTcpUring) => Some(Self::EngineTlsUring),
            _ => None,
        }
    }

    /// What it takes.
    pub(crate) const fn transport(self) -> Transport {
        if self.is_stream() {
            Transport::Tcp
        } else {
            Transport::Udp
        }
    }

    /// A 1.x node knows nothing of trains.
    pub(crate) const fn can_gro(self) -> bool {
        !matches!(self, Self::Classic) && !self.is_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counterparts_take_what_they_are_for_and_are_their_own() {
        for kind in Kind::value_variants() {
            if let Some(tcp) = kind.for_streams() {
                assert!(tcp.is_stream() && !tcp.is_tls());
                assert_eq!(tcp.for_streams(), Some(tcp));
                assert_eq!(tcp.is_engine(), kind.is_engine());
            }
            if let Some(tls) = kind.for_tls() {
                assert!(tls.is_stream() && tls.is_tls());
                assert_eq!(
                    (tls.for_tls(), tls.is_engine()),
                    (Some(tls), kind.is_engine())
                );
                assert_eq!(tls.backend(), tls.for_streams().unwrap().backend());
            }
            // Whoever is measured by streams has a name that says so.
            let says = ["-tcp", "-tls"]
                .iter()
                .any(|word| kind.symbol().contains(word));
            assert_eq!(kind.is_stream(), says, "{kind:?}");
        }
    }
}
