use std::net::SocketAddr;
use std::time::Duration;

use binrush_capture::{Transport, Writer};
use binrush_wire::{Builder, Generation, Trailer};

use super::*;
use crate::content::Content;
use crate::sample::draws;
use crate::scenario::{Arrivals, Durations, Keys, Kind, Part, Popularity, Sizes};
use crate::schedule::Schedule;
use crate::source::{Share, Source as _};

const V1_11: &[u8] = include_bytes!("../../../../tests/captures/opensips-1.11.pcap");
const V2_4: &[u8] = include_bytes!("../../../../tests/captures/opensips-2.4.pcap.gz");
const V3_6: &[u8] = include_bytes!("../../../../tests/captures/opensips-3.6.pcap.gz");

/// Learned, and read back from the file that it makes.
fn learned(capture: &[u8]) -> Learned {
    let learned = learn(capture, "a capture").unwrap();
    let text = learned.to_toml();
    let read = Scenario::parse(&text, "learned.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, learned.scenario);
    learned
}

fn part(learned: &Learned, kind: impl Fn(&Kind) -> bool) -> &Part {
    let mut parts = learned.scenario.parts.iter();
    parts
        .find(|part| kind(&part.kind))
        .expect("it has such a part")
}

fn is_said(learned: &Learned, words: &str) -> bool {
    learned
        .comments
        .iter()
        .any(|comment| comment.contains(words))
}

#[test]
fn the_mix_of_a_1_11_node_is_that_of_its_packets() {
    let learned = learned(V1_11);
    assert_eq!(learned.scenario.form, Form::Datagrams);
    assert!(
        is_said(&learned, "Dialogs: 299 created, 750 updated, 240 deleted"),
        "{:#?}",
        learned.comments
    );
    let dialogs = part(&learned, |kind| matches!(kind, Kind::Dialogs { .. }));
    let Kind::Dialogs { updates, duration } = &dialogs.kind else {
        unreachable!()
    };
    assert_eq!(*updates, (750.0_f64 / 299.0 * 1000.0).round() / 1000.0);
    assert!(duration.sampler().is_ok());
    let contacts = part(&learned, |kind| matches!(kind, Kind::Contacts { .. }));
    let used = dialogs.share + contacts.share;
    assert!((used - 1.0).abs() < 1e-9, "{used}");
    assert!((dialogs.share * learned_packets(&learned) - 1289.0).abs() < 1.0);
    let Sizes::Table(rows) = &dialogs.sizes else {
        panic!("{:?}", dialogs.sizes)
    };
    assert!(rows.len() <= 32);
    assert!(matches!(learned.scenario.arrivals, Arrivals::Captured(_)));
    assert_eq!(learned.problem_count, 0);
}

/// As the description says it.
fn learned_packets(learned: &Learned) -> f64 {
    let (_, after) = learned.scenario.description.split_once(": ").unwrap();
    after.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn streams_of_a_cluster_are_told_apart_by_the_ids_in_the_packets() {
    for (capture, release) in [(V2_4, Release::V2_4), (V3_6, Release::V3_6)] {
        let learned = learned(capture);
        let Form::Frames {
            release: found,
            source,
            destination,
            cluster,
        } = learned.scenario.form
        else {
            panic!("{:?}", learned.scenario.form);
        };
        assert_eq!(found, release);
        assert!(cluster > 0 && source != destination);
        assert!(is_said(
            &learned,
            &format!("from node {source} to node {destination}")
        ));
        // What clusterer tells is no part of a load, and is said to be left out.
        assert!(is_said(&learned, "Left out"), "{:#?}", learned.comments);
        part(&learned, |kind| matches!(kind, Kind::Dialogs { .. }));
        part(&learned, |kind| matches!(kind, Kind::Contacts { .. }));
    }
}

/// Packets with their times, in ns.
#[derive(Default)]
struct Traffic(Vec<(u64, Vec<u8>)>);

impl Traffic {
    fn push(&mut self, ns: u64, packet: Vec<u8>) {
        self.0.push((ns, packet));
    }

    fn capture(mut self, transport: Transport) -> Vec<u8> {
        self.0.sort_by_key(|(ns, _)| *ns);
        let node = |number| SocketAddr::from(([10, 0, 0, number], 5566));
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (ns, packet) in &self.0 {
            let time = Timestamp::from_nanos(*ns);
            writer
                .write(time, node(1), node(2), transport, packet)
                .unwrap();
        }
        writer.finish().unwrap()
    }
}

fn legacy(name: &str, command: i32, strings: &[&str], rest: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 2000];
    let mut builder =
        Builder::new(Generation::Legacy, &mut buffer, name.as_bytes(), command, 0).unwrap();
    for string in strings {
        builder.push_str(string.as_bytes()).unwrap();
    }
    builder.append(rest).unwrap();
    builder.seal().to_vec()
}

/// The fields of a 1.x dialog behind its Call-ID, all of them empty or 0.
fn dialog_fields() -> Vec<u8> {
    // Four strings, three ints, ten strings, two strings, one int, four ints.
    vec![0; 4 * 24]
}

#[test]
fn a_dialog_made_by_the_builder_is_one_to_the_schema() {
    let packet = legacy("dialog", 1, &["callid"], &dialog_fields());
    let packet = binrush_wire::Packet::parse(Generation::Legacy, &packet).unwrap();
    assert_eq!(
        binrush_wire::schema::identify(&packet).unwrap().name,
        "CREATED"
    );
}

#[test]
fn a_known_load_comes_back_as_it_was() {
    let law = Durations::LogNormal {
        median: Duration::from_secs(20),
        sigma: 1.0,
    };
    let durations = law.sampler().unwrap();
    let keys = Keys {
        population: 300,
        popularity: Popularity::Zipf { exponent: 1.0 },
    };
    let records = keys.sampler().unwrap();
    let mut rng = draws(11, 0, 0);
    let mut traffic = Traffic::default();
    for call in 0..2000_u64 {
        let begin = call * 1_000_000;
        let end = begin + durations.sample(&mut rng);
        let id = format!("call-{call}");
        traffic.push(begin, legacy("dialog", 1, &[&id], &dialog_fields()));
        for update in 1..=3 {
            traffic.push(
                begin + (end - begin) / 4 * update,
                legacy("dialog", 2, &[&id], &dialog_fields()),
            );
        }
        traffic.push(end, legacy("dialog", 3, &[&id, "a", "b"], b""));
    }
    for packet in 0..6000_u64 {
        let contact = format!("user-{}", records.sample(&mut rng));
        // Of ten, one ends a registration.
        let fields = ["location", &contact, "sip:1", "callid"];
        traffic.push(packet * 300_000, legacy("ul", 5, &fields, &[0; 4]));
    }
    for packet in 0..1000_u64 {
        let key = format!("key-{}", packet % 50);
        traffic.push(packet * 900_000, legacy("mine", 1, &[&key], &[0; 300]));
    }
    let learned = learned(&traffic.capture(Transport::Udp));

    let dialogs = part(&learned, |kind| matches!(kind, Kind::Dialogs { .. }));
    assert!((dialogs.share - 10_000.0 / 17_000.0).abs() < 1e-5);
    let Kind::Dialogs { updates, duration } = &dialogs.kind else {
        unreachable!()
    };
    assert_eq!(*updates, 3.0);
    let Durations::LogNormal { median, sigma } = duration else {
        panic!("{duration:?}")
    };
    assert!(
        (0.9..1.1).contains(&(median.as_secs_f64() / 20.0)),
        "{median:?}"
    );
    assert!((0.9..1.1).contains(sigma), "{sigma}");

    let contacts = part(&learned, |kind| matches!(kind, Kind::Contacts { .. }));
    assert!((contacts.share - 6000.0 / 17_000.0).abs() < 1e-5);
    let Kind::Contacts {
        keys,
        register,
        refresh,
        unregister,
    } = &contacts.kind
    else {
        unreachable!()
    };
    // Only deletes were seen; of a load that goes on for ever as many must be inserts.
    assert_eq!((*register, *refresh, *unregister), (100.0, 0.0, 100.0));
    assert!(is_said(&learned, "6000 packets more are inserts"));
    assert_eq!(contacts.sizes, Sizes::Natural);
    assert!((280..=300).contains(&keys.population), "{keys:?}");
    let Popularity::Zipf { exponent } = keys.popularity else {
        panic!("{keys:?}")
    };
    assert!((0.9..1.1).contains(&exponent), "{exponent}");

    let miss = part(&learned, |kind| matches!(kind, Kind::Miss { .. }));
    let Kind::Miss { name, keys } = &miss.kind else {
        unreachable!()
    };
    assert_eq!((name.as_str(), keys.population), ("mine", 50));
    assert_eq!(keys.popularity, Popularity::Uniform);
    // Header, name, command, key, 300 bytes.
    let Sizes::Table(rows) = &miss.sizes else {
        panic!("{:?}", miss.sizes)
    };
    assert_eq!(
        rows.iter().map(|(len, _)| *len).collect::<Vec<_>>(),
        [329, 330]
    );
}

/// A minute of what a load sends, as a capture.
fn sent(scenario: &Scenario, rate_pps: f64) -> Vec<u8> {
    let whole = Share {
        stream: 0,
        streams: 1,
    };
    let minute = Duration::from_secs(60);
    let schedule = Schedule::new(&scenario.arrivals, rate_pps, minute, whole, scenario.seed);
    let mut content = Content::new(scenario, 1, whole, schedule).unwrap();
    let mut traffic = Traffic::default();
    let mut out = vec![0; 65_535];
    while let Some(due) = content.due() {
        let len = content.write(0, 0, &mut out).unwrap();
        traffic.push(due, out[..len].to_vec());
    }
    traffic.capture(match scenario.form {
        Form::Datagrams => Transport::Udp,
        Form::Frames { .. } => Transport::Tcp,
    })
}

#[test]
fn what_a_scenario_sends_teaches_that_scenario() {
    for name in ["mixed", "mixed-tcp"] {
        let mut scenario = Scenario::find(name).unwrap();
        for part in &mut scenario.parts {
            match &mut part.kind {
                Kind::Contacts { keys, .. } => keys.population = 300,
                Kind::Miss { keys, .. } => keys.population = 20,
                Kind::Dialogs { .. } => {}
            }
        }
        let learned = learned(&sent(&scenario, 1000.0));
        assert_eq!(learned.scenario.form, scenario.form, "{name}");
        let rate = learned.rate_pps.expect("it has times");
        assert!((rate / 1000.0 - 1.0).abs() < 0.02, "{name}: {rate}");
        assert!(!is_said(&learned, "Left out"), "{:#?}", learned.comments);
        for part in &scenario.parts {
            let same =
                |kind: &Kind| std::mem::discriminant(kind) == std::mem::discriminant(&part.kind);
            let found = self::part(&learned, same);
            assert!((found.share - part.share).abs() < 0.01, "{name}: {found:?}");
            assert_alike(&found.kind, &part.kind);
        }
    }
}

/// As far as a minute can tell.
#[track_caller]
fn assert_alike(found: &Kind, kind: &Kind) {
    match (found, kind) {
        (
            Kind::Contacts {
                keys,
                register,
                refresh,
                unregister,
            },
            Kind::Contacts {
                keys: sent,
                refresh: sent_refresh,
                unregister: sent_unregister,
                ..
            },
        ) => {
            assert_alike_keys(keys, sent);
            // Of those that are there, so many are refreshed for one that goes; and who went comes back.
            let ratio = (refresh / unregister) / (sent_refresh / sent_unregister);
            assert!((0.9..1.1).contains(&ratio), "{found:?}");
            assert!((0.9..1.3).contains(&(register / unregister)), "{found:?}");
        }
        (
            Kind::Dialogs { updates, duration },
            Kind::Dialogs {
                updates: sent_updates,
                duration: sent,
            },
        ) => {
            // Of a call whose end the minute did not see, the last updates are missing, and the duration: long ones first.
            assert!((updates / sent_updates - 1.0).abs() < 0.1, "{found:?}");
            let (
                Durations::LogNormal { median, sigma },
                Durations::LogNormal {
                    median: sent_median,
                    sigma: sent_sigma,
                },
            ) = (duration, sent)
            else {
                panic!("{found:?}");
            };
            let off = median.as_secs_f64() / sent_median.as_secs_f64();
            assert!((0.9..1.05).contains(&off), "{found:?}");
            assert!((sigma - sent_sigma).abs() < 0.1, "{found:?}");
        }
        (
            Kind::Miss { name, keys },
            Kind::Miss {
                name: sent_name,
                keys: sent,
            },
        ) => {
            assert_eq!(name, sent_name);
            assert_alike_keys(keys, sent);
        }
        _ => panic!("{found:?}"),
    }
}

#[track_caller]
fn assert_alike_keys(found: &Keys, sent: &Keys) {
    assert_eq!(found.population, sent.population);
    match (found.popularity, sent.popularity) {
        (Popularity::Zipf { exponent }, Popularity::Zipf { exponent: sent }) => {
            assert!((exponent - sent).abs() < 0.1, "{found:?}");
        }
        (found, sent) => assert_eq!(found, sent),
    }
}

/// Mean length of packets of one kind in a capture, dialogs and contacts, all but deletes and deletes.
fn means(capture: &[u8], taken: impl Fn(&binrush_wire::Packet<'_>) -> bool) -> [[f64; 2]; 2] {
    let mut sums = [[(0.0, 0.0); 2]; 2];
    let mut capture = Capture::new(capture, Options::default()).unwrap();
    while let Some(event) = capture.next() {
        let Event::Frame(frame) = event else { continue };
        let packet = binrush_wire::Packet::parse(frame.generation, frame.bytes).unwrap();
        let Ok(message) = binrush_wire::schema::identify(&packet) else {
            continue;
        };
        let (kind, what) = match message.name {
            "CREATED" | "UPDATED" => (0, 0),
            "DELETED" => (0, 1),
            "CONTACT_INSERT" | "CONTACT_UPDATE" => (1, 0),
            "CONTACT_DELETE" => (1, 1),
            _ => continue,
        };
        if taken(&packet) {
            sums[kind][what].0 += packet.bytes().len() as f64;
            sums[kind][what].1 += 1.0;
        }
    }
    sums.map(|kind| kind.map(|(sum, count)| sum / count))
}

#[test]
fn packets_of_a_learned_load_are_as_long_as_those_of_the_capture() {
    for capture in [V1_11, V2_4, V3_6] {
        let learned = learned(capture);
        let way = match learned.scenario.form {
            Form::Datagrams => None,
            Form::Frames {
                cluster,
                source,
                destination,
                ..
            } => Some((cluster, source, destination)),
        };
        let genuine = means(capture, |packet| {
            let message = binrush_wire::schema::identify(packet).unwrap();
            let trailer = message.walk(packet, |_| {}).ok().flatten();
            way.is_none() || trailer.map(|t| (t.cluster, t.source, t.dest)) == way
        });
        let made = means(&sent(&learned.scenario, 1000.0), |_| true);
        for (genuine, made) in genuine.iter().zip(made) {
            let ([others, deletes], [made_others, made_deletes]) = (genuine, made);
            // The shortest of them have no room for a stamp.
            let ratio = made_others / others;
            assert!((0.99..1.08).contains(&ratio), "{genuine:?} {made:?}");
            // A stamp of 41 bytes instead of a tag or a Call-ID of 15, and the padding of a callee tag.
            let longer = made_deletes - deletes;
            assert!((0.0..70.0).contains(&longer), "{genuine:?} {made:?}");
        }
    }
}

#[test]
fn the_last_bytes_of_a_packet_without_trailer_are_no_ids() {
    // Read as three ints, these are a huge number, 0, and a negative one.
    let tails: [[i32; 3]; 4] = [[1 << 16, 1, 2], [1, 0, 2], [1, 2, -1], [0, 1, 2]];
    for tail in tails {
        let mut traffic = Traffic::default();
        for number in 0..30_u64 {
            let mut buffer = [0; 200];
            let mut builder = Builder::new(Generation::Modern, &mut buffer, b"mine", 1, 1).unwrap();
            builder.push_str(b"key").unwrap();
            for id in tail {
                builder.push_int(id).unwrap();
            }
            traffic.push(number * 1_000_000, builder.seal().to_vec());
        }
        let learned = learned(&traffic.capture(Transport::Tcp));
        assert!(is_said(&learned, "are made up"), "{:#?}", learned.comments);
    }
}

#[test]
fn calls_that_are_up_at_the_end_are_warned_of() {
    for (up, is_warned) in [(9, false), (11, true)] {
        let mut traffic = Traffic::default();
        for call in 0..100_u64 {
            let id = format!("call-{call}");
            let begin = call * 1_000_000;
            traffic.push(begin, legacy("dialog", 1, &[&id], &dialog_fields()));
            if call >= up {
                let end = begin + 1_000_000_000;
                traffic.push(end, legacy("dialog", 3, &[&id, "a", "b"], b""));
            }
        }
        let learned = learned(&traffic.capture(Transport::Udp));
        let words = "WARNING: of 100 calls that were created 11 were still up";
        assert_eq!(is_said(&learned, words), is_warned);
    }
}

#[test]
fn the_ids_of_the_busiest_way_are_taken_and_the_rest_is_counted() {
    let mut traffic = Traffic::default();
    for number in 0..30_u64 {
        let destination = if number % 3 == 0 { 7 } else { 5 };
        let mut buffer = [0; 200];
        let mut builder =
            Builder::new(Generation::Modern, &mut buffer, b"dialog-dlg-repl", 3, 4).unwrap();
        for field in ["callid", "a", "b"] {
            builder.push_str(field.as_bytes()).unwrap();
        }
        builder.push_int(0).unwrap();
        builder
            .push_trailer(Trailer::new(9, 3, destination))
            .unwrap();
        traffic.push(number * 1_000_000, builder.seal().to_vec());
    }
    let learned = learned(&traffic.capture(Transport::Tcp));
    let form = Form::Frames {
        release: Release::V3_1,
        cluster: 9,
        source: 3,
        destination: 5,
    };
    assert_eq!(learned.scenario.form, form);
    assert!(
        is_said(&learned, "10 of such kinds that went other ways"),
        "{:#?}",
        learned.comments
    );
    assert!(is_said(&learned, "3.1 to 4.0"), "{:#?}", learned.comments);
    // Deletes alone: how long the calls were is a guess, and is called one.
    assert!(is_said(&learned, "is a guess"));
}

#[test]
fn of_a_capture_that_was_cut_off_what_was_read_is_used_and_it_is_said() {
    let learned = learned(&V1_11[..V1_11.len() / 2]);
    assert_eq!((learned.problems.len(), learned.problem_count), (1, 1));
    assert!(is_said(&learned, "WARNING"));
    let packets = learned_packets(&learned);
    assert!((1000.0..1100.0).contains(&packets), "{packets}");
    assert!(learned.to_toml().contains("# WARNING"));
}

#[test]
fn a_capture_with_nothing_to_learn_from_is_refused() {
    assert!(matches!(learn(&b""[..], "x"), Err(LearnError::Open(_))));
    assert!(matches!(
        learn(&b"no capture at all"[..], "x"),
        Err(LearnError::Open(_))
    ));
    let nothing = learn(&V1_11[..24], "x");
    assert!(matches!(
        nothing,
        Err(LearnError::Nothing {
            records: 0,
            frames: 0
        })
    ));
    // An AoR alone is no registration.
    let mut traffic = Traffic::default();
    traffic.push(0, legacy("ul", 1, &["location", "alice"], b""));
    let nothing = learn(&traffic.capture(Transport::Udp)[..], "x");
    assert!(matches!(
        nothing,
        Err(LearnError::Nothing { frames: 1, .. })
    ));
}

#[test]
fn names_from_outside_stay_within_their_comment() {
    let mut traffic = Traffic::default();
    traffic.push(0, legacy("mine", 1, &["key"], &[0; 50]));
    traffic.push(5, legacy("a\nb = 1", 1, &["key"], &[0; 50]));
    let learned = learn(&traffic.capture(Transport::Udp)[..], "evil\n[miss]\u{1b}").unwrap();
    assert_eq!(learned.scenario.name, "evil[miss]");
    assert!(
        is_said(&learned, r"a\nb = 1 1: 1 packets"),
        "{:#?}",
        learned.comments
    );
    assert!(Scenario::parse(&learned.to_toml(), "x").is_ok());
}
