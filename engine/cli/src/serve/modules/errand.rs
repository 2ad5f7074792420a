//! Commands, statistics and timers of modules, run on the thread that runs their other code.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use binrush::bin::flush;
use binrush::loader::Modules;
use binrush::support::mi::MiReply;
use binrush::support::statistics::Statistic;
use binrush_engine::{Context, Handler, NameId, ShardId, Teller, Timestamp, Told, Verdict};
use binrush_wire::Packet;

use super::HOME;

/// Runs what it is told to, and timers when they are due, on the home shard; sends what is queued, on every shard.
pub(super) struct Resident {
    modules: Arc<Modules>,
    is_home: bool,
    /// Says by being there that this shard has not ended.
    _presence: Arc<()>,
}

/// What it is told.
enum Errand {
    /// A command.
    Command {
        name: String,
        params: Vec<String>,
        /// Who asked may have gone.
        reply: SyncSender<Result<MiReply, String>>,
    },
    /// The statistics, now.
    Statistics(Arc<Read>),
}

/// Statistics as they were read last, and when.
#[derive(Default)]
struct Read {
    statistics: Mutex<(Vec<Statistic>, Option<Instant>)>,
    /// It was asked for, and has not come.
    is_due: AtomicBool,
}

/// A way to the modules of a running engine, for any thread.
#[derive(Clone)]
pub(in crate::serve) struct Errands {
    modules: Arc<Modules>,
    teller: Teller,
    resident: NameId,
    read: Arc<Read>,
}

impl Resident {
    pub(super) fn new(modules: Arc<Modules>, shard: ShardId, presence: Arc<()>) -> Self {
        Self {
            modules,
            is_home: shard == HOME,
            _presence: presence,
        }
    }
}

impl Handler for Resident {
    /// No packet leads here.
    fn handle(&mut self, _: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
        Verdict::UnknownCommand
    }

    fn tell(&mut self, _: &mut Context<'_>, message: Box<dyn Any + Send>) {
        let Ok(errand) = message.downcast() else {
            return;
        };
        match *errand {
            Errand::Command {
                name,
                params,
                reply,
            } => {
                let params: Vec<&str> = params.iter().map(String::as_str).collect();
                let answer = self.modules.run_command(&name, &params);
                let _ = reply.try_send(answer.map_err(|error| error.to_string()));
            }
            Errand::Statistics(read) => {
                let statistics = self.modules.statistics();
                *read.lock() = (statistics, Some(Instant::now()));
                read.is_due.store(false, Ordering::Release);
            }
        }
    }

    /// Timers of all modules, of reentrant ones too: in OpenSIPS each runs in one process. One at a time, so that packets come in
    /// between. Behind them goes out what was queued on this shard by `bin_send_batch`, whether a callback, a timer, a command or a
    /// function of a route did that.
    fn turn(&mut self, _: Timestamp) -> bool {
        let more = self.is_home && self.modules.run_timers(Instant::now());
        flush();
        more
    }
}

impl Errands {
    pub(in crate::serve) fn new(loaded: &super::Loaded, teller: Teller, resident: NameId) -> Self {
        Self {
            modules: Arc::clone(&loaded.modules),
            teller,
            resident,
            read: Arc::default(),
        }
    }

    /// The commands that there are, and what their modules say of them.
    pub(in crate::serve) fn commands(&self) -> Vec<(String, Option<String>)> {
        let names = self.modules.commands().into_iter();
        let with_help = names.map(|name| {
            let help = self.modules.command_help(&name);
            (name, help)
        });
        with_help.collect()
    }

    /// Has a command run on the modules' shard, and waits for its answer, [`PATIENCE`] at the most.
    pub(in crate::serve) fn run(
        &self,
        name: String,
        params: Vec<String>,
    ) -> Result<MiReply, String> {
        let (reply, answer) = mpsc::sync_channel(1);
        let told = self.tell(Errand::Command {
            name: name.clone(),
            params,
            reply,
        });
        match told {
            Told::Taken => {}
            Told::Full => return Err("the modules' shard does not get to its errands".to_owned()),
            Told::Ended => return Err("the modules' shard has ended".to_owned()),
        }
        match answer.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "{name} did not answer within {} s: its shard is busy, or a module does not return; the command may run yet",
                PATIENCE.as_secs()
            )),
            Err(RecvTimeoutError::Disconnected) => Err("the modules' shard has ended".to_owned()),
        }
    }

    /// The statistics as they were read last, or none where that is longer ago than [`FRESH`]: the shard hangs then. And has them
    /// read anew, unless that was asked for and has not come.
    pub(in crate::serve) fn statistics(&self) -> Vec<Statistic> {
        if !self.read.is_due.swap(true, Ordering::Acquire)
            && self.tell(Errand::Statistics(Arc::clone(&self.read))) != Told::Taken
        {
            self.read.is_due.store(false, Ordering::Release);
        }
        self.read.as_of(Instant::now())
    }

    fn tell(&self, errand: Errand) -> Told {
        self.teller.tell(HOME.0, self.resident, Box::new(errand))
    }
}

impl Read {
    fn as_of(&self, now: Instant) -> Vec<Statistic> {
        let read = self.lock();
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) <= FRESH;
        match read.1.as_ref().is_some_and(is_fresh) {
            true => read.0.clone(),
            false => Vec::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<Statistic>, Option<Instant>)> {
        self.statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asked waits no longer; shorter than who asks at the control socket waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// They are read each second.
const FRESH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_that_nobody_read_for_a_while_are_not_told_as_if_they_were_of_now() {
        let read = Read::default();
        let now = Instant::now();
        assert!(read.as_of(now).is_empty());
        let statistic = Statistic {
            module: "counter".to_owned(),
            name: "seen".to_owned(),
            value: 1,
            is_counter: true,
        };
        *read.lock() = (vec![statistic.clone()], Some(now));
        assert_eq!(read.as_of(now + FRESH), [statistic]);
        let later = now + FRESH + Duration::from_millis(1);
        assert!(read.as_of(later).is_empty());
    }
}
