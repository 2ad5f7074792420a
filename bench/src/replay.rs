//! `binrush-bench replay`: captured traffic again, with its own timing.
//!
//! ```text
//!   captured:  A1 B1   A2      B2        rounds and copies have keys of their own:
//!   copy 0     A1 B1   A2      B2   │ 2.A1 2.B1   2.A2 ...      2 copies: number = round * copies + copy
//!   copy 1      1.A1 1.B1  1.A2     │  3.A1 3.B1 ...            a copy is a part of a mean gap behind the one before
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use binrush_replay::{Recorded, Renumbered, Traffic, Ways};
use binrush_scenario::{ContentError, Share, Source};
use binrush_wire::Generation;

use crate::exit::{End, EndsWith as _};
use crate::load;
use crate::load::matter::Matter;
use crate::load::options::{Common, rate, time};

/// Send captured traffic again, in its own time or faster, each copy and round with records of its own.
///
/// Packets of 1.x go as datagrams with their checksums computed again, those of 2.3 and later in a TCP stream.
/// Captured packets carry no stamps, so what arrived is known by counts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Capture (pcap or pcapng, also gzipped).
    file: PathBuf,

    /// How many times as fast as captured.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    speed: f64,

    /// Packets per second, instead of --speed.
    #[arg(long, value_name = "PPS", value_parser = rate, conflicts_with = "speed")]
    rate: Option<f64>,

    /// Sent at the same time, each with keys of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    copies: u16,

    /// How long; longer than the capture begins it again. The default is once through.
    #[arg(long, value_name = "TIME", value_parser = time)]
    seconds: Option<Duration>,

    /// The destination node's id to put into the packets of 2.3 and later, as far as they are for a node.
    #[arg(long, value_name = "ID")]
    node: Option<i32>,

    /// Send what was captured whoever sent it to whom, and not only the way with the most packets.
    #[arg(long)]
    all_ways: bool,

    #[command(flatten)]
    common: Common,
}

/// A capture to send from.
#[derive(Debug, Clone)]
pub(crate) struct Tape {
    name: String,
    traffic: Arc<Traffic>,
    copies: u16,
    node: Option<i32>,
}

/// One sender's part of a tape: every so-many-th copy.
#[derive(Debug)]
struct TapeSource {
    renumbered: Renumbered<Arc<Traffic>>,
    traffic: Arc<Traffic>,
    copies: u64,
    span_ns: u64,
    /// By what the capture's times are divided.
    factor: f64,
    end_ns: u64,
    /// Where each copy is; the one that is due next is on top.
    cursors: BinaryHeap<Reverse<Cursor>>,
}

/// Where one copy is. They are in the order of their moments, and of their numbers where those are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    /// Nanoseconds after the start, by the capture's clock.
    at_ns: u64,
    copy: u64,
    round: u64,
    index: usize,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let ways = if args.all_ways {
        Ways::All
    } else {
        Ways::Busiest
    };
    let recorded = read(&args.file, ways, args.node).ends_with(End::Usage)?;
    let mut notes = notes(&recorded, args.node);
    let keyless = recorded.keyless;
    let tape = Tape::of(&args.file, recorded.traffic, args.copies, args.node);
    let own = tape.rate_pps();
    let rate_pps = args.rate.unwrap_or(own * args.speed);
    let once = tape.traffic.span().div_f64(rate_pps / own);
    let length = args.seconds.unwrap_or(once);
    if keyless > 0 && (args.copies > 1 || length > once) {
        notes.push(format!(
            "{keyless} packets have no key that is known: each copy and round sends them as they were captured"
        ));
    }
    let notes = notes
        .into_iter()
        .map(|note| format!("{}: {note}", args.file.display()))
        .collect();
    let mut common = args.common.clone();
    // Nothing in captured packets could be audited.
    common.probe = "off".to_owned();
    let order = load::Order {
        command: "replay",
        rate_pps,
        length,
        notes,
    };
    load::measure(&common, Matter::Capture(tape), order)
}

/// What can be sent of a capture, in its own time and to `node`.
fn read(path: &Path, ways: Ways, node: Option<i32>) -> anyhow::Result<Recorded> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let recorded = Traffic::record(file, None, ways).with_context(|| path.display().to_string())?;
    let generation = recorded.traffic.generation();
    ensure!(
        generation != Generation::Transitional,
        "{}: packets of 2.2 cannot be sent again: nobody knows where the last field of each ends",
        path.display()
    );
    ensure!(
        node.is_none() || generation == Generation::Modern,
        "{}: --node: packets of 1.x are for whoever gets them, and name no node: leave it out",
        path.display()
    );
    ensure!(
        !recorded.traffic.span().is_zero(),
        "{}: all packets have the same time, or the clock was set between them: there is no timing to keep",
        path.display()
    );
    Ok(recorded)
}

