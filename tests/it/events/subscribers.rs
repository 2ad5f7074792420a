//! Subscribers that do not read, may not be written to, were there before, or are over.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::process::skip;

/// A path of `folder` where somebody listens, and what it is called.
fn bound(folder: &Scratch) -> (UnixDatagram, String) {
    let path = folder.path("ear.sock");
    let ear = UnixDatagram::bind(&path).expect("a free path");
    ear.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    (ear, path)
}

/// The packet of 1.11 that says that an AoR is new.
fn aor(name: &[u8]) -> Vec<u8> {
    legacy(b"ul", 1, &[b"location", name])
}

/// What the server at the control socket of `folder` says of its subscribers.
fn subscribers(folder: &Scratch) -> Value {
    let control = folder.path("control.sock");
    let listed = run(&["events", "list", "--json", "--control", &control]).ok();
    listed.json()[0]["subscribers"].clone()
}

#[test]
fn a_subscriber_that_does_not_read_holds_up_no_packet_and_misses_what_has_no_room() {
    let folder = Scratch::new("events-blocked");
    let (ear, path) = bound(&folder);
    let wanted = subscribe("E_UL_AOR_INSERT", &format!("unix:{path}"));
    let mut server = telling(&folder, "127.43.21.1", &wanted);
    let packets = 8000_u32;
    server.send_all((0..packets).map(|number| aor(format!("user-{number}").as_bytes())));
    // All of them are handled while nobody reads: each has raised its event.
    wait_until("the queue to be full", || {
        let all = subscribers(&folder);
        let told: u64 = ["sent", "queued", "dropped"]
            .map(|key| count(&all[0], key))
            .iter()
            .sum();
        told == u64::from(packets) && all[0]["state"] == "blocked"
    });
    let told = server.process.event("events");
    let text = told["text"].as_str().expect("words");
    assert!(text.contains("not told (dropped"), "{text}");
    let all = subscribers(&folder);
    let (sent, queued) = (count(&all[0], "sent"), count(&all[0], "queued"));
    assert!(sent > 0 && queued == 4096, "{all}");
    // What was kept comes, in the order of its shard, as soon as somebody reads.
    for _ in 0..sent + queued {
        let len = ear.recv(&mut [0; 256]).expect("an event");
        assert!(len > "E_UL_AOR_INSERT\n\n".len());
    }
    let (_, total) = server.stop_after("TERM");
    let events = &total["events"];
    assert_eq!(events["balanced"], true, "{events}");
    assert_eq!(count(&total, "received"), u64::from(packets));
    assert_eq!(count(events, "raised"), u64::from(packets), "{events}");
    assert_eq!(count(&events["subscribers"][0], "sent"), sent + queued);
}

#[test]
fn subscriptions_of_a_script_and_of_the_control_socket_end_when_their_time_is_over() {
    let folder = Scratch::new("events-over");
    let (ear, path) = bound(&folder);
    let (ends, stays) = ("E_UL_AOR_INSERT", "E_UL_AOR_DELETE");
    let routes = format!(
        "startup_route {{ subscribe_event(\"{ends}\", \"unix:{path}\", 1); }}\n{}",
        subscribe(stays, &format!("unix:{path}"))
    );
    let server = telling(&folder, "127.43.22.1", &routes);
    let control = folder.path("control.sock");
    run(&[
        "events",
        "subscribe",
        "E_UL_CONTACT_INSERT",
        &path,
        "--expire",
        "1",
        "--control",
        &control,
    ])
    .ok();
    wait_until("both to be over", || {
        subscribers(&folder)[0]["subscriptions"]
            == json!([{ "event": stays, "form": "text", "expires_in": null }])
    });
    // It is told of nothing but what has no end.
    server.send(&aor(b"alice"));
    server.send(&legacy(b"ul", 2, &[b"location", b"alice"]));
    let mut buffer = [0; 256];
    let len = ear.recv(&mut buffer).expect("an event");
    let text = String::from_utf8_lossy(&buffer[..len]);
    assert!(text.starts_with(stays), "{text}");
    let (_, total) = server.stop_after("TERM");
    assert_eq!(count(&total["events"], "raised"), 1, "{total}");
}

#[test]
fn a_confined_server_reaches_paths_outside_of_its_folders_and_says_when_it_may_not_write_there() {
    let (folder, elsewhere) = (Scratch::new("events-in"), Scratch::new("events-elsewhere"));
    let (ear, path) = bound(&elsewhere);
    fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("it is ours");
    let wanted = subscribe("E_UL_AOR_INSERT", &format!("unix:{path}"));
    let mut server = telling(&folder, "127.43.23.1", &wanted);
    let done = server.ready["confined"]["done"].to_string();
    if !done.contains("landlock") || !done.contains("no capabilities") {
        return skip("this kernel confines nobody");
    }
    server.send(&aor(b"alice"));
    let told = server.process.event("events");
    assert_eq!(told["state"], "denied", "{told}");
    let text = told["text"].as_str().expect("words");
    assert!(text.contains("needs the rights"), "{text}");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("it is ours");
    let len = ear.recv(&mut [0; 256]).expect("an event");
    assert!(len > 0);
    let (_, total) = server.stop_after("TERM");
    assert_eq!(count(&total["events"]["subscribers"][0], "sent"), 1);
}

#[test]
fn who_listens_leaves_the_subscriptions_of_the_configuration_and_reads_their_form() {
    let folder = Scratch::new("events-kept");
    let path = folder.path("ear.sock");
    let unix = format!("unix:{path}");
    let more = "modparam(\"event_datagram\", \"compat\", \"1.11\")\n".to_owned()
        + &subscribe("E_UL_AOR_INSERT", &unix);
    let server = telling(&folder, "127.43.24.1", &more);
    let control = folder.path("control.sock");
    let events = ["E_UL_AOR_INSERT", "E_UL_AOR_DELETE"];
    let mut listener = Running::start(&[
        "events",
        "listen",
        &unix,
        "--event",
        events[0],
        "--event",
        events[1],
        "--json",
        "--count",
        "1",
        "--mode",
        "600",
        "--control",
        &control,
    ]);
    let expected = json!([
        { "event": events[0], "form": "1.11", "expires_in": null },
        { "event": events[1], "form": "1.11", "expires_in": 3600 },
    ]);
    wait_until("the other subscription", || {
        let all = subscribers(&folder);
        let there = all[0]["subscriptions"].as_array().expect("a list").len();
        there == 2
    });
    let mut now = subscribers(&folder)[0]["subscriptions"].clone();
    now[1]["expires_in"] = 3600.into();
    assert_eq!(now, expected);
    let rights = fs::metadata(&path).expect("it is bound").permissions();
    assert_eq!(rights.mode() & 0o777, 0o600);
    // In the grammar of the documents the two backslashes that come would stand for one, and end the text with the quote.
    server.send(&aor(b"a\n\\\"b"));
    let told = listener.event("E_UL_AOR_INSERT");
    assert_eq!(
        told["params"],
        json!([{ "name": "aor", "value": "a\n\\\"b" }])
    );
    listener.finish().ok();
    let left = &subscribers(&folder)[0]["subscriptions"];
    assert_eq!(*left, json!([expected[0]]));
    server.stop("TERM");
}
