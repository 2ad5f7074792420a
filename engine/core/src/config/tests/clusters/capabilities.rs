//! Capabilities: what modules replicate, in which cluster, and whether it is synced.

use super::*;

/// The names of the capabilities, each with whether it is synced.
fn capabilities(text: &str) -> Vec<(String, bool)> {
    let capabilities = cluster(text).capabilities.into_iter();
    capabilities
        .map(|CapabilityConfig { name, sync }| (name, sync))
        .collect()
}

#[test]
fn what_modules_replicate_are_capabilities_of_the_cluster_that_they_name() {
    let modules = r#"
        loadmodule "dialog.so"
        loadmodule "usrloc.so"
        loadmodule "ratelimit.so"
        loadmodule "cachedb_local.so"
        modparam("cachedb_local", "cluster_id", 1)
        modparam("dialog", "dialog_replication_cluster", 1)
        modparam("dialog", "profile_replication_cluster", 1)
        modparam("usrloc", "location_cluster", 1)
        modparam("usrloc", "working_mode_preset", "Full-Sharing-Cluster")
        modparam("ratelimit", "pipe_replication_cluster", 1)
    "#;
    let expected = [
        ("dialog-dlg-repl", true),
        ("dialog-prof-repl", false),
        ("usrloc-contact-repl", true),
        ("ratelimit-pipe-repl", false),
        ("cachedb-local-repl", true),
    ];
    let expected = expected.map(|(name, sync)| (name.to_owned(), sync));
    assert_eq!(capabilities(&node(modules)), expected);
    // 0 is no cluster.
    let none = node(&modules.replace(", 1)", ", 0)"));
    assert!(capabilities(&none).is_empty());
    let live =
        modules.to_owned() + "modparam(\"cachedb_local\", \"cluster_persistency\", \"none\")\n";
    let cached = capabilities(&node(&live)).pop();
    assert_eq!(cached, Some(("cachedb-local-repl".to_owned(), false)));
}

#[test]
fn parameters_of_2_2_and_2_3_name_clusters_and_give_way_to_newer_ones() {
    let old = r#"
        loadmodule "dialog.so"
        loadmodule "usrloc.so"
        loadmodule "ratelimit.so"
        modparam("dialog", "replicate_dialogs_to", 1)
        modparam("dialog", "replicate_profiles_to", 1)
        modparam("usrloc", "replicate_contacts_to", 1)
        modparam("ratelimit", "replicate_pipes_to", 1)
    "#;
    let names: Vec<_> = capabilities(&node(old))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let expected = [
        "dialog-dlg-repl",
        "dialog-prof-repl",
        "usrloc-contact-repl",
        "ratelimit-pipe-repl",
    ];
    assert_eq!(names, expected);
    let newer = old.to_owned() + "modparam(\"dialog\", \"dialog_replication_cluster\", 0)\n";
    assert_eq!(capabilities(&node(&newer)).len(), 3);
    // In 1.x it is an address, and that of another node.
    let legacy = old.replace(
        "replicate_dialogs_to\", 1",
        "replicate_dialogs_to\", \"10.0.0.7:5566\"",
    );
    assert_eq!(capabilities(&node(&legacy)).len(), 3);
    assert!(
        config(&node(&legacy))
            .access
            .allows("10.0.0.7".parse().unwrap())
    );
}

#[test]
fn a_cluster_that_nobody_defined_is_refused_where_it_is_named() {
    let named = |rest: &str| node(&format!("loadmodule \"dialog.so\"\n{rest}"));
    refused(
        &named("modparam(\"dialog\", \"dialog_replication_cluster\", 5)"),
        "a.cfg:8:50: dialog_replication_cluster: there is no cluster 5: one that a my_node_info is for expected (1)",
    );
    refused(
        &named("modparam(\"clusterer\", \"sharing_tag\", \"vip1/2=backup\")"),
        "a.cfg:8:38: sharing_tag: there is no cluster 2",
    );
    // A cluster whose nodes are wrong is not said to be none.
    let text = named("modparam(\"dialog\", \"dialog_replication_cluster\", 1)")
        .replace("url=bin:10.0.0.2:5566", "url=bin:10.0.0.3:5566");
    let error = refused(
        &text,
        "a.cfg:5:39: my_node_info: bin:10.0.0.3:5566 is no address",
    );
    assert!(!error.contains("there is no cluster"), "{error}");
}

#[test]
fn what_is_kept_of_contacts_is_what_the_working_mode_says() {
    let modes = |modes: &[(&str, &str)]| {
        let modes = modes
            .iter()
            .map(|(name, value)| format!("modparam(\"usrloc\", \"{name}\", \"{value}\")\n"));
        let modes: String = modes.collect();
        node(&format!(
            "loadmodule \"usrloc.so\"\nmodparam(\"usrloc\", \"location_cluster\", 1)\n{modes}"
        ))
    };
    let preset = |preset: &str| modes(&[("working_mode_preset", preset)]);
    let restart = ("restart_persistency", "sync-from-cluster");
    let contacts = |sync| vec![("usrloc-contact-repl".to_owned(), sync)];
    for (text, expected) in [
        (preset("full-sharing-cluster"), contacts(true)),
        (preset("full-sharing-cachedb-cluster"), contacts(false)),
        (modes(&[("cluster_mode", "full-sharing")]), contacts(false)),
        (
            modes(&[("cluster_mode", "full-sharing"), restart]),
            contacts(true),
        ),
        (
            modes(&[("cluster_mode", "full-sharing-cachedb"), restart]),
            contacts(false),
        ),
        (modes(&[]), contacts(true)),
        (preset("federation-cachedb-cluster"), vec![]),
        (modes(&[("cluster_mode", "federation")]), vec![]),
        (preset("sql-only"), vec![]),
    ] {
        assert_eq!(capabilities(&text), expected, "{text}");
    }
    let place = "a.cfg:8:40: location_cluster: ";
    for (text, told) in [
        (modes(&[]), "no working_mode_preset says"),
        (
            preset("federation-cluster"),
            "nodes of a federation do not share contacts",
        ),
        (preset("sql-only"), "has no effect with \"sql-only\""),
    ] {
        warned(&text, &format!("{place}{told}"));
    }
    silent(&preset("full-sharing-cluster"), "location_cluster");
    for text in [
        preset("single-instance-no-db"),
        modes(&[("cluster_mode", "none")]),
    ] {
        let told = "a mode that shares contacts expected with it, such as";
        refused(&text, &format!("{place}{told}"));
    }
}

#[test]
fn what_a_cluster_keeps_is_not_said_to_be_counted_only() {
    let modules = "loadmodule \"ratelimit.so\"\nloadmodule \"cachedb_local.so\"\n";
    let kept = node(&format!(
        "{modules}modparam(\"cachedb_local\", \"cluster_id\", 1)"
    ));
    silent(&kept, "cachedb_local: its packets are read and counted");
    warned(
        &kept,
        "a.cfg:7:12: ratelimit: its packets are read and counted; it does not act on them yet",
    );
    warned(
        &node(modules),
        "a.cfg:8:12: cachedb_local: its packets are read and counted; it does not act on them yet",
    );
    let counted = |text: &str| {
        let config = config(text);
        let parts = [
            Part::Clusterer,
            Part::Dialog,
            Part::Ratelimit,
            Part::CachedbLocal,
        ];
        parts.map(|part| config.is_counted_only(part))
    };
    assert_eq!(counted(&kept), [false, false, true, false]);
    assert_eq!(counted(&with_listener("")), [true, false, true, true]);
}
