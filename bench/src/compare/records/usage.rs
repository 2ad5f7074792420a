//! What the threads of a receiver took, by what they are there for.

use crate::procfs;
use crate::receiver::Receiver;

/// Nanoseconds on processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Those that own records; of a receiver of this program all that it does.
    pub(super) shard_ns: u64,
    /// Those that read connections beside them.
    pub(super) reader_ns: u64,
    /// Those that write logs.
    pub(super) writer_ns: u64,
    pub(super) rest_ns: u64,
}

impl Usage {
    /// Since `receiver` was started; exact of threads that sleep.
    pub(super) fn of(receiver: &Receiver) -> anyhow::Result<Self> {
        let mut usage = Self::default();
        for thread in procfs::threads(receiver.id())? {
            // One that has ended since it was listed.
            let Ok(ns) = thread.cpu_ns() else { continue };
            let is_shard = receiver.threads().contains(&thread);
            *usage.of_thread(&thread.name(), is_shard) += ns;
        }
        Ok(usage)
    }

    fn of_thread(&mut self, name: &str, is_shard: bool) -> &mut u64 {
        if is_shard {
            &mut self.shard_ns
        } else if name.starts_with(READER) {
            &mut self.reader_ns
        } else if name.starts_with(WRITER) {
            &mut self.writer_ns
        } else {
            &mut self.rest_ns
        }
    }

    /// What came after `before`.
    pub(super) fn since(self, before: Self) -> Self {
        let less = u64::saturating_sub;
        Self {
            shard_ns: less(self.shard_ns, before.shard_ns),
            reader_ns: less(self.reader_ns, before.reader_ns),
            writer_ns: less(self.writer_ns, before.writer_ns),
            rest_ns: less(self.rest_ns, before.rest_ns),
        }
    }
}

/// How the engine's threads are called.
pub(super) const READER: &str = "reader";
const WRITER: &str = "journal";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_apart_by_their_names() {
        let mut usage = Usage::default();
        for (name, is_shard) in [
            ("shard0", true),
            ("reader0", false),
            ("journal-0", false),
            ("cluster", false),
            ("links", false),
        ] {
            *usage.of_thread(name, is_shard) += 10;
        }
        let expected = Usage {
            shard_ns: 10,
            reader_ns: 10,
            writer_ns: 10,
            rest_ns: 20,
        };
        assert_eq!(usage, expected);
        assert_eq!(usage.since(expected), Usage::default());
        assert_eq!(Usage::default().since(expected), Usage::default());
    }
}
