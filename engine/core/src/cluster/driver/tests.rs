//! The thread of the seats, with real links and shards that only count.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use binrush_wire::{Generation, Packet, Release, Trailer};

use super::errands::Errands;
use super::*;
use crate::cluster::config::{CapabilityConfig, ClusterConfig, SyncLimits, Timers};
use crate::cluster::facts::CopyState;
use crate::cluster::inbox::{Body, Inbox as _, Incoming};
use crate::cluster::message::{self, Extra, Internal, NodeCapabilities, Writer};
use crate::cluster::outbox::{Event, Sent};
use crate::cluster::replica::{OpaqueReplica, Replica as _};
use crate::cluster::roster::Reader;
use crate::cluster::session::Session;
use crate::dispatch::handler::ShardId;
use crate::dispatch::registry::Registry;
use crate::link::{Lane, Links, LinksConfig};

const NAME: &str = "dialog-dlg-repl";

/// Far longer than anything takes that is waited for here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shard that writes down what it is told, and releases what it is asked to.
#[derive(Default)]
struct Shard {
    told: Mutex<VecDeque<Box<dyn Any + Send>>>,
    releases: bool,
    panics: bool,
    /// Nobody gets past it as long as it is locked.
    gate: Arc<Mutex<()>>,
}

impl Orders for Shard {
    fn owners(&self) -> u16 {
        1
    }

    fn tell(&self, _: u16, _: NameId, message: Box<dyn Any + Send>) -> Told {
        assert!(!self.panics, "a bug somewhere in the thread of the seats");
        drop(self.gate.lock().unwrap());
        if self.releases
            && let Some(GateOrder::Release(session, _)) = message.downcast_ref()
        {
            let released = &session.shards[0].released;
            released.store(true, Ordering::Release);
        }
        self.told.lock().unwrap().push_back(message);
        Told::Taken
    }
}

fn node(id: i32, url: &str) -> NodeConfig {
    NodeConfig {
        id,
        url: url.parse().unwrap(),
        url_text: url.to_owned(),
        sip_addr: String::new(),
        priority: 3,
        retries: 3,
        is_seed: false,
        release: None,
    }
}

fn config(neighbours: &[&str]) -> ClusterConfig {
    let neighbours = (2..).zip(neighbours).map(|(id, url)| node(id, url));
    ClusterConfig {
        id: 1,
        me: node(1, "bin:127.0.0.1:25001"),
        neighbours: neighbours.collect(),
        timers: Timers::default(),
        release: Release::V3_6,
        learn: vec![],
        capabilities: vec![CapabilityConfig {
            name: NAME.to_owned(),
            sync: true,
        }],
        tags: vec![],
        sync: SyncLimits::default(),
    }
}

/// A plan whose capability has its keeper, and its name.
fn plan(config: ClusterConfig) -> (ClusterPlan, NameId) {
    let cluster = config.id;
    let mut plan = ClusterPlan::new(vec![config], 1);
    let mut registry = Registry::new();
    let name = plan.replica(&mut registry, cluster, NAME, |_| OpaqueReplica::new(NAME));
    (plan, name.unwrap())
}

fn links() -> Links {
    Links::start(&LinksConfig::default()).unwrap()
}

fn start(plan: ClusterPlan, shard: Shard) -> Cluster {
    let terms = LinkTerms::default();
    plan.start(Arc::new(shard), links(), terms).unwrap()
}

fn world(plan: &ClusterPlan, shard: &Arc<Shard>, name: NameId) -> World {
    let orders = Arc::clone(shard) as Arc<dyn Orders>;
    let errands = Errands::new(orders, [(NAME.to_owned(), name)].into());
    let (board, mail) = (Arc::clone(&plan.board), Arc::clone(&plan.mail));
    World::new(
        links(),
        LinkTerms::default(),
        errands,
        board,
        mail,
        Vec::new(),
    )
}

/// A peer that takes connections and reads none of them.
fn peer() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("bin:{}", listener.local_addr().unwrap());
    (listener, url)
}

