//! Packets as fast as they go.

use std::time::Duration;

use binrush_scenario::{ContentError, Source};

/// Packets that are all due at the start, until so much time has passed.
#[derive(Debug)]
pub(super) struct FlatOut<S> {
    content: S,
    length_ns: u64,
    is_over: bool,
}

impl<S: Source> FlatOut<S> {
    /// The packets of `content`, whenever they would be due, for `length`: 4 s at most, which is what the 32 bits hold
    /// in which a source is told how late it is.
    pub(super) fn new(content: S, length: Duration) -> Self {
        Self {
            content,
            length_ns: u32::try_from(length.as_nanos()).unwrap_or(u32::MAX).into(),
            is_over: false,
        }
    }
}

impl<S: Source> Source for FlatOut<S> {
    fn due(&self) -> Option<u64> {
        (!self.is_over).then_some(0)
    }

    fn write(
        &mut self,
        start_ns: u64,
        late_ns: u32,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let written = self.content.write(start_ns, late_ns, out);
        // As late as the start is long ago.
        self.is_over = u64::from(late_ns) >= self.length_ns || self.content.due().is_none();
        written
    }

    fn skip(&mut self) {
        self.is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_scenario::{Content, Scenario, Schedule, Share};

    #[test]
    fn flat_out_everything_is_due_until_the_time_is_over() {
        let scenario = Scenario::find("miss").unwrap();
        let share = Share {
            stream: 0,
            streams: 1,
        };
        let length = Duration::from_secs(1);
        let schedule = Schedule::new(&scenario.arrivals, 10.0, length, share, 1);
        let content = Content::new(&scenario, 1, share, schedule).unwrap();
        let mut source = FlatOut::new(content, Duration::from_nanos(1000));
        let mut out = vec![0; 65_535];
        for late_ns in [0, 500, 999] {
            assert_eq!(source.due(), Some(0));
            assert_eq!(source.write(7, late_ns, &mut out), Ok(200));
        }
        source.write(7, 1000, &mut out).unwrap();
        assert_eq!(source.due(), None);
    }

    #[test]
    fn it_ends_with_its_packets_too() {
        let scenario = Scenario::find("miss").unwrap();
        let share = Share {
            stream: 0,
            streams: 1,
        };
        let length = Duration::from_secs(1);
        let schedule = Schedule::new(&scenario.arrivals, 2.0, length, share, 1);
        let content = Content::new(&scenario, 1, share, schedule).unwrap();
        let mut source = FlatOut::new(content, Duration::MAX);
        let mut out = vec![0; 65_535];
        let mut written = 0;
        while source.due().is_some() {
            source.write(7, 0, &mut out).unwrap();
            written += 1;
        }
        assert_eq!(written, 2);
    }
}
