//! `serve` measures what was stamped: everything that is done to the packets on purpose is found, to the packet.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use binrush_probe::ask::message::{ASK_LEN_MAX, Ask, PART_LEN_MAX, Wish};
use binrush_probe::{
    Report, STAMP_LEN, Stamp, StreamReport, ask, forget, monotonic_ns, place, seal,
};
use binrush_proxy::{Damage, Odds};
use binrush_wire::{Builder, Generation, Packet, crc32};
use serde_json::{Value, json};

use crate::process::{Finished, Running, Scratch, run};
use crate::receiver::{Receiver, count};

/// A `serve` with a probe.
struct Measuring {
    receiver: Receiver,
    folder: Scratch,
}

/// What is done to the packets of a stream.
#[derive(Default)]
struct Faults {
    lost: &'static [u64],
    twice: &'static [u64],
    damaged: &'static [u64],
    /// Sent behind the packet that comes so many later.
    late: &'static [(u64, u64)],
}

#[test]
fn what_is_done_to_packets_is_found_on_one_shard_and_on_two() {
    for shards in ["1", "2"] {
        let server = Measuring::start(&format!("probe-faults-{shards}"), shards);
        let spread = Faults {
            lost: &[0, 100, 101, 102, 2_999],
            twice: &[5, 6, 2_000],
            damaged: &[50, 2_500],
            late: &[],
        };
        // Contacts of many records: on two shards, each sees a part of the numbers.
        server.send(&stream(3, 0, 3_000, &spread, |sequence| {
            contact(&format!("user{}", sequence % 97))
        }));
        // All of one record, so that who overtakes whom is known.
        let disordered = Faults {
            lost: &[9],
            late: &[(20, 1), (30, 7), (40, 2)],
            ..Faults::default()
        };
        server.send(&stream(3, 1, 100, &disordered, |_| contact("alice")));
        let whole = Faults::default();
        server.send(&stream(3, 2, 70_000, &whole, |sequence| {
            dialog_gone(&format!("call{}", sequence % 89))
        }));
        server.send(&stream(4, 0, 1_000, &whole, |_| miss()));
        // Nobody's.
        server.send(&[contact("bob"), miss()]);

        let (total, report) = server.stop();
        let counted = |run: u16| report.run(run).expect("it was seen").streams.clone();
        let first = StreamReport {
            stream: 0,
            received: 2_996,
            unique: 2_993,
            duplicates: 3,
            reordered: 0,
            reorder_distance_max: 0,
            first: 1,
            last: 2_998,
            gaps: 6,
            gap_longest: 3,
            damaged: 2,
        };
        let second = StreamReport {
            stream: 1,
            received: 99,
            unique: 99,
            reordered: 3,
            reorder_distance_max: 7,
            last: 99,
            gaps: 1,
            gap_longest: 1,
            ..StreamReport::default()
        };
        let in_order = |stream, packets| StreamReport {
            stream,
            received: packets,
            unique: packets,
            last: packets - 1,
            ..StreamReport::default()
        };
        assert_eq!(counted(3), [first, second, in_order(2, 70_000)], "{shards}");
        assert_eq!(counted(4), [in_order(0, 1_000)]);
        assert_eq!((report.damaged, report.foreign, report.beyond), (0, 2, 0));
        // Measured or not, all of them are read to the last byte.
        let handled = 2_998 + 99 + 70_000 + 1_000 + 2;
        assert_eq!(total["outcomes"], json!({ "handled": handled }));
    }
}

#[test]
fn order_is_that_of_a_stream_whatever_its_packets_are_named_and_whoever_asks_meanwhile() {
    let server = Measuring::start("probe-order", "1");
    let packet = |sequence: u64| {
        let packet = match sequence % 3 {
            0 => contact("alice"),
            1 => dialog_gone("call"),
            _ => miss(),
        };
        stamped(&packet, &stamp(1, 0, sequence))
    };
    // Each one that is late is of another name than those it comes after.
    server.send(&[0, 2, 1, 5, 7, 3].map(packet));
    server.asked(1, 6);
    server.send(&[4, 6, 8].map(packet));
    let (_, report) = server.stop();
    let expected = StreamReport {
        received: 9,
        unique: 9,
        reordered: 4,
        reorder_distance_max: 4,
        last: 8,
        ..StreamReport::default()
    };
    assert_eq!(report.runs[0].streams, [expected]);
}

