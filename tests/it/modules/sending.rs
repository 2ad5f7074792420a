use super::*;

use std::net::{SocketAddr, UdpSocket};

use binrush_wire::Packet;

use crate::receiver::addresses;

/// Somebody whom modules send to.
struct Peer(UdpSocket);

impl Peer {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).expect("it is set");
        Self(socket)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("it is bound").port()
    }

    /// The next packet: its name, its type, its fields if there is an int, and where it came from.
    #[track_caller]
    fn next(&self) -> (Vec<u8>, i32, Option<i32>, SocketAddr) {
        let mut answer = [0; 64];
        let (len, from) = self.0.recv_from(&mut answer).expect("a packet");
        let packet = Packet::parse(Generation::Legacy, &answer[..len]).expect("a packet");
        let number = packet.fields().pop_int().ok();
        (packet.name().to_vec(), packet.command(), number, from)
    }

    /// Has `echo.c` at `server` answer; where that leaves from.
    #[track_caller]
    fn echo(&self, server: SocketAddr) -> SocketAddr {
        let mut buffer = [0; 64];
        let builder = Builder::new(Generation::Legacy, &mut buffer, b"echo", 7, 0);
        let mut builder = builder.expect("it fits");
        builder.push_int(self.port().into()).expect("it fits");
        let sent = self.0.send_to(builder.seal(), server);
        sent.expect("loopback");
        let (name, command, number, from) = self.next();
        assert_eq!((&name[..], command), (&b"echoed"[..], 7));
        assert_eq!(number, Some(self.port().into()));
        from
    }
}

#[test]
fn what_a_callback_sends_leaves_from_where_the_server_listens() {
    let Some(workshop) = Workshop::new("modules-echo", &["echo"]) else {
        return;
    };
    let server = workshop.serve("loadmodule \"echo.so\"");
    assert_eq!(Peer::new().echo(server.addr), server.addr);
    let total = server.stop("TERM");
    assert_eq!(total["balanced"], true, "{total}");
}

#[test]
fn a_listener_that_a_module_sent_from_is_closed_and_opened_again() {
    let Some(workshop) = Workshop::new("modules-reopened", &["echo"]) else {
        return;
    };
    let config = workshop.config("loadmodule \"echo.so\"\n");
    let text = fs::read_to_string(&config).expect("it is there");
    let with = |listen: &[String]| {
        let lines = listen
            .iter()
            .map(|listen| format!("listen = bin:{listen}\n"));
        let text = text.replace("listen = bin:127.0.0.1:0\n", &lines.collect::<String>());
        fs::write(&config, text).expect("it is ours");
    };
    let (goes, stays) = ("127.66.7.1:0".to_owned(), "127.66.7.2:0".to_owned());
    with(&[goes, stays.clone()]);
    let mut server = Receiver::of(Running::start(&workshop.args(&config)));
    let [goes_at, stays_at] = addresses(&server.ready)[..] else {
        panic!("{}", server.ready);
    };
    let peer = Peer::new();
    // The second one's shard sends from it, too: no thread may keep it.
    assert_eq!([peer.echo(goes_at), peer.echo(stays_at)], [goes_at; 2]);
    let mut reload = |listen: &[String], expected: &str| {
        with(listen);
        server.process.signal("HUP");
        let told = server.process.event("reload");
        assert_eq!(told["done"], true, "{told}");
        assert!(told["text"].to_string().contains(expected), "{told}");
    };
    reload(
        std::slice::from_ref(&stays),
        &format!("closed bin:{goes_at}"),
    );
    drop(UdpSocket::bind(goes_at).expect("the address is free again"));
    assert_eq!(peer.echo(stays_at), stays_at);
    reload(
        &[stays, goes_at.to_string()],
        &format!("opened bin:{goes_at}"),
    );
    assert_eq!(peer.echo(goes_at), stays_at);
    let total = server.stop("TERM");
    assert_eq!(count(&total, "received"), 4, "{total}");
    assert_eq!(total["balanced"], true, "{total}");
}

#[test]
fn what_a_module_sends_when_it_begins_leaves_from_where_the_server_listens() {
    let Some(workshop) = Workshop::new("modules-early", &["sends"]) else {
        return;
    };
    let peer = Peer::new();
    let port = peer.port();
    let server = workshop.serve(&format!(
        "loadmodule \"sends.so\"\nmodparam(\"sends\", \"port\", {port})\n\
         modparam(\"sends\", \"early\", 1)\nstartup_route {{ sends_queue(); }}\n"
    ));
    let (early, begun) = (peer.next(), peer.next());
    assert_eq!([early.1, begun.1], [1, 3]);
    assert_eq!([early.3, begun.3], [server.addr; 2]);
    server.stop("TERM");
}

#[test]
fn what_a_module_sends_at_its_end_leaves_from_where_the_server_listened_and_nobody_else_does() {
    let Some(workshop) = Workshop::new("modules-last", &["sends"]) else {
        return;
    };
    let peer = Peer::new();
    let port = peer.port();
    let first = workshop.serve(&format!(
        "loadmodule \"sends.so\"\nmodparam(\"sends\", \"port\", {port})\nmodparam(\"sends\", \"last\", 1)\n"
    ));
    let mut args = workshop.args(&workshop.path("binrush.cfg"));
    args.push("--handover".to_owned());
    let mut heir = Running::start(&args);
    heir.event("ready");
    let (_, command, _, from) = peer.next();
    assert_eq!(command, 4);
    assert_ne!(from, first.addr, "its heir has that");
    first.process.finish().ok();
    heir.stop("TERM").ok();
    let (_, command, _, from) = peer.next();
    assert_eq!((command, from), (4, first.addr));
}

#[test]
fn what_a_timer_or_a_route_queued_goes_out_without_any_callback() {
    let Some(workshop) = Workshop::new("modules-queues", &["sends"]) else {
        return;
    };
    let peer = Peer::new();
    let port = peer.port();
    let lines = format!("loadmodule \"sends.so\"\nmodparam(\"sends\", \"port\", {port})\n");
    for (line, command) in [
        ("modparam(\"sends\", \"ticking\", 1)\n", 2),
        ("timer_route[each, 1] { sends_queue(); }\n", 3),
    ] {
        let server = workshop.serve(&format!("{lines}{line}"));
        let (name, found, _, from) = peer.next();
        assert_eq!(
            (&name[..], found, from),
            (&b"sent"[..], command, server.addr)
        );
        server.stop("TERM");
        // Of one that came meanwhile.
        peer.0.set_nonblocking(true).expect("it is set");
        while peer.0.recv(&mut [0; 64]).is_ok() {}
        peer.0.set_nonblocking(false).expect("it is set");
    }
}
