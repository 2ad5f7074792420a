//! `serve` sends the live stream on: to nodes of its own generation, and of others.

use std::io::Write as _;
use std::net::TcpStream;

use binrush_store::model::Contact;
use binrush_store::{Record, write};
use binrush_tests::captures;
use binrush_wire::{Release, Trailer};
use serde_json::{Value, json};

use crate::made::legacy;
use crate::process::{Running, Scratch, run, wait_until};
use crate::receiver::{Receiver, count};

/// A `serve` at `ip` whose senders are at its own address or connect from loopback's first, with these targets.
fn relaying(folder: &Scratch, ip: &str, targets: &[String]) -> Receiver {
    let relay: String = targets
        .iter()
        .map(|target| format!("modparam(\"binrush\", \"relay\", \"{target}\")\n"))
        .collect();
    let text = format!(
        "listen = bin:{ip}:0\nloadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\n\
         modparam(\"binrush\", \"allow\", \"{ip}\")\nmodparam(\"binrush\", \"allow\", \"127.0.0.1\")\nmodparam(\"binrush\", \"shards\", 2)\n{relay}"
    );
    let file = folder.file("relay.cfg", text.as_bytes());
    Receiver::of(Running::start(&["serve", "--json", "--config", &file]))
}

/// A `serve` at `ip` that takes what comes from `from`.
fn receiving(ip: &str, from: &str) -> Receiver {
    Receiver::start(ip, &["--allow", from])
}

/// Waits until `addr` has been relayed to with `total` packets, and stops all: the relay's targets, and what each received.
fn stopped(relay: Receiver, others: Vec<Receiver>) -> (Value, Vec<Value>) {
    let (_, total) = relay.stop_after("TERM");
    let ends = others.into_iter().map(|each| {
        each.wait_until_read();
        each.stop("TERM")
    });
    (total["relay"].clone(), ends.collect())
}

#[test]
fn datagrams_of_1_11_go_on_to_its_like_and_to_3_6_by_tcp() {
    let folder = Scratch::new("relay-1.11");
    let (ours, same, modern) = ("127.42.1.1", "127.42.1.2", "127.42.1.3");
    let same = receiving(same, ours);
    let modern = receiving(modern, ours);
    let relay = relaying(
        &folder,
        ours,
        &[
            format!("to=bin:{}, generation=1.11", same.addr),
            format!(
                "to=bin:{}, generation=3.6, cluster=1, node=9, to_node=2",
                modern.addr
            ),
        ],
    );
    let frames = captures::frames("1.11");
    for some in frames.chunks(50) {
        some.iter().for_each(|frame| relay.send(&frame.bytes));
        relay.wait_until_read();
        same.wait_until_read();
    }
    let (targets, ends) = stopped(relay, vec![same, modern]);
    let sent = frames.len() as u64;
    let [to_same, to_modern] = &targets.as_array().expect("two")[..] else {
        panic!("{targets}");
    };
    assert_eq!(count(to_same, "accepted"), sent);
    // Counts of profiles and pipes are one node's.
    let counts = count(&to_same["refused"], "count");
    assert_eq!(count(to_same, "passed") + counts, sent, "{to_same}");
    assert_eq!(ends[0]["outcomes"], json!({ "handled": sent - counts }));
    assert_eq!(count(to_modern, "accepted"), sent);
    let translated = count(to_modern, "translated");
    assert!(translated + counts > sent * 9 / 10, "{to_modern}");
    assert_eq!(count(to_modern, "sent"), translated, "{to_modern}");
    assert_eq!(
        ends[1]["outcomes"],
        json!({ "handled": translated }),
        "{}",
        ends[1]
    );
}