fn generic() -> Incoming {
    Incoming {
        at: MonotonicClock.now(),
        ip: [127, 0, 0, 1].into(),
        connection: 1,
        cluster: 1,
        source: 2,
        shown: None,
        body: Body::Extra(Extra::Generic {
            is_request: true,
            tag: vec![1],
            message: vec![2],
        }),
    }
}

#[track_caller]
fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "waited for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn warnings(events: &Receiver<Event>) -> Vec<String> {
    let warnings = events.try_iter().filter_map(|event| match event {
        Event::Warning { text, .. } => Some(text),
        _ => None,
    });
    warnings.collect()
}

#[test]
fn a_record_that_found_no_room_makes_a_verified_copy_suspect() {
    let mut config = config(&[]);
    config.me.is_seed = true;
    config.timers.seed_fallback = Duration::from_millis(1);
    let (plan, _) = plan(config);
    let mail = Arc::clone(&plan.mail);
    let cluster = start(plan, Shard::default());
    let copy = || cluster.facts().unwrap()[0].capabilities[0].clone();
    wait("the seed", || copy().state == CopyState::Verified);
    let events = cluster.events();
    mail.record_missed(7, NAME);
    mail.record_missed(1, "usrloc-contact-repl");
    assert_eq!(copy().state, CopyState::Verified, "it is about others");
    mail.record_missed(1, NAME);
    let doubted = Event::Capability {
        cluster: 1,
        capability: NAME.to_owned(),
        state: CopyState::Suspect,
        why: NO_ROOM.to_owned(),
    };
    // A seed without a node to ask trusts it again after a while.
    wait("the doubt", || {
        events.try_iter().any(|event| event == doubted)
    });
    cluster.stop();
}

#[test]
fn facts_have_what_the_replicas_of_all_shards_say_of_themselves() {
    let mut plan = ClusterPlan::new(vec![config(&[])], 1);
    let mut registry = Registry::new();
    let make = |shard: ShardId| {
        let replica = OpaqueReplica::new(NAME);
        let tally = replica.tally().unwrap();
        let count = u64::from(shard.0) + 1;
        tally.astray.store(count, Ordering::Relaxed);
        tally.records.store(10 * count, Ordering::Relaxed);
        replica
    };
    plan.replica(&mut registry, 1, NAME, make).unwrap();
    let table = Arc::new(registry.table());
    // The second one of a shard takes the place of the first.
    let made = [0, 1, 1].map(|shard| registry.build(ShardId(shard), &table));
    let cluster = start(plan, Shard::default());
    let kept = cluster.facts().unwrap()[0].capabilities[0].kept.unwrap();
    assert_eq!((kept.records, kept.astray, kept.full), (30, 3, 0));
    cluster.stop();
    drop(made);
}

#[test]
fn a_burst_is_read_to_its_end() {
    let (_listener, url) = peer();
    let (plan, _) = plan(config(&[&url]));
    let mail = Arc::clone(&plan.mail);
    let cluster = start(plan, Shard::default());
    // Asleep until its next PING, which is seconds away.
    thread::sleep(Duration::from_millis(300));
    let mut best = Duration::MAX;
    for _ in 0..5 {
        for _ in 0..8 * MESSAGES_PER_TURN {
            assert!(mail.message(generic()));
        }
        let since = Instant::now();
        wait("the end of the burst", || !mail.has_message());
        best = best.min(since.elapsed());
        thread::sleep(Duration::from_millis(30));
    }
    cluster.stop();
    assert!(best < Duration::from_millis(200), "{best:?}");
}

#[test]
fn what_is_wrong_with_a_link_at_the_start_is_told_once_to_who_asked_before() {
    for url in ["bins:127.0.0.1:25002", "bin:[::1]:25002"] {
        let (mut plan, _) = plan(config(&[url]));
        let events = plan.events();
        let cluster = start(plan, Shard::default());
        // Twice as long as until the next attempt.
        thread::sleep(Duration::from_millis(2200));
        cluster.stop();
        let told = warnings(&events);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("node 2: a link "), "{told:?}");
    }
}

