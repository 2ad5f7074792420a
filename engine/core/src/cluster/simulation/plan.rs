//! What a seed stands for.

use std::time::Duration;

use binrush_wire::Release;

use super::dice::Dice;
use super::network::{MS, SECOND, Time};
use crate::cluster::config::{SyncLimits, Timers};

/// Genuine nodes that die, and come back.
mod takeover;

/// A cluster, and what happens to it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) weather: Weather,
    pub(super) timers: Timers,
    pub(super) limits: SyncLimits,
    pub(super) retries: i32,
    pub(super) capabilities: Vec<String>,
    /// One for each host, in order.
    pub(super) nodes: Vec<NodePlan>,
    /// In the order of time.
    pub(super) faults: Vec<(Time, Fault)>,
    /// Bytes that a record has besides its name, about.
    pub(super) padding: usize,
    /// Between two changes of any record.
    pub(super) write_gap: Time,
    /// From then on nothing bad happens.
    pub(super) calm: Time,
    /// Donors do not live to see the end of the first syncs that they give.
    pub(super) donors_die: u64,
    pub(super) mutation: Option<Mutation>,
}

/// What may happen, and so what may be promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Weather {
    /// Nothing bad.
    Fair,
    /// Only to our nodes and to their connections: genuine nodes keep seeing each other and miss nothing, so that each copy
    /// that is verified in the end has to be the whole truth.
    OursSuffer,
    /// All genuine nodes die at once. Two standbys of ours are left, which lose each other and find each other again, or one of
    /// them restarts; then new processes take the place of the genuine nodes.
    Takeover,
    /// Everything to everybody. Genuine nodes miss records for good then, and may give us less than there is.
    Storm,
}

#[derive(Debug, Clone)]
pub(super) struct NodePlan {
    pub(super) id: i32,
    pub(super) is_ours: bool,
    pub(super) release: Release,
    pub(super) is_seed: bool,
    /// Shards that own records.
    pub(super) owners: u16,
    pub(super) starts: Time,
    /// The others do not have it in their configurations.
    pub(super) is_learned: bool,
    /// Ours are told the releases of the others, or find out.
    pub(super) releases_told: bool,
    /// Seconds since 1970 at the beginning.
    pub(super) epoch: i64,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Nothing goes from one host to another one.
    Cut { from: usize, to: usize, lasts: Time },
    /// A connection breaks and loses what is in flight.
    Reset { from: usize, to: usize },
    /// A process dies, and a new one starts some time later.
    Restart { host: usize, lasts: Time },
    /// A process stops, and goes on later.
    Pause { host: usize, lasts: Time },
    /// A host reads one packet in 20 ms.
    Slow { host: usize, lasts: Time },
    /// A shard of ours does nothing.
    Sleep {
        host: usize,
        owner: u16,
        lasts: Time,
    },
    /// The clock that stamps updates is set.
    Clock { host: usize, seconds: i64 },
    /// Somebody with another one's id shows up, at an address that nobody knows.
    Impostor { id: i32, lasts: Time },
    /// An operator asks one of ours for a sync.
    Ask { host: usize },
}

