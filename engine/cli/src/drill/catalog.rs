//! The drills, as data: who is there, what is done, what has to hold.
//!
//! ```text
//!   callers (the traffic of the cluster) ──live packets──▶ active   (a binrush node in the place of the OpenSIPS with the calls)
//!                                       └──live packets──▶ engine   (under test: the standby, with a state directory)
//!                                       └──live packets──▶ third    (where a drill needs one)
//! ```

/// Who is in a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// Node 1, the seed: stands in for the node that has the calls. Whoever is started in its place begins with nothing.
    Active,
    /// Node 2, under test: on standby, with a state directory.
    Engine,
    /// Node 3: one more of the cluster.
    Third,
    /// Node 4: where the traffic comes from. It keeps nothing, and gives nothing.
    Callers,
}

/// A drill.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drill {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What it cannot do without.
    pub(super) needs: Needs,
    /// As many contacts and dialogs at the least: a sync of fewer is over too soon to be hit.
    pub(super) least: u32,
    pub(super) steps: &'static [Step],
}

/// What this machine has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// Cables that can be pulled.
    Wires,
    /// A small disk to fill.
    Disk,
    /// System calls that fail.
    Strace,
}

/// What is done, one thing after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Starts a node: the engine on its state directory, the others with nothing.
    Start(Who),
    /// Likewise, and its first fdatasync in each thread fails behind the given number.
    StartWithBrokenSync(Who),
    /// Waits until a node has been heard by the callers, and its copies are verified.
    Verified(Who),
    /// Waits until the copies of a node were verified by a sync that ended after this drill hurt it last.
    Resynced(Who),
    /// The records that are there at the beginning.
    Fill,
    /// Changes go on from here.
    Load,
    /// Some of that: shorter in the small form.
    Pass {
        full_ms: u64,
        small_ms: u64,
    },
    /// In the small form only records go from here on that were not spoken of lately (see `traffic::When`): those that were are
    /// kept by a node that missed their end, until it looks at them once more after a while, and nobody has to wait for that.
    Careful,
    /// The clock of the callers is beside the others', by seconds.
    Clock(i64),
    /// `kill -9`.
    Kill(Who),
    /// Starts `to`, and kills who gives it a sync, in the middle of that.
    KillDonor {
        to: Who,
    },
    /// Starts again whoever the last step killed.
    StartKilled,
    /// Starts `who`, and kills it in the middle of its sync.
    KillInSync(Who),
    /// Starts `who`, and stops it in the middle of its sync.
    FreezeInSync(Who),
    /// SIGSTOP.
    Freeze(Who),
    /// SIGCONT.
    Thaw(Who),
    /// The cable of a host is pulled.
    Pull(Who),
    Plug(Who),
    /// One way is lost.
    Lose(Who, Who),
    Find(Who, Who),
    /// Both ways between pairs are lost one by one, and restored in an order by the seed.
    Swizzle(&'static [(Who, Who)]),
    /// Waits until `at` sees `of` down.
    Down {
        at: Who,
        of: Who,
    },
    /// Kills the engine and looks at what it left: it has all that was seen in it, and the next start finds the same.
    KillAndRead,
    FillDisk,
    FreeDisk,
    /// Waits until the engine says that its journal is in trouble, or no more.
    Alarm(bool),
    /// Waits until the engine has something that was told after this.
    Serves,
    /// Ends the engine in order and reads its state directory: all is there.
    StopAndRead,
    /// The given node gave `to` all its copies.
    Given {
        by: Who,
        to: Who,
    },
    /// No change any more; all that was told arrives; what each node has is compared with what has to be there.
    Settle,
}

impl Who {
    pub(super) const ALL: [Self; 4] = [Self::Active, Self::Engine, Self::Third, Self::Callers];

    /// Those that keep records.
    pub(super) const NODES: [Self; 3] = [Self::Active, Self::Engine, Self::Third];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// In the cluster.
    pub(super) const fn id(self) -> i32 {
        self as i32 + 1
    }

