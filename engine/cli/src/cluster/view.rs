//! What is known of clusters, in tables: in the words that `clusterer_list` and its sisters have taught operators.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::control::facts::{Capability, Cluster, Kept, Node};
use crate::table::{Head, Table};
use crate::tally::grouped;
use crate::text::counted;

/// Syncs and donations.
mod syncs;

/// What there is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum View {
    /// Nodes, and whether they can be reached (clusterer_list)
    Nodes,
    /// Our links, and what nodes say of theirs (clusterer_list_topology)
    Links,
    /// Capabilities of all nodes, and whether they are synced (clusterer_list_cap)
    Caps,
    /// Sharing tags (clusterer_list_shtags)
    Tags,
    /// What our copies are worth: syncs we got, and gave
    Sync,
    /// Connections of this process, and its links to others
    Peers,
}

/// A part of what is known of a cluster.
struct Part {
    heading: &'static str,
    lines: fn(&Cluster) -> Vec<String>,
    /// The keys that it is made of.
    keys: &'static [&'static str],
}

/// One view of all clusters, or all views of each.
pub(super) fn text(view: Option<View>, clusters: &[Cluster]) -> String {
    let mut lines = Vec::new();
    for cluster in clusters {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(heading(cluster));
        for part in parts(view) {
            if view.is_none() {
                lines.push(format!(" {}", part.heading));
            }
            lines.extend((part.lines)(cluster));
        }
    }
    if clusters.is_empty() {
        lines.push(
            "this process is in no cluster: its configuration has no node of its own (my_node_info of clusterer)"
                .to_owned(),
        );
    }
    lines.join("\n")
}

/// Whether a view has something of the value that a cluster has under `key`. All have its id and ours.
pub(super) fn has(view: Option<View>, key: &str) -> bool {
    view.is_none()
        || ["cluster", "me"].contains(&key)
        || parts(view).iter().any(|part| part.keys.contains(&key))
}

/// In the order of the overview.
fn parts(view: Option<View>) -> &'static [Part] {
    let all = &PARTS;
    match view {
        None => all,
        Some(View::Nodes) => &all[0..1],
        Some(View::Links) => &all[1..2],
        Some(View::Caps) => &all[2..3],
        Some(View::Sync) => &all[3..4],
        Some(View::Tags) => &all[4..5],
        // Of the process, not of a cluster.
        Some(View::Peers) => &[],
    }
}

fn heading(cluster: &Cluster) -> String {
    let others = || cluster.nodes.iter().filter(|node| !node.is_me);
    let up = others().filter(|node| node.link == "up").count();
    format!(
        "cluster {}: we are node {}, {up} of {} up",
        cluster.cluster,
        cluster.me,
        counted(others().count() as u64, "other node")
    )
}

fn nodes(cluster: &Cluster) -> Vec<String> {
    let mut table = Table::new([
        Head::Right("node_id"),
        Head::Left("link_state"),
        Head::Right("next_hop"),
        Head::Left("url"),
        Head::Left("sip_addr"),
        Head::Left("release"),
        Head::Left("known"),
        Head::Right("heard"),
    ]);
    for node in &cluster.nodes {
        table.row([
            node.id.to_string(),
            link_state(node),
            of_others(node, || {
                node.next_hop
                    .map_or_else(|| "none".into(), |id| id.to_string())
            }),
            node.url.clone(),
            node.sip_addr.clone(),
            node.release.clone(),
            of_others(node, || {
                if node.learned {
                    "learned"
                } else {
                    "configured"
                }
                .into()
            }),
            of_others(node, || heard(node)),
        ]);
    }
    table.lines()
}

fn links(cluster: &Cluster) -> Vec<String> {
    let mut table = Table::new([
        Head::Right("node_id"),
        Head::Left("link"),
        Head::Right("heard"),
        Head::Right("pong"),
        Head::Right("ups"),
        Head::Right("downs"),
        Head::Left("Neighbours"),
        Head::Left("one-sided"),
    ]);
    for node in &cluster.nodes {
        table.row([
            node.id.to_string(),
            of_others(node, || node.link.clone()),
            of_others(node, || heard(node)),
            node.pong_ms.map_or_else(String::new, millis),
            of_others(node, || grouped(node.ups)),
            of_others(node, || grouped(node.downs)),
            ids(&node.neighbours),
            ids(&one_sided(cluster, node)),
        ]);
    }
    table.lines()
}

