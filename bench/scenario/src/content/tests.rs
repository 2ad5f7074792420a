use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use binrush_wire::{Release, WireError};

use super::*;
use crate::scenario::{Arrivals, Durations, Form, Popularity, Sizes};
use node::{Did, Node, Told};

mod node;
mod steady;

const START_NS: u64 = 5_000_000_000_000;
const RUN: u16 = 0x2B;

const ALONE: Share = Share {
    stream: 0,
    streams: 1,
};

const RELEASES: [Release; 9] = [
    Release::V2_4,
    Release::V3_0,
    Release::V3_1,
    Release::V3_2,
    Release::V3_3,
    Release::V3_4,
    Release::V3_5,
    Release::V3_6,
    Release::V4_0,
];

fn forms() -> impl Iterator<Item = Form> {
    let frames = RELEASES.map(|release| Form::Frames {
        release,
        cluster: 4,
        source: 1,
        destination: 2,
    });
    [Form::Datagrams].into_iter().chain(frames)
}

const fn keys(population: u64) -> Keys {
    Keys {
        population,
        popularity: Popularity::Uniform,
    }
}

fn miss(keys: Keys) -> Kind {
    Kind::Miss {
        name: "binrush-miss".into(),
        keys,
    }
}

const fn contacts(keys: Keys) -> Kind {
    Kind::Contacts {
        keys,
        register: 1.0,
        refresh: 8.0,
        unregister: 1.0,
    }
}

const fn dialogs(updates: f64, duration: Durations) -> Kind {
    Kind::Dialogs { updates, duration }
}

const fn exponential(ms: u64) -> Durations {
    Durations::Exponential {
        mean: Duration::from_millis(ms),
    }
}

/// Parts with equal shares.
fn scenario(form: Form, parts: impl IntoIterator<Item = (Kind, Sizes)>) -> Scenario {
    let mut parts: Vec<Part> = parts
        .into_iter()
        .map(|(kind, sizes)| Part {
            share: 1.0,
            sizes,
            kind,
        })
        .collect();
    let share = 1.0 / parts.len() as f64;
    parts.iter_mut().for_each(|part| part.share = share);
    Scenario {
        name: "test".into(),
        description: "A test".into(),
        form,
        seed: 11,
        parts,
        arrivals: Arrivals::Poisson,
    }
}

fn mixed(form: Form) -> Scenario {
    scenario(
        form,
        [
            (miss(keys(100)), Sizes::Natural),
            (contacts(keys(300)), Sizes::Natural),
            (dialogs(1.5, exponential(20)), Sizes::Natural),
        ],
    )
}

/// A stream of `packets` (all streams together) at 100 000 per second.
fn content(scenario: &Scenario, share: Share, packets: u64) -> Content {
    let duration = Duration::from_micros(packets * 10);
    let schedule = Schedule::new(&scenario.arrivals, 1e5, duration, share, scenario.seed);
    Content::new(scenario, RUN, share, schedule).unwrap()
}

/// All packets, each with its length, written into the same dirty buffer.
fn all(content: &mut Content) -> Vec<Vec<u8>> {
    let mut out = vec![0xEE; 65_535];
    let mut packets = vec![];
    while content.due().is_some() {
        let len = content.write(START_NS, 77, &mut out).unwrap();
        packets.push(out[..len].to_vec());
    }
    packets
}

/// All packets as a node takes them; their numbers and moments are checked.
fn taken(node: &mut Node, content: &mut Content) -> Vec<Told> {
    let mut out = vec![0xEE; 65_535];
    let mut told = vec![];
    while let Some(due_ns) = content.due() {
        let len = content.write(START_NS, 77, &mut out).unwrap();
        let packet = node.take(&out[..len]);
        let late_ns = (packet.did != Did::Deleted).then_some(77);
        let expected = Stamp {
            run: RUN,
            stream: content.stream,
            sequence: told.len() as u64,
            intended_ns: START_NS + due_ns,
            late_ns,
        };
        assert_eq!(packet.stamp, expected);
        told.push(packet);
    }
    told
}

fn counts(told: &[Told]) -> BTreeMap<Did, i64> {
    let mut counts = BTreeMap::new();
    for packet in told {
        *counts.entry(packet.did).or_default() += 1;
    }
    counts
}

