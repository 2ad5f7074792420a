//! TLS for those who connect to us.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};

use super::domains::{Domains, Ground, Read};
use super::error::{TlsError, TlsProblem};
use super::failure::TlsFailure;
use super::session::Session;
use super::trust::Verifier;
use super::{TlsDomain, identity};

/// Server domains, ready for sessions. Shared between threads; a reload does not disturb them.
#[derive(Debug)]
pub struct ServerTls {
    domains: Domains<Arc<ServerConfig>>,
}

impl ServerTls {
    /// Reads and checks the files of all `domains`, at most 64.
    ///
    /// # Errors
    /// The first file or rule that cannot be used, and what to do about it.
    pub fn load(domains: &[TlsDomain]) -> Result<Self, TlsError> {
        Self::load_on(Ground::new(), domains)
    }

    pub(super) fn load_on(ground: Ground, domains: &[TlsDomain]) -> Result<Self, TlsError> {
        let domains = Domains::load(ground, domains, make)?;
        Ok(Self { domains })
    }

    /// Reads all anew and takes it for the sessions to come; those that are up, handshakes included, go on with what
    /// they began with.
    ///
    /// # Errors
    /// As [`load`](Self::load), and then everything stays as it was.
    pub fn reload(&self, domains: &[TlsDomain]) -> Result<(), TlsError> {
        self.domains.reload(domains, make)
    }

    /// A session for a connection that came to our address `local`, as getsockname(2) tells it: by that its domain is
    /// chosen, and not by the name that a client asks for (SNI), which genuine nodes do not send.
    ///
    /// # Errors
    /// [`TlsFailure::NoDomain`], or that the kernel gave no random numbers.
    pub fn accept(&self, local: SocketAddr) -> Result<Session, TlsFailure> {
        let config = self.domains.of(local).ok_or(TlsFailure::NoDomain(local))?;
        Ok(Session::server(ServerConnection::new(config)?))
    }

    /// Whether there is a domain for our address `local`.
    #[must_use]
    pub fn covers(&self, local: SocketAddr) -> bool {
        self.domains.of(local).is_some()
    }

    /// What works now and may not be meant, or ends soon: certificates and revocation lists that expire or did, files
    /// that were passed over, domains that take anybody. At most 100, those of the nearest end first.
    ///
    /// A matter of the clock too, so whoever runs for months asks again: once a day, and tells what was not in the last
    /// answer. What ends soon says in how many days, so it is told each day.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.domains.warnings()
    }
}

fn make(ground: &Ground, read: Read<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let name = &read.domain.name;
    let Some(identity) = read.identity else {
        return Err(TlsError::of(name, TlsProblem::NoIdentity));
    };
    let verifier = Verifier {
        trust: read.trust,
        names: false,
    };
    let mut config =
        ServerConfig::builder_with_details(Arc::clone(&ground.provider), Arc::clone(&ground.time))
            .with_protocol_versions(&read.versions)
            .map_err(|error| TlsError::of(name, TlsProblem::Refused(error.to_string())))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(identity::resolver(&identity));
    // Connections last for days, so resumption would save nothing, and cost memory for each.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
