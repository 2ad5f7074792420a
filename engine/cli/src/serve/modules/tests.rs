use super::*;

#[test]
fn a_signal_between_two_ends_of_one_process_is_not_lost() {
    let stop = Arc::new(AtomicBool::new(true));
    let loaded = Loaded {
        modules: Arc::new(Loader::new(Options::default()).finish()),
        each: Vec::new(),
        presence: Arc::default(),
        opened: Opened::default(),
        stop: Arc::clone(&stop),
        is_ending: AtomicBool::new(false),
    };
    drop(loaded.last_lookout());
    assert!(!stop.load(Ordering::Relaxed), "that was what it ends for");
    stop.store(true, Ordering::Relaxed);
    drop(loaded.last_lookout());
    assert!(stop.load(Ordering::Relaxed));
}
