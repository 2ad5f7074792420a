//! The modules and capabilities whose packets are known, and what is done with those.

use binrush_engine::{Context, Registry, SchemaHandler, Verdict};
use binrush_wire::Packet;
use binrush_wire::schema::{self, Capability};

/// All that a node of any release may send: `dialog` and `ul` come in datagrams, the others by connections.
pub(crate) fn all() -> impl Iterator<Item = &'static Capability> {
    schema::CAPABILITIES.iter().copied()
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
    fn every_known_name_finds_a_handler() {
        let mut asked = Vec::new();
        let wanted = |name: &str| name != "ul";
        assert!(registry(wanted, true).is_ok() && registry(wanted, false).is_ok());
        asked.extend(all().map(|module| module.name));
        for name in [
            "dialog",
            "ul",
            "dialog-dlg-repl",
            "usrloc-contact-repl",
            "clusterer-internal",
        ] {
            assert!(asked.contains(&name), "{name}");
        }
    }
}
