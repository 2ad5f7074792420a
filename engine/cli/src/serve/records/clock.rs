//! That the clock of the system jumped, by which records expire.

use std::sync::Arc;

use binrush_engine::WallClock;

/// What was told of it.
pub(super) struct ClockLog {
    wall: Arc<WallClock>,
    /// It had jumped.
    told: bool,
}

impl ClockLog {
    pub(super) const fn new(wall: Arc<WallClock>) -> Self {
        Self { wall, told: false }
    }

    /// Seconds that the system is beside the time that records expire by; 0 unless it jumped.
    pub(super) fn jump(&self) -> i64 {
        self.wall.jump() / SECOND_NS
    }

    /// What became of it since the last call, and whether that is the end of it.
    pub(super) fn news(&mut self) -> Option<(String, bool)> {
        let jump = self.jump();
        if self.told == (jump != 0) {
            return None;
        }
        self.told = jump != 0;
        let text = match jump {
            0 => "records expire by the clock of this host again".to_owned(),
            jump => format!(
                "warning: the clock of this host jumped by {jump} s: records expire as if it had not, until it has stood for ten \
                 minutes; if it is wrong, set it back before"
            ),
        };
        Some((text, jump == 0))
    }
}

const SECOND_NS: i64 = 1_000_000_000;
