//! Functions of the routing script.

use std::ffi::{c_int, c_uint, c_ushort};
use std::{slice, thread};

use binrush::abi::base::ReceiveInfo;
use binrush::abi::module::{ONREPLY_ROUTE, REQUEST_ROUTE};
use binrush::loader::{Call, CallError, Message, Modules, Value};

use crate::workshop::{Workshop, variable, variable_array};

/// A call of the function `name` with as many parameters as there are.
fn prepare(modules: &Modules, name: &str, parameters: &[&str]) -> Result<Call, CallError> {
    let functions = modules.functions();
    let mut named = functions
        .iter()
        .filter(|f| f.name == name && f.parameters == parameters.len());
    let function = named.next().expect("there is one");
    let parameters: Vec<&[u8]> = parameters.iter().map(|p| p.as_bytes()).collect();
    modules.prepare(function.id, &parameters)
}

fn answer(modules: &Modules, name: &str, parameters: &[&str]) -> c_int {
    let call = prepare(modules, name, parameters).unwrap_or_else(|error| panic!("{error}"));
    call.run(&mut message_of(b"packet"))
}

fn message_of(packet: &[u8]) -> Message {
    let mut message = Message::new();
    message.show(ReceiveInfo::new(None, None, 1), packet);
    message
}

#[test]
fn the_tutorials_functions_share_a_name_and_differ_in_parameters_and_routes() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let mut loader = workshop.loader(&["tutorial"]);
    let greeting = Value::Text(b"good morning".to_vec());
    loader
        .modparam("tutorial", "greeting", &greeting)
        .expect("it is one");
    loader
        .modparam("tutorial", "times", &Value::Int(3))
        .expect("it is one");
    let signature = Value::Text(b", yours".to_vec());
    loader
        .modparam("tutorial", "signature", &signature)
        .expect("it is one");
    let modules = loader.finish();
    modules.init().expect("it can start");

    let functions = modules.functions();
    let seen: Vec<_> = functions
        .iter()
        .map(|f| (&*f.name, f.parameters, f.routes, f.has_fixup))
        .collect();
    assert_eq!(
        seen,
        [
            ("greet", 1, REQUEST_ROUTE | ONREPLY_ROUTE, true),
            ("greet", 0, REQUEST_ROUTE, false)
        ]
    );
    let library = workshop.path("tutorial.so");
    let said = || variable_array::<256>(&library, "tutorial_said");
    let count = |what: &str| variable::<c_int>(&library, &format!("tutorial_{what}"));

    let call = prepare(&modules, "greet", &["world"]).expect("it takes one");
    assert_eq!((count("fixed"), count("freed")), (1, 0));
    let mut message = Message::new();
    let source = "192.0.2.1:5566".parse().expect("an address");
    let packet = b"P4CK and what follows";
    message.show(ReceiveInfo::new(Some(source), None, 1), packet);
    assert_eq!(call.run(&mut message), 1);
    assert_eq!(said(), "good morning world x3, yours");
    let seen: *const u8 = variable(&library, "tutorial_packet");
    // What C may write to is a copy.
    assert_ne!(seen, packet.as_ptr());
    // SAFETY: the message is there, and has so many bytes.
    assert_eq!(unsafe { slice::from_raw_parts(seen, 21) }, packet);
    assert_eq!(variable::<c_uint>(&library, "tutorial_packet_len"), 21);
    assert_eq!(variable::<c_ushort>(&library, "tutorial_port"), 5566);
    drop(call);
    assert_eq!(count("freed"), 1);
    assert_eq!(answer(&modules, "greet", &[]), -2);
    assert_eq!(said(), "good morning whoever you are x3, yours");

    let wrong = modules
        .prepare(functions[1].id, &[b"one too many"])
        .map(drop);
    assert_eq!(
        wrong.expect_err("it takes none").to_string(),
        "function \"greet\" takes 0 parameters, and 1 are given"
    );
    let zero = prepare(&modules, "greet", &["a\0b"]).map(drop);
    assert_eq!(
        zero.expect_err("C would not see the rest").to_string(),
        "parameter 1 of function \"greet\" has a byte 0 in it; texts of C end there"
    );
}

