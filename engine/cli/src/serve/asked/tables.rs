//! Records of the shards, page by page, for who asks at the control socket.
//!
//! ```text
//!   question: table, position ─▶ slice of a shard ─▶ lines of a dump ─┬─ 1 MiB, or 50 ms: the page, and where to go on
//!                                  ▲     pause: packets have their turn │
//!                                  └── next place, next shard ◀─────────┘
//! ```

use std::any::Any;
use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use binrush_engine::Engine;
use binrush_engine::cluster::config::ClusterConfig;
use binrush_engine::cluster::driver::Orders;
use binrush_engine::cluster::facts::{ClusterFacts, CopyState};
use binrush_engine::dispatch::NameId;
use binrush_engine::dispatch::handler::Told;
use binrush_engine::store::durable::JournalFacts;
use binrush_engine::store::family;
use binrush_engine::store::inquiry::{AskError, Inquiry, Slice, Wanted};
use binrush_engine::store::legacy::{self, ForProfiles};
use binrush_store::Family;
use serde_json::value::RawValue;

use crate::control::facts::Peer;
use crate::control::records::{Copy, Counts, Journal, Page, Position, Question, Table};
use crate::serve::records::Watched;
use crate::state::{Record, Search, kinds_of, record_json};
use crate::{line, text};

/// What is known of the journal of a table, by the table's name; nothing where there is none.
type Journals = Box<dyn Fn(&str) -> Vec<Journal> + Send + Sync>;

/// Where a shard says how many records it has, if it was asked.
type Counted = Result<Receiver<Slice>, AskError>;

/// Packets of a table that there was no room for, and that made no sense, by the table's name.
type OfTable = Box<dyn Fn(&str) -> (u64, u64) + Send + Sync>;

/// What was lost of what nodes before 2.4 told, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Lost here, and whose they were nobody knows.
    pub(super) datagrams: u64,
    /// That we ended, of whomever.
    pub(super) connections: u64,
}

/// All tables of an engine.
pub(in crate::serve) struct Tables {
    orders: Box<dyn Orders + Send + Sync>,
    held: Vec<Held>,
    journals: Journals,
    kept: OfTable,
}

/// One table.
#[derive(Debug)]
struct Held {
    name: String,
    /// Where what its copy is worth stands; `None` of nodes before 2.4.
    copy: Option<(i32, String)>,
    /// Whose packets it is made of.
    id: NameId,
    /// It is the second one of these packets.
    is_profiles: bool,
    family: Family,
}

/// A page that is being made.
#[derive(Debug, Default)]
struct Making {
    page: Page<Box<RawValue>>,
    /// Bytes of the records in it.
    len: usize,
    line: Vec<u8>,
}

impl Tables {
    /// Those of `clusters`, and of the modules of nodes before 2.4, in an engine that runs.
    pub(in crate::serve) fn of(
        engine: &Engine,
        clusters: &[ClusterConfig],
        watched: Watched,
    ) -> Self {
        let (journals, kept) = (watched.clone(), watched);
        let replicated = clusters.iter().flat_map(|cluster| {
            let capabilities = cluster.capabilities.iter();
            capabilities.map(|capability| {
                let name = capability.name.as_str();
                (Some(cluster.id), name, family(name))
            })
        });
        let legacy = LEGACY.map(|name| (None, name, family(name)));
        let held = replicated
            .chain(legacy)
            .filter_map(|(cluster, name, family)| {
                Some(Held {
                    name: match cluster {
                        Some(cluster) => format!("{cluster}/{name}"),
                        None => name.to_owned(),
                    },
                    copy: cluster.map(|cluster| (cluster, name.to_owned())),
                    id: engine.name_id(match name {
                        legacy::PROFILES => legacy::DIALOGS.as_bytes(),
                        name => name.as_bytes(),
                    })?,
                    is_profiles: name == legacy::PROFILES,
                    family: family?,
                })
            });
        Self {
            held: held.collect(),
            orders: Box::new(engine.teller()),
            journals: Box::new(move |table| {
                let all = journals.journals();
                let of = all.filter(|facts| *facts.table == *table);
                of.map(|facts| written(&facts)).collect()
            }),
            kept: Box::new(move |table| kept.refused(table)),
        }
    }

