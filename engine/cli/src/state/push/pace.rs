//! When packets leave: by a schedule, whatever the receiver does with them.

use std::thread;
use std::time::{Duration, Instant};

/// A schedule with the same time between any two packets. Who falls behind catches up by a few packets at once and no more: a
/// receiver that was given a rate is not flooded because this host was busy.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    begun: Instant,
    due: Instant,
}

impl Pace {
    /// `rate` packets per second, which is not 0.
    pub(super) fn new(rate: u32) -> Self {
        let now = Instant::now();
        Self {
            gap: Duration::from_secs(1) / rate,
            begun: now,
            due: now,
        }
    }

    /// Waits until the next packet is due.
    pub(super) fn wait(&mut self) {
        thread::sleep(self.next(Instant::now()));
    }

    /// How long it has been.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long the next packet has to wait at `now`.
    fn next(&mut self, now: Instant) -> Duration {
        let earliest = now.checked_sub(self.gap * BURST).unwrap_or(self.begun);
        let due = self.due.max(earliest);
        self.due = due + self.gap;
        due.saturating_duration_since(now)
    }
}

/// Packets that may leave at once behind a pause.
const BURST: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_a_gap_apart_and_a_pause_is_made_up_for_by_a_burst_only() {
        let mut pace = Pace::new(1000);
        let (begun, ms) = (pace.due, Duration::from_millis(1));
        for n in 0..5 {
            assert_eq!(pace.next(begun), n * ms);
        }
        let later = begun + 1000 * ms;
        let at_once = (0..100).take_while(|_| pace.next(later).is_zero());
        // The one that is due then, and those of the burst.
        assert_eq!(at_once.count(), 17);
        assert_eq!(pace.next(later), 2 * ms);
    }
}