    pub(super) fn of_id(id: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|who| who.id() == id)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Engine => "engine",
            Self::Third => "third",
            Self::Callers => "callers",
        }
    }
}

use Step::{
    Alarm, Careful, Clock, Down, Fill, FillDisk, Find, FreeDisk, Freeze, FreezeInSync, Given, Kill,
    KillAndRead, KillDonor, KillInSync, Load, Lose, Pass, Plug, Pull, Resynced, Serves, Settle,
    Start, StartKilled, StartWithBrokenSync, StopAndRead, Swizzle, Thaw, Verified,
};
use Who::{Active, Callers, Engine, Third};

const fn pass(full_ms: u64, small_ms: u64) -> Step {
    Pass { full_ms, small_ms }
}

/// All of them, by the numbers of the failover plan.
pub(super) const DRILLS: &[Drill] = &[
    Drill {
        name: "D1",
        title: "kill -9 of the active node, a fresh one in its place gets everything from the engine",
        needs: Needs::Nothing,
        least: 0,
        steps: &[
            Start(Active),
            Start(Engine),
            Fill,
            Verified(Engine),
            Load,
            pass(5_000, 700),
            Kill(Active),
            pass(1_000, 300),
            Start(Active),
            Verified(Active),
            Given {
                by: Engine,
                to: Active,
            },
            pass(3_000, 500),
            Settle,
        ],
    },
    Drill {
        name: "D2",
        title: "kill -9 of the engine under load: what it was seen to have is on the disk, and the next start finds it",
        needs: Needs::Nothing,
        least: 0,
        steps: &[
            Start(Active),
            Start(Engine),
            Fill,
            Verified(Engine),
            Load,
            Careful,
            pass(5_000, 700),
            KillAndRead,
            Start(Engine),
            Resynced(Engine),
            pass(3_000, 500),
            KillAndRead,
            Start(Engine),
            Resynced(Engine),
            pass(1_000, 300),
            Settle,
        ],
    },
    Drill {
        name: "D3",
        title: "kill -9 in the middle of a sync: of who gives it, and of who gets it",
        needs: Needs::Nothing,
        least: 4_000,
        steps: &[
            Start(Active),
            Start(Engine),
            Start(Third),
            Fill,
            Verified(Engine),
            Verified(Third),
            Load,
            Careful,
            Kill(Active),
            pass(2_000, 200),
            KillDonor { to: Active },
            Verified(Active),
            StartKilled,
            Kill(Active),
            KillInSync(Active),
            Start(Active),
            Verified(Active),
            Verified(Engine),
            Verified(Third),
            pass(1_000, 300),
            Settle,
        ],
    },
    Drill {
        name: "D4",
        title: "the active node, the engine and a node in the middle of its sync stand still, and go on",
        needs: Needs::Nothing,
        least: 2_000,
        steps: &[
            Start(Active),
            Start(Engine),
            Fill,
            Verified(Engine),
            Load,
            pass(1_000, 200),
            Careful,
            Freeze(Active),
            pass(30_000, 1_500),
            Thaw(Active),
            Verified(Active),
            Freeze(Engine),
            pass(30_000, 4_500),
            Thaw(Engine),
            Resynced(Engine),
            FreezeInSync(Third),
            pass(30_000, 1_500),
            Thaw(Third),
            Verified(Third),
            pass(2_000, 300),
            Settle,
        ],
    },
    Drill {
        name: "D5",
        title: "the engine's cable is pulled, and put back",
        needs: Needs::Wires,
        least: 0,
        steps: &[
            Start(Active),
            Start(Engine),
            Fill,
            Verified(Engine),
            Load,
            pass(1_000, 300),
            Careful,
            Pull(Engine),
            pass(60_000, 4_500),
            Plug(Engine),
            Resynced(Engine),
            pass(2_000, 300),
            Settle,
        ],
    },
    Drill {
        name: "D6",
        title: "what goes one way is lost: from the active node to the engine, then from the callers to the engine",
        needs: Needs::Wires,
        least: 0,
        steps: &[
            Start(Active),
            Start(Engine),
            Fill,
            Verified(Engine),
            Load,
            Careful,
            Lose(Active, Engine),
            Down {
                at: Engine,
                of: Active,
            },
            pass(20_000, 300),
            Find(Active, Engine),
            Resynced(Engine),
            Lose(Callers, Engine),
            Down {
                at: Engine,
                of: Callers,
            },
            pass(20_000, 300),
            Find(Callers, Engine),
            Resynced(Engine),
            pass(2_000, 300),
            Settle,
        ],
    },
    Drill {
        name: "D7",
        title: "swizzle-clog: ways are cut one by one and restored in any order",
        needs: Needs::Wires,
        least: 0,
        steps: &[
            Start(Active),
            Start(Engine),
            Start(Third),
            Fill,
            Verified(Engine),
            Verified(Third),
            Load,
            Careful,
            // The callers always reach the active node: what nobody heard, nobody can give.
            Swizzle(&[
                (Active, Engine),
                (Active, Third),
                (Engine, Third),
                (Callers, Engine),
                (Callers, Third),
            ]),
            Resynced(Engine),
            Resynced(Third),
            pass(2_000, 300),
            Settle,
        ],
    },
    Drill {
        name: "D8",
        title: "the clock of the node with the traffic jumps by an hour, back, and by a year",
        needs: Needs::Nothing,
        least: 0,
        steps: &[
            Start(Active),
            Start(Engine),
            Fill,
            Verified(Engine),
            Load,
            pass(1_000, 300),
            Clock(3_600),
            pass(5_000, 500),
            Clock(-3_600),
            pass(5_000, 500),
            Clock(31_536_000),
            pass(5_000, 500),
            Clock(0),
            Kill(Active),
            Start(Active),
            Verified(Active),
            Settle,
        ],
    },
    Drill {
        name: "D9",
        title: "the disk of the state directory is full, and has room again",
        needs: Needs::Disk,
        least: 0,
        steps: &[
            Start(Active),
            Start(Engine),
            Fill,
            Verified(Engine),
            Load,
            Careful,
            pass(1_000, 300),
            FillDisk,
            Alarm(true),
            pass(5_000, 300),
            Serves,
            FreeDisk,
            Alarm(false),
            pass(1_000, 300),
            KillAndRead,
            Start(Engine),
            Resynced(Engine),
            Settle,
        ],
    },
    Drill {
        name: "D10",
        title: "fdatasync fails once: nothing of that file is believed, and all is on the disk in the end",
        needs: Needs::Strace,
        least: 0,
        steps: &[
            Start(Active),
            StartWithBrokenSync(Engine),
            Fill,
            Verified(Engine),
            Load,
            pass(5_000, 2_000),
            Settle,
            StopAndRead,
            Start(Engine),
            Verified(Engine),
            Settle,
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drill_ends_with_a_look_at_what_is_there_and_names_are_numbers_in_order() {
        for (number, drill) in (1..).zip(DRILLS) {
            assert_eq!(drill.name, format!("D{number}"));
            assert_eq!(drill.steps.last(), Some(&Settle), "{}", drill.name);
        }
    }

    #[test]
    fn what_is_frozen_goes_on_and_what_is_cut_is_restored_before_the_end() {
        for drill in DRILLS {
            let undone = |of: fn(&Step) -> i32| drill.steps.iter().map(of).sum::<i32>();
            let frozen = undone(|step| match step {
                Freeze(_) | FreezeInSync(_) => 1,
                Thaw(_) => -1,
                _ => 0,
            });
            let cut = undone(|step| match step {
                Pull(_) | Lose(..) => 1,
                Plug(_) | Find(..) => -1,
                _ => 0,
            });
            assert_eq!((frozen, cut), (0, 0), "{}", drill.name);
        }
    }
}
