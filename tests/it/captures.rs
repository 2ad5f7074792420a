//! Every packet of every capture: framed as an independent program framed it, decoded with nothing left
//! over, popped as the genuine node popped it, and written again to the same bytes.

use std::collections::BTreeMap;

use binrush_tests::captures::{self, Framed, OwnedFrame};
use binrush_wire::schema::{self, Value};
use binrush_wire::{Builder, Packet, Trailer};

use crate::both;

#[test]
fn frames_agree_with_an_independent_framing() {
    for capture in captures::ALL {
        let frames = captures::frames(capture);
        let framed = captures::framed(capture);
        assert_eq!(frames.len(), framed.len(), "{capture}");
        for (n, (frame, expected)) in frames.iter().zip(&framed).enumerate() {
            let at = format!("{capture} packet {}", n + 1);
            let packet = Packet::parse(frame.generation, &frame.bytes).expect(&at);
            assert_eq!(
                Framed {
                    time: expected.time,
                    src: frame.src,
                    dst: frame.dst,
                    len: frame.bytes.len(),
                    name: String::from_utf8_lossy(packet.name()).into_owned(),
                    command: packet.command(),
                    version: packet.version(),
                    // The trailer, too: that program looks no further than the header.
                    body: packet.body().to_vec(),
                },
                *expected,
                "{at}"
            );
            assert!((frame.time - expected.time).abs() < 1e-6, "{at}");
        }
    }
}

#[test]
fn types_and_counts_are_those_the_captures_readme_tells() {
    let counts = counts("1.11");
    let of = |name: &str, command| counts[&(name.to_owned(), command)];
    assert_eq!(
        [1, 2, 3].map(|command| of("dialog", command)),
        [299, 750, 240]
    );
    assert_eq!(
        [1, 2, 3, 4, 5].map(|command| of("ul", command)),
        [420, 126, 462, 210, 84]
    );
    assert_eq!(counts.values().sum::<usize>(), 2591);

    let counts = self::counts("3.6");
    let of = |name: &str, command| counts[&(name.to_owned(), command)];
    assert_eq!(
        [1, 2, 3, 4, 5].map(|command| of("dialog-dlg-repl", command)),
        [220, 290, 176, 110, 626]
    );
    assert_eq!(
        [6, 7, 8, 10, 11, 12, 13].map(|c| of("clusterer-extra", c)),
        [2, 116, 3, 9, 8, 9, 5]
    );
    assert_eq!(counts.values().sum::<usize>(), 2995);
    assert_eq!(self::counts("2.4").values().sum::<usize>(), 3579);
    assert_eq!(self::counts("3.6-late").values().sum::<usize>(), 3516);
}

#[test]
fn every_packet_decodes_with_names_and_nothing_left_over() {
    for capture in captures::ALL {
        for (n, frame) in captures::frames(capture).iter().enumerate() {
            let packet = Packet::parse(frame.generation, &frame.bytes).unwrap();
            let message = schema::identify(&packet)
                .unwrap_or_else(|error| panic!("{capture} packet {}: {error}", n + 1));
            let mut names = vec![];
            message
                .walk(&packet, |field| names.push(field.to_string()))
                .unwrap();
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all, "{}: two fields of one name", message.name);
        }
    }
}

/// The same values in the same order as a decoder that was written apart from this one.
#[test]
fn every_field_agrees_with_the_slow_decoder() {
    for capture in captures::ALL {
        for (n, frame) in captures::frames(capture).iter().enumerate() {
            let at = format!("{capture} packet {}", n + 1);
            let packet = Packet::parse(frame.generation, &frame.bytes).unwrap();
            let expected = both::slow(&packet).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert_eq!(both::fast(&packet), Ok(expected), "{at}");
        }
    }
}

