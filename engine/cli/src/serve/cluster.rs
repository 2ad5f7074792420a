//! The clusters that a server is a node of: their seats, and what is told of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use binrush_engine::cluster::config::{ClusterConfig, NODES_MAX, NodeConfig};
use binrush_engine::cluster::door;
use binrush_engine::cluster::driver::{Cluster, ClusterPlan, EVENTS_MAX, LinkTerms};
use binrush_engine::cluster::facts::ClusterFacts;
use binrush_engine::cluster::outbox::Event;
use binrush_engine::config::Protocol;
use binrush_engine::event::Bus;
use binrush_engine::tls::ClientTls;
use binrush_engine::{Engine, Links, LinksConfig, Registry, Snapshot};

use super::events::raise_cluster;
use super::records::Records;
use super::settings::Settings;
use crate::metrics::Clusters;
use crate::text::counted;
use losses::Losses;
use notice::{Kind, NoticeLog};

pub(super) use losses::lost_with;
pub(super) use notice::Notice;

/// What was lost of what nodes sent.
mod losses;
/// What happens, in words.
mod notice;
/// Whether the others can reach us.
pub(super) mod reach;

/// Clusters whose engine has not started.
pub(super) struct Planned {
    plan: ClusterPlan,
    warnings: Warnings,
}

/// What doors have to say, as far as there was room for it.
struct Warnings {
    told: Receiver<String>,
    missed: Arc<AtomicU64>,
}

/// Clusters at work.
pub(super) struct Seats {
    cluster: Cluster,
    links: Links,
    tls: Option<Arc<ClientTls>>,
    events: Receiver<Event>,
    warnings: Warnings,
    log: NoticeLog,
    losses: Losses,
    /// Sharing tags of the configuration, by cluster.
    tags: Vec<(i32, Vec<String>)>,
}

/// Clusters at work, as other threads than the control thread know them.
pub(super) struct Asked {
    cluster: Cluster,
    links: Links,
}

/// Whether `name` is that of a capability that a cluster of `clusters` keeps.
pub(super) fn keeps(clusters: &[ClusterConfig], name: &str) -> bool {
    let names = clusters.iter().flat_map(|each| &each.capabilities);
    !clusters.is_empty()
        && (door::NAMES.contains(&name) || { names }.any(|capability| capability.name == name))
}

