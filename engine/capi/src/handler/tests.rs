use super::*;
use crate::abi::base::{BinPacket, ReceiveInfo, Str};
use crate::bin::legacy::{bin_pop_int, bin_pop_str};
use crate::running::current;
use binrush_engine::bin::Sender;
use binrush_engine::{Engine, EngineConfig, Outcome, Registry, Snapshot};
use binrush_wire::{Builder, Generation};
use std::ffi::{c_int, c_void};
use std::sync::Mutex;
use std::thread;

/// What callbacks saw: the module whose code ran, and a number.
static SEEN: Mutex<Vec<(Option<&str>, c_int)>> = Mutex::new(Vec::new());

unsafe extern "C" fn pops(command: c_int) {
    let mut text = Str {
        s: std::ptr::null_mut(),
        len: 0,
    };
    let mut number: c_int = 0;
    // SAFETY: both are ours.
    let codes = unsafe {
        (
            bin_pop_str(&raw mut text),
            bin_pop_int((&raw mut number).cast::<c_void>()),
        )
    };
    assert_eq!(codes, (0, 0));
    SEEN.lock().unwrap().push((current(), command + number));
}

unsafe extern "C" fn pops_too_much(_: c_int) {
    let mut number: c_int = 0;
    for _ in 0..9 {
        // SAFETY: it is ours.
        unsafe { bin_pop_int((&raw mut number).cast::<c_void>()) };
    }
}

unsafe extern "C" fn dawdles(_: c_int) {
    thread::sleep(Duration::from_millis(3));
}

unsafe extern "C" fn of_3x(_: *mut BinPacket, _: c_int, _: *mut ReceiveInfo, _: *mut c_void) {
    unreachable!("1.x packets are not for it");
}

/// Has `callback` called with `count` packets on one shard; what that came to.
fn run(callback: Callback, budget: Option<Duration>, count: u64) -> (CallbackTotals, Snapshot) {
    run_of(Some(callback), budget, count)
}

/// The same where there may be none.
fn run_of(
    callback: Option<Callback>,
    budget: Option<Duration>,
    count: u64,
) -> (CallbackTotals, Snapshot) {
    let counts = Arc::new(CallbackCounts::new(1));
    let care = Care {
        module: "counter",
        counts: Arc::clone(&counts),
        budget,
        poison: Poison::Off,
    };
    let name: Box<[u8]> = (*b"greeting").into();
    let registration = callback.map(|callback| Registration {
        name: name.clone(),
        callback,
    });
    let mut registry = Registry::new();
    let handler = move |_| match &registration {
        Some(registration) => ModuleHandler::new(registration, &care),
        None => ModuleHandler::without_callback(&care),
    };
    registry.register(&name, handler).unwrap();
    let mut config = EngineConfig::new("127.0.0.1:0".parse().unwrap());
    config.shards = Some(1);
    let engine = Engine::start(config, registry).unwrap();
    let addr = engine.listeners().next().unwrap().addr;
    let sender = Sender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    for _ in 0..count {
        let mut buffer = [0; 64];
        let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"greeting", 7, 0).unwrap();
        builder.push_str(b"hello").unwrap();
        builder.push_int(100).unwrap();
        sender.send(builder.seal(), addr).unwrap();
    }
    let ledger = engine.stop().unwrap();
    (counts.totals(), ledger)
}

#[test]
fn a_callback_is_called_in_the_name_of_its_module_and_each_packet_is_counted_once() {
    let (totals, ledger) = run(Callback::Legacy(pops), None, 20);
    let expected = CallbackTotals {
        calls: 20,
        ..CallbackTotals::default()
    };
    assert_eq!(totals, expected);
    assert!(ledger.is_balanced());
    assert_eq!(ledger.total.outcome(Outcome::Handled), 20);
    assert_eq!(*SEEN.lock().unwrap(), [(Some("counter"), 107); 20]);
    assert_eq!(current(), None);
}

#[test]
fn a_callback_that_reads_past_the_end_is_counted_as_such() {
    let (totals, ledger) = run(Callback::Legacy(pops_too_much), None, 3);
    assert_eq!((totals.calls, totals.misread), (3, 3));
    assert_eq!(ledger.total.outcome(Outcome::Handled), 3);
}

#[test]
fn a_callback_that_takes_too_long_is_counted_where_there_is_a_budget() {
    let (totals, _) = run(Callback::Legacy(dawdles), Some(Duration::from_millis(1)), 2);
    assert_eq!((totals.calls, totals.over_budget), (2, 2));
    assert!(totals.longest >= Duration::from_millis(3), "{totals:?}");
    let (totals, _) = run(Callback::Legacy(dawdles), Some(Duration::from_secs(5)), 2);
    assert_eq!((totals.calls, totals.over_budget), (2, 0));
    let (totals, _) = run(Callback::Legacy(dawdles), None, 2);
    assert_eq!((totals.over_budget, totals.longest), (0, Duration::ZERO));
}

#[test]
fn a_packet_of_1_x_is_not_for_a_callback_of_the_other_api() {
    let callback = Callback::Modern {
        call: of_3x,
        att: None,
    };
    let (totals, ledger) = run(callback, None, 2);
    assert_eq!((totals.calls, totals.not_called), (0, 2));
    assert_eq!(ledger.total.outcome(Outcome::UnknownVersion), 2);
    assert!(ledger.is_balanced());
}

#[test]
fn where_a_shard_has_no_callback_of_a_name_its_packets_are_counted_as_not_called() {
    let (totals, ledger) = run_of(None, None, 3);
    assert_eq!((totals.calls, totals.not_called), (0, 3));
    assert_eq!(ledger.total.outcome(Outcome::UnknownCommand), 3);
    assert!(ledger.is_balanced());
}
