//! One of our capabilities: what our copy of its records is worth, and what is done about that.

use std::collections::BTreeMap;
use std::sync::Arc;

use binrush_wire::schema;

use super::super::notice::View;
use super::attempt::{Attempt, Over};
use super::donors::{Donors, lists_links, longer};
use super::peers::{About, Peers};
use super::probe::Probe;
use super::{COUNTED_SYNC_VERSION, MS, NEVER, Rules, Turn};
use crate::clock::Timestamp;
use crate::cluster::config::CapabilityConfig;
use crate::cluster::facts::{CapabilityFacts, CopyState, NodeFacts};
use crate::cluster::message::sync_version;
use crate::cluster::outbox::{Event, Slice};
use crate::cluster::replica::GRACE_NS;
use crate::cluster::session::{Session, SyncEnd};

/// Our copy of one capability's records.
#[derive(Debug)]
pub(super) struct Ours {
    name: String,
    /// Whether its records are asked for, and given to others.
    sync: bool,
    state: CopyState,
    why: String,
    /// Since when it is unverified or suspect, tries to change that included.
    since: Timestamp,
    /// No other try before this.
    not_before: Timestamp,
    /// A record was there since the copy was verified last; or none is ever asked for, in any release.
    has_records: bool,
    attempt: Option<Attempt>,
    /// What the copy was before the attempt: that again if it is given up.
    before: CopyState,
    /// Something was missed during the attempt, which it cannot make good: another one follows.
    missed: Option<(Doubt, String)>,
    /// What is wrong with it while it is not verified.
    doubt: Doubt,
    /// Whose records it is about.
    peers: Peers,
    /// What is known to be missing of what it began with: only a donor makes that good.
    cut: Option<String>,
    /// Syncs in a row after which a replica had no room for what was held back meanwhile.
    crowded: u32,
    /// When to say that nobody is there to sync from. `None`: somebody is, or it was not looked for.
    lonely: Option<Timestamp>,
    donors: Donors,
    /// Who gave us the copy that we have, until when he may take back that his is whole.
    guarantor: Option<(i32, Timestamp)>,
    /// When the last sync was asked for that made it verified, and whether that was not said yet.
    whole_since: Timestamp,
    was_made_whole: bool,
    /// Nodes that came up and did not tell of this capability since, and when they came.
    returned: BTreeMap<i32, Timestamp>,
    /// When to ask for another sync, because the last one left records in doubt.
    recheck: Option<Timestamp>,
    /// The sync that is looked for is that one: what it leaves in doubt is looked at no more.
    is_rechecked: bool,
    probe: Probe,
    last_sync: Option<(i32, SyncEnd, u64, u64)>,
    completed: u64,
    abandoned: u64,
    told_offered: bool,
    told_session: Option<u64>,
}

/// What a copy may lack: the later ones are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// Nothing.
    No,
    /// What nodes told others while we could not see each other. They say the same of us, and nobody may know better. Or an
    /// operator wants to be sure.
    Returned,
    /// What was dropped here, or all of it.
    Missed,
}

