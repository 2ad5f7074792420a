//! What is about the SIP sockets of the node to which records go back.

use binrush_store::sockets::{SocketMap, SocketName};

use super::{Refused, text};
use crate::config::syntax::Value;

/// `socket_map`: rules, with commas between.
pub(super) fn map(value: &Value) -> Result<SocketMap, Refused> {
    let told = |error: &dyn std::fmt::Display| Refused::Value(format!("{RULES} ({error})"));
    let written = text(value, RULES)?;
    SocketMap::parse(written).map_err(|error| told(&error))
}

/// `target_socket`: one.
pub(super) fn socket(value: &Value) -> Result<SocketName, Refused> {
    let written = text(value, SOCKET)?;
    let refused = |error| Refused::Value(format!("{SOCKET} ({error})"));
    written.parse().map_err(refused)
}

const RULES: &str =
    "what a socket is at the target, such as \"udp:10.0.0.1:5060=udp:10.0.0.9:5060\",";
const SOCKET: &str = "a socket of the target, such as \"udp:10.0.0.9:5060\" or \"udp:TAG\",";

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn rules_and_sockets_are_read() {
        let map = map(&string("udp:10.0.0.1=udp:10.0.0.9, vip=home")).unwrap();
        assert_eq!(map.map(b"udp:10.0.0.1:5060"), b"udp:10.0.0.9:5060");
        assert_eq!(map.map(b"tls:vip"), b"tls:home");
        let socket = socket(&string("UDP:vip")).unwrap();
        assert_eq!(socket.to_string(), "udp:vip");
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_was_expected() {
        let told = |refused: Refused| format!("{refused:?}");
        for (value, expected) in [
            (Value::Int(1), "what a socket is at the target"),
            (string("udp:10.0.0.1"), "FROM=TO expected"),
            (string("sip.example.org=udp:a"), "is no socket"),
        ] {
            let refused = told(map(&value).unwrap_err());
            assert!(refused.contains(expected), "{refused}");
        }
        for (value, expected) in [
            (Value::Int(1), "a socket of the target"),
            (string("10.0.0.9:5060"), "a protocol in front expected"),
            (string("udp:*:5060"), "is no socket"),
        ] {
            let refused = told(socket(&value).unwrap_err());
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
