//! `modparam("binrush", "relay", "to=bin:10.0.0.7:5555, generation=1.11")`: who gets the live stream on.

use std::net::IpAddr;
use std::sync::Arc;

use binrush_wire::{Generation, Release, Trailer};

use super::{Refused, fields, text};
use crate::config::listener::{Endpoint, Protocol};
use crate::config::syntax::Value;
use crate::relay::TargetConfig;

/// One target.
pub(super) fn target(value: &Value) -> Result<TargetConfig, Refused> {
    let written = text(value, FORM)?;
    parse(written).map_err(Refused::Value)
}

/// What was expected instead, when `text` is no target.
fn parse(text: &str) -> Result<TargetConfig, String> {
    let [
        to,
        generation,
        cluster,
        node,
        to_node,
        queue,
        from_cluster,
        bind,
    ] = fields(text, KEYS, FORM)?;
    let to: Endpoint = to
        .ok_or_else(|| format!("{FORM} (to is missing)"))?
        .parse()
        .map_err(|error| format!("to: {error}: bin:IP:PORT, or bins:IP:PORT for TLS,"))?;
    if to.addr.port() == 0 || to.addr.ip().is_unspecified() {
        return Err("to: one address and port".to_owned());
    }
    let generation = generation.ok_or_else(|| format!("{FORM} (generation is missing)"))?;
    let release = release(generation).ok_or_else(|| format!("generation: {RELEASES}"))?;
    let ids = [("cluster", cluster), ("node", node), ("to_node", to_node)];
    let ids = trailer(release, to, ids)?;
    if queue.is_some() && release.generation() == Generation::Legacy {
        return Err(format!("no queue for {release}: datagrams do not wait"));
    }
    let own = (release.generation() == Generation::Modern).then_some(ids.cluster);
    Ok(TargetConfig {
        to,
        release,
        ids,
        queue_bytes: queue.map_or(Ok(QUEUE_BYTES), bytes)?,
        from_cluster: match from_cluster {
            None => own,
            Some("any") => None,
            Some(number) => Some(id("from_cluster", number)?),
        },
        bind: bind.map(|bind| address(bind, to)).transpose()?,
        // What the configuration says of sockets is known at its end.
        sockets: Arc::default(),
    })
}

/// From where packets for `to` leave.
fn address(bind: &str, to: Endpoint) -> Result<IpAddr, String> {
    let ip = bind.trim_start_matches('[').trim_end_matches(']').parse();
    let ip = ip.ok().filter(|ip: &IpAddr| !ip.is_unspecified());
    let ip = ip.filter(|ip| ip.is_ipv4() == to.addr.is_ipv4());
    ip.ok_or_else(|| "bind: one address of this host, of the family of to,".to_owned())
}

/// As clusters and nodes have them.
fn id(key: &str, number: &str) -> Result<i32, String> {
    let parsed = number.parse::<i32>().ok().filter(|number| *number > 0);
    parsed.ok_or_else(|| format!("{key}: a number from 1 to {}", i32::MAX))
}

/// The ids that a target of `release` expects around fields: those, all of them, and no others.
fn trailer(
    release: Release,
    to: Endpoint,
    ids: [(&str, Option<&str>); 3],
) -> Result<Trailer, String> {
    let wanted: &[&str] = match release.generation() {
        Generation::Legacy if to.protocol == Protocol::Bins => {
            return Err(format!("to: bin:IP:PORT for {release}, which has no TLS"));
        }
        Generation::Legacy => &[],
        Generation::Transitional => &["node"],
        Generation::Modern => &["cluster", "node", "to_node"],
    };
    let mut numbers = [0; 3];
    for (number, (key, value)) in numbers.iter_mut().zip(ids) {
        *number = match (value, wanted.contains(&key)) {
            (None, false) => 0,
            (Some(_), false) => {
                return Err(format!(
                    "no {key} for {release}, whose packets have no such id"
                ));
            }
            (None, true) => {
                return Err(format!("{key}, which packets of {release} say,"));
            }
            (Some(value), true) => id(key, value)?,
        };
    }
    let [cluster, node, to_node] = numbers;
    if release.generation() == Generation::Modern && node == to_node {
        return Err(
            "two different nodes (node is as whom we relay, to_node the target)".to_owned(),
        );
    }
    Ok(Trailer::new(cluster, node, to_node))
}

/// Those of 1.x are one.
fn release(text: &str) -> Option<Release> {
    if matches!(text, "1.10" | "1.11" | "2.1") {
        return Some(Release::V1x);
    }
    let mut all = Release::ALL.into_iter();
    all.find(|release| release.as_str() == text)
}

