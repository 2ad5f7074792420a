//! What is about clusters, and about who asks for them.

use std::path::PathBuf;

use binrush_wire::Release;

use super::{Refused, text};
use crate::access::Cidr;
use crate::config::syntax::Value;

/// `cluster_release`: what nodes speak of which nothing else is known.
pub(super) fn release(value: &Value) -> Result<Release, Refused> {
    // Those that have this kind of clusters.
    let known = Release::ALL.into_iter();
    let known = known.filter(|known| *known >= Release::V2_4);
    let mut named = known.filter(|known| text(value, RELEASE).is_ok_and(|it| it == known.as_str()));
    named
        .next()
        .ok_or_else(|| Refused::Value(RELEASE.to_owned()))
}

/// `cluster_learn`: where nodes may come from that nobody named. Everybody is nobody's network: BIN has no passwords.
pub(super) fn learned(value: &Value) -> Result<Cidr, Refused> {
    let text = text(value, LEARNED)?;
    let range: Cidr = text
        .parse()
        .map_err(|error| Refused::Value(format!("{LEARNED} ({error})")))?;
    if range.prefix_len() == 0 {
        let everybody = "and not everybody: whoever comes from there may become a node";
        return Err(Refused::Value(format!("{LEARNED}, {everybody},")));
    }
    Ok(range)
}

/// `control`: the path of a socket. A relative one would depend on who started the process.
pub(super) fn control(value: &Value) -> Result<PathBuf, Refused> {
    let path = text(value, CONTROL)?;
    let fits = path.starts_with('/') && !path.ends_with('/') && path.len() <= PATH_LEN_MAX;
    if !fits || path.contains(char::is_control) {
        return Err(Refused::Value(CONTROL.to_owned()));
    }
    Ok(path.into())
}

const RELEASE: &str = "a release from \"2.4\" to \"4.0\", in quotes,";

const LEARNED: &str = "a range of addresses such as \"10.0.0.0/24\"";

const CONTROL: &str =
    "the absolute path of a socket, of at most 107 bytes, such as \"/run/binrush/control.sock\",";

/// `sun_path` of unix(7) has 108 bytes, the last one 0.
const PATH_LEN_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn every_release_that_has_clusters_can_be_named() {
        let known = [
            "2.4", "3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "4.0",
        ];
        for known in known {
            let release = release(&string(known));
            assert_eq!(release.map(Release::as_str), Ok(known));
        }
        for value in [string("2.3"), string("3.7"), string(""), Value::Int(3)] {
            assert_eq!(release(&value), Err(Refused::Value(RELEASE.into())));
        }
    }

    #[test]
    fn nodes_are_learned_from_a_network_and_not_from_everywhere() {
        assert_eq!(learned(&string("2001:db8::/32")).unwrap().prefix_len(), 32);
        for (value, told) in [
            (Value::Int(1), "a range of addresses"),
            (string("any"), "no IP address"),
            (string("10.0.0.1/8"), "10.0.0.0/8"),
            (string("0.0.0.0/0"), "not everybody"),
            (string("::/0"), "not everybody"),
        ] {
            let Err(Refused::Value(message)) = learned(&value) else {
                panic!("{value} is taken");
            };
            assert!(message.contains(told), "{message}");
        }
    }

    #[test]
    fn a_control_socket_has_an_absolute_path_that_the_kernel_takes() {
        let longest = format!("/{}", "x".repeat(106));
        assert_eq!(control(&string(&longest)), Ok(PathBuf::from(&longest)));
        let long = longest + "x";
        for text in ["", "control.sock", "/run/", "/run/\0x", &long] {
            assert_eq!(control(&string(text)), Err(Refused::Value(CONTROL.into())));
        }
    }
}
