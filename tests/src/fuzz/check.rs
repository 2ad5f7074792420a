//! What must hold for a packet, or for the error in its place, whatever the bytes are.

use binrush_wire::schema::{self, Item, Message, SchemaError, Value};
use binrush_wire::{
    Builder, Chunks, ErrorKind, Fields, Generation, MARKER, Packet, Result, WireError,
};

/// Parses a frame and checks what came of it; the error of the header, if that was bad.
pub(super) fn frame(generation: Generation, frame: &[u8]) -> Result<()> {
    let packet = Packet::parse(generation, frame).inspect_err(|e| error(e, frame.len()))?;
    view(&packet);
    pops(packet.fields());
    match schema::identify(&packet) {
        Ok(message) => identified(&packet, message),
        Err(SchemaError::Field(bad)) => {
            error(&bad, frame.len());
            assert!(bad.at >= packet.fields().offset(), "a field: {bad}");
            chunks(&packet);
        }
        Err(_) => {}
    }
    Ok(())
}

/// An error points into the bytes, or right after them, and can be told.
pub(super) fn error(error: &WireError, len: usize) {
    assert!(error.at <= len, "{error} in {len} bytes");
    assert!(error.to_string().starts_with(error.kind.symbol()));
}

/// Header, name, command and body make up the frame, without gap or overlap.
fn view(packet: &Packet<'_>) {
    let generation = packet.generation();
    let name_at = generation.header_len() + generation.length_width();
    let (head, rest) = packet.bytes().split_at(name_at);
    assert!(head.starts_with(&MARKER));
    let rest = rest.strip_prefix(packet.name()).expect("the name");
    let rest = rest.strip_prefix(&packet.command().to_le_bytes());
    assert_eq!(rest, Some(packet.body()));
    assert_eq!(packet.fields().rest(), packet.body());
    assert_eq!(
        packet.fields().offset() + packet.body().len(),
        packet.bytes().len()
    );
}

/// A pop takes bytes off one end, or fails and leaves the cursor where it stood.
fn pops(mut fields: Fields<'_>) {
    // Begins elsewhere for each length: many orders, all within the mutator's reach.
    let mut next = fields.rest().len() % POPS.len();
    let mut refused = 0;
    while refused < POPS.len() {
        let before = fields.clone();
        let popped = POPS[next](&mut fields);
        let front = fields.offset() - before.offset();
        let (rest, rest_before) = (fields.rest(), before.rest());
        // Compared by address: comparing bytes would be quadratic.
        assert_eq!(rest.as_ptr(), rest_before[front..].as_ptr());
        assert!(front + rest.len() <= rest_before.len());
        match popped {
            Ok(()) => {
                assert!(rest.len() < rest_before.len(), "pop {next} stood still");
                refused = 0;
            }
            Err(bad) => {
                assert_eq!(rest.len(), rest_before.len(), "pop {next} failed and moved");
                // Not `error`: telling each would take most of the time.
                assert!(bad.at >= before.offset(), "{bad}");
                assert!(bad.at <= before.offset() + rest_before.len(), "{bad}");
                refused += 1;
            }
        }
        next = (next + 1) % POPS.len();
    }
}

type Pop = fn(&mut Fields<'_>) -> Result<()>;

const POPS: [Pop; 8] = [
    |fields| fields.pop_str().map(drop),
    |fields| fields.pop_int().map(drop),
    |fields| fields.pop_object::<8>().map(drop),
    |fields| fields.skip_str(2),
    |fields| fields.skip_int(2),
    |fields| fields.take_bytes(3).map(drop),
    |fields| fields.pop_int_back().map(drop),
    |fields| fields.pop_trailer().map(drop),
];

/// A packet that one of the layouts uses up: written field by field again, it is the same packet.
fn identified(packet: &Packet<'_>, message: &'static Message) {
    // Steering asks before the layout is known, so the key must not depend on it.
    let key = message.key(packet).expect("its layout was walked");
    assert_eq!(schema::key(packet), Ok(key), "{}", message.name);
    let bad_chunk = chunks(packet);
    if let Some(Item::Chunks(_)) = message.layout.last() {
        assert_eq!(bad_chunk, None, "each chunk was walked");
    }
    // A reader takes 1.x datagrams and uncounted strings that are longer than a writer's limit.
    if packet.bytes().len() <= packet.generation().max_packet_len() {
        rewritten(packet, message);
    }
}

fn rewritten(packet: &Packet<'_>, message: &Message) {
    let mut buffer = vec![0; packet.bytes().len()];
    let mut builder = Builder::new(
        packet.generation(),
        &mut buffer,
        packet.name(),
        packet.command(),
        packet.version().unwrap_or(0),
    )
    .expect("the header fits");
    let body_at = builder.len();
    let mut end = body_at;
    let trailer = message
        .walk(packet, |field| {
            assert_eq!(field.at, end, "fields follow each other");
            assert!(field.end > field.at, "a field takes at least one byte");
            end = field.end;
            match field.value {
                Value::Str(bytes) => builder.push_str(bytes),
                Value::Int(int) => builder.push_int(int),
                Value::Raw(bytes) => builder.append(bytes),
                Value::Object(object, bytes) => {
                    assert_eq!(bytes.len(), object.size());
                    builder.push_str(bytes)
                }
            }
            .expect("the field fits");
        })
        .expect("identify walked it");
    if let Some(trailer) = trailer {
        builder.push_trailer(trailer).expect("the trailer fits");
    }
    let written = builder.seal();
    assert_eq!(&written[body_at..], packet.body(), "{}", message.name);
    // A 2.2 header has bytes that nobody writes.
    if packet.generation() != Generation::Transitional {
        assert_eq!(written, packet.bytes());
    }
}

/// Reads the body as a SYNC's, which only clusterer's is: chunks lie behind each other inside the packet.
///
/// Returns the error of the first chunk that is not whole or has no key where it should.
fn chunks(packet: &Packet<'_>) -> Option<WireError> {
    let mut fields = packet.fields();
    if packet.generation() != Generation::Modern || fields.pop_trailer().is_err() {
        return None;
    }
    let (Ok(capability), Ok(data_version)) = (fields.pop_str(), fields.pop_int()) else {
        return None;
    };
    let mut at = fields.offset();
    let end = at + fields.rest().len();
    let mut no_key = None;
    let mut chunks = Chunks::new(fields);
    while let Some(chunk) = chunks.next() {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(bad) => {
                assert!(
                    bad.at >= at
                        && matches!(bad.kind, ErrorKind::ChunkMarker | ErrorKind::ChunkSize)
                );
                error(&bad, end);
                assert!(chunks.next().is_none(), "a broken chunk is the last");
                return no_key.or(Some(bad));
            }
        };
        assert!(chunk.at == at + 8 && !chunk.data.is_empty());
        at = chunk.at + chunk.data.len();
        assert_eq!(chunk.data, &packet.bytes()[chunk.at..at]);
        match schema::chunk_key(capability, data_version, &chunk) {
            Ok(_) | Err(SchemaError::UnknownName | SchemaError::UnknownVersion) => {}
            Err(SchemaError::UnknownCommand) => panic!("a chunk has no command"),
            Err(SchemaError::Field(bad)) => {
                error(&bad, at);
                no_key = no_key.or(Some(bad));
            }
        }
    }
    assert_eq!(at, end, "the chunks use up the packet");
    no_key
}
