//! Certificates, keys, and who is trusted.

use super::*;
use crate::tls::{TlsDomain, TlsVersion};

/// A server domain that has what it needs.
pub(super) fn complete(name: &str) -> String {
    let paths = [
        ("certificate", "cert"),
        ("private_key", "key"),
        ("ca_list", "ca"),
    ];
    let paths = paths.map(|(what, file)| set(what, &format!("[{name}]/{name}/{file}.pem")));
    format!(
        "loadmodule \"tls_mgm.so\"\n{}{}",
        set("server_domain", name),
        paths.concat()
    )
}

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"tls_mgm\", \"{name}\", \"{value}\")\n")
}

/// A listener over TLS on the first line.
fn with_tls(text: &str) -> String {
    format!("listen = bins:10.0.0.1:5556\n{text}")
}

/// The names of the server domains, in the order in which they are asked.
fn servers(text: &str) -> Vec<String> {
    let tls = config(text).tls;
    tls.server.into_iter().map(|domain| domain.name).collect()
}

#[test]
fn a_domain_of_3_x_is_read_with_all_that_it_says() {
    let text = r#"
        socket = bins:10.0.0.1:5556
        loadmodule "tls_openssl.so"
        loadmodule "tls_mgm.so"
        loadmodule "proto_bins.so"
        modparam("tls_mgm", "tls_library", "openssl")
        modparam("tls_mgm", "server_domain", "node")
        modparam("tls_mgm", "match_ip_address", "[node]10.0.0.1:5556, [2001:db8::1]:5556,2001:db8::2:5557")
        modparam("tls_mgm", "match_sip_domain", "[node]*")
        modparam("tls_mgm", "tls_method", "[node]TLSv1_2-TLSv1_3")
        modparam("tls_mgm", "certificate", "[node]/etc/tls/cert.pem")
        modparam("tls_mgm", "private_key", "[node]/etc/tls/key.pem")
        modparam("tls_mgm", "ca_list", "[node]/etc/tls/ca.pem")
        modparam("tls_mgm", "ca_dir", "[node]/etc/tls/ca")
        modparam("tls_mgm", "crl_dir", "[node]/etc/tls/crl")
        modparam("tls_mgm", "crl_check_all", "[node]1")
        modparam("tls_mgm", "verify_cert", "[node]1")
        modparam("tls_mgm", "require_cert", "[node]1")
        modparam("tls_mgm", "ciphers_list", "[node]ECDHE+AESGCM")
        modparam("tls_mgm", "dh_params", "[node]/etc/tls/dh.pem")
        modparam("tls_mgm", "client_domain", "out")
        modparam("tls_mgm", "certificate", "[out]/etc/tls/cert.pem")
        modparam("tls_mgm", "private_key", "[out]/etc/tls/key.pem")
        modparam("tls_mgm", "ca_list", "[out]/etc/tls/ca.pem")
        modparam("tls_mgm", "tls_method", "[out]TLSv1_3")
        modparam("binrush", "tls_pin", "1111111111111111111111111111111111111111111111111111111111111111")
        modparam("binrush", "tls_pin", "[node]sha256/IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=")
    "#;
    let engine = config(text).engine();
    assert!(engine.listen.is_empty() && engine.streams.listen.is_empty());
    let tls = engine.streams.tls.unwrap();
    let node = TlsDomain {
        name: "node".into(),
        addresses: vec![
            ("10.0.0.1".parse().unwrap(), 5556),
            ("2001:db8::1".parse().unwrap(), 5556),
            ("2001:db8::2".parse().unwrap(), 5557),
        ],
        certificate: "/etc/tls/cert.pem".into(),
        private_key: "/etc/tls/key.pem".into(),
        ca_list: Some("/etc/tls/ca.pem".into()),
        ca_dir: Some("/etc/tls/ca".into()),
        crl_dir: Some("/etc/tls/crl".into()),
        crl_check_all: true,
        verify: true,
        require: true,
        lowest: TlsVersion::V1_2,
        highest: TlsVersion::V1_3,
        pins: vec![[0x11; 32], [0x22; 32]],
    };
    assert_eq!(tls.server, std::slice::from_ref(&node));
    let out = TlsDomain {
        name: "out".into(),
        addresses: vec![],
        ca_dir: None,
        crl_dir: None,
        crl_check_all: false,
        require: false,
        lowest: TlsVersion::V1_3,
        pins: vec![[0x11; 32]],
        ..node
    };
    assert_eq!(tls.client, [out]);
    warned(
        text,
        "a.cfg:3:20: tls_openssl is not needed: TLS is built in",
    );
    warned(
        text,
        "a.cfg:6:44: these parameters of tls_mgm have no effect here, because its library is another: tls_library, \
         ciphers_list, dh_params",
    );
    let silent = |warning: &ConfigWarning| !warning.message().contains("not active");
    assert!(loaded(text).warnings.iter().all(silent));
}

