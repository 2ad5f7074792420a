//! Datagrams of every kind that a receiver must tell apart.

use binrush_tests::captures;
use binrush_wire::schema::{self, Value};
use binrush_wire::{Builder, Packet};

use crate::made::{changed, legacy};

/// Datagrams by the counter they must come to.
pub(super) fn by_outcome() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
    let at_name = 8..12;
    let at_domain = 18..22;
    let word = |at: std::ops::Range<usize>, value: i32| {
        changed(insert.clone(), |packet| {
            packet[at].copy_from_slice(&value.to_le_bytes())
        })
    };
    let flipped = |at: usize| {
        let mut packet = insert.clone();
        packet[at] ^= 0x40;
        packet
    };
    vec![
        (
            "handled",
            vec![
                insert.clone(),
                legacy(b"dialog", 3, &[b"call-1", b"from", b"to"]),
            ],
        ),
        (
            "too_short",
            vec![
                vec![],
                b"P4CK".to_vec(),
                insert[..17].to_vec(),
                b"\r\n\r\n".to_vec(),
            ],
        ),
        (
            "bad_marker",
            vec![
                flipped(0),
                flipped(3),
                b"OPTIONS sip:example.org SIP/2.0\r\n".to_vec(),
                vec![0; 65_507],
            ],
        ),
        (
            "bad_crc",
            vec![
                flipped(4),
                flipped(8),
                flipped(insert.len() - 1),
                insert[..30].to_vec(),
            ],
        ),
        (
            "bad_name_length",
            vec![
                word(at_name.clone(), -1),
                word(at_name.clone(), 1000),
                word(at_name, i32::MIN),
            ],
        ),
        (
            "unknown_name",
            vec![
                legacy(b"acme", 1, &[b"pipe"]),
                legacy(b"acme", 2, &[]),
                legacy(b"\x1b[31m", 1, &[b"x"]),
            ],
        ),
        (
            "unknown_command",
            vec![legacy(b"ul", 0, &[b"x"]), legacy(b"dialog", i32::MAX, &[])],
        ),
        (
            "field_missing",
            vec![
                legacy(b"ul", 1, &[b"location"]),
                legacy(b"dialog", 3, &[b"call-1", b"from"]),
            ],
        ),
        (
            "field_past_end",
            vec![
                word(at_domain.clone(), 1000),
                word(at_domain.clone(), i32::MAX),
            ],
        ),
        (
            "negative_length",
            vec![word(at_domain.clone(), -1), word(at_domain, i32::MIN)],
        ),
        ("bad_object_size", vec![with_short_object()]),
        (
            "leftover",
            vec![
                legacy(b"ul", 1, &[b"location", b"alice", b"more"]),
                changed(insert.clone(), |packet| packet.push(0)),
            ],
        ),
    ]
}

/// A genuine contact of which one C object lost a byte.
fn with_short_object() -> Vec<u8> {
    let frames = captures::frames("1.11");
    let contact = frames.iter().find_map(|frame| {
        let packet = Packet::parse(frame.generation, &frame.bytes).expect("genuine");
        let message = schema::identify(&packet).expect("genuine");
        (message.name == "CONTACT_INSERT").then_some((packet, message))
    });
    let (packet, message) = contact.expect("the capture has contacts");
    let mut buffer = vec![0; packet.bytes().len()];
    let mut builder = Builder::new(
        packet.generation(),
        &mut buffer,
        packet.name(),
        packet.command(),
        0,
    )
    .expect("it fits");
    let mut cut = false;
    let walked = message.walk(&packet, |field| {
        let pushed = match field.value {
            Value::Object(_, bytes) if !cut => {
                cut = true;
                builder.push_str(&bytes[..bytes.len() - 1])
            }
            Value::Object(_, bytes) | Value::Str(bytes) => builder.push_str(bytes),
            Value::Int(int) => builder.push_int(int),
            Value::Raw(bytes) => builder.append(bytes),
        };
        pushed.expect("it fits");
    });
    walked.expect("genuine");
    assert!(cut, "a contact has times");
    builder.seal().to_vec()
}