#[test]
fn what_is_corrupted_is_damaged_or_refused_and_never_both() {
    for shards in ["1", "2"] {
        let server = Measuring::start(&format!("probe-corrupted-{shards}"), shards);
        let plan = binrush_proxy::Plan {
            corrupt: Odds::Chance(0.2),
            damage: Damage::Repaired,
            seed: 11,
            ..binrush_proxy::Plan::default()
        };
        let mut faults = binrush_proxy::Faults::new(&plan, 0).expect("it can be kept to");
        let mut packets = Vec::new();
        for sequence in 0..20_000 {
            let packet = match sequence % 2 {
                0 => contact(&format!("user{}", sequence % 97)),
                _ => dialog_gone(&format!("call{}", sequence % 89)),
            };
            let packet = stamped(&packet, &stamp(1, 0, sequence));
            faults.pass(&packet, |bytes| packets.push(bytes.to_vec()));
        }
        server.send(&packets);
        let (total, report) = server.stop();
        let corrupted = faults.counts().corrupted;
        let outcomes = total["outcomes"].as_object().expect("counts");
        let refused = outcomes.iter().filter(|(name, _)| *name != "handled");
        let refused: u64 = refused
            .map(|(_, count)| count.as_u64().expect("a count"))
            .sum();
        let received = report.runs[0].total().received;
        assert_eq!(report.damaged_total() + refused, corrupted, "{total}");
        assert_eq!(
            count(&total["outcomes"], "handled"),
            received + report.damaged_total() + report.foreign + report.beyond,
        );
        assert_eq!((received, report.foreign), (20_000 - corrupted, 0));
        assert!(
            corrupted > 3_000 && refused > 500 && report.damaged_total() > 500,
            "{total}"
        );
        assert!(report.runs[0].total().damaged > 500, "{report:?}");
    }
}

#[test]
fn more_runs_than_are_kept_are_followed_nevertheless() {
    let server = Measuring::start("probe-runs", "1");
    for run in 1..=40 {
        // One batch each, so that each has a time of its own.
        server.send(&[stamped(&miss(), &stamp(run, 0, 0))]);
        server.asked(run, 1);
    }
    let (_, report) = server.stop();
    let runs: Vec<u16> = report.runs.iter().map(|run| run.run).collect();
    assert_eq!(runs, (25..=40).collect::<Vec<_>>());
    assert_eq!((report.evicted, report.beyond), (24, 0));
}

#[test]
fn latencies_are_by_the_clock_that_sender_and_receiver_share() {
    let server = Measuring::start("probe-latency", "1");
    let begun = Instant::now();
    for sequence in 0..200 {
        let stamp = Stamp {
            run: 1,
            stream: 0,
            sequence,
            // Sent a millisecond after it was due.
            intended_ns: monotonic_ns() - 1_000_000,
            late_ns: (sequence < 150).then_some(1_000_000),
        };
        server.send(&[stamped(&contact("alice"), &stamp)]);
    }
    let (_, report) = server.stop();
    // All were received by now, whatever else the machine does.
    let lasted = u64::try_from(begun.elapsed().as_nanos()).expect("short");
    let run = &report.runs[0];
    assert_eq!((run.intended.count(), run.actual.count()), (200, 150));
    assert!(run.intended.min() > 1_000_000, "{:?}", run.intended);
    assert!(run.actual.min() > 100, "{:?}", run.actual);
    // Three digits.
    let bound = (lasted + 1_000_000) + lasted / 500;
    assert!(run.intended.max() <= bound, "{:?} {lasted}", run.intended);
    // Those that do not say when they were sent are in one of them only, and the shortest may be among them.
    assert!(
        run.intended.min() <= run.actual.min() + 1_010_000,
        "{run:?}"
    );
    assert_eq!((run.early, run.intervals_cut), (0, 0));
    let seconds: u64 = run.intervals.iter().map(|each| each.received).sum();
    assert_eq!(seconds, 200);
    let now = monotonic_ns() / 1_000_000_000;
    let recent = run
        .intervals
        .iter()
        .all(|each| (now - 60..=now).contains(&each.second));
    assert!(recent, "{:?}", run.intervals);
}

