//! One connection's TLS, from the first byte of the handshake to the last of the stream.
//!
//! ```text
//!   from the socket ──▶ receive ──▶ records ──▶ plain(&[u8]), in order, each byte once
//!   to the socket   ◀── transmit ◀── records ◀── handshake, alerts, what was given to send
//! ```

use std::io::{self, BufRead, IoSlice, Read, Write};

use rustls::{ClientConnection, Connection, ServerConnection};

use super::certificate::{Facts, key_digest};
use super::failure::TlsFailure;
use super::version::TlsVersion;

/// A TLS session without a socket.
///
/// Belongs to one connection; may move to another thread between two calls. Bounded: it holds at most one record that
/// is not complete (18 KiB; a message of a handshake may grow to 64 KiB), and [`SEND_MAX`] bytes that wait to be
/// written; about 8 KiB when neither is there. There is no resumption, no early data and no renegotiation.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    /// What ended it: the answer to every later call.
    failure: Option<TlsFailure>,
    /// The other side said `close_notify`; what follows does not count (RFC 8446 6.1).
    is_closed: bool,
    /// And so did this one.
    said_goodbye: bool,
    /// Records that were made of what was given to send.
    records: u64,
    /// How many there may be in TLS 1.2.
    records_max: u64,
}

/// What a call of [`Session::receive`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// The other side will send nothing more, and said so (`close_notify`). A stream that ends without this word may
    /// have been cut short by somebody else.
    pub closed: bool,
}

/// Who the other side proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The subject of its certificate as in RFC 4514 (`CN=sip1,O=Example`), for people.
    pub subject: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo): what a pin is compared with.
    pub key_sha256: [u8; 32],
}

impl Session {
    pub(super) fn server(connection: ServerConnection) -> Self {
        Self::new(Connection::Server(connection))
    }

    pub(super) fn client(connection: ClientConnection) -> Self {
        Self::new(Connection::Client(connection))
    }

    fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(SEND_MAX));
        Self {
            connection,
            failure: None,
            is_closed: false,
            said_goodbye: false,
            records: 0,
            records_max: RECORDS_MAX,
        }
    }

    /// Takes the next bytes from the socket, cut anywhere, and hands what was inside to `plain`: in order, each byte
    /// once, where it was decrypted. Nothing is kept of it.
    ///
    /// There may be something to [`transmit`](Self::transmit) afterwards, also when this failed: the alert that tells
    /// the other side why.
    ///
    /// # Errors
    /// The session is over, and every later call says so again. What came intact before the fault was handed to `plain`.
    pub fn receive(
        &mut self,
        mut ciphertext: &[u8],
        mut plain: impl FnMut(&[u8]),
    ) -> Result<Received, TlsFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        while !ciphertext.is_empty() && !self.is_closed {
            let taken = self.connection.read_tls(&mut ciphertext);
            let processed = self.connection.process_new_packets();
            self.hand_over(&mut plain);
            match (taken, processed) {
                (Ok(_), Ok(state)) => self.is_closed = state.peer_has_closed(),
                (_, Err(error)) => return Err(self.fail(error.into())),
                (Err(error), Ok(_)) => {
                    return Err(self.fail(TlsFailure::BadTls(error.to_string())));
                }
            }
        }
        self.shrink();
        Ok(Received {
            closed: self.is_closed,
        })
    }

    /// Lets go of the room for a large record when none is begun.
    ///
    /// rustls does so at the beginning of the next read, which an idle connection may never see, and 28 KiB would stay
    /// with each. So the next read begins now, and is told that there is nothing yet.
    fn shrink(&mut self) {
        let nothing_yet = self.connection.read_tls(&mut NothingYet);
        debug_assert!(self.is_closed || nothing_yet.is_err());
    }

    fn hand_over(&mut self, plain: &mut impl FnMut(&[u8])) {
        let mut reader = self.connection.reader();
        // An error says that nothing more is there now; whether something is wrong is told by the records.
        while let Ok(bytes) = reader.fill_buf() {
            let len = bytes.len();
            if len == 0 {
                break;
            }
            plain(bytes);
            reader.consume(len);
        }
    }

    fn fail(&mut self, failure: TlsFailure) -> TlsFailure {
        self.failure = Some(failure.clone());
        failure
    }

    /// Encrypts as much of `plain` as there is room for; how many bytes that was. Less than all, 0 included, means:
    /// [`transmit`](Self::transmit) first. Nothing is taken after a failure or after [`close`](Self::close).
    ///
    /// What is given before the handshake is done waits for its end.
    pub fn send(&mut self, plain: &[u8]) -> usize {
        // rustls itself would write on behind its `close_notify`, and nobody would read it.
        if self.failure.is_some() || self.said_goodbye {
            return 0;
        }
        // The only error is that of a session that failed, which was told.
        let taken = self.connection.writer().write(plain).unwrap_or(0);
        self.records += taken.div_ceil(RECORD_LEN_MAX) as u64;
        taken
    }

    /// Whether this session is about to end by itself, and is to be replaced by a new one while it still can be ended in
    /// order; what was begun, 64 KiB say, may be finished.
    ///
    /// AES-GCM is good for 2^24 records with one key (RFC 8446 5.5). TLS 1.3 changes the key then, which nobody notices;
    /// TLS 1.2 cannot, and rustls says `close_notify` in the middle of whatever is being sent.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.records >= self.records_max && self.version() == Some(TlsVersion::V1_2)
    }

    /// As if `records` were all that may be sent.
    #[cfg(test)]
    pub(crate) const fn wear_after(&mut self, records: u64) {
        self.records_max = records;
    }

    /// Says that nothing more will be sent (`close_notify`). It goes out with the next [`transmit`](Self::transmit).
    pub fn close(&mut self) {
        self.said_goodbye = true;
        self.connection.send_close_notify();
    }

    /// Hands records to `write` until there are none left or it fails with `WouldBlock`, which is no error: they wait
    /// for the next call. `write` answers how many bytes of the slices, from the first on, it took.
    ///
    /// # Errors
    /// What `write` failed with otherwise; `WriteZero` when it took nothing and did not say why.
    pub fn transmit(
        &mut self,
        write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut socket = Vectored(write);
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether there is something to [`transmit`](Self::transmit).
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether the two sides have not proved yet who they are. The last part of the handshake may still have to be
    /// transmitted when this has become false.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The version agreed on; `None` until then.
    #[must_use]
    pub fn version(&self) -> Option<TlsVersion> {
        self.connection
            .protocol_version()
            .and_then(TlsVersion::of_rustls)
    }

    /// Who the other side is; `None` until the handshake is done, and when it showed no certificate.
    ///
    /// Reads the certificate anew: for logs, not for each packet.
    #[must_use]
    pub fn peer(&self) -> Option<PeerIdentity> {
        if self.is_handshaking() {
            return None;
        }
        let certificate = self.connection.peer_certificates()?.first()?;
        let facts = Facts::of(certificate);
        Some(PeerIdentity {
            subject: facts.map_or_else(|_| "(unreadable)".to_owned(), |facts| facts.subject),
            key_sha256: key_digest(certificate)?,
        })
    }
}

/// A socket on which nothing has come.
struct NothingYet;

impl Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A function that writes slices, as rustls wants to see it.
struct Vectored<W>(W);

impl<W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>> Write for Vectored<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (self.0)(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Records that are sent in TLS 1.2 until a session is worn: some less than the 2^24 at which rustls ends it.
const RECORDS_MAX: u64 = (1 << 24) - (1 << 12);

/// Bytes of plaintext in one record (RFC 8446 5.1).
const RECORD_LEN_MAX: usize = 16 << 10;

/// Bytes that [`Session::send`] takes before something is transmitted, give or take the records' own 22 bytes for each
/// 16 KiB: one packet of the largest size.
pub const SEND_MAX: usize = 64 << 10;
