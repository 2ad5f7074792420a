//! What is on the way, and what has arrived, of all connections of a network.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::ops::Range;

use super::super::dice::Dice;
use super::super::state::nanos;
use super::{StreamAccount, StreamFaults, WINDOW};
use crate::rx::stream::{Close, Token};

/// Number of a connection, never used again.
pub(in crate::sim) type LineId = u64;

/// Number of a queue, never used again.
pub(in crate::sim) type QueueId = u64;

/// All connections, behind the network's lock.
pub(in crate::sim) struct Lines {
    seed: u64,
    faults: StreamFaults,
    lines: BTreeMap<LineId, Line>,
    /// Numbers of connections, queues and segments so far.
    numbers: u64,
    /// Nothing in it is due: whoever sends or moves the clock settles before the lock is free.
    on_the_way: BinaryHeap<Reverse<Segment>>,
    /// Connections of each queue that have something for it, in the order of their turns.
    ready: BTreeMap<QueueId, VecDeque<LineId>>,
    /// Without `queued`, which is counted when it is asked for.
    account: StreamAccount,
}

/// What a receive brought of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Came {
    /// So many bytes were written to the frame.
    Bytes(u32),
    End,
    Failed(i32),
}

/// One connection.
struct Line {
    /// Draws so far: the number of the next one's dice.
    draws: u64,
    arrived: VecDeque<u8>,
    /// Sent, and not arrived yet.
    unarrived: usize,
    /// When the last segment arrives: the next one does not overtake it.
    last_arrival: u64,
    /// Nothing more is sent.
    finished: bool,
    /// Nothing more arrives; what its receiver is told after the last byte.
    end: Option<End>,
    reader: Option<Reader>,
    /// The other direction.
    written: VecDeque<u8>,
    closed: Option<Close>,
    /// Nobody holds the other end any more.
    left: bool,
}

/// Who receives a connection.
struct Reader {
    queue: QueueId,
    token: Token,
    /// `None` while it reads; while it is paused, pieces that still come.
    paused: Option<u32>,
    /// Whether it stands in the list of those that are ready.
    in_turn: bool,
    /// The end has been told.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    Failed(i32),
}

/// Something on its way.
struct Segment {
    arrives: u64,
    /// Of two that arrive at the same time, the one with the smaller number is first.
    number: u64,
    line: LineId,
    part: Part,
}

enum Part {
    Bytes(Vec<u8>),
    End(End),
}