#[test]
fn who_asks_is_told_what_all_shards_saw_while_the_server_goes_on() {
    let server = Measuring::start("probe-ask", "2");
    let addr = server.receiver.addr;
    let asked = |run| ask(addr, run, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(asked(7), Report::default());

    let part = |from: u64, to: u64| -> Vec<Vec<u8>> {
        let numbers = (from..to).filter(|sequence| sequence % 10 != 3);
        let packets = numbers.map(|sequence| {
            // As many different latencies as it takes for an answer of several datagrams.
            let octave = 1 << (24 + sequence % 11);
            let latency_ns = octave + octave / 1_024 * (sequence / 11 * 7_919 % 1_024);
            let stamp = Stamp {
                run: 7,
                stream: 1,
                sequence,
                intended_ns: monotonic_ns().saturating_sub(latency_ns),
                late_ns: Some(0),
            };
            stamped(&contact(&format!("user{}", sequence % 50)), &stamp)
        });
        packets.collect()
    };
    let expected = |packets: u64| StreamReport {
        stream: 1,
        received: packets / 10 * 9,
        unique: packets / 10 * 9,
        last: packets - 1,
        gaps: packets / 10,
        gap_longest: 1,
        ..StreamReport::default()
    };
    for packets in [20_000, 40_000] {
        server.send(&part(packets - 20_000, packets));
        let report = server.asked(7, packets / 10 * 9);
        assert_eq!(report.runs[0].streams, [expected(packets)]);
        assert_eq!(report.runs[0].intended.count(), packets / 10 * 9);
        let text = serde_json::to_vec(&report).expect("JSON");
        assert!(text.len() > 10 * PART_LEN_MAX, "{}", text.len());
    }
    assert!(asked(8).runs.is_empty());
    // A packet that came already is a copy, also after the report.
    server.send(&part(0, 10));
    assert_eq!(server.asked(7, 36_009).runs[0].streams[0].duplicates, 9);

    forget(addr, 7, PATIENCE).expect("it answers");
    assert!(asked(7).runs.is_empty());
    server.send(&part(0, 10));
    let (total, report) = server.stop();
    assert_eq!(report.runs[0].streams[0].unique, 9);
    let outcomes = total["outcomes"].as_object().expect("counts");
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert!(count(&total, "sent") >= 27, "{total}");
}

#[test]
fn nothing_is_answered_to_an_address_that_is_not_let_in() {
    let server = Measuring::start("probe-strangers", "1");
    let mine = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let mine = mine.local_addr().expect("it is bound");
    let question = |reply_to: SocketAddr| {
        let asking = Ask {
            wish: Wish::Report,
            run: 1,
            reply_to,
            salt: 5,
            part: 0,
        };
        asking.write(&mut [0; ASK_LEN_MAX]).to_vec()
    };
    let strangers = [
        "192.0.2.1:5555",
        "[2001:db8::1]:5555",
        "255.255.255.255:9",
        "0.0.0.0:9",
    ];
    for stranger in strangers {
        server.send(&[question(stranger.parse().expect("an address"))]);
    }
    let unreadable = question(mine);
    let text = mine.to_string();
    let at = unreadable
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .expect("the address is in it");
    let mut unreadable = unreadable;
    unreadable[at] = b'x';
    server.send(&[sealed(unreadable)]);
    // No question: of another command.
    let mut buffer = [0; 64];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"binrush-probe", 9, 0)
        .expect("there is room");
    server.send(&[builder.seal().to_vec()]);

    let (total, report) = server.stop();
    assert_eq!(
        total["outcomes"],
        json!({ "unknown_variant": 5, "unknown_command": 1 })
    );
    assert_eq!(count(&total, "sent") + count(&total, "send_failures"), 0);
    assert_eq!(report, Report::default());
}

#[test]
fn only_the_names_that_were_told_are_measured() {
    let folder = Scratch::new("probe-names");
    let server = Measuring::with(folder, "1", "probe", "\"dialog\"", "--json");
    let whole = Faults::default();
    server.send(&stream(1, 0, 10, &whole, |_| contact("alice")));
    server.send(&stream(1, 1, 10, &whole, |_| dialog_gone("call")));
    server.send(&stream(1, 2, 10, &whole, |_| miss()));
    assert_eq!(server.receiver.ready["probe"], json!(["dialog"]));
    assert_eq!(
        server.receiver.ready["handlers"],
        json!([
            "dialog",
            "ul",
            "dialog-dlg-repl",
            "usrloc-contact-repl",
            "dialog-prof-repl"
        ])
    );
    let (total, report) = server.stop();
    let streams = &report.runs[0].streams;
    assert_eq!(
        (streams.len(), streams[0].stream, streams[0].unique),
        (1, 1, 10)
    );
    assert_eq!(
        total["outcomes"],
        json!({ "handled": 20, "unknown_name": 10 })
    );
}