#[test]
fn string_lengths_are_those_the_genuine_node_popped() {
    let frames = captures::frames("1.11");
    let popped = captures::popped();
    assert_eq!(frames.len(), popped.len());
    let mut compared = 0;
    for (n, (frame, popped)) in frames.iter().zip(&popped).enumerate() {
        let packet = Packet::parse(frame.generation, &frame.bytes).unwrap();
        assert_eq!(
            (packet.name(), packet.command()),
            (popped.name.as_bytes(), popped.command)
        );
        let mut lens = vec![];
        schema::identify(&packet)
            .unwrap()
            .walk(&packet, |field| match field.value {
                Value::Str(bytes) | Value::Object(_, bytes) => lens.push(bytes.len()),
                Value::Int(_) | Value::Raw(_) => {}
            })
            .unwrap();
        // The node's log broke two lines at a newline inside a binary `expires`: that pop is missing there.
        if SPLIT_LINES.contains(&n) {
            lens.remove(EXPIRES);
        }
        // For a dialog it knows it steps over what an update never changes; for one it does not, it gives up
        // at the empty callee socket. What it popped is compared in either case.
        let popped_lens: Vec<_> = match (popped.command, popped.string_lens.len()) {
            (2, 9) if popped.name == "dialog" => UPDATE_POPS.map(|i| lens[i]).to_vec(),
            (_, pops) => lens[..pops].to_vec(),
        };
        assert_eq!(popped_lens, popped.string_lens, "packet {}", n + 1);
        compared += popped.string_lens.len();
    }
    assert_eq!(compared, 22_123);
}

/// The strings of a dialog that an update changes: ids and URIs, cseqs, values, profiles.
const UPDATE_POPS: [usize; 9] = [0, 1, 2, 3, 4, 7, 8, 15, 16];
const SPLIT_LINES: [usize; 2] = [442, 979];
/// Which string of a 1.x contact is `expires`.
const EXPIRES: usize = 9;

#[test]
fn decode_then_encode_gives_the_same_bytes() {
    let mut buffer = vec![0; 65_535];
    for capture in captures::ALL {
        for (n, frame) in captures::frames(capture).iter().enumerate() {
            let packet = Packet::parse(frame.generation, &frame.bytes).unwrap();
            let rebuilt = rebuild(&packet, &mut buffer);
            assert_eq!(rebuilt, frame.bytes, "{capture} packet {}", n + 1);
        }
    }
}

/// Writes the packet from nothing but its decoded values.
fn rebuild<'b>(packet: &Packet<'_>, buffer: &'b mut [u8]) -> &'b mut [u8] {
    let (name, command) = (packet.name(), packet.command());
    let version = packet.version().unwrap_or(0);
    let mut builder = Builder::new(packet.generation(), buffer, name, command, version).unwrap();
    let message = schema::identify(packet).unwrap();
    let trailer: Option<Trailer> = message
        .walk(packet, |field| match field.value {
            Value::Str(bytes) | Value::Object(_, bytes) => builder.push_str(bytes).unwrap(),
            Value::Int(int) => builder.push_int(int).unwrap(),
            Value::Raw(bytes) => builder.append(bytes).unwrap(),
        })
        .unwrap();
    if let Some(trailer) = trailer {
        builder.push_trailer(trailer).unwrap();
    }
    builder.finish()
}

#[test]
fn keys_are_call_ids_and_aors() {
    for capture in captures::ALL {
        for OwnedFrame {
            generation, bytes, ..
        } in captures::frames(capture)
        {
            let packet = Packet::parse(generation, &bytes).unwrap();
            let first_named = |wanted: &str| {
                let mut found = None;
                let message = schema::identify(&packet).unwrap();
                message
                    .walk(&packet, |field| match field.value {
                        Value::Str(bytes) if field.name == wanted => found = found.or(Some(bytes)),
                        _ => {}
                    })
                    .unwrap();
                found
            };
            let expected = match packet.name() {
                b"dialog" | b"dialog-dlg-repl" => first_named("callid"),
                b"ul" | b"usrloc-contact-repl" => first_named("aor"),
                b"cachedb-local-repl" => first_named("key"),
                _ => None,
            };
            assert_eq!(schema::key(&packet), Ok(expected));
        }
    }
}

fn counts(capture: &str) -> BTreeMap<(String, i32), usize> {
    let mut counts = BTreeMap::new();
    for frame in captures::frames(capture) {
        let packet = Packet::parse(frame.generation, &frame.bytes).unwrap();
        let name = String::from_utf8_lossy(packet.name()).into_owned();
        *counts.entry((name, packet.command())).or_default() += 1;
    }
    counts
}