impl Ours {
    pub(super) fn new(config: &CapabilityConfig, now: Timestamp) -> Self {
        let is_never_synced = is_never_synced(&config.name);
        let (state, why) = match (config.sync, is_never_synced) {
            (true, _) => (CopyState::Unverified, "no node gave its records yet"),
            (false, true) => (CopyState::Verified, "it needs no sync"),
            (false, false) => (CopyState::Verified, "it is not synced, as configured"),
        };
        let is_offered = !config.sync && is_never_synced;
        Self {
            name: config.name.clone(),
            sync: config.sync,
            state,
            why: why.to_owned(),
            since: now,
            not_before: now,
            has_records: is_offered,
            attempt: None,
            before: state,
            missed: None,
            doubt: match config.sync {
                true => Doubt::Missed,
                false => Doubt::No,
            },
            peers: match config.sync {
                true => Peers::in_doubt("no node gave its records yet"),
                false => Peers::default(),
            },
            cut: None,
            crowded: 0,
            lonely: None,
            donors: Donors::default(),
            guarantor: None,
            whole_since: Timestamp::default(),
            was_made_whole: false,
            returned: BTreeMap::new(),
            recheck: None,
            is_rechecked: false,
            probe: Probe::default(),
            last_sync: None,
            completed: 0,
            abandoned: 0,
            told_offered: is_offered,
            told_session: None,
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.advance(turn);
        if self.attempt.is_none() {
            match self.state {
                CopyState::Unverified | CopyState::Suspect => self.seek(turn),
                CopyState::Verified => {
                    self.look(turn);
                    self.check_again(turn);
                }
                CopyState::Syncing => {}
            }
        }
    }

    /// The link to `node` came up; or only the node's link to us did, so that it told us nothing for a while.
    pub(super) fn node_up(&mut self, turn: &mut Turn<'_>, node: i32) {
        if !self.sync {
            return;
        }
        let attempt = self.attempt.as_mut();
        let answering = attempt.filter(|attempt| attempt.donor() == node && attempt.is_answering());
        match answering {
            // It answers only now that it can reach us, with what it has now.
            Some(attempt) if attempt.packets() == 0 => return,
            // What it sent meanwhile is lost. From 3.3 on the count tells, and that live packets are lost is not for this
            // attempt to make good.
            Some(attempt) if sync_version(turn.view.release(node)) < COUNTED_SYNC_VERSION => {
                attempt.donor_lost(turn, "lost us for a while");
            }
            _ => {}
        }
        self.returned.insert(node, turn.now);
    }

    /// The link to `node` went down, or it is another process now.
    pub(super) fn node_gone(&mut self, turn: &mut Turn<'_>, node: i32, how: &str) {
        self.returned.remove(&node);
        // What it says when it is back is of another life, or of what it missed meanwhile.
        self.guarantor.take_if(|(donor, _)| *donor == node);
        self.donors.forget(node);
        self.donor_lost(turn, node, how);
    }

    /// `node` says whether it is synced.
    pub(super) fn told(&mut self, turn: &mut Turn<'_>, node: i32, synced: bool) {
        if let Some(up_at) = self.returned.remove(&node)
            && synced
        {
            self.node_returned(turn, node, up_at);
        }
        if !synced {
            self.donor_lost(turn, node, "is not synced any more");
            self.taken_back(turn, node);
        }
    }

    /// `node` found out that it had missed something. If that was so when it gave us its copy, we have missed it, too.
    fn taken_back(&mut self, turn: &mut Turn<'_>, node: i32) {
        let taken_back = self.guarantor.take_if(|(donor, _)| *donor == node);
        if taken_back.is_some_and(|(_, until)| turn.now <= until) {
            let why = format!("node {node} gave us its records and is not synced any more");
            self.doubt(turn, Doubt::Returned, About::All, why);
        }
    }

    /// `node` says that it has sent all.
    pub(super) fn sync_end(
        &mut self,
        turn: &mut Turn<'_>,
        node: i32,
        connection: u64,
        total: Option<u32>,
    ) {
        let earlier = self.donors.answered(turn.now, node, connection);
        let attempt = self.attempt.as_mut();
        let Some(attempt) = attempt.filter(|attempt| attempt.donor() == node) else {
            return;
        };
        if earlier && total.is_none() {
            return attempt.earlier_ended(turn);
        }
        attempt.donor_ended(turn, connection, total);
        if earlier {
            // The count was right, and yet it may be that of records from before live packets were held back.
            let why = format!("node {node} owed us an earlier answer");
            self.peers.doubt(About::All, &why);
            self.miss(Doubt::Missed, why);
        }
    }

    /// Something may have been missed.
    pub(super) fn suspect(&mut self, turn: &mut Turn<'_>, why: &str) {
        self.doubt(turn, Doubt::Missed, About::All, why.to_owned());
    }

    /// Of the records that it began with some are known to be missing.
    pub(super) fn is_cut(&mut self, why: &str) {
        if self.sync {
            self.why = format!("some of what was kept is missing: {why}");
            self.cut = Some(self.why.clone());
        }
    }

    /// An operator wants another sync.
    pub(super) fn request(&mut self, turn: &mut Turn<'_>) -> Result<(), String> {
        let name = &self.name;
        if !self.sync {
            return Err(format!("{name} is not synced, as the configuration says"));
        }
        if let Some(attempt) = &self.attempt {
            let donor = attempt.donor();
            return Err(format!("node {donor} is giving us {name} already"));
        }
        if !Donors::is_any(name, turn.view) {
            return Err(format!(
                "no node that is up says that its {name} is synced; our copy stays {}",
                self.state.symbol()
            ));
        }
        self.donors.rested();
        // The copy is no worse for being asked for anew: if nobody gives anything after all, it is what it was.
        let why = "an operator asked for a sync".to_owned();
        self.doubt(turn, Doubt::Returned, About::Nobody, why);
        Ok(())
    }

    /// Whether slices of that number are a look for a first record.
    pub(super) fn is_probed_by(&self, slice: &Slice) -> bool {
        self.probe.is_answered_by(slice)
    }

    /// The answer to a look for a first record, and what to tell of it.
    pub(super) fn probed(&mut self, now: Timestamp, slice: &Slice) -> Option<String> {
        if self.state != CopyState::Verified {
            return None;
        }
        if !slice.ends.is_empty() {
            self.has_records = true;
            return None;
        }
        let withheld = self.probe.found_none(now, slice)?;
        let sockets = withheld
            .sockets
            .iter()
            .map(|socket| socket.escape_ascii().to_string());
        let sockets: Vec<_> = sockets.collect();
        Some(format!(
            "{}: there are records, but none was found yet that could be given: the target is not known to have {} (socket_map, \
             target_socket); nothing is offered",
            self.name,
            sockets.join(", ")
        ))
    }

    /// The doors know the session from now on.
    pub(super) fn sessions_shown(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.shown();
        }
    }

