//! A drill while it goes on: one step after the other, each bounded in time, and all of it gone when it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::callers::Callers;
use super::catalog::{Drill, Needs, Step, Who};
use super::node::{Node, millis};
use super::score::{Event, NodeScore, Rule, Score};
use super::site::Site;
use super::traffic::{Dice, Size};
use super::watch::Watch;
use crate::text::counted;

/// What is on the disk, and disks that fail.
mod disk;
/// The look at what is there.
mod end;
/// Syncs, waited for and hit.
mod syncs;
/// Ways between hosts.
mod ways;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) seed: u64,
    pub(super) is_small: bool,
    pub(super) on_loopback: bool,
    pub(super) size: Size,
    /// Changes a second.
    pub(super) rate: u32,
}

/// What is there while a drill goes on. Fields are dropped in this order: who asks first, then who is asked, then where they are.
pub(super) struct Stage<'a> {
    terms: Terms,
    stop: &'a AtomicBool,
    begin: Instant,
    watch: Watch,
    nodes: BTreeMap<Who, Node>,
    callers: Arc<Callers>,
    site: Arc<Site>,
    dice: Dice,
    /// Syncs of each capability that a node had completed when it was hurt last.
    completed: BTreeMap<Who, [u64; 2]>,
    killed: Option<Who>,
    /// Nodes that run as they were started first: all that they are told reaches them.
    unhurt: BTreeSet<Who>,
    /// Records that the next start of the engine has to find.
    on_disk: Option<u64>,
    score: Score,
}

impl<'a> Stage<'a> {
    /// Sets it up.
    ///
    /// # Errors
    /// What could not be made.
    pub(super) fn new(drill: &Drill, terms: Terms, stop: &'a AtomicBool) -> anyhow::Result<Self> {
        let disk = (drill.needs == Needs::Disk).then_some(DISK_BYTES);
        let least = if terms.is_small {
            drill.least / 4
        } else {
            drill.least
        };
        let size = Size {
            contacts: terms.size.contacts.max(least),
            dialogs: terms.size.dialogs.max(least),
        };
        let site = Arc::new(Site::new(drill.name, terms.on_loopback, disk)?);
        let callers = Arc::new(Callers::start(&site, terms.seed, size)?);
        let score = Score {
            drill: drill.name.to_owned(),
            title: drill.title.to_owned(),
            seed: terms.seed,
            form: if terms.is_small { "small" } else { "full" },
            site: site.words().to_owned(),
            ..Score::default()
        };
        Ok(Self {
            terms,
            stop,
            begin: Instant::now(),
            watch: Watch::start(&callers)?,
            nodes: BTreeMap::new(),
            callers,
            site,
            dice: Dice(terms.seed ^ 0x5eed),
            completed: BTreeMap::new(),
            killed: None,
            unhurt: BTreeSet::new(),
            on_disk: None,
            score,
        })
    }

    /// Carries it out. What came out is told also where it could not go on: then with the reason.
    pub(super) fn run(mut self, drill: &Drill) -> Score {
        let ran = drill.steps.iter().try_for_each(|step| self.step(*step));
        let ended = ran.and_then(|()| self.end());
        self.score.took_ms = millis(self.begin.elapsed());
        match ended {
            Ok(()) => self.score.judge(),
            Err(error) => self.score.why = Some(format!("{error:#}")),
        }
        self.score
    }