#[test]
fn people_are_told_in_lines() {
    let folder = Scratch::new("probe-lines");
    let config = folder.file("a.cfg", configuration("probe", "\"ul\"").as_bytes());
    let mut server = Running::start(&["serve", "--config", &config, "--shards", "1"]);
    let ready = server.line();
    assert!(ready.contains(", probe ul"), "{ready}");
    let addr = ready
        .strip_prefix("ready: bin:")
        .and_then(|rest| rest.split(' ').next());
    let addr: SocketAddr = addr.and_then(|addr| addr.parse().ok()).expect("an address");
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let lost = Faults {
        lost: &[2, 3],
        ..Faults::default()
    };
    for packet in stream(1, 0, 10, &lost, |_| contact("alice")) {
        peer.send_to(&packet, addr).expect("loopback");
    }
    let ended: Finished = server.stop("TERM").ok();
    for told in [
        "probe run 1: received 8 = unique 8 + duplicates 0; missing 2 (longest gap 2), reordered 0",
        "probe run 1: from the intended time of sending: p50 ",
        "probe: damaged 0, without a stamp 0, beyond the limits 0",
    ] {
        assert!(ended.text().contains(told), "{}", ended.text());
    }
}

#[test]
fn a_probe_for_everybody_is_refused_wherever_it_is_said() {
    let folder = Scratch::new("probe-any");
    let any = "modparam(\"binrush\", \"allow\", \"any\")\n";
    let config = configuration("probe", "\"ul\"");
    let open = folder.file("open.cfg", (config.clone() + any).as_bytes());
    for command in [&["serve", "--config"][..], &["check"]] {
        let refused = run(&[command, &[&open[..]]].concat()).exits(2);
        refused.says(&[
            "open.cfg:5:30: allow: ranges of addresses expected",
            "probe is set in",
        ]);
    }
    let good = folder.file("a.cfg", config.as_bytes());
    let told = run(&["check", &good]).ok().text().to_owned();
    assert!(told.contains("\nprobe     ul\n"), "{told}");
    for everybody in [
        &["--allow", "any"][..],
        &["--allow", "0.0.0.0/0"],
        &["--allow", "128.0.0.0/1", "--allow", "0.0.0.0/1"],
    ] {
        let serve = [&["serve", "--config", &good], everybody].concat();
        run(&serve)
            .exits(2)
            .says(&["--allow ", everybody[1], "probe"]);
    }

    // Nor by a reload, with or without the probe in the new configuration.
    let server = Measuring::with(folder, "1", "probe", "\"ul\"", "--json");
    let mut receiver = server.receiver;
    for (param, told) in [
        ("probe", "ranges of addresses expected"),
        ("stats", "needs a restart"),
    ] {
        let value = if param == "probe" { "\"ul\"" } else { "0" };
        let text = configuration(param, value) + any;
        server.folder.file("a.cfg", text.as_bytes());
        receiver.process.signal("HUP");
        let event = receiver.process.event("reload");
        let text = event["text"].to_string();
        assert!(event["done"] == false && text.contains(told), "{event}");
        assert!(text.contains("going on as before"), "{event}");
    }
    receiver.stop("TERM");
}

impl Measuring {
    #[track_caller]
    fn start(name: &str, shards: &str) -> Self {
        let folder = Scratch::new(name);
        Self::with(
            folder,
            shards,
            "probe",
            "\"dialog, ul,binrush-miss\"",
            "--json",
        )
    }

    #[track_caller]
    fn with(folder: Scratch, shards: &str, param: &str, value: &str, json: &str) -> Self {
        let config = folder.file("a.cfg", configuration(param, value).as_bytes());
        let args = ["serve", json, "--config", &config, "--shards", shards];
        let receiver = Receiver::of(Running::start(&args));
        Self { receiver, folder }
    }

    /// Sends all, and waits until they are taken from the sockets.
    #[track_caller]
    fn send(&self, packets: &[Vec<u8>]) {
        self.receiver.send_all(packets);
        self.receiver.wait_until_read();
    }

