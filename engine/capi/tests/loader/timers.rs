//! Timers of modules.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use binrush::support::timers;

use crate::workshop::{Workshop, variable};

#[test]
fn timers_are_called_when_they_are_due_if_the_program_runs_them() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let lines = crate::support::lines();
    let modules = workshop.loader(&["timer"]).finish();
    let error = modules.init().map(drop).expect_err("nobody runs timers");
    assert_eq!(
        error.to_string(),
        "module \"timer\" cannot start: its mod_init answered -1"
    );
    assert_eq!(
        lines(),
        [
            "timer: error: timer timer-never is not taken: its interval is 0",
            "timer: error: timer timer-nothing is not taken: it has no code",
            "timer: error: timer timer-often is not taken: this program runs no timers"
        ]
    );

    timers::serve();
    // Its library stays: another one it is. Others may load theirs in between.
    drop(workshop);
    let Some(other) = Workshop::open() else {
        return;
    };
    let start = Instant::now();
    let modules = other.modules(&["timer"]);
    let library = other.path("timer.so");
    let counts = || {
        ["often", "seldom", "added"]
            .map(|which| variable::<c_int>(&library, &format!("timer_{which}")))
    };
    // One a call, so that packets have their turn.
    let run = |seconds: u64| {
        let now = start + Duration::from_secs(seconds);
        while modules.run_timers(now) {}
        counts()
    };
    assert_eq!(run(0), [0, 0, 0]);
    assert_eq!(run(1), [1, 0, 0]);
    assert_eq!(run(1), [1, 0, 0]);
    assert!(
        modules.run_timers(start + Duration::from_secs(60)),
        "both are due"
    );
    assert_eq!(counts(), [2, 0, 0]);
    // What was missed is not made up for.
    assert_eq!(run(60), [2, 1, 0]);
    // The interval of a new one begins when it is seen for the first time.
    assert_eq!(run(62), [3, 1, 0]);
    assert_eq!(run(63), [4, 1, 1]);
    modules.destroy();
    assert_eq!(run(600), [4, 1, 1]);
}
