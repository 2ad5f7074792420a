//! Links through good and bad days in no time: the machine and its turns against peers that do what a seed says, and a
//! ledger kept by hand.

use std::collections::HashSet;
use std::time::Duration;

use super::machine::{Event, Machine, after};
use super::outgoing::{Outgoing, Written};
use super::slot::Slot;
use super::turn::{Transport, turn};
use super::{Lane, LinkConfig, LinkLimits, QUEUE_BYTES_MIN, Refused};
use crate::clock::Timestamp;

const LIMITS: LinkLimits = LinkLimits {
    queue_bytes: QUEUE_BYTES_MIN,
    queue_packets: 64,
    age_max: Duration::from_secs(5),
    connect_timeout: Duration::from_secs(2),
    write_deadline: Duration::from_secs(1),
    backoff_min: Duration::from_millis(50),
    backoff_max: Duration::from_secs(1),
    user_timeout: Duration::from_secs(1),
    keepalive: None,
};

/// What is drawn from one seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (value ^ (value >> 31)) % count
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn size(&mut self, below: u64) -> usize {
        usize::try_from(self.below(below)).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Connecting,
    Securing,
    Proving,
    Up,
    Finished,
}

/// A peer, its kernel and ours.
struct Peer {
    dice: Dice,
    secure: bool,
    phase: Phase,
    /// What the kernel has room for.
    room: usize,
    /// Bytes that the session encrypts until it is worn.
    wears: usize,
    /// Packets of which the session was seen to have nothing left, and up to where that was counted.
    through: u64,
    counted: usize,
    /// What the session has and the kernel has not.
    session: Vec<u8>,
    /// What came of this connection, and what was read of that.
    stream: Vec<u8>,
    read: usize,
    /// Packets that came whole: lane, number, in the order of arrival.
    packets: Vec<(Lane, u32)>,
    /// Packets that were begun and never finished.
    halves: u64,
    connections: u64,
    /// Those that ended because their session was worn.
    renewals: u64,
}

/// One link and its peer.
struct World {
    slot: Slot,
    peer: Peer,
    now: Timestamp,
    /// When each packet was queued, by its number.
    queued: Vec<(Lane, Timestamp)>,
    refused: u64,
}

/// Says which seed it was.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn packet(lane: Lane, number: u32, len: usize) -> Vec<u8> {
    let len = len.max(HEAD);
    let mut packet = vec![number.to_le_bytes()[0]; len];
    packet[..4].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    packet[4..8].copy_from_slice(&number.to_le_bytes());
    packet[8] = u8::from(lane == Lane::Bulk);
    packet
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

impl Peer {
    fn new(seed: u64) -> Self {
        Self {
            secure: seed.is_multiple_of(2),
            dice: Dice(seed),
            phase: Phase::Closed,
            room: 0,
            wears: 0,
            through: 0,
            counted: 0,
            session: Vec::new(),
            stream: Vec::new(),
            read: 0,
            packets: Vec::new(),
            halves: 0,
            connections: 0,
            renewals: 0,
        }
    }

    /// Takes packets out of the stream: it has nothing but whole ones, one after the other.
    fn read(&mut self) {
        while let Some(rest) = self
            .stream
            .get(self.read..)
            .filter(|rest| rest.len() >= HEAD)
        {
            let (len, number) = (word(rest) as usize, word(&rest[4..]));
            if rest.len() < len {
                return;
            }
            let lane = if rest[8] == 0 {
                Lane::Control
            } else {
                Lane::Bulk
            };
            assert_eq!(
                rest[..len],
                packet(lane, number, len),
                "a packet in another"
            );
            self.packets.push((lane, number));
            self.read += len;
        }
    }