/// A rule that one of our nodes breaks on purpose, to see that somebody notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Says that it is synced whatever it is.
    Boasts,
    /// A shard never hears of a hold, and says that it holds.
    DoesNotHold,
    /// A replica takes a chunk and forgets it.
    LosesChunk,
    /// A replica forgets a live packet.
    LosesPacket,
    /// The order to release never comes to one shard.
    NeverReleases,
    /// One more record is removed at the end of a sync.
    RemovesTooMuch,
    /// One update is sent twice.
    RepeatsStamp,
    /// PONGs are not sent.
    IsSilent,
    /// It ends each sync early, as if all had come.
    Hurries,
    /// It never gives its records, though it says that it is synced.
    GivesNothing,
    /// It never answers who asks what it has.
    NeverReplies,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 2);
        let weather = match (dice.below(10), seed % TAKEOVER_EVERY) {
            (_, TAKEOVER) => Weather::Takeover,
            (0, _) => Weather::Fair,
            (1..=5, _) => Weather::OursSuffer,
            _ => Weather::Storm,
        };
        let timers = Timers {
            ping_interval: Duration::from_secs(dice.within(1, 5)),
            ping_timeout: Duration::from_millis(dice.pick(&[250, 500, 1000])),
            node_timeout: Duration::from_secs(dice.pick(&[5, 10, 20])),
            seed_fallback: Duration::from_secs(dice.within(2, 6)),
            sync_timeout: Duration::from_secs(dice.within(3, 11)),
        };
        let limits = SyncLimits {
            hold_bytes: dice.pick(&[2_000, 64 << 10, 64 << 20]),
            packet_len: dice.pick(&[600, 4_000, 32_768]),
            retry_min: Duration::from_secs(dice.within(1, 4)),
            donate_min: Duration::from_millis(dice.pick(&[100, 1000])),
        };
        let mut plan = Self {
            seed,
            weather,
            timers,
            limits,
            retries: i32::try_from(dice.below(4)).expect("few"),
            capabilities: vec!["cachedb-local-repl".to_owned()],
            nodes: nodes(&mut dice, weather),
            faults: Vec::new(),
            padding: dice.pick(&[5, 60, 300]),
            write_gap: dice.pick(&[50, 100, 300]) * MS,
            calm: 0,
            donors_die: 0,
            mutation: None,
        };
        if dice.one_in(4) {
            plan.capabilities.push("x-notes".to_owned());
        }
        if weather == Weather::Takeover {
            plan.take_over(&mut dice);
        } else {
            plan.add_faults(&mut dice);
        }
        plan
    }

    /// The bound of the protocol: how long it may take until all that can see each other do (BIN.md C.5), and what our
    /// network adds to that.
    pub(super) fn convergence(&self) -> Time {
        let timers = self.timers;
        let retries = u32::try_from(self.retries).expect("not negative");
        let bound =
            timers.node_timeout + timers.ping_interval + (retries + 2) * timers.ping_timeout;
        nanos(bound) + nanos(timers.ping_timeout) + 8 * SECOND
    }

    /// When everything has to be as it should.
    pub(super) fn end(&self) -> Time {
        let timers = self.timers;
        let attempts = 4 * (timers.sync_timeout + self.limits.retry_min);
        self.calm + self.convergence() + nanos(timers.seed_fallback + attempts) + 10 * SECOND
    }

    fn add_faults(&mut self, dice: &mut Dice) {
        self.calm = BEGIN + 25 * SECOND;
        if self.weather == Weather::Fair {
            return;
        }
        if dice.one_in(3) {
            self.donors_die = dice.within(1, 3);
        }
        for _ in 0..dice.within(1, 9) {
            let at = BEGIN + dice.within(SECOND, 60 * SECOND);
            self.add_fault(dice, at);
        }
        self.faults.sort_by_key(|(at, _)| *at);
        let ends = self.faults.iter().map(|(at, fault)| at + fault.lasts());
        self.calm = ends.max().unwrap_or(0).max(self.calm);
    }

    fn add_fault(&mut self, dice: &mut Dice, at: Time) {
        let ours: Vec<usize> = self.hosts(|node| node.is_ours);
        let all = self.hosts(|_| true);
        let storm = self.weather == Weather::Storm;
        let host = dice.pick(if storm { &all } else { &ours });
        let other = dice.pick(&all);
        let lasts = dice.pick(&[300 * MS, 2 * SECOND, 7 * SECOND, 25 * SECOND]);
        let fault = match dice.below(11) {
            0 | 1 => return self.partition(dice, at, lasts),
            2 if other != host => Fault::Cut {
                from: host,
                to: other,
                lasts,
            },
            3 if other != host => Fault::Cut {
                from: other,
                to: host,
                lasts,
            },
            4 if other != host => Fault::Reset {
                from: host,
                to: other,
            },
            5 if other != host => Fault::Reset {
                from: other,
                to: host,
            },
            6 => Fault::Restart { host, lasts },
            7 => Fault::Pause { host, lasts },
            8 => Fault::Slow { host, lasts },
            9 => Fault::Clock {
                host,
                seconds: dice.pick(&[-YEAR, -HOUR, HOUR, YEAR]),
            },
            // Who is to be learned is whoever says so first: nobody could tell the two apart.
            10 if dice.one_in(3) && !self.nodes[other].is_learned => Fault::Impostor {
                id: self.nodes[other].id,
                lasts,
            },
            10 if dice.one_in(2) => Fault::Ask {
                host: dice.pick(&ours),
            },
            _ => {
                let host = dice.pick(&ours);
                let owners = u64::from(self.nodes[host].owners);
                let owner = u16::try_from(dice.below(owners)).expect("few");
                Fault::Sleep { host, owner, lasts }
            }
        };
        self.faults.push((at, fault));
    }

    /// Two halves that do not see each other; where genuine nodes are spared, they are all in one.
    fn partition(&mut self, dice: &mut Dice, at: Time, lasts: Time) {
        let spared = self.weather != Weather::Storm;
        let sides = self.nodes.iter().map(|node| {
            let side = dice.one_in(2);
            side && (node.is_ours || !spared)
        });
        let sides: Vec<bool> = sides.collect();
        for from in 0..sides.len() {
            for to in 0..sides.len() {
                if sides[from] != sides[to] {
                    self.faults.push((at, Fault::Cut { from, to, lasts }));
                }
            }
        }
    }

    fn hosts(&self, matches: impl Fn(&NodePlan) -> bool) -> Vec<usize> {
        let hosts = 0..self.nodes.len();
        hosts.filter(|host| matches(&self.nodes[*host])).collect()
    }
}