#[test]
fn every_packet_of_every_release_is_genuine_consistent_and_stamped_with_its_number() {
    for form in forms() {
        let mut node = Node::new(form);
        let told = taken(&mut node, &mut content(&mixed(form), ALONE, 10_000));
        let counts = counts(&told);
        assert_eq!(counts.len(), 7, "{form:?}: {counts:?}");
        assert_eq!(told.len(), 10_000);
        for name in WORDED.split(' ') {
            assert!(node.worded.contains(name), "{form:?}: {name}");
        }
        let report = node.report();
        let stream = report.runs[0].streams[0];
        assert_eq!(
            (stream.unique, stream.gaps, stream.last),
            (10_000, 0, 9_999)
        );
        assert_eq!((stream.duplicates, stream.reordered), (0, 0));
        assert_eq!((report.damaged, report.foreign, report.beyond), (0, 0, 0));
        for did in [Did::Updated, Did::Deleted, Did::Refreshed, Did::Removed] {
            assert!(counts[&did] > 100, "{form:?}: {counts:?}");
        }
    }
}

/// Every field that has a value worth the name in each release.
const WORDED: &str = "domain aor contact callid user_agent path attr received instance expires q socket cseq methods \
    last_modified caller_tag callee_tag from_uri to_uri h_id start_ts state caller_socket callee_socket caller_cseq \
    callee_cseq caller_route_set caller_contact callee_contact vars profiles flags";

#[test]
fn the_shipped_scenarios_are_made_without_a_hitch() {
    for (name, _) in crate::BUILTIN {
        let scenario = Scenario::find(name).unwrap();
        let told = taken(
            &mut Node::new(scenario.form),
            &mut content(&scenario, ALONE, 5_000),
        );
        assert_eq!(told.len(), 5_000, "{name}");
    }
}

#[test]
fn parts_keep_their_shares_and_their_parts_of_them() {
    let scenario = mixed(Form::Datagrams);
    let told = taken(
        &mut Node::new(scenario.form),
        &mut content(&scenario, ALONE, 60_000),
    );
    // Registering 300 contacts and filling up with calls is over by then.
    let counts = counts(&told[20_000..]);
    let expect = |dids: &[Did], expected: i64| {
        let count: i64 = dids.iter().map(|did| counts[did]).sum();
        // Standard deviations are below 100.
        assert!((count - expected).abs() < 500, "{dids:?} {counts:?}");
    };
    expect(&[Did::Missed], 13_333);
    expect(&[Did::Inserted], 1_333);
    expect(&[Did::Refreshed], 10_667);
    expect(&[Did::Removed], 1_333);
    expect(&[Did::Created], 3_810);
    expect(&[Did::Updated], 5_714);
    expect(&[Did::Deleted], 3_810);
}

/// New calls only would come in waves as long as the duration: creates, then deletes, then creates.
#[test]
fn calls_of_one_duration_come_and_go_evenly_once_as_many_are_up_as_will_be() {
    let duration = Durations::Fixed(Duration::from_millis(100));
    let mut scenario = scenario(Form::Datagrams, [(dialogs(0.0, duration), Sizes::Natural)]);
    scenario.arrivals = Arrivals::Constant;
    let told = taken(
        &mut Node::new(scenario.form),
        &mut content(&scenario, ALONE, 60_000),
    );
    // 100 ms are 10 000 packets: 5 000 calls are up in the long run.
    let (first, rest) = told.split_at(5_000);
    assert_eq!(counts(first), BTreeMap::from([(Did::Created, 5_000)]));
    for (number, piece) in rest.chunks(1_000).enumerate() {
        let created = counts(piece)[&Did::Created];
        assert!((400..600).contains(&created), "{number}: {created}");
    }
}

