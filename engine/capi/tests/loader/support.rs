//! Commands, statistics, events and lines for the log.

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

use binrush::abi::base::Str;
use binrush::abi::module::PROC_BIN;
use binrush::loader::{CommandError, Modules};
use binrush::support::events::{self, Event, EventValue, Sink};
use binrush::support::log::{self, Level};

use crate::workshop::{Workshop, id, variable};

#[test]
fn a_command_answers_with_a_tree() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["mi"]);
    assert_eq!(
        modules.commands(),
        [
            "mi_registered",
            "mi_echo",
            "mi_complain",
            "mi_same",
            "mi_nothing",
            "mi_later",
            "mi_no_input"
        ]
    );
    assert_eq!(
        modules.command_help("mi_echo").as_deref(),
        Some("Says what it is told.")
    );
    assert_eq!(modules.command_help("mi_same"), None);
    let mi = id(&modules, "mi");
    assert_eq!(modules.command_owner("mi_echo"), Some(mi));
    modules.child_init(mi, PROC_BIN).expect("it can start");
    // Of one in its table, and of one that it registered itself.
    assert_eq!(variable::<c_int>(&workshop.path("mi.so"), "mi_children"), 2);

    let reply = modules
        .run_command("mi_echo", &["one", "", "t\"o"])
        .expect("it answers");
    assert_eq!(
        reply.to_string(),
        "200 OK\n\
         echo:: given\n\
         \tparam:: one len=3 twice=6\n\
         \tparam::  len=0 twice=0\n\
         \tparam:: t\"o len=3 twice=6\n\
         \tlast:: of all\n"
    );
    assert_eq!(
        reply.to_json(),
        "{\"code\":200,\"reason\":\"OK\",\"nodes\":[{\"name\":\"echo\",\"value\":\"given\",\"nodes\":[\
         {\"name\":\"param\",\"value\":\"one\",\"attributes\":[[\"len\",\"3\"],[\"twice\",\"6\"]]},\
         {\"name\":\"param\",\"value\":\"\",\"attributes\":[[\"len\",\"0\"],[\"twice\",\"0\"]]},\
         {\"name\":\"param\",\"value\":\"t\\\"o\",\"attributes\":[[\"len\",\"3\"],[\"twice\",\"6\"]]},\
         {\"name\":\"last\",\"value\":\"of all\"}]}]}"
    );
    let reply = modules
        .run_command("mi_same", &["back"])
        .expect("it answers");
    assert_eq!(reply.to_string(), "200 \n:: back\n");
    let reply = modules
        .run_command("mi_complain", &[])
        .expect("a complaint is an answer");
    assert_eq!(
        (reply.code, &*reply.reason),
        (400, "Too few or too many arguments")
    );
    let reply = modules.run_command("mi_no_input", &[]).expect("it answers");
    assert_eq!(reply.code, 200);

    modules.destroy();
    assert_eq!(modules.commands(), [""; 0]);
}

#[test]
fn a_command_without_an_answer_is_an_error() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["mi"]);
    let said = |name: &str, params: &[&str]| {
        let outcome: Result<_, CommandError> = modules.run_command(name, params);
        outcome.expect_err("there is none").to_string()
    };
    assert_eq!(
        said("mi_nothing", &[]),
        "command \"mi_nothing\" of module \"mi\" failed without an answer"
    );
    assert_eq!(
        said("mi_later", &[]),
        "command \"mi_later\" of module \"mi\" answers later, and nothing here waits for it"
    );
    assert_eq!(
        said("mi_no_input", &["x"]),
        "command \"mi_no_input\" takes no parameters"
    );
    assert_eq!(
        said("mi_ecko", &[]),
        "no module has a command \"mi_ecko\"; did you mean \"mi_echo\"?"
    );
    assert_eq!(
        said("stats_count", &[]),
        "no module has a command \"stats_count\""
    );
    modules.destroy();
}

