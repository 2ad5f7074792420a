//! Certificates for streams inside TLS between processes of one run: one CA, and a node at each end that it vouches for.
//!
//! ```text
//!   folder, only ours ─ ca.pem ─ server.pem, server.key ─ client.pem, client.key        gone when the run is over
//! ```
//!
//! Each end has to show its certificate to the other, as nodes of a cluster do by default.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use binrush_probe::monotonic_ns;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

/// A folder of certificates, until dropped.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

/// The files of one end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
}

impl Certificates {
    /// New ones, with keys of their own.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let name = format!("binrush-bench-{}-{}", std::process::id(), monotonic_ns());
        let folder = env::temp_dir().join(name);
        // It must not be there yet, and nobody else may look into it: there are keys.
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let certificates = Self { folder };
        certificates.fill().context("cannot make certificates")?;
        Ok(certificates)
    }

    fn fill(&self) -> anyhow::Result<()> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "bench CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        self.write(CA, &params.self_signed(&key)?.pem())?;
        let ca = Issuer::new(params, key);
        for node in [SERVER, CLIENT] {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let params = CertificateParams::new(vec![NAME.to_owned()])?;
            self.write(node.certificate, &params.signed_by(&key, &ca)?.pem())?;
            self.write(node.key, &key.serialize_pem())?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The sending end of a connection, before its handshake.
    pub(crate) fn connect(&self) -> anyhow::Result<ClientConnection> {
        let folder = &self.folder;
        let (chain, key) = identity(folder, CLIENT)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities(folder)?)
            .with_client_auth_cert(chain, key)?;
        let name = ServerName::try_from(NAME)?;
        Ok(ClientConnection::new(Arc::new(config), name)?)
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The receiving end's part of all connections, by the certificates in `folder`.
pub(crate) fn server(folder: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(authorities(folder)?);
    let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let (chain, key) = identity(folder, SERVER)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients.build()?)
        .with_single_cert(chain, key)?;
    // Nobody comes again.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn authorities(folder: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&folder.join(CA))?)?;
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(folder: &Path, node: Node) -> anyhow::Result<Identity> {
    let path = folder.join(node.key);
    let key = PrivateKeyDer::from_pem_file(&path)
        .with_context(|| format!("cannot read the key {}", path.display()))?;
    let chain = vec![certificate(&folder.join(node.certificate))?];
    Ok((chain, key))
}

fn certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path)
        .with_context(|| format!("cannot read the certificate {}", path.display()))
}

/// The files in the folder.
pub(crate) const CA: &str = "ca.pem";
pub(crate) const SERVER: Node = Node {
    certificate: "server.pem",
    key: "server.key",
};
const CLIENT: Node = Node {
    certificate: "client.pem",
    key: "client.key",
};

/// What both ends are called.
const NAME: &str = "binrush-bench";

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ServerConnection;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn both_ends_prove_to_each_other_who_they_are() {
        let certificates = Certificates::make().unwrap();
        let mut client = certificates.connect().unwrap();
        let config = server(certificates.folder()).unwrap();
        let mut server = ServerConnection::new(config).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut there = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            if !there.is_empty() {
                server.read_tls(&mut &there[..]).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut back = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            if !back.is_empty() {
                client.read_tls(&mut &back[..]).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        assert!(client.peer_certificates().is_some() && server.peer_certificates().is_some());
    }

    #[test]
    fn keys_are_for_nobody_else_and_do_not_stay() {
        let certificates = Certificates::make().unwrap();
        let folder = certificates.folder().to_owned();
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(certificates);
        assert!(!folder.exists());
        let error = server(&folder).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
