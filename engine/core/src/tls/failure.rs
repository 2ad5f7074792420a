//! Why a session ended before its time.

use std::fmt::{Debug, Write as _};

use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved,
};

use super::certificate::date;
use crate::stream::RefuseReason;

/// Why there is no session, or not any more.
///
/// Displayed, it is a sentence about the other side, with what can be done about it where that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// No domain is for this address of ours, or of theirs.
    #[error(
        "no TLS domain is for {0}: add one, or one without match_ip_address, which is for any address"
    )]
    NoDomain(std::net::SocketAddr),
    /// It showed no certificate, and has to.
    #[error(
        "it showed no certificate: give it one (certificate and private_key of its client domain)"
    )]
    NoCertificate,
    /// Nobody who is trusted signed its certificate.
    #[error(
        "nobody in ca_list or ca_dir signed its certificate: add its CA, and let it send the certificates between"
    )]
    UnknownCa,
    /// Its certificate, or one between it and the CA, is past its time, or before it.
    #[error("its certificate is not valid now: {0}")]
    Expired(String),
    /// Its certificate was revoked by its CA.
    #[error("its certificate was revoked by its CA: give it a new one")]
    Revoked,
    /// A revocation list that says something about its certificate is too old to be believed.
    #[error(
        "the revocation list of its CA expired at {0}: put the CA's newest list into crl_dir and reload"
    )]
    ListExpired(String),
    /// Its key is none of those that are pinned.
    #[error("its key is none of the pinned ones: pin sha256:{0} if that key is the right one")]
    NotPinned(String),
    /// Its certificate is for other names than the one that was asked for.
    #[error("{0}: ask for a name that is in it, or give it a certificate with this one")]
    WrongName(String),
    /// Its certificate cannot be used for this, or cannot be read.
    #[error("its certificate cannot be used: {0}")]
    BadCertificate(String),
    /// It has no version of TLS, no cipher or no kind of key that is taken here.
    #[error("no version of TLS, cipher or kind of key in common: {0}")]
    NoCommon(String),
    /// It gave up, and said why.
    #[error("it gave up: {0}")]
    Alert(String),
    /// What it sent is no TLS, or breaks its rules.
    #[error("what it sent is no TLS: {0}")]
    BadTls(String),
    /// Something is wrong on this side.
    #[error("TLS failed here: {0}")]
    Failed(String),
}

impl TlsFailure {
    /// The counter it belongs to.
    #[must_use]
    pub const fn reason(&self) -> RefuseReason {
        match self {
            Self::NoCertificate => RefuseReason::NoCertificate,
            Self::UnknownCa | Self::WrongName(_) | Self::BadCertificate(_) => {
                RefuseReason::UnknownCa
            }
            Self::Expired(_) => RefuseReason::Expired,
            // Whoever cannot be looked up is treated as OpenSSL treats them: as if they were on the list.
            Self::Revoked | Self::ListExpired(_) => RefuseReason::Revoked,
            Self::NotPinned(_) => RefuseReason::NotPinned,
            Self::NoCommon(_) | Self::NoDomain(_) => RefuseReason::NoCommon,
            Self::Alert(_) => RefuseReason::Alert,
            Self::BadTls(_) => RefuseReason::BadTls,
            Self::Failed(_) => RefuseReason::Failed,
        }
    }
}

impl From<Error> for TlsFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => error.into(),
            Error::AlertReceived(alert) => Self::Alert(of_alert(alert)),
            Error::PeerIncompatible(what) => Self::NoCommon(of_incompatible(&what)),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::BadTls(
                "its bytes are no records; is its socket bin: where it should be bins:?".to_owned(),
            ),
            error @ (Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord) => Self::BadTls(of_broken(&error)),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<CertificateError> for TlsFailure {
    fn from(error: CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::UnknownIssuer => Self::UnknownCa,
            E::BadSignature => {
                Self::BadTls("it does not have the key of the certificate that it shows".to_owned())
            }
            E::ExpiredContext { not_after, .. } => Self::Expired(format!(
                "it ended at {}; give it a new one",
                date(not_after)
            )),
            E::NotValidYetContext { not_before, .. } => Self::Expired(format!(
                "it begins at {}; compare the clocks of the two hosts",
                date(not_before)
            )),
            E::Revoked => Self::Revoked,
            E::ExpiredRevocationListContext { next_update, .. } => {
                Self::ListExpired(date(next_update))
            }
            E::NotValidForNameContext { .. } => Self::WrongName(error.to_string()),
            E::Other(other) => match other.0.downcast_ref::<Self>() {
                Some(failure) => failure.clone(),
                None => Self::BadCertificate(other.0.to_string()),
            },
            error => Self::BadCertificate(error.to_string()),
        }
    }
}