#[test]
fn statistics_are_read_as_modules_count_them() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["stats"]);
    let read = |modules: &Modules| -> Vec<_> {
        let statistics = modules.statistics().into_iter();
        statistics
            .map(|s| (s.module, s.name, s.value, s.is_counter))
            .collect()
    };
    let stat = |module: &str, name: &str, value, is_counter| {
        (module.to_owned(), name.to_owned(), value, is_counter)
    };
    assert_eq!(
        read(&modules),
        [
            stat("stats", "packets", 0, true),
            stat("stats", "active", 0, false),
            stat("stats", "asked", 1, false)
        ]
    );
    for _ in 0..2 {
        let reply = modules.run_command("stats_count", &[]).expect("it answers");
        assert_eq!((reply.code, &*reply.reason), (200, "OK"));
    }
    assert_eq!(
        read(&modules),
        [
            stat("stats", "packets", 6, true),
            stat("stats", "active", 2, false),
            stat("stats", "asked", 2, false),
            stat("stats", "late-packets", 14, true),
            stat("dynamic", "late-packets", 10, true)
        ]
    );
    let reply = modules.run_command("stats_reset", &[]).expect("it answers");
    assert_eq!(reply.nodes[0].value, "6");
    let values: Vec<_> = read(&modules).into_iter().map(|s| s.2).collect();
    assert_eq!(values, [0, 2, 3, 14, 10]);
    modules.destroy();
    assert_eq!(modules.statistics(), []);
}

/// Takes events of one name, once they are wanted.
struct Listener(Mutex<Vec<Event>>);

static LISTENER: Listener = Listener(Mutex::new(Vec::new()));

impl Sink for &'static Listener {
    fn publish(&self, name: &str) -> bool {
        name != "E_TEST_REFUSED"
    }

    fn wants(&self, name: &str) -> bool {
        name == "E_TEST_HAPPENED"
    }

    fn raise(&self, event: Event) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
        true
    }
}

#[test]
fn events_are_raised_with_their_parameters_if_anybody_wants_them() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["events"]);
    let raise = || {
        modules
            .run_command("events_raise", &[])
            .expect("it answers")
    };
    assert_eq!(raise().reason, "nobody wants it");
    assert!(events::set_sink(Box::new(&LISTENER)));
    let publish = |name: &str| {
        let name = Str {
            s: name.as_ptr().cast_mut().cast(),
            len: c_int::try_from(name.len()).expect("it is short"),
        };
        // SAFETY: it is as long as it says.
        unsafe { events::evi_publish_event(name) }
    };
    assert_eq!(publish("E_TEST_REFUSED"), -1);
    assert_eq!(publish("E_TEST_HAPPENED"), 0, "the first there is");
    assert_eq!(raise().reason, "OK");
    let text = |text: &[u8]| Some(text.to_vec());
    let raised = std::mem::take(&mut *LISTENER.0.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(
        raised,
        [
            Event {
                name: "E_TEST_HAPPENED".to_owned(),
                params: vec![
                    (text(b"callid"), EventValue::Str(b"a\0b".to_vec())),
                    (text(b"number"), EventValue::Int(-5)),
                    (None, EventValue::Int(7)),
                    (text(b"nothing"), EventValue::Null),
                    (text(b"empty"), EventValue::Str(Vec::new())),
                    (text(b"unset"), EventValue::Null),
                ],
            },
            Event {
                name: "E_TEST_HAPPENED".to_owned(),
                params: vec![],
            },
        ]
    );
    // What was refused takes no place.
    assert_eq!(events::counts(), [("E_TEST_HAPPENED".to_owned(), 2)]);
    modules.destroy();
}

static LINES: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

fn said() -> MutexGuard<'static, Vec<(Level, String)>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens from now on; what it answers tells the lines that were said.
pub(crate) fn lines() -> impl Fn() -> Vec<String> {
    log::set_sink(|level, line| said().push((level, line.to_owned())));
    said().clear();
    || said().iter().map(|(_, line)| line.clone()).collect()
}

#[test]
fn a_line_has_the_names_of_the_module_and_of_the_function() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let lines = lines();
    let modules = workshop.loader(&["failing_init"]).finish();
    modules.init().map(drop).expect_err("it cannot start");
    assert_eq!(
        lines(),
        ["failing_init: error: mod_init: there is nothing to do here"]
    );
    assert_eq!(said()[0].0, Level::Error);
}

#[test]
fn what_a_thread_of_a_modules_own_says_and_registers_is_the_modules() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let lines = lines();
    let modules = workshop.modules(&["own_thread"]);
    let reply = modules.run_command("own_start", &[]).expect("it answers");
    assert_eq!((reply.code, &*reply.reason), (200, "OK"));
    assert_eq!(lines(), ["own_thread: error: run: a line"]);
    let names: Vec<_> = modules.statistics().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["counted"]);
    modules.destroy();
}

#[test]
fn the_headers_make_numbers_of_texts_and_the_other_way_around() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    // What fails is a line in the log, and the module's answer.
    workshop.modules(&["numbers"]);
}
