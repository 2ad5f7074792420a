//! Every parameter of the built-in parts in OpenSIPS 1.10 to 4.0, from the `param_export_t` arrays of its modules
//! (`proto_bin.c`, `proto_bins.c`, `tls_mgm.c`, `clusterer_mod.c`, `dialog.c`, `ul_mod.c`, `ratelimit.c`, `cachedb_local.c`);
//! ranges are what `mod_init` there takes without a complaint. Times are in the unit of OpenSIPS.

use super::{Kind, Parameter, Preset};

pub(super) const PROTO_BIN: &[Parameter] = &[
    port("bin_port", 5555),
    int("bin_send_timeout", 1, 100),
    int("bin_max_msg_chunks", 1, 32),
    flag("bin_async", 1),
    int("bin_async_max_postponed_chunks", 1, 1024),
    int("bin_async_local_connect_timeout", 0, 100),
    int("bin_async_local_write_timeout", 0, 10),
];

pub(super) const PROTO_BINS: &[Parameter] = &[
    port("bins_port", 5556),
    int("bins_send_timeout", 1, 100),
    int("bins_max_msg_chunks", 1, 32),
    int("bins_handshake_timeout", 1, 100),
    flag("bins_async", 1),
    int("bins_async_max_postponed_chunks", 1, 32),
    int("bins_async_local_connect_timeout", 0, 100),
    int("bins_async_handshake_timeout", 0, 10),
    text("trace_destination"),
    flag_unset("trace_on"),
];

/// What stands behind `[domain]` is checked where the domains are put together.
pub(super) const TLS_MGM: &[Parameter] = &[
    text("server_domain").repeats(),
    text("client_domain").repeats(),
    text("match_ip_address").repeats(),
    text("match_sip_domain").repeats(),
    text("tls_method").repeats(),
    text("verify_cert").repeats(),
    text("require_cert").repeats(),
    text("certificate").repeats(),
    text("private_key").repeats(),
    text("ca_list").repeats(),
    text("ca_dir").repeats(),
    text("crl_dir").repeats(),
    text("crl_check_all").repeats(),
    text("ciphers_list").repeats(),
    text("dh_params").repeats(),
    text("ec_curve").repeats(),
    choice("tls_library", &["auto", "none", "openssl", "wolfssl"]),
    text("client_domain_avp").now("client_tls_domain_avp"),
    text("client_tls_domain_avp"),
    text("client_sip_domain_avp"),
    // Up to 3.0.
    int_unset("tls_handshake_timeout", 1),
    int_unset("tls_send_timeout", 1),
    // 2.2 and 2.3.
    flag_unset("db_mode"),
    text("db_url"),
    named("db_table", "tls_mgm"),
];

pub(super) const TLS_MGM_COLUMNS: &[&str] = &[
    "id_col",
    "domain_col",
    "address_col",
    "match_ip_address_col",
    "match_sip_domain_col",
    "tls_method_col",
    "verify_cert_col",
    "require_cert_col",
    "certificate_col",
    "private_key_col",
    "crl_check_all_col",
    "crl_dir_col",
    "ca_list_col",
    "ca_dir_col",
    "ciphers_list_col",
    "dh_params_col",
    "ec_curve_col",
];

pub(super) const CLUSTERER: &[Parameter] = &[
    int_unset("my_node_id", 1),
    int_unset("current_id", 1).now("my_node_id"),
    int_unset("server_id", 1).now("my_node_id"),
    text("my_node_info").repeats(),
    text("current_info").repeats().now("my_node_info"),
    text("neighbor_node_info").repeats(),
    text("neighbor_info").repeats().now("neighbor_node_info"),
    text("sharing_tag").repeats(),
    flag("db_mode", 1),
    text("db_url"),
    named("db_table", "clusterer"),
    named("db_bridges_table", "clusterer_bridge"),
    int_unset("persistent_state", 0),
    int("ping_interval", 1, 4),
    int("ping_timeout", 1, 1000),
    int("node_timeout", 0, 60),
    int("seed_fallback_interval", 0, 5),
    int("sync_timeout", 1, 15),
    int("sync_packet_size", 1, 32768),
    flag("dispatch_jobs", 1),
    flag("enable_stats", 1),
    flag("enable_rerouting", 1),
    // Exported as a number in 2.2, the only release that has it.
    int_unset("clusterer_id_col", 0),
];

pub(super) const CLUSTERER_COLUMNS: &[&str] = &[
    "id_col",
    "cluster_id_col",
    "node_id_col",
    "machine_id_col",
    "url_col",
    "state_col",
    "no_ping_retries_col",
    "priority_col",
    "sip_addr_col",
    "flags_col",
    "description_col",
    "ls_seq_no_col",
    "top_seq_no_col",
    "last_attempt_col",
    "duration_col",
    "failed_attempts_col",
    "no_tries_col",
];

