//! What must hold for any bytes: no panic, and an error that stands in the file and is bounded.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Asserts what holds for every outcome.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    // The file includes nothing but itself and what is not there.
    let files = HashMap::from([(PathBuf::from("a.cfg"), bytes.to_vec())]);
    match Config::read(Path::new("a.cfg"), &files) {
        Ok(loaded) => {
            let config = &loaded.config;
            prop_assert!(!config.listeners.is_empty());
            for listener in &config.listeners {
                let Endpoint { protocol, addr } = listener.endpoint;
                let domain = tls_domain_for(&config.tls, addr);
                prop_assert!(protocol == Protocol::Bin || domain.is_some());
            }
            prop_assert!(loaded.warnings.len() <= 100);
            for cluster in &config.clusters {
                let me = cluster.me.url;
                let mut listeners = config.listeners.iter();
                let is_mine = |known: &Listener| {
                    known.endpoint.addr.port() == me.addr.port() && !known.datagrams_only
                };
                prop_assert!(listeners.any(is_mine));
                let others = cluster.neighbours.iter();
                prop_assert!(others.into_iter().all(|node| node.id != cluster.me.id));
            }
        }
        Err(error) => {
            prop_assert!((1..=PROBLEMS_MAX).contains(&error.problems().len()));
            for problem in error.problems() {
                let line = problem.place().map_or(1, |place| place.line as usize);
                prop_assert!((1..=lines).contains(&line), "{}", problem);
                let text = problem.to_string();
                prop_assert!(text.len() < 2000 && text.lines().count() <= 3, "{}", text);
                prop_assert!(
                    !text.replace('\n', "").contains(char::is_control),
                    "{:?}",
                    text
                );
            }
        }
    }
    Ok(())
}

/// Pieces of configurations, so that chance gets past the first token.
fn pieces() -> impl Strategy<Value = String> {
    let piece = select(PIECES).prop_map(str::to_owned);
    vec(prop_oneof![8 => piece, 1 => any::<String>()], 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_a_configuration_or_an_error(bytes in vec(any::<u8>(), 0..400)) {
        check(&bytes)?;
    }

    #[test]
    fn any_pieces_are_a_configuration_or_an_error(text in pieces()) {
        check(text.as_bytes())?;
    }

    #[test]
    fn a_damaged_configuration_is_one_or_an_error(
        changes in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let mut bytes = VALID.as_bytes().to_vec();
        for (at, byte, kind) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        check(&bytes)?;
    }
}

#[test]
fn what_is_damaged_was_whole_before() {
    assert_eq!(config(VALID).listeners.len(), 3);
    assert_eq!(config(VALID).clusters[0].capabilities.len(), 1);
}

const VALID: &str = r#"
# a node
listen = bin:10.0.0.1:5555 tag a
socket = bin:[::1] use_workers 2 /* both */
listen = udp:10.0.0.1:5060
debug = -1
mpath = "/modules/"
loadmodule "dialog.so"
loadmodule "clusterer.so"
modparam("dialog|clusterer", "enable_stats", yes)
modparam("dialog", "profiles_with_value", "a\x41" 'b')
modparam("dialog", "dialog_replication_cluster", 1)
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_info", "cluster_id=1,node_id=1,url=bin:10.0.0.1:5555")
modparam("clusterer", "neighbor_node_info", "cluster_id=1,node_id=2,url=bin:10.0.0.2:5555,sip_addr=10.0.0.2")
modparam("clusterer", "sharing_tag", "vip/1=backup")
modparam("binrush", "cluster_learn", "10.0.0.0/24")
modparam("binrush", "pin", "0,1")
modparam("binrush", "allow", "10.0.0.0/8")
listen = bins:10.0.0.1:5556
loadmodule "tls_mgm.so"
modparam("tls_mgm", "server_domain", "node")
modparam("tls_mgm", "match_ip_address", "[node]10.0.0.1:5556, [::1]:5556")
modparam("tls_mgm", "tls_method", "[node]TLSv1_2-")
modparam("tls_mgm", "certificate", "[node]/c")
modparam("tls_mgm", "private_key", "[node]/k")
modparam("tls_mgm", "ca_dir", "[node]/d")
modparam("binrush", "tls_pin", "[node]1111111111111111111111111111111111111111111111111111111111111111")
modparam("binrush", "peer", "addr=10.0.0.7, generation=2.2, name=sip1")
tcp_max_connections = 9
import_file "none.cfg"
route[x] { if ($var(a) == "}") { exit; } }
"#;

const PIECES: &[&str] = &[
    " ",
    "\n",
    "\t",
    "\\\n",
    "=",
    ":",
    ",",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "$",
    "/*",
    "*/",
    "#",
    "//",
    ";",
    "*",
    "+",
    "-1",
    "0",
    "0x",
    "yes",
    "65536",
    "10.0.0.1",
    "::1",
    "bin",
    "bins",
    "udp",
    "listen",
    "socket",
    "bin_listen",
    "children",
    "debug",
    "mpath",
    "loadmodule",
    "modparam",
    "include_file",
    "import_file",
    "route",
    "event_route",
    "tag",
    "as",
    "use_workers",
    "\"dialog\"",
    "\"dialog.so\"",
    "\"a.cfg\"",
    "\"binrush\"",
    "\"allow\"",
    "\"any\"",
    "\"pin\"",
    "\"peer\"",
    "\"tls_pin\"",
    "\"tls_mgm\"",
    "\"server_domain\"",
    "\"certificate\"",
    "\"clusterer\"",
    "\"my_node_info\"",
    "\"neighbor_node_info\"",
    "\"cluster_id=1,node_id=1,url=bin:10.0.0.1:5555\"",
    "\"sharing_tag\"",
    "\"vip/1=active\"",
    "\"cluster_learn\"",
    "\"dialog_replication_cluster\"",
    "\"match_ip_address\"",
    "\"[n]",
    "tcp_keepidle",
    "listen = bins:10.0.0.1\n",
    "listen = bin:10.0.0.1:5555\n",
    "modparam(\"binrush\", \"",
    "\", \"",
    "\")",
    "\\x",
    "\\777",
    "(((",
    "|",
    "é",
];
