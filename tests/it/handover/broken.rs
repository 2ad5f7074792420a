//! An heir that is gone, or cannot start, at each step: who had the sockets goes on, and nothing is lost.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use binrush_net::handover::{Passage, Passed};
use serde_json::Value;

use super::{HOST, House, Sender, Sums};
use crate::process::{Running, json, wait_until};
use crate::receiver::{addresses, count};

/// An heir that a test plays.
struct Heir(Passage);

impl Heir {
    /// Asks, and nothing else.
    fn ask(house: &House) -> Self {
        let stream = UnixStream::connect(house.scratch.path("control.sock"));
        let heir = Passage::new(stream.expect("somebody listens")).expect("a stream");
        let heir = Self(heir);
        heir.say(r#"{"ask":"handover","language":1}"#);
        heir
    }

    fn say(&self, line: &str) {
        self.0
            .send(line.as_bytes(), &[], PATIENCE)
            .expect("it is heard");
    }

    #[track_caller]
    fn hear(&mut self, say: &str) -> (Value, Passed) {
        let passed = self.0.receive(1 << 20, 64, PATIENCE).expect("an answer");
        let line = json(str::from_utf8(&passed.line).expect("text"));
        assert_eq!(line["say"], say, "{line}");
        (line, passed)
    }
}

#[test]
fn an_heir_that_is_gone_at_any_step_leaves_the_sockets_and_nothing_is_lost() {
    let house = House::new("handover-steps", "2", "");
    let (mut server, ready) = house.first();
    let sender = Sender::start(addresses(&ready)[0], 1000);
    let mut sums = Sums::default();
    drop(Heir::ask(&house));
    let told = server.event("handover");
    assert!(
        told["text"]
            .as_str()
            .unwrap()
            .ends_with("going on as before"),
        "{told}"
    );
    let mut heir = Heir::ask(&house);
    let (offer, _) = heir.hear("offer");
    assert_eq!(
        (count(&offer, "shards"), count(&offer, "pid")),
        (2, server.id().into())
    );
    drop(heir);
    server.event("handover");
    let mut heir = Heir::ask(&house);
    heir.hear("offer");
    heir.say(r#"{"say":"no","why":"not today"}"#);
    let told = server.event("handover");
    assert!(
        told["text"].as_str().unwrap().contains("not today"),
        "{told}"
    );
    // Behind "go" it has stopped, and begins once more by itself.
    for step in ["before it hears anything", "with the sockets"] {
        let mut heir = Heir::ask(&house);
        heir.hear("offer");
        heir.say(r#"{"say":"go"}"#);
        let passed = (step == "with the sockets").then(|| heir.hear("yours"));
        let sockets = passed.as_ref().map(|(_, passed)| passed.descriptors.len());
        assert!(sockets.is_none_or(|sockets| sockets == 4), "{sockets:?}");
        drop((heir, passed));
        let total = server.event("total");
        assert_eq!(total["handed_over"], false, "{total}");
        sums.add(&total);
        server.event("handover");
        let ready = server.event("ready");
        assert_eq!(ready["handover"]["from"], "ourselves", "{ready}");
        assert_eq!(
            count(&ready["handover"]["before"], "received"),
            sums.received
        );
        let sent = sender.sent();
        wait_until("more to be sent", || sender.sent() > sent + 100);
    }
    let sent = sender.stop();
    server.signal("TERM");
    sums.ends(server);
    assert_eq!(sums.received + sums.dropped, sent, "{sums:?}");
    assert_eq!(house.records(), super::after(sent));
}

/// A start of a real heir that fails; what it says.
#[track_caller]
fn fails(heir: Running) -> String {
    let end = heir.finish();
    assert!(!end.status.success() && end.stdout.is_empty(), "{end:?}");
    end.stderr
}

/// The same of one that had begun to receive; its totals belong to the sum.
#[track_caller]
fn fails_late(heir: Running, sums: &mut Sums) -> String {
    let end = heir.finish();
    assert!(!end.status.success(), "{end:?}");
    sums.add(end.json().last().expect("totals"));
    end.stderr
}

#[test]
fn a_server_that_cannot_start_leaves_the_running_one_as_it_was() {
    let busy = TcpListener::bind((HOST, 0)).expect("a port is free");
    let http = busy.local_addr().expect("it is bound").to_string();
    let house = House::new("handover-fails", "1", "");
    let (mut server, ready) = house.first();
    let sender = Sender::start(addresses(&ready)[0], 500);
    // Found out before anybody is asked.
    let broken = house.scratch.file("broken.cfg", b"listen = bin:nowhere\n");
    let args = ["serve", "--config", &broken, "--handover"];
    let end = Running::start(&args).finish();
    assert_eq!(end.status.code(), Some(2), "{end:?}");
    // Found out by what is offered.
    let mut more = house.args();
    *more.last_mut().unwrap() = "2";
    more.push("--handover");
    let said = fails(Running::start(&more));
    assert!(
        said.contains("it has 1 shard, and 2 are asked for"),
        "{said}"
    );
    server.event("handover");
    // Found out when all has been handed over.
    let mut sums = Sums::default();
    let said = fails_late(house.start(&["--handover", "--http", &http]), &mut sums);
    assert!(said.contains(&http), "{said}");
    sums.add(&server.event("total"));
    server.event("handover");
    assert_eq!(server.event("ready")["handover"]["from"], "ourselves");
    // And then one that can.
    let mut heir = house.start(&["--handover"]);
    let ready = heir.event("ready");
    assert_eq!(count(&ready["handover"]["before"], "lives"), 2, "{ready}");
    sums.ends(server);
    let sent = sender.stop();
    heir.signal("TERM");
    sums.ends(heir);
    assert_eq!(sums.received + sums.dropped, sent, "{sums:?}");
}

#[test]
fn who_is_asked_to_end_while_the_heir_is_not_ready_says_that_it_waited_and_does_not_know() {
    let house = House::new("handover-unsure", "1", "");
    let (mut server, _) = house.first();
    let mut heir = Heir::ask(&house);
    heir.hear("offer");
    heir.say(r#"{"say":"go","pid":42}"#);
    let yours = heir.hear("yours");
    let told = server.event("handover")["text"].to_string();
    assert!(told.contains("waiting for the heir with pid 42"), "{told}");
    server.signal("TERM");
    let end = server.finish();
    assert_eq!(end.status.code(), Some(1), "{end:?}");
    let total = end.json().pop().expect("totals");
    assert_eq!(total["handed_over"], "unconfirmed", "{total}");
    drop(yours);
}

#[test]
fn without_a_running_server_a_handover_is_a_start_that_says_so() {
    let house = House::new("handover-nobody", "1", "");
    let mut server = house.start(&["--handover"]);
    let ready = server.event("ready");
    assert_eq!(ready["handover"], Value::Null, "{ready}");
    let warnings = ready["warnings"].to_string();
    assert!(
        warnings.contains("there was nothing to take over"),
        "{warnings}"
    );
    server.stop("TERM").ok();
}

#[test]
fn a_connection_is_read_to_its_end_and_who_connects_meanwhile_is_accepted_by_the_heir() {
    use std::io::{Read as _, Write as _};
    let house = House::new("handover-streams", "1", "");
    let (server, ready) = house.first();
    let addr = addresses(&ready)[0];
    let mut peer = std::net::TcpStream::connect(addr).expect("it listens");
    let packet = super::deed(1).packet(binrush_wire::Release::V2_3);
    let times = 50;
    (0..times).for_each(|_| peer.write_all(&packet).expect("it reads"));
    let mut heir = house.start(&["--handover"]);
    heir.event("ready");
    let mut sums = Sums::default();
    let total = sums.ends(server);
    assert_eq!(count(&total, "received"), times, "{total}");
    assert_eq!(
        peer.read(&mut [0]).unwrap_or(0),
        0,
        "the peer is told to connect anew"
    );
    let mut peer = std::net::TcpStream::connect(addr).expect("it listens");
    peer.write_all(&packet).expect("it reads");
    drop(peer);
    std::thread::sleep(Duration::from_millis(300));
    let total = heir.stop("TERM").ok().json().pop().expect("totals");
    assert_eq!(count(&total, "received"), 1, "{total}");
}

const PATIENCE: Duration = Duration::from_secs(60);
