//! What the kernel costs: the engine's loop with nothing in it. Same socket options, same backend, same batches,
//! the same waiting; the payload is not touched.

use std::hint;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_net::{
    Batch, Bell, OpenQueue as _, RecvMmsg, RxQueue as _, Slab, UdpOptions, UdpSocket,
};
use serde_json::{Value, json};

use super::{Args, Stop, WAIT, say_ready};

/// Counts datagrams until `stop`.
pub(crate) fn receive(args: &Args, stop: &Stop) -> anyhow::Result<Value> {
    let options = UdpOptions {
        rcvbuf: Some(args.rcvbuf as usize),
        gro: args.gro,
    };
    let socket = UdpSocket::bind(args.listen, &options)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let addr = socket.local_addr()?;
    let mut slab = Slab::new(FRAMES).context("cannot map receive frames")?;
    let mut batch = Batch::new(SLOTS);
    let mut queues = [RecvMmsg::open(Arc::new(socket), SLOTS)?];
    let bell = Bell::new()?;
    let work = Duration::from_nanos(args.add_ns.into());
    say_ready(addr)?;

    let (mut received, mut idle) = (0_u64, 0);
    while !stop.is_asked() {
        queues[0].recv(&mut slab, &mut batch)?;
        if batch.is_empty() {
            if idle < SPIN_RECEIVES {
                idle += 1;
            } else {
                RecvMmsg::wait(&mut queues, None, &bell, WAIT)?;
            }
            continue;
        }
        idle = 0;
        received += batch.len() as u64;
        if !work.is_zero() {
            let packets = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            work_for(work.saturating_mul(packets));
        }
        batch.release(&mut slab);
    }
    Ok(json!({ "received": received }))
}

/// Keeps the processor busy. By the clock, once per batch, so that it takes as long at every clock rate and the
/// reading is not what is measured.
fn work_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        hint::spin_loop();
    }
}

/// Datagrams per receive, as the engine takes them unless told otherwise.
const SLOTS: usize = 64;

/// The batch that is out and the slots that are armed.
const FRAMES: usize = 2 * SLOTS;

/// Empty receives before it sleeps, as the engine does: about as long as a wakeup takes.
const SPIN_RECEIVES: u32 = 128;
