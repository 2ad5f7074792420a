//! What is wrong with a command line is said before anything is opened or sent.

use crate::process::run;

#[test]
fn wrong_arguments_are_refused_with_what_is_right() {
    let udp = "udp:127.0.0.1:9";
    let tcp = "tcp:127.0.0.1:9";
    let usage: [(&[&str], &str); 14] = [
        (&[], "Usage: binrush"),
        (&["receive"], "receive"),
        (&["serve"], "--listen"),
        (
            &["serve", "--listen", "127.0.0.1:5566"],
            "bin:127.0.0.1:5566",
        ),
        (
            &["serve", "--listen", "bin:localhost:5566"],
            "bin:[::1]:5566",
        ),
        (
            &["serve", "--listen", "bin:127.0.0.1:0", "--core", "last"],
            "auto, off or a number",
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
            "0..=1073741824",
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
            &["serve", "--listen", "bin:127.0.0.1:0", "--core", "1048576"],
            "cannot pin",
        ),
    ];
    for (args, word) in meaning {
        let refused = run(args).exits(1);
        assert_eq!(refused.says(&["error: ", word]).text(), "", "{args:?}");
    }
}
