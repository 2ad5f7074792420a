//! Where the stream goes on to.

use std::net::IpAddr;
use std::sync::Arc;

use binrush_store::sockets::Target;
use binrush_wire::{Generation, Release, Trailer};

use crate::access::Access;
use crate::config::Endpoint;

/// One receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConfig {
    /// Its address; of 1.x by UDP, of later ones by TCP, or TLS for `bins:`.
    pub to: Endpoint,
    /// What it speaks.
    pub release: Release,
    /// What packets of 2.3 and later end with: its cluster, the node as which we relay, and itself there. 2.2 has the node only, as
    /// machine id; 1.x nothing of it.
    pub ids: Trailer,
    /// Bytes that wait for it where it has a connection. Datagrams do not wait here.
    pub queue_bytes: usize,
    /// Of which cluster packets go there; `None`: of any. Those of 2.2 and before say none, and go in either case.
    pub from_cluster: Option<i32>,
    /// Our address that packets leave from; `None`: one of those where we listen.
    pub bind: Option<IpAddr>,
    /// The sockets that it has, and what ours are called there; the default is of somebody who says nothing of it.
    pub sockets: Arc<Target>,
}

impl TargetConfig {
    /// Whether it is one of 1.x.
    #[must_use]
    pub fn is_datagrams(&self) -> bool {
        self.release.generation() == Generation::Legacy
    }

    /// As which node we relay to it.
    #[must_use]
    pub fn source(&self) -> Option<i32> {
        (!self.is_datagrams()).then_some(self.ids.source)
    }

    /// Whether anything is said of its sockets: then what names some is written anew.
    pub(super) fn has_sockets(&self) -> bool {
        !self.sockets.map().is_empty() || self.sockets.sockets().is_some()
    }

    /// Packets that wait for it: as many as may wait of bytes, in packets that are short for a record.
    pub(super) fn queue_packets(&self) -> usize {
        self.queue_bytes / PACKET_LEN_SHORT
    }

    /// How its link is called in counts; `None`: it has none.
    pub(super) fn link_name(&self) -> Option<String> {
        (!self.is_datagrams()).then(|| self.to.to_string())
    }
}

/// An AoR or the end of a dialog; contacts and dialogs have several times as much.
const PACKET_LEN_SHORT: usize = 128;

/// Targets of one relay.
pub const TARGETS_MAX: usize = 16;

/// Why a configuration cannot have its relay: which target, and what to do.
///
/// `listen` is where we receive. A packet that goes to ourselves would go for ever; one of 1.x does not say who made it, so a target
/// of 1.x must not send any here; and where everybody may send, everybody's packets would be sent on.
///
/// # Errors
/// The place of the target, and the words.
pub fn check(
    targets: &[TargetConfig],
    listen: &[Endpoint],
    access: &Access,
) -> Result<(), (usize, String)> {
    for (index, target) in targets.iter().enumerate() {
        let (to, ip) = (target.to, target.to.addr.ip());
        let is_us = |own: &&Endpoint| {
            let wild = own.addr.ip().is_unspecified() && ip.is_loopback();
            own.addr.port() == to.addr.port() && (own.addr.ip() == ip || wild)
        };
        let wrong = if index >= TARGETS_MAX {
            format!("one target too many: at most {TARGETS_MAX} expected")
        } else if targets[..index].iter().any(|before| before.to == to) {
            format!("{to} is a target already: each once expected")
        } else if let Some(own) = listen.iter().find(is_us) {
            format!("{to} is {own}, where we listen ourselves: another receiver expected")
        } else if access.lets_everybody_in() {
            "`allow` with ranges of addresses expected that do not let everybody in: their packets would be sent on".to_owned()
        } else if target.is_datagrams() && access.allows(ip) {
            format!(
                "`allow` lets {ip} in: datagrams of 1.x do not say who made them, so what it sends would go back to it. Ranges \
                 without it expected (`modparam(\"binrush\", \"allow\", ...)`)"
            )
        } else {
            continue;
        };
        return Err((index, wrong));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(to: &str, release: Release) -> TargetConfig {
        TargetConfig {
            to: to.parse().unwrap(),
            release,
            ids: Trailer::new(1, 9, 2),
            queue_bytes: 1 << 20,
            from_cluster: Some(1),
            bind: None,
            sockets: Arc::default(),
        }
    }

    #[test]
    fn what_would_go_round_or_be_everybodys_is_refused() {
        let mut access = Access::nobody();
        access.allow("10.0.0.0/24".parse().unwrap()).unwrap();
        let listen = ["bin:10.0.0.9:5555", "bin:0.0.0.0:5566"].map(|at| at.parse().unwrap());
        let wrong = |targets: &[TargetConfig], access: &Access| check(targets, &listen, access);
        let fine = target("bin:10.1.0.7:5555", Release::V1x);
        assert_eq!(wrong(std::slice::from_ref(&fine), &access), Ok(()));
        // It says who made its packets.
        let modern = target("bin:10.0.0.7:5555", Release::V3_6);
        assert_eq!(wrong(std::slice::from_ref(&modern), &access), Ok(()));
        for (targets, told) in [
            (vec![fine.clone(), fine.clone()], "is a target already"),
            (
                vec![target("bin:10.0.0.9:5555", Release::V3_6)],
                "where we listen ourselves",
            ),
            (
                vec![target("bin:127.0.0.1:5566", Release::V3_6)],
                "where we listen ourselves",
            ),
            (
                vec![target("bin:10.0.0.7:5555", Release::V1x)],
                "`allow` lets 10.0.0.7 in",
            ),
        ] {
            let (index, text) = wrong(&targets, &access).unwrap_err();
            assert!(text.contains(told) && index == targets.len() - 1, "{text}");
        }
        let (_, text) = wrong(&[modern], &Access::any()).unwrap_err();
        assert!(text.contains("do not let everybody in"), "{text}");
        let many: Vec<_> = (0..=TARGETS_MAX)
            .map(|n| target(&format!("bin:10.1.0.{n}:5555"), Release::V1x))
            .collect();
        assert_eq!(wrong(&many, &access).unwrap_err().0, TARGETS_MAX);
    }
}
