//! What became of the records: read = sent + left out + not sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use binrush_store::Kind;
use binrush_wire::{Generation, Release};
use serde_json::{Map, Value as Json, json};

use super::PushArgs;
use super::sender::Door;
use super::writer::LeftOut;
use crate::state::dump::{Record, Value};
use crate::table::{Head, Table};
use crate::text::{Harmless, counted};

/// All that is told at the end.
#[derive(Debug)]
pub(super) struct Score {
    side: String,
    to: String,
    release: Release,
    dry_run: bool,
    /// By kind, in the order in which they are sent.
    kinds: Vec<(Kind, Counts)>,
    reasons: BTreeMap<&'static str, Reason>,
    /// Contacts that went without the socket that the node lacks.
    socketless: u64,
    /// Records that were sent and ended meanwhile, whose ends were sent too.
    withdrawn: u64,
    bytes: u64,
    /// Each packet that was handed over.
    handed: Vec<Handed>,
    /// How often a node that was there refused a datagram.
    pub(super) refusals: u64,
    /// Fields that the side did not tell of, by kind.
    pub(super) untold: Vec<(Kind, Vec<&'static str>)>,
    /// How long it took.
    pub(super) seconds: f64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    read: u64,
    sent: u64,
    left_out: u64,
    not_sent: u64,
}

/// A packet that was handed over, for the case that it does not leave.
#[derive(Debug, Clone, Copy)]
struct Handed {
    bytes: u32,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// A record, and whether its contact lost its socket.
    Record(Kind, bool),
    /// The end of one.
    End,
}

/// Records that were left out for one reason.
#[derive(Debug)]
struct Reason {
    count: u64,
    /// Behind the symbol.
    sentence: String,
    /// The first of them, and what was said of it.
    example: String,
}

impl Score {
    pub(super) fn new(door: &Door, args: &PushArgs) -> Self {
        Self {
            side: args.side.to_string(),
            to: door.to_string(),
            release: args.generation,
            dry_run: args.dry_run,
            kinds: Vec::new(),
            reasons: BTreeMap::new(),
            socketless: 0,
            withdrawn: 0,
            bytes: 0,
            handed: Vec::new(),
            refusals: 0,
            untold: Vec::new(),
            seconds: 0.0,
        }
    }

    pub(super) fn read(&mut self, kind: Kind) {
        self.of(kind).read += 1;
    }

    pub(super) fn sent(&mut self, kind: Kind, bytes: usize, has_lost_socket: bool) {
        self.of(kind).sent += 1;
        self.socketless += u64::from(has_lost_socket);
        self.hand(bytes, What::Record(kind, has_lost_socket));
    }

    pub(super) fn withdrawn(&mut self, bytes: usize) {
        self.withdrawn += 1;
        self.hand(bytes, What::End);
    }

    fn hand(&mut self, bytes: usize, what: What) {
        // No packet is longer than 64 KiB.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes += u64::from(bytes);
        self.handed.push(Handed { bytes, what });
    }

    pub(super) fn not_sent(&mut self, kind: Kind) {
        self.of(kind).not_sent += 1;
    }

    pub(super) fn leave_out(&mut self, why: &LeftOut, record: &Record) {
        self.of(record.kind).left_out += 1;
        let (name, sentence) = why.told();
        let reason = self.reasons.entry(name).or_insert_with(|| {
            let about = why.about().map(|what| format!(": {what}"));
            Reason {
                count: 0,
                sentence,
                example: format!("{}{}", named(record), about.unwrap_or_default()),
            }
        });
        reason.count += 1;
    }

    /// The last `lost` packets that were handed over did not leave.
    pub(super) fn undo(&mut self, lost: u64) {
        for _ in 0..lost {
            let Some(Handed { bytes, what }) = self.handed.pop() else {
                return;
            };
            self.bytes -= u64::from(bytes);
            match what {
                What::End => self.withdrawn -= 1,
                What::Record(kind, has_lost_socket) => {
                    self.socketless -= u64::from(has_lost_socket);
                    let counts = self.of(kind);
                    counts.sent -= 1;
                    counts.not_sent += 1;
                }
            }
        }
    }

    pub(super) fn has_left_out(&self) -> bool {
        self.total().left_out > 0
    }