    /// Packets whose first byte was taken, and whose last one has not arrived.
    fn on_the_way(&self) -> usize {
        let bytes = [&self.stream[self.read..], &self.session].concat();
        let (mut rest, mut count) = (&bytes[..], 0);
        while !rest.is_empty() {
            // What is missing of the last one is still queued.
            let len = if rest.len() < 4 {
                4
            } else {
                word(rest) as usize
            };
            rest = rest.get(len..).unwrap_or(&[]);
            count += 1;
        }
        count
    }

    /// The session has nothing left: whoever counts has to know of every packet up to here.
    fn all_through(&mut self) {
        self.through += (self.packets.len() - self.counted) as u64;
        self.counted = self.packets.len();
    }

    fn flush(&mut self) -> bool {
        let count = self.session.len().min(self.room);
        self.room -= count;
        self.stream.extend(self.session.drain(..count));
        self.read();
        count > 0
    }
}

impl Transport for Peer {
    fn open(&mut self) -> Result<(), String> {
        assert_eq!(self.phase, Phase::Closed, "one connection to each peer");
        if self.dice.one_in(8) {
            return Err("no route".to_owned());
        }
        self.phase = Phase::Connecting;
        Ok(())
    }

    fn write(&mut self, outgoing: &mut Outgoing) -> Result<Written, String> {
        assert_eq!(self.phase, Phase::Up, "nobody is there");
        if self.dice.one_in(60) {
            return Err("Broken pipe".to_owned());
        }
        let mut moved = self.flush();
        let drained = self.session.is_empty();
        if drained {
            self.all_through();
            let bytes = outgoing.slices().map(|slice| slice.to_vec()).concat();
            // Within a session, up to so much may be on its way; without one, nothing may.
            let room = if self.secure { 3000 } else { self.room };
            let taken = bytes.len().min(room);
            outgoing.take(taken);
            self.wears = self.wears.saturating_sub(taken);
            self.session.extend_from_slice(&bytes[..taken]);
            moved |= self.flush();
            if !self.secure {
                self.all_through();
                return Ok(Written {
                    moved,
                    drained: true,
                    flushed: true,
                    full: taken < bytes.len(),
                    worn: false,
                });
            }
        }
        let full = !self.session.is_empty();
        if !full {
            self.all_through();
        }
        Ok(Written {
            moved,
            drained,
            flushed: !full,
            full,
            worn: self.wears == 0,
        })
    }

    fn finish(&mut self) {
        assert!(self.session.is_empty(), "finished before all was written");
        assert_eq!(self.read, self.stream.len(), "finished within a packet");
        self.renewals += u64::from(self.secure && self.wears == 0);
        self.phase = Phase::Finished;
    }

    fn close(&mut self, _reset: bool) {
        let half = self.read < self.stream.len();
        self.halves += u64::from(half);
        self.phase = Phase::Closed;
        self.counted = self.packets.len();
        self.session.clear();
        self.stream.clear();
        self.read = 0;
        self.room = 0;
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let slot = Slot::default();
        let now = Timestamp::from_nanos(seed * 1000);
        let peer = Peer::new(seed);
        let config = LinkConfig::new("bin:127.0.0.1:5555".parse().unwrap());
        let machine = || Machine::new(String::new(), LIMITS, peer.secure, seed, now);
        assert!(slot.seat(&config.into(), machine).is_some());
        Self {
            slot,
            peer,
            now,
            queued: Vec::new(),
            refused: 0,
        }
    }

    fn tell(&mut self, event: Event) {
        let mut again = turn(&self.slot, &mut self.peer, self.now, event);
        while again {
            again = turn(&self.slot, &mut self.peer, self.now, Event::Look);
        }
        self.check();
    }

