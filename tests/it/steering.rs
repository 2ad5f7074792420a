//! The kernel's steering program, on real sockets, against the same function in user space.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as Peer};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use binrush_engine::steering::{program, source_filter};
use binrush_engine::{Access, Cidr, Steering};
use binrush_net::{Batch, OpenQueue as _, RecvMmsg, RxQueue as _, Slab, UdpOptions, UdpSocket};
use binrush_tests::captures;
use binrush_wire::{Generation, Packet};

use crate::dice::Dice;
use crate::made;
use crate::process::skip;

#[test]
fn the_kernel_steers_generated_datagrams_as_user_space_does() {
    for ip in loopbacks() {
        let mut dice = Dice::new(1);
        for shards in [2, 3, 4] {
            let mut group = Group::new(ip, Steering::new(shards, dice.int().cast_unsigned()));
            let datagrams = (0..GENERATED).map(|_| generated(&mut dice));
            let owners = group.agrees_on(datagrams);
            // The broken ones meet at a few owners; the others have keys of their own.
            let even = GENERATED / owners.len();
            assert!(owners.iter().all(|owned| *owned > even / 4), "{owners:?}");
        }
    }
}

#[test]
fn the_kernel_steers_every_captured_packet_as_user_space_does() {
    let frames = captures::frames("1.11");
    for ip in loopbacks() {
        for shards in [2, 3, 4] {
            let steering = Steering::new(shards, 0x00C0_FFEE);
            for frame in &frames {
                let packet = Packet::parse(Generation::Legacy, &frame.bytes).unwrap();
                let owner = steering.owner_of_datagram(&frame.bytes);
                assert_eq!(owner, steering.owner(&packet));
            }
            let datagrams = frames.iter().map(|frame| frame.bytes.clone());
            let owners = Group::new(ip, steering).agrees_on(datagrams);
            assert_eq!(owners.iter().sum::<usize>(), 2591);
            let even = 2591 / owners.len();
            assert!(owners.iter().all(|owned| *owned > even / 2), "{owners:?}");
        }
    }
}

/// Each length has its own way through the unrolled hash.
#[test]
fn the_kernel_hashes_keys_and_names_of_every_length_as_user_space_does() {
    let key: Vec<u8> = Dice::new(2).bytes(300);
    let datagrams = (0..=key.len()).flat_map(|len| {
        let key = &key[..len];
        [
            made::legacy(b"dialog", 2, &[key, b"tag"]),
            made::legacy(b"ul", 4, &[b"location", key]),
            made::legacy(b"ul", 1, &[key, b"alice", b"more"]),
            made::legacy(key, 1, &[b"alice"]),
        ]
    });
    for ip in loopbacks() {
        // So many that two hashes are told apart, wherever they differ.
        Group::new(ip, Steering::new(64, 0xDEAD_BEEF)).agrees_on(datagrams.clone());
    }
}

