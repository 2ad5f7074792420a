//! Samples as stacks: what `perf script` prints, summed up by stack and by the frame that was running.
//!
//! ```text
//!   shard0 1234 cpu-clock:                                       thread, its number, event
//!           ffffffff81d3 copy_to_user ([kernel.kallsyms])        the frame that was running, then who called it
//!                  f82ad recvmmsg (/usr/lib/libc.so.6)
//!                  2c1a0 binrush_net::rx::recv (inlined)         part of the one below
//!                  2c1a0 binrush_engine::shard::turn (/usr/bin/binrush)
//!                                                                an empty line ends it
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::BufRead;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// What was sampled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sampled {
    pub(crate) samples: u64,
    /// What was counted: `cycles`, or `cpu-clock` where there is no such counter.
    pub(super) event: String,
    stacks: BTreeMap<String, u64>,
    /// Samples by the frame that was running.
    own: BTreeMap<String, u64>,
    by_side: BTreeMap<Side, u64>,
}

/// Whose code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// The program's.
    Ours,
    Kernel,
    /// The C library, its loader and the kernel's page for it.
    Libc,
}

/// Stacks, the outermost frame first, with picoseconds per packet: whole numbers, as the tools for such files want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Folded(BTreeMap<String, u64>);

/// A frame of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame<'a> {
    symbol: &'a str,
    /// The file that it is from, or `inlined`.
    object: &'a str,
}

impl Sampled {
    /// Of what `perf script -F comm,tid,event,ip,sym,dso` prints.
    pub(super) fn read(script: impl BufRead) -> anyhow::Result<Self> {
        let mut sampled = Self::default();
        let mut sample: Vec<String> = Vec::new();
        for line in script.lines() {
            let line = line.context("cannot read what perf prints")?;
            if !line.trim().is_empty() {
                // A stack has 127 frames at most (kernel.perf_event_max_stack), and those that are inlined.
                ensure!(sample.len() < LINES_MAX, "perf prints a sample without end");
                sample.push(line);
                continue;
            }
            sampled.add(&sample);
            sample.clear();
        }
        sampled.add(&sample);
        Ok(sampled)
    }

    /// Adds a sample: a line that says whose it is, and one for each frame.
    fn add(&mut self, lines: &[String]) {
        let Some((head, frames)) = lines.split_first() else {
            return;
        };
        let frames: Vec<Frame<'_>> = frames.iter().filter_map(|line| frame(line)).collect();
        let (thread, event) = thread_and_event(head);
        if self.event.is_empty() {
            event.clone_into(&mut self.event);
        }
        self.samples += 1;
        // Shards do the same, so their stacks are one.
        let mut stack = thread
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .to_owned();
        for frame in frames.iter().rev() {
            stack.push(';');
            stack.push_str(&frame.name());
        }
        *self.stacks.entry(stack).or_default() += 1;
        let own = frames
            .first()
            .map_or_else(|| UNKNOWN.to_owned(), Frame::name);
        *self.own.entry(own).or_default() += 1;
        *self.by_side.entry(side(&frames)).or_default() += 1;
    }

    /// All stacks, when the threads took `cpu_ns` for `packets`, of which there was one at least.
    pub(crate) fn folded(&self, cpu_ns: u64, packets: u64) -> Folded {
        let picos = u128::from(cpu_ns) * 1000;
        let shares = (u128::from(self.samples) * u128::from(packets)).max(1);
        let stacks = self.stacks.iter().map(|(stack, samples)| {
            let rounded = (u128::from(*samples) * picos + shares / 2) / shares;
            (stack.clone(), u64::try_from(rounded).unwrap_or(u64::MAX))
        });
        Folded(stacks.collect())
    }

    /// Share of the samples in one's code.
    pub(super) fn share(&self, side: Side) -> f64 {
        let samples = self.by_side.get(&side).copied().unwrap_or(0);
        samples as f64 / self.samples.max(1) as f64
    }

    /// The frames that were running most, without those that they called, with their shares of the samples.
    pub(super) fn hottest(&self, count: usize) -> Vec<(&str, f64)> {
        let own = self.own.iter();
        let mut own: Vec<(&str, u64)> = own.map(|(name, samples)| (&name[..], *samples)).collect();
        own.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
        let share = |samples| samples as f64 / self.samples.max(1) as f64;
        own.truncate(count);
        own.into_iter()
            .map(|(name, samples)| (name, share(samples)))
            .collect()
    }
}

impl Side {
    pub(super) const ALL: [Self; 3] = [Self::Ours, Self::Kernel, Self::Libc];

    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Kernel => "kernel",
            Self::Libc => "libc",
        }
    }
}

