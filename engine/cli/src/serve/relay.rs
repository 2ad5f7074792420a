//! Who gets the live stream on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_engine::config::{Endpoint, Protocol};
use binrush_engine::relay::{self, Planned, Relay, TargetSnapshot};
use binrush_engine::{Engine, Registry, WallClock};
use serde_json::{Map, Value, json};

use super::cluster::client;
use super::ready::More;
use super::settings::Settings;
use crate::text::counted;

/// Shows the packets of all shards to the relay, if there is one.
pub(super) fn plan(
    settings: &Settings,
    registry: &mut Registry,
) -> anyhow::Result<Option<Planned>> {
    if settings.relay.is_empty() {
        return Ok(None);
    }
    let shards = settings.engine.shard_count() + settings.engine.readers;
    let planned = Planned::new(settings.relay.clone(), shards).context("cannot relay")?;
    registry.tap(planned.taps());
    Ok(Some(planned))
}

/// Starts it for an engine that receives, which goes on without what cannot be started. What is wrong, in words.
pub(super) fn start(
    planned: Planned,
    engine: &Engine,
    settings: &Settings,
) -> (Relay, Vec<String>) {
    debug_assert_eq!(planned.shards(), engine.shards().count(), "each has a ring");
    let mut targets = settings.relay.iter();
    let wants_tls = targets.any(|target| target.to.protocol == Protocol::Bins);
    let tls = wants_tls.then(|| client(settings)).transpose();
    let (tls, mut warnings) = match tls {
        Ok(tls) => (tls, Vec::new()),
        Err(error) => (None, vec![format!("relay: {error:#}")]),
    };
    let listen: Vec<SocketAddr> = engine.listeners().map(|listener| listener.addr).collect();
    let wall = Arc::new(WallClock::system());
    let relay = planned.start(&listen, tls.as_ref(), wall);
    let troubles = relay.troubles();
    warnings.extend(troubles.map(|(to, why)| {
        format!("nothing goes on to {to}: {why}; its packets are dropped and counted")
    }));
    (relay, warnings)
}

/// Each target and whether packets go there, for the line at the start; `None`: there is no relay.
pub(super) fn more(relay: Option<&Relay>) -> More {
    let targets = relay.map(Relay::snapshot).unwrap_or_default();
    let words = |target: &TargetSnapshot| {
        let TargetSnapshot { to, release, .. } = target;
        match target.up {
            true => format!("relay to {to} ({release})"),
            false => format!("no relay to {to} ({release})"),
        }
    };
    let json = |target: &TargetSnapshot| json!({ "to": target.to, "release": target.release, "up": target.up });
    let all: Vec<_> = targets.iter().map(words).collect();
    More {
        key: "relay",
        words: (!all.is_empty()).then(|| all.join(", ")),
        json: targets.iter().map(json).collect(),
    }
}

/// Why `settings` cannot have the targets of `running`, in words.
pub(super) fn wrong(running: &Settings, settings: &Settings) -> Option<String> {
    let engine = &settings.engine;
    let bin = engine.listen.iter().map(|addr| (Protocol::Bin, *addr));
    let bins = engine.streams.listen_tls.iter();
    let listen: Vec<_> = bin
        .chain(bins.map(|addr| (Protocol::Bins, *addr)))
        .map(|(protocol, addr)| Endpoint { protocol, addr })
        .collect();
    let checked = relay::check(&running.relay, &listen, &engine.access);
    checked.err().map(|(index, wrong)| {
        let to = running.relay[index].to;
        format!("relay to {to}: {wrong}")
    })
}

/// One line for each target: what became of what was accepted, and of what was made of it.
pub(super) fn lines(targets: &[TargetSnapshot]) -> Vec<String> {
    targets.iter().map(line).collect()
}

fn line(target: &TargetSnapshot) -> String {
    let named = [
        ("looped", target.looped),
        ("echoed", target.echoed),
        ("dropped", target.dropped),
        ("waiting", target.waiting),
    ];
    let refused = target.refused.iter().map(|each| (each.why, each.count));
    let others: String = refused
        .chain(named)
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!(" + {name} {count}"))
        .collect();
    let TargetSnapshot {
        to,
        release,
        accepted,
        passed,
        translated,
        made,
        sent,
        lost,
        queued,
        ..
    } = target;
    let queued = match queued {
        0 => String::new(),
        queued => format!(" + queued {queued}"),
    };
    format!(
        "relay to {to} ({release}): accepted {accepted} = passed {passed} + translated {translated}{others}; made {made} = sent \
         {sent} + lost {lost}{queued}"
    )
}

/// The same for tools, with each reason.
pub(super) fn json(targets: &[TargetSnapshot]) -> Value {
    let one = |target: &TargetSnapshot| {
        let refused = target.refused.iter();
        let refused: Map<String, Value> = refused
            .map(|each| (each.why.to_owned(), each.count.into()))
            .collect();
        json!({
            "to": target.to, "release": target.release, "accepted": target.accepted, "passed": target.passed,
            "translated": target.translated, "refused": refused, "looped": target.looped, "echoed": target.echoed,
            "dropped": target.dropped, "waiting": target.waiting, "made": target.made, "sent": target.sent,
            "lost": target.lost, "queued": target.queued, "up": target.up, "trouble": target.trouble,
            "balanced": target.is_balanced(),
        })
    };
    targets.iter().map(one).collect()
}

/// Whether all is told of targets of a relay that has ended.
pub(super) fn is_told(targets: &[TargetSnapshot]) -> bool {
    let is_told =
        |each: &TargetSnapshot| each.is_balanced() && each.waiting == 0 && each.queued == 0;
    targets.iter().all(is_told)
}

