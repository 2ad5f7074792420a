//! A plan, played to its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::dice::Dice;
use super::genuine::{Dump, Genuine, Settings};
use super::network::{MS, NEVER, Network, News, SECOND, Time};
use super::ours::{Milestone, Ours};
use super::plan::{BEGIN, DOUBT, Fault, Plan, Weather};
use super::record::{Change, Records};
use super::speech::Said;
use takeover::Heritage;

/// What is found when everything should be well.
mod judge;
/// What outlives the genuine nodes.
mod takeover;

/// What became of a plan.
#[derive(Debug)]
pub(super) struct Run {
    /// How often each situation was met.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// The rule that was broken, if one was; nothing happened after that.
    pub(super) broken: Option<String>,
    /// What happened last, where that was asked for.
    pub(super) log: VecDeque<String>,
    /// Two runs with the same one are the same.
    pub(super) digest: u64,
}

/// A cluster under way.
struct Play<'p> {
    plan: &'p Plan,
    now: Time,
    network: Network,
    hosts: Vec<Host>,
    /// What the records really are, by capability.
    truth: BTreeMap<String, BTreeMap<String, Truth>>,
    /// Names of those that live, by capability and origin.
    living: BTreeMap<(String, usize), Vec<String>>,
    versions: u64,
    next_write: Time,
    /// Genuine nodes are ready, and see each other.
    is_warm: bool,
    due: BTreeMap<(Time, u64), Due>,
    dues: u64,
    /// What a donor had when it was asked last, and has after each sync of its own: donor, receiver, capability.
    dumps: BTreeMap<(i32, i32, String), Records>,
    /// Records that a sync may leave wrong until the next packet about them: host, capability, name. See
    /// [`simulation`](super).
    contested: BTreeSet<(usize, String, String)>,
    deaths_left: u64,
    /// What every standby had when the genuine nodes came back, by capability.
    heritage: Option<Heritage>,
    dice: Dice,
    counts: BTreeMap<&'static str, u64>,
    log: Option<VecDeque<String>>,
    digest: u64,
}

struct Host {
    node: Node,
    paused: bool,
    /// How often it was started.
    life: u64,
}

enum Node {
    Off,
    Genuine(Box<Genuine>),
    Ours(Box<Ours>),
}

/// A record as its origin has it.
#[derive(Debug, Clone, Copy)]
struct Truth {
    version: u64,
    is_live: bool,
    /// When that was written.
    at: Time,
}

/// Something that is to happen.
#[derive(Debug, Clone, Copy)]
enum Due {
    Start(usize),
    Fault(Fault),
    Open {
        from: usize,
        to: usize,
    },
    Resume {
        host: usize,
        life: u64,
    },
    Hurry {
        host: usize,
    },
    Vanish {
        host: usize,
    },
    /// Links have to have converged.
    Converged,
}

/// Plays `plan`; `told` writes down what happens, for people.
pub(super) fn play(plan: &Plan, told: bool) -> Run {
    let mut play = Play::new(plan, told);
    let broken = play.run().err();
    for host in 0..play.hosts.len() {
        play.take_counts(host);
    }
    play.count_by("packets lost with a connection", play.network.lost);
    Run {
        counts: play.counts,
        broken: broken.map(|broken| format!("at {:.3} s: {broken}", seconds(play.now))),
        log: play.log.unwrap_or_default(),
        digest: play.digest,
    }
}

impl<'p> Play<'p> {
    fn new(plan: &'p Plan, told: bool) -> Self {
        // One more host, for somebody who claims to be somebody else.
        let count = plan.nodes.len() + 1;
        let off = || Host {
            node: Node::Off,
            paused: false,
            life: 0,
        };
        let mut play = Self {
            plan,
            now: BEGIN,
            network: Network::new(count, plan.seed),
            hosts: (0..count).map(|_| off()).collect(),
            truth: BTreeMap::new(),
            living: BTreeMap::new(),
            versions: 0,
            next_write: BEGIN + 5 * SECOND,
            is_warm: plan.weather == Weather::Storm,
            due: BTreeMap::new(),
            dues: 0,
            dumps: BTreeMap::new(),
            contested: BTreeSet::new(),
            deaths_left: plan.donors_die,
            heritage: None,
            dice: Dice::new(plan.seed, 3),
            counts: BTreeMap::new(),
            log: told.then(VecDeque::new),
            digest: 0,
        };
        for (host, node) in plan.nodes.iter().enumerate() {
            play.plan_due(node.starts, Due::Start(host));
        }
        for (at, fault) in &plan.faults {
            play.plan_due(*at, Due::Fault(*fault));
        }
        play.plan_due(plan.calm + plan.convergence(), Due::Converged);
        play
    }

