//! Any message comes back; any bytes are refused, or mean the same when they are written again.

use binrush_wire::{Builder, Generation, Packet, Release};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn any_ids() -> impl Strategy<Value = Vec<i32>> {
    vec(any::<i32>(), 0..=PATH_MAX)
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    (any::<i32>(), any::<i32>()).prop_map(|(seq, timestamp)| Stamp { seq, timestamp })
}

fn any_description() -> impl Strategy<Value = Description> {
    (any_text(), any_text(), any::<i32>(), any::<i32>()).prop_map(
        |(url, sip_addr, priority, retries)| Description {
            url,
            sip_addr,
            priority,
            retries,
        },
    )
}

fn any_topology() -> impl Strategy<Value = Internal> {
    let node = (
        any::<i32>(),
        proptest::option::of(any_description()),
        any_stamp(),
        any_ids(),
    );
    let node = node.prop_map(|(id, description, stamp, neighbours)| TopologyNode {
        id,
        description,
        stamp,
        neighbours,
    });
    (any_stamp(), vec(node, 0..10), any_ids())
        .prop_map(|(stamp, nodes, path)| Internal::FullTopology { stamp, nodes, path })
}

/// Names of letters, at least four: shorter ones, or others, can be made to read with a stamp as well as without.
fn any_capabilities() -> impl Strategy<Value = Internal> {
    let name = vec(b'a'..=b'z', 4..20);
    let node = (any::<i32>(), vec((name, any::<bool>()), 1..8));
    let node = node.prop_map(|(id, capabilities)| NodeCapabilities { id, capabilities });
    let parts = (
        proptest::option::of(any_stamp()),
        vec(node, 1..6),
        any::<bool>(),
        any_ids(),
    );
    parts.prop_map(
        |(stamp, nodes, require_reply, path)| Internal::Capabilities {
            stamp,
            nodes,
            require_reply,
            path,
        },
    )
}

fn any_internal() -> impl Strategy<Value = Internal> {
    let link = (any_stamp(), any::<i32>(), any::<bool>(), any_ids());
    prop_oneof![
        any::<bool>().prop_map(|list| Internal::Ping { list }),
        any_ids().prop_map(|nodes| Internal::Pong { nodes }),
        link.prop_map(|(stamp, neighbour, up, path)| Internal::LinkUpdate {
            stamp,
            neighbour,
            up,
            path
        }),
        any_topology(),
        Just(Internal::UnknownId),
        (any_description(), any_ids())
            .prop_map(|(description, path)| Internal::Description { description, path }),
        any_capabilities(),
    ]
}

fn any_extra() -> impl Strategy<Value = Extra> {
    let generic = (any::<bool>(), any_text(), any_text());
    prop_oneof![
        any::<i32>().prop_map(|node| Extra::RemoveNode { node }),
        generic.prop_map(|(is_request, tag, message)| Extra::Generic {
            is_request,
            tag,
            message
        }),
        (any_text(), vec(any_text(), 0..=PARAMETERS_MAX)).prop_map(|(command, parameters)| {
            Extra::MiCommand {
                command,
                parameters,
            }
        }),
        any_text().prop_map(|capability| Extra::SyncRequest { capability }),
        (any_text(), 0..=i32::MAX as u32).prop_map(|(capability, total)| Extra::SyncEnd {
            capability,
            total: Some(total)
        }),
        any_text().prop_map(|tag| Extra::TagActive { tag }),
    ]
}

proptest! {
    #[test]
    fn any_message_between_neighbours_comes_back(
        message in any_internal(),
        release in proptest::sample::select(&RELEASES[..]),
        cluster: i32,
        source: i32,
    ) {
        let mut writer = Writer::new();
        // A release that has no such form of it gets none.
        if let Ok(bytes) = writer.internal(release, cluster, source, &message) {
            let mut expected = message;
            if let Internal::Capabilities { stamp, .. } = &mut expected
                && release <= Release::V3_0
            {
                *stamp = None;
            }
            prop_assert_eq!(internal(&parse(bytes)), Ok((cluster, source, expected)));
        }
    }

    #[test]
    fn any_message_to_a_node_comes_back(
        message in any_extra(),
        release in proptest::sample::select(&RELEASES[..]),
    ) {
        let mut writer = Writer::new();
        if let Ok(bytes) = writer.extra(release, TRAILER, &message) {
            let mut expected = message;
            if let Extra::SyncEnd { total, .. } = &mut expected
                && release <= Release::V3_2
            {
                *total = None;
            }
            match extra(&parse(bytes), Some(release)) {
                Ok((trailer, Routed::Message(read))) => {
                    prop_assert_eq!((trailer, read), (TRAILER, expected));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    /// Whatever is read can be written for a release that it shows, and is read again as the same.
    #[test]
    fn any_bytes_are_refused_or_mean_the_same_when_written_again(
        routed: bool,
        command in -1..15_i32,
        version in 0..5_i16,
        body in vec(prop_oneof![3 => Just(0_u8), 2 => 0..4_u8, 1 => any::<u8>()], 0..120),
    ) {
        let mut buffer = vec![0; 1024];
        let name = if routed { EXTRA } else { INTERNAL };
        let mut builder =
            Builder::new(Generation::Modern, &mut buffer, name.as_bytes(), command, version).unwrap();
        builder.append(&body).unwrap();
        again(&parse(builder.seal()));
    }

    #[test]
    fn any_damage_is_refused_or_means_the_same_when_written_again(
        release in proptest::sample::select(&RELEASES[..]),
        which: proptest::sample::Index,
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let packets = written(release);
        let mut bytes = which.get(&packets).clone();
        let body = bytes.len() - parse(&bytes).body().len();
        for (at, byte) in damage {
            let at = body + at.index(bytes.len() - body);
            bytes[at] = byte;
        }
        again(&parse(&bytes));
    }
}

/// Writes what was read, if anything was, and reads it again.
fn again(packet: &Packet<'_>) {
    let mut writer = Writer::new();
    if is_internal(packet) {
        let Ok((cluster, source, message)) = internal(packet) else {
            return;
        };
        let shown = message.shown_releases(packet);
        let release = shown.map_or(Release::V4_0, |(_, last)| last);
        let bytes = writer.internal(release, cluster, source, &message).unwrap();
        assert_eq!(internal(&parse(bytes)), Ok((cluster, source, message)));
        return;
    }
    match extra(packet, None) {
        Ok((trailer, Routed::Message(message))) => {
            let (_, release) = message.shown_releases(packet).unwrap();
            let bytes = writer.extra(release, trailer, &message).unwrap();
            let Ok((_, Routed::Message(read))) = extra(&parse(bytes), Some(release)) else {
                panic!("{message:?} was written");
            };
            assert_eq!(read, message);
        }
        Ok((_, Routed::Sync(sync))) => {
            // It ends, whatever stands there.
            assert!(sync.chunks.count() <= packet.body().len());
        }
        Err(_) => {}
    }
}
