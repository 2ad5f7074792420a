//! The two examples that operators have from OpenSIPS's manuals start as they are written, at their address.
//!
//! That address belongs to nobody here, so each server has a network namespace of its own in which it does.

use std::process::Command;

use serde_json::Value;

use crate::process::{Running, Scratch, binary, skip};

/// The manual of 3.6, "Interface-Binary".
pub(crate) const V3_6: &str = r#"
   listen = bin:10.0.0.150:5062
   loadmodule "proto_bin.so"

   modparam("dialog", "dialog_replication_cluster", 1)
   modparam("dialog", "profile_replication_cluster", 2)
   modparam("usrloc", "location_cluster", 2)
"#;

/// The manual of 1.11, "Interface-Binary".
pub(crate) const V1_11: &str = r#"
   bin_listen = 10.0.0.150:5062
   bin_children = 4

   modparam("dialog", "accept_replicated_dialogs", 1)
   modparam("dialog", "replicate_dialogs_to", "78.46.64.50:5062")
   modparam("usrloc", "accept_replicated_contacts", 1)
"#;

#[test]
fn the_examples_of_the_manuals_start_and_receive() {
    // Only the second names a sender. In both the host itself may send, from a loopback address.
    for (name, config, shards) in [
        ("verbatim-3.6", V3_6, None),
        ("verbatim-1.11", V1_11, Some(4)),
    ] {
        let folder = Scratch::new(name);
        let file = folder.file("binrush.cfg", config.as_bytes());
        let Some(mut server) = start(&file) else {
            return;
        };
        let ready = server.event("ready");
        assert_eq!(ready["listen"][0], "bin:10.0.0.150:5062", "{ready}");
        if let Some(shards) = shards {
            assert_eq!(ready["shards"].as_array().map(Vec::len), Some(shards));
        }
        assert_eq!(
            ready["handlers"],
            serde_json::json!([
                "dialog",
                "ul",
                "dialog-dlg-repl",
                "usrloc-contact-repl",
                "dialog-prof-repl"
            ])
        );
        send_from_inside(&server);
        let total = server.stop("TERM").ok().json().pop().expect("a last line");
        // The kernel takes the address of the host itself as the source, which nobody allowed.
        assert_eq!(total["kernel_drops"]["acl"], 1, "{total}");
        assert_eq!(total["balanced"], true, "{total}");
        assert_eq!(total["received"], Value::from(0));
    }
}

/// A server in a network namespace in which the address is there; `None`, and said, where that cannot be had.
fn start(config: &str) -> Option<Running> {
    let prepare = "ip link set lo up && ip addr add 10.0.0.150/32 dev lo";
    let run = |script: &str, more: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script, "sh"]).args(more);
        command
    };
    match run(prepare, &[]).output() {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            skip(&format!(
                "no network namespace: {}",
                String::from_utf8_lossy(&done.stderr).trim()
            ));
            return None;
        }
        Err(error) => {
            skip(&format!("no `unshare`: {error}"));
            return None;
        }
    }
    let script = format!("{prepare} && exec \"$@\"");
    let binrush = binary().to_str().expect("a path of our own");
    let args = [binrush, "serve", "--json", "--config", config];
    Some(Running::start_command(run(&script, &args)))
}

/// Sends one packet inside the namespace of `server`.
fn send_from_inside(server: &Running) {
    let pid = server.id().to_string();
    let done = Command::new("nsenter")
        .args(["--target", &pid, "--net"])
        .arg(binary())
        .args(["send", "--to", "udp:10.0.0.150:5062"])
        .args(["ul", "AOR_INSERT", "str:location", "str:alice"])
        .output()
        .expect("nsenter is where unshare is");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}