#[test]
fn a_call_lasts_as_long_as_was_drawn_but_for_the_wait_for_a_free_slot() {
    const LASTING_NS: u64 = 40_000_000;
    let duration = Durations::Fixed(Duration::from_nanos(LASTING_NS));
    let scenario = scenario(Form::Datagrams, [(dialogs(2.0, duration), Sizes::Natural)]);
    let mut node = Node::new(scenario.form);
    let told = taken(&mut node, &mut content(&scenario, ALONE, 60_000));
    // 4 000 packets in that time, of which a call has 4.
    let filled = told.iter().take_while(|packet| packet.did == Did::Created);
    let filled = filled.count() as u64;
    assert!((950..1_050).contains(&filled), "{filled}");
    let filled_ns = told[1_000].stamp.intended_ns;
    let (first, whole): (Vec<&node::Finished>, Vec<_>) = node
        .finished
        .iter()
        .partition(|call| call.created.sequence < filled);
    let updates = |calls: &[&node::Finished]| {
        let sum: u32 = calls.iter().map(|call| call.updates).sum();
        f64::from(sum) / calls.len() as f64
    };

    // Met in the middle of their lives: half of it is left on average, and never more than all.
    let left = first
        .iter()
        .map(|call| call.deleted.intended_ns - filled_ns);
    assert!(
        left.clone()
            .all(|left_ns| left_ns < LASTING_NS + WAIT_MAX_NS)
    );
    let mean = left.sum::<u64>() / first.len() as u64;
    assert!((18_000_000..22_000_000).contains(&mean), "{mean}");
    assert!((0.9..1.1).contains(&updates(&first)), "{}", updates(&first));

    assert!(whole.len() > 10_000);
    for call in &whole {
        let lasted_ns = call.deleted.intended_ns - call.created.intended_ns;
        let wait_ns = lasted_ns.checked_sub(LASTING_NS);
        assert!(
            wait_ns.is_some_and(|wait_ns| wait_ns < WAIT_MAX_NS),
            "{call:?}"
        );
    }
    assert!(
        (1.95..2.05).contains(&updates(&whole)),
        "{}",
        updates(&whole)
    );
}

/// A hundred packets.
const WAIT_MAX_NS: u64 = 1_000_000;

#[test]
fn a_create_foretells_its_delete_and_a_call_without_one_says_so() {
    let scenario = mixed(Form::Datagrams);
    let mut node = Node::new(scenario.form);
    taken(&mut node, &mut content(&scenario, ALONE, 20_000));
    // The model compared the tags; here it is that they were stamps, until the schedule was over.
    assert!(node.finished.len() > 500);
    assert!(!node.calls.is_empty());
    for (callid, call) in &node.calls {
        assert!(!call.caller_tag.starts_with("bR"), "{callid}");
        assert!(call.created.sequence > 0);
    }
}

#[test]
fn calls_longer_than_the_run_are_created_and_outlive_it() {
    let hours = Durations::Fixed(Duration::from_hours(24));
    let scenario = scenario(Form::Datagrams, [(dialogs(0.0, hours), Sizes::Natural)]);
    let told = taken(
        &mut Node::new(scenario.form),
        &mut content(&scenario, ALONE, 5_000),
    );
    assert_eq!(counts(&told), BTreeMap::from([(Did::Created, 5_000)]));
}

#[test]
fn filling_up_takes_at_most_half_of_the_load() {
    let duration = Durations::Fixed(Duration::from_millis(100));
    let scenario = scenario(Form::Datagrams, [(dialogs(0.0, duration), Sizes::Natural)]);
    let told = taken(
        &mut Node::new(scenario.form),
        &mut content(&scenario, ALONE, 5_000),
    );
    let first = told.iter().position(|packet| packet.did == Did::Deleted);
    assert!(
        first.is_some_and(|first| (2_500..2_600).contains(&first)),
        "{first:?}"
    );
}

#[test]
fn sizes_are_exact_where_fields_fit_into_them() {
    let table = Sizes::Table(vec![(400, 1.0), (700, 1.0), (60_000, 0.01)]);
    let uniform = Sizes::Uniform { min: 360, max: 900 };
    for form in forms() {
        for sizes in [Sizes::Fixed(400), table.clone(), uniform.clone()] {
            let fits = |len: usize| match &sizes {
                Sizes::Fixed(fixed) => len == usize::from(*fixed),
                Sizes::Uniform { min, max } => (*min..=*max).contains(&u16::try_from(len).unwrap()),
                Sizes::Table(rows) => rows.iter().any(|(row, _)| usize::from(*row) == len),
                Sizes::Natural => unreachable!("not among them"),
            };
            let parts = [
                miss(keys(10)),
                contacts(keys(10)),
                dialogs(1.0, exponential(5)),
            ];
            let parts = parts.map(|kind| (kind, sizes.clone()));
            let scenario = scenario(form, parts);
            let mut node = Node::new(form);
            let told = taken(&mut node, &mut content(&scenario, ALONE, 3_000));
            let mut lens = BTreeSet::new();
            let mut shorter_by = BTreeSet::new();
            let mut of_call = BTreeMap::new();
            for Told { did, key, len, .. } in &told {
                match did {
                    // As much shorter as its layout is, whatever the size.
                    Did::Deleted => {
                        shorter_by.insert(of_call[key] - len);
                    }
                    Did::Created | Did::Updated => {
                        assert!(fits(*len) || *len < 500, "{form:?} {sizes:?} {did:?} {len}");
                        assert_eq!(*of_call.entry(key).or_insert(*len), *len);
                    }
                    // A table is of inserts and updates.
                    Did::Removed if matches!(sizes, Sizes::Table(_)) => assert!(*len < 330),
                    _ => assert!(fits(*len), "{form:?} {sizes:?} {did:?} {len}"),
                }
                lens.insert(*len);
            }
            assert!(lens.len() > 1);
            // One distance for each style of call.
            assert!((1..=4).contains(&shorter_by.len()), "{shorter_by:?}");
            assert!(
                shorter_by.iter().all(|less| (150..450).contains(less)),
                "{shorter_by:?}"
            );
        }
    }
}

