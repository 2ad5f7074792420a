//! One TLS handshake, from the peer's first byte to the last of ours.
//!
//! ```text
//!   bytes ─▶ receive ─▶ session ─▶ transmit ─▶ the socket
//!                │         └▶ is_done: handed to a shard, with what came early
//!                └▶ refused: by the session, by too many bytes; or late, gone
//! ```
//!
//! Pure but for the session's keys: time and bytes come in as arguments. A peer has until the deadline, however it
//! spends the time: one that says nothing and one that says a byte a second end alike.

use std::io::{self, IoSlice};
use std::time::Duration;

use super::counters::Refused;
use crate::clock::Timestamp;
use crate::stream::RefuseReason;
use crate::tls::Session;

/// A session that shakes hands.
#[derive(Debug)]
pub(super) struct Handshake {
    session: Box<Session>,
    since: Timestamp,
    limit: Duration,
    /// Bytes that came, of TLS.
    received: usize,
    early: Vec<u8>,
}

impl Handshake {
    /// Begins at `now`, when the connection was accepted, and has to be done `limit` later.
    pub(super) fn new(session: Session, now: Timestamp, limit: Duration) -> Self {
        Self {
            session: Box::new(session),
            since: now,
            limit,
            received: 0,
            early: Vec::new(),
        }
    }

