//! `modparam("binrush", "peer", "addr=10.0.0.7, generation=2.2, name=sip1")`: what is known of a sender beforehand.

use binrush_wire::{Generation, Release};

use super::{Refused, fields};
use crate::access::Cidr;
use crate::config::syntax::Value;
use crate::stream::PeerSettings;

/// The addresses that a value is about, and how their streams are read.
pub(super) fn peer(value: &Value) -> Result<(Cidr, PeerSettings), Refused> {
    let Value::Text(text) = value else {
        return Err(Refused::Value(FORM.to_owned()));
    };
    parse(text).map_err(Refused::Value)
}

/// What was expected instead, when `text` is no peer.
fn parse(text: &str) -> Result<(Cidr, PeerSettings), String> {
    let [addr, generation, name] = fields(text, KEYS, FORM)?;
    let addr = addr.ok_or_else(|| format!("{FORM} (addr is missing)"))?;
    let addr = addr
        .parse()
        .map_err(|error| format!("addr: a range of addresses ({error})"))?;
    let mut settings = generation.map_or_else(|| Ok(PeerSettings::default()), of_generation)?;
    settings.name = name.map(named).transpose()?;
    Ok((addr, settings))
}

/// Senders of a release, or of any release of a generation. 2.2 is both.
fn of_generation(text: &str) -> Result<PeerSettings, String> {
    if let Some(release) = with_streams().find(|known| known.as_str() == text) {
        return Ok(PeerSettings::of_release(release));
    }
    match text.parse() {
        Ok(Generation::Modern) => Ok(PeerSettings::default()),
        Ok(Generation::Legacy) => Err(format!(
            "generation: {GENERATIONS} (nodes of 1.x send datagrams only, which need no peer)"
        )),
        _ => Err(format!("generation: {GENERATIONS}")),
    }
}

/// A name is a label of counters, so it is a short word.
fn named(text: &str) -> Result<String, String> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "name: 1 to {NAME_LEN_MAX} letters, digits, dots, dashes or underscores"
    ))
}

/// The releases that have streams.
fn with_streams() -> impl Iterator<Item = Release> {
    let all = Release::ALL.into_iter();
    all.filter(|release| release.generation() != Generation::Legacy)
}

const KEYS: [&str; 3] = ["addr", "generation", "name"];

const FORM: &str =
    "an address and what is known of it, such as \"addr=10.0.0.7, generation=2.2, name=sip1\"";

const GENERATIONS: &str = "a release from 2.2 to 4.0, or 2.3+ for any but 2.2";

const NAME_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_and_what_is_known_of_it() {
        let (addr, settings) = parse(" name = sip1 ,addr=10.0.0.0/24,generation=2.2").unwrap();
        assert_eq!(addr.to_string(), "10.0.0.0/24");
        let expected = PeerSettings {
            name: Some("sip1".into()),
            ..PeerSettings::of_release(Release::V2_2)
        };
        assert_eq!(settings, expected);
        assert_eq!(settings.generation, Generation::Transitional);
        for (generation, release) in [("2.3+", None), ("3.6", Some(Release::V3_6))] {
            let (_, settings) = parse(&format!("addr=::1, generation={generation}")).unwrap();
            assert_eq!(settings.generation, Generation::Modern);
            assert_eq!((settings.release, settings.name), (release, None));
        }
        assert_eq!(parse("addr=::1").unwrap().1, PeerSettings::default());
    }

    #[test]
    fn every_release_that_has_streams_can_be_named() {
        for release in with_streams() {
            let (_, settings) = parse(&format!("addr=::1, generation={release}")).unwrap();
            assert_eq!(settings, PeerSettings::of_release(release));
        }
    }

    #[test]
    fn what_is_no_peer_is_told_with_what_was_expected() {
        let long = format!("addr=::1, name={}", "x".repeat(65));
        for (text, told) in [
            ("", "such as \"addr="),
            ("10.0.0.7", "such as \"addr="),
            ("name=sip1", "addr is missing"),
            (
                "addr=sip1",
                "addr: a range of addresses (\"sip1\" is no IP address",
            ),
            ("addr=10.0.0.7/8", "10.0.0.0/8 for the range"),
            ("addr=::1, addr=::2", "addr is there twice"),
            (
                "addr=::1, genration=2.2",
                "no \"genration\"; did you mean \"generation\"?",
            ),
            ("addr=::1, generation=1.x", "datagrams only"),
            (
                "addr=::1, generation=2.1",
                "generation: a release from 2.2 to 4.0",
            ),
            ("addr=::1, generation=", "2.3+ for any but 2.2"),
            ("addr=::1, name=", "name: 1 to 64"),
            ("addr=::1, name=a b", "name: 1 to 64"),
            (&long, "name: 1 to 64"),
            ("addr=::1,", "such as \"addr="),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