    /// Whether [`is_offered`](Self::is_offered) says something else than the last time.
    pub(super) fn offer_changed(&mut self) -> bool {
        let offered = self.is_offered();
        std::mem::replace(&mut self.told_offered, offered) != offered
    }

    /// Whether [`session`](Self::session) is another one than the last time.
    pub(super) fn session_changed(&mut self) -> bool {
        let session = self.session().map(|session| session.id);
        std::mem::replace(&mut self.told_session, session) != session
    }

    /// Whether a sync has made it verified since the last call.
    pub(super) fn take_was_made_whole(&mut self) -> bool {
        std::mem::take(&mut self.was_made_whole)
    }

    /// What nodes told before that is in it, as far as any node knew; `None`: it is not synced.
    pub(super) fn whole_since(&self) -> Option<Timestamp> {
        self.sync.then_some(self.whole_since)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its records are ever given to others.
    pub(super) fn is_given(&self) -> bool {
        self.sync
    }

    /// Whether a sync that we give may go on to its end: it was asked for when our copy was verified, and what made it
    /// suspect since was nothing that this copy lost. Who receives it asks nobody else, and would be left with a part.
    pub(super) fn may_be_given_on(&self) -> bool {
        let missed = self.missed.as_ref();
        let missed = missed.is_some_and(|(doubt, _)| *doubt == Doubt::Missed);
        self.is_offered() || self.sync && self.doubt == Doubt::Returned && !missed
    }

    /// Whether others are told that they can sync from us.
    pub(super) fn is_offered(&self) -> bool {
        self.state == CopyState::Verified && self.has_records
    }

    /// The session whose SYNC packets are welcome.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        self.attempt.as_ref()?.session()
    }

    /// When something is to be done without a notice, at the latest.
    pub(super) fn due(&self, now: Timestamp, rules: &Rules, view: &dyn View) -> Timestamp {
        if let Some(attempt) = &self.attempt {
            return attempt.due(now);
        }
        if self.state == CopyState::Verified {
            let probe = match self.is_probing() {
                true => self.probe.due(),
                false => NEVER,
            };
            return self.recheck.map_or(probe, |at| at.min(probe));
        }
        // Nobody says when it becomes clear that the last of the nodes is not there.
        let look = self.fallback(rules, view);
        let look = look.map(|fallback| fallback.max(now.after(SEED_LOOK_NS)));
        let times = [self.not_before, self.since.after(SETTLE_NS)];
        let times = times.into_iter().filter(|&time| now < time);
        let times = times.chain(look).chain(self.donors.due(now));
        let times = times.chain(self.lonely);
        times.min().unwrap_or(NEVER)
    }

