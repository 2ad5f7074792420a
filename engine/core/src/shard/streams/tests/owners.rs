use super::*;

#[test]
fn a_packet_goes_to_the_owner_of_its_record_and_the_clusters_own_stay_where_they_are() {
    let mut cluster = Cluster::new(2, &StreamLimits::default());
    let wire = cluster.connect("10.0.0.1");
    let ping = packet_of(Generation::Modern, NAMES[1], 0, 1, &[b"ping"]);
    let unknown = packet_of(Generation::Modern, b"nobody", 0, 1, &[]);
    wire.send([contact_of(0, 1), contact_of(1, 1), ping, unknown].concat());
    cluster.turn_all(3);
    let mut seen: Vec<_> = cluster.seen.lock().unwrap().clone();
    seen.sort_by_key(|(shard, ..)| *shard);
    let shards: Vec<_> = seen.iter().map(|(shard, ..)| *shard).collect();
    assert_eq!(shards, [0, 0, 1]);
    assert!(seen.iter().all(|(_, origin, _)| *origin == seen[0].1));
    let totals = cluster.stop();
    assert!(totals.is_balanced());
    assert_eq!(totals.total.outcome(Outcome::UnknownName), 1);
    assert_eq!(totals.total.mailed_out, 1);
}

#[test]
fn a_slow_owner_holds_up_its_own_packets_alone_and_at_the_limit_their_sender() {
    let limits = StreamLimits {
        memory_per_connection: 600_000,
        ..StreamLimits::default()
    };
    let mut cluster = Cluster::new(2, &limits);
    let (bulk, other) = (cluster.connect("10.0.0.1"), cluster.connect("10.0.0.2"));
    let ping = packet_of(Generation::Modern, NAMES[1], 0, 1, &[b"ping"]);
    // The ring of shard 1 holds some 800 KB of them; it takes nothing.
    let mut sent = 0;
    while !bulk.is_paused() {
        bulk.send(contact_of(1, 30_000));
        sent += 1;
        cluster.turn(0, 1);
        assert!(sent < 200);
    }
    let counts = cluster.snapshot().streams.total;
    assert_eq!(counts.pauses, 1);
    assert!(counts.spilled_bytes > 600_000 && counts.spilled_bytes < 700_000);
    // Nothing more is taken of this connection; another one, and what is for us, goes on.
    bulk.send(contact_of(1, 30_000));
    other.send([&ping[..], &contact_of(0, 1)].concat());
    cluster.turn(0, 3);
    assert_eq!(cluster.seen.lock().unwrap().len(), 2);
    let read = (ping.len() + contact_of(0, 1).len()) as u64;
    let now = cluster.snapshot().streams.total;
    assert_eq!(now.rx_bytes, counts.rx_bytes + read);
    // It goes on as soon as shard 1 does, and nothing is lost or overtaken.
    for _ in 0..40 {
        cluster.turn_all(1);
    }
    assert!(!bulk.is_paused());
    assert_eq!(cluster.seen.lock().unwrap().len(), sent + 1 + 2);
    let totals = cluster.stop();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.total.outcome(Outcome::Handled), sent as u64 + 3);
}

#[test]
fn packets_of_one_record_stay_in_order_through_mail_and_spill() {
    let limits = StreamLimits {
        memory_per_connection: 50_000,
        ..StreamLimits::default()
    };
    let mut cluster = Cluster::new(2, &limits);
    let wire = cluster.connect("10.0.0.1");
    let mut expected = Vec::new();
    for n in 0..300_u32 {
        let number = format!("{n:06}");
        // The number takes the place of the domain, which no owner depends on.
        let aor = format!("user{}", n % 5);
        let strings = [number.as_bytes(), aor.as_bytes(), &[b'x'; 9000]];
        wire.send(packet_of(Generation::Modern, NAMES[0], 3, 4, &strings));
        expected.push(number.into_bytes());
    }
    for round in 0..2000 {
        cluster.turn(0, 1);
        if round % 400 == 399 {
            cluster.turn(1, 1);
        }
    }
    assert!(cluster.snapshot().streams.total.pauses > 0);
    cluster.turn_all(50);
    let seen = cluster.seen.lock().unwrap().clone();
    for shard in 0..2 {
        let of_shard = seen.iter().filter(|(by, ..)| *by == shard);
        let numbers: Vec<_> = of_shard.map(|(.., number)| number).collect();
        assert!(numbers.len() > 10 && numbers.is_sorted());
    }
    assert_eq!(seen.len(), expected.len());
    assert!(cluster.stop().is_balanced());
}