#[test]
fn a_size_below_what_the_fields_need_gives_the_shortest_packets() {
    for form in forms() {
        let parts = [
            (miss(keys(10)), Sizes::Fixed(64)),
            (contacts(keys(10)), Sizes::Fixed(64)),
            (dialogs(1.0, exponential(5)), Sizes::Fixed(64)),
        ];
        let told = taken(
            &mut Node::new(form),
            &mut content(&scenario(form, parts), ALONE, 3_000),
        );
        let mut lens: BTreeMap<Did, BTreeSet<usize>> = BTreeMap::new();
        for Told { did, len, .. } in told {
            lens.entry(did).or_default().insert(len);
        }
        assert_eq!(lens.len(), 7);
        assert!(lens.values().all(|lens| lens.len() == 1), "{lens:?}");
        let longest = |did| *lens[&did].last().unwrap();
        assert!(longest(Did::Missed) < 105, "{lens:?}");
        assert!(longest(Did::Inserted) < 290, "{lens:?}");
        assert!(longest(Did::Created) < 410, "{lens:?}");
    }
}

/// Shortest, median and longest packets that genuine nodes of 1.11 and 3.6 sent. Ours carry a stamp of 41 bytes in a
/// field that has some 15 there, dialogs two of them.
#[test]
fn natural_lengths_are_near_those_of_genuine_nodes() {
    let frames = Form::Frames {
        release: Release::V3_6,
        cluster: 1,
        source: 1,
        destination: 2,
    };
    for (form, captured) in [
        (
            Form::Datagrams,
            [
                (Did::Inserted, (187, 229, 405)),
                (Did::Refreshed, (195, 249, 405)),
                (Did::Removed, (98, 112, 263)),
                (Did::Created, (318, 396, 530)),
                (Did::Updated, (251, 377, 530)),
                (Did::Deleted, (57, 90, 125)),
            ],
        ),
        (
            frames,
            [
                (Did::Inserted, (197, 240, 422)),
                (Did::Refreshed, (205, 261, 422)),
                (Did::Removed, (126, 139, 291)),
                (Did::Created, (331, 403, 530)),
                (Did::Updated, (331, 408, 530)),
                (Did::Deleted, (79, 104, 147)),
            ],
        ),
    ] {
        let told = taken(
            &mut Node::new(form),
            &mut content(&mixed(form), ALONE, 20_000),
        );
        for (did, (shortest, median, longest)) in captured {
            let mut lens: Vec<usize> = told
                .iter()
                .filter(|packet| packet.did == did)
                .map(|packet| packet.len)
                .collect();
            lens.sort_unstable();
            let (first, middle, last) = (lens[0], lens[lens.len() / 2], lens[lens.len() - 1]);
            assert!(
                first >= shortest && last <= longest + 60,
                "{form:?} {did:?}: {first} {middle} {last}"
            );
            assert!(
                middle.abs_diff(median) < 80,
                "{form:?} {did:?}: {first} {middle} {last}"
            );
        }
    }
}

#[test]
fn a_seed_gives_the_same_bytes_and_another_one_others() {
    for form in forms() {
        let mut scenario = mixed(form);
        let packets = all(&mut content(&scenario, ALONE, 3_000));
        assert_eq!(packets, all(&mut content(&scenario, ALONE, 3_000)));
        scenario.seed += 1;
        assert_ne!(packets, all(&mut content(&scenario, ALONE, 3_000)));
    }
}