impl Frame<'_> {
    /// As it stands in a stack: with the marks by which tools colour the kernel's and what is inlined.
    fn name(&self) -> String {
        let mark = match self.object {
            INLINED => "_[i]",
            object if is_kernel(object) => "_[k]",
            _ => "",
        };
        // A semicolon would begin another frame.
        format!("{}{mark}", without_hash(self.symbol).replace(';', ":"))
    }
}

impl Folded {
    /// Of a file with a stack and a number in each line.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut stacks = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let pair = line.trim_end().rsplit_once(' ');
            let pair = pair.and_then(|(stack, count)| Some((stack, count.parse::<u64>().ok()?)));
            let (stack, count) = pair.with_context(|| {
                format!(
                    "line {}: expected frames, a space and a number, not \"{line}\"",
                    index + 1
                )
            })?;
            let sum: &mut u64 = stacks.entry(stack.to_owned()).or_default();
            *sum = sum.saturating_add(count);
        }
        ensure!(!stacks.is_empty(), "there is no stack in it");
        Ok(Self(stacks))
    }

    /// All stacks of both, each with what it was in `before` and what it is now: what a differential picture is drawn of.
    pub(super) fn since(&self, before: &Self) -> String {
        let all: BTreeMap<&str, ()> = self
            .0
            .keys()
            .chain(before.0.keys())
            .map(|stack| (&stack[..], ()))
            .collect();
        let of = |folded: &Self, stack| folded.0.get(stack).copied().unwrap_or(0);
        let mut text = String::new();
        for stack in all.into_keys() {
            text.push_str(&format!(
                "{stack} {} {}\n",
                of(before, stack),
                of(self, stack)
            ));
        }
        text
    }
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What rounds to nothing would be a stack without a width.
        for (stack, picos) in self.0.iter().filter(|(_, picos)| **picos > 0) {
            writeln!(f, "{stack} {picos}")?;
        }
        Ok(())
    }
}

/// Of `shard0 1234 cpu-clock:u:`. A name may have spaces.
fn thread_and_event(head: &str) -> (&str, &str) {
    let mut words = head.trim().rsplitn(3, ' ');
    let event = words.next().unwrap_or_default();
    let (_number, thread) = (words.next(), words.next().unwrap_or_default());
    let event = event.split(':').next().unwrap_or_default();
    (thread.trim(), event)
}

/// Of `ffffffff81d3 symbol (object)`.
fn frame(line: &str) -> Option<Frame<'_>> {
    let (_address, rest) = line.trim().split_once(' ')?;
    // A symbol may have parentheses as well, `core::ops::function::FnOnce::call_once{{vtable.shim}} (.llvm.7)` say.
    let at = [" (/", " ([", " (inlined"]
        .iter()
        .filter_map(|begin| rest.rfind(begin))
        .max()?;
    let object = rest[at..].trim_start_matches(" (").trim_end_matches(')');
    let symbol = rest[..at].trim();
    Some(Frame {
        symbol: if symbol.is_empty() { UNKNOWN } else { symbol },
        object: object.strip_suffix(" (deleted").unwrap_or(object),
    })
}

/// Whose the running frame is; what is inlined belongs to the file of the frame that it is part of.
fn side(frames: &[Frame<'_>]) -> Side {
    let mut objects = frames.iter().map(|frame| frame.object);
    let Some(object) = objects.find(|object| *object != INLINED) else {
        return Side::Ours;
    };
    let file = object.rsplit('/').next().unwrap_or(object);
    let libc = ["libc.", "libc-", "ld-", "libpthread", "libm.", "[vdso]"];
    if is_kernel(object) {
        Side::Kernel
    } else if libc.iter().any(|begin| file.starts_with(begin)) {
        Side::Libc
    } else {
        Side::Ours
    }
}

/// Objects in brackets are the kernel and its modules, but for the page that it gives to programs.
fn is_kernel(object: &str) -> bool {
    object.starts_with('[') && !["[vdso]", "[unknown]", "[heap]", "[stack]"].contains(&object)
}

/// A name of Rust without the number that tells it from others of the same name: that changes with each build.
fn without_hash(symbol: &str) -> &str {
    match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name
        }
        _ => symbol,
    }
}

const INLINED: &str = "inlined";
const UNKNOWN: &str = "[unknown]";

