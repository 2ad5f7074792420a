//! What a request route costs a shard for each packet.
//!
//! ```text
//!   [Front::admits: the scene, the route, its counter] ─▶ handler
//! ```
//!
//! The functions do nothing: what is measured is the way to them. Each route's answer is checked before its time.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use binrush_engine::dispatch::front::Front;
use binrush_engine::event::Param;
use binrush_engine::script::{
    Events, FunctionId, Functions, Host, Kind, Level, Prepared, Program, Scene, Script, Scripts,
    Unresolved,
};
use binrush_engine::{Ends, Origin, ShardId};
use binrush_wire::{Builder, Generation, Packet, Trailer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// One function that says yes, of any number of parameters.
struct Yes;

impl Functions for Yes {
    fn resolve(&self, _: &str, _: usize, _: Kind) -> Result<FunctionId, Unresolved> {
        Ok(FunctionId(0))
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn prepare(&self, _: FunctionId, _: &[String]) -> Result<Box<dyn Prepared>, String> {
        Ok(Box::new(Self))
    }

    fn home(&self, _: FunctionId) -> Option<&str> {
        None
    }
}

impl Prepared for Yes {
    fn call(&self, scene: &Scene<'_>) -> i32 {
        i32::from(black_box(scene).packet().is_some())
    }
}

impl Host for Yes {
    fn wants(&self, level: Level) -> bool {
        level < Level::Debug
    }

    fn log(&self, _: Level, text: &str) {
        black_box(text);
    }

    fn raise(&self, _: usize, _: &str, _: &[Param<'_>]) -> i32 {
        1
    }

    fn subscribe(&self, _: &str, _: &str, _: Option<u32>) -> i32 {
        1
    }
}

fn front(text: &str) -> (Box<dyn Front>, Scripts) {
    let script = Script::read(Path::new("bench.cfg"), text.into());
    let (script, _) = script.unwrap_or_else(|error| panic!("{error}"));
    let program = Program::link(&script, Arc::new(Yes));
    let program = program.unwrap_or_else(|error| panic!("{error}"));
    let events = Arc::new(Events::new([]));
    let scripts = Scripts::new(program, Arc::new(Yes), events, 1, ShardId(0));
    let front = scripts.fronts()(ShardId(0)).expect("there is a request route");
    (front, scripts)
}

/// Routes of which each does `body` and calls the next one twice, sixty deep: they end where every run does.
fn endless(body: &str) -> (Box<dyn Front>, Scripts) {
    let mut text = "route { route(r0); }".to_owned();
    for n in 0..60 {
        let next = n + 1;
        text += &format!(" route[r{n}] {{ {body} route(r{next}); route(r{next}); }}");
    }
    front(&(text + " route[r60] { return; }"))
}

fn routes(criterion: &mut Criterion) {
    let mut buffer = [0; 512];
    let name = b"dialog-dlg-repl";
    let builder = Builder::new(Generation::Modern, &mut buffer, name, 2, 5);
    let mut builder = builder.expect("it fits");
    builder.push_str(&[b'x'; 300]).expect("it fits");
    builder
        .push_trailer(Trailer::new(1, 3, 2))
        .expect("it fits");
    let packet = Packet::parse(Generation::Modern, builder.seal()).expect("it was made");
    let origin = Origin::Stream {
        ends: Ends::new(([192, 0, 2, 9], 40_000).into(), None),
        generation: Generation::Modern,
        release: None,
    };
    let mut group = criterion.benchmark_group("script");
    group.throughput(Throughput::Elements(1));
    for (label, text, admitted) in [
        ("empty", "route { }", true),
        (
            "a call and an if",
            "route { if (check(\"a\")) exit; drop; }",
            true,
        ),
        (
            "names, calls, routes",
            "route { if ($bin(name) == \"dialog-dlg-repl\" && $bin(type) == 2) route(a); } route[a] { if (!check(\"a\")) drop; \
             $var(x) = $ml; if ($var(x) > 65000 || check()) return; drop; }",
            true,
        ),
        (
            "source and node",
            "route { if ($si == \"192.0.2.9\" && $bin(node) == 3) drop; }",
            false,
        ),
        (
            "a line",
            "route { xlog(\"L_INFO\", \"$bin(name) $bin(type) from $si, $ml bytes\"); }",
            true,
        ),
    ] {
        let (mut front, _) = front(text);
        assert_eq!(front.admits(&origin, &packet), admitted, "{label}");
        group.bench_function(label, |bencher| {
            bencher.iter(|| front.admits(black_box(&origin), black_box(&packet)));
        });
    }
    for (label, body) in [
        ("the longest run", ""),
        (
            "the longest run, comparing",
            "if ($bin(name) == \"dialog-dlg-rep\") drop; $var(x) = $ml; if ($var(x) < 60) drop;",
        ),
    ] {
        let (mut front, scripts) = endless(body);
        assert!(front.admits(&origin, &packet), "{label}");
        assert_eq!(scripts.counts().endless, 1, "{label}");
        group.bench_function(label, |bencher| {
            bencher.iter(|| front.admits(black_box(&origin), black_box(&packet)));
        });
    }
    group.finish();
}

criterion_group!(benches, routes);
criterion_main!(benches);
