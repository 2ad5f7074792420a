//! What it costs to keep records, beside only receiving them: contacts that come, are refreshed and go, in a stream from
//! a node of the cluster.
//!
//! ```text
//!   raw-tcp     reads                          every engine with one shard, on the receiver's core; connections are read
//!   counts      reads every packet             by it (readers 0), or by threads beside it, so that the shard has nothing
//!   memory        and keeps what it says       to do but what its records ask for
//!   log-tmpfs       and writes it to a log
//!   log-disk          on a disk
//! ```
//!
//! Nothing is lost on a stream, and what was refused is no figure of who keeps: the engine's own count of records has to be
//! right after each phase, and its totals at the end.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use serde_json::Value;

use super::contenders::{Asked, Contender};
use super::drain;
use super::report::Identity;
use super::tcp::{WRITE_MAX, thread_ns};
use super::{Bench, RCVBUF_DRAIN, RCVBUF_FLOW, on_core};
use crate::procfs;
use crate::profile::{Recording, Sampled};
use crate::receiver::{Kind, Receiver, Setup, count_in};
use contacts::{CLUSTER, CONTACTS_MAX, Contacts, Phase, RECEIVER, SENDER};
use folders::Folders;
use usage::Usage;

pub(super) use rows::{Row, json, text, warnings};

/// What is sent.
pub(super) mod contacts;
/// Where the time goes, as pictures.
mod flames;
/// Where logs are.
mod folders;
/// What an engine says of its records.
mod metrics;
/// Measurements, as a table and as JSON.
mod rows;
/// What threads took.
mod usage;

/// What an engine does with what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Keeper {
    /// Reads every packet to its last byte, and counts it: it is in no cluster.
    Counts,
    /// Keeps records in memory.
    Memory,
    /// And a log of them in memory, below /dev/shm.
    LogTmpfs,
    /// And a log of them in --state-dir.
    LogDisk,
}

/// How contacts are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By a node of a cluster of 3.6, in a stream.
    Stream,
    /// By one of 1.11, in datagrams that are queued while the receiver is parked, and then drained.
    Datagrams,
}

/// One that is measured.
#[derive(Debug)]
struct Kept {
    way: Way,
    /// `None`: it only reads.
    keeper: Option<Keeper>,
    /// Threads that read beside the shard, of engines that take streams.
    readers: Option<u16>,
}

/// What one receiver took for one phase.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sample {
    contacts: u64,
    packets: u64,
    /// Until all was done, on the wall.
    wall_ns: u64,
    spent: Usage,
    sender_ns: u64,
    /// That are held afterwards, of who keeps any.
    records: Option<u64>,
    /// Changes that are not in its log, as there was no room in its ring.
    missed: u64,
    /// What the process has allocated more than before the first contact, as far as it is there.
    memory: u64,
    /// Length of its files afterwards, with what is reserved in them.
    logged: u64,
}

/// A receiver that is measured.
struct Run<'a> {
    receiver: &'a mut Receiver,
    contacts: &'a Contacts,
    line: Line,
    buffer: Vec<u8>,
    /// Contacts between two looks at the queue.
    per_look: u32,
    /// Of the sending thread, as far as it sent.
    sender_ns: u64,
    /// Everything that was sent.
    packets: u64,
    bytes: u64,
}

/// What leads to it.
enum Line {
    Stream(TcpStream),
    Datagrams {
        socket: UdpSocket,
        /// Up to where its queue is filled.
        limit: u64,
    },
}

