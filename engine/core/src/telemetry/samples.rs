//! What refused datagrams looked like, for a log that cannot be flooded.
//!
//! ```text
//!   shard:    offer ─▶ one place per outcome ─▶ take    :control thread ─▶ RefusalLog ─▶ one line per
//!             full? a load, a branch, gone                                               outcome and 10 s
//! ```
//!
//! Garbage comes at line rate and is all alike: the first one of each kind is worth a copy, the rest a count.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use binrush_wire::WireError;

use super::outcome::Outcome;
use crate::clock::Timestamp;

/// Where the refused datagrams of one shard wait to be looked at, at most one for each [`Outcome`]; to read from
/// any thread.
#[derive(Debug)]
#[repr(align(128))]
pub struct Samples {
    /// By outcome: whether its place is taken. Changed only by who holds the lock of the place, which orders the
    /// changes; the flag by itself only saves the way there. The flags lie together and are hardly ever written,
    /// so that a look at one costs a hit in the nearest cache.
    waiting: [AtomicBool; Outcome::COUNT],
    places: [Mutex<Option<Sample>>; Outcome::COUNT],
}

/// The one right to leave something in [`Samples`]; belongs to its shard.
#[derive(Debug)]
pub struct SampleWriter {
    samples: Arc<Samples>,
}

/// What there is to show of a refused datagram.
///
/// Its `Display` is one line of printable ASCII, whatever came:
/// `200 bytes, bad_crc: checksum does not match the bytes at offset 4 (need 0x00000001, have 0x00000002), begins with "P4CK\x01..."`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Length of the whole datagram, in bytes.
    len: usize,
    error: Option<WireError>,
    /// The beginning; what `len` does not reach is zero.
    begin: [u8; BEGIN_MAX],
}

/// Decides when refused datagrams are worth a line: the first of each outcome at once, then their number no more
/// often than every [`QUIET`].
///
/// Belongs to the thread that logs. Knows no clock and writes nothing: what to say is what it returns.
#[derive(Debug, Default)]
pub struct RefusalLog {
    told: [Option<Told>; Outcome::COUNT],
}

/// Datagrams of one outcome that were not told of before. Its `Display` is the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What became of them.
    pub outcome: Outcome,
    /// How many.
    pub count: u64,
    /// One of them, if one was kept.
    pub sample: Option<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Timestamp,
    /// How many there were in all.
    count: u64,
}

impl Samples {
    /// Nothing waits, and the right to change that.
    #[must_use]
    pub fn new() -> (Arc<Self>, SampleWriter) {
        let samples = Arc::new(Self {
            waiting: [const { AtomicBool::new(false) }; Outcome::COUNT],
            places: [const { Mutex::new(None) }; Outcome::COUNT],
        });
        let writer = SampleWriter {
            samples: Arc::clone(&samples),
        };
        (samples, writer)
    }

    /// Takes what waits, and makes room for the next. Never blocks.
    pub fn take(&self, outcome: Outcome) -> Option<Sample> {
        let waiting = &self.waiting[outcome as usize];
        if !waiting.load(Ordering::Relaxed) {
            return None;
        }
        // Held by the writer for the length of a copy, or by another reader: the next look finds what is left.
        let mut place = self.places[outcome as usize].try_lock().ok()?;
        waiting.store(false, Ordering::Relaxed);
        place.take()
    }
}

impl SampleWriter {
    /// Keeps the beginning of `datagram`, unless one of this outcome waits already: then this is a load and a
    /// branch. Never blocks and allocates nothing.
    #[inline]
    pub fn offer(&mut self, outcome: Outcome, datagram: &[u8], error: Option<WireError>) {
        if !self.samples.waiting[outcome as usize].load(Ordering::Relaxed) {
            self.keep(outcome, datagram, error);
        }
    }

    #[cold]
    fn keep(&mut self, outcome: Outcome, datagram: &[u8], error: Option<WireError>) {
        let sample = Sample::of(datagram, error);
        // Held by a reader who is just taking the last one: then the next datagram of this kind is kept. Nobody
        // ever waits for the lock, so giving it back is no system call.
        if let Ok(mut place) = self.samples.places[outcome as usize].try_lock() {
            *place = Some(sample);
            self.samples.waiting[outcome as usize].store(true, Ordering::Relaxed);
        }
    }
}

impl Sample {
    fn of(datagram: &[u8], error: Option<WireError>) -> Self {
        let kept = datagram.len().min(BEGIN_MAX);
        let mut begin = [0; BEGIN_MAX];
        begin[..kept].copy_from_slice(&datagram[..kept]);
        Self {
            len: datagram.len(),
            error,
            begin,
        }
    }

    /// The first bytes of the datagram, at most 64.
    #[must_use]
    pub fn begin(&self) -> &[u8] {
        &self.begin[..self.len.min(BEGIN_MAX)]
    }

    /// Length of the whole datagram, in bytes.
    #[must_use]
    pub const fn datagram_len(&self) -> usize {
        self.len
    }