impl Tape {
    fn of(path: &Path, traffic: Traffic, copies: u16, node: Option<i32>) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            traffic: Arc::new(traffic),
            copies,
            node,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.traffic.generation() != Generation::Legacy
    }

    /// Packets per second as captured, all copies together.
    fn rate_pps(&self) -> f64 {
        let packets = self.traffic.len() as f64 * f64::from(self.copies);
        packets / self.traffic.span().as_secs_f64()
    }

    /// What one of the senders sends, when all send `rate_pps` together for `length`.
    pub(crate) fn source(
        &self,
        rate_pps: f64,
        length: Duration,
        share: Share,
    ) -> impl Source + use<> {
        let mut renumbered = Renumbered::new(Arc::clone(&self.traffic));
        if let Some(node) = self.node {
            renumbered = renumbered.for_node(node);
        }
        let span_ns = ns(self.traffic.span());
        let copies = u64::from(self.copies);
        let gap_ns = span_ns / self.traffic.len() as u64;
        let own = (u64::from(share.stream)..copies).step_by(usize::from(share.streams));
        let cursors = own.map(|copy| {
            Reverse(Cursor {
                // A copy is a part of a mean gap behind the one before, so that they do not all come at once.
                at_ns: gap_ns * copy / copies,
                copy,
                round: 0,
                index: 0,
            })
        });
        TapeSource {
            renumbered,
            traffic: Arc::clone(&self.traffic),
            copies,
            span_ns,
            factor: rate_pps / self.rate_pps(),
            end_ns: ns(length),
            cursors: cursors.collect(),
        }
    }
}

impl TapeSource {
    /// The packet that is due, moving on to the one after it.
    fn next(&mut self) -> Option<Cursor> {
        let mut top = self.cursors.peek_mut()?;
        let due = top.0;
        let Cursor { round, index, .. } = due;
        let before = round * self.span_ns + ns(self.traffic.at(index));
        let (round, index) = if index + 1 == self.traffic.len() {
            (round + 1, 0)
        } else {
            (round, index + 1)
        };
        let after = round * self.span_ns + ns(self.traffic.at(index));
        top.0 = Cursor {
            at_ns: due.at_ns + (after - before),
            copy: due.copy,
            round,
            index,
        };
        Some(due)
    }
}

impl Source for TapeSource {
    fn due(&self) -> Option<u64> {
        let Reverse(next) = self.cursors.peek()?;
        let due = ns(Duration::from_nanos(next.at_ns).div_f64(self.factor));
        (due < self.end_ns).then_some(due)
    }

    fn write(&mut self, _: u64, _: u32, out: &mut [u8]) -> Result<usize, ContentError> {
        let next = self.next().ok_or(ContentError::Ended)?;
        let number = next.round * self.copies + next.copy;
        let packet = self.renumbered.packet(number, next.index)?;
        out[..packet.len()].copy_from_slice(packet);
        Ok(packet.len())
    }

    fn skip(&mut self) {
        self.next();
    }
}

