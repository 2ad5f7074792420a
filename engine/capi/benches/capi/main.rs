//! What C costs beside Rust, and what making and sending a packet costs beside the system call alone.
//!
//! ```text
//!   cargo bench -p binrush-capi --bench capi
//! ```
//!
//! - *pop*: a dialog update of 200 bytes, of which eight fields are popped, by a handler in Rust and by a callback that the system's C
//!   compiler made. Both are called through a pointer with a packet that is parsed. *c* is the delivery alone; *handler* is all that an
//!   engine calls for a callback by default, with a budget of 1 ms, and *unwatched* the same without one, where no counter is read.
//! - *send*: `bin_init`, eight pushes and `bin_send`, beside `sendto` with a packet that is made already.
//! - *program*: the same from a program in C that is linked with the shared library, where each access to what is the thread's costs more.
//! - *route*: a request route that calls a function in C, from [`Front::admits`](binrush_engine::dispatch::front::Front::admits) to its
//!   answer: the copy of the packet, the message, the budget of 1 ms and the counts included; *unwatched* is without the budget.
//! - *batch*: 64 times `bin_init`, eight pushes and `bin_send_batch`, beside `sendmmsg` with 64 packets that are made already.
//!
//! Each pair is measured twice in turns, so that what drifts is seen. The packets go to a socket on loopback that nobody reads: soon
//! it is full, for all of them alike. Every answer is checked.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use binrush::abi::base::{SockaddrUnion, Str};
use binrush::bin::legacy::{
    bin_flush, bin_init, bin_pop_int, bin_pop_str, bin_push_int, bin_push_str, bin_send,
    bin_send_batch,
};
use binrush::bin::{Callback, Origin, Poison, Registration, deliver};
use binrush::handler::{CallbackCounts, Care, ModuleHandler};
use binrush_wire::{Builder, Generation, Packet};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use libloading::Library;

use program::Program;
use shard::Shard;

/// A program that is linked with the library.
mod program;
/// Functions that routes call.
mod route;
/// A handler on a shard.
mod shard;

/// Callid, tags and URIs of a call; together with three ints and the header 200 bytes.
const TEXTS: [&[u8]; 5] = [
    b"9c3e1f70-55aa-4d0e-9b1c-2f6d8a7e4b10@192.0.2.10",
    b"as5f3b2c1d",
    b"gK0c7a91e2",
    b"sip:alice@example.com:5060;user=phone",
    b"sip:bob@example.org:5060;transport=udp;xyz",
];
const INTS: [i32; 3] = [4, 1_893_452_400, 77];

/// The sum of what is popped.
const SUM: u64 = 146 + 4 + 1_893_452_400 + 77;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = pop, send, batch, linked, route::route
}
criterion_main!(benches);

fn pop(criterion: &mut Criterion) {
    let bytes = packet();
    let packet = Packet::parse(Generation::Legacy, &bytes).expect("it was built");
    let Some(module) = Module::load() else {
        println!("there is no C compiler: nothing to compare with");
        return;
    };
    let callback = Callback::Legacy(module.callback);
    let mut group = criterion.benchmark_group("pop");
    for round in 1..=2 {
        group.bench_function(BenchmarkId::new("rust", round), |bencher| {
            let handler: &dyn Fn(&Packet<'_>) -> u64 = black_box(&in_rust);
            assert_eq!(handler(&packet), SUM);
            bencher.iter(|| handler(black_box(&packet)));
        });
        group.bench_function(BenchmarkId::new("c", round), |bencher| {
            let origin = Origin::default();
            let before = module.sum();
            let delivered = deliver(&callback, &packet, &origin, Poison::Off);
            assert_eq!((delivered.popped, delivered.misread), (8, false));
            assert_eq!(module.sum() - before, SUM);
            bencher.iter(|| deliver(&callback, black_box(&packet), &origin, Poison::Off));
        });
        for (name, budget) in [
            ("handler", Some(Duration::from_millis(1))),
            ("unwatched", None),
        ] {
            let shard = Shard::new(b"dialog", handler(&module, budget));
            group.bench_function(BenchmarkId::new(name, round), |bencher| {
                bencher.iter_custom(|times| {
                    let before = module.sum();
                    let took = shard.time(&bytes, times);
                    assert_eq!(module.sum() - before, times * SUM);
                    took
                });
            });
        }
    }
    group.finish();
}

/// As the engine has it for a callback of `module`.
fn handler(module: &Module, budget: Option<Duration>) -> ModuleHandler {
    let registration = Registration {
        name: b"dialog".as_slice().into(),
        callback: Callback::Legacy(module.callback),
    };
    let care = Care {
        module: "callback",
        counts: Arc::new(CallbackCounts::new(1)),
        budget,
        poison: Poison::Off,
    };
    ModuleHandler::new(&registration, &care)
}

fn linked(criterion: &mut Criterion) {
    let Some(program) = Program::compile() else {
        println!("there is no C compiler: nothing to run");
        return;
    };
    let sink = Sink::new();
    let port = sink.port();
    let mut group = criterion.benchmark_group("program");
    for round in 1..=2 {
        for what in ["sendto", "bin_send"] {
            group.bench_function(BenchmarkId::new(what, round), |bencher| {
                bencher.iter_custom(|times| program.time(what, port, times));
            });
        }
    }
    group.finish();
}

fn send(criterion: &mut Criterion) {
    let sink = Sink::new();
    let bytes = packet();
    let mut group = criterion.benchmark_group("send");
    for round in 1..=2 {
        group.bench_function(BenchmarkId::new("sendto", round), |bencher| {
            bencher.iter(|| sink.send_to(black_box(&bytes)));
        });
        group.bench_function(BenchmarkId::new("bin_send", round), |bencher| {
            bencher.iter(|| {
                make();
                // SAFETY: an address that is there.
                assert_eq!(unsafe { bin_send(&sink.to) }, 200);
            });
        });
    }
    group.finish();
}

fn batch(criterion: &mut Criterion) {
    let sink = Sink::new();
    let bytes = packet();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(64));
    for round in 1..=2 {
        group.bench_function(BenchmarkId::new("sendmmsg", round), |bencher| {
            bencher.iter(|| sink.send_many(black_box(&bytes)));
        });
        group.bench_function(BenchmarkId::new("bin_send_batch", round), |bencher| {
            bencher.iter(|| {
                for _ in 0..64 {
                    make();
                    // SAFETY: an address that is there.
                    assert_eq!(unsafe { bin_send_batch(&sink.to) }, 200);
                }
                // The last one made the queue full, and it went.
                assert_eq!(bin_flush(), 0);
            });
        });
    }
    group.finish();
}

