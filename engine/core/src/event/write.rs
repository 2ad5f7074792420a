//! Events as datagrams, in each [`Form`](crate::event::Form). Pure: bytes out of values.
//!
//! ```text
//!   text, 1.11   E_PIKE_BLOCKED LF  ip::192.168.2.11 LF  LF
//!   jsonrpc      {"jsonrpc":"2.0","method":"E_PIKE_BLOCKED","params":{"ip":"192.168.2.11"}}
//! ```
//!
//! | | [`Form::Text`](crate::event::Form::Text) | [`Form::V1_11`](crate::event::Form::V1_11) |
//! |---|---|---|
//! | quoted are | values with `'`, `"`, comma, LF or CR; without a name also empty ones and those with `::` | values with LF |
//! | inside of quotes | `"` is `\"`; backslashes before a quote are doubled, others are not | `"` is `\"`, backslashes are as they are |
//! | numbers | decimal, with a sign | through an unsigned long: -1 is 18446744073709551615 |
//! | text that is empty or not there | nothing | nothing |
//! | longest | [`LEN_MAX`](crate::event::write::LEN_MAX) | [`LEN_MAX_1_11`](crate::event::write::LEN_MAX_1_11) |
//!
//! So a text that came by [`Form::Text`](crate::event::Form::Text) is read back as what it was ([`read`](mod@crate::event::read)), and a reader that knows the rules of
//! 1.11 alone takes it for the same unless a backslash stands before a quote.
//!
//! Names are written as they are. [`Form::Text`](crate::event::Form::Text) has none that could be taken for something else ([`is_name`](crate::event::write::is_name)), 1.11 only
//! none that is empty or has a line feed, JSON-RPC any. In JSON this differs from cJSON in one thing: a text with a byte of 0 goes on
//! behind it here, as `\\u0000`, and ends there in 3.6. (1.11 `modules/event_datagram/event_datagram.c`,
//! `datagram_build_params`; the grammar in its README; 3.6 `evi/evi_transport.c`, `evi_build_payload` with `lib/cJSON.c`.)

use std::fmt::Write as _;

use super::{Event, Form, Param, Value};

/// The longest datagram, in bytes. (OpenSIPS, `modules/event_datagram/README`.)
pub const LEN_MAX: usize = 65_457;

/// The longest of 1.11, whose buffer ends there. What is longer it does not send, or writes over what lies behind. (1.11
/// `modules/event_datagram/event_datagram.h`, `DGRAM_BUFFER_SIZE`.)
pub const LEN_MAX_1_11: usize = 16_384;

/// Why there is no datagram of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It would be longer than it may be.
    #[error(
        "the event would be longer than the {max} bytes that a datagram has in form {form}: subscribe in another form, or tell less"
    )]
    TooLong {
        /// See [`Form::len_max`].
        max: usize,
        /// In which form.
        form: Form,
    },
    /// A name that could not be told from other parts of the text.
    #[error(
        "{name:?} is no name of an event or parameter in form text: at least one character expected, none of ' \" , and line ends, \
         no \"::\", no \":\" at the end, and no \"{{\" at the beginning"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The same in form 1.11, which is less particular.
    #[error(
        "{name:?} is no name of an event or parameter in form 1.11: at least one character and no line feed expected"
    )]
    OldName {
        /// The name.
        name: String,
    },
}

impl Form {
    /// The longest datagram, in bytes.
    #[must_use]
    pub const fn len_max(self) -> usize {
        match self {
            Self::V1_11 => LEN_MAX_1_11,
            Self::Text | Self::JsonRpc => LEN_MAX,
        }
    }
}

/// Writes `event` into `out`, in place of what is there.
///
/// # Errors
/// [`WriteError`]; then `out` is empty.
pub fn write(form: Form, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), WriteError> {
    out.clear();
    let written = check_names(form, event).and_then(|()| match form {
        Form::JsonRpc => json(event, out),
        Form::Text | Form::V1_11 => text(form, event, out),
    });
    if written.is_err() {
        out.clear();
    }
    written
}

/// Whether `name` may be that of an event or a parameter in each form.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && !name.iter().any(|byte| is_special(*byte))
        && !has_separator(name)
        && !name.ends_with(b":")
        && !name.starts_with(b"{")
}

