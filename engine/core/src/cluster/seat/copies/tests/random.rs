//! Anything, in any order. What the [`Stage`] checks in every call is what is proven here; what a run did is counted, so that
//! none proves something about nothing.

use super::*;

/// What happened in all runs.
#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    completed: usize,
    abandoned: usize,
    suspected: usize,
    donated: usize,
    cut_short: usize,
    fallbacks: usize,
}

/// One run: a stage, and doors, gates, links and nodes that do what the dice say.
struct Run {
    stage: Stage,
    dice: Dice,
    /// Capabilities that had a record at some time: chunks that were applied, or a slice that had one.
    had_records: BTreeSet<String>,
}

const CONTACTS: &str = "usrloc-contact-repl";
const NAMES: [&str; 2] = [DIALOGS, CONTACTS];
const RELEASES: [Release; 5] = [
    Release::V2_4,
    Release::V3_0,
    Release::V3_2,
    Release::V3_6,
    Release::V4_0,
];

impl Run {
    fn new(seed: u64) -> Self {
        let mut stage = Stage::with(&[(DIALOGS, true), (CONTACTS, true)], 2, |_| ());
        let mut dice = Dice::new(seed);
        stage.nodes.seed = dice.draw().is_multiple_of(2);
        for (node, release) in (2..).zip(RELEASES) {
            stage.add(node, release);
            stage.nodes.nodes.get_mut(&node).unwrap().up = dice.draw().is_multiple_of(2);
        }
        Self {
            stage,
            dice,
            had_records: BTreeSet::new(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.dice.draw() % limit
    }

    fn node(&mut self) -> i32 {
        i32::try_from(self.below(5)).unwrap() + 2
    }

    fn name(&mut self) -> &'static str {
        if self.below(2) == 0 {
            DIALOGS
        } else {
            CONTACTS
        }
    }

    fn step(&mut self) {
        match self.below(100) {
            0..3 => self.node_moves(),
            3..13 => self.node_tells(),
            13..20 => {
                let (node, capability) = (self.node(), self.name().to_owned());
                self.stage.notice(Notice::SyncRequest { node, capability });
            }
            20..30 => self.donor_sends(),
            30..38 => self.donor_ends(),
            38..64 => self.gates_move(),
            64..89 => self.gates_answer(),
            89..91 => self.link_moves(),
            91..99 => {
                let ms = [1, 1, 30, 30, 600, 600, 5000, 20_000];
                let ms = ms[usize::try_from(self.below(8)).unwrap()];
                self.stage.pass_ms(ms);
            }
            _ => self.somebody_asks(),
        }
        self.stage.run();
        for (name, offered) in &self.stage.told {
            assert!(
                !offered || self.had_records.contains(name),
                "{name} is empty"
            );
        }
    }

    fn node_moves(&mut self) {
        let node = self.node();
        let is_up = self.stage.nodes.is_up(node);
        match (is_up, self.below(4)) {
            (false, _) => {
                self.stage.nodes.nodes.get_mut(&node).unwrap().up = true;
                self.stage.notice(Notice::NodeUp(node));
            }
            (true, 0) => self.stage.notice(Notice::Restarted(node)),
            (true, 1) => self.stage.notice(Notice::NodeUp(node)),
            (true, _) => self.stage.down(node),
        }
    }

    fn node_tells(&mut self) {
        let (node, name, synced) = (self.node(), self.name(), self.below(16) > 0);
        if self.stage.nodes.is_up(node) {
            self.stage.tells(node, name, synced);
        }
        let (other, unsettled) = (self.node(), self.below(4) == 0);
        let nodes = &mut self.stage.nodes;
        nodes.unsettled = unsettled;
        let sees = &mut nodes.nodes.get_mut(&node).unwrap().sees;
        if !sees.remove(&other) {
            sees.insert(other);
        }
    }

    /// One of the sessions that the gates know, over or not: parts may be late.
    fn session(&mut self) -> Option<Arc<Session>> {
        let held = u64::try_from(self.stage.world.held.len()).unwrap();
        let back = self.below(12).saturating_sub(9).min(held.checked_sub(1)?);
        let at = usize::try_from(held - 1 - back).unwrap();
        Some(Arc::clone(&self.stage.world.held[at].0))
    }

    fn donor_sends(&mut self) {
        // Doors cut what belongs to a session that they were shown.
        let shown = self.stage.world.shown.clone();
        for session in shown {
            let chunks = self.below(30);
            self.stage.cut(&session, chunks);
            if self.below(60) == 0 {
                session.door.broken.store(true, Ordering::Release);
            }
        }
    }

    fn donor_ends(&mut self) {
        let Some(session) = self.session() else {
            return;
        };
        let cut = session.door.cut.load(Ordering::Relaxed);
        let counted = self.stage.nodes.release(session.donor) >= Release::V3_3;
        let total = u32::try_from(cut + u64::from(self.below(30) == 0)).unwrap();
        let connection = CONNECTION + u64::from(self.below(30) == 0);
        self.stage.notice(Notice::SyncEnd {
            node: session.donor,
            connection,
            capability: session.capability.clone(),
            total: counted.then_some(total),
        });
    }

    fn gates_move(&mut self) {
        let Some(session) = self.session() else {
            return;
        };
        let (shard, what) = (self.below(2), self.below(90));
        let words = &session.shards[usize::try_from(shard).unwrap()];
        let held = self.stage.world.held.iter();
        let mut held = held.filter(|(one, _)| one.id == session.id);
        let (_, ended) = held.next().expect("it is one of them");
        if let Some(end) = ended {
            let completed = *end != SyncEnd::Abandoned;
            assert!(!completed || session.is_held(), "asked before it was held");
            words.released.store(true, Ordering::Release);
        } else if !words.held.load(Ordering::Relaxed) {
            words.records.store(self.below(40), Ordering::Relaxed);
            words.held.store(true, Ordering::Release);
        } else if what == 0 {
            words.failed.fetch_add(1, Ordering::Release);
        } else if what == 1 {
            words.overflowed.store(true, Ordering::Release);
        } else {
            let missing =
                session.door.cut.load(Ordering::Relaxed) - session.sum(|words| &words.applied);
            words.applied.fetch_add(missing, Ordering::Release);
            if missing > 0 {
                self.had_records.insert(session.capability.clone());
            }
        }
        self.stage.tick();
    }

    fn gates_answer(&mut self) {
        let Some((name, shard, request)) = self.stage.world.slices.pop_front() else {
            return;
        };
        let mut slice = Slice {
            cluster: 1,
            donation: request.donation,
            shard,
            chunks: Vec::new(),
            ends: Vec::new(),
            data_version: (self.below(60) > 0).then_some(4),
            left_out: u64::from(self.below(60) == 0),
            withheld: Withheld::default(),
            next: (self.below(2) > 0).then_some(Cursor(request.from.0 + 1)),
        };
        for _ in 0..self.below(100) {
            slice.chunks.extend_from_slice(&chunk(&[5; 350]));
            slice.ends.push(u32::try_from(slice.chunks.len()).unwrap());
        }
        if !slice.ends.is_empty() {
            self.had_records.insert(name);
        }
        self.stage
            .call(|copies, now, view, out| copies.slice(now, slice, view, out));
    }

    fn link_moves(&mut self) {
        let (node, what) = (self.node(), self.below(4));
        let world = &mut self.stage.world;
        match what {
            0 => {
                world.links.insert(node, Sent::Full);
            }
            1 => {
                world.links.insert(node, Sent::Unreachable);
            }
            _ => {
                world.links.clear();
                world.waiting.clear();
            }
        }
    }

    fn somebody_asks(&mut self) {
        let (name, what) = (self.name(), self.below(3));
        self.stage.call(|copies, now, view, out| match what {
            0 => copies.suspect(now, Some(name), "drops", view, out),
            _ => drop(copies.request(now, name, view, out)),
        });
    }

    /// Everything that was held is released as soon as the gates get to it, and nothing is left that would go on for ever.
    fn finish(mut self, tally: &mut Tally) {
        for node in 2..7 {
            // Whoever asked while we could not see him is remembered until he has come and gone.
            self.stage.down(node);
        }
        self.stage.pass_ms(60_000);
        let held = self.stage.world.held.clone();
        for (session, end) in &held {
            assert!(end.is_some(), "nobody is left to sync from: {session:?}");
            self.stage.release(session);
        }
        for facts in self.stage.copies.facts(self.stage.now(), &[]) {
            assert_ne!(facts.state, CopyState::Syncing);
            assert!(facts.donations.is_empty() && facts.requests_waiting.is_empty());
        }
        tally.requests += self.stage.requests().len();
        for event in &self.stage.world.events {
            match event {
                Event::SyncDone {
                    end: SyncEnd::Abandoned,
                    ..
                } => tally.abandoned += 1,
                Event::SyncDone { .. } => tally.completed += 1,
                Event::Donated { complete: true, .. } => tally.donated += 1,
                Event::Donated { .. } => tally.cut_short += 1,
                Event::Capability {
                    state: CopyState::Suspect,
                    ..
                } => tally.suspected += 1,
                Event::Capability { why, .. } if why.contains("a seed") => tally.fallbacks += 1,
                _ => {}
            }
        }
    }
}

#[test]
fn whatever_happens_the_rules_of_syncs_are_kept() {
    let mut tally = Tally::default();
    for seed in 0..40 {
        // A failure says which seed it was.
        let told = Told(seed);
        let mut run = Run::new(seed);
        for _ in 0..1000 {
            run.step();
        }
        run.finish(&mut tally);
        drop(told);
    }
    let Tally {
        requests,
        completed,
        abandoned,
        suspected,
        donated,
        cut_short,
        fallbacks,
    } = tally;
    let all = [
        requests, completed, abandoned, suspected, donated, cut_short, fallbacks,
    ];
    assert!(all.iter().all(|count| *count > 20), "{tally:?}");
}

/// Says at a failure which seed it was.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

#[test]
fn every_capability_of_a_run_is_one_of_the_two() {
    // The dice of a run reach both, all nodes, and all releases.
    let mut run = Run::new(1);
    let names: BTreeSet<_> = (0..100).map(|_| run.name()).collect();
    let nodes: BTreeSet<_> = (0..100).map(|_| run.node()).collect();
    assert_eq!(names, BTreeSet::from(NAMES));
    assert_eq!(nodes, BTreeSet::from([2, 3, 4, 5, 6]));
}
