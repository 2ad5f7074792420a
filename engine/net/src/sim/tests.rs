use super::*;
use crate::{Batch, Bell, QUEUED_LEN_MIN, RxQueue, Sent, Slab, Tx, TxBatch};
use proptest::prelude::*;
use std::io;

const A: &str = "192.0.2.1:5555";
const B: &str = "192.0.2.2:5555";
const MS: u64 = 1_000_000;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn perfect() -> Network {
    Network::new(0, Faults::default())
}

fn delayed(delay: Range<u64>) -> Faults {
    let delay = Duration::from_millis(delay.start)..Duration::from_millis(delay.end);
    Faults {
        delay,
        ..Faults::default()
    }
}

fn send(network: &Network, from: &str, to: &str, datagrams: &[&[u8]]) -> Sent {
    let bytes = datagrams.iter().map(|bytes| bytes.len()).sum();
    let mut batch = TxBatch::new(datagrams.len(), bytes);
    for bytes in datagrams {
        assert!(batch.push(addr(to), bytes));
    }
    let sent = network.tx(addr(from)).send(&mut batch);
    assert!(batch.is_empty());
    assert_eq!(sent.sent + sent.failed, datagrams.len() as u64);
    sent
}

/// Sends the numbers from 0 on, one each.
fn count_to(network: &Network, count: u32) {
    let numbers: Vec<[u8; 4]> = (0..count).map(u32::to_be_bytes).collect();
    let datagrams: Vec<&[u8]> = numbers.iter().map(|bytes| &bytes[..]).collect();
    send(network, B, A, &datagrams);
}

fn drain(queue: &mut SimQueue) -> Vec<(Vec<u8>, bool)> {
    let (mut slab, mut batch) = (Slab::new(4).unwrap(), Batch::new(4));
    let mut seen = Vec::new();
    loop {
        queue.recv(&mut slab, &mut batch).unwrap();
        if batch.is_empty() {
            return seen;
        }
        let datagrams = batch.datagrams(&slab);
        seen.extend(datagrams.map(|datagram| (datagram.bytes.to_vec(), datagram.truncated)));
        batch.release(&mut slab);
    }
}

fn numbers(queue: &mut SimQueue) -> Vec<u32> {
    let number = |(bytes, _): (Vec<u8>, bool)| u32::from_be_bytes(bytes.try_into().unwrap());
    drain(queue).into_iter().map(number).collect()
}

#[test]
fn datagrams_say_where_they_came_from_when_asked() {
    let network = perfect();
    let mut queue = network.bind(addr(A));
    assert_eq!(queue.local_addr(), addr(A));
    let (mut slab, mut batch) = (Slab::new(2).unwrap(), Batch::new(2));
    let mut sources = |queue: &mut SimQueue| -> Vec<Option<SocketAddr>> {
        for from in [B, "192.0.2.3:9"] {
            send(&network, from, A, &[b"whose?"]);
        }
        queue.recv(&mut slab, &mut batch).unwrap();
        let datagrams = batch.datagrams(&slab);
        let sources = datagrams.map(|datagram| datagram.source.copied()).collect();
        batch.release(&mut slab);
        sources
    };
    assert_eq!(sources(&mut queue), [None, None]);
    queue.ask_sources();
    let both = [Some(addr(B)), Some(addr("192.0.2.3:9"))];
    assert_eq!(sources(&mut queue), both);
}

#[test]
fn without_faults_everything_arrives_at_once_whole_and_in_order() {
    let network = perfect();
    let mut queue = network.bind(addr(A));
    assert_eq!(send(&network, B, A, &[b"one", b"", b"three"]).sent, 3);
    let bytes = 3 * QUEUED_LEN_MIN + 8;
    assert_eq!(queue.queued_bytes().unwrap(), bytes);
    let expected = [&b"one"[..], b"", b"three"].map(|bytes| (bytes.to_vec(), false));
    assert_eq!(drain(&mut queue), expected);
    assert_eq!(queue.queued_bytes().unwrap(), 0);
    let account = network.account();
    assert_eq!((account.sent, account.delivered), (3, 3));
    assert!(account.is_balanced());
    assert_eq!(network.now_ns(), 0);
}

