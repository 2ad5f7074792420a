//! The modules whose packets come in datagrams, and what is done with those.

use binrush_engine::{Registry, SchemaHandler};
use binrush_wire::Release;
use binrush_wire::schema::{self, Capability, Message};

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

/// A registry in which every known module has a handler that reads each packet to its last byte.
pub(crate) fn registry() -> anyhow::Result<Registry> {
    let mut registry = Registry::new();
    for module in all() {
        registry.register(module.name.as_bytes(), SchemaHandler)?;
    }
    Ok(registry)
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
