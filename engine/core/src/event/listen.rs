//! Who hears of events in this process.

use std::fmt;
use std::sync::Arc;

use super::bus::Bus;
use super::names::{EventId, PublishError};
use super::{Event, Form};

/// Hears events, on the thread that tells them to all subscribers: it must not block, and what it has no room for is its own to count.
pub trait Listen: Send + Sync + fmt::Debug {
    /// `event` was raised.
    fn hear(&self, event: &Event<'_>);
}

/// One who hears of one event.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) event: EventId,
    /// Whose parameters it hears.
    pub(super) form: Form,
    pub(super) hears: Arc<dyn Listen>,
}

impl Bus {
    /// Has each event `name` heard by `listener` from now on, as long as there is this bus; it is published if it was not. The
    /// parameters are those of the form of [`Bus::new`].
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn listen(&self, name: &str, listener: Arc<dyn Listen>) -> Result<EventId, PublishError> {
        let event = self.publish(name)?;
        self.attach(Listener {
            event,
            form: self.form(),
            hears: listener,
        });
        Ok(event)
    }
}