    pub(super) fn words(&self) -> String {
        let mut words = String::new();
        let mut line = |text: &str| writeln!(words, "{text}").expect("a String takes all");
        let what = match self.dry_run {
            true => "nothing is sent: a dry run",
            false => "pushed",
        };
        line(&format!(
            "{what}, {} to {} as {}",
            Harmless(&self.side),
            self.to,
            self.release
        ));
        self.table().lines().iter().for_each(|row| line(row));
        for (name, reason) in &self.reasons {
            let Reason {
                count,
                sentence,
                example,
            } = reason;
            line(&format!("  {count} left out, {name}: {sentence}"));
            line(&format!("      such as {example}"));
        }
        if self.socketless > 0 {
            let contacts = counted(self.socketless, "contact");
            line(&format!(
                "  {contacts} without the socket, which the node has not"
            ));
        }
        if self.withdrawn > 0 {
            let records = counted(self.withdrawn, "record");
            line(&format!(
                "  {records} withdrawn: sent, and over before the others were"
            ));
        }
        if self.refusals > 0 {
            let times = counted(self.refusals, "time");
            line(&format!(
                "  the node was not there {times}: if it was restarted, push again what it had before"
            ));
        }
        for (kind, fields) in &self.untold {
            line(&format!(
                "  {}s without {}: the side does not tell",
                kind.name(),
                fields.join(", ")
            ));
        }
        let Counts {
            read,
            sent,
            left_out,
            not_sent,
        } = self.total();
        let not_sent = match not_sent {
            0 => String::new(),
            count => format!(" + {count} not sent"),
        };
        line(&format!(
            "  {read} read = {sent} {} + {left_out} left out{not_sent}; {} bytes, {:.1} s",
            self.done(),
            self.bytes,
            self.seconds
        ));
        if !self.dry_run {
            line(&format!("  {}", self.proof()));
        }
        words
    }

    pub(super) fn json(&self) -> Json {
        let total = self.total();
        let kinds = self.kinds.iter().map(|(kind, counts)| {
            let counts = json!({
                "read": counts.read, "sent": counts.sent, "left_out": counts.left_out, "not_sent": counts.not_sent,
            });
            (kind.name().to_owned(), counts)
        });
        let reasons = self.reasons.iter().map(|(name, reason)| {
            let told =
                json!({"count": reason.count, "why": reason.sentence, "such_as": reason.example});
            ((*name).to_owned(), told)
        });
        let untold = self.untold.iter();
        let untold = untold.map(|(kind, fields)| (kind.name().to_owned(), json!(fields)));
        json!({
            "to": self.to,
            "release": self.release.as_str(),
            "dry_run": self.dry_run,
            "read": total.read,
            "sent": total.sent,
            "left_out": total.left_out,
            "not_sent": total.not_sent,
            "kinds": kinds.collect::<Map<_, _>>(),
            "reasons": reasons.collect::<Map<_, _>>(),
            "without_socket": self.socketless,
            "withdrawn": self.withdrawn,
            "refusals": self.refusals,
            "untold": untold.collect::<Map<_, _>>(),
            "bytes": self.bytes,
            "seconds": self.seconds,
            "acknowledged": false,
        })
    }

    fn table(&self) -> Table<4> {
        let mut table = Table::new([
            Head::Left("kind"),
            Head::Right("read"),
            Head::Right(self.done()),
            Head::Right("left out"),
        ]);
        for (kind, counts) in &self.kinds {
            let numbers = [counts.read, counts.sent, counts.left_out];
            let [read, sent, left_out] = numbers.map(|number| number.to_string());
            table.row([kind.name().to_owned(), read, sent, left_out]);
        }
        table
    }

    const fn done(&self) -> &'static str {
        match self.dry_run {
            true => "would be sent",
            false => "sent",
        }
    }

    /// Who knows whether the node has them.
    fn proof(&self) -> &'static str {
        match self.release.generation() {
            Generation::Legacy => {
                "1.x acknowledges nothing, and a datagram may be lost without a sign: compare what the node lists \
                 (opensipsctl fifo ul_dump, dlg_list_ctx) by `binrush state diff`, and push again what is missing"
            }
            Generation::Transitional | Generation::Modern => {
                "taken by the node's kernel; whether the node took them is for it to tell: compare what it lists \
                 (ul_dump, dlg_list_ctx) by `binrush state diff`"
            }
        }
    }

    fn total(&self) -> Counts {
        let kinds = self.kinds.iter().map(|(_, counts)| counts);
        kinds.fold(Counts::default(), |sum, counts| Counts {
            read: sum.read + counts.read,
            sent: sum.sent + counts.sent,
            left_out: sum.left_out + counts.left_out,
            not_sent: sum.not_sent + counts.not_sent,
        })
    }

    fn of(&mut self, kind: Kind) -> &mut Counts {
        let at = self.kinds.iter().position(|(known, _)| *known == kind);
        let at = at.unwrap_or_else(|| {
            self.kinds.push((kind, Counts::default()));
            self.kinds.len() - 1
        });
        &mut self.kinds[at].1
    }
}

/// The key of a record, for people.
fn named(record: &Record) -> String {
    let key = record.key(record.kind.key_len());
    let parts = key.filter_map(|value| match value? {
        Value::Bytes(bytes) => Some(Harmless(&String::from_utf8_lossy(bytes)).to_string()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    });
    let parts: Vec<_> = parts.collect();
    format!("{} {}", record.kind.name(), parts.join(" "))
}
