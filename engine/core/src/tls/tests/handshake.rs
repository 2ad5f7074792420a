use rcgen::ExtendedKeyUsagePurpose;
use ring::digest;

use super::*;
use crate::tls::certificate::key_digest;

#[test]
fn both_sides_prove_who_they_are_in_either_version() {
    let cluster = Cluster::new();
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let server = TlsDomain {
            highest: version,
            ..cluster.server_domain()
        };
        let mut pair = Pair::new(&server, &cluster.client_domain());
        assert!(pair.server.is_handshaking() && pair.client.is_handshaking());
        assert_eq!((pair.server.peer(), pair.server.version()), (None, None));
        assert_eq!(pair.shake(), (Ok(()), Ok(())));
        for (session, name, issued) in [
            (&pair.server, "CN=client", &cluster.client),
            (&pair.client, "CN=server", &cluster.server),
        ] {
            assert_eq!(session.version(), Some(version));
            let peer = session.peer().unwrap();
            assert_eq!(peer.subject, name);
            let key = rcgen::KeyPair::from_pem(&issued.key).unwrap();
            let key = rcgen::PublicKeyData::subject_public_key_info(&key);
            let expected = digest::digest(&digest::SHA256, &key);
            assert_eq!(peer.key_sha256, expected.as_ref());
        }
        pair.assert_talks();
    }
}

#[test]
fn other_kinds_of_keys_will_do() {
    let cluster = Cluster::new();
    for key in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let node = Node {
            key,
            ..Node::named("server")
        };
        let server = cluster.domain("server", &cluster.ca.issue(&node));
        Pair::up(&server, &cluster.client_domain()).assert_talks();
    }
}

#[test]
fn certificates_between_are_sent_and_used() {
    let cluster = Cluster::new();
    let between = cluster.ca.between("Between CA");
    let mut issued = between.node("client");
    let alone = cluster.domain("client", &issued);
    assert_eq!(
        refusal(&cluster.server_domain(), &alone),
        TlsFailure::UnknownCa
    );
    issued.certificate.push_str(&between.certificate);
    let whole = cluster.domain("client", &issued);
    Pair::up(&cluster.server_domain(), &whole).assert_talks();
}

#[test]
fn a_client_without_certificate_is_refused_and_told_what_is_missing() {
    let cluster = Cluster::new();
    let client = TlsDomain {
        certificate: PathBuf::new(),
        private_key: PathBuf::new(),
        ..cluster.client_domain()
    };
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let server = TlsDomain {
            highest: version,
            ..cluster.server_domain()
        };
        let failure = refusal(&server, &client);
        assert_eq!(failure, TlsFailure::NoCertificate);
        assert_eq!(failure.reason(), RefuseReason::NoCertificate);
    }
    let mut pair = Pair::new(&cluster.server_domain(), &client);
    let told = pair.shake().1.unwrap_err();
    assert_eq!(told.reason(), RefuseReason::Alert);
    assert!(
        told.to_string().contains("set certificate and private_key"),
        "{told}"
    );
    // Unless the domain does without.
    let server = TlsDomain {
        require: false,
        ..cluster.server_domain()
    };
    let mut pair = Pair::up(&server, &client);
    assert_eq!(pair.server.peer(), None);
    pair.assert_talks();
}

#[test]
fn whoever_another_ca_signed_is_refused_on_both_sides() {
    let cluster = Cluster::new();
    // It calls itself as ours does, but has another key.
    let stranger = Authority::new("Cluster CA");
    let client = cluster.domain("client", &stranger.node("client"));
    let failure = refusal(&cluster.server_domain(), &client);
    assert_eq!(failure, TlsFailure::UnknownCa);
    assert_eq!(failure.reason(), RefuseReason::UnknownCa);
    let server = cluster.domain("server", &stranger.node("server"));
    let failure = refusal_of_server(&server, &cluster.client_domain());
    assert_eq!(failure, TlsFailure::UnknownCa);
    let alone = cluster.domain("client", &Node::named("client").self_signed());
    assert_eq!(
        refusal(&cluster.server_domain(), &alone),
        TlsFailure::UnknownCa
    );
}

#[test]
fn a_certificate_counts_in_its_time_only() {
    let cluster = Cluster::new();
    for (begins, ends, words) in [(-30, -3, "it ended at 20"), (3, 30, "it begins at 20")] {
        let node = |name| {
            cluster.ca.issue(&Node {
                begins,
                ends,
                ..Node::named(name)
            })
        };
        let client = cluster.domain("client", &node("client"));
        let server = cluster.domain("server", &node("server"));
        for failure in [
            refusal(&cluster.server_domain(), &client),
            refusal_of_server(&server, &cluster.client_domain()),
        ] {
            assert_eq!(failure.reason(), RefuseReason::Expired);
            assert!(failure.to_string().contains(words), "{failure}");
        }
    }
}