    fn run(&mut self) -> Result<(), String> {
        let mut end = self.plan.end();
        loop {
            let next = self.next();
            if next > end && end == self.plan.end() && self.is_waited_for() {
                end += DOUBT;
            }
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.step()?;
        }
        self.now = end;
        self.judge_end()
    }

    /// When something happens next.
    fn next(&self) -> Time {
        let due = self.due.first_key_value().map_or(NEVER, |((at, _), _)| *at);
        let hosts = self.hosts.iter().map(Host::wake).min().unwrap_or(NEVER);
        due.min(hosts).min(self.network.next()).min(self.next_write)
    }

    /// Everything that is due at this moment, once.
    fn step(&mut self) -> Result<(), String> {
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let due = entry.remove();
            self.happen(due)?;
        }
        if self.network.next() <= self.now {
            for news in self.network.turn(self.now) {
                self.tell(news)?;
            }
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].wake() <= self.now {
                let Host { node, .. } = &mut self.hosts[host];
                match node {
                    Node::Genuine(node) => node.tick(self.now, &mut self.network),
                    Node::Ours(node) => node.turn(self.now, &mut self.network)?,
                    Node::Off => {}
                }
                self.look_at(host)?;
            }
        }
        if self.next_write <= self.now {
            self.write();
        }
        Ok(())
    }

    fn tell(&mut self, news: News) -> Result<(), String> {
        match news {
            News::Arrival {
                from,
                to,
                connection,
                backward,
                packet,
            } => {
                self.note_arrival(from, to, &packet);
                let way = (from, connection, backward);
                match &mut self.hosts[to].node {
                    Node::Genuine(node) => node.arrive(self.now, way, &packet, &mut self.network),
                    Node::Ours(node) => node.arrive(self.now, way, &packet, &mut self.network)?,
                    Node::Off => return Ok(()),
                }
                self.look_at(to)
            }
            News::Broken { from, to, was_open } => {
                self.note(|| format!("the connection of {from} to {to} is no more"));
                match &mut self.hosts[from].node {
                    Node::Genuine(node) if was_open => node.broken(self.now, to),
                    Node::Genuine(_) => {}
                    Node::Ours(node) => node.broken(to),
                    Node::Off => {}
                }
                Ok(())
            }
        }
    }

    fn happen(&mut self, due: Due) -> Result<(), String> {
        match due {
            Due::Start(host) => self.start(host),
            Due::Fault(fault) => return self.strike(fault),
            Due::Open { from, to } => {
                self.note(|| format!("the way from {from} to {to} is open again"));
                self.network.block(self.now, from, to, false);
            }
            Due::Resume { host, life } => {
                if self.hosts[host].life == life && self.hosts[host].paused {
                    self.note(|| format!("host {host} goes on"));
                    self.hosts[host].paused = false;
                    self.network.stop(self.now, host, false);
                }
            }
            Due::Hurry { host } => self.network.slow_down(self.now, host, 0),
            Due::Vanish { host } => self.end_life(host),
            Due::Converged => return self.judge_links(),
        }
        Ok(())
    }

    fn start(&mut self, host: usize) {
        if !matches!(self.hosts[host].node, Node::Off) {
            return;
        }
        self.look_at_heritage(host);
        let node = &self.plan.nodes[host];
        self.note(|| format!("host {host} starts as {node:?}"));
        self.hosts[host].life += 1;
        let life = self.hosts[host].life;
        self.network.power(self.now, host, true);
        self.hosts[host].node = if node.is_ours {
            let ours = Ours::new(self.now, self.plan, host, life, &mut self.network);
            Node::Ours(Box::new(ours))
        } else {
            let settings = settings(self.plan, host);
            Node::Genuine(Box::new(Genuine::new(self.now, settings)))
        };
    }

    fn end_life(&mut self, host: usize) {
        self.take_counts(host);
        self.note(|| format!("host {host} dies"));
        self.hosts[host].node = Node::Off;
        self.hosts[host].paused = false;
        self.network.power(self.now, host, false);
        self.contested.retain(|(at, ..)| *at != host);
    }

    fn strike(&mut self, fault: Fault) -> Result<(), String> {
        self.note(|| format!("{fault:?}"));
        let until = self.now + fault.lasts();
        let is_off = |play: &Self, host: usize| matches!(play.hosts[host].node, Node::Off);
        match fault {
            Fault::Cut { from, to, .. } => {
                self.count("way cut");
                self.network.block(self.now, from, to, true);
                self.plan_due(until, Due::Open { from, to });
            }
            Fault::Reset { from, to } => {
                if self.network.reset(self.now, from, to) {
                    self.count("connection reset");
                }
            }
            Fault::Restart { host, .. } if !is_off(self, host) => {
                self.count("restart");
                self.end_life(host);
                self.plan_due(until, Due::Start(host));
            }
            Fault::Pause { host, .. } if !is_off(self, host) && !self.hosts[host].paused => {
                self.count("pause");
                self.hosts[host].paused = true;
                self.network.stop(self.now, host, true);
                let life = self.hosts[host].life;
                self.plan_due(until, Due::Resume { host, life });
            }
            Fault::Slow { host, .. } if !is_off(self, host) => {
                self.count("slow reader");
                self.network.slow_down(self.now, host, 20 * MS);
                self.plan_due(until, Due::Hurry { host });
            }
            Fault::Impostor { id, .. } => self.deceive(id, until),
            Fault::Sleep { host, owner, .. } => {
                if let Node::Ours(node) = &mut self.hosts[host].node {
                    node.sleep(owner, until);
                    self.count("sleeping shard");
                }
            }
            Fault::Clock { host, seconds } => {
                self.count("clock step");
                match &mut self.hosts[host].node {
                    Node::Ours(node) => node.set_clock(seconds),
                    Node::Genuine(node) => node.set_clock(seconds),
                    Node::Off => {}
                }
            }
            Fault::Ask { host } => {
                if let Node::Ours(node) = &mut self.hosts[host].node {
                    let capability = self.plan.capabilities[0].clone();
                    node.ask(self.now, &capability, &mut self.network)?;
                    self.count("asked for a sync");
                }
                return self.look_at(host);
            }
            Fault::Restart { .. } | Fault::Pause { .. } | Fault::Slow { .. } => {}
        }
        Ok(())
    }

    /// Somebody at an unknown address takes the id of a node.
    fn deceive(&mut self, id: i32, until: Time) {
        let host = self.plan.nodes.len();
        if !matches!(self.hosts[host].node, Node::Off) {
            return;
        }
        let original = self.plan.nodes.iter().position(|node| node.id == id);
        let settings = Settings {
            host,
            neighbours: others(self.plan, original.expect("a node's id")),
            ..settings(self.plan, original.expect("a node's id"))
        };
        self.count("duplicate id");
        self.hosts[host].life += 1;
        self.network.power(self.now, host, true);
        self.hosts[host].node = Node::Genuine(Box::new(Genuine::new(self.now, settings)));
        self.plan_due(until, Due::Vanish { host });
    }

    /// Takes what a node has to say to the world.
    fn look_at(&mut self, host: usize) -> Result<(), String> {
        let is_impostor = host >= self.plan.nodes.len();
        match &mut self.hosts[host].node {
            Node::Ours(node) => {
                let (id, milestones) = (node.id, std::mem::take(&mut node.milestones));
                for (capability, change) in std::mem::take(&mut node.heard) {
                    let about = (host, capability, change.name);
                    let (_, capability, name) = &about;
                    let truth = self.truth.get(capability).and_then(|all| all.get(name));
                    let newest = truth.and_then(|truth| truth.newest());
                    // What came another way, and is older, may still wait.
                    let is_last = || {
                        let mut waiting = node.waiting_changes(capability).into_iter();
                        waiting.all(|other| other.name != *name || other.version == newest)
                    };
                    if self.contested.contains(&about) && change.version == newest && is_last() {
                        self.contested.remove(&about);
                    }
                }
                let spared = std::mem::take(&mut node.spared);
                for (capability, name) in spared {
                    self.count("not confirmed, and spared");
                    self.contested.insert((host, capability, name));
                }
                for milestone in milestones {
                    match milestone {
                        Milestone::Asked(dump) => self.note_dump(id, host, dump),
                        Milestone::Verified { capability, donor } => {
                            self.judge_verified(host, &capability, donor)?;
                        }
                    }
                }
            }
            Node::Genuine(node) if !is_impostor => {
                let id = node.id();
                let dumps = std::mem::take(&mut node.dumps);
                let finished = std::mem::take(&mut node.finished);
                for dump in dumps {
                    self.count("genuine node donates");
                    self.note_dump(id, host, dump);
                }
                for (donor, capability) in finished {
                    self.count("genuine node is synced");
                    self.judge_genuine_sync(host, donor, &capability)?;
                }
            }
            Node::Genuine(_) | Node::Off => {}
        }
        Ok(())
    }

    fn note_dump(&mut self, donor: i32, host: usize, dump: Dump) {
        let Dump {
            to,
            capability,
            records,
        } = dump;
        self.note(|| {
            format!(
                "{donor} is asked by {to} for {} of {capability}",
                records.len()
            )
        });
        let Some(receiver) = self.plan.nodes.iter().position(|node| node.id == to) else {
            return;
        };
        // Where genuine nodes are spared they are late by less than we wait before we ask.
        let donor_is_genuine =
            self.plan.weather != Weather::Storm && !self.plan.nodes[host].is_ours;
        let truth = self.truth.get(&capability);
        let newest = |name: &String| truth?.get(name)?.newest();
        let waiting = match &self.hosts[receiver].node {
            Node::Ours(node) => node.waiting_changes(&capability),
            _ => Vec::new(),
        };
        let late = waiting.into_iter();
        let late = late.filter(|change| change.version != newest(&change.name));
        let mut contested: Vec<String> = late.map(|change| change.name).collect();
        let all = truth.into_iter().flatten();
        // What is newer than that came here when it was held back.
        let is_old = |truth: &Truth| self.now.saturating_sub(truth.at) >= SETTLES;
        let unknown = all.filter(|(_, truth)| !donor_is_genuine && is_old(truth));
        let unknown = unknown.filter(|(name, truth)| records.get(*name) != truth.newest().as_ref());
        contested.extend(unknown.map(|(name, _)| name.clone()));
        for name in contested {
            self.contested.insert((receiver, capability.clone(), name));
        }
        self.dumps.insert((donor, to, capability), records);
        self.kill_donor(host, receiver);
    }

    /// Donors do not live long.
    fn kill_donor(&mut self, donor: usize, receiver: usize) {
        let in_time = self.now + 26 * SECOND < self.plan.calm;
        let spared = self.plan.weather != Weather::Storm && !self.plan.nodes[donor].is_ours;
        // Where genuine nodes are spared they lose nothing that they tell each other.
        let is_among_spared = spared && !self.plan.nodes[receiver].is_ours;
        if self.deaths_left == 0 || !in_time || is_among_spared {
            return;
        }
        self.deaths_left -= 1;
        self.count("donor dies in the middle");
        let lasts = self.dice.pick(&[SECOND, 12 * SECOND]);
        let fault = match self.dice.below(3) {
            0 if !spared => Fault::Restart { host: donor, lasts },
            1 if !spared => Fault::Pause { host: donor, lasts },
            _ => Fault::Reset {
                from: donor,
                to: receiver,
            },
        };
        let at = self.now + self.dice.within(MS / 10, 12 * MS);
        self.plan_due(at, Due::Fault(fault));
    }

    /// Something changes at its origin.
    fn write(&mut self) {
        self.next_write = self.now
            + self
                .dice
                .within(self.plan.write_gap / 2, self.plan.write_gap);
        if self.now > self.plan.calm + self.plan.convergence() {
            self.next_write = NEVER;
            return;
        }
        self.is_warm = self.is_warm || self.genuine_are_warm();
        let origins = self.hosts.iter().enumerate().take(self.plan.nodes.len());
        let origins =
            origins.filter(|(_, host)| matches!(host.node, Node::Genuine(_)) && !host.paused);
        let origins: Vec<usize> = origins.map(|(at, _)| at).collect();
        if origins.is_empty() || !self.is_warm {
            return;
        }
        let origin = self.dice.pick(&origins);
        let capability = &self.plan.capabilities[self.dice.index(self.plan.capabilities.len())];
        let change = self.draw_change(capability, origin);
        let padding = self.plan.padding;
        if let Node::Genuine(node) = &mut self.hosts[origin].node {
            node.write(self.now, capability, &change, padding, &mut self.network);
        }
    }

    fn draw_change(&mut self, capability: &str, origin: usize) -> Change {
        let own = self
            .living
            .entry((capability.to_owned(), origin))
            .or_default();
        self.versions += 1;
        let version = self.versions;
        let is_new = own.is_empty() || (own.len() < RECORDS_MAX && self.dice.one_in(2));
        let is_live = is_new || !self.dice.one_in(3);
        if is_new {
            // A name is never used again: who has it not, and should, has lost it.
            own.push(format!("{origin}-{version}"));
        }
        let at = if is_new {
            own.len() - 1
        } else {
            self.dice.index(own.len())
        };
        let name = if is_live {
            own[at].clone()
        } else {
            own.swap_remove(at)
        };
        let truth = Truth {
            version,
            is_live,
            at: self.now,
        };
        let all = self.truth.entry(capability.to_owned()).or_default();
        all.insert(name.clone(), truth);
        Change {
            name,
            version: is_live.then_some(version),
        }
    }

    fn genuine_are_warm(&self) -> bool {
        let genuine = self.hosts.iter().filter_map(|host| match &host.node {
            Node::Genuine(node) => Some(node),
            _ => None,
        });
        let genuine: Vec<_> = genuine.collect();
        let wanted = self.plan.nodes.iter().filter(|node| !node.is_ours).count();
        let ready = |node: &Genuine| {
            let own = self.plan.capabilities.iter();
            own.filter_map(|name| node.own(name)).all(|own| own.is_ok)
        };
        let sees_all = |node: &Genuine| {
            let others = genuine.iter().filter(|other| other.id() != node.id());
            others.clone().all(|other| node.sees(other.id()))
        };
        genuine.len() == wanted && genuine.iter().all(|node| ready(node) && sees_all(node))
    }

    fn plan_due(&mut self, at: Time, due: Due) {
        self.dues += 1;
        self.due.insert((at, self.dues), due);
    }

    fn count(&mut self, what: &'static str) {
        self.count_by(what, 1);
    }

    fn count_by(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    fn take_counts(&mut self, host: usize) {
        if let Node::Ours(node) = &mut self.hosts[host].node {
            for (what, count) in std::mem::take(&mut node.counts) {
                self.count_by(what, count);
            }
        }
    }

    fn note_arrival(&mut self, from: usize, to: usize, packet: &[u8]) {
        let head = [self.now, from as u64, to as u64, packet.len() as u64];
        for word in head {
            self.digest = (self.digest ^ word)
                .wrapping_mul(0x0100_0000_01B3)
                .rotate_left(23);
        }
        self.count("packets");
        if self.log.is_some() {
            let release = self
                .plan
                .nodes
                .get(to)
                .map_or(binrush_wire::Release::V3_6, |node| node.release);
            let said = Said::read_any(release, packet);
            let brief = said.map_or_else(|| Some("?".to_owned()), |said| said.word.brief());
            if let Some(brief) = brief {
                self.note(|| format!("{from} ─▶ {to}: {brief:.300}"));
            }
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(format!("{:10.4} {}", seconds(self.now), what()));
        }
    }
}

