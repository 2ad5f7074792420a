//! Real seats that talk to each other: packets take a moment, connections keep their order, and both may be taken away.

use std::collections::VecDeque;
use std::time::Instant;

use super::*;

/// Seats, and what is on its way between them.
struct Network {
    seats: BTreeMap<i32, (Seat, Around)>,
    /// When it arrives, from whom, to whom, the packet.
    flying: VecDeque<(Timestamp, i32, i32, Vec<u8>)>,
    /// Ways that nothing comes through.
    cut: BTreeSet<(i32, i32)>,
    /// Processes that each node has been: connections are others each time.
    lives: BTreeMap<i32, u64>,
    at: Timestamp,
    unix: i64,
}

impl Network {
    fn new(configs: Vec<ClusterConfig>) -> Self {
        let mut network = Self {
            seats: BTreeMap::new(),
            flying: VecDeque::new(),
            cut: BTreeSet::new(),
            lives: BTreeMap::new(),
            at: ms(1_000),
            unix: UNIX,
        };
        for config in configs {
            network.start(config);
        }
        network
    }

    /// Nodes 1 to `count`, each of which knows all others.
    fn of(count: i32) -> Self {
        Self::new((1..=count).map(|id| seat_of(id, count)).collect())
    }

    fn start(&mut self, config: ClusterConfig) {
        let id = config.me.id;
        let life = self.lives.entry(id).or_default();
        *life += 1;
        if *life > 1 {
            self.flying
                .retain(|(_, from, to, _)| *from != id && *to != id);
        }
        let now = self.now();
        let mut seat = Seat::new(config, 1, u64::from(id.unsigned_abs()), now);
        let mut around = Around::default();
        seat.start(now, &mut around);
        self.seats.insert(id, (seat, around));
        self.collect();
    }

    fn now(&self) -> Now {
        Now {
            at: self.at,
            unix: self.unix + i64::try_from(self.at.as_nanos() / (1_000 * MS)).expect("small"),
        }
    }

    fn run(&mut self, duration_ms: u64) {
        let end = self.at.after(duration_ms * MS);
        let mut steps = 0_u32;
        loop {
            let arrival = self.flying.front().map(|(at, ..)| *at);
            let deadlines = self.seats.values().map(|(seat, _)| seat.deadline());
            let next = deadlines.chain(arrival).min().unwrap_or(end);
            if next > end {
                break;
            }
            steps += 1;
            assert!(steps < 1_000_000, "it never rests");
            self.at = self.at.max(next);
            self.step();
            self.collect();
        }
        self.at = end;
    }

    fn step(&mut self) {
        let now = self.now();
        if self.flying.front().is_some_and(|(at, ..)| *at <= now.at) {
            let (_, from, to, packet) = self.flying.pop_front().expect("looked at");
            self.deliver(now, from, to, &packet);
            return;
        }
        for (seat, around) in self.seats.values_mut() {
            if seat.deadline() <= now.at {
                seat.tick(now, around);
            }
        }
    }

    fn deliver(&mut self, now: Now, from: i32, to: i32, packet: &[u8]) {
        let Some((seat, around)) = self.seats.get_mut(&to) else {
            return;
        };
        let packet = Packet::parse(Generation::Modern, packet).expect("seats write packets");
        let (source, shown, body) = match message::internal(&packet) {
            Ok((_, source, message)) => {
                let shown = message.shown_releases(&packet);
                (source, shown, Body::Internal(message))
            }
            Err(_) => {
                let (trailer, routed) = message::extra(&packet, None).expect("or messages");
                assert_eq!(trailer.dest, to, "nobody routes for others");
                let Routed::Message(message) = routed else {
                    panic!("nobody syncs here");
                };
                let shown = message.shown_releases(&packet);
                (trailer.source, shown, Body::Extra(message))
            }
        };
        let life = self.lives[&from];
        let incoming = Incoming {
            at: now.at,
            ip: ip(from),
            connection: u64::from(from.unsigned_abs()) << 8 | life,
            cluster: CLUSTER,
            source,
            shown,
            body,
        };
        seat.receive(now, incoming, around);
    }

    /// Takes what the seats sent on its way, 1 ms each.
    fn collect(&mut self) {
        let arrival = self.at.after(MS);
        for (from, (_, around)) in &mut self.seats {
            for (to, _, packet) in around.sent.drain(..) {
                if !self.cut.contains(&(*from, to)) {
                    self.flying.push_back((arrival, *from, to, packet));
                }
            }
        }
    }