    /// What is known here; what is given to others is not.
    pub(super) fn facts(&self, now: Timestamp, nodes: &[NodeFacts]) -> CapabilityFacts {
        CapabilityFacts {
            peers: self.peers.facts(self.state, nodes, &self.returned),
            name: self.name.clone(),
            state: self.state,
            why: self.why.clone(),
            advertised: self.is_offered(),
            sync: self.attempt.as_ref().map(|attempt| attempt.facts(now)),
            last_sync: self.last_sync,
            completed: self.completed,
            abandoned: self.abandoned,
            ..CapabilityFacts::default()
        }
    }

    /// A node is back, and is synced: what it told the cluster while we could not see it, we do not know.
    ///
    /// One that is back without being synced restarted, and wants to hear from us.
    fn node_returned(&mut self, turn: &mut Turn<'_>, node: i32, up_at: Timestamp) {
        if let Some(attempt) = &self.attempt {
            // Since it is up we hear it ourselves, and until then the donor did, if it was asked later and sees it.
            let before_asked = attempt.asked().is_none_or(|asked| up_at <= asked);
            let donor = attempt.donor();
            if before_asked && (node == donor || turn.view.sees(donor, node)) {
                return;
            }
        }
        let why = format!("node {node} is back, and was heard by others");
        self.doubt(turn, Doubt::Returned, About::Node(node), why);
    }

    fn doubt(&mut self, turn: &mut Turn<'_>, doubt: Doubt, about: About, why: String) {
        if self.sync {
            self.peers.doubt(about, &why);
        }
        // A sync that has another reason, too, is no mere second look.
        self.is_rechecked = false;
        match self.state {
            CopyState::Verified if self.sync => {
                self.doubt = doubt;
                self.since = turn.now;
                self.enter(turn, CopyState::Suspect, why);
            }
            CopyState::Syncing => self.miss(doubt, why),
            CopyState::Suspect if doubt > self.doubt => (self.doubt, self.why) = (doubt, why),
            _ => {}
        }
    }

    /// The attempt under way cannot make that good. The worst is remembered.
    fn miss(&mut self, doubt: Doubt, why: String) {
        let before = self.missed.as_ref().map(|(doubt, _)| *doubt);
        if before.is_none_or(|before| before <= doubt) {
            self.missed = Some((doubt, why));
        }
    }

    /// When to do without a donor, if we may. A seed may; and so may whoever was verified before nodes came back to him: if
    /// none of them offers anything, they wait for each other, and it is the lowest id that goes first. The others sync from
    /// it.
    fn fallback(&self, rules: &Rules, view: &dyn View) -> Option<Timestamp> {
        if self.cut.is_some() {
            return None;
        }
        if view.is_seed() {
            return Some(self.since.after(rules.seed_fallback_ns));
        }
        if self.doubt != Doubt::Returned {
            return None;
        }
        let up = view.up_nodes();
        let before_us = up.iter().filter(|&&node| node < view.me());
        let turns = before_us.count() as u64;
        let wait_ns = rules.seed_fallback_ns.max(RETURNED_MIN_NS) + turns * RETURNED_STEP_NS;
        Some(self.since.after(wait_ns))
    }

    fn donor_lost(&mut self, turn: &mut Turn<'_>, node: i32, how: &str) {
        let attempt = self.attempt.as_mut();
        if let Some(attempt) = attempt.filter(|attempt| attempt.donor() == node) {
            attempt.donor_lost(turn, how);
        }
    }

