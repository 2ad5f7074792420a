//! Which parameters put a capability into a cluster, and whether its records are synced there.

use crate::config::modules::Part;
use crate::config::parameters::Parameters;
use crate::config::syntax::Value;

/// A capability that a parameter asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) part: Part,
    /// The parameter, by its newest name.
    pub(super) parameter: &'static str,
    /// The cluster that it names.
    pub(super) cluster: i32,
    pub(super) capability: &'static str,
    pub(super) copy: Copies,
}

/// What is kept of a capability's records, and how it is come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies {
    /// All of them: a node that has them is asked at the start.
    Synced,
    /// As `Synced`, though nothing says so; the text is what its author may not expect.
    Assumed(&'static str),
    /// Those that come while we listen.
    Live,
    /// None: the capability is not registered. The text says why.
    None(&'static str),
    /// OpenSIPS does not start with this. The text says what was expected.
    Wrong(&'static str),
}

/// One capability: whose it is, and the parameters that name its cluster, the newest first.
struct Row {
    part: Part,
    /// Those of 2.2 and 2.3 count where they are numbers; in 1.x they were addresses.
    parameters: [&'static str; 2],
    capability: &'static str,
    copies: fn(&Parameters) -> Copies,
}

/// Whether this parameter names the cluster of a capability.
pub(super) fn is_named_by(part: Part, parameter: &str) -> bool {
    let mut rows = ROWS.iter();
    rows.any(|row| row.part == part && row.parameters.contains(&parameter))
}

/// Whether this capability is of `part`.
pub(in crate::config) fn is_of(capability: &str, part: Part) -> bool {
    let mut rows = ROWS.iter();
    rows.any(|row| row.capability == capability && row.part == part)
}

/// What the parameters ask for, in the order of [`ROWS`]. Cluster 0 is none.
pub(super) fn wanted(parameters: &Parameters) -> impl Iterator<Item = Wanted> {
    ROWS.iter().filter_map(|row| {
        let set = row.parameters.into_iter().find_map(|parameter| {
            let set = parameters.values(row.part, parameter).last();
            match set? {
                Value::Int(cluster) => Some((parameter, *cluster)),
                Value::Text(_) => None,
            }
        });
        let (parameter, cluster) = set.filter(|(_, cluster)| *cluster != 0)?;
        Some(Wanted {
            part: row.part,
            parameter,
            cluster,
            capability: row.capability,
            copy: (row.copies)(parameters),
        })
    })
}

/// As `working_mode_preset` says, or else `cluster_mode` and `restart_persistency` (3.6 `ul_mod.c`, `ul_check_config`).
fn contacts(parameters: &Parameters) -> Copies {
    let word = |name| {
        let text = parameters.text(Part::Usrloc, name);
        text.map(|text| text.to_ascii_lowercase())
    };
    let preset = word("working_mode_preset");
    let mode = word("cluster_mode");
    let restart = word("restart_persistency");
    let mode = match preset.as_deref() {
        Some("full-sharing-cluster") => return Copies::Synced,
        Some(preset) => preset.strip_suffix("-cluster").unwrap_or(preset),
        None => match mode.as_deref() {
            None => return Copies::Assumed(NO_MODE),
            Some(mode) => mode,
        },
    };
    match mode {
        "full-sharing" if restart.as_deref() == Some("sync-from-cluster") => Copies::Synced,
        // The other store of full-sharing-cachedb outlives a restart, so nobody asks for a sync there.
        "full-sharing" | "full-sharing-cachedb" => Copies::Live,
        "federation" | "federation-cachedb" => Copies::None(FEDERATION),
        "sql-only" => Copies::None(SQL_ONLY),
        _ => Copies::Wrong(SINGLE),
    }
}

/// As `cluster_persistency` says; it is on by itself (3.6 `cachedb_local.c`, `child_init`).
fn cached(parameters: &Parameters) -> Copies {
    match parameters.text(Part::CachedbLocal, "cluster_persistency") {
        Some(text) if text.eq_ignore_ascii_case("none") => Copies::Live,
        _ => Copies::Synced,
    }
}

/// The registrations of 3.6 `dlg_replication.c`, `ul_cluster.c`, `ratelimit_helper.c` and `cachedb_local.c`. Parameters of
/// 2.2 and 2.3 by which a node *accepts* (`accept_replicated_dialogs`, ...) are not among them: in 1.x they are 0 or 1.
const ROWS: &[Row] = &[
    Row {
        part: Part::Dialog,
        parameters: ["dialog_replication_cluster", "replicate_dialogs_to"],
        capability: "dialog-dlg-repl",
        copies: |_| Copies::Synced,
    },
    Row {
        part: Part::Dialog,
        parameters: ["profile_replication_cluster", "replicate_profiles_to"],
        capability: "dialog-prof-repl",
        copies: |_| Copies::Live,
    },
    Row {
        part: Part::Usrloc,
        parameters: ["location_cluster", "replicate_contacts_to"],
        capability: "usrloc-contact-repl",
        copies: contacts,
    },
    Row {
        part: Part::Ratelimit,
        parameters: ["pipe_replication_cluster", "replicate_pipes_to"],
        capability: "ratelimit-pipe-repl",
        copies: |_| Copies::Live,
    },
    Row {
        part: Part::CachedbLocal,
        parameters: ["cluster_id", "cluster_id"],
        capability: "cachedb-local-repl",
        copies: cached,
    },
];

const NO_MODE: &str = "no working_mode_preset says what nodes share, so contacts are kept as in \"full-sharing-cluster\"; OpenSIPS 2.4 \
                       and later do not start without one";

const FEDERATION: &str = "nodes of a federation do not share contacts with all others, which is not supported: this node takes \
                          no part in it";

const SQL_ONLY: &str = "has no effect with \"sql-only\": nodes share a database and not a cluster";

const SINGLE: &str = "a mode that shares contacts expected with it, such as `modparam(\"usrloc\", \"working_mode_preset\", \
                      \"full-sharing-cluster\")`";
