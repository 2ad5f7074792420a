use super::*;

#[test]
fn our_address_chooses_the_domain_and_the_name_that_is_asked_for_does_not() {
    let cluster = Cluster::new();
    let domain = |name: &'static str, addresses: &[&str]| TlsDomain {
        addresses: addresses
            .iter()
            .map(|text| addr(text))
            .map(|addr| (addr.ip(), addr.port()))
            .collect(),
        ..cluster.domain(name, &cluster.ca.node(name))
    };
    let server = ServerTls::load(&[
        domain("one", &["192.0.2.1:5556", "[2001:db8::1]:0"]),
        domain("two", &["192.0.2.1:0"]),
        domain("three", &["192.0.2.3:5556"]),
    ])
    .unwrap();
    let client = ClientTls::load(&[cluster.client_domain()]).unwrap();
    for (local, name) in [
        ("192.0.2.1:5556", "CN=one"),
        ("192.0.2.1:5557", "CN=two"),
        ("[::ffff:192.0.2.1]:5556", "CN=one"),
        ("[2001:db8::1]:9", "CN=one"),
        ("192.0.2.3:5556", "CN=three"),
    ] {
        assert!(server.covers(addr(local)));
        let mut pair = Pair {
            server: server.accept(addr(local)).unwrap(),
            client: client.connect(there(), Some(&name[3..])).unwrap(),
        };
        assert_eq!(pair.shake(), (Ok(()), Ok(())));
        assert_eq!(pair.client.peer().unwrap().subject, name);
    }
    let nobody = addr("192.0.2.3:5557");
    assert!(!server.covers(nobody));
    let failure = server.accept(nobody).unwrap_err();
    assert_eq!(failure, TlsFailure::NoDomain(nobody));
    assert!(failure.to_string().contains("192.0.2.3:5557"), "{failure}");
    // A client that asks for another name gets the certificate of the address all the same.
    let mut pair = Pair {
        server: server.accept(there()).unwrap(),
        client: client.connect(there(), Some("two")).unwrap(),
    };
    let failure = pair.shake().1.unwrap_err();
    assert!(failure.to_string().contains("only valid for"), "{failure}");
}

#[test]
fn their_address_chooses_the_domain_of_a_client() {
    let cluster = Cluster::new();
    let domain = |name: &'static str, ip: &str| TlsDomain {
        addresses: vec![(ip.parse().unwrap(), 0)],
        ..cluster.domain(name, &cluster.ca.node(name))
    };
    let client = ClientTls::load(&[domain("a", "192.0.2.1"), domain("b", "192.0.2.2")]).unwrap();
    let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
    for (to, name) in [("192.0.2.1:1", "CN=a"), ("192.0.2.2:1", "CN=b")] {
        let mut pair = Pair {
            server: server.accept(there()).unwrap(),
            client: client.connect(addr(to), None).unwrap(),
        };
        assert_eq!(pair.shake(), (Ok(()), Ok(())));
        assert_eq!(pair.server.peer().unwrap().subject, name);
    }
    let nobody = addr("192.0.2.9:1");
    let failure = client.connect(nobody, None).unwrap_err();
    assert_eq!(failure, TlsFailure::NoDomain(nobody));
}

#[test]
fn a_name_is_looked_for_only_when_one_is_asked_for() {
    let cluster = Cluster::new();
    let node = Node {
        addr: Some("192.0.2.7".parse().unwrap()),
        ..Node::named("sip1.example.org")
    };
    let domain = cluster.domain("server", &cluster.ca.issue(&node));
    let server = ServerTls::load(&[domain]).unwrap();
    let client = ClientTls::load(&[cluster.client_domain()]).unwrap();
    let ask = |name| {
        let mut pair = Pair {
            server: server.accept(there()).unwrap(),
            client: client.connect(there(), name).unwrap(),
        };
        pair.shake().1
    };
    assert_eq!(ask(None), Ok(()));
    assert_eq!(ask(Some("sip1.example.org")), Ok(()));
    assert_eq!(ask(Some("192.0.2.7")), Ok(()));
    for other in ["sip2.example.org", "192.0.2.1"] {
        let failure = ask(Some(other)).unwrap_err();
        assert!(matches!(failure, TlsFailure::WrongName(_)), "{failure:?}");
        assert!(failure.to_string().contains(other), "{failure}");
        assert!(
            failure.to_string().contains("sip1.example.org"),
            "{failure}"
        );
    }
    let failure = client.connect(there(), Some("no name")).unwrap_err();
    assert!(
        failure.to_string().contains("\"no name\" is neither"),
        "{failure}"
    );
}

