use super::*;

fn has(config: &Config, socket: &str) -> Option<bool> {
    let sockets = config.target.sockets();
    sockets.map(|sockets| sockets.has(socket.as_bytes()))
}

#[test]
fn rules_of_several_lines_are_one_map_whose_right_sides_the_target_has() {
    let config = config(&with_listener(
        "socket = udp:192.0.2.7:5060\n\
         modparam(\"binrush\", \"socket_map\", \"udp:192.0.2.1=udp:192.0.2.9, vip=home\")\n\
         modparam(\"binrush\", \"socket_map\", \"tcp:192.0.2.1=tcp:192.0.2.9:5080\")\n",
    ));
    let map = config.target.map();
    assert_eq!(map.map(b"udp:192.0.2.1:5060"), b"udp:192.0.2.9:5060");
    assert_eq!(map.map(b"tcp:192.0.2.1:5060"), b"tcp:192.0.2.9:5080");
    assert_eq!(map.rules().count(), 3);
    for (socket, is_there) in [
        ("udp:192.0.2.9:5060", true),
        ("tcp:192.0.2.9:5080", true),
        ("tls:home", true),
        ("udp:192.0.2.7:5060", true),
        ("udp:192.0.2.1:5060", false),
    ] {
        assert_eq!(has(&config, socket), Some(is_there), "{socket}");
    }
}

#[test]
fn sockets_that_are_named_are_all_that_the_target_has() {
    let config = config(&with_listener(
        "socket = udp:192.0.2.7:5060\n\
         modparam(\"binrush\", \"target_socket\", \"udp:192.0.2.8\")\n\
         modparam(\"binrush\", \"target_socket\", \"tcp:vip\")\n",
    ));
    assert_eq!(has(&config, "udp:192.0.2.8:5060"), Some(true));
    assert_eq!(has(&config, "tcp:vip"), Some(true));
    assert_eq!(has(&config, "udp:192.0.2.7:5060"), Some(false));
    assert!(config.target.map().is_empty());
}

#[test]
fn nothing_is_known_of_the_target_where_nothing_is_said() {
    assert_eq!(has(&config(&with_listener("")), "udp:a"), None);
    assert_eq!(
        has(&config(&with_listener("socket = udp:eth0")), "udp:a"),
        None
    );
}

#[test]
fn what_does_not_fit_is_refused_where_it_stands() {
    for (text, told) in [
        (
            "modparam(\"binrush\", \"socket_map\", \"udp:192.0.2.1\")",
            "a.cfg:2:35: socket_map: what a socket is at the target",
        ),
        (
            "modparam(\"binrush\", \"target_socket\", 5060)",
            "a.cfg:2:38: target_socket: a socket of the target",
        ),
        (
            "modparam(\"binrush\", \"socket_map\", \"udp:a=udp:b\")\n\
             modparam(\"binrush\", \"socket_map\", \"udp:a=udp:c\")",
            "a.cfg:3:35: socket_map: udp:a is mapped to udp:b and to udp:c",
        ),
    ] {
        refused(&with_listener(text), told);
    }
}