impl Bench<'_> {
    pub(super) fn records(&mut self, way: Way) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        let all = self.keepers(way);
        if all.is_empty() {
            return Ok(());
        }
        let contacts = match way {
            Way::Stream => Contacts::modern()?,
            Way::Datagrams => Contacts::legacy()?,
        };
        let count = self.args.packets.unwrap_or(CONTACTS);
        let case = format!("{}, {count} contacts", way.symbol());
        let samples = self.turns(&case, all.len(), |bench, index| {
            let each = &all[index];
            let measured = bench.keep(each, &contacts, count, &mut None);
            measured.with_context(|| each.name())
        })?;
        if let Some(folder) = &self.args.flamegraphs {
            for each in all.iter().filter(|each| each.keeper.is_some()) {
                let notes = flames::draw(self, each, &contacts, count, folder);
                let notes = notes.with_context(|| format!("{}, sampled", each.name()))?;
                notes.iter().for_each(|note| self.leave_out(note));
            }
        }
        let mut rows = Vec::new();
        for (each, samples) in all.iter().zip(samples) {
            for phase in Phase::ALL {
                rows.push(Row {
                    scenario: way.symbol(),
                    phase,
                    receiver: each.name(),
                    readers: each.readers,
                    identity: self.identity(each),
                    file_system: each.file_system(self)?,
                    packets: contacts.packets(phase),
                    bytes: contacts.bytes(phase),
                    samples: samples.iter().map(|all| all[phase as usize]).collect(),
                });
            }
        }
        // A phase of all is beside each other.
        rows.sort_by_key(|row| row.phase as usize);
        self.kept.extend(rows);
        Ok(())
    }

    /// Those that take part.
    fn keepers(&mut self, way: Way) -> Vec<Kept> {
        let contenders = match way {
            Way::Stream => self.stream_receivers(),
            Way::Datagrams => self.receivers(self.rcvbuf, false, Asked::Park),
        };
        let has = |kind: Kind| contenders.iter().any(|each| each.name == kind.symbol());
        let kept = |keeper, readers| Kept {
            way,
            keeper,
            readers,
        };
        let mut all = Vec::new();
        if has(way.raw()) {
            all.push(kept(None, None));
        }
        if has(way.engine()) {
            let readers: Vec<Option<u16>> = match way {
                Way::Stream => self.args.readers.iter().copied().map(Some).collect(),
                Way::Datagrams => vec![None],
            };
            for readers in readers {
                let keepers = self.args.keepers.iter();
                all.extend(keepers.map(|keeper| kept(Some(*keeper), readers)));
            }
        }
        all
    }

    fn identity(&self, of: &Kept) -> Identity {
        let setup = self.setup(of.kind(), RCVBUF_FLOW, false);
        Contender::ours("", setup).identity(self.engine.as_ref())
    }

    /// Has `count` contacts come, be refreshed and go; with `sampled`, perf looks on, and what it saw in each phase goes there.
    fn keep(
        &self,
        what: &Kept,
        contacts: &Contacts,
        count: u32,
        sampled: &mut Option<Vec<Sampled>>,
    ) -> anyhow::Result<[Sample; Phase::ALL.len()]> {
        let folders = what.folders(self)?;
        let rcvbuf = match what.way {
            Way::Stream => RCVBUF_FLOW,
            Way::Datagrams => RCVBUF_DRAIN,
        };
        let listen = SocketAddr::new(IpAddr::V4(RECEIVER_IP), free_port()?);
        let setup = Setup {
            verify: true,
            listen,
            more: what.config(listen, folders.as_ref()),
            ..self.setup(what.kind(), rcvbuf, false)
        };
        let engine = self.engine.as_ref().map(|engine| engine.path.as_path());
        let mut receiver = Receiver::start(&setup, engine, &self.patience)?;
        let (samples, packets, bytes) = on_core(self.tx, || {
            let mut run = Run::open(&mut receiver, contacts, what.way, self.rcvbuf)?;
            // Others than those that are counted.
            for phase in Phase::ALL {
                run.pass(phase, CONTACTS_MAX - WARM_UP, WARM_UP, self)?;
            }
            let before = run.memory()?;
            let mut samples = [Sample::default(); Phase::ALL.len()];
            for phase in Phase::ALL {
                let recording = sampled.as_ref().map(|_| run.record(self)).transpose()?;
                let measured = run.measure(phase, count, self, folders.as_ref());
                let measured = measured.with_context(|| phase.symbol())?;
                if let (Some(sampled), Some(recording)) = (sampled.as_mut(), recording) {
                    sampled.push(recording.finish(&self.patience)?);
                }
                samples[phase as usize] = Sample {
                    memory: measured.memory.saturating_sub(before),
                    ..measured
                };
                what.check(phase, &measured)?;
            }
            Ok((samples, run.packets, run.bytes))
        })?;
        check_totals(&receiver.totals()?, packets, bytes)?;
        Ok(samples)
    }
}

