use super::*;

/// What is said of `domain`.
fn complaint(domain: &TlsDomain) -> String {
    let domain = std::slice::from_ref(domain);
    let error = ServerTls::load(domain).unwrap_err().to_string();
    let at_client = ClientTls::load(domain).map(drop);
    // What a server finds fault with, a client does too.
    assert_eq!(at_client.unwrap_err().to_string(), error);
    error
}

#[track_caller]
fn assert_says(error: &str, words: &[&str]) {
    assert!(error.starts_with("TLS domain \"server\": "), "{error}");
    for word in words {
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
}

#[test]
fn a_file_that_is_not_there_or_not_what_it_should_be_is_named() {
    let cluster = Cluster::new();
    let good = cluster.server_domain();
    let with = |certificate: &PathBuf| TlsDomain {
        certificate: certificate.clone(),
        ..good.clone()
    };
    let nowhere = cluster.folder.path().join("nowhere.pem");
    assert_says(
        &complaint(&with(&nowhere)),
        &["nowhere.pem: cannot be read", "No such file"],
    );
    let empty = cluster.folder.write("empty.pem", "");
    let words = ["empty.pem: holds no certificate", "BEGIN CERTIFICATE"];
    assert_says(&complaint(&with(&empty)), &words);
    let cut = &cluster.server.certificate[..200];
    let cut = cluster.folder.write("cut.pem", cut);
    assert_says(&complaint(&with(&cut)), &["cut.pem: is broken PEM"]);
    let text = format!("{}{}", cluster.server.certificate, BAD_CERTIFICATE);
    let second = cluster.folder.write("second.pem", text);
    assert_says(
        &complaint(&with(&second)),
        &["second.pem: its certificate number 2"],
    );
    assert_says(
        &complaint(&with(&good.private_key)),
        &["server.key: holds no certificate"],
    );
    let long = cluster
        .folder
        .write("long.pem", cluster.server.certificate.repeat(17));
    assert_says(&complaint(&with(&long)), &["long.pem", "16 at most"]);
    let huge = cluster.folder.write("huge.pem", vec![b'x'; (32 << 20) + 1]);
    assert_says(
        &complaint(&with(&huge)),
        &["huge.pem: bytes in a file", "33554432 at most"],
    );
}

#[test]
fn a_key_has_to_be_there_open_and_that_of_the_certificate() {
    let cluster = Cluster::new();
    let good = cluster.server_domain();
    let with = |key: PathBuf| TlsDomain {
        private_key: key,
        ..good.clone()
    };
    let other = cluster.folder.write("other.key", &cluster.client.key);
    let words = ["other.key: is not the key", "server.pem"];
    assert_says(&complaint(&with(other)), &words);
    let words = ["server.pem: holds no private key"];
    assert_says(&complaint(&with(good.certificate.clone())), &words);
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked = cluster.folder.write("locked.key", locked);
    assert_says(
        &complaint(&with(locked)),
        &["locked.key: the key is encrypted", "openssl pkey"],
    );
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let older = cluster.folder.write("older.key", older);
    assert_says(
        &complaint(&with(older)),
        &["older.key: the key is encrypted"],
    );
    let odd = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    let odd = cluster.folder.write("odd.key", odd);
    assert_says(
        &complaint(&with(odd)),
        &["odd.key: the key cannot be used", "RSA of 2048"],
    );
    assert_says(&complaint(&with(PathBuf::new())), &["go together"]);
}

#[test]
fn no_part_of_a_key_is_in_an_error() {
    let cluster = Cluster::new();
    let good = cluster.server_domain();
    let key = &cluster.server.key;
    let secret = key.lines().nth(1).unwrap();
    let of_bytes = format!("{:?}", secret.as_bytes());
    let broken = [
        ("joined.key", key.trim().replace('\n', " ")),
        ("unended.key", key.replace("-----END PRIVATE KEY-----", "")),
        ("joined-end.key", key.replace("\n-----END", "-----END")),
        ("quoted.key", key.replace(secret, &format!("\"{secret}\""))),
    ];
    for (name, text) in broken {
        let domain = TlsDomain {
            private_key: cluster.folder.write(name, text),
            ..good.clone()
        };
        let error = ServerTls::load(std::slice::from_ref(&domain)).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(told.contains(&format!("{name}: is broken PEM")), "{told}");
        assert!(!told.contains(&secret[..16]), "{told}");
        assert!(!told.contains(of_bytes.trim_matches(['[', ']'])), "{told}");
    }
}

#[test]
fn a_server_shows_something_and_a_client_need_not() {
    let cluster = Cluster::new();
    let domain = TlsDomain {
        certificate: PathBuf::new(),
        private_key: PathBuf::new(),
        ..cluster.server_domain()
    };
    let error = ServerTls::load(std::slice::from_ref(&domain)).unwrap_err();
    assert_says(&error.to_string(), &["set certificate and private_key"]);
    ClientTls::load(&[domain]).unwrap();
}

#[test]
fn somebody_has_to_be_trusted() {
    let cluster = Cluster::new();
    let good = cluster.server_domain();
    let nobody = TlsDomain {
        ca_list: None,
        ..good.clone()
    };
    assert_says(
        &complaint(&nobody),
        &["nobody is trusted", "ca_list", "verify_cert to 0"],
    );
    let empty = Folder::new();
    let nobody = TlsDomain {
        ca_dir: Some(empty.path().to_owned()),
        ..nobody
    };
    assert_says(&complaint(&nobody), &["nobody is trusted"]);
    let broken = TlsDomain {
        ca_list: Some(cluster.folder.write("bad.pem", BAD_CERTIFICATE)),
        ..good.clone()
    };
    assert_says(&complaint(&broken), &["bad.pem: its certificate number 1"]);
    let nowhere = TlsDomain {
        ca_dir: Some("/nowhere/at/all".into()),
        ..good
    };
    assert_says(&complaint(&nowhere), &["/nowhere/at/all: cannot be read"]);
}

#[test]
fn a_folder_of_cas_is_read_and_what_is_no_ca_is_passed_over_with_a_warning() {
    let cluster = Cluster::new();
    let other = Authority::new("Other CA");
    cluster
        .folder
        .write("cas/ours.pem", &cluster.ca.certificate);
    // The same once more under the name that OpenSSL looks for, as a link.
    let (to, link) = ("ours.pem", cluster.folder.path().join("cas/5ad8a5d6.0"));
    std::os::unix::fs::symlink(to, link).unwrap();
    cluster.folder.write(
        "cas/two.pem",
        format!("{}{BAD_CERTIFICATE}", other.certificate),
    );
    cluster
        .folder
        .write("cas/README", "Certificates of our CAs\n");
    cluster.folder.write("cas/.hidden", BAD_CERTIFICATE);
    cluster.folder.write("cas/below/more.pem", BAD_CERTIFICATE);
    let domain = TlsDomain {
        ca_list: None,
        ca_dir: Some(cluster.folder.path().join("cas")),
        ..cluster.server_domain()
    };
    let server = ServerTls::load(&[domain]).unwrap();
    let warnings = server.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("README: holds no certificate; passed over"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("two.pem: its certificate number 2"),
        "{warnings:?}"
    );
    for ca in [&cluster.ca, &other] {
        let client = cluster.domain("client", &ca.node("client"));
        let client = ClientTls::load(&[client]).unwrap();
        let mut pair = Pair::of(&server, &client);
        assert_eq!(pair.shake(), (Ok(()), Ok(())));
    }
}

#[test]
fn a_revocation_list_that_cannot_be_used_is_an_error() {
    let cluster = Cluster::new();
    let with = |folder: &str| TlsDomain {
        crl_dir: Some(cluster.folder.path().join(folder)),
        ..cluster.server_domain()
    };
    cluster
        .folder
        .write("old/ours.der", cluster.ca.revoke(&[], &[], -2));
    let words = [
        "ours.der: is a revocation list that expired at 20",
        "put the CA's newest",
    ];
    assert_says(&complaint(&with("old")), &words);
    cluster
        .folder
        .write("broken/ours.der", [0x30, 0x82, 1, 1, 9]);
    assert_says(
        &complaint(&with("broken")),
        &["ours.der: is no revocation list"],
    );
    assert_says(&complaint(&with("nowhere")), &["nowhere: cannot be read"]);
    cluster.folder.write("none/README", "Lists go here.\n");
    let warnings = ServerTls::load(&[with("none")]).unwrap().warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("README: holds no revocation list"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("nobody is revoked"), "{warnings:?}");
}

#[test]
fn no_domains_too_many_and_versions_the_wrong_way_round_are_errors() {
    let cluster = Cluster::new();
    let good = cluster.server_domain();
    let error = ServerTls::load(&[]).unwrap_err().to_string();
    assert!(error.starts_with("TLS: there is no domain"), "{error}");
    let error = ServerTls::load(&vec![good.clone(); 65])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "TLS: domains: there may be 64 at most");
    let reversed = TlsDomain {
        lowest: TlsVersion::V1_3,
        highest: TlsVersion::V1_2,
        ..good
    };
    let words = [
        "the lowest, TLS 1.3, is above the highest, TLS 1.2",
        "tls_method",
    ];
    assert_says(&complaint(&reversed), &words);
}

