//! A script is refused with reasons, or runs and ends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use binrush_engine::config::{ConfigError, PROBLEMS_MAX, Place};
use binrush_engine::event::{Event, Param};
use binrush_engine::script::{
    Events, FunctionId, Functions, Host, Kind, Level, Prepared, Program, Scene, Script, Scripts,
    Unresolved,
};
use binrush_engine::{Ends, Origin, ShardId, Timestamp};
use binrush_wire::{Builder, Generation, Packet, Trailer};

/// All that a script may be made of, and some that it may not.
const WORDS: [&str; 71] = [
    "route {",
    "route[a] {",
    "route[b] {",
    "startup_route {",
    "timer_route[t, 1] {",
    "event_route[E_X] {",
    "}",
    "}",
    "}",
    "{",
    "(",
    ")",
    ")",
    ";",
    ";",
    ";",
    ",",
    "if (",
    "else",
    "else if (",
    "f()",
    "f(\"a\")",
    "g()",
    "g(1, \"b\")",
    "f();",
    "g();",
    "route(a)",
    "route(b);",
    "route(nowhere);",
    "return(-1);",
    "return;",
    "return(0);",
    "return($var(x));",
    "exit;",
    "drop;",
    "&&",
    "||",
    "!",
    "not",
    "and",
    "==",
    "!=",
    "<",
    ">=",
    "=",
    "1",
    "-5",
    "\"text\"",
    "'t'",
    "null",
    "$var(x)",
    "$var(y) =",
    "$si",
    "$ml",
    "$bin(type)",
    "$rc",
    "$bin(name)",
    "$bin(version)",
    "$bin(node)",
    "$bin(cluster)",
    "$pr",
    "$mb",
    "$param(1)",
    "$nothing",
    "xlog(\"$mb $var(x)\");",
    "xlog(\"L_DBG\", \"x\");",
    "raise_event(\"E_X\", \"a=$ml\");",
    "raise_event(\"E_X\", \"$bin(node)\", \"b=$mb$si\");",
    "subscribe_event(\"E_X\", \"/x\");",
    "# }",
    "\"",
];

/// Functions `f` and `g` of any number of parameters up to two. What they return changes from call to call.
#[derive(Debug, Default)]
struct Module(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicI64,
    /// Calls that were to be prepared.
    asked: AtomicI64,
    /// Those that are prepared and not freed yet.
    prepared: AtomicI64,
}

struct Site(Arc<Counts>);

impl Functions for Module {
    fn resolve(&self, name: &str, count: usize, kind: Kind) -> Result<FunctionId, Unresolved> {
        match (name, count, kind) {
            ("f", 0..=2, _) => Ok(FunctionId(0)),
            ("g", 0..=2, Kind::Request | Kind::Timer) => Ok(FunctionId(1)),
            ("g", 0..=2, _) => Err(Unresolved::Route(vec![Kind::Request, Kind::Timer])),
            ("f" | "g", ..) => Err(Unresolved::Count(vec![0, 1, 2])),
            _ => Err(Unresolved::Unknown),
        }
    }

    fn names(&self) -> Vec<String> {
        vec!["f".to_owned(), "g".to_owned()]
    }

    fn prepare(&self, _: FunctionId, params: &[String]) -> Result<Box<dyn Prepared>, String> {
        let asked = self.0.asked.fetch_add(1, Ordering::Relaxed);
        if params.iter().any(|param| param == "b") && asked % 2 == 1 {
            return Err("not here".to_owned());
        }
        self.0.prepared.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Site(Arc::clone(&self.0))))
    }

    fn home(&self, function: FunctionId) -> Option<&str> {
        (function.0 == 1).then_some("g")
    }
}

