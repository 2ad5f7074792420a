//! Versions of TLS.

use std::fmt;

use rustls::{ProtocolVersion, SupportedProtocolVersion};

/// A version of TLS that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

impl TlsVersion {
    pub(super) const fn of_rustls(version: ProtocolVersion) -> Option<Self> {
        match version {
            ProtocolVersion::TLSv1_2 => Some(Self::V1_2),
            ProtocolVersion::TLSv1_3 => Some(Self::V1_3),
            _ => None,
        }
    }

    /// Those from `lowest` to `highest`, as rustls names them; none when the two are the wrong way round.
    pub(super) fn between(lowest: Self, highest: Self) -> Vec<&'static SupportedProtocolVersion> {
        [
            (Self::V1_3, &rustls::version::TLS13),
            (Self::V1_2, &rustls::version::TLS12),
        ]
        .into_iter()
        .filter(|(version, _)| (lowest..=highest).contains(version))
        .map(|(_, supported)| supported)
        .collect()
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V1_2 => "TLS 1.2",
            Self::V1_3 => "TLS 1.3",
        })
    }
}
