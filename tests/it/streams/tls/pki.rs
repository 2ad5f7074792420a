//! Certificates made for one test, in a folder of its own.

use std::fs;
use std::sync::Arc;

use binrush_engine::tls::{TlsDomain, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Trust;
use crate::process::Scratch;

/// A CA, what it signed for us, and who trusts it.
pub(super) struct Pki {
    folder: Scratch,
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(super) struct Identity {
    certificate: String,
    key: String,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub(super) enum Validity {
    Now,
    Over,
    NotYet,
}

impl Pki {
    /// `name` is the test's own, and that of the CA.
    pub(super) fn new(name: &str) -> Self {
        let folder = Scratch::new(name);
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = params.self_signed(&key).expect("a certificate");
        folder.file("ca.pem", ca.pem().as_bytes());
        let pki = Self {
            folder,
            ca: ca.der().clone(),
            issuer: Issuer::new(params, key),
        };
        pki.renew_server();
        pki
    }

    /// Something that this CA signed.
    pub(super) fn certificate(&self, validity: Validity) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = match validity {
            Validity::Now => (date_time_ymd(2000, 1, 1), date_time_ymd(2100, 1, 1)),
            Validity::Over => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
            Validity::NotYet => (date_time_ymd(2099, 1, 1), date_time_ymd(2100, 1, 1)),
        };
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes another certificate and key for our side over those there are.
    pub(super) fn renew_server(&self) {
        let ours = self.certificate(Validity::Now);
        self.folder.file("server.pem", ours.certificate.as_bytes());
        self.folder.file("server.key", ours.key.as_bytes());
    }

    /// Writes something that is no certificate over ours.
    pub(super) fn spoil_server(&self) {
        self.folder.file("server.pem", b"no certificate");
    }

    /// Writes a file; returns its path.
    pub(super) fn file(&self, file: &str, text: &str) -> String {
        self.folder.file(file, text.as_bytes())
    }

    pub(super) fn path(&self, file: &str) -> String {
        self.folder.path(file)
    }

    /// Our side: both versions, and everybody shows a certificate of this CA.
    pub(super) fn domain(&self) -> TlsDomain {
        TlsDomain {
            name: "ours".to_owned(),
            addresses: Vec::new(),
            certificate: self.path("server.pem").into(),
            private_key: self.path("server.key").into(),
            ca_list: Some(self.path("ca.pem").into()),
            ca_dir: None,
            crl_dir: None,
            crl_check_all: false,
            verify: true,
            require: true,
            lowest: TlsVersion::V1_2,
            highest: TlsVersion::V1_3,
            pins: Vec::new(),
        }
    }

    /// As [`domain`](Self::domain), up to this version.
    pub(super) fn domain_up_to(&self, highest: TlsVersion) -> TlsDomain {
        TlsDomain {
            highest,
            ..self.domain()
        }
    }

    /// Somebody who is welcome here, and speaks this version.
    pub(super) fn client(&self, version: TlsVersion) -> Trust {
        self.shows(&self.certificate(Validity::Now), version)
    }

    /// Somebody who trusts this CA, and shows `identity`.
    pub(super) fn shows(&self, identity: &Identity, version: TlsVersion) -> Trust {
        let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
        let config = self
            .config(version)
            .with_client_auth_cert(vec![chain.expect("a certificate")], key.expect("a key"));
        Arc::new(config.expect("they belong together"))
    }

    /// Somebody who trusts this CA, and shows nothing.
    pub(super) fn shows_nothing(&self, version: TlsVersion) -> Trust {
        Arc::new(self.config(version).with_no_client_auth())
    }

    fn config(
        &self,
        version: TlsVersion,
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let version = match version {
            TlsVersion::V1_2 => &rustls::version::TLS12,
            TlsVersion::V1_3 => &rustls::version::TLS13,
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("the provider has it")
            .with_root_certificates(roots)
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        // The keys are the test's own; nothing of them is to stay behind, even where the folder cannot be removed.
        let _ = fs::write(self.path("server.key"), "");
    }
}

/// The name in every certificate, and the one that is asked for.
pub(super) const NAME: &str = "node.example";