#[test]
fn a_link_that_could_not_be_had_is_tried_again_until_it_can() {
    let (listener, url) = peer();
    let (mut plan, _) = plan(config(&[&url]));
    let events = plan.events();
    // Somebody else has the only one.
    let links = Links::start(&LinksConfig {
        links: 1,
        ..LinksConfig::default()
    });
    let links = links.unwrap();
    let (_other, other_url) = peer();
    let config = crate::link::LinkConfig::new(other_url.parse().unwrap());
    let other = links.add(config).unwrap();
    let terms = LinkTerms::default();
    let shard = Arc::new(Shard::default());
    let cluster = plan.start(shard, links.clone(), terms).unwrap();
    let mut told = Vec::new();
    wait("the warning", || {
        told.extend(warnings(&events));
        !told.is_empty()
    });
    links.remove(other);
    let (connection, _) = listener.accept().unwrap();
    drop(connection);
    told.extend(warnings(&events));
    assert_eq!(told.len(), 1, "{told:?}");
    cluster.stop();
}

#[test]
fn a_thread_that_died_is_noticed_at_once_and_leaves_nobody_waiting() {
    let mut config = config(&[]);
    config.me.is_seed = true;
    config.timers.seed_fallback = Duration::from_millis(1);
    let (plan, _) = plan(config);
    let mut roster = Reader::new(Arc::clone(&plan.board));
    assert!(
        roster
            .roster()
            .cluster(1)
            .unwrap()
            .has_capability(NAME.as_bytes())
    );
    let shard = Shard {
        panics: true,
        ..Shard::default()
    };
    let cluster = start(plan, shard);
    let events = cluster.events();
    wait("its end", || !cluster.is_running());
    let since = Instant::now();
    assert_eq!(cluster.facts(), Err(Unanswered::Ended));
    assert_eq!(
        cluster.request_sync(1, NAME),
        Err(SyncError::Unanswered(Unanswered::Ended))
    );
    let sent = cluster.send_generic(1, None, true, b"", b"");
    assert_eq!(sent, Err(Unanswered::Ended));
    assert!(since.elapsed() < Duration::from_secs(1));
    // Its listeners see it too, also those that come later.
    wait("the end of the events", || {
        events.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected)
    });
    assert!(cluster.events().recv().is_err());
    let cluster = roster.roster().cluster(1).unwrap();
    assert!(!cluster.has_capability(NAME.as_bytes()));
}

/// A message that node 2 sends us.
fn from_peer(internal: Internal) -> Incoming {
    Incoming {
        body: Body::Internal(internal),
        ..generic()
    }
}

/// Lets node 2 be there and have all records, until our gates hold back packets for it; that sync.
fn begin_sync(mail: &Mail, shard: &Shard) -> Arc<Session> {
    let mut holds = None;
    wait("a sync", || {
        let synced = NodeCapabilities {
            id: 2,
            capabilities: vec![(NAME.as_bytes().to_vec(), true)],
        };
        mail.message(from_peer(Internal::Pong { nodes: Vec::new() }));
        mail.message(from_peer(Internal::Capabilities {
            stamp: None,
            nodes: vec![synced],
            require_reply: false,
            path: vec![2],
        }));
        thread::sleep(Duration::from_millis(50));
        let told = shard.told.lock().unwrap();
        holds = told.iter().find_map(|order| match order.downcast_ref() {
            Some(GateOrder::Hold(session)) => Some(Arc::clone(session)),
            _ => None,
        });
        holds.is_some()
    });
    holds.unwrap()
}

