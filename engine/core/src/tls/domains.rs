//! Which domain is for which address, and how all of them are replaced at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use super::certificate::Facts;
use super::error::{TlsError, TlsProblem};
use super::trust::Trust;
use super::version::TlsVersion;
use super::watch::{Watch, Watched};
use super::{TlsDomain, authorities, identity};

/// The domains of one side, each with what is made of it (`C`, cheap to clone).
#[derive(Debug)]
pub(super) struct Domains<C> {
    /// Read once per connection, replaced as a whole; a session keeps what it began with.
    loaded: RwLock<Arc<Loaded<C>>>,
    ground: Ground,
}

#[derive(Debug)]
struct Loaded<C> {
    rows: Vec<(Vec<(IpAddr, u16)>, C)>,
    watch: Watch,
}

/// What all domains stand on.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) time: Arc<dyn TimeProvider>,
}

/// The files of one domain, read and checked.
pub(super) struct Read<'a> {
    pub(super) domain: &'a TlsDomain,
    pub(super) versions: Vec<&'static rustls::SupportedProtocolVersion>,
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) trust: Arc<Trust>,
}

/// Makes of the files of a domain what its sessions need.
pub(super) type Make<C> = fn(&Ground, Read<'_>) -> Result<C, TlsError>;

impl<C: Clone> Domains<C> {
    pub(super) fn load(
        ground: Ground,
        domains: &[TlsDomain],
        make: Make<C>,
    ) -> Result<Self, TlsError> {
        let loaded = RwLock::new(Arc::new(load(&ground, domains, make)?));
        Ok(Self { loaded, ground })
    }

    /// Replaces all, or, with an error, none.
    pub(super) fn reload(&self, domains: &[TlsDomain], make: Make<C>) -> Result<(), TlsError> {
        let loaded = Arc::new(load(&self.ground, domains, make)?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The first that is for `addr`.
    pub(super) fn of(&self, addr: SocketAddr) -> Option<C> {
        let current = self.current();
        let mut rows = current.rows.iter();
        let first = rows.find(|(addresses, _)| are_for(addresses, addr));
        first.map(|(_, made)| made.clone())
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.current().watch.warnings(self.ground.now())
    }

    fn current(&self) -> Arc<Loaded<C>> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ground {
    pub(super) fn new() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            time: Arc::new(DefaultTimeProvider),
        }
    }

    /// The time; its beginning where the host has none, so that nothing counts as expired for that.
    pub(super) fn now(&self) -> UnixTime {
        let epoch = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        self.time.current_time().unwrap_or(epoch)
    }
}

/// Whether a domain with these addresses is for `addr`.
pub(super) fn are_for(addresses: &[(IpAddr, u16)], addr: SocketAddr) -> bool {
    // A socket of both families calls an address of version 4 `::ffff:10.0.0.1`.
    let (ip, port) = (addr.ip().to_canonical(), addr.port());
    let fits = |&(for_ip, for_port): &(IpAddr, u16)| {
        for_ip.to_canonical() == ip && (for_port == 0 || for_port == port)
    };
    addresses.is_empty() || addresses.iter().any(fits)
}

fn load<C>(ground: &Ground, domains: &[TlsDomain], make: Make<C>) -> Result<Loaded<C>, TlsError> {
    if domains.is_empty() {
        return Err(TlsError::of("", TlsProblem::NoDomain));
    }
    if domains.len() > DOMAINS_MAX {
        let (what, max) = ("domains", DOMAINS_MAX);
        return Err(TlsError::of("", TlsProblem::TooMuch { what, max }));
    }
    let mut loaded = Loaded {
        rows: Vec::with_capacity(domains.len()),
        watch: Watch::default(),
    };
    for domain in domains {
        let made = make(ground, read(ground, domain, &mut loaded.watch)?)?;
        loaded.rows.push((domain.addresses.clone(), made));
    }
    Ok(loaded)
}

fn read<'a>(
    ground: &Ground,
    domain: &'a TlsDomain,
    watch: &mut Watch,
) -> Result<Read<'a>, TlsError> {
    let versions = TlsVersion::between(domain.lowest, domain.highest);
    if versions.is_empty() {
        let (lowest, highest) = (domain.lowest, domain.highest);
        let problem = TlsProblem::NoVersion { lowest, highest };
        return Err(TlsError::of(&domain.name, problem));
    }
    let identity = identity::load(domain)?;
    for certificate in identity.iter().flat_map(|identity| &identity.cert) {
        if let Ok(facts) = Facts::of(certificate) {
            let path = domain.certificate.display();
            watch.add(Watched {
                domain: domain.name.clone(),
                what: format!("our certificate {:?} in {path}", facts.subject),
                not_before: Some(facts.not_before),
                not_after: facts.not_after,
            });
        }
    }
    let trust = authorities::load(domain, &ground.provider, ground.now(), watch)?;
    Ok(Read {
        domain,
        versions,
        identity,
        trust: Arc::new(trust),
    })
}

/// Domains of one side.
const DOMAINS_MAX: usize = 64;
