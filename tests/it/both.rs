//! One packet, read by the fast decoder and by the slow one, in one form.

use binrush_wire::schema::{self, Message, SchemaError};
use binrush_wire::{Generation, Packet};

use crate::oracle::{self, Decoded, Value};

/// What the fast decoder reads.
pub(crate) fn fast(packet: &Packet<'_>) -> Result<Decoded, SchemaError> {
    schema::identify(packet).map(|message| walked(message, packet))
}

/// What the slow decoder reads.
pub(crate) fn slow(packet: &Packet<'_>) -> Result<Decoded, String> {
    oracle::decode(era(packet.generation()), packet.bytes())
}

/// `packet` as `message`, which must fit it.
pub(crate) fn walked(message: &'static Message, packet: &Packet<'_>) -> Decoded {
    let mut fields = vec![];
    let trailer = message
        .walk(packet, |field| fields.push(owned(field.value)))
        .unwrap_or_else(|error| panic!("{}: {error}", message.name));
    let mut leading_machine_id = None;
    if message.routed && packet.generation() == Generation::Transitional {
        let Value::Int(id) = fields.remove(0) else {
            panic!("{}: the machine id is an int", message.name);
        };
        leading_machine_id = Some(id);
    }
    Decoded {
        name: packet.name().to_vec(),
        command: packet.command(),
        version: packet.version(),
        leading_machine_id,
        type_name: Some(message.name),
        fields,
        trailer: trailer.map(|trailer| trailer.ints().collect()),
    }
}

/// Whether both decoders say the same about `packet`: refused, or read alike to the last value. Otherwise
/// the entry of [`DIFFERENCES`] that expects it.
///
/// # Panics
/// Panics on a difference that is not expected.
pub(crate) fn compare(packet: &Packet<'_>) -> Option<&'static Difference> {
    let (read, refused_by, error) = match (fast(packet), slow(packet)) {
        (Err(_), Err(_)) => return None,
        (Ok(fast), Ok(slow)) => {
            assert_eq!(fast, slow, "{:02x?}", packet.bytes());
            return None;
        }
        (Err(error), Ok(slow)) => (slow, Decoder::Fast, error.to_string()),
        (Ok(fast), Err(error)) => (fast, Decoder::Slow, error),
    };
    // A SYNC packet is about the capability that its first field names.
    let name = match (read.type_name, &read.fields[..]) {
        (Some("SYNC"), [Value::Str(capability), ..]) => capability,
        _ => &read.name,
    };
    let expected = DIFFERENCES.iter().find(|difference| {
        difference.names.split(' ').any(|n| n.as_bytes() == name)
            && difference.refused_by == refused_by
            && error.contains(difference.error)
    });
    assert!(
        expected.is_some(),
        "{}: refused by {refused_by:?}: {error}\n{:02x?}\n{read:?}",
        name.escape_ascii(),
        packet.bytes()
    );
    expected
}

/// One decoder refuses what the other one reads.
#[derive(Debug, PartialEq)]
pub(crate) struct Difference {
    names: &'static str,
    refused_by: Decoder,
    /// What its error says.
    error: &'static str,
    /// Why that is as it should be.
    reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Decoder {
    Fast,
    Slow,
}

/// Where the decoders may disagree on whether a packet can be read. Nowhere may they disagree on its values.
pub(crate) const DIFFERENCES: [Difference; 3] = [
    Difference {
        names: "dialog ul",
        refused_by: Decoder::Fast,
        error: "unknown_version",
        reason: "2.3 looks at no version, but it sends 1 only, as 2.2 does, which does look",
    },
    Difference {
        names: "usrloc-contact-repl",
        refused_by: Decoder::Fast,
        error: "unknown_variant",
        reason: "a receiver takes a match mode that no sender has for one without parameters",
    },
    Difference {
        names: "dialog-dlg-repl usrloc-contact-repl b2be-entities-repl presence \
                load_balancer-status-repl dispatcher-status-repl drouting-status-repl",
        refused_by: Decoder::Slow,
        error: "version: ",
        reason: "chunks with an unknown data version are opaque to the fast decoder, as a rule of its own",
    },
];

fn owned(value: schema::Value<'_>) -> Value {
    match value {
        schema::Value::Str(bytes) => Value::Str(bytes.to_vec()),
        schema::Value::Int(int) => Value::Int(int),
        schema::Value::Object(_, bytes) => Value::Bin(bytes.to_vec()),
        schema::Value::Raw(bytes) => Value::Raw(bytes.to_vec()),
    }
}

fn era(generation: Generation) -> oracle::Gen {
    match generation {
        Generation::Legacy => oracle::Gen::V1,
        Generation::Transitional => oracle::Gen::V22,
        Generation::Modern => oracle::Gen::V23,
    }
}
