//! What is on the way, and who waits for it.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::dice::Dice;
use super::stream::lines::Lines;
use super::{Account, Faults, IN_FLIGHT_MAX, QUEUE_MAX};

/// All of a network, behind its lock.
pub(super) struct State {
    seed: u64,
    faults: Faults,
    now: u64,
    /// Datagrams so far, with the duplicates: the number of the next one.
    numbers: u64,
    /// Nothing in it is due: whoever sends or moves the clock settles before the lock is free.
    in_flight: BinaryHeap<Reverse<Flight>>,
    /// When the last datagram arrives that went from the first address to the second and was not held back: the next
    /// one does not overtake it.
    last_arrivals: BTreeMap<(SocketAddr, SocketAddr), u64>,
    groups: BTreeMap<SocketAddr, Group>,
    /// Without `queued` and `in_flight`, which are counted when they are asked for.
    account: Account,
    /// The connections, beside the datagrams.
    pub(super) lines: Lines,
}

pub(super) type Steer = Box<dyn Fn(&[u8]) -> usize + Send>;

/// A datagram on its way.
struct Flight {
    arrives: u64,
    /// Of two that arrive at the same time, the one with the smaller number is first.
    number: u64,
    to: SocketAddr,
    parcel: Parcel,
}

/// A datagram as it arrives.
pub(super) struct Parcel {
    /// Who sent it.
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) truncated: bool,
}

/// The receivers of one address.
struct Group {
    steer: Steer,
    members: Vec<Member>,
}

/// One receiver.
pub(super) struct Member {
    pub(super) queue: VecDeque<Parcel>,
    pub(super) capacity: usize,
    /// What it dropped, full or shut.
    pub(super) drops: u64,
    pub(super) shut: bool,
    open: bool,
}

