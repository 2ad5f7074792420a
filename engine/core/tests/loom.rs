//! Every order in which the steps of who subscribes, who raises and who tells can meet, within the memory model.
//!
//! `Wanted` is the very file of the library, made of the `sync` module below instead of the library's.

use loom::model::Builder;
use loom::sync::atomic::AtomicBool;
use loom::sync::{Arc, Mutex};
use loom::thread;

#[path = "../src/event/wanted.rs"]
#[allow(
    dead_code,
    reason = "the model takes the steps that three threads meet at"
)]
mod wanted;
use sync::Ordering;
use wanted::Wanted;

/// What the library's `sync` has, watched by the model.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

/// A desk with one subscription to come, and a ring with room for one event.
struct Model {
    wanted: Wanted<1>,
    desk: Mutex<bool>,
    ring: AtomicBool,
}

#[test]
fn who_tells_an_event_knows_of_the_subscription_that_it_was_raised_for() {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let model = Arc::new(Model {
            wanted: Wanted::new(),
            desk: Mutex::new(false),
            ring: AtomicBool::new(false),
        });
        let subscribes = Arc::clone(&model);
        let subscribes = thread::spawn(move || {
            let mut desk = subscribes.desk.lock().unwrap();
            *desk = true;
            subscribes.wanted.show([7].into_iter());
        });
        let raises = Arc::clone(&model);
        let raises = thread::spawn(move || {
            if raises.wanted.has(7) {
                raises.ring.store(true, Ordering::Release);
            }
        });
        // As the thread does: it has looked at a desk before, and looks at another one only if the number says that it is one.
        if model.ring.load(Ordering::Acquire) {
            assert_ne!(model.wanted.generation(), 0, "it would be told to nobody");
            assert!(*model.desk.lock().unwrap());
        }
        subscribes.join().unwrap();
        raises.join().unwrap();
    });
}
