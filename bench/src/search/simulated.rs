//! Receivers that are nothing but arithmetic, with known limits.

use std::time::Duration;

use anyhow::bail;
use binrush_probe::Hist;

use super::{Measured, Sut};
use crate::result::Binding;

/// How loss and latency follow from a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// What comes beyond the limit is lost.
    Sharp { limit_pps: f64 },
    /// The limit differs from trial to trial by that share of it, up or down.
    Noisy { limit_pps: f64, noise: f64 },
    /// Loss begins at a rate and grows with the square of what is beyond it.
    Slow { begin_pps: f64 },
    /// p99 is 100 us up to a rate and 10 ms above it; loss comes at another.
    Latency { knee_pps: f64, limit_pps: f64 },
    /// Half of all trials are bad, whatever the rate.
    Flapping,
    /// An overloaded one takes only a tenth of what it can.
    Collapsing { limit_pps: f64 },
}

/// One such receiver, and what was asked of it.
#[derive(Debug)]
pub(super) struct Simulated {
    shape: Shape,
    dice: u64,
    pub(super) asked: Vec<(String, f64, Duration)>,
    /// Of each trial, besides the load.
    pub(super) overhead: Duration,
    /// Dies instead of the trial after so many.
    pub(super) dies_after: usize,
    pub(super) is_probed: bool,
    pub(super) binding: Option<&'static str>,
    pub(super) worthless_above_pps: f64,
}

impl Simulated {
    pub(super) fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            dice: seed,
            asked: Vec::new(),
            overhead: Duration::from_millis(300),
            dies_after: usize::MAX,
            is_probed: true,
            binding: Some("receiver core"),
            worthless_above_pps: f64::INFINITY,
        }
    }

    /// Trials of the search itself, without those below the rate found.
    pub(super) fn searched(&self) -> impl Iterator<Item = &(String, f64, Duration)> {
        self.asked
            .iter()
            .filter(|(name, ..)| name.starts_with("trial"))
    }

    /// From 0 to 1 (splitmix64: Steele, Lea, Flood 2014).
    fn draw(&mut self) -> f64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
    }

    fn loss_ratio(&mut self, rate_pps: f64) -> f64 {
        let beyond = |limit_pps: f64| (1.0 - limit_pps / rate_pps).max(0.0);
        match self.shape {
            Shape::Sharp { limit_pps } | Shape::Latency { limit_pps, .. } => beyond(limit_pps),
            Shape::Noisy { limit_pps, noise } => {
                let moved = (self.draw() * 2.0 - 1.0) * noise;
                beyond(limit_pps * (1.0 + moved))
            }
            Shape::Slow { begin_pps } => beyond(begin_pps).powi(2),
            Shape::Flapping => f64::from(u8::from(self.draw() < 0.5)) * 0.01,
            Shape::Collapsing { limit_pps } if rate_pps > limit_pps => beyond(limit_pps / 10.0),
            Shape::Collapsing { .. } => 0.0,
        }
    }

    fn latency(&self, rate_pps: f64) -> Hist {
        let mut hist = Hist::new();
        let slow = matches!(self.shape, Shape::Latency { knee_pps, .. } if rate_pps > knee_pps);
        if self.is_probed {
            hist.record_n(50_000, 980);
            hist.record_n(if slow { 10_000_000 } else { 100_000 }, 20);
        }
        hist
    }
}

impl Sut for Simulated {
    fn measure(
        &mut self,
        name: &str,
        rate_pps: f64,
        duration: Duration,
    ) -> anyhow::Result<Measured> {
        if self.asked.len() == self.dies_after {
            bail!("the receiver died");
        }
        let trial = self.asked.len();
        self.asked.push((name.to_owned(), rate_pps, duration));
        let binding = self.binding.map(|resource| Binding {
            resource: resource.to_owned(),
            evidence: name.to_owned(),
        });
        Ok(Measured {
            intended_rate: rate_pps,
            loss_ratio: self.loss_ratio(rate_pps),
            latency: self.latency(rate_pps),
            duration,
            took: duration + self.overhead,
            trial,
            binding,
            worthless: (rate_pps > self.worthless_above_pps).then(|| "disturbed".to_owned()),
        })
    }
}
