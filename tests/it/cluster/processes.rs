//! Clusters of processes, each a `serve`: they find each other, lose each other, and end with the same records.
//!
//! What a genuine node would do is done by a [`Talker`], so that records come from somewhere, and somebody asks for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::modules::Workshop;
use node::{Members, Node, eventually, wait_for_all_up, wait_for_link};
use talker::Talker;
use wires::Wires;

/// Nodes.
mod node;
/// A node that a test plays.
mod talker;
/// Networks of their own.
mod wires;

#[test]
fn two_nodes_see_each_other_and_one_that_is_killed_is_missed_and_found_again() {
    let members = Members::on_loopback("cluster-killed", 2);
    let one = members.start(1);
    let two = members.start(2);
    wait_for_all_up(&[&one, &two], &[]);
    let (ups, downs) = (count(&one, 2, "ups"), count(&one, 2, "downs"));
    // As `kill -9` does.
    drop(two);
    wait_for_down(&one, 2);
    assert!(count(&one, 2, "downs") > downs);
    let two = members.start(2);
    wait_for_all_up(&[&one, &two], &[]);
    assert!(count(&one, 2, "ups") > ups);
    for node in [one, two] {
        node.stop();
    }
}

#[test]
fn a_node_that_stands_still_is_down_for_all_others_until_it_goes_on() {
    let members = Members::on_loopback("cluster-stopped", 3);
    let nodes: Vec<_> = members.ids().map(|id| members.start(id)).collect();
    let [one, two, three] = &nodes[..] else {
        panic!("three were started");
    };
    wait_for_all_up(&[one, two, three], &[]);
    three.process.halt();
    let start = Instant::now();
    wait_for_down(one, 3);
    wait_for_down(two, 3);
    wait_for_link(one, 2, "up");
    // Far beyond every deadline of the PINGs.
    thread::sleep(STANDSTILL.saturating_sub(start.elapsed()));
    three.process.signal("CONT");
    wait_for_all_up(&[one, two, three], &[]);
    for node in nodes {
        node.stop();
    }
}

#[test]
fn an_empty_node_is_never_offered_though_it_is_a_seed() {
    let members = Members::on_loopback("cluster-empty", 2);
    let talker = Talker::start(&members, 2);
    let one = members.start(1);
    wait_for_link(&one, 2, "up");
    eventually("a seed to fall back", || one.copy_is("verified"));
    talker.request(1);
    eventually("the request", || waiting(&one) == [2]);
    // Some PINGs later nothing else has been said.
    let pings = talker.heard(1).pings;
    eventually("PINGs", || talker.heard(1).pings > pings + 1);
    let heard = talker.heard(1);
    assert_eq!((heard.synced, heard.was_synced), (Some(false), false));
    assert!(heard.ends.is_empty() && heard.chunks.is_empty());
    // With its first record it has something to give, and gives it to who has asked.
    talker.put(&[1], "key", "value");
    eventually("an offer", || talker.heard(1).synced == Some(true));
    eventually("an answer", || talker.heard(1).ends == [Some(1)]);
    assert_eq!(talker.heard(1).chunks.len(), 1);
    assert!(waiting(&one).is_empty());
    one.stop();
}

#[test]
fn a_node_whose_records_nobody_vouched_for_is_never_offered() {
    let members = Members::on_loopback("cluster-unverified", 3);
    // Node 1 is the seed, and does not come.
    let talker = Talker::start(&members, 3);
    let two = members.start(2);
    wait_for_link(&two, 3, "up");
    talker.tell_synced(2, false);
    talker.put(&[2], "key", "value");
    talker.flush(2);
    talker.request(2);
    eventually("the request", || waiting(&two) == [3]);
    let pings = talker.heard(2).pings;
    eventually("PINGs", || talker.heard(2).pings > pings + 1);
    let heard = talker.heard(2);
    assert!(!heard.was_synced && heard.ends.is_empty() && heard.chunks.is_empty());
    assert!(two.copy_is("unverified"));
    assert_eq!(heard.requests, 0, "nobody has told that he is synced");
    // Who has all is asked at once.
    talker.tell_synced(2, true);
    eventually("a request", || talker.heard(2).requests > 0);
    two.stop();
}

#[test]
fn a_donor_that_falls_silent_is_given_up_and_its_next_answer_is_not_trusted_at_once() {
    let members = Members::on_loopback("cluster-silent", 2);
    // In the place of the seed.
    let talker = Talker::start(&members, 1);
    let two = members.start(2);
    wait_for_link(&two, 1, "up");
    talker.tell_synced(2, true);
    eventually("a request", || talker.heard(2).requests > 0);
    let records = [("first", "1"), ("second", "2")];
    talker.give(2, &records[..1], false);
    eventually("the end of patience", || {
        two.copy()
            .is_some_and(|copy| copy["abandoned"].as_u64() >= Some(1))
    });
    assert!(!talker.heard(2).was_synced && completed(&two) == 0);
    eventually("another request", || talker.heard(2).requests > 1);
    talker.give(2, &records, true);
    // It may be the answer to the first request, from before live packets were held back the second time.
    eventually("a copy that is not trusted", || {
        completed(&two) == 1 && two.copy_is("suspect")
    });
    assert!(!talker.heard(2).was_synced && donor(&two) == 1);
    two.stop();
}