    /// Takes everything between the two groups away, or lets it through again.
    fn cut(&mut self, some: &[i32], others: &[i32], is_cut: bool) {
        for (a, b) in some
            .iter()
            .flat_map(|a| others.iter().map(move |b| (*a, *b)))
        {
            for way in [(a, b), (b, a)] {
                if is_cut {
                    self.cut.insert(way);
                } else {
                    self.cut.remove(&way);
                }
            }
        }
    }

    fn up(&self, node: i32) -> Vec<i32> {
        self.seats[&node].0.up_nodes()
    }

    /// Whether each sees all the others.
    fn is_whole(&self) -> bool {
        let all: Vec<i32> = self.seats.keys().copied().collect();
        all.iter().all(|node| self.up(*node).len() == all.len() - 1)
    }

    fn downs(&self) -> u64 {
        let facts = self.seats.values().map(|(seat, _)| seat.facts(self.now()));
        facts
            .flat_map(|facts| facts.nodes)
            .map(|node| node.downs)
            .sum()
    }
}

/// Node `id` of `count`.
fn seat_of(id: i32, count: i32) -> ClusterConfig {
    let others: Vec<i32> = (1..=count).filter(|other| *other != id).collect();
    ClusterConfig {
        me: node(id),
        ..cluster_with_capability(&others)
    }
}

/// After a heal every link is up within this time: `node_timeout` until the next PING, and one round of retries.
const HEALED_MS: u64 = 60_000 + 4_000 + 5 * 1_000;

#[test]
fn two_seats_find_each_other_and_stay_together() {
    let mut network = Network::of(2);
    network.run(10);
    assert!(network.is_whole());
    for (me, other) in [(1, 2), (2, 1)] {
        let facts = network.seats[&me].0.facts(network.now());
        let facts = facts.nodes.iter().find(|node| node.id == other);
        let capability = ("ratelimit-pipe-repl".to_owned(), true);
        assert_eq!(facts.expect("known").capabilities, [capability]);
    }
    network.run(600_000);
    assert_eq!((network.is_whole(), network.downs()), (true, 0));
}

#[test]
fn late_ones_join_and_who_restarts_joins_again() {
    let mut network = Network::new(vec![seat_of(1, 3), seat_of(2, 3)]);
    network.run(30_000);
    assert_eq!(network.up(1), [2]);
    network.start(seat_of(3, 3));
    network.run(10);
    assert!(network.is_whole(), "who was down is called up by its PING");
    network.run(20_000);
    // As a new process, quickly: the others notice by its greeting or its missing answers.
    network.start(seat_of(2, 3));
    network.run(10_000);
    assert!(network.is_whole());
    for node in [1, 3] {
        let facts = network.seats[&node].0.facts(network.now());
        let restarted = facts.nodes.iter().find(|node| node.id == 2);
        let capability = ("ratelimit-pipe-repl".to_owned(), true);
        assert_eq!(restarted.expect("known").capabilities, [capability]);
    }
}

#[test]
fn a_partition_is_noticed_in_eight_seconds_and_heals_in_the_bound() {
    for pause in [3_000, 9_000, 70_000, 333_333] {
        let mut network = Network::of(5);
        network.run(20_000);
        network.cut(&[1, 2], &[3, 4, 5], true);
        network.run(9_001);
        assert_eq!((network.up(1), network.up(3)), (vec![2], vec![4, 5]));
        network.run(pause);
        network.cut(&[1, 2], &[3, 4, 5], false);
        network.run(HEALED_MS);
        assert!(network.is_whole(), "after {pause} ms");
        let downs = network.downs();
        network.run(100_000);
        assert_eq!(network.downs(), downs, "and nothing moves any more");
    }
}

#[test]
fn a_way_that_is_cut_in_one_direction_takes_the_link_down_at_both_ends() {
    let mut network = Network::of(3);
    network.run(20_000);
    network.cut.insert((1, 2));
    network.run(10_000);
    assert_eq!((network.up(1), network.up(2)), (vec![3], vec![3]));
    // 3 tells nobody of a way, because no seat announces its links.
    assert_eq!(network.seats[&1].0.route(2), None);
    network.cut.remove(&(1, 2));
    network.run(HEALED_MS);
    assert!(network.is_whole());
}