/// `4`, `4MiB`, `4 MiB`.
fn bytes(text: &str) -> Result<usize, String> {
    let mib = text.strip_suffix("MiB").unwrap_or(text).trim_end();
    let mib = mib.parse::<usize>().ok();
    let mib = mib.filter(|mib| (1..=QUEUE_MIB_MAX).contains(mib));
    mib.map(|mib| mib << 20)
        .ok_or_else(|| format!("queue: MiB from 1 to {QUEUE_MIB_MAX}, such as 4MiB,"))
}

const KEYS: [&str; 8] = [
    "to",
    "generation",
    "cluster",
    "node",
    "to_node",
    "queue",
    "from_cluster",
    "bind",
];

const FORM: &str = "a receiver and what it speaks, such as \"to=bin:10.0.0.7:5555, generation=1.11\" or \
                    \"to=bin:10.0.0.8:5555, generation=3.6, cluster=1, node=9, to_node=2\",";

const RELEASES: &str = "a release: 1.10, 1.11, 2.1 (or 1.x), 2.2 to 4.0";

/// Without `queue`.
const QUEUE_BYTES: usize = 4 << 20;
const QUEUE_MIB_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_a_release_and_the_ids_that_it_expects() {
        let target = parse("to=bin:10.0.0.7:5566, generation=1.11").unwrap();
        assert_eq!(
            (target.release, target.queue_bytes),
            (Release::V1x, QUEUE_BYTES)
        );
        assert_eq!(target.to.to_string(), "bin:10.0.0.7:5566");
        assert!(target.is_datagrams() && target.source().is_none());
        let target =
            parse("to=bins:[::1], queue = 16 MiB,generation=3.6,cluster=1,node=9,to_node=2");
        let target = target.unwrap();
        assert_eq!(target.ids, Trailer::new(1, 9, 2));
        assert_eq!((target.queue_bytes, target.source()), (16 << 20, Some(9)));
        let target = parse("to=bin:10.0.0.7,generation=2.2,node=4,queue=1").unwrap();
        assert_eq!((target.ids.source, target.from_cluster), (4, None));
        let target = "to=bin:10.0.0.7,generation=3.6,cluster=1,node=9,to_node=2";
        assert_eq!(parse(target).unwrap().from_cluster, Some(1));
        let other = parse(&format!("{target},from_cluster=4,bind=10.0.0.9")).unwrap();
        assert_eq!(other.from_cluster, Some(4));
        assert_eq!(other.bind, Some("10.0.0.9".parse().unwrap()));
        let any = parse(&format!("{target},from_cluster=any")).unwrap();
        assert_eq!((any.from_cluster, any.bind), (None, None));
        for release in Release::ALL {
            assert_eq!(super::release(release.as_str()), Some(release));
        }
    }

    #[test]
    fn what_is_no_target_is_told_with_what_was_expected() {
        for (text, told) in [
            ("", "such as \"to=bin"),
            ("10.0.0.7", "such as \"to=bin"),
            ("generation=1.11", "to is missing"),
            ("to=bin:10.0.0.7", "generation is missing"),
            ("to=udp:10.0.0.7, generation=1.11", "to: "),
            ("to=bin:0.0.0.0:5555, generation=1.11", "one address"),
            ("to=bin:10.0.0.7:0, generation=1.11", "one address"),
            ("to=bin:10.0.0.7, generation=1.9", "generation: a release"),
            (
                "to=bin:10.0.0.7, generation=1.11, node=1",
                "no node for 1.x",
            ),
            ("to=bins:10.0.0.7, generation=1.11", "no TLS"),
            (
                "to=bin:10.0.0.7, generation=2.2",
                "node, which packets of 2.2 say",
            ),
            (
                "to=bin:10.0.0.7, generation=3.6, node=1, to_node=2",
                "cluster, which",
            ),
            (
                "to=bin:10.0.0.7, generation=3.6, cluster=0, node=1, to_node=2",
                "cluster: a number",
            ),
            (
                "to=bin:10.0.0.7, generation=3.6, cluster=1, node=2, to_node=2",
                "two different nodes",
            ),
            (
                "to=bin:10.0.0.7, generation=2.2, node=1, queue=0",
                "queue: MiB",
            ),
            (
                "to=bin:10.0.0.7, generation=1.11, queue=4MiB",
                "datagrams do not wait",
            ),
            (
                "to=bin:10.0.0.7, generation=1.11, from_cluster=0",
                "from_cluster: a number",
            ),
            ("to=bin:10.0.0.7, generation=1.11, bind=::1", "bind: one"),
            (
                "to=bin:10.0.0.7, generation=1.11, bind=0.0.0.0",
                "bind: one",
            ),
            ("to=bin:10.0.0.7, to=bin:10.0.0.8", "to is there twice"),
            (
                "to=bin:10.0.0.7, generaton=1.11",
                "did you mean \"generation\"?",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
