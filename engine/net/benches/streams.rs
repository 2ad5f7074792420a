//! What it costs to receive a stream of 200-byte packets: CPU time of the receiving thread, by each way there is.
//!
//! ```text
//!   cargo bench -p binrush-net --bench streams            all ways in turns, some seconds
//!   cargo bench -p binrush-net --bench streams -- 21 512  so many rounds, of so many MiB
//! ```
//!
//! A thread on the first core writes 64 KiB at a time into one loopback connection, one on the second receives. All loads
//! count the receiver's thread clock, so neighbours on the machine matter little, and each way takes its turn in each
//! round, so that what drifts drifts for all:
//!
//! - *steady*: the sender saturates the connection; a receiver that finds nothing sleeps, which is in the figure.
//! - *queued*: the bytes are all there before the receiver begins, so none of it is waiting;
//! - *crowd*: one packet is queued in each of many connections, again and again.
//!
//! The receiver looks at the first byte of each packet, as who cuts a stream does, and so checks that nothing was lost,
//! doubled or swapped. Neither thread waits for the other in vain: when one gives up, the other's next turn ends it too.

use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use binrush_net::{
    FRAME_LEN, PollStreams, Slab, StreamBatch, StreamOptions, StreamQueue, TcpSocket, Token,
    UringOptions, UringStreams, What, allowed_cores, pin_current_thread,
};

/// One way to receive.
trait Receive {
    /// What is there, by connection; how many bytes that were.
    fn receive(&mut self, checks: &mut [Check]) -> io::Result<usize>;

    /// Sleeps until something is there.
    fn wait(&mut self) -> io::Result<()>;
}

/// `recv(2)` or `readv(2)` and nothing else, into so many buffers of 64 KiB, of each connection in turn.
struct Plain {
    streams: Vec<TcpStream>,
    buffers: Vec<Vec<u8>>,
}

/// A backend, its slab and its batch.
struct Backend<Q> {
    queue: Q,
    slab: Slab,
    batch: StreamBatch,
}

/// Follows one stream and compares the first byte of each packet.
#[derive(Clone, Default)]
struct Check {
    position: usize,
}

/// A way to receive.
struct Way {
    name: &'static str,
    make: fn(Vec<TcpStream>, usize) -> io::Result<Box<dyn Receive>>,
    frames: usize,
}

/// What the sender does: in each burst, so many bytes to each connection.
#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    bursts: usize,
    burst_len: usize,
    /// Whether a burst is there before it is received.
    queued: bool,
}

/// One thread's side of taking turns. It ends for both when either is dropped, a panic included.
struct Turns {
    mine: Sender<()>,
    other: Receiver<()>,
}

impl Turns {
    fn new() -> (Self, Self) {
        let ((mine, others_end), (others, other)) = (channel(), channel());
        let there = Self {
            mine: others,
            other: others_end,
        };
        (Self { mine, other }, there)
    }

    /// It is the other's turn.
    fn pass(&self) -> io::Result<()> {
        self.mine.send(()).map_err(gave_up)
    }

    /// Waits for ours.
    fn await_mine(&self) -> io::Result<()> {
        self.other.recv().map_err(gave_up)
    }
}

fn gave_up<E>(_: E) -> io::Error {
    io::Error::new(GAVE_UP, "the other thread gave up")
}

impl Check {
    fn bytes(&mut self, bytes: &[u8]) {
        let first = self.position.next_multiple_of(PACKET_LEN) - self.position;
        let number = self.position.div_ceil(PACKET_LEN);
        let heads = bytes.iter().skip(first).step_by(PACKET_LEN);
        let wrong = heads
            .zip(number..)
            .filter(|(head, number)| **head != head_of(*number));
        assert_eq!(wrong.count(), 0, "packets from {number} on");
        self.position += bytes.len();
    }
}