impl Kept {
    fn name(&self) -> String {
        match self.keeper {
            Some(keeper) => keeper.symbol(),
            None => self.kind().symbol(),
        }
    }

    const fn kind(&self) -> Kind {
        match self.keeper {
            Some(_) => self.way.engine(),
            None => self.way.raw(),
        }
    }

    /// Where it keeps its log, if it does.
    fn folders(&self, bench: &Bench<'_>) -> anyhow::Result<Option<Folders>> {
        match self.keeper {
            None | Some(Keeper::Counts | Keeper::Memory) => Ok(None),
            Some(Keeper::LogTmpfs) => Folders::make(None).map(Some),
            Some(Keeper::LogDisk) => Folders::make(Some(disk(bench))).map(Some),
        }
    }

    /// What its log is in, if it keeps one.
    fn file_system(&self, bench: &Bench<'_>) -> anyhow::Result<Option<String>> {
        let folder = match self.keeper {
            None | Some(Keeper::Counts | Keeper::Memory) => return Ok(None),
            Some(Keeper::LogTmpfs) => folders::MEMORY.into(),
            Some(Keeper::LogDisk) => disk(bench),
        };
        folders::file_system(&folder).map(Some)
    }

    /// What an engine is told besides.
    fn config(&self, listen: SocketAddr, folders: Option<&Folders>) -> String {
        let counts = self.keeper == Some(Keeper::Counts);
        let mut config = String::new();
        if let Some(readers) = self.readers {
            config.push_str(&format!("modparam(\"binrush\", \"readers\", {readers})\n"));
        }
        if !counts {
            config.push_str(&format!(
                "modparam(\"binrush\", \"http\", \"{RECEIVER_IP}:0\")\n"
            ));
        }
        match self.way {
            Way::Stream if counts => {}
            Way::Stream => {
                config.push_str(&seat(listen));
                config.push_str(&format!(
                    "modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")\n\
                     modparam(\"usrloc\", \"location_cluster\", {CLUSTER})\n"
                ));
            }
            // In a cluster nobody keeps what nodes of 1.x say, unless he is told to.
            Way::Datagrams if counts => {
                config.push_str("loadmodule \"clusterer.so\"\n");
                config.push_str(&seat(listen));
            }
            Way::Datagrams => {}
        }
        if let Some(folders) = folders {
            let (state, runtime) = (folders.state().display(), folders.runtime().display());
            config.push_str(&format!(
                "modparam(\"binrush\", \"state_dir\", \"{state}\")\n\
                 modparam(\"binrush\", \"runtime_dir\", \"{runtime}\")\n"
            ));
        }
        config
    }

    /// That who keeps records has them, and no others.
    fn check(&self, phase: Phase, sample: &Sample) -> anyhow::Result<()> {
        let keeps = !matches!(self.keeper, None | Some(Keeper::Counts));
        let expected = expected(phase, sample.contacts);
        ensure!(
            !keeps || sample.records == Some(expected),
            "after {} it holds {} records, where {} contacts and their AoRs make {expected}: who refuses them has not kept \
             them",
            phase.symbol(),
            sample.records.unwrap_or(0),
            sample.contacts
        );
        Ok(())
    }
}

impl Keeper {
    fn symbol(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }
}

impl Way {
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Stream => "records",
            Self::Datagrams => "records-udp",
        }
    }

    const fn raw(self) -> Kind {
        match self {
            Self::Stream => Kind::RawTcp,
            Self::Datagrams => Kind::Raw,
        }
    }

    const fn engine(self) -> Kind {
        match self {
            Self::Stream => Kind::EngineTcp,
            Self::Datagrams => Kind::Engine,
        }
    }
}

impl<'a> Run<'a> {
    /// `rcvbuf` is what receive buffers are granted here.
    fn open(
        receiver: &'a mut Receiver,
        contacts: &'a Contacts,
        way: Way,
        rcvbuf: usize,
    ) -> anyhow::Result<Self> {
        let line = match way {
            Way::Stream => {
                let stream = connection(receiver.addr());
                Line::Stream(stream.context("cannot connect to it")?)
            }
            Way::Datagrams => Line::Datagrams {
                socket: drain::connect(receiver.addr())?,
                limit: drain::queue_limit(rcvbuf),
            },
        };
        Ok(Self {
            line,
            per_look: per_look(way, rcvbuf),
            sender_ns: 0,
            receiver,
            contacts,
            buffer: Vec::new(),
            packets: 0,
            bytes: 0,
        })
    }