    /// Takes the next bytes of the connection, at most [`READ_LEN_MAX`] at once. What they hold beyond the handshake is
    /// kept for the shard. Not to be called once it [`is_done`](Self::is_done).
    ///
    /// # Errors
    /// Why there will be no session. There may be an alert to [`transmit`](Self::transmit) that tells the peer so.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.received += bytes.len();
        if self.received > RECEIVED_MAX {
            let why = format!("its TLS handshake has more than {RECEIVED_MAX} bytes");
            return Err(Refused::because(RefuseReason::BadTls, &why));
        }
        let Self { session, early, .. } = self;
        // A close_notify that comes along is not looked at: what came before it counts, and a FIN comes after it.
        let received = session.receive(bytes, |plain| early.extend_from_slice(plain));
        debug_assert!(
            early.len() <= EARLY_LEN_MAX,
            "nothing is read after the end"
        );
        match received {
            Ok(_) => Ok(()),
            Err(failure) => Err(Refused::because(failure.reason(), &failure)),
        }
    }

    /// Hands what the session has to say to `write`, until it has said it all or `write` takes no more for now.
    ///
    /// # Errors
    /// The peer is gone: what `write` met, other than `WouldBlock`.
    pub(super) fn transmit(
        &mut self,
        write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Result<(), Refused> {
        self.session
            .transmit(write)
            .map_err(|error| self.gone(Some(&error)))
    }

    /// Whether both sides know each other, and all that we had to say for it is said.
    pub(super) fn is_done(&self) -> bool {
        !self.session.is_handshaking() && !self.session.wants_write()
    }

    /// Whether bytes of the peer are waited for.
    pub(super) fn wants_read(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Whether there is something to say that was not taken yet.
    pub(super) fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// When its time is over.
    pub(super) fn deadline(&self) -> Timestamp {
        let limit = u64::try_from(self.limit.as_nanos()).unwrap_or(u64::MAX);
        Timestamp::from_nanos(self.since.as_nanos().saturating_add(limit))
    }

    /// The refusal of one whose time is over.
    pub(super) fn late(&self) -> Refused {
        let (limit, received) = (self.limit.as_secs_f64(), self.received);
        let why = format!("its TLS handshake was not done after {limit} s, {received} bytes came");
        Refused::because(RefuseReason::HandshakeTimeout, &why)
    }

    /// The refusal of one that ended the connection, or broke it by `error`.
    pub(super) fn gone(&self, error: Option<&io::Error>) -> Refused {
        let received = self.received;
        let why = match error {
            None => {
                format!("it ended the connection during the TLS handshake, after {received} bytes")
            }
            Some(error) => format!(
                "its connection broke during the TLS handshake, after {received} bytes: {error}"
            ),
        };
        Refused::because(RefuseReason::HandshakeGone, &why)
    }

    /// The session of one that is done, and what it yielded already.
    pub(super) fn finish(self) -> (Box<Session>, Vec<u8>) {
        (self.session, self.early)
    }
}

/// The largest piece to read at once: about what a record takes, so that a flight with its certificates is one read.
pub(super) const READ_LEN_MAX: usize = 16 << 10;

/// Bytes that a peer may spend on a handshake. A message of one has at most 64 KiB in rustls, and only the certificates
/// are of any size; genuine nodes need some 4 KiB.
const RECEIVED_MAX: usize = 128 << 10;

/// The most that can come early: nothing is read once a handshake is done, so no more than the last read, and the
/// beginning of a record that waited for it (18 KiB at most, RFC 5246 6.2.3).
pub(crate) const EARLY_LEN_MAX: usize = READ_LEN_MAX + (18 << 10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::tests::tls::{Pki, VERSIONS};
    use crate::tls::TlsVersion;

    const LIMIT: Duration = Duration::from_millis(5);
    const START: Timestamp = Timestamp::from_nanos(1_000_000_000);

    /// Both ends of a handshake at its beginning.
    fn ends(highest: TlsVersion) -> (Session, Handshake) {
        let pki = Pki::new();
        let (client, server) = (pki.client(highest), pki.server());
        let here = "127.0.0.1:5566".parse().unwrap();
        let server = server.accept(here).unwrap();
        let client = client.connect(here, None).unwrap();
        (client, Handshake::new(server, START, LIMIT))
    }

    /// What a session has to say.
    fn said(transmit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        transmit(&mut bytes);
        bytes
    }

    fn collect(into: &mut Vec<u8>) -> impl FnMut(&[IoSlice<'_>]) -> io::Result<usize> {
        |slices| {
            slices
                .iter()
                .for_each(|slice| into.extend_from_slice(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }
    }

    fn said_by_client(client: &mut Session) -> Vec<u8> {
        said(|bytes| client.transmit(collect(bytes)).unwrap())
    }

    fn said_by_us(handshake: &mut Handshake) -> Vec<u8> {
        said(|bytes| handshake.transmit(collect(bytes)).unwrap())
    }

    #[test]
    fn a_handshake_is_done_however_its_bytes_are_cut_and_keeps_what_came_early() {
        for version in VERSIONS {
            for cut in [1, 7, READ_LEN_MAX] {
                let (mut client, mut handshake) = ends(version);
                client.send(b"the first packet");
                while !handshake.is_done() {
                    for piece in said_by_client(&mut client).chunks(cut) {
                        handshake.receive(piece).unwrap();
                    }
                    client.receive(&said_by_us(&mut handshake), |_| {}).unwrap();
                }
                let (session, mut early) = handshake.finish();
                assert_eq!(session.version(), Some(version));
                // In 1.2 the client has the last word but one: what it says comes after the handshake.
                let mut session = session;
                session
                    .receive(&said_by_client(&mut client), |plain| {
                        early.extend_from_slice(plain);
                    })
                    .unwrap();
                assert_eq!(early, b"the first packet");
            }
        }
    }

    #[test]
    fn what_comes_with_the_end_of_the_handshake_is_kept() {
        let (mut client, mut handshake) = ends(TlsVersion::V1_3);
        client.send(&[7; 9000]);
        handshake.receive(&said_by_client(&mut client)).unwrap();
        client.receive(&said_by_us(&mut handshake), |_| {}).unwrap();
        let last = said_by_client(&mut client);
        assert!(last.len() > 9000, "the end and the packet are one flight");
        handshake.receive(&last).unwrap();
        assert!(handshake.is_done() && !handshake.wants_read() && !handshake.wants_write());
        let (_, early) = handshake.finish();
        assert_eq!(early, [7; 9000]);
        assert!(early.len() <= EARLY_LEN_MAX);
    }

    #[test]
    fn the_time_runs_from_the_beginning_and_not_from_the_last_byte() {
        let (mut client, mut handshake) = ends(TlsVersion::V1_3);
        let deadline = handshake.deadline();
        assert_eq!(deadline.nanos_since(START), 5_000_000);
        handshake
            .receive(&said_by_client(&mut client)[..3])
            .unwrap();
        assert_eq!(handshake.deadline(), deadline);
        let late = handshake.late();
        assert_eq!(late.reason, RefuseReason::HandshakeTimeout);
        assert_eq!(
            late.text,
            "its TLS handshake was not done after 0.005 s, 3 bytes came"
        );
    }

    #[test]
    fn garbage_is_refused_and_the_peer_is_told_by_an_alert() {
        let (_, mut handshake) = ends(TlsVersion::V1_3);
        let refused = handshake.receive(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
        assert_eq!(refused.reason, RefuseReason::BadTls);
        let alert = said_by_us(&mut handshake);
        assert_eq!(alert.first(), Some(&21), "content type (RFC 8446 5.1)");
        // It stays so, whatever comes.
        assert_eq!(handshake.receive(b"more").unwrap_err(), refused);
    }

    #[test]
    fn a_handshake_without_end_is_ended() {
        let (mut client, mut handshake) = ends(TlsVersion::V1_3);
        handshake.received = RECEIVED_MAX - 1;
        let hello = said_by_client(&mut client);
        handshake.receive(&hello[..1]).unwrap();
        let refused = handshake.receive(&hello[1..2]).unwrap_err();
        assert_eq!(refused.reason, RefuseReason::BadTls);
    }

    #[test]
    fn one_that_goes_away_is_told_with_what_it_did() {
        let (mut client, mut handshake) = ends(TlsVersion::V1_2);
        handshake
            .receive(&said_by_client(&mut client)[..10])
            .unwrap();
        let gone = handshake.gone(None);
        assert_eq!(gone.reason, RefuseReason::HandshakeGone);
        assert!(gone.text.ends_with("after 10 bytes"), "{}", gone.text);
        let broken = || Err(io::ErrorKind::ConnectionReset.into());
        let (mut client, mut handshake) = ends(TlsVersion::V1_3);
        handshake.receive(&said_by_client(&mut client)).unwrap();
        let refused = handshake.transmit(|_| broken()).unwrap_err();
        assert_eq!(refused.reason, RefuseReason::HandshakeGone);
    }
}
