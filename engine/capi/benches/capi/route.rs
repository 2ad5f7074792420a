//! Functions in C that a request route calls, through what stands in front of the handlers of a shard.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use binrush::bin::Poison;
use binrush::handler::{CallbackCounts, Care};
use binrush::loader::{Loader, Modules, Options};
use binrush::script::{ModuleFunctions, Terms};
use binrush_engine::dispatch::front::Front;
use binrush_engine::event::Param;
use binrush_engine::script::{Events, Host, Level, Program, Script, Scripts};
use binrush_engine::{Origin, ShardId};
use binrush_wire::{Builder, Generation, Packet};
use criterion::{BenchmarkId, Criterion, Throughput};

/// Nobody hears what is said.
struct Nobody;

impl Host for Nobody {
    fn wants(&self, _: Level) -> bool {
        false
    }

    fn log(&self, _: Level, _: &str) {}

    fn raise(&self, _: usize, _: &str, _: &[Param<'_>]) -> i32 {
        -1
    }

    fn subscribe(&self, _: &str, _: &str, _: Option<u32>) -> i32 {
        -1
    }
}

pub(crate) fn route(criterion: &mut Criterion) {
    let Some(modules) = modules() else {
        println!("there is no C compiler: nothing to call");
        return;
    };
    let mut group = criterion.benchmark_group("route");
    group.throughput(Throughput::Elements(1));
    let budget = Some(Duration::from_millis(1));
    for (label, text, budget) in [
        ("no call", "route { if ($bin(type) != 2) drop; }", budget),
        ("a call and an if", "route { if (!yes()) drop; }", budget),
        ("unwatched", "route { if (!yes()) drop; }", None),
        (
            "three calls",
            "route { yes(); yes(); if (!yes()) drop; }",
            budget,
        ),
    ] {
        for len in [200, 60_000] {
            let counts = Arc::new(CallbackCounts::new(1));
            let mut front = front(&modules, text, &counts, budget);
            let bytes = packet(len);
            let packet = Packet::parse(Generation::Legacy, &bytes).expect("it was built");
            assert!(front.admits(&Origin::Process, &packet));
            let calls = u64::try_from(text.matches("yes()").count()).expect("a few");
            assert_eq!(counts.totals().functions, calls, "{label}");
            group.bench_function(BenchmarkId::new(label, len), |bencher| {
                bencher.iter(|| front.admits(&Origin::Process, black_box(&packet)));
            });
        }
    }
    group.finish();
}

fn front(
    modules: &Arc<Modules>,
    text: &str,
    counts: &Arc<CallbackCounts>,
    budget: Option<Duration>,
) -> Box<dyn Front> {
    let script = Script::read(Path::new("bench.cfg"), text.into());
    let (script, _) = script.unwrap_or_else(|error| panic!("{error}"));
    let functions = ModuleFunctions::new(modules, |_| Terms {
        is_reentrant: false,
        care: Care {
            module: "route",
            counts: Arc::clone(counts),
            budget,
            poison: Poison::Off,
        },
    });
    let program = Program::link(&script, Arc::new(functions));
    let program = program.unwrap_or_else(|error| panic!("{error}"));
    let scripts = Scripts::new(
        program,
        Arc::new(Nobody),
        Arc::new(Events::new([])),
        1,
        ShardId(0),
    );
    scripts.fronts()(ShardId(0)).expect("there is a request route")
}

/// The module, initialised on this thread.
fn modules() -> Option<Arc<Modules>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = compile(folder)?;
    let mut loader = Loader::new(Options {
        vouched: Some(folder.to_owned()),
        ..Options::default()
    });
    let written = library.to_str().expect("the path is text");
    let loaded = loader.load(None, written);
    loaded.unwrap_or_else(|error| panic!("{error}"));
    let modules = loader.finish();
    modules.init().unwrap_or_else(|error| panic!("{error}"));
    Some(Arc::new(modules))
}

fn compile(folder: &Path) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = folder.join("route.so");
    let done = Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", "-I"])
        .arg(own.join("include"))
        .arg(own.join("benches/route.c"))
        .arg("-o")
        .arg(&library)
        .status()
        .ok()?;
    assert!(done.success(), "{done}");
    // Whatever the umask is: what others may write to is not loaded.
    fs::set_permissions(&library, fs::Permissions::from_mode(0o644)).expect("it is ours");
    Some(library)
}

/// A packet of `len` bytes, most of them one text.
fn packet(len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    let builder = Builder::new(Generation::Legacy, &mut buffer, b"dialog", 2, 0);
    let mut builder = builder.expect("it has room");
    // Four bytes say how long the text is.
    let text = vec![b'x'; len - builder.len() - 4];
    builder.push_str(&text).expect("it has room");
    let bytes = builder.seal().to_vec();
    assert_eq!(bytes.len(), len);
    bytes
}