    /// Sends what `phase` is of `count` contacts from number `first` on, and returns when all of it has been dealt with: the
    /// answer is how long the receiver had something to do.
    fn pass(
        &mut self,
        phase: Phase,
        first: u32,
        count: u32,
        bench: &Bench<'_>,
    ) -> anyhow::Result<Duration> {
        let mut wall = Duration::ZERO;
        let mut next = 0;
        while next < count {
            let fill = matches!(self.line, Line::Datagrams { .. });
            let drops = self.receiver.drops()?;
            if fill {
                self.receiver.park()?;
            }
            let mut start = Instant::now();
            let sender_before = thread_ns()?;
            while next < count && !self.is_full()? {
                bench.patience.check()?;
                let until = count.min(next + self.per_look);
                for turn in next..until {
                    let number = first + phase.contact(turn, count);
                    self.contacts.write(phase, number, &mut self.buffer);
                }
                self.send(phase)?;
                next = until;
            }
            self.sender_ns += thread_ns()? - sender_before;
            if fill {
                start = Instant::now();
                self.receiver.resume()?;
            }
            wall += self.settle()?.duration_since(start);
            ensure!(
                self.receiver.drops()? == drops,
                "it lost some: its queue holds less than it should"
            );
        }
        self.packets += u64::from(count) * self.contacts.packets(phase);
        self.bytes += u64::from(count) * self.contacts.bytes(phase);
        Ok(wall)
    }

    /// Sends what is in the buffer, which is packets of some contacts.
    fn send(&mut self, phase: Phase) -> anyhow::Result<()> {
        match &mut self.line {
            Line::Stream(stream) => {
                let written = stream.write_all(&self.buffer);
                written.context("it takes no more of the stream")?;
            }
            Line::Datagrams { socket, .. } => {
                let lengths: Vec<usize> = self.contacts.lengths(phase).collect();
                let mut rest = &self.buffer[..];
                for len in lengths.iter().cycle() {
                    let Some((packet, behind)) = rest.split_at_checked(*len) else {
                        break;
                    };
                    socket.send(packet).context("cannot send")?;
                    rest = behind;
                }
            }
        }
        self.buffer.clear();
        Ok(())
    }

    /// Whether no more is to be queued; a stream waits by itself.
    fn is_full(&self) -> anyhow::Result<bool> {
        let Line::Datagrams { limit, .. } = &self.line else {
            return Ok(false);
        };
        let queues = self.receiver.queues()?;
        Ok(queues.iter().any(|queue| queue.bytes >= *limit))
    }

    /// Returns when everything that was sent has been dealt with; the answer is when that was first seen.
    fn settle(&self) -> anyhow::Result<Instant> {
        let readers = procfs::threads_named(self.receiver.id(), usage::READER)?;
        self.receiver.wait_drained()?;
        self.receiver.wait_asleep_with(&readers)
    }

    /// Begins to sample the shard, on the core of the sender.
    fn record(&self, bench: &Bench<'_>) -> anyhow::Result<Recording> {
        Recording::start(self.receiver.threads(), bench.tx, &bench.patience)
    }

    fn memory(&self) -> anyhow::Result<u64> {
        procfs::anonymous_bytes(self.receiver.id())
    }

