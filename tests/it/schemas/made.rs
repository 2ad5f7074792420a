//! A packet made from a message of the schema, its values chosen by dice.

use binrush_wire::chunk::CHUNK_MARKER;
use binrush_wire::schema::{Item, Message};
use binrush_wire::{Builder, Generation, MAX_PACKET_LEN, Packet, Trailer};

use crate::dice::Dice;
use crate::oracle::{Decoded, Value};

/// What is sent, and what must be read.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) generation: Generation,
    pub(super) bytes: Vec<u8>,
    pub(super) read: Decoded,
}

/// `message` under `name` with the given values, machine id and trailer around them as its generation has it.
pub(super) fn packet(
    dice: &mut Dice,
    generation: Generation,
    name: &str,
    message: &Message,
    version: i16,
    fields: Vec<Value>,
) -> Made {
    let mut buffer = vec![0; MAX_PACKET_LEN];
    let command = message.command;
    let builder = Builder::new(generation, &mut buffer, name.as_bytes(), command, version);
    let mut builder = builder.expect("the header fits");
    let leading_machine_id =
        (message.routed && generation == Generation::Transitional).then(|| dice.int());
    if let Some(id) = leading_machine_id {
        builder.push_int(id).expect("it fits");
    }
    push(&mut builder, &fields);
    let trailer = (message.routed && generation == Generation::Modern).then(|| trailer(dice));
    if let Some(trailer) = trailer {
        builder.push_trailer(trailer).expect("it fits");
    }
    let bytes = builder.seal().to_vec();
    let read = Decoded {
        name: name.as_bytes().to_vec(),
        command,
        version: Packet::parse(generation, &bytes)
            .expect("it is whole")
            .version(),
        leading_machine_id,
        type_name: Some(message.name),
        fields,
        trailer: trailer.map(|trailer| trailer.ints().collect()),
    };
    Made {
        generation,
        bytes,
        read,
    }
}

/// Values along a layout.
pub(super) fn values(dice: &mut Dice, layout: &[Item]) -> Vec<Value> {
    let mut maker = Maker {
        dice,
        values: vec![],
        last_int: 0,
    };
    maker.items(layout);
    maker.values
}

/// The values of sync chunks: size, marker and data of each.
pub(super) fn chunks(chunks: &[Vec<Value>]) -> Vec<Value> {
    let mut values = vec![];
    for chunk in chunks {
        let size =
            i32::try_from(encoded(Generation::Modern, chunk).len()).expect("a made chunk is short");
        values.extend([Value::Int(size), Value::Int(CHUNK_MARKER)]);
        values.extend(chunk.iter().cloned());
    }
    values
}

/// The fields on the wire.
pub(super) fn encoded(generation: Generation, values: &[Value]) -> Vec<u8> {
    let mut buffer = vec![0; MAX_PACKET_LEN];
    let builder = Builder::new(generation, &mut buffer, b"", 0, 0);
    let mut builder = builder.expect("the header fits");
    let start = builder.len();
    push(&mut builder, values);
    builder.seal()[start..].to_vec()
}

fn push(builder: &mut Builder<'_>, values: &[Value]) {
    for value in values {
        match value {
            Value::Str(bytes) | Value::Bin(bytes) => builder.push_str(bytes),
            Value::Int(int) => builder.push_int(*int),
            Value::Raw(bytes) => builder.append(bytes),
        }
        .expect("made values are short");
    }
}

/// One in four comes over a bridge.
fn trailer(dice: &mut Dice) -> Trailer {
    let mut trailer = Trailer::new(dice.int(), dice.int(), dice.int());
    if dice.below(4) == 0 {
        trailer.dest = Trailer::BRIDGE;
        trailer.bridged_from = Some(dice.int());
    }
    trailer
}

#[derive(Debug)]
struct Maker<'d> {
    dice: &'d mut Dice,
    values: Vec<Value>,
    /// Where the last int stands: a `Case` decides on it afterwards.
    last_int: usize,
}

impl Maker<'_> {
    fn items(&mut self, items: &[Item]) {
        items.iter().for_each(|item| self.item(item));
    }

    fn item(&mut self, item: &Item) {
        match *item {
            Item::Str(_) => {
                let string = self.dice.string();
                self.values.push(Value::Str(string));
            }
            Item::Int(_) => {
                let int = self.dice.int();
                self.int(int);
            }
            Item::Object(_, object) => {
                let object = self.dice.bytes(object.size());
                self.values.push(Value::Bin(object));
            }
            Item::Include(items) => self.items(items),
            Item::Counted { max, items, .. } => {
                let count = self.dice.below(COUNT_MAX.min(max as usize) + 1);
                self.int(i32::try_from(count).expect("a few"));
                self.repeat(count, items);
            }
            Item::ToEnd(_, items) => {
                let count = self.dice.below(COUNT_MAX + 1);
                self.repeat(count, items);
            }
            Item::Case(cases) => {
                let (value, items) = self.dice.one_of(cases);
                self.values[self.last_int] = Value::Int(value);
                self.items(items);
            }
            Item::IfNonZero(_, items) => {
                let int = if self.dice.coin() { 0 } else { self.dice.int() };
                self.int(int);
                self.items(if int == 0 { &[] } else { items });
            }
            Item::IfNotEmpty(_, items) => {
                let string = self.dice.string();
                let empty = string.is_empty();
                self.values.push(Value::Str(string));
                self.items(if empty { &[] } else { items });
            }
            Item::IfMore(items) => {
                if self.dice.coin() {
                    self.items(items);
                }
            }
            Item::Chunks(_) => {
                // Of a capability nobody knows: its name was made up.
                let count = self.dice.below(COUNT_MAX + 1);
                let opaque: Vec<_> = (0..count).map(|_| vec![self.raw()]).collect();
                self.values.extend(chunks(&opaque));
            }
            Item::Rest(_) => {
                if self.dice.coin() {
                    let raw = self.raw();
                    self.values.push(raw);
                }
            }
        }
    }

    fn int(&mut self, int: i32) {
        self.last_int = self.values.len();
        self.values.push(Value::Int(int));
    }

    fn repeat(&mut self, count: usize, items: &[Item]) {
        (0..count).for_each(|_| self.items(items));
    }

    fn raw(&mut self) -> Value {
        let len = 1 + self.dice.below(RAW_MAX);
        Value::Raw(self.dice.bytes(len))
    }
}

const COUNT_MAX: usize = 3;
const RAW_MAX: usize = 40;