fn check_names(form: Form, event: &Event<'_>) -> Result<(), WriteError> {
    let is_right = |name: &[u8]| match form {
        Form::Text => is_name(name),
        Form::V1_11 => !name.is_empty() && !name.contains(&b'\n'),
        Form::JsonRpc => true,
    };
    let of_params = event.params.iter().filter_map(|param| param.name.as_ref());
    let mut all = [&event.name].into_iter().chain(of_params);
    let Some(name) = all.find(|name| !is_right(name)) else {
        return Ok(());
    };
    let name = String::from_utf8_lossy(name).into_owned();
    Err(match form {
        Form::V1_11 => WriteError::OldName { name },
        Form::Text | Form::JsonRpc => WriteError::Name { name },
    })
}

fn text(form: Form, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), WriteError> {
    out.extend_from_slice(&event.name);
    out.push(b'\n');
    for param in &event.params {
        if let Some(name) = &param.name {
            out.extend_from_slice(name);
            out.extend_from_slice(SEPARATOR);
        }
        text_value(form, param, out);
        out.push(b'\n');
        // No more is written than one value beyond what there is room for.
        check_len(form, out)?;
    }
    out.push(b'\n');
    check_len(form, out)
}

fn text_value(form: Form, param: &Param<'_>, out: &mut Vec<u8>) {
    let is_unnamed = param.name.is_none();
    match (&param.value, form) {
        (Value::Int(number), Form::V1_11) => display(number.cast_unsigned(), out),
        (Value::Int(number), _) => display(number, out),
        (Value::Str(text), Form::V1_11) if text.contains(&b'\n') => quoted_by_1_11(text, out),
        (Value::Str(text), Form::V1_11) => out.extend_from_slice(text),
        (Value::Str(text), _) if needs_quotes(text, is_unnamed) => quoted(text, out),
        (Value::Str(text), _) => out.extend_from_slice(text),
        // An empty line would be the last one.
        (Value::Null, Form::Text) if is_unnamed => quoted(b"", out),
        (Value::Null, _) => {}
    }
}

