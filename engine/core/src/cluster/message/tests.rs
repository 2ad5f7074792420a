//! Every message of every release, there and back; and what becomes of those that lie.

use binrush_wire::schema;
use binrush_wire::{Builder, ErrorKind, Generation, Packet, Release, Trailer};

use super::*;
use crate::cluster::config::NODES_MAX;
use crate::dispatch::handler::Verdict;

/// What must hold for any message and for any bytes.
mod any;
/// Messages that are cut short or lie about a count.
mod damage;

const RELEASES: [Release; 9] = [
    Release::V2_4,
    Release::V3_0,
    Release::V3_1,
    Release::V3_2,
    Release::V3_3,
    Release::V3_4,
    Release::V3_5,
    Release::V3_6,
    Release::V4_0,
];

const TRAILER: Trailer = Trailer::new(1, 102, 101);

/// A record as a chunk: size, marker, data.
const CHUNK: &[u8] = b"\x05\0\0\0\xb5\x4a\x05\x06hello";

const STAMP: Stamp = Stamp {
    seq: 7,
    timestamp: 1_893_452_400,
};

fn parse(bytes: &[u8]) -> Packet<'_> {
    Packet::parse(Generation::Modern, bytes).expect("a packet that was just written")
}

fn described(url: &str) -> Description {
    Description {
        url: url.into(),
        sip_addr: b"sip:a@192.0.2.2".to_vec(),
        priority: 50,
        retries: 3,
    }
}

/// One message of each kind with all that it may hold, as `release` has it. Ids are above every limit, so that none can be
/// taken for a count.
fn internals(release: Release) -> Vec<Internal> {
    let topology = |id, description, neighbours: &[i32]| TopologyNode {
        id,
        description,
        stamp: STAMP,
        neighbours: neighbours.to_vec(),
    };
    let capability = |name: &str, synced| (name.as_bytes().to_vec(), synced);
    vec![
        Internal::Ping { list: true },
        Internal::Pong {
            nodes: vec![203, 204],
        },
        Internal::LinkUpdate {
            stamp: STAMP,
            neighbour: 203,
            up: false,
            path: vec![202, 204],
        },
        Internal::FullTopology {
            stamp: STAMP,
            nodes: vec![
                topology(202, None, &[201, 203]),
                topology(203, Some(described("bin:192.0.2.3:5555")), &[202]),
                topology(204, None, &[]),
            ],
            path: vec![202],
        },
        Internal::UnknownId,
        Internal::Description {
            description: described("bin:192.0.2.2:5555"),
            path: vec![202],
        },
        Internal::Capabilities {
            stamp: (release >= Release::V3_1).then_some(STAMP),
            nodes: vec![
                NodeCapabilities {
                    id: 202,
                    capabilities: vec![
                        capability("dialog-dlg-repl", true),
                        capability("usrloc-contact-repl", false),
                    ],
                },
                NodeCapabilities {
                    id: 203,
                    capabilities: vec![],
                },
            ],
            require_reply: true,
            path: vec![202],
        },
    ]
}

fn extras(release: Release) -> Vec<Extra> {
    let capability = b"dialog-dlg-repl".to_vec();
    let mut messages = vec![
        Extra::Generic {
            is_request: true,
            tag: b"1-1-tag".to_vec(),
            message: b"hello".to_vec(),
        },
        Extra::MiCommand {
            command: b"clusterer_list".to_vec(),
            parameters: vec![b"first".to_vec(), b"second".to_vec()],
        },
        Extra::SyncRequest {
            capability: capability.clone(),
        },
        Extra::SyncEnd {
            capability,
            total: (release >= Release::V3_3).then_some(100_000),
        },
    ];
    if release >= Release::V3_0 {
        messages.push(Extra::TagActive {
            tag: b"vip1".to_vec(),
        });
    }
    if release >= Release::V3_2 {
        messages.push(Extra::RemoveNode { node: 209 });
    }
    messages
}

fn written(release: Release) -> Vec<Vec<u8>> {
    let mut writer = Writer::new();
    let mut packets = vec![];
    for message in internals(release) {
        packets.push(writer.internal(release, 1, 202, &message).unwrap().to_vec());
    }
    for message in extras(release) {
        packets.push(writer.extra(release, TRAILER, &message).unwrap().to_vec());
    }
    let sync = writer.sync(release, TRAILER, b"dialog-dlg-repl", 5, CHUNK);
    packets.push(sync.unwrap().to_vec());
    packets
}