#[test]
fn a_datagram_arrives_after_its_delay_and_not_before() {
    let network = Network::new(3, delayed(5..9));
    let mut queue = network.bind(addr(A));
    count_to(&network, 100);
    assert_eq!(network.account().in_flight, 100);
    network.advance(5 * MS - 1);
    assert_eq!(numbers(&mut queue), []);
    network.advance(2 * MS);
    let early = numbers(&mut queue);
    assert!(!early.is_empty() && early.len() < 100);
    network.advance(2 * MS);
    // One does not overtake another for the delay alone.
    assert_eq!(
        [early, numbers(&mut queue)].concat(),
        (0..100).collect::<Vec<_>>()
    );
}

#[test]
fn an_empty_range_is_a_delay_that_is_always_the_same() {
    let network = Network::new(3, delayed(5..5));
    let mut queue = network.bind(addr(A));
    count_to(&network, 10);
    network.advance(5 * MS - 1);
    assert!(drain(&mut queue).is_empty());
    network.advance(1);
    assert_eq!(drain(&mut queue).len(), 10);
}

#[test]
fn loss_is_as_frequent_as_it_was_asked_for() {
    for (loss, arrived) in [(0.0, 4000..=4000), (0.25, 2900..=3100), (1.0, 0..=0)] {
        let faults = Faults {
            loss,
            ..Faults::default()
        };
        let network = Network::new(1, faults);
        let mut queue = network.bind(addr(A));
        count_to(&network, 4000);
        let seen = numbers(&mut queue);
        assert!(arrived.contains(&seen.len()), "{} of 4000", seen.len());
        assert!(seen.is_sorted());
        assert_eq!(network.account().lost, 4000 - seen.len() as u64);
    }
}

