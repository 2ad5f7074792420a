//! The parameters that stand outside of modules.

use super::limits::Limit;

/// What a parameter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// Addresses, each with its protocol.
    Listen,
    /// The one address of BIN in 1.10 to 2.1.
    BinListen,
    /// How many processes OpenSIPS starts for something: how many shards there are here.
    Workers,
    /// Where modules are looked for.
    Mpath,
    /// What connections may cost.
    Limit(Limit),
    /// OpenSIPS knows it, and it makes no difference here.
    NoEffect,
}

/// The parameter with this name.
pub(super) fn find(name: &str) -> Option<Global> {
    match name {
        "listen" | "socket" => Some(Global::Listen),
        "bin_listen" => Some(Global::BinListen),
        "mpath" => Some(Global::Mpath),
        name if worker_rank(name).is_some() => Some(Global::Workers),
        name if Limit::named(name).is_some() => Limit::named(name).map(Global::Limit),
        name if NO_EFFECT.contains(&name) => Some(Global::NoEffect),
        _ => None,
    }
}

/// How much `name` says about the processes that receive BIN packets: the first of [`WORKERS`] says most.
/// `tcp_children` is the name that `tcp_workers` had up to 3.0, `children` that of `udp_workers`; but `children` is
/// also what every old configuration has for SIP.
pub(super) fn worker_rank(name: &str) -> Option<usize> {
    let name = if name == "tcp_children" {
        "tcp_workers"
    } else {
        name
    };
    WORKERS.iter().position(|known| *known == name)
}

/// Every known name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let ours = ["listen", "socket", "bin_listen", "mpath", "tcp_children"];
    ours.into_iter()
        .chain(WORKERS)
        .chain(Limit::names())
        .chain(NO_EFFECT)
}

pub(super) const WORKERS: [&str; 4] = ["bin_children", "udp_workers", "tcp_workers", "children"];

/// What a configuration of OpenSIPS, 1.10 to 4.0 (`cfg.y`, `assign_stm`), may set and a receiver of BIN packets has
/// no use for: logging (binrush writes to its standard output), processes and memory, SIP and what its transports have
/// apart from those of BIN, DNS (addresses are written as such), databases. What is not a plain value (`auto_scaling_profile`, `dst_blacklist`,
/// `mem-group`) is not taken.
const NO_EFFECT: [&str; 107] = [
    // Logging.
    "debug",
    "log_level",
    "log_stderror",
    "log_stdout",
    "log_facility",
    "log_name",
    "log_prefix",
    "log_event_enabled",
    "log_event_level_filter",
    "log_json_buf_size",
    "log_msg_buf_size",
    "stderror_enabled",
    "stderror_level_filter",
    "stderror_log_format",
    "syslog_enabled",
    "syslog_facility",
    "syslog_level_filter",
    "syslog_log_format",
    "syslog_name",
    "xlog_buf_size",
    "xlog_default_level",
    "xlog_force_color",
    "xlog_level",
    "xlog_print_level",
    "pv_print_buf_size",
    // Processes.
    "fork",
    "debug_mode",
    "user",
    "uid",
    "group",
    "gid",
    "chroot",
    "workdir",
    "wdir",
    "disable_core_dump",
    "open_files_limit",
    "enable_asserts",
    "abort_on_assert",
    "max_while_loops",
    "timer_workers",
    "auto_scaling_cycle",
    "poll_method",
    // Memory.
    "memlog",
    "mem_log",
    "memdump",
    "mem_dump",
    "mem_warming",
    "mem_warming_enabled",
    "mem_warming_pattern_file",
    "mem_warming_percentage",
    "shm_hash_split_percentage",
    "shm_secondary_hash_size",
    "shm_memlog_size",
    "restart_persistency_cache_file",
    "restart_persistency_size",
    "execmsgthreshold",
    "exec_msg_threshold",
    "execdnsthreshold",
    "exec_dns_threshold",
    "tcpthreshold",
    "tcp_threshold",
    "event_shm_threshold",
    "event_pkg_threshold",
    // SIP and its transports.
    "alias",
    "auto_aliases",
    "advertised_address",
    "advertised_port",
    "avp_aliases",
    "check_via",
    "disable_503_translation",
    "disable_stateless_fwd",
    "disable_tcp",
    "disable_tls",
    "maxbuffer",
    "mcast_loopback",
    "mcast_ttl",
    "mhomed",
    "port",
    "server_header",
    "server_signature",
    "sip_warning",
    "tcp_accept_aliases",
    "tcp_async",
    "tcp_connect_timeout",
    "tcp_crlf_pingpong",
    "tcp_no_new_conn_bflag",
    "tcp_no_new_conn_rplflag",
    "tcp_poll_method",
    "tcp_send_timeout",
    "tcp_threads",
    "tcp_parallel_read_on_workers",
    "tos",
    "user_agent_header",
    // DNS and databases.
    "dns",
    "rev_dns",
    "dns_retr_no",
    "dns_retr_time",
    "dns_servers_no",
    "dns_try_ipv6",
    "dns_try_naptr",
    "dns_use_search_list",
    "db_default_url",
    "db_version_table",
    "disable_dns_blacklist",
    "disable_dns_failover",
    "query_buffer_size",
    "query_flush_time",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_is_known_once() {
        let all: Vec<&str> = names().collect();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len());
        assert!(all.iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn what_was_renamed_has_the_rank_of_its_later_name() {
        assert_eq!(worker_rank("tcp_children"), worker_rank("tcp_workers"));
        assert!(worker_rank("bin_children") < worker_rank("udp_workers"));
        assert!(worker_rank("tcp_workers") < worker_rank("children"));
        assert_eq!(worker_rank("timer_workers"), None);
    }
}