#[test]
fn packets_that_wait_outlive_their_connection() {
    let mut cluster = Cluster::new(2, &StreamLimits::default());
    let wire = cluster.connect("10.0.0.1");
    for _ in 0..35 {
        wire.send(contact_of(1, 30_000));
    }
    wire.push(Piece::End);
    cluster.turn(0, 40);
    assert!(wire.closed().is_some());
    let counts = cluster.snapshot().streams.total;
    assert!(counts.spilled_bytes > 0 && counts.open == 0);
    // Its token is free, and the next connection is another one.
    let next = cluster.connect("10.0.0.1");
    next.send(contact_of(0, 1));
    cluster.turn(0, 2);
    let totals = cluster.stop();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.total.outcome(Outcome::Handled), 36);
    assert_eq!(totals.streams.total.spilled_bytes, 0);
}

#[test]
fn a_stop_reads_what_a_paused_connection_has_and_does_not_spin() {
    let limits = StreamLimits {
        memory_per_connection: 100_000,
        ..StreamLimits::default()
    };
    let mut cluster = Cluster::new(2, &limits);
    let wire = cluster.connect("10.0.0.1");
    for _ in 0..100 {
        wire.send(contact_of(1, 30_000));
    }
    cluster.turn(0, 60);
    assert!(wire.is_paused());
    let totals = cluster.stop();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.total.outcome(Outcome::Handled), 100);
    assert_eq!(totals.streams.total.unread_bytes, 0);
    assert_eq!(totals.total.bytes, totals.streams.total.rx_bytes);
}

/// Packets of a peer that connects anew for each of `count`, while shard 1, to whom they belong, stands still; the numbers
/// in the order in which they were handled in the end.
fn connecting_anew(count: u32, limits: &StreamLimits, meanwhile: impl Fn(&Cluster)) -> Vec<u32> {
    let mut cluster = Cluster::new(2, limits);
    let filler = cluster.connect("10.0.0.9");
    for _ in 0..30 {
        filler.send(contact_of(1, 30_000));
    }
    cluster.turn(0, 40);
    for n in 0..count {
        let strings = [&n.to_be_bytes()[..], &key_of(1), &[b'x'; 50_000]];
        let wire = cluster.connect("10.0.0.1");
        wire.send(packet_of(Generation::Modern, NAMES[0], 3, 4, &strings));
        wire.push(Piece::End);
        cluster.turn(0, 3);
    }
    meanwhile(&cluster);
    (0..300).for_each(|_| cluster.turn_all(2));
    let seen = cluster.seen.lock().unwrap().clone();
    assert!(cluster.stop().is_balanced());
    let numbers = seen
        .iter()
        .filter_map(|(.., first)| first[..].try_into().ok());
    numbers.map(u32::from_be_bytes).collect()
}

#[test]
fn who_connects_anew_does_not_overtake_what_waits_of_him() {
    let numbers = connecting_anew(15, &StreamLimits::default(), |_| {});
    assert_eq!(numbers, (0..15).collect::<Vec<_>>());
}

#[test]
fn connecting_anew_gives_nobody_more_memory() {
    let limits = StreamLimits {
        memory: 1 << 20,
        ..StreamLimits::default()
    };
    let mut numbers = connecting_anew(200, &limits, |cluster| {
        let counts = cluster.snapshot().streams.total;
        assert!(counts.spilled_bytes < (1 << 20) + 200_000, "{counts:?}");
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_greedy_connection_does_not_keep_others_from_a_busy_owner() {
    let mut cluster = Cluster::new(2, &StreamLimits::default());
    let (greedy, modest) = (cluster.connect("10.0.0.1"), cluster.connect("10.0.0.2"));
    let bulk = contact_of(1, 3000);
    let piece = bulk.repeat(20);
    for _ in 0..600 {
        greedy.send(&piece[..]);
    }
    cluster.turn(0, 60);
    modest.send(packet_of(
        Generation::Modern,
        NAMES[0],
        3,
        4,
        &[b"modest", &key_of(1), b"x"],
    ));
    let mut turns = 0;
    while !cluster
        .seen
        .lock()
        .unwrap()
        .iter()
        .any(|(.., first)| first == b"modest")
    {
        cluster.turn_all(1);
        turns += 1;
        assert!(turns < 20, "it does not get its turn");
    }
    for _ in 0..200 {
        cluster.turn_all(1);
    }
    assert!(cluster.stop().is_balanced());
}

/// A key that belongs to `shard` of two.
pub(super) fn key_of(shard: u16) -> Vec<u8> {
    let steering = Steering::new(2, 0);
    let keys = (0..).map(|n| format!("user{n}").into_bytes());
    { keys }
        .find(|key| steering.owner_of_key(key) == shard)
        .unwrap()
}