#[test]
fn mutual_authentication_is_what_is_not_said() {
    let tls = config(&with_tls(&complete("node"))).tls;
    let [domain] = &tls.server[..] else {
        panic!("{tls:?}")
    };
    assert!(domain.verify && domain.require && domain.addresses.is_empty());
    let versions = (domain.lowest, domain.highest);
    assert_eq!(versions, (TlsVersion::V1_2, TlsVersion::V1_3));
    let pin = "1".repeat(64);
    let pin = format!("modparam(\"binrush\", \"tls_pin\", \"{pin}\")\n");
    for (name, told) in [
        (
            "verify_cert",
            "a.cfg:7:36: verify_cert 0 of \"node\": who connects needs no certificate, or any",
        ),
        (
            "require_cert",
            "a.cfg:7:37: require_cert 0 of \"node\": who connects needs no certificate",
        ),
    ] {
        let text = with_tls(&(complete("node") + &set(name, "[node]0")));
        warned(&text, told);
        let domain = config(&text).tls.server.remove(0);
        assert_ne!((domain.verify, domain.require), (true, true));
        // A pinned key is asked for whatever else is.
        let pinned = loaded(&(text + &pin)).warnings;
        assert!(
            !pinned.iter().any(|each| each.message().starts_with(name)),
            "{pinned:?}"
        );
    }
}

#[test]
fn a_listener_over_tls_without_a_certificate_is_refused_with_what_to_add() {
    let error = refused(
        &with_tls(""),
        "a.cfg:1:10: bins:10.0.0.1:5556 has no certificate: `modparam(\"tls_mgm\", \"server_domain\", \"node\")` expected",
    );
    assert!(error.contains("\"[node]/path/of/file.pem\""), "{error}");
    let elsewhere = complete("node") + &set("match_ip_address", "[node]10.0.0.1:5557");
    let error = refused(
        &with_tls(&elsewhere),
        "a.cfg:1:10: bins:10.0.0.1:5556 has no",
    );
    assert!(
        error.contains("of none of the server domains fits"),
        "{error}"
    );
    // One for those we connect to is none for those who connect to us.
    let client = complete("node").replace("server_domain", "client_domain");
    refused(&with_tls(&client), "a.cfg:1:10: bins:10.0.0.1:5556 has no");
    for missing in ["certificate", "private_key", "ca_list"] {
        let text: String = with_tls(&complete("node"))
            .lines()
            .filter(|line| !line.contains(missing))
            .map(|line| format!("{line}\n"))
            .collect();
        let told = format!(
            "a.cfg:3:38: the server domain \"node\" has no {missing}: `modparam(\"tls_mgm\", \"{missing}\", \"[node]/path"
        );
        refused(&text, &told);
    }
    // Who verifies nobody needs nobody to trust.
    let trusting = complete("node").replace("\"ca_list\"", "\"verify_cert\"");
    let trusting = trusting.replace("[node]/node/ca.pem", "[node]0");
    assert_eq!(servers(&with_tls(&trusting)), ["node"]);
}

