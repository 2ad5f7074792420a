//! What must hold for any bytes: round trips, no panic, no read that stands still.

use std::collections::BTreeMap;

use binrush_tests::captures::{self, OwnedFrame};
use binrush_tests::fuzz;
use binrush_wire::crc32::checksum;
use binrush_wire::{Builder, Generation, Packet, Trailer, schema};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::oracle;

#[derive(Debug, Clone)]
enum Field {
    Str(Vec<u8>),
    Int(i32),
}

fn fields() -> impl Strategy<Value = Vec<Field>> {
    let field = prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(Field::Str),
        any::<i32>().prop_map(Field::Int)
    ];
    vec(field, 0..40)
}

fn generation() -> impl Strategy<Value = Generation> {
    prop::sample::select(vec![
        Generation::Legacy,
        Generation::Transitional,
        Generation::Modern,
    ])
}

proptest! {
    #[test]
    fn any_list_of_fields_comes_back(
        generation in generation(),
        name in vec(any::<u8>(), 2..40),
        (command, version) in any::<(i32, i16)>(),
        fields in fields(),
        ids in any::<(i32, i32, i32)>(),
    ) {
        let mut buffer = vec![0; 65_535];
        let mut builder = Builder::new(generation, &mut buffer, &name, command, version).unwrap();
        for field in &fields {
            match field {
                Field::Str(bytes) => builder.push_str(bytes).unwrap(),
                Field::Int(int) => builder.push_int(*int).unwrap(),
            }
        }
        let trailer = Trailer::new(ids.0, ids.1, ids.2);
        let routed = generation == Generation::Modern && trailer.dest != Trailer::BRIDGE;
        if routed {
            builder.push_trailer(trailer).unwrap();
        }
        let packet = Packet::parse(generation, builder.seal()).unwrap();
        prop_assert_eq!((packet.name(), packet.command()), (&name[..], command));
        prop_assert!(packet.version().is_none_or(|read| read == version));
        let mut cursor = packet.fields();
        if routed {
            prop_assert_eq!(cursor.pop_trailer(), Ok(trailer));
        }
        for field in &fields {
            match field {
                Field::Str(bytes) => prop_assert_eq!(cursor.pop_str(), Ok(&bytes[..])),
                Field::Int(int) => prop_assert_eq!(cursor.pop_int(), Ok(*int)),
            }
        }
        prop_assert!(cursor.is_empty());
    }

    #[test]
    fn arbitrary_bytes_break_no_promise(data in vec(any::<u8>(), 0..2000)) {
        fuzz::datagram(&data);
        fuzz::stream(&data);
        fuzz::payload(&data);
        fuzz::build(&data);
    }
}

/// One captured packet of each release, name and command.
fn one_of_each_kind() -> Vec<OwnedFrame> {
    let mut kinds = BTreeMap::new();
    for capture in captures::ALL {
        for frame in captures::frames(capture) {
            let packet = Packet::parse(frame.generation, &frame.bytes).unwrap();
            let kind = (capture, packet.name().to_vec(), packet.command());
            // The shortest of its kind, but not an empty list: every byte is to be changed.
            let replace = kinds.get(&kind).is_none_or(|known: &OwnedFrame| {
                frame.bytes.len() < known.bytes.len() && frame.bytes.len() > 60
            });
            if replace {
                kinds.insert(kind, frame);
            }
        }
    }
    assert!(kinds.len() > 60, "{}", kinds.len());
    kinds.into_values().collect()
}

#[test]
fn every_truncation_is_an_error_never_a_panic() {
    for frame in one_of_each_kind() {
        for len in 0..frame.bytes.len() {
            let cut = &frame.bytes[..len];
            assert!(Packet::parse(frame.generation, cut).is_err());
            // With the length or checksum put right, only the payload is cut short.
            let sealed = reseal(frame.generation, cut.to_vec());
            if let Ok(packet) = Packet::parse(frame.generation, &sealed) {
                check(&packet);
            }
        }
    }
}

#[test]
fn every_change_of_one_byte_is_survived() {
    for frame in one_of_each_kind() {
        for at in 0..frame.bytes.len() {
            let mut bytes = frame.bytes.clone();
            let genuine = frame.bytes[at];
            for value in (0..=u8::MAX).filter(|&value| value != genuine) {
                bytes[at] = value;
                if frame.generation == Generation::Legacy {
                    assert!(Packet::parse(frame.generation, &bytes).is_err());
                    bytes = reseal(frame.generation, bytes);
                }
                let Ok(packet) = Packet::parse(frame.generation, &bytes) else {
                    continue;
                };
                // The slow decoder is too slow for every value: bits, ends and neighbours must do.
                if (value ^ genuine).is_power_of_two() || [0, 0xFF].contains(&value) {
                    check(&packet);
                } else if schema::identify(&packet).is_ok() {
                    schema::key(&packet).unwrap();
                }
            }
        }
    }
}

/// Nothing panics, and what both decoders accept they read alike.
fn check(packet: &Packet<'_>) {
    let Ok(message) = schema::identify(packet) else {
        return;
    };
    schema::key(packet).unwrap();
    let mut count = 0;
    message.walk(packet, |_| count += 1).unwrap();
    let era = match packet.generation() {
        Generation::Legacy => oracle::Gen::V1,
        Generation::Transitional => oracle::Gen::V22,
        Generation::Modern => oracle::Gen::V23,
    };
    if let Ok(slow) = oracle::decode(era, packet.bytes())
        && slow.type_name == Some(message.name)
    {
        assert_eq!(
            slow.fields.len(),
            count,
            "{} {:02x?}",
            message.name,
            packet.bytes()
        );
    }
}

fn reseal(generation: Generation, mut bytes: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    match generation {
        Generation::Legacy if bytes.len() >= 8 => {
            let crc = checksum(&bytes[8..]).to_le_bytes();
            bytes[4..8].copy_from_slice(&crc);
        }
        Generation::Transitional if bytes.len() >= 6 => bytes[4..6].copy_from_slice(&len[..2]),
        Generation::Modern if bytes.len() >= 8 => bytes[4..8].copy_from_slice(&len),
        _ => {}
    }
    bytes
}
