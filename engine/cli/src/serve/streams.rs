//! Connections that were refused or ended badly, for a log that cannot be flooded.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use binrush_engine::engine::Refusal;
use binrush_engine::stream::{CloseReason, ConnectionCounts, RefuseReason, StreamSnapshot};
use serde_json::{Value, json};

use crate::text::{Harmless, counted};

/// Tells each reason when it is new, and then at most once in [`QUIET`] with the count since and one example.
///
/// Who scans ports, or connects again and again, fills no disk: the number of reasons bounds the lines.
#[derive(Debug, Default)]
pub(super) struct StreamLog {
    closed: [Told; CloseReason::COUNT],
    refused: [Told; RefuseReason::COUNT],
}

/// Connections that went the same bad way. Its `Display` is the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    what: What,
    count: u64,
    /// One of them, the last that is known.
    example: Option<Example>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Refused(RefuseReason),
    Closed(CloseReason),
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Example {
    peer: SocketAddr,
    more: More,
}

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum More {
    /// In words, which may quote the peer; may be empty.
    Refused(String),
    /// What it brought.
    Closed {
        rx_bytes: u64,
        frames: u64,
        /// Bytes that came and are in no packet.
        left: u64,
    },
}

/// What was said of one reason.
#[derive(Debug, Clone, Default)]
struct Told {
    count: u64,
    at: Option<Instant>,
    /// Seen since.
    example: Option<Example>,
}

impl StreamLog {
    /// What to say at `now`; `streams` are the counts up to now, with what was closed since the last call, and
    /// `refusals` the last ones of each reason.
    pub(super) fn due(
        &mut self,
        now: Instant,
        streams: &StreamSnapshot,
        refusals: &[Refusal],
    ) -> Vec<Notice> {
        for connection in &streams.connections {
            if let Some(reason) = connection.closed {
                self.saw_closed(reason, Example::of_closed(connection));
            }
        }
        for refusal in refusals {
            self.saw_refused(refusal.reason, refusal.last, refusal.text.clone());
        }
        let refused = RefuseReason::ALL.into_iter().zip(&mut self.refused);
        let refused = refused.filter_map(|(reason, told)| {
            let all = streams.accept.refused_for(reason);
            told.due(now, What::Refused(reason), all)
        });
        let closed = CloseReason::ALL.into_iter().zip(&mut self.closed);
        let closed = closed.filter(|(reason, _)| is_bad(*reason));
        let closed = closed.filter_map(|(reason, told)| {
            let all = streams.total.closed_for(reason);
            told.due(now, What::Closed(reason), all)
        });
        refused.chain(closed).collect()
    }

    fn saw_closed(&mut self, reason: CloseReason, example: Example) {
        self.closed[reason as usize].example = Some(example);
    }

    fn saw_refused(&mut self, reason: RefuseReason, peer: SocketAddr, mut text: String) {
        if text == reason.sentence() {
            // What is said of everybody stands in the line already.
            text.clear();
        }
        let more = More::Refused(text);
        self.refused[reason as usize].example = Some(Example { peer, more });
    }
}

impl Told {
    fn due(&mut self, now: Instant, what: What, all: u64) -> Option<Notice> {
        let count = all.saturating_sub(self.count);
        let quiet = self
            .at
            .is_some_and(|at| now.saturating_duration_since(at) < QUIET);
        if count == 0 || quiet {
            return None;
        }
        (self.count, self.at) = (all, Some(now));
        let example = self.example.take();
        Some(Notice {
            what,
            count,
            example,
        })
    }
}

/// Whether an operator wants to know. Who goes in order, says nothing for long, or has to leave because we stop, is in
/// the totals.
const fn is_bad(reason: CloseReason) -> bool {
    !matches!(
        reason,
        CloseReason::Peer | CloseReason::Idle | CloseReason::ListenerClosed | CloseReason::Stopping
    )
}

