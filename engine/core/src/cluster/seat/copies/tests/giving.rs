//! The syncs that we give.

use super::*;

/// What ends them.
mod ends;

/// Stands in for the gates: each shard has records of these lengths, and gives as many of them as were asked for.
struct Shelf {
    shards: Vec<Vec<usize>>,
    data_version: Option<i32>,
    /// What each slice says that it left out.
    left_out: u64,
    /// Likewise what it kept back.
    withheld: Withheld,
}

impl Shelf {
    fn new(shards: &[&[usize]]) -> Self {
        Self {
            shards: shards.iter().map(|lengths| lengths.to_vec()).collect(),
            data_version: Some(4),
            left_out: 0,
            withheld: Withheld::default(),
        }
    }

    /// What the gate of `shard` answers. The cursor is the number of the next record.
    fn slice(&self, shard: u16, request: &SliceRequest) -> Slice {
        let records = &self.shards[usize::from(shard)];
        let first = usize::try_from(request.from.0).expect("a number of a record");
        let mut slice = Slice {
            cluster: request.cluster,
            donation: request.donation,
            shard,
            chunks: Vec::new(),
            ends: Vec::new(),
            data_version: self.data_version,
            left_out: self.left_out,
            withheld: self.withheld.clone(),
            next: None,
        };
        for (number, len) in (0_u64..).zip(records).skip(first) {
            if slice.chunks.len() >= request.bytes {
                slice.next = Some(Cursor(number));
                break;
            }
            // Each record says whose it is, so that none can stand for another one.
            let mut data = vec![u8::try_from(shard).expect("few shards"); *len];
            data[..8].copy_from_slice(&number.to_le_bytes());
            slice.chunks.extend_from_slice(&chunk(&data));
            slice
                .ends
                .push(u32::try_from(slice.chunks.len()).expect("short"));
        }
        slice
    }
}

/// Our dialogs are verified, from node 2, and 10 s have passed. Node 3, of that release, is up.
fn donor(release: Release) -> Stage {
    donor_with(release, |_| ())
}

fn donor_with(release: Release, change: impl FnOnce(&mut ClusterConfig)) -> Stage {
    let mut stage = Stage::with(&[(DIALOGS, true)], 2, change);
    stage.up(2, Release::V3_6, true);
    stage.up(3, release, false);
    stage.synced_from(2, 1);
    stage.pass_ms(10_000);
    stage.world.sent.clear();
    stage.world.events.clear();
    stage
}

impl Stage {
    fn asks(&mut self, node: i32) {
        self.notice(Notice::SyncRequest {
            node,
            capability: DIALOGS.to_owned(),
        });
    }

    /// The gates answer what they were asked, oldest first, at most so many times; links send everything at once.
    fn serve(&mut self, shelf: &Shelf, answers: usize) {
        for _ in 0..answers {
            self.world.waiting.clear();
            let Some((name, shard, request)) = self.world.slices.pop_front() else {
                return self.run();
            };
            assert_eq!(name, DIALOGS);
            let slice = shelf.slice(shard, &request);
            self.call(|copies, now, view, out| copies.slice(now, slice, view, out));
            self.run();
        }
    }

    /// Records that `node` was sent, and the ends that it was told.
    fn given(&self, node: i32) -> (Vec<Vec<u8>>, Vec<Option<u32>>) {
        let (mut records, mut ends) = (Vec::new(), Vec::new());
        for packed in self.world.sent.iter().filter(|packed| packed.to == node) {
            assert_eq!(packed.lane, Lane::Bulk, "order is kept within a lane only");
            match &packed.body {
                Said::Records(name, version, chunks) => {
                    assert!(ends.is_empty(), "nothing comes behind the end");
                    assert_eq!((name.as_str(), *version), (DIALOGS, 4));
                    records.extend(chunks.iter().cloned());
                }
                Said::End(_, total) => ends.push(*total),
                Said::Request(_) => {}
            }
        }
        (records, ends)
    }

