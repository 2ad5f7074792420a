//! Records of nodes before 2.4, which have no capabilities: packets are called as the module that sends them.
//!
//! ```text
//!   datagram of 1.x ────┐                ┌─ 4 of 2.2 and 2.3 ─▶ table "dialog-profiles"
//!                       ├──▶ "dialog" ───┴───────────────────▶ table "dialog"
//!   connection of a ────┤
//!   2.2 or a 2.3 node   ├──▶ "ul" ───────────────────────────▶ table "ul"
//!                       └──▶ "ratelimit" (2.2 and 2.3) ──────▶ table "ratelimit"
//! ```
//!
//! No gate stands in front of them: there are no syncs, and who may send is asked where packets come in. All senders speak of the
//! same records, as they do to a genuine receiver (OpenSIPS 1.11, 2.2 and 2.3 `modules/dialog/dlg_replication.c`,
//! `modules/usrloc/ureplication.c`).

use std::any::Any;
use std::fmt;

use binrush_wire::{Generation, Packet};

use super::TypedReplica;
use super::durable::Log;
use crate::clock::Timestamp;
use crate::cluster::replica::Replica as _;
use crate::dispatch::handler::{Context, Handler, Origin, Verdict};

/// The packets of one such name on one shard.
pub struct Legacy<E = ()> {
    records: TypedReplica<E>,
    profiles: Option<TypedReplica<E>>,
    /// The turn of the profiles comes next.
    is_halfway: bool,
    /// The records had more to do in theirs.
    has_more: bool,
}

/// A message for the store of the profiles: others are for the first one. What is inside goes to its
/// [`Replica::ask`](crate::cluster::replica::Replica::ask).
#[derive(Debug)]
pub struct ForProfiles(pub Box<dyn Any + Send>);

impl<E: Log + Send> Legacy<E> {
    /// Over `records`: dialogs for `dialog`, contacts for `ul`, pipes for `ratelimit`. `profiles` are the counts that 2.2 and 2.3 send as `dialog`, too;
    /// without, such packets are refused.
    #[must_use]
    pub const fn new(records: TypedReplica<E>, profiles: Option<TypedReplica<E>>) -> Self {
        Self {
            records,
            profiles,
            is_halfway: false,
            has_more: false,
        }
    }

    /// Dialogs, or contacts.
    #[must_use]
    pub const fn records(&self) -> &TypedReplica<E> {
        &self.records
    }

    /// Counts of profiles.
    #[must_use]
    pub const fn profiles(&self) -> Option<&TypedReplica<E>> {
        self.profiles.as_ref()
    }
}

impl<E: Log + Send> Handler for Legacy<E> {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let release = match context.origin() {
            Origin::Stream { release, .. } => *release,
            Origin::Datagram(_) | Origin::Process => None,
        };
        let replica = match &mut self.profiles {
            Some(profiles) if packet.command() == PROFILES_PACKET => profiles,
            _ => &mut self.records,
        };
        replica.hear(context.now(), maker(packet), release, packet)
    }

    fn tell(&mut self, context: &mut Context<'_>, message: Box<dyn Any + Send>) {
        let now = context.now();
        match message.downcast::<ForProfiles>() {
            Ok(message) => {
                if let Some(profiles) = &mut self.profiles {
                    profiles.ask(now, message.0);
                }
            }
            Err(message) => self.records.ask(now, message),
        }
    }

    /// One store at a time, so that it takes no longer than a turn of one.
    fn turn(&mut self, now: Timestamp) -> bool {
        let Some(profiles) = &mut self.profiles else {
            return self.records.turn(now);
        };
        self.is_halfway = !self.is_halfway;
        if self.is_halfway {
            self.has_more = self.records.turn(now);
            return true;
        }
        profiles.turn(now) || self.has_more
    }
}

impl<E> fmt::Debug for Legacy<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Legacy")
            .field("records", &self.records)
            .field("profiles", &self.profiles)
            .finish_non_exhaustive()
    }
}

/// The number of the node that made a packet, because each has counts of its own; 0: nobody says. In 2.2 it is the first field,
/// in 2.3 it stands in the trailer. Of what cuts that short the layout says so.
fn maker(packet: &Packet<'_>) -> i32 {
    let mut fields = packet.fields();
    match packet.generation() {
        Generation::Legacy => 0,
        Generation::Transitional => fields.pop_int().unwrap_or_default(),
        Generation::Modern => fields.pop_trailer().map_or(0, |trailer| trailer.source),
    }
}

/// The name of dialogs, and of their table.
pub const DIALOGS: &str = "dialog";

/// The name of AoRs and contacts, and of their table.
pub const CONTACTS: &str = "ul";

/// The table of profiles' counts, which come as [`DIALOGS`].
pub const PROFILES: &str = "dialog-profiles";

/// The name of rate-limit pipes (2.2 and 2.3), and of their table.
pub const PIPES: &str = "ratelimit";

/// The command of counts of profiles. (OpenSIPS 2.2 and 2.3 `modules/dialog/dlg_repl_profile.h`, `REPLICATION_DLG_PROFILE`.)
const PROFILES_PACKET: i32 = 4;
