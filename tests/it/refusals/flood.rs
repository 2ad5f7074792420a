//! Garbage at full speed beside a valid stream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::dice::Dice;
use crate::made::{changed, legacy};
use crate::receiver::{Receiver, count, no_drops};

#[test]
fn a_flood_of_garbage_costs_no_valid_packet_no_memory_and_few_lines() {
    let start = Instant::now();
    let args = ["--shards", "2", "--stats", "0"];
    let receiver = Receiver::start("127.0.0.1", &args);
    let mut dice = Dice::new(7);
    let garbage: Vec<Vec<u8>> = (0..KINDS).map(|_| garbage(&mut dice)).collect();
    let valid: Vec<Vec<u8>> = (0..100)
        .map(|n| legacy(b"ul", 1, &[b"location", format!("phone-{n}").as_bytes()]))
        .collect();
    let stream = |count: usize| {
        let garbage = garbage.iter().cycle().take(count);
        let valid = valid.iter().cycle();
        garbage
            .zip(valid)
            .enumerate()
            .flat_map(|(n, (garbage, valid))| {
                let valid = n.is_multiple_of(VALID_EVERY).then_some(valid);
                [Some(garbage), valid].into_iter().flatten()
            })
    };
    // All that is allocated once, on the first refusal of a kind or for the first line, is there after this.
    receiver.send_all(stream(WARM_UP));
    std::thread::sleep(Duration::from_millis(1500));
    let before = receiver.process.resident_kib();
    receiver.send_all(stream(GARBAGE));
    receiver.wait_until_read();
    let after = receiver.process.resident_kib();
    assert!(
        after <= before + GROWTH_MAX_KIB,
        "{before} KiB, {after} KiB"
    );

    let (lines, total) = receiver.stop_after("TERM");
    let refused = (WARM_UP + GARBAGE) as u64;
    let handled = (WARM_UP / VALID_EVERY + GARBAGE / VALID_EVERY) as u64;
    assert_eq!(total["kernel_drops"], no_drops());
    assert_eq!(count(&total, "received"), refused + handled);
    assert_eq!(count(&total["outcomes"], "handled"), handled, "{total}");
    let outcomes = total["outcomes"].as_object().expect("counts").keys();
    assert!(outcomes.count() > 5, "{total}");
    // Names that anybody can make up, and as many as he likes: the first ones are told.
    let names = total["unknown_names"].as_object().expect("counts");
    assert!((1..=64).contains(&names.len()), "{}", names.len());
    assert!(
        names
            .keys()
            .all(|name| name.len() <= NAME_TEXT_MAX && is_plain(name))
    );
    assert!(!lines.is_empty());
    bounded(&lines, &total, start.elapsed());
}

/// Checks that `lines` are `refused` ones, few, short and plain, and say no more than the totals.
#[track_caller]
pub(super) fn bounded(lines: &[Value], total: &Value, elapsed: Duration) {
    let mut told = BTreeMap::<&str, Vec<u64>>::new();
    for line in lines {
        assert_eq!(line["event"], "refused", "{line}");
        let text = line["text"].as_str().expect("a text");
        assert!(text.len() <= LINE_MAX && is_plain(text), "{text}");
        let outcome = line["outcome"].as_str().expect("a name");
        told.entry(outcome).or_default().push(count(line, "count"));
    }
    let lines_max = 1 + elapsed.as_secs() / QUIET_S;
    for (outcome, counts) in told {
        assert!(counts.len() as u64 <= lines_max, "{outcome}: {counts:?}");
        let all = count(&total["outcomes"], outcome);
        assert!(counts.iter().sum::<u64>() <= all, "{outcome}: {counts:?}");
    }
}

/// Nothing that a terminal would obey.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c == ' ' || c.is_ascii_graphic())
}

/// Something that no handler takes.
fn garbage(dice: &mut Dice) -> Vec<u8> {
    let len = dice.below(300);
    let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
    match dice.below(8) {
        0 => dice.bytes(len),
        1 => [b"P4CK".to_vec(), dice.bytes(len)].concat(),
        2 => insert[..dice.below(insert.len())].to_vec(),
        // The checksum itself is among what may change, and the marker is not.
        3 => {
            let mut damaged = insert;
            let at = 4 + dice.below(damaged.len() - 4);
            damaged[at] ^= 1 << dice.below(8);
            damaged
        }
        4 => changed(insert, |packet| {
            let at = [8, 18][dice.below(2)];
            let wrong = dice.one_of(&[-1, i32::MIN, i32::MAX, 5000]);
            packet[at..at + 4].copy_from_slice(&wrong.to_le_bytes());
        }),
        5 => {
            let name = [b"x".to_vec(), dice.bytes(1 + len)].concat();
            legacy(&name, 1, &[b"field"])
        }
        6 => legacy(b"dialog", 4 + i32::from(dice.coin()), &[b"call-1"]),
        _ => changed(insert, |packet| packet.extend(dice.bytes(1 + len))),
    }
}

/// Different ones, sent again and again.
const KINDS: usize = 5000;
const WARM_UP: usize = 10_000;
const GARBAGE: usize = 200_000;
const VALID_EVERY: usize = 20;

/// A page here or there may be touched for the first time; 200 000 datagrams are 30 MB.
const GROWTH_MAX_KIB: u64 = 1024;

/// Between two lines about the same outcome, in seconds.
const QUIET_S: u64 = 10;

/// 64 bytes of a datagram take at most 256 once escaped; the rest is words.
const LINE_MAX: usize = 600;

/// 48 bytes of a name, escaped, and its length.
const NAME_TEXT_MAX: usize = 48 * 4 + 40;
