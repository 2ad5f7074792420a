//! Datagrams between senders and one receiver.
//!
//! One way only: BIN over UDP knows no answers. One thread receives and sends, a datagram at a time; it keeps up with
//! senders that do the same.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::faults::Faults;
use crate::plan::{Plan, PlanError};
use crate::way::{Exit, ROOM_MAX, Room, Way};

/// A proxy of datagrams, ready to run.
///
/// Flows are numbered in the order in which their first datagrams came: with more than one sender, let them begin one
/// after the other where the same faults are wanted again.
#[derive(Debug)]
pub struct Udp {
    /// Where senders send to, with as large a receive buffer as could be had.
    pub listen: UdpSocket,
    /// Connected to the receiver, so that the kernel can tell when nobody listens there.
    pub send: UdpSocket,
    /// What befalls the datagrams of each sender.
    pub plan: Plan,
    /// How long each takes longer than it would.
    pub delay: Duration,
}

/// What became of all datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdpTotals {
    /// What was done to them, all flows together.
    pub counts: Counts,
    /// Senders' addresses seen; those beyond [`FLOWS_MAX`] share the last flow.
    pub flows: u64,
    /// Forwarded datagrams that the kernel did not take, by what it said.
    pub unsent: BTreeMap<String, u64>,
    /// How often the kernel said that nobody listens at the receiver's address: so many datagrams at least reached
    /// nobody, though they were sent.
    pub refused: u64,
}

impl Udp {
    /// Forwards until `stop` is set; then what is still queued, and what was held back.
    ///
    /// What senders send after the queue was once found empty belongs to nobody: stop them first.
    ///
    /// # Errors
    /// [`UdpFailed`]: the plan cannot be kept to, or the listening socket failed; the totals are as far as it came.
    pub fn run(self, stop: &AtomicBool) -> Result<UdpTotals, UdpFailed> {
        let failed = |totals, error: io::Error| UdpFailed::Io { error, totals };
        self.plan.check().map_err(UdpFailed::Plan)?;
        let exit = Datagrams {
            socket: self.send,
            unsent: BTreeMap::new(),
            refused: 0,
        };
        let way = self
            .listen
            .set_read_timeout(Some(WAIT))
            .and_then(|()| Way::new(exit, self.delay, &Room::new(ROOM_MAX)));
        let mut way = way.map_err(|error| failed(Box::default(), error))?;
        let mut flows = Flows::new(self.plan);
        let received = receive(&self.listen, stop, &mut flows, &mut way);
        for faults in &mut flows.faults {
            faults.finish(|packet| send(&mut way, packet));
        }
        let (exit, _) = way.finish();
        let mut totals = UdpTotals {
            flows: flows.faults.len() as u64,
            unsent: exit.unsent,
            refused: exit.refused,
            ..UdpTotals::default()
        };
        for faults in &flows.faults {
            totals.counts.merge(faults.counts());
        }
        match received {
            Ok(()) => Ok(totals),
            Err(error) => Err(failed(Box::new(totals), error)),
        }
    }
}

/// A proxy that ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UdpFailed {
    /// It did not begin.
    #[error(transparent)]
    Plan(PlanError),
    /// The listening socket failed, or the thread of a delay could not be started.
    #[error("cannot receive: {error}")]
    Io {
        /// What the kernel said.
        error: io::Error,
        /// Until then.
        totals: Box<UdpTotals>,
    },
}

/// The faults of each sender.
#[derive(Debug)]
struct Flows {
    plan: Plan,
    by_sender: HashMap<SocketAddr, usize>,
    faults: Vec<Faults>,
    /// Whose datagram came last: the next one is often from the same.
    last: Option<(SocketAddr, usize)>,
}

impl Flows {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            by_sender: HashMap::new(),
            faults: Vec::new(),
            last: None,
        }
    }

    #[inline]
    fn of(&mut self, sender: SocketAddr) -> &mut Faults {
        let at = match self.last {
            Some((last, at)) if last == sender => at,
            _ => self.look_up(sender),
        };
        self.last = Some((sender, at));
        &mut self.faults[at]
    }

    fn look_up(&mut self, sender: SocketAddr) -> usize {
        if let Some(at) = self.by_sender.get(&sender) {
            return *at;
        }
        if self.faults.len() == FLOWS_MAX {
            return FLOWS_MAX - 1;
        }
        let at = self.faults.len();
        let faults = Faults::new(&self.plan, at as u64).expect("the plan was checked");
        self.faults.push(faults);
        self.by_sender.insert(sender, at);
        at
    }
}

/// The receiver's end.
#[derive(Debug)]
struct Datagrams {
    socket: UdpSocket,
    unsent: BTreeMap<String, u64>,
    refused: u64,
}

impl Exit for Datagrams {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = self.socket.send(bytes);
        let mut tries = 1;
        // It is told of one that went before; this one was not looked at.
        while tries < TRIES && is_passing(&sent) {
            let refused =
                matches!(&sent, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
            self.refused += u64::from(refused);
            sent = self.socket.send(bytes);
            tries += 1;
        }
        if let Err(error) = sent {
            // The kernel's words are as many as it has error numbers.
            *self.unsent.entry(error.to_string()).or_default() += 1;
        }
        Ok(())
    }
}