    /// What is true at every moment.
    fn check(&self) {
        let (counts, deadline) = self
            .slot
            .with(|machine| (machine.counts(), machine.deadline()));
        assert!(counts.is_balanced(), "{counts:?}");
        assert_eq!(counts.queued, self.queued.len() as u64);
        assert_eq!(counts.refused, self.refused);
        assert!(counts.waiting_bytes <= LIMITS.queue_bytes as u64 + 3000);
        assert!(counts.connects >= counts.breaks && counts.connects == self.peer.connections);
        // What a session has counts as sent when the kernel has all of it, and not later.
        assert_eq!(counts.sent, self.peer.through, "{counts:?}");
        assert!(counts.sent <= self.peer.packets.len() as u64, "{counts:?}");
        // Nobody is looked at again before time has passed or something has happened.
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "busy");
    }

    fn push(&mut self) {
        let dice = &mut self.peer.dice;
        let lane = if dice.one_in(3) {
            Lane::Control
        } else {
            Lane::Bulk
        };
        let limit = if dice.one_in(10) { 20_000 } else { 400 };
        let number = u32::try_from(self.queued.len()).unwrap();
        let packet = packet(lane, number, dice.size(limit));
        let now = self.now;
        match self.slot.push(0, lane, &packet, || now) {
            Ok(told) => {
                self.queued.push((lane, now));
                if told {
                    self.order_and_tell(Event::Look);
                }
            }
            Err(refused) => {
                assert!(matches!(refused, Refused::Full | Refused::Stopped));
                self.refused += 1;
            }
        }
    }

    /// One turn, whose packets have to come in order: control before bulk, each lane as it was queued.
    fn order_and_tell(&mut self, event: Event) {
        let on_the_way = self.peer.on_the_way();
        let before = self.peer.packets.len() + on_the_way;
        let control = self.slot.with(|machine| machine.queued(Lane::Control));
        self.tell(event);
        // Those that were begun come first, whatever they are.
        let came = self.peer.packets.get(before..).unwrap_or(&[]);
        // What stands behind one that was begun is older than it may be until that one has gone.
        let in_time =
            |number: u32| after(self.queued[number as usize].1, LIMITS.age_max) > self.now;
        assert!(
            on_the_way > 0 || came.iter().all(|packet| in_time(packet.1)),
            "{came:?}"
        );
        let bulk = came.iter().position(|(lane, _)| *lane == Lane::Bulk);
        if let Some(bulk) = bulk {
            let after = &came[bulk..];
            assert!(
                after.iter().all(|(lane, _)| *lane == Lane::Bulk),
                "{came:?}"
            );
            assert_eq!(
                self.slot.with(|machine| machine.queued(Lane::Control)),
                0,
                "{control} waited behind bulk"
            );
        }
    }

    /// Something that can happen to a connection of this phase.
    fn happen(&mut self) {
        let peer = &mut self.peer;
        let event = match peer.phase {
            Phase::Closed => Event::Look,
            Phase::Connecting => match peer.dice.below(6) {
                0 => Event::Failed("Connection refused".to_owned()),
                1 | 2 => Event::Look,
                _ if peer.secure => {
                    peer.phase = Phase::Securing;
                    Event::Connected
                }
                _ => {
                    peer.phase = Phase::Up;
                    peer.connections += 1;
                    Event::Connected
                }
            },
            Phase::Securing => match peer.dice.below(6) {
                0 => Event::Failed("TLS: unknown CA".to_owned()),
                1 => Event::Ended,
                2 => Event::Look,
                _ => {
                    peer.wears = match peer.dice.one_in(2) {
                        true => peer.dice.size(4000) + 1,
                        false => usize::MAX,
                    };
                    peer.phase = Phase::Proving;
                    Event::Secured
                }
            },
            Phase::Proving => match peer.dice.below(6) {
                0 => Event::Failed("TLS: alert".to_owned()),
                1 => Event::Ended,
                2 => Event::Look,
                _ => {
                    peer.phase = Phase::Up;
                    peer.connections += 1;
                    Event::Proven
                }
            },
            Phase::Up => match peer.dice.below(40) {
                0 => Event::Failed("Connection reset by peer".to_owned()),
                1 => Event::Ended,
                2..10 => Event::Look,
                _ => {
                    peer.room += peer.dice.size(6000);
                    Event::Writable
                }
            },
            Phase::Finished => match peer.dice.below(3) {
                0 => Event::Ended,
                1 => Event::Acknowledged,
                _ => Event::Look,
            },
        };
        self.order_and_tell(event);
    }

    /// Lets time pass up to `span`, with a look at each moment that the machine asked for.
    fn pass(&mut self, span: Duration) {
        let end = after(self.now, span);
        while let Some(deadline) = self.slot.with(|machine| machine.deadline())
            && deadline <= end
        {
            self.now = deadline;
            // Silence is consent.
            if self.peer.phase == Phase::Proving
                && self.slot.with(|machine| machine.is_proven(deadline))
            {
                self.peer.phase = Phase::Up;
                self.peer.connections += 1;
            }
            self.order_and_tell(Event::Look);
        }
        self.now = end;
    }

    /// Each packet came at most once, in the order of its lane.
    fn check_packets(&self) {
        let mut seen = HashSet::new();
        for lane in [Lane::Control, Lane::Bulk] {
            let of_lane = self.peer.packets.iter().filter(|packet| packet.0 == lane);
            let numbers: Vec<u32> = of_lane.map(|packet| packet.1).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
            for number in numbers {
                assert!(seen.insert(number), "{number} came twice");
                assert_eq!(self.queued[number as usize].0, lane);
            }
        }
    }
}

