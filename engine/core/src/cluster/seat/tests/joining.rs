//! The least that nodes say to each other until one has the other's records: mesh and copies together.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::cluster::facts::CopyState;
use crate::cluster::message::NodeCapabilities;
use crate::cluster::replica::Withheld;
use crate::cluster::session::Session;

const NAME: &str = "dialog-dlg-repl";

/// One capability, whose records are synced.
fn syncing(neighbours: &[i32]) -> ClusterConfig {
    ClusterConfig {
        capabilities: vec![CapabilityConfig {
            name: NAME.to_owned(),
            sync: true,
        }],
        ..cluster(neighbours)
    }
}

fn tells(id: i32, seq: i32, synced: bool) -> Internal {
    Internal::Capabilities {
        stamp: Some(stamp(seq)),
        nodes: vec![NodeCapabilities {
            id,
            capabilities: vec![(NAME.as_bytes().to_vec(), synced)],
        }],
        require_reply: false,
        path: vec![id],
    }
}

fn capability() -> Vec<u8> {
    NAME.as_bytes().to_vec()
}

/// One record, as it stands in a SYNC packet: length, marker, data.
fn chunk(data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).expect("short");
    [&len.to_le_bytes(), &101_010_101_u32.to_le_bytes(), data].concat()
}

impl Lone {
    fn session_moved(&mut self) {
        let now = self.now();
        self.seat.session_moved(now, &mut self.around);
    }

    fn copy(&self) -> CopyState {
        self.seat.facts(self.now()).capabilities[0].state
    }

    /// The session that doors were shown last.
    fn session(&self) -> Arc<Session> {
        let shown = self.around.rosters.last().expect("shown");
        Arc::clone(shown.sessions.first().expect("a sync is under way"))
    }

    /// Does what gates and doors do in a sync of one chunk from node 2.
    fn sync_from_2(&mut self) {
        self.says(2, pong(&[]));
        self.says(2, tells(2, 0, true));
        // The others may be better donors, and have a moment to say so.
        self.wait(1_000);
        let session = self.session();
        assert_eq!((session.donor, self.copy()), (2, CopyState::Syncing));
        assert!(
            !self.kinds_to(2).contains(&Kind::SyncRequest),
            "before the gates hold"
        );
        session.shards[0].held.store(true, Ordering::Release);
        self.session_moved();
        self.wait(200);
        let request = Extra::SyncRequest {
            capability: capability(),
        };
        let request = Said::Extra(Trailer::new(CLUSTER, 1, 2), request);
        assert_eq!(self.said_to(2), [request]);
        session.door.packets.store(1, Ordering::Release);
        session.door.connection.store(2, Ordering::Release);
        session.door.cut.store(1, Ordering::Release);
        session.shards[0].applied.store(1, Ordering::Release);
        self.session_moved();
        let total = Some(1);
        let capability = capability();
        self.writes(2, Extra::SyncEnd { capability, total });
        self.wait(0);
        let released = self.around.orders.iter();
        let released = released.filter(|order| matches!(order, GateOrder::Release(..)));
        assert_eq!(released.count(), 1);
        session.shards[0].records_after.store(1, Ordering::Release);
        session.shards[0].released.store(true, Ordering::Release);
        self.session_moved();
        self.wait(0);
    }
}

#[test]
fn a_neighbour_that_says_no_more_than_pong_is_up_and_stays_so() {
    let mut lone = Lone::new(cluster_with_capability(&[2]));
    lone.wait(30);
    assert_eq!(lone.said_to(2), [Said::Internal(1, ping(true))]);
    lone.says(2, pong(&[]));
    assert_eq!(lone.kinds_to(2), [Kind::FullTopology, Kind::Capabilities]);
    for _ in 0..100 {
        lone.wait(3_990);
        assert_eq!(lone.said_to(2), [Said::Internal(1, ping(false))]);
        lone.says(2, pong(&[]));
        lone.wait(10);
    }
    assert_eq!(lone.node(2).downs, 0);
}