#[test]
fn the_kernel_believes_no_length_that_user_space_does_not() {
    let mut datagrams = vec![];
    for packet in [
        made::legacy(b"dialog", 3, &[b"4f1c-77@192.0.2.10", b"f", b"t"]),
        made::legacy(b"ul", 2, &[b"location", b"alice"]),
        made::legacy(b"greeting", 1, &[b"hello"]),
    ] {
        datagrams.extend((0..=packet.len()).map(|len| packet[..len].to_vec()));
        // Wherever a length may stand, and in between.
        for at in 0..packet.len() - 4 {
            let small = 0..=i32::try_from(packet.len()).unwrap();
            for lie in small.chain(LIES) {
                let mut packet = packet.clone();
                packet[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                datagrams.push(packet);
            }
        }
    }
    for ip in loopbacks() {
        Group::new(ip, Steering::new(16, 0xDEAD_BEEF)).agrees_on(datagrams.iter().cloned());
    }
}

#[test]
fn strangers_are_counted_in_the_quarantine_and_nobody_else_is() {
    let loopbacks = loopbacks();
    let is_there = |source: IpAddr| source.is_ipv4() || loopbacks.contains(&source);
    for (source, ranges, allowed) in [
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.2", "127.0.0.1", false),
        ("127.0.0.2", "127.0.0.0/31", false),
        ("127.0.0.2", "127.0.0.0/30", true),
        ("127.0.0.1", "10.0.0.0/8 127.0.0.2 127.0.0.0/31", true),
        (
            "127.0.0.1",
            "10.0.0.0/8 192.0.2.0/24 126.0.0.0/8 127.0.0.2",
            false,
        ),
        ("127.0.0.1", "0.0.0.0/0", true),
        ("127.0.0.1", "0.0.0.0/1", true),
        ("127.0.0.1", "128.0.0.0/1", false),
        ("127.0.0.1", "::/0", false),
        ("127.0.0.1", "::1", false),
        ("::1", "::1", true),
        ("::1", "::", false),
        ("::1", "::/127", true),
        ("::1", "::2/127", false),
        ("::1", "::/97 2001:db8::/32", true),
        ("::1", "::/96", true),
        ("::1", "::1:0:0/96", false),
        ("::1", "2001:db8::/33 0:0:1::/48 ::1:0:0:0/80", false),
        ("::1", "8000::/1", false),
        ("::1", "::/0", true),
        ("::1", "127.0.0.0/8 0.0.0.0/0", false),
    ] {
        let (source, ranges) = (source.parse().unwrap(), ranges.split(' '));
        let access = access(ranges.map(|range| range.parse().unwrap()));
        if is_there(source) {
            check_access(source, &access, allowed);
        }
    }
    for source in ["127.0.0.1", "127.0.0.2", "::1"].map(|source| source.parse().unwrap()) {
        if is_there(source) {
            check_access(source, &Access::any(), true);
            check_access(source, &Access::loopback(), true);
            check_access(source, &Access::nobody(), false);
        }
    }
}

/// The program is longest then, and its jumps go farthest.
#[test]
fn the_longest_list_lets_its_first_and_last_in_and_no_other() {
    let room = fs::read_to_string("/proc/sys/net/core/optmem_max");
    let room = room.map_or(OPTMEM, |room| room.trim().parse().expect("a number"));
    if room < OPTMEM {
        return skip("net.core.optmem_max leaves no room for a long program");
    }
    let others = (1..128_u32).flat_map(|n| {
        let v4 = Cidr::new(Ipv4Addr::from_bits(n << 8).into(), 31);
        let v6 = Cidr::new(Ipv6Addr::from_bits(u128::from(n) << 8).into(), 127);
        [v4.unwrap(), v6.unwrap()]
    });
    for source in loopbacks() {
        let first = access([source.into()].into_iter().chain(others.clone()));
        let last = access(others.clone().chain([source.into()]));
        let without = access(others.clone());
        assert_eq!(last.cidrs().len(), 255);
        for (access, allowed) in [(first, true), (last, true), (without, false)] {
            check_access(source, &access, allowed);
        }
    }
}

/// A group that listens on all addresses gets broadcasts once for each socket, steered by nobody.
#[test]
fn a_broadcast_passes_the_steering_by_and_not_the_filter() {
    let access = access(["127.0.0.2".parse().unwrap()]);
    let everywhere = Ipv4Addr::UNSPECIFIED.into();
    let group = Group::with_access(everywhere, Steering::new(2, 7), &access);
    let filter = source_filter(&access, false).unwrap();
    for socket in &group.sockets {
        socket.attach_filter(&filter).unwrap();
    }
    let broadcast = |source: &str| {
        let peer = Peer::bind((source, 0)).unwrap();
        peer.set_broadcast(true).unwrap();
        let to = (Ipv4Addr::new(127, 255, 255, 255), group.addr.port());
        let datagram = made::legacy(b"ul", 2, &[b"location", b"alice"]);
        peer.send_to(&datagram, to).unwrap();
    };
    let arrived = |socket: &Arc<UdpSocket>| {
        let queued = socket.queued_bytes().unwrap() > 0;
        (queued, socket.drops().unwrap())
    };
    let wait_for = |expected| {
        let deadline = Instant::now() + PATIENCE;
        let all_are = || {
            group
                .sockets
                .iter()
                .all(|socket| arrived(socket) == expected)
        };
        while !all_are() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(all_are(), "not {expected:?} everywhere");
    };
    broadcast("127.0.0.1");
    wait_for((false, 1));
    broadcast("127.0.0.2");
    wait_for((true, 1));
}

/// What `source` sends arrives at its owners if `allowed`, else in the quarantine, to the last datagram.
fn check_access(source: IpAddr, access: &Access, allowed: bool) {
    assert_eq!(access.allows(source), allowed, "{source} in {access}");
    let here: IpAddr = match source {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    for shards in [1, 3] {
        let mut group = Group::with_access(here, Steering::new(shards, 7), access);
        let peer = group.peer_at(source);
        let mut dice = Dice::new(3);
        // Not a multiple of anything.
        for _ in 0..CHUNK + 9 {
            let datagram = generated(&mut dice);
            if allowed {
                group.send(&peer, datagram);
            } else {
                peer.send(&datagram).unwrap();
            }
        }
        group.settle();
        let refused = if allowed { 0 } else { CHUNK + 9 };
        group.has_refused(refused);
    }
}

fn access(cidrs: impl IntoIterator<Item = Cidr>) -> Access {
    let mut access = Access::nobody();
    for cidr in cidrs {
        access.allow(cidr).unwrap();
    }
    access
}

/// A socket for each shard and the quarantine, steered.
struct Group {
    steering: Steering,
    addr: SocketAddr,
    queues: Vec<RecvMmsg>,
    sockets: Vec<Arc<UdpSocket>>,
    quarantine: UdpSocket,
    slab: Slab,
    batch: Batch,
    /// What was sent since the last [`settle`](Self::settle), by owner, in order.
    sent: Vec<Vec<Vec<u8>>>,
}

impl Group {
    fn new(ip: IpAddr, steering: Steering) -> Self {
        Self::with_access(ip, steering, &Access::loopback())
    }

    fn with_access(ip: IpAddr, steering: Steering, access: &Access) -> Self {
        let shards = usize::from(steering.shards());
        let addr = SocketAddr::new(ip, 0);
        let mut group = UdpSocket::bind_group(addr, shards + 1, &UdpOptions::default()).unwrap();
        let program = program(&steering, access, ip.is_ipv6()).unwrap();
        group[0].attach_steering(&program).unwrap();
        let quarantine = group.pop().unwrap();
        let sockets: Vec<_> = group.into_iter().map(Arc::new).collect();
        for socket in &sockets {
            socket.detach_filter().unwrap();
        }
        let open = |socket: &Arc<UdpSocket>| RecvMmsg::open(Arc::clone(socket), SLOTS).unwrap();
        Self {
            steering,
            addr: quarantine.local_addr().unwrap(),
            queues: sockets.iter().map(open).collect(),
            sockets,
            quarantine,
            slab: Slab::new(SLOTS * shards).unwrap(),
            batch: Batch::new(SLOTS),
            sent: vec![vec![]; shards],
        }
    }

    /// A sender at `source`.
    fn peer_at(&self, source: IpAddr) -> Peer {
        let peer = Peer::bind((source, 0)).unwrap();
        peer.connect(self.addr).unwrap();
        peer
    }

    /// Sends these and sees each arrive where user space says; how many that was for each shard.
    fn agrees_on(&mut self, datagrams: impl IntoIterator<Item = Vec<u8>>) -> Vec<usize> {
        let peer = self.peer_at(self.addr.ip());
        let mut owners = vec![0; self.sent.len()];
        let mut in_flight = 0;
        for datagram in datagrams {
            owners[self.send(&peer, datagram)] += 1;
            in_flight += 1;
            if in_flight == CHUNK {
                self.settle();
                in_flight = 0;
            }
        }
        self.settle();
        self.has_refused(0);
        owners
    }

    /// Sends a datagram, and notes whose it is by the reckoning of user space.
    fn send(&mut self, peer: &Peer, datagram: Vec<u8>) -> usize {
        let owner = usize::from(self.steering.owner_of_datagram(&datagram));
        if let Ok(packet) = Packet::parse(Generation::Legacy, &datagram) {
            assert_eq!(usize::from(self.steering.owner(&packet)), owner);
        }
        peer.send(&datagram).unwrap();
        self.sent[owner].push(datagram);
        owner
    }

    /// Receives as much as was sent, and sees that it came where and as it should.
    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut received = vec![vec![]; self.queues.len()];
        while received.iter().map(Vec::len).sum::<usize>() < self.sent.iter().map(Vec::len).sum() {
            assert!(Instant::now() < deadline, "datagrams are missing");
            for (queue, received) in self.queues.iter_mut().zip(&mut received) {
                queue.recv(&mut self.slab, &mut self.batch).unwrap();
                let datagrams = self.batch.datagrams(&self.slab);
                received.extend(datagrams.map(|datagram| datagram.bytes.to_vec()));
                self.batch.release(&mut self.slab);
            }
        }
        for (shard, (received, sent)) in received.iter().zip(&self.sent).enumerate() {
            let wrong = received
                .iter()
                .zip(sent)
                .find(|(received, sent)| received != sent);
            assert_eq!(wrong, None, "shard {shard}");
            assert_eq!(received.len(), sent.len(), "shard {shard}");
        }
        self.sent.iter_mut().for_each(Vec::clear);
    }

    /// Sees that the quarantine dropped so many, no socket dropped any, and nothing is left.
    fn has_refused(&self, count: usize) {
        let expected = u32::try_from(count).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.quarantine.drops().unwrap() < expected && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(self.quarantine.drops().unwrap(), expected);
        assert_eq!(self.quarantine.queued_bytes().unwrap(), 0);
        for socket in &self.sockets {
            assert_eq!(
                (socket.drops().unwrap(), socket.queued_bytes().unwrap()),
                (0, 0)
            );
        }
    }
}

/// A datagram such as peers send, or as nobody should.
fn generated(dice: &mut Dice) -> Vec<u8> {
    let command = dice.one_of(&[1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5, 0, 6, -1, 256 + 1]);
    let (key, other) = (key(dice), dice.string());
    let mut datagram = match dice.below(8) {
        0..3 => made::legacy(b"dialog", command, &[&key, &other, b"t1"]),
        3..6 => made::legacy(b"ul", command, &[&other, &key]),
        6 => made::legacy(dice.one_of(&NAMES), command, &[&key]),
        _ => {
            let len = dice.below(100);
            let marker = if dice.coin() { &b"P4CK"[..] } else { b"" };
            [marker, &dice.bytes(len)].concat()
        }
    };
    match dice.below(4) {
        0 => datagram.truncate(dice.below(datagram.len() + 1)),
        1 if datagram.len() > 40 => {
            let at = dice.one_of(&[8, 12, 14, 18, 22, 26, 30]);
            let lie = if dice.coin() {
                dice.int()
            } else {
                dice.one_of(&LIES)
            };
            datagram[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        }
        _ => {}
    }
    datagram
}

/// A Call-ID or AoR, most of them of the shapes that are in use.
fn key(dice: &mut Dice) -> Vec<u8> {
    let n = dice.below(1 << 20);
    match dice.below(5) {
        0 => format!("call-{n}-1-k@host").into_bytes(),
        1 => format!("alice{n}").into_bytes(),
        2 => format!("{n:08x}-6d0c-4ad5-a5f1-4b1d8c8d0f3e@192.0.2.10").into_bytes(),
        3 => dice.string(),
        _ => {
            let len = 1 + dice.below(300);
            dice.bytes(len)
        }
    }
}

/// The loopback addresses there are.
fn loopbacks() -> Vec<IpAddr> {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    let mut found = vec![Ipv4Addr::LOCALHOST.into()];
    match Peer::bind((v6, 0)) {
        Ok(_) => found.push(v6),
        Err(error)
            if error.kind() == io::ErrorKind::AddrNotAvailable
                || error.raw_os_error() == Some(EAFNOSUPPORT) =>
        {
            skip("no IPv6 loopback");
        }
        Err(error) => panic!("{v6}: {error}"),
    }
    found
}

/// Other names, some of which begin as those do that have keys.
const NAMES: [&[u8]; 9] = [
    b"",
    b"u",
    b"ulx",
    b"UL",
    b"dial",
    b"dialogs",
    b"dialoG",
    b"ratelimit",
    b"my module",
];

/// Lengths that no string has.
const LIES: [i32; 14] = [
    -1,
    -4,
    -26,
    i32::MIN,
    i32::MAX,
    0xff,
    0x100,
    0xffff,
    0x1_0000,
    0x1_0006,
    0x100_0002,
    0x0600_0000,
    0x7fff_0000,
    -0x1_0000,
];

/// For each address and number of shards.
const GENERATED: usize = 100_000;
/// Datagrams in flight: fewer than the smallest receive buffer holds, should all go to one socket.
const CHUNK: usize = 64;
const SLOTS: usize = 16;
/// Room for programs in the kernel, in bytes: the default of newer ones. Older ones have 20 480.
const OPTMEM: usize = 128 << 10;
const PATIENCE: Duration = Duration::from_secs(20);
/// The kernel has no IPv6 at all; std has no name for it.
const EAFNOSUPPORT: i32 = 97;
