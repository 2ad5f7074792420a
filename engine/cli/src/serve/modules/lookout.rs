//! Modules that do not return while nobody else looks: at their beginning and at their end.
//!
//! The main thread runs everything from the constructors of a library to the fixups of a script, and `free_fixup` and `destroy`, and
//! waits for `child_init`. So this is a thread beside it, which names who hangs, and ends the process when that is asked for meanwhile:
//! a flag that a signal sets would be seen by nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binrush::bin;
use binrush::running::Watch;
use signal_hook::low_level;

use super::news::{HANGS, stays};
use crate::signal::IMPATIENT;

/// Looks until it is dropped, which waits for its thread. While there is one, another one does nothing.
#[derive(Debug)]
pub(in crate::serve) struct Lookout {
    is_first: bool,
    /// Nothing is ever sent.
    over: Option<Sender<()>>,
    /// `None`: another one looks, or there was no thread to be had.
    thread: Option<JoinHandle<()>>,
}

impl Lookout {
    /// From now on. `stop`: SIGTERM or SIGINT came.
    pub(in crate::serve) fn start(stop: &Arc<AtomicBool>) -> Self {
        Self::begin(stop, false)
    }

    /// The same at the end, where who hangs loses the sockets that modules send from: their addresses are free then.
    pub(in crate::serve) fn start_last(stop: &Arc<AtomicBool>) -> Self {
        Self::begin(stop, true)
    }

    fn begin(stop: &Arc<AtomicBool>, is_last: bool) -> Self {
        let is_first = !LOOKS.swap(true, Ordering::AcqRel);
        if !is_first {
            return Self {
                is_first,
                over: None,
                thread: None,
            };
        }
        let (over_tx, over) = mpsc::channel();
        let (begun_tx, begun) = mpsc::channel::<()>();
        let stop = Arc::clone(stop);
        let look = move || {
            let mut watch = Watch::new(Instant::now());
            let mut told = Vec::new();
            // With all that a wait needs: what a thread registers with the C library waits while a constructor runs.
            let _ = over.recv_timeout(FIRST);
            drop(begun_tx);
            while over.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                for each in watch.look(Instant::now(), HANGS) {
                    let which = (each.module, each.thread.clone());
                    let text = stays(&each);
                    if stop.load(Ordering::Relaxed) {
                        eprintln!("error: {text}; ended where it is, as was asked for");
                        low_level::exit(IMPATIENT);
                    }
                    if !told.contains(&which) {
                        if is_last {
                            bin::send_from(Vec::new());
                        }
                        eprintln!("warning: {text}");
                        told.push(which);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("lookout".into()).spawn(look);
        // Until it is dropped, as by a thread that was not to be had.
        let _ = begun.recv();
        Self {
            is_first,
            over: Some(over_tx),
            thread: thread.ok(),
        }
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if self.is_first {
            LOOKS.store(false, Ordering::Release);
        }
    }
}

/// Somebody does.
static LOOKS: AtomicBool = AtomicBool::new(false);

/// The first wait, which only has to be one.
const FIRST: Duration = Duration::from_millis(1);

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);
