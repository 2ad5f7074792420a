//! Draws: which record, how long, how large.
//!
//! Whatever is drawn comes from a generator that [`draws`] makes of a seed, so a seed gives the same load on any
//! machine and with any number of other senders. A sampler is made once and draws in about 10 ns, without allocating.

use std::time::Duration;

use rand::distr::{Distribution as _, Uniform};
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Exp1, StandardNormal};
use rand_pcg::Pcg64Mcg;

use crate::error::ScenarioError;
use crate::limits;
use crate::scenario::{Durations, Keys, Popularity, Sizes};

/// Powers of the rank, drawn without computing a power for most draws.
mod zipf;

use zipf::Zipf;

/// The generator of one `purpose` of one stream of a load with this `seed`; those of different streams or purposes are
/// independent. Purposes are the caller's to number; [`ARRIVALS`] is taken.
#[must_use]
pub fn draws(seed: u64, stream: u16, purpose: u16) -> Pcg64Mcg {
    let place = u64::from(stream) << 16 | u64::from(purpose);
    // Mixed, because the generator was made for seeds that look random, and streams are numbered 0, 1, 2.
    Pcg64Mcg::seed_from_u64(mixed(seed ^ mixed(place)))
}

/// Draws the numbers of records, from 0 up to below the population; 0 is the most popular one.
#[derive(Debug, Clone)]
pub struct KeySampler(Keyed);

#[derive(Debug, Clone)]
enum Keyed {
    Uniform(Uniform<u64>),
    Zipf(Zipf),
}

/// Draws how long calls last, in nanoseconds: at most a day.
#[derive(Debug, Clone)]
pub struct DurationSampler(Lasting);

#[derive(Debug, Clone)]
enum Lasting {
    Fixed(u64),
    Exponential {
        mean_ns: f64,
    },
    /// The sum of two that are exponential.
    TwiceExponential {
        mean_ns: f64,
    },
    LogNormal {
        median_ns: f64,
        sigma: f64,
    },
    Table(Weighted<u64>),
}

/// Draws lengths of whole packets, in bytes; `None` for natural ones.
#[derive(Debug, Clone)]
pub struct SizeSampler(Length);

#[derive(Debug, Clone)]
enum Length {
    Natural,
    Fixed(u16),
    Uniform(Uniform<u16>),
    Table(Weighted<u16>),
}

/// Values, each as often as its weight says.
#[derive(Debug, Clone)]
struct Weighted<T> {
    values: Box<[T]>,
    index: WeightedAliasIndex<f64>,
}

impl Keys {
    /// # Errors
    /// [`ScenarioError::Value`]: a population or an exponent that [`limits`] does not allow.
    pub fn sampler(&self) -> Result<KeySampler, ScenarioError> {
        limits::POPULATION.check(self.population)?;
        let keyed = match self.popularity {
            Popularity::Uniform => Uniform::new(0, self.population)
                .map(Keyed::Uniform)
                .map_err(|_| limits::POPULATION.error(self.population))?,
            Popularity::Zipf { exponent } => {
                limits::EXPONENT.check(exponent)?;
                let zipf = Zipf::new(self.population, exponent);
                Keyed::Zipf(zipf.ok_or_else(|| limits::EXPONENT.error(exponent))?)
            }
        };
        Ok(KeySampler(keyed))
    }
}

impl Durations {
    /// # Errors
    /// [`ScenarioError::Value`]: a duration, sigma, weight or table that [`limits`] does not allow.
    pub fn sampler(&self) -> Result<DurationSampler, ScenarioError> {
        let lasting = match self {
            Self::Fixed(duration) => Lasting::Fixed(limits::duration_ns(*duration)?),
            Self::Exponential { mean } => Lasting::Exponential {
                mean_ns: limits::duration_ns(*mean)? as f64,
            },
            Self::LogNormal { median, sigma } => {
                limits::SIGMA.check(*sigma)?;
                Lasting::LogNormal {
                    median_ns: limits::duration_ns(*median)? as f64,
                    sigma: *sigma,
                }
            }
            Self::Table(rows) => {
                let rows = rows
                    .iter()
                    .map(|&(duration, weight)| Ok((limits::duration_ns(duration)?, weight)));
                Lasting::Table(Weighted::new(rows)?)
            }
        };
        Ok(DurationSampler(lasting))
    }