/// What a capture holds that is not sent, or not as it was captured.
fn notes(recorded: &Recorded, node: Option<i32>) -> Vec<String> {
    let left_out = &recorded.left_out;
    let mut notes: Vec<String> = left_out.lines().collect();
    if left_out.other_way > 0 {
        notes.push(format!(
            "only what went from {} is sent: {} packets of {} other ways are left out (--all-ways sends them too)",
            recorded.way, left_out.other_way, left_out.other_ways
        ));
    }
    if let (Some(node), 1..) = (node, recorded.unaddressed) {
        notes.push(format!(
            "{} packets are not known to be for a node, or are for another cluster: they are sent as they were \
             captured, without {node}",
            recorded.unaddressed
        ));
    }
    if recorded.clock_steps > 0 {
        notes.push(format!(
            "{} times the capture's clock goes back, or more than a minute ahead: a mean gap stands there instead",
            recorded.clock_steps
        ));
    }
    notes
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text
        .parse()
        .ok()
        .filter(|speed| (0.001..=1e6).contains(speed));
    speed.ok_or_else(|| format!("expected a factor from 0.001 to 1000000, not \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::{Packet, schema};
    use std::collections::HashSet;

    fn tape(copies: u16) -> Tape {
        Tape {
            name: "sample".to_owned(),
            traffic: Arc::new(sample()),
            copies,
            node: None,
        }
    }

    fn sample() -> Traffic {
        let capture = &include_bytes!("../../tests/captures/opensips-1.11.pcap")[..];
        Traffic::record(capture, None, Ways::Busiest)
            .unwrap()
            .traffic
    }

    /// Moments and record keys of everything that is sent.
    fn sent(tape: &Tape, rate_pps: f64, length: Duration, share: Share) -> Vec<(u64, Vec<u8>)> {
        let mut source = tape.source(rate_pps, length, share);
        let mut out = vec![0; 65_535];
        let mut all = Vec::new();
        while let Some(due) = source.due() {
            let len = source.write(0, 0, &mut out).unwrap();
            let packet = Packet::parse(Generation::Legacy, &out[..len]).unwrap();
            all.push((due, schema::key(&packet).unwrap().unwrap().to_vec()));
        }
        all
    }

    #[test]
    fn once_through_is_the_capture_in_its_own_time() {
        let tape = tape(1);
        let whole = Share {
            stream: 0,
            streams: 1,
        };
        let all = sent(&tape, tape.rate_pps(), tape.traffic.span(), whole);
        assert_eq!(all.len(), 2591);
        for (index, (due, _)) in all.iter().enumerate() {
            let at = ns(tape.traffic.at(index));
            assert!(due.abs_diff(at) <= 1000, "packet {index}: {due} and {at}");
        }
        // Twice as fast, and in half the time as many.
        let half = tape.traffic.span() / 2;
        let fast = sent(&tape, 2.0 * tape.rate_pps(), half, whole);
        assert_eq!(fast.len(), 2591);
        assert!(fast[2590].0.abs_diff(all[2590].0 / 2) <= 1000);
    }

    #[test]
    fn copies_and_rounds_share_no_record_and_no_packet_is_before_an_earlier_one() {
        let tape = tape(3);
        let two_rounds = tape.traffic.span() * 2;
        let streams = [0, 1].map(|stream| {
            let share = Share { stream, streams: 2 };
            sent(&tape, tape.rate_pps(), two_rounds, share)
        });
        assert!(
            streams
                .iter()
                .all(|sent| sent.is_sorted_by_key(|(due, _)| *due))
        );
        // Copy 0 and 2, and copy 1; what is shifted beyond the end is not sent any more.
        let close =
            |count: usize, rounds: usize| (rounds * 2591 - 10..=rounds * 2591).contains(&count);
        assert!(close(streams[0].len(), 4) && close(streams[1].len(), 2));
        let keys: HashSet<&[u8]> = streams.iter().flatten().map(|(_, key)| &key[..]).collect();
        let records = keys.len();
        assert!((6 * 720 - 12..=6 * 720).contains(&records), "{records}");
    }

    #[test]
    fn a_sender_without_a_copy_sends_nothing() {
        let share = Share {
            stream: 1,
            streams: 2,
        };
        assert!(sent(&tape(1), 1000.0, Duration::from_secs(1), share).is_empty());
    }

    #[test]
    fn what_is_not_sent_as_it_was_captured_is_said() {
        let capture = &include_bytes!("../../tests/captures/opensips-1.11.pcap")[..];
        let mut recorded = Traffic::record(capture, None, Ways::Busiest).unwrap();
        assert_eq!(notes(&recorded, Some(1)), [""; 0]);
        recorded.left_out.other_way = 7;
        recorded.left_out.internal = 6;
        recorded.unaddressed = 5;
        recorded.clock_steps = 4;
        let told = notes(&recorded, Some(77));
        for (note, words) in told.iter().zip([
            "6 clusterer-internal",
            "7 packets of",
            "without 77",
            "4 times",
        ]) {
            assert!(note.contains(words), "{told:?}");
        }
        assert_eq!((told.len(), notes(&recorded, None).len()), (4, 3));
    }

    #[test]
    fn datagrams_have_no_node_to_be_for() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/captures/opensips-1.11.pcap"
        );
        let error = read(Path::new(path), Ways::Busiest, Some(3)).unwrap_err();
        assert!(error.to_string().contains("leave it out"), "{error}");
        assert!(read(Path::new(path), Ways::Busiest, None).is_ok());
    }
}