#[test]
fn a_certificate_for_another_purpose_is_refused() {
    let cluster = Cluster::new();
    let node = Node {
        purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
        ..Node::named("client")
    };
    let client = cluster.domain("client", &cluster.ca.issue(&node));
    let failure = refusal(&cluster.server_domain(), &client);
    assert!(
        failure.to_string().contains("serverAuth and clientAuth"),
        "{failure}"
    );
}

#[test]
fn who_is_revoked_is_refused_and_who_is_on_no_list_is_not() {
    let cluster = Cluster::new();
    let other = cluster.ca.node("other");
    let list = cluster.ca.revoke(&[&cluster.client], &[], 10);
    cluster.folder.write("lists/ours.der", &list);
    // A list of a CA that nobody here knows says nothing about ours.
    let strange = Authority::new("Strange CA").revoke(&[&other], &[], 10);
    cluster.folder.write("lists/strange.der", strange);
    let server = TlsDomain {
        crl_dir: Some(cluster.folder.path().join("lists")),
        ..cluster.server_domain()
    };
    let failure = refusal(&server, &cluster.client_domain());
    assert_eq!(failure, TlsFailure::Revoked);
    assert_eq!(failure.reason(), RefuseReason::Revoked);
    Pair::up(&server, &cluster.domain("other", &other)).assert_talks();

    let text = pem("X509 CRL", &list);
    cluster.folder.write("text/ours.pem", text);
    let server = TlsDomain {
        crl_dir: Some(cluster.folder.path().join("text")),
        ..cluster.server_domain()
    };
    assert_eq!(
        refusal(&server, &cluster.client_domain()),
        TlsFailure::Revoked
    );
    // The same at the other end.
    let list = cluster.ca.revoke(&[&cluster.server], &[], 10);
    cluster.folder.write("servers/ours.der", list);
    let client = TlsDomain {
        crl_dir: Some(cluster.folder.path().join("servers")),
        ..cluster.client_domain()
    };
    let failure = refusal_of_server(&cluster.server_domain(), &client);
    assert_eq!(failure, TlsFailure::Revoked);
}

#[test]
fn a_ca_between_that_is_revoked_counts_where_all_are_looked_up() {
    let cluster = Cluster::new();
    let between = cluster.ca.between("Between CA");
    let mut issued = between.node("client");
    issued.certificate.push_str(&between.certificate);
    let client = cluster.domain("client", &issued);
    let list = cluster.ca.revoke(&[], &[&between], 10);
    cluster.folder.write("lists/root.der", list);
    let mut server = TlsDomain {
        crl_dir: Some(cluster.folder.path().join("lists")),
        ..cluster.server_domain()
    };
    Pair::up(&server, &client).assert_talks();
    server.crl_check_all = true;
    assert_eq!(refusal(&server, &client), TlsFailure::Revoked);
}

#[test]
fn a_list_that_gets_too_old_refuses_those_it_is_about() {
    let cluster = Cluster::new();
    let list = cluster.ca.revoke(&[], &[], 10);
    cluster.folder.write("lists/ours.der", list);
    let domain = TlsDomain {
        crl_dir: Some(cluster.folder.path().join("lists")),
        ..cluster.server_domain()
    };
    let days = Days::new();
    let server = ServerTls::load_on(days.ground(), &[domain]).unwrap();
    let client = ClientTls::load(&[cluster.client_domain()]).unwrap();
    assert_eq!(server.warnings(), Vec::<String>::new());
    assert_eq!(Pair::of(&server, &client).shake().0, Ok(()));
    days.set(11);
    let failure = Pair::of(&server, &client).shake().0.unwrap_err();
    assert!(matches!(failure, TlsFailure::ListExpired(_)), "{failure:?}");
    assert_eq!(failure.reason(), RefuseReason::Revoked);
    let warnings = server.warnings();
    assert!(warnings[0].contains("ours.der ended at 20"), "{warnings:?}");
}

#[test]
fn only_pinned_keys_get_in_and_the_refusal_names_the_pin() {
    let cluster = Cluster::new();
    let key = key_digest(&der(&cluster.client.certificate)).unwrap();
    let server = |pins| TlsDomain {
        pins,
        ..cluster.server_domain()
    };
    let right = server(vec![[7; 32], key]);
    Pair::up(&right, &cluster.client_domain()).assert_talks();
    let failure = refusal(&server(vec![[7; 32]]), &cluster.client_domain());
    assert_eq!(failure.reason(), RefuseReason::NotPinned);
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(failure, TlsFailure::NotPinned(hex));
    // A pin does not stand in for a signature.
    let alone = Node::named("client").self_signed();
    let key = key_digest(&der(&alone.certificate)).unwrap();
    let client = cluster.domain("client", &alone);
    assert_eq!(refusal(&server(vec![key]), &client), TlsFailure::UnknownCa);
    // Unless that is what the domain says.
    let server = TlsDomain {
        verify: false,
        ca_list: None,
        ..server(vec![key])
    };
    Pair::up(&server, &client).assert_talks();
    assert_eq!(
        refusal(&server, &cluster.client_domain()).reason(),
        RefuseReason::NotPinned
    );
}

