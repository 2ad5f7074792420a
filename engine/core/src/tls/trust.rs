//! Who the other side may be, and how that is checked.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::certificate::key_digest;
use super::failure::{TlsFailure, hex};

/// What a domain demands of the other side.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// Who may sign; `None`: anybody may, and names and times do not count either.
    pub(super) anchors: Option<RootCertStore>,
    pub(super) lists: Vec<CertRevocationList<'static>>,
    pub(super) depth: RevocationCheckDepth,
    /// Digests of keys; empty: any.
    pub(super) pins: Vec<[u8; 32]>,
    /// Whether a client has to show a certificate.
    pub(super) require: bool,
    /// CAs that a server tells a client it trusts, so that it can choose among its certificates.
    pub(super) hints: Vec<DistinguishedName>,
}

/// [`Trust`] as rustls asks for it.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Arc<Trust>,
    /// Whether a server's certificate has to be for the name that was asked for.
    pub(super) names: bool,
}

impl Trust {
    /// The cheap question first: whose key it is costs one digest, who signed it several signatures.
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), Error> {
        self.check_pin(certificate)?;
        let Some(anchors) = &self.anchors else {
            return Ok(());
        };
        let parsed = EndEntityCert::try_from(certificate).map_err(refusal)?;
        let lists: Vec<_> = self.lists.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(self.depth)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        parsed
            .verify_for_usage(
                self.algorithms.all,
                &anchors.roots,
                between,
                now,
                usage,
                revocation,
                None,
            )
            .map_err(refusal)?;
        match name {
            Some(name) => parsed
                .verify_is_valid_for_subject_name(name)
                .map_err(refusal),
            None => Ok(()),
        }
    }

    fn check_pin(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let Some(digest) = key_digest(certificate) else {
            return Err(CertificateError::BadEncoding.into());
        };
        if self.pins.contains(&digest) {
            return Ok(());
        }
        let failure = TlsFailure::NotPinned(hex(&digest));
        Err(CertificateError::Other(OtherError(Arc::new(failure))).into())
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.trust.require
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.trust.hints
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust
            .check(certificate, between, None, KeyUsage::client_auth(), now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.names.then_some(name);
        self.trust
            .check(certificate, between, name, KeyUsage::server_auth(), now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// The words of webpki in those of rustls, which chooses the alert by them.
fn refusal(error: webpki::Error) -> Error {
    use webpki::Error as E;
    Error::InvalidCertificate(match error {
        // A CA of the same name with another key is another CA. `BadSignature` is left to those of the handshake.
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        E::CertRevoked => CertificateError::Revoked,
        E::CrlExpired { time, next_update } => {
            CertificateError::ExpiredRevocationListContext { time, next_update }
        }
        E::CertNotValidForName(context) => CertificateError::NotValidForNameContext {
            expected: context.expected,
            presented: context.presented,
        },
        other => {
            let failure = TlsFailure::BadCertificate(in_words(&other));
            CertificateError::Other(OtherError(Arc::new(failure)))
        }
    })
}

/// What is wrong with a certificate, as far as people meet it.
pub(super) fn in_words(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::CaUsedAsEndEntity => {
            "it is a CA's own certificate; issue one for the node with it, or pin its key and set verify_cert to 0".to_owned()
        }
        E::EndEntityUsedAsCa => {
            "it was signed with a certificate that is no CA's (basicConstraints)".to_owned()
        }
        E::RequiredEkuNotFoundContext(_) => {
            "its extendedKeyUsage does not allow this end of a connection; a node needs serverAuth and clientAuth, or none named".to_owned()
        }
        E::UnsupportedCertVersion => {
            "it is no certificate of version 3; issue it with extensions".to_owned()
        }
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "it is signed in a way that is not trusted any more (SHA-1, short RSA) or not known"
                .to_owned()
        }
        other => other.to_string(),
    }
}