    /// What was wrong with it, where that has a place.
    #[must_use]
    pub const fn error(&self) -> Option<WireError> {
        self.error
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.len == 1 { "byte" } else { "bytes" };
        write!(f, "{} {unit}", self.len)?;
        if let Some(error) = self.error {
            write!(f, ", {error}")?;
        }
        match self.len {
            0 => Ok(()),
            1..=BEGIN_MAX => write!(f, ", \"{}\"", self.begin().escape_ascii()),
            _ => write!(f, ", begins with \"{}\"", self.begin().escape_ascii()),
        }
    }
}

impl RefusalLog {
    /// Nothing was told yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What to say at `now`, where `outcomes` are the counts of all shards so far, by [`Outcome`], and `samples`
    /// what each of them kept. Takes the samples of every outcome that it returns.
    pub fn due(
        &mut self,
        now: Timestamp,
        outcomes: &[u64; Outcome::COUNT],
        samples: &[&Samples],
    ) -> Vec<Refusal> {
        let refused = Outcome::ALL
            .into_iter()
            .filter(|outcome| outcome.is_refusal());
        let due = refused.filter_map(|outcome| {
            let all = outcomes[outcome as usize];
            let told = &mut self.told[outcome as usize];
            let count = all.saturating_sub(told.map_or(0, |told| told.count));
            let quiet =
                told.is_some_and(|told| u128::from(now.nanos_since(told.at)) < QUIET.as_nanos());
            if count == 0 || quiet {
                return None;
            }
            *told = Some(Told {
                at: now,
                count: all,
            });
            // From every shard, so that what is shown next time came after this.
            let mut sample = None;
            for samples in samples {
                sample = samples.take(outcome).or(sample);
            }
            Some(Refusal {
                outcome,
                count,
                sample,
            })
        });
        due.collect()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            outcome,
            count,
            sample,
        } = self;
        let unit = if *count == 1 { "packet" } else { "packets" };
        write!(
            f,
            "refused {count} {unit}: {outcome} ({})",
            outcome.sentence()
        )?;
        match sample {
            Some(sample) if *count == 1 => write!(f, ": {sample}"),
            Some(sample) => write!(f, ", e.g. {sample}"),
            None => Ok(()),
        }
    }
}

/// How long an outcome is not told of again.
pub const QUIET: Duration = Duration::from_secs(10);

