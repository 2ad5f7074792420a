//! Packets of a name that nobody has registered.
//!
//! One string: the stamp, then the record's number in six hexadecimal digits, then padding. Nothing else is known of
//! such packets, so their natural length is the shortest.

use binrush_probe::{STAMP_LEN, Stamp};
use rand::Rng;

use super::template::{Dialect, Spot, TEXT, Template, hex};
use crate::error::ScenarioError;
use crate::sample::{KeySampler, SizeSampler};
use crate::scenario::{Keys, Sizes};
use crate::source::ContentError;

/// Makes them.
#[derive(Debug)]
pub(super) struct Miss {
    keys: KeySampler,
    sizes: SizeSampler,
    template: Template,
    stamp: Spot,
    key: Spot,
}

/// What one of them says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    key: u64,
    len: Option<u16>,
}

impl Miss {
    /// # Errors
    /// [`ScenarioError::Value`]: sizes or keys out of their limits.
    pub(super) fn new(
        dialect: Dialect,
        name: &str,
        keys: &Keys,
        sizes: &Sizes,
    ) -> Result<Self, ScenarioError> {
        let text = "0".repeat(STAMP_LEN + KEY_LEN);
        let template = Template::unknown(dialect, name, &text);
        let spot = |offset| template.spot(TEXT, offset).expect("its only field");
        Ok(Self {
            keys: keys.sampler()?,
            sizes: sizes.sampler()?,
            stamp: spot(0),
            key: spot(STAMP_LEN),
            template,
        })
    }

    #[inline]
    pub(super) fn turn(&self, draws: &mut impl Rng) -> Turn {
        Turn {
            key: self.keys.sample(draws),
            len: self.sizes.sample(draws),
        }
    }

    #[inline]
    pub(super) fn write(
        &self,
        turn: Turn,
        stamp: &Stamp,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let pad = turn.len.map_or(0, |len| self.template.pad_to(len.into()));
        let mut draft = self.template.draft(out, pad)?;
        draft.put(self.key, &hex::<KEY_LEN>(turn.key));
        draft.seal(self.stamp, stamp);
        Ok(draft.len())
    }
}

/// Enough for the largest population.
const KEY_LEN: usize = 6;