impl Receive for Plain {
    fn receive(&mut self, checks: &mut [Check]) -> io::Result<usize> {
        let mut all = 0;
        for (stream, check) in self.streams.iter_mut().zip(checks) {
            let received = match &mut self.buffers[..] {
                [one] => stream.read(one),
                many => {
                    let parts = many.iter_mut().map(|part| IoSliceMut::new(part));
                    stream.read_vectored(&mut parts.collect::<Vec<_>>())
                }
            };
            let mut left = match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                received => received?,
            };
            all += left;
            for buffer in &self.buffers {
                let here = left.min(buffer.len());
                check.bytes(&buffer[..here]);
                left -= here;
            }
        }
        Ok(all)
    }

    fn wait(&mut self) -> io::Result<()> {
        readable(self.streams[0].as_raw_fd())
    }
}

impl<Q: StreamQueue<Socket = TcpSocket>> Receive for Backend<Q> {
    fn receive(&mut self, checks: &mut [Check]) -> io::Result<usize> {
        self.queue.recv(&mut self.slab, &mut self.batch)?;
        for arrival in self.batch.arrivals(&self.slab) {
            match arrival.what {
                What::Bytes(bytes) => checks[arrival.token.0 as usize].bytes(bytes),
                ended => return Err(io::Error::other(format!("{ended:?}"))),
            }
        }
        let bytes = self.batch.bytes();
        self.batch.release(&mut self.slab);
        Ok(bytes)
    }

    fn wait(&mut self) -> io::Result<()> {
        if self.queue.is_ready() {
            return Ok(());
        }
        readable(self.queue.as_raw_fd().expect("a backend of the kernel"))
    }
}

fn backend<Q>(mut queue: Q, streams: Vec<TcpStream>) -> io::Result<Box<dyn Receive>>
where
    Q: StreamQueue<Socket = TcpSocket> + 'static,
{
    for (token, stream) in (0..).map(Token).zip(streams) {
        let socket = TcpSocket::from_stream(stream)?;
        queue.add(token, socket).map_err(|(_, error)| error)?;
    }
    Ok(Box::new(Backend {
        queue,
        slab: Slab::new(256)?,
        batch: StreamBatch::new(64),
    }))
}

fn plain(streams: Vec<TcpStream>, buffers: usize) -> io::Result<Box<dyn Receive>> {
    for stream in &streams {
        stream.set_nonblocking(true)?;
    }
    let buffers = (0..buffers).map(|_| vec![0; FRAME_LEN]).collect();
    Ok(Box::new(Plain { streams, buffers }))
}

fn polled(streams: Vec<TcpStream>, frames_per_read: usize) -> io::Result<Box<dyn Receive>> {
    let connections_max = streams.len();
    let queue = PollStreams::with_options(StreamOptions {
        connections_max,
        frames_per_read,
    })?;
    backend(queue, streams)
}

fn multishot(streams: Vec<TcpStream>, frames: usize) -> io::Result<Box<dyn Receive>> {
    uring(streams, frames, false)
}

fn bundles(streams: Vec<TcpStream>, frames: usize) -> io::Result<Box<dyn Receive>> {
    uring(streams, frames, true)
}

fn uring(streams: Vec<TcpStream>, frames: usize, bundles: bool) -> io::Result<Box<dyn Receive>> {
    let queue = UringStreams::with_options(UringOptions {
        connections_max: streams.len(),
        frames,
        bundles,
    })?;
    if queue.bundles() != bundles {
        return Err(io::Error::other("this kernel has no bundles"));
    }
    backend(queue, streams)
}

/// The first is what the others are compared with.
#[rustfmt::skip]
const WAYS: [Way; 6] = [
    Way { name: "recv, 64 KiB", make: plain, frames: 1 },
    Way { name: "readv, 4 x 64 KiB", make: plain, frames: 4 },
    Way { name: "PollStreams, 1 frame a turn", make: polled, frames: 1 },
    Way { name: "PollStreams, 4 frames a turn", make: polled, frames: 4 },
    Way { name: "UringStreams, multishot", make: multishot, frames: 32 },
    Way { name: "UringStreams, bundles", make: bundles, frames: 32 },
];