#[test]
fn who_is_held_back_is_overtaken_and_not_lost() {
    let faults = Faults {
        reorder: 0.1,
        ..delayed(1..2)
    };
    let network = Network::new(1, faults);
    let mut queue = network.bind(addr(A));
    for number in 0_u32..1000 {
        send(&network, B, A, &[&number.to_be_bytes()]);
        network.advance(MS / 10);
    }
    network.advance(5 * MS);
    let mut seen = numbers(&mut queue);
    let held_back = network.account().reordered;
    assert!((50..150).contains(&held_back), "{held_back}");
    let overtaken = seen.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!((30..150).contains(&overtaken), "{overtaken}");
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_duplicate_is_one_more_and_has_a_fate_of_its_own() {
    let always = Faults {
        duplicate: 1.0,
        ..Faults::default()
    };
    let network = Network::new(1, always.clone());
    let mut queue = network.bind(addr(A));
    count_to(&network, 3);
    assert_eq!(numbers(&mut queue), [0, 0, 1, 1, 2, 2]);
    assert_eq!(network.account().duplicated, 3);

    network.set_faults(Faults {
        loss: 0.5,
        ..always
    });
    count_to(&network, 1000);
    let seen = numbers(&mut queue);
    let times = |number| seen.iter().filter(|seen| **seen == number).count();
    for wanted in 0..=2 {
        assert!(
            (0..1000).any(|number| times(number) == wanted),
            "{wanted} times"
        );
    }
    assert!(network.account().is_balanced());
}

#[test]
fn a_cut_datagram_is_marked_and_is_the_beginning_of_what_was_sent() {
    let faults = Faults {
        truncate: 0.5,
        ..Faults::default()
    };
    let network = Network::new(1, faults);
    let mut queue = network.bind(addr(A));
    let sent = &b"0123456789"[..];
    send(&network, B, A, &[sent; 1000]);
    let seen = drain(&mut queue);
    assert_eq!(seen.len(), 1000);
    for (bytes, truncated) in &seen {
        assert!(sent.starts_with(bytes));
        assert_eq!(*truncated, bytes.len() < sent.len());
    }
    let cut = seen.iter().filter(|(_, truncated)| *truncated).count();
    assert!((400..600).contains(&cut));
    assert_eq!(network.account().truncated, cut as u64);
    // What has no bytes cannot be cut.
    send(&network, B, A, &[&b""[..]; 20]);
    assert_eq!(drain(&mut queue), vec![(Vec::new(), false); 20]);
}

#[test]
fn a_full_queue_drops_what_comes_and_counts_it_for_its_receiver() {
    let network = perfect();
    let mut queues = network.bind_group(addr(A), 2, |bytes| usize::from(bytes[3] % 2));
    queues[0].set_capacity(3);
    count_to(&network, 20);
    let drops: Vec<u64> = queues.iter().map(SimQueue::drops).collect();
    assert_eq!(drops, [7, 0]);
    assert_eq!(numbers(&mut queues[0]), [0, 2, 4]);
    assert_eq!(numbers(&mut queues[1]).len(), 10);
    count_to(&network, 2);
    assert_eq!(numbers(&mut queues[0]), [0]);
    let account = network.account();
    assert_eq!((account.dropped_full, account.queued), (7, 1));
    assert!(account.is_balanced());
}

#[test]
fn a_group_is_steered_by_the_bytes_and_by_nothing_else() {
    let network = Network::new(9, delayed(1..50));
    let mut queues = network.bind_group(addr(A), 3, |bytes| usize::from(bytes[3] % 4));
    count_to(&network, 100);
    network.advance(50 * MS);
    for (index, queue) in (0..).zip(&mut queues) {
        let expected: Vec<u32> = (0..100).filter(|number| number % 4 == index).collect();
        assert_eq!(numbers(queue), expected);
    }
    // The fourth is not there.
    assert_eq!(network.account().unreachable, 25);
}

#[test]
fn where_nobody_is_nothing_arrives_and_it_is_counted() {
    let network = Network::new(0, delayed(1..1));
    count_to(&network, 2);
    network.advance(MS);
    assert_eq!(network.account().unreachable, 2);
    // Who comes while they are on their way gets them.
    count_to(&network, 2);
    let mut queue = network.bind(addr(A));
    network.advance(MS);
    assert_eq!(numbers(&mut queue), [0, 1]);
}

#[test]
fn who_goes_abandons_what_he_did_not_receive_and_his_address_is_free() {
    let network = perfect();
    let queue = network.bind(addr(A));
    count_to(&network, 5);
    drop(queue);
    count_to(&network, 1);
    let account = network.account();
    assert_eq!((account.abandoned, account.unreachable), (5, 1));

    let mut group = network.bind_group(addr(A), 2, |bytes| usize::from(bytes[3] % 2));
    // One of two: its share is unreachable, the other one keeps its place.
    drop(group.remove(0));
    count_to(&network, 10);
    assert_eq!(numbers(&mut group[0]), [1, 3, 5, 7, 9]);
    assert_eq!(network.account().unreachable, 1 + 5);
    assert!(network.account().is_balanced());
}

#[test]
fn a_shut_queue_can_be_drained_and_stays_empty() {
    let network = Network::new(0, delayed(1..1));
    let mut queue = network.bind(addr(A));
    count_to(&network, 3);
    network.advance(MS);
    count_to(&network, 4);
    queue.shut();
    network.advance(MS);
    assert_eq!(numbers(&mut queue), [0, 1, 2]);
    assert_eq!(queue.queued_bytes().unwrap(), 0);
    assert_eq!(queue.drops(), 4);
    assert_eq!(network.account().dropped_shut, 4);
}

#[test]
fn a_wait_ends_with_the_next_arrival_or_with_its_time() {
    let network = Network::new(0, delayed(5..5));
    let mut queues = [network.bind(addr(A)), network.bind(addr(B))];
    let bell = Bell::new().unwrap();
    let mut wait = |ms| {
        RxQueue::wait(&mut queues, None, &bell, Duration::from_millis(ms)).unwrap();
        network.now_ns() / MS
    };
    assert_eq!(wait(3), 3);
    send(&network, A, B, &[b"to the second"]);
    assert_eq!(network.next_arrival_ns(), Some(8 * MS));
    assert_eq!(wait(2), 5);
    assert_eq!(wait(1000), 8);
    // There is something: no time passes.
    assert_eq!(wait(1000), 8);
    assert_eq!(drain(&mut queues[1]).len(), 1);
    assert_eq!(network.next_arrival_ns(), None);
    RxQueue::wait(&mut queues, None, &bell, Duration::MAX).unwrap();
    assert_eq!(network.now_ns(), u64::MAX);
    SimQueue::wait(&mut [], None, &bell, Duration::ZERO).unwrap();
}

#[test]
fn a_frame_that_is_too_short_cuts_as_the_kernel_does() {
    let network = perfect();
    let mut queue = network.bind(addr(A));
    send(&network, B, A, &[b"12345678", b"123456789"]);
    let (mut slab, mut batch) = (Slab::with_frame_len(2, 8).unwrap(), Batch::new(2));
    queue.recv(&mut slab, &mut batch).unwrap();
    let seen: Vec<_> = batch
        .datagrams(&slab)
        .map(|datagram| (datagram.bytes.len(), datagram.truncated))
        .collect();
    assert_eq!(seen, [(8, false), (8, true)]);
}

#[test]
fn a_slab_without_a_free_frame_is_an_error_and_heals() {
    let network = perfect();
    let mut queue = network.bind(addr(A));
    let (mut slab, mut batch) = (Slab::new(1).unwrap(), Batch::new(2));
    let held = slab.take().unwrap();
    queue.recv(&mut slab, &mut batch).unwrap();
    assert!(batch.is_empty(), "nothing there, so nothing is needed");
    count_to(&network, 2);
    let error = queue.recv(&mut slab, &mut batch).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    slab.release(held);
    queue.recv(&mut slab, &mut batch).unwrap();
    assert_eq!(batch.len(), 1);
    batch.release(&mut slab);
    assert_eq!(numbers(&mut queue), [1]);
}

#[test]
fn what_a_kernel_would_refuse_is_refused_and_not_sent() {
    let network = perfect();
    let _queue = network.bind(addr(A));
    let too_long = vec![0; 65_508];
    assert_eq!(send(&network, B, A, &[b"ok", &too_long, b"ok"]).failed, 1);
    assert_eq!(send(&network, B, "[2001:db8::1]:5555", &[b"v6"]).failed, 1);
    let nowhere = send(&network, B, "192.0.2.1:0", &[b"nowhere"]);
    assert_eq!(nowhere.error, Some(io::ErrorKind::InvalidInput));
    assert_eq!(network.account().sent, 2);
}

#[test]
fn the_longest_datagram_of_each_family_goes_and_a_longer_one_does_not() {
    for (from, to, len_max) in [
        (B, A, 65_507),
        ("[2001:db8::1]:5", "[2001:db8::2]:5", 65_527),
    ] {
        let network = perfect();
        let mut queue = network.bind(addr(to));
        let datagrams = [vec![1; len_max], vec![1; len_max + 1]];
        let sent = send(&network, from, to, &datagrams.each_ref().map(Vec::as_slice));
        assert_eq!((sent.sent, sent.failed), (1, 1), "{to}");
        assert_eq!(drain(&mut queue), [(datagrams[0].clone(), false)]);
    }
}

#[test]
fn more_than_the_way_holds_is_lost_and_counted() {
    let network = Network::new(0, delayed(1..1));
    let max = u32::try_from(IN_FLIGHT_MAX).unwrap();
    count_to(&network, max + 3);
    let account = network.account();
    assert_eq!((account.in_flight, account.lost), (max.into(), 3));
    assert!(account.is_balanced());
}

#[test]
#[should_panic(expected = "somebody is at")]
fn an_address_is_taken_once() {
    let network = perfect();
    let _queue = network.bind(addr(A));
    let _second = network.bind(addr(A));
}

#[test]
#[should_panic(expected = "a probability is from 0 to 1")]
fn a_probability_is_one() {
    let faults = Faults {
        loss: f64::NAN,
        ..Faults::default()
    };
    let _ = Network::new(0, faults);
}

#[test]
fn a_network_and_its_ends_go_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    let network = perfect();
    is_send(&network);
    is_send(&network.bind(addr(A)));
    is_send(&network.tx(addr(A)));
}

