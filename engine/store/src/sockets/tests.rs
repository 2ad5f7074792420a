use proptest::prelude::*;

use super::*;
use crate::model::{Aor, Contact, Dialog};

#[test]
fn a_rule_maps_each_spelling_of_its_left_side() {
    let map = SocketMap::parse("UDP:192.0.2.1=udp:192.0.2.9:5070, tls:[2001:db8::a]=tls:192.0.2.9");
    let map = map.unwrap();
    for (from, to) in [
        ("udp:192.0.2.1:5060", "udp:192.0.2.9:5070"),
        ("udp:192.0.2.1", "udp:192.0.2.9:5070"),
        ("tls:[2001:DB8:0:0:0:0:0:A]:5061", "tls:192.0.2.9:5061"),
        ("tls:[2001:db8:0:0:0:0:0:a]:5061", "tls:192.0.2.9:5061"),
        ("tls:[2001:db8::a]", "tls:192.0.2.9:5061"),
        ("tcp:192.0.2.1:5060", "tcp:192.0.2.1:5060"),
        ("udp:192.0.2.1:5080", "udp:192.0.2.1:5080"),
        ("", ""),
    ] {
        assert_eq!(map.map(from.as_bytes()), to.as_bytes(), "{from}");
    }
}

#[test]
fn a_tag_stands_on_either_side() {
    let map = SocketMap::parse(
        "vip=udp:192.0.2.9:5060,udp:192.0.2.1:5060=home,tcp:in=out,a-1=b_1,ws:x=wss:y",
    );
    let map = map.unwrap();
    for (from, to) in [
        ("udp:vip", "udp:192.0.2.9:5060"),
        ("vip", "udp:192.0.2.9:5060"),
        ("tcp:vip", "tcp:vip"),
        ("udp:192.0.2.1:5060", "udp:home"),
        ("tcp:in", "tcp:out"),
        ("udp:in", "udp:in"),
        ("a-1", "b_1"),
        ("udp:a-1", "udp:b_1"),
        ("tls:a-1", "tls:b_1"),
        ("ws:x", "wss:y"),
    ] {
        assert_eq!(map.map(from.as_bytes()), to.as_bytes(), "{from}");
    }
}

#[test]
fn rules_do_not_follow_one_another() {
    let map = SocketMap::parse("udp:a=udp:b,udp:b=udp:a").unwrap();
    assert_eq!(map.map(b"udp:a"), b"udp:b");
    assert_eq!(map.map(b"udp:b"), b"udp:a");
}

#[test]
fn what_is_no_rule_is_refused_and_told_and_changes_nothing() {
    for (text, told) in [
        ("", "FROM=TO expected"),
        ("udp:a", "FROM=TO expected"),
        ("udp:a=udp:b=udp:c", "FROM=TO expected"),
        ("udp:a=udp:b,", "FROM=TO expected"),
        ("udp:a=", "\"\" is no socket"),
        ("10.0.0.1:5060=udp:b", "a protocol in front expected"),
        ("bin:10.0.0.1=udp:b", "a protocol in front expected"),
        ("udp:10.0.0.256=udp:b", "PROTOCOL:IP:PORT or a tag"),
        ("udp:sip.example.org=udp:b", "PROTOCOL:IP:PORT or a tag"),
        ("udp:5060=udp:b", "PROTOCOL:IP:PORT or a tag"),
        ("udp:2001:db8::1=udp:b", "PROTOCOL:IP:PORT or a tag"),
        ("udp:0.0.0.0=udp:b", "one address and port"),
        ("udp:10.0.0.1:0=udp:b", "one address and port"),
        ("udp=tcp", "PROTOCOL:IP:PORT or a tag"),
        (
            "udp:a=udp:b,udp:a=udp:c",
            "udp:a is mapped to udp:b and to udp:c",
        ),
        ("a=b,udp:a=udp:c", "udp:a is mapped to udp:b and to udp:c"),
    ] {
        let mut map = SocketMap::parse("udp:x=udp:y").unwrap();
        let before = map.clone();
        let refused = map.add(text).expect_err(text).to_string();
        assert!(refused.contains(told), "{text}: {refused}");
        assert_eq!(map, before, "{text}");
    }
    let many: Vec<String> = (0..=RULES_MAX).map(|n| format!("udp:a{n}=udp:b")).collect();
    assert_eq!(
        SocketMap::parse(&many.join(",")),
        Err(SocketMapError::TooMany)
    );
}