/// Nanoseconds of the receiver's thread clock per packet.
fn measure(way: &Way, load: Load) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    if load.queued {
        set_rcvbuf(listener.as_raw_fd(), RCVBUF_EACH * load.burst_len)?;
    }
    let (mut senders, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..load.connections {
        let sender = TcpStream::connect(listener.local_addr()?)?;
        sender.set_write_timeout(Some(PATIENCE))?;
        senders.push(sender);
        streams.push(listener.accept()?.0);
    }
    let (ours, theirs) = Turns::new();
    let cores = &allowed_cores();
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            pin(cores, 0);
            send(senders, load, &ours)
        });
        let receiver = scope.spawn(move || {
            pin(cores, 1);
            // Here, so that it is dropped when the check fails.
            let turns = theirs;
            receive(way, streams, load, &turns)
        });
        let sent = sender.join().expect("the sender checks nothing");
        match (receiver.join(), sent) {
            // What came is not what was sent: no figure of this run counts.
            (Err(panic), _) => resume_unwind(panic),
            (Ok(Err(error)), Err(first)) if error.kind() == GAVE_UP => Err(first),
            (Ok(received), sent) => received.and_then(|figure| sent.map(|()| figure)),
        }
    })
}

/// The senders are dropped when it ends, which the receiver sees.
fn send(mut senders: Vec<TcpStream>, load: Load, turns: &Turns) -> io::Result<()> {
    let bytes: Vec<u8> = (0..PERIOD)
        .map(|place| head_of(place / PACKET_LEN))
        .collect();
    for burst in 0..load.bursts {
        for sender in &mut senders {
            let mut left = load.burst_len;
            while left > 0 {
                let start = (burst * load.burst_len + load.burst_len - left) % PERIOD;
                let write = &bytes[start..(start + left.min(WRITE_LEN)).min(PERIOD)];
                sender.write_all(write)?;
                left -= write.len();
            }
        }
        if load.queued {
            turns.pass()?;
            turns.await_mine()?;
        }
    }
    // Open until the receiver has everything: an end is none of the loads.
    turns.await_mine()
}

fn receive(way: &Way, streams: Vec<TcpStream>, load: Load, turns: &Turns) -> io::Result<f64> {
    let mut receiver = (way.make)(streams, way.frames)?;
    let mut checks = vec![Check::default(); load.connections];
    let mut spent = Duration::ZERO;
    for _ in 0..load.bursts {
        if load.queued {
            turns.await_mine()?;
        }
        let start = thread_time();
        let mut left = load.burst_len * load.connections;
        while left > 0 {
            match receiver.receive(&mut checks)? {
                0 => receiver.wait()?,
                some => left -= some,
            }
        }
        spent += thread_time() - start;
        if load.queued {
            turns.pass()?;
        }
    }
    turns.pass()?;
    let len = load.bursts * load.burst_len;
    assert!(
        checks.iter().all(|check| check.position == len),
        "bytes received"
    );
    Ok(spent.as_nanos() as f64 / (load.connections * len / PACKET_LEN) as f64)
}

/// One line per way: the median and the range of its rounds, and the median of its ratio to the first way in the same round.
fn compare(title: &str, load: Load, rounds: usize) {
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); WAYS.len()];
    for _ in 0..rounds {
        for (way, figures) in WAYS.iter().zip(&mut figures) {
            match measure(way, load) {
                Ok(figure) => figures.push(figure),
                Err(error) => eprintln!("{}: {error}", way.name),
            }
        }
    }
    println!(
        "{title}: ns of the receiving thread per packet of {PACKET_LEN} bytes, {rounds} rounds"
    );
    for (way, own) in WAYS.iter().zip(&figures) {
        if own.len() < rounds {
            println!("  {:<32} cannot be had here", way.name);
            continue;
        }
        let ratios = own.iter().zip(&figures[0]).map(|(own, plain)| own / plain);
        let (ratio, mut sorted) = (median(&mut ratios.collect::<Vec<_>>()), own.clone());
        let median = median(&mut sorted);
        let (least, most) = (sorted[0], sorted[rounds - 1]);
        println!(
            "  {:<32} {median:6.1} [{least:5.1}-{most:5.1}]  x {ratio:.2}",
            way.name
        );
    }
}

/// How long a burst may be so that it waits whole in a receive buffer that we may have, in packets that are at most `most`.
fn burst_packets(most: usize) -> io::Result<usize> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let wanted = RCVBUF_EACH * most * PACKET_LEN;
    let granted = set_rcvbuf(listener.as_raw_fd(), wanted)?;
    Ok(most.min(granted / RCVBUF_EACH / PACKET_LEN).max(1))
}