impl Fault {
    pub(super) const fn lasts(self) -> Time {
        match self {
            Self::Cut { lasts, .. }
            | Self::Restart { lasts, .. }
            | Self::Pause { lasts, .. }
            | Self::Slow { lasts, .. }
            | Self::Sleep { lasts, .. }
            | Self::Impostor { lasts, .. } => lasts,
            Self::Reset { .. } | Self::Clock { .. } | Self::Ask { .. } => 0,
        }
    }
}

/// Who is there: at least one of ours and, but for a few seeds, one genuine node.
fn nodes(dice: &mut Dice, weather: Weather) -> Vec<NodePlan> {
    let count = dice.within(2, 8);
    let genuine = if dice.one_in(20) {
        0
    } else {
        dice.within(1, count)
    };
    let old = dice.pick(&[Release::V2_4, Release::V3_0, Release::V3_1, Release::V3_2]);
    let new = dice.pick(&[Release::V3_6, Release::V4_0]);
    // Genuine nodes of 3.1 and 3.2 do not understand each other: that is not ours to solve.
    let releases = if dice.one_in(2) {
        [old, old]
    } else {
        [new, Release::V3_6]
    };
    let several_releases = weather == Weather::Storm && dice.one_in(4);
    let told = dice.one_in(2);
    let mut ids: Vec<i32> = (1..20).collect();
    let mut nodes = Vec::new();
    for host in 0..count {
        let id = ids.remove(dice.index(ids.len()));
        let is_ours = host >= genuine;
        let is_late = is_ours && dice.one_in(4);
        let mixed = if several_releases {
            [old, new]
        } else {
            releases
        };
        nodes.push(NodePlan {
            id,
            is_ours,
            release: if is_ours {
                Release::V3_6
            } else {
                dice.pick(&mixed)
            },
            is_seed: host == 0 || (weather == Weather::Storm && dice.one_in(3)),
            owners: u16::try_from(dice.within(1, 4)).expect("few"),
            starts: BEGIN
                + if is_late {
                    dice.within(5, 30) * SECOND
                } else {
                    dice.below(2 * SECOND)
                },
            is_learned: is_ours && host > 0 && dice.one_in(5),
            releases_told: told,
            epoch: 1_700_000_000 + i64::try_from(dice.below(100)).expect("few"),
        });
    }
    nodes
}

pub(super) fn nanos(duration: Duration) -> Time {
    Time::try_from(duration.as_nanos()).expect("a timer of some minutes")
}

/// Of so many seeds, one is a takeover.
pub(super) const TAKEOVER_EVERY: u64 = 16;
pub(super) const TAKEOVER: u64 = 11;

/// Long after the time 0 at which nothing was heard and nothing sent.
pub(super) const BEGIN: Time = 1000 * SECOND;

/// A donor that may still owe the answer to an earlier request is waited for, where there is no other one.
pub(super) const DOUBT: Time = 140 * SECOND;

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;
