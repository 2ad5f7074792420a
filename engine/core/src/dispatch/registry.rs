//! Collecting handlers before the start.

use std::fmt;

use super::handler::Handler;
use super::{Handlers, NAMES_MAX, Table};

/// Handlers by module name, until the engine takes them.
#[derive(Default)]
pub struct Registry {
    names: Vec<Box<[u8]>>,
    /// One per name, in the same order.
    handlers: Vec<Box<dyn Handler>>,
    replaced: Vec<NameReplaced>,
}

/// A name was registered again, and its earlier handler will never be called.
///
/// As in OpenSIPS, whose list is walked from the last registration (`bin_register_cb`, 1.11
/// `bin_interface.c`); there it happens in silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameReplaced {
    /// The name, with other than printable ASCII escaped.
    pub name: String,
}

/// A name could not be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The table is full.
    #[error("cannot register {name:?}: {NAMES_MAX} names are registered already")]
    TooManyNames {
        /// The name, with other than printable ASCII escaped.
        name: String,
    },
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `handler` the receiver of packets named `name`. The last one of a name wins;
    /// [`replaced`](Self::replaced) tells of the others.
    ///
    /// # Errors
    /// [`RegisterError::TooManyNames`]; the registry is as before.
    pub fn register(
        &mut self,
        name: &[u8],
        handler: impl Handler + 'static,
    ) -> Result<(), RegisterError> {
        let printable = || name.escape_ascii().to_string();
        if let Some(index) = self.names.iter().position(|known| **known == *name) {
            self.handlers[index] = Box::new(handler);
            self.replaced.push(NameReplaced { name: printable() });
            return Ok(());
        }
        if self.names.len() == NAMES_MAX {
            return Err(RegisterError::TooManyNames { name: printable() });
        }
        self.names.push(name.into());
        self.handlers.push(Box::new(handler));
        Ok(())
    }

    /// The names that were registered more than once, in order.
    #[must_use]
    pub fn replaced(&self) -> &[NameReplaced] {
        &self.replaced
    }

    /// The table, and the handlers that stand beside it.
    #[must_use]
    pub fn build(self) -> (Table, Handlers) {
        (
            Table {
                names: self.names.into(),
            },
            Handlers(self.handlers.into()),
        )
    }
}

impl fmt::Display for NameReplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} was registered more than once; the last handler gets its packets",
            self.name
        )
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .names
            .iter()
            .map(|name| name.escape_ascii().to_string());
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::dispatch::handler::Verdict;
    use binrush_wire::{Builder, Generation, Packet};

    fn says(verdict: Verdict) -> impl Handler {
        move |_: Timestamp, _: &Packet<'_>| verdict
    }

    fn ask(handlers: &mut Handlers, table: &Table, name: &[u8]) -> Option<Verdict> {
        let mut buffer = [0; 64];
        let mut builder = Builder::new(Generation::Legacy, &mut buffer, name, 1, 0).unwrap();
        let packet = Packet::parse(Generation::Legacy, builder.seal()).unwrap();
        let entry = table.lookup(packet.name())?;
        Some(handlers[entry].handle(Timestamp::default(), &packet))
    }

    #[test]
    fn names_are_compared_whole_and_as_bytes() {
        let mut registry = Registry::new();
        registry
            .register(b"dialog", says(Verdict::Handled))
            .unwrap();
        registry
            .register(b"\xFFdialog", says(Verdict::UnknownVersion))
            .unwrap();
        let (table, mut handlers) = registry.build();
        assert_eq!(
            ask(&mut handlers, &table, b"dialog"),
            Some(Verdict::Handled)
        );
        assert_eq!(
            ask(&mut handlers, &table, b"\xFFdialog"),
            Some(Verdict::UnknownVersion)
        );
        for stranger in [&b"dialog2"[..], b"dialo", b"DIALOG", b"dialog\0"] {
            assert_eq!(ask(&mut handlers, &table, stranger), None);
        }
    }

    #[test]
    fn the_last_registration_of_a_name_wins_and_is_told() {
        let mut registry = Registry::new();
        registry
            .register(b"ul", says(Verdict::UnknownCommand))
            .unwrap();
        registry
            .register(b"dialog", says(Verdict::UnknownVersion))
            .unwrap();
        registry.register(b"ul", says(Verdict::Handled)).unwrap();
        let warning = registry.replaced()[0].to_string();
        assert_eq!(
            warning,
            "\"ul\" was registered more than once; the last handler gets its packets"
        );
        let (table, mut handlers) = registry.build();
        assert_eq!(table.names().collect::<Vec<_>>(), [&b"ul"[..], b"dialog"]);
        assert_eq!(ask(&mut handlers, &table, b"ul"), Some(Verdict::Handled));
    }

    #[test]
    fn a_full_table_takes_no_new_name_but_still_replaces() {
        let mut registry = Registry::new();
        for i in 0..NAMES_MAX {
            registry
                .register(i.to_string().as_bytes(), says(Verdict::Handled))
                .unwrap();
        }
        let error = registry
            .register(b"one more", says(Verdict::Handled))
            .unwrap_err();
        assert_eq!(
            error,
            RegisterError::TooManyNames {
                name: "one more".into()
            }
        );
        assert_eq!(registry.register(b"0", says(Verdict::Handled)), Ok(()));
        assert_eq!(registry.build().0.names().len(), NAMES_MAX);
    }

    #[test]
    fn a_handler_keeps_its_state_between_packets() {
        let mut count = 0;
        let mut registry = Registry::new();
        registry
            .register(b"dialog", move |_: Timestamp, _: &Packet<'_>| {
                count += 1;
                if count == 2 {
                    Verdict::Handled
                } else {
                    Verdict::UnknownCommand
                }
            })
            .unwrap();
        let (table, mut handlers) = registry.build();
        assert_eq!(
            ask(&mut handlers, &table, b"dialog"),
            Some(Verdict::UnknownCommand)
        );
        assert_eq!(
            ask(&mut handlers, &table, b"dialog"),
            Some(Verdict::Handled)
        );
    }
}
