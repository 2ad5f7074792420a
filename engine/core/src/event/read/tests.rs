use proptest::prelude::*;

use super::*;
use crate::event::write::{is_name, write};

fn texts<'e>(event: &'e Event<'_>) -> Vec<(Option<&'e [u8]>, &'e [u8])> {
    let text = |param: &'e Param<'_>| match &param.value {
        Value::Str(text) => (param.name.as_deref(), &**text),
        other => panic!("{other:?}"),
    };
    event.params.iter().map(text).collect()
}

#[test]
fn lines_are_names_and_values_and_may_be_several_in_quotes() {
    let event = read(
        b"E_X\nip::192.168.2.11\nonly a value\nempty::\ntext::\"a\n\\\"b\\\"::c\"\nx::a::b\n\n",
    )
    .unwrap();
    assert_eq!(&*event.name, b"E_X");
    assert_eq!(
        texts(&event),
        [
            (Some(&b"ip"[..]), &b"192.168.2.11"[..]),
            (None, b"only a value"),
            (Some(b"empty"), b""),
            (Some(b"text"), b"a\n\"b\"::c"),
            (Some(b"x"), b"a::b"),
        ]
    );
    assert_eq!(read(b"E_CORE\n\n").unwrap().params, []);
}

#[test]
fn what_only_looks_quoted_is_what_it_is() {
    let event = read_as(
        Form::V1_11,
        b"E_X\na::\"open\nb::x\"y\nc::\"a\" b\nd::\"\\\n\n::e\n\"\n\n",
    );
    assert_eq!(
        texts(&event.unwrap()),
        [
            (Some(&b"a"[..]), &b"\"open"[..]),
            (Some(b"b"), b"x\"y"),
            (Some(b"c"), b"\"a\" b"),
            (Some(b"d"), b"\\\n\n::e\n"),
        ]
    );
}

#[test]
fn backslashes_before_quotes_are_those_of_the_form() {
    let datagram = b"E_X\np::\"a\\\\\\\"b\\c\"\n\n";
    let of = |form| {
        let event = read_as(form, datagram).unwrap();
        texts(&event)[0].1.to_vec()
    };
    assert_eq!(of(Form::Text), b"a\\\"b\\c");
    assert_eq!(of(Form::V1_11), b"a\\\\\"b\\c");
}

#[test]
fn what_is_no_event_is_told() {
    for (datagram, error) in [
        (&b""[..], ReadError::NoName),
        (b"\n\n", ReadError::NoName),
        (b"E_X", ReadError::NoName),
        (b"E_X\n", ReadError::NoEnd),
        (b"E_X\np::1\n", ReadError::NoEnd),
        (b"E_X\np::\"1", ReadError::NoEnd),
    ] {
        assert_eq!(read(datagram), Err(error), "{}", datagram.escape_ascii());
    }
}

