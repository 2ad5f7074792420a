//! What a run leaves behind: everything that a report shows, in one JSON file.
//!
//! Times are nanoseconds unless a name says otherwise; rates are packets per second.

use std::collections::BTreeMap;

use binrush_probe::{Hist, Report as ProbeReport};
use serde::{Deserialize, Serialize};

/// One run of a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunResult {
    /// Of this format; a reader refuses a newer one.
    pub(crate) format: u32,
    /// load, search, replay, self-test
    pub(crate) command: String,
    /// As typed.
    pub(crate) arguments: Vec<String>,
    /// RFC 3339.
    pub(crate) started: String,
    pub(crate) finished: String,
    /// Whether everything that was asked for was measured; if not, `trouble` says why.
    pub(crate) complete: bool,
    pub(crate) trouble: Option<String>,
    /// `git describe` of this program's sources where known, and its version.
    pub(crate) version: String,
    /// The machine: binrush_tune's facts as JSON (kernel, cpu, virtualisation, governor, sysctls, ...).
    pub(crate) host: serde_json::Value,
    pub(crate) doubts: Vec<Doubt>,
    /// What the generator can do here, measured before the run.
    pub(crate) self_test: Vec<SelfTestRow>,
    pub(crate) trials: Vec<Trial>,
    pub(crate) search: Option<SearchResult>,
    /// Of `overload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overload: Option<OverloadResult>,
}

/// A reason not to believe a figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Doubt {
    /// "note", "doubt" or "worthless"
    pub(crate) severity: String,
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
}

/// How fast and how late the generator is, sending one way to a sink that audits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SelfTestRow {
    /// plain, gso, tcp
    pub(crate) way: String,
    pub(crate) size: usize,
    /// Highest rate that was achieved within 0.1 %, or as fast as it goes.
    pub(crate) rate_pps: f64,
    /// Processor time of the sending thread per packet.
    pub(crate) ns_per_packet: f64,
    /// At the rate named by `lateness_at_pps`.
    pub(crate) lateness: Hist,
    pub(crate) lateness_at_pps: f64,
    pub(crate) unsent: u64,
    pub(crate) lost: u64,
}

/// One load at one rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// "load", "trial 7", "at 50 %"
    pub(crate) name: String,
    pub(crate) scenario: String,
    /// "udp" or "tcp"
    pub(crate) transport: String,
    /// "constant", "poisson", "captured", "steps"
    pub(crate) arrivals: String,
    pub(crate) seed: u64,
    pub(crate) run: u16,
    pub(crate) offered_pps: f64,
    pub(crate) seconds: f64,
    pub(crate) senders: Vec<SenderResult>,
    pub(crate) receiver: ReceiverResult,
    pub(crate) ledger: Ledger,
    /// Received minus intended, and received minus actually sent; empty when the receiver has no probe.
    pub(crate) intended: Hist,
    pub(crate) actual: Hist,
    pub(crate) intervals: Vec<IntervalRow>,
    /// What limits at this rate: "receiver core", "generator", "socket buffer", "link", "none", with the evidence.
    pub(crate) binding: Option<Binding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) resource: String,
    pub(crate) evidence: String,
}

/// What one sender did. `planned = sent + unsent + Σ errors`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SenderResult {
    pub(crate) stream: u16,
    pub(crate) core: Option<usize>,
    /// plain, gso, tcp
    pub(crate) way: String,
    pub(crate) planned: u64,
    pub(crate) sent: u64,
    /// Too late, or still waiting when the time was over.
    pub(crate) unsent: u64,
    /// What the kernel refused, by its words; packets that could not be made.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) bytes: u64,
    /// System calls, and datagrams (or frames) per call at most.
    pub(crate) sends: u64,
    pub(crate) batch_max: u64,
    /// A frame that was cut by the end of a TCP run.
    pub(crate) partial: u64,
    /// Handed to the kernel minus due.
    pub(crate) lateness: Hist,
    /// By CLOCK_MONOTONIC.
    pub(crate) start_ns: u64,
    /// Sent in each second, and due in it; the first is the one of CLOCK_MONOTONIC in which the start was.
    pub(crate) by_second: Vec<u64>,
    pub(crate) due_by_second: Vec<u64>,
    /// Processor time of the thread between first and last packet.
    pub(crate) cpu_ns: u64,
    /// From the start to the last packet.
    pub(crate) elapsed_ns: u64,
    /// For how long a stream took no more bytes while some waited: its receiver's time, not the sender's.
    #[serde(default)]
    pub(crate) blocked_ns: u64,
}

/// What the receiver says, and the kernel of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ReceiverResult {
    /// "binrush serve 0.1.0 (recvmmsg, 1 shard)", "sink", "process 1234 at udp:127.0.0.1:5566"
    pub(crate) name: String,
    /// Its counts by name, as it tells them; empty when it tells nothing.
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) received: Option<u64>,
    /// Kernel drops by name: buffer, acl, starting, stopping; for other processes `socket`.
    pub(crate) kernel_drops: BTreeMap<String, u64>,
    pub(crate) probe: Option<ProbeReport>,
    /// Processor time of its receiving threads, during the run.
    pub(crate) cpu_ns: Option<u64>,
    /// Share of the run in which its busiest thread was on a processor, 0 to 1.
    pub(crate) busy: Option<f64>,
    /// Share of the looks at its queue that found a fifth of its buffer full, or more.
    pub(crate) backlog: Option<f64>,
    /// Receive buffer in bytes, as granted.
    pub(crate) rcvbuf: Option<u64>,
    /// What an engine counted of connections.
    #[serde(default)]
    pub(crate) streams: Option<StreamResult>,
}