/// What happens to targets: whether they are there, and what they did not get. Each target is told of once in [`QUIET`] at most, with
/// all that has come together by then.
#[derive(Debug, Default)]
pub(super) struct News {
    /// By target, as they were told.
    told: Vec<Told>,
}

/// What was told of one.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    is_down: bool,
    missed: u64,
    at: Option<Instant>,
}

/// One line of it.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) json: Value,
}

impl News {
    /// With `targets` as the line at the start told them.
    pub(super) fn since(targets: &[TargetSnapshot]) -> Self {
        let told = |target: &TargetSnapshot| Told {
            is_down: !target.up,
            ..Told::default()
        };
        Self {
            told: targets.iter().map(told).collect(),
        }
    }

    /// What to say at `now`.
    pub(super) fn due(&mut self, now: Instant, targets: &[TargetSnapshot]) -> Vec<Notice> {
        self.told.resize(targets.len(), Told::default());
        let all = self.told.iter_mut().zip(targets);
        all.filter_map(|(told, target)| told.due(now, target))
            .collect()
    }
}

impl Told {
    fn due(&mut self, now: Instant, target: &TargetSnapshot) -> Option<Notice> {
        let missed = target.dropped + target.lost;
        let turned = self.is_down == target.up;
        let is_quiet = |at: Instant| now.saturating_duration_since(at) < QUIET;
        if !turned && missed == self.missed || self.at.is_some_and(is_quiet) {
            return None;
        }
        let state = match (turned, target.up, &target.trouble[..]) {
            (false, ..) => String::new(),
            (true, true, _) => " is there again".to_owned(),
            (true, false, "") => " is not there".to_owned(),
            (true, false, why) => format!(" is not there: {why}"),
        };
        let more = missed.saturating_sub(self.missed);
        let lack = match more {
            0 => String::new(),
            more => format!(
                ": {} dropped or lost (dropped {}, lost {} in all)",
                counted(more, "packet"),
                target.dropped,
                target.lost
            ),
        };
        *self = Self {
            is_down: !target.up,
            missed,
            at: Some(now),
        };
        let warning = if turned && target.up && more == 0 {
            ""
        } else {
            "warning: "
        };
        Some(Notice {
            text: format!("{warning}relay to {}{state}{lack}", target.to),
            json: json!({ "to": target.to, "up": target.up, "missed": more }),
        })
    }
}

/// How long a target is not told of again.
const QUIET: Duration = Duration::from_secs(10);

/// How long packets may take to leave at the end.
pub(super) const DRAIN: Duration = Duration::from_secs(1);

/// Where somebody waits to receive: what has not left by then is lost, and told.
pub(super) const DRAIN_SHORT: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::relay::Refused;

    fn target() -> TargetSnapshot {
        let refused = |why, count| Refused { why, count };
        TargetSnapshot {
            to: "bin:10.0.0.7:5555".into(),
            release: "1.x",
            accepted: 20,
            passed: 10,
            translated: 5,
            refused: vec![refused("cluster", 0), refused("no_message", 3)],
            dropped: 2,
            made: 15,
            sent: 14,
            lost: 1,
            ..TargetSnapshot::default()
        }
    }

    #[test]
    fn a_target_is_told_as_two_sums() {
        let target = target();
        assert!(is_told(std::slice::from_ref(&target)));
        assert_eq!(
            line(&target),
            "relay to bin:10.0.0.7:5555 (1.x): accepted 20 = passed 10 + translated 5 + no_message 3 + dropped 2; made 15 = sent \
             14 + lost 1"
        );
        let json = json(&[target]);
        assert_eq!(json[0]["refused"], json!({ "cluster": 0, "no_message": 3 }));
        assert_eq!(json[0]["balanced"], true);
    }

    #[test]
    fn a_target_is_told_of_when_it_goes_and_comes_and_when_it_misses_packets() {
        let start = Instant::now();
        let mut target = TargetSnapshot {
            up: true,
            dropped: 0,
            lost: 0,
            ..target()
        };
        let mut news = News::since(std::slice::from_ref(&target));
        let mut due = |at: Duration, target: &TargetSnapshot| {
            let due = news.due(start + at, std::slice::from_ref(target));
            due.into_iter().map(|each| each.text).collect::<Vec<_>>()
        };
        assert!(due(Duration::ZERO, &target).is_empty());
        (target.up, target.trouble) = (false, "Connection refused".into());
        let down = "warning: relay to bin:10.0.0.7:5555 is not there: Connection refused";
        assert_eq!(due(QUIET, &target), [down]);
        (target.dropped, target.lost) = (2, 1);
        assert!(due(QUIET * 3 / 2, &target).is_empty(), "too early");
        let missed = "warning: relay to bin:10.0.0.7:5555: 3 packets dropped or lost (dropped 2, lost 1 in all)";
        assert_eq!(due(QUIET * 2, &target), [missed]);
        target.up = true;
        let again = "relay to bin:10.0.0.7:5555 is there again";
        assert_eq!(due(QUIET * 3, &target), [again]);
        assert!(due(QUIET * 9, &target).is_empty());
    }

    #[test]
    fn what_waits_or_is_missing_at_the_end_is_no_balance() {
        for change in [
            |target: &mut TargetSnapshot| target.accepted += 1,
            |target: &mut TargetSnapshot| target.sent -= 1,
            |target: &mut TargetSnapshot| (target.sent, target.queued) = (13, 1),
            |target: &mut TargetSnapshot| (target.passed, target.waiting) = (9, 1),
        ] {
            let mut target = target();
            change(&mut target);
            assert!(!is_told(&[target]));
        }
    }
}
