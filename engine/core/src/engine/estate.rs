//! The sockets of an engine, for the one after it.
//!
//! ```text
//!   engine ─ estate: references to all sockets ─▶ Estate ─▶ another process ─▶ Engine::bind: those that it has use for
//!      └──── leave: shards end, nothing is shut ─▶ the kernel's counts, as they were read last     └ others: closed in order
//! ```
//!
//! A socket is never closed on its way, no filter shuts it, and its group keeps its order. What arrives while no shard reads
//! waits in the kernel for the next engine, and what the kernel drops meanwhile is in a count that one engine reads last and
//! the next goes on from. So the ledgers of both add up to what was sent: each datagram is received by one of them, or
//! dropped by the kernel and counted by one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::Engine;
use super::error::StopError;
use crate::telemetry::snapshot::Snapshot;

/// Sockets that are open and bound, and what is known of them. Dropping it closes these references.
#[derive(Debug, Default)]
pub struct Estate {
    /// What the groups are steered by, where that is known. Who goes on with them should have the same: what is queued was
    /// steered by it.
    pub seed: Option<u32>,
    /// Those for datagrams.
    pub groups: Vec<Group>,
    /// Sockets for datagrams that are in no group, and were opened by somebody who knows no access list.
    pub alone: Vec<Alone>,
    /// Those for connections.
    pub listening: Vec<Listening>,
}

/// The sockets of one address.
#[derive(Debug)]
pub struct Group {
    /// The address that was asked for, maybe with port 0.
    pub asked: SocketAddr,
    /// The address.
    pub addr: SocketAddr,
    /// In the order of the group: one for each shard, and the quarantine.
    pub members: Vec<Member>,
}

/// A socket of a group.
#[derive(Debug)]
pub struct Member {
    /// The socket.
    pub socket: OwnedFd,
    /// The kernel's count of drops, modulo 2^32, up to which an engine has counted them; `None`: as it stands when the next
    /// one takes it.
    pub drops: Option<u32>,
}

/// A socket for datagrams of a service manager's.
#[derive(Debug)]
pub struct Alone {
    /// The address.
    pub addr: SocketAddr,
    /// The socket.
    pub socket: OwnedFd,
}

/// A socket that listens for connections.
#[derive(Debug)]
pub struct Listening {
    /// The address that was asked for, maybe with port 0.
    pub asked: SocketAddr,
    /// The address.
    pub addr: SocketAddr,
    /// Whether connections have to be inside TLS; `None`: as who takes it says.
    pub tls: Option<bool>,
    /// The socket.
    pub socket: OwnedFd,
}

impl Group {
    /// Its address, and up to where the drops of each socket were counted.
    #[must_use]
    pub fn drops(&self) -> (SocketAddr, Vec<Option<u32>>) {
        let drops = self.members.iter().map(|member| member.drops);
        (self.addr, drops.collect())
    }

    /// Says up to where drops were counted, for each of its sockets; of another number of them it means nothing.
    pub fn go_on_from(&mut self, drops: &[Option<u32>]) {
        if drops.len() == self.members.len() {
            for (member, drops) in self.members.iter_mut().zip(drops) {
                member.drops = *drops;
            }
        }
    }
}

impl Estate {
    /// How many shards the groups are for: all of them for as many, or somebody mixed them up. `None` without groups.
    #[must_use]
    pub fn shards(&self) -> Option<u16> {
        let of = |group: &Group| u16::try_from(group.members.len()).ok()?.checked_sub(1);
        of(self.groups.first()?)
    }

    /// How many sockets it has.
    #[must_use]
    pub fn sockets(&self) -> usize {
        let members = self.groups.iter().map(|group| group.members.len());
        members.sum::<usize>() + self.alone.len() + self.listening.len()
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// What dup(2) said, mostly `EMFILE`.
    pub fn try_clone(&self) -> io::Result<Self> {
        let groups = self.groups.iter().map(|group| {
            let members = group.members.iter().map(|member| {
                let socket = member.socket.try_clone()?;
                let drops = member.drops;
                Ok(Member { socket, drops })
            });
            Ok(Group {
                members: members.collect::<io::Result<_>>()?,
                ..*group
            })
        });
        let alone = self.alone.iter().map(|alone| {
            let (addr, socket) = (alone.addr, alone.socket.try_clone()?);
            Ok(Alone { addr, socket })
        });
        let listening = self.listening.iter().map(|listening| {
            let socket = listening.socket.try_clone()?;
            Ok(Listening {
                socket,
                ..*listening
            })
        });
        Ok(Self {
            seed: self.seed,
            groups: groups.collect::<io::Result<_>>()?,
            alone: alone.collect::<io::Result<_>>()?,
            listening: listening.collect::<io::Result<_>>()?,
        })
    }

    /// The group of this address, asked for or had.
    pub(super) fn take_group(&mut self, addr: SocketAddr) -> Option<Group> {
        let mut groups = self.groups.iter();
        let at = groups.position(|group| group.asked == addr || group.addr == addr)?;
        Some(self.groups.remove(at))
    }

    pub(super) fn take_alone(&mut self, addr: SocketAddr) -> Option<Alone> {
        let at = self.alone.iter().position(|alone| alone.addr == addr)?;
        Some(self.alone.remove(at))
    }

    pub(super) fn take_listening(&mut self, addr: SocketAddr, tls: bool) -> Option<Listening> {
        let at = self.listening.iter().position(|each| {
            (each.asked == addr || each.addr == addr) && each.tls.unwrap_or(tls) == tls
        })?;
        Some(self.listening.remove(at))
    }
}

impl Engine {
    /// References to all of its sockets, while it goes on with them. Connections are not among them: the framing of a
    /// stream and the keys of a session cannot be passed on, so peers have to connect anew.
    ///
    /// # Errors
    /// What dup(2) said, mostly `EMFILE`.
    pub fn estate(&self) -> io::Result<Estate> {
        let open = self.listeners.iter().filter(|each| each.is_open());
        let groups: io::Result<Vec<_>> = open.map(super::listener::Listener::group).collect();
        Ok(Estate {
            seed: Some(self.steering.seed()),
            groups: groups?,
            alone: Vec::new(),
            listening: self.streams.estate()?,
        })
    }

