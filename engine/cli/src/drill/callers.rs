//! The node of the callers: phones that register and calls that come and go, told to every node of the cluster that is up.
//!
//! It is what an OpenSIPS with traffic is to the others: it answers PINGs, says what it has to who is heard (again), tells live packets
//! of 3.6 over one connection to each node, takes a node for gone that it has not heard for a while, and gives what it has to who asks.
//! Its priority is the lowest, so a node is asked before it. What nodes have in the end is compared with what it told, and not with
//! what one of them says.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use binrush_engine::cluster::message::{
    self, Extra, Internal, NodeCapabilities, Routed, Stamp, Writer,
};
use binrush_engine::link::{LinkLimits, Links, LinksConfig, Refused};
use binrush_engine::{Lane, LinkConfig, LinkId};
use binrush_wire::chunk::CHUNK_MARKER;
use binrush_wire::{Generation, Packet, Trailer};

use super::catalog::Who;
use super::node::{CLUSTER, millis};
use super::site::Site;
use super::traffic::{Change, DIALOGS, Model, RELEASE, Size, Traffic, USRLOC, When, data_version};

/// The callers, while a drill lasts.
pub(super) struct Callers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads share.
struct Shared {
    begin: Instant,
    links: Links,
    to: BTreeMap<i32, LinkId>,
    /// Held while a change is made and told, so that packets are queued in the order of the changes. Taken before the state, which is
    /// not held meanwhile: a queue without room keeps nobody from being answered.
    telling: Mutex<()>,
    state: Mutex<State>,
    streams: Mutex<Vec<TcpStream>>,
    /// The number of the next CAP_UPDATE.
    seq: AtomicI32,
    stops: AtomicBool,
}

struct State {
    model: Model,
    traffic: Traffic,
    /// Changes a second; 0: none are made.
    rate: u32,
    is_careful: bool,
    /// Seconds by which the callers' clock is beside the right one.
    skew: i64,
    /// When each node's last PING came.
    heard: BTreeMap<i32, Instant>,
    /// Of each pulse: when it was sent, and the number of its change.
    pulses: Vec<(Instant, u64)>,
    /// Packets that no node could be given: its queue was full for long, or its link is gone.
    lost: u64,
    /// Packets that each node was told; of one that was silent for a while some waited and were forgotten.
    told: BTreeMap<i32, Told>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    packets: u64,
    forgotten: bool,
}