    fn step(&mut self, step: Step) -> anyhow::Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), INTERRUPTED);
        match step {
            Step::Start(who) => self.start(who, &[]),
            Step::StartWithBrokenSync(who) => self.start_broken(who),
            Step::Verified(who) => self.verified(who),
            Step::Resynced(who) => self.resynced(who),
            Step::Fill => self.fill(),
            Step::Load => {
                self.say(format!("{} changes a second from here on", self.terms.rate));
                self.callers.set_rate(self.terms.rate);
                Ok(())
            }
            Step::Pass { full_ms, small_ms } => {
                let ms = if self.terms.is_small {
                    small_ms
                } else {
                    full_ms
                };
                self.pass(Duration::from_millis(ms))
            }
            Step::Careful => {
                self.callers.set_careful(self.terms.is_small);
                Ok(())
            }
            Step::Clock(seconds) => {
                self.say(format!(
                    "the callers' clock is {seconds} s beside the right one"
                ));
                self.callers.set_skew(seconds);
                Ok(())
            }
            Step::Kill(who) => self.kill(who),
            Step::KillDonor { to } => self.kill_donor(to),
            Step::StartKilled => {
                let who = self.killed.take().context("nobody was killed")?;
                self.start(who, &[])
            }
            Step::KillInSync(who) => self.in_sync(who, "killed").and_then(|()| self.kill(who)),
            Step::FreezeInSync(who) => self.in_sync(who, "stopped").and_then(|()| self.freeze(who)),
            Step::Freeze(who) => self.freeze(who),
            Step::Thaw(who) => self.thaw(who),
            Step::Pull(who) => {
                self.hurt(who, "its cable is pulled");
                self.site.pull(who)
            }
            Step::Plug(who) => {
                self.say(format!("{}: its cable is back", who.name()));
                self.site.plug(who)
            }
            Step::Lose(from, to) => self.lose(from, to),
            Step::Find(from, to) => self.find(from, to),
            Step::Swizzle(ways) => self.swizzle(ways),
            Step::Down { at, of } => self.down(at, of),
            Step::KillAndRead => self.kill_and_read(),
            Step::FillDisk => {
                self.say("the disk is full".to_owned());
                self.site.fill_disk()
            }
            Step::FreeDisk => {
                self.say("the disk has room again".to_owned());
                self.site.free_disk()
            }
            Step::Alarm(is_expected) => self.alarm(is_expected),
            Step::Serves => self.serves(),
            Step::StopAndRead => self.stop_and_read(),
            Step::Given { by, to } => self.given(by, to),
            Step::Settle => self.settle(),
        }
    }

    fn start(&mut self, who: Who, under: &[&str]) -> anyhow::Result<()> {
        let node = Node::start(&self.site, who, under)?;
        self.say(format!(
            "{} started, ready after {} ms",
            who.name(),
            node.ready_ms
        ));
        self.watch.set_apart(who, true);
        self.watch.set_control(who, Some(node.control()));
        self.completed.insert(who, [0, 0]);
        if self.score.nodes.iter().all(|node| node.node != who.name()) {
            self.unhurt.insert(who);
        }
        let of_node = self.node_score(who);
        of_node.ready_ms = Some(node.ready_ms);
        (of_node.first_sync_ms, of_node.verified_ms) = (None, None);
        if who == Who::Engine
            && let Some(left) = self.on_disk.take()
        {
            let found = node.recovered.unwrap_or_default();
            self.rule(
                "the next start finds what was on the disk",
                found == left,
                format!("{left} there, {found} found"),
            );
        }
        self.nodes.insert(who, node);
        Ok(())
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let begun: Vec<Who> = self.nodes.keys().copied().collect();
        self.wait("the callers to hear all nodes", |stage| {
            begun.iter().all(|who| stage.callers.hears(*who))
        })?;
        self.callers.fill();
        let records = self.callers.model().len() as u64;
        self.say(format!("{} told", counted(records, "record")));
        Ok(())
    }

    fn kill(&mut self, who: Who) -> anyhow::Result<()> {
        self.watch.set_control(who, None);
        self.unhurt.remove(&who);
        let node = self.nodes.remove(&who).context("it does not run")?;
        node.kill();
        self.killed = Some(who);
        self.say(format!("{} killed by SIGKILL", who.name()));
        Ok(())
    }

    fn freeze(&mut self, who: Who) -> anyhow::Result<()> {
        self.hurt(who, "stands still (SIGSTOP)");
        self.watch.set_control(who, None);
        self.node_mut(who)?.freeze()
    }

    fn thaw(&mut self, who: Who) -> anyhow::Result<()> {
        let node = self.nodes.get_mut(&who).context("it does not run")?;
        node.thaw()?;
        self.watch.set_control(who, Some(node.control()));
        self.say(format!("{} goes on", who.name()));
        Ok(())
    }

    /// From here on nobody expects a fresh copy of it, until it has caught up.
    fn hurt(&mut self, who: Who, what: &str) {
        self.note_completed(who);
        self.unhurt.remove(&who);
        self.watch.set_apart(who, true);
        self.say(format!("{}: {what}", who.name()));
    }

    fn pass(&self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            ensure!(!self.stop.load(Ordering::Relaxed), INTERRUPTED);
            thread::sleep(POLL.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Waits until `done`.
    ///
    /// # Errors
    /// It took too long, with `what` was waited for; or somebody wants to end it.
    fn wait(&self, what: &str, done: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let limit = WAIT_MAX.as_secs();
        ensure!(
            self.wait_for(WAIT_MAX, done)?,
            "waited {limit} s for {what}"
        );
        Ok(())
    }

    /// Whether it came to that in time.
    fn wait_for(
        &self,
        time: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<bool> {
        let end = Instant::now() + time;
        while !done(self) {
            ensure!(!self.stop.load(Ordering::Relaxed), INTERRUPTED);
            if Instant::now() > end {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
        Ok(true)
    }

    fn node(&self, who: Who) -> anyhow::Result<&Node> {
        let node = self.nodes.get(&who);
        node.with_context(|| format!("the {} does not run", who.name()))
    }

    fn node_mut(&mut self, who: Who) -> anyhow::Result<&mut Node> {
        let node = self.nodes.get_mut(&who);
        node.with_context(|| format!("the {} does not run", who.name()))
    }

    fn node_score(&mut self, who: Who) -> &mut NodeScore {
        let nodes = &mut self.score.nodes;
        let at = nodes.iter().position(|node| node.node == who.name());
        let at = at.unwrap_or_else(|| {
            nodes.push(NodeScore {
                node: who.name(),
                ..NodeScore::default()
            });
            nodes.len() - 1
        });
        &mut nodes[at]
    }

    /// A rule that is looked at again is told as it was at the end, and broken once is broken.
    fn rule(&mut self, rule: &str, holds: bool, detail: String) {
        let known = self.score.rules.iter_mut().find(|known| known.rule == rule);
        match known {
            Some(known) if !known.holds => {}
            Some(known) => (known.holds, known.detail) = (holds, detail),
            None => self.score.rules.push(Rule {
                rule: rule.to_owned(),
                holds,
                detail,
            }),
        }
    }

    fn say(&mut self, text: String) {
        let at_ms = millis(self.begin.elapsed());
        self.score.events.push(Event { at_ms, text });
    }
}

pub(super) const INTERRUPTED: &str = "interrupted";

/// Far more than anything here takes, on a machine that does something else besides.
const WAIT_MAX: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// For the logs of a drill, and little more.
const DISK_BYTES: u64 = 12 << 20;
