//! The lines of the intervals, the page for a scraper and the totals say the same.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use crate::http::exposition::Exposition;
use crate::made::legacy;
use crate::process::{json, wait_until};
use crate::receiver::{Receiver, count};

#[test]
fn intervals_metrics_and_totals_agree_to_the_last_datagram() {
    let args = ["--shards", "2", "--stats", "1", "--http", "127.0.0.1:0"];
    let allow = ["--allow", "127.0.0.1"];
    let mut receiver = Receiver::start("127.0.0.1", &[&args[..], &allow].concat());
    let mut intervals = Vec::new();
    let mut sent = 0;
    // Some of everything in each of three seconds.
    for round in 0..3 {
        sent += send_mix(&receiver, round);
        loop {
            let event = json(&receiver.process.line());
            if event["event"] != "interval" {
                continue;
            }
            intervals.push(event);
            if sum(&intervals, &["received"]) == sent && acl(&intervals) == STRANGERS * (round + 1)
            {
                break;
            }
        }
    }
    let expected = f64::from(u32::try_from(sent).expect("a few"));
    wait_until("the page to be up to date", || {
        page(&receiver).sum("binrush_datagrams_total", &[]) == expected
    });
    let page = page(&receiver);
    let (rest, total) = receiver.stop_after("TERM");
    intervals.extend(rest.into_iter().filter(|line| line["event"] == "interval"));

    for path in [
        &["received"][..],
        &["bytes"],
        &["batches"],
        &["busy_ns"],
        &["names", "dialog", "received"],
        &["names", "ul", "handled"],
        &["names", "ul", "types", "AOR_INSERT"],
        &["names", "dialog", "types", "DELETED"],
        &["kernel_drops", "acl"],
        &["kernel_drops", "buffer"],
        &["unknown_names", "acme"],
    ] {
        assert_eq!(sum(&intervals, path), at(&total, path), "{path:?} {total}");
    }
    let outcomes = total["outcomes"].as_object().expect("counts");
    assert_eq!(outcomes.len(), 5, "{total}");
    for (outcome, all) in outcomes {
        let all = all.as_u64().expect("a count");
        assert_eq!(sum(&intervals, &["outcomes", outcome]), all, "{outcome}");
        let labels = [("outcome", outcome.as_str())];
        assert_eq!(
            page.sum("binrush_datagrams_total", &labels),
            all as f64,
            "{outcome}"
        );
    }
    for shard in 0..2 {
        let of = |event: &Value| count(&event["shards"][shard], "received");
        let all = of(&total);
        assert!(all > 0, "{total}");
        assert_eq!(intervals.iter().map(of).sum::<u64>(), all, "{shard}");
        let shard = shard.to_string();
        let labels = [("shard", shard.as_str())];
        let shown = page.sum("binrush_received_datagrams_total", &labels);
        assert_eq!(shown, all as f64, "{shard}");
    }
    let (name, reason) = (
        "binrush_kernel_dropped_datagrams_total",
        [("reason", "acl")],
    );
    assert_eq!(
        page.sum(name, &reason),
        at(&total, &["kernel_drops", "acl"]) as f64
    );
    assert_eq!(
        page.sum("binrush_settle_seconds_count", &[]),
        at(&total, &["received"]) as f64
    );
    assert_eq!(at(&total, &["received"]), sent);
}

/// Sends packets and garbage, and some from where nobody may send from; how many of those that are heard.
fn send_mix(receiver: &Receiver, round: u64) -> u64 {
    let stranger = UdpSocket::bind("127.0.0.2:0").expect("loopback");
    let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
    (0..STRANGERS).for_each(|_| assert!(stranger.send_to(&insert, receiver.addr).is_ok()));
    let mut datagrams = vec![
        b"garbage that is long enough".to_vec(),
        b"short".to_vec(),
        legacy(b"acme", 1, &[b"pipe"]),
        legacy(b"ul", 77, &[b"location"]),
    ];
    for n in 0..40 {
        let key = format!("{n}-{round}");
        datagrams.push(legacy(b"dialog", 3, &[key.as_bytes(), b"from", b"to"]));
        datagrams.push(legacy(b"ul", 1, &[b"location", key.as_bytes()]));
    }
    receiver.send_all(&datagrams);
    datagrams.len() as u64
}

fn acl(events: &[Value]) -> u64 {
    sum(events, &["kernel_drops", "acl"])
}

/// The sum of what stands at `path` in each of `events`.
fn sum(events: &[Value], path: &[&str]) -> u64 {
    events.iter().map(|event| at(event, path)).sum()
}

/// What is not there is zero.
fn at(event: &Value, path: &[&str]) -> u64 {
    let found = path.iter().try_fold(event, |value, key| value.get(key));
    found.map_or(0, |value| value.as_u64().expect("a count"))
}

/// What a scraper is told now.
fn page(receiver: &Receiver) -> Exposition {
    let http = receiver.ready["http"].as_str().expect("an address");
    let mut client = TcpStream::connect(http).expect("it listens");
    let limit = Some(Duration::from_secs(60));
    client.set_read_timeout(limit).expect("not zero");
    let request = b"GET /metrics HTTP/1.0\r\n\r\n";
    client.write_all(request).expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it answers");
    let (_, page) = answer.split_once("\r\n\r\n").expect("head and body");
    Exposition::parse(page).unwrap_or_else(|error| panic!("{error}\n{page}"))
}

/// Datagrams of each round from a source that is not allowed.
const STRANGERS: u64 = 3;
