//! `binrush state push`: records to a node, as the live packets of its release.

use std::collections::{BTreeSet, HashSet};
use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use binrush_store::Kind;
use binrush_store::sockets::{SocketMap, SocketName, SocketSet, Target};
use binrush_store::translate::{Ids, Translator};
use binrush_wire::{Generation, Release, Trailer};

use super::dump::{Dump, Record, Value, names};
use super::search::Search;
use super::side::{Found, Side};
use super::{STDOUT, Tables, kind, one_table, time};
use crate::line::write as write_line;
use crate::send::stream::Terms;
use pace::Pace;
use score::Score;
use sender::{Door, Sender};
use writer::Writer;

/// To 1.x.
mod datagrams;
/// When packets leave.
mod pace;
/// What became of the records.
mod score;
/// Where packets go.
mod sender;
/// Records as packets.
mod writer;

/// Send records to a node as live packets of its release
///
/// Each record goes as the packet by which a node of that release tells a new one: AoRs first, then their contacts, answered dialogs,
/// and entries of key-value stores. A node takes them as it takes those of its peers, and keeps what it has: nothing is deleted there.
/// So --node has to be a peer that it knows, and --bind that peer's address: nodes look at it.
///
/// Left out, and counted by reason: dialogs that were not answered, or of which only a part is known; what is over; dialogs whose
/// sockets the node lacks, by --target-socket; what its release has no packet for; counts of profiles and rate limits, which are
/// of the node that made them and end in seconds. A contact whose socket the node lacks goes without it, as nodes keep it then.
///
/// Sending takes its time, and a running engine's records go on. What ends by its time is left out as soon as it has ended; at the end
/// the engine is read once more, and what was sent and is gone there is withdrawn: its end is sent too. What came or changed meanwhile
/// is not: push again. Of a dump or a state directory nothing is known beyond what was read.
///
/// A 1.x node that refuses datagrams in between, as one does that is restarted, is given 10 s to come back.
///
/// Exit code: 0 all records were sent, 1 some were left out, 2 something went wrong: not all of the others were sent, or what ended
/// meanwhile was not withdrawn.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is acknowledged by any release: that all were sent says that the kernel took them, and over TCP that the node's kernel did.
Whether the node has them only the node can tell: let it list them (ul_dump, dlg_list_ctx), and `binrush state diff` its reply and SIDE.

Examples:
  binrush state push --to bin:10.0.0.9:5566 --generation 1.11
  binrush state push dump.jsonl --to bin:10.0.0.9:5555 --generation 3.6 --cluster 1 --node 2 --to-node 9 --bind 10.0.0.2 \\
      --socket-map udp:10.0.0.1:5060=udp:10.0.0.9:5060 --target-socket udp:10.0.0.9:5060")]
pub(super) struct PushArgs {
    #[arg(default_value = "live")]
    side: Side,

    #[command(flatten)]
    tables: Tables,

    /// The node; IPv6 in brackets. bin: is UDP for 1.x and TCP for all later releases; tls: is for 3.2 and later.
    #[arg(long, value_name = "bin:IP:PORT|udp:..|tcp:..|tls:..")]
    to: String,

    /// What it speaks: 1.10 to 4.0; 1.x is all before 2.2.
    #[arg(long, value_name = "RELEASE", value_parser = release)]
    generation: Release,

    /// The cluster that both are in, by its number (2.3 and later).
    #[arg(long, value_name = "N")]
    cluster: Option<i32>,

    /// Which node the packets are from, by its number (2.2 and later).
    #[arg(long, value_name = "N")]
    node: Option<i32>,

    /// The number of the node that they are for (2.3 and later).
    #[arg(long, value_name = "N")]
    to_node: Option<i32>,

    /// Packets per second at most [default: 2000 over UDP, which loses what a node does not take in time; 10000 over TCP, where its
    /// reading sets the pace].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,

    /// What sockets of the records are called at the node, FROM=TO: udp:10.0.0.1:5060=udp:10.0.0.9:5060; also tags; with commas
    /// between them, or repeated.
    #[arg(long, value_name = "FROM=TO")]
    socket_map: Vec<String>,

    /// A socket that the node has, repeatable [default: any].
    #[arg(long, value_name = "SOCKET")]
    target_socket: Vec<SocketName>,

    /// Only records of these kinds.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,

    /// When a ul_dump was written: 2026-11-21T02:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<i64>,

    /// Make every packet and send none.
    #[arg(long)]
    dry_run: bool,

    /// Print a line of JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    terms: Terms,
}

