//! Events that are long, and rings that are full.

use super::super::super::TEXTS_LEN_MAX;
use super::super::super::names::PUBLISHED;
use super::super::super::source::{RECORD_LEN_MAX, RING_LEN};
use super::*;

#[test]
fn what_scripts_raise_has_a_name_of_its_own_and_what_is_too_long_is_counted() {
    let bus = bus();
    let (reader, socket) = reader();
    let error = bus
        .subscribe("E_PIKE_BLOCKED", &socket, Expire::Never, None)
        .unwrap_err();
    assert!(matches!(error, SubscribeError::UnknownEvent { .. }));
    let blocked = bus.publish("E_PIKE_BLOCKED").unwrap();
    assert_eq!(
        (blocked, bus.event("E_PIKE_BLOCKED")),
        (PUBLISHED, Some(blocked))
    );
    bus.subscribe("E_PIKE_BLOCKED", &socket, Expire::Never, None)
        .unwrap();
    let long = vec![b'x'; 65_500];
    assert_eq!(
        bus.raise(blocked, &[Param::str("ip", &long)]),
        Raised::Taken
    );
    let unnamed = Param::unnamed(Value::Str(b"192.168.2.11"[..].into()));
    bus.raise(blocked, &[Param::str("ip", b"192.168.2.11"), unnamed]);
    assert_eq!(
        next(&reader),
        "E_PIKE_BLOCKED\nip::192.168.2.11\n192.168.2.11\n\n"
    );
    // Longer than any datagram, than a name in a ring, and than a ring ever takes.
    let name = "n".repeat(usize::from(u16::MAX) + 1);
    let texts = [usize::from(TEXTS_LEN_MAX), RING_LEN].map(|len| vec![b'x'; len]);
    let numbers = vec![Param::unnamed(Value::Int(1)); RECORD_LEN_MAX / 10 + 1];
    for params in [
        &[Param::str("ip", &texts[0])][..],
        &[Param::str("ip", &texts[1])],
        &[Param::int(&name, 1)],
        &numbers,
    ] {
        assert_eq!(bus.raise(blocked, params), Raised::TooLong);
    }
    let end = bus.stop(Duration::from_secs(5));
    assert!(end.is_balanced(), "{end:?}");
    assert_eq!((end.raised, end.too_long, end.dropped), (6, 4, 0));
    let of = &end.subscribers[0];
    assert_eq!((of.offered, of.sent, of.unwritable), (2, 1, 1));
}

#[test]
fn the_longest_that_a_ring_takes_is_taken_and_what_is_longer_is_not_called_a_lack_of_room() {
    let bus = Bus::new(Form::Text).unwrap();
    bus.subscribe("E_UL_AOR_INSERT", "udp:127.0.0.1:9", Expire::Never, None)
        .unwrap();
    let mut source = bus.source();
    let mut raise = |len| source.raise_record(AOR_INSERT, &vec![0; len]);
    assert_eq!(raise(RECORD_LEN_MAX), Raised::Taken);
    assert_eq!(raise(RECORD_LEN_MAX + 1), Raised::TooLong);
    assert_eq!(raise(RECORD_LEN_MAX), Raised::Taken);
    assert_eq!(raise(RECORD_LEN_MAX), Raised::Dropped);
    let end = bus.snapshot();
    assert_eq!((end.waiting, end.too_long, end.dropped), (2, 1, 1));
    assert!(end.is_balanced(), "{end:?}");
}

#[test]
fn what_finds_no_room_in_a_ring_is_dropped_and_counted_and_what_waits_at_the_start_is_told() {
    let bus = Bus::new(Form::Text).unwrap();
    let (reader, socket) = reader();
    bus.subscribe("E_UL_AOR_INSERT", &socket, Expire::Never, None)
        .unwrap();
    let mut source = bus.source();
    let long = vec![b'x'; 60_000];
    let aor = [Param::str("domain", b"location"), Param::str("aor", &long)];
    let raised = (0..100).map(|_| source.raise(AOR_INSERT, &aor));
    let taken = raised.filter(|raised| *raised == Raised::Taken).count() as u64;
    assert!((15..=17).contains(&taken), "{taken}");
    let before = bus.snapshot();
    assert_eq!((before.raised, before.waiting), (100, taken));
    assert!(before.is_balanced());
    bus.start().unwrap();
    for _ in 0..taken.min(2) {
        next(&reader);
    }
    let end = bus.stop(Duration::from_secs(5));
    assert!(end.is_balanced(), "{end:?}");
    assert_eq!((end.taken, end.dropped), (taken, 100 - taken));
}

/// Raises an event of each length around the longest for `socket`, and hears what comes of it by `receive`.
fn longest_for(socket: &str, receive: &dyn Fn(&mut [u8]) -> io::Result<usize>) {
    let bus = bus();
    let mine = bus.publish("E_MINE").unwrap();
    bus.subscribe("E_MINE", socket, Expire::Never, None)
        .unwrap();
    let beside = "E_MINE\nt::\n\n".len();
    let mut buffer = vec![0; 70_000];
    for len in [65_456, 65_457] {
        let text: Vec<u8> = (b'a'..=b'z').cycle().take(len - beside).collect();
        bus.raise(mine, &[Param::str("t", &text)]);
        let received = receive(&mut buffer).expect("an event");
        assert_eq!(received, len);
        let event = read(&buffer[..len]).unwrap();
        assert_eq!(event.params, [Param::str("t", &text)]);
    }
    let text = vec![b'x'; 65_458 - beside];
    bus.raise(mine, &[Param::str("t", &text)]);
    bus.raise(mine, &[]);
    let received = receive(&mut buffer).expect("the next one");
    assert_eq!(&buffer[..received], b"E_MINE\n\n");
    let end = bus.stop(Duration::from_secs(5));
    let of = &end.subscribers[0];
    assert_eq!((of.offered, of.sent, of.unwritable), (4, 3, 1), "{end:?}");
}

#[test]
fn the_longest_events_come_whole_by_every_kind_of_socket_and_what_is_longer_does_not() {
    let (v4, socket) = reader();
    longest_for(&socket, &|buffer| v4.recv(buffer));
    let path = std::env::temp_dir().join(format!("binrush-long-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let unix = UnixDatagram::bind(&path).unwrap();
    let patience = Some(Duration::from_secs(20));
    unix.set_read_timeout(patience).unwrap();
    longest_for(&format!("unix:{}", path.display()), &|buffer| {
        unix.recv(buffer)
    });
    std::fs::remove_file(&path).unwrap();
    let Ok(v6) = UdpSocket::bind("[::1]:0") else {
        return eprintln!("SKIPPED the longest events over IPv6: no IPv6 here");
    };
    v6.set_read_timeout(patience).unwrap();
    longest_for(&format!("udp:{}", v6.local_addr().unwrap()), &|buffer| {
        v6.recv(buffer)
    });
}
