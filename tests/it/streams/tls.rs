//! BIN over TLS: who is let in with which certificate, and what becomes of those who are not.
//!
//! The other side is rustls as it comes, so a mistake of the engine's sessions cannot hide behind one of its own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use binrush_engine::stream::{CloseReason, RefuseReason, StreamLimits};
use binrush_engine::tls::{TlsDomain, TlsFiles, TlsVersion};
use binrush_engine::{EngineConfig, StreamConfig};

use super::node::{Ended, GoodPeer, Node, config, connect, is_turned_away, wait_for_end};
use super::traffic::{CAPTURES, DIALOG, event, flows, header, names, pieces};
use crate::dice::Dice;
use crate::process::{Running, wait_until};
use crate::receiver::count;
use client::{Client, Trust};
use pki::{Pki, Validity};

/// The other side.
mod client;
/// Certificates made for one test.
mod pki;

/// A node that listens for TLS too, as `domain` says.
fn node(domain: TlsDomain, limits: StreamLimits) -> (Node, SocketAddr) {
    let config = tls_config(domain, limits);
    let node = Node::with_names(config, &[DIALOG.to_vec()], None);
    let addr = node
        .engine
        .listeners()
        .find(|listener| listener.tls)
        .expect("one")
        .addr;
    (node, addr)
}

fn tls_config(domain: TlsDomain, limits: StreamLimits) -> EngineConfig {
    let config = config(2, limits);
    EngineConfig {
        streams: StreamConfig {
            listen_tls: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            tls: Some(TlsFiles {
                server: vec![domain],
                client: vec![],
            }),
            ..config.streams
        },
        ..config
    }
}

/// Lets a stranger try, between the packets of a peer that is welcome, and stops.
fn beside_a_good_peer(
    pki: &Pki,
    domain: TlsDomain,
    limits: StreamLimits,
    stranger: impl FnOnce(&mut Node, SocketAddr),
) -> Ended {
    let version = domain.highest;
    let (mut node, addr) = node(domain, limits);
    let mut good = Client::connect(addr, &pki.client(version), version);
    let packets: Vec<Vec<u8>> = (0..40).map(|number| event(1, number % 5, number)).collect();
    good.say(&packets[..20].concat());
    stranger(&mut node, addr);
    good.say(&packets[20..].concat());
    good.leave();
    node.wait_for("all connections to end", |snapshot| {
        snapshot.streams.total.open == 0 && snapshot.streams.accept.shaking == 0
    });
    let ended = node.stop();
    ended.closed(&[(CloseReason::Peer, 1)]);
    let seen = ended.seen.len();
    assert_eq!(seen, packets.len(), "packets of the one who is welcome");
    ended
}

#[test]
fn the_captures_arrive_through_both_versions_whatever_the_cuts() {
    let pki = Pki::new("tls-captures");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for capture in CAPTURES {
            let flows = flows(capture);
            let names = names(&flows);
            // All of them come at once, from one address.
            let limits = StreamLimits {
                handshakes: 512,
                ..StreamLimits::default()
            };
            let config = tls_config(pki.domain(), limits);
            let mut node = Node::with_names(config, &names, None);
            let mut listeners = node.engine.listeners();
            let addr = listeners.find(|listener| listener.tls).expect("one").addr;
            drop(listeners);
            let clients = pki.client(version);
            thread::scope(|scope| {
                for (number, flow) in (0..).zip(&flows) {
                    let clients = &clients;
                    scope.spawn(move || {
                        let mut client = Client::connect(addr, clients, version);
                        for piece in pieces(&flow.bytes(), 20_000, &mut Dice::new(number)) {
                            client.say(piece);
                        }
                        client.leave();
                    });
                }
            });
            node.wait_for("all connections to end", |snapshot| {
                snapshot.streams.total.open == 0
            });
            let ended = node.stop();
            ended.closed(&[(CloseReason::Peer, flows.len() as u64)]);
            let mut seen: Vec<Vec<u8>> = ended
                .seen
                .iter()
                .map(|(_, packet)| packet.to_vec())
                .collect();
            let mut sent: Vec<Vec<u8>> = flows.into_iter().flat_map(|flow| flow.packets).collect();
            seen.sort_unstable();
            sent.sort_unstable();
            assert!(seen == sent, "{capture}, {version:?}");
        }
    }
}

#[test]
fn who_is_signed_by_somebody_else_is_refused() {
    let (pki, other) = (Pki::new("tls-ours"), Pki::new("tls-theirs"));
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let domain = pki.domain_up_to(version);
        let ended = beside_a_good_peer(&pki, domain, StreamLimits::default(), |node, addr| {
            // It trusts us, and shows what somebody else signed.
            let stranger = pki.shows(&other.certificate(Validity::Now), version);
            Client::is_refused(addr, &stranger);
            node.wait_for_refused(RefuseReason::UnknownCa, 1);
        });
        ended.refused(&[(RefuseReason::UnknownCa, 1)]);
    }
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let pki = Pki::new("tls-expired");
    let ended = beside_a_good_peer(&pki, pki.domain(), StreamLimits::default(), |node, addr| {
        for (count, validity) in [(1, Validity::Over), (2, Validity::NotYet)] {
            let late = pki.shows(&pki.certificate(validity), TlsVersion::V1_3);
            Client::is_refused(addr, &late);
            node.wait_for_refused(RefuseReason::Expired, count);
        }
    });
    ended.refused(&[(RefuseReason::Expired, 2)]);
}