/// Bytes of a refused datagram that are kept: header, name and the first fields.
const BEGIN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    use binrush_wire::ErrorKind;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn counts<const N: usize>(of: [(Outcome, u64); N]) -> [u64; Outcome::COUNT] {
        let mut outcomes = [0; Outcome::COUNT];
        for (outcome, count) in of {
            outcomes[outcome as usize] = count;
        }
        outcomes
    }

    #[test]
    fn the_first_of_each_outcome_is_kept_until_it_is_taken() {
        let (samples, mut writer) = Samples::new();
        assert_eq!(samples.take(Outcome::BadCrc), None);
        writer.offer(Outcome::BadCrc, b"first", None);
        writer.offer(Outcome::BadCrc, b"second", None);
        writer.offer(Outcome::TooShort, b"x", None);
        let taken = |outcome| samples.take(outcome).map(|sample| sample.begin().to_vec());
        assert_eq!(taken(Outcome::BadCrc).as_deref(), Some(&b"first"[..]));
        assert_eq!(taken(Outcome::BadCrc), None);
        writer.offer(Outcome::BadCrc, b"third", None);
        assert_eq!(taken(Outcome::BadCrc).as_deref(), Some(&b"third"[..]));
        assert_eq!(taken(Outcome::TooShort).as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn every_outcome_has_a_place_of_its_own() {
        let (samples, mut writer) = Samples::new();
        for outcome in Outcome::ALL {
            writer.offer(outcome, outcome.symbol().as_bytes(), None);
        }
        for outcome in Outcome::ALL {
            let sample = samples.take(outcome).unwrap();
            assert_eq!(sample.begin(), outcome.symbol().as_bytes());
        }
    }

    #[test]
    fn a_sample_says_how_long_what_is_wrong_and_how_it_begins() {
        let error = WireError::new(ErrorKind::Checksum, 4, 1, 2);
        let sample = Sample::of(
            &[b"P4CK\x01\"\n".as_slice(), &[b'x'; 193]].concat(),
            Some(error),
        );
        let expected = format!(
            "200 bytes, bad_crc: checksum does not match the bytes at offset 4 (need 0x00000001, have 0x00000002), \
             begins with \"P4CK\\x01\\\"\\n{}\"",
            "x".repeat(57)
        );
        assert_eq!(sample.to_string(), expected);
        assert_eq!(Sample::of(b"?", None).to_string(), "1 byte, \"?\"");
        assert_eq!(Sample::of(b"", None).to_string(), "0 bytes");
    }

    #[test]
    fn samples_pass_between_threads_whole_and_no_place_is_ever_stuck() {
        let (samples, mut writer) = Samples::new();
        let writer = thread::scope(|scope| {
            let shard = scope.spawn(move || {
                for round in 0..100_000_u32 {
                    let byte = round.to_le_bytes()[0];
                    writer.offer(Outcome::BadMarker, &[byte; 100], None);
                }
                writer
            });
            let read = || {
                while !shard.is_finished() {
                    if let Some(sample) = samples.take(Outcome::BadMarker) {
                        let begin = sample.begin();
                        assert!(begin.iter().all(|byte| *byte == begin[0]), "{sample}");
                    }
                }
            };
            thread::scope(|readers| {
                readers.spawn(read);
                readers.spawn(read);
            });
            shard.join()
        });
        let mut writer = writer.unwrap();
        while samples.take(Outcome::BadMarker).is_some() {}
        writer.offer(Outcome::BadMarker, b"last", None);
        assert_eq!(samples.take(Outcome::BadMarker).unwrap().begin(), b"last");
    }

    #[test]
    fn a_flood_is_one_line_at_once_and_then_one_every_ten_seconds() {
        let (samples, mut writer) = Samples::new();
        let mut log = RefusalLog::new();
        let mut lines = Vec::new();
        // A hundred a second for half a minute, looked at each second.
        for second in 0..30 {
            for n in 0..100 {
                let datagram = format!("garbage {}", second * 100 + n);
                writer.offer(Outcome::BadMarker, datagram.as_bytes(), None);
            }
            let outcomes = counts([
                (Outcome::BadMarker, (second + 1) * 100),
                (Outcome::Handled, 7),
            ]);
            let due = log.due(at(second), &outcomes, &[&samples]);
            lines.extend(due.iter().map(|refusal| format!("{second}: {refusal}")));
        }
        let meaning = "bad_marker (does not begin with P4CK: not a BIN packet)";
        assert_eq!(
            lines,
            [
                format!("0: refused 100 packets: {meaning}, e.g. 9 bytes, \"garbage 0\""),
                format!("10: refused 1000 packets: {meaning}, e.g. 11 bytes, \"garbage 100\""),
                format!("20: refused 1000 packets: {meaning}, e.g. 12 bytes, \"garbage 1100\""),
            ]
        );
    }

    #[test]
    fn each_outcome_is_told_by_itself_and_silence_is_not_told() {
        let mut log = RefusalLog::new();
        let outcomes = counts([(Outcome::TooShort, 1)]);
        let text = |due: Vec<Refusal>| due.iter().map(Refusal::to_string).collect::<Vec<_>>();
        assert_eq!(
            text(log.due(at(1), &outcomes, &[])),
            ["refused 1 packet: too_short (shorter than the smallest packet)"]
        );
        let outcomes = counts([(Outcome::TooShort, 2), (Outcome::UnknownName, 3)]);
        let due = log.due(at(2), &outcomes, &[]);
        assert_eq!(
            (due.len(), due[0].outcome, due[0].count),
            (1, Outcome::UnknownName, 3)
        );
        let due = log.due(at(11), &outcomes, &[]);
        assert_eq!(
            (due.len(), due[0].outcome, due[0].count),
            (1, Outcome::TooShort, 1)
        );
        assert_eq!(log.due(at(1000), &outcomes, &[]), []);
        // After a long silence the next one is told at once.
        let outcomes = counts([(Outcome::TooShort, 3), (Outcome::UnknownName, 3)]);
        assert_eq!(log.due(at(1001), &outcomes, &[]).len(), 1);
    }

    #[test]
    fn a_line_takes_the_samples_of_all_shards_so_that_the_next_shows_something_newer() {
        let (one, mut first) = Samples::new();
        let (two, mut second) = Samples::new();
        let mut log = RefusalLog::new();
        first.offer(Outcome::BadCrc, b"old", None);
        second.offer(Outcome::BadCrc, b"old", None);
        let due = log.due(at(0), &counts([(Outcome::BadCrc, 2)]), &[&one, &two]);
        assert_eq!(due[0].sample.unwrap().begin(), b"old");
        first.offer(Outcome::BadCrc, b"new", None);
        let due = log.due(at(20), &counts([(Outcome::BadCrc, 3)]), &[&one, &two]);
        assert_eq!(due[0].sample.unwrap().begin(), b"new");
        assert!(
            due[0].to_string().ends_with(": 3 bytes, \"new\""),
            "{}",
            due[0]
        );
    }

    proptest! {
        #[test]
        fn whatever_came_the_line_is_short_and_harmless(datagram: Vec<u8>, at: usize, need: i64) {
            let error = WireError::claimed(ErrorKind::FieldPastEnd, at, need, datagram.len());
            let (samples, mut writer) = Samples::new();
            writer.offer(Outcome::FieldPastEnd, &datagram, Some(error));
            let outcomes = counts([(Outcome::FieldPastEnd, u64::MAX)]);
            let due = RefusalLog::new().due(Timestamp::default(), &outcomes, &[&samples]);
            let line = due[0].to_string();
            prop_assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{line}");
            prop_assert!(line.len() < 600, "{}: {line}", line.len());
            prop_assert!(line.contains(&format!("{} byte", datagram.len())), "{line}");
        }
    }
}
