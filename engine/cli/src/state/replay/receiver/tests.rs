//! Packets of nodes 1 and 2 for node 3, which hears them.

use std::net::SocketAddr;

use binrush_capture::Transport;
use binrush_wire::Builder;

use super::*;

const CAPABILITY: &[u8] = b"cachedb-local-repl";

/// What was heard, with the second of each packet.
struct Heard3 {
    receiver: Receiver,
    wrong: Vec<String>,
}

impl Heard3 {
    fn new(with_own: bool) -> Self {
        let receiver = Receiver::new(Some(address(3).ip()), with_own);
        let wrong = Vec::new();
        Self { receiver, wrong }
    }

    /// Node `src` sends to node `dst`.
    fn packet(mut self, second: u64, (src, dst): (u8, u8), bytes: &[u8]) -> Self {
        let frame = Frame {
            number: 1,
            time: time(second),
            src: address(src),
            dst: address(dst),
            transport: Transport::Tcp,
            generation: Generation::Modern,
            bytes,
        };
        if let Heard::Wrong(wrong) = self.receiver.hear(&frame) {
            self.wrong.push(wrong.to_string());
        }
        self
    }

    /// The keys that are there, and what was wrong.
    fn keys(self) -> (Vec<String>, Vec<String>) {
        let dump = self.receiver.finish(time(1000));
        let keys = dump.records.iter().map(|record| {
            let key = record.get("key").and_then(|key| key.bytes());
            text(key.expect("an entry has a key"))
        });
        let mut keys: Vec<_> = keys.collect();
        keys.sort();
        (keys, self.wrong)
    }
}

fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 9, node], 5566))
}

fn time(second: u64) -> Timestamp {
    Timestamp::from_nanos((1_795_226_400 + second) * 1_000_000_000)
}

fn packet(
    name: &[u8],
    command: i32,
    version: i16,
    fill: impl FnOnce(&mut Builder<'_>),
    trailer: Option<Trailer>,
) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let builder = Builder::new(Generation::Modern, &mut buffer, name, command, version);
    let mut builder = builder.expect("there is room");
    fill(&mut builder);
    if let Some(trailer) = trailer {
        builder.push_trailer(trailer).expect("there is room");
    }
    builder.finish().to_vec()
}

fn entry(builder: &mut Builder<'_>, key: &str) {
    for text in ["rep", key, "value"] {
        builder.push_str(text.as_bytes()).expect("there is room");
    }
    builder.push_int(0).expect("there is room");
}

fn insert(key: &str, (source, dest): (i32, i32)) -> Vec<u8> {
    let trailer = Some(Trailer::new(7, source, dest));
    packet(CAPABILITY, 1, 1, |builder| entry(builder, key), trailer)
}

fn remove(key: &str) -> Vec<u8> {
    let fill = |builder: &mut Builder<'_>| {
        builder.push_str(b"rep").expect("there is room");
        builder.push_str(key.as_bytes()).expect("there is room");
    };
    packet(CAPABILITY, 2, 1, fill, Some(Trailer::new(7, 1, 3)))
}

/// SYNC_REQ, SYNC_END with a count.
fn extra(command: i32, number: Option<i32>, (source, dest): (i32, i32)) -> Vec<u8> {
    let fill = |builder: &mut Builder<'_>| {
        builder.push_str(CAPABILITY).expect("there is room");
        if let Some(number) = number {
            builder.push_int(number).expect("there is room");
        }
    };
    let trailer = Some(Trailer::new(7, source, dest));
    packet(EXTRA, command, 3, fill, trailer)
}

fn request() -> Vec<u8> {
    extra(10, None, (3, 1))
}

fn end(chunks: i32) -> Vec<u8> {
    extra(12, Some(chunks), (1, 3))
}