    /// Whether donations ended well, and chunks in them.
    fn donated(&self) -> Vec<(i32, u64, bool)> {
        let events = self.world.events.iter();
        events
            .filter_map(|event| match event {
                Event::Donated {
                    node,
                    chunks,
                    complete,
                    ..
                } => Some((*node, *chunks, *complete)),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn whoever_asks_gets_every_record_once_and_the_count_behind_them() {
    for (release, version, total) in [
        (Release::V2_4, 2, None),
        (Release::V3_2, 2, None),
        (Release::V3_3, 3, Some(1100)),
        (Release::V4_0, 3, Some(1100)),
    ] {
        let shelf = Shelf::new(&[&[350; 700], &[350; 400]]);
        let mut stage = donor(release);
        stage.asks(3);
        stage.serve(&shelf, 100);
        let (records, ends) = stage.given(3);
        let distinct: BTreeSet<_> = records.iter().collect();
        assert_eq!((records.len(), distinct.len()), (1100, 1100), "{release}");
        assert_eq!(ends, [total]);
        let packets = stage.world.sent.iter();
        assert!(packets.clone().all(|packed| packed.version == version));
        assert!(packets.clone().all(|packed| packed.len <= 32_768));
        // 91 chunks of 358 bytes fit; all packets but the last are full.
        assert_eq!(packets.count(), 1100_usize.div_ceil(91) + 1);
        assert_eq!(stage.donated(), [(3, 1100, true)]);
        let facts = stage.facts();
        assert_eq!((facts.donated, facts.donated_chunks), (1, 1100));
        assert!(facts.donations.is_empty() && facts.requests_waiting.is_empty());
    }
}

#[test]
fn a_long_record_goes_alone_and_one_that_fits_nowhere_ends_the_donation_without_an_end() {
    let longest = binrush_wire::MAX_PACKET_LEN_4_0 - Writer::sync_overhead(DIALOGS.as_bytes()) - 8;
    let shelf = Shelf::new(&[&[100, longest, 100], &[]]);
    let mut stage = donor(Release::V4_0);
    stage.asks(3);
    stage.serve(&shelf, 10);
    let lengths: Vec<_> = stage.world.sent.iter().map(|packed| packed.len).collect();
    assert_eq!(lengths.len(), 4);
    assert_eq!(lengths[1], binrush_wire::MAX_PACKET_LEN_4_0);
    assert_eq!(stage.donated(), [(3, 3, true)]);

    let shelf = Shelf::new(&[&[100, longest + 1, 100], &[]]);
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.serve(&shelf, 10);
    assert_eq!(
        stage.given(3).1,
        [],
        "who is told of no end deletes nothing"
    );
    assert_eq!(stage.donated(), [(3, 0, false)]);
    let warnings = stage.world.warnings();
    assert!(warnings[0].contains("fits into no packet"), "{warnings:?}");
}

#[test]
fn a_packet_is_as_long_as_the_configuration_says() {
    let shelf = Shelf::new(&[&[92; 20], &[]]);
    let overhead = Writer::sync_overhead(DIALOGS.as_bytes());
    for (packet_len, chunks) in [(overhead + 299, 2), (overhead + 300, 3), (1, 1)] {
        let mut stage = donor_with(Release::V3_6, |config| config.sync.packet_len = packet_len);
        stage.asks(3);
        stage.serve(&shelf, 10);
        let Said::Records(_, _, first) = &stage.world.sent[0].body else {
            panic!("{:?}", stage.world.sent[0]);
        };
        assert_eq!(first.len(), chunks);
        assert_eq!(stage.donated(), [(3, 20, true)]);
    }
}

#[test]
fn a_copy_that_is_empty_now_and_was_not_is_given_as_it_is() {
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.pass_ms(300);
    assert!(stage.world.sent.is_empty(), "the gates have not answered");
    stage.serve(&Shelf::new(&[&[], &[]]), 10);
    assert_eq!(stage.given(3), (Vec::new(), vec![Some(0)]));
    assert_eq!(stage.donated(), [(3, 0, true)]);
}

#[test]
fn nobody_is_answered_before_the_copy_is_verified_and_all_who_asked_are_afterwards() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.up(3, Release::V3_6, false);
    stage.up(4, Release::V3_6, false);
    stage.asks(3);
    stage.asks(4);
    stage.asks(3);
    assert_eq!(stage.facts().requests_waiting, [3, 4]);
    stage.down(4);
    assert_eq!(stage.facts().requests_waiting, [3]);
    stage.pass_ms(10_000);
    assert!(stage.world.slices.is_empty() && stage.world.sent.is_empty());
    stage.synced_from(2, 1);
    stage.serve(&Shelf::new(&[&[10], &[10]]), 10);
    assert_eq!(stage.donated(), [(3, 2, true)]);
    assert!(stage.facts().requests_waiting.is_empty());
}

#[test]
fn an_empty_copy_is_not_given_until_it_has_a_record() {
    let mut stage = Stage::new();
    stage.nodes.seed = true;
    stage.up(3, Release::V3_6, false);
    stage.pass_ms(5300);
    assert_eq!(stage.state(), CopyState::Verified);
    stage.asks(3);
    let mut shelf = Shelf::new(&[&[], &[]]);
    stage.serve(&shelf, 10);
    stage.pass_ms(5000);
    stage.serve(&shelf, 100);
    assert!(!stage.is_offered());
    assert!(stage.world.sent.is_empty());
    shelf.shards[1] = vec![20];
    stage.pass_ms(1000);
    stage.serve(&shelf, 10);
    assert!(stage.is_offered());
    assert_eq!(stage.donated(), [(3, 1, true)]);
}

#[test]
fn a_release_that_gets_none_of_our_records_gets_no_end_either() {
    let mut stage = donor(Release::V2_4);
    stage.asks(3);
    let mut shelf = Shelf::new(&[&[], &[]]);
    shelf.data_version = None;
    stage.serve(&shelf, 1);
    assert!(
        stage.world.sent.is_empty(),
        "a node of 2.4 would delete all that it has"
    );
    assert_eq!(stage.donated(), [(3, 0, false)]);
    let warnings = stage.world.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("cannot be told to a node of 2.4"),
        "{warnings:?}"
    );
    stage.pass_ms(60_000);
    assert!(
        stage.facts().requests_waiting.is_empty(),
        "it would be the same again"
    );
}

#[test]
fn a_copy_that_cannot_be_told_in_full_ends_without_an_end_and_is_not_answered_for_a_while() {
    for release in [Release::V2_4, Release::V3_2, Release::V3_6] {
        let mut stage = donor(release);
        stage.up(4, Release::V4_0, false);
        let mut shelf = Shelf::new(&[&[350; 1000], &[350; 10]]);
        shelf.left_out = 2;
        stage.asks(3);
        stage.serve(&shelf, 100);
        let (records, ends) = stage.given(3);
        assert_eq!(ends, [], "{release}: an end would delete what was left out");
        assert_eq!(records.len(), 0, "{release}");
        assert_eq!(stage.donated(), [(3, 0, false)]);
        let warnings = stage.world.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        // 6 slices of 64 KiB of one shard, one of the other; 2 records in each.
        let why = format!("14 of our records cannot be told to a node of {release}");
        assert!(warnings[0].contains(&why), "{warnings:?}");

        stage.asks(3);
        stage.pass_ms(5000);
        assert!(stage.world.slices.is_empty() && stage.facts().requests_waiting.is_empty());
        assert_eq!(stage.world.warnings(), [""; 0], "it was said");
        // Another release is another matter, and so is another time.
        shelf.left_out = 0;
        stage.asks(4);
        stage.serve(&shelf, 100);
        assert_eq!(stage.donated().pop(), Some((4, 1010, true)));
        stage.pass_ms(600_000);
        stage.asks(3);
        stage.serve(&shelf, 100);
        assert_eq!(stage.donated().pop(), Some((3, 1010, true)));
    }
}

#[test]
fn what_the_target_could_not_use_is_kept_back_and_told_and_the_sync_completes() {
    // 2.4 is given nothing before all was walked once, which counts nothing twice.
    for release in [Release::V2_4, Release::V3_6] {
        let mut stage = donor(release);
        let mut shelf = Shelf::new(&[&[350; 20], &[350; 10]]);
        (shelf.withheld.no_socket, shelf.withheld.provisional) = (3, 1);
        shelf.withheld.lacks(b"udp:192.0.2.1:5060");
        stage.asks(3);
        stage.serve(&shelf, 100);
        let (records, ends) = stage.given(3);
        assert_eq!(records.len(), 30, "{release}");
        assert_eq!(ends, [(release >= Release::V3_3).then_some(30)]);
        // One slice of each shard.
        let expected = Withheld {
            no_socket: 6,
            provisional: 2,
            ..shelf.withheld.clone()
        };
        let told = stage.world.events.iter().find_map(|event| match event {
            Event::Donated {
                withheld, complete, ..
            } => Some((withheld.clone(), *complete)),
            _ => None,
        });
        assert_eq!(told, Some((expected.clone(), true)), "{release}");
        assert_eq!(stage.facts().withheld, expected);
        assert_eq!(stage.world.warnings(), [""; 0]);
    }
}

#[test]
fn shards_that_do_not_agree_on_the_version_end_a_donation() {
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    let mut shelf = Shelf::new(&[&[10], &[10]]);
    stage.serve(&shelf, 1);
    shelf.data_version = Some(5);
    stage.serve(&shelf, 1);
    assert_eq!(stage.donated(), [(3, 0, false)]);
}

#[test]
fn the_first_packet_does_not_wait_for_a_slow_shard_and_neither_do_later_ones() {
    let mut stage = donor(Release::V3_6);
    let shelf = Shelf::new(&[&[10; 20_000], &[10]]);
    stage.asks(3);
    let asked = stage.world.now;
    // Only shard 1 answers: one record.
    stage.world.slices.rotate_left(1);
    stage.serve(&shelf, 1);
    assert!(stage.world.sent.is_empty());
    stage.pass_ms(250);
    assert_eq!(stage.given(3).0.len(), 1);
    let first = stage.world.sent[0].at;
    assert!(first.nanos_since(asked) <= 250 * MS);

    // Shard 0 answers now, and its next slice never comes: what is left of the first one goes out.
    stage.serve(&shelf, 1);
    let before = stage.world.now;
    let sent = stage.world.sent.len();
    stage.pass_ms(1000);
    assert_eq!(stage.world.sent.len(), sent + 1);
    assert!(stage.world.sent[sent].at.nanos_since(before) <= 1000 * MS);
}

#[test]
fn a_receiver_that_reads_slowly_is_given_no_more_than_it_takes() {
    let mut stage = donor(Release::V3_6);
    let shelf = Shelf::new(&[&[350; 20_000], &[350; 20_000]]);
    stage.asks(3);
    let mut most = 0;
    let mut reads = 0;
    while stage.donated().is_empty() {
        let gates: Vec<_> = stage.world.slices.drain(..).collect();
        assert!(gates.len() <= 2, "one slice of each shard");
        for (_, shard, request) in gates {
            assert_eq!(request.bytes, 65_536);
            let slice = shelf.slice(shard, &request);
            stage.call(|copies, now, view, out| copies.slice(now, slice, view, out));
        }
        most = most.max(stage.world.waiting_bytes(3));
        stage.pass_ms(5);
        // It reads 40 KiB in 5 ms.
        let waiting = stage.world.waiting.entry(3).or_default();
        *waiting = waiting.saturating_sub(40 << 10);
        reads += 1;
        assert!(reads < 1000, "it ends");
    }
    assert_eq!(stage.donated(), [(3, 40_000, true)]);
    // What was asked for below the limit comes on top of it: a slice of each shard, and a packet.
    assert!(most < (256 + 2 * 65 + 32) << 10, "{most}");
    assert!(most > 256 << 10, "it was slow enough for that: {most}");
}

#[test]
fn a_full_link_keeps_the_packet_for_later_and_loses_none() {
    let mut stage = donor(Release::V3_6);
    let shelf = Shelf::new(&[&[350; 300], &[350; 300]]);
    stage.asks(3);
    stage.world.links.insert(3, Sent::Full);
    stage.serve(&shelf, 10);
    stage.pass_ms(100);
    assert!(stage.world.sent.is_empty());
    assert!(
        stage.world.slices.is_empty(),
        "nothing more is asked for meanwhile"
    );
    stage.world.links.remove(&3);
    // An eighth of the time that it took nothing.
    stage.pass_ms(13);
    stage.serve(&shelf, 10);
    let (records, _) = stage.given(3);
    assert!(records.len() > 300);
    assert_eq!(stage.donated(), [(3, 600, true)]);

    // The same with the end, behind which nothing else would come.
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.world.links.insert(3, Sent::Full);
    stage.serve(&Shelf::new(&[&[], &[]]), 10);
    stage.pass_ms(100);
    assert!(stage.donated().is_empty());
    stage.world.links.remove(&3);
    // An eighth of the time that it took nothing.
    stage.pass_ms(13);
    assert_eq!(stage.donated(), [(3, 0, true)]);
    assert_eq!(stage.given(3).1, [Some(0)]);
}

#[test]
fn who_asks_twice_gets_two_syncs_one_after_the_other_and_not_too_soon() {
    let shelf = Shelf::new(&[&[10], &[10]]);
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.asks(3);
    stage.asks(3);
    assert_eq!(stage.facts().donations, [(3, 0)]);
    stage.serve(&shelf, 10);
    assert_eq!(stage.donated(), [(3, 2, true)]);
    stage.pass_ms(999);
    assert_eq!(stage.facts().requests_waiting, [3]);
    assert!(stage.world.slices.is_empty());
    stage.pass_ms(1);
    stage.serve(&shelf, 10);
    assert_eq!(stage.donated(), [(3, 2, true), (3, 2, true)]);
    stage.pass_ms(5000);
    assert!(
        stage.world.slices.is_empty(),
        "asked twice meanwhile is asked once more"
    );
}

#[test]
fn who_asks_again_waits_for_the_end_of_a_long_sync() {
    let shelf = Shelf::new(&[&[350; 1000], &[]]);
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.serve(&shelf, 1);
    stage.pass_ms(5000);
    stage.asks(3);
    stage.pass_ms(5000);
    let facts = stage.facts();
    assert_eq!(facts.requests_waiting, [3]);
    assert_eq!(facts.donations.len(), 1, "{facts:?}");
    stage.serve(&shelf, 100);
    assert_eq!(stage.donated(), [(3, 1000, true), (3, 1000, true)]);
}

#[test]
fn no_shard_is_asked_for_more_than_two_slices_and_everybody_gets_his_turn() {
    let mut stage = donor(Release::V3_6);
    for node in 4..9 {
        stage.up(node, Release::V3_6, false);
    }
    for node in 3..9 {
        stage.asks(node);
    }
    let shelf = Shelf::new(&[&[350; 1000], &[350; 1000]]);
    let mut answers = 0;
    while !stage.world.slices.is_empty() {
        for shard in 0..2 {
            let asked = stage.world.slices.iter();
            assert!(asked.filter(|(_, of, _)| *of == shard).count() <= 2);
        }
        stage.serve(&shelf, 1);
        answers += 1;
        if answers == 24 {
            // 6 nodes and 2 shards: by then nobody has been passed over.
            for node in 3..9 {
                assert!(!stage.given(node).0.is_empty(), "node {node}");
            }
        }
    }
    let mut donated = stage.donated();
    donated.sort_unstable();
    assert_eq!(
        donated,
        (3..9).map(|node| (node, 2000, true)).collect::<Vec<_>>()
    );
}

#[test]
fn requests_for_what_we_do_not_have_are_forgotten() {
    let mut stage = donor(Release::V3_6);
    stage.notice(Notice::SyncRequest {
        node: 3,
        capability: "nothing".to_owned(),
    });
    stage.pass_ms(1000);
    assert!(stage.world.slices.is_empty() && stage.facts().requests_waiting.is_empty());
}

#[test]
fn slices_that_nobody_asked_for_change_nothing() {
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    let (_, shard, request) = stage.world.slices[0].clone();
    let shelf = Shelf::new(&[&[10], &[10]]);
    let mut stray = shelf.slice(shard, &request);
    stray.donation = request.donation.wrapping_add(1);
    let mut far = shelf.slice(shard, &request);
    far.shard = 9;
    for slice in [stray, far] {
        stage.call(|copies, now, view, out| copies.slice(now, slice, view, out));
        stage.run();
    }
    let twice = shelf.slice(shard, &request);
    stage.call(|copies, now, view, out| copies.slice(now, twice.clone(), view, out));
    stage.call(|copies, now, view, out| copies.slice(now, twice, view, out));
    stage.world.slices.pop_front();
    stage.serve(&shelf, 10);
    assert_eq!(stage.donated(), [(3, 2, true)]);
}
