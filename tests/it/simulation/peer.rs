//! Who the engine talks to.

use std::net::SocketAddr;

use binrush_net::sim::{Network, SimQueue, SimTx};
use binrush_net::{Batch, RxQueue as _, Slab, Tx as _, TxBatch};

use super::books::SharedBook;
use super::plan::Plan;
use super::traffic::Traffic;
use crate::dice::Dice;

/// A node that sends to the engine, and listens for its answers.
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    number: usize,
    /// The listener it knows.
    to: SocketAddr,
    tx: SimTx,
    queue: SimQueue,
}

impl Peer {
    /// Those of a plan, taking turns in which of the listeners they know.
    pub(super) fn all(plan: &Plan, network: &Network, listeners: &[SocketAddr]) -> Vec<Self> {
        let listeners = listeners.iter().cycle();
        let peers = listeners.zip(0..plan.peers);
        peers
            .map(|(to, number)| Self::new(network, *to, number))
            .collect()
    }

    fn new(network: &Network, to: SocketAddr, number: usize) -> Self {
        let addr = match to {
            SocketAddr::V4(_) => format!("192.0.2.1{number}:5567"),
            SocketAddr::V6(_) => format!("[2001:db8::1{number}]:5567"),
        };
        let addr = addr.parse().expect("an address");
        Self {
            addr,
            number,
            to,
            tx: network.tx(addr),
            queue: network.bind(addr),
        }
    }

    /// Sends a few datagrams.
    pub(super) fn speak(&mut self, dice: &mut Dice, traffic: &mut Traffic, book: &SharedBook) {
        let mut batch = TxBatch::new(SPOKEN_MAX, SPOKEN_MAX << 16);
        for _ in 0..1 + dice.below(SPOKEN_MAX) {
            let made = traffic.next(dice, self.number);
            book.lock().unwrap().made(&made);
            assert!(batch.push(self.to, &made.bytes), "there is room");
        }
        let sent = self.tx.send(&mut batch);
        assert_eq!(sent.failed, 0, "{:?}", sent.error);
    }

    /// Receives what handlers answered.
    pub(super) fn listen(&mut self, now_ns: u64, book: &SharedBook) {
        let (mut slab, mut batch) = (Slab::new(1).expect("there is memory"), Batch::new(1));
        loop {
            let received = self.queue.recv(&mut slab, &mut batch);
            received.expect("there is a frame");
            if batch.is_empty() {
                return;
            }
            let mut book = book.lock().unwrap();
            for reply in batch.datagrams(&slab) {
                book.replied(now_ns, self.addr, reply);
            }
            batch.release(&mut slab);
        }
    }

    /// Answers that it was too slow for.
    pub(super) fn drops(&self) -> u64 {
        self.queue.drops()
    }
}

/// Datagrams sent at a time, at most.
const SPOKEN_MAX: usize = 6;