#[test]
fn maps_that_agree_become_one_and_others_change_nothing() {
    let mut map = SocketMap::parse("udp:a=udp:b").unwrap();
    let more = SocketMap::parse("vip=home,udp:a=udp:b").unwrap();
    map.merge(&more).unwrap();
    assert_eq!(map.map(b"udp:a"), b"udp:b");
    assert_eq!(
        (map.map(b"tls:vip"), map.map(b"vip")),
        (&b"tls:home"[..], &b"home"[..])
    );
    let before = map.clone();
    let other = SocketMap::parse("udp:x=udp:y,udp:a=udp:c").unwrap();
    assert!(matches!(
        map.merge(&other),
        Err(SocketMapError::Twice { .. })
    ));
    assert_eq!(map, before);
}

#[test]
fn one_tag_may_stand_on_sockets_of_two_protocols() {
    let map = SocketMap::parse("udp:vip=udp:a,tcp:vip=tcp:b").unwrap();
    assert_eq!(map.map(b"udp:vip"), b"udp:a");
    assert_eq!(map.map(b"tcp:vip"), b"tcp:b");
    assert_eq!(map.map(b"vip"), b"vip");
}

#[test]
fn a_rule_that_is_there_twice_is_one_opinion() {
    let map = SocketMap::parse("udp:10.0.0.1=udp:b,udp:10.0.0.1:5060=udp:b");
    assert_eq!(map.unwrap().map(b"udp:10.0.0.1"), b"udp:b");
}

#[test]
fn only_the_sockets_of_a_record_change() {
    let map = SocketMap::parse("udp:a=udp:b").unwrap();
    let dialog = Dialog {
        callid: b"udp:a",
        sockets: [b"udp:a", b"udp:c"],
        ..Dialog::default()
    };
    let mapped = Dialog {
        sockets: [b"udp:b", b"udp:c"],
        ..dialog
    };
    assert_eq!(map.apply(&Record::Dialog(dialog)), Record::Dialog(mapped));
    let contact = Contact {
        uri: b"udp:a",
        socket: b"udp:a",
        ..Contact::default()
    };
    let mapped = Contact {
        socket: b"udp:b",
        ..contact
    };
    assert_eq!(
        map.apply(&Record::Contact(contact)),
        Record::Contact(mapped)
    );
    let aor = Record::Aor(Aor {
        aor: b"udp:a",
        ..Aor::default()
    });
    assert_eq!(map.apply(&aor), aor);
}

#[test]
fn the_target_has_what_the_right_sides_name() {
    let map = SocketMap::parse("udp:10.0.0.1=udp:10.0.0.9:5070,tcp:10.0.0.1=vip").unwrap();
    let targets = map.targets();
    for (socket, has, has_address) in [
        ("udp:10.0.0.9:5070", true, true),
        ("tcp:vip", true, false),
        ("vip", true, false),
        ("udp:vip", false, false),
        ("udp:10.0.0.1:5060", false, false),
        ("", false, false),
    ] {
        let socket = socket.as_bytes();
        assert_eq!(targets.has(socket), has, "{socket:?}");
        assert_eq!(targets.has_address(socket), has_address, "{socket:?}");
    }
    assert_eq!(targets.len(), 2);
    assert!(SocketMap::default().targets().is_empty());
}

proptest! {
    #[test]
    fn no_text_panics_and_a_name_written_out_reads_as_itself(text in "[a-z0-9:\\[\\]._=,-]{0,40}|\\PC*") {
        drop(SocketMap::parse(&text));
        if let Ok(name) = text.parse::<SocketName>() {
            prop_assert_eq!(name.to_string().parse::<SocketName>(), Ok(name));
        }
    }

    #[test]
    fn each_address_is_mapped_as_genuine_nodes_write_it(ip: std::net::IpAddr, port in 1..=u16::MAX) {
        prop_assume!(!ip.is_unspecified());
        let addr = std::net::SocketAddr::from((ip, port));
        let map = SocketMap::parse(&format!("udp:{addr}=udp:there")).unwrap();
        let name: SocketName = format!("udp:{addr}").parse().unwrap();
        let written = name.to_string();
        prop_assert_eq!(map.map(written.as_bytes()), b"udp:there");
    }
}
