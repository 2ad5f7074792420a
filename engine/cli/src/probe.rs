//! What measured flows look like from inside: `modparam("binrush", "probe", "dialog,ul")`.
//!
//! ```text
//!  shard:    packet ─▶ Probed: the handler that would have had it, then            ask ─▶ Desk: noted, or answered
//!                        └─ handled? ─▶ the shard's audit ◀┐                                       ▲
//!  control:    questions? ─▶ a copy of each shard's audit ─┘ ─▶ put together ─▶ report ─▶ Desk: answers
//! ```
//!
//! All measured names of a shard share one audit, for a stream may send packets of several, and its order is one. What
//! the handler refuses is not audited: it has its outcome, and each packet is to be in one count.
//!
//! The audit is behind a lock, because the control thread looks at it while traffic flows. Its shard takes it for every
//! measured packet, mostly when nobody else wants it, which costs some 15 ns. A server that measures nothing has no such
//! handlers and pays nothing. The control thread holds it for as long as it takes to copy one run, some 100 us.

use std::collections::VecDeque;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use binrush_engine::{
    Access, Context, EngineConfig, Handler, Registry, SchemaHandler, ShardId, Verdict,
};
use binrush_probe::ask::message::{self, Answer, Ask, PART_LEN_MAX, Wish};
use binrush_probe::{Audit, Hist, Limits, Report, RunReport};
use binrush_wire::{ErrorKind, Packet, WireError};

use crate::modules;

/// The control thread's side: what is measured, and what came of it.
pub(crate) struct Probe {
    names: Vec<String>,
    desk: Arc<Desk>,
}

/// The place between shards and the control thread.
struct Desk {
    /// Of each of the audits.
    limits: Limits,
    /// By shard. This lock is for handlers that are made and for reports, never for a packet.
    audits: Mutex<Vec<Shared>>,
    questions: Mutex<Questions>,
}

/// The audit of one shard.
type Shared = Arc<Mutex<Audit>>;

struct Questions {
    /// Who may be answered.
    access: Access,
    /// Whether nobody but this host can ask, so that it may be answered whatever the access is.
    is_local: bool,
    /// Not looked at yet.
    waiting: Vec<Question>,
    /// To be answered next.
    due: Vec<Question>,
    answers: VecDeque<(Question, Text)>,
}

/// All of an answer, and what it comes to.
struct Text {
    text: Vec<u8>,
    check: u32,
}

/// A question, whichever part of its answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Question {
    wish: Wish,
    run: u16,
    salt: u64,
}

/// A handler whose packets are audited when it has taken them.
struct Probed<H> {
    inner: H,
    audit: Shared,
}

impl Probe {
    /// For packets of these names, and questions of those that the engine lets in.
    pub(crate) fn new(names: &[String], engine: &EngineConfig) -> Self {
        let questions = Questions {
            access: engine.access.clone(),
            is_local: all_loopback(engine.listen.iter().copied()),
            waiting: Vec::new(),
            due: Vec::new(),
            answers: VecDeque::new(),
        };
        let limits = Limits::default();
        Self {
            names: names.to_vec(),
            desk: Arc::new(Desk {
                limits: Limits {
                    memory: limits.memory
                        / usize::from((engine.shard_count() + engine.readers).max(1)),
                    ..limits
                },
                audits: Mutex::new(Vec::new()),
                questions: Mutex::new(questions),
            }),
        }
    }

