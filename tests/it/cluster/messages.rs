//! Every message that genuine nodes sent is read, and written again to the same bytes.

use std::collections::BTreeMap;
use std::fs::File;

use binrush_engine::cluster::message::{self, Kind, Routed, Writer};
use binrush_tests::captures::{self, path, unhex};
use binrush_wire::{Generation, Packet, Release};
use serde_json::Value;

use super::record::SETTINGS;

#[test]
fn every_message_of_the_captures_is_written_again_to_the_same_bytes() {
    let mut writer = Writer::new();
    let mut kinds = BTreeMap::new();
    for setting in SETTINGS {
        for (n, frame) in captures::frames(setting.capture).iter().enumerate() {
            let packet = Packet::parse(Generation::Modern, &frame.bytes).unwrap();
            let at = format!("{} packet {}", setting.capture, n + 1);
            // By its release, and by nothing but itself.
            for known in [Some(setting.release), None] {
                if let Some((kind, written)) = again(&packet, setting.release, known, &mut writer) {
                    assert_eq!(written, frame.bytes, "{at} read as {known:?}");
                    *kinds.entry((setting.capture, kind)).or_insert(0) += 1;
                }
            }
        }
    }
    let messages: usize = kinds.values().sum();
    assert_eq!(messages, 2 * (369 + 262 + 232), "{kinds:?}");
    let genuine: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| kinds.keys().any(|(_, seen)| seen == kind))
        .collect();
    assert_eq!(genuine, Kind::ALL, "a kind that no capture has");
}

#[test]
fn every_message_of_the_golden_packets_is_written_again_to_the_same_bytes() {
    let file = File::open(path("vectors/vectors.json")).expect("the vectors are there");
    let vectors: Value = serde_json::from_reader(file).expect("they are JSON");
    let mut writer = Writer::new();
    let mut seen = 0;
    for vector in vectors["vectors"].as_array().expect("a list") {
        let (Some(release), "accept") = (release(vector), vector["verdict"].as_str().unwrap())
        else {
            continue;
        };
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let packet = Packet::parse(Generation::Modern, &bytes).unwrap();
        for known in [Some(release), None] {
            let (kind, written) = again(&packet, release, known, &mut writer).expect("a message");
            assert_eq!(written, bytes, "{}", vector["id"]);
            if let Some(name) = vector["decoded"]["name"].as_str() {
                assert_eq!(kind.symbol(), name.to_lowercase(), "{}", vector["id"]);
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 20);
}

#[test]
fn what_a_capture_shows_of_its_nodes_is_their_release() {
    for setting in SETTINGS {
        let mut shown = (Release::V2_4, Release::V4_0);
        for frame in captures::frames(setting.capture) {
            let packet = Packet::parse(Generation::Modern, &frame.bytes).unwrap();
            let ranges = match packet.name() {
                b"clusterer-internal" => message::internal(&packet)
                    .unwrap()
                    .2
                    .shown_releases(&packet),
                b"clusterer-extra" => match message::extra(&packet, None).unwrap().1 {
                    Routed::Message(message) => message.shown_releases(&packet),
                    Routed::Sync(_) => None,
                },
                _ => None,
            };
            if let Some((first, last)) = ranges {
                assert!(
                    (first..=last).contains(&setting.release),
                    "{first} to {last}"
                );
                shown = (shown.0.max(first), shown.1.min(last));
            }
        }
        // 3.0 differs from 2.4 in nothing that these nodes said, and 3.3 to 4.0 in nothing at all.
        let expected = match setting.release {
            Release::V2_4 => (Release::V2_4, Release::V3_1),
            _ => (Release::V3_3, Release::V4_0),
        };
        assert_eq!(shown, expected, "{}", setting.capture);
    }
}

/// What kind of message a packet is, and how it is written for `release`; `None`: it is not of the cluster's own.
fn again(
    packet: &Packet<'_>,
    release: Release,
    known: Option<Release>,
    writer: &mut Writer,
) -> Option<(Kind, Vec<u8>)> {
    let (kind, written) = match packet.name() {
        b"clusterer-internal" => {
            let (cluster, source, message) = message::internal(packet).expect("a genuine message");
            let written = writer.internal(release, cluster, source, &message);
            (message.kind(), written)
        }
        b"clusterer-extra" => match message::extra(packet, known).expect("a genuine message") {
            (trailer, Routed::Message(message)) => {
                (message.kind(), writer.extra(release, trailer, &message))
            }
            (trailer, Routed::Sync(sync)) => {
                let mut fields = packet.fields();
                fields.pop_trailer().unwrap();
                fields.skip_str(1).unwrap();
                fields.skip_int(1).unwrap();
                let chunks = fields.rest();
                let written =
                    writer.sync(release, trailer, sync.capability, sync.data_version, chunks);
                (Kind::Sync, written)
            }
        },
        _ => return None,
    };
    Some((kind, written.expect("it fits").to_vec()))
}

/// A release that sends a golden packet; `None`: it is not of the cluster's own.
fn release(vector: &Value) -> Option<Release> {
    let capability = vector["decoded"]["capability"].as_str()?;
    if !capability.starts_with("clusterer-") {
        return None;
    }
    Some(match vector["era"].as_str()? {
        "2.4/3.0" => Release::V2_4,
        "2.4..3.1" => Release::V3_0,
        "3.1" => Release::V3_1,
        _ => Release::V4_0,
    })
}