#[test]
fn who_shows_no_certificate_is_refused_unless_nobody_has_to() {
    let pki = Pki::new("tls-none");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let domain = pki.domain_up_to(version);
        let ended = beside_a_good_peer(&pki, domain, StreamLimits::default(), |node, addr| {
            Client::is_refused(addr, &pki.shows_nothing(version));
            node.wait_for_refused(RefuseReason::NoCertificate, 1);
        });
        ended.refused(&[(RefuseReason::NoCertificate, 1)]);
    }
    let domain = TlsDomain {
        require: false,
        ..pki.domain()
    };
    let (mut node, addr) = node(domain, StreamLimits::default());
    let mut anonymous =
        Client::connect(addr, &pki.shows_nothing(TlsVersion::V1_3), TlsVersion::V1_3);
    anonymous.say(&event(1, 1, 1));
    anonymous.leave();
    node.wait_for_closed(CloseReason::Peer, 1);
    assert_eq!(node.stop().seen.len(), 1);
}

#[test]
fn a_version_that_is_too_old_is_refused() {
    let pki = Pki::new("tls-downgrade");
    let domain = TlsDomain {
        lowest: TlsVersion::V1_3,
        ..pki.domain()
    };
    let ended = beside_a_good_peer(&pki, domain, StreamLimits::default(), |node, addr| {
        Client::is_refused(addr, &pki.client(TlsVersion::V1_2));
        node.wait_for_refused(RefuseReason::NoCommon, 1);
        let mut old = connect(addr);
        old.write_all(&client::hello_of_tls_1_1())
            .expect("loopback");
        let mut said = Vec::new();
        // An alert, and the end, by whatever way.
        let _ = old.read_to_end(&mut said);
        node.wait_for_refused(RefuseReason::NoCommon, 2);
    });
    ended.refused(&[(RefuseReason::NoCommon, 2)]);
}

#[test]
fn who_speaks_no_tls_is_refused_where_tls_is_spoken() {
    let pki = Pki::new("tls-plain");
    let ended = beside_a_good_peer(&pki, pki.domain(), StreamLimits::default(), |node, addr| {
        for (count, bytes) in (1..).zip([
            event(2, 1, 1),
            vec![0; 100],
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ]) {
            let mut plain = connect(addr);
            plain.write_all(&bytes).expect("loopback");
            let _ = plain.read_to_end(&mut Vec::new());
            node.wait_for_refused(RefuseReason::BadTls, count);
        }
    });
    ended.refused(&[(RefuseReason::BadTls, 3)]);
}

#[test]
fn a_handshake_that_stalls_or_is_left_ends_and_holds_nobody_up() {
    let pki = Pki::new("tls-stall");
    let limits = StreamLimits {
        handshake: Duration::from_millis(300),
        // An eighth of them may be of one address.
        handshakes: 64,
        ..StreamLimits::default()
    };
    let ended = beside_a_good_peer(&pki, pki.domain(), limits, |node, addr| {
        // Silent from the beginning, and in the middle of its first flight.
        let mut silent: Vec<TcpStream> = (0..4).map(|_| connect(addr)).collect();
        let hello = client::hello(&pki.client(TlsVersion::V1_3));
        for stream in &mut silent[..2] {
            stream
                .write_all(&hello[..hello.len() / 2])
                .expect("loopback");
        }
        silent.iter_mut().for_each(wait_for_end);
        node.wait_for_refused(RefuseReason::HandshakeTimeout, 4);
        let mut left = connect(addr);
        left.write_all(&hello[..20]).expect("loopback");
        drop(left);
        node.wait_for_refused(RefuseReason::HandshakeGone, 1);
    });
    ended.refused(&[
        (RefuseReason::HandshakeTimeout, 4),
        (RefuseReason::HandshakeGone, 1),
    ]);
}

#[test]
fn handshakes_beyond_their_limit_are_refused() {
    let pki = Pki::new("tls-many");
    let limits = StreamLimits {
        handshake: Duration::from_secs(2),
        // Three of one address.
        handshakes: 24,
        ..StreamLimits::default()
    };
    let (mut node, addr) = node(pki.domain(), limits);
    let mut silent: Vec<TcpStream> = (0..3).map(|_| connect(addr)).collect();
    node.wait_for("three handshakes", |snapshot| {
        snapshot.streams.accept.shaking == 3
    });
    is_turned_away(addr);
    node.wait_for_refused(RefuseReason::Handshakes, 1);
    // Connections without TLS go on meanwhile.
    let mut plain = GoodPeer::new(&node, 1);
    plain.send(10);
    silent.iter_mut().for_each(wait_for_end);
    let ended = node.end(vec![plain]);
    ended.refused(&[
        (RefuseReason::Handshakes, 1),
        (RefuseReason::HandshakeTimeout, 3),
    ]);
}

