//! Functions that routes call, by the engine's own interpreter.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use binrush::bin::Poison;
use binrush::handler::{CallbackCounts, Care};
use binrush::loader::{Message, Modules};
use binrush::script::{ModuleFunctions, Terms};
use binrush_engine::dispatch::front::Front;
use binrush_engine::event::Param;
use binrush_engine::script::{Events, Host, Level, LinkError, Program, Script, Scripts};
use binrush_engine::{Origin, ShardId, Timestamp};
use binrush_wire::{Builder, Generation, Packet};

use crate::workshop::Workshop;

/// Keeps what scripts say.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Host for Said {
    fn wants(&self, _: Level) -> bool {
        true
    }

    fn log(&self, _: Level, text: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.push(text.to_owned());
    }

    fn raise(&self, _: usize, _: &str, _: &[Param<'_>]) -> i32 {
        -1
    }

    fn subscribe(&self, _: &str, _: &str, _: Option<u32>) -> i32 {
        -1
    }
}

/// Routes on a shard, and what they said.
struct Routes {
    front: Box<dyn Front>,
    said: Arc<Said>,
}

impl Routes {
    fn new(modules: &Arc<Modules>, text: &str) -> Self {
        Self::counted(modules, text, &Arc::new(CallbackCounts::new(1)))
    }

    fn counted(modules: &Arc<Modules>, text: &str, counts: &Arc<CallbackCounts>) -> Self {
        let said = Arc::new(Said::default());
        let program = link(modules, text, counts);
        let program = program.unwrap_or_else(|error| panic!("{error}"));
        let scripts = Scripts::new(
            program,
            Arc::clone(&said) as _,
            Arc::new(Events::new([])),
            1,
            ShardId(0),
        );
        let front = scripts.fronts()(ShardId(0)).expect("it has routes");
        Self { front, said }
    }

    /// Runs `route` for a packet of so many bytes; what it said.
    fn packet(&mut self, len: usize) -> Vec<String> {
        let bytes = packet(len);
        let packet = Packet::parse(Generation::Legacy, &bytes).expect("it was built");
        assert!(self.front.admits(&Origin::Process, &packet));
        self.said()
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn link(
    modules: &Arc<Modules>,
    text: &str,
    counts: &Arc<CallbackCounts>,
) -> Result<Program, LinkError> {
    let (script, _) =
        Script::read(Path::new("a.cfg"), text.into()).unwrap_or_else(|error| panic!("{error}"));
    let functions = ModuleFunctions::new(modules, |_| terms(counts));
    Program::link(&script, Arc::new(functions))
}

/// Of a module that has a home, and whose calls may take so long that they never do beside other tests.
fn terms(counts: &Arc<CallbackCounts>) -> Terms {
    Terms {
        is_reentrant: false,
        care: Care {
            module: "one of them",
            counts: Arc::clone(counts),
            budget: Some(Duration::from_millis(100)),
            poison: Poison::Off,
        },
    }
}

/// A packet of `len` bytes: one text of letters.
fn packet(len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    let empty = Builder::new(Generation::Legacy, &mut [0; 64], b"dialog", 1, 0).map(|b| b.len());
    let text = vec![b'a'; len - empty.expect("it fits") - 4];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"dialog", 1, 0).unwrap();
    builder.push_str(&text).expect("it fits");
    builder.seal().to_vec()
}

#[test]
fn what_functions_write_into_the_message_is_seen_by_the_calls_of_the_same_run_and_by_no_other() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = Arc::new(workshop.modules(&["message"]));
    let mut routes = Routes::new(
        &modules,
        "route { look(); xlog(\"$rc\"); scribble(); look(); xlog(\"$rc\"); route(more); }\n\
         route[more] { look(); xlog(\"$rc\"); }",
    );
    for len in [200, 65_507, 64] {
        assert_eq!(routes.packet(len), ["-1", "3", "3"], "{len}");
    }
    // Another script on the same thread has messages of its own.
    let mut others = Routes::new(&modules, "route { look(); xlog(\"$rc\"); }");
    assert_eq!(others.packet(200), ["-1"]);
}

#[test]
fn a_message_that_was_made_to_point_elsewhere_does_so_to_the_end_of_its_run() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = Arc::new(workshop.modules(&["message"]));
    let text = "route { letters(); xlog(\"$rc\"); divert(); letters(); xlog(\"$rc\"); has(\"where\"); xlog(\"$rc\"); }";
    let mut routes = Routes::new(&modules, text);
    for _ in 0..2 {
        assert_eq!(routes.packet(200), ["-1", "9", "1"]);
    }
}

#[test]
fn a_zero_stands_behind_each_packet() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = Arc::new(workshop.modules(&["message"]));
    let mut routes = Routes::new(&modules, "route { look(); xlog(\"$rc\"); }");
    // The largest datagram first: what was there before is behind the others.
    for len in [65_507, 65_506, 200] {
        assert_eq!(routes.packet(len), ["-1"], "{len}");
    }
    let functions = modules.functions();
    let mut letters = functions.iter().filter(|each| each.name == "letters");
    let letters = letters.next().expect("it is there").id;
    let call = modules.prepare(letters, &[]).expect("it takes none");
    let mut message = Message::new();
    assert_eq!(call.run(&mut message), -1, "a text that is empty");
    let origin = binrush::abi::base::ReceiveInfo::new(None, None, 1);
    for len in [1, 65_535, 65_536, 1 << 20] {
        message.show(origin, &vec![b'x'; len]);
        let answer = usize::try_from(call.run(&mut message));
        assert_eq!(answer, Ok(len), "all letters before the 0");
    }
}

#[test]
fn a_route_without_a_packet_shows_an_empty_text() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = Arc::new(workshop.modules(&["message"]));
    let text = "timer_route[t, 1] { look(); xlog(\"$rc\"); letters(); xlog(\"$rc\"); scribble(); look(); xlog(\"$rc\"); }";
    let mut routes = Routes::new(&modules, text);
    for seconds in 0..3 {
        routes
            .front
            .turn(&mut || Timestamp::from_nanos(seconds * 1_000_000_000));
    }
    assert_eq!(routes.said(), ["-1", "-1", "1"].repeat(2));
}

#[test]
fn each_call_of_a_function_is_counted_and_so_is_each_that_takes_too_long() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = Arc::new(workshop.modules(&["message"]));
    let counts = Arc::new(CallbackCounts::new(1));
    let text = "route { look(); if ($ml == 100) dawdle(\"120\"); }";
    let mut routes = Routes::counted(&modules, text, &counts);
    for len in [200, 100, 300] {
        routes.packet(len);
    }
    let totals = counts.totals();
    assert_eq!((totals.functions, totals.functions_over_budget), (4, 1));
    assert!(totals.longest >= Duration::from_millis(120), "{totals:?}");
    assert_eq!((totals.calls, totals.over_budget), (0, 0), "{totals:?}");
}