#[test]
fn what_ends_soon_or_has_ended_is_warned_of_and_what_lasts_is_not() {
    let cluster = Cluster::new();
    let days = Days::new();
    let server = ServerTls::load_on(days.ground(), &[cluster.server_domain()]).unwrap();
    assert_eq!(server.warnings(), Vec::<String>::new());
    days.set(340);
    let warnings = server.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("our certificate \"CN=server\" in "),
        "{warnings:?}"
    );
    assert!(warnings[0].contains("in 24 days"), "{warnings:?}");
    days.set(366);
    assert!(
        server.warnings()[0].contains("ended at 20"),
        "{:?}",
        server.warnings()
    );
    days.set(3995);
    // Both, what ended first before what ends soon.
    let warnings = server.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[1].contains("the CA's certificate \"CN=Cluster CA\""),
        "{warnings:?}"
    );

    let node = Node {
        begins: 2,
        ..Node::named("server")
    };
    let early = cluster.domain("server", &cluster.ca.issue(&node));
    let warnings = ServerTls::load(&[early]).unwrap().warnings();
    assert!(warnings[0].contains("begins at 20"), "{warnings:?}");
}

#[test]
fn a_domain_that_takes_anybody_is_warned_of() {
    let cluster = Cluster::new();
    let open = TlsDomain {
        verify: false,
        crl_dir: Some("/nowhere".into()),
        ..cluster.server_domain()
    };
    let warnings = ServerTls::load(std::slice::from_ref(&open))
        .unwrap()
        .warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("crl_dir has no effect"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("takes any certificate"),
        "{warnings:?}"
    );
    let pinned = TlsDomain {
        crl_dir: None,
        pins: vec![[7; 32]],
        ..open
    };
    let warnings = ClientTls::load(&[pinned]).unwrap().warnings();
    assert_eq!(warnings, Vec::<String>::new());
}

/// PEM around bytes that are no certificate.
const BAD_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n";