#[test]
fn a_skipped_packet_changes_no_byte_of_those_after_it() {
    let scenario = mixed(Form::Datagrams);
    let whole = all(&mut content(&scenario, ALONE, 6_000));
    let mut content = content(&scenario, ALONE, 6_000);
    let mut out = vec![0; 65_535];
    for (number, packet) in whole.iter().enumerate() {
        if number % 3 == 0 || (2_000..2_500).contains(&number) {
            content.skip();
        } else {
            let len = content.write(START_NS, 77, &mut out).unwrap();
            assert_eq!(out[..len], **packet, "{number}");
        }
    }
    assert_eq!(content.due(), None);
}

#[test]
fn a_buffer_that_is_too_short_costs_one_packet() {
    let scenario = mixed(Form::Datagrams);
    let whole = all(&mut content(&scenario, ALONE, 500));
    let mut content = content(&scenario, ALONE, 500);
    let mut out = vec![0; 65_535];
    for (number, packet) in whole.iter().enumerate() {
        if number % 2 == 0 {
            let error = content.write(START_NS, 77, &mut out[..packet.len() - 1]);
            assert!(
                matches!(error, Err(ContentError::Wire(WireError { .. }))),
                "{error:?}"
            );
        } else {
            let len = content.write(START_NS, 77, &mut out).unwrap();
            assert_eq!(out[..len], **packet, "{number}");
        }
    }
    let error = content.write(START_NS, 77, &mut out);
    assert_eq!(error, Err(ContentError::Ended));
    content.skip();
    assert_eq!(content.due(), None);
}

#[test]
fn popularity_reaches_the_records() {
    let zipf = Keys {
        population: 1_000,
        popularity: Popularity::Zipf { exponent: 1.0 },
    };
    let harmonic: f64 = (1..=1_000).map(|rank| 1.0 / f64::from(rank)).sum();
    for kind in [miss(zipf), contacts(zipf)] {
        let scenario = scenario(Form::Datagrams, [(kind, Sizes::Natural)]);
        let told = taken(
            &mut Node::new(scenario.form),
            &mut content(&scenario, ALONE, 50_000),
        );
        let mut by_key: BTreeMap<&str, i32> = BTreeMap::new();
        for packet in &told {
            *by_key.entry(&packet.key).or_default() += 1;
        }
        let mut falling: Vec<i32> = by_key.into_values().collect();
        falling.sort_unstable_by_key(|count| -count);
        for rank in [1, 2, 10] {
            let expected = 50_000.0 / harmonic / f64::from(rank);
            let ratio = f64::from(falling[rank as usize - 1]) / expected;
            assert!((0.85..1.15).contains(&ratio), "{rank}: {ratio}");
        }
    }
}

#[test]
fn streams_and_runs_share_no_record_and_a_population_is_that_of_all_streams() {
    let scenario = mixed(Form::Datagrams);
    let mut seen = BTreeSet::new();
    let mut contacts = 0;
    for (run, stream) in [(1, 0), (1, 1), (1, 2), (0x11, 0)] {
        let share = Share { stream, streams: 3 };
        let duration = Duration::from_millis(300);
        let schedule = Schedule::new(&scenario.arrivals, 1e5, duration, share, 1);
        let mut content = Content::new(&scenario, run, share, schedule).unwrap();
        let mut node = Node::new(scenario.form);
        let mut own = BTreeSet::new();
        for packet in all(&mut content) {
            let told = node.take(&packet);
            assert_eq!((told.stamp.run, told.stamp.stream), (run, stream));
            if told.did != Did::Missed && own.insert(told.key.clone()) {
                contacts += u32::from(run == 1 && told.did <= Did::Removed);
                assert!(seen.insert(told.key.clone()), "{}", told.key);
            }
        }
    }
    assert_eq!(contacts, 300);
}

#[test]
fn more_streams_than_records_still_have_one_each() {
    for stream in 0..4 {
        let share = Share { stream, streams: 4 };
        assert_eq!(of_stream(&keys(2), share).population, 1);
        assert_eq!(
            of_stream(&keys(7), share).population,
            if stream < 3 { 2 } else { 1 }
        );
    }
}