impl Notice {
    /// The event that it is in JSON lines: what was refused did not get in, what was closed is lost.
    pub(super) const fn event(&self) -> &'static str {
        match self.what {
            What::Refused(_) => "refused",
            What::Closed(_) => "lost",
        }
    }

    /// What the event has beside its name and the words.
    pub(super) fn json(&self) -> Value {
        let mut value = json!({
            "kind": "connection",
            "reason": self.what.symbol(),
            "count": self.count,
        });
        if let Some(Example { peer, more }) = &self.example {
            value["peer"] = peer.to_string().into();
            if let More::Closed {
                rx_bytes, frames, ..
            } = more
            {
                value["rx_bytes"] = (*rx_bytes).into();
                value["frames"] = (*frames).into();
            }
        }
        value
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            count,
            example,
        } = self;
        let (did, symbol, sentence) = match what {
            What::Refused(reason) => ("refused", reason.symbol(), reason.sentence()),
            What::Closed(reason) => ("closed", reason.symbol(), reason.sentence()),
        };
        let connections = counted(*count, "connection");
        write!(f, "{did} {connections}: {symbol} ({sentence})")?;
        match example {
            Some(example) if *count == 1 => write!(f, ": {example}"),
            Some(example) => write!(f, ", e.g. {example}"),
            None => Ok(()),
        }
    }
}

impl What {
    const fn symbol(self) -> &'static str {
        match self {
            Self::Refused(reason) => reason.symbol(),
            Self::Closed(reason) => reason.symbol(),
        }
    }
}

impl Example {
    fn of_closed(connection: &ConnectionCounts) -> Self {
        let counts = &connection.counts;
        let more = More::Closed {
            rx_bytes: counts.rx_bytes,
            frames: counts.frames,
            left: counts.partial_bytes + counts.rejected_bytes,
        };
        let peer = connection.peer;
        Self { peer, more }
    }
}

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)?;
        match &self.more {
            More::Refused(text) if text.is_empty() => Ok(()),
            More::Refused(text) => write!(f, ", {}", Harmless(text)),
            More::Closed {
                rx_bytes,
                frames,
                left,
            } => {
                let (bytes, packets) = (counted(*rx_bytes, "byte"), counted(*frames, "packet"));
                write!(f, " after {bytes} with {packets}")?;
                match left {
                    0 => Ok(()),
                    left => write!(f, " and {} of none", counted(*left, "byte")),
                }
            }
        }
    }
}

