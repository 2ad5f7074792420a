//! From mod_init to destroy.

use std::ffi::c_int;
use std::sync::mpsc;
use std::thread;

use binrush::abi::module::PROC_BIN;
use binrush::bin::registrations::{Callback, Registration};
use binrush::loader::{InitError, Loader, Modules, Value};

use crate::workshop::{Workshop, compile_with, id, source, text, variable};

#[test]
fn a_module_is_initialised_once_given_its_rank_and_ended_once() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.loader(&["tutorial"]).finish();
    let library = workshop.path("tutorial.so");
    let tutorial = id(&modules, "tutorial");
    let counts = || {
        ["initialised", "children", "destroyed"]
            .map(|what| variable::<c_int>(&library, &format!("tutorial_{what}")))
    };
    let early = modules
        .child_init(tutorial, PROC_BIN)
        .map(drop)
        .expect_err("it is too early");
    assert_eq!(
        early.to_string(),
        "module \"tutorial\" is not initialised yet, so it cannot be initialised"
    );
    assert_eq!(counts(), [0, 0, 0]);
    assert_eq!(modules.init().expect("it can start").len(), 1);
    let again = modules.init().map(drop).expect_err("it is done");
    assert!(matches!(again, InitError::Order { .. }), "{again}");
    modules
        .child_init(tutorial, PROC_BIN)
        .expect("it can start");
    assert_eq!(variable::<c_int>(&library, "tutorial_rank"), -8);
    assert_eq!(counts(), [1, 1, 0]);
    modules.destroy();
    modules.destroy();
    assert_eq!(counts(), [1, 1, 1]);
    let late = modules.child_init(tutorial, PROC_BIN).map(drop);
    assert!(late.is_err());
}

#[test]
fn a_module_that_is_not_initialised_is_not_ended() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop
        .loader(&["null_tables", "failing_init", "tutorial"])
        .finish();
    let error = modules.init().map(drop).expect_err("the second one fails");
    assert_eq!(
        error.to_string(),
        "module \"failing_init\" cannot start: its mod_init answered -7"
    );
    modules.destroy();
    let library = workshop.path("tutorial.so");
    for what in ["tutorial_initialised", "tutorial_destroyed"] {
        assert_eq!(variable::<c_int>(&library, what), 0, "{what}");
    }
}

#[test]
fn a_child_that_cannot_start_is_named_with_its_rank() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["failing_child"]);
    let child = id(&modules, "failing_child");
    let error = modules
        .child_init(child, PROC_BIN)
        .map(drop)
        .expect_err("it fails");
    assert_eq!(
        error.to_string(),
        "module \"failing_child\" cannot start: its child_init with rank -8 answered -5"
    );
    modules.child_init(child, 0).expect("another rank is fine");
}

#[test]
fn what_each_module_registers_comes_in_the_order_of_loading() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.loader(&["twice", "null_tables", "leak"]).finish();
    let registered = modules.init().expect("all can start");
    let names: Vec<_> = registered
        .iter()
        .map(|(id, of)| {
            let of: Vec<_> = of
                .iter()
                .map(|one| String::from_utf8_lossy(&one.name))
                .collect();
            (modules.name(*id), of.join(" "))
        })
        .collect();
    assert_eq!(
        names,
        [
            ("twice", "twice twice".to_owned()),
            ("null_tables", String::new()),
            ("leak", "leak".to_owned())
        ]
    );
    let all = registered.iter().flat_map(|(_, of)| of);
    assert!(
        all.into_iter()
            .all(|one| matches!(one.callback, Callback::Legacy(_)))
    );
}

#[test]
fn what_a_module_registers_is_told_wherever_its_code_ran() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let mut loader = workshop.loader(&["registers_early"]);
    loader
        .modparam("registers_early", "name", &Value::Int(1))
        .expect("it is one");
    let modules = loader.finish();
    let names = |registered: Vec<Registration>| {
        let names = registered.iter();
        let names: Vec<_> = names
            .map(|one| String::from_utf8_lossy(&one.name).into_owned())
            .collect();
        names.join(" ")
    };
    let mut registered = modules.init().expect("each was taken");
    assert_eq!(
        names(registered.remove(0).1),
        "constructor parameter mod_init"
    );
    let early = id(&modules, "registers_early");
    let registered = modules.child_init(early, PROC_BIN).expect("each was taken");
    assert_eq!(names(registered), "child_init command_init");
}

#[test]
fn nothing_is_popped_where_there_is_no_packet() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["pops_outside"]);
    modules
        .child_init(id(&modules, "pops_outside"), PROC_BIN)
        .expect("each pop is refused");
    let reply = modules
        .run_command("pops_outside", &[])
        .expect("it answers");
    assert_eq!((reply.code, &*reply.reason), (200, "OK"));
}

#[test]
fn modules_find_the_functions_and_parameters_of_others() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    // What fails is told by the code.
    workshop.modules(&["tutorial", "binding"]);
}

/// The modules of `asks.c` under these names, numbered from 1, loaded and not initialised.
fn asking(workshop: &Workshop, names: [&str; 3]) -> Modules {
    let mut loader = Loader::new(workshop.options());
    for (name, number) in names.into_iter().zip(1..) {
        let library = workshop.path(&format!("{name}.so"));
        let flags = [format!("-DWHO=\"{name}\""), format!("-DNUMBER={number}")];
        compile_with(
            &source("asks"),
            &library,
            &flags.each_ref().map(|flag| &**flag),
        );
        loader.load(None, text(&library)).expect("it is a module");
    }
    loader.finish()
}

