//! Arrivals as recorded.

use crate::limits;

/// Recorded gaps, again and again, as places in units of their mean.
#[derive(Debug, Clone)]
pub(super) struct Captured {
    /// Where each packet of one round lies; the first at 0, all below their number.
    places: Box<[f64]>,
}

impl Captured {
    /// `None` when there are no gaps, too many, or none that takes time.
    pub(super) fn new(gaps: &[f64]) -> Option<Self> {
        let sum: f64 = gaps.iter().sum();
        let usable = limits::GAPS.allows(gaps.len() as u64)
            && gaps.iter().all(|gap| limits::GAP.allows(*gap))
            && sum > 0.0;
        let scale = gaps.len() as f64 / sum;
        usable.then(|| {
            let places = gaps.iter().scan(0.0, |at, gap| {
                let place = *at * scale;
                *at += gap;
                Some(place)
            });
            Self {
                places: places.collect(),
            }
        })
    }

    /// Where `packet` lies.
    #[inline]
    pub(super) fn place(&self, packet: u64) -> f64 {
        let len = self.places.len() as u64;
        // Below the length of a slice.
        let within = usize::try_from(packet % len).unwrap_or(0);
        (packet - packet % len) as f64 + self.places[within]
    }
}