fn is_passing(sent: &io::Result<usize>) -> bool {
    let kind = sent.as_ref().err().map(io::Error::kind);
    matches!(
        kind,
        Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted)
    )
}

/// Until `stop`, and then until the queue is empty.
fn receive(
    listen: &UdpSocket,
    stop: &AtomicBool,
    flows: &mut Flows,
    way: &mut Way<Datagrams>,
) -> io::Result<()> {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut stopped = None;
    loop {
        if stopped.is_none() && stop.load(Ordering::Relaxed) {
            listen.set_nonblocking(true)?;
            stopped = Some(Instant::now());
        }
        // Senders that go on for ever are not waited for.
        if stopped.is_some_and(|since| since.elapsed() > DRAIN_MAX) {
            return Ok(());
        }
        match listen.recv_from(&mut buffer) {
            Ok((len, sender)) => {
                flows
                    .of(sender)
                    .pass(&buffer[..len], |packet| send(way, packet));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_nothing_there(&error) => {
                if stopped.is_some() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn send(way: &mut Way<Datagrams>, packet: &[u8]) {
    way.send(packet).expect("datagrams can always be tried");
}

/// A wait that ended in vain, or a socket that does not wait.
pub(crate) fn is_nothing_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Senders with faults of their own.
pub const FLOWS_MAX: usize = 64;

/// How long it waits for a datagram before it looks whether it shall stop.
const WAIT: Duration = Duration::from_millis(20);

/// How long it goes on receiving after it was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How often one datagram is tried when the kernel tells of others.
const TRIES: u32 = 4;

/// The largest payload over IPv6, which is larger than that over IPv4.
const DATAGRAM_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Odds;
    use std::sync::Arc;
    use std::thread;

    fn local() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
    }

    /// Sends what `send` sends through a proxy; returns its totals.
    fn proxied(plan: Plan, to: SocketAddr, traffic: impl FnOnce(SocketAddr)) -> UdpTotals {
        let (listen, send) = (local(), local());
        send.connect(to).unwrap();
        let addr = listen.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let proxy = Udp {
            listen,
            send,
            plan,
            delay: Duration::ZERO,
        };
        let running = thread::spawn({
            let stop = Arc::clone(&stop);
            move || proxy.run(&stop)
        });
        traffic(addr);
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap().unwrap()
    }

    #[test]
    fn what_is_queued_or_held_back_at_the_stop_goes_on() {
        let receiver = local();
        let plan = Plan {
            reorder: Odds::OneIn(10),
            distance: 10,
            ..Plan::default()
        };
        let totals = proxied(plan, receiver.local_addr().unwrap(), |proxy| {
            let sender = local();
            for number in 0..100_u8 {
                sender.send_to(&[number; 20], proxy).unwrap();
            }
        });
        assert_eq!(
            (totals.counts.received, totals.counts.forwarded),
            (100, 100)
        );
        assert_eq!((totals.flows, totals.refused), (1, 0));
        let mut buffer = [0; 64];
        let mut numbers: Vec<u8> = (0..100)
            .map(|_| {
                assert_eq!(receiver.recv(&mut buffer).unwrap(), 20);
                buffer[0]
            })
            .collect();
        assert!(!numbers.is_sorted());
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..100));
    }

    #[test]
    fn the_faults_of_a_sender_do_not_depend_on_others() {
        let receiver = local();
        let plan = Plan {
            lose: Odds::OneIn(10),
            ..Plan::default()
        };
        let totals = proxied(plan, receiver.local_addr().unwrap(), |proxy| {
            let senders = [local(), local(), local()];
            for _ in 0..50 {
                for sender in &senders {
                    sender.send_to(&[0; 20], proxy).unwrap();
                }
            }
        });
        assert_eq!((totals.counts.received, totals.counts.lost), (150, 15));
        assert_eq!(totals.flows, 3);
    }

    #[test]
    fn a_receiver_that_is_not_there_is_told() {
        let closed = local().local_addr().unwrap();
        let totals = proxied(Plan::default(), closed, |proxy| {
            let sender = local();
            for _ in 0..10 {
                sender.send_to(&[0; 20], proxy).unwrap();
            }
        });
        assert_eq!(totals.counts.forwarded, 10);
        assert!(totals.refused > 0, "{totals:?}");
    }

    #[test]
    fn senders_beyond_the_bound_share_a_flow() {
        let mut flows = Flows::new(Plan::default());
        for port in 1..=1000 {
            flows
                .of(SocketAddr::from(([127, 0, 0, 1], port)))
                .pass(b"P", |_| {});
        }
        assert_eq!(
            (flows.faults.len(), flows.by_sender.len()),
            (FLOWS_MAX, FLOWS_MAX)
        );
        assert_eq!(
            flows.faults[FLOWS_MAX - 1].counts().received,
            1000 - FLOWS_MAX as u64 + 1
        );
    }
}