#[test]
fn the_address_is_asked_for_first_and_of_two_alike_the_later_counts() {
    let text = with_tls(
        &[
            complete("exact"),
            set("match_ip_address", "[exact]10.0.0.1:5556"),
            complete("named"),
            set("match_sip_domain", "[named]a.example, *.b.example"),
            complete("any"),
            set("match_sip_domain", "[any]none"),
            complete("later"),
        ]
        .concat(),
    );
    assert_eq!(servers(&text), ["exact", "later", "any", "named"]);
    let needed = config(&text).engine().streams.tls.unwrap();
    assert_eq!(needed.server.len(), 1, "{needed:?}");
    assert_eq!(needed.server[0].name, "exact");
    for name in ["later", "any", "named"] {
        let told = format!("the server domain \"{name}\" is for no listener of bins:");
        let warnings = loaded(&text).warnings;
        assert!(
            warnings
                .iter()
                .any(|each| each.message().starts_with(&told))
        );
    }
    warned(
        &text,
        "a.cfg:13:41: match_sip_domain: names are not looked at",
    );
    // `*` takes the addresses back.
    let any = text + &set("match_ip_address", "[exact]*");
    assert_eq!(servers(&any), ["later", "any", "exact", "named"]);
}

#[test]
fn a_listener_on_all_addresses_may_have_a_domain_for_each() {
    let text = [
        "listen = bins:0.0.0.0:5556\n".to_owned(),
        complete("one"),
        set("match_ip_address", "[one]10.0.0.1:5556"),
        complete("two"),
        set("match_ip_address", "[two]10.0.0.2:5556"),
        complete("six"),
        set("match_ip_address", "[six][::1]:5556"),
        complete("port"),
        set("match_ip_address", "[port]10.0.0.1:5557"),
        complete("rest"),
    ]
    .concat();
    let needed = config(&text).engine().streams.tls.unwrap();
    let names: Vec<_> = needed
        .server
        .iter()
        .map(|domain| &domain.name[..])
        .collect();
    assert_eq!(names, ["two", "one", "rest"]);
}

#[test]
fn the_forms_of_2_4_mean_what_they_meant() {
    let text = with_tls(
        &[
            complete("node=10.0.0.1:5556").replace("[node=10.0.0.1:5556]", "[node]"),
            set("certificate", "/rest/cert.pem"),
            set("private_key", "/rest/key.pem"),
            set("ca_list", "/rest/ca.pem"),
            set("client_domain", "out=10.0.0.2:5556"),
        ]
        .concat(),
    );
    let tls = config(&text).tls;
    assert_eq!(servers(&text), ["node", "default"]);
    assert_eq!(
        tls.server[0].addresses,
        [("10.0.0.1".parse().unwrap(), 5556)]
    );
    let clients: Vec<_> = tls.client.iter().map(|domain| &domain.name[..]).collect();
    assert_eq!(clients, ["default"]);
    assert_eq!(tls.client[0].certificate, Path::new("/rest/cert.pem"));
    let told = "a.cfg:10:38: the client domain \"out\" is left out: it has no ca_list";
    warned(&text, told);
}

#[test]
fn a_client_domain_may_show_no_certificate_and_is_left_out_rather_than_refused() {
    let text = with_listener(&(set("client_domain", "out") + &set("ca_list", "[out]/ca.pem")));
    let [domain] = &config(&text).tls.client[..] else {
        panic!("one")
    };
    let empty = Path::new("");
    assert_eq!((&*domain.certificate, &*domain.private_key), (empty, empty));
    for half in ["certificate", "private_key"] {
        let text = text.clone() + &set(half, "[out]/half.pem");
        assert!(config(&text).tls.client.is_empty());
        warned(
            &text,
            "a.cfg:2:38: the client domain \"out\" is left out: it has no",
        );
    }
}