impl Lines {
    pub(in crate::sim) fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: StreamFaults::default(),
            lines: BTreeMap::new(),
            numbers: 0,
            on_the_way: BinaryHeap::new(),
            ready: BTreeMap::new(),
            account: StreamAccount::default(),
        }
    }

    pub(super) fn set_faults(&mut self, faults: StreamFaults) {
        self.faults = faults;
    }

    pub(super) fn open(&mut self) -> LineId {
        let id = self.number();
        self.account.connections += 1;
        self.lines.insert(id, Line::new());
        id
    }

    pub(super) fn new_queue(&mut self) -> QueueId {
        let id = self.number();
        self.ready.insert(id, VecDeque::new());
        id
    }

    /// Puts the beginning of `bytes` on its way, in segments; how much.
    pub(super) fn send(&mut self, now: u64, id: LineId, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room(id));
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            let mut dice = self.dice(id);
            // All are drawn whether they are needed or not: so one fault more does not change the others.
            let len = self.piece_len(&mut dice, rest.len());
            let arrives = self.arrival(&mut dice, now, id);
            let reset = dice.chance(self.faults.reset);
            let (segment, after) = rest.split_at(len);
            rest = after;
            self.account.sent += len as u64;
            self.account.in_flight += len as u64;
            self.line_mut(id).unarrived += len;
            self.launch(arrives, id, Part::Bytes(segment.to_vec()));
            if reset {
                self.fail(now, id, libc::ECONNRESET);
                return taken - rest.len();
            }
        }
        taken
    }

    pub(super) fn finish(&mut self, now: u64, id: LineId) {
        if self.line_mut(id).finished {
            return;
        }
        self.line_mut(id).finished = true;
        let mut dice = self.dice(id);
        let arrives = self.arrival(&mut dice, now, id);
        self.launch(arrives, id, Part::End(End::Finished));
    }

    pub(super) fn fail(&mut self, now: u64, id: LineId, errno: i32) {
        self.line_mut(id).finished = true;
        let mut dice = self.dice(id);
        // By its own way: what it overtakes does not arrive.
        let arrives = now.saturating_add(dice.within(self.delay()));
        self.launch(arrives, id, Part::End(End::Failed(errno)));
    }

    /// Nobody holds the sending end any more.
    pub(super) fn leave(&mut self, now: u64, id: LineId) {
        self.finish(now, id);
        self.line_mut(id).left = true;
        self.forget(id);
    }

    /// The receiver lets the connection go.
    pub(super) fn close(&mut self, id: LineId, how: Close) {
        let line = self.line_mut(id);
        line.closed = Some(how);
        let abandoned = line.arrived.len() as u64;
        line.arrived.clear();
        let reader = line.reader.take();
        self.account.abandoned += abandoned;
        if let Some(Reader {
            queue,
            in_turn: true,
            ..
        }) = reader
        {
            let turns = self.ready.get_mut(&queue);
            turns.expect("it is made first").retain(|each| *each != id);
        }
        self.forget(id);
    }

    /// Gives a connection to a queue, unless chance does not want it.
    pub(super) fn attach(&mut self, id: LineId, queue: QueueId, token: Token) -> bool {
        let mut dice = self.dice(id);
        if dice.chance(self.faults.refuse) {
            return false;
        }
        self.line_mut(id).reader = Some(Reader {
            queue,
            token,
            paused: None,
            in_turn: false,
            told: false,
        });
        self.take_turn(id);
        true
    }

    pub(super) fn pause(&mut self, id: LineId) {
        let late = 0..u64::from(self.faults.late_pieces_max) + 1;
        let late = u32::try_from(self.dice(id).within(late)).expect("below a u32");
        let reader = self.reader_mut(id);
        if reader.paused.is_none() {
            reader.paused = Some(late);
        }
        if !self.line_mut(id).has_something() {
            self.leave_turn(id);
        }
    }

    pub(super) fn resume(&mut self, id: LineId) {
        self.reader_mut(id).paused = None;
        self.take_turn(id);
    }

    pub(super) fn is_ready(&self, queue: QueueId) -> bool {
        !self.ready[&queue].is_empty()
    }

    /// The turn of the next connection that is ready.
    pub(super) fn receive(&mut self, queue: QueueId, room: &mut [u8]) -> (Token, Came) {
        let turns = self.ready.get_mut(&queue).expect("it is made first");
        let id = turns.pop_front().expect("one is ready");
        self.reader_mut(id).in_turn = false;
        let mut dice = self.dice(id);
        let there = self.line_mut(id).arrived.len().min(room.len());
        let len = self.piece_len(&mut dice, there);
        let line = self.line_mut(id);
        let reader = line.reader.as_mut().expect("its turn came");
        let token = reader.token;
        if let Some(left) = &mut reader.paused {
            *left -= 1;
        }
        let came = if len > 0 {
            for (to, byte) in room.iter_mut().zip(line.arrived.drain(..len)) {
                *to = byte;
            }
            Came::Bytes(u32::try_from(len).expect("frames are of 64 KiB"))
        } else {
            reader.told = true;
            match line.end.expect("it had something") {
                End::Finished => Came::End,
                End::Failed(errno) => Came::Failed(errno),
            }
        };
        self.account.delivered += len as u64;
        // Behind the others.
        self.take_turn(id);
        (token, came)
    }

    pub(super) fn write(&mut self, id: LineId, bytes: &[u8]) -> io::Result<usize> {
        let line = self.line_mut(id);
        if let Some(End::Failed(errno)) = line.end {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if line.left {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(WINDOW - line.written.len());
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        line.written.extend(&bytes[..taken]);
        Ok(taken)
    }

    pub(super) fn take_written(&mut self, id: LineId) -> Vec<u8> {
        std::mem::take(&mut self.line_mut(id).written).into()
    }

    pub(super) fn queued_bytes(&self, id: LineId) -> u64 {
        self.lines[&id].arrived.len() as u64
    }

    pub(super) fn closed(&self, id: LineId) -> Option<Close> {
        self.lines[&id].closed
    }

    pub(super) fn room(&self, id: LineId) -> usize {
        let line = &self.lines[&id];
        if line.finished || line.closed.is_some() {
            return 0;
        }
        WINDOW - line.unarrived - line.arrived.len()
    }

    pub(super) fn account(&self) -> StreamAccount {
        let arrived = self.lines.values().map(|line| line.arrived.len() as u64);
        StreamAccount {
            queued: arrived.sum(),
            ..self.account
        }
    }

    pub(in crate::sim) fn next_arrival(&self) -> Option<u64> {
        self.on_the_way.peek().map(|Reverse(next)| next.arrives)
    }

    /// Lets everything arrive that is due.
    pub(in crate::sim) fn settle(&mut self, now: u64) {
        while self.next_arrival().is_some_and(|at| at <= now) {
            if let Some(Reverse(segment)) = self.on_the_way.pop() {
                self.arrive(segment);
            }
        }
    }

    fn arrive(&mut self, Segment { line: id, part, .. }: Segment) {
        let len = part.len();
        self.account.in_flight -= len as u64;
        let Some(line) = self.lines.get_mut(&id) else {
            self.account.abandoned += len as u64;
            return;
        };
        line.unarrived -= len;
        if line.closed.is_some() {
            self.account.abandoned += len as u64;
        } else if line.end.is_some() {
            self.account.lost += len as u64;
        } else {
            match part {
                Part::Bytes(bytes) => line.arrived.extend(bytes),
                Part::End(end) => line.end = Some(end),
            }
            self.take_turn(id);
        }
    }

    fn launch(&mut self, arrives: u64, line: LineId, part: Part) {
        let number = self.number();
        self.on_the_way.push(Reverse(Segment {
            arrives,
            number,
            line,
            part,
        }));
    }

    /// Puts a connection among those that are ready, if it has something and is not there.
    fn take_turn(&mut self, id: LineId) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let has_something = line.has_something();
        let Some(reader) = line.reader.as_mut() else {
            return;
        };
        if has_something && !reader.in_turn {
            reader.in_turn = true;
            let turns = self.ready.get_mut(&reader.queue);
            turns.expect("it is made first").push_back(id);
        }
    }

    fn leave_turn(&mut self, id: LineId) {
        let reader = self.reader_mut(id);
        let queue = reader.queue;
        if std::mem::take(&mut reader.in_turn) {
            let turns = self.ready.get_mut(&queue);
            turns.expect("it is made first").retain(|each| *each != id);
        }
    }

    /// Lets a connection go that neither end is held of.
    fn forget(&mut self, id: LineId) {
        if self.lines[&id].left && self.lines[&id].closed.is_some() {
            self.lines.remove(&id);
        }
    }

    /// In order: not before the one before.
    fn arrival(&mut self, dice: &mut Dice, now: u64, id: LineId) -> u64 {
        let arrives = now.saturating_add(dice.within(self.delay()));
        let line = self.line_mut(id);
        line.last_arrival = line.last_arrival.max(arrives);
        line.last_arrival
    }

    fn delay(&self) -> Range<u64> {
        nanos(self.faults.delay.start)..nanos(self.faults.delay.end)
    }

    /// 0 only when `there` is.
    fn piece_len(&self, dice: &mut Dice, there: usize) -> usize {
        let most = there.min(self.faults.piece_max);
        // Without a limit that cuts, it is all that is there.
        if most == there && self.faults.piece_max >= WINDOW {
            return there;
        }
        let len = dice.within(1..most as u64 + 1);
        usize::try_from(len).expect("below a length").min(there)
    }

    fn dice(&mut self, id: LineId) -> Dice {
        let seed = self.seed ^ id.wrapping_mul(APART);
        let line = self.line_mut(id);
        line.draws += 1;
        Dice::new(seed, line.draws)
    }

    fn line_mut(&mut self, id: LineId) -> &mut Line {
        self.lines.get_mut(&id).expect("one end of it is held")
    }

    fn reader_mut(&mut self, id: LineId) -> &mut Reader {
        let reader = self.line_mut(id).reader.as_mut();
        reader.expect("a queue has it")
    }

    const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl Line {
    const fn new() -> Self {
        Self {
            draws: 0,
            arrived: VecDeque::new(),
            unarrived: 0,
            last_arrival: 0,
            finished: false,
            end: None,
            reader: None,
            written: VecDeque::new(),
            closed: None,
            left: false,
        }
    }

    /// Whether a receive would bring something of it.
    fn has_something(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| {
            let may = reader.paused.is_none_or(|late| late > 0);
            may && !reader.told && (!self.arrived.is_empty() || self.end.is_some())
        })
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::End(_) => 0,
        }
    }
}

impl Ord for Segment {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.arrives, self.number).cmp(&(other.arrives, other.number))
    }
}

impl PartialOrd for Segment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Segment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Segment {}

/// Keeps the draws of one connection apart from those of the next, and from those of datagrams.
const APART: u64 = 0xD6E8_FEB8_6659_FD93;