/// Registers the doors and gates of all clusters; `None`: there are none.
pub(super) fn plan(
    settings: &Settings,
    registry: &mut Registry,
    records: &mut Records,
) -> anyhow::Result<Option<Planned>> {
    if settings.clusters.is_empty() {
        return Ok(None);
    }
    let (told, warnings): (SyncSender<String>, _) = mpsc::sync_channel(WARNINGS_MAX);
    let missed = Arc::new(AtomicU64::new(0));
    let warnings = Warnings {
        told: warnings,
        missed: Arc::clone(&missed),
    };
    let mut plan = ClusterPlan::new(settings.clusters.clone(), settings.engine.shard_count());
    // Who floods us with what is worth a warning is told of in part.
    plan.doors(registry, move |warning| {
        if told.try_send(warning).is_err() {
            missed.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    for cluster in &settings.clusters {
        for capability in &cluster.capabilities {
            let make = records.keepers(cluster.id, &capability.name)?;
            if let Some(why) = records.missing(cluster.id, &capability.name) {
                plan.is_cut(cluster.id, &capability.name, &why);
            }
            plan.replica(registry, cluster.id, &capability.name, make)?;
        }
    }
    Ok(Some(Planned { plan, warnings }))
}

impl Seats {
    /// Takes the seats of an engine that receives.
    pub(super) fn take(
        planned: Planned,
        engine: &mut Engine,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let clusters = &settings.clusters;
        let wants_tls = wants_tls(clusters, !settings.tls.client.is_empty());
        let tls = wants_tls.then(|| client(settings)).transpose()?;
        let links = Links::start(&LinksConfig {
            links: (clusters.len() * NODES_MAX).min(binrush_engine::link::LINKS_MAX),
            ..LinksConfig::default()
        })
        .context("cannot start the thread of connections to other nodes")?;
        engine.tell_of(links.clone());
        let terms = LinkTerms {
            tls: tls.clone(),
            ..LinkTerms::default()
        };
        let Planned { mut plan, warnings } = planned;
        // Before the start: what is wrong with a link at its first attempt is told once.
        let events = plan.events();
        let cluster = plan
            .start(Arc::new(engine.teller()), links.clone(), terms)
            .context("cannot start the cluster's thread")?;
        Ok(Self {
            events,
            cluster,
            links,
            tls,
            warnings,
            log: NoticeLog::default(),
            losses: Losses::new(clusters),
            tags: clusters
                .iter()
                .map(|each| (each.id, each.tags.clone()))
                .collect(),
        })
    }

    /// For who asks on a thread of his own.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            cluster: self.cluster.clone(),
            links: self.links.clone(),
        }
    }

    /// What happened since the last call, as far as it was kept and is not too much to be told in words; by `bus` all of it is.
    pub(super) fn news(&mut self, bus: Option<&Bus>) -> Vec<Notice> {
        let Self {
            events,
            warnings,
            log,
            ..
        } = self;
        let mut news = log.due(Instant::now());
        log.missed(Kind::Warning, warnings.missed.swap(0, Ordering::Relaxed));
        for text in warnings.told.try_iter().take(WARNINGS_MAX) {
            if log.has_room(Kind::Warning) {
                news.push(Notice::warning(&text));
            }
        }
        for event in events.try_iter().take(EVENTS_MAX) {
            if let Some(bus) = bus {
                raise_cluster(bus, &event);
            }
            if Kind::of(&event).is_none_or(|kind| log.has_room(kind)) {
                news.push(Notice::of(&event));
            }
        }
        news
    }

    /// What is known of all clusters, and why that may be nothing.
    pub(super) fn look(&self) -> Clusters {
        let (facts, trouble) = match self.cluster.facts() {
            Ok(facts) => (facts, trouble_of(&self.links).map(str::to_owned)),
            Err(trouble) => (Vec::new(), Some(trouble.to_string())),
        };
        let mut left_out = self.log.left_out();
        left_out.push(("missed", self.cluster.missed_events()));
        left_out.push(("dropped", self.cluster.dropped_commands()));
        Clusters {
            facts,
            tags: self.tags.clone(),
            left_out,
            trouble,
        }
    }

    /// What we lost ourselves of what nodes had sent, they have and we do not: it has to be asked for again.
    pub(super) fn heed(&mut self, counts: &Snapshot) {
        for (cluster, lost) in self.losses.due(&counts.streams) {
            let connections = counted(lost, "connection");
            let why = format!("ended {connections} of its nodes with packets in it");
            self.cluster.suspect(Some(cluster), None, &why);
        }
    }

    /// Whether the certificates of the client domains can be used.
    pub(super) fn check(&self, settings: &Settings) -> anyhow::Result<()> {
        match self.tls {
            Some(_) => client(settings).map(drop),
            None => Ok(()),
        }
    }

    /// Goes over to the certificates of the client domains.
    pub(super) fn reload(&self, settings: &Settings) -> anyhow::Result<()> {
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        tls.reload(&settings.tls.client)
            .map_err(|error| anyhow!("{}", settings.placed(&error)))
    }

    /// Leaves the clusters; who still has packets of ours to take gets them within a second. What did not end is left
    /// behind, and what that means is returned: nobody has to do without the totals for it.
    pub(super) fn leave(self) -> Vec<&'static str> {
        let mut left = Vec::new();
        if !self.cluster.stop() {
            left.push(CLUSTER_LEFT);
        }
        self.links.stop(LEAVE_MAX);
        if self.links.is_running() {
            left.push(LINKS_LEFT);
        }
        left
    }
}