    /// Those of an engine without any.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        tests::tables(tests::Shards::default(), &[])
    }

    /// What is known of each; `clusters`: as they are now; `lost`: what was lost before it came to any.
    pub(super) fn facts(&self, clusters: &[ClusterFacts], lost: Lost) -> Vec<Table> {
        // All are asked before one is waited for: who asks is gone when each that hangs is waited for by itself.
        let all = self.held.iter().map(|held| {
            let shards = 0..self.orders.owners();
            shards.map(|shard| self.counted(held, shard)).collect()
        });
        let all: Vec<Vec<Counted>> = all.collect();
        let until = Instant::now() + PATIENCE;
        let all = self.held.iter().zip(all);
        all.filter_map(|(held, counted)| self.fact(held, counted, until, clusters, lost))
            .collect()
    }

    fn fact(
        &self,
        held: &Held,
        counted: Vec<Counted>,
        until: Instant,
        clusters: &[ClusterFacts],
        lost: Lost,
    ) -> Option<Table> {
        let (mut records, mut bytes, mut trouble) = (0, 0, Vec::new());
        for (shard, counted) in (0..).zip(counted) {
            match counted.and_then(|answer| answered(shard, &answer, until)) {
                Ok(slice) => {
                    records += slice.len as u64;
                    bytes += slice.bytes as u64;
                }
                // Of a module of earlier nodes, packets may be taken and no records kept.
                Err(AskError::Unread) if held.copy.is_none() => return None,
                Err(error) if trouble.contains(&error) => {}
                Err(error) => trouble.push(error),
            }
        }
        let trouble: Vec<_> = trouble.iter().map(ToString::to_string).collect();
        let known = held.copy.as_ref().and_then(|(cluster, name)| {
            let mut clusters = clusters.iter();
            let cluster = clusters.find(|known| known.cluster == *cluster)?;
            let mut capabilities = cluster.capabilities.iter();
            capabilities.find(|known| known.name == *name)
        });
        Some(Table {
            name: held.name.clone(),
            kinds: kinds_of(held.family)
                .map(|kind| kind.name().to_owned())
                .collect(),
            records,
            bytes,
            copy: match held.copy {
                None => Some(unsynced(lost, (self.kept)(&held.name))),
                Some(_) => known.map(|known| Copy {
                    state: known.state.symbol().to_owned(),
                    why: known.why.clone(),
                    peers: known.peers.iter().map(Peer::from).collect(),
                }),
            },
            journal: (self.journals)(&held.name),
            trouble: (!trouble.is_empty()).then(|| trouble.join("; ")),
        })
    }

    /// Some of the records that are asked for, from a position on.
    pub(super) fn page(&self, question: &Question) -> Result<Page<Box<RawValue>>, String> {
        let Question { table, search, .. } = question;
        let held = self.held.iter().find(|held| held.name == *table);
        let held = held.ok_or_else(|| {
            let table = text::Harmless(table);
            format!("there is no table {table}: `binrush state summary` names them")
        })?;
        let mut making = Making::new();
        if !search.concerns(held.family) {
            return Ok(making.page);
        }
        let begin = Instant::now();
        let (mut next, mut slice) = (Some(question.from), Slice::default());
        while let Some(at) = next.filter(|at| at.shard < self.orders.owners()) {
            let asked = self.ask(held, at.shard, wanted(held.family, search, at.place), slice);
            slice = asked.map_err(|error| format!("{table}: {error}"))?;
            if let Some(full) = making.take(&slice, at, question) {
                next = Some(full);
                break;
            }
            next = match slice.next {
                Some(place) => Some(Position {
                    place,
                    skip: 0,
                    ..at
                }),
                None => self.shard_after(at.shard),
            };
            if making.len >= PAGE_BYTES || begin.elapsed() >= PAGE_TIME {
                break;
            }
            thread::sleep(PAUSE);
        }
        making.page.next = next.filter(|at| at.shard < self.orders.owners());
        Ok(making.page)
    }

    fn shard_after(&self, shard: u16) -> Option<Position> {
        let shard = shard + 1;
        (shard < self.orders.owners()).then_some(Position {
            shard,
            ..Position::default()
        })
    }

    fn ask(
        &self,
        held: &Held,
        shard: u16,
        wanted: Wanted,
        slice: Slice,
    ) -> Result<Slice, AskError> {
        let way = |inquiry| self.tell(held, shard, inquiry);
        Inquiry::ask(shard, wanted, slice, PATIENCE, way)
    }

    /// Asks a shard how many records it has, and waits for nothing.
    fn counted(&self, held: &Held, shard: u16) -> Counted {
        let (inquiry, answer) = Inquiry::new(Wanted::Counts, Slice::default());
        match self.tell(held, shard, inquiry) {
            Told::Taken => Ok(answer),
            Told::Full => Err(AskError::Busy(shard)),
            Told::Ended => Err(AskError::Ended(shard)),
        }
    }

    fn tell(&self, held: &Held, shard: u16, inquiry: Inquiry) -> Told {
        let message: Box<dyn Any + Send> = match held.is_profiles {
            true => Box::new(ForProfiles(Box::new(inquiry))),
            false => Box::new(inquiry),
        };
        self.orders.tell(shard, held.id, message)
    }
}