/// As a handler of the engine does.
fn in_rust(packet: &Packet<'_>) -> u64 {
    let mut fields = packet.fields();
    let mut sum = 0;
    for _ in 0..TEXTS.len() {
        let Ok(text) = fields.pop_str() else {
            return 0;
        };
        sum += text.len() as u64;
    }
    for _ in 0..INTS.len() {
        let Ok(int) = fields.pop_int() else {
            return 0;
        };
        sum += u64::from(int.unsigned_abs());
    }
    sum
}

/// The packet, as C makes it. Calls by pointers, as a program calls a library.
fn make() {
    let name = text(b"dialog");
    let init = black_box(bin_init as unsafe extern "C" fn(*const Str, c_int) -> c_int);
    let push_str = bin_push_str as unsafe extern "C" fn(*const Str) -> c_int;
    let push_int = bin_push_int as extern "C" fn(c_int) -> c_int;
    // SAFETY: strings that are there.
    unsafe {
        assert_eq!(init(&name, 2), 0);
        for bytes in TEXTS {
            assert_eq!(black_box(push_str)(&text(bytes)), 0);
        }
    }
    for int in INTS {
        assert_eq!(black_box(push_int)(int), 0);
    }
}

fn text(bytes: &[u8]) -> Str {
    Str {
        s: bytes.as_ptr().cast_mut().cast(),
        len: c_int::try_from(bytes.len()).expect("short"),
    }
}

fn packet() -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut builder =
        Builder::new(Generation::Legacy, &mut buffer, b"dialog", 2, 0).expect("it has room");
    for text in TEXTS {
        builder.push_str(text).expect("it has room");
    }
    for int in INTS {
        builder.push_int(int).expect("it has room");
    }
    let bytes = builder.seal().to_vec();
    assert_eq!(bytes.len(), 200);
    bytes
}

/// A callback from the C compiler.
struct Module {
    callback: unsafe extern "C" fn(c_int),
    sum: *const u64,
    _library: Library,
}

impl Module {
    fn load() -> Option<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callback.so");
        let done = Command::new("cc")
            .args(["-O2", "-fPIC", "-shared", "-I"])
            .arg(own.join("include"))
            .arg(own.join("benches/callback.c"))
            .arg("-o")
            .arg(&library)
            .status()
            .ok()?;
        assert!(done.success(), "{done}");
        type PopStr = unsafe extern "C" fn(*mut Str) -> c_int;
        type PopInt = unsafe extern "C" fn(*mut c_void) -> c_int;
        // SAFETY: it has no constructors, and its symbols have these types; see `callback.c`.
        unsafe {
            let library = Library::new(library).expect("it was just made");
            let prepare = library
                .get::<unsafe extern "C" fn(PopStr, PopInt)>(b"prepare")
                .expect("it has it");
            prepare(bin_pop_str, bin_pop_int);
            Some(Self {
                callback: *library.get(b"callback").expect("it has it"),
                sum: *library.get::<*const u64>(b"sum").expect("it has it"),
                _library: library,
            })
        }
    }

    fn sum(&self) -> u64 {
        // SAFETY: it is there as long as the library is, and written by callbacks on this thread only.
        unsafe { self.sum.read_volatile() }
    }
}

/// A socket that nobody reads, and one that sends to it.
struct Sink {
    sink: UdpSocket,
    socket: UdpSocket,
    to: SockaddrUnion,
}

impl Sink {
    fn new() -> Self {
        let sink = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
        Self {
            to: SockaddrUnion::of(sink.local_addr().expect("it is bound")),
            socket: UdpSocket::bind("0.0.0.0:0").expect("there is a port"),
            sink,
        }
    }

    fn port(&self) -> u16 {
        self.sink.local_addr().expect("it is bound").port()
    }

    fn send_to(&self, bytes: &[u8]) {
        // SAFETY: so many bytes, and an address of that length. (sendto(2))
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
                (&raw const self.to).cast(),
                ADDRESS_LEN,
            )
        };
        assert_eq!(sent, 200);
    }

    fn send_many(&self, bytes: &[u8]) {
        let mut part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: integers and pointers, for which zeros are a value.
        let mut messages: [libc::mmsghdr; 64] = unsafe { mem::zeroed() };
        for message in &mut messages {
            message.msg_hdr.msg_name = ptr::from_ref(&self.to).cast_mut().cast();
            message.msg_hdr.msg_namelen = ADDRESS_LEN;
            message.msg_hdr.msg_iov = &raw mut part;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: 64 messages, whose addresses and bytes are there during the call. (sendmmsg(2))
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), 64, 0) };
        assert_eq!(sent, 64);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