impl Asked {
    /// All that is known, or why nobody says, or why what is said is not to be relied on.
    pub(super) fn facts(&self) -> Result<Vec<ClusterFacts>, String> {
        let facts = self.cluster.facts().map_err(|error| error.to_string())?;
        self.well()?;
        Ok(facts)
    }

    /// As [`Cluster::request_sync`]; nobody can be asked without links.
    pub(super) fn request_sync(&self, cluster: i32, capability: &str) -> Result<(), String> {
        self.well()?;
        let asked = self.cluster.request_sync(cluster, capability);
        asked.map_err(|error| error.to_string())
    }

    fn well(&self) -> Result<(), String> {
        trouble_of(&self.links).map_or(Ok(()), |trouble| Err(trouble.to_owned()))
    }
}

/// What is wrong with the thread of `links`.
fn trouble_of(links: &Links) -> Option<&'static str> {
    if !links.is_running() {
        Some(LINKS_ENDED)
    } else {
        links.hangs().then_some(LINKS_HANG)
    }
}

/// Whether links to nodes may need TLS. Where we listen for it ourselves, nodes that are learned may, too; without any client
/// domain that is no reason not to start.
fn wants_tls(clusters: &[ClusterConfig], has_domains: bool) -> bool {
    let is_secure = |node: &NodeConfig| node.url.protocol == Protocol::Bins;
    let mut all = clusters.iter();
    all.any(|each| each.neighbours.iter().any(is_secure) || has_domains && is_secure(&each.me))
}

/// What our connections to others show and trust.
pub(super) fn client(settings: &Settings) -> anyhow::Result<Arc<ClientTls>> {
    let domains = &settings.tls.client;
    let loaded = ClientTls::load(domains);
    let loaded = loaded.map_err(|error| anyhow!("{}", settings.placed(&error)))?;
    Ok(Arc::new(loaded))
}

/// Warnings that wait to be printed.
const WARNINGS_MAX: usize = 64;

/// How long packets of ours may take to leave at the end.
const LEAVE_MAX: Duration = Duration::from_secs(1);

const LINKS_ENDED: &str = "the thread of the connections to other nodes has ended: nothing is sent to them any more; restart";

const LINKS_HANG: &str = "the thread of the connections to other nodes does not go on: what is sent to them waits, and they \
                          will believe this node to be down";

const CLUSTER_LEFT: &str = "the clusters' thread did not end within 2 s: it is left behind, and what waits for the end of a \
                            sync is not told of any more";

