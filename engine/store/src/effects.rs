//! What a store tells of its changes.

/// Hears of every change of a store, in order. A store is rebuilt from the last word on each place.
pub trait Effects {
    /// The record at `place` is now this one: a record as bytes ([`crate::flat`]), borrowed for the call.
    fn put(&mut self, place: u32, flat: &[u8]);

    /// There is no record at `place` any more.
    fn gone(&mut self, place: u32);
}

/// Nobody listens.
impl Effects for () {
    fn put(&mut self, _: u32, _: &[u8]) {}

    fn gone(&mut self, _: u32) {}
}

/// Somebody listens, or nobody.
impl<E: Effects> Effects for Option<E> {
    fn put(&mut self, place: u32, flat: &[u8]) {
        if let Some(effects) = self {
            effects.put(place, flat);
        }
    }

    fn gone(&mut self, place: u32) {
        if let Some(effects) = self {
            effects.gone(place);
        }
    }
}
