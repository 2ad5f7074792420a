//! What is told, and that it adds up.

use serde_json::json;

use super::*;
use crate::compare::report::Identity;

const LOAD: Load = Load {
    events_per_second: 100_000.0,
    every: 5,
};

fn sample(shard_ns: u64) -> Sample {
    Sample {
        sent: 1000,
        received: 1000,
        shard_ns,
        teller_ns: 400_000,
        refreshes: 200,
        ..Sample::default()
    }
}

fn totals(raised: u64, dropped: u64, sent: u64) -> Value {
    json!({ "events": {
        "raised": raised, "dropped": dropped, "balanced": true, "subscribers": [{ "dropped": 0, "sent": sent }],
    } })
}

#[test]
fn who_tells_is_configured_with_the_subscriber_in_its_form() {
    let at = SocketAddr::from(([127, 0, 0, 1], 4711));
    let config = Told::JsonRpc.config(at);
    assert!(
        config.contains("\"E_UL_CONTACT_UPDATE udp:127.0.0.1:4711 86400 jsonrpc\""),
        "{config}"
    );
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
            received: 1000 - lost,
            heard,
            ..sample(1_000_000)
        };
        sample.with_totals(Told::Text, &totals).is_ok()
    };
    assert!(check(0, heard(199, 0, 0), totals(200, 1, 199)));
    assert!(check(3, heard(190, 7, 0), totals(197, 0, 197)));
    // One too many, one that nobody knows of, one that is not in the books, and one that is something else.
    assert!(!check(0, heard(201, 0, 0), totals(201, 0, 201)));
    assert!(!check(2, heard(197, 0, 0), totals(197, 0, 197)));
    assert!(!check(0, heard(200, 0, 0), totals(200, 1, 200)));
    assert!(!check(0, heard(199, 0, 0), totals(200, 0, 200)));
    assert!(!check(0, heard(200, 0, 1), totals(200, 0, 200)));
    let silent = sample(1_000_000);
    assert!(silent.with_totals(Told::Nobody, &json!({})).is_ok());
    let told = silent.with_totals(Told::Nobody, &totals(0, 0, 0));
    assert!(told.is_err());
}

#[test]
fn growth_is_to_who_tells_nobody_in_the_same_round() {
    let row = |told, samples: &[u64]| Row {
        load: LOAD,
        told,
        identity: Identity {
            path: None,
            version: None,
            backend: "recvmmsg",
            gro: Some(false),
        },
        samples: samples.iter().map(|ns| sample(*ns)).collect(),
    };
    let mut rows = vec![
        row(Told::Nobody, &[1_000_000, 2_000_000]),
        row(Told::Text, &[1_020_000, 2_080_000]),
    ];
    rows[1].samples[0].raised = 200;
    rows[1].samples[1].unsent = 5;
    let told: Vec<Value> = json(&rows).collect();
    assert_eq!(told[0]["growth_percent"], Value::Null);
    let growth = json!({ "median": 3.0, "low": 2.0, "high": 4.0 });
    assert_eq!(told[1]["growth_percent"], growth);
    assert_eq!(told[1]["teller_ns_per_event"]["median"], 2000.0);
    assert_eq!(told[1]["packets_per_second"], 500_000.0);
    let text = text(&rows);
    assert!(
        text.contains("100000 events/s among 500000 packets/s")
            && text.contains("3.00 [2.00 4.00]"),
        "{text}"
    );
    let warnings: Vec<String> = warnings(&rows).collect();
    assert!(
        matches!(&warnings[..], [only] if only.starts_with("text, events") && only.contains("5 packets")),
        "{warnings:?}"
    );
}
