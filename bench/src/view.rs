//! How a load, a search or a replay stands, while it runs: on standard error, so that standard output holds the result alone.
//!
//! ```text
//!   update(Snapshot) ─┐             ┌─ a terminal:   a thread redraws a block of lines four times a second
//!   search(Progress) ─┴─▶ Model ────┼─ no terminal:  a line for each second, or for each trial of a search
//!                                   └─ --json:       nothing
//! ```
//!
//! The block is drawn over itself by relative moves of the cursor. ratatui's own inline viewport asks the terminal where the
//! cursor is, which takes raw mode and the keyboard: a run in the background would be stopped for that, a redirected standard
//! output would hold the question, and a terminal that does not answer would cost two seconds. This one never reads, so all
//! that must be given back at the end is a visible cursor; the frame that was drawn last stays above what is printed next.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::search::Progress;
use block::{Theme, block};
use model::Model;
use screen::Screen;

/// A state as rows of text and curves.
mod block;
/// What is known, from snapshot to snapshot.
mod model;
/// The same in lines, for logs.
mod plain;
/// A block of lines that is drawn over itself.
mod screen;
/// Numbers as people read them.
pub(crate) mod units;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Load,
    Search,
    Replay,
}

/// How a load stands. Counts are those since it began.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// "load", "trial 7". A search's loads are told apart by it.
    pub(crate) name: String,
    pub(crate) elapsed: Duration,
    /// Of the schedule.
    pub(crate) length: Duration,
    pub(crate) offered_pps: f64,
    pub(crate) sent: u64,
    /// Too late to be sent, or refused by the kernel.
    pub(crate) unsent: u64,
    /// `None`: the receiver does not tell before the end.
    pub(crate) received: Option<u64>,
    /// Handed to the kernel minus due, lately.
    pub(crate) lateness: Times,
    /// Received minus due, lately; empty where it is not known before the end. The one named p99 makes a curve.
    pub(crate) latency: Times,
    /// By name, the zero ones left out.
    pub(crate) drops: Vec<(String, u64)>,
}

/// Names and nanoseconds, in the order in which they are shown: p50, p99, p99.9, max; or mean and max.
pub(crate) type Times = Vec<(&'static str, u64)>;

/// Shows what it is told, until it [ends](Self::end) or is dropped. Any thread may tell it.
#[derive(Debug)]
pub(crate) struct View {
    shared: Arc<Shared>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Silent,
    Lines,
    /// Drawn by that thread.
    Block(Option<JoinHandle<()>>),
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ending: Condvar,
}

#[derive(Debug)]
struct State {
    model: Model,
    /// Since it was drawn last.
    changed: bool,
    ended: bool,
}

impl View {
    /// Of `kind`; with `json` it stays silent, because whoever reads the result reads nothing else.
    pub(crate) fn start(kind: Kind, json: bool) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                model: Model::new(kind),
                changed: false,
                ended: false,
            }),
            ending: Condvar::new(),
        });
        let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let form = if json {
            Form::Silent
        } else if is_dumb || !io::stderr().is_terminal() {
            Form::Lines
        } else {
            spawn(&shared)
        };
        Self { shared, form }
    }

    /// A load stands like that: some ten times a second are enough, hundreds are no harm.
    pub(crate) fn update(&self, snapshot: Snapshot) {
        let mut state = self.shared.lock();
        state.changed = true;
        let is_full_second = state.model.take(snapshot);
        if is_full_second && matches!(self.form, Form::Lines) && state.model.kind() != Kind::Search
        {
            print(&plain::second(&state.model));
        }
    }

    /// A search stands like that.
    pub(crate) fn search(&self, progress: &Progress) {
        let mut state = self.shared.lock();
        state.changed = true;
        let news = state.model.take_progress(progress);
        if matches!(self.form, Form::Lines) {
            for trial in news {
                print(&plain::trial(&trial, progress));
            }
        }
    }

    /// Draws for the last time and gives the terminal back.
    pub(crate) fn end(self) {
        drop(self);
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.ending.notify_all();
        if let Form::Block(thread) = &mut self.form
            && let Some(thread) = thread.take()
        {
            // It panicked: its hook has said so, and the measurement goes on without a view.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A view is numbers only; those that a panicking thread left are as good as others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next drawing; the answer is whether it is the last one.
    fn wait(&self) -> bool {
        let state = self.lock();
        let (state, _) = self
            .ending
            .wait_timeout_while(state, REDRAW, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        state.ended
    }
}

fn spawn(shared: &Arc<Shared>) -> Form {
    let for_thread = Arc::clone(shared);
    let thread = thread::Builder::new().name("view".to_owned());
    match thread.spawn(move || draw(&for_thread)) {
        Ok(thread) => Form::Block(Some(thread)),
        // Where there is no thread to be had, lines need none.
        Err(_) => Form::Lines,
    }
}

/// The drawing thread. It runs beside what is measured, so it draws seldom and only what has changed.
fn draw(shared: &Shared) {
    let theme = Theme::of_environment();
    let mut screen = Screen::new(io::stderr());
    loop {
        let is_last = shared.wait();
        if screen::has_panicked() {
            return;
        }
        let (columns, rows) = screen::size();
        let mut state = shared.lock();
        let changed = std::mem::take(&mut state.changed);
        let drawn = (changed || is_last).then(|| block(&state.model, columns, rows, theme));
        drop(state);
        if let Some(drawn) = drawn
            && screen.draw(&drawn).is_err()
        {
            // Nobody looks any more.
            return;
        }
        if is_last {
            return;
        }
    }
}

/// Whom it cannot be told to does not want to know.
fn print(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Four times a second: seldom enough to cost nothing, often enough to look alive.
const REDRAW: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_view_takes_everything_and_ends() {
        let view = View::start(Kind::Load, true);
        view.update(Snapshot::default());
        view.search(&Progress::default());
        assert!(matches!(view.form, Form::Silent));
        view.end();
    }

    #[test]
    fn ending_does_not_wait_for_the_next_drawing() {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                model: Model::new(Kind::Load),
                changed: false,
                ended: true,
            }),
            ending: Condvar::new(),
        });
        let start = std::time::Instant::now();
        assert!(shared.wait());
        assert!(start.elapsed() < REDRAW);
        shared.lock().ended = false;
        assert!(!shared.wait());
    }
}