const LINES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// As `perf script -F comm,tid,event,ip,sym,dso` prints it (perf 6.1), shortened.
    const SCRIPT: &str = "\
shard0 20111 cpu-clock: 
\tffffffff821e7bc3 _copy_to_iter ([kernel.kallsyms])
\tffffffff81d4aa11 __x64_sys_recvmmsg ([kernel.kallsyms])
\tffffffff81000130 entry_SYSCALL_64_after_hwframe ([kernel.kallsyms])
\t           f82ad __recvmmsg (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t           2c1a0 <binrush_net::rx::recvmmsg::RecvMmsg as binrush_net::rx::RxQueue>::recv::h0123456789abcdef (/tmp/a b/binrush)

shard1 20112 cpu-clock: 
\t           2c1a0 <binrush_net::rx::recvmmsg::RecvMmsg as binrush_net::rx::RxQueue>::recv::hfedcba9876543210 (/tmp/a b/binrush)

shard0 20111 cpu-clock: 
\t           31111 crc32fast::specialized::calculate (inlined)
\t           31100 binrush_wire::legacy::parse (/tmp/a b/binrush)
\t           30000 core::ops::function::FnOnce::call_once{{vtable.shim}} (.llvm.7) (/tmp/a b/binrush (deleted))

shard0 20111 cpu-clock: 
\t    7ffd5d5f1a6b __vdso_clock_gettime ([vdso])
\t               0 [unknown] ([unknown])

shard0 20111 cpu-clock: 
";

    fn sampled() -> Sampled {
        Sampled::read(SCRIPT.as_bytes()).unwrap()
    }

    #[test]
    fn stacks_begin_with_the_thread_and_end_with_the_frame_that_was_running() {
        let folded = sampled().folded(10, 1000).to_string();
        let recv = "<binrush_net::rx::recvmmsg::RecvMmsg as binrush_net::rx::RxQueue>::recv";
        let expected = format!(
            "shard 2\n\
             shard;{recv} 2\n\
             shard;{recv};__recvmmsg;entry_SYSCALL_64_after_hwframe_[k];__x64_sys_recvmmsg_[k];_copy_to_iter_[k] 2\n\
             shard;[unknown];__vdso_clock_gettime 2\n\
             shard;core::ops::function::FnOnce::call_once{{{{vtable.shim}}}} (.llvm.7);binrush_wire::legacy::parse;\
             crc32fast::specialized::calculate_[i] 2\n"
        );
        assert_eq!(folded, expected);
    }

    #[test]
    fn each_sample_is_on_one_side() {
        let sampled = sampled();
        assert_eq!((sampled.samples, &sampled.event[..]), (5, "cpu-clock"));
        // What is inlined is of the file that it is in; what has no frame at all is the program's.
        assert_eq!(Side::ALL.map(|side| sampled.share(side)), [0.6, 0.2, 0.2]);
    }

    #[test]
    fn the_hottest_frames_are_those_that_were_running() {
        let twice = [
            SCRIPT,
            "\nx 1 e: \n\t 1 _copy_to_iter ([kernel.kallsyms])\n",
        ]
        .concat();
        let sampled = Sampled::read(twice.as_bytes()).unwrap();
        let hottest = sampled.hottest(1);
        assert_eq!(hottest, [("_copy_to_iter_[k]", 2.0 / 6.0)]);
        assert_eq!(sampled.hottest(100).len(), 5);
    }

    #[test]
    fn a_head_has_thread_number_and_event() {
        let heads = [
            ("shard0 7 cpu-clock: ", ("shard0", "cpu-clock")),
            ("   a thread 7 cycles:u: ", ("a thread", "cycles")),
            ("odd", ("", "odd")),
        ];
        for (head, expected) in heads {
            assert_eq!(thread_and_event(head), expected, "{head}");
        }
    }

    #[test]
    fn stacks_read_again_are_the_same_and_what_is_none_is_told_with_its_line() {
        let folded = sampled().folded(5, 1);
        assert_eq!(Folded::parse(&folded.to_string()).unwrap(), folded);
        for (text, words) in [
            ("a;b 1\nnothing\n", "line 2: expected frames"),
            ("a;b 1.5\n", "line 1"),
            ("", "no stack"),
        ] {
            let error = Folded::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_difference_has_every_stack_of_both_runs() {
        let [before, now] = ["a 1\nb 2\n", "b 3\nc 4\n"].map(|text| Folded::parse(text).unwrap());
        assert_eq!(now.since(&before), "a 1 0\nb 2 3\nc 0 4\n");
    }

    #[test]
    fn a_sample_without_end_is_refused() {
        let endless = "x 1 e:\n".repeat(LINES_MAX + 1);
        assert!(Sampled::read(endless.as_bytes()).is_err());
    }
}
