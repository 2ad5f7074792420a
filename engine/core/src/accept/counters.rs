//! What the acceptor counts: every connection that came under exactly one head, at every moment.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::shard::desk::ListenerId;
use crate::stream::{AcceptCounts, RefuseReason};

/// The acceptor's counters, written by its thread, read by the control thread.
///
/// Behind one lock, so that `arrived = handed + shaking + Σ refused` holds for whoever looks, in every look. It is taken
/// once or twice for a connection, never for a packet.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    counts: AcceptCounts,
    /// The last connection of each reason that was not told yet.
    refusals: [Option<(SocketAddr, Cow<'static, str>)>; RefuseReason::COUNT],
    /// No more rows than there are listeners.
    failing: Vec<(ListenerId, String)>,
}

/// Refusals for one reason: that reason, whose connection the last was, what was wrong with it (one line for people, of
/// at most [`TEXT_MAX`] characters), and how many there were since the start.
pub(crate) type Refusal = (RefuseReason, SocketAddr, String, u64);

/// Why a connection is refused, in one word and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: RefuseReason,
    pub(super) text: Cow<'static, str>,
}

impl Counters {
    /// A connection came and was handed to a shard at once.
    pub(super) fn handed(&self) {
        let counts = &mut self.book().counts;
        counts.arrived += 1;
        counts.handed += 1;
    }

    /// A connection came and is refused.
    pub(super) fn refused(&self, peer: SocketAddr, refused: Refused) {
        let mut book = self.book();
        book.counts.arrived += 1;
        book.refuse(peer, refused);
    }

    /// A connection came and begins to shake hands.
    pub(super) fn shaking(&self) {
        let counts = &mut self.book().counts;
        counts.arrived += 1;
        counts.shaking += 1;
    }

    /// One that shook hands was handed to a shard.
    pub(super) fn shaken(&self) {
        let counts = &mut self.book().counts;
        counts.shaking -= 1;
        counts.handed += 1;
    }

    /// One that shook hands is refused.
    pub(super) fn given_up(&self, peer: SocketAddr, refused: Refused) {
        let mut book = self.book();
        book.counts.shaking -= 1;
        book.refuse(peer, refused);
    }

    /// Accepting pauses, because there is no descriptor or no memory.
    pub(super) fn starved(&self) {
        self.book().counts.starved += 1;
    }

    /// Accepting fails at this listener by `error`.
    pub(super) fn fails(&self, id: ListenerId, error: &io::Error) {
        let mut book = self.book();
        book.failing.retain(|row| row.0 != id);
        book.failing.push((id, error.to_string()));
    }

    /// Nothing is wrong with this listener, or it is gone.
    pub(super) fn works(&self, id: ListenerId) {
        self.book().failing.retain(|row| row.0 != id);
    }

    /// Listeners at which accepting fails now.
    pub(super) fn failing(&self) -> Vec<(ListenerId, String)> {
        self.book().failing.clone()
    }

    /// All of them, at one moment.
    pub(super) fn counts(&self) -> AcceptCounts {
        self.book().counts
    }

    /// What was refused since the last call, at most one row for each reason, in the order of the reasons.
    pub(super) fn take_refusals(&self) -> Vec<Refusal> {
        let mut book = self.book();
        let Book {
            counts, refusals, ..
        } = &mut *book;
        let told = RefuseReason::ALL.into_iter().zip(refusals);
        told.filter_map(|(reason, last)| {
            let (peer, text) = last.take()?;
            Some((reason, peer, text.into_owned(), counts.refused_for(reason)))
        })
        .collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every entry is whole before anything in it could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn refuse(&mut self, peer: SocketAddr, Refused { reason, text }: Refused) {
        self.counts.refused[reason as usize] += 1;
        self.refusals[reason as usize] = Some((peer, text));
    }
}

impl Refused {
    /// With the words that the reason has for everybody, which cost nothing: what a flood is refused with.
    pub(super) const fn plain(reason: RefuseReason) -> Self {
        Self {
            reason,
            text: Cow::Borrowed(reason.sentence()),
        }
    }

    /// With words about this connection, of which some may be the peer's: cut to [`TEXT_MAX`] characters, and without
    /// any that would do something to a terminal.
    pub(super) fn because(reason: RefuseReason, why: &dyn Display) -> Self {
        let text = why.to_string();
        let printable = |char: char| if char.is_control() { '?' } else { char };
        let text: String = text.chars().map(printable).take(TEXT_MAX).collect();
        Self {
            reason,
            text: text.into(),
        }
    }
}

/// The longest text that is kept of a refusal, in characters.
pub(super) const TEXT_MAX: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn refusals_are_told_once_the_last_of_each_reason_and_how_many() {
        let counters = Counters::default();
        assert_eq!(counters.take_refusals(), []);
        counters.refused(peer(1), Refused::plain(RefuseReason::Total));
        counters.refused(peer(2), Refused::plain(RefuseReason::Acl));
        counters.refused(peer(3), Refused::plain(RefuseReason::Acl));
        counters.shaking();
        counters.given_up(peer(4), Refused::because(RefuseReason::BadTls, &"no TLS"));
        let expected = [
            (RefuseReason::Acl, 3, RefuseReason::Acl.sentence(), 2),
            (RefuseReason::Total, 1, RefuseReason::Total.sentence(), 1),
            (RefuseReason::BadTls, 4, "no TLS", 1),
        ];
        let expected =
            expected.map(|(reason, port, text, count)| (reason, peer(port), text.into(), count));
        assert_eq!(counters.take_refusals(), expected);
        assert_eq!(counters.take_refusals(), []);
        counters.refused(peer(5), Refused::plain(RefuseReason::Acl));
        let again = (
            RefuseReason::Acl,
            peer(5),
            RefuseReason::Acl.sentence().into(),
            3,
        );
        assert_eq!(counters.take_refusals(), [again]);
        let counts = counters.counts();
        assert!(counts.is_balanced());
        assert_eq!((counts.arrived, counts.shaking), (5, 0));
    }

    #[test]
    fn the_text_of_a_refusal_is_one_bounded_line_that_a_terminal_can_show() {
        let evil = "\u{1b}[31m\n".repeat(1000);
        let refused = Refused::because(RefuseReason::BadTls, &evil);
        assert_eq!(refused.text.chars().count(), TEXT_MAX);
        assert!(refused.text.starts_with("?[31m??[31m?"));
    }

    #[test]
    fn a_listener_fails_until_it_works_again() {
        let counters = Counters::default();
        let (first, second) = (ListenerId(1), ListenerId(2));
        counters.fails(first, &io::Error::other("one"));
        counters.fails(second, &io::Error::other("other"));
        counters.fails(first, &io::Error::other("two"));
        counters.works(second);
        assert_eq!(counters.failing(), [(first, "two".to_owned())]);
        counters.works(first);
        assert_eq!(counters.failing(), []);
    }

    #[test]
    fn whoever_looks_finds_every_connection_under_one_head() {
        let (counters, over) = (Counters::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    counters.handed();
                    counters.refused(peer(1), Refused::plain(RefuseReason::Acl));
                    counters.shaking();
                    counters.shaken();
                    counters.shaking();
                    counters.given_up(peer(1), Refused::plain(RefuseReason::BadTls));
                }
                over.store(true, Ordering::Release);
            });
            while !over.load(Ordering::Acquire) {
                let counts = counters.counts();
                assert!(counts.is_balanced(), "{counts:?}");
            }
        });
        let counts = counters.counts();
        assert_eq!((counts.arrived, counts.handed), (8_000, 4_000));
    }
}