impl PushArgs {
    pub(super) fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let door = Door::parse(&self.to, self.generation)?;
        self.terms.check(door.is_tls())?;
        let ids = self.ids()?;
        let target = self.target()?;
        let dump = self.read()?;
        let mut score = Score::new(&door, self);
        score.untold = untold(&dump);
        let translator = Translator::new(self.generation, ids);
        let mut writer = Writer::new(translator, target, now());
        let sent = self.send(&dump, &door, &mut writer, &mut score);
        if self.json {
            write_line(out, &score.json()).context(STDOUT)?;
        } else {
            out.write_all(score.words().as_bytes()).context(STDOUT)?;
        }
        out.flush().context(STDOUT)?;
        sent?;
        Ok(ExitCode::from(u8::from(score.has_left_out())))
    }

    /// All that can be sent, each kind behind the one that it belongs to; and of a running engine the ends of what ended meanwhile.
    fn send(
        &self,
        dump: &Dump,
        door: &Door,
        writer: &mut Writer,
        score: &mut Score,
    ) -> anyhow::Result<()> {
        let sender = match self.dry_run {
            true => Sender::Nobody,
            false => Sender::open(door, &self.terms)?,
        };
        let pace = Pace::new(self.rate.unwrap_or_else(|| door.usual_rate()));
        let mut way = Way { sender, pace };
        let mut packet = Vec::new();
        let mut told = Vec::new();
        let mut trouble = None;
        for record in self.wanted(dump) {
            score.read(record.kind);
            packet.clear();
            // At a low rate minutes pass between the first and the last.
            writer.at(now());
            match writer.write(record, &mut packet) {
                Err(left_out) => score.leave_out(&left_out, record),
                // What cannot be sent any more is looked at all the same, so that the sums are right.
                Ok(_) if trouble.is_some() => score.not_sent(record.kind),
                Ok(has_lost_socket) => match way.put(&packet) {
                    Ok(()) => {
                        score.sent(record.kind, packet.len(), has_lost_socket);
                        told.push(record);
                    }
                    Err(error) => {
                        score.not_sent(record.kind);
                        trouble = Some(error);
                    }
                },
            }
        }
        let goes_on = !self.dry_run && matches!(self.side.found(), Found::Engine(_));
        if goes_on && trouble.is_none() {
            trouble = self.withdraw(&told, writer, &mut way, score).err();
        }
        let ended = way.sender.finish();
        score.undo(ended.lost);
        score.refusals = ended.refusals;
        score.seconds = way.pace.elapsed().as_secs_f64();
        trouble.or(ended.trouble).map_or(Ok(()), Err)
    }

    /// Tells the node the ends of what it was `told` and is not there any more.
    fn withdraw(
        &self,
        told: &[&Record],
        writer: &mut Writer,
        way: &mut Way,
        score: &mut Score,
    ) -> anyhow::Result<()> {
        let later = self.read().context(UNSEEN)?;
        // An engine that lost all of it knows of no ends.
        if later.records.is_empty() && !told.is_empty() {
            bail!("{UNSEEN}: {} has nothing any more", self.side);
        }
        let mut packet = Vec::new();
        for record in gone(told, &later) {
            packet.clear();
            writer.at(now());
            if writer.write_end(record, &mut packet) {
                way.put(&packet).context(UNSEEN)?;
                score.withdrawn(packet.len());
            }
        }
        Ok(())
    }

    /// The records of `dump` that are wanted, in the order in which they are sent.
    fn wanted<'d>(&self, dump: &'d Dump) -> impl Iterator<Item = &'d Record> {
        let wanted = |kind: &Kind| self.kind.is_empty() || self.kind.contains(kind);
        ORDER
            .into_iter()
            .filter(wanted)
            .flat_map(|kind| dump.of(kind))
    }

    fn read(&self) -> anyhow::Result<Dump> {
        let search = Search::default();
        let dump = self.side.read(&self.tables.terms(self.at, &search))?;
        let wanted = |kind: &Kind| self.kind.is_empty() || self.kind.contains(kind);
        for kind in Kind::ALL.into_iter().filter(wanted) {
            one_table(&dump, "SIDE", kind)?;
        }
        Ok(dump)
    }

    /// Whose the packets are.
    ///
    /// # Errors
    /// The release has ids, and one of them is not said; or it has none, and one is.
    fn ids(&self) -> anyhow::Result<Ids> {
        let release = self.generation;
        let said = [
            ("--cluster", self.cluster),
            ("--node", self.node),
            ("--to-node", self.to_node),
        ];
        let needed: &[&str] = match release.generation() {
            Generation::Legacy => &[],
            Generation::Transitional => &["--node"],
            Generation::Modern => &["--cluster", "--node", "--to-node"],
        };
        for (word, value) in said {
            match (needed.contains(&word), value) {
                (true, None) => {
                    bail!("packets of {release} say whose they are: {word} N is missing")
                }
                (false, Some(_)) => bail!("packets of {release} have no such number: drop {word}"),
                _ => {}
            }
        }
        let [cluster, node, to_node] = said.map(|(_, value)| value.unwrap_or_default());
        Ok(Ids {
            machine: node,
            trailer: Trailer::new(cluster, node, to_node),
        })
    }

    fn target(&self) -> anyhow::Result<Target> {
        let mut map = SocketMap::default();
        for rules in &self.socket_map {
            map.add(rules).context("--socket-map")?;
        }
        let mut sockets = SocketSet::default();
        for socket in &self.target_socket {
            sockets.insert(socket);
        }
        Ok(Target::new(map, Some(sockets)))
    }
}

