//! Waiting for something that another process does: not for ever, and not against the user's will.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Set once by SIGINT or SIGTERM. Whoever waits returns with an error then, so that everything is cleaned up on
/// the way out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patience {
    interrupted: Arc<AtomicBool>,
    /// Set by whoever has no use any more for what others with the same one wait for.
    stopped: Arc<AtomicBool>,
}

impl Patience {
    /// From now on SIGINT and SIGTERM no longer end the process.
    pub(crate) fn until_signal() -> anyhow::Result<Self> {
        let patience = Self::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&patience.interrupted))
                .context("cannot handle signals")?;
        }
        Ok(patience)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.stopped.load(Ordering::Relaxed)
    }

    /// One that ends with this one, and can be [stopped](Self::stop) before.
    pub(crate) fn part(&self) -> Self {
        Self {
            interrupted: Arc::clone(&self.interrupted),
            stopped: Arc::default(),
        }
    }

    /// Ends the waits of this one and its clones.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// An error when a signal came.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.interrupted.load(Ordering::Relaxed),
            "interrupted by a signal"
        );
        anyhow::ensure!(!self.is_over(), "stopped");
        Ok(())
    }

    /// Asks `done` every [`POLL`] until it says yes, for `limit` at most; `what` is named in the error.
    pub(crate) fn until(
        &self,
        what: impl fmt::Display,
        limit: Duration,
        mut done: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        while !done()? {
            self.check()?;
            anyhow::ensure!(
                start.elapsed() < limit,
                "waited {limit:?} for {what} in vain"
            );
            thread::sleep(POLL);
        }
        Ok(())
    }
}

/// How often is asked: one look at the kernel's list of sockets takes some 35 us, so 3 % of a core.
pub(crate) const POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_the_limit_and_says_what_was_waited_for() {
        let patience = Patience::default();
        let error = patience
            .until("rain", Duration::from_millis(5), || Ok(false))
            .unwrap_err();
        assert_eq!(error.to_string(), "waited 5ms for rain in vain");
        let mut asked = 0;
        patience
            .until("the third", Duration::from_secs(60), || {
                asked += 1;
                Ok(asked == 3)
            })
            .unwrap();
        assert_eq!(asked, 3);
    }

    #[test]
    fn a_signal_ends_every_wait() {
        let patience = Patience::default();
        patience.interrupted.store(true, Ordering::Relaxed);
        let error = patience
            .until("rain", Duration::from_secs(60), || Ok(false))
            .unwrap_err();
        assert!(error.to_string().contains("interrupted"));
    }
}