#[derive(Debug, Clone)]
enum Step {
    Send { to: usize, len: usize },
    Advance(u64),
    Receive(usize),
    Wait(u64),
    Shut(usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3, 0_usize..50).prop_map(|(to, len)| Step::Send { to, len }),
        3 => (0..3 * MS).prop_map(Step::Advance),
        4 => (0_usize..3).prop_map(Step::Receive),
        2 => (0..3 * MS).prop_map(Step::Wait),
        1 => (0_usize..3).prop_map(Step::Shut),
        1 => (0_usize..3).prop_map(Step::Leave),
    ]
}

fn faults() -> impl Strategy<Value = Faults> {
    let probability = || prop_oneof![Just(0.0), 0.0..=1.0];
    let faults = (probability(), probability(), probability(), probability());
    (0..3 * MS, 0..3 * MS, faults).prop_map(
        |(start, width, (loss, reorder, duplicate, truncate))| Faults {
            delay: Duration::from_nanos(start)..Duration::from_nanos(start + width),
            loss,
            reorder,
            duplicate,
            truncate,
        },
    )
}

/// What a script saw: every datagram in the order in which it was received, with the time; the account at the end.
type Run = (Vec<(u64, usize, Vec<u8>, bool)>, Account);

/// Two receivers at one address, one at another. Checks the books after every step.
fn play(seed: u64, faults: &Faults, steps: &[Step]) -> Result<Run, TestCaseError> {
    let network = Network::new(seed, faults.clone());
    let group = network.bind_group(addr(A), 2, |bytes| bytes.len() % 3);
    let mut queues: Vec<Option<SimQueue>> = group.into_iter().map(Some).collect();
    queues.push(Some(network.bind(addr(B))));
    for queue in queues.iter_mut().flatten() {
        queue.set_capacity(4);
    }
    let bell = Bell::new().unwrap();
    let mut seen = Vec::new();
    let mut gone_drops = 0;
    for (number, step) in (0_u8..).cycle().zip(steps) {
        match *step {
            Step::Send { to, len } => {
                // The last one goes where nobody ever is.
                let to = [A, B, "192.0.2.3:1"][to];
                send(&network, B, to, &[&vec![number; len]]);
            }
            Step::Advance(ns) => network.advance(ns),
            Step::Wait(ns) => {
                let timeout = Duration::from_nanos(ns);
                let before = network.now_ns();
                if let Some(queue) = queues.iter_mut().flatten().next() {
                    RxQueue::wait(std::slice::from_mut(queue), None, &bell, timeout).unwrap();
                }
                prop_assert!(network.now_ns() - before <= ns);
            }
            Step::Receive(index) => {
                if let Some(queue) = &mut queues[index] {
                    let queued = queue.queued_bytes().unwrap();
                    let received = drain(queue);
                    let len = |(bytes, _): &(Vec<u8>, bool)| QUEUED_LEN_MIN + bytes.len() as u64;
                    prop_assert_eq!(queued, received.iter().map(len).sum::<u64>());
                    let now = network.now_ns();
                    let received = received.into_iter();
                    seen.extend(received.map(|(bytes, cut)| (now, index, bytes, cut)));
                }
            }
            Step::Shut(index) => {
                if let Some(queue) = &queues[index] {
                    queue.shut();
                }
            }
            Step::Leave(index) => {
                gone_drops += queues[index].take().map_or(0, |queue| queue.drops());
            }
        }
        let account = network.account();
        prop_assert!(account.is_balanced(), "{account:?}");
        prop_assert_eq!(account.delivered, seen.len() as u64);
        let drops: u64 = queues.iter().flatten().map(SimQueue::drops).sum();
        prop_assert_eq!(
            account.dropped_full + account.dropped_shut,
            drops + gone_drops
        );
    }
    // Nothing is on its way for longer than the longest delay and being held back.
    network.advance(10 * MS);
    let account = network.account();
    prop_assert_eq!(account.in_flight, 0);
    prop_assert!(account.is_balanced());
    Ok((seen, account))
}

