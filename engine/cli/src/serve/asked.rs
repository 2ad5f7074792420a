//! What a server answers at its control socket, whether it is in a cluster or not.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use binrush_engine::cluster::facts::ClusterFacts;
use binrush_engine::event::Bus;
use binrush_engine::{Outcome, Snapshot};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Errands, cluster, events, handover};
use crate::control::commands::{Command, Reply};
use crate::control::message::{RaiseEvent, Raised, Subscribe, SubscribersList};
use crate::control::records::{Page, Question, Table};
use crate::control::{Answers, Control};
use crate::tally;

use tables::Lost;

pub(super) use tables::Tables;

/// The records of its shards.
mod tables;

/// A control socket that is answered. Dropping it removes the socket.
pub(super) struct Asked {
    control: Control,
    /// What connections came to.
    peers: Arc<Mutex<Value>>,
    /// What came and was lost here.
    lost: Arc<Mutex<Lost>>,
    /// Who asks for the sockets.
    heirs: Receiver<UnixStream>,
}

/// On the thread that answers.
struct Known {
    /// `None`: this process is in none.
    clusters: Option<cluster::Asked>,
    tables: Tables,
    /// `None`: nobody is told of events.
    bus: Option<Bus>,
    /// `None`: there are no modules from shared libraries.
    errands: Option<Errands>,
    peers: Arc<Mutex<Value>>,
    lost: Arc<Mutex<Lost>>,
    heirs: SyncSender<UnixStream>,
}

impl Asked {
    /// # Errors
    /// Those of [`Control::start`].
    pub(super) fn start(
        path: &Path,
        clusters: Option<cluster::Asked>,
        tables: Tables,
        (bus, errands): (Option<Bus>, Option<Errands>),
    ) -> anyhow::Result<Self> {
        let peers = Arc::new(Mutex::new(tally::streams::json(&Default::default())));
        let lost = Arc::default();
        let (heirs_tx, heirs) = mpsc::sync_channel(1);
        let known = Arc::new(Known {
            clusters,
            tables,
            bus,
            errands,
            peers: Arc::clone(&peers),
            lost: Arc::clone(&lost),
            heirs: heirs_tx,
        });
        let control = Control::start(path, known)?;
        Ok(Self {
            control,
            peers,
            lost,
            heirs,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.control.path()
    }

    /// Somebody who asks for the sockets, if there is one.
    pub(super) fn heir(&self) -> Option<UnixStream> {
        self.heirs.try_recv().ok()
    }

    /// Answers with `counts` from now on.
    pub(super) fn show(&self, counts: &Snapshot) {
        let peers = tally::streams::json(&counts.streams);
        *self.peers.lock().unwrap_or_else(PoisonError::into_inner) = peers;
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = lost(counts);
    }
}

impl Answers for Known {
    fn clusters(&self) -> Result<Vec<ClusterFacts>, String> {
        let clusters = self.clusters.as_ref();
        clusters.map_or(Ok(Vec::new()), cluster::Asked::facts)
    }

    fn peers(&self) -> Value {
        let peers = self.peers.lock();
        peers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn request_sync(&self, cluster: i32, capability: &str) -> Result<(), String> {
        match &self.clusters {
            Some(clusters) => clusters.request_sync(cluster, capability),
            None => Err("this process is in no cluster".to_owned()),
        }
    }

    /// Records are told also where nobody knows what the copy is worth.
    fn tables(&self) -> Vec<Table> {
        let clusters = self.clusters().unwrap_or_default();
        let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        self.tables.facts(&clusters, lost)
    }

    fn records(&self, question: &Question) -> Result<Page<Box<RawValue>>, String> {
        self.tables.page(question)
    }

    fn subscribe(&self, asked: &Subscribe) -> Result<&'static str, String> {
        events::subscribe(self.bus()?, asked)
    }

    fn subscribers(&self, asked: &SubscribersList) -> Result<Value, String> {
        events::subscribers(self.bus()?, asked)
    }

    fn events(&self) -> Result<Value, String> {
        self.bus().map(events::events)
    }

    fn raise(&self, asked: &RaiseEvent) -> Result<Raised, String> {
        events::raise(self.bus()?, asked)
    }

    fn commands(&self) -> Vec<Command> {
        let commands = self.errands.iter().flat_map(Errands::commands);
        commands
            .map(|(name, help)| Command { name, help })
            .collect()
    }

    fn run_command(&self, name: String, params: Vec<String>) -> Result<Reply, String> {
        let Some(errands) = &self.errands else {
            return Err("no modules are loaded, and commands are theirs".to_owned());
        };
        let reply = errands.run(name, params)?;
        Ok(Reply {
            code: reply.code,
            text: reply.to_string(),
            tree: json!(reply),
        })
    }

    fn hand_over(&self, stream: UnixStream, language: u32) -> Result<(), String> {
        if language != handover::LANGUAGE {
            return Err(format!(
                "this process hands over in language {}, and was asked in {language}: stop it and start the other one",
                handover::LANGUAGE
            ));
        }
        let sent = self.heirs.try_send(stream);
        sent.map_err(|_| "another handover is under way: ask again when it is over".to_owned())
    }
}

impl Known {
    fn bus(&self) -> Result<&Bus, String> {
        self.bus.as_ref().ok_or_else(|| {
            "this server tells nobody of events: loadmodule \"event_datagram.so\" is not in its configuration".to_owned()
        })
    }
}

/// What nodes sent and no handler saw: whose it was nobody knows.
fn lost(counts: &Snapshot) -> Lost {
    let outcomes = [Outcome::MailboxFull, Outcome::Truncated, Outcome::BadCrc];
    let outcomes = outcomes.map(|outcome| counts.total.outcomes[outcome as usize]);
    Lost {
        datagrams: counts.kernel.buffer + outcomes.iter().sum::<u64>(),
        connections: cluster::lost_with(&counts.streams.total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::ask;
    use crate::control::message::Request;
    use crate::control::tests::Folder;

    #[test]
    fn connections_are_told_without_a_cluster_and_of_clusters_that_there_is_none() {
        let folder = Folder::new();
        let path = folder.socket();
        let asked = Asked::start(&path, None, Tables::none(), (None, None)).unwrap();
        let peers = || ask(&path, &Request::Peers {}).unwrap();
        assert!(peers()["peers"].is_object(), "also before the first look");
        let mut counts = Snapshot::default();
        counts.streams.accept.arrived = 7;
        asked.show(&counts);
        assert_eq!(
            peers()["peers"],
            json!(tally::streams::json(&counts.streams))
        );
        let all = ask(&path, &Request::Clusters { cluster: None }).unwrap();
        assert_eq!(all["clusters"], json!([]));
        let one = ask(&path, &Request::Clusters { cluster: Some(3) }).unwrap_err();
        let told = "this process is in no cluster 3, nor in any other";
        assert_eq!(one.to_string(), told);
        let request = Request::Sync {
            cluster: 3,
            capability: "x".into(),
        };
        let sync = ask(&path, &request).unwrap_err();
        assert_eq!(sync.to_string(), "this process is in no cluster");
        assert_eq!(
            ask(&path, &Request::Tables {}).unwrap()["tables"],
            json!([])
        );
    }
}