    /// Draws how long a call lasts in all that is up at a random moment: a long one more often than not, for its chance
    /// to be met is in proportion to its duration.
    ///
    /// # Errors
    /// As of [`Self::sampler`].
    pub(crate) fn sampler_of_those_up(&self) -> Result<DurationSampler, ScenarioError> {
        let DurationSampler(all) = self.sampler()?;
        let of_those_up = match (self, all) {
            (_, Lasting::Exponential { mean_ns }) => Lasting::TwiceExponential { mean_ns },
            (_, Lasting::LogNormal { median_ns, sigma }) => Lasting::LogNormal {
                median_ns: median_ns * (sigma * sigma).exp(),
                sigma,
            },
            (Self::Table(rows), _) => {
                // Against the longest: a product is within the limits of weights then, but for what is next to never.
                let seconds = |(duration, _): &(Duration, f64)| duration.as_secs_f64();
                let longest = rows.iter().map(seconds).fold(0.0, f64::max);
                let rows = rows.iter().map(|row| {
                    let weight = row.1 * seconds(row) / longest;
                    Ok((limits::duration_ns(row.0)?, weight.max(limits::WEIGHT.min)))
                });
                Lasting::Table(Weighted::new(rows)?)
            }
            (_, same) => same,
        };
        Ok(DurationSampler(of_those_up))
    }
}

impl Sizes {
    /// # Errors
    /// [`ScenarioError::Value`]: a size, weight or table that [`limits`] does not allow.
    pub fn sampler(&self) -> Result<SizeSampler, ScenarioError> {
        let length = match self {
            Self::Natural => Length::Natural,
            Self::Fixed(bytes) => Length::Fixed(limits::size(*bytes)?),
            Self::Uniform { min, max } => {
                let (min, max) = (limits::size(*min)?, limits::size(*max)?);
                let uniform = Uniform::new_inclusive(min, max);
                Length::Uniform(uniform.map_err(|_| ScenarioError::Value {
                    what: "the shortest size",
                    expected: format!("at most the longest one, {max} bytes"),
                })?)
            }
            Self::Table(rows) => {
                let rows = rows
                    .iter()
                    .map(|&(bytes, weight)| Ok((limits::size(bytes)?, weight)));
                Length::Table(Weighted::new(rows)?)
            }
        };
        Ok(SizeSampler(length))
    }
}

impl KeySampler {
    /// The number of a record.
    #[inline]
    pub fn sample(&self, rng: &mut impl Rng) -> u64 {
        match &self.0 {
            Keyed::Uniform(uniform) => uniform.sample(rng),
            Keyed::Zipf(zipf) => zipf.sample(rng),
        }
    }
}

impl DurationSampler {
    /// How long one call lasts, in nanoseconds.
    #[inline]
    pub fn sample(&self, rng: &mut impl Rng) -> u64 {
        match &self.0 {
            Lasting::Fixed(ns) => *ns,
            Lasting::Exponential { mean_ns } => {
                let times: f64 = rng.sample(Exp1);
                bounded_ns(mean_ns * times)
            }
            Lasting::TwiceExponential { mean_ns } => {
                let (one, other): (f64, f64) = (rng.sample(Exp1), rng.sample(Exp1));
                bounded_ns(mean_ns * (one + other))
            }
            Lasting::LogNormal { median_ns, sigma } => {
                let deviations: f64 = rng.sample(StandardNormal);
                bounded_ns(median_ns * (sigma * deviations).exp())
            }
            Lasting::Table(table) => table.sample(rng),
        }
    }
}

impl SizeSampler {
    /// The length of one packet in bytes; `None`: as its fields make it.
    #[inline]
    pub fn sample(&self, rng: &mut impl Rng) -> Option<u16> {
        match &self.0 {
            Length::Natural => None,
            Length::Fixed(bytes) => Some(*bytes),
            Length::Uniform(uniform) => Some(uniform.sample(rng)),
            Length::Table(table) => Some(table.sample(rng)),
        }
    }
}

impl<T: Copy> Weighted<T> {
    fn new(
        rows: impl ExactSizeIterator<Item = Result<(T, f64), ScenarioError>>,
    ) -> Result<Self, ScenarioError> {
        limits::TABLE.check(rows.len() as u64)?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        for (_, weight) in &rows {
            limits::WEIGHT.check(*weight)?;
        }
        let weights = rows.iter().map(|(_, weight)| *weight).collect();
        let index = WeightedAliasIndex::new(weights);
        Ok(Self {
            values: rows.iter().map(|(value, _)| *value).collect(),
            index: index.map_err(|_| ScenarioError::Value {
                what: "the sum of a table's weights",
                expected: "above 0".into(),
            })?,
        })
    }

    #[inline]
    fn sample(&self, rng: &mut impl Rng) -> T {
        self.values[self.index.sample(rng)]
    }
}

/// Rounded down, and within what durations may be.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast from a float saturates, and a duration has whole nanoseconds"
)]
fn bounded_ns(ns: f64) -> u64 {
    (ns as u64).min(limits::DURATION_MAX_NS)
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
const fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The purpose of the draws that decide when packets are due.
pub const ARRIVALS: u16 = u16::MAX;

#[cfg(test)]
mod tests;