    /// A reference to one socket of the listener for datagrams that is bound to `addr`: for who sends from there. `None`: there is none.
    ///
    /// # Errors
    /// As [`estate`](Self::estate).
    pub fn sender(&self, addr: SocketAddr) -> Option<io::Result<OwnedFd>> {
        let mut open = self.listeners.iter().filter(|each| each.is_open());
        open.find(|each| each.addr == addr)?.sender()
    }

    /// Ends it as [`stop`](Self::stop) does, but shuts nothing: the sockets of `estate`, which are its own, stay open and
    /// take what arrives, and what is queued is left to who goes on with them. `estate` then says up to where drops are counted here.
    ///
    /// Connections are read to the end of what has come, and closed; who waits to be accepted still waits.
    ///
    /// # Errors
    /// [`StopError`]: the totals are as far as they are known. `estate` can be gone on with nevertheless.
    pub fn leave(mut self, estate: &mut Estate) -> Result<Snapshot, StopError> {
        self.streams.leave();
        self.life.leave();
        let ended = self.end_shards();
        // Behind the last receive: what the kernel dropped up to here is ours.
        let read = self.each_listener(super::listener::Listener::read);
        self.read_host();
        for listener in self.listeners.iter_mut().filter(|each| each.is_open()) {
            let mut groups = estate.groups.iter_mut();
            if let Some(group) = groups.find(|group| group.addr == listener.addr) {
                listener.tell_drops(group);
            }
            listener.close(0);
        }
        let totals = self.counts();
        super::stopped(totals, ended, read.map(|()| 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::{addr_of, config, packet, peer_of, registry};
    use crate::engine::{EngineConfig, LISTENERS_MAX};
    use crate::telemetry::outcome::Outcome;
    use std::net::{TcpStream, UdpSocket as Peer};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    /// Leaves, and lets another engine of `config` go on.
    fn go_on(old: Engine, config: EngineConfig) -> (Snapshot, Engine) {
        let mut estate = old.estate().unwrap();
        let totals = old.leave(&mut estate).unwrap();
        let new = Engine::bind(config, estate).unwrap().start(registry());
        (totals, new.unwrap())
    }

    #[test]
    fn an_engine_goes_on_where_another_one_left_and_their_ledgers_add_up() {
        for shards in [1, 3] {
            let config = EngineConfig {
                shards: Some(shards),
                ..config()
            };
            let mut engine = Engine::start(config.clone(), registry()).unwrap();
            let addr = addr_of(&engine);
            let stop = AtomicBool::new(false);
            let (sent, lives) = thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    let peer = Peer::bind(("127.0.0.1", 0)).unwrap();
                    peer.connect(addr).unwrap();
                    let mut sent = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        let aor = sent.to_string();
                        peer.send(&packet(b"ul", 1, &[b"location", aor.as_bytes()]))
                            .unwrap();
                        sent += 1;
                        if sent.is_multiple_of(20) {
                            thread::sleep(Duration::from_micros(400));
                        }
                    }
                    sent
                });
                let mut lives = Vec::new();
                for _ in 0..10 {
                    thread::sleep(Duration::from_millis(5));
                    let (totals, next) = go_on(engine, config.clone());
                    lives.push(totals);
                    engine = next;
                    assert_eq!(addr_of(&engine), addr, "the port that was asked for as any");
                }
                stop.store(true, Ordering::Relaxed);
                let sent = sender.join().unwrap();
                lives.push(engine.stop().unwrap());
                (sent, lives)
            });
            assert!(lives.iter().all(Snapshot::is_balanced), "{lives:?}");
            let received: u64 = lives.iter().map(|life| life.total.received).sum();
            let dropped: u64 = lives.iter().map(|life| life.kernel.total()).sum();
            assert_eq!((received, dropped), (sent, 0), "with {shards} shards");
        }
    }

    #[test]
    fn what_the_kernel_dropped_is_counted_once_by_whoever_reads_it() {
        let config = EngineConfig {
            rcvbuf: 4096,
            ..config()
        };
        let old = Engine::start(config.clone(), registry()).unwrap();
        let peer = peer_of(&old);
        let mut estate = old.estate().unwrap();
        let first = old.leave(&mut estate).unwrap();
        (0..200).for_each(|_| assert_eq!(peer.send(&[1; 100]).unwrap(), 100));
        let new = Engine::bind(config, estate)
            .unwrap()
            .start(registry())
            .unwrap();
        let mut estate = new.estate().unwrap();
        let second = new.leave(&mut estate).unwrap();
        let third = Engine::bind(self::config(), estate).unwrap();
        let third = third.start(registry()).unwrap().stop().unwrap();
        assert_eq!(first.kernel.total() + first.total.received, 0);
        assert!(second.kernel.buffer > 0, "{:?}", second.kernel);
        assert_eq!(second.kernel.total(), second.kernel.buffer);
        // What is queued may be received by either.
        let received = second.total.received + third.total.received;
        assert_eq!(second.kernel.total() + third.kernel.total() + received, 200);
    }

    #[test]
    fn sockets_that_are_not_asked_for_any_more_are_drained_and_closed() {
        let mut both = config();
        both.listen.push(([127, 0, 0, 2], 0).into());
        both.streams.listen = vec![([127, 0, 0, 3], 0).into()];
        let old = Engine::start(both, registry()).unwrap();
        let infos: Vec<_> = old.listeners().collect();
        let (gone, door) = (infos[1].addr, infos[2].addr);
        let peer = Peer::bind(("127.0.0.2", 0)).unwrap();
        peer.connect(gone).unwrap();
        let mut estate = old.estate().unwrap();
        old.leave(&mut estate).unwrap();
        (0..5).for_each(|_| assert!(peer.send(&packet(b"ul", 1, &[b"location", b"x"])).is_ok()));
        let waiting = TcpStream::connect(door).unwrap();
        let mut new = Engine::bind(config(), estate)
            .unwrap()
            .start(registry())
            .unwrap();
        assert_eq!(new.listeners().count(), 3, "until it is sure of them");
        new.settle().unwrap();
        assert_eq!(new.listeners().count(), 1);
        assert!(Peer::bind(gone).is_ok() && TcpStream::connect(door).is_err());
        drop(waiting);
        let totals = new.stop().unwrap();
        assert_eq!(totals.total.outcome(Outcome::Handled), 5);
        assert_eq!(totals.streams.accept.arrived, 1);
        assert!(totals.is_balanced());
    }

    #[test]
    fn another_number_of_shards_is_refused_and_loses_nothing() {
        let old = Engine::start(config(), registry()).unwrap();
        let estate = old.estate().unwrap();
        let two = EngineConfig {
            shards: Some(2),
            ..config()
        };
        let refused = Engine::bind(two, estate).unwrap_err().to_string();
        assert!(refused.contains("for 1 shard"), "{refused}");
        let peer = peer_of(&old);
        peer.send(&packet(b"ul", 1, &[b"location", b"x"])).unwrap();
        assert_eq!(old.stop().unwrap().total.received, 1);
    }

    #[test]
    fn who_waits_to_be_accepted_is_accepted_by_the_next() {
        let mut config = config();
        config.streams.listen = config.listen.clone();
        let old = Engine::start(config.clone(), registry()).unwrap();
        let mut estate = old.estate().unwrap();
        let door = estate.listening[0].addr;
        old.leave(&mut estate).unwrap();
        let _peer = TcpStream::connect(door).unwrap();
        let mut new = Engine::bind(config, estate)
            .unwrap()
            .start(registry())
            .unwrap();
        let begun = std::time::Instant::now();
        while new.snapshot().unwrap().streams.accept.handed == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        assert!(new.stop().unwrap().is_balanced());
    }

    #[test]
    fn a_socket_of_a_service_manager_becomes_a_group_and_takes_nothing_of_before() {
        let theirs = Peer::bind(("127.0.0.1", 0)).unwrap();
        let addr = theirs.local_addr().unwrap();
        let peer = Peer::bind(("127.0.0.1", 0)).unwrap();
        peer.connect(addr).unwrap();
        (0..3).for_each(|_| assert!(peer.send(b"who knows").is_ok()));
        let estate = Estate {
            alone: vec![Alone {
                addr,
                socket: theirs.into(),
            }],
            ..Estate::default()
        };
        let config = EngineConfig {
            shards: Some(2),
            ..EngineConfig::new(addr)
        };
        let engine = Engine::bind(config, estate)
            .unwrap()
            .start(registry())
            .unwrap();
        peer.send(&packet(b"ul", 1, &[b"location", b"x"])).unwrap();
        let totals = engine.stop().unwrap();
        assert_eq!((totals.total.received, totals.kernel.starting), (1, 3));
        assert!(LISTENERS_MAX > 1 && totals.unaccounted(4) == 0);
    }
}
