//! Whatever can be used of a capture, and what had to be left out of it.
//!
//! ```text
//!   capture ─▶ frames ─▶ of one generation, whole, about records ─▶ of the busiest way ─▶ moments ─▶ Traffic
//!                 └──────────── counted in LeftOut ───────────────────────┴──────────────────┘
//! ```

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use binrush_capture::{Capture, Event, Frame, GenerationChoice, Options, Transport};
use binrush_wire::{Generation, Packet};

use super::{Captured, Traffic, TrafficError};

/// Traffic with what had to be left out of its capture.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What can be sent again; never empty.
    pub traffic: Traffic,
    /// Who sent it to whom.
    pub way: String,
    /// Packets whose key nobody knows (modules without a schema, messages about no single record): every round and copy
    /// sends them as they were captured.
    pub keyless: u64,
    /// Packets of 2.3 and later without a trailer that is known to be one, and those between clusters: no other destination
    /// can be put into them.
    pub unaddressed: u64,
    /// Moments at which the capture's clock went back, or more than a minute ahead. The mean of the other gaps stands there
    /// instead.
    pub clock_steps: u64,
    /// Of the same capture, what is not sent.
    pub left_out: LeftOut,
}

/// What a capture holds besides the packets that can be sent again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Packets of another generation than the first one.
    pub other_generation: u64,
    /// What is no packet.
    pub broken: u64,
    /// Messages between clusterer modules about links that are not the sender's.
    pub internal: u64,
    /// Packets that went other ways than the busiest.
    pub other_way: u64,
    /// How many other ways there are.
    pub other_ways: u64,
    /// Whether there is more of the capture than [`BYTES_MAX`] has room for.
    pub is_too_long: bool,
    /// Of the capture, the first ones in words.
    pub problems: Vec<String>,
    /// All of them.
    pub problem_count: u64,
}

/// What is taken of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ways {
    /// The packets of the way with the most of them: a receiver gets what one node told it, and not its own words too.
    #[default]
    Busiest,
    /// Everything, whoever sent it to whom.
    All,
}

/// Who sends to whom: addresses of datagrams; of streams hosts only, since each connection has a port of its own, and
/// frames go both ways in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    Addresses(SocketAddr, SocketAddr),
    Hosts(IpAddr, IpAddr),
}

/// A packet on its way into [`Traffic`].
struct Noted {
    way: usize,
    clock_ns: u64,
    packet: Captured,
}

/// What was read of a capture so far.
#[derive(Default)]
struct Recording {
    generation: Option<Generation>,
    packets: Vec<Noted>,
    bytes: usize,
    /// Each with its number.
    ways: HashMap<Way, usize>,
    left_out: LeftOut,
}

impl Traffic {
    /// Whatever can be used of a capture, with its moments: the packets of `generation`, or of the first packet's.
    ///
    /// # Errors
    /// [`TrafficError::Open`]; [`TrafficError::Empty`], with what was found instead.
    pub fn record(
        reader: impl Read,
        generation: Option<Generation>,
        ways: Ways,
    ) -> Result<Recorded, TrafficError> {
        Self::record_up_to(reader, generation, ways, BYTES_MAX)
    }

    fn record_up_to(
        reader: impl Read,
        generation: Option<Generation>,
        ways: Ways,
        bytes_max: usize,
    ) -> Result<Recorded, TrafficError> {
        let choice = generation.map_or(GenerationChoice::Auto, GenerationChoice::Fixed);
        let options = Options {
            generation: choice,
            ..Options::default()
        };
        let mut capture = Capture::new(reader, options)?;
        let mut recording = Recording {
            generation,
            ..Recording::default()
        };
        while let Some(event) = capture.next() {
            match event {
                Event::Frame(frame) => {
                    if !recording.take(&frame, bytes_max) {
                        recording.left_out.is_too_long = true;
                        break;
                    }
                }
                Event::Problem(problem) => recording.left_out.note(problem.to_string()),
            }
        }
        recording.finish(ways)
    }
}

impl Recording {
    /// Notes what can be sent again; `false` when there is no room for it.
    fn take(&mut self, frame: &Frame<'_>, bytes_max: usize) -> bool {
        let generation = *self.generation.get_or_insert(frame.generation);
        if generation != frame.generation {
            self.left_out.other_generation += 1;
            return true;
        }
        let Ok(packet) = Packet::parse(generation, frame.bytes) else {
            self.left_out.broken += 1;
            return true;
        };
        if packet.name() == INTERNAL {
            self.left_out.internal += 1;
            return true;
        }
        self.bytes += frame.bytes.len() + size_of::<Noted>();
        if self.bytes > bytes_max {
            return false;
        }
        let next = self.ways.len();
        self.packets.push(Noted {
            way: *self.ways.entry(Way::of(frame)).or_insert(next),
            clock_ns: frame.time.as_nanos(),
            packet: Captured::of(&packet, frame.bytes),
        });
        true
    }