#[test]
fn a_sync_under_load_ends_in_equal_state_whoever_gives_it() {
    sync_under_load(&Members::on_loopback("cluster-load", 3));
}

#[test]
fn a_sync_under_load_ends_in_equal_state_where_routes_have_nodes_on_one_shard() {
    let Some(workshop) = Workshop::new("cluster-route-module", &["calls"]) else {
        return;
    };
    let library = workshop.path("calls.so");
    let folder = Path::new(&library).parent().expect("it lies in one");
    // Elsewhere than on the thread of child_init it answers -9.
    let lines = format!(
        "loadmodule \"{library}\"\nmodparam(\"binrush\", \"trusted_dir\", \"{}\")\n\
         modparam(\"binrush\", \"callback_budget\", 1000000)\n\
         route {{ by_connection(); if ($rc == -9) drop; }}\n",
        folder.display()
    );
    let nodes = sync_under_load(&Members::on_loopback("cluster-route-load", 3).with(&lines));
    for ready in nodes {
        for (which, count) in [("shards", 1), ("readers", 0)] {
            assert_eq!(
                ready[which].as_array().map(Vec::len),
                Some(count),
                "{ready}"
            );
        }
    }
}

/// What the nodes said when they were ready.
fn sync_under_load(members: &Members) -> [Value; 2] {
    let talker = Talker::start(members, 3);
    let mut load = Load::default();
    let one = members.start(1);
    wait_for_link(&one, 3, "up");
    for _ in 0..RECORDS {
        load.put(&talker, &[1]);
    }
    talker.flush(1);
    eventually("an offer", || talker.heard(1).synced == Some(true));
    // The second one comes while records come and go.
    let two = members.start(2);
    load.go_on_until(&talker, &[1, 2], || two.copy_is("verified"));
    wait_for_equal(&talker, &load, &[1, 2]);
    assert_eq!(donor(&two), 1);
    // The first one loses everything, and gets it back from the second.
    drop(one);
    load.go_on_until(&talker, &[2], || two.link(1).as_deref() == Some("down"));
    let one = members.start(1);
    load.go_on_until(&talker, &[1, 2], || {
        one.copy_is("verified") && donor(&one) == 2
    });
    wait_for_equal(&talker, &load, &[1, 2]);
    [one, two].map(|node| {
        let ready = node.ready.clone();
        node.stop();
        ready
    })
}

#[test]
fn a_node_that_stood_still_asks_again_for_what_it_may_have_missed() {
    let members = Members::on_loopback("cluster-missed", 3);
    let talker = Talker::start(&members, 3);
    let mut load = Load::default();
    let one = members.start(1);
    let two = members.start(2);
    wait_for_all_up(&[&one, &two], &[3]);
    for _ in 0..100 {
        load.put(&talker, &[1, 2]);
    }
    eventually("a sync", || two.copy_is("verified"));
    let completed = completed(&two);
    two.process.halt();
    wait_for_down(&one, 2);
    // The second one hears of none of these.
    for _ in 0..100 {
        load.change(&talker, &[1]);
    }
    two.process.signal("CONT");
    eventually("another sync", || {
        two.copy_is("verified") && self::completed(&two) > completed
    });
    wait_for_all_up(&[&one, &two], &[3]);
    let of = |node| talker.records_of(node);
    // What the first one removed meanwhile is no loss: nobody says that a record is gone but who removed it.
    let (mine, theirs) = (of(1), of(2));
    assert_eq!(mine, load.records);
    assert!(
        mine.iter()
            .all(|(key, value)| theirs.get(key) == Some(value)),
        "{mine:?}\n{theirs:?}"
    );
    for node in [one, two] {
        node.stop();
    }
}

#[test]
fn nodes_whose_cable_is_pulled_are_missed_and_found_again() {
    let Some(wires) = Wires::new(3) else {
        return;
    };
    let (_members, nodes) = at_hosts(&wires, "cluster-cable");
    let [one, two, three] = &nodes[..] else {
        panic!("three were started");
    };
    wait_for_all_up(&[one, two, three], &[]);
    wires.pull(3);
    for (node, other) in [(one, 3), (two, 3), (three, 1), (three, 2)] {
        wait_for_down(node, other);
    }
    wait_for_link(one, 2, "up");
    wires.plug(3);
    wait_for_all_up(&[one, two, three], &[]);
    for node in nodes {
        node.stop();
    }
}

