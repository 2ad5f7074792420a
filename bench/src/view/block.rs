//! A state as rows: what matters most on top, because small terminals show no more than that.

use std::env;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget as _};

use super::model::Model;
use super::units::{grouped, nanos, pps, share, whole};
use super::{Kind, Snapshot, Times};
use crate::search::Progress;
use crate::search::progress::{GoalRow, TrialRow};

/// The styles; without colours where `NO_COLOR` asks for that (no-color.org).
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) colours: bool,
}

/// One row of a block.
#[derive(Debug, Clone)]
enum Row {
    Text(Line<'static>),
    /// The past, scaled from 0 to the most there was, which is told behind it.
    Curve {
        label: Line<'static>,
        values: Vec<u64>,
        most: String,
    },
}

/// A piece of text that is not divided.
type Item = Span<'static>;

/// The state as it is drawn on a terminal of so many columns and rows. A row and a column less than there are: where the
/// cursor stands after the last column, terminals do not agree.
pub(super) fn block(model: &Model, columns: u16, rows: u16, theme: Theme) -> Buffer {
    let width = columns.saturating_sub(1).max(1);
    let content = content(model, width, theme);
    let all = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let area = Rect::new(0, 0, width, all.min(rows.saturating_sub(1).max(1)));
    let mut block = Buffer::empty(area);
    for (row, content) in area.rows().zip(&content) {
        content.render(row, &mut block, theme);
    }
    block
}

fn content(model: &Model, width: u16, theme: Theme) -> Vec<Row> {
    let mut rows = vec![
        Row::Text(title(model, theme)),
        Row::Text(bar(model, width, theme)),
    ];
    let progress = model.progress();
    for goal in progress.iter().flat_map(|progress| &progress.goals) {
        rows.extend(flow("goal", goal_items(goal, theme), width, theme));
    }
    if let Some(snapshot) = model.snapshot() {
        rows.extend(flow("rate", rate_items(model, snapshot), width, theme));
        for (label, times) in [
            ("lateness", &snapshot.lateness),
            ("latency", &snapshot.latency),
        ] {
            if !times.is_empty() {
                rows.extend(flow(label, time_items(times), width, theme));
            }
        }
        rows.extend(flow("lost", loss_items(snapshot, theme), width, theme));
    }
    rows.extend(curves(model, theme));
    let trials = progress
        .iter()
        .flat_map(|progress| progress.trials.iter().rev());
    for trial in trials.take(TRIALS) {
        rows.extend(flow(&trial.name, trial_items(trial, theme), width, theme));
    }
    rows
}

fn title(model: &Model, theme: Theme) -> Line<'static> {
    let kind = match model.kind() {
        Kind::Load => "load",
        Kind::Search => "search",
        Kind::Replay => "replay",
    };
    let mut spans = vec![Span::styled(kind, theme.strong())];
    match (model.progress(), model.snapshot()) {
        (
            Some(Progress {
                current: Some((name, rate_pps)),
                ..
            }),
            _,
        ) => {
            spans.push(Span::raw(format!("  {name} at {}/s", pps(*rate_pps))));
        }
        (None, Some(snapshot)) => {
            spans.push(Span::raw(format!("  at {}/s", pps(snapshot.offered_pps))));
        }
        _ => {}
    }
    Line::from(spans)
}

/// How much of the time is over, and how much is left: of the budget of a search, else of the load.
fn bar(model: &Model, width: u16, theme: Theme) -> Line<'static> {
    let load = model
        .snapshot()
        .map(|snapshot| (snapshot.elapsed, snapshot.length));
    let (done, all, what) = match (model.progress(), load) {
        (Some(progress), load) => {
            // Of a trial that is on, what is over is not spent yet.
            let on = progress
                .current
                .as_ref()
                .and(load)
                .map(|(elapsed, length)| elapsed.min(length));
            (
                progress.spent + on.unwrap_or_default(),
                progress.budget,
                " at most",
            )
        }
        (None, Some((elapsed, length))) => (elapsed, length, ""),
        (None, None) => return Line::from(Span::styled("starting", theme.dim())),
    };
    let (done, all) = (done.as_secs_f64().min(all.as_secs_f64()), all.as_secs_f64());
    let whole_ms = (all * 1e3).round() / 1e3;
    let text = format!(" {done:.1} of {whole_ms} s, {:.1} s left{what}", all - done);
    let room = usize::from(width)
        .saturating_sub(text.chars().count())
        .min(BAR);
    let share = if all > 0.0 { done / all } else { 1.0 };
    let filled = usize::try_from(whole(share * room as f64))
        .unwrap_or(room)
        .min(room);
    Line::from(vec![
        Span::styled("━".repeat(filled), theme.accent()),
        Span::styled("─".repeat(room - filled), theme.dim()),
        Span::raw(text),
    ])
}

fn goal_items(goal: &GoalRow, theme: Theme) -> Vec<Item> {
    let mut items = vec![Span::raw(goal.goal.clone())];
    items.push(Span::styled(
        match (goal.lower_pps, goal.upper_pps) {
            (Some(lower), Some(upper)) => format!("{} to {}/s", pps(lower), pps(upper)),
            (Some(lower), None) => format!("at least {}/s", pps(lower)),
            (None, Some(upper)) => format!("below {}/s", pps(upper)),
            (None, None) => "nothing known yet".to_owned(),
        },
        theme.strong(),
    ));
    if let (Some(lower), Some(upper)) = (goal.lower_pps, goal.upper_pps) {
        items.push(Span::raw(format!(
            "width {}",
            share((upper - lower) / upper)
        )));
    }
    items
}

