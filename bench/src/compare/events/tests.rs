//! What is told, and that it adds up.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::compare::report::Identity;

const LOAD: Load = Load {
    events_per_second: 100_000.0,
    every: 5,
};

fn sample(shard_ns: u64) -> Sample {
    Sample {
        drained: Drained {
            drains: 10,
            packets: 1010,
            refreshes: 200,
            shard_ns: shard_ns + 400,
            idle_ns: 400,
            teller_ns: 400_000,
            wall: Duration::from_millis(2),
        },
        sent: 2010,
        received: 2010,
        refreshes: 400,
        ..Sample::default()
    }
}

fn totals(raised: u64, dropped: u64, sent: u64) -> Value {
    json!({ "events": {
        "raised": raised, "dropped": dropped, "balanced": true, "subscribers": [{ "dropped": 0, "sent": sent }],
    } })
}

fn row(told: Told, samples: &[Sample]) -> Row {
    Row {
        load: LOAD,
        told,
        identity: Identity {
            path: None,
            version: None,
            backend: "recvmmsg",
            gro: Some(false),
        },
        samples: samples.to_vec(),
    }
}

#[test]
fn who_tells_is_configured_with_the_subscriber_in_its_form() {
    let at = SocketAddr::from(([127, 0, 0, 1], 4711));
    let config = Told::JsonRpc.config(Some(at));
    assert!(
        config.contains("\"E_UL_CONTACT_UPDATE udp:127.0.0.1:4711 86400 jsonrpc\""),
        "{config}"
    );
    let silent = Told::Nobody.config(None);
    assert_eq!(silent, "loadmodule \"event_datagram.so\"\n");
    assert_eq!(
        (Told::Control.config(None), Told::Without.config(None)),
        (silent, String::new())
    );
}

#[test]
fn drains_hold_so_many_events_and_those_of_the_control_more_at_the_same_pace() {
    let (plan, control) = (LOAD.plan(1.0, 0.0), LOAD.plan(1.0, 2.0));
    assert_eq!((plan.packets, plan.at_once), (500_000, 10_000));
    assert_eq!((control.packets, control.at_once), (510_000, 10_200));
    let seconds = |plan: Plan| plan.packets as f64 / 5.0 / plan.refreshes_per_second;
    assert!((seconds(plan) - 1.0).abs() < 1e-9 && (seconds(control) - 1.0).abs() < 1e-9);
}

#[test]
fn events_that_do_not_add_up_are_no_measurement() {
    let heard = |read, dropped, strange| Heard {
        read,
        dropped,
        strange,
    };
    let check = |lost: u64, heard, totals: Value| {
        let sample = Sample {
            received: 2010 - lost,
            heard,
            ..sample(1_000_000)
        };
        sample.with_totals(Told::Text, &totals).is_ok()
    };
    assert!(check(0, heard(399, 0, 0), totals(400, 1, 399)));
    assert!(check(0, heard(393, 7, 0), totals(400, 0, 400)));
    // A packet that was lost, one event too many, one that nobody knows of, one that is not in the books, and one that is something else.
    assert!(!check(1, heard(400, 0, 0), totals(400, 0, 400)));
    assert!(!check(0, heard(401, 0, 0), totals(401, 0, 401)));
    assert!(!check(0, heard(399, 0, 0), totals(400, 0, 400)));
    assert!(!check(0, heard(400, 0, 0), totals(400, 1, 400)));
    assert!(!check(0, heard(400, 0, 1), totals(400, 0, 400)));
    let quiet = sample(1_000_000);
    let nobody = json!({ "events": { "raised": 0, "dropped": 0 } });
    assert!(quiet.with_totals(Told::Without, &json!({})).is_ok());
    for told in [Told::Nobody, Told::Control] {
        assert!(quiet.with_totals(told, &nobody).is_ok());
        assert!(quiet.with_totals(told, &totals(1, 0, 1)).is_err());
    }
    assert!(quiet.with_totals(Told::Without, &nobody).is_err());
}

#[test]
fn growth_is_to_who_tells_nobody_in_the_same_round() {
    let mut rows = [
        row(Told::Nobody, &[sample(1_000_000), sample(2_000_000)]),
        row(Told::Text, &[sample(1_020_000), sample(2_080_000)]),
    ];
    for sample in &mut rows[1].samples {
        sample.raised = 400;
    }
    let told: Vec<Value> = json(&rows).collect();
    assert_eq!(told[0]["growth_percent"], Value::Null);
    assert_eq!(told[0]["ns_per_packet"]["low"], 1000.0);
    let growth = json!({ "median": 3.0, "low": 2.0, "high": 4.0 });
    assert_eq!(told[1]["growth_percent"], growth);
    assert_eq!(told[1]["ns_over_silent"]["median"], 50.0);
    assert_eq!(told[1]["teller_ns_per_event"]["median"], 2000.0);
    assert_eq!(told[1]["events_per_second_reached"]["median"], 100_000.0);
    let text = text(&rows);
    assert!(
        text.contains("100000 events/s, one of 5 packets") && text.contains("3.00 [2.00 4.00]"),
        "{text}"
    );
    assert_eq!(warnings(&rows).count(), 0);
    rows[1].samples[0].drained.wall = Duration::from_millis(20);
    rows[1].samples[1].drained.wall = Duration::from_millis(20);
    let warnings: Vec<String> = warnings(&rows).collect();
    assert!(
        matches!(&warnings[..], [only] if only.starts_with("text, events") && only.contains("10000 events came")),
        "{warnings:?}"
    );
}

#[test]
fn what_the_control_drains_besides_is_growth_that_is_told_when_it_does_not_show() {
    let silent = row(Told::Nobody, &[sample(1_000_000)]);
    let control = |shard_ns| {
        let mut sample = sample(shard_ns);
        sample.uncounted_percent = 2.0;
        row(Told::Control, &[sample])
    };
    // As many packets at the same price, fewer of which count.
    let rows = [silent.clone(), control(1_000_000)];
    let told: Vec<Value> = json(&rows).collect();
    assert_eq!(
        (
            &told[1]["growth_percent_known"],
            &told[1]["growth_percent"]["median"]
        ),
        (&json!(2.0), &json!(2.0))
    );
    assert!(told[0]["growth_percent_known"].is_null());
    assert_eq!(warnings(&rows).count(), 0);
    // Time that is the same whatever there was to do, as that of a shard that never sleeps.
    let rows = [silent, control(980_400)];
    let told: Vec<String> = warnings(&rows).collect();
    assert!(
        matches!(&told[..], [only] if only.contains("2.00 % are known to have been added, and 0.00 % show")),
        "{told:?}"
    );
}
