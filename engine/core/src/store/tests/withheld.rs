use super::*;
use crate::config::Sockets;
use binrush_store::sockets::{SocketMap, SocketSet};

const OURS: &[u8] = b"udp:192.0.2.1:5060";
const THEIRS: &[u8] = b"udp:192.0.2.9:5060";
const STRANGE: &[u8] = b"tls:192.0.2.3:5061";

/// What was given, as records, and what was not.
fn walk(replica: &TypedReplica, release: Release) -> (Vec<Vec<u8>>, Walked) {
    let mut chunks = Vec::new();
    let walked = replica.walk(Cursor::default(), release, usize::MAX, &mut |data| {
        chunks.push(data.to_vec());
    });
    (chunks, walked)
}

fn with_map(capability: &str, map: &str) -> TypedReplica {
    let map = SocketMap::parse(map).unwrap();
    let target = Sockets::default().target(map, SocketSet::default());
    new(capability).with_target(Arc::new(target))
}

/// A call with these sockets, toward a node of `release`.
fn call(callid: &str, sockets: [&[u8]; 2], release: Release) -> Vec<u8> {
    let dialog = Dialog {
        sockets,
        ..dialog(callid)
    };
    chunk_for(&Record::Dialog(dialog), release)
}

fn chunk_for(record: &Record<'_>, release: Release) -> Vec<u8> {
    let mut data = Vec::new();
    write::chunk(record, release, EPOCH, &mut data).unwrap();
    data
}

#[test]
fn calls_go_back_with_the_sockets_of_the_target_and_those_that_it_lacks_stay() {
    for release in [Release::V2_4, Release::V3_1, Release::V3_6] {
        let mut replica = with_map(DIALOGS, "udp:192.0.2.1=udp:192.0.2.9");
        for (callid, sockets) in [
            ("both", [OURS, OURS]),
            ("one", [OURS, STRANGE]),
            ("there", [THEIRS, OURS]),
            ("none", [OURS, b""]),
        ] {
            let dialog = Dialog {
                sockets,
                ..dialog(callid)
            };
            tell(&mut replica, 1, &Record::Dialog(dialog));
        }
        let (mut chunks, walked) = walk(&replica, release);
        chunks.sort();
        let mut expected = ["both", "there"].map(|name| call(name, [THEIRS; 2], release));
        expected.sort();
        assert_eq!(chunks, expected, "{release}");
        assert_eq!(walked.left_out, 0, "the rest is all that there is for it");
        let withheld = walked.withheld;
        assert_eq!((withheld.no_socket, withheld.socketless), (2, 0));
        let lacks: std::collections::BTreeSet<&[u8]> =
            withheld.sockets.iter().map(|socket| &**socket).collect();
        assert_eq!(lacks, [STRANGE, b""].into());
    }
}

#[test]
fn a_contact_whose_socket_the_target_lacks_is_given_without_it() {
    let mut replica = with_map(CONTACTS, "udp:192.0.2.1=udp:vip");
    let contact = |socket| Contact {
        domain: b"location",
        aor: b"alice",
        uri: b"sip:alice@198.51.100.7",
        callid: b"reg-1",
        id: Some(77),
        expires: EPOCH + 3600,
        socket,
        cflag_names: Some(b""),
        ..Contact::default()
    };
    tell(&mut replica, 1, &Record::Contact(contact(OURS)));
    for (release, socket, socketless) in [
        (Release::V3_6, &b"udp:vip"[..], 0),
        (Release::V3_0, b"udp:vip", 0),
        // Which knows no tags.
        (Release::V2_4, b"", 1),
    ] {
        let (chunks, walked) = walk(&replica, release);
        let expected = chunk_for(&Record::Contact(contact(socket)), release);
        assert!(chunks.contains(&expected), "{release}");
        assert_eq!(walked.withheld.socketless, socketless, "{release}");
        assert_eq!(walked.withheld.no_socket, 0);
    }
}

#[test]
fn without_a_word_about_the_target_all_is_given_as_it_is() {
    let mut replica = new(DIALOGS);
    let dialog = Dialog {
        sockets: [OURS, STRANGE],
        ..dialog("any")
    };
    tell(&mut replica, 1, &Record::Dialog(dialog));
    let (chunks, walked) = walk(&replica, LIVE);
    assert_eq!(chunks, [call("any", [OURS, STRANGE], LIVE)]);
    assert!(walked.withheld.is_nothing());
}