fn is_internal(packet: &Packet<'_>) -> bool {
    packet.name() == INTERNAL.as_bytes()
}

/// Why a packet is refused, chunks included; `None`: it is not.
fn refusal(packet: &Packet<'_>, release: Option<Release>) -> Option<Verdict> {
    if is_internal(packet) {
        return internal(packet).err();
    }
    match extra(packet, release) {
        Ok((_, Routed::Sync(sync))) => sync
            .chunks
            .map(Result::err)
            .find_map(|error| error)
            .map(Verdict::Field),
        Ok((_, Routed::Message(_))) => None,
        Err(verdict) => Some(verdict),
    }
}

fn kind_of(verdict: Verdict) -> ErrorKind {
    match verdict {
        Verdict::Field(error) => error.kind,
        other => panic!("not about a field: {other:?}"),
    }
}

#[test]
fn every_message_of_every_release_comes_back_as_it_was() {
    let mut writer = Writer::new();
    for release in RELEASES {
        for message in internals(release) {
            let bytes = writer.internal(release, 1, 202, &message).unwrap();
            let packet = parse(bytes);
            assert_eq!(
                internal(&packet),
                Ok((1, 202, message.clone())),
                "{release}"
            );
            let known = schema::identify_from(release, &packet);
            assert_eq!(known.unwrap().name.to_lowercase(), message.kind().symbol());
            let (first, last) = message
                .shown_releases(&packet)
                .unwrap_or((release, release));
            assert_eq!(release.clamp(first, last), release, "{message:?}");
        }
        for message in extras(release) {
            let bytes = writer.extra(release, TRAILER, &message).unwrap();
            let packet = parse(bytes);
            for known in [Some(release), None] {
                let (trailer, routed) = extra(&packet, known).unwrap();
                assert_eq!(trailer, TRAILER);
                match routed {
                    Routed::Message(read) => assert_eq!(read, message, "{release}"),
                    Routed::Sync(_) => panic!("{release}: {message:?}"),
                }
            }
            let known = schema::identify_from(release, &packet);
            assert_eq!(known.unwrap().name.to_lowercase(), message.kind().symbol());
            let (first, last) = message.shown_releases(&packet).unwrap();
            assert_eq!(release.clamp(first, last), release, "{message:?}");
        }
    }
}

#[test]
fn records_of_every_release_come_back_as_they_were() {
    let mut writer = Writer::new();
    for release in RELEASES {
        let bytes = writer
            .sync(release, TRAILER, b"private-repl", 5, CHUNK)
            .unwrap();
        assert_eq!(
            bytes.len(),
            Writer::sync_overhead(b"private-repl") + CHUNK.len()
        );
        let packet = parse(bytes);
        assert_eq!(packet.version(), Some(sync_version(release)));
        for known in [Some(release), None] {
            let (trailer, Routed::Sync(sync)) = extra(&packet, known).unwrap() else {
                panic!("{release}: not a sync");
            };
            assert_eq!(
                (trailer, sync.capability, sync.data_version),
                (TRAILER, &b"private-repl"[..], 5)
            );
            let chunks: Vec<_> = sync.chunks.map(|chunk| chunk.unwrap().data).collect();
            assert_eq!(chunks, [b"hello"]);
        }
    }
}

#[test]
fn an_assumption_that_is_wrong_loses_nothing() {
    for release in RELEASES {
        for assumed in RELEASES {
            for bytes in written(release) {
                let packet = parse(&bytes);
                assert_eq!(
                    refusal(&packet, Some(assumed)),
                    None,
                    "{release} as {assumed}"
                );
                if !is_internal(&packet) {
                    let read = |known| format!("{:?}", extra(&packet, known).unwrap());
                    assert_eq!(read(Some(assumed)), read(Some(release)));
                }
            }
        }
    }
}