#[test]
fn a_sync_is_asked_for_when_gates_hold_and_what_came_of_it_is_told_to_all() {
    let mut lone = Lone::new(syncing(&[2, 3]));
    lone.says(3, pong(&[]));
    lone.forget();
    lone.sync_from_2();
    assert_eq!(lone.copy(), CopyState::Verified);
    let shown = lone.around.rosters.last().expect("shown");
    assert!(shown.sessions.is_empty(), "doors were told that it is over");
    for neighbour in [2, 3] {
        let said = lone.said_to(neighbour);
        let Some(Said::Internal(1, Internal::Capabilities { nodes, .. })) = said.last() else {
            panic!("{neighbour}: {said:?}");
        };
        assert_eq!(nodes[0].capabilities, [(capability(), true)]);
    }
    assert_eq!(lone.counts(Kind::SyncRequest), (0, 0, 1));
    assert_eq!(lone.counts(Kind::SyncEnd), (1, 0, 0));
}

#[test]
fn a_request_is_answered_with_records_and_an_end_behind_bulk_and_both_are_counted() {
    let mut lone = Lone::new(syncing(&[2, 3]));
    lone.says(3, pong(&[]));
    lone.sync_from_2();
    lone.forget();
    let wanted = lone.around.slices.len();
    lone.writes(
        3,
        Extra::SyncRequest {
            capability: capability(),
        },
    );
    lone.wait(0);
    let request = lone.around.slices[wanted..]
        .first()
        .expect("asked for")
        .clone();
    let chunks = chunk(b"record");
    let slice = Slice {
        left_out: 0,
        withheld: Withheld::default(),
        cluster: CLUSTER,
        donation: request.donation,
        shard: 0,
        ends: vec![u32::try_from(chunks.len()).expect("short")],
        chunks,
        data_version: Some(4),
        next: None,
    };
    let now = lone.now();
    lone.seat.slice(now, slice, &mut lone.around);
    lone.wait(10);
    let lanes: Vec<_> = lone
        .around
        .sent
        .iter()
        .map(|(to, lane, _)| (*to, *lane))
        .collect();
    assert_eq!(lanes, [(3, Lane::Bulk); 2]);
    let said = lone.said_to(3);
    let [
        Said::Sync,
        Said::Extra(trailer, Extra::SyncEnd { total, .. }),
    ] = &*said
    else {
        panic!("{said:?}");
    };
    assert_eq!((*trailer, *total), (Trailer::new(CLUSTER, 1, 3), Some(1)));
    assert_eq!(lone.counts(Kind::Sync), (0, 0, 1));
    assert_eq!(lone.counts(Kind::SyncEnd), (1, 0, 1));
    assert_eq!(lone.counts(Kind::SyncRequest), (1, 0, 1));
}

#[test]
fn a_request_that_cannot_be_sent_takes_the_link_down_and_the_sync_with_it() {
    let mut lone = Lone::new(syncing(&[2]));
    lone.says(2, pong(&[]));
    lone.says(2, tells(2, 0, true));
    lone.wait(0);
    let session = lone.session();
    session.shards[0].held.store(true, Ordering::Release);
    lone.around.unreachable.insert(2);
    lone.session_moved();
    lone.wait(200);
    assert_eq!(lone.link(2), LinkState::RestartPinging);
    assert_eq!(lone.counts(Kind::SyncRequest), (0, 0, 0));
    let released = lone.around.orders.iter();
    let released = released.filter(|order| matches!(order, GateOrder::Release(..)));
    assert_eq!(released.count(), 1, "live packets flow again");
}

#[test]
fn capabilities_told_before_the_link_is_up_count_when_it_is() {
    let mut lone = Lone::new(syncing(&[2]));
    lone.says(2, tells(2, 0, true));
    lone.wait(0);
    assert_eq!(lone.copy(), CopyState::Unverified);
    lone.says(2, pong(&[]));
    lone.wait(0);
    assert_eq!(lone.session().donor, 2);
}

#[test]
fn names_that_are_no_text_are_ignored() {
    let mut lone = Lone::up(syncing(&[2]));
    let capability = vec![0xff, 0x00];
    lone.writes(
        2,
        Extra::SyncRequest {
            capability: capability.clone(),
        },
    );
    let total = Some(1);
    lone.writes(2, Extra::SyncEnd { capability, total });
    assert_eq!(lone.counts(Kind::SyncRequest), (0, 1, 0));
    assert_eq!(lone.counts(Kind::SyncEnd), (0, 1, 0));
}
