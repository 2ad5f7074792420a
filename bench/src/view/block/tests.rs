use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::search::progress::{GoalRow, TrialRow};

const PLAIN: Theme = Theme { colours: false };

/// A load after ten seconds, with something of everything.
fn load() -> Model {
    let mut model = Model::new(Kind::Load);
    for tick in 0..=100_u64 {
        let seconds = tick / 10;
        model.take(Snapshot {
            name: "load".to_owned(),
            elapsed: Duration::from_millis(tick * 100),
            length: Duration::from_secs(20),
            offered_pps: 50_000.0,
            sent: tick * 5_000,
            unsent: 0,
            received: Some(tick * 4_999),
            lateness: vec![("mean", 900), ("max", 113_000)],
            latency: vec![
                ("p50", 20_000),
                ("p99", 80_000 + 100_000 * seconds),
                ("p99.9", 900_000),
                ("max", 2_000_000),
            ],
            drops: vec![("buffer".to_owned(), 12_345)],
        });
    }
    model
}

fn search() -> Model {
    let mut model = Model::new(Kind::Search);
    let trial = |number: usize, rate_pps: f64, exceeded: Option<&str>| TrialRow {
        name: format!("trial {number}"),
        rate_pps,
        loss_ratio: 0.0,
        p99_ns: Some(1_300_000),
        exceeded: exceeded.map(str::to_owned),
    };
    model.take_progress(&Progress {
        current: Some(("trial 8".to_owned(), 312_900.0)),
        trials: (1..=7)
            .map(|number| trial(number, 300_000.0, (number == 7).then_some("p99 1.3ms")))
            .collect(),
        goals: vec![
            GoalRow {
                goal: "loss <= 0 and p99 <= 1ms".to_owned(),
                lower_pps: Some(312_000.0),
                upper_pps: Some(315_000.0),
            },
            GoalRow {
                goal: "loss <= 0.001".to_owned(),
                lower_pps: Some(312_000.0),
                upper_pps: None,
            },
        ],
        spent: Duration::from_secs(30),
        budget: Duration::from_secs(300),
    });
    let snapshot = load().snapshot().unwrap().clone();
    model.take(Snapshot {
        name: "trial 8".to_owned(),
        elapsed: Duration::from_millis(500),
        ..snapshot
    });
    model
}

/// The block on a terminal of ratatui's, as lines without what is blank behind them.
fn drawn(model: &Model, columns: u16, rows: u16) -> Vec<String> {
    let block = block(model, columns, rows, PLAIN);
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal
        .draw(|frame| frame.buffer_mut().merge(&block))
        .unwrap();
    let screen = terminal.backend().buffer();
    let line = |row: u16| {
        (0..columns)
            .map(|column| screen[(column, row)].symbol())
            .collect::<String>()
    };
    (0..block.area.height)
        .map(|row| line(row).trim_end().to_owned())
        .collect()
}

#[test]
fn a_load_fits_a_usual_terminal() {
    assert_eq!(
        drawn(&load(), 80, 24),
        [
            "load  at 50 000/s",
            "━━━━━━━━━━━━━━━━━━━━──────────────────── 10.0 of 20 s, 10.0 s left",
            "rate      offered 50 000/s  sent 50 000/s  received 49 990/s",
            "lateness  mean 900 ns  max 113 us",
            "latency   p50 20.0 us  p99 1.08 ms  p99.9 900 us  max 2.00 ms",
            "lost      unsent 0  buffer 12 345",
            "rate      ██████████ max 49 990/s",
            "p99       ▁▂▂▃▄▅▅▆▇█ max 1.08 ms",
        ]
    );
}

#[test]
fn a_narrow_terminal_shows_the_same_in_more_rows() {
    assert_eq!(
        drawn(&load(), 40, 24),
        [
            "load  at 50 000/s",
            "━━━━━━━────── 10.0 of 20 s, 10.0 s left",
            "rate      offered 50 000/s",
            "          sent 50 000/s",
            "          received 49 990/s",
            "lateness  mean 900 ns  max 113 us",
            "latency   p50 20.0 us  p99 1.08 ms",
            "          p99.9 900 us  max 2.00 ms",
            "lost      unsent 0  buffer 12 345",
            "rate      ██████████ max 49 990/s",
            "p99       ▁▂▂▃▄▅▅▆▇█ max 1.08 ms",
        ]
    );
}

