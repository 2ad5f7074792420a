//! What is wrong with the files of a domain, told so that it can be put right.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use x509_cert::certificate::{Certificate, Version};
use x509_cert::der::Decode as _;

use super::failure::TlsFailure;
use super::version::TlsVersion;

/// Domains that cannot be used. Displayed: `TLS domain "default": /etc/sip1.pem: what is wrong, and what to do`.
#[derive(Debug)]
pub struct TlsError {
    /// Its name in the configuration; empty when this is not about one domain.
    pub domain: String,
    /// The file or folder that it is about; `None` when it is about no single one.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub problem: TlsProblem,
}

/// One thing that is wrong with the files of a domain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The kernel refused it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// There is more of something than anybody needs.
    #[error("{what}: there may be {max} at most")]
    TooMuch {
        /// Of what, with its unit.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// What is looked for is not in it.
    #[error("holds no {wanted} in PEM (a block that begins with \"-----BEGIN {label}\")")]
    Missing {
        /// What is looked for.
        wanted: &'static str,
        /// The word of its block.
        label: &'static str,
    },
    /// The text around the bytes is broken.
    #[error("is broken PEM: {0}")]
    BadPem(String),
    /// A certificate that cannot be used.
    #[error("its certificate number {number} cannot be used: {why}")]
    BadCertificate {
        /// Which in the file, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A key behind a passphrase.
    #[error(
        "the key is encrypted, and there is nobody to ask for the passphrase: write it out without one (openssl pkey -in FILE -out NEW), readable by binrush only"
    )]
    EncryptedKey,
    /// A key that cannot be used.
    #[error(
        "the key cannot be used ({0}): it has to be RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519"
    )]
    BadKey(String),
    /// Key and certificate do not belong together.
    #[error(
        "is not the key of the first certificate in {certificate}: name the two that belong together, our own certificate first"
    )]
    OtherKey {
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// Only one of certificate and key is named.
    #[error("certificate and private_key go together: name both, or, to show none, neither")]
    HalfIdentity,
    /// A server has to show something.
    #[error("a server shows a certificate: set certificate and private_key")]
    NoIdentity,
    /// The other side has to be verified, and nobody is trusted to vouch for it.
    #[error(
        "nobody is trusted: set ca_list or ca_dir to the CA that signed the other side's certificate, or, to take any, verify_cert to 0"
    )]
    NobodyTrusted,
    /// A revocation list that cannot be used.
    #[error("is no revocation list that can be used: {0}")]
    BadList(String),
    /// A revocation list that is past its time.
    #[error(
        "is a revocation list that expired at {0}: put the CA's newest one in its place, or take it away"
    )]
    ListExpired(String),
    /// No version is left.
    #[error(
        "takes no version: the lowest, {lowest}, is above the highest, {highest}; exchange the two in tls_method"
    )]
    NoVersion {
        /// What was said to be the lowest.
        lowest: TlsVersion,
        /// What was said to be the highest.
        highest: TlsVersion,
    },
    /// There is no domain at all.
    #[error("there is no domain: set at least certificate, private_key and ca_list of tls_mgm")]
    NoDomain,
    /// The library refused all of it.
    #[error("cannot be used: {0}")]
    Refused(String),
}

impl TlsProblem {
    /// What the library finds wrong with `certificate`, which is number `number` of its file.
    pub(super) fn of_certificate(
        number: usize,
        certificate: &CertificateDer<'_>,
        error: rustls::Error,
    ) -> Self {
        // The library has no word for it, and `openssl x509 -req` makes such ones when no file of extensions is named.
        let is_v3 = Certificate::from_der(certificate)
            .map_or(true, |read| read.tbs_certificate.version == Version::V3);
        let why = match (is_v3, error) {
            (false, _) => "it is of X.509 version 1 or 2, and TLS needs 3: issue it with extensions (openssl x509 -req \
                           ... -extfile FILE)"
                .to_owned(),
            (true, rustls::Error::General(words)) => words,
            (true, error) => match TlsFailure::from(error) {
                TlsFailure::BadCertificate(why) => why,
                failure => failure.to_string(),
            },
        };
        Self::BadCertificate { number, why }
    }
}

impl TlsError {
    pub(super) fn of(domain: &str, problem: TlsProblem) -> Self {
        Self {
            domain: domain.to_owned(),
            path: None,
            problem,
        }
    }

    pub(super) fn in_file(domain: &str, path: &Path, problem: TlsProblem) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..Self::of(domain, problem)
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS")?;
        if !self.domain.is_empty() {
            write!(f, " domain {:?}", self.domain)?;
        }
        if let Some(path) = &self.path {
            write!(f, ": {}", path.display())?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Without a source: its words are among ours, and would be told twice.
impl std::error::Error for TlsError {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::server::ParsedCertificate;

    use super::*;

    /// What `openssl x509 -req` makes without a file of extensions.
    const OF_VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBAjCBqgIBATAKBggqhkjOPQQDAjANMQswCQYDVQQDDAJjYTAgFw0yNjExMjEx\n\
NDE4NTBaGA8yMTI2MTAyODE0MTg1MFowDTELMAkGA1UEAwwCdjEwWTATBgcqhkjO\n\
PQIBBggqhkjOPQMBBwNCAARFvEYy/LL4X2bmvRqEQtQY9toxXnjQt7Q4rfA8J3r6\n\
70sXf52scXWFhS0924QPO5KpR3iZUG4xuwOWkI9xztdTMAoGCCqGSM49BAMCA0cA\n\
MEQCIDRSqbg6MociLfdp9F3R6ZtkU1b7YsaNwaihJNIiqb8bAiAbQSJlPQXKCygz\n\
cwBJWwySJfdM0AfkJyZ1TglgYdU4sw==\n\
-----END CERTIFICATE-----\n";

    #[test]
    fn a_certificate_of_version_1_is_called_one_and_how_to_issue_another_is_said() {
        let certificate = CertificateDer::from_pem_slice(OF_VERSION_1.as_bytes()).unwrap();
        let error = ParsedCertificate::try_from(&certificate).err().unwrap();
        let problem = TlsProblem::of_certificate(1, &certificate, error);
        assert_eq!(
            problem.to_string(),
            "its certificate number 1 cannot be used: it is of X.509 version 1 or 2, and TLS needs 3: issue it with \
             extensions (openssl x509 -req ... -extfile FILE)"
        );
    }

    #[test]
    fn the_cause_is_told_once() {
        let error = TlsError::in_file(
            "node",
            Path::new("/etc/key.pem"),
            TlsProblem::Unreadable(io::ErrorKind::PermissionDenied.into()),
        );
        let told = "TLS domain \"node\": /etc/key.pem: cannot be read: permission denied";
        assert_eq!(error.to_string(), told);
        // Whoever tells the sources too would tell it again.
        assert!(error.source().is_none() && error.problem.source().is_none());
    }
}