    /// What it says of `run` when it has seen so many packets of it: an empty queue may be in work yet.
    #[track_caller]
    fn asked(&self, run: u16, received: u64) -> Report {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = ask(self.receiver.addr, run, PATIENCE);
            let report = report.unwrap_or_else(|error| panic!("{error}"));
            let seen = report.run(run).map_or(0, |run| run.total().received);
            if seen >= received || Instant::now() > deadline {
                assert_eq!(seen, received);
                return report;
            }
        }
    }

    /// Its totals, and what the probe saw.
    #[track_caller]
    fn stop(self) -> (Value, Report) {
        let total = self.receiver.stop("TERM");
        let report = serde_json::from_value(total["probe"].clone());
        let report = report.unwrap_or_else(|error| panic!("{error}: {total}"));
        (total, report)
    }
}

fn configuration(param: &str, value: &str) -> String {
    format!(
        "listen = bin:127.0.0.1:0\nloadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\n\
         modparam(\"binrush\", \"{param}\", {value})\n"
    )
}

/// The packets of a stream in the order in which they are sent.
fn stream(
    run: u16,
    stream: u16,
    packets: u64,
    faults: &Faults,
    packet: impl Fn(u64) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut sent: Vec<(u64, Vec<u8>)> = Vec::new();
    for sequence in (0..packets).filter(|sequence| !faults.lost.contains(sequence)) {
        let mut bytes = stamped(&packet(sequence), &stamp(run, stream, sequence));
        if faults.damaged.contains(&sequence) {
            // In its last field, and so that no checksum tells.
            *bytes.last_mut().expect("it is not empty") ^= 1;
            bytes = sealed(bytes);
        }
        let later = faults.late.iter().find(|(late, _)| *late == sequence);
        // Behind that one: between two of the order.
        let place = 2 * sequence + later.map_or(0, |(_, by)| 2 * by + 1);
        let copies = 1 + usize::from(faults.twice.contains(&sequence));
        sent.extend(std::iter::repeat_n((place, bytes), copies));
    }
    sent.sort_by_key(|(place, _)| *place);
    sent.into_iter().map(|(_, bytes)| bytes).collect()
}

/// Of a packet that is due now, and sent at once.
fn stamp(run: u16, stream: u16, sequence: u64) -> Stamp {
    Stamp {
        run,
        stream,
        sequence,
        intended_ns: monotonic_ns(),
        late_ns: Some(0),
    }
}

/// A contact of `user` that is deleted, with room for a stamp.
fn contact(user: &str) -> Vec<u8> {
    let callid = ".".repeat(STAMP_LEN + 3);
    let fields = ["location", user, "sip:a@192.0.2.1", &callid];
    built(b"ul", 5, &fields, Some(1))
}

/// A dialog that is deleted, whose caller's tag has room for a stamp.
fn dialog_gone(callid: &str) -> Vec<u8> {
    built(
        b"dialog",
        3,
        &[callid, &".".repeat(STAMP_LEN), "to-tag"],
        None,
    )
}

/// A packet that no module of OpenSIPS sends.
fn miss() -> Vec<u8> {
    built(b"binrush-miss", 1, &[&".".repeat(STAMP_LEN)], Some(7))
}

fn built(name: &[u8], command: i32, fields: &[&str], last: Option<i32>) -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut builder =
        Builder::new(Generation::Legacy, &mut buffer, name, command, 0).expect("there is room");
    for field in fields {
        builder.push_str(field.as_bytes()).expect("there is room");
    }
    if let Some(last) = last {
        builder.push_int(last).expect("there is room");
    }
    builder.seal().to_vec()
}

fn stamped(packet: &[u8], stamp: &Stamp) -> Vec<u8> {
    let parsed = Packet::parse(Generation::Legacy, packet).expect("it was just built");
    let at = place(&parsed).expect("it has room").start;
    let mut packet = packet.to_vec();
    seal(&mut packet, at, stamp);
    sealed(packet)
}

/// With the checksum that fits.
fn sealed(mut packet: Vec<u8>) -> Vec<u8> {
    let crc = crc32::checksum(&packet[8..]);
    packet[4..8].copy_from_slice(&crc.to_le_bytes());
    packet
}

/// For an answer that comes within milliseconds where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(20);