fn capabilities(cluster: &Cluster) -> Vec<String> {
    let mut table = Table::new([
        Head::Left("name"),
        Head::Right("node_id"),
        Head::Left("state"),
        Head::Left("copy"),
        Head::Right("records"),
        Head::Right("memory"),
        Head::Left("why"),
    ]);
    for name in names(cluster) {
        let ours = cluster.capabilities.iter().filter(|ours| ours.name == name);
        for ours in ours {
            table.row([
                name.to_owned(),
                cluster.me.to_string(),
                cap_state(ours.advertised),
                ours.state.clone(),
                kept(ours, |kept| grouped(kept.records)),
                kept(ours, |kept| memory(kept.bytes)),
                ours.why.clone(),
            ]);
        }
        for node in cluster.nodes.iter().filter(|node| !node.is_me) {
            let theirs = node.capabilities.iter().filter(|each| each.name == name);
            for theirs in theirs {
                table.row([
                    name.to_owned(),
                    node.id.to_string(),
                    cap_state(theirs.synced),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
            }
        }
    }
    table.lines()
}

fn tags(cluster: &Cluster) -> Vec<String> {
    let mut table = Table::new([
        Head::Left("Tag"),
        Head::Left("State"),
        Head::Left("active at"),
    ]);
    for tag in &cluster.tags {
        let is_ours = tag.active == Some(cluster.me);
        table.row([
            tag.name.clone(),
            if is_ours { "active" } else { "backup" }.to_owned(),
            tag.active
                .map_or_else(|| "nobody said so".to_owned(), |id| format!("node {id}")),
        ]);
    }
    table.lines()
}

fn messages(cluster: &Cluster) -> Vec<String> {
    let mut table = Table::new([
        Head::Left("kind"),
        Head::Right("received"),
        Head::Right("ignored"),
        Head::Right("sent"),
    ]);
    let all = cluster.messages.iter();
    for each in all.filter(|each| each.received + each.ignored + each.sent > 0) {
        table.row([
            each.kind.clone(),
            grouped(each.received),
            grouped(each.ignored),
            grouped(each.sent),
        ]);
    }
    table.lines()
}

/// As `clusterer_list` has it, and which way of probing it is.
fn link_state(node: &Node) -> String {
    match node.link.as_str() {
        _ if node.is_me => "this node".to_owned(),
        "up" => "Up".to_owned(),
        "down" => "Down".to_owned(),
        other => format!("Probe ({other})"),
    }
}

/// As `clusterer_list_cap` has it.
fn cap_state(synced: bool) -> String {
    if synced { "Ok" } else { "not synced" }.to_owned()
}

/// Of what is kept here, where that is known.
fn kept(of: &Capability, text: impl FnOnce(&Kept) -> String) -> String {
    of.kept.as_ref().map_or_else(String::new, text)
}

/// `812 B`, `34.0 KiB`, `512.0 MiB`.
fn memory(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(4);
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    let unit = UNITS[power as usize - 1];
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// What only other nodes have.
fn of_others(node: &Node, text: impl FnOnce() -> String) -> String {
    if node.is_me { String::new() } else { text() }
}

fn heard(node: &Node) -> String {
    node.heard_ms
        .map_or_else(|| "never".to_owned(), |ms| format!("{} ago", millis(ms)))
}

/// Neighbours that do not call it theirs: the link works in one direction, or news of it are under way. We tell of no
/// links, so none with us is meant.
fn one_sided(cluster: &Cluster, node: &Node) -> Vec<i32> {
    let says_so = |id: i32| {
        let other = cluster.nodes.iter().find(|other| other.id == id);
        other.is_some_and(|other| other.neighbours.contains(&node.id))
    };
    let neighbours = node.neighbours.iter().copied();
    neighbours
        .filter(|id| !node.is_me && *id != cluster.me && !says_so(*id))
        .collect()
}

/// Names of capabilities: ours in their order, then those that only others have.
fn names(cluster: &Cluster) -> Vec<&str> {
    let ours = cluster.capabilities.iter();
    let ours: Vec<&str> = ours.map(|each| each.name.as_str()).collect();
    let nodes = cluster.nodes.iter();
    let theirs = nodes.flat_map(|node| &node.capabilities);
    let theirs: BTreeSet<&str> = theirs.map(|each| each.name.as_str()).collect();
    let only_theirs = theirs.into_iter().filter(|name| !ours.contains(name));
    ours.iter().copied().chain(only_theirs).collect()
}

fn ids(ids: &[i32]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(" ")
}

/// As short as it can be read: `12 ms`, `5.2 s`, `2m 5s`.
fn millis(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string(),
    }
}

const PARTS: [Part; 6] = [
    Part {
        heading: "nodes",
        lines: nodes,
        keys: &["nodes"],
    },
    Part {
        heading: "links",
        lines: links,
        keys: &["nodes"],
    },
    Part {
        heading: "capabilities",
        lines: capabilities,
        keys: &["capabilities", "nodes"],
    },
    Part {
        heading: "syncs",
        lines: syncs::lines,
        keys: &["capabilities"],
    },
    Part {
        heading: "sharing tags",
        lines: tags,
        keys: &["tags"],
    },
    Part {
        heading: "messages",
        lines: messages,
        keys: &["messages"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::facts::tests::sample;
    use clap::ValueEnum as _;

    #[track_caller]
    fn shows(view: View, expected: &[&str]) {
        let cluster = Cluster::from(&sample());
        let text = text(Some(view), &[cluster]);
        let (heading, table) = text.split_once('\n').unwrap();
        assert_eq!(heading, "cluster 1: we are node 3, 1 of 2 other nodes up");
        assert_eq!(table, expected.join("\n"), "\n{text}");
    }

    #[test]
    fn nodes_are_listed_as_clusterer_list_does() {
        shows(
            View::Nodes,
            &[
                "  node_id  link_state        next_hop  url                 sip_addr      release          \
                 known           heard",
                "        3  this node                -  bin:10.0.0.9:5566   -             3.6 (told)       -                   \
                 -",
                "        1  Up                       1  bin:10.0.0.1:5566   sip:10.0.0.1  3.6 (found out)  \
                 configured  12 ms ago",
                "       12  Probe (retrying)      none  bin:10.0.0.12:5566  -             2.4 (told)       \
                 learned     5.2 s ago",
            ],
        );
    }

    #[test]
    fn links_are_shown_with_what_both_ends_say() {
        shows(
            View::Links,
            &[
                "  node_id  link          heard  pong  ups  downs  Neighbours  one-sided",
                "        3  -                 -     -    -      -  -           -",
                "        1  up        12 ms ago  1 ms    2      1  3           -",
                "       12  retrying  5.2 s ago     -    0      0  1           1",
            ],
        );
    }

    #[test]
    fn capabilities_are_shown_for_us_and_for_all_others() {
        shows(
            View::Caps,
            &[
                "  name                 node_id  state       copy      records    memory  why",
                "  dialog-dlg-repl            3  not synced  syncing         -         -  the first sync",
                "  dialog-dlg-repl            1  Ok          -               -         -  -",
                "  dialog-dlg-repl           12  not synced  -               -         -  -",
                "  usrloc-contact-repl        3  Ok          verified   80 000  34.0 MiB  node 1 gave all",
                "  ratelimit-pipe-repl        1  Ok          -               -         -  -",
            ],
        );
    }

    #[test]
    fn tags_are_backup_here_whoever_is_active() {
        shows(
            View::Tags,
            &[
                "  Tag    State   active at",
                "  vip    backup  node 1",
                "  spare  backup  nobody said so",
            ],
        );
        let mut ours = Cluster::from(&sample());
        ours.tags[0].active = Some(ours.me);
        assert!(text(Some(View::Tags), &[ours]).contains("vip    active  node 3"));
    }

    #[test]
    fn syncs_are_shown_as_they_go_and_as_they_ended() {
        shows(
            View::Sync,
            &[
                "  name                 copy      offered  completed  abandoned  given  chunks given  why",
                "  dialog-dlg-repl      syncing   no               0          1      0             0  the first \
                 sync",
                "  usrloc-contact-repl  verified  yes              2          0      3       240 000  node 1 \
                 gave all",
                "  dialog-dlg-repl: from node 1 for 2.3 s: 12 000 of 50 000 chunks (24 %) in 33 packets; 120 \
                 live packets held back (40 960 bytes)",
                "  dialog-dlg-repl: the last one, from node 12, was abandoned after 7 chunks and 15.0 s",
                "  dialog-dlg-repl: node 12: suspect, it is back",
                "  dialog-dlg-repl: asked for by node 12: answered when our copy is verified",
                "  usrloc-contact-repl: the last one, from node 1, completed after 80 000 chunks and 1.2 s; \
                 what the donor did not confirm was removed",
                "  usrloc-contact-repl: given to node 12 now, 41 000 chunks so far",
                "  usrloc-contact-repl: dialogs left out of syncs, because the target lacks their socket: 7 (udp:10.0.0.1:5060)",
                "  usrloc-contact-repl: contacts given without their socket, because the target lacks it: 40 (udp:10.0.0.1:5060)",
                "  usrloc-contact-repl: dialogs left out of syncs, because only updates told of them: 2",
                "  usrloc-contact-repl: packets and chunks that found no room: 1",
                "  usrloc-contact-repl: packets that change what is not here: 12",
                "  usrloc-contact-repl: packets that lack something, so that their records are given to nobody: 3",
                "  usrloc-contact-repl: records passed over in syncs, because the node reads another layout: 2 000",
                "  usrloc-contact-repl: packets with a part that means nothing and was left out: 5",
            ],
        );
    }

    #[test]
    fn the_overview_has_every_part_of_every_cluster_under_its_heading() {
        let cluster = Cluster::from(&sample());
        let whole = text(None, &[cluster.clone(), cluster]);
        for part in &PARTS {
            assert_eq!(whole.matches(&format!("\n {}\n", part.heading)).count(), 2);
        }
        assert_eq!(
            whole
                .matches("cluster 1: we are node 3, 1 of 2 other nodes up\n")
                .count(),
            2
        );
        // A kind of message that nobody sent or got is left out.
        assert!(
            whole.contains("  ping       900        1  1 800\n  sync        33"),
            "{whole}"
        );
        assert!(!whole.contains("mi_cmd"), "{whole}");
    }

    #[test]
    fn without_a_cluster_there_is_a_sentence_and_without_anything_in_it_there_are_headings() {
        assert!(text(None, &[]).starts_with("this process is in no cluster: "));
        let empty = text(None, &[Cluster::default()]);
        assert_eq!(empty.matches("\n  none").count(), PARTS.len());
    }

    #[test]
    fn every_view_of_clusters_has_keys_that_clusters_have() {
        let cluster = serde_json::json!(Cluster::default());
        let cluster = cluster.as_object().unwrap();
        for view in View::value_variants() {
            let shown: Vec<&String> = cluster.keys().filter(|key| has(Some(*view), key)).collect();
            let bare = *view == View::Peers;
            assert_eq!(shown.len() == 2, bare, "{view:?}: {shown:?}");
            let mut keys = parts(Some(*view)).iter().flat_map(|part| part.keys);
            assert!(keys.all(|key| cluster.contains_key(*key)), "{view:?}");
        }
        assert!(cluster.keys().all(|key| has(None, key)));
    }

    #[test]
    fn memory_is_told_in_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (512 << 20, "512.0 MiB"),
            (35_680_000, "34.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(memory(bytes), text);
        }
    }

    #[test]
    fn times_are_as_short_as_they_can_be_read() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (59_999, "59.9 s"),
            (125_999, "2m 5s"),
        ] {
            assert_eq!(millis(ms), text);
        }
    }
}
