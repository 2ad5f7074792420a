//! What modparam sets.

use std::ffi::c_int;

use binrush::loader::{Loader, ParamError, Value};

use crate::workshop::{Workshop, text, variable, variable_text};

fn number(value: i32) -> Value {
    Value::Int(value)
}

fn words(value: &str) -> Value {
    Value::Text(value.as_bytes().to_vec())
}

fn said(outcome: Result<usize, ParamError>) -> String {
    outcome.expect_err("it is refused").to_string()
}

#[test]
fn values_arrive_in_variables_and_in_functions() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let mut loader = workshop.loader(&["params"]);
    let library = workshop.path("params.so");
    for (name, value) in [
        ("number", number(-42)),
        ("text", words("first")),
        ("text", words("second")),
        ("function_number", number(100)),
        ("function_text", words("")),
        ("either", words("7")),
        ("either", number(7)),
    ] {
        assert_eq!(loader.modparam("params", name, &value).expect(name), 1);
    }
    assert_eq!(variable::<c_int>(&library, "params_number"), -42);
    assert_eq!(variable_text(&library, "params_text"), "second");
    assert_eq!(variable::<c_int>(&library, "params_function_number"), 100);
    assert_eq!(variable_text(&library, "params_function_text"), "");
    assert_eq!(variable_text(&library, "params_either_text"), "7");
    assert_eq!(variable::<c_int>(&library, "params_either_number"), 7);
}

#[test]
fn a_pattern_is_for_whole_names_upper_and_lower_case_alike() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let mut loader = workshop.loader(&["params", "tutorial"]);
    let mut set = |pattern: &str| loader.modparam(pattern, "number", &number(3));
    assert_eq!(set("PARAMS").expect("it is called so"), 1);
    assert_eq!(set("par.*|nobody").expect("it is called so"), 1);
    assert_eq!(
        said(set("param")),
        "no module is called \"param\"; loaded before this line: \"params\", \"tutorial\""
    );
    // One of those that match has no such parameter, and the one before it has it now.
    assert_eq!(
        said(set("params|tutorial")),
        "module \"tutorial\" has no parameter \"number\"; it has \"greeting\", \"times\", \"signature\""
    );
    let error = said(set("par("));
    assert!(
        error.starts_with("\"par(\" is no regular expression for names of modules: "),
        "{error}"
    );
    // A module that is loaded later is not meant.
    let mut none = Loader::new(workshop.options());
    assert_eq!(
        said(none.modparam("params", "number", &number(3))),
        "no module is called \"params\"; loaded before this line: none"
    );
}

#[test]
fn a_wrong_name_a_wrong_type_and_a_wrong_value_are_refused() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let mut loader = workshop.loader(&["tutorial", "params"]);
    assert_eq!(
        said(loader.modparam("tutorial", "greetings", &words("hi"))),
        "module \"tutorial\" has no parameter \"greetings\"; did you mean \"greeting\"?; it has \"greeting\", \"times\", \
         \"signature\""
    );
    assert_eq!(
        said(loader.modparam("tutorial", "times", &words("3"))),
        "parameter \"times\" of module \"tutorial\" takes a number, and a text is given"
    );
    assert_eq!(
        said(loader.modparam("tutorial", "greeting", &number(3))),
        "parameter \"greeting\" of module \"tutorial\" takes a text, and a number is given"
    );
    assert_eq!(
        said(loader.modparam("tutorial", "greeting", &words(""))),
        "module \"tutorial\" refuses the value of parameter \"greeting\": its function answered -1"
    );
    assert_eq!(
        said(loader.modparam("params", "function_number", &number(101))),
        "module \"params\" refuses the value of parameter \"function_number\": its function answered -3"
    );
    assert_eq!(
        said(loader.modparam("params", "text", &words("a\0b"))),
        "the value of parameter \"text\" has a byte 0 in it, at 1; texts of C end there"
    );
    let library = workshop.path("params.so");
    assert_eq!(
        variable_text(&library, "params_text"),
        "unset",
        "{}",
        text(&library)
    );
}