impl Callers {
    /// Begins: listens, connects to all other nodes, and changes nothing yet.
    ///
    /// # Errors
    /// There is no address, no thread, no way to the host.
    pub(super) fn start(site: &Arc<Site>, seed: u64, size: Size) -> anyhow::Result<Self> {
        let (tx, started) = mpsc::channel();
        let site = Arc::clone(site);
        let thread = thread::Builder::new()
            .name("callers".into())
            .spawn(move || {
                let shared = match Shared::start(&site, seed, size) {
                    Ok((shared, listener)) => {
                        let acceptor = Arc::clone(&shared);
                        let accepting = thread::spawn(move || acceptor.accept(&listener));
                        let _ = tx.send(Ok(Arc::clone(&shared)));
                        (shared, accepting)
                    }
                    Err(error) => {
                        let _ = tx.send(Err(error));
                        return;
                    }
                };
                let (shared, accepting) = shared;
                shared.make_changes();
                let _ = accepting.join();
            })?;
        let shared = started.recv().context("the callers' thread ended")??;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Makes all that is there at the beginning, and tells it to the nodes that are up.
    pub(super) fn fill(&self) {
        let _telling = self.shared.telling();
        let mut state = self.shared.state();
        let when = self.shared.when(&state);
        let State { model, traffic, .. } = &mut *state;
        let changes = traffic.fill(model, when);
        let nodes = state.nodes_up();
        drop(state);
        for change in changes {
            self.shared.tell(&nodes, change);
        }
    }

    /// Changes so many records a second from now on; 0: none, and what was made is on its way when this returns.
    pub(super) fn set_rate(&self, rate: u32) {
        let _telling = self.shared.telling();
        self.shared.state().rate = rate;
    }

    /// Whether only records go that were not spoken of lately.
    pub(super) fn set_careful(&self, is_careful: bool) {
        self.shared.state().is_careful = is_careful;
    }

    /// Puts the callers' clock forward, or back.
    pub(super) fn set_skew(&self, seconds: i64) {
        self.shared.state().skew = seconds;
    }

    /// Whether this node is heard.
    pub(super) fn hears(&self, who: Who) -> bool {
        self.shared.state().nodes_up().contains(&who.id())
    }

    /// Waits until all that was told to `who` is with its kernel; whether it was, in time.
    pub(super) fn flush(&self, who: Who, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let link = self.shared.to[&who.id()];
        while self.shared.links.waiting_bytes(link) > 0 {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(TICK);
        }
        true
    }

    /// What has to be there now.
    pub(super) fn model(&self) -> Model {
        self.shared.state().model.clone()
    }

    /// How old a copy is whose pulse is `number`, at `now`: since when it lacks the next one.
    pub(super) fn age(&self, number: i64, now: Instant) -> Duration {
        let state = self.shared.state();
        // The contact was made with a CSeq of 1: after that the first pulse is the next one.
        let next = usize::try_from(number).unwrap_or(0).checked_sub(1);
        let missed = next.and_then(|at| state.pulses.get(at));
        missed.map_or(Duration::ZERO, |(sent, _)| {
            now.saturating_duration_since(*sent)
        })
    }

    /// How many changes there were up to the pulse that is seen as `number`.
    pub(super) fn changes_until(&self, number: i64) -> u64 {
        let state = self.shared.state();
        let at = usize::try_from(number).unwrap_or(0).checked_sub(2);
        let pulse = at.and_then(|at| state.pulses.get(at));
        pulse.map_or(0, |(_, change)| *change)
    }

    /// Packets that `who` was told; `None`: nobody can say how many of them were sent.
    pub(super) fn told(&self, who: Who) -> Option<u64> {
        let state = self.shared.state();
        let told = state.told.get(&who.id()).copied().unwrap_or_default();
        (!told.forgotten).then_some(told.packets)
    }

    /// Packets that could not be told.
    pub(super) fn lost(&self) -> u64 {
        self.shared.state().lost
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.links.stop(Duration::ZERO);
    }
}

impl State {
    /// The nodes that are heard.
    fn nodes_up(&self) -> Vec<i32> {
        let heard = self.heard.iter();
        let up = heard.filter(|(_, heard)| heard.elapsed() < SILENCE_MAX);
        up.map(|(node, _)| *node).collect()
    }
}

impl Shared {
    /// On the thread that is at the callers' host by the end of this.
    fn start(site: &Site, seed: u64, size: Size) -> anyhow::Result<(Arc<Self>, TcpListener)> {
        site.enter(Who::Callers)?;
        let at = site.at(Who::Callers);
        let listener = TcpListener::bind(at).with_context(|| format!("cannot listen at {at}"))?;
        listener.set_nonblocking(true)?;
        let links = Links::start(&LinksConfig::default())?;
        let mut to = BTreeMap::new();
        for who in Who::NODES {
            let Ok(endpoint) = format!("bin:{}", site.at(who)).parse() else {
                bail!("{} is no address for BIN", site.at(who));
            };
            let config = LinkConfig {
                // Nodes know each other by their addresses.
                bind: Some(at.ip()),
                limits: LinkLimits {
                    queue_bytes: 64 << 20,
                    queue_packets: 1 << 18,
                    backoff_max: Duration::from_millis(100),
                    ..LinkLimits::default()
                },
                ..LinkConfig::new(endpoint)
            };
            to.insert(who.id(), links.add(config)?);
        }
        let shared = Self {
            begin: Instant::now(),
            links,
            to,
            telling: Mutex::default(),
            state: Mutex::new(State {
                model: Model::default(),
                traffic: Traffic::new(seed, size),
                rate: 0,
                is_careful: false,
                skew: 0,
                heard: BTreeMap::new(),
                pulses: Vec::new(),
                lost: 0,
                told: BTreeMap::new(),
            }),
            streams: Mutex::default(),
            seq: AtomicI32::new(0),
            stops: AtomicBool::new(false),
        };
        Ok((Arc::new(shared), listener))
    }