proptest! {
    #[test]
    fn the_books_balance_at_every_step_and_the_same_seed_is_the_same_run(
        seed: u64,
        faults in faults(),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let run = play(seed, &faults, &steps)?;
        prop_assert_eq!(run, play(seed, &faults, &steps)?);
    }
}

#[test]
fn another_seed_is_another_run() {
    let faults = Faults {
        loss: 0.3,
        reorder: 0.3,
        ..delayed(1..5)
    };
    let run = |seed| {
        let network = Network::new(seed, faults.clone());
        let mut queue = network.bind(addr(A));
        count_to(&network, 50);
        network.advance(20 * MS);
        numbers(&mut queue)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn one_datagram_less_leaves_the_fates_of_those_before_and_one_fault_more_those_of_all() {
    let faults = Faults {
        loss: 0.3,
        ..delayed(1..5)
    };
    let run = |count, faults: Faults| {
        let network = Network::new(4, faults);
        let mut queue = network.bind(addr(A));
        count_to(&network, count);
        network.advance(20 * MS);
        numbers(&mut queue)
    };
    let all = run(50, faults.clone());
    let fewer = run(40, faults.clone());
    assert_eq!(all[..fewer.len()], fewer);
    let held_back = Faults {
        reorder: 0.2,
        ..faults
    };
    let mut disordered = run(50, held_back);
    assert!(!disordered.is_sorted());
    disordered.sort_unstable();
    assert_eq!(disordered, all);
}
