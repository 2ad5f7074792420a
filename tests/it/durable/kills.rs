use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use binrush_wire::Release;

use super::kills;
use super::served::{HOST, Home};
use super::traffic::Traffic;
use crate::dice::Dice;
use crate::process::skip;

#[test]
fn what_the_rings_say_at_a_kill_is_what_the_next_start_recovers() {
    let home = Home::new("durable-kills").with_rings(16 << 20);
    let mut dice = Dice::new(11);
    let mut traffic = [Traffic::new(1, 1, 0), Traffic::new(2, 1, 0)];
    let (mut served, mut before) = (home.start(2), 0);
    let mut slowest = f64::INFINITY;
    for round in 0..kills() {
        let more = Duration::from_millis(100 + u64::try_from(dice.below(700)).expect("small"));
        let stop = AtomicBool::new(false);
        let rate = thread::scope(|scope| {
            let (addr, stop) = (served.bin, &stop);
            let senders = traffic
                .each_mut()
                .map(|traffic| scope.spawn(move || send_until(stop, addr, traffic)));
            thread::sleep(more);
            served.kill();
            stop.store(true, Ordering::Relaxed);
            let rates = senders.map(|sender| sender.join().expect("a sender does not panic"));
            rates.into_iter().sum::<f64>()
        });
        slowest = slowest.min(rate);

        let lsns = home.ring_lsns();
        assert_eq!(lsns.len(), 4, "two tables on two shards");
        let left = home.left().whole();
        assert_eq!(left.lsns(), lsns, "round {round}");
        let changes = lsns.iter().sum::<u64>();
        assert!(changes > before, "round {round}: nothing was changed");
        let records = left.plain.len() as u64;
        let told = home.told_by_state();
        assert_eq!(told, (lsns.clone(), records), "round {round}");
        served = home.start(2);
        let told = |name| served.of_journals(name, &left.reading);
        assert_eq!(
            told("binrush_journal_changes_total"),
            lsns,
            "round {round}: in the rings, and recovered"
        );
        let recovered = told("binrush_journal_recovered_records");
        assert_eq!(recovered.iter().sum::<u64>(), records, "round {round}");
        assert_eq!(served.ready["state"]["records"], records, "round {round}");
        println!(
            "kill {round}: {changes} changes in the rings, {changes} recovered, {records} records, at {rate:.0} packets/s"
        );
        before = changes;
    }
    served.stop();
    if slowest < RATE_PPS * 0.9 {
        skip(&format!(
            "{RATE_PPS} packets/s: this machine came to {slowest:.0}, and nothing was missing at that"
        ));
    }
}

/// Sends on schedule until `stop`, or until nobody is there; the rate, in packets a second.
fn send_until(stop: &AtomicBool, addr: SocketAddr, traffic: &mut Traffic) -> f64 {
    let peer = UdpSocket::bind((HOST, 0)).expect("loopback");
    peer.connect(addr).expect("loopback");
    let each = Duration::from_secs_f64(SENDERS / RATE_PPS);
    let (start, mut sent) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let early = (each * sent).saturating_sub(start.elapsed());
        if early > SLEEP_MIN {
            thread::sleep(early);
        }
        let packet = traffic.deed().packet(Release::V1x);
        if peer.send(&packet).is_err() {
            break;
        }
        sent += 1;
    }
    f64::from(sent) / start.elapsed().as_secs_f64()
}

const RATE_PPS: f64 = 50_000.0;

const SENDERS: f64 = 2.0;

/// Sleeping for less takes longer than it says.
const SLEEP_MIN: Duration = Duration::from_millis(1);
