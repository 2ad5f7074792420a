//! `modparam("binrush", "subscribe_event", "E_UL_CONTACT_INSERT udp:127.0.0.1:8081 3600 jsonrpc")`: who is told what from the start.

use super::{Refused, text};
use crate::config::syntax::Value;
use crate::event::{EventSocket, Expire, Form, names};

/// A subscription of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSubscription {
    /// The name of the event; who raises it may not be there yet.
    pub event: String,
    /// Where to.
    pub socket: EventSocket,
    /// How long; without a time, as long as the process.
    pub expire: Expire,
    /// How it is written; `None`: as all are that say nothing of it.
    pub form: Option<Form>,
}

/// One of them.
pub(super) fn subscription(value: &Value) -> Result<EventSubscription, Refused> {
    let written = text(value, EXPECTED)?;
    parse(written).map_err(Refused::Value)
}

/// What was expected instead, when `text` is none.
fn parse(text: &str) -> Result<EventSubscription, String> {
    let mut words = text.split_ascii_whitespace();
    let (Some(event), Some(socket)) = (words.next(), words.next()) else {
        return Err(EXPECTED.to_owned());
    };
    if !names::is_event_name(event) {
        return Err(format!(
            "{EXPECTED} (the first word is no name of an event)"
        ));
    }
    let socket = socket
        .parse()
        .map_err(|error| format!("{EXPECTED} ({error})"))?;
    let mut rest: Vec<_> = words.collect();
    let mut expire = Expire::Never;
    if let Some(seconds) = rest.first().and_then(|word| word.parse::<u32>().ok()) {
        if seconds == 0 {
            return Err("seconds from 1, or none for a subscription without an end,".to_owned());
        }
        expire = Expire::After(seconds);
        rest.remove(0);
    }
    let form = match rest[..] {
        [] => None,
        [form] => Some(
            form.parse()
                .map_err(|error| format!("{EXPECTED} ({error})"))?,
        ),
        _ => return Err(EXPECTED.to_owned()),
    };
    Ok(EventSubscription {
        event: event.to_owned(),
        socket,
        expire,
        form,
    })
}

const EXPECTED: &str = "an event and a socket, then seconds and text, 1.11 or jsonrpc if wanted, such as \
                        \"E_UL_CONTACT_INSERT udp:127.0.0.1:8081\",";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_has_an_event_a_socket_and_maybe_a_time_and_a_form() {
        let of = |text: &str| parse(text).unwrap();
        let plain = of("E_X udp:127.0.0.1:8081");
        assert_eq!((&plain.event[..], plain.expire), ("E_X", Expire::Never));
        assert_eq!(
            (plain.socket.to_string(), plain.form),
            ("udp:127.0.0.1:8081".into(), None)
        );
        let timed = of("  E_X\t/run/e.sock 60 ");
        assert_eq!((timed.expire, timed.form), (Expire::After(60), None));
        let formed = of("E_X unix:/run/e.sock jsonrpc");
        assert_eq!(
            (formed.expire, formed.form),
            (Expire::Never, Some(Form::JsonRpc))
        );
        let both = of("E_X unix:/run/e.sock 60 1.11");
        assert_eq!(
            (both.expire, both.form),
            (Expire::After(60), Some(Form::V1_11))
        );
    }

    #[test]
    fn what_is_none_is_told_with_what_was_expected() {
        for (text, told) in [
            ("", "an event and a socket"),
            ("E_X", "an event and a socket"),
            ("E,X udp:127.0.0.1:8081", "the first word is no name"),
            ("E_X udp:127.0.0.1", "a port expected"),
            ("E_X udp:127.0.0.1:8081 0", "seconds from 1"),
            ("E_X udp:127.0.0.1:8081 60 xml", "there is no form \"xml\""),
            ("E_X udp:127.0.0.1:8081 -1", "there is no form \"-1\""),
            (
                "E_X udp:127.0.0.1:8081 60 text more",
                "an event and a socket",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
