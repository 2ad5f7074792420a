//! What must hold for any bytes: round trips, no panic, no read that stands still.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use binrush_tests::captures::{self, OwnedFrame};
use binrush_tests::fuzz;
use binrush_wire::crc32::checksum;
use binrush_wire::{Builder, Generation, Packet, Trailer, schema};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::both;
use crate::dice::Dice;
use crate::oracle::Gen;
use crate::oracle::made::one_of_each_row;

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
        fuzz::capture(&data);
        fuzz::seat(&data);
        fuzz::journal(&data);
        fuzz::store(&data);
        fuzz::event(&data);
        fuzz::script(&data);
    }

    #[test]
    fn a_damaged_stream_breaks_no_promise(
        (transitional, limit_4_0) in any::<(bool, bool)>(),
        picks in vec(any::<Index>(), 1..8),
        damage in vec((any::<Index>(), any::<u8>()), 0..5),
        (lost_at, lost) in any::<(Index, u8)>(),
        pieces in vec(any::<u8>(), 0..20),
    ) {
        let frames = if transitional { &*TRANSITIONAL } else { &*MODERN };
        let mut bytes: Vec<u8> = picks.iter().flat_map(|pick| pick.get(frames).clone()).collect();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        let lost_at = lost_at.index(bytes.len());
        bytes.drain(lost_at..bytes.len().min(lost_at + usize::from(lost)));
        // As the target has them: options, number of pieces, their sizes, the stream.
        let options = u8::from(transitional) | u8::from(limit_4_0) << 1;
        let piece_count = u8::try_from(pieces.len()).unwrap();
        fuzz::stream(&[&[options, piece_count], &pieces[..], &bytes].concat());
    }

    #[test]
    fn a_damaged_datagram_breaks_no_promise(
        pick in any::<Index>(),
        damage in vec((any::<Index>(), any::<u8>()), 0..5),
        len in any::<Index>(),
    ) {
        let mut bytes = pick.get(&LEGACY).clone();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        // Half of them are cut short.
        bytes.truncate(len.index(2 * bytes.len()));
        fuzz::datagram(&bytes);
    }
}

static LEGACY: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| captured(Generation::Legacy));
static MODERN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| captured(Generation::Modern));
/// Made: no capture has packets of 2.2.
static TRANSITIONAL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let made = one_of_each_row(&mut Dice::new(1)).into_iter();
    let made = made.filter(|made| made.era == Gen::V22);
    made.map(|made| made.bytes).collect()
});

fn captured(generation: Generation) -> Vec<Vec<u8>> {
    let frames = KINDS.iter().filter(|frame| frame.generation == generation);
    frames.map(|frame| frame.bytes.clone()).collect()
}

static KINDS: LazyLock<Vec<OwnedFrame>> = LazyLock::new(one_of_each_kind);

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

/// What fuzzing found in the promise itself, not in the reader: three of them, cut after the first.
#[test]
fn uncounted_strings_of_2_2_may_come_in_pieces() {
    let packet = b"P4CK\x18\0??\x01\0??\x02\0\0\0ul\x01\0\0\0??";
    for piece in 24..=40 {
        let mut data = vec![1, 1, piece];
        data.extend(packet);
        data.extend([0; 12]);
        data.extend(packet);
        fuzz::stream(&data);
    }
}

#[test]
fn scripts_of_words_in_any_order_are_refused_or_end() {
    let mut dice = Dice::new(4);
    for _ in 0..3000 {
        let len = 1 + dice.below(120);
        let words = dice.bytes(len);
        fuzz::script(&[&[1], &words[..]].concat());
    }
    let whole = b"\0route { if (f(\"a\") && $ml > 5 || !g()) { xlog(\"$bin(name) $bin(node) $si\"); \
        raise_event(\"E_X\", \"$bin(cluster)\", \"b=$mb$si\"); route(a); } } route[a] { $var(x) = $rc; drop; } event_route[E_X] { f(); }";
    fuzz::script(whole);
    for at in 1..whole.len() {
        for byte in *b"{}();\"$&!=#'\n" {
            let mut bytes = whole.to_vec();
            bytes[at] = byte;
            fuzz::script(&bytes);
        }
    }
}

#[test]
fn journals_and_stores_keep_their_promises_from_every_seed_damaged_or_not() {
    let mut dice = Dice::new(3);
    for seed in fuzz::seeds::of_records() {
        let body = match seed.target {
            "journal" => fuzz::journal,
            "store" => fuzz::store,
            other => panic!("{other} is about no records"),
        };
        body(&seed.bytes);
        for _ in 0..DAMAGED {
            let mut bytes = seed.bytes.clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(bytes.len());
                bytes[at] = dice.bytes(1)[0];
            }
            bytes.truncate(1 + dice.below(2 * bytes.len()));
            body(&bytes);
        }
    }
}

#[test]
fn every_truncation_is_an_error_never_a_panic() {
    for frame in KINDS.iter() {
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

/// In two threads: this is the longest test.
#[test]
fn every_change_of_one_byte_is_survived() {
    let frames = Mutex::new(KINDS.iter());
    let next = || frames.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| std::iter::from_fn(next).for_each(change_every_byte));
        }
    });
}

fn change_every_byte(frame: &OwnedFrame) {
    for (at, &genuine) in frame.bytes.iter().enumerate() {
        let mut bytes = frame.bytes.clone();
        for value in (0..=u8::MAX).filter(|&value| value != genuine) {
            bytes[at] = value;
            if frame.generation == Generation::Legacy {
                assert!(Packet::parse(frame.generation, &bytes).is_err());
                bytes = reseal(frame.generation, bytes);
            }
            let Ok(packet) = Packet::parse(frame.generation, &bytes) else {
                continue;
            };
            // The slow decoder is too slow for every value: neighbours, ends and the sign must do.
            if [
                0,
                0xFF,
                genuine ^ 1,
                genuine ^ 0x80,
                genuine.wrapping_sub(1),
            ]
            .contains(&value)
            {
                check(&packet);
            } else if schema::identify(&packet).is_ok() {
                schema::key(&packet).unwrap();
            }
        }
    }
}

/// Nothing panics, what is read has its key, and both decoders say the same.
fn check(packet: &Packet<'_>) {
    if schema::identify(packet).is_ok() {
        schema::key(packet).unwrap();
    }
    both::compare(packet);
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

/// How often each seed is damaged.
const DAMAGED: usize = 10;