fn main() -> io::Result<()> {
    let arguments: Vec<usize> = std::env::args()
        .filter_map(|word| word.parse().ok())
        .collect();
    // A test run only wants to see that it works; `cargo bench` says so.
    let measured = std::env::args().any(|word| word == "--bench");
    let default = if measured { (9, 100) } else { (1, 10) };
    let rounds = arguments.first().copied().unwrap_or(default.0).max(1);
    let mib = arguments.get(1).copied().unwrap_or(default.1).max(1);
    let steady = Load {
        connections: 1,
        bursts: 1,
        burst_len: (mib << 20).next_multiple_of(PACKET_LEN),
        queued: false,
    };
    compare("steady", steady, rounds);
    let packets = burst_packets(BURST_PACKETS)?;
    if packets < BURST_PACKETS {
        println!(
            "queued: {packets} packets at a time and not {BURST_PACKETS}, because a receive buffer takes no more: that needs \
             CAP_NET_ADMIN, or a larger net.core.rmem_max"
        );
    }
    let queued = Load {
        bursts: mib.div_ceil(4) * BURST_PACKETS.div_ceil(packets),
        burst_len: packets * PACKET_LEN,
        queued: true,
        ..steady
    };
    compare("queued", queued, rounds);
    let crowd = Load {
        connections: 100,
        bursts: 10 * mib,
        burst_len: PACKET_LEN,
        queued: true,
    };
    compare("crowd", crowd, rounds);
    Ok(())
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The first byte of a packet, and here all of its bytes.
fn head_of(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

fn pin(cores: &[usize], number: usize) {
    if let Some(core) = cores.get(number % cores.len().max(1)) {
        // Where that is forbidden the figure is still one.
        let _ = pin_current_thread(*core);
    }
}

/// CPU time that the calling thread has used.
fn thread_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: "clock_gettime() [...] retrieve[s] the time of the specified clock" into `tp` (clock_gettime(2)).
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(done, 0, "every thread has a clock");
    // SAFETY: it was written.
    let time = unsafe { time.assume_init() };
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).expect("less than a second"),
    )
}

fn readable(fd: RawFd) -> io::Result<()> {
    let mut asked = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: "The caller should specify the number of items in the fds array in nfds" (poll(2)): one.
    match unsafe { libc::poll(&raw mut asked, 1, 10_000) } {
        1.. => Ok(()),
        0 => Err(io::Error::other("nothing came for ten seconds")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Past the system's limit if we may, up to it if not. How many bytes it is of those asked for.
fn set_rcvbuf(fd: RawFd, bytes: usize) -> io::Result<usize> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
    let value_len = libc::socklen_t::try_from(size_of_val(&value)).expect("some bytes");
    for name in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        // SAFETY: takes a pointer to an int and its size (socket(7)).
        let done = unsafe {
            let value = (&raw const value).cast();
            libc::setsockopt(fd, libc::SOL_SOCKET, name, value, value_len)
        };
        if done == 0 {
            return rcvbuf(fd);
        }
    }
    Err(io::Error::last_os_error())
}

fn rcvbuf(fd: RawFd) -> io::Result<usize> {
    let mut value: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of_val(&value)).expect("some bytes");
    // SAFETY: takes a pointer to an int and one to its size, and writes to both (socket(7)).
    let done = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, value, &raw mut len)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // "The kernel doubles this value [...], and this doubled value is returned by getsockopt(2)" (socket(7)).
    Ok(usize::try_from(value).unwrap_or(0) / 2)
}

/// A usual BIN packet.
const PACKET_LEN: usize = 200;

/// Packets that are queued before the receiver begins.
const BURST_PACKETS: usize = 20_000;

/// Bytes of receive buffer to ask for, for each byte that is to wait there: the kernel counts its own memory in.
const RCVBUF_EACH: usize = 8;

/// The error of who waits for a thread that is there no more.
const GAVE_UP: io::ErrorKind = io::ErrorKind::BrokenPipe;

/// How long a thread waits for the other before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the sender writes at once.
const WRITE_LEN: usize = 64 << 10;

/// After so many bytes a packet and a write begin together, and the packets' first bytes again.
const PERIOD: usize = PACKET_LEN / 8 * WRITE_LEN;