    /// Whether packets of `name` are measured.
    pub(crate) fn measures(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Registers a handler for each of its names, which reads packets of a known module to their last byte if `verify`
    /// says so, and one for questions.
    pub(crate) fn register(&self, registry: &mut Registry, verify: bool) -> anyhow::Result<()> {
        for name in &self.names {
            let is_known = modules::all().any(|module| module.name == name);
            if verify && is_known {
                let handler = SchemaHandler;
                registry.register(name.as_bytes(), self.maker(handler))?;
            } else {
                registry.register(name.as_bytes(), self.maker(modules::accept))?;
            }
        }
        let desk = Arc::clone(&self.desk);
        registry.register(message::NAME, move |_| {
            let desk = Arc::clone(&desk);
            move |context: &mut Context<'_>, packet: &Packet<'_>| desk.asked(context, packet)
        })?;
        Ok(())
    }

    /// Answers those that `access` lets in from now on, by way of these listeners.
    pub(crate) fn admit(&self, access: &Access, listeners: impl Iterator<Item = SocketAddr>) {
        let mut questions = self.desk.questions();
        questions.access = access.clone();
        questions.is_local = all_loopback(listeners);
    }

    /// Looks after questions; those that came are answered when they are asked again.
    ///
    /// Is to be called every few milliseconds. A question is left for the next call once: a batch that a shard had
    /// received before it came is audited by then.
    pub(crate) fn tend(&self) {
        let due = mem::take(&mut self.desk.questions().due);
        for question in &due {
            let text = match question.wish {
                Wish::Report => {
                    let copy = |audit: &Shared| locked(audit).copy_of(question.run);
                    text_of(self.desk.together(copy).report(), REPORT_LEN_MAX)
                }
                Wish::Forget => {
                    for audit in &*locked(&self.desk.audits) {
                        locked(audit).forget(question.run);
                    }
                    Vec::new()
                }
            };
            self.desk.questions().answer(*question, Text::new(text));
        }
        let mut questions = self.desk.questions();
        // Asked again while it was answered, it needs no other answer.
        questions.waiting.retain(|question| !due.contains(question));
        questions.due = mem::take(&mut questions.waiting);
    }

    /// Everything, when all shards have ended.
    pub(crate) fn finish(self) -> Report {
        let limits = self.desk.limits;
        let take = |audit: &Shared| mem::replace(&mut *locked(audit), Audit::new(limits));
        self.desk.together(take).report()
    }

    fn maker<H: Handler + Clone + Sync>(
        &self,
        inner: H,
    ) -> impl Fn(ShardId) -> Probed<H> + Send + Sync + use<H> {
        let desk = Arc::clone(&self.desk);
        move |shard| Probed {
            inner: inner.clone(),
            audit: desk.audit_of(shard),
        }
    }
}

impl<H: Handler> Handler for Probed<H> {
    #[inline]
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let verdict = self.inner.handle(context, packet);
        if verdict == Verdict::Handled {
            // The engine's clock is CLOCK_MONOTONIC, as the stamps are.
            locked(&self.audit).see(context.now().as_nanos(), packet);
        }
        verdict
    }
}

impl Desk {
    /// On a shard: answers a question, or has the control thread prepare for its being asked again.
    fn asked(&self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let ask = match Ask::read(packet) {
            Ok(ask) => ask,
            Err(None) => return Verdict::UnknownCommand,
            Err(Some(error)) => return Verdict::Field(error),
        };
        let mut questions = self.questions();
        if !questions.may_be_answered(ask.reply_to.ip()) {
            let at = packet.fields().offset() + ADDRESS_AT;
            return Verdict::Field(WireError::new(ErrorKind::Variant, at, 0, 0));
        }
        let question = Question {
            wish: ask.wish,
            run: ask.run,
            salt: ask.salt,
        };
        let known = questions.answers.iter();
        let answer = known.rev().find(|(known, _)| *known == question);
        if let Some((_, text)) = answer {
            if let Some(answer) = part_of(text, &ask) {
                // Without room to send it is asked again.
                context.send(ask.reply_to, &answer.to_datagram());
            }
        } else if ask.part == 0 {
            // Whoever asks for a later part has one of an answer that is gone, and begins anew.
            questions.wait(question);
        }
        Verdict::Handled
    }

    /// The audit of `shard`, which all its handlers share.
    fn audit_of(&self, shard: ShardId) -> Shared {
        let mut audits = locked(&self.audits);
        let wanted = audits.len().max(shard.index() + 1);
        audits.resize_with(wanted, || Arc::new(Mutex::new(Audit::new(self.limits))));
        Arc::clone(&audits[shard.index()])
    }

    /// What `of` takes from the audit of each shard, as one.
    fn together(&self, of: impl Fn(&Shared) -> Audit) -> Audit {
        let audits = locked(&self.audits);
        let shards = audits.len();
        // Each has kept to its limits, and another may have followed other runs: there is room for all.
        let mut whole = Audit::new(Limits {
            runs: self.limits.runs * shards,
            streams: self.limits.streams * shards,
            memory: usize::MAX,
            ..self.limits
        });
        audits.iter().for_each(|audit| whole.absorb(of(audit)));
        whole
    }

    fn questions(&self) -> MutexGuard<'_, Questions> {
        locked(&self.questions)
    }
}

impl Text {
    fn new(text: Vec<u8>) -> Self {
        let check = message::check_of(&text);
        Self { text, check }
    }
}

impl Questions {
    /// Has `question` answered, if there are not too many.
    fn wait(&mut self, question: Question) {
        let known = self.waiting.contains(&question) || self.due.contains(&question);
        if !known && self.waiting.len() < WAITING_MAX {
            self.waiting.push(question);
        }
    }