#[test]
fn a_command_without_parameters_is_no_generic_message() {
    let mut writer = Writer::new();
    let message = Extra::MiCommand {
        command: b"ps".to_vec(),
        parameters: vec![],
    };
    for release in RELEASES {
        let bytes = writer.extra(release, TRAILER, &message).unwrap().to_vec();
        for known in [Some(Release::V2_4), Some(Release::V4_0), None] {
            let (_, Routed::Message(read)) = extra(&parse(&bytes), known).unwrap() else {
                panic!("not a sync");
            };
            assert_eq!(read, message);
        }
    }
}

#[test]
fn a_release_gets_no_message_that_it_does_not_have() {
    let mut writer = Writer::new();
    let mut refused = |release, message: &Extra| {
        let error = writer.extra(release, TRAILER, message).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Variant, "{release} {message:?}");
    };
    refused(Release::V3_1, &Extra::RemoveNode { node: 3 });
    refused(Release::V2_4, &Extra::TagActive { tag: vec![] });
    refused(Release::V2_3, &Extra::SyncRequest { capability: vec![] });
    refused(
        Release::V3_3,
        &Extra::SyncEnd {
            capability: vec![],
            total: None,
        },
    );
    let unstamped = Internal::Capabilities {
        stamp: None,
        nodes: vec![],
        require_reply: false,
        path: vec![],
    };
    assert!(writer.internal(Release::V3_2, 1, 2, &unstamped).is_ok());
    for (release, message) in [
        (Release::V3_3, unstamped),
        (Release::V1x, Internal::UnknownId),
    ] {
        let error = writer.internal(release, 1, 2, &message).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Variant, "{release} {message:?}");
    }
}

#[test]
fn what_no_receiver_would_take_is_not_written() {
    let mut writer = Writer::new();
    let ids = |count: usize| vec![5; count];
    let mut kind = |message: &Internal| {
        writer
            .internal(Release::V3_6, 1, 2, message)
            .err()
            .map(|error| error.kind)
    };
    assert_eq!(
        kind(&Internal::Pong {
            nodes: ids(NODES_MAX)
        }),
        None
    );
    assert_eq!(
        kind(&Internal::Pong {
            nodes: ids(NODES_MAX + 1)
        }),
        Some(ErrorKind::CountLimit)
    );
    let update = |path| Internal::LinkUpdate {
        stamp: STAMP,
        neighbour: 3,
        up: true,
        path,
    };
    assert_eq!(kind(&update(ids(PATH_MAX))), None);
    assert_eq!(
        kind(&update(ids(PATH_MAX + 1))),
        Some(ErrorKind::CountLimit)
    );
    let long = Extra::TagActive {
        tag: vec![b'x'; 65_536],
    };
    let error = writer.extra(Release::V3_6, TRAILER, &long).unwrap_err();
    assert_eq!(error.kind, ErrorKind::StringTooLong);
}

#[test]
fn the_largest_packet_is_that_of_the_receiver() {
    let mut writer = Writer::new();
    let overhead = Writer::sync_overhead(b"x-repl");
    for (release, max) in [(Release::V3_6, 65_535), (Release::V4_0, 65_515)] {
        let mut len = |chunks: usize| {
            let chunks = vec![0; chunks];
            let bytes = writer.sync(release, TRAILER, b"x-repl", 5, &chunks);
            bytes.map(<[u8]>::len).map_err(|error| error.kind)
        };
        assert_eq!(len(max - overhead), Ok(max));
        assert_eq!(len(max - overhead + 1), Err(ErrorKind::DoesNotFit));
    }
}

#[test]
fn a_modules_packet_has_its_fields_before_the_trailer() {
    let mut writer = Writer::new();
    let bytes = writer.module(TRAILER, b"x-repl", 3, 7, b"\x01\0a").unwrap();
    let packet = parse(bytes);
    let mut fields = packet.fields();
    assert_eq!(
        (packet.name(), packet.command(), packet.version()),
        (&b"x-repl"[..], 3, Some(7))
    );
    assert_eq!(fields.pop_trailer(), Ok(TRAILER));
    assert_eq!(fields.rest(), b"\x01\0a");
}

