//! The modules whose packets come in datagrams, and what is done with those.

use binrush_engine::{Context, Registry, SchemaHandler, Verdict};
use binrush_wire::schema::{self, Capability, Message};
use binrush_wire::{Packet, Release};

/// The modules that 1.x nodes send, the only ones that come in datagrams.
pub(crate) fn all() -> impl Iterator<Item = &'static Capability> {
    schema::CAPABILITIES
        .iter()
        .copied()
        .filter(|module| messages(module).next().is_some())
}

/// What a 1.x node sends for `module`, in the order of the commands.
pub(crate) fn messages(module: &'static Capability) -> impl Iterator<Item = &'static Message> {
    let spoken = module
        .messages
        .iter()
        .filter(|message| message.spoken_by(Release::V1x));
    let mut messages: Vec<_> = spoken.collect();
    messages.sort_by_key(|message| message.command);
    messages.into_iter()
}

/// A registry in which every known module that is `wanted` has a handler: one that reads each packet to its last
/// byte, or, without `verify`, one that takes whatever has a good header.
pub(crate) fn registry(wanted: impl Fn(&str) -> bool, verify: bool) -> anyhow::Result<Registry> {
    let mut registry = Registry::new();
    for module in all().filter(|module| wanted(module.name)) {
        let name = module.name.as_bytes();
        if verify {
            registry.register(name, |_| SchemaHandler)?;
        } else {
            registry.register(name, |_| accept)?;
        }
    }
    Ok(registry)
}

/// Takes whatever has a good header.
pub(crate) fn accept(_: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
    Verdict::Handled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_1_x_are_dialog_and_ul() {
        assert_eq!(
            all().map(|module| module.name).collect::<Vec<_>>(),
            ["dialog", "ul"]
        );
        assert_eq!(all().flat_map(messages).count(), 8);
    }
}
