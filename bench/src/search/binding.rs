//! What limits at a rate: the evidence of a trial that exceeds a goal, read by fixed rules.
//!
//! Two things mislead whoever looks at processor time alone, and the rules know them. A paced sender spins before each
//! packet and a receiver before it sleeps, so both are busy long before they are at their limit. And a stream holds its
//! sender back when the receiver is slow, so packets that were not sent say nothing against the generator there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::goal::{Goal, Limit};
use crate::result::{Binding, SenderResult, Trial};
use crate::view::units::nanos;

/// Packets left too late or not at all, for want of the generator's time.
pub(crate) const GENERATOR: &str = "generator";
/// The receiver's processor has no time left.
pub(crate) const RECEIVER: &str = "receiver core";
/// The receiver has time left, and its queue was too short for bursts.
pub(crate) const BUFFER: &str = "socket buffer";
/// The kernel refused packets on their way, or they left and neither end knows of them, or they came damaged.
pub(crate) const LINK: &str = "link";
/// The trial keeps to all goals.
pub(crate) const NONE: &str = "none";
/// Something does, and nothing of the above shows.
pub(crate) const UNKNOWN: &str = "unknown";

/// What limits in `trial`, which may exceed some of `goals`.
pub(crate) fn of(trial: &Trial, goals: &[Goal]) -> Binding {
    let facts = Facts::of(trial, goals);
    let (resource, evidence) = if facts.exceeded.is_none() {
        (NONE, "the trial keeps to all goals".to_owned())
    } else {
        let rules = [refused, stream, unsent, late, dropped, slow, lost];
        rules
            .iter()
            .find_map(|rule| rule(&facts))
            .unwrap_or_else(|| (UNKNOWN, facts.nothing_shows()))
    };
    Binding {
        resource: resource.to_owned(),
        evidence,
    }
}

/// The resource that most of `bindings` name, with the evidence of the last that does; of equally many, the later one.
pub(crate) fn most_named<'a>(bindings: impl Iterator<Item = &'a Binding>) -> Option<Binding> {
    let bindings: Vec<&Binding> = bindings.collect();
    let named = |binding: &Binding| {
        let same = bindings
            .iter()
            .filter(|other| other.resource == binding.resource);
        same.count()
    };
    // `max_by_key` answers the last of several.
    let most = bindings.iter().max_by_key(|binding| named(binding))?;
    Some((*most).clone())
}

