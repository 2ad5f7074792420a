use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use binrush_wire::Release;

use super::kills;
use super::served::Home;
use super::traffic::{Deed, Plain, Traffic, apply, prefix};
use crate::dice::Dice;

#[test]
fn what_is_recovered_of_a_stream_is_a_beginning_of_it_that_has_all_that_was_told() {
    let home = Home::new("durable-content").with_rings(16 << 20);
    let (mut dice, mut traffic) = (Dice::new(3), Traffic::new(4, 1, 0));
    let mut plain = Plain::new();
    for round in 0..kills() {
        let served = home.start(1);
        let stream = TcpStream::connect(served.bin).expect("it listens");
        let (sent, handled) = thread::scope(|scope| {
            let sender = scope.spawn(|| send_all_until_broken(stream, &mut traffic));
            served.wait_for_handled(1);
            let more = u64::try_from(dice.below(1200)).expect("small");
            thread::sleep(Duration::from_millis(more));
            let handled = served.handled();
            served.kill();
            (sender.join().expect("a sender does not panic"), handled)
        });
        let left = home.left().whole();
        let done = prefix(plain, &sent, &left.plain);
        let done = done.unwrap_or_else(|| panic!("round {round}: no prefix has these records"));
        assert!(
            done as u64 >= handled,
            "round {round}: {handled} were told, {done} are there"
        );
        println!(
            "kill {round}: of {} packets sent, {handled} told of as handled, the first {done} are there",
            sent.len()
        );
        plain = left.plain;
    }
    // And once more with an end that is none of a kill.
    let served = home.start(1);
    let mut stream = TcpStream::connect(served.bin).expect("it listens");
    for _ in 0..1000 {
        let deed = traffic.deed();
        let packet = deed.packet(Release::V2_3);
        stream.write_all(&packet).expect("it reads");
        apply(&mut plain, deed);
    }
    served.wait_for_handled(1000);
    served.stop();
    assert!(home.left().whole().plain == plain, "not what was sent");
}

/// Sends until nobody is there; what was sent, the last one perhaps in part.
fn send_all_until_broken(mut stream: TcpStream, traffic: &mut Traffic) -> Vec<Deed> {
    let mut sent = Vec::new();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        for _ in 0..AT_ONCE {
            let deed = traffic.deed();
            bytes.extend(deed.packet(Release::V2_3));
            sent.push(deed);
        }
        if stream.write_all(&bytes).is_err() {
            return sent;
        }
    }
}

/// Packets in one call.
const AT_ONCE: usize = 20;