impl Prepared for Site {
    fn call(&self, _: &Scene<'_>) -> i32 {
        let calls = self.0.calls.fetch_add(1, Ordering::Relaxed);
        [1, -1, 1, 2, -1, 1, 0][usize::try_from(calls % 7).expect("below 7")]
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.0.prepared.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host for Module {
    fn wants(&self, level: Level) -> bool {
        level < Level::Debug
    }

    fn log(&self, _: Level, text: &str) {
        assert!(text.len() <= 4096, "{} bytes", text.len());
    }

    fn raise(&self, index: usize, name: &str, params: &[Param<'_>]) -> i32 {
        assert!(index < 1000 && name.starts_with(|c: char| c.is_ascii_graphic()));
        assert!(params.len() <= 5);
        1
    }

    fn subscribe(&self, _: &str, _: &str, _: Option<u32>) -> i32 {
        -1
    }
}

pub(super) fn ends(data: &[u8]) {
    let Some((options, rest)) = data.split_first() else {
        return;
    };
    let text = match options % 2 {
        0 => rest.to_vec(),
        _ => {
            let words = rest
                .iter()
                .map(|byte| WORDS[usize::from(*byte) % WORDS.len()]);
            words.collect::<Vec<_>>().join(" ").into_bytes()
        }
    };
    let shown = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = shown.split('\n').collect();
    let script = match Script::read(Path::new("fuzz.cfg"), text) {
        Ok((script, _)) => script,
        Err(error) => return refused(&error, &lines),
    };
    let module = Arc::new(Module::default());
    match Program::link(&script, Arc::clone(&module) as _) {
        Ok(program) => run(program, &module, &script),
        Err(error) => {
            assert!((1..=PROBLEMS_MAX).contains(&error.problems.len()));
            for problem in &error.problems {
                assert!(!problem.message.is_empty());
                is_there(&problem.excerpt.place, &problem.excerpt.marked(), &lines);
            }
        }
    }
    assert_eq!(
        module.0.prepared.load(Ordering::Relaxed),
        0,
        "freed once each"
    );
}

fn refused(error: &ConfigError, lines: &[&str]) {
    let problems = error.problems();
    assert!((1..=PROBLEMS_MAX).contains(&problems.len()), "{error}");
    for problem in problems {
        let place = problem.place().expect("it is in the text");
        assert!(!problem.message().is_empty());
        let told = problem.to_string();
        let marked: Vec<&str> = told.rsplitn(3, '\n').take(2).collect();
        is_there(place, &[marked[1], marked[0]].join("\n"), lines);
    }
}

/// Asserts that `place` is in the text, and that what is `marked` below a line is below what is shown of it.
fn is_there(place: &Place, marked: &str, lines: &[&str]) {
    let line = (place.line as usize).checked_sub(1);
    let line = line.and_then(|index| lines.get(index));
    let line = line.unwrap_or_else(|| panic!("{place} of {} lines", lines.len()));
    let columns = line.chars().count() + 1;
    assert!((1..=columns).contains(&(place.column as usize)), "{place}");
    let (shown, mark) = marked.split_once('\n').expect("two lines");
    let mark = mark.trim_start_matches(' ');
    assert!(
        !mark.is_empty() && mark.bytes().all(|byte| byte == b'^'),
        "{marked}"
    );
    let before = marked.len() - shown.len() - 1 - mark.len();
    let length = shown.chars().count();
    assert!(
        before <= length && mark.len() <= (length - before).max(1),
        "{marked}"
    );
}

/// Runs all that runs by itself.
fn run(program: Program, module: &Arc<Module>, script: &Script) {
    let events = Arc::new(Events::new(script.events()));
    let homes = program.homes().count();
    let (host, heard) = (Arc::clone(module) as _, Arc::clone(&events));
    let scripts = Scripts::new(program, host, heard, 1, ShardId(0));
    scripts.startup();
    let Some(mut front) = scripts.fronts()(ShardId(0)) else {
        return;
    };
    assert!(homes > 0, "something runs");
    let stream = Origin::Stream {
        ends: Ends {
            peer: ([192, 0, 2, 9], 5555).into(),
            local: None,
        },
        generation: Generation::Modern,
        release: None,
    };
    let trailer = Some(Trailer::new(1, 3, 2));
    for (origin, generation, name, trailer) in [
        (Origin::Datagram(None), Generation::Legacy, &b"ul"[..], None),
        (stream, Generation::Modern, b"dialog-dlg-repl", trailer),
        (stream, Generation::Modern, b"dialog-dlg-repl", None),
        (stream, Generation::Modern, b"clusterer-internal", trailer),
        (stream, Generation::Modern, b"clusterer-internal", None),
    ] {
        let mut buffer = [0; 128];
        let builder = Builder::new(generation, &mut buffer, name, 1, 1);
        let mut builder = builder.expect("it fits");
        builder.push_str(b"a\xff\n").expect("it fits");
        if let Some(trailer) = trailer {
            builder.push_trailer(trailer).expect("it fits");
        }
        let packet = Packet::parse(generation, builder.seal()).expect("it was made");
        let before = scripts.counts();
        let admits = front.admits(&origin, &packet);
        let after = scripts.counts();
        assert_eq!(
            after.runs - before.runs,
            u64::from(script.has_request_route())
        );
        assert_eq!(after.dropped - before.dropped, u64::from(!admits));
    }
    for second in 0..3 {
        events.offer(&Event::new(b"E_X").with(Param::str("a", b"1")));
        front.turn(&mut || Timestamp::from_nanos(second * 1_000_000_000));
    }
    let counts = scripts.counts();
    let fates = counts.events_run + counts.events_dropped + counts.events_left;
    assert_eq!(counts.events_offered, fates);
}
