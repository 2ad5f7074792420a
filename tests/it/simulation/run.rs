//! A plan, played to its end, with everything checked that must hold for any.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use binrush_engine::{Counts, Outcome};
use binrush_net::sim::{Account, Network};

use super::books::{Book, SharedBook};
use super::node::Node;
use super::peer::Peer;
use super::plan::Plan;
use super::traffic::Traffic;
use crate::dice::Dice;

/// What became of a plan.
pub(super) struct Run {
    pub(super) log: String,
    pub(super) total: Counts,
    pub(super) account: Account,
    pub(super) replies: u64,
    pub(super) all_answers_came: bool,
    pub(super) steps_back: usize,
}

/// Plays `plan` to its end and checks everything that must hold for any.
pub(super) fn simulate(plan: &Plan) -> Run {
    let book = Arc::new(Mutex::new(Book::new(plan.shards)));
    let _told = TellOnPanic { plan, book: &book };
    let network = Network::new(plan.seed, plan.faults.clone());
    let mut dice = Dice::new(!plan.seed);
    let listeners = LISTENERS.map(|addr| addr.parse().expect("an address"));
    let listeners = &listeners[..1 + usize::from(plan.ipv6)];
    let mut peers = Peer::all(plan, &network, listeners);
    let addrs: Vec<SocketAddr> = peers.iter().map(|peer| peer.addr).collect();
    let mut node = Node::new(plan, &network, listeners, &addrs, &book);

    live(plan, &network, &mut dice, &mut peers, &mut node, &book);
    if plan.rests {
        rest(plan, &network, &mut dice, &mut node);
    }
    node.end(&mut dice);
    // What is still on its way finds the sockets shut, and the last answers their peers.
    network.advance(nanos(LONGEST_WAY));
    for peer in &mut peers {
        peer.listen(network.now_ns(), &book);
    }

    let snapshot = node.snapshot();
    let account = network.account();
    let mut book = book.lock().unwrap();
    book.ended(&snapshot, &account);
    check_network(&account, &snapshot.total, &book, &node, &peers);
    book.check_ledgers(&snapshot);
    book.check_order(plan, &snapshot.total);
    if plan.kernel.knows_owners() {
        assert_eq!(snapshot.total.mailed_out, 0);
    }
    Run {
        log: book.log().to_owned(),
        total: snapshot.total,
        account,
        replies: book.replies(),
        all_answers_came: book.all_answers_came(&addrs),
        steps_back: book.steps_back(),
    }
}

/// Peers send, time passes and shards take turns, in any order.
fn live(
    plan: &Plan,
    network: &Network,
    dice: &mut Dice,
    peers: &mut [Peer],
    node: &mut Node,
    book: &SharedBook,
) {
    let mut traffic = Traffic::new(plan, dice);
    for step in 0..plan.steps {
        match dice.below(10) {
            0..=2 => {
                let peer = dice.below(peers.len());
                peers[peer].speak(dice, &mut traffic, book);
            }
            3 => network.advance(dice.below(300_000) as u64),
            4 => {
                let next = network.next_arrival_ns().unwrap_or_default();
                network.advance(next.saturating_sub(network.now_ns()));
            }
            5 => {
                let peer = dice.below(peers.len());
                peers[peer].listen(network.now_ns(), book);
            }
            _ => {
                let shard = dice.below(plan.shards.into());
                if plan.stalled != Some(shard) || step > plan.steps / 2 {
                    node.turn(shard);
                }
            }
        }
        node.form();
        let account = network.account();
        assert!(account.is_balanced(), "{account:?}");
        // Reading counters costs more than the step.
        if step % 16 == 0 {
            node.check_between_turns();
        }
    }
}

/// Nothing is sent any more, and what is on its way is handled: within a bounded number of rounds.
fn rest(plan: &Plan, network: &Network, dice: &mut Dice, node: &mut Node) {
    network.advance(nanos(LONGEST_WAY));
    for _ in 0..ROUNDS_MAX {
        let first = dice.below(plan.shards.into());
        let mut came = false;
        for shard in 0..plan.shards.into() {
            came |= node.turn((first + shard) % usize::from(plan.shards));
        }
        // A turn in which a receive failed brings nothing either.
        if !came && node.is_idle() {
            return;
        }
    }
    panic!("the shards do not come to rest");
}

/// The network's account against the engine's ledger and what peers saw, after the end.
fn check_network(account: &Account, total: &Counts, book: &Book, node: &Node, peers: &[Peer]) {
    assert!(account.is_balanced(), "{account:?}");
    assert_eq!((account.in_flight, account.queued), (0, 0), "{account:?}");
    assert_eq!(account.sent, book.spoken() + total.sent);
    assert_eq!(account.delivered, total.received + book.replies());
    let heard = peers.iter().map(|peer| peer.drops());
    let dropped = account.dropped_full + account.dropped_shut;
    assert_eq!(dropped, node.drops() + heard.sum::<u64>());
    assert_eq!(account.abandoned, 0);
    // Each perhaps twice. Nothing that is sent to the engine or to a peer finds nobody.
    let addrs: Vec<SocketAddr> = peers.iter().map(|peer| peer.addr).collect();
    assert!(account.unreachable <= 2 * book.sent_elsewhere(&addrs));
    assert!(total.outcome(Outcome::Truncated) <= account.truncated);
}

/// Tells the end of a run that fails, its plan, and how to do it again.
struct TellOnPanic<'a> {
    plan: &'a Plan,
    book: &'a SharedBook,
}

impl Drop for TellOnPanic<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        // Who panicked may have had it open.
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let log: Vec<&str> = book.log().lines().collect();
        for line in &log[log.len().saturating_sub(LINES_TOLD)..] {
            eprintln!("{line}");
        }
        eprintln!("{:#?}\n{}", self.plan, super::again(self.plan));
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().expect("not that long")
}

const LISTENERS: [&str; 2] = ["192.0.2.1:5566", "[2001:db8::1]:5566"];

/// No plan keeps a datagram on its way for that long.
const LONGEST_WAY: Duration = Duration::from_secs(1);

/// Rounds in which all that a run has sent can be handled, one datagram at a time, with failures in between.
const ROUNDS_MAX: usize = 100_000;

/// Lines of the log that are told of a run that failed.
const LINES_TOLD: usize = 40;
