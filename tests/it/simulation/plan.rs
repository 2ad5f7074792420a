//! What a seed stands for.

use std::time::Duration;

use binrush_engine::Steering;
use binrush_net::sim::Faults;

use crate::dice::Dice;

/// Everything that is decided before a run: the engine, its network and what will happen. What is left to
/// chance during the run, the seed decides too.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) shards: u16,
    /// Frames of each slab, and of each batch; fewer of the first keep batches short.
    pub(super) frames: usize,
    pub(super) batch: usize,
    /// What the queue of one socket holds.
    pub(super) queue_max: usize,
    pub(super) kernel: Kernel,
    /// A second listener, on IPv6; every other peer sends there.
    pub(super) ipv6: bool,
    pub(super) peers: usize,
    pub(super) faults: Faults,
    /// One receive of so many fails, if any does.
    pub(super) failing_one_in: Option<usize>,
    /// One datagram of so many is broken before it is sent.
    pub(super) broken_one_in: usize,
    /// Longest filling of a packet, and how often one may be above 200 bytes: one of so many.
    pub(super) fill_max: usize,
    pub(super) long_one_in: usize,
    /// A shard that gets no turn in the first half.
    pub(super) stalled: Option<usize>,
    pub(super) steps: usize,
    /// Whether everything comes to rest before the stop, or the stop comes in the midst of it.
    pub(super) rests: bool,
}

/// By what the kernel chooses the socket of a datagram, which decides what a shard has to mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// By the program: the owner's.
    Program,
    /// By a program of another engine: one socket for each record, mostly not the owner's.
    Foreign,
    /// Every datagram to the first socket.
    First,
    /// The first so many by its default, which knows no records, while nobody drops them; the others by the program.
    Forming(usize),
    /// As that, and the sockets drop until the program is in place: what an engine does at its start.
    Closed(usize),
    /// Always by something that knows no records, as for the later datagrams of merged trains.
    Trains,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let shards = u16::try_from(1 + dice.below(4)).expect("a few");
        let strays = 20 + dice.below(80);
        let kernel = dice.one_of(&[
            Kernel::Program,
            Kernel::Foreign,
            Kernel::First,
            Kernel::Forming(strays),
            Kernel::Closed(strays),
            Kernel::Trains,
        ]);
        let plan = Self {
            seed,
            shards,
            frames: 1 + dice.below(8),
            batch: 1 + dice.below(8),
            queue_max: dice.one_of(&[4, 32, 4096]),
            kernel,
            ipv6: dice.coin(),
            peers: 1 + dice.below(4),
            faults: faults(&mut dice),
            failing_one_in: dice.coin().then(|| 1 + dice.below(20)),
            broken_one_in: dice.one_of(&[2, 5, usize::MAX]),
            fill_max: dice.one_of(&[200, 1400, 60_000]),
            long_one_in: dice.one_of(&[2, 8]),
            stalled: dice.coin().then(|| dice.below(shards.into())),
            steps: 200 + dice.below(600),
            rests: dice.coin(),
        };
        match dice.below(12) {
            0 => plan.overloaded(),
            _ => plan,
        }
    }

    /// One shard does not keep up with the mail of the others, for so long that its mailboxes are full.
    pub(super) fn overloaded(self) -> Self {
        Self {
            shards: self.shards.max(2),
            kernel: Kernel::First,
            queue_max: 4096,
            fill_max: 60_000,
            long_one_in: 2,
            stalled: Some(1),
            steps: 1500,
            ..self
        }
    }

    /// Nothing goes wrong, and everything is let come to rest.
    pub(super) fn perfect(seed: u64) -> Self {
        Self {
            shards: 3,
            frames: 8,
            batch: 8,
            queue_max: 4096,
            kernel: Kernel::Program,
            faults: Faults::default(),
            failing_one_in: None,
            broken_one_in: usize::MAX,
            fill_max: 200,
            stalled: None,
            steps: 600,
            rests: true,
            ..Self::of(seed)
        }
    }

    pub(super) fn steering(&self) -> Steering {
        Steering::new(self.shards, self.half_seed())
    }

    /// Chooses the socket of the datagram with this number among those that arrived.
    pub(super) fn socket(&self, number: usize, datagram: &[u8]) -> usize {
        let by_program = |seed| {
            let steering = Steering::new(self.shards, seed);
            usize::from(steering.owner_of_datagram(datagram))
        };
        let by_chance = || {
            let number = u64::try_from(number).expect("a usize fits");
            Dice::new(self.seed ^ !number).below(self.shards.into())
        };
        match self.kernel {
            Kernel::Program => by_program(self.half_seed()),
            Kernel::Foreign => by_program(!self.half_seed()),
            Kernel::First => 0,
            Kernel::Forming(strays) | Kernel::Closed(strays) if number < strays => by_chance(),
            Kernel::Forming(_) | Kernel::Closed(_) => by_program(self.half_seed()),
            Kernel::Trains => by_chance(),
        }
    }

    fn half_seed(&self) -> u32 {
        Dice::new(self.seed).int().cast_unsigned()
    }
}

impl Kernel {
    /// Whether all that can be received of a record comes by one socket of each listener.
    pub(super) const fn knows_records(self) -> bool {
        match self {
            Self::Program | Self::Foreign | Self::First | Self::Closed(_) => true,
            Self::Forming(_) | Self::Trains => false,
        }
    }

    /// Whether that is its owner's.
    pub(super) const fn knows_owners(self) -> bool {
        matches!(self, Self::Program | Self::Closed(_))
    }
}

fn faults(dice: &mut Dice) -> Faults {
    let mut now_and_then = || dice.one_of(&[0.0, 0.0, 0.02, 0.3]);
    let (loss, reorder, duplicate, truncate) = (
        now_and_then(),
        now_and_then(),
        now_and_then(),
        now_and_then(),
    );
    let start = Duration::from_micros(dice.one_of(&[0, 20, 300]));
    let width = Duration::from_micros(dice.one_of(&[0, 50, 2000]));
    Faults {
        delay: start..start + width,
        loss,
        reorder,
        duplicate,
        truncate,
    }
}
