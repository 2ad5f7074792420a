//! Payloads of any content, made along the layouts of the schema.

use binrush_wire::schema::{Item, Message};
use binrush_wire::{Builder, Generation, Packet, Release, Trailer};

/// Numbers from a seed.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

/// A packet of `message`, with the header version `version`, as `release` frames it.
pub(crate) fn packet(
    name: &str,
    message: &Message,
    release: Release,
    version: i16,
    dice: &mut Dice,
) -> Vec<u8> {
    let generation = release.generation();
    let mut fields = vec![];
    if generation == Generation::Transitional {
        fields.extend(dice.bytes(4));
    }
    dice.fields(message.layout, generation, &mut fields);
    framed(name, message.command, generation, version, &fields)
}

/// A packet with these fields, and a trailer where its generation has one.
pub(crate) fn framed(
    name: &str,
    command: i32,
    generation: Generation,
    version: i16,
    fields: &[u8],
) -> Vec<u8> {
    let mut buffer = vec![0; fields.len() + 128];
    let name = name.as_bytes();
    let mut builder = Builder::new(generation, &mut buffer, name, command, version).unwrap();
    builder.append(fields).unwrap();
    if generation == Generation::Modern {
        builder.push_trailer(Trailer::new(1, 2, 3)).unwrap();
    }
    builder.seal().to_vec()
}

/// A SYNC packet of 3.6 with one chunk.
pub(crate) fn sync(capability: &str, data_version: i32, data: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; data.len() + 128];
    let name = b"clusterer-extra";
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, 11, 3).unwrap();
    builder.push_str(capability.as_bytes()).unwrap();
    builder.push_int(data_version).unwrap();
    builder.push_chunk(data).unwrap();
    builder.push_trailer(Trailer::new(1, 2, 3)).unwrap();
    builder.seal().to_vec()
}

/// `packet` with its fields changed in one place, cut, or made longer.
pub(crate) fn damaged(packet: &Packet<'_>, dice: &mut Dice) -> Vec<u8> {
    let mut fields = packet.body().to_vec();
    if packet.generation() == Generation::Modern {
        fields.truncate(fields.len() - 12);
    }
    let at = dice.below(fields.len() + 1);
    match dice.below(4) {
        0 => fields.truncate(at),
        1 => fields.extend(dice.bytes(1)),
        _ if at < fields.len() => fields[at] = [0, 1, 2, 255][dice.below(4)],
        _ => fields.clear(),
    }
    let name = str::from_utf8(packet.name()).unwrap();
    let version = packet.version().unwrap_or(0);
    framed(
        name,
        packet.command(),
        packet.generation(),
        version,
        &fields,
    )
}

impl Dice {
    /// Splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    pub(crate) fn fields(&mut self, items: &[Item], generation: Generation, out: &mut Vec<u8>) {
        let mut last = 0;
        for (n, item) in items.iter().enumerate() {
            match *item {
                Item::Str(name) => {
                    let text = self.text(name);
                    put_str(&text, generation, out);
                }
                Item::Int(_) => {
                    // Which it has to be if a choice further on is made by it.
                    let mut until_next = items[n + 1..]
                        .iter()
                        .take_while(|item| !matches!(item, Item::Int(_)));
                    last = until_next
                        .find_map(|item| match item {
                            Item::Case(cases) => Some(cases[self.below(cases.len())].0),
                            _ => None,
                        })
                        .unwrap_or_else(|| self.int());
                    out.extend(last.to_le_bytes());
                }
                Item::Object(_, object) => {
                    let bytes = self.bytes(object.size());
                    put_str(&bytes, generation, out);
                }
                Item::Include(items) => self.fields(items, generation, out),
                Item::Counted { items, .. } => {
                    let count = self.below(4);
                    out.extend(u32::try_from(count).unwrap().to_le_bytes());
                    (0..count).for_each(|_| self.fields(items, generation, out));
                }
                Item::ToEnd(_, items) => {
                    (0..self.below(4)).for_each(|_| self.fields(items, generation, out));
                }
                Item::Case(cases) => {
                    let (_, items) = cases.iter().find(|(case, _)| *case == last).unwrap();
                    self.fields(items, generation, out);
                }
                Item::IfNonZero(_, items) => {
                    let number = [0, 1, 2, -1][self.below(4)];
                    out.extend(i32::to_le_bytes(number));
                    if number != 0 {
                        self.fields(items, generation, out);
                    }
                }
                Item::IfMore(items) => {
                    if self.below(2) == 0 {
                        self.fields(items, generation, out);
                    }
                }
                Item::IfNotEmpty(..) | Item::Chunks(_) | Item::Rest(_) => {
                    panic!("no record has {item:?}")
                }
            }
        }
    }

    fn int(&mut self) -> i32 {
        let any = self.bytes(4);
        match self.below(3) {
            0 => i32::from(any[0]),
            1 => 0,
            _ => i32::from_le_bytes(any.try_into().unwrap()),
        }
    }

    /// Any bytes, and for what holds lists rather one.
    fn text(&mut self, name: &str) -> Vec<u8> {
        let texts: &[&[u8]] = match name {
            "vars" => &[b"a#1#b|c#2#-3|", b"a#b\\#|c#|", b"a#1#b|broken"],
            "profiles" => &[b"in/b#1#x|plain#1#|", b"in/s#x|", b"|"],
            _ => &[b"sip:a@b", b"", b"x"],
        };
        match self.below(6) {
            n @ 0..3 => texts[n].to_vec(),
            _ => {
                let len = self.below(20);
                self.bytes(len)
            }
        }
    }
}

fn put_str(bytes: &[u8], generation: Generation, out: &mut Vec<u8>) {
    let len = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    out.extend_from_slice(&len[..generation.length_width()]);
    out.extend_from_slice(bytes);
}