    /// Keeps the answer until it is asked for.
    fn answer(&mut self, question: Question, text: Text) {
        if self.answers.len() == ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((question, text));
    }

    fn may_be_answered(&self, ip: IpAddr) -> bool {
        // On a host that others send to, a loopback address is one that a stranger may have made up.
        self.access.allows(ip) || self.is_local && ip.to_canonical().is_loopback()
    }
}

fn all_loopback(mut listeners: impl Iterator<Item = SocketAddr>) -> bool {
    listeners.all(|addr| addr.ip().to_canonical().is_loopback())
}

/// `report` as JSON; where that is longer than `len_max` bytes, without its intervals.
fn text_of(mut report: Report, len_max: usize) -> Vec<u8> {
    let text = |report: &Report| serde_json::to_vec(report).expect("numbers and texts are JSON");
    let whole = text(&report);
    if whole.len() <= len_max {
        return whole;
    }
    report.leave_out_intervals();
    text(&report)
}

/// The part of the answer that `ask` asks for; `None` when it has fewer.
fn part_of<'a>(Text { text, check }: &'a Text, ask: &Ask) -> Option<Answer<'a>> {
    // Nothing is one part too: the answer itself is the news.
    let parts = text.len().div_ceil(PART_LEN_MAX).max(1);
    let from = usize::from(ask.part) * PART_LEN_MAX;
    let rest = text.get(from..)?;
    Some(Answer {
        wish: ask.wish,
        run: ask.run,
        salt: ask.salt,
        part: ask.part,
        parts: u16::try_from(parts).ok()?,
        check: *check,
        text: &rest[..rest.len().min(PART_LEN_MAX)],
    })
}

/// A panic elsewhere has ended the process, so there is nothing half done behind a lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `report` for people, some lines for each run.
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.runs.iter().flat_map(of_run).collect();
    let (foreign, beyond) = (report.foreign, report.beyond);
    let mut rest = format!(
        "probe: damaged {}, without a stamp {foreign}, beyond the limits {beyond}",
        report.damaged_total()
    );
    if report.evicted > 0 {
        rest.push_str(&format!(
            ", of runs let go of for later ones {}",
            report.evicted
        ));
    }
    lines.push(rest);
    lines
}

fn of_run(run: &RunReport) -> Vec<String> {
    let total = run.total();
    let longest = match total.gap_longest {
        0 => String::new(),
        longest => format!(" (longest gap {longest})"),
    };
    let counts = format!(
        "probe run {}: received {} = unique {} + duplicates {}; missing {}{longest}, reordered {} (by {} at most)",
        run.run,
        total.received,
        total.unique,
        total.duplicates,
        total.gaps,
        total.reordered,
        total.reorder_distance_max,
    );
    let latencies = [("intended", &run.intended), ("actual", &run.actual)];
    let latencies = latencies.into_iter().filter(|(_, hist)| !hist.is_empty());
    let latencies = latencies.map(|(from, hist)| {
        format!(
            "probe run {}: from the {from} time of sending: {}",
            run.run,
            percentiles(hist)
        )
    });
    let early = (run.early > 0).then(|| {
        format!(
            "probe run {}: {} came before they were due: the sender has another clock, so no latency here means anything",
            run.run, run.early
        )
    });
    [counts].into_iter().chain(latencies).chain(early).collect()
}

fn percentiles(hist: &Hist) -> String {
    let micros = |ns: u64| ns as f64 / 1e3;
    let [p50, p99, p99_9] = [0.5, 0.99, 0.999].map(|quantile| micros(hist.value_at(quantile)));
    let max = micros(hist.max());
    format!("p50 {p50:.1} us, p99 {p99:.1} us, p99.9 {p99_9:.1} us, max {max:.1} us")
}

/// Questions that wait, and answers that are kept: a few tools at a time.
const WAITING_MAX: usize = 8;
const ANSWERS_MAX: usize = 4;

/// Bytes of a report that is answered: 3600 datagrams, and all answers that are kept take 16 MiB.
const REPORT_LEN_MAX: usize = 4 << 20;

