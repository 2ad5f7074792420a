//! How old the copies are, seen from outside while a drill goes on: each node is asked for the pulse, again and again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::callers::Callers;
use super::catalog::Who;
use super::node::millis;
use super::traffic::{PULSE, aor_name};
use crate::state::{self, Search, Value};

/// Looks until it is dropped.
pub(super) struct Watch {
    nodes: Arc<Mutex<BTreeMap<Who, Watched>>>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Of one node.
#[derive(Debug, Clone, Default)]
struct Watched {
    /// Where it is asked; `None`: it is not, it is dead or stands still.
    control: Option<PathBuf>,
    /// It is cut off, or has not caught up since.
    is_apart: bool,
    oldest: Staleness,
}

/// The oldest that a copy was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Staleness {
    /// While it was in touch with the callers, in milliseconds.
    pub(super) in_touch_ms: u64,
    /// While it was cut off, and until it had caught up.
    pub(super) apart_ms: u64,
    /// How often it was looked at.
    pub(super) looks: u64,
}

impl Watch {
    /// Begins to look, at nobody yet.
    pub(super) fn start(callers: &Arc<Callers>) -> anyhow::Result<Self> {
        let nodes: Arc<Mutex<BTreeMap<Who, Watched>>> = Arc::default();
        let stops = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("watch".into()).spawn({
            let (nodes, stops, callers) =
                (Arc::clone(&nodes), Arc::clone(&stops), Arc::clone(callers));
            move || {
                while !stops.load(Ordering::Relaxed) {
                    look(&nodes, &callers);
                    thread::sleep(EVERY);
                }
            }
        })?;
        Ok(Self {
            nodes,
            stops,
            thread: Some(thread),
        })
    }

    /// From now on it can be asked there; `None`: it cannot.
    pub(super) fn set_control(&self, who: Who, control: Option<&Path>) {
        self.nodes().entry(who).or_default().control = control.map(Path::to_owned);
    }

    /// From now on nobody expects its copy to be fresh, or they do again.
    pub(super) fn set_apart(&self, who: Who, is_apart: bool) {
        self.nodes().entry(who).or_default().is_apart = is_apart;
    }

    /// What was seen of a node.
    pub(super) fn oldest(&self, who: Who) -> Staleness {
        let nodes = self.nodes();
        nodes
            .get(&who)
            .map_or_else(Staleness::default, |watched| watched.oldest)
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<Who, Watched>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks each node once.
fn look(nodes: &Mutex<BTreeMap<Who, Watched>>, callers: &Callers) {
    let asked: Vec<_> = {
        let nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = nodes
            .iter()
            .filter_map(|(who, watched)| Some((*who, watched.control.clone()?, watched.is_apart)));
        asked.collect()
    };
    for (who, control, was_apart) in asked {
        // What was sent after this moment cannot be expected of the answer.
        let now = Instant::now();
        let Some(number) = pulse(&control) else {
            continue;
        };
        let age = millis(callers.age(number, now));
        let mut nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = nodes.entry(who).or_default();
        watched.oldest.looks += 1;
        // A node that is cut off while it is asked is no longer expected to answer for it.
        let oldest = match was_apart || watched.is_apart {
            true => &mut watched.oldest.apart_ms,
            false => &mut watched.oldest.in_touch_ms,
        };
        *oldest = age.max(*oldest);
    }
}

/// The number of the pulse that a node has; `None`: none, or it does not answer.
pub(super) fn pulse(control: &Path) -> Option<i64> {
    let search = Search {
        aor: Some(aor_name(PULSE)),
        ..Search::default()
    };
    let dump = state::of_engine(control, &search).ok()?;
    let mut numbers = dump.records.iter().filter_map(|record| record.get("cseq"));
    match numbers.next()? {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

const EVERY: Duration = Duration::from_millis(25);
