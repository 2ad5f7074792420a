//! Being asked to end, or to read the configuration again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What signals ask of a server.
#[derive(Debug)]
pub(crate) struct Signals {
    /// SIGTERM or SIGINT came.
    pub(crate) stop: Arc<AtomicBool>,
    /// SIGHUP came; whoever sees it takes it back.
    pub(crate) reload: Arc<AtomicBool>,
}

impl Signals {
    /// Takes all three over from the system, which would end the process.
    pub(crate) fn handle() -> anyhow::Result<Self> {
        let (stop, reload) = (stop_flag()?, Arc::default());
        signal_hook::flag::register(SIGHUP, Arc::clone(&reload)).context(REFUSED)?;
        Ok(Self { stop, reload })
    }
}

/// A flag that SIGTERM and SIGINT set; the second of them ends the process at once.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Whoever asks twice does not want to wait for a drain. In this order: the first finds the flag not set yet.
        signal_hook::flag::register_conditional_shutdown(signal, IMPATIENT, Arc::clone(&stop))
            .context(REFUSED)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).context(REFUSED)?;
    }
    Ok(stop)
}

/// What a process exits with that was told twice to end.
const IMPATIENT: i32 = 3;

const REFUSED: &str = "cannot handle signals";
