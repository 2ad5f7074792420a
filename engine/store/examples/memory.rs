//! What a million contacts of 350 bytes take, each the only one of its AoR: by our own count, and as the kernel sees the process;
//! and how long it takes to put them back after a restart.
//!
//! `cargo run --release -p binrush-store --example memory [contacts]`
#![forbid(unsafe_code)]

use std::fs;
use std::time::Duration;

use binrush_store::{Effects, Store};
use contacts::{PAYLOAD, Texts, payload};
use nix::time::{ClockId, clock_gettime};

/// The contacts.
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared with the bench"
)]
#[path = "../benches/contacts/mod.rs"]
mod contacts;

// As the binaries have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of the records as they stand in files.
#[derive(Default)]
struct Flat(usize);

impl Effects for Flat {
    fn put(&mut self, _: u32, flat: &[u8]) {
        self.0 += flat.len();
    }

    fn gone(&mut self, _: u32) {}
}

/// The records themselves, one behind the other.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    ends: Vec<(u32, usize)>,
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let count: u32 = count.unwrap_or(1_000_000);
    assert_eq!(payload(&Texts::of(4711).contact(1)), PAYLOAD);
    let before = resident();
    let (mut store, mut flat) = (contacts::store(), Flat::default());
    contacts::fill(&mut store, 0..count, &mut flat);
    assert_eq!(store.len(), 2 * count as usize);
    report(&store, count, flat.0, resident() - before);
    restart(&store);
}

fn restart(store: &Store) {
    let mut log = Log::default();
    let mut from = Some(0);
    while let Some(at) = from {
        from = store.walk(at, 1 << 20, &mut |place, flat| {
            log.bytes.extend_from_slice(flat);
            log.ends.push((place, log.bytes.len()));
        });
    }
    let (mut back, mut begins) = (contacts::store(), 0);
    let begun = processor();
    for (place, end) in &log.ends {
        back.restore(*place, &log.bytes[begins..*end])
            .expect("it was kept");
        begins = *end;
    }
    let put = processor();
    back.restored(contacts::NOW, &mut ());
    assert_eq!((back.len(), back.bytes()), (store.len(), store.bytes()));
    let each = |time: Duration| time.as_nanos() / log.ends.len() as u128;
    let (restore, restored) = (each(put - begun), each(processor() - put));
    println!("put back, processor time      {restore:>12} ns a record, and {restored} at the end");
}

/// What this thread has had of a processor.
fn processor() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).expect("Linux").into()
}

fn report(store: &Store, contacts: u32, flat: usize, resident: usize) {
    let each = |bytes: usize| bytes as f64 / f64::from(contacts);
    let memory = store.memory();
    println!("contacts, each with its AoR   {contacts:>12}");
    println!("payload of a contact in 3.6   {PAYLOAD:>12} bytes");
    let line = |what: &str, bytes| {
        println!("{what:<30}{bytes:>12} bytes {:>8.1} a contact", each(bytes));
    };
    line("as flat records", flat);
    line("counted", memory.counted);
    line("of that pages and tables", memory.tables);
    line("resident", resident);
    println!("strings that records share    {:>12}", memory.strings);
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<usize>().ok())
        .expect("a number")
        * 1024
}