#[test]
fn what_is_lost_one_way_keeps_two_nodes_apart_and_no_others() {
    let Some(wires) = Wires::new(3) else {
        return;
    };
    let (_members, nodes) = at_hosts(&wires, "cluster-one-way");
    let [one, two, three] = &nodes[..] else {
        panic!("three were started");
    };
    wait_for_all_up(&[one, two, three], &[]);
    wires.lose(1, 2);
    // The answers of the first one are lost too, so the second one misses it as well.
    wait_for_down(one, 2);
    wait_for_down(two, 1);
    for (node, other) in [(one, 3), (two, 3), (three, 1), (three, 2)] {
        wait_for_link(node, other, "up");
    }
    wires.find(1, 2);
    wait_for_all_up(&[one, two, three], &[]);
    for node in nodes {
        node.stop();
    }
}

/// Records that come and go, and what is left of them.
#[derive(Debug, Default)]
struct Load {
    records: BTreeMap<String, String>,
    number: usize,
}

impl Load {
    /// One more record.
    fn put(&mut self, talker: &Talker, nodes: &[i32]) {
        self.number += 1;
        let key = format!("key-{:07}", self.number);
        let value = format!("{:0>300}", self.number);
        talker.put(nodes, &key, &value);
        self.records.insert(key, value);
    }

    /// A record is put, changed or removed.
    fn change(&mut self, talker: &Talker, nodes: &[i32]) {
        self.number += 1;
        let at = self.number * 7919 % self.records.len().max(1);
        let Some(key) = self.records.keys().nth(at).cloned() else {
            return self.put(talker, nodes);
        };
        match self.number % 3 {
            0 => self.put(talker, nodes),
            1 => {
                let value = format!("changed by {}", self.number);
                talker.put(nodes, &key, &value);
                self.records.insert(key, value);
            }
            _ => {
                talker.remove(nodes, &key);
                self.records.remove(&key);
            }
        }
    }

    /// Changes records on `nodes` until `done`, which is asked from time to time.
    #[track_caller]
    fn go_on_until(&mut self, talker: &Talker, nodes: &[i32], mut done: impl FnMut() -> bool) {
        eventually("the end of a load", || {
            for _ in 0..CHANGES {
                self.change(talker, nodes);
            }
            done()
        });
    }
}

/// Three nodes, each on a host of its own.
fn at_hosts(wires: &Wires, name: &str) -> (Members, Vec<Node>) {
    let members = Members::new(name, (1..=3).map(Wires::at).collect());
    let nodes = (1..=3).zip(members.ids()).map(|(host, id)| {
        let before = wires.on(host);
        members.start_under(id, &before.each_ref().map(|word| &word[..]))
    });
    let nodes = nodes.collect();
    (members, nodes)
}

/// Waits until each of `nodes` has what `load` left, by what it gives to who asks for it.
#[track_caller]
fn wait_for_equal(talker: &Talker, load: &Load, nodes: &[i32]) {
    for node in nodes {
        talker.flush(*node);
        let records = talker.records_of(*node);
        let (have, want) = (records.len(), load.records.len());
        assert!(
            records == load.records,
            "node {node} has {have} records, and there are {want}; the first that differs: {:?}",
            load.records
                .iter()
                .find(|(key, value)| records.get(*key) != Some(*value))
                .or_else(|| {
                    records
                        .iter()
                        .find(|(key, _)| !load.records.contains_key(*key))
                })
        );
    }
}

#[track_caller]
fn wait_for_down(node: &Node, other: i32) {
    wait_for_link(node, other, "down");
}

/// A count that `node` keeps of `other`.
#[track_caller]
fn count(node: &Node, other: i32, what: &str) -> u64 {
    let known = node.node(other).expect("it is known");
    known[what].as_u64().expect("a number")
}

/// The nodes whose requests for records `node` did not answer yet.
fn waiting(node: &Node) -> Vec<i64> {
    let copy = node.copy().expect("it has one");
    let waiting = copy["requests_waiting"].as_array().expect("a list").iter();
    waiting.filter_map(Value::as_i64).collect()
}

/// Syncs that `node` completed.
fn completed(node: &Node) -> u64 {
    let copy = node.copy().expect("it has one");
    copy["completed"].as_u64().expect("a number")
}

/// Who gave `node` its last sync; 0: nobody.
fn donor(node: &Node) -> i64 {
    let copy = node.copy().expect("it has one");
    copy["last_sync"]["donor"].as_i64().unwrap_or(0)
}

/// Records before the load.
const RECORDS: usize = 20_000;

/// Changes between two looks at a node.
const CHANGES: usize = 200;

/// How long a node stands still.
const STANDSTILL: Duration = Duration::from_secs(5);