    /// Makes changes as they are due, until the end.
    fn make_changes(&self) {
        let (mut last, mut owed) = (Instant::now(), 0.0_f64);
        let mut pulse = Instant::now();
        while !self.stops.load(Ordering::Relaxed) {
            thread::sleep(TICK);
            let (rate, nodes) = {
                let state = self.state();
                (state.rate, state.nodes_up())
            };
            self.forget_what_waits_for_the_dead(&nodes);
            let elapsed = last.elapsed();
            last = Instant::now();
            if rate == 0 {
                owed = 0.0;
                continue;
            }
            owed += elapsed.as_secs_f64() * f64::from(rate);
            while owed >= 1.0 {
                owed -= 1.0;
                self.change(&nodes, Traffic::next);
            }
            if pulse.elapsed() >= PULSE_EVERY {
                pulse = Instant::now();
                self.change(&nodes, Traffic::pulse);
            }
        }
    }

    /// What is told is told in one piece: who waits for that, and reads the model then, finds nothing that is not on its way.
    fn change(&self, nodes: &[i32], next: impl FnOnce(&mut Traffic, &mut Model, When) -> Change) {
        let _telling = self.telling();
        let mut state = self.state();
        if state.rate == 0 {
            return;
        }
        let when = self.when(&state);
        let State { model, traffic, .. } = &mut *state;
        let change = next(traffic, model, when);
        if change.is_pulse() {
            let sent = (Instant::now(), model.changes());
            state.pulses.push(sent);
        }
        drop(state);
        self.tell(nodes, change);
    }

    /// Tells a change, and counts who was told and how often that could not be.
    fn tell(&self, nodes: &[i32], change: Change) {
        for node in nodes {
            let packet = change.packet(Trailer::new(CLUSTER, Who::Callers.id(), *node));
            let deadline = Instant::now() + FULL_MAX;
            let told = loop {
                match self.links.send(self.to[node], Lane::Bulk, &packet) {
                    Err(Refused::Full) if Instant::now() < deadline => thread::sleep(TICK),
                    told => break told,
                }
            };
            let mut state = self.state();
            match told {
                Ok(()) => state.told.entry(*node).or_default().packets += 1,
                Err(_) => state.lost += 1,
            }
        }
    }

    /// Who begins anew at the address of one that is gone has no use for what that one was told.
    fn forget_what_waits_for_the_dead(&self, up: &[i32]) {
        for (node, link) in &self.to {
            if !up.contains(node) {
                self.links.drop_bulk(*link);
                if let Some(told) = self.state().told.get_mut(node) {
                    told.forgotten = true;
                }
            }
        }
    }