    /// Looks for a donor; or does without, if we may.
    fn seek(&mut self, turn: &mut Turn<'_>) {
        let (now, view) = (turn.now, turn.view);
        // At the start nodes come up one after the other. The first is not always the best, and each that comes up behind a
        // sync would make it worth nothing.
        let settles = !view.is_settled() && now < self.since.after(SETTLE_NS);
        self.watch_for_donors(turn);
        self.donors.look(view);
        if now >= self.not_before
            && !settles
            && let Some(donor) = self.donors.choose(now, &self.name, view)
        {
            self.begin(turn, donor);
        } else if let Some(fallback) = self.fallback(turn.rules, view)
            && now >= fallback
            && view.is_settled()
            && self.is_alone(turn)
        {
            let why = match view.is_seed() {
                true => "a seed, and no node to sync from",
                false => "it was verified, and no node that is up knows better",
            };
            // What others may know better takes no record away: it is offered as it was, and what is being given goes on.
            let has_records = self.doubt == Doubt::Returned && self.has_records;
            self.verified(turn, has_records, why);
        }
    }

    /// Whether nobody gives us anything. Of a seed that is so, too, if those who say that they could never answer: it would
    /// offer nothing for ever, and the cluster would have no seed.
    fn is_alone(&self, turn: &mut Turn<'_>) -> bool {
        if !Donors::is_any(&self.name, turn.view) {
            return true;
        }
        let is_ignored = turn.view.is_seed() && self.donors.are_mute(&self.name, turn.view);
        if is_ignored {
            let name = &self.name;
            turn.warn(format!(
                "{name}: no node that offers it has answered our requests, so this seed goes on with its own copy. Look whether \
                 they can reach us; nodes of 3.6 that have lost a link answer by others only with enable_rerouting"
            ));
        }
        is_ignored
    }

    /// Says after a while that nobody offers what we look for. Two nodes that are no seeds, and missed something at the same
    /// time, would wait for each other without a word.
    fn watch_for_donors(&mut self, turn: &mut Turn<'_>) {
        // Whoever does without after a while needs no help.
        let waits = self.fallback(turn.rules, turn.view).is_none();
        if !waits || Donors::is_any(&self.name, turn.view) {
            self.lonely = None;
            return;
        }
        let patience = turn.now.after(turn.rules.sync_timeout_ns);
        if turn.now < *self.lonely.get_or_insert(patience) {
            return;
        }
        self.lonely = Some(turn.now.after(LONELY_NS));
        let (name, state) = (&self.name, self.state.symbol());
        turn.warn(format!(
            "no node offers {name}, and our copy stays {state}: name a seed (flags=seed), or ask for a sync when a node has it"
        ));
    }

    /// Goes on with the attempt, if there is one.
    fn advance(&mut self, turn: &mut Turn<'_>) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let was_asked = attempt.asked().is_some();
        let over = attempt.advance(turn);
        if !was_asked && attempt.asked().is_some() {
            self.donors.asked(attempt.donor());
        }
        if let Some(over) = over {
            self.over(turn, over);
        }
    }

    fn begin(&mut self, turn: &mut Turn<'_>, donor: i32) {
        self.before = self.state;
        self.peers.sync_begins();
        self.missed = None;
        self.lonely = None;
        self.not_before = turn.now.after(turn.rules.retry_min_ns);
        self.attempt = Some(Attempt::begin(&self.name, donor, turn));
        let why = format!("node {donor} is asked for its records");
        self.enter(turn, CopyState::Syncing, why);
    }

