//! What is told to a service manager, and kept by it.

use super::*;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

fn inherited(name: &str, descriptor: impl Into<OwnedFd>) -> Inherited {
    Inherited {
        name: name.to_owned(),
        descriptor: descriptor.into(),
    }
}

/// What is gone on with, and what is told.
fn sorted(found: Vec<Inherited>, config: &EngineConfig) -> anyhow::Result<(Estate, Vec<String>)> {
    super::sorted(found, config).map(|sorted| (sorted.estate, sorted.told))
}

fn config(addr: SocketAddr) -> EngineConfig {
    EngineConfig {
        shards: Some(1),
        ..EngineConfig::new(addr)
    }
}

#[test]
fn a_name_says_what_a_kept_socket_is_in_its_group() {
    let place = Place {
        index: 1,
        count: 3,
        seed: 0xab,
    };
    for addr in ["127.0.0.1_5555", "[fd00__1-2]_5555"] {
        let name = format!("binrush-udp-{addr}-1of3-000000ab");
        assert_eq!(Place::read(&name), Some(place));
    }
    for name in [
        "",
        "unknown",
        "binrush.socket",
        "binrush-tcp-1.2.3.4_5",
        "binrush-udp-x-1of-0",
    ] {
        assert_eq!(Place::read(name), None, "{name}");
    }
}

#[test]
fn sockets_of_units_are_taken_by_address_and_kind_and_strangers_are_refused() {
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = datagrams.local_addr().unwrap();
    let mut config = config(addr);
    let (estate, told) = sorted(vec![inherited("x.socket", datagrams)], &config).unwrap();
    assert_eq!((estate.alone.len(), told.len()), (1, 0));
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let one = listener();
    config.streams.listen_tls = vec![one.local_addr().unwrap()];
    let (estate, _) = sorted(vec![inherited("tls", one)], &config).unwrap();
    assert_eq!(estate.listening[0].tls, Some(true));
    for (descriptor, said) in [
        (OwnedFd::from(listener()), "does not listen for them"),
        (
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "for datagrams at",
        ),
        (io::pipe().unwrap().0.into(), "neither a UDP socket"),
    ] {
        let refused = sorted(vec![inherited("a\nb", descriptor)], &config).unwrap_err();
        let refused = format!("{refused:#}");
        assert!(
            refused.contains(said) && refused.contains(r#""a\nb""#),
            "{refused}"
        );
    }
}

#[test]
fn a_kept_group_comes_back_in_its_order_or_is_given_up_as_a_whole() {
    let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let first = bind();
    let addr = first.local_addr().unwrap();
    let config = config(addr);
    let kept = |indices: &[usize], count: usize| {
        let member = |index: &usize| {
            let name = format!("binrush-udp-127.0.0.1_1-{index}of{count}-0000000a");
            inherited(&name, first.try_clone().unwrap())
        };
        indices.iter().map(member).collect::<Vec<_>>()
    };
    let (estate, told) = sorted(kept(&[1, 0], 2), &config).unwrap();
    assert_eq!(
        (estate.seed, estate.shards(), told.len()),
        (Some(10), Some(1), 0)
    );
    for (kept, why) in [
        (
            kept(&[0], 2),
            "of 2 there are 1; raise FileDescriptorStoreMax=",
        ),
        (kept(&[0, 0], 2), "of 2 there are 2"),
        (
            kept(&[0, 1, 2], 3),
            "they are for 2 shards, and there are 1 now",
        ),
    ] {
        let (estate, told) = sorted(kept, &config).unwrap();
        assert!(
            estate.groups.is_empty() && told[0].contains(why),
            "{told:?}"
        );
    }
}

#[test]
fn a_kept_group_that_is_deaf_and_what_is_no_socket_any_more_are_given_back() {
    let group = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let (one, other) = (group(), group());
    let addr = one.local_addr().unwrap();
    one.connect(addr).unwrap();
    let twin = other.try_clone().unwrap();
    let name = |index: usize| format!("binrush-udp-x-{index}of2-0000000a");
    let found = vec![
        inherited(&name(0), one.try_clone().unwrap()),
        inherited(&name(1), one),
        inherited("binrush-tcp-x", io::pipe().unwrap().0),
    ];
    let sorted = super::sorted(found, &config(addr)).unwrap();
    assert!(sorted.estate.groups.is_empty());
    let gone: Vec<_> = sorted.rejected.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(gone, [&name(0)[..], &name(1), "binrush-tcp-x"]);
    assert!(sorted.told[1].contains("hear nobody"), "{:?}", sorted.told);
    // One of a unit, which nobody kept.
    other.connect(twin.local_addr().unwrap()).unwrap();
    let refused = super::sorted(vec![inherited("x.socket", other)], &config(addr));
    assert!(format!("{:#}", refused.unwrap_err()).contains("one sender only"));
}

#[test]
fn what_a_stop_counted_is_gone_on_from_and_anything_else_is_not() {
    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = first.local_addr().unwrap();
    let config = config(addr);
    for (text, drops) in [
        (format!(r#"{{"{addr}":[7,9]}}"#), [Some(7), Some(9)]),
        (format!(r#"{{"{addr}":[7]}}"#), [None, None]),
        ("[".to_owned(), [None, None]),
    ] {
        let mut found: Vec<_> = (0..2)
            .map(|index| format!("binrush-udp-x-{index}of2-0000000a"))
            .map(|name| inherited(&name, first.try_clone().unwrap()))
            .collect();
        let mut counts = File::from(memfd_create(c"test", MFdFlags::empty()).unwrap());
        counts.write_all(text.as_bytes()).unwrap();
        found.insert(0, inherited(COUNTS, counts));
        let (estate, _) = sorted(found, &config).unwrap();
        let members = estate.groups[0].members.iter();
        assert_eq!(
            members.map(|each| each.drops).collect::<Vec<_>>(),
            drops,
            "{text}"
        );
    }
}

#[test]
fn a_shard_that_stands_still_is_told_by_silence() {
    let start = Instant::now();
    let every = Duration::from_millis(10);
    let mut watchdog = Watchdog {
        usec: 30_000,
        every,
        told: start,
        turns: vec![1, 1],
    };
    let mut due = |at: u32, turns: [u64; 2]| watchdog.is_due(start + every * at, turns.into());
    assert!(!due(0, [2, 2]), "not yet");
    assert!(due(1, [2, 2]));
    assert!(!due(2, [3, 2]) && !due(9, [50, 2]));
    assert!(due(10, [50, 3]));
}
