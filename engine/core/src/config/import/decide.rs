//! What a configuration cannot say of itself: whose address, id and senders these are to be, and what may not be meant.

use super::draft::Draft;
use super::standby::own_id;
use super::text::listens;
use super::{ImportOptions, Kept, Reason};
use crate::config::error::Topic;
use crate::config::modules::Part;
use crate::config::{Config, Loaded};

/// What somebody has to decide or to look at.
pub(super) fn decisions(
    draft: &Draft,
    options: &ImportOptions,
    kept: &[Kept],
    loaded: &Loaded,
    shards_are_of_sip: bool,
) -> Vec<String> {
    let config = &loaded.config;
    let mut decide = Vec::new();
    let endpoints: Vec<_> = config.listeners.iter().map(|each| each.endpoint).collect();
    let shown: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let shown = shown.join(", ");
    if !kept.iter().any(listens) {
        let why = match draft.unread_listeners {
            0 => "the file has no address for BIN",
            _ => "the addresses for BIN are names, macros or wrong",
        };
        decide.push(format!(
            "Own address: {why}, so this listens on this host alone, at {shown}. Say where: `--listen bin:IP:PORT`."
        ));
    } else if options.listen.is_empty() && options.node.is_none() {
        decide.push(format!(
            "Own address: {shown} is that of the node of the file, so only one of the two can listen there, on a host that has \
             the address. To stand beside it: `--listen bin:IP:PORT`."
        ));
    } else {
        decide.push(format!("Own address: {shown} has to be one of this host."));
    }
    decide.extend(own_node(draft, options, config));
    decide.push(format!(
        "Who may send: {}. Others: `modparam(\"binrush\", \"allow\", \"10.0.0.0/24\")`, which replaces all of these.",
        config.access
    ));
    let doubts = loaded.warnings.iter();
    let doubts = doubts.filter(|each| matches!(each.topic(), Topic::Access | Topic::Reach));
    decide.extend(doubts.map(|doubt| format!("Who may send: {}.", doubt.message())));
    if !config.sockets.know_all() {
        decide.push(
            "SIP sockets: those of the node of the file. Records with others are flagged, because a genuine node without those \
             sockets refuses them; what is another socket there, `modparam(\"binrush\", \"socket_map\", \
             \"udp:OLD:5060=udp:NEW:5060\")` says."
                .to_owned(),
        );
    } else if !draft.sockets.is_empty() {
        decide.push(
            "SIP sockets: one is a name, an interface or a wildcard, so that no record can be told to be of another node: write \
             addresses."
                .to_owned(),
        );
    }
    if shards_are_of_sip && let Some(count) = config.shards.count {
        let name = config.shards.source.as_deref().unwrap_or("a parameter");
        decide.push(format!(
            "Shards: {count}, because {name} says so, which counts processes for SIP. Without it there is one for each core."
        ));
    }
    if !config.tls.server.is_empty() || !config.tls.client.is_empty() {
        decide.push(
            "Certificates: the user that serves has to be able to read the files of tls_mgm, the private key included."
                .to_owned(),
        );
    }
    let unresolved = draft.left_out.iter();
    let unresolved = unresolved.filter(|each| each.reason <= Reason::Unresolved);
    match unresolved.count() {
        0 => {}
        count => decide.push(format!(
            "What is missing: {count} of the things left out could not be read or stand for something else; they come first in \
             the list below."
        )),
    }
    decide
}

/// What there is to say of the node's place in its clusters.
fn own_node(draft: &Draft, options: &ImportOptions, config: &Config) -> Option<String> {
    if config.clusters.is_empty() {
        let is_loaded = draft
            .loaded
            .iter()
            .any(|(part, _)| *part == Part::Clusterer);
        return is_loaded.then(|| {
            "Clusters: the file does not say which nodes there are (they may be in a database, which binrush does not read): \
             write `modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, node_id=9, url=bin:IP:PORT\")`, and \
             neighbor_node_info for each other node."
                .to_owned()
        });
    }
    let id = own_id(draft)?;
    Some(match options.node {
        None => format!(
            "Own node: this is node {id}, as the node of the file is. Two nodes of one id break a cluster: start this only when \
             that one is gone, or give this another id: `--node N --listen bin:IP:PORT`."
        ),
        Some(id) => format!(
            "Own node: this is node {id}. The other nodes have to know it: neighbor_node_info, or a row of their database."
        ),
    })
}