#[test]
fn versions_are_those_between_the_lowest_and_the_highest_of_both() {
    let cluster = Cluster::new();
    let (old, new) = (TlsVersion::V1_2, TlsVersion::V1_3);
    let server = |lowest, highest| TlsDomain {
        lowest,
        highest,
        ..cluster.server_domain()
    };
    let client = |lowest, highest| TlsDomain {
        lowest,
        highest,
        ..cluster.client_domain()
    };
    for (server, client, agreed) in [
        (server(old, new), client(old, new), new),
        (server(old, new), client(old, old), old),
        (server(old, old), client(old, new), old),
        (server(new, new), client(old, new), new),
    ] {
        assert_eq!(Pair::up(&server, &client).server.version(), Some(agreed));
    }
    for (server, client) in [
        (server(new, new), client(old, old)),
        (server(old, old), client(new, new)),
    ] {
        let failure = refusal(&server, &client);
        assert_eq!(failure.reason(), RefuseReason::NoCommon);
        assert!(failure.to_string().contains("tls_method"), "{failure}");
    }
}

#[test]
fn a_handshake_that_somebody_talks_down_to_an_older_version_fails() {
    let cluster = Cluster::new();
    let mut pair = Pair::new(&cluster.server_domain(), &cluster.client_domain());
    let mut hello = said(&mut pair.client);
    // supported_versions (RFC 8446 4.2.1): 43, 5 bytes, 4 bytes of versions, 1.3 and 1.2.
    let offer = [0, 43, 0, 5, 4, 3, 4, 3, 3];
    let at = hello
        .windows(offer.len())
        .position(|window| window == offer);
    hello[at.unwrap() + 5..][..2].copy_from_slice(&[0x7F, 0]);
    pair.server.receive(&hello, |_| ()).unwrap();
    assert_eq!(pair.server.version(), Some(TlsVersion::V1_2));
    let answer = said(&mut pair.server);
    let failure = pair.client.receive(&answer, |_| ()).unwrap_err();
    assert_eq!(failure.reason(), RefuseReason::BadTls);
    assert!(failure.to_string().contains("Downgrade"), "{failure}");
}

#[test]
fn a_reload_is_for_the_sessions_to_come() {
    let cluster = Cluster::new();
    let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
    let client = ClientTls::load(&[cluster.client_domain()]).unwrap();
    let mut before = Pair::of(&server, &client);
    assert_eq!(before.shake(), (Ok(()), Ok(())));
    let mut half = Pair::of(&server, &client);
    let hello = said(&mut half.client);
    half.server.receive(&hello, |_| ()).unwrap();

    let renewed = Cluster::new();
    server.reload(&[renewed.server_domain()]).unwrap();
    before.assert_talks();
    let answer = said(&mut half.server);
    half.client.receive(&answer, |_| ()).unwrap();
    assert_eq!(half.shake(), (Ok(()), Ok(())));
    half.assert_talks();
    let (at_server, at_client) = Pair::of(&server, &client).shake();
    assert!(at_server.is_err());
    assert_eq!(at_client, Err(TlsFailure::UnknownCa));
    client.reload(&[renewed.client_domain()]).unwrap();
    let mut after = Pair::of(&server, &client);
    assert_eq!(after.shake(), (Ok(()), Ok(())));
    after.assert_talks();
    before.assert_talks();
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let cluster = Cluster::new();
    let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
    let client = ClientTls::load(&[cluster.client_domain()]).unwrap();
    let renewed = Cluster::new();
    let broken = TlsDomain {
        private_key: renewed.folder.path().join("nowhere.key"),
        ..renewed.server_domain()
    };
    // The first of the two is in order, and is not taken either.
    server
        .reload(&[renewed.server_domain(), broken])
        .unwrap_err();
    client.reload(&[]).unwrap_err();
    let mut pair = Pair::of(&server, &client);
    assert_eq!(pair.shake(), (Ok(()), Ok(())));
    pair.assert_talks();
}