#[test]
fn a_peer_that_does_not_trust_us_is_counted_as_one_that_gave_up() {
    let (pki, other) = (Pki::new("tls-trust-ours"), Pki::new("tls-trust-theirs"));
    let ended = beside_a_good_peer(&pki, pki.domain(), StreamLimits::default(), |node, addr| {
        Client::refuses(addr, &other.client(TlsVersion::V1_3));
        node.wait_for_refused(RefuseReason::Alert, 1);
    });
    ended.refused(&[(RefuseReason::Alert, 1)]);
}

#[test]
fn inside_tls_garbage_half_frames_and_damage_have_their_own_reasons() {
    let pki = Pki::new("tls-inside");
    let version = TlsVersion::V1_3;
    let (mut node, addr) = node(pki.domain(), StreamLimits::default());
    let client = || Client::connect(addr, &pki.client(version), version);
    let whole = event(1, 1, 1);

    let mut garbage = client();
    garbage.say(&[&whole[..], b"garbage"].concat());
    node.wait_for_closed(CloseReason::BadMarker, 1);

    let mut oversize = client();
    oversize.say(&header(1 << 20));
    node.wait_for_closed(CloseReason::BadLength, 1);

    let mut half = client();
    half.say(&whole[..20]);
    half.leave();
    node.wait_for_closed(CloseReason::HalfFrame, 1);

    let mut damaged = client();
    // Behind its handshake, which the shard knows nothing of.
    damaged.say(&whole);
    node.wait_for("a packet", |snapshot| snapshot.streams.total.frames == 2);
    damaged.say_outside(&[&[0x17, 3, 3, 0, 32][..], &[7; 32]].concat());
    node.wait_for_closed(CloseReason::Tls, 1);

    let ended = node.stop();
    ended.closed(&[
        (CloseReason::BadMarker, 1),
        (CloseReason::BadLength, 1),
        (CloseReason::HalfFrame, 1),
        (CloseReason::Tls, 1),
    ]);
    assert_eq!(ended.seen.len(), 2);
}

#[test]
fn new_certificates_are_for_new_connections_and_those_that_are_up_stay() {
    let pki = Pki::new("tls-reload");
    let config = format!(
        "listen = bins:127.0.0.1:0\nloadmodule \"proto_bins.so\"\nloadmodule \"tls_mgm.so\"\n\
         modparam(\"tls_mgm\", \"server_domain\", \"ours\")\n\
         modparam(\"tls_mgm\", \"certificate\", \"[ours]{}\")\n\
         modparam(\"tls_mgm\", \"private_key\", \"[ours]{}\")\n\
         modparam(\"tls_mgm\", \"ca_list\", \"[ours]{}\")\n\
         modparam(\"binrush\", \"shards\", 2)\n",
        pki.path("server.pem"),
        pki.path("server.key"),
        pki.path("ca.pem"),
    );
    let file = pki.file("binrush.cfg", &config);
    let mut process = Running::start(&["serve", "--json", "--stats", "1", "--config", &file]);
    let ready = process.event("ready");
    let addr = ready["listen"][0]
        .as_str()
        .and_then(|addr| addr.strip_prefix("bins:"));
    let addr: SocketAddr = addr.expect("bins:IP:PORT").parse().expect("an address");
    let version = TlsVersion::V1_3;
    let (mut before, mut said) = (Client::connect(addr, &pki.client(version), version), 0);
    let mut say = |client: &mut Client, count: usize| {
        for _ in 0..count {
            client.say(&event(1, said % 7, said));
            said += 1;
        }
    };
    say(&mut before, 100);
    let first = before.certificate();

    pki.renew_server();
    process.signal("HUP");
    // Traffic goes on while the files are read again.
    let mut rounds = 0;
    wait_until("the new certificate", || {
        say(&mut before, 10);
        let mut fresh = Client::connect(addr, &pki.client(version), version);
        say(&mut fresh, 1);
        fresh.leave();
        rounds += 1;
        fresh.certificate() != first
    });
    say(&mut before, 100);
    before.leave();

    // Files that cannot be used change nothing, and that is said.
    pki.spoil_server();
    process.signal("HUP");
    let mut after = Client::connect(addr, &pki.client(version), version);
    say(&mut after, 10);
    assert!(after.certificate() != first);
    after.leave();
    process.signal("TERM");
    let end = process.finish().ok();
    let total = end.json().pop().expect("a last line");
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(count(&total, "received"), said as u64, "{total}");
    assert_eq!(
        count(&total["streams"]["total"]["closed"], "peer"),
        rounds + 2,
        "{total}"
    );
}
