//! Where datagrams came from: asked for or not, handled where they came or mailed.

use super::*;
use crate::dispatch::handler::{Ends, Origin};

/// What a record's packet came by, and the shard that handled it.
type Heard = Arc<Mutex<Vec<(u32, Origin, u16)>>>;

/// Dialogs, all of which are handled on shard 1.
fn listening() -> (Registry, Heard) {
    let (mut registry, heard) = (Registry::new(), Heard::default());
    let ear = Arc::clone(&heard);
    let make = move |_| {
        let ear = Arc::clone(&ear);
        move |context: &mut Context<'_>, packet: &Packet<'_>| {
            let mut fields = packet.fields();
            let number = fields.pop_str().unwrap().try_into().unwrap();
            let number = u32::from_be_bytes(number);
            let shard = context.shard().0;
            ear.lock().unwrap().push((number, *context.origin(), shard));
            Verdict::Handled
        }
    };
    registry.register(b"dialog", make).unwrap();
    registry.keep_on_one_shard(b"dialog", ShardId(1));
    (registry, heard)
}

fn of_record(number: u32) -> Vec<u8> {
    packet(b"dialog", 3, &[&number.to_be_bytes()])
}

fn two_by(backend: Backend, ip: std::net::IpAddr) -> EngineConfig {
    EngineConfig {
        shards: Some(2),
        backend,
        ..EngineConfig::new(SocketAddr::new(ip, 0))
    }
}

#[test]
fn datagrams_say_where_they_came_from_on_whichever_shard_they_are_handled() {
    for (ip, backend) in loopback::addresses()
        .into_iter()
        .flat_map(|ip| [(ip, Backend::RecvMmsg), (ip, Backend::Uring)])
    {
        let (mut registry, heard) = listening();
        registry.ask_sources();
        let mut engine = match Engine::start(two_by(backend, ip), registry) {
            Ok(engine) => engine,
            Err(error) if backend == Backend::Uring => {
                loopback::skip(&error.to_string());
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let mut expected = Vec::new();
        let mut number = 0;
        let mut speak = |to: SocketAddr| {
            for _ in 0..3 {
                let peer = Peer::bind(SocketAddr::new(ip, 0)).unwrap();
                let ends = Ends {
                    peer: peer.local_addr().unwrap(),
                    local: Some(to),
                };
                for _ in 0..20 {
                    peer.send_to(&of_record(number), to).unwrap();
                    expected.push((number, Origin::Datagram(Some(ends)), 1));
                    number += 1;
                }
            }
        };
        let first = addr_of(&engine);
        speak(first);
        // A listener that is opened while it runs is asked as well.
        let any = SocketAddr::new(ip, 0);
        let free = Peer::bind(any).unwrap().local_addr().unwrap();
        let reloaded = engine.reload(&[any, free], Access::loopback()).unwrap();
        assert_eq!(reloaded.opened, [free]);
        speak(free);
        let totals = engine.stop().unwrap();
        assert!(totals.is_balanced(), "{totals:?}");
        assert!(totals.shards[1].mailed_in > 0, "some are steered to others");
        let mut heard = std::mem::take(&mut *heard.lock().unwrap());
        heard.sort_by_key(|(number, ..)| *number);
        assert_eq!(heard, expected);
    }
}

#[test]
fn a_listener_of_all_addresses_tells_its_port_and_no_address() {
    let (mut registry, heard) = listening();
    registry.ask_sources();
    let config = two_by(Backend::RecvMmsg, [0, 0, 0, 0].into());
    let engine = Engine::start(config, registry).unwrap();
    let local = addr_of(&engine);
    assert!(local.ip().is_unspecified());
    let peer = Peer::bind("127.0.0.1:0").unwrap();
    peer.send_to(&of_record(7), ("127.0.0.1", local.port()))
        .unwrap();
    let ends = Ends {
        peer: peer.local_addr().unwrap(),
        local: Some(local),
    };
    engine.stop().unwrap();
    let expected = (7, Origin::Datagram(Some(ends)), 1);
    assert_eq!(*heard.lock().unwrap(), [expected]);
}

#[test]
fn where_nobody_asks_datagrams_come_from_nowhere() {
    let (registry, heard) = listening();
    let engine = Engine::start(two_by(Backend::Auto, [127, 0, 0, 1].into()), registry).unwrap();
    let peer = peer_of(&engine);
    (0..20).for_each(|number| assert!(peer.send(&of_record(number)).is_ok()));
    engine.stop().unwrap();
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 20);
    let nowhere = Origin::Datagram(None);
    assert!(heard.iter().all(|(_, origin, _)| *origin == nowhere));
}