impl Making {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = since.map_or(0, |since| since.as_secs().cast_signed());
        Self {
            page: Page {
                at,
                ..Page::default()
            },
            ..Self::default()
        }
    }

    /// Takes the records of a slice that was asked for at a position; says at which one there was no room any more.
    fn take(&mut self, slice: &Slice, from: Position, question: &Question) -> Option<Position> {
        let (mut place, mut index) = (from.place, 0);
        for (at, flat) in slice.records() {
            if at != place {
                (place, index) = (at, 0);
            }
            let told = place == from.place && index < from.skip;
            if !told && !self.take_one(flat, question) {
                return Some(Position {
                    place,
                    skip: index,
                    ..from
                });
            }
            index += 1;
        }
        None
    }

    /// Whether there was room for it.
    fn take_one(&mut self, flat: &[u8], question: &Question) -> bool {
        if question.count && question.search.is_all() {
            self.count(flat);
            return true;
        }
        let record = Record::of_flat(flat).expect("a store has records only");
        if !question.search.finds(&record) {
            return true;
        }
        if question.count {
            self.count(flat);
            return true;
        }
        self.line.clear();
        line::write(&mut self.line, &record_json(&record)).expect("memory takes all");
        let text = str::from_utf8(self.line.trim_ascii_end()).expect("JSON is text");
        if self.len + text.len() > PAGE_BYTES_MAX {
            if self.len > 0 {
                return false;
            }
            self.page.left_out += 1;
            return true;
        }
        // The comma behind it counts, too.
        self.len += text.len() + 1;
        let raw = RawValue::from_string(text.to_owned()).expect("it was written as JSON");
        self.page.records.push(raw);
        true
    }

    fn count(&mut self, flat: &[u8]) {
        let (kind, one) = Counts::of_flat(flat).expect("a store has records only");
        let counts = self.page.counts.entry(kind.name().to_owned());
        counts.or_default().add(&one);
    }
}

/// What a shard answers up to a moment; what it has answered by then is taken also afterwards.
fn answered(shard: u16, answer: &Receiver<Slice>, until: Instant) -> Result<Slice, AskError> {
    let left = until.saturating_duration_since(Instant::now());
    answer.recv_timeout(left).map_err(|error| match error {
        RecvTimeoutError::Timeout => AskError::Busy(shard),
        RecvTimeoutError::Disconnected => AskError::Unread,
    })
}

fn written(facts: &JournalFacts) -> Journal {
    Journal {
        shard: facts.shard,
        lsn: facts.lsn,
        durable: facts.durable,
        lagging: facts.lagging,
        missed: facts.missed,
        too_long: facts.too_long,
        alarm: facts.alarm.clone(),
    }
}

/// What a copy is worth of which no node gives a sync: what was told while nobody listened never comes.
/// `refused`: as of [`OfTable`].
fn unsynced(lost: Lost, refused: (u64, u64)) -> Copy {
    let mut why =
        "nodes before 2.4 give no syncs: what they told before this start is as it was kept"
            .to_owned();
    let (full, senseless) = refused;
    for (count, what, then) in [
        (lost.datagrams, "datagram", " lost since"),
        (full, "packet", " refused since: there was no room"),
        (
            senseless,
            "packet",
            " since with something that means nothing",
        ),
        (
            lost.connections,
            "connection",
            " of any node ended here since, with what was in them",
        ),
    ] {
        if count > 0 {
            why.push_str(&format!("; {}{then}", text::counted(count, what)));
        }
    }
    Copy {
        state: CopyState::Suspect.symbol().to_owned(),
        why,
        peers: Vec::new(),
    }
}

/// What to ask a shard for: by a key, where that finds everything.
fn wanted(family: Family, search: &Search, place: u32) -> Wanted {
    match (family, search) {
        (
            Family::Usrloc,
            Search {
                aor: Some(aor),
                callid: None,
                prefix: None,
            },
        ) => Wanted::Aor(aor.as_bytes().into(), place),
        (
            Family::Dialogs,
            Search {
                callid: Some(callid),
                prefix: None,
                ..
            },
        ) => Wanted::Callid(callid.as_bytes().into(), place),
        _ => Wanted::From(place),
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// Tables of nodes before 2.4.
const LEGACY: [&str; 4] = [
    legacy::DIALOGS,
    legacy::CONTACTS,
    legacy::PROFILES,
    legacy::PIPES,
];

/// Bytes of records after which a page is enough.
const PAGE_BYTES: usize = 1 << 20;

/// Bytes of records in a page: less than an answer may have.
const PAGE_BYTES_MAX: usize = 7 << 19;

/// How long others who ask wait for a page, about.
const PAGE_TIME: Duration = Duration::from_millis(50);

/// Between two slices, so that a shard has most of its time for packets.
const PAUSE: Duration = Duration::from_micros(500);

/// How long a shard may take to answer: one that sleeps is woken, and a callback may take its time.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
