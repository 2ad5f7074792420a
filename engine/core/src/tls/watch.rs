//! What works now, and may not be meant, or will not work much longer.

use std::time::Duration;

use rustls::pki_types::UnixTime;

use super::certificate::date;

/// What was noticed while files were read, and what has an end.
#[derive(Debug, Default)]
pub(super) struct Watch {
    notes: Vec<String>,
    watched: Vec<Watched>,
}

/// Something that is good for some time only.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) domain: String,
    /// What it is, and where it came from.
    pub(super) what: String,
    pub(super) not_before: Option<UnixTime>,
    pub(super) not_after: UnixTime,
}

impl Watch {
    pub(super) fn add(&mut self, watched: Watched) {
        self.watched.push(watched);
    }

    pub(super) fn note(&mut self, domain: &str, words: &str) {
        self.notes.push(format!("TLS domain {domain:?}: {words}"));
    }

    /// What to tell at `now`: the most urgent first, at most [`WARNINGS_MAX`].
    pub(super) fn warnings(&self, now: UnixTime) -> Vec<String> {
        let mut ends: Vec<_> = self.watched.iter().collect();
        ends.sort_by_key(|watched| watched.not_after);
        ends.into_iter()
            .filter_map(|watched| watched.warning(now))
            .chain(self.notes.iter().cloned())
            .take(WARNINGS_MAX)
            .collect()
    }
}

impl Watched {
    fn warning(&self, now: UnixTime) -> Option<String> {
        let Self { domain, what, .. } = self;
        let left = self.not_after.as_secs().checked_sub(now.as_secs());
        let problem = match (left, self.not_before) {
            (None, _) => format!(
                "ended at {}: put a new one in its place",
                date(self.not_after)
            ),
            (_, Some(begin)) if begin > now => {
                format!("begins at {} only: look at this host's clock", date(begin))
            }
            (Some(left), begin) if left < notice(begin, self.not_after).as_secs() => format!(
                "ends at {}, in {} days: put a new one in its place",
                date(self.not_after),
                left / DAY
            ),
            _ => return None,
        };
        Some(format!("TLS domain {domain:?}: {what} {problem}"))
    }
}

/// How long before the end to tell: a third of the time that it is good for, but a month at most. So neither a
/// certificate of a week nor a revocation list that is made anew each day warns all its life.
fn notice(begin: Option<UnixTime>, end: UnixTime) -> Duration {
    let life = begin.map_or(3 * DAY, |begin| {
        end.as_secs().saturating_sub(begin.as_secs())
    });
    Duration::from_secs((life / 3).min(30 * DAY))
}

/// Seconds.
const DAY: u64 = 24 * 60 * 60;

/// Warnings told at once.
const WARNINGS_MAX: usize = 100;