fn live(seed: u64, steps: u32) -> World {
    let told = Told(seed);
    let mut world = World::new(seed);
    world.tell(Event::Look);
    for _ in 0..steps {
        match world.peer.dice.below(10) {
            0..4 => world.push(),
            4..9 => world.happen(),
            _ => {
                let limit = if world.peer.dice.one_in(20) {
                    8000
                } else {
                    200
                };
                let millis = world.peer.dice.below(limit);
                world.pass(Duration::from_millis(millis));
            }
        }
    }
    let until = after(
        world.now,
        Duration::from_millis(world.peer.dice.below(3000)),
    );
    world.order_and_tell(Event::Stop(until));
    while !world.slot.with(|machine| machine.is_gone()) {
        assert!(world.now <= until, "not gone when its time was over");
        world.push();
        world.happen();
        world.pass(Duration::from_millis(20));
    }
    world.check_packets();
    let counts = world.slot.counts().unwrap();
    assert_eq!(
        (counts.waiting, counts.waiting_bytes, counts.up),
        (0, 0, false)
    );
    assert_eq!(counts.queued, counts.sent + counts.lost);
    assert!(
        world.peer.halves <= counts.lost,
        "a half packet that is not lost"
    );
    assert_eq!(world.peer.phase, Phase::Closed);
    drop(told);
    world
}

#[test]
fn every_packet_is_sent_once_or_lost_whatever_peers_do() {
    let mut sum = crate::stream::LinkCounts::default();
    let mut renewals = 0;
    for seed in 0..400 {
        let world = live(seed, 600);
        renewals += world.peer.renewals;
        let counts = world.slot.counts().unwrap();
        sum.sent += counts.sent;
        sum.lost += counts.lost;
        sum.refused += counts.refused;
        sum.breaks += counts.breaks;
        sum.connect_failures += counts.connect_failures;
        sum.postponed += counts.postponed;
    }
    // The days were bad enough, and not too bad.
    assert!(sum.sent > 20_000 && sum.lost > 5000, "{sum:?}");
    assert!(sum.refused > 1000 && sum.breaks > 1000, "{sum:?}");
    assert!(renewals > 150, "{renewals}");
    assert!(
        sum.connect_failures > 500 && sum.postponed > 5000,
        "{sum:?}"
    );
}

#[test]
fn the_same_seed_lives_the_same_days() {
    let days = |seed| {
        let world = live(seed, 600);
        (world.slot.counts(), world.peer.packets, world.now)
    };
    assert_eq!(days(7), days(7));
    assert_ne!(days(7).1, days(8).1);
}

/// Length, number, lane.
const HEAD: usize = 9;
