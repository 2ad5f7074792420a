//! What is sent, expected and refused.

use super::*;
use serde_json::json;

fn kept(keeper: Option<Keeper>) -> Kept {
    Kept {
        way: Way::Stream,
        keeper,
        readers: Some(1),
    }
}

#[test]
fn who_counts_is_in_no_cluster_and_who_logs_is_told_where() {
    let listen = SocketAddr::from(([127, 77, 0, 1], 5566));
    let folders = Folders::make(None).unwrap();
    let config = |keeper, folders| kept(Some(keeper)).config(listen, folders);
    let counts = config(Keeper::Counts, None);
    assert!(!counts.contains("cluster") && counts.contains("\"readers\", 1)"));
    let memory = config(Keeper::Memory, None);
    for setting in [
        "cluster_id=1,node_id=1,url=bin:127.77.0.1:5566",
        "cluster_id=1,node_id=2,url=bin:127.77.0.2:9",
    ] {
        assert!(memory.contains(setting), "{setting} in {memory}");
    }
    assert!(!memory.contains("_dir"));
    let datagrams = |keeper| {
        let kept = Kept {
            way: Way::Datagrams,
            keeper: Some(keeper),
            readers: None,
        };
        kept.config(listen, None)
    };
    // What is said outside of a cluster is kept by who is in none.
    assert!(datagrams(Keeper::Counts).contains("cluster_id=1"));
    assert!(!datagrams(Keeper::Memory).contains("cluster_id=1"));
    let log = config(Keeper::LogTmpfs, Some(&folders));
    assert!(log.contains("\"state_dir\", \"/dev/shm/") && log.contains("\"runtime_dir\", \""));
}

#[test]
fn who_does_not_hold_what_was_sent_is_not_measured() {
    let check = |keeper, phase, records| {
        let sample = Sample {
            contacts: 10,
            records,
            ..Sample::default()
        };
        kept(keeper).check(phase, &sample).is_ok()
    };
    let memory = Some(Keeper::Memory);
    assert!(check(memory, Phase::Insert, Some(20)));
    assert!(check(memory, Phase::Delete, Some(0)));
    for (phase, records) in [
        (Phase::Insert, Some(19)),
        (Phase::Refresh, None),
        (Phase::Delete, Some(1)),
    ] {
        assert!(!check(memory, phase, records));
    }
    assert!(check(None, Phase::Insert, None) && check(Some(Keeper::Counts), Phase::Insert, None));
}

#[test]
fn who_refused_some_or_lost_some_is_not_measured() {
    let engine =
        |received, handled| json!({ "received": received, "outcomes": { "handled": handled } });
    assert!(check_totals(&engine(5, 5), 5, 500).is_ok());
    assert!(check_totals(&engine(5, 4), 5, 500).is_err());
    assert!(check_totals(&engine(4, 4), 5, 500).is_err());
    assert!(check_totals(&json!({ "bytes": 500 }), 5, 500).is_ok());
    assert!(check_totals(&json!({ "bytes": 499 }), 5, 500).is_err());
}

#[test]
fn what_comes_between_two_looks_has_room_beyond_the_limit() {
    for rcvbuf in [106_496, 4 << 20, 64 << 20] {
        let beyond = 2 * rcvbuf as u64 - drain::queue_limit(rcvbuf);
        let look = u64::from(per_look(Way::Datagrams, rcvbuf)) * IN_QUEUE as u64;
        assert!(look < beyond, "{rcvbuf}");
    }
    assert_eq!(per_look(Way::Stream, 4 << 20), PER_LOOK);
}

#[test]
fn the_sender_comes_from_where_its_node_is() {
    let listener = TcpListener::bind((RECEIVER_IP, 0)).unwrap();
    let stream = connection(listener.local_addr().unwrap()).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::V4(SENDER_IP));
    assert!(free_port().unwrap() > 0);
}