pub(super) const DIALOG: &[Parameter] = &[
    // 1.10 to 2.1, over UDP; in 2.2 and 2.3 `replicate_dialogs_to` is the id of a cluster.
    int("accept_replicated_dialogs", 0, 0),
    either("replicate_dialogs_to").repeats(),
    // 2.2 and 2.3.
    int("accept_replicated_profiles", 0, 0),
    int("replicate_profiles_to", 0, 0),
    int_unset("accept_replicated_profile_timeout", 0),
    flag_unset("auth_check"),
    flag_unset("replication_auth_check"),
    // 2.4 and later.
    int("dialog_replication_cluster", 0, 0),
    int("profile_replication_cluster", 0, 0),
    flag("cluster_auto_sync", 1),
    text("dlg_sharing_tag").repeats(),
    int("replicate_profiles_timer", 0, 200),
    int("replicate_profiles_check", 0, 10),
    int("replicate_profiles_buffer", 0, 1400),
    int("replicate_profiles_expire", 0, 10),
    // What a dialog is.
    flag("enable_stats", 1),
    int("hash_size", 1, 4096),
    range("log_profile_hash_size", 0, 30, 4),
    named("rr_param", "did"),
    text("timeout_avp"),
    int("default_timeout", 1, 12 * 60 * 60),
    int_unset("ping_interval", 1).now("options_ping_interval"),
    int("options_ping_interval", 1, 30),
    int("reinvite_ping_interval", 1, 300),
    text("dlg_extra_hdrs"),
    range("dlg_match_mode", 0, 2, 1),
    range("event_id_format", 0, 1, 0),
    int("race_condition_timeout", 0, 5),
    int("delete_delay", 0, 0),
    int_unset("auto_prack_hangup_on_failure", 0),
    int_unset("auto_prack_fr_timeout", 0),
    flag_unset("own_timer_proc"),
    int("timer_bulk_del_no", 1, 1),
    // Profiles.
    text("profiles_with_value"),
    text("profiles_no_value"),
    named("profile_value_prefix", "dlg_val_"),
    named("profile_no_value_prefix", "dlg_noval_"),
    named("profile_size_prefix", "dlg_size_"),
    int("profile_timeout", 1, 24 * 60 * 60),
    // Where dialogs are kept.
    range("db_mode", 0, 3, 0),
    text("db_url"),
    int("db_update_period", 1, 60),
    flag("db_flush_vals_profiles", 0),
    named("table_name", "dialog"),
    text("cachedb_url"),
];

pub(super) const DIALOG_COLUMNS: &[&str] = &[
    "dlg_id_column",
    "call_id_column",
    "from_uri_column",
    "from_tag_column",
    "to_uri_column",
    "to_tag_column",
    "state_column",
    "start_time_column",
    "timeout_column",
    "to_cseq_column",
    "from_cseq_column",
    "to_route_column",
    "from_route_column",
    "to_contact_column",
    "from_contact_column",
    "to_sock_column",
    "from_sock_column",
    "profiles_column",
    "vars_column",
    "sflags_column",
    "mflags_column",
    "flags_column",
];

pub(super) const USRLOC: &[Parameter] = &[
    // 1.11 and 2.1, over UDP; in 2.2 and 2.3 `replicate_contacts_to` is the id of a cluster.
    int("accept_replicated_contacts", 0, 0),
    either("replicate_contacts_to").repeats(),
    flag_unset("repl_auth_check"),
    // 1.11 and later.
    flag("skip_replicated_db_ops", 0),
    // 2.4 and later.
    int("location_cluster", 0, 0),
    choice("working_mode_preset", WORKING_MODES),
    choice("cluster_mode", CLUSTER_MODES),
    choice(
        "restart_persistency",
        &["none", "load-from-sql", "sync-from-cluster"],
    ),
    choice("sql_write_mode", &["none", "write-through", "write-back"]),
    choice("pinging_mode", &["ownership", "cooperation"]),
    flag_unset("shared_pinging"),
    int("ha_cluster", 0, 0),
    text("ha_shtag"),
    // What a contact is.
    flag("use_domain", 0),
    flag("desc_time_order", 0),
    range("matching_mode", 0, 1, 0),
    int("cseq_delay", 0, 20),
    range("hash_size", 0, 30, 9),
    int("timer_interval", 1, 60),
    either("nat_bflag"),
    flag("regen_broken_contactid", 0),
    flag("contact_refresh_timer", 0),
    int("latency_event_min_us", 0, 0),
    int("latency_event_min_us_delta", 0, 0),
    flag("mi_dump_kv_store", 0),
    // Where contacts are kept.
    range("db_mode", 0, 3, 0).unset(),
    text("db_url"),
    text("cachedb_url"),
    int("max_contact_delete", 1, 10),
];

