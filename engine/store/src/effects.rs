//! What a store tells of its changes.

/// Hears of every change of a store, in order. A store is rebuilt from the last word on each place.
pub trait Effects {
    /// The record at `place` is now this one: a record as bytes ([`crate::flat`]), borrowed for the call.
    fn put(&mut self, place: u32, flat: &[u8]);

    /// There is no record at `place` any more.
    fn gone(&mut self, place: u32);

    /// Whether it wants [`news`](Self::news) now: asked before each change, as some of it has to be looked at for them.
    #[inline]
    fn wants_news(&self) -> bool {
        false
    }

    /// What became of a record. Behind the [`put`](Self::put) or [`gone`](Self::gone) of the same change; of a record that is restored there is
    /// none.
    fn news(&mut self, news: News<'_>) {
        let _ = news;
    }
}

/// What became of a record; each as bytes ([`crate::flat`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// It is new.
    Created(&'a [u8]),
    /// It says something else than before: this.
    Changed(&'a [u8]),
    /// It is gone, by a packet, for its time, or because a sync did not confirm it.
    Removed(&'a [u8]),
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

    #[inline]
    fn wants_news(&self) -> bool {
        self.as_ref().is_some_and(Effects::wants_news)
    }

    fn news(&mut self, news: News<'_>) {
        if let Some(effects) = self {
            effects.news(news);
        }
    }
}

/// Two listen, one after the other.
impl<A: Effects, B: Effects> Effects for (A, B) {
    fn put(&mut self, place: u32, flat: &[u8]) {
        self.0.put(place, flat);
        self.1.put(place, flat);
    }

    fn gone(&mut self, place: u32) {
        self.0.gone(place);
        self.1.gone(place);
    }

    #[inline]
    fn wants_news(&self) -> bool {
        self.0.wants_news() || self.1.wants_news()
    }

    fn news(&mut self, news: News<'_>) {
        self.0.news(news);
        self.1.news(news);
    }
}
