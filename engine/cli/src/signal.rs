//! Being asked to end, or to read the configuration again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What signals ask of a server.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// SIGTERM or SIGINT came.
    pub(crate) stop: Arc<AtomicBool>,
    /// SIGHUP came; whoever sees it takes it back.
    pub(crate) reload: Arc<AtomicBool>,
    /// Another SIGTERM or SIGINT ends the process where it is.
    impatient: Arc<AtomicBool>,
}

impl Signals {
    /// Takes all three over from the system, which would end the process.
    pub(crate) fn handle() -> anyhow::Result<Self> {
        let signals = Self {
            stop: stop_flag()?,
            ..Self::default()
        };
        signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload)).context(REFUSED)?;
        for signal in [SIGTERM, SIGINT] {
            let impatient = Arc::clone(&signals.impatient);
            signal_hook::flag::register_conditional_shutdown(signal, IMPATIENT, impatient)
                .context(REFUSED)?;
        }
        Ok(signals)
    }

    /// The end has begun: who asks again in a while does not want to wait for the drain.
    ///
    /// Not at once: what runs a server may send one signal twice (`timeout`, a terminal with a wrapper).
    pub(crate) fn stopping(&self) {
        let impatient = Arc::clone(&self.impatient);
        let arm = move || {
            thread::sleep(PATIENCE);
            impatient.store(true, Ordering::Relaxed);
        };
        // Without the thread, a second signal does nothing.
        let _ = thread::Builder::new().name("patience".into()).spawn(arm);
    }
}

/// A flag that SIGTERM and SIGINT set.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context(REFUSED)?;
    }
    Ok(stop)
}

/// Longer than any drain that goes well.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a process exits with that was told again to end, and did not come to its totals.
pub(crate) const IMPATIENT: i32 = 3;

const REFUSED: &str = "cannot handle signals";