fn sync(keys: &[&str]) -> Vec<u8> {
    let fill = |builder: &mut Builder<'_>| {
        builder.push_str(CAPABILITY).expect("there is room");
        builder.push_int(1).expect("there is room");
        for key in keys {
            // What a packet has as fields is what a chunk has as data.
            let whole = insert(key, (1, 3));
            let parsed = Packet::parse(Generation::Modern, &whole).expect("it was built");
            let mut fields = parsed.fields();
            fields.pop_trailer().expect("it has one");
            builder.push_chunk(fields.rest()).expect("there is room");
        }
    };
    packet(EXTRA, 11, 3, fill, Some(Trailer::new(7, 1, 3)))
}

fn ping(node: i32) -> Vec<u8> {
    let fill = |builder: &mut Builder<'_>| {
        for number in [7, node, 0] {
            builder.push_int(number).expect("there is room");
        }
    };
    packet(INTERNAL, PING, 1, fill, None)
}

const TO_3: (u8, u8) = (1, 3);

#[test]
fn what_a_sync_does_not_confirm_goes_at_its_end() {
    let (keys, wrong) = Heard3::new(false)
        .packet(1, TO_3, &insert("old", (1, 3)))
        .packet(2, TO_3, &insert("there", (1, 3)))
        .packet(60, (3, 1), &request())
        .packet(61, TO_3, &sync(&["there", "new"]))
        .packet(61, TO_3, &end(2))
        .keys();
    assert_eq!(keys, ["new", "there"]);
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_sync_without_all_its_chunks_removes_nothing_and_is_told() {
    let heard = Heard3::new(false)
        .packet(1, TO_3, &insert("old", (1, 3)))
        .packet(60, TO_3, &sync(&["new"]))
        .packet(61, TO_3, &end(2));
    let (keys, wrong) = heard.keys();
    assert_eq!(keys, ["new", "old"]);
    let words = "sync of cachedb-local-repl: 1 of 2 chunks came, so nothing is removed";
    assert_eq!(wrong, [words]);

    // Nothing comes for too long: the end belongs to no sync any more, and a live packet does not wait.
    let (keys, _) = Heard3::new(false)
        .packet(1, TO_3, &insert("old", (1, 3)))
        .packet(60, TO_3, &sync(&["new"]))
        .packet(76, TO_3, &insert("live", (1, 3)))
        .keys();
    assert_eq!(keys, ["live", "new", "old"]);
}

#[test]
fn a_live_packet_waits_for_the_chunks_that_are_older() {
    let begun = || {
        Heard3::new(false)
            .packet(60, (3, 1), &request())
            .packet(60, TO_3, &remove("gone"))
            .packet(60, TO_3, &insert("late", (1, 3)))
            .packet(61, TO_3, &sync(&["gone", "there"]))
    };
    assert_eq!(
        begun().packet(61, TO_3, &end(2)).keys().0,
        ["late", "there"]
    );
    // The capture may end before the sync does.
    assert_eq!(begun().keys().0, ["late", "there"]);
}

#[test]
fn what_is_passed_on_is_not_taken_and_what_is_told_is_when_it_is_wanted() {
    let heard = |with_own| {
        Heard3::new(with_own)
            .packet(1, (3, 1), &ping(3))
            .packet(2, TO_3, &insert("ours", (1, 3)))
            .packet(2, TO_3, &insert("for 2", (1, 2)))
            .packet(3, (3, 2), &insert("for 2", (1, 2)))
            .packet(4, (3, 1), &insert("own", (3, 1)))
            .packet(5, (1, 2), &insert("others", (1, 2)))
            .keys()
    };
    assert_eq!(heard(false).0, ["ours"]);
    assert_eq!(heard(true).0, ["ours", "own"]);
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_taken() {
    let cut = packet(
        CAPABILITY,
        1,
        1,
        |builder| builder.push_str(b"rep").expect("there is room"),
        Some(Trailer::new(7, 1, 3)),
    );
    let (keys, wrong) = Heard3::new(false)
        .packet(1, TO_3, &cut)
        .packet(1, TO_3, &cut[..cut.len() - 3])
        .packet(1, (1, 2), &cut)
        .packet(2, TO_3, &insert("good", (1, 3)))
        .keys();
    assert_eq!(keys, ["good"]);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(
        wrong[0].starts_with("cachedb-local-repl type 1: "),
        "{wrong:?}"
    );
}