/// Packets, at their pace.
struct Way {
    sender: Sender,
    pace: Pace,
}

impl Way {
    fn put(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        if !matches!(self.sender, Sender::Nobody) {
            self.pace.wait();
        }
        self.sender.put(packet)
    }
}

/// Those of `told` that are not there `later`, of the kinds that it tells of. A contact is there as long as its URI is, under any
/// Call-ID: nodes find it by its URI, and would take the end of the old one for that of the new one.
fn gone<'a>(told: &[&'a Record], later: &Dump) -> Vec<&'a Record> {
    let key = |record: &Record| {
        let len = match record.kind {
            Kind::Contact => record.kind.key_len() - 1,
            kind => kind.key_len(),
        };
        let parts = record.key(len).map(|part| match part {
            Some(Value::Bytes(bytes)) => bytes.clone(),
            _ => Vec::new(),
        });
        (record.kind as u8, parts.collect::<Vec<_>>())
    };
    let there: HashSet<_> = later.records.iter().map(key).collect();
    let told = told.iter().copied();
    told.filter(|record| later.kinds.contains(&record.kind) && !there.contains(&key(record)))
        .collect()
}

/// The fields that a side does not tell of and that therefore go empty, by kind: of genuine replies.
fn untold(dump: &Dump) -> Vec<(Kind, Vec<&'static str>)> {
    let mut missing: Vec<(Kind, BTreeSet<usize>)> = Vec::new();
    for record in &dump.records {
        let places = missing_of(record);
        match missing.iter_mut().find(|(kind, _)| *kind == record.kind) {
            Some((_, known)) => known.extend(places),
            None => missing.push((record.kind, places.collect())),
        }
    }
    let named = missing.into_iter().map(|(kind, places)| {
        let all: Vec<_> = names(kind).collect();
        (kind, places.into_iter().map(|place| all[place]).collect())
    });
    let mut named: Vec<(Kind, Vec<&str>)> = named.collect();
    named.retain(|(_, fields)| !fields.is_empty());
    named
}

/// The places of the fields that are not told, and that have no form of their own for that.
fn missing_of(record: &Record) -> impl Iterator<Item = usize> {
    let fields = record.kind.fields().iter().zip(&record.fields).enumerate();
    fields.filter_map(|(place, (field, value))| {
        (value.is_none() && !MAY_LACK.contains(&field.name)).then_some(place)
    })
}

/// `--generation`.
fn release(text: &str) -> Result<Release, String> {
    if EARLY.contains(&text) {
        return Ok(Release::V1x);
    }
    let mut all = Release::ALL.into_iter();
    all.find(|release| release.as_str() == text).ok_or_else(|| {
        let later = Release::ALL[1..].iter().map(|release| release.as_str());
        let all: Vec<_> = EARLY.into_iter().chain(later).collect();
        format!("the releases are {}", all.join(", "))
    })
}

/// Seconds since 1970 by the clock of this host.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// What stays undone where a side cannot be read once more.
const UNSEEN: &str = "all were sent, but what ended meanwhile was not withdrawn";

/// In which order kinds are sent: a contact behind its AoR.
const ORDER: [Kind; 6] = [
    Kind::Aor,
    Kind::Contact,
    Kind::Dialog,
    Kind::Cached,
    Kind::Profile,
    Kind::Pipe,
];

/// The same on the wire.
const EARLY: [&str; 4] = ["1.x", "1.10", "1.11", "2.1"];

/// What not each release has, and records say so; flags are known by mask or by name.
const MAY_LACK: [&str; 6] = [
    "contact_id",
    "record_label",
    "next_contact_label",
    "cflags",
    "cflag_names",
    "kv",
];

#[cfg(test)]
mod tests;