#[test]
fn unknown_commands_and_versions_are_told_from_broken_fields() {
    let verdict = |name: &str, command, version, body: &[u8]| {
        let mut buffer = [0; 256];
        let mut builder = Builder::new(
            Generation::Modern,
            &mut buffer,
            name.as_bytes(),
            command,
            version,
        )
        .unwrap();
        builder.append(body).unwrap();
        refusal(&parse(builder.seal()), None)
    };
    let routed = |fields: &[u8]| [fields, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]].concat();
    for command in [-1, 6, 7, 10, i32::MIN, i32::MAX] {
        assert_eq!(
            verdict(INTERNAL, command, 1, &[0; 64]),
            Some(Verdict::UnknownCommand)
        );
    }
    for command in [-1, 0, 5, 14, i32::MIN, i32::MAX] {
        assert_eq!(
            verdict(EXTRA, command, 1, &routed(&[])),
            Some(Verdict::UnknownCommand)
        );
    }
    // Chunks without sizes, as 2.4.0 sent them; and a sync of a release to come.
    let old = routed(b"\x06\0x-repl????");
    assert_eq!(verdict(EXTRA, 10, 1, &old), Some(Verdict::UnknownVersion));
    assert_eq!(
        verdict(EXTRA, 11, 4, &routed(b"\x06\0x-repl\x05\0\0\0")),
        Some(Verdict::UnknownVersion)
    );
}

#[test]
fn a_packet_of_an_older_generation_is_no_message() {
    let mut buffer = [0; 128];
    for generation in [Generation::Legacy, Generation::Transitional] {
        for name in [INTERNAL, EXTRA] {
            let mut builder = Builder::new(generation, &mut buffer, name.as_bytes(), 4, 1).unwrap();
            builder.append(&[1; 12]).unwrap();
            let bytes = builder.seal().to_vec();
            let packet = Packet::parse(generation, &bytes).unwrap();
            assert_eq!(refusal(&packet, None), Some(Verdict::UnknownVersion));
        }
    }
}

#[test]
fn a_path_of_the_longest_flood_is_taken() {
    let mut writer = Writer::new();
    let update = Internal::LinkUpdate {
        stamp: STAMP,
        neighbour: 3,
        up: true,
        path: vec![5; PATH_MAX],
    };
    let bytes = writer.internal(Release::V2_4, 1, 2, &update).unwrap();
    assert_eq!(internal(&parse(bytes)), Ok((1, 2, update)));
}

#[test]
fn values_that_nobody_sends_are_read_as_genuine_nodes_read_them() {
    let mut writer = Writer::new();
    let mut read = |message: &Internal, back: usize, value: i32| {
        let mut bytes = writer
            .internal(Release::V3_6, 1, 2, message)
            .unwrap()
            .to_vec();
        let at = bytes.len() - back;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        internal(&parse(&bytes)).unwrap().2
    };
    let ping = read(&Internal::Ping { list: false }, 4, -9);
    assert_eq!(ping, Internal::Ping { list: true });
    let down = Internal::LinkUpdate {
        stamp: STAMP,
        neighbour: 3,
        up: false,
        path: vec![],
    };
    assert!(matches!(
        read(&down, 8, 2),
        Internal::LinkUpdate { up: true, .. }
    ));
    let synced = Internal::Capabilities {
        stamp: Some(STAMP),
        nodes: vec![NodeCapabilities {
            id: 2,
            capabilities: vec![(b"x-repl".to_vec(), true)],
        }],
        require_reply: false,
        path: vec![],
    };
    // Not synced: nobody is to delete what he has because of a value that nobody sends.
    let Internal::Capabilities { nodes, .. } = read(&synced, 12, 2) else {
        panic!("a CAP_UPDATE");
    };
    assert!(!nodes[0].capabilities[0].1);
}

#[test]
fn an_update_about_a_node_that_has_nothing_is_not_taken_for_a_stamped_one() {
    let mut writer = Writer::new();
    let message = Internal::Capabilities {
        stamp: None,
        nodes: vec![NodeCapabilities {
            id: 202,
            capabilities: vec![],
        }],
        require_reply: false,
        path: vec![202],
    };
    let bytes = writer.internal(Release::V2_4, 1, 202, &message).unwrap();
    assert_eq!(internal(&parse(bytes)), Ok((1, 202, message)));
}

#[test]
fn kinds_are_listed_in_their_order_and_named_apart() {
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind.index(), index);
        let same = Kind::ALL
            .into_iter()
            .filter(|other| other.symbol() == kind.symbol());
        assert_eq!(same.count(), 1);
    }
}
