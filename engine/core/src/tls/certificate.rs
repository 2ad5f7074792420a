//! What a certificate says of itself.

use ring::digest;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use x509_cert::Certificate;
use x509_cert::der::{DateTime, Decode};

/// What people want to know of a certificate. Nothing here decides whether it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// As in RFC 4514: `CN=sip1,O=Example`.
    pub(super) subject: String,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
}

impl Facts {
    /// Reads `certificate`; what is wrong with it in words otherwise.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let read = Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let facts = read.tbs_certificate;
        let at = |time: x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration());
        Ok(Self {
            subject: facts.subject.to_string(),
            not_before: at(facts.validity.not_before),
            not_after: at(facts.validity.not_after),
        })
    }
}

/// SHA-256 of the SubjectPublicKeyInfo as it stands in the certificate (RFC 7469 2.4); `None` when there is none to be
/// read.
pub(super) fn key_digest(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let key = parsed.subject_public_key_info();
    let digest = digest::digest(&digest::SHA256, &key);
    digest.as_ref().try_into().ok()
}

/// A time for people: `2026-11-21T13:05:08Z`.
pub(super) fn date(time: UnixTime) -> String {
    let since_epoch = std::time::Duration::from_secs(time.as_secs());
    // Later than the year 9999, which is how certificates say that they never end (RFC 5280 4.1.2.5).
    DateTime::from_unix_duration(since_epoch)
        .map_or_else(|_| "the end of time".to_owned(), |date| date.to_string())
}