#[test]
fn a_pin_cannot_be_passed_by_showing_nothing() {
    let cluster = Cluster::new();
    let server = TlsDomain {
        require: false,
        pins: vec![[7; 32]],
        ..cluster.server_domain()
    };
    let client = TlsDomain {
        certificate: PathBuf::new(),
        private_key: PathBuf::new(),
        ..cluster.client_domain()
    };
    assert_eq!(refusal(&server, &client), TlsFailure::NoCertificate);
}

#[test]
fn without_verification_anybody_gets_in_but_with_a_key_of_their_own() {
    let cluster = Cluster::new();
    let domain = TlsDomain {
        verify: false,
        ca_list: None,
        ..cluster.server_domain()
    };
    let alone = Node::named("client").self_signed();
    let client = cluster.domain("client", &alone);
    Pair::up(&domain, &client).assert_talks();
    let nothing = TlsDomain {
        certificate: PathBuf::new(),
        private_key: PathBuf::new(),
        ..cluster.client_domain()
    };
    Pair::up(&domain, &nothing).assert_talks();
    // The certificate of one with the key of another.
    let server = ServerTls::load(&[domain]).unwrap();
    let mut session = server.accept(there()).unwrap();
    let mut thief = raw_client(&cluster.ca, &cluster.client.certificate, &alone.key);
    let failure = shake_raw(&mut thief, &mut session).unwrap_err();
    assert_eq!(failure.reason(), RefuseReason::BadTls);
    assert!(
        failure.to_string().contains("does not have the key"),
        "{failure}"
    );
}

#[test]
fn nothing_is_kept_to_resume() {
    let cluster = Cluster::new();
    let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
    let mut session = server.accept(there()).unwrap();
    let (certificate, key) = (&cluster.client.certificate, &cluster.client.key);
    let mut client = raw_client(&cluster.ca, certificate, key);
    shake_raw(&mut client, &mut session).unwrap();
    assert_eq!(client.tls13_tickets_received(), 0);
}

#[test]
fn the_newest_list_of_a_ca_counts_whatever_its_file_is_called() {
    let cluster = Cluster::new();
    let folder = |name: &str| TlsDomain {
        crl_dir: Some(cluster.folder.path().join(name)),
        ..cluster.server_domain()
    };
    // 300 is above 2, though not as text nor as its first byte. The older one has ended, which is no matter then.
    let newer = cluster.ca.revoke_by(&[&cluster.client], &[], 20, 300);
    let older = cluster.ca.revoke_by(&[], &[], -2, 2);
    for (newer_name, older_name) in [("a.crl", "b.crl"), ("d.crl", "c.crl")] {
        let name = format!("{newer_name}-lists");
        cluster
            .folder
            .write(&format!("{name}/{newer_name}"), &newer);
        cluster
            .folder
            .write(&format!("{name}/{older_name}"), &older);
        let server = folder(&name);
        let loaded = ServerTls::load(std::slice::from_ref(&server)).unwrap();
        let warnings = loaded.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let words = format!("{older_name}: holds an older revocation list");
        assert!(warnings[0].contains(&words), "{warnings:?}");
        assert_eq!(
            refusal(&server, &cluster.client_domain()),
            TlsFailure::Revoked
        );
    }
    // The same list once more under the name that OpenSSL looks for is none of that.
    cluster.folder.write("linked/ours.crl", &newer);
    let link = cluster.folder.path().join("linked/5ad8a5d6.r0");
    std::os::unix::fs::symlink("ours.crl", link).unwrap();
    let loaded = ServerTls::load(&[folder("linked")]).unwrap();
    assert_eq!(loaded.warnings(), Vec::<String>::new());
    // One that has ended and is the newest is an error, though an older one is good for longer.
    let ended = cluster.ca.revoke_by(&[&cluster.client], &[], -2, 400);
    cluster.folder.write("ended/a.crl", &newer);
    cluster.folder.write("ended/b.crl", &ended);
    let error = ServerTls::load(&[folder("ended")]).unwrap_err().to_string();
    assert!(
        error.contains("b.crl: is a revocation list that expired"),
        "{error}"
    );
}

/// Bytes as a block of PEM.
fn pem(label: &str, bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            text.push(match place <= three.len() {
                true => LETTERS[(bits >> (18 - 6 * place)) as usize & 63] as char,
                false => '=',
            });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