const LINKS_LEFT: &str = "the thread of the connections to other nodes did not end within 2 s: it is left behind, and what \
                          waits for them is lost";

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use binrush_engine::cluster::config::{SyncLimits, Timers};
    use binrush_engine::cluster::driver::{Orders, Told};
    use binrush_engine::dispatch::NameId;
    use binrush_engine::link::LinkConfig;
    use std::any::Any;
    use std::sync::Mutex;

    /// Node 1 of a cluster, with node 2 at `neighbour`.
    pub(in crate::serve) fn cluster(id: i32, neighbour: &str) -> ClusterConfig {
        let node = |id, ip: &str| NodeConfig {
            id,
            url: format!("bin:{ip}:5555").parse().unwrap(),
            url_text: format!("bin:{ip}:5555"),
            sip_addr: String::new(),
            priority: 3,
            retries: 3,
            is_seed: false,
            release: None,
        };
        ClusterConfig {
            id,
            me: node(1, "127.0.0.1"),
            neighbours: vec![node(2, neighbour)],
            timers: Timers::default(),
            release: binrush_wire::Release::V3_6,
            learn: Vec::new(),
            capabilities: Vec::new(),
            tags: vec!["vip".to_owned()],
            sync: SyncLimits::default(),
        }
    }

    /// Shards that have ended.
    struct Nobody;

    impl Orders for Nobody {
        fn owners(&self) -> u16 {
            1
        }

        fn tell(&self, _: u16, _: NameId, _: Box<dyn Any + Send>) -> Told {
            Told::Ended
        }
    }

    fn seats() -> Seats {
        let configs = vec![cluster(1, "127.0.0.2")];
        let losses = Losses::new(&configs);
        let tags = vec![(1, configs[0].tags.clone())];
        let links = Links::start(&LinksConfig::default()).unwrap();
        let plan = ClusterPlan::new(configs, 1);
        let cluster = plan
            .start(Arc::new(Nobody), links.clone(), LinkTerms::default())
            .unwrap();
        let (_, told) = mpsc::channel();
        Seats {
            events: cluster.events(),
            cluster,
            links,
            tls: None,
            warnings: Warnings {
                told,
                missed: Arc::default(),
            },
            log: NoticeLog::default(),
            losses,
            tags,
        }
    }

    #[test]
    fn a_thread_that_has_ended_is_trouble_and_not_a_process_without_clusters() {
        let seats = seats();
        let well = seats.look();
        assert_eq!((well.facts.len(), well.trouble), (1, None));
        seats.cluster.stop();
        let ended = seats.look();
        assert!(ended.facts.is_empty());
        assert!(ended.trouble.is_some_and(|told| told.contains("ended")));
        let asked = seats.cluster.request_sync(1, "x").unwrap_err();
        assert!(asked.to_string().contains("ended"), "{asked}");
        seats.links.stop(Duration::ZERO);
        let told = seats.asked().facts().unwrap_err();
        assert!(told.contains("ended"), "{told}");
    }

    #[test]
    fn links_that_have_ended_are_trouble_too() {
        let seats = seats();
        seats.links.stop(Duration::ZERO);
        assert_eq!(seats.look().trouble.as_deref(), Some(LINKS_ENDED));
        assert!(
            !seats.look().facts.is_empty(),
            "what is known is shown still"
        );
        // Who asks at the control socket sees no table of nodes that are all well.
        let asked = seats.asked();
        assert_eq!(asked.facts(), Err(LINKS_ENDED.to_owned()));
        assert_eq!(asked.request_sync(1, "x"), Err(LINKS_ENDED.to_owned()));
        assert_eq!(seats.leave(), [""; 0]);
    }

    #[test]
    fn a_thread_that_does_not_go_on_is_trouble_and_is_left_behind_at_the_end() {
        let seats = seats();
        let gate = Arc::new(Mutex::new(()));
        let waits = Arc::clone(&gate);
        let held = gate.lock().unwrap();
        let mut config = LinkConfig::new("bin:127.0.0.1:9".parse().unwrap());
        config.on_change = Some(Arc::new(move |_| drop(waits.lock().unwrap())));
        seats.links.add(config).unwrap();
        let asked = seats.asked();
        let begin = Instant::now();
        while asked.facts().is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(20), "nobody sees it");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(asked.facts(), Err(LINKS_HANG.to_owned()));
        assert_eq!(seats.look().trouble.as_deref(), Some(LINKS_HANG));
        assert_eq!(seats.leave(), [LINKS_LEFT]);
        drop(held);
    }

    #[test]
    fn a_warning_that_found_no_room_is_counted() {
        let mut seats = seats();
        seats.warnings.missed.store(3, Ordering::Relaxed);
        seats.news(None);
        assert!(seats.look().left_out.contains(&("warning", 3)));
        seats.leave();
    }

    #[test]
    fn who_listens_for_tls_can_connect_to_nodes_that_are_learned() {
        let mut one = cluster(1, "127.0.0.2");
        assert!(!wants_tls(std::slice::from_ref(&one), true));
        one.me.url = "bins:127.0.0.1:5556".parse().unwrap();
        assert!(wants_tls(std::slice::from_ref(&one), true));
        assert!(!wants_tls(std::slice::from_ref(&one), false));
        one.neighbours[0].url = "bins:127.0.0.2:5556".parse().unwrap();
        assert!(wants_tls(&[one], false), "it is told what is missing");
    }
}