/// What an engine counted of connections, as its total line says it.
///
/// `rx_bytes = frame_bytes + skipped_bytes + partial_bytes + rejected_bytes` once all are closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StreamResult {
    pub(crate) opened: u64,
    pub(crate) rx_bytes: u64,
    /// Packets cut out of them, and their bytes.
    pub(crate) frames: u64,
    pub(crate) frame_bytes: u64,
    pub(crate) skipped_bytes: u64,
    pub(crate) partial_bytes: u64,
    pub(crate) rejected_bytes: u64,
    /// Packets that waited for a shard that did not keep up, and times that reading paused for that.
    pub(crate) spilled: u64,
    pub(crate) pauses: u64,
    /// How connections ended, by reason.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Connections that were not taken, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
}

/// Where every packet went. `planned = Σ terms + remainder`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) planned: u64,
    /// In the order in which a packet meets them: (name, count), e.g. ("unsent", 0), ("send errors", 0), ("kernel: buffer", 12), ("bad_crc", 0), ("arrived once", 49988).
    pub(crate) terms: Vec<(String, u64)>,
    /// Copies beyond the first, and what is no packet of this run: not part of the sum.
    pub(crate) duplicates: u64,
    pub(crate) foreign: u64,
    /// Not explained; anything but 0 fails the run. Negative: more arrived than was sent.
    pub(crate) remainder: i64,
    /// Planned that did not arrive intact, of planned.
    pub(crate) loss_ratio: f64,
    /// Of streams whose receiver tells.
    #[serde(default)]
    pub(crate) bytes: Option<ByteLedger>,
}

/// Where the bytes of whole packets in streams went. `sent = received + lost + remainder`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ByteLedger {
    /// Of packets that the kernel took wholly.
    pub(crate) sent: u64,
    /// Of packets that the receiver cut out of its streams.
    pub(crate) received: u64,
    /// With connections that broke.
    pub(crate) lost: u64,
    /// Not explained; anything but 0 fails the run.
    pub(crate) remainder: i64,
}

/// A second of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct IntervalRow {
    /// From the start.
    pub(crate) second: u64,
    pub(crate) offered: u64,
    pub(crate) sent: u64,
    pub(crate) received: Option<u64>,
    /// Of the intended-time latency, by second of arrival.
    pub(crate) latency: Hist,
}

/// What a receiver did with more than it can take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OverloadResult {
    /// The rate that goes without loss.
    pub(crate) lossless_pps: f64,
    pub(crate) rows: Vec<OverloadRow>,
}

/// One overload, in the order of the trials.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OverloadRow {
    /// Times the rate that goes without loss.
    pub(crate) factor: u8,
    /// Sent in the seconds of the clock that lie in the overload as a whole.
    pub(crate) offered_pps: f64,
    /// Handled in them.
    pub(crate) goodput_pps: f64,
    /// Of the worst second that begins a second or more after it.
    pub(crate) recovered_p99_ns: u64,
    /// In bytes, at the most: in the calm before, and from then on.
    pub(crate) memory_calm: u64,
    pub(crate) memory_most: u64,
    /// What did not hold, in words; empty: it passed.
    pub(crate) broken: Vec<String>,
}

/// What a search found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SearchResult {
    pub(crate) goals: Vec<GoalResult>,
    /// The rate that meets all goals.
    pub(crate) rate_pps: f64,
    /// Relevant bounds of the goal that allows least. `None` without one: nothing was found to keep to it, or to exceed it,
    /// or the search was not finished.
    pub(crate) lower_pps: Option<f64>,
    pub(crate) upper_pps: Option<f64>,
    pub(crate) binding: Binding,
    /// Indices into `trials` of those at 10, 50 and 90 % of the rate found.
    pub(crate) at_percent: Vec<(u8, usize)>,
}

impl SearchResult {
    /// Why the search for some goal was not finished; `None` when all ended.
    pub(crate) fn unfinished(&self) -> Option<&str> {
        let mut exits = self.goals.iter().map(|goal| &goal.exit);
        exits.find_map(|exit| exit.strip_prefix(NOT_FINISHED))
    }
}

/// One goal of a search.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GoalResult {
    /// "loss <= 0 and p99 <= 1ms"
    pub(crate) goal: String,
    pub(crate) lower_pps: Option<f64>,
    pub(crate) upper_pps: Option<f64>,
    /// MLRsearch's conditional throughput.
    pub(crate) throughput_pps: Option<f64>,
    /// "regular", "irregular: even the lowest rate, 1000/s, exceeds it", "not finished: ..." (see [`NOT_FINISHED`])
    pub(crate) exit: String,
}

/// How the exit of a goal begins whose search was not finished; the reason follows.
pub(crate) const NOT_FINISHED: &str = "not finished: ";

/// Of this file's layout.
pub(crate) const FORMAT: u32 = 1;