/// How long a reason is not told of again.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn example(port: u16) -> Example {
        Example {
            peer: ([10, 0, 0, 7], port).into(),
            more: More::Closed {
                rx_bytes: 1234,
                frames: 6,
                left: 34,
            },
        }
    }

    fn texts(notices: &[Notice]) -> Vec<String> {
        notices.iter().map(Notice::to_string).collect()
    }

    #[test]
    fn a_storm_of_connections_is_one_line_at_once_and_then_one_every_ten_seconds() {
        let start = Instant::now();
        let mut log = StreamLog::default();
        let mut streams = StreamSnapshot::default();
        let mut lines = Vec::new();
        for second in 0..30 {
            streams.total.closed[CloseReason::BadMarker as usize] += 100;
            streams.accept.refused[RefuseReason::PerSource as usize] += 7;
            log.saw_closed(CloseReason::BadMarker, example(second));
            let now = start + Duration::from_secs(second.into());
            let due = texts(&log.due(now, &streams, &[]));
            lines.extend(due.iter().map(|line| format!("{second}: {line}")));
        }
        let closed = "bad_marker (bytes that are no BIN packet), e.g. 10.0.0.7";
        let left = "after 1234 bytes with 6 packets and 34 bytes of none";
        let refused = "per_source (as many connections of its address are open as may be)";
        assert_eq!(
            lines,
            [
                format!("0: refused 7 connections: {refused}"),
                format!("0: closed 100 connections: {closed}:0 {left}"),
                format!("10: refused 70 connections: {refused}"),
                format!("10: closed 1000 connections: {closed}:10 {left}"),
                format!("20: refused 70 connections: {refused}"),
                format!("20: closed 1000 connections: {closed}:20 {left}"),
            ]
        );
    }

    #[test]
    fn who_leaves_in_order_is_not_told_and_everybody_else_is() {
        let mut log = StreamLog::default();
        let mut streams = StreamSnapshot::default();
        streams.total.closed = [1; CloseReason::COUNT];
        let told = texts(&log.due(Instant::now(), &streams, &[])).join("\n");
        for reason in CloseReason::ALL {
            let line = format!("closed 1 connection: {} (", reason.symbol());
            let is_told = told.lines().any(|told| told.starts_with(&line));
            let in_order = ["peer", "idle", "listener_closed", "stopping"];
            assert_eq!(is_told, !in_order.contains(&reason.symbol()), "{told}");
        }
    }

    #[test]
    fn who_was_refused_is_named_and_what_he_said_commands_no_terminal() {
        let mut log = StreamLog::default();
        let mut streams = StreamSnapshot::default();
        streams.accept.refused[RefuseReason::UnknownCa as usize] = 2;
        let peer = ([10, 0, 0, 9], 4711).into();
        log.saw_refused(RefuseReason::UnknownCa, peer, "CN=\x1b[31m".into());
        let due = log.due(Instant::now(), &streams, &[]);
        assert_eq!(
            texts(&due),
            [
                "refused 2 connections: unknown_ca (nobody who is trusted signed its certificate), e.g. 10.0.0.9:4711, \
              CN=\\u{1b}[31m"
            ]
        );
        let told = due[0].json();
        assert_eq!(
            (due[0].event(), &told["peer"]),
            ("refused", &"10.0.0.9:4711".into())
        );
        assert_eq!(told.get("rx_bytes"), None);
    }

    #[test]
    fn what_holds_for_everybody_is_told_once() {
        let mut streams = StreamSnapshot::default();
        streams.accept.refused[RefuseReason::Acl as usize] = 1;
        let mut log = StreamLog::default();
        let text = RefuseReason::Acl.sentence().to_owned();
        log.saw_refused(RefuseReason::Acl, ([10, 0, 0, 9], 4711).into(), text);
        assert_eq!(
            texts(&log.due(Instant::now(), &streams, &[])),
            ["refused 1 connection: acl (its address is not allowed): 10.0.0.9:4711"]
        );
    }

    #[test]
    fn an_example_of_before_is_not_shown_for_one_that_came_later() {
        let start = Instant::now();
        let mut log = StreamLog::default();
        let mut streams = StreamSnapshot::default();
        let reset = CloseReason::Reset as usize;
        streams.total.closed[reset] = 1;
        log.saw_closed(CloseReason::Reset, example(1));
        let first = log.due(start, &streams, &[]);
        assert_eq!(
            texts(&first),
            [
                "closed 1 connection: reset (the peer reset it): 10.0.0.7:1 after 1234 bytes with 6 packets and 34 bytes of \
              none"
            ]
        );
        assert_eq!(first[0].event(), "lost");
        let told = first[0].json();
        assert_eq!(
            (&told["kind"], &told["reason"]),
            (&"connection".into(), &"reset".into())
        );
        assert_eq!(
            (&told["peer"], &told["rx_bytes"]),
            (&"10.0.0.7:1".into(), &1234.into())
        );
        // More were closed than are kept: their count is known, and no example.
        streams.total.closed[reset] = 2;
        let later = log.due(start + QUIET, &streams, &[]);
        assert_eq!(
            texts(&later),
            ["closed 1 connection: reset (the peer reset it)"]
        );
        assert!(
            log.due(start + 9 * QUIET, &streams, &[]).is_empty(),
            "nothing new"
        );
    }
}
