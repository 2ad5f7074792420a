//! The other side of TLS: rustls as it comes, over a blocking socket.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use binrush_engine::tls::TlsVersion;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion};

use super::pki::NAME;
use crate::streams::node::connect;

/// Whom somebody trusts, and what he shows.
pub(super) type Trust = Arc<ClientConfig>;

/// A connection that is up.
pub(super) struct Client {
    session: ClientConnection,
    stream: TcpStream,
}

impl Client {
    /// Connects and shakes hands; it has to be by `version`.
    #[track_caller]
    pub(super) fn connect(addr: SocketAddr, trust: &Trust, version: TlsVersion) -> Self {
        let mut client = Self::begin(addr, trust);
        client.shake_hands().expect("it is welcome");
        let expected = match version {
            TlsVersion::V1_2 => ProtocolVersion::TLSv1_2,
            TlsVersion::V1_3 => ProtocolVersion::TLSv1_3,
        };
        assert_eq!(client.session.protocol_version(), Some(expected));
        client
    }

    /// Connects, and has to be refused by the other side.
    #[track_caller]
    pub(super) fn is_refused(addr: SocketAddr, trust: &Trust) {
        let mut client = Self::begin(addr, trust);
        // In TLS 1.3 a client is done before it hears what became of its certificate.
        let error = match client.shake_hands().and_then(|()| client.hear()) {
            Ok(len) => panic!("it was let in, and heard {len} bytes"),
            Err(error) => error,
        };
        let said = error.to_string();
        let is_alert = error.kind() == io::ErrorKind::InvalidData && said.contains("alert");
        // What was still on its way when the socket closed can turn its end into a reset.
        let is_end = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::BrokenPipe
        );
        assert!(is_alert || is_end, "{error}");
    }

    /// Connects, and does not like who answers.
    #[track_caller]
    pub(super) fn refuses(addr: SocketAddr, trust: &Trust) {
        let mut client = Self::begin(addr, trust);
        let error = client.shake_hands().expect_err("it knows nobody there");
        assert!(error.to_string().contains("certificate"), "{error}");
        // The alert goes out, and then it waits for the other side to close.
        let _ = client.session.complete_io(&mut client.stream);
        let _ = client.stream.shutdown(Shutdown::Write);
        let _ = client.stream.read_to_end(&mut Vec::new());
    }

    fn begin(addr: SocketAddr, trust: &Trust) -> Self {
        let name = ServerName::try_from(NAME).expect("a name");
        let session = ClientConnection::new(Arc::clone(trust), name).expect("it is configured");
        Self {
            session,
            stream: connect(addr),
        }
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        while self.session.is_handshaking() {
            self.session.complete_io(&mut self.stream)?;
        }
        Ok(())
    }

    /// Waits for something of the other side.
    fn hear(&mut self) -> io::Result<usize> {
        rustls::Stream::new(&mut self.session, &mut self.stream).read(&mut [0; 64])
    }

    /// Sends `bytes`, in as many records as that takes.
    #[track_caller]
    pub(super) fn say(&mut self, bytes: &[u8]) {
        let mut stream = rustls::Stream::new(&mut self.session, &mut self.stream);
        stream
            .write_all(bytes)
            .and_then(|()| stream.flush())
            .expect("it is read");
    }

    /// Sends bytes past the session.
    pub(super) fn say_outside(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it is read");
    }

    /// Says goodbye, and waits until the other side has closed, too.
    #[track_caller]
    pub(super) fn leave(&mut self) {
        self.session.send_close_notify();
        while self.session.wants_write() {
            self.session
                .write_tls(&mut self.stream)
                .expect("it is read");
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        match self.stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// What the other side showed.
    pub(super) fn certificate(&self) -> Vec<u8> {
        let chain = self.session.peer_certificates().expect("hands were shaken");
        chain[0].to_vec()
    }
}

/// The first flight of somebody, as bytes.
pub(super) fn hello(trust: &Trust) -> Vec<u8> {
    let name = ServerName::try_from(NAME).expect("a name");
    let mut session = ClientConnection::new(Arc::clone(trust), name).expect("it is configured");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("memory takes it");
    hello
}

/// The first flight of somebody who knows TLS 1.1 and nothing newer (RFC 4346, 7.4.1.2), with the two extensions that
/// such clients sent (RFC 4492).
pub(super) fn hello_of_tls_1_1() -> Vec<u8> {
    let body = [
        // Version, random, no session.
        &[3, 2][..],
        &[7; 32],
        &[0],
        // Two ciphers: ECDHE-RSA with AES-128 and RSA with AES-128, both with SHA-1.
        &[0, 4, 0xc0, 0x13, 0x00, 0x2f],
        // No compression.
        &[1, 0],
        // Curve P-256, points not compressed.
        &[0, 14, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0],
    ]
    .concat();
    let len = |bytes: &[u8]| u16::try_from(bytes.len()).expect("short").to_be_bytes();
    let message = [&[1, 0][..], &len(&body), &body].concat();
    [&[22, 3, 1][..], &len(&message), &message].concat()
}