#[test]
fn nodes_of_all_releases_share_a_cluster() {
    let releases = [
        Release::V2_4,
        Release::V3_0,
        Release::V3_1,
        Release::V3_2,
        Release::V3_6,
        Release::V4_0,
    ];
    let configs = (1..=6).map(|id| {
        let mut config = seat_of(id, 6);
        for neighbour in &mut config.neighbours {
            // To each other they write as the receiver reads.
            let place = usize::try_from(neighbour.id - 1).expect("from 1");
            neighbour.release = Some(releases[place]);
        }
        config
    });
    let mut network = Network::new(configs.collect());
    network.run(10_000);
    assert!(network.is_whole());
    for (seat, _) in network.seats.values() {
        let facts = seat.facts(network.now());
        for node in facts.nodes.iter().filter(|node| !node.is_me) {
            assert_eq!(node.capabilities.len(), 1, "{} of {}", node.id, facts.me);
        }
    }
}

#[test]
fn a_clock_step_moves_no_link() {
    let mut network = Network::of(3);
    network.run(20_000);
    for step in [3_600, -7_200, 31_536_000, -63_072_000] {
        network.unix += step;
        network.run(20_000);
    }
    assert_eq!((network.is_whole(), network.downs()), (true, 0));
    // Who begins anew with a clock that is two years behind is believed.
    network.start(seat_of(2, 3));
    network.run(10_000);
    assert!(network.is_whole());
    let facts = network.seats[&1].0.facts(network.now());
    let node = facts.nodes.iter().find(|node| node.id == 2);
    assert_eq!(node.expect("known").capabilities.len(), 1);
}

#[test]
fn strangers_that_are_allowed_learn_the_whole_cluster() {
    let configs = (1..=6).map(|id| ClusterConfig {
        // Each knows the first one only.
        neighbours: (id != 1).then(|| node(1)).into_iter().collect(),
        learn: vec!["10.0.0.0/8".parse().expect("a network")],
        ..seat_of(id, 1)
    });
    let mut network = Network::new(configs.collect());
    network.run(1_000);
    // Doors answer strangers, which are not here: node 1 hears who they are as they would say it.
    for id in 2..=6 {
        let description = Internal::Description {
            description: message::Description {
                url: node(id).url_text.into_bytes(),
                sip_addr: Vec::new(),
                priority: 50,
                retries: 3,
            },
            path: vec![id],
        };
        let mut writer = Writer::default();
        let packet = writer.internal(Release::V3_6, CLUSTER, id, &description);
        let packet = packet.expect("short").to_vec();
        let now = network.now();
        network.deliver(now, id, 1, &packet);
        network.collect();
    }
    network.run(HEALED_MS);
    assert!(network.is_whole());
}

#[test]
fn with_128_nodes_a_tick_is_a_look_at_each_and_no_more_than_a_ping_to_each() {
    let ids: Vec<i32> = (2..=128).collect();
    let mut lone = Lone::up(cluster_with_capability(&ids));
    for id in &ids {
        let others: Vec<i32> = ids.iter().copied().filter(|other| other != id).collect();
        let path = vec![*id];
        for (seq, neighbour) in (0..).zip(others.into_iter().take(8)) {
            let stamp = stamp(seq);
            let path = path.clone();
            let up = true;
            lone.says(
                *id,
                Internal::LinkUpdate {
                    stamp,
                    neighbour,
                    up,
                    path,
                },
            );
        }
    }
    assert_eq!(lone.seat.reachable().len(), 127);
    lone.forget();
    let (mut ticks, mut spent) = (0_u32, Duration::ZERO);
    for _ in 0..50 {
        lone.at = lone.at.after(100 * MS);
        let now = lone.now();
        let began = Instant::now();
        lone.seat.tick(now, &mut lone.around);
        spent += began.elapsed();
        ticks += 1;
    }
    // 5 s: one heartbeat each, and the first doubt.
    assert!(
        lone.around.sent.len() <= 2 * 127,
        "{}",
        lone.around.sent.len()
    );
    assert!(lone.around.sent.len() >= 127);
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    println!("a tick with 128 nodes: {:?} ({build} build)", spent / ticks);
    // What one of them tells is passed on to all the others, once.
    for id in &ids {
        lone.says(*id, pong(&[]));
    }
    lone.forget();
    let began = Instant::now();
    for id in &ids {
        let (stamp, path) = (stamp(100), vec![*id]);
        lone.says(
            *id,
            Internal::LinkUpdate {
                stamp,
                neighbour: 2 + id % 127,
                up: true,
                path,
            },
        );
    }
    println!(
        "an update of one of 128 nodes, passed on: {:?}",
        began.elapsed() / 127
    );
    assert_eq!(lone.around.sent.len(), 127 * 126);
}