pub(super) const USRLOC_COLUMNS: &[&str] = &[
    "user_column",
    "domain_column",
    "contact_column",
    "contact_id_column",
    "contactid_column",
    "expires_column",
    "q_column",
    "callid_column",
    "cseq_column",
    "flags_column",
    "cflags_column",
    "user_agent_column",
    "received_column",
    "path_column",
    "socket_column",
    "methods_column",
    "sip_instance_column",
    "attr_column",
    "kv_store_column",
];

pub(super) const RATELIMIT: &[Parameter] = &[
    // 2.2 and 2.3.
    int("accept_pipes_from", 0, 0).unset(),
    int("replicate_pipes_to", 0, 0).unset(),
    int_unset("accept_pipes_timeout", 0),
    flag_unset("repl_pipes_auth_check"),
    // 2.4 and later.
    int("pipe_replication_cluster", 0, 0),
    int("repl_buffer_threshold", 1, 32767),
    int("repl_timer_interval", 1, 200),
    int("repl_timer_expire", 1, 10),
    int_unset("bridge_replication", 0),
    int_unset("bridge_repl_timer_interval", 1),
    int_unset("bridge_repl_timer_expire", 1),
    // What a limit is.
    int("timer_interval", 0, 10),
    flag("limit_per_interval", 0),
    int("expire_time", 0, 3600),
    int("hash_size", 1, 1024),
    choice(
        "default_algorithm",
        &["NOP", "RED", "TAILDROP", "FEEDBACK", "NETWORK", "SBT"],
    ),
    int("window_size", 1, 10),
    int("slot_period", 1, 200),
    text("cachedb_url"),
    named("db_prefix", "rl_pipe_"),
];

pub(super) const CACHEDB_LOCAL: &[Parameter] = &[
    int("cluster_id", 0, 0),
    choice("cluster_persistency", &["none", "sync-from-cluster"]),
    text("cache_collections").repeats(),
    text("cachedb_url").repeats(),
    int_unset("cache_table_size", 1),
    int("cache_clean_period", 1, 600),
    int("exec_threshold", 0, 0),
    flag("enable_restart_persistency", 0),
];

/// OpenSIPS has none in any release. This one is ours: as which release events are written.
pub(super) const EVENT_DATAGRAM: &[Parameter] = &[choice("compat", &["1.11", "3.1"])];

const WORKING_MODES: &[&str] = &[
    "single-instance-no-db",
    "single-instance-sql-write-through",
    "single-instance-sql-write-back",
    "federation-cluster",
    "federation-cachedb-cluster",
    "full-sharing-cluster",
    "full-sharing-cachedb-cluster",
    "sql-only",
];

const CLUSTER_MODES: &[&str] = &[
    "none",
    "federation",
    "federation-cachedb",
    "full-sharing",
    "full-sharing-cachedb",
    "sql-only",
];

/// A number from `low` on.
const fn int(name: &'static str, low: i32, default: i32) -> Parameter {
    range(name, low, i32::MAX, default)
}

/// A number from `low` on, for which OpenSIPS has no default that means something.
const fn int_unset(name: &'static str, low: i32) -> Parameter {
    int(name, low, low).unset()
}

const fn range(name: &'static str, low: i32, high: i32, default: i32) -> Parameter {
    row(name, Kind::Int(low, high), Some(Preset::Int(default)))
}

const fn flag(name: &'static str, default: i32) -> Parameter {
    range(name, 0, 1, default)
}

const fn flag_unset(name: &'static str) -> Parameter {
    flag(name, 0).unset()
}

const fn port(name: &'static str, default: i32) -> Parameter {
    range(name, 1, 65535, default)
}

pub(super) const fn text(name: &'static str) -> Parameter {
    row(name, Kind::Text, None)
}

/// A string that is a name of something.
const fn named(name: &'static str, default: &'static str) -> Parameter {
    row(name, Kind::Text, Some(Preset::Text(default)))
}

const fn choice(name: &'static str, choices: &'static [&'static str]) -> Parameter {
    row(name, Kind::OneOf(choices), None)
}

const fn either(name: &'static str) -> Parameter {
    row(name, Kind::Either, None)
}

const fn row(name: &'static str, kind: Kind, default: Option<Preset>) -> Parameter {
    Parameter {
        name,
        kind,
        default,
        repeats: false,
        now: None,
    }
}

impl Parameter {
    const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    const fn now(mut self, name: &'static str) -> Self {
        self.now = Some(name);
        self
    }

    const fn unset(mut self) -> Self {
        self.default = None;
        self
    }
}