#[test]
fn a_weight_of_0_is_never() {
    for (refresh, unregister, kinds) in [(0.0, 0.0, 1), (1.0, 0.0, 2), (0.0, 1.0, 2), (1.0, 1.0, 3)]
    {
        let kind = Kind::Contacts {
            keys: keys(10),
            register: 1.0,
            refresh,
            unregister,
        };
        let scenario = scenario(Form::Datagrams, [(kind, Sizes::Natural)]);
        let told = taken(
            &mut Node::new(scenario.form),
            &mut content(&scenario, ALONE, 1_000),
        );
        let counts = counts(&told);
        assert_eq!(counts.len(), kinds, "{counts:?}");
        assert_eq!(counts.contains_key(&Did::Removed), unregister > 0.0);
    }
}

#[test]
fn contacts_come_in_the_proportions_of_their_weights_whatever_their_popularity() {
    let zipf = Popularity::Zipf { exponent: 1.0 };
    for popularity in [Popularity::Uniform, zipf] {
        for (register, refresh, unregister) in [
            (1.0, 8.0, 1.0),
            (3.0, 6.0, 1.0),
            (5.0, 4.0, 1.0),
            (4.0, 6.0, 0.0),
        ] {
            let kind = Kind::Contacts {
                keys: Keys {
                    population: 500,
                    popularity,
                },
                register,
                refresh,
                unregister,
            };
            let scenario = scenario(Form::Datagrams, [(kind, Sizes::Natural)]);
            let mut node = Node::new(scenario.form);
            let told = taken(&mut node, &mut content(&scenario, ALONE, 60_000));
            // By then all but the rarest are registered.
            let counts = counts(&told[20_000..]);
            for (did, weight) in [
                (Did::Inserted, register),
                (Did::Refreshed, refresh),
                (Did::Removed, unregister),
            ] {
                let count = counts.get(&did).copied().unwrap_or(0);
                let expected = 4_000.0 * weight;
                // Standard deviations are below 100.
                assert!((count as f64 - expected).abs() < 400.0, "{counts:?}");
            }
            assert_eq!(node.reinserted > 0, register > unregister);
        }
    }
}

/// All that a create would have said is in what follows it: the same words and ends.
#[test]
fn tags_do_not_depend_on_which_packet_of_a_call_is_written_first() {
    let kind = dialogs(2.0, exponential(20));
    let scenario = scenario(Form::Datagrams, [(kind, Sizes::Natural)]);
    let whole = all(&mut content(&scenario, ALONE, 3_000));
    let mut content = content(&scenario, ALONE, 3_000);
    let mut out = vec![0; 65_535];
    let mut updates_alone = 0;
    for (number, packet) in whole.iter().enumerate() {
        let packet = binrush_wire::Packet::parse(binrush_wire::Generation::Legacy, packet).unwrap();
        if packet.command() == 1 {
            content.skip();
            continue;
        }
        updates_alone += 1;
        // With another start in between, all tags are others, and come back.
        let start_ns = if number % 100 == 0 { 1 } else { START_NS };
        let len = content.write(start_ns, 77, &mut out).unwrap();
        assert_eq!(
            out[..len] == *packet.bytes(),
            start_ns == START_NS,
            "{number}"
        );
    }
    assert!(updates_alone > 1_000);
}

#[test]
fn a_scenario_out_of_its_limits_is_refused() {
    let mut broken = mixed(Form::Datagrams);
    broken.parts[0].share = 0.9;
    let schedule = Schedule::new(&broken.arrivals, 1e3, Duration::from_secs(1), ALONE, 1);
    let error = Content::new(&broken, RUN, ALONE, schedule).unwrap_err();
    assert!(
        error.to_string().contains("the sum of all shares"),
        "{error}"
    );
}

#[test]
fn two_parts_of_one_kind_have_records_of_their_own() {
    let parts = [
        (contacts(keys(20)), Sizes::Natural),
        (contacts(keys(30)), Sizes::Natural),
        (dialogs(1.0, exponential(5)), Sizes::Natural),
        (dialogs(0.0, exponential(9)), Sizes::Natural),
    ];
    let scenario = scenario(Form::Datagrams, parts);
    let mut node = Node::new(scenario.form);
    let told = taken(&mut node, &mut content(&scenario, ALONE, 10_000));
    let aors: BTreeSet<&str> = told
        .iter()
        .filter(|packet| packet.did <= Did::Removed)
        .map(|packet| packet.key.as_str())
        .collect();
    assert_eq!(aors.len(), 50);
}
