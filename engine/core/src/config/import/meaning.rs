//! Which parameters of the built-in parts mean something here: those that the engine reads.

use crate::config::modules::Part;
use crate::config::tls;

/// Whether setting this parameter of `part`, by its newest name, changes what binrush does.
pub(super) fn has_meaning(part: Part, name: &str) -> bool {
    let mut rows = ROWS.iter();
    match part {
        // All of them are about certificates, but for those that another library would read.
        Part::TlsMgm => tls::parameters().any(|known| known == name),
        part => rows.any(|(of, names)| *of == part && names.contains(&name)),
    }
}

/// Why one that means nothing is left out, where there is more to say than that.
pub(super) fn why_not(part: Part, name: &str) -> Option<&'static str> {
    match (part, name) {
        (
            Part::Clusterer | Part::Dialog | Part::Usrloc | Part::TlsMgm,
            "db_url" | "cachedb_url",
        ) => Some("binrush reads and writes no database of OpenSIPS"),
        (Part::Dialog, "dlg_sharing_tag") => {
            Some("binrush takes no sharing tag; those of a cluster are followed by themselves")
        }
        (Part::Usrloc, "ha_cluster" | "ha_shtag") => Some("binrush pings no contacts"),
        _ => None,
    }
}

const ROWS: &[(Part, &[&str])] = &[
    (Part::ProtoBin, &["bin_port", "bin_max_msg_chunks"]),
    (
        Part::ProtoBins,
        &["bins_port", "bins_max_msg_chunks", "bins_handshake_timeout"],
    ),
    (
        Part::Clusterer,
        &[
            "my_node_id",
            "my_node_info",
            "neighbor_node_info",
            "sharing_tag",
            "db_mode",
            "ping_interval",
            "ping_timeout",
            "node_timeout",
            "seed_fallback_interval",
            "sync_timeout",
            "sync_packet_size",
        ],
    ),
    (
        Part::Dialog,
        &[
            "accept_replicated_dialogs",
            "replicate_dialogs_to",
            "accept_replicated_profiles",
            "replicate_profiles_to",
            "dialog_replication_cluster",
            "profile_replication_cluster",
        ],
    ),
    (
        Part::Usrloc,
        &[
            "accept_replicated_contacts",
            "replicate_contacts_to",
            "location_cluster",
            "working_mode_preset",
            "cluster_mode",
            "restart_persistency",
        ],
    ),
    (
        Part::Ratelimit,
        &[
            "accept_pipes_from",
            "replicate_pipes_to",
            "pipe_replication_cluster",
        ],
    ),
    (Part::CachedbLocal, &["cluster_id", "cluster_persistency"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_with_a_meaning_is_one_that_there_is() {
        let tls_mgm: Vec<_> = tls::parameters().collect();
        for (part, names) in ROWS.iter().copied().chain([(Part::TlsMgm, &tls_mgm[..])]) {
            for name in names {
                let found = part.parameter(name).unwrap_or_else(|| panic!("{name}"));
                assert_eq!(found.newest_name(), *name, "{part}");
                assert!(has_meaning(part, name));
            }
        }
        assert!(!has_meaning(Part::Dialog, "db_url"));
        assert!(!has_meaning(Part::Usrloc, "dialog_replication_cluster"));
    }
}