fn needs_quotes(text: &[u8], is_unnamed: bool) -> bool {
    text.iter().any(|byte| is_special(*byte))
        || is_unnamed && (text.is_empty() || has_separator(text))
}

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut backslashes = 0;
    for byte in text {
        match byte {
            b'\\' => backslashes += 1,
            b'"' => {
                // Those before it stand for themselves, and one says that the quote does.
                out.extend(std::iter::repeat_n(b'\\', backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        out.push(*byte);
    }
    out.extend(std::iter::repeat_n(b'\\', backslashes));
    out.push(b'"');
}

fn quoted_by_1_11(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// The first parameter says whether all have names: one without among others has the empty one.
fn json(event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), WriteError> {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    json_text(&event.name, out);
    if let Some(first) = event.params.first() {
        let has_names = first.name.is_some();
        out.extend_from_slice(br#","params":"#);
        for (param, n) in event.params.iter().zip(0_u32..) {
            out.push(match (n, has_names) {
                (0, true) => b'{',
                (0, false) => b'[',
                _ => b',',
            });
            if has_names {
                json_text(param.name.as_deref().unwrap_or_default(), out);
                out.push(b':');
            }
            match &param.value {
                Value::Int(number) => display(number, out),
                Value::Str(text) => json_text(text, out),
                Value::Null => out.extend_from_slice(b"null"),
            }
            check_len(Form::JsonRpc, out)?;
        }
        out.push(if has_names { b'}' } else { b']' });
    }
    out.push(b'}');
    check_len(Form::JsonRpc, out)
}

/// As cJSON prints it: what is above ASCII as it is, whether it is UTF-8 or not. Only that a byte of 0 does not end it.
fn json_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(br#"\""#),
            b'\\' => out.extend_from_slice(br"\\"),
            0x08 => out.extend_from_slice(br"\b"),
            0x0c => out.extend_from_slice(br"\f"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            control @ 0..0x20 => display(format_args!("\\u{control:04x}"), out),
            byte => out.push(*byte),
        }
    }
    out.push(b'"');
}

fn check_len(form: Form, out: &[u8]) -> Result<(), WriteError> {
    let max = form.len_max();
    match out.len() > max {
        true => Err(WriteError::TooLong { max, form }),
        false => Ok(()),
    }
}

fn display(what: impl std::fmt::Display, out: &mut Vec<u8>) {
    let _ = write!(Appended(out), "{what}");
}

struct Appended<'o>(&'o mut Vec<u8>);

impl std::fmt::Write for Appended<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

pub(super) fn has_separator(text: &[u8]) -> bool {
    text.windows(SEPARATOR.len()).any(|two| two == SEPARATOR)
}

/// What a text without quotes may not hold.
const fn is_special(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"' | b',' | b'\n' | b'\r')
}

pub(super) const SEPARATOR: &[u8] = b"::";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form, event: &Event<'_>) -> String {
        let mut out = b"what was there".to_vec();
        write(form, event, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn value(form: Form, value: &[u8]) -> String {
        let event = Event::new(b"E_X").with(Param::str("p", value));
        let text = written(form, &event);
        let text = text.strip_prefix("E_X\np::").unwrap();
        text.strip_suffix("\n\n").unwrap().to_owned()
    }

    #[test]
    fn the_documented_example_is_written_in_each_form() {
        let event = Event::new(b"E_PIKE_BLOCKED").with(Param::str("ip", b"192.168.2.11"));
        for form in [Form::Text, Form::V1_11] {
            assert_eq!(
                written(form, &event),
                "E_PIKE_BLOCKED\nip::192.168.2.11\n\n"
            );
        }
        assert_eq!(
            written(Form::JsonRpc, &event),
            r#"{"jsonrpc":"2.0","method":"E_PIKE_BLOCKED","params":{"ip":"192.168.2.11"}}"#
        );
    }

    #[test]
    fn an_event_without_parameters_ends_with_an_empty_line() {
        let event = Event::new(b"E_CORE_RESTART");
        assert_eq!(written(Form::Text, &event), "E_CORE_RESTART\n\n");
        assert_eq!(written(Form::V1_11, &event), "E_CORE_RESTART\n\n");
        assert_eq!(
            written(Form::JsonRpc, &event),
            r#"{"jsonrpc":"2.0","method":"E_CORE_RESTART"}"#
        );
    }

    #[test]
    fn what_a_plain_value_may_not_hold_is_quoted() {
        for (plain, quoted) in [
            ("it's", r#""it's""#),
            (r#"a "b" c"#, r#""a \"b\" c""#),
            ("a,b", r#""a,b""#),
            ("a\nb", "\"a\nb\""),
            ("a\rb", "\"a\rb\""),
            (r#"""#, r#""\"""#),
            // Backslashes are themselves but before a quote.
            (r"C:\x, y", r#""C:\x, y""#),
            (r#"a\"b"#, r#""a\\\"b""#),
            (r"a,\", r#""a,\\""#),
        ] {
            assert_eq!(value(Form::Text, plain.as_bytes()), quoted);
        }
        for plain in ["", "a b", "a::b", r"a\b", ":", "caf\u{e9}", "<sip:a@b>;q=1"] {
            assert_eq!(value(Form::Text, plain.as_bytes()), plain);
        }
    }

    #[test]
    fn the_old_form_quotes_for_line_feeds_only() {
        for plain in ["it's", r#"a "b" c"#, "a,b", "a\rb", r#"""#, r"a\", ""] {
            assert_eq!(value(Form::V1_11, plain.as_bytes()), plain);
        }
        assert_eq!(value(Form::V1_11, b"a\n\"b\\"), "\"a\n\\\"b\\\"");
    }

    #[test]
    fn numbers_have_their_sign_and_in_the_old_form_twenty_digits_for_it() {
        let event = |number| Event::new(b"E_X").with(Param::int("n", number));
        for (number, old) in [
            (0, "0"),
            (5060, "5060"),
            (-1, "18446744073709551615"),
            (i64::MIN, "9223372036854775808"),
            (i64::MAX, "9223372036854775807"),
        ] {
            let event = event(number);
            assert_eq!(written(Form::Text, &event), format!("E_X\nn::{number}\n\n"));
            assert_eq!(written(Form::V1_11, &event), format!("E_X\nn::{old}\n\n"));
            let json = written(Form::JsonRpc, &event);
            assert!(
                json.ends_with(&format!(r#""params":{{"n":{number}}}}}"#)),
                "{json}"
            );
        }
    }

    #[test]
    fn values_without_names_are_lines_and_no_empty_one_ends_the_event() {
        let text = |text: &'static [u8]| Param::unnamed(Value::Str(text.into()));
        let event = Event::new(b"E_X")
            .with(text(b"one"))
            .with(text(b""))
            .with(text(b"a::b"))
            .with(Param::unnamed(Value::Null))
            .with(Param::unnamed(Value::Int(-5)));
        assert_eq!(
            written(Form::Text, &event),
            "E_X\none\n\"\"\n\"a::b\"\n\"\"\n-5\n\n"
        );
        assert_eq!(
            written(Form::V1_11, &event),
            "E_X\none\n\na::b\n\n18446744073709551611\n\n"
        );
        assert_eq!(
            written(Form::JsonRpc, &event),
            r#"{"jsonrpc":"2.0","method":"E_X","params":["one","","a::b",null,-5]}"#
        );
    }

    #[test]
    fn nothing_and_empty_differ_in_json_alone() {
        let event = Event::new(b"E_X")
            .with(Param {
                name: Some(b"p1".into()),
                value: Value::Null,
            })
            .with(Param::str("p2", b""));
        assert_eq!(written(Form::Text, &event), "E_X\np1::\np2::\n\n");
        assert_eq!(written(Form::V1_11, &event), "E_X\np1::\np2::\n\n");
        assert!(written(Form::JsonRpc, &event).ends_with(r#""params":{"p1":null,"p2":""}}"#));
    }

    #[test]
    fn json_escapes_what_cjson_does() {
        let event = Event::new(b"E_X").with(Param::str("p", b"\"\\\x08\x0c\n\r\t\x00\x1f\x7f/'"));
        assert!(
            written(Form::JsonRpc, &event)
                .ends_with("{\"p\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f/'\"}}")
        );
        let mut out = Vec::new();
        let bytes = Event::new(b"E_X").with(Param::str("p", b"\xff\xfe"));
        write(Form::JsonRpc, &bytes, &mut out).unwrap();
        assert!(out.ends_with(b"{\"p\":\"\xff\xfe\"}}"));
    }

    #[test]
    fn the_longest_is_written_and_one_byte_more_is_an_error() {
        for form in Form::ALL {
            let around = |value: &[u8]| {
                let event = Event::new(b"E_X").with(Param::str("p", value));
                let mut out = Vec::new();
                let written = write(form, &event, &mut out);
                (written, out.len())
            };
            let max = form.len_max();
            let beside = around(b"").1;
            for len in [max - 1, max] {
                assert_eq!(around(&vec![b'x'; len - beside]), (Ok(()), len));
            }
            let long = around(&vec![b'x'; max + 1 - beside]);
            assert_eq!(long, (Err(WriteError::TooLong { max, form }), 0));
        }
        assert_eq!(
            Form::ALL.map(Form::len_max),
            [65_457, 16_384, 65_457],
            "65456 and 65457 are written, 65458 is not"
        );
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_no_name() {
        for (name, in_old) in [
            ("", false),
            ("a\nb", false),
            ("a\"b", true),
            ("a,b", true),
            ("it's", true),
            ("a\rb", true),
            ("a::b", true),
            ("a:", true),
            ("{a", true),
            ("::", true),
        ] {
            let named = Event::new(b"E_X").with(Param::str(name, b"1"));
            for event in [Event::new(name.as_bytes()), named] {
                let in_form = |form| write(form, &event, &mut Vec::new());
                let error = in_form(Form::Text).unwrap_err();
                assert!(matches!(error, WriteError::Name { .. }), "{error}");
                assert_eq!(in_form(Form::V1_11).is_ok(), in_old, "{name}");
                assert_eq!(in_form(Form::JsonRpc), Ok(()), "{name}");
            }
        }
        assert!(is_name(b"a:b c") && is_name(b"E_X"));
    }

    #[test]
    fn names_are_told_as_they_are_by_who_takes_any() {
        let event = Event::new(b"E_X").with(Param::str("it's, x:", b"1"));
        assert_eq!(written(Form::V1_11, &event), "E_X\nit's, x:::1\n\n");
        let event = Event::new(b"E,X").with(Param::str("a\"\n", b"1"));
        assert_eq!(
            written(Form::JsonRpc, &event),
            r#"{"jsonrpc":"2.0","method":"E,X","params":{"a\"\n":"1"}}"#
        );
    }
}
