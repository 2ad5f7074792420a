//! Sources, clocks and outlets for tests: time passes only as they say.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use binrush_scenario::{ContentError, Source};

use super::clock::Clock;
use super::outlet::{Finished, Handed, Looked, Outlet};

/// Packets of `len` bytes, numbered in their first eight, due at given moments.
pub(super) struct Moments {
    due: Vec<u64>,
    next: usize,
    len: usize,
    /// Packets that cannot be made.
    broken: Vec<usize>,
    /// What was written: number, and how late it was said to be.
    pub(super) written: Arc<Mutex<Vec<(usize, u32)>>>,
}

impl Moments {
    pub(super) fn new(due: impl IntoIterator<Item = u64>, len: usize) -> Self {
        Self {
            due: due.into_iter().collect(),
            next: 0,
            len,
            broken: Vec::new(),
            written: Arc::default(),
        }
    }

    pub(super) fn with_broken(mut self, broken: &[usize]) -> Self {
        self.broken = broken.to_vec();
        self
    }
}

impl Source for Moments {
    fn due(&self) -> Option<u64> {
        self.due.get(self.next).copied()
    }

    fn write(&mut self, _: u64, late_ns: u32, out: &mut [u8]) -> Result<usize, ContentError> {
        let number = self.next;
        self.next += 1;
        if self.broken.contains(&number) {
            return Err(ContentError::Ended);
        }
        self.written.lock().unwrap().push((number, late_ns));
        out[..self.len].fill(b'.');
        out[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Ok(self.len)
    }

    fn skip(&mut self) {
        self.next += 1;
    }
}

/// Time that passes when it is looked at, waited for, or something is sent.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeClock {
    pub(super) now_ns: Rc<Cell<u64>>,
    /// What a look costs.
    pub(super) look_ns: u64,
    /// How much later than asked a wait ends.
    pub(super) wake_ns: u64,
}

impl FakeClock {
    pub(super) fn pass(&self, ns: u64) {
        self.now_ns.set(self.now_ns.get() + ns);
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> u64 {
        self.pass(self.look_ns);
        self.now_ns.get()
    }

    fn wait_for(&self, moment_ns: u64) -> u64 {
        let now = self.now_ns.get().max(moment_ns) + self.wake_ns;
        self.now_ns.set(now);
        now
    }

    fn cpu_ns(&self) -> u64 {
        self.now_ns.get()
    }
}

/// Takes packets as it is told.
#[derive(Debug)]
pub(super) struct FakeOutlet {
    pub(super) clock: FakeClock,
    pub(super) room: usize,
    /// What a call costs, and each packet in it.
    pub(super) call_ns: u64,
    pub(super) packet_ns: u64,
    /// Answers to the first calls; then it takes all.
    pub(super) answers: Vec<Answer>,
    pub(super) looked: Looked,
    pub(super) finished: Finished,
    waiting: u64,
    /// When each call was, and how many packets it was given.
    pub(super) calls: Rc<RefCell<Vec<(u64, u64)>>>,
}

/// What the kernel says to a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Take(u64),
    Refuse(u64),
    Close,
}

impl FakeOutlet {
    pub(super) fn new(clock: &FakeClock) -> Self {
        Self {
            clock: clock.clone(),
            room: 16,
            call_ns: 0,
            packet_ns: 0,
            answers: Vec::new(),
            looked: Looked::Fine,
            finished: Finished::Whole,
            waiting: 0,
            calls: Rc::default(),
        }
    }
}

impl Outlet for FakeOutlet {
    fn has_room(&self) -> bool {
        self.waiting < self.room as u64
    }

    fn write(
        &mut self,
        source: &mut dyn Source,
        start_ns: u64,
        late_ns: u32,
    ) -> Result<(), ContentError> {
        source.write(start_ns, late_ns, &mut [0; 65_535])?;
        self.waiting += 1;
        Ok(())
    }

    fn hand_over(&mut self) -> Handed {
        let call = (self.clock.now_ns.get(), self.waiting);
        self.calls.borrow_mut().push(call);
        self.clock
            .pass(self.call_ns + self.packet_ns * self.waiting);
        let answer = match self.answers.is_empty() {
            true => Answer::Take(u64::MAX),
            false => self.answers.remove(0),
        };
        let mut handed = Handed {
            calls: 1,
            ..Handed::default()
        };
        match answer {
            Answer::Take(count) => handed.taken = count.min(self.waiting),
            Answer::Refuse(count) => {
                handed.failed = count.min(self.waiting);
                handed.taken = self.waiting - handed.failed;
                handed.error = Some(io::ErrorKind::WouldBlock);
            }
            Answer::Close => {
                handed.failed = self.waiting;
                handed.error = Some(io::ErrorKind::ConnectionReset);
                handed.is_closed = true;
            }
        }
        self.waiting -= handed.taken + handed.failed;
        handed
    }

    fn wait_for_room(&mut self, limit: Duration) {
        self.clock.pass(u64::try_from(limit.as_nanos()).unwrap());
    }

    fn look(&mut self) -> Looked {
        self.looked
    }

    fn finish(&mut self) -> Finished {
        self.finished
    }

    fn nobody_there(&self) -> anyhow::Error {
        anyhow::anyhow!("nobody there")
    }
}
