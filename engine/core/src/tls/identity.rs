//! Who we are: a certificate, those between it and the CA, and the key.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys};

use super::TlsDomain;
use super::error::{TlsError, TlsProblem};
use super::files::Files;

/// What a domain shows; `None` when it names neither certificate nor key.
///
/// Checked: each certificate can be read, and the key is that of the first.
pub(super) fn load(domain: &TlsDomain) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
    let (certificate, key) = (&*domain.certificate, &*domain.private_key);
    let files = Files {
        domain: &domain.name,
    };
    match (is_named(certificate), is_named(key)) {
        (true, true) => {}
        (false, false) => return Ok(None),
        _ => return Err(TlsError::of(&domain.name, TlsProblem::HalfIdentity)),
    }
    let chain = files.certificates(certificate)?;
    check_chain(&chain).map_err(|problem| files.problem(certificate, problem))?;
    let bad_key = |error: Error| files.problem(key, TlsProblem::BadKey(in_words(&error)));
    // By reference, unlike the provider's own loader, which would keep what it was given until the allocator reuses it.
    let signer = any_supported_type(&*files.key(key)?).map_err(bad_key)?;
    let identity = CertifiedKey::new(chain, signer);
    match identity.keys_match() {
        // A key that cannot tell its public half would be found out by the first handshake.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let certificate = certificate.to_owned();
            return Err(files.problem(key, TlsProblem::OtherKey { certificate }));
        }
        Err(error) => return Err(bad_key(error)),
    }
    Ok(Some(Arc::new(identity)))
}

/// Shows always the same, whatever name the other side asks for.
pub(super) fn resolver(identity: &CertifiedKey) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(identity.clone()))
}

fn is_named(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn check_chain(chain: &[CertificateDer<'static>]) -> Result<(), TlsProblem> {
    if chain.len() > CHAIN_MAX {
        let (what, max) = ("certificates between ours and its CA", CHAIN_MAX);
        return Err(TlsProblem::TooMuch { what, max });
    }
    for (index, certificate) in chain.iter().enumerate() {
        ParsedCertificate::try_from(certificate)
            .map_err(|error| TlsProblem::of_certificate(index + 1, certificate, error))?;
    }
    Ok(())
}

fn in_words(error: &Error) -> String {
    match error {
        Error::General(words) => words.clone(),
        other => other.to_string(),
    }
}

/// Certificates that are sent at each handshake.
const CHAIN_MAX: usize = 16;