impl Truth {
    /// The version that a copy should have; `None`: it is gone.
    fn newest(self) -> Option<u64> {
        self.is_live.then_some(self.version)
    }
}

impl Host {
    fn wake(&self) -> Time {
        match &self.node {
            _ if self.paused => NEVER,
            Node::Genuine(node) => node.wake(),
            Node::Ours(node) => node.wake(),
            Node::Off => NEVER,
        }
    }
}

fn settings(plan: &Plan, host: usize) -> Settings {
    let node = &plan.nodes[host];
    Settings {
        id: node.id,
        host,
        release: node.release,
        is_seed: node.is_seed,
        timers: plan.timers,
        retries: plan.retries,
        capabilities: plan.capabilities.clone(),
        neighbours: others(plan, host),
        epoch: node.epoch,
    }
}

/// Whom a node knows from the start.
fn others(plan: &Plan, host: usize) -> Vec<(i32, usize)> {
    let nodes = plan.nodes.iter().enumerate();
    let others = nodes.filter(|(at, node)| *at != host && !node.is_learned);
    others.map(|(at, node)| (node.id, at)).collect()
}

fn seconds(at: Time) -> f64 {
    (at.saturating_sub(BEGIN) / 1000) as f64 / 1e6
}

/// How long a donor is not asked yet when all shards hold back live packets.
const SETTLES: Time = 200 * MS;

/// Records that one origin has of one capability.
const RECORDS_MAX: usize = 40;

/// What is shown of a run that went wrong.
const LOG_LINES: usize = 300;
