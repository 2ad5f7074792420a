use std::io::Write as _;

use super::*;
use binrush_probe::{Audit, Limits, Report, STAMP_LEN, Stamp, place, seal};
use binrush_wire::Builder;
use serde_json::json;

/// Stamped frame number `sequence`, of a name that nobody knows.
fn frame(sequence: u64) -> Vec<u8> {
    let mut buffer = [0; 300];
    let mut builder =
        Builder::new(Generation::Modern, &mut buffer, b"miss", 1, 1).expect("it fits");
    builder.push_str(&[b'.'; STAMP_LEN]).expect("it fits");
    builder
        .push_str(&vec![b'x'; 20 + (sequence % 7) as usize])
        .expect("it fits");
    let mut bytes = builder.seal().to_vec();
    let packet = Packet::parse(Generation::Modern, &bytes).expect("it was just made");
    let at = place(&packet).expect("its first field").start;
    let stamp = Stamp {
        run: 9,
        stream: 0,
        sequence,
        intended_ns: 1,
        late_ns: None,
    };
    seal(&mut bytes, at, &stamp);
    bytes
}

/// What a sink makes of `bytes` when they come in pieces of these lengths, again and again.
fn totals(bytes: &[u8], pieces: &[usize]) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut connection = Connection::new(listener.accept().unwrap().0);
    let audit = Audit::new(Limits::default());
    let mut streams = Streams::new(Counts::with(Some(audit)));
    let mut rest = bytes;
    for len in pieces.iter().cycle() {
        let (piece, behind) = rest.split_at(rest.len().min(*len));
        if piece.is_empty() {
            break;
        }
        peer.write_all(piece).unwrap();
        assert_eq!(streams.read(&mut connection), Read::Some);
        rest = behind;
    }
    drop(peer);
    while streams.read(&mut connection) != Read::End {}
    streams.end(&mut connection);
    let totals = streams.totals();
    let of = |key: &str| totals[key].as_u64().unwrap();
    let sum = of("frames_bytes") + of("partial_bytes") + of("rejected");
    assert_eq!((of("bytes"), sum), (bytes.len() as u64, bytes.len() as u64));
    totals
}

/// Numbers that came once each, packets that were damaged.
fn audited(totals: &Value) -> (u64, u64) {
    let report: Report = serde_json::from_value(totals["probe"].clone()).unwrap();
    let unique = report.run(9).map_or(0, |run| run.total().unique);
    (unique, report.damaged_total())
}

const PIECES: [&[usize]; 4] = [&[1], &[7, 100, 3], &[130], &[100_000]];

#[test]
fn frames_are_counted_however_the_stream_is_cut() {
    let stream: Vec<u8> = (0..200).flat_map(frame).collect();
    for pieces in PIECES {
        let totals = totals(&stream, pieces);
        assert_eq!(
            (totals["frames"].as_u64(), audited(&totals)),
            (Some(200), (200, 0))
        );
        assert_eq!(
            (&totals["partial"], &totals["rejected"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(totals["outcomes"], json!({ "handled": 200 }));
    }
}

#[test]
fn a_frame_whose_end_does_not_come_is_partial() {
    let whole: Vec<u8> = (0..3).flat_map(frame).collect();
    let beginning = frame(3);
    for len in [1, 3, 7, 8, 50, beginning.len() - 1] {
        let stream = [&whole, &beginning[..len]].concat();
        let totals = totals(&stream, &[64]);
        assert_eq!(audited(&totals), (3, 0));
        assert_eq!(
            (&totals["partial"], &totals["partial_bytes"]),
            (&json!(1), &json!(len))
        );
        assert_eq!(totals["outcomes"], json!({ "handled": 3 }));
    }
}

/// Whatever one byte is changed, no other frame is lost, and the one that was is counted once.
#[test]
fn a_changed_byte_costs_its_own_frame_alone() {
    let stream: Vec<u8> = (0..5).flat_map(frame).collect();
    let start = frame(0).len() + frame(1).len();
    for at in start..start + frame(2).len() {
        for change in [1, 0x80, 0xFF] {
            let mut damaged = stream.clone();
            damaged[at] ^= change;
            for pieces in [PIECES[1], PIECES[3]] {
                let totals = totals(&damaged, pieces);
                let (unique, changed) = audited(&totals);
                assert_eq!(unique, 4, "byte {at} ^ {change}: {totals}");
                let outcomes = totals["outcomes"].as_object().unwrap();
                let mut refused = 0;
                for (name, count) in outcomes {
                    refused += if name == "handled" {
                        0
                    } else {
                        count.as_u64().unwrap()
                    };
                }
                let one = changed + refused + totals["partial"].as_u64().unwrap();
                assert_eq!(one, 1, "byte {at} ^ {change}: {totals}");
            }
        }
    }
}

#[test]
fn what_is_no_bin_at_all_is_rejected_and_counted_once() {
    let totals = totals(b"GET / HTTP/1.1\r\n\r\n", &[5]);
    assert_eq!(
        (&totals["rejected"], &totals["frames"]),
        (&json!(18), &json!(0))
    );
    assert_eq!(totals["outcomes"], json!({ "handled": 0, "bad_marker": 1 }));
}

#[test]
fn a_name_that_moves_the_stamp_is_damage_and_not_a_frame_of_others() {
    let mut bytes = frame(0);
    // The length of the name.
    bytes[8] ^= 2;
    let totals = totals(&bytes, &[1000]);
    assert_eq!(audited(&totals).0, 0);
    assert_ne!(totals["outcomes"], json!({ "handled": 0 }));
}
