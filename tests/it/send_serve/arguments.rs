//! What is wrong with a command line is said before anything is opened or sent.

use crate::process::run;

#[test]
fn wrong_arguments_are_refused_with_what_is_right() {
    let udp = "udp:127.0.0.1:9";
    let tcp = "tcp:127.0.0.1:9";
    let usage: [(&[&str], &str); 20] = [
        (&[], "Usage: binrush"),
        (&["receive"], "receive"),
        (&["serve"], "--listen"),
        (
            &["serve", "--listen", "127.0.0.1:5566"],
            "bin:IP:PORT expected",
        ),
        (
            &["serve", "--listen", "bin:localhost:5566"],
            "bin:localhost:5566",
        ),
        (
            &["serve", "--listen", "bin:127.0.0.1:0", "--pin", "last"],
            "auto, off, or numbers of cores",
        ),
        (
            &["serve", "--listen", "bins:127.0.0.1:5566"],
            "there is no certificate for it",
        ),
        (
            &["serve", "--listen", "bin:127.0.0.1:0", "--shards", "65"],
            "auto, or 1 to 64",
        ),
        (
            &["serve", "--listen", "bin:127.0.0.1:0", "--backend", "xdp"],
            "auto, recvmmsg or io_uring",
        ),
        (
            &[
                "serve",
                "--listen",
                "bin:127.0.0.1:0",
                "--allow",
                "10.0.0.1/8",
            ],
            "10.0.0.0/8",
        ),
        (
            &[
                "serve",
                "--listen",
                "bin:127.0.0.1:0",
                "--allow",
                "localhost",
            ],
            "; or any",
        ),
        (
            &["serve", "--listen", "bin:127.0.0.1:0", "--http", "9090"],
            "invalid socket address",
        ),
        (
            &["serve", "--listen", "bin:127.0.0.1:0", "--stats", "often"],
            "often",
        ),
        (
            &[
                "serve",
                "--listen",
                "bin:127.0.0.1:0",
                "--rcvbuf",
                "1073741825",
            ],
            "1..=1073741824",
        ),
        (&["send", "ul", "1"], "--to"),
        (
            &["send", "--to", "sctp:127.0.0.1:9", "ul", "1"],
            "udp:IP:PORT or tcp:IP:PORT",
        ),
        (&["send", "--to", udp, "ul"], "TYPE"),
        (
            &["send", "--to", udp, "ul", "1", "alice"],
            "str:TEXT, int:NUMBER or hex:DIGITS",
        ),
        (
            &["send", "--to", udp, "ul", "1", "int:2147483648"],
            "int:2147483648",
        ),
        (
            &["send", "--to", tcp, "--trailer", "1,2", "ul", "1"],
            "cluster,source,destination",
        ),
    ];
    for (args, word) in usage {
        let refused = run(args).exits(2);
        assert_eq!(refused.says(&[word]).text(), "", "{args:?}");
    }
    // Well-formed, and still not a packet.
    let meaning: [(&[&str], &str); 6] = [
        (&["send", "--to", udp, "ul", "CREATED"], "AOR_INSERT"),
        (&["send", "--to", udp, "mine", "CREATED"], "give its number"),
        (
            &["send", "--to", udp, "--trailer", "1,2,3", "ul", "1"],
            "drop --trailer",
        ),
        (
            &["send", "--to", udp, "x", "1"],
            "no node would take this packet: too_short",
        ),
        (
            &["send", "--to", tcp, "--generation", "1.x", "ul", "1"],
            "--to udp:IP:PORT",
        ),
        (
            &["serve", "--listen", "bin:127.0.0.1:0", "--pin", "1048576"],
            "cannot pin",
        ),
    ];
    for (args, word) in meaning {
        let refused = run(args).exits(1);
        assert_eq!(refused.says(&["error: ", word]).text(), "", "{args:?}");
    }
}