#[test]
fn what_2_4_tells_by_tcp_goes_on_as_datagrams() {
    let folder = Scratch::new("relay-2.4");
    let ours = "127.42.2.1";
    let same = receiving("127.42.2.2", ours);
    let relay = relaying(
        &folder,
        ours,
        &[format!("to=bin:{}, generation=1.11", same.addr)],
    );
    let mut stream = TcpStream::connect(relay.addr).expect("it listens");
    let mut buffer = vec![0; 4096];
    for n in 0..40 {
        let (aor, callid) = (format!("user{n}"), format!("reg-{n}"));
        let contact = Record::Contact(Contact {
            domain: b"location",
            aor: aor.as_bytes(),
            uri: b"sip:user@198.51.100.7",
            callid: callid.as_bytes(),
            id: Some(1 << 14),
            expires: 4_000_000_000,
            socket: b"udp:192.0.2.1:5060",
            ..Contact::default()
        });
        let mut packet =
            write::packet(&contact, Release::V2_4, 0, 0, &mut buffer).expect("it fits");
        packet.push_trailer(Trailer::new(1, 3, 1)).expect("it fits");
        stream.write_all(packet.seal()).expect("loopback");
    }
    drop(stream);
    // The datagrams are the last to come.
    let socket = same.addr;
    wait_until("datagrams", || crate::process::queued(socket) == 0);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (targets, ends) = stopped(relay, vec![same]);
    assert_eq!(count(&targets[0], "accepted"), 40, "{targets}");
    assert_eq!(count(&targets[0], "translated"), 40, "{targets}");
    assert_eq!(ends[0]["outcomes"], json!({ "handled": 40 }), "{}", ends[0]);
}

#[test]
fn a_target_that_is_not_there_costs_the_others_nothing_and_the_books_balance() {
    let folder = Scratch::new("relay-nobody");
    let ours = "127.42.3.1";
    let same = receiving("127.42.3.2", ours);
    let relay = relaying(
        &folder,
        ours,
        &[
            "to=bin:127.42.3.9:5999, generation=3.6, cluster=1, node=9, to_node=2, queue=1MiB"
                .into(),
            format!("to=bin:{}, generation=1.11", same.addr),
        ],
    );
    let packets = (0..2000).map(|n| {
        let name = format!("user{n}");
        legacy(b"ul", 1, &[b"location", name.as_bytes()])
    });
    for some in packets.collect::<Vec<_>>().chunks(50) {
        some.iter().for_each(|packet| relay.send(packet));
        relay.wait_until_read();
        same.wait_until_read();
    }
    let (targets, ends) = stopped(relay, vec![same]);
    let gone = &targets[0];
    assert_eq!(
        (count(gone, "accepted"), count(gone, "sent")),
        (2000, 0),
        "{gone}"
    );
    assert_eq!(count(gone, "lost") + count(gone, "dropped"), 2000, "{gone}");
    assert_eq!(ends[0]["outcomes"], json!({ "handled": 2000 }));
}

#[test]
fn a_relay_that_would_go_round_or_serve_everybody_is_refused_with_what_to_do() {
    let folder = Scratch::new("relay-refused");
    let check = |allow: &str, to: &str| {
        let text = format!(
            "listen = bin:127.42.4.1:5555\nmodparam(\"binrush\", \"allow\", \"{allow}\")\n\
             modparam(\"binrush\", \"relay\", \"to=bin:{to}, generation=1.11\")\n"
        );
        let file = folder.file("refused.cfg", text.as_bytes());
        run(&["check", &file])
    };
    check("10.0.0.0/8", "127.42.4.1:5555")
        .exits(2)
        .says(&["refused.cfg:3:", "where we listen ourselves"]);
    check("10.0.0.0/8", "10.0.0.7:5555")
        .exits(2)
        .says(&["do not say who made them"]);
    check("any", "10.0.0.7:5555")
        .exits(2)
        .says(&["do not let everybody in"]);
    let fine = check("10.0.0.0/8", "192.0.2.7:5555").ok();
    assert!(
        fine.text().contains("goes on to bin:192.0.2.7:5555, 1.x"),
        "{}",
        fine.text()
    );
}