type Verdict = Option<(&'static str, String)>;

/// Most of what is missing was refused with an error: by whoever is on the way, or by an end that is gone.
fn refused(facts: &Facts<'_>) -> Verdict {
    // A stream that broke sends nothing any more: what it left unsent is for the same reason.
    let behind = if facts.is_stream { facts.unsent } else { 0 };
    let is_most = facts.errors.saturating_add(behind) >= facts.lost_behind()
        && (facts.is_stream || facts.errors >= facts.unsent);
    let (error, count) = facts.error.filter(|_| is_most)?;
    // By the words of the sender's tally: no scenario makes such packets, or it is the generator's fault.
    let resource = if error.starts_with("not made") {
        GENERATOR
    } else {
        LINK
    };
    let text = format!(
        "{} of {} packets were refused, most of them ({count}) with \"{error}\"",
        facts.errors, facts.planned
    );
    Some((resource, text))
}

/// A stream waits for its receiver: all that is left undone is left at the sender.
fn stream(facts: &Facts<'_>) -> Verdict {
    (facts.is_stream && (facts.is_saturated() || facts.has_backlog())).then(|| {
        let why = "a stream waits for its receiver";
        (RECEIVER, format!("{}; {why}", facts.receiver()))
    })
}

/// Most of what is missing was never sent.
fn unsent(facts: &Facts<'_>) -> Verdict {
    let Facts {
        unsent,
        planned,
        sender_busy,
        ..
    } = *facts;
    (unsent > 0 && unsent >= facts.lost_behind()).then(|| {
        let share = unsent as f64 / planned.max(1) as f64;
        let text = format!(
            "{unsent} of {planned} packets ({}) were not sent in time, its busiest core at {}",
            percent(share),
            percent(sender_busy),
        );
        if facts.is_stream && sender_busy < BUSY_MIN {
            let share = percent(facts.blocked);
            let why = format!("the stream took nothing for {share} of the time");
            if facts.blocked >= BLOCKED_MIN {
                return (RECEIVER, format!("{text}; {why}"));
            }
            let why = format!("{why}, and the sender had time left: nothing shows why");
            return (UNKNOWN, format!("{text}; {why}"));
        }
        (GENERATOR, text)
    })
}

/// Packets left later than they may arrive.
fn late(facts: &Facts<'_>) -> Verdict {
    let limit = facts.limit?;
    (facts.late > limit.limit).then(|| {
        let text = format!("{}, and the goal is {limit}", facts.left_late(limit));
        if facts.actual <= limit.limit {
            return (GENERATOR, text);
        }
        // Had they left in time, they would still have been late.
        let after = format!(
            "{text}; they arrived {} after they left",
            time(facts.actual)
        );
        if facts.is_saturated() || facts.has_backlog() {
            return (RECEIVER, format!("{after}, receiver {}", facts.receiver()));
        }
        let why = "both ends were late; somebody else had the processors";
        (UNKNOWN, format!("{after}: {why}"))
    })
}

/// The receive buffer was full: all the time, or for moments.
fn dropped(facts: &Facts<'_>) -> Verdict {
    if facts.dropped == 0 {
        return None;
    }
    let drops = format!("{} drops at the receive buffer", facts.dropped);
    let receiver = facts.receiver();
    let at_limit = match (facts.busy, facts.backlog) {
        (None, None) => {
            let why = "how busy the receiver was is not known (give --pid)";
            return Some((UNKNOWN, format!("{drops}; {why}")));
        }
        (busy, Some(backlog)) => {
            backlog >= BACKLOG_MIN && busy.is_none_or(|busy| busy >= BUSY_SOME)
        }
        (Some(busy), None) => busy >= BUSY_MIN,
    };
    Some(if at_limit {
        (RECEIVER, format!("{receiver}, {drops}"))
    } else {
        (
            BUFFER,
            format!(
                "{drops} although the receiver keeps up otherwise: {receiver}; it was full for moments"
            ),
        )
    })
}

/// Nothing was dropped, and packets waited too long.
fn slow(facts: &Facts<'_>) -> Verdict {
    let limit = facts.limit?;
    let exceeded = facts.exceeded.as_deref()?;
    let why = format!("{exceeded}, and the goal is {limit}");
    if facts.is_saturated() || facts.has_backlog() {
        return Some((RECEIVER, format!("{}, {why}", facts.receiver())));
    }
    (2 * facts.late >= limit.limit && facts.actual <= limit.limit)
        .then(|| (GENERATOR, format!("{why}; {}", facts.left_late(limit))))
}

/// What was sent and nobody dropped.
fn lost(facts: &Facts<'_>) -> Verdict {
    let lost = facts.lost_behind();
    (lost > 0 && facts.dropped == 0).then(|| {
        let text = format!(
            "{lost} of {} packets that were sent neither arrived intact nor were counted as dropped",
            facts
                .planned
                .saturating_sub(facts.unsent)
                .saturating_sub(facts.errors),
        );
        (LINK, text)
    })
}

/// What the rules look at.
#[derive(Debug)]
struct Facts<'a> {
    is_stream: bool,
    planned: u64,
    unsent: u64,
    /// Refused, or not made.
    errors: u64,
    /// The most frequent of those, and how often it came.
    error: Option<(&'a str, u64)>,
    /// Due, and not arrived intact.
    missing: u64,
    dropped: u64,
    /// Lateness of the latest sender, at the quantile of `limit`.
    late: Duration,
    /// Received minus actually sent, at the same; zero where nobody knows.
    actual: Duration,
    /// Share of the time, as for the receiver.
    sender_busy: f64,
    /// Share of the time for which the most hindered stream took nothing.
    blocked: f64,
    busy: Option<f64>,
    backlog: Option<f64>,
    /// What the trial exceeds, in words.
    exceeded: Option<String>,
    /// The shortest limit on a latency that the trial exceeds.
    limit: Option<&'a Limit>,
}

impl<'a> Facts<'a> {
    fn of(trial: &'a Trial, goals: &'a [Goal]) -> Self {
        let senders = &trial.senders;
        let sum = |of: fn(&SenderResult) -> u64| senders.iter().map(of).sum::<u64>();
        let share = |sender: &SenderResult, ns: u64| ns as f64 / sender.elapsed_ns.max(1) as f64;
        let busy = |sender: &SenderResult| share(sender, sender.cpu_ns);
        let blocked = |sender: &SenderResult| share(sender, sender.blocked_ns).min(1.0);
        let counted = |name: &&String| ["buffer", "socket"].contains(&name.as_str());
        let drops = trial
            .receiver
            .kernel_drops
            .iter()
            .filter(|(name, _)| counted(name));
        let planned = trial.ledger.planned;
        let terms = trial
            .ledger
            .terms
            .iter()
            .filter(|(name, _)| name == "arrived once");
        let arrived: u64 = terms.map(|(_, count)| count).sum();
        let (loss, latency) = (trial.ledger.loss_ratio, &trial.intended);
        let limits = goals.iter().flat_map(|goal| &goal.latency);
        let exceeded = limits.filter(|limit| limit.is_exceeded_by(latency));
        let limit = exceeded.min_by_key(|limit| limit.limit);
        let quantile = limit.map_or(0.99, |limit| limit.quantile);
        let late = senders
            .iter()
            .map(|sender| sender.lateness.value_at(quantile));
        let error = most_frequent(senders);
        Self {
            is_stream: trial.transport == "tcp",
            planned,
            unsent: sum(|sender| sender.unsent).min(planned),
            errors: sum(|sender| sender.errors.values().sum()).min(planned),
            error,
            missing: planned.saturating_sub(arrived),
            dropped: drops.map(|(_, count)| count).sum(),
            late: Duration::from_nanos(late.max().unwrap_or(0)),
            actual: Duration::from_nanos(trial.actual.value_at(quantile)),
            sender_busy: senders.iter().map(busy).fold(0.0, f64::max),
            blocked: senders.iter().map(blocked).fold(0.0, f64::max),
            busy: trial.receiver.busy,
            backlog: trial.receiver.backlog,
            exceeded: goals
                .iter()
                .find_map(|goal| goal.exceeded_by(loss, latency)),
            limit,
        }
    }

    /// Sent, and not arrived intact.
    const fn lost_behind(&self) -> u64 {
        self.missing
            .saturating_sub(self.unsent)
            .saturating_sub(self.errors)
    }

    /// "at p99, packets left 2.00 ms late"
    fn left_late(&self, limit: &Limit) -> String {
        format!("at {}, packets left {} late", limit.name(), time(self.late))
    }

    fn is_saturated(&self) -> bool {
        self.busy.is_some_and(|busy| busy >= BUSY_MIN)
    }

    fn has_backlog(&self) -> bool {
        self.backlog.is_some_and(|backlog| backlog >= BACKLOG_MIN)
    }

    /// "busy 97 %, its queue filling in 80 % of the looks at it"
    fn receiver(&self) -> String {
        let busy = self.busy.map(|busy| format!("busy {}", percent(busy)));
        let queue = self.backlog.map(|share| {
            format!(
                "its queue a fifth full or more in {} of the looks",
                percent(share)
            )
        });
        let known: Vec<String> = busy.into_iter().chain(queue).collect();
        if known.is_empty() {
            return "how busy it was is not known".to_owned();
        }
        known.join(", ")
    }

    fn nothing_shows(&self) -> String {
        format!(
            "{}, and nothing shows why: sender on time, receiver {}, {} drops; somebody else may have had the processors",
            self.exceeded.as_deref().unwrap_or("a goal is exceeded"),
            self.receiver(),
            self.dropped,
        )
    }
}

/// Of all senders' errors, the one that came most often, and how often.
fn most_frequent(senders: &[SenderResult]) -> Option<(&str, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (error, count) in senders.iter().flat_map(|sender| &sender.errors) {
        let sum = counts.entry(error).or_default();
        *sum = sum.saturating_add(*count);
    }
    let most = counts.into_iter().filter(|(_, count)| *count > 0);
    most.max_by_key(|(_, count)| *count)
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        percent @ ..10.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.0} %"),
    }
}

