//! What our copies are worth, and how they came to be: syncs that we got, and gave.

use super::{grouped, ids, millis};
use crate::control::facts::{Capability, Cluster, Kept, LastSync, Sync, Withheld};
use crate::table::{Head, Table};
use crate::text::{Harmless, counted};

/// A row for each of our capabilities, and sentences for what goes on with it.
pub(super) fn lines(cluster: &Cluster) -> Vec<String> {
    let mut table = Table::new([
        Head::Left("name"),
        Head::Left("copy"),
        Head::Left("offered"),
        Head::Right("completed"),
        Head::Right("abandoned"),
        Head::Right("given"),
        Head::Right("chunks given"),
        Head::Left("why"),
    ]);
    for each in &cluster.capabilities {
        table.row([
            each.name.clone(),
            each.state.clone(),
            if each.advertised { "yes" } else { "no" }.to_owned(),
            grouped(each.completed),
            grouped(each.abandoned),
            grouped(each.donated),
            grouped(each.donated_chunks),
            each.why.clone(),
        ]);
    }
    let mut lines = table.lines();
    lines.extend(cluster.capabilities.iter().flat_map(sentences));
    lines
}

fn sentences(of: &Capability) -> Vec<String> {
    let mut said: Vec<String> = of.sync.iter().map(under_way).collect();
    said.extend(of.last_sync.iter().map(ended));
    said.extend(of.donations.iter().map(|donation| {
        let chunks = grouped(donation.chunks);
        format!(
            "given to node {} now, {chunks} chunks so far",
            donation.node
        )
    }));
    said.extend(withheld(&of.withheld));
    said.extend(of.kept.iter().flat_map(not_kept));
    // Where all are alike the row says it.
    if of.peers.iter().any(|peer| peer.state != of.state) {
        let missed = of.peers.iter().filter(|peer| peer.state == "suspect");
        said.extend(missed.map(|peer| format!("node {}: suspect, {}", peer.node, peer.why)));
    }
    if !of.requests_waiting.is_empty() {
        let s = if of.requests_waiting.len() == 1 {
            ""
        } else {
            "s"
        };
        let ids = ids(&of.requests_waiting);
        said.push(format!(
            "asked for by node{s} {ids}: answered when our copy is verified"
        ));
    }
    let name = Harmless(&of.name).to_string();
    said.iter()
        .map(|each| format!("  {name}: {each}"))
        .collect()
}

/// What is not here, or not given; each only where there is some.
fn not_kept(kept: &Kept) -> Vec<String> {
    let told = [
        ("packets and chunks that found no room", kept.full),
        ("packets that change what is not here", kept.astray),
        (
            "packets that lack something, so that their records are given to nobody",
            kept.incomplete,
        ),
        (
            "records passed over in syncs, because the node reads another layout",
            kept.passed_over,
        ),
        (
            "packets with a part that means nothing and was left out",
            kept.senseless,
        ),
    ];
    let some = told.iter().filter(|(_, count)| *count > 0);
    some.map(|(what, count)| format!("{what}: {}", grouped(*count)))
        .collect()
}

/// What others did not get of it.
fn withheld(of: &Withheld) -> Vec<String> {
    let examples = match &of.sockets[..] {
        [] => String::new(),
        sockets => format!(" ({})", Harmless(&sockets.join(", "))),
    };
    let told = [
        (
            "dialogs left out of syncs, because the target lacks their socket",
            of.no_socket,
            &examples[..],
        ),
        (
            "contacts given without their socket, because the target lacks it",
            of.socketless,
            &examples,
        ),
        (
            "dialogs left out of syncs, because only updates told of them",
            of.provisional,
            "",
        ),
    ];
    let some = told.iter().filter(|(_, count, _)| *count > 0);
    some.map(|(what, count, examples)| format!("{what}: {}{examples}", grouped(*count)))
        .collect()
}

fn under_way(sync: &Sync) -> String {
    let chunks = match sync.total {
        // A donor that says there are none is done.
        Some(total) => {
            let percent = (sync.applied.saturating_mul(100))
                .checked_div(total)
                .unwrap_or(100);
            format!(
                "{} of {} chunks ({percent} %)",
                grouped(sync.applied),
                grouped(total)
            )
        }
        None => format!("{} chunks", grouped(sync.applied)),
    };
    format!(
        "from node {} for {}: {chunks} in {}; {} held back ({} bytes)",
        sync.donor,
        millis(sync.since_ms),
        counted(sync.packets, "packet"),
        counted(sync.held, "live packet"),
        grouped(sync.held_bytes)
    )
}

fn ended(last: &LastSync) -> String {
    let (ended, removed) = match (last.completed, last.removed_unconfirmed) {
        (true, true) => ("completed", "; what the donor did not confirm was removed"),
        (true, false) => ("completed", "; nothing was removed"),
        (false, _) => ("was abandoned", ""),
    };
    format!(
        "the last one, from node {}, {ended} after {} chunks and {}{removed}",
        last.donor,
        grouped(last.chunks),
        millis(last.took_ms)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_whose_end_is_not_known_has_no_percentage_and_an_empty_one_is_done() {
        let mut sync = Sync {
            donor: 2,
            packets: 1,
            held: 1,
            ..Sync::default()
        };
        let begun = "from node 2 for 0 ms: 0 chunks in 1 packet; 1 live packet held back (0 bytes)";
        assert_eq!(under_way(&sync), begun);
        sync.total = Some(0);
        assert!(under_way(&sync).contains(": 0 of 0 chunks (100 %) in "));
    }

    #[test]
    fn what_others_did_not_get_is_told_with_the_sockets_they_lack() {
        let capability = Capability {
            name: "dialog-dlg-repl".into(),
            withheld: Withheld {
                no_socket: 1_200,
                provisional: 3,
                sockets: vec!["udp:vip".into(), "\x1b[2J".into()],
                ..Withheld::default()
            },
            ..Capability::default()
        };
        let lacks = "dialogs left out of syncs, because the target lacks their socket";
        let told = "dialogs left out of syncs, because only updates told of them";
        assert_eq!(
            sentences(&capability),
            [
                format!(r"  dialog-dlg-repl: {lacks}: 1 200 (udp:vip, \u{{1b}}[2J)"),
                format!("  dialog-dlg-repl: {told}: 3"),
            ]
        );
    }

    #[test]
    fn a_name_from_the_network_cannot_command_a_terminal() {
        let capability = Capability {
            name: "a\x1b[2J".into(),
            requests_waiting: vec![4, 5],
            ..Capability::default()
        };
        assert_eq!(
            sentences(&capability),
            [r"  a\u{1b}[2J: asked for by nodes 4 5: answered when our copy is verified"]
        );
    }
}
