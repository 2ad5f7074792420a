//! Sessions against each other, and against rustls without us, all in memory.

use std::io::{self, IoSlice, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection};

use super::domains::Ground;
use super::mint::{Authority, Folder, Issued, Node};
use super::*;
use crate::stream::RefuseReason;

/// Whom sessions take, and whom they do not.
mod handshake;
/// Files that are wrong, and what is said of them.
mod loading;
/// Names and domains by address, versions, reload.
mod rules;
/// Bytes behind the handshake.
mod traffic;

/// A cluster's CA, two nodes, and where their files are.
struct Cluster {
    folder: Folder,
    ca: Authority,
    server: Issued,
    client: Issued,
    domains: AtomicU64,
}

impl Cluster {
    fn new() -> Self {
        let (folder, ca) = (Folder::new(), Authority::new("Cluster CA"));
        let (server, client) = (ca.node("server"), ca.node("client"));
        folder.write("ca.pem", &ca.certificate);
        Self {
            folder,
            ca,
            server,
            client,
            domains: AtomicU64::new(0),
        }
    }

    fn server_domain(&self) -> TlsDomain {
        self.domain("server", &self.server)
    }

    fn client_domain(&self) -> TlsDomain {
        self.domain("client", &self.client)
    }

    /// A domain that shows `issued` and trusts the CA, as it is unless something else is said.
    fn domain(&self, name: &str, issued: &Issued) -> TlsDomain {
        // A folder of its own, so that domains of one name do not overwrite each other's files.
        let number = self.domains.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| format!("{number}/{name}.{kind}");
        TlsDomain {
            name: name.to_owned(),
            addresses: Vec::new(),
            certificate: self.folder.write(&file("pem"), &issued.certificate),
            private_key: self.folder.write(&file("key"), &issued.key),
            ca_list: Some(self.folder.path().join("ca.pem")),
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
}

/// Two sessions that talk to each other.
struct Pair {
    server: Session,
    client: Session,
}

impl Pair {
    fn new(server: &TlsDomain, client: &TlsDomain) -> Self {
        let server = ServerTls::load(std::slice::from_ref(server)).unwrap();
        let client = ClientTls::load(std::slice::from_ref(client)).unwrap();
        Self::of(&server, &client)
    }

    fn of(server: &ServerTls, client: &ClientTls) -> Self {
        Self {
            server: server.accept(there()).unwrap(),
            client: client.connect(there(), None).unwrap(),
        }
    }

    /// Lets both talk until neither has anything to say: what the server met, and what the client did.
    fn shake(&mut self) -> (Result<(), TlsFailure>, Result<(), TlsFailure>) {
        let (mut at_server, mut at_client) = (Ok(()), Ok(()));
        while self.client.wants_write() || self.server.wants_write() {
            let to_server = said(&mut self.client);
            at_server = at_server.and_then(|()| self.server.receive(&to_server, |_| ()).map(drop));
            let to_client = said(&mut self.server);
            at_client = at_client.and_then(|()| self.client.receive(&to_client, |_| ()).map(drop));
        }
        (at_server, at_client)
    }

    /// A pair that is up.
    fn up(server: &TlsDomain, client: &TlsDomain) -> Self {
        let mut pair = Self::new(server, client);
        assert_eq!(pair.shake(), (Ok(()), Ok(())));
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking());
        pair
    }

    /// Whether bytes come through, each way.
    fn assert_talks(&mut self) {
        let Self { server, client } = self;
        for [from, to] in [[0, 1], [1, 0]] {
            let ends = [&mut *client, &mut *server];
            assert_eq!(ends[from].send(b"P4CK one"), 8);
            let bytes = said(ends[from]);
            assert_eq!(heard(ends[to], &bytes), Ok(b"P4CK one".to_vec()));
        }
    }
}

/// What a session has to say.
fn said(session: &mut Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    session.transmit(all_into(&mut bytes)).unwrap();
    bytes
}

fn all_into(bytes: &mut Vec<u8>) -> impl FnMut(&[IoSlice<'_>]) -> io::Result<usize> {
    |slices| bytes.write_vectored(slices)
}

/// What comes out of `ciphertext`.
fn heard(session: &mut Session, ciphertext: &[u8]) -> Result<Vec<u8>, TlsFailure> {
    let mut plain = Vec::new();
    session.receive(ciphertext, |bytes| plain.extend_from_slice(bytes))?;
    Ok(plain)
}

/// What the server met, the client having the certificate of `client`.
fn refusal(server: &TlsDomain, client: &TlsDomain) -> TlsFailure {
    let mut pair = Pair::new(server, client);
    let (at_server, at_client) = pair.shake();
    // The client learns that it is not wanted, too.
    assert!(
        matches!(at_client, Err(TlsFailure::Alert(_))),
        "{at_client:?}"
    );
    at_server.unwrap_err()
}

/// What the client met.
fn refusal_of_server(server: &TlsDomain, client: &TlsDomain) -> TlsFailure {
    let mut pair = Pair::new(server, client);
    let (at_server, at_client) = pair.shake();
    assert!(
        matches!(at_server, Err(TlsFailure::Alert(_))),
        "{at_server:?}"
    );
    at_client.unwrap_err()
}

/// A client that is rustls alone, trusts anybody with a certificate of `ca`, and shows `certificate` with `key`.
fn raw_client(ca: &Authority, certificate: &str, key: &str) -> ClientConnection {
    let provider = provider();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&ca.certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![der(certificate)], key));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(shown));
    ClientConnection::new(Arc::new(config), "server".try_into().unwrap()).unwrap()
}

/// Lets `client` and `session` shake hands; what the session met.
fn shake_raw(client: &mut ClientConnection, session: &mut Session) -> Result<(), TlsFailure> {
    while client.wants_write() || session.wants_write() {
        let there = said_raw(client);
        session.receive(&there, |_| ())?;
        let back = said(session);
        hear_raw(client, &back).unwrap();
    }
    Ok(())
}

fn said_raw(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn hear_raw(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn there() -> SocketAddr {
    addr("192.0.2.1:5556")
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A clock that the test sets: an hour ahead, so that no number of days is a matter of milliseconds.
#[derive(Debug)]
struct Days(AtomicU64);

impl Days {
    /// Today.
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(0)))
    }

    fn ground(self: &Arc<Self>) -> Ground {
        Ground {
            time: Arc::clone(self) as _,
            ..Ground::new()
        }
    }

    fn set(&self, days: u64) {
        self.0.store(days, Ordering::Relaxed);
    }
}

impl TimeProvider for Days {
    fn current_time(&self) -> Option<UnixTime> {
        let hours = self.0.load(Ordering::Relaxed) * 24 + 1;
        let secs = UnixTime::now().as_secs() + hours * 60 * 60;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            secs,
        )))
    }
}
