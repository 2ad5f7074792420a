//! What TLS costs a receiver: packets of 200 bytes through a session, and through rustls alone.
//!
//! In full records, as a sender with a backlog makes them, and each in a record of its own, as genuine nodes write. The
//! same plaintext in the same records for both, in pieces as a shard's receives bring them. Each benchmark checks what came out before
//! it is timed, and its sum while it is.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use binrush_engine::tls::{ServerTls, Session, TlsDomain, TlsVersion};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mint::{Authority, Folder};
use nix::time::{ClockId, clock_gettime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

#[path = "../src/tls/mint.rs"]
mod mint;

/// A packet.
const LEN: usize = 200;

/// Packets that one round receives: 16 full records.
const PACKETS: usize = 16 * (16 << 10) / LEN;

/// What a receive brings at once under load: a frame of the slab.
const PIECE: usize = 64 << 10;

struct Fixture {
    _folder: Folder,
    tls: ServerTls,
    raw: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    local: SocketAddr,
}

impl Fixture {
    fn new(version: TlsVersion) -> Self {
        let (folder, ca) = (Folder::new(), Authority::new("bench CA"));
        let (server, client) = (ca.node("server"), ca.node("client"));
        let domain = TlsDomain {
            name: "bench".to_owned(),
            addresses: Vec::new(),
            certificate: folder.write("server.pem", &server.certificate),
            private_key: folder.write("server.key", &server.key),
            ca_list: Some(folder.write("ca.pem", &ca.certificate)),
            ca_dir: None,
            crl_dir: None,
            crl_check_all: false,
            verify: true,
            require: true,
            lowest: version,
            highest: version,
            pins: Vec::new(),
        };
        let versions: &[_] = match version {
            TlsVersion::V1_2 => &[&rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(read(&ca.certificate)).unwrap();
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let mut raw = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![read(&server.certificate)], key(&server.key))
            .unwrap();
        raw.send_tls13_tickets = 0;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![read(&client.certificate)], key(&client.key))
            .unwrap();
        Self {
            _folder: folder,
            tls: ServerTls::load(&[domain]).unwrap(),
            raw: Arc::new(raw),
            client: Arc::new(client),
            local: "192.0.2.1:5556".parse().unwrap(),
        }
    }

    /// A session that is up, and what is to be received.
    fn session(&self, record: usize) -> (Session, Vec<u8>) {
        let mut session = self.tls.accept(self.local).unwrap();
        let mut client = self.client();
        while client.is_handshaking() || session.is_handshaking() {
            let mut there = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            session.receive(&there, |_| ()).unwrap();
            let mut back = Vec::new();
            let mut write = |slices: &[std::io::IoSlice<'_>]| back.write_vectored(slices);
            session.transmit(&mut write).unwrap();
            take(&mut client, &back);
        }
        (session, records(&mut client, record))
    }

    /// The same without us.
    fn connection(&self, record: usize) -> (ServerConnection, Vec<u8>) {
        let mut server = ServerConnection::new(Arc::clone(&self.raw)).unwrap();
        let mut client = self.client();
        while client.is_handshaking() || server.is_handshaking() {
            let mut there = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            let mut rest = &*there;
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut back = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            take(&mut client, &back);
        }
        (server, records(&mut client, record))
    }

    fn client(&self) -> ClientConnection {
        let name = "server".try_into().unwrap();
        ClientConnection::new(Arc::clone(&self.client), name).unwrap()
    }
}

fn take(client: &mut ClientConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
    }
}

/// The packets in records of `record` bytes each.
fn records(client: &mut ClientConnection, record: usize) -> Vec<u8> {
    let mut ciphertext = Vec::new();
    for part in plaintext().chunks(record) {
        client.writer().write_all(part).unwrap();
        while client.wants_write() {
            client.write_tls(&mut ciphertext).unwrap();
        }
    }
    ciphertext
}

fn plaintext() -> Vec<u8> {
    let packet = |number: u8| (0..LEN).map(move |at| number ^ at.to_le_bytes()[0]);
    let numbers = (0..=u8::MAX).cycle().take(PACKETS);
    numbers.flat_map(packet).collect()
}

fn by_session(session: &mut Session, ciphertext: &[u8], mut plain: impl FnMut(&[u8])) {
    for piece in ciphertext.chunks(PIECE) {
        session.receive(piece, &mut plain).unwrap();
    }
}

fn by_rustls(
    server: &mut ServerConnection,
    ciphertext: &[u8],
    buffer: &mut [u8],
    mut plain: impl FnMut(&[u8]),
) {
    for mut piece in ciphertext.chunks(PIECE) {
        while !piece.is_empty() {
            server.read_tls(&mut piece).unwrap();
            server.process_new_packets().unwrap();
            while let Ok(len @ 1..) = server.reader().read(buffer) {
                plain(&buffer[..len]);
            }
        }
    }
}

fn receive(c: &mut Criterion) {
    let mut group = c.benchmark_group("TLS, packets of 200 bytes");
    group.throughput(Throughput::Elements(PACKETS as u64));
    let mut buffer = vec![0; PIECE];
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let fixture = Fixture::new(version);
        for (shape, record) in [("full records", 16 << 10), ("a record each", LEN)] {
            check(&fixture, record);
            let id = |who: &str| BenchmarkId::new(who, format!("{version}, {shape}"));
            group.bench_function(id("session"), |b| {
                b.iter_custom(|rounds| {
                    let prepare = || fixture.session(record);
                    timed(rounds, prepare, |(session, ciphertext), sum| {
                        by_session(session, ciphertext, |plain| *sum += black_box(plain).len());
                    })
                });
            });
            group.bench_function(id("rustls alone"), |b| {
                b.iter_custom(|rounds| {
                    let prepare = || fixture.connection(record);
                    timed(rounds, prepare, |(server, ciphertext), sum| {
                        let count = |plain: &[u8]| *sum += black_box(plain).len();
                        by_rustls(server, ciphertext, &mut buffer, count);
                    })
                });
            });
        }
    }
    group.finish();
}

/// Both ways bring every byte, in order.
fn check(fixture: &Fixture, record: usize) {
    let (expected, mut came) = (plaintext(), Vec::new());
    let (mut session, ciphertext) = fixture.session(record);
    by_session(&mut session, &ciphertext, |plain| {
        came.extend_from_slice(plain);
    });
    assert!(came == expected);
    came.clear();
    let (mut server, ciphertext) = fixture.connection(record);
    let into = |plain: &[u8]| came.extend_from_slice(plain);
    by_rustls(&mut server, &ciphertext, &mut [0; PIECE], into);
    assert!(came == expected);
}

/// The processor time that `rounds` take, without what prepares them: a record can be received once only. Others that
/// use the same cores do not count.
fn timed<T>(
    rounds: u64,
    prepare: impl Fn() -> T,
    mut run: impl FnMut(&mut T, &mut usize),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let (mut prepared, mut sum) = (prepare(), 0);
        let begin = processor_time();
        run(&mut prepared, &mut sum);
        total += processor_time() - begin;
        assert_eq!(sum, PACKETS * LEN);
    }
    total
}

/// Of this thread.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

fn read(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

criterion_group!(benches, receive);
criterion_main!(benches);