fn rate_items(model: &Model, snapshot: &Snapshot) -> Vec<Item> {
    let rates = model.rates();
    let mut items = vec![
        Span::raw(format!("offered {}/s", pps(snapshot.offered_pps))),
        Span::raw(format!("sent {}/s", pps(rates.sent_pps))),
    ];
    items.extend(
        rates
            .received_pps
            .map(|rate| Span::raw(format!("received {}/s", pps(rate)))),
    );
    items
}

fn time_items(times: &Times) -> Vec<Item> {
    let items = times
        .iter()
        .map(|(name, ns)| Span::raw(format!("{name} {}", nanos(*ns))));
    items.collect()
}

fn loss_items(snapshot: &Snapshot, theme: Theme) -> Vec<Item> {
    let unsent = ("unsent", snapshot.unsent);
    let drops = snapshot
        .drops
        .iter()
        .map(|(name, count)| (name.as_str(), *count));
    let counts = std::iter::once(unsent).chain(drops);
    let style = |count| {
        if count == 0 {
            Style::default()
        } else {
            theme.bad()
        }
    };
    counts
        .map(|(name, count)| Span::styled(format!("{name} {}", grouped(count)), style(count)))
        .collect()
}

fn trial_items(trial: &TrialRow, theme: Theme) -> Vec<Item> {
    let mut items = vec![
        Span::raw(format!("{}/s", pps(trial.rate_pps))),
        Span::raw(format!("lost {}", share(trial.loss_ratio))),
    ];
    items.extend(
        trial
            .p99_ns
            .map(|p99_ns| Span::raw(format!("p99 {}", nanos(p99_ns)))),
    );
    items.push(match &trial.exceeded {
        Some(why) => Span::styled(format!("exceeds: {why}"), theme.bad()),
        None => Span::styled("keeps", theme.good()),
    });
    items
}

fn curves(model: &Model, theme: Theme) -> Vec<Row> {
    let curve = |label: &'static str, values: Vec<u64>, words: &dyn Fn(u64) -> String| {
        let most = values.iter().max().copied()?;
        Some(Row::Curve {
            label: label_line(label, theme),
            values,
            most: format!(" max {}", words(most)),
        })
    };
    let rates = model.history().map(|second| whole(second.pps)).collect();
    // A second of which nothing is known is a gap at the bottom; of none there is no curve.
    let is_timed = model.history().any(|second| second.p99_ns.is_some());
    let times = model
        .history()
        .map(|second| second.p99_ns.unwrap_or(0))
        .filter(|_| is_timed)
        .collect();
    let curves = [
        curve("rate", rates, &|rate| format!("{}/s", grouped(rate))),
        curve("p99", times, &nanos),
    ];
    curves.into_iter().flatten().collect()
}

/// `label` and as many `items` to a row as fit, two spaces between them.
fn flow(label: &str, items: Vec<Item>, width: u16, theme: Theme) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut line = label_line(label, theme);
    for item in items {
        let is_first = line.spans.len() == 1;
        let between = if is_first { 0 } else { 2 };
        if !is_first && line.width() + between + item.width() > usize::from(width) {
            rows.push(Row::Text(std::mem::replace(
                &mut line,
                label_line("", theme),
            )));
        } else if !is_first {
            line.push_span("  ");
        }
        line.push_span(item);
    }
    rows.push(Row::Text(line));
    rows
}

fn label_line(label: &str, theme: Theme) -> Line<'static> {
    Line::from(Span::styled(
        format!("{label:<0$} ", LABEL - 1),
        theme.dim(),
    ))
}

impl Row {
    fn render(&self, area: Rect, block: &mut Buffer, theme: Theme) {
        let (label, values, most) = match self {
            Self::Text(line) => return line.render(area, block),
            Self::Curve {
                label,
                values,
                most,
            } => (label, values, most),
        };
        label.render(area, block);
        let taken = LABEL + most.chars().count();
        let room = usize::from(area.width)
            .saturating_sub(taken)
            .min(values.len());
        let shown = &values[values.len() - room..];
        let [x, width] = [LABEL, room].map(|columns| u16::try_from(columns).unwrap_or(u16::MAX));
        let curve = Rect::new(area.x.saturating_add(x), area.y, width, 1).intersection(area);
        Sparkline::default()
            .data(shown)
            .style(theme.accent())
            .render(curve, block);
        let behind = Rect::new(curve.right(), area.y, area.width, 1).intersection(area);
        Line::raw(most.as_str()).render(behind, block);
    }
}

impl Theme {
    pub(super) fn of_environment() -> Self {
        let forbidden = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colours: !forbidden,
        }
    }

    fn strong(self) -> Style {
        Style::default().add_modifier(Modifier::BOLD)
    }

    fn dim(self) -> Style {
        Style::default().add_modifier(Modifier::DIM)
    }

    fn accent(self) -> Style {
        self.coloured(Color::Cyan)
    }

    fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    /// Bold too: red and green look alike to many.
    fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours {
            Style::default().fg(colour)
        } else {
            Style::default()
        }
    }
}

/// Columns of a label, with the space behind it: "trial 123 ".
const LABEL: usize = 10;

/// Columns of the bar of time, at most.
const BAR: usize = 40;

/// Trials that are shown, the last first.
const TRIALS: usize = 5;

#[cfg(test)]
mod tests;
