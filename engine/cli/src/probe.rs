//! What measured flows look like from inside: `modparam("binrush", "probe", "dialog,ul")`.
//!
//! ```text
//!  shard:    packet ─▶ Probed: audit, then the handler that would have had it        ask ─▶ Desk: noted, or answered
//!              dropped when renewed, and at the end ─▶ Desk: audits                                     ▲
//!  control:    questions? ─▶ renew the handlers ─▶ absorb their audits ─▶ report ─▶ Desk: answers ──────┘
//! ```
//!
//! Each handler audits for itself, so there is no lock between packets. To know what all of them saw, the control
//! thread has them replaced while traffic flows, and the old ones hand over what they have when they are dropped.

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use binrush_engine::{
    Access, ChangeError, Context, Engine, Handler, Registry, SchemaHandler, ShardId, Verdict,
};
use binrush_probe::ask::message::{self, Answer, Ask, PART_LEN_MAX, Wish};
use binrush_probe::{Audit, Hist, Limits, Report, RunReport};
use binrush_wire::{ErrorKind, Packet, WireError};

use crate::modules;

/// The control thread's side: what is measured, and what came of it.
pub(crate) struct Probe {
    names: Vec<String>,
    desk: Arc<Desk>,
    /// What was handed over so far.
    whole: Audit,
}

/// The place between handlers and the control thread. Its locks are taken for questions and for handlers that go,
/// never for a packet that is measured.
struct Desk {
    audits: Mutex<Vec<Audit>>,
    questions: Mutex<Questions>,
}

struct Questions {
    /// Who may be answered, besides this host.
    access: Access,
    /// Not looked at yet.
    waiting: Vec<Question>,
    answers: VecDeque<(Question, Vec<u8>)>,
}

/// A question, whichever part of its answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Question {
    wish: Wish,
    run: u16,
    salt: u64,
}

/// A handler whose packets are shown to an audit first.
struct Probed<H> {
    inner: H,
    audit: Audit,
    desk: Arc<Desk>,
}

impl Probe {
    /// For packets of these names, and questions of those that `access` lets in.
    pub(crate) fn new(names: &[String], access: &Access) -> Self {
        let questions = Questions {
            access: access.clone(),
            waiting: Vec::new(),
            answers: VecDeque::new(),
        };
        Self {
            names: names.to_vec(),
            desk: Arc::new(Desk {
                audits: Mutex::new(Vec::new()),
                questions: Mutex::new(questions),
            }),
            whole: Audit::new(Limits::default()),
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
                registry.register(name.as_bytes(), self.maker(SchemaHandler))?;
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

    /// Answers those that `access` lets in from now on.
    pub(crate) fn admit(&self, access: &Access) {
        self.desk.questions().access = access.clone();
    }

    /// Looks after questions; those that came are answered when they are asked again.
    ///
    /// # Errors
    /// A shard does not answer: the questions are let go of.
    pub(crate) fn tend(&mut self, engine: &mut Engine) -> Result<(), ChangeError> {
        let waiting = mem::take(&mut self.desk.questions().waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        for name in &self.names {
            engine.renew(name.as_bytes())?;
        }
        self.gather();
        for question in waiting {
            let text = match question.wish {
                Wish::Report => serde_json::to_vec(&self.whole.report_of(question.run))
                    .expect("numbers and texts are JSON"),
                Wish::Forget => {
                    self.whole.forget(question.run);
                    Vec::new()
                }
            };
            let mut questions = self.desk.questions();
            if questions.answers.len() == ANSWERS_MAX {
                questions.answers.pop_front();
            }
            questions.answers.push_back((question, text));
        }
        Ok(())
    }

    /// Everything, when all handlers were dropped.
    pub(crate) fn finish(mut self) -> Report {
        self.gather();
        self.whole.report()
    }

    /// Takes in what handlers handed over.
    fn gather(&mut self) {
        let audits = mem::take(&mut *locked(&self.desk.audits));
        for audit in audits {
            self.whole.absorb(audit);
        }
    }

    fn maker<H: Handler + Copy + Sync>(
        &self,
        inner: H,
    ) -> impl Fn(ShardId) -> Probed<H> + Send + Sync + use<H> {
        let desk = Arc::clone(&self.desk);
        move |_| Probed {
            inner,
            audit: Audit::new(Limits::default()),
            desk: Arc::clone(&desk),
        }
    }
}

impl<H: Handler> Handler for Probed<H> {
    #[inline]
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        // The engine's clock is CLOCK_MONOTONIC, as the stamps are.
        self.audit.see(context.now().as_nanos(), packet);
        self.inner.handle(context, packet)
    }
}

impl<H> Drop for Probed<H> {
    fn drop(&mut self) {
        let audit = mem::replace(&mut self.audit, Audit::new(Limits::default()));
        locked(&self.desk.audits).push(audit);
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
        } else if !questions.waiting.contains(&question) && questions.waiting.len() < WAITING_MAX {
            questions.waiting.push(question);
        }
        Verdict::Handled
    }

    fn questions(&self) -> MutexGuard<'_, Questions> {
        locked(&self.questions)
    }
}

impl Questions {
    fn may_be_answered(&self, ip: IpAddr) -> bool {
        ip.to_canonical().is_loopback() || self.access.allows(ip)
    }
}

/// The part of `text` that `ask` asks for; `None` when it has fewer.
fn part_of<'a>(text: &'a [u8], ask: &Ask) -> Option<Answer<'a>> {
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
    let Report {
        damaged,
        foreign,
        beyond,
        ..
    } = report;
    lines.push(format!(
        "probe: damaged {damaged}, without a stamp {foreign}, beyond the limits {beyond}"
    ));
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
    [counts].into_iter().chain(latencies).collect()
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
            let mut whole = Vec::new();
            for part in 0..parts {
                let answer = part_of(&text, &ask(part)).unwrap();
                assert!(answer.answers(&ask(part)) && answer.parts == parts);
                whole.extend_from_slice(answer.text);
            }
            assert_eq!(whole, text);
            let beyond = part_of(&text, &ask(parts + 1));
            assert!(beyond.is_none_or(|answer| !answer.answers(&ask(parts + 1))));
        }
    }

    #[test]
    fn this_host_and_those_that_are_let_in_are_answered() {
        let mut access = Access::nobody();
        access.allow("10.0.0.0/8".parse().unwrap()).unwrap();
        let probe = Probe::new(&[], &access);
        let questions = || probe.desk.questions();
        for (ip, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.1.2.3", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            let answered = questions().may_be_answered(ip.parse().unwrap());
            assert_eq!(answered, expected, "{ip}");
        }
        probe.admit(&Access::loopback());
        assert!(!questions().may_be_answered("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn a_report_is_told_in_a_few_lines() {
        let mut run = RunReport {
            run: 7,
            streams: vec![StreamReport {
                received: 12,
                unique: 10,
                duplicates: 2,
                reordered: 3,
                reorder_distance_max: 4,
                last: 19,
                gaps: 10,
                gap_longest: 6,
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
        };
        let expected = [
            "probe run 7: received 12 = unique 10 + duplicates 2; missing 10 (longest gap 6), reordered 3 (by 4 at most)",
            "probe run 7: from the intended time of sending: p50 1.5 us, p99 1.5 us, p99.9 1.5 us, max 1.5 us",
            "probe: damaged 1, without a stamp 2, beyond the limits 0",
        ];
        assert_eq!(lines(&report), expected);
    }
}
