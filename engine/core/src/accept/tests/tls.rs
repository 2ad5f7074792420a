//! Handshakes over real sockets, with certificates that are made here.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;
use crate::tls::{ClientTls, Session, TlsDomain, TlsVersion};

/// Both, the older first.
pub(in crate::accept) const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

/// A CA and what it signed, in a folder that is gone with this.
pub(in crate::accept) struct Pki {
    folder: PathBuf,
}

impl Pki {
    pub(in crate::accept) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("binrush-accept-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let pki = Self { folder };
        let mut ca = CertificateParams::new([]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        pki.write("ca.pem", &ca.self_signed(&ca_key).unwrap().pem());
        let issuer = Issuer::new(ca, ca_key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            pki.write(&format!("{name}.pem"), &certificate.pem());
            pki.write(&format!("{name}.key"), &key.serialize_pem());
        }
        pki
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// Who shows `name`'s certificate and trusts this CA.
    fn domain(&self, name: &str) -> TlsDomain {
        TlsDomain {
            name: name.to_owned(),
            addresses: Vec::new(),
            certificate: self.folder.join(format!("{name}.pem")),
            private_key: self.folder.join(format!("{name}.key")),
            ca_list: Some(self.folder.join("ca.pem")),
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

    pub(in crate::accept) fn server(&self) -> ServerTls {
        ServerTls::load(&[self.domain("server")]).unwrap()
    }

    pub(in crate::accept) fn client(&self, highest: TlsVersion) -> ClientTls {
        let domain = TlsDomain {
            highest,
            ..self.domain("client")
        };
        ClientTls::load(&[domain]).unwrap()
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A peer over TLS.
struct Peer {
    socket: TcpSocket,
    session: Session,
}

impl Peer {
    fn connect(client: &ClientTls, to: SocketAddr) -> Self {
        Self {
            socket: connect(to),
            session: client.connect(to, None).unwrap(),
        }
    }

    /// One look at the socket: whether the connection is still there.
    fn step(&mut self) -> bool {
        let socket = &self.socket;
        let sent = self.session.transmit(|slices| socket.send_vectored(slices));
        let mut buffer = [0; 4096];
        let received = match socket.recv(&mut buffer) {
            Ok(0) => false,
            Ok(len) => self.session.receive(&buffer[..len], |_| {}).is_ok(),
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        sent.is_ok() && received
    }

    /// Does its part until `done`, or until the connection is over.
    #[track_caller]
    fn until(&mut self, mut done: impl FnMut() -> bool) {
        until(|| !self.step() || done());
    }
}

/// An acceptor with a listener for TLS, and those who can use it.
struct TlsSetup {
    setup: Setup,
    pki: Pki,
    addr: SocketAddr,
}

impl TlsSetup {
    fn with(limits: &StreamLimits) -> Self {
        let setup = Setup::start(1, limits, Access::loopback());
        let pki = Pki::new();
        let (listener, addr) = listener(v4());
        let tls = Arc::new(pki.server());
        setup.acceptor.open(PLAIN, listener, Some(tls)).unwrap();
        Self { setup, pki, addr }
    }

    fn new() -> Self {
        Self::with(&StreamLimits::default())
    }

    fn shaking(&self, count: u64) {
        let counts = || self.setup.acceptor.counts();
        until(|| counts().shaking == count);
        assert!(counts().is_balanced());
    }

    /// The one reason for which somebody was refused, once.
    #[track_caller]
    fn refused(&self, arrived: u64, reason: RefuseReason) {
        let counts = self.setup.settled(arrived);
        assert_eq!(counts.refused_for(reason), 1, "{counts:?}");
    }
}

#[test]
fn who_shook_hands_is_handed_over_with_session_and_first_bytes() {
    for version in VERSIONS {
        let tls = TlsSetup::new();
        let mut peer = Peer::connect(&tls.pki.client(version), tls.addr);
        let packet = [b"the first packet".as_slice(), &[9; 3000]].concat();
        assert_eq!(peer.session.send(&packet), packet.len());
        peer.until(|| tls.setup.acceptor.counts().handed == 1);
        assert_eq!(tls.setup.settled(1).handed, 1);
        let mut accepted = tls.setup.taken(0).pop().unwrap();
        let mut session = accepted.tls.take().unwrap();
        assert_eq!(session.version(), Some(version));
        assert!(session.peer().is_some());
        // Early or not: no byte is lost between the acceptor and the shard.
        let mut plain = accepted.early;
        until(|| {
            peer.step();
            let mut buffer = [0; 4096];
            if let Ok(len) = accepted.socket.recv(&mut buffer) {
                let received = session.receive(&buffer[..len], |bytes| plain.extend(bytes));
                received.unwrap();
            }
            plain.len() >= packet.len()
        });
        assert_eq!(plain, packet);
    }
}

#[test]
fn who_does_not_prove_himself_is_refused_by_name_and_hears_why() {
    let tls = TlsSetup::new();
    let stranger = Pki::new();
    // Signed by another CA, but it knows ours.
    let domain = TlsDomain {
        ca_list: tls.pki.domain("client").ca_list,
        ..stranger.domain("client")
    };
    let unknown = ClientTls::load(&[domain]).unwrap();
    let mut peer = Peer::connect(&unknown, tls.addr);
    peer.until(|| false);
    tls.refused(1, RefuseReason::UnknownCa);
    // The alert came before the reset.
    let heard = peer.session.receive(b"x", |_| {}).unwrap_err();
    assert_eq!(heard.reason(), RefuseReason::Alert);

    // Who does not know our CA says so.
    let mut peer = Peer::connect(&stranger.client(TlsVersion::V1_3), tls.addr);
    until(|| !peer.step());
    let socket = &peer.socket;
    let _ = peer.session.transmit(|slices| socket.send_vectored(slices));
    tls.refused(2, RefuseReason::Alert);

    let told = tls.setup.acceptor.refusals();
    let texts: Vec<_> = told.iter().map(|row| row.2.as_str()).collect();
    assert!(texts[0].contains("ca_list"), "{texts:?}");
    assert_eq!(tls.setup.acceptor.counts().handed, 0);
}

#[test]
fn garbage_and_who_goes_away_are_told_apart() {
    let tls = TlsSetup::new();
    let garbage = connect(tls.addr);
    tls.shaking(1);
    let line = io::IoSlice::new(b"OPTIONS sip:here SIP/2.0\r\n\r\n");
    garbage.send_vectored(&[line]).unwrap();
    tls.refused(1, RefuseReason::BadTls);

    drop(connect(tls.addr));
    tls.refused(2, RefuseReason::HandshakeGone);

    let reset = connect(tls.addr);
    tls.shaking(1);
    reset.reset();
    let counts = tls.setup.settled(3);
    assert_eq!(counts.refused_for(RefuseReason::HandshakeGone), 2);
}

#[test]
fn who_says_nothing_and_who_says_a_byte_at_a_time_end_at_the_deadline() {
    let limits = StreamLimits {
        handshake: Duration::from_millis(150),
        ..StreamLimits::default()
    };
    let tls = TlsSetup::with(&limits);
    let start = Instant::now();
    let silent = connect(tls.addr);
    let dribbling = connect(tls.addr);
    let mut session = tls
        .pki
        .client(TlsVersion::V1_3)
        .connect(tls.addr, None)
        .unwrap();
    let mut hello = Vec::new();
    let collect = |slices: &[io::IoSlice<'_>]| {
        slices
            .iter()
            .for_each(|slice| hello.extend_from_slice(slice));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    };
    session.transmit(collect).unwrap();
    // Fewer than there are, however fast they go: it falls silent within the hello.
    assert!(hello.len() > 50);
    let (mut bytes, mut heard) = (hello.iter().take(50), None);
    until(|| {
        if let Some(byte) = bytes.next() {
            let sent = dribbling.send_vectored(&[io::IoSlice::new(&[*byte])]);
            heard = heard.or_else(|| sent.err().map(|error| error.kind()));
        }
        let counts = tls.setup.acceptor.counts();
        counts.refused_for(RefuseReason::HandshakeTimeout) == 2
    });
    assert!(start.elapsed() >= limits.handshake);
    assert!(is_reset(&silent));
    // The kernel tells it once, to whichever call comes first.
    assert!(heard == Some(io::ErrorKind::ConnectionReset) || is_reset(&dribbling));
    assert_eq!(tls.setup.settled(2).handed, 0);
}

#[test]
fn beyond_the_cap_the_newest_is_refused_and_connections_in_clear_go_on() {
    let limits = StreamLimits {
        handshakes: 2,
        ..StreamLimits::default()
    };
    let tls = TlsSetup::with(&limits);
    let plain = tls.setup.open(OTHER, v4());
    let from = |host| connect_from([127, 0, 0, host].into(), tls.addr);
    let mut stalled = vec![from(2), from(3)];
    tls.shaking(2);
    assert!(is_reset(&from(4)));
    let _plain = connect(plain);
    until(|| tls.setup.acceptor.counts().handed == 1);
    stalled.pop();
    tls.shaking(1);
    let mut peer = Peer::connect(&tls.pki.client(TlsVersion::V1_3), tls.addr);
    peer.until(|| tls.setup.acceptor.counts().handed == 2);
    let counts = tls.setup.acceptor.counts();
    assert!(counts.is_balanced());
    assert_eq!((counts.arrived, counts.handed, counts.shaking), (5, 2, 1));
    assert_eq!(counts.refused_for(RefuseReason::Handshakes), 1);
}

#[test]
fn one_source_cannot_take_all_handshakes() {
    let limits = StreamLimits {
        handshakes: 17,
        ..StreamLimits::default()
    };
    let tls = TlsSetup::with(&limits);
    let greedy = || connect_from([127, 0, 0, 9].into(), tls.addr);
    let stalled = [greedy(), greedy()];
    tls.shaking(2);
    assert!(is_reset(&greedy()));
    let told = tls.setup.acceptor.refusals();
    assert!(
        told[0].2.contains("2 handshakes of its address"),
        "{told:?}"
    );
    let mut peer = Peer::connect(&tls.pki.client(TlsVersion::V1_3), tls.addr);
    peer.until(|| tls.setup.acceptor.counts().handed == 1);
    let counts = tls.setup.acceptor.counts();
    assert_eq!((counts.handed, counts.shaking), (1, 2), "{counts:?}");
    drop(stalled);
    // And it gets its places back.
    tls.shaking(0);
    let _stalled = [greedy(), greedy()];
    tls.shaking(2);
}

#[test]
fn a_handshake_takes_a_place_of_its_source_and_gives_it_back() {
    let limits = StreamLimits {
        per_source: 1,
        ..StreamLimits::default()
    };
    let tls = TlsSetup::with(&limits);
    let stalled = connect(tls.addr);
    tls.shaking(1);
    assert!(is_reset(&connect(tls.addr)));
    drop(stalled);
    tls.shaking(0);
    let mut peer = Peer::connect(&tls.pki.client(TlsVersion::V1_3), tls.addr);
    peer.until(|| tls.setup.acceptor.counts().handed == 1);
    let counts = tls.setup.settled(3);
    assert_eq!(counts.refused_for(RefuseReason::PerSource), 1);
}

#[test]
fn a_new_access_list_a_closed_listener_and_a_stop_end_handshakes() {
    let tls = TlsSetup::new();
    let (allowed, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
    let ended = connect_from(other, tls.addr);
    let stays = connect_from(allowed, tls.addr);
    tls.shaking(2);
    let mut access = Access::nobody();
    access.allow(allowed.into()).unwrap();
    tls.setup.acceptor.set_access(access).unwrap();
    assert!(is_reset(&ended));
    tls.shaking(1);

    tls.setup.acceptor.close(PLAIN).unwrap();
    assert!(is_reset(&stays));
    let counts = tls.setup.settled(2);
    assert_eq!(counts.refused_for(RefuseReason::Acl), 1);
    assert_eq!(counts.refused_for(RefuseReason::Closing), 1);

    let tls = TlsSetup::new();
    let stalled = connect(tls.addr);
    tls.shaking(1);
    let counts = tls.setup.acceptor.stop();
    assert!(is_reset(&stalled));
    assert!(counts.is_balanced());
    assert_eq!((counts.arrived, counts.shaking), (1, 0));
    assert_eq!(counts.refused_for(RefuseReason::Closing), 1);
}