#[test]
fn a_search_shows_bounds_and_trials_at_every_width() {
    assert_eq!(
        drawn(&search(), 80, 40),
        [
            "search  trial 8 at 312 900/s",
            "━━━━──────────────────────────────────── 30.5 of 300 s, 269.5 s left at most",
            "goal      loss <= 0 and p99 <= 1ms  312 000 to 315 000/s  width 0.95 %",
            "goal      loss <= 0.001  at least 312 000/s",
            "rate      offered 50 000/s  sent 1 000 000/s  received 999 800/s",
            "lateness  mean 900 ns  max 113 us",
            "latency   p50 20.0 us  p99 1.08 ms  p99.9 900 us  max 2.00 ms",
            "lost      unsent 0  buffer 12 345",
            "trial 7   300 000/s  lost 0  p99 1.30 ms  exceeds: p99 1.3ms",
            "trial 6   300 000/s  lost 0  p99 1.30 ms  keeps",
            "trial 5   300 000/s  lost 0  p99 1.30 ms  keeps",
            "trial 4   300 000/s  lost 0  p99 1.30 ms  keeps",
            "trial 3   300 000/s  lost 0  p99 1.30 ms  keeps",
        ]
    );
    for columns in [40, 200] {
        let lines = drawn(&search(), columns, 60);
        let all = lines.join("\n");
        for words in [
            "312 000 to 315 000/s",
            "at least 312 000/s",
            "exceeds: p99 1.3ms",
            "buffer 12 345",
            "trial 3",
        ] {
            assert!(all.contains(words), "{words} is not in\n{all}");
        }
        // Nothing is cut, and the last column is free.
        assert!(
            lines
                .iter()
                .all(|line| line.chars().count() < usize::from(columns)),
            "{all}"
        );
    }
}

#[test]
fn a_wide_terminal_has_room_for_a_minute() {
    let mut model = load();
    for second in 11..=100 {
        let snapshot = load().snapshot().unwrap().clone();
        model.take(Snapshot {
            elapsed: Duration::from_secs(second),
            length: Duration::from_secs(100),
            sent: second * 50_000,
            ..snapshot
        });
    }
    let curve = |columns| {
        let lines = drawn(&model, columns, 24);
        lines
            .last()
            .unwrap()
            .chars()
            .filter(|c| ('▁'..='█').contains(c))
            .count()
    };
    assert_eq!(curve(200), 60);
    // 39 columns, less the label and the text behind it.
    assert_eq!(curve(40), 39 - LABEL - " max 1.08 ms".len());
}

#[test]
fn a_low_terminal_shows_what_matters_most() {
    let lines = drawn(&search(), 80, 5);
    assert_eq!(lines.len(), 4);
    assert!(
        lines[0].starts_with("search") && lines[3].contains("at least"),
        "{lines:?}"
    );
}

#[test]
fn a_terminal_of_any_size_is_no_reason_to_panic() {
    for columns in [0, 1, 2, 9, 10, 11, 12, u16::MAX / 64] {
        for rows in [0, 1, 2, 3] {
            for model in [load(), search(), Model::new(Kind::Replay)] {
                let block = block(&model, columns, rows, PLAIN);
                assert!(block.area.height <= rows.max(1) && block.area.width <= columns.max(1));
            }
        }
    }
}

#[test]
fn before_the_first_snapshot_it_says_that_it_starts() {
    assert_eq!(
        drawn(&Model::new(Kind::Replay), 80, 24),
        ["replay", "starting"]
    );
}

#[test]
fn without_colours_no_cell_has_one_and_losses_stand_out_all_the_same() {
    let styles = |theme| {
        let block = block(&load(), 80, 24, theme);
        let cell = block
            .content
            .iter()
            .find(|cell| cell.symbol() == "b")
            .unwrap();
        let coloured = block.content.iter().any(|cell| cell.fg != Color::Reset);
        (coloured, cell.modifier.contains(Modifier::BOLD))
    };
    assert_eq!(styles(PLAIN), (false, true));
    assert_eq!(styles(Theme { colours: true }), (true, true));
}