    fn over(&mut self, turn: &mut Turn<'_>, over: Over) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let (donor, chunks) = (attempt.donor(), attempt.applied());
        self.last_sync = Some((donor, over.end, chunks, attempt.age(turn.now) / MS));
        turn.event(Event::SyncDone {
            cluster: turn.rules.cluster,
            capability: self.name.clone(),
            donor,
            end: over.end,
            chunks,
        });
        let refused = attempt.refused();
        if refused > 0 {
            let why = self.no_room(turn, refused);
            self.peers.doubt(About::All, &why);
            self.miss(Doubt::Missed, why);
        }
        if over.end == SyncEnd::Abandoned {
            self.abandoned += 1;
            self.peers.given_up();
            self.donors.failed(donor, over.owing_until, over.was_mute);
            if over.was_asked_in_vain {
                self.donors.rests(turn.now, donor, turn.rules.retry_min_ns);
            }
            if let Some((doubt, _)) = self.missed.take() {
                self.doubt = self.doubt.max(doubt);
            }
            return self.enter(turn, self.before, over.why);
        }
        self.completed += 1;
        self.peers.synced();
        self.cut = None;
        self.donors.completed();
        if refused == 0 {
            self.crowded = 0;
        }
        let link_ns = turn.rules.link_ns;
        // A genuine node never finds out that it missed something. It takes back its word to sync anew, and may want to have
        // that of us, who may be the only one that is left.
        let finds_out = !lists_links(donor, &turn.view.up_nodes(), turn.view);
        let until = attempt.asked().filter(|_| finds_out);
        let until = until.map(|asked| asked.after(link_ns));
        self.guarantor = until.map(|until| (donor, until));
        if let Some((doubt, why)) = self.missed.take() {
            self.doubt = doubt;
            self.since = turn.now;
            return self.enter(turn, CopyState::Suspect, why);
        }
        self.whole_since = attempt.asked().unwrap_or_default();
        self.was_made_whole = true;
        self.verified(turn, chunks > 0, &over.why);
        let was_recheck = std::mem::take(&mut self.is_rechecked);
        if attempt.leaves_doubt() && !was_recheck {
            self.recheck = Some(turn.now.after(RECHECK_NS));
        }
    }

    /// Looks once more at what the last sync left undecided: what a packet spoke of shortly before, and the donor did not have,
    /// or what one spoke of meanwhile that another node passed on.
    fn check_again(&mut self, turn: &mut Turn<'_>) {
        if self.recheck.take_if(|at| *at <= turn.now).is_some() {
            let why = "some records were too new for the last sync".to_owned();
            self.doubt(turn, Doubt::Returned, About::All, why);
            self.is_rechecked = true;
        }
    }

    /// Why a sync is worth nothing after which so many held packets were `refused`, however it ended: they are newer than all
    /// that came. The next one will hardly find more room, so it comes the later, the more of them failed that way.
    fn no_room(&mut self, turn: &Turn<'_>, refused: u64) -> String {
        let wait_ns = longer(turn.rules.retry_min_ns, self.crowded);
        self.not_before = turn.now.after(wait_ns);
        self.crowded = self.crowded.saturating_add(1);
        format!("{refused} held packets found no room")
    }

    fn verified(&mut self, turn: &mut Turn<'_>, has_records: bool, why: &str) {
        self.recheck = None;
        self.lonely = None;
        self.doubt = Doubt::No;
        self.has_records = has_records;
        self.probe.begin(turn.now);
        self.enter(turn, CopyState::Verified, why.to_owned());
    }

    fn enter(&mut self, turn: &mut Turn<'_>, state: CopyState, why: String) {
        self.state = state;
        self.why.clone_from(&why);
        turn.event(Event::Capability {
            cluster: turn.rules.cluster,
            capability: self.name.clone(),
            state,
            why,
        });
    }

    /// Looks whether a verified copy has its first record by now.
    fn look(&mut self, turn: &mut Turn<'_>) {
        if self.is_probing() {
            self.probe.look(&self.name, turn);
        }
    }

    /// Whether it matters when its first record comes.
    fn is_probing(&self) -> bool {
        self.sync && !self.has_records
    }
}

/// Whether no release syncs that capability, so that who says that he is synced is asked for nothing. Where others sync it
/// they choose by that whom they ask, and whoever does not sync it must not be chosen.
fn is_never_synced(name: &str) -> bool {
    schema::capability(name.as_bytes()).is_none_or(|capability| capability.chunks.is_empty())
}

/// How long after a sync what it left in doubt is looked at again: then it is too old to be spared.
const RECHECK_NS: u64 = GRACE_NS + 1000 * MS;

/// How long nodes are given to come up after the start, or after a copy became suspect, before one is asked.
const SETTLE_NS: u64 = 1000 * MS;

/// How often a seed looks whether there is nobody to wait for.
const SEED_LOOK_NS: u64 = 250 * MS;

/// How long nodes that are back are given to offer something, and how much later the next id does without.
const RETURNED_MIN_NS: u64 = 5000 * MS;
const RETURNED_STEP_NS: u64 = 1000 * MS;

/// Between two words about a copy that nobody is there to sync from.
const LONELY_NS: u64 = 600_000 * MS;