#[test]
fn at_the_end_everything_is_released_refused_and_dropped() {
    let (listener, url) = peer();
    let (plan, _) = plan(config(&[&url]));
    let mail = Arc::clone(&plan.mail);
    let mut reader = Reader::new(Arc::clone(&plan.board));
    assert!(reader.roster().cluster(1).unwrap().node(2).is_some());
    let shard = Arc::new(Shard::default());
    let orders = Arc::clone(&shard) as Arc<dyn Orders>;
    let (links, terms) = (links(), LinkTerms::default());
    let cluster = plan.start(orders, links.clone(), terms).unwrap();
    let session = begin_sync(&mail, &shard);
    let since = Instant::now();
    cluster.stop();
    // The gate was asked again while it showed nothing, but not waited for without end.
    assert!(since.elapsed() < Duration::from_secs(5));
    let told = shard.told.lock().unwrap();
    let releases = told.iter().filter(|order| {
        matches!(order.downcast_ref(), Some(GateOrder::Release(of, SyncEnd::Abandoned)) if Arc::ptr_eq(of, &session))
    });
    assert!((2..=8).contains(&releases.count()));
    let roster = reader.roster().cluster(1).unwrap();
    assert!(roster.nodes.is_empty() && !roster.has_capability(NAME.as_bytes()));
    // The links go on, and what they tell is dropped.
    drop(listener);
    thread::sleep(Duration::from_millis(200));
    assert!(!mail.message(generic()));
    assert!(mail.is_closed() && mail.next_command().is_none() && !mail.has_message());
    links.stop(Duration::ZERO);
}

#[test]
fn the_end_does_not_wait_for_gates_that_have_released() {
    let (_listener, url) = peer();
    let (plan, _) = plan(config(&[&url]));
    let mail = Arc::clone(&plan.mail);
    let shard = Arc::new(Shard {
        releases: true,
        ..Shard::default()
    });
    let orders = Arc::clone(&shard) as Arc<dyn Orders>;
    let cluster = plan.start(orders, links(), LinkTerms::default()).unwrap();
    let session = begin_sync(&mail, &shard);
    cluster.stop();
    assert!(session.is_released());
}

#[test]
fn a_stop_ends_it_for_every_handle() {
    let (_listener, url) = peer();
    let (plan, _) = plan(config(&[&url]));
    let cluster = start(plan, Shard::default());
    let mut sender = cluster.sender();
    assert_eq!(cluster.facts().unwrap().len(), 1);
    let packet = Module {
        capability: NAME,
        command: 1,
        version: 4,
        fields: b"",
    };
    wait("the seat", || {
        sender.send(1, 2, packet) == Err(SendError::Unreachable(2))
    });
    assert_eq!(sender.send(7, 2, packet), Err(SendError::UnknownCluster(7)));
    cluster.clone().stop();
    let since = Instant::now();
    assert_eq!(cluster.facts(), Err(Unanswered::Ended));
    assert!(since.elapsed() < Duration::from_secs(1) && !cluster.is_running());
    assert_eq!(
        sender.broadcast(1, packet),
        Err(SendError::UnknownCluster(1))
    );
}

#[test]
fn a_thread_that_does_not_go_on_is_left_alone_at_the_stop() {
    let mut config = config(&[]);
    config.me.is_seed = true;
    config.timers.seed_fallback = Duration::from_millis(1);
    let (plan, _) = plan(config);
    let mail = Arc::clone(&plan.mail);
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let shard = Shard {
        gate: Arc::clone(&gate),
        ..Shard::default()
    };
    let cluster = start(plan, shard);
    // The seed's first word to a gate is the last thing it does.
    wait("the hang", || cluster.facts() == Err(Unanswered::Busy));
    let since = Instant::now();
    assert!(!cluster.stop());
    let took = since.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
    assert!(!cluster.stop(), "nor does it end for who asks again");
    assert_eq!(cluster.facts(), Err(Unanswered::Ended));
    assert!(!cluster.is_running() && !mail.message(generic()));
    // It ends as soon as it can.
    drop(held);
    drop(cluster);
    wait("its end", || Arc::strong_count(&mail) == 1);
}