#[test]
fn what_stands_wrong_about_a_domain_is_told_at_its_place() {
    let domain = complete("node");
    for (name, value, told) in [
        (
            "certificate",
            "[nod]/c.pem",
            "a.cfg:7:36: certificate: there is no TLS domain \"nod\" above: `modparam(\"tls_mgm\", \"server_domain\", ...)` with that name expected; did you mean \"node\"?",
        ),
        (
            "certificate",
            "[node]",
            "a.cfg:7:36: certificate: a value expected behind the domain",
        ),
        (
            "certificate",
            "[node/c.pem",
            "a.cfg:7:36: certificate: \"]\" expected",
        ),
        (
            "server_domain",
            "node",
            "a.cfg:7:38: server_domain: another name expected: \"node\" is defined already, in a.cfg:3:38",
        ),
        (
            "server_domain",
            "",
            "a.cfg:7:38: server_domain: the name of a domain expected",
        ),
        (
            "server_domain",
            "a=10.0.0.1",
            "a.cfg:7:38: server_domain: an address with its port",
        ),
        (
            "match_ip_address",
            "[node]10.0.0.1",
            "a.cfg:7:41: match_ip_address: an address with its port",
        ),
        (
            "match_ip_address",
            "[node]host:5556",
            "a.cfg:7:41: match_ip_address: an address with its port",
        ),
        (
            "match_ip_address",
            "[node]10.0.0.1:0",
            "a.cfg:7:41: match_ip_address: an address with its port",
        ),
        (
            "match_ip_address",
            "[node]10.0.0.1:70000",
            "a.cfg:7:41: match_ip_address: \"70000\" is no port",
        ),
        (
            "match_ip_address",
            "[node][::1:5556",
            "a.cfg:7:41: match_ip_address: an address with its port",
        ),
        (
            "verify_cert",
            "[node]yes",
            "a.cfg:7:36: verify_cert: 0 or 1 expected, not \"yes\"",
        ),
        (
            "require_cert",
            "[node]+1",
            "a.cfg:7:37: require_cert: 0 or 1 expected",
        ),
        (
            "tls_method",
            "[node]TLSv1",
            "a.cfg:7:35: tls_method: \"SSLv23\" (any version), ",
        ),
        (
            "tls_library",
            "gnutls",
            "a.cfg:7:36: tls_library: one of \"auto\", ",
        ),
        (
            "certficate",
            "[node]/c.pem",
            "a.cfg:7:21: tls_mgm has no parameter \"certficate\"; did you mean \"certificate\"?",
        ),
    ] {
        refused(&with_tls(&(domain.clone() + &set(name, value))), told);
    }
    let pin = "modparam(\"binrush\", \"tls_pin\", \"[nod]1111111111111111111111111111111111111111111111111111111111111111\")";
    refused(
        &with_tls(&(domain.clone() + pin)),
        "a.cfg:7:32: tls_pin: there is no TLS domain \"nod\"",
    );
    // What is refused where it stands is not missed once more.
    let error = refused(
        &with_tls(&set("certificate", "[node]/c.pem")),
        "a.cfg:2:36: ",
    );
    assert!(!error.contains("has no certificate"), "{error}");
}

#[test]
fn what_may_not_be_meant_about_a_domain_is_told() {
    let domain = complete("node");
    for (more, told) in [
        (
            set("tls_method", "[node]TLSv1-"),
            "a.cfg:7:35: tls_method: TLS 1.0 and 1.1 are not spoken here",
        ),
        (
            set("certificate", "[node]cert.pem"),
            "a.cfg:7:36: certificate: \"cert.pem\" is looked for in the folder",
        ),
        (
            set("certificate", "[node]/other.pem"),
            "a.cfg:7:36: certificate: certificate of \"node\" is set again: the value in a.cfg:4:36",
        ),
        (
            set("db_url", "mysql://a:secret@b/c"),
            "a.cfg:7:31: TLS domains are not read from a database",
        ),
    ] {
        warned(&with_tls(&(domain.clone() + &more)), told);
    }
    let pin = "modparam(\"binrush\", \"tls_pin\", \"1111111111111111111111111111111111111111111111111111111111111111\")";
    warned(
        &with_listener(pin),
        "a.cfg:2:32: tls_pin has no effect: there is no TLS domain",
    );
}

#[test]
fn there_is_an_end_to_domains_addresses_and_pins() {
    let domains: String = (0..65)
        .map(|n| set("server_domain", &format!("d{n}")))
        .collect();
    refused(
        &with_tls(&domains),
        "a.cfg:66:38: server_domain: one domain too many: at most 64",
    );
    let addresses: Vec<String> = (1..=65).map(|port| format!("10.0.0.1:{port}")).collect();
    let addresses = set(
        "match_ip_address",
        &format!("[node]{}", addresses.join(",")),
    );
    refused(
        &with_tls(&(complete("node") + &addresses)),
        "a.cfg:7:41: match_ip_address: one address too many: at most 64",
    );
    let pins: String = (0..257)
        .map(|n| format!("modparam(\"binrush\", \"tls_pin\", \"{n:064x}\")\n"))
        .collect();
    refused(
        &with_tls(&(complete("node") + &pins)),
        "a.cfg:263:32: tls_pin: one pin too many: at most 256",
    );
}