    fn finish(mut self, ways: Ways) -> Result<Recorded, TrafficError> {
        let mut counts = vec![0_u64; self.ways.len()];
        for noted in &self.packets {
            counts[noted.way] += 1;
        }
        // Of equals, the one that was seen first.
        let busiest = (0..counts.len())
            .rev()
            .max_by_key(|way| counts[*way])
            .unwrap_or(0);
        let mut way = "everybody to everybody".to_owned();
        if ways == Ways::Busiest || counts.len() == 1 {
            self.left_out.other_way = self.packets.len() as u64 - counts.get(busiest).unwrap_or(&0);
            self.left_out.other_ways = counts.len().saturating_sub(1) as u64;
            self.packets.retain(|noted| noted.way == busiest);
            let named = self.ways.iter().find(|(_, number)| **number == busiest);
            way = named.map_or_else(String::new, |(way, _)| way.to_string());
        }
        let clock_steps = set_moments(&mut self.packets);
        let packets: Vec<Captured> = self.packets.into_iter().map(|noted| noted.packet).collect();
        let count = |of: fn(&Captured) -> bool| packets.iter().filter(|packet| of(packet)).count();
        let keyless = count(|packet| packet.key.is_none()) as u64;
        let generation = self.generation.unwrap_or(Generation::Legacy);
        let unaddressed = match generation {
            Generation::Modern => count(|packet| !packet.is_addressed) as u64,
            _ => 0,
        };
        if packets.is_empty() {
            return Err(TrafficError::Empty(Box::new(self.left_out)));
        }
        Ok(Recorded {
            traffic: Traffic::new(generation, packets)?,
            way,
            keyless,
            unaddressed,
            clock_steps,
            left_out: self.left_out,
        })
    }
}

/// Gives each packet its moment, the sum of the gaps before it; how many gaps were no time that passed.
fn set_moments(packets: &mut [Noted]) -> u64 {
    let Some(first) = packets.first() else {
        return 0;
    };
    let mut furthest = first.clock_ns;
    // `None` where the clock was set.
    let gaps: Vec<Option<u64>> = packets
        .iter()
        .map(|noted| {
            let (back, ahead) = (
                furthest.saturating_sub(noted.clock_ns),
                noted.clock_ns.saturating_sub(furthest),
            );
            if back > 0 && back <= DISORDER_MAX_NS {
                // Captures of several interfaces may go back a little: time stands still until it is made up for.
                return Some(0);
            }
            furthest = noted.clock_ns;
            (back == 0 && ahead <= GAP_MAX_NS).then_some(ahead)
        })
        .collect();
    let steps = gaps.iter().filter(|gap| gap.is_none()).count() as u64;
    // The first packet has no gap before it.
    let sound = gaps.len() as u64 - 1 - steps;
    let sum: u64 = gaps.iter().flatten().sum();
    let mean = sum.checked_div(sound).unwrap_or(0);
    let mut at_ns = 0;
    for (noted, gap) in packets.iter_mut().zip(gaps) {
        at_ns += gap.unwrap_or(mean);
        noted.packet.at = Duration::from_nanos(at_ns);
    }
    steps
}

impl Way {
    fn of(frame: &Frame<'_>) -> Self {
        match frame.transport {
            Transport::Udp => Self::Addresses(frame.src, frame.dst),
            Transport::Tcp => Self::Hosts(frame.src.ip(), frame.dst.ip()),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(from, to) => write!(f, "{from} to {to}"),
            Self::Hosts(from, to) => write!(f, "{from} to {to}"),
        }
    }
}

impl LeftOut {
    /// What there is, in words; empty where everything was used.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let more = self.problem_count - self.problems.len() as u64;
        let counts = [
            (more, "more problems in the capture"),
            (self.broken, "frames are no packets, and left out"),
            (
                self.other_generation,
                "packets of another generation are left out",
            ),
            (
                self.internal,
                "clusterer-internal packets are left out: they are about the links of the nodes that were recorded",
            ),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let too_long = self.is_too_long.then(|| {
            format!(
                "more than {} MiB of packets: the rest was not read",
                BYTES_MAX >> 20
            )
        });
        let problems = self.problems.iter().cloned();
        let counts = counts.map(|(count, what)| format!("{count} {what}"));
        problems.chain(counts).chain(too_long)
    }

    fn note(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

/// As the end of a sentence that begins with what is missing.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.lines();
        match lines.next() {
            None => f.write_str("it holds nothing that looks like BIN"),
            Some(first) => {
                f.write_str(&first)?;
                lines.try_for_each(|line| write!(f, "; {line}"))
            }
        }
    }
}

/// What of a capture is kept in memory: its packets, and what goes with each.
pub const BYTES_MAX: usize = 1 << 30;

/// Enough to see what is wrong with a capture.
const PROBLEMS_MAX: usize = 20;

/// Heartbeats and link states: without a trailer, and about the nodes that were recorded.
const INTERNAL: &[u8] = b"clusterer-internal";

/// More is no gap between packets of a busy system, but a clock that was set, or two captures in one.
const GAP_MAX_NS: u64 = 60_000_000_000;

/// By how much the records of one capture may be out of order.
const DISORDER_MAX_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests;
