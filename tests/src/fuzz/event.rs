//! Datagrams of events: whatever comes is an event or an error, and an event that was read can be told on.

use std::borrow::Cow;

use binrush_engine::event::read::{read, read_as};
use binrush_engine::event::write::{WriteError, write};
use binrush_engine::event::{Event, Form, Param, Value};

/// Reads `data` in each form, and writes what came in each form that can be read without being told which.
pub(super) fn reads(data: &[u8]) {
    for form in Form::ALL {
        let Ok(event) = read_as(form, data) else {
            continue;
        };
        let texts = event.params.iter().map(|param| {
            let value = match &param.value {
                Value::Str(text) => text.len(),
                Value::Int(_) | Value::Null => 0,
            };
            param.name.as_ref().map_or(0, |name| name.len()) + value
        });
        assert!(event.name.len() + texts.sum::<usize>() <= data.len());
        assert!(!event.name.is_empty() && event.params.len() <= data.len());
        tells_on(&event);
    }
}

fn tells_on(event: &Event<'_>) {
    let has_names = event
        .params
        .first()
        .is_some_and(|first| first.name.is_some());
    for form in [Form::Text, Form::JsonRpc] {
        let mut out = Vec::new();
        match write(form, event, &mut out) {
            Ok(()) => {}
            Err(WriteError::TooLong { max, .. }) => {
                assert!(out.is_empty() && max == form.len_max());
                continue;
            }
            // Others call their events and parameters as they like.
            Err(_) => continue,
        }
        assert!(out.len() <= form.len_max());
        let again = read(&out).expect("it was written here");
        assert_eq!(again.name, event.name);
        let expected: Vec<_> = event
            .params
            .iter()
            .map(|param| match form {
                Form::JsonRpc => in_json(param, has_names),
                _ => in_text(param),
            })
            .collect();
        assert_eq!(again.params, expected);
    }
}

/// The first parameter says whether all have names.
fn in_json(param: &Param<'_>, has_names: bool) -> Param<'static> {
    Param {
        // None, and an empty one, are the same there.
        name: named(param).filter(|name| has_names && !name.is_empty()),
        value: match &param.value {
            Value::Int(number) => Value::Int(*number),
            Value::Str(text) => Value::Str(Cow::Owned(text.to_vec())),
            Value::Null => Value::Null,
        },
    }
}

/// All is text there, and what is not there is empty.
fn in_text(param: &Param<'_>) -> Param<'static> {
    let text = match &param.value {
        Value::Int(number) => number.to_string().into_bytes(),
        Value::Str(text) => text.to_vec(),
        Value::Null => Vec::new(),
    };
    Param {
        name: named(param),
        value: Value::Str(text.into()),
    }
}

fn named(param: &Param<'_>) -> Option<Cow<'static, [u8]>> {
    param.name.as_ref().map(|name| Cow::Owned(name.to_vec()))
}

/// Inputs that fuzzing starts from: an event with all that has a rule, in each form.
pub(super) fn seeds() -> impl Iterator<Item = (String, Vec<u8>)> {
    let event = Event::new(b"E_PIKE_BLOCKED")
        .with(Param::str("ip", b"192.168.2.11"))
        .with(Param::int("n", -5))
        .with(Param::str("quoted", b"it's \"a\\\", b\r\n::"))
        .with(Param::str("empty", b""))
        .with(Param::unnamed(Value::Null))
        .with(Param::unnamed(Value::Str(b"alone\x00\xff"[..].into())));
    let bare = Event::new(b"E_CORE");
    let list = Event::new(b"E_LIST").with(Param::unnamed(Value::Int(7)));
    [("all", event), ("bare", bare), ("list", list)]
        .into_iter()
        .flat_map(|(name, event)| {
            Form::ALL.map(|form| {
                let mut out = Vec::new();
                write(form, &event, &mut out).expect("names and lengths are right");
                (format!("{name}-{form}"), out)
            })
        })
}