#[test]
fn a_keeper_is_for_a_cluster_of_ours_and_the_only_one() {
    let second = ClusterConfig {
        id: 2,
        ..config(&[])
    };
    let mut plan = ClusterPlan::new(vec![config(&[]), second], 1);
    let mut registry = Registry::new();
    let mut keep = |cluster| {
        let kept = plan.replica(&mut registry, cluster, NAME, |_| OpaqueReplica::new(NAME));
        kept.map(|_| ())
    };
    let capability = NAME.to_owned();
    let unknown = KeeperError::UnknownCluster {
        capability: capability.clone(),
        cluster: 3,
    };
    assert_eq!(keep(3), Err(unknown));
    assert_eq!(keep(1), Ok(()));
    let kept = |cluster| KeeperError::Kept {
        capability: NAME.to_owned(),
        cluster,
    };
    assert_eq!((keep(2), keep(1)), (Err(kept(1)), Err(kept(1))));
    // And the other cluster has none, so nothing starts.
    let terms = LinkTerms::default();
    let started = plan.start(Arc::new(Shard::default()), links(), terms);
    match started {
        Err(StartError::NoKeeper {
            capability: of,
            cluster,
        }) => assert_eq!((of, cluster), (capability, 2)),
        other => panic!("{other:?}"),
    }
}

/// The next packet of a connection, in words that are ours.
fn read(connection: &mut TcpStream) -> Option<Internal> {
    let mut head = [0; 8];
    connection.read_exact(&mut head).ok()?;
    let len = u32::from_le_bytes(head[4..].try_into().unwrap()) as usize;
    let mut bytes = head.to_vec();
    bytes.resize(len, 0);
    connection.read_exact(&mut bytes[8..]).ok()?;
    let packet = Packet::parse(Generation::Modern, &bytes).unwrap();
    message::internal(&packet).ok().map(|(.., said)| said)
}

#[test]
fn a_failing_link_keeps_a_pong_and_nothing_else() {
    let (listener, url) = peer();
    let addr: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let (plan, name) = plan(config(&[&url]));
    let mut world = world(&plan, &Arc::default(), name);
    let mut around = Around {
        world: &mut world,
        cluster: 1,
        me: config(&[]).me.url,
    };
    around.connect(&node(2, &url));
    let mut writer = Writer::default();
    let ping = Internal::Ping { list: true };
    let ping = writer.internal(Release::V3_6, 1, 1, &ping);
    let ping = ping.unwrap().to_vec();
    let pong = Internal::Pong { nodes: vec![1, 3] };
    let pong = writer.internal(Release::V3_6, 1, 1, &pong);
    let pong = pong.unwrap().to_vec();
    // The first attempt fails at once.
    wait("the failure", || {
        matches!(plan.mail.next_command(), Some(Command::LinkFailed { .. }))
    });
    assert_eq!(around.send(2, Lane::Control, &ping), Sent::Unreachable);
    let trailer = Trailer::new(1, 1, 2);
    let bulk = writer.module(trailer, NAME.as_bytes(), 1, 4, b"");
    let sent = around.send(2, Lane::Bulk, bulk.unwrap());
    assert_eq!((sent, around.waiting_bytes(2)), (Sent::Unreachable, 0));
    // The peer is back, and has asked us.
    let listener = TcpListener::bind(addr).unwrap();
    let since = Instant::now();
    assert_eq!(around.send(2, Lane::Control, &pong), Sent::Queued);
    let (mut connection, _) = listener.accept().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(
        read(&mut connection),
        Some(Internal::Pong { nodes: vec![1, 3] })
    );
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn only_some_pongs_wait_for_a_link_that_fails() {
    let (listener, url) = peer();
    drop(listener);
    let (plan, name) = plan(config(&[&url]));
    let mut world = world(&plan, &Arc::default(), name);
    let mut around = Around {
        world: &mut world,
        cluster: 1,
        me: config(&[]).me.url,
    };
    around.connect(&node(2, &url));
    wait("the failure", || {
        matches!(plan.mail.next_command(), Some(Command::LinkFailed { .. }))
    });
    let mut writer = Writer::default();
    let pong = Internal::Pong { nodes: vec![] };
    let pong = writer.internal(Release::V3_6, 1, 1, &pong).unwrap();
    let sent = [(); 10].map(|()| around.send(2, Lane::Control, pong));
    let queued = sent.iter().filter(|sent| **sent == Sent::Queued);
    assert_eq!(queued.count(), 4);
    assert_eq!(sent[9], Sent::Unreachable);
    assert_eq!(around.waiting_bytes(2), 4 * pong.len());
}