#[test]
fn a_notification_is_read_with_all_that_json_allows() {
    let event = read(
        br#" {"jsonrpc":"2.0","method":"E_X","params":{"p1":"a\u00e4\ud83d\ude00\"\/\n","p2":-5,"p3":null,"":1.5}}"#
            .trim_ascii_start(),
    );
    let event = event.unwrap();
    assert_eq!(event.params[0], Param::str("p1", "aä😀\"/\n".as_bytes()));
    assert_eq!(event.params[1], Param::int("p2", -5));
    assert_eq!(event.params[2].value, Value::Null);
    assert_eq!(
        event.params[3],
        Param::unnamed(Value::Str(b"1.5"[..].into()))
    );
    let list = read(b"{ \"params\" : [ 1 , \"two\" , true ] , \"id\" : 7, \"method\" : \"E_Y\" } ");
    let list = list.unwrap();
    assert_eq!((&*list.name, list.params.len()), (&b"E_Y"[..], 3));
    assert_eq!(list.params[0], Param::unnamed(Value::Int(1)));
    let none = read(br#"{"method":"E_Z","params":{}}"#).unwrap();
    assert_eq!(none.params, []);
}

#[test]
fn what_is_no_notification_is_told_with_its_place() {
    for (datagram, at) in [
        (&b"{"[..], 1),
        (b"{}", 1),
        (br#"{"method":5}"#, 10),
        (br#"{"jsonrpc":"2.0"}"#, 17),
        (br#"{"method":""}"#, 13),
        (br#"{"method":"E_X"} x"#, 17),
        (br#"{"method":"E_X","params":{"a":{}}}"#, 30),
        (br#"{"method":"E_X","params":5}"#, 25),
        (br#"{"method":"E_X","params":["\x"]}"#, 28),
        (br#"{"method":"E_X","params":["\ud800"]}"#, 33),
        (br#"{"method":"E_X","params":["\u12"]}"#, 28),
        (br#"{"method":"E_X","params":["a"#, 28),
        (br#"{"method":"E_X","params":[+1]}"#, 26),
        (br#"{"method":"E_X","params":[1 2]}"#, 28),
    ] {
        match read(datagram) {
            Err(ReadError::Json { at: found, .. }) => {
                assert_eq!(found, at, "{}", datagram.escape_ascii());
            }
            other => panic!("{}: {other:?}", datagram.escape_ascii()),
        }
    }
}

/// What the writers have rules for, and anything else.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b"\\\"',:\n\r{}[]u0a \xff".to_vec());
    prop::collection::vec(prop_oneof![4 => special, 1 => any::<u8>()], 0..12)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    bytes().prop_map(|mut name| {
        if !is_name(&name) {
            name.retain(|byte| is_name(&[*byte]));
            name.insert(0, b'n');
        }
        name
    })
}

fn param() -> impl Strategy<Value = Param<'static>> {
    let value = prop_oneof![
        4 => bytes().prop_map(|text| Value::Str(text.into())),
        1 => any::<i64>().prop_map(Value::Int),
        1 => Just(Value::Null),
    ];
    (prop::option::of(name()), value).prop_map(|(name, value)| Param {
        name: name.map(Cow::Owned),
        value,
    })
}

/// What a text can say of it.
fn as_text(param: &Param<'_>) -> Param<'static> {
    let text = match &param.value {
        Value::Int(number) => number.to_string().into_bytes(),
        Value::Str(text) => text.to_vec(),
        Value::Null => Vec::new(),
    };
    Param {
        name: param.name.clone().map(|name| Cow::Owned(name.into_owned())),
        value: Value::Str(text.into()),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(name in name(), params in prop::collection::vec(param(), 0..6)) {
        let event = Event { name: name.into(), params };
        let mut out = Vec::new();
        write(Form::Text, &event, &mut out).unwrap();
        let text = read(&out).unwrap();
        prop_assert_eq!(&text.name, &event.name);
        let expected: Vec<_> = event.params.iter().map(as_text).collect();
        prop_assert_eq!(&text.params, &expected, "{}", out.escape_ascii());
        let mut out = Vec::new();
        write(Form::JsonRpc, &event, &mut out).unwrap();
        let json = read(&out).unwrap();
        prop_assert_eq!(&json.name, &event.name);
        let has_names = event.params.first().is_some_and(|first| first.name.is_some());
        let named = |param: &Param<'static>| Param { name: param.name.clone().filter(|_| has_names), ..param.clone() };
        let expected: Vec<_> = event.params.iter().map(named).collect();
        prop_assert_eq!(&json.params, &expected, "{}", out.escape_ascii());
    }

    /// Of the old form that is so where nothing begins with a quote, no quoted value has backslashes, and lines without a name say something.
    #[test]
    fn what_the_old_form_can_say_is_read_again(name in name(), params in prop::collection::vec(param(), 0..6)) {
        let can = |param: &Param<'_>| match &param.value {
            Value::Int(number) => *number >= 0,
            Value::Null => true,
            Value::Str(text) => {
                !text.starts_with(b"\"") && !text.contains(&b'\\')
                    && (param.name.is_some() || text.contains(&b'\n') || !super::super::write::has_separator(text))
            }
        };
        let params: Vec<_> = params.into_iter().filter(can).collect();
        let event = Event { name: name.into(), params };
        let mut out = Vec::new();
        write(Form::V1_11, &event, &mut out).unwrap();
        let read = read_as(Form::V1_11, &out).unwrap();
        let expected: Vec<_> = event.params.iter().map(as_text).collect();
        prop_assert_eq!(&read.params, &expected, "{}", out.escape_ascii());
    }

    #[test]
    fn whatever_comes_is_an_event_or_an_error(mut datagram in prop::collection::vec(any::<u8>(), 0..200), is_json: bool) {
        if is_json {
            datagram.insert(0, b'{');
        }
        for form in Form::ALL {
            let _ = read_as(form, &datagram);
        }
    }
}
