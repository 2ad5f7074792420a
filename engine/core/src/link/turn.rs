//! One link's turn: what the machine asks for, done, until it asks for nothing more.

use super::machine::{Action, Event};
use super::outgoing::{Outgoing, Written};
use super::slot::Slot;
use crate::clock::Timestamp;

/// A connection to one peer, or none; never waits for anything.
pub(super) trait Transport {
    /// Begins to connect. That it did, or not, is told by an [`Event`] later.
    ///
    /// # Errors
    /// Why it cannot even begin, in words.
    fn open(&mut self) -> Result<(), String>;

    /// Takes bytes from the front of what goes out, as many as there is room for. Called again with nothing in it when
    /// what it took before was not [flushed](Written::flushed).
    ///
    /// # Errors
    /// The connection's failure, in words; what was taken up to then stays taken.
    fn write(&mut self, outgoing: &mut Outgoing) -> Result<Written, String>;

    /// Nothing more will be written.
    fn finish(&mut self);

    /// Lets the connection go, if there is one; with `reset` also what the kernel holds of it.
    fn close(&mut self, reset: bool);
}

/// Tells the machine what happened, and does what it asks for. Whether it wants another turn at once, because others
/// shall have theirs in between.
///
/// The lock of the link is held between two actions, never during one.
pub(super) fn turn(
    slot: &Slot,
    transport: &mut impl Transport,
    now: Timestamp,
    event: Event,
) -> bool {
    let mut writes = 0;
    let mut action = slot.with(|machine| machine.step(now, event));
    loop {
        action = match action {
            Action::Rest => return false,
            // Asked again at the next turn: only writing can go on and on.
            Action::Write if writes == WRITES_MAX => return true,
            Action::Write => {
                writes += 1;
                write(slot, transport, now)
            }
            Action::Open => {
                let event = match transport.open() {
                    Ok(()) => Event::Look,
                    Err(why) => Event::Failed(why),
                };
                slot.with(|machine| machine.step(now, event))
            }
            Action::Finish => {
                transport.finish();
                slot.with(|machine| machine.step(now, Event::Look))
            }
            Action::Close | Action::Reset => {
                transport.close(action == Action::Reset);
                slot.with(|machine| machine.step(now, Event::Look))
            }
        }
    }
}

fn write(slot: &Slot, transport: &mut impl Transport, now: Timestamp) -> Action {
    let mut outgoing = slot.with(|machine| machine.lend());
    let (written, event) = match transport.write(&mut outgoing) {
        Ok(written) => (written, Event::Look),
        Err(why) => (Written::default(), Event::Failed(why)),
    };
    slot.with(|machine| {
        machine.settle(now, outgoing, written);
        machine.step(now, event)
    })
}

/// System calls for one link before the next link's turn.
const WRITES_MAX: u32 = 4;
