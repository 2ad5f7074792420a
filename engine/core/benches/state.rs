//! What it costs to begin with a million contacts: read out of the log, put back, shared out anew; and a slice of a snapshot.
//!
//! Prints figures and compares none. `STATE_RECORDS` says how many contacts, `STATE_DIR` where (a folder that is made and
//! removed).

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use binrush_engine::config::Sockets;
use binrush_engine::store::durable::{Log, State, StateOptions};
use binrush_store::model::{Contact, Matching};
use binrush_store::{Change, Family, Limits, Now};

fn main() {
    // Whatever the harness of `cargo test` asks for.
    if env::args().any(|argument| argument == "--test") {
        return;
    }
    let records: u32 = match env::var("STATE_RECORDS") {
        Ok(text) => text.parse().expect("a number of records"),
        Err(_) => 1_000_000,
    };
    let dir = env::var_os("STATE_DIR").map_or_else(
        || env::temp_dir().join("binrush-bench-state"),
        PathBuf::from,
    );
    assert!(!dir.exists(), "{} is there already", dir.display());
    let options = |shards| StateOptions {
        state_dir: dir.join("state"),
        runtime_dir: dir.join("run"),
        fsync_interval: Duration::from_millis(200),
        ring_bytes: 64 << 20,
        shards,
    };
    fill(&options(2), records);
    begin("out of log and rings", &options(2), records);
    begin(
        "out of snapshots, shared out anew before",
        &options(1),
        records,
    );
    begin("out of a snapshot", &options(1), records);
    fs::remove_dir_all(&dir).expect("it was made here");
}

/// Registers so many contacts, and takes snapshots of them by turns.
fn fill(options: &StateOptions, records: u32) {
    let mut state = State::open(options).expect("a state");
    let steering = state.steering();
    let mut stores = state
        .table(
            TABLE,
            Family::Usrloc,
            Limits::default(),
            NOW,
            &Sockets::default(),
        )
        .expect("a table");
    let (journals, _) = state.start().expect("threads");
    let began = Instant::now();
    for number in 0..records {
        let aor = format!("subscriber-{number}@example.org");
        let owner = usize::from(steering.owner_of_key(aor.as_bytes()));
        let (store, journaled) = &mut stores[owner];
        while !journaled.has_room(1024) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let uri = format!("sip:{aor};transport=udp;ob;number={number}");
        let contact = Contact {
            domain: b"location",
            aor: aor.as_bytes(),
            uri: uri.as_bytes(),
            callid: uri.as_bytes(),
            user_agent: b"Some phone of some maker 1.2.3",
            received: b"sip:192.0.2.77:5060;transport=udp",
            socket: b"udp:192.0.2.1:5060",
            expires: NOW + 3600,
            cseq: 7,
            ..Contact::default()
        };
        let now = Now { unix: NOW, tick: 1 };
        store.apply(
            now,
            &Change::ContactInserted(contact, Matching::Uri),
            1,
            journaled,
        );
    }
    println!(
        "{records} contacts applied and logged in {:?}",
        began.elapsed()
    );
    let (mut slices, mut longest, mut total) = (0_u32, Duration::ZERO, Duration::ZERO);
    let mut idle = 0;
    while idle < 200 {
        idle += 1;
        for (store, journaled) in &mut stores {
            let began = Instant::now();
            if journaled.turn(store) {
                let took = began.elapsed();
                (slices, longest, total, idle) = (slices + 1, longest.max(took), total + took, 0);
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let mean = total.checked_div(slices).unwrap_or_default();
    println!("{slices} slices of snapshots, {mean:?} each, the longest {longest:?}");
    drop(stores);
    journals.stop(true).expect("an end in order");
}

fn begin(what: &str, options: &StateOptions, records: u32) {
    let began = Instant::now();
    let mut state = State::open(options).expect("a state");
    let opened = began.elapsed();
    let began = Instant::now();
    let stores = state
        .table(
            TABLE,
            Family::Usrloc,
            Limits::default(),
            NOW,
            &Sockets::default(),
        )
        .expect("a table");
    let took = began.elapsed();
    let found: usize = stores.iter().map(|(store, _)| store.len()).sum();
    // Each has an AoR beside.
    assert_eq!(found, 2 * records as usize);
    let rate = found as f64 / took.as_secs_f64() / 1e6;
    println!("{what}: opened in {opened:?}, {found} records back in {took:?}: {rate:.2} M/s");
    for note in state.notes() {
        println!("  {note}");
    }
}

const TABLE: &str = "1/usrloc-contact-repl";

const NOW: i64 = 1_800_000_000;
