//! TLS for those we connect to.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::domains::{Domains, Ground, Read};
use super::error::{TlsError, TlsProblem};
use super::failure::TlsFailure;
use super::session::Session;
use super::trust::Verifier;
use super::{TlsDomain, identity};

/// Client domains, ready for sessions. Shared between threads; a reload does not disturb them.
#[derive(Debug)]
pub struct ClientTls {
    domains: Domains<Configs>,
    /// See [`Session::wear_after`].
    #[cfg(test)]
    pub(crate) records_max: Option<u64>,
}

#[derive(Debug, Clone)]
struct Configs {
    /// The certificate has to be signed by who is trusted, whatever names are in it.
    any_name: Arc<ClientConfig>,
    /// And has to have the name that is asked for.
    named: Arc<ClientConfig>,
}

impl ClientTls {
    /// Reads and checks the files of all `domains`, at most 64. One that names neither certificate nor key shows
    /// none.
    ///
    /// # Errors
    /// The first file or rule that cannot be used, and what to do about it.
    pub fn load(domains: &[TlsDomain]) -> Result<Self, TlsError> {
        let domains = Domains::load(Ground::new(), domains, make)?;
        Ok(Self {
            domains,
            #[cfg(test)]
            records_max: None,
        })
    }

    /// Reads all anew and takes it for the sessions to come; those that are up go on with what they began with.
    ///
    /// # Errors
    /// As [`load`](Self::load), and then everything stays as it was.
    pub fn reload(&self, domains: &[TlsDomain]) -> Result<(), TlsError> {
        self.domains.reload(domains, make)
    }

    /// A session for a connection to `to`, by whose address its domain is chosen. The first part of the handshake is
    /// ready to [`transmit`](Session::transmit).
    ///
    /// `name`, a DNS name or an IP address, has to be among the certificate's names (subjectAltName), where the domain
    /// verifies; a DNS name is also sent (SNI). Without one whoever is trusted may have signed for any name: OpenSIPS
    /// looks at no names either, and certificates of its nodes seldom have their addresses in them. Then whoever has
    /// any certificate of that CA can answer for every node, so a CA of the cluster's own, a name or a pin is in order.
    ///
    /// # Errors
    /// [`TlsFailure::NoDomain`], that `name` cannot be one, or that the kernel gave no random numbers.
    pub fn connect(&self, to: SocketAddr, name: Option<&str>) -> Result<Session, TlsFailure> {
        let configs = self.domains.of(to).ok_or(TlsFailure::NoDomain(to))?;
        let (config, name) = match name {
            None => (configs.any_name, ServerName::from(to.ip().to_canonical())),
            Some(name) => match ServerName::try_from(name.to_owned()) {
                Ok(name) => (configs.named, name),
                Err(_) => {
                    let words = format!("{name:?} is neither a DNS name nor an IP address");
                    return Err(TlsFailure::WrongName(words));
                }
            },
        };
        let session = Session::client(ClientConnection::new(config, name)?);
        #[cfg(test)]
        let session = self.worn_early(session);
        Ok(session)
    }

    #[cfg(test)]
    fn worn_early(&self, mut session: Session) -> Session {
        if let Some(records) = self.records_max {
            session.wear_after(records);
        }
        session
    }

    /// What works now and may not be meant, or ends soon; as [`ServerTls::warnings`](super::ServerTls::warnings).
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.domains.warnings()
    }
}

fn make(ground: &Ground, read: Read<'_>) -> Result<Configs, TlsError> {
    Ok(Configs {
        any_name: config(ground, &read, false)?,
        named: config(ground, &read, true)?,
    })
}

fn config(ground: &Ground, read: &Read<'_>, names: bool) -> Result<Arc<ClientConfig>, TlsError> {
    let refused = |error: rustls::Error| {
        TlsError::of(&read.domain.name, TlsProblem::Refused(error.to_string()))
    };
    let verifier = Verifier {
        trust: Arc::clone(&read.trust),
        names,
    };
    let builder =
        ClientConfig::builder_with_details(Arc::clone(&ground.provider), Arc::clone(&ground.time))
            .with_protocol_versions(&read.versions)
            .map_err(refused)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &read.identity {
        Some(identity) => builder.with_client_cert_resolver(identity::resolver(identity)),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