/// Where the address of a question stands among its fields, behind an int.
const ADDRESS_AT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_probe::StreamReport;

    #[test]
    fn an_answer_is_cut_into_parts_that_make_it_up() {
        let ask = |part| Ask {
            wish: Wish::Report,
            run: 1,
            reply_to: ([127, 0, 0, 1], 9).into(),
            salt: 2,
            part,
        };
        for (len, parts) in [
            (0, 1),
            (1, 1),
            (PART_LEN_MAX, 1),
            (PART_LEN_MAX + 1, 2),
            (3 * PART_LEN_MAX, 3),
        ] {
            let text: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let text = Text::new(text);
            let mut whole = Vec::new();
            for part in 0..parts {
                let answer = part_of(&text, &ask(part)).unwrap();
                assert!(answer.answers(&ask(part)) && answer.parts == parts);
                assert_eq!(answer.check, message::check_of(&text.text));
                whole.extend_from_slice(answer.text);
            }
            assert_eq!(whole, text.text);
            let beyond = part_of(&text, &ask(parts + 1));
            assert!(beyond.is_none_or(|answer| !answer.answers(&ask(parts + 1))));
        }
    }

    #[test]
    fn those_that_are_let_in_are_answered_and_this_host_where_no_other_can_ask() {
        let mut access = Access::nobody();
        access.allow("10.0.0.0/8".parse().unwrap()).unwrap();
        let [here, there]: [SocketAddr; 2] =
            ["127.0.0.1:5555", "10.1.1.1:5555"].map(|addr| addr.parse().unwrap());
        let engine = |listen: &[SocketAddr]| EngineConfig {
            listen: listen.to_vec(),
            access: access.clone(),
            ..EngineConfig::new(here)
        };
        let answered = |probe: &Probe, ip: &str| {
            let questions = probe.desk.questions();
            questions.may_be_answered(ip.parse().unwrap())
        };
        for (listen, is_local) in [
            (&[here][..], true),
            (&[there], false),
            (&[here, there], false),
        ] {
            let probe = Probe::new(&[], &engine(listen));
            for (ip, expected) in [
                ("127.0.0.1", is_local),
                ("::1", is_local),
                ("::ffff:127.0.0.1", is_local),
                ("10.1.2.3", true),
                ("192.0.2.1", false),
                ("2001:db8::1", false),
            ] {
                assert_eq!(answered(&probe, ip), expected, "{ip} {listen:?}");
            }
            probe.admit(&Access::loopback(), [there].into_iter());
            assert!(answered(&probe, "127.0.0.1") && !answered(&probe, "10.1.2.3"));
            probe.admit(&access, [here].into_iter());
            assert!(answered(&probe, "127.0.0.1") && answered(&probe, "10.1.2.3"));
        }
    }

    #[test]
    fn shards_share_what_memory_there_is() {
        let config = EngineConfig {
            shards: Some(4),
            ..EngineConfig::new(([127, 0, 0, 1], 0).into())
        };
        let probe = Probe::new(&[], &config);
        assert_eq!(probe.desk.limits.memory, Limits::default().memory / 4);
        let [one, again, other] = [2, 2, 0].map(|shard| probe.desk.audit_of(ShardId(shard)));
        assert!(Arc::ptr_eq(&one, &again) && !Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn a_report_that_is_too_long_goes_without_its_intervals_and_says_so() {
        let run = RunReport {
            run: 1,
            intervals: vec![binrush_probe::Interval::default(); 50],
            ..RunReport::default()
        };
        let report = Report {
            runs: vec![run],
            ..Report::default()
        };
        let read = |text: &[u8]| serde_json::from_slice::<Report>(text).unwrap();
        let whole = text_of(report.clone(), REPORT_LEN_MAX);
        assert_eq!(read(&whole), report);
        let cut = read(&text_of(report, whole.len() - 1));
        assert_eq!(
            (cut.runs[0].intervals.len(), cut.runs[0].intervals_cut),
            (0, 50)
        );
    }

    #[test]
    fn a_report_is_told_in_a_few_lines() {
        let mut run = RunReport {
            run: 7,
            early: 8,
            streams: vec![StreamReport {
                received: 12,
                unique: 10,
                duplicates: 2,
                reordered: 3,
                reorder_distance_max: 4,
                last: 19,
                gaps: 10,
                gap_longest: 6,
                damaged: 4,
                ..StreamReport::default()
            }],
            ..RunReport::default()
        };
        run.intended.record_n(1_500, 10);
        let report = Report {
            runs: vec![run],
            damaged: 1,
            foreign: 2,
            beyond: 0,
            evicted: 9,
        };
        let expected = [
            "probe run 7: received 12 = unique 10 + duplicates 2; missing 10 (longest gap 6), reordered 3 (by 4 at most)",
            "probe run 7: from the intended time of sending: p50 1.5 us, p99 1.5 us, p99.9 1.5 us, max 1.5 us",
            "probe run 7: 8 came before they were due: the sender has another clock, so no latency here means anything",
            "probe: damaged 5, without a stamp 2, beyond the limits 0, of runs let go of for later ones 9",
        ];
        assert_eq!(lines(&report), expected);
    }
}