    /// `phase` of `count` contacts. Call it on the core of the sender, while the receiver sleeps.
    fn measure(
        &mut self,
        phase: Phase,
        count: u32,
        bench: &Bench<'_>,
        folders: Option<&Folders>,
    ) -> anyhow::Result<Sample> {
        let before = Usage::of(self.receiver)?;
        let sender_before = self.sender_ns;
        let wall = self.pass(phase, 0, count, bench)?;
        let mut spent = Usage::of(self.receiver)?.since(before);
        if folders.is_some() {
            // What it has put aside is on its way to the disk; the shard has no part in that.
            std::thread::sleep(folders::SETTLE);
            spent = Usage {
                shard_ns: spent.shard_ns,
                ..Usage::of(self.receiver)?.since(before)
            };
        }
        ensure!(spent.shard_ns > 0, "the receiver did nothing");
        let (memory, logged) = (self.memory()?, folders.map_or(0, Folders::bytes));
        let http = self.receiver.http();
        let told = http.map(|http| metrics::told(http, expected(phase, count), &bench.patience));
        let told = told.transpose()?;
        Ok(Sample {
            contacts: count.into(),
            packets: u64::from(count) * self.contacts.packets(phase),
            wall_ns: u64::try_from(wall.as_nanos()).context("nobody waits for centuries")?,
            spent,
            sender_ns: self.sender_ns - sender_before,
            records: told.map(|told| told.records),
            missed: told.map_or(0, |told| told.missed),
            memory,
            logged,
        })
    }
}

/// A node of a cluster, with the sender as another one: a gate admits who comes from there. Nobody listens at that one's URL,
/// and nobody has to.
fn seat(listen: SocketAddr) -> String {
    let sender = SocketAddr::new(IpAddr::V4(SENDER_IP), DISCARD);
    format!(
        "modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id={CLUSTER},node_id={RECEIVER},url=bin:{listen}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \"cluster_id={CLUSTER},node_id={SENDER},url=bin:{sender}\")\n"
    )
}

/// Records after `phase` of so many contacts, each with its AoR.
fn expected(phase: Phase, contacts: impl Into<u64>) -> u64 {
    match phase {
        Phase::Insert | Phase::Refresh => 2 * contacts.into(),
        Phase::Delete => 0,
    }
}

/// Below which folder `log-disk` keeps its files.
fn disk(bench: &Bench<'_>) -> std::path::PathBuf {
    let asked = bench.args.state_dir.clone();
    asked.unwrap_or_else(std::env::temp_dir)
}

/// That it took everything, and refused nothing.
fn check_totals(total: &Value, packets: u64, bytes: u64) -> anyhow::Result<()> {
    // Raw does not know where packets end.
    let (took, sent, what) = match total["received"].as_u64() {
        Some(_) => (count_in(total)?, packets, "packets"),
        None => (total["bytes"].as_u64().unwrap_or(0), bytes, "bytes"),
    };
    ensure!(
        took == sent,
        "it received {took} {what} where {sent} were sent, and nothing is lost on a stream"
    );
    Ok(())
}

/// How many contacts may be sent before the queue is looked at: those have room beyond its limit.
fn per_look(way: Way, rcvbuf: usize) -> u32 {
    let room = match way {
        Way::Stream => usize::MAX,
        Way::Datagrams => rcvbuf / 10 / IN_QUEUE,
    };
    u32::try_from(room).unwrap_or(PER_LOOK).clamp(1, PER_LOOK)
}

/// A connection from where the node is that sends.
fn connection(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let SocketAddr::V4(to) = to else {
        bail!("it listens at {to}");
    };
    let kind = SockType::Stream;
    let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let [a, b, c, d] = SENDER_IP.octets();
    bind(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    // As for other streams: nobody waits for ever.
    stream.set_write_timeout(Some(WRITE_MAX))?;
    Ok(stream)
}

/// A port of the receiver's that nobody has now: a node has to say where it is before it listens.
fn free_port() -> anyhow::Result<u16> {
    let free = TcpListener::bind((RECEIVER_IP, 0)).context("there is no free port")?;
    Ok(free.local_addr()?.port())
}

/// Contacts of a measurement, when nobody says.
const CONTACTS: u32 = 1_000_000;

/// So many are one write of a stream, and sent between two looks at a queue: both cost next to nothing then.
const PER_LOOK: u32 = 500;

/// What the datagrams of a contact take in a queue at most.
const IN_QUEUE: usize = 4096;

/// So that code, tables and buffers are there.
const WARM_UP: u32 = 1000;

const RECEIVER_IP: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
const SENDER_IP: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);

/// A port at which nobody answers.
const DISCARD: u16 = 9;

#[cfg(test)]
mod tests;
