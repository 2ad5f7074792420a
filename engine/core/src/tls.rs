//! TLS sessions without sockets: ciphertext in, plaintext out, and the other way round.
//!
//! Who reads and writes the socket is not known here, so sessions run in a shard, in the thread that accepts, and in a
//! simulation alike. The protocol is rustls's: TLS 1.2 and 1.3.
//!
//! ```text
//!   TlsDomain ─▶ files: certificate, key, CAs, revocation lists ─▶ identity, trust ─┬─▶ ServerTls::accept  ─┐
//!                read and checked as a whole, or an error that names the file       └─▶ ClientTls::connect ─┴▶ Session
//!                reload: the same anew; sessions that are up keep what they have
//! ```
//!
//! The other side is asked for its certificate and has to be signed by who is trusted, in both directions, unless a
//! domain says otherwise. What goes wrong with it is a [`TlsFailure`](crate::tls::TlsFailure); what is wrong with our own
//! files, a [`TlsError`](crate::tls::TlsError).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Whom a domain trusts, read from its files.
mod authorities;
/// What a certificate says of itself.
mod certificate;
/// Those we connect to.
mod client;
/// Which domain is for which address.
mod domains;
/// What is wrong with our files.
mod error;
/// Why a session ended.
mod failure;
/// Files, read with bounds.
mod files;
/// Who we are.
mod identity;
/// Who was revoked.
mod revocation;
/// Those who connect to us.
mod server;
/// One connection's TLS.
mod session;
/// Who the other side may be.
mod trust;
/// Versions.
mod version;
/// What ends soon, or may not be meant.
mod watch;

/// Certificates for tests.
#[cfg(test)]
pub(crate) mod mint;
#[cfg(test)]
mod tests;

pub use client::ClientTls;
pub use error::{TlsError, TlsProblem};
pub use failure::TlsFailure;
pub use server::ServerTls;
pub use session::{PeerIdentity, Received, SEND_MAX, Session};
pub use version::TlsVersion;

/// Files and rules of TLS, as `tls_mgm` of OpenSIPS has them in its domains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// What is shown to who connects, each for some of our addresses; the first that fits counts.
    pub server: Vec<TlsDomain>,
    /// What is shown to those we connect to; the first that fits counts.
    pub client: Vec<TlsDomain>,
}

/// A domain of `tls_mgm`: one identity, and who is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsDomain {
    /// Its name in the configuration.
    pub name: String,
    /// Addresses it is for (`match_ip_address`): ours for a server domain, theirs for a client one; empty: any. A
    /// port of 0 is any port.
    pub addresses: Vec<(IpAddr, u16)>,
    /// PEM: our certificate and those between it and the CA (`certificate`). A client domain may leave this and
    /// `private_key` empty, and shows none then.
    pub certificate: PathBuf,
    /// PEM: its private key, PKCS#8, PKCS#1 or SEC1, not encrypted (`private_key`).
    pub private_key: PathBuf,
    /// PEM: who may have signed the other side's certificate (`ca_list`).
    pub ca_list: Option<PathBuf>,
    /// A folder of such files (`ca_dir`).
    pub ca_dir: Option<PathBuf>,
    /// A folder of revocation lists, PEM or DER (`crl_dir`). Who is on none of them is not revoked. Of two about
    /// the same certificates the newer counts; one that counts and is past its time is an error, and one that comes to be
    /// so refuses those it is about.
    pub crl_dir: Option<PathBuf>,
    /// Whether the certificates between are looked up too (`crl_check_all`).
    pub crl_check_all: bool,
    /// Whether the other side's certificate has to be signed by who is trusted, and in its time (`verify_cert`); true
    /// unless said. Without, any certificate will do whose key the other side has, and which the pins allow.
    pub verify: bool,
    /// Whether a client has to show one (`require_cert`); true unless said. As in `tls_mgm` that counts only together
    /// with `verify`; where keys are pinned, it has to in any case.
    pub require: bool,
    /// Lowest version (`tls_method`).
    pub lowest: TlsVersion,
    /// Highest version (`tls_method`).
    pub highest: TlsVersion,
    /// SHA-256 digests of public keys (SubjectPublicKeyInfo, RFC 7469 2.4) of which the other side's certificate has to
    /// have one; empty: any.
    pub pins: Vec<[u8; 32]>,
}

impl TlsDomain {
    /// Whether it is for connections between `addr`, ours or theirs, and us.
    #[must_use]
    pub fn is_for(&self, addr: SocketAddr) -> bool {
        domains::are_for(&self.addresses, addr)
    }
}