#[test]
fn of_several_functions_with_one_name_that_of_the_module_loaded_last_is_found() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let names = ["asks1", "asks2", "asks3"];
    let modules = asking(&workshop, names);
    modules.init().expect("each is in order");
    let found =
        names.map(|name| variable::<c_int>(&workshop.path(&format!("{name}.so")), "asks_found"));
    assert_eq!(found, [3; 3]);
}

#[test]
fn a_reentrant_module_is_not_given_a_function_that_belongs_to_one_thread() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let lines = crate::support::lines();
    let names = ["asks4", "asks5", "asks6"];
    let modules = asking(&workshop, names);
    modules.make_reentrant(id(&modules, "asks4"));
    modules.init().expect("each is in order");
    let found =
        names.map(|name| variable::<c_int>(&workshop.path(&format!("{name}.so")), "asks_found"));
    assert_eq!(found, [0, 3, 3]);
    let refused = "asks4: error: function \"given\" is not given: module asks6 is not reentrant, and who asks is";
    assert_eq!(lines(), [refused; 2]);
}

#[test]
fn a_module_is_reentrant_from_its_constructors_on_and_on_threads_of_its_own() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let lines = crate::support::lines();
    let mut options = workshop.options();
    options.reentrant = vec!["early2".to_owned()];
    let mut loader = Loader::new(options);
    let mut load = |source_name: &str, name: &str| {
        let library = workshop.path(&format!("{name}.so"));
        let flags = [format!("-DWHO=\"{name}\""), "-DNUMBER=7".to_owned()];
        let flags = flags.each_ref().map(|flag| &**flag);
        compile_with(&source(source_name), &library, &flags);
        loader.load(None, text(&library)).expect("it is a module");
    };
    load("asks", "asks7");
    for name in ["early1", "early2", "early3"] {
        load("asks_early", name);
    }
    let set = loader.modparam("early.", "ask", &Value::Int(1));
    assert_eq!(set.expect("each has it"), 3);
    loader.finish().init().expect("each is in order");
    let found = |name: &str| {
        let library = workshop.path(&format!("{name}.so"));
        ["constructed", "set", "thread"]
            .map(|when| variable::<c_int>(&library, &format!("asks_{when}")))
    };
    // The first may have been the one that is reentrant, as far as anybody knew.
    let expected: [[c_int; 3]; 3] = [[0, 7, 7], [0, 0, 0], [7, 7, 7]];
    assert_eq!(["early1", "early2", "early3"].map(found), expected);
    let refused = "function \"given\" is not given: module asks7 is not reentrant, and who asks";
    let told = lines();
    let told: Vec<_> = told.iter().map(|line| line.contains(refused)).collect();
    assert_eq!(told, [true; 4]);
}

#[test]
fn modules_begin_in_the_order_of_loading_and_end_in_the_reverse() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let lines = crate::support::lines();
    let mut loader = Loader::new(workshop.options());
    for who in ["first", "second", "third"] {
        let library = workshop.path(&format!("{who}.so"));
        let define = format!("-DWHO=\"{who}\"");
        compile_with(&source("order"), &library, &[&define]);
        loader
            .load(None, text(&library))
            .unwrap_or_else(|error| panic!("{error}"));
    }
    let modules = loader.finish();
    modules.init().expect("all can start");
    for id in modules.ids() {
        modules.child_init(id, PROC_BIN).expect("all can start");
    }
    modules.destroy();
    let said: Vec<_> = lines()
        .iter()
        .map(|line| line.rsplit(": ").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        said,
        [
            "first begins",
            "second begins",
            "third begins",
            "first is -8",
            "second is -8",
            "third is -8",
            "third ends",
            "second ends",
            "first ends"
        ]
    );
}

#[test]
fn a_command_that_another_module_has_stays_that_ones_and_the_log_tells() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let lines = crate::support::lines();
    let modules = workshop.modules(&["mi", "mi_taken"]);
    assert_eq!(
        lines().last().map(|line| &**line),
        Some("mi_taken: error: command \"mi_echo\" is not taken: mi has one of that name")
    );
    let mi = id(&modules, "mi");
    assert_eq!(modules.command_owner("mi_echo"), Some(mi));
    modules.destroy();
}

#[test]
fn a_module_runs_on_the_thread_of_its_child_init_and_nowhere_else() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["stats", "mi"]);
    let stats = id(&modules, "stats");
    let named = |wanted: &str| {
        let statistics = modules.statistics();
        statistics.iter().filter(|one| one.name == wanted).count()
    };
    thread::scope(|scope| {
        let (done, at_home) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let modules = &modules;
        scope.spawn(move || {
            modules.child_init(stats, PROC_BIN).expect("it can start");
            done.send(modules.run_command("stats_count", &[])).unwrap();
            // Alive, so that no other thread takes its place.
            let _ = ended.recv();
        });
        let reply = at_home.recv().unwrap().expect("it runs at home");
        assert_eq!(reply.code, 200);
        let refused = modules.run_command("stats_count", &[]);
        assert_eq!(
            refused.expect_err("home is elsewhere").to_string(),
            "module \"stats\" runs on another thread, so its commands are not run here"
        );
        let refused = modules.child_init(stats, PROC_BIN).map(drop);
        let module = "stats".to_owned();
        assert_eq!(refused, Err(InitError::Elsewhere { module }));
        // Values are read anywhere, functions called at home.
        assert_eq!((named("packets"), named("asked")), (1, 0));
        // The other one did not move.
        modules
            .run_command("mi_echo", &["x"])
            .expect("home is here");
        modules.make_reentrant(stats);
        modules
            .child_init(stats, PROC_BIN)
            .expect("any thread may now");
        assert_eq!((named("packets"), named("asked")), (1, 1));
        drop(end);
    });
    modules.destroy();
}