impl State {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            faults,
            now: 0,
            numbers: 0,
            in_flight: BinaryHeap::new(),
            last_arrivals: BTreeMap::new(),
            groups: BTreeMap::new(),
            account: NOTHING,
            lines: Lines::new(seed),
        }
    }

    pub(super) fn bind(&mut self, addr: SocketAddr, count: usize, steer: Steer) {
        assert!(addr.port() != 0, "a network in memory chooses no ports");
        assert!(count > 0, "a group of nobody");
        assert!(!self.groups.contains_key(&addr), "somebody is at {addr}");
        let members = (0..count).map(|_| Member::new()).collect();
        self.groups.insert(addr, Group { steer, members });
    }

    /// A receiver goes, and what it has not received with it; the address is free when the last one has gone.
    pub(super) fn close(&mut self, addr: SocketAddr, index: usize) {
        let member = self.member_mut(addr, index);
        member.open = false;
        let left = std::mem::take(&mut member.queue);
        self.account.abandoned += left.len() as u64;
        if self.groups[&addr].members.iter().all(|member| !member.open) {
            self.groups.remove(&addr);
        }
    }

    /// Sends a datagram, and perhaps another one like it. [`settle`](Self::settle) afterwards: it may be due at once.
    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.account.sent += 1;
        if self.launch(from, to, bytes) {
            self.account.duplicated += 1;
            self.launch(from, to, bytes);
        }
    }

    /// Puts a datagram on its way, unless it is lost; whether chance wants a second one.
    fn launch(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        let number = self.numbers;
        self.numbers += 1;
        // All are drawn whether they are needed or not: so one fault more does not change the others.
        let mut dice = Dice::new(self.seed, number);
        let lost = dice.chance(self.faults.loss);
        let twice = dice.chance(self.faults.duplicate);
        let cut = dice.chance(self.faults.truncate);
        let cut_len = dice.within(0..bytes.len() as u64);
        let held_back = dice.chance(self.faults.reorder);
        let delay = nanos(self.faults.delay.start)..nanos(self.faults.delay.end);
        let held_max = (delay.end - delay.start).max(HELD_BACK_NS);
        let delay = dice.within(delay);
        let held = 1 + dice.within(0..held_max);

        if lost || self.in_flight.len() == IN_FLIGHT_MAX {
            self.account.lost += 1;
            return twice;
        }
        let mut parcel = Parcel {
            from,
            bytes: bytes.to_vec(),
            truncated: false,
        };
        if cut && !bytes.is_empty() {
            self.account.truncated += 1;
            parcel.truncated = true;
            let len = usize::try_from(cut_len).expect("below a length");
            parcel.bytes.truncate(len);
        }
        let arrives = self.now.saturating_add(delay);
        let arrives = if held_back {
            self.account.reordered += 1;
            arrives.saturating_add(held)
        } else {
            self.in_order(from, to, arrives)
        };
        self.in_flight.push(Reverse(Flight {
            arrives,
            number,
            to,
            parcel,
        }));
        twice
    }

    /// The time of arrival, not before that of the datagram before.
    fn in_order(&mut self, from: SocketAddr, to: SocketAddr, arrives: u64) -> u64 {
        if self.last_arrivals.len() >= PATHS_MAX {
            // What has arrived is overtaken by nobody.
            let now = self.now;
            self.last_arrivals.retain(|_, last| *last > now);
        }
        let last = self.last_arrivals.entry((from, to)).or_default();
        *last = arrives.max(*last);
        *last
    }

    /// Moves the clock, and everything that arrives by then, in the order of arrival.
    pub(super) fn advance_to(&mut self, then: u64) {
        self.now = then.max(self.now);
        self.settle();
    }

    /// Queues what has arrived.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        let due = |flight: &Reverse<Flight>| flight.0.arrives <= now;
        while self.in_flight.peek().is_some_and(due) {
            if let Some(Reverse(flight)) = self.in_flight.pop() {
                self.arrive(flight);
            }
        }
        self.lines.settle(now);
    }

    fn arrive(&mut self, Flight { to, parcel, .. }: Flight) {
        let member = self.groups.get_mut(&to).and_then(|group| {
            let index = (group.steer)(&parcel.bytes);
            group.members.get_mut(index).filter(|member| member.open)
        });
        let Some(member) = member else {
            self.account.unreachable += 1;
            return;
        };
        if member.shut {
            member.drops += 1;
            self.account.dropped_shut += 1;
        } else if member.queue.len() >= member.capacity {
            member.drops += 1;
            self.account.dropped_full += 1;
        } else {
            member.queue.push_back(parcel);
        }
    }

    /// Takes the datagram that arrived first.
    pub(super) fn receive(&mut self, addr: SocketAddr, index: usize) -> Option<Parcel> {
        let parcel = self.member_mut(addr, index).queue.pop_front()?;
        self.account.delivered += 1;
        Some(parcel)
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(super) fn member(&self, addr: SocketAddr, index: usize) -> &Member {
        &self.groups[&addr].members[index]
    }

    pub(super) fn member_mut(&mut self, addr: SocketAddr, index: usize) -> &mut Member {
        let group = self.groups.get_mut(&addr);
        &mut group.expect("a queue keeps its address").members[index]
    }

    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// Of a datagram, or of something of a connection.
    pub(super) fn next_arrival(&self) -> Option<u64> {
        let datagram = self.in_flight.peek().map(|Reverse(flight)| flight.arrives);
        datagram.into_iter().chain(self.lines.next_arrival()).min()
    }

    pub(super) fn account(&self) -> Account {
        let members = self.groups.values().flat_map(|group| &group.members);
        Account {
            in_flight: self.in_flight.len() as u64,
            queued: members.map(|member| member.queue.len() as u64).sum(),
            ..self.account
        }
    }
}

impl Member {
    const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            capacity: QUEUE_MAX,
            drops: 0,
            shut: false,
            open: true,
        }
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |flight: &Self| (flight.arrives, flight.number);
        place(self).cmp(&place(other))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flight {}

/// As far as 64 bits go: 584 years.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is held back is so for at most this long, if the delays differ by less.
const HELD_BACK_NS: u64 = 1_000_000;

/// Pairs of addresses remembered before those are forgotten that have nothing on the way.
const PATHS_MAX: usize = 1024;

const NOTHING: Account = Account {
    sent: 0,
    duplicated: 0,
    delivered: 0,
    queued: 0,
    in_flight: 0,
    lost: 0,
    dropped_full: 0,
    dropped_shut: 0,
    unreachable: 0,
    abandoned: 0,
    truncated: 0,
    reordered: 0,
};
