//! A shard that puts records at places, keeps its journal, and remembers every state it was in.

use std::collections::BTreeMap;
use std::time::Duration;

use binrush_journal::vfs::sim::{PowerLoss, SimFolder};
use binrush_journal::{
    Appended, Appender, Identity, Options, Report, Ring, Step, Writer, recover, start,
};

/// What stands where.
pub(crate) type Records = BTreeMap<(u8, u32), Vec<u8>>;

pub(crate) const IDENTITY: Identity = Identity {
    epoch: 0x1122_3344_5566_7788,
    shard: 3,
};

/// Small files, so that there are many.
pub(crate) const OPTIONS: Options = Options {
    fsync_interval: Duration::from_millis(200),
    log_len: 6 * 1024,
    snapshot_after: 4 * 1024,
    retry: Duration::from_secs(1),
};

/// A shard and its journal.
pub(crate) struct Shard {
    pub(crate) folder: SimFolder,
    pub(crate) appender: Appender,
    pub(crate) writer: Writer<SimFolder>,
    pub(crate) now: Duration,
    pub(crate) records: Records,
    /// The state after op `index`.
    pub(crate) history: Vec<Records>,
    /// After how many changes of the folder which op was durable.
    pub(crate) floors: Vec<(usize, u64)>,
    /// After how many changes of the folder its life began.
    pub(crate) began: usize,
    /// What of the snapshot that is going on has to be given still.
    walk: Option<Vec<(u8, u32)>>,
}

impl Shard {
    /// One that begins with nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        let ring = Ring::in_memory(IDENTITY, capacity, 0).unwrap();
        Self::go_on(SimFolder::default(), ring, vec![Records::new()])
    }

    /// One that begins with what is there, after the states that it was in before.
    pub(crate) fn go_on(folder: SimFolder, ring: Ring, history: Vec<Records>) -> Self {
        let (records, report) = recovered(&folder, Some(&ring));
        check(&records, &report, &history);
        let mut history = history;
        history.truncate(usize::try_from(report.lsn).unwrap() + 1);
        let began = folder.moments();
        let (appender, writer) = start(folder.clone(), ring, IDENTITY, OPTIONS, &report).unwrap();
        assert_eq!(appender.lsn(), report.lsn);
        let mut shard = Self {
            folder,
            appender,
            writer,
            now: Duration::ZERO,
            records,
            history,
            floors: Vec::new(),
            began,
            walk: None,
        };
        shard.note();
        shard
    }

    /// Puts a record at a place, or takes away what is there.
    pub(crate) fn op(&mut self, table: u8, place: u32, record: &[u8]) -> Appended {
        if record.is_empty() {
            self.records.remove(&(table, place));
        } else {
            self.records.insert((table, place), record.to_vec());
        }
        let appended = self.appender.append(table, place, record);
        self.history.push(self.records.clone());
        assert_eq!(self.appender.lsn() + 1, self.history.len() as u64);
        appended
    }

    /// Goes on for this long, and lets the writer have its turn.
    pub(crate) fn turn(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        while self.writer.turn(self.now).more {}
        self.note();
    }

    /// Does what is asked for: a few records of a snapshot at a time.
    pub(crate) fn slice(&mut self, records: usize) {
        if self.appender.snapshot_wanted() {
            let begun = self.appender.begin_snapshot();
            self.walk = (begun == Step::Taken).then(|| self.records.keys().copied().collect());
        }
        for _ in 0..records {
            let Some(walk) = &mut self.walk else {
                return;
            };
            let Some(&(table, place)) = walk.last() else {
                if self.appender.end_snapshot() != Step::NoRoom {
                    self.walk = None;
                }
                return;
            };
            // As it is now; one that is gone by now is left out.
            let record = self
                .records
                .get(&(table, place))
                .cloned()
                .unwrap_or_default();
            match self.appender.snapshot_record(table, place, &record) {
                Step::Taken => {
                    walk.pop();
                }
                Step::NoRoom => return,
                Step::Abandoned => self.walk = None,
            }
        }
    }

    /// Turns until nothing is wanted and nothing is wrong.
    pub(crate) fn heal(&mut self) {
        for _ in 0..200 {
            self.slice(20);
            self.turn(250);
            let status = self.writer.status();
            let is_well = !status.is_lagging() && status.alarm().is_none();
            if is_well && !self.appender.snapshot_wanted() && self.walk.is_none() {
                // Once more, for what came last.
                self.turn(250);
                return;
            }
        }
        panic!("still ill: {:?}", self.writer);
    }

    /// The op up to which everything was durable after so many changes.
    pub(crate) fn floor(&self, moments: usize) -> u64 {
        let told = self.floors.iter().take_while(|(at, _)| *at <= moments);
        told.last().map_or(0, |&(_, durable)| durable)
    }

    /// What a power loss leaves behind at a moment, checked against the states.
    pub(crate) fn check_power_loss(
        &self,
        loss: PowerLoss,
        survives: &mut dyn FnMut(usize, u64) -> bool,
    ) -> Report {
        let files = self.folder.lose_power(loss, survives);
        let left = SimFolder::with_files(&files);
        let (records, report) = recovered(&left, None);
        check(&records, &report, &self.history);
        let floor = self.floor(loss.calls);
        assert!(
            report.lsn >= floor,
            "{loss:?}: {floor} was durable: {report:?}"
        );
        report
    }

    fn note(&mut self) {
        let durable = self.writer.status().durable();
        assert!(durable <= self.appender.lsn());
        self.floors.push((self.folder.moments(), durable));
    }
}

/// What is recovered.
pub(crate) fn recovered(folder: &SimFolder, ring: Option<&Ring>) -> (Records, Report) {
    let mut records = Records::new();
    let report = recover(folder, IDENTITY, ring, &mut |table, place, record| {
        let before = records.insert((table, place), record.to_vec());
        assert_eq!(before, None, "shown twice: {table} {place}");
    });
    let report = report.unwrap();
    assert_eq!(report.records, records.len() as u64);
    (records, report)
}

/// What was recovered is what there was after the op that the report names.
#[track_caller]
pub(crate) fn check(records: &Records, report: &Report, history: &[Records]) {
    let state = history.get(usize::try_from(report.lsn).unwrap());
    assert_eq!(Some(records), state, "{report:?}");
}

/// A record that says what it is.
pub(crate) fn record(number: u64, len: usize) -> Vec<u8> {
    let mut record = format!("{number}:").into_bytes();
    let letters = (b'a'..=b'z')
        .cycle()
        .skip(usize::try_from(number % 26).unwrap());
    record.extend(letters.take(len));
    record
}

/// Draws that are the same each time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}