#[test]
fn fixups_make_texts_and_numbers_of_what_the_script_says() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["fixups"]);
    let library = workshop.path("fixups.so");
    let kept = || variable_array::<64>(&library, "fixups_text");
    assert_eq!(answer(&modules, "f_str", &["a text"]), 1);
    assert_eq!(kept(), "a text");
    assert_eq!(answer(&modules, "f_str", &[""]), 1);
    assert_eq!(kept(), "");
    assert_eq!(answer(&modules, "f_uint", &["4294967295"]), -1);
    assert_eq!(answer(&modules, "f_uint", &["7"]), 7);
    assert_eq!(answer(&modules, "f_sint", &["-2147483648"]), c_int::MIN);
    assert_eq!(answer(&modules, "f_igp", &["-12"]), -12);
    assert_eq!(answer(&modules, "f_spve_uint", &["words", "9"]), 9);
    assert_eq!(kept(), "words");
    assert_eq!(answer(&modules, "f_spve_uint", &["8", "9"]), 8);
    assert_eq!(answer(&modules, "f_regexp", &["^a +text$"]), 1);
    assert_eq!(answer(&modules, "f_regexp", &["^text"]), -1);
}

#[test]
fn a_parameter_that_cannot_be_is_refused_when_the_script_is_read() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["fixups"]);
    for (name, parameters, number, code) in [
        ("f_uint", &["-1"][..], 1, -6),
        ("f_uint", &["4294967296"], 1, -6),
        ("f_uint", &[""], 1, -6),
        ("f_uint", &["+1"], 1, -6),
        ("f_sint", &["2147483648"], 1, -6),
        ("f_igp", &["seven"], 1, -6),
        ("f_str", &["$si"], 1, -6),
        ("f_spve_uint", &["from $si", "1"], 1, -6),
        ("f_spve_uint", &["text", "one"], 2, -6),
        ("f_regexp", &["("], 1, -3),
        ("f_pvar", &["$avp(x)"], 1, -6),
        ("f_too_many", &["text", "text"], 2, -1),
        ("f_refused", &[], 0, -9),
    ] {
        let error = prepare(&modules, name, parameters)
            .map(drop)
            .expect_err(name);
        assert_eq!(
            error.to_string(),
            format!(
                "module \"fixups\" refuses parameter {number} of function \"{name}\": its fixup answered {code}"
            )
        );
    }
}

#[test]
fn a_fixup_may_be_given_the_memory_of_the_text_that_it_freed() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["reused"]);
    // Freed twice, the C library ends the process here.
    assert_eq!(answer(&modules, "f_number", &["10"]), 10);
    let library = workshop.path("reused.so");
    let counts =
        ["same", "freed"].map(|what| variable::<c_int>(&library, &format!("reused_{what}")));
    // Under a sanitizer memory does not come back at once.
    assert!(counts[0] <= 1, "{counts:?}");
    assert_eq!(counts[1], 1);
}

#[test]
fn a_call_that_is_left_when_its_module_is_over_runs_no_code_of_it() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["reused"]);
    let lines = crate::support::lines();
    let call = prepare(&modules, "f_number", &["10"]).expect("it is a number");
    modules.destroy();
    assert_eq!(call.run(&mut message_of(b"packet")), -1);
    drop(call);
    let freed: c_int = variable(&workshop.path("reused.so"), "reused_freed");
    assert_eq!(freed, 0);
    assert_eq!(
        lines(),
        ["reused: error: a function is not called: the module is over"]
    );
}

#[test]
fn a_call_on_another_thread_than_that_of_its_module_is_not_made() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let modules = workshop.modules(&["reused"]);
    let call = prepare(&modules, "f_number", &["10"]).expect("it is a number");
    let answers = thread::scope(|scope| {
        let run = || {
            let other = prepare(&modules, "f_number", &["11"]).map(drop);
            (call.run(&mut message_of(b"packet")), other, call)
        };
        let (answer, other, call) = scope.spawn(run).join().expect("nothing panics");
        (answer, other, call.run(&mut message_of(b"packet")))
    });
    let module = "reused".to_owned();
    assert_eq!(answers, (-1, Err(CallError::Elsewhere { module }), 10));
}
