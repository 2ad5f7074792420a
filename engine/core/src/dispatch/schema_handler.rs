//! A handler that checks packets against the known layouts.

use binrush_wire::Packet;
use binrush_wire::schema::{self, SchemaError};

use super::handler::{Context, Handler, Origin, Verdict};

/// Accepts a packet when a known layout of its name uses it up to the last byte, and does nothing with it. Of a sender
/// whose release is told the layouts of that release count, of others those of all.
///
/// What a node that only watches needs: every packet is read in full and counted under its name and command,
/// or under what is wrong with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SchemaHandler;

impl Handler for SchemaHandler {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let found = match context.origin() {
            Origin::Stream {
                release: Some(release),
                ..
            } => schema::identify_from(*release, packet),
            _ => schema::identify(packet),
        };
        match found {
            Ok(_) => Verdict::Handled,
            // Registered under a name that no release sends: then all its commands are unknown.
            Err(SchemaError::UnknownName | SchemaError::UnknownCommand) => Verdict::UnknownCommand,
            Err(SchemaError::UnknownVersion) => Verdict::UnknownVersion,
            Err(SchemaError::Field(error)) => Verdict::Field(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::dispatch::handler::ShardId;
    use crate::dispatch::scripted::Scripted;
    use binrush_wire::{Builder, ErrorKind, Generation};

    fn verdict(name: &[u8], command: i32, fields: &[&[u8]]) -> Verdict {
        let mut buffer = [0; 128];
        let mut builder = Builder::new(Generation::Legacy, &mut buffer, name, command, 0).unwrap();
        fields
            .iter()
            .for_each(|field| builder.push_str(field).unwrap());
        let packet = Packet::parse(Generation::Legacy, builder.seal()).unwrap();
        let mut scripted = Scripted::new(1);
        let mut context = scripted.mailed(Timestamp::default(), ShardId(0), Origin::Datagram(None));
        SchemaHandler.handle(&mut context, &packet)
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(
            verdict(b"ul", 1, &[b"location", b"alice"]),
            Verdict::Handled
        );
        assert_eq!(verdict(b"ul", 99, &[b"location"]), Verdict::UnknownCommand);
        assert_eq!(
            verdict(b"nobody", 1, &[b"location"]),
            Verdict::UnknownCommand
        );
        for (fields, kind) in [
            (&[&b"location"[..]][..], ErrorKind::End),
            (&[b"location", b"alice", b"more"], ErrorKind::Leftover),
        ] {
            let Verdict::Field(error) = verdict(b"ul", 1, fields) else {
                panic!("{fields:?}")
            };
            assert_eq!(error.kind, kind);
        }
    }
}