/// What an alert means, and what can be done here (RFC 8446 6.2).
fn of_alert(alert: AlertDescription) -> String {
    let meaning = match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it wants a certificate; set certificate and private_key of the domain"
        }
        AlertDescription::UnknownCA => {
            "it does not trust our CA; add that to its ca_list, or send the certificates between with ours"
        }
        AlertDescription::CertificateExpired => {
            "our certificate is not valid at its time; renew it, or compare the clocks of the two hosts"
        }
        AlertDescription::CertificateRevoked => "our certificate was revoked; get a new one",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it does not take our certificate; see its log",
        AlertDescription::ProtocolVersion => {
            "it takes none of our versions of TLS; compare tls_method of the two"
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "it found no cipher or kind of key in common, or misses our certificate"
        }
        AlertDescription::UserCanceled => "it was stopped",
        _ => "see its log",
    };
    format!("alert {alert:?}: {meaning}")
}

/// What the two sides do not have in common.
fn of_incompatible(what: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    match what {
        P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::SupportedVersionsExtensionRequired
        | P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig => {
            "it takes none of our versions of TLS; compare tls_method of the two".to_owned()
        }
        P::NoCipherSuitesInCommon => {
            "none of its ciphers; those taken here are AES-GCM and ChaCha20 with ECDHE".to_owned()
        }
        P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired => {
            "none of its groups; those taken here are X25519, P-256 and P-384".to_owned()
        }
        P::NoSignatureSchemesInCommon => {
            "it cannot check signatures by our kind of key; take one of ECDSA P-256 or RSA"
                .to_owned()
        }
        P::SignatureAlgorithmsExtensionRequired => {
            "it does not say which signatures it checks (signature_algorithms); a TLS library of today does".to_owned()
        }
        P::ExtendedMasterSecretExtensionRequired => {
            "it has no extended master secret (RFC 7627); give it a TLS library of today".to_owned()
        }
        P::NoCertificateRequestSignatureSchemesInCommon => {
            "it takes no signature that our key can make; take one of ECDSA P-256 or RSA".to_owned()
        }
        other => spaced(other),
    }
}

/// What is wrong with the bytes that came.
fn of_broken(error: &Error) -> String {
    match error {
        Error::InvalidMessage(what) => format!("a message cannot be read: {}", spaced(what)),
        Error::PeerMisbehaved(PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported) => {
            "Downgrade protection (RFC 8446 4.1.3) tells that somebody between the two talks them down to an older version"
                .to_owned()
        }
        Error::PeerMisbehaved(what) => format!("a rule of TLS is broken: {}", spaced(what)),
        other => other.to_string(),
    }
}

/// The name of a variant as words: those of the library have no others.
fn spaced(variant: &dyn Debug) -> String {
    let debug = format!("{variant:?}");
    let name = debug
        .split(|char: char| !char.is_ascii_alphanumeric())
        .next();
    let mut words = String::new();
    for char in name.unwrap_or_default().chars() {
        if char.is_ascii_uppercase() && words.ends_with(|last: char| !last.is_ascii_digit()) {
            words.push(' ');
        }
        words.push(char.to_ascii_lowercase());
    }
    words
}

/// Bytes as people compare them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_in_names_of_variants_is_told_in_words() {
        for (error, told) in [
            (
                Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired),
                "no version of TLS, cipher or kind of key in common: it does not say which signatures it checks",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::NullCompressionRequired),
                "no version of TLS, cipher or kind of key in common: null compression required",
            ),
            (
                Error::InvalidMessage(InvalidMessage::MissingData("ClientHello")),
                "what it sent is no TLS: a message cannot be read: missing data",
            ),
            (
                Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare),
                "what it sent is no TLS: a rule of TLS is broken: invalid key share",
            ),
        ] {
            let text = TlsFailure::from(error).to_string();
            assert!(text.starts_with(told), "{text}");
        }
    }
}