    fn when(&self, state: &State) -> When {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs().cast_signed());
        When {
            at: now + state.skew,
            ms: millis(self.begin.elapsed()),
            is_careful: state.is_careful,
        }
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut readers = Vec::new();
        while !self.stops.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(TICK);
                continue;
            };
            let (Ok(()), Ok(ours)) = (stream.set_nonblocking(false), stream.try_clone()) else {
                continue;
            };
            self.streams().push(ours);
            let shared = Arc::clone(&self);
            readers.push(thread::spawn(move || shared.read(stream)));
        }
        for stream in &*self.streams() {
            // One that has ended already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for reader in readers {
            let _ = reader.join();
        }
    }

    /// Reads packets until the connection ends, or says what no node says.
    fn read(&self, mut stream: TcpStream) {
        let mut packet = Vec::new();
        while read_packet(&mut stream, &mut packet).is_some() {
            let Ok(packet) = Packet::parse(Generation::Modern, &packet) else {
                return;
            };
            match packet.name() {
                b"clusterer-internal" => match message::internal(&packet) {
                    Ok((CLUSTER, source, Internal::Ping { .. })) => self.answer(source),
                    Ok((
                        CLUSTER,
                        source,
                        Internal::Capabilities {
                            require_reply: true,
                            ..
                        },
                    )) => {
                        if let Some(link) = self.to.get(&source) {
                            self.tell_capabilities(*link, false);
                        }
                    }
                    _ => {}
                },
                b"clusterer-extra" => {
                    if let Ok((trailer, Routed::Message(Extra::SyncRequest { capability }))) =
                        message::extra(&packet, Some(RELEASE))
                    {
                        self.give(trailer.source, &capability);
                    }
                }
                _ => {}
            }
        }
    }

    fn answer(&self, source: i32) {
        let Some(link) = self.to.get(&source) else {
            return;
        };
        let before = self.state().heard.insert(source, Instant::now());
        let pong = Internal::Pong { nodes: vec![] };
        self.send(*link, Lane::Control, |writer| {
            writer.internal(RELEASE, CLUSTER, Who::Callers.id(), &pong)
        });
        // A node that was away is told anew what there is, as genuine nodes tell it.
        if before.is_none_or(|before| before.elapsed() > ABSENT_MIN) {
            self.tell_capabilities(*link, true);
        }
    }

    /// What is here, and that it is complete.
    fn tell_capabilities(&self, link: LinkId, require_reply: bool) {
        let update = Internal::Capabilities {
            stamp: Some(Stamp {
                seq: self.seq.fetch_add(1, Ordering::Relaxed),
                timestamp: 1,
            }),
            nodes: vec![NodeCapabilities {
                id: Who::Callers.id(),
                capabilities: [DIALOGS, USRLOC].map(|name| (name.into(), true)).into(),
            }],
            require_reply,
            path: vec![Who::Callers.id()],
        };
        self.send(link, Lane::Control, |writer| {
            writer.internal(RELEASE, CLUSTER, Who::Callers.id(), &update)
        });
    }

    /// Gives a sync: of one moment, and no packet about a later one goes before it.
    fn give(&self, node: i32, capability: &[u8]) {
        let (Ok(name), Some(link)) = (str::from_utf8(capability), self.to.get(&node)) else {
            return;
        };
        let _telling = self.telling();
        let chunks = self.state().model.chunks(name);
        let trailer = Trailer::new(CLUSTER, Who::Callers.id(), node);
        let mut packed = Vec::new();
        for chunk in &chunks {
            if packed.len() + chunk.len() > SYNC_BYTES {
                self.send(*link, Lane::Bulk, |writer| {
                    writer.sync(RELEASE, trailer, capability, data_version(name), &packed)
                });
                packed.clear();
            }
            packed.extend(u32::try_from(chunk.len()).unwrap_or_default().to_le_bytes());
            packed.extend(CHUNK_MARKER.to_le_bytes());
            packed.extend(chunk);
        }
        if !packed.is_empty() {
            self.send(*link, Lane::Bulk, |writer| {
                writer.sync(RELEASE, trailer, capability, data_version(name), &packed)
            });
        }
        let end = Extra::SyncEnd {
            capability: capability.into(),
            total: u32::try_from(chunks.len()).ok(),
        };
        self.send(*link, Lane::Bulk, |writer| {
            writer.extra(RELEASE, trailer, &end)
        });
    }

    /// What finds no room is lost on the way: nodes wait for answers, and ask again.
    fn send<E>(
        &self,
        link: LinkId,
        lane: Lane,
        make: impl FnOnce(&mut Writer) -> Result<&[u8], E>,
    ) {
        let mut writer = Writer::new();
        if let Ok(packet) = make(&mut writer) {
            let _ = self.links.send(link, lane, packet);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next packet of a stream; `None`: there is none.
fn read_packet(stream: &mut TcpStream, packet: &mut Vec<u8>) -> Option<()> {
    packet.resize(HEADER_LEN, 0);
    stream.read_exact(packet).ok()?;
    let len = u32::from_le_bytes(packet[4..HEADER_LEN].try_into().ok()?) as usize;
    if !(HEADER_LEN..=PACKET_MAX).contains(&len) {
        return None;
    }
    packet.resize(len, 0);
    stream.read_exact(&mut packet[HEADER_LEN..]).ok()
}

/// How often there is a pulse: what is seen of the age of a copy is as coarse as that.
const PULSE_EVERY: Duration = Duration::from_millis(20);

/// Longer than a node takes to miss others: who was told nothing for that long knows it.
const SILENCE_MAX: Duration = Duration::from_millis(3500);

/// Two PINGs that did not come.
const ABSENT_MIN: Duration = Duration::from_millis(1800);

/// Of records in a packet of a sync.
const SYNC_BYTES: usize = 40_000;

/// How long a packet waits for room in a queue.
const FULL_MAX: Duration = Duration::from_secs(5);

const TICK: Duration = Duration::from_millis(2);

/// Marker and length.
const HEADER_LEN: usize = 8;

/// The longest packet of 3.6.
const PACKET_MAX: usize = 65_535;