fn time(duration: Duration) -> String {
    nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// A processor without time left: the rest is what the kernel needs for itself.
const BUSY_MIN: f64 = 0.9;

/// Below that, a full queue is not for want of processor time.
const BUSY_SOME: f64 = 0.8;

/// A stream that takes nothing for so much of the time is behind, and not only full for moments.
const BLOCKED_MIN: f64 = 0.2;

/// A receiver that is too slow fills its queue evenly: before the first drop, it was a fifth full for most of the time.
const BACKLOG_MIN: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_probe::Hist;

    use crate::result::{Ledger, ReceiverResult};

    const PLANNED: u64 = 100_000;

    fn hist(p50_ns: u64, p99_ns: u64) -> Hist {
        let mut hist = Hist::new();
        hist.record_n(p50_ns, 980);
        hist.record_n(p99_ns, 20);
        hist
    }

    /// Without loss, 10 us late, 50 us to arrive, receiver half idle.
    fn trial() -> Trial {
        let sender = SenderResult {
            planned: PLANNED,
            sent: PLANNED,
            lateness: hist(1_000, 10_000),
            // It spins, so this says nothing.
            cpu_ns: 990_000_000,
            elapsed_ns: 1_000_000_000,
            ..SenderResult::default()
        };
        let mut trial = Trial {
            name: "trial 1".to_owned(),
            scenario: "dialogs".to_owned(),
            transport: "udp".to_owned(),
            arrivals: "constant".to_owned(),
            seed: 1,
            run: 1,
            offered_pps: 1e5,
            seconds: 1.0,
            senders: vec![sender],
            receiver: ReceiverResult {
                busy: Some(0.5),
                backlog: Some(0.0),
                ..ReceiverResult::default()
            },
            ledger: Ledger::default(),
            intended: hist(20_000, 50_000),
            actual: Hist::new(),
            intervals: Vec::new(),
            binding: None,
        };
        lose(&mut trial, 0, 0);
        trial
    }

    /// `unsent` of the packets are not sent, and `behind` are lost later.
    fn lose(trial: &mut Trial, unsent: u64, behind: u64) {
        trial.senders[0].unsent = unsent;
        trial.senders[0].sent = PLANNED - unsent;
        trial.ledger = Ledger {
            planned: PLANNED,
            terms: vec![("arrived once".to_owned(), PLANNED - unsent - behind)],
            loss_ratio: (unsent + behind) as f64 / PLANNED as f64,
            ..Ledger::default()
        };
    }

    fn drop_at(trial: &mut Trial, name: &str, drops: u64) {
        trial.receiver.kernel_drops.insert(name.to_owned(), drops);
    }

    fn goals() -> Vec<Goal> {
        vec![Goal::default().with(&"loss=0,p99=1ms".parse().unwrap())]
    }

    fn binding(trial: &Trial) -> Binding {
        of(trial, &goals())
    }

    #[track_caller]
    fn assert_binds(trial: &Trial, resource: &str, evidence: &str) {
        let binding = binding(trial);
        assert_eq!(binding.resource, resource, "{}", binding.evidence);
        assert!(binding.evidence.contains(evidence), "{}", binding.evidence);
    }

    #[test]
    fn a_trial_that_keeps_to_its_goals_is_limited_by_nothing() {
        let mut trial = trial();
        assert_binds(&trial, NONE, "keeps to all goals");
        trial.receiver.busy = Some(1.0);
        assert_binds(&trial, NONE, "keeps to all goals");
    }

    #[test]
    fn packets_that_were_not_sent_are_the_generators() {
        let mut trial = trial();
        lose(&mut trial, 300, 0);
        assert_binds(
            &trial,
            GENERATOR,
            "300 of 100000 packets (0.30 %) were not sent in time",
        );
    }

    #[test]
    fn packets_that_were_refused_are_the_links_and_the_error_is_named() {
        let mut trial = trial();
        lose(&mut trial, 300, 0);
        trial.senders[0].unsent = 0;
        let errors = &mut trial.senders[0].errors;
        errors.insert("connection refused".to_owned(), 260);
        errors.insert("not permitted".to_owned(), 40);
        let words =
            "300 of 100000 packets were refused, most of them (260) with \"connection refused\"";
        assert_binds(&trial, LINK, words);
        trial.transport = "tcp".to_owned();
        trial.receiver.busy = Some(0.97);
        assert_binds(&trial, LINK, words);
        // Few errors say nothing about the many that were late.
        let mut trial = self::trial();
        lose(&mut trial, 300, 0);
        trial.senders[0].unsent = 299;
        trial.senders[0]
            .errors
            .insert("no buffer space".to_owned(), 1);
        assert_binds(&trial, GENERATOR, "299 of 100000");
    }

    #[test]
    fn packets_that_could_not_be_made_are_the_generators() {
        let mut trial = trial();
        lose(&mut trial, 300, 0);
        trial.senders[0].unsent = 0;
        trial.senders[0]
            .errors
            .insert("not made: too long".to_owned(), 300);
        assert_binds(&trial, GENERATOR, "\"not made: too long\"");
    }

    #[test]
    fn a_stream_that_broke_is_the_links_with_all_that_it_left_unsent() {
        let mut trial = trial();
        lose(&mut trial, 5_000, 0);
        trial.transport = "tcp".to_owned();
        trial.senders[0].unsent = 4_900;
        trial.senders[0]
            .errors
            .insert("the receiver has reset it".to_owned(), 100);
        assert_binds(&trial, LINK, "reset");
    }

    #[test]
    fn packets_that_leave_later_than_they_may_arrive_are_the_generators() {
        let mut trial = trial();
        trial.senders[0].lateness = hist(100_000, 2_000_000);
        trial.intended = hist(120_000, 2_100_000);
        assert_binds(&trial, GENERATOR, "left 2.00 ms");
        trial.actual = hist(30_000, 60_000);
        assert_binds(&trial, GENERATOR, "left 2.00 ms");
    }

    #[test]
    fn lateness_is_read_where_the_goal_is() {
        let mut trial = trial();
        trial.senders[0].lateness = hist(1_000, 2_000_000);
        trial.intended = hist(1_500_000, 2_100_000);
        let goals = vec![Goal::default().with(&"loss=0,p50=1ms".parse().unwrap())];
        // The few that left late cannot be why half of all were.
        assert_eq!(of(&trial, &goals).resource, UNKNOWN);
        trial.senders[0].lateness = hist(1_400_000, 2_000_000);
        let binding = of(&trial, &goals);
        assert_eq!(binding.resource, GENERATOR);
        assert!(binding.evidence.contains("at p50, packets left 1.40 ms"));
    }

    #[test]
    fn when_both_ends_were_late_the_generator_alone_is_not_blamed() {
        let mut trial = trial();
        trial.senders[0].lateness = hist(100_000, 2_000_000);
        trial.intended = hist(120_000, 8_000_000);
        trial.actual = hist(30_000, 6_000_000);
        assert_binds(&trial, UNKNOWN, "both ends were late");
        trial.receiver.busy = Some(0.97);
        assert_binds(&trial, RECEIVER, "6.0");
        trial.receiver.busy = Some(0.5);
        trial.receiver.backlog = Some(0.7);
        assert_binds(&trial, RECEIVER, "a fifth full");
        // Late by less than the goal, which the way behind the sender exceeds by itself.
        trial.receiver.backlog = Some(0.0);
        trial.senders[0].lateness = hist(100_000, 700_000);
        assert_binds(&trial, UNKNOWN, "somebody else");
    }

    #[test]
    fn a_full_queue_before_a_busy_receiver_is_its_core() {
        let mut trial = trial();
        lose(&mut trial, 20, 4_000);
        drop_at(&mut trial, "buffer", 90);
        trial.receiver.busy = Some(0.99);
        trial.receiver.backlog = Some(0.8);
        assert_binds(&trial, RECEIVER, "busy 99 %");
        assert_binds(&trial, RECEIVER, "90 drops");
        trial.receiver.backlog = None;
        assert_binds(&trial, RECEIVER, "busy 99 %");
    }

    #[test]
    fn drops_before_a_receiver_that_keeps_up_are_its_buffers() {
        let mut trial = trial();
        lose(&mut trial, 0, 40);
        drop_at(&mut trial, "socket", 40);
        trial.receiver.backlog = None;
        assert_binds(&trial, BUFFER, "busy 50 %");
        // It spins while it waits: its queue tells that it has time left.
        trial.receiver.busy = Some(1.0);
        trial.receiver.backlog = Some(0.02);
        assert_binds(&trial, BUFFER, "in 2.00 % of the looks");
    }

    #[test]
    fn drops_at_a_receiver_that_nobody_can_look_at_are_not_explained() {
        let mut trial = trial();
        lose(&mut trial, 0, 40);
        drop_at(&mut trial, "socket", 40);
        trial.receiver.busy = None;
        trial.receiver.backlog = None;
        assert_binds(&trial, UNKNOWN, "--pid");
    }

    #[test]
    fn packets_that_wait_before_a_busy_receiver_wait_for_its_core() {
        let mut trial = trial();
        trial.intended = hist(600_000, 3_000_000);
        trial.receiver.busy = Some(0.95);
        assert_binds(&trial, RECEIVER, "the goal is p99 <= 1ms");
        trial.receiver.busy = Some(0.4);
        assert_binds(&trial, UNKNOWN, "somebody else");
        trial.senders[0].lateness = hist(100_000, 700_000);
        assert_binds(&trial, GENERATOR, "left 700 us");
    }

    #[test]
    fn what_a_stream_could_not_send_is_the_receivers_when_it_is_busy() {
        let mut trial = trial();
        lose(&mut trial, 5_000, 0);
        assert_binds(&trial, GENERATOR, "5000 of 100000");
        trial.transport = "tcp".to_owned();
        assert_binds(&trial, GENERATOR, "5000 of 100000");
        // A sender with time left was held back, by whatever.
        trial.senders[0].cpu_ns = 300_000_000;
        trial.senders[0].blocked_ns = 50_000_000;
        assert_binds(&trial, UNKNOWN, "took nothing for 5.00 % of the time, and");
        trial.senders[0].blocked_ns = 600_000_000;
        assert_binds(&trial, RECEIVER, "took nothing for 60 % of the time");
        trial.receiver.busy = Some(0.97);
        assert_binds(&trial, RECEIVER, "waits for its receiver");
    }

    #[test]
    fn what_left_and_nobody_counted_was_lost_on_the_link() {
        let mut trial = trial();
        lose(&mut trial, 0, 1);
        assert_binds(&trial, LINK, "1 of 100000 packets that were sent");
    }

    #[test]
    fn nonsense_is_no_reason_to_panic() {
        let mut trial = trial();
        trial.senders.clear();
        trial.ledger = Ledger {
            loss_ratio: f64::NAN,
            ..Ledger::default()
        };
        assert_binds(&trial, UNKNOWN, "loss NaN");
        trial.senders.push(SenderResult {
            unsent: u64::MAX / 2,
            ..SenderResult::default()
        });
        assert_binds(&trial, UNKNOWN, "loss NaN");
    }

    #[test]
    fn most_trials_decide_and_the_last_of_them_is_the_evidence() {
        let binding = |resource: &str, evidence: &str| Binding {
            resource: resource.to_owned(),
            evidence: evidence.to_owned(),
        };
        let all = [
            binding(RECEIVER, "a"),
            binding(GENERATOR, "b"),
            binding(RECEIVER, "c"),
        ];
        assert_eq!(most_named(all.iter()), Some(binding(RECEIVER, "c")));
        assert_eq!(most_named(all[..2].iter()), Some(binding(GENERATOR, "b")));
        assert_eq!(most_named([].iter()), None);
    }
}
